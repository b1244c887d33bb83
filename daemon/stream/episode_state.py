"""Open episodes, as part of an asset's record of state and, of drift, of the partition's (``snapshot``)."""

from __future__ import annotations

import msgspec

from daemon.domain import AlertKind, Severity


class Recurrence(msgspec.Struct, array_like=True):
    """Whether an alert is over or comes back, and how it did (``recurrence``); part of an incident and of its record."""

    back_rows: int = 0  # by how many more rows have told since its last bad one that its sensors are back; -1: they are not
    pause: int = 0  # longest that its like was over before it came back, rows; 0: it never did
    returned: int = 0  # how often it has come back itself
    returned_row: int = -1  # the onset of the last time
    like: list[tuple[AlertKind | None, str, int]] = []  # ``recurrence.Trait``, of when it was first quiet
    height: float = 0.0  # its peak in thresholds, likewise; 0: it never was
    level: float = 0.0  # by how much its first sensor is off ...
    steady_row: int = -1  # ... since this row, whenever it is beyond its limits; -1: it is not steady
    steady_rows: int = 0  # for how many rows in all
    counted_row: int = -1  # up to which these are counted
    contributors: list[tuple[str, float | None, float | None, float, float | None, str | None]] = []
    """``Contributor`` values, of when it was last quiet."""


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
    recurrence: Recurrence


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
