"""Why a window is anomalous: the fewest sensors without which it would be normal.

**Smallest repair.** A sensor is *taken out* of a window by masking all its cells: pPCA fills them
from the other sensors, the encoder is shown the gap, and the window is scored again by the
detector's own calibrated score, with the baseline that it met (``score_without``). A set of
sensors *repairs* the window if the score without them is at most ``hysteresis * threshold``, the
level at which an episode closes. That is the counterfactual question "which sensors, had they
read what the others say, would have raised no alarm?" of actual causality (Halpern & Pearl 2005;
as minimal subsets also Wachter et al. 2017), and unlike a ranking by error it cannot blame a
sensor that is only the echo of another one.

The search is by size. Every set of one sensor, then of two, then of three is scored, and the
first size with a set that suffices ends it. A size is searched whole as long as its sets number at
most ``SETS``; of a wider stream the sets of the most blamed sensors are, as many as fit, and the
repair says that it is not known to be the smallest (``exact`` False, and ``fewest`` is what is known). The score is not monotone
in the set, because the gaps are filled from what is left, so no bound can prune. Beyond three
sensors the search is greedy from the best set of three, and what turns out not to be needed is
put back.

**Verdict** (``verdict_of``), for a window that is not normal:

* one sensor repairs it: *broken sensor*. All else is as ever, the latents of the repaired window too;
* else, if in the midst of the episode the model itself reconstructs what has changed since before the
  onset, and its latents are farther out than its residual: *new regime*. The sensors still fit
  together, but together they are where training never was;
* else: *process fault*. Several sensors no longer fit together.

The first of these two is asked of the change, in scaled units: a model keeps ``SHARE`` (90 %) of the
variance of training, and a change of which it leaves no more than twice as much is one that it can make
(``EXPLAINED``). The second compares the parts of the score in its own unit, nats of -log p against
calibration. Alone, the one takes an incident that all sensors share for a regime, the other a large
regime for a fault, as what little is left of it has a scale of its own.

A broken sensor and a fault of the process that only one sensor sees are the same numbers: what the
first verdict says for certain is that one sensor explains everything.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daemon.detector import Windows
from daemon.domain import Floats, Ints
from daemon.model.calibration import Parts
from daemon.model.pca import SHARE
from daemon.model.reconstruction import Measured
from daemon.model.scaler import CLIP

if TYPE_CHECKING:  # it asks ``live_verdict``
    from daemon.model.detector import BundleDetector

WHOLE = 3
"""Sizes up to which all sets are searched: what an operator can check by hand."""
CANDIDATES = 5
"""Sensors that are taken out one by one for a live verdict: a repairing sensor was among so many most
blamed ones in 365 of 366 cases, and in 339 the first; and the cost does not grow with the sensors."""
SETS = 10_000
"""Sets that are scored per size, at most: all triples of 40 sensors, all pairs of 141."""
GREEDY = 40
"""Sensors among which a greedy search chooses: the most blamed, as many as an alert ranks."""
AT_ONCE, CELLS = 2_048, 4_000_000
"""Sets that are scored in one call, and cells of theirs, at most: memory, not results, depends on it."""
EXPLAINED = 1.0 - 2.0 * (1.0 - SHARE)
"""Share of a change that the model must reconstruct for a new regime; see the module."""
ACTIVE = 0.01
"""Variance of a posterior mean below which a latent dimension is idle (Burda et al. 2016): its sd is no unit."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One window with all that its score depends on.

    ``values`` (L, C) raw, NaN where not observed; ``baseline`` (2P,) the asset's slow baseline as
    it was before this window.
    """

    values: Floats
    condition: str
    baseline: Floats

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
    return detector.models.measure(windows, (view.condition,) * len(windows), keep)


def scored(detector: BundleDetector, view: View, windows: Floats) -> Scored:
    """The calibrated scores of variants (B, L, C) of a window, each as if it had come in its place."""
    parts = detector.parts(measured(detector, view, windows), detector.offsets(view.baseline, view.condition))
    nats = detector.calibrated.nats(parts)
    return Scored(detector.calibrated.combined(nats), nats, parts)


def without(values: Floats, sensors: Sequence[int]) -> Floats:
    """(L, C) with some sensors masked."""
    masked = values.copy()
    masked[:, list(sensors)] = np.nan
    return masked


def score_without(detector: BundleDetector, view: View, sets: Sequence[tuple[int, ...]]) -> Floats:
    """(B,) the window's score without each set of sensors; infinite where nothing observed is left."""
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


