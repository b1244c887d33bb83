"""Mappings that are made for messages of any shape: what is read of them in the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from daemon.adapters.sample import Survey, choose, survey
from daemon.adapters.sample.survey import Candidate
from daemon.domain import Record

START = 1_750_000_000
ROWS = 60


def records(make: Callable[[int], Any], key: Callable[[int], bytes] | None = None) -> list[Record]:
    """One message for each of ``ROWS`` minutes; with a key, records of a topic."""
    return [
        Record(
            i,
            None if key is None else key(i),
            json.dumps(make(i)).encode(),
            -1 if key is None else at(i) * 10**9,
        )
        for i in range(ROWS)
    ]


def at(i: int) -> int:
    return START + 60 * (i // 2)


def device(i: int) -> str:
    return f"d-{i % 2}"


def level(i: int) -> float:
    return 3 + (i * 7 % 11) / 10


def taken(sample: list[Record]) -> tuple[Candidate, Survey]:
    candidate = choose(sample, "here").candidate
    return candidate, survey(candidate, sample)


CASES: dict[str, tuple[Callable[[int], Any], set[str], set[str]]] = {
    "flat": (
        lambda i: {"deviceId": device(i), "timestamp": at(i), "level": level(i), "flow": i},
        {"d-0", "d-1"},
        {"level", "flow"},
    ),
    "flat and nested": (
        lambda i: {"machine": device(i), "time": at(i), "axis": {"x": level(i), "y": i}, "flow": i},
        {"d-0", "d-1"},
        {"axis.x", "axis.y", "flow"},
    ),
    "wide in an envelope": (
        lambda i: {
            "head": {"stationName": device(i), "sent": "now"},
            "body": {"eventTime": at(i), "level": level(i), "flow": i},
        },
        {"d-0", "d-1"},
        {"level", "flow"},
    ),
    "camel case, one reading a message": (
        lambda i: {
            "equipmentId": device(i // 2),
            "signalName": ["level", "flow"][i % 2],
            "readingValue": level(i),
            "eventTime": at(i),
        },
        {"d-0", "d-1"},
        {"level", "flow"},
    ),
    "an array of names and values": (
        lambda i: {
            "sentAt": at(i) + 5,
            "machineId": device(i),
            "points": [
                {"tag": "level", "val": level(i), "ts": at(i)},
                {"tag": "flow", "val": i, "ts": at(i)},
            ],
        },
        {"d-0", "d-1"},
        {"level", "flow"},
    ),
    "ids of asset and sensor in one": (
        lambda i: {
            "tagId": f"hall/{device(i // 2)}/{['level', 'flow'][i % 2]}",
            "ts": at(i),
            "value": level(i),
        },
        {"hall/d-0", "hall/d-1"},
        {"level", "flow"},
    ),
    "names as keys": (
        lambda i: {
            "plantId": device(i),
            "at": at(i),
            "signals": {"level": {"value": level(i), "unit": "m"}, "flow": {"value": i, "unit": "l/s"}},
        },
        {"d-0", "d-1"},
        {"level", "flow"},
    ),
    "assets as keys": (
        lambda i: {"d-0": {"ts": at(i), "level": level(i)}, "d-1": {"ts": at(i), "level": level(i + 1)}},
        {"d-0", "d-1"},
        {"level"},
    ),
    "a list of rows": (
        lambda i: [{"robot": device(j), "ts": at(i), "level": level(i + j)} for j in range(2)],
        {"d-0", "d-1"},
        {"level"},
    ),
    "an asset that no name tells": (
        lambda i: {"where": device(i), "kind": "tank", "ts": at(i), "level": level(i), "flow": i},
        {"d-0", "d-1"},
        {"level", "flow"},
    ),
    "a site that is the same for all": (
        lambda i: {"site": "north", "id": device(i), "ts": at(i), "level": level(i)},
        {"d-0", "d-1"},
        {"level"},
    ),
    "a time that no name tells": (
        lambda i: {"device": device(i), "erfasst": f"2025-06-15T12:{i // 2:02d}:00Z", "level": level(i)},
        {"d-0", "d-1"},
        {"level"},
    ),
    "a number of each message": (
        lambda i: {"id": f"m-{i}", "device": device(i), "ts": at(i), "seq": i, "level": level(i)},
        {"d-0", "d-1"},
        {"level"},
    ),
    "quoted numbers": (
        lambda i: {"device": device(i), "ts": str(at(i)), "level": str(level(i))},
        {"d-0", "d-1"},
        {"level"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_person_would_read_is_read(name: str) -> None:
    make, assets, sensors = CASES[name]
    sample = records(make)
    candidate, found = taken(sample)
    numbered = {found.sensors[s] for s, n in zip(found.sensor, found.numbers, strict=True) if n == n}
    assert set(found.assets) == assets
    assert numbered >= sensors
    assert numbered - sensors <= {"seq"}  # a preset may read what is left out later
    assert found.share == 1
    assert set(found.time_ns) == {
        (at(i) if "erfasst" not in make(i) else 1_749_988_800 + 60 * (i // 2)) * 10**9 for i in range(ROWS)
    }
    assert set(candidate.reasons) or candidate.format not in ("custom", "json-wide", "json-long")


def test_the_key_of_the_records_is_the_asset_where_no_field_is() -> None:
    sample = records(lambda i: {"ts": at(i), "level": level(i)}, key=lambda i: device(i).encode())
    candidate, found = taken(sample)
    assert set(found.assets) == {"d-0", "d-1"}
    assert [source.text for source in candidate.mapping.asset][-1] == "$key"


def test_a_field_in_the_key_is_the_asset() -> None:
    sample = records(
        lambda i: {"ts": at(i), "level": level(i)}, key=lambda i: json.dumps({"deviceId": device(i)}).encode()
    )
    candidate, found = taken(sample)
    assert set(found.assets) == {"d-0", "d-1"}
    assert candidate.mapping.asset[0].text == "$key.deviceId"


def test_the_time_of_the_record_counts_where_no_field_is_one() -> None:
    sample = records(lambda i: {"device": device(i), "level": level(i)}, key=lambda i: b"k")
    candidate, found = taken(sample)
    assert "$timestamp" in [source.text for source in candidate.mapping.time.sources]
    assert set(found.time_ns) == {at(i) * 10**9 for i in range(ROWS)}


def test_nothing_tells_assets_apart_and_nothing_has_to() -> None:
    candidate, found = taken(records(lambda i: {"ts": START + i, "level": level(i)}))
    assert found.assets == ("asset-0",)
    assert "one asset" in candidate.reasons["asset"]


def test_a_quality_beside_the_value_is_heeded() -> None:
    def reading(i: int) -> Any:
        return {
            "device": "d",
            "tag": "level",
            "ts": START + i,
            "value": level(i),
            "quality": "BAD" if i == 3 else "GOOD",
        }

    candidate, found = taken(records(reading))
    assert candidate.mapping.quality is not None
    assert found.untrusted == 1


@pytest.mark.parametrize("split", [False, True])
def test_a_unit_beside_the_value_is_kept(split: bool) -> None:
    def make(i: int) -> Any:
        sensor, unit = ("temperature", "°C") if i % 2 else ("pressure", "bar")
        head = {"id": f"d-0/{sensor}"} if split else {"asset": "d-0", "sensor": sensor}
        return head | {"ts": at(i), "value": level(i), "uom": unit}

    candidate, found = taken(records(make))
    assert candidate.mapping.unit is not None
    assert {sensor: set(units) for sensor, units in found.units.items()} == {
        "temperature": {"°C"},
        "pressure": {"bar"},
    }


def test_names_that_the_language_must_quote() -> None:
    sample = records(
        lambda i: {"device id": device(i), "time.stamp": at(i), "data [1]": {"a": level(i), "b": i}}
    )
    _, found = taken(sample)
    assert set(found.assets) == {"d-0", "d-1"}
    assert set(found.sensors) == {"a", "b"}


def test_a_fleet_that_hardly_comes_again_in_the_sample() -> None:
    sample = [
        Record(
            i,
            None,
            json.dumps(
                {"deviceId": f"d-{i % 900}", "ts": START + 60 * (i // 900), "level": level(i)}
            ).encode(),
            -1,
        )
        for i in range(1500)
    ]
    _, found = taken(sample)
    assert len(found.assets) == 900


def test_assets_of_one_time_are_told_apart_however_the_sample_is_cut() -> None:
    sample = [
        Record(
            i,
            None,
            json.dumps({"press": f"p-{i % 4}", "ts": START + 10 * (i // 4), "level": level(i)}).encode(),
            -1,
        )
        for i in range(5000)
    ]
    _, found = taken(sample)
    assert set(found.assets) == {f"p-{i}" for i in range(4)}
