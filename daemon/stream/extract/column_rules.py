"""The rules of a mapping applied to the columns of many messages of one shape.

Each rule either gives a column for all items (their assets, their times, their values), or raises ``OddError`` with
the records in which something needs a closer look. The rules are those of ``Extractor``.

Shapes: I items, B readings, C sensors, N names of sensors.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from operator import is_not
from typing import Any, Final

import msgspec
import numpy as np

from daemon.domain import BAD_QUALITY, NO_CONDITION, Floats, Ints, Mask, Reason
from daemon.stream.extract.elements import Elements, is_nothing, lacks
from daemon.stream.extract.item_keys import OWN_FORMATS
from daemon.stream.extract.numbers import number_of
from daemon.stream.extract.quality import compile_verdict
from daemon.stream.extract.sensor_index import index_of
from daemon.stream.extract.sensor_values import SensorValues
from daemon.stream.extract.shape_plans import FieldSource, ShapePlan
from daemon.stream.extract.shapes import BAD, NOT_GIVEN
from daemon.stream.extract.sources import as_text
from daemon.stream.extract.times import compile_times
from daemon.stream.fields import FieldRules
from daemon.stream.rejection import RejectedError
from daemon.stream.text_cache import remember
from daemon.stream.time_range import FUTURE_NS
from daemon.stream.timestamps import INT64_MAX

LABELS_KEPT: Final = 8192
"""Conditions whose labels are remembered."""
_NAN: Final = float("nan")
_NEGATIVE_ZERO: Final = re.compile(rb"-0(?![.eE0-9])")
_NOT_GIVEN: Final = np.array([NOT_GIVEN]).view(np.int64)[0]
_BAD: Final = np.array([BAD]).view(np.int64)[0]
_IDS: Final = frozenset((str, bytes, int))


@dataclass(frozen=True, slots=True, eq=False)
class MappedPiece:
    """Readings of many records, in the order of the records, as columns."""

    records: Ints  # (B,) the place of each reading's record, ascending
    assets: list[str]
    times: Ints  # (B,)
    values: Floats  # (B, C)
    reported: list[int]  # (B,) sets of sensors as bits
    counted: Mask  # (B,) the newest reading of each record
    conditions: list[str]
    corrupt: Mapping[int, list[tuple[int, str]]]  # by reading, ``Reading.corrupt``

    def of(self, which: Ints) -> MappedPiece:
        """The same, where the records have these places among others."""
        return replace(self, records=which[self.records])

    def odd(self, count: int) -> list[int]:
        """The places of records without a reading here, of so many records."""
        usual = np.zeros(count, bool)
        usual[self.records] = True
        return np.flatnonzero(~usual).tolist()


@dataclass(frozen=True, slots=True, eq=False)
class _Keys:
    """Whose values are: of each item, or of each reading."""

    assets: list[str]
    times: Ints
    conditions: list[str]

    def take(self, which: Ints) -> _Keys:
        """Those at these places."""
        places = which.tolist()
        return _Keys(
            [self.assets[i] for i in places], self.times[which], [self.conditions[i] for i in places]
        )


class ColumnRules:
    """Applies the rules of one mapped stream.

    Args:
        rules: of the fields of the stream; ``columns.may_have_columns`` says that it may have some.
        most: readings of one message; one with more items is odd.

    Attributes:
        names: of sensors, as cells have them.
    """

    def __init__(self, rules: FieldRules, most: int) -> None:
        spec = rules.spec
        assert spec.input is not None
        mapping, index = spec.input, index_of(spec)
        self._asset_ids, self._sensor_names, self._labels = rules.asset_ids, rules.sensor_names, rules.labels
        self._sensors, self._most = len(spec.sensors), most
        self._asset_conditions = bool(spec.assets)  # a label then depends on the asset, too
        self.names = list(index if mapping.leaves is not None or mapping.sensor else mapping.fields)
        self._places = [index[name] for name in self.names]
        self._index: dict[Any, int] = {
            **index,
            **{name.encode(errors="surrogatepass"): at for name, at in index.items()},
        }
        self._states = [rule.states for rule in spec.rules]
        self._values = SensorValues(spec.rules)
        self._words = frozenset(each for each in mapping.missing if type(each) is str)
        self._missing = [float(each) for each in mapping.missing if isinstance(each, int | float)]
        own = mapping.preset in OWN_FORMATS
        self._times = compile_times(mapping.time, rules.event_times, any_epoch=own)
        self._units = {rule.unit for rule in spec.rules}.difference((None,)) if mapping.unit else set()
        self._verdict = None if mapping.quality is None else compile_verdict(mapping.quality)
        self._trusts_true = (
            mapping.quality is not None and not mapping.quality.good and not mapping.quality.bad
        )
        self._matched: dict[tuple[Any, int | str], dict[Any, Any]] = {}  # by expression and group
        self._label_of: dict[tuple[Any, ...], str] = {}
        self._pack = struct.Struct(f"{len(self.names)}d").pack

    def piece(
        self,
        plan: ShapePlan,
        messages: list[Any],
        keys: Sequence[bytes | None],
        stamps: Ints,
        lines: Sequence[bytes],
    ) -> MappedPiece:
        """The readings of messages of a shape.

        Args:
            plan: where their fields are.
            messages: (R,) they.
            keys, stamps, lines: (R,) the keys, times and values of their records.

        Raises:
            OddError: some of them are odd.
        """
        at = Elements(plan.shape, messages, keys, lines)
        for column in plan.shape.absent:
            at.refuse_present(column)
        if not at.alone:
            counts = np.bincount(at.records, minlength=len(messages))
            at.refuse(((counts == 0) | (counts >= self._most)).tolist(), 0)
        for rule, source in plan.skips:
            at.refuse_skipped(rule, source, self._known(source))
        assets = self._assets_of(at, plan.asset)
        sensors = None if plan.value is None else self._sensors_of(at, plan)
        times = self._times_of(at, plan, stamps)
        trusted = self._trusted(at, plan.quality)
        self._refuse_units(at, plan)
        items = _Keys(assets, times, self._conditions(at, plan, assets))
        if sensors is not None:
            return self._grouped(at, items, sensors, self._value_of(at, plan, sensors, trusted))
        values, given = self._cells(at, plan)
        if trusted is not None:
            values[~trusted] = np.where(given[~trusted], BAD, np.nan)
        at.refuse(~np.asarray(given.any(1)), at.item)
        ignored = _ignored_cells(at, plan)
        if at.alone:
            made = self._made(at.records, items, values, given, np.ones(len(assets), bool))
        else:
            made = self._merged(at, items, values, given)
        for name, count in ignored:  # nothing is odd any more
            self._sensor_names.count_unknown(name, count)
        return made

    def _known(self, source: FieldSource) -> dict[Any, Any]:
        """What the expression of a source has found in texts."""
        return {} if source.match is None else self._matched.setdefault((source.match, source.group), {})

    def _first(self, at: Elements, sources: Sequence[FieldSource]) -> tuple[list[Any], int]:
        return at.first(sources, [self._known(source) for source in sources])

    # -------------------------------------------------------------- keys of items
    def _assets_of(self, at: Elements, sources: Sequence[FieldSource]) -> list[str]:
        found, level = self._first(at, sources)
        valid = self._asset_ids.valid
        if not _IDS.issuperset(map(type, found)):
            at.refuse([type(each) not in _IDS for each in found], level)
        try:
            assets = [valid[each] for each in found]
        except KeyError:
            assets = at.each(found, level, self._asset_ids.read)
        return at.spread(assets, level)

    def _times_of(self, at: Elements, plan: ShapePlan, stamps: Ints) -> Ints:
        """(I,) the event times of the items."""
        latest = np.where(stamps >= 0, np.minimum(stamps, INT64_MAX - FUTURE_NS) + FUTURE_NS, INT64_MAX)
        if not plan.time:
            at.refuse(stamps < 0, 0)
            return np.asarray(at.spread_array(stamps, 0))
        found, level = self._first(at, plan.time)
        if lacks(found):
            nothing = np.array([is_nothing(each) for each in found], bool)
            written = [each for each in found if not is_nothing(each)]
            times = at.stamps(stamps, level).copy()
            if not plan.stamped:
                times[nothing] = -1
            if written:
                times[~nothing] = self._times(written)
        else:
            times = self._times(found)
        at.refuse((times < 0) | (times > at.stamps(latest, level)), level)
        return np.asarray(at.spread_array(times, level))

    def _trusted(self, at: Elements, sources: Sequence[FieldSource]) -> Mask | None:
        """(I,) whether the values of an item are to be trusted; None: all are."""
        if not sources or self._verdict is None:
            return None
        found, level = self._first(at, sources)
        kinds = set(map(type, found))
        if kinds <= {msgspec.UnsetType} or (self._trusts_true and kinds == {bool} and False not in found):
            return None
        verdict, true = self._verdict, self._trusts_true
        trusted = [is_nothing(each) or (true and each is True) or verdict(each) for each in found]
        return None if all(trusted) else np.array(at.spread(trusted, level))

    def _refuse_units(self, at: Elements, plan: ShapePlan) -> None:
        """Refuse items that name another unit than one of the sensors."""
        if not plan.unit or not self._units:
            return
        found, level = self._first(at, plan.unit)
        one = next(iter(self._units)) if len(self._units) == 1 else None
        at.refuse([not is_nothing(each) and each != one for each in found], level)

    def _conditions(self, at: Elements, plan: ShapePlan, assets: list[str]) -> list[str]:
        """(I,) the condition labels of the items."""
        if self._labels is None:
            return [NO_CONDITION] * at.items
        columns: list[list[Any]] = [list(assets) if self._asset_conditions else [""] * at.items]
        for sources in plan.condition.values():
            found, level = self._first(at, sources) if sources else ([msgspec.UNSET] * at.items, at.item)
            columns.append(at.spread(found, level))
        labels, names = self._labels, list(plan.condition)

        def label(place: int) -> str:
            raw = [column[place] for column in columns[1:]]
            key = (columns[0][place], *((type(each), each) for each in raw))
            try:
                known = self._label_of.get(key)
            except TypeError:  # an object or an array
                raise RejectedError(Reason.BAD_CONDITION, "") from None
            if known is None:
                if "" in raw:
                    raise RejectedError(Reason.BAD_CONDITION, "")
                given = {
                    name: as_text(each) if type(each) is bytes else each
                    for name, each in zip(names, raw, strict=True)
                    if each is not msgspec.UNSET
                }
                known = labels.label(given, assets[place])
                remember(self._label_of, key, known, LABELS_KEPT)
            return known

        return at.each(range(at.items), at.item, label)

    # -------------------------------------------------------------- values
    def _sensors_of(self, at: Elements, plan: ShapePlan) -> Ints:
        """(I,) the places of the items' sensors, where each has one value."""
        names, level = self._first(at, plan.sensor)
        index = self._index
        try:
            places = [index[name] for name in names]
        except (KeyError, TypeError):  # another sensor, or no name at all
            named = (name if type(name) in (str, bytes) else None for name in names)
            at.refuse([name not in index for name in named], level)
            raise
        return np.array(at.spread(places, level), np.int64)

    def _value_of(self, at: Elements, plan: ShapePlan, sensors: Ints, trusted: Mask | None) -> Floats:
        """(I,) the values of items with one value each."""
        assert plan.value is not None
        found = at.spread(at.column(plan.value), plan.value.level)
        kinds = set(map(type, found))
        if str in kinds:

            def number(place: int) -> Any:
                each = found[place]
                return self._number(each, int(sensors[place])) if type(each) is str else each

            found = at.each(range(at.items), at.item, number)
        if msgspec.UnsetType in kinds:
            nothing = np.array([each is msgspec.UNSET for each in found])
            at.refuse(nothing if trusted is None else nothing & trusted, at.item)
            found = [_NAN if each is msgspec.UNSET else each for each in found]
        values = np.array(found, np.float64)
        _refuse_infinite(at, values, at.item)
        if trusted is not None:
            values[~trusted] = BAD
        return values

    def _number(self, found: Any, sensor: int) -> float:
        """The raw number of a cell; NaN for a word that the mapping lists for no value."""
        if type(found) is str and found in self._words:
            return _NAN
        return number_of(found, self._states[sensor])

    def _cells(self, at: Elements, plan: ShapePlan) -> tuple[Floats, Mask]:
        """(I, C) the values of the items, and which of them are given."""
        if plan.cells is not None:
            cells, level = at.column(plan.cells), plan.cells.level
            rows = [msgspec.structs.astuple(each)[: len(self.names)] for each in cells]
        else:
            columns = [at.spread(at.column(field), field.level) for field in plan.fields]
            rows, level = list(zip(*columns, strict=True)), at.item
        try:
            values = np.frombuffer(b"".join(starmap(self._pack, rows)), np.float64)
            absent = values.view(np.int64) == _NOT_GIVEN
        except struct.error:  # a null, which stands for no value; or a text of a sensor with states
            absent = np.array([each is NOT_GIVEN for row in rows for each in row], bool)

            def numbers(row: Sequence[Any]) -> list[float]:
                return list(map(self._number, row, self._places))

            values = np.array(at.each(rows, level, numbers), np.float64)
        values = values.reshape(len(rows), len(self.names))
        _refuse_infinite(at, values, level)
        values, given = self._by_sensor(at, values, ~absent.reshape(values.shape), level)
        values = np.where(given, values, np.nan)
        return at.spread_array(values, level), at.spread_array(given, level)

    def _by_sensor(self, at: Elements, values: Floats, given: Mask, level: int) -> tuple[Floats, Mask]:
        """Columns of names as columns of sensors, of which one may have several names."""
        if self._places == list(range(self._sensors)):
            return values, given
        count = len(values)
        made, has = np.full((count, self._sensors), np.nan), np.zeros((count, self._sensors), bool)
        for column, place in enumerate(self._places):
            at.refuse(has[:, place] & given[:, column], level)
            some = given[:, column]
            made[some, place] = values[some, column]
            has[:, place] |= some
        return made, has

    # -------------------------------------------------------------- readings
    def _grouped(self, at: Elements, items: _Keys, sensors: Ints, values: Floats) -> MappedPiece:
        """Items with one value each: those of one record, asset and time are one reading."""
        first, of = _runs(at, items)
        made = np.full((len(first), self._sensors), np.nan)
        given = np.zeros(made.shape, bool)
        given[of, sensors] = True
        if int(given.sum()) < at.items:
            at.refuse_items(_repeated(of * self._sensors + sensors))
        made[of, sensors] = values
        return self._ordered(at.records[first], items.take(first), made, given)

    def _merged(self, at: Elements, items: _Keys, values: Floats, given: Mask) -> MappedPiece:
        """Items with many values: those of one record, asset and time are one reading."""
        first, of = _runs(at, items)
        if len(first) < at.items:
            places, sensors = np.nonzero(given)
            cells = of[places] * self._sensors + sensors
            made = np.full((len(first), self._sensors), np.nan)
            has = np.zeros(made.shape, bool)
            has[of[places], sensors] = True
            if int(has.sum()) < len(cells):
                at.refuse_items(places[_repeated(cells)])
            made[of[places], sensors] = values[places, sensors]
            values, given = made, has
        return self._ordered(at.records[first], items.take(first), values, given)

    def _ordered(self, records: Ints, keys: _Keys, values: Floats, given: Mask) -> MappedPiece:
        """Readings, those of one record by their times."""
        same = records[1:] == records[:-1]
        if (same & (keys.times[1:] < keys.times[:-1])).any():
            order = np.lexsort((keys.times, records))
            keys, values, given = keys.take(order), values[order], given[order]
        return self._made(records, keys, values, given, np.append(~same, True))

    def _made(self, records: Ints, keys: _Keys, values: Floats, given: Mask, counted: Mask) -> MappedPiece:
        corrupt: dict[int, list[tuple[int, str]]] = {}
        if self._verdict is not None:
            bad = values.view(np.int64) == _BAD
            values[bad] = np.nan
            for i, sensor in np.argwhere(bad).tolist():
                corrupt.setdefault(i, []).append((sensor, BAD_QUALITY))
        if self._missing:
            values[np.isin(values, self._missing)] = np.nan
        self._values.apply(values)
        return MappedPiece(
            records, keys.assets, keys.times, values, bits_of(given), counted, keys.conditions, corrupt
        )


