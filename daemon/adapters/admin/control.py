"""The requests by which the page tells the daemon something; they exist only where ``http.control`` allows it.

They are the one part of the admin port that changes anything, and the port may be reached by anybody on a network, and by
any web page that a browser on it has open (cross-site requests, DNS rebinding). A request therefore passes, in this order,

1. the name in ``Host``, which must be ours (``hosts``), as for every request;
2. its length, which is declared and at most ``MOST_BODY``: ``hosts`` refuses any other body unread;
3. ``Origin``, which browsers send with each such request, and which must be the very host and port of ``Host``;
   ``Sec-Fetch-Site``, where there is one, must say the same;
4. the token, where one is needed, compared in constant time;
5. ``Content-Type: application/json``, which no form can send, and another site's script only after a preflight, which
   nobody answers here;
6. the rate: ``MOST_A_MINUTE``, of all together;
7. its body, complete in ``BODY_S``, and valid as the messages of the topic are (``control.read_control``).

What is refused by 3 and 4 is counted in the metrics and logged. An answer says that the message is durable; an error is one
line, ``{"error": ...}``.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from daemon.adapters.admin.desk import Control, EndedStop, NewStop
from daemon.adapters.pages import bounded, encoded
from daemon.adapters.telemetry import HttpRefusal, Throttle
from daemon.control import LARGEST, Feedback, RetrainRequest
from daemon.errors import ConflictError, DaemonError, UsageError

log = structlog.get_logger()

PATHS: Final = (
    "/api/control/feedback",
    "/api/control/maintenance",
    "/api/control/maintenance/end",
    "/api/control/retrain",
)
MOST_BODY: Final = LARGEST
"""Bytes of a request, as of a control message."""
MOST_A_MINUTE: Final = 30
"""Requests that are passed on in a minute: people click, and each becomes a message that is kept for ever."""
BODY_S: Final = 3.0
TELL_S: Final = 6.0
"""Deadlines for the body, and for the broker: together less than the server's for an answer."""
BY_CHARACTERS: Final = 100


