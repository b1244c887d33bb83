"""The operating system's side of a running process: signals, file descriptors, memory, and an orderly end.

Nothing here knows streams or models.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import resource
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol

import structlog

log = structlog.get_logger()

DRAIN_S = 45.0
"""SIGTERM to exit, at most; a StatefulSet allows 60 s."""
KEPT, MAPPED_FROM = 64 << 20, 32 << 20
"""Bytes that the allocator keeps when freed, and the size from which a block is mapped (and returned) by itself."""
DESCRIPTORS = 16_384
COLLECT = (10_000, 20, 1_000)
"""Allocations between collections of the youngest generation, and collections of each generation per one of the next."""


class Closable(Protocol):
    """What waits for a broker until it is closed."""

    def close(self) -> None:
        """Give up waiting."""
        ...


@contextlib.contextmanager
def ended_by_signals(end: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call ``end`` while inside."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def called_on_hangup(called: Callable[[], None]) -> Iterator[None]:
    """SIGHUP calls ``called`` while inside."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, called)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def run_until_drained(
    run: Callable[[], Coroutine[Any, Any, None]],
    ending: asyncio.Event,
    writers: Sequence[Closable],
    drain_s: float = DRAIN_S,
) -> None:
    """Run the loop to its end; once ``ending`` is set, for at most ``drain_s`` more.

    Args:
        run: the loop.
        ending: set when the process is to end.
        writers: what may wait for a broker; closed after half of the time, so that the loop goes on.
        drain_s: seconds.
    """
    task = asyncio.create_task(run(), name="loop")
    ended = asyncio.create_task(ending.wait(), name="ending")
    try:
        await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            done, _ = await asyncio.wait({task}, timeout=drain_s / 2)
            if not done:
                # Publishing waits for a broker that is away: what is not committed is read again.
                log.warning("drain_cut_short", reason="outputs could not be published in time")
                for writer in writers:
                    writer.close()
                await asyncio.wait({task}, timeout=drain_s / 4)
        if not task.done():
            log.warning("drain_cut_short", reason="what is not committed is read again")
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            await task
    finally:
        ended.cancel()
        task.cancel()


def allow_descriptors() -> None:
    """Raise the limit of open files to the hard limit, or to ``DESCRIPTORS`` where that is lower.

    Many systems start a process with 1,024, which clients of the admin port and the connections to a large
    Kafka cluster share.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def tune_garbage_collection() -> None:
    """Let Python's garbage collector scan long-lived objects very rarely.

    Each object per asset makes a full scan longer, and the process stands still meanwhile: a quarter of a
    second at 100,000 assets. Most objects are freed by their reference count; the cycles that need the
    collector are found while they are young. Imported modules are frozen and never scanned.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next chunk of windows; False where it has no such setting.

    By default glibc returns some megabytes to the kernel after every chunk, and each page that is allocated
    again is a page fault: a tenth of the CPU with 38 sensors. With this setting it keeps up to 64 MiB.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    trim, mmap = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD; see mallopt(3)
    return bool(mallopt(mmap, MAPPED_FROM)) and bool(mallopt(trim, KEPT))
