"""Which column of a table is the time, the asset, the sensor, the value, a quality or a mere count of rows.

A role is found by names (``adapters.field_names``), never by position, and a name is believed where the cells bear
it out: a count of rows is no asset though it is called ``id``, and a clock time is half a time. What the user or
the configuration names comes first. In: ``Columns`` and a ``TableReading``. Out: ``Roles``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from daemon.adapters.field_names import NAMES, Role, bare, named
from daemon.adapters.files.cells import has_text_form, is_numeric, plain_array, trimmed_texts
from daemon.adapters.files.columns import Columns
from daemon.adapters.files.table_reading import TableReading
from daemon.adapters.files.time_parts import find_parts
from daemon.documents import shown
from daemon.domain import Floats, Ints
from daemon.errors import InputError, UsageError
from daemon.stream.extract.quality import is_known_code

COUNTER_NAMES: Final = frozenset(
    {
        *("entryid", "record", "recordid", "recordnumber", "recno", "rn", "index", "idx", "row", "rowid"),
        *("rownumber", "rowno", "line", "lineno", "linenumber", "id", "uid", "no", "nr", "number", "num"),
        *(
            "seq",
            "seqno",
            "sequence",
            "sequencenumber",
            "sample",
            "sampleno",
            "lfdnr",
            "unnamed0",
            "messageid",
        ),
    }
)
"""Names, bare, of columns that may count rows; one does if its numbers go on by one."""
_ROW_QUALITY: Final = frozenset({"quality", "qualitycode", "opcquality", "validity"})
"""Names of columns of a wide table that are about the whole row; ``status`` may well be a sensor."""
_PLAIN_ASSETS: Final = re.compile(
    r"id|name|number|serial|asset|equipment|machine|device|host|deveui|sourcekey|vin"
    r"|nummer|nr$|maschine|anlage|gerät|geraet|équipement|equipement|máquina|maquina|equipo|macchina|impianto|matricola"
)
"""What the name of a numeric asset column has; a number called ``pump`` or ``motor`` may be a measurement."""
_CLOCK_ONLY: Final = re.compile(
    r"(?:[0-9]{1,2}\.[0-9]{2}\.[0-9]{2}|T?[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?\s*(?:[AaPp](?:\.?[Mm]\.?)?)?)"
)
_DATE_ONLY: Final = re.compile(
    r"(?:[0-9]{1,4}[-/. ](?:[0-9]{1,2}|[^\W\d_]{3,9})[-/. ][0-9]{1,4}|[0-9]{8})(?:[ T]0{1,2}:00(?::00(?:\.0*)?)?)?"
)
_DATE_TIME: Final = re.compile(
    r"(?:[0-9]{1,4}[-/. ](?:[0-9]{1,2}|[^\W\d_]{3,9})[-/. ][0-9]{1,4})[T ,]\s*[0-9]{1,2}:[0-9]{2}.*"
)
_HOURS: Final = ("hour", "hours", "hr", "stunde")
"""Names of columns of whole hours beside a date."""
_IN_BRACKETS: Final = re.compile(r"\s*[\[(]([^\[\]()]*)[\])]\s*$")
_CLOCK_NAMES: Final = (
    *_HOURS,
    "time",
    "timeofday",
    "clock",
    "hhmm",
    "hhmmss",
    "zeit",
    "uhrzeit",
    "hora",
    "heure",
)
_PEEK: Final = 50


@dataclass(frozen=True, slots=True)
class Roles:
    """What the columns of a table are; all others may be sensors."""

    time: tuple[
        str, ...
    ]  # a column of times, those of the date and of the time of day, or three and more of its parts
    asset: str | None = None
    sensor: str | None = None  # of a long table: which sensor a row is of
    value: str | None = None
    quality: Mapping[str, tuple[str, ...] | None] = field(
        default_factory=dict
    )  # column -> the columns it is about; None: all
    left_out: tuple[str, ...] = ()  # counts of rows, and other times
    millis: str | None = None  # milliseconds beside a time of day without decimals
    notes: tuple[str, ...] = ()

    @property
    def keys(self) -> frozenset[str]:
        """Every column that is no sensor."""
        sensors = {name for name in (self.asset, self.sensor, self.millis) if name is not None}
        return frozenset({*self.time, *sensors, *self.quality, *self.left_out})


class _Columns:
    """What can be asked of the columns."""

    def __init__(self, path: Path, columns: Columns, reading: TableReading) -> None:
        self.path, self.reading = path, reading
        self.all_names = columns.names
        self.names = [name for name in columns.names if name not in reading.sources]
        self._columns = columns

    def kind(self, name: str) -> pa.DataType:
        found = self._columns.table.schema.field(name).type
        return found.value_type if pa.types.is_dictionary(found) else found

    def first_texts(self, name: str) -> list[str]:
        """The first cells that hold something, as texts."""
        if not has_text_form(self.kind(name)):
            return []
        column = self._columns.table[name]
        column = column.slice(0, 20 * _PEEK)
        texts = plain_array(column).cast(pa.string(), safe=False)
        trimmed = trimmed_texts(pa.chunked_array([texts], pa.string()))
        found: list[str] = trimmed.drop_null().to_pylist()[:_PEEK]
        return found

    def all_like(self, name: str, pattern: re.Pattern[str]) -> bool:
        """Whether the first cells are nearly all of this form."""
        texts = self.first_texts(name)
        return bool(texts) and 10 * sum(pattern.fullmatch(text) is not None for text in texts) >= 9 * len(
            texts
        )

    def is_number(self, name: str) -> bool:
        """Whether the first cells are numbers."""
        if not self._columns.text:
            return is_numeric(self.kind(name))
        return self.all_like(name, _ANY_NUMBER)

    def first_numbers(self, name: str) -> Floats | None:
        """The first numbers of a column; None where it holds anything else."""
        if not self._columns.text and not is_numeric(self.kind(name)):
            return None
        try:
            return np.array([float(text) for text in self.first_texts(name)], np.float64)
        except ValueError:
            return None

    def falls(self, name: str) -> bool:
        """Whether the first numbers of a column do not go on upwards alone."""
        numbers = self.first_numbers(name)
        return numbers is not None and bool((np.diff(numbers) < 0).any())

    def whole_numbers(self, name: str) -> Ints | None:
        """The column as whole numbers without the missing; None where it holds others, or few."""
        array = plain_array(self._columns.table[name])
        try:
            if pa.types.is_string(array.type):
                array = trimmed_texts(pa.chunked_array([array]))
            found = array.cast(pa.int64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None
        if 2 * found.null_count > len(found):
            return None
        numbers: Ints = found.drop_null().to_numpy(zero_copy_only=False)
        return numbers

    def differs_in_each_row(self, name: str) -> bool:
        """Whether whole numbers, or texts, are nearly all different."""
        column = plain_array(self._columns.table[name])
        if pa.types.is_floating(column.type) or (self.is_number(name) and self.whole_numbers(name) is None):
            return False
        return bool(len(column) >= 10 and 10 * pc.count_distinct(column).as_py() >= 9 * len(column))

    def repeated(self, names: Sequence[str]) -> int:
        """How many rows have the cells of an earlier row in all these columns."""
        keys = self._columns.table.select(names)
        if any(pa.types.is_dictionary(kind) for kind in keys.schema.types):
            keys = pa.table({name: plain_array(keys[name]) for name in names})
        return int(keys.num_rows - keys.group_by(names).aggregate([]).num_rows)

    def numbers_rows(self, name: str) -> bool:
        """Whether a column, whatever its name, is 0 or 1 in the first row, and one more in each that follows."""
        numbers = self.whole_numbers(name)
        return (
            numbers is not None
            and len(numbers) >= 10
            and int(numbers[0]) in (0, 1)
            and bool((np.diff(numbers) == 1).all())
        )

    def counts_rows(self, name: str) -> bool:
        """Whether the numbers go on by one from row to row, up or down."""
        numbers = self.whole_numbers(name)
        if numbers is None or len(numbers) < 3:
            return False
        steps = np.diff(numbers)
        return bool(10 * max((steps == 1).sum(), (steps == -1).sum()) >= 9 * len(steps))


_ANY_NUMBER: Final = re.compile(r"[+-]?[0-9][0-9.,]*(?:[eE][+-]?[0-9]+)?")


def find_roles(path: Path, columns: Columns, reading: TableReading, excluded: frozenset[str]) -> Roles:
    """What the columns are.

    Args:
        path: named in errors.
        columns: of the file.
        reading: what is known already.
        excluded: columns that are no sensors; they may be the time or the asset if that is said of them.

    Raises:
        UsageError: the table lacks a column that the user has named; with the nearest.
        InputError: no column is the time, or the header has it twice.
    """
    for option, names in (
        ("--time", reading.time),
        ("--asset", (reading.asset,)),
        ("--sensor", (reading.sensor,)),
        ("--value", (reading.value,)),
    ):
        for name in names:
            if name is not None and name not in columns.names:
                near = get_close_matches(name, columns.names, n=1, cutoff=0.5)
                hint = f"did you mean {shown(near[0])}?" if near else f"it has {listed(columns.names)}"
                raise UsageError(f"{option} {name}: {path} has no such column; {hint}")
    seen = _Columns(path, columns, reading)
    notes: list[str] = []
    time = _time(seen, notes)
    millis = _millis(seen, time)
    free = [name for name in seen.names if name not in (*time, millis) and name not in excluded]
    first = seen.names[0] if seen.names and seen.names[0] not in reading.named else None
    counters = [
        name
        for name in free
        if (_may_count(name, reading) or (name == first and seen.numbers_rows(name)))
        and seen.counts_rows(name)
    ]
    if counters:
        notes.append(f"{listed(counters)}: a count of the rows, left out")
    free = [name for name in free if name not in counters]
    sensor, value = _long(seen, free, time)
    keyed = [] if sensor is None else [sensor]
    candidates = _assets(seen, [name for name in free if name not in (sensor, value)])
    asset = _asset(seen, candidates, [*time, *keyed])
    others = [name for name in candidates if name != asset and seen.is_number(name)]
    if others:
        notes.append(
            f"{listed(others)}: may be the asset too, left out; --asset {others[0]} takes it instead"
        )
    single = [
        name
        for name in free
        if name not in {*candidates, sensor, value}
        and _may_count(name, reading)
        and seen.differs_in_each_row(name)
    ]
    if single:
        notes.append(f"{listed(single)}: whole numbers, another in each row, left out")
    left_out = [*counters, *others, *single]
    free = [name for name in free if name not in left_out]
    quality = _quality(seen, [name for name in free if name not in (sensor, value, asset)], value)
    twice = columns.form.repeated if columns.form is not None else frozenset()
    for name in (*time, asset, sensor):
        if name in twice:
            raise InputError(f"{path}: column {shown(name)} appears twice")
    return Roles(time, asset, sensor, value, quality, tuple(left_out), millis, tuple(notes))


def _may_count(name: str, reading: TableReading) -> bool:
    return (bare(name) in COUNTER_NAMES or name.startswith("column ")) and name not in reading.named


def _likely(seen: _Columns, role: Role, names: Sequence[str]) -> list[str]:
    """The columns that may have a role: those that the configuration names, then those that are called so."""
    first = [name for name in seen.reading.likely.get(role, ()) if name in names]
    return list(dict.fromkeys([*first, *_in_any_case(role, names)]))


def _in_any_case(role: Role, names: Sequence[str]) -> list[str]:
    """Columns that are called as the role is; one that is written just so comes before one in capital letters."""
    plain = {_IN_BRACKETS.sub("", name) or name: name for name in reversed(names)}  # Time (s) is a time
    plain |= {name: name for name in names}
    found = sorted(
        named(plain, role),
        key=lambda name: (NAMES[role].index(bare(name)), name != bare(name), name.lower() != bare(name)),
    )
    return list(dict.fromkeys(plain[name] for name in found))


_ZONE_IN_NAME: Final = re.compile(
    r"\b(?:UTC|GMT)(?:\s*([+-])\s*([0-9]{1,2})(?::?([0-9]{2}))?)?(?![0-9A-Za-z])"
)


_MOST_AHEAD: Final = 14 * 60
"""Minutes; no zone is further from UTC."""


def zone_in(name: str) -> int | None:
    """The minutes by which times of a column are ahead of UTC, where its name says so: ``Date Time, GMT+01:00``."""
    found = _ZONE_IN_NAME.search(name)
    if found is None:
        return None
    minutes = int(found[2] or 0) * 60 + int(found[3] or 0)
    if minutes > _MOST_AHEAD:
        return None
    return -minutes if found[1] == "-" else minutes


_UNITS: Final = {
    **dict.fromkeys(("s", "sec", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "\u00b5s", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nanoseconds"), "ns"),
}


def unit_in(name: str) -> str:
    """The unit of time that a column's name has in brackets; ``auto`` for none."""
    found = _IN_BRACKETS.search(name)
    return _UNITS.get(found[1].strip().lower(), "auto") if found is not None else "auto"


