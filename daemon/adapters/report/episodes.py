"""Episodes of a run, folded from the messages that were published about them.

An episode is opened, updated and closed by messages that share its fingerprint. The report shows each episode
once: since its first message, until its last bad row, with its peak, and the evidence of the message that first told that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from daemon.adapters.pages import bounded, contributor_rows
from daemon.documents import short
from daemon.domain import AlertEvent, Phase, Severity, iso
from daemon.stream.summaries import lasted_ns, lasting


@dataclass(slots=True)
class FoldedEpisode:
    """The messages of one episode: the first, the one that told the peak (but not its end), and the last."""

    first: AlertEvent
    worst: AlertEvent
    last: AlertEvent

    def add(self, event: AlertEvent) -> None:
        """Take in the next message."""
        self.last = event
        if event.peak != self.worst.peak and event.phase is not Phase.CLOSED:
            self.worst = event

    @property
    def severity(self) -> Severity:
        """The worst that it came to."""
        return (
            Severity.CRITICAL
            if Severity.CRITICAL in (self.worst.severity, self.last.severity)
            else Severity.WARNING
        )


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
    peak, lasted = last.peak, lasted_ns(last)
    return {
        "stream": bounded(worst.stream),
        "asset": bounded(worst.asset),
        "sensor": None if worst.sensor is None else bounded(worst.sensor),
        "kind": str(worst.kind),
        "severity": str(episode.severity),
        "onset": iso(last.onset_ns),
        "opened": iso(episode.first.opened_ns),
        "closed": iso(last.row_ns) if last.phase is Phase.CLOSED else None,
        "lasted": lasting(lasted),
        "from": last.onset_ns / 1e6,
        "to": (last.onset_ns + lasted) / 1e6,
        "score": None if peak is None else short(peak.value),
        "threshold": None if peak is None else short(peak.threshold),
        "imputed": short(worst.imputed_share),
        "model": bounded(worst.model),
        "summary": bounded(worst.summary, 300),
        "contributors": contributor_rows(worst.contributors[:5]),
    }
