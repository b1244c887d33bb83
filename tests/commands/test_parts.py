"""Rows that come in several messages: what is said where each is taken for a whole one, and what ``init`` writes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from structlog.testing import capture_logs

from daemon.commands.init import InitOptions, derive_configuration
from daemon.commands.inspect import InspectOptions, inspect_sample
from daemon.commands.replay import ReplayOptions, replay
from daemon.config import load
from tests.commands.fleet import LINEAR

SETS = [*LINEAR, "model.learn_rows=200"]


def lines(path: Path, *, parts: bool, preset: str, again: bool = False) -> Path:
    """300 rows of two sensors, in one message each or in two; ``again``: every message twice."""
    texts = []
    for t in range(300):
        stamp = f"2026-01-01T00:{t // 60:02}:{t % 60:02}Z"
        row = {"temp": 20 + math.sin(t / 9), "flow": 7 + math.cos(t / 7)}
        for values in [{name: value} for name, value in row.items()] if parts else [row]:
            message = {
                "flat": {"asset": "p", "ts": stamp, **values},
                "wide": {"machineId": "p", "time": stamp, "readings": values},
                "json-wide": {"asset": "p", "ts": stamp, "values": values},
            }[preset]
            texts += [json.dumps(message)] * (1 + again)
    path.write_text("\n".join(texts) + "\n")
    return path


def config_of(tmp_path: Path, preset: str, rows: str | None = None) -> Path:
    stream = {
        "name": "s",
        "topics": ["s"],
        "format": preset,
        "sensors": {"temp": {}, "flow": {}},
        "window": 4,
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"streams": [stream | ({"input": {"rows": rows}} if rows else {})]}))
    return path


@pytest.mark.parametrize("preset", ["flat", "wide", "json-wide"])
async def test_parts_of_rows_that_are_lost_are_told_with_what_helps(tmp_path: Path, preset: str) -> None:
    sample, config = lines(tmp_path / "a.jsonl", parts=True, preset=preset), config_of(tmp_path, preset)
    with capture_logs() as logs:
        done = await replay(ReplayOptions(sample, tmp_path / "out", config=config, sets=SETS))
    assert done.summary["cells"]["conflict"] == 300
    assert any(
        note.startswith("300 records have a part of a row whose first part came before")
        for note in done.notes
    )
    assert [log["event"] for log in logs].count("rows_in_parts") == 1


@pytest.mark.parametrize("preset", ["flat", "wide", "json-wide"])
async def test_rows_that_are_gathered_of_parts_lose_nothing(tmp_path: Path, preset: str) -> None:
    sample = lines(tmp_path / "a.jsonl", parts=True, preset=preset, again=True)
    config = config_of(tmp_path, preset, "gather")
    done = await replay(ReplayOptions(sample, tmp_path / "out", config=config, sets=SETS))
    assert (done.summary["rows"], done.summary["cells"]["observed"]) == (300, 600)
    assert (done.summary["records"]["accepted"], done.summary["records"]["duplicate"]) == (600, 600)
    assert not any("part of a row" in note for note in done.notes)


async def test_a_message_that_comes_again_is_a_duplicate_and_no_part(tmp_path: Path) -> None:
    sample = lines(tmp_path / "a.jsonl", parts=False, preset="flat", again=True)
    config = config_of(tmp_path, "flat")
    with capture_logs() as logs:
        done = await replay(ReplayOptions(sample, tmp_path / "out", config=config, sets=SETS))
    assert done.summary["records"]["duplicate"] == 300
    assert not any("part of a row" in note for note in done.notes)
    assert "rows_in_parts" not in [log["event"] for log in logs]


@pytest.mark.parametrize(("parts", "again"), [(True, False), (False, True), (False, False)])
def test_inspect_says_that_parts_are_lost(tmp_path: Path, parts: bool, again: bool) -> None:
    sample = lines(tmp_path / "a.jsonl", parts=parts, preset="flat", again=again)
    found = inspect_sample(InspectOptions(str(sample), config_of(tmp_path, "flat")))
    assert any("rows: gather" in note for note in found.notes) is parts
    gathered = inspect_sample(InspectOptions(str(sample), config_of(tmp_path, "flat", "gather")))
    assert not any("rows: gather" in note for note in gathered.notes)


@pytest.mark.parametrize(("parts", "rows"), [(True, "gather"), (False, None)])
@pytest.mark.parametrize("preset", ["flat", "wide"])
def test_init_sees_in_the_sample_whether_rows_come_in_parts(
    tmp_path: Path, preset: str, parts: bool, rows: str | None
) -> None:
    sample = lines(tmp_path / "a.jsonl", parts=parts, preset=preset)
    made = derive_configuration(InitOptions(str(sample), tmp_path / "config.yaml"))
    made.write(tmp_path / "config.yaml")
    (stream,) = load(tmp_path / "config.yaml", []).streams
    assert (stream.input or {}).get("rows") == rows