def _time(seen: _Columns, notes: list[str]) -> tuple[str, ...]:
    """The column of times, or the two of dates and of times of day."""
    if len(seen.reading.time) == 2:
        return seen.reading.time
    if len(seen.reading.time) > 2:
        if parts := find_parts(seen.reading.time, seen.first_numbers):
            return parts
        raise UsageError(
            "--time names one column of times, two: the date and the time of day, or those of year, month, day,"
            " hour, minute and second"
        )
    candidates = list(seen.reading.time) or _likely(seen, Role.TIME, seen.names)
    timed = [
        name
        for name in seen.names
        if pa.types.is_timestamp(seen.kind(name)) or seen.all_like(name, _DATE_TIME)
    ]
    if not seen.reading.time:
        candidates = [
            name for name in candidates if bare(name) not in _OF_RECORDINGS or not (timed or seen.falls(name))
        ]
    parts = () if seen.reading.time or timed else find_parts(seen.names, seen.first_numbers)
    if parts and set(candidates) <= set(parts):
        notes.append(f"{listed(parts)} make the time together")
        return parts
    for name in candidates:
        clock = pa.types.is_time(seen.kind(name)) or seen.all_like(name, _CLOCK_ONLY)
        if clock or (bare(name) in _CLOCK_NAMES and seen.all_like(name, _DIGITS)):
            partner = _partner(seen, name, candidates, _DATE_ONLY)
            if partner is not None and (clock or partner in candidates):
                return partner, name
            if not clock:
                return (name,)
        elif (pa.types.is_date(seen.kind(name)) or seen.all_like(name, _DATE_ONLY)) and (
            partner := _partner(seen, name, [n for n in seen.names if bare(n) in _CLOCK_NAMES], _CLOCK_ONLY)
        ) is not None:
            return name, partner
        else:
            return (name,)
    if candidates:
        return (candidates[0],)
    if len(timed) == 1:
        notes.append(f"{shown(timed[0])} is taken as the time, being the only column of dates with times")
        return (timed[0],)
    for name in seen.names:
        if (
            seen.all_like(name, _DATE_ONLY)
            and (partner := _partner(seen, name, seen.names, _CLOCK_ONLY)) is not None
        ):
            return name, partner
    hint = f" ({listed(timed)} hold dates)" if timed else ""
    raise InputError(
        f"{seen.path}: no time column (timestamp, ts, time, date ...): name it with --time COLUMN{hint};"
        f" found: {listed(seen.names)}"
    )


