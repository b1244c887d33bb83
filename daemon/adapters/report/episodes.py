"""Episodes of a run, folded from the messages that were published about them.

An episode is opened, updated and closed by messages that share its fingerprint. The report shows each episode
once: since its first message, until its last, and with the evidence of the message that had the highest score.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from daemon.adapters.pages import bounded, contributor_rows
from daemon.documents import short
from daemon.domain import AlertEvent, Phase, Severity, iso
from daemon.stream.summaries import leading_score


@dataclass(slots=True)
class FoldedEpisode:
    """The messages of one episode: the first, the one of the greatest score, and the last."""

    first: AlertEvent
    worst: AlertEvent
    last: AlertEvent

    def add(self, event: AlertEvent) -> None:
        """Take in the next message."""
        self.last = event
        if _score_of(event) > _score_of(self.worst):
            self.worst = event


def _score_of(event: AlertEvent) -> float:
    score = leading_score(event)
    return score.value if score else -math.inf


def folded(events: Iterable[AlertEvent]) -> list[FoldedEpisode]:
    """The episodes of some messages, in the order in which they were opened."""
    found: dict[str, FoldedEpisode] = {}
    for event in events:
        if event.phase is Phase.SUPPRESSED:
            continue
        if event.fingerprint in found:
            found[event.fingerprint].add(event)
        else:
            found[event.fingerprint] = FoldedEpisode(event, event, event)
    return sorted(found.values(), key=lambda e: (e.first.opened_ns, e.first.fingerprint))


def episode_document(episode: FoldedEpisode) -> dict[str, Any]:
    """One row of the table of episodes."""
    worst, last = episode.worst, episode.last
    score = leading_score(worst)
    return {
        "stream": bounded(worst.stream),
        "asset": bounded(worst.asset),
        "sensor": None if worst.sensor is None else bounded(worst.sensor),
        "kind": str(worst.kind),
        "severity": str(
            Severity.CRITICAL if Severity.CRITICAL in (worst.severity, last.severity) else worst.severity
        ),
        "onset": iso(episode.first.onset_ns),
        "opened": iso(episode.first.opened_ns),
        "closed": iso(last.row_ns) if last.phase is Phase.CLOSED else None,
        "from": episode.first.onset_ns / 1e6,
        "to": last.row_ns / 1e6,
        "score": None if score is None else short(score.value),
        "threshold": None if score is None else short(score.threshold),
        "imputed": short(worst.imputed_share),
        "model": bounded(worst.model),
        "summary": bounded(worst.summary, 300),
        "contributors": contributor_rows(worst.contributors[:5]),
    }
