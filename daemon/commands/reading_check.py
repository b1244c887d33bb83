"""What a stream's mapping makes of records: accepted, skipped, or refused for which reason; with an example of each.

``read_records`` asks the stream's own decoder, so what it says is what ``run`` would do. ``inspect`` prints the whole
of it, ``check --probe`` a line per topic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from daemon.adapters.sample import nearest_preset
from daemon.adapters.sample.config_text import flow
from daemon.adapters.schemas import provide_schemas
from daemon.assembly import as_received
from daemon.config.presets import CUSTOM
from daemon.documents import counted, nearest_of
from daemon.domain import Floats, InputPartition, Reading, Reason, Record, Rejected, StreamSpec
from daemon.runtime.split_assets import what_is_split
from daemon.stream.decode import MessageSchemas
from daemon.stream.decoding import Decoder
from daemon.stream.extract.numbers import FAULT_HINTS

_EXAMPLES = 20
_OF_SHAPE = frozenset(
    {
        *(Reason.NOT_JSON, Reason.UNDECODABLE, Reason.NOT_AN_OBJECT, Reason.NO_ASSET, Reason.BAD_ASSET),
        *(Reason.NO_TIMESTAMP, Reason.NO_VALUES, Reason.NO_SENSOR, Reason.UNKNOWN_SENSOR),
    }
)
"""Reasons that another format may take away: what it looks for is not there."""


@dataclass(slots=True)
class Refused:
    """Records that are refused for one reason."""

    reason: str
    count: int = 0
    details: Counter[str] = field(default_factory=Counter)  # with the path, and what was found there
    examples: list[Record] = field(default_factory=list)

    @property
    def detail(self) -> str:
        """The commonest detail."""
        return distinct(self.details.most_common(1)[0][0])


@dataclass(frozen=True, slots=True)
class NoNumbers:
    """Cells of one sensor that stand for no number, all for one reason."""

    sensor: str
    fault: str  # one of ``numbers.FAULTS``
    count: int
    example: str  # the first; empty where it is not known
    hint: str  # what it is, and what helps

    @property
    def said(self) -> str:
        """The same as one line."""
        are = "is" if self.count == 1 else "are"
        example = f", as {self.example}" if self.example else ""
        return f"{self.sensor}: {counted(self.count, 'value')} {are} no number{example}: {self.hint}"


def no_numbers(
    counts: Mapping[tuple[str, str], int], examples: Mapping[tuple[str, str], str] | None = None
) -> list[NoNumbers]:
    """Cells that stand for no number by sensor and fault, the commonest first.

    Args:
        counts: of cells, by sensor and fault.
        examples: the first of these cells.
    """
    return [
        NoNumbers(sensor, fault, count, (examples or {}).get((sensor, fault), ""), FAULT_HINTS[fault])
        for (sensor, fault), count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    ]


def distinct(detail: str) -> str:
    """A detail whose parts are said once: of many places that a mapping looks at, most end in the same field."""
    *parts, last = dict.fromkeys(detail.split("; "))
    cut = any(part.startswith(last) for part in parts)  # details have a greatest length
    return "; ".join(parts if cut else [*parts, last])


def in_one_line(words: Sequence[object]) -> str:
    """Words as a list of the configuration."""
    return flow(list(words))


@dataclass(slots=True)
class ReadRecords:
    """What became of N records: ``read`` is the sum of ``accepted``, ``skipped`` and ``refused``."""

    read: int = 0
    accepted: int = 0
    readings: int = 0
    skipped: Counter[str] = field(default_factory=Counter)  # by rule
    refused: dict[str, Refused] = field(default_factory=dict)  # by reason
    unknown: Counter[str] = field(default_factory=Counter)  # values of sensors that the stream does not list
    corrupt: list[NoNumbers] = field(default_factory=list)  # the commonest first
    numbers: int = 0  # cells with a value
    contradicting: int = 0  # cells that differ from the first of their asset, time and sensor
    unseen: list[str] = field(default_factory=list)  # sensors of the stream without any number
    preset: str = CUSTOM  # that they are read by
    partitions: dict[str, set[InputPartition]] = field(default_factory=dict)  # of a topic, by asset

    @property
    def share(self) -> float:
        """The share of the records, skipped ones left out, that is accepted."""
        counted = self.read - sum(self.skipped.values())
        return self.accepted / counted if counted else 0.0

    @property
    def worst(self) -> list[Refused]:
        """The reasons, the commonest first."""
        return sorted(self.refused.values(), key=lambda each: (-each.count, each.reason))

    @property
    def split(self) -> str | None:
        """What to do where assets come in several partitions, each of which is judged alone; None: none does."""
        return what_is_split(self.partitions)

    def nearest(self, refused: Refused) -> str | None:
        """The preset that refused records come nearest to, where it could be the right one.

        It is not where something else than the shape of the message is wrong, nor where it is the stream's own already. Where the stream reads most of the records the others are odd,
        not the mapping: then it must read them, and the stream's must be none that somebody has written.
        """
        if refused.reason not in _OF_SHAPE:
            return None
        usual = self.share >= 0.5
        if usual and self.preset == CUSTOM:
            return None
        found = nearest_preset(refused.examples, reads=usual)
        return None if found == self.preset else found


async def schemas_of(spec: StreamSpec, records: Sequence[Record]) -> MessageSchemas | None:
    """The schemas that the records name, fetched from the registry; None where messages of the stream name none.

    Raises:
        RegistryError: the registry does not answer.
        ConfigError: the decoder's library is not installed, or a file of the registry's credentials is missing.
    """
    schemas = Decoder(spec).schemas
    await provide_schemas(schemas, records)
    return schemas


def read_records(
    spec: StreamSpec, records: Sequence[Record], schemas: MessageSchemas | None = None
) -> ReadRecords:
    """Decode the records as the stream would.

    Args:
        spec: the stream.
        records: of it.
        schemas: those that the records name (``schemas_of``); None: they name none.
    """
    decoder = Decoder(spec, schemas=schemas)
    received = as_received(spec)
    found = ReadRecords(len(records), preset=spec.format.value if spec.input is None else spec.input.preset)
    first: dict[tuple[str, int], Floats] = {}
    seen = np.zeros(len(received.sensors), bool)
    for record in records:
        several = decoder.decode_all([record])
        for each in several:
            if isinstance(each, Reading):
                values = _values_of(each, len(seen))
                there = np.isfinite(values)
                seen |= there
                found.numbers += int(there.sum())
                if record.partition >= 0:
                    found.partitions.setdefault(each.asset, set()).add(
                        InputPartition(record.topic, record.partition)
                    )
                known = first.setdefault((each.asset, each.time_ns), values)
                found.contradicting += int((there & np.isfinite(known) & (known != values)).sum())
                np.copyto(known, values, where=np.isnan(known))
        readings = sum(isinstance(each, Reading) for each in several)
        found.readings += readings
        if readings or not several:
            found.accepted += 1
            continue
        (what,) = several[:1]
        if isinstance(what, Rejected):
            refused = found.refused.setdefault(what.reason.value, Refused(what.reason.value))
            refused.count += 1
            if what.detail in refused.details or len(refused.details) < 100:
                refused.details[what.detail] += 1
            if len(refused.examples) < _EXAMPLES:
                refused.examples.append(record)
        elif not isinstance(what, Reading):
            found.skipped[what.rule] += 1
    found.unseen = [
        name if rule.source is None else f"{name} (source {rule.source})"
        for name, rule, there in zip(received.sensors, received.rules, seen, strict=True)
        if not there
    ]
    found.unknown = Counter(decoder.unknown_sensors)
    found.corrupt = no_numbers(decoder.corrupt_by_fault, decoder.corrupt_examples)
    return found


def _values_of(reading: Reading, sensors: int) -> Floats:
    """(C,) the values of a reading, NaN where it has none."""
    if reading.values is not None:
        return np.array(reading.values, np.float64)
    values = np.full(sensors, np.nan)
    values[reading.sensor] = reading.value
    return values


def said_of(found: ReadRecords) -> str:
    """One line: how many records would be accepted, and why the others are not."""
    if not found.read:
        return "empty: nothing can be said"
    parts = [
        f"{found.accepted} of the newest {counted(found.read, 'record')} would be accepted ({found.share:.0%})"
    ]
    if found.skipped:
        parts.append(
            "skipped by rule: " + ", ".join(f"{rule} {n}" for rule, n in sorted(found.skipped.items()))
        )
    for refused in found.worst[:3]:
        near = found.nearest(refused)
        hint = f"; format {near} is the nearest" if near is not None else ""
        parts.append(f"{refused.reason} {refused.count}: {refused.detail}{hint}")
    if found.unknown:
        names = ", ".join(name for name, _ in found.unknown.most_common(5))
        parts.append(f"sensors that the stream does not list: {names}")
    if found.accepted and found.unseen:
        pairs = [(name, nearest_of(name.partition(" (source ")[0], found.unknown)) for name in found.unseen]
        named = [f"{name} (did you mean {other}?)" if other else name for name, other in pairs[:5]]
        parts.append(f"never seen: {', '.join(named)}")
    parts += [each.said for each in found.corrupt[:3]]
    if found.contradicting:
        parts.append(
            f"{counted(found.contradicting, 'value')} contradict an earlier one of the same asset, time and sensor"
        )
    return "; ".join(parts)
