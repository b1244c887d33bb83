from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from daemon.alarm import episodes, firing
from daemon.budget import Budget
from daemon.domain import AlarmPolicy, Floats, ModelSettings, Segment
from daemon.model.anchor import ANCHOR, ANCHOR_DAYS, anchored
from daemon.model.bundle import Bundle
from daemon.model.decision import IN_WORDS
from daemon.model.faults import GATE_KINDS, Fault, FaultKind, injected_faults
from daemon.model.promotion import (
    CALLED_NORMAL,
    RECALL,
    ROUGHNESS_LIMIT,
    gate,
    hits,
    least_recall,
    lost_faults,
    recall,
    recall_anchored,
    scores_of,
    smallest,
    unwatched,
)
from tests.model.conftest import machine, trained

HELD_OUT = [Segment("pump-1", 5_000, machine(700, 21))]
SETTINGS = ModelSettings(kind="ppca")


def judge(candidate: Bundle, incumbent: Bundle | None = None) -> tuple[bool, str, dict[str, float]]:
    decision = gate(candidate, incumbent, HELD_OUT, AlarmPolicy(), Budget(24.0))
    assert "\n" not in decision.reason
    return decision.promoted, decision.reason, dict(decision.figures)


@pytest.fixture(scope="module")
def incumbent() -> Bundle:
    return trained([Segment("pump-1", 0, machine(1_500, 20))], SETTINGS)


def test_faults_are_the_same_for_every_model_and_leave_the_lead_alone() -> None:
    a, b = (injected_faults(HELD_OUT, 16, 16) for _ in range(2))
    assert len(a) == 30 * len(GATE_KINDS)
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        homes = [HELD_OUT[0].values[i : i + 32] for i in range(700 - 31)]
        assert any(np.array_equal(one.values[:16], home[:16]) for home in homes)
        assert 3 not in one.sensors  # the sensor that stands still is spared


def test_each_kind_of_fault_is_found_at_its_rows() -> None:
    """Beside the rows that it was made from; sizes are 2 to 8 standard deviations of the held-out rows."""
    rows = HELD_OUT[0].values
    mean, sd = rows.mean(0), rows.std(0)
    for fault in injected_faults(HELD_OUT, 16, 8):
        (start,) = (i for i in range(700 - 23) if np.array_equal(fault.values[:16], rows[i : i + 16]))
        before, late = rows[start + 16 : start + 24], fault.values[16:]
        c = fault.sensors[0]
        change = (late[:, c] - before[:, c]) / sd[c]
        size = abs(change).max()
        match fault.kind:
            case FaultKind.SPIKE:
                assert 2.0 <= size <= 8.0
                assert (change[1:] == 0.0).all()
            case FaultKind.SHIFT:
                assert 2.0 <= size <= 8.0
                assert change == pytest.approx(change[0])
            case FaultKind.DRIFT:
                assert 2.0 <= size <= 8.0
                assert change == pytest.approx(np.linspace(0.0, change[-1], 8))
            case FaultKind.STUCK:
                assert (late[:, c] == rows[start + 15, c]).all()
            case FaultKind.NOISE:
                assert 0.5 <= change.std() <= 12.0
            case FaultKind.LAG:
                late_by = [k for k in range(2, 9) if (late[:, c] == rows[start + 16 - k :, c][:8]).all()]
                assert len(late_by) == 1
            case FaultKind.SWAP:
                other = fault.sensors[1]
                for mine, theirs in ((c, other), (other, c)):
                    found = (late[:, mine] - mean[mine]) / sd[mine]
                    assert found == pytest.approx((before[:, theirs] - mean[theirs]) / sd[theirs])
        untouched = [i for i in range(4) if i not in fault.sensors]
        np.testing.assert_array_equal(late[:, untouched], before[:, untouched])


def test_short_or_lifeless_rows_hold_no_faults() -> None:
    assert injected_faults([Segment("a", 0, machine(20))], 16, 16) == []
    assert injected_faults([Segment("a", 0, np.full((100, 2), 1.0))], 16, 16) == []
    single = injected_faults([Segment("a", 0, machine(100)[:, :1])], 16, 16)
    assert {fault.kind for fault in single} == set(GATE_KINDS) - {FaultKind.SWAP}


