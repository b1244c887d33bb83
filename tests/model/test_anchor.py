from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import DAY_NS, ModelSettings, Segment
from daemon.model.anchor import (
    ANCHOR,
    LEVELS,
    MOST_NUMBERS,
    ROUGHNESS,
    Roughening,
    anchored,
    asset_levels,
    moved,
    roughened,
    roughness,
)
from daemon.model.bundle import Bundle
from daemon.model.promotion import ANCHOR_LIMIT, ROUGHNESS_LIMIT
from tests.model.conftest import machine, trained

MINUTE = 60 * 10**9


@pytest.fixture(scope="module")
def model() -> Bundle:
    return trained([Segment("pump-1", 0, machine(1_500, 20))], ModelSettings(kind="ppca"))


def candidate(model: Bundle, moves: Mapping[str, Sequence[float]], **anchor: Any) -> Bundle:
    """A model of some assets, each of which has moved by so many standard deviations per sensor since its anchor."""
    scaler = model.models.scaler
    then = {asset: scaler.mean.tolist() for asset in moves}
    now = {asset: (scaler.mean + scaler.scale * np.array(by)).tolist() for asset, by in moves.items()}
    first = anchored(dataclasses.replace(model, facts={**model.facts, LEVELS: now}), model)
    facts = {**first.facts, ANCHOR: {**first.facts[ANCHOR], "assets": then, **anchor}}
    return dataclasses.replace(first, facts=facts)


def test_a_season_that_moves_all_assets_as_sensors_depend_on_each_other_does_not_count(model: Bundle) -> None:
    C = len(model.sensors)
    scale = model.models.scaler.scale
    weights = np.zeros((C, C))
    weights[0, 1], weights[1, 0] = scale[0] / scale[1], scale[1] / scale[0]  # each implies the other
    season = [5.0, 5.0, 0.0, 0.0]
    fleet = {f"pump-{i}": season for i in range(3)}
    found = moved(candidate(model, fleet, weights=weights.tolist()))
    assert found.distance == pytest.approx(0.0, abs=1e-6)
    # A sensor that moves alone, on all of them, is no season; nor is what no relation is known of.
    alone = {f"pump-{i}": [5.0, 0.0, 0.0, 0.0] for i in range(3)}
    for one in (
        candidate(model, alone, weights=weights.tolist()),
        candidate(model, fleet, weights=np.zeros((C, C)).tolist()),
    ):
        assert (moved(one).asset, moved(one).distance) == ("", pytest.approx(5.0))


@pytest.mark.parametrize("others", [1, 2, 5])
def test_one_asset_that_moves_away_from_the_others_counts_whole(model: Bundle, others: int) -> None:
    """Where all rows together have moved by the fleet's share of it only."""
    moves = {f"pump-{i}": [1.0, 1.0, 0.0, 0.0] for i in range(others)} | {"pump-x": [1.0, 1.0, -6.0, 0.0]}
    found = moved(candidate(model, moves))
    assert (found.sensor, found.asset) == (model.sensors[2], "pump-x")
    assert found.distance == pytest.approx(6.0)
    assert str(found).startswith(
        f"{model.sensors[2]} of pump-x has moved 6.0 standard deviations since model "
    )


def test_one_asset_alone_has_nothing_to_tell_a_season_by(model: Bundle) -> None:
    weights = np.ones((4, 4)).tolist()
    found = moved(candidate(model, {"pump-1": [5.0, 5.0, 5.0, 0.0]}, weights=weights))
    assert (found.asset, found.distance) == ("pump-1", pytest.approx(5.0))
    assert str(found).startswith(
        f"{model.sensors[0]} of pump-1 has moved 5.0 standard deviations since model "
    )


def test_all_rows_together_count_where_the_means_of_one_asset_alone_are_known(model: Bundle) -> None:
    """The others have too few rows to have means of their own."""
    found = candidate(model, {"pump-1": [0.0] * 4})
    anchor = dict(found.facts[ANCHOR])
    anchor["mean"] = (model.models.scaler.mean - 4.0 * model.models.scaler.scale).tolist()
    found = dataclasses.replace(found, facts={**found.facts, ANCHOR: anchor})
    assert (moved(found).asset, moved(found).distance) == ("", pytest.approx(4.0))


def test_an_asset_moves_in_spreads_of_its_own_and_not_of_how_far_assets_lie_apart(model: Bundle) -> None:
    """Machines at 0, 30 and 60 spreads of theirs: three of one of them is far, next to the whole fleet's it is nothing."""
    scaler = model.models.scaler
    apart = [0.0, 30.0, 60.0]
    levels = {f"pump-{i}": (scaler.mean + at * scaler.scale).tolist() for i, at in enumerate(apart)}
    pooled = dataclasses.replace(scaler, scale=scaler.scale * np.sqrt(1.0 + np.var(apart)))
    first = dataclasses.replace(model, models=dataclasses.replace(model.models, scaler=pooled))
    first = dataclasses.replace(first, facts={**first.facts, LEVELS: levels})
    now = {**levels, "pump-1": (scaler.mean + 42.0 * scaler.scale).tolist()}
    found = moved(anchored(dataclasses.replace(first, facts={**first.facts, LEVELS: now}), first))
    assert found.asset == "pump-1"
    assert found.distance > ANCHOR_LIMIT
    assert 12.0 * scaler.scale[0] / pooled.scale[0] < 1.0


