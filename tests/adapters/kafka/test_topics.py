"""Topics, and the probe of what ``run`` needs."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from daemon.adapters.kafka import KafkaSettings, TopicSpec, TopicState, check_topics, ensure_topics, probe
from daemon.errors import BrokerError
from tests.adapters.kafka.setups import Filled, fresh
from tests.broker import Broker, create_topic


@pytest.mark.parametrize(
    ("servers", "message"),
    [
        ("127.0.0.1:1", r"Kafka at 127\.0\.0\.1:1 cannot be reached: .*Connect call failed"),
        ("a:b:c", "bootstrap_servers 'a:b:c' cannot be used"),
    ],
)
async def test_a_probe_reports_why_no_broker_was_reached(servers: str, message: str) -> None:
    (finding,) = await probe(KafkaSettings(servers), ["t"])
    assert not finding.ok
    assert re.search(message, finding.detail), finding.detail
    assert "\n" not in finding.detail


@pytest.mark.kafka
async def test_topics_are_created_once_with_their_settings(kafka_bootstrap: str) -> None:
    settings, first, second = KafkaSettings(kafka_bootstrap), fresh("made"), fresh("made")
    await create_topic(kafka_bootstrap, first, 2)
    wanted = [TopicSpec(first, 7), TopicSpec(second, 3, {"cleanup.policy": "compact"})]
    assert await ensure_topics(settings, wanted) == [TopicState(first, 2), TopicState(second, 3, True)]
    assert await ensure_topics(settings, wanted) == [TopicState(first, 2), TopicState(second, 3)]
    assert await check_topics(settings, [second, first]) == {first: 2, second: 3}


@pytest.mark.kafka
async def test_a_refused_topic_is_an_error_with_the_reason(kafka_bootstrap: str) -> None:
    bad = TopicSpec(fresh("bad"), 1, {"cleanup.policy": "hoard"})
    with pytest.raises(BrokerError, match=f"topic '{bad.name}' could not be created: .*hoard"):
        await ensure_topics(KafkaSettings(kafka_bootstrap), [bad])


@pytest.mark.kafka
async def test_a_probe_lists_what_run_needs(kafka_bootstrap: str, filled: Filled) -> None:
    topic = await filled("probed", partitions=2)
    found = await probe(KafkaSettings(kafka_bootstrap), [topic, "nowhere"], [TopicSpec("missing.alerts")])
    assert [(f.what, f.ok) for f in found] == [
        ("broker", True),
        (f"input topic {topic}", True),
        ("input topic nowhere", False),
        ("topic missing.alerts", False),
        ("group anomalyd", True),
    ]


@pytest.mark.kafka
async def test_a_probe_warns_of_state_that_expires_and_of_producer_timestamps(
    kafka_bootstrap: str,
) -> None:
    settings, topic, state = KafkaSettings(kafka_bootstrap), fresh("probed"), fresh("state")
    await ensure_topics(settings, [TopicSpec(topic, 1, {"message.timestamp.type": "CreateTime"})])
    for policy, sound in (("delete", False), ("compact", True), ("compact,delete", False)):
        spec = TopicSpec(f"{state}.{policy.replace(',', '.')}", 1, {"cleanup.policy": policy})
        await ensure_topics(settings, [spec])
        _, clock, kept, _ = await probe(
            settings, [topic], [TopicSpec(spec.name, 1, {"cleanup.policy": "compact"})]
        )
        assert "LogAppendTime would refuse" in clock.detail
        assert kept.ok is sound
        assert sound or f"its cleanup.policy is {policy}" in kept.detail


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 3])
async def test_a_group_without_a_coordinator_is_not_fine(tmp_path: Path, replicas: int) -> None:
    """One broker cannot keep groups in three replicas; one that is asked for the first time takes a moment."""
    young = Broker(tmp_path / "kafka", properties={"offsets.topic.replication.factor": str(replicas)})
    await asyncio.to_thread(young.start)
    try:
        *_, group = await probe(KafkaSettings(young.bootstrap), [])
    finally:
        await asyncio.to_thread(young.kill)
    assert group.ok is (replicas == 1), group.detail
    assert replicas == 1 or "no broker coordinates it within 10 s" in group.detail
