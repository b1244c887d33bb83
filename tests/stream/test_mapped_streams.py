"""Streams whose messages are read by a mapping: several readings a record, rows of several records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.config.input_notation import parse_mapping
from daemon.domain import (
    SECOND_NS,
    Disposition,
    FilledRow,
    Format,
    PolledRecords,
    Record,
    ScoredRow,
    StreamSpec,
)
from daemon.stream import batch_ingest, gathering
from daemon.stream import pipeline as pipeline_module
from daemon.stream.pipeline import Pipeline
from tests.stream.pipelines import (
    CENTRE,
    PUMPS_0,
    QUICK,
    SPEC,
    feed,
    feed_all,
    in_order,
    make,
    plain,
    snapshots_at_once,
)
from tests.stream.test_recovery import Log


@pytest.fixture(autouse=True)
def soon_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two readings in order the next ones are taken together, short as these logs are."""
    monkeypatch.setattr(gathering, "STEADY", 2)


DOCUMENT: dict[str, Any] = {
    "each": "points[]",
    "asset": "of",
    "time": "at",
    "leaves": {"under": "v"},
    "skip": [{"path": "kind", "in": ["hello"]}],
}
GATHERED = replace(SPEC, format=Format.MAPPED, input=parse_mapping(DOCUMENT, "custom"))
WHOLE = replace(SPEC, format=Format.MAPPED, input=parse_mapping(DOCUMENT | {"rows": "whole"}, "custom"))


def point(asset: str, second: int, **values: float | None) -> dict[str, Any]:
    return {"of": asset, "at": 1_000_000_000 + second, "v": values}


def message(offset: int, *points: dict[str, Any], **more: Any) -> Record:
    return Record(offset, None, json.dumps({"points": points, **more}).encode(), -1)


