"""Many rows of many assets in one batch: who belongs together, and in which order.

A batch holds the rows of each asset in their order, mixed with those of others. What has memory
(windows, slow baselines, histories) takes them asset by asset; on arrays that is a stable sort.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daemon.domain import Ints, Mask


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """The rows of a batch by asset.

    ``order`` (R,) are the rows sorted by asset, each asset's as they came; ``first`` (R,) is, for
    each of them in that order, where its asset begins.
    """

    order: Ints
    first: Ints

    @property
    def begins(self) -> Mask:
        """(R,) in that order, True where an asset begins."""
        return np.asarray(self.first == np.arange(len(self.first)))

    @property
    def occurrence(self) -> Ints:
        """(R,) as the rows came: how many of the same asset come before each."""
        occurrence = np.empty(len(self.order), np.int64)
        occurrence[self.order] = np.arange(len(self.order)) - self.first
        return occurrence


def by_slot(slots: Ints) -> Groups:
    """Group rows by the number (R,) of their asset."""
    # Of short numbers numpy sorts the digits, which is quicker than to compare.
    short = len(slots) and slots.max() < 1 << 16
    order = np.argsort(slots.astype(np.uint16) if short else slots, kind="stable")
    ascending = slots[order]
    begins = np.empty(len(slots), bool)
    begins[:1] = True
    np.not_equal(ascending[1:], ascending[:-1], out=begins[1:])
    return Groups(order, np.maximum.accumulate(np.where(begins, np.arange(len(slots)), 0)))
