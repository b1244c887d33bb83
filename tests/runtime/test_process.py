"""Signals, descriptors, memory and the end of a process."""

from __future__ import annotations

import asyncio
import gc
import resource
import subprocess
import sys
import weakref

import pytest
from structlog.testing import capture_logs

from daemon.runtime.process import run_until_drained, tune_garbage_collection


async def test_a_drain_that_takes_too_long_is_cut_short_without_an_error() -> None:
    class Writer:
        closed = False

        def close(self) -> None:
            self.closed = True

    async def stuck() -> None:
        await asyncio.Event().wait()

    ending, writer = asyncio.Event(), Writer()
    ending.set()
    with capture_logs() as logs:
        await run_until_drained(stuck, ending, [writer], drain_s=0.01)
    assert writer.closed
    assert [entry["event"] for entry in logs] == ["drain_cut_short"] * 2


def test_freed_memory_stays_with_the_process() -> None:
    # In a process of its own: the setting is the whole process's. Without it there are 26,000 faults.
    probe = """
import resource, numpy as np
from daemon.runtime.process import keep_freed_memory
kept = keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def chunk():
    arrays = [np.ones(1_000_000) for _ in range(3)]
chunk()
before = faults()
for _ in range(20):
    chunk()
print(kept, faults() - before)
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    if kept == "False":
        pytest.skip("not glibc")
    assert int(faults) < 1_000


def test_the_limit_of_open_files_is_raised_and_never_lowered() -> None:
    # In processes of their own: the limit is the whole process's.
    probe = """
import resource, sys
from daemon.runtime.process import allow_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, tuple(map(int, sys.argv[1:])))
allow_descriptors()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    for soft, hard, expected in ((256, 2048, 2048), (100, 100, 100), (256, 20_000, 16_384)):
        if 0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
            continue
        command_ = [sys.executable, "-c", probe, str(soft), str(hard)]
        done = subprocess.run(command_, capture_output=True, text=True, check=True)
        assert int(done.stdout) == expected


def test_full_collections_are_rare_and_young_cycles_are_still_freed() -> None:
    before = gc.get_threshold()
    try:
        tune_garbage_collection()
        assert gc.get_freeze_count() > 0
        full = gc.get_stats()[2]["collections"]
        kept = [[] for _ in range(500_000)]  # long-lived, as what a fleet needs is
        assert gc.get_stats()[2]["collections"] == full

        class Knot:
            pass

        knot = Knot()
        knot.itself = knot  # type: ignore[attr-defined]
        gone = weakref.ref(knot)
        del knot
        kept += [[] for _ in range(500_000)]
        assert gone() is None
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
