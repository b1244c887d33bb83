"""The admin port: probes, metrics, and a page that tells an operator what is going on.

Everything here is read-only (GET and HEAD; anything else is 405) and answers from two values
that the loop keeps: ``Metrics`` and ``Status``. Nothing here can stop the loop, and nothing is
asked of the broker: a probe that did would restart the whole fleet in a broker outage.

The page is one document with its style and script inside and no other source: the content
security policy names the two by their hashes and allows nothing else, so even a name that
found its way into the markup could not run. It does not get there either: the document is
constant, every name arrives as JSON and is shown as text (``textContent``), never as markup.
The script polls once a second. Polling needs no connection state, survives restarts and
proxies, and a second is what an operator can read.

**Who may ask.** A web page that a browser on this network has open may ask too: it lets a name
of its own resolve to this address (DNS rebinding), and the browser then takes the answers for
the page's own. Such a request carries the page's name in ``Host``, so a name is answered only
when it is known to be ours. An address is always answered: an origin that is an address belongs
to the machine at that address, and nobody can make it lead elsewhere. The kubelet and
Prometheus ask by address.

**Who may stay.** Anybody who reaches the port can open connections and say nothing, or read
nothing. Each connection has a deadline for its next complete request and one for its answer,
the number of connections is bounded, and when it is reached the one that has been in its state for
longest is closed, so that a new one (a probe) always gets in. But for probes, one request is
answered per pass of the event loop, so that many at once slow each other and not the loop.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import functools
import hashlib
import ipaddress
import math
import re
import resource
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import h11
import msgspec
import numpy as np
import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from daemon import __version__
from daemon.adapters.telemetry import (
    HttpRefusal,
    Lifecycle,
    Metrics,
    ModelChange,
    Status,
    StreamStatus,
    Throttle,
    Track,
)
from daemon.documents import short
from daemon.domain import (
    AlertEvent,
    AlertKind,
    DriftRecord,
    Phase,
    Severity,
    iso,
)
from daemon.errors import ConfigError, DaemonError
from daemon.stream.audit import Imputable, SensorAudit

log = structlog.get_logger()

EPISODES_SHOWN: Final = 100
SPARK_POINTS: Final = 100
CONTRIBUTORS_SHOWN: Final = 3
AUDITS_SHOWN: Final = 60
"""Sensors whose imputation is shown: the worst first."""
DRILL_SENSORS_SHOWN: Final = 40
"""Rows of the fire drill's table; of more sensors those of which least is found."""
NAME_SHOWN: Final = 200
"""Characters of a name that go to the page; an asset name may be as long as a record."""


# ------------------------------------------------------------------ the application
PROBES: Final = ("/livez", "/readyz", "/startupz")


def create_app(status: Status, metrics: Metrics, allowed_hosts: Collection[str] = ()) -> Starlette:
    """The admin application over a live ``status`` and ``metrics``.

    Args:
        status, metrics: what is answered from.
        allowed_hosts: names it may be asked by, besides ``localhost``, this machine's own name
            and any address; ``*.example.org`` stands for every name below example.org.
    """

    async def livez(_request: Request) -> Response:
        body = {
            "alive": status.alive,
            "beat_age_seconds": short(status.beat_age),
            "waiting_for": status.waiting,
        }
        return _json(body, 200 if status.alive else 503)

    async def readyz(_request: Request) -> Response:
        obstacles = status.obstacles
        return _json({"ready": not obstacles, "because": obstacles}, 503 if obstacles else 200)

    async def startupz(_request: Request) -> Response:
        return _json({"started": status.started}, 200 if status.started else 503)

    async def exposition(_request: Request) -> Response:
        return Response(metrics.exposition(), headers={"content-type": CONTENT_TYPE_LATEST})

    async def page(_request: Request) -> Response:
        return HTMLResponse(PAGE)

    async def api_status(_request: Request) -> Response:
        return _json(snapshot(status))

    async def api_events(request: Request) -> Response:
        text = request.query_params.get("after", "0")
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            return _json({"error": "after must be a sequence number"}, 400)
        events = [{"sequence": n, **_event(e, status.peaks)} for n, e in status.events if n > int(text)]
        return _json({"sequence": status.sequence, "events": events})

    probes = dict(zip(PROBES, (livez, readyz, startupz), strict=True))
    return Starlette(
        routes=[
            Route(path, endpoint, methods=["GET"])
            for path, endpoint in {
                "/": page,
                **probes,
                "/metrics": exposition,
                "/api/status": api_status,
                "/api/events": api_events,
            }.items()
        ],
        middleware=[
            Middleware(_Turnstile),
            Middleware(_SafeHeaders),
            Middleware(_KnownHosts, hosts=Hosts(allowed_hosts), refused=metrics.http_refused),
        ],
    )


class _Turnstile:
    """Lets one request in per pass of the event loop, and every probe.

    An answer takes up to some milliseconds. Made for all who ask at once, they would keep Kafka's
    heartbeats, the probes and the records waiting for their sum.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in PROBES:
            async with self._turn:
                await asyncio.sleep(0)
        await self._app(scope, receive, send)  # outside: whoever does not read its answer holds up nobody


class _SafeHeaders:
    """Adds the headers that keep a browser from running, framing, guessing, sharing or storing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_HEADERS]}
            await send(message)

        await self._app(scope, receive, with_headers)


class Hosts:
    """The names and addresses by which the admin port may be asked.

    Args:
        allowed: names besides ``localhost`` and this machine's own; ``*.`` in front of one stands
            for any name below it.
    """

    _SYNTAX: Final = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::[0-9]{0,5})?")

    def __init__(self, allowed: Collection[str] = ()) -> None:
        known = {"localhost", socket.gethostname(), *allowed}
        lowered = {name.lower().removesuffix(".") for name in known}
        self._names = {name for name in lowered if not name.startswith("*.")}
        self._below = tuple(name[1:] for name in lowered if name.startswith("*."))

    def known(self, host: str) -> bool:
        """Whether the value of a ``Host`` header is one of ours, whatever its port.

        Only what a client can mean is read: no user name, no IPv6 zone (it means something on the
        sender's machine alone), and an IPv4 address with four decimal numbers.
        """
        found = self._SYNTAX.fullmatch(host.lower())
        if found is None:
            return False
        if found["v6"] is not None:
            return _is_address(found["v6"], ipaddress.IPv6Address)
        name = found["name"].removesuffix(".")
        return name in self._names or name.endswith(self._below) or _is_address(name, ipaddress.IPv4Address)


def _is_address(text: str, kind: Callable[[str], object]) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


