"""The admin port beside the loop: whether people may tell the daemon something, and with which token."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.adapters.telemetry import Metrics, Reporter
from daemon.config import HttpSection
from daemon.errors import ConfigError
from daemon.runtime.admin_port import admin_port, control_of, control_token
from tests.adapters.admin.desk import TOKEN, Told
from tests.adapters.admin.pumps import pumps
from tests.running import command


def test_it_is_not_allowed_unless_said(tmp_path: Path) -> None:
    desk = Told(pumps()).desk
    assert control_of(HttpSection(), desk) is None
    assert control_of(HttpSection(host="0.0.0.0"), desk) is None
    assert control_of(HttpSection(control=True), None) is None
    allowed = control_of(HttpSection(control=True), desk)
    assert allowed is not None
    assert allowed.token is None
    (tmp_path / "token").write_text(TOKEN + "\n")
    guarded = control_of(HttpSection(control=True, control_token_file=tmp_path / "token"), desk)
    assert guarded is not None
    assert guarded.token is not None
    assert guarded.token() == TOKEN
    (tmp_path / "token").write_text("another-token-0123456789")  # it may be replaced while the daemon runs
    assert guarded.token() == "another-token-0123456789"


@pytest.mark.parametrize(
    "content", ["", "short", "x" * 15, "x" * 1_001, "0123456789 abcdef0123", "ä" * 20, "a\nb" * 9]
)
def test_a_file_that_holds_no_token_is_an_error_that_does_not_show_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(ConfigError, match="holds no token: one line of at least 16") as raised:
        control_token(path)
    assert not content or content not in str(raised.value)


async def test_the_port_is_not_opened_without_the_token_that_it_is_to_ask_for(tmp_path: Path) -> None:
    http = HttpSection(port=0, control=True, control_token_file=tmp_path / "token")
    status = pumps()
    with pytest.raises(ConfigError, match=r"http\.control_token_file .* cannot be read"):
        async with admin_port(http, Reporter(Metrics(["pumps"], ["t"]), status), Told(status).desk):
            pass


def test_the_daemon_does_not_start_without_the_token_that_it_needs(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "streams: [{name: s, topics: [t], sensors: [a]}]\nhttp: {host: 0.0.0.0, port: 0, control: true}\n"
    )
    done = command("run", "-c", config)
    assert done.returncode == 2
    assert "http: control on 0.0.0.0" in done.stderr
    assert "needs control_token_file" in done.stderr
