"""The rules of sensors from readings to rows: a table at once, records in any polls, and over a restart, alike."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.adapters.files import read_table, segments
from daemon.assembly import as_received, reduces, units
from daemon.config.presets import CUSTOM, mapping_of
from daemon.domain import (
    SECOND_NS,
    Disposition,
    Format,
    PolledRecords,
    Record,
    Segment,
    StateRecord,
    StreamSpec,
)
from daemon.mapping import Assembly, Component, Reduce, SensorRule
from daemon.runtime.history import TrainingHistory
from daemon.stream.pipeline import Pipeline
from tests import naive
from tests.stream.pipelines import PUMPS_0, make, snapshots, take_over

SENSORS = ("level", "meter", "wind", "speed")
RECEIVED = StreamSpec(
    "pumps",
    SENSORS,
    period_ns=2 * SECOND_NS,
    window=3,
    allowed_lateness_ns=4 * SECOND_NS,
    max_gap_ns=8 * SECOND_NS,
    silent_after_ns=10_000 * SECOND_NS,
    format=Format.JSON_LONG,
)
START = 1_700_000_000
Readings = list[tuple[str, int, int, float]]  # asset, event time, sensor, value, in the order of arrival


def stream_of(spec: StreamSpec) -> StreamSpec:
    """The stream whose messages this is of: each angle is two sensors."""
    names: list[str] = []
    rules: list[SensorRule] = []
    for name, rule in zip(spec.sensors, spec.rules, strict=True):
        if rule.angle is None:
            names, rules = [*names, name], [*rules, rule]
            continue
        for part in Component:
            names.append(f"{name}.{part}")
            rules.append(replace(rule, source=rule.source or name, component=part, component_of=name))
    return replace(spec, sensors=tuple(names), sensor_rules=tuple(rules))


RULES = st.builds(
    SensorRule,
    reduce=st.sampled_from(Reduce),
    hold_ns=st.sampled_from([0, 0, 2, 6, 40]).map(lambda s: s * SECOND_NS),
    counter=st.booleans(),
)
ANGLES = st.builds(
    SensorRule,
    reduce=st.sampled_from([Reduce.FIRST, Reduce.LAST]),
    hold_ns=st.sampled_from([0, 4]).map(lambda s: s * SECOND_NS),
    angle=st.sampled_from([360.0, 7.5]),
)


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[StreamSpec, Readings]:
    """A stream with rules, and readings that are at most as late as it allows.

    Whole rows are merged of several records only where one of the rules reduces.
    """
    rules = (draw(RULES), draw(RULES), draw(ANGLES), draw(RULES))
    spec = replace(RECEIVED, sensor_rules=rules)
    if reduces(spec):
        spec = replace(spec, format=draw(st.sampled_from([Format.JSON_LONG, Format.JSON_WIDE])))
    clock, readings, taken = START * 10, [], set()
    for asset, step, beside, sensor, value in draw(
        st.lists(
            st.tuples(
                st.sampled_from("ab"),
                st.sampled_from([0, 0, 1, 3, 7, 12, 20, 60, 90, 500]),  # tenths of a second
                st.integers(-8, 0),
                st.integers(0, 3),
                st.integers(-40, 90).map(lambda x: x / 7.0),
            ),
            min_size=1,
            max_size=60,
        )
    ):
        clock += step
        time_ns = (clock + beside) * SECOND_NS // 10
        place = asset, time_ns // spec.period_ns, sensor
        if spec.rules[sensor].reduce is not Reduce.FIRST or place not in taken:
            readings.append((asset, time_ns, sensor, value))
        taken.add(place)
    return spec, readings


def records(readings: Readings, form: Format = Format.JSON_LONG) -> list[Record]:
    made = []
    for offset, (asset, time_ns, sensor, value) in enumerate(readings):
        cell = {"sensor": SENSORS[sensor], "value": value}
        if form is Format.JSON_WIDE:
            cell = {"values": {SENSORS[sensor]: value}}
        message = {"asset": asset, "ts": time_ns, **cell}
        made.append(Record(offset, None, json.dumps(message).encode(), -1))
    return made


def read(
    pipeline: Pipeline, history: TrainingHistory, items: Sequence[Record], *, ended: bool = False
) -> None:
    for step in pipeline.feed(PolledRecords(PUMPS_0, items, ended=ended)):
        if step.block is not None:
            history.add(step.block)


def rows_of(found: Sequence[Segment]) -> str:
    """The rows of segments as a text in which NaN equals NaN."""
    return repr(sorted((s.asset, s.first_row, np.asarray(s.values).tolist()) for s in found))


def expected(readings: Readings, spec: StreamSpec) -> str:
    return repr(sorted(naive.assembled_rows(readings, spec)))


def csv_of(path: Path, readings: Readings) -> Path:
    lines = [",".join(["timestamp", "asset", *SENSORS])]
    for asset, time_ns, sensor, value in readings:
        cells = [repr(value) if c == sensor else "" for c in range(len(SENSORS))]
        lines.append(",".join([str(time_ns), asset, *cells]))
    path.write_text("\n".join(lines) + "\n")
    return path


@given(arrivals())
@settings(deadline=None)
def test_a_table_and_a_log_give_the_rows_of_an_oracle(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[StreamSpec, Readings]
) -> None:
    spec, readings = case
    stream, wanted = stream_of(spec), expected(readings, spec)
    assert as_received(stream).sensors == SENSORS
    table = read_table(csv_of(tmp_path_factory.mktemp("rows") / "a.csv", readings))
    if set(SENSORS) == set(table.sensors):  # a column without any number is no sensor of a table
        assert rows_of(segments(table, stream)) == wanted
    history = TrainingHistory(stream, 1 << 60)
    pipeline = make(stream, None)
    read(pipeline, history, records(readings, spec.format))
    read(pipeline, history, [], ended=True)
    assert rows_of(history.segments()) == wanted


@given(arrivals(), st.lists(st.integers(1, 20)), st.lists(st.booleans()))
@settings(deadline=None)
def test_polls_and_restarts_never_show_in_rows(
    case: tuple[StreamSpec, Readings], sizes: list[int], restarts: list[bool]
) -> None:
    spec, readings = case
    stream, log = stream_of(spec), records(readings, spec.format)
    left = log
    history, pipeline = TrainingHistory(stream, 1 << 60), make(stream, None)
    state: dict[bytes, StateRecord] = {}
    again = iter(restarts)
    for size in [*sizes, len(left)]:
        read(pipeline, history, left[:size])
        left = left[size:]
        state |= {record.key: record for record in snapshots(pipeline)}
        if next(again, False):
            begin, pipeline = pipeline.replay_from(), make(stream, None, publish_from=pipeline.offset)
            assert not pipeline.offset
            pipeline.offset = begin
            assert take_over(pipeline, list(state.values()))
            assert not pipeline.unusable
            read(pipeline, history, log[begin : pipeline.publish_from])
    read(pipeline, history, [], ended=True)
    assert rows_of(history.segments()) == expected(readings, spec)


@pytest.mark.parametrize(
    ("values", "rates"),
    [
        # the first value has no rate; 2 s a row
        ("10 12 12 15", ". 1 0 1.5"),
        # over missing rows the increase is spread
        ("10 - - 16", ". . . 1"),
        # a reset, a replaced meter and a correction say nothing of what was counted
        ("10 12 1 3", ". 1 . 1"),
        ("90 91 12 13", ". .5 . .5"),
        # nothing is known over more than max_gap, 4 rows
        ("10 - - - 18 - - - - 28 30", ". . . . 1 . . . . . 1"),
    ],
)
def test_the_rate_of_a_counter(values: str, rates: str) -> None:
    spec = replace(
        RECEIVED, sensor_rules=(SensorRule(), SensorRule(counter=True), SensorRule(), SensorRule())
    )
    readings: Readings = []
    for i, value in enumerate(values.split()):
        time_ns = (START + 2 * i) * SECOND_NS
        readings.append(("a", time_ns, 0, 1.0))
        readings += [("a", time_ns, 1, float(value))] if value != "-" else []
    history, pipeline = TrainingHistory(spec, 1 << 60), make(spec, None)
    read(pipeline, history, records(readings))
    read(pipeline, history, [], ended=True)
    (segment,) = history.segments()
    found = [math.nan if rate == "." else float(rate) for rate in rates.split()]
    np.testing.assert_array_equal(segment.values[:, 1], found)
    assert segment.received is not None
    assert segment.received[0, 1] == 10 or values.startswith("90")


def test_the_counter_of_an_asset_that_takes_an_evicted_one_s_place_has_no_rate_at_first() -> None:
    spec = replace(
        RECEIVED, sensors=("meter",), sensor_rules=(SensorRule(counter=True),), allowed_lateness_ns=0
    )
    history, pipeline = TrainingHistory(spec, 1 << 60), make(spec, None, max_assets=1)
    for offset, (asset, second, value) in enumerate(
        [("a", 0, 5.0), ("a", 2, 6.0), ("b", 4, 7.0), ("b", 6, 8.0)]
    ):
        message = {"asset": asset, "ts": START + second, "sensor": "meter", "value": value}
        read(pipeline, history, [Record(offset, None, json.dumps(message).encode(), -1)])
    read(pipeline, history, [], ended=True)
    assert rows_of(history.segments()) == rows_of(
        [
            Segment(asset, START // 2 + row, np.array([[math.nan], [0.5]]))
            for asset, row in (("a", 0), ("b", 2))
        ]
    )


ITEMS = {
    Assembly.GATHER: {"each": "items[]", "asset": "id", "time": "at", "sensor": "name", "value": "value"},
    Assembly.WHOLE: {"each": "items[]", "asset": "id", "time": "at", "leaves": "values", "rows": "whole"},
}


@given(arrivals(), st.lists(st.integers(1, 60), max_size=6), st.sampled_from(Assembly))
@settings(deadline=None)
def test_how_a_producer_puts_readings_together_never_shows(
    case: tuple[StreamSpec, Readings], sizes: list[int], rows: Assembly
) -> None:
    """One record or many: the rows of an oracle, and every cell is accounted for once."""
    spec, readings = case
    if not reduces(spec):
        rows = Assembly.GATHER
    log, in_order, at = [], [], 0
    for size in [*sizes, len(readings)]:
        together = sorted(readings[at : at + size], key=lambda reading: reading[1])
        items = [
            {"id": asset, "at": time_ns, "name": SENSORS[c], "value": value, "values": {SENSORS[c]: value}}
            for asset, time_ns, c, value in together
        ]
        if items:
            log.append(Record(len(log), None, json.dumps({"items": items}).encode(), -1))
        in_order += together
        at += size
    stream = replace(stream_of(spec), format=Format.MAPPED, input=mapping_of(CUSTOM, ITEMS[rows]))
    history, pipeline = TrainingHistory(stream, 1 << 60), make(stream, None)
    read(pipeline, history, log, ended=True)
    assert rows_of(history.segments()) == expected(in_order, spec)
    counts = pipeline.accounts.counts()
    missing = 0 if rows is Assembly.GATHER else len(readings) * (len(SENSORS) - 1)
    assert +counts.cells == +Counter(observed=len(readings), missing=missing)
    assert counts.records == {Disposition.ACCEPTED: len(log)}


def test_a_counter_is_in_its_unit_per_second_and_per_second_where_that_is_not_known() -> None:
    rules = (
        SensorRule(),
        SensorRule(unit="bar"),
        SensorRule(unit="kWh", counter=True),
        SensorRule(counter=True),
        SensorRule(unit="kWh", scale=0.1, counter=True),
    )
    spec = replace(RECEIVED, sensors=("a", "b", "c", "d", "e"), sensor_rules=rules)
    assert units(spec) == (None, "bar", "kWh/s", "per second", "per second")
