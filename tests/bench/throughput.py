"""What a record costs: the bare limit beside the daemon end to end, on a real Apache Kafka."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.reporting import Section
from tests.bench.workload import Workload
from tests.broker import Broker, produce
from tests.running import Daemon, make_topic, unique

TICKS = os.sysconf("SC_CLK_TCK")
CASES = ((8, 1), (8, 8), (38, 1), (38, 8))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def limit(bootstrap: str, topic: str, records: int, names: tuple[str, ...]) -> float:
    """CPU microseconds per record of consuming and decoding alone."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.limit", bootstrap, topic, str(records), *names],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found = json.loads(done.stdout)
    return 1e6 * found["cpu_s"] / found["records"]


def measure(quick: bool) -> list[Section]:
    """CPU per record and records per second, by number of sensors and hop; window 16, no scores topic."""
    section = Section(
        "throughput",
        "End to end on Kafka: wide JSON, window 16, 64 assets, one process",
        ("sensors", "hop", "records", "limit us", "daemon us", "ratio", "records/s"),
    )
    records = 10_000 if quick else 40_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Broker(folder / "kafka")
        broker.start()
        try:
            for sensors, hop in CASES:
                work = Workload(sensors)
                topic = unique("bench")
                make_topic(broker.bootstrap, topic)
                model = folder / f"model-{sensors}"
                if not model.exists():
                    work.bundle(model)
                config = work.config(broker.bootstrap, topic, unique("out"), unique("group"), hop=hop)
                rows = records // work.assets
                total = rows * work.assets
                with Daemon(folder / topic, config, "--model", model) as daemon:
                    daemon.until(lambda s: s["state"] == "live")
                    assert daemon.process is not None
                    before, began = cpu_seconds(daemon.process.pid), time.perf_counter()
                    asyncio.run(produce(broker.bootstrap, topic, work.lines(rows)))
                    daemon.until(lambda s, n=total: sum(s["records"].values()) == n, 600)
                    wall = time.perf_counter() - began
                    ours = 1e6 * (cpu_seconds(daemon.process.pid) - before) / total
                    daemon.stop()
                bare = limit(broker.bootstrap, topic, total, work.names)
                section.add(sensors, hop, total, bare, ours, ours / bare, total / wall)
        finally:
            broker.stop()
    section.notes.append(
        "us: CPU microseconds of the process per record. The producer shares the machine, so read the ratio."
    )
    return [section]
