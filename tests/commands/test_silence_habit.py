"""Silence by habit, from training to alerts."""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path

import numpy as np

from daemon.commands.replay import Replayed, ReplayOptions, replay
from tests.commands.fleet import LINEAR

START = 1_767_571_200
"""Monday, 5 January 2026."""
STEP = 600


def inverter(path: Path, days: range, *, silent: tuple[float, float] = (0, 0)) -> Path:
    """An inverter with current and voltage by day only, whose temperature comes at night, too.

    Its voltage is also silent between the hours ``silent`` after the first day's midnight.
    """
    noise = np.random.default_rng(0).standard_normal((14 * 144, 3))
    table, lines = path.suffix == ".csv", []
    for t in range(days.start * 144, days.stop * 144):
        hour, weather = t % 144 / 6, 1 + 0.1 * math.sin(t // 144)
        sun = math.sin(math.pi * (hour - 6) / 14) * weather if 6 <= hour < 20 else None
        off = silent[0] <= t / 6 - 24 * days.start < silent[1]
        values = {
            "current": None if sun is None else 9 * sun + 0.2 * noise[t, 0],
            "voltage": None if sun is None or off else 600 + 5 * sun + 0.5 * noise[t, 1],
            "temperature": 20 + 15 * (sun or 0) + 0.5 * noise[t, 2],
        }
        if table:
            cells = ["" if value is None else f"{value:.3f}" for value in values.values()]
            lines.append(",".join([str(START + STEP * t), *cells]))
        else:
            lines.append(json.dumps({"asset": "asset-0", "ts": START + STEP * t, "values": values}))
    head = ["timestamp,current,voltage,temperature"] if table else []
    path.write_text("\n".join([*head, *lines]) + "\n")
    return path


def alerts(folder: Path) -> list[tuple[str, str, str, str]]:
    """(kind, sensor, status, hour of the test)."""
    found = []
    for line in (folder / "alerts.jsonl").read_text().splitlines():
        data = json.loads(line)["data"]
        hours = (datetime.fromisoformat(data["row"]).timestamp() - START) / 3600 - 24 * 9
        found.append((data["kind"], data.get("sensor", ""), data["status"], f"{hours:.2f}"))
    return found


async def replayed(test: Path, train: Path, out: Path) -> Replayed:
    return await replay(ReplayOptions(test, out, train=train, sets=LINEAR))


async def test_nights_of_training_are_no_alarm_and_the_same_silence_at_noon_is(tmp_path: Path) -> None:
    train = inverter(tmp_path / "train.csv", range(9))
    done = await replayed(
        inverter(tmp_path / "test.csv", range(9, 12), silent=(35, 40)), train, tmp_path / "out"
    )
    # ``silent_after`` is 20 periods of ten minutes.
    wanted = [
        ("sensor_silent", "voltage", "firing", "38.17"),
        ("sensor_silent", "voltage", "resolved", "40.00"),
    ]
    assert alerts(tmp_path / "out") == wanted
    assert done.summary["model"]["habits"] == [
        "current: silent every day from 19:45 to 06:15 UTC",
        "voltage: silent every day from 19:45 to 06:15 UTC",
    ]
    assert sum("usual: voltage: silent every day" in note for note in done.notes) == 1
    await replayed(
        inverter(tmp_path / "test.jsonl", range(9, 12), silent=(35, 40)), train, tmp_path / "lines"
    )
    assert alerts(tmp_path / "lines") == wanted
