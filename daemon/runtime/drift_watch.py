"""Whether a stream drifts so that a training is due: three intervals in a row above the thresholds.

The rule is that of the alert (``stream.drift``), applied to what a process knows of all partitions: the records of
its own, or the newest ones of the drift topic. An interval with too few windows says nothing and breaks no row.
"""

from __future__ import annotations

from dataclasses import dataclass

from daemon.domain import DriftRecord, InputPartition, iso
from daemon.stream.asset_drift import EXCEEDANCES
from daemon.stream.encoding import PublishedDrift

KEPT = 4 * EXCEEDANCES
"""Intervals of a partition that are kept: late rows bring records of earlier ones."""


@dataclass(frozen=True, slots=True)
class DriftSeen:
    """A partition drifts under the model that was asked about."""

    partition: InputPartition
    since_ns: int  # event time
    end_ns: int  # of the newest of the intervals

    def __str__(self) -> str:
        where = f"{self.partition.topic}/{self.partition.number}"
        return f"{where} drifts since {iso(self.since_ns)}"


class DriftWatch:
    """The newest drift intervals of each partition of a stream."""

    def __init__(self) -> None:
        self._model: dict[InputPartition, str] = {}
        self._verdicts: dict[InputPartition, dict[int, tuple[int, str]]] = {}  # by start: end, verdict

    def add(self, interval: DriftRecord | PublishedDrift) -> None:
        """Take one record; those of a partition in their order."""
        where = interval.partition
        if self._model.get(where) != interval.model:
            self._model[where], self._verdicts[where] = interval.model, {}
        mine = self._verdicts[where]
        if interval.verdict == "insufficient" and interval.start_ns in mine:
            return  # late rows of an interval that was judged
        mine[interval.start_ns] = interval.end_ns, interval.verdict
        while len(mine) > KEPT:
            del mine[min(mine)]

    def drifting(self, model: str) -> DriftSeen | None:
        """The partition that drifts under this model, and longest ago; None if none does."""
        found = []
        for where, mine in self._verdicts.items():
            if self._model[where] != model:
                continue
            said = [(start, *rest) for start, rest in sorted(mine.items()) if rest[1] != "insufficient"]
            newest = said[-EXCEEDANCES:]
            if len(newest) == EXCEEDANCES and all(verdict == "drift" for _, _, verdict in newest):
                run = EXCEEDANCES
                while run < len(said) and said[-run - 1][2] == "drift":
                    run += 1
                found.append(DriftSeen(where, said[-run][0], newest[-1][1]))
        return min(found, key=lambda one: (one.since_ns, one.partition), default=None)
