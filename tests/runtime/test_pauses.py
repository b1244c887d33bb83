"""Pauses: other tasks run, beats are reported, and a closing source ends a wait."""

from __future__ import annotations

import asyncio

from daemon.adapters.telemetry import Metrics, Reporter
from daemon.runtime.pauses import Pauses
from tests.runtime.scripted import CountingStatus, Script


def pauses(source: Script, status: CountingStatus) -> Pauses:
    return Pauses(source, Reporter(Metrics(["pumps"], []), status))


async def test_a_pause_lets_other_tasks_run_and_beats() -> None:
    status, ran = CountingStatus(["pumps"]), asyncio.Event()
    task = asyncio.create_task(asyncio.sleep(0))
    task.add_done_callback(lambda _: ran.set())
    for _ in range(3):
        await pauses(Script([]), status).pause()
    assert ran.is_set()
    assert status.beats == 3


async def test_a_wait_returns_the_result_of_the_work() -> None:
    async def work() -> int:
        return 7

    assert await pauses(Script([]), CountingStatus(["pumps"])).unless_closing(work()) == 7


async def test_a_wait_ends_with_the_source_and_cancels_the_work() -> None:
    status, source = CountingStatus(["pumps"]), Script([], close_after=2)
    task = asyncio.ensure_future(asyncio.Event().wait())
    assert await pauses(source, status).unless_closing(task) is None
    assert task.cancelled()
    assert status.beats > 0