def test_recall_is_per_kind(incumbent: Bundle) -> None:
    shares = recall(hits(incumbent.detector(), injected_faults(HELD_OUT, 16, 16)))
    assert set(shares) == {*(kind.value for kind in GATE_KINDS), "all"}
    assert 0.5 < shares["all"] <= 1.0
    assert shares["all"] == pytest.approx(np.mean([v for k, v in shares.items() if k != "all"]))


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        # from the largest size, 10, down: x found
        ("xxxxxxxxxx", 1.0),
        ("xxxxxxxx..", 1.0),  # eight of ten
        ("xxxxx.....", 5.0),  # five of six are found, of seven less than 80 %
        ("xxxx......", 6.0),
        ("xxx.......", None),
        (".xxxxxxxxx", 1.0),
    ],
)
def test_the_smallest_size_of_which_enough_are_found(marks: str, expected: float | None) -> None:
    values = np.zeros((4, 1))
    faults = [Fault(FaultKind.SHIFT, "a", values, 2, (0,), (), float(size)) for size in range(10, 0, -1)]
    found = {"shift": [mark == "x" for mark in marks], "stuck": [True] * 10}
    assert smallest(faults, found) == ({} if expected is None else {"shift": expected})


def verdict(lost: int, gained: int, both: int) -> bool:
    mine = [False] * lost + [True] * gained + [True] * both
    theirs = [True] * lost + [False] * gained + [True] * both
    lost_more, most = lost_faults({"spike": mine}, {"spike": theirs})
    return lost_more > most


@pytest.mark.parametrize(
    ("lost", "gained", "of", "expected"),
    [
        (4, 0, 100, False),  # 2 for the margin and 2 for chance
        (5, 0, 100, True),
        (11, 4, 100, True),
        (11, 5, 100, False),  # 2 + sqrt(16)
        (0, 50, 100, False),
        (24, 0, 1_000, False),  # 20 + sqrt(24)
        (26, 0, 1_000, True),
    ],
)
def test_a_candidate_loses_beyond_two_points_and_chance(
    lost: int, gained: int, of: int, expected: bool
) -> None:
    assert verdict(lost, gained, of - lost - gained) is expected


@pytest.mark.parametrize("hop", [3, 4])
def test_scores_are_of_the_rows_that_the_stream_judges(incumbent: Bundle, hop: int) -> None:
    """Those whose number in the grid is a multiple of the hop, wherever the segment begins."""
    for first_row in range(5_000, 5_000 + hop):
        scores = scores_of(incumbent.detector(), Segment("pump-1", first_row, machine(60, 21)), hop)
        judged = first_row + np.flatnonzero(np.isfinite(scores))
        assert judged.tolist() == [row for row in range(first_row + 15, first_row + 60) if row % hop == 0]


# ------------------------------------------------------------------ episodes
def opening(bundle: Bundle, count: int) -> Bundle:
    """The bundle with a threshold at which it opens so many episodes on the held-out rows."""
    scores = scores_of(bundle.detector(), HELD_OUT[0])
    for score in sorted(scores[np.isfinite(scores)], reverse=True):
        threshold = score * (1 - 1e-9)
        if episodes(firing(scores, threshold, 0.9 * threshold, AlarmPolicy())) == count:
            calibration = dataclasses.replace(
                bundle.calibration, threshold=threshold, closing=0.9 * threshold, jump_limit=np.full(4, 1e6)
            )
            return dataclasses.replace(bundle, calibration=calibration)
    raise AssertionError(f"no threshold gives {count} episodes")


def silent(bundle: Bundle) -> Bundle:
    calibration = dataclasses.replace(bundle.calibration, threshold=1e6, jump_limit=np.full(4, 1e6))
    return dataclasses.replace(bundle, calibration=calibration)


