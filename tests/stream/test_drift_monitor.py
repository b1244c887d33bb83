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
    Phase,
    Reading,
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


DRIFTING = replace(CENTRE, drift_threshold=2.0, threshold=99.0)


def drifted(rows: int) -> list[Reading]:
    rng = np.random.default_rng(3)
    return numbered(wide(i, *rng.normal(3.0, 1.0, 2)) for i in range(rows))


def test_a_drift_of_the_stream_closes_with_the_model_that_it_was_measured_by() -> None:
    """Else it would stay open, with what it said of the former model, for as long as the next one is drifted from, too."""
    readings, pipeline = drifted(600), make(detector=DRIFTING)
    outputs = feed(pipeline, readings[:240])
    pipeline.use_when_committable(replace(DRIFTING, version="centre-2"))
    outputs += feed(pipeline, readings[240:]) + feed(pipeline, [], ended=True)
    found = of_kind(outputs, AlertKind.DRIFT)
    assert [(one.phase, one.model_changed, one.asset) for one in found] == [
        (Phase.OPENED, False, "pumps"),
        (Phase.CLOSED, True, "pumps"),
        (Phase.OPENED, False, "pumps"),  # the next model is drifted from for three intervals
    ]
    assert found[1].row_ns == 239 * SECOND_NS
    assert found[1].summary.endswith("; the model has changed, and its drift is measured anew")
    assert found[2].onset_ns >= 240 * SECOND_NS - MINUTE_NS


@pytest.mark.parametrize("cut", [200, 239, 290])
def test_a_successor_with_another_model_closes_the_drift_of_the_stream_once(cut: int) -> None:
    readings, first = drifted(400), make(detector=DRIFTING)
    feed(first, readings[: cut - 15])
    saved = snapshots(first)
    feed(first, readings[cut - 15 : cut])
    saved += snapshots(first)
    other = replace(DRIFTING, version="centre-2")
    second = make(detector=other, publish_from=cut)
    assert take_over(second, saved)
    outputs = feed(second, readings[second.replay_from() : cut + 30])
    found = of_kind(outputs, AlertKind.DRIFT)
    assert [(one.phase, one.model_changed) for one in found] == [(Phase.CLOSED, True)]
    third = make(detector=other, publish_from=cut + 30)
    assert take_over(third, [*saved, *snapshots(second)])
    assert of_kind(feed(third, readings[third.replay_from() : cut + 60]), AlertKind.DRIFT) == []


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
