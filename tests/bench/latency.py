"""How long after its record was appended an alert can be read, without and with a training beside it.

One process here writes rows at a steady pace and reads the alerts topic, ``read_committed``, as a
pager would. Each of half the assets shows a fault every few seconds: one sensor, a few rows, eight
standard deviations. An episode that opens names the offset of the row that did it. The broker
stamps what it appends (``LogAppendTime``), so that a delay counts from the append of that very
record: to the alert message's own timestamp (written), and to its receipt by the reader's wall
clock (seen). All clocks are of one machine.

Windows are full and the daemon is warm before the pace begins. What an alert of exactly-once waits
for is the next commit, up to 500 ms away.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from daemon.domain import Floats
from tests.bench.reporting import Section
from tests.bench.stage import Stage, processed, stage
from tests.bench.workload import Workload
from tests.broker import create_topic, produce
from tests.running import Daemon, unique

WORK = Workload(8, window=32)
CALM_ROWS = 256
"""Rows of each asset that come before the pace: windows to fill, and something to learn from."""
FAULT_ROWS = 3
FAULT_SD = 8.0
TICK_S = 0.01
AFTERWARDS_S = 3.0
"""How long the reader waits for alerts after the last row."""
COMMIT_MS = 500.0
TARGETS_MS = {"at_least_once": 250.0, "exactly_once": COMMIT_MS + 250.0}
SLOWER, SLOWER_MS = 0.20, 50.0
"""What a training may add to the 99th percentile: a share or a time, whichever is more."""

Origin = tuple[int, int]  # partition, offset


@dataclass(frozen=True, slots=True)
class Seen:
    """An alert that opened: when it was written and when it was read, epoch ms."""

    origin: Origin  # of the record that caused it
    written_ms: float
    read_ms: float


@dataclass(slots=True)
class Watched:
    """What one paced run gave."""

    rows_per_s: float = 0.0
    appended_ms: dict[Origin, float] = field(default_factory=dict)
    alerts: list[Seen] = field(default_factory=list)
    training: float = 0.0  # share of the paced time in which a training ran
    trainings: int = 0

    def delays(self) -> tuple[Floats, Floats]:
        """Milliseconds from append (to written, to read), of alerts whose record was paced."""
        told = [(a, self.appended_ms[a.origin]) for a in self.alerts if a.origin in self.appended_ms]
        written = np.array([alert.written_ms - since for alert, since in told])
        return written, np.array([alert.read_ms - since for alert, since in told])


def faulty(values: Floats, every: int) -> Floats:
    """A copy in which each of half the assets shows a fault once in ``every`` rows.

    Args:
        values: (rows, assets, C).
        every: rows between two faults of an asset, after ``CALM_ROWS``.
    """
    rng = np.random.default_rng(1)
    rows, assets, sensors = values.shape
    result, spread = values.copy(), values.std((0, 1))
    for asset in range(0, assets, 2):
        for row in range(CALM_ROWS + int(rng.integers(every)), rows, every):
            sensor = int(rng.integers(sensors))
            result[row : row + FAULT_ROWS, asset, sensor] += FAULT_SD * spread[sensor]
    return result


# ------------------------------------------------------------------ both ends
async def paced(
    bootstrap: str, topic: str, lines: Sequence[tuple[bytes, bytes]], per_s: int, into: Watched
) -> None:
    """Write the lines at a pace, and remember when each was appended."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
    await producer.start()
    try:
        sent: list[asyncio.Future[RecordMetadata]] = []
        began = time.perf_counter()
        while len(sent) < len(lines):
            due = int((time.perf_counter() - began) * per_s)
            for key, value in lines[len(sent) : due]:
                sent.append(await producer.send(topic, value, key=key))
            await asyncio.sleep(TICK_S)
        into.rows_per_s = len(sent) / (time.perf_counter() - began)
        for done in await asyncio.gather(*sent):
            into.appended_ms[done.partition, done.offset] = float(done.timestamp)
    finally:
        await producer.stop()


def opened(message: dict[str, Any]) -> Origin | None:
    """The record that opened an anomaly; None for any other message."""
    data = message["data"]
    if data["kind"] != "anomaly" or not message["type"].endswith(".opened.v1"):
        return None
    return data["origin"]["partition"], data["origin"]["last_offset"]


