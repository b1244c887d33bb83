"""The window buffer against a list per asset: the same windows and the same memory, however rows come in chunks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.detector import Scaling
from daemon.grouping import by_slot
from daemon.stream.windowing import NO_RECORD, WindowBuffer

C = 2
NAN = float("nan")


@dataclass
class Plain:
    """One asset, the slow way."""

    rows: list[list[float]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=lambda: [NAN] * C)
    row: list[int] = field(default_factory=lambda: [-1] * C)
    since: list[int] = field(default_factory=lambda: [0] * C)

    def restart(self, row: int) -> None:
        self.rows, self.offsets, self.since = [], [], [row] * C

    def take(self, row: int, values: list[float], offset: int) -> None:
        self.rows.append(values)
        self.offsets.append(offset)
        for c, cell in enumerate(values):
            if cell == cell:
                if cell != self.value[c]:
                    self.since[c] = row
                self.value[c], self.row[c] = cell, row

    def window(self, length: int) -> np.ndarray:
        newest = self.rows[-length:]
        return np.array([[NAN] * C] * (length - len(newest)) + newest)


Drawn = tuple[int, float, float, bool, bool]


def rows_of(*cells: float) -> st.SearchStrategy[list[Drawn]]:
    """Rows with these cells: (slot, cells, whether a window is wanted, whether windows start afresh)."""
    cell, fresh = st.sampled_from(cells), st.integers(0, 30).map(lambda n: n == 0)
    return st.lists(st.tuples(st.integers(0, 2), cell, cell, st.booleans(), fresh), min_size=1, max_size=120)


ROWS = rows_of(1.0, 1.0, 2.0, NAN) | rows_of(1.0, 1.0, 1.0, 2.0)
"""Also rows of which none misses a value, which are looked at in another way."""

ONE = Scaling(np.array([1.0, -2.0]), np.array([0.5, 4.0]))
OTHER = Scaling(np.array([0.0, 8.0]), np.array([0.25, 0.5]))
"""Units that small whole numbers go through without a rounding, back and forth."""


@settings(max_examples=400)
@given(st.integers(1, 9), st.integers(1, 40), st.booleans(), ROWS, st.lists(st.integers(1, 60), max_size=8))
def test_the_buffer_agrees_with_a_list_per_asset(
    length: int, spare: int, early: bool, drawn: list[Drawn], sizes: list[int]
) -> None:
    buffer, plain = WindowBuffer(length, C), [Plain() for _ in range(3)]
    if early:
        buffer.use_scaling(ONE)
    buffer.grow(1)
    buffer.clear(0)
    buffer.resize_room(length + spare)
    buffer.grow(3)
    buffer.resize_room(length + spare)
    for slot in range(1, 3):
        buffer.clear(slot)
    counts = [0, 0, 0]
    rows = []
    for i, (slot, a, b, wanted, fresh) in enumerate(drawn):
        counts[slot] += 1
        rows.append((slot, counts[slot], [a, b], NO_RECORD if a != a and b != b else i, wanted, fresh))
    while rows:
        size = sizes.pop() if sizes else len(rows)
        chunk, met = [], set()
        for row in rows[:size]:  # as the pipeline does: a fresh start begins a chunk of its asset
            if row[5] and row[0] in met:
                break
            met.add(row[0])
            chunk.append(row)
        rows = rows[len(chunk) :]
        for slot, index, *_, fresh in chunk:
            if fresh:
                buffer.restart(slot, index)
                plain[slot].restart(index)
        slots, index = np.array([r[0] for r in chunk]), np.array([r[1] for r in chunk])
        values, offsets = np.array([r[2] for r in chunk]), np.array([r[3] for r in chunk])
        wanted = np.array([r[4] for r in chunk])
        seen = buffer.update_last_seen(by_slot(slots), slots, index, values, np.isfinite(values))
        windows, smallest = buffer.push(slots, by_slot(slots).occurrence, values, offsets, wanted)
        asked = 0
        for i, (slot, row, cells, offset, want, _) in enumerate(chunk):
            one = plain[slot]
            one.take(row, cells, offset)
            np.testing.assert_array_equal(seen.value[i], one.value)
            assert seen.row[i].tolist() == one.row
            still = [row - s + 1 if cell == cell else 0 for cell, s in zip(cells, one.since, strict=True)]
            assert seen.still[i].tolist() == still
            if want:
                assert windows.dtype == buffer.scaling.kept
                np.testing.assert_array_equal(windows[asked], buffer.scaling.of(one.window(length)))
                assert smallest[asked] == min(one.offsets[-length:])
                asked += 1
        assert asked == len(windows)
        if len(rows) % 5 == 0:  # more assets came
            buffer.resize_room(length + 1 + spare % 7)
        if len(rows) % 3 == 0:  # another model takes over
            buffer.use_scaling(OTHER if len(rows) % 2 else ONE)
        for slot, one in enumerate(plain):
            held, known = buffer.rows_of(slot)
            assert len(held) == len(known)
            np.testing.assert_array_equal(buffer.raw_rows(slot), np.array(one.rows[-length:]).reshape(-1, C))
            assert known.tolist() == one.offsets[-length:]
            np.testing.assert_array_equal(buffer.last_value[slot], one.value)
            assert buffer.last_row[slot].tolist() == one.row
            assert buffer.still_since[slot].tolist() == one.since


def test_a_restored_buffer_cuts_the_same_windows() -> None:
    rng = np.random.default_rng(0)
    one, other = WindowBuffer(5, C), WindowBuffer(5, C)
    for buffer in (one, other):
        buffer.use_scaling(ONE)
        buffer.grow(2)
        buffer.clear(1)
    values = rng.normal(size=(9, C))
    slots, wanted = np.ones(9, np.int64), np.ones(9, bool)
    one.restart(1, 100)
    one.update_last_seen(by_slot(slots), slots, np.arange(100, 109), values, np.isfinite(values))
    one.push(slots, by_slot(slots).occurrence, values, np.arange(9), wanted)
    assert one.rows_of(1)[0].dtype == np.float32
    other.restore(1, one.snapshot(1))
    assert other.snapshot(1) == one.snapshot(1)
    more = rng.normal(size=(3, C))
    answers = [
        buffer.push(slots[:3], by_slot(slots[:3]).occurrence, more, np.arange(9, 12), wanted[:3])
        for buffer in (one, other)
    ]
    np.testing.assert_array_equal(answers[0][0], answers[1][0])
    np.testing.assert_array_equal(answers[0][1], answers[1][1])
    np.testing.assert_array_equal(answers[0][0][-1], ONE.of(np.concatenate([values, more])[-5:]))


def test_rows_are_converted_through_every_models_units_whenever_that_is_done() -> None:
    """Early or late, the last bit is the same."""
    rng = np.random.default_rng(1)
    units = [Scaling(rng.normal(size=C), rng.uniform(0.1, 9.0, C)) for _ in range(3)]
    slots, row = np.zeros(1, np.int64), rng.normal(size=(1, C))
    early, late = WindowBuffer(4, C), WindowBuffer(4, C)
    by_hand = row
    for i, unit in enumerate(units):
        by_hand = unit.of(units[i - 1].raw(by_hand) if i else by_hand)
    for buffer in (early, late):
        buffer.grow(1)
        buffer.clear(0)
        buffer.push(slots, slots, row, slots, np.ones(1, bool))
        for unit in units:
            buffer.use_scaling(unit)
            if buffer is early:
                buffer.convert_rows(slots)
        buffer.convert_rows(slots)
        held, _ = buffer.rows_of(0)
        assert held.dtype == np.float32
        np.testing.assert_array_equal(held, by_hand)
        buffer.drop_scalings(3)
        assert list(buffer.scalings) == [3]
        np.testing.assert_array_equal(buffer.rows_of(0)[0], by_hand)


def test_an_asset_keeps_its_units_until_its_next_row() -> None:
    buffer = WindowBuffer(4, C)
    buffer.grow(2)
    buffer.clear(0)
    buffer.clear(1)
    both, one = np.arange(2), np.zeros(1, np.int64)
    buffer.push(both, 0 * both, np.array([[3.0, NAN], [1e6, -2.0]]), both, np.ones(2, bool))
    buffer.use_scaling(OTHER)
    windows, _ = buffer.push(one, one, np.array([[4.0, 8.0]]), one, np.ones(1, bool))
    np.testing.assert_array_equal(OTHER.raw(windows[0, -2:]), [[3.0, NAN], [4.0, 8.0]])
    assert buffer.units.tolist() == [1, 0]
    np.testing.assert_array_equal(buffer.rows_of(1)[0], [[1e6, -2.0]])


def test_numbers_that_stand_for_no_value_are_missing_in_the_units_of_their_model() -> None:
    units = Scaling(np.array([1.0, -2.0]), np.array([0.5, 4.0]), sentinels=((0, -999.0), (1, 65535.0)))
    values = np.array([[-999.0, 2.0], [1.5, 65535.0], [65535.0, -999.0]])
    np.testing.assert_array_equal(units.readings(values)[:2], [[np.nan, 2.0], [1.5, np.nan]])
    np.testing.assert_array_equal(units.readings(values)[2], values[2])
    assert np.isnan(units.of(values)[0, 0])
    assert values[0, 0] == -999.0
    clean = values[2:]
    assert units.readings(clean) is clean
    assert not units.same_as(Scaling(units.mean, units.scale))
