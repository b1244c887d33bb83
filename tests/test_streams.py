"""The faulty streams with their ground truth, line by line through real Kafka and through ``replay``."""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.running import (
    SHARED,
    SKAB_SENSORS,
    Daemon,
    command,
    config_for,
    lines_of,
    make_topic,
    messages,
    send,
    topic_of,
    unique,
)

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.shared,
    pytest.mark.slow,
    pytest.mark.skipif(not (SHARED / "streams").is_dir(), reason="the measuring streams are not here"),
]

STEPS = 300
"""Optimiser steps of the model: what is tested here does not depend on its quality."""


def truth_of(form: str) -> dict[str, Any]:
    """The stream's ground truth."""
    found: dict[str, Any] = json.loads((SHARED / f"streams/{form}.truth.json").read_text())
    return found


def nanoseconds(timestamp: str) -> int:
    """Nanoseconds since the epoch of an ISO 8601 instant."""
    return int(np.datetime64(timestamp.rstrip("Z"), "ns").astype(np.int64))


def columns_of(path: Path) -> dict[str, list[Any]]:
    """A result file's columns, the instants as nanoseconds."""
    table = pq.read_table(path)
    at = table.column_names.index("timestamp")
    found: dict[str, list[Any]] = table.set_column(
        at, "timestamp", table["timestamp"].cast(pa.int64())
    ).to_pydict()
    return found


@dataclass(frozen=True)
class StreamResults:
    """One stream through Kafka and through ``replay``, with the same bundle."""

    form: str
    lines: list[bytes]
    state: dict[str, Any]
    scores: list[dict[str, Any]]
    imputed: list[dict[str, Any]]
    alerts: list[dict[str, Any]]
    dead: list[Any]
    replayed: Path
    exit_code: int

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.replayed / "summary.json").read_text())
        return found


@pytest.fixture(scope="module", params=["wide", "long"])
def ran(
    request: pytest.FixtureRequest, kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory
) -> StreamResults:
    form = request.param
    folder = tmp_path_factory.mktemp(form)
    source = SHARED / f"streams/{form}.jsonl.gz"
    lines = lines_of(source)
    topic, prefix = unique("in"), unique("out")
    make_topic(kafka_bootstrap, topic, 4)
    config = config_for(kafka_bootstrap, topic, prefix, SKAB_SENSORS, format=f"json-{form}")
    daemon = Daemon(folder / "daemon", config, "--model", folder / "bundle")
    trained = command(
        "train", source, "-c", daemon.config, "--out", folder / "bundle", "--set", f"model.steps={STEPS}"
    )
    assert trained.returncode == 0, trained.stderr
    done = command(
        "replay", source, "-c", daemon.config, "--model", folder / "bundle", "--out", folder / "replay"
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder / "replay/summary.json").read_text())["rows"]
    with daemon:
        daemon.until(lambda s: s["state"] == "live")
        send(kafka_bootstrap, topic, lines)
        # An idle log closes its rows after the allowed lateness.
        state = daemon.until(lambda s: sum(s["records"].values()) == len(lines) and s["rows"] == rows)
        code = daemon.stop()
    return StreamResults(
        form,
        lines,
        state,
        messages(kafka_bootstrap, f"{prefix}.scores"),
        messages(kafka_bootstrap, f"{prefix}.imputed"),
        messages(kafka_bootstrap, f"{prefix}.alerts"),
        topic_of(kafka_bootstrap, f"{prefix}.dead-letter"),
        folder / "replay",
        code,
    )


def test_every_line_is_accounted_for(ran: StreamResults) -> None:
    assert sum(ran.state["records"].values()) == len(ran.lines)
    assert ran.state["records"] == {k: v for k, v in ran.summary["records"].items() if k != "read"}
    assert ran.summary["records"]["read"] == len(ran.lines)
    assert ran.exit_code == 0


def test_every_garbage_line_is_in_the_dead_letter_topic_byte_for_byte(ran: StreamResults) -> None:
    garbage = sorted(number for numbers in truth_of(ran.form)["garbage"].values() for number in numbers)
    assert Counter(record.value for record in ran.dead) == Counter(ran.lines[number] for number in garbage)
    for record in ran.dead:
        headers = dict(record.headers)
        assert headers["reason"]
        assert headers["origin-topic"]


