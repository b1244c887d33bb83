"""Events that recur in training, by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import DAY_NS, Segment
from daemon.model.bundle import Bundle
from daemon.model.recurring import Event, described
from tests.model.conftest import QUICK, machine, trained

QUARTER_NS = DAY_NS // 96


def event(day: int, quarter: int, *sensors: str, asset: str = "a") -> Event:
    return Event(asset, day * DAY_NS + quarter * QUARTER_NS, sensors or ("speed", "current"))


def days(count: int, asset: str = "a") -> set[tuple[str, int]]:
    return {(asset, day) for day in range(count)}


def test_a_start_every_morning_is_named_with_its_sensors() -> None:
    events = [event(day, 24 + (day % 3 == 0)) for day in range(14) if day % 7 < 5] + [event(3, 60, "flow")]
    assert described(events, days(14)) == ["about 06:00 UTC each day (10 of 14): speed, current"]


def test_a_weekly_event_is_named_by_its_day() -> None:
    events = [event(day, 95 if day % 2 else 0, "oil") for day in range(4, 35, 7)]
    assert described(events, days(35)) == ["about 00:00 UTC each Mon (5 of 5): oil"]


def test_events_at_changing_hours_are_none() -> None:
    assert described([event(day, 37 * day % 96) for day in range(10)], days(10)) == []


def test_two_days_and_one_incident_are_no_habit() -> None:
    assert described([event(0, 24), event(1, 24)], days(2)) == []
    assert described([event(0, at) for at in range(0, 96, 5)], days(10)) == []


def test_two_habits_of_a_day_are_two_lines() -> None:
    events = [event(day, at, name) for day in range(6) for at, name in ((24, "speed"), (72, "flow"))]
    assert described(events, days(6)) == [
        "about 06:00 UTC each day (6 of 6): speed",
        "about 18:00 UTC each day (6 of 6): flow",
    ]


@pytest.mark.parametrize("asset", ["b", "c"])
def test_days_of_all_assets_count(asset: str) -> None:
    events = [event(day, 24) for day in range(5)] + [event(day, 24, asset=asset) for day in range(3)]
    assert described(events, days(5) | days(5, asset)) == [
        "about 06:00 UTC each day (8 of 10): speed, current"
    ]
    assert described(events, days(5) | days(5, asset) | days(9, "d")) == []


def test_training_names_what_comes_every_morning() -> None:
    values = machine(12 * 144)
    morning = np.arange(12 * 144) % 144 == 36
    values[morning, 2] += 8_000.0 + 200.0 * np.arange(12)
    bundle = trained([Segment("pump-1", 0, values)], replace(QUICK, kind="ppca"), period_ns=DAY_NS // 144)
    assert bundle.habits == ("about 06:00 UTC each day (12 of 12): Flow",)
    assert Bundle.from_bytes(bundle.to_bytes()).habits == bundle.habits


EVENTS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 95), st.sampled_from(["speed", "flow", "level"])),
    max_size=60,
)


@given(EVENTS, st.randoms())
def test_what_is_named_does_not_depend_on_the_order_and_counts_each_event_once(
    drawn: list[tuple[int, int, str]], random: object
) -> None:
    events = [event(day, quarter, name) for day, quarter, name in dict.fromkeys(drawn)]
    lines = described(events, days(21))
    shuffled = events.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert described(shuffled, days(21)) == lines
    assert len(lines) <= 10
