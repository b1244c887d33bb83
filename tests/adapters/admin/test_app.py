"""The routes of the admin port: honest probes, read-only, and safe headers on every answer."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import httpx
import pytest

from daemon.adapters.admin import (
    PAGE,
    create_app,
)
from daemon.adapters.telemetry import Metrics, Status
from tests.adapters.admin.pumps import HOSTILE, PATHS, Client
from tests.adapters.pages.markup import Markup, check_self_contained


def test_probes_of_a_live_process(client: Client) -> None:
    assert [client.get(path).status_code for path in PATHS] == [200] * 7
    assert client.get("/readyz").json() == {"ready": True, "because": []}
    assert client.get("/startupz").json() == {"started": True}


def test_probes_on_the_way_up_and_down() -> None:
    now = 0.0
    status = Status(["pumps"], stall_after=timedelta(seconds=30), clock=lambda: now)
    client = Client(create_app(status, Metrics(["pumps"], ["t"])))

    def codes() -> list[int]:
        return [client.get(path).status_code for path in ("/livez", "/readyz", "/startupz")]

    assert codes() == [200, 503, 503]
    status.beat()
    status.connected = status.joined = True
    assert codes() == [200, 200, 200]
    with status.waiting_for("kafka"):  # the broker is gone for a day
        status.connected = False
        now += 86_400
        assert codes() == [200, 503, 200]
        assert client.get("/livez").json()["waiting_for"] == "kafka"
    status.connected = True
    now += 31  # the loop itself stands still
    assert codes() == [503, 200, 200]
    status.beat()
    status.drain()
    assert codes() == [200, 503, 200]
    assert client.get("/readyz").json()["because"] == ["draining"]


# ------------------------------------------------------------------ read-only and safe
@pytest.mark.parametrize("path", PATHS)
def test_only_reading_is_allowed(client: Client, path: str) -> None:
    head = client.request("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = client.request(method, path)
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_unknown_paths_are_not_found(client: Client) -> None:
    for path in ("/admin", "/api", "/..%2f..%2fetc/passwd", "/api/status/"):
        assert client.get(path, follow_redirects=False).status_code in (404, 307)


@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
def test_every_answer_carries_the_safe_headers(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"


def test_a_hostile_name_never_becomes_markup(client: Client) -> None:
    page = client.get("/").text
    assert page == PAGE  # nothing is put into it
    assert "alert(1)" not in page
    answer = client.get("/api/status")
    assert answer.headers["content-type"] == "application/json"
    assert "<" not in answer.text
    assert answer.json()["episodes"][0]["asset"] == HOSTILE  # the name itself arrives whole


def test_the_page_loads_nothing_from_outside_and_its_policy_fits(client: Client) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    check_self_contained(Markup(answer.text), policy, links=True)
    assert "frame-ancestors 'none'" in policy


def test_metrics_carry_no_asset(client: Client) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "anomalyd_build_info" in answer.text
    assert "pump-0" not in answer.text


def test_json_is_valid_for_a_browser(client: Client) -> None:
    # NaN is not JSON; json.loads would take it, so forbid it here.
    def refuse(text: str) -> float:
        raise AssertionError(text)

    json.loads(client.get("/api/status").text, parse_constant=refuse)


def test_other_sites_may_not_read_what_a_browser_fetches_for_them(client: Client) -> None:
    answer = client.get(
        "/api/status", headers={"origin": "http://evil.example", "sec-fetch-site": "cross-site"}
    )
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert not [name for name in answer.headers if name.startswith("access-control-")]


class Watched(Metrics):
    """Notes in which pass of the event loop it was asked."""

    def __init__(self) -> None:
        super().__init__(["pumps"], ["plant.pumps"])
        self.now = 0
        self.passes: list[int] = []

    def exposition(self) -> bytes:
        self.passes.append(self.now)
        return super().exposition()


async def test_expensive_answers_are_made_one_per_pass_of_the_loop(status: Status) -> None:
    metrics = Watched()
    transport = httpx.ASGITransport(app=create_app(status, metrics))

    async def count() -> None:
        while True:
            metrics.now += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answers = await asyncio.gather(*(client.get("/metrics") for _ in range(50)))
    counting.cancel()
    assert {answer.status_code for answer in answers} == {200}
    assert len(set(metrics.passes)) == 50
