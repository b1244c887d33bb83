"""A track: one asset's rows scored once more, so that any row can be examined as the stream saw it.

The stream keeps no windows and no past baselines. Both are pure functions of the rows, so explanations
recompute them: ``Track.of`` scores a run of rows as the stream did (to the last bit, which a test compares
with ``replay``), and ``Track.view`` is the window that ends at a row, with the slow baseline before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daemon.detector import Evidence, Verdicts, Windows
from daemon.domain import Floats, Ints
from daemon.model.detector import BundleDetector
from daemon.model.repair import View
from daemon.model.segments import sliding

CHUNK = 2_048


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """A run of rows without a long gap: T rows, of which N ended a window that was scored."""

    detector: BundleDetector
    asset: str
    first_row: int
    values: Floats  # (T, C) raw, NaN where not observed
    condition: Sequence[str]  # T labels
    at: Ints  # (N,) which of the rows
    evidence: Evidence  # of the N windows
    verdicts: Verdicts
    start: Floats  # (2P + Q,) the baseline before the first of them

    @staticmethod
    def of(
        detector: BundleDetector,
        asset: str,
        first_row: int,
        values: Floats,
        condition: Sequence[str] = (),
        hop: int = 1,
    ) -> Track:
        """Score the rows as the stream does: every ``hop``-th grid row that ends a whole window.

        Raises:
            ValueError: there are fewer rows than a window has.
        """
        L = detector.window
        if len(values) < L:
            raise ValueError(f"{len(values)} rows hold no window of {L}")
        labels = tuple(condition) or ("",) * len(values)
        at = np.arange(L - 1, len(values))
        at = at[(first_row + at) % hop == 0]
        windows = sliding(values, L)[at - (L - 1)]
        first = first_row + int(at[0]) if len(at) else first_row
        carried = detector.carried_baseline(asset, first)
        start = detector.fresh_baseline(asset) if carried is None else carried
        state = start[None].copy()
        parts, verdicts = [], []
        for begin in range(0, max(len(at), 1), CHUNK):
            some = slice(begin, begin + CHUNK)
            rows = at[some]
            evidence = detector.infer(
                Windows(
                    windows[some],
                    np.ones(len(rows), bool),
                    tuple(labels[i] for i in rows.tolist()),
                    asset=(asset,) * len(rows),
                )
            )
            parts.append(evidence)
            verdicts.append(detector.judge(evidence, state, np.zeros(len(rows), np.int64), static=False))
        return Track(
            detector, asset, first_row, values, labels, at, Evidence.joined(parts), _joined(verdicts), start
        )

    def row(self, index: int) -> int:
        """The grid row of the ``index``-th window."""
        return self.first_row + int(self.at[index])

    def index_from(self, row: int) -> int:
        """The first window that ends at a grid row or later; N if none does."""
        return int(np.searchsorted(self.at, row - self.first_row))

    def index_at(self, row: int) -> int | None:
        """The window that ends at a grid row; None if none does."""
        i = self.index_from(row)
        return i if i < len(self.at) and int(self.at[i]) == row - self.first_row else None

    def window(self, index: int) -> Floats:
        """(L, C) raw."""
        end = int(self.at[index]) + 1
        return self.values[end - self.detector.window : end]

    def view(self, index: int) -> View:
        """The ``index``-th window with the baseline before it."""
        state = self.start[None].copy()
        before = self.evidence.take(np.arange(index))
        self.detector.judge(before, state, np.zeros(index, np.int64), static=False)
        return View(self.window(index), self.condition[int(self.at[index])], state[0], self.asset)


def _joined(parts: Sequence[Verdicts]) -> Verdicts:
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in Verdicts.__slots__
        if name != "sustained"
    }
    return Verdicts(**columns)
