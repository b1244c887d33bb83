"""The loop over sources that do what Kafka does on its worst days."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from structlog.testing import capture_logs

from daemon.adapters.telemetry import Metrics, Status
from daemon.domain import (
    SECOND_NS,
    Assigned,
    DriftRecord,
    Evidence,
    FilledRow,
    InputPartition,
    Output,
    Polled,
    Record,
    Saved,
    SourceEvent,
    StreamSpec,
    Windows,
    Work,
)
from daemon.errors import BrokerError
from daemon.loop import Loop, StreamPlan, StreamRun
from daemon.retrainer import Outcome
from daemon.stream import pipeline as pipeline_module
from tests.fakes import CentreDetector

BASE_S = 1_700_000_000
PUMPS_0 = InputPartition("sensors.pumps", 0)
SPEC = StreamSpec(
    "pumps",
    ("a", "b"),
    topics=("sensors.pumps",),
    window=4,
    max_gap_ns=3600 * SECOND_NS,
    silent_after_ns=8000 * SECOND_NS,
)


@dataclass
class Script:
    """A source that says what it is told to, and keeps what is committed."""

    polls: Sequence[Polled]
    saved: Sequence[Saved] = ()
    resume_at: int = 0
    replay_from: int | None = None
    commits: list[Work] = field(default_factory=list)

    async def events(self) -> AsyncIterator[SourceEvent]:
        first = self.resume_at if self.replay_from is None else self.replay_from
        yield Assigned(PUMPS_0, first, self.resume_at, self.saved)
        for poll in self.polls:
            yield poll

    async def commit(self, work: Mapping[InputPartition, Work]) -> None:
        self.commits += work.values()

    def close(self) -> None: ...


@dataclass
class Shelf:
    """Where models are kept; a broker that does not play along."""

    polled: int = 0

    async def promoted(self, stream: str) -> bytes | None:
        return None

    async def promote(self, stream: str, bundle: bytes, version: str, reason: str) -> None:
        raise BrokerError("a message of 9 bytes is too large for topic 'anomalyd.models'")

    async def poll(self) -> Sequence[tuple[str, bytes]]:
        self.polled += 1
        raise BrokerError("topic 'anomalyd.models' could not be read: request timed out")


def stream() -> StreamRun:
    run = StreamRun(StreamPlan(SPEC, retrain_every=None))
    run.detector = CentreDetector(SPEC.sensors)
    return run


def made(source: Script, run: StreamRun, models: Shelf | None = None) -> tuple[Loop, Metrics, Status]:
    metrics, status = Metrics(["pumps"], ["sensors.pumps"]), Status(["pumps"])
    loop = Loop(source, None, [run], metrics, status, models=models, checkpoints=True)
    return loop, metrics, status


def line(offset: int, asset: str, second: float, *values: float | None) -> Record:
    reading = dict(zip(SPEC.sensors, values, strict=True))
    value = json.dumps({"asset": asset, "ts": BASE_S + second, "values": reading}).encode()
    return Record(offset, asset.encode(), value, (BASE_S + 10**6) * SECOND_NS)


def steady(n: int, first: int = 0) -> list[Record]:
    return [line(first + i, "p1", float(first + i), 0.5, 0.5) for i in range(n)]


async def test_a_storm_of_gaps_is_committed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 records of one poll, each of which bridges 999 rows."""
    monkeypatch.setattr(pipeline_module, "MOST_AT_ONCE", 2_000)
    monkeypatch.setattr(pipeline_module, "MOST", 1_000)
    records = [line(i, f"p{i % 4}", 1_000.0 * (i // 4), 0.5, 0.5) for i in range(200)]
    source = Script([Polled(PUMPS_0, records), Polled(PUMPS_0, (), ended=True)])
    loop, _, _ = made(source, stream())
    await loop.run()
    offsets = [work.position.offset for work in source.commits]
    assert offsets == sorted(set(offsets))
    assert max(len(work.outputs) for work in source.commits) < 5_000
    filled = [o for work in source.commits for o in work.outputs if isinstance(o, FilledRow)]
    assert len(filled) == len({(o.asset, o.row_ns) for o in filled}) == 4 * 49 * 999


async def test_a_model_that_cannot_be_kept_is_a_failed_one_and_the_old_one_judges_on() -> None:
    run = stream()
    source = Script([Polled(PUMPS_0, steady(20)), Polled(PUMPS_0, (), ended=True)])
    shelf = Shelf()
    loop, _, status = made(source, run, shelf)
    outcome = Outcome(True, "better", "v2", b"a bundle", 1.0, 100)

    async def script() -> None:
        await loop._trained(run, outcome)
        await loop.run()

    with capture_logs() as logs:
        await script()
    assert run.shelving is None
    assert run.detector == CentreDetector(SPEC.sensors)
    assert source.commits[-1].position.offset == 20
    (change,) = status.streams["pumps"].models
    assert (change.version, change.result) == ("v2", "failed")
    assert change.reason.startswith("it could not be kept: a message of 9 bytes is too large")
    assert shelf.polled
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"].count("registry_unread") == 1


async def test_all_that_was_done_is_committed_before_a_partition_is_handed_over() -> None:
    source = Script([Polled(PUMPS_0, steady(20)), Polled(PUMPS_0, steady(5, 20))])
    loop, _, _ = made(source, stream())
    loop._commit_every_s = 3_600.0
    loop._committed_at = time.monotonic()
    found: list[int] = []

    async def events() -> AsyncIterator[SourceEvent]:
        yield Assigned(PUMPS_0, 0, 0)
        yield source.polls[0]
        assert not source.commits
        yield Polled(InputPartition("", -1), (), handover=True)
        found.extend(work.position.offset for work in source.commits)
        yield source.polls[1]
        assert len(source.commits) == 1

    source.events = events  # type: ignore[method-assign]
    await loop.run()
    assert found == [20]


class Fragile(CentreDetector):
    def infer(self, windows: Windows) -> Evidence:
        if (windows.values[:, -1] == 13.0).any():
            raise FloatingPointError("thirteen")
        return super().infer(windows)


async def test_windows_that_a_model_fails_on_are_counted_and_said() -> None:
    run = stream()
    run.detector = Fragile(SPEC.sensors)
    records = [line(i, "p1", float(i), 13.0 if i in (8, 9) else 0.5, 0.5) for i in range(20)]
    loop, metrics, _ = made(Script([Polled(PUMPS_0, records)]), run)
    with capture_logs() as logs:
        await loop.run()
    (entry,) = [entry for entry in logs if entry["event"] == "windows_unscored"]
    assert entry["windows"] == 2
    assert b'anomalyd_dropped_total{reason="model_failed",stream="pumps"} 2.0' in metrics.exposition()


def after(source: Script, polls: Sequence[Polled]) -> Script:
    """What whoever takes over from the source is given."""
    saved = {record.key: record for work in source.commits for record in work.saved}
    at = source.commits[-1].position
    return Script(polls, tuple(saved.values()), at.offset, at.replay_from)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(("last", "open_after"), [(12, 0), (20, 1)])
async def test_what_is_open_as_of_the_commit_is_on_the_page_after_a_restart(
    last: int, open_after: int, kept: bool
) -> None:
    """Whether it is known from the state, or only from the records that were replayed without one."""
    records = [line(i, "p1", float(i), 50.0 if 10 <= i < last else 0.5, 0.5) for i in range(20)]
    first = Script([Polled(PUMPS_0, records[a:b]) for a, b in ((0, 9), (9, 12), (12, 18), (18, 20))])
    loop, _, before = made(first, stream())
    loop._commit_every_s = 0.0
    await loop.run()
    second = after(first, [])
    if not kept:
        second.saved, second.replay_from = (), 0
    second.polls = [Polled(PUMPS_0, records[second.replay_from :])]
    loop, metrics, now = made(second, stream())
    await loop.run()
    assert len(before.open) == open_after
    assert now.open.keys() == before.open.keys()
    assert outputs_of(second) == []
    text = metrics.exposition().decode()
    assert f'episodes_active{{severity="critical"}} {open_after}.0' in text
    assert f'state_restores_total{{result="ok"}} {kept:d}.0' in text


async def test_the_drift_of_a_model_that_went_outlives_a_successor_that_did_nothing() -> None:
    def newer() -> StreamRun:
        run = stream()
        run.detector = replace(CentreDetector(SPEC.sensors), version="centre-2")
        return run

    first = Script([Polled(PUMPS_0, steady(40))])
    await made(first, stream())[0].run()
    second = after(first, [])  # nothing comes before it ends
    second.replay_from = second.resume_at
    await made(second, newer())[0].run()
    third = after(second, [Polled(PUMPS_0, steady(45)), Polled(PUMPS_0, (), ended=True)])
    third.replay_from = 0  # no record of an asset was written
    await made(third, newer())[0].run()
    drift = [o for s in (first, second, third) for o in outputs_of(s) if isinstance(o, DriftRecord)]
    assert [(record.model, record.windows) for record in drift] == [("centre-1", 37), ("centre-2", 5)]


def outputs_of(source: Script) -> list[Output]:
    return [o for work in source.commits for o in work.outputs]


async def test_state_that_is_of_no_use_is_said_and_counted() -> None:
    source = Script([], [Saved(b"sensors.pumps\x1f", b"garbage")], 20)
    loop, metrics, _ = made(source, stream())
    with capture_logs() as logs:
        await loop.run()
    assert [entry["event"] for entry in logs].count("state_unusable") == 1
    assert b'anomalyd_state_restores_total{result="failed"} 1.0' in metrics.exposition()


async def test_a_drain_that_takes_too_long_is_cut_short_without_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from daemon import service

    class Stuck(Loop):
        async def run(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(service, "DRAIN_S", 0.01)
    ending = asyncio.Event()
    ending.set()
    source = Script([])
    stuck = Stuck(source, None, [stream()], Metrics(["pumps"], ["sensors.pumps"]), Status(["pumps"]))
    await service._until_drained(stuck, ending, [])
