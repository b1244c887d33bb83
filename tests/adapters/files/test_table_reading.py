"""What the configuration of a stream says of its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from daemon.adapters.field_names import Role
from daemon.adapters.files import TableReading, read_table
from daemon.config import load
from daemon.domain import StreamSpec
from tests.adapters.files.tables import NAN, csv_file, seconds


def spec_of(**keys: Any) -> StreamSpec:
    """The stream of a configuration with these keys."""
    stream = {"name": "s", "topics": ["t"], "sensors": {"x": {}}, **keys}
    (section,) = load(None, (), {"streams": [stream]}).streams
    return section.spec()


def test_fields_name_columns_and_the_command_line_comes_first() -> None:
    spec = spec_of(fields={"asset": "who", "timestamp": "when", "values": "v"}, timezone="Europe/Berlin")
    reading = TableReading(time=("date", "clock")).of(spec)
    assert reading.likely[Role.ASSET] == ("who",)
    assert reading.likely[Role.TIME] == ("when",)
    assert (reading.time, reading.timezone) == (("date", "clock"), "Europe/Berlin")
    assert TableReading(timezone="UTC").of(spec).timezone == "UTC"
    assert Role.ASSET not in TableReading().of(spec_of(fields={"asset": "$key"})).likely


def test_of_input_the_plain_names_count(tmp_path: Path) -> None:
    spec = spec_of(
        input={
            "asset": ["tags.host", "who"],
            "time": {"from": "when", "unit": "ms"},
            "sensor": "which",
            "value": "much",
            "quality": {"from": "grade", "good": ["A"]},
            "missing": [-9, "bad"],
        },
        sensors={"hot": {"source": "t", "scale": 2}, "h": {}},
    )
    reading = TableReading().of(spec)
    assert reading.likely[Role.ASSET] == ("who",)
    text = "when,who,which,much,grade\n" + "".join(
        f"{1704067200000 + 1000 * t},m,{sensor},{value},{grade}\n"
        for t, sensor, value, grade in [
            (0, "t", 5, "A"),
            (0, "h", 6, "B"),
            (1, "t", -9, "A"),
            (1, "h", 7, "A"),
            (2, "t", "bad", "A"),
            (2, "h", 1, ""),
        ]
    )
    table = read_table(csv_file(tmp_path / "a.csv", text), reading=reading)
    assert (table.sensors, table.asset_names, seconds(table)) == (("hot", "h"), ("m",), [0, 1, 2])
    np.testing.assert_array_equal(table.values, [[10, NAN], [NAN, 7], [NAN, 1]])


def test_a_constant_asset_and_what_does_not_apply(tmp_path: Path) -> None:
    spec = spec_of(
        input={
            "each": "rows[]",
            "asset": {"constant": "press"},
            "time": "t",
            "leaves": ".",
            "skip": ["null_value"],
        }
    )
    table = read_table(csv_file(tmp_path / "a.csv", "t,x\n2024-01-01,1\n"), reading=TableReading().of(spec))
    assert table.asset_names == ("press",)
    assert table.notes == ("of input, skip, each do not apply to tables",)


def test_a_likely_sentinel_is_noted_as_the_file_writes_it(tmp_path: Path) -> None:
    text = "ts,x\n" + "".join(
        f"2024-01-01T00:00:{i:02}Z,{-9999 if i % 20 == 7 else 20 + i % 5}\n" for i in range(60)
    )
    path = csv_file(tmp_path / "a.csv", text)
    table = read_table(path, reading=TableReading().of(spec_of(sensors={"x": {"scale": 0.1, "offset": 3}})))
    (note,) = table.notes
    assert note.startswith("sensor 'x': -9999 stands 3 times")
    assert note.endswith("sensors: {x: {missing: [-9999]}}")
    known = spec_of(sensors={"x": {"scale": 0.1, "offset": 3, "missing": [-9999]}})
    table = read_table(path, reading=TableReading().of(known))
    assert table.notes == ()
    assert np.isnan(table.values).sum() == 3
    np.testing.assert_allclose(table.values[0], 5)
