"""The stream that a sample of readings seems to come from: what ``init`` writes and ``replay`` assumes.

A sample is a table, a JSON Lines file, or records of a topic. ``choosing`` finds how messages are read, ``gathering``
has the readings of both kinds, and ``settling`` makes the stream of them. Each assumption is a comment in the
configuration, and what an operator must know is a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Final

import numpy as np

from daemon.adapters.field_names import Role, named
from daemon.adapters.files import Table, column_names, first_lines, is_lines, read_table
from daemon.adapters.files.roles import listed
from daemon.adapters.sample.choosing import TRIED, choose, in_blocks, places_used, trees_of
from daemon.adapters.sample.config_text import Written
from daemon.adapters.sample.encodings import Decoding
from daemon.adapters.sample.gathering import Readings, of_survey, of_table
from daemon.adapters.sample.measurements import other_asset, told_apart
from daemon.adapters.sample.places import items_of
from daemon.adapters.sample.settling import Derived, only_words, settle
from daemon.adapters.sample.survey import Candidate, Survey, survey
from daemon.documents import counted, shown
from daemon.domain import FieldNames, Format, Record, StreamSpec
from daemon.errors import InputError
from daemon.mapping import Assembly

SAMPLE_LINES: Final = 5000
"""Lines of a JSON Lines file that are looked at."""


_LATER: Final = "sensors, assets and odd values that come later are not known"
_BEFORE: Final = "sensors, assets and odd values that came before are not known"


def derive(
    sample: Path | Table | Sequence[bytes],
    exclude: Sequence[str] = (),
    name: str = "stream",
    rows: int | None = None,
    *,
    decided: bool = False,
    conditions: Sequence[str] = (),
) -> Derived:
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
        decided: period, window and the rules of sensors are given by a model: no notes about these.
        conditions: columns of a table that hold the fields of a condition, and no sensors.

    Raises:
        InputError: the file cannot be read, or nothing in it looks like a reading.
    """
    if isinstance(sample, Path):
        if is_lines(sample):
            lines, whole = first_lines(sample, SAMPLE_LINES)
            part = (
                None if whole else f"derived from the first {counted(len(lines), 'line')} of more: {_LATER}"
            )
            return _from_records(_records(lines), exclude, name, _Sample(str(sample), part, decided=decided))
        sample = read_table(sample, exclude, conditions)
    if isinstance(sample, Table):
        return _from_table(sample, exclude, name, decided, rows)
    return _from_records(_records(sample), exclude, name, _Sample("sample"))


def derive_spec(
    sample: Path | Table | Sequence[bytes],
    exclude: Sequence[str] = (),
    name: str = "stream",
    rows: int | None = None,
) -> tuple[StreamSpec, list[str]]:
    """The stream and the notes of ``derive``."""
    derived = derive(sample, exclude, name, rows)
    return derived.spec, derived.notes


def derive_of_topic(
    records: Sequence[Record],
    whole: bool,
    exclude: Sequence[str],
    name: str,
    topic: str,
    decoding: Decoding | None = None,
) -> Derived:
    """The stream that a topic's newest records seem to come from.

    Args:
        records: the sample.
        whole: the topic has no others.
        exclude: sensors to leave out.
        name: of the stream.
        topic: their own.
        decoding: how they are decoded; None: as they look.

    Raises:
        InputError: nothing in them looks like a reading.
    """
    part = None if whole else f"derived from the newest {counted(len(records), 'message')} of more: {_BEFORE}"
    return _from_records(
        records, exclude, name, _Sample(f"topic {topic!r}", part, "message", decoding=decoding)
    )


def _records(lines: Sequence[bytes]) -> list[Record]:
    return [Record(offset, None, line, -1) for offset, line in enumerate(lines)]


