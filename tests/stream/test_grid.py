"""Event time: what is late, what waits for what, and in which order rows come out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from daemon.domain import (
    SECOND_NS,
    Disposition,
    Format,
    Reading,
    StreamSpec,
)
from daemon.mapping import Reduce, SensorRule
from daemon.stream.asset_grid import value_hashes
from daemon.stream.grid import Grid, ReleasedRow
from tests import naive

NAN = math.nan
SPEC = StreamSpec(
    "pumps",
    ("a", "b"),
    allowed_lateness_ns=2 * SECOND_NS,
    max_gap_ns=4 * SECOND_NS,
    silent_after_ns=3 * SECOND_NS,
)
LONG = replace(SPEC, format=Format.JSON_LONG)
LETTER = {
    Disposition.ACCEPTED: "",
    Disposition.DUPLICATE: "D",
    Disposition.LATE: "L",
}


def drawn(rows: Sequence[ReleasedRow]) -> str:
    """``|`` begins the windows afresh, ``.`` is an empty row, ``7`` a row with all, ``7ab-`` what it lacks."""
    words = []
    for row in rows:
        missing = "".join(s for s, v in zip("ab", row.values, strict=True) if v != v)
        mark = "." if row.empty else (f"{row.row}-{missing}" if missing else f"{row.row}")
        words.append(("|" if row.fresh else "") + mark)
    return " ".join(words)


def wide(second: float, offset: int = 0, values: Sequence[float] = (1.0, 2.0)) -> Reading:
    return Reading(offset, "p1", int(second * SECOND_NS), list(values))


def long(second: float, sensor: int, value: float = 1.0, offset: int = 0) -> Reading:
    return Reading(offset, "p1", int(second * SECOND_NS), None, sensor, value)


SLOTS = {"p1": 1, "p2": 0, "now": 1, "then": 0}


def make(spec: StreamSpec) -> Grid:
    grid = Grid(spec)
    grid.grow(1)
    grid.grow(2)
    for slot in range(2):
        grid.clear(slot)
    return grid


def insert(grid: Grid, reading: Reading, closed: list[ReleasedRow]) -> Disposition:
    return grid.insert(SLOTS[reading.asset], reading, closed)


def inserted(grid: Grid, *readings: Reading) -> tuple[str, str]:
    """What became of the last of these readings, and the rows that it closed."""
    for reading in readings:
        closed: list[ReleasedRow] = []
        disposition = insert(grid, reading, closed)
    return LETTER[disposition], drawn(closed)


def play_wide(spec: StreamSpec, times: str) -> str:
    """Offer wide lines at these seconds; what each one released, ``/`` between the lines."""
    grid = make(spec)
    said = []
    for i, second in enumerate(times.split()):
        said.append(" ".join(filter(None, inserted(grid, wide(float(second), i)))))
    return "/".join(said)


@pytest.mark.parametrize(
    ("times", "released"),
    [
        # lateness 2 s, max_gap 4 rows. The first row waits for the watermark: 4 may be in flight
        ("5 6 7 8", "//|5 6 7/8"),
        ("5 4 7 8 9", "//|4 5//. 7 8 9"),
        ("5 3.5 6 7 8", "/|3//. 5 6 7/8"),
        # floored to the period; the same row again is a duplicate
        ("5 5.9 6 7", "/D//|5 6 7"),
        # in order at once; a hole waits until the watermark has passed its end
        ("5 6 7 8 10 11 12", "//|5 6 7/8///. 10 11 12"),
        ("5 6 7 8 10 9 11", "//|5 6 7/8//9 10/11"),
        # below the watermark, even by a little
        ("5 6 9 6.9 7", "//|5 6/L/7"),
        ("5 6 7 8 4", "//|5 6 7/8/L"),
        # the first line of all says where late begins, too
        ("5 2.9 3", "/L/|3"),
        # four rows on are bridged, five are not: then windows start afresh, once none may come before
        ("5 7 11 14", "/|5/. 7 ./. . 11"),
        ("5 7 11 12", "/|5/. 7 ./."),
        ("5 7 12 13 14", "/|5/. 7//|12 13 14"),
        ("5 7 12 13 11 14", "/|5/. 7//. . . 11 12 13/14"),
    ],
)
def test_wide_rows_in_event_time(times: str, released: str) -> None:
    assert play_wide(SPEC, times) == released


@pytest.mark.parametrize(
    ("cells", "released"),
    [
        # a row is complete when both have come; what is absent at the watermark is missing
        ("5a 5b 6a 6b 7a 7b", "////|5 6/7"),
        ("5a 5b 6a 7a 7b 8a 8b 9a", "///|5////6-b 7 8"),
        # a null is a report, too; a value may still come in its place while the row is open
        ("5a 5~b 6a 6b 7a", "////|5-b 6"),
        ("5a 5~b 5b 6a 6b 7a", "/////|5 6"),
        ("5a 5~b 5~b 7a", "//D/|5-b"),
        # equal is a duplicate, before and after the release
        ("5a 5a 5b 7a 5a", "/D//|5/D"),
        # b has been silent for three rows: no row waits for it any more, until it speaks again
        ("5a 5b 6a 7a 8a 9a 10a 11a 12a 13a", "///|5//6-b/7-b/8-b 9-b 10-b 11-b/12-b/13-b"),
    ],
)
def test_long_rows_in_event_time(cells: str, released: str) -> None:
    grid = make(LONG)
    said = []
    for i, cell in enumerate(cells.split()):
        second, value = cell[:-1], 1.0
        if second.endswith("~"):
            second, value = second[:-1], NAN
        reading = long(float(second), "ab".index(cell[-1]), value, i)
        said.append(" ".join(filter(None, inserted(grid, reading))))
    assert "/".join(said) == released


def test_the_first_value_of_a_cell_wins_and_contradictions_are_counted() -> None:
    grid = make(SPEC)
    for reading in (wide(5, 0, [1.0, NAN]), wide(5, 1, [9.0, NAN]), wide(5, 2, [1.0, 2.0])):
        assert inserted(grid, reading) == ("", "")
    assert inserted(grid, wide(5, 3, [1.0, NAN])) == ("D", "")
    assert grid.conflicts == 2
    (row,) = grid.finish()
    assert row.values[0] == 1.0
    assert math.isnan(row.values[1])
    assert (row.offset, row.last_offset) == (0, 0)


@pytest.mark.parametrize(
    ("first", "second", "parts"),
    [
        ([1.0, NAN], [NAN, 2.0], 1),
        ([1.0, NAN], [1.0, 2.0], 1),
        ([1.0, 2.0], [1.0, NAN], 1),
        ([1.0, 2.0], [3.0, 4.0], 0),
        ([1.0, NAN], [3.0, NAN], 0),
        ([1.0, NAN], [1.0, NAN], 0),
    ],
)
def test_a_conflict_where_one_reading_has_no_number_and_the_other_one_has_is_a_part(
    first: list[float], second: list[float], parts: int
) -> None:
    grid = make(SPEC)
    inserted(grid, wide(5, 0, first), wide(5, 1, second))
    assert grid.parts == parts


def test_a_conflict_with_a_released_row_is_a_part_if_it_lacks_numbers() -> None:
    grid = make(SPEC)
    inserted(grid, wide(5), wide(6), wide(7), wide(7, 1, [NAN, 3.0]))
    assert (grid.conflicts, grid.parts) == (1, 1)
    inserted(grid, wide(7, 2, [2.0, 3.0]))
    assert (grid.conflicts, grid.parts) == (2, 1)


def test_the_first_value_of_a_long_cell_wins_open_or_released() -> None:
    grid = make(LONG)
    for reading in (long(5, 0, 1.0), long(5, 0, 9.0), long(5, 0, NAN), long(5, 1, NAN)):
        assert inserted(grid, reading) == ("", "")
    assert grid.conflicts == 2
    assert inserted(grid, long(7, 0)) == ("", "|5-b")
    assert inserted(grid, long(5, 0, 9.0)) == ("", "")
    assert inserted(grid, long(5, 1, 9.0)) == ("", "")  # a null was said, and is out
    assert inserted(grid, long(5, 1, NAN)) == ("D", "")
    assert grid.conflicts == 4


def test_a_silent_sensor_that_reports_for_a_released_row_is_late_but_awaited_again() -> None:
    grid = make(replace(LONG, allowed_lateness_ns=5 * SECOND_NS))
    for second in range(5, 20):
        inserted(grid, long(second, 0))
    assert grid.snapshot(1, "p1").head == 20  # nothing waits for b
    assert inserted(grid, long(19, 1)) == ("L", "")
    assert inserted(grid, long(20, 0)) == ("", "")
    assert inserted(grid, long(20, 1)) == ("", "20")


@pytest.mark.parametrize(
    ("rule", "values", "one"),
    [
        (Reduce.LAST, "5.1=1 5.7=3 5.3=2", 3.0),  # by event time, whatever order they came in
        (Reduce.LAST, "5.1=1 5.1=3", 3.0),
        (Reduce.LAST, "5.1=1 5.7=-", 1.0),  # no value is no value
        (Reduce.MEAN, "5.1=1 5.7=3 5.3=5 5.3=-", 3.0),
        (Reduce.MEAN, "5=1e308 5=1.7e308 5=1", 1e308 / 2),  # beyond all numbers the sum so far stands
        (Reduce.MAX, "5=1 5=3 5=2", 3.0),
        (Reduce.MIN, "5=2 5=1 5=3", 1.0),
        (Reduce.MIN, "5=-", NAN),
    ],
)
@pytest.mark.parametrize("form", [Format.JSON_LONG, Format.JSON_WIDE])
def test_several_values_of_a_row_become_one(form: Format, rule: Reduce, values: str, one: float) -> None:
    grid = make(replace(SPEC, format=form, sensor_rules=(SensorRule(reduce=rule), SensorRule())))
    closed: list[ReleasedRow] = []
    for i, said in enumerate(values.split()):
        second, text = said.split("=")
        value = NAN if text == "-" else float(text)
        reading = Reading(i, "p1", round(float(second) * SECOND_NS), None, 0, value)
        if form is Format.JSON_WIDE:
            reading = Reading(i, "p1", reading.time_ns, [value, 7.0])
        assert insert(grid, reading, closed) is Disposition.ACCEPTED
        state = grid.snapshot(1, "p1")
        grid = make(grid.spec)  # whoever takes over goes on with what there is so far
        grid.restore(1, "p1", state)
    assert grid.conflicts == 0
    assert insert(grid, wide(7.9), closed) is Disposition.ACCEPTED
    assert not closed  # another value may come until the watermark has passed the row
    assert insert(grid, wide(8), closed) is Disposition.ACCEPTED
    assert repr(closed[0].values[0]) == repr(one)
    assert insert(grid, wide(5.9), closed) is Disposition.LATE


def test_a_sensor_whose_value_is_held_is_awaited_for_as_long() -> None:
    spec = replace(LONG, allowed_lateness_ns=5 * SECOND_NS)
    for hold, head in ((0, 20), (8 * SECOND_NS, 20), (30 * SECOND_NS, 14)):
        grid = make(replace(spec, sensor_rules=(SensorRule(), SensorRule(hold_ns=hold))))
        for second in range(5, 20):
            inserted(grid, long(second, 0))
        assert grid.snapshot(1, "p1").head == head


def test_a_condition_is_kept_until_another_one_comes() -> None:
    grid = make(SPEC)
    closed: list[ReleasedRow] = []
    for second, label in ((5, "on"), (6, ""), (8, "off"), (9, "")):
        reading = wide(second)
        reading.condition = label
        insert(grid, reading, closed)
    assert [(row.row, row.condition) for row in closed + grid.finish()] == [
        (5, "on"),
        (6, "on"),
        (7, "on"),
        (8, "off"),
        (9, "off"),
    ]


def test_an_idle_log_closes_rows_up_to_the_last_observed_one_and_no_further() -> None:
    grid = make(SPEC)
    assert inserted(grid, wide(5.5), wide(7.5)) == ("", "|5")
    assert drawn(grid.elapse(int(1.4 * SECOND_NS))) == ""
    assert drawn(grid.elapse(int(1.5 * SECOND_NS))) == ". 7"
    assert grid.elapse(10**6 * SECOND_NS) == []
    # A year later by the clock, one second later by its own time: not late.
    assert inserted(grid, wide(8.5)) == ("", "8")
    assert inserted(grid, wide(10.5)) == ("", "")
    assert drawn(grid.elapse(10**6 * SECOND_NS)) == ". 10"
    assert inserted(grid, wide(10.9)) == ("L", "")  # that row is closed, by its own end
    assert inserted(grid, wide(11.0)) == ("", "11")


def test_each_asset_has_its_own_time() -> None:
    grid = make(SPEC)
    year_ns = 365 * 86_400 * SECOND_NS
    now: list[ReleasedRow] = []
    then: list[ReleasedRow] = []
    for second in range(6):
        insert(grid, Reading(0, "now", year_ns + second * SECOND_NS, [1.0, 1.0]), now)
        insert(grid, Reading(0, "then", second * SECOND_NS, [1.0, 1.0]), then)
    assert drawn(then) == "|0 1 2 3 4 5"
    assert len(now) == 6


def test_a_cleared_slot_starts_anew() -> None:
    grid = make(SPEC)
    inserted(grid, wide(50))
    grid.clear(1)
    grid.clear(1)
    assert inserted(grid, wide(5)) == ("", "")


def test_memory_for_duplicates_is_bounded_by_the_lateness() -> None:
    grid = make(SPEC)
    for second in range(500):
        inserted(grid, wide(second))
        state = grid.snapshot(1, "p1")
        assert len(state.rows) + len(state.value_hashes) // 8 <= 8
    long_grid = make(LONG)
    for second in range(500):
        inserted(long_grid, long(second, 0), long(second, 1))
        state = long_grid.snapshot(1, "p1")
        assert len(state.rows) + len(state.recent) + len(state.value_hashes) <= 4


# ------------------------------------------------------------------ against the oracle
READINGS = st.lists(
    st.tuples(
        st.sampled_from(["p1", "p2"]),
        st.integers(-6, 4),  # half seconds beside the clock's own pace
        st.integers(0, 9).map(lambda n: 12 if n == 9 else min(n, 2)),  # half seconds the clock moves on
        st.integers(0, 1),
        st.sampled_from([1.0, 1.0, 1.0, 2.0, NAN]),
        st.sampled_from([1.0, 1.0, NAN]),
        st.sampled_from(["", "", "", "x", "y"]),
    ),
    max_size=60,
)


def arrivals(drawn_readings: list[tuple[Any, ...]], form: Format) -> list[Reading]:
    half = SECOND_NS // 2
    readings, clock = [], 40
    for i, (asset, beside, on, sensor, value, other, condition) in enumerate(drawn_readings):
        clock += on
        time_ns = (clock + beside) * half
        if form is Format.JSON_WIDE:
            readings.append(Reading(i, asset, time_ns, [value, other], condition=condition))
        else:
            readings.append(Reading(i, asset, time_ns, None, sensor, value, condition))
    return readings


def plain(row: ReleasedRow) -> tuple[Any, ...]:
    return repr((row.row, row.values, row.empty, row.fresh, row.offset, row.condition)), row.asset


SPECS = st.builds(
    replace,
    st.sampled_from([SPEC, LONG]),
    allowed_lateness_ns=st.sampled_from([0, SECOND_NS, 2 * SECOND_NS, 5 * SECOND_NS + SECOND_NS // 2]),
    max_gap_ns=st.sampled_from([SECOND_NS, 4 * SECOND_NS]),
    silent_after_ns=st.sampled_from([2 * SECOND_NS, 6 * SECOND_NS]),
)


@given(SPECS, READINGS, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=3))
def test_the_grid_agrees_with_the_oracle(
    spec: StreamSpec, given_readings: list[tuple[Any, ...]], pauses: list[tuple[int, int]]
) -> None:
    grid = make(spec)
    rules: dict[str, naive.AssetRows] = {}
    idle_after = {at: seconds * SECOND_NS // 2 for at, seconds in pauses}
    for i, reading in enumerate(arrivals(given_readings, spec.format)):
        asset = rules.setdefault(reading.asset, naive.AssetRows(spec))
        closed: list[ReleasedRow] = []
        assert insert(grid, reading, closed) is asset.offer(reading)
        assert [plain(row) for row in closed] == [(repr(row), reading.asset) for row in asset.release()]
        if i in idle_after:
            by_asset: dict[str, list[str]] = {name: [] for name in rules}
            for row in grid.elapse(idle_after[i]):
                by_asset[row.asset].append(plain(row)[0])
            for name, one in rules.items():
                one.elapse(idle_after[i])
                assert by_asset[name] == [repr(row) for row in one.release()]
    ended = [plain(row) for row in grid.finish()]
    for name, one in rules.items():
        one.elapse(1 << 62)
        assert [row for row, asset in ended if asset == name] == [repr(row) for row in one.release()]
        assert not grid.snapshot(SLOTS[name], name).rows


@given(SPECS, READINGS)
def test_rows_are_released_in_order_without_holes_and_never_twice(
    spec: StreamSpec, given_readings: list[tuple[Any, ...]]
) -> None:
    grid = make(spec)
    rows: list[ReleasedRow] = []
    for reading in arrivals(given_readings, spec.format):
        insert(grid, reading, rows)
    rows.extend(grid.finish())
    last: dict[str, int] = {}
    for row in rows:
        if row.fresh:
            assert row.row > last.get(row.asset, -1)
            assert not row.empty
        else:
            assert row.row == last[row.asset] + 1
        last[row.asset] = row.row
    for name, row in last.items():
        assert row == grid.newest[SLOTS[name]] == grid.snapshot(SLOTS[name], name).last_observed


@pytest.mark.parametrize(("label", "plainly"), [("off", True), ("", False)])
def test_a_reading_without_a_condition_is_not_taken_together_with_others(label: str, plainly: bool) -> None:
    grid = make(replace(SPEC, condition=("mode",)))
    for second in (5, 6, 7):
        reading = wide(second)
        reading.condition = "on"
        insert(grid, reading, [])
    slot, one = np.array([SLOTS["p1"]]), np.array([8])
    found = grid.is_next_row(slot, np.array([0]), one, one * SECOND_NS, [label])
    assert found.tolist() == [plainly]


@given(SPECS, READINGS)
def test_a_log_that_is_idle_for_no_time_closes_nothing(
    spec: StreamSpec, given_readings: list[tuple[Any, ...]]
) -> None:
    grid = make(spec)
    for reading in arrivals(given_readings, spec.format):
        insert(grid, reading, [])
        assert grid.elapse(0) == []


@given(SPECS.filter(lambda spec: spec.format is Format.JSON_WIDE), READINGS, st.lists(st.integers(1, 30)))
def test_batches_of_readings_give_the_rows_of_single_readings(
    spec: StreamSpec, given_readings: list[tuple[Any, ...]], sizes: list[int]
) -> None:
    readings = arrivals(given_readings, spec.format)
    one, other = make(spec), make(spec)
    alone: dict[int, list[Any]] = {}
    for i, reading in enumerate(readings):
        closed: list[ReleasedRow] = []
        alone[i] = [insert(one, reading, closed), *map(plain, closed)]
    begin = 0
    while begin < len(readings):
        batch = readings[begin : begin + (sizes.pop() if sizes else 7)]
        slots = np.array([SLOTS[r.asset] for r in batch])
        occurrence = np.array([int((slots[:i] == slot).sum()) for i, slot in enumerate(slots)])
        times = np.array([r.time_ns for r in batch])
        rows = times // spec.period_ns
        values = np.array([r.values for r in batch])
        hashes = value_hashes(values)
        plainly = other.is_next_row(slots, occurrence, rows, times, [r.condition for r in batch])
        other.append_next(slots[plainly], rows[plainly], times[plainly], hashes[plainly], [])
        for i, reading in enumerate(batch):
            if plainly[i]:
                row = ReleasedRow(
                    reading.asset, int(rows[i]), reading.values or (), False, False, reading.offset,
                    reading.offset, "",
                )  # fmt: skip
                assert alone[begin + i][0] is Disposition.ACCEPTED
                assert [repr(got) for _, got in [plain(row)]] == [repr(a) for _, a in alone[begin + i][1:]]
                assert plain(row)[0].split(", ")[0] == alone[begin + i][1][0].split(", ")[0]
            else:
                closed = []
                assert [insert(other, reading, closed), *map(plain, closed)] == alone[begin + i]
        begin += len(batch)
    assert other.conflicts == one.conflicts
    for name, slot in SLOTS.items():
        if name in {r.asset for r in readings}:
            assert one.newest[slot] == other.newest[slot]
            mine, theirs = one.snapshot(slot, name), other.snapshot(slot, name)
            # These streams have no condition fields: an idle asset's label is not followed.
            assert structs.replace(mine, condition="") == structs.replace(theirs, condition="")
