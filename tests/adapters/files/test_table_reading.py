"""What the configuration of a stream says of its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from daemon.adapters.field_names import Role
from daemon.adapters.files import TableReading, read_table
from daemon.config import load
from daemon.domain import StreamSpec, iso
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


def test_the_month_comes_first_where_the_input_says_so(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "a.csv", "t,x\n02.03.2026 10:00,1\n")
    for first, month in ((True, "03-02"), (False, "02-03")):
        spec = spec_of(
            input={"asset": {"constant": "p"}, "time": {"from": "t", "day_first": first}, "leaves": "."}
        )
        (time_ns,) = read_table(path, reading=TableReading().of(spec)).time_ns.tolist()
        assert iso(time_ns) == f"2026-{month}T10:00:00Z"


def test_parts_of_texts_and_what_is_added_to_times(tmp_path: Path) -> None:
    spec = spec_of(
        input={
            "asset": {"from": "path", "match": "^site/([^/]+)/"},
            "time": {"seconds": "sec", "nanos": "nsec"},
            "sensor": {"from": "tag", "match": "[.]([a-z]+)$"},
            "value": "v",
            "condition": {"mode": "recipe"},
        },
        condition=["mode"],
    )
    text = "path,sec,nsec,tag,v,recipe\n" + "".join(
        f"{path},1704067200,{nsec},{tag},{v},{recipe}\n"
        for path, nsec, tag, v, recipe in [
            ("site/p1/line", 500, "plc.x", 1, "red"),
            ("site/p2/line", "", "plc.x", 2, "blue"),
            ("site/p1/other", 500, "plc.y", 3, "red"),
            ("elsewhere", 0, "plc.x", 4, "red"),
            ("site/p1/line", 700, "X", 5, "red"),
        ]
    )
    table = read_table(
        csv_file(tmp_path / "a.csv", text), (), spec.condition, reading=TableReading().of(spec)
    )
    assert (table.sensors, table.asset_names) == (("x", "y"), ("p1", "p2"))
    assert [int(t) - 1704067200 * 10**9 for t in table.time_ns[table.usable]] == [500, 0]
    np.testing.assert_array_equal(table.values[table.usable], [[1, 3], [2, NAN]])
    assert [str(why.reason) for why in table.refused.values()] == ["no_asset", "no_sensor"]
    assert [table.label(row, spec) for row in (0, 1)] == ["mode=red", "mode=blue"]
    assert not [note for note in table.notes if "do not apply" in note]


def test_leaves_that_the_input_leaves_out_are_no_sensors(tmp_path: Path) -> None:
    spec = spec_of(
        input={"asset": "who", "time": "t", "leaves": {"under": ".", "except": ["debug*", "y"]}},
        sensors={"x": {}, "y": {}},
    )
    path = csv_file(tmp_path / "a.csv", "t,who,x,y,debug_a\n2024-01-01,p,1,2,3\n2024-01-02,p,2,2,3\n")
    assert read_table(path, reading=TableReading().of(spec)).sensors == ("x",)


def test_what_cannot_apply_is_named() -> None:
    spec = spec_of(
        input={
            "asset": {"join": ["a", "b"]},
            "time": {"from": {"from": "t", "match": "(.*)"}},
            "leaves": {"under": ".", "prefix": "line"},
        }
    )
    assert TableReading().of(spec).notes == (
        "of input, asset.join, time.match, leaves.prefix do not apply to tables",
    )
