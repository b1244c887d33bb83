"""Where the asset of a sample's readings is: the place that tells readings of one time apart.

Of the fields that are named like an asset the first that does so is taken, then the record's key and headers, then
any text that does. Where there is nothing else to tell apart, all readings are of one asset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from daemon.adapters.field_names import Role, bare, named
from daemon.adapters.files.row_keys import ONLY_ASSET
from daemon.adapters.sample.places import Items, Way, are_texts, are_times, present
from daemon.adapters.sample.roles import (
    UNITS_AND_QUALITY,
    come_again,
    counted,
    hashable,
    is_bookkeeping,
    opened,
    ranked,
    source_text,
    text_of,
)
from daemon.adapters.sample.survey import path_text
from daemon.domain import RECORD_KEY

REPEATED: Final = 0.05
"""An asset is told apart if at most this share of the items repeats asset, time and sensors of another."""
ONLY: Final = {"constant": ONLY_ASSET}


@dataclass(frozen=True, slots=True)
class Choice:
    """One key of a mapping: what is written, why, and (N,) the values of the items, for comparing."""

    document: Any
    reason: str
    values: Sequence[Any]


class AssetFinder:
    """Finds the asset of N items.

    Args:
        items: of the messages.
        times: (N,) what is at the place of their time.
    """

    def __init__(self, items: Items, times: Sequence[Any]) -> None:
        self._items = items
        self._times = [hashable(time) for time in times]

    def find(
        self, sensors: Sequence[Any], taken: set[tuple[int, Way]], *, named_only: bool = False
    ) -> Choice | None:
        """The first place that tells readings of one time apart; see the module."""
        named_so = [
            Choice(source_text(up, way), f"named like an asset; {counted(level[way])}", level[way])
            for up, level in enumerate(self._items.levels)
            for way in ranked(level, Role.ASSET)
            if (up, way) not in taken and self._may_be_asset(up, way, named_only)
        ]
        choices = list(named_so)
        if not named_only:
            choices += self._of_record()
            choices.append(
                Choice(ONLY, "no field names one: all is taken for one asset", [""] * len(sensors))
            )
        if not choices:
            return None
        repeats = [self._repeats(choice, sensors) for choice in choices]
        for choice, repeated in zip(choices, repeats, strict=True):
            if repeated <= REPEATED:
                return choice
        if named_only:
            return None
        texts = [
            Choice(
                source_text(up, way),
                f"no other field tells the readings of one time apart; {counted(level[way])}",
                level[way],
            )
            for up, level in enumerate(self._items.levels)
            for way in level
            if (up, way) not in taken
            and self._may_be_asset(up, way, True)
            and bare(way[-1]) not in UNITS_AND_QUALITY
        ]
        for choice in texts:
            if self._repeats(choice, sensors) <= REPEATED:
                return choice
        return choices[repeats.index(min(repeats))]

    def _may_be_asset(self, up: int, way: Way, strict: bool) -> bool:
        """Whether these are names that come again; a number of each message is none."""
        values = self._items.levels[up][way]
        there = present(values)
        if not are_texts(values) or are_times(values) or (strict and len(there) < len(values)):
            return False
        if strict and not all(type(value) is str for value in there):
            return False
        if not strict and not is_bookkeeping(way[-1]):
            return bool(there)  # its name says so: a large fleet hardly comes again in a sample
        return len(there) < 10 or 2 * len(set(there)) <= len(there)

    def _of_record(self) -> list[Choice]:
        """The record's key, a field of the JSON in it, and headers that are named like an asset."""
        records = self._items.records
        found = []
        keys = [text_of(record.key) for record in records]
        if all(key for key in keys) and come_again(keys):
            trees = [opened(key) for key in keys]
            if all(type(each) is dict for each in trees):
                names = named(trees[0], Role.ASSET)
                found += [
                    Choice(
                        f"{RECORD_KEY}.{path_text([name])}",
                        "a field of the record's key",
                        [each.get(name) for each in trees],
                    )
                    for name in names[:1]
                ]
            else:
                found.append(Choice(RECORD_KEY, f"the record's key; {counted(keys)}", keys))
        headers = dict.fromkeys(name for record in records[:50] for name, _ in record.headers)
        for name in named(headers, Role.ASSET):
            values = [text_of(dict(record.headers).get(name)) for record in records]
            if all(values) and come_again(values):
                found.append(Choice(f"$header:{name}", f"the record's header {name}", values))
        return found

    def _repeats(self, asset: Choice, sensors: Sequence[Any]) -> float:
        """The share of items that have asset, time and sensors of an earlier one."""
        keys = list(zip(asset.values, self._times, sensors, strict=True))
        return 1 - len(set(keys)) / max(len(keys), 1)
