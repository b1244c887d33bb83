"""Where event times lie in a log, found by bisection.

Event times rise along a partition but for the allowed lateness. The median of a few readings gives the event time at an
offset even if one of them is wrong. Record timestamps would not do: in a topic that was filled later they are the time of
filling. What was looked at is remembered, so that many times cost few reads more than one.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence

from daemon.adapters.kafka import Log
from daemon.adapters.schemas import provide_schemas
from daemon.domain import InputPartition, Reading, Record
from daemon.stream.decoding import Decoder

SAMPLE = 64
"""Records that are read to determine the event time at an offset."""
SAMPLES = 20
"""Such reads one after the other, where no record can be used."""


class Places:
    """The event times at some offsets of a log's partitions.

    Args:
        log: opened.
        decoder: of the stream's records.
    """

    def __init__(self, log: Log, decoder: Decoder) -> None:
        self._log = log
        self._decoder = decoder
        self._known: dict[InputPartition, list[tuple[int, int]]] = {p: [] for p in log.starts}  # offset, ns

    async def around(self, when_ns: int) -> tuple[dict[InputPartition, int], dict[InputPartition, int]]:
        """Per partition an offset before which readings are earlier, and one from which on they are not.

        They are no more than two samples apart, where that many records can be read.
        """
        low, high = dict(self._log.starts), dict(self._log.ends)
        for p, known in self._known.items():
            later = [offset for offset, time_ns in known if time_ns >= when_ns]
            high[p] = min([high[p], *later])
            low[p] = max([low[p], *(at + 1 for at, time_ns in known if time_ns < when_ns and at < high[p])])
        while places := {p: (low[p] + high[p]) // 2 for p in low if high[p] - low[p] > SAMPLE}:
            times = await self._times_at(places)
            for p, middle in places.items():
                found_ns = times.get(p)
                if found_ns is not None:
                    insort(self._known[p], (middle, found_ns))
                if found_ns is None or found_ns >= when_ns:
                    high[p] = middle
                else:
                    low[p] = middle + 1
        # The median is of a sample that begins at the offset: the first half of it may be earlier.
        return low, {p: min(at + SAMPLE, self._log.ends[p]) for p, at in high.items()}

    async def first_ns(self) -> int | None:
        """The event time at which the log begins; None if no record of it can be used."""
        times = await self._times_at(self._log.starts)
        return min(times.values(), default=None)

    async def _times_at(self, places: Mapping[InputPartition, int]) -> dict[InputPartition, int]:
        """Per partition the event time at an offset, or at the next records that can be used."""
        times: dict[InputPartition, int] = {}
        left = dict(places)
        for _ in range(SAMPLES):
            if not left:
                break
            for p, records in (await self._log.some(left, SAMPLE)).items():
                await provide_schemas(self._decoder.schemas, records)
                found_ns = time_of(records, self._decoder)
                if found_ns is not None:
                    times[p] = found_ns
                if found_ns is not None or not records:
                    del left[p]
                else:
                    left[p] = records[-1].offset + 1
        return times


def time_of(records: Sequence[Record], decoder: Decoder) -> int | None:
    """The median event time of records; None if none can be used.

    Where records can only be understood with earlier ones, their own times do.
    """
    times = sorted(r.time_ns for r in decoder.decode_all(records) if isinstance(r, Reading))
    if not times and decoder.new_births() is not None:
        times = sorted(r.timestamp_ns for r in records if r.timestamp_ns >= 0)
    return times[len(times) // 2] if times else None
