"""Synthetic rows sent to a topic, at a rate, as they are made.

In: ``SyntheticRows`` and a ``TopicTarget``. Out: ``Generated``. Messages are sent in batches of about 50 ms; between
them the rate is kept by the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from daemon.adapters.kafka import KafkaSettings, Message, Writer, check_topics
from daemon.commands.generate.messages import JSON_WIDE, MessageLayout, messages
from daemon.commands.generate.request import Generated, total_rows
from daemon.commands.generate.rows import SyntheticRows
from daemon.commands.inputs import no_progress
from daemon.domain import SYNTHETIC, Format, Progress

BEAT_S = 0.05
"""Seconds between two batches to a topic: short against a second, long against a request."""
Send = Callable[[Sequence[Message]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class TopicTarget:
    """Where messages are sent, and how."""

    topic: str  # must exist
    settings: KafkaSettings
    rate: float | None = None  # rows a second, by the clock: a delay is caught up on. None: no limit
    layout: MessageLayout = JSON_WIDE


async def write_topic(
    made: SyntheticRows, target: TopicTarget, *, send: Send | None = None, progress: Progress = no_progress
) -> Generated:
    """Send the rows to a topic, keyed by asset, at a rate, as they are made.

    Args:
        made: the rows.
        target: the topic.
        send: takes the messages instead of Kafka.
        progress: see ``inputs.Progress``.

    Raises:
        InputError: no such topic.
        BrokerError: no broker at the start, or a refusal. A broker that goes away later is waited for.
    """
    topic, settings, rate = target.topic, target.settings, target.rate
    if send is None:
        await check_topics(settings, [topic])
    headers = ((SYNTHETIC, b"true"), ("model", made.bundle.version.encode()))
    total = total_rows(made.request)
    writer = Writer(settings) if send is None else None
    deliver = writer.write if writer is not None else send
    assert deliver is not None
    each = rows_per_beat(rate)
    begun = time.monotonic()
    sent = 0.0
    try:
        for rows, batch in _batches(messages(made, target.layout, total), each, target.layout.format, made):
            await deliver([Message(topic, asset, value, headers) for asset, value in batch])
            sent += rows
            now = sent / max(time.monotonic() - begun, 1e-9)
            progress(min(sent / total, 1.0), f"sending: {sent:,.0f} rows, {now:,.0f} a second")
            if rate is not None and (ahead := sent / rate - (time.monotonic() - begun)) > 0:
                await asyncio.sleep(ahead)
    finally:
        if writer is not None:
            await writer.stop()
    seconds = time.monotonic() - begun
    notes = made.notes
    if rate is not None and total / max(seconds, 1e-9) < 0.95 * rate and total > rate:
        notes.append(
            f"{total / seconds:,.0f} rows a second were reached, not {rate:,.0f}: fewer sensors or json-wide cost less"
        )
    return Generated(total, made.truth, seconds, total / max(seconds, 1e-9), notes)


def rows_per_beat(rate: float | None) -> int:
    """Rows that are sent to the broker together."""
    return 1_000 if rate is None else max(min(round(rate * BEAT_S), 1_000), 1)


def _batches(
    each: Iterable[tuple[bytes, bytes]], size: int, format: Format, made: SyntheticRows
) -> Iterator[tuple[float, list[tuple[bytes, bytes]]]]:
    """(rows, messages); of json-long as many messages as these rows have readings."""
    per_row = 1 if format is Format.JSON_WIDE else max(sum(made.arriving.seen), 1)
    batch: list[tuple[bytes, bytes]] = []
    for message in each:
        batch.append(message)
        if len(batch) >= size * per_row:
            yield len(batch) / per_row, batch
            batch = []
    if batch:
        yield len(batch) / per_row, batch