async def read(bootstrap: str, topic: str, into: Watched) -> None:
    """Take in alerts until cancelled."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        while True:
            batches = await consumer.getmany(timeout_ms=1_000)
            now_ms = 1e3 * time.time()
            for batch in batches.values():
                for record in batch:
                    origin = opened(json.loads(record.value))
                    if origin is not None:
                        into.alerts.append(Seen(origin, float(record.timestamp), now_ms))
    finally:
        await consumer.stop()


async def flow(
    bootstrap: str, topic: str, alerts: str, lines: Sequence[tuple[bytes, bytes]], per_s: int
) -> Watched:
    """Write and read at once."""
    found = Watched()
    reading = asyncio.create_task(read(bootstrap, alerts, found))
    try:
        await paced(bootstrap, topic, lines, per_s, found)
        await asyncio.wait({reading}, timeout=AFTERWARDS_S)
    finally:
        reading.cancel()
        await asyncio.wait({reading})
    if not reading.cancelled() and (error := reading.exception()) is not None:
        raise error
    return found


# ------------------------------------------------------------------ one run
def trained(daemon: Daemon, since: float, until: float) -> tuple[int, float]:
    """(trainings that ran, share of the time between two instants in which one did)."""
    began: float | None = None
    spans: list[tuple[float, float]] = []
    for event in daemon.events():
        at = float(np.datetime64(str(event["timestamp"]).rstrip("Z"), "us").astype(np.int64)) / 1e6
        if event.get("event") == "training_started":
            began = at
        elif began is not None and event.get("event") in ("model_promoted", "model_refused"):
            spans.append((began, at))
            began = None
    if began is not None:
        spans.append((began, until))
    shares = [max(0.0, min(b, until) - max(a, since)) / (until - since) for a, b in spans]
    return sum(share > 0 for share in shares), sum(shares)


def watch(on: Stage, delivery: str, per_s: int, seconds: float, retrain: dict[str, Any]) -> Watched:
    """One daemon under a steady flow."""
    work, topic, prefix = WORK, unique("bench"), unique("out")
    rows = CALM_ROWS + int(per_s * seconds) // work.assets
    every = max(3 * work.window, per_s // 20)
    lines = list(work.written(faulty(work.values(rows), every)))
    calm, rest = lines[: CALM_ROWS * work.assets], lines[CALM_ROWS * work.assets :]
    stamped = {"message.timestamp.type": "LogAppendTime"}
    asyncio.run(create_topic(on.bootstrap, topic, 1, stamped))
    kafka = {"delivery": delivery, "commit_interval": f"{COMMIT_MS:.0f}ms"}
    with on.daemon(work, topic, prefix=prefix, kafka=kafka, retrain=retrain) as daemon:
        daemon.until(lambda s: s["state"] == "live")
        asyncio.run(produce(on.bootstrap, topic, calm))
        daemon.until(lambda s: processed(s) == len(calm))
        began = time.time()
        found = asyncio.run(flow(on.bootstrap, topic, f"{prefix}.alerts", rest, per_s))
        found.trainings, found.training = trained(daemon, began, time.time() - AFTERWARDS_S)
        daemon.until(lambda s: processed(s) == len(lines))
        daemon.stop()
    return found


def percentiles(delays: Floats) -> list[float]:
    """Its 50th, 95th and 99th; NaN where there is none."""
    return [float(p) for p in np.percentile(delays, [50, 95, 99])] if len(delays) else [float("nan")] * 3


# ------------------------------------------------------------------ tables
def by_delivery(on: Stage, per_s: int, seconds: float) -> Section:
    """Both deliveries without a training."""
    section = Section(
        "latency",
        f"From a record's append to its alert: 8 sensors, 64 assets, window 32, hop 1, {per_s:,} rows/s wanted",
        (
            *("delivery", "rows/s", "alerts", "written p50 ms", "p95 ms", "p99 ms"),
            *("seen p50 ms", "seen p95 ms", "seen p99 ms", "target p99 ms"),
        ),
    )
    for delivery, target in TARGETS_MS.items():
        found = watch(on, delivery, per_s, seconds, {"every": None})
        written, seen = map(percentiles, found.delays())
        section.add(delivery, found.rows_per_s, len(found.delays()[1]), *written, *seen, target)
    section.notes.append(
        "written: the alert message's own timestamp; seen: received by a read_committed consumer."
        f" Commits every {COMMIT_MS:.0f} ms; targets are of what is seen."
    )
    return section


def retraining(on: Stage, per_s: int, seconds: float) -> Section:
    """Each delivery without a training, then with one after the other."""
    section = Section(
        "latency-retraining",
        f"The same while a model is trained: {per_s:,} rows/s wanted",
        (
            "delivery",
            "trainings",
            "time in training",
            "alerts",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "target p99 ms",
        ),
    )
    for delivery in TARGETS_MS:
        most: float | None = None
        for retrain in ({"every": None}, {"every": "1m", "rows": 20_000}):
            found = watch(on, delivery, per_s, seconds, retrain)
            _, seen = found.delays()
            p50, p95, p99 = percentiles(seen)
            section.add(delivery, found.trainings, found.training, len(seen), p50, p95, p99, most)
            most = max(p99 * (1 + SLOWER), p99 + SLOWER_MS)
    section.notes.append(
        "ms: append to receipt. A training begins where the last has ended: event time runs"
        f" {per_s / WORK.assets:.0f} times as fast as the clock. target: 20 % or 50 ms over the run without."
    )
    return section


def measure(quick: bool) -> Iterator[Section]:
    """Both tables."""
    with stage() as on:
        yield by_delivery(on, 5_000, 8.0 if quick else 30.0)
        yield retraining(on, 2_000, 20.0 if quick else 60.0)