_OF_RECORDINGS: Final = frozenset({"elapsedtime", "xvalue"})
"""Names of times from 0, and of sensors: these fall, or stand beside a column of dates with times."""


def _millis(seen: _Columns, time: Sequence[str]) -> str | None:
    """The column of the milliseconds of a time of day without decimals, in a column of its own.

    ``m/s`` is a speed.
    """
    if len(time) < 2 or seen.reading.plus or any(map(_DECIMALS.search, seen.first_texts(time[-1]))):
        return None
    for name in seen.names:
        if name.lower() in _MILLIS and name not in time:
            numbers = seen.first_numbers(name)
            whole = numbers is not None and len(numbers) and bool((numbers == np.rint(numbers)).all())
            if numbers is not None and whole and numbers.min() >= 0 and numbers.max() < 1000:
                return name
    return None


_DECIMALS: Final = re.compile(r"(?::[0-9]{2}|^[0-9]{1,2})[.,]0*[1-9][0-9]*(?:\s*[AaPp]\.?[Mm]\.?)?$")
"""At the end of a time of day, or of a number of seconds."""
_MILLIS: Final = frozenset({"ms", "msec", "millis", "millisecond", "milliseconds", "millitm", "millisec"})


def _partner(seen: _Columns, name: str, others: Sequence[str], form: re.Pattern[str]) -> str | None:
    """The other half of a time: a column of dates (or of times of day) beside ``name``."""
    typed = pa.types.is_date if form is _DATE_ONLY else pa.types.is_time
    for other in (*others, *seen.names):
        if other == name:
            continue
        if typed(seen.kind(other)) or seen.all_like(other, form):
            return other
        if form is not _CLOCK_ONLY or other not in others:
            continue
        if seen.all_like(other, _TWO_DIGITS if bare(other) in _HOURS else _DIGITS):
            return other
    return None


