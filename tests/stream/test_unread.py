"""Values that came and gave no number, told with the silence of their sensor."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.config.presets import CUSTOM, mapping_of
from daemon.domain import SECOND_NS, AlertKind, Format, Phase, Record, StreamSpec, iso
from daemon.mapping import Component, SensorRule
from tests.stream.pipelines import LONG, SPEC, feed, make, of_kind, snapshots, take_over

TAGGED = replace(
    SPEC,
    format=Format.MAPPED,
    input=mapping_of(
        CUSTOM,
        {
            "each": "tags[]",
            "asset": "^.asset",
            "time": "^.ts",
            "sensor": "name",
            "value": "value",
            "quality": "q",
            "rows": "gather",
        },
    ),
)
KINDS = {"wide": SPEC, "long": LONG, "tagged": TAGGED}
CELLS = {"number": 0.5, "text": "ERR", "null": None, "bad": 0.7}
"""What a cell of b is; a bad one has a quality in ``tagged``, and is plain null elsewhere."""


def records(kind: str, cells: list[str]) -> list[Record]:
    """A message a second, or one for each sensor, whose b is one of ``CELLS``."""
    made: list[bytes] = []
    for second, cell in enumerate(cells):
        ts, a, b = iso(second * SECOND_NS), 0.5 + 0.01 * (second % 2), CELLS[cell]
        if kind == "wide":
            b = None if cell == "bad" else b
            made.append(json.dumps({"asset": "p1", "ts": ts, "values": {"a": a, "b": b}}).encode())
        elif kind == "long":
            b = None if cell == "bad" else b
            made += [
                json.dumps({"asset": "p1", "ts": ts, "sensor": name, "value": value}).encode()
                for name, value in (("a", a), ("b", b))
            ]
        else:
            q = "bad" if cell == "bad" else "good"
            tags = [{"name": "a", "value": a}, {"name": "b", "value": b, "q": q}]
            made.append(json.dumps({"asset": "p1", "ts": ts, "tags": tags}).encode())
    return [Record(i, None, value, -1) for i, value in enumerate(made)]


def expected(kind: str, cells: list[str], row: int) -> Counter[str]:
    """The cells of b up to a row that came since its last number, slowly."""
    found: Counter[str] = Counter()
    for cell in cells[: row + 1]:
        if cell == "number":
            found.clear()
        elif cell == "text":
            found["text"] += 1
        elif cell == "bad" and kind == "tagged":
            found["bad_quality"] += 1
    return found


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=60), st.lists(st.integers(1, 40)))
def test_a_silence_tells_the_values_that_could_not_be_read(
    kind: str, cells: list[str], polls: list[int]
) -> None:
    pipeline, log = make(KINDS[kind], None), records(kind, cells)
    outputs, at = [], 0
    for size in [*polls, len(log)]:
        outputs += feed(pipeline, log[at : at + size])
        at += size
    outputs += feed(pipeline, [], ended=True)
    for event in of_kind(outputs, AlertKind.SENSOR_SILENT):
        if event.phase is Phase.OPENED:
            wanted = expected(kind, cells, event.row_ns // SECOND_NS)
            assert event.unread == wanted
            assert ("could be read" in event.summary) is bool(wanted)
        else:
            assert not event.unread


def test_the_summary_says_how_many_came_and_why_none_was_read() -> None:
    cells = ["number"] * 5 + ["text"] * 6 + ["bad"] * 2
    (event,) = of_kind(
        feed(make(TAGGED, None), records("tagged", cells), ended=True), AlertKind.SENSOR_SILENT
    )
    assert event.summary == (
        "p1: b has sent no value since 1970-01-01T00:00:04Z: 8 values came, none could be read: text 6, bad quality 2"
    )
    only = ["number"] * 5 + ["text"] * 10
    (event,) = of_kind(feed(make(SPEC, None), records("wide", only), ended=True), AlertKind.SENSOR_SILENT)
    assert event.summary.endswith("8 values came, none could be read: text")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [3, 7, 9, 11])
def test_a_successor_goes_on_counting(kind: str, cut: int) -> None:
    spec = KINDS[kind]
    log = records(kind, ["number"] * 4 + ["text", "bad"] * 8)
    whole = feed(make(spec, None), log, ended=True)
    cut = cut * len(log) // 20
    first = make(spec, None)
    outputs = feed(first, log[:cut])
    saved, back = snapshots(first), first.replay_from()
    second = make(spec, None, publish_from=first.offset)
    assert take_over(second, saved)
    outputs += feed(second, log[back:], ended=True)
    told = [(event.id, event.summary, event.unread) for event in of_kind(outputs, AlertKind.SENSOR_SILENT)]
    assert told == [
        (event.id, event.summary, event.unread) for event in of_kind(whole, AlertKind.SENSOR_SILENT)
    ]
    assert told


def test_the_two_numbers_of_an_angle_tell_the_same() -> None:
    rules = tuple(
        SensorRule(angle=360.0, component=part, component_of="b") for part in (Component.COS, Component.SIN)
    )
    spec: StreamSpec = replace(SPEC, sensors=("a", "b.cos", "b.sin"), sensor_rules=(SensorRule(), *rules))
    cells = ["number"] * 3 + ["text"] * 12
    events = of_kind(feed(make(spec, None), records("wide", cells), ended=True), AlertKind.SENSOR_SILENT)
    assert [(str(event.phase), event.sensors[-1], dict(event.unread)) for event in events] == [
        ("opened", "b.cos", {"text": 8}),
        ("updated", "b.sin", {"text": 8}),
    ]
