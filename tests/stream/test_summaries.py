"""The texts of alerts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daemon.alert import AlertPart
from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    Contributor,
    PartScore,
    Phase,
    Severity,
)
from daemon.stream.summaries import difference, lasting, summary


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(119, "119 s"), (120, "2 min"), (5_400, "90 min"), (7_200, "2 h"), (172_799, "48 h"), (172_800, "2 d")],
)
def test_a_duration_is_in_the_largest_unit_of_which_it_has_two(seconds: int, said: str) -> None:
    assert lasting(seconds * SECOND_NS) == said


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
