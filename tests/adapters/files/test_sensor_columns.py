"""Columns of numbers, whatever they are written like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from daemon.adapters.files import Table, TableReading, read_table
from daemon.mapping import SensorRule
from tests.adapters.files.tables import NAN, csv_file


def column(tmp_path: Path, *cells: str, delimiter: str = ";", beside: str = "0", **known: object) -> Table:
    text = f"time{delimiter}x{delimiter}other\n"
    for i, cell in enumerate(cells):
        text += f"2024-01-01 00:00:{i:02d}{delimiter}{cell}{delimiter}{beside}\n"
    return read_table(csv_file(tmp_path / "a.csv", text), reading=TableReading(**known))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["12,5", "1.234,5", "-0,25"], [12.5, 1234.5, -0.25]),
        (["1.234", "12,5"], [1234, 12.5]),  # points between thousands, as another cell has a decimal comma
        (["12.5", "12,5"], [12.5, 12.5]),
        (["1 234,5", "2"], [1234.5, 2]),
        (["1,234", "5,678"], [1.234, 5.678]),  # semicolons between cells
        (["12.345.678", "1,5"], [12345678, 1.5]),
        (["20.07", "1.234"], [20.07, 1.234]),
        (["1,5e3", "2"], [1500, 2]),
    ],
)
def test_a_column_is_read_one_way(tmp_path: Path, cells: list[str], expected: list[float]) -> None:
    assert column(tmp_path, *cells).values[:, 0].tolist() == expected


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (['"1,234"', '"5,678"'], [1234, 5678]),  # commas between cells, so that these group thousands
        (['"1,234.5"', "7"], [1234.5, 7]),
        (['"1,5"', '"2,25"'], [1.5, 2.25]),
        (['"12,345,678"', '"1,234"'], [12345678, 1234]),
    ],
)
def test_commas_in_quotes(tmp_path: Path, cells: list[str], expected: list[float]) -> None:
    assert column(tmp_path, *cells, delimiter=",").values[:, 0].tolist() == expected


def test_the_file_decides_what_a_column_leaves_open(tmp_path: Path) -> None:
    assert column(tmp_path, "1.234", "5.678", beside="1,5").values[:, 0].tolist() == [1234, 5678]
    assert column(tmp_path, "1.234", "5.678", beside="1.5").values[:, 0].tolist() == [1.234, 5.678]
    assert column(tmp_path, "0.234", "5.678", beside="1,5").values[:, 0].tolist() == [0.234, 5.678]


def test_words_units_and_states(tmp_path: Path) -> None:
    table = column(tmp_path, "True", "false", "ON", "no data", beside="49.7 %")
    np.testing.assert_array_equal(table.values, [[1, 49.7], [0, 49.7], [1, 49.7], [NAN, 49.7]])
    assert "read as 1 and 0: x (True, false, ON)" in table.notes
    table = column(tmp_path, "auto", "manual", "auto")
    assert table.sensors == ("other",)
    assert table.notes == (
        "not numeric, left out: x",
        "column 'x' holds texts; as a sensor: sensors: {x: {states: {auto: 0, manual: 1}}}",
    )
    rule = SensorRule(states={"auto": 0.0, "manual": 1.0})
    table = column(tmp_path, "auto", "manual", "fault", sensors={"x": rule})
    np.testing.assert_array_equal(table.values[:, 0], [0, 1, NAN])
    assert table.corrupt == {("x", "text"): 1}


def test_the_rules_of_the_configuration_hold(tmp_path: Path) -> None:
    rule = SensorRule(source="x", scale=0.1, offset=-40, missing=frozenset({999.0}))
    table = column(tmp_path, "500", "999", "600", sensors={"temperature": rule})
    assert table.sensors == ("temperature", "other")
    np.testing.assert_allclose(table.values[:, 0], [10, NAN, 20])
    table = column(tmp_path, "5", "-9", "bad", "7", missing=frozenset({-9, "bad"}))
    np.testing.assert_array_equal(table.values[:, 0], [5, NAN, NAN, 7])


def test_what_is_no_number_is_counted_by_sensor_and_fault(tmp_path: Path) -> None:
    table = column(tmp_path, "1", "2", "3", "4", "err", "inf", "1e999", "-", "?", "err")
    assert table.corrupt == {("x", "text"): 2, ("x", "infinite"): 1, ("x", "too_large"): 1}
    (note,) = (note for note in table.notes if "are no numbers" in note)
    assert note.startswith(
        "sensor 'x': 2 cells are no numbers and count as missing: a text that is no number"
    )
    assert "sensor 'x': 2 cells are infinite and count as missing" in table.notes
    assert np.isfinite(table.values[:, 0]).sum() == 4


def test_a_column_without_a_name_is_called_by_its_place_and_can_be_excluded(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    rows = [f"2026-03-01 08:00:0{i},{i * i}.5,{3 - i},\n" for i in range(4)]
    file.write_text("time,,load,\n" + "".join(rows))
    table = read_table(file)
    assert table.sensors == ("column 2", "load")
    (note,) = (note for note in table.notes if "without a name" in note)
    assert "column 2" in note
    assert "column 4" not in note
    assert read_table(file, exclude=("column 2",)).sensors == ("load",)


def test_sensors_with_the_same_fault_are_one_note(tmp_path: Path) -> None:
    names = [f"s{n}" for n in range(8)]
    lines = [f"timestamp,{','.join(names)},a,b"]
    for second in range(20):
        odd = "ERR" if second == 3 else "1.5"
        lines.append(f"2026-01-01T00:00:{second:02d}Z,{','.join([odd] * 8)},,")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    notes = read_table(tmp_path / "t.csv").notes
    assert [note for note in notes if "no numbers" in note] == [
        "sensors 's0', 's1', 's2', 's3', 's4' and 3 more: 8 cells are no numbers and count as missing:"
        " a text that is no number: give the sensor states, or put the word under missing"
    ]
    assert "sensors 'a', 'b' hold no number at all" in notes
