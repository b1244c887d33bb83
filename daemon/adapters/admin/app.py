"""The routes of the admin port: probes, metrics, the page, and the page's JSON.

The application answers GET and HEAD from two values that the loop keeps up to date, ``Metrics`` and ``Status``.
It counts refused requests in ``Metrics``, changes nothing else, and never calls the broker: a probe that did would
restart the whole fleet in a broker outage. What people may tell the daemon besides, where that is allowed, is in
``control``. Each answer has headers that keep a browser from running foreign
scripts in it, framing it, guessing its type, sharing or storing it; the content security policy is computed once,
from the page's files. Requests pass, in this order, the limit of one costly answer per pass of the event loop,
the safe headers, and the check of the host (``hosts``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.adapters.admin.control import MOST_BODY, ControlRoutes
from daemon.adapters.admin.desk import Control
from daemon.adapters.admin.hosts import PROBES, Hosts, KnownHosts
from daemon.adapters.admin.snapshot import event_json, snapshot
from daemon.adapters.pages import Page, encoded
from daemon.adapters.telemetry import Metrics, Status
from daemon.documents import short

_PAGE: Final = Page.load("daemon.adapters.admin", ["episodes.js"], ["sparkline.js", "people.js", "tell.js"])
PAGE: Final = _PAGE.document({})
"""The page's document. It is constant: what is shown arrives through ``/api/status``."""
_HEADERS: Final = [
    (b"content-security-policy", _PAGE.policy("connect-src 'self'", "frame-ancestors 'none'").encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


def create_app(
    status: Status, metrics: Metrics, allowed_hosts: Collection[str] = (), control: Control | None = None
) -> Starlette:
    """The admin application over a live ``status`` and ``metrics``.

    Args:
        status, metrics: what the answers are made of.
        allowed_hosts: names that a request's ``Host`` may carry besides ``localhost``, this machine's own
            name and any address; ``*.example.org`` permits every name below example.org.
        control: that people may tell the daemon something on the page; None: they may not.
    """
    allowed = None if control is None else {"token": control.token is not None}
    controls = [] if control is None else ControlRoutes(control, metrics.http_refused).routes()

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
        return _json({**snapshot(status), "control": allowed})

    async def api_events(request: Request) -> Response:
        text = request.query_params.get("after", "0")
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            return _json({"error": "after must be a sequence number"}, 400)
        events = [{"sequence": n, **event_json(e)} for n, e in status.events if n > int(text)]
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
        ]
        + controls,
        middleware=[
            Middleware(_OneAtATime),
            Middleware(_SafeHeaders),
            Middleware(
                KnownHosts,
                hosts=Hosts(allowed_hosts),
                refused=metrics.http_refused,
                takes_body=[route.path for route in controls],
                most_body=MOST_BODY,
            ),
        ],
    )


class _OneAtATime:
    """Starts one answer per pass of the event loop; probes are answered at once.

    An answer takes up to some milliseconds. Answers to many requests at once would delay Kafka's heartbeats,
    the probes and the records by the sum of their times.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._lock = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in PROBES:
            async with self._lock:
                await asyncio.sleep(0)
        await self._app(scope, receive, send)  # not locked: a client that does not read delays no other


class _SafeHeaders:
    """Adds the security headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_HEADERS]}
            await send(message)

        await self._app(scope, receive, with_headers)


def _json(body: object, code: int = 200) -> Response:
    return Response(encoded(body), code, media_type="application/json")
