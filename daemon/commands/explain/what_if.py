"""``explain --set``: what a window would read if dimensions of the latents had moved.

In: ``WhatIf``. Out: an entry of the document, with each sensor's course before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daemon.adapters.names import Names
from daemon.commands.explain.analysis import LatentAnalysis
from daemon.commands.explain.arguments import row_of
from daemon.documents import short
from daemon.domain import (
    Floats,
    iso,
)
from daemon.errors import UsageError
from daemon.model import latent


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The changes of a what-if, and the window that it starts from."""

    changes: Sequence[tuple[int, float]] = ()  # (dimension, sd)
    row: int | None = None  # newest row of the window; None: the asset's last row
    asset: str | None = None  # None: the only one

    @property
    def has_place(self) -> bool:
        """Whether it starts from a window of the readings instead of the typical one."""
        return self.row is not None or self.asset is not None


def what_if(analysis: LatentAnalysis, names: Names, asked: WhatIf) -> dict[str, Any] | None:
    """The entry of a what-if: each sensor over the window, before and after; None without changes.

    Raises:
        UsageError: the window does not exist.
    """
    bundle, changes = analysis.bundle, asked.changes
    if not changes:
        return None
    z, condition, observed = analysis.start, analysis.condition, None
    base = analysis.reference()
    if asked.has_place:
        z, condition, observed, base = _chosen(analysis, asked.row, asked.asset)
    elif analysis.survey is not None:
        observed = _observed(analysis, base["asset"], base["time"])
    both = np.stack([z, latent.moved(z, changes, bundle.drift)])
    before, after = latent.decode(bundle.models, both, condition)
    size = np.abs(after - before).mean(0) / bundle.models.scaler.scale
    order = [
        c for c in np.argsort(-np.nan_to_num(size), kind="stable").tolist() if bundle.models.scaler.seen[c]
    ]
    return {
        "base": base,
        "moved": [{"dimension": d, "name": names.dimensions.get(str(d)), "sd": sd} for d, sd in changes],
        "sensors": [
            {
                "sensor": bundle.sensors[c],
                "before": analysis.course(before[:, c], c),
                "after": analysis.course(after[:, c], c),
                "observed": None if observed is None else analysis.course(observed[:, c], c),
                "change": analysis.real(float((after - before)[:, c].mean()), c),
                "unit_sd": short(float(size[c])),
            }
            for c in order
        ],
    }


def _observed(analysis: LatentAnalysis, asset: str, time: str) -> Floats:
    """(L, C) the readings of the window of an asset that ends at a time."""
    assert analysis.survey is not None
    at, values, _ = analysis.survey.rows[asset]
    end = int(np.searchsorted(at, row_of(time, analysis.bundle.period_ns)))
    return values[end - analysis.bundle.window + 1 : end + 1]


def _chosen(
    analysis: LatentAnalysis, row: int | None, asset: str | None
) -> tuple[Floats, str, Floats, dict[str, Any]]:
    """The window of an asset that ends at a time: latents, condition, readings, and what it is."""
    survey, bundle = analysis.survey, analysis.bundle
    assert survey is not None
    if asset is None:
        if len(survey.assets) > 1:
            raise UsageError(f"--at: there are {len(survey.assets)} assets: name one with --asset")
        asset = survey.assets[0]
    if asset not in survey.assets:
        raise UsageError(f"--asset {asset}: the readings are of {', '.join(survey.assets[:10])}")
    rows, values, conditions = survey.rows[asset]
    L = bundle.window
    row = int(rows[-1]) if row is None else row
    end = int(np.searchsorted(rows, row))
    whole = end < len(rows) and rows[end] == row and end >= L - 1 and rows[end - L + 1] == row - L + 1
    if not whole:
        first, last, when = (iso(int(r) * bundle.period_ns) for r in (rows[0], rows[-1], row))
        raise UsageError(
            f"--at: no whole window of {asset} ends at {when}; it has readings from {first} to {last}"
        )
    window = values[end - L + 1 : end + 1]
    seen = latent.encode(bundle.models, window[None], [conditions[end]], [asset])
    base = {
        "what": "the window asked for",
        "asset": asset,
        "time": iso(row * bundle.period_ns),
        "condition": conditions[end],
    }
    return seen.mean[0], conditions[end], window, base