def allowing(bundle: Bundle, count: float) -> Budget:
    """A budget that allows ``count`` episodes on the held-out rows, with two standard deviations for chance."""
    days = gate(bundle, None, HELD_OUT, AlarmPolicy(), Budget(24.0)).figures["days"]
    return Budget((math.sqrt(1.0 + count) - 1.0) ** 2 / days)  # x + 2 sqrt(x) = count


@pytest.mark.parametrize(
    ("allowed", "promoted"), [(9.5, True), (9.001, True), (8.999, False), (5.0, False), (30.0, True)]
)
def test_more_episodes_than_budget_and_chance_allow_are_refused(
    incumbent: Bundle, allowed: float, promoted: bool
) -> None:
    decision = gate(opening(incumbent, 10), None, HELD_OUT, AlarmPolicy(), allowing(incumbent, allowed))
    assert decision.figures["episodes"] == 10
    assert decision.promoted is promoted
    assert promoted or "budgeted" in decision.reason


@pytest.mark.parametrize(
    ("mine", "theirs", "promoted"),
    [
        (10, 7, False),  # 1.25 * 7 = 8.75
        (10, 8, True),
        (20, 15, False),
        (20, 16, True),
        (3, 1, False),
        (3, 2, True),  # one more may be chance
        (1, 0, True),
    ],
)
def test_the_episode_beyond_the_budget_takes_an_incumbent_that_opens_about_as_many(
    incumbent: Bundle, mine: int, theirs: int, promoted: bool
) -> None:
    before = silent(incumbent) if theirs == 0 else opening(incumbent, theirs)
    budget = allowing(incumbent, mine - 0.5)
    decision = gate(opening(incumbent, mine), before, HELD_OUT, AlarmPolicy(), budget)
    assert (decision.figures["episodes"], decision.figures["incumbent_episodes"]) == (mine, theirs)
    assert decision.promoted is promoted, decision.reason
    assert promoted or decision.reason == f"{mine} episodes on held-out normal rows, the incumbent {theirs}"
    assert decision.refused_by == ("" if promoted else "incumbent_episodes")


def test_episodes_within_the_budget_pass_whatever_the_incumbent_opens(incumbent: Bundle) -> None:
    """The incumbent's own alarms were left out of the rows, so that it opens hardly any on them."""
    candidate, budget = opening(incumbent, 10), allowing(incumbent, 10.5)
    decision = gate(candidate, silent(incumbent), HELD_OUT, AlarmPolicy(), budget)
    assert decision.promoted, decision.reason


def test_the_days_that_were_scored_do_not_depend_on_the_hop(incumbent: Bundle) -> None:
    days = [
        gate(incumbent, None, HELD_OUT, AlarmPolicy(), Budget(24.0), hop).figures["days"] for hop in (1, 5)
    ]
    assert days == [685 / 1440, 685 / 1440]


# ------------------------------------------------------------------ candidates and incumbents
def test_the_first_model_passes(incumbent: Bundle) -> None:
    promoted, reason, figures = judge(incumbent)
    assert promoted, reason
    assert figures["active_units"] >= 2


def test_a_healthy_retrain_is_promoted(incumbent: Bundle) -> None:
    healthy = trained([Segment("pump-1", 0, machine(1_500, 22))], SETTINGS)
    promoted, reason, figures = judge(healthy, incumbent)
    assert promoted, (reason, figures)


def test_an_accepted_regime_that_the_incumbent_alarms_on_is_learned(incumbent: Bundle) -> None:
    """The incumbent finds every fault there, because it is alarmed before any of them."""

    def faster(seed: int, rows: int) -> Floats:
        values = machine(rows, seed)
        values[:, 0] += 2.0 * np.nanstd(values[:, 0])
        return values

    rows = [Segment("pump-1", 0, machine(1_500, 22)), Segment("pump-2", 0, faster(24, 1_500))]
    held_out = [*HELD_OUT, Segment("pump-2", 5_000, faster(25, 700))]
    candidate = trained(rows, SETTINGS)
    decision = gate(candidate, incumbent, held_out, AlarmPolicy(), Budget(24.0))
    assert (decision.promoted, decision.refused_by) == (False, "faults_lost")  # nobody called it normal
    (lost,) = [rule for rule in decision.rules if rule.name == "faults_lost"]
    assert decision.reason.endswith(f": {lost.figure} fewer, at most {lost.limit:.0f} allowed")
    # Each rule that the gate knows has words of its own.
    assert {rule.name for rule in decision.rules} <= IN_WORDS.keys()
    candidate = dataclasses.replace(candidate, facts={**candidate.facts, CALLED_NORMAL: True})
    decision = gate(candidate, incumbent, held_out, AlarmPolicy(), Budget(24.0))
    assert decision.promoted, decision.reason
    assert decision.figures["faults_left_out"] > 50


