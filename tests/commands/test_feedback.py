"""``anomalyd feedback``: verdicts that are told to a running daemon on real Kafka, and what cannot be told."""

from __future__ import annotations

import getpass
import json
import math
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from daemon.alert import AcceptedChange
from daemon.commands.feedback import Alert, effect_of, given_verdicts
from daemon.control import Feedback, Verdict
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


CLOSED = Alert("8f2c", "p1", "anomaly", "", False, "")
DONE = replace(CLOSED, planned=True, accepted=[AcceptedChange("pressure", 1.29, "bar")])
TOO_LATE = "too late: the alert was over, and nothing was left to accept"


@pytest.mark.parametrize(
    ("verdicts", "alert", "did"),
    [
        ("planned", DONE, ["accepted: pressure +1.29 bar"]),
        ("planned", CLOSED, [TOO_LATE]),
        ("planned", replace(CLOSED, planned=True), ["the alert closed with it"]),
        ("planned", replace(CLOSED, kind="drift"), [None]),
        ("planned", None, [None]),
        ("false_alarm planned", CLOSED, [None, TOO_LATE]),
        ("planned planned", DONE, [None, "accepted: pressure +1.29 bar"]),
        ("planned confirmed", DONE, [None, None]),
        ("planned confirmed planned", DONE, [None, None, None]),  # it may have closed by the first one
    ],
)
def test_what_a_planned_verdict_did_is_listed(
    verdicts: str, alert: Alert | None, did: list[str | None]
) -> None:
    given = [(n, Feedback("8f2c", Verdict(one))) for n, one in enumerate(verdicts.split())]
    found = given_verdicts(given, {} if alert is None else {"8f2c": alert})
    assert [one.did for one in found] == did
    assert [one.has_accepted for one in found] == [
        one is not None and alert is not None and alert.planned for one in did
    ]


def test_an_alert_that_is_still_open_waits_for_its_next_row_but_slow_wear_does_not() -> None:
    is_open = replace(CLOSED, open=True)
    (found,) = given_verdicts([(0, Feedback("8f2c", Verdict.PLANNED))], {"8f2c": is_open})
    assert found.did is not None
    assert "next scored row" in found.did
    slow = replace(is_open, kind="deviation", slow=True)
    (found,) = given_verdicts([(0, Feedback("8f2c", Verdict.PLANNED))], {"8f2c": slow})
    assert found.did is None
    before = "it was called planned while it was open: accepted: pressure +1.29 bar. Nothing more is left to accept"
    assert effect_of(DONE, Verdict.PLANNED) == before
    assert effect_of(slow, Verdict.PLANNED) == "it is noted; an alert of slow wear closes when it is over"


@pytest.mark.kafka
@pytest.mark.slow
def test_what_was_accepted_is_answered_and_listed(kafka_bootstrap: str, tmp_path: Path) -> None:
    talking = Talking(kafka_bootstrap, tmp_path, lines(-700, 0))
    with talking.daemon as daemon:
        daemon.until(lambda state: state["state"] == "live")
        talking.send(lines(0, 300, range(270, 300)), 300)
        daemon.until(lambda state: bool(json.loads(daemon.get("/api/status")[1])["episodes"]))
        (alert,) = json.loads(daemon.get("/api/status")[1])["episodes"]
        with ThreadPoolExecutor() as aside:
            answer = aside.submit(talking.say, "feedback", alert["fingerprint"], "planned")
            daemon.until(lambda state: "verdict_taken" in daemon.log.read_text())
            talking.send(lines(300, 310, range(300, 310)), 310)
            told = answer.result()
        changes = {one["sensor"]: one["change"] for one in told["accepted"]}
        assert changes["temperature"] == pytest.approx(20, abs=4), changes
        assert told["effect"].startswith("accepted: ")
        talking.say("feedback", alert["fingerprint"], "planned")
        listed = talking.say("feedback", "--list")
        assert [(row["did"], row["accepted"]) for row in listed] == [
            (None, []),
            (told["effect"], told["accepted"]),
        ]
        assert '"change_accepted"' in daemon.log.read_text()
        assert daemon.stop() == 0


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
        daemon.until(lambda state: state["state"] == "live")
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
