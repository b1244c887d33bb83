"""What a partition remembers, as bytes: one record per asset and one for the partition itself.

A successor is to say exactly what its predecessor would have said. So an asset's record holds
all that its next output depends on: its rows and window as they were read, its slow baseline,
its open episodes, what is silent and what is stuck. It also holds the offset that it covers:
the successor replays the log from the oldest record that no asset's state covers, and skips
what an asset's own state knows already. Numbers are written to the last bit, as they are held.

Writing every asset with every commit would cost more than reading does. An asset is therefore
written when the log has gone on so far that each asset had about a window of rows (see
``Pipeline.saving``): then its record costs no more than the rows it replaces.

The partition's record is small and goes with every commit: event time, drift sums, the offset below
which an asset without a record has been forgotten and is not to be made again, and the *swaps*: at
which offset which model took over, and in what units it has rows kept. A swap writes no asset. The
records that there are keep their rows in the units of their time, which they name by the swap's
number; a successor replays the log through the swaps as its predecessor went through them. A swap is
dropped from the list when no record and no replay can need it any more.

A record names the *layout* it was written for. A changed stream (other sensors, period or
window) makes old records unreadable rather than wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from daemon.alarm import Alarm, State
from daemon.detector import DriftReference, Scaling
from daemon.domain import (
    AlertKind,
    Disposition,
    Floats,
    InputPartition,
    Ints,
    Reading,
    Record,
    Severity,
    StateRecord,
    StreamSpec,
)
from daemon.stream.alerts import AssetEpisodes, Episode, PeakEvidence, digest
from daemon.stream.clock import NUMBERS, Doubt, EventTimeGuard, FleetClock, HeldReading
from daemon.stream.drift import Drift, Sums
from daemon.stream.grid import AssetGrid, Fingerprints, OpenRow

SCHEMA = 6
SEPARATOR = "\x1f"
READ_AT_ONCE = 5_000
"""Records that are walked through between two pauses."""


class RowState(msgspec.Struct, frozen=True, array_like=True):
    """A row that may still change, or that a repetition is told by."""

    row: int
    values: bytes
    reported: bytes  # bit set
    offset: int
    last_offset: int
    complete: bool
    condition: str
    fingerprint: int


class EpisodeState(msgspec.Struct, frozen=True, array_like=True):
    """An open episode."""

    kind: AlertKind
    sensor: str | None
    fingerprint: str
    opened_ns: int
    onset_ns: int
    severity: Severity
    next_update_row: int


class GridState(msgspec.Struct, frozen=True, array_like=True):
    """``windows.AssetGrid``."""

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
    told: bytes  # (K,) of a wide one, the fingerprints of the last K released rows, oldest first


class AlarmState(msgspec.Struct, frozen=True, array_like=True):
    """``alerts.AssetEpisodes``."""

    state: int
    recent: int
    resting: int
    above_since: int
    peaks: bytes | None  # ``alerts.PeakEvidence``, (7, C)
    open: list[EpisodeState]


class SwapState(msgspec.Struct, frozen=True, array_like=True):
    """A model that took over: rows released by records from ``offset`` on are its to judge."""

    number: int  # one more than that of the swap before
    offset: int
    model: str
    mean: bytes  # ``domain.Scaling``, the units that rows are kept in under this model
    scale: bytes
    kept: str


class HeldState(msgspec.Struct, frozen=True, array_like=True):
    """A reading that is held, and its record: see ``clock.HeldReading``."""

    offset: int
    key: bytes | None
    message: bytes
    stamp_ns: int
    time_ns: int
    values: bytes | None
    sensor: int
    value: float
    condition: str
    refused: bool
    counted: Disposition | None


class ClockState(msgspec.Struct, frozen=True, array_like=True):
    """What is known of an asset's clock: see ``clock.EventTimeGuard`` and ``clock.FleetClock``."""

    top_ns: int
    arrived_ns: int
    numbers: list[int]  # ``clock.NUMBERS``
    overdue: bool
    ahead: list[HeldState]
    first: list[HeldState]
    behind: list[HeldState]


class FleetState(msgspec.Struct, frozen=True, array_like=True):
    """The fleet's clock: see ``clock.FleetClock``; and the record times of the last readings."""

    row: int
    front: int
    due_row: int
    look_at: int
    count: int
    replay_count: int  # as ``count`` was before the first reading that a successor replays
    everybody: int
    late_look_at: int
    drift_due_row: int
    stamps_ns: list[int]


