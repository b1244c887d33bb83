"""Realised against budgeted: how many episodes opened in a pass, beside what the budgets allow for its time.

In: the alerts and rows of a replay. An anomaly that joins an alert of other kinds counts as one that opens its own. Out: ``summary.json``'s entry, and a line for each kind of alert. Without labels
nobody knows which of the episodes were false: many more than budgeted are too many to be looked at all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from daemon.documents import counted
from daemon.domain import DAY_NS, AlertEvent, AlertKind, Phase
from daemon.runtime.stream_run import StreamPlan
from daemon.stream.steps import RowBlock

WORST = 5
"""Assets that are named."""


def realised_of(
    alerts: Sequence[AlertEvent], blocks: Sequence[RowBlock], plan: StreamPlan, assets: int
) -> dict[str, Any]:
    """Per kind of alert that has a budget: the episodes, and those that it allows, in all and of the worst assets.

    Args:
        alerts: of the pass.
        blocks: its rows; time counts where they have a score.
        plan: the budgets.
        assets: those of the stream when its model was trained, which share what is budgeted for all of them.
    """
    scored: Counter[str] = Counter()
    for block in blocks:
        scored.update(np.array(block.assets, object)[np.isfinite(block.scores)].tolist())
    period = plan.spec.period_ns * plan.spec.hop / DAY_NS
    days = period * scored.total()
    found: dict[str, Any] = {"asset_days": round(days, 3)}
    began = [(event.asset, event.began) for event in alerts if event.began]
    for kind, budget in ((AlertKind.ANOMALY, plan.budget), (AlertKind.DEVIATION, plan.deviation_budget)):
        if budget is None:
            continue
        mine = Counter(asset for asset, kinds in began if kind in kinds)
        opened = sum(event.phase is Phase.OPENED and event.kind is kind for event in alerts)
        worst = sorted(mine, key=lambda asset: (-mine[asset], asset))[:WORST]
        found[str(kind)] = {
            "budget": str(budget),
            "episodes": mine.total(),
            "joined": max(mine.total() - opened, 0),
            "budgeted": round(budget.allowed(days, assets), 3),
            "per_asset_and_day": round(mine.total() / days, 4) if days else None,
            "budgeted_per_asset_and_day": round(budget.allowed(1.0, assets), 4),
            "worst": {
                asset: {"episodes": mine[asset], "days": round(period * scored[asset], 3)} for asset in worst
            },
        }
    return found


def realised_lines(found: Mapping[str, Any]) -> list[str]:
    """A line for each kind; none where nothing was scored."""
    lines = []
    for kind, one in found.items():
        if kind == "asset_days" or one["per_asset_and_day"] is None:
            continue
        worst = ", ".join(f"{asset} {of['episodes']}" for asset, of in one["worst"].items())
        lines.append(
            f"{counted(one['episodes'], f'{kind} episode')}{_joined(one['joined'])} in {found['asset_days']:.1f} days of assets,"
            f" {one['per_asset_and_day']:.2f} per asset and day; the budget of false ones, {one['budget']}, is"
            f" {one['budgeted_per_asset_and_day']:.2f}, {one['budgeted']:.1f} in all"
            + (f" (most: {worst})" if len(one["worst"]) > 1 else "")
        )
    return lines


def _joined(count: int) -> str:
    return f" ({count} of them within another alert)" if count else ""
