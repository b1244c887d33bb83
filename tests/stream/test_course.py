"""The course of an episode: what is like it, and when its like is due."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.control import Feedback, Verdict
from daemon.detector import DriftReference
from daemon.domain import DAY_NS, AlertKind
from daemon.stream.course import (
    HOUR_NS,
    MOST_ONSETS,
    MOST_POINTS,
    MOST_SIDES,
    Course,
    Sustained,
    standardised,
)

UP, DOWN, OTHER = ("Pressure", 1), ("Pressure", -1), ("Flow", 1)


def at(*position: float) -> np.ndarray:
    return np.array(position, np.float32)


def course(*leading: tuple[str, int], latent: np.ndarray | None = None) -> Course:
    made = Course("f")
    made.grow(1.2, {}, leading, latent, "m")
    return made


def test_another_episode_has_its_sensors_if_they_led_it_to_the_same_sides_or_were_off_beside() -> None:
    known = course(UP, OTHER)
    known.grow_sustained(("Current", -1), 0.8, 3.0)
    for leading, its in (
        ((UP,), True),
        ((UP, OTHER), True),
        ((DOWN,), False),
        ((UP, ("Current", 1)), False),
        ((UP, ("Current", -1)), True),
        ((("Current", -1),), False),
        ((), False),
    ):
        assert known.is_led_by(frozenset(leading)) is its


def test_what_is_near_depends_on_how_far_out_it_is_and_is_the_same_model_s() -> None:
    known = course(UP, latent=at(1.0, 0.0))
    assert known.is_near(at(2.0, 0.5), "m")
    assert not known.is_near(at(3.0, 0.0), "m")
    assert not known.is_near(at(1.0, 0.0), "another")
    assert known.is_near(None, "m")
    far = course(UP, latent=at(20.0, 0.0))
    assert far.is_near(at(29.9, 0.0), "m")  # as far out again by half
    assert not far.is_near(at(20.0, 10.1), "m")


def test_an_episode_of_the_same_sensors_is_elsewhere_if_its_first_window_is() -> None:
    known = course(UP, latent=at(0.0, 0.0))
    for other, elsewhere in (
        (course(UP, OTHER, latent=at(3.0, 0.0)), True),
        (course(UP, latent=at(0.5, 0.0)), False),
        (course(DOWN, latent=at(3.0, 0.0)), False),
        (course(UP), False),
    ):
        other.grow(1.2, {}, [], at(0.1, 0.1), "m")  # where it comes to later does not count
        assert other.is_elsewhere(known) is elsewhere


def test_it_is_exceeded_where_a_sensor_that_makes_it_is_farther_off() -> None:
    known = course(UP)
    for side in (UP, OTHER):
        known.grow_sustained(side, 1.2, 4.0)
    assert not known.is_exceeded({UP: Sustained(9.0, 6.0), OTHER: Sustained(1.0, 60.0)})
    assert known.is_exceeded({UP: Sustained(0.8, 6.1)})
    known.deviated.add("Flow")
    assert known.is_exceeded({OTHER: Sustained(1.0, 60.0)})
    known.deviated.add("Current")
    known.grow_sustained(("Current", -1), 2.5, 4.0)  # the other one is less than half as far beyond its limit
    assert not known.is_exceeded({OTHER: Sustained(1.0, 60.0)})


def test_every_row_of_it_is_near_one_of_few_points() -> None:
    known = Course("f")
    for x in np.linspace(0.0, 6.0, 40):
        known.grow(1.2, {}, [UP], at(x), "m")
    assert 2 <= len(known.latents) <= 7
    assert all(known.is_near(at(x), "m") for x in np.linspace(0.0, 6.0, 40))
    for x in np.linspace(10.0, 90.0, 40):
        known.grow(1.2, {}, [UP], at(x), "m")
    assert len(known.latents) == MOST_POINTS
    known.grow(1.2, {}, [UP], at(0.0), "newer")
    assert (known.model, len(known.latents)) == (
        "newer",
        1,
    )  # what an earlier model saw is of no use any more


def test_positions_are_distances_in_the_spread_of_training_s_windows() -> None:
    reference = DriftReference(
        np.array([1.0, 0.0, 0.0]), np.array([4.0, 1.0, 1e-6]), np.zeros(1), np.ones(1), 1.0, 1.0
    )
    assert standardised(np.array([5.0, -1.0, 9.0]), reference).tolist() == [2.0, -1.0]


@pytest.mark.parametrize(
    ("hours", "hour", "due"),
    [
        ([8.0, 32.2], 15.0, True),  # two days are no habit
        ([8.0, 32.2, 56.5], 8.3 + 72, True),
        ([8.0, 32.2, 56.5], 7.1 + 72, True),
        ([8.0, 32.2, 56.5], 9.6 + 72, False),
        ([8.0, 32.2, 56.5], 6.9 + 72, False),
        ([8.0, 8.2, 8.5], 15.0, True),  # all on one day
        ([8.0, 32.2, 61.0], 15.0, True),  # one at another hour
        ([23.8, 48.1, 95.9], 96.5, True),  # around midnight
        ([23.8, 48.1, 95.9], 12.0 + 96, False),
        ([8.0, 32.0, 56.0], 8.9 + 72, True),  # to the second
    ],
)
def test_what_came_within_an_hour_of_the_day_on_three_days_is_due_then_alone(
    hours: list[float], hour: float, due: bool
) -> None:
    known = course(UP)
    for each in hours:
        known.came(Course(onset_ns=round(each * HOUR_NS), model="m"))
    assert known.is_due(round(hour * HOUR_NS)) is due


def test_of_an_episode_that_is_over_the_sensors_farthest_beyond_their_limits_are_kept() -> None:
    known = course(UP)
    for c in range(2 * MOST_SIDES):
        known.grow_sustained((f"s{c}", 1), float(c), 1.0)
    known.shorten()
    assert sorted(known.sustained) == sorted((f"s{c}", 1) for c in range(MOST_SIDES, 2 * MOST_SIDES))


def test_only_the_newest_onsets_count() -> None:
    known = course(UP)
    for day in range(30):
        known.came(Course(onset_ns=day * DAY_NS, model="m"))
    assert known.onsets == [day * DAY_NS for day in range(30 - MOST_ONSETS, 30)]


def test_another_model_s_positions_are_learned_from_a_run_that_is_like_it() -> None:
    known, run = course(UP, latent=at(1.0)), Course(onset_ns=0)
    run.grow(1.1, {}, [UP], at(7.0, 1.0), "newer")
    known.came(run)
    assert known.is_near(at(7.0, 1.0), "newer")
    assert not known.is_near(at(1.0), "m")


@given(
    st.lists(st.sampled_from([UP, DOWN, OTHER]), max_size=3),
    st.lists(st.floats(1.0, 9.0), max_size=3),
    st.lists(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=2), max_size=12),
    st.sampled_from([None, Feedback("f", Verdict.FALSE_ALARM, "kim", "lid")]),
)
def test_it_is_restored_as_it_was(
    leading: list[tuple[str, int]],
    heights: list[float],
    latents: list[list[float]],
    feedback: Feedback | None,
) -> None:
    known = Course("f", opened_ns=5, onset_ns=4, kinds=[AlertKind.ANOMALY], feedback=feedback)
    for height in heights:
        known.grow(height, {"Flow": height}, leading, None, "m")
        known.grow_sustained(UP, height, 10.0 * height)
    for latent in latents:
        known.grow(1.0, {}, leading, at(*latent), "m")
    again = Course.restored(known.snapshot())
    assert again.snapshot() == known.snapshot()
    for latent in latents:
        assert again.is_near(at(*latent), "m") is known.is_near(at(*latent), "m")
