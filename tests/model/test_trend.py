"""Slow trends: what moves from day to day against what the other sensors imply."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain import DAY_NS, SECOND_NS, Floats, Segment, StreamSpec
from daemon.mapping import AlertRule, Direction
from daemon.model.rules import AlertRules
from daemon.model.trend import TrendLimits, is_step

SENSORS = ("load", "oil", "outlet", "constant")
SPEC = StreamSpec("compressors", SENSORS, period_ns=600 * SECOND_NS)
PER_DAY = DAY_NS // SPEC.period_ns
NOTHING = AlertRule()


def machine(days: int, seed: int = 0, first: int = 0, season: float = 0.1) -> Floats:
    """(days * PER_DAY, 4): oil and outlet follow the load and one weather, which nobody measures and which warms."""
    rng = np.random.default_rng(seed)
    day = first + np.arange(days * PER_DAY) / PER_DAY
    rows = len(day)
    load = 0.5 + 0.4 * np.sin(2 * np.pi * day) + 0.1 * rng.standard_normal(rows)
    weather = season * day + 4 * np.sin(2 * np.pi * day - 1) + np.repeat(rng.standard_normal(days), PER_DAY)
    oil = 30 + weather + 20 * load + 0.2 * rng.standard_normal(rows)
    outlet = 40 + weather + 35 * load + 0.3 * rng.standard_normal(rows)
    return np.stack([load, oil, outlet, np.full(rows, 2.0)], 1)


@cache
def limits(days: int = 25, rules: tuple[AlertRule, ...] = ()) -> TrendLimits | None:
    history = [Segment("c-1", 0, machine(days))]
    return TrendLimits.fit(history, SPEC, AlertRules.of(rules or (NOTHING,) * 4))


def daily(values: Floats) -> Floats:
    return np.stack([part.mean(0) for part in np.split(values, len(values) // PER_DAY)])


def trends(means: Floats, first: int = 40, rules: tuple[AlertRule, ...] = ()) -> tuple[float, str, float]:
    """How far the leading sensor is beyond its limit at the end of these days, its name, and what it moves a day."""
    known = limits()
    assert known is not None
    found = known.trends(first + np.arange(len(means)), means, AlertRules.of(rules or (NOTHING,) * 4))
    assert found is not None
    c = int((found.ratio * np.where(found.agrees, 1.0, 0.5)).argmax())
    return float(found.ratio[c]), SENSORS[c], float(found.per_day[c])


def worn(days: int, per_day: float, sensor: int = 1, seed: int = 3) -> Floats:
    values = machine(days, seed, 40)
    values[:, sensor] += per_day * np.arange(len(values)) / PER_DAY
    return daily(values)


def opens(means: Floats) -> bool:
    """Whether a sensor is beyond its limit at the end of two days in a row, as an alert needs."""
    beyond = [trends(means[max(stop - 14, 0) : stop])[0] > 1.0 for stop in range(5, len(means) + 1)]
    return any(one and other for one, other in itertools.pairwise(beyond))


@pytest.mark.parametrize("per_day", [0.2, -0.2])
def test_wear_is_a_trend_of_its_size_within_ten_days(per_day: float) -> None:
    ratio, _, found = trends(worn(10, per_day))
    assert ratio > 1.0
    assert abs(found) == pytest.approx(0.2, rel=0.2)
    assert trends(worn(14, per_day))[1:] == ("oil", pytest.approx(per_day, rel=0.1))


@pytest.mark.parametrize("season", [0.1, 0.0, -0.1])
@pytest.mark.parametrize("seed", range(4))
def test_the_season_goes_on_or_ends_without_a_trend(season: float, seed: int) -> None:
    assert not opens(daily(machine(30, seed, 40, season)))


def test_a_step_is_no_trend() -> None:
    means = daily(machine(20, 3, 40))
    means[10:, 1] += 3.0
    assert not opens(means)
    assert opens(worn(20, 0.2))


def test_a_day_of_a_fault_is_no_trend() -> None:
    for at in range(14):
        means = daily(machine(14, 3, 40))
        means[at, 1] += 8.0
        assert trends(means)[0] < 1.0


def test_days_without_a_sensor_are_left_out() -> None:
    means = worn(14, 0.3)
    for at in (2, 5, 6):
        means[at, 2] = np.nan
    ratio, _, per_day = trends(means)
    assert ratio > 1.0
    assert abs(per_day) == pytest.approx(0.3, rel=0.2)
    known = limits()
    assert known is not None
    assert known.trends(np.arange(4), means[:4], None) is None
    means[-1, 0] = np.nan
    assert known.trends(np.arange(14), means, None) is None  # nothing is known of the newest day


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        (AlertRule(Direction.ABOVE), True),
        (AlertRule(Direction.BELOW), False),
        (AlertRule(min_deviation=2.0), True),
        (AlertRule(min_deviation=5.0), False),
        (AlertRule(ignore=True), False),
    ],
)
def test_rules_act_on_trends(rule: AlertRule, named: bool) -> None:
    ignored = AlertRule(ignore=True)  # the outlet falls against the oil
    ratio, sensor, _ = trends(worn(14, 0.25), rules=(NOTHING, rule, ignored, NOTHING))
    assert (ratio > 1.0 and sensor == "oil") == named


@settings(max_examples=20)
@given(st.integers(5, 14), st.integers(0, 1_000))
def test_the_slope_is_the_median_over_all_pairs_of_days(days: int, seed: int) -> None:
    known = limits()
    assert known is not None
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((days, 4)).cumsum(0) + np.arange(days)[:, None] * 3
    found = known.trends(np.arange(days), means, None)
    assert found is not None
    residual = means / known.relation.scale @ (np.eye(4) - known.relation.weights.T)
    for c in range(4):
        first = int(found.since[c])
        if found.ratio[c] > 0:
            pairs = itertools.combinations(range(first, days), 2)
            slopes = [(residual[j, c] - residual[i, c]) / (j - i) for i, j in pairs]
            assert found.per_day[c] == pytest.approx(np.median(slopes) * known.relation.scale[c])


def test_too_few_days_have_no_limits() -> None:
    assert limits(6) is None
    assert limits(7) is not None
    daily_rows = StreamSpec("s", SENSORS, period_ns=DAY_NS)
    assert TrendLimits.fit([Segment("c-1", 0, machine(3))], daily_rows, None) is None


@pytest.mark.parametrize("size", [1e200, 1e306, 1e-308])
def test_rows_of_absurd_size_have_limits_that_are_numbers_or_none(size: float) -> None:
    known = TrendLimits.fit([Segment("c-1", 0, machine(9) * size)], SPEC, None)
    assert known is None or all(np.isfinite(array).all() for array in known.arrays().values())


def test_limits_are_read_back_from_a_bundle() -> None:
    known = limits()
    assert known is not None
    again = TrendLimits.of(known.arrays(), known.facts())
    means = worn(10, 0.2)
    one, other = (each.trends(np.arange(10), means, None) for each in (known, again))
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.ratio, other.ratio)


@given(st.integers(5, 14), st.integers(0, 1_000))
def test_a_step_is_what_two_levels_fit_better_than_a_line(days: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    k = np.sort(rng.choice(20, days, replace=False)).astype(float)
    values = rng.standard_normal((days, 2)) + np.stack([k * rng.normal(), (k > 10) * rng.normal()], 1)
    for c in range(2):
        line = np.polyfit(k, values[:, c], 1, full=True)[1][0]
        steps = [
            ((part - part.mean()) ** 2).sum() + ((rest - rest.mean()) ** 2).sum()
            for part, rest in ((values[:i, c], values[i:, c]) for i in range(1, days))
        ]
        if abs(min(steps) - line) > 1e-6:
            assert is_step(k, values)[c] == (min(steps) < line)


def test_a_rule_in_per_cent_acts_on_trends() -> None:
    """Fourteen days of 0.25 are 3.3, and the oil is at some 45."""
    ignored = AlertRule(ignore=True)
    for share, named in ((0.05, True), (0.2, False)):
        rules = (NOTHING, AlertRule(min_share=share), ignored, NOTHING)
        assert (trends(worn(14, 0.25), rules=rules)[0] > 1.0) == named


def test_an_excused_trend_accuses_no_other_sensor() -> None:
    ratio, sensor, _ = trends(worn(14, 0.5))
    assert (ratio > 1.0, sensor) == (True, "oil")
    assert trends(worn(14, 0.5), rules=(NOTHING, AlertRule(ignore=True), NOTHING, NOTHING))[0] <= 1.0
    # Nor does it hide one that moves by itself.
    both = worn(14, 0.5)
    both[:, 2] += worn(14, -1.0, 2)[:, 2] - worn(14, 0.0, 2)[:, 2]
    assert trends(both, rules=(NOTHING, AlertRule(ignore=True), NOTHING, NOTHING))[0] > 1.0


def test_a_sensor_that_is_silent_every_night_turns_trends_off_for_itself_alone() -> None:
    values, wear = machine(25), worn(14, 0.25)
    values[np.arange(len(values)) % PER_DAY < 0.4 * PER_DAY, 0] = np.nan
    known = TrendLimits.fit([Segment("c-1", 0, values)], SPEC, None)
    assert known is not None
    assert known.seen.tolist() == [False, True, True, True]
    wear[:, 0] = np.nan
    found = known.trends(40 + np.arange(14), wear, None)
    assert found is not None
    assert found.ratio.max() > 1.0


@pytest.mark.parametrize("unit", [1.0, 1e-4, 1e4])
def test_what_a_constant_sensor_may_move_does_not_depend_on_its_unit(unit: float) -> None:
    known = TrendLimits.fit([Segment("c-1", 0, machine(9) * [1, 1, 1, unit])], SPEC, None)
    assert known is not None
    means = daily(machine(9, 3, 40))
    means[:, 3] += 1e-6 * np.arange(9)
    found = known.trends(40 + np.arange(9), means * [1, 1, 1, unit], None)
    means[:, 3] += 0.1 * np.arange(9)
    gone = known.trends(40 + np.arange(9), means * [1, 1, 1, unit], None)
    assert found is not None
    assert gone is not None
    assert found.ratio[3] < 1.0 < gone.ratio[3]
