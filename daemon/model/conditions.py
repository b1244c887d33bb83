"""The usual window of each condition, which every model subtracts before it reads a window.

A machine at half load has other usual values than one at full load. The nonlinear path of the VAE reads the
condition, but most of the model is its linear skip, which does not: without help it uses latents for the
difference between the modes, and takes a window that is usual in the wrong mode for a usual one. So each
condition c has a usual window m_c of its own,

    p(x | z, c) = N(m_c + xhat(z, c), diag sigma^2)        m_c (L, C), scaled units, over the pooled mean,

and every model, the short pPCA too, reads x - m_c, in training and in scoring. m_c is an estimate from few
rows, shrunk towards the pooled mean, which is m = 0:

* by rows: n windows of a condition count n / (n + 2 L), two windows' worth of doubt, because neighbouring
  windows share rows;
* by usefulness: a share lambda in [0, 1] per sensor, the least-squares slope of windows on the estimate
  from the *other* fifths of the assets' time (stacking, Breiman 1996), zero where that saves no more than
  one standard error of squared error. So a label that is unrelated to a sensor, and a difference that was a
  drift and does not recur, change nothing for the sensor.

**Unknown.** A label that training did not have gets the code K behind the K known ones, with m = 0. One
training window in ten is given ``unknown``, to pPCA as to the VAE. The directions between the modes so keep
a tenth of their variance, and a window of an unknown condition has latents that can explain it.

**Rare.** A label with fewer rows than two windows (2 L) is too rare to learn: it gets no code, and counts
as unknown, in the model as in the alert.

A spread per condition was tried in the same way and left out: better on some data, worse on more. How noisy
a condition is, the calibration covers (``condition_levels``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daemon.calendar import MANY_LABELS, VALUES
from daemon.domain import (
    NO_CONDITION,
    Floats,
    Ints,
    Segment,
    StreamSpec,
    is_calendar,
)
from daemon.model.segments import BLOCKS, Piece

WINDOWS_OF_DOUBT = 2
"""Windows' worth of rows by which a mean is shrunk, and below which a label is rare."""
UNKNOWN_EVERY = 10
"""Every tenth training window gets the code of unknown, the share of the VAE's condition dropout."""


def learned_labels(history: Sequence[Segment], pieces: Sequence[Piece], length: int) -> tuple[str, ...]:
    """The labels that have rows enough to learn from in these pieces, in order of their names."""
    rows: Counter[str] = Counter()
    for piece in pieces:
        rows.update(history[piece.segment].condition[piece.start : piece.stop])
    least = WINDOWS_OF_DOUBT * length
    return tuple(sorted(label for label, count in rows.items() if label != NO_CONDITION and count >= least))


