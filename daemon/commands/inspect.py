"""``anomalyd inspect``: the mapping at work on a sample of messages, or the roles of a table's columns.

In: a file or a topic, with a configuration, with a preset, or with neither (then the mapping is derived as ``init``
does). Out: an ``Inspection``: which mapping it is and why, what was extracted of a few records, what became of all,
and of each refusal the reason, the path, an example and the nearest preset. Nothing is written.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from daemon.adapters.files import Table, TableReading, column_names, first_lines, is_lines, read_table
from daemon.adapters.sample import (
    SAMPLE_LINES,
    Candidate,
    Decoding,
    Survey,
    derive,
    derive_of_topic,
    survey,
    survey_with,
    trees_by,
)
from daemon.assembly import as_received, merges
from daemon.commands.broker import kafka_only, registry_sets, with_servers
from daemon.commands.inputs import check_reading, chosen_stream, table_of
from daemon.commands.reading_check import NoNumbers, distinct, no_numbers, read_records, schemas_of
from daemon.commands.samples import check_topic, decoding_of, exists, newest_of_topic
from daemon.commands.table_accounting import counts_of_table
from daemon.config import Settings, load
from daemon.config.presets import CUSTOM
from daemon.domain import Disposition, FieldNames, Format, Record, StreamSpec, iso
from daemon.errors import ConfigError, UsageError
from daemon.mapping import PLAIN, InputMapping, SensorRule, Source
from daemon.stream.accounts import CellState
from daemon.stream.decode import MessageSchemas
from daemon.stream.decoding import Decoder
from daemon.stream.extract import ExtractedCell
from daemon.stream.extract.numbers import NotANumberError, number_of
from daemon.stream.extract.quality import compile_verdict, is_known_word, last_name
from daemon.stream.extract.sensor_values import SensorValues
from daemon.stream.extract.units import conversion
from daemon.stream.rejection import RejectedError, SkippedError

EXAMPLES: Final = 5
CELLS_SHOWN: Final = 40
"""Values of a record that are shown."""
_EXAMPLE_BYTES: Final = 160
_QUALITIES_READ: Final = 500
_WORDS_SHOWN: Final = 8
_GOOD_WORDS_SHOWN: Final = 32
_WORD_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """What ``inspect`` is given."""

    sample: str  # a file, or where there is none of that name, a topic
    config: Path | None = None
    sets: Sequence[str] = ()
    stream: str | None = None
    format: str | None = None  # a preset, in place of a configuration
    bootstrap_servers: str | None = None
    schema_registry: str | None = None  # its address; comes before the one of ``config``
    reading: TableReading = field(default_factory=TableReading)  # how a table is read


@dataclass(frozen=True, slots=True)
class Cell:
    """One value as it was extracted."""

    asset: str
    time: str  # ISO 8601
    time_from: str  # the place of the mapping that it came from
    sensor: str
    value: str
    mark: str  # why it is missing, or what is odd about it; empty for a plain number


@dataclass(frozen=True, slots=True)
class Example:
    """One record: its cells, or why it has none."""

    offset: int
    cells: list[Cell]
    more: int  # cells that are not shown
    became: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """A kind of refusal."""

    reason: str
    count: int
    detail: str
    example: str
    nearest: str | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that is to be said of a sample; ``columns`` has the roles of a table's columns, else messages were read."""

    source: str
    mapping: str
    keys: Mapping[str, str]  # of the mapping, as texts
    reasons: Mapping[str, str]
    totals: Mapping[str, Any]
    examples: list[Example] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    no_numbers: list[NoNumbers] = field(default_factory=list)
    columns: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether anything is read."""
        return bool(self.totals["readings"])

    def document(self) -> dict[str, Any]:
        """The same as one JSON document."""
        return {
            "source": self.source,
            "mapping": self.mapping,
            "keys": dict(self.keys),
            "reasons": dict(self.reasons),
            "totals": dict(self.totals),
            "examples": [
                {
                    "offset": example.offset,
                    "became": example.became,
                    "more": example.more,
                    "cells": [
                        {name: getattr(cell, name) for name in Cell.__slots__} for cell in example.cells
                    ],
                }
                for example in self.examples
            ],
            "rejects": [{name: getattr(each, name) for name in Reject.__slots__} for each in self.rejects],
            "no_numbers": [
                {name: getattr(each, name) for name in NoNumbers.__slots__} for each in self.no_numbers
            ],
            "columns": dict(self.columns),
            "notes": list(self.notes),
        }


def inspect_sample(options: InspectOptions) -> Inspection:
    """Look at the sample; an event loop is run only for a topic, and for schemas that messages name.

    Raises:
        UsageError: a configuration and a preset were given.
        DaemonError: the sample cannot be read, or the configuration is wrong.
    """
    if options.config is not None and options.format is not None:
        raise UsageError(
            "--config and --format exclude each other: the configuration says how messages are read"
        )
    path = Path(options.sample)
    if exists(path):
        check_reading(options.reading, path)
        if not is_lines(path):
            return _of_table(path, options)
        lines, whole = first_lines(path, SAMPLE_LINES)
        records = [Record(offset, None, line, -1) for offset, line in enumerate(lines)]
        return _of_records(records, whole, options, None)
    check_topic(options.sample, options.bootstrap_servers)
    if options.config is None:
        settings = kafka_only(None, options.bootstrap_servers, options.schema_registry)
    else:
        settings = with_servers(_settings(options), options.bootstrap_servers)
    records, whole = asyncio.run(newest_of_topic(settings, options.sample))
    decoding = None
    if options.config is None and options.format is None:
        address = settings.schema_registry.address()
        decoding = asyncio.run(decoding_of(records, options.sample, address))
    return _of_records(records, whole, options, options.sample, decoding)


def _settings(options: InspectOptions) -> Settings:
    """The configuration that is given."""
    return load(options.config, [*options.sets, *registry_sets(options.schema_registry)])


# ------------------------------------------------------------------ messages
@dataclass(frozen=True, slots=True, eq=False)
class _Mapped:
    """The mapping that is looked at, and the stream that reads by it."""

    candidate: Candidate
    spec: StreamSpec
    notes: list[str]
    whose: str
    schemas: MessageSchemas | None = None  # that the messages name

    @property
    def mapping(self) -> InputMapping:
        """With whom to ask for schemas, where the configuration says it."""
        return self.candidate.mapping if self.spec.input is None else self.spec.input

    def decoder(self, **changes: Any) -> Decoder:
        """A decoder for surveys, with other keys of the mapping; the schemas need not be fetched for it."""
        spec = StreamSpec(
            "sample",
            ("sensor",),
            format=Format.MAPPED,
            input=replace(self.mapping, **changes),
            timezone=self.spec.timezone,
        )
        return Decoder(spec, schemas=self.schemas)


def _of_records(
    records: Sequence[Record],
    whole: bool,
    options: InspectOptions,
    topic: str | None,
    decoding: Decoding | None = None,
) -> Inspection:
    mapped = _mapped(records, whole, options, topic, decoding)
    if options.reading.timezone is not None:
        mapped = replace(mapped, spec=replace(mapped.spec, timezone=options.reading.timezone))
    schemas = None if mapped.spec.input is None else asyncio.run(schemas_of(mapped.spec, records))
    mapped = replace(mapped, schemas=schemas)
    found = survey_with(mapped.decoder(), mapped.candidate, records)
    became = read_records(mapped.spec, records, schemas)
    known = _rules(mapped.spec)
    unknown = set(found.sensors) - known.keys()
    listed = np.array([name in known for name in found.sensors], bool)
    of_stream = listed[found.sensor] if len(found.sensors) else np.zeros(0, bool)
    corrupt = sum(each.count for each in became.corrupt)
    totals = {
        "records": became.read,
        "accepted": became.accepted,
        "refused": {each.reason: each.count for each in became.worst},
        "skipped": dict(sorted(became.skipped.items())),
        "readings": became.numbers,
        "without_value": max(int(of_stream.sum()) - became.numbers - corrupt, 0),
        "no_number": corrupt + int(found.corrupt[~of_stream].sum()),
        "bad_quality": found.untrusted,
        **_words_of_quality(mapped, records if found.untrusted else ()),
        "assets": len(found.assets),
        "sensors": len(mapped.spec.sensors),
        "unknown_sensors": sorted(unknown)[:50],
        "never_seen": became.unseen[:50] if became.accepted else [],
        "contradicting": became.contradicting,
    }
    rejects = [
        Reject(each.reason, each.count, each.detail, _shortened(each.examples[0].value), became.nearest(each))
        for each in became.worst
    ]
    rejects += [
        Reject(
            f"{reason.value} (part)",
            refusal.count,
            distinct(refusal.detail),
            _shortened(refusal.example),
            None,
        )
        for reason, refusal in sorted(found.refused.items())
        if reason.value not in became.refused
    ]
    return Inspection(
        options.sample if topic is None else f"topic {topic}",
        mapped.whose,
        _keys(mapped.candidate),
        mapped.candidate.reasons,
        totals,
        _examples(mapped, records),
        rejects,
        became.corrupt,
        notes=[*mapped.notes, *_row_notes(mapped, found)],
    )


def _row_notes(mapped: _Mapped, found: Survey) -> list[str]:
    """What is lost where each message is taken for a whole row."""
    if merges(mapped.spec) or not found.split_rows:
        return []
    return [
        "rows come in several messages, of which only the first counts: input: {rows: gather} puts them together"
    ]


def _mapped(
    records: Sequence[Record],
    whole: bool,
    options: InspectOptions,
    topic: str | None,
    decoding: Decoding | None,
) -> _Mapped:
    """The mapping of the configuration, of the preset, or one that is derived."""
    if options.config is not None:
        settings = _settings(options)
        stream = chosen_stream(settings, options.stream)
        spec = stream.spec(settings.schema_registry.address())
        candidate = Candidate(stream.format, {}, FieldNames(**stream.fields.model_dump()))
        if stream.mapping is not None:
            candidate = Candidate(stream.mapping.preset, stream.input or {})
        return _Mapped(candidate, spec, [], f"{_named(candidate)}, of stream {stream.name}")
    if options.format is not None:
        return _preset(options.format, records)
    derived = (
        derive([record.value for record in records], name="stream")
        if topic is None
        else derive_of_topic(records, whole, (), "stream", topic, decoding)
    )
    written = derived.written
    typed = written.input is None and derived.spec.input is None
    reasons = {
        key.removeprefix("input."): why for key, why in written.why.items() if key.startswith("input.")
    }
    candidate = Candidate(
        written.format, written.input or {}, derived.spec.fields if typed else None, reasons
    )
    return _Mapped(candidate, derived.spec, derived.notes, f"{_named(candidate)}, derived from the sample")


def _preset(name: str, records: Sequence[Record]) -> _Mapped:
    """A preset as it is, with whatever sensors it finds."""
    typed = name in (Format.JSON_WIDE, Format.JSON_LONG)
    candidate = Candidate(name, {}, FieldNames() if typed else None)
    try:
        found = survey(candidate, records)
    except ValueError as error:
        raise ConfigError(f"--format: {error}") from error
    spec = StreamSpec("stream", tuple(sorted(found.sensors)) or ("sensor",))
    spec = (
        replace(spec, format=Format(name))
        if typed
        else replace(spec, format=Format.MAPPED, input=candidate.mapping)
    )
    return _Mapped(candidate, spec, [], f"{_named(candidate)}, as --format says")


def _named(candidate: Candidate) -> str:
    if candidate.format == CUSTOM:
        return "a mapping of its own"
    return f"format {candidate.format}" + (" with keys over it" if candidate.input else "")


def _keys(candidate: Candidate) -> dict[str, str]:
    """Where the mapping looks, as texts."""
    mapping = candidate.mapping
    keys = {
        "each": ", ".join(path.text for path in mapping.each),
        "asset": ", ".join(map(_place, mapping.asset)),
        "time": ", ".join(map(_place, mapping.time.sources)),
        "sensor": ", ".join(map(_place, mapping.sensor)),
        "value": ", ".join(path.text for path in mapping.value),
        "fields": ", ".join(mapping.fields),
        "leaves": "" if mapping.leaves is None else f"every number below {_texts(mapping.leaves.under)}",
        "quality": "" if mapping.quality is None else ", ".join(s.text for s in mapping.quality.sources),
        "skip": ", ".join(rule.name for rule in mapping.skip),
        "rows": mapping.assembly.value,
    }
    return {key: text for key, text in keys.items() if text}


def _place(source: Source) -> str:
    """A source as a text, with the expression that cuts it."""
    return source.text if source.match is None else f"{source.text} by {source.match.pattern}"


def _texts(found: Any) -> str:
    """The text of a path, or of several."""
    return ", ".join(path.text for path in found) if isinstance(found, tuple) else str(found.text)


def _examples(mapped: _Mapped, records: Sequence[Record]) -> list[Example]:
    """The first records that have cells; where none has, the first."""
    decoders = _decoders(mapped)
    known = _rules(mapped.spec)
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


def _decoders(mapped: _Mapped) -> list[tuple[str, Decoder]]:
    """The decoder of the mapping, and one for each place of the time alone, to say which it was."""
    time = mapped.mapping.time
    alone = [(each.text, mapped.decoder(time=replace(time, sources=(each,)))) for each in time.sources]
    return [("", mapped.decoder()), *alone]


def _words_of_quality(mapped: _Mapped, records: Sequence[Record]) -> dict[str, Any]:
    """Words of quality that nobody knows, with how many values are bad for them, and the good ones beside them."""
    rule = mapped.mapping.quality
    if rule is None or rule.good or rule.bad:  # the mapping lists its own
        return {"unknown_quality": {}, "good_quality": []}
    names = {name for source in rule.sources if (name := last_name(source))}
    words: Counter[str | int] = Counter()
    for _, tree in trees_by(mapped.mapping.decode, records[:_QUALITIES_READ], mapped.schemas):
        words.update(_texts_at(tree, names))
    texts = [word for word, _ in words.most_common() if isinstance(word, str)]
    unknown = [word for word in texts[:_WORDS_SHOWN] if not is_known_word(word)]
    is_good = compile_verdict(rule)

    def good(word: str) -> int:
        decoder = mapped.decoder(quality=replace(rule, good=frozenset({word})))
        found = survey_with(decoder, mapped.candidate, records)
        return len(found.numbers) - found.untrusted

    stated = good("") if unknown else 0  # values without a quality
    return {
        "unknown_quality": {word: count for word in unknown if (count := good(word) - stated) > 0},
        "good_quality": [word for word, _ in words.most_common() if is_good(word)][:_GOOD_WORDS_SHOWN],
    }


def _texts_at(tree: Any, names: set[str]) -> Iterator[str | int]:
    """The texts and whole numbers of fields of these names, anywhere in a tree."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            if name in names and isinstance(value, str) and value.strip():
                yield value.strip()[:_WORD_LENGTH]
            elif name in names and isinstance(value, int):
                yield value
            elif isinstance(value, Mapping | list):
                yield from _texts_at(value, names)
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts_at(value, names)


