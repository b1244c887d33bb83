"""Checks a record of state as a whole before any of it is used.

The state topic is written by this program, but anybody with access may write to it, and one bad record that
raised an error would end every start. A record that decodes may still hold arrays of another length,
rows that lie years apart (which would be bridged one by one), or an episode whose next update lies
before its last. Two kinds of rules are checked:

* of every field, by its type and its name, wherever it stands: numbers within what sums and products of them
  need, arrays of as many numbers as the stream has sensors (``_PER_SENSOR``), lists and texts of a bound length;
* of an asset and of a partition, what must hold between their fields.

Functions named ``..._fault`` return the reason in words, or None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

import msgspec
import numpy as np

from daemon.alarm import State
from daemon.assembly import as_received, hold_rows, merges, reduces
from daemon.control import MaintenanceOrder
from daemon.detector import Scaling
from daemon.domain import AlertKind, Format, StreamSpec
from daemon.maintenance import read_checked
from daemon.stream.acceptance import MOST_ACCEPTED
from daemon.stream.asset_drift import MOST_NAMED, NONE
from daemon.stream.attribution import PeakEvidence
from daemon.stream.course import MOST_POINTS
from daemon.stream.course_state import MEASURED, AcceptedState, MemoryState
from daemon.stream.decode.births import ENDED, LONGEST_NODE, MOST_METRICS, MOST_SEQUENCES
from daemon.stream.deviation import NEVER, Deviation
from daemon.stream.drift import MOST_INTERVALS
from daemon.stream.episode_state import AlarmState, IncidentState
from daemon.stream.event_time import LARGEST_HELD, MOST_REPEATED, NO_CLOCK, most_held
from daemon.stream.fleet_clock import NUMBERS
from daemon.stream.heights import QUARTERS
from daemon.stream.incident import STREAM_DRIFT
from daemon.stream.maintenance import MOST_ORDERS
from daemon.stream.snapshot import (
    AssetDriftState,
    AssetState,
    BirthState,
    ClockState,
    FleetState,
    GridState,
    ModelChangeState,
    PartitionState,
    RowState,
    SequenceState,
    birth_name,
)
from daemon.stream.thresholds import LOWEST_LEVEL
from daemon.stream.trend import KEPT
from daemon.stream.windowing import NO_RECORD

FAR = 1 << 62
"""No offset, row or time is beyond this: two of them can still be told apart in 64 bits."""
LARGEST = 1e100
"""Sums and levels are far below; their squares are still numbers."""
LARGEST_SUM = 1e37
"""The sums of drift are added up in the precision of what is added, which may be single."""
ASSET_BYTES = 65_536
"""Of an asset's name in a key."""
TEXT = 65_536
MOST_ROWS = 1 << 20
"""Entries of a list: more rows than a window and its lateness ever have."""
MOST_MODEL_CHANGES = 10_000
MOST_STAMPS = 1_000
LONGEST_FAULT = 64
MOST_DATATYPE = (1 << 32) - 1
"""Sparkplug knows 35 of them, and writes them in 32 bits."""
_PER_SENSOR = {"values", "last_value", "last_row", "still_since"}
"""Fields that hold eight bytes per sensor, whatever they are part of."""
_RECEIVED = {"values", "silent", "reported"}
"""Fields of the sensors as they are received, before an angle becomes two."""
_READINGS = {"values", "last_value", "peaks", "counter_values"}
"""Fields of sensor values, and figures made of them: numbers, or NaN."""
_SENSORS = {"silent", "reported"}
"""Bit sets of sensors."""