@dataclass(frozen=True, slots=True, eq=False)
class ConditionMeans:
    """The usual window of each condition, over the pooled one.

    ``labels`` are the K conditions in the order of their codes; ``mean`` (K + 1, L*C) scaled units,
    the last row, of zeros, for ``unknown``.
    """

    labels: tuple[str, ...]
    mean: Tensor
    _codes: Mapping[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_codes", {label: i for i, label in enumerate(self.labels)})

    @property
    def unknown(self) -> int:
        """K, the code of a label that training did not learn."""
        return len(self.labels)

    def codes(self, labels: Sequence[str]) -> Tensor:
        """(B,) codes of labels."""
        return torch.tensor([self._codes.get(label, self.unknown) for label in labels], dtype=torch.long)

    def shown(self, labels: Sequence[str]) -> Tensor:
        """(n,) the codes that pPCA's training windows are shown under: every tenth is unknown."""
        codes = self.codes(labels)
        codes[::UNKNOWN_EVERY] = self.unknown
        return codes

    def of(self, codes: Tensor, cells: int) -> Tensor:
        """The usual values of the newest rows, ``cells`` of them, of windows under these codes (B,).

        (B, cells), or (1, cells) where all are under one: a row that need not be copied for each.
        """
        newest = self.mean[:, self.mean.shape[1] - cells :]
        return newest[codes[:1]] if len(codes) and bool((codes == codes[0]).all()) else newest[codes]

    @staticmethod
    def fit(
        windows: NDArray[np.float32],
        observed: NDArray[np.bool_],
        labels_of: Sequence[str],
        labels: tuple[str, ...],
        blocks: Ints,
        length: int,
    ) -> ConditionMeans:
        """Estimate the usual windows.

        Args:
            windows: (n, L*C) scaled, in time order per asset.
            observed: (n, L*C) which cells count.
            labels_of: n labels; those not in ``labels`` are unknown.
            labels: the K that get a code.
            blocks: (n,) which of the fifths each window belongs to, see ``fifths``.
            length: L.
        """
        K, d = len(labels), windows.shape[1]
        blank = ConditionMeans(labels, torch.zeros(K + 1, d))
        codes = blank.codes(labels_of).numpy()
        total, seen = np.zeros((K, BLOCKS, d)), np.zeros((K, BLOCKS, d))
        for code in range(K):
            for block in range(BLOCKS):
                rows = np.flatnonzero((codes == code) & (blocks == block))
                total[code, block] = np.where(observed[rows], windows[rows], 0.0).sum(0, dtype=float)
                seen[code, block] = observed[rows].sum(0)
        pooled = np.where(observed, windows, 0.0).sum(0, dtype=float) / np.maximum(observed.sum(0), 1)  # (d,)
        own = _pulled(total.sum(1), seen.sum(1), pooled, length)  # (K, d)
        elsewhere = seen.sum(1, keepdims=True) - seen
        others = _pulled(total.sum(1, keepdims=True) - total, elsewhere, pooled, length)
        # A stretch that the boundary between two fifths cuts is no evidence about itself: either side needs
        # at least half of the rows that each fifth would have if the condition were spread evenly.
        others[np.minimum(elsewhere, seen) < seen.sum(1, keepdims=True) / (2 * BLOCKS)] = 0.0

        def by_sensor(cells: Floats) -> Floats:
            """(K, BLOCKS, L*C) to (K * BLOCKS, C), summed over the steps."""
            return np.asarray(cells.reshape(K * BLOCKS, length, -1).sum(1))

        along, size = by_sensor((total - seen * pooled) * others), by_sensor(seen * others**2)
        worth = np.clip(along.sum(0) / np.maximum(size.sum(0), 1e-12), 0.0, 1.0)  # (C,)
        saved = 2.0 * worth * along - worth**2 * size  # squared error, in each fifth
        worth[saved.sum(0) <= saved.std(0) * np.sqrt(len(saved))] = 0.0
        mean = torch.zeros(K + 1, d)
        mean[:-1] = torch.from_numpy(own * np.tile(worth, length)).float()
        return ConditionMeans(labels, mean)


def fifths(owners: Sequence[str]) -> Ints:
    """(n,) which fifth of its asset's time each window is in: 0 to 4, as the blocks of cross-fitting are.

    Args:
        owners: the n windows' assets; each asset's windows in time order.
    """
    of: dict[str, list[int]] = {}
    for i, owner in enumerate(owners):
        of.setdefault(owner, []).append(i)
    blocks = np.zeros(len(owners), np.int64)
    for mine in of.values():
        blocks[mine] = np.arange(len(mine)) * BLOCKS // len(mine)
    return blocks


def condition_facts(spec: StreamSpec, history: Sequence[Segment], labels: Sequence[str]) -> dict[str, object]:
    """A bundle's facts about its conditions beside their labels: the fields, and which labels were rare."""
    known = set(labels)
    rare = sorted({label for s in history for label in s.condition} - known - {NO_CONDITION})
    facts: dict[str, object] = {"condition": list(spec.condition), "rare_conditions": len(rare)}
    if rare:
        facts["rare_condition"] = rare[0]
    if any(map(is_calendar, spec.condition)):
        facts["timezone"] = spec.timezone
    return facts


def condition_concerns(labels: Sequence[str], facts: Mapping[str, Any]) -> list[str]:
    """Weaknesses of the learned conditions that an operator should see, each in one line.

    Args:
        labels: that have a code.
        facts: the bundle's; those of old bundles do not name the fields.
    """
    fields = [str(name) for name in facts.get("condition", ())]
    found = []
    for name in fields:
        values = {value for label in labels if (value := _value(label, name)) is not None}
        if is_calendar(name):
            whole = VALUES.get(name, 0)
            if len(values) < whole:
                found.append(
                    f"training held {len(values)} of the {whole} values of {name}: others are scored as unknown"
                )
        elif values <= {"?"}:
            found.append(f"condition {name} never appeared: neither messages nor assets say it")
    rare = int(facts.get("rare_conditions", 0))
    if rare:
        found.append(
            f"{rare} condition(s), such as {facts.get('rare_condition')}, had fewer rows than two windows:"
            " they count as unknown"
        )
    if len(labels) > MANY_LABELS:
        found.append(
            f"{len(labels)} conditions: each is learned from its own rows alone, so more than"
            f" {MANY_LABELS} want long histories; name fewer fields"
        )
    return found


def _value(label: str, name: str) -> str | None:
    """A field's value in a label, None without the field. A value with a comma in it may be cut short."""
    for part in label.split(","):
        key, _, value = part.partition("=")
        if key == name:
            return value
    return None


def _pulled(total: Floats, count: Floats, pooled: Floats, length: int) -> Floats:
    """Means over the pooled one by sums and counts (..., d), pulled towards it by rows."""
    over = np.where(count > 0, total / np.maximum(count, 1.0) - pooled, 0.0)
    return np.asarray(over * count / (count + WINDOWS_OF_DOUBT * length))
