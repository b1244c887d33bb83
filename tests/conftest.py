"""What every test may ask for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the tests' own modules: tests.broker

from tests.broker import Broker, NoBrokerError, java

# What decides whether a change lands is the change: CI draws the same examples every time, and
# a slow machine fails nothing. At the desk new ones are drawn, to find what nobody thought of.
hypothesis.settings.register_profile("desk", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "desk")


def without_broker(reason: str) -> None:
    """Skip with the reason, or fail with it where a broker is required (CI)."""
    if os.environ.get("ANOMALYD_REQUIRE_KAFKA") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one real Apache Kafka for the whole session.

    Use a topic and group name of your own in every test; to kill a broker, take ``own_broker``.
    """
    if given := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield given
        return
    try:
        broker = Broker(tmp_path_factory.mktemp("kafka"))
        broker.start()
    except NoBrokerError as error:
        without_broker(str(error))
        raise
    try:
        yield broker.bootstrap
    finally:
        broker.stop()


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of this test's own, not started yet, to be killed and frozen at will."""
    try:
        java()
        broker = Broker(tmp_path / "kafka")
    except NoBrokerError as error:
        without_broker(str(error))
        raise
    try:
        yield broker
    finally:
        broker.kill()