def smallest_repair(
    detector: BundleDetector, view: View, blame: Floats, hysteresis: float, most: int | None = None
) -> Repair:
    """The smallest repair of a window; of several of one size the one with the most blame.

    Args:
        detector: that judged it.
        view: the window.
        blame: (C,) the episode's shares, which break ties and choose what is left out where there
            are too many sets.
        hysteresis: of the alarm policy: normal is a score of at most ``hysteresis * threshold``.
        most: sensors that may be taken out; all but one if None.

    Returns:
        The repair; where none suffices, the best set that was found, with ``enough`` False.
    """
    level = hysteresis * detector.threshold
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
        best, after, more = _thinned(detector, view, best, after, level, blame)
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


def _thinned(
    detector: BundleDetector, view: View, sensors: tuple[int, ...], after: float, level: float, blame: Floats
) -> tuple[tuple[int, ...], float, int]:
    """Put back, one by one, the least blamed sensor that a greedy search turns out not to need."""
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


# ------------------------------------------------------------------ the verdict
class Cause(StrEnum):
    """What kind of thing an episode is."""

    BROKEN_SENSOR = "broken_sensor"
    PROCESS_FAULT = "process_fault"
    NEW_REGIME = "new_regime"


RIGHT = {Cause.BROKEN_SENSOR: 0.64, Cause.PROCESS_FAULT: 0.93, Cause.NEW_REGIME: 0.73}
"""How often a verdict was right, of the labelled cases in which it was given (``tests/bench/repair.py``:
404, 243 and 110 of them, on seven sets). One sensor is often all that shows of a real fault of the process
(a valve that closes, seen by the flow), and on servers an incident is often a change that the model can
make. A live verdict of a process fault was right in 89 % of 222 cases; per set in 63 % (skab, of 8)
to all."""
PUBLISHED = frozenset(cause for cause, right in RIGHT.items() if right >= 0.8)
"""Alerts carry these alone; a page says of the others that they are doubtful."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A cause with its evidence; no cause for a window that is normal.

    Of the window in the midst of the episode, ``residual_nats`` and ``latent_nats`` are the root mean
    squares of the score's parts of that kind, comparable with the score and its threshold, and
    ``explained`` is the share of the change since before the onset that the model reconstructs.
    """

    cause: Cause | None
    residual_nats: float
    latent_nats: float
    explained: float


def verdict_of(detector: BundleDetector, repair: Repair, midst: View, explained: float) -> Verdict:
    """The verdict on an episode; see the module.

    Args:
        detector: a bundle's.
        repair: the smallest one of the window that scored highest.
        midst: a window in the midst of the episode.
        explained: of the change up to there, see ``explained_share``.
    """
    nats = scored(detector, midst, midst.values[None]).nats[:, 0]
    residual, latent = by_kind(nats, len(detector.models.lengths))
    if repair.before <= repair.level:
        cause = None
    elif (len(repair.sensors) == 1 and repair.enough) or len(midst.observed) == 1:
        cause = Cause.BROKEN_SENSOR
    else:
        regime = explained >= EXPLAINED and latent > residual
        cause = Cause.NEW_REGIME if regime else Cause.PROCESS_FAULT
    return Verdict(cause, residual, latent, explained)


