from uuid import uuid4

import pytest

from tests.broker import create_topic, produce, read_topic

pytestmark = pytest.mark.kafka


async def test_a_topic_is_read_back_whole(kafka_bootstrap: str) -> None:
    topic = f"whole-{uuid4().hex[:8]}"
    await create_topic(kafka_bootstrap, topic, 2)
    await produce(kafka_bootstrap, topic, [(b"%d" % i, b"%d" % i) for i in range(100)])
    assert sorted(int(r.value) for r in await read_topic(kafka_bootstrap, topic)) == list(range(100))
