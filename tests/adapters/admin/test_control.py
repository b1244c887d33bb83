"""What people tell the daemon on the page: only they, only where it is allowed, and nothing that comes breaks the port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.adapters.admin import MOST_BODY, Control, control, create_app, serve, server
from daemon.adapters.telemetry import Metrics, Status
from daemon.commands.desk import ControlDesk
from daemon.control import Control as Message
from daemon.control import Feedback, MaintenanceOrder, Received, RetrainRequest, Verdict, read_control
from daemon.errors import BrokerError
from tests.adapters.admin.desk import TOKEN, Told
from tests.adapters.admin.pumps import HOSTILE, PATHS, Client, pumps, scored

FEEDBACK, PLAN, END, RETRAIN = control.PATHS
OURS = {"origin": "http://localhost", "content-type": "application/json", "sec-fetch-site": "same-origin"}
ODD = " hall 2, press 3"
SAID = {"fingerprint": "a", "verdict": "confirmed", "by": "kim"}


def client_of(status: Status, allowed: Control | None) -> tuple[Client, Metrics]:
    metrics = Metrics(["pumps"], ["plant.pumps"])
    return Client(create_app(status, metrics, ["plant.example"], allowed)), metrics


def tell(client: Client, path: str, said: object, **headers: str | None) -> httpx.Response:
    """A request as the page makes it, with some headers changed or left out (None)."""
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name: value for name, value in {**OURS, **changed}.items() if value is not None}
    content = said if isinstance(said, bytes) else json.dumps(said).encode()
    return client.request("POST", path, headers=sent, content=content)


def errors(answer: httpx.Response) -> str:
    (text,) = [answer.json()["error"]]
    assert "\n" not in text
    return str(text)


# ------------------------------------------------------------------ what is told
def test_what_is_told_lies_in_the_topic_as_the_commands_write_it(status: Status) -> None:
    told = Told(status)
    client, _ = client_of(status, told.allowed)
    assert client.get("/api/status").json()["control"] == {"token": False}
    answer = tell(client, FEEDBACK, {**SAID, "verdict": "false_alarm", "note": HOSTILE})
    assert (answer.status_code, list(answer.json())) == (200, ["told"])
    assert answer.json()["told"].startswith("the alert closes, and its like on")
    assert tell(client, FEEDBACK, {**SAID, "fingerprint": "b"}).status_code == 200  # one that is over
    stop = {"assets": ["pump-02", "pump-01"], "lasts": "2h", "reason": "bearings", "by": "ada"}
    planned = tell(client, PLAN, stop)
    assert planned.json()["told"].split(": ")[1].startswith("nothing opens on pump-01, pump-02 until ")
    assert tell(client, PLAN, {"everything": True, "lasts": "30m", "by": "ada"}).status_code == 200
    trained = tell(client, RETRAIN, {"retrain": "pumps", "reason": "new impeller", "by": "ada"})
    assert trained.json()["told"].startswith("a training of pumps is due")
    controls = asyncio.run(told.controls())
    alarm, confirmed, order, every, training = controls
    assert alarm == Feedback("a", Verdict.FALSE_ALARM, "kim", HOSTILE)
    assert confirmed == Feedback("b", Verdict.CONFIRMED, "kim")
    assert training == RetrainRequest("pumps", "new impeller", "ada")
    assert isinstance(order, MaintenanceOrder)
    assert isinstance(every, MaintenanceOrder)
    assert (order.assets, order.reason, order.by) == (("pump-01", "pump-02"), "bearings", "ada")
    assert (order.end - order.start).total_seconds() == 7_200
    assert every.assets == ()
    ended = tell(client, END, {"name": order.maintenance, "by": "kim"})
    assert ended.json()["told"] == f"{order.maintenance} has ended"
    end = asyncio.run(told.controls())[-1]
    assert isinstance(end, MaintenanceOrder)
    assert (end.maintenance, end.by, end.reason) == (order.maintenance, "kim", "bearings")
    assert end.end < order.end


@pytest.mark.parametrize(
    ("path", "said", "code", "why"),
    [
        (FEEDBACK, {**SAID, "fingerprint": "c"}, 409, "no alert c is shown here any more"),
        (FEEDBACK, {**SAID, "verdict": "wrong"}, 400, "wrong"),
        (FEEDBACK, {**SAID, "note": "x" * 1_001}, 400, "note has 1001 characters"),
        (FEEDBACK, {**SAID, "by": " "}, 400, "by is empty"),
        (FEEDBACK, {**SAID, "by": "x" * 101}, 400, "by has 101 characters"),
        (FEEDBACK, {**SAID, "note": "\ud800"}, 400, ""),
        (FEEDBACK, {"fingerprint": "a", "verdict": "planned"}, 400, "by is empty"),
        (FEEDBACK, {**SAID, "also": 1}, 400, "unknown field"),
        (FEEDBACK, [], 400, "Expected `object`"),
        (FEEDBACK, b"", 400, "Input data was truncated"),
        (FEEDBACK, b"{", 400, "Input data was truncated"),
        (FEEDBACK, b"[" * 8_000, 400, ""),
        (FEEDBACK, b"\xff", 400, ""),
        (FEEDBACK, b"x" * (MOST_BODY + 1), 413, ""),
        (PLAN, {"lasts": "2h", "by": "ada"}, 400, "name the assets"),
        (PLAN, {"lasts": "2h", "by": "ada", "assets": [""]}, 400, "an asset has no name"),
        (PLAN, {"lasts": "2h", "by": "ada", "assets": ["pump-01", " , "]}, 400, "an asset has no name"),
        (PLAN, {"lasts": "2h", "by": "ada", "assets": ["a"], "stream": "fans"}, 409, "no stream 'fans'"),
        (PLAN, {"lasts": "2h", "by": "ada", "everything": True, "assets": ["a"]}, 400, "name the assets"),
        (PLAN, {"lasts": "2", "by": "ada", "assets": ["a"]}, 400, "is not a duration"),
        (PLAN, {"lasts": "0s", "by": "ada", "assets": ["a"]}, 400, "longer than nothing"),
        (
            PLAN,
            {"lasts": "2h", "by": "ada", "assets": ["a" * 999 + c for c in "1234567"], "reason": "x" * 980},
            400,
            "8192",
        ),
        (END, {"name": "nothing", "by": "ada"}, 409, "no maintenance 'nothing' was told; there is none"),
        (RETRAIN, {"retrain": "fans", "by": "ada"}, 409, "no stream 'fans'"),
        (RETRAIN, {"retrain": "pumps", "by": "ada", "reason": "x" * 1_001}, 400, "reason has 1001"),
    ],
)
def test_what_cannot_be_told_is_one_clear_line_and_no_message(
    status: Status, path: str, said: object, code: int, why: str
) -> None:
    told = Told(status)
    client, _ = client_of(status, told.allowed)
    answer = tell(client, path, said)
    assert answer.status_code == code
    assert why in (answer.text if code == 413 else errors(answer))
    assert told.messages == []


@pytest.mark.parametrize(
    ("typed", "assets", "note"),
    [
        ("pump-01, pump-02", ("pump-01", "pump-02"), ""),
        (" pump-02 ,pump-01,", ("pump-01", "pump-02"), ""),
        ("pump-01,pump-01", ("pump-01",), ""),
        ("pump-01, pump-9,pump-8", ("pump-01", "pump-8", "pump-9"), ". Not seen here so far: pump-8, pump-9"),
        (ODD, (ODD,), ""),  # the name of one that is seen here is taken as it is
    ],
)
def test_a_stop_is_of_the_assets_that_were_meant(
    status: Status, typed: str, assets: tuple[str, ...], note: str
) -> None:
    scored(status, "pump-01", [0.1])
    status.streams["pumps"].knows = lambda asset: asset == ODD
    told = Told(status)
    client, _ = client_of(status, told.allowed)
    said = {"assets": [typed], "stream": "pumps", "lasts": "2h", "by": "ada"}
    answer = tell(client, PLAN, said).json()["told"]
    assert f": nothing opens on {', '.join(assets)} until " in answer
    assert answer.partition(" UTC")[2] == note
    (order,) = asyncio.run(told.controls())
    assert isinstance(order, MaintenanceOrder)
    assert (order.assets, order.stream) == (assets, "pumps")


def test_a_stop_of_one_stream_is_said_as_such_where_there_are_several() -> None:
    status = Status(["pumps", "fans"])
    status.streams["fans"].knows = lambda asset: asset == "a"
    told = Told(status)
    client, _ = client_of(status, told.allowed)

    def answer(**more: str) -> str:
        said = {"assets": ["a"], "lasts": "2h", "by": "ada", **more}
        return str(tell(client, PLAN, said).json()["told"])

    assert ": nothing opens on a of fans until " in answer(stream="fans")
    assert answer(stream="pumps").endswith(" UTC. Not seen here so far: a")
    assert ": nothing opens on a until " in answer()
    names = [f"pump-{n:02d}" for n in range(40)]
    many = tell(client, PLAN, {"assets": names, "lasts": "2h", "by": "ada"}).json()["told"]
    assert "on pump-00, pump-01, pump-02, pump-03, pump-04 and 35 more until " in many
    assert many.endswith("so far: pump-00, pump-01, pump-02, pump-03, pump-04 and 35 more")


def test_stops_that_are_planned_at_once_do_not_replace_each_other(status: Status) -> None:
    told = Told(status)
    client, _ = client_of(status, told.allowed)
    for assets, lasts in ((["pump-01"], "8h"), (["pump-01"], "30m"), (["all"], "1h")):
        assert tell(client, PLAN, {"assets": assets, "lasts": lasts, "by": "ada"}).status_code == 200
    assert tell(client, PLAN, {"everything": True, "lasts": "1h", "by": "ada"}).status_code == 200
    orders = asyncio.run(told.controls())
    assert len({order.maintenance for order in orders if isinstance(order, MaintenanceOrder)}) == 4


# ------------------------------------------------------------------ who may tell it
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 200),
        ({"content_type": "application/json; charset=utf-8"}, 200),
        ({"sec_fetch_site": None}, 200),  # an address without TLS: browsers leave it out
        ({"host": "plant.example:9464", "origin": "http://plant.example:9464"}, 200),
        ({"host": "10.0.0.1:9464", "origin": "http://10.0.0.1:9464"}, 200),
        ({"host": "plant.example", "origin": "https://plant.example"}, 200),  # behind a proxy with TLS
        # forged by the page of another site
        ({"origin": "http://evil.example", "sec_fetch_site": "cross-site"}, 403),
        ({"origin": "http://evil.example", "sec_fetch_site": None}, 403),
        ({"origin": "http://localhost:3000"}, 403),  # another server on this machine
        ({"origin": "http://localhost.evil.example"}, 403),
        ({"origin": "http://evil.example#localhost"}, 403),
        ({"origin": "http://localhost@evil.example"}, 403),
        ({"origin": "http://evil.example@localhost"}, 403),
        ({"origin": "http://localhost/"}, 403),
        ({"origin": "file://localhost"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": None}, 403),
        ({"origin": "http://localhost, http://evil.example"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "none"}, 403),
        # a name that another site has made lead here
        ({"host": "evil.example", "origin": "http://evil.example"}, 421),
        ({"host": "evil.example"}, 421),
        # what a form can send
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_type": None}, 415),
    ],
)
def test_only_the_page_itself_may_tell_it(
    status: Status, headers: Mapping[str, str | None], code: int
) -> None:
    told = Told(status)
    client, metrics = client_of(status, told.allowed)
    answer = tell(client, FEEDBACK, SAID, **headers)
    assert answer.status_code == code, answer.text
    assert len(told.messages) == (code == 200)
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    forged = 'anomalyd_http_refused_total{reason="forged"} 1.0' in metrics.exposition().decode()
    assert forged == (code == 403)


@pytest.mark.parametrize("path", control.PATHS)
def test_there_is_one_method_and_no_preflight(status: Status, path: str) -> None:
    client, _ = client_of(status, Told(status).allowed)
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = client.request(method, path, headers={"origin": "http://evil.example"})
        assert answer.status_code == 405
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_where_it_is_not_allowed_there_is_nothing_and_a_body_is_refused_as_ever(client: Client) -> None:
    for path in control.PATHS:
        assert tell(client, path, SAID).status_code == 413
        assert client.request("POST", path, headers={"origin": "http://localhost"}).status_code == 404
    assert client.get("/api/status").json()["control"] is None


def test_where_it_is_allowed_all_else_is_as_read_only_as_ever(status: Status) -> None:
    client, _ = client_of(status, Told(status).allowed)
    for path in PATHS:
        assert tell(client, path, SAID).status_code == 413
        assert client.request("POST", path).status_code == 405
    assert client.request("PUT", FEEDBACK, headers=OURS, content=b"{}").status_code == 413


@pytest.mark.parametrize(
    "given",
    [
        None, "", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x",
        f"Bearer {TOKEN.upper()}", "Bearer \xff\xfe",
    ],
)  # fmt: skip
def test_without_the_token_nothing_is_told(status: Status, given: str | None) -> None:
    told = Told(status, token=True)
    client, metrics = client_of(status, told.allowed)
    assert client.get("/api/status").json()["control"] == {"token": True}
    answer = tell(client, FEEDBACK, SAID, authorization=None if given is None else given.encode("latin-1"))  # type: ignore[arg-type]
    assert answer.status_code == 403
    assert answer.json() == {"error": "the token is missing or wrong", "token": True}
    assert TOKEN not in answer.text
    assert 'anomalyd_http_refused_total{reason="token"} 1.0' in metrics.exposition().decode()
    assert tell(client, FEEDBACK, SAID, authorization=f"bearer {TOKEN}").status_code == 200
    assert len(told.messages) == 1


def test_more_than_people_click_is_refused_and_what_is_forged_takes_nobody_s_turn(status: Status) -> None:
    told = Told(status)
    client, _ = client_of(status, told.allowed)
    for _ in range(2 * control.MOST_A_MINUTE):
        assert tell(client, FEEDBACK, SAID, origin="http://evil.example").status_code == 403
    codes = [tell(client, FEEDBACK, SAID).status_code for _ in range(control.MOST_A_MINUTE + 5)]
    assert codes == [200] * control.MOST_A_MINUTE + [429] * 5


# ------------------------------------------------------------------ the broker
@dataclass
class AwayTopic:
    """A topic that cannot be written: at once, or never."""

    error: Exception | None
    received: Sequence[Received] = ()

    async def send(self, _: Message) -> None:
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()


@pytest.mark.parametrize("error", [BrokerError("Kafka at k:9092 does not answer"), OSError("no route")])
def test_nothing_is_acknowledged_that_the_broker_does_not_have(status: Status, error: Exception) -> None:
    client, _ = client_of(status, Control(ControlDesk(status, AwayTopic(error))))  # type: ignore[arg-type]
    answer = tell(client, FEEDBACK, SAID)
    assert (answer.status_code, errors(answer)) == (503, str(error))


def test_a_broker_that_takes_too_long_is_said_before_the_connection_ends(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "TELL_S", 0.01)
    client, _ = client_of(status, Control(ControlDesk(status, AwayTopic(None))))  # type: ignore[arg-type]
    answer = tell(client, FEEDBACK, SAID)
    assert answer.status_code == 503
    assert "it may have been written all the same" in errors(answer)


# ------------------------------------------------------------------ whatever comes
@asynccontextmanager
async def served(status: Status, told: Told) -> AsyncIterator[int]:
    app = create_app(status, Metrics(["pumps"], ["plant.pumps"]), (), told.allowed)
    bound = serve(app, "127.0.0.1", 0, most_body=MOST_BODY)
    task = asyncio.create_task(bound.run())
    try:
        async with asyncio.timeout(60):
            yield bound.port
    finally:
        task.cancel()
        await asyncio.wait({task})


def head(port: int, length: int | None, *more: str) -> bytes:
    lines = [f"POST {FEEDBACK} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Origin: http://127.0.0.1:{port}"]
    lines += ["Content-Type: application/json", "Connection: close", *more]
    lines += [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


async def sent(port: int, *parts: bytes) -> tuple[int, bytes]:
    """The answer to a request that comes in parts, each behind the one before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        for _ in range(5):  # the server, on this very loop, reads it before the next one
            await asyncio.sleep(0)
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1]), answer


