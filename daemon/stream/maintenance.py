"""Maintenance: time spans in which no anomaly opens, and how many episodes that suppressed."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.domain import StreamSpec


class Maintenance:
    """The maintenance of a stream's assets.

    Args:
        spec: the stream.
        spans: (start_ns, end_ns, assets); no assets means all.

    ``suppressed`` counts the episodes that it suppressed: runs of rows that would open one.
    """

    def __init__(self, spec: StreamSpec, spans: Sequence[tuple[int, int, frozenset[str]]]) -> None:
        self.suppressed = 0
        self._spec = spec
        self._spans = tuple(spans)
        self._runs: dict[str, tuple[int, bool]] = {}
        """Per asset: the newest row that would hold an episode open, and whether its run would open one."""

    @property
    def planned(self) -> bool:
        """Whether there is any."""
        return bool(self._spans)

    def covers(self, asset: str, row: int) -> bool:
        """Whether an asset is under maintenance at a row."""
        time_ns = row * self._spec.period_ns
        return any(
            start <= time_ns < end and (not assets or asset in assets) for start, end, assets in self._spans
        )

    def count(self, asset: str, row: int, *, opens: bool, held: bool) -> None:
        """Count an episode that would have opened; rows that would neither open one nor hold one need not be passed."""
        if not held:
            self.forget(asset)
            return
        last, above = self._runs.get(asset, (-1, False))
        above &= last >= 0 and row - last <= self._spec.hop
        self.suppressed += opens and not above
        self._runs[asset] = row, above or opens

    def forget(self, asset: str) -> None:
        """The asset's run is over."""
        self._runs.pop(asset, None)