def names_in(path: Path) -> set[str]:
    """All that ``exclude`` may name in a file: a table's columns, or fields and sensors in the first lines."""
    if not is_lines(path):
        return set(column_names(path))
    records = _records(first_lines(path, SAMPLE_LINES)[0])
    pairs = list(trees_of(records))
    places = items_of(".", [record for record, _ in pairs], [tree for _, tree in pairs]).levels[0]
    names = {name for way in places for name in way}
    for way in places:
        if named([way[-1]], Role.SENSOR):
            names.update(value for value in places[way] if isinstance(value, str))
    with suppress(InputError):  # the command that reads it says so
        names.update(survey(choose(records, str(path)).candidate, records).sensors)
    return names


def _from_table(whole: Table, exclude: Sequence[str], name: str, decided: bool, rows: int | None) -> Derived:
    table = whole if rows is None else whole.head(rows)
    usable = int(table.usable.sum())
    if not usable:
        raise InputError(f"{table.path}: no row has a usable time")
    readings = of_table(table, exclude)
    if not readings.sensors:
        if not readings.left_out:
            raise InputError(f"{table.path}: every numeric column is excluded")
        raise InputError(f"{table.path}: no column that is left holds a number: {_left_out(readings)}")
    why = {"timezone": _ZONELESS} if table.zoneless else {}
    spec = StreamSpec(name, readings.sensors)
    if table.reading.names_columns:
        spec = replace(spec, fields=_fields(table))
        why["fields"] = _columns_named(table)
    derived = settle(spec, readings, Written(why=why), whole=True)
    marks = {} if decided else derived.written.sensors
    notes = table.notes_without({name: keys.get("missing", ()) for name, keys in marks.items()})
    notes = [note for note in notes if note not in {_without_number(name) for name in readings.left_out}]
    if len(table) < len(whole):
        notes.append(_part_of(whole, len(table), readings))
    if not decided:
        notes += [f"left out: {name[:60]} ({why})" for name, why in list(readings.left_out.items())[:20]]
    if usable < len(table):
        first = next(iter(table.refused.items()))
        unused = counted(len(table) - usable, "row")
        notes.append(f"{unused} cannot be used; row {whole.line_of(first[0])}: {first[1].detail}")
    return _noted(derived, notes, decided)


def _part_of(whole: Table, rows: int, readings: Readings) -> str:
    """The note that a stream is derived from the first rows of a table, with the sensors that are none for that."""
    later = np.asarray(np.isfinite(whole.values[rows:]).any(axis=0), bool)
    missed = [name for c, name in enumerate(whole.sensors) if later[c] and name in readings.left_out]
    note = f"derived from the first {rows:,} of {counted(len(whole), 'row')}, as later ones are not known before training"
    return f"{note}; only later ones have {listed(missed)}, left out" if missed else note


def _without_number(name: str) -> str:
    """The note of a table on a column that would be a sensor."""
    return f"sensor {shown(name)} holds no number at all"


def _fields(table: Table) -> FieldNames:
    """The columns of a table, as the configuration names them for whoever reads it again."""
    roles = table.roles
    known = {"asset": roles.asset, "timestamp": roles.time[0], "sensor": roles.sensor, "value": roles.value}
    return FieldNames(**{key: name for key, name in known.items() if name is not None})


def _columns_named(table: Table) -> str:
    """The comment on these: what a name cannot say must be said with the file again."""
    if len(table.roles.time) == 1:
        return "columns that were named for the sample"
    options = " ".join(f"--time {quote(name)}" for name in table.roles.time)
    return f"columns that were named for the sample; where the time of day is not found beside the date: {options}"


_ZONELESS: Final = "the times name no zone: UTC is assumed; take the # away where it is another"


def _noted(derived: Derived, notes: Sequence[str], decided: bool) -> Derived:
    """The same with these notes before its own; ``decided``: without those on what a model has decided."""
    return replace(derived, notes=[*notes, *([] if decided else [*derived.about_time, *derived.notes])])


@dataclass(frozen=True, slots=True)
class _Sample:
    """Where records come from."""

    where: str  # the file or topic, for errors
    part: str | None = None  # the note that there are more records than these; None if there are not
    noun: str = "line"
    decided: bool = False
    decoding: Decoding | None = None  # None: as the records look


