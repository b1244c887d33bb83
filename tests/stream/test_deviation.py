"""Deviations: which sensors open one, keep it open and are named, and what an anomaly explains."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from daemon.detector import REACH
from daemon.domain import SECOND_NS, AlarmPolicy, AlertEvent, AlertKind, InputPartition, StreamSpec
from daemon.maintenance import MaintenanceWindow
from daemon.stream.alerts import Episodes
from daemon.stream.deviation import Deviation, SustainedRow
from daemon.stream.incident import AssetEpisodes
from tests.fakes import CentreDetector
from tests.stream.evidence import NAN, SENSORS, scored_row
from tests.stream.pipelines import SPEC, make, numbered, steps, wide

WINDOW = 4
Shares = tuple[float, float, float]
"""Of the opening limits of Pressure, Current and Flow; the closing limits are half as high."""
CALM: Shares = (0.1, 0.1, 0.1)


class Asset:
    """One asset, row by row, at a threshold of 3."""

    def __init__(self, maintenance: tuple[int, int] | None = None, refractory: int = 0) -> None:
        spec = StreamSpec("pumps", SENSORS, window=WINDOW)
        spans = [MaintenanceWindow("w", *maintenance)] if maintenance else []
        self.episodes = Episodes(spec, InputPartition("t", 0), AlarmPolicy(refractory=refractory), spans)
        self.events: list[AlertEvent] = []
        self.open: list[int] = []

    def row(self, row: int, shares: Shares, score: float = 0.0, error: Shares = CALM) -> Asset:
        made = scored_row(row, score, list(error))
        if not self.episodes.cannot_change("p", score, 2.7):
            self.events += self.episodes.scored("p", made, 3.0, 2.7, "m", "full")[1]
        opening = np.array(shares)
        last = np.array(getattr(self, "_closing", np.zeros(3)))
        self._closing = closing = np.where(
            np.isnan(opening), last, 2.0 * opening
        )  # a missing value changes nothing
        if (closing > 1.0).any() or self.episodes.deviates("p"):
            observed = np.where(np.isnan(opening), np.nan, row + np.arange(3.0))
            given = SustainedRow(row, opening, closing, observed, np.full(3, 5.0))
            is_open, events, _ = self.episodes.sustained("p", given, lambda: made, "m", "provisional")
            self.events += events
            self.open += [row] if is_open else []
        return self

    @property
    def said(self) -> list[tuple[int, str, str, list[str]]]:
        return [
            (e.row_ns // SECOND_NS, str(e.kind), str(e.phase), [c.sensor for c in e.contributors])
            for e in self.events
            if e.kind is AlertKind.DEVIATION
        ]


def test_it_opens_beyond_the_opening_limit_and_closes_when_no_sensor_is_beyond_its_closing_limit() -> None:
    asset = Asset()
    for row, share in enumerate([0.4, 0.6, 1.0, 1.1, 0.9, 0.6, 0.5, 0.6, 1.1], start=1):
        asset.row(row, (0.1, share, 0.1))
    assert asset.said == [
        (4, "deviation", "opened", ["Current"]),
        (7, "deviation", "closed", ["Current"]),
        (9, "deviation", "opened", ["Current"]),
    ]
    assert asset.open == [4, 5, 6, 9]
    opened = asset.events[0]
    assert opened.onset_ns == 2 * SECOND_NS  # beyond the closing limit since then
    assert (opened.severity, opened.calibration, opened.sensor) == ("warning", "provisional", None)
    assert (opened.scores["sustained"].value, opened.scores["sustained"].threshold) == (1.1, 1.0)
    (current,) = opened.contributors
    assert (current.observed, current.expected, current.share) == (4.0, 5.0, 1.0)  # of rows 2, 3 and 4
    said = "p: Current 1 below what the other sensors imply, since 1970-01-01T00:00:02Z, for 2 s"
    assert opened.summary == said
    assert asset.events[1].summary.endswith("(over)")
    assert asset.events[0].fingerprint == asset.events[1].fingerprint != asset.events[2].fingerprint


def test_a_calm_asset_has_no_state() -> None:
    asset = Asset().row(1, (0.6, 0.1, 0.1)).row(2, CALM)
    assert asset.episodes.assets == {}


def test_a_sensor_that_joins_is_an_update_and_the_one_farthest_beyond_comes_first() -> None:
    asset = Asset().row(1, (1.2, 0.7, 0.1)).row(2, (1.1, 0.8, 0.1)).row(3, (0.9, 2.4, 0.1)).row(4, CALM)
    assert asset.said == [
        (1, "deviation", "opened", ["Pressure"]),
        (3, "deviation", "updated", ["Current", "Pressure"]),
        (4, "deviation", "closed", ["Current", "Pressure"]),  # as far as they went
    ]
    shares = [c.share for c in asset.events[-1].contributors]
    assert shares == pytest.approx([2 / 3, 1 / 3])


def test_it_stays_open_while_a_sensor_that_joined_is_beyond() -> None:
    asset = (
        Asset()
        .row(1, (1.2, 0.7, 0.6))
        .row(2, (0.1, 1.1, 0.6))
        .row(3, (0.1, 0.7, 0.6))
        .row(4, (0.1, 0.1, 0.6))
    )
    assert [said[:3] for said in asset.said] == [
        (1, "deviation", "opened"),
        (2, "deviation", "updated"),
        (4, "deviation", "closed"),  # Flow never opened one
    ]


def test_it_goes_on_if_a_sensor_is_beyond_again_within_the_refractory_time() -> None:
    asset = Asset(refractory=3)
    for row, share in enumerate([1.2, 0.1, 0.1, 0.6, 0.1, 0.1, 0.1, 1.2], start=1):
        asset.row(row, (share, 0.1, 0.1))
    assert [said[:3] for said in asset.said] == [
        (1, "deviation", "opened"),
        (5, "deviation", "updated"),
        (7, "deviation", "closed"),
        (8, "deviation", "opened"),
    ]
    assert asset.open == [1, 2, 3, 4, 5, 6, 8]


def test_a_long_one_is_updated_after_1_2_and_4_windows() -> None:
    asset = Asset()
    for row in range(1, 30):
        asset.row(row, (1.5, 0.1, 0.1))
    assert [row for row, _, phase, _ in asset.said if phase == "updated"] == [5, 9, 17]


def test_a_missing_sensor_opens_nothing_and_closes_nothing() -> None:
    asset = Asset().row(1, (0.9, 0.1, 0.1)).row(2, (NAN, 0.1, 0.1)).row(3, (1.2, 0.1, 0.1))
    asset.row(4, (NAN, 0.1, 0.1)).row(5, CALM)
    assert [said[:3] for said in asset.said] == [(3, "deviation", "opened"), (5, "deviation", "closed")]
    (closing,) = asset.events[-1].contributors
    assert closing.observed == 2.0  # of rows 1 and 3


ANOMALY: Shares = (50.0, 0.1, 0.1)
"""Errors of a row for which Pressure is to blame."""


def test_while_an_anomaly_fires_its_sensors_do_not_deviate_besides_and_others_join_it() -> None:
    asset = Asset().row(1, (1.5, 0.1, 0.1), 9.0, ANOMALY).row(2, (2.0, 0.1, 1.2), 9.0, ANOMALY)
    assert [
        (e.row_ns // SECOND_NS, str(e.phase), [*map(str, e.kinds)], [*e.sensors]) for e in asset.events
    ] == [
        (1, "opened", ["anomaly"], ["Pressure"]),
        (2, "updated", ["anomaly", "deviation"], ["Flow", "Pressure"]),
    ]


def test_what_an_anomaly_leaves_in_the_means_is_no_deviation_but_what_outlasts_them_is() -> None:
    asset = Asset().row(1, (1.5, 0.1, 0.1), 9.0, ANOMALY)
    for row in range(2, 40):
        asset.row(row, (1.5, 0.1, 0.1))
    assert asset.said[0] == (1 + REACH * WINDOW, "deviation", "opened", ["Pressure"])
    asset = Asset().row(1, (1.5, 0.1, 0.1), 9.0, ANOMALY).row(2, CALM).row(3, (1.5, 0.1, 0.1))
    assert asset.said == [(3, "deviation", "opened", ["Pressure"])]  # it was back in between


def test_maintenance_freezes_it() -> None:
    asset = Asset((2 * SECOND_NS, 4 * SECOND_NS))
    for row, share in [(1, 1.5), (2, 0.1), (3, 0.1), (4, 0.1)]:
        asset.row(row, (share, 0.1, 0.1))
    assert [said[:3] for said in asset.said] == [(1, "deviation", "opened"), (4, "deviation", "closed")]
    assert asset.open == [1, 2, 3]


@pytest.mark.parametrize("lasts", [False, True])
def test_what_a_planned_stop_leaves_in_the_means_opens_nothing_and_what_is_still_wrong_does(
    lasts: bool,
) -> None:
    asset, end = Asset((2 * SECOND_NS, 30 * SECOND_NS)), 30
    faded = end + 2 * REACH * WINDOW - 1
    for row in range(1, faded + 20):
        share = 0.1 if row < 2 else 1.5
        if row >= end and not lasts:
            share = 0.1 + 1.4 * math.exp(-2.0 * (row - end) / (REACH * WINDOW))
        asset.row(row, (share, 0.1, 0.1))
    assert asset.said[:1] == ([(faded, "deviation", "opened", ["Pressure"])] if lasts else [])


def test_a_successor_goes_on_where_it_was() -> None:
    rows = [(0.7, 0.1, 0.1), (1.2, 0.6, 0.1), (0.8, 1.4, 0.1), (0.8, NAN, 0.1), CALM]
    undisturbed, restarted = Asset(), Asset()
    for row, shares in enumerate(rows, start=1):
        undisturbed.row(row, shares)
        restarted.row(row, shares)
        state = restarted.episodes.snapshot("p")
        if state is not None:
            restarted.episodes.assets["p"] = AssetEpisodes.restored(state)
    assert [repr(e) for e in restarted.events] == [repr(e) for e in undisturbed.events]
    assert len(restarted.events) == 3


def test_a_pipeline_says_at_which_rows_one_is_open_and_a_model_without_limits_closes_it() -> None:
    detector = CentreDetector(SPEC.sensors, pace=0.5, threshold=100.0)
    readings = [wide(s, 3.0 if 10 <= s < 20 else 0.0, 0.0) for s in range(30) if s not in (14, 15)]
    pipeline = make(detector=detector)
    found = steps(pipeline, numbered(readings[:16]))
    pipeline.use(CentreDetector(SPEC.sensors, version="centre-2", threshold=100.0))
    found += steps(pipeline, numbered(readings[16:], first=16), ended=True)
    blocks = [step.block for step in found if step.block is not None]
    open_at = [
        row
        for block in blocks
        if block.deviating is not None
        for row, is_open in zip(block.rows.tolist(), block.deviating.tolist(), strict=True)
        if is_open
    ]
    events = [o for step in found for o in step.outputs if isinstance(o, AlertEvent)]
    said = [(e.row_ns // SECOND_NS, str(e.phase)) for e in events if e.kind is AlertKind.DEVIATION]
    assert [phase for _, phase in said] == ["opened", "closed"]
    assert open_at == list(range(said[0][0], said[1][0]))  # the rows without a value, too


def test_what_is_off_to_both_sides_is_steady_from_now_on_at_best() -> None:
    known = replace(
        Deviation.none(3),
        observed=np.full(3, 10.0),
        apart=np.array([12.0, 30.0, 12.0]),
        steady=np.array([5.0, 5.0, 7.0]),
    )
    row = SustainedRow(50, np.full(3, 1.5), np.array([3.0, 3.0, 2.0]), np.zeros(3), np.zeros(3))
    assert known.steady_since(row, [0]) == 5
    assert known.steady_since(row, [0, 1]) == 50
    assert known.steady_since(row, [0, 2]) == 7
    assert known.steady_since(replace(row, closing=np.array([9.0, 3.0, 2.0])), [0, 1, 2]) == 5  # it leads
    assert known.steady_since(replace(row, closing=np.full(3, 0.9)), [0, 1, 2]) is None


@pytest.mark.parametrize("size", [3, 60])
def test_where_a_deviation_is_open_does_not_depend_on_polls_where_not_every_row_is_scored(size: int) -> None:
    spec = replace(SPEC, hop=2)
    detector = CentreDetector(SPEC.sensors, pace=0.3, threshold=100.0)
    readings = [wide(s, 4.0 if 20 <= s < 32 else 0.0, 0.1 * (s % 3)) for s in range(60)]

    def open_at(size: int) -> list[int]:
        pipeline, items = make(spec, detector, AlarmPolicy(refractory=12)), numbered(readings)
        blocks = [step.block for at in range(0, 60, size) for step in steps(pipeline, items[at : at + size])]
        return [
            row
            for block in blocks
            if block is not None and block.deviating is not None
            for row, is_open in zip(block.rows.tolist(), block.deviating.tolist(), strict=True)
            if is_open
        ]

    rows = open_at(1)
    assert rows == open_at(size)
    assert rows == list(range(rows[0], rows[-1] + 1))
    assert len(rows) > 20
