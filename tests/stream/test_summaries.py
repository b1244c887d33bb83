"""The texts of alerts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.admin.snapshot import event_json
from daemon.adapters.report.episodes import FoldedEpisode, episode_document
from daemon.alert import AcceptedChange, AlertPart, Regime
from daemon.control import Feedback, Verdict
from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    Contributor,
    PartScore,
    Phase,
    Severity,
)
from daemon.stream.summaries import accepted, after, difference, lasted_ns, lasting, summary


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "one row"),
        (119, "119 s"),
        (120, "2 min"),
        (5_400, "90 min"),
        (7_200, "2 h"),
        (172_799, "48 h"),
        (172_800, "2 d"),
    ],
)
def test_a_duration_is_in_the_largest_unit_of_which_it_has_two(seconds: int, said: str) -> None:
    assert lasting(seconds * SECOND_NS) == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([], ""),
        ([("pressure", 1.2876, "bar"), ("flow", -0.8, None)], "accepted: pressure +1.29 bar, flow -0.8"),
        ([("pressure", None, "bar")], "accepted: pressure as it reads now"),
        ([(name, 0.5, None) for name in "abcdef"], "accepted: a +0.5, b +0.5, c +0.5, d +0.5 and 2 more"),
    ],
)
def test_what_was_accepted_is_said_with_its_side_its_size_and_its_unit(
    changes: list[tuple[str, float | None, str | None]], said: str
) -> None:
    assert accepted([AcceptedChange(*one) for one in changes]) == said


UNIT = Contributor("pressure", 5.4, 6.04, 1.0, unit="bar")


@pytest.mark.parametrize(
    ("contributor", "others", "said"),
    [
        (UNIT, True, "pressure 0.64 bar below what the other sensors imply"),
        (replace(UNIT, observed=7.0, unit=None), False, "pressure 0.96 above what is usual"),
        (replace(UNIT, apart=0.7), True, "pressure 0.64 bar below what the other sensors imply"),
        (replace(UNIT, apart=2.0), True, "pressure 2 bar to both sides of what the other sensors imply"),
        (replace(UNIT, expected=5.4), True, "pressure 5.4 bar (expected 5.4)"),
        (replace(UNIT, observed=None), True, "pressure unusual"),
    ],
)
def test_a_sentence_says_by_how_much_and_in_which_direction(
    contributor: Contributor, others: bool, said: str
) -> None:
    assert difference(contributor, others=others) == said


def test_a_summary_says_since_when_for_how_long_and_what_joined() -> None:
    event = AlertEvent(
        "pumps", "p1", AlertKind.DEVIATION, Phase.UPDATED, Severity.WARNING, "f", "i", 1_560 * SECOND_NS, 0, 0,
        "m", "full", "", contributors=[UNIT, replace(UNIT, sensor="flow", share=0.5)],
        scores={"combined": PartScore(5.0, 4.0)}, kinds=(AlertKind.DEVIATION, AlertKind.SENSOR_STUCK),
    )  # fmt: skip
    text = (
        "p1: pressure 0.64 bar below what the other sensors imply, with flow, since 1970-01-01T00:00:00Z,"
        " for 26 min"
    )
    assert summary(event) == f"{text}; also sensor stuck"  # the score is another alert's
    scored = replace(event, parts=(AlertPart(AlertKind.ANOMALY, None, 0),))
    assert summary(scored) == f"{text}; score 5.00 over 4.00; also sensor stuck"
    assert summary(replace(event, phase=Phase.CLOSED)).endswith("for 26 min; also sensor stuck (over)")


@given(
    st.sampled_from([Phase.OPENED, Phase.UPDATED, Phase.CLOSED]), st.integers(0, 9_000), st.integers(0, 9_000)
)
def test_sentence_page_and_report_say_one_duration(phase: Phase, ended: int, later: int) -> None:
    event = AlertEvent(
        "pumps", "p1", AlertKind.DEVIATION, phase, Severity.WARNING, "f", "i", (ended + later) * SECOND_NS,
        0, 60 * SECOND_NS, "m", "full", "", ended_ns=ended * SECOND_NS if phase is Phase.CLOSED else None,
    )  # fmt: skip
    rows = ended if phase is Phase.CLOSED else ended + later
    assert lasted_ns(event) == rows * SECOND_NS
    said = lasting(rows * SECOND_NS)
    assert (f", for {said}" in summary(event)) is (rows > 0)
    assert event_json(event)["lasted"] == said
    assert episode_document(FoldedEpisode(event, event, event))["lasted"] == said
    newest = lasted_ns(event, (ended + later + 5) * SECOND_NS)
    assert newest == (rows if phase is Phase.CLOSED else rows + 5) * SECOND_NS


@pytest.mark.parametrize("levels", [[], [AcceptedChange("pressure", -0.64, "bar")]])
@pytest.mark.parametrize("before", [None, Feedback("f", Verdict.PLANNED, "kim")])
def test_a_newer_verdict_stands_in_the_sentence_of_an_alert_that_is_over(
    before: Feedback | None, levels: list[AcceptedChange]
) -> None:
    event = AlertEvent(
        "pumps", "p1", AlertKind.DEVIATION, Phase.CLOSED, Severity.WARNING, "f", "i", 1_560 * SECOND_NS, 0, 0,
        "m", "full", "", contributors=[UNIT], feedback=before, accepted=levels,
    )  # fmt: skip
    event = replace(event, summary=summary(event))
    newer = Feedback("f", Verdict.CONFIRMED, "ada", "a leak")
    assert after(event, None) == after(event, before) == event.summary
    plain = summary(replace(event, feedback=None, accepted=()))
    assert after(event, newer) == plain.removesuffix(")") + "; confirmed, by ada)"
    assert after(replace(event, accepted=()), newer) == (event.summary if levels else after(event, newer))
    absorbed = replace(event, summary=summary(replace(event, absorbed=True)))
    assert after(absorbed, newer) == absorbed.summary


def test_the_end_of_a_planned_alert_says_what_was_accepted() -> None:
    event = AlertEvent(
        "pumps", "p1", AlertKind.DEVIATION, Phase.CLOSED, Severity.WARNING, "f", "i", 1_560 * SECOND_NS, 0, 0,
        "m", "full", "", contributors=[UNIT], feedback=Feedback("f", Verdict.PLANNED, "kim"),
        accepted=[AcceptedChange("pressure", -0.64, "bar")],
    )  # fmt: skip
    assert summary(event).endswith(" (over; planned, by kim; accepted: pressure -0.64 bar)")
    by_the_settings = replace(event, feedback=None, regime=Regime(0, learned=True, accepted=True))
    assert summary(by_the_settings).endswith("normal from now on (accepted: pressure -0.64 bar)")


def test_a_silence_or_standstill_that_is_over_says_how_long_it_was() -> None:
    event = AlertEvent(
        "pumps", "p1", AlertKind.SENSOR_STUCK, Phase.CLOSED, Severity.WARNING, "f", "i", 7_200 * SECOND_NS, 0, 9_000 * SECOND_NS,
        "m", "full", "", sensor="flow", sensors=("flow",), kinds=(AlertKind.SENSOR_STUCK,), ended_ns=7_200 * SECOND_NS,
    )  # fmt: skip
    since = "since 1970-01-01T00:00:00Z"
    assert summary(event) == f"p1: flow had not moved {since}, for 2 h (over)"
    grown = replace(event, kinds=(AlertKind.SENSOR_STUCK, AlertKind.DEVIATION), sensors=("flow", "current"))
    assert (
        summary(grown)
        == f"p1: flow had not moved; with current; also deviation; for 2 h in all, {since} (over)"
    )
    gone = replace(
        event, kind=AlertKind.ASSET_SILENT, kinds=(AlertKind.ASSET_SILENT,), sensor=None, sensors=()
    )
    assert summary(gone) == f"p1 had sent nothing {since}, for 2 h (over)"
    still = replace(gone, phase=Phase.UPDATED, ended_ns=None)
    assert summary(still) == f"p1 has sent nothing {since}"


def test_wear_is_said_in_the_unit_of_its_sensor() -> None:
    event = AlertEvent(
        "pumps", "p1", AlertKind.DEVIATION, Phase.OPENED, Severity.WARNING, "f", "i", 7 * 86_400 * SECOND_NS, 0, 0,
        "m", "full", "", sensor="pressure", contributors=[UNIT], per_day=-0.25, kinds=(AlertKind.DEVIATION,),
    )  # fmt: skip
    assert summary(event).startswith(
        "p1: pressure falls by 0.25 bar a day against what the other sensors imply"
    )