def test_a_sensor_that_either_model_sets_aside_has_no_faults(incumbent: Bundle) -> None:
    facts = {**incumbent.facts, "levels_of_counters": ["Pressure"]}
    assert unwatched(incumbent) == set()
    assert unwatched(dataclasses.replace(incumbent, facts=facts)) == {0}
    faults = injected_faults(HELD_OUT, 16, 16, left_out={0})
    assert {c for f in faults for c in f.sensors} == {1, 2}
    assert all(np.isnan(f.values[:, 0]).all() for f in faults)
    assert np.isfinite(HELD_OUT[0].values).all()
    facts["levels_of_counters"] = ["Pressure", "Current", "Flow"]
    aside = dataclasses.replace(incumbent, facts=facts)
    for pair in ((aside, incumbent), (incumbent, aside)):
        assert judge(*pair)[1].startswith("nothing to compare on")


def test_a_healthy_vae_is_promoted_over_ppca(incumbent: Bundle, bundle: Bundle) -> None:
    promoted, reason, figures = judge(bundle, incumbent)
    assert promoted, (reason, figures)
    assert figures["likelihood"] >= figures["likelihood_ppca"] - 0.05


def poisoned(share: float) -> Floats:
    values = machine(1_500, 23)
    rng = np.random.default_rng(0)
    bad = int(share * len(values))
    values[-bad:, :3] += rng.standard_normal((bad, 3)) * [60.0, 2.0, 1_500.0]
    return values


def test_a_model_that_learned_the_fault_is_refused(incumbent: Bundle) -> None:
    promoted, reason, figures = judge(trained([Segment("pump-1", 0, poisoned(0.4))], SETTINGS), incumbent)
    assert not promoted
    assert "injected faults" in reason
    assert figures["recall_all"] < figures["incumbent_recall_all"] - 0.02


def test_every_rule_shows_its_figure_and_its_limit_also_after_one_has_refused(incumbent: Bundle) -> None:
    calibration = dataclasses.replace(incumbent.calibration, threshold=1.5, closing=1.2)
    jumpy = anchored(dataclasses.replace(incumbent, calibration=calibration), incumbent)
    jumpy = recall_anchored(jumpy, gate(jumpy, incumbent, HELD_OUT, AlarmPolicy(), Budget(24.0)))
    decision = gate(jumpy, incumbent, HELD_OUT, AlarmPolicy(), Budget(24.0))
    rules = {rule.name: rule for rule in decision.rules}
    names = [
        "finite",
        "active_units",
        "anchor_distance",
        "anchor_roughness",
        "episodes",
        "incumbent_episodes",
        "golden_lost",
        "faults",
        "faults_lost",
        "anchor_recall",
    ]
    assert list(rules) == names
    assert [name for name in names if not rules[name].passed] == ["episodes", "incumbent_episodes"]
    assert decision.refused_by == "episodes"
    for rule in rules.values():
        inside = rule.figure >= rule.limit if rule.at_least else rule.figure <= rule.limit
        assert rule.passed is inside
    kinds = {kind.value for kind in GATE_KINDS}
    assert {f"incumbent_recall_{kind}" for kind in kinds} < decision.figures.keys()
    kept = dataclasses.replace(jumpy, facts={**jumpy.facts, "decision": decision.facts()})
    assert Bundle.from_bytes(kept.to_bytes()).facts["decision"] == decision.facts()