class _KnownHosts:
    """Answers only requests that name this daemon (see the module for why) and carry no body."""

    def __init__(self, app: ASGIApp, hosts: Hosts, refused: Callable[[HttpRefusal], None]) -> None:
        self._app, self._hosts, self._refused = app, hosts, refused
        self._throttle = Throttle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._refusal(scope)
        await (self._app if answer is None else answer)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        if not scope["path"].startswith("/"):
            # "GET http://name/path" is for proxies, and its name would stand above Host's.
            self._refused(HttpRefusal.TARGET)
            return Response("the request's target must be a path\n", 400, media_type="text/plain")
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if any(n == b"transfer-encoding" or (n == b"content-length" and v != b"0") for n, v in headers):
            self._refused(HttpRefusal.BODY)  # not read: the connection ends with the answer
            text, close = "no request here takes a body\n", {"connection": "close"}
            return Response(text, 413, headers=close, media_type="text/plain")
        hosts = [value for name, value in headers if name == b"host"]
        if not hosts and scope["path"] in PROBES:
            return None  # HTTP/1.0, so no browser: a simple health checker
        host = hosts[0].decode("latin-1") if len(hosts) == 1 else ""
        if self._hosts.known(host):
            return None
        self._refused(HttpRefusal.HOST)
        shown = ascii(_name(host)) if len(hosts) == 1 else f"{len(hosts)} Host headers"
        if (kept := self._throttle.admit("host")) is not None:
            log.warning(
                "http_host_refused",
                host=shown,
                path=scope["path"],
                client=(scope.get("client") or ("",))[0],
                others=kept,
                rule="not a name of this daemon: add it to http.allowed_hosts if it is",
            )
        text = f"{shown} is no name of this daemon: ask by address, or add the name to http.allowed_hosts\n"
        return Response(text, 421, media_type="text/plain")


def _json(body: object, code: int = 200) -> Response:
    # msgspec writes NaN and infinity as null. An escaped "<" is the same JSON string and
    # cannot end a script element, should anybody ever paste this into one.
    content = msgspec.json.encode(body).replace(b"<", b"\\u003c")
    return Response(content, code, media_type="application/json")


# ------------------------------------------------------------------ the server
REQUEST_S: Final = 5.0
"""From the connection, or from the answer before, to a complete request head."""
ANSWER_S: Final = 10.0
"""From a complete request head until the client has taken the answer; as long as Prometheus waits."""
MOST_CONNECTIONS: Final = 2048
MOST_UNREAD: Final = 16
"""Connections whose answer, beyond what the kernel holds, waits in memory for its client to read."""
ACCEPTED_AT_ONCE: Final = 64
"""Connections accepted in one pass of the event loop: each costs a descriptor before any can be closed."""
KERNEL_QUEUE: Final = 1024
"""Connections that wait in the kernel to be accepted; these cost no descriptor."""


class Connections:
    """The open connections of an admin port, in the order in which they would be closed.

    Args:
        most: beyond it the one goes that has been in its state (waiting for a request, or being
            answered) for longest.
        refused: called with the reason for each that is closed.
    """

    def __init__(self, most: int, refused: Callable[[HttpRefusal], None]) -> None:
        self.most = most
        self.refused = refused
        self.unread: dict[_Connection, None] = {}
        self._open: dict[_Connection, None] = {}  # by when their state last changed
        self._throttle = Throttle()

    def __len__(self) -> int:
        return len(self._open)

    def changed(self, connection: _Connection) -> None:
        """It is new, its request is complete, or its answer is."""
        self._open.pop(connection, None)
        self._open[connection] = None
        if len(self._open) > self.most:
            self.end(next(iter(self._open)), HttpRefusal.CROWDED)

    def keep_unread(self, connection: _Connection) -> None:
        """Its client does not read."""
        self.unread[connection] = None
        if len(self.unread) > MOST_UNREAD:
            self.end(next(iter(self.unread)), HttpRefusal.SLOW)

    def end(self, connection: _Connection, reason: HttpRefusal) -> None:
        """Close a connection at once, whatever it still had to send or to read."""
        self.remove(connection)
        connection.transport.abort()
        self.refused(reason)
        if (kept := self._throttle.admit(reason)) is not None:
            peer = connection.client[0] if connection.client else ""
            log.warning(
                "http_connection_closed", reason=str(reason), client=peer, others=kept, open=len(self)
            )

    def remove(self, connection: _Connection) -> None:
        """It is closed."""
        self._open.pop(connection, None)
        self.unread.pop(connection, None)


