"""Every output is one message; a dead letter keeps the record as it arrived."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from daemon.alert import AlertPart, Peak
from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    Contributor,
    DeadLetter,
    DriftRecord,
    FilledCell,
    FilledRow,
    PartScore,
    Phase,
    Reason,
    Rejected,
    ScoredRow,
    Severity,
)
from daemon.drifting import DriftingAsset, FleetDrift
from daemon.stream.encoding import DEAD_LETTER_BYTES, WHOLE_LETTER_BYTES, encode, read_drift
from tests.stream.records import (
    DAY,
    NOW,
    NOW_NS,
    PUMPS_0,
    record,
)

ROW_NS = DAY * SECOND_NS + 15 * SECOND_NS


def alert(**changes: Any) -> AlertEvent:
    opened = AlertEvent(
        stream="pumps",
        asset="pump-01",
        kind=AlertKind.ANOMALY,
        phase=Phase.OPENED,
        severity=Severity.WARNING,
        fingerprint="f00",
        id="f00-opened",
        row_ns=ROW_NS,
        onset_ns=ROW_NS - SECOND_NS,
        opened_ns=ROW_NS,
        model="5f3a9c1e",
        calibration="full",
        summary="Pressure is high",
        scores={"kl": PartScore(9.5, 3.25, 1e-5), "combined": PartScore(7.5, 5.5)},
        contributors=[
            Contributor("Pressure", 0.91, 0.38, 0.61, unit="bar"),
            Contributor("Current", None, math.nan, 0.39),
        ],
        window_start_ns=DAY * SECOND_NS,
        window_steps=16,
        imputed_share=0.25,
        partition=PUMPS_0,
        first_offset=10,
        last_offset=73,
        kinds=(AlertKind.ANOMALY, AlertKind.SENSOR_STUCK),
        sensors=("Pressure", "Flow"),
        parts=(AlertPart(AlertKind.SENSOR_STUCK, "Flow", ROW_NS - 2 * SECOND_NS),),
        peak=Peak(ROW_NS - SECOND_NS, "combined", 8.5, 5.5),
    )
    return replace(opened, **changes)


def body(message: bytes) -> Any:
    def impossible(token: str) -> None:
        raise AssertionError(token)

    return json.loads(message, parse_constant=impossible)


def test_alert_is_a_structured_cloud_event() -> None:
    message = encode(alert(), NOW)
    assert (message.topic, message.key) == ("alerts", b"pump-01")
    assert dict(message.headers)["content-type"].startswith(b"application/cloudevents+json")
    event = body(message.value)
    data = event.pop("data")
    assert event == {
        "specversion": "1.0",
        "id": "f00-opened",
        "type": "io.anomalyd.episode.opened.v1",
        "source": "/anomalyd/pumps",
        "subject": "pump-01",
        "time": "2024-05-01T12:00:00.250Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:anomalyd:schema:anomaly-event:1",
    }
    assert data == {
        "fingerprint": "f00",
        "status": "firing",
        "severity": "warning",
        "kind": "anomaly",
        "kinds": ["anomaly", "sensor_stuck"],
        "sensors": ["Pressure", "Flow"],
        "open": [{"kind": "sensor_stuck", "sensor": "Flow", "onset": "2024-01-01T00:00:13Z"}],
        "peak": {"row": "2024-01-01T00:00:14Z", "score": "combined", "value": 8.5, "threshold": 5.5},
        "scores": {
            "kl": {"value": 9.5, "threshold": 3.25, "p": 1e-5},
            "combined": {"value": 7.5, "threshold": 5.5},
        },
        "model": {"version": "5f3a9c1e", "calibration": "full"},
        "window": {
            "start": "2024-01-01T00:00:00Z",
            "end": "2024-01-01T00:00:15Z",
            "steps": 16,
            "imputed_share": 0.25,
        },
        "contributors": [
            {"sensor": "Pressure", "observed": 0.91, "expected": 0.38, "share": 0.61, "unit": "bar"},
            {"sensor": "Current", "observed": None, "expected": None, "share": 0.39},
        ],
        "row": "2024-01-01T00:00:15Z",
        "onset": "2024-01-01T00:00:14Z",
        "opened": "2024-01-01T00:00:15Z",
        "origin": {"topic": "sensors.pumps", "partition": 0, "first_offset": 10, "last_offset": 73},
        "labels": {"stream": "pumps", "asset": "pump-01", "kind": "anomaly"},
        "annotations": {"summary": "Pressure is high"},
    }


def test_closing_alert_without_a_window_has_no_window_fields() -> None:
    changes: dict[str, Any] = {"kind": AlertKind.SENSOR_SILENT, "sensor": "Pressure", "phase": Phase.CLOSED}
    changes |= {"window_start_ns": None, "partition": None, "scores": {}, "contributors": ()}
    event = body(encode(alert(**changes), NOW).value)
    assert event["type"] == "io.anomalyd.episode.closed.v1"
    data = event["data"]
    assert (data["status"], data["sensor"], data["labels"]["sensor"]) == ("resolved", "Pressure", "Pressure")
    assert data.keys().isdisjoint({"window", "origin"})


def test_filled_and_scored_rows_have_the_documented_shape() -> None:
    filled = FilledRow("pumps", "ä", ROW_NS, {"Current": FilledCell(1.0, 0.5, 1.5)}, "vae", "m1")
    message = encode(filled, NOW)
    assert (message.topic, message.key) == ("imputed", "ä".encode())
    assert body(message.value) == {
        "asset": "ä",
        "timestamp": "2024-01-01T00:00:15Z",
        "values": {"Current": {"value": 1.0, "low": 0.5, "high": 1.5}},
        "method": "vae",
        "model": "m1",
    }
    scored = ScoredRow("pumps", "a", ROW_NS, math.nan, 1.0, math.inf, 3.0, -4.0, False, "m1", 0.5)
    message = encode(scored, NOW)
    assert (message.topic, message.key) == ("scores", b"a")
    assert dict(message.headers)["stream"] == b"pumps"
    assert body(message.value) == {
        "asset": "a",
        "timestamp": "2024-01-01T00:00:15Z",
        "score": None,
        "reconstruction": 1.0,
        "kl": None,
        "point": 3.0,
        "elbo": -4.0,
        "alarm": False,
        "model": "m1",
        "static_score": 0.5,
    }


def test_drift_record_has_sums_divergences_and_a_verdict() -> None:
    sums: dict[str, Any] = {"latent_sum": (1.0,), "latent_square_sum": (2.0,), "residual_count": (3, 0)}
    sums |= {"residual_sum": (1.0, 0.0), "residual_square_sum": (1.0, 0.0), "kl_sum": 4.5}
    found = DriftRecord(
        "pumps",
        PUMPS_0,
        DAY * SECOND_NS,
        (DAY + 3600) * SECOND_NS,
        "m1",
        windows=3,
        latent_kl=(0.5,),
        residual_kl=(0.25, math.nan),
        latent_threshold=1.0,
        residual_threshold=2.0,
        verdict="ok",
        **sums,
    )
    message = encode(found, NOW)
    assert (message.topic, message.key) == ("drift", b"pumps")
    told = body(message.value)
    assert (told["start"], told["end"]) == ("2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z")
    assert (told["verdict"], told["windows"], told["kl_nats_sum"]) == ("ok", 3, 4.5)
    assert told["latent"] == {
        "kl_nats": [0.5],
        "kl_nats_total": 0.5,
        "threshold_nats": 1.0,
        "sum": [1.0],
        "square_sum": [2.0],
    }
    assert told["residual"]["kl_nats"] == [0.25, None]
    assert told["residual"]["kl_nats_total"] == 0.25
    assert told["residual"]["count"] == [3, 0]
    assert (told["assets_judged"], told["assets_drifting"], told["assets"]) == (0, 0, [])


def test_a_drift_record_names_the_assets_that_drift() -> None:
    start_ns, end_ns = DAY * SECOND_NS, (DAY + 3600) * SECOND_NS
    one = DriftingAsset("p7", start_ns, end_ns, 60, 2.5, 1.0, 0.5, 0.75, ["bearing"], [3, 0])
    fleet = FleetDrift(judged=40, drifting=1, assets=(one,))
    numbers = ((0.0,), (0.0,), (0,), (0.0,), (0.0,), 0.0, (0.0,), (0.0,), 1.0, 1.0)
    record = DriftRecord("pumps", PUMPS_0, start_ns, end_ns, "m1", 0, *numbers, verdict="ok", fleet=fleet)
    value = encode(record, NOW).value
    told = body(value)
    assert (told["assets_judged"], told["assets_drifting"]) == (40, 1)
    assert told["assets"] == [
        {
            "asset": "p7",
            "start": "2024-01-01T00:00:00Z",
            "end": "2024-01-01T01:00:00Z",
            "windows": 60,
            "latent": {"kl_nats_total": 2.5, "threshold_nats": 1.0, "dimensions": [3, 0]},
            "residual": {"kl_nats_total": 0.5, "threshold_nats": 0.75},
            "sensors": ["bearing"],
        }
    ]
    assert read_drift(value).assets == (("p7", start_ns, end_ns),)
    del told["assets"]  # as earlier versions wrote it
    assert read_drift(json.dumps(told).encode()).assets == ()


def dead_letter(value: bytes, key: bytes | None = b"k", timestamp_ns: int = NOW_NS) -> DeadLetter:
    rejected = Rejected(record(value, key, timestamp_ns), Reason.NOT_JSON, "Expecting value at character 0")
    return DeadLetter("pumps", PUMPS_0, rejected)


def test_dead_letter_keeps_bytes_and_key_and_says_where_and_why() -> None:
    message = encode(dead_letter(b"\xff\x00 garbage"), NOW)
    assert (message.topic, message.key, message.value) == ("dead-letter", b"k", b"\xff\x00 garbage")
    assert dict(message.headers) == {
        "reason": b"not_json",
        "detail": b"Expecting value at character 0",
        "stream": b"pumps",
        "origin-topic": b"sensors.pumps",
        "origin-partition": b"0",
        "origin-offset": b"7",
        "origin-timestamp": b"2024-01-01T01:00:00Z",
        "length": b"10",
    }
    assert encode(dead_letter(b"", None), NOW).key is None
    assert dict(encode(dead_letter(b"", timestamp_ns=-1), NOW).headers)["origin-timestamp"] == b""
    assert (
        dict(encode(dead_letter(b"", timestamp_ns=10**25), NOW).headers)["origin-timestamp"]
        == b"1" + b"0" * 25
    )


def test_long_dead_letter_is_cut_and_has_the_hash_of_the_whole() -> None:
    whole = bytes(range(256)) * 4_000
    message = encode(dead_letter(whole, key=whole), NOW)
    headers = dict(message.headers)
    assert message.value == message.key == whole[:DEAD_LETTER_BYTES]
    assert headers["length"] == headers["key-length"] == str(len(whole)).encode()
    assert headers["sha256"] == headers["key-sha256"] == hashlib.sha256(whole).hexdigest().encode()
    longest = whole[:WHOLE_LETTER_BYTES]
    exact = encode(dead_letter(longest), NOW)
    assert exact.value == longest
    assert "sha256" not in dict(exact.headers)
    # With its headers it fits what Kafka takes by default.
    assert len(exact.value) + sum(len(k) + len(v) for k, v in exact.headers) < 1_048_588 - 1_000


OUTPUTS: list[Callable[[], Any]] = [alert, lambda: dead_letter(b"x")]


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_wall_clock_is_in_the_field_time_only(output: Callable[[], Any]) -> None:
    first, second = encode(output(), NOW), encode(output(), NOW + timedelta(days=1))
    assert first.headers == second.headers
    assert first.value.replace(b"2024-05-01T12", b"2024-05-02T12") == second.value
