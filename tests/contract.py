"""The contract of every Source and every Sink, whatever the implementation.

The tests of an implementation construct it and pass it to these checks; the loop relies on what they check. Waits
have a deadline, so that a broken source fails instead of hanging.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from daemon.adapters.ports import Sink, Source
from daemon.domain import (
    AlertEvent,
    AlertKind,
    Assigned,
    DeadLetter,
    DriftRecord,
    FilledCell,
    FilledRow,
    InputPartition,
    Output,
    PartitionCommit,
    Phase,
    PolledRecords,
    Position,
    Reading,
    Reason,
    Record,
    Rejected,
    Revoked,
    ScoredRow,
    Severity,
    SourceEvent,
)
from daemon.stream.encoding import Encoded

DEADLINE_S = 60.0


# ------------------------------------------------------------------ sources
@dataclass
class EventLog:
    """The events of a source, partition by partition."""

    assigned: dict[InputPartition, Assigned] = field(default_factory=dict)
    items: dict[InputPartition, list[Record | Reading]] = field(default_factory=dict)
    ended: set[InputPartition] = field(default_factory=set)
    beats: int = 0  # events without items

    def record(self, event: SourceEvent) -> None:
        """Record one event, and refuse what no source may emit."""
        partition = event.partition
        match event:
            case Assigned():
                assert partition not in self.assigned, f"{partition} was assigned twice"
                assert 0 <= event.replay_from <= event.publish_from
                self.assigned[partition] = event
                self.items[partition] = []
            case Revoked():
                assert partition in self.assigned, f"{partition} was revoked, but never assigned"
                del self.assigned[partition]
            case PolledRecords():
                self.beats += not event.items
                assert event.idle >= timedelta(0)
                if not event.items and partition not in self.assigned:
                    assert not event.ended  # an empty event while no partition is ours
                    return
                assert partition in self.assigned, f"{partition} emitted before it was assigned"
                assert partition not in self.ended, f"{partition} emitted after its end"
                self._items(partition, event)

    def _items(self, partition: InputPartition, event: PolledRecords) -> None:
        known = self.items[partition]
        last = known[-1].offset if known else self.assigned[partition].replay_from - 1
        for item in event.items:
            assert item.offset > last, f"{partition}: offset {item.offset} after {last}"
            last = item.offset
            known.append(item)
        assert event.end_offset is None or event.end_offset > last or not event.items
        assert event.idle == timedelta(0) or not event.items, "idle, and records came"
        if event.ended:
            self.ended.add(partition)

    def count(self) -> int:
        return sum(map(len, self.items.values()))

    def offsets(self) -> dict[InputPartition, list[int]]:
        return {partition: [item.offset for item in items] for partition, items in self.items.items()}


async def following(events: AsyncIterator[SourceEvent]) -> SourceEvent | None:
    """The next event; None at the end."""
    async with asyncio.timeout(DEADLINE_S):
        return await anext(events, None)


async def observe(source: Source, until: Callable[[EventLog], bool]) -> EventLog:
    """Pull until ``until`` holds or the source ends, then close it and check that it ends."""
    seen = EventLog()
    events = source.events()
    while not until(seen):
        event = await following(events)
        if event is None:
            return seen
        seen.record(event)
    source.close()
    source.close()
    # Records of a poll that is done may still arrive, a partition at a time; nothing newer.
    emitted: set[InputPartition] = set()
    while (event := await following(events)) is not None:
        seen.record(event)
        if isinstance(event, PolledRecords) and event.items:
            assert event.partition not in emitted, f"{event.partition} was read on after the close"
            emitted.add(event.partition)
    return seen


async def check_finite(make: Callable[[], Source], expected: Mapping[InputPartition, Sequence[int]]) -> None:
    """A source whose log has an end: all of it, in order, then ``ended``, then it stops by itself."""
    seen = await observe(make(), until=lambda seen: False)
    assert seen.offsets() == {partition: list(offsets) for partition, offsets in expected.items()}
    assert seen.ended == set(expected)
    await check_close(make)


async def check_endless(make: Callable[[], Source], expected: Mapping[InputPartition, Sequence[int]]) -> None:
    """A source without an end: all records, in order, then empty events from time to time."""
    wanted = sum(map(len, expected.values()))

    def all_and_three_empty_events(seen: EventLog) -> bool:
        if seen.count() < wanted:
            seen.beats = 0
        return seen.beats >= 3 and set(seen.assigned) == set(expected)

    seen = await observe(make(), until=all_and_three_empty_events)
    assert seen.offsets() == {partition: list(offsets) for partition, offsets in expected.items()}
    assert not seen.ended
    await check_close(make)


async def check_close(make: Callable[[], Source]) -> None:
    """Closing ends it: before the first event, after the first, and twice."""
    unused = make()
    unused.close()
    seen = await observe(unused, until=lambda seen: False)
    assert seen.count() == 0, "records came though it was closed before it began"
    await observe(make(), until=lambda seen: bool(seen.assigned))


async def check_commit(
    make: Callable[[], Source],
    at: Mapping[InputPartition, Position],
    stop: Callable[[Source], Awaitable[None]] | None = None,
) -> None:
    """The next source of a group goes on from what the one before has committed.

    Args:
        make: a source of one and the same group, each time; its log has records in every
            partition of ``at``.
        at: what to commit; ``replay_from`` lies before ``offset`` somewhere, or little is tested.
        stop: what leaves the group, besides ``close``.
    """
    first = make()
    seen = EventLog()
    events = first.events()
    while set(seen.assigned) != set(at) or any(not items for items in seen.items.values()):
        event = await following(events)
        assert event is not None, "ended before every partition had emitted"
        seen.record(event)
    await first.commit({partition: PartitionCommit(position) for partition, position in at.items()})
    first.close()
    while await following(events) is not None:
        pass
    if stop is not None:
        await stop(first)

    second = make()
    seen = await observe(second, until=lambda seen: all(seen.items.get(partition) for partition in at))
    for partition, position in at.items():
        assigned = seen.assigned[partition]
        assert (assigned.replay_from, assigned.publish_from) == (position.replay_from, position.offset)
        assert seen.items[partition][0].offset == position.replay_from
    if stop is not None:
        await stop(second)


# ------------------------------------------------------------------ sinks
PARTITION = InputPartition("sensors.pumps", 0)
_MINUTE_NS = 60_000_000_000


def one_of_each() -> list[Output]:
    """Every kind of output once."""
    row_ns = 28_400_000 * _MINUTE_NS
    record = Record(3, b"\xffkey", b"\xff\x00not JSON", row_ns)
    return [
        ScoredRow("pumps", "a", row_ns, math.nan, 1.0, 2.0, 3.0, -4.0, False, "m1"),
        FilledRow("pumps", "a", row_ns, {"Flow": FilledCell(1.0, 0.5, 1.5)}, "mlp", "m1"),
        AlertEvent(
            stream="pumps",
            asset="a",
            kind=AlertKind.ANOMALY,
            phase=Phase.OPENED,
            severity=Severity.WARNING,
            fingerprint="f",
            id="f-opened",
            row_ns=row_ns,
            onset_ns=row_ns,
            opened_ns=row_ns,
            model="m1",
            calibration="full",
            summary="Flow is high",
            partition=PARTITION,
        ),
        DriftRecord(
            "pumps",
            PARTITION,
            row_ns,
            row_ns + 60 * _MINUTE_NS,
            "m1",
            windows=1,
            latent_sum=(1.0,),
            latent_square_sum=(1.0,),
            residual_count=(1,),
            residual_sum=(1.0,),
            residual_square_sum=(1.0,),
            kl_sum=1.0,
            latent_kl=(0.1,),
            residual_kl=(0.1,),
            latent_threshold=1.0,
            residual_threshold=1.0,
            verdict="ok",
        ),
        DeadLetter("pumps", PARTITION, Rejected(record, Reason.NOT_UTF8, "byte 0 is not UTF-8")),
    ]


async def check_messages(
    sink: Sink,
    prefix: str,
    encode: Callable[[Output], Encoded],
    read: Callable[[str], Awaitable[Sequence[tuple[bytes | None, bytes, Mapping[str, bytes]]]]],
) -> None:
    """A sink that writes messages: each is in its topic, whole and in order, once ``publish`` returns.

    Args:
        sink: under test; its topics are empty or absent.
        prefix: of its topics.
        encode: makes its messages, with a fixed time.
        read: a topic's messages: key, value, headers.
    """
    await sink.publish([])
    outputs = one_of_each()
    more = [ScoredRow("pumps", "a", i * _MINUTE_NS, i, 0, 0, 0, 0, True, "m1") for i in range(50)]
    await sink.publish(outputs)
    await sink.publish(more)
    wanted: dict[str, list[tuple[bytes | None, bytes, Mapping[str, bytes]]]] = {}
    for output in [*outputs, *more]:
        message = encode(output)
        entry = (message.key, message.value, dict(message.headers))
        wanted.setdefault(f"{prefix}.{message.topic}", []).append(entry)
    assert len(wanted) == 5
    for topic, messages in wanted.items():
        assert list(await read(topic)) == messages
