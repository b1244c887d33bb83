"""``adapters.kafka.control_topic``: a message that cannot be written is given up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from daemon.adapters.kafka.control_topic import ControlTopic, feedback_topic, send
from daemon.adapters.kafka.failures import UnreachableError
from daemon.adapters.kafka.settings import KafkaSettings
from daemon.control import Control, Feedback, MaintenanceOrder, RetrainRequest, Verdict
from daemon.errors import BrokerError
from tests.broker import create_topic, free_port
from tests.running import unique

START = datetime(2026, 3, 2, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    "control",
    [
        Feedback("8f2c", Verdict.PLANNED),
        MaintenanceOrder("oil", START, START + timedelta(hours=2)),
        RetrainRequest("pumps"),
    ],
)
async def test_without_a_broker_it_is_given_up(control: Control) -> None:
    where = f"127.0.0.1:{free_port()}"
    with pytest.raises(UnreachableError, match=f"Kafka at {where} cannot be reached"):
        await send(KafkaSettings(where), "out", control)


@pytest.mark.kafka
async def test_without_the_topic_it_is_given_up(kafka_bootstrap: str) -> None:
    prefix = unique("out")
    with pytest.raises(BrokerError, match=rf"topic '{prefix}\.feedback' does not exist"):
        await send(KafkaSettings(kafka_bootstrap), prefix, RetrainRequest("pumps"))


@pytest.mark.kafka
async def test_a_stop_that_cannot_be_used_is_refused_where_it_is_read(kafka_bootstrap: str) -> None:
    prefix, settings = unique("out"), KafkaSettings(kafka_bootstrap)
    await create_topic(kafka_bootstrap, feedback_topic(prefix).name)
    stop = MaintenanceOrder("oil", START, START + timedelta(hours=2))
    for rule in ("FREQ=HOURLY", ""):
        await send(settings, prefix, msgspec.structs.replace(stop, rrule=rule))
    topic = ControlTopic(settings, prefix)
    try:
        received = await topic.refresh()
    finally:
        await topic.stop()
    assert [each.control for each in received] == [stop]
    assert topic.refused == 1
