"""The domain: the values that pass between the parts of the program, without behaviour.

In this order: array types and time; a stream and the settings of its model and alarms; input (records, readings); output
(alerts, imputed rows, scores, drift, dead letters); what a source delivers and takes back.

Conventions: shape letters are B windows, L steps of a window, C sensors, Z latents, S window lengths
(shortest first). Instants inside the core are integer nanoseconds since the epoch (``*_ns``), because they are compared
and floored millions of times; they leave it as aware UTC datetimes. A higher score is more anomalous. KL is in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import repeat
from typing import Any, overload
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import numpy as np
from numpy.typing import NDArray

from daemon.alert import AcceptedChange, AlertPart, Peak, Regime, ShadowCounts
from daemon.alert import AlertKind as AlertKind
from daemon.alert import Contributor as Contributor
from daemon.alert import PartScore as PartScore
from daemon.alert import Phase as Phase
from daemon.alert import Severity as Severity
from daemon.control import Feedback
from daemon.drifting import NOT_MEASURED, DriftingAsset, FleetDrift
from daemon.mapping import PLAIN, Assembly, InputMapping, SensorRule

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Progress = Callable[[float, str], None]
"""Called with the share that is done, and with what is being done."""
Json = dict[str, Any]

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RECORD_KEY = "$key"
RECORD_TIMESTAMP = "$timestamp"
"""Field names that stand for the key and the timestamp of the Kafka record."""
SYNTHETIC = "synthetic"
"""The column, field and header that mark synthetic rows: a boolean, which is never read as a sensor."""
NO_CONDITION = ""
"""The condition label of a stream that declares no condition fields."""


def is_calendar(field: str) -> bool:
    """Whether a condition field comes from the calendar and not from messages (see ``calendar``)."""
    return field.startswith("$")


def to_ns(span: timedelta) -> int:
    """A duration in whole nanoseconds."""
    return ((span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds) * 1_000


def instant(time_ns: int) -> datetime:
    """An aware UTC datetime, truncated to microseconds."""
    seconds, rest = divmod(time_ns, SECOND_NS)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1_000)


def finite_or_none(value: float) -> float | None:
    """A number for JSON, which has neither NaN nor infinity: None for these."""
    return value if math.isfinite(value) else None


def iso(time_ns: int) -> str:
    """ISO 8601 in UTC with as many decimals as the instant has (0, 3, 6 or 9)."""
    seconds, rest = divmod(time_ns, SECOND_NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    if rest == 0:
        return text + "Z"
    digits = f"{rest:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{text}.{digits}Z"


def zone_of(name: str | None) -> tzinfo:
    """The time zone of a stream whose event times name none; UTC for None.

    Raises:
        ValueError: there is no such zone.
    """
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError) as error:
        quoted = repr(name) if len(name) <= 80 else f"{name[:80]!r} ..."
        raise ValueError(f"{quoted} is no time zone: write for example Europe/Berlin or UTC") from error


# ------------------------------------------------------------------ the stream's description
class Format(StrEnum):
    """How a stream's records are laid out."""

    JSON_WIDE = "json-wide"
    JSON_LONG = "json-long"
    MAPPED = "mapped"  # as ``StreamSpec.input`` says


