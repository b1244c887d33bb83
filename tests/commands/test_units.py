"""A sensor whose unit flips: what ``init`` writes, and that no anomaly comes of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

from structlog.testing import capture_logs

from daemon.commands.init import InitOptions, derive_configuration
from daemon.commands.inspect import InspectOptions, inspect_sample
from daemon.commands.replay import ReplayOptions, replay
from daemon.config import load
from tests.commands.fleet import LINEAR

START = 1_764_397_200


def states(path: Path, seconds: range, *, fahrenheit: bool = False, pressure: str = "bar") -> Path:
    """Home Assistant's states of a pump: a temperature and a pressure a second."""
    lines = []
    for t in seconds:
        celsius, bar = 60 + 5 * math.sin(t / 11) + 0.1 * (t % 3), 4 + 0.3 * math.cos(t / 11) + 0.01 * (t % 5)
        stamp = f"2025-11-29T{6 + t // 3600:02}:{t // 60 % 60:02}:{t % 60:02}.000000+00:00"
        for name, value, unit in (
            ("temperature", celsius * 9 / 5 + 32 if fahrenheit else celsius, "°F" if fahrenheit else "°C"),
            ("pressure", bar, pressure),
        ):
            state = {
                "entity_id": f"sensor.pump7_{name}",
                "state": f"{value:.4f}",
                "attributes": {"unit_of_measurement": unit, "friendly_name": "Pump 7"},
                "last_changed": stamp,
                "last_updated": stamp,
                "context": {"id": "01J"},
            }
            lines.append(json.dumps(state))
    path.write_text("\n".join(lines) + "\n")
    return path


def config_of(sample: Path, tmp_path: Path) -> Path:
    made = derive_configuration(InitOptions(str(sample), tmp_path / "config.yaml", name="pumps"))
    made.write(tmp_path / "config.yaml")
    return tmp_path / "config.yaml"


def test_init_writes_the_unit_that_the_sample_names(tmp_path: Path) -> None:
    config = config_of(states(tmp_path / "a.jsonl", range(400)), tmp_path)
    (stream,) = load(config, []).streams
    assert stream.format == "home-assistant"
    assert {name: section.unit for name, section in stream.sensors.items()} == {
        "temperature": "°C",
        "pressure": "bar",
    }


async def test_a_flip_of_the_unit_is_no_storm_of_anomalies(tmp_path: Path) -> None:
    train = states(tmp_path / "train.jsonl", range(1200))
    config = config_of(train, tmp_path)
    test = states(tmp_path / "test.jsonl", range(1200, 1600), fahrenheit=True)
    with capture_logs() as logs:
        done = await replay(ReplayOptions(test, tmp_path / "out", train=train, config=config, sets=LINEAR))
    assert done.summary["scored"] == 400
    assert not done.summary["episodes_by_kind"]
    assert done.summary["cells"]["observed"] == 800
    told = [(log["sensor"], log["unit"]) for log in logs if log["event"] == "unit_converted"]
    assert told == [("temperature", "°F")]


async def test_a_unit_of_another_dimension_is_masked_counted_and_told(tmp_path: Path) -> None:
    train = states(tmp_path / "train.jsonl", range(1200))
    config = config_of(train, tmp_path)
    test = states(tmp_path / "test.jsonl", range(1200, 1600), pressure="%")
    done = await replay(ReplayOptions(test, tmp_path / "out", train=train, config=config, sets=LINEAR))
    # Rows do not wait for a silent sensor: what comes for them then is late.
    assert done.summary["corrupt"] == {"pressure": {"unit": 400 - done.summary["cells"]["late"]}}
    assert done.summary["corrupt"]["pressure"]["unit"] >= 300
    assert done.summary["episodes_by_kind"].get("anomaly", 0) <= 1
    assert any("of another unit" in line for line in done.accounts)
    text = (tmp_path / "out" / "alerts.jsonl").read_text()
    assert "300 values came, none could be read: unit" in text


def test_inspect_shows_what_becomes_of_a_unit(tmp_path: Path) -> None:
    config = config_of(states(tmp_path / "train.jsonl", range(400)), tmp_path)
    sample = states(tmp_path / "test.jsonl", range(400, 500), fahrenheit=True, pressure="%")
    found = inspect_sample(InspectOptions(str(sample), config))
    marks = {cell.sensor: cell.mark for example in found.examples for cell in example.cells}
    assert marks["temperature"].startswith("from °F to °C: ")
    assert marks["pressure"] == 'no number: unit "%" is not bar'
