"""Control messages: taken once by each partition, and what planned stops suppress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.control import Feedback, MaintenanceOrder, Received, Verdict
from daemon.domain import (
    EPOCH,
    SECOND_NS,
    AlertEvent,
    AlertKind,
    Output,
    Phase,
    PolledRecords,
    Reading,
)
from daemon.maintenance import MaintenanceWindow
from daemon.stream.pipeline import Pipeline
from tests.stream.pipelines import (
    ARRIVALS,
    CENTRE,
    NAN,
    QUICK,
    SPEC,
    SPECS,
    arrivals,
    feed,
    in_order,
    make,
    numbered,
    of_kind,
    plain,
    polls,
    snapshots,
    snapshots_at_once,
    steady,
    take_over,
    told,
    wide,
)
from tests.stream.test_recovery import CHANGES, MODELS, Log


def order(
    first: int, end: int, *assets: str, name: str = "overhaul", stream: str = "", rrule: str = ""
) -> MaintenanceOrder:
    start, stop = (EPOCH + timedelta(seconds=each) for each in (first, end))
    return MaintenanceOrder(name, start, stop, assets, stream, rrule)


def received(*controls: Any) -> list[Received]:
    return [Received(i, 0, control) for i, control in enumerate(controls)]


def tell(pipeline: Pipeline, *controls: Any) -> None:
    for each in received(*controls):
        pipeline.take_control(each)


def high(first: int, end: int, asset: str = "p1") -> list[Reading]:
    return [wide(i, 20.0 + i % 2, -0.5 - 0.01 * (i % 3), asset=asset) for i in range(first, end)]


def phases(outputs: Sequence[Output], *kinds: AlertKind) -> list[tuple[int, str]]:
    return [(second, phase) for second, phase, _ in told(outputs, *kinds)]


def test_an_anomaly_under_a_told_stop_is_suppressed_and_opens_after_it() -> None:
    pipeline = make()
    tell(pipeline, order(10, 20, "p1"))
    outputs = feed(pipeline, numbered([*steady(12), *high(12, 24), *steady(6, start=24)]), ended=True)
    assert phases(outputs, AlertKind.ANOMALY) == [
        (12, "suppressed"),
        (23, "opened"),  # its window of four rows holds none of the stop
        *((second, phase) for second, phase in phases(outputs, AlertKind.ANOMALY) if second > 23),
    ]
    suppressed = of_kind(outputs, AlertKind.ANOMALY)[0]
    assert suppressed.maintenance == "overhaul"
    assert suppressed.summary.endswith("(under maintenance: overhaul)")
    assert [c.sensor for c in suppressed.contributors][:1] == ["a"]


def test_it_is_of_its_assets_and_of_its_stream_alone() -> None:
    for told_order in (order(0, 99, "p2"), order(0, 99, stream="fans")):
        pipeline = make()
        tell(pipeline, told_order)
        outputs = feed(pipeline, numbered([*steady(8), *high(8, 11)]))
        assert phases(outputs, AlertKind.ANOMALY)[0] == (8, "opened")


def test_the_last_message_of_a_name_counts() -> None:
    pipeline = make()
    tell(pipeline, order(0, 99), order(0, 4))
    outputs = feed(pipeline, numbered([*steady(8), *high(8, 11)]))
    assert phases(outputs, AlertKind.ANOMALY)[0] == (8, "opened")


def silent_b(first: int, end: int) -> list[Reading]:
    return [wide(i, 0.5 + 0.01 * (i % 2), NAN) for i in range(first, end)]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_sensor_silent_under_maintenance_opens_when_that_is_over_if_it_is_silent_still(size: int) -> None:
    def said(readings: list[Reading]) -> list[tuple[int, str]]:
        pipeline = make(maintenance=[MaintenanceWindow("m", 8 * SECOND_NS, 20 * SECOND_NS)])
        items = numbered(readings)
        outputs = [o for i in range(0, len(items), size) for o in feed(pipeline, items[i : i + size])]
        outputs += feed(pipeline, [], ended=True)
        return phases(outputs, AlertKind.SENSOR_SILENT)

    assert said([*steady(5), *silent_b(5, 24), *steady(4, start=24)]) == [
        (12, "suppressed"),
        (20, "opened"),
        (24, "closed"),
    ]
    assert said([*steady(5), *silent_b(5, 17), *steady(9, start=17)]) == [(12, "suppressed")]


def test_what_joined_a_muted_alert_is_said_when_it_opens_also_after_a_restart() -> None:
    maintenance = [MaintenanceWindow("m", 8 * SECOND_NS, 28 * SECOND_NS)]
    readings = [*steady(9), *(wide(i, 0.5, NAN) for i in range(9, 32))]  # b is silent, a stands still
    events = polls(numbered(readings), [(1, 0)] * len(readings))

    def one(**more: Any) -> Pipeline:
        return make(maintenance=maintenance, **more)

    whole, crashing = (Log(one, events, replace(CENTRE, still=8)) for _ in range(2))
    whole.run(len(events))
    for until in range(1, len(events) + 1):
        crashing.run(until)
        crashing.restart()
    (opened,) = [e for e in of_kind(whole.published, *AlertKind) if e.phase is Phase.OPENED]
    assert (opened.row_ns // SECOND_NS, list(opened.began)) == (28, [AlertKind.SENSOR_STUCK])
    assert plain(crashing.published) == plain(whole.published)


def test_an_asset_switched_off_for_a_planned_stop_is_said_when_it_stays_away() -> None:
    def said(back: int) -> list[tuple[str, str]]:
        pipeline = make(
            maintenance=[MaintenanceWindow("m", 8 * SECOND_NS, 40 * SECOND_NS, frozenset({"p2"}))]
        )
        both = [
            r
            for i in range(60)
            for r in steady(1, "p1", i) + (steady(1, "p2", i) if i < 10 or i >= back else [])
        ]
        outputs = feed(pipeline, numbered(both), ended=True)
        return [(e.asset, str(e.phase)) for e in of_kind(outputs, AlertKind.ASSET_SILENT)]

    assert said(back=30) == [("p2", "suppressed")]
    assert said(back=56) == [("p2", "suppressed"), ("p2", "opened"), ("p2", "closed")]


def test_what_was_taken_is_not_taken_again_by_a_successor() -> None:
    pipeline = make()
    tell(pipeline, order(0, 9), Feedback("f", Verdict.CONFIRMED))
    feed(pipeline, numbered(steady(3)))
    assert pipeline.parts.controls.position == 2
    assert pipeline.dirty
    saved = snapshots(pipeline)
    assert not pipeline.parts.controls.changed
    successor = make(publish_from=3)
    assert take_over(successor, saved)
    tell(successor, order(0, 0, name="never taken"), order(0, 0, name="nor this"))
    assert not successor.parts.controls.due
    assert [each.maintenance for each in successor.parts.episodes.maintenance.orders()] == ["overhaul"]


ORDERS = st.lists(
    st.builds(
        lambda before, first, lasts, assets, name, rrule: (
            before,
            order(first, first + lasts, *assets, name=name, rrule=rrule),
        ),
        st.integers(0, 14),
        st.integers(0, 40),
        st.integers(0, 30),
        st.lists(st.sampled_from(["p1", "p2", "p3"]), max_size=2, unique=True),
        st.sampled_from("ab"),
        st.sampled_from(["", "", "FREQ=DAILY"]),
    ),
    max_size=4,
)


class ToldLog(Log):
    """A log whose events are control messages, too: a successor gets all of them again."""

    def feed(self, event: Any) -> Any:
        if isinstance(event, Received):
            self.pipeline.take_control(event)
            return
        yield from super().feed(event)

    def restart(self) -> None:
        super().restart()
        for event in self.events[: self.done]:
            if isinstance(event, Received):
                self.pipeline.take_control(event)


@settings(max_examples=200, deadline=None)
@given(
    SPECS,
    ARRIVALS,
    st.lists(st.tuples(st.integers(1, 30), st.sampled_from([0, 0, 9])), max_size=12),
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12),
    st.sampled_from([2, 100]),
    CHANGES,
    ORDERS,
    st.sampled_from([1, 2, 1000]),
)
def test_a_crash_never_shows(
    spec: Any,
    drawn: list[tuple[Any, ...]],
    sizes: list[tuple[int, int]],
    fate: list[tuple[int, bool]],
    max_assets: int,
    changes: list[tuple[int, int]],
    orders: list[tuple[int, MaintenanceOrder]],
    at_once: int,
) -> None:
    spec = replace(spec, silent_after_ns=4 * SECOND_NS)
    placed = sorted(orders, key=lambda one: one[0])
    events: list[Any] = []
    for i, event in enumerate(polls(arrivals(drawn, spec.format), sizes)):
        events += [MODELS[model] for before, model in changes if before == i]
        events += [Received(n, 0, each) for n, (before, each) in enumerate(placed) if before == i]
        events.append(event)

    def one(**more: Any) -> Pipeline:
        return make(spec, max_assets=max_assets, drift_interval_ns=7 * SECOND_NS, **more)

    undisturbed, crashing = ToldLog(one, events, QUICK), ToldLog(one, events, QUICK)
    with pytest.MonkeyPatch.context() as patch:
        snapshots_at_once(patch, at_once)
        undisturbed.run(len(events))
        for further, commit in fate:
            crashing.run(min(crashing.done + further, len(events)), commit=commit)
        crashing.run(len(events))
    assert plain(crashing.published) == plain(undisturbed.published)
    assert in_order(crashing.published) == in_order(undisturbed.published)


@settings(max_examples=100, deadline=None)
@given(SPECS, ARRIVALS, st.lists(st.tuples(st.integers(1, 30), st.just(0)), max_size=12), ORDERS)
def test_nothing_depends_on_the_polls(
    spec: Any,
    drawn: list[tuple[Any, ...]],
    sizes: list[tuple[int, int]],
    orders: list[tuple[int, MaintenanceOrder]],
) -> None:
    spec = replace(spec, silent_after_ns=4 * SECOND_NS)
    windows = [MaintenanceWindow.ordered(each) for _, each in orders]
    items = arrivals(drawn, spec.format)

    def alerts(events: Sequence[PolledRecords]) -> dict[str, list[str]]:
        pipeline = make(spec, detector=QUICK, maintenance=windows, drift_interval_ns=7 * SECOND_NS)
        found: list[Output] = [o for e in events for s in pipeline.feed(e) for o in s.outputs]
        assert all(
            (e.phase is Phase.SUPPRESSED) == (e.maintenance is not None)
            for e in found
            if isinstance(e, AlertEvent)
        )
        return in_order(found)

    assert alerts(polls(items, sizes)) == alerts(polls(items, []))


def test_the_position_of_a_topic_made_anew_begins_again() -> None:
    pipeline = make(SPEC)
    assert not pipeline.parts.controls.follow(7)
    tell(pipeline, order(0, 9), order(0, 9))
    feed(pipeline, numbered(steady(1)))
    assert not pipeline.parts.controls.follow(7)
    tell(pipeline, order(0, 30))
    assert not pipeline.parts.controls.due
    assert pipeline.parts.controls.follow(8)
    tell(pipeline, order(0, 30))
    assert pipeline.parts.controls.due


def test_a_window_that_is_taken_away_lets_what_it_muted_open() -> None:
    pipeline = make(maintenance=[MaintenanceWindow("m", 8 * SECOND_NS, 90 * SECOND_NS)])
    items = numbered([*steady(5), *silent_b(5, 24)])
    outputs = feed(pipeline, items[:16])
    pipeline.use_policy(pipeline.episodes.policy, [])
    outputs += feed(pipeline, items[16:])
    assert phases(outputs, AlertKind.SENSOR_SILENT) == [(12, "suppressed"), (16, "opened")]


def test_an_asset_that_stays_away_after_a_stop_is_said_though_all_is_idle() -> None:
    pipeline = make(maintenance=[MaintenanceWindow("m", 8 * SECOND_NS, 40 * SECOND_NS)])
    outputs = feed(pipeline, numbered(steady(10)))
    for seconds in (12, 25, 60):
        outputs += feed(pipeline, [], idle=timedelta(seconds=seconds))
    assert [phase for _, phase in phases(outputs, AlertKind.ASSET_SILENT)] == ["suppressed", "opened"]


def test_an_order_that_names_other_assets_concerns_those_of_before_too() -> None:
    pipeline = make()
    feed(pipeline, numbered([*steady(3, "p1"), *steady(3, "p2")]))
    tell(pipeline, order(0, 9, "p1"))
    feed(pipeline, [])
    pipeline.take_control(Received(1, 0, order(0, 9, "p2")))
    assert pipeline.parts.controls.concerned() == {"p1", "p2"}
    feed(pipeline, [])
    pipeline.take_control(Received(2, 0, order(0, 9, stream="fans")))
    assert pipeline.parts.controls.concerned() == {"p2"}
    feed(pipeline, [])
    assert pipeline.parts.episodes.maintenance.orders() == []


def test_orders_that_were_over_long_ago_are_dropped() -> None:
    day = 86_400
    pipeline = make()
    tell(pipeline, order(0, 9, name="old"))
    feed(pipeline, numbered([*steady(2), wide(9 * day, 0.5, 0.5), wide(9 * day + 1, 0.6, 0.6)]))
    pipeline.take_control(Received(1, 0, order(9 * day, 9 * day + 60, name="new")))
    feed(pipeline, [])
    assert [each.maintenance for each in pipeline.parts.episodes.maintenance.orders()] == ["new"]
