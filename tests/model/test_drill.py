"""What a drill says of a fault is what the stream would have said, had it happened."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from daemon.detector import Detector
from daemon.domain import (
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    Assigned,
    Floats,
    InputPartition,
    Phase,
    PolledRecords,
    Reading,
    Segment,
    StreamSpec,
)
from daemon.model.bundle import Bundle
from daemon.model.drill import (
    LADDER,
    Found,
    Place,
    Rung,
    Tally,
    Trial,
    Verdict,
    alive,
    drill,
    judged,
    judging,
    ladder,
    places_in,
    standing,
    trial,
    wilson,
)
from daemon.model.faults import FaultKind, inject
from daemon.runtime.fire_drill import rules_of
from daemon.runtime.stream_run import StreamPlan, StreamRun
from tests.fakes import CentreDetector
from tests.model.conftest import SPEC, dropped, machine

PART = InputPartition("pumps", 0)
STREAM = replace(SPEC, topics=("pumps",), silent_after_ns=20 * SPEC.period_ns, max_gap_ns=20 * SPEC.period_ns)
KINDS = [
    (FaultKind.SPIKE, 0.75),
    (FaultKind.SHIFT, 0.5),
    (FaultKind.SHIFT, 3.0),
    (FaultKind.DRIFT, 1.0),
    (FaultKind.STUCK, 0.0),
    (FaultKind.NOISE, 0.75),
    (FaultKind.SWAP, 0.0),
    (FaultKind.LAG, 1.0),
    (FaultKind.DROP_OUT, 0.0),
]


def alerts(
    detector: Detector, spec: StreamSpec, policy: AlarmPolicy, asset: str, first: int, values: Floats
) -> list[AlertEvent]:
    """What a stream says of these rows, from its first one on."""
    run = StreamRun(StreamPlan(spec, policy=policy, retrain_every=None))
    run.detector = detector
    pipeline = run.open(Assigned(PART, 0, 0))
    readings = [Reading(i, asset, (first + i) * spec.period_ns, row) for i, row in enumerate(values.tolist())]
    steps = [
        *pipeline.feed(PolledRecords(PART, readings)),
        *pipeline.feed(PolledRecords(PART, (), ended=True)),
    ]
    return [
        o for step in steps for o in step.outputs if isinstance(o, AlertEvent) and o.phase is Phase.OPENED
    ]


def said(
    detector: Detector,
    spec: StreamSpec,
    policy: AlarmPolicy,
    history: Segment,
    place: Place,
    what: Trial,
    lasts: int,
) -> Verdict:
    """The verdict of a stream whose rows the fault is in, for so many rows."""
    start = place.row - history.first_row
    scaling = detector.scaling
    end = min(start + lasts, len(history.values))
    broken = history.values.copy()
    short = inject(
        what.kind,
        broken[: start + 2 * spec.window],
        start,
        start + 2 * spec.window,
        what.sensors,
        what.size,
        scaling.scale,
        np.random.default_rng(what.seed),
        scaling.mean,
    )
    if lasts > 2 * spec.window:  # one that lasts until the rules find it
        broken = inject(
            what.kind,
            broken,
            start,
            end,
            what.sensors,
            what.size,
            scaling.scale,
            np.random.default_rng(what.seed),
            scaling.mean,
        )
    else:
        broken[: start + 2 * spec.window] = short
    opened = alerts(detector, spec, policy, history.asset, history.first_row, broken[:end])
    mine = [
        (event.row_ns // spec.period_ns - place.row, event.kind)
        for event in opened
        if event.row_ns // spec.period_ns >= place.row
        and (event.kind is AlertKind.ANOMALY or event.sensor in [spec.sensors[c] for c in what.sensors])
    ]
    return Verdict(*min(mine)) if mine else Verdict(None, None)


@pytest.mark.parametrize(
    ("policy", "hop", "holed"),
    [
        (AlarmPolicy(), 1, False),
        (AlarmPolicy(2, 3, 0.8, 16), 1, True),
        (AlarmPolicy(refractory=5), 3, True),
    ],
)
def test_a_verdict_is_what_the_stream_says(
    bundle: Bundle, policy: AlarmPolicy, hop: int, holed: bool
) -> None:
    """All of it: a VAE, the slow baseline, persistence, the hop, gaps, and the rules without a score."""
    detector = bundle.detector()
    spec = replace(STREAM, hop=hop)
    rows = machine(700, 31)
    history = Segment("pump-1", 9_000, dropped(rows, 0.02) if holed else rows)
    rules = rules_of(detector, spec)
    places = places_in(detector, policy, [history], 6, hop)
    assert len(places) == 6
    able = alive(detector)
    assert able == [0, 1, 2]
    tried = [
        (place, trial(kind, c, rung, (5, i), able))
        for i, place in enumerate(places)
        for kind, rung in KINDS
        for c in (i % 3,)
    ]
    found = 0
    for (place, what), (_, verdict) in zip(tried, judged(detector, policy, rules, tried, hop), strict=True):
        lasts = 2 * spec.window
        if what.kind is FaultKind.STUCK:
            lasts = max(lasts, int(rules.stuck_rows[what.sensors[0]])) + 8
        elif what.kind is FaultKind.DROP_OUT:
            lasts = max(lasts, rules.silent_rows) + 8
        if place.row + lasts > 9_700:
            continue
        assert verdict == said(detector, spec, policy, history, place, what, lasts), (place.row, what)
        found += verdict is not None and verdict.found
    assert 20 <= found <= 50


def test_what_the_stream_remembers_counts() -> None:
    """A baseline that is not at rest, and rows above the threshold that were too few for an alarm yet."""
    detector = CentreDetector(("a", "b"), window=2, memory=0.1, still=4)
    spec = replace(STREAM, sensors=("a", "b"), window=2)
    policy = AlarmPolicy(3, 5, 0.9, 3)
    rng = np.random.default_rng(2)
    values = rng.normal(0.0, 0.6, (300, 2))
    values[::7] += 5.0  # two windows in seven are above the threshold: one less than it takes
    history = Segment("a", 50, values)
    places = places_in(detector, policy, [history], 40)
    assert len(places) == 40
    assert len({place.alarm[1] for place in places}) >= 4
    rules = rules_of(detector, spec)
    tried = [
        (p, trial(FaultKind.SHIFT, 0, rung, (p.row,), [0, 1])) for p in places for rung in (3.0, 6.0, 8.0)
    ]
    found = 0
    for (place, what), (_, verdict) in zip(tried, judged(detector, policy, rules, tried), strict=True):
        assert verdict == said(detector, spec, policy, history, place, what, 4), (place.row, what)
        found += verdict is not None and verdict.found
    assert 20 < found < 100


def test_a_sensor_in_the_place_of_one_that_rests_looks_stuck() -> None:
    """... or silent, where the other one rarely says something; found by the stream's rules alone."""
    detector = CentreDetector(("a", "b", "c"), window=8, threshold=1e9, still=5)
    spec = replace(STREAM, sensors=("a", "b", "c"), window=8, silent_after_ns=10 * STREAM.period_ns)
    rng = np.random.default_rng(2)
    values = rng.normal(0.0, 0.6, (400, 3))
    values[:, 1] = np.repeat(rng.normal(0.0, 0.6, 40), 10)[
        :400
    ]  # rests for ten rows, and now and then for forty
    values[120:160, 1], values[260:300, 1] = 0.5, 0.25
    values[np.arange(400) % 19 > 0, 2] = np.nan
    history = Segment("a", 50, values)
    rules = rules_of(detector, spec)
    places = places_in(detector, AlarmPolicy(), [history], 120)
    tried = [
        (p, trial(kind, 0, rung, (p.row,), [0, 1, 2]))
        for p in places
        for kind, rung in ((FaultKind.SWAP, 0.0), (FaultKind.LAG, 6.0))
    ]
    seen = set()
    for (place, what), (_, verdict) in zip(tried, judged(detector, AlarmPolicy(), rules, tried), strict=True):
        if verdict is not None:
            assert verdict == said(detector, spec, AlarmPolicy(), history, place, what, 16), (place.row, what)
        seen.add(None if verdict is None else (what.kind, verdict.alert))
    assert {(FaultKind.SWAP, AlertKind.SENSOR_STUCK), (FaultKind.SWAP, AlertKind.SENSOR_SILENT)} < seen


