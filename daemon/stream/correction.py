"""Scored windows of assets of which something was accepted: their evidence without it (``acceptance``).

A window is corrected by what stands at the row that it ends at, so that a score depends on nothing but the window and what
was accepted before. Two more questions to the model are the price of such an asset; there are few.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.detector import Detector, Evidence
from daemon.domain import Floats, Ints, Mask
from daemon.stream.acceptance import Acceptances
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


def corrected(
    detector: Detector,
    acceptances: Acceptances,
    chunk: WindowedRows,
    windows: Ints,
    rows: Ints,
    evidence: Evidence,
) -> tuple[Evidence, Corrections | None]:
    """The evidence of windows, that of assets with standing levels without these.

    Args:
        detector: in force.
        acceptances: of the partition.
        chunk: the rows with their windows.
        windows: (V,) which of its windows.
        rows: (V,) the rows that they end at.
        evidence: of these windows as they are.
    """
    found = [
        (j, bounds)
        for j, i in enumerate(rows.tolist())
        if (asset := chunk.rows.assets[i]) in acceptances.standing
        and (bounds := acceptances.bounds(asset, int(chunk.rows.rows[i]))) is not None
    ]
    if not found:
        return evidence, None
    which = np.array([j for j, _ in found])
    least, most, taken = (np.stack(each) for each in zip(*(bounds for _, bounds in found), strict=True))
    less = detector.corrected(chunk.windows.take(windows[which]), least, most, taken)
    theirs = detector.infer(less.windows)
    # Outputs say what a sensor reads; so what is expected of it is where it was accepted to be.
    theirs = replace(theirs, expected=theirs.expected + less.removed)
    assert less.windows.scaled is not None
    places = {j: k for k, (j, _) in enumerate(found)}
    return evidence.replaced(which, theirs), Corrections(
        places, less.windows.scaled, less.apart, less.removed
    )
