"""The state of one input partition as bytes: one record per asset, and one for the partition itself.

Why: another process that takes the partition over must continue with exactly the outputs that this
process would have produced. An asset's record therefore holds everything that its next output depends
on: the rows of its window as they were read, its slow baseline, its open episodes, and which of its
sensors are silent or stuck. It also holds the offset up to which it covers the log. The successor
replays the log from the oldest record that no asset's state covers, and skips records that an asset's
own state covers already. Numbers are written with all their bits.

A stream of Sparkplug has also a record per birth certificate that may still be needed, keyed by node and offset:
``decode.births`` says when it is written and deleted.

What is here: the structs of the records (msgspec, as arrays), their keys in the state topic, and how
arrays become bytes. Each owner of state (``Grid``, ``EventTimeGuard``, ``FleetClock``, ``WindowBuffer``,
``Episodes``, ``Drift``) builds its part in its own ``snapshot()`` and reads it in its own ``restore()``;
this module imports none of them. Whether a record that was read can be used is decided by ``validity``.

When records are written: writing every asset with every commit would cost more than reading the input
does. An asset is written once the log has advanced by about a window of rows per asset (see
``Pipeline.saving``); its record then costs no more than the rows that it replaces. The partition's
record is small and written with every commit: event time, drift sums, the offset below which an asset
without a record was evicted and must not be created again, and the *model changes* (at which offset which
model took over, and the units in which rows are stored under it). A change rewrites no asset: an existing
record keeps its rows in the units of its time, which it names by the change's number, and a successor
replays the log through the same model changes. A change is removed from the list when no record and no replay
can need it.

Invariants: the order and the types of the fields below are the format of the records; they change only
together with ``SCHEMA``. A record starts with the *layout* that it was written for, so that a changed
stream (other sensors, period or window) makes old records unreadable instead of wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from daemon.detector import Scaling
from daemon.domain import (
    Disposition,
    Floats,
    Ints,
    StateRecord,
    StreamSpec,
)
from daemon.drifting import DriftingAsset
from daemon.mapping import PLAIN
from daemon.stream.course_state import AcceptedState, MemoryState
from daemon.stream.episode_state import AlarmState, IncidentState
from daemon.stream.identity import digest

SCHEMA = 15
SEPARATOR = "\x1f"
READ_AT_ONCE = 5_000
"""Records that are walked through between two pauses."""


class RowState(msgspec.Struct, frozen=True, array_like=True):
    """A row that may still change, or that is kept to recognise a repetition (``asset_grid.OpenRow``)."""

    row: int
    values: bytes
    reported: bytes  # bit set
    offset: int
    last_offset: int
    complete: bool
    condition: str
    fingerprint: int
    counts: bytes  # (C,) where the stream reduces several values of a cell to one, and the row is open
    times: bytes


class GridState(msgspec.Struct, frozen=True, array_like=True):
    """An asset's rows between its newest reading and its windows (``asset_grid.AssetGrid``)."""

    max_time_ns: int
    watermark_ns: int
    head: int
    last_observed: int
    newest: int
    began: int
    silent: bytes  # bit set
    heard: bytes
    condition: str
    rows: list[RowState]
    recent: list[RowState]  # of a long stream
    value_hashes: bytes  # (K,) of a wide one, of the last K released rows, oldest first


class ModelChangeState(msgspec.Struct, frozen=True, array_like=True):
    """A model that took over: it judges the rows that records from ``offset`` on released."""

    number: int  # one more than that of the change before
    offset: int
    model: str
    mean: bytes  # ``detector.Scaling``: the units in which rows are stored under this model
    scale: bytes
    kept: str
    sentinels: list[tuple[int, float]]  # numbers that stand for no value, each with its sensor


class HeldState(msgspec.Struct, frozen=True, array_like=True):
    """A reading whose event time is not confirmed yet, with its record (``event_time.HeldReading``)."""

    offset: int
    key: bytes | None
    message: bytes
    stamp_ns: int
    time_ns: int
    values: bytes | None
    sensor: int
    value: float
    condition: str
    rejected: bool
    counted: Disposition | None
    reported: bytes
    of_record: bool  # whether the record counts as what becomes of this reading
    corrupt: list[tuple[int, str]]  # what there is to count of its cells
    displaced: list[tuple[str, int, str]]
    repeated: bytes
    conflicting: bytes


