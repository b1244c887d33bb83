"""Records as they arrive at a decoder, and what decoding them gives."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.config.presets import CUSTOM, mapping_of
from daemon.domain import Format, Reading, Reason, Record, Skipped, StreamSpec
from daemon.mapping import DecodeRule
from daemon.stream.decode import Arrival, Births, decode_with
from daemon.stream.decoding import Decoder
from daemon.stream.rejection import RejectedError

NOW_NS = 1_764_400_000 * 10**9  # 2025-11-29T07:06:40Z


def arrival(
    offset: int = 0, topic: str | None = None, births: Births | None = None, now_ns: int = NOW_NS
) -> Arrival:
    """A record of an MQTT topic, which is its key."""
    key = None if topic is None else topic.encode()
    return Arrival(Record(offset, key, b"", now_ns), [], births)


def tree_of(kind: str, value: bytes, arriving: Arrival | None = None, **options: Any) -> Any:
    return decode_with(DecodeRule(kind, options=options))(value, arriving or arrival())


def refusal(kind: str, value: bytes, arriving: Arrival | None = None, **options: Any) -> tuple[Reason, str]:
    """The reason and detail with which a whole record is refused."""
    with pytest.raises(RejectedError) as error:
        tree_of(kind, value, arriving, **options)
    return error.value.reason, error.value.detail


def mapped(sensors: tuple[str, ...], **document: Any) -> StreamSpec:
    """A stream whose messages are read by this mapping."""
    return StreamSpec(
        "pumps",
        sensors,
        period_ns=10**9,
        window=4,
        format=Format.MAPPED,
        input=mapping_of(CUSTOM, document),
    )


def read(spec: StreamSpec, *records: Record, decoder: Decoder | None = None) -> list[Any]:
    """(asset, time, {sensor: value}) of each reading in order; a rejection's reason and detail; a skip's rule."""
    found: list[Any] = []
    for each in (decoder or Decoder(spec)).decode_all(records):
        if isinstance(each, Reading):
            values = zip(spec.sensors, each.values or (), strict=False)
            found.append(
                (each.asset, each.time_ns, {name: value for name, value in values if value == value})
            )
        elif isinstance(each, Skipped):
            found.append(each.rule)
        else:
            found.append((each.reason, each.detail))
    return found
