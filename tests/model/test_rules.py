"""What people excused neither counts nor accuses others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Floats
from daemon.errors import BundleError
from daemon.mapping import AlertRule, Direction
from daemon.model.bundle import Bundle
from daemon.model.reconstruction import Measured, Models
from daemon.model.rules import AlertRules
from daemon.model.segments import sliding
from tests.model.conftest import SPEC, machine

NOTHING = AlertRule()
RULES = st.builds(
    AlertRule, st.sampled_from(Direction), st.just(0.0) | st.floats(0.1, 5.0), st.just(0.0) | st.floats(0.01, 0.5),
    st.booleans(),
)  # fmt: skip
COUNT, CHANGED = 40, 30


def excused_naively(rule: AlertRule, observed: float, expected: float) -> bool:
    distance = observed - expected
    return (
        rule.ignore
        or (rule.direction is Direction.ABOVE and distance < 0)
        or (rule.direction is Direction.BELOW and distance > 0)
        or abs(distance) < rule.min_deviation
        or abs(distance) < rule.min_share * abs(expected)
    )


@given(RULES, st.floats(-50, 50), st.floats(-50, 50))
def test_a_cell_is_excused_by_its_distance_in_the_unit_of_its_sensor(
    rule: AlertRule, observed: float, expected: float
) -> None:
    rules, mean, scale = AlertRules.of([NOTHING, rule]), 20.0, 4.0
    assert (rules is None) == (rule == NOTHING)
    if rules is None:
        return
    window = np.array([[[0.0, (observed - mean) / scale]]], np.float64)
    decoded = np.array([[[9.0, (expected - mean) / scale]]], np.float64)
    found = rules.excused(window, decoded, np.array([0.0, mean]), np.array([1.0, scale]))  # type: ignore[arg-type]
    edges = (rule.min_deviation, rule.min_share * abs(expected), 0.0)
    if all(abs(abs(observed - expected) - edge) > 1e-9 for edge in edges):
        assert found.tolist() == [[[False, excused_naively(rule, observed, expected)]]]


@given(RULES)
def test_a_rule_is_read_back_from_a_manifest(rule: AlertRule) -> None:
    found = AlertRule.of(rule.facts())
    least = 0.0 if rule.min_share else rule.min_deviation
    assert replace(found, min_share=0.0) == replace(rule, min_deviation=least, min_share=0.0)
    assert found.min_share == pytest.approx(rule.min_share)


def windows_with(change: float) -> Floats:
    """(COUNT, L, 4) windows; the pressure of those from ``CHANGED`` on has moved in their last three rows."""
    windows = np.array(sliding(machine(COUNT + 15, seed=5), SPEC.window))
    windows[CHANGED:, -3:, 0] += change
    return windows


def measured(models: Models, rule: AlertRule, change: float) -> Measured:
    rules = AlertRules.of([rule, NOTHING, NOTHING, NOTHING])
    return replace(models, rules=rules).measure(windows_with(change), [""] * COUNT)


@pytest.mark.parametrize(
    ("rule", "excuses"),
    [
        (AlertRule(Direction.ABOVE), False),
        (AlertRule(Direction.BELOW), True),
        (AlertRule(min_deviation=50.0), False),
        (AlertRule(min_deviation=500.0), True),
        (AlertRule(min_share=0.1), False),
        (AlertRule(min_share=3.0), True),
        (AlertRule(ignore=True), True),
    ],
)
def test_what_is_excused_accuses_no_sensor(bundle: Bundle, rule: AlertRule, excuses: bool) -> None:
    plain, ruled = measured(bundle.models, NOTHING, 200.0), measured(bundle.models, rule, 200.0)
    usual = measured(bundle.models, NOTHING, 0.0)
    both = plain.residual[CHANGED:], ruled.residual[CHANGED:]
    if not rule.ignore:  # which is missing, for better or worse
        assert (np.nan_to_num(np.abs(both[1])) <= np.abs(both[0]) + 1e-12).all()
    if not excuses:
        np.testing.assert_allclose(both[1][:, 0], both[0][:, 0])
        return
    assert not np.nan_to_num(both[1][:, 0]).any()
    # The others stand no farther off than they usually do, and so do the latents.
    assert np.abs(both[1][:, 1:3]).max() < 1.5 * np.abs(usual.residual[:, 1:3]).max()
    assert ruled.latent[-1, CHANGED:, 0].max() < 2.0 * usual.latent[-1, :, 0].max()
    assert plain.latent[-1, CHANGED:, 0].max() > 2.0 * usual.latent[-1, :, 0].max()


def test_an_ignored_sensor_has_no_error_and_is_filled_all_the_same(bundle: Bundle) -> None:
    found = measured(bundle.models, AlertRule(ignore=True), 0.0)
    assert np.isnan(found.channel_error[:, :, 0]).all()
    assert np.isnan(found.residual[:, 0]).all()
    assert np.isfinite(found.channel_error[:, :, 1:]).all()
    np.testing.assert_array_equal(found.newest, measured(bundle.models, NOTHING, 0.0).newest)
    np.testing.assert_array_equal(found.elbo, measured(bundle.models, NOTHING, 0.0).elbo)


def test_a_window_in_which_only_ignored_sensors_have_values_is_no_evidence(bundle: Bundle) -> None:
    windows = windows_with(0.0)
    windows[:, :, 1:] = np.nan
    rules = AlertRules.of([AlertRule(ignore=True), NOTHING, NOTHING, NOTHING])
    assert not replace(bundle.models, rules=rules).measure(windows, [""] * COUNT).observed.any()


def test_a_bundle_judges_by_the_rules_that_it_was_calibrated_with(bundle: Bundle) -> None:
    facts = {**bundle.facts, "alert_rules": {"Pressure": {"ignore": True}, "Flow": {"direction": "above"}}}
    found = Bundle.from_bytes(replace(bundle, facts=facts).to_bytes()).models.rules
    assert found is not None
    assert found.ignored.tolist() == [True, False, False, False]
    assert found.above.tolist() == [False, False, True, False]
    for damaged in ({"Flow": {"direction": "up"}}, {"Flow": {"min_deviation": "much"}}, {"Flow": 3}, []):
        with pytest.raises(BundleError, match="manifest"):
            Bundle.from_bytes(replace(bundle, facts={**facts, "alert_rules": damaged}).to_bytes())


def moved(models: Models, rules: tuple[AlertRule, ...], moves: list[float]) -> Measured:
    """Windows of the machine, all of whose rows have moved by so many of the sensors' spreads."""
    windows = sliding(machine(COUNT + 15, seed=5), SPEC.window) + np.array(moves) * models.scaler.scale
    return replace(models, rules=AlertRules.of(rules)).measure(windows, [""] * COUNT)


