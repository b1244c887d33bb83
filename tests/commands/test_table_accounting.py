"""What became of the rows and cells of a table."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
from hypothesis import assume, given
from hypothesis import strategies as st

from daemon.adapters.files import Table, TableReading, TableSource, read_table
from daemon.assembly import gathered
from daemon.commands.accounting import lost_lines
from daemon.commands.file_history import read_history
from daemon.commands.impute import ImputeOptions, impute_file
from daemon.commands.inspect import InspectOptions, inspect_sample
from daemon.commands.replay import ReplayOptions, replay
from daemon.commands.table_accounting import counts_of_replay, counts_of_table, unknown_sensors
from daemon.config import load
from daemon.domain import SECOND_NS, Disposition, PolledRecords, Reading, StreamSpec
from daemon.mapping import Component, Reduce, SensorRule
from daemon.runtime.stream_run import StreamPlan
from daemon.stream.accounts import CellState, Counts
from tests.commands.fleet import LINEAR
from tests.naive import table_accounts
from tests.stream.pipelines import feed, make


def test_every_row_of_a_table_has_one_disposition(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "ts,asset,a,b\n2026-01-01T00:00:00Z,p,1,\n,p,1,2\n2026-01-01T00:00:01Z,,1,2\n2026-01-01T00:00:02Z,p,3,4\n"
    )
    table = replace(
        read_table(path),
        faulty={("b", "text"): np.array([0]), ("a", "text"): np.array([1]), ("other", "text"): np.arange(4)},
    )
    counts = counts_of_table(table, StreamSpec("s", ("a", "b", "c")))
    assert counts.records == {Disposition.ACCEPTED: 2, Disposition.REJECTED: 2}
    assert counts.reasons.total() == 2
    assert +counts.cells == {CellState.OBSERVED: 3, CellState.MISSING: 2, CellState.CORRUPT: 1}
    assert counts.corrupt == {("b", "text"): 1}


LONG = """ts,asset,sensor,value
2026-01-01T00:00:00Z,p,a,1
2026-01-01T00:00:00Z,p,a,1
2026-01-01T00:00:00Z,p,a,2
2026-01-01T00:00:00Z,p,b,ERR
2026-01-01T00:00:00Z,p,c,5
2026-01-01T00:00:01Z,p,a,
2026-01-01T00:00:01Z,p,b,9
2026-01-01T00:00:02Z,p,a,4
soon,p,a,ERR
2026-01-01T00:00:02Z,p,,7
2026-01-01T00:00:02Z,p,d,7
"""


def test_every_row_of_a_long_table_is_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(LONG)
    counts = counts_of_table(read_table(path), StreamSpec("s", ("a", "b", "c", "none")))
    assert +counts.cells == {
        CellState.OBSERVED: 4,
        CellState.DUPLICATE: 1,
        CellState.CONFLICT: 1,
        CellState.MISSING: 1,
        CellState.CORRUPT: 1,
        CellState.UNKNOWN: 1,
    }
    assert counts.records == {
        Disposition.ACCEPTED: 7,
        Disposition.DUPLICATE: 1,
        Disposition.REJECTED: 3,
    }
    assert counts.reasons == {"bad_timestamp": 1, "no_sensor": 1, "unknown_sensor": 1}
    assert unknown_sensors(read_table(path), StreamSpec("s", ("a", "b", "c"))) == {"d": 1}
    assert counts.corrupt == {("b", "text"): 1}
    assert "1 unknown, 1 conflict, 1 duplicate." in "".join(lost_lines(counts, {}))


async def test_a_replay_of_a_long_table_accounts_for_its_rows(tmp_path: Path) -> None:
    path, config = tmp_path / "a.csv", tmp_path / "c.yaml"
    rows = [
        f"2026-01-01T00:{i // 60:02}:{i % 60:02}Z,p,{cell}"
        for i in range(300)
        for cell in (f"a,{i % 7}", f"a,{i % 7}", f"a,{i % 7 + 1}", f"b,{'ERR' if i % 3 == 0 else i % 5}")
    ]
    path.write_text("ts,asset,sensor,value\n" + "\n".join(rows) + "\n")
    config.write_text(
        json.dumps(
            {"streams": [{"name": "pumps", "topics": ["pumps"], "sensors": {"a": {}, "b": {}}, "window": 4}]}
        )
    )
    await replay(ReplayOptions(path, tmp_path / "out", config=config, sets=[*LINEAR, "model.learn_rows=200"]))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    cells = {state: n for state, n in summary["cells"].items() if n}
    assert summary["records"] == {"read": 1200, "accepted": 900, "duplicate": 300, "late": 0, "rejected": 0}
    assert cells == {"read": 1200, "observed": 500, "duplicate": 300, "conflict": 300, "corrupt": 100}
    assert summary["corrupt"] == {"b": {"text": 100}}


PERIOD_S = 2
SPEC = StreamSpec(
    "pumps",
    ("a", "b", "turn.cos", "turn.sin"),
    period_ns=PERIOD_S * SECOND_NS,
    allowed_lateness_ns=1_000 * SECOND_NS,
    max_gap_ns=100 * SECOND_NS,
    window=4,
    sensor_rules=(
        SensorRule(counter=True),
        SensorRule(reduce=Reduce.MEAN),
        SensorRule(angle=360.0, component=Component.COS, component_of="turn"),
        SensorRule(angle=360.0, component=Component.SIN, component_of="turn"),
    ),
)
"""A counter, a sensor of which several values are made one, and an angle."""
SENSORS = ("a", "b", "turn")
Line = tuple[str | None, int | None, Mapping[str, str]]
KEYS = st.sampled_from([None, "p", "q"]), st.sampled_from([None, 0, 1, 2, 3, 5])
TEXTS = st.sampled_from(["", "1", "2", "3", "ERR"])
LONG_LINES = st.lists(
    st.builds(
        lambda asset, time, name, text: (asset, time, {name: text}),
        *KEYS,
        st.sampled_from([*SENSORS, "other"]),
        TEXTS,
    ),
    max_size=30,
)
WIDE_LINES = st.lists(
    st.builds(
        lambda asset, time, texts: (asset, time, dict(zip(("a", "turn", "other"), texts, strict=True))),
        *KEYS,
        st.tuples(TEXTS, TEXTS, st.sampled_from(["", "1", "2"])),
    ),
    max_size=12,
)
FIRST: Line = ("p", 0, {"a": "7", "turn": "8", "other": "9"})
"""Whatever follows: a table with all columns, whose times begin here."""
PLAIN: list[Line] = [("r", time, {name: "1"}) for time in range(20) for name in SENSORS]
"""So many that no column is taken for one of texts."""


def table_of(lines: Sequence[Line], *, long: bool) -> Table:
    """A CSV of these lines, as the stream reads it."""
    head = "ts,asset,sensor,value" if long else "ts,asset,a,turn,other"
    text = [head]
    for asset, time, named in lines:
        stamp = "soon" if time is None else f"2026-01-01T00:00:{time:02}Z"
        cells = [*named, *named.values()] if long else [*named.values()]
        text.append(",".join([stamp, asset or "", *cells]))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_text("\n".join(text) + "\n")
        return read_table(path, reading=TableReading().of(SPEC))


def as_placed(lines: Sequence[Line]) -> list[Line]:
    """Lines of one sensor each, those of one asset and time together."""
    first: dict[object, int] = {}
    for i, (asset, time, _) in enumerate(lines):
        first.setdefault((asset, time), i)
    return sorted(lines, key=lambda line: first[line[:2]])


def check(counts: Counts, lines: Sequence[Line], *, long: bool) -> None:
    records, cells, corrupt = table_accounts(lines, SENSORS, PERIOD_S, long=long, several=["b"])
    assert {str(state): n for state, n in (+counts.records).items()} == records
    assert records.total() == len(lines)
    assert {str(state): n for state, n in (+counts.cells).items()} == cells
    assert +counts.corrupt == corrupt


@given(LONG_LINES)
def test_the_lines_of_a_long_table_are_its_records(lines: list[Line]) -> None:
    lines = [*PLAIN, *lines]
    check(counts_of_table(table_of(lines, long=True), SPEC), as_placed(lines), long=True)


@given(WIDE_LINES)
def test_the_rows_of_a_wide_table_are_its_records(lines: list[Line]) -> None:
    lines = [*(("r", time, FIRST[2]) for time in range(20)), FIRST, *lines]
    check(counts_of_table(table_of(lines, long=False), SPEC), lines, long=False)


@given(LONG_LINES)
def test_a_replay_counts_the_lines_of_a_long_table_as_training_does(lines: list[Line]) -> None:
    lines = [*PLAIN, *lines]
    table, spec = table_of(lines, long=True), gathered(SPEC)
    source = TableSource(table, spec, int(table.time_ns.max()))
    assume(not source.reordered)  # a replay takes such rows by their times, training in the order of the file
    pipeline = make(spec, None)
    feed(pipeline, asyncio.run(emitted(source)))
    pipeline_counts = pipeline.accounts.counts()
    found = counts_of_replay(pipeline_counts, source.rejected, table, spec)
    wanted = counts_of_table(table, spec)
    assert (+found.records, +found.cells, +found.corrupt) == (
        +wanted.records,
        +wanted.cells,
        +wanted.corrupt,
    )
    assert found.reasons == wanted.reasons


async def emitted(source: TableSource) -> list[Reading]:
    return [
        item
        async for event in source.events()
        if isinstance(event, PolledRecords)
        for item in event.items
        if isinstance(item, Reading)
    ]


async def test_a_person_who_reads_a_long_table_sees_its_lines(tmp_path: Path) -> None:
    """9,000 lines of three sensors: the same counts in a training, in a replay and in a look at the file."""
    path = tmp_path / "a.csv"
    lines = [
        f"2026-01-01T{i // 3600:02}:{i // 60 % 60:02}:{i % 60:02}Z,p,{name},{cell}"
        for i in range(3_000)
        for name, cell in (("a", i % 7), ("b", "ERR" if i % 100 == 0 else i % 5), ("c", i % 3))
    ]
    lines[4_000] = lines[3_997]
    lines[5_000] = lines[5_000].replace("2026", "20x6")
    path.write_text("ts,asset,sensor,value\n" + "\n".join(lines) + "\n")
    config = tmp_path / "c.yaml"
    stream = {"name": "pumps", "topics": ["pumps"], "sensors": {"a": {}, "b": {}}, "window": 4}
    config.write_text(json.dumps({"streams": [stream]}))
    await replay(ReplayOptions(path, tmp_path / "out", config=config, sets=[*LINEAR, "model.learn_rows=200"]))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    unlisted = sum(",c," in line and "20x6" not in line for line in lines)
    records = {
        "read": 9_000,
        "accepted": 9_000 - unlisted - 2,
        "duplicate": 1,
        "late": 0,
        "rejected": unlisted + 1,
    }
    assert summary["records"] == records
    assert summary["reasons"] == {"bad_timestamp": 1, "unknown_sensor": unlisted}
    assert summary["cells"]["read"] == 8_999
    assert (summary["cells"]["unknown"], summary["cells"]["corrupt"]) == (unlisted, 30)
    assert summary["unknown_sensors"] == {"c": unlisted}
    assert len(pq.read_table(tmp_path / "out" / "scores.parquet")) == 3_001  # one for each asset and time
    settings = load(config, [])
    read = await read_history(path, StreamPlan.of(settings, settings.streams[0]), ())
    assert {str(state): n for state, n in read.counts.records.items() if n} == {
        state: n for state, n in records.items() if n and state != "read"
    }
    assert read.counts.cells == {CellState(k): n for k, n in summary["cells"].items() if k != "read" and n}
    totals = inspect_sample(InspectOptions(str(path), config)).totals
    assert (totals["records"], totals["accepted"], totals["duplicate"]) == (9_000, records["accepted"], 1)
    assert totals["no_number"] == 30


async def test_rows_of_an_excluded_sensor_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"2026-01-01T00:{i // 60:02}:{i % 60:02}Z,p,{name},{i % 7}" for i in range(300) for name in "abc"]
    path.write_text("ts,asset,sensor,value\n" + "\n".join(rows) + "\n")
    await replay(ReplayOptions(path, tmp_path / "out", exclude=["c"], sets=[*LINEAR, "model.learn_rows=200"]))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["records"]["read"], summary["records"]["skipped"]) == (900, 300)
    assert summary["skipped"] == {"excluded": 300}
    assert summary["cells"]["read"] == summary["cells"]["observed"] == 600


async def test_sensors_of_a_long_table_that_report_at_times_of_their_own_share_a_row(tmp_path: Path) -> None:
    path, config = tmp_path / "a.csv", tmp_path / "c.yaml"
    rows = [
        f"2026-01-01T00:{i // 60:02}:{i % 60:02}.{part}Z,p,{name},{i % 7}"
        for i in range(300)
        for part, name in ((1, "a"), (4, "b"))
    ]
    path.write_text("ts,asset,sensor,value\n" + "\n".join(rows) + "\n")
    stream = {"name": "pumps", "topics": ["pumps"], "sensors": {"a": {}, "b": {}}, "window": 4}
    config.write_text(json.dumps({"streams": [stream]}))
    await replay(ReplayOptions(path, tmp_path / "out", config=config, sets=[*LINEAR, "model.learn_rows=200"]))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["rows"], summary["cells"]["observed"], summary["records"]["accepted"]) == (300, 600, 600)


async def test_an_imputation_counts_the_lines_and_cells_of_a_long_table(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [
        f"2026-01-01T00:{i // 60:02}:{i % 60:02}Z,p,{name},{'' if i % 10 == 3 and name == 'b' else i % 7}"
        for i in range(300)
        for name in "abc"
        if not (name == "c" and i % 2)  # c is read every other second
    ]
    path.write_text("ts,asset,sensor,value\n" + "\n".join(rows) + "\n")
    done = await impute_file(ImputeOptions(path, tmp_path / "filled.csv"))
    assert (done.rows, done.cells) == (750, 30)
    assert not any("stay empty" in note for note in done.notes)
    assert [line.count(",") for line in (tmp_path / "filled.csv").read_text().splitlines()] == [3] * 751
