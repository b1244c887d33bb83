"""The first alert of a topic that nothing is known of: ``init`` on it, ``check``, and ``run`` with what was written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.broker import produce
from tests.running import Daemon, command, make_topic, messages, unique

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

START = 1_750_000_000
ROWS, ASSETS = 700, 4
Message = Callable[[int, int, dict[str, float]], dict[str, Any]]
LEARNED = {"kind": "ppca", "learn_rows": 1200}


def telegraf(row: int, asset: int, values: dict[str, float]) -> dict[str, Any]:
    """What Telegraf's outputs.kafka writes as JSON."""
    tags = {"host": f"press-{asset}", "unit": "line-2"}
    return {"fields": values, "name": "modbus", "tags": tags, "timestamp": START + 10 * row}


def opc_ua(row: int, asset: int, values: dict[str, float]) -> dict[str, Any]:
    """What an OPC UA publisher writes: a data set of one writer, each value with its own time."""
    at = datetime.fromtimestamp(START + 10 * row, UTC).isoformat()
    payload = {name: {"Value": value, "SourceTimestamp": at} for name, value in values.items()}
    message = {
        "DataSetWriterId": f"press-{asset}",
        "SequenceNumber": row,
        "Timestamp": at,
        "Payload": payload,
    }
    return {
        "MessageId": f"m-{row}-{asset}",
        "MessageType": "ua-data",
        "PublisherId": "line-2",
        "Messages": [message],
    }


def rows(message: Message, seed: int, fault_from: int) -> list[dict[str, Any]]:
    """Readings of presses that follow one load; from a row on the first one's temperature does so no more."""
    rng = np.random.default_rng(seed)
    load = np.cumsum(rng.normal(0, 0.1, (ROWS, ASSETS)), axis=0)
    found = []
    for row in range(ROWS):
        for asset in range(ASSETS):
            at = float(load[row, asset])
            noise = rng.normal(0, 0.05, 3)
            odd = 12.0 if asset == 0 and fault_from <= row < fault_from + 40 else 0.0
            values = {
                "temperature": round(60 + 4 * at + noise[0] + odd, 3),
                "pressure": round(5 + at + noise[1], 3),
                "speed": round(1400 - 50 * at + noise[2], 3),
            }
            found.append(message(row, asset, values))
    return found


@pytest.mark.parametrize("message", [telegraf, opc_ua])
def test_a_topic_to_its_first_alert(kafka_bootstrap: str, tmp_path: Path, message: Message) -> None:
    topic, prefix = unique("plant.presses"), unique("out")
    make_topic(kafka_bootstrap, topic, 1)
    sent = [(None, json.dumps(row).encode()) for row in rows(message, 1, fault_from=600)]
    asyncio.run(produce(kafka_bootstrap, topic, sent[: 500 * ASSETS]))
    to = ("--bootstrap-servers", kafka_bootstrap)
    done = command("init", topic, *to, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (stream,) = written["streams"]
    assert stream["period"] == "10s"
    assert {name.partition(".")[0] for name in stream["sensors"]} == {"temperature", "pressure", "speed"}
    shown = command("inspect", topic, *to, "--json", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["totals"]["assets"] == ASSETS
    config = written | {"model": LEARNED, "outputs": {"prefix": prefix}, "retrain": {"every": None}}
    config["kafka"]["group_id"] = unique("group")
    (tmp_path / "checked.yaml").write_text(yaml.safe_dump(config))
    checked = command("check", "--probe", "-c", tmp_path / "checked.yaml", "--json", cwd=tmp_path)
    (records,) = [each for each in json.loads(checked.stdout) if each["what"] == f"records of {topic}"]
    assert records["ok"]
    assert "200 of the newest 200 records would be accepted (100%)" in records["detail"]
    with Daemon(tmp_path / "run", config) as daemon:
        daemon.until(lambda s: s["state"] == "live")
        asyncio.run(produce(kafka_bootstrap, topic, sent[500 * ASSETS :]))
        daemon.until(lambda s: sum(s["records"].values()) == len(sent))
        assert daemon.stop() == 0
    alerts = messages(kafka_bootstrap, f"{prefix}.alerts")
    assert "press-0" in {alert["data"]["labels"]["asset"] for alert in alerts}
