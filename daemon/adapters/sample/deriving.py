"""The stream that a sample of readings seems to come from: what ``init`` writes and ``replay`` assumes.

A sample is a table, a JSON Lines file, or messages of a topic. ``layout`` finds where JSON objects have their
fields, ``period`` the sampling period; the window, lateness and gaps follow from these. From the layout on the
decoder decides which lines are readings, as it will in the stream. Each assumption is a note for the operator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from daemon.adapters.files import Table, column_names, first_lines, is_lines, read_table
from daemon.adapters.sample.config_text import span
from daemon.adapters.sample.layout import SENSOR_FIELDS, Layout, find_layout, json_object
from daemon.adapters.sample.period import infer_period
from daemon.config import MAX_OPEN_ROWS
from daemon.domain import SECOND_NS, FieldNames, Format, Ints, Record, Rejected, StreamSpec
from daemon.errors import InputError
from daemon.stream.decoding import Decoder

SAMPLE_LINES: Final = 5000
"""Lines of a JSON Lines file that are looked at."""
WINDOW: Final = 16
"""Rows of a derived window, where the history is long enough."""
SHORTEST_WINDOW: Final = 4
WINDOWS_OF_HISTORY: Final = 10
"""A history must have this many windows, or the window is shortened."""
_DEFAULT_LATENESS_NS: Final = 10 * SECOND_NS
_DEFAULT_GAP_NS: Final = 300 * SECOND_NS


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
        decided: period and window are given by a model: no notes about these.
        conditions: columns of a table that hold the fields of a condition, and no sensors.

    Returns:
        The stream, and notes for the operator on what was assumed.

    Raises:
        InputError: the file cannot be read, or nothing in it looks like a reading.
    """
    if isinstance(sample, Path):
        if is_lines(sample):
            lines, whole = first_lines(sample, SAMPLE_LINES)
            part = None if whole else f"derived from the first {len(lines)} lines"
            return _from_lines(lines, part, exclude, name, str(sample), decided)
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
    part = None if whole else f"derived from the newest {len(messages)} messages"
    return _from_lines(messages, part, exclude, name, f"topic {topic!r}")


def names_in(path: Path) -> set[str]:
    """All that ``exclude`` may name in a file: a table's columns, or the sensors in the first lines."""
    if not is_lines(path):
        return set(column_names(path))
    objects = [
        found for line in first_lines(path, SAMPLE_LINES)[0] if isinstance(found := json_object(line), dict)
    ]
    keys = {key for found in objects for key in found}
    inner = {key for found in objects for value in found.values() if isinstance(value, dict) for key in value}
    texts = {
        value
        for found in objects
        for key, value in found.items()
        if isinstance(value, str) and key.lower() in SENSOR_FIELDS
    }
    return keys | inner | texts


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
    layout = Layout(Format.JSON_WIDE, FieldNames(), sensors)
    spec, about_time = _spec(name, layout, _Times(tracks, tracks, whole=True))
    return spec, notes if decided else notes + about_time


def _from_lines(
    lines: Sequence[bytes],
    part: str | None,
    exclude: Sequence[str],
    name: str,
    where: str,
    decided: bool = False,
) -> tuple[StreamSpec, list[str]]:
    # ``part`` is the note that there are more lines than these; None if there are not.
    objects = [found for line in lines if isinstance(found := json_object(line), dict)]
    if not objects:
        raise InputError(f"{where}: none of the first {len(lines)} lines is a JSON object")
    layout = find_layout(objects, frozenset(exclude), where)
    # From here on the decoder decides, as it will in the stream.
    decoder = Decoder(StreamSpec(name, layout.sensors, format=layout.format, fields=layout.fields))
    tracks: dict[tuple[str, int], list[int]] = {}
    rejected: Counter[str] = Counter()
    for offset, line in enumerate(lines):
        found = decoder.decode(Record(offset, None, line, -1))
        if isinstance(found, Rejected):
            if found.reason.value != "unknown_sensor":  # left out on purpose, or never a number
                rejected[found.reason.value] += 1
        else:
            tracks.setdefault((found.asset, found.sensor), []).append(found.time_ns)
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
    sample = _Times(
        [np.array(times, np.int64) for times in tracks.values()],
        [np.array(times, np.int64) for times in assets.values()],
        whole=part is None,
    )
    spec, about_time = _spec(name, layout, sample)
    return spec, notes if decided else notes + about_time


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))


@dataclass(frozen=True, slots=True, eq=False)
class _Times:
    """The event times of a sample, in nanoseconds, in any order."""

    reporters: Sequence[Ints]  # per asset, or per asset and sensor: whatever sends at one period
    assets: Sequence[Ints]
    whole: bool  # whether the sample is all that there is, so that the length of the history is known


def _spec(name: str, layout: Layout, times: _Times) -> tuple[StreamSpec, list[str]]:
    """The stream of these times, and notes on what was assumed about period and window."""
    notes: list[str] = []
    period = infer_period(times.reporters)
    if period is None:
        notes.append("no asset has two different times: a period of 1 s is assumed")
        period = SECOND_NS
    rows = sorted((len(np.unique(each // period)) for each in times.assets), reverse=True)
    shared = 1 - sum(len(np.unique(t // period)) for t in times.reporters) / max(
        sum(len(np.unique(t)) for t in times.reporters), 1
    )
    if shared > 0.05:
        notes.append(
            f"{100 * shared:.0f} % of the readings share a row of {span(period)} with another of the same asset"
            " (the first counts): they jitter across the grid, or come faster than that"
        )
    window = WINDOW
    if times.whole:
        enough = max(rows[0] // WINDOWS_OF_HISTORY, rows[1] // 2 if len(rows) > 1 else 0)
        window = max(min(WINDOW, enough), SHORTEST_WINDOW)
        if window < WINDOW:
            notes.append(f"only {rows[0]} rows of one asset: windows of {window} rows, not {WINDOW}")
    long = max(_DEFAULT_GAP_NS, 20 * period)
    spec = StreamSpec(
        name=name,
        sensors=layout.sensors,
        period_ns=period,
        window=window,
        allowed_lateness_ns=min(max(_DEFAULT_LATENESS_NS, period), MAX_OPEN_ROWS * period),
        max_gap_ns=long,
        silent_after_ns=long,
        format=layout.format,
        fields=layout.fields,
        ranges=(None,) * len(layout.sensors),
    )
    return spec, notes
