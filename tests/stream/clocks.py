"""Logs of readings with event times, stamps and clocks that are off, and what a pipeline makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    DeadLetter,
    InputPartition,
    Output,
    PolledRecords,
    Reading,
    Reason,
    StreamSpec,
)
from daemon.stream.decoding import Decoder
from daemon.stream.parts import PipelineSettings
from daemon.stream.pipeline import Pipeline

PARTITION = InputPartition("sensors.pumps", 0)
SPEC = StreamSpec("pumps", ("a", "b"), window=4)  # lateness 10 s, max_gap and silent_after 300 s
DAY = 86_400
T0 = 20_000 * DAY


def made(spec: StreamSpec = SPEC, *, publish_from: int = 0, **more: Any) -> Pipeline:
    settings = PipelineSettings(spec, AlarmPolicy(), 3_600 * SECOND_NS, trace=True, **more)
    pipeline = Pipeline(settings, PARTITION, Decoder(spec), publish_from=publish_from)
    pipeline.offset = 0
    return pipeline


def line(second: float, asset: str = "p1", stamp: float | None = None, value: float = 1.0) -> Reading:
    """One reading; ``stamp`` is its record's time in seconds, None for a file's row."""
    stamp_ns = -1 if stamp is None else round(stamp * 1e9)
    return Reading(0, asset, round(second * 1e9), [value, value], stamp_ns=stamp_ns)


def feed(pipeline: Pipeline, readings: Iterable[Reading], *, end: bool = True) -> list[Output]:
    """Feed readings as one log; returns what is emitted."""
    log = list(readings)
    for offset, reading in enumerate(log, pipeline.offset):
        reading.offset = offset
    emitted = [o for step in pipeline.feed(PolledRecords(PARTITION, log)) for o in step.outputs]
    if end:
        emitted += [
            o for step in pipeline.feed(PolledRecords(PARTITION, (), ended=True)) for o in step.outputs
        ]
    return emitted


def alerts(outputs: Iterable[Output], kind: AlertKind) -> list[tuple[str, str]]:
    """(asset, phase) of the alerts of a kind."""
    return [(o.asset, str(o.phase)) for o in outputs if isinstance(o, AlertEvent) and o.kind is kind]


def rejected(outputs: Iterable[Output]) -> list[int]:
    """Offsets of the records that were rejected as from the future."""
    letters = [o.rejected for o in outputs if isinstance(o, DeadLetter)]
    assert all(letter.reason is Reason.FUTURE for letter in letters)
    return [letter.record.offset for letter in letters]


def fleet(seconds: int, clocks: dict[str, float], *, live: bool, begin: int = 0) -> list[Reading]:
    """A reading per second of assets whose clocks are ahead by so much."""
    return [
        line(T0 + s + ahead, asset, T0 + s + 0.3 if live else None)
        for s in range(begin, begin + seconds)
        for asset, ahead in clocks.items()
    ]
