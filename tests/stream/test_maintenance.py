"""Planned stops of control messages in one partition: which are kept, and what is said where there is no room for all."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.control import MaintenanceOrder, Received
from daemon.domain import DAY_NS, EPOCH, SECOND_NS, Dropped
from daemon.maintenance import MaintenanceWindow
from daemon.stream.maintenance import KEPT_DAYS, MOST_ORDERS, Maintenance
from tests.stream.pipelines import SPEC, feed, make, numbered, steady

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def stop(
    name: str, day: float, lasts: timedelta = HOUR, rrule: str = "", asset: str = "p1"
) -> MaintenanceOrder:
    start = EPOCH + day * DAY
    return MaintenanceOrder(name, start, start + lasts, (asset,), rrule=rrule)


def told(*orders: MaintenanceOrder, day: float = 0.0) -> Maintenance:
    maintenance = Maintenance(SPEC)
    for order in orders:
        maintenance.order(order, round(day * DAY_NS))
    return maintenance


def names(maintenance: Maintenance) -> set[str]:
    return {order.maintenance for order in maintenance.orders()}


@pytest.mark.parametrize("rule", ["FREQ=DAILY", "FREQ=DAILY;UNTIL=20250101T000000Z", "FREQ=DAILY;COUNT=500"])
def test_a_stop_that_recurs_outlives_many_that_end(rule: str) -> None:
    others = [stop(f"s{n}", 101 + n / 99, asset="p2") for n in range(MOST_ORDERS)]
    maintenance = told(stop("daily", 0, 2 * HOUR, rule), *others, day=101)
    assert "daily" in names(maintenance)
    assert maintenance.covers("p1", 101 * DAY_NS // SPEC.period_ns)
    assert names(maintenance) == {"daily", *(f"s{n}" for n in range(1, MOST_ORDERS))}
    assert maintenance.dropped == 1  # one that is in force


def test_those_that_are_over_make_room_first_and_are_no_loss() -> None:
    over = [stop("over", 1), stop("recurred", 0, rrule="FREQ=DAILY;COUNT=3")]
    soon = [stop(f"s{n}", 5 + n / 99) for n in range(MOST_ORDERS - 2)]
    maintenance = told(*over, *soon, stop("short", 4), day=4)
    assert names(maintenance) == {"recurred", *(each.maintenance for each in soon), "short"}
    maintenance.order(stop("another", 4), 4 * DAY_NS)
    assert "recurred" not in names(maintenance)
    assert maintenance.dropped == 0
    maintenance.order(stop("one more", 4), 4 * DAY_NS)
    assert maintenance.dropped == 1
    assert len(names(maintenance)) == MOST_ORDERS


def test_one_that_ends_soon_goes_before_one_whose_rule_ends_late() -> None:
    ruled = [
        stop(f"r{n}", 0, rrule=f"FREQ=DAILY;UNTIL=1970{n // 28 + 2:02d}{n % 28 + 1:02d}T000000Z")
        for n in range(MOST_ORDERS)
    ]
    maintenance = told(*reversed(ruled), stop("late", 300))
    assert names(maintenance) == {"late", *(f"r{n}" for n in range(1, MOST_ORDERS))}


def test_what_was_over_long_ago_is_not_kept() -> None:
    maintenance = told(stop("old", 0), stop("new", KEPT_DAYS + 2), day=KEPT_DAYS + 1)
    assert names(maintenance) == {"new"}
    assert maintenance.dropped == 0


def test_where_another_stop_may_be_dropped_every_asset_is_concerned() -> None:
    full = told(*(stop(f"s{n}", 1, asset=f"q{n}") for n in range(MOST_ORDERS)))
    assert full.concerned(stop("s5", 2)) == ("q5", "p1")
    assert full.concerned(stop("new", 2)) is None
    assert told(stop("a", 1)).concerned(stop("new", 2)) == ("p1",)


def test_a_partition_counts_what_it_has_no_room_for() -> None:
    pipeline = make()
    for n in range(MOST_ORDERS + 2):
        pipeline.take_control(Received(n, 0, stop(f"s{n}", 1 + n)))
    feed(pipeline, numbered(steady(3)))
    assert pipeline.dropped == {Dropped.PLANNED_STOP: 2}


def test_a_successor_has_the_same_stops() -> None:
    full = told(*(stop(f"s{n}", n / 9, asset=f"q{n}") for n in range(MOST_ORDERS + 5)))
    again = Maintenance(SPEC)
    again.restore_orders(full.orders())
    assert again.orders() == full.orders()
    assert again.window("q9", round(DAY_NS + 60 * SECOND_NS) // SPEC.period_ns) is not None


STOP = st.tuples(st.integers(0, 400), st.integers(1, 90), st.sampled_from(["", "p1", "p2"]))


@given(st.lists(STOP, max_size=3))
def test_a_window_reaches_into_a_stop_that_covers_one_of_its_rows(stops: list[tuple[int, int, str]]) -> None:
    ends = [(asset, row) for row in range(3, 60) for asset in ("p1", "p3")]
    tenth = SECOND_NS // 10
    known = Maintenance(
        SPEC,
        [
            MaintenanceWindow("", start * tenth, (start + lasts) * tenth, frozenset({asset} - {""}))
            for start, lasts, asset in stops
        ],
    )
    found = known.reached([asset for asset, _ in ends], np.array([row for _, row in ends], np.int64))
    assert found.tolist() == [
        any(known.covers(asset, row) for row in range(last - SPEC.window + 1, last + 1))
        for asset, last in ends
    ]
