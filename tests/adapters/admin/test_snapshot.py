"""``Status`` as JSON: what an operator needs to know, bounded whatever the fleet."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from daemon.adapters.admin import (
    snapshot,
)
from daemon.adapters.admin.snapshot import SPARK_POINTS, headline, spark
from daemon.adapters.telemetry import Lifecycle, Status
from daemon.domain import (
    SECOND_NS,
    AlertKind,
    DriftRecord,
    InputPartition,
    Phase,
)
from daemon.stream.audit import Imputable, SensorAudit
from daemon.trigger import Cause, Trigger
from tests.adapters.admin.pumps import HOSTILE, Client, alert, scored


def test_sensors_that_cannot_be_filled_come_first_and_their_names_are_bounded(status: Status) -> None:
    audits = {
        name: SensorAudit(name, 40, 0.1234567, relative, 0.2, skill, 0.9, verdict)
        for name, relative, skill, verdict in (
            ("calm", 0.1, 0.9, Imputable.GOOD),
            ("new", math.nan, math.nan, Imputable.TOO_FEW),
            ("noise" * 100, 1.0, 0.0, Imputable.CANNOT),
            ("slow", 0.2, 0.8, Imputable.LAST_VALUE),
        )
    }
    status.streams["pumps"].imputation = audits
    (shown,) = [s["imputation"] for s in snapshot(status)["streams"]]
    assert [one["verdict"] for one in shown] == ["cannot", "last_value", "good", "too_few"]
    assert len(shown[0]["sensor"]) == 200
    assert shown[2]["error"] == 0.1235
    assert shown[3]["relative"] is None
    status.streams["pumps"].imputation = {
        f"s{i}": replace(audits["calm"], sensor=f"s{i}") for i in range(999)
    }
    assert len(snapshot(status)["streams"][0]["imputation"]) == 60


def test_an_open_alert_lasts_until_the_newest_row_of_its_stream_and_a_closed_one_until_its_end(
    status: Status,
) -> None:
    """A drift, or a silence, has no message between the one that opens it and the one that closes it."""
    drift = replace(alert("pump-01", Phase.OPENED, "d"), kind=AlertKind.DRIFT, row_ns=90 * SECOND_NS)
    status.published([drift])

    def lasts(where: str) -> dict[str, float]:
        return {one["fingerprint"]: one["seconds"] for one in snapshot(status)[where]}

    assert lasts("episodes")["d"] == 11  # since its onset, two seconds before it opened
    scored(status, "pump-01", [0.1], 4_000)
    assert lasts("episodes")["d"] == 3_912
    status.published(
        [replace(drift, phase=Phase.CLOSED, row_ns=3_000 * SECOND_NS, ended_ns=2_090 * SECOND_NS)]
    )
    assert lasts("recent")["d"] == 2_002


def test_a_quiet_alert_is_open_and_nothing_of_its_asset_is(status: Status, client: Client) -> None:
    quiet = replace(alert(HOSTILE, Phase.UPDATED, "a"), ended_ns=95 * SECOND_NS)
    status.published([quiet])
    body = client.get("/api/status").json()
    assert (body["open"], body["critical"]) == (1, 0)
    assert body["episodes"][0]["seconds"] == 7  # to its last bad row
    (track,) = [one for one in body["streams"][0]["tracks"] if one["asset"] == HOSTILE]
    assert (track["kinds"], track["critical"]) == ([], False)


def test_names_that_cannot_be_encoded_do_not_break_the_page(status: Status, client: Client) -> None:
    status.published([alert("pump\ud800" + "x" * 10_000, Phase.OPENED, "c")])
    names = [e["asset"] for e in client.get("/api/status").json()["episodes"]]
    assert max(map(len, names)) == 200


def test_status_has_what_an_operator_needs(client: Client) -> None:
    body = client.get("/api/status").json()
    assert body["headline"] == "live, model 5f3a9c1e, 3 assets, 1 open episode"
    assert (body["open"], body["critical"], body["opened"]) == (1, 1, 2)
    (episode,) = body["episodes"]
    assert (episode["score"], episode["peak"], episode["threshold"]) == (7.0, 9.1, 5.1)
    assert episode["since"] == "1970-01-01T00:01:30Z"
    assert (episode["seconds"], episode["lasted"]) == (17, "17 s")
    assert len(episode["contributors"]) == 3
    assert episode["contributors"][0]["expected"] is None
    (closed,) = body["recent"]
    assert (closed["asset"], closed["peak"], closed["phase"]) == ("pump-02", 12.0, "closed")
    assert (closed["score"], closed["threshold"]) == (12.0, 5.1)  # of one that is over, the peak
    (stream,) = body["streams"]
    assert stream["records"] == {"accepted": 600, "duplicate": 0, "late": 2, "rejected": 0}
    assert stream["cells"]["corrupt"] == 40
    assert stream["corrupt"] == [{"sensor": "Level", "fault": "text", "cells": 40}]
    assert stream["part_thresholds"] == {"kl": None}
    assert stream["models"][0]["result"] == "refused"
    tracks = {t["asset"]: t for t in stream["tracks"]}
    assert tracks[HOSTILE]["kinds"] == ["anomaly"]
    assert tracks["pump-01"]["score"] == 0.0  # the newest that it has: its newest row has none
    assert tracks["pump-02"]["ratio"] == pytest.approx(9.9 / 5.1, rel=1e-3)


def test_status_is_bounded_whatever_the_fleet(status: Status, client: Client) -> None:
    for n in range(3_000):
        status.published([alert(f"asset-{n}", Phase.OPENED, f"f{n}")])
        scored(status, f"asset-{n}", [8.0], n)
    answer = client.get("/api/status")
    assert answer.json()["open"] == 3_001
    assert len(answer.json()["episodes"]) == 100
    assert len(answer.content) < 400_000


def test_drift_is_the_worst_partition_of_each_interval(status: Status, client: Client) -> None:
    for end, partition, latent in ((1, 0, 0.1), (1, 1, 0.4), (2, 0, 0.2)):
        status.published([
            DriftRecord(
                "pumps", InputPartition("plant.pumps", partition), 0, end * SECOND_NS, "m", 9,
                (), (), (), (), (), 1.0, (latent / 2, latent / 2), (math.inf,), 0.3, 0.3, "drift",
            )
        ])  # fmt: skip
    drift = client.get("/api/status").json()["streams"][0]["drift"]
    assert drift["latent"] == {"value": 0.2, "threshold": 0.3, "history": [0.4, 0.2]}
    assert drift["residual"]["value"] is None
    assert drift["verdict"] == "drift"
    assert drift["assets"] == {"judged": 0, "drifting": 0, "named": []}


def test_events_go_on_where_the_reader_was(client: Client) -> None:
    first = client.get("/api/events").json()
    assert [e["phase"] for e in first["events"]] == ["opened", "updated", "opened", "closed"]
    later = client.get(f"/api/events?after={first['sequence'] - 1}").json()
    assert [e["sequence"] for e in later["events"]] == [4]
    for wrong in ("x", "-1", "9" * 30, "٣"):
        assert client.get("/api/events", params={"after": wrong}).status_code == 400


@pytest.mark.parametrize(
    ("rows", "training", "expected"),
    [
        (0, False, "learning, 0 of 500 rows, 0 assets, 0 open episodes"),
        (9_999, False, "learning, 500 of 500 rows, 0 assets, 0 open episodes"),
        (500, True, "learning, training, 0 assets, 0 open episodes"),
    ],
)
def test_headline_while_learning(rows: int, training: bool, expected: str) -> None:
    status = Status({"pumps": 500})
    status.joined = True
    status.streams["pumps"].state = Lifecycle.LEARNING
    status.streams["pumps"].rows = rows
    if training:
        status.training("pumps", Trigger(Cause.DRIFT, "p/0 drifts"), lambda: (0.25, "fitting"))
    assert headline(status) == expected


def test_headline_of_two_streams() -> None:
    status = Status({"pumps": 500, "fans": 500})
    assert headline(status) == "starting, 0 assets, 0 open episodes"
    status.joined = True
    status.model("pumps", "a", threshold=1.0, part_thresholds={})
    status.model("fans", "b", threshold=1.0, part_thresholds={})
    assert headline(status) == "live, 2 models, 0 assets, 0 open episodes"


def test_spark_keeps_peaks_and_gaps() -> None:
    scores = [0.0] * 300
    scores[7] = 9.0
    assert len(spark(scores)) == SPARK_POINTS
    assert max(v for v in spark(scores) if v is not None) == 9.0
    assert spark([]) == []
    assert spark([1.0, math.nan, 2.0]) == [1.0, None, 2.0]
    assert spark([math.nan] * 6 + [1.0] * 200)[:2] == [None, None]


def entry(
    sensor: str, kind: str, recall: float, size: float | None, within_s: float | None = 60.0
) -> dict[str, Any]:
    """As ``drill_report.entry`` makes it."""
    smallest = (
        None if size is None else {"sd": 1.0, "value": size, "low": size, "high": None, "within_s": within_s}
    )
    by_size = [{"sd": 1.0}] if kind != "stuck" else []
    return {
        "sensor": sensor, "kind": kind, "recall": recall, "faults": 40, "delay_s": 30.0, "smallest": smallest,
        "by_size": by_size, "alert": "anomaly", "says": f"{sensor}: {kind}",
    }  # fmt: skip


def test_the_fire_drill_is_a_row_per_sensor(status: Status, client: Client) -> None:
    assert client.get("/api/status").json()["streams"][0]["drill"] == []
    status.streams["pumps"].drill = lambda: [
        entry(HOSTILE, "shift", 0.75, 0.41234),
        entry(HOSTILE, "stuck", 1.0, None),
        entry("Flow", "shift", 0.1, None),
    ]
    rows = client.get("/api/status").json()["streams"][0]["drill"]
    assert [row["sensor"] for row in rows] == [HOSTILE, "Flow"]
    assert rows[0]["kinds"]["shift"] == {
        "recall": 0.75,
        "sized": True,
        "above": 0.412,
        "within": 60.0,
        "faults": 40,
        "says": f"{HOSTILE}: shift",
    }
    stuck = rows[0]["kinds"]["stuck"]
    assert (stuck["sized"], stuck["above"], stuck["within"]) == (False, None, 30.0)
    assert rows[1]["kinds"]["shift"]["above"] is None


def test_of_many_sensors_the_page_shows_those_of_which_least_is_found(status: Status) -> None:
    entries = [entry(f"s{i}", kind, i / 100, None) for i in range(100) for kind in ("shift", "stuck")]
    status.streams["pumps"].drill = lambda: entries
    shown = [row["sensor"] for row in snapshot(status)["streams"][0]["drill"]]
    assert shown == [f"s{i}" for i in range(40)]


def test_what_a_model_has_learned_until_is_no_time_of_training(status: Status) -> None:
    (stream,) = snapshot(status)["streams"]
    assert stream["learned_until"] == "2026-03-04T00:00:00+00:00"
    assert "trained_at" not in stream  # `models list` has it, by the wall clock
