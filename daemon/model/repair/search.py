"""The smallest repair: the fewest sensors without which a window would be normal.

A sensor is *taken out* of a window by masking all its cells: pPCA fills them from the other sensors, the
encoder reads the gap, and the window is scored again by the detector's calibrated score, with the baseline
that it met (``score_without``). A set of sensors *repairs* the window if the score without them is at most
``BundleDetector.closing``, the level at which an episode closes. This is the counterfactual question "which
sensors, had they read what the others imply, would have raised no alarm?" of actual causality (Halpern &
Pearl 2005; as minimal subsets also Wachter et al. 2017). Unlike a ranking by error it cannot blame a sensor
whose error is only an effect of another one.

Sets are searched by size: all sets of one sensor, then of two, then of three; the first size with a set
that suffices ends the search. A size is searched completely as long as it has at most ``SETS`` sets; in a
wider stream as many sets of the most blamed sensors as fit, and the repair is then not known to be the
smallest (``exact`` False, ``fewest`` is the known bound). The score is not monotone in the set, because
gaps are filled from what is left, so no bound can prune. Beyond three sensors the search is greedy, from
the best set of three, and sensors that turn out not to be needed are put back.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from daemon.domain import Floats, Ints
from daemon.model.calibration import Parts
from daemon.model.reconstruction import Measured

if TYPE_CHECKING:  # the detector imports this package
    from daemon.model.detector import BundleDetector


WHOLE = 3
"""Sizes up to which all sets are searched; an operator can check these by hand."""
SETS = 10_000
"""Sets that are scored per size, at most: all triples of 40 sensors, all pairs of 141."""
GREEDY = 40
"""Sensors among which a greedy search chooses: the most blamed, as many as an alert ranks."""
AT_ONCE, CELLS = 2_048, 4_000_000
"""Sets that are scored in one call, and cells of theirs, at most: memory, not results, depends on it."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One window with everything that its score depends on.

    ``values`` (L, C) raw, NaN where not observed; ``baseline`` (2P + Q,) the asset's slow baseline as
    it was before this window.
    """

    values: Floats
    condition: str
    baseline: Floats
    asset: str = ""  # of a name that training did not have

    @property
    def observed(self) -> Ints:
        """The sensors that have a value in the window."""
        return np.flatnonzero(np.isfinite(self.values).any(0))


@dataclass(frozen=True, slots=True, eq=False)
class Repair:
    """The sensors without which a window is normal, most blamed first; empty if it is normal as it is."""

    sensors: tuple[int, ...]
    before: float  # the window's score
    after: float  # its score without them
    level: float  # normal is at most this
    fewest: int  # so many sensors it takes for certain: every smaller set was tried
    others: int  # sets of the same size that suffice too, of those that were looked at
    tried: int

    @property
    def exact(self) -> bool:
        """Whether no smaller set suffices, for certain."""
        return self.enough and len(self.sensors) == self.fewest

    @property
    def enough(self) -> bool:
        """Whether it makes the window normal; False if even a single sensor alone is anomalous."""
        return self.after <= self.level


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Variants of a window: score (B,), and its -log p by part, as ``Calibration.nats`` gives them."""

    score: Floats
    nats: Floats  # (parts, B)
    parts: Parts


def measured(detector: BundleDetector, view: View, windows: Floats, keep: bool = False) -> Measured:
    """Variants (B, L, C) of a window, raw, through the models."""
    models = detector.models.at_level(view.asset, view.values)
    return models.measure(windows, (view.condition,) * len(windows), keep)


def scored(detector: BundleDetector, view: View, windows: Floats) -> Scored:
    """The calibrated scores of variants (B, L, C) of a window, each in the place of the window."""
    parts = detector.parts(measured(detector, view, windows), detector.offsets(view.baseline, view.condition))
    nats = detector.calibrated.nats(parts)
    return Scored(detector.calibrated.combined(nats), nats, parts)


def without(values: Floats, sensors: Sequence[int]) -> Floats:
    """(L, C) with some sensors masked."""
    masked = values.copy()
    masked[:, list(sensors)] = np.nan
    return masked


