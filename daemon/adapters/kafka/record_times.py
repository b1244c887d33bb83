"""Timestamps of Kafka's records, in nanoseconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daemon.domain import Ints

NS_OF_MS = 1_000_000
NO_TIMESTAMP = -1


def timestamps_ns(timestamps_ms: Sequence[int]) -> Ints:
    """(N,) of timestamps in milliseconds; ``NO_TIMESTAMP`` for what cannot be one, as where a producer wrote microseconds."""
    found = np.array(timestamps_ms, np.int64)
    beyond = (found < 0) | (found > np.iinfo(np.int64).max // NS_OF_MS)
    return np.where(beyond, NO_TIMESTAMP, np.where(beyond, 0, found) * NS_OF_MS)