_TWO_DIGITS: Final = re.compile(r"[0-9]{1,2}")
_DIGITS: Final = re.compile(r"[0-9]{3,6}|0")


def _assets(seen: _Columns, names: Sequence[str]) -> list[str]:
    """The columns that may say which machine a row is of, most preferred first."""
    if seen.reading.asset is not None:
        return [seen.reading.asset]
    sure = {*seen.reading.likely.get(Role.ASSET, ()), "asset"}
    found: list[str] = []
    for name in _likely(seen, Role.ASSET, names):
        if name in sure or bare(name) == "asset":
            return [*found, name] if found else [name]
        kind = seen.kind(name)
        if not has_text_form(kind) or pa.types.is_boolean(kind) or pa.types.is_temporal(kind):
            continue
        if bare(name) in COUNTER_NAMES and seen.differs_in_each_row(name):
            continue
        if not seen.is_number(name):
            if seen.first_texts(name):
                found.append(name)
        elif _PLAIN_ASSETS.search(bare(name)) and seen.whole_numbers(name) is not None:
            found.append(name)
    return found


def _asset(seen: _Columns, candidates: Sequence[str], time: Sequence[str]) -> str | None:
    """The first that tells apart the rows of one time as well as any does: the inverter and not its plant."""
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    again = [seen.repeated([*time, name]) for name in candidates]
    return next(name for name, count in zip(candidates, again, strict=True) if count <= 2 * min(again))


