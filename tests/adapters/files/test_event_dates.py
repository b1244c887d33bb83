"""Dates as people write them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.files import TableReading, read_table
from daemon.adapters.files.event_dates import dates_of
from daemon.domain import EPOCH, iso
from tests.adapters.files.tables import csv_file, parquet_file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("02.03.2026 00:10", "2026-03-02T00:10:00Z"),
        ("02.03.26 00:10:05,5", "2026-03-02T00:10:05.500Z"),
        ("2. 3. 2026 1:05", "2026-03-02T01:05:00Z"),
        ("02 03 2026 00:10", "2026-03-02T00:10:00Z"),
        ("31/12/2026 23:59:59", "2026-12-31T23:59:59Z"),
        ("12/31/2026 11:59:59 PM", "2026-12-31T23:59:59Z"),
        ("12/31/2026 12:00 AM", "2026-12-31T00:00:00Z"),
        ("12/31/2026 12:00 p.m.", "2026-12-31T12:00:00Z"),
        ("2-Mar-2026 04:05", "2026-03-02T04:05:00Z"),
        ("2 March 2026 04:05", "2026-03-02T04:05:00Z"),
        ("Mar 2, 2026 4:05 PM", "2026-03-02T16:05:00Z"),
        ("02-Okt-2026 04:05", "2026-10-02T04:05:00Z"),
        ("2026/03/02 04:05", "2026-03-02T04:05:00Z"),
        ("2026-3-2 4:05", "2026-03-02T04:05:00Z"),
        ("2026-03-02 04:05:00 UTC", "2026-03-02T04:05:00Z"),
        ("31.12.2026 04:05+01:00", "2026-12-31T03:05:00Z"),
        ("31.12.2026 04:05 -0130", "2026-12-31T05:35:00Z"),
        ("31.12.2026 24:00", "2027-01-01T00:00:00Z"),
        ("29.02.2024", "2024-02-29T00:00:00Z"),
        ("31.12.99 00:00", "1999-12-31T00:00:00Z"),
    ],
)
def test_every_notation(text: str, expected: str) -> None:
    found = dates_of(pa.array([text]), np.zeros(1, np.int64), None, european=False)
    assert found.read.tolist() == [True]
    assert iso(int(found.time_ns[0])) == expected


@pytest.mark.parametrize(
    "text",
    [
        "29.02.2025",
        "01.01.0001",
        "01.01.0099 10:00",
        "0026-01-02 10:00",
        "Jan 2, 0026",
        "32.01.2026",
        "01.13.2026 25:00",
        "01.01.2026 00:60",
        "1.5",
        "10.1.1.7",
        "",
        "13/13/2026",
        "1-xyz-2026",
        "01/02/2026 13:00 PM",
        "0.0.2026",
    ],
)
def test_what_is_no_date_is_not_read(text: str) -> None:
    assert not dates_of(pa.array([text]), np.zeros(1, np.int64), None, european=False).read[0]


def column(
    texts: list[str], day_first: bool | None = None, european: bool = False
) -> tuple[list[str], str | None]:
    found = dates_of(pa.array(texts), np.zeros(len(texts), np.int64), day_first, european)
    assert found.read.all()
    return [iso(t)[:10] for t in found.time_ns.tolist()], found.note


def test_a_number_above_twelve_decides_the_whole_column() -> None:
    assert column(["01/02/2026 00:00", "13/02/2026 00:00"]) == (["2026-02-01", "2026-02-13"], None)
    assert column(["01/02/2026 00:00", "02/13/2026 00:00"]) == (["2026-01-02", "2026-02-13"], None)


def test_the_order_in_which_times_go_on_decides() -> None:
    days = [f"0{day}/03/2026 {hour:02d}:00" for day in (1, 2, 3) for hour in range(0, 24, 6)]
    assert column(days)[0][-1] == "2026-03-03"
    assert column(days[::-1])[0][0] == "2026-03-03"
    months = [f"03/0{day}/2026 {hour:02d}:00" for day in (1, 2, 3) for hour in range(0, 24, 6)]
    assert column(months) == ([f"2026-03-0{day}" for day in (1, 2, 3) for _ in range(4)], None)


def test_what_nothing_decides_is_said() -> None:
    one_day = ["02/03/2026 00:00", "02/03/2026 00:01"]
    assert column(one_day)[0][0] == "2026-02-03"
    assert "--day-first reads them the other way" in str(column(one_day)[1])
    assert column(one_day, european=True)[0][0] == "2026-03-02"
    assert column(["02-03-2026 00:00"])[0][0] == "2026-03-02"
    assert column(["02/03/2026 1:00 AM"], european=True)[0][0] == "2026-02-03"
    assert column(one_day, day_first=True) == (["2026-03-02"] * 2, None)
    assert column(["02.03.2026 00:00"]) == (["2026-03-02"], None)


FIRST, LAST = datetime.fromisoformat("1971-01-01"), datetime.fromisoformat("2069-12-31")


@given(
    st.lists(st.datetimes(FIRST, LAST), min_size=1, max_size=20),
    st.sampled_from(
        [
            "%d.%m.%Y %H:%M:%S",
            "%d/%m/%Y %H:%M:%S",
            "%d-%b-%Y %I:%M:%S %p",
            "%Y/%m/%d %H:%M:%S",
            "%d.%m.%y %H:%M:%S",
        ]
    ),
)
def test_dates_are_those_that_were_written(times: list[datetime], form: str) -> None:
    times = [time.replace(microsecond=0) for time in times]
    found = dates_of(
        pa.array([time.strftime(form) for time in times]), np.zeros(len(times), np.int64), True, False
    )
    assert found.read.all()
    assert [EPOCH + timedelta(microseconds=t // 1000) for t in found.time_ns.tolist()] == [
        time.replace(tzinfo=UTC) for time in times
    ]


def read_times(
    tmp_path: Path, text: str, reading: TableReading | None = None
) -> tuple[list[str], tuple[str, ...]]:
    table = read_table(csv_file(tmp_path / "a.csv", text), reading=reading)
    return [iso(t) for t in table.time_ns.tolist()], table.notes


@pytest.mark.parametrize(
    "text",
    [
        "Date;Time;x\n2026-03-02;04:05;1\n2026-03-02;04:06;2\n",
        "Time;x;Date\n04:05;1;02.03.2026\n04:06;2;02.03.2026\n",
        "Datum;Uhrzeit;x\n02.03.2026;4:05:00;1\n02.03.2026;4:06:00;2\n",
        "date;time;x\n20260302;405;1\n20260302;406;2\n",
        "date;time;x\n20260302;040500;1\n20260302;040600;2\n",
        "Date;Time;x\n2026-03-02 00:00:00;04:05:00;1\n2026-03-02 00:00:00;04:06:00;2\n",
        "DATE;TIME;x\n3/2/2026;4:05 AM;1\n3/2/2026;4:06 AM;2\n",
        "time;x\n20260302040500;1\n20260302040600;2\n",
        "time;x\n46083.1701388889;1\n46083.1708333333;2\n",
        "time;x\n46083,1701388889;1\n46083,1708333333;2\n",
        "created_at;x\n2026-03-02 04:05:00 UTC;1\n2026-03-02 04:06:00 UTC;2\n",
        "Local time of the plant;x\n2026-03-02 04:05:00;1\n2026-03-02 04:06:00;2\n",
    ],
)
def test_every_way_to_have_a_time(tmp_path: Path, text: str) -> None:
    assert read_times(tmp_path, text)[0] == ["2026-03-02T04:05:00Z", "2026-03-02T04:06:00Z"]


def test_date_and_time_of_day_of_parquet(tmp_path: Path) -> None:
    day, clock = date(2026, 3, 2), clock_time(4, 5, 6)
    path = parquet_file(tmp_path / "a.parquet", date=[day, day], time=[clock, clock], x=[1, 2])
    assert iso(int(read_table(path).time_ns[0])) == "2026-03-02T04:05:06Z"


def test_times_of_a_zone_and_of_a_format(tmp_path: Path) -> None:
    zone = TableReading(timezone="Europe/Berlin")
    assert read_times(tmp_path, "time,x\n02.07.2026 04:05,1\n", zone)[0] == ["2026-07-02T02:05:00Z"]
    form = TableReading(formats=("%Y:%j:%H:%M",))
    assert read_times(tmp_path, "time,x\n2026:061:04:05,1\n", form)[0] == ["2026-03-02T04:05:00Z"]
    unit = TableReading(unit="s")
    assert read_times(tmp_path, "time,x\n86400.5,1\n", unit)[0] == ["1970-01-02T00:00:00.500Z"]
    assert read_times(tmp_path, "time,x\n86400,1\n", TableReading(unit="ms"))[0] == [
        "1970-01-01T00:01:26.400Z"
    ]


def test_a_column_of_dates_keeps_its_odd_rows_refused(tmp_path: Path) -> None:
    text = "time,x\n02.03.2026 00:00,1\nsoon,2\n31.02.2026 00:00,3\n1767225600,4\n"
    table = read_table(csv_file(tmp_path / "a.csv", text))
    assert table.usable.tolist() == [True, False, False, True]
    assert iso(int(table.time_ns[3])) == "2026-01-01T00:00:00Z"
