"""Schema registries for tests: a real one, Apicurio from Maven's jars, and one in this process.

``Apicurio`` owns a java process with its storage in memory; its distribution is fetched once by Maven into the user's
cache folder, as the broker's jars are. It has no credentials, no GUIDs and no serialized Protobuf, and cannot be broken
at will. For these there is ``Registry``, an HTTP server in a thread with the paths, answers and error codes of
Confluent's interface; what both can do is tested with both.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tarfile
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.broker import NoBrokerError, cache_folder, free_port, java

APICURIO_VERSION = "3.0.9"
READY_WITHIN_S = 120.0


# ------------------------------------------------------------------ in this process
@dataclass
class Stored:
    """A registered schema."""

    id: int
    guid: str
    text: str
    kind: str
    references: Sequence[Mapping[str, Any]]
    serialized: str | None  # Protobuf: base64 of its FileDescriptorProto


@dataclass
class Registry:
    """A registry in this process; as a context manager it serves on a port that stays its own over outages.

    Attributes:
        credentials: what the Authorization header must be; None: anybody may ask.
        serializes: whether it knows ``?format=serialized``.
        broken: a status with which it answers everything, and the body.
        asked: every path that was asked for, in order.
    """

    tls: ssl.SSLContext | None = None
    credentials: str | None = None
    serializes: bool = True
    broken: tuple[int, bytes] | None = None
    silent: bool = False  # it takes the request and never answers
    path: str = ""  # its interface is below this
    asked: list[str] = field(default_factory=list)
    by_id: dict[int, Stored] = field(default_factory=dict)
    subjects: dict[str, list[Stored]] = field(default_factory=dict)
    port: int = 0
    _server: ThreadingHTTPServer | None = None
    open_connections: list[socket.socket] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'http' if self.tls is None else 'https'}://localhost:{self.port}{self.path}"

    def register(
        self,
        subject: str,
        text: str,
        kind: str = "AVRO",
        references: Sequence[Mapping[str, Any]] = (),
        serialized: bytes | None = None,
    ) -> int:
        """Register a schema; returns its id. ``serialized``: its descriptor."""
        id = 1 + len(self.by_id)
        encoded = None if serialized is None else base64.b64encode(serialized).decode()
        stored = Stored(
            id, str(uuid.uuid5(uuid.NAMESPACE_URL, f"{subject}{text}")), text, kind, references, encoded
        )
        self.by_id[id] = stored
        self.subjects.setdefault(subject, []).append(stored)
        return id

    def __enter__(self) -> Registry:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Serve."""
        self.port = self.port or free_port()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, body = registry.answer(self.path, self.headers.get("Authorization"))
                if registry.silent:
                    registry.ending.wait(60)
                    return
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: object) -> None: ...

            def get_request(self) -> tuple[socket.socket, Any]:
                connection, address = super().get_request()
                registry.open_connections.append(connection)
                return connection, address

        self.ending.clear()
        self._server = Server(("127.0.0.1", self.port), Handler)
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """An outage: connections are cut and refused; ``start`` ends it."""
        self.ending.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        for connection in self.open_connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.open_connections.clear()
        self._server = None

    def answer(self, target: str, authorization: str | None) -> tuple[int, bytes]:
        """Status and body."""
        self.asked.append(target)
        if self.broken is not None:
            return self.broken
        if self.credentials is not None and authorization != self.credentials:
            return _error(401, 40101, "Unauthorized")
        url = urlsplit(target)
        if not url.path.startswith(self.path + "/"):
            return 404, b"<html>Not Found</html>"
        path, serialized = url.path.removeprefix(self.path), "format=serialized" in url.query
        if path == "/subjects":
            return 200, json.dumps(sorted(self.subjects)).encode()
        if path == "/schemas/types":
            return 200, b'["JSON", "PROTOBUF", "AVRO"]'
        if match := re.fullmatch(r"/schemas/ids/([0-9]+)", path):
            stored = self.by_id.get(int(match[1]))
            return (
                self._schema(stored, serialized)
                if stored
                else _error(404, 40403, f"Schema {match[1]} not found")
            )
        if match := re.fullmatch(r"/schemas/guids/([0-9a-f-]+)", path):
            found = next((each for each in self.by_id.values() if each.guid == match[1]), None)
            return self._schema(found, serialized) if found else _error(404, 40403, "Schema not found")
        if match := re.fullmatch(r"/subjects/([^/]+)/versions/([0-9]+)", path):
            versions = self.subjects.get(unquote(match[1]))
            if versions is None:
                return _error(404, 40401, f"Subject '{unquote(match[1])}' not found.")
            if not 0 < int(match[2]) <= len(versions):
                return _error(404, 40402, f"Version {match[2]} not found.")
            return self._schema(versions[int(match[2]) - 1], serialized)
        return _error(404, 404, "HTTP 404 Not Found")

    def _schema(self, stored: Stored, serialized: bool) -> tuple[int, bytes]:
        given = serialized and self.serializes and stored.serialized is not None
        document: dict[str, Any] = {
            "schema": stored.serialized if given else stored.text,
            "guid": stored.guid,
        }
        if stored.kind != "AVRO":
            document["schemaType"] = stored.kind
        if stored.references:
            document["references"] = list(stored.references)
        return 200, json.dumps(document).encode()