class EventTimeState(NamedTuple):
    """The event time of an asset: the part of ``ClockState`` that ``EventTimeGuard`` owns."""

    top_ns: int
    arrived_ns: int
    ahead: list[HeldState]
    first: list[HeldState]
    behind: list[HeldState]


class AssetClockState(NamedTuple):
    """An asset as the fleet's clock sees it: the part of ``ClockState`` that ``FleetClock`` owns."""

    numbers: list[int]
    overdue: bool


class ClockState(msgspec.Struct, frozen=True, array_like=True):
    """An asset's event time and its place in the fleet's clock."""

    top_ns: int
    arrived_ns: int
    numbers: list[int]  # ``fleet_clock.NUMBERS``
    overdue: bool
    ahead: list[HeldState]
    first: list[HeldState]
    behind: list[HeldState]

    @staticmethod
    def joined(event_time: EventTimeState, fleet: AssetClockState) -> ClockState:
        """The record of both parts."""
        return ClockState(
            event_time.top_ns,
            event_time.arrived_ns,
            fleet.numbers,
            fleet.overdue,
            event_time.ahead,
            event_time.first,
            event_time.behind,
        )

    @property
    def event_time(self) -> EventTimeState:
        """The part of ``EventTimeGuard``."""
        return EventTimeState(self.top_ns, self.arrived_ns, self.ahead, self.first, self.behind)

    @property
    def fleet(self) -> AssetClockState:
        """The part of ``FleetClock``."""
        return AssetClockState(self.numbers, self.overdue)


@dataclass(frozen=True, slots=True)
class FleetClockState:
    """The part of ``FleetState`` that ``FleetClock`` owns."""

    row: int
    front: int
    due_row: int
    look_at: int
    count: int
    round_readings: int
    late_look_at: int


class FleetState(msgspec.Struct, frozen=True, array_like=True):
    """The fleet's clock (``fleet_clock.FleetClock``), and the record times of the last readings."""

    row: int
    front: int
    due_row: int
    look_at: int
    count: int
    replay_count: int  # as ``count`` was before the first reading that a successor replays
    round_readings: int
    late_look_at: int
    drift_due_row: int
    stamps_ns: list[int]

    @staticmethod
    def joined(
        clock: FleetClockState, *, replay_count: int, drift_due_row: int, stamps_ns: Sequence[int]
    ) -> FleetState:
        """The record of the clock's part and of what is counted beside it."""
        return FleetState(
            clock.row,
            clock.front,
            clock.due_row,
            clock.look_at,
            clock.count,
            replay_count,
            clock.round_readings,
            clock.late_look_at,
            drift_due_row,
            list(stamps_ns),
        )

    @property
    def at_replay(self) -> FleetClockState:
        """The part of ``FleetClock``, with the count before the first reading that a successor replays."""
        return FleetClockState(
            self.row,
            self.front,
            self.due_row,
            self.look_at,
            self.replay_count,
            self.round_readings,
            self.late_look_at,
        )


class WindowState(NamedTuple):
    """The window of an asset: the fields of ``AssetState`` that ``WindowBuffer`` owns, in their order."""

    units: int
    window: bytes
    window_offsets: bytes
    last_value: bytes
    last_row: bytes
    still_since: bytes
    fresh_row: int


class CounterState(NamedTuple):
    """The counters of an asset: the fields of ``AssetState`` that ``Derivation`` owns, in their order."""

    counter_values: bytes
    counter_rows: bytes


class ThresholdState(NamedTuple):
    """The online correction of an asset: the fields of ``AssetState`` that ``Thresholds`` owns, in their order."""

    threshold_level: float
    threshold_rows: int


class UnreadState(NamedTuple):
    """The cells of an asset that gave no number: the fields of ``AssetState`` that ``UnreadCells`` owns, in their order."""

    noted: list[tuple[int, int, str, int]]
    counts: list[tuple[int, str, int]]


