"""Heights: what is far more than a sensor of an open alert ever showed, and what of that becomes of its alert."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain import SECOND_NS, AlertEvent, Severity
from daemon.stream.heights import OUTGROWS, QUARTERS, Heights
from daemon.stream.incident import AssetEpisodes
from tests.stream.test_deviation import CALM, Asset, Shares
from tests.stream.test_incident import REGIME, Long

WINDOW = 4
STANDING = QUARTERS * WINDOW // 2
"""Rows after which a height can stand."""


def followed(heights: list[float], window: int = WINDOW, first: int = 1) -> list[int]:
    """The rows at which a sensor of these heights, from row ``first`` on, would be something else."""
    known, found = Heights(), []
    for row, height in enumerate(heights, start=first):
        if known.outgrown(height, row, window):
            found.append(row)
        known.last(height, row, window)
    return found


@given(st.floats(1.01, 1e3), st.sampled_from([4, 5, 16, 60]), st.integers(0, 200))
def test_the_rise_of_sustained_evidence_after_one_step_is_one_thing(
    size: float, window: int, first: int
) -> None:
    rises = [size * (1.0 - math.exp(-row / (2.0 * window))) for row in range(1, 40 * window)]
    beyond = [height for height in rises if height > 1.0]
    assert followed(beyond, window, first) == []


def test_what_is_twice_as_high_at_once_is_something_else_once_it_has_lasted() -> None:
    for lasted in (STANDING - 1, STANDING + 1, 10 * STANDING):
        late = lasted > STANDING
        assert bool(followed([1.1] * lasted + [2.0 * 1.1 + 0.1])) is late
        assert followed([1.1] * lasted + [2.0 * 1.1]) == []


def test_what_grows_slowly_is_one_thing() -> None:
    assert followed([1.0 + row / STANDING for row in range(50 * STANDING)]) == []


def test_after_a_gap_what_was_before_stands() -> None:
    known = Heights()
    for row in range(WINDOW):
        known.last(1.5, row, WINDOW)
    assert not known.outgrown(9.0, WINDOW, WINDOW)
    assert known.outgrown(9.0, 1_000, WINDOW)
    assert not known.outgrown(2.9, 1_000, WINDOW)


class Restarted(Asset):
    """Continued by a successor after each row."""

    def row(self, row: int, shares: Shares, score: float = 0.0, error: Shares = CALM) -> Restarted:
        super().row(row, shares, score, error)
        state = self.episodes.snapshot("p")
        if state is not None:
            self.episodes.assets["p"] = AssetEpisodes.restored(state)
        return self


def said(asset: Asset) -> list[tuple[int, str, list[str], list[str]]]:
    """Row, phase, kinds and sensors of openings and ends."""
    return [
        (e.row_ns // SECOND_NS, str(e.phase), [*map(str, e.kinds)], [*e.sensors])
        for e in asset.events
        if str(e.phase) != "updated"
    ]


MILD: Shares = (0.1, 0.1, 1.1)
GROSS: Shares = (0.1, 0.1, 9.0)


@pytest.mark.parametrize("kind", [Asset, Restarted])
def test_a_deviation_that_is_suddenly_far_more_is_an_alert_of_its_own(kind: type[Asset]) -> None:
    asset = kind()
    for row in range(1, 60):
        asset.row(row, MILD if row < 40 else GROSS)
    for row in range(60, 70):
        asset.row(row, CALM)
    assert said(asset) == [
        (1, "opened", ["deviation"], ["Flow"]),
        (40, "closed", ["deviation"], ["Flow"]),
        (40, "opened", ["deviation"], ["Flow"]),
        (60, "closed", ["deviation"], ["Flow"]),
    ]
    mild, over, gross, _ = [e for e in asset.events if str(e.phase) != "updated"]
    assert (mild.severity, over.severity, gross.severity) == ("warning", "warning", "critical")
    assert mild.fingerprint == over.fingerprint != gross.fingerprint == over.continued_by
    assert over.summary.endswith("another alert goes on, as it has become far more")
    assert over.contributors[0].observed == sum(range(1, 40)) / 39 + 2.0
    assert gross.onset_ns == 40 * SECOND_NS
    assert gross.contributors[0].observed == 42.0  # of row 40 alone
    assert asset.episodes.assets == {}


def test_a_deviation_that_grows_slowly_becomes_critical_in_its_own_alert() -> None:
    asset = Asset()
    for row in range(1, 60):
        asset.row(row, (0.1, 0.1, 1.0 + row / 20.0))
    assert said(asset) == [(1, "opened", ["deviation"], ["Flow"])]
    worse = [e for e in asset.events if e.severity is Severity.CRITICAL]
    assert worse[0].row_ns == 21 * SECOND_NS  # the first above twice the limit
    assert len({e.id for e in asset.events}) == len(asset.events)


@pytest.mark.parametrize("kind", [Asset, Restarted])
def test_an_anomaly_far_beyond_a_mild_deviation_takes_it_over_and_a_mild_one_joins_it(
    kind: type[Asset],
) -> None:
    def played(score: float) -> list[AlertEvent]:
        asset = kind(refractory=WINDOW)
        for row in range(1, 60):
            late = row >= 40
            asset.row(row, MILD, score if late else 0.0, (0.1, 0.1, 9.0) if late else CALM)
        asset.events = [e for e in asset.events if e.row_ns >= 40 * SECOND_NS]
        return asset.events

    mild, gross = played(4.0), played(30.0)
    assert [(str(e.phase), [*map(str, e.kinds)]) for e in mild[:1]] == [("updated", ["deviation", "anomaly"])]
    assert [(str(e.phase), [*map(str, e.kinds)]) for e in gross[:2]] == [
        ("closed", ["deviation"]),
        ("opened", ["anomaly", "deviation"]),
    ]
    assert gross[0].continued_by == gross[1].fingerprint


def test_other_sensors_of_the_alert_stay_in_it() -> None:
    asset = Asset()
    for row in range(1, 80):
        asset.row(row, (1.1, 0.1, 1.1 if row < 40 else 9.0))
    assert said(asset) == [
        (1, "opened", ["deviation"], ["Pressure", "Flow"]),
        (40, "opened", ["deviation"], ["Flow"]),
    ]
    first = [e for e in asset.events if e.fingerprint == asset.events[0].fingerprint][-1]
    assert [part.sensor for part in first.parts] == ["Pressure"]


def test_a_sensor_that_was_off_when_a_regime_began_is_no_part_of_it_for_ever() -> None:
    for rows, opened in ((2, 1), (2 * REGIME, 2)):  # before it is a regime, and later
        long = Long().off(*[10.0] * 3, flow=1.5).off(*[10.0] * rows).off(10.0, flow=1.5)
        assert [str(event.phase) for event in long.events].count("opened") == opened
        assert list(long.events[-1].sensors) == (["Flow"] if opened == 2 else ["Pressure", "Flow"])


@settings(max_examples=40)
@given(st.lists(st.sampled_from([0.1, 0.6, 1.1, 1.5, 2.5, 6.0, 20.0]), min_size=1, max_size=12))
def test_a_successor_says_the_same_and_no_sensor_is_in_two_alerts(levels: list[float]) -> None:
    whole, cut = Asset(refractory=2), Restarted(refractory=2)
    for row in range(1, 1 + STANDING * len(levels)):
        share = levels[(row - 1) // STANDING]
        shares: Shares = (0.1, share / 2.0, share)
        score, error = (share * 1.5, (0.1, 0.1, 9.0)) if share in (1.5, 20.0) else (0.0, CALM)
        for one in (whole, cut):
            one.row(row, shares, score, error)
        known = whole.episodes.assets.get("p")
        parts = [part for one in (known.incidents if known else ()) for part in one.parts]
        assert len(set(parts)) == len(parts)
    assert [repr(event) for event in cut.events] == [repr(event) for event in whole.events]
    assert len({event.id for event in whole.events}) == len(whole.events)
    opened = [e.fingerprint for e in whole.events if str(e.phase) == "opened"]
    assert len(set(opened)) == len(opened)
    assert all(e.ended_ns is None or e.onset_ns <= e.ended_ns <= e.row_ns for e in whole.events)


def test_the_factor_is_of_a_mean_that_has_risen_for_two_windows() -> None:
    assert OUTGROWS * (1.0 - math.exp(-1.0)) > 1.0


def test_what_begins_in_an_open_alert_is_told_once_and_what_moves_began_before() -> None:
    asset = Asset(refractory=WINDOW)
    for row in range(1, 60):
        score = 4.0 if 20 <= row < 24 else 30.0 if row >= 45 else 0.0
        asset.row(row, MILD, score, (0.1, 0.1, 9.0) if score else CALM)
    assert [(e.row_ns // SECOND_NS, str(e.phase), [*map(str, e.began)]) for e in asset.events if e.began] == [
        (1, "opened", ["deviation"]),
        (20, "updated", ["anomaly"]),
        (45, "opened", ["anomaly"]),
    ]
