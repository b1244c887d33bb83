"""Rows of one reading each, put together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.files import TableReading, TableSource, read_table, segments
from daemon.adapters.files.long_tables import pivot
from daemon.domain import StreamSpec
from daemon.errors import InputError
from daemon.mapping import Reduce, SensorRule
from tests.adapters.files.tables import NAN, NOW, csv_file, parquet_file, seconds

ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(-1, 2), st.sampled_from([1.0, 2.0, NAN]))
)


@given(ROWS, st.sets(st.integers(0, 9)))
def test_every_value_has_its_place(rows: list[tuple[int, int, int, float]], alone: set[int]) -> None:
    alone = {row for row in alone if row < len(rows)} | {i for i, row in enumerate(rows) if row[2] < 0}
    asset, time, sensor = (np.array([row[k] for row in rows], np.int64) for k in range(3))
    values = np.array([row[3] for row in rows], float)
    found = pivot(Path("a"), (asset, time), sensor, values, [Reduce.FIRST] * 3, alone)
    expected: dict[object, list[float]] = {}
    repeated = contradicting = 0
    for i, (a, t, s, value) in enumerate(rows):
        cells = expected.setdefault(i if i in alone else (a, t), [NAN] * 3)
        if s >= 0 and value == value:
            if cells[s] != cells[s]:
                cells[s] = value
            else:
                repeated += cells[s] == value
                contradicting += cells[s] != value
    np.testing.assert_array_equal(found.values, np.array(list(expected.values())).reshape(-1, 3))
    assert (found.repeated.sum(), found.contradicting.sum()) == (repeated, contradicting)
    np.testing.assert_array_equal(found.numbers, values)
    keys = list(expected)
    assert [keys[row] for row in found.row.tolist()] == [
        i if i in alone else (row[0], row[1]) for i, row in enumerate(rows)
    ]
    assert [found.row.tolist().index(row) for row in range(len(found.first))] == found.first.tolist()


@given(ROWS, st.sets(st.integers(0, 9)))
def test_no_value_of_a_sensor_that_is_reduced_is_lost(
    rows: list[tuple[int, int, int, float]], alone: set[int]
) -> None:
    alone = {row for row in alone if row < len(rows)} | {i for i, row in enumerate(rows) if row[2] < 0}
    asset, time, sensor = (np.array([row[k] for row in rows], np.int64) for k in range(3))
    values = np.array([row[3] for row in rows], float)
    found = pivot(Path("a"), (asset, time), sensor, values, [Reduce.FIRST, Reduce.MEAN, Reduce.LAST], alone)
    came: dict[tuple[int, int, int], list[float]] = {}
    kept: dict[tuple[int, int, int], list[float]] = {}
    for i, (a, t, s, value) in enumerate(rows):
        if i not in alone and value == value and not (s == 0 and (a, t, s) in came):
            came.setdefault((a, t, s), []).append(value)
    used = [row for row in range(len(found.first)) if int(found.first[row]) not in alone]
    for row in used:
        a, t = int(asset[found.first[row]]), int(time[found.first[row]])
        for s in range(3):
            if found.values[row, s] == found.values[row, s]:
                kept.setdefault((a, t, s), []).append(float(found.values[row, s]))
    assert kept == came
    assert not found.repeated[1:].any()
    assert not found.contradicting[1:].any()


STATES = """time,sensor,value
2024-01-01 00:00:00,a,9999
2024-01-01 00:00:00,a,1
2024-01-01 00:00:00,a,50
2024-01-01 00:00:30,a,6
2024-01-01 00:00:00,state,STOP
2024-01-01 00:00:30,mode,STOP
2024-01-01 00:01:00,a,RUN
2024-01-01 00:01:00,state,RUN
2024-01-01 00:01:00,mode,5
"""


@pytest.mark.parametrize(("reduce", "expected"), [("max", 50), ("mean", 19), ("last", 6), ("first", 1)])
def test_the_rules_of_each_sensor_are_applied_to_its_values(
    tmp_path: Path, reduce: str, expected: float
) -> None:
    rules = (
        SensorRule(reduce=Reduce(reduce), missing=frozenset({9999.0})),
        SensorRule(states={"RUN": 1, "STOP": 0}),
        SensorRule(states={"STOP": 7}, scale=2),
    )
    spec = StreamSpec("s", ("a", "state", "mode"), period_ns=60 * 10**9, sensor_rules=rules)
    table = read_table(csv_file(tmp_path / "a.csv", STATES), reading=TableReading().of(spec))
    assert table.corrupt == {("a", "text"): 1}
    (found,) = segments(table, spec)
    np.testing.assert_array_equal(found.values, [[expected, 0, 14], [NAN, 1, 10]])
    assert not [note for note in table.notes if "of an earlier row" in note or "times repeat" in note]


def test_the_texts_of_a_long_parquet_table_are_states(tmp_path: Path) -> None:
    stamps = ["2024-01-01T00:00:00Z"] * 2 + ["2024-01-01T00:00:01Z"] * 2
    path = parquet_file(
        tmp_path / "a.parquet", time=stamps, sensor=["a", "s"] * 2, value=["1.5", "RUN", "2", "odd"]
    )
    rules = {"a": SensorRule(), "s": SensorRule(states={"RUN": 1})}
    table = read_table(path, reading=TableReading(sensors=rules, sensor="sensor", value="value"))
    np.testing.assert_array_equal(table.values, [[1.5, 1], [2, NAN]])
    assert table.corrupt == {("s", "text"): 1}


def test_too_many_sensors_are_refused() -> None:
    many = np.arange(20_000, dtype=np.int64)
    with pytest.raises(InputError, match="are too many for a table"):
        pivot(Path("a"), (many, many), many, many.astype(float), [Reduce.FIRST] * 20_000, ())


LONG = """time,device,sensor,value
2024-01-01 00:00:00,a,t,1
2024-01-01 00:00:00,a,h,2
2024-01-01 00:00:00,b,t,3
2024-01-01 00:00:01,a,t,4
2024-01-01 00:00:01,a,t,4
2024-01-01 00:00:01,a,t,5
2024-01-01 00:00:01,a,,6
soon,a,t,7
2024-01-01 00:00:02,a,h,err
"""


def test_nothing_of_a_long_table_is_lost_in_silence(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "a.csv", LONG)
    table = read_table(path)
    assert (table.sensors, table.asset_names) == (("t", "h"), ("a", "b"))
    assert table.assets.tolist() == ["a", "b", "a", "a", "a", "a"]
    assert seconds(table) == [0, 0, 1, 1, None, 2]
    np.testing.assert_array_equal(
        table.values, [[1, 2], [3, NAN], [4, NAN], [NAN, NAN], [7, NAN], [NAN, NAN]]
    )
    assert {row: str(why.reason) for row, why in table.refused.items()} == {
        3: "no_sensor",
        4: "bad_timestamp",
    }
    assert "9 rows of one sensor each (sensor, value) are 6 rows of 2 sensors" in table.notes
    assert (
        "of one sensor and time, 1 values came again and 1 contradict the one before; the first counts"
        in table.notes
    )
    assert table.corrupt == {("h", "text"): 1}
    assert [table.line_of(row) for row in range(6)] == [0, 2, 3, 6, 7, 8]
    source = TableSource(table, StreamSpec("s", ("t", "h")), NOW)
    assert [(r.record.offset, str(r.reason)) for r in source.rejected] == [
        (6, "no_sensor"),
        (7, "bad_timestamp"),
    ]
    less = read_table(path, exclude=["t"])
    assert (less.sensors, len(less), less.values[0].tolist()) == (("h",), 6, [2])
    with pytest.raises(InputError, match="every sensor is excluded"):
        read_table(path, exclude=["t", "h"])
    head = table.head(2)
    assert (len(head), head.asset_names, head.line_of(1)) == (2, ("a", "b"), 1)


def test_the_first_rows_keep_their_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    cells = [f"{1_750_000_000 + t},{sensor},{'ERR' if t == 2 else t}\n" for t in range(9) for sensor in "xy"]
    path.write_text("ts,sensor,value\n" + "".join(cells))
    table = read_table(path)
    assert table.corrupt == {("x", "text"): 1, ("y", "text"): 1}
    assert table.head(3).corrupt == table.corrupt
    assert table.head(2).corrupt == {}
