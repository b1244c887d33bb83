"""Confirmed incidents that a bundle keeps: their rows, their way into the next bundle, and back from bytes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from daemon.budget import Budget
from daemon.domain import AlarmPolicy, ModelSettings, Segment
from daemon.errors import BundleError
from daemon.model.bundle import Bundle
from daemon.model.golden_incidents import MOST_INCIDENTS, MOST_ROWS, GoldenIncident, incident_of, inherited
from daemon.model.promotion import finds, gate
from tests.model.conftest import machine, trained

L = 16


def series(first: int, rows: int, asset: str = "p", condition: str = "") -> Segment:
    values = np.arange(first, first + rows, dtype=float)[:, None] * np.ones(4)
    return Segment(asset, first, values, (condition,) * rows if condition else ())


def test_an_incident_has_the_rows_from_two_windows_before_its_onset_to_its_close() -> None:
    found = incident_of("f", [series(0, 500)], 100, 139, L)
    assert found is not None
    assert (found.asset, found.first_row, found.onset, len(found.values)) == ("p", 68, 32, 72)
    np.testing.assert_array_equal(found.values[:, 0], np.arange(68, 140))
    assert found.condition == ()


def test_of_a_long_incident_the_beginning_is_kept() -> None:
    found = incident_of("f", [series(0, 5_000)], 100, 4_000, L)
    assert found is not None
    assert (len(found.values), found.values[0, 0]) == (MOST_ROWS, 68.0)


def test_rows_that_are_not_there_are_gaps() -> None:
    parts = [series(60, 45, condition="on"), series(110, 20, condition="off")]
    found = incident_of("f", parts, 100, 120, L)
    assert found is not None
    assert np.flatnonzero(np.isnan(found.values[:, 0])).tolist() == list(range(105 - 68, 110 - 68))
    assert found.condition == ("on",) * 37 + ("",) * 5 + ("off",) * 11


@pytest.mark.parametrize(
    "rows", [[], [series(0, 100)], [series(100, 50)], [series(90, 50)], [series(500, 50)]]
)
def test_an_incident_without_a_window_before_it_or_a_row_in_it_is_none(rows: list[Segment]) -> None:
    assert incident_of("f", rows, 100, 139, L) is None


def of(fingerprint: str, first_row: int = 0) -> GoldenIncident:
    return GoldenIncident(fingerprint, "p", first_row, 2, np.array([[1.0], [np.nan], [3.0]]))


def test_a_candidate_inherits_the_newest_and_drops_those_whose_verdict_was_changed() -> None:
    newer = of("b", 7)
    found = inherited([of("a", 1), of("b", 2), of("c", 3)], [newer], {"c", "x"})
    assert [one.fingerprint for one in found] == ["a", "b"]
    assert found[1] is newer
    many = inherited([of(f"f{i}", i) for i in range(MOST_INCIDENTS)], [of("new", 99)], ())
    assert [one.first_row for one in many] == [*range(1, MOST_INCIDENTS), 99]


# ------------------------------------------------------------------ with a model
@pytest.fixture(scope="module")
def incumbent() -> Bundle:
    return trained([Segment("pump-1", 0, machine(1_500, 20))], ModelSettings(kind="ppca"))


@pytest.fixture
def leak() -> GoldenIncident:
    """A shift of one sensor by eight standard deviations."""
    values = machine(100, 33)
    values[60:, 0] += 8 * values[:, 0].std()
    return GoldenIncident("leak", "pump-1", 9_000, 60, values)


def test_a_bundle_holds_incidents_with_gaps_and_conditions_through_bytes(
    incumbent: Bundle, leak: GoldenIncident
) -> None:
    leak.values[3, 1] = np.nan
    labelled = dataclasses.replace(leak, fingerprint="second", condition=("on",) * 60 + ("off",) * 40)
    bundle = incumbent.with_golden([leak, labelled])
    assert bundle.version != incumbent.version
    one, other = Bundle.from_bytes(bundle.to_bytes()).golden
    np.testing.assert_array_equal(one.values, leak.values)
    assert (one.fingerprint, one.first_row, one.onset, one.condition) == ("leak", 9_000, 60, ())
    assert other.condition == labelled.condition
    assert bundle.with_golden([]).version == incumbent.version


@pytest.mark.parametrize(
    ("key", "value"), [("rows", 99), ("rows", 0), ("onset", -1), ("condition", [["on", 3]]), ("asset", 7)]
)
def test_a_bundle_whose_incidents_do_not_fit_their_rows_is_refused(
    incumbent: Bundle, leak: GoldenIncident, key: str, value: object
) -> None:
    bundle = incumbent.with_golden([leak])
    facts = {**bundle.facts, "golden": [{**bundle.facts["golden"][0], key: value}]}
    with pytest.raises(BundleError):
        Bundle.from_bytes(dataclasses.replace(bundle, facts=facts).to_bytes())


def test_a_candidate_that_no_longer_finds_a_confirmed_incident_is_refused(
    incumbent: Bundle, leak: GoldenIncident
) -> None:
    held_out = [Segment("pump-1", 5_000, machine(700, 21))]
    calibration = dataclasses.replace(incumbent.calibration, threshold=1e9, jump_limit=np.full(4, np.inf))
    deaf = dataclasses.replace(incumbent, calibration=calibration, sustained=None)
    unseen = dataclasses.replace(leak, fingerprint="unseen", values=machine(100, 34))
    assert finds(incumbent.detector(), leak)
    assert not finds(incumbent.detector(), unseen)
    for candidate, lost in ((deaf, 1.0), (incumbent, 0.0)):
        decision = gate(
            candidate.with_golden([leak, unseen]), incumbent, held_out, AlarmPolicy(), Budget(24.0)
        )
        (rule,) = [rule for rule in decision.rules if rule.name == "golden_lost"]
        assert (rule.figure, rule.limit, rule.passed) == (lost, 0, not lost)
        assert decision.figures["golden_incidents"] == 2
    assert decision.promoted


def test_an_incident_that_began_before_its_onset_does_not_count(
    incumbent: Bundle, leak: GoldenIncident
) -> None:
    after = machine(300, 31)  # long enough for what is sustained to be over
    values = np.concatenate([leak.values[60:], after])
    early = dataclasses.replace(leak, onset=len(values) - 1, values=values)
    assert not finds(incumbent.detector(), early)
