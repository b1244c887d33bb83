"""Tables as people have sent them give the readings that a person would read out of them."""

from __future__ import annotations

import pytest

from daemon.adapters.files import TableSource, read_table
from daemon.adapters.sample import derive_spec
from daemon.domain import Reason, iso
from tests.running import SHARED

CASES = SHARED / "cases"
pytestmark = [pytest.mark.shared, pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")]


@pytest.mark.parametrize(
    ("file", "rows", "assets", "sensors", "first", "second"),
    [
        ("07-assets-merged/07-machineid.csv", 900, 3, "volt rotate", "03-02T00:00:00Z", "03-02T00:00:00Z"),
        (
            "07-assets-merged/07b-device-id.csv",
            900,
            3,
            "DC_POWER AC_POWER",
            "03-02T00:00:00Z",
            "03-02T00:00:00Z",
        ),
        ("10-time-columns/10-datetime2.csv", 300, 1, "Temp Hum", "03-02T00:00:00Z", "03-02T00:01:00Z"),
        ("10-time-columns/10b-date.csv", 300, 1, "Temp Hum", "03-02T00:00:00Z", "03-02T00:01:00Z"),
        ("10-time-columns/10c-thingspeak.csv", 300, 1, "field1 field2", "03-02T00:00:00Z", "03-02T00:01:00Z"),
        ("10-time-columns/10d-utc.csv", 300, 1, "field1 field2", "03-02T00:00:00Z", "03-02T00:01:00Z"),
        ("10-time-columns/11-dayfirst.csv", 300, 1, "Temp Hum", "03-02T00:00:00Z", "03-02T00:01:00Z"),
        ("12-toa5/12-toa5.dat", 300, 1, "AirT RH", "03-02T00:00:00Z", "03-02T00:01:00Z"),
        ("14-states/13-states.csv", 300, 1, "Temp Running Valve Level", "03-02T00:00:00Z", "03-02T00:01:00Z"),
    ],
)
def test_a_table_is_read_as_a_person_reads_it(
    file: str, rows: int, assets: int, sensors: str, first: str, second: str
) -> None:
    table = read_table(CASES / file)
    assert (len(table), len(table.asset_names), " ".join(table.sensors)) == (rows, assets, sensors)
    assert [iso(int(t)).partition("-")[2] for t in table.time_ns[:2]] == [first, second]
    assert not table.refused


def test_units_in_the_header_and_days_first() -> None:
    table = read_table(CASES / "10-time-columns/11b-t1.csv")
    assert table.sensors == ("LV ActivePower (kW)", "Wind Speed (m/s)", "Wind Direction (°)")
    assert [iso(int(t)) for t in table.time_ns[[0, 1, 144]]] == [
        "2026-03-02T00:00:00Z",
        "2026-03-02T00:10:00Z",
        "2026-03-03T00:00:00Z",
    ]


def test_sentinels_are_noticed() -> None:
    notes = read_table(CASES / "15-sentinel-in-training/d12-train.csv").notes
    assert any("-999.9 stands" in note for note in notes)
    assert any("65535 stands" in note for note in notes)
    assert not read_table(CASES / "15-sentinel-in-training/clean-train.csv").notes


def source_of(file: str) -> TableSource:
    table = read_table(CASES / file)
    return TableSource(table, derive_spec(table)[0], int(table.time_ns.max()))


def test_the_odd_row_alone_is_refused() -> None:
    (row,) = source_of("16-future-row-deafens/d9-future.csv").rejected
    assert (row.record.offset, row.reason) == (1000, Reason.FUTURE)


def test_the_fast_clock_is_named() -> None:
    assert list(source_of("16-future-row-deafens/d16b-fast-clock.csv.gz").skewed) == ["line-3"]


def test_newest_first_is_sorted() -> None:
    source = source_of("17-newest-first/d8-newest-first.csv")
    assert (source.reordered, source.line_of(0)) == (["asset-0"], 2015)