def _error(status: int, code: int, message: str) -> tuple[int, bytes]:
    return status, json.dumps({"error_code": code, "message": message}).encode()


# ------------------------------------------------------------------ a real one
def apicurio_folder() -> Path:
    """The folder of Apicurio's distribution, fetched with Maven when it is not there yet."""
    folder = cache_folder().with_name(f"apicurio-{APICURIO_VERSION}")
    if folder.is_dir():
        return folder
    if shutil.which("mvn") is None:
        raise NoBrokerError("no schema registry for the tests: install a JDK 17+ and Maven")
    folder.parent.mkdir(parents=True, exist_ok=True)
    coordinates = f"io.apicurio:apicurio-registry-app:{APICURIO_VERSION}:tar.gz:all"
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        fetch = subprocess.run(
            [
                *("mvn", "-q", "-B", "dependency:copy", f"-Dartifact={coordinates}"),
                *(f"-DoutputDirectory={scratch}", "-Dmdep.useBaseVersion=true"),
            ],
            capture_output=True,
            text=True,
            timeout=900,
            cwd=scratch,
        )
        archives = list(Path(scratch).glob("*.tar.gz"))
        if fetch.returncode or not archives:
            raise NoBrokerError(f"no schema registry for the tests: Maven said {fetch.stdout.strip()[-500:]}")
        unpacked = Path(scratch) / "unpacked"
        with tarfile.open(archives[0]) as archive:
            archive.extractall(unpacked, filter="data")
        try:
            unpacked.rename(folder)
        except OSError:
            if not folder.is_dir():  # another session was quicker: its folder is as good
                raise
    return folder


class Apicurio:
    """A real registry with its storage in memory; as a context manager it runs until the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """The address of its interface after Confluent's."""
        return f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    def __enter__(self) -> Apicurio:
        (runner,) = apicurio_folder().rglob("*-runner.jar")
        options = [f"-Dquarkus.http.port={self.port}", "-Dquarkus.http.host=127.0.0.1"]
        with (self._folder / "apicurio.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    java(),
                    "-Xmx300m",
                    "-XX:TieredStopAtLevel=1",
                    "-XX:+UseSerialGC",
                    *options,
                    "-jar",
                    str(runner),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env={**os.environ, "HOME": str(self._folder)},
            )
        give_up = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/subjects", timeout=5).close()
                return self
            except (OSError, http.client.HTTPException) as error:
                if self._process.poll() is not None or time.monotonic() > give_up:
                    self.__exit__()
                    said = (self._folder / "apicurio.log").read_text(errors="replace")[-500:]
                    raise NoBrokerError(f"Apicurio was not ready ({error!r}): {said}") from error
                time.sleep(0.2)

    def stop(self) -> None:
        """An outage: connections are made, and nothing answers; ``start`` ends it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def start(self) -> None:
        """See ``stop``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)

    def register(
        self,
        subject: str,
        text: str,
        kind: str = "AVRO",
        references: Sequence[Mapping[str, Any]] = (),
        serialized: bytes | None = None,
    ) -> int:
        """Register a schema; returns its id. It makes nothing of ``serialized``."""
        document = {"schema": text, "schemaType": kind, "references": list(references)}
        request = urllib.request.Request(
            f"{self.url}/subjects/{subject}/versions",
            json.dumps(document).encode(),
            {"Content-Type": "application/vnd.schemaregistry.v1+json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(json.load(answer)["id"])


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of localhost that has signed itself, and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key