def test_a_jumpy_model_is_refused(incumbent: Bundle) -> None:
    jumpy = dataclasses.replace(
        incumbent, calibration=dataclasses.replace(incumbent.calibration, threshold=1.5, closing=1.2)
    )
    promoted, reason, _ = judge(jumpy, incumbent)
    assert not promoted
    assert "budgeted" in reason


def test_a_collapsed_or_broken_model_is_refused(incumbent: Bundle) -> None:
    collapsed = dataclasses.replace(incumbent, facts={**incumbent.facts, "active_units": 0})
    assert judge(collapsed)[1].startswith("0 active latents")
    broken = dataclasses.replace(
        incumbent, models=dataclasses.replace(incumbent.models, sigma=np.full(4, np.nan))
    )
    assert judge(broken)[1] == "not finite: sigma"


def test_a_calibration_that_is_not_finite_is_refused_by_name(incumbent: Bundle) -> None:
    calibration = incumbent.calibration
    for name, changes in (
        ("residual_rms", {"residual_rms": np.full(4, np.nan)}),
        ("threshold", {"threshold": math.inf}),
        ("threshold", {"threshold": math.nan}),
    ):
        broken = dataclasses.replace(incumbent, calibration=dataclasses.replace(calibration, **changes))  # type: ignore[arg-type]
        assert judge(broken)[1] == f"not finite: {name}"


@pytest.mark.parametrize(("active", "promoted"), [(1, False), (2, True)])
def test_two_active_latents_are_enough(incumbent: Bundle, active: int, promoted: bool) -> None:
    facts = {**incumbent.facts, "active_units": active}
    assert judge(dataclasses.replace(incumbent, facts=facts))[0] is promoted


@pytest.mark.parametrize("windows", [(8, 16), (16, 8)])
def test_models_of_two_windows_meet_the_same_faults(windows: tuple[int, int]) -> None:
    history = [Segment("pump-1", 0, machine(1_500, 20))]
    candidate, incumbent = (trained(history, SETTINGS, window=window) for window in windows)
    _, _, figures = judge(candidate, incumbent)
    assert 0.6 < figures["recall_all"] < 0.9
    assert 0.6 < figures["incumbent_recall_all"] < 0.9


def test_a_vae_worse_than_its_linear_part_is_refused(bundle: Bundle) -> None:
    vae = bundle.models.vae
    assert vae is not None
    weights = {**vae.weights, "output.bias": vae.weights["output.bias"] + 1.0}
    spoilt = dataclasses.replace(vae, weights=weights)
    worse = dataclasses.replace(bundle, models=dataclasses.replace(bundle.models, vae=spoilt))
    decision = gate(worse, None, HELD_OUT, AlarmPolicy(), Budget(1e9))
    assert not decision.promoted
    assert "likelihood" in decision.reason


def test_a_vae_is_measured_against_its_linear_part_with_a_margin(bundle: Bundle) -> None:
    """Its spread is widened step by step, so that its predictions become less precise."""
    gaps = {}
    for factor in np.geomspace(1.0, 4.0, 30):
        models = dataclasses.replace(bundle.models, sigma=bundle.models.sigma * factor)
        worse = dataclasses.replace(bundle, models=models)
        decision = gate(worse, None, HELD_OUT, AlarmPolicy(), Budget(1e9))
        figures = decision.figures
        gaps[figures["likelihood"] - figures["likelihood_ppca"]] = decision.promoted
        # One deviation of all sensors, as of pPCA, and those of each cost some tenths of a nat.
        assert abs(figures["likelihood_ppca"] - bundle.facts["likelihood_ppca"]) < 1.0
    assert gaps == {gap: gap >= -0.05 for gap in gaps}
    for low, high in ((-0.5, -0.05), (-0.05, 0.0), (0.0, 0.05)):
        assert any(low < gap < high for gap in gaps)


