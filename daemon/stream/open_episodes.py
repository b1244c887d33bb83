"""Which alerts are open: the episodes of all assets of an input partition, what others ask of them, and their state."""

from __future__ import annotations

from daemon.alarm import State
from daemon.domain import AlertKind, StreamSpec
from daemon.stream.episode_state import AlarmState, IncidentState
from daemon.stream.incident import ASSET_DRIFT, BY_EVIDENCE, STREAM_DRIFT, AssetEpisodes, Incident, Part


class OpenEpisodes:
    """The episodes of all assets; ``alerts.Episodes`` moves them on.

    ``assets`` has those whose next row may change something, by name; the drift of the stream is under its name.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self.assets: dict[str, AssetEpisodes] = {}

    def of(self, asset: str) -> AssetEpisodes:
        """An asset's episodes, created on first use."""
        known = self.assets.get(asset)
        if known is None:
            known = self.assets[asset] = AssetEpisodes()
        return known

    def is_engaged(self, asset: str) -> bool:
        """Whether an anomaly episode of the asset is not over: it fires, or may within the refractory time."""
        known = self.assets.get(asset)
        return known is not None and known.alarm.state in (State.FIRING, State.RECOVERING)

    def cannot_change(self, asset: str, score: float, closing: float, jump: float = 0.0) -> bool:
        """True if a scored row cannot change an episode, so that no ``ScoredEvidence`` is needed for it."""
        known, low = self.assets.get(asset), score <= closing and not jump > 1.0
        if known is None:
            return low
        return (
            low and known.alarm.state is State.INACTIVE and not known.alarm.recent and known.above_since < 0
        )

    def opened_row(self, asset: str, part: Part) -> int:
        """The row at which the alert of a part opened; -1: it is not open."""
        known = self.assets.get(asset)
        incident = None if known is None else known.with_part(part)
        return -1 if incident is None else self.spec.row(incident.opened_ns)

    def is_off(self, asset: str) -> bool:
        """Whether an anomaly or a deviation of an asset is open, slow trends aside; its alarm may be resting."""
        known = self.assets.get(asset)
        return known is not None and any(known.has(kind) for kind in BY_EVIDENCE)

    def has(self, asset: str, kind: AlertKind) -> bool:
        """Whether a part of this kind is open, whatever it is about."""
        known = self.assets.get(asset)
        return known is not None and known.has(kind)

    @property
    def drifting(self) -> list[str]:
        """The assets of which an alert of their own drift is open, in order."""
        return sorted(name for name, known in self.assets.items() if known.with_part(ASSET_DRIFT) is not None)

    def trends(self, asset: str) -> list[str]:
        """The sensors for whose slow trend an alert is open."""
        known = self.assets.get(asset)
        incidents = [] if known is None else known.incidents
        return [
            part.sensor for one in incidents for part in one.parts if part.slow and part.sensor is not None
        ]

    def subjects(self, asset: str, kind: AlertKind) -> list[str | None]:
        """What the open parts of this kind are about: sensors, or conditions."""
        known = self.assets.get(asset)
        incidents = [] if known is None else known.incidents
        return [part.sensor for one in incidents for part in one.parts if part.kind is kind]

    # -------------------------------------------------------------- state of a successor
    def snapshot(self, asset: str) -> AlarmState | None:
        """The part of an asset's record of state; None if it has no episode and its alarm is inactive."""
        known = self.assets.get(asset)
        return None if known is None else known.snapshot()

    def restore(self, asset: str, state: AlarmState) -> None:
        """Continue with an asset's episodes as another process left them."""
        restored, present = AssetEpisodes.restored(state), self.assets.get(asset)
        if present is not None:  # the stream's drift, where an asset has the stream's name
            restored.incidents += present.incidents
        self.assets[asset] = restored

    def snapshot_drift(self) -> IncidentState | None:
        """The open episode of drift, part of the partition's record."""
        known = self.assets.get(self.spec.name)
        incident = None if known is None else known.with_part(STREAM_DRIFT)
        return None if incident is None else incident.snapshot()

    def restore_drift(self, state: IncidentState) -> None:
        """Continue with an open episode of drift; before the assets are restored."""
        self.of(self.spec.name).incidents.append(Incident.restored(state))
