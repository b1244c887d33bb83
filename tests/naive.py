"""Slow and simple versions of fast code: the oracles that tests compare it with."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from daemon.alarm import Alarm, State
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    Disposition,
    Floats,
    Format,
    Ints,
    Mask,
    Reading,
    StreamSpec,
)
from daemon.mapping import Reduce
from daemon.model.sustained import SensorStatistics
from daemon.stream.extract.numbers import NotANumberError, number_of


def conditional_mean(
    covariance: Callable[[tuple[int, int], tuple[int, int]], float],
    known: Sequence[tuple[int, int]],
    values: Sequence[float],
    wanted: tuple[int, int],
) -> float:
    """E[wanted | known = values] of a zero-mean Gaussian, from its covariance function."""
    among = np.array([[covariance(a, b) for b in known] for a in known])
    towards = np.array([covariance(a, wanted) for a in known])
    return float(towards @ np.linalg.inv(among) @ np.array(values))


def conditional_covariance(
    covariance: Callable[[tuple[int, int], tuple[int, int]], float],
    known: Sequence[tuple[int, int]],
    wanted: Sequence[tuple[int, int]],
) -> Floats:
    """Cov[wanted | known] of a Gaussian, from its covariance function."""
    among = np.array([[covariance(a, b) for b in known] for a in known])
    towards = np.array([[covariance(a, b) for b in wanted] for a in known])
    whole = np.array([[covariance(a, b) for b in wanted] for a in wanted])
    return np.asarray(whole - towards.T @ np.linalg.inv(among) @ towards)


def ppca_fill(x: Floats, gaps: Mask, mean: Floats, basis: Floats, variance: Floats, noise: float) -> Floats:
    """Fill the gaps of one window by conditioning the full pPCA covariance."""
    d = len(x)
    U = basis.astype(float)
    cov = U @ np.diag(variance.astype(float)) @ U.T + noise * (np.eye(d) - U @ U.T)
    o, filled = ~gaps, x.astype(float).copy()
    gain = cov[np.ix_(gaps, o)] @ np.linalg.inv(cov[np.ix_(o, o)])
    filled[gaps] = mean[gaps] + gain @ (x[o] - mean[o])
    return filled


def slow_baseline(excess: Floats, state: Floats, slots: list[int], step: float) -> Floats:
    """The slow baseline, window by window, cell by cell."""
    before = np.zeros_like(excess)
    for i, slot in enumerate(slots):
        for p in range(excess.shape[1]):
            before[i, p] = state[slot, p]
            if not math.isnan(excess[i, p]):
                pull = max(-1.0, min(1.0, (excess[i, p] - state[slot, p]) / 2.0))
                state[slot, p] = max(state[slot, p] + step * pull, 0.0)
    return before


def replayed_episodes(series: list[Floats], threshold: float, closing: float, policy: AlarmPolicy) -> int:
    """Episodes that the alarm machine opens over separate series, step by step."""
    opened = 0
    for one in series:
        alarm = Alarm()
        for score in one:
            if math.isnan(score):
                continue
            was = alarm.state
            opened += (
                alarm.step(float(score), threshold, closing, policy) is State.FIRING
                and was is not State.FIRING
            )
    return opened


def gridded(
    rows: Sequence[tuple[str, int | None, dict[str, float | None]]], sensors: Sequence[str], max_gap: int
) -> list[tuple[str, int, list[list[float]]]]:
    """Rows (asset, grid row, values) as segments (asset, first row, values), row by row."""
    grids: dict[str, dict[int, list[float]]] = {}
    for asset, row, values in rows:
        if row is None:
            continue
        cells = grids.setdefault(asset, {}).setdefault(row, [math.nan] * len(sensors))
        for c, name in enumerate(sensors):
            value = values.get(name)
            if value is not None and math.isnan(cells[c]):
                cells[c] = value
    assets = list(dict.fromkeys(asset for asset, _, _ in rows))
    found: list[tuple[str, int, list[list[float]]]] = []
    for asset in assets:
        grid = grids.get(asset, {})
        last: int | None = None
        for row in sorted(grid):
            if last is None or row - last > max_gap:
                found.append((asset, row, []))
            else:
                found[-1][2].extend([math.nan] * len(sensors) for _ in range(row - last - 1))
            found[-1][2].append(grid[row])
            last = row
    return found


def one_of_several(rule: Reduce, values: list[tuple[int, float]]) -> float:
    """One number of the values (event time, value) of one cell, in the order of arrival."""
    numbers = [value for _, value in values]
    match rule:
        case Reduce.FIRST:
            return numbers[0]
        case Reduce.LAST:
            newest = max(time for time, _ in values)
            return [value for time, value in values if time == newest][-1]
        case Reduce.MEAN:
            total = 0.0
            for number in numbers:
                total += number
            return total / len(numbers)
        case Reduce.MAX:
            return max(numbers)
        case Reduce.MIN:
            return min(numbers)


def assembled_rows(
    readings: Sequence[tuple[str, int, int, float]], spec: StreamSpec
) -> list[tuple[str, int, list[list[float]]]]:
    """Readings (asset, event time, sensor, value) as the rows that a model is given: (asset, first row, values).

    Every row of an asset is looked at by itself, and asks the rows before it for what it needs. ``spec`` is of the
    sensors as they are received, with the rule of each.
    """
    period, max_gap = spec.period_ns, spec.max_gap_ns // spec.period_ns
    cells: dict[str, dict[int, dict[int, list[tuple[int, float]]]]] = {}
    for asset, time_ns, sensor, value in readings:
        row = cells.setdefault(asset, {}).setdefault(time_ns // period, {})
        row.setdefault(sensor, []).append((time_ns, value))
    found: list[tuple[str, int, list[list[float]]]] = []
    for asset, rows in cells.items():
        came = {
            row: {c: one_of_several(spec.rules[c].reduce, v) for c, v in mine.items()}
            for row, mine in rows.items()
        }

        def level(c: int, row: int, came: dict[int, dict[int, float]] = came) -> float:
            """What the sensor says of a row: its value, or its rate."""
            now = came.get(row, {}).get(c, math.nan)
            if not spec.rules[c].counter or math.isnan(now):
                return now
            earlier = [r for r in came if r < row and c in came[r]]
            if not earlier or row - max(earlier) > max_gap or now < came[max(earlier)][c]:
                return math.nan
            return (now - came[max(earlier)][c]) / ((row - max(earlier)) * (period / SECOND_NS))

        last: int | None = None
        for row in sorted(rows):
            begins = last is None or row - last > max_gap
            if begins:
                found.append((asset, row, []))
            for at in [row] if begins or last is None else range(last + 1, row + 1):
                values: list[float] = []
                for c, rule in enumerate(spec.rules):
                    value = level(c, at)
                    if math.isnan(value) and rule.hold_ns:
                        known = [r for r in came if r < at and not math.isnan(level(c, r))]
                        if known and (at - max(known)) * period <= rule.hold_ns:
                            value = level(c, max(known))
                    if rule.angle is None:
                        values.append(value)
                    else:
                        turns = value / rule.angle
                        turned = (
                            2.0 * math.pi * (turns - (math.nan if math.isnan(turns) else math.floor(turns)))
                        )
                        values += [math.cos(turned), math.sin(turned)]
                found[-1][2].append(values)
            last = row
    return found


# ------------------------------------------------------------------ event time
@dataclass
class SpokenRow:
    """A row that has a reading: its cells by sensor, None where the reading was null."""

    offset: int
    cells: dict[int, float | None] = field(default_factory=dict)
    condition: str = ""


@dataclass
class AssetRows:
    """One asset's rows by DESIGN section 3: all readings are kept, and every result is computed from all of them."""

    spec: StreamSpec
    accepted_ns: list[int] = field(default_factory=list)
    watermark_ns: int = 0
    spoken: dict[int, SpokenRow] = field(default_factory=dict)  # never forgotten
    released: list[tuple[int, bool]] = field(default_factory=list)  # (row, whether it is empty)
    silent: set[int] = field(default_factory=set)

    def offer(self, reading: Reading) -> Disposition:
        """The disposition of one reading; an accepted one is kept."""
        time_ns = reading.time_ns
        if self.accepted_ns and time_ns < self.watermark_ns:
            return Disposition.LATE
        row = time_ns // self.spec.period_ns
        if reading.values is not None:
            cells = {c: None if math.isnan(v) else v for c, v in enumerate(reading.values)}
        else:
            cells = {reading.sensor: None if math.isnan(reading.value) else reading.value}
            if cells[reading.sensor] is not None:
                self.silent.discard(reading.sensor)
        disposition = self._write(row, cells, reading)
        if disposition is Disposition.ACCEPTED:
            self.accepted_ns.append(time_ns)
            self.watermark_ns = max(self.watermark_ns, max(self.accepted_ns) - self.spec.allowed_lateness_ns)
        return disposition

    def _write(self, row: int, cells: dict[int, float | None], reading: Reading) -> Disposition:
        gone = any(row == r for r, _ in self.released)
        known = self.spoken.get(row)
        if known is not None and set(cells) <= set(known.cells):
            if all(known.cells[c] == value for c, value in cells.items()):
                return Disposition.DUPLICATE
            may_fill = reading.values is None and not gone and known.cells[reading.sensor] is None
            if not may_fill:
                return Disposition.ACCEPTED  # a contradiction: the first value stands
        elif gone:
            return Disposition.LATE
        known = self.spoken.setdefault(row, SpokenRow(reading.offset))
        known.cells.update(cells)
        known.condition = reading.condition or known.condition
        return Disposition.ACCEPTED

    def _passed(self, row: int) -> bool:
        return self.watermark_ns >= (row + 1) * self.spec.period_ns

    def _settled(self, row: int) -> bool:
        if self.spec.format is Format.JSON_WIDE:
            return True
        wanted = set(range(len(self.spec.sensors))) - self.silent
        return wanted <= set(self.spoken[row].cells) or self._passed(row)

    def release(self) -> list[tuple[int, list[float], bool, bool, int, str]]:
        """Rows that are released by now: (row, values, empty, fresh, offset, condition)."""
        max_gap = self.spec.max_gap_ns // self.spec.period_ns
        out = []
        while True:
            done = [row for row, empty in self.released if not empty]
            waiting = sorted(set(self.spoken) - set(done))
            if not waiting:
                return out
            row, last = waiting[0], done[-1] if done else None
            fresh = last is None or row - last > max_gap
            here = row if fresh else self.released[-1][0] + 1
            if fresh and self.watermark_ns < row * self.spec.period_ns:
                return out  # an earlier row may be in flight
            values = [math.nan] * len(self.spec.sensors)
            if here < row:
                if not self._passed(here):
                    return out
            elif not self._settled(row):
                return out
            else:
                for c, value in self.spoken[row].cells.items():
                    values[c] = math.nan if value is None else value
            self.released.append((here, here < row))
            labels = [self.spoken[r].condition for r in [*done, here] if r in self.spoken]
            condition = next((label for label in reversed(labels) if label), "")
            out.append((here, values, here < row, fresh, self.spoken[row].offset, condition))
            if here == row:
                self._silence(row)

    def _silence(self, row: int) -> None:
        """Sensors without a value for ``silent_after``, at a released row that has a reading."""
        if self.spec.format is Format.JSON_WIDE:
            return
        done = [r for r, empty in self.released if not empty]
        max_gap = self.spec.max_gap_ns // self.spec.period_ns
        began = max(r for i, r in enumerate(done) if i == 0 or r - done[i - 1] > max_gap)
        for c in range(len(self.spec.sensors)):
            seen = [r for r in done if self.spoken[r].cells.get(c) is not None]
            if seen and seen[-1] == row:
                self.silent.discard(c)
            elif row - max([began, *seen]) >= max(self.spec.silent_after_ns // self.spec.period_ns, 1):
                self.silent.add(c)

    def elapse(self, idle_ns: int) -> None:
        """An idle log: the watermark moves, at most to the end of the last row with a reading."""
        if set(self.spoken) - {row for row, _ in self.released}:
            end = (max(self.spoken) + 1) * self.spec.period_ns
            moved = max(self.accepted_ns) - self.spec.allowed_lateness_ns + idle_ns
            self.watermark_ns = max(self.watermark_ns, min(end, moved))


def silhouette(points: Floats, of: Ints) -> float:
    """Mean of (b - a) / max(a, b), point by point (Rousseeuw 1987); 0 for a point alone in its cluster."""
    each = []
    for i, point in enumerate(points):
        away = {
            int(k): [
                float(np.linalg.norm(point - points[j])) for j in range(len(points)) if of[j] == k and j != i
            ]
            for k in set(of.tolist())
        }
        own = away.pop(int(of[i]))
        if not own:
            each.append(0.0)
            continue
        a, b = float(np.mean(own)), min(float(np.mean(other)) for other in away.values())
        each.append((b - a) / max(a, b, 1e-12))
    return float(np.mean(each))


def mutual_information(a: Ints, b: Ints) -> float:
    """H(a) + H(b) - H(a, b), in nats."""

    def entropy(values: list[object]) -> float:
        counts = np.array([values.count(v) for v in set(values)]) / len(values)
        return float(-(counts * np.log(counts)).sum())

    one, other = a.tolist(), b.tolist()
    return entropy(one) + entropy(other) - entropy(list(zip(one, other, strict=True)))


# ------------------------------------------------------------------ accounts
@dataclass
class CountedCells:
    """What became of the cells of a stream's readings, cell by cell; a fault in place of a number is a text."""

    spec: StreamSpec
    states: Counter[str] = field(default_factory=Counter)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    rows: dict[str, AssetRows] = field(default_factory=dict)

    def whole(self, asset: str, time_ns: int, given: dict[str, float | str | None]) -> Disposition:
        """A record that is a whole row: one cell per sensor of the stream."""
        found = [given.get(sensor) for sensor in self.spec.sensors]
        values = [math.nan if cell is None or isinstance(cell, str) else cell for cell in found]
        rows = self.rows.setdefault(asset, AssetRows(self.spec))
        row = time_ns // self.spec.period_ns
        before = row in rows.spoken
        disposition = rows.offer(Reading(0, asset, time_ns, values))
        for sensor, cell in zip(self.spec.sensors, found, strict=True):
            if disposition is not Disposition.ACCEPTED:
                self.states[str(disposition)] += 1
            else:
                self._count(sensor, cell, "conflict" if before else "observed")
        rows.release()
        return disposition

    def part(self, asset: str, time_ns: int, given: list[tuple[str, float | str | None]]) -> Disposition:
        """A record's cells of one asset and time, in order; a sensor may come again, the last number counts."""
        of_sensor: dict[str, list[float | str | None]] = {}
        for sensor, cell in given:
            of_sensor.setdefault(sensor, []).append(cell)
        rows = self.rows.setdefault(asset, AssetRows(self.spec))
        row, found = time_ns // self.spec.period_ns, set()
        too_late = bool(rows.accepted_ns) and time_ns < rows.watermark_ns
        for c, sensor in enumerate(self.spec.sensors):
            if sensor not in of_sensor:
                continue
            cells = of_sensor[sensor]
            numbers = [i for i, cell in enumerate(cells) if isinstance(cell, float)]
            last = numbers[-1] if numbers else 0
            for i, cell in enumerate(cells):
                if i == last:
                    continue
                if isinstance(cell, float):
                    following = next(cells[n] for n in numbers if n > i)
                    self.states["duplicate" if following == cell else "conflict"] += 1
                else:
                    self._count(sensor, cell, "")
            cell = cells[last]
            number = cell if isinstance(cell, float) else math.nan
            if too_late:
                self.states["late"] += 1
                found.add(Disposition.LATE)
                continue
            disposition = rows.offer(Reading(0, asset, time_ns, sensor=c, value=number))
            found.add(disposition)
            if disposition is not Disposition.ACCEPTED:
                self.states[str(disposition)] += 1
            else:
                self._count(sensor, cell, "observed" if rows.spoken[row].cells[c] == number else "conflict")
        rows.release()
        by_rank = (Disposition.ACCEPTED, Disposition.LATE, Disposition.DUPLICATE)
        return next(disposition for disposition in by_rank if disposition in found)

    def _count(self, sensor: str, cell: float | str | None, of_number: str) -> None:
        if isinstance(cell, str):
            self.states["corrupt"] += 1
            self.faults[sensor, cell] += 1
        else:
            self.states["missing" if cell is None else of_number] += 1


# ------------------------------------------------------------------ the smallest repair
def masked_score(score: Callable[[Floats], float], window: Floats, sensors: Sequence[int]) -> float:
    """The score of one window (L, C) without some sensors, by itself; infinite if no observed cell is left."""
    masked = window.copy()
    for c in sensors:
        masked[:, c] = math.nan
    found = score(masked)
    return math.inf if math.isnan(found) else found


def fewest_sensors(
    score: Callable[[Floats], float], window: Floats, blame: Floats, level: float, most: int
) -> tuple[int, ...] | None:
    """The most blamed of the smallest sets without which a window scores at most ``level``, by trying all."""
    for size in range(most + 1):
        enough = [
            sensors
            for sensors in itertools.combinations(range(window.shape[1]), size)
            if masked_score(score, window, sensors) <= level
        ]
        if enough:
            return max(enough, key=lambda sensors: float(sum(blame[c] for c in sensors)))
    return None


# ------------------------------------------------------------------ likeness of series
def ks_distance(a: Sequence[float], b: Sequence[float]) -> float:
    """The largest distance of two empirical distribution functions, by looking at every value."""
    return max(abs(sum(x <= v for x in a) / len(a) - sum(x <= v for x in b) / len(b)) for v in [*a, *b])


def pooled_autocorrelation(stretches: Sequence[Sequence[float]], lag: int) -> float:
    """Mean product at a lag about the mean of all values, over the variance of all; NaN values left out."""
    every = [v for rows in stretches for v in rows if not math.isnan(v)]
    mean = sum(every) / len(every)
    variance = sum((v - mean) ** 2 for v in every) / len(every)
    products = [
        (rows[t] - mean) * (rows[t + lag] - mean)
        for rows in stretches
        for t in range(len(rows) - lag)
        if not math.isnan(rows[t]) and not math.isnan(rows[t + lag])
    ]
    return sum(products) / len(products) / variance


def nearest_window(window: Floats, known: Sequence[Floats]) -> float:
    """RMS distance to the nearest of some windows, one by one."""
    return min(math.sqrt(float(((window - other) ** 2).mean())) for other in known)


# ------------------------------------------------------------------ extraction
def merged_readings(
    cells: Sequence[tuple[str, int, str, Any, bool, Any]], sensors: Sequence[str], latest_ns: int
) -> dict[tuple[str, int], dict[str, float]]:
    """Asset and time -> sensor -> value, NaN where missing, from the cells of a message in their order.

    Args:
        cells: asset, time, sensor, value as the message has it, whether its quality is not bad, and its unit.
        sensors: those of the stream; cells of others are left out.
        latest_ns: cells after this time, or before 1970, are refused.
    """
    found: dict[tuple[str, int], dict[str, float]] = {}
    for asset, time_ns, sensor, value, trusted, _ in cells:
        if sensor not in sensors or not 0 <= time_ns <= latest_ns:
            continue
        try:
            number = number_of(value) if trusted else math.nan
        except NotANumberError:
            number = math.nan
        values = found.setdefault((asset, time_ns), {})
        if sensor not in values or not math.isnan(number):  # the last number counts
            values[sensor] = number
    return found


def table_accounts(
    lines: Sequence[tuple[str | None, int | None, Mapping[str, str]]],
    sensors: Sequence[str],
    period: int,
    *,
    long: bool,
    several: Sequence[str] = (),
) -> tuple[Counter[str], Counter[str], Counter[tuple[str, str]]]:
    """What becomes of the lines of a table, of their cells, and of the corrupt cells of each sensor, line by line.

    Args:
        lines: asset, time and cells by name; None where an asset or a time cannot be read. Of a ``long`` table a
            line has one cell.
        sensors: those of the stream.
        period: of the stream's grid.
        several: sensors of which a row may have several values.
    """
    records: Counter[str] = Counter()
    cells: Counter[str] = Counter()
    corrupt: Counter[tuple[str, str]] = Counter()
    known: dict[tuple[str, int], dict[str, list[str]]] = {}

    def number(text: str) -> bool:
        return text not in ("", "ERR")

    for asset, time, named in lines:
        if asset is None or time is None:
            records["rejected"] += 1
            continue
        cells["unknown"] += sum(name not in sensors and (long or number(named[name])) for name in named)
        if long and not set(named) & set(sensors):
            records["rejected"] += 1
            continue
        place = asset, time // period
        first_line, row = place not in known, known.setdefault(place, {})
        states: dict[str, str] = {}
        for name in sensors:
            if name not in named:
                if not long:
                    states[name] = "missing"
                continue
            text, before = named[name], row.setdefault(name, [])
            there = [other for other in before if number(other)]
            if number(text) and (name in several or not there):
                states[name] = "observed"
            elif number(text):
                states[name] = "duplicate" if there[0] == text else "conflict"
            elif long and before and not there and name not in several:
                states[name] = "duplicate"
            else:
                states[name] = "corrupt" if text == "ERR" else "missing"
            before.append(text)
        if long:
            says_nothing = states == dict.fromkeys(states, "duplicate")
        else:
            says_nothing = not first_line and not {"observed", "conflict"} & set(states.values())
        if says_nothing:
            states = dict.fromkeys(states, "duplicate")
        records["duplicate" if says_nothing else "accepted"] += 1
        cells.update(states.values())
        corrupt.update((name, "text") for name, state in states.items() if state == "corrupt")
    return +records, +cells, +corrupt


def online_thresholds(
    rows: Sequence[tuple[float, bool]], threshold: float, closing: float, policy: AlarmPolicy, per_row: float
) -> list[tuple[float, bool]]:
    """Each scored row's threshold, and whether an episode fires at it, with the online correction.

    Args:
        rows: of one asset: the score, and whether it is under maintenance.
        threshold: of the model.
        closing: of the model.
        policy: of the alarm; an episode closes at its ``hysteresis``.
        per_row: episodes that the budget allows in the time of one row.
    """
    alarm, share, found = Alarm(), 1.0, []
    for score, maintained in rows:
        mine = share * threshold
        before = alarm.state
        if not maintained:
            alarm.step(score, mine, min(policy.hysteresis * mine, closing), policy)
        going_on = State.FIRING, State.RECOVERING
        if before in going_on and alarm.state not in going_on:
            share = min(share * math.exp(0.1), 1.0)
        elif alarm.state not in going_on and not maintained:
            share = max(share * math.exp(-0.1 * per_row), 0.75)
        found.append((mine, alarm.state is State.FIRING))
    return found


def sustained(residual: Floats, statistics: SensorStatistics) -> tuple[Floats, Floats]:
    """(T, C) shift and spread of one asset, as the docstring of ``daemon.model.sustained`` says it."""
    rows, sensors = residual.shape
    shift, spread = np.empty((2, rows, sensors))
    for c in range(sensors):
        level = width = mean = pull = widening = 0.0
        size = 0.8
        for t in range(rows):
            if residual[t, c] == residual[t, c]:
                u = min(max((residual[t, c] - statistics.centre[c]) / statistics.scale[c], -6.0), 6.0)
                w = (u - level) * math.exp(-width)
                mean += statistics.weight * (w - mean)
                size += statistics.weight * (abs(w) - size)
                pull += min(max((u - level) / 2.0, -1.0), 1.0)
                excess = math.log(abs(u - level) + 0.1) - math.log(0.77) - width
                widening += min(max(excess / 2.0, -1.0), 1.0)
            if t % 16 == 15:
                level += statistics.step * pull
                width = max(width + statistics.step / 2.0 * widening, 0.0)
                pull = widening = 0.0
            shift[t, c], spread[t, c] = abs(mean), size
    return shift, spread


def silence_due(usual: Mask, longest_ns: int, any_hour_ns: int, begin_ns: int, patience_ns: int) -> int:
    """From which minute on a silence is unusual; all times are whole minutes."""
    minute_ns, slot_ns = 60 * SECOND_NS, 900 * SECOND_NS
    now, outside, far = begin_ns, 0, 0
    while True:
        lasted = now - begin_ns
        too_long = lasted >= max(longest_ns + 8 * slot_ns, any_hour_ns)
        odd = outside >= patience_ns and far and lasted >= any_hour_ns
        if lasted >= patience_ns and (too_long or odd):
            return now
        slot = now // slot_ns
        outside += 0 if usual[slot % len(usual)] else minute_ns
        far += not any(usual[(slot + by) % len(usual)] for by in range(-4, 5))
        now += minute_ns


def usual_hours(
    present: Sequence[tuple[str, int]], silent: Sequence[tuple[str, int, int]], share: float
) -> set[int]:
    """The quarters of the week that are silent on this share of the occasions, on two days, in silences of two days.

    Args:
        present, silent: (asset, quarter since the beginning of some week) of all occasions, and of the silent ones;
            these with the day on which the silence began.
        share: of the occasions.
    """
    found = set()
    for cycle in (96, 7 * 96):
        occasions, gone, days, own = Counter[int](), Counter[int](), set(), set()
        for _, quarter in present:
            occasions[quarter % cycle] += 1
            own.add(quarter)
        for _, quarter in {(asset, quarter) for asset, quarter, _ in silent}:
            gone[quarter % cycle] += 1
            days.add(quarter)
        for slot in range(7 * 96):
            several = len([day for day in days if day % cycle == slot % cycle]) >= 2
            begun = {day for _, quarter, day in silent if quarter % cycle == slot % cycle}
            if several and len(begun) >= 2 and gone[slot % cycle] >= share * occasions[slot % cycle]:
                found.add(slot)
    for slot in range(7 * 96):  # of its own weekday; the cycle is that of a week here
        if not gone[slot] and len([day for day in own if day % cycle == slot]) >= 2:
            found.discard(slot)
    return found


class AssetIntervals:
    """The drift of one asset, window by window: sums that fade from one interval with enough windows to the next.

    ``ended`` has, of every interval with enough windows, its number and the means and variances of everything that was
    added up, the latents' first.
    """

    def __init__(self, hop_ns: int, interval_ns: int, memory: float) -> None:
        self.hop_ns, self.interval_ns, self.memory = hop_ns, interval_ns, memory
        self.number: int | None = None
        self.windows = 0
        self.sums: list[list[float]] | None = None  # per number its weight, sum and sum of squares
        self.ended: list[tuple[int, list[float], list[float]]] = []

    def add(self, time_ns: int, numbers: list[list[float]], explained: bool) -> None:
        """A window: its latents, residuals and readings."""
        number = time_ns // self.interval_ns
        if self.number is not None and self.number != number:
            self._end()
        self.number = number
        if not explained:
            self.windows += 1
            flat = [
                (x, not math.isnan(seen))
                for of, row in enumerate(numbers)
                for x, seen in zip(row, row if of == 0 else numbers[1], strict=True)
            ]
            if self.sums is None:
                self.sums = [[0.0, 0.0, 0.0] for _ in flat]
            for each, (x, seen) in zip(self.sums, flat, strict=True):
                if seen:
                    x = min(max(x, -10.0), 10.0)
                    each[0], each[1], each[2] = each[0] + 1.0, each[1] + x, each[2] + x * x
        if (time_ns + self.hop_ns) // self.interval_ns > number:
            self._end()

    def _end(self) -> None:
        assert self.number is not None
        if self.sums is not None and self.windows >= max(32, math.ceil(self.interval_ns / self.hop_ns / 2)):
            mean = [total / max(n, 1.0) for n, total, _ in self.sums]
            spread = [
                squares / max(n, 1.0) - m * m for (n, _, squares), m in zip(self.sums, mean, strict=True)
            ]
            self.ended.append((self.number, mean, spread))
            self.sums = [[self.memory * x for x in each] for each in self.sums]
        self.number, self.windows = None, 0
