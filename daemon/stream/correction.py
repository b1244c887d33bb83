"""Scored windows of assets of which something was accepted: their evidence without it (``acceptance``).

A window is corrected by what stands at the row that it ends at, so that a score depends on nothing but the window and what
was accepted before. The price of such an asset are further questions to the model: a few to correct its windows, and one for
the evidence of what is left of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from daemon.detector import CorrectedWindows, Detector, Evidence
from daemon.domain import Floats, Ints, Mask
from daemon.stream.acceptance import Acceptances
from daemon.stream.asking import Measured, ask_in_parts
from daemon.stream.chunk_windows import WindowedRows


@dataclass(frozen=True, slots=True, eq=False)
class Corrections:
    """The corrected ones of V windows, K of them."""

    places: Mapping[int, int]  # of a window's number among the V -> of these
    windows: NDArray[Any]  # (K, L, C) in the detector's units
    apart: Floats  # (K, C) as in ``CorrectedWindows``
    removed: Floats  # (K, C) likewise

    def taken(self, count: int) -> Mask:
        """(V, C) the sensors that were taken out, of V windows."""
        taken = np.zeros((count, self.apart.shape[1]), bool)
        taken[list(self.places)] = np.isfinite(self.apart)
        return taken


class Asked(NamedTuple):
    """Whom to ask, and by what."""

    detector: Detector  # in force
    acceptances: Acceptances  # of the partition
    measured: Measured


def corrected(
    asked: Asked, chunk: WindowedRows, windows: Ints, rows: Ints, evidence: Evidence
) -> tuple[Evidence, Corrections | None]:
    """The evidence of windows, that of assets with standing levels without these.

    Args:
        asked: about them.
        chunk: the rows with their windows.
        windows: (V,) which of its windows.
        rows: (V,) the rows that they end at.
        evidence: of these windows as they are. One that the model fails on when it is corrected is not scorable.
    """
    acceptances = asked.acceptances
    found = [
        (j, bounds)
        for j, i in enumerate(rows.tolist())
        if (asset := chunk.rows.assets[i]) in acceptances.standing
        and (bounds := acceptances.bounds(asset, int(chunk.rows.rows[i]))) is not None
    ]
    if not found:
        return evidence, None
    which = np.array([j for j, _ in found])
    least = np.stack([bounds.least for _, bounds in found])
    most = np.stack([bounds.most for _, bounds in found])
    taken = np.stack([bounds.taken for _, bounds in found])

    def ask(some: Ints) -> tuple[CorrectedWindows, Evidence]:
        mine = chunk.windows.take(windows[which[some]])
        less = asked.detector.corrected(mine, least[some], most[some], taken[some])
        return less, asked.detector.infer(less.windows)

    known, answers = ask_in_parts(len(which), ask, asked.measured)
    scorable = evidence.scorable.copy()
    scorable[which] = False
    evidence = replace(evidence, scorable=scorable)
    if not answers:
        return evidence, None
    removed = np.concatenate([less.removed for less, _ in answers])
    theirs = Evidence.joined([one for _, one in answers])
    # Outputs say what a sensor reads; so what is expected of it is where it was accepted to be.
    theirs = replace(theirs, expected=theirs.expected + removed)
    return evidence.replaced(which[known], theirs), Corrections(
        {j: k for k, j in enumerate(which[known].tolist())},
        np.concatenate([np.asarray(less.windows.scaled) for less, _ in answers]),
        np.concatenate([less.apart for less, _ in answers]),
        removed,
    )
