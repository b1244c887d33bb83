"""Faults on a real Kafka: after each, what was said equals what an undisturbed run says.

``python -m tests.soak`` does more of the same, for as long as one likes.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.broker import Broker, create_topic
from tests.faults import Trial, flowing, kill, trained, troubled_lines
from tests.running import send, topic_of

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

ASSETS = 12


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("bundle"), ASSETS)


@pytest.fixture
def trial(kafka_bootstrap: str, tmp_path: Path, bundle: Path) -> Trial:
    return Trial(tmp_path, kafka_bootstrap, bundle)


def pause(seconds: float) -> None:
    """Let another process get on; where it is hit is up to chance anyway."""
    time.sleep(seconds)


def test_kill_9_at_random_points(trial: Trial) -> None:
    chance = random.Random(5)
    with flowing(trial.bootstrap, trial.topic, troubled_lines(400, ASSETS), 150):
        for _ in range(3):
            with trial.daemon() as daemon:
                daemon.until(lambda s: s["scored"] > 0)
                pause(chance.uniform(0.0, 1.5))
                kill(daemon)
    with trial.daemon() as daemon:
        trial.wait([daemon])
        assert daemon.stop() == 0
    counts = trial.verdict()
    assert min(counts.values()) > 0, counts


def test_processes_come_and_go_under_load(trial: Trial) -> None:
    with ExitStack() as stack:
        with flowing(trial.bootstrap, trial.topic, troubled_lines(500, ASSETS), 150):
            first = stack.enter_context(trial.daemon(name=None))
            first.until(lambda s: s["scored"] > 0)
            second = stack.enter_context(trial.daemon(name=None))
            second.until(lambda s: s["scored"] > 0)
            assert second.stop() == 0
            third = stack.enter_context(trial.daemon(name=None))
            third.until(lambda s: s["scored"] > 0)
            assert first.stop() == 0
        trial.wait([third])
        assert third.stop() == 0
    assert min(trial.verdict().values()) > 0


def test_a_broker_that_crashes_and_one_that_freezes_for_longer_than_a_session(
    own_broker: Broker, tmp_path: Path, bundle: Path
) -> None:
    own_broker.start()
    trial = Trial(tmp_path, own_broker.bootstrap, bundle)
    with trial.daemon() as daemon:
        with flowing(trial.bootstrap, trial.topic, troubled_lines(500, ASSETS), 100):
            daemon.until(lambda s: s["scored"] > 0)
            own_broker.kill()
            own_broker.start()
            pause(3)
            own_broker.freeze()
            pause(50)  # the session is 45 s
            own_broker.thaw()
        trial.wait([daemon])
        assert daemon.stop() == 0
    assert min(trial.verdict().values()) > 0


def test_a_storm_of_poison_and_dead_letters_larger_than_their_topic_takes(trial: Trial) -> None:
    for prefix in (trial.prefix, trial.undisturbed["outputs"]["prefix"]):
        small = {"max.message.bytes": "3000"}
        asyncio.run(create_topic(trial.bootstrap, f"{prefix}.dead-letter", 2, small))
    good = troubled_lines(120, ASSETS)
    storm = [b"{" * (1 + i % 40) for i in range(20_000)] + [b"[" * 400_000] * 20
    send(trial.bootstrap, trial.topic, good[:700])
    with trial.daemon() as daemon:
        daemon.until(lambda s: s["scored"] > 0)
        send(trial.bootstrap, trial.topic, storm)
        daemon.until(lambda s: s["records"].get("rejected", 0) > 2000)
        kill(daemon)
    send(trial.bootstrap, trial.topic, good[700:])
    with trial.daemon() as daemon:
        trial.wait([daemon])
        assert daemon.stop() == 0
    counts = trial.verdict()
    assert counts["dead-letter"] >= len(storm)
    letters = topic_of(trial.bootstrap, f"{trial.prefix}.dead-letter")
    assert max(len(record.value) for record in letters) == 1500
    origins = {(h["origin-partition"], h["origin-offset"]) for h in (dict(r.headers) for r in letters)}
    assert len(origins) == len(letters)
    assert {dict(r.headers)["length"] for r in letters if len(r.value) == 1500} == {b"400000"}


def test_an_output_that_is_refused_stops_the_run_and_loses_nothing(trial: Trial) -> None:
    lines = troubled_lines(300, ASSETS)
    with trial.daemon() as daemon:
        daemon.until(lambda s: s["state"] == "live")
        send(trial.bootstrap, trial.topic, lines[:1000])
        trial.wait([daemon])
        limit(trial.bootstrap, f"{trial.prefix}.alerts", 200)
        send(trial.bootstrap, trial.topic, lines[1000:])
        assert daemon.process is not None
        assert daemon.process.wait(120) == 1
        assert f"too large for topic '{trial.prefix}.alerts', which takes 200" in daemon.tail()
    limit(trial.bootstrap, f"{trial.prefix}.alerts", 1_000_000)
    with trial.daemon() as daemon:
        trial.wait([daemon])
        assert daemon.stop() == 0
    assert min(trial.verdict().values()) > 0


def limit(bootstrap: str, topic: str, size: int) -> None:
    """Change what a topic takes."""

    async def alter() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            config = {"max.message.bytes": str(size)}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])
        finally:
            await admin.close()

    asyncio.run(alter())
