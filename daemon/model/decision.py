"""The gate's decision on a candidate, rule by rule; see ``promotion``.

It is kept among the facts of the candidate's bundle, below the version, which hashes them: so it goes wherever the
bundle goes (directory, topic, export and import), nobody can change it afterwards, and a refused candidate has it, too.
It depends on nothing that the version would be needed for. What comes after the version, that somebody promoted or
withdrew it, is in the registry's pointer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from daemon.domain import finite_or_none

IN_WORDS: Mapping[str, str] = {
    "finite": "arrays with numbers that are not finite",
    "active_units": "active latents",
    "anchor_distance": "distance from the anchor",
    "anchor_roughness": "changes from row to row, beside the anchor's",
    "anchor_apart": "distance of an asset from the others, beside the anchor's",
    "anchor_recall": "share of injected faults found, beside the anchor's",
    "episodes": "episodes on held-out normal rows",
    "incumbent_episodes": "episodes, beside those of the model in force",
    "golden_lost": "confirmed incidents no longer found",
    "faults": "injected faults to compare on",
    "faults_lost": "injected faults lost, less those gained",
    "likelihood": "held-out likelihood in nats per cell",
    "shadow": "in shadow",
}
"""What the figure of each rule counts; of most, few are good."""


def rule_in_words(name: str, figure: float | None, limit: float | None, *, at_least: bool) -> str:
    """``injected faults lost, less those gained: 12, must be at most 7.4``; None is a number that is not finite."""
    bound = "at least" if at_least else "at most"
    return (
        f"{IN_WORDS.get(name, name.replace('_', ' '))}: {_number(figure)}, must be {bound} {_number(limit)}"
    )


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the gate: a figure, and the limit that it may not exceed (``at_least``: not fall below)."""

    name: str
    figure: float
    limit: float
    passed: bool
    at_least: bool = False

    def facts(self) -> dict[str, object]:
        """As JSON; what is not finite is None."""
        return {
            "name": self.name,
            "figure": finite_or_none(self.figure),
            "limit": finite_or_none(self.limit),
            "at_least": self.at_least,
            "passed": self.passed,
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """The gate's decision, the reason in one line, the rules in their order, and the figures behind them.

    A first model has met no rule: there was no incumbent, and no row was held out from it.
    """

    promoted: bool
    reason: str
    rules: tuple[Rule, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def refused_by(self) -> str:
        """The name of the first rule that did not pass; empty if all did."""
        return next((rule.name for rule in self.rules if not rule.passed), "")

    def facts(self) -> dict[str, object]:
        """As JSON, for a bundle's facts and for records."""
        return {
            "promoted": self.promoted,
            "reason": self.reason,
            "refused_by": self.refused_by,
            "rules": [rule.facts() for rule in self.rules],
            "figures": {name: finite_or_none(figure) for name, figure in self.figures.items()},
        }