class _Connection(H11Protocol):
    """uvicorn's connection with deadlines that no single byte can put off.

    uvicorn's own keep-alive timer runs only between an answer and the next byte: whoever sends a
    byte now and then, or never a first one, or does not read, would stay for ever.
    """

    def __init__(self, *arguments: Any, connections: Connections, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._all = connections
        self._asked: object = None  # the request that is being answered
        self._deadline: asyncio.TimerHandle | None = None
        self._unused = 0  # bytes since the last complete head

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        super().connection_made(transport)
        self._all.changed(self)
        self._expire_after(REQUEST_S)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._all.remove(self)
        if self._deadline is not None:
            self._deadline.cancel()

    def data_received(self, data: bytes) -> None:
        self._unused += len(data)
        super().data_received(data)
        if self._in_answer() is not self._asked:
            self._turn()

    def on_response_complete(self) -> None:
        super().on_response_complete()  # begins with the next request where one was sent ahead
        self._turn()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._all.keep_unread(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._all.unread.pop(self, None)

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # its answer could not follow this one
        super().send_400_response(msg)

    def _in_answer(self) -> object:
        return None if self.cycle is None or self.cycle.response_complete else self.cycle

    def _turn(self) -> None:
        """A request is complete, or an answer is."""
        self._asked, self._unused = self._in_answer(), 0
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            return
        if self._asked is not None and self.conn.their_state is h11.SEND_BODY:
            self.flow.pause_reading()  # it will be refused, and its body kept in memory until then
            self.cycle.body.clear()
        self._all.changed(self)
        ours = self._asked is not None or self.transport.get_write_buffer_size()  # an answer is on its way
        self._expire_after(ANSWER_S if ours else REQUEST_S)

    def _expire_after(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self._expired)

    def _expired(self) -> None:
        idle = self.cycle is not None and self._asked is None and not self._unused
        if idle and not self.transport.get_write_buffer_size():
            self.transport.close()  # between requests: nothing is cut off
        else:
            self._all.end(self, HttpRefusal.SLOW)


def most_connections() -> int:
    """How many connections the admin port may hold: a quarter of what the process may open, at most."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if descriptors < 0 else max(16, min(MOST_CONNECTIONS, descriptors // 4))


class AdminServer:
    """A bound admin port; ``run`` serves until cancelled. ``port`` is the real one."""

    def __init__(
        self, app: ASGIApp, listener: socket.socket, refused: Callable[[HttpRefusal], None] = lambda _: None
    ) -> None:
        self.host, self.port = listener.getsockname()[:2]
        self._socket = listener
        self.connections = Connections(most_connections(), refused)
        config = uvicorn.Config(
            app,
            http=_Connection,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=3600,  # of no effect: the deadlines of _Connection come first
            timeout_graceful_shutdown=1,
            backlog=min(ACCEPTED_AT_ONCE, self.connections.most),
        )
        config.load()
        # uvicorn asks for a class and calls it.
        config.http_protocol_class = functools.partial(_Connection, connections=self.connections)  # type: ignore[assignment]
        self._server = _QuietServer(config)

    @property
    def url(self) -> str:
        """Where a browser finds the page."""
        host = "localhost" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"

    async def run(self) -> None:
        """Serve until cancelled; the port is free again afterwards."""
        try:
            await self._server.serve(sockets=[self._socket])
        except asyncio.CancelledError:
            if self._server.started:
                # uvicorn's own shutdown waits for keep-alive connections otherwise
                self._server.force_exit = True
                await self._server.shutdown(sockets=[self._socket])
            raise
        finally:
            self._socket.close()

    def close(self) -> None:
        """Give the port back without having served."""
        self._socket.close()


class _QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM is the service's: it drains first and stops this server last."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but more may wait in the kernel than are accepted at once."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(KERNEL_QUEUE)


def serve(
    app: ASGIApp, host: str, port: int, refused: Callable[[HttpRefusal], None] = lambda _: None
) -> AdminServer:
    """Bind ``host:port`` now, so that a taken port is said at the start; 0 takes a free one.

    ``refused`` is called with the reason for each connection that is closed before its time.

    Raises:
        ConfigError: the address cannot be bound.
        DaemonError: the port is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"http.host {host!r} is no address of this machine ({error.strerror})") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(KERNEL_QUEUE)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise DaemonError(
                f"http.port {port} on {host} is taken by another process; set another, or 0 for a free one"
            ) from error
        raise ConfigError(f"http.host {host}, http.port {port} cannot be used: {error.strerror}") from error
    return AdminServer(app, listener, refused)


# ------------------------------------------------------------------ what the page is told
def snapshot(status: Status) -> dict[str, Any]:
    """The state as plain JSON values; bounded whatever the fleet's size."""
    order = sorted(status.open.values(), key=_urgency)
    closed = [e for _, e in reversed(status.events) if e.phase is Phase.CLOSED]
    by_asset: dict[tuple[str, str], list[AlertEvent]] = {}
    for event in order:
        by_asset.setdefault((event.stream, event.asset), []).append(event)
    return {
        "version": __version__,
        "now": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "headline": headline(status),
        "lifecycle": str(status.lifecycle),
        "source": status.source,
        "uptime_seconds": round(status.uptime.total_seconds(), 1),
        "ready": not status.obstacles,
        "because": status.obstacles,
        "waiting_for": status.waiting,
        "open": len(order),
        "critical": sum(e.severity is Severity.CRITICAL for e in order),
        "opened": status.opened,
        "episodes": [_event(e, status.peaks) for e in order[:EPISODES_SHOWN]],
        "recent": [_event(e, status.peaks) for e in closed[:EPISODES_SHOWN]],
        "streams": [_stream(s, by_asset) for s in status.streams.values()],
    }


def headline(status: Status) -> str:
    """The state in one line: ``live, model 5f3a9c1e, 24 assets, 2 open episodes``."""
    streams = list(status.streams.values())
    parts = [str(status.lifecycle)]
    if status.waiting:
        parts.append(f"waiting for {status.waiting}")
    versions = list(dict.fromkeys(s.model for s in streams if s.model))
    if len(versions) == 1:
        parts.append(f"model {versions[0]}")
    elif versions:
        parts.append(f"{len(versions)} models")
    if status.lifecycle is Lifecycle.LEARNING:
        learning = [s for s in streams if s.state is not Lifecycle.LIVE]
        rows, needed = sum(s.rows for s in learning), sum(s.learn_rows for s in learning)
        if any(s.training for s in learning):
            parts.append("training")
        elif needed:
            parts.append(f"{min(rows, needed):,} of {needed:,} rows")
    assets = sum(max(s.assets, len(s.tracks)) for s in streams)
    parts.append(_plural(assets, "asset"))
    parts.append(_plural(len(status.open), "open episode"))
    return ", ".join(parts)


def _plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _urgency(event: AlertEvent) -> tuple[bool, int, str]:
    return (event.severity is not Severity.CRITICAL, -event.opened_ns, event.fingerprint)


def _stream(stream: StreamStatus, open_by_asset: dict[tuple[str, str], list[AlertEvent]]) -> dict[str, Any]:
    return {
        "name": _name(stream.name),
        "state": str(stream.state),
        "model": stream.model,
        "calibration": stream.calibration,
        "trained_at": stream.trained_at.isoformat(timespec="seconds") if stream.trained_at else None,
        "threshold": short(stream.threshold),
        "part_thresholds": {k: short(v) for k, v in stream.part_thresholds.items()},
        "learn_rows": stream.learn_rows,
        "training": stream.training,
        "assets": max(stream.assets, len(stream.tracks)),
        "rows": stream.rows,
        "scored": stream.scored,
        "filled": stream.filled,
        "records": stream.records,
        "newest": iso(stream.newest_ns) if stream.newest_ns else None,
        "drift": _drift(list(stream.drift)),
        "drill": _drill(stream.drill()),
        "imputation": _imputation(stream.imputation),
        "models": [_change(change) for change in reversed(stream.models)],
        "tracks": [
            _track(asset, stream.tracks[asset], stream.threshold, open_by_asset.get((stream.name, asset), []))
            for asset in sorted(stream.tracks)
        ],
    }


def _track(asset: str, track: Track, threshold: float, episodes: list[AlertEvent]) -> dict[str, Any]:
    score = track.scores[-1] if track.scores else math.nan
    return {
        "asset": _name(asset),
        "score": short(score),
        "ratio": short(score / threshold) if threshold > 0 else None,
        "alarm": track.alarm,
        "kinds": list(dict.fromkeys(str(e.kind) for e in episodes)),
        "critical": any(e.severity is Severity.CRITICAL for e in episodes),
        "newest": iso(track.rows_ns[-1]) if track.rows_ns else None,
        "spark": spark(track.scores),
    }


def spark(scores: Iterable[float]) -> list[float | None]:
    """At most SPARK_POINTS maxima of consecutive scores, the newest last; None where unscored.

    Runs are counted from the newest score back, so a peak keeps its height while it moves.
    """
    values = np.fromiter(scores, np.float64)
    step = -(-len(values) // SPARK_POINTS) or 1
    missing = -len(values) % step
    runs = np.concatenate([np.full(missing, np.nan), values]).reshape(-1, step)
    highest = np.fmax.reduce(runs, axis=1).tolist()
    # As ``short``, all at once: a page that is looked at has thousands of these.
    texts = ("%.4g " * len(highest) % tuple(highest)).split()
    return [value if math.isfinite(value) else None for value in map(float, texts)]


def _drift(records: list[DriftRecord]) -> dict[str, Any] | None:
    if not records:
        return None
    newest = records[-1]
    worst: dict[int, list[float]] = {}  # interval's end -> latent, residual; the worst partition
    for record in records:
        totals = worst.setdefault(record.end_ns, [0.0, 0.0])
        totals[0] = max(totals[0], sum(record.latent_kl))
        totals[1] = max(totals[1], sum(record.residual_kl))
    history = [worst[end] for end in sorted(worst)]
    return {
        "verdict": newest.verdict,
        "start": iso(newest.start_ns),
        "end": iso(newest.end_ns),
        "windows": newest.windows,
        "latent": {
            "value": short(sum(newest.latent_kl)),
            "threshold": short(newest.latent_threshold),
            "history": [short(h[0]) for h in history],
        },
        "residual": {
            "value": short(sum(newest.residual_kl)),
            "threshold": short(newest.residual_threshold),
            "history": [short(h[1]) for h in history],
        },
    }


def _drill(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The fire drill's table: one row a sensor, with what is found of each kind."""
    rows: dict[str, dict[str, Mapping[str, Any]]] = {}
    for entry in entries:
        rows.setdefault(entry["sensor"], {})[entry["kind"]] = entry
    found = {sensor: sum(e["recall"] for e in kinds.values()) / len(kinds) for sensor, kinds in rows.items()}
    shown = set(sorted(found, key=lambda sensor: found[sensor])[:DRILL_SENSORS_SHOWN])
    return [
        {"sensor": _name(sensor), "kinds": {kind: _drilled(e) for kind, e in kinds.items()}}
        for sensor, kinds in rows.items()
        if sensor in shown
    ]


def _drilled(entry: Mapping[str, Any]) -> dict[str, Any]:
    smallest = entry["smallest"]
    within = entry["delay_s"] if smallest is None else smallest["within_s"]
    return {
        "recall": short(entry["recall"]),
        "sized": bool(entry["by_size"]),
        "above": None if smallest is None else short(smallest["value"], 3),
        "within": None if within is None else short(within),
        "faults": entry["faults"],
        "says": _name(entry["says"]),
    }


_WORST_FIRST: Final = (Imputable.CANNOT, Imputable.LAST_VALUE, Imputable.GOOD, Imputable.TOO_FEW)


def _imputation(audits: Mapping[str, SensorAudit]) -> list[dict[str, Any]]:
    order = sorted(audits.values(), key=lambda a: (_WORST_FIRST.index(a.verdict), -a.relative, a.sensor))
    return [
        {
            "sensor": _name(a.sensor),
            "audits": a.audits,
            "error": short(a.error),
            "relative": short(a.relative),
            "last_value_error": short(a.last_value_error),
            "coverage": short(a.coverage),
            "skill": short(a.skill),
            "verdict": str(a.verdict),
        }
        for a in order[:AUDITS_SHOWN]
    ]


def _change(change: ModelChange) -> dict[str, Any]:
    return {
        "at": change.at.isoformat(timespec="seconds"),
        "version": _name(change.version),
        "result": change.result,
        "reason": _name(change.reason, 500),
    }


def _event(event: AlertEvent, peaks: Mapping[str, float]) -> dict[str, Any]:
    combined = event.scores.get("combined")
    return {
        "stream": _name(event.stream),
        "asset": _name(event.asset),
        "sensor": _name(event.sensor) if event.sensor else None,
        "kind": str(event.kind),
        "phase": str(event.phase),
        "severity": str(event.severity),
        "fingerprint": event.fingerprint,
        "onset": iso(event.onset_ns),
        "since": iso(event.opened_ns),
        "row": iso(event.row_ns),
        "seconds": short((event.row_ns - event.opened_ns) / 1e9),
        "score": short(combined.value) if combined else None,
        "peak": short(peaks[event.fingerprint]) if event.fingerprint in peaks else None,
        "threshold": short(combined.threshold) if combined else None,
        "model": _name(event.model),
        "imputed_share": short(event.imputed_share),
        "summary": _name(event.summary, 500),
        "contributors": [
            {
                "sensor": _name(c.sensor),
                "observed": None if c.observed is None else short(c.observed, 6),
                "expected": None if c.expected is None else short(c.expected, 6),
                "share": short(c.share),
            }
            for c in event.contributors[:CONTRIBUTORS_SHOWN]
        ]
        # for the silent kinds the shares say nothing
        if event.kind is AlertKind.ANOMALY or event.sensor is None
        else [],
    }


def _name(text: str, most: int = NAME_SHOWN) -> str:
    # A lone surrogate cannot be encoded, and one bad name must not take the page down.
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.encode("utf-8", "replace").decode()


# ------------------------------------------------------------------ the page
STYLE: Final = """
:root {
  color-scheme: light dark;
  --ground: #f4f6f8;
  --card: #ffffff;
  --line: #dfe4ea;
  --ink: #17202b;
  --dim: #5d6b7a;
  --faint: #8c98a6;
  --ok: #1c8a55;
  --ok-soft: #e4f4ec;
  --warn: #a86400;
  --warn-soft: #fdf1dc;
  --bad: #c62a3b;
  --bad-soft: #fde8ea;
  --info: #2b62c4;
  --info-soft: #e6eefb;
  --spark: #5b7fb5;
  --spark-soft: #5b7fb522;
  --shadow: 0 1px 2px #10182810;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0e1318;
    --card: #161d25;
    --line: #27313c;
    --ink: #e4eaf0;
    --dim: #98a6b5;
    --faint: #6b7988;
    --ok: #45c48a;
    --ok-soft: #14302a;
    --warn: #edac4a;
    --warn-soft: #37290f;
    --bad: #ff6b78;
    --bad-soft: #3d1a21;
    --info: #7caaf7;
    --info-soft: #182a47;
    --spark: #7ba3dd;
    --spark-soft: #7ba3dd22;
    --shadow: none;
  }
}
* {
  box-sizing: border-box;
}
body {
  margin: 0;
  background: var(--ground);
  color: var(--ink);
  font:
    14px/1.45 system-ui,
    -apple-system,
    "Segoe UI",
    Roboto,
    "Helvetica Neue",
    sans-serif;
}
.num,
td.n {
  font-variant-numeric: tabular-nums;
}
.mono {
  font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 0.93em;
}
.dim {
  color: var(--dim);
}
.faint {
  color: var(--faint);
}
.right {
  text-align: right;
}
header {
  position: sticky;
  top: 0;
  z-index: 2;
  display: flex;
  gap: 14px;
  align-items: center;
  flex-wrap: wrap;
  padding: 10px 24px;
  background: var(--card);
  border-bottom: 1px solid var(--line);
}
header h1 {
  margin: 0;
  font-size: 16px;
  letter-spacing: -0.01em;
}
header h1 span {
  color: var(--info);
}
#headline {
  flex: 1 1 auto;
  color: var(--dim);
}
#link {
  color: var(--faint);
  font-size: 12.5px;
}
.chip {
  display: inline-flex;
  align-items: center;
  gap: 6px;
  padding: 2px 10px;
  border-radius: 99px;
  font-weight: 600;
  font-size: 12.5px;
  white-space: nowrap;
  background: var(--info-soft);
  color: var(--info);
}
.chip::before {
  content: "";
  width: 8px;
  height: 8px;
  border-radius: 50%;
  background: currentColor;
}
.chip.ok,
.chip.live,
.chip.promoted {
  background: var(--ok-soft);
  color: var(--ok);
}
.chip.warning,
.chip.learning,
.chip.insufficient,
.chip.refused,
.chip.rolled_back {
  background: var(--warn-soft);
  color: var(--warn);
}
.chip.critical,
.chip.draining,
.chip.drift,
.chip.failed {
  background: var(--bad-soft);
  color: var(--bad);
}
.chip.warning::before {
  clip-path: polygon(50% 0, 100% 100%, 0 100%);
  border-radius: 0;
}
.chip.critical::before {
  border-radius: 0;
  transform: rotate(45deg) scale(0.85);
}
.chip.closed {
  background: none;
  border: 1px solid var(--line);
  color: var(--dim);
}
main {
  max-width: 1560px;
  margin: 0 auto;
  padding: 18px 24px 48px;
}
#notice {
  display: none;
  margin: 0 0 14px;
  padding: 10px 14px;
  border-radius: 8px;
  font-weight: 600;
  background: var(--bad-soft);
  color: var(--bad);
}
#notice.shown {
  display: block;
}
.stale main > *:not(#notice) {
  opacity: 0.45;
}
.tiles {
  display: grid;
  grid-template-columns: repeat(auto-fit, minmax(165px, 1fr));
  gap: 12px;
}
.card {
  background: var(--card);
  border: 1px solid var(--line);
  border-radius: 10px;
  box-shadow: var(--shadow);
}
.tile {
  padding: 12px 16px;
  min-width: 0;
}
.tile b {
  display: block;
  margin: 1px 0;
  font-size: 25px;
  line-height: 1.2;
  letter-spacing: -0.02em;
  font-weight: 650;
  font-variant-numeric: tabular-nums;
}
.tile small {
  color: var(--dim);
  font-size: 12.5px;
}
.tile .what {
  color: var(--dim);
  font-weight: 550;
}
.tile.bad b {
  color: var(--bad);
}
.tile.warn b {
  color: var(--warn);
}
h2 {
  display: flex;
  align-items: baseline;
  gap: 10px;
  margin: 24px 0 10px;
  font-size: 15px;
  letter-spacing: -0.01em;
}
h2 .dim {
  font-weight: 400;
  font-size: 13px;
}
.columns {
  display: grid;
  grid-template-columns: minmax(0, 1fr) 350px;
  gap: 0 24px;
  align-items: start;
}
@media (max-width: 1080px) {
  .columns {
    grid-template-columns: minmax(0, 1fr);
  }
}
.grid {
  display: grid;
  grid-template-columns: repeat(auto-fill, minmax(176px, 1fr));
  gap: 10px;
}
.asset {
  padding: 9px 11px 8px;
  border-left: 4px solid var(--ok);
  min-width: 0;
}
.asset .top,
.asset .foot {
  display: flex;
  justify-content: space-between;
  gap: 8px;
  align-items: baseline;
}
.asset .name {
  font-weight: 600;
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}
.asset .score {
  font-variant-numeric: tabular-nums;
  font-weight: 600;
  white-space: nowrap;
}
.asset canvas {
  display: block;
  width: 100%;
  height: 38px;
  margin: 5px 0 3px;
}
.asset .foot {
  font-size: 12px;
  color: var(--dim);
  white-space: nowrap;
}
.asset .foot span:first-child {
  overflow: hidden;
  text-overflow: ellipsis;
}
.asset.near {
  border-left-color: var(--warn);
}
.asset.near .score {
  color: var(--warn);
}
.asset.high {
  border-left-color: var(--bad);
}
.asset.high .score {
  color: var(--bad);
}
.asset.firing {
  border-left-color: var(--bad);
  background: var(--bad-soft);
}
.asset.firing .foot span:first-child {
  color: var(--bad);
  font-weight: 600;
}
.asset.told {
  border-left-color: var(--warn);
  background: var(--warn-soft);
}
.asset.told .foot span:first-child {
  color: var(--warn);
  font-weight: 600;
}
.asset.none {
  border-left-color: var(--faint);
}
.asset.none .score {
  color: var(--faint);
}
.scroll {
  overflow-x: auto;
}
table {
  width: 100%;
  border-collapse: collapse;
}
th {
  padding: 8px 12px;
  text-align: left;
  color: var(--dim);
  font-weight: 550;
  font-size: 12.5px;
  white-space: nowrap;
}
td {
  padding: 8px 12px;
  border-top: 1px solid var(--line);
  vertical-align: top;
}
td.name {
  font-weight: 600;
  max-width: 220px;
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}
td.when {
  white-space: nowrap;
  font-variant-numeric: tabular-nums;
}
.why {
  display: grid;
  grid-template-columns: fit-content(190px) max-content max-content;
  gap: 1px 14px;
}
.why > span {
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}
@media (max-width: 600px) {
  .audits th,
  .audits td {
    padding: 8px 6px;
    white-space: normal;
  }
  .audits td.name {
    max-width: 104px;
    white-space: nowrap;
  }
  .audits .chip {
    white-space: normal;
    border-radius: 10px;
  }
  .audits .chip::before {
    flex: none;
  }
}
.meter {
  position: relative;
  display: block;
  width: 96px;
  height: 6px;
  margin-top: 5px;
  border-radius: 3px;
  background: var(--line);
  overflow: hidden;
}
.meter i {
  position: absolute;
  inset: 0 auto 0 0;
  border-radius: 3px;
  background: var(--spark);
}
.meter.over i {
  background: var(--bad);
}
.empty {
  padding: 18px;
  color: var(--dim);
  text-align: center;
}
.row {
  padding: 11px 14px;
  border-top: 1px solid var(--line);
}
.row:first-child {
  border-top: 0;
}
.row .line {
  display: flex;
  justify-content: space-between;
  gap: 10px;
  align-items: baseline;
}
.row p {
  margin: 4px 0 0;
  color: var(--dim);
  font-size: 13px;
  overflow-wrap: anywhere;
}
.row canvas {
  display: block;
  width: 100%;
  height: 30px;
  margin-top: 6px;
}
.bar {
  height: 8px;
  margin: 9px 0 4px;
  border-radius: 4px;
  background: var(--line);
  overflow: hidden;
}
.bar i {
  display: block;
  height: 100%;
  background: var(--info);
  border-radius: 4px;
}
footer {
  margin-top: 30px;
  color: var(--faint);
  font-size: 12.5px;
}
footer a {
  color: inherit;
}
"""

SCRIPT: Final = r"""
"use strict";
const $ = (id) => document.getElementById(id);
// Names come from whoever can write to the input: text nodes only, never markup.
function h(tag, cls, ...kids) {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  for (const kid of kids)
    if (kid !== null && kid !== undefined)
      node.append(kid instanceof Node ? kid : document.createTextNode(String(kid)));
  return node;
}
const KINDS = {
  anomaly: "anomaly",
  sensor_silent: "sensor silent",
  sensor_stuck: "sensor stuck",
  asset_silent: "asset silent",
  clock_skew: "clock is off",
  drift: "drift",
  regime: "new regime",
  unknown_condition: "unknown condition",
};
const count = (n) => (n >= 1e7 ? (n / 1e6).toFixed(1) + " M" : n.toLocaleString("en-US"));
const value = (v, digits = 3) =>
  v === null || v === undefined
    ? "–"
    : Math.abs(v) >= 1e5 || (v !== 0 && Math.abs(v) < 1e-3)
      ? v.toExponential(1)
      : Math.abs(v) >= 1000
        ? Math.round(v).toLocaleString("en-US")
        : String(+v.toPrecision(digits));
const share = (v) => (v === null ? "" : Math.round(v * 100) + " %");
function span(s) {
  if (s === null) return "";
  if (s < 90) return Math.round(s) + " s";
  if (s < 5400) return Math.round(s / 60) + " min";
  if (s < 129600) return (s / 3600).toFixed(1) + " h";
  return Math.round(s / 86400) + " days";
}
function clock(text, day) {
  // UTC; the date only where it is not `day`
  if (!text) return "–";
  const date = text.slice(0, 10),
    time = text.slice(11, 19);
  return date === day ? time : date + " " + time;
}
const colour = (name) =>
  getComputedStyle(document.documentElement)
    .getPropertyValue("--" + name)
    .trim();
let palette = {};
function readPalette() {
  for (const n of ["spark", "spark-soft", "bad", "faint", "line"]) palette[n] = colour(n);
}

function sparkline(canvas, points, threshold, top) {
  const ratio = window.devicePixelRatio || 1,
    w = canvas.clientWidth,
    tall = canvas.clientHeight;
  if (!w) return;
  if (canvas.width !== Math.round(w * ratio)) {
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(tall * ratio);
  }
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, w, tall);
  const y = (v) => tall - 2 - Math.min(Math.max(v, 0) / top, 1) * (tall - 4);
  const total = Math.max(points.length, 60),
    x = (i) => w - 2 - ((points.length - 1 - i) * (w - 4)) / (total - 1);
  const edge = threshold === null ? -1 : y(threshold);
  const runs = [];
  let run = null;
  points.forEach((v, i) => {
    if (v === null) {
      run = null;
    } else {
      if (!run) runs.push((run = []));
      run.push([x(i), y(v)]);
    }
  });
  const trace = () => {
    for (const r of runs)
      r.forEach(([a, b], i) => (i ? g.lineTo(a, b) : (g.moveTo(a - (r.length < 2), b), g.lineTo(a, b))));
  };
  for (const r of runs) {
    g.beginPath();
    g.moveTo(r[0][0], tall);
    for (const [a, b] of r) g.lineTo(a, b);
    g.lineTo(r[r.length - 1][0], tall);
    g.closePath();
    g.fillStyle = palette["spark-soft"];
    g.fill();
  }
  g.lineWidth = 1.4;
  g.lineJoin = "round";
  g.strokeStyle = palette.spark;
  g.beginPath();
  trace();
  g.stroke();
  if (edge >= 0) {
    g.save();
    g.beginPath();
    g.rect(0, 0, w, edge);
    g.clip();
    g.strokeStyle = palette.bad;
    g.lineWidth = 1.8;
    g.beginPath();
    trace();
    g.stroke();
    g.restore();
    g.strokeStyle = palette.faint;
    g.lineWidth = 1;
    g.setLineDash([3, 3]);
    g.beginPath();
    g.moveTo(0, edge);
    g.lineTo(w, edge);
    g.stroke();
    g.setLineDash([]);
  }
}

const drawn = new Map(); // what a part shows now: it is rebuilt only when that changes
function part(id, data, build) {
  const key = JSON.stringify(data);
  if (drawn.get(id) === key) return;
  drawn.set(id, key);
  $(id).replaceChildren(...[build(data)].flat());
}
const chip = (cls, text) => h("span", "chip " + cls, text);
function titled(node, text) {
  node.title = text;
  return node;
}

let last = null; // rows and time of the poll before, for the rate
function tiles(s) {
  const sum = (f) => s.streams.reduce((t, x) => t + f(x), 0);
  const scored = sum((x) => x.scored),
    filled = sum((x) => x.filled),
    assets = sum((x) => x.assets);
  const records = {};
  for (const x of s.streams) for (const k in x.records) records[k] = (records[k] || 0) + x.records[k];
  const at = performance.now();
  let rate = null;
  if (last) {
    rate = (Math.max(0, scored - last.scored) / (at - last.at)) * 1000;
    if (last.rate !== null) rate = 0.7 * last.rate + 0.3 * rate;
  }
  last = { scored, at, rate };
  const tile = (what, big, small, cls) =>
    h("div", "card tile " + (cls || ""), h("div", "what", what), h("b", "", big), h("small", "", small));
  const odd = ["duplicate", "late", "rejected"]
    .filter((k) => records[k])
    .map((k) => count(records[k]) + " " + k);
  const seen = Object.values(records).reduce((a, b) => a + b, 0);
  const firing = s.streams.reduce((t, x) => t + x.tracks.filter((a) => a.kinds.length).length, 0);
  $("tiles").replaceChildren(
    tile(
      "Open episodes",
      count(s.open),
      s.critical ? s.critical + " critical" : count(s.opened) + " since the start",
      s.critical ? "bad" : s.open ? "warn" : "",
    ),
    tile(
      "Assets",
      count(assets),
      firing ? firing + " with an open episode" : scored ? "all quiet" : "not scored yet",
    ),
    tile("Rows scored", count(scored), rate === null ? "…" : count(Math.round(rate)) + " per second"),
    tile(
      "Readings filled in",
      count(filled),
      scored ? (filled / scored).toFixed(2) + " per row" : "none yet",
    ),
    tile(
      "Records",
      count(seen),
      odd.length ? odd.join(", ") : "all accepted",
      records.rejected > 0.05 * seen ? "warn" : "",
    ),
    tile("Up", span(s.uptime_seconds), s.source || "version " + s.version),
  );
}

function episodeTable(list, day, closed) {
  if (!list.length) return h("div", "empty", closed ? "None has closed yet." : "No open episodes.");
  const head = [
    "",
    "Asset",
    "What",
    closed ? "Opened" : "Since",
    closed ? "Lasted" : "For",
    closed ? "Peak score" : "Score",
    "Most to blame: observed, expected, share",
  ];
  const rows = list.map((e) => {
    const why = h("div", "why");
    for (const c of e.contributors) {
      why.append(
        titled(h("span", "", c.sensor), c.sensor),
        h(
          "span",
          "num",
          c.observed === null ? "missing" : value(c.observed, 4),
          c.expected === null ? null : h("span", "dim", ", expected " + value(c.expected, 4)),
        ),
        h("span", "dim num right", share(c.share)),
      );
    }
    const shown = closed ? e.peak : e.score;
    const over = shown !== null && e.threshold ? shown / e.threshold : null;
    const score = h("td", "n");
    if (over !== null) {
      const fill = h("i", ""),
        meter = h("span", "meter " + (over > 1 ? "over" : ""), fill);
      fill.style.width = Math.min(100, over * 40) + "%";
      score.append(h("span", "", value(shown)), h("span", "dim", " of " + value(e.threshold)), meter);
    } else score.append("–");
    return h(
      "tr",
      "",
      h("td", "", closed ? chip("closed", e.severity) : chip(e.severity, e.severity)),
      titled(h("td", "name", e.asset), e.asset),
      h("td", "", KINDS[e.kind] || e.kind, e.sensor ? h("div", "dim", e.sensor) : null),
      titled(h("td", "when", clock(e.since, day)), "onset " + e.onset + ", model " + e.model),
      h("td", "when", span(e.seconds)),
      score,
      h("td", "", e.contributors.length ? why : h("span", "dim", e.summary)),
    );
  });
  return h(
    "table",
    "",
    h("thead", "", h("tr", "", ...head.map((t) => h("th", "", t)))),
    h("tbody", "", ...rows),
  );
}

const cards = new Map();
function assetGrid(box, stream) {
  const keep = new Set();
  stream.tracks.forEach((t, place) => {
    const key = JSON.stringify([stream.name, t.asset]);
    keep.add(key);
    let c = cards.get(key);
    if (!c) {
      c = {
        node: h("div", "card asset"),
        name: titled(h("span", "name", t.asset), t.asset),
        score: h("span", "score"),
        canvas: h("canvas"),
        state: h("span"),
        ratio: h("span", "num"),
      };
      c.node.append(h("div", "top", c.name, c.score), c.canvas, h("div", "foot", c.state, c.ratio));
      cards.set(key, c);
    }
    const anomaly = t.kinds.includes("anomaly"),
      told = t.kinds.length > 0;
    const mood =
      anomaly || t.critical
        ? "firing"
        : told
          ? "told"
          : t.score === null
            ? "none"
            : t.ratio > 1
              ? "high"
              : t.ratio > 0.8
                ? "near"
                : "";
    c.node.className = "card asset " + mood;
    c.score.textContent = value(t.score);
    c.state.textContent = told
      ? t.kinds.map((k) => KINDS[k] || k).join(", ")
      : { none: "no score", high: "above threshold", near: "near threshold" }[mood] || "normal";
    c.ratio.textContent = t.ratio === null ? "" : Math.round(t.ratio * 100) + " %";
    c.ratio.title = "of the threshold";
    if (box.children[place] !== c.node) box.insertBefore(c.node, box.children[place] || null);
    const peak = t.spark.reduce((m, v) => Math.max(m, v || 0), 0),
      edge = stream.threshold;
    sparkline(
      c.canvas,
      t.spark,
      edge,
      edge === null ? peak * 1.1 || 1 : Math.min(Math.max(peak * 1.05, edge * 1.4), edge * 4),
    );
    c.canvas.setAttribute("role", "img");
    c.canvas.setAttribute("aria-label", "recent scores, the newest " + value(t.score));
  });
  for (const [key, c] of cards)
    if (c.node.parentNode === box && !keep.has(key)) {
      c.node.remove();
      cards.delete(key);
    }
}

const sections = new Map();
function assets(s) {
  const names = new Set(s.streams.map((x) => x.name));
  for (const stream of s.streams) {
    let section = sections.get(stream.name);
    if (!section) {
      section = { node: h("section"), title: h("h2"), learn: h("div"), grid: h("div", "grid") };
      section.node.append(section.title, section.learn, section.grid);
      sections.set(stream.name, section);
      $("assets").append(section.node);
    }
    const shown = stream.tracks.length,
      few =
        shown && shown < stream.assets
          ? "the " + shown + " of most interest among " + count(stream.assets)
          : count(stream.assets) + (stream.assets === 1 ? " asset" : " assets");
    section.title.replaceChildren(
      s.streams.length > 1 ? "Stream " + stream.name : "Assets",
      h(
        "span",
        "dim",
        few +
          (stream.threshold === null ? "" : ", an episode opens above " + value(stream.threshold)) +
          (stream.newest ? ", newest row " + stream.newest.slice(0, 19).replace("T", " ") + " UTC" : ""),
      ),
    );
    section.learn.replaceChildren();
    if (stream.state === "learning") {
      const done = stream.learn_rows ? Math.min(1, stream.rows / stream.learn_rows) : 0,
        fill = h("i");
      fill.style.width = done * 100 + "%";
      section.learn.append(
        h(
          "div",
          "card row",
          h(
            "div",
            "line",
            h("b", "", stream.training ? "Training the first model" : "Learning what normal looks like"),
            h(
              "span",
              "dim num",
              count(Math.min(stream.rows, stream.learn_rows)) + " of " + count(stream.learn_rows) + " rows",
            ),
          ),
          h("div", "bar", fill),
          h("p", "", "Readings are taken in and kept; scoring begins with the first model."),
        ),
      );
    }
    assetGrid(section.grid, stream);
  }
  for (const [name, section] of sections)
    if (!names.has(name)) {
      section.node.remove();
      sections.delete(name);
    }
}

function driftPanel(list) {
  if (!list.some((x) => x.drift)) return h("div", "empty", "No interval has ended yet.");
  return list
    .filter((x) => x.drift)
    .flatMap((x) =>
      [
        ["latent", "Latent space"],
        ["residual", "Residuals"],
      ].map(([key, label]) => {
        const d = x.drift[key],
          canvas = h("canvas"),
          top = Math.max(d.threshold * 1.5, ...d.history.map((v) => v || 0)) * 1.05;
        canvas.dataset.spark = JSON.stringify([d.history, d.threshold, top]);
        const over = d.value > d.threshold;
        return h(
          "div",
          "row",
          h(
            "div",
            "line",
            h("b", "", label, list.length > 1 ? h("span", "dim", " · " + x.name) : null),
            chip(
              x.drift.verdict === "insufficient" ? "insufficient" : over ? "drift" : "ok",
              x.drift.verdict === "insufficient" ? "too little data" : over ? "above" : "steady",
            ),
          ),
          h("p", "num", value(d.value) + " nats, threshold " + value(d.threshold)),
          canvas,
        );
      }),
    );
}

const FAULTS = {
  spike: "Spike",
  shift: "Offset",
  drift: "Drift",
  stuck: "Stuck",
  noise: "Noise",
  correlation_swap: "Swapped",
  lag: "Lag",
  drop_out: "Drop-out",
};
function drillCell(kind, e) {
  if (!e) return h("td", "faint", "–");
  const within = e.within === null ? null : h("div", "dim num", e.within ? "in " + span(e.within) : "at once");
  const size = kind === "lag" ? span(e.above) : value(e.above);
  const what = !e.recall
    ? chip("warning", "not found")
    : e.above !== null
      ? h("b", "num", "> " + size)
      : e.sized || e.recall < 0.8
        ? h("span", "num", share(e.recall) + " found")
        : h("b", "", "found");
  const often = e.above !== null || (!e.sized && e.recall >= 0.8);
  return titled(h("td", "when", what, often ? within : null), e.says + " (" + count(e.faults) + " faults)");
}
function drillPanel(list) {
  const some = list.filter((x) => x.drill.length);
  if (!some.length)
    return h("div", "empty", "Nothing yet: a fault is injected now and then, within its share of the CPU.");
  const kinds = Object.keys(FAULTS);
  return some.map((x) =>
    h(
      "table",
      "",
      h(
        "thead",
        "",
        h("tr", "", h("th", "", list.length > 1 ? x.name : "Sensor"), ...kinds.map((k) => h("th", "", FAULTS[k]))),
      ),
      h(
        "tbody",
        "",
        ...x.drill.map((row) =>
          h(
            "tr",
            "",
            titled(h("td", "name", row.sensor), row.sensor),
            ...kinds.map((k) => drillCell(k, row.kinds[k])),
          ),
        ),
      ),
    ),
  );
}

function modelPanel(list, day) {
  const rows = list
    .flatMap((x) => [
      x.model
        ? h(
            "div",
            "row",
            h(
              "div",
              "line",
              h(
                "span",
                "",
                h("b", "mono", x.model),
                list.length > 1 ? h("span", "dim", " · " + x.name) : null,
              ),
              chip("ok", "in use"),
            ),
            h(
              "p",
              "",
              [
                x.calibration && x.calibration + " calibration",
                x.trained_at && "trained " + clock(x.trained_at, day) + " UTC",
              ]
                .filter(Boolean)
                .join(", "),
            ),
          )
        : null,
      ...x.models
        .slice(0, 12)
        .map((m) =>
          h(
            "div",
            "row",
            h("div", "line", h("span", "mono", m.version), chip(m.result, m.result.replace("_", " "))),
            h("p", "", clock(m.at, day) + (m.reason ? " · " + m.reason : "")),
          ),
        ),
    ])
    .filter(Boolean);
  return rows.length ? rows : h("div", "empty", "No model yet.");
}

const IMPUTABLE = {
  cannot: ["warning", "cannot be imputed"],
  last_value: ["closed", "no better than the last value"],
  good: ["ok", "good"],
  too_few: ["closed", "too few yet"],
};
function auditTable(list) {
  const rows = list.flatMap((x) =>
    x.imputation.map((a) => {
      const verdict = IMPUTABLE[a.verdict] || ["closed", a.verdict];
      return h(
        "tr",
        "",
        titled(h("td", "name", a.sensor, list.length > 1 ? h("span", "dim", " · " + x.name) : null), a.sensor),
        h("td", "", chip(verdict[0], verdict[1])),
        titled(
          h(
            "td",
            "n",
            value(a.error),
            a.relative === null ? null : h("div", "dim", share(a.relative) + " of spread"),
          ),
          "the last value would be off by " + value(a.last_value_error),
        ),
        titled(h("td", "n", share(a.coverage)), "of " + count(a.audits) + " hidden readings"),
      );
    }),
  );
  if (!rows.length) return h("div", "empty", "No reading has been hidden yet.");
  const head = ["Sensor", "Filling it in", "Typical error", "In 90 % interval"];
  return h(
    "table",
    "audits",
    h("thead", "", h("tr", "", ...head.map((t) => h("th", "", t)))),
    h("tbody", "", ...rows),
  );
}

let current = null;
function show(s) {
  current = s;
  const day = s.now.slice(0, 10),
    eventDay = s.streams
      .map((x) => x.newest || "")
      .sort()
      .pop()
      .slice(0, 10);
  document.title = (s.open ? "(" + s.open + ") " : "") + "anomalyd · " + s.lifecycle;
  $("state").className = "chip " + s.lifecycle;
  $("state").textContent = s.lifecycle;
  $("headline").textContent = s.headline.split(", ").slice(1).join("  ·  ");
  tiles(s);
  part("open", [s.episodes, eventDay], ([list, d]) => episodeTable(list, d, false));
  part("recent", [s.recent.slice(0, 30), eventDay], ([list, d]) => episodeTable(list, d, true));
  $("opencount").textContent =
    s.open > s.episodes.length
      ? "the " + s.episodes.length + " most urgent of " + count(s.open)
      : s.open
        ? "times are event time, UTC"
        : "";
  assets(s);
  part(
    "drift",
    s.streams.map((x) => ({ name: x.name, drift: x.drift })),
    driftPanel,
  );
  part(
    "drill",
    s.streams.map((x) => ({ name: x.name, drill: x.drill })),
    drillPanel,
  );
  part(
    "audits",
    s.streams.map((x) => ({ name: x.name, imputation: x.imputation })),
    auditTable,
  );
  part(
    "models",
    [
      s.streams.map((x) => ({
        name: x.name,
        model: x.model,
        calibration: x.calibration,
        trained_at: x.trained_at,
        models: x.models,
      })),
      day,
    ],
    ([list, d]) => modelPanel(list, d),
  );
  for (const c of document.querySelectorAll("canvas[data-spark]"))
    sparkline(c, ...JSON.parse(c.dataset.spark));
  const trouble = s.waiting_for
    ? "Waiting for " + s.waiting_for + ": it does not answer."
    : s.ready || s.lifecycle === "starting"
      ? ""
      : "Not ready: " + s.because.join("; ") + ".";
  notice(trouble, false);
}
function notice(text, stale) {
  $("notice").textContent = text;
  $("notice").classList.toggle("shown", text !== "");
  document.body.classList.toggle("stale", stale);
}

let answered = null;
async function poll() {
  try {
    const response = await fetch("api/status", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!response.ok) throw new Error(response.status);
    const s = await response.json();
    answered = new Date();
    show(s);
    $("link").textContent = "updated " + s.now.slice(11, 19) + " UTC";
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException)) console.error(error);
    notice(
      "No answer from the daemon" +
        (answered ? " since " + answered.toISOString().slice(11, 19) + " UTC" : "") +
        "; trying again.",
      true,
    );
  }
  setTimeout(poll, 1000);
}
readPalette();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readPalette();
  if (current) show(current);
});
addEventListener("resize", () => {
  if (current) show(current);
});
poll();
"""

_BODY: Final = """
<header>
<h1>anomaly<span>d</span></h1>
<span id="state" class="chip starting">starting</span>
<span id="headline" role="status"></span>
<span id="link" class="num"></span>
</header>
<main>
<div id="notice" role="alert"></div>
<div id="tiles" class="tiles"></div>
<h2>Open episodes <span id="opencount" class="dim"></span></h2>
<div id="open" class="card scroll"></div>
<div class="columns">
<div>
<div id="assets"></div>
<h2>Fire drill <span class="dim">what would be found now: from which size on, in the sensor's own units
(of a lag, time), and how soon</span></h2>
<div id="drill" class="card scroll"></div>
<h2>Recently closed</h2>
<div id="recent" class="card scroll"></div>
<h2>Imputation, audited live <span class="dim">readings hidden from the model now and then</span></h2>
<div id="audits" class="card scroll"></div>
</div>
<aside>
<h2>Drift <span class="dim">newest interval against training</span></h2>
<div id="drift" class="card"></div>
<h2>Models <span class="dim">newest first</span></h2>
<div id="models" class="card"></div>
</aside>
</div>
<footer>Read-only. <a href="metrics">metrics</a> · <a href="api/status">status</a> ·
<a href="api/events">events</a> ·
<a href="livez">livez</a> · <a href="readyz">readyz</a></footer>
</main>
"""


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


PAGE: Final = (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<title>anomalyd</title>\n<link rel="icon" href="data:,">\n'
    f"<style>{STYLE}</style>\n</head>\n<body>{_BODY}<script>{SCRIPT}</script>\n</body>\n</html>\n"
)
"""Constant: what is shown arrives through ``/api/status``."""

_POLICY: Final = (
    f"default-src 'none'; script-src '{_digest(SCRIPT)}'; style-src '{_digest(STYLE)}'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
