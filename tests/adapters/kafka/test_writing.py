"""Messages written at least once, against a real Apache Kafka."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.kafka import KafkaSettings, KafkaSink, Message, stored_size
from daemon.domain import ScoredRow
from daemon.errors import BrokerError
from tests.adapters.kafka.setups import ENCODE, letter
from tests.broker import create_topic, read_topic


@given(
    st.binary(max_size=300) | st.none(),
    st.binary(max_size=3000),
    st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=50)), max_size=5),
)
def test_a_message_is_never_larger_than_estimated(key: Any, value: bytes, headers: Any) -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 10_000_000)
    builder.append(0, timestamp=None, key=key, value=value, headers=headers)
    real = len(builder.build())
    assert real <= stored_size(Message("t", key, value, headers)) <= real + 60 + 12 * len(headers)


async def test_a_sink_without_a_broker_waits_until_it_is_closed() -> None:
    sink = KafkaSink(KafkaSettings("127.0.0.1:1"), "none", ENCODE)
    publishing = asyncio.create_task(sink.publish([letter(b"x")]))
    done, _ = await asyncio.wait({publishing}, timeout=0.05)
    assert not done
    sink.close()
    with pytest.raises(BrokerError, match="stopped while Kafka"):
        await publishing
    await sink.stop()


@pytest.mark.kafka
async def test_published_messages_are_in_order_by_key(
    kafka_bootstrap: str, sink: tuple[KafkaSink, str]
) -> None:
    out, topic = sink
    await create_topic(kafka_bootstrap, topic, 3)
    letters = [letter(b"\xff%d" % i, b"k%d" % (i % 5)) for i in range(3000)]
    await out.publish(letters)
    await out.publish([])
    await out.publish([letter(b"the last", b"k0")])
    found = await read_topic(kafka_bootstrap, topic)
    for key in {record.key for record in found}:
        mine = [record for record in found if record.key == key]
        assert len({record.partition for record in mine}) == 1
        expected = [each.rejected.record.value for each in letters if each.rejected.record.key == key]
        assert [record.value for record in mine] == expected + ([b"the last"] if key == b"k0" else [])
    assert dict(found[0].headers)["reason"] == b"not_json"


@pytest.mark.kafka
async def test_a_message_too_large_for_its_topic_is_refused_before_anything_is_sent(
    kafka_bootstrap: str, sink: tuple[KafkaSink, str]
) -> None:
    out, letters = sink
    topic = letters.replace("dead-letter", "scores")
    await create_topic(kafka_bootstrap, topic, 1, {"max.message.bytes": "2000"})
    small, large = (ScoredRow("pumps", "a" * n, 0, 1.0, 0, 0, 0, 0, True, "m1") for n in (300, 1500))
    with pytest.raises(BrokerError, match=rf"message of 3\d\d\d bytes is too large for topic '{topic}'"):
        await out.publish([small, large])
    assert await read_topic(kafka_bootstrap, topic) == []
    # Many small ones do not make one batch that is too large.
    await out.publish([small] * 100)
    assert len(await read_topic(kafka_bootstrap, topic)) == 100


@pytest.mark.kafka
async def test_a_dead_letter_is_cut_to_the_limit_of_its_topic(
    kafka_bootstrap: str, sink: tuple[KafkaSink, str]
) -> None:
    out, topic = sink
    await create_topic(kafka_bootstrap, topic, 1, {"max.message.bytes": "2000"})
    await out.publish([letter(b"small"), letter(b"x" * 3000), letter(b"y", b"k" * 3000)])
    small, cut, long_key = await read_topic(kafka_bootstrap, topic)
    assert small.value == b"small"
    assert cut.value == b"x" * 1000
    headers = dict(cut.headers)
    assert headers["length"] == b"3000"
    assert headers["sha256"] == hashlib.sha256(b"x" * 3000).hexdigest().encode()
    assert dict(long_key.headers)["key-length"] == b"3000"


@pytest.mark.kafka
async def test_a_missing_output_topic_is_named_at_once(sink: tuple[KafkaSink, str]) -> None:
    out, topic = sink
    async with asyncio.timeout(20):
        with pytest.raises(BrokerError, match=f"topic '{topic}' does not exist"):
            await out.publish([letter(b"x")])


@pytest.mark.kafka
async def test_a_refused_send_is_an_error_and_the_next_one_works(
    kafka_bootstrap: str, sink: tuple[KafkaSink, str]
) -> None:
    out, topic = sink
    await create_topic(kafka_bootstrap, topic, 1, {"cleanup.policy": "compact"})
    with pytest.raises(BrokerError, match=f"topic '{topic}' refused a message"):
        await out.publish([letter(b"x", None)])  # compacted: a key is needed
    await out.publish([letter(b"y", b"key")])
    assert [record.value for record in await read_topic(kafka_bootstrap, topic)] == [b"y"]
