"""``demo``: the port of its admin page."""

from __future__ import annotations

import socket

import pytest

from tests.running import command


@pytest.mark.parametrize("more", [[], ["--set", "retrain.every=null"]])
def test_a_demo_opens_the_port_that_is_given(more: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command("demo", "--port", str(port), *more)
    assert done.returncode == 1
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("anomalyd: ")]
    assert f"http.port {port} on 127.0.0.1 is taken" in line
