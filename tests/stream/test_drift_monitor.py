"""When drift intervals end, and what they raise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from daemon.domain import (
    SECOND_NS,
    AlertKind,
    DriftRecord,
    Output,
)
from daemon.stream.drift import MOST_INTERVALS
from tests.fakes import CentreDetector
from tests.stream.pipelines import (
    CENTRE,
    HOUR_NS,
    MINUTE_NS,
    feed,
    feed_all,
    make,
    numbered,
    of_kind,
    snapshots,
    steady,
    take_over,
    told,
    wide,
)


def test_drift_is_published_per_interval_and_alerted_after_three() -> None:
    rng = np.random.default_rng(3)
    readings = numbered(wide(i, *rng.normal(3.0 if i < 300 else 0.0, 1.0, 2)) for i in range(540))
    outputs = feed_all(make(detector=replace(CENTRE, drift_threshold=2.0, threshold=99.0)), readings)
    records = [o for o in outputs if isinstance(o, DriftRecord)]
    assert [(r.start_ns // MINUTE_NS, r.windows) for r in records] == [
        (0, 57),
        *((i, 60) for i in range(1, 9)),
    ]
    assert [r.verdict for r in records] == ["drift"] * 5 + ["ok"] * 4
    assert told(outputs, AlertKind.DRIFT) == [(180, "opened", "pumps"), (360, "closed", "pumps")]
    opened = of_kind(outputs, AlertKind.DRIFT)[0]
    assert opened.onset_ns == 0
    assert {one.sensor for one in opened.contributors} == {"a", "b"}
    assert "a 3" in opened.summary


@pytest.mark.parametrize(
    "detector",
    [
        replace(CENTRE, drift_threshold=2.0),  # an anomaly
        replace(CENTRE, drift_threshold=2.0, threshold=99.0, pace=0.5),  # a deviation
        replace(CENTRE, drift_threshold=2.0, threshold=99.0, still=2),  # a stuck sensor
    ],
)
def test_what_another_episode_explains_is_no_drift(detector: CentreDetector) -> None:
    rng = np.random.default_rng(3)
    size = 2.0 if detector.still == 2 else 6.0
    values = [rng.normal(size if 20 <= i < 500 else 0.0, 1.0, 2) for i in range(540)]
    if detector.still == 2:
        values = [np.array([a, size if 20 <= i < 500 else b]) for i, (a, b) in enumerate(values)]
    outputs = feed_all(make(detector=detector), numbered(wide(i, *v) for i, v in enumerate(values)))
    records = [o for o in outputs if isinstance(o, DriftRecord)]
    assert of_kind(outputs, AlertKind.DRIFT) == []
    assert [(r.windows, r.explained) for r in records[1:8]] == [(0, 60)] * 7
    assert records[0].windows + records[0].explained == 57


def test_a_changed_drift_interval_begins_anew_and_loses_no_sum() -> None:
    first = make()
    feed(first, numbered(steady(40)))
    second = make(drift_interval_ns=HOUR_NS, publish_from=40)
    assert take_over(second, snapshots(first))
    outputs = second.predecessor_outputs() + feed(second, numbered(steady(40, start=40), 40))
    outputs += feed(second, [], ended=True)
    records = [o for o in outputs if isinstance(o, DriftRecord)]
    assert [(r.end_ns - r.start_ns, r.windows) for r in records] == [(MINUTE_NS, 37), (HOUR_NS, 40)]


@pytest.mark.parametrize("size", [1, 13, 10_000])
def test_a_clock_far_ahead_keeps_the_open_intervals_bounded(size: int) -> None:
    """Event time stands still a day ahead, so no interval of the others ever ends by it."""
    readings = numbered(
        [*steady(1, "ahead", 86_400), *(wide(4 * i + j, 0.5, 0.5) for i in range(2_000) for j in range(4))]
    )
    pipeline = make(drift_interval_ns=20 * SECOND_NS)
    outputs: list[Output] = []
    for i in range(0, len(readings), size):
        outputs += feed(pipeline, readings[i : i + size])
        assert pipeline.parts.drift.drift is not None
        assert len(pipeline.parts.drift.drift.intervals) <= MOST_INTERVALS
    outputs += feed(pipeline, [], ended=True)
    records = [o for o in outputs if isinstance(o, DriftRecord)]
    assert [(r.start_ns // (20 * SECOND_NS), r.windows) for r in records] == [
        (0, 17),
        *((i, 20) for i in range(1, 400)),
    ]