def _runs(at: Elements, items: _Keys) -> tuple[Ints, Ints]:
    """The first item of each reading, and (I,) the reading of each item.

    Raises:
        OddError: items of one reading have others between them.
    """
    records, assets, times = at.records, items.assets, items.times
    new = np.ones(at.items, bool)
    new[1:] = (records[1:] != records[:-1]) | (times[1:] != times[:-1])
    new[1:] |= np.fromiter(map(is_not, assets[1:], assets), bool, max(0, len(assets) - 1))
    first = np.flatnonzero(new)
    if (records[first][1:] == records[first][:-1]).any():  # records of several readings
        seen: set[tuple[int, str, int]] = set()
        odd = []
        for i in first.tolist():
            key = int(records[i]), assets[i], int(times[i])
            if key in seen:
                odd.append(i)
            seen.add(key)
        if odd:
            at.refuse_items(np.array(odd))
    return first, np.cumsum(new) - 1


def _repeated(cells: Ints) -> Ints:
    """The places of numbers that came before."""
    order = np.argsort(cells, kind="stable")
    return np.asarray(order[1:][cells[order][1:] == cells[order][:-1]])


def bits_of(given: Mask) -> list[int]:
    """(B, C) masks as sets of bits."""
    if given.all():
        return [(1 << given.shape[1]) - 1] * len(given)
    packed = np.packbits(given, 1, "little")
    return [int.from_bytes(row, "little") for row in packed]


def _refuse_infinite(at: Elements, values: Floats, level: int) -> None:
    """Refuse what is no finite number; and the text -0, of which a tree makes an integer without a sign."""
    endless = np.isinf(values)
    if endless.any():
        at.refuse(np.asarray(endless.reshape(len(values), -1).any(1)), level)
    negative = (values == 0.0) & np.signbit(values)
    if negative.any():
        odd = negative.reshape(len(values), -1).any(1)
        odd[odd] = at.matches(_NEGATIVE_ZERO, np.flatnonzero(odd), level)
        at.refuse(odd, level)


def _ignored_cells(at: Elements, plan: ShapePlan) -> list[tuple[str, int]]:
    """How many cells there are of each name that is no sensor; below an object there may be sensors."""
    counts: list[tuple[str, int]] = []
    for name, get in plan.ignored.items():
        assert plan.cells is not None
        found = at.spread(list(map(get, at.column(plan.cells))), plan.cells.level)
        if dict in set(map(type, found)):
            at.refuse([type(each) is dict for each in found], at.item)
        counts.append((name, sum(type(each) not in (msgspec.UnsetType, list) for each in found)))
    return counts
