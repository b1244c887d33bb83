"""Episodes of a pass beside what the budgets allow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from daemon.budget import Budget
from daemon.commands.realised import realised_lines, realised_of
from daemon.domain import AlertEvent, AlertKind, Phase, StreamSpec
from daemon.runtime.stream_run import StreamPlan
from daemon.stream.steps import RowBlock
from tests.adapters.report.runs import event

ROWS, SECOND = 43_200, 10**9  # half a day


def block(asset: str, scored: int) -> RowBlock:
    scores = np.full(ROWS, np.nan)
    scores[:scored] = 1.0
    places = np.arange(ROWS)
    no = np.zeros(ROWS, bool)
    return RowBlock([asset] * ROWS, no.astype(int), places, np.zeros((ROWS, 1)), scores, no, [""] * ROWS)


def opened(asset: str, count: int, kind: AlertKind = AlertKind.ANOMALY) -> list[AlertEvent]:
    return [replace(event(Phase.OPENED, 9.0, i, asset), kind=kind, began=[kind]) for i in range(count)]


@pytest.mark.parametrize(
    ("budget", "budgeted", "each"), [(Budget(2.0), 3.0, 2.0), (Budget(2.0, per_stream=True), 0.75, 0.5)]
)
def test_episodes_are_counted_by_kind_against_the_time_that_was_scored(
    budget: Budget, budgeted: float, each: float
) -> None:
    plan = StreamPlan(
        StreamSpec("pumps", ("x",), period_ns=SECOND, hop=2), budget=budget, deviation_budget=None
    )
    blocks = [block("a", ROWS // 2), block("b", ROWS), block("c", 0)]  # every second row has a score
    alerts = [
        *opened("b", 3),
        replace(event(Phase.UPDATED, 9.0, 1, "a"), kind=AlertKind.SENSOR_STUCK, began=[AlertKind.ANOMALY]),
        event(Phase.UPDATED, 9.0, 2, "a"),
        *opened("a", 4, AlertKind.DEVIATION),
        event(Phase.CLOSED, 1.0, 5),
    ]
    found = realised_of(alerts, blocks, plan, 4)
    assert found["asset_days"] == 1.5
    assert found["anomaly"] == {
        "budget": str(budget),
        "episodes": 4,
        "joined": 1,
        "budgeted": budgeted,
        "per_asset_and_day": pytest.approx(4 / 1.5, abs=1e-4),
        "budgeted_per_asset_and_day": each,
        "worst": {"b": {"episodes": 3, "days": 1.0}, "a": {"episodes": 1, "days": 0.5}},
    }
    assert "deviation" not in found
    (line,) = realised_lines(found)
    assert line.startswith(
        "4 anomaly episodes (1 of them within another alert) in 1.5 days of assets, 2.67 per asset"
    )
    assert line.endswith("(most: b 3, a 1)")


def test_nothing_is_said_where_nothing_was_scored() -> None:
    assert realised_lines(realised_of([], [], StreamPlan(StreamSpec("pumps", ("x",))), 1)) == []
