"""One partition, what is fed to it and what comes of it: set-ups of the pipeline tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st

from daemon.config.presets import CUSTOM, mapping_of
from daemon.detector import Detector
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    Format,
    InputPartition,
    Output,
    PolledRecords,
    Reading,
    Record,
    StateRecord,
    StreamSpec,
)
from daemon.mapping import Reduce, SensorRule
from daemon.stream import changes, ledger, recovery
from daemon.stream.decoding import Decoder
from daemon.stream.parts import PipelineSettings
from daemon.stream.pipeline import Pipeline
from daemon.stream.steps import Step
from tests.fakes import CentreDetector

NAN = math.nan
PUMPS_0 = InputPartition("sensors.pumps", 0)
SPEC = StreamSpec(
    "pumps",
    ("a", "b"),
    window=4,
    allowed_lateness_ns=2 * SECOND_NS,
    max_gap_ns=20 * SECOND_NS,
    silent_after_ns=8 * SECOND_NS,
)
LONG = replace(SPEC, format=Format.JSON_LONG)
SPARKPLUG_MAPPING = {
    "each": "metrics[]",
    "asset": "asset",
    "time": ["timestamp", "$timestamp"],
    "sensor": "name",
    "value": "value",
}
SPARKPLUG = {
    kind: replace(SPEC, format=Format.MAPPED, input=mapping_of(CUSTOM, {"decode": kind, **SPARKPLUG_MAPPING}))
    for kind in ("sparkplug", "sparkplug-json")
}
CENTRE = CentreDetector(SPEC.sensors)
POLICY = AlarmPolicy()
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS


def make(
    spec: StreamSpec = SPEC, detector: Detector | None = CENTRE, policy: AlarmPolicy = POLICY, **more: Any
) -> Pipeline:
    publish_from = more.pop("publish_from", 0)
    settings = PipelineSettings(spec, policy, **{"drift_interval_ns": MINUTE_NS, "scores": True, **more})
    pipeline = Pipeline(settings, PUMPS_0, Decoder(spec, 1 << 20, 256), publish_from=publish_from)
    pipeline.offset = 0
    if detector is not None:
        pipeline.use(detector)
    return pipeline


def snapshots_at_once(patch: pytest.MonkeyPatch, most: int) -> None:
    """Let a commit write so many snapshots without need."""
    for module in (ledger, recovery, changes):
        patch.setattr(module, "SNAPSHOTS_AT_ONCE", most)


def wide(second: float, *values: float, asset: str = "p1", offset: int = 0) -> Reading:
    """A line of a live topic: its record is a little younger than the reading."""
    time_ns = round(second * SECOND_NS)
    return Reading(offset, asset, time_ns, list(values), stamp_ns=time_ns + SECOND_NS // 4)


def numbered(readings: Iterable[Reading], first: int = 0) -> list[Reading]:
    """The readings with the offsets of a log."""
    made = list(readings)
    for i, reading in enumerate(made, first):
        reading.offset = i
    return made


def steps(pipeline: Pipeline, items: Sequence[Record | Reading], **more: Any) -> list[Step]:
    return list(pipeline.feed(PolledRecords(PUMPS_0, items, **more)))


def feed(pipeline: Pipeline, items: Sequence[Record | Reading], **more: Any) -> list[Output]:
    return [output for step in steps(pipeline, items, **more) for output in step.outputs]


def plain(outputs: Iterable[Output]) -> list[str]:
    """Comparable, NaN and all, whatever order assets and kinds came in."""
    return sorted(map(repr, outputs))


def in_order(outputs: Iterable[Output]) -> dict[str, list[str]]:
    """Each asset's alerts as a reader of the topic gets them."""
    found: dict[str, list[str]] = {}
    for output in outputs:
        if isinstance(output, AlertEvent):
            found.setdefault(output.asset, []).append(repr(output))
    return found


def of_kind(outputs: Iterable[Output], *kinds: AlertKind) -> list[AlertEvent]:
    return [o for o in outputs if isinstance(o, AlertEvent) and o.kind in kinds]


