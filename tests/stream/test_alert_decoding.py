"""An alert message says all that a table of alerts shows; what is no such message is refused in one way."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.alert import AcceptedChange, Peak, Phase
from daemon.control import Feedback, Verdict
from daemon.domain import SECOND_NS, AlertEvent, AlertKind, Contributor
from daemon.stream.alert_decoding import read_alert_event
from daemon.stream.encoding import encode
from tests.stream.records import NOW
from tests.stream.test_encoding import ROW_NS, alert


def shown(event: AlertEvent) -> AlertEvent:
    """What is shown of an event."""
    return replace(
        event,
        scores={},
        window_start_ns=None,
        window_steps=0,
        partition=None,
        first_offset=-1,
        last_offset=-1,
        parts=(),
        kinds=list(event.kinds or [event.kind]),
        sensors=list(event.sensors),
        accepted=list(event.accepted),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"phase": Phase.CLOSED, "ended_ns": ROW_NS - SECOND_NS},
        {"phase": Phase.SUPPRESSED, "kind": AlertKind.SENSOR_SILENT, "sensor": "Flow", "peak": None},
        {"phase": Phase.CLOSED, "feedback": Feedback("f00", Verdict.PLANNED, "kim", "a new recipe")},
        {"phase": Phase.CLOSED, "accepted": [AcceptedChange("a", -1.5, "bar"), AcceptedChange("b", None)]},
        {"contributors": [], "kinds": [], "window_start_ns": None, "imputed_share": 0.0},
    ],
)
def test_what_is_shown_of_an_alert_can_be_read_back(changes: dict[str, Any]) -> None:
    event = replace(alert(contributors=[Contributor("Pressure", 0.91, 0.38, 0.61, unit="bar")]), **changes)
    assert read_alert_event(encode(event, NOW).value) == shown(event)


def test_what_is_not_finite_is_read_as_such() -> None:
    event = alert(
        peak=Peak(ROW_NS, "combined", math.inf, 5.5), contributors=[Contributor("a", None, None, math.nan)]
    )
    found = read_alert_event(encode(event, NOW).value)
    assert found.peak is not None
    assert math.isnan(found.peak.value)
    assert math.isnan(found.contributors[0].share)


@given(
    st.sampled_from(["fingerprint", "kind", "severity", "row", "labels", "annotations", "peak"]),
    st.integers(),
)
def test_what_is_no_alert_is_refused(name: str, value: int) -> None:
    message = json.loads(encode(alert(), NOW).value)
    message["data"][name] = value
    for wrong in (json.dumps(message).encode(), b"", b"[" * 10_000, b"x" * (1 << 21), b"{}"):
        with pytest.raises(ValueError, match="alert"):
            read_alert_event(wrong)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("row", "0001-01-01T00:00:00+14:00"),  # the year 0, which cannot be written again
        ("onset", "9999-12-31T23:59:59-14:00"),
        ("opened", "0001-01-01T00:00:00+14:00"),
        ("ended", "0001-01-01T00:00:00+14:00"),
        ("fingerprint", "f" * 2_000),
        ("kinds", ["anomaly"] * 1_000),
    ],
)
def test_what_cannot_be_shown_is_refused(name: str, value: object) -> None:
    message = json.loads(encode(alert(), NOW).value)
    message["data"][name] = value
    with pytest.raises(ValueError, match="no alert message"):
        read_alert_event(json.dumps(message).encode())


@pytest.mark.parametrize(("name", "value"), [("type", "io.anomalyd.episode.merged.v9"), ("subject", None)])
def test_a_message_of_a_newer_version_is_refused(name: str, value: object) -> None:
    message = json.loads(encode(alert(), NOW).value) | {name: value}
    with pytest.raises(ValueError, match="no alert message"):
        read_alert_event(json.dumps(message).encode())
