"""Where a mapping's values and keys are in one shape of its messages: places in the structs that they decode into.

A source of keys is a list of fallbacks. The first ones that are plain fields (or the record's key, a constant, the
name of an item) have columns here; where none of them has anything, the record goes the long way, by ``Extractor``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from daemon.mapping import InputMapping, Key, Origin, Path, SkipRule, Source, Sources
from daemon.stream.extract.cells import Leaves
from daemon.stream.extract.shapes import Column, Kind, Shape, UnfitError, each_of

Way = tuple[tuple[int, bool], int]
"""See ``shapes.ways_of``."""
MESSAGE: Final = 0


@dataclass(frozen=True, slots=True)
class FieldSource:
    """One place that a key may come from: a field, or what the record has."""

    origin: Origin  # PATH, KEY, NAME or CONSTANT
    column: Column | None = None  # PATH; of NAME its level alone
    text: str = ""  # CONSTANT
    match: re.Pattern[str] | None = None
    group: int | str = 0


@dataclass(frozen=True, slots=True, eq=False)
class ShapePlan:
    """The places of one shape.

    Attributes:
        parse, parse_texts: see ``Shape.compile``.
        cells: of items with many values: a struct, whose first ``len(names)`` fields are the sensors'.
        fields: of items with named fields: one column for each name.
        value: of items with one value.
        ignored: columns, seen from the cells, of names that are no sensors.
        stamped: whether the record's time counts where no source of the time has one.
    """

    shape: Shape
    parse: Callable[[bytes], Any]
    parse_texts: Callable[[bytes], Any]
    cells: Column | None
    fields: tuple[Column, ...]
    value: Column | None
    ignored: Mapping[str, Callable[[Any], Any]]
    asset: tuple[FieldSource, ...]
    sensor: tuple[FieldSource, ...]
    time: tuple[FieldSource, ...]
    stamped: bool
    quality: tuple[FieldSource, ...]
    unit: tuple[FieldSource, ...]
    condition: Mapping[str, tuple[FieldSource, ...]]
    skips: tuple[tuple[SkipRule, FieldSource], ...]


def plan_of(
    mapping: InputMapping, way: Way, names: Sequence[str], ignored: Sequence[str], *, texts: bool
) -> ShapePlan:
    """The plan of one shape of a mapping.

    Args:
        mapping: it.
        way: which shape; see ``shapes.ways_of``.
        names: of sensors, as cells have them.
        ignored: names beside them that are no sensors.
        texts: whether a sensor has states.

    Raises:
        UnfitError: there is no such shape, or its columns cannot say all that the mapping asks for.
    """
    (which, in_array), at = way
    each = each_of(mapping, which)
    shape = Shape(each, ends_in_array=in_array, texts=texts)
    cells = value = None
    fields: tuple[Column, ...] = ()
    beside: dict[str, Callable[[Any], Any]] = {}
    if mapping.sensor:
        value = _value(shape, mapping.value, at)
    elif mapping.leaves is not None:
        under, before = mapping.leaves.under[at], mapping.leaves.under[:at]
        own = Leaves(mapping).left_out(at)
        around = tuple(
            one.split(mapping.leaves.separator)[0] for one in own
        )  # of what is read within an object
        looked_at = _skip_names(shape, mapping.skip, under)
        others = [
            name
            for name in dict.fromkeys((*ignored, *looked_at))
            if name not in names and name not in around and name not in own
        ]
        left_out = sorted(own.difference(names, others))
        cells = shape.place_cells(under, names, [*left_out, *others])
        beside = shape.getters(under, others)
        for path in before:
            shape.place(path, Kind.ABSENT)
    else:
        fields = tuple(_field(shape, paths) for paths in mapping.fields.values())
    for earlier in range(which):
        shape.exclude(each_of(mapping, earlier), each, ends_in_array=in_array)
    origins = [source.origin for source in mapping.time.sources]
    stamped = Origin.TIMESTAMP in origins
    timed = mapping.time.sources[: origins.index(Origin.TIMESTAMP)] if stamped else mapping.time.sources
    asset, _ = _sources(shape, mapping.asset)
    sensor, _ = _sources(shape, mapping.sensor)
    time, every = _sources(shape, timed)
    quality = _all_sources(shape, () if mapping.quality is None else mapping.quality.sources)
    condition = {name: _all_sources(shape, sources) for name, sources in mapping.condition.items()}
    unit = _all_sources(shape, mapping.unit)
    skips = _skips(shape, mapping.skip)
    parse, parse_texts = shape.compile()
    return ShapePlan(
        shape,
        parse,
        parse_texts,
        cells,
        fields,
        value,
        beside,
        asset,
        sensor,
        time,
        stamped and every,
        quality,
        unit,
        condition,
        skips,
    )


def _value(shape: Shape, paths: Sequence[Path], at: int) -> Column:
    """The place of the one value of an item; none of the places before it has one."""
    value = shape.place(paths[at], Kind.VALUE)
    if value is None:
        raise UnfitError
    for path in paths[:at]:
        within = path.up == paths[at].up and path.steps == paths[at].steps[: len(path.steps)]
        if not within:  # else it is an object, which is no value
            shape.place(path, Kind.ABSENT)
    return value


def _field(shape: Shape, paths: Sequence[Path]) -> Column:
    """The first place of a named field; the others must have nothing."""
    field = shape.place(paths[0], Kind.CELL)
    if field is None:
        raise UnfitError
    for path in paths[1:]:
        shape.place(path, Kind.ABSENT)
    return field


def _sources(shape: Shape, sources: Sources) -> tuple[tuple[FieldSource, ...], bool]:
    """The first sources, up to one that has no column, and whether those are all."""
    found: list[FieldSource] = []
    for source in sources:
        try:
            field = _source(shape, source, shape.item)
        except UnfitError:
            if not found:
                raise
            return tuple(found), False
        if field is not None:
            found.append(field)
    if sources and not found:
        raise UnfitError
    return tuple(found), True


def _all_sources(shape: Shape, sources: Sources) -> tuple[FieldSource, ...]:
    """All of them."""
    found = [_source(shape, source, shape.item) for source in sources]
    return tuple(field for field in found if field is not None)


def _skip_names(shape: Shape, rules: Sequence[SkipRule], under: Path) -> list[str]:
    """The fields beside the cells that rules look at: they are cells of unknown sensors, too.

    Raises:
        UnfitError: a rule looks further in, at what may be cells of their own.
    """
    names, depth = [], len(under.steps)
    for rule in rules:
        path = rule.path
        if path is None:
            continue
        level = (shape.item if rule.item else MESSAGE) - path.up
        if level != shape.item - under.up or path.steps[:depth] != under.steps or len(path.steps) <= depth:
            continue
        step = path.steps[depth]
        if len(path.steps) > depth + 1 or not isinstance(step, Key):
            raise UnfitError
        names.append(step.name)
    return names


def _skips(shape: Shape, rules: Sequence[SkipRule]) -> tuple[tuple[SkipRule, FieldSource], ...]:
    """The columns that rules look at; without those that skip no message of this shape."""
    skips = []
    for rule in rules:
        if rule.source is None:
            continue
        base = shape.item if rule.item else MESSAGE
        if rule.values is None and rule.path is not None and rule.source.match is None:
            column = shape.place_presence(rule.path, base)
            source = None if column is None else FieldSource(Origin.PATH, column)
            if source is None and not rule.negated:
                raise UnfitError  # it skips whatever has this shape
        else:
            source = _source(shape, rule.source, base)
        if source is not None:
            skips.append((rule, source))
    return tuple(skips)


def _source(shape: Shape, source: Source, base: int) -> FieldSource | None:
    """The column of a source, seen from a level; None: it never has anything in this shape.

    Raises:
        UnfitError: it has no column.
    """
    match source.origin:
        case Origin.PATH:
            assert source.path is not None
            column = shape.place(source.path, Kind.ANY, base)
            if column is None:
                return None
        case Origin.KEY if source.path is None:
            column = None
        case Origin.NAME:
            level = shape.binding(base - source.up)
            if level is None:
                return None
            column = Column(level, str)
        case Origin.CONSTANT:
            column = None
        case _:
            raise UnfitError
    return FieldSource(source.origin, column, source.name, source.match, source.group)