def score_without(detector: BundleDetector, view: View, sets: Sequence[tuple[int, ...]]) -> Floats:
    """(B,) the window's score without each set of sensors; infinite where no observed cell is left."""
    found = []
    step = max(min(AT_ONCE, CELLS // max(view.values.size, 1)), 1)
    for at in range(0, len(sets), step):
        some = sets[at : at + step]
        windows = np.repeat(view.values[None], len(some), 0)
        for i, sensors in enumerate(some):
            windows[i][:, list(sensors)] = np.nan
        found.append(scored(detector, view, windows).score)
    score = np.concatenate(found) if found else np.zeros(0)
    return np.where(np.isfinite(score), score, np.inf)


def smallest_repair(detector: BundleDetector, view: View, blame: Floats, most: int | None = None) -> Repair:
    """The smallest repair of a window; of several of one size the one with the most blame.

    Args:
        detector: that judged it; normal is a score of at most its closing level.
        view: the window.
        blame: (C,) the episode's shares, which break ties and choose what is left out where there
            are too many sets.
        most: sensors that may be taken out; all but one if None.

    Returns:
        The repair; where none suffices, the best set that was found, with ``enough`` False.
    """
    level = detector.closing
    before = float(score_without(detector, view, [()])[0])
    if before <= level:
        return Repair((), before, before, level, 0, 0, 1)
    seen = set(view.observed.tolist())
    ranked = [c for c in np.argsort(-blame, kind="stable").tolist() if c in seen]
    most = len(ranked) - 1 if most is None else min(most, len(ranked) - 1)
    fewest, tried = 1, 1
    best: tuple[int, ...] = ()
    after = before
    for size in range(1, min(WHOLE, most) + 1):
        sets, whole = sets_of(ranked, size)
        scores = score_without(detector, view, sets)
        tried += len(sets)
        enough = np.flatnonzero(scores <= level)
        if len(enough):
            weight = [float(blame[list(sets[i])].sum()) for i in enough.tolist()]
            chosen = int(enough[int(np.argmax(weight))])
            return Repair(sets[chosen], before, float(scores[chosen]), level, fewest, len(enough) - 1, tried)
        if whole and fewest == size:
            fewest = size + 1
        at = int(np.argmin(scores))
        best, after = sets[at], float(scores[at])
    while after > level and len(best) < most:
        sets = [(*best, c) for c in ranked[:GREEDY] if c not in best]
        if not sets:
            break
        scores = score_without(detector, view, sets)
        tried += len(sets)
        at = int(np.argmin(scores))
        best, after = sets[at], float(scores[at])
    if after <= level:
        best, after, more = _pruned(detector, view, best, after, level, blame)
        tried += more
    place = {c: i for i, c in enumerate(ranked)}
    ordered = tuple(sorted(best, key=place.__getitem__))
    return Repair(ordered, before, after, level, fewest, 0, tried)


def sets_of(ranked: Sequence[int], size: int) -> tuple[list[tuple[int, ...]], bool]:
    """Sets of so many sensors, most blamed first, at most ``SETS``; and whether these are all.

    Where there are too many, all sets of the n most blamed sensors, for the largest n that fits.
    """
    count = len(ranked)
    while math.comb(count, size) > SETS:
        count -= 1
    return list(itertools.combinations(ranked[:count], size)), count == len(ranked)


def _pruned(
    detector: BundleDetector, view: View, sensors: tuple[int, ...], after: float, level: float, blame: Floats
) -> tuple[tuple[int, ...], float, int]:
    """Put back, one by one, the least blamed sensor that is not needed after a greedy search."""
    tried = 0
    while len(sensors) > 1:
        sets = [tuple(c for c in sensors if c != left) for left in sensors]
        scores = score_without(detector, view, sets)
        tried += len(sets)
        enough = np.flatnonzero(scores <= level).tolist()
        if not enough:
            break
        at = min(enough, key=lambda i: float(blame[sensors[i]]))
        sensors, after = sets[at], float(scores[at])
    return sensors, after, tried