class AssetState(msgspec.Struct, frozen=True, array_like=True):
    """One asset: see the module."""

    layout: str
    offset: int  # records of this asset before it are covered
    grid: GridState
    units: int  # the number of the swap whose units the window is in, and whose model the baseline is of
    window: bytes  # (T, C) the newest T <= L rows, oldest first
    window_offsets: bytes  # (T,) ``rings.NO_RECORD`` where no record spoke of the row
    last_value: bytes  # (C,)
    last_row: bytes
    still_since: bytes
    fresh_row: int
    baseline: bytes | None  # (P,); None: not begun under its model
    alarm: AlarmState | None
    asset_silent: bool
    silent_sensors: list[int]
    stuck: list[int]
    clock: ClockState


class _Layout(msgspec.Struct, frozen=True, array_like=True):
    """What every record begins with, in every version of this program."""

    layout: str


class SumsState(msgspec.Struct, frozen=True, array_like=True):
    """``drift.Sums`` of one interval."""

    interval: int
    windows: int
    latent: bytes
    residual: bytes
    kl: float


class ReferenceState(msgspec.Struct, frozen=True, array_like=True):
    """``domain.DriftReference``: a successor with another model must still say what this one's sums mean."""

    latent_mean: bytes
    latent_variance: bytes
    residual_mean: bytes
    residual_variance: bytes
    latent_threshold: float
    residual_threshold: float


class PartitionState(msgspec.Struct, frozen=True, array_like=True):
    """What belongs to the partition and to no asset."""

    layout: str
    offset: int
    swaps: list[SwapState]  # oldest first; the last one's model is in force
    clock: FleetState
    forgotten_before: int  # an asset seen before this offset and without a record has been evicted
    drift: list[SumsState]
    drift_interval_ns: int
    reference: ReferenceState | None
    exceeded: int
    first_exceeded_ns: int
    drift_episode: EpisodeState | None

    @property
    def model(self) -> str:
        """The version in force."""
        return self.swaps[-1].model


@dataclass(frozen=True, slots=True, eq=False)
class Swap:
    """``SwapState`` as it is worked with."""

    number: int
    offset: int
    model: str
    scaling: Scaling


_pack = msgspec.msgpack.Encoder().encode
_asset = msgspec.msgpack.Decoder(AssetState).decode
_partition = msgspec.msgpack.Decoder(PartitionState).decode
_only_layout = msgspec.msgpack.Decoder(_Layout).decode


# ------------------------------------------------------------------ keys and records
def layout(spec: StreamSpec) -> str:
    """What must be the same for a record to be of use."""
    return digest(SCHEMA, spec.sensors, spec.period_ns, spec.window, spec.format, size=16)


def key(topic: str, asset: str = "") -> bytes:
    """An asset's key in the state topic; the partition's own with no asset."""
    return f"{topic}{SEPARATOR}{asset}".encode()


def topic_of(key: bytes) -> bytes:
    """The input topic whose state a record of this key holds."""
    return key.partition(SEPARATOR.encode())[0]


def written(topic: str, asset: str, state: AssetState | PartitionState | None) -> StateRecord:
    """The record that says ``state``; None takes the asset's away."""
    return StateRecord(key(topic, asset), None if state is None else _pack(state))


def own(records: Iterable[StateRecord], topic: str) -> Iterator[tuple[bytes, bytes | None] | None]:
    """Asset (UTF-8, if it is one; empty for the partition itself) and value of one input topic's records.

    Now and then None comes instead, so that who reads very many can do something else between.
    """
    prefix = key(topic)
    for i, record in enumerate(records, 1):
        if record.key.startswith(prefix):
            yield record.key[len(prefix) :], record.value
        if i % READ_AT_ONCE == 0:
            yield None


def is_text(name: bytes) -> bool:
    """Whether it is UTF-8: an asset's name is, a key of the topic may be anything."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def to_partition(value: bytes, wanted: str) -> PartitionState | str | None:
    """A partition's record; else why it cannot be read, or None where it is of another ``layout``."""
    try:
        found = _partition(value)
    except (msgspec.MsgspecError, RecursionError) as error:
        return _not_read(value, wanted, error)
    return found if found.layout == wanted else None


def to_asset(value: bytes, wanted: str) -> AssetState | str | None:
    """An asset's record; else why it cannot be read, or None where it is of another ``layout``."""
    try:
        found = _asset(value)
    except (msgspec.MsgspecError, RecursionError) as error:
        return _not_read(value, wanted, error)
    return found if found.layout == wanted else None


def _not_read(value: bytes, wanted: str, error: Exception) -> str | None:
    """Why, unless the record is of another version of this program: its layout comes first, in every version."""
    try:
        written_for = _only_layout(value).layout
    except (msgspec.MsgspecError, RecursionError):
        written_for = wanted
    return str(error)[:200] if written_for == wanted else None


