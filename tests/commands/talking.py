"""A daemon on real Kafka with a model of its own, and the commands by which people talk to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.running import Daemon, command, config_for, make_topic, send, unique

SENSORS = ("pressure", "temperature")


class Talking:
    """The daemon, not started yet, and its topics.

    Args:
        bootstrap: of the broker.
        folder: for its files.
        normal: the rows that its model learns.
        arguments: of ``anomalyd run``.
    """

    def __init__(self, bootstrap: str, folder: Path, normal: Sequence[bytes], *arguments: str) -> None:
        self.topic, self.prefix = unique("pumps"), unique("out")
        self._bootstrap = bootstrap
        config = config_for(bootstrap, self.topic, self.prefix, SENSORS)
        self.daemon = Daemon(folder / "run", config, "--model", folder / "bundle", *arguments)
        (folder / "normal.jsonl").write_bytes(b"\n".join(normal) + b"\n")
        options = ("--config", self.daemon.config, "--set", "model.kind=ppca")
        done = command("train", folder / "normal.jsonl", *options, "--out", folder / "bundle")
        assert done.returncode == 0, done.stderr
        make_topic(bootstrap, self.topic)

    def send(self, lines: Sequence[bytes], received: int) -> None:
        """Send readings, and wait until the daemon has so many since its start."""
        send(self._bootstrap, self.topic, lines)
        self.daemon.until(lambda state: sum(state["records"].values()) == received)

    def say(self, *arguments: str, code: int = 0) -> Any:
        """A command with ``--json``: what it prints; or with its exit code, why it failed."""
        done = command(*arguments, "-c", self.daemon.config, "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr
