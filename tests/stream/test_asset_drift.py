"""An asset that drifts is named, alone; where most drift, it is the stream."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.asset_drift import AssetDriftReference, ages
from daemon.domain import EPOCH, SECOND_NS, AlertKind, Contributor, DriftRecord, Output, Phase, Reading
from daemon.maintenance import MaintenanceWindow
from daemon.stream.alerts import Episodes
from daemon.stream.asset_drift import MOST_NAMED, AssetDrifts
from daemon.stream.assets import AssetTable
from daemon.stream.course_state import AcceptedLevel, AcceptedState
from daemon.stream.encoding import encode
from daemon.stream.incident import ASSET_DRIFT, EpisodeStart
from daemon.stream.summands import Summands
from tests.fakes import CentreDetector
from tests.naive import AssetIntervals
from tests.stream.pipelines import (
    CENTRE,
    MINUTE_NS,
    POLICY,
    PUMPS_0,
    SPEC,
    feed,
    feed_all,
    make,
    numbered,
    of_kind,
    plain,
    snapshots,
    take_over,
    told,
    wide,
)

ASSETS = ("p1", "p2", "p3", "p4")
C = len(SPEC.sensors)


def reference(memory: float = 0.0, threshold: float = 1.0, own: tuple[str, ...] = ()) -> AssetDriftReference:
    """Of ``CENTRE``: a mean of eight numbers, two residuals and the readings; the same for all assets."""
    rows = len(own) + 1
    variance = np.tile([1 / 8] + [1.0] * 2 * C, (rows, 1))
    return AssetDriftReference(
        own, np.zeros((rows, 1 + 2 * C)), variance, np.full((len(ages(memory)), rows, 2), threshold), memory
    )


DETECTOR = replace(CENTRE, drift_threshold=2.0, threshold=99.0, asset_drift=reference())


def rows(moved: dict[str, tuple[int, int, float, float]], until: int = 600, seed: int = 0) -> list[Reading]:
    """A fleet's readings, a second apart; of some assets, from a row to another, both sensors are off by so much."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(until):
        for asset in ASSETS:
            first, stop, a, b = moved.get(asset, (0, 0, 0.0, 0.0))
            off = np.array([a, b]) if first <= i < stop else 0.0
            made.append(wide(i, *(rng.normal(0.0, 1.0, 2) + off), asset=asset))
    return numbered(made)


def records(outputs: list[Output]) -> list[DriftRecord]:
    return [one for one in outputs if isinstance(one, DriftRecord)]


# ------------------------------------------------------------------ sums
def monitor(interval_ns: int, memory: float) -> tuple[AssetDrifts, AssetTable]:
    assets = AssetTable(100)
    made = AssetDrifts(SPEC, interval_ns, assets, Episodes(SPEC, PUMPS_0, POLICY))
    made.use(replace(CENTRE, asset_drift=reference(memory, threshold=0.0)))
    for name in ASSETS:
        assets.add(name)
    return made, assets


def some_windows(count: int, seed: int) -> tuple[list[int], Summands]:
    """Of four assets, each in its order, with gaps, missing cells and explained windows."""
    rng = np.random.default_rng(seed)
    who = rng.integers(0, len(ASSETS), count)
    at = [0] * len(ASSETS)
    times = np.zeros(count, np.int64)
    for i, asset in enumerate(who.tolist()):
        at[asset] += 1 if rng.random() < 0.95 else int(rng.integers(1, 150))
        times[i] = at[asset] * SECOND_NS
    residual = np.where(rng.random((count, C)) < 0.1, np.nan, rng.normal(0, 1, (count, C)))
    posterior, readings = rng.normal(1, 1, (count, 1)), rng.normal(0, 1, (count, C))
    return who.tolist(), Summands(
        np.arange(count),
        np.zeros(count, np.int64),
        times,
        posterior,
        residual,
        np.ones(count),
        readings,
        readings - residual,
        rng.random(count) < 0.1,
        np.zeros(count, bool),
    )


@given(st.integers(1, 900), st.sets(st.integers(0, 900)), st.sampled_from([0.0, 0.5]))
def test_what_an_interval_adds_up_to_is_that_of_its_windows_one_by_one(
    count: int, cuts: set[int], memory: float
) -> None:
    who, summands = some_windows(count, count)
    interval_ns = 40 * SECOND_NS
    made, assets = monitor(interval_ns, memory)
    slots = np.array([assets.slots[ASSETS[i]] for i in who], np.int64)
    summands = replace(summands, slots=slots)
    edges = sorted({0, count, *(cut for cut in cuts if cut < count)})
    for begin, end in itertools.pairwise(edges):
        made.add(summands.part(begin, end))
    naive = [AssetIntervals(SECOND_NS, interval_ns, memory) for _ in ASSETS]
    for i, asset in enumerate(who):
        parts = (summands.posterior, summands.residual, summands.readings)
        numbers = [list(part[i]) for part in parts]
        naive[asset].add(int(summands.times[i]), numbers, bool(summands.explained[i]))
    found = {(one.asset, one.end_ns // interval_ns - 1): one for one in made.found}
    expected = {
        (ASSETS[i], number): (np.array(mean), np.array(spread))
        for i, one in enumerate(naive)
        for number, mean, spread in one.ended
    }
    if len(expected) <= MOST_NAMED:
        assert found.keys() == expected.keys()
    usual = reference().variance[0]
    for key, one in found.items():
        mean, spread = expected[key]
        nats = 0.5 * (np.log(usual / np.maximum(spread, 1e-6)) + (spread + mean**2) / usual - 1.0)
        assert one.latent_kl == pytest.approx(nats[0], rel=1e-9, abs=1e-9)
        assert one.residual_kl == pytest.approx(nats[1 : 1 + C].sum(), rel=1e-9, abs=1e-9)


def test_a_small_spread_beside_a_level_is_not_lost() -> None:
    count, width = 20_000, 0.003
    rng = np.random.default_rng(0)
    about = reference(threshold=1e-3)
    about.mean[0, 0], about.variance[0, 0] = 3.1, width**2
    assets = AssetTable(100)
    made = AssetDrifts(SPEC, count * SECOND_NS, assets, Episodes(SPEC, PUMPS_0, POLICY))
    made.use(replace(CENTRE, asset_drift=about))
    slot, none = assets.add("p1"), np.zeros(count, bool)
    posterior = rng.normal(3.1, width, (count, 1))
    cells = rng.normal(0.0, 1.0, (count, C))
    places = np.arange(count)
    made.add(
        Summands(
            places,
            np.full(count, slot),
            places * SECOND_NS,
            posterior,
            cells,
            np.ones(count),
            cells,
            cells,
            none,
            none,
        )
    )
    found = made.at_end_of(0)
    assert (found.judged, found.assets) == (1, ())


@given(st.integers(1, 900), st.sets(st.integers(0, 900)))
def test_the_last_bit_does_not_tell_how_rows_came_in_batches(count: int, cuts: set[int]) -> None:
    who, summands = some_windows(count, count)
    states = []
    for edges in ([0, count], sorted({0, count, *(cut for cut in cuts if cut < count)})):
        made, assets = monitor(40 * SECOND_NS, 0.5)
        slots = np.array([assets.slots[ASSETS[i]] for i in who], np.int64)
        for begin, end in itertools.pairwise(edges):
            made.add(replace(summands, slots=slots).part(begin, end))
        states.append((made.snapshot_partition(), [made.snapshot(assets.slots[name]) for name in ASSETS]))
    assert states[0] == states[1]


# ------------------------------------------------------------------ alerts
def test_one_asset_that_drifts_is_named_and_no_other_and_not_the_stream() -> None:
    outputs = feed_all(make(detector=DETECTOR), rows({"p3": (60, 420, 0.0, 2.5)}))
    assert told(outputs, AlertKind.DRIFT) == [(239, "opened", "p3"), (479, "closed", "p3")]
    opened = of_kind(outputs, AlertKind.DRIFT)[0]
    assert opened.onset_ns == 60 * SECOND_NS
    assert opened.contributors[0].sensor == "b"
    assert opened.summary.startswith(
        "the readings of p3 have drifted from what the model learned of it, since"
    )
    assert opened.drift is not None
    assert opened.drift.residual_kl > opened.drift.residual_threshold
    found = records(outputs)
    named = [
        (one.start_ns // MINUTE_NS, one.fleet.drifting, [a.asset for a in one.fleet.assets]) for one in found
    ]
    assert named == [(i, *((1, ["p3"]) if 1 <= i < 7 else (0, []))) for i in range(10)]
    assert [one.fleet.judged for one in found] == [4] * 10
    assert all(one.verdict == "ok" for one in found[2:])
    assert [one.explained for one in found[2:8]] == [60] * 6  # its windows count for it alone


def test_the_only_asset_is_a_fleet_of_its_own_whose_windows_stay_in_the_records() -> None:
    readings = numbered([one for one in rows({"p3": (60, 600, 0.0, 2.5)}) if one.asset == "p3"])
    outputs = feed_all(make(detector=replace(DETECTOR, drift_threshold=0.5)), readings)
    assert told(outputs, AlertKind.DRIFT) == [(239, "opened", "p3")]
    assert [(one.windows, one.explained) for one in records(outputs)[1:]] == [(60, 0)] * 9
    first = make(detector=DETECTOR)
    feed(first, readings[:400])
    second = make(detector=replace(DETECTOR, version="centre-2"), publish_from=400)
    assert first.replay_from() <= 400
    assert (gone := list(first.saving()))
    assert take_over(second, gone)
    (left,) = records(second.predecessor_outputs())
    assert (left.explained, left.fleet.moves) == (0, True)
    assert left.windows > 30


def test_where_most_assets_drift_it_is_the_stream() -> None:
    moved = dict.fromkeys(ASSETS[:3], (60, 420, 0.0, 2.5))
    outputs = feed_all(make(detector=DETECTOR), rows(moved))
    assert told(outputs, AlertKind.DRIFT) == [(240, "opened", "pumps"), (480, "closed", "pumps")]
    found = records(outputs)
    assert [one.verdict for one in found] == ["ok"] + ["drift"] * 6 + ["ok"] * 3
    assert [one.fleet.drifting for one in found] == [0, *[3] * 6, 0, 0, 0]
    assert [one.explained for one in found[:7]] == [0] * 7
    less = replace(DETECTOR, drift_threshold=50.0)  # of all together it is not much
    outputs = feed_all(make(detector=less), rows(moved))
    assert told(outputs, AlertKind.DRIFT) == [(240, "opened", "pumps"), (480, "closed", "pumps")]
    assert of_kind(outputs, AlertKind.DRIFT)[0].contributors[0].sensor == "b"


def test_an_asset_of_training_is_compared_with_itself() -> None:
    """It has been apart from the others all the time."""
    known = replace(reference(own=("p2",)))
    known.mean[0] = [2.5 / 2, 0.0, 2.5, 0.0, 2.5]
    outputs = feed_all(
        make(detector=replace(DETECTOR, asset_drift=known)),
        rows({"p2": (0, 600, 0.0, 2.5), "p4": (0, 600, 0.0, 2.5)}),
    )
    assert {one.asset for one in of_kind(outputs, AlertKind.DRIFT)} == {"p4"}


def test_what_another_episode_explains_is_no_drift_of_its_asset() -> None:
    detector = replace(DETECTOR, threshold=2.0)
    outputs = feed_all(make(detector=detector), rows({"p3": (60, 420, 0.0, 6.0)}))
    assert of_kind(outputs, AlertKind.ANOMALY)
    assert of_kind(outputs, AlertKind.DRIFT) == []


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_a_planned_stop_is_no_drift_nor_are_the_windows_that_reach_into_it(memory: float) -> None:
    stop = MaintenanceWindow("overhaul", MINUTE_NS, 7 * MINUTE_NS, frozenset({"p3"}))
    detector = replace(DETECTOR, threshold=50.0, asset_drift=reference(memory))
    pipeline = make(detector=detector, maintenance=[stop])
    outputs = feed_all(pipeline, rows({"p3": (60, 420, 0.0, 9.0)}, until=900))
    assert of_kind(outputs, AlertKind.DRIFT) == []
    assert [one.explained for one in records(outputs)] == [0, *[60] * 6, SPEC.window - 1, *[0] * 7]
    assert not any(one.fleet.drifting for one in records(outputs))


def test_what_was_accepted_of_an_asset_makes_no_drift_of_its_own() -> None:
    readings = rows({"p3": (60, 420, 0.0, 2.5)})
    for accepted, alerts in (
        (100, []),
        (None, [(239, "opened"), (479, "closed")]),
        (300, [(239, "opened"), (359, "closed")]),
    ):
        pipeline = make(detector=DETECTOR)
        at = len(ASSETS) * (accepted or 0)
        outputs = feed(pipeline, readings[:at])
        if accepted is not None:
            level = AcceptedLevel("b", 1, 2.5, 2.5, True, 2.5)
            pipeline.episodes.acceptances.restore("p3", [AcceptedState("f", accepted, [level])])
        outputs += feed(pipeline, readings[at:]) + feed(pipeline, [], ended=True)
        drifts = of_kind(outputs, AlertKind.DRIFT)
        assert [(one.row_ns // SECOND_NS, str(one.phase)) for one in drifts] == alerts


# ------------------------------------------------------------------ a successor
@pytest.mark.parametrize("cut", range(90, 2_300, 170))
def test_a_successor_continues_the_drift_of_each_asset(cut: int) -> None:
    readings = rows({"p3": (60, 420, 0.0, 2.5)})
    detector = replace(DETECTOR, asset_drift=reference(memory=0.25))
    expected = plain(feed_all(make(detector=detector), readings))
    first = make(detector=detector)
    outputs = feed(first, readings[: cut // 2])
    saved = snapshots(first)  # an older commit
    outputs += feed(first, readings[cut // 2 : cut])
    saved += snapshots(first)
    second = make(detector=detector, publish_from=cut)
    assert take_over(second, saved)
    again = second.replay_from()
    outputs += feed(second, readings[again:])
    assert plain([*outputs, *feed(second, [], ended=True)]) == expected


NEXT = replace(DETECTOR, version="centre-2")


@pytest.mark.parametrize("next_model", [NEXT, None])
def test_a_drift_closes_with_the_model_that_it_was_measured_by(next_model: CentreDetector | None) -> None:
    readings = rows({"p3": (60, 320, 0.0, 2.5)})
    pipeline = make(detector=DETECTOR)
    outputs = feed(pipeline, readings[:1200])
    pipeline.use_when_committable(next_model)
    outputs += feed(pipeline, readings[1200:]) + feed(pipeline, [], ended=True)
    found = of_kind(outputs, AlertKind.DRIFT)
    assert [(one.asset, one.phase, one.model_changed) for one in found] == [
        ("p3", Phase.OPENED, False),
        ("p3", Phase.CLOSED, True),
    ]
    assert found[1].row_ns == (1200 // len(ASSETS) - 1) * SECOND_NS  # its newest row
    assert found[1].summary.endswith("; the model has changed, and its drift is measured anew")
    assert json.loads(encode(found[1], EPOCH).value)["data"]["model_changed"] is True


def test_a_successor_with_another_model_closes_the_drifts_of_the_one_before() -> None:
    readings = rows({"p3": (60, 320, 0.0, 2.5)})
    first = make(detector=DETECTOR)
    feed(first, readings[:1000])
    saved = snapshots(first)
    feed(first, readings[1000:1200])
    saved += snapshots(first)
    second = make(detector=NEXT, publish_from=1200)
    assert take_over(second, saved)
    outputs = feed(second, readings[second.replay_from() :])
    outputs += feed(second, [], ended=True)
    found = of_kind(outputs, AlertKind.DRIFT)
    assert [(one.asset, one.phase, one.model_changed) for one in found] == [("p3", Phase.CLOSED, True)]
    third = make(detector=NEXT, publish_from=1200)
    assert take_over(third, saved)
    feed(third, readings[third.replay_from() : 1200])
    last = snapshots(third)  # it says so once
    fourth = make(detector=NEXT, publish_from=1200)
    assert take_over(fourth, [*saved, *last])
    assert of_kind(feed(fourth, readings[fourth.replay_from() :]), AlertKind.DRIFT) == []


# ------------------------------------------------------------------ what it joins
@pytest.mark.parametrize(("sensor", "phase"), [("b", Phase.UPDATED), ("a", Phase.OPENED)])
def test_the_drift_of_an_asset_joins_the_slow_trend_of_a_sensor_that_carries_it(
    sensor: str, phase: Phase
) -> None:
    episodes = Episodes(SPEC, PUMPS_0, POLICY)
    slow = EpisodeStart(AlertKind.DEVIATION, 10, sensor, per_day=0.5)
    (first,) = episodes.open_unscored("p1", slow, 100, "m")
    moved = EpisodeStart(AlertKind.DRIFT, 20, contributors=[Contributor("b", 1.0, 0.0, 1.0)], of_asset=True)
    (event,) = episodes.open_unscored("p1", moved, 120, "m")
    assert event.phase is phase
    assert (event.fingerprint == first.fingerprint) is (phase is Phase.UPDATED)
    assert episodes.open_unscored("p1", moved, 130, "m") == []
    assert [one.phase for one in episodes.close_unscored("p1", ASSET_DRIFT, 140, "m")] == [
        Phase.UPDATED if phase is Phase.UPDATED else Phase.CLOSED
    ]


def test_an_asset_with_the_name_of_the_stream_has_a_drift_of_its_own() -> None:
    episodes = Episodes(SPEC, PUMPS_0, POLICY)
    alone = EpisodeStart(AlertKind.DRIFT, 20, of_asset=True)
    (mine,) = episodes.open_unscored("pumps", alone, 120, "m")
    (stream,) = episodes.open_unscored("pumps", EpisodeStart(AlertKind.DRIFT, 20), 120, "m")
    assert mine.fingerprint != stream.fingerprint
    kept, of_stream = episodes.snapshot("pumps"), episodes.snapshot_drift()
    assert kept is not None
    assert of_stream is not None
    assert [one.fingerprint for one in kept.open] == [mine.fingerprint]
    assert of_stream.fingerprint == stream.fingerprint
    assert [one.fingerprint for one in episodes.dismiss("pumps", 150, "m")] == [mine.fingerprint]
    assert episodes.has("pumps", AlertKind.DRIFT)
