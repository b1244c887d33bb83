"""How many assets are known, and which are forgotten."""

from __future__ import annotations

from collections import Counter

from daemon.domain import (
    SECOND_NS,
    AlertKind,
    ScoredRow,
)
from tests.stream.pipelines import NAN, feed, make, numbered, of_kind, snapshots, steady, told, wide


def test_more_assets_than_fit_are_evicted_longest_quiet_first_and_counted() -> None:
    pipeline = make(max_assets=50)
    readings = [r for i in range(120) for r in steady(6, f"p{i}", start=i)]
    feed(pipeline, numbered(readings))
    assert pipeline.assets == 50
    assert pipeline.dropped == Counter({"asset_evicted": 70})
    assert pipeline.names == {f"p{i}" for i in range(70, 120)}
    assert set(pipeline.episodes.assets) <= pipeline.names
    assert pipeline.parts.assets.capacity <= 64


def test_open_episodes_close_when_their_asset_is_evicted() -> None:
    pipeline = make(max_assets=2)
    readings = numbered(
        [*steady(6, "p1"), wide(6, 50.0, NAN, asset="p1"), *steady(20, "p2", 7), *steady(4, "p3", 20)]
    )
    outputs = feed(pipeline, readings)
    assert pipeline.names == {"p2", "p3"}
    for kind in (AlertKind.ANOMALY, AlertKind.ASSET_SILENT):
        assert [phase for _, phase, _ in told(outputs, kind)] == ["opened", "closed"]
    assert {event.row_ns for event in of_kind(outputs, AlertKind.ANOMALY)} == {6 * SECOND_NS}
    assert {event.row_ns for event in of_kind(outputs, AlertKind.ASSET_SILENT)} == {14 * SECOND_NS}


def test_an_evicted_asset_does_not_lengthen_a_replay() -> None:
    pipeline = make(max_assets=200)
    readings = numbered(
        [*(r for i in range(199, -1, -1) for r in steady(1, f"p{i}")), *steady(3_000, "new", 1)]
    )
    for i in range(0, len(readings), 50):
        feed(pipeline, readings[i : i + 50])
        snapshots(pipeline)
    assert pipeline.dropped["asset_evicted"] == 2  # and one place stays free
    assert pipeline.replay_from() > 2_000


def test_an_asset_that_returns_after_its_eviction_starts_over() -> None:
    pipeline = make(max_assets=2)
    readings = [*steady(6, "p1"), *steady(6, "p2", 2), *steady(6, "p3", 4), *steady(6, "p1", 6)]
    outputs = feed(pipeline, numbered(readings), ended=True)
    scored = [(o.asset, o.row_ns // SECOND_NS) for o in outputs if isinstance(o, ScoredRow)]
    assert [row for asset, row in scored if asset == "p1"] == [3, 4, 5, 9, 10, 11]
    assert pipeline.dropped["asset_evicted"] == 2


def test_slots_grow_and_keep_their_assets() -> None:
    pipeline = make()
    readings = numbered([r for second in range(8) for i in range(40) for r in steady(1, f"p{i}", second)])
    outputs = feed(pipeline, readings, ended=True)
    assert pipeline.assets == 40
    assert Counter(o.asset for o in outputs if isinstance(o, ScoredRow)) == {f"p{i}": 5 for i in range(40)}