class AssetDriftState(msgspec.Struct, frozen=True, array_like=True):
    """The drift of an asset (``asset_drift.AssetDrifts``); numbers of intervals, ``asset_drift.NONE`` where there is none."""

    interval_ns: int
    interval: int  # that its sums are of
    judged: int  # the newest that could be judged
    exceeded: int  # successive ones beyond the thresholds
    first: int  # of these
    beyond: int  # the newest beyond them
    windows: int  # of the interval
    whole: float  # intervals in the sums, as far as they still count
    sums: bytes  # with those of earlier intervals


class AssetState(msgspec.Struct, frozen=True, array_like=True):
    """One asset."""

    layout: str
    offset: int  # records of this asset before it are covered
    grid: GridState
    units: int  # the number of the change whose units the window is in, and whose model the baseline is of
    window: bytes  # (T, C) the newest T <= L rows, oldest first
    window_offsets: bytes  # (T,) ``windowing.NO_RECORD`` for a row without a record
    last_value: bytes  # (C,)
    last_row: bytes
    still_since: bytes
    fresh_row: int
    baseline: bytes | None  # (P,); None: not begun under its model
    threshold_level: (
        float  # its share of the model's threshold, in nats, after the last episode under its model ...
    )
    threshold_rows: int  # ... and the scored rows since (``thresholds.Thresholds``)
    alarm: AlarmState | None
    asset_silent: bool
    silent_sensors: list[int]
    stuck: list[int]
    clock: ClockState
    counter_values: bytes  # (K,) of a stream with K counters: the last value of each ...
    counter_rows: bytes  # ... and its row; -1: none yet
    held: bytes  # (L,) of a stream whose values are held: the held cells of row r at r modulo L
    unread_noted: list[tuple[int, int, str, int]]  # row, sensor as received, fault, cells; of rows that wait
    unread_counts: list[tuple[int, str, int]]  # sensor as received, fault, cells since its last number
    memory: MemoryState | None  # None: no episode is remembered
    accepted: list[AcceptedState]  # what became normal (``acceptance.Acceptances``)
    suppressed: list[int]  # the run that maintenance suppressed (``maintenance.Maintenance``); empty: none
    drift: AssetDriftState | None  # None: nothing is added up under its model
    days: bytes  # (1 + 2C + D (1 + C),) the day, its sums and counts, and the D days before (``trend.TrendMonitor``)

    @property
    def unread(self) -> UnreadState:
        """The part of ``UnreadCells``."""
        return UnreadState(self.unread_noted, self.unread_counts)

    @property
    def threshold(self) -> ThresholdState:
        """The part of ``Thresholds``."""
        return ThresholdState(self.threshold_level, self.threshold_rows)

    @property
    def counters(self) -> CounterState:
        """The part of ``Derivation``."""
        return CounterState(self.counter_values, self.counter_rows)

    @property
    def window_state(self) -> WindowState:
        """The part of ``WindowBuffer``."""
        return WindowState(
            self.units,
            self.window,
            self.window_offsets,
            self.last_value,
            self.last_row,
            self.still_since,
            self.fresh_row,
        )


class _Layout(msgspec.Struct, frozen=True, array_like=True):
    """The first field of every record, in every version of this program."""

    layout: str


class SumsState(msgspec.Struct, frozen=True, array_like=True):
    """The sums of one drift interval (``drift.Sums``)."""

    interval: int
    windows: int
    latent: bytes
    residual: bytes
    kl: float
    readings: bytes
    explained: int
    apart: bool  # of windows of assets that drift


class ReferenceState(msgspec.Struct, frozen=True, array_like=True):
    """``detector.DriftReference``: a successor with another model must still evaluate the sums of this one."""

    latent_mean: bytes
    latent_variance: bytes
    residual_mean: bytes
    residual_variance: bytes
    latent_threshold: float
    residual_threshold: float


class DriftState(NamedTuple):
    """The drift of a partition: the fields of ``PartitionState`` that ``Drift`` owns, in their order."""

    sums: list[SumsState]
    interval_ns: int
    reference: ReferenceState | None
    exceeded: int
    first_exceeded_ns: int

    @staticmethod
    def none(interval_ns: int) -> DriftState:
        """Without a model there are no sums."""
        return DriftState([], interval_ns, None, 0, -1)


