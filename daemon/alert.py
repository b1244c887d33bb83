"""What an alert is about, the values in its messages (``domain.AlertEvent``), and counts of alerts that a candidate would give."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class AlertKind(StrEnum):
    """What an alert is about."""

    ANOMALY = "anomaly"
    DEVIATION = "deviation"
    SENSOR_SILENT = "sensor_silent"
    SENSOR_STUCK = "sensor_stuck"
    ASSET_SILENT = "asset_silent"
    CLOCK_SKEW = "clock_skew"
    DRIFT = "drift"
    REGIME = "regime"
    UNKNOWN_CONDITION = "unknown_condition"


class Phase(StrEnum):
    """The kind of a message within its episode."""

    OPENED = "opened"
    UPDATED = "updated"
    CLOSED = "closed"
    SUPPRESSED = "suppressed"
    """It would have opened, but for a planned stop; nobody need look at it."""


class Severity(StrEnum):
    """How urgent: ``critical`` is a score far above the threshold (``AlarmPolicy.critical_ratio``), or a silent asset."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Contributor:
    """One sensor's part in an alert."""

    sensor: str
    observed: float | None
    expected: float | None
    share: float
    apart: float | None = None
    """Where the two are averages: the mean distance between them, which is more than that of the averages where the
    sensor is off in both directions."""
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class PartScore:
    """One score with its threshold, and its p-value where there is one."""

    value: float
    threshold: float
    p: float | None = None


@dataclass(frozen=True, slots=True)
class Peak:
    """The row at which a score of an alert was the most thresholds high, so far."""

    row_ns: int
    score: str
    value: float
    threshold: float


@dataclass(frozen=True, slots=True)
class AlertPart:
    """What an alert has open: an anomaly, or a deviation, silence or standstill of a sensor."""

    kind: AlertKind
    sensor: str | None
    onset_ns: int


@dataclass(frozen=True, slots=True)
class Regime:
    """A deviation that has lasted and is steady: a new level of operation, or a fault that nobody has repaired."""

    since_ns: int  # since when it is steady
    learned: bool = False  # its rows may be learned
    accepted: bool = False  # it is normal from now on


@dataclass(frozen=True, slots=True)
class AcceptedChange:
    """By how much a sensor may be off from now on, because people or the settings have called it normal."""

    sensor: str
    change: float | None
    """Above (below: negative) what the others imply, in the sensor's unit; None: its baseline has taken in what it reads."""
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class ShadowCounts:
    """What a candidate that judges beside the model in force (``stream.shadow``) would have alerted.

    An *episode* here is a stretch of an asset's rows at which a model has an anomaly or a deviation, whatever joins it;
    one of both models is counted as one of each, and as ``both``.
    """

    model: str  # the candidate
    windows: int = 0  # that both have judged
    anomalies: int = 0  # would-be alerts that begin with an anomaly, or that one joins; likewise deviations
    deviations: int = 0
    episodes: int = 0  # of the candidate
    incumbent_episodes: int = 0  # of the model in force
    both: int = 0  # of these, those of both
    alone: int = 0  # windows at which the candidate has an episode and the model in force has none
    planned: int = 0  # windows that only the model in force has judged, as they are of a planned stop

    def __add__(self, other: ShadowCounts) -> ShadowCounts:
        """Both together; they are of one candidate."""
        return ShadowCounts(
            self.model,
            self.windows + other.windows,
            self.anomalies + other.anomalies,
            self.deviations + other.deviations,
            self.episodes + other.episodes,
            self.incumbent_episodes + other.incumbent_episodes,
            self.both + other.both,
            self.alone + other.alone,
            self.planned + other.planned,
        )

    @property
    def only_candidate(self) -> int:
        """Episodes that the model in force does not show."""
        return self.episodes - self.both

    @property
    def only_incumbent(self) -> int:
        """Episodes that the candidate does not show."""
        return self.incumbent_episodes - self.both
