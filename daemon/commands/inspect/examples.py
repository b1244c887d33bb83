"""A few records as they were extracted: each cell with its asset, time and value, and what is odd about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from daemon.assembly import as_received
from daemon.commands.inspect.inspection import CELLS_SHOWN, EXAMPLES, Cell, Example
from daemon.commands.inspect.mapped import MappedStream
from daemon.commands.reading_check import distinct
from daemon.domain import Record, StreamSpec, iso
from daemon.mapping import PLAIN, SensorRule
from daemon.stream.decoding import Decoder
from daemon.stream.extract import ExtractedCell
from daemon.stream.extract.numbers import NotANumberError, number_of
from daemon.stream.extract.sensor_values import SensorValues
from daemon.stream.extract.units import conversion
from daemon.stream.rejection import RejectedError, SkippedError


def examples_of(mapped: MappedStream, records: Sequence[Record]) -> list[Example]:
    """The first records that have cells; where none has, the first."""
    decoders = _decoders(mapped)
    known = rules_by_name(mapped.spec)
    read: list[Example] = []
    unread: list[Example] = []
    for record in records:
        if len(read) == EXAMPLES:
            break
        example = _example(decoders, record, known)
        if example.cells:
            read.append(example)
        elif len(unread) < EXAMPLES:
            unread.append(example)
    return read or unread


def _decoders(mapped: MappedStream) -> list[tuple[str, Decoder]]:
    """The decoder of the mapping, and one for each place of the time alone, to say which it was."""
    time = mapped.mapping.time
    alone = [(each.text, mapped.decoder(time=replace(time, sources=(each,)))) for each in time.sources]
    return [("", mapped.decoder()), *alone]


def rules_by_name(spec: StreamSpec) -> dict[str, tuple[str, SensorRule]]:
    """The stream's sensors with their rules, by what they are called in messages."""
    spec = as_received(spec)
    return {rule.source or name: (name, rule) for name, rule in zip(spec.sensors, spec.rules, strict=True)}


def _example(
    decoders: Sequence[tuple[str, Decoder]], record: Record, known: Mapping[str, tuple[str, SensorRule]]
) -> Example:
    (_, decoder), *alone = decoders
    try:
        cells, faults = decoder.survey(record)
    except RejectedError as error:
        return Example(record.offset, [], 0, f"refused: {error.reason.value}, {distinct(error.detail)}")
    except SkippedError as error:
        more = f", {error.detail}" if error.detail else ""
        return Example(record.offset, [], 0, f"skipped: {error.rule}{more}")
    places: dict[tuple[str, int, str], str] = {}
    for text, each in reversed(alone):
        try:
            some = each.survey(record)[0]
        except (RejectedError, SkippedError):
            continue
        places |= {(cell.asset, cell.time_ns, cell.sensor): text for cell in some}
    made = [
        Cell(
            cell.asset,
            iso(cell.time_ns),
            places.get((cell.asset, cell.time_ns, cell.sensor), ""),
            known[cell.sensor][0] if cell.sensor in known else cell.sensor,
            _shown(cell.value),
            _mark(cell, known.get(cell.sensor)),
        )
        for cell in cells[:CELLS_SHOWN]
    ]
    part = "in part refused" if made else "refused"
    became = "; ".join(f"{part}: {fault.reason.value}, {distinct(fault.detail)}" for fault in faults[:1])
    return Example(record.offset, made, len(cells) - len(made), became)


def _mark(cell: ExtractedCell, known: tuple[str, SensorRule] | None) -> str:
    """What the stream makes of a cell; empty where that is the plain number."""
    name, rule = known or (cell.sensor, PLAIN)
    marks = [] if known is not None else ["not listed"]
    if name != cell.sensor:
        marks.append(f"source {cell.sensor}")
    if not cell.trusted:
        return ", ".join([*marks, "missing: bad quality"])
    try:
        raw = number_of(cell.value, rule.states)
    except NotANumberError as error:
        return ", ".join([*marks, f"no number: {error.fault}"])
    linear = None
    if rule.unit is not None and type(cell.unit) is str and cell.unit:
        linear = conversion(cell.unit, rule.unit)
        if linear is None:
            return ", ".join([*marks, f"no number: unit {_shown(cell.unit)} is not {rule.unit}"])
    if linear not in (None, (1.0, 0.0)):
        raw = raw * linear[0] + linear[1]
        marks.append(f"from {cell.unit} to {rule.unit}: {raw:g}")
    number = SensorValues([rule]).apply_one(raw, 0)
    if number != number:
        marks.append("missing")
    elif type(cell.value) not in (int, float) or number != raw:
        marks.append(f"read as {number:g}")
    return ", ".join(marks)


def _shown(value: Any) -> str:
    """A value as JSON writes it, shortened."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