def _rules(spec: StreamSpec) -> dict[str, tuple[str, SensorRule]]:
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


def _shortened(value: bytes) -> str:
    text = value[: _EXAMPLE_BYTES + 1].decode(errors="replace")
    text = ascii(text)[1:-1]
    return text if len(text) <= _EXAMPLE_BYTES else text[:_EXAMPLE_BYTES] + " ..."


# ------------------------------------------------------------------ tables
def _of_table(path: Path, options: InspectOptions) -> Inspection:
    if options.format is not None:
        raise UsageError("--format is for messages: the columns of a table are found by their names")
    if options.config is not None:
        spec = chosen_stream(_settings(options), options.stream).spec()
        wanted: frozenset[str] | None = frozenset(as_received(spec).sensors)
        table = table_of(path, spec, (), options.reading)
        notes = list(table.notes)
    else:
        wanted = None
        table = read_table(path, reading=options.reading)
        derived = derive(table)
        spec, notes = derived.spec, derived.notes
    counts = counts_of_table(table, spec)
    columns = {name: _role(name, table, wanted) for name in column_names(path)}
    rejects = [_reject_of_table(table, reason, count) for reason, count in sorted(counts.reasons.items())]
    totals = {
        "records": counts.records.total(),
        "accepted": counts.records[Disposition.ACCEPTED],
        "duplicate": counts.records[Disposition.DUPLICATE],
        "refused": dict(sorted(counts.reasons.items())),
        "skipped": dict(sorted(counts.skipped.items())),
        "readings": counts.cells[CellState.OBSERVED],
        "without_value": counts.cells[CellState.MISSING],
        "no_number": counts.cells[CellState.CORRUPT],
        "contradicting": counts.cells[CellState.CONFLICT],
        "assets": len(table.asset_names),
        "unknown_quality": dict(Counter(table.unknown_quality).most_common(_WORDS_SHOWN)),
        "good_quality": list(table.good_quality),
        "sensors": len(table.sensors if wanted is None else wanted.intersection(table.sensors)),
        "unknown_sensors": [] if wanted is None else sorted(set(table.sensors) - wanted)[:50],
        "never_seen": [] if wanted is None else sorted(wanted - _with_numbers(table))[:50],
    }
    return Inspection(
        str(path),
        "the columns of a table, by their names"
        + (" and the options" if options.reading.names_columns else ""),
        {},
        {},
        totals,
        _table_examples(table),
        rejects,
        no_numbers({key: len(rows) for key, rows in table.faulty.items()}),
        columns,
        notes,
    )


