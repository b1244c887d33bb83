"""The days of an asset, and the alert where a sensor moves from day to day."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from daemon.domain import DAY_NS, AlertKind, DriftRecord, Floats, Output, StateRecord
from daemon.stream.pipeline import Pipeline
from daemon.stream.snapshot import unpack_floats
from daemon.stream.trend import KEPT
from tests.stream.pipelines import (
    CENTRE,
    HOUR_NS,
    SPEC,
    feed,
    in_order,
    make,
    numbered,
    of_kind,
    snapshots,
    take_over,
    wide,
)

HOURLY = replace(
    SPEC,
    period_ns=HOUR_NS,
    allowed_lateness_ns=HOUR_NS,
    max_gap_ns=30 * HOUR_NS,
    silent_after_ns=30 * HOUR_NS,
)
DETECTOR = replace(CENTRE, threshold=99.0, trend=0.47)
NIGHT = 3_600


def days(values: Floats, asset: str = "p1", first: int = 10) -> list[object]:
    """A reading an hour, from day ``first`` on: ``a`` about these values, one a day; ``b`` as usual."""
    rng = np.random.default_rng(len(asset))
    hours = first * 24 + np.arange(24 * len(values))
    noise = rng.normal(0, 0.01, (len(hours), 2))
    return [
        wide(hour * NIGHT, float(value) + a, b, asset=asset)
        for hour, value, (a, b) in zip(hours.tolist(), np.repeat(values, 24).tolist(), noise, strict=True)
    ]


def run(pipeline: Pipeline, readings: list[object], size: int = 10_000, first: int = 0) -> list[Output]:
    items = numbered(readings, first)  # type: ignore[arg-type]
    return [o for at in range(0, len(items), size) for o in feed(pipeline, items[at : at + size])]


def trends(outputs: list[Output]) -> list[tuple[int, str, str | None]]:
    """(day, phase, sensor)"""
    return [(e.row_ns // DAY_NS, str(e.phase), e.sensor) for e in of_kind(outputs, AlertKind.DEVIATION)]


WORN = np.concatenate([np.zeros(1), np.arange(5.0), np.full(12, 4.0)])


def expected(means: Floats) -> list[tuple[int, str, str | None]]:
    """What ``trends`` of these days is, by the rule of ``CentreDetector.slow_trends``."""
    found: list[tuple[int, str, str | None]] = []
    per_day = [0.0, 0.0]
    for i in range(2, len(means) + 1):
        mine = means[max(i - KEPT + 1, 0) : i]
        per_day.append(abs(mine[-1] - mine[0]) / (len(mine) - 1))
        open_now = bool(found) and found[-1][1] == "opened"
        if open_now and max(per_day[-2:]) <= 0.8 * 0.47:
            found.append((10 + i, "closed", "a"))
        elif not open_now and min(per_day[-2:]) > 0.47:
            found.append((10 + i, "opened", "a"))
    return [event for event in found if event[0] < 10 + len(means)]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_trend_opens_at_the_end_of_the_second_day_and_closes(size: int) -> None:
    outputs = run(make(HOURLY, DETECTOR), days(WORN), size)
    assert trends(outputs) == expected(WORN)
    assert [phase for _, phase, _ in expected(WORN)] == ["opened", "closed"]
    opened = of_kind(outputs, AlertKind.DEVIATION)[0]
    assert opened.per_day == pytest.approx(2 / 3, abs=0.01)
    assert "a rises by 0.6" in opened.summary
    assert "a day against what the other sensors imply, for 4 d" in opened.summary
    (named,) = opened.contributors
    assert (round(named.observed or 0), round(named.expected or 0)) == (2, 0)


def test_one_day_unlike_the_others_does_not_end_the_alert_of_wear() -> None:
    worn = np.arange(12.0)
    worn[8] = 0.0  # a Sunday
    assert [phase for _, phase, _ in trends(run(make(HOURLY, DETECTOR), days(worn)))] == ["opened"]


def test_a_day_counts_of_which_three_quarters_are_explained_by_no_episode() -> None:
    detector = replace(DETECTOR, threshold=20.0)
    values = np.arange(8.0)
    for spoilt, counts in ((3, True), (12, False)):
        readings = days(values)
        for i in range(spoilt):
            readings[24 * 2 + 4 + i].values[1] = 60.0  # type: ignore[attr-defined]  # an anomaly of b
        pipeline = make(HOURLY, detector)
        assert of_kind(run(pipeline, readings), AlertKind.ANOMALY)
        days_kept = unpack_floats(pipeline.parts.trend.snapshot(0))[5:].reshape(-1, 3)
        assert (12 in days_kept[:, 0]) == counts
        np.testing.assert_allclose(days_kept[:, 1], days_kept[:, 0] - 10, atol=0.02)
        assert np.abs(days_kept[:, 2]).max() < 10.0


@pytest.mark.parametrize("size", [1, 50])
def test_assets_have_days_of_their_own(size: int) -> None:
    readings = sorted(days(WORN) + days(WORN[::-1], "p2"), key=lambda r: r.time_ns)  # type: ignore[attr-defined]
    outputs = run(make(HOURLY, DETECTOR), readings, size)
    assert trends([o for o in outputs if getattr(o, "asset", "") == "p1"]) == expected(WORN)
    assert trends([o for o in outputs if getattr(o, "asset", "") == "p2"]) == expected(WORN[::-1])


def test_days_outlive_a_restart_and_a_gap() -> None:
    readings = days(np.arange(6.0))
    whole = run(make(HOURLY, DETECTOR), list(readings))
    first = make(HOURLY, DETECTOR)
    found, saved = list[Output](), dict[bytes, StateRecord]()
    for at in range(0, 80, 10):
        found += run(first, readings[at : at + 10], first=at)
        saved |= {record.key: record for record in snapshots(first)}
    replay_from = first.parts.ledger.replay_from(80)
    assert 0 < replay_from <= 80
    second = make(HOURLY, DETECTOR, publish_from=80)
    assert take_over(second, list(saved.values()))
    second.offset = replay_from
    found += run(second, readings[replay_from:], first=replay_from)
    assert in_order(found) == in_order(whole)
    alone = make(HOURLY, DETECTOR)
    run(alone, list(readings), 5)
    assert alone.parts.trend.snapshot(0) == second.parts.trend.snapshot(0)
    assert trends(whole) == [(13, "opened", "a")]


def test_a_reading_that_no_sensor_can_have_is_left_out_of_its_day() -> None:
    readings = days(np.zeros(3))
    readings[30].values[0] = 1e100  # type: ignore[attr-defined]
    first, second = make(HOURLY, DETECTOR), make(HOURLY, DETECTOR, publish_from=40)
    run(first, readings[:40], 7)
    assert take_over(second, snapshots(first))
    assert second.unusable == []
    run(first, readings[40:], first=40)
    means = unpack_floats(first.parts.trend.snapshot(0))[5:].reshape(-1, 3)
    np.testing.assert_allclose(means, [[10, 0, 0], [11, 0, 0]], atol=0.02)


WEARS_ON = np.arange(30.0)


def test_a_trend_is_over_when_a_model_without_limits_comes() -> None:
    pipeline, readings = make(HOURLY, DETECTOR), days(WEARS_ON)
    opened = run(pipeline, readings[: 24 * 6])
    assert [phase for _, phase, _ in trends(opened)] == ["opened"]
    pipeline.use(replace(DETECTOR, version="centre-2", trend=0.0))
    assert trends(run(pipeline, readings[24 * 6 :], first=24 * 6)) == [(16, "closed", "a")]


@pytest.mark.parametrize("size", [7, 10_000])
@pytest.mark.parametrize("missing", [0, 1])
def test_a_trend_is_over_when_nothing_could_be_judged_for_as_many_days_as_are_kept(
    missing: int, size: int
) -> None:
    readings = days(WEARS_ON)
    for reading in readings[24 * 7 :]:
        reading.values[missing] = np.nan  # type: ignore[attr-defined]
    found = trends(run(make(HOURLY, DETECTOR), readings, size))
    assert found == [(13, "opened", "a"), (16 + KEPT + 1, "closed", "a")]


@pytest.mark.parametrize("size", [7, 10_000])
def test_while_a_sensor_trends_the_others_of_its_asset_are_looked_at_for_drift(size: int) -> None:
    readings = days(WEARS_ON[:10])
    for reading in readings:
        reading.values[1] = 8.0  # type: ignore[attr-defined]  # b has drifted
    pipeline = make(HOURLY, replace(DETECTOR, drift_threshold=0.5), drift_interval_ns=2 * DAY_NS)
    records = [o for o in run(pipeline, readings, size) if isinstance(o, DriftRecord)]
    worn = records[2:]  # the alert opens at the end of the third day
    assert [record.verdict for record in worn] == ["drift"] * len(worn) != []
    assert [record.residual_count for record in worn] == [(0, record.windows) for record in worn]
    assert all(record.residual_kl[0] == 0.0 < record.residual_kl[1] for record in worn)


def test_an_asset_without_a_whole_day_takes_up_no_room_for_days() -> None:
    spec = replace(HOURLY, sensors=tuple(f"s{c}" for c in range(50)))
    monitor = make(spec, replace(DETECTOR, sensors=spec.sensors)).parts.trend
    tracemalloc.start()
    monitor.grow(1_000)
    monitor.clear(0)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 1.1 * 1_000 * 8 * (1 + 2 * 50)
