"""Whose an item's values are: its asset and event time, whether they are to be trusted, and its sensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from daemon.domain import Reason, Record
from daemon.mapping import InputMapping
from daemon.stream.extract.cells import name_of
from daemon.stream.extract.paths import ABSENT, Scope
from daemon.stream.extract.quality import compile_quality
from daemon.stream.extract.sources import absence, compile_sources, the_field
from daemon.stream.extract.times import compile_time
from daemon.stream.extract.wrapped import unwrapped
from daemon.stream.fields import AssetIds
from daemon.stream.rejection import RejectedError
from daemon.stream.text_cache import remember
from daemon.stream.timestamps import EventTimes

IDS_KEPT: Final = 65_536
"""Ids of an asset with a sensor that are remembered: some 10 MB."""
OWN_FORMATS: Final = ("json-wide", "json-long")
"""Presets whose numbers of times are epochs however small, as they are where such a stream is not mapped."""
Whose = tuple[str, str, int | None]
"""An asset, the name of a sensor, and its place in the stream, if it has one."""


class ItemKeys:
    """Reads the keys of items; each function raises ``RejectedError`` where there are none.

    Args:
        mapping: says where they are.
        asset_ids, event_times: the stream's rules for each.

    Attributes:
        time: the event time of an item, in nanoseconds.
        trusted: whether its quality is not bad; None: nothing says so.
        unit: that of its values; None: nothing says so.
    """

    def __init__(self, mapping: InputMapping, asset_ids: AssetIds, event_times: EventTimes) -> None:
        self.time = compile_time(mapping.time, event_times, any_epoch=mapping.preset in OWN_FORMATS)
        self.trusted = None if mapping.quality is None else compile_quality(mapping.quality)
        self.unit = compile_sources(mapping.unit) if mapping.unit else None
        self._mapping = mapping
        self._asset = compile_sources(mapping.asset) if mapping.asset else None
        self._asset_ids, self._known_assets = asset_ids, asset_ids.valid

    def asset(self, scope: Scope, record: Record) -> str:
        """The asset of an item."""
        given = ABSENT if self._asset is None else self._asset(scope, record)
        asset = self._known_assets.get(given) if type(given) is str else None
        if asset is not None:
            return asset
        if type(given) is dict:
            given = unwrapped(given)
        if given is ABSENT or given is None:
            raise RejectedError(Reason.NO_ASSET, lambda: absence(self._mapping.asset, scope))
        return self._asset_ids.read(given)

    def of_item(self, scope: Scope, record: Record) -> tuple[str, int, bool]:
        """The asset and event time of an item, and whether its values are to be trusted."""
        trusted = self.trusted
        asset = self.asset(scope, record)
        return asset, self.time(scope, record), trusted is None or trusted(scope, record)

    def of_cell(self, name: str, asset: str | None, scope: Scope, record: Record) -> tuple[str, int, bool]:
        """The same for one cell: ``[$name]`` is its sensor, and its asset may be known by its name."""
        own: Scope = (scope[0], name, scope[2])
        if asset is None:
            return self.of_item(own, record)
        trusted = self.trusted
        return self._asset_ids.read(asset), self.time(own, record), trusted is None or trusted(own, record)

    def compile_whose(self, index: Mapping[str, int]) -> Callable[[Scope, Record], Whose]:
        """The function that gives the asset and the sensor of an item with one value.

        Where one field has both it is remembered, for ids come again with every message.

        Args:
            index: the places of the stream's sensors.
        """
        sensor, mapping = compile_sources(self._mapping.sensor), self._mapping

        def whose(scope: Scope, record: Record) -> Whose:
            asset, name = self.asset(scope, record), sensor(scope, record)
            if type(name) is not str:
                name = name_of(name, mapping, scope)
            return asset, name, index.get(name)

        field = the_field((*mapping.asset, *mapping.sensor))
        if field is None:
            return whose
        known: dict[str, Whose] = {}

        def remembered(scope: Scope, record: Record) -> Whose:
            text = scope[0].get(field) if type(scope[0]) is dict else None
            if type(text) is not str:
                return whose(scope, record)
            found = known.get(text)
            if found is None:
                found = whose(scope, record)
                remember(known, text, found, IDS_KEPT)
            return found

        return remembered
