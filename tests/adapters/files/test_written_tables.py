"""Tables as loggers, historians and people write them: times in parts, qualities beside values, headers of two lines."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.files import Table, read_table
from daemon.adapters.files.table_reading import TableReading
from daemon.adapters.files.time_parts import find_parts, joined
from daemon.domain import iso
from daemon.errors import InputError, UsageError

ROWS = 30


def table(path: Path, lines: list[str], name: str = "a.csv", reading: TableReading | None = None) -> Table:
    """The table of these lines."""
    file = path / name
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_table(file, reading=reading)


def read(found: Table, sensor: str) -> list[float]:
    """The values of a sensor."""
    values: list[float] = found.values[:, found.sensors.index(sensor)].tolist()
    return values


def times(found: Table) -> list[str]:
    """The first two times."""
    return [iso(time) for time in found.time_ns[found.usable][:2].tolist()]


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        ("year,month,day,hour,flow", lambda i: f"2026,4,9,{i % 24},{i}", ["2026-04-09T00:00:00Z", "2026-04-09T01:00:00Z"]),
        ("Year,DOY,HHMM,flow", lambda i: f"2026,99,{1700 + i},{i}", ["2026-04-09T17:00:00Z", "2026-04-09T17:01:00Z"]),
        ("Year,Day,Hour,Minute,Second,flow", lambda i: f"2024,366,23,{i},1.5,{i}", ["2024-12-31T23:00:01.500Z", "2024-12-31T23:01:01.500Z"]),
        ("Jahr,Monat,Tag,Stunde,flow", lambda i: f"2026,4,{1 + i // 24},{i % 24 + 1},{i}", ["2026-04-01T01:00:00Z", "2026-04-01T02:00:00Z"]),
        ("datenum,flow", lambda i: f"{740081.5 + i / 1440:.9f},{i}", ["2026-04-09T12:00:00Z", "2026-04-09T12:01:00Z"]),
        ('"Date Time, GMT+02:00",flow', lambda i: f"04/09/26 07:{i:02d}:00 PM,{i}", ["2026-04-09T17:00:00Z", "2026-04-09T17:01:00Z"]),
        ("Time (UTC-05:00),flow", lambda i: f"2026-04-09 12:{i:02d},{i}", ["2026-04-09T17:00:00Z", "2026-04-09T17:01:00Z"]),
        ("Time,flow", lambda i: f"2026-04-09 19:{i:02d} CEST,{i}", ["2026-04-09T17:00:00Z", "2026-04-09T17:01:00Z"]),
        ("Date,Time,flow", lambda i: f"4/9/26,5:{i:02d}p,{i}", ["2026-04-09T17:00:00Z", "2026-04-09T17:01:00Z"]),
        ("Date,Time,Millitm,flow", lambda i: f"04/09/2026,17:{i:02d}:00,{i},{i}", ["2026-04-09T17:00:00Z", "2026-04-09T17:01:00.001Z"]),
        ("when,flow", lambda i: f"Apr-09-26 17:{i:02d},{i}", ["2026-04-09T17:00:00Z", "2026-04-09T17:01:00Z"]),
    ],
)  # fmt: skip
def test_times(tmp_path: Path, header: str, row: object, expected: list[str]) -> None:
    lines = [header, *(row(i) for i in range(ROWS))]  # type: ignore[operator] # a function of a number
    reading = (
        TableReading(time=("when",), day_first=False)
        if header.startswith("when")
        else TableReading(day_first=False)
    )
    found = table(tmp_path, lines, reading=reading)
    assert times(found) == expected
    assert found.sensors == ("flow",)


def test_minutes_called_as_months_are_and_hours_without_minutes(tmp_path: Path) -> None:
    minutes = table(
        tmp_path, ["YYYY MM DD hh mm wind", *(f"2026 04 09 17 {i:02d} {i}.5" for i in range(ROWS))]
    )
    assert times(minutes) == ["2026-04-09T17:00:00Z", "2026-04-09T17:01:00Z"]
    assert minutes.sensors == ("wind",)
    by_day = table(tmp_path, ["year,doy,hh,mm,wind", *(f"2026,99,17,{i},{i}.5" for i in range(ROWS))])
    assert times(by_day) == ["2026-04-09T17:00:00Z", "2026-04-09T17:01:00Z"]
    hours = table(tmp_path, ["Year,Month,Day,Time,flow", *(f"2026,4,9,{i % 24},{i}" for i in range(24))])
    assert times(hours) == ["2026-04-09T00:00:00Z", "2026-04-09T01:00:00Z"]
    days = table(tmp_path, ["year,doy,flow", *(f"2026,{99 + i},{i}" for i in range(ROWS))])
    assert times(days) == ["2026-04-09T00:00:00Z", "2026-04-10T00:00:00Z"]


def test_no_clock_has_75_minutes(tmp_path: Path) -> None:
    found = table(tmp_path, ["Year,DOY,HHMM,flow", *(f"2026,99,{1200 + i},{i}" for i in range(90))])
    assert int(found.usable.sum()) == 60


def test_features_of_the_calendar_are_no_time_beside_one(tmp_path: Path) -> None:
    lines = [f"2026-04-09 17:{i:02d}:00,2026,4,9,17,{i}" for i in range(ROWS)]
    found = table(tmp_path, ["reading_of,year,month,day,hour,flow", *lines])
    assert times(found) == ["2026-04-09T17:00:00Z", "2026-04-09T17:01:00Z"]


def test_speeds_and_milliseconds_said_twice_are_added_to_no_time(tmp_path: Path) -> None:
    speed = table(
        tmp_path, ["Date,Time,m/s", *(f"2026-04-09,17:{i:02d}:00,{3 + i % 5}" for i in range(ROWS))]
    )
    assert (times(speed), speed.sensors) == (["2026-04-09T17:00:00Z", "2026-04-09T17:01:00Z"], ("m/s",))
    lines = [f"2026-04-09,17:00:00.{10 * i:03d},{10 * i},{i}" for i in range(ROWS)]
    assert times(table(tmp_path, ["Date,Time,ms,flow", *lines])) == [
        "2026-04-09T17:00:00Z",
        "2026-04-09T17:00:00.010Z",
    ]


@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)))  # noqa: DTZ001 -- of the zone's own clock
def test_parts_are_the_time_that_they_are_parts_of(time: datetime) -> None:
    time = time.replace(microsecond=0)
    by_month = {
        "Year": time.year,
        "Month": time.month,
        "Day": time.day,
        "Hour": time.hour,
        "Minute": time.minute,
    }
    by_day = {"Year": time.year, "DOY": time.timetuple().tm_yday, "HHMM": 100 * time.hour + time.minute}
    for given_parts in (by_month, by_day):
        parts = given_parts | {"Second": time.second}
        names = find_parts(list(parts), lambda name, parts=parts: np.array([parts[name]]))  # type: ignore[misc]
        assert set(names) == set(parts)
        (made,) = joined(names, [np.array([float(parts[name])]) for name in names]).cast("int64").to_pylist()
        assert made == int(time.replace(tzinfo=UTC).timestamp()) * 10**9


def test_a_day_that_does_not_exist_is_no_time(tmp_path: Path) -> None:
    found = table(tmp_path, ["year,month,day,flow", *(f"2026,2,{27 + i},{i}" for i in range(4))])
    assert times(found) == ["2026-02-27T00:00:00Z", "2026-02-28T00:00:00Z"]
    assert [found.refused[row].detail for row in (2, 3)] == ["no time", "no time"]


def test_parts_beyond_what_they_can_be_are_no_time(tmp_path: Path) -> None:
    rows = [f"2026,4,9,{i % 24},{i},{i}" for i in range(60)]
    odd = [
        "1e300,4,9,1,1,7",
        "2026,4,9,1,75,7",
        "2026,4,9,1e300,1,7",
        "2026,4,9,inf,1,7",
        "2026,4,nan,1,1,7",
        "soon,4,9,1,1,7",
    ]
    found = table(tmp_path, ["year,month,day,hour,minute,flow", *rows, *odd])
    assert sorted(found.refused) == list(range(60, 66))


def test_a_time_column_comes_before_its_parts(tmp_path: Path) -> None:
    found = table(
        tmp_path,
        ["ts,year,month,day,flow", *(f"2026-04-09T17:{i:02d}:00Z,2026,4,9,{i}" for i in range(ROWS))],
    )
    assert found.roles.time == ("ts",)


def test_the_least_of_something_is_no_minute(tmp_path: Path) -> None:
    found = table(
        tmp_path, ["year,month,day,hour,min,max", *(f"2026,4,9,{i % 24},{i},{i + 2}" for i in range(20))]
    )
    assert found.sensors == ("min", "max")


def test_parts_may_be_named(tmp_path: Path) -> None:
    lines = ["ts,year,month,day,flow", *(f"soon,2026,4,{1 + i},{i}" for i in range(20))]
    found = table(tmp_path, lines, reading=TableReading(time=("year", "month", "day")))
    assert times(found)[0] == "2026-04-01T00:00:00Z"
    with pytest.raises(UsageError, match="or those of year, month"):
        table(tmp_path, lines, reading=TableReading(time=("year", "flow", "ts")))


def test_times_of_day_are_of_the_date_above_them(tmp_path: Path) -> None:
    days = [[f"{day}.04.2026;;", *(f"{hour}:30;{hour};{day}" for hour in range(12))] for day in (8, 9)]
    found = table(tmp_path, ["Zeit;flow;level", *(line for lines in days for line in lines)])
    assert times(found) == ["2026-04-08T00:30:00Z", "2026-04-08T01:30:00Z"]
    assert iso(int(found.time_ns[-1])) == "2026-04-09T11:30:00Z"
    assert {row: why.detail for row, why in found.refused.items()} == dict.fromkeys(
        (0, 13), "names the day of the rows below it"
    )


def test_times_of_day_alone_are_refused_with_what_helps(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a row above them must have the date"):
        table(tmp_path, ["Time,flow", *(f"08:00:{i:02d},{i}" for i in range(ROWS))])


def test_times_from_zero_are_said(tmp_path: Path) -> None:
    found = table(tmp_path, ["Elapsed Time (s),flow", *(f"{i / 10},{i}" for i in range(ROWS))])
    assert any("counts from 0" in note for note in found.notes)


def test_each_quality_of_one_name_is_about_the_value_before_it(tmp_path: Path) -> None:
    rows = [
        f"2026-04-09T17:{i:02d}:00,{i},{'Bad' if i == 3 else 'Good'},{i},{'Bad' if i == 5 else 'Good'}"
        for i in range(ROWS)
    ]
    found = table(tmp_path, ["Time,flow,Quality,level,Quality", *rows])
    assert found.sensors == ("flow", "level")
    for sensor, row in (("flow", 3), ("level", 5)):
        assert np.flatnonzero(np.isnan(read(found, sensor))).tolist() == [row]


@pytest.mark.parametrize(
    "names", ["flow Value,flow Status", "flow.PV,flow.Quality", "flow,Status flow", "flow [l/s],flow_QC"]
)
def test_a_quality_is_about_the_value_of_its_sensor(tmp_path: Path, names: str) -> None:
    rows = [f"2026-04-09T17:{i:02d}:00,{i},{'Bad' if i == 3 else 'Good'},7" for i in range(ROWS)]
    found = table(tmp_path, [f"Time,{names},level", *rows])
    assert len(found.sensors) == 2
    assert np.flatnonzero(np.isnan(found.values)).tolist() == [6]


def test_codes_of_another_convention_are_told_by_the_commonest(tmp_path: Path) -> None:
    rows = [f"2026-04-09T17:{i:02d}:00,flow,{i},{1 if i == 3 else 0}" for i in range(ROWS)]
    found = table(tmp_path, ["DateTime,TagName,Value,Quality", *rows])
    assert np.flatnonzero(np.isnan(read(found, "flow"))).tolist() == [3]
    assert any("0 is said of most rows, and taken for good" in note for note in found.notes)


@pytest.mark.parametrize("names", ["H,Q,H,Q", "L1,Q_L1,L2,Q_L2", "flow,flow_Q,level,level_Q"])
def test_flows_and_powers_are_no_qualities(tmp_path: Path, names: str) -> None:
    halves = [f"2026-04-09T17:{i:02d}:00,{i},{i % 5}.5,{i % 7},{i % 3}.5" for i in range(ROWS)]
    assert np.isfinite(table(tmp_path, [f"Time,{names}", *halves]).values).all()
    if "_Q," not in names:
        whole = [f"2026-04-09T17:{i:02d}:00,{i},{10 + i % 5},{i % 7},{20 + i % 3}" for i in range(ROWS)]
        assert len(table(tmp_path, [f"Time,{names}", *whole]).sensors) == 4


def test_the_commonest_of_bad_codes_is_not_good(tmp_path: Path) -> None:
    rows = [f"2026-04-09T17:{i:02d}:00,{i},{8 if i % 9 else 24},{i}" for i in range(ROWS)]  # not connected
    assert np.isnan(read(table(tmp_path, ["Time,flow,flow_quality,level", *rows]), "flow")).all()


def test_codes_that_are_known_keep_their_meaning(tmp_path: Path) -> None:
    rows = [f"2026-04-09T17:{i:02d}:00,{i},{192 if i < 5 else 24}" for i in range(ROWS)]  # the sensor breaks
    found = table(tmp_path, ["Time,flow,flow_Q", *rows])
    assert np.isfinite(read(found, "flow")).sum() == 5


def test_of_columns_that_name_sensors_the_one_that_tells_rows_apart_counts(tmp_path: Path) -> None:
    rows = [
        f"pump,{field},2026-04-09T17:{i:02d}:00Z,{i},{asset}"
        for i in range(ROWS)
        for field in ("flow", "level")
        for asset in ("a", "b")
    ]
    found = table(tmp_path, ["_measurement,_field,_time,_value,asset", *rows])
    assert found.roles.sensor == "_field"
    assert (found.sensors, found.asset_names) == (("flow", "level"), ("a", "b"))


def test_states_of_entities_are_sensors(tmp_path: Path) -> None:
    rows = [
        f"sensor.{name},{'unavailable' if i == 3 else i},2026-04-09T17:{i:02d}:00Z"
        for i in range(ROWS)
        for name in ("flow", "level")
    ]
    found = table(tmp_path, ["entity_id,state,last_changed", *rows])
    assert found.sensors == ("sensor.flow", "sensor.level")


@pytest.mark.parametrize(
    ("header", "sensors"),
    [
        (["Time,P1,,P2,", ",flow,level,flow,level"], ("P1 flow", "P1 level", "P2 flow", "P2 level")),
        (["Time,P1,P1,P2,P2", ",flow,level,flow,level"], ("P1 flow", "P1 level", "P2 flow", "P2 level")),
        ([",Hi,Low,Hi,Low", "Time,Temp,Temp,Hum,Hum"], ("Hi Temp", "Low Temp", "Hi Hum", "Low Hum")),
        (["Time,flow,flow,level,speed", ",bar,degC,m,rpm"], ("flow", "flow.2", "level", "speed")),
        (["#default,_x,,y,", "Time,a,b,c,d"], ("a", "b", "c", "d")),
        (["Time,a,b,c,d", ",flow,level,flow,level"], ("a", "b", "c", "d")),
    ],
)
def test_names_in_two_lines(tmp_path: Path, header: list[str], sensors: tuple[str, ...]) -> None:
    found = table(
        tmp_path, [*header, *(f"2026-04-09T17:{i:02d}:00,{i},{2 * i},{i % 3},{i % 5}" for i in range(ROWS))]
    )
    assert found.sensors == sensors


def test_columns_parted_by_spaces(tmp_path: Path) -> None:
    rows = [f"2026-04-09  17:{i:02d}:00   {i:5.1f} {-i:8.2f}" for i in range(ROWS)]
    found = table(tmp_path, ["Date        Time      flow    level", *rows], name="a.txt")
    assert times(found) == ["2026-04-09T17:00:00Z", "2026-04-09T17:01:00Z"]
    assert read(found, "level")[3] == -3.0


def test_a_last_column_of_remarks_may_have_no_cells(tmp_path: Path) -> None:
    found = table(
        tmp_path, ["X_Value\tflow\tComment", *(f"{i / 10}\t{i}" for i in range(ROWS))], name="a.lvm"
    )
    assert read(found, "flow")[:2] == [0.0, 1.0]


def test_a_first_column_that_counts_rows_is_no_sensor(tmp_path: Path) -> None:
    found = table(
        tmp_path, ["Reading,Time,flow", *(f"{i + 1},2026-04-09T17:{i:02d}:00,{i % 7}" for i in range(ROWS))]
    )
    assert found.sensors == ("flow",)


def test_the_only_file_of_a_zip_archive_is_read(tmp_path: Path) -> None:
    lines = "\n".join(["Time,flow", *(f"2026-04-09T17:{i:02d}:00,{i}" for i in range(ROWS))])
    for name, members, error in (
        ("one.zip", {"june.csv": lines}, None),
        ("two.zip", {"june.csv": lines, "july.csv": lines}, "zip archive of 2 files: unpack the one to read"),
        ("book.xlsx", {"[Content_Types].xml": "", "xl/workbook.xml": ""}, "is an Excel workbook: save the sheet as CSV"),
    ):  # fmt: skip
        file = tmp_path / name
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, text in members.items():
                archive.writestr(member, text)
        if error is None:
            assert len(read_table(file)) == ROWS
        else:
            with pytest.raises(InputError, match=error):
                read_table(file)
    broken = tmp_path / "broken.zip"
    broken.write_bytes((tmp_path / "one.zip").read_bytes()[:-30])
    with pytest.raises(InputError, match="damaged zip data"):
        read_table(broken)


def test_a_delimiter_at_the_end_of_lines_makes_no_title_a_part_of_names(tmp_path: Path) -> None:
    rows = [f"2026-04-09 17:{i:02d};{i};{i % 3};" for i in range(ROWS)]
    found = table(tmp_path, ["Plant;North;;", "time;flow;level;", *rows])
    assert found.sensors == ("flow", "level")


def test_a_year_after_utc_is_no_zone(tmp_path: Path) -> None:
    found = table(tmp_path, ["Time UTC-2026,flow", *(f"2026-04-09 17:{i:02d},{i}" for i in range(ROWS))])
    assert times(found) == ["2026-04-09T17:00:00Z", "2026-04-09T17:01:00Z"]


def test_a_name_of_many_marks_is_looked_at_once(tmp_path: Path) -> None:
    long = "_" * 60_000 + "x"  # minutes, if each place of it is where such a run may begin
    found = table(tmp_path, [f"Time,{long}", *(f"2026-04-09 17:{i:02d},{i}" for i in range(ROWS))])
    assert found.sensors == (long,)


def test_a_position_and_an_elapsed_time_are_no_times_beside_one(tmp_path: Path) -> None:
    for name in ("xValue", "Elapsed Time"):
        rows = [f"2026-04-09 17:{i:02d},{i}.5,{i % 3}" for i in range(ROWS)]
        found = table(tmp_path, [f"when_read,{name},yValue", *rows])
        assert (times(found)[0], found.sensors) == ("2026-04-09T17:00:00Z", (name, "yValue"))
    with pytest.raises(InputError):
        table(tmp_path, ["xValue,yValue", *(f"{i % 5}.5,{i}" for i in range(ROWS))])


def test_an_event_beside_several_sensors_is_no_name_of_one(tmp_path: Path) -> None:
    rows = [f"2026-04-09 17:{i:02d},{('start', 'run')[i % 2]},{i},{i % 3}" for i in range(ROWS)]
    assert table(tmp_path, ["time,event,value,pressure", *rows]).sensors == ("value", "pressure")