@pytest.mark.parametrize("at_once", [1, 3, 64])
def test_pieces_do_not_show(at_once: int) -> None:
    detector = CentreDetector(("a", "b"), window=4, memory=0.2, still=100)
    rng = np.random.default_rng(0)
    history = Segment("a", 17, rng.normal(0.0, 0.4, (300, 2)))
    rules = rules_of(detector, replace(STREAM, sensors=("a", "b"), window=4))
    places = places_in(detector, AlarmPolicy(), [history], 20)
    tried = [
        (place, trial(kind, 0, rung, (i,), [0, 1])) for i, place in enumerate(places) for kind, rung in KINDS
    ]
    whole = [verdict for _, verdict in judged(detector, AlarmPolicy(), rules, tried)]
    parts = []
    for one in tried:
        steps = judging(detector, AlarmPolicy(), rules, [one], rows_at_once=at_once)
        while True:
            try:
                next(steps)
            except StopIteration as ended:
                parts += ended.value
                break
    assert parts == whole
    assert 0.1 < np.mean([v is not None and v.found for v in whole]) < 0.9


def test_a_place_is_changed_by_nothing() -> None:
    detector = CentreDetector(("a", "b"), window=4, memory=0.2, still=100)
    history = Segment("a", 0, np.random.default_rng(0).normal(0.0, 0.4, (60, 2)))
    (place,) = places_in(detector, AlarmPolicy(), [history], 1)
    before = place.baseline.copy(), place.values.copy(), place.alarm, history.values.copy()
    rules = rules_of(detector, replace(STREAM, sensors=("a", "b"), window=4))
    list(judged(detector, AlarmPolicy(), rules, [(place, trial(k, 0, r, (1,), [0, 1])) for k, r in KINDS]))
    np.testing.assert_array_equal(place.baseline, before[0])
    np.testing.assert_array_equal(place.values, before[1])
    np.testing.assert_array_equal(history.values, before[3])
    assert place.alarm == before[2]


