"""Conditions, baselines and models that fail."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.detector import CorrectedWindows, Evidence, Verdicts, Windows
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    Dropped,
    Floats,
    Ints,
    Mask,
    ScoredRow,
)
from daemon.stream.course_state import AcceptedLevel, AcceptedState
from tests.fakes import CentreDetector
from tests.stream.pipelines import (
    CENTRE,
    HOUR_NS,
    SPEC,
    feed,
    make,
    numbered,
    of_kind,
    plain,
    replace_values,
    steady,
    steps,
    told,
    wide,
)


def test_each_unknown_condition_opens_one_episode_that_closes_when_it_is_over() -> None:
    spec = replace(SPEC, condition=("mode",))
    detector = replace(CENTRE, conditions=("run",))
    readings = numbered(steady(30))
    for reading in readings:
        reading.condition = {0: "run", 1: "wash", 2: "rinse"}[reading.offset // 10]
    outputs = feed(make(spec, detector), readings, ended=True)
    assert told(outputs, AlertKind.UNKNOWN_CONDITION) == [
        (10, "opened", "wash"),
        (20, "closed", "wash"),
        (20, "opened", "rinse"),
    ]


def test_calendar_conditions_label_every_row_and_raise_nothing() -> None:
    """1970 began on a Thursday; in Kathmandu that ends before it does in Greenwich."""
    spec = replace(SPEC, condition=("$weekday", "mode"), timezone="Asia/Kathmandu")
    midnight = 66_600  # 18:30 UTC: it was 5 h 30 east in those days
    detector = replace(CENTRE, conditions=("mode=run,$weekday=thu",))
    readings = [
        r for r in steady(40, start=midnight - 20) if not 15 <= r.time_ns // SECOND_NS - midnight < 18
    ]
    for reading in readings:
        reading.condition = "mode=run"
    made = steps(make(spec, detector), numbered(readings), ended=True)
    found = [
        (row - midnight, label)
        for step in made
        if step.block
        for row, label in zip(step.block.rows, step.block.condition, strict=True)
    ]
    assert [row for row, _ in found] == list(range(-20, 20))  # the bridged rows too
    assert all(label == f"mode=run,$weekday={'thu' if row < 0 else 'fri'}" for row, label in found)
    # The model never saw a Friday: nobody at the machine can do anything about it.
    assert told([o for step in made for o in step.outputs], AlertKind.UNKNOWN_CONDITION) == []


def test_an_unknown_mode_opens_one_episode_however_often_the_hour_changes() -> None:
    spec = replace(SPEC, condition=("mode", "$hour"))
    detector = replace(CENTRE, conditions=("mode=run,$hour=00", "mode=run,$hour=01"))
    readings = numbered(steady(40, start=3_590))
    for reading in readings:
        reading.condition = "mode=wash" if 5 <= reading.offset < 30 else "mode=run"
    outputs = feed(make(spec, detector), readings, ended=True)
    assert told(outputs, AlertKind.UNKNOWN_CONDITION) == [
        (3_595, "opened", "mode=wash"),
        (3_620, "closed", "mode=wash"),
    ]


def test_an_unknown_condition_is_over_once_a_model_knows_it() -> None:
    spec = replace(SPEC, condition=("mode",))
    readings = numbered(steady(30))
    for reading in readings:
        reading.condition = "wash"
    pipeline = make(spec, replace(CENTRE, conditions=("run",)))
    outputs = feed(pipeline, readings[:15])
    pipeline.use_when_committable(replace(CENTRE, version="centre-2", conditions=("run", "wash")))
    outputs += feed(pipeline, readings[15:], ended=True)
    assert told(outputs, AlertKind.UNKNOWN_CONDITION) == [(0, "opened", "wash"), (15, "closed", "wash")]


@given(
    st.lists(
        st.tuples(st.sampled_from(["p1", "p2"]), st.sampled_from(["run", "run", "wash", "rinse"])),
        min_size=1,
        max_size=40,
    )
)
@settings(max_examples=25)
def test_conditions_of_many_rows_at_once_are_those_of_one_after_the_other(
    rows: list[tuple[str, str]],
) -> None:
    spec = replace(SPEC, condition=("mode",))
    readings = numbered([wide(i, 0.5, -0.5, asset=asset) for i, (asset, _) in enumerate(rows)])
    for reading, (_, label) in zip(readings, rows, strict=True):
        reading.condition = label
    detector = replace(CENTRE, conditions=("run",))
    together, alone = make(spec, detector), make(spec, detector)
    outputs = [o for reading in readings for o in feed(alone, [reading])]
    outputs += feed(alone, (), ended=True)
    kind = AlertKind.UNKNOWN_CONDITION
    at_once = of_kind(feed(together, readings, ended=True), kind)
    for asset in ("p1", "p2"):
        assert [repr(o) for o in at_once if o.asset == asset] == [
            repr(o) for o in of_kind(outputs, kind) if o.asset == asset
        ]


def test_training_s_baseline_carries_on_where_the_rows_do() -> None:
    detector = replace(CENTRE, carried={("p1", 3): 0.2}, memory=0.0)
    readings = numbered([*steady(6), *steady(6, start=100)])
    scored = [o for o in feed(make(detector=detector), readings, ended=True) if isinstance(o, ScoredRow)]
    assert [round(o.static_score - o.score, 6) for o in scored] == [0.2] * 3 + [0.0] * 3


def test_a_number_that_stands_for_no_value_is_as_none() -> None:
    readings = numbered(steady(40))
    sent, none = (
        [
            replace_values(r, [odd, r.values[1]]) if r.values is not None and 10 <= r.offset < 13 else r
            for r in readings
        ]
        for odd in (-999.0, float("nan"))
    )
    knowing = make(detector=replace(CENTRE, sentinels=((0, -999.0),)))
    assert plain(feed(knowing, sent, ended=True)) == plain(feed(make(detector=CENTRE), none, ended=True))
    assert knowing.dropped == Counter({"sentinel": 3})


class Fragile(CentreDetector):
    """Fails on every window that holds 13."""

    def infer(self, windows: Windows) -> Evidence:
        if (windows.scaled == 13.0).any():
            raise FloatingPointError("thirteen")
        return super().infer(windows)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_window_that_the_model_fails_on_is_counted_and_affects_no_other(size: int) -> None:
    readings = numbered([r for s in range(30) for a in ("p1", "p2", "p3") for r in steady(1, a, s)])
    readings[40] = replace_values(readings[40], [13.0, 0.5])  # p2 at 13 s
    results = []
    for detector in (CENTRE, Fragile(SPEC.sensors)):
        pipeline = make(detector=detector)
        outputs = [o for i in range(0, 90, size) for o in feed(pipeline, readings[i : i + size])]
        results.append(
            {(o.asset, o.row_ns // SECOND_NS): repr(o) for o in outputs if isinstance(o, ScoredRow)}
        )
    lost = {("p2", second) for second in range(13, 17)}
    assert results[0].keys() - results[1].keys() == lost
    assert all(results[0][row] == said for row, said in results[1].items() if row[0] != "p2")
    assert pipeline.dropped == Counter(model_failed=4)


def test_what_becomes_normal_does_not_depend_on_chunks_or_polls() -> None:
    """Rows of an hour; ``a`` is off for good, and ``b`` comes later."""
    spec = replace(SPEC, period_ns=HOUR_NS, silent_after_ns=HOUR_NS * 1_000, max_gap_ns=HOUR_NS * 1_000)
    detector = CentreDetector(spec.sensors, pace=0.5, threshold=100.0)
    policy = AlarmPolicy(refractory=2, accept_rows=40)
    readings = numbered(
        [
            wide(3_600.0 * hour, 5.0 if hour > 5 else 0.0, 9.0 if 70 < hour < 90 else 0.1 * (hour % 3))
            for hour in range(120)
        ]
    )

    def run(size: int) -> list[AlertEvent]:
        pipeline = make(spec, detector, policy, drift_interval_ns=HOUR_NS * 10_000, scores=False)
        outputs = [o for at in range(0, 120, size) for o in feed(pipeline, readings[at : at + size])]
        outputs += feed(pipeline, [], ended=True)
        return [o for o in outputs if isinstance(o, AlertEvent)]

    whole = run(120)
    accepted = [e for e in whole if e.regime is not None and e.regime.accepted]
    assert [list(e.sensors) for e in accepted] == [["a"]]
    later = [e for e in whole if e.row_ns > accepted[0].row_ns]
    assert [(str(e.phase), list(e.sensors)) for e in later if str(e.phase) != "updated"] == [
        ("opened", ["b"]),
        ("closed", ["b"]),
    ]
    for size in (1, 7, 50):
        assert [repr(e) for e in run(size)] == [repr(e) for e in whole]


class Counting(CentreDetector):
    """Counts the windows that it judges."""

    judged: ClassVar[list[int]] = []

    def judge(self, evidence: Evidence, baseline: Floats, slots: Ints, *, static: bool = True) -> Verdicts:
        self.judged.append(len(slots))
        return super().judge(evidence, baseline, slots, static=static)


def test_standing_levels_cost_one_look_at_each_window_and_hide_nothing_on_the_other_side() -> None:
    """Every asset is off, a quarter of them to the other side than a level."""
    readings = numbered(
        [
            wide(
                second, 0.1 * (second % 2) + (4.0 if second >= 10 else 0.0), 0.1 * (second % 3), asset=f"p{i}"
            )
            for second in range(30)
            for i in range(20)
        ]
    )

    def run(size: int) -> list[str]:
        Counting.judged.clear()
        pipeline = make(detector=Counting(SPEC.sensors, pace=0.3), scores=False)
        outputs = feed(pipeline, readings[:120])
        for i in range(5):
            level = AcceptedLevel("a", -1, 4.0, -4.0, True, 4.0)
            pipeline.episodes.acceptances.restore(f"p{i}", [AcceptedState("f", 5, [level])])
        for at in range(120, len(readings), size):
            outputs += feed(pipeline, readings[at : at + size])
        return [repr(o) for o in outputs if isinstance(o, AlertEvent)]

    whole = run(len(readings))
    assert sum(Counting.judged) <= len(readings)
    assert len(whole) >= 20
    assert run(1) == whole


class Stubborn(CentreDetector):
    """Fails on windows of one asset that are corrected."""

    def corrected(self, windows: Windows, least: Floats, most: Floats, taken: Mask) -> CorrectedWindows:
        if windows.asset is not None and "p3" in windows.asset:
            raise ValueError("p3")
        return super().corrected(windows, least, most, taken)


def test_a_correction_that_fails_takes_no_other_asset_with_it() -> None:
    pipeline = make(detector=Stubborn(SPEC.sensors))
    for i in range(1, 5):
        level = AcceptedLevel("a", 1, 4.0, 4.0, True, 4.0)
        pipeline.episodes.acceptances.restore(f"p{i}", [AcceptedState("f", 0, [level])])
    readings = [wide(second, 4.0, 0.0, asset=f"p{i}") for second in range(20) for i in range(6)]
    outputs = feed(pipeline, numbered(readings))
    scored = Counter(one.asset for one in outputs if isinstance(one, ScoredRow) and np.isfinite(one.score))
    full = 20 - SPEC.window + 1
    assert scored == {f"p{i}": full for i in range(6) if i != 3}
    assert pipeline.dropped[Dropped.MODEL_FAILED] == full


def test_rows_without_a_score_after_an_anomaly_that_became_normal_are_not_firing() -> None:
    spec = replace(
        SPEC, period_ns=HOUR_NS, silent_after_ns=HOUR_NS * 1_000, max_gap_ns=HOUR_NS * 1_000, hop=2
    )
    detector = CentreDetector(spec.sensors, pace=0.5, threshold=3.0)
    policy = AlarmPolicy(refractory=2, accept_rows=40)

    def firing(size: int) -> dict[int, bool]:
        readings = numbered(
            [wide(3_600.0 * hour, 5.0 if hour > 5 else 0.0, 0.1 * (hour % 3)) for hour in range(80)]
        )
        pipeline = make(spec, detector, policy, drift_interval_ns=HOUR_NS * 10_000, scores=False)
        blocks = [
            step.block for at in range(0, 80, size) for step in steps(pipeline, readings[at : at + size])
        ]
        return {
            row: is_firing
            for block in blocks
            if block is not None
            for row, is_firing in zip(block.rows.tolist(), block.firing.tolist(), strict=True)
        }

    alone = firing(1)
    assert sum(alone.values()) > 30
    assert not alone[70]
    assert firing(80) == alone
