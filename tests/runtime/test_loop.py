"""The loop: what it publishes, commits and restores, over sources that do what Kafka does on its worst days."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from daemon.domain import (
    SECOND_NS,
    Assigned,
    DriftRecord,
    FilledRow,
    InputPartition,
    PolledRecords,
    Record,
    SourceEvent,
    StateRecord,
)
from daemon.runtime import committing
from daemon.runtime.stream_run import StreamPlan, StreamRun
from daemon.stream import batch_ingest, chunker, recovery
from daemon.stream import pipeline as pipeline_module
from tests.fakes import CentreDetector
from tests.runtime.scripted import (
    BASE_S,
    PUMPS_0,
    SPEC,
    CountingStatus,
    FailingRegistry,
    Fragile,
    Script,
    line,
    loop_over,
    outputs_of,
    steady,
    stream,
    successor_of,
)


async def test_many_gaps_in_one_poll_are_committed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 records of one poll, each of which bridges 999 rows."""
    monkeypatch.setattr(pipeline_module, "MOST_EMITTED", 2_000)
    monkeypatch.setattr(batch_ingest, "MOST_BRIDGED", 2_000)
    monkeypatch.setattr(chunker, "MOST_ROWS", 1_000)
    records = [line(i, f"p{i % 4}", 1_000.0 * (i // 4), 0.5, 0.5) for i in range(200)]
    source = Script([PolledRecords(PUMPS_0, records), PolledRecords(PUMPS_0, (), ended=True)])
    loop, _, _ = loop_over(source, stream())
    await loop.run()
    offsets = [work.position.offset for work in source.commits]
    assert offsets == sorted(offsets)
    assert max(len(work.outputs) for work in source.commits) < 5_000
    filled = [o for work in source.commits for o in work.outputs if isinstance(o, FilledRow)]
    assert len(filled) == len({(o.asset, o.row_ns) for o in filled}) == 4 * 49 * 999


async def test_a_handover_commits_all_processed_records() -> None:
    source = Script([PolledRecords(PUMPS_0, steady(20)), PolledRecords(PUMPS_0, steady(5, 20))])
    loop, _, _ = loop_over(source, stream(), commit_every=timedelta(hours=1))
    found: list[int] = []

    def offsets() -> list[int]:
        return [work.position.offset for work in source.commits]

    async def events() -> AsyncIterator[SourceEvent]:
        yield Assigned(PUMPS_0, 0, 0)
        yield source.polls[0]
        assert offsets() == [0]  # the first commit names the position that it starts at
        yield PolledRecords(InputPartition("", -1), (), handover=True)
        found.extend(offsets())
        yield source.polls[1]
        assert len(source.commits) == 2

    source.events = events  # type: ignore[method-assign]
    await loop.run()
    assert found == [0, 20]


async def test_windows_that_a_model_fails_on_are_counted_and_logged() -> None:
    run = stream()
    run.detector = Fragile(SPEC.sensors)
    records = [line(i, "p1", float(i), 13.0 if i in (8, 9) else 0.5, 0.5) for i in range(20)]
    loop, metrics, _ = loop_over(Script([PolledRecords(PUMPS_0, records)]), run)
    with capture_logs() as logs:
        await loop.run()
    (entry,) = [entry for entry in logs if entry["event"] == "windows_unscored"]
    assert entry["windows"] == 2
    assert b'anomalyd_dropped_total{reason="model_failed",stream="pumps"} 2.0' in metrics.exposition()


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(("last", "open_after"), [(12, 0), (20, 1)])
async def test_episodes_open_at_the_commit_are_on_the_page_after_a_restart(
    last: int, open_after: int, kept: bool
) -> None:
    """Whether it is known from the state, or only from the records that were replayed without one."""
    records = [line(i, "p1", float(i), 50.0 if 10 <= i < last else 0.5, 0.5) for i in range(20)]
    first = Script([PolledRecords(PUMPS_0, records[a:b]) for a, b in ((0, 9), (9, 12), (12, 18), (18, 20))])
    loop, _, before = loop_over(first, stream(), commit_every=timedelta(0))
    await loop.run()
    second = successor_of(first, [])
    if not kept:
        second.saved, second.replay_from = (), 0
    second.polls = [PolledRecords(PUMPS_0, records[second.replay_from :])]
    loop, metrics, now = loop_over(second, stream())
    await loop.run()
    assert len(before.open) == open_after
    assert now.open.keys() == before.open.keys()
    assert outputs_of(second) == []
    text = metrics.exposition().decode()
    assert f'episodes_active{{severity="critical"}} {open_after}.0' in text
    assert f'state_restores_total{{result="ok"}} {kept:d}.0' in text


async def test_drift_sums_of_a_replaced_model_survive_an_idle_successor() -> None:
    def newer() -> StreamRun:
        run = stream()
        run.detector = replace(CentreDetector(SPEC.sensors), version="centre-2")
        return run

    first = Script([PolledRecords(PUMPS_0, steady(40))])
    await loop_over(first, stream())[0].run()
    second = successor_of(first, [])  # nothing comes before it ends
    second.replay_from = second.publish_from
    await loop_over(second, newer())[0].run()
    third = successor_of(second, [PolledRecords(PUMPS_0, steady(45)), PolledRecords(PUMPS_0, (), ended=True)])
    third.replay_from = 0  # no record of an asset was written
    await loop_over(third, newer())[0].run()
    drift = [o for s in (first, second, third) for o in outputs_of(s) if isinstance(o, DriftRecord)]
    assert [(record.model, record.windows) for record in drift] == [("centre-1", 37), ("centre-2", 5)]


async def test_unusable_state_is_logged_and_counted() -> None:
    source = Script([], [StateRecord(b"sensors.pumps\x1f", b"garbage")], 20)
    loop, metrics, _ = loop_over(source, stream())
    with capture_logs() as logs:
        await loop.run()
    assert [entry["event"] for entry in logs].count("state_unusable") == 1
    assert b'anomalyd_state_restores_total{result="failed"} 1.0' in metrics.exposition()


async def test_unusable_records_of_state_are_logged_once_and_counted() -> None:
    source = Script([PolledRecords(PUMPS_0, steady(30))])
    await loop_over(source, stream())[0].run()
    saved = {record.key: record for work in source.commits for record in work.saved}
    saved |= {key: StateRecord(key, b"\xc1") for key in (b"sensors.pumps\x1fp8", b"sensors.pumps\x1fp9")}
    saved[b"sensors.pumps\x1f\xff"] = StateRecord(b"sensors.pumps\x1f\xff", b"")
    position = source.commits[-1].position
    replayed = [PolledRecords(PUMPS_0, steady(30 - position.replay_from, position.replay_from))]
    successor = Script(replayed, tuple(saved.values()), position.offset, position.replay_from)
    loop, metrics, _ = loop_over(successor, stream())
    with capture_logs() as logs:
        await loop.run()
    (unusable,) = [entry for entry in logs if entry["event"] == "state_unusable"]
    assert unusable["records"] == 3
    text = metrics.exposition().decode()
    assert 'anomalyd_state_restores_total{result="unusable"} 3.0' in text
    assert 'anomalyd_state_restores_total{result="ok"} 1.0' in text


async def test_timestamps_without_a_zone_are_logged_once() -> None:
    def local(offset: int) -> Record:
        body = {"asset": "p1", "ts": f"2023-11-14T22:13:{20 + offset}", "values": {"a": 0.5, "b": 0.5}}
        return Record(offset, None, json.dumps(body).encode(), (BASE_S + 10**6) * SECOND_NS)

    async def warnings(zone: str | None) -> int:
        run = StreamRun(StreamPlan(replace(SPEC, timezone=zone)))
        polls = [PolledRecords(PUMPS_0, [local(i)]) for i in range(9)]
        with capture_logs() as logs:
            await loop_over(Script([*polls, PolledRecords(PUMPS_0, (), ended=True)]), run)[0].run()
        return [entry["event"] for entry in logs].count("timestamps_without_zone")

    assert await warnings(None) == 1
    assert await warnings("UTC") == 0


async def test_a_poll_in_flight_is_committed_as_far_as_it_came_when_the_source_closes() -> None:
    """Of 20,000 records; a successor continues there and publishes the rest, once."""
    records = steady(20_000)
    whole = Script([PolledRecords(PUMPS_0, records)])
    await loop_over(whole, stream())[0].run()
    cut = Script([PolledRecords(PUMPS_0, records)], close_after=2)
    await loop_over(cut, stream())[0].run()
    offset = cut.commits[-1].position.offset
    assert 0 < offset < 10_000
    rest = successor_of(cut, [PolledRecords(PUMPS_0, records[cut.commits[-1].position.replay_from :])])
    await loop_over(rest, stream())[0].run()
    assert rest.commits[-1].position.offset == 20_000
    assert list(map(repr, outputs_of(cut) + outputs_of(rest))) == list(map(repr, outputs_of(whole)))


@pytest.mark.parametrize("polls", [[], [PolledRecords(PUMPS_0, steady(20_000))]])
async def test_a_recovery_is_aborted_when_the_source_closes(polls: list[PolledRecords]) -> None:
    """While state is restored, or while records are replayed: nothing of it may be committed."""
    first = Script([PolledRecords(PUMPS_0, steady(20_000))])
    await loop_over(first, stream())[0].run()
    second = successor_of(first, polls)
    second.replay_from, second.close_after = (0, 3) if polls else (second.publish_from, 0)
    loop, _, _ = loop_over(second, stream())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recovery, "RESTORED_AT_ONCE", 1)
        await loop.run()
    assert second.commits == []
    assert second.looked <= 5


async def test_a_fleet_s_state_is_restored_with_pauses() -> None:
    """The most that is done between two beats does not grow with the fleet."""

    async def recovered(assets: int) -> int:
        # The fourth row of each asset opens an episode, so that its state goes with the next commit.
        records = [
            line(i, f"p{i % assets:05}", float(i // assets), 50.0 if i >= 3 * assets else 0.5, 0.5)
            for i in range(4 * assets)
        ]
        first = Script([PolledRecords(PUMPS_0, records), PolledRecords(PUMPS_0, (), ended=True)])
        await loop_over(first, stream())[0].run()
        second = successor_of(first, [])
        second.replay_from = second.publish_from
        assert len(second.saved) > assets
        run, status = stream(), CountingStatus(["pumps"])
        await loop_over(second, run, status=status)[0].run()
        assert len(run.pipelines[PUMPS_0].names) == assets
        return status.beats

    assert await recovered(4_000) > await recovered(400) + 15


async def test_a_fleet_s_state_is_written_with_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit pauses after so many records of state."""

    async def beats(records_per_pause: int) -> int:
        monkeypatch.setattr(committing, "STATES_PER_PAUSE", records_per_pause)
        # The fourth row of each asset opens an episode, so that its state goes with the next commit.
        records = [
            line(i, f"p{i % 400:03}", float(i // 400), 50.0 if i >= 1_200 else 0.5, 0.5) for i in range(1_600)
        ]
        source = Script([PolledRecords(PUMPS_0, records), PolledRecords(PUMPS_0, (), ended=True)])
        status = CountingStatus(["pumps"])
        await loop_over(source, stream(), status=status)[0].run()
        return status.beats

    # Half of what it adds: where the machine is slow, a pass without pauses of its own has some that are due by time.
    assert await beats(10) >= await beats(1 << 30) + 400 // 20


async def test_a_start_that_waits_for_the_registry_beats_and_can_be_ended() -> None:
    class Away(FailingRegistry):
        async def promoted(self, stream: str) -> bytes | None:
            await asyncio.Event().wait()
            raise AssertionError

    source = Script([], close_after=3)
    status = CountingStatus(["pumps"])
    loop, _, _ = loop_over(source, stream(), Away(), status)
    await loop.run()
    assert status.beats > 0
    assert source.commits == []


async def test_an_asset_in_two_partitions_is_logged_once_per_stream() -> None:
    """Also where it comes to the second one late, among others that are in one alone."""
    other = InputPartition("sensors.pumps", 1)

    async def logged(second: list[Record]) -> list[str]:
        polls = [
            PolledRecords(PUMPS_0, steady(20)),
            PolledRecords(other, [line(i, "p2", float(i), 0.5, 0.5) for i in range(20)]),
        ]
        polls += [PolledRecords(other, [record]) for record in second]
        source = Script(polls)

        async def events() -> AsyncIterator[SourceEvent]:
            yield Assigned(PUMPS_0, 0, 0)
            yield Assigned(other, 0, 0)
            for poll in polls:
                yield poll

        source.events = events  # type: ignore[method-assign]
        loop, _, _ = loop_over(source, stream())
        with capture_logs() as logs:
            await loop.run()
        return [entry["rule"] for entry in logs if entry["event"] == "asset_in_several_partitions"]

    late = [line(20 + i, ("p2", "p1", "p3", "p1")[i], 20.0 + i, 0.5, 0.5) for i in range(4)]
    (rule,) = await logged(late)
    assert rule.startswith("asset p1 comes in partitions 0 and 1: the rows of an asset must come in one")
    assert await logged([late[0], late[2]]) == []
