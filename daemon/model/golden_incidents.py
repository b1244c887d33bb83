"""Golden incidents: the rows of confirmed episodes, which a bundle keeps and every later model must still find.

They are raw rows, from two windows before the onset to the close (``MOST_ROWS`` at most: the beginning is what has to be
found), of the ``MOST_INCIDENTS`` newest incidents. A candidate inherits those of the model that it is to replace, and
adds those that people have confirmed since; one whose verdict was changed is dropped. See ``promotion`` for the rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daemon.domain import Floats, Segment

MOST_ROWS = 512
MOST_INCIDENTS = 20
LEAD = 2
"""Windows before the onset."""
FACTS, VALUES = "golden", "golden.values"
"""Names of the fact that lists them, and of the extra with their rows."""


@dataclass(frozen=True, slots=True, eq=False)
class GoldenIncident:
    """The rows of one confirmed episode."""

    fingerprint: str
    asset: str
    first_row: int
    onset: int  # index of the row at which it began; those before are its lead
    values: Floats  # (T, C) raw, NaN where not observed
    condition: tuple[str, ...] = ()  # a label per row, or none

    @property
    def segment(self) -> Segment:
        """Its rows as a segment."""
        return Segment(self.asset, self.first_row, self.values, self.condition)


def incident_of(
    fingerprint: str, rows: Sequence[Segment], onset: int, last: int, window: int
) -> GoldenIncident | None:
    """The incident in rows of its asset; None if they hold too little of it.

    Args:
        fingerprint: of its episode.
        rows: of the asset, with these rows among them if the history has them.
        onset, last: the grid rows at which the episode began and closed.
        window: L.
    """
    first = onset - LEAD * window
    stop = min(last + 1, first + MOST_ROWS)
    parts = [s for s in rows if s.first_row < stop and s.first_row + len(s.values) > first]
    if not parts or stop <= onset:
        return None
    values = np.full((stop - first, parts[0].values.shape[1]), np.nan)
    labels = [""] * len(values)
    for part in parts:
        a, b = max(part.first_row, first), min(part.first_row + len(part.values), stop)
        values[a - first : b - first] = part.values[a - part.first_row : b - part.first_row]
        if part.condition:
            labels[a - first : b - first] = part.condition[a - part.first_row : b - part.first_row]
    observed = np.isfinite(values).any(1)
    if observed[: onset - first].sum() < window - 1 or not observed[onset - first :].any():
        return None
    return GoldenIncident(
        fingerprint, parts[0].asset, first, onset - first, values, tuple(labels) if any(labels) else ()
    )


def inherited(
    before: Sequence[GoldenIncident], found: Sequence[GoldenIncident], dismissed: Collection[str]
) -> list[GoldenIncident]:
    """Those of the model before and those found now, without the dismissed; the newest, oldest first."""
    every = {one.fingerprint: one for one in (*before, *found) if one.fingerprint not in dismissed}
    return sorted(every.values(), key=lambda one: (one.first_row, one.fingerprint))[-MOST_INCIDENTS:]


# ------------------------------------------------------------------ in a bundle
def written(incidents: Sequence[GoldenIncident]) -> tuple[list[dict[str, Any]], Floats]:
    """What the facts say of them, and their rows one after the other."""
    facts = [
        {
            "fingerprint": one.fingerprint,
            "asset": one.asset,
            "first_row": one.first_row,
            "onset": one.onset,
            "rows": len(one.values),
            "condition": [[label, len(list(same))] for label, same in itertools.groupby(one.condition)],
        }
        for one in incidents
    ]
    return facts, np.concatenate([one.values for one in incidents])


def read(facts: Mapping[str, Any], extras: Mapping[str, Any]) -> tuple[GoldenIncident, ...]:
    """The inverse of ``written``, from a bundle's facts and extras, which admission has checked."""
    found: list[GoldenIncident] = []
    at = 0
    for one in facts.get(FACTS, ()):
        values = np.asarray(extras[VALUES][at : at + one["rows"]], float)
        at += one["rows"]
        labels = tuple(label for label, n in one["condition"] for _ in range(n))
        found.append(
            GoldenIncident(one["fingerprint"], one["asset"], one["first_row"], one["onset"], values, labels)
        )
    return tuple(found)
