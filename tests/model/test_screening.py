"""Incidents in the training history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from daemon.domain import Floats, Segment
from daemon.model.bundle import Bundle
from daemon.model.screening import Incident, incidents, without
from daemon.model.segments import Piece
from daemon.model.training import Architecture, fit_models
from tests.model.conftest import QUICK, SPEC, machine, trained

LINEAR = replace(QUICK, kind="ppca")
DAY = 144
PERIOD_NS = 600 * 10**9
TEN_MINUTES = replace(SPEC, period_ns=PERIOD_NS)


def shifted(*at: int, rows: int = 5 * DAY, length: int = 12, by: float = 200.0) -> Floats:
    """The machine with its pressure off for some rows."""
    values = machine(rows)
    for start in at:
        values[start : start + length, 0] += by
    return values


def found_in(values: Floats, others: Sequence[Segment] = (), labels: Sequence[str] = ()) -> list[Incident]:
    history = [Segment("a", 1_000, values, tuple(labels)), *others]
    architecture = Architecture(LINEAR, (4, 16))

    def fit(pieces: list[Piece]) -> object:
        return fit_models(history, pieces, TEN_MINUTES, architecture)

    return incidents(history, 16, PERIOD_NS, fit)  # type: ignore[arg-type]


def test_a_spell_unlike_all_others_is_an_incident() -> None:
    assert found_in(machine(5 * DAY)) == []
    (incident,) = found_in(shifted(300))
    assert incident.sensor == 0
    assert 1_300 <= incident.first_row < 1_304
    assert 1_312 <= incident.end_row <= 1_312 + 16


@pytest.mark.parametrize(
    "values",
    [
        shifted(100, 100 + DAY, 100 + 2 * DAY, 100 + 3 * DAY),  # every day
        shifted(100, 400, rows=8 * DAY),  # the same twice
        shifted(300, length=45),  # a regime
        shifted(300, length=10_000),  # a step that stays
        shifted(150, rows=2 * DAY),  # too short a history
    ],
    ids=["daily", "twice", "lasting", "step", "two days"],
)
def test_what_may_be_a_habit_or_a_regime_is_learned(values: Floats) -> None:
    assert found_in(values) == []


def test_what_is_not_seen_to_end_is_learned() -> None:
    """A step in the last rows, which may be accepted as a regime, and an asset that is another machine."""
    assert found_in(shifted(5 * DAY - 20)) == []
    other = Segment("b", 1_000, machine(60) + np.array([200.0, 0.0, 0.0, 0.0]))
    assert found_in(machine(5 * DAY), others=[other]) == []


def test_a_spell_before_a_gap_ends_where_values_come_again() -> None:
    values = shifted(300)
    values[312:340] = np.nan
    assert len(found_in(values)) == 1


def test_a_condition_that_is_labelled_is_no_incident() -> None:
    labels = ["run"] * (5 * DAY)
    assert len(found_in(shifted(300), labels=labels)) == 1
    labels[298:314] = ["clean"] * 16
    assert found_in(shifted(300), labels=labels) == []


def test_rows_around_an_incident_are_left_out() -> None:
    history = [
        Segment("a", 10, np.arange(40.0)[:, None], tuple("ab" * 20)),
        Segment("b", 10, np.ones((40, 1))),
    ]
    left = without(history, [Incident("a", 25, 30, 0, 9.0)], 3)
    assert [(s.asset, s.first_row, len(s.values)) for s in left] == [
        ("a", 10, 12),
        ("a", 33, 17),
        ("b", 10, 40),
    ]
    np.testing.assert_array_equal(left[1].values[:, 0], np.arange(23.0, 40.0))
    assert left[1].condition == tuple("ab" * 20)[23:]
    assert without(history, [Incident("a", 0, 100, 0, 9.0)], 3) == [history[1]]


def test_an_incident_in_training_does_not_set_the_threshold() -> None:
    clean, dirty = (
        trained([Segment("a", 1_000, values)], LINEAR, period_ns=PERIOD_NS)
        for values in (machine(5 * DAY), shifted(300))
    )
    assert dirty.calibration.threshold < 1.5 * clean.calibration.threshold
    np.testing.assert_allclose(dirty.models.scaler.scale, clean.models.scaler.scale, rtol=0.1)
    (said,) = [text for text in Bundle.from_bytes(dirty.to_bytes()).concerns if "unlike" in text]
    assert said.startswith("a, 1970-01-10T")
    assert "unlike all other rows (Pressure, " in said
