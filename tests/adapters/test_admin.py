"""The admin port: honest probes, read-only, and no name of the input ever becomes markup."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import logging
import math
import re
import resource
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from structlog.testing import capture_logs

from daemon.adapters import admin
from daemon.adapters.admin import (
    PAGE,
    SPARK_POINTS,
    AdminServer,
    Hosts,
    create_app,
    headline,
    most_connections,
    serve,
    snapshot,
    spark,
)
from daemon.adapters.telemetry import HttpRefusal, Lifecycle, Metrics, Promotion, Status
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
from daemon.stream.audit import Imputable, SensorAudit

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
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)


@pytest.fixture
def client(status: Status) -> Client:
    return Client(create_app(status, Metrics(["pumps"], ["plant.pumps"])))


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
    (shown,) = [s["imputation"] for s in admin.snapshot(status)["streams"]]
    assert [one["verdict"] for one in shown] == ["cannot", "last_value", "good", "too_few"]
    assert len(shown[0]["sensor"]) == 200
    assert shown[2]["error"] == 0.1235
    assert shown[3]["relative"] is None
    status.streams["pumps"].imputation = {
        f"s{i}": replace(audits["calm"], sensor=f"s{i}") for i in range(999)
    }
    assert len(admin.snapshot(status)["streams"][0]["imputation"]) == 60


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


# ------------------------------------------------------------------ who may ask
OURS = [
    "localhost", "LOCALHOST", "localhost.", "localhost:9464", "localhost:", "127.0.0.1", "10.0.3.7:9464", "[::1]",
    "[::1]:9464", "[FE80::1]", "[::ffff:10.0.0.1]", "anomalyd.example.org", "Anomalyd.Example.Org.:80",
    "a.fleet.svc", "a.b.fleet.svc",
]  # fmt: skip
NOT_OURS = [
    "", " ", ".", "evil.example", "evil.example:9464", "localhost.evil.example", "evil-localhost", "localhost..",
    "admin@localhost", "localhost@evil.example", "localhost:x", "localhost:123456", "localhost:80:80", "localhost/",
    "localhost,evil.example", "localhost evil.example", "[::1", "::1", "[::1]x", "[fe80::1%eth0]", "[evil.example]",
    "[127.0.0.1]", "127.1", "0x7f000001", "2130706433", "127.0.0.01", "127.0.0.1.evil.example", "1.2.3.4.5",
    "fleet.svc", "evilfleet.svc", ".fleet.svc.evil", "\u212aocalhost", "loc\u00e4lhost", "local\x00host",
]  # fmt: skip


@pytest.mark.parametrize(("host", "expected"), [*((h, True) for h in OURS), *((h, False) for h in NOT_OURS)])
def test_which_hosts_are_ours(host: str, expected: bool) -> None:
    assert Hosts(["anomalyd.example.org", "*.Fleet.svc"]).known(host) is expected


def test_the_name_of_this_machine_is_ours() -> None:
    assert Hosts().known(socket.gethostname())


@given(st.text(), st.text(st.sampled_from("localhst.:@[]%127/ \t"), max_size=20))
def test_a_host_is_ours_only_if_its_name_is(text: str, near: str) -> None:
    for host in (text, near):
        if Hosts().known(host) and not host.startswith("["):
            name = host.lower().split(":")[0].removesuffix(".")
            assert name in ("localhost", socket.gethostname().lower()) or re.fullmatch(r"(\d+\.){3}\d+", name)


@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
def test_a_page_that_rebound_its_name_gets_nothing(client: Client, path: str) -> None:
    for host in ("evil.example", "", "localhost, evil.example"):
        for more in ({}, {"x-forwarded-host": "localhost"}, {"forwarded": "host=localhost"}):
            answer = client.get(path, headers={"host": host, **more})
            assert answer.status_code == 421
            assert "http.allowed_hosts" in answer.text
            assert answer.text.count("\n") == 1
            assert "pump" not in answer.text
            assert "access-control-allow-origin" not in answer.headers
    text = client.get("/metrics").text
    assert f'anomalyd_http_refused_total{{reason="host"}} {3 * 3}.0' in text


def test_other_sites_may_not_read_what_a_browser_fetches_for_them(client: Client) -> None:
    answer = client.get(
        "/api/status", headers={"origin": "http://evil.example", "sec-fetch-site": "cross-site"}
    )
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_a_refused_host_is_said_once_a_minute_with_the_key(client: Client) -> None:
    with capture_logs() as logs:
        for n in range(20):
            client.get("/", headers={"host": f"evil-{n}.example"})
        client.get("/", headers={"host": "x" * 5_000})
    (entry,) = [entry for entry in logs if entry["event"] == "http_host_refused"]
    assert entry["host"] == "'evil-0.example'"
    assert "http.allowed_hosts" in entry["rule"]


# ------------------------------------------------------------------ who may stay
@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Room for both ends of a thousand connections in one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192) if hard > 0 else 8_192, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Port:
    """A served admin port, and what a stranger may do to it."""

    def __init__(self, server: AdminServer, metrics: Metrics) -> None:
        self.server, self.metrics = server, metrics
        self.writers: list[asyncio.StreamWriter] = []
        self.closings: asyncio.Queue[str] = asyncio.Queue()  # the reason of each connection that is closed

    async def connect(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        self.writers.append(writer)
        writer.write(sent)
        return reader, writer

    async def ask(self, request: bytes) -> bytes:
        """All that is answered until the server closes."""
        reader, _ = await self.connect(request)
        return await reader.read()

    async def probe(self) -> int:
        answer = await self.ask(b"GET /livez HTTP/1.1\r\nHost: 10.0.0.1:9464\r\nConnection: close\r\n\r\n")
        return int(answer.split()[1])

    def refused(self, reason: str) -> float:
        (line,) = re.findall(
            rf'http_refused_total{{reason="{reason}"}} (\S+)', self.metrics.exposition().decode()
        )
        return float(line)


@contextlib.asynccontextmanager
async def served(status: Status) -> AsyncIterator[Port]:
    metrics = Metrics(["pumps"], ["plant.pumps"])

    def refused(reason: HttpRefusal) -> None:
        metrics.http_refused(reason)
        port.closings.put_nowait(str(reason))

    server = serve(create_app(status, metrics), "127.0.0.1", 0, refused)
    port = Port(server, metrics)
    task = asyncio.create_task(server.run())
    try:
        async with asyncio.timeout(60):  # a connection that is never closed must not hang the tests
            yield port
    finally:
        for writer in port.writers:
            writer.transport.abort()
        task.cancel()
        await asyncio.wait({task})


HEAD = b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n"
STRANGERS = {
    "idle": b"",
    "half a head": HEAD,
    "kept alive": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an answer that is not read": HEAD + b"\r\n",
    "requests ahead": (HEAD + b"\r\n") * 50,
    "a body that does not come": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\nx",
    "a large head": HEAD + b"X: " + b"x" * 15_000,
}


@pytest.mark.parametrize("sent", STRANGERS.values(), ids=STRANGERS.keys())
async def test_a_thousand_connections_do_not_keep_a_probe_out(
    status: Status, sent: bytes, many_descriptors: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "MOST_CONNECTIONS", 256)
    async with served(status) as port:
        for n in range(1_000):
            await port.connect(sent)
            if n % 100 == 99:
                assert await port.probe() == 200
                assert len(port.server.connections) <= port.server.connections.most
        assert len(port.server.connections.unread) <= admin.MOST_UNREAD
        gone = sum(port.refused(reason) for reason in ("crowded", "slow", "body"))
        assert gone >= 1_000 - port.server.connections.most


async def test_it_is_the_oldest_idle_connection_that_makes_room(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "REQUEST_S", 3_600.0)  # no deadline does it
    async with served(status) as port:
        port.server.connections.most = 3
        first, _ = await port.connect()
        second, writer = await port.connect()
        third, _ = await port.connect()
        writer.write(STRANGERS["kept alive"])
        assert await second.readline() == b"HTTP/1.1 200 OK\r\n"  # so it begins to wait after the third
        await port.connect()
        assert await first.read() == b""
        await port.connect()
        assert await third.read() == b""
        assert port.refused("crowded") == 2


async def trickle(writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> None:
    """A byte at each pass of the loop until the server has had enough."""
    closed = asyncio.create_task(reader.read())
    while not closed.done():
        writer.write(b"x")
        await asyncio.sleep(0)
    await asyncio.wait({closed})
    closed.exception()  # a connection that is aborted may be reset


@pytest.mark.parametrize(
    "begun",
    [b"", HEAD + b"X-Slow: ", STRANGERS["kept alive"]],
    ids=["a method", "a header", "a second request"],
)
async def test_no_single_byte_puts_a_deadline_off(
    status: Status, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "REQUEST_S", 0.1)
    monkeypatch.setattr(h11_limits(), "DEFAULT_MAX_INCOMPLETE_EVENT_SIZE", 1 << 40)
    async with served(status) as port:
        reader, writer = await port.connect(begun)
        await trickle(writer, reader)
        assert port.refused("slow") == 1


def h11_limits() -> Any:
    """Where uvicorn keeps how long a head may be; the deadline alone is to end it here."""
    from uvicorn.protocols.http import h11_impl

    return h11_impl


async def test_an_idle_connection_ends_without_a_word(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "REQUEST_S", 0.1)
    async with served(status) as port:
        assert (await port.ask(STRANGERS["kept alive"])).startswith(b"HTTP/1.1 200 OK")
        assert port.refused("slow") == 0
        assert await port.ask(b"") == b""
        assert port.refused("slow") == 1


async def test_an_answer_that_nobody_reads_is_given_up(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "ANSWER_S", 0.1)
    async with served(status) as port:
        reader, writer = await port.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport has it
        writer.write(STRANGERS["an answer that is not read"] * 2_000)
        assert await port.closings.get() == "slow"
        assert not len(port.server.connections)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(ConnectionError):
            await reader.read()


async def test_few_answers_wait_in_memory_for_clients_that_do_not_read(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "ANSWER_S", 3_600.0)
    monkeypatch.setattr(admin, "MOST_UNREAD", 4)
    async with served(status) as port:
        for _ in range(admin.MOST_UNREAD + 4):
            _, writer = await port.connect()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
        for _ in range(4):
            assert await port.closings.get() == "slow"
        assert len(port.server.connections.unread) <= admin.MOST_UNREAD


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 421),
        (b"GET /livez HTTP/1.0\r\n\r\n", 200),
        (b"GET /livez HTTP/1.0\r\nHost:\r\n\r\n", 421),
        (b"GET http://evil.example/api/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (b"GET http://localhost/api/status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (b"GET localhost:80 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost:  localhost \r\nConnection: close\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\nConnection: close\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000, 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"\r\n\x00\xff nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", 413),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\nh", 413),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
        (STRANGERS["kept alive"] + b"nonsense\r\n\r\n", 200),
    ],
)
async def test_odd_requests_get_one_answer_and_no_traceback(
    status: Status, request_: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(status) as port:
        answer = await port.ask(request_)
        assert int(answer.split()[1]) == code
        assert await port.probe() == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_body_that_will_be_refused_is_not_kept_until_then(status: Status) -> None:
    async with served(status) as port:
        taken = 0
        seen = admin._Connection.data_received

        def counted(self: admin._Connection, data: bytes) -> None:
            nonlocal taken
            taken += len(data)
            seen(self, data)
            assert not self.cycle.body

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(admin._Connection, "data_received", counted)
            reader, _ = await port.connect(STRANGERS["a body that does not come"] + b"x" * 10_000_000)
            assert await reader.readline() == b"HTTP/1.1 413 Request Entity Too Large\r\n"
        assert taken < 1_000_000
        assert port.refused("body") == 1


async def test_a_connection_that_is_half_closed_goes(status: Status) -> None:
    async with served(status) as port:
        for sent in (b"", HEAD):
            reader, writer = await port.connect(sent)
            writer.write_eof()
            assert await reader.read() == b""
        assert not len(port.server.connections)


def test_the_number_of_connections_leaves_descriptors_for_kafka(many_descriptors: None) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = []
    for soft in (40, 256, 1_024):
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        found.append(most_connections())
    assert found == [16, 64, 256]


class Watched(Metrics):
    """Notes in which pass of the event loop it was asked."""

    def __init__(self) -> None:
        super().__init__(["pumps"], ["plant.pumps"])
        self.now = 0
        self.passes: list[int] = []

    def exposition(self) -> bytes:
        self.passes.append(self.now)
        return super().exposition()


async def test_expensive_answers_are_made_one_per_pass_of_the_loop(status: Status) -> None:
    metrics = Watched()
    transport = httpx.ASGITransport(app=create_app(status, metrics))

    async def count() -> None:
        while True:
            metrics.now += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answers = await asyncio.gather(*(client.get("/metrics") for _ in range(50)))
    counting.cancel()
    assert {answer.status_code for answer in answers} == {200}
    assert len(set(metrics.passes)) == 50


# ------------------------------------------------------------------ fire drill
def entry(
    sensor: str, kind: str, recall: float, size: float | None, within_s: float | None = 60.0
) -> dict[str, Any]:
    """As ``drilling.entry`` makes it."""
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
