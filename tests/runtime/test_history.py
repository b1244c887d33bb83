"""The rows that this process released."""

from __future__ import annotations

from dataclasses import replace

from daemon.alert import Regime
from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    Phase,
    Severity,
)
from daemon.maintenance import MaintenanceWindow
from daemon.runtime.history import ReleasedHistory, TrainingHistory
from tests.runtime.histories import SPEC, block


def test_rows_after_the_end_of_a_history_are_excluded() -> None:
    recent = TrainingHistory(SPEC, 1_000)
    recent.add(block("a", range(60)))
    recent.add(block("b", range(50, 60)))
    (learned,) = recent.segments(until_row=50)
    assert (learned.asset, len(learned.values)) == ("a", 50)
    released = ReleasedHistory(SPEC, 1_000)
    released.add(block("a", range(60)))
    assert [len(s.values) for s in released.newest(40 * SECOND_NS).segments] == [40]
    assert [len(s.values) for s in released.first(60, 60)] == [60]


def test_rows_of_a_planned_stop_are_left_out_unless_it_is_to_be_learned() -> None:
    margin = 2 * SPEC.window
    for learn, lengths in ((False, [(0, 100 - margin), (120 + margin, 280 - margin)]), (True, [(0, 400)])):
        stop = MaintenanceWindow("m", 100 * SECOND_NS, 120 * SECOND_NS, frozenset({"a"}), learn=learn)
        recent = TrainingHistory(SPEC, 1_000, [stop])
        recent.add(block("a", range(400)))
        recent.add(block("b", range(400)))
        found = [(s.asset, s.first_row, len(s.values)) for s in recent.segments()]
        assert found == [*(("a", *one) for one in lengths), ("b", 0, 400)]


def test_beyond_the_capacity_the_oldest_blocks_are_dropped() -> None:
    recent = TrainingHistory(SPEC, 35)
    for first in range(0, 100, 10):
        recent.add(block("a", range(first, first + 10)))
    (kept,) = recent.segments()
    assert (kept.first_row, len(kept.values)) == (60, 40)


def alerted(fingerprint: str, onset: int, row: int, phase: Phase, *, learned: bool = False) -> AlertEvent:
    return AlertEvent(
        "pumps", "a", AlertKind.ANOMALY, phase, Severity.WARNING, fingerprint, "i", row * SECOND_NS, onset * SECOND_NS,
        onset * SECOND_NS, "m", "full", "", regime=Regime(onset * SECOND_NS, learned=True) if learned else None,
    )  # fmt: skip


def test_a_regime_is_learned_once_its_alert_says_so_but_for_the_rows_of_another_one() -> None:
    recent = TrainingHistory(SPEC, 1_000)
    rows = block("a", range(400))
    rows.firing[100:] = True
    recent.add(rows)
    recent.alerted([alerted("regime", 100, 100, Phase.OPENED)])
    assert sum(len(s.values) for s in recent.segments()) == 100 - 2 * SPEC.window
    recent.alerted([alerted("regime", 100, 300, Phase.UPDATED, learned=True)])
    assert sum(len(s.values) for s in recent.segments()) == 400
    recent.alerted([alerted("fault", 200, 200, Phase.OPENED), alerted("fault", 200, 219, Phase.CLOSED)])
    assert [(s.first_row, len(s.values)) for s in recent.segments()] == [
        (0, 200 - 2 * SPEC.window),
        (220 + 2 * SPEC.window, 180 - 2 * SPEC.window),
    ]


def test_a_history_says_up_to_when_rows_of_a_regime_were_let_in() -> None:
    released = ReleasedHistory(SPEC, 1_000)
    released.add(block("a", range(400)))
    released.alerted([alerted("regime", 100, 100, Phase.OPENED)])
    assert released.newest(400 * SECOND_NS).let_in_ns == {}
    released.alerted([alerted("regime", 100, 300, Phase.UPDATED, learned=True)])
    released.alerted([alerted("regime", 100, 320, Phase.CLOSED), alerted("fault", 350, 360, Phase.OPENED)])
    assert released.newest(400 * SECOND_NS).let_in_ns == {"a": 300 * SECOND_NS}


def test_rows_of_a_slow_trend_are_not_learned_though_none_of_them_is_firing() -> None:
    recent = TrainingHistory(SPEC, 1_000)
    recent.add(block("a", range(400)))
    opened, closed = (
        replace(alerted("wear", 100, row, phase), kind=AlertKind.DEVIATION, sensor="b", per_day=0.1)
        for row, phase in ((200, Phase.OPENED), (299, Phase.CLOSED))
    )
    recent.alerted([opened])
    assert [(s.first_row, len(s.values)) for s in recent.segments()] == [(0, 100 - 2 * SPEC.window)]
    recent.alerted([closed])
    assert [(s.first_row, len(s.values)) for s in recent.segments()] == [
        (0, 100 - 2 * SPEC.window),
        (300 + 2 * SPEC.window, 100 - 2 * SPEC.window),
    ]


def test_of_a_regime_rows_are_learned_only_while_it_is_steady() -> None:
    recent = TrainingHistory(SPEC, 1_000)
    rows = block("a", range(400))
    rows.firing[100:] = True
    recent.add(rows)
    steady = replace(alerted("regime", 100, 200, Phase.UPDATED), regime=Regime(120 * SECOND_NS, learned=True))
    recent.alerted([steady, alerted("regime", 100, 300, Phase.UPDATED)])
    assert [(s.first_row, len(s.values)) for s in recent.segments()] == [
        (0, 100 - 2 * SPEC.window),
        (120 + 2 * SPEC.window, 180 - 4 * SPEC.window),
    ]
