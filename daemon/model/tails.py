"""The calibrated tail of one score part: value to -log p.

Below the ``1 - TAIL`` quantile of held-out normal data the curve is the empirical rank, above it an
exponential tail fitted to the excesses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from daemon.domain import (
    Floats,
    Ints,
)

TAIL = 0.02
KNOTS = 600


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """-log p of one part against its calibration values.

    ``value`` and ``nats`` (K,) are knots of the empirical curve, ascending; beyond the last
    knot the curve continues as a line of slope 1 / ``excess``.
    """

    value: Floats
    nats: Floats
    excess: float

    @staticmethod
    def fit(values: Floats) -> Tail:
        """Fit on calibration values; NaN are left out. Without any, every value has p = 1."""
        v = np.sort(values[np.isfinite(values)])
        n = len(v)
        if n == 0:
            return Tail(np.zeros(1), np.zeros(1), np.inf)
        top = int((1.0 - TAIL) * n)
        u = float(v[min(top, n - 1)])
        above = v[v > u] - u
        excess = max(float(above.mean()) if len(above) else 0.0, 0.02)
        # Ranks at equal steps of the value's rank and, towards the top, of its logarithm.
        ranks = np.concatenate(
            [np.linspace(0, top, KNOTS // 2), top - np.geomspace(1, top + 1, KNOTS // 2) + 1]
        )
        knots = np.unique(v[np.clip(ranks, 0, min(top, n - 1)).astype(int)])
        p = (n - np.searchsorted(v, knots, side="left") + 0.5) / (n + 1)
        nats = np.minimum(-np.log(p), -np.log(TAIL))
        nats[-1] = -np.log(TAIL) if len(knots) > 1 else nats[-1]
        return Tail(knots, nats, excess)

    def __call__(self, values: Floats) -> Floats:
        """-log p; NaN stays NaN."""
        beyond = np.maximum(values - self.value[-1], 0.0) / self.excess
        result: Floats = np.interp(values, self.value, self.nats) + beyond
        return result

    def inverse(self, nats: float) -> float:
        """The value whose -log p is ``nats``."""
        if nats >= self.nats[-1]:
            return float(self.value[-1] + (nats - self.nats[-1]) * min(self.excess, 1e300))
        return float(np.interp(nats, self.nats, self.value))


@dataclass(frozen=True, slots=True, eq=False)
class TailTable:
    """The upper parts of T tails, from which only values of high -log p are wanted. Shapes: N knots of all together."""

    value: Floats  # (N,)
    nats: Floats  # (N,)
    first: Ints  # (T + 1,) where the knots of each begin, and where the last ends
    excess: Floats  # (T,)

    @staticmethod
    def of(tails: Sequence[Tail], least: float) -> TailTable:
        """The parts that ``inverse`` needs of levels from ``least`` on."""
        begins = [max(int(np.searchsorted(tail.nats, least, side="right")) - 1, 0) for tail in tails]
        return TailTable(
            np.concatenate([tail.value[i:] for tail, i in zip(tails, begins, strict=True)]),
            np.concatenate([tail.nats[i:] for tail, i in zip(tails, begins, strict=True)]),
            np.cumsum([0, *(len(tail.nats) - i for tail, i in zip(tails, begins, strict=True))]),
            np.array([tail.excess for tail in tails]),
        )

    def inverse(self, nats: float) -> Floats:
        """(T,) the values whose -log p is ``nats``; see ``Tail.inverse``."""
        parts = (slice(a, b) for a, b in zip(self.first[:-1], self.first[1:], strict=True))
        each = zip(parts, self.excess.tolist(), strict=True)
        return np.array(
            [Tail(self.value[part], self.nats[part], excess).inverse(nats) for part, excess in each]
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays in a bundle."""
        return {"value": self.value, "nats": self.nats, "first": self.first, "excess": self.excess}

    @staticmethod
    def read(arrays: Mapping[str, np.ndarray], prefix: str) -> TailTable:
        """The inverse of ``arrays``, under a prefix of their names."""
        return TailTable(*(arrays[prefix + name] for name in ("value", "nats", "first", "excess")))
