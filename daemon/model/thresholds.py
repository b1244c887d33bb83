"""Thresholds for a budget, and for another one later: how many episodes calibration's replays open at each candidate.

Not a quantile, but the lowest threshold whose replay through the alarm machine opens at most the episodes that the
budget allows. Which candidates there are and how many episodes each opens are the same for every budget. So a bundle
keeps these numbers, and another budget needs neither a training nor rows: what is found is to the last digit what the
training would have found with it (the alarm machine being the same: persistence and hysteresis are those of training).

**Size.** A curve has at most ``POINTS`` points of 16 bytes; there are six (scores, jumps and deviations; by held-out and
by deployed models): 8 KB. Limits of single sensors need the tails of their statistics, three per sensor, above the
lowest candidate: at most 600 knots of 16 bytes each, usually a few dozen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daemon.alarm import episodes, firing
from daemon.budget import Budget
from daemon.domain import AlarmPolicy, Floats, Ints, Mask
from daemon.model.tails import TailTable

LEAST_ALLOWED, LEAST_OF_SCORES = 0.01, 0.1
"""Of an episode; tails say nothing of what is rarer than a hundredth of what was seen. The score is less than a p-value:
beyond a tenth, its tail is not believed."""
USUAL = 0.99
"""Share of the calibration's rows whose scores are called usual. At .98 more incidents were cut short, by measurement."""
POINTS = 80
LARGEST_SHARE = 0.2
"""Of the rows, those above the lowest candidate: an alarm that fires more often than that says nothing."""
BOTH = ("held_out", "deployed")
"""The models of the replays, in the order of the curves."""


def usual_level(scores: Floats) -> float:
    """The score that ``USUAL`` of the held-out normal rows (N,) do not exceed; infinite without scored rows."""
    seen = scores[np.isfinite(scores)]
    return float(np.quantile(seen, USUAL)) if len(seen) else np.inf


def closing_level(threshold: float, usual: float, policy: AlarmPolicy) -> float:
    """The score at which an episode closes: ``hysteresis * threshold``, but at most the usual level.

    A threshold is set by the worst episodes of the calibration, an incident is over when scores look normal
    again. Without the second bound a high threshold, as a small budget gives, cuts incidents into fragments.
    """
    return min(policy.hysteresis * threshold, usual)


def beyond_nats(allowed: float, least: float = LEAST_ALLOWED) -> float:
    """By how many nats of -log p a level that is to keep the budget lies above the lowest that does so in the replay.

    Where k episodes open in a replay, the level stands at the peak of the next highest, the (k + 1)-th, which as long a
    time reaches k + 1 times again, on average: with a budget of one, twice as often as is allowed, and with a small one
    even the largest of calibration is reached once. Of levels that are -log p, one that is reached only ``allowed``
    times is one whose p is ``allowed`` / (k + 1) times as large. ``least``: of an episode, as for ``LEAST_ALLOWED``.

    The score is a root mean square of such levels: its tail is as long where they rise together, as in an incident, and
    shorter where they do not. By measurement, with calibrations of a quarter of a day to ten days cut out of longer ones:
    where at least a tenth of an episode is allowed, the rest opens .8 to 2 times what the budget allows on most sets, and
    1.2 to 15 times without it.
    """
    return float(np.log((int(allowed) + 1) / max(allowed, least)))


@dataclass(frozen=True, slots=True, eq=False)
class EpisodeCurve:
    """The candidates for a threshold (K,), from the largest score down, and how many episodes each opens."""

    candidates: Floats
    episodes: Ints

    @staticmethod
    def of(series: Sequence[Floats], policy: AlarmPolicy, usual: float) -> EpisodeCurve:
        """Replay scores through the alarm machine.

        Args:
            series: scores in time order, one array per asset and block; NaN where not scored.
            policy: the alarm machine's settings.
            usual: of ``usual_level``; with it each candidate has the closing level that it would be deployed with.
        """
        # Between two series the alarm machine must return to its initial state: rows far below any threshold.
        rest = np.full(max(policy.of, 1), -1e300)
        joined = np.concatenate([np.concatenate([one, rest]) for one in series])
        ranked = np.sort(joined[np.isfinite(joined) & (joined > -1e300)])
        n = len(ranked)
        if not n:
            return EpisodeCurve(np.zeros(0), np.zeros(0, np.int64))
        ranks = np.unique(np.geomspace(1, max(n * LARGEST_SHARE, 1), POINTS).astype(int))
        candidates = ranked[n - ranks]
        opened = [
            episodes(firing(joined, T, closing_level(T, usual, policy), policy)) for T in candidates.tolist()
        ]
        return EpisodeCurve(candidates, np.array(opened, np.int64))

    def lowest(self, allowed: float) -> float:
        """The lowest threshold down to which at most ``allowed`` episodes open; below one the largest score, which opens none.

        Infinite if nothing was scored.
        """
        if not len(self.candidates):
            return np.inf
        too_many = np.flatnonzero(self.episodes > allowed)
        last = len(self.candidates) - 1 if not len(too_many) else max(int(too_many[0]) - 1, 0)
        return float(self.candidates[0 if allowed < 1.0 else last])


