"""The grid of one asset: the rows that are not released yet, and what decides when they are.

``Grid`` holds one ``AssetGrid`` per active asset and applies the rules of event time to it; here are the
values it consists of, when a sensor of it counts as silent, and its part of a record of state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from daemon.domain import Floats, Reading, StreamSpec
from daemon.stream.snapshot import (
    GridState,
    RowState,
    pack_bits,
    pack_floats,
    pack_ints,
    unpack_bits,
    unpack_floats,
    unpack_ints,
)

ValueHashes = NDArray[np.uint64]
"""Hashes of rows of values: see ``value_hashes``."""
NEVER = -1


def value_hashes(values: Floats) -> ValueHashes:
    """(B,) hashes of rows of values (B, C), never 0: equal for equal rows, with NaN equal to NaN and -0.0 to 0.0."""
    bits = np.ascontiguousarray(values + 0.0).view(np.uint64)  # -0.0 is 0.0; a copy
    bits[np.isnan(values)] = 0x9E3779B97F4A7C15
    bits ^= bits >> np.uint64(29)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(32)
    weights = (2 * np.arange(1, values.shape[1] + 1, dtype=np.uint64) + np.uint64(1)) * np.uint64(
        0x94D049BB133111EB
    )
    return np.asarray(bits @ weights | np.uint64(1))


def is_part(spec: StreamSpec, reading: Reading, first: Sequence[float] | None) -> bool:
    """Whether a reading that contradicts another one of its row seems to be another part of the row.

    Args:
        spec: of the stream.
        reading: of all sensors; one of json-wide does not say which sensors it is of, so that NaN must do.
        first: (C,) the values of the other one; None: they are not kept, as the row was released.
    """
    every = (1 << len(spec.sensors)) - 1
    if spec.input is not None or reading.values is None:
        return reading.reported & every != every
    absent = [value != value for value in reading.values]
    return any(absent) if first is None else absent != [value != value for value in first]


class OpenRow(msgspec.Struct, gc=False):
    """A grid row that has readings and may still change."""

    values: Sequence[float]  # (C,), NaN where missing
    reported: int = 0  # bit c: sensor c has reported, be it a value or a corrupt cell
    offset: int = -1  # of the first record for this row
    last_offset: int = -1
    complete: bool = False
    condition: str = ""
    value_hash: int = 0  # of a wide line's values
    counts: list[int] | None = None  # (C,) values that each cell was made of; None: the stream reduces none
    times: list[int] | None = None  # (C,) event time of the newest of them

    def snapshot(self, row: int) -> RowState:
        """The row of this number as part of a record of state."""
        return RowState(
            row,
            pack_floats(self.values),
            pack_bits(self.reported),
            self.offset,
            self.last_offset,
            self.complete,
            self.condition,
            self.value_hash,
            b"" if self.counts is None else pack_ints(self.counts),
            b"" if self.times is None else pack_ints(self.times),
        )

    @staticmethod
    def restored(state: RowState) -> OpenRow:
        """The row of a record of state."""
        return OpenRow(
            unpack_floats(state.values).tolist(),
            unpack_bits(state.reported),
            state.offset,
            state.last_offset,
            state.complete,
            state.condition,
            state.fingerprint,
            unpack_ints(state.counts).tolist() if state.counts else None,
            unpack_ints(state.times).tolist() if state.times else None,
        )


@dataclass(slots=True, eq=False)
class AssetGrid:
    """One active asset: its rows between the newest reading and the windows, and its watermark."""

    asset: str
    slot: int
    max_time_ns: int
    watermark_ns: int
    head: int  # the next row to release
    last_observed: int = NEVER  # greatest released row with a reading
    rows: dict[int, OpenRow] = field(default_factory=dict)  # not released
    recent: dict[int, OpenRow] = field(default_factory=dict)  # long: released, above the watermark
    silent: int = 0  # bit c: sensor c is silent; rows do not wait for it
    began: int = -1  # the row at which the windows last started afresh
    last_valued: list[int] = field(default_factory=list)  # per sensor, newest released row with a value
    condition: str = ""
    steady: int = 0  # readings in order lately, see ``Grid``; no part of the state

    def update_silent(self, index: int, values: Sequence[float], silent_rows: Sequence[int]) -> None:
        """At the release of a row: declare sensors silent that had no value for ``silent_rows`` (C,) rows.

        It is done at a row's release, so that what later rows wait for depends on the order of the
        readings alone.
        """
        self.last_valued = self.last_valued or [NEVER] * len(values)
        for c, value in enumerate(values):
            if value == value:
                self.last_valued[c] = index
                self.silent &= ~(1 << c)
            elif index - max(self.last_valued[c], self.began) >= silent_rows[c]:
                self.silent |= 1 << c

    def prune(self, first_row: int) -> None:
        """Drop released rows before ``first_row``, the watermark's: a repetition of them is late."""
        recent = self.recent
        while recent and (first := next(iter(recent))) < first_row:  # they were released in ascending order
            del recent[first]

    def snapshot(self, newest: int, hashes: ValueHashes) -> GridState:
        """The part of the asset's record of state.

        Args:
            newest: its greatest row with a reading.
            hashes: (K,) of its last K released rows, oldest first.
        """
        return GridState(
            self.max_time_ns,
            self.watermark_ns,
            self.head,
            self.last_observed,
            newest,
            self.began,
            pack_bits(self.silent),
            pack_ints(self.last_valued),
            self.condition,
            [row.snapshot(index) for index, row in self.rows.items()],
            [row.snapshot(index) for index, row in self.recent.items()],
            hashes.astype("<u8").tobytes(),
        )

    @staticmethod
    def restored(asset: str, slot: int, state: GridState) -> AssetGrid:
        """The asset of a record of state."""
        return AssetGrid(
            asset,
            slot,
            state.max_time_ns,
            state.watermark_ns,
            state.head,
            state.last_observed,
            {row.row: OpenRow.restored(row) for row in state.rows},
            {row.row: OpenRow.restored(row) for row in state.recent},
            unpack_bits(state.silent),
            state.began,
            unpack_ints(state.heard).tolist(),
            state.condition,
        )
