"""A sliding window in quixstreams: a process of its own, under an interpreter that has quixstreams.

``PYTHON -m tests.bench.quix BOOTSTRAP TOPIC RECORDS WINDOW_S SENSOR...`` keeps the mean of each
sensor over the last WINDOW_S seconds of each asset, gives it out with every record, and prints
{"records", "cpu_s", "wall_s"}; the first tenth is warm-up and not counted. No model is behind it.
It imports nothing of the project: quixstreams wants an older pydantic than anomalyd has, so that
it lives in an environment of its own.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from quixstreams import Application
from quixstreams.dataframe.windows import Mean


def event_time_ms(value: Any, headers: Any, timestamp: float, kind: Any) -> int:
    """The record's own time; the parameters are quixstreams'."""
    return int(datetime.fromisoformat(value["ts"]).timestamp() * 1000)


def consume(
    bootstrap: str, topic: str, records: int, window_s: int, sensors: Sequence[str]
) -> dict[str, float]:
    """Read ``records`` records and tell what that took."""
    marks: list[tuple[int, float, float]] = []
    done = 0

    def count(_: object) -> None:
        nonlocal done
        done += 1
        if done in (records // 10, records):
            marks.append((done, time.process_time(), time.perf_counter()))

    with tempfile.TemporaryDirectory() as state:
        app = Application(
            bootstrap,
            consumer_group=f"quix-{uuid.uuid4().hex[:8]}",
            auto_offset_reset="earliest",
            state_dir=state,
            loglevel="ERROR",
        )
        source = app.topic(topic, value_deserializer="json", timestamp_extractor=event_time_ms)
        rows = app.dataframe(source).apply(lambda value: value["values"])
        means = {name: Mean(name) for name in sensors}
        rows.sliding_window(window_s * 1000, grace_ms=10_000).agg(**means).current().update(count)
        app.run(count=records)
    (before, cpu, wall), (after, cpu_end, wall_end) = marks
    return {"records": after - before, "cpu_s": cpu_end - cpu, "wall_s": wall_end - wall}


if __name__ == "__main__":
    bootstrap, topic, records, window_s, *sensors = sys.argv[1:]
    print(json.dumps(consume(bootstrap, topic, int(records), int(window_s), sensors)))