@dataclass(frozen=True, slots=True)
class FieldNames:
    """The names of the fields of a message; ``$key`` and ``$timestamp`` stand for those of the Kafka record."""

    asset: str = "asset"
    timestamp: str = "ts"
    values: str = "values"
    sensor: str = "sensor"
    value: str = "value"
    condition: str = "condition"

    def used(self, format: Format, conditioned: bool) -> dict[str, str]:
        """The names of the fields that a message of this format has, by meaning, without those of the record.

        Raises:
            ValueError: two fields have one name, or one cannot come from the record.
        """
        names = {"asset": self.asset, "timestamp": self.timestamp}
        if format is Format.JSON_WIDE:
            names["values"] = self.values
        else:
            names |= {"sensor": self.sensor, "value": self.value}
        if conditioned:
            names["condition"] = self.condition
        from_record = {"asset": RECORD_KEY, "sensor": RECORD_KEY, "timestamp": RECORD_TIMESTAMP}
        taken: dict[str, str] = {}
        for what, name in names.items():
            if name.startswith("$") and from_record.get(what) != name:
                raise ValueError(
                    f"fields.{what} cannot be {name!r}: {RECORD_KEY} gives asset or sensor,"
                    f" {RECORD_TIMESTAMP} the timestamp"
                )
            if name in taken:
                raise ValueError(f"fields.{taken[name]} and fields.{what} have one name, {name!r}")
            taken[name] = what
        return {what: name for what, name in names.items() if not name.startswith("$")}


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream: assets of one kind, with the same sensors, period and model."""

    name: str
    sensors: tuple[str, ...]
    period_ns: int = SECOND_NS
    window: int = 16
    hop: int = 1
    allowed_lateness_ns: int = 10 * SECOND_NS
    max_gap_ns: int = 300 * SECOND_NS
    silent_after_ns: int = 300 * SECOND_NS
    format: Format = Format.JSON_WIDE
    fields: FieldNames = field(default_factory=FieldNames)
    topics: tuple[str, ...] = ()
    condition: tuple[str, ...] = ()  # names of the condition fields; with a $ the calendar's
    ranges: tuple[tuple[float, float] | None, ...] = ()  # engineering range per sensor
    assets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # asset -> its condition fields
    timezone: str | None = None  # of event times without a zone; None: UTC, with a warning
    forget: frozenset[str] = frozenset()  # decommissioned assets: their records are rejected
    input: InputMapping | None = None  # how messages are read; None: by ``format`` and ``fields``
    sensor_rules: tuple[SensorRule, ...] = ()  # one per sensor; (): none does anything

    @property
    def gathers(self) -> bool:
        """Whether a row is gathered from several records; else each record is a whole row."""
        if self.input is not None:
            return self.input.assembly is Assembly.GATHER
        return self.format is Format.JSON_LONG

    @property
    def rules(self) -> tuple[SensorRule, ...]:
        """One per sensor."""
        return self.sensor_rules or (PLAIN,) * len(self.sensors)

    @property
    def message_condition(self) -> tuple[str, ...]:
        """The condition fields that come from messages and the configuration of assets, not from the calendar."""
        return tuple(name for name in self.condition if not is_calendar(name))

    def row(self, time_ns: int) -> int:
        """The grid row of an event time: a whole number of periods since the epoch."""
        return time_ns // self.period_ns


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The settings of a model; the same settings, data and seed give the same bundle."""

    kind: str = "mlp"  # mlp | conv | gru | ppca
    hidden: tuple[int, ...] = (64, 32)
    latent: int = 8
    beta: float = 1.0
    seed: int = 0
    steps: int | None = None  # optimiser steps; None = by the training rule
    asset_levels: bool = False  # whether each asset is read over a level of its own


@dataclass(frozen=True, slots=True)
class AlarmPolicy:
    """When scores become an episode: see ``alarm``."""

    needed: int = 1  # scores above the threshold ...
    of: int = 1  # ... among this many newest
    hysteresis: float = 0.8  # calibration lets it close at score <= hysteresis * threshold, or lower
    refractory: int = 0  # rows for which a closed episode may be continued
    critical_ratio: float = 2.0  # a score above this many thresholds is critical
    accept_rows: int = 0  # a regime that has lasted so many rows is normal from then on; 0: never
    learn_rows: int = 0  # ... may be learned; 0: never
    hop: int = 1  # rows from one scored row to the next
    recurs_rows: int = (
        0  # what was over for up to so many rows comes back: see ``stream.recurrence``; 0: never
    )


