"""Where an asset is beside the others of its fleet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.budget import Budget
from daemon.domain import AlarmPolicy, Floats, ModelSettings, Segment
from daemon.model.anchor import ANCHOR, MOST_NUMBERS, anchored
from daemon.model.apart import APART, SIZE, Departure, anchored_apart, departed, distances, standing
from daemon.model.bundle import Bundle
from daemon.model.decision import rule_in_words
from daemon.model.promotion import APART_LIMIT, gate
from tests.model.conftest import machine, trained

PERIOD = 600 * 10**9
DAY = 144  # rows
DAY_NS = DAY * PERIOD
NAMES = ("pump-0", "pump-1", "pump-2", "pump-3")


@pytest.fixture(scope="module")
def model() -> Bundle:
    return trained([Segment("pump-1", 0, machine(1_500, 20))], ModelSettings(kind="ppca"))


def pump(asset: int, first_day: int, *, load: float = 0.0, season: float = 0.0, days: int = 3) -> Floats:
    """(T, 4) a pump: two sensors of its load, one of the weather and less of the load, one of neither.

    Load and weather have a daily wave that all share. The load is also the asset's own, from hour to hour.
    """
    rng = np.random.default_rng([asset, first_day])
    t = 2.0 * np.pi * np.arange(days * DAY) / DAY
    own = np.repeat(rng.standard_normal((days, DAY // 6)), 6, axis=1)
    own = (own - own.mean(1, keepdims=True)).ravel()  # of a day it is nothing
    work, weather = load + np.sin(t) + 0.5 * own, season + 2.0 * np.sin(t - 0.5)
    noise = 0.1 * rng.standard_normal((days * DAY, 4))
    return 100.0 + noise + np.stack([3.0 * work, -2.0 * work, weather + 0.5 * work, 5.0 * noise[:, 3]], 1)


def fleet(
    first_day: int, of: Mapping[str, Floats] | None = None, names: Sequence[str] = NAMES
) -> list[Segment]:
    """The fleet from a day on, but for some pumps."""
    others = of or {}
    return [
        Segment(name, first_day * DAY, others.get(name, pump(i, first_day))) for i, name in enumerate(names)
    ]


def knowing(model: Bundle, history: Sequence[Segment]) -> Bundle:
    facts = {name: fact for name, fact in model.facts.items() if name != ANCHOR}
    return dataclasses.replace(model, facts={**facts, APART: standing(history, PERIOD)})


def succeeding(candidate: Bundle, incumbent: Bundle, let_in_ns: Mapping[str, int] | None = None) -> Bundle:
    return anchored_apart(anchored(candidate, incumbent), incumbent, let_in_ns or {})


def departure(model: Bundle, before: Sequence[Segment], after: Sequence[Segment]) -> Departure:
    found = departed(succeeding(knowing(model, after), knowing(model, before)))
    assert found is not None
    return found


def offset(asset: int, first_day: int, by: float, sensor: int = 2) -> Floats:
    values = pump(asset, first_day)
    values[:, sensor] += by * values[:, sensor].std()
    return values


def test_the_gate_refuses_what_one_asset_does_alone(model: Bundle) -> None:
    first, held_out = knowing(model, fleet(0)), [Segment("pump-1", 5_000, machine(700, 21))]
    for after, passed in ((fleet(10), True), (fleet(10, {"pump-1": offset(1, 10, 0.6)}), False)):
        candidate = succeeding(knowing(model, after), first)
        decision = gate(candidate, first, held_out, AlarmPolicy(), Budget(24.0))
        (rule,) = (rule for rule in decision.rules if rule.name == "anchor_apart")
        assert (rule.limit, rule.passed) == (APART_LIMIT, passed)
        assert rule.figure == decision.figures["anchor_apart"]
        assert decision.refused_by == ("" if passed else "anchor_apart")
        assert passed or decision.reason.startswith(f"{model.sensors[2]} of pump-1 has moved")
        said = rule_in_words(rule.name, rule.figure, rule.limit, at_least=rule.at_least)
        assert said.startswith("distance of an asset from the others, beside the anchor's: ")
    unknown = anchored(model, first)
    names = [rule.name for rule in gate(unknown, first, held_out, AlarmPolicy(), Budget(24.0)).rules]
    assert "anchor_distance" in names
    assert "anchor_apart" not in names


@pytest.mark.parametrize("assets", [3, 4])
def test_one_sensor_of_one_asset_that_moves_away_from_the_others_is_named(model: Bundle, assets: int) -> None:
    names = NAMES[:assets]
    first = fleet(0, names=names)
    found = departure(model, first, fleet(10, {"pump-1": offset(1, 10, 0.6)}, names))
    assert (found.sensor, found.asset) == (model.sensors[2], "pump-1")
    assert found.distance == pytest.approx(0.6, abs=0.1)
    assert found.distance > APART_LIMIT
    said = f"{model.sensors[2]} of pump-1 has moved {found.distance:.2f} standard deviations away from the other assets"
    assert str(found).startswith(said)
    assert departure(model, first, fleet(10, names=names)).distance < 0.5 * APART_LIMIT


def test_a_season_that_all_have_is_no_departure_also_of_machines_of_other_sizes(model: Bundle) -> None:
    size = {name: 0.5 + 0.5 * i for i, name in enumerate(NAMES)}

    def sized(first_day: int, season: float) -> list[Segment]:
        return fleet(first_day, {n: size[n] * pump(i, first_day, season=season) for i, n in enumerate(NAMES)})

    shared = departure(model, sized(0, 0.0), sized(10, 9.0))
    assert shared.distance < 0.5 * APART_LIMIT
    apart = {"pump-1": pump(1, 10, season=9.0)}  # the same weather, beside others that have none
    assert departure(model, fleet(0), fleet(10, apart)).distance > APART_LIMIT


def test_a_machine_that_is_loaded_otherwise_moves_along_its_relations(model: Bundle) -> None:
    busy = {"pump-3": pump(3, 10, load=0.5)}
    found = departure(model, fleet(0), fleet(10, busy))
    assert found.distance < 0.5 * APART_LIMIT
    moves = standing(fleet(10, busy), PERIOD)
    assert moves is not None
    first = knowing(model, fleet(0)).facts[APART]["assets"]["pump-3"]
    far = np.abs(np.array(moves["assets"]["pump-3"]["mean"]) - first["mean"]) / first["spread"]
    assert far[:2].min() > 2.0 * APART_LIMIT


def test_of_fewer_than_three_assets_or_days_nothing_is_known(model: Bundle) -> None:
    history = fleet(0, names=NAMES[:3])
    assert standing(history, PERIOD) is not None
    short = [*history[:2], Segment("pump-2", 0, history[2].values[: DAY - 1])]
    days = [dataclasses.replace(one, values=one.values[: 2 * DAY]) for one in history]
    holes = [
        Segment("pump-2", 5 * day * DAY, history[2].values[: DAY // 3]) for day in range(6)
    ]  # two days of rows
    for few in ([], history[:2], short, days, [*history[:2], *holes]):
        assert standing(few, PERIOD) is None
    # Nor where two of them only are known to both.
    others = [dataclasses.replace(one, asset=f"new-{one.asset}") for one in fleet(10, names=NAMES[1:])]
    later = [*fleet(10, {"pump-1": offset(1, 10, 9.0)}, NAMES[:2]), *others]
    assert departed(succeeding(knowing(model, later), knowing(model, fleet(0)))) is None


def test_no_more_is_kept_than_a_bundle_has_room_for() -> None:
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((3 * DAY, 71))
    assert MOST_NUMBERS < 101**2
    assert standing([Segment(name, 0, wide) for name in NAMES], PERIOD) is None
    many = [Segment(f"{i:05d}", 0, wide[:, :50]) for i in range(120)]
    found = standing(many, PERIOD)
    assert found is not None
    assert list(found["assets"]) == [one.asset for one in many[: MOST_NUMBERS // 100]]


def test_an_asset_is_compared_with_where_it_was_first_known(model: Bundle) -> None:
    """A ramp in steps that each are next to nothing; also of one that came later, and was away for a while."""
    current, passed = knowing(model, fleet(0, names=NAMES[:3])), []
    for step in range(1, 8):
        ramp = {"pump-3": offset(3, 10 * step, 0.1 * step)}
        names = NAMES[:3] if step == 4 else NAMES
        current = succeeding(knowing(model, fleet(10 * step, ramp, names)), current)
        found = departed(current)
        assert found is not None
        passed.append(found.distance <= APART_LIMIT)
    assert passed == [True, True, True, True, False, False, False]  # known since the first step
    assert (found.asset, found.distance) == ("pump-3", pytest.approx(0.6, abs=0.1))
    assert Bundle.from_bytes(current.to_bytes()).facts[ANCHOR] == current.facts[ANCHOR]


def test_a_machine_that_stood_still_for_some_of_the_days_has_not_moved(model: Bundle) -> None:
    idle = 95.0 + 0.1 * np.random.default_rng(0).standard_normal((3 * DAY, 4))
    rested = np.where((np.arange(3 * DAY) // DAY == 1)[:, None], idle, pump(3, 10))
    for last, limit in ((rested, 0.0), (idle, 1.0)):
        found = departed(succeeding(knowing(model, fleet(10, {"pump-3": last})), knowing(model, fleet(0))))
        assert found is not None
        assert found.distance >= limit
        assert (found.distance > APART_LIMIT) is (limit > 0)


def test_constant_sensors_are_not_placed_by_their_rounding(model: Bundle) -> None:
    def constant(value: float) -> list[Segment]:
        return [
            Segment(one.asset, one.first_row, np.where(np.arange(4) == 1, value, one.values))
            for one in fleet(0)
        ]

    then, now = standing(constant(0.1), PERIOD), standing(constant(0.2), PERIOD)
    assert then is not None
    assert now is not None
    assert distances(NAMES, then, now).max() < APART_LIMIT


def test_what_people_let_in_is_the_beginning_once_all_rows_are_newer(model: Bundle) -> None:
    """The model that learns a change first has rows of before it; where the asset is then is between the two."""
    changed = 21 * DAY_NS
    let_in = {"pump-1": changed + DAY_NS}
    half = np.concatenate([pump(1, 19)[: 2 * DAY], offset(1, 21, 1.5)[:DAY]])
    first = succeeding(knowing(model, fleet(10)), knowing(model, fleet(0)))
    second = succeeding(knowing(model, fleet(19, {"pump-1": half})), first, let_in)
    third = succeeding(knowing(model, fleet(30, {"pump-1": offset(1, 30, 1.5)})), second, let_in)
    fourth = succeeding(knowing(model, fleet(40, {"pump-1": offset(1, 40, 1.5)})), third, let_in)
    for candidate in (second, third, fourth):
        found = departed(candidate)
        assert found is not None
        assert found.distance < 0.5 * APART_LIMIT
    known = [set(one.facts[ANCHOR][APART]["assets"]) for one in (second, third, fourth)]
    assert known == [set(NAMES) - {"pump-1"}, set(NAMES) - {"pump-1"}, set(NAMES)]
    # Unasked it is refused, and so is what the others do meanwhile, and what it does later.
    for candidate, asset in (
        (succeeding(knowing(model, fleet(30, {"pump-1": offset(1, 30, 1.5)})), second), "pump-1"),
        (succeeding(knowing(model, fleet(30, {"pump-2": offset(2, 30, 1.0)})), second, let_in), "pump-2"),
        (succeeding(knowing(model, fleet(50, {"pump-1": offset(1, 50, 2.5)})), fourth, let_in), "pump-1"),
    ):
        found = departed(candidate)
        assert found is not None
        assert found.asset == asset
        assert found.distance > APART_LIMIT


def test_a_refused_model_that_people_put_in_force_is_where_its_line_begins(model: Bundle) -> None:
    refused = succeeding(knowing(model, fleet(10, {"pump-1": offset(1, 10, 1.5)})), knowing(model, fleet(0)))
    later = knowing(model, fleet(20, {"pump-1": offset(1, 20, 1.5)}))
    for promoted, limit in ((True, APART_LIMIT), (False, None)):
        facts = {**refused.facts, "decision": {"promoted": promoted}}
        found = departed(succeeding(later, dataclasses.replace(refused, facts=facts)))
        assert found is not None
        assert (found.distance > APART_LIMIT) is (limit is not None)


def test_a_line_of_models_that_kept_no_places_begins_to_keep_them(model: Bundle) -> None:
    old = dataclasses.replace(model, facts={n: f for n, f in model.facts.items() if n not in (APART, ANCHOR)})
    second = succeeding(knowing(model, fleet(10)), old)
    assert departed(second) is None
    third = succeeding(knowing(model, fleet(20, {"pump-1": offset(1, 20, 1.0)})), second)
    found = departed(third)
    assert found is not None
    assert (found.asset, found.version) == ("pump-1", old.version)
    assert departed(anchored(old, second)) is None
    young = dataclasses.replace(second, facts={n: f for n, f in second.facts.items() if n != ANCHOR})
    assert anchored_apart(young, old, {}) is young


def test_sensors_that_stand_still_or_are_silent_or_overflow_are_not_compared(model: Bundle) -> None:
    def odd(first_day: int, still: float, huge: float) -> list[Segment]:
        history = fleet(first_day)
        for one in history:
            one.values[:, 0] = still
            one.values[:, 1] = np.nan
            one.values[:, 3] = huge
        return history

    found = departure(model, odd(0, 7.0, 1e308), odd(10, 7.0, -1e308))
    assert found.distance < 0.5 * APART_LIMIT
    places = standing(odd(0, 7.0, 1e308), PERIOD)
    assert places is not None
    assert places["assets"]["pump-0"]["mean"][1] is places["assets"]["pump-0"]["mean"][3] is None
    changed = odd(10, 7.0, 1e308)
    changed[0].values[:, 0] = 8.0
    assert departure(model, odd(0, 7.0, 1e308), changed).distance < 0.5 * APART_LIMIT


def test_a_sensor_that_two_assets_have_is_not_compared(model: Bundle) -> None:
    """Nobody knows which of them has moved."""

    def without(first_day: int, of: Mapping[str, Floats] | None = None) -> list[Segment]:
        history = fleet(first_day, of)
        for one in history[2:]:
            one.values[:, 2] = np.nan
        return history

    found = departure(model, without(0), without(10, {"pump-1": offset(1, 10, 1.5)}))
    assert found.distance < 0.5 * APART_LIMIT


def placed(means: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Assets at these means, of spread one, whose sensors do not depend on each other and do not scatter."""
    C = len(means[0])
    assets = {
        f"p{i}": {"since_ns": 0, "mean": list(mean), "spread": [1.0] * C} for i, mean in enumerate(means)
    }
    return {"assets": assets, "weights": [np.zeros((C, C)).tolist()], "errors": [[0.0] * C] * 2}


