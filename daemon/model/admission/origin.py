"""Where a bundle comes from: the entries of its facts on lineage, training rows and the gate's decision.

All are optional: a bundle that was made before they were kept has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Text = Annotated[str, Meta(max_length=10_000)]
Version = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Count = Annotated[int, Meta(ge=0, le=1 << 53)]


class RuleFact(msgspec.Struct, frozen=True):
    """See ``decision.Rule``; None is a number that is not finite."""

    name: Text
    figure: float | None
    limit: float | None
    passed: bool
    at_least: bool = False


class DecisionFact(msgspec.Struct, frozen=True):
    """See ``decision.Decision``."""

    promoted: bool
    reason: Text
    refused_by: Text = ""
    rules: Annotated[tuple[RuleFact, ...], Meta(max_length=1_000)] = ()
    figures: dict[Text, float | None] = {}


class Origin(msgspec.Struct, frozen=True):
    """Lineage, training rows and decision of one bundle."""

    stream: Text = ""
    parent: Version | None = None  # the incumbent when it was trained
    trigger: Text = ""  # see ``trigger.Cause``
    rows: Count = 0
    assets: Count = 0
    rows_of: dict[Text, Count] = {}  # per asset
    oldest_ns: int | None = (
        None  # event times of the oldest and newest row; of a foreign bundle it may be no date
    )
    newest_ns: int | None = None
    decision: DecisionFact | None = None

    @staticmethod
    def of(facts: Mapping[str, Any]) -> Origin:
        """The origin among a manifest's facts; msgspec.ValidationError if an entry is of another type."""
        return msgspec.convert(facts, Origin)