def _with_numbers(table: Table) -> set[str]:
    """The sensors that have a number in some usable row."""
    filled = np.asarray(np.isfinite(table.values[table.usable]).any(axis=0), bool)
    return {name for name, found in zip(table.sensors, filled, strict=True) if found}


def _reject_of_table(table: Table, reason: str, count: int) -> Reject:
    """A kind of refusal, with the first row of the file that it is about."""
    first = next((row for row, why in table.refused.items() if why.reason.value == reason), None)
    if first is None:  # the rows are fine; it is their sensors that the stream does not list
        return Reject(reason, count, "sensors that the stream does not list", "", None)
    return Reject(reason, count, table.refused[first].detail, f"row {table.line_of(first)}", None)


def _role(name: str, table: Table, wanted: frozenset[str] | None) -> str:
    """What a column is, as the table was read."""
    roles = table.roles
    if name in roles.quality:
        about = roles.quality[name]
        return "quality" if about is None else f"quality of {about}"
    if name in table.conditions:
        return "condition"
    known = {roles.asset: "asset", roles.sensor: "names of sensors", roles.value: "values of sensors"}
    if name in roles.time or name in known:
        return "time" if name in roles.time else known[name]
    sensor = table.reading.sensor_of(name)
    if roles.sensor is None and sensor in table.sensors:
        return "sensor" if wanted is None or sensor in wanted else "number, but no sensor of the stream"
    return "left out"


def _table_examples(table: Table) -> list[Example]:
    examples = []
    for row in np.flatnonzero(table.usable)[:EXAMPLES]:
        cells = [
            Cell(
                str(table.assets[row]),
                iso(int(table.time_ns[row])),
                "",
                sensor,
                "" if np.isnan(value) else f"{value:g}",
                "missing" if np.isnan(value) else "",
            )
            for sensor, value in zip(table.sensors, table.values[row], strict=True)
        ]
        examples.append(Example(int(row), cells[:CELLS_SHOWN], max(len(cells) - CELLS_SHOWN, 0)))
    return examples