@given(
    st.lists(st.lists(st.floats(-9, 9), min_size=4, max_size=4), min_size=1, max_size=6),
)
def test_what_counts_is_never_more_than_the_furthest_move(model: Bundle, moves: list[list[float]]) -> None:
    found = moved(candidate(model, {f"pump-{i}": by for i, by in enumerate(moves)}))
    assert -1e-9 <= found.distance <= np.abs(moves).max() + 1e-6


def test_an_asset_is_anchored_where_it_was_first_known(model: Bundle) -> None:
    """Also one that is idle for a while, and one that comes later."""

    def knowing(**levels: float) -> Bundle:
        facts = {**model.facts, LEVELS: {asset: [level] * 4 for asset, level in levels.items()}}
        return dataclasses.replace(model, facts=facts)

    first, second, third = knowing(a=1.0), knowing(b=5.0), knowing(a=2.0, b=6.0)
    second = anchored(second, first)
    third = anchored(third, second)
    fourth = anchored(knowing(), third)
    assert second.facts[ANCHOR]["assets"] == {"a": [1.0] * 4}
    assert third.facts[ANCHOR]["assets"] == {"a": [1.0] * 4, "b": [5.0] * 4}
    assert fourth.facts[ANCHOR]["assets"] == third.facts[ANCHOR]["assets"]
    assert fourth.facts[ANCHOR]["version"] == first.version
    assert Bundle.from_bytes(fourth.to_bytes()).facts[ANCHOR] == fourth.facts[ANCHOR]


def test_an_anchor_of_before_assets_were_kept_is_of_all_rows_together(model: Bundle) -> None:
    found = candidate(model, {"pump-1": [0.0] * 4})
    anchor = {name: found.facts[ANCHOR][name] for name in ("version", "mean", "scale", "seen")}
    anchor["mean"] = (np.array(anchor["mean"]) - 4.0 * np.array(anchor["scale"])).tolist()
    old = dataclasses.replace(found, facts={**found.facts, ANCHOR: anchor})
    assert moved(old).distance == pytest.approx(4.0)
    assert moved(old).distance > ANCHOR_LIMIT
    assert Bundle.from_bytes(old.to_bytes()).facts[ANCHOR] == anchor


