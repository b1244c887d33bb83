"""The names and addresses by which the admin port may be asked, and the middleware that checks them.

A web page that a browser on this network has open can send requests to the admin port: it makes a name of its
own resolve to this address (DNS rebinding), and the browser then takes the answers for the page's own. Such a
request carries the page's name in ``Host``, so a request is answered only if that name is known to be ours. An
address is always answered: an origin that is an address belongs to the machine at that address, and nobody can
make it lead elsewhere. The kubelet and Prometheus use the address.

``KnownHosts`` also rejects a request whose target is not a path and a request with a body, but for a short one to the few
paths that take it, and counts each rejection by its reason.
"""

from __future__ import annotations

import ipaddress
import math
import re
import socket
from collections.abc import Callable, Collection, Iterable
from typing import Final

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from daemon.adapters.pages import bounded
from daemon.adapters.telemetry import HttpRefusal, Throttle

log = structlog.get_logger()

PROBES: Final = ("/livez", "/readyz", "/startupz")


class Hosts:
    """The names and addresses that a request's ``Host`` may carry.

    Args:
        allowed: names besides ``localhost`` and this machine's own name; ``*.example.org`` permits every
            name below example.org.
    """

    _SYNTAX: Final = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::[0-9]{0,5})?")

    def __init__(self, allowed: Collection[str] = ()) -> None:
        known = {"localhost", socket.gethostname(), *allowed}
        lowered = {name.lower().removesuffix(".") for name in known}
        self._names = {name for name in lowered if not name.startswith("*.")}
        self._below = tuple(name[1:] for name in lowered if name.startswith("*."))

    def known(self, host: str) -> bool:
        """Whether the value of a ``Host`` header is one of ours, whatever its port.

        A user name and an IPv6 zone (which has a meaning on the sender's machine alone) are not accepted, and
        an IPv4 address has four decimal numbers.
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


def declared_body(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """The bytes of a request's body, by its headers; infinite where they do not say."""
    length = 0.0
    for name, value in headers:
        if name == b"transfer-encoding" or (name == b"content-length" and not value.isdigit()):
            return math.inf
        if name == b"content-length":
            length = max(length, float(value))
    return length


class KnownHosts:
    """Passes on only requests that name this daemon (the module says why) and carry no body.

    Args:
        app: to which they are passed on.
        hosts: that are ours.
        refused: called with the reason for each request that is not.
        takes_body: paths to which a POST may carry a body ...
        most_body: ... of a declared length of so many bytes, at most.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Hosts,
        refused: Callable[[HttpRefusal], None],
        takes_body: Collection[str] = (),
        most_body: int = 0,
    ) -> None:
        self._app, self._hosts, self._refused = app, hosts, refused
        self._takes_body, self._most_body = takes_body, most_body
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
        takes_body = scope["method"] == "POST" and scope["path"] in self._takes_body
        if declared_body(headers) > (self._most_body if takes_body else 0):
            self._refused(HttpRefusal.BODY)  # it is not read: the connection ends with the answer
            most = f"at most {self._most_body} bytes, of a declared length" if takes_body else "no"
            text, close = f"this request takes {most} body\n", {"connection": "close"}
            return Response(text, 413, headers=close, media_type="text/plain")
        hosts = [value for name, value in headers if name == b"host"]
        if not hosts and scope["path"] in PROBES:
            return None  # HTTP/1.0, which no browser speaks: a simple health check
        host = hosts[0].decode("latin-1") if len(hosts) == 1 else ""
        if self._hosts.known(host):
            return None
        self._refused(HttpRefusal.HOST)
        shown = ascii(bounded(host)) if len(hosts) == 1 else f"{len(hosts)} Host headers"
        if (suppressed := self._throttle.admit("host")) is not None:
            log.warning(
                "http_host_refused",
                host=shown,
                path=scope["path"],
                client=(scope.get("client") or ("",))[0],
                others=suppressed,
                rule="not a name of this daemon: add it to http.allowed_hosts if it is",
            )
        text = f"{shown} is no name of this daemon: ask by address, or add the name to http.allowed_hosts\n"
        return Response(text, 421, media_type="text/plain")
