"""The extractor of one stream: a tree to the readings that are in it.

An item of ``each`` has one asset, one event time, and one or many values. The values of an item, and of all
items of the same asset and time, become one ``Reading`` with a number per sensor of the stream and the set of
those that are reported. Readings of a message are in the order of their event times.

What cannot be used costs as little as possible: a value that is no number is one corrupt cell; an item without
an asset or a time is refused alone, and counted; a message is rejected only where nothing of it is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from daemon.domain import Reading, Reason, Record, StreamSpec
from daemon.mapping import InputMapping, Key, LeavesRule, Path
from daemon.stream.accounts import displace
from daemon.stream.extract.items import SkippedError, compile_each, compile_skip
from daemon.stream.extract.numbers import NotANumberError, number_of
from daemon.stream.extract.paths import ABSENT, Lookup, Scope, compile_path, where_it_ends
from daemon.stream.extract.quality import compile_quality
from daemon.stream.extract.sensor_values import SensorValues
from daemon.stream.extract.sources import absence, as_text, compile_sources
from daemon.stream.extract.times import compile_time
from daemon.stream.fields import AssetIds, ConditionLabels, SensorNames
from daemon.stream.rejection import RejectedError
from daemon.stream.timestamps import EventTimes

Cell = tuple[str, Any]
"""A sensor's name as the message has it, and its value."""
Cells = Callable[[Scope, Record], Iterator[Cell]]
_NAN = float("nan")


class ExtractedCell(NamedTuple):
    """One value of a message, before anything is known of its sensor."""

    asset: str
    time_ns: int
    sensor: str
    value: Any  # as the tree has it
    trusted: bool  # its quality is not bad


