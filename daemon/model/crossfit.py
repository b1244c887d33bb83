"""Cross-fitting: measure every training row by models that were not fitted on it.

The history is cut into five contiguous blocks; each block is measured by a scaler and models fitted on the
other four. So every row can calibrate, and no score is optimistic because the model saw the row. The same
held-out posteriors give the null distribution of the latent drift metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from daemon.domain import (
    NO_CONDITION,
    Floats,
    Segment,
)
from daemon.model.drift import chunk_kl, moments
from daemon.model.reconstruction import Measured, Models
from daemon.model.segments import Piece, complement, folds, sample_windows, sliding

REFERENCE_WINDOWS = 1_000
"""Training windows of each fold that its held-out chunks are compared with."""
UNKNOWN_ROWS = 500
"""Held-out rows of each fold that are measured a second time, as of an unknown condition."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutPiece:
    """One held-out piece, measured: windows ending at rows ``start ..`` of its segment."""

    block: int
    asset: str
    first_row: int  # grid row of the first window's newest row
    end_row: int  # after the last window's
    conditions: Sequence[str]  # labels of the windows' newest rows, NO_CONDITION where not known
    measured: Measured


def by_piece(values: Floats, pieces: Sequence[HeldOutPiece]) -> list[Floats]:
    """Values of all the pieces' rows, in their order, as one array per piece."""
    return np.split(values, np.cumsum([len(piece.measured.observed) for piece in pieces])[:-1])


@dataclass(frozen=True, slots=True, eq=False)
class CrossFit:
    """Every row measured by models that did not see it, and what drift looks like to them."""

    held: tuple[HeldOutPiece, ...]
    latent_kl: Floats  # null distribution: total KL of held-out chunks against training, nats
    unknown: tuple[Measured, ...] = ()  # some of the rows again, as of an unknown condition


def measured_pieces(
    history: Sequence[Segment], pieces: Sequence[Piece], models: Models, window: int, block: int, hop: int = 1
) -> list[HeldOutPiece]:
    """The windows that end in these pieces, as models measure them.

    Args:
        history: the segments that ``pieces`` index, without the levels of their assets.
        pieces: what to measure. The rows before a piece are context of its first windows.
        models: they measure.
        window: L.
        block: that the pieces belong to.
        hop: only every hop-th grid row is measured, as on the stream.
    """
    where: list[tuple[str, int]] = []
    parts: list[tuple[Floats, Sequence[str]]] = []
    for piece in pieces:
        segment = history[piece.segment]
        start = max(piece.start, window - 1)
        start += -(segment.first_row + start) % hop
        if piece.stop <= start:
            continue
        windows = sliding(segment.values[start - window + 1 : piece.stop], window)[::hop]
        labels = segment.condition[start : piece.stop : hop] or (NO_CONDITION,) * len(windows)
        where.append((segment.asset, segment.first_row + start))
        parts.append((windows, labels))
    known = frozenset(models.labels)
    return [
        HeldOutPiece(
            block,
            asset,
            first,
            first + hop * len(windows),
            [label if label in known else NO_CONDITION for label in labels],
            measured,
        )
        for (asset, first), (windows, labels), measured in zip(
            where, parts, models.measure_each(parts), strict=True
        )
    ]


def crossfit(
    history: Sequence[Segment],
    fit: Callable[[Sequence[Piece]], Models],
    window: int,
    drift_rows: int,
    hop: int = 1,
) -> CrossFit:
    """Fit on four blocks, measure the fifth, five times.

    Args:
        history: what to learn from.
        fit: scaler and models of the given pieces.
        window: L.
        drift_rows: rows of one drift interval; chunks of that many held-out rows (fewer where
            the pieces are shorter) give the null distribution of the drift metrics.
        hop: only every hop-th grid row is measured, as on the stream.
    """
    chunk = max(drift_rows // hop, 1)
    held: list[HeldOutPiece] = []
    null: list[float] = []
    blind: list[Measured] = []
    blocks = folds(history, window)
    for j, block in enumerate(blocks):
        rest = complement(history, block)
        if max((len(piece) for piece in rest), default=0) < 2 * window:
            continue
        models = fit(rest)
        known, shown = frozenset(models.labels), models.levelled(history)
        mine = measured_pieces(shown, block, models, window, j, hop)
        held += mine
        if known and mine:
            some, _ = sample_windows(shown, block, window, UNKNOWN_ROWS)
            blind.append(models.measure(some, [NO_CONDITION] * len(some)))
        # Held-out chunks of posterior means against the fold's own training windows.
        trained_on, their_labels = sample_windows(shown, rest, window, REFERENCE_WINDOWS)
        reference = moments(models.measure(trained_on, their_labels).posterior)
        null += chunk_kl([h.measured.posterior for h in mine], reference, chunk)
    return CrossFit(tuple(held), np.array(null), tuple(blind))