def _long(seen: _Columns, names: Sequence[str], time: Sequence[str]) -> tuple[str | None, str | None]:
    """The sensor and value columns of a long table; (None, None) for a wide one."""
    reading = seen.reading
    if (reading.sensor is None) != (reading.value is None):
        known, option = ("--sensor", "--value") if reading.sensor is not None else ("--value", "--sensor")
        role = Role.VALUE if reading.value is None else Role.SENSOR
        found = _likely(seen, role, names)
        if not found:
            raise UsageError(f"{known} alone does not do: name the other column with {option}")
        return (reading.sensor, found[0]) if reading.value is None else (found[0], reading.value)
    if reading.sensor is not None:
        return reading.sensor, reading.value
    values = [
        name for name in _likely(seen, Role.VALUE, names) if seen.is_number(name) or _some_numbers(seen, name)
    ]
    sensors = [
        name
        for name in _likely(seen, Role.SENSOR, names)
        if has_text_form(seen.kind(name)) and name not in values
    ]
    if not sensors and not values:
        sensors, values = _states_of_entities(seen, names)
    sure = set(reading.likely.get(Role.SENSOR, ()))
    if any(name not in (*sensors, *values) and seen.is_number(name) for name in names):
        sensors = [name for name in sensors if name in sure or bare(name) not in _ALSO_STATES]
    if len(sensors) > 1 and values:
        assets = [name for name in _assets(seen, names) if name not in (*sensors, *values)]
        again = [seen.repeated([*time, *assets, name]) for name in sensors]
        sensors = [name for name, count in zip(sensors, again, strict=True) if count <= 2 * min(again)]
    for sensor in sensors:
        if seen.is_number(sensor) and not (
            sensor in sure or bare(sensor).endswith(("id", "sensor", "channel"))
        ):
            continue
        for value in values:
            return sensor, value
    return None, None


_ALSO_STATES: Final = frozenset({"event", "eventname", "target", "series", "seriesname"})
"""Names of a column of sensors, and of one of states beside several sensors."""


