from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from daemon.domain import AlarmPolicy, Budget, Floats, ModelSettings, Segment
from daemon.model.bundle import Bundle
from daemon.model.promotion import FaultKind, anchored, gate, hits, injected_faults, recall
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
    assert len(a) == 30 * len(FaultKind)
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        homes = [HELD_OUT[0].values[i : i + 32] for i in range(700 - 31)]
        assert any(np.array_equal(one.values[:16], home[:16]) for home in homes)
        assert 3 not in one.sensors  # the sensor that stands still is spared


def test_short_or_lifeless_rows_hold_no_faults() -> None:
    assert injected_faults([Segment("a", 0, machine(20))], 16, 16) == []
    assert injected_faults([Segment("a", 0, np.full((100, 2), 1.0))], 16, 16) == []
    single = injected_faults([Segment("a", 0, machine(100)[:, :1])], 16, 16)
    assert {fault.kind for fault in single} == set(FaultKind) - {FaultKind.SWAP}


def test_recall_is_per_kind(incumbent: Bundle) -> None:
    shares = recall(hits(incumbent.detector(), injected_faults(HELD_OUT, 16, 16)))
    assert set(shares) == {*(kind.value for kind in FaultKind), "all"}
    assert 0.5 < shares["all"] <= 1.0
    assert shares["all"] == pytest.approx(np.mean([v for k, v in shares.items() if k != "all"]))


def test_the_first_model_passes(incumbent: Bundle) -> None:
    promoted, reason, figures = judge(incumbent)
    assert promoted, reason
    assert figures["active_units"] >= 2


def test_a_healthy_retrain_is_promoted(incumbent: Bundle) -> None:
    healthy = trained([Segment("pump-1", 0, machine(1_500, 22))], SETTINGS)
    promoted, reason, figures = judge(healthy, incumbent)
    assert promoted, (reason, figures)


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


def test_a_jumpy_model_is_refused(incumbent: Bundle) -> None:
    jumpy = dataclasses.replace(
        incumbent, calibration=dataclasses.replace(incumbent.calibration, threshold=1.5)
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


def test_a_vae_worse_than_its_linear_part_is_refused(bundle: Bundle) -> None:
    vae = bundle.models.vae
    assert vae is not None
    weights = {**vae.weights, "output.bias": vae.weights["output.bias"] + 1.0}
    spoilt = dataclasses.replace(vae, weights=weights)
    worse = dataclasses.replace(bundle, models=dataclasses.replace(bundle.models, vae=spoilt))
    decision = gate(worse, None, HELD_OUT, AlarmPolicy(), Budget(1e9))
    assert not decision.promoted
    assert "likelihood" in decision.reason


def test_a_slow_ramp_is_not_learned_in_small_steps() -> None:
    """Every retraining sees a little more of it, and nothing that the incumbent does not know."""
    step = np.array([9.0, 0.0, 0.0, 0.0])  # .4 of Pressure's standard deviation
    held_out = machine(700, 21)

    def line(limit: int) -> list[str]:
        current = trained([Segment("pump-1", 0, machine(1_500, 20))], SETTINGS)
        assert not current.calibration.provisional
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
    assert said[-1].startswith("Pressure has moved")
    assert not any("\n" in reason for reason in said)


def test_a_provisional_model_is_no_anchor(incumbent: Bundle) -> None:
    young = trained([Segment("pump-1", 0, machine(600, 20))], SETTINGS)
    assert young.calibration.provisional
    assert "anchor" not in anchored(incumbent, young).facts
    second = anchored(incumbent, incumbent)
    assert anchored(young, second).facts["anchor"]["version"] == incumbent.version
    assert Bundle.from_bytes(second.to_bytes()).facts["anchor"] == second.facts["anchor"]
