"""What a sample of readings says about its stream: what ``init`` writes and ``replay`` assumes.

The hard part is the period. Real clocks jitter, readings are dropped, and times are rounded
to milliseconds, so neither the smallest nor the mean difference of successive times is it.
The most common one is, as long as most readings arrive: the densest tenth on the logarithmic
scale is found first; then every difference up to a few periods is divided by the whole number
of periods it must be, which lets jitter cancel out; and what lies within 1 % of a round period
is that period, unless the times are exact already.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from daemon.adapters.files import NO_TIME, Table, column_names, first_lines, is_lines, read_table
from daemon.config import MAX_OPEN_ROWS
from daemon.domain import (
    SECOND_NS,
    FieldNames,
    Format,
    Ints,
    Record,
    Rejected,
    StreamSpec,
)
from daemon.errors import InputError
from daemon.stream.decoding import Decoder

SAMPLE_LINES: Final = 5000
WINDOW: Final = 16
SHORTEST_WINDOW: Final = 4
WINDOWS_OF_HISTORY: Final = 10
"""A history must hold this many windows, or the window shrinks."""
SNAP: Final = 0.01

_MICROSECOND_NS: Final = 1_000
_DEFAULT_LATENESS_NS: Final = 10 * SECOND_NS
_DEFAULT_GAP_NS: Final = 300 * SECOND_NS
_ROUND_NS: Final = np.array(
    sorted(
        {
            *(m * 10**e for e in range(3, 9) for m in (1, 2, 3, 4, 5, 6, 8)),
            *(round(m * 10**e) for e in range(4, 9) for m in (1.2, 1.5, 2.5, 7.5)),
            *(s * SECOND_NS for s in (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30)),
            *(m * 60 * SECOND_NS for m in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)),
            *(h * 3600 * SECOND_NS for h in (1, 2, 3, 4, 6, 8, 12, 24, 168)),
        }
    ),
    np.int64,
)
_ASSET_FIELDS: Final = (
    "asset",
    "asset_id",
    "device",
    "device_id",
    "machine",
    "machine_id",
    "unit",
    "id",
    "source",
)
_TIME_FIELDS: Final = ("ts", "timestamp", "time", "datetime", "event_time", "date")
_VALUES_FIELDS: Final = ("values", "readings", "measurements", "sensors", "data", "fields", "metrics")
_SENSOR_FIELDS: Final = (
    "sensor",
    "sensor_id",
    "channel",
    "metric",
    "tag",
    "signal",
    "name",
    "parameter",
    "variable",
)
_VALUE_FIELDS: Final = ("value", "reading", "measurement", "val", "v")


def derive_spec(
    sample: Path | Table | Sequence[bytes],
    exclude: Sequence[str] = (),
    name: str = "stream",
    rows: int | None = None,
    *,
    decided: bool = False,
    conditions: Sequence[str] = (),
) -> tuple[StreamSpec, list[str]]:
    """The stream that a sample seems to come from.

    Sensors are a table's numeric columns in file order, or whatever held a number in the first
    5000 lines, by name. The window is 16 rows, or a tenth of the longest asset's rows if that
    is less (half of the second longest's, if that is more), but at least 4; of a JSON Lines
    file longer than the sample nothing is known about the length, so it is 16.

    Args:
        sample: a file, a table that was read already, or the lines of a JSON Lines file.
        exclude: columns (or sensors) to leave out.
        name: of the stream.
        rows: look at that many first rows of a table only.
        decided: a model says what the period and the window are: no notes about these.
        conditions: columns of a table that hold the fields of a condition, and no sensors.

    Returns:
        The stream, and notes for the operator on what was assumed.

    Raises:
        InputError: the file cannot be read, or nothing in it looks like a reading.
    """
    if isinstance(sample, Path):
        if is_lines(sample):
            lines, whole = first_lines(sample, SAMPLE_LINES)
            said = None if whole else f"derived from the first {len(lines)} lines"
            return _from_lines(lines, said, exclude, name, str(sample), decided)
        sample = read_table(sample, exclude, conditions)
    if isinstance(sample, Table):
        return _from_table(sample if rows is None else sample.head(rows), exclude, name, decided)
    return _from_lines(sample, None, exclude, name, "sample")


def derive_spec_of_topic(
    messages: Sequence[bytes], whole: bool, exclude: Sequence[str], name: str, topic: str
) -> tuple[StreamSpec, list[str]]:
    """The stream that a topic's newest messages seem to come from; ``whole``: it has no others.

    Raises:
        InputError: nothing in them looks like a reading.
    """
    said = None if whole else f"derived from the newest {len(messages)} messages"
    return _from_lines(messages, said, exclude, name, f"topic {topic!r}")


def latents_for(sensors: int) -> int:
    """Z of a derived configuration: a stream has no more nonlinear causes than sensors."""
    return min(8, max(2, sensors))


def names_in(path: Path) -> set[str]:
    """Whatever ``exclude`` may name in a file: a table's columns; of lines, the sensors of the first."""
    if not is_lines(path):
        return set(column_names(path))
    objects = [
        found for line in first_lines(path, SAMPLE_LINES)[0] if isinstance(found := _object(line), dict)
    ]
    keys = {key for found in objects for key in found}
    inner = {key for found in objects for value in found.values() if isinstance(value, dict) for key in value}
    texts = {
        value
        for found in objects
        for key, value in found.items()
        if isinstance(value, str) and key.lower() in _SENSOR_FIELDS
    }
    return keys | inner | texts


# ------------------------------------------------------------------ tables
def _from_table(
    table: Table, exclude: Sequence[str], name: str, decided: bool
) -> tuple[StreamSpec, list[str]]:
    notes = list(table.notes)
    usable = np.flatnonzero(table.usable)
    if not len(usable):
        raise InputError(f"{table.path}: no row has a usable time")
    if len(usable) < len(table):
        first = next(iter(table.refused.items()))
        notes.append(f"{len(table) - len(usable)} rows cannot be used; row {first[0]}: {first[1].detail}")
    sensors = tuple(sensor for sensor in table.sensors if sensor not in exclude)
    if not sensors:
        raise InputError(f"{table.path}: every numeric column is excluded")
    usable = usable[np.argsort(table.asset_codes[usable], kind="stable")]
    tracks = np.split(table.time_ns[usable], np.flatnonzero(np.diff(table.asset_codes[usable])) + 1)
    about_time: list[str] = []
    spec = _spec(name, sensors, tracks, tracks, True, Format.JSON_WIDE, FieldNames(), about_time)
    return spec, notes if decided else notes + about_time


# ------------------------------------------------------------------ JSON Lines
@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the sample's objects keep what."""

    format: Format
    fields: FieldNames
    sensors: tuple[str, ...]


def _from_lines(
    lines: Sequence[bytes],
    part: str | None,
    exclude: Sequence[str],
    name: str,
    where: str,
    decided: bool = False,
) -> tuple[StreamSpec, list[str]]:
    # ``part`` is a note that there is more than these lines, None if there is not.
    objects = [found for line in lines if isinstance(found := _object(line), dict)]
    if not objects:
        raise InputError(f"{where}: none of the first {len(lines)} lines is a JSON object")
    layout = _layout(objects, frozenset(exclude), where)
    # From here on the codec decides, as it will in the stream.
    decoder = Decoder(StreamSpec(name, layout.sensors, format=layout.format, fields=layout.fields))
    tracks: dict[tuple[str, int], list[int]] = {}
    rejected: Counter[str] = Counter()
    for offset, line in enumerate(lines):
        said = decoder.decode(Record(offset, None, line, -1))
        if isinstance(said, Rejected):
            if said.reason.value != "unknown_sensor":  # left out on purpose, or never a number
                rejected[said.reason.value] += 1
        else:
            tracks.setdefault((said.asset, said.sensor), []).append(said.time_ns)
    if not tracks:
        raise InputError(f"{where}: no line is a reading: {_counted(rejected)}")
    notes = []
    if part is not None:
        notes.append(part)
    if rejected:
        notes.append(f"{sum(rejected.values())} lines cannot be used: {_counted(rejected)}")
    assets: dict[str, list[int]] = {}
    for (asset, _), times in tracks.items():
        assets.setdefault(asset, []).extend(times)
    about_time: list[str] = []
    spec = _spec(
        name,
        layout.sensors,
        [np.array(times, np.int64) for times in tracks.values()],
        [np.array(times, np.int64) for times in assets.values()],
        part is None,
        layout.format,
        layout.fields,
        about_time,
    )
    return spec, notes if decided else notes + about_time


def _object(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))