def explained_share(detector: BundleDetector, window: Floats, condition: str, before: Floats) -> float:
    """The share of a change that the model reconstructs: 1 - |change of the residual|^2 / |change|^2.

    Args:
        detector: a bundle's.
        window: (L, C) raw, in the midst of what has changed.
        condition: label of the windows.
        before: (B, L, C) raw windows from before; with none, what has changed is what is not
            training's mean.

    Returns:
        At most 1; below 0 where the model makes more of it; 0 if nothing has changed.
    """
    windows = np.concatenate([before, window[None]])
    found = detector.models.measure(windows, (condition,) * len(windows), keep=True)
    scaled = found.scaled.astype(np.float64)
    residual = scaled - found.decoded
    level, rest = np.zeros(scaled.shape[2]), np.zeros(scaled.shape[2])
    if len(before):
        level, rest = (_middle(values[:-1].reshape(-1, scaled.shape[2])) for values in (scaled, residual))
    change = float(np.nansum((scaled[-1] - level) ** 2))
    left = float(np.nansum((residual[-1] - rest) ** 2))
    return 1.0 - left / change if change > 0 else 0.0


def live_verdict(
    detector: BundleDetector,
    window: NDArray[Any],
    condition: str,
    offsets: Floats,
    before: Floats,
    shares: Floats,
    level: float,
) -> Cause | None:
    """The verdict that an alert carries while its episode goes on; None where it is not ``PUBLISHED``.

    As ``verdict_of``, from what a stream has at hand and on the safe side: the ``CANDIDATES`` most
    blamed sensors are taken out, the change is that from the sensors' levels before the onset, and a
    change that the model reconstructs is never called a fault. Arguments: see ``domain.Detector.verdict``.
    """
    blamed = np.argsort(-shares, kind="stable")[:CANDIDATES]
    windows = np.repeat(window[None], 1 + len(blamed), 0)
    for i, c in enumerate(blamed.tolist(), 1):
        windows[i, :, c] = np.nan
    found = detector.models.measure_standard(windows, (condition,) * len(windows), keep=True)
    calibrated = detector.calibrated
    nats = calibrated.nats(detector.parts(found, offsets))
    score = calibrated.combined(nats)
    if not score[0] > level or np.isfinite(found.channel_error[-1, 0]).sum() < 2:
        return None
    if (score[1:] <= level).any():
        return _published(Cause.BROKEN_SENSOR)
    scaled = found.scaled[0].astype(np.float64)
    change = float(np.nansum((scaled - np.clip(before, -CLIP, CLIP)) ** 2))
    left = float(np.nansum((scaled - found.decoded[0]) ** 2))
    if left > (1.0 - EXPLAINED) * change:
        return _published(Cause.PROCESS_FAULT)
    residual, latent = by_kind(nats[:, 0], len(detector.models.lengths))
    return _published(Cause.NEW_REGIME) if latent > residual else None


def _published(cause: Cause) -> Cause | None:
    return cause if cause in PUBLISHED else None


def _middle(values: Floats) -> Floats:
    """(N, C) to (C,) medians of what is observed; 0 where nothing is."""
    seen = np.isfinite(values)
    known = np.where(seen.any(0), values, 0.0)
    return np.asarray(np.nanmedian(known, axis=0))


def by_kind(nats: Floats, lengths: int) -> tuple[float, float]:
    """Of the parts' nats: root mean square of the residual's parts, and of the latents'; 0 without evidence."""
    squares = nats * nats
    errors = squares[: lengths + 1]
    latents = (squares[lengths + 1 :: 2] + squares[lengths + 2 :: 2]) / 2.0
    residual, latent = (
        math.sqrt(float(np.mean(part[np.isfinite(part)]))) if np.isfinite(part).any() else 0.0
        for part in (errors, latents)
    )
    return residual, latent


# ------------------------------------------------------------------ what it should have been
@dataclass(frozen=True, slots=True, eq=False)
class Twin:
    """What sensors would have read: (T, C) raw with 90 % intervals; NaN where nothing was taken out."""

    value: Floats
    low: Floats
    high: Floats


