"""A prefix where Telegraf's measurements share names of fields."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from daemon.adapters.sample import derive
from daemon.commands.derive import document_of
from daemon.commands.reading_check import read_records, said_of
from daemon.config import load
from daemon.domain import Record

T = 1_772_352_000


def metric(name: str, i: int, tags: dict[str, str], **fields: float) -> dict[str, Any]:
    return {"name": name, "tags": {"host": "h1", **tags}, "fields": fields, "timestamp": T + 10 * i}


def machine(i: int) -> list[dict[str, Any]]:
    """A core's, a disk's and the memory's metrics of one time."""
    cores = [metric("cpu", i, {"cpu": f"cpu{n}"}, busy=float(n + i % 7)) for n in range(2)]
    disks = [
        metric("disk", i, {"path": path, "fs": "x"}, used=n + 40.0 + i % 3) for n, path in enumerate("ab")
    ]
    return [*cores, *disks, metric("mem", i, {}, used=60.0 + i % 5)]


@pytest.mark.parametrize("batch", [False, True])
def test_measurements_that_contradict_each_other_are_told_apart_by_a_prefix(batch: bool) -> None:
    times = [machine(i) for i in range(60)]
    messages = [{"metrics": each} for each in times] if batch else [one for each in times for one in each]
    lines = [json.dumps(each).encode() for each in messages]
    derived = derive(lines)
    assert derived.spec.sensors == (
        "cpu.cpu0.busy",
        "cpu.cpu1.busy",
        "disk.a.used",
        "disk.b.used",
        "mem.used",
    )
    spec = load(None, (), document_of(derived.spec, derived.written)).streams[0].spec()
    read = read_records(spec, [Record(at, None, line, -1) for at, line in enumerate(lines)])
    assert (read.contradicting, read.accepted) == (0, len(lines))


def test_line_protocol_is_told_apart_by_the_measurement_alone_where_that_is_enough() -> None:
    lines = [
        f"{name},host=h1 used={i % 7 + n} {(T + 10 * i) * 10**9}".encode()
        for i in range(60)
        for n, name in enumerate(("disk", "mem"))
    ]
    derived = derive(lines)
    assert (derived.written.input or {})["leaves"] == {"under": "fields", "prefix": "measurement"}
    assert derived.spec.sensors == ("disk.used", "mem.used")


def test_measurements_that_do_not_contradict_each_other_need_no_prefix() -> None:
    lines = [json.dumps(metric("pump", i, {}, flow=i % 9)).encode() for i in range(60)]
    assert derive(lines).spec.sensors == ("flow",)


def test_values_that_contradict_are_noted_and_counted_by_their_asset_time_and_sensor() -> None:
    rng = np.random.default_rng(0)
    lines = [
        json.dumps({"device": "d1", "ts": f"2026-01-01T00:{i:02d}:00Z", "a": v, "b": 2 * v}).encode()
        for i in range(50)
        for v in rng.normal(size=2).round(3).tolist()
    ]
    derived = derive(lines)
    assert any(note.startswith("100 values contradict an earlier one") for note in derived.notes)
    read = read_records(derived.spec, [Record(at, None, line, -1) for at, line in enumerate(lines)])
    assert read.contradicting == 100
    assert "100 values contradict an earlier one" in said_of(read)


def test_a_tag_that_could_name_the_assets_behind_a_gateway_is_noted() -> None:
    mills = [metric("plc", i, {"mill": f"mill-{n}"}, current=n + i % 7) for i in range(60) for n in (1, 2)]
    derived = derive([json.dumps(each).encode() for each in mills])
    said = (
        "tags.mill has 2 values (mill-1, mill-2): `input: {asset: tags.mill}` makes each an asset of its own"
    )
    assert said in derived.notes
    assert f"asset: tags.host (1: h1); {said}" in derived.written.why["format"]
    cores = [each for i in range(60) for each in machine(i)]  # of one machine: no tag is in all of them
    assert not any(
        "an asset of its own" in note for note in derive([json.dumps(m).encode() for m in cores]).notes
    )