# ------------------------------------------------------------------ input
@dataclass(frozen=True, slots=True, order=True)
class InputPartition:
    """One partition of an input topic; for a file, its name and 0."""

    topic: str
    number: int


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record, not decoded. It is a msgspec struct because these are created quickly."""

    offset: int
    key: bytes | None
    value: bytes
    timestamp_ns: int  # the record's Kafka timestamp; for a file, the run's start
    headers: Sequence[tuple[str, bytes | None]] = ()
    topic: str = ""
    partition: int = -1  # known of records that commands read; -1: not known, or of a file


@dataclass(frozen=True, slots=True, eq=False)
class Records(Sequence[Record]):
    """Records as columns, for a source that gets many at once: no object per record."""

    offsets: Ints  # (B,)
    keys: Sequence[bytes | None]
    values: Sequence[bytes]
    timestamps_ns: Ints  # (B,)
    appended: bool = False  # the timestamps are the broker's (LogAppendTime), not the producer's
    headers: Sequence[Sequence[tuple[str, bytes | None]]] = ()  # (): none of the records has any
    topic: str = ""

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> Records: ...
    def __getitem__(self, at: int | slice) -> Record | Records:
        if isinstance(at, slice):
            return Records(
                self.offsets[at],
                self.keys[at],
                self.values[at],
                self.timestamps_ns[at],
                self.appended,
                self.headers[at] if self.headers else (),
                self.topic,
            )
        headers = self.headers[at] if self.headers else ()
        offset, stamp_ns = int(self.offsets[at]), int(self.timestamps_ns[at])
        return Record(offset, self.keys[at], self.values[at], stamp_ns, headers, self.topic)

    def __iter__(self) -> Iterator[Record]:
        headers, offsets, stamps = (
            self.headers or repeat(()),
            self.offsets.tolist(),
            self.timestamps_ns.tolist(),
        )
        return map(Record, offsets, self.keys, self.values, stamps, headers, repeat(self.topic))


class Disposition(StrEnum):
    """The result of processing a record: exactly one of these."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    LATE = "late"
    REJECTED = "rejected"
    SKIPPED = "skipped"  # no reading and no fault: the stream's mapping says so


class Dropped(StrEnum):
    """What a stream drops on purpose, or never got; a fixed set, so that each can be a metric label."""

    ASSET_EVICTED = "asset_evicted"  # beyond ``limits.max_assets``
    MODEL_FAILED = "model_failed"  # a window that the model raised on
    SENTINEL = "sentinel"  # a cell with a number that training showed to stand for no value
    PLANNED_STOP = "planned_stop"  # that was told, beyond what a partition keeps
    MESSAGE_LOST = "message_lost"  # on the way here, by a gap in Sparkplug's sequence numbers


class Reason(StrEnum):
    """Why a record was rejected; a fixed set, so that each can be a metric label."""

    BLANK = "blank"
    TOO_LARGE = "too_large"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    UNDECODABLE = "undecodable"  # not what the stream's decoder reads
    TOO_DEEP = "too_deep"
    NOT_AN_OBJECT = "not_an_object"
    UNKNOWN_SCHEMA = "unknown_schema"  # the registry has no schema of this id, or none that can be used
    NO_ASSET = "no_asset"
    BAD_ASSET = "bad_asset"
    NO_TIMESTAMP = "no_timestamp"
    BAD_TIMESTAMP = "bad_timestamp"
    FUTURE = "future"
    NO_VALUES = "no_values"
    NO_SENSOR = "no_sensor"
    UNKNOWN_SENSOR = "unknown_sensor"
    UNKNOWN_ALIAS = "unknown_alias"  # Sparkplug: no birth has named it
    BAD_CONDITION = "bad_condition"
    BAD_ROW = "bad_row"  # a row of a table that has another number of cells than its header
    FORGOTTEN = "forgotten"  # of an asset that the operator has decommissioned


BAD_QUALITY = "bad_quality"
"""Why a cell has no number though it may hold one; it is missing, not corrupt."""


