"""A share of one CPU for work beside the stream, measured in the process's CPU time.

Time that passes grants CPU time in proportion to the share, up to a bound; work that is done inside
``spending`` takes it off again. So the work never takes more than its share, whatever a piece of it costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MOST_SAVED_S = 0.25
"""CPU time that may be saved up while there is no work: no more is then spent at once."""
LEAST_SLICE_S = 0.005


@dataclass(slots=True)
class Spent:
    """CPU seconds of one piece of work, set when it ends."""

    cpu_s: float = 0.0


class CpuShare:
    """CPU time that is granted and spent.

    Args:
        share: of one CPU.
        cpu: seconds of CPU time of the process.
        clock: monotonic seconds.

    ``spent_s`` is the CPU time spent so far.
    """

    def __init__(self, share: float, cpu: Callable[[], float], clock: Callable[[], float]) -> None:
        self.spent_s = 0.0
        self._share = share
        self._cpu, self._clock = cpu, clock
        self._granted_s = 0.0  # less what was spent
        self._granted_at = clock()
        self._slice_s = 0.0  # estimated cost of a slice

    def forfeit(self) -> None:
        """Drop what was granted while there was no work; what was overspent stays."""
        self._granted_at, self._granted_s = self._clock(), min(self._granted_s, 0.0)

    def allows(self, cpu_s: float) -> bool:
        """Whether more than so much CPU time is granted by now."""
        now = self._clock()
        most = max(MOST_SAVED_S, 2.0 * self._slice_s)
        self._granted_s = min(self._granted_s + self._share * (now - self._granted_at), most)
        self._granted_at = now
        return self._granted_s > cpu_s

    def allows_slice(self) -> bool:
        """Whether a slice of work like the last ones is granted by now."""
        return self.allows(max(self._slice_s, LEAST_SLICE_S))

    @contextmanager
    def spending(self) -> Iterator[Spent]:
        """Take the CPU time of the work inside off what is granted."""
        spent, began = Spent(), self._cpu()
        try:
            yield spent
        finally:
            spent.cpu_s = max(self._cpu() - began, 0.0)
            self.spent_s += spent.cpu_s
            self._granted_s -= spent.cpu_s

    @contextmanager
    def slicing(self) -> Iterator[None]:
        """``spending`` for a slice of work; its cost estimates that of the next one."""
        with self.spending() as spent:
            yield
        self._slice_s = max(spent.cpu_s, 0.9 * self._slice_s)
