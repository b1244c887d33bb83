"""A simulated fleet of pumps with known faults: what ``anomalyd demo`` runs on.

A pump is a handful of hidden states (speed, demand, ambient air, two thermal masses) and eight
sensors that all hang on them. Because the sensors share so few causes, any one of them can be
told from the others to within its measuring noise, while the operating point moves each of
them over a range ten times as wide. That gap is what a joint model lives on, and it is where
most faults are put: a shift of one and a half standard deviations is far inside the channel's
own range, and fifteen times its noise.

Everything follows from the seed. The faults draw from a generator of their own, so that a
fleet with faults sends, outside them, the very bytes that it sends without.

Records are json-wide. Readings are dropped (single cells, runs of one sensor, short outages of
a pump), some lines come late, twice or damaged, and some cells hold rubbish, as on a real bus.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from statistics import median
from typing import Final, NamedTuple

import msgspec
import numpy as np

from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    Floats,
    Ints,
    Mask,
    Phase,
    StreamSpec,
    instant,
    to_ns,
)

SENSORS: Final = (
    "Speed",  # rpm
    "Flow",  # l/min
    "Pressure",  # bar
    "Current",  # A
    "VibrationDrive",  # mm/s
    "VibrationFan",  # mm/s
    "TemperatureMotor",  # degrees Celsius
    "TemperatureBearing",
)
NOISE: Final = np.array([4.0, 0.8, 0.03, 0.06, 0.04, 0.03, 0.15, 0.12])
"""Standard deviation of each sensor's measuring noise."""
SPREAD: Final = np.array([420.0, 20.0, 0.85, 1.9, 0.49, 0.41, 12.0, 3.9])
"""Standard deviation of each sensor over operating points; the unit of a fault's size."""
_DECIMALS: Final = (2, 3, 5, 4, 4, 4, 3, 3)
_RANGES: Final = (
    (0.0, 3600.0),
    (0.0, 200.0),
    (0.0, 8.0),
    (0.0, 20.0),
    (0.0, 10.0),
    (0.0, 10.0),
    (0.0, 120.0),
    (0.0, 120.0),
)

WINDOW: Final = 16
FAULTS_PER_ASSET_DAY: Final = 1.5
FAULT_GAP_ROWS: Final = 120
"""Rows between the end of a fault and the next one's start, on one asset."""
_MARGIN_ROWS: Final = 60  # at either end of a stage: a fault needs room to be found in
_BLOCK_ROWS: Final = 1440
_FAULTS_KEPT: Final = 2000  # an endless demo must not grow
_DELAYS: Final = np.array([0, 1, 2, 3, 4])  # ticks; allowed lateness is two
_LATE: Final = 0.01
_DUPLICATE: Final = 0.005
_GARBAGE: Final = 0.001
_CORRUPT: Final = 0.0005  # of cells
_RUBBISH: Final[tuple[object, ...]] = (None, "NaN", "error", "", "12,34", True, [])


class FaultKind(StrEnum):
    """What goes wrong with a pump, or with what measures it."""

    SPIKE = "spike"  # one to three rows, far out
    SHIFT = "shift"  # an offset, within the channel's own range
    DRIFT = "drift"  # an offset that grows for an hour
    STUCK = "stuck"  # the sensor stands still
    NOISE = "noise"  # the sensor shakes
    CORRELATION = "correlation"  # plausible values, of another pump
    SENSOR_SILENT = "sensor_silent"
    ASSET_SILENT = "asset_silent"


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """One fault: rows of ``asset`` from ``start_ns`` to before ``end_ns``."""

    kind: FaultKind
    asset: str
    sensor: str | None  # None: the whole asset
    start_ns: int
    end_ns: int


class _Way(NamedTuple):
    """How faults of one kind are drawn: where, for how many rows, how large (in ``SPREAD``)."""

    sensors: tuple[int, ...]
    rows: tuple[int, int]
    size: tuple[float, float]


_ANY: Final = tuple(range(len(SENSORS)))
_WAYS: Final = {
    FaultKind.SPIKE: _Way(_ANY, (1, 3), (5.0, 8.0)),
    FaultKind.SHIFT: _Way((1, 2, 3, 4, 5, 6, 7), (60, 120), (1.2, 2.0)),
    FaultKind.DRIFT: _Way((2, 3, 4, 5, 6, 7), (90, 120), (2.0, 3.0)),
    FaultKind.STUCK: _Way(_ANY, (75, 120), (0.0, 0.0)),
    FaultKind.NOISE: _Way((1, 2, 3, 4, 5), (45, 90), (0.8, 1.2)),
    FaultKind.CORRELATION: _Way((1, 2, 3), (60, 120), (0.0, 0.0)),
    FaultKind.SENSOR_SILENT: _Way(_ANY, (60, 120), (0.0, 0.0)),
    FaultKind.ASSET_SILENT: _Way((-1,), (45, 90), (0.0, 0.0)),
}
_RAMP_ROWS: Final = 60


