"""The JSON results of a run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from daemon.adapters.files import JsonLines, dead_letter, write_summary
from daemon.domain import Reason, Record, Rejected
from tests.adapters.files.tables import NAN, NOW


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rejected = Rejected(Record(4, None, b"\xff\x00", NOW), Reason.NOT_UTF8, "byte 0 is not UTF-8")
    with JsonLines(path) as file:
        file.write(b'{"a":1}')
        file.write({"x": NAN, "name": "ü\n"})
        file.write(dead_letter(rejected))
    assert file.lines == 3
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == [
        {"a": 1},
        {"x": None, "name": "ü\n"},
        {"line": 4, "reason": "not_utf8", "detail": "byte 0 is not UTF-8", "original": "/wA="},
    ]
    long = dead_letter(Rejected(Record(0, None, b"y" * 1_000_000, NOW), Reason.NOT_JSON, ""))
    assert (long["length"], long["sha256"]) == (1_000_000, hashlib.sha256(b"y" * 1_000_000).hexdigest())


def test_summary(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_summary(
        path, {"records": {"read": np.int64(3)}, "x": NAN, "y": np.array([1.5]), "file": Path("a.csv")}
    )
    assert json.loads(path.read_text()) == {"records": {"read": 3}, "x": None, "y": [1.5], "file": "a.csv"}
    assert path.read_text().startswith('{\n  "records"')
