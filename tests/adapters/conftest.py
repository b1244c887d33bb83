"""What the tests of several adapters share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from daemon.adapters import kafka
from tests.browser import Page, browser


@pytest.fixture
def consumers(monkeypatch: pytest.MonkeyPatch) -> list[AIOKafkaConsumer]:
    """Every consumer that a source or a follower has made, in order."""
    made: list[AIOKafkaConsumer] = []

    class Recorded(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
        def __init__(self, *topics: str, **arguments: Any) -> None:
            super().__init__(*topics, **arguments)
            made.append(self)

    for module in (kafka.group_consumer, kafka.following):
        monkeypatch.setattr(module, "AIOKafkaConsumer", Recorded)
    return made


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """One headless browser for the tests of a module."""
    with browser() as page:
        yield page
