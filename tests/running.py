"""The real command in a process of its own: ``command`` to its end, ``Daemon`` beside a test and a real broker.

Also topics, messages and configurations for such tests.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.broker import create_topic, free_port, produce, read_topic
from tests.forking import forked

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Measuring data that is kept outside the project; tests that need it are skipped without it."""

SKAB_SENSORS = (
    "Accelerometer1RMS",
    "Accelerometer2RMS",
    "Current",
    "Pressure",
    "Temperature",
    "Thermocouple",
    "Voltage",
    "Volume Flow RateRMS",
)


def unique(name: str) -> str:
    """A topic, group or prefix that no other test uses."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def lines_of(path: Path) -> list[bytes]:
    """The lines of a JSON Lines file, as bytes."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = raw.split(b"\n")
    return lines[:-1] if lines and not lines[-1] else lines


def key_of(line: bytes) -> bytes | None:
    """The asset of a line, which is the key of its message; None if it has none."""
    try:
        asset = json.loads(line)["asset"]
    except Exception:  # noqa: BLE001 - an undecodable line has no key
        return None
    return str(asset).encode()


def environment(**variables: str) -> dict[str, str]:
    """The environment of a process that runs this tree, with some more variables."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), **variables}


def python(*arguments: str | Path, timeout: float = 600, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments to its end; standard output and error are kept."""
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment()} | more
    return subprocess.run(
        [sys.executable, *map(str, arguments)], text=True, timeout=timeout, check=False, **more
    )


def command(
    *arguments: str | Path,
    timeout: float = 600,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    **more: Any,
) -> subprocess.CompletedProcess[str]:
    """Run ``anomalyd`` to its end. Never in process: it sets up structlog, which later tests would inherit.

    A fork saves the imports; ``more`` than folder and environment makes it a process from scratch.
    """
    env = environment() if env is None else env
    if more:
        return python("-m", "daemon", *arguments, timeout=timeout, cwd=cwd, env=env, **more)
    return forked([str(argument) for argument in arguments], cwd, env, timeout)


class Daemon:
    """``anomalyd run`` as a process; as a context manager, killed at its end."""

    def __init__(self, folder: Path, config: Mapping[str, Any], *arguments: str | Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        document = {**config, "http": {"host": "127.0.0.1", "port": self.port}}
        self.config = folder / "config.yaml"
        self.config.write_text(yaml.safe_dump(document), encoding="utf-8")
        self.log = folder / "log.jsonl"
        self.arguments = [str(a) for a in arguments]
        self.module = "daemon"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Daemon:
        """Start it; returns at once."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, "run", "-c", str(self.config), *self.arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=environment(),
            )
        return self

    def __enter__(self) -> Daemon:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def get(self, path: str) -> tuple[int, bytes]:
        """One request to the admin port; status 0 while there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def stream(self) -> dict[str, Any]:
        """The state of the only stream, from the admin port; empty while it is not open."""
        code, body = self.get("/api/status")
        return json.loads(body)["streams"][0] if code == 200 else {}

    def until(self, what: Callable[[dict[str, Any]], bool], within: float = 180.0) -> dict[str, Any]:
        """Poll the admin port until the state of the stream fulfils a condition."""
        deadline = time.monotonic() + within
        state: dict[str, Any] = {}
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, self.tail()
            state = self.stream()
            if state and what(state):
                return state
            time.sleep(0.1)  # polling another process; nothing depends on how long
        raise AssertionError(f"not so within {within} s; state {state}; {self.tail()}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(timeout=60)

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def events(self) -> list[dict[str, Any]]:
        """The events of its log."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found


def config_for(
    bootstrap: str, topic: str, prefix: str, sensors: Sequence[str], **stream: Any
) -> dict[str, Any]:
    """A configuration for one stream."""
    return {
        "kafka": {"bootstrap_servers": bootstrap, "group_id": unique("group")},
        "streams": [
            {
                "name": "pumps",
                "topics": [topic],
                "sensors": {name: {} for name in sensors},
                "period": "1s",
                **stream,
            }
        ],
        "outputs": {"prefix": prefix, "scores": True},
        "retrain": {"every": None},
    }


def send(bootstrap: str, topic: str, lines: Iterable[bytes]) -> None:
    """Produce lines in order, keyed by asset."""
    asyncio.run(produce(bootstrap, topic, [(key_of(line), line) for line in lines]))


def make_topic(bootstrap: str, name: str, partitions: int = 1) -> None:
    """Create a topic."""
    asyncio.run(create_topic(bootstrap, name, partitions))


def topic_of(bootstrap: str, name: str) -> list[Any]:
    """Every record of a topic."""
    return list(asyncio.run(read_topic(bootstrap, name)))


def messages(bootstrap: str, name: str) -> list[dict[str, Any]]:
    """Every message of a JSON topic."""
    return [json.loads(record.value) for record in topic_of(bootstrap, name)]
