"""Mappings made for a sample whose format no preset knows: by the names of its fields, and by what is in them.

``shapes_of`` goes through the items that the messages may have (``places``). In each it looks for the time, for a
sensor with its value (long) or numbers with names of their own (wide), and for the asset. An asset is right if it
tells readings of one time apart: of the fields that are named like an asset the first that does so is taken, then
the record's key, then any text that does. Every choice has a reason in words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from daemon.adapters.field_names import Role, bare
from daemon.adapters.sample.arrays import tables_of
from daemon.adapters.sample.assets import ONLY, REPEATED, AssetFinder, Choice
from daemon.adapters.sample.inner import open_inner
from daemon.adapters.sample.moments import time_choice
from daemon.adapters.sample.places import (
    Items,
    Way,
    are_blocks,
    are_numbers,
    are_short,
    are_times,
    explosions,
    items_of,
    present,
)
from daemon.adapters.sample.roles import (
    NUMBERED,
    RATES,
    UNITS_AND_QUALITY,
    are_flags,
    are_names,
    are_states,
    common_way,
    field_of,
    hashable,
    listed,
    measures,
    ranked,
    source_text,
    split_ids,
)
from daemon.adapters.sample.survey import Candidate, comes_in_parts, path_text
from daemon.adapters.sample.trust import quality_choice
from daemon.config.presets import CUSTOM
from daemon.documents import counted
from daemon.domain import FieldNames, Format, Record

LOOKED_AT: Final = 1000
"""Messages that shapes are made from, at most."""
_OFTEN: Final = 0.5


def shapes_of(records: Sequence[Record], trees: Sequence[Any], decode: Any = None) -> list[Candidate]:
    """Candidates for messages of any shape, the likelier first.

    Args:
        records, trees: of the same messages, decoded.
        decode: the ``decode`` of ``input``, if it is not JSON.
    """
    some, looked_at = records[:LOOKED_AT], list(trees[:LOOKED_AT])
    inner = open_inner(looked_at)
    head: dict[str, Any] = {} if decode is None else {"decode": decode}
    if inner:
        head["inner"] = inner
    found: list[Candidate] = []
    ways: list[str | dict[str, Any]] = [*explosions(looked_at), *tables_of(looked_at)]
    for each in ways:
        items = items_of(each, some, looked_at)
        if items.records and items.messages >= 0.2 * len(some):
            found += _Shaper(items, head).candidates()
    return found


_BODIES: Final = frozenset({"payload", "body", "state"})
"""Names of what a message carries: of a number, its value."""


class _Shaper:
    """The candidates of one kind of items."""

    def __init__(self, items: Items, head: dict[str, Any]) -> None:
        self._items = items
        self._head = head if items.each == "." else head | {"each": items.each}
        self._own = items.levels[0]
        self._time = time_choice(items)
        numbers = {way: values for way, values in self._own.items() if are_numbers(values)}
        self._numbers = {way: values for way, values in numbers.items() if measures(way, values)}
        self._blocks = [way for way, values in self._own.items() if are_blocks(values)]
        self._rates = [way for way in self._numbers if bare(way[-1]) in RATES] if self._blocks else []
        for way in self._rates:
            del self._numbers[way]
        self._short = [] if self._rates else [way for way in self._blocks if are_short(self._own[way])]

    def candidates(self) -> list[Candidate]:
        """Long and wide ones, as far as the items allow it."""
        if self._time is None:
            return []
        found = [self._long(), self._keyed(), *self._wide(), self._waves()]
        return [candidate for candidate in found if candidate is not None]

    def _find_asset(
        self, sensors: Sequence[Any], taken: set[tuple[int, Way]], *, named_only: bool = False
    ) -> Choice | None:
        times = () if self._time is None else self._time.values
        return AssetFinder(self._items, times).find(sensors, taken, named_only=named_only)

    # -------------------------------------------------------------- the shapes
    def _long(self) -> Candidate | None:
        """One reading an item: a sensor's name beside a value."""
        values = [w for w in ranked(self._own, Role.VALUE) if are_numbers(self._own[w])]
        if not values and len(self._numbers) == 1:
            values = [way for way in self._numbers if bare(way[-1]) in _BODIES]
        if not values:
            return None
        value = values[0]
        others = [
            way
            for way in self._numbers
            if way != value
            and len(present(self._numbers[way])) > _OFTEN * len(self._items)
            and not are_flags(self._numbers[way])
        ]
        if any(way[-1] == value[-1] for way in others):
            return None  # each of them is the value of what it stands below
        sensor = self._sensor(value)
        if sensor is None:
            return None
        up, way, reason = sensor
        others = [each for each in others if up or each != way]
        names = self._items.levels[up][way]
        if others and self._one_each(names, (up, way)):
            return None
        document: dict[str, Any] = {"sensor": source_text(up, way), "value": path_text(value)}
        reasons = {"sensor": reason, "value": "the number of each reading"}
        if others:
            reasons["value"] += f"; left out: {', '.join(map(path_text, others[:8]))}"
        if (split := split_ids(present(names))) is not None:
            separator, ids, tail = split
            end = re.escape(tail)
            asset = Choice(
                {
                    "from": source_text(up, way),
                    "match": f"^(?<asset>.+){re.escape(separator)}"
                    + (f"[^{re.escape(separator)}]+{end}$" if tail else ""),
                },
                f"what is before the last {separator!r} of {path_text(way)}"
                + (f", {tail} left out" if tail else ""),
                [
                    None if name is None else str(name).removesuffix(tail).rpartition(separator)[0]
                    for name in names
                ],
            )
            document["sensor"] = {
                "from": source_text(up, way),
                "match": f"(?<sensor>[^{re.escape(separator)}]+){end}$",
            }
            reasons["sensor"] = f"{reason}; its texts are an asset and a sensor in one, as {ids[0]!r}"
            taken = self._find_asset(names, {(up, way)}, named_only=True)
            return self._made(taken or asset, *self._with_marks(document, reasons), merged=True)
        asset_found = self._find_asset(names, {(up, way)})
        return self._made(asset_found, *self._with_marks(document, reasons), merged=True)

    def _one_each(self, names: Sequence[Any], taken: tuple[int, Way]) -> bool:
        """Whether every asset has one name alone: then it is the name of the asset, and of no sensor."""
        asset = self._find_asset([None] * len(names), {taken})
        known: dict[str, Any] = {}
        values = [""] * len(names) if asset is None else asset.values
        return all(
            known.setdefault(str(a), n) == n for a, n in zip(values, names, strict=True) if n is not None
        )

    def _sensor(self, value: Way) -> tuple[int, Way, str] | None:
        for up, level in enumerate(self._items.levels):
            for way in ranked(level, Role.SENSOR):
                if are_names(level[way]) and len(present(level[way])) > _OFTEN * len(self._items):
                    return up, way, "named like a sensor"
        inside = self._items.each != "."
        for way in [*ranked(self._own, Role.ASSET), *self._own]:
            texts = self._own[way]
            if way == value or not are_names(texts) or are_times(texts) or bare(way[-1]) in UNITS_AND_QUALITY:
                continue
            several = len(set(present(texts))) > 1
            if (inside and several) or split_ids(present(texts)) is not None:
                return 0, way, "its texts tell the readings of one time apart"
        for way in self._own if inside else ():
            if bare(way[-1]) in NUMBERED and way != value and self._items.numbers_parts(way):
                return 0, way, "numbers of the readings of a message, the same in each"
        for way in self._own:
            if inside and bare(way[-1]) == "alias" and way != value and are_numbers(self._own[way]):
                return (
                    0,
                    way,
                    "aliases: only birth messages name the sensors, and another birth may change them",
                )
        return None

    def _keyed(self) -> Candidate | None:
        """One reading an item, whose name is the key that ``*`` bound."""
        names = self._items.names
        values = [w for w in ranked(self._own, Role.VALUE) if are_numbers(self._own[w])]
        if not values or any(name is None for name in names):
            return None
        document: dict[str, Any] = {"sensor": "$name", "value": path_text(values[0])}
        reasons = {"sensor": "the names of the fields are the sensors"}
        return self._made(self._find_asset(names, set()), *self._with_marks(document, reasons), merged=True)

    def _wide(self) -> list[Candidate]:
        """Numbers with names of their own, below one field or anywhere."""
        ways = [*self._numbers, *self._short]
        if not ways or self._items.beside:
            return []
        common = common_way(ways)
        unders = {common: ways}
        holders = Counter(way[0] for way in ways if len(way) > 1)
        for way in ranked([(name,) for name in holders], Role.VALUES):
            below = [each for each in ways if each[0] == way[0]]
            if 2 * len(below) >= len(ways):
                unders.setdefault(common_way(below), below)
        return [made for under, below in unders.items() if (made := self._leaves(under, below))]

    def _leaves(self, under: Way, ways: Sequence[Way]) -> Candidate | None:
        sensors = [
            frozenset(i for i, way in enumerate(ways) if self._own[way][at] is not None)
            for at in range(len(self._items))
        ]
        names = self._items.names
        asset = self._find_asset(sensors, set())
        bound = all(name is not None for name in names) and (
            len(set(names)) > 1 or str(self._items.each).startswith("*")
        )
        if bound and (asset is None or asset.document == ONLY):
            asset = Choice("$name", "the names of the fields are the assets", names)
        if asset is None or self._time is None:
            return None
        merged = self._is_split(asset, sensors)
        quality = self._quality_of_rows(ways)
        typed = self._typed(under, ways, asset, merged) if quality is None else None
        if typed is not None:
            return typed
        left_out = self._left_out(under, ways, asset)
        leaves: dict[str, Any] = {"under": path_text(under)}
        if left_out:
            leaves["except"] = left_out
        reasons = {"leaves": counted(len(ways), "number") + (f" below {path_text(under)}" if under else "")}
        if left_out:
            reasons["leaves"] += "; `except` has what measures nothing: take a name out to read it"
        if any(way in self._short for way in ways):
            leaves["arrays"] = True
            reasons["leaves"] += "; an element of a short array is a sensor, by its place: values.0, values.1"
        arrays = [path_text(way) for way in self._blocks if way[: len(under)] == under and way not in ways]
        if arrays:
            reasons["leaves"] += (
                f"; of {', '.join(arrays[:4])}, of numbers in an array, nothing is read: name them"
                f" instead, as fields: {{a: '{arrays[0]}[0]', b: '{arrays[0]}[1]'}}"
            )
        document: dict[str, Any] = {"leaves": leaves}
        if quality is not None:
            document["quality"], reasons["quality"] = quality.document, quality.reason
        return self._made(asset, document, reasons, merged=merged)

    def _quality_of_rows(self, ways: Sequence[Way]) -> Choice | None:
        """What says of all values of an item whether they are to be trusted; beside them, or around the items."""
        for up, level in enumerate(self._items.levels):
            if (found := quality_choice(level, up, () if up else ways, of_row=True)) is not None:
                return found
        return None

    def _left_out(self, under: Way, ways: Sequence[Way], asset: Choice) -> list[str]:
        """Leaves (or whole branches) below ``under`` that hold no measurements, by their first names."""
        taken = {way[len(under)] for way in ways}
        own = [asset.document, *listed(self._time.document if self._time else [])]
        needed = {name for way in ways for name in way[len(under) :]}  # `except` is for names at any depth
        found: list[str] = []
        for way in self._own:
            if way[: len(under)] != under or way in ways or len(way) <= len(under):
                continue
            name = way[len(under)]
            if path_text(way) in own and len(way) == len(under) + 1:
                continue
            if name not in taken | needed and name not in found and not are_states(self._own[way]):
                found.append(name)
        return found[:40]

    def _typed(self, under: Way, ways: Sequence[Way], asset: Choice, merged: bool) -> Candidate | None:
        """json-wide with names of fields of its own, where that says it all: it is read fastest."""
        assert self._time is not None
        flat = all(len(way) == len(under) + 1 for way in self._own if way[:1] == under)
        if self._head or merged or len(under) != 1 or not flat:
            return None
        names = [field_of(asset.document), field_of(self._time.document), under[0]]
        if None in names or len(set(names)) < 3:
            return None
        fields = FieldNames(asset=str(names[0]), timestamp=str(names[1]), values=under[0])
        reasons = {
            "asset": asset.reason,
            "time": self._time.reason,
            "values": f"{counted(len(ways), 'number')} below it",
        }
        return Candidate(Format.JSON_WIDE.value, {}, fields, reasons)

    def _waves(self) -> Candidate | None:
        """Blocks of samples: arrays of numbers with the rate beside them."""
        if not self._blocks or not self._rates:
            return None
        document = {
            "leaves": {"under": path_text(common_way(self._blocks))},
            "wave": {"rate": path_text(self._rates[0]), "reduce": ["rms", "peak", "kurtosis"]},
        }
        reasons = {"wave": "arrays of numbers: a few figures of each block; explode: true takes every sample"}
        return self._made(self._find_asset([None] * len(self._items), set()), document, reasons, merged=False)

    def _made(
        self,
        asset: Choice | None,
        document: dict[str, Any],
        reasons: dict[str, str],
        *,
        merged: bool,
    ) -> Candidate | None:
        if asset is None or self._time is None:
            return None
        typed = self._typed_long(asset, document)
        why = {"asset": asset.reason, "time": self._time.reason} | reasons
        if typed is not None:
            return Candidate(Format.JSON_LONG.value, {}, typed, why)
        whole = self._head | {"asset": asset.document, "time": self._time.document} | document
        whole["rows"] = "gather" if merged else "whole"
        why["rows"] = "a row is gathered from several messages" if merged else "each message is a whole row"
        return Candidate(CUSTOM, whole, None, why)

    def _typed_long(self, asset: Choice, document: dict[str, Any]) -> FieldNames | None:
        if self._head or document.keys() != {"sensor", "value"} or self._time is None:
            return None
        names = [
            field_of(each)
            for each in (asset.document, self._time.document, document["sensor"], document["value"])
        ]
        if None in names or len(set(names)) < 4:
            return None
        asset_name, time, sensor, value = map(str, names)
        return FieldNames(asset=asset_name, timestamp=time, sensor=sensor, value=value)

    def _is_split(self, asset: Choice, sensors: Sequence[frozenset[int]]) -> bool:
        """Whether a row comes in several items: they share asset and time, or have a part of the sensors each."""
        assert self._time is not None
        keys = set(zip(asset.values, map(hashable, self._time.values), strict=True))
        counts = Counter(place for some in sensors for place in some)
        return len(keys) < (1 - REPEATED) * len(self._items) or comes_in_parts(counts, len(sensors))

    def _with_marks(
        self, document: dict[str, Any], reasons: dict[str, str]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Both with the quality and the unit that stand beside each value, if there are any."""
        marks = {"quality": quality_choice(self._own), "unit": self._unit()}
        if self._items.beside:
            document["skip"] = [{"item": document["value"], "absent": True, "name": "no_reading"}]
            reasons["skip"] = "fields beside the readings, which have no value of their own"
        found = {key: choice for key, choice in marks.items() if choice is not None}
        return (
            document | {key: choice.document for key, choice in found.items()},
            reasons | {key: choice.reason for key, choice in found.items()},
        )

    def _unit(self) -> Choice | None:
        """A field that is named like a unit and has texts."""
        for way in ranked(self._own, Role.UNIT):
            values = present(self._own[way])
            if values and all(type(value) is str for value in values):
                return Choice(path_text(way), "the unit of each value", values)
        return None
