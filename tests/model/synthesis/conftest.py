"""Rows of synthetic series."""

from __future__ import annotations

import numpy as np

from daemon.domain import Floats
from daemon.model.bundle import Bundle


def rows_of(bundle: Bundle, assets: int, rows: int, **which: str) -> list[Floats]:
    series = bundle.series(assets, **which)  # type: ignore[arg-type]
    parts = [series.rows()[0]]
    while sum(part.shape[1] for part in parts) < rows:
        parts.append(series.rows()[0])
    return list(np.concatenate(parts, 1)[:, :rows])
