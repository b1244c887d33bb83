"""The alerts that had closed when a process began."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.adapters.kafka import KafkaSettings
from daemon.adapters.telemetry import Status
from daemon.alert import Phase
from daemon.runtime.closed_alerts import closed_of, recall_closed_alerts
from daemon.stream.encoding import encode
from tests.stream.records import NOW
from tests.stream.test_encoding import alert

CLOSED = Phase.CLOSED


def message(fingerprint: str, phase: Phase, **changes: Any) -> bytes:
    return encode(alert(fingerprint=fingerprint, phase=phase, **changes), NOW).value


def test_the_last_message_of_an_alert_says_whether_it_is_closed() -> None:
    messages = [
        message("a", Phase.OPENED),
        message("b", CLOSED),
        message("a", CLOSED),
        b"{",
        message("c", CLOSED),
        message("c", Phase.OPENED),  # within its refractory time an alert goes on
        message("d", Phase.SUPPRESSED),
        message("e", CLOSED, stream="fans"),
    ]
    assert [one.fingerprint for one in closed_of(messages, ["pumps"])] == ["b", "a"]


async def test_a_broker_that_does_not_answer_leaves_the_page_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = Status(["pumps"])
    await recall_closed_alerts(KafkaSettings("127.0.0.1:1"), "out", status)
    assert list(status.closed()) == []
    assert "closed_alerts_unread" in capsys.readouterr().out
