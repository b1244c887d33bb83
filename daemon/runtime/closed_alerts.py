"""The alerts that had closed when a process began, read from the alerts topic, so that a restart does not empty the page.

In: the end of the topic, as replicas published it. Out: events for ``Status.closed_alerts``. The page is no reason to wait: a topic that does not
answer soon is left unread, and a line of the log says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

import structlog

from daemon.adapters.kafka import KafkaSettings, newest_records
from daemon.adapters.telemetry import Status
from daemon.alert import Phase
from daemon.domain import AlertEvent
from daemon.errors import DaemonError
from daemon.stream.alert_decoding import read_alert_event
from daemon.stream.encoding import ALERTS

log = structlog.get_logger()

NEWEST = 2_000
"""Messages that are read, of each partition and in all; of these the page shows some that closed an alert."""
LONGEST = 1 << 16
"""Bytes of a message: those of hundreds of sensors."""
READ_S = 5.0


async def recall_closed_alerts(settings: KafkaSettings, prefix: str, status: Status) -> None:
    """Let the page show the alerts of its streams that had closed.

    Args:
        settings: the connection; its group is not used.
        prefix: of the topic.
        status: of the page.
    """
    try:
        async with asyncio.timeout(READ_S):
            records, _ = await newest_records(settings, f"{prefix}.{ALERTS}", NEWEST, LONGEST)
    except TimeoutError:
        log.warning("closed_alerts_unread", reason=f"the alerts topic was not read within {READ_S:.0f} s")
    except (DaemonError, OSError) as error:
        log.warning("closed_alerts_unread", reason=str(error) or repr(error))
    else:
        status.closed_alerts(closed_of([record.value for record in records], status.streams))


def closed_of(messages: Iterable[bytes], streams: Collection[str]) -> list[AlertEvent]:
    """The last messages of alerts of these streams, as far as they closed them, in their order.

    What cannot be read is passed over: anybody may write to the topic.
    """
    last: dict[str, AlertEvent] = {}
    for message in messages:
        try:
            event = read_alert_event(message)
        except ValueError:
            continue
        last.pop(event.fingerprint, None)
        last[event.fingerprint] = event
    return [event for event in last.values() if event.phase is Phase.CLOSED and event.stream in streams]