def test_a_slow_ramp_is_not_learned_in_small_steps() -> None:
    """Every retraining contains a little more of it, and little that is new to the incumbent."""
    step = np.array([9.0, 0.0, 0.0, 0.0])  # .4 of Pressure's standard deviation
    held_out = machine(700, 21)

    def line(limit: int) -> list[str]:
        current = trained([Segment("pump-1", 0, machine(1_500, 20))], SETTINGS)
        assert current.calibration.days >= ANCHOR_DAYS
        said = []
        for i in range(1, limit):
            fresh = trained([Segment("pump-1", 0, machine(1_500, 20 + i) + i * step)], SETTINGS)
            candidate = anchored(fresh, current)
            held = [Segment("pump-1", 5_000, held_out + i * step)]
            decision = gate(candidate, current, held, AlarmPolicy(), Budget(24.0))
            said.append(decision.reason)
            current = candidate if decision.promoted else current
        return said

    said = line(10)
    assert said[:3] == ["not worse than the incumbent"] * 3  # small moves are what retraining is for
    assert said[-1].startswith("Pressure of pump-1 has moved")
    assert not any("\n" in reason for reason in said)


def test_noise_that_grows_is_not_learned_in_small_steps() -> None:
    """Each step is small to the incumbent, whose limits are in units of what its rows scatter, as the faults are."""
    rng = np.random.default_rng(3)

    def noisy(rows: int, seed: int, factor: float) -> list[Segment]:
        values = machine(rows, seed)
        values[:, 2] += (
            60.0 * math.sqrt(factor**2 - 1.0) * rng.standard_normal(rows)
        )  # Flow's own noise is 60
        return [Segment("pump-1", 0, values)]

    current = trained(noisy(1_500, 20, 1.0), SETTINGS)
    passed = []
    for i in range(1, 6):
        factor = 1.3**i
        candidate = anchored(trained(noisy(1_500, 20 + i, factor), SETTINGS), current)
        decision = gate(candidate, current, noisy(700, 40, factor), AlarmPolicy(), Budget(24.0))
        rule = next(rule for rule in decision.rules if rule.name == "anchor_roughness")
        assert rule.figure == pytest.approx(factor, rel=0.1)
        passed.append(rule.passed)
        current = candidate  # also one that was refused: only the beginning is of the anchor
    assert 1.3**2 < ROUGHNESS_LIMIT < 1.3**3
    assert passed == [True, True, False, False, False]
    assert decision.refused_by == "anchor_roughness"
    assert decision.reason.startswith("Flow of pump-1 changes 3.")
    assert "times as much from row to row as for model" in decision.reason


def test_recall_does_not_fall_a_little_at_every_retraining(incumbent: Bundle) -> None:
    """Each candidate finds all that the incumbent finds; the line of models began with one that found more."""
    first = anchored(incumbent, incumbent)
    decision = gate(first, incumbent, HELD_OUT, AlarmPolicy(), Budget(24.0))
    assert "anchor_recall" not in [rule.name for rule in decision.rules]  # there is none to compare with
    decision = dataclasses.replace(decision, figures={**decision.figures, "recall_all": 0.1})
    second = recall_anchored(first, decision)
    faults = {rule.name: rule.figure for rule in decision.rules}["faults"]
    share = decision.figures["incumbent_recall_all"]
    assert second.facts[ANCHOR][RECALL] == {"share": share, "faults": faults}
    assert Bundle.from_bytes(second.to_bytes()).facts[ANCHOR] == second.facts[ANCHOR]
    assert gate(second, first, HELD_OUT, AlarmPolicy(), Budget(24.0)).promoted
    for above, promoted in ((0.1, True), (0.1 + 2.0 * math.sqrt(0.25 / faults), False)):
        keener = {**second.facts[ANCHOR], RECALL: {"share": share + above, "faults": int(faults)}}
        third = dataclasses.replace(second, facts={**second.facts, ANCHOR: keener})
        assert anchored(incumbent, third).facts[ANCHOR][RECALL] == keener[RECALL]  # it is handed on
        decision = gate(third, first, HELD_OUT, AlarmPolicy(), Budget(24.0))
        assert decision.promoted is promoted
        assert recall_anchored(third, decision) is third
        assert decision.refused_by == ("" if promoted else "anchor_recall")
        assert promoted or "at the beginning of its line it was" in decision.reason


