"""A whole drill on a history."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from daemon.domain import (
    AlarmPolicy,
    Segment,
)
from daemon.model.drill import (
    LADDER,
    DetectionChain,
    DrillPlan,
    drill,
)
from daemon.model.faults import FaultKind
from daemon.runtime.fire_drill import rules_of
from tests.fakes import CentreDetector
from tests.model.drill.conftest import STREAM


def test_a_drill_is_reproducible_and_injects_only_the_plan() -> None:
    detector = CentreDetector(("a", "b", "c"), window=4, memory=0.1, still=100)
    history = [Segment("x", 0, np.random.default_rng(0).normal(0.0, 0.3, (400, 3)))]
    rules = rules_of(detector, replace(STREAM, sensors=("a", "b", "c"), window=4))
    chain = DetectionChain(detector, AlarmPolicy(), rules)
    plan = DrillPlan((FaultKind.SHIFT, FaultKind.SWAP), [1])
    progress: list[tuple[float, str]] = []
    tally, places = drill(chain, history, plan, lambda share, doing: progress.append((share, doing)))
    assert {(found.sensor, found.kind) for found in tally.results()} == {
        ("b", FaultKind.SHIFT),
        ("b", FaultKind.SWAP),
    }
    assert tally.faults(FaultKind.SHIFT) == 40 * len(LADDER)
    assert 300 < len(places) <= 400
    assert drill(chain, history, plan)[0].results() == tally.results()
    assert drill(chain, history, replace(plan, seed=1))[0].results() != tally.results()
    shares = [share for share, _ in progress]
    assert shares == sorted(shares)
    assert progress[-1][1] == "injecting correlation_swap"
    assert [f.sensor for f in drill(chain, history, replace(plan, sensors=None))[0].results()][::2] == [
        "a",
        "b",
        "c",
    ]
