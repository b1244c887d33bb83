"""The rows of a replay by asset, in runs without a long gap, each scored on first use.

In: the blocks of a pass, and the detector. Out: ``model.track.Track`` values, each scored once, and the
window of an episode or of an event time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daemon.commands.root_cause.incidents import LISTED
from daemon.domain import (
    Floats,
    StreamSpec,
    iso,
)
from daemon.errors import UsageError
from daemon.model.detector import BundleDetector
from daemon.model.root_cause import Incident
from daemon.model.track import Track
from daemon.stream.steps import RowBlock


class Tracks:
    """Runs of rows by asset, scored on first use."""

    def __init__(self, detector: BundleDetector, spec: StreamSpec, blocks: Sequence[RowBlock]) -> None:
        self.detector, self.spec = detector, spec
        self._rows: dict[str, list[tuple[int, Floats, str]]] = {}
        for block in blocks:
            for i, asset in enumerate(block.assets):
                self._rows.setdefault(asset, []).append(
                    (int(block.rows[i]), block.values[i], block.condition[i])
                )
        self._tracks: dict[tuple[str, int], Track] = {}

    @property
    def assets(self) -> list[str]:
        """All assets of the file, in order of their first row."""
        return list(self._rows)

    def run(self, asset: str, row: int) -> tuple[int, Floats, list[str]] | None:
        """The run that holds a grid row: its first row, values (T, C) and labels."""
        rows = self._rows[asset]
        numbers = np.array([r for r, _, _ in rows])
        begins = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 2) != 1)
        at = int(np.searchsorted(numbers[begins], row, side="right")) - 1
        if at < 0:
            return None
        begin = int(begins[at])
        end = int(begins[at + 1]) if at + 1 < len(begins) else len(rows)
        if row > numbers[end - 1]:
            return None
        return (
            int(numbers[begin]),
            np.stack([v for _, v, _ in rows[begin:end]]),
            [c for _, _, c in rows[begin:end]],
        )

    def track(self, asset: str, row: int) -> Track | None:
        """The run that holds a grid row, scored; None where nothing is scored there."""
        run = self.run(asset, row)
        if run is None or len(run[1]) < self.detector.window:
            return None
        first, values, labels = run
        key = asset, first
        if key not in self._tracks:
            self._tracks[key] = Track.of(self.detector, asset, first, values, labels, self.spec.hop)
        return self._tracks[key]

    def peak(self, incident: Incident) -> tuple[Track, int]:
        """The window of an episode that scored highest."""
        period = self.spec.period_ns
        track = self.track(incident.asset, incident.opened_ns // period)
        assert track is not None, "an episode opens at a row that was scored"
        first = track.index_from(incident.opened_ns // period)
        stop = max(track.index_from(incident.last_ns // period + (not incident.closed)), first + 1)
        scores = track.verdicts.score[first:stop]
        return track, first + int(np.nanargmax(scores))

    def at(self, time_ns: int, asset: str | None) -> tuple[Track, int]:
        """The window that ends at an event time.

        Raises:
            UsageError: there is none; with the assets or the times that there are.
        """
        if asset is None and len(self.assets) == 1:
            asset = self.assets[0]
        if asset is None or asset not in self._rows:
            known = ", ".join(sorted(self.assets)[:LISTED]) + (" ..." if len(self.assets) > LISTED else "")
            raise UsageError(
                f"--asset {asset}: the file has no such asset; it has {known}"
                if asset is not None
                else f"--at needs --asset: the file has {len(self.assets)} assets, {known}"
            )
        row = self.spec.row(time_ns)
        track = self.track(asset, row)
        index = None if track is None else track.index_at(row)
        if track is None or index is None or not np.isfinite(track.verdicts.score[index]):
            rows = [r for r, _, _ in self._rows[asset]]
            period = self.spec.period_ns
            raise UsageError(
                f"--at {iso(time_ns)}: no window of {asset} ends there; its rows are from"
                f" {iso(rows[0] * period)} to {iso(rows[-1] * period)}, and the first"
                f" {self.detector.window - 1} after a gap are not scored"
            )
        return track, index
