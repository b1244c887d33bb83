"""The anchor: what the sensors of each asset were like when a line of models began.

The gate compares a candidate with the incumbent, and a slow ramp never moves far from the incumbent: learned at every
retraining, it would be accepted in small steps. So every model carries the anchor of its line: means, spreads and
relation (``trend.Relation``) of the first model that was calibrated on ``ANCHOR_DAYS`` of rows, and the means of
each asset from the first model on that knew a day of it. ``moved`` says how far a candidate is from there.

**Noise that grows** is learned in small steps, too: each model's limits are in units of what its own rows scatter. So the
anchor also has the *roughness* of each asset's sensors: how much they change from one row to the next, which hardly differs from
season to season. ``roughened`` says how much rougher a candidate's rows are. (The residuals would not do: an autoencoder follows
noise, and while a sensor's noise grows to ten times what it was, they grow to less than three.)

**Whose line it is.** A model that people put in force although the gate had refused it begins a line of its own.

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
LEVELS, ROUGHNESS, ANCHOR = "levels", "roughness", "anchor"
"""Names of the facts."""
QUANTILES = 0.75, 0.9, 0.99
"""Of the sizes of a sensor's changes, zeros aside: its roughness. A sensor is rougher where all have grown: the rows of a false alarm that
is learned, 5 % at most, raise the last alone, and a machine that runs more often than it did those that were of its rest."""
FEWEST_CHANGES = 100
"""Of a sensor, to know their quantiles."""
LEAST_CHANGE = 0.01
"""The least size of changes that counts, as a share of the sensor's spread: one that was still is not rough because its last
digit moves."""


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


@dataclass(frozen=True, slots=True)
class Roughening:
    """The largest growth of a roughness since the anchor."""

    sensor: str
    asset: str  # empty: of all assets, or of the only one
    factor: float  # 1: as it was
    version: str  # the model that the anchor is of

    def __str__(self) -> str:
        whose = f"{self.sensor} of {self.asset}" if self.asset else self.sensor
        return f"{whose} changes {self.factor:.1f} times as much from row to row as for model {self.version}"


def asset_levels(history: Sequence[Segment], period_ns: int) -> dict[str, list[float | None]]:
    """Per asset with a day of rows the mean of each sensor, raw units; None where it was not observed.

    Of the first assets by name, ``MOST_NUMBERS`` in all.
    """
    known = with_a_day(history, period_ns, history[0].values.shape[1])
    return {asset: _means(np.concatenate([one.values for one in mine])) for asset, mine in known.items()}


def roughness(history: Sequence[Segment], period_ns: int) -> dict[str, Any]:
    """How much sensors change from row to row: of ``all`` rows, and of the ``assets`` with a day of them.

    Returns:
        Of each ``QUANTILES`` by sensor the size of changes, raw units; None where there are too few. Assets as those
        of ``asset_levels``.
    """
    known = with_a_day(history, period_ns, len(QUANTILES) * history[0].values.shape[1])
    return {
        "all": _roughness(history),
        "assets": {asset: _roughness(mine) for asset, mine in known.items()},
    }


def with_a_day(history: Sequence[Segment], period_ns: int, numbers: int) -> dict[str, list[Segment]]:
    """The segments of the assets with ``ANCHOR_DAYS`` of rows: the first by name, as many as ``numbers`` each leave room for."""
    parts: dict[str, list[Segment]] = {}
    for segment in history:
        parts.setdefault(segment.asset, []).append(segment)
    needed = ANCHOR_DAYS * DAY_NS / period_ns
    long = [asset for asset in sorted(parts) if sum(len(one.values) for one in parts[asset]) >= needed]
    return {asset: parts[asset] for asset in long[: MOST_NUMBERS // numbers]}


def _roughness(history: Sequence[Segment]) -> list[list[float | None]]:
    """The ``QUANTILES`` (Q, C), rounded to nine digits."""
    with np.errstate(all="ignore"):
        changes = np.abs(np.concatenate([np.diff(one.values, axis=0) for one in history]))
    found = []
    for column in changes.T:
        some = column[np.isfinite(column) & (column > 0.0)]
        enough = len(some) >= FEWEST_CHANGES
        found.append(
            [float(f"{q:.9g}") for q in np.quantile(some, QUANTILES)] if enough else [None] * len(QUANTILES)
        )
    return [list(of) for of in zip(*found, strict=True)]


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
    anchor, whole = incumbent.facts.get(ANCHOR), incumbent.calibration.days >= ANCHOR_DAYS
    refused = not (incumbent.facts.get("decision") or {}).get("promoted", True)  # and in force all the same
    if whole and (anchor is None or refused):
        scaler, trend = incumbent.models.scaler, incumbent.trend
        own = _within(scaler.scale, incumbent.facts.get(LEVELS, {}))
        if (
            incumbent.models.levels is not None
        ):  # without its levels a sensor's spread is that within an asset
            own = np.where(incumbent.models.levels.variance > 0.0, scaler.scale, own)
        anchor = {
            "version": incumbent.version,
            "mean": scaler.mean.tolist(),
            "scale": scaler.scale.tolist(),
            "seen": scaler.seen.tolist(),
            "own_scale": own.tolist(),
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
    if (rough := incumbent.facts.get(ROUGHNESS)) is not None:
        kept = anchor.get(ROUGHNESS) or rough
        known = {**kept["assets"], **rough["assets"], **kept["assets"]}
        room = MOST_NUMBERS // (len(QUANTILES) * len(candidate.sensors))
        anchor[ROUGHNESS] = {"all": kept["all"], "assets": dict(itertools.islice(known.items(), room))}
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


def roughened(candidate: Bundle) -> Roughening | None:
    """How much rougher sensors are than at the candidate's anchor; None if that is not known of both.

    All rows together count where fewer than two assets are known in both: else who is in the fleet would.
    """
    anchor = candidate.facts[ANCHOR]
    then, now = anchor.get(ROUGHNESS), candidate.facts.get(ROUGHNESS)
    if then is None or now is None:
        return None
    assets = [asset for asset in now["assets"] if asset in then["assets"]]
    named = [(asset, then["assets"][asset], now["assets"][asset]) for asset in assets]
    if len(assets) < 2:
        named.append(("", then["all"], now["all"]))
    before, after = (np.array([pair[side] for pair in named], float) for side in (1, 2))  # (A, Q, C)
    least = LEAST_CHANGE * np.array(anchor.get("own_scale", anchor["scale"]))
    factors = np.where(
        np.isfinite(before) & np.isfinite(after), np.maximum(after, least) / np.maximum(before, least), 1.0
    ).min(axis=1)
    a, c = np.unravel_index(int(factors.argmax()), factors.shape)
    return Roughening(
        candidate.sensors[int(c)], named[int(a)][0], float(factors[a, c]), str(anchor["version"])
    )


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
