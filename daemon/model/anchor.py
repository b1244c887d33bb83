"""The anchor: where the sensors of each asset were when a line of models began.

The gate compares a candidate with the incumbent, and a slow ramp never moves far from the incumbent: learned at every
retraining, it would be accepted in small steps. So every model carries the anchor of its line: means, spreads and
relation (``trend.Relation``) of the first model that was calibrated on ``ANCHOR_DAYS`` of rows, and the means of
each asset from the first model on that knew a day of it. ``moved`` says how far a candidate is from there.

**Season and wear.** Both move means without end. A season moves all assets of a stream together, and sensors together as
they depend on each other; wear moves one asset away from the others, or one sensor away from what the others imply.
So of an asset's move only that part counts which the other assets have not moved, too (their median); and of
the move that all share only that which the relation does not explain. One asset alone has nothing to tell a season by:
all its move counts, as does that of all rows together where the means of fewer than two assets are known.

Moves of single assets are in standard deviations within an asset: those of all rows together have in them how far
the assets lie apart, and next to that the wear of one may be little.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daemon.domain import DAY_NS, Floats, Segment
from daemon.model.bundle import Bundle

ANCHOR_DAYS = 1.0
"""Asset-days of rows that a model needs to be an anchor, and days of an asset for its means: most machines have been
through all they do within a day. It is no matter of the budget, which may allow one episode in months."""
MOST_NUMBERS = 10_000
"""Assets' means that a bundle and an anchor keep, and weights of a relation: they are text in its manifest."""
LEAST_WITHIN = 0.1
"""The least spread within an asset, as a share of that of all rows: each asset counts once in how far they lie apart, though
not all have as many rows, so that what is left of the spread is not known more closely."""
LEVELS, ANCHOR = "levels", "anchor"
"""Names of the facts."""


@dataclass(frozen=True, slots=True)
class Move:
    """The furthest move of a sensor since the anchor."""

    sensor: str
    asset: str  # empty: of all assets, or of the only one
    distance: float  # standard deviations, of the anchor's
    version: str  # the model that the anchor is of

    def __str__(self) -> str:
        whose = f"{self.sensor} of {self.asset}" if self.asset else self.sensor
        return f"{whose} has moved {self.distance:.1f} standard deviations since model {self.version}"


def asset_levels(history: Sequence[Segment], period_ns: int) -> dict[str, list[float | None]]:
    """Per asset with a day of rows the mean of each sensor, raw units; None where it was not observed.

    Of the first assets by name, ``MOST_NUMBERS`` in all.
    """
    parts: dict[str, list[Floats]] = {}
    for segment in history:
        parts.setdefault(segment.asset, []).append(segment.values)
    needed = ANCHOR_DAYS * DAY_NS / period_ns
    long = [asset for asset in sorted(parts) if sum(map(len, parts[asset])) >= needed]
    sensors = history[0].values.shape[1]
    return {asset: _means(np.concatenate(parts[asset])) for asset in long[: MOST_NUMBERS // sensors]}


def _means(values: Floats) -> list[float | None]:
    """(C,) rounded to nine digits; None also where they are too large to be summed."""
    seen = np.isfinite(values)
    with np.errstate(over="ignore"):
        mean = np.where(seen, values, 0.0).sum(0) / np.maximum(seen.sum(0), 1)
    known = seen.any(0) & np.isfinite(mean)
    return [float(f"{m:.9g}") if k else None for m, k in zip(mean.tolist(), known.tolist(), strict=True)]


def anchored(candidate: Bundle, incumbent: Bundle) -> Bundle:
    """The candidate with the anchor of the incumbent's line, or with the incumbent as its anchor.

    An incumbent of less than ``ANCHOR_DAYS`` is no anchor: its means may be those of one part of the day.
    """
    anchor = incumbent.facts.get(ANCHOR)
    if anchor is None and incumbent.calibration.days >= ANCHOR_DAYS:
        scaler, trend = incumbent.models.scaler, incumbent.trend
        anchor = {
            "version": incumbent.version,
            "mean": scaler.mean.tolist(),
            "scale": scaler.scale.tolist(),
            "seen": scaler.seen.tolist(),
            "own_scale": _within(scaler.scale, incumbent.facts.get(LEVELS, {})).tolist(),
        }
        if trend is not None and trend.relation.weights.size <= MOST_NUMBERS:
            weights = trend.relation.weights * trend.relation.scale[:, None] / trend.relation.scale
            if np.isfinite(weights).all():
                anchor["weights"] = weights.tolist()  # raw units of the one for each of the other
    if anchor is None:
        return candidate
    before = anchor.get("assets", {})
    known = {
        **before,
        **incumbent.facts.get(LEVELS, {}),
        **before,
    }  # those before come first, and stay as they are
    room = MOST_NUMBERS // len(candidate.sensors)
    anchor = {**anchor, "assets": dict(itertools.islice(known.items(), room))}
    return dataclasses.replace(candidate, facts={**candidate.facts, ANCHOR: anchor})


def moved(candidate: Bundle) -> Move:
    """How far a candidate with an anchor has moved from there; see the module."""
    anchor, scaler = candidate.facts[ANCHOR], candidate.models.scaler
    seen = scaler.seen & np.array(anchor["seen"], bool)
    then, now = anchor.get("assets", {}), candidate.facts.get(LEVELS, {})
    assets = [asset for asset in now if asset in then]
    scale = np.array(anchor.get("own_scale", anchor["scale"]))
    before, after = (
        np.array([known[asset] for asset in assets], float).reshape(-1, len(seen)) for known in (then, now)
    )
    moves = np.where(seen & np.isfinite(after - before), after - before, 0.0) / scale
    if len(assets) < 2:
        together = np.where(seen, scaler.mean - np.array(anchor["mean"]), 0.0) / np.array(anchor["scale"])
        return _furthest(candidate, np.abs(np.vstack([together, moves])), ["", *assets], anchor)
    shared = np.median(moves, axis=0)
    others = shared if len(assets) > 2 else moves[::-1]
    own = np.minimum(np.abs(moves), np.abs(moves - others))
    left = shared
    if "weights" in anchor:
        implied = np.array(anchor["weights"]) @ (shared * scale) / scale
        left = np.minimum(np.abs(shared), np.abs(shared - implied))
    return _furthest(candidate, np.vstack([np.abs(left), own]), ["", *assets], anchor)


def _within(scale: Floats, levels: Mapping[str, Sequence[float | None]]) -> Floats:
    """(C,) the spread within an asset: what of the spread of all rows is not how far the assets' means lie apart."""
    if len(levels) < 2:
        return scale
    means = np.array(list(levels.values()), float)
    known = np.isfinite(means)
    count = np.maximum(known.sum(0), 1)
    centre = np.where(known, means, 0.0).sum(0) / count
    between = np.where(known, (means - centre) ** 2, 0.0).sum(0) / count
    return np.asarray(np.sqrt(np.maximum(scale**2 - between, (LEAST_WITHIN * scale) ** 2)))


def _furthest(candidate: Bundle, away: Floats, assets: Sequence[str], anchor: Mapping[str, Any]) -> Move:
    """The largest of the distances ``away`` (A, C)."""
    a, c = np.unravel_index(int(away.argmax()), away.shape)
    return Move(candidate.sensors[int(c)], assets[int(a)], float(away[a, c]), str(anchor["version"]))
