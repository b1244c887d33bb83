"""``check`` without a broker: the order of its results, and what an impossible connection gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.adapters.kafka import CheckResult
from daemon.commands.check import check, decoders
from daemon.config import Settings, load
from tests.broker import free_port
from tests.registry import Registry

STREAM = {"name": "s", "topics": ["t"], "sensors": ["a"]}


def settings(**kafka: object) -> Settings:
    return load(None, (), {"streams": [STREAM], "kafka": kafka})


async def test_settings_in_order_are_one_result_for_each_question() -> None:
    results = await check(settings(), broker=False)
    assert [(r.what, r.ok) for r in results] == [("configuration", True), ("environment", True)]


async def test_a_connection_that_cannot_be_made_is_not_tried() -> None:
    *_, last = await check(settings(bootstrap_servers="kafka.invalid:9092"), broker=True)
    assert (last.what, last.ok) == ("connection", False)
    assert "unencrypted to kafka.invalid" in last.detail


async def test_each_variable_that_names_no_key_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMALYD_MODLE__SEED", "3")
    failed = [r for r in await check(settings(), broker=False) if not r.ok]
    assert [r.what for r in failed] == ["environment"]
    assert "ANOMALYD_MODLE__SEED" in failed[0].detail


async def test_a_shadow_that_is_short_for_a_slow_stream_is_noted() -> None:
    for period, noted in (("1s", False), ("30m", True)):
        given = {"streams": [STREAM | {"period": period}], "promotion": {"shadow": "6h"}}
        *_, last = await check(load(None, (), given), broker=False)
        assert last.ok
        assert (last.what == "shadow of s") is noted
    assert last.detail == (
        "an asset has 12 windows in promotion.shadow, and 32 are needed: it takes as many times as long as they take"
    )


async def test_the_token_of_the_page_is_looked_at(tmp_path: Path) -> None:
    http = {"control": True, "control_token_file": str(tmp_path / "token")}
    settings = load(None, (), {"streams": [STREAM], "http": http})
    *_, last = await check(settings, broker=False)
    assert (last.what, last.ok) == ("control on the page", False)
    assert "http.control_token_file" in last.detail
    (tmp_path / "token").write_text("0123456789abcdef")
    *_, last = await check(settings, broker=False)
    assert last.ok


AVRO = {"input": {"decode": "avro", "asset": "asset", "time": "ts", "leaves": "."}}


def with_registry(**section: object) -> Settings:
    """Settings of a stream of Avro, with a broker that nobody asks."""
    stream = STREAM | AVRO
    kafka = {"bootstrap_servers": f"localhost:{free_port()}"}
    return load(None, (), {"streams": [stream], "kafka": kafka, "schema_registry": section})


async def test_a_decoder_that_cannot_be_made_is_a_result() -> None:
    *_, last = await check(with_registry(), broker=False)
    assert (last.what, last.ok) == ("decoder of s", False)
    assert last.detail == "decode: avro needs schema_registry.url, or `schema: FILE` with the schema"
    assert all(result.ok for result in await check(with_registry(url="http://localhost:1"), broker=False))
    inner = STREAM | {
        "input": AVRO["input"] | {"decode": "json", "inner": {"path": "payload", "kind": "avro"}}
    }
    for section, fine in (({}, False), ({"url": "http://localhost:1"}, True)):
        settings = load(None, (), {"streams": [inner], "schema_registry": section})
        assert all(result.ok for result in decoders(settings)) is fine


async def test_the_probe_says_whether_the_schema_registry_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> list[CheckResult]:
        return []

    monkeypatch.setattr("daemon.commands.check.probe", nothing)  # of the broker, which is not there
    monkeypatch.setattr("daemon.commands.check.conditions_in_topics", nothing)
    with Registry() as registry:
        registry.register("pumps", '"int"')
        *_, last = await check(with_registry(url=registry.url), broker=True)
        assert last == CheckResult("schema registry", True, f"{registry.url}: 1 subject(s)")
        registry.credentials = "Bearer x"
        *_, last = await check(with_registry(url=registry.url), broker=True)
        assert (last.what, last.ok) == ("schema registry", False)
        assert "wants credentials (401)" in last.detail
    *_, last = await check(with_registry(url="https://localhost:1", ca_file="/absent"), broker=True)
    assert last.detail == "schema_registry.ca_file /absent cannot be read: No such file or directory"
