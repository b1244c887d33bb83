"""Long gaps are filled by what is usual at that time."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from daemon.domain import SECOND_NS, Floats, Ints, Segment, StreamSpec
from daemon.model.imputation import ImputationParameters, WeekClock, fit, impute_segments
from daemon.model.imputation.habit import DayTable, fit_habit

QUARTER = StreamSpec("plant", ("speed", "flow", "outdoor"), period_ns=900 * SECOND_NS)
CLOCK = WeekClock.of(QUARTER)
MONDAY = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp()) // 900
DAY = 96


def shifts(days: int, seed: int) -> Floats:
    """A pump that runs from six to ten except on Sundays, its flow by demand, and the weather."""
    g = np.random.default_rng(seed)
    row = np.arange(days * DAY)
    hour, weekday = row % DAY / 4, row // DAY % 7
    on = (hour >= 6 + g.uniform(-0.2, 0.2, days)[row // DAY]) & (hour < 22) & (weekday != 6)
    noise = g.standard_normal((len(row), 3))
    weather = np.zeros(len(row))
    for t in range(1, len(row)):
        weather[t] = 0.98 * weather[t - 1] + 0.2 * noise[t, 2]
    speed, flow = 1450.0 * on + noise[:, 0], on * (6 + 2 * np.sin(hour / 4) + 0.2 * noise[:, 1])
    return np.stack([speed, flow, 10 + 4 * np.sin(2 * np.pi * (hour - 9) / 24) + weather], 1)


@pytest.fixture(scope="module")
def fitted() -> ImputationParameters:
    x = shifts(28, 0)
    return fit([Segment("a", MONDAY, x)], x.mean(0), x.std(0), QUARTER)


def test_an_outage_of_days_is_filled_by_the_habit_of_the_week_with_honest_intervals(
    fitted: ImputationParameters,
) -> None:
    x = shifts(21, 1)
    errors, lines, inside = [], [], []
    for start in range(2 * DAY + 40, 19 * DAY, 100):
        gap = slice(start, start + int(1.3 * DAY))
        holed = x.copy()
        holed[gap] = np.nan
        fill = impute_segments(fitted, [Segment("a", MONDAY, holed)], CLOCK)[0]
        line = np.linspace(x[gap.start - 1], x[gap.stop], gap.stop - gap.start)
        errors.append(np.abs(fill.value - x)[gap].mean(0))
        lines.append(np.abs(line - x[gap]).mean(0))
        inside.append(((fill.low <= x) & (x <= fill.high))[gap].mean(0))
    saved = np.mean(errors, axis=0) / np.mean(lines, axis=0)
    assert (saved < [0.1, 0.2, 0.6]).all(), saved
    assert (np.mean(inside, axis=0) > 0.82).all(), np.mean(inside, axis=0)
    night = fill.value[gap][(np.arange(gap.start, gap.stop) % DAY) < 20]
    assert np.abs(night[:, 0]).max() < 100.0


def test_near_the_ends_of_a_gap_the_neighbours_decide(fitted: ImputationParameters) -> None:
    x = shifts(14, 2)
    x[:, 2] += 8.0  # a warmer spring than training's
    x[6 * DAY : 8 * DAY] = np.nan
    fill = impute_segments(fitted, [Segment("a", MONDAY, x)], CLOCK)[0].value
    assert abs(fill[6 * DAY, 2] - x[6 * DAY - 1, 2]) < 1.0
    assert abs(fill[8 * DAY - 1, 2] - x[8 * DAY, 2]) < 1.0


def test_habits_survive_storage_and_days_of_cut_gaps_count(fitted: ImputationParameters) -> None:
    assert fitted.habitual is not None
    x = shifts(14, 3)
    x[3 * DAY : 5 * DAY, 0] = np.nan
    again = ImputationParameters.of(fitted.arrays())
    whole = impute_segments(fitted, [Segment("a", MONDAY, x)], CLOCK)[0].value
    np.testing.assert_array_equal(impute_segments(again, [Segment("a", MONDAY, x)], CLOCK)[0].value, whole)
    # The first day of the segment stands a week earlier, and the rows between are not in it.
    numbers = MONDAY + np.arange(len(x)) - 7 * DAY * (np.arange(len(x)) < DAY)
    cut = Segment("a", MONDAY - 7 * DAY, x, numbers=numbers)
    np.testing.assert_array_equal(impute_segments(fitted, [cut], CLOCK)[0].value, whole)


def test_noise_and_short_histories_have_no_habit() -> None:
    noise = np.random.default_rng(0).standard_normal((20 * DAY, 3))
    plain = fit([Segment("a", MONDAY, noise)], np.zeros(3), np.ones(3), QUARTER)
    assert plain.habitual is None or not plain.habitual.used.any(1).all()
    x = shifts(2, 4)
    assert fit([Segment("a", MONDAY, x)], x.mean(0), x.std(0) + 1e-9, QUARTER).habitual is None


def rows_at(*times: datetime) -> Ints:
    return np.array([int(t.timestamp()) // 900 for t in times])


def test_days_are_local_also_when_the_clocks_change() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    six = rows_at(*(datetime(2026, 3, day, 6, tzinfo=berlin) for day in (27, 28, 29, 30)))
    assert np.diff(six).tolist() == [96, 92, 96]  # the night of 29 March has 23 hours
    clock = WeekClock(QUARTER.period_ns, "Europe/Berlin")
    np.testing.assert_allclose(np.mod(clock.days(six), 7), np.array([4, 5, 6, 0]) + 0.25)
    np.testing.assert_allclose(np.mod(CLOCK.days(six), 1), np.array([5, 5, 4, 4]) / 24)


def test_weekdays_differ_only_where_they_do() -> None:
    x = shifts(28, 5)
    table = DayTable.of([x], [CLOCK.days(MONDAY + np.arange(len(x)))], CLOCK)
    habit = fit_habit(table)
    level = habit.level.reshape(7, DAY, 3)
    noon = 12 * 4
    assert level[5, noon, 0] == pytest.approx(1450.0, abs=2.0)
    assert abs(level[6, noon, 0]) < 2.0
    np.testing.assert_array_equal(level[0, :, 2], level[6, :, 2])  # the weather knows no Sunday
    at = habit.at(MONDAY + np.array([noon, 6 * DAY + noon]), CLOCK)
    np.testing.assert_allclose(at[:, 0], level[[0, 6], noon, 0])