# ------------------------------------------------------------------ numbers
def floats(values: Floats | Sequence[float]) -> bytes:
    """Whole, NaN and all."""
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


def ints(values: Ints | list[int]) -> bytes:
    """Eight bytes each."""
    return np.ascontiguousarray(values, dtype="<i8").tobytes()


def to_floats(data: bytes) -> Floats:
    """A copy that may be written to."""
    return np.frombuffer(data, "<f8").astype(np.float64)


def to_ints(data: bytes) -> Ints:
    """A copy that may be written to."""
    return np.frombuffer(data, "<i8").astype(np.int64)


def of_swap(swap: Swap) -> SwapState:
    """A swap as a value."""
    units = swap.scaling
    return SwapState(
        swap.number,
        swap.offset,
        swap.model,
        floats(units.mean),
        floats(units.scale),
        np.dtype(units.kept).str,
    )


def to_swap(state: SwapState) -> Swap:
    """A swap as it was."""
    units = Scaling(to_floats(state.mean), to_floats(state.scale), np.dtype(state.kept).type)
    return Swap(state.number, state.offset, state.model, units)


def to_rows(data: bytes, units: Scaling) -> NDArray[Any]:
    """A window's rows (T, C) in units of this type."""
    return np.frombuffer(data, np.dtype(units.kept)).reshape(-1, len(units.mean))


def _bits(mask: int) -> bytes:
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def _mask(bits: bytes) -> int:
    return int.from_bytes(bits, "little")


# ------------------------------------------------------------------ rows
def _row(index: int, row: OpenRow) -> RowState:
    return RowState(
        index,
        floats(row.values),
        _bits(row.reported),
        row.offset,
        row.last_offset,
        row.complete,
        row.condition,
        row.fingerprint,
    )


def _open_rows(rows: Iterable[RowState]) -> dict[int, OpenRow]:
    return {
        row.row: OpenRow(
            to_floats(row.values).tolist(),
            _mask(row.reported),
            row.offset,
            row.last_offset,
            row.complete,
            row.condition,
            row.fingerprint,
        )
        for row in rows
    }


def of_grid(grid: AssetGrid, told: Fingerprints, newest: int) -> GridState:
    """An asset's grid as a value."""
    return GridState(
        grid.max_time_ns,
        grid.watermark_ns,
        grid.head,
        grid.last_observed,
        newest,
        grid.began,
        _bits(grid.silent),
        ints(grid.heard),
        grid.condition,
        [_row(index, row) for index, row in grid.rows.items()],
        [_row(index, row) for index, row in grid.recent.items()],
        told.astype("<u8").tobytes(),
    )


def to_grid(asset: str, slot: int, state: GridState) -> tuple[AssetGrid, Fingerprints]:
    """An asset's grid as it was, and the fingerprints of its last rows."""
    grid = AssetGrid(
        asset,
        slot,
        state.max_time_ns,
        state.watermark_ns,
        state.head,
        state.last_observed,
        _open_rows(state.rows),
        _open_rows(state.recent),
        _mask(state.silent),
        state.began,
        to_ints(state.heard).tolist(),
        state.condition,
    )
    return grid, np.frombuffer(state.told, "<u8").astype(np.uint64)


# ------------------------------------------------------------------ clocks
def of_fleet(
    clock: FleetClock, stamps_ns: Sequence[int], replay_count: int, drift_due_row: int
) -> FleetState:
    """The fleet's clock as a value."""
    return FleetState(
        clock.row,
        clock.front,
        clock.due_row,
        clock.look_at,
        clock.count,
        replay_count,
        clock.everybody,
        clock.late_look_at,
        drift_due_row,
        list(stamps_ns),
    )


def to_fleet(clock: FleetClock, state: FleetState) -> tuple[int, ...]:
    """Go on with the fleet's clock; gives the record times of the last readings."""
    clock.row, clock.front = state.row, state.front
    clock.due_row, clock.look_at, clock.count = state.due_row, state.look_at, state.replay_count
    clock.everybody, clock.late_look_at = state.everybody, state.late_look_at
    return tuple(state.stamps_ns)


def of_clock(guard: EventTimeGuard, clock: FleetClock, slot: int) -> ClockState:
    """What is known of an asset's clock, as a value."""

    doubt = guard.doubt(slot)
    return ClockState(
        int(guard.top_ns[slot]),
        int(guard.arrived_ns[slot]),
        [int(getattr(clock, name)[slot]) for name in NUMBERS],
        bool(clock.overdue[slot]),
        list(map(_held, doubt.ahead)),
        list(map(_held, doubt.first)),
        list(map(_held, doubt.behind)),
    )


