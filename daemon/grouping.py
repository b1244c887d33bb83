"""Grouping the rows of a batch by asset, with each asset's rows in their order.

Why: a batch has the rows of many assets mixed, while state (windows, slow baselines, histories) is updated
asset by asset. On arrays this is a stable sort by the asset's slot.

Input: (R,) slots. Output: ``Groups``, the sorted order and where each asset begins in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daemon.domain import Ints, Mask


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """The rows of a batch by asset.

    ``order`` (R,) are the indices of the rows sorted by asset, each asset's in their order. ``first`` (R,)
    is, for each place in that order, the place where the same asset begins.
    """

    order: Ints
    first: Ints

    @property
    def begins(self) -> Mask:
        """(R,) for each place in the sorted order, True where an asset begins."""
        return np.asarray(self.first == np.arange(len(self.first)))

    @property
    def begins_at(self) -> Ints:
        """(A,) the places in the sorted order where the assets begin."""
        return np.flatnonzero(self.begins)

    @property
    def occurrence(self) -> Ints:
        """(R,) for each row of the batch, how many rows of the same asset come before it."""
        occurrence = np.empty(len(self.order), np.int64)
        occurrence[self.order] = np.arange(len(self.order)) - self.first
        return occurrence

    def before(self, column: Ints, earlier: Ints) -> Ints:
        """(R,) for each row of the batch, the number of its asset's row before it.

        Args:
            column: (R,) the rows' numbers.
            earlier: (R,) what each asset's first row takes, by row.
        """
        ordered, result = column[self.order], np.empty_like(column)
        shifted = np.empty_like(ordered)
        shifted[1:] = ordered[:-1]
        result[self.order] = np.where(self.begins, earlier[self.order], shifted)
        return result

    def up_to_first(self, bad: Mask) -> Mask:
        """(R,) the rows of the batch before the first bad one (R,) of their asset."""
        ordered = bad[self.order]
        count = np.cumsum(ordered)
        already: Ints = count[self.first] - ordered[self.first]
        result = np.empty(len(bad), bool)
        result[self.order] = count == already
        return result


def by_slot(slots: Ints) -> Groups:
    """Group rows by their assets' slots (R,)."""
    # numpy sorts 16-bit numbers by radix, which is faster than by comparison.
    short = len(slots) and slots.max() < 1 << 16
    order = np.argsort(slots.astype(np.uint16) if short else slots, kind="stable")
    ascending = slots[order]
    begins = np.empty(len(slots), bool)
    begins[:1] = True
    np.not_equal(ascending[1:], ascending[:-1], out=begins[1:])
    return Groups(order, np.maximum.accumulate(np.where(begins, np.arange(len(slots)), 0)))
