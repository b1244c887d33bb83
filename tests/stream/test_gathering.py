"""Rows gathered for many assets at once: the same as reading by reading, in rows, counts and state."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain import SECOND_NS, Disposition, Format, Ints, Reading, StreamSpec
from daemon.mapping import InputMapping, SensorRule
from daemon.stream import gathering
from daemon.stream.batches import ReadingBatch, bit_rows
from daemon.stream.grid import Grid, ReleasedRow

NAN = math.nan
SPEC = StreamSpec(
    "pumps",
    ("a", "b", "c"),
    allowed_lateness_ns=2 * SECOND_NS,
    max_gap_ns=4 * SECOND_NS,
    silent_after_ns=3 * SECOND_NS,
    format=Format.JSON_LONG,
)
MAPPED = replace(SPEC, format=Format.MAPPED, input=InputMapping("custom"))
ASSETS = ("p0", "p1", "p2")
SLOTS = {name: slot for slot, name in enumerate(ASSETS)}


@pytest.fixture(autouse=True)
def soon_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "STEADY", 2)


def make(spec: StreamSpec) -> Grid:
    grid = Grid(spec)
    grid.grow(2)
    grid.grow(len(ASSETS))
    for slot in SLOTS.values():
        grid.clear(slot)
    return grid


@st.composite
def logs(draw: st.DrawFn) -> tuple[StreamSpec, list[Reading], list[int]]:
    """Readings of some assets that mostly fill row after row, and the sizes of batches."""
    spec = draw(st.sampled_from([SPEC, MAPPED]))
    spec = replace(
        spec,
        allowed_lateness_ns=draw(st.sampled_from([0, 1, 2, 5])) * SECOND_NS,
        max_gap_ns=draw(st.sampled_from([1, 4])) * SECOND_NS,
        silent_after_ns=draw(st.sampled_from([2, 3, 50])) * SECOND_NS,
        # A sensor whose last value is held is silent later than the others.
        sensor_rules=(
            SensorRule(),
            SensorRule(hold_ns=draw(st.sampled_from([0, 5])) * SECOND_NS),
            SensorRule(),
        ),
    )
    lacking = {name: draw(st.sampled_from([(), (), (1,), (0, 2)])) for name in ASSETS}
    wrong = draw(st.sampled_from([0.0, 0.02, 0.2]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    readings: list[Reading] = []
    for row in range(100, 100 + draw(st.integers(1, 30))):
        for cells in _row(rng, spec, row, lacking, wrong):
            readings.append(msgspec.structs.replace(cells, offset=len(readings)))
    return spec, readings, draw(st.lists(st.sampled_from([1, 2, 5, 17, 60]), min_size=1, max_size=6))


def _row(
    rng: np.random.Generator, spec: StreamSpec, row: int, lacking: dict[str, Sequence[int]], wrong: float
) -> Iterator[Reading]:
    """The readings of one row of every asset, in an order of their own."""
    wanted = [
        (name, c) for name in ASSETS for c in range(3) if c not in lacking[name] or rng.random() < wrong / 4
    ]
    if rng.random() < 0.5:
        rng.shuffle(wanted)
    for name, c in wanted:
        if rng.random() < wrong:
            continue
        for _ in range(1 + (rng.random() < wrong)):
            at = row - int(rng.integers(0, 5)) if rng.random() < wrong else row
            at += int(rng.integers(0, 7)) if rng.random() < wrong / 2 else 0
            time_ns = at * SECOND_NS + int(rng.integers(0, 4)) * SECOND_NS // 4
            value = float(rng.choice([1.0, 2.0, NAN], p=[0.8, 0.1, 0.1])) if wrong else float(row)
            if spec.format is Format.JSON_LONG:
                yield Reading(0, name, time_ns, None, c, value)
            else:
                cells = [NAN] * 3
                also = int(rng.integers(0, 3))
                cells[c] = cells[also] = value
                yield Reading(
                    0, name, time_ns, cells, reported=1 << c | 1 << also if rng.random() < 0.9 else -1
                )


def batch_of(readings: Sequence[Reading]) -> ReadingBatch:
    if readings[0].values is not None:
        return ReadingBatch.of(readings, 3)
    columns: list[list[Any]] = [
        [getattr(r, name) for r in readings] for name in ("time_ns", "offset", "value", "sensor")
    ]
    times, offsets, values, sensors = (np.array(column) for column in columns)
    none = np.full(len(readings), -1)
    return ReadingBatch(
        [r.asset for r in readings], times, offsets, values, [""] * len(readings), none, sensors
    )


def shown(row: ReleasedRow) -> str:
    return repr((row.asset, row.row, list(row.values), row.empty, row.fresh, row.offset, row.last_offset))


def together(
    grid: Grid, readings: Sequence[Reading], doubtful: Any
) -> tuple[list[list[str]], list[Disposition]]:
    """What each reading of a batch released, and what became of it."""
    batch = batch_of(readings)
    slots: Ints = np.array([SLOTS[r.asset] for r in readings])
    parts = batch.parts(slots, 0, len(readings), grid.spec.period_ns)
    plain = grid.gathering.plain(parts, doubtful)
    which = np.flatnonzero(plain)
    made = grid.gathering.append(parts.take(which), grid.newest)
    rows: list[list[str]] = [[] for _ in readings]
    dispositions = [Disposition.ACCEPTED] * len(readings)
    for i, cause in enumerate(which[made.causes].tolist()):
        assert slots[cause] == made.slots[i]
        row = ReleasedRow(
            ASSETS[made.slots[i]], int(made.rows[i]), made.values[i].tolist(), False, False,
            int(made.offsets[i]), int(made.last_offsets[i]), "",
        )  # fmt: skip
        rows[cause].append(shown(row))
    for i in np.flatnonzero(~plain).tolist():
        closed: list[ReleasedRow] = []
        dispositions[i] = grid.insert(int(slots[i]), batch.reading(i), closed)
        rows[i] = [shown(row) for row in closed]
    for slot in slots[~plain].tolist():
        grid.make_idle_if_steady(slot)
    return rows, dispositions


@settings(max_examples=300)
@given(logs(), st.sets(st.integers(0, 20), max_size=3), st.sets(st.integers(0, 20), max_size=2))
def test_batches_of_parts_give_the_rows_and_the_state_of_single_ones(
    log: tuple[StreamSpec, list[Reading], list[int]], idle_after: set[int], restarted_after: set[int]
) -> None:
    spec, readings, sizes = log
    one, other = make(spec), make(spec)
    doubtful = np.zeros(len(ASSETS), bool)
    begin = number = conflicts = 0  # the last: of grids before a restart
    while begin < len(readings):
        batch = readings[begin : begin + sizes[number % len(sizes)]]
        alone: list[list[str]] = []
        dispositions = []
        for reading in batch:
            closed: list[ReleasedRow] = []
            dispositions.append(one.insert(SLOTS[reading.asset], reading, closed))
            one.make_idle_if_steady(SLOTS[reading.asset])
            alone.append([shown(row) for row in closed])
        assert together(other, batch, doubtful) == (alone, dispositions)
        begin, number = begin + len(batch), number + 1
        if number in idle_after:
            assert one.waiting == other.waiting
            assert list(map(shown, one.elapse(SECOND_NS))) == list(map(shown, other.elapse(SECOND_NS)))
        seen = {reading.asset for reading in readings[:begin]}
        states = {name: other.snapshot(SLOTS[name], name) for name in seen}
        assert {name: one.snapshot(SLOTS[name], name) for name in seen} == states
        assert one.newest.tolist() == other.newest.tolist()
        if number in restarted_after:
            conflicts += other.conflicts
            other = make(spec)
            for name, state in states.items():
                other.restore(SLOTS[name], name, state)
    assert one.conflicts == conflicts + other.conflicts
    assert one.waiting == other.waiting
    assert list(map(shown, one.finish())) == list(map(shown, other.finish()))


def test_steady_assets_are_taken_together_though_a_sensor_is_silent() -> None:
    grid = make(replace(SPEC, silent_after_ns=3 * SECOND_NS))
    plain = 0
    for row in range(100, 140):
        batch = [
            Reading(10 * row + c, "p1", row * SECOND_NS + c * 10**8, None, c, float(row)) for c in (0, 2)
        ]
        parts = batch_of(batch).parts(np.array([1, 1]), 0, 2, SECOND_NS)
        which = np.flatnonzero(grid.gathering.plain(parts, np.zeros(3, bool)))
        plain += len(which)
        grid.gathering.append(parts.take(which), grid.newest)
        for i in range(len(which), 2):
            grid.insert(1, batch[i], [])
            grid.make_idle_if_steady(1)
    assert plain >= 60


@pytest.mark.parametrize("held_s", [0, 5])
@pytest.mark.parametrize("rows_at_once", [1, 4])
def test_sensors_that_report_no_values_are_silent_after_their_own_time(
    held_s: int, rows_at_once: int
) -> None:
    rules = (SensorRule(), SensorRule(), SensorRule(hold_ns=held_s * SECOND_NS))
    one, other = (make(replace(SPEC, sensor_rules=rules)) for _ in range(2))
    seen = set()
    for row in range(100, 140, rows_at_once):
        batch = [
            Reading(10 * r + c, "p1", r * SECOND_NS, None, c, float(r) if c == 0 or r < 120 else NAN)
            for r in range(row, row + rows_at_once)
            for c in range(3)
        ]
        rows: list[list[str]] = []
        for reading in batch:
            closed: list[ReleasedRow] = []
            one.insert(1, reading, closed)
            rows.append([shown(released) for released in closed])
        assert together(other, batch, np.zeros(3, bool))[0] == rows
        assert one.snapshot(1, "p1") == other.snapshot(1, "p1")
        seen.add(one.snapshot(1, "p1").silent)
    assert len(seen) == (3 if held_s else 2)  # with a hold the one sensor, and then both


def test_assets_without_order_are_never_idle() -> None:
    grid = make(SPEC)
    for row in range(100, 140):
        for at in (row + 1, row):
            grid.insert(1, Reading(row, "p1", at * SECOND_NS, None, at % 3, 1.0), [])
    assert not grid.gathering.idle.any()


@pytest.mark.parametrize("width", [1, 8, 9, 70])
def test_sets_of_bits_become_rows_of_a_mask(width: int) -> None:
    sets = [0, 1, -1, 1 << (width - 1)]
    assert bit_rows(sets, width).tolist() == [[bool(bits >> c & 1) for c in range(width)] for bits in sets]