# ------------------------------------------------------------------ places
def test_places_are_where_nothing_fires_and_all_over_the_history() -> None:
    detector = CentreDetector(("a",), window=4)
    values = np.zeros((2_000, 1))
    values[400:410] = 9.0
    values[1_200] = 9.0
    places = places_in(detector, AlarmPolicy(refractory=50), [Segment("a", 100, values)], 40)
    assert len(places) == 40
    starts = np.array([place.row - 100 for place in places])
    assert (np.diff(starts) > 0).all()
    assert np.diff(starts).max() < 200
    for start in starts.tolist():  # a row before, and two windows
        assert not values[start - 1 : start + 8].any()
        # 9 is above the threshold of 3 as the RMS of four rows, and then the alarm recovers for 50 rows.
        assert not any(first <= start <= first + 3 + 50 for first in (409, 1_200))


def test_short_history_and_alarms_throughout_have_no_place() -> None:
    detector = CentreDetector(("a",), window=4)
    assert places_in(detector, AlarmPolicy(), [Segment("a", 0, np.zeros((11, 1)))], 9) == []
    assert len(places_in(detector, AlarmPolicy(), [Segment("a", 0, np.zeros((12, 1)))], 9)) == 1
    assert places_in(detector, AlarmPolicy(), [Segment("a", 0, np.full((90, 1), 9.0))], 9) == []
    assert places_in(detector, AlarmPolicy(), [], 9) == []


def test_standing_is_counted_back_from_the_last_row() -> None:
    rng = np.random.default_rng(3)
    for n in range(300):
        values = rng.integers(0, 2, (int(rng.integers(1, 9)), 3)).astype(float)
        if n % 3 == 0:  # and none of it lately
            values = np.concatenate([values, np.tile(values[-1], (int(rng.integers(900)), 1))])
        values[rng.random(values.shape) < 0.3] = np.nan
        still, age = standing(values)
        for c in range(3):
            column = values[:, c]
            seen = [i for i in range(len(column)) if np.isfinite(column[i])]
            assert age[c] == (len(column) - 1 - seen[-1] if seen else len(column))
            moved = [i for i, before in zip(seen[1:], seen, strict=False) if column[i] != column[before]]
            assert still[c] == len(column) - (moved[-1] if moved else 0)


# ------------------------------------------------------------------ trials
def test_at_one_place_only_the_size_differs_from_rung_to_rung() -> None:
    for kind in FaultKind:
        tried = [trial(kind, 1, rung, (7, 3), [0, 1, 2]) for rung in ladder(kind, 16)]
        assert len({(t.kind, t.sensors, t.size >= 0.0, t.seed) for t in tried}) == 1
        assert [abs(t.size) for t in tried] == [t.rung for t in tried] == list(ladder(kind, 16))
        assert (len(tried) > 1) == kind.sized
        assert len(tried[0].sensors) == kind.sensors
        assert tried[0].sensors[0] == 1
    assert trial(FaultKind.SHIFT, 1, 1.0, (7, 3), [0, 1]) != trial(FaultKind.SHIFT, 1, 1.0, (7, 4), [0, 1])
    assert ladder(FaultKind.LAG, 5) == (1.0, 2.0, 3.0, 4.0)


# ------------------------------------------------------------------ results
SIZES = (0.5, 0.75, 1.0, 1.5)


