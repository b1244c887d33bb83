"""The limit: what aiokafka and msgspec cost with nothing behind them; and a peer in their place.

``python -m tests.bench.limit HOW BOOTSTRAP TOPIC RECORDS SENSOR...`` is a process of its own that
consumes a topic from its start, handles each record, and prints {"records", "cpu_s", "wall_s"}.
The first tenth is warm-up and not counted. HOW is

- ``limit``: decode into a struct with one typed field per sensor, drop it;
- ``river``: what a user would write first: ``json``, a dict, one river model that scores the row
  and learns from it. One for the fleet, though one per asset would be the like of ours: this is
  the cheaper.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

Handle = Callable[[bytes], object]


def typed(sensors: Sequence[str]) -> Handle:
    """The cheapest way to all values of a record."""
    values = msgspec.defstruct("Values", [(name, float | None, None) for name in sensors])
    record = msgspec.defstruct("Line", [("asset", str), ("ts", str), ("values", values)])
    return msgspec.json.Decoder(record).decode


def river(sensors: Sequence[str]) -> Handle:
    """HalfSpaceTrees behind the scaler that its manual puts before it."""
    from river import anomaly, compose, preprocessing

    model = compose.Pipeline(preprocessing.MinMaxScaler(), anomaly.HalfSpaceTrees(seed=0))

    def handle(line: bytes) -> float:
        values = json.loads(line)["values"]
        row = {name: values[name] for name in sensors if values.get(name) is not None}
        score = model.score_one(row)
        model.learn_one(row)
        return float(score)

    return handle


HANDLERS: dict[str, Callable[[Sequence[str]], Handle]] = {"limit": typed, "river": river}


async def consume(bootstrap: str, topic: str, records: int, handle: Handle) -> dict[str, float]:
    """Read ``records`` records and tell what that took."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        if not partitions:  # a topic it has not asked for is unknown to it
            consumer.subscribe([topic])
            await consumer.getmany(timeout_ms=0)
            while not consumer.assignment():
                await consumer.getmany(timeout_ms=100)
        else:
            consumer.assign(partitions)
        done, start = 0, 0
        cpu = wall = 0.0
        while done < records:
            for batch in (await consumer.getmany(timeout_ms=1000, max_records=2000)).values():
                for item in batch:
                    handle(item.value)
                done += len(batch)
            if not cpu and done >= records // 10:
                start, cpu, wall = done, time.process_time(), time.perf_counter()
        return {
            "records": done - start,
            "cpu_s": time.process_time() - cpu,
            "wall_s": time.perf_counter() - wall,
        }
    finally:
        await consumer.stop()


if __name__ == "__main__":
    how, bootstrap, topic, records, *sensors = sys.argv[1:]
    print(json.dumps(asyncio.run(consume(bootstrap, topic, int(records), HANDLERS[how](sensors)))))
