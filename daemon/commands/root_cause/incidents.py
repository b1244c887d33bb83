"""The anomaly episodes of some alerts, and the one of them that an id names.

In: alerts (``AlertEvent``). Out: ``Incident`` values by onset; an id that names none, or several, is a
``UsageError`` that lists those that there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches

from daemon.domain import (
    AlertEvent,
    AlertKind,
    Phase,
    iso,
)
from daemon.errors import UsageError
from daemon.model.root_cause import Incident

LISTED = 8
"""Episodes that are listed where an id names none."""


def incidents_of(events: Sequence[AlertEvent]) -> list[Incident]:
    """The anomaly episodes of some alerts, by onset."""
    by: dict[str, list[AlertEvent]] = {}
    anomalous = {event.fingerprint for event in events if event.concerns(AlertKind.ANOMALY)}
    for event in events:
        if event.fingerprint in anomalous and event.phase is not Phase.SUPPRESSED:
            by.setdefault(event.fingerprint, []).append(event)

    def score(event: AlertEvent) -> float:
        combined = event.scores.get("combined")
        return combined.value if combined else -math.inf

    found = [
        Incident(
            mine[0].asset,
            fingerprint,
            tuple(event.id for event in mine),
            min(event.onset_ns for event in mine),
            mine[0].opened_ns,
            mine[-1].row_ns,
            mine[-1].phase is Phase.CLOSED,
            max(mine, key=score).row_ns,
            max(reversed(mine), key=lambda event: len(event.contributors)).contributors,
        )
        for fingerprint, mine in by.items()
    ]
    return sorted(found, key=lambda i: (i.onset_ns, i.fingerprint))


def incident_named(name: str, incidents: Sequence[Incident], events: Sequence[AlertEvent]) -> Incident:
    """The episode with this id or fingerprint, or the only one with one that begins so.

    Raises:
        UsageError: there is none, or there are several; or the alert is of a kind that has no score.
    """
    matching = (
        [i for i in incidents if any(x.startswith(name) for x in (i.fingerprint, *i.ids))] if name else []
    )
    if len(matching) == 1:
        return matching[0]
    if len(matching) > 1:
        raise UsageError(f"--alert {name}: begins the ids of {len(matching)} episodes: {_names(matching)}")
    for event in events:
        if (
            not event.concerns(AlertKind.ANOMALY)
            and name
            and (event.fingerprint + " " + event.id).find(name) >= 0
        ):
            raise UsageError(
                f"--alert {name}: is of kind {event.kind.value} and says it all: {event.summary}"
            )
    if not incidents:
        raise UsageError(f"--alert {name}: the file has no anomaly episode with this model")
    near = get_close_matches(
        name, [x for i in incidents for x in (i.fingerprint, *i.ids)], n=LISTED, cutoff=0.6
    )
    close = [i for i in incidents if {i.fingerprint, *i.ids} & set(near)]
    raise UsageError(
        f"--alert {name}: no such episode in this file with this model; "
        + (f"the nearest: {_names(close)}" if close else f"it has {_names(incidents)}")
    )


def _names(incidents: Sequence[Incident]) -> str:
    """Episodes as a list in a message: fingerprint, asset and onset."""
    some = [f"{i.fingerprint} ({i.asset}, {iso(i.onset_ns)})" for i in incidents[:LISTED]]
    return ", ".join(some) + (f" and {len(incidents) - LISTED} more" if len(incidents) > LISTED else "")