class DriftingState(NamedTuple):
    """The fields of ``PartitionState`` that ``AssetDrifts`` owns, in their order."""

    drifting: list[DriftingAsset]
    fleet_moves: bool
    fleet_alone: bool


class SequenceState(msgspec.Struct, frozen=True, array_like=True):
    """The last sequence number of a Sparkplug edge node (``decode.births.Births``)."""

    edge: str
    number: int  # ``decode.births.ENDED``: it has died
    offset: int  # of its record


class BirthState(msgspec.Struct, frozen=True, array_like=True):
    """A certificate of a Sparkplug node (``decode.births.Certificate``), in a record of its own."""

    layout: str
    node: str
    offset: int
    metrics: list[tuple[int, str, int]] | None  # alias, name, datatype; None: a death
    session: int


class PartitionState(msgspec.Struct, frozen=True, array_like=True):
    """What belongs to the partition and to no single asset."""

    layout: str
    offset: int
    model_changes: list[ModelChangeState]  # oldest first; the last one's model is in force
    clock: FleetState
    forgotten_before: int  # an asset seen before this offset and without a record has been evicted
    drift: list[SumsState]
    drift_interval_ns: int
    reference: ReferenceState | None
    exceeded: int
    first_exceeded_ns: int
    drifting: list[DriftingAsset]  # that the next drift record names
    fleet_moves: bool
    fleet_alone: bool
    drift_episode: IncidentState | None
    sequences: list[SequenceState]
    controlled: int  # control messages before this position have been taken ...
    controlled_of: int  # ... of the topic whose first record is of this time
    orders: list[bytes]  # those of maintenance that are in force

    @property
    def model(self) -> str:
        """The version of the model in force."""
        return self.model_changes[-1].model

    @property
    def drift_state(self) -> DriftState:
        """The part of ``Drift``."""
        return DriftState(
            self.drift, self.drift_interval_ns, self.reference, self.exceeded, self.first_exceeded_ns
        )

    @property
    def drifting_state(self) -> DriftingState:
        """The part of ``AssetDrifts``."""
        return DriftingState(self.drifting, self.fleet_moves, self.fleet_alone)


@dataclass(frozen=True, slots=True, eq=False)
class ModelChange:
    """A model that took over, as it is worked with: ``ModelChangeState`` with its units as a ``Scaling``."""

    number: int
    offset: int
    model: str
    scaling: Scaling

    def snapshot(self) -> ModelChangeState:
        """The change as part of a record."""
        return ModelChangeState(
            self.number,
            self.offset,
            self.model,
            pack_floats(self.scaling.mean),
            pack_floats(self.scaling.scale),
            np.dtype(self.scaling.kept).str,
            list(self.scaling.sentinels),
        )

    @staticmethod
    def restored(state: ModelChangeState) -> ModelChange:
        """The change of a record."""
        kept = np.dtype(state.kept).type
        units = unpack_floats(state.mean), unpack_floats(state.scale), kept, tuple(state.sentinels)
        return ModelChange(state.number, state.offset, state.model, Scaling(*units))


_encode = msgspec.msgpack.Encoder().encode
_decode_asset = msgspec.msgpack.Decoder(AssetState).decode
_decode_partition = msgspec.msgpack.Decoder(PartitionState).decode
_decode_birth = msgspec.msgpack.Decoder(BirthState).decode
_decode_layout = msgspec.msgpack.Decoder(_Layout).decode


# ------------------------------------------------------------------ keys and records
def layout(spec: StreamSpec) -> str:
    """Digest of what must be the same for a record to be usable."""
    rows = [f"{rule.reduce},{rule.counter},{rule.angle},{rule.hold_ns > 0}" for rule in spec.rules]
    plain = f"{PLAIN.reduce},{PLAIN.counter},{PLAIN.angle},{PLAIN.hold_ns > 0}"
    assembled = rows if any(row != plain for row in rows) else []
    kind = spec.sensors, spec.period_ns, spec.window, spec.format, spec.gathers
    return digest(SCHEMA, *kind, *assembled, size=16)