async def test_a_request_in_pieces_arrives_whole(status: Status) -> None:
    told = Told(status)
    body = json.dumps(SAID).encode()
    async with served(status, told) as port:
        pieces = [head(port, len(body))[:40], head(port, len(body))[40:], body[:3], body[3:-1], body[-1:]]
        assert (await sent(port, *pieces))[0] == 200
        assert (await sent(port, head(port, len(body)) + body))[0] == 200
        assert (await sent(port, head(port, len(body)) + body[:5], body[5:]))[0] == 200
        assert (await sent(port, head(port, len(body), "Expect: 100-continue"), body))[1].count(
            b"HTTP/1.1"
        ) == 2
    assert [read_control(each) for each in told.messages] == [Feedback("a", Verdict.CONFIRMED, "kim")] * 4


async def test_a_body_that_is_too_long_slow_or_of_no_length_is_refused(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "BODY_S", 0.1)
    told = Told(status)
    async with served(status, told) as port:
        assert (await sent(port, head(port, MOST_BODY + 1), b"x"))[0] == 413
        assert (await sent(port, head(port, 10**15), b"x"))[0] == 413
        assert (await sent(port, head(port, None, "Transfer-Encoding: chunked"), b"2\r\n{}\r\n0\r\n\r\n"))[
            0
        ] == 413
        both = head(port, 2, "Transfer-Encoding: chunked")
        assert (await sent(port, both, b"{}"))[0] in (
            400,
            413,
        )  # two lengths: of which request is what follows?
        assert (await sent(port, head(port, 2, "Content-Length: 3"), b"{}"))[0] == 400
        assert (await sent(port, head(port, 2, f"Origin: http://127.0.0.1:{port}"), b"{}"))[0] == 403
        assert (await sent(port, head(port, 100), b"{"))[0] == 408  # and not a byte more
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head(port, MOST_BODY))
        answer = asyncio.ensure_future(reader.readline())
        while not (await asyncio.wait({answer}, timeout=0.01))[0]:
            writer.write(b" ")  # a byte now and then
        assert b" 408 " in answer.result()
        writer.close()
        assert (await sent(port, head(port, None)))[0] == 400
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head(port, 100) + b"{")
        writer.close()  # it goes away in the middle
        await reader.read()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert (await client.get("/livez")).status_code == 200
    assert told.messages == []


