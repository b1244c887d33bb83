"""GET requests to a schema registry: its addresses in turn, TLS, credentials from files, and deadlines.

``http.client`` in a thread of the caller's: a stream asks for some dozen schemas in its life, so a client library
for it would be a dependency for nothing.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from daemon.documents import DocumentError, one_line, read_file
from daemon.errors import ConfigError, DaemonError
from daemon.mapping import RegistryAddress

MOST_BYTES: Final = 16 << 20
"""Of an answer."""
PATIENCE: Final = 3.0
"""A whole answer may take so many times the timeout, which is of a single read."""
_OUT_OF_ORDER: Final = frozenset({407, 408, 425, 429})
ACCEPT: Final = (
    "application/vnd.schemaregistry.v1+json, application/vnd.schemaregistry+json, application/json"
)


class RegistryError(DaemonError):
    """A schema registry cannot be used now: another attempt may succeed."""


class RegistryConnection:
    """Asks the addresses of one registry; safe to use from several threads, which take turns.

    Args:
        address: where it is, and as whom it is asked. The files of secrets are read for each connection, so they
            may be replaced.

    Raises:
        ConfigError: a file cannot be used.
    """

    def __init__(self, address: RegistryAddress) -> None:
        self._address = address
        self._urls = [urlsplit(url) for url in address.urls]
        self._turn = threading.Lock()
        self._open: tuple[SplitResult, http.client.HTTPConnection, dict[str, str]] | None = None
        self._headers()
        self._tls()

    @property
    def name(self) -> str:
        """Its addresses, for messages."""
        return ", ".join(self._address.urls)

    def get(self, path: str) -> tuple[int, Any]:
        """The status and the JSON (None where it is none) of the first address that answers.

        The status is below 300, or one that says something of the question: 404, 422 ...

        Args:
            path: below the registry's address, with its query.

        Raises:
            RegistryError: none of them answers, or the registry is out of order or refuses the credentials.
        """
        failures = []
        with self._turn:
            if self._open is not None:  # the server may have closed it since: that is no failure
                try:
                    return self._usable(self._open[0], *self._ask(path))
                except (OSError, http.client.HTTPException, RegistryError):
                    self._close()
            for url in list(self._urls):
                try:
                    self._connect(url)
                    return self._usable(url, *self._ask(path))
                except ConfigError as error:  # a secret is just being replaced
                    failures.append(str(error))
                except (OSError, http.client.HTTPException) as error:
                    failures.append(f"{_place(url)}: {_why(error)}")
                except RegistryError as error:
                    failures.append(str(error))
                self._close()
                self._urls.append(self._urls.pop(0))
        raise RegistryError(f"the schema registry cannot be used: {'; '.join(failures)}")

    # -------------------------------------------------------------- one request
    def _connect(self, url: SplitResult) -> None:
        port, timeout = url.port, self._address.timeout_s
        host = url.hostname or ""
        if url.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=timeout, context=self._tls()
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        self._open = url, connection, self._headers()

    def _close(self) -> None:
        if self._open is not None:
            with contextlib.suppress(OSError):
                self._open[1].close()
        self._open = None

    def _ask(self, path: str) -> tuple[int, bytes]:
        assert self._open is not None
        url, connection, headers = self._open
        give_up = time.monotonic() + PATIENCE * self._address.timeout_s
        connection.request("GET", url.path.rstrip("/") + path, headers=headers)
        answer = connection.getresponse()
        body = bytearray()
        while piece := answer.read1(65_536):
            body += piece
            if len(body) > MOST_BYTES:
                raise http.client.HTTPException(f"an answer of over {MOST_BYTES} bytes")
            if time.monotonic() > give_up:
                raise TimeoutError("timed out")
        answer.close()  # the connection stays: ``read1`` does not see the end of a body
        return answer.status, bytes(body)

    def _usable(self, url: SplitResult, status: int, body: bytes) -> tuple[int, Any]:
        """An answer to the question; any other is a failure of the registry, of its address or of the credentials."""
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if status in (401, 403):
            named = self._address.username is not None or self._address.token_file is not None
            raise RegistryError(
                f"{_place(url)} {'refuses the credentials' if named else 'wants credentials'} ({status})"
            )
        if status in _OUT_OF_ORDER or (status >= 500 and status != 501) or 300 <= status < 400:
            said = found.get("message") if isinstance(found, dict) else None
            raise RegistryError(
                f"{_place(url)} answers {status}" + (f": {one_line(str(said))[:120]}" if said else "")
            )
        if status < 300 and found is None:
            raise RegistryError(f"{_place(url)} answers no JSON: is it a schema registry?")
        return status, found

    # -------------------------------------------------------------- as whom
    def _headers(self) -> dict[str, str]:
        address = self._address
        headers = {"Accept": ACCEPT, "User-Agent": "anomalyd"}
        if address.token_file is not None:
            token = self._secret("token_file", address.token_file)
            if not re.fullmatch(r"[!-~]+", token):
                raise ConfigError(f"schema_registry.token_file {address.token_file} holds no token")
            headers["Authorization"] = f"Bearer {token}"
        elif address.username is not None and address.password_file is not None:
            password = self._secret("password_file", address.password_file)
            credentials = base64.b64encode(f"{address.username}:{password}".encode()).decode()
            headers["Authorization"] = f"Basic {credentials}"
        return headers

    def _secret(self, key: str, path: str) -> str:
        try:
            return read_file(Path(path)).decode().strip()
        except DocumentError as error:
            raise ConfigError(f"schema_registry.{key} {path} {error}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"schema_registry.{key} {path} is not UTF-8 text") from error

    def _tls(self) -> ssl.SSLContext:
        address = self._address
        for key in ("ca_file", "cert_file", "key_file"):
            path = getattr(address, key)
            if path is not None:
                try:
                    read_file(Path(path))
                except DocumentError as error:
                    raise ConfigError(f"schema_registry.{key} {path} {error}") from error
        try:
            context = ssl.create_default_context(cafile=address.ca_file)
            if address.cert_file is not None:
                context.load_cert_chain(address.cert_file, address.key_file, password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ConfigError(
                f"schema_registry.ca_file {address.ca_file}, cert_file {address.cert_file} and key_file "
                f"{address.key_file} do not make a TLS context: {_why(error)}"
            ) from error
        return context


def _no_password() -> str:
    """For a key that is encrypted: without this OpenSSL would ask the terminal."""
    raise ValueError("the key is encrypted")


def _place(url: SplitResult) -> str:
    return f"{url.scheme}://{url.netloc}{url.path}"


def _why(error: BaseException) -> str:
    """What went wrong, in words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closed the connection without an answer"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(f"{type(error).__name__} {error}")[:160]


def in_background(work: Callable[[], None], name: str) -> None:
    """Run work in a thread that does not keep the process from ending."""
    threading.Thread(target=work, name=name, daemon=True).start()