READ_ALL_THE_SAME = ('"12,34"', "true")
"""Tokens that the truth calls corrupt and that a person can read: a decimal comma, and on or off as 1 or 0."""


def test_corrupt_values_are_missing_cells_and_every_missing_reading_is_imputed(ran: StreamResults) -> None:
    readings = pq.read_table(SHARED / f"streams/{ran.form}.truth.readings.parquet").to_pydict()
    last: dict[str, int] = {}
    filled: set[tuple[str, int, str]] = set()
    for message in ran.imputed:
        row = nanoseconds(message["timestamp"])
        filled.update((message["asset"], row, sensor) for sensor in message["values"])
    for message in ran.scores:
        last[message["asset"]] = max(last.get(message["asset"], 0), nanoseconds(message["timestamp"]))
    wanted = {
        (asset, int(time) * 1_000_000, sensor)
        for asset, time, sensor, status, token in zip(
            *(readings[name] for name in ("asset", "ts", "sensor", "status", "token")), strict=True
        )
        if status != "ok" and token not in READ_ALL_THE_SAME
    }
    wanted = {key for key in wanted if key[1] <= last[key[0]]}
    assert len(wanted) > 7_000
    assert not wanted - filled
    assert all(
        cell["low"] <= cell["value"] <= cell["high"] for m in ran.imputed for cell in m["values"].values()
    )


def test_the_dead_sensor_raises_sensor_silent_once(ran: StreamResults) -> None:
    dead = truth_of(ran.form)["dead_sensor"]
    said = [
        (m["subject"], m["data"]["sensor"])
        for m in ran.alerts
        if m["data"]["kind"] == "sensor_silent" and m["type"] == "io.anomalyd.episode.opened.v1"
    ]
    assert said == [(dead["asset"], dead["sensor"])]


def test_replay_gives_the_same_scores_fills_and_dead_letters(ran: StreamResults) -> None:
    table = columns_of(ran.replayed / "scores.parquet")
    replayed = {
        (asset, time): (score, alarm)
        for asset, time, score, alarm in zip(
            table["asset"], table["timestamp"], table["score"], table["alarm"], strict=True
        )
        if score == score
    }
    live = {
        (m["asset"], nanoseconds(m["timestamp"])): (m["score"], m["alarm"])
        for m in ran.scores
        if m["score"] is not None
    }
    assert live.keys() == replayed.keys()
    assert len(live) > 15_000
    # Not a digit may differ (the promise is 1e-5): the record batches of the two runs differ.
    assert live == replayed
    cells = columns_of(ran.replayed / "imputed.parquet")
    from_replay = {
        (asset, time, sensor): (value, low, high)
        for asset, time, sensor, value, low, high in zip(
            *(cells[name] for name in ("asset", "timestamp", "sensor", "value", "low", "high")), strict=True
        )
    }
    from_kafka = {
        (m["asset"], nanoseconds(m["timestamp"]), sensor): (cell["value"], cell["low"], cell["high"])
        for m in ran.imputed
        for sensor, cell in m["values"].items()
    }
    assert from_kafka.keys() == from_replay.keys()
    assert all(np.allclose(from_kafka[k], from_replay[k], rtol=1e-5, atol=1e-6) for k in from_kafka)
    letters = [json.loads(line) for line in (ran.replayed / "dead-letter.jsonl").read_text().splitlines()]
    assert Counter(base64.b64decode(letter["original"]) for letter in letters) == Counter(
        record.value for record in ran.dead
    )


def test_ids_are_unique_and_every_output_names_its_model(ran: StreamResults) -> None:
    ids = [m["id"] for m in ran.alerts]
    assert len(ids) == len(set(ids))
    (version,) = ran.summary["models"]
    assert {m["model"] for m in ran.scores} == {version}
    assert {m["model"] for m in ran.imputed} == {version}
    assert {m["data"]["model"]["version"] for m in ran.alerts} == {version}
