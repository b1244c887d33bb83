"""The admin port: honest probes, read-only, and no name of the input ever becomes markup."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
import re
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from daemon.adapters.telemetry import Lifecycle, Metrics, Promotion, Status
from daemon.adapters.web import PAGE, SPARK_POINTS, create_app, headline, serve, spark
from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    Contributor,
    Disposition,
    DriftRecord,
    InputPartition,
    PartScore,
    Phase,
    Severity,
)
from daemon.errors import ConfigError, DaemonError

PATHS = ["/", "/livez", "/readyz", "/startupz", "/metrics", "/api/status", "/api/events"]
HOSTILE = "<script>alert(1)</script>\"'&\n\u2028"
PARTITION = InputPartition("plant.pumps", 0)


def alert(asset: str, phase: Phase, fingerprint: str, score: float = 9.1, n: int = 0) -> AlertEvent:
    return AlertEvent(
        stream="pumps", asset=asset, kind=AlertKind.ANOMALY, phase=phase, severity=Severity.CRITICAL,
        fingerprint=fingerprint, id=f"{fingerprint}{n}",
        row_ns=(100 + n) * SECOND_NS, onset_ns=88 * SECOND_NS,
        opened_ns=90 * SECOND_NS, model="5f3a9c1e", calibration="full", summary=f"{asset} looks odd",
        scores={"combined": PartScore(score, 5.1)}, contributors=[Contributor(asset, 0.91, None, 0.6)] * 9,
        partition=PARTITION,
    )  # fmt: skip


def scored(status: Status, asset: str, scores: list[float], first: int = 0) -> None:
    for row, score in enumerate(scores, first):
        times = np.array([row * SECOND_NS])
        one, quiet = np.zeros(1, int), np.zeros(1, bool)
        status.streams["pumps"].scored_rows([asset], one, times, np.array([score]), quiet)


@pytest.fixture
def status() -> Status:
    """A live fleet of three with one open episode; one name is an attack."""
    now = datetime(2026, 3, 4, tzinfo=UTC)
    status = Status({"pumps": 500}, now=lambda: now, clock=lambda: 0.0)
    status.joined = status.connected = True
    status.model("pumps", "5f3a9c1e", threshold=5.1, part_thresholds={"kl": math.nan}, trained_at=now)
    status.promotion("pumps", "5f3a9c1e", Promotion.REFUSED, HOSTILE)
    status.dispositions("pumps", {Disposition.ACCEPTED: 600, Disposition.LATE: 2})
    for n, asset in enumerate(("pump-01", "pump-02", HOSTILE)):
        scored(status, asset, [0.1 * t * n for t in range(100)])
    scored(status, "pump-01", [math.nan], 101)
    status.published([alert(HOSTILE, Phase.OPENED, "a", 9.1), alert(HOSTILE, Phase.UPDATED, "a", 7.0, 5)])
    status.published([alert("pump-02", Phase.OPENED, "b", 12.0), alert("pump-02", Phase.CLOSED, "b", 1.0, 9)])
    return status


class Client:
    """The application in process, one request at a time."""

    def __init__(self, app: Starlette) -> None:
        self._app = app

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)


@pytest.fixture
def client(status: Status) -> Client:
    return Client(create_app(status, Metrics(["pumps"], ["plant.pumps"])))


# ------------------------------------------------------------------ probes
def test_probes_of_a_live_process(client: Client) -> None:
    assert [client.get(path).status_code for path in PATHS] == [200] * 7
    assert client.get("/readyz").json() == {"ready": True, "because": []}
    assert client.get("/startupz").json() == {"started": True}


def test_probes_on_the_way_up_and_down() -> None:
    now = 0.0
    status = Status(["pumps"], stall_after=timedelta(seconds=30), clock=lambda: now)
    client = Client(create_app(status, Metrics(["pumps"], ["t"])))

    def codes() -> list[int]:
        return [client.get(path).status_code for path in ("/livez", "/readyz", "/startupz")]

    assert codes() == [200, 503, 503]
    status.beat()
    status.connected = status.joined = True
    assert codes() == [200, 200, 200]
    with status.waiting_for("kafka"):  # the broker is gone for a day
        status.connected = False
        now += 86_400
        assert codes() == [200, 503, 200]
        assert client.get("/livez").json()["waiting_for"] == "kafka"
    status.connected = True
    now += 31  # the loop itself stands still
    assert codes() == [503, 200, 200]
    status.beat()
    status.drain()
    assert codes() == [200, 503, 200]
    assert client.get("/readyz").json()["because"] == ["draining"]


# ------------------------------------------------------------------ read-only and safe
@pytest.mark.parametrize("path", PATHS)
def test_only_reading_is_allowed(client: Client, path: str) -> None:
    head = client.request("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = client.request(method, path)
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_unknown_paths_are_not_found(client: Client) -> None:
    for path in ("/admin", "/api", "/..%2f..%2fetc/passwd", "/api/status/"):
        assert client.get(path, follow_redirects=False).status_code in (404, 307)


@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
def test_every_answer_carries_the_safe_headers(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"


def test_a_hostile_name_never_becomes_markup(client: Client) -> None:
    page = client.get("/").text
    assert page == PAGE  # nothing is put into it
    assert "alert(1)" not in page
    answer = client.get("/api/status")
    assert answer.headers["content-type"] == "application/json"
    assert "<" not in answer.text
    assert answer.json()["episodes"][0]["asset"] == HOSTILE  # the name itself arrives whole
    # ... and the script has no way to make markup of it.
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function", page)


def test_the_page_loads_nothing_from_outside_and_its_policy_fits(client: Client) -> None:
    answer = client.get("/")
    page, policy = answer.text, answer.headers["content-security-policy"]
    assert "http://" not in page
    assert "https://" not in page
    assert not re.search(r"""(src|@import|url\()\s*=?\s*["']?//""", page)
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert not re.search(r"""\s(style|on\w+)=["']""", page)  # the policy would refuse them


def test_metrics_carry_no_asset(client: Client) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "anomalyd_build_info" in answer.text
    assert "pump-0" not in answer.text


def test_names_that_cannot_be_encoded_do_not_break_the_page(status: Status, client: Client) -> None:
    status.published([alert("pump\ud800" + "x" * 10_000, Phase.OPENED, "c")])
    names = [e["asset"] for e in client.get("/api/status").json()["episodes"]]
    assert max(map(len, names)) == 200


# ------------------------------------------------------------------ what it says
def test_status_tells_what_an_operator_asks(client: Client) -> None:
    body = client.get("/api/status").json()
    assert body["headline"] == "live, model 5f3a9c1e, 3 assets, 1 open episode"
    assert (body["open"], body["critical"], body["opened"]) == (1, 1, 2)
    (episode,) = body["episodes"]
    assert (episode["score"], episode["peak"], episode["threshold"]) == (7.0, 9.1, 5.1)
    assert episode["since"] == "1970-01-01T00:01:30Z"
    assert episode["seconds"] == 15
    assert len(episode["contributors"]) == 3
    assert episode["contributors"][0]["expected"] is None
    (closed,) = body["recent"]
    assert (closed["asset"], closed["peak"], closed["phase"]) == ("pump-02", 12.0, "closed")
    (stream,) = body["streams"]
    assert stream["records"] == {"accepted": 600, "duplicate": 0, "late": 2, "rejected": 0}
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
    status.streams["pumps"].rows, status.streams["pumps"].training = rows, training
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


# ------------------------------------------------------------------ the server
async def test_it_serves_on_a_free_port_and_leaves_it_and_the_signals_alone(status: Status) -> None:
    app = create_app(status, Metrics(["pumps"], ["plant.pumps"]))
    handler = signal.getsignal(signal.SIGTERM)
    server = serve(app, "127.0.0.1", 0)
    assert server.port > 0
    assert server.url == f"http://127.0.0.1:{server.port}/"
    with pytest.raises(DaemonError, match=rf"http\.port {server.port} .* is taken") as raised:
        serve(app, "127.0.0.1", server.port)
    assert raised.value.exit_code == 1
    task = asyncio.create_task(server.run())
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        assert (await client.get("/livez")).json()["alive"] is True
        assert signal.getsignal(signal.SIGTERM) is handler
        answer = await client.get("/")
        assert "server" not in answer.headers
        task.cancel()  # with a connection kept alive
        with pytest.raises(asyncio.CancelledError):
            await task
    serve(app, "127.0.0.1", server.port).close()  # the port is free again


def test_a_host_that_is_not_ours_is_said(status: Status) -> None:
    app = create_app(status, Metrics(["pumps"], ["t"]))
    with pytest.raises(ConfigError, match=r"http\.host"):
        serve(app, "192.0.2.1", 0)  # a documentation address: nobody's
    with pytest.raises(ConfigError, match="no address of this machine"):
        serve(app, "no such host", 0)


def test_json_is_valid_for_a_browser(client: Client) -> None:
    # NaN is not JSON; json.loads would take it, so forbid it here.
    def refuse(text: str) -> float:
        raise AssertionError(text)

    json.loads(client.get("/api/status").text, parse_constant=refuse)