def rungs(*shares: float, faults: int = 20) -> Found:
    made = tuple(
        Rung(size, faults, round(share * faults), 1.0, 1) for size, share in zip(SIZES, shares, strict=False)
    )
    return Found("a", FaultKind.SHIFT, 0, 0, None, None, made)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (rungs(0.0, 0.5, 0.8, 1.0), (1.0, 1.0, 1.5)),  # of 20 found, .84 at least
        (rungs(0.0, 0.8, 0.75, 1.0), (1.5, 0.75, 1.5)),  # from which size on, up the ladder
        (rungs(0.0, 0.0, 0.0, 0.85), (1.5, 1.5, None)),
        (rungs(1.0, 1.0), (0.5, 0.5, 0.5)),
        (rungs(1.0, 1.0, 1.0, faults=15), (0.5, 0.5, None)),
        (rungs(0.9, 0.9, 0.0), None),
        (replace(rungs(1.0), kind=FaultKind.STUCK), None),
    ],
)
def test_the_smallest_size_is_where_the_ladder_is_found_from(
    found: Found, expected: tuple[float, float, float | None] | None
) -> None:
    smallest = found.smallest
    assert (None if smallest is None else (smallest.rung.size, smallest.low, smallest.high)) == expected


def test_wilsons_interval() -> None:
    """Against his equation: (p - q)^2 = z^2 q (1 - q) / n at both ends."""
    for found, of in ((0, 10), (3, 10), (10, 10), (16, 20), (1, 1)):
        for end in wilson(found, of):
            assert (found / of - end) ** 2 == pytest.approx(1.96**2 * end * (1 - end) / of, abs=1e-12)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(20, 20)[0] > 0.8 > wilson(15, 15)[0]


def test_a_tally_counts_by_kind_sensor_and_size() -> None:
    tally = Tally(("a", "b"), keep=3)
    shift = [trial(FaultKind.SHIFT, 1, rung, (1,), [0, 1]) for rung in (1.0, 2.0)]
    for rows in (None, 4, 6, None):  # the first is forgotten
        tally.add(shift[0], Verdict(rows, None if rows is None else AlertKind.ANOMALY))
    tally.add(shift[1], Verdict(2, AlertKind.ANOMALY))
    tally.add(shift[1], None)  # changed nothing
    tally.add(trial(FaultKind.STUCK, 0, 0.0, (1,), [0, 1]), Verdict(9, AlertKind.SENSOR_STUCK))
    stuck, found = tally.results()
    assert (stuck.sensor, stuck.recall, stuck.alert) == ("a", 1.0, AlertKind.SENSOR_STUCK)
    assert (found.sensor, found.faults, found.found, found.delay_rows) == ("b", 4, 3, 4.0)
    assert [(r.size, r.faults, r.found, r.within_rows) for r in found.rungs] == [
        (1.0, 3, 2, None),
        (2.0, 1, 1, 2),
    ]
    assert tally.drilled == 6
    assert tally.recall(FaultKind.SHIFT) == 0.75
    assert tally.faults(FaultKind.SHIFT) == 4
    assert tally.delay_rows(FaultKind.SHIFT) == 4.0
    assert math.isnan(tally.recall(FaultKind.LAG))
    assert tally.delay_rows(FaultKind.LAG) is None


def test_what_80_percent_take_is_the_time_within() -> None:
    tally = Tally(("a",))
    what = trial(FaultKind.STUCK, 0, 0.0, (1,), [0])
    for rows in (5, 1, 2, 3, None):
        tally.add(what, Verdict(rows, None if rows is None else AlertKind.ANOMALY))
    (found,) = tally.results()
    assert found.rungs[0].within_rows == 5


# ------------------------------------------------------------------ a whole drill
def test_a_drill_repeats_itself_and_only_what_is_asked_for_is_injected() -> None:
    detector = CentreDetector(("a", "b", "c"), window=4, memory=0.1, still=100)
    history = [Segment("x", 0, np.random.default_rng(0).normal(0.0, 0.3, (400, 3)))]
    rules = rules_of(detector, replace(STREAM, sensors=("a", "b", "c"), window=4))
    run: Callable[..., tuple[Tally, Sequence[Place]]] = lambda **more: drill(  # noqa: E731
        detector, AlarmPolicy(), rules, history, kinds=(FaultKind.SHIFT, FaultKind.SWAP), **more
    )
    heard: list[tuple[float, str]] = []
    tally, places = run(sensors=[1], tell=lambda share, doing: heard.append((share, doing)))
    assert {(found.sensor, found.kind) for found in tally.results()} == {
        ("b", FaultKind.SHIFT),
        ("b", FaultKind.SWAP),
    }
    assert tally.faults(FaultKind.SHIFT) == 40 * len(LADDER)
    assert 300 < len(places) <= 400
    assert run(sensors=[1])[0].results() == tally.results()
    assert run(sensors=[1], seed=1)[0].results() != tally.results()
    shares = [share for share, _ in heard]
    assert shares == sorted(shares)
    assert heard[-1][1] == "injecting correlation_swap"
    assert [f.sensor for f in run()[0].results()][::2] == ["a", "b", "c"]


def test_a_sensor_that_never_moved_is_spared(linear: Bundle) -> None:
    assert alive(linear.detector()) == [0, 1, 2]
