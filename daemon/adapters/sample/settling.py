"""The stream that follows from the readings of a sample: period, window, and the settings of each sensor.

In: how the messages are read (a spec without times, and its ``Written``) and the ``Readings``. Out: ``Derived``. Every
number that is set has its reason, as a comment for the configuration; what an operator must know is a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from daemon.adapters.sample import facts
from daemon.adapters.sample.config_text import Written, flow, quoted, span
from daemon.adapters.sample.facts import Fact, Series
from daemon.adapters.sample.gathering import Readings
from daemon.adapters.sample.period import infer_period
from daemon.adapters.sample.survey import Survey
from daemon.config import MAX_OPEN_ROWS
from daemon.config.notation import LONGEST
from daemon.config.sections import SensorSection
from daemon.documents import counted, shown
from daemon.domain import SECOND_NS, StreamSpec, to_ns
from daemon.mapping import PLAIN
from daemon.stream.extract.numbers import FAULT_HINTS

WINDOW: Final = 16
"""Rows of a derived window, where the history is long enough."""
SHORTEST_WINDOW: Final = 4
WINDOWS_OF_HISTORY: Final = 10
"""A history must have this many windows, or the window is shortened."""
_DEFAULT_LATENESS_NS: Final = 10 * SECOND_NS
_DEFAULT_GAP_NS: Final = 300 * SECOND_NS
_GAP_PERIODS: Final = 20


@dataclass(frozen=True, eq=False)
class Derived:
    """A derived stream, what it says in the configuration's own words, and notes for the operator."""

    spec: StreamSpec
    notes: list[str]
    written: Written
    about_time: list[str] = field(default_factory=list)  # notes on period and window


def settle(
    spec: StreamSpec, readings: Readings, written: Written, *, whole: bool, found: Survey | None = None
) -> Derived:
    """The stream with its period, window and the settings of its sensors.

    Args:
        spec: name, sensors and how messages are read.
        readings: of the sample.
        written: the same in the configuration's words.
        whole: the sample is all that there is, so that the length of the history is known.
        found: of messages, what their cells were.
    """
    timed, about_time, why = _timed(spec, readings, whole)
    rows = facts.rows_of([np.sort(times) for times in readings.assets], timed.period_ns)
    by_sensor = {
        sensor: _facts(sensor, readings, (timed.period_ns, rows), found) for sensor in readings.sensors
    }
    for sensor, fact in facts.duplicates(readings.sensors, readings.columns).items():
        by_sensor[sensor].append(fact)
    settings = {
        sensor: {fact.key: fact.value for fact in all_of if fact.key and fact.certain}
        for sensor, all_of in by_sensor.items()
    }
    rules = tuple(SensorSection(**settings[sensor]).rule() for sensor in readings.sensors)
    spec = replace(
        timed,
        ranges=(None,) * len(readings.sensors),
        sensor_rules=rules if any(rule != PLAIN for rule in rules) else (),
    )
    written = replace(
        written,
        sensors=settings,
        why=dict(written.why) | why | {f"sensors.{s}": _words(all_of) for s, all_of in by_sensor.items()},
        proposed=[] if found is None else _texts_left_out(readings, found),
    )
    notes = (
        _sensor_notes(by_sensor)
        + _rest([readings.series[s] for s in readings.sensors])
        + ([] if found is None else _no_numbers(readings.sensors, found))
    )
    return Derived(spec, notes, written, about_time)


