"""The admin port's server: a bound socket, uvicorn on it, and a deadline for every connection.

Anybody who reaches the port can open connections and send nothing, or read nothing. Each connection therefore
has a deadline for its next complete request and one for its answer. The number of connections is bounded;
where the bound is reached, the connection that has been in its state for longest is closed, so that a new
one (a probe) is always accepted. Few answers wait in memory for a client that does not read.

``serve`` binds the port at once, so that a port that is taken is reported at the start; ``AdminServer.run``
serves until it is cancelled, and frees the port. Signals are left to the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import resource
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

import h11
import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from daemon.adapters.admin.hosts import declared_body
from daemon.adapters.telemetry import HttpRefusal, Throttle
from daemon.errors import ConfigError, DaemonError

log = structlog.get_logger()

REQUEST_S: Final = 5.0
"""Deadline for a complete request head, from the connection or the previous answer on."""
ANSWER_S: Final = 10.0
"""Deadline for the client to read the answer, from the complete request head on; Prometheus waits as long."""
MOST_CONNECTIONS: Final = 2048
"""Upper bound of open connections; fewer where the process may open few files."""
MOST_UNREAD: Final = 16
"""Connections whose answer may wait in memory for its client to read, beyond what the kernel buffers."""
ACCEPTED_AT_ONCE: Final = 64
"""Connections accepted per pass of the event loop: each needs a descriptor before any can be closed."""
KERNEL_QUEUE: Final = 1024
"""Connections that wait in the kernel to be accepted; they need no descriptor."""


class Connections:
    """The open connections of an admin port, in the order in which they are closed where there are too many.

    Args:
        most: upper bound. Beyond it, the connection is closed that has been in its state (waiting for a
            request, or being answered) for longest.
        refused: called with the reason for each connection that is closed before its time.
    """

    def __init__(self, most: int, refused: Callable[[HttpRefusal], None]) -> None:
        self.most = most
        self.refused = refused
        self.unread: dict[Connection, None] = {}
        self._open: dict[Connection, None] = {}  # by when their state last changed
        self._throttle = Throttle()

    def __len__(self) -> int:
        return len(self._open)

    def state_changed(self, connection: Connection) -> None:
        """Move a connection to the end: it is new, its request is complete, or its answer is."""
        self._open.pop(connection, None)
        self._open[connection] = None
        if len(self._open) > self.most:
            self.close(next(iter(self._open)), HttpRefusal.CROWDED)

    def limit_unread(self, connection: Connection) -> None:
        """Note that a connection's client does not read; beyond ``MOST_UNREAD`` the first of them is closed."""
        self.unread[connection] = None
        if len(self.unread) > MOST_UNREAD:
            self.close(next(iter(self.unread)), HttpRefusal.SLOW)

    def close(self, connection: Connection, reason: HttpRefusal) -> None:
        """Close a connection at once, whatever it still has to send or to read."""
        self.remove(connection)
        connection.transport.abort()
        self.refused(reason)
        if (suppressed := self._throttle.admit(reason)) is not None:
            peer = connection.client[0] if connection.client else ""
            log.warning(
                "http_connection_closed", reason=str(reason), client=peer, others=suppressed, open=len(self)
            )

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.pop(connection, None)
        self.unread.pop(connection, None)


class Connection(H11Protocol):
    """uvicorn's connection with a deadline for the next complete request, and one for its answer.

    uvicorn's own keep-alive timer runs only between an answer and the next byte: a client that sends a byte now
    and then, or never a first one, or does not read, would stay connected for ever. No single byte extends a
    deadline here.
    """

    def __init__(self, *arguments: Any, connections: Connections, most_body: int, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._connections = connections
        self._most_body = most_body
        self._request: object = None  # the request that is being answered
        self._deadline: asyncio.TimerHandle | None = None
        self._bytes_since_head = 0  # bytes since the last complete head

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        super().connection_made(transport)
        self._connections.state_changed(self)
        self._expire_after(REQUEST_S)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._connections.remove(self)
        if self._deadline is not None:
            self._deadline.cancel()

    def data_received(self, data: bytes) -> None:
        self._bytes_since_head += len(data)
        super().data_received(data)
        if self._request_in_progress() is not self._request:
            self._set_deadline()

    def on_response_complete(self) -> None:
        super().on_response_complete()  # starts the next request, if one is buffered
        self._set_deadline()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._connections.limit_unread(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._connections.unread.pop(self, None)

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # its answer could not be sent after this one
        super().send_400_response(msg)

    def _request_in_progress(self) -> object:
        return None if self.cycle is None or self.cycle.response_complete else self.cycle

    def _set_deadline(self) -> None:
        """Set the next deadline: a request is complete, or its answer is."""
        self._request, self._bytes_since_head = self._request_in_progress(), 0
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            return
        if self._request is not None and self.conn.their_state is h11.SEND_BODY:
            self.flow.pause_reading()  # it may be rejected later, and its body would be buffered until then
            if declared_body(self.headers) > self._most_body:
                self.cycle.body.clear()
        self._connections.state_changed(self)
        ours = self._request is not None or self.transport.get_write_buffer_size()  # an answer is on its way
        self._expire_after(ANSWER_S if ours else REQUEST_S)

    def _expire_after(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self._expired)

    def _expired(self) -> None:
        idle = self.cycle is not None and self._request is None and not self._bytes_since_head
        if idle and not self.transport.get_write_buffer_size():
            self.transport.close()  # between requests: no answer is cut off
        else:
            self._connections.close(self, HttpRefusal.SLOW)


def most_connections() -> int:
    """The bound of open connections: at most a quarter of the files that the process may open."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if descriptors < 0 else max(16, min(MOST_CONNECTIONS, descriptors // 4))


class AdminServer:
    """A bound admin port: ``host`` and the real ``port``; ``run`` serves until it is cancelled."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        refused: Callable[[HttpRefusal], None] = lambda _: None,
        most_body: int = 0,
    ) -> None:
        self.host, self.port = listener.getsockname()[:2]
        self._socket = listener
        self.connections = Connections(most_connections(), refused)
        config = uvicorn.Config(
            app,
            http=Connection,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=3600,  # of no effect: the deadlines of Connection come first
            timeout_graceful_shutdown=1,
            backlog=min(ACCEPTED_AT_ONCE, self.connections.most),
        )
        config.load()
        # uvicorn asks for a class and calls it.
        config.http_protocol_class = functools.partial(  # type: ignore[assignment]
            Connection, connections=self.connections, most_body=most_body
        )
        self._server = _QuietServer(config)

    @property
    def url(self) -> str:
        """The address of the page."""
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
        """Free the port without having served."""
        self._socket.close()


class _QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave SIGTERM to the service, which drains first and stops this server last."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, with a longer queue in the kernel than is accepted at once."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(KERNEL_QUEUE)


def serve(
    app: ASGIApp,
    host: str,
    port: int,
    refused: Callable[[HttpRefusal], None] = lambda _: None,
    most_body: int = 0,
) -> AdminServer:
    """Bind ``host:port`` at once, so that a taken port is reported at the start; port 0 takes a free one.

    Args:
        app: what answers.
        host, port: the address.
        refused: called with the reason for each connection that is closed before its time.
        most_body: bytes of a request's body that are kept for ``app``; of a longer one nothing is.

    Returns:
        The bound server; ``run`` serves.

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
    return AdminServer(app, listener, refused, most_body)
