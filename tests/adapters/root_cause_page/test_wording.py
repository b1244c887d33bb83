"""Numbers, times and sentences of an explanation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from daemon.adapters.root_cause_page.wording import clock, consequence, headline, lasted, shown
from daemon.domain import SECOND_NS
from daemon.model.repair import Cause, Repair, Verdict
from daemon.model.root_cause import Jump
from tests.adapters.root_cause_page.explained import explained


@pytest.mark.parametrize(
    ("value", "expected"),
    [(12.34567, "12.35"), (1e-9, "1e-09"), (math.nan, "–"), (math.inf, "–"), (0.0, "0")],
)
def test_a_number_has_four_digits(value: float, expected: str) -> None:
    assert shown(value) == expected


def test_a_number_is_no_finer_than_what_its_sensor_spans() -> None:
    spans = np.array([0.0, 100.0])
    assert shown(0.004, spans) == "0"
    assert shown(0.4, spans) == "0.4"
    assert shown(0.004, np.array([math.nan])) == "0.004"


@pytest.mark.parametrize(
    ("seconds", "expected"), [(40, "40 s"), (2_100, "35 min"), (12_600, "3.5 h"), (345_600, "4 days")]
)
def test_a_duration_is_in_the_largest_unit(seconds: int, expected: str) -> None:
    assert lasted(seconds * SECOND_NS) == expected


def test_a_time_is_utc() -> None:
    assert clock(1_772_600_000 * SECOND_NS) == "2026-03-04 04:53:20"


@pytest.mark.parametrize(
    ("cause", "sensors", "expected"),
    [
        (None, (), "Nothing is wrong here"),
        (Cause.BROKEN_SENSOR, (0,), "b0 alone is off"),
        (Cause.NEW_REGIME, (0, 1), "b0 and b1 have moved together"),
        (Cause.NEW_REGIME, (0,), "b0 has moved"),
        (Cause.PROCESS_FAULT, (0, 1), "The process is off: b0 and b1 no longer fit together"),
    ],
)
def test_the_headline_names_cause_and_sensors(
    cause: Cause | None, sensors: tuple[int, ...], expected: str
) -> None:
    found = replace(
        explained(sensors=tuple(f"b{i}" for i in range(6))),
        verdict=Verdict(cause, 7.0, 2.0, 0.1),
        repair=Repair(sensors, 14.6, 1.9, 3.9, len(sensors), 0, 21),
    )
    assert headline(found) == expected


def test_without_a_repair_that_is_enough_no_reading_is_promised() -> None:
    found = replace(explained(), repair=Repair((0,), 14.6, 9.9, 3.9, 1, 0, 21))
    assert headline(found) == "The process is off: the sensors no longer fit together"
    assert consequence(found) == "No set of sensors was found without which the window is normal."


def test_an_episode_that_a_jump_opened_is_told_as_one() -> None:
    found = replace(
        explained(sensors=tuple(f"b{i}" for i in range(6))),
        verdict=Verdict(None, 1.0, 1.0, 0.1),
        repair=Repair((), 3.24, 3.24, 3.29, 0, 0, 1),
        jump=Jump(2, 1.55, 1_772_600_000 * SECOND_NS),
    )
    assert headline(found) == "b2 jumped"
    assert consequence(found).startswith("b2 jumped by 1.55 times its limit at 2026-03-04T04:53:20")
    assert found.as_dict()["jump"]["sensor"] == "b2"


def test_the_consequence_is_what_a_sensor_reads_and_what_the_others_expect() -> None:
    assert "reads 45.91; the sensors beside these 2 say 40.91 (90 %: 39.91 to 41.91)." in consequence(
        explained()
    )