def key(topic: str, asset: str = "") -> bytes:
    """An asset's key in the state topic; without an asset, the partition's own."""
    return f"{topic}{SEPARATOR}{asset}".encode()


def birth_name(node: str, offset: int) -> str:
    """What stands for an asset's name in the key of a certificate; no asset's name has the separator."""
    return f"{SEPARATOR}{node}{SEPARATOR}{offset}"


def topic_of(key: bytes) -> bytes:
    """The input topic to whose state a record with this key belongs."""
    return key.partition(SEPARATOR.encode())[0]


def encode(topic: str, asset: str, state: AssetState | BirthState | PartitionState | None) -> StateRecord:
    """The record of a state; of None, the record that deletes the asset's."""
    return StateRecord(key(topic, asset), None if state is None else _encode(state))


def records_of(records: Iterable[StateRecord], topic: str) -> Iterator[tuple[bytes, bytes | None] | None]:
    """Key and value of the records that belong to one input topic.

    The key is the asset's name in UTF-8, empty for the partition itself; it may be other bytes where
    another program wrote the record. None is yielded every ``READ_AT_ONCE`` records, so that a caller who
    reads a million of them can yield to other work.
    """
    prefix = key(topic)
    for i, record in enumerate(records, 1):
        if record.key.startswith(prefix):
            yield record.key[len(prefix) :], record.value
        if i % READ_AT_ONCE == 0:
            yield None


def is_utf8(name: bytes) -> bool:
    """Whether a key is UTF-8, as every asset's name is; a key of the topic may be any bytes."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def decode_partition(value: bytes, wanted: str) -> PartitionState | str | None:
    """The partition's record; a text with the reason if it cannot be read, None if its layout is another."""
    try:
        found = _decode_partition(value)
    except (msgspec.MsgspecError, RecursionError) as error:
        return _unreadable(value, wanted, error)
    return found if found.layout == wanted else None


def decode_asset(value: bytes, wanted: str) -> AssetState | str | None:
    """An asset's record; a text with the reason if it cannot be read, None if its layout is another."""
    try:
        found = _decode_asset(value)
    except (msgspec.MsgspecError, RecursionError) as error:
        return _unreadable(value, wanted, error)
    return found if found.layout == wanted else None


def decode_birth(value: bytes, wanted: str) -> BirthState | str | None:
    """A certificate's record; a text with the reason if it cannot be read, None if its layout is another."""
    try:
        found = _decode_birth(value)
    except (msgspec.MsgspecError, RecursionError) as error:
        return _unreadable(value, wanted, error)
    return found if found.layout == wanted else None


def _unreadable(value: bytes, wanted: str, error: Exception) -> str | None:
    """The reason, or None where another version of this program wrote the record, which its layout shows."""
    try:
        written_for = _decode_layout(value).layout
    except (msgspec.MsgspecError, RecursionError):
        written_for = wanted
    return str(error)[:200] if written_for == wanted else None


# ------------------------------------------------------------------ numbers
def pack_floats(values: Floats | Sequence[float]) -> bytes:
    """Eight bytes each, little-endian; NaN is kept."""
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


def pack_ints(values: Ints | list[int]) -> bytes:
    """Eight bytes each, little-endian."""
    return np.ascontiguousarray(values, dtype="<i8").tobytes()


def unpack_floats(data: bytes) -> Floats:
    """A writable copy."""
    return np.frombuffer(data, "<f8").astype(np.float64)


def unpack_ints(data: bytes) -> Ints:
    """A writable copy."""
    return np.frombuffer(data, "<i8").astype(np.int64)


def unpack_rows(data: bytes, scaling: Scaling) -> NDArray[Any]:
    """(T, C) the rows of a window, stored in the number type of these units."""
    return np.frombuffer(data, np.dtype(scaling.kept)).reshape(-1, len(scaling.mean))


def pack_bits(mask: int) -> bytes:
    """A bit set, as few bytes as it needs."""
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def unpack_bits(bits: bytes) -> int:
    """A bit set."""
    return int.from_bytes(bits, "little")