def _from_records(records: Sequence[Record], exclude: Sequence[str], name: str, sample: _Sample) -> Derived:
    where, noun, part = sample.where, sample.noun, sample.part
    choice = choose(records, where, noun, sample.decoding)
    neighbours = in_blocks(records, TRIED)
    candidate = told_apart(choice.candidate, neighbours)
    other = other_asset(candidate, neighbours)
    found = survey(candidate, records)
    gathered = candidate.mapping.assembly is Assembly.GATHER
    readings = of_survey(found, exclude, gathered=gathered)
    if not readings.sensors:
        raise InputError(f"{where}: every sensor is excluded, or is none: {_left_out(readings)}")
    notes = [] if part is None else [part]
    notes += choice.notes
    notes += [other] if other else []
    if found.refused:
        parts = sum(refusal.parts for refusal in found.refused.values())
        total = sum(refusal.count for refusal in found.refused.values()) - parts
        what = [counted(total, noun)] if total else []
        what += [f"{counted(parts, 'part')} of {'other ' if total else ''}{noun}s"] if parts else []
        reasons = ", ".join(f"{reason} {r.count}" for reason, r in sorted(found.refused.items()))
        worst = max(found.refused.values(), key=lambda refusal: refusal.count)
        notes.append(f"{' and '.join(what)} cannot be used: {reasons} ({worst.detail})")
    if found.skipped:
        notes.append(
            f"{counted(found.skipped.total(), noun)} {'is' if found.skipped.total() == 1 else 'are'} skipped,"
            " as the format wants it:"
            f" {', '.join(f'{rule} {count}' for rule, count in sorted(found.skipped.items()))}"
        )
    if found.contradicting:
        notes.append(
            f"{counted(found.contradicting, 'value')} contradict{'s' if found.contradicting == 1 else ''} an earlier one of"
            " the same asset, time and sensor (the first counts): does another field tell them apart?"
        )
    if left := {n: why for n, why in readings.left_out.items() if not only_words(n, found)}:
        notes.append(f"left out: {', '.join(f'{n[:60]} ({why})' for n, why in list(left.items())[:20])}")
    spec = StreamSpec(name, readings.sensors)
    if candidate.fields is not None:
        spec = replace(spec, format=Format(candidate.format), fields=candidate.fields)
    else:
        spec = replace(spec, format=Format.MAPPED, input=candidate.mapping)
    used = {} if candidate.fitted else places_used(candidate, found, records)
    if other and "asset" in used:
        used = used | {"asset": f"{used['asset']}; {other}"}
    written = _with_registry(_written(candidate, found, noun, used), choice.decoding)
    derived = settle(spec, readings, written, whole=sample.part is None, found=found)
    return _noted(derived, notes, sample.decided)


def _with_registry(written: Written, decoding: Decoding) -> Written:
    """The same with the decoder alone, where the registry has the schemas that were at hand here."""
    if decoding.written is None or written.input is None:
        return written
    why = {"input.decode": "after Confluent's framing; the registry has the schemas"}
    return replace(
        written, input=dict(written.input) | {"decode": decoding.written}, why=dict(written.why) | why
    )


def _left_out(readings: Readings) -> str:
    return ", ".join(f"{name} ({why})" for name, why in readings.left_out.items()) or "nothing else is there"


def _written(candidate: Candidate, found: Survey, noun: str, used: Mapping[str, str]) -> Written:
    """How the messages are read, with the reasons; ``used``: the places of a preset that have asset and time."""
    read = f"reads {found.read} of {counted(found.records, noun)}"
    if candidate.untold:
        read = f"no preset fits better; {read}"
    why = {"format": "; ".join([read, *(f"{key}: {place}" for key, place in used.items())])} | {
        f"input.{key}": reason for key, reason in candidate.reasons.items()
    }
    if candidate.fields is not None:
        why["fields"] = "; ".join(f"{key}: {reason}" for key, reason in candidate.reasons.items())
    if found.zoneless:
        why["timezone"] = _ZONELESS
    given = candidate.input if candidate.input or candidate.untold else None
    return Written(candidate.format, given, why=why)