class Reading(msgspec.Struct, gc=False):
    """What one asset reported at one event time: all of a record, or a part of one.

    A reading has ``values``, one number per sensor of the stream, NaN where there is none, and ``reported``,
    the sensors it is of. A reading of json-long is of one ``sensor``, by its index, and has a single ``value``,
    so that no list is built per cell. Of several readings of a record the one of the newest time is
    ``counted`` as what became of the record.
    """

    offset: int
    asset: str
    time_ns: int
    values: Sequence[float] | None = None  # None: json-long
    sensor: int = -1  # json-long
    value: float = float("nan")  # json-long
    condition: str = NO_CONDITION
    stamp_ns: int = -1  # the record's own time; -1: it has none
    reported: int = -1  # bit c: it says something of sensor c, be it that there is no value; -1: of all
    counted: bool = True
    corrupt: Sequence[tuple[int, str]] = ()
    """(sensor, fault) of cells that stand for no number, or are of ``BAD_QUALITY``."""
    displaced: Sequence[
        tuple[str, int, str]
    ] = ()  # cells that the record gives again: see ``accounts.displace``


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that is no reading and no fault: the name of the rule that says so."""

    record: Record
    rule: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be used, with everything that its dead letter needs."""

    record: Record
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Consecutive grid rows of one asset, for training and for batch work.

    ``values`` is (T, C) in raw units, NaN exactly where not observed; ``rows`` are
    ``first_row .. first_row + T - 1``; ``condition`` has one label per row or is empty. Of a stream with
    counters, angles or held values, ``values`` are as the model is given them, and ``received`` as they came.
    ``after_cut``: rows right before were taken out, for an alarm; the gap there is no silence.
    """

    asset: str
    first_row: int
    values: Floats
    condition: tuple[str, ...] = ()
    received: Floats | None = None
    after_cut: bool = False
    numbers: Ints | None = None  # (T,) of the rows on the grid, where a long gap was cut short

    @property
    def observed(self) -> Mask:
        """(T, C), True where a reading exists, or a held value."""
        return np.isfinite(self.values)


# ------------------------------------------------------------------ output
@dataclass(frozen=True, slots=True)
class AlertEvent:
    """One message of an episode; a pure function of input and model."""

    stream: str
    asset: str
    kind: AlertKind  # of what opened it; the same in all messages of an alert
    phase: Phase
    severity: Severity
    fingerprint: str
    id: str
    row_ns: int  # the row that caused this message
    onset_ns: int
    opened_ns: int
    model: str
    calibration: str
    summary: str
    sensor: str | None = None
    scores: Mapping[str, PartScore] = field(default_factory=dict)
    contributors: Sequence[Contributor] = ()
    window_start_ns: int | None = None
    window_steps: int = 0
    imputed_share: float = 0.0
    partition: InputPartition | None = None
    first_offset: int = -1
    last_offset: int = -1
    clock_offset_ns: int | None = None  # of a skewed clock: how far it is ahead of the fleet's
    verdict: str | None = None  # the kind of cause, where such verdicts are reliable enough
    unread: Mapping[str, int] = field(default_factory=dict)
    """Of a silent sensor, when it opens: the values that came since the last number and gave none, by fault."""
    per_day: float | None = None  # of a slow trend
    kinds: Sequence[AlertKind] = ()  # all that joined it so far, in their order
    sensors: Sequence[str] = ()  # likewise
    parts: Sequence[AlertPart] = ()  # what is open at this row
    peak: Peak | None = None
    regime: Regime | None = None
    feedback: Feedback | None = None  # the last verdict on it, if it was open then
    dismissed_like: str | None = None  # a false alarm (fingerprint) with its sensors, lower or elsewhere
    maintenance: str | None = None  # the name of the planned stop that suppressed it
    began: Sequence[AlertKind] = ()  # kinds of which a part opens with it, where none was open in it
    ended_ns: int | None = None  # when nothing of it is open: the newest row with something beyond its limits
    returned: int = 0  # how often it was quiet, and came back
    absorbed: bool = False  # when it closes as usual by now, though its sensors are as far off as before
    drift: DriftingAsset | None = None  # of a drift, when it opens: its last interval
    accepted: Sequence[AcceptedChange] = ()  # when it closes because this is normal from now on
    continued_by: str | None = None  # when it closes because this alert has its sensors from now on
    model_changed: bool = False  # when drift is over because its model is: none can judge it

    @property
    def over(self) -> bool:
        """Whether nothing of it is open after this message."""
        return self.phase in (Phase.CLOSED, Phase.SUPPRESSED)

    @property
    def quiet(self) -> bool:
        """Whether nothing of it is open, and it is not over: it may come back."""
        return self.ended_ns is not None and not self.over

    def concerns(self, kind: AlertKind) -> bool:
        """Whether it is about this kind, or has come to be."""
        return kind is self.kind or kind in self.kinds


@dataclass(frozen=True, slots=True)
class FilledCell:
    """One imputed value with its 90 % interval, raw units."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class FilledRow:
    """The cells of one row that were missing."""

    stream: str
    asset: str
    row_ns: int
    cells: Mapping[str, FilledCell]
    method: str
    model: str


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """The scores of one row; parts are NaN where the window has no observation for them."""

    stream: str
    asset: str
    row_ns: int
    score: float
    reconstruction: float
    kl: float
    point: float
    elbo: float
    alarm: bool
    model: str
    static_score: float = float("nan")


