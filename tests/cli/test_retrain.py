"""``anomalyd retrain``: a request in the feedback topic."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest
import yaml
from aiokafka import AIOKafkaConsumer

from daemon.adapters.kafka import KafkaSettings, group_members
from daemon.control import RetrainRequest, read_control
from tests.broker import create_topic
from tests.running import command, config_for, make_topic, topic_of, unique


@pytest.mark.kafka
def test_a_request_for_a_training_is_written_for_a_stream_that_exists(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    prefix, path = unique("out"), tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config_for(kafka_bootstrap, "in", prefix, ["a"])))
    missing = command("retrain", "-c", path)
    assert missing.returncode == 1
    assert f"{prefix}.feedback" in missing.stderr
    make_topic(kafka_bootstrap, f"{prefix}.feedback")
    wrong = command("retrain", "-c", path, "--stream", "fans")
    assert wrong.returncode == 2
    assert "fans" in wrong.stderr
    done = command("retrain", "-c", path, "--reason", "new impeller")
    assert (done.returncode, done.stdout) == (0, "asked for a training of pumps\n"), done.stderr
    assert done.stderr.startswith("note: no daemon of the group group-")
    assert done.stderr.endswith(f" runs now: the request waits in {prefix}.feedback for the next one\n")
    (record,) = topic_of(kafka_bootstrap, f"{prefix}.feedback")
    assert read_control(record.value) == RetrainRequest("pumps", "new impeller", getpass.getuser())


@pytest.mark.kafka
async def test_the_members_of_a_group_are_counted(kafka_bootstrap: str) -> None:
    group, topic = unique("group"), unique("in")
    settings = KafkaSettings(kafka_bootstrap, group_id=group)
    await create_topic(kafka_bootstrap, topic, 1)
    assert await group_members(settings) == 0
    member = AIOKafkaConsumer(topic, bootstrap_servers=kafka_bootstrap, group_id=group)
    await member.start()
    try:
        assert await group_members(settings) == 1
    finally:
        await member.stop()
    assert await group_members(settings) == 0