def _states_of_entities(seen: _Columns, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Columns of entities and their states, as home automation exports them: an entity is a sensor."""
    entities = [name for name in names if bare(name) == "entityid"]
    states = [name for name in names if bare(name) == "state" and _some_numbers(seen, name)]
    return (entities, states) if entities and states else ([], [])


def _some_numbers(seen: _Columns, name: str) -> bool:
    texts = seen.first_texts(name)
    return 2 * sum(any(c.isdigit() for c in text[:1] + text[1:2]) for text in texts) >= len(texts) > 0


def _quality(seen: _Columns, names: Sequence[str], value: str | None) -> dict[str, tuple[str, ...] | None]:
    """The columns that say whether values are to be trusted, each with the columns of these values.

    ``Temp_quality`` is about ``Temp``, be it a sensor that the stream lists or not; where no column is called so,
    about those that are but for a unit (``Temp [°C]``) or a word for the value (``Temp Value``). Of several columns
    of one name (``Quality``) each is about the columns since the one before.
    """
    likely = set(seen.reading.likely.get(Role.QUALITY, ()))
    about: dict[str, tuple[str, ...]] = {}
    for name in seen.all_names:
        plain = _IN_BRACKETS.sub("", name)
        for stem in dict.fromkeys((plain, _OF_VALUE.sub("", plain))):
            about[stem] = (*about.get(stem, ()), name)
    about |= {name: (name,) for name in seen.all_names}
    repeated = _repeated_qualities(seen, names)
    found: dict[str, tuple[str, ...] | None] = {}
    for name in names:
        if name in likely or (value is not None and named([name], Role.QUALITY)):
            found[name] = None if value is None else (value,)
        elif name in repeated and value is None:
            found[name] = repeated[name]
        elif bare(name) in _ROW_QUALITY:
            found[name] = None
        elif value is None and (sensor := _of_sensor(name)) in about and _are_codes(seen, name):
            found[name] = about[sensor or ""]
    return found


def _of_sensor(name: str) -> str | None:
    """The sensor that a column of qualities names, before or after its own word."""
    match = _OF_SENSOR.fullmatch(name) or _BEFORE_SENSOR.fullmatch(name)
    return None if match is None else match[1]


def _are_codes(seen: _Columns, name: str) -> bool:
    """Whether a column may hold qualities: words, or few whole numbers; one called Q may be a flow or a power."""
    texts = seen.first_texts(name)
    if len(set(texts)) > _MOST_CODES or any(
        re.fullmatch(r"[+-]?[0-9]+[.,]0*[1-9][0-9]*", each) for each in texts
    ):
        return False
    numbers = [each for each in texts if each.isdigit()]
    doubtful = _AGAIN.sub("", name).lower() == "q" or re.match(r"[Qq][ ._/-]", name) is not None
    if not doubtful or not numbers:
        return True
    return any(map(is_known_code, numbers)) and all(each == "0" or is_known_code(each) for each in numbers)


_MOST_CODES: Final = 12


def _repeated_qualities(seen: _Columns, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Columns of quality that the header calls the same, with the columns between each and the one before."""
    bases = {name: _AGAIN.sub("", name) for name in names if named([_AGAIN.sub("", name)], Role.QUALITY)}
    several = [
        name
        for name, base in bases.items()
        if list(bases.values()).count(base) > 1 and _are_codes(seen, name)
    ]
    found: dict[str, tuple[str, ...]] = {}
    since: list[str] = []
    for name in seen.all_names:
        if name in several:
            found[name] = tuple(since)
            since = []
        elif name in names:
            since.append(name)
    return found if all(found.values()) else {}


_OF_SENSOR: Final = re.compile(
    r"(.+?)(?<![ ._/-])[ ._/-]+(?:quality(?:[ _]?code)?|q|qc|status(?:[ _]?code)?|opcquality|validity)",
    re.IGNORECASE,
)
_BEFORE_SENSOR: Final = re.compile(r"(?:quality|q|qc|status|validity)[ ._/-]+(.+)", re.IGNORECASE)
_OF_VALUE: Final = re.compile(r"(?<![ ._/-])[ ._/-]+(?:value|val|reading|wert|pv|cv)$", re.IGNORECASE)
_AGAIN: Final = re.compile(r"\.[0-9]+$")


def listed(names: Sequence[str], more: Sequence[str] = ()) -> str:
    """Up to 20 names for a message, each shortened."""
    every = list(dict.fromkeys([*names, *more]))
    names = ", ".join(name[:60] for name in every[:20])
    return names + (f" and {len(every) - 20} more" if len(every) > 20 else "")