@dataclass(frozen=True, slots=True)
class DriftRecord:
    """The additive sums of one event-time interval of one input partition, and the drift that they show."""

    stream: str
    partition: InputPartition
    start_ns: int
    end_ns: int
    model: str
    windows: int
    latent_sum: tuple[float, ...]
    latent_square_sum: tuple[float, ...]
    residual_count: tuple[int, ...]
    residual_sum: tuple[float, ...]
    residual_square_sum: tuple[float, ...]
    kl_sum: float  # of the windows' own KL, nats
    latent_kl: tuple[float, ...]  # nats per dimension
    residual_kl: tuple[float, ...]  # nats per sensor
    latent_threshold: float
    residual_threshold: float
    verdict: str  # ok | drift | insufficient
    reading_sum: tuple[float, ...] = ()  # per sensor, in training sd from the training mean; and of squares
    reading_square_sum: tuple[float, ...] = ()
    expected_sum: tuple[float, ...] = ()  # of what the model decoded, in the same units
    explained: int = (
        0  # windows left out of all sums: an open episode, drift or planned stop of their asset explains them
    )
    fleet: FleetDrift = NOT_MEASURED
    shadow: ShadowCounts | None = None  # of the candidate that judges beside the model; None: there is none


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected record with its stream and input partition."""

    stream: str
    partition: InputPartition
    rejected: Rejected


Output = AlertEvent | FilledRow | ScoredRow | DriftRecord | DeadLetter


# ------------------------------------------------------------------ source and state
class StateRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of state, opaque to what stores it; the value None deletes the key's record.

    There may be a million at once: ``gc=False`` keeps them out of the garbage collector's pauses.
    """

    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Assigned:
    """A partition was assigned to this process.

    Records from ``replay_from`` to before ``publish_from`` only rebuild state: their outputs were published
    before. In a new consumer group both are equal. ``saved`` are the state records as of ``publish_from``
    (see ``stream.snapshot``); empty if there are none.
    """

    partition: InputPartition
    replay_from: int
    publish_from: int
    saved: Sequence[StateRecord] = field(default=(), compare=False)
    exact: bool = field(default=True, compare=False)  # only state of exactly this position can be used


@dataclass(frozen=True, slots=True)
class Revoked:
    """A partition was revoked: its state is dropped, and nothing of it may be committed."""

    partition: InputPartition


@dataclass(frozen=True, slots=True, eq=False)
class PolledRecords:
    """Records of one partition in log order, or the notice that its log is idle or has ended.

    Items are records, or readings where the source's own types need no decoding.
    """

    partition: InputPartition
    items: Sequence[Record | Reading]
    idle: timedelta = timedelta(0)  # wall time spent at the log's end without a new record
    ended: bool = False  # a finite log: nothing will follow
    end_offset: int | None = None  # the log's end when last seen, for the lag
    handover: bool = False  # partitions are about to be revoked: commit now


SourceEvent = Assigned | Revoked | PolledRecords


@dataclass(frozen=True, slots=True)
class Position:
    """How far a partition has been processed, and from where a successor must replay."""

    offset: int  # next record to process
    replay_from: int  # oldest record that is not covered by saved state; <= offset


@dataclass(frozen=True, slots=True, eq=False)
class PartitionCommit:
    """The results of one partition since its last commit, to be made durable together.

    There are no ``outputs`` where they were published before.
    """

    position: Position
    outputs: Sequence[Output] = ()
    saved: Sequence[StateRecord] = ()
