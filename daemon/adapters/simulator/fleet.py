"""A simulated fleet of pumps on a bus: the records that ``anomalyd demo`` runs on.

Everything follows from the seed. Records are json-wide. As on a real bus, readings are dropped (single cells, runs
of one sensor, short outages of a pump), some lines arrive late, twice or damaged, and some cells hold rubbish.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec
import numpy as np

from daemon.adapters.simulator.faults import DAY_ROWS, Contamination, FaultPlan, FleetRow, InjectedFault
from daemon.adapters.simulator.pumps import NOISE, SENSORS, Pumps
from daemon.domain import EPOCH, Floats, Ints, Mask, StreamSpec, instant, to_ns

WINDOW: Final = 16
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
_DELAYS: Final = np.array([0, 1, 2, 3, 4])  # ticks; allowed lateness is two
_LATE: Final = 0.01
_DUPLICATE: Final = 0.005
_GARBAGE: Final = 0.001
_CORRUPT: Final = 0.0005  # of cells
_RUBBISH: Final[tuple[object, ...]] = (None, "NaN", "error", "", "12,345", {}, [])


class Tick(NamedTuple):
    """What arrives within one period of simulated time."""

    time_ns: int  # the period's end: the records' own timestamp
    lines: list[tuple[bytes, bytes]]  # key (the asset) and value, in arrival order


class Fleet:
    """Pumps that send their readings over a bus; each call of ``records`` goes on where the last one ended.

    Args:
        seed: everything follows from it and from the calls made.
        assets: number of pumps.
        period: simulated time between two readings of a pump.
        poison: how long the contamination takes to its full effect once ``poison_from`` is called: the sensors of
            the whole fleet lose their relation to each other so slowly that a model which learns from its own
            recent past is led astray. A gate for retrained models has to refuse such a model.
    """

    def __init__(
        self,
        seed: int = 0,
        assets: int = 24,
        period: timedelta = timedelta(minutes=1),
        poison: timedelta = timedelta(hours=12),
    ) -> None:
        self.assets = tuple(f"pump-{i + 1:02d}" for i in range(assets))
        self._keys = [name.encode() for name in self.assets]
        self._period_ns = to_ns(period)
        self._random = np.random.default_rng([seed, 0])
        self._pumps = Pumps(assets, self._period_ns, self._random)
        self._faults = FaultPlan(self.assets, self._period_ns, np.random.default_rng([seed, 1]))
        self._contamination = Contamination(self._period_ns, to_ns(poison), np.random.default_rng([seed, 2]))
        self._late: dict[int, list[tuple[bytes, bytes]]] = {}  # tick -> lines that arrive with it
        self._burst = np.zeros((assets, len(SENSORS)), np.int64)  # rows that a sensor stays missing
        self._outage = np.zeros(assets, np.int64)

    @property
    def faults(self) -> list[InjectedFault]:
        """The faults injected so far, by start; an endless run keeps the newest."""
        return self._faults.injected

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
        self._contamination.start_ns = None if start is None else to_ns(start - EPOCH)

    def records(self, start: datetime, rows: int | None = None, faults: bool = False) -> Iterator[Tick]:
        """Simulate on from ``start``, one tick per period.

        Args:
            start: event time of the first row, aware; floored to the period. Later than
                what an earlier call simulated.
            rows: number of ticks; None never ends.
            faults: schedule faults over these rows (for an endless run, day by day).
        """
        first = to_ns(start - EPOCH) // self._period_ns
        done = 0
        while rows is None or done < rows:
            block = DAY_ROWS if rows is None else rows - done
            if faults:
                self._faults.schedule(first + done, block)
            for row in range(first + done, first + done + block):
                yield self._tick(row)
            done += block

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
        clean = self._pumps.advance(row)
        values = clean + NOISE * random.standard_normal(clean.shape)
        self._contamination.apply(row, values)
        cells, outage = self._dropped()
        sent = ~cells & ~outage[:, None]
        delay = np.where(
            random.random(count) < _LATE, random.choice(_DELAYS[1:], count, p=[0.4, 0.3, 0.2, 0.1]), 0
        )
        twice = random.random(count) < _DUPLICATE
        garbage = random.random(count) < _GARBAGE
        rubbish = random.random(clean.shape) < _CORRUPT
        draws = random.integers(0, 2**31, (count, 2))
        needed = self._faults.apply(row, FleetRow(values, clean, sent, self._pumps.speed))
        delay[needed] = 0
        rubbish[needed] = False
        lines = [line for due in sorted(self._late) if due <= row for line in self._late.pop(due)]
        for a in range(count):
            if garbage[a]:
                lines.append((self._keys[a], _garbage(self.assets[a], int(draws[a, 0]))))
            if not sent[a].any():
                continue
            line = (self._keys[a], self._line(row, a, values[a], sent[a], rubbish[a], draws[a]))
            arrivals = [int(delay[a])] + ([int(delay[a]) + 1] if twice[a] else [])
            for ticks in arrivals:
                if ticks:
                    self._late.setdefault(row + ticks, []).append(line)
                else:
                    lines.append(line)
        return Tick((row + 1) * self._period_ns, lines)

    def _line(self, row: int, a: int, values: Floats, sent: Mask, rubbish: Mask, draws: Ints) -> bytes:
        cells: dict[str, object] = {
            name: round(value, decimals)
            for name, value, decimals, is_sent in zip(
                SENSORS, values.tolist(), _DECIMALS, sent.tolist(), strict=True
            )
            if is_sent
        }
        if rubbish.any():
            for c in np.flatnonzero(rubbish & sent):
                cells[SENSORS[c]] = _RUBBISH[int(draws[1]) % len(_RUBBISH)]
        time = instant(row * self._period_ns + int(self._pumps.phase_ns[a]))
        ts = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return msgspec.json.encode({"asset": self.assets[a], "ts": ts, "values": cells})


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
