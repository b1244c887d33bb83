"""The online correction of thresholds: it keeps the budget, and nothing but an asset's own rows moves it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.budget import Budget
from daemon.domain import DAY_NS, SECOND_NS, AlarmPolicy, AlertEvent, AlertKind, Output, Phase, ScoredRow
from daemon.maintenance import MaintenanceWindow
from daemon.stream.assets import AssetTable
from daemon.stream.thresholds import LOWEST, STEP, Thresholds
from tests.naive import online_thresholds
from tests.stream.pipelines import CENTRE, POLICY, SPEC, feed, feed_all, make, numbered, plain, polls, wide

DAILY = Budget(1.0)
MINUTES = replace(SPEC, period_ns=60 * SECOND_NS)
A_DAY = DAY_NS // MINUTES.period_ns


def made(budget: Budget | None = DAILY, assets: int = 1, hop: int = 1) -> tuple[Thresholds, int]:
    table = AssetTable(8)
    thresholds = Thresholds(replace(MINUTES, hop=hop), table, 0.8, budget)
    thresholds.use(replace(CENTRE, threshold=4.0, hysteresis=0.7, calibrated_assets=assets))
    return thresholds, table.add("p1")


def passed(thresholds: Thresholds, slot: int, rows: int) -> float:
    thresholds.passed(np.full(rows, slot))
    return thresholds.levels(slot)[0]


def test_without_a_correction_thresholds_are_the_model_s() -> None:
    thresholds, slot = made(None)
    passed(thresholds, slot, 1_000_000)
    thresholds.closed(slot)
    assert thresholds.levels(slot) == (4.0, 0.7 * 4.0)
    assert thresholds.lowest_closing == 0.7 * 4.0


def test_a_threshold_stays_where_it_is_if_as_many_episodes_come_as_are_allowed() -> None:
    thresholds, slot = made()
    falls = passed(thresholds, slot, A_DAY)
    assert falls == pytest.approx(4.0 * math.exp(-STEP))
    for _ in range(20):
        thresholds.closed(slot)
        assert passed(thresholds, slot, A_DAY) == pytest.approx(falls)


def test_a_threshold_is_never_lower_than_three_quarters_nor_higher_than_the_model_s() -> None:
    thresholds, slot = made()
    assert passed(thresholds, slot, 100 * A_DAY) == pytest.approx(0.75 * 4.0)
    assert thresholds.lowest_closing == thresholds.levels(slot)[1] == pytest.approx(0.8 * 0.75 * 4.0)
    for _ in range(5):
        thresholds.closed(slot)
    assert thresholds.levels(slot) == (4.0, 0.7 * 4.0)


def test_an_episode_closes_at_the_model_s_level_if_that_is_lower() -> None:
    thresholds, slot = made()
    passed(thresholds, slot, 1)
    assert thresholds.levels(slot)[1] == 0.7 * 4.0  # what 99 % of calibration do not exceed


@pytest.mark.parametrize(("assets", "hop", "days"), [(10, 1, 10), (1, 4, 1)])
def test_an_asset_uses_its_share_of_a_stream_s_budget_and_the_time_of_its_rows(
    assets: int, hop: int, days: int
) -> None:
    thresholds, slot = made(Budget(1.0, per_stream=True), assets, hop)
    assert passed(thresholds, slot, days * A_DAY // hop) == pytest.approx(4.0 * math.exp(-STEP))


BUDGET = Budget(0.3 * DAY_NS / SECOND_NS)
"""An episode in three rows, so that short streams show what months do."""
ROW = st.sampled_from([0.5, 0.5, 2.2, 2.6, 2.9, 3.2, 9.0])


def scored(drawn: Sequence[float], policy: AlarmPolicy, cuts: list[tuple[int, int]]) -> list[Output]:
    """What comes of readings that are the scores themselves; seconds 20 to 29 are under maintenance."""
    spec = replace(SPEC, window=1)
    detector = replace(CENTRE, window=1, hysteresis=0.8)
    pipeline = make(
        spec,
        detector,
        policy,
        online=BUDGET,
        maintenance=[MaintenanceWindow("m", 20 * SECOND_NS, 30 * SECOND_NS)],
    )
    readings = numbered(
        reading
        for i, value in enumerate(drawn)
        for reading in (wide(i, value, 0.001 * i), wide(i, 0.4, 0.001 * i, asset="p2"))
    )
    return [o for event in polls(readings, cuts) for step in pipeline.feed(event) for o in step.outputs]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(ROW, min_size=30, max_size=90),
    st.sampled_from([POLICY, AlarmPolicy(2, 3, refractory=4), AlarmPolicy(refractory=2)]),
    st.lists(st.tuples(st.integers(1, 40), st.just(0)), max_size=8),
)
def test_the_stream_corrects_as_row_by_row(
    drawn: list[float], policy: AlarmPolicy, cuts: list[tuple[int, int]]
) -> None:
    outputs = scored(drawn, policy, cuts)
    rows = [o for o in outputs if isinstance(o, ScoredRow) and o.asset == "p1"]
    maintained = [20 <= o.row_ns // SECOND_NS < 30 for o in rows]
    expected = online_thresholds(
        [(o.score, under) for o, under in zip(rows, maintained, strict=True)], 3.0, 0.8 * 3.0, policy, 0.3
    )
    assert [o.alarm for o in rows] == [firing for _, firing in expected]
    by_time = {o.row_ns: threshold for o, (threshold, _) in zip(rows, expected, strict=True)}
    for alert in (o for o in outputs if isinstance(o, AlertEvent) and "combined" in o.scores):
        assert alert.scores["combined"].threshold == pytest.approx(by_time[alert.row_ns])


def test_an_asset_without_alarms_is_judged_by_a_lower_threshold_until_another_model_comes() -> None:
    readings = numbered(wide(i, 2.6 if i in (5, 45, 70) else 0.5, 0.01 * (i % 3)) for i in range(100))
    spec, budget = replace(SPEC, window=1), Budget(0.05 * DAY_NS / SECOND_NS)
    detector = replace(CENTRE, window=1)
    pipeline = make(spec, detector, online=budget)
    outputs = feed(pipeline, readings[:60])
    pipeline.use_when_committable(replace(detector, version="centre-2"))
    outputs += feed_all(pipeline, readings[60:])
    opened = [o for o in outputs if isinstance(o, AlertEvent) and o.phase is Phase.OPENED]
    assert [(o.kind, o.row_ns // SECOND_NS) for o in opened] == [(AlertKind.ANOMALY, 45)]
    (said,) = (o.scores["combined"] for o in opened)
    assert LOWEST * 3.0 < said.threshold < said.value < 3.0
    assert f"score 2.60 over {said.threshold:.2f}" in opened[0].summary
    static = feed_all(make(spec, detector), readings)
    scores = [(o.row_ns, o.score) for o in outputs if isinstance(o, ScoredRow)]
    assert scores == [(o.row_ns, o.score) for o in static if isinstance(o, ScoredRow)]
    assert not plain(o for o in static if isinstance(o, AlertEvent))
