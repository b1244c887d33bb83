"""The stream that follows from readings, in the configuration's words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon import config
from daemon.adapters.sample import Derived, config_yaml, derive
from daemon.documents import from_yaml
from daemon.domain import Format, StreamSpec
from daemon.errors import InputError
from daemon.mapping import SensorRule
from tests.adapters.sample.test_choosing import lines

START = 1_750_000_000


def read_back(derived: Derived) -> StreamSpec:
    """The stream that the written configuration says."""
    text = config_yaml(derived.spec, "t", derived.notes, written=derived.written)
    (stream,) = config.load(None, (), from_yaml(text)).streams
    return stream.spec()


def plant(rows: int = 400) -> list[dict[str, Any]]:
    """A machine with a meter, a sensor that fails now and then, a switch, a mode, and one number twice."""
    rng = np.random.default_rng(3)
    energy = np.cumsum(rng.uniform(0, 1, rows))
    found = []
    for i in range(rows):
        level = 20 + float(rng.normal())
        found.append(
            {
                "device": "m-1",
                "ts": START + 10 * i,
                "energy_kwh": round(float(energy[i]), 3),
                "level": -999.9 if i % 100 == 7 else round(level, 3),
                "twin": round(level, 3),
                "again": round(level, 3),
                "running": i % 50 < 25,
                "mode": ["AUTO", "HAND"][i // 100 % 2],
                "firmware": "2.1.0-b",
            }
        )
    return found


def test_what_was_found_is_written_with_its_reason_and_reads_back(tmp_path: Path) -> None:
    derived = derive(lines(*plant()), name="plant")
    assert derived.spec.sensors == ("again", "energy_kwh", "level", "running", "twin")
    rules = dict(zip(derived.spec.sensors, derived.spec.rules, strict=True))
    assert rules["energy_kwh"] == SensorRule(counter=True)
    assert rules["level"] == SensorRule(missing=frozenset({-999.9}))
    text = config_yaml(derived.spec, "t", derived.notes, written=derived.written)
    for line in (
        r"energy_kwh: {counter: true}",
        r"level: {missing: [-999.9]}",
        r"the same numbers as again",
        r"true and false are read as 1 and 0",
        r"# mode: {states: {AUTO: 0, HAND: 1}}",
        r"1: m-1",  # the assets, beside the place where they are found
    ):
        assert line in text
    spec = read_back(derived)
    assert spec == StreamSpec(
        **{f: getattr(derived.spec, f) for f in StreamSpec.__slots__} | {"topics": ("t",)}
    )


def test_a_proposal_becomes_a_sensor_without_its_number_sign() -> None:
    derived = derive(lines(*plant()), name="plant")
    text = config_yaml(derived.spec, "t", written=derived.written).replace("# mode:", "mode:")
    (stream,) = config.load(None, (), from_yaml(text)).streams
    assert stream.sensors["mode"].states == {"AUTO": 0, "HAND": 1}


def test_a_typed_format_is_kept_where_it_says_it_all() -> None:
    rows = [{"device": "d", "ts": START + i, "values": {"a": i % 7, "b": i % 5}} for i in range(100)]
    derived = derive(lines(*rows), name="s")
    assert (derived.spec.format, derived.spec.input) == (Format.JSON_WIDE, None)
    assert read_back(derived).fields.asset == "device"


def test_rows_in_parts_are_gathered() -> None:
    rows = [{"device": "d", "ts": START + i // 2, ["a", "b"][i % 2]: i % 7} for i in range(200)]
    derived = derive(lines(*rows), name="s")
    assert derived.spec.gathers
    assert read_back(derived).gathers


def test_a_sensor_that_reports_on_change_is_held() -> None:
    rng = np.random.default_rng(5)
    rows: list[dict[str, Any]] = []
    for i in range(600):
        rows.append({"device": "d", "tag": "fast", "ts": START + i, "value": float(rng.normal())})
        if rng.random() < 0.1:
            rows.append({"device": "d", "tag": "door", "ts": START + i, "value": float(rng.normal())})
    derived = derive(lines(*rows), name="s")
    rules = dict(zip(derived.spec.sensors, derived.spec.rules, strict=True))
    assert rules["fast"].hold_ns == 0
    assert rules["door"].hold_ns >= 20 * 10**9
    assert any("'door': hold" in note for note in derived.notes)


def test_a_mapping_of_a_preset_with_a_key_over_it_reads_back() -> None:
    rows = [
        {"fields": {"a": i % 7}, "name": "modbus", "tags": {"station": f"s-{i % 2}"}, "timestamp": START + i}
        for i in range(100)
    ]
    derived = derive(lines(*rows), name="s")
    assert derived.written.format in ("telegraf", "custom")
    assert read_back(derived).input == derived.spec.input


def test_times_without_a_zone_are_told(tmp_path: Path) -> None:
    rows = [{"device": "d", "ts": f"2025-06-15T12:00:{i:02d}", "a": i % 7} for i in range(60)]
    derived = derive(lines(*rows), name="s")
    assert "# timezone:" in config_yaml(derived.spec, "t", written=derived.written)


@pytest.mark.parametrize("hostile", ["a\n: b", "#x", "{y}", "'", "\u202e", "\x00", " ", "a" * 500])
def test_no_name_breaks_the_configuration(hostile: str) -> None:
    rows = [
        {"device": hostile, "ts": START + i, "values": {hostile: i % 7, "fine": i % 5}} for i in range(60)
    ]
    if hostile == "\x00":  # no asset can be called so
        rows = [row | {"device": "d"} for row in rows]
    try:
        derived = derive(lines(*rows), name="s")
    except InputError:
        return
    assert read_back(derived).sensors == derived.spec.sensors


def test_the_same_sample_gives_the_same_text() -> None:
    sample = lines(*plant())
    texts = {
        config_yaml(d.spec, "t", d.notes, written=d.written)
        for d in (derive(sample, name="s"), derive(list(sample), name="s"))
    }
    assert len(texts) == 1
    assert json.loads(sample[0])["device"] == "m-1"


def test_times_that_lie_years_apart_tell_no_period() -> None:
    rows = [{"device": "d", "ts": ts, "values": {"a": 1.5}} for ts in (10**8, START)]
    derived = derive(lines(*rows), name="s")
    assert read_back(derived).period_ns == 10**9
    assert any("years apart" in note for note in derived.notes)