def test_levels_are_means_of_assets_with_a_day_of_rows() -> None:
    values = np.arange(1_440 * 2.0).reshape(1_440, 2)
    values[:, 1] = np.nan
    halves = [Segment("a", 0, values[:700]), Segment("a", 800, values[700:]), Segment("b", 0, values[:1_439])]
    assert asset_levels(halves, MINUTE) == {"a": [1_439.0, None]}
    huge = [Segment("a", 0, np.full((1_440, 2), 1e308))]
    assert asset_levels(huge, MINUTE) == {"a": [None, None]}
    many = [Segment(f"{i:05d}", 0, values) for i in range(MOST_NUMBERS // 2 + 2)]
    assert list(asset_levels(many, MINUTE)) == [segment.asset for segment in many[:-2]]


# ------------------------------------------------------------------ roughness
def rough(model: Bundle, every: float | None, **assets: float | None) -> Bundle:
    """A model of whose sensors all rows, and those of these assets, change so much, in each of the sensors' own spreads."""
    scale = model.models.scaler.scale.tolist()

    def wide(by: float | None) -> list[list[float | None]]:
        return [[None if by is None else share * by * s for s in scale] for share in (0.7, 0.8, 1.0)]

    facts = {ROUGHNESS: {"all": wide(every), "assets": {asset: wide(by) for asset, by in assets.items()}}}
    return dataclasses.replace(model, facts={**model.facts, **facts})


def grown(candidate: Bundle, before: Bundle) -> Roughening:
    found = roughened(anchored(candidate, before))
    assert found is not None
    return found


def test_an_asset_is_compared_with_how_rough_it_was_first(model: Bundle) -> None:
    first = rough(model, 0.1, a=0.1, b=0.2)
    second = anchored(rough(model, 0.1, a=0.15, b=0.1, c=0.5), first)
    third = anchored(rough(model, 0.1, a=0.2, c=0.8), second)
    for candidate, asset, factor in ((second, "a", 1.5), (third, "a", 2.0)):
        found = roughened(candidate)
        assert found is not None
        assert (found.asset, found.factor) == (asset, pytest.approx(factor))
        assert found.version == first.version
    found = grown(rough(model, 0.1, a=0.1, b=0.2, c=2.0), third)
    assert (found.asset, found.factor) == ("c", pytest.approx(4.0))
    assert (
        str(found) == f"Pressure of c changes 4.0 times as much from row to row as for model {first.version}"
    )
    assert Bundle.from_bytes(third.to_bytes()).facts[ANCHOR] == third.facts[ANCHOR]


def test_all_rows_count_where_no_two_assets_are_known(model: Bundle) -> None:
    """Of a fleet they would be rougher for a rough asset that has come."""
    found = grown(rough(model, 0.5, a=0.1, b=0.1), rough(model, 0.1, a=0.1, b=0.1))
    assert found.factor == pytest.approx(1.0)
    for one in ({}, {"a": 0.1}):
        found = grown(rough(model, 0.5, **one), rough(model, 0.1, **one))
        assert (found.asset, found.factor) == ("", pytest.approx(5.0))
        assert str(found).startswith("Pressure changes 5.0 times as much")


def test_a_sensor_that_was_still_is_not_rough_because_its_last_digit_moves(model: Bundle) -> None:
    for before, after, factor in ((0.0, 0.01, 1.0), (0.0, 0.05, 3.5), (None, 9.0, 1.0), (0.1, None, 1.0)):
        assert grown(rough(model, after), rough(model, before)).factor == pytest.approx(factor)


def test_a_sensor_is_rougher_where_all_quantiles_have_grown(model: Bundle) -> None:
    before, after = rough(model, 0.1), rough(model, 0.1)
    for of in (0, 1, 2):
        more = [list(row) for row in before.facts[ROUGHNESS]["all"]]
        more[of] = [5.0 * size for size in more[of]]
        after.facts[ROUGHNESS]["all"] = more
        assert grown(after, before).factor == pytest.approx(1.0)


def test_a_machine_that_runs_more_often_is_not_rougher() -> None:
    rng = np.random.default_rng(0)

    def changes(share: float) -> list[list[float | None]]:
        runs = np.arange(4_000) % 400 < 400 * share
        found = roughness(
            [Segment("p", 0, rng.normal(0.0, np.where(runs, 1.0, 0.1))[:, None])], DAY_NS // 720
        )
        return cast(list[list[float | None]], found["all"])

    before, after = np.array(changes(0.08), float), np.array(changes(0.4), float)
    assert (after / before)[:2].min() > 2.0  # all but the last are of other states of the machine now
    assert (after / before).min() < ROUGHNESS_LIMIT


def test_models_of_before_roughness_was_kept_are_not_compared(model: Bundle) -> None:
    old = dataclasses.replace(model, facts={name: f for name, f in model.facts.items() if name != ROUGHNESS})
    assert roughened(anchored(model, old)) is None
    assert roughened(anchored(old, model)) is None
    found = grown(rough(model, 0.2), anchored(rough(model, 0.1), anchored(old, old)))
    assert found.factor == pytest.approx(2.0)


def test_a_model_that_people_put_in_force_against_the_gate_begins_a_line(model: Bundle) -> None:
    def decided(bundle: Bundle, *, promoted: bool) -> Bundle:
        return dataclasses.replace(bundle, facts={**bundle.facts, "decision": {"promoted": promoted}})

    second = anchored(rough(model, 0.4), rough(model, 0.1))
    first = second.facts[ANCHOR]["version"]
    passed, refused = (decided(second, promoted=promoted) for promoted in (True, False))
    found = grown(rough(model, 0.5), passed)
    assert (found.factor, found.version) == (pytest.approx(5.0), first)
    found = grown(rough(model, 0.5), refused)
    assert (found.factor, found.version) == (pytest.approx(1.25), refused.version)
    assert anchored(model, refused).facts[ANCHOR]["mean"] == refused.models.scaler.mean.tolist()


def test_roughness_is_of_changes_between_neighbouring_rows_of_an_asset() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((1_440, 3)).cumsum(0)
    noise[:, 2] = np.where(np.arange(1_440) < 99, np.arange(1_440), 99)  # 99 changes, all of one
    quiet, loud = noise.copy(), 3.0 * noise
    quiet[:70] *= 1_000.0  # a false alarm that was learned: 5 % of the rows
    history = [
        Segment("b", 0, loud[:700]),
        Segment("a", 0, quiet),
        Segment("b", 900, loud[700:] + 1e6),  # what lies between is no change
        Segment("c", 0, noise[:1_439]),
        Segment("d", 0, np.full((1_440, 3), np.nan)),
    ]
    found = roughness(history, MINUTE)
    assert list(found["assets"]) == ["a", "b", "d"]
    assert found["assets"]["d"] == [[None] * 3] * 3
    usual = np.array([1.150, 1.645])  # of a Gaussian within 75 and 90 %
    for asset, times in (("a", 1.0), ("b", 3.0)):
        sizes = np.array(found["assets"][asset], float)
        assert sizes[:2, :2] == pytest.approx(np.outer(times * usual, [1.0, 1.0]), rel=0.2)
    assert found["assets"]["a"][0][2] is None
    assert found["all"][0][2] == 3.0  # of a, b and c together there are enough
    huge = [Segment("a", 0, np.array([[1e308], [-1e308]] * 720))]
    assert roughness(huge, MINUTE)["all"] == [[None], [None], [None]]