def _fields(value: Any, spec: StreamSpec, path: str = "", depth: int = 0) -> str | None:
    """What is wrong with any one field, wherever it stands."""
    if depth > 8:
        return f"{path} is nested too deeply"
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        unsigned = path.endswith("fingerprint")  # 64 bits of a digest
        return None if -FAR <= value <= FAR or (unsigned and 0 <= value < 1 << 64) else f"{path} is {value}"
    if isinstance(value, str):
        return None if len(value) <= TEXT else f"{path} has {len(value)} characters"
    if isinstance(value, list | tuple):
        if len(value) > MOST_ROWS:
            return f"{path} has {len(value)} entries"
        return next((fault for each in value if (fault := _fields(each, spec, path, depth + 1))), None)
    if isinstance(value, bytes):
        name, C = path.rpartition(".")[2], len(spec.sensors)
        if name in _RECEIVED:
            C = len(as_received(spec).sensors)
        if name in _PER_SENSOR and len(value) != 8 * C:
            return f"{path} has {len(value)} bytes, where {C} sensors need {8 * C}"
        if name in _READINGS and np.isinf(np.frombuffer(value[: len(value) // 8 * 8], "<f8")).any():
            return f"{path} is infinite"
        if name in _SENSORS and int.from_bytes(value[: C + 8], "little") >> C:
            return f"{path} names sensors that there are not"
        return None
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            if fault := _fields(getattr(value, name), spec, f"{path}.{name}" if path else name, depth + 1):
                return fault
    return None


def asset_fault(
    known: AssetState, spec: StreamSpec, partition: PartitionState, units: Mapping[int, Scaling]
) -> str | None:
    """What is wrong with an asset's record.

    Args:
        known: the record.
        spec: the stream.
        partition: the partition's record, which is in order.
        units: by their number, those that rows may be in.
    """
    return (
        _fields(known, spec)
        or (None if known.units in units else f"its units, number {known.units}, are not known")
        or _window_fault(known, spec, units)
        or _grid_fault(known.grid, as_received(spec))
        or _derived_fault(known, spec)
        or _days_fault(known.days, spec)
        or _asset_drift_fault(known.drift)
        or _unread_fault(known, spec)
        or _suppressed_fault(known.suppressed)
        or _sensors_fault(known, spec)
        or (
            None
            if 0 <= known.offset <= partition.offset
            else f"offset {known.offset} is not before the partition's"
        )
        or (None if known.alarm is None else _alarm_fault(known.alarm, known.grid.newest, spec))
        or (None if known.memory is None else _memory_fault(known.memory, spec))
        or _accepted_fault(known.accepted, known.grid.newest, spec)
        or _clock_fault(known.clock, spec, partition.clock.count)
    )


def _window_fault(known: AssetState, spec: StreamSpec, units: Mapping[int, Scaling]) -> str | None:
    C, size = len(spec.sensors), np.dtype(units[known.units].kept).itemsize
    rows, rest = divmod(len(known.window), C * size)
    if rest or rows > spec.window or len(known.window_offsets) != 8 * rows:
        return f"window has {len(known.window)} bytes, and offsets {len(known.window_offsets)}"
    offsets = np.frombuffer(known.window_offsets, "<i8")
    if ((offsets < 0) | ((offsets > FAR) & (offsets != NO_RECORD))).any():
        return "window_offsets are no offsets"
    newest = known.grid.newest
    for name in ("last_row", "still_since"):
        rows_seen = np.frombuffer(getattr(known, name), "<i8")
        if (rows_seen < -1).any() or (rows_seen > max(newest, 0) + 1).any():
            return f"{name} is not of rows up to {newest}"
    if not -1 <= known.fresh_row <= max(newest, 0) + 1:
        return f"fresh_row {known.fresh_row} is behind row {newest}"
    if known.baseline is not None:
        if len(known.baseline) % 8:
            return f"baseline has {len(known.baseline)} bytes"
        if not (np.abs(np.frombuffer(known.baseline, "<f8")) < LARGEST).all():
            return "baseline is not finite"
    if not LOWEST_LEVEL <= known.threshold_level <= 0.0 or known.threshold_rows < 0:
        return f"threshold is {known.threshold_level} nats after {known.threshold_rows} rows"
    return None


def _derived_fault(known: AssetState, spec: StreamSpec) -> str | None:
    counters = sum(rule.counter for rule in spec.rules)
    if not len(known.counter_values) == len(known.counter_rows) == 8 * counters:
        return f"{counters} counters have {len(known.counter_values)} and {len(known.counter_rows)} bytes"
    rows = np.frombuffer(known.counter_rows, "<i8")
    if (rows < -1).any() or (rows > max(known.grid.newest, 0)).any():
        return f"counter_rows is not of rows up to {known.grid.newest}"
    holds = any(hold_rows(spec))
    if len(known.held) != (4 * spec.window if holds else 0):
        return f"held has {len(known.held)} bytes"
    if (np.frombuffer(known.held, "<u4") > len(spec.sensors)).any():
        return "held counts more sensors than there are"
    return None


def _days_fault(state: bytes, spec: StreamSpec) -> str | None:
    C = len(spec.sensors)
    days, rest = divmod(len(state) - 8 * (1 + 2 * C), 8 * (1 + C))
    if rest or not 0 <= days <= KEPT:
        return f"days have {len(state)} bytes"
    numbers = np.frombuffer(state, "<f8")
    dates = np.concatenate([numbers[1 + 2 * C :: 1 + C], numbers[:1]])
    if (
        not (dates == np.floor(dates)).all()
        or (np.diff(dates) <= 0).any()
        or not 0 <= dates[0] <= dates[-1] <= FAR
    ):
        return "days are not in their order"
    if not (np.abs(numbers[: 1 + 2 * C]) < LARGEST).all() or (numbers[1 + C : 1 + 2 * C] < 0).any():
        return "the sums of a day are not finite"
    return "a day's mean is infinite" if np.isinf(numbers).any() else None


def _unread_fault(known: AssetState, spec: StreamSpec) -> str | None:
    received, newest = len(as_received(spec).sensors), max(known.grid.newest, 0)
    noted, counts = known.unread
    if len(noted) > MOST_ROWS or len(counts) > MOST_ROWS:
        return f"{len(noted)} and {len(counts)} entries of unread cells"
    entries = [(c, fault, n) for _, c, fault, n in noted] + counts
    if any(
        not 0 <= c < received or len(fault) > LONGEST_FAULT or not 0 < n <= FAR for c, fault, n in entries
    ):
        return "unread cells are of sensors that there are not, or none"
    if any(not 0 <= row <= newest for row, *_ in noted):
        return f"unread cells are not of rows up to {newest}"
    return None


def _grid_fault(grid: GridState, spec: StreamSpec) -> str | None:
    C, period = len(spec.sensors), spec.period_ns
    if len(grid.heard) not in (0, 8 * C):
        return f"heard has {len(grid.heard)} bytes, where {C} sensors need {8 * C}"
    kept = spec.allowed_lateness_ns // period + 3 if not merges(spec) else 0
    if len(grid.value_hashes) != 8 * kept:
        return f"value_hashes has {len(grid.value_hashes)} bytes, where {kept} rows need {8 * kept}"
    if not -1 <= grid.newest <= max(grid.max_time_ns, -1) // period or grid.max_time_ns < -1:
        return f"newest row {grid.newest} is after time {grid.max_time_ns}"
    if not -1 <= grid.last_observed <= grid.newest or not -1 <= grid.began <= grid.newest:
        return f"rows {grid.last_observed} and {grid.began} are after the newest, {grid.newest}"
    if not max(grid.last_observed + 1, 0) <= grid.head <= grid.newest + 1:
        return f"head {grid.head} is not between rows {grid.last_observed} and {grid.newest}"
    if grid.watermark_ns > max(grid.max_time_ns, (grid.newest + 1) * period):
        return f"watermark {grid.watermark_ns} is after time {grid.max_time_ns}"
    waiting, recent = ([row.row for row in rows] for rows in (grid.rows, grid.recent))
    if len(set(waiting)) != len(waiting) or any(not grid.head <= row <= grid.newest for row in waiting):
        return f"rows that wait are not between {grid.head} and {grid.newest}"
    if fault := next((fault for row in (*grid.rows, *grid.recent) if (fault := _cells_fault(row, C))), None):
        return fault
    if any(bool(row.counts) != reduces(spec) for row in grid.rows):
        return "a row that waits does not say what its cells were made of"
    if sorted(set(recent)) != recent or any(not 0 <= row < grid.head for row in recent):
        return f"recent rows are not before {grid.head}"
    heard = np.frombuffer(grid.heard, "<i8")
    return "heard is not of rows so far" if ((heard < -1) | (heard > grid.newest)).any() else None


def _cells_fault(row: RowState, sensors: int) -> str | None:
    """What is wrong with what a row says of the values that its cells were made of."""
    if len(row.counts) != len(row.times) or len(row.counts) not in (0, 8 * sensors):
        return f"row {row.row} has counts of {len(row.counts)} bytes and times of {len(row.times)}"
    counts, times = np.frombuffer(row.counts, "<i8"), np.frombuffer(row.times, "<i8")
    if (counts < 0).any() or (counts > FAR).any() or (times < -1).any() or (times > FAR).any():
        return f"row {row.row} has counts or times that are none"
    return None


def _sensors_fault(known: AssetState, spec: StreamSpec) -> str | None:
    for name in ("silent_sensors", "stuck"):
        which: Sequence[int] = getattr(known, name)
        if any(not 0 <= c < len(spec.sensors) for c in which) or len(set(which)) != len(which):
            return f"{name} names sensors that there are not"
    return None


def _clock_fault(clock: ClockState, spec: StreamSpec, count: int) -> str | None:
    C, long = len(spec.sensors), spec.format is Format.JSON_LONG
    if clock.top_ns < -1 or clock.arrived_ns < -1 or len(clock.numbers) != len(NUMBERS):
        return f"a clock at {clock.top_ns} of {len(clock.numbers)} numbers"
    farthest = FAR // spec.period_ns
    for name, number in zip(NUMBERS, clock.numbers, strict=True):
        if name in ("born_at", "heard_at", "turn"):
            if not -1 <= number <= count:
                return f"a clock whose {name} is {number}, of {count} readings"
        elif abs(number) > farthest:
            return f"a clock whose {name} is {number} rows"
    for part in (clock.ahead, clock.first, clock.behind):
        if len(part) > max(MOST_REPEATED + C, most_held(as_received(spec))):
            return f"{len(part)} readings of one row are held"
        for held in part:
            whole = held.values is None and 0 <= held.sensor < C if long else held.values is not None
            if not whole or held.time_ns < 0 or math.isinf(held.value):
                return f"a reading of sensor {held.sensor} at {held.time_ns} is held"
            if len(held.message) + len(held.key or b"") > LARGEST_HELD:
                return f"a record of {len(held.message)} bytes is held"
    return None


def _fleet_fault(clock: FleetState, spec: StreamSpec) -> str | None:
    farthest = FAR // spec.period_ns
    for name in ("row", "front", "due_row", "drift_due_row"):
        row: int = getattr(clock, name)
        if row != NO_CLOCK and abs(row) > farthest:
            return f"the fleet's {name} is {row}"
    if clock.look_at < 0 or len(clock.stamps_ns) > MOST_STAMPS:
        return f"the fleet is looked at from reading {clock.look_at} on"
    if not 0 <= clock.replay_count <= clock.count or clock.round_readings < 0:
        return f"{clock.count} readings, and {clock.replay_count} before a replay"
    return None


def _alarm_fault(alarm: AlarmState, newest: int, spec: StreamSpec) -> str | None:
    C = len(spec.sensors)
    if alarm.state not in State.__members__.values():
        return f"state {alarm.state} is none"
    if alarm.recent < 0 or alarm.resting < 0 or not -1 <= alarm.above_since <= newest:
        return f"alarm counts {alarm.recent}, {alarm.resting}, {alarm.above_since} are none"
    if alarm.peaks is not None and len(alarm.peaks) != 8 * C * len(PeakEvidence.__slots__):
        return f"peaks have {len(alarm.peaks)} bytes"
    if alarm.deviation is not None and (fault := _deviation_fault(alarm.deviation, newest, C)):
        return fault
    if any(tuple(part) == STREAM_DRIFT for episode in alarm.open for *part, _ in episode.parts):
        return "an asset's episode is the stream's drift"
    if fault := _heights_fault(alarm, spec, newest):
        return fault
    parts = [(*part,) for episode in alarm.open for *part, _ in episode.parts]
    if len(set(parts)) < len(parts):
        return "a part of an asset's episodes that is open twice"
    return next((fault for episode in alarm.open if (fault := _incident_fault(episode, spec))), None)


def _memory_fault(memory: MemoryState, spec: StreamSpec) -> str | None:
    courses = [*memory.open, *memory.closed, *memory.dismissed]
    if any(not course.fingerprint for course in courses):
        return "an episode is remembered without its fingerprint"
    for course in courses if memory.run is None else [*courses, memory.run]:
        names = {name for name, *_ in (*course.leading, *course.jumps, *course.sustained, *course.places)}
        if not set(spec.sensors).issuperset(names.union(course.deviated, course.stuck)):
            return "an episode of sensors that there are not is remembered"
        if len({len(point) for point in course.latents}) > 1 or len(course.latents) > MOST_POINTS:
            return f"{len(course.latents)} latents of an episode"
        if any(
            len(point) % 4 or not np.isfinite(np.frombuffer(point, "<f4")).all() for point in course.latents
        ):
            return "latents of an episode are not finite"
        jumps, sustained = (
            (jump for _, jump in course.jumps),
            (number for *_, share, size in course.sustained for number in (share, size)),
        )
        if not all(np.isfinite(place).all() for _, *place in course.places):
            return "places of an episode are not finite"
        shares = [course.score, *jumps, *sustained, *(size for *_, size in course.places)]
        if not all(0.0 <= share < LARGEST for share in shares):
            return "an episode is remembered that came to no height"
    if not set(spec.sensors).issuperset(name for name, _ in memory.deviating):
        return "deviations are held back of sensors that there are not"
    if not {course.fingerprint for course in memory.open}.issuperset(memory.accepting):
        return "somebody accepts an episode that is not open"
    return None


def _accepted_fault(accepted: Sequence[AcceptedState], newest: int, spec: StreamSpec) -> str | None:
    if len(accepted) > MOST_ACCEPTED or not all(one.fingerprint for one in accepted):
        return f"{len(accepted)} accepted alerts, or one without its fingerprint"
    for one in accepted:
        for level in one.levels:
            known = level.sensor in spec.sensors and level.side in (-1, 1)
            if not known or not 0.0 < level.size < LARGEST:
                return f"an accepted level of {level.size:g} of sensor {level.sensor[:50]!r}"
            if not np.isfinite((level.place, level.apart_sum)).all() or level.rows < MEASURED:
                return f"an accepted level of sensor {level.sensor[:50]!r} has numbers that are not finite, or negative"
            if not 0.0 <= level.left <= level.size:
                return f"of an accepted level of {level.size:g}, {level.left:g} is left"
        if not 0 <= one.began <= newest:
            return f"a level accepted at row {one.began} of {newest}"
    return None


def _deviation_fault(packed: bytes, newest: int, sensors: int) -> str | None:
    if len(packed) != 8 * sensors * len(Deviation.__slots__):
        return f"a deviation has {len(packed)} bytes"
    known = Deviation(*np.frombuffer(packed, "<f8").reshape(-1, sensors))
    if not all(np.isfinite(part).all() for part in astuple(known)):
        return "a deviation has numbers that are not finite"
    for part in (known.since, known.last, known.blamed, known.steady, known.seen, known.explained):
        if not ((part >= NEVER) & (part <= newest)).all():
            return f"a deviation since row {part.max():g}, of {newest}"
    if (known.rows < 0).any() or (known.peak < 0).any():
        return "a deviation of less than no rows, or beyond no limit"
    return None


def _heights_fault(alarm: AlarmState, spec: StreamSpec, newest: int) -> str | None:
    for name, first, block, since, largest in alarm.heights:
        if name not in spec.sensors or not 1 <= len(largest) <= QUARTERS + 1:
            return f"{len(largest)} heights of sensor {name[:50]!r}"
        if not all(height >= 0 for height in largest):
            return "a height that is less than nothing"
        if not 0 <= first <= block <= 4 * newest // spec.window or not -1 <= since <= newest:
            return f"heights of row {since}, of {newest}"
        if len(largest) != min(block - first, QUARTERS) + 1:
            return f"{len(largest)} heights of {block - first} quarters of windows"
    return None


def _incident_fault(incident: IncidentState, spec: StreamSpec) -> str | None:
    known = incident.recurrence
    if not (incident.parts or known.like):
        return "an alert that has nothing open"
    if min(known.back_rows + 1, known.pause, known.returned, known.steady_rows) < 0:
        return "an alert that has come back less than never"
    for kind, sensor, *_ in [*incident.parts, (incident.kind, incident.sensor)]:
        of_sensor = kind in (AlertKind.SENSOR_SILENT, AlertKind.SENSOR_STUCK)
        if of_sensor and sensor not in spec.sensors:
            return f"an episode of sensor {str(sensor)[:50]!r}, which there is not"
        if kind in (AlertKind.ANOMALY, AlertKind.ASSET_SILENT, AlertKind.DRIFT) and sensor is not None:
            return f"an episode of kind {kind} that names a sensor"
    for kind, _, slow, _ in incident.parts:
        if slow and kind not in (AlertKind.DEVIATION, AlertKind.DRIFT):
            return f"a slow trend of kind {kind}"
    if any(
        sensor not in spec.sensors for kind, sensor, *_ in incident.parts if kind is AlertKind.DEVIATION
    ) or not set(spec.sensors).issuperset(
        [*incident.sensors, *incident.leading, *(name for _, name, _ in known.like)]
    ):
        return "an alert of a sensor which there is not"
    if incident.kind is not AlertKind.DRIFT and any(
        tuple(part) == STREAM_DRIFT for *part, _ in incident.parts
    ):
        return "an asset's alert with the stream's drift"
    if incident.peaks is not None and len(incident.peaks) != 8 * len(spec.sensors) * len(
        PeakEvidence.__slots__
    ):
        return f"peaks of an alert have {len(incident.peaks)} bytes"
    if incident.onset_ns < -spec.period_ns or incident.opened_ns < 0:
        return f"an episode that opened at {incident.opened_ns}"
    for row in (
        *(row for *_, row in incident.parts),
        incident.steady_row,
        incident.told_row,
        incident.bad_row,
        known.returned_row,
        known.pause,
        known.back_rows,
        known.steady_row,
        known.steady_rows,
        known.counted_row,
    ):
        if not -1 <= row <= FAR // spec.period_ns:
            return f"an episode of row {row}"
    numbers = [number for one in known.contributors for number in one[1:5] if number is not None]
    if not all(map(math.isfinite, (known.height, known.level, *numbers))):
        return "an alert that came back with numbers that are not finite"
    if incident.per_day is not None and not math.isfinite(incident.per_day):
        return f"a trend of {incident.per_day} a day"
    if incident.peak is not None and any(math.isnan(number) for number in incident.peak[2:]):
        return "a peak that is no number"
    # Updates come at doubled distances from the opening: none would ever be the next.
    if incident.next_update_row <= incident.updates_row:
        return f"an episode whose next update, at row {incident.next_update_row}, is before its opening"
    return None


def _suppressed_fault(run: Sequence[int]) -> str | None:
    """What is wrong with a run that maintenance suppressed."""
    return None if not run or (len(run) == 2 and run[1] in (0, 1)) else f"suppressed is {run[:3]}"


def partition_fault(known: PartitionState, spec: StreamSpec) -> str | None:
    """What is wrong with a partition's record; then none of its state can be used."""
    if fault := _fields(known, spec):
        return fault
    if not 0 <= known.forgotten_before <= known.offset:
        return f"forgotten_before {known.forgotten_before} is not before offset {known.offset}"
    if not 1 <= len(known.model_changes) <= MOST_MODEL_CHANGES:
        return f"{len(known.model_changes)} model_changes"
    for before, change in zip([None, *known.model_changes], known.model_changes, strict=False):
        if fault := _model_change_fault(before, change, known.offset, len(spec.sensors)):
            return fault
    if known.drift_episode is not None:
        if known.drift_episode.kind is not AlertKind.DRIFT:
            return "an episode of drift that is none"
        if fault := _incident_fault(known.drift_episode, spec):
            return fault
    return (
        _fleet_fault(known.clock, spec)
        or _drift_fault(known, len(spec.sensors))
        or _sequences_fault(known.sequences)
        or _orders_fault(known)
    )


def _orders_fault(known: PartitionState) -> str | None:
    """What is wrong with the control messages that it names."""
    if known.controlled < 0 or len(known.orders) > MOST_ORDERS:
        return f"controlled {known.controlled}, with {len(known.orders)} orders"
    for order in known.orders:
        try:
            control = read_checked(order)
            if not isinstance(control, MaintenanceOrder):
                return f"an order that is none of maintenance: {type(control).__name__}"
        except ValueError as error:
            return f"an order that cannot be used: {error}"
    return None


def _node_fault(node: str, parts: Sequence[int]) -> str | None:
    named = node.split("/")
    if len(node) > LONGEST_NODE or len(named) not in parts or not all(named):
        return f"{node[:60]!r} is no node"
    return None


def _sequences_fault(sequences: Sequence[SequenceState]) -> str | None:
    if len(sequences) > MOST_SEQUENCES or len({each.edge for each in sequences}) < len(sequences):
        return f"{len(sequences)} sequences, or one twice"
    for each in sequences:
        if fault := _node_fault(each.edge, (2,)):
            return fault
        if not ENDED <= each.number <= 255 or each.offset < 0:
            return f"sequence number {each.number} at offset {each.offset}"
    return None


def birth_fault(known: BirthState, name: str) -> str | None:
    """What is wrong with a certificate's record, whose key ends with this name (``snapshot.birth_name``)."""
    if fault := _node_fault(known.node, (2, 3)):
        return fault
    if not 0 <= known.offset <= FAR or not -1 <= known.session <= FAR:
        return f"offset {known.offset}, session {known.session}"
    if name != birth_name(known.node, known.offset):
        return "its key is another's"
    metrics = known.metrics or ()
    if len(metrics) > MOST_METRICS:
        return f"{len(metrics)} metrics"
    for alias, metric, datatype in metrics:
        if not -1 <= alias < 1 << 64 or not 0 <= datatype <= MOST_DATATYPE or len(metric) > TEXT:
            return f"alias {alias}, datatype {datatype}, of a name of {len(metric)} characters"
    return None


def _model_change_fault(
    before: ModelChangeState | None, change: ModelChangeState, offset: int, sensors: int
) -> str | None:
    if change.number < 0 or (before is not None and change.number != before.number + 1):
        return f"change {change.number} does not follow"
    if not (0 if before is None else before.offset) <= change.offset <= offset:
        return f"change {change.number} at offset {change.offset} does not follow"
    if change.kept not in ("<f4", "<f8") or len(change.model) > 1_000:
        return f"rows are kept as {change.kept[:20]!r}"
    if not len(change.mean) == len(change.scale) == 8 * sensors:
        return f"units of {len(change.mean)} and {len(change.scale)} bytes, for {sensors} sensors"
    mean, scale = np.frombuffer(change.mean, "<f8"), np.frombuffer(change.scale, "<f8")
    if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all()):
        return f"the units of change {change.number} are not finite"
    if any(not 0 <= sensor < sensors or not math.isfinite(number) for sensor, number in change.sentinels):
        return f"change {change.number} has sentinels of sensors that there are not, or not finite"
    return None


def _asset_drift_fault(known: AssetDriftState | None) -> str | None:
    if known is None:
        return None
    intervals = (known.interval, known.judged, known.first, known.beyond)
    if known.interval_ns < 1 or known.exceeded < 0 or known.windows < 0 or not 0 <= known.whole < FAR:
        return f"drift exceeded {known.exceeded} times in intervals of {known.interval_ns} ns"
    if any(number != NONE and abs(number) * known.interval_ns > FAR for number in intervals):
        return f"drift of intervals {intervals}"
    if len(known.sums) % 8 or not (np.abs(np.frombuffer(known.sums, "<f8")) < LARGEST_SUM).all():
        return "drift sums are not finite"
    return None


def _drift_fault(known: PartitionState, sensors: int) -> str | None:
    if known.drift_interval_ns < 1 or len(known.drift) > 2 * MOST_INTERVALS:
        return f"{len(known.drift)} drift intervals of {known.drift_interval_ns} ns"
    if known.exceeded < 0 or not known.first_exceeded_ns >= -1:
        return f"drift exceeded {known.exceeded} times since {known.first_exceeded_ns}"
    if len(known.drifting) > MOST_NAMED:
        return f"{len(known.drifting)} assets that drift"
    for one in known.drifting:
        nats = (one.latent_kl, one.latent_threshold, one.residual_kl, one.residual_threshold)
        if not all(number >= 0 for number in nats) or one.end_ns <= one.start_ns or one.windows < 0:
            return f"an asset that drifts by {nats} nats"
    if known.drift and known.reference is None:
        return "drift without what it is measured against"
    if known.reference is None:
        return None
    about = known.reference
    latents = len(about.latent_mean) // 8
    moments = (about.latent_mean, about.latent_variance, about.residual_mean, about.residual_variance)
    if [len(part) for part in moments] != [8 * latents] * 2 + [8 * sensors] * 2:
        return "drift is measured against arrays of other lengths"
    arrays = [np.frombuffer(part, "<f8") for part in moments]
    if (
        not all((np.abs(array) < LARGEST).all() for array in arrays)
        or (arrays[1] <= 0).any()
        or (arrays[3] <= 0).any()
    ):
        return "drift is measured against numbers that are not finite"
    if not (about.latent_threshold >= 0 and about.residual_threshold >= 0):  # infinite without a limit
        return "drift has a threshold below zero"
    numbers = [(sums.interval, sums.apart) for sums in known.drift]
    if len(set(numbers)) != len(numbers):
        return "a drift interval comes twice"
    for sums in known.drift:
        if (
            sums.windows < 0
            or sums.explained < 0
            or abs(sums.interval) * known.drift_interval_ns > FAR
            or not abs(sums.kl) < LARGEST_SUM
        ):
            return f"drift interval {sums.interval} of {sums.windows} windows"
        if len(sums.latent) != 16 * latents or {len(sums.residual), len(sums.readings)} != {24 * sensors}:
            return "drift sums have another length"
        if not (
            np.abs(np.frombuffer(sums.latent + sums.residual + sums.readings, "<f8")) < LARGEST_SUM
        ).all():
            return "drift sums are not finite"
    return None
