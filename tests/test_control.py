from __future__ import annotations

from datetime import UTC, datetime

import pytest

from daemon.control import Feedback, MaintenanceOrder, RetrainRequest, Verdict, read_control, written

WHEN = datetime(2026, 1, 31, 8, tzinfo=UTC)
CONTROLS = [
    Feedback("8f2c", Verdict.FALSE_ALARM, "kim", "lid was open"),
    Feedback("8f2c", Verdict.PLANNED),
    MaintenanceOrder(
        "overhaul",
        WHEN,
        WHEN.replace(hour=10),
        ("pump-01",),
        "pumps",
        "FREQ=WEEKLY",
        "Europe/Berlin",
        "oil",
        "kim",
    ),
    MaintenanceOrder("overhaul", WHEN, WHEN),
    RetrainRequest("pumps", "new impeller", "kim"),
]


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: type(control).__name__)
def test_a_control_message_is_read_as_it_was_written(control: object) -> None:
    assert read_control(written(control)) == control  # type: ignore[arg-type]


def test_a_person_writes_only_what_is_needed() -> None:
    assert read_control(b'{"fingerprint": "8f2c", "verdict": "confirmed"}') == Feedback(
        "8f2c", Verdict.CONFIRMED
    )
    order = read_control(
        b'{"maintenance":"m","start":"2026-01-31T08:00:00Z","end":"2026-01-31T11:00:00+01:00"}'
    )
    assert order == MaintenanceOrder("m", WHEN, WHEN.replace(hour=10))


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "truncated"),
        (b"[]", "Expected `object`"),
        (b"{}", "one of the keys"),
        (b'{"fingerprint":"a","retrain":"b"}', "one of the keys"),
        (b'{"fingerprint":"a","verdict":"nothing"}', "Invalid enum value 'nothing'"),
        (b'{"fingerprint":"a"}', "missing required field `verdict`"),
        (b'{"fingerprint":"","verdict":"planned"}', "fingerprint is empty"),
        (b'{"fingerprint":"a","verdict":"planned","nots":"x"}', "unknown field `nots`"),
        (b'{"retrain":""}', "names the stream"),
        (
            b'{"maintenance":"","start":"2026-01-31T08:00:00Z","end":"2026-01-31T09:00:00Z"}',
            "names the maint",
        ),
        (
            b'{"maintenance":"m","start":"2026-01-31T08:00:00","end":"2026-01-31T09:00:00Z"}',
            "start needs a time zone",
        ),
        (
            b'{"maintenance":"m","start":"2026-01-31T08:00:00Z","end":"2026-01-31T07:00:00Z"}',
            "ends before it starts",
        ),
        (
            b'{"maintenance":"m","start":"0001-01-01T00:00:00+14:00","end":"2026-01-31T07:00:00Z"}',
            "not from 1970 to 2261",
        ),
        (b'{"retrain":"a","note":"' + b"x" * 9_000 + b'"}', "more than the 8192"),
        (b'{"retrain":"a","reason":"' + b"x" * 1_001 + b'"}', "reason has 1001 characters"),
        (b'{"a":' + b"[" * 8_000, "nested too deeply"),
    ],
)
def test_what_is_no_control_message_is_refused_with_the_reason(message: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_control(message)