class Tick(NamedTuple):
    """What arrives within one period of simulated time."""

    time_ns: int  # the period's end: the records' own timestamp
    lines: list[tuple[bytes, bytes]]  # key (the asset) and value, in arrival order


@dataclass(slots=True, eq=False)
class _Active:
    """A fault at work; ``donor`` and ``frozen`` are settled at its first row."""

    fault: InjectedFault
    index: int
    sensor: int
    size: float
    donor: int = -1
    frozen: float = math.nan


class Fleet:
    """Pumps that go on from where the last call of ``records`` left them.

    Args:
        seed: everything follows from it and from the calls made.
        assets: number of pumps.
        period: simulated time between two readings of a pump.
        poison: how long the whole fleet's sensors take to go bad once ``poison_from`` is
            called. They lose their relation to each other little by little, so slowly that a
            model which learns from its own recent past is led astray: what a retraining gate
            has to refuse.
    """

    def __init__(
        self,
        seed: int = 0,
        assets: int = 24,
        period: timedelta = timedelta(minutes=1),
        poison: timedelta = timedelta(hours=12),
    ) -> None:
        self.assets = tuple(f"pump-{i + 1:02d}" for i in range(assets))
        self.faults: list[InjectedFault] = []
        """Injected so far, by start; an endless run keeps the newest."""
        self._keys = [name.encode() for name in self.assets]
        self._period_ns = to_ns(period)
        self._random = np.random.default_rng([seed, 0])
        self._fault_random = np.random.default_rng([seed, 1])
        self._poison_random = np.random.default_rng([seed, 2])
        self._poison_start_ns: int | None = None
        self._poison_ns = to_ns(poison)
        self._planned: list[_Active] = []
        self._late: dict[int, list[tuple[bytes, bytes]]] = {}  # tick -> lines that come with it
        self._minute = period / timedelta(minutes=1)
        random = self._random
        count = len(SENSORS)
        self._gain = 1.0 + 0.003 * random.standard_normal((assets, count))
        self._offset = 0.3 * NOISE * random.standard_normal((assets, count))
        self._phase_ns = np.sort(random.integers(0, self._period_ns, assets)) // 1_000_000 * 1_000_000
        self._setpoint = random.choice([0.6, 0.75, 0.9, 1.0], assets)
        self._dwell = random.integers(1, 180, assets).astype(np.float64)  # minutes
        self._speed = self._setpoint.copy()
        self._demand = 1.0 + 0.08 * random.standard_normal(assets)
        self._ambient = 22.0 + random.standard_normal(assets)
        self._burst = np.zeros((assets, count), np.int64)  # rows that a sensor stays away yet
        self._outage = np.zeros(assets, np.int64)
        clean = self._sense()
        self._motor = self._ambient + 0.45 * clean[:, 3] ** 2
        self._bearing = self._ambient + 14.0 * self._speed**2

    def spec(self) -> StreamSpec:
        """The stream that the fleet's records are."""
        period = self._period_ns
        return StreamSpec(
            name="pumps",
            sensors=SENSORS,
            period_ns=period,
            window=WINDOW,
            allowed_lateness_ns=2 * period,
            max_gap_ns=20 * period,
            silent_after_ns=20 * period,
            topics=("sensors.pumps",),
            ranges=_RANGES,
        )

    def poison_from(self, start: datetime | None) -> None:
        """Let the contamination grow from then on; None ends it."""
        self._poison_start_ns = None if start is None else to_ns(start - datetime(1970, 1, 1, tzinfo=UTC))

    def records(self, start: datetime, rows: int | None = None, faults: bool = False) -> Iterator[Tick]:
        """Simulate on from ``start``, one tick per period.

        Args:
            start: event time of the first row, aware; floored to the period. Later than
                what an earlier call simulated.
            rows: number of ticks; None never ends.
            faults: schedule faults over these rows (for an endless run, day by day).
        """
        first = to_ns(start - datetime(1970, 1, 1, tzinfo=UTC)) // self._period_ns
        done = 0
        while rows is None or done < rows:
            block = _BLOCK_ROWS if rows is None else rows - done
            if faults:
                self._schedule(first + done, block)
            for row in range(first + done, first + done + block):
                yield self._tick(row)
            done += block

    # -------------------------------------------------------------- faults
    def _schedule(self, first: int, rows: int) -> None:
        """Spread faults over rows and assets, every kind as often as the others."""
        random = self._fault_random
        wanted = round(FAULTS_PER_ASSET_DAY * len(self.assets) * rows / _BLOCK_ROWS)
        kinds = list(FaultKind)
        drawn = [kinds[i] for _ in range(wanted // len(kinds)) for i in range(len(kinds))]
        drawn += [kinds[i] for i in random.permutation(len(kinds))[: wanted % len(kinds)]]
        margin = min(_MARGIN_ROWS, rows // 8)
        taken: list[list[tuple[int, int]]] = [[] for _ in self.assets]
        for kind in (drawn[i] for i in random.permutation(len(drawn))):
            way = _WAYS[kind]
            length = int(random.integers(way.rows[0], way.rows[1] + 1))
            sensor = int(random.choice(way.sensors))
            size = float(random.uniform(*way.size) * random.choice([-1.0, 1.0]))
            latest = first + rows - margin - length
            if latest < first + margin:
                continue  # a stage too short for it
            for _ in range(200):
                fewest = min(map(len, taken))
                index = int(random.choice([i for i, spans in enumerate(taken) if len(spans) <= fewest + 1]))
                begin = int(random.integers(first + margin, latest + 1))
                end = begin + length
                if all(end + FAULT_GAP_ROWS <= a or b + FAULT_GAP_ROWS <= begin for a, b in taken[index]):
                    taken[index].append((begin, end))
                    fault = InjectedFault(
                        kind,
                        self.assets[index],
                        SENSORS[sensor] if sensor >= 0 else None,
                        begin * self._period_ns,
                        end * self._period_ns,
                    )
                    self._planned.append(_Active(fault, index, sensor, size))
                    self.faults.append(fault)
                    break
        self._planned.sort(key=lambda active: (active.fault.start_ns, active.index))
        self.faults.sort(key=lambda fault: (fault.start_ns, fault.asset))
        del self.faults[:-_FAULTS_KEPT]

    def _spoil(self, row: int, values: Floats, clean: Floats, kept: Mask) -> Mask:
        """Let the faults of this row change what is measured and sent.

        Args:
            row: grid row.
            values: (A, C) as measured; changed in place.
            clean: (A, C) without noise.
            kept: (A, C) what is sent; changed in place.

        Returns:
            (A,) assets whose line must come, and in time, or the fault would go unseen.
        """
        random = self._fault_random
        time_ns = row * self._period_ns
        needed = np.zeros(len(self.assets), bool)
        while self._planned and self._planned[0].fault.end_ns <= time_ns:
            self._planned.pop(0)
        for active in self._planned:
            fault, a, c = active.fault, active.index, active.sensor
            if fault.start_ns > time_ns:
                break
            if fault.end_ns <= time_ns:
                continue
            elapsed = (time_ns - fault.start_ns) // self._period_ns
            match fault.kind:
                case FaultKind.SPIKE:
                    values[a, c] += active.size * SPREAD[c]
                    needed[a] = kept[a, c] = True
                case FaultKind.SHIFT:
                    values[a, c] += active.size * SPREAD[c]
                case FaultKind.DRIFT:
                    values[a, c] += active.size * SPREAD[c] * min(1.0, (elapsed + 1) / _RAMP_ROWS)
                case FaultKind.STUCK:
                    if elapsed == 0:
                        active.frozen = float(values[a, c])
                    values[a, c] = active.frozen
                case FaultKind.NOISE:
                    values[a, c] += active.size * SPREAD[c] * random.standard_normal()
                case FaultKind.CORRELATION:
                    if elapsed == 0:
                        active.donor = int(np.argmax(np.abs(self._speed - self._speed[a])))
                    values[a, c] += clean[active.donor, c] - clean[a, c]
                case FaultKind.SENSOR_SILENT:
                    kept[a, c] = False
                case FaultKind.ASSET_SILENT:
                    kept[a] = False
        return needed

    # -------------------------------------------------------------- physics
    def _sense(self) -> Floats:
        """(A, 6): speed to the vibrations, from the operating point, without noise."""
        speed, demand = self._speed, self._demand
        through = speed * demand
        drive = 0.8 + 2.2 * speed**2 + 1.5 * (1.0 - demand) ** 2
        return np.stack(
            [
                3000.0 * speed,
                120.0 * through,
                6.0 * speed**2 - 2.2 * through**2,
                2.0 + 8.0 * speed**2 * demand,
                drive,
                0.4 + 1.3 * speed**2 + 0.25 * drive,
            ],
            axis=1,
        )

    def _advance(self, row: int) -> Floats:
        """One period on; the (A, C) values that perfect sensors would show."""
        random, minute, count = self._random, self._minute, len(self.assets)
        day = row * self._period_ns / (86_400 * SECOND_NS)
        daily = math.sin(2 * math.pi * (day - 0.375))  # highest at three in the afternoon
        self._dwell -= minute
        due = self._dwell <= 0
        busy = np.array([0.15, 0.3, 0.3, 0.25]) if daily > 0 else np.array([0.35, 0.35, 0.2, 0.1])
        level = random.choice([0.6, 0.75, 0.9, 1.0], count, p=busy) + 0.015 * random.standard_normal(count)
        dwell = random.uniform(45, 240, count)
        self._setpoint = np.where(due, level, self._setpoint)
        self._dwell = np.where(due, dwell, self._dwell)
        self._speed += (self._setpoint - self._speed) * -math.expm1(-minute / 2.5)
        self._demand = _wander(self._demand, 1.0 + 0.06 * daily, 0.08, minute / 90, random)
        self._ambient = _wander(self._ambient, 22.0 + 4.0 * daily, 0.8, minute / 240, random)
        sensed = self._sense()
        warm = self._ambient + 0.45 * sensed[:, 3] ** 2
        self._motor += (warm - self._motor) * -math.expm1(-minute / 40)
        self._bearing += (self._ambient + 14.0 * self._speed**2 - self._bearing) * -math.expm1(-minute / 25)
        return np.column_stack([sensed, self._motor, self._bearing]) * self._gain + self._offset

    # -------------------------------------------------------------- the bus
    def _dropped(self) -> tuple[Mask, Mask]:
        """(A, C) cells and (A,) lines that get lost on the way."""
        random = self._random
        shape = self._burst.shape
        single = random.random(shape) < 0.01
        starts = random.random(shape) < 0.0012
        length = random.integers(3, 13, shape)
        self._burst = np.where(starts, length, np.maximum(self._burst - 1, 0))
        begins = random.random(shape[0]) < 0.0012
        away = random.integers(2, 7, shape[0])
        self._outage = np.where(begins, away, np.maximum(self._outage - 1, 0))
        return single | (self._burst > 0), self._outage > 0

    def _tick(self, row: int) -> Tick:
        random, count = self._random, len(self.assets)
        clean = self._advance(row)
        values = clean + NOISE * random.standard_normal(clean.shape)
        self._contaminate(row, values)
        cells, outage = self._dropped()
        kept = ~cells & ~outage[:, None]
        delay = np.where(
            random.random(count) < _LATE, random.choice(_DELAYS[1:], count, p=[0.4, 0.3, 0.2, 0.1]), 0
        )
        twice = random.random(count) < _DUPLICATE
        garbage = random.random(count) < _GARBAGE
        rubbish = random.random(clean.shape) < _CORRUPT
        draws = random.integers(0, 2**31, (count, 2))
        needed = self._spoil(row, values, clean, kept)
        delay[needed] = 0
        rubbish[needed] = False
        lines = [line for due in sorted(self._late) if due <= row for line in self._late.pop(due)]
        for a in range(count):
            if garbage[a]:
                lines.append((self._keys[a], _garbage(self.assets[a], int(draws[a, 0]))))
            if not kept[a].any():
                continue
            line = (self._keys[a], self._line(row, a, values[a], kept[a], rubbish[a], draws[a]))
            arrivals = [int(delay[a])] + ([int(delay[a]) + 1] if twice[a] else [])
            for ticks in arrivals:
                if ticks:
                    self._late.setdefault(row + ticks, []).append(line)
                else:
                    lines.append(line)
        return Tick((row + 1) * self._period_ns, lines)

    def _line(self, row: int, a: int, values: Floats, kept: Mask, rubbish: Mask, draws: Ints) -> bytes:
        cells: dict[str, object] = {
            name: round(value, decimals)
            for name, value, decimals, sent in zip(
                SENSORS, values.tolist(), _DECIMALS, kept.tolist(), strict=True
            )
            if sent
        }
        if rubbish.any():
            for c in np.flatnonzero(rubbish & kept):
                cells[SENSORS[c]] = _RUBBISH[int(draws[1]) % len(_RUBBISH)]
        time = instant(row * self._period_ns + int(self._phase_ns[a]))
        ts = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return msgspec.json.encode({"asset": self.assets[a], "ts": ts, "values": cells})

    def _contaminate(self, row: int, values: Floats) -> None:
        """Once poisoned: sensors lose their relation, slowly, all over the fleet; in place."""
        if self._poison_start_ns is None:
            return
        grown = (row * self._period_ns - self._poison_start_ns) / self._poison_ns
        if grown <= 0:
            return
        grown = min(grown, 1.0)
        shake = 1.5 * self._poison_random.standard_normal(values.shape)
        lean = np.where(np.arange(len(SENSORS)) % 2 == 0, 1.5, -1.5)
        values += grown * SPREAD * (shake + lean)


def _wander(state: Floats, mean: float, deviation: float, step: float, random: np.random.Generator) -> Floats:
    """One step of a process that strays about its mean; ``step`` in its own time constants."""
    keep = math.exp(-step)
    kick = deviation * math.sqrt(1.0 - keep * keep) * random.standard_normal(len(state))
    return mean + keep * (state - mean) + kick


def _garbage(asset: str, draw: int) -> bytes:
    """A line that no one can use."""
    whole = b'{"asset":"' + asset.encode() + b'","ts":"2024-01-01T00:00:00Z","values":{"Speed":1800.0,"Flow":'
    kinds = (
        whole,
        b"ERROR [gateway] connection reset by peer",
        b" ",
        b"[1, 2, 3]",
        b"42",
        b"\xff\xfe\x00" + whole,
    )
    return kinds[draw % len(kinds)]


# ------------------------------------------------------------------ what was found
FOUND_BY: Final = frozenset(
    {AlertKind.ANOMALY, AlertKind.SENSOR_SILENT, AlertKind.SENSOR_STUCK, AlertKind.ASSET_SILENT}
)
"""Alerts that say that something is wrong with an asset now."""


@dataclass(frozen=True, slots=True)
class KindScore:
    """How the faults of one kind fared."""

    kind: FaultKind
    injected: int
    found: int
    median_delay: timedelta | None  # from a fault's start to its first alert; None: none found


@dataclass(frozen=True, slots=True)
class FleetScore:
    """Injected against found."""

    kinds: tuple[KindScore, ...]  # those that were injected, in ``FaultKind``'s order
    missed: tuple[InjectedFault, ...]
    episodes: int  # opened, of the kinds in ``FOUND_BY``
    false: tuple[AlertEvent, ...]  # opened where nothing was wrong

    @property
    def injected(self) -> int:
        return sum(kind.injected for kind in self.kinds)

    @property
    def found(self) -> int:
        return sum(kind.found for kind in self.kinds)


def score(
    faults: Sequence[InjectedFault],
    events: Sequence[AlertEvent],
    tolerance: timedelta = timedelta(minutes=2 * WINDOW),
) -> FleetScore:
    """Hold alerts against faults.

    Args:
        faults: what was injected.
        events: alert messages, in any order; those that do not open an episode play no part.
        tolerance: how long after its end an episode may still open because of a fault (its
            rows are in the windows yet).

    Returns:
        A fault is found if an episode of its asset opens from its start to its end plus
        ``tolerance``; an episode that opens outside all of them is false.
    """
    late_ns = to_ns(tolerance)
    by_asset: dict[str, list[AlertEvent]] = {}
    for event in events:
        if event.phase is Phase.OPENED and event.kind in FOUND_BY:
            by_asset.setdefault(event.asset, []).append(event)
    explained: set[int] = set()
    delays: dict[FaultKind, list[int]] = {}
    injected: dict[FaultKind, int] = {}
    missed = []
    for fault in faults:
        injected[fault.kind] = injected.get(fault.kind, 0) + 1
        hits = [
            event
            for event in by_asset.get(fault.asset, [])
            if fault.start_ns <= event.opened_ns <= fault.end_ns + late_ns
        ]
        explained.update(map(id, hits))
        if hits:
            delays.setdefault(fault.kind, []).append(min(hit.opened_ns for hit in hits) - fault.start_ns)
        else:
            missed.append(fault)
    opened = [event for opened in by_asset.values() for event in opened]
    return FleetScore(
        kinds=tuple(
            KindScore(
                kind,
                injected[kind],
                len(delays.get(kind, [])),
                timedelta(microseconds=median(delays[kind]) / 1_000) if kind in delays else None,
            )
            for kind in FaultKind
            if kind in injected
        ),
        missed=tuple(missed),
        episodes=len(opened),
        false=tuple(
            sorted((e for e in opened if id(e) not in explained), key=lambda e: (e.opened_ns, e.asset))
        ),
    )