@dataclass(frozen=True, slots=True, eq=False)
class Replays:
    """The curves that one level is found from: of held-out rows and, where there are any, of the deployed models."""

    curves: tuple[EpisodeCurve, ...]

    @staticmethod
    def of(replays: Sequence[Sequence[Floats]], policy: AlarmPolicy, usual: float) -> Replays:
        """One curve of each replay; see ``EpisodeCurve.of``."""
        return Replays(tuple(EpisodeCurve.of(series, policy, usual) for series in replays))

    def level(self, allowed: float) -> float:
        """The lowest level at which each replay opens at most ``allowed`` episodes."""
        return max(curve.lowest(allowed) for curve in self.curves)

    @property
    def least(self) -> float:
        """No level is lower."""
        return min((float(c.candidates[-1]) for c in self.curves if len(c.candidates)), default=np.inf)

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays in a bundle."""
        found: dict[str, np.ndarray] = {}
        for name, curve in zip(BOTH, self.curves, strict=False):
            found[f"{name}.candidates"], found[f"{name}.episodes"] = curve.candidates, curve.episodes
        return found

    @staticmethod
    def read(arrays: Mapping[str, np.ndarray], prefix: str) -> Replays:
        """The inverse of ``arrays``, under a prefix of their names."""
        curves = [
            EpisodeCurve(arrays[f"{prefix}{name}.candidates"], arrays[f"{prefix}{name}.episodes"])
            for name in BOTH
            if f"{prefix}{name}.candidates" in arrays
        ]
        return Replays(tuple(curves))


@dataclass(frozen=True, slots=True, eq=False)
class JumpLimits:
    """The limit of each sensor's jumps at a level of -log p. Shapes: C sensors."""

    tails: TailTable  # of changes over ``scale``
    scale: Floats  # (C,)
    least: Floats  # (C,) a change too small to count
    known: Mask  # (C,) whether calibration saw any change

    def at(self, level: float) -> Floats:
        """(C,) the changes whose -log p is ``level``; infinite for a sensor of which no change is known."""
        return np.where(self.known, np.maximum(self.scale * self.tails.inverse(level), self.least), np.inf)


@dataclass(frozen=True, slots=True, eq=False)
class ScoreThresholds:
    """What a budget gives: see the fields of ``Calibration``."""

    threshold: float
    closing: float
    jump_limit: Floats
    provisional: bool


@dataclass(frozen=True, slots=True, eq=False)
class ScoreSearch:
    """What the thresholds of scores and jumps are found from."""

    budget: Budget  # that the thresholds in use were found for
    scores: Replays
    usual: float  # of the held-out scores
    hysteresis: float
    jumps: Replays
    jump_limits: JumpLimits
    jump_share: float  # of the budget

    def found(self, budget: Budget, days: float, assets: int) -> ScoreThresholds:
        """The thresholds for a budget.

        Args:
            budget: false episodes.
            days: asset-days that were replayed ...
            assets: ... of so many assets.
        """
        allowed = budget.allowed(days, assets)
        of_scores, of_jumps = (1.0 - self.jump_share) * allowed, self.jump_share * allowed
        threshold = self.scores.level(of_scores) + beyond_nats(of_scores, LEAST_OF_SCORES)
        return ScoreThresholds(
            threshold,
            closing_level(threshold, self.usual, AlarmPolicy(hysteresis=self.hysteresis)),
            self.jump_limits.at(self.jumps.level(of_jumps) + beyond_nats(of_jumps)),
            of_scores < 1.0,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays in a bundle, beside ``facts``."""
        limits = self.jump_limits
        return {
            **{f"scores.{name}": array for name, array in self.scores.arrays().items()},
            **{f"jumps.{name}": array for name, array in self.jumps.arrays().items()},
            **{f"tails.{name}": array for name, array in limits.tails.arrays().items()},
            "scale": limits.scale,
            "least": limits.least,
            "known": limits.known,
        }

    def facts(self) -> dict[str, object]:
        """Its entries in a bundle's manifest."""
        return {
            "budget": budget_facts(self.budget),
            "usual": finite_or_null(self.usual),
            "hysteresis": self.hysteresis,
            "jump_share": self.jump_share,
            "replays": len(self.scores.curves),
        }

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> ScoreSearch:
        """The inverse of ``arrays`` and ``facts``."""
        limits = JumpLimits(
            TailTable.read(arrays, "tails."), arrays["scale"], arrays["least"], arrays["known"]
        )
        return ScoreSearch(
            Budget(**facts["budget"]),
            Replays.read(arrays, "scores."),
            np.inf if facts["usual"] is None else float(facts["usual"]),
            float(facts["hysteresis"]),
            Replays.read(arrays, "jumps."),
            limits,
            float(facts["jump_share"]),
        )


def budget_facts(budget: Budget) -> dict[str, object]:
    """A budget in a manifest."""
    return {"episodes_per_day": budget.episodes_per_day, "per_stream": budget.per_stream}


def finite_or_null(value: float) -> float | None:
    """None for infinity, which JSON does not have."""
    return value if np.isfinite(value) else None