@given(
    st.lists(st.lists(st.floats(-9, 9), min_size=2, max_size=2), min_size=3, max_size=6),
    st.lists(st.floats(-9, 9), min_size=2, max_size=2),
)
def test_what_all_move_by_adds_to_no_distance(moves: list[list[float]], shared: list[float]) -> None:
    names = [f"p{i}" for i in range(len(moves))]
    first = placed(np.zeros((len(moves), 2)).tolist())
    alone, together = (
        distances(names, first, placed((np.array(moves) + by).tolist()))
        for by in (np.zeros(2), np.array(shared))
    )
    assert (together <= alone + SIZE * np.ptp([*moves, [0.0, 0.0]], axis=0) + 1e-9).all()
    assert (together >= alone - SIZE * (np.abs(shared) + np.abs(moves).max(0)) - 1e-9).all()
    assert alone.max() <= np.ptp(np.array(moves), axis=0).max() + 1e-9


def test_what_days_scatter_is_no_departure(model: Bundle) -> None:
    """Each pump has a sensor with a course of its own: from day to day another level, as it comes."""

    def wandering(first_day: int) -> list[Segment]:
        history = fleet(first_day)
        for i, one in enumerate(history):
            rng = np.random.default_rng([7, i, first_day])
            one.values[:, 3] += np.repeat(0.5 * rng.standard_normal(3), DAY)
        return history

    far = np.array([departure(model, wandering(0), wandering(day)).distance for day in range(10, 90, 10)])
    places = [standing(wandering(day), PERIOD) for day in (0, 10, 20)]
    assert far.max() <= APART_LIMIT
    for one in places:
        assert one is not None
        assert one["errors"][0][3] == pytest.approx(0.4, abs=0.2)
