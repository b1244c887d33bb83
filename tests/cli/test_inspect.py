"""``inspect`` in the real command: its exit codes, its tables and its one JSON document."""

from __future__ import annotations

import json
from pathlib import Path

from tests.running import command


def test_exit_codes_and_output(tmp_path: Path) -> None:
    rows = [
        {"deviceId": f"d-{i % 2}", "ts": 1_750_000_000 + i // 2, "level": i % 7, "note": "[bold]x[/]"}
        for i in range(60)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = command("inspect", "a.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        "60 records: 60 accepted. 60 readings of 2 assets and 1 sensor, 60 values that are no number."
        in done.stdout
    )
    assert "deviceId" in done.stdout
    assert "\u2026" not in done.stdout  # nothing is cut
    found = json.loads(command("inspect", "a.jsonl", "--json", cwd=tmp_path).stdout)
    assert found["totals"]["readings"] == 60
    nothing = command("inspect", "a.jsonl", "--format", "telegraf", "--json", cwd=tmp_path)
    assert nothing.returncode == 1
    assert json.loads(nothing.stdout)["rejects"][0]["reason"] == "no_asset"
    assert command("inspect", "a.jsonl", "--format", "nonsense", cwd=tmp_path).returncode == 2
    assert command("inspect", "a.jsonl", "--format", "telegraf", "-c", "c.yaml", cwd=tmp_path).returncode == 2


def test_unknown_words_of_quality_are_proposed_with_the_good_ones(tmp_path: Path) -> None:
    words = ("weird", "good", "bad", "OK", "odd", 192)
    rows = [{"dev": "a", "at": 1_750_000_000 + i, "x": i % 5, "q": words[i % 6]} for i in range(60)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "c.yaml").write_text(
        "streams: [{name: s, topics: [s], sensors: [x], input: {asset: dev, time: at, leaves: ., quality: q}}]"
    )
    shown = " ".join(command("inspect", "a.jsonl", "-c", "c.yaml", cwd=tmp_path).stdout.split())
    assert "Quality 'weird' (10 values), 'odd' (10 values) are not known, so they count as bad." in shown
    assert "good: [good, OK, 192, weird, odd]}, and whatever is not in this list is bad." in shown