def normal_twin(
    detector: BundleDetector,
    values: Floats,
    condition: Sequence[str],
    sensors: Sequence[int],
    since: int,
) -> Twin:
    """The rows as they would have been had some sensors fallen silent before they went wrong.

    Just what the daemon fills in for a silent sensor (see ``impute``), with the intervals that
    were calibrated for that: causal, and from the other sensors as they were.

    Args:
        detector: a bundle's.
        values: (T, C) raw rows without a long gap; windows that reach back before them are padded.
        condition: T labels.
        sensors: those to take out.
        since: the first row from which they are.
    """
    L, chosen = detector.window, np.array(sensors, np.int64)
    rows = np.arange(since, len(values))
    value, low, high = (np.full(values.shape, np.nan) for _ in range(3))
    if not len(chosen) or not len(rows):
        return Twin(value, low, high)
    masked = values.copy()
    masked[since:, chosen] = np.nan
    padded = np.concatenate([np.full((L - 1, values.shape[1]), np.nan), masked])
    seen = np.isfinite(padded)
    newest = np.maximum.accumulate(np.where(seen, np.arange(len(padded))[:, None], -1), axis=0)
    last = np.where(newest >= 0, np.take_along_axis(padded, np.maximum(newest, 0), 0), np.nan)
    age = np.where(newest >= 0, np.arange(len(padded))[:, None] - newest, len(padded))
    for at in range(0, len(rows), AT_ONCE):
        some = rows[at : at + AT_ONCE]
        windows = np.stack([padded[row : row + L] for row in some.tolist()])
        ends = some + L - 1
        evidence = detector.infer(
            Windows(
                windows,
                np.ones(len(some), bool),
                tuple(condition[row] for row in some.tolist()),
                last[ends],
                age[ends].astype(np.float64),
            )
        )
        for into, found in ((value, evidence.filled), (low, evidence.low), (high, evidence.high)):
            into[some[:, None], chosen] = found[:, chosen]
    return Twin(value, low, high)


def reconstructed(detector: BundleDetector, view: View, sensors: Sequence[int] = ()) -> Floats:
    """(L, C) raw: the window as the model sees it at its posterior's mean, some sensors taken out first."""
    whole = without(view.values, sensors)[None]
    return detector.models.scaler.raw(measured(detector, view, whole, keep=True).decoded[0])


# ------------------------------------------------------------------ through latent space
@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """Posterior means along some rows, in training's standard deviations from training's mean.

    ``dimensions`` are those that moved most, first; ``sd`` is (T, D).
    """

    dimensions: tuple[int, ...]
    sd: Floats


def latent_path(detector: BundleDetector, posterior: Floats, before: int, most: int = 4) -> Path:
    """The way of the latents over rows, of which the first ``before`` are normal.

    Args:
        detector: a bundle's.
        posterior: (T, Z) posterior means, the last row being where the way ends.
        before: rows whose median the way starts from; at least one.
        most: dimensions, at most. Idle ones (``ACTIVE``) are none.
    """
    spread = np.sqrt(np.maximum(detector.drift.latent_variance, ACTIVE))
    sd = (posterior - detector.drift.latent_mean) / spread
    if not sd.size:
        return Path((), np.zeros((len(posterior), 0)))
    moved = np.abs(sd[-1] - np.median(sd[: max(before, 1)], axis=0))
    moved[detector.drift.latent_variance < ACTIVE] = 0.0
    chosen = [d for d in np.argsort(-moved, kind="stable")[:most].tolist() if moved[d] > 0]
    return Path(tuple(chosen), sd[:, chosen])


# ------------------------------------------------------------------ what it is like
def likeness(shares: Floats, moved: Floats, other_shares: Floats, other_moved: Floats | None) -> float:
    """How alike two episodes are, -1 to 1: mean of the cosines of their shares and of their latent moves.

    Args:
        shares, other_shares: (C,) of the blame.
        moved, other_moved: (Z,) latent displacement, sd; None where it is not known: then the
            shares alone count.
    """
    alike = _cosine(shares, other_shares)
    return alike if other_moved is None else 0.5 * (alike + _cosine(moved, other_moved))


def _cosine(a: Floats, b: Floats) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else 0.0