def test_sensors_that_are_all_excused_leave_the_latents_alone(bundle: Bundle) -> None:
    found = moved(bundle.models, (AlertRule(min_deviation=1e9),) * 4, [5.0] * 4)
    plain = moved(bundle.models, (NOTHING,) * 4, [5.0] * 4)
    assert np.isfinite(found.latent).all()
    assert found.latent[-1, :, 0].max() < 0.1 * plain.latent[-1, :, 0].max()


def test_a_small_excused_move_that_lasts_accuses_no_sensor(bundle: Bundle) -> None:
    """Of a size that is no rare residual: what the others' errors add up to would show all the same."""
    models = bundle.models
    move = 2.0 * float(models.sigma[0])
    rules = (AlertRule(min_deviation=1e9), NOTHING, NOTHING, NOTHING)
    found, usual = moved(models, rules, [move, 0, 0, 0]), moved(models, rules, [0.0] * 4)
    without = moved(models, rules, [np.nan, 0, 0, 0])
    assert (found.channel_error[-1, :, 1:] < without.channel_error[-1, :, 1:] + 0.01).all()
    assert found.latent[-1, :, 0].max() < 1.2 * usual.latent[-1, :, 0].max()


def test_what_an_ignored_sensor_does_moves_no_expected_value(bundle: Bundle) -> None:
    rules = (AlertRule(ignore=True), NOTHING, NOTHING, NOTHING)
    found, without = (moved(bundle.models, rules, [by, 0, 0, 0]) for by in (5.0, np.nan))
    for name in ("newest", "residual", "channel_error", "latent", "posterior"):
        np.testing.assert_array_equal(getattr(found, name), getattr(without, name))
