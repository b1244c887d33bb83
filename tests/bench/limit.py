"""The limit: what aiokafka and msgspec cost with nothing behind them. A process of its own.

``python -m tests.bench.limit BOOTSTRAP TOPIC RECORDS SENSOR...`` consumes a topic from its
start, decodes each record into a struct with one typed field per sensor, drops it, and prints
{"records", "cpu_s", "wall_s"}. The first tenth is warm-up and not counted.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition


async def consume(bootstrap: str, topic: str, records: int, sensors: Sequence[str]) -> dict[str, float]:
    """Read ``records`` records and tell what that took."""
    values = msgspec.defstruct("Values", [(name, float | None, None) for name in sensors])
    record = msgspec.defstruct("Line", [("asset", str), ("ts", str), ("values", values)])
    decode = msgspec.json.Decoder(record).decode
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
                    decode(item.value)
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
    bootstrap, topic, records, *sensors = sys.argv[1:]
    print(json.dumps(asyncio.run(consume(bootstrap, topic, int(records), sensors))))
