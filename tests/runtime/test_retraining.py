"""Retraining while the stream runs: promotions, a poisoned candidate that is refused, nothing unscored."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice

import pytest

from daemon.adapters.memory import MemoryLog, MemorySink, MemorySource
from daemon.adapters.simulator import Fleet
from daemon.adapters.telemetry import Metrics, Reporter, Status
from daemon.budget import Budget
from daemon.commands.demo import START
from daemon.commands.wiring import encoder
from daemon.domain import AlarmPolicy, ModelSettings
from daemon.runtime.loop import Loop
from daemon.runtime.options import Hold, LoopOptions
from daemon.runtime.stream_run import StreamPlan, StreamRun
from daemon.stream.steps import Step

pytestmark = pytest.mark.slow

ASSETS = 12
LEARN_HOURS, LIVE_HOURS, POISON_HOURS = 24, 25, 13


async def play(hold: Hold) -> tuple[StreamRun, dict[str, list[int]], dict[str, list[int]]]:
    """A fleet that goes bad unnoticed, under a daemon that retrains every six hours.

    Returns:
        The stream, and per asset the rows that were released and scored after it went live.
    """
    fleet = Fleet(3, assets=ASSETS, poison=timedelta(hours=12))
    plan = StreamPlan(
        fleet.spec(),
        model=ModelSettings(steps=200),
        learn_rows=LEARN_HOURS * 60 * ASSETS,
        retrain_every=timedelta(hours=6),
        retrain_rows=24 * 60 * ASSETS,
        budget=Budget(1.0),
        # Alarms would keep the rows that went bad out of the training, and no candidate would learn them.
        policy=AlarmPolicy(needed=POISON_HOURS * 60, of=POISON_HOURS * 60),
        deviation_budget=None,
    )
    topic = plan.spec.topics[0]
    log = MemoryLog()
    fleet.poison_from(START + timedelta(hours=LEARN_HOURS + POISON_HOURS))
    for tick in islice(fleet.records(START), (LEARN_HOURS + LIVE_HOURS) * 60):
        for key, line in tick.lines:
            log.append(topic, line, key=key, timestamp_ns=tick.time_ns)
    log.finish(topic)
    released: dict[str, list[int]] = {}
    scored: dict[str, list[int]] = {}

    def watch(stream: StreamRun, step: Step) -> None:
        if step.block is None or stream.detector is None:
            return
        for asset, row, score in zip(step.block.assets, step.block.rows, step.block.scores, strict=True):
            released.setdefault(asset, []).append(int(row))
            if score == score:
                scored.setdefault(asset, []).append(int(row))

    stream = StreamRun(plan)
    loop = Loop(
        MemorySource(log, [topic], max_records=200),
        MemorySink(log, "anomalyd", encoder()),
        [stream],
        Reporter(Metrics([plan.spec.name], [topic]), Status([plan.spec.name])),
        options=LoopOptions(hold=hold, watch=watch),
    )
    await loop.run()
    return stream, released, scored


async def test_good_candidates_are_promoted_a_poisoned_one_is_refused_and_every_row_is_scored() -> None:
    stream, released, scored = await play(Hold.ALWAYS)
    verdicts = [(outcome.promoted, outcome.reason) for outcome in stream.outcomes]
    assert [promoted for promoted, _ in verdicts[:3]] == [True, True, True], verdicts
    refused = [reason for promoted, reason in verdicts if not promoted]
    assert refused, verdicts
    assert all(refused)
    assert len(set(stream.versions)) == len(stream.versions)
    for asset, rows in released.items():
        # Live from the first model on: every row but those whose window was not full then.
        assert rows[0] == min(rows)
        assert scored[asset][-1] == rows[-1]
        missing = set(range(scored[asset][0], rows[-1] + 1)) - set(scored[asset])
        assert not missing, (asset, sorted(missing)[:5])
    # What the budget allows follows from what was judged, across all model changes.
    assert stream.scored == sum(map(len, scored.values()))
    assert stream.budgeted == pytest.approx(stream.scored / 1_440)
    assert stream.budget_ratio == stream.episodes / stream.budgeted
