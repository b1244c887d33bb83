"""How a table is to be read: what the user has named, and what the configuration of the stream says.

``TableReading`` is a plain value that commands pass down to ``read_table``. What it does not say is found by the
names and the contents of the columns (``roles``). Of ``input`` the plain names count (of asset, time, sensor,
value, quality and conditions), ``match`` of asset and sensor, the unit, format and order of times and what is
added to them, the names of leaves that are left out, and what is missing: a table has no tree to walk. A note names
what else ``input`` has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Final

from daemon.adapters.field_names import Role
from daemon.assembly import as_received
from daemon.domain import StreamSpec
from daemon.mapping import InputMapping, Key, Origin, QualityRule, SensorRule, Source, Sources

_LONGEST: Final = 1000
"""Characters of a text that may match an expression."""


@dataclass(frozen=True, slots=True)
class TableReading:
    """What is known of a table before it is opened.

    ``time``, ``asset``, ``sensor`` and ``value`` are columns that the table must have. ``likely`` are columns
    that count first where it has them.
    """

    time: tuple[str, ...] = ()  # one column, or two: the date and the time of day
    asset: str | None = None
    sensor: str | None = None
    value: str | None = None
    timezone: str | None = None  # of times that name no zone; None: UTC
    day_first: bool | None = None  # 02/03/2026 is the second of March; None: as the column shows
    likely: Mapping[Role, tuple[str, ...]] = field(default_factory=dict)
    asset_name: str | None = None  # of a table without an asset column
    sensors: Mapping[str, SensorRule] = field(default_factory=dict)  # those of the stream; none: not known
    missing: frozenset[object] = frozenset()  # texts and numbers that stand for no value
    unit: str = "auto"  # of times that are numbers
    formats: tuple[str, ...] = ()  # of ``strptime``, for times
    plus: tuple[str, ...] = ()  # columns of numbers, the first that there is being added to times
    plus_unit: str = "ns"
    matches: Mapping[str, Source] = field(default_factory=dict)  # columns of which a part of the text counts
    conditions: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # condition -> columns, the first counts
    leave_out: tuple[str, ...] = ()  # columns that are no sensors, * and ? as in a shell
    quality: QualityRule | None = None  # what counts as good
    notes: tuple[str, ...] = ()  # what of the configuration does not apply to tables

    @property
    def names_columns(self) -> bool:
        """Whether the user has named a column."""
        return bool(self.time or self.asset or self.sensor or self.value)

    @property
    def named(self) -> tuple[str, ...]:
        """The columns that the table must have."""
        return (*self.time, *(name for name in (self.asset, self.sensor, self.value) if name is not None))

    def part_of(self, column: str, text: str) -> str | None:
        """The part of a text of an asset or sensor that counts; None where it does not match."""
        source = self.matches.get(column)
        if source is None or source.match is None:
            return text
        found = None if len(text) > _LONGEST else source.match.search(text)
        return (found[source.group] or None) if found is not None else None

    def column_of(self, condition: str, columns: Collection[str]) -> str:
        """The column of a condition: the one that ``input`` names, else the one of its own name."""
        return next((name for name in self.conditions.get(condition, ()) if name in columns), condition)

    def is_left_out(self, column: str) -> bool:
        """Whether ``input`` says that a column is no sensor."""
        return any(fnmatchcase(column, pattern) for pattern in self.leave_out)

    def sensor_of(self, column: str) -> str:
        """The name of the sensor that a column holds."""
        for name, rule in self.sensors.items():
            if rule.source == column:
                return name
        return column

    @property
    def sources(self) -> frozenset[str]:
        """The columns that are sensors of the stream, as they are called in files."""
        return frozenset(rule.source or name for name, rule in self.sensors.items())

    def of(self, spec: StreamSpec) -> TableReading:
        """The same reading with what the stream's configuration says, after what the user has named."""
        received = as_received(spec)  # a table has an angle in one column
        filled = replace(
            self,
            timezone=self.timezone or spec.timezone,
            sensors=dict(zip(received.sensors, received.rules, strict=True)),
        )
        if spec.input is not None:
            return _with_input(filled, spec.input)
        likely = {
            Role.ASSET: spec.fields.asset,
            Role.TIME: spec.fields.timestamp,
            Role.SENSOR: spec.fields.sensor,
            Role.VALUE: spec.fields.value,
        }
        return replace(
            filled, likely={role: (name,) for role, name in likely.items() if not name.startswith("$")}
        )


def _plain_names(sources: Sources) -> tuple[str, ...]:
    """The fields that sources name without any way to walk."""
    return tuple(name for source in sources if source.match is None and (name := _field(source)) is not None)


def _field(source: Source) -> str | None:
    """The field that a source names without any way to walk."""
    if source.origin is not Origin.PATH or source.path is None or len(source.path.steps) != 1:
        return None
    (step,) = source.path.steps
    return step.name if isinstance(step, Key) else None


def _idle(rule: InputMapping) -> list[str]:
    """The keys of ``input`` that do not apply to tables."""
    keyed = {
        "asset": (rule.asset, True),
        "sensor": (rule.sensor, True),
        "time": (rule.time.sources, False),
        "condition": ([source for sources in rule.condition.values() for source in sources], False),
    }
    found = [
        (f"{key}.{what}", used)
        for key, (sources, matched) in keyed.items()
        for what, used in (
            ("join", any(source.origin is Origin.JOIN for source in sources)),
            ("match", any(source.match and (not matched or _field(source) is None) for source in sources)),
        )
    ]
    others: list[tuple[str, object]] = [
        ("inner", rule.inner),
        ("skip", rule.skip),
        ("each", [path for path in rule.each if path.steps]),
        ("fields", rule.fields),
        ("leaves.prefix", rule.leaves is not None and rule.leaves.prefix),
        ("wave", rule.wave),
        ("rename", rule.rename),
    ]
    return [name for name, used in (*found, *others) if used]


def _with_input(reading: TableReading, rule: InputMapping) -> TableReading:
    matches = {
        name: source
        for source in reversed((*rule.asset, *rule.sensor))
        if source.match is not None and (name := _field(source)) is not None
    }
    likely = {
        Role.ASSET: tuple(name for source in rule.asset if (name := _field(source)) is not None),
        Role.TIME: _plain_names(rule.time.sources),
        Role.SENSOR: tuple(name for source in rule.sensor if (name := _field(source)) is not None),
        Role.VALUE: tuple(
            path.steps[0].name
            for path in rule.value
            if len(path.steps) == 1 and isinstance(path.steps[0], Key)
        ),
        Role.QUALITY: _plain_names(rule.quality.sources) if rule.quality is not None else (),
    }
    constant = [source.name for source in rule.asset if source.origin is Origin.CONSTANT]
    idle = _idle(rule)
    notes = (f"of input, {', '.join(idle)} do not apply to tables",) if idle else ()
    return replace(
        reading,
        likely={role: names for role, names in likely.items() if names},
        asset_name=constant[0] if constant else None,
        missing=rule.missing,
        unit=rule.time.unit,
        formats=rule.time.formats,
        day_first=rule.time.day_first if reading.day_first is None else reading.day_first,
        plus=_plain_names(rule.time.plus),
        plus_unit=rule.time.plus_unit,
        matches=matches,
        conditions={name: _plain_names(sources) for name, sources in rule.condition.items()},
        leave_out=rule.leaves.leave_out if rule.leaves is not None else (),
        quality=rule.quality,
        notes=(*reading.notes, *notes),
    )