class ControlRoutes:
    """The routes, and what guards them.

    Args:
        control: who passes on what is said, and the token.
        refused: called with the reason for each request that is forged or has no token.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        control: Control,
        refused: Callable[[HttpRefusal], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._control = control
        self._refused = refused
        self._clock = clock
        self._throttle = Throttle()
        self._passed: deque[float] = deque(maxlen=MOST_A_MINUTE)  # when requests were passed on
        self._telling: set[asyncio.Future[str]] = set()

    def routes(self) -> list[Route]:
        """One per path."""
        desk = self._control.desk
        endpoints = (
            self._endpoint(Feedback, desk.feedback),
            self._endpoint(NewStop, desk.plan),
            self._endpoint(EndedStop, desk.end),
            self._endpoint(RetrainRequest, desk.retrain),
        )
        return [Route(path, each, methods=["POST"]) for path, each in zip(PATHS, endpoints, strict=True)]

    def _endpoint(
        self, kind: type[Any], tell: Callable[[Any], Awaitable[str]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            refusal = self._refusal(request)
            if refusal is not None:
                return refusal
            try:
                async with asyncio.timeout(BODY_S):
                    body = await request.body()
            except (TimeoutError, ClientDisconnect):
                return _error(408, f"the request was not complete within {BODY_S:.0f} s", close=True)
            try:
                said = _read(body, kind)
            except ValueError as error:
                return _error(400, str(error))
            return await self._told(request, said, tell)

        return endpoint

    async def _told(self, request: Request, said: Any, tell: Callable[[Any], Awaitable[str]]) -> Response:
        """Pass it on, and answer when it is durable, or in time."""
        client = request.client.host if request.client else ""
        log.info("control_requested", path=request.scope["path"], by=said.by, client=client)
        task = asyncio.ensure_future(tell(said))
        self._telling.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait({task}, timeout=TELL_S)
        if not done:
            task.cancel()
            return _error(
                503,
                f"Kafka has not confirmed it within {TELL_S:.0f} s; it may have been written all the same",
            )
        try:
            return Response(encoded({"told": bounded(task.result(), 1_000)}), media_type="application/json")
        except ConflictError as error:
            return _error(409, str(error))
        except UsageError as error:
            return _error(400, str(error))
        except (DaemonError, OSError) as error:
            return _error(503, str(error) or repr(error))

    def _ended(self, task: asyncio.Future[str]) -> None:
        self._telling.discard(task)
        if not task.cancelled():
            task.exception()  # one that comes after the answer concerns nobody

    # -------------------------------------------------------------- guards
    def _refusal(self, request: Request) -> Response | None:
        """The answer to a request that may not be read further; None: it may be."""
        why = _forged(request)
        if why is not None:
            return self._refuse(request, HttpRefusal.FORGED, why)
        try:
            token = None if self._control.token is None else self._control.token()
        except DaemonError as error:
            return _error(503, str(error), close=True)
        if token is not None and not _carries(request, token):
            return self._refuse(request, HttpRefusal.TOKEN, "the token is missing or wrong")
        kinds = request.headers.getlist("content-type")
        if len(kinds) != 1 or kinds[0].partition(";")[0].strip().lower() != "application/json":
            return _error(415, "content-type must be application/json", close=True)
        now = self._clock()
        if len(self._passed) == MOST_A_MINUTE and now - self._passed[0] < 60.0:
            return _error(429, f"more than {MOST_A_MINUTE} requests in a minute: try again later", close=True)
        self._passed.append(now)
        return None

    def _refuse(self, request: Request, reason: HttpRefusal, why: str) -> Response:
        self._refused(reason)
        if (suppressed := self._throttle.admit(reason)) is not None:
            client = request.client.host if request.client else ""
            origin = ascii(bounded(request.headers.get("origin", "")))
            log.warning(
                "http_control_refused", reason=str(reason), client=client, origin=origin, others=suppressed
            )
        return _error(403, why, close=True, token=reason is HttpRefusal.TOKEN)


_ORIGIN: Final = re.compile(r"https?://([^/?#@\s]+)")


def _forged(request: Request) -> str | None:
    """Why a request may come from another site's page; None: it comes from ours."""
    origins = request.headers.getlist("origin")
    found = _ORIGIN.fullmatch(origins[0].lower()) if len(origins) == 1 else None
    if found is None or found[1] != request.headers.get("host", "").strip().lower():
        return "only the daemon's own page may ask this (Origin): scripts use the command line"
    sites = request.headers.getlist("sec-fetch-site")
    if sites not in ([], ["same-origin"]):
        return "only the daemon's own page may ask this (Sec-Fetch-Site)"
    return None


def _carries(request: Request, token: str) -> bool:
    """Whether the request has the token, compared in a time that does not depend on where they differ."""
    values = request.headers.getlist("authorization")
    scheme, _, given = (values[0] if len(values) == 1 else "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("latin-1"), token.encode())
    return same and scheme.lower() == "bearer"


def _read(body: bytes, kind: type[Any]) -> Any:
    """What a request says.

    Raises:
        ValueError: it cannot be read, or nobody says it.
    """
    try:
        said = msgspec.json.decode(body, type=kind)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    if not said.by.strip():
        raise ValueError("by is empty: say who you are, for the record")
    if len(said.by) > BY_CHARACTERS:
        raise ValueError(f"by has {len(said.by)} characters, more than the {BY_CHARACTERS} allowed")
    return said


def _error(code: int, text: str, *, close: bool = False, token: bool = False) -> Response:
    """An error in one line; ``close`` ends the connection, whose request was not read to its end."""
    body: dict[str, Any] = {"error": bounded(text, 1_000)}
    if token:
        body["token"] = True  # the page asks for it
    headers = {"connection": "close"} if close else {}
    return Response(encoded(body), code, headers=headers, media_type="application/json")
