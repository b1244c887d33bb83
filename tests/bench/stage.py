"""What every measurement of speed stands on: a broker of its own, models, full topics, daemons under watch.

CPU is the process's user and system time from ``/proc``, in ticks of 10 ms, so it must be taken
over a second or more. It is read while the daemon already works on a topic that was full before:
neither start-up nor the producer is in it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.workload import Workload
from tests.broker import Broker, produce
from tests.running import Daemon, make_topic, unique

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Stage:
    """A broker that runs, and a folder for what daemons need."""

    folder: Path
    bootstrap: str

    def model(self, work: Workload) -> Path:
        """A bundle for this workload, trained when it is first asked for."""
        path = self.folder / f"model-{work.sensors}-{work.window}"
        if not path.exists():
            work.bundle(path)
        return path

    def full_topic(self, work: Workload, rows: int, partitions: int) -> str:
        """A new topic that holds ``rows`` rows of every asset."""
        topic = unique("bench")
        make_topic(self.bootstrap, topic, partitions)
        self.fill(topic, work, rows)
        return topic

    def fill(self, topic: str, work: Workload, rows: int) -> None:
        """Write ``rows`` rows of every asset."""
        asyncio.run(produce(self.bootstrap, topic, work.lines(rows)))

    def daemon(self, work: Workload, topic: str, *, group: str = "", prefix: str = "", **more: Any) -> Daemon:
        """A daemon with its model; further keywords as in ``Workload.config``."""
        group, prefix = group or unique("group"), prefix or unique("out")
        config = work.config(self.bootstrap, topic, prefix, group, **more)
        return Daemon(self.folder / unique("run"), config, "--model", self.model(work))


@contextmanager
def stage() -> Iterator[Stage]:
    """A stage that is taken down at the end."""
    with tempfile.TemporaryDirectory() as name:
        broker = Broker(Path(name) / "kafka")
        broker.start()
        try:
            yield Stage(Path(name), broker.bootstrap)
        finally:
            broker.stop()


# ------------------------------------------------------------------ daemons under watch
@dataclass(frozen=True, slots=True)
class Sample:
    """How far some daemons were."""

    at_s: float
    cpu_s: float
    records: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What some records took."""

    records: int
    cpu_s: float
    wall_s: float

    @property
    def cpu_us(self) -> float:
        """CPU microseconds per record."""
        return 1e6 * self.cpu_s / self.records

    @property
    def per_s(self) -> float:
        """Records per second."""
        return self.records / self.wall_s


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def processed(state: Mapping[str, Any]) -> int:
    """Records that a daemon has dealt with, those it replayed silently left out."""
    return sum(state["records"].values())


def watched(daemons: Sequence[Daemon], total: int, within: float = 900.0) -> list[Sample]:
    """Look at the daemons until they have processed ``total`` records together."""
    samples: list[Sample] = []
    deadline = time.perf_counter() + within
    while not samples or samples[-1].records < total:
        if time.perf_counter() > deadline:
            raise AssertionError(f"not {total} records within {within} s: {samples[-1:]}")
        records = sum(processed(daemon.until(bool)) for daemon in daemons)
        cpu_s = sum(cpu_seconds(daemon.process.pid) for daemon in daemons if daemon.process is not None)
        samples.append(Sample(time.perf_counter(), cpu_s, records))
        time.sleep(SAMPLE_EVERY_S)  # each look costs the daemon a little
    return samples


def cost(samples: Sequence[Sample], warm: int) -> Cost:
    """From the first sample with at least ``warm`` records to the first that saw the end.

    Raises:
        ValueError: there are no two such samples: too few records for so fast a daemon.
    """
    end = samples[-1].records
    first = next(sample for sample in samples if sample.records >= warm)
    last = next(sample for sample in samples if sample.records == end)
    if last.at_s <= first.at_s:
        raise ValueError(f"{end} records were over between two looks: take more")
    return Cost(last.records - first.records, last.cpu_s - first.cpu_s, last.at_s - first.at_s)