def told(outputs: Iterable[Output], *kinds: AlertKind) -> list[tuple[int, str, str]]:
    """(second, phase, sensor or asset) of the alerts of these kinds."""
    return [(e.row_ns // SECOND_NS, str(e.phase), e.sensor or e.asset) for e in of_kind(outputs, *kinds)]


def steady(n: int, asset: str = "p1", start: int = 0, value: float = 0.5) -> list[Reading]:
    """Normal readings that never stand still."""
    return [wide(start + i, value + 0.01 * (i % 2), -value - 0.01 * (i % 3), asset=asset) for i in range(n)]


def snapshots(pipeline: Pipeline) -> list[StateRecord]:
    """What a commit would write now."""
    return list(pipeline.saving())


def take_over(pipeline: Pipeline, saved: Sequence[StateRecord], *, exact: bool = True) -> bool:
    """Give a new pipeline its predecessor's state; whether it was of use."""
    for _ in pipeline.restoring(saved, exact=exact):
        pass
    return pipeline.restored


def feed_all(pipeline: Pipeline, items: Sequence[Record | Reading]) -> list[Output]:
    return feed(pipeline, items) + feed(pipeline, [], ended=True)


ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from(["p1", "p2", "p3"]),
        st.integers(-3, 3),
        st.sampled_from([0, 0, 0, 1, 1, 2, 9, 40, -7]),
        st.sampled_from([0.5, 0.5, 0.7, 9.0, NAN]),
        st.sampled_from([0.5, 0.6, 8.0, NAN]),
        st.integers(0, 1),
        st.sampled_from(["run", "run", "run", "wash", ""]),
    ),
    min_size=1,
    max_size=90,
)


def no_stamp(_: int) -> int:
    return -1


def live(second: int) -> int:
    return second * SECOND_NS + SECOND_NS // 4


def arrivals(
    drawn: list[tuple[Any, ...]], form: Format, stamp_ns: Callable[[int], int] = no_stamp
) -> list[Reading]:
    readings, clock = [], 50
    for asset, beside, on, a, b, sensor, condition in drawn:
        clock += on
        time_ns = (clock + beside) * SECOND_NS
        if form is Format.JSON_WIDE:
            readings.append(Reading(0, asset, time_ns, [a, b], condition=condition))
        else:
            readings.append(Reading(0, asset, time_ns, None, sensor, a, condition))
        readings[-1].stamp_ns = stamp_ns(clock)
    return numbered(readings)


QUICK = replace(
    CENTRE,
    memory=0.1,
    hysteresis=0.7,
    still=2,
    conditions=("run",),
    carried={("p1", 53): 0.3},
    threshold=4.0,
    pace=0.4,
)
RULES = (
    SensorRule(reduce=Reduce.MEAN, hold_ns=3 * SECOND_NS),
    SensorRule(reduce=Reduce.LAST, counter=True, hold_ns=12 * SECOND_NS),
)
SPECS = st.builds(
    replace,
    st.sampled_from(
        [
            SPEC,
            LONG,
            replace(SPEC, sensor_rules=RULES),
            replace(LONG, sensor_rules=RULES),
            replace(SPEC, sensor_rules=(SensorRule(hold_ns=3 * SECOND_NS), SensorRule(counter=True))),
        ]
    ),
    hop=st.sampled_from([1, 2]),
    condition=st.sampled_from([("mode",), ("mode",), ("$month", "mode")]),
    silent_after_ns=st.sampled_from([4 * SECOND_NS, 8 * SECOND_NS]),
)
POLICIES = st.sampled_from([POLICY, AlarmPolicy(2, 3, refractory=4)])


class Counted(str):
    """A name that counts how often it was looked up."""

    hashed = 0

    def __hash__(self) -> int:
        Counted.hashed += 1
        return super().__hash__()

    __eq__ = str.__eq__


def replace_values(reading: Reading, values: list[float]) -> Reading:
    return Reading(reading.offset, reading.asset, reading.time_ns, values)


def polls(readings: list[Reading], sizes: Sequence[tuple[int, int]]) -> list[PolledRecords]:
    """The readings in polls of these sizes, after each so many seconds of idleness; then the end."""
    left, events = readings, []
    for size, idle in sizes:
        events.append(PolledRecords(PUMPS_0, left[:size]))
        left = left[size:]
        if idle:
            events.append(PolledRecords(PUMPS_0, (), idle=timedelta(seconds=idle)))
    return [*events, PolledRecords(PUMPS_0, left), PolledRecords(PUMPS_0, (), ended=True)]