def _timed(spec: StreamSpec, readings: Readings, whole: bool) -> tuple[StreamSpec, list[str], dict[str, str]]:
    """The stream with the period and window of these times, notes on what was assumed, and the reasons."""
    notes: list[str] = []
    why: dict[str, str] = {}
    period = infer_period(readings.reporters)
    if period is None or _GAP_PERIODS * period > to_ns(LONGEST):
        far = "no asset has two different times" if period is None else "the times lie years apart"
        notes.append(f"{far}: a period of 1 s is assumed")
        period = SECOND_NS
    else:
        why["period"] = f"the grid; most readings come so far apart{_jitter(readings, period)}"
    rows = sorted((len(np.unique(each // period)) for each in readings.assets), reverse=True)
    sent = sum(len(np.unique(t)) for t in readings.reporters)
    shared = 1 - sum(len(np.unique(t // period)) for t in readings.reporters) / max(sent, 1)
    if shared > 0.05:
        notes.append(
            f"{100 * shared:.0f} % of the readings share a row of {span(period)} with another of the same asset"
            " (the first counts): they jitter across the grid, or come faster than that"
        )
    window = WINDOW
    if whole:
        enough = max(rows[0] // WINDOWS_OF_HISTORY, rows[1] // 2 if len(rows) > 1 else 0)
        window = max(min(WINDOW, enough), SHORTEST_WINDOW)
        if window < WINDOW:
            notes.append(
                f"only {counted(rows[0], 'row')} of one asset: windows of {window} rows, not {WINDOW}"
            )
            why["window"] = (
                f"rows that are scored together; of {counted(rows[0], 'row')} no more than a tenth"
            )
    long = max(_DEFAULT_GAP_NS, _GAP_PERIODS * period)
    timed = replace(
        spec,
        period_ns=period,
        window=window,
        allowed_lateness_ns=min(max(_DEFAULT_LATENESS_NS, period), MAX_OPEN_ROWS * period),
        max_gap_ns=long,
        silent_after_ns=long,
    )
    return timed, notes, why


def _jitter(readings: Readings, period: int) -> str:
    """How far the times lie off a regular clock, where it is worth a word."""
    off = []
    for times in readings.reporters:
        steps = np.diff(np.unique(times))
        near = np.rint(steps / period)
        off.append(np.abs(steps / period - near)[near >= 1])
    away = np.concatenate(off) if off else np.empty(0)
    if not len(away) or (typical := float(np.quantile(away, 0.9))) < 0.02:
        return ""
    return f", {100 * typical:.0f} % of it sooner or later"


def _facts(sensor: str, readings: Readings, grid: tuple[int, int], found: Survey | None) -> list[Fact]:
    """All that is to say of one sensor; ``grid``: the period, and the rows of all assets."""
    period, rows = grid
    series = readings.series[sensor]
    collected: list[Fact | None] = []
    if found is not None and sensor in found.kinds:
        collected += facts.kinds_seen(found.kinds[sensor], found.texts.get(sensor, {}))
        collected.append(facts.unit(found.units.get(sensor, {})))
    sentinel = facts.sentinels(series)
    collected.append(sentinel)
    if sentinel is not None and sentinel.certain:
        series = series.without(sentinel.value)
    rising = facts.counter(series)
    collected += [rising, facts.angle(series), facts.constant(series)]
    collected.append(facts.seldom(series, rows, period, gathered=readings.gathered))
    if readings.gathered:
        collected.append(facts.too_fast(series, period, rising=rising is not None))
    return [fact for fact in collected if fact is not None]


def _words(all_of: Sequence[Fact]) -> str:
    """The comment of a sensor: the reasons, proposals as what to write."""
    parts = [
        fact.why if fact.certain or not fact.key else f"{fact.why}: {{{fact.key}: {flow(fact.value)}}}?"
        for fact in all_of
    ]
    return "; ".join(parts)


def _sensor_notes(by_sensor: Mapping[str, Sequence[Fact]]) -> list[str]:
    """A note for each key that is written: replay without a configuration does the same."""
    return [
        f"sensor {shown(sensor)}: {fact.key}: {flow(fact.value)}, because {fact.why}"
        for sensor, all_of in by_sensor.items()
        for fact in all_of
        if fact.key not in ("", "unit") and fact.certain
    ]


def _rest(sensors: Sequence[Series]) -> list[str]:
    """A note on a machine that reads exactly 0 at rest."""
    names, rows = facts.resting(sensors)
    if not names:
        return []
    return [
        f"{', '.join(map(shown, names))} are exactly 0 in the same {counted(rows, 'row')}: a machine at rest? Then missing: [0] at"
        " each of them lets the model learn them at work alone, where it finds far smaller faults"
    ]


def _no_numbers(sensors: Sequence[str], found: Survey) -> list[str]:
    """A note for each sensor and fault of its cells, but for words, which are proposed as states."""
    return [
        f"sensor {shown(sensor)}: {counted(count, 'value')} {'is' if count == 1 else 'are'} no number,"
        f" as {found.examples[sensor, fault]}: {FAULT_HINTS[fault]}"
        for sensor in sensors
        for fault, count in sorted(found.faults.get(sensor, {}).items())
        if fault != "text"
    ]


def only_words(name: str, found: Survey) -> bool:
    """Whether the cells of a sensor that are no numbers are words."""
    return found.faults.get(name, {}).keys() == {"text"}


def _texts_left_out(readings: Readings, found: Survey) -> list[str]:
    """What is left out because it holds texts, as lines that take it in."""
    lines = []
    for name in readings.left_out:
        texts: Mapping[str, int] = found.texts.get(name, {}) if only_words(name, found) else {}
        if 1 < len(texts) <= facts.MANY_STATES:
            states: dict[str, Any] = {"states": facts.states_of(texts)}
            lines.append(
                f"{quoted(name)}: {flow(states)}  # a text of {len(texts)} states; without the # it is a sensor"
            )
        elif texts:
            lines.append(f"left out: {name}, with texts as {shown(next(iter(texts)))}")
    return lines[:40]
