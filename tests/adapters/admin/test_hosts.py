"""Which hosts the admin port answers for: a page that rebinds its own name gets nothing."""

from __future__ import annotations

import re
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from daemon.adapters.admin import (
    Hosts,
)
from tests.adapters.admin.pumps import PATHS, Client

OURS = [
    "localhost", "LOCALHOST", "localhost.", "localhost:9464", "localhost:", "127.0.0.1", "10.0.3.7:9464", "[::1]",
    "[::1]:9464", "[FE80::1]", "[::ffff:10.0.0.1]", "anomalyd.example.org", "Anomalyd.Example.Org.:80",
    "a.fleet.svc", "a.b.fleet.svc",
]  # fmt: skip
NOT_OURS = [
    "", " ", ".", "evil.example", "evil.example:9464", "localhost.evil.example", "evil-localhost", "localhost..",
    "admin@localhost", "localhost@evil.example", "localhost:x", "localhost:123456", "localhost:80:80", "localhost/",
    "localhost,evil.example", "localhost evil.example", "[::1", "::1", "[::1]x", "[fe80::1%eth0]", "[evil.example]",
    "[127.0.0.1]", "127.1", "0x7f000001", "2130706433", "127.0.0.01", "127.0.0.1.evil.example", "1.2.3.4.5",
    "fleet.svc", "evilfleet.svc", ".fleet.svc.evil", "\u212aocalhost", "loc\u00e4lhost", "local\x00host",
]  # fmt: skip


@pytest.mark.parametrize(("host", "expected"), [*((h, True) for h in OURS), *((h, False) for h in NOT_OURS)])
def test_which_hosts_are_ours(host: str, expected: bool) -> None:
    assert Hosts(["anomalyd.example.org", "*.Fleet.svc"]).known(host) is expected


def test_the_name_of_this_machine_is_ours() -> None:
    assert Hosts().known(socket.gethostname())


@given(st.text(), st.text(st.sampled_from("localhst.:@[]%127/ \t"), max_size=20))
def test_a_host_is_ours_only_if_its_name_is(text: str, near: str) -> None:
    for host in (text, near):
        if Hosts().known(host) and not host.startswith("["):
            name = host.lower().split(":")[0].removesuffix(".")
            assert name in ("localhost", socket.gethostname().lower()) or re.fullmatch(r"(\d+\.){3}\d+", name)


@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
def test_a_page_that_rebound_its_name_gets_nothing(client: Client, path: str) -> None:
    for host in ("evil.example", "", "localhost, evil.example"):
        for more in ({}, {"x-forwarded-host": "localhost"}, {"forwarded": "host=localhost"}):
            answer = client.get(path, headers={"host": host, **more})
            assert answer.status_code == 421
            assert "http.allowed_hosts" in answer.text
            assert answer.text.count("\n") == 1
            assert "pump" not in answer.text
            assert "access-control-allow-origin" not in answer.headers
    text = client.get("/metrics").text
    assert f'anomalyd_http_refused_total{{reason="host"}} {3 * 3}.0' in text


def test_a_refused_host_is_logged_once_a_minute_with_the_key(client: Client) -> None:
    with capture_logs() as logs:
        for n in range(20):
            client.get("/", headers={"host": f"evil-{n}.example"})
        client.get("/", headers={"host": "x" * 5_000})
    (entry,) = [entry for entry in logs if entry["event"] == "http_host_refused"]
    assert entry["host"] == "'evil-0.example'"
    assert "http.allowed_hosts" in entry["rule"]
