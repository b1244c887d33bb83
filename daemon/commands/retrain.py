"""``anomalyd retrain``: ask the running daemon to train a stream's model now.

In: the settings, and who asks why. Out: a ``RetrainRequest`` in ``<prefix>.feedback``; whichever replica trains takes it
up, and its decision on ``<prefix>.retrain`` names it. That a daemon has it shows in its state: each input partition keeps up to
where it has taken control messages, also one without input. The broker's list of the group's members tells less: one with
``kafka.instance_id`` stays in it for 45 s after it has stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from daemon.adapters.kafka import SESSION_S, KafkaSettings, Log, group_members
from daemon.adapters.kafka.control_topic import feedback_topic, send
from daemon.commands.inputs import chosen_stream
from daemon.commands.wiring import kafka_settings
from daemon.config import Settings
from daemon.control import RetrainRequest, checked
from daemon.domain import InputPartition, Record, StreamSpec
from daemon.errors import DaemonError, UsageError
from daemon.stream import snapshot

WAIT_S = 10.0
"""For a daemon to have the request: it reads control messages each second, and commits each half."""
_LOOK_S = 0.5
"""Between two looks."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was written."""

    stream: str
    taken: bool | None  # a daemon has it; None: nobody can tell
    notes: Sequence[str] = field(default=())


async def request_training(settings: Settings, stream: str | None, reason: str, by: str) -> Asked:
    """Write the request, and wait some seconds for a daemon to have it.

    Args:
        settings: the configuration.
        stream: whose model; None: of the only stream.
        reason, by: why, and who asks.

    Raises:
        UsageError: no such stream, or the reason is too long.
        DaemonError: the topic cannot be written.
    """
    section = chosen_stream(settings, stream)
    name, spec = section.name, section.spec(settings.schema_registry.address())
    try:
        request = checked(RetrainRequest(name, reason, by))
    except ValueError as error:
        raise UsageError(str(error)) from error
    connection, prefix = kafka_settings(settings), settings.outputs.prefix
    told = feedback_topic(prefix).name
    state, before = f"{prefix}.state", None
    with contextlib.suppress(DaemonError):  # without it the request can be written all the same
        before = await _ends(connection, [state, told])
    await send(connection, prefix, request)
    waits = f"the request waits in {told} for the next one"
    with contextlib.suppress(DaemonError):  # the request is written: that is no failure
        members = await group_members(connection)
        if members == 0:
            return Asked(name, False, [f"no daemon of the group {connection.group_id} runs now: {waits}"])
        if before is None:
            return Asked(name, None)
        position = before[InputPartition(told, 0)]
        if await _is_taken(connection, {p: n for p, n in before.items() if p.topic == state}, spec, position):
            return Asked(name, True)
        listed = (
            "" if members is None else f" The broker lists {members} of the group {connection.group_id}, but"
        )
        return Asked(
            name,
            False,
            [
                f"no daemon has taken the request within {WAIT_S:.0f} s.{listed or ' Note that'} one that has"
                f" kafka.instance_id stays listed for {SESSION_S:.0f} s after it has stopped; if none runs, {waits}"
            ],
        )
    return Asked(name, None)


async def _ends(connection: KafkaSettings, topics: Sequence[str]) -> dict[InputPartition, int]:
    """The offset after the last record of each partition of some topics."""
    async with Log.opened(connection, topics) as log:
        return dict(log.ends)


async def _is_taken(
    connection: KafkaSettings, since: Mapping[InputPartition, int], spec: StreamSpec, position: int
) -> bool:
    """Whether a record of state says, within ``WAIT_S``, that a control message was taken.

    Args:
        connection: to the broker.
        since: offsets of the state topic; older records were there before.
        spec: whose state.
        position: of the message, or before it.
    """
    topic = next(iter(since)).topic
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WAIT_S):
            while True:
                async with Log.opened(connection, [topic]) as log:
                    async for piece in log.pieces(since, log.ends):
                        if any(says_taken(record, spec, position) for record in piece.records):
                            return True
                    since = dict(log.ends)
                await asyncio.sleep(_LOOK_S)
    return False


def says_taken(record: Record, spec: StreamSpec, position: int) -> bool:
    """Whether a record of the state topic is that of a partition of the stream which has taken the control message at a position."""
    if record.key not in [snapshot.key(topic) for topic in spec.topics] or not record.value:
        return False
    state = snapshot.decode_partition(record.value, snapshot.layout(spec))
    # Of a daemon with another configuration it is not known which it has taken, but it runs.
    return state.controlled > position if isinstance(state, snapshot.PartitionState) else True
