"""The admin port: it is bound and freed, and no stranger keeps a probe out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from daemon.adapters.admin import (
    AdminServer,
    create_app,
    serve,
    server,
)
from daemon.adapters.admin.server import most_connections
from daemon.adapters.telemetry import HttpRefusal, Metrics, Status
from daemon.errors import ConfigError, DaemonError


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


def test_an_address_that_is_not_ours_is_an_error(status: Status) -> None:
    app = create_app(status, Metrics(["pumps"], ["t"]))
    with pytest.raises(ConfigError, match=r"http\.host"):
        serve(app, "192.0.2.1", 0)  # a documentation address: nobody's
    with pytest.raises(ConfigError, match="no address of this machine"):
        serve(app, "no such host", 0)


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

    bound = serve(create_app(status, metrics), "127.0.0.1", 0, refused)
    port = Port(bound, metrics)
    task = asyncio.create_task(bound.run())
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
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 256)
    async with served(status) as port:
        for n in range(1_000):
            await port.connect(sent)
            if n % 100 == 99:
                assert await port.probe() == 200
                assert len(port.server.connections) <= port.server.connections.most
        assert len(port.server.connections.unread) <= server.MOST_UNREAD
        gone = sum(port.refused(reason) for reason in ("crowded", "slow", "body"))
        assert gone >= 1_000 - port.server.connections.most


async def test_it_is_the_oldest_idle_connection_that_makes_room(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 3_600.0)  # no deadline does it
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
    monkeypatch.setattr(server, "REQUEST_S", 0.1)
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
    monkeypatch.setattr(server, "REQUEST_S", 0.1)
    async with served(status) as port:
        assert (await port.ask(STRANGERS["kept alive"])).startswith(b"HTTP/1.1 200 OK")
        assert port.refused("slow") == 0
        assert await port.ask(b"") == b""
        assert port.refused("slow") == 1


async def test_an_answer_that_nobody_reads_is_given_up(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ANSWER_S", 0.1)
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
    monkeypatch.setattr(server, "ANSWER_S", 3_600.0)
    monkeypatch.setattr(server, "MOST_UNREAD", 4)
    async with served(status) as port:
        for _ in range(server.MOST_UNREAD + 4):
            _, writer = await port.connect()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
        for _ in range(4):
            assert await port.closings.get() == "slow"
        assert len(port.server.connections.unread) <= server.MOST_UNREAD


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


async def test_a_body_that_will_be_refused_is_not_read(status: Status) -> None:
    size = 100_000_000
    async with served(status) as port:
        reader, writer = await port.connect(STRANGERS["a body that does not come"] + b"x" * size)
        assert await reader.readline() == b"HTTP/1.1 413 Request Entity Too Large\r\n"
        # What the kernel's buffers did not take is still here: the server has stopped reading.
        assert writer.transport.get_write_buffer_size() > size / 2
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
