"""How a CSV file is written: encodings, delimiters, where the header is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.files import column_names, read_table
from daemon.adapters.files.csv_form import csv_form, utf8_text
from daemon.errors import InputError
from tests.adapters.files.tables import NAN, csv_file, seconds

ROWS = "2024-01-01 00:00:00{d}1.5{d}7\n2024-01-01 00:00:01{d}2.5{d}8\n2024-01-01 00:00:02{d}3.5{d}9\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_leaves_numbers_and_times(tmp_path: Path, delimiter: str) -> None:
    text = f"time{delimiter}a,x{delimiter}b\n" if delimiter != "," else "time,a,b\n"
    table = read_table(csv_file(tmp_path / "a.csv", text + ROWS.format(d=delimiter)))
    assert (seconds(table), table.values.tolist()) == ([0, 1, 2], [[1.5, 7], [2.5, 8], [3.5, 9]])


def test_decimal_commas_do_not_hide_the_semicolons(tmp_path: Path) -> None:
    text = "time;a;b\n2024-01-01;1,5;1.234,5\n2024-01-02;2,25;12,0\n"
    table = read_table(csv_file(tmp_path / "a.csv", text))
    assert table.values.tolist() == [[1.5, 1234.5], [2.25, 12]]
    assert "numbers are read with decimal commas" in table.notes


@pytest.mark.parametrize(
    ("encoding", "mark", "note"),
    [
        ("utf-8", b"", None),
        ("utf-8", b"\xef\xbb\xbf", None),
        ("cp1252", b"", "no UTF-8: read as Windows-1252"),
        ("utf-16-le", b"\xff\xfe", "no UTF-8: read as UTF-16"),
        ("utf-16-be", b"\xfe\xff", "no UTF-8: read as UTF-16"),
        ("utf-16-le", b"", "no UTF-8: read as UTF-16"),
        ("utf-16-be", b"", "no UTF-8: read as UTF-16"),
    ],
)
def test_every_encoding_that_spreadsheets_write(
    tmp_path: Path, encoding: str, mark: bytes, note: str | None
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(mark + ("time,Temp °C,b\r\n" + ROWS.format(d=",")).encode(encoding))
    table = read_table(path)
    assert table.sensors == ("Temp °C", "b")
    assert table.notes == (() if note is None else (note,))
    assert column_names(path) == ["time", "Temp °C", "b"]


@pytest.mark.parametrize(
    ("above", "note"),
    [
        (
            '"TOA5","st","CR1000","1"\n"TS_TIME","a","b"\n"TS","Volts","%"\n"","Avg","Smp"\n',
            "2 lines below it",
        ),
        ("Report of the week\n\nts_time,a,b\n", "the columns are named in line 3"),
        ("# station: 7\n# made by logger\nts_time,a,b\n", "the columns are named in line 3"),
        ("# ts_time,a,b\n", None),
        ("Station,7\nSerial,8\n\nts_time,a,b\n,degC,bar\n", "the line below it holds"),
        ("sep=,\nts_time,a,b\n", None),
        ("ts_time,a,b\n[-],[degC],[bar]\n", "the line below it holds"),
    ],
)
def test_the_header_is_the_line_of_names_above_the_readings(
    tmp_path: Path, above: str, note: str | None
) -> None:
    text = above.replace("TS_TIME", "timestamp").replace("ts_time", "timestamp") + ROWS.format(d=",")
    table = read_table(csv_file(tmp_path / "a.csv", text))
    assert table.sensors == ("a", "b")
    assert table.values.tolist() == [[1.5, 7], [2.5, 8], [3.5, 9]]
    assert any(note in line for line in table.notes) if note is not None else table.notes == ()


def test_a_row_of_other_cells_is_refused_alone(tmp_path: Path) -> None:
    text = "time,a,b\n" + ROWS.format(d=",") + "Total,7\n\n2024-01-01 00:00:03,4.5,1\n"
    table = read_table(csv_file(tmp_path / "a.csv", text))
    assert table.usable.tolist() == [True, True, True, False, True]
    np.testing.assert_array_equal(table.values[3:], [[NAN, NAN], [4.5, 1]])
    assert (str(table.refused[3].reason), table.refused[3].detail) == ("bad_row", "2 cells, not 3: Total,7")
    assert (
        "1 rows have another number of cells than the header; row 3: 2 cells, not 3: Total,7" in table.notes
    )


@pytest.mark.parametrize(
    ("text", "sensors"),
    [
        ("time,a,b,\n" + ROWS.format(d=",").replace("\n", ",\n"), ("a", "b")),
        ("time,a,b\n" + ROWS.format(d=",").replace("\n", ",\n"), ("a", "b")),
        ("time,a,b,\n" + ROWS.format(d=","), ("a", "b")),
        ("time,a,a\n" + ROWS.format(d=","), ("a", "a.2")),
        ("time,,b\n" + ROWS.format(d=","), ("column 2", "b")),
        ('time,"a\nb",c\n' + ROWS.format(d=","), ("a b", "c")),
        (" time , a , b \n" + ROWS.format(d=","), ("a", "b")),
    ],
)
def test_names_are_made_of_whatever_the_header_has(
    tmp_path: Path, text: str, sensors: tuple[str, ...]
) -> None:
    table = read_table(csv_file(tmp_path / "a.csv", text))
    assert (table.sensors, table.values[:, :2].tolist()) == (sensors, [[1.5, 7], [2.5, 8], [3.5, 9]])


def test_old_line_ends_are_line_ends(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path / "a.csv", ("time,a,b\n" + ROWS.format(d=",")).replace("\n", "\r")))
    assert len(table) == 3


def test_a_sensor_called_as_a_time_is_no_header(tmp_path: Path) -> None:
    text = "time,sensor,value\n" + "".join(f"2024-01-01 00:00:0{i},{'th'[i % 2]},{i}\n" for i in range(4))
    assert read_table(csv_file(tmp_path / "a.csv", text)).sensors == ("t", "h")


@given(
    st.binary(max_size=300)
    | st.text(alphabet=',;\t|\n\r"#0123456789.-:TZ \x00aé', max_size=200).map(str.encode)
)
def test_any_bytes_are_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.csv"
    for head in (b"", b"timestamp,a\n", b"Date;Time;a;q\n2024-01-01;00:00;1,5;good\n"):
        path.write_bytes(head + content)
        try:
            lines = list(read_table(path).notes)
        except InputError as error:
            lines = [str(error)]
        assert all("\n" not in line and len(line) < 1500 for line in lines)


@given(
    st.sampled_from([",", ";", "\t", "|"]),
    st.lists(st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), min_size=3, max_size=3), min_size=2),
    st.sampled_from(["", "Export\n\n", "# made today\n"]),
)
def test_whatever_is_written_is_read_back(delimiter: str, rows: list[list[float]], above: str) -> None:
    text = above + delimiter.join(["time", "a", "b", "c"]) + "\n"
    for i, row in enumerate(rows):
        text += delimiter.join([f"2024-01-01T00:{i // 60:02d}:{i % 60:02d}Z", *map(repr, row)]) + "\n"
    data = text.encode()
    form = csv_form(Path("a.csv"), *utf8_text(Path("a.csv"), data))
    assert (form.delimiter, form.names) == (delimiter, ("time", "a", "b", "c"))
    assert data[form.start :].startswith(b"2024-01-01T00:00:00Z")
