"""How long a daemon that was killed under load takes until it judges new records again.

One partition, a thousand assets with full windows, far more input in the topic than was read.
``kill -9``, and at once the same command again, with the same ``instance_id`` as a pod has that comes
back: without one the group waits for the dead member's session to end (45 s), which is Kafka's time and
not ours. From the log and the page:

- import: from the command to its first log line (Python, torch, the model);
- connect: to ``partition_assigned`` (broker, topics, group, the saved state is read);
- replay: to the first look at which a *new* record was processed: saved state is restored, records from
  ``replay_from`` to the committed offset were replayed silently. Looks are 20 ms apart, so that this
  is a little too long, never too short;
- live: from the command until the page says so.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from tests.bench.reporting import Section
from tests.bench.stage import Stage, processed, stage
from tests.bench.workload import Workload
from tests.running import Daemon, unique

FLEET = Workload(8, assets=1_000, window=32)
LOOK_S = 0.02
WITHIN_S = 180.0
TARGET_S = 5.0
BETWEEN_KILLS = 10_000  # records


@dataclass(frozen=True, slots=True)
class Restart:
    """What one restart took, in seconds, and how much was replayed."""

    import_s: float
    connect_s: float
    replay_s: float
    live_s: float
    replayed: int


def instant_s(event: dict[str, Any]) -> float:
    """When a log line was written, epoch seconds."""
    return float(np.datetime64(event["timestamp"].rstrip("Z"), "us").astype(np.int64)) / 1e6


def restarted(daemon: Daemon) -> Restart:
    """Start a daemon that was killed, and watch it come back."""
    lines_before = len(daemon.events())
    began = time.time()
    daemon.start()
    live: float | None = None
    while True:
        state = daemon.stream()
        now = time.time()
        if state and live is None and state["state"] == "live":
            live = now
        if state and processed(state) > 0:
            break
        if now - began > WITHIN_S:
            raise AssertionError(f"no new record within {WITHIN_S} s: {daemon.tail()}")
        time.sleep(LOOK_S)  # polling another process
    lines = daemon.events()[lines_before:]
    first = instant_s(lines[0])
    assigned = next(line for line in lines if line.get("event") == "partition_assigned")
    at = instant_s(assigned)
    assert live is not None
    return Restart(
        first - began, at - first, now - at, live - began, assigned["resume_at"] - assigned["replay_from"]
    )


async def committed(bootstrap: str, group: str, topic: str) -> int:
    """The group's position in the topic's only partition; -1 where there is none."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        only = TopicPartition(topic, 0)
        found = await admin.list_consumer_group_offsets(group, partitions=[only])
        return found[only].offset if only in found else -1
    finally:
        await admin.close()


def kills(on: Stage, delivery: str, topic: str, times: int) -> list[Restart]:
    """Kill one daemon so often while it works through a topic; windows are full, and committed so."""
    kafka, group = {"delivery": delivery, "instance_id": "bench-0"}, unique("group")
    full = FLEET.window * FLEET.assets
    found = []
    with on.daemon(FLEET, topic, group=group, kafka=kafka) as daemon:
        daemon.until(lambda s: processed(s) >= full, 600)
        daemon.until(lambda _: asyncio.run(committed(on.bootstrap, group, topic)) >= full)
        for _ in range(times):
            daemon.stop(signal.SIGKILL)
            found.append(restarted(daemon))
            daemon.until(lambda s: processed(s) >= BETWEEN_KILLS)
    return found


def measure(quick: bool) -> Iterator[Section]:
    """One table, by delivery."""
    section = Section(
        "recovery",
        "kill -9 under load, and again: one partition, 1,000 assets, 8 sensors, window 32, hop 1",
        (
            *("delivery", "kills", "most replayed", "import s", "connect s", "replay s"),
            *("connect + replay s", "target", "worst", "live again s"),
        ),
    )
    with stage() as on:
        topic = on.full_topic(FLEET, 200 if quick else 300, 1)
        for delivery in ("exactly_once", "at_least_once"):
            found = kills(on, delivery, topic, 1 if quick else 3)
            ready = [one.connect_s + one.replay_s for one in found]
            section.add(
                *(delivery, len(found), max(one.replayed for one in found)),
                *(median(one.import_s for one in found), median(one.connect_s for one in found)),
                *(median(one.replay_s for one in found), median(ready), TARGET_S, max(ready)),
                median(one.live_s for one in found),
            )
    section.notes.append(
        "medians; replayed: records read again silently, between none and 200,000, for state is written in"
        " turns; the target is of connect + replay, without import;"
        " live again: from the command."
    )
    yield section
