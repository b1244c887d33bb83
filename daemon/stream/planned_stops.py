"""Planned stops and alerts: what opens under maintenance is suppressed, and said as such.

An anomaly does not open: what is still wrong when the stop is over opens as soon as its window holds no row of it. What has no score (a silence, a sensor that
stands still, an unknown condition) opens *muted*: nothing more is said of it while the stop lasts, and at the first row
after it the alert opens, if it is open still.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from daemon.domain import AlertEvent, AlertKind, InputPartition, Ints, Phase, Severity, StreamSpec
from daemon.stream.alert_messages import AlertWriter, Cause, ScoredEvidence
from daemon.stream.attribution import extended
from daemon.stream.incident import AssetEpisodes, EpisodeStart, Incident, UnscoredChange
from daemon.stream.joining import opened_by
from daemon.stream.maintenance import Maintenance

UNMUTED = frozenset({AlertKind.DRIFT, AlertKind.CLOCK_SKEW})
"""Kinds that a planned stop does not suppress: they are not of one machine at work."""


class PlannedStops:
    """What the maintenance of one input partition suppresses.

    Args:
        spec: the stream.
        partition: where the rows come from.
        maintenance: when.
        assets: those with open incidents, which ``Episodes`` owns.
        writer: of the messages.

    ``muted`` are the assets with something muted.
    """

    def __init__(
        self,
        spec: StreamSpec,
        partition: InputPartition,
        maintenance: Maintenance,
        assets: Mapping[str, AssetEpisodes],
        writer: AlertWriter,
    ) -> None:
        self.muted: set[str] = set()
        self._spec = spec
        self._partition = partition
        self._maintenance = maintenance
        self._assets = assets
        self._writer = writer

    def suppressed(self, said: Cause, threshold: float, severity: Severity) -> AlertEvent:
        """The message of an anomaly that would open at a row."""
        evidence, known = said.evidence, AssetEpisodes()
        known.peaks = extended(None, evidence.sensors)
        start = EpisodeStart(AlertKind.ANOMALY, evidence.row, severity=severity)
        names, period = known.leading(self._spec, None), self._spec.period_ns
        incident = opened_by(self._spec, self._partition, said.asset, start, names, evidence.row)
        incident.join(start.part, evidence.row, names, severity, period)
        incident.reached(evidence.row * period, *evidence.leading(threshold))
        event = self._writer.draft(incident, Phase.SUPPRESSED, said, of=known)
        window = self._maintenance.within(said.asset, evidence.row, self._spec.window)
        stop = None if window is None else window.name
        return self._writer.with_summary(replace(event, began=(), maintenance=stop))

    def mute(self, incident: Incident, asset: str, row: int) -> str | None:
        """Mute an incident that opens, if the asset is under maintenance at the row; the name of that."""
        window = None if incident.kind in UNMUTED else self._maintenance.window(asset, row)
        if window is None:
            return None
        incident.muted = True
        self.muted.add(asset)
        self._maintenance.suppressed += 1
        return window.name

    def end(self, asset: str, row: int, model: str) -> list[AlertEvent]:
        """Open what is muted, if the stop is over at a row."""
        if asset not in self.muted or self._maintenance.covers(asset, row):
            return []
        self.muted.discard(asset)
        known, events = self._assets.get(asset), list[AlertEvent]()
        for one in [] if known is None else known.incidents:
            if one.muted:
                one.muted = False
                said = Cause(asset, ScoredEvidence.unscored(row), model, "full")
                events.append(self._writer.message(one, Phase.OPENED, said))
        return events

    def ends(
        self, assets: Sequence[str], rows: Ints, changes: Sequence[UnscoredChange]
    ) -> list[UnscoredChange]:
        """The rows of a chunk that are the first after a stop, of assets of which something may be muted.

        Args:
            assets, rows: (R,) of the chunk, each asset's in their order.
            changes: what opens and closes in the chunk.
        """
        if not (self.muted or (self._maintenance and changes)):
            return []
        inside = dict.fromkeys([change.asset for change in changes], False) | dict.fromkeys(self.muted, True)
        found = []
        for place, (asset, row) in enumerate(zip(assets, rows.tolist(), strict=True)):
            if asset in inside:
                was, inside[asset] = inside[asset], self._maintenance.covers(asset, row)
                if was and not inside[asset]:
                    found.append(UnscoredChange(place, asset, row, None))
        return found
