"""What became of a file, as counts and in words."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from daemon.commands.accounting import account_lines, as_json, corrupt_lines, lost_lines, misspelt_lines
from daemon.commands.file_history import read_history
from daemon.commands.replay import ReplayOptions, replay
from daemon.config import load
from daemon.domain import Disposition, StreamSpec
from daemon.runtime.stream_run import StreamPlan
from daemon.stream.accounts import CellState, Counts
from tests.commands.fleet import LINEAR
from tests.running import command

COUNTS = Counts(
    Counter({Disposition.ACCEPTED: 298, Disposition.REJECTED: 2, Disposition.SKIPPED: 12}),
    Counter(no_asset=2),
    Counter(birth=12),
    Counter(no_timestamp=4),
    Counter({CellState.OBSERVED: 2_310, CellState.MISSING: 80, CellState.CORRUPT: 12, CellState.UNKNOWN: 3}),
    Counter({("Level", "text"): 10, ("Level", "array"): 1, ("Flow", "too_large"): 1}),
    Counter(keep_alive=7),
)


def test_what_was_lost_is_said_in_two_lines() -> None:
    assert account_lines(COUNTS, {"Presure": 3}) == [
        "312 records: 298 accepted, 2 rejected (no_asset 2), 12 skipped (birth 12);"
        " 4 parts of accepted ones refused (no_timestamp 4); 7 parts of accepted ones skipped (keep_alive 7).",
        "2,405 cells: 2,310 observed, 80 missing, 12 corrupt (Level: 10 texts, 1 array; Flow: 1 too large),"
        " 3 unknown (Presure 3).",
    ]
    assert lost_lines(COUNTS, {"Presure": 3}) == account_lines(COUNTS, {"Presure": 3})


def test_nothing_is_said_where_nothing_was_lost() -> None:
    counts = Counts(
        Counter({Disposition.ACCEPTED: 3, Disposition.REJECTED: 0}),
        cells=Counter({CellState.OBSERVED: 5, CellState.MISSING: 1, CellState.LATE: 0}),
    )
    assert lost_lines(counts, {}) == []
    assert account_lines(counts, {}) == ["3 records: 3 accepted.", "6 cells: 5 observed, 1 missing."]


def test_the_lines_stay_short_whatever_the_names() -> None:
    corrupt = Counter({(f"sensor {i}" + "x" * 200, "text"): i + 1 for i in range(50)})
    counts = replace(COUNTS, corrupt=corrupt, reasons=Counter({f"r{i}": 1 for i in range(30)}))
    records, cells = account_lines(counts, {f"s{i}": 1 for i in range(256)})
    assert records.startswith(
        "312 records: 298 accepted, 2 rejected (r0 1, r1 1, r10 1, r11 1, r12 1, others 25)"
    )
    assert "; 45 more sensors)" in cells
    assert "others 251" in cells
    assert len(cells) < 600


def test_the_summary_has_every_count() -> None:
    found = as_json(COUNTS)
    assert found["records"]["read"] == sum(found["records"].values()) / 2 == 312
    assert found["cells"]["read"] == sum(found["cells"].values()) / 2 == 2_405
    assert found["corrupt"] == {"Flow": {"too_large": 1}, "Level": {"array": 1, "text": 10}}
    assert found["corrupt_cells"] == {"Flow": 1, "Level": 11}
    assert found["skipped"] == {"birth": 12}
    assert found["refused_items"] == {"no_timestamp": 4}
    assert found["skipped_items"] == {"keep_alive": 7}


LINES = [
    {
        "asset": "p1",
        "ts": f"2026-01-01T00:{i // 60:02}:{i % 60:02}Z",
        "values": {"a": float(i % 7), "b": 0.5 * (i % 5)},
    }
    for i in range(400)
]


def odd_lines(path: Path) -> Path:
    """400 lines, of which some cells are no numbers, some of unknown sensors, one line is late and one is garbage."""
    lines = [json.loads(json.dumps(line)) for line in LINES]
    for i in range(20, 40):
        lines[i]["values"]["b"] = "ERR"
    for i in range(50, 55):
        lines[i]["values"]["other"] = 1
    lines[60]["values"] = {"a": None}
    texts = [json.dumps(line) for line in lines]
    texts.insert(300, texts[10])
    texts.insert(100, "{")
    path.write_text("\n".join(texts) + "\n")
    return path


DOCUMENT = {"streams": [{"name": "pumps", "topics": ["pumps"], "sensors": {"a": {}, "b": {}}, "window": 4}]}


async def test_a_replay_accounts_for_every_record_and_cell(tmp_path: Path) -> None:
    path = odd_lines(tmp_path / "a.jsonl")
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps(DOCUMENT))
    sets = [*LINEAR, "model.learn_rows=200"]
    done = await replay(ReplayOptions(path, tmp_path / "out", config=config, sets=sets))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["records"] == {"read": 402, "accepted": 400, "duplicate": 0, "late": 1, "rejected": 1}
    cells = {"observed": 778, "missing": 2, "corrupt": 20, "unknown": 5, "late": 2}
    assert Counter(summary["cells"]) - Counter(read=807) == Counter(cells)
    assert summary["corrupt"] == {"b": {"text": 20}}
    assert summary["corrupt_cells"] == {"b": 20}
    assert summary["unknown_sensors"] == {"other": 5}
    assert done.accounts == [
        "402 records: 400 accepted, 1 late, 1 rejected (not_json 1).",
        "807 cells: 778 observed, 2 missing, 20 corrupt (b: 20 texts), 5 unknown (other 5), 2 late.",
    ]


async def test_a_history_accounts_for_its_lines(tmp_path: Path) -> None:
    path = odd_lines(tmp_path / "a.jsonl")
    settings = load(None, [], DOCUMENT)
    read = await read_history(path, StreamPlan.of(settings, settings.streams[0]), ())
    assert read.lost(path) == [
        "a.jsonl: 402 records: 400 accepted, 1 late, 1 rejected (not_json 1).",
        "a.jsonl: 807 cells: 778 observed, 2 missing, 20 corrupt (b: 20 texts), 5 unknown (other 5), 2 late.",
    ]
    assert sum(len(segment.values) for segment in read.segments) == 400


@pytest.mark.parametrize(
    ("unknown", "expected"),
    [
        ({}, []),
        ({"TEMP": 3, "flow": 2}, ["sensor 'tmep'; did you mean 'TEMP', which it has?"]),
        ({"power": 3}, ["sensor 'tmep'; not listed are 'power', which it has"]),
    ],
)
def test_a_configured_sensor_without_data_is_named_with_the_nearest_that_the_data_has(
    unknown: dict[str, int], expected: list[str]
) -> None:
    lines = misspelt_lines(StreamSpec("s", ("tmep", "speed")), np.array([False, True]), unknown)
    assert [line.removeprefix("the data has no value of the configured ") for line in lines] == expected


def test_a_misspelt_sensor_is_named_where_the_data_has_nothing_that_is_not_listed() -> None:
    """As where a rule is added with --set to settings that were derived from the data."""
    seen = np.array([True, False, True, False])
    lines = misspelt_lines(StreamSpec("s", ("pressure", "presure", "speed", "valve")), seen, {})
    assert lines == [
        "the data has no value of the configured sensor 'presure'; the nearest that it has is 'pressure'"
    ]


def test_training_names_a_misspelt_sensor(tmp_path: Path) -> None:
    rows = ["timestamp,Pressure,Flow", *(f"{1_767_225_600 + i},{i % 7},{i % 5}" for i in range(400))]
    (tmp_path / "train.csv").write_text("\n".join(rows))
    config = "streams: [{name: s, topics: [t], sensors: [Presure, Flow]}]\nmodel: {kind: ppca}"
    (tmp_path / "config.yaml").write_text(config)
    done = command("train", "train.csv", "--out", "bundle", "-c", "config.yaml", cwd=tmp_path)
    assert "note: provisional calibration: " in done.stderr
    assert "sensor 'Presure'; did you mean 'Pressure', which it has?" in done.stderr


def test_cells_that_are_no_numbers_are_one_line_with_the_first_sensors_and_what_helps() -> None:
    assert corrupt_lines(Counter()) == []
    assert corrupt_lines(Counter({("Level", "infinite"): 1})) == [
        "1 cell is no number and counts as missing (Level: 1 infinite): infinity"
    ]
    many = Counter({(f"s{n}", fault): 20 - n for n in range(8) for fault in ("text", "array")})
    (line,) = corrupt_lines(many)
    assert line.startswith("264 cells are no numbers and count as missing (s0: 20 arrays, 20 texts; s1: ")
    assert "; 3 more sensors): " in line
    assert line.count("give the sensor states") == line.count("give wave") == 1
