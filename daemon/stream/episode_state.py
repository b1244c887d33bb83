"""Open episodes, as part of an asset's record of state and, of drift, of the partition's (``snapshot``)."""

from __future__ import annotations

import msgspec

from daemon.domain import AlertKind, Severity


class IncidentState(msgspec.Struct, frozen=True, array_like=True):
    """An open incident (``incident.Incident``)."""

    kind: AlertKind
    sensor: str | None
    fingerprint: str
    opened_ns: int
    onset_ns: int
    severity: Severity
    next_update_row: int
    updates_row: int
    parts: list[tuple[AlertKind, str | None, bool, int]]
    kinds: list[AlertKind]
    sensors: list[str]
    leading: list[str]
    first: str
    told_row: int
    bad_row: int
    peak: tuple[int, str, float, float] | None
    peaks: bytes | None  # ``attribution.PeakEvidence``, (10, C)
    steady_row: int
    learned: bool
    per_day: float | None
    muted: bool
    absorbed: bool
    began: list[AlertKind]
    bad_rows: int
    back_rows: int
    pause: int
    returned: int
    returned_row: int
    like: list[tuple[AlertKind | None, str, int]]


class AlarmState(msgspec.Struct, frozen=True, array_like=True):
    """The open episodes of an asset and the state of its alarm (``alerts.AssetEpisodes``)."""

    state: int
    recent: int
    resting: int
    above_since: int
    peaks: bytes | None  # ``attribution.PeakEvidence``, (10, C)
    deviation: bytes | None  # ``deviation.Deviation``, (13, C)
    open: list[IncidentState]
    heights: list[tuple[str, int, int, int, list[float]]]  # ``heights.Heights``, by sensor
