"""What an asset costs in memory beyond its raw window.

``python -m tests.bench.memory ASSETS`` is a process of its own: it feeds readings to one partition's
pipeline, as the loop does, until the window of every asset is full and was scored, takes the
state that a commit would write on the way, and prints {"before", "after", "seconds"}: resident bytes
before the first record and after the last. A model has scored in that process before, so that what
torch sets up is not in the difference; the interpreter's garbage is collected first. Nothing is
subtracted: slots that are free because arrays double, and what the allocator keeps, count as the assets'.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from daemon.commands.train import train_on
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    InputPartition,
    ModelSettings,
    PolledRecords,
    Reading,
    Segment,
)
from daemon.runtime.stream_run import StreamPlan
from daemon.stream.decoding import Decoder
from daemon.stream.parts import PipelineSettings
from daemon.stream.pipeline import Pipeline
from tests.bench.reporting import Section
from tests.bench.workload import START_ROW, STEPS, Workload

FLEET = Workload(8, window=32)
MOST_OVER = 2_500
"""Bytes per asset over its raw window in double precision."""
POLL = 500
POLLS_PER_COMMIT = 40
KINDS = 1_000
"""Assets that differ in their readings; the others repeat them under names of their own."""
ROOT = Path(__file__).resolve().parents[2]


def resident() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def readings(assets: int, rows: int) -> Iterator[Reading]:
    """``rows`` rows of every asset in time order; names and numbers are new objects, as decoded ones are."""
    calm = Workload(FLEET.sensors, min(assets, KINDS), window=FLEET.window).values(rows)
    offset = 0
    for t in range(rows):
        for asset in range(assets):
            time_ns = (START_ROW + t) * SECOND_NS
            yield Reading(offset, f"pump-{asset:06d}", time_ns, calm[t, asset % KINDS].tolist())
            offset += 1


def fed(pipeline: Pipeline, assets: int, rows: int) -> None:
    """Feed a pipeline in polls, and take its state as often as commits would."""
    items = readings(assets, rows)
    for number in range(1 + assets * rows // POLL):
        for _ in pipeline.feed(PolledRecords(pipeline.partition, list(islice(items, POLL)))):
            pass
        if number % POLLS_PER_COMMIT == 0:
            list(pipeline.saving())


def in_this_process(assets: int) -> dict[str, float]:
    """Fill the windows of so many assets."""
    spec = FLEET.spec()
    values = FLEET.values(600)
    history = [Segment(f"pump-{a:06d}", START_ROW, values[:, a]) for a in range(12)]
    detector = train_on(StreamPlan(spec, ModelSettings(steps=STEPS)), history, None).detector()

    def pipeline(number: int) -> Pipeline:
        partition = InputPartition("bench", number)
        settings = PipelineSettings(spec, AlarmPolicy(), 3600 * SECOND_NS, scores=True)
        made = Pipeline(settings, partition, Decoder(spec))
        made.use(detector)
        made.offset = 0
        return made

    fed(pipeline(0), 64, spec.window + 8)
    measured = pipeline(1)
    before, began = resident(), time.perf_counter()
    fed(measured, assets, spec.window)
    assert measured.assets == assets
    return {"before": before, "after": resident(), "seconds": time.perf_counter() - began}


def measure(quick: bool) -> Iterator[Section]:
    """One table, by number of assets."""
    section = Section(
        "memory",
        "Resident memory per asset: 8 sensors, window 32, full and scored",
        ("assets", "bytes/asset", "raw window", "over it", "over float32", "target over", "MiB", "seconds"),
    )
    doubles = FLEET.sensors * FLEET.window * np.dtype(np.float64).itemsize
    for assets in (10_000,) if quick else (10_000, 100_000):
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.memory", str(assets)],
            capture_output=True,
            text=True,
            timeout=1_800,
            check=False,
            cwd=ROOT,
        )
        if done.returncode:
            raise RuntimeError(f"filling {assets} assets failed: {done.stderr[-800:]}")
        found = json.loads(done.stdout)
        each = (found["after"] - found["before"]) / assets
        section.add(
            *(assets, each, doubles, each - doubles, each - doubles / 2, MOST_OVER),
            *((found["after"] - found["before"]) / 2**20, found["seconds"]),
        )
    section.notes.append("bytes; raw window: sensors x window in double precision, half of it as float32.")
    yield section


if __name__ == "__main__":
    print(json.dumps(in_this_process(int(sys.argv[1]))))
