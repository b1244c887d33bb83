"""``check`` without a broker: the order of its results, and what an impossible connection gives."""

from __future__ import annotations

import pytest

from daemon.commands.check import check
from daemon.config import Settings, load

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
