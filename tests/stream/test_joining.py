"""What opens late and has the cause of an alert that is open joins it; all else is an alert of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    Floats,
    InputPartition,
    Mask,
    Phase,
    StreamSpec,
)
from daemon.stream.alerts import Episodes
from daemon.stream.attribution import AS_FAR
from daemon.stream.deviation import SustainedRow
from daemon.stream.incident import TOGETHER, AssetEpisodes, EpisodeStart
from tests.stream.evidence import NAN, SENSORS, scored_row

WINDOW = 4
LATE = TOGETHER * WINDOW + 10
"""A row that is too late for what one cause shows at once."""
Off = tuple[float, float, float]
"""Shares of the limits of Pressure, Current and Flow."""
NONE: Off = (0.1, 0.1, 0.1)
PRESSURE: Off = (1.5, 0.1, 0.1)
BOTH: Off = (1.5, 0.1, 1.5)
LITTLE = 0.9 * AS_FAR


class Related:
    """One asset, of whose sensors some are off only because the model reads others.

    ``left`` is what is left of a sensor (by its number) without a set of others; of all else everything.
    """

    def __init__(self, left: dict[tuple[int, frozenset[str]], float] | None) -> None:
        self.episodes = Episodes(
            StreamSpec("pumps", SENSORS, window=WINDOW), InputPartition("t", 0), AlarmPolicy()
        )
        self.left = left
        self.events: list[AlertEvent] = []

    def without(self, sensors: Mask) -> Floats | None:
        if self.left is None:
            return None
        out = frozenset(name for name, gone in zip(SENSORS, sensors, strict=True) if gone)
        return np.array([NAN if gone else self.left.get((c, out), 1.0) for c, gone in enumerate(sensors)])

    def row(self, row: int, shares: Off, score: float = 0.0, error: Off = NONE) -> Related:
        made = replace(scored_row(row, score, list(error)), left_without=self.without)
        opening = np.array(shares)
        given = SustainedRow(row, opening, 2.0 * opening, opening, np.zeros(3), self.without)
        events: list[AlertEvent] = []
        if not self.episodes.cannot_change("p", score, 2.7):
            events += self.episodes.scored("p", made, 3.0, 2.7, "m", "full")[1]
        if (given.closing > 1.0).any() or self.episodes.deviates("p"):
            events += self.episodes.sustained("p", given, lambda: made, "m", "full")[1]
        self.events += events
        state = self.episodes.snapshot("p")
        if state is not None:
            self.episodes.assets["p"] = AssetEpisodes.restored(state)
        return self

    def rows(self, first: int, end: int, shares: Off) -> Related:
        for row in range(first, end):
            self.row(row, shares)
        return self

    @property
    def opened(self) -> list[tuple[str, list[str]]]:
        """Kind and sensors of what opened."""
        return [(str(one.kind), list(one.sensors)) for one in self.events if one.phase is Phase.OPENED]


FLOW_BY_PRESSURE = {(2, frozenset({"Pressure"})): LITTLE}
PRESSURE_BY_FLOW = {(0, frozenset({"Flow"})): LITTLE}


@pytest.mark.parametrize("left", [FLOW_BY_PRESSURE, PRESSURE_BY_FLOW], ids=["echo", "cause"])
def test_what_an_open_alert_explains_or_is_explained_by_joins_it_however_late(
    left: dict[tuple[int, frozenset[str]], float],
) -> None:
    asset = Related(left).rows(1, LATE, PRESSURE).rows(LATE, LATE + 3, BOTH)
    assert asset.opened == [("deviation", ["Pressure"])]
    joined = next(one for one in asset.events if "Flow" in one.sensors)
    assert (joined.phase, joined.row_ns // SECOND_NS) == (Phase.UPDATED, LATE)
    assert [(part.sensor, part.onset_ns // SECOND_NS) for part in joined.parts] == [
        ("Pressure", 1),
        ("Flow", LATE),
    ]
    asset.rows(LATE + 3, LATE + 8, (0.1, 0.1, 1.5)).row(LATE + 8, NONE)
    (closed,) = [one for one in asset.events if one.phase is Phase.CLOSED]
    assert closed.row_ns // SECOND_NS == LATE + 8


@pytest.mark.parametrize(
    "left", [None, {}, {(2, frozenset({"Pressure"})): AS_FAR}, {(2, frozenset({"Current"})): 0.0}]
)
def test_what_is_as_far_off_without_the_sensors_of_an_open_alert_is_another_one(
    left: dict[tuple[int, frozenset[str]], float] | None,
) -> None:
    asset = Related(left).rows(1, LATE, PRESSURE).rows(LATE, LATE + 3, BOTH)
    assert asset.opened == [("deviation", ["Pressure"]), ("deviation", ["Flow"])]


def test_a_stuck_sensor_explains_others_and_is_explained_by_none() -> None:
    for left, opened in ((PRESSURE_BY_FLOW, 1), (FLOW_BY_PRESSURE, 2)):
        asset = Related(left)
        start = EpisodeStart(AlertKind.SENSOR_STUCK, 0, "Flow")
        asset.events += asset.episodes.open_unscored("p", start, 1, "m")
        asset.rows(LATE, LATE + 3, PRESSURE)
        assert len(asset.opened) == opened


def test_an_anomaly_joins_only_if_all_that_lead_it_are_explained() -> None:
    error: Off = (0.1, 9.0, 9.0)
    both = FLOW_BY_PRESSURE | {(1, frozenset({"Pressure"})): LITTLE}
    for left, opened in ((both, 1), (FLOW_BY_PRESSURE, 2)):
        asset = Related(left).rows(1, LATE, PRESSURE).row(LATE, PRESSURE, 6.0, error)
        assert len(asset.opened) == opened
        (told,) = [one for one in asset.events if AlertKind.ANOMALY in one.began]
        assert {"Current", "Flow"} <= set(told.sensors)


def test_what_is_over_explains_nothing() -> None:
    asset = Related(FLOW_BY_PRESSURE).rows(1, 5, PRESSURE).row(5, NONE).rows(LATE, LATE + 3, (0.1, 0.1, 1.5))
    assert asset.opened == [("deviation", ["Pressure"]), ("deviation", ["Flow"])]
