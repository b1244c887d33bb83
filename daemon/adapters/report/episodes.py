"""Episodes of a run, folded from the messages that were published about them.

An episode is opened, updated and closed by messages that share its fingerprint. The report shows each episode
once: since its first message, until its last bad row, with its peak, and the evidence of the message that first told that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from daemon.adapters.pages import bounded, contributor_rows
from daemon.alert import AlertKind, AlertPart
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


SHADES: Final[Mapping[AlertKind, str]] = {
    AlertKind.DEVIATION: "deviation",
    AlertKind.SENSOR_SILENT: "silent",
    AlertKind.SENSOR_STUCK: "silent",
    AlertKind.ASSET_SILENT: "silent",
    AlertKind.DRIFT: "other",
    AlertKind.CLOCK_SKEW: "other",
    AlertKind.UNKNOWN_CONDITION: "other",
}
"""By kind, how the chart of an asset shades it. Anomalies are shaded by row (``AssetTrace.alarms``), a regime as its deviation."""
Spans = dict[str, list[tuple[int, int | None]]]
"""By shade the stretches of time, ns; None: still open."""


def shaded(events: Iterable[AlertEvent]) -> dict[tuple[str, str], Spans]:
    """By stream and asset, when something but an anomaly was open: from its onset to its last bad row.

    An alert says by a message when a kind of its parts is over, so that each kind has its own stretch.
    """
    found: dict[tuple[str, str], Spans] = {}
    begun: dict[str, dict[str, int]] = {}  # by fingerprint and shade: since when it is open
    place: dict[str, tuple[str, str]] = {}
    for event in events:
        if event.phase is Phase.SUPPRESSED:
            continue
        place[event.fingerprint] = event.stream, event.asset
        known, parts = begun.setdefault(event.fingerprint, {}), list(event.parts)
        if not parts and event.phase is Phase.OPENED:
            parts = [AlertPart(event.kind, event.sensor, event.onset_ns)]
        now: dict[str, int] = {}
        for part in parts if event.phase is not Phase.CLOSED else ():
            if shade := SHADES.get(part.kind):
                now[shade] = min(now.get(shade, part.onset_ns), part.onset_ns)
        until_ns = event.row_ns if event.ended_ns is None else event.ended_ns
        for shade in known.keys() - now.keys():
            span = known[shade], max(until_ns, known[shade])
            found.setdefault(place[event.fingerprint], {}).setdefault(shade, []).append(span)
        begun[event.fingerprint] = {shade: known.get(shade, since) for shade, since in now.items()}
    for fingerprint, known in begun.items():
        for shade, since in known.items():
            found.setdefault(place[fingerprint], {}).setdefault(shade, []).append((since, None))
    return found


def episode_document(episode: FoldedEpisode, now_ns: int = 0) -> dict[str, Any]:
    """One row of the table of episodes; one that is open lasts up to ``now_ns``."""
    worst, last = episode.worst, episode.last
    peak, lasted = last.peak, lasted_ns(last, now_ns)
    return {
        "stream": bounded(worst.stream),
        "asset": bounded(worst.asset),
        "sensor": None if worst.sensor is None else bounded(worst.sensor),
        "kind": str(worst.kind),
        "severity": str(episode.severity),
        "onset": iso(last.onset_ns),
        "opened": iso(episode.first.opened_ns),
        "closed": iso(last.row_ns) if last.phase is Phase.CLOSED else None,
        "quiet": last.quiet,
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
