"""What the scored windows of a chunk add to the drift: a value that the judge makes and ``drift`` adds up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daemon.domain import Floats, Ints, Mask


@dataclass(frozen=True, slots=True, eq=False)
class Summands:
    """W scored windows; ``places`` are theirs among the chunk's rows."""

    places: Ints  # (W,) ascending
    slots: Ints  # (W,) of their assets
    times: Ints  # (W,) event time of the newest row
    posterior: Floats  # (W, Z)
    residual: Floats  # (W, C)
    kl: Floats  # (W,) nats
    readings: Floats  # (W, C) of the newest row, in training sd from the training mean
    expected: Floats  # (W, C) the same as decoded
    explained: (
        Mask  # (W,) of an asset with an open episode, or with a row under maintenance: left out, counted
    )
    apart: Mask  # (W,) of an asset that drifts: they count for it alone, unless the fleet moves
    shadow: Ints | None = None  # (W, K) what they add to ``shadow.COUNTED``; None: there is no shadow

    def followed_by(self, later: Summands) -> Summands:
        """With those of later windows; before either is counted in a shadow."""
        names = [name for name in Summands.__slots__ if name != "shadow"]
        return Summands(*(np.concatenate([getattr(self, name), getattr(later, name)]) for name in names))

    def part(self, begin: int, end: int) -> Summands:
        """The windows of these indices."""
        known = [name for name in Summands.__slots__ if getattr(self, name) is not None]
        return Summands(**{name: getattr(self, name)[begin:end] for name in known})
