"""The limit: what aiokafka and msgspec cost with nothing behind them; and a peer in their place.

``python -m tests.bench.limit HOW BOOTSTRAP TOPIC RECORDS SENSOR...`` is a process of its own that
consumes a topic from its start, handles each record, and prints {"records", "cpu_s", "wall_s"}.
The first tenth is warm-up and not counted. HOW is

- ``limit``: decode into a struct with one typed field per sensor, drop it;
- ``{...}``: the same for messages with these fields and types, see ``bare``;
- ``river``: what a user would write first: ``json``, a dict, one river model that scores the row
  and learns from it. One for the fleet, though one per asset would be the like of ours: this is
  the cheaper.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

Handle = Callable[[bytes], object]


def typed(sensors: Sequence[str]) -> Handle:
    """The cheapest way to all values of a record."""
    values = msgspec.defstruct("Values", [(name, float | None, None) for name in sensors])
    record = msgspec.defstruct("Line", [("asset", str), ("ts", str), ("values", values)])
    return msgspec.json.Decoder(record).decode


def bare(fields: Mapping[str, str], sensors: Sequence[str]) -> Handle:
    """The same for messages of other shapes.

    Args:
        fields: the message's fields with the names of their types, see ``_types``; the field "" stands for the
            sensors in the message itself.
        sensors: their names in the message.

    A line of another shape, such as the odd one of a benchmark, is dropped.
    """
    types = _types(sensors)
    found = {name: types[kind] for name, kind in fields.items() if name}
    if "" in fields:
        found |= dict.fromkeys(sensors, float | None)
    decode = msgspec.json.Decoder(_struct("Line", found)).decode

    def handle(line: bytes) -> object:
        try:
            return decode(line)
        except msgspec.DecodeError:  # the odd line of a shape: blank, or a text where a number is due
            return None

    return handle


def _types(sensors: Sequence[str]) -> dict[str, Any]:
    """The types of fields of messages, by names."""
    cells = _struct("Cells", dict.fromkeys(sensors, float | None))
    texts = _struct("Texts", dict.fromkeys(sensors, str | None))
    kepware = _struct("Tag", {"id": str, "v": float, "q": bool, "t": int})
    body = _struct("Value", {"Value": _struct("Variant", {"Body": float}), "SourceTimestamp": str})
    payload = _struct("Payload", dict.fromkeys(sensors, body | None))
    opcua = _struct("Message", {"DataSetWriterId": str, "Timestamp": str, "Payload": payload})
    return {
        "str": str,
        "int": int,
        "float": float,
        "cells": cells,
        "texts": texts,
        "object": dict[str, object],
        "tags": _struct("Tags", {"asset": str}),
        "kepware": list[kepware],
        "opcua": list[opcua],
    }


def _struct(name: str, fields: Mapping[str, Any]) -> Any:
    """A struct of optional fields with these names in the message."""
    places = {f"f{i}": field for i, field in enumerate(fields)}
    types = [(place, fields[field] | None, None) for place, field in places.items()]
    return msgspec.defstruct(name, types, rename=places, gc=False)


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
    made = HANDLERS[how](sensors) if how in HANDLERS else bare(json.loads(how), sensors)
    print(json.dumps(asyncio.run(consume(bootstrap, topic, int(records), made))))