class Extractor:
    """Readings of messages by one mapping.

    Args:
        spec: the stream; ``spec.input`` is the mapping.
        asset_ids, sensor_names, event_times, labels: the stream's rules for each of these.
        note_corrupt: called with the sensor, fault and value of each cell that is no number.

    Attributes:
        refused_items: items that could not be used in messages that could, by reason; but for those of sensors
            that the stream does not list, which are counted as unknown cells.
        skipped_items: items that a rule has skipped in messages that have others, by the rule's name.
    """

    def __init__(
        self,
        spec: StreamSpec,
        asset_ids: AssetIds,
        sensor_names: SensorNames,
        event_times: EventTimes,
        labels: ConditionLabels | None,
        note_corrupt: Callable[[int, str, Any], None],
    ) -> None:
        assert spec.input is not None
        mapping = spec.input
        self.refused_items: Counter[str] = Counter()
        self.skipped_items: Counter[str] = Counter()
        self._mapping = mapping
        self._sensors = spec.sensors
        self._states = [rule.states for rule in spec.rules]
        self._values = SensorValues(spec.rules)
        self._asset_ids, self._sensor_names, self._labels = asset_ids, sensor_names, labels
        self._note_corrupt = note_corrupt
        self._check_skip = compile_skip(mapping.skip)
        self._skips_null = any(rule.path is None for rule in mapping.skip)
        self._items = compile_each(mapping.each)
        self._asset = compile_sources(mapping.asset)
        self._time = compile_time(mapping.time, event_times)
        self._cells = _compile_cells(mapping)
        self._trusted = None if mapping.quality is None else compile_quality(mapping.quality)
        self._missing = mapping.missing
        self._condition = {name: compile_sources(sources) for name, sources in mapping.condition.items()}

    def check_value(self, value: bytes) -> None:
        """Skip a record without a value, where the mapping says so."""
        if not value and self._skips_null:
            raise SkippedError("null_value")

    def readings(self, tree: Any, record: Record) -> list[Reading]:
        """The readings of a message, one at least.

        Raises:
            SkippedError: a rule of the mapping skips it, or it has no items.
            RejectedError: nothing of it can be used; with the path and what was found there.
        """
        items = self._items_of(tree)
        found: dict[tuple[str, int], Reading] = {}
        refused: list[RejectedError] = []
        for scope in items:
            try:
                self._read_item(scope, record, found)
            except RejectedError as error:
                refused.append(error)
        if not found:
            raise refused[0]
        for why in refused:
            if why.reason is not Reason.UNKNOWN_SENSOR:
                self.refused_items[why.reason] += 1
        readings = sorted(found.values(), key=lambda reading: reading.time_ns)
        for reading in readings[:-1]:
            reading.counted = False
        return readings

    def survey(self, tree: Any, record: Record) -> tuple[list[ExtractedCell], list[RejectedError]]:
        """Every cell of a message, of whatever sensor, and why items of it cannot be used.

        Raises:
            SkippedError, RejectedError: see ``readings``.
        """
        items = self._items_of(tree)
        cells: list[ExtractedCell] = []
        faults: list[RejectedError] = []
        for scope in items:
            try:
                asset, time_ns, trusted = self._keys(scope, record)
                before = len(cells)
                for name, value in self._cells(scope, record):
                    cells.append(ExtractedCell(asset, time_ns, name, value, trusted))
                if len(cells) == before:
                    raise RejectedError(Reason.NO_VALUES, self._no_values(scope))
            except RejectedError as error:
                faults.append(error)
        return cells, faults

    def _items_of(self, tree: Any) -> list[Scope]:
        self._check_skip(tree)
        items = self._items(tree)
        if items is None:
            places = " or ".join(where_it_ends(path, (tree, None, None)) for path in self._mapping.each[:3])
            raise RejectedError(Reason.NO_VALUES, places)
        if not items:
            raise SkippedError("no_items")
        return items

    def _keys(self, scope: Scope, record: Record) -> tuple[str, int, bool]:
        """The asset and event time of an item, and whether its values are to be trusted."""
        given = self._asset(scope, record)
        if given is ABSENT or given is None:
            raise RejectedError(Reason.NO_ASSET, absence(self._mapping.asset, scope))
        asset = self._asset_ids.read(given)
        time_ns = self._time(scope, record)
        return asset, time_ns, self._trusted is None or self._trusted(scope, record)

    def _read_item(self, scope: Scope, record: Record, found: dict[tuple[str, int], Reading]) -> None:
        """Add the values of one item to the reading of its asset and time."""
        asset, time_ns, trusted = self._keys(scope, record)
        values, cells, unknown = None, 0, ""
        reading = found.get((asset, time_ns))
        for name, value in self._cells(scope, record):
            cells += 1
            place = self._sensor_names.find(name)
            if place is None:
                unknown = unknown or name
                continue
            if values is None:
                if reading is None:
                    reading = Reading(
                        record.offset,
                        asset,
                        time_ns,
                        [_NAN] * len(self._sensors),
                        condition=self._label(scope, record, asset),
                        stamp_ns=record.timestamp_ns,
                        reported=0,
                    )
                    found[asset, time_ns] = reading
                values = reading.values
            assert reading is not None
            self._put(reading, place, value, trusted)
        if values is not None:
            return
        if not cells:
            raise RejectedError(Reason.NO_VALUES, self._no_values(scope))
        raise RejectedError(Reason.UNKNOWN_SENSOR, self._sensor_names.unknown_detail(unknown))

    def _put(self, reading: Reading, place: int, value: Any, trusted: bool) -> None:
        """Put the value of a sensor into a reading; a corrupt or untrusted one is missing there."""
        assert isinstance(reading.values, list)
        fault = ""
        try:
            number = self._number(value, place) if trusted else _NAN
        except NotANumberError as error:
            number, fault = _NAN, error.fault
            self._note_corrupt(place, fault, value)
        if reading.reported >> place & 1:
            displace(reading, place, number, fault)
            return
        reading.values[place] = number
        reading.reported |= 1 << place
        if fault:
            reading.corrupt = [*reading.corrupt, (place, fault)]

    def _number(self, value: Any, place: int) -> float:
        if self._missing and type(value) not in (dict, list) and value in self._missing:
            return _NAN
        number = number_of(value, self._states[place])
        return number if self._values.plain else self._values.apply_one(number, place)

    def _label(self, scope: Scope, record: Record, asset: str) -> str:
        if self._labels is None:
            return ""
        given = {}
        for name, read in self._condition.items():
            value = read(scope, record)
            given[name] = None if value is ABSENT else as_text(value) if type(value) is bytes else value
        return self._labels.label(given, asset)

    def _no_values(self, scope: Scope) -> str:
        mapping = self._mapping
        if mapping.sensor:
            return absence(mapping.sensor, scope)
        if mapping.leaves is not None:
            return f"no number below {where_it_ends(mapping.leaves.under, scope)}"
        return "none of the mapped fields is there"