def test_what_people_called_normal_begins_recall_anew(incumbent: Bundle) -> None:
    first = anchored(incumbent, incumbent)
    keener = {**first.facts[ANCHOR], RECALL: {"share": 0.95, "faults": 200}}
    candidate = dataclasses.replace(first, facts={**first.facts, ANCHOR: keener, CALLED_NORMAL: True})
    decision = gate(candidate, incumbent, HELD_OUT, AlarmPolicy(), Budget(24.0))
    figures = decision.figures
    decision = dataclasses.replace(decision, figures={**figures, "incumbent_recall_all": 0.9})
    begun = recall_anchored(candidate, decision).facts[ANCHOR][RECALL]
    assert begun["share"] == figures["recall_all"] < 0.95
    rule = decision.rules[-1]
    assert rule.limit == least_recall(0.95, 200, begun["faults"], 0.2)


@pytest.mark.parametrize(
    ("share", "of", "now", "margin", "expected"),
    [
        (1.0, 200, 200, 0.02, 0.9),
        (0.5, 200, 200, 0.02, 0.35),  # by chance the two shares differ by .05
        (0.5, 200, 50, 0.02, 0.4 - math.sqrt(0.25 / 40.0)),
        (1.0, 200, 200, 0.2, 0.8),
    ],
)
def test_the_least_recall_is_the_anchors_but_for_a_margin_and_chance(
    share: float, of: int, now: int, margin: float, expected: float
) -> None:
    assert least_recall(share, of, now, margin) == pytest.approx(expected)


def test_no_recall_is_kept_without_an_anchor_or_faults(incumbent: Bundle) -> None:
    decision = gate(incumbent, incumbent, HELD_OUT, AlarmPolicy(), Budget(24.0))
    assert recall_anchored(incumbent, decision) is incumbent
    first = anchored(incumbent, incumbent)
    assert recall_anchored(first, gate(first, incumbent, [], AlarmPolicy(), Budget(24.0))) is first


def test_a_model_of_less_than_a_day_is_no_anchor_whatever_the_budget(incumbent: Bundle) -> None:
    young = trained([Segment("pump-1", 0, machine(600, 20))], SETTINGS)
    assert young.calibration.days < 1.0 < incumbent.calibration.days
    rare = dataclasses.replace(
        incumbent.calibration, provisional=True
    )  # a day where one episode takes a week
    assert anchored(young, dataclasses.replace(incumbent, calibration=rare)).facts["anchor"]
    assert "anchor" not in anchored(incumbent, young).facts
    second = anchored(incumbent, incumbent)
    assert anchored(young, second).facts["anchor"]["version"] == incumbent.version
    assert Bundle.from_bytes(second.to_bytes()).facts["anchor"] == second.facts["anchor"]


@pytest.mark.parametrize(
    "scraps",
    [
        [Segment("pump-1", 5_000 + 100 * i, machine(31, i)) for i in range(30)],  # alarms all along
        [Segment("pump-1", 5_000, np.full((700, 4), 7.0))],
        [],
    ],
)
def test_no_candidate_is_promoted_without_rows_to_compare_on(
    incumbent: Bundle, scraps: list[Segment]
) -> None:
    candidate = trained([Segment("pump-1", 0, poisoned(0.4))], SETTINGS)
    silent_one = silent(candidate)  # whatever it is: not one episode
    decision = gate(silent_one, incumbent, scraps, AlarmPolicy(), Budget(24.0))
    assert not decision.promoted
    assert decision.reason.startswith("nothing to compare on: no run of 32 held-out normal rows")
    assert gate(silent_one, None, scraps, AlarmPolicy(), Budget(24.0)).promoted


@pytest.mark.parametrize("blind", ["candidate", "anchor"])
def test_a_sensor_unseen_by_either_model_has_not_moved(blind: str) -> None:
    seeing, holed = machine(1_500, 20), machine(1_500, 22)
    holed[:, 2] = np.nan
    first, second = (holed, seeing) if blind == "anchor" else (seeing, holed)
    current = trained([Segment("pump-1", 0, first)], SETTINGS)
    candidate = anchored(trained([Segment("pump-1", 0, second)], SETTINGS), current)
    _, _, figures = judge(candidate, current)
    assert figures["anchor_distance"] < 1.0