def _layout(objects: Sequence[dict[str, Any]], exclude: frozenset[str], where: str) -> _Layout:
    """Which fields hold what, by name first and by what is in them second."""
    count = Counter(key for found in objects for key in found)
    common = [key for key, times in count.items() if 2 * times > len(objects)]

    def named(candidates: Sequence[str]) -> str | None:
        lowered = {key.lower(): key for key in reversed(common)}
        return next((lowered[each] for each in candidates if each in lowered), None)

    def mostly(key: str, kind: type) -> bool:
        present = [found[key] for found in objects if found.get(key) is not None]
        return 2 * sum(isinstance(value, kind) for value in present) > len(present)

    shown = ", ".join(common[:12]) or "nothing in common"
    time, asset = named(_TIME_FIELDS), named(_ASSET_FIELDS)
    if time is None:
        raise InputError(f"{where}: no field for the time ({', '.join(_TIME_FIELDS)}); found: {shown}")
    if asset is None:
        raise InputError(f"{where}: no field for the asset ({', '.join(_ASSET_FIELDS)}); found: {shown}")
    objects_in = [key for key in common if mostly(key, dict) and _numbers(objects, key)]
    by_name = named(_VALUES_FIELDS)
    values = by_name if by_name in objects_in else next(iter(objects_in), None)
    if values is not None:
        sensors = _numbers(objects, values) - exclude
        fields = FieldNames(asset=asset, timestamp=time, values=values)
        layout = _Layout(Format.JSON_WIDE, fields, tuple(sorted(sensors)))
    else:
        sensor, value = named(_SENSOR_FIELDS), named(_VALUE_FIELDS)
        if sensor is None or value is None:
            raise InputError(
                f"{where}: neither wide (an object of numbers in a field) nor long"
                f" (a sensor and a value field); found: {shown}"
            )
        fields = FieldNames(asset=asset, timestamp=time, sensor=sensor, value=value)
        found = {
            str(each[sensor])
            for each in objects
            if _is_number(each.get(value)) and _is_name(each.get(sensor))
        }
        layout = _Layout(Format.JSON_LONG, fields, tuple(sorted(found - exclude)))
    if not layout.sensors:
        raise InputError(f"{where}: no sensor ever has a number")
    return layout