# ------------------------------------------------------------------ the shapes of an item
def _compile_cells(mapping: InputMapping) -> Cells:
    """The function that gives the cells of an item, by the mapping's shape."""
    if mapping.sensor:
        return _one_cell(mapping)
    if mapping.leaves is not None:
        return _leaves(mapping.leaves, _own_places(mapping))
    finds = [(name, _first_of(paths)) for name, paths in mapping.fields.items()]

    def fields(scope: Scope, record: Record) -> Iterator[Cell]:
        for name, find in finds:
            found = find(scope)
            if found is not ABSENT:
                yield name, found

    return fields


def _first_of(paths: tuple[Path, ...]) -> Lookup:
    """The first of the places that has something that is no object."""
    finds = [compile_path(path) for path in paths]
    if len(finds) == 1:
        return finds[0]

    def first(scope: Scope) -> Any:
        found: Any = ABSENT
        for find in finds:
            value = find(scope)
            if value is not ABSENT and type(value) is not dict:
                return value
            found = value if found is ABSENT else found
        return found

    return first


def _one_cell(mapping: InputMapping) -> Cells:
    sensor, value = compile_sources(mapping.sensor), _first_of(mapping.value)

    def cell(scope: Scope, record: Record) -> Iterator[Cell]:
        name = as_text(sensor(scope, record))
        if name is ABSENT:
            raise RejectedError(Reason.NO_SENSOR, absence(mapping.sensor, scope))
        found = value(scope)
        if found is ABSENT:
            found = None
        yield name, found

    return cell


def _own_places(mapping: InputMapping) -> frozenset[str]:
    """The first field of every place in the item that holds something else than a value: no leaf begins there."""
    sources = [*mapping.asset, *mapping.time.sources, *mapping.time.nanos]
    sources += [] if mapping.quality is None else mapping.quality.sources
    for each in mapping.condition.values():
        sources += each
    names = set()
    assert mapping.leaves is not None
    depth = len(mapping.leaves.under.steps)
    for source in sources:
        path = source.path
        if path is None or path.up != mapping.leaves.under.up or len(path.steps) <= depth:
            continue
        step = path.steps[depth]
        if path.steps[:depth] == mapping.leaves.under.steps and isinstance(step, Key):
            names.add(step.name)
    return frozenset(names)


def _leaves(rule: LeavesRule, own: frozenset[str]) -> Cells:
    find, separator, left_out = compile_path(rule.under), rule.separator, rule.leave_out | own

    def walk(prefix: str, found: Any) -> Iterator[Cell]:
        for name, value in found.items():
            if name in left_out or (prefix and prefix + name in left_out):
                continue
            if type(value) is dict:
                yield from walk(prefix + name + separator, value)
            elif type(value) is not list:
                yield prefix + name, value

    def leaves(scope: Scope, record: Record) -> Iterator[Cell]:
        found = find(scope)
        if type(found) is dict:
            yield from walk("", found)

    return leaves
