"""``anomalyd retrain``: a request in the feedback topic."""

from __future__ import annotations

import getpass
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from aiokafka import AIOKafkaConsumer

from daemon.adapters.kafka import KafkaSettings, group_members
from daemon.commands.retrain import says_taken
from daemon.control import Received, RetrainRequest, read_control
from daemon.domain import Record, StreamSpec
from tests.broker import create_topic
from tests.running import Daemon, command, config_for, make_topic, topic_of, unique
from tests.stream.pipelines import PUMPS_0, SPEC, feed, make, numbered, snapshots, wide


def test_the_state_of_a_partition_says_whether_it_has_taken_a_request() -> None:
    pipeline = make()
    for position in (4, 5):
        pipeline.take_control(Received(position, 0, RetrainRequest(SPEC.name)))
    outputs = feed(pipeline, numbered([wide(0, 0.0, 0.0)]))
    assert pipeline.dirty
    assert not outputs  # it changes nothing that is judged
    saved = [Record(0, one.key, one.value or b"", -1) for one in snapshots(pipeline)]

    mine = replace(SPEC, topics=(PUMPS_0.topic,))

    def taken(position: int, spec: StreamSpec = mine) -> bool:
        return any(says_taken(record, spec, position) for record in saved)

    assert taken(4)
    assert taken(5)
    assert not taken(6)
    assert taken(6, replace(mine, window=SPEC.window + 1))  # another configuration's: it runs
    assert not taken(4, replace(SPEC, topics=("others",)))


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


@pytest.mark.kafka
@pytest.mark.slow
def test_a_daemon_that_runs_takes_a_request_without_any_input_and_one_that_has_stopped_does_not(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    topic, prefix = unique("in"), unique("out")
    make_topic(kafka_bootstrap, topic)
    config = config_for(kafka_bootstrap, topic, prefix, ["a"])
    config["kafka"]["instance_id"] = "pod-0"
    with Daemon(tmp_path, config) as daemon:
        daemon.until(lambda state: state["state"] == "learning")
        for _ in range(2):
            done = command("retrain", "-c", daemon.config)
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout == "asked for a training of pumps; a daemon has taken the request\n"
        assert daemon.stop() == 0
    done = command("retrain", "-c", daemon.config, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["taken"] is False
    assert done.stderr.startswith(
        "note: no daemon has taken the request within 10 s. The broker lists 1 of the group"
    )
    assert done.stderr.endswith(f" if none runs, the request waits in {prefix}.feedback for the next one\n")
