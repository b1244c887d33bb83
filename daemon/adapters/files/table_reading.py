"""How a table is to be read: what the user has named, and what the configuration of the stream says.

``TableReading`` is a plain value that commands pass down to ``read_table``. What it does not say is found by the
names and the contents of the columns (``roles``). Of ``input`` the plain names count (of asset, time, sensor,
value and quality), the unit, format and order of times, and what is missing: a table has no tree to walk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from daemon.adapters.field_names import Role
from daemon.assembly import as_received
from daemon.domain import StreamSpec
from daemon.mapping import InputMapping, Key, Origin, QualityRule, SensorRule, Sources


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
        spec = as_received(spec)
        filled = replace(
            self,
            timezone=self.timezone or spec.timezone,
            sensors=dict(zip(spec.sensors, spec.rules, strict=True)),
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
    return tuple(
        source.path.steps[0].name
        for source in sources
        if source.origin is Origin.PATH
        and source.match is None
        and source.path is not None
        and len(source.path.steps) == 1
        and isinstance(source.path.steps[0], Key)
    )


def _with_input(reading: TableReading, rule: InputMapping) -> TableReading:
    likely = {
        Role.ASSET: _plain_names(rule.asset),
        Role.TIME: _plain_names(rule.time.sources),
        Role.SENSOR: _plain_names(rule.sensor),
        Role.VALUE: tuple(
            path.steps[0].name
            for path in rule.value
            if len(path.steps) == 1 and isinstance(path.steps[0], Key)
        ),
        Role.QUALITY: _plain_names(rule.quality.sources) if rule.quality is not None else (),
    }
    constant = [source.name for source in rule.asset if source.origin is Origin.CONSTANT]
    idle = [
        name
        for name, used in (
            ("inner", rule.inner),
            ("skip", rule.skip),
            ("each", [path for path in rule.each if path.steps]),
            ("fields", rule.fields),
            ("wave", rule.wave),
            ("rename", rule.rename),
        )
        if used
    ]
    notes = (f"of input, {', '.join(idle)} do not apply to tables",) if idle else ()
    return replace(
        reading,
        likely={role: names for role, names in likely.items() if names},
        asset_name=constant[0] if constant else None,
        missing=rule.missing,
        unit=rule.time.unit,
        formats=rule.time.formats,
        day_first=(rule.time.day_first or None) if reading.day_first is None else reading.day_first,
        quality=rule.quality,
        notes=(*reading.notes, *notes),
    )
