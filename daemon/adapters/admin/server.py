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

from daemon.adapters.telemetry import HttpRefusal, Throttle
from daemon.errors import ConfigError, DaemonError

log = structlog.get_logger()

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
        self.unread: dict[Connection, None] = {}
        self._open: dict[Connection, None] = {}  # by when their state last changed
        self._throttle = Throttle()

    def __len__(self) -> int:
        return len(self._open)

    def changed(self, connection: Connection) -> None:
        """It is new, its request is complete, or its answer is."""
        self._open.pop(connection, None)
        self._open[connection] = None
        if len(self._open) > self.most:
            self.end(next(iter(self._open)), HttpRefusal.CROWDED)

    def keep_unread(self, connection: Connection) -> None:
        """Its client does not read."""
        self.unread[connection] = None
        if len(self.unread) > MOST_UNREAD:
            self.end(next(iter(self.unread)), HttpRefusal.SLOW)

    def end(self, connection: Connection, reason: HttpRefusal) -> None:
        """Close a connection at once, whatever it still had to send or to read."""
        self.remove(connection)
        connection.transport.abort()
        self.refused(reason)
        if (kept := self._throttle.admit(reason)) is not None:
            peer = connection.client[0] if connection.client else ""
            log.warning(
                "http_connection_closed", reason=str(reason), client=peer, others=kept, open=len(self)
            )

    def remove(self, connection: Connection) -> None:
        """It is closed."""
        self._open.pop(connection, None)
        self.unread.pop(connection, None)


class Connection(H11Protocol):
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
        config.http_protocol_class = functools.partial(Connection, connections=self.connections)  # type: ignore[assignment]
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