def _numbers(objects: Iterable[dict[str, Any]], key: str) -> set[str]:
    """The names in an object field that held a number at least once."""
    found: set[str] = set()
    for each in objects:
        cells = each.get(key)
        if isinstance(cells, dict):
            found.update(name for name, value in cells.items() if name not in found and _is_number(value))
    return found


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _is_name(value: object) -> bool:
    return (isinstance(value, str) and value != "") or type(value) is int


# ------------------------------------------------------------------ the stream
def _spec(
    name: str,
    sensors: tuple[str, ...],
    tracks: Sequence[Ints],
    assets: Sequence[Ints],
    whole: bool,
    layout: Format,
    fields: FieldNames,
    notes: list[str],
) -> StreamSpec:
    """The stream of these times: per reporter (``tracks``) for the period, per asset for the rows."""
    period = infer_period(tracks)
    if period is None:
        notes.append("no asset has two different times: a period of 1 s is assumed")
        period = SECOND_NS
    rows = sorted((len(np.unique(times // period)) for times in assets), reverse=True)
    shared = 1 - sum(len(np.unique(t // period)) for t in tracks) / max(
        sum(len(np.unique(t)) for t in tracks), 1
    )
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
            notes.append(f"only {rows[0]} rows of one asset: windows of {window} rows, not {WINDOW}")
    long = max(_DEFAULT_GAP_NS, 20 * period)
    return StreamSpec(
        name=name,
        sensors=sensors,
        period_ns=period,
        window=window,
        allowed_lateness_ns=min(max(_DEFAULT_LATENESS_NS, period), MAX_OPEN_ROWS * period),
        max_gap_ns=long,
        silent_after_ns=long,
        format=layout,
        fields=fields,
        ranges=(None,) * len(sensors),
    )


def infer_period(tracks: Sequence[Ints]) -> int | None:
    """The period of these times in nanoseconds, a whole number of microseconds.

    Args:
        tracks: the event times (ns) of each reporter, in any order, repeated or not.

    Returns:
        None if no reporter has two different times.
    """
    steps = np.concatenate(
        [np.diff(np.unique(times[times != NO_TIME])) for times in tracks] or [np.empty(0, np.int64)]
    )
    if not len(steps):
        return None
    typical = _densest(steps)
    exact, often = max(Counter(steps.tolist()).items(), key=lambda item: (item[1], -item[0]))
    near = abs(exact / typical - 1) < 0.05
    if near and exact % _MICROSECOND_NS == 0 and np.mean(steps % exact == 0) > 0.99:
        return int(exact)  # a clock without jitter: nothing is better than what it says
    # Sum of differences over sum of periods: jitter cancels where successive ones are both in.
    periods = np.rint(steps / typical)
    fits = (periods >= 1) & (periods <= 5) & (np.abs(steps / typical - periods) < 0.3)
    refined = float(steps[fits].sum() / periods[fits].sum()) if fits.any() else typical
    nearest = int(_ROUND_NS[np.argmin(np.abs(np.log(_ROUND_NS / refined)))])
    if abs(nearest / refined - 1) <= SNAP:
        return nearest
    if 2 * often > len(steps) and abs(refined / exact - 1) < 1e-3:  # else rounding: 33, 33, 34 ms
        refined = exact
    return max(round(refined / _MICROSECOND_NS), 1) * _MICROSECOND_NS


def _densest(steps: Ints) -> float:
    """The middle of the tenth (from x to 1.1 x) that most differences lie in."""
    ordered = np.sort(steps).astype(float)
    within = np.searchsorted(ordered, ordered * 1.1, side="right") - np.arange(len(ordered))
    start = int(np.argmax(within))
    middle = float(np.median(ordered[start : start + within[start]]))
    around = ordered[(ordered > 0.7 * middle) & (ordered < 1.3 * middle)]
    return float(np.median(around))


# ------------------------------------------------------------------ config.yaml
_SPANS: Final = (("d", 86_400 * SECOND_NS), ("h", 3600 * SECOND_NS), ("m", 60 * SECOND_NS), ("s", SECOND_NS))
_SMALL_SPANS: Final = (("ms", 10**6), ("us", 10**3))


def span(ns: int) -> str:
    """A duration as the configuration writes it: ``500ms``, ``10s``, ``5m``, ``1h``, ``7d``."""
    for unit, size in (*_SPANS, *_SMALL_SPANS):
        if ns and ns % size == 0:
            return f"{ns // size}{unit}"
    return "0s" if not ns else f"{max(round(ns / 1_000), 1)}us"


def quoted(text: str) -> str:
    """A YAML scalar that reads back as exactly this text."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_. -]*[A-Za-z0-9_]|[A-Za-z]", text) and yaml.safe_load(text) == text:
        return text
    return str(yaml.safe_dump(text, default_style='"', width=10**9, allow_unicode=True)).rstrip("\n")


def config_yaml(
    spec: StreamSpec,
    topic: str | None = None,
    notes: Sequence[str] = (),
    bootstrap_servers: str = "localhost:9092",
    allow_plaintext: bool = False,
) -> str:
    """A config.yaml for the stream, with every key of a stream and a comment on each.

    Args:
        spec: what ``derive_spec`` found; its topics are used where ``topic`` is None.
        topic: the input topic.
        notes: written on top as comments.
        bootstrap_servers: where the topic is.
        allow_plaintext: that it was reached with this permission.
    """
    topics = [topic] if topic is not None else list(spec.topics) or [f"sensors.{spec.name}"]
    fields = ", ".join(f"{key}: {quoted(getattr(spec.fields, key))}" for key in FieldNames.__slots__)
    sensors = [
        f"      {quoted(name)}: {{{f'range: [{bounds[0]!r}, {bounds[1]!r}]' if bounds else ''}}}"
        for name, bounds in zip(spec.sensors, spec.ranges or (None,) * len(spec.sensors), strict=True)
    ]
    said = [
        ("period", span(spec.period_ns), "the grid; an event time is floored to it"),
        ("window", spec.window, "rows that are scored together"),
        ("hop", spec.hop, "score every hop-th row"),
        (
            "allowed_lateness",
            span(spec.allowed_lateness_ns),
            "how long a row waits for readings out of order",
        ),
        ("max_gap", span(spec.max_gap_ns), "a longer gap starts the windows afresh"),
        ("silent_after", span(spec.silent_after_ns), "then a sensor or asset is declared silent"),
        ("condition", f"[{', '.join(map(quoted, spec.condition))}]", "fields that name the operating mode"),
    ]
    comments = [f"# Note: {' '.join(note.split())}" for note in notes]
    return "\n".join(
        [
            "# Derived from a sample of readings; look through it before you rely on it.",
            "# Every key but `streams` has a default and may be left out; see the documented example.",
            *comments,
            "",
            "kafka:",
            f"  {f'bootstrap_servers: {quoted(bootstrap_servers)}':<35} # or ANOMALYD_KAFKA__BOOTSTRAP_SERVERS",
            *(["  allow_plaintext: true               # unencrypted, beyond this machine"] * allow_plaintext),
            "  group_id: anomalyd                  # the consumer group",
            "  # A name of this process's own in the group. Killed and started again under it, the process has its",
            "  # partitions back at once; without one, the group first waits 45 s for the dead member. Two processes",
            "  # that live at once must not share it: give each its own, or write null.",
            "  instance_id: $hostname              # this machine's name; any other may stand here",
            "",
            "streams:                              # assets of one kind: the same sensors, period and model",
            f"  - name: {quoted(spec.name)}",
            f"    topics: [{', '.join(map(quoted, topics))}]",
            f"    format: {spec.format.value}                 # json-wide or json-long",
            f"    fields: {{{fields}}}",
            "    sensors:                          # {range: [low, high]} where you know a sensor's range",
            *sensors,
            *(f"    {f'{key}: {value}':<33} # {meaning}" for key, value, meaning in said),
            "",
            "model:",
            f"  latent: {latents_for(len(spec.sensors))}                           # min(8, max(2, sensors)): no more nonlinear causes than sensors",
            "",
            "calibration:",
            "  budget: 1 per day                   # false episodes per asset that you accept",
            "",
        ]
    )
