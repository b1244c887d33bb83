"""The stream of a table, of lines and of messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daemon.adapters.files import read_table
from daemon.adapters.sample import derive, derive_of_topic, derive_spec, names_in
from daemon.domain import SECOND_NS, Ints, Record, StreamSpec
from daemon.errors import InputError
from tests.adapters.sample.test_choosing import lines
from tests.adapters.sample.test_period import MS, START, ticking


def table_file(path: Path, times: Ints, **columns: Any) -> Path:
    stamps = pa.array(times, pa.int64()).cast(pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"timestamp": stamps, **columns}), path)
    return path


def test_a_table_gives_sensors_in_file_order_and_the_defaults(tmp_path: Path) -> None:
    n = 400
    path = table_file(
        tmp_path / "a.parquet", ticking(60 * SECOND_NS, n, 0), z=np.ones(n), a=np.ones(n), label=np.zeros(n)
    )
    spec, notes = derive_spec(path, ["label"], name="pumps")
    assert spec == StreamSpec(
        "pumps",
        ("z", "a"),
        period_ns=60 * SECOND_NS,
        window=16,
        allowed_lateness_ns=60 * SECOND_NS,
        max_gap_ns=1200 * SECOND_NS,
        silent_after_ns=1200 * SECOND_NS,
        ranges=(None, None),
    )
    assert notes == []


def test_a_fast_table_keeps_the_shortest_spans(tmp_path: Path) -> None:
    spec, _ = derive_spec(table_file(tmp_path / "a.parquet", ticking(100 * MS, 300, 0), x=np.ones(300)))
    assert (spec.allowed_lateness_ns, spec.max_gap_ns) == (10 * SECOND_NS, 300 * SECOND_NS)
    assert spec.silent_after_ns == 300 * SECOND_NS


@pytest.mark.parametrize(
    ("rows", "expected"), [([400], 16), ([159], 15), ([100], 10), ([20], 4), ([30, 30, 30], 15), ([90, 2], 9)]
)
def test_a_short_history_shortens_the_window(tmp_path: Path, rows: list[int], expected: int) -> None:
    times = np.concatenate([START + SECOND_NS * np.arange(n) for n in rows])
    assets = [f"p{i}" for i, n in enumerate(rows) for _ in range(n)]
    path = table_file(tmp_path / "a.parquet", times, asset=assets, x=np.ones(len(times)))
    spec, notes = derive_spec(path)
    assert spec.window == expected
    assert any("windows of" in note for note in notes) == (expected < 16)


def test_only_the_first_rows_count_when_asked(tmp_path: Path) -> None:
    times = np.concatenate(
        [START + SECOND_NS * np.arange(50), START + 10**15 + 60 * SECOND_NS * np.arange(500)]
    )
    table = read_table(table_file(tmp_path / "a.parquet", times, x=np.ones(550)))
    assert derive_spec(table)[0].period_ns == 60 * SECOND_NS
    assert derive_spec(table, rows=50)[0].period_ns == SECOND_NS


def test_what_is_odd_is_noted(tmp_path: Path) -> None:
    times = np.array([START, START + 5, START + 9, START + 10, *(START + SECOND_NS * np.arange(1, 8))])
    path = tmp_path / "a.csv"
    path.write_text("ts,x,what\n" + "".join(f"{t},1,text\n" for t in times) + ",2,text\n")
    _, notes = derive_spec(path)
    assert "not numeric, left out: what" in notes
    assert any(note.startswith("1 row cannot be used; row 11: no time") for note in notes)
    assert any("share a row of 1s" in note for note in notes)


def test_the_row_that_cannot_be_used_is_that_of_the_file_where_a_long_table_is_cut(tmp_path: Path) -> None:
    cells = [f"{START + SECOND_NS * t},{sensor},{t}\n" for t in range(9) for sensor in "xy"]
    path = tmp_path / "a.csv"
    path.write_text("ts,sensor,value\n" + "".join(cells[:8]) + ",x,1\n" + "".join(cells[8:]))
    _, notes = derive_spec(read_table(path), rows=6)
    assert any(note.startswith("1 row cannot be used; row 8: no time") for note in notes)


def test_one_row_is_enough_for_the_defaults(tmp_path: Path) -> None:
    spec, notes = derive_spec(table_file(tmp_path / "a.parquet", np.array([START]), x=[1.0]))
    assert (spec.period_ns, spec.window) == (SECOND_NS, 4)
    assert any("a period of 1 s is assumed" in note for note in notes)


def test_a_table_without_readings_is_refused(tmp_path: Path) -> None:
    path = table_file(tmp_path / "a.parquet", np.array([START, START + 1]), label=[0, 1], x=[1, 2])
    with pytest.raises(InputError, match="every numeric column is excluded"):
        derive_spec(read_table(path), ["x", "label"])
    pq.write_table(pa.table({"ts": pa.array([None], pa.timestamp("s")), "x": [1.0]}), path)
    with pytest.raises(InputError, match="no row has a usable time"):
        derive_spec(path)


def test_a_sample_of_a_longer_file_does_not_shorten_the_window(tmp_path: Path) -> None:
    rows = [{"asset": f"p{i % 100}", "ts": 1_704_067_200 + i // 100, "values": {"x": i}} for i in range(5001)]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines(*rows)))
    spec, notes = derive_spec(path)
    assert spec.window == 16
    assert notes == [
        "derived from the first 5,000 lines of more: sensors, assets and odd values that come later are not known"
    ]


def test_the_newest_messages_of_a_topic() -> None:
    sample = lines(*({"asset": "a", "ts": 10**9 + i, "values": {"x": i}} for i in range(1, 100)))
    records = [Record(i, None, value, -1) for i, value in enumerate(sample)]
    derived = derive_of_topic(records, False, [], "s", "sensors.s")
    assert (derived.spec.sensors, derived.spec.window) == (("x",), 16)
    assert derived.notes == [
        "derived from the newest 99 messages of more: sensors, assets and odd values that came before are not known"
    ]
    with pytest.raises(InputError, match=r"^topic 'sensors.s': none of the first 1 message is"):
        derive_of_topic([Record(0, None, b"x", -1)], True, [], "s", "sensors.s")


def test_names_in_lines_that_may_be_excluded(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    wide = {"asset": "p", "ts": 1, "values": {"x": 1}}
    path.write_bytes(b"\n".join(lines(wide, {"asset": "p", "ts": 1, "sensor": "y", "value": 2}, b"[")))
    assert {"x", "y", "asset"} <= names_in(path)
    assert "p" not in names_in(path)


def test_a_number_that_stands_for_no_value_is_noted_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [
        f"{START + SECOND_NS * i},{-999.9 if i % 50 == 7 else i % 9},{-7999 if i % 90 == 5 else i % 4}"
        for i in range(200)
    ]
    path.write_text("ts,level,flow\n" + "\n".join(rows) + "\n")
    derived = derive(path)
    assert derived.written.sensors["level"] == {"missing": [-999.9]}
    assert derived.written.sensors["flow"] == {}  # it looks like no code: the table's own note says so
    for sensor in ("level", "flow"):
        assert sum(note.startswith(f"sensor {sensor!r}:") for note in derived.notes) == 1
    # A model decides what is missing: what the numbers look like is a remark then.
    decided = derive(path, decided=True)
    assert [note.partition(" stands ")[0] for note in decided.notes if note.startswith("sensor")] == [
        "sensor 'level': -999.9",
        "sensor 'flow': -7999",
    ]


def test_what_only_later_rows_have_is_named_where_the_first_ones_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = [f"{1_750_000_000 + i},{i % 7},{i % 5 if i >= 60 else ''},\n" for i in range(100)]
    path.write_text("time,a,late,never\n" + "".join(lines))
    (note,) = (note for note in derive(read_table(path), rows=50).notes if "derived from" in note)
    assert note.startswith("derived from the first 50 of 100 rows")
    assert note.endswith("only later ones have late, left out")
    (note,) = (note for note in derive(read_table(path), rows=80).notes if "derived from" in note)
    assert "left out" not in note
    assert not any("derived from" in note for note in derive(read_table(path), rows=100).notes)
