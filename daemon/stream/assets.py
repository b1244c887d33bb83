"""The assets of one input partition, each with a slot: the place that all per-asset arrays share.

What is known of each asset stands in arrays with one entry per slot, so that a batch of rows of
many assets is computed at once. An owner of such arrays registers with the table, which tells
it when there are more slots and when the asset of a slot changes. Nobody else hands out slots.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from itertools import repeat
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from daemon.domain import Ints, Mask
from daemon.stream.windowing import grown

FEWEST_SLOTS = 16
MANY_SLOTS, MOST_SLOTS = 8_192, 1 << 20
"""From so many slots on there is room at once for all assets that there may be, or for so many."""


class PerAsset(Protocol):
    """An owner of arrays with one entry per slot."""

    def grow(self, capacity: int) -> None:
        """Make room for this many slots; existing entries keep their values."""
        ...

    def clear(self, slot: int) -> object:
        """Set the slot's entries to those of an asset that has sent nothing yet."""
        ...


class Column:
    """An array with one number, or one row of numbers, per asset.

    Args:
        kind: its type.
        blank: the value of an asset that has sent nothing yet.
    """

    def __init__(self, kind: DTypeLike, blank: float) -> None:
        self.values: NDArray[Any] = np.empty(0, kind)  # (N,) by slot
        self._blank = blank

    def grow(self, capacity: int) -> None:
        """See ``PerAsset``."""
        old = len(self.values)
        self.values = grown(self.values, capacity)
        if self._blank:  # zeros that nobody writes to take no memory
            self.values[old:] = self._blank

    def clear(self, slot: int) -> None:
        """See ``PerAsset``."""
        self.values[slot] = self._blank


class AssetTable:
    """Which asset has which slot.

    Args:
        most: assets that may be known at once.

    Attributes:
        hashes: (N,) uint64 by slot, a hash of each asset's name that is the same in every process.
        occupied: (N,) by slot, whether an asset has it.
        evicted: assets that were evicted to make room, so far.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.evicted = 0
        self._slots: dict[str, int] = {}
        self._names: list[str | None] = []
        self._free: list[int] = []
        self._owners: list[PerAsset] = []
        self._hashes = self.column(np.uint64, 0)
        self._occupied = self.column(bool, False)
        self._allocate(FEWEST_SLOTS)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, asset: str) -> bool:
        return asset in self._slots

    @property
    def capacity(self) -> int:
        """N, the number of slots."""
        return len(self._names)

    @property
    def full(self) -> bool:
        """Whether a new asset needs another one to be evicted."""
        return len(self._slots) >= self.most

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """See the class."""
        return self._hashes.values

    @property
    def occupied(self) -> Mask:
        """See the class."""
        return self._occupied.values

    @property
    def slots(self) -> dict[str, int]:
        """The slot of each asset; read only."""
        return self._slots

    def register(self, owner: PerAsset) -> None:
        """Tell this owner of per-asset arrays about slots from now on."""
        self._owners.append(owner)
        if self._names:
            owner.grow(len(self._names))

    def release(self, *owners: PerAsset) -> None:
        """Tell these owners about slots no more: they are dropped."""
        self._owners = [one for one in self._owners if all(one is not gone for gone in owners)]

    def column(self, kind: DTypeLike, blank: float) -> Column:
        """A new per-asset array, registered."""
        made = Column(kind, blank)
        self.register(made)
        return made

    def slots_of(self, assets: Collection[str]) -> Ints:
        """The assets' slots, -1 for an asset that has none."""
        return np.fromiter(map(self._slots.get, assets, repeat(-1)), np.int64, len(assets))

    def name(self, slot: int) -> str:
        """The asset that has this slot."""
        name = self._names[slot]
        assert name is not None
        return name

    def names_of(self, slots: Ints) -> list[str]:
        """The assets that have these slots; free slots are left out."""
        return [name for slot in slots.tolist() if (name := self._names[slot]) is not None]

    def add(self, asset: str) -> int:
        """The asset's slot; a new asset gets a cleared one."""
        slot = self._slots.get(asset)
        if slot is not None:
            return slot
        if not self._free:
            twice = 2 * len(self._names)
            # To copy the arrays of a large fleet takes long.
            self._allocate(twice if twice < MANY_SLOTS else max(twice, min(self.most + 1, MOST_SLOTS)))
        slot = self._free.pop()
        self._slots[asset] = slot
        self._names[slot] = asset
        for owner in self._owners:
            owner.clear(slot)
        digest = hashlib.blake2b(asset.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self._hashes.values[slot] = int.from_bytes(digest, "little")
        self._occupied.values[slot] = True
        return slot

    def remove(self, asset: str) -> None:
        """Free the asset's slot and clear what is known of it."""
        slot = self._slots.pop(asset)
        self._names[slot] = None
        self._free.append(slot)
        for owner in self._owners:
            owner.clear(slot)

    def _allocate(self, capacity: int) -> None:
        old = len(self._names)
        for owner in self._owners:
            owner.grow(capacity)
        self._free = [*range(capacity - 1, old - 1, -1), *self._free]
        self._names += [None] * (capacity - old)