async def test_no_bytes_break_the_port(
    status: Status, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control, "BODY_S", 0.05)
    monkeypatch.setattr(server, "REQUEST_S", 0.2)
    rng, told, body = random.Random(0), Told(status), json.dumps(SAID).encode()

    def damaged(request: bytes) -> bytes:
        found = bytearray(request)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(found))
            match rng.randrange(4):
                case 0:
                    found[at] = rng.randrange(256)
                case 1:
                    del found[at : at + rng.randrange(1, 20)]
                case 2:
                    found[at:at] = rng.randbytes(rng.randrange(1, 20))
                case _:
                    found[at:at] = found[: rng.randrange(len(found))]
        return bytes(found)

    async with served(status, told) as port:

        async def ask(request: bytes) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()

        for _ in range(8):
            await asyncio.gather(*(ask(damaged(head(port, len(body)) + body)) for _ in range(40)))
        assert (await sent(port, head(port, len(body)) + body))[0] in (200, 429)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    for message in told.messages:
        read_control(message)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    ["fingerprint", "verdict", "note", "by", "assets", "lasts", "everything", "reason", "name", "retrain"]
)
words = st.sampled_from(["a", "b", "pumps", "confirmed", "planned", "2h", "9999d", HOSTILE]) | json_values
bodies = st.binary(max_size=60) | st.dictionaries(names, words, max_size=6).map(
    lambda value: json.dumps(value).encode()
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(control.PATHS), bodies), min_size=1, max_size=10))
def test_nothing_that_comes_breaks_the_port_and_each_message_can_be_read(
    requests: list[tuple[str, bytes]],
) -> None:
    status = pumps()
    told = Told(status)
    client, _ = client_of(status, told.allowed)
    codes = [tell(client, path, body).status_code for path, body in requests]
    assert set(codes) <= {200, 400, 409}
    assert len(told.messages) >= codes.count(200)  # an end of a stop may be two
    for message in told.messages:
        read_control(message)
    asyncio.run(told.topic.poll())
    status.people.received(told.topic.received, anew=True)
    assert client.get("/api/status").status_code == 200


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from(
            ["host", "origin", "sec-fetch-site", "content-type", "authorization", "content-length"]
        ),
        st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)
        | st.sampled_from(["localhost", "http://localhost", "application/json", "10", "same-origin"]),
    )
)
def test_whatever_headers_a_request_has_it_gets_an_answer(headers: dict[str, str]) -> None:
    told = Told(pumps(), token=True)
    client, _ = client_of(pumps(), told.allowed)
    sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    answer = client.request("POST", FEEDBACK, headers=sent, content=b"{}")
    assert 400 <= answer.status_code < 500
    assert told.messages == []
