"""``anomalyd feedback``: verdicts that are told to a running daemon on real Kafka, and what cannot be told."""

from __future__ import annotations

import getpass
import json
import math
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from daemon.commands.feedback import Alert, effect_of
from daemon.control import Verdict
from tests.commands.talking import Talking
from tests.running import command, messages

BEGIN_S = 1_764_397_200


def lines(first: int, end: int, *faults: range) -> list[bytes]:
    """Readings of a pump with a period of 44 rows, whose temperature is off in each of ``faults``."""
    return [
        json.dumps(
            {
                "asset": "pump-1",
                "ts": BEGIN_S + row,
                "values": {
                    "temperature": 80 + math.sin(row / 7) + 20 * any(row in fault for fault in faults),
                    "pressure": 4 + math.cos(row / 7) / 10,
                },
            }
        ).encode()
        for row in range(first, end)
    ]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "which alert"),
        (["8f2c"], "which alert"),
        (["8f2c", "wrong"], "'false_alarm'"),
        (["8f2c", "planned", "--list"], "leave the fingerprint out"),
        (["8f2c", "planned", "--note", "x" * 2_000], "note has 2000 characters"),
        (["", "planned"], "fingerprint is empty"),
    ],
)
def test_a_verdict_that_cannot_be_told_is_refused_before_any_broker(
    tmp_path: Path, arguments: list[str], why: str
) -> None:
    (tmp_path / "config.yaml").write_text("streams: [{name: s, topics: [t], sensors: [a]}]\n")
    done = command("feedback", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert why in done.stderr


@pytest.mark.parametrize(
    ("kind", "verdict", "is_open", "effect"),
    [
        ("anomaly", "false_alarm", True, "the alert closes, and its like on p1 must come half as high again to alert"),
        ("anomaly", "false_alarm", False, "its like on p1 must come half as high again to alert"),
        ("asset_silent", "false_alarm", True, "the alert closes; the next silence opens one again"),
        ("sensor_stuck", "false_alarm", False, "it is noted"),
        ("drift", "false_alarm", True, "it is noted; an alert of kind drift closes when it is over"),
        ("anomaly", "planned", False, "nothing is left to accept: the alert is over. If there was an earlier verdict on it, that is taken back. Say planned while an alert is open; false_alarm holds back its like on p1"),
    ],
)  # fmt: skip
def test_what_a_verdict_will_do_is_said(kind: str, verdict: str, is_open: bool, effect: str) -> None:
    assert effect_of(Alert("8f2c", "p1", kind, "", is_open, ""), Verdict(verdict)) == effect


@pytest.mark.kafka
@pytest.mark.slow
def test_a_false_alarm_that_is_told_does_not_come_again(kafka_bootstrap: str, tmp_path: Path) -> None:
    talking = Talking(kafka_bootstrap, tmp_path, lines(-700, 0), "--set", "http.control=true")
    daemon, feedback = talking.daemon, partial(talking.say, "feedback")

    def on_the_page(**said: str) -> Any:
        address = f"http://127.0.0.1:{daemon.port}"
        headers = {"Origin": address, "Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{address}/api/control/feedback", json.dumps(said).encode(), headers, method="POST"
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def opened() -> list[dict[str, Any]]:
        found = messages(kafka_bootstrap, f"{talking.prefix}.alerts")
        return [
            m["data"] for m in found if m["type"].endswith(".opened.v1") and m["data"]["kind"] == "anomaly"
        ]

    with daemon:
        daemon.until(lambda state: True)
        assert feedback("--list") == []
        assert "is empty" in feedback("8f2c", "planned", code=2)
        talking.send(lines(0, 300, range(200, 220)), 300)
        daemon.until(lambda state: bool(opened()))
        (first,) = opened()
        name = first["fingerprint"]
        assert name in feedback("nothing", "planned", code=2)
        told = feedback(name[:8], "false_alarm", "--note", "lid")
        assert (told["fingerprint"], told["asset"], told["kind"]) == (name, "pump-1", "anomaly")
        assert told["effect"].endswith("its like on pump-1 must come half as high again to alert")
        assert feedback("0123", "confirmed", "--by", "kim", "--force")["asset"] is None
        again = on_the_page(fingerprint=name, verdict="false_alarm", by="ada", note="the lid")
        assert again["told"].endswith("its like on pump-1 must come half as high again to alert")
        daemon.until(lambda state: daemon.log.read_text().count("control_received") == 3)
        talking.send(lines(300, 500, range(420, 440)), 500)
        status = json.loads(daemon.get("/api/status")[1])
        (shown,) = [one for one in status["recent"] if one["fingerprint"] == name]
        said_of, said = {key: shown[key] for key in shown if key != "told"}, shown["told"]
        assert (said["by"], said["did"]) == ("ada", "its like was held back 1 time since")
        assert daemon.stop() == 0
    with daemon:  # a successor knows it, too
        talking.send(lines(500, 700, range(640, 660)), 200)
        (recent,) = json.loads(daemon.get("/api/status")[1])[
            "recent"
        ]  # the page shows it after a restart, too
        assert {key: recent[key] for key in said_of} == said_of
        assert on_the_page(fingerprint=name, verdict="confirmed", by="ada")["told"].startswith("it is kept")
        assert daemon.stop() == 0
    assert [data["fingerprint"] for data in opened()] == [name]
    listed = feedback("--list")
    assert [
        (row["fingerprint"], row["verdict"], row["by"], row["note"], row["counts"]) for row in listed
    ] == [
        (name, "false_alarm", getpass.getuser(), "lid", False),
        ("0123", "confirmed", "kim", None, True),
        (name, "false_alarm", "ada", "the lid", False),
        (name, "confirmed", "ada", None, True),
    ]