def scored(outputs: Sequence[object]) -> list[tuple[str, int]]:
    return [(o.asset, o.row_ns // SECOND_NS - 1_000_000_000) for o in outputs if isinstance(o, ScoredRow)]


def test_a_row_of_a_gathered_stream_is_complete_when_all_sensors_have_reported() -> None:
    pipeline = make(GATHERED)
    records = [message(i, point("p1", i, a=0.5), point("p1", i, b=0.5)) for i in range(8)]
    outputs = feed(pipeline, records)
    # A window has four rows; the first row waits for those that may still come before it.
    assert scored(outputs) == [("p1", second) for second in range(3, 8)]
    assert pipeline.counts == {Disposition.ACCEPTED: 8}


def test_a_row_is_gathered_from_several_records() -> None:
    pipeline = make(GATHERED)
    records = [
        message(2 * i + j, point("p1", i, **{name: 0.5})) for i in range(8) for j, name in enumerate("ab")
    ]
    assert scored(feed(pipeline, records)) == [("p1", second) for second in range(3, 8)]


def test_a_sensor_that_says_nothing_keeps_its_row_until_the_watermark_has_passed() -> None:
    pipeline = make(GATHERED)
    outputs = feed(pipeline, [message(i, point("p1", i, a=0.5)) for i in range(8)])
    assert scored(outputs) == [("p1", 3), ("p1", 4)]  # 7 s less the lateness of 2 s closes what ends by 5 s
    assert [o.row_ns // SECOND_NS - 1_000_000_000 for o in outputs if isinstance(o, FilledRow)] == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_readings_of_one_record_come_in_the_order_of_their_times() -> None:
    pipeline = make(WHOLE)
    backwards = [point("p1", second, a=0.5, b=0.5) for second in range(7, -1, -1)]
    assert scored(feed(pipeline, [message(0, *backwards)])) == [("p1", second) for second in range(3, 8)]
    assert pipeline.counts == {Disposition.ACCEPTED: 1}


def test_a_record_counts_once_whatever_number_of_readings_it_has() -> None:
    pipeline = make(GATHERED)
    records = [
        message(0, point("p1", 50, a=1.0, b=1.0), point("p2", 50, a=1.0, b=1.0)),
        message(1, point("p1", 50, a=1.0, b=1.0), point("p2", 50, a=1.0, b=1.0)),  # the same again
        message(2, point("p1", 1, a=1.0, b=1.0)),  # long before the watermark
        message(3, point("p3", 50, other=1.0)),  # no sensor of the stream
        message(4, kind="hello"),
        message(5),  # no points
    ]
    feed_all(pipeline, records)
    assert pipeline.counts == {
        Disposition.ACCEPTED: 1,
        Disposition.DUPLICATE: 1,
        Disposition.LATE: 1,
        Disposition.REJECTED: 1,
        Disposition.SKIPPED: 2,
    }
    assert pipeline.reasons == {"unknown_sensor": 1}


def test_the_first_value_of_a_cell_stands_and_what_contradicts_it_is_counted() -> None:
    pipeline = make(GATHERED)
    feed(pipeline, [message(0, point("p1", 1, a=1.0)), message(1, point("p1", 1, a=2.0, b=3.0))])
    assert pipeline.parts.ingest.grid.conflicts == 1
    assert pipeline.counts == {Disposition.ACCEPTED: 2}
    (row,) = pipeline.parts.ingest.release_idle(0, ended=True)
    assert list(row.values) == [1.0, 3.0]


POINTS = st.lists(
    st.tuples(
        st.sampled_from(["p1", "p2", "p3"]),
        st.integers(-3, 3),
        st.sampled_from([{"a": 0.5, "b": 0.5}, {"a": 0.5}, {"b": 9.0}, {"a": None, "b": 0.6}, {"c": 1.0}]),
    ),
    max_size=5,
)
ARRIVALS = st.lists(st.tuples(st.sampled_from([0, 1, 1, 2, 9, 40]), POINTS), min_size=1, max_size=40)


def records(drawn: list[tuple[int, list[tuple[str, int, dict[str, float | None]]]]]) -> list[Record]:
    found, clock = [], 50
    for offset, (on, points) in enumerate(drawn):
        clock += on
        made = [point(asset, clock + beside, **values) for asset, beside, values in points]
        found.append(message(offset, *made))
    return found


def in_polls(items: list[Record], sizes: list[int]) -> list[PolledRecords]:
    events = []
    for size in sizes:
        events.append(PolledRecords(PUMPS_0, items[:size]))
        items = items[size:]
    return [*events, PolledRecords(PUMPS_0, items), PolledRecords(PUMPS_0, (), ended=True)]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([GATHERED, WHOLE]), ARRIVALS, st.lists(st.integers(1, 15), max_size=6))
def test_how_records_come_in_polls_never_shows(spec: StreamSpec, drawn: list[Any], sizes: list[int]) -> None:
    items = records(drawn)
    whole, pieces = make(spec, CENTRE), make(spec, CENTRE)
    expected = feed_all(whole, items)
    outputs = [o for event in in_polls(items, sizes) for step in pieces.feed(event) for o in step.outputs]
    assert plain(outputs) == plain(expected)
    assert pieces.counts == whole.counts
    assert sum(whole.counts.values()) == len(items)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([GATHERED, WHOLE]),
    ARRIVALS,
    st.lists(st.integers(1, 15), max_size=6),
    st.lists(st.booleans(), max_size=12),
    st.sampled_from([2, 100]),
)
def test_a_crash_never_shows_nor_divides_a_record(
    spec: StreamSpec, drawn: list[Any], sizes: list[int], crashes: list[bool], max_assets: int
) -> None:
    events = in_polls(records(drawn), sizes)

    def one(**more: Any) -> Pipeline:
        return make(spec, max_assets=max_assets, drift_interval_ns=7 * SECOND_NS, **more)

    undisturbed, crashing = Log(one, events, QUICK), Log(one, events, QUICK)
    undisturbed.run(len(events))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_module, "MOST_EMITTED", 3)
        patch.setattr(batch_ingest, "MOST_BRIDGED", 3)
        snapshots_at_once(patch, 1)
        crashing.run_and_rest(iter(crashes))
    assert plain(crashing.published) == plain(undisturbed.published)
    assert in_order(crashing.published) == in_order(undisturbed.published)
