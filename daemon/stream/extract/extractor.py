"""The extractor of one stream: a tree to the readings that are in it.

An item of ``each`` has one asset, one event time, and one or many values. The values of an item, and of all
items of the same asset and time, become one ``Reading`` with a number per sensor of the stream and the set of
those that are reported. Readings of a message are in the order of their event times. Where values of a sensor are
reduced to one (``reduce``) each of them counts, and comes in a reading of its own (``repetitions``).

What cannot be used costs as little as possible: a value that is no number is one corrupt cell; an item without
an asset or a time is refused alone, and counted; a message is rejected only where nothing of it is left.

Where each cell has an asset, a time or a quality of its own (``rename`` to assets, ``[$name]``, exploded waves),
items are read cell by cell (``_spread``). Else all cells of an item share these (``_read_item``); the two commonest
shapes, leaves at the root of an item and one value per item, go a shorter way to the same readings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from daemon.domain import BAD_QUALITY, NO_CONDITION, Reading, Reason, Record
from daemon.mapping import Assembly, Bound, InputMapping, Reduce, Source
from daemon.stream.accounts import displace
from daemon.stream.extract.cells import Cell, Cells, Leaves, compile_cells, compile_value, no_cells
from daemon.stream.extract.item_keys import ItemKeys
from daemon.stream.extract.items import compile_each_counted, compile_skip
from daemon.stream.extract.numbers import NotANumberError, number_of
from daemon.stream.extract.paths import ABSENT, Scope, where_they_end
from daemon.stream.extract.repetitions import Repetitions
from daemon.stream.extract.sensor_index import index_of
from daemon.stream.extract.sensor_values import SensorValues
from daemon.stream.extract.sources import as_text, compile_sources
from daemon.stream.extract.units import Units
from daemon.stream.extract.waves import compile_step, features
from daemon.stream.fields import FieldRules
from daemon.stream.rejection import RejectedError, SkippedError
from daemon.stream.time_range import check_time

MOST_CELLS: Final = 1 << 22
"""Numbers in the readings of one message, at most: 32 MB. Items beyond are refused as too large."""
_NAN: Final = float("nan")
Found = dict[tuple[str, int], Reading]


class ExtractedCell(NamedTuple):
    """One value of a message, before anything is known of its sensor."""

    asset: str
    time_ns: int
    sensor: str
    value: Any  # as the tree has it
    trusted: bool  # its quality is not bad
    unit: Any = None  # as the tree has it


class _RefusedItems:
    """The items of a message that cannot be used: the first, and how many by reason."""

    def __init__(self, first: RejectedError) -> None:
        self.first = first.with_traceback(None)
        self.reasons: Counter[str] = Counter()


class Extractor:
    """Readings of messages by one mapping.

    Args:
        rules: of the fields of the stream, whose ``input`` is the mapping.
        note_corrupt: called with the place of the sensor, the fault and the value of each cell that is no number.

    Attributes:
        refused_items: items that could not be used in messages that could, by reason; but for those of sensors
            that the stream does not list, which are counted as unknown cells.
        skipped_items: items that a rule has skipped in messages that have others, by the rule's name.
    """

    def __init__(
        self,
        rules: FieldRules,
        note_corrupt: Callable[[int, str, Any], None],
    ) -> None:
        spec = rules.spec
        assert spec.input is not None
        mapping = spec.input
        self.refused_items: Counter[str] = Counter()
        self.skipped_items: Counter[str] = Counter()
        self._mapping = mapping
        self._sensors = spec.sensors
        self._states = [rule.states for rule in spec.rules]
        self._values = SensorValues(spec.rules)
        self._sensor_names, self._labels = rules.sensor_names, rules.labels
        self._note_corrupt = note_corrupt
        self._skips = compile_skip(mapping.skip, items=False)
        self._skips_item = compile_skip(mapping.skip, items=True)
        self._skips_null = any(rule.source is None for rule in mapping.skip)
        self._items = compile_each_counted(mapping.each)
        places = " or ".join(path.text for path in mapping.each)
        self._no_items = f"nothing in {places}" if places else "an array without an element"
        self._keys = ItemKeys(mapping, rules.asset_ids, rules.event_times)
        self._time, self._trusted = self._keys.time, self._keys.trusted
        self._cells = compile_cells(mapping)
        self._missing = _with_floats(mapping.missing)
        self._units = Units(spec.rules) if mapping.unit and any(rule.unit for rule in spec.rules) else None
        self._given_unit: Any = None  # that of the item, or the cell, which is read
        self._plain = not self._missing and self._values.plain and self._units is None
        self._condition = {name: compile_sources(sources) for name, sources in mapping.condition.items()}
        self._wave = mapping.wave
        if self._wave is not None and self._wave.reduce:
            self._cells = _reduced(self._cells, self._wave.reduce)
        explodes = self._wave is not None and not self._wave.reduce
        self._step = compile_step(self._wave) if self._wave is not None and explodes else None
        self._rename = mapping.rename
        self._by_cell = differs_by_cell(mapping)
        spreads = self._by_cell or explodes or bool(mapping.sensor and self._wave)
        self._index = index_of(spec, {} if spreads else mapping.rename)
        self._leaves = Leaves(mapping) if mapping.leaves is not None else None
        self._most = most_readings(len(self._sensors))
        self._read = self._read_item
        self._whole = mapping.assembly is Assembly.WHOLE
        reduced = sum(1 << c for c, rule in enumerate(spec.rules) if rule.reduce is not Reduce.FIRST)
        self._reduced = 0 if self._whole else reduced
        self._apart = self._whole and reduced > 0  # each item is a row of its own
        self._more = Repetitions(len(spec.sensors))
        if spreads:
            self._read = self._read_spread
        elif self._leaves is not None and self._wave is None and self._leaves.is_plain(self._index):
            self._read = self._read_leaves
        elif mapping.sensor:
            self._value = compile_value(mapping.value)
            self._who = self._keys.compile_whose(self._index)
            self._read = self._read_one

    def check_value(self, value: bytes) -> None:
        """Skip a record without a value, where the mapping says so."""
        if not value and self._skips_null:
            raise SkippedError("null_value")

    def check_skip(self, tree: Any, record: Record) -> None:
        """Skip a message (``SkippedError``), where the mapping says so."""
        if self._skips is not None and (rule := self._skips((tree, None, None), record)) is not None:
            raise SkippedError(rule)

    def readings(self, tree: Any, record: Record) -> list[Reading]:
        """The readings of a message, one at least.

        Raises:
            SkippedError: a rule of the mapping skips it, or it has no items.
            RejectedError: nothing of it can be used; with the path and what was found there.
        """
        found: Found = {}
        read, refused = self._read, None
        self._more.clear()
        items, misfits = self._items_of(tree, record)
        for scope in items:
            try:
                read(scope, record, found)
            except RejectedError as error:
                refused = refused or _RefusedItems(error)
                refused.reasons[error.reason] += 1
            if self._apart:
                self._more.readings += found.values()
                found.clear()
        readings = [*found.values(), *self._more.readings]
        if refused is not None:
            if not readings:
                raise refused.first
            del refused.reasons[Reason.UNKNOWN_SENSOR]
            self.refused_items += refused.reasons
        if misfits:
            self.refused_items[Reason.NO_VALUES] += len(misfits)
        if len(readings) > 1:
            readings.sort(key=_time_of)
            for reading in readings[:-1]:
                reading.counted = False
        return readings

    def survey(self, tree: Any, record: Record) -> tuple[list[ExtractedCell], list[RejectedError]]:
        """Every cell of a message, of whatever sensor, and why items of it cannot be used.

        Raises:
            SkippedError, RejectedError: see ``readings``.
        """
        cells: list[ExtractedCell] = []
        faults: list[RejectedError] = []
        items, misfits = self._items_of(tree, record)
        faults += [
            RejectedError(Reason.NO_VALUES, "an element beside others that `each` does not fit")
        ] * len(misfits)
        for scope in items:
            before = len(cells) + len(faults)
            try:
                for cell in self._spread(scope, record):
                    (faults if isinstance(cell, RejectedError) else cells).append(cell)  # type: ignore[arg-type]
                if len(cells) + len(faults) == before:
                    raise RejectedError(Reason.NO_VALUES, no_cells(self._mapping, scope))
            except RejectedError as error:
                faults.append(error.with_traceback(None))
        return cells, faults

    # ------------------------------------------------------------------ items
    def _items_of(self, tree: Any, record: Record) -> tuple[list[Scope], list[Scope]]:
        """The items that no rule skips; and elements beside them that are none."""
        if self._skips is not None:
            self.check_skip(tree, record)
        misfits: list[Scope] = []
        items = self._items(tree, misfits)
        if items is None:
            root: Scope = (tree, None, None)
            raise RejectedError(Reason.NO_VALUES, lambda: where_they_end(self._mapping.each, root))
        if not items:
            raise SkippedError("no_items", self._no_items)
        if self._skips_item is None:
            return items, misfits
        kept: tuple[list[Scope], list[Scope]] = ([], [])
        skipped: Counter[str] = Counter()
        for scopes, rest in zip((items, misfits), kept, strict=True):
            for scope in scopes:
                rule = self._skips_item(scope, record)
                if rule is None:
                    rest.append(scope)
                else:
                    skipped[rule] += 1
        if not kept[0]:
            raise SkippedError(min(skipped))
        self.skipped_items.update(skipped)
        return kept

    def _reading(self, asset: str, time_ns: int, scope: Scope, record: Record, found: Found) -> Reading:
        """The reading of an asset at a time, new where the message had none yet."""
        reading = found.get((asset, time_ns))
        if reading is None:
            self._check_room(len(found))
            check_time(time_ns, record)
            reading = Reading(
                record.offset,
                asset,
                time_ns,
                [_NAN] * len(self._sensors),
                condition=NO_CONDITION if self._labels is None else self._label(scope, record, asset),
                stamp_ns=record.timestamp_ns,
                reported=0,
            )
            found[asset, time_ns] = reading
        return reading

    def _check_room(self, readings: int) -> None:
        if readings + len(self._more.readings) >= self._most:
            raise RejectedError(Reason.TOO_LARGE, f"over {self._most} readings in one message")

    # ------------------------------------------------------------------ ways to read one
    def _read_leaves(self, scope: Scope, record: Record, found: Found) -> None:
        """Add the leaves of an item, whose names are those of sensors as they stand."""
        asset, time_ns, trusted = self._keys.of_item(scope, record)
        assert self._leaves is not None
        self._read_unit(scope, record)
        root, left_out = self._leaves.root(scope)
        if root is None:
            raise RejectedError(Reason.NO_VALUES, lambda: no_cells(self._mapping, scope))
        reading = self._reading(asset, time_ns, scope, record, found)
        values: list[float] = reading.values  # type: ignore[assignment]
        index, plain, reported = self._index, trusted and self._plain, reading.reported
        used, others = False, []
        for name, value in root.items():
            place = index.get(name)
            if place is None:
                if name not in left_out:
                    others.append((name, value))
                continue
            bit = 1 << place
            if plain and type(value) is float and value - value == 0.0 and not reported & bit:
                values[place] = value
                reported |= bit
            elif type(value) is dict:
                others.append((name, value))
                continue
            else:
                reading.reported = reported
                self._put(reading, place, value, trusted)
                reported = reading.reported
            used = True
        reading.reported = reported
        if others or not (used or (self._whole and not root)):  # an empty object is a row without values
            cells = [cell for name, value in others for cell in self._leaves.below(name, value, left_out)]
            if not self._put_all(reading, cells, trusted) and not used:
                self._nothing(cells, reading, scope, found)

    def _read_one(self, scope: Scope, record: Record, found: Found) -> None:
        """Add the one value of an item: the same as ``_read_item``, with less between."""
        asset, name, place = self._who(scope, record)
        time_ns = self._time(scope, record)
        if place is None:
            self._sensor_names.find(name)
            raise RejectedError(Reason.UNKNOWN_SENSOR, lambda: self._sensor_names.unknown_detail(name))
        value, bit = self._value(scope), 1 << place
        trusted = self._trusted is None or self._trusted(scope, record)
        self._read_unit(scope, record)
        if value is ABSENT and trusted:
            raise RejectedError(Reason.NO_VALUES, lambda: no_cells(self._mapping, scope))
        reading = found.get((asset, time_ns)) or self._reading(asset, time_ns, scope, record, found)
        if (
            type(value) is float
            and trusted
            and self._plain
            and value - value == 0.0
            and not reading.reported & bit
        ):
            reading.values[place] = value  # type: ignore[index]
            reading.reported |= bit
        else:
            self._put(reading, place, None if value is ABSENT else value, trusted)

    def _read_item(self, scope: Scope, record: Record, found: Found) -> None:
        """Add the cells of an item, which have one asset, time and quality."""
        asset, time_ns, trusted = self._keys.of_item(scope, record)
        self._read_unit(scope, record)
        cells = self._cells(scope, record)
        reading = found.get((asset, time_ns)) or self._reading(asset, time_ns, scope, record, found)
        if not self._put_all(reading, cells, trusted):
            self._nothing(cells, reading, scope, found)

    def _put_all(self, reading: Reading, cells: Sequence[Cell], trusted: bool) -> bool:
        """Put cells of any sensor into a reading; whether one is of a sensor of the stream."""
        index, plain, used = self._index, trusted and self._plain, False
        for name, value in cells:
            place = index.get(name)
            if place is None:
                if type(value) is not list:
                    self._sensor_names.find(name)
                continue
            used, bit = True, 1 << place
            if plain and type(value) is float and value - value == 0.0 and not reading.reported & bit:
                reading.values[place] = value  # type: ignore[index]
                reading.reported |= bit
            else:
                self._put(reading, place, value, trusted)
        return used

    def _nothing(self, cells: Sequence[Cell], reading: Reading, scope: Scope, found: Found) -> None:
        """Refuse an item that has no value of a sensor of the stream."""
        if not reading.reported:
            del found[reading.asset, reading.time_ns]
        if not cells:
            raise RejectedError(Reason.NO_VALUES, lambda: no_cells(self._mapping, scope))
        name = cells[0][0]
        raise RejectedError(Reason.UNKNOWN_SENSOR, lambda: self._sensor_names.unknown_detail(name))

    def _read_spread(self, scope: Scope, record: Record, found: Found) -> None:
        """Add the cells of an item, each with an asset, a time and a quality of its own."""
        faults: list[RejectedError] = []
        used, unknown = 0, None
        for cell in self._spread(scope, record):
            if isinstance(cell, RejectedError):
                faults.append(cell)
                continue
            try:
                place = self._index.get(cell.sensor)
                if place is None:
                    self._sensor_names.find(cell.sensor)
                    unknown = unknown or cell.sensor
                    continue
                reading = self._reading(cell.asset, cell.time_ns, scope, record, found)
                self._given_unit = cell.unit
                self._put(reading, place, cell.value, cell.trusted)
                used += 1
            except RejectedError as error:
                faults.append(error.with_traceback(None))
        if used:
            self.refused_items.update(fault.reason.value for fault in faults)
        elif faults:
            raise faults[0]
        elif unknown is not None:
            raise RejectedError(Reason.UNKNOWN_SENSOR, self._sensor_names.unknown_detail(unknown))
        else:
            raise RejectedError(Reason.NO_VALUES, lambda: no_cells(self._mapping, scope))

    def _spread(self, scope: Scope, record: Record) -> Iterator[ExtractedCell | RejectedError]:
        """The cells of an item with all that holds for each; or why one of them cannot be used."""
        keys = None if self._by_cell else self._keys.of_item(scope, record)
        step = None
        for name, value in self._cells(scope, record):
            target, sensor = self._rename.get(name, (None, name))
            try:
                asset, time_ns, trusted = keys or self._keys.of_cell(name, target, scope, record)
            except RejectedError as error:
                yield error.with_traceback(None)
                continue
            if value is ABSENT:
                if trusted:
                    yield RejectedError(Reason.NO_VALUES, no_cells(self._mapping, scope))
                    continue
                value = None
            unit = self._keys.unit and self._keys.unit((scope[0], name, scope[2]), record)
            if self._step is None or type(value) is not list:
                yield ExtractedCell(asset, time_ns, sensor, value, trusted, unit)
                continue
            step = step or self._step(scope, record) * 1e9
            for at, sample in enumerate(value):
                yield ExtractedCell(asset, time_ns + round(at * step), sensor, sample, trusted, unit)

    @property
    def converted(self) -> Mapping[tuple[int, str], int]:
        """Numbers that came in another unit than their sensor's, by the sensor's place and that unit."""
        return {} if self._units is None else self._units.counts

    def _read_unit(self, scope: Scope, record: Record) -> None:
        if self._units is not None:
            assert self._keys.unit is not None
            self._given_unit = self._keys.unit(scope, record)

    # ------------------------------------------------------------------ one value
    def _put(self, reading: Reading, place: int, value: Any, trusted: bool) -> None:
        """Put the value of a sensor into a reading; a corrupt or untrusted one is missing there."""
        fault = ""
        try:
            number = self._number(value, place) if trusted else _NAN
        except NotANumberError as error:
            number, fault = _NAN, error.fault
            self._note_corrupt(place, fault, value)
        if reading.reported >> place & 1:
            if not self._reduced >> place & 1:
                displace(reading, place, number, fault)
                return
            if self._more.is_new(reading, place):
                self._check_room(1)
            reading = self._more.next(reading, place)
        assert isinstance(reading.values, list)
        reading.values[place] = number
        reading.reported |= 1 << place
        if fault or not trusted:
            reading.corrupt = [*reading.corrupt, (place, fault or BAD_QUALITY)]

    def _number(self, value: Any, place: int) -> float:
        missing = self._missing
        if missing and type(value) is not dict and type(value) is not list and value in missing:
            return _NAN
        number = number_of(value, self._states[place])
        if missing and number in missing:
            return _NAN
        if self._units is not None and number == number:
            number = self._units.converted(number, place, self._given_unit)
        return number if self._values.plain else self._values.apply_one(number, place)

    def _label(self, scope: Scope, record: Record, asset: str) -> str:
        assert self._labels is not None
        given = {}
        for name, read in self._condition.items():
            value = read(scope, record)
            given[name] = None if value is ABSENT else as_text(value) if type(value) is bytes else value
        return self._labels.label(given, asset)


def _with_floats(missing: frozenset[object]) -> frozenset[object]:
    """Words and numbers for no value, the numbers as floats too."""
    return missing | {float(word) for word in missing if isinstance(word, int | float)}


def most_readings(sensors: int) -> int:
    """Readings of one message, at most."""
    return max(1, MOST_CELLS // max(1, sensors))


def _reduced(cells: Cells, wanted: tuple[str, ...]) -> Cells:
    """The same cells, with the features of each array in its place."""

    def reduced(scope: Scope, record: Record) -> list[Cell]:
        found: list[Cell] = []
        for name, value in cells(scope, record):
            if type(value) is list:
                found += features(name, value, wanted)
            else:
                found.append((name, value))
        return found

    return reduced


def _time_of(reading: Reading) -> int:
    return reading.time_ns


def differs_by_cell(mapping: InputMapping) -> bool:
    """Whether the cells of an item have assets, times or qualities of their own."""
    sources = [*mapping.asset, *mapping.time.sources, *mapping.time.plus]
    sources += [] if mapping.quality is None else mapping.quality.sources
    sources += mapping.unit
    if mapping.sensor:  # the item has one cell, and ``$name`` is the key of the item
        sources = []
    return any(_is_bound(source) for source in sources) or any(
        asset is not None for asset, _ in mapping.rename.values()
    )


def _is_bound(source: Source) -> bool:
    bound = source.path is not None and any(isinstance(step, Bound) for step in source.path.steps)
    return bound or any(map(_is_bound, source.parts))