def _held(held: HeldReading) -> HeldState:
    record, reading = held.record, held.reading
    return HeldState(
        record.offset,
        record.key,
        record.value,
        record.timestamp_ns,
        reading.time_ns,
        None if reading.values is None else floats(reading.values),
        reading.sensor,
        reading.value,
        reading.condition,
        held.refused,
        held.disposition,
    )


def _to_held(asset: str, state: HeldState) -> HeldReading:
    values = None if state.values is None else to_floats(state.values).tolist()
    reading = Reading(
        state.offset,
        asset,
        state.time_ns,
        values,
        state.sensor,
        state.value,
        state.condition,
        state.stamp_ns,
    )
    record = Record(state.offset, state.key, state.message, state.stamp_ns)
    return HeldReading(reading, record, state.refused, state.counted)


def to_clock(guard: EventTimeGuard, clock: FleetClock, slot: int, asset: str, state: ClockState) -> None:
    """Go on with an asset's clock as another process left it."""
    doubt = Doubt(
        *([_to_held(asset, each) for each in part] for part in (state.ahead, state.first, state.behind))
    )
    guard.restore(slot, state.top_ns, state.arrived_ns, doubt)
    clock.overdue[slot] = state.overdue
    for name, number in zip(NUMBERS, state.numbers, strict=True):
        getattr(clock, name)[slot] = number


# ------------------------------------------------------------------ episodes
def of_episode(episode: Episode) -> EpisodeState:
    """An open episode as a value."""
    return EpisodeState(
        episode.kind,
        episode.sensor,
        episode.fingerprint,
        episode.opened_ns,
        episode.onset_ns,
        episode.severity,
        episode.next_update_row,
    )


def to_episode(state: EpisodeState) -> Episode:
    """An open episode as it was."""
    return Episode(
        state.kind,
        state.sensor,
        state.fingerprint,
        state.opened_ns,
        state.onset_ns,
        state.severity,
        state.next_update_row,
    )


def of_episodes(known: AssetEpisodes | None) -> AlarmState | None:
    """An asset's episodes; not the stream's drift, which is the partition's to keep."""
    if known is None:
        return None
    alarm = known.alarm
    kept = [of_episode(e) for (kind, _), e in known.open.items() if kind is not AlertKind.DRIFT]
    peaks = None if known.peaks is None else floats(np.stack(astuple(known.peaks)))
    return AlarmState(int(alarm.state), alarm.recent, alarm.resting, known.above_since, peaks, kept)


def to_episodes(state: AlarmState) -> AssetEpisodes:
    """An asset's episodes as they were."""
    return AssetEpisodes(
        Alarm(State(state.state), state.recent, state.resting),
        state.above_since,
        None
        if state.peaks is None
        else PeakEvidence(*to_floats(state.peaks).reshape(len(fields(PeakEvidence)), -1)),
        {(e.kind, e.sensor): to_episode(e) for e in state.open},
    )


# ------------------------------------------------------------------ drift
def of_drift(drift: Drift | None) -> list[SumsState]:
    """The sums of every interval that is not over."""
    if drift is None:
        return []
    return [
        SumsState(interval, sums.windows, floats(sums.latent), floats(sums.residual), sums.kl)
        for interval, sums in drift.intervals.items()
    ]


def of_reference(drift: Drift | None) -> ReferenceState | None:
    """What the sums are measured against; None where there are none."""
    if drift is None or not drift.intervals:
        return None
    known = drift.reference
    return ReferenceState(
        floats(known.latent_mean),
        floats(known.latent_variance),
        floats(known.residual_mean),
        floats(known.residual_variance),
        known.latent_threshold,
        known.residual_threshold,
    )


def outgoing(state: PartitionState, stream: str, partition: InputPartition) -> Drift | None:
    """The drift that ended with its model or its interval, for there is a new one of either now."""
    known = state.reference
    if known is None:
        return None
    reference = DriftReference(
        to_floats(known.latent_mean),
        to_floats(known.latent_variance),
        to_floats(known.residual_mean),
        to_floats(known.residual_variance),
        known.latent_threshold,
        known.residual_threshold,
    )
    drift = Drift(stream, partition, state.drift_interval_ns, reference, state.model)
    to_drift(drift, state)
    return drift


def to_drift(drift: Drift, state: PartitionState) -> None:
    """Go on with sums that the same model began, in intervals of the same length."""
    for sums in state.drift:
        latent = to_floats(sums.latent).reshape(2, -1)
        residual = to_floats(sums.residual).reshape(3, -1)
        drift.intervals[sums.interval] = Sums(sums.windows, latent, residual, sums.kl)
    drift.exceeded = state.exceeded
    drift.first_exceeded_ns = state.first_exceeded_ns
