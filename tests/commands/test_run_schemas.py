"""``anomalyd run`` on Avro with a schema registry and real Kafka: the scores of JSON, and an outage at the start."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.broker import NoBrokerError, produce
from tests.conftest import without_broker
from tests.registry import Apicurio, Registry
from tests.running import Daemon, command, config_for, make_topic, messages, topic_of, unique
from tests.stream.decode.framings import PUMP, avro, confluent, text_of

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SENSORS = ("pressure", "temperature")
BEGIN_MS = 1_764_397_200_000


def readings(rows: int) -> list[dict[str, Any]]:
    """Readings of two pumps that swing together, a second apart, with a fault at the end of one."""
    return [
        {
            "asset": f"pump-{asset}",
            "ts": BEGIN_MS + 1000 * row,
            "temperature": 80 + math.sin(row / 7 + asset) + 20 * (asset == 1 and row > rows - 20),
            "pressure": 4 + math.cos(row / 7 + asset) / 10,
        }
        for row in range(rows)
        for asset in (1, 2)
    ]


def as_json(reading: dict[str, Any]) -> bytes:
    """A reading as json-wide."""
    values = {name: reading[name] for name in SENSORS}
    return json.dumps({"asset": reading["asset"], "ts": reading["ts"], "values": values}).encode()


@pytest.fixture(params=["in this process", "apicurio"])
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry | Apicurio]:
    """A registry that may be stopped and started."""
    if request.param == "in this process":
        with Registry() as made:
            yield made
        return
    try:
        real = Apicurio(tmp_path_factory.mktemp("apicurio")).__enter__()
    except NoBrokerError as error:
        without_broker(str(error))
        raise
    try:
        yield real
    finally:
        real.__exit__()


def test_avro_is_scored_like_json_and_an_outage_of_the_registry_loses_nothing(
    kafka_bootstrap: str, tmp_path: Path, registry: Registry | Apicurio
) -> None:
    normal = tmp_path / "normal.jsonl"
    normal.write_bytes(b"\n".join(map(as_json, readings(600)[:1000])) + b"\n")
    learned = Daemon(tmp_path / "train", config_for("localhost:1", "unused", "unused", SENSORS)).config
    done = command("train", normal, "-c", learned, "--out", tmp_path / "bundle", "--set", "model.kind=ppca")
    assert done.returncode == 0, done.stderr

    id = registry.register(unique("pumps"), text_of(PUMP))
    framed, plain, prefix = unique("avro"), unique("json"), unique("out")
    mapping = {"decode": "avro", "asset": "asset", "time": "ts", "leaves": "."}
    config = config_for(kafka_bootstrap, framed, prefix, SENSORS, input=mapping)
    config["streams"].append({"name": "plain", "topics": [plain], "sensors": list(SENSORS), "period": "1s"})
    config["schema_registry"] = {"url": registry.url, "timeout": "2s"}
    sent = readings(300)
    lines = {framed: [confluent(id, avro(PUMP, each)) for each in sent], plain: list(map(as_json, sent))}
    for topic, values in lines.items():
        make_topic(kafka_bootstrap, topic)
        keyed = [(each["asset"].encode(), value) for each, value in zip(sent, values, strict=True)]
        asyncio.run(produce(kafka_bootstrap, topic, [*keyed, (b"pump-1", confluent(2_000_000, b"?"))]))

    registry.stop()
    with Daemon(tmp_path / "run", config, "--model", tmp_path / "bundle") as daemon:
        daemon.until(lambda state: "schema_registry_unreachable" in daemon.log.read_text())
        assert daemon.get("/livez")[0] == 200
        assert not any(daemon.stream()["records"].values())
        registry.start()
        daemon.until(lambda state: sum(state["records"].values()) == len(sent) + 1)
        daemon.until(lambda state: sum(of_second_stream(daemon).values()) == len(sent) + 1)
        assert b'anomalyd_schema_requests_total{result="absent"} 1.0' in daemon.get("/metrics")[1]
        assert daemon.stop() == 0
    events = [each["event"] for each in daemon.events()]
    assert events.count("schema_registry_unreachable") == events.count("schema_registry_reached") == 1
    scores: dict[tuple[str, str], list[float]] = {}
    for each in messages(kafka_bootstrap, f"{prefix}.scores"):
        scores.setdefault((each["asset"], each["timestamp"]), []).append(each["score"])
    assert len(scores) > 500
    assert [(k, v) for k, v in scores.items() if len(v) != 2 or v[0] != v[1]] == []
    letters = [dict(each.headers) for each in topic_of(kafka_bootstrap, f"{prefix}.dead-letter")]
    assert sorted(each["reason"] for each in letters) == [b"not_utf8", b"unknown_schema"]


def of_second_stream(daemon: Daemon) -> dict[str, int]:
    """What became of the records of the second stream."""
    code, body = daemon.get("/api/status")
    records: dict[str, int] = json.loads(body)["streams"][1]["records"] if code == 200 else {}
    return records
