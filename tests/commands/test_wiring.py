"""From settings to topics."""

from __future__ import annotations

from pathlib import Path

from daemon.adapters.kafka import KafkaSettings, StateTopic
from daemon.adapters.registry import models_topic
from daemon.commands.wiring import own_topics
from daemon.config import load
from daemon.stream import encoding


def test_every_topic_that_is_made_has_a_writer_or_a_reader_and_is_explained() -> None:
    stream = {"name": "s", "topics": ["t"], "sensors": ["a"]}
    settings = load(None, (), {"streams": [stream], "outputs": {"scores": True}})
    written = {encoding.ALERTS, encoding.IMPUTED, encoding.SCORES, encoding.DRIFT, encoding.DEAD_LETTERS}
    used = {f"anomalyd.{name}" for name in written}
    used |= {
        "anomalyd.feedback",
        "anomalyd.retrain",
        models_topic("anomalyd").name,
        StateTopic(KafkaSettings(), "anomalyd").name,
    }
    assert {topic.name for topic in own_topics(settings)} == used
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    for name in used:
        assert f"| `{name}` |" in readme


def test_a_state_message_is_never_larger_than_kafka_allows() -> None:
    stream = {"name": "s", "topics": ["t"], "sensors": [f"s{i}" for i in range(200)]}
    stream |= {"period": "1ms", "allowed_lateness": "1000s"}
    topics = {topic.name: topic.config for topic in own_topics(load(None, (), {"streams": [stream]}))}
    assert topics["anomalyd.state"]["max.message.bytes"] == str(2**31 - 1)
