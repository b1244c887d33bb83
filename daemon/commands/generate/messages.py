"""Synthetic rows as encoded messages, in order of arrival: late rows (``--late``) come after younger ones.

In: ``SyntheticRows`` and a ``MessageLayout``. Out: (asset, JSON) pairs, one a row (json-wide) or one a reading
(json-long).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from daemon.commands.generate.rows import SyntheticRows, label_fields, rows_of
from daemon.domain import (
    RECORD_KEY,
    RECORD_TIMESTAMP,
    SYNTHETIC,
    FieldNames,
    Format,
    iso,
)

LATEST = 20
"""Rows by which a late row arrives late, at most: some within the usual allowed lateness, some beyond."""


@dataclass(frozen=True, slots=True)
class MessageLayout:
    """How messages are written; see ``Format``."""

    format: Format = Format.JSON_WIDE
    fields: FieldNames = field(default_factory=FieldNames)


JSON_WIDE = MessageLayout()


def messages(made: SyntheticRows, layout: MessageLayout, total: int) -> Iterator[tuple[bytes, bytes]]:
    """(asset, JSON) of each message in the order of arrival: json-wide one a row, json-long one a reading."""
    late = made.request.late
    encoded = _encoded(made, layout, total)
    if not late:
        for _, asset, texts in encoded:
            for text in texts:
                yield asset, text
        return
    random = np.random.default_rng([made.request.seed, 5])
    waiting: list[tuple[int, int, bytes, list[bytes]]] = []
    for number, (row, asset, texts) in enumerate(encoded):
        while waiting and waiting[0][0] <= row:
            _, _, late_asset, some = heapq.heappop(waiting)
            for text in some:
                yield late_asset, text
        if random.random() < late:
            due = row + int(random.integers(1, LATEST + 1))
            heapq.heappush(waiting, (due, number, asset, texts))
            continue
        for text in texts:
            yield asset, text
    while waiting:
        _, _, late_asset, some = heapq.heappop(waiting)
        for text in some:
            yield late_asset, text


def _encoded(
    made: SyntheticRows, layout: MessageLayout, total: int
) -> Iterator[tuple[int, bytes, list[bytes]]]:
    """(row, asset, its messages), by time, then by asset."""
    bundle, fields = made.bundle, layout.fields
    encode = msgspec.json.Encoder().encode
    names = [name.encode() for name in made.names]
    seen = np.flatnonzero(made.arriving.seen)
    sensors = [made.arriving.sensors[s] for s in seen.tolist()]
    conditions = [label_fields(label) for label in bundle.conditions]
    first: int | None = None
    times: list[str] = []
    rows: list[list[list[float]]] = []
    labels: list[list[int]] = []
    for asset, t, stretch in rows_of(total, made):
        if stretch.first != first:
            first = stretch.first
            rows = stretch.values[:, :, seen].tolist()
            labels = stretch.labels.tolist()
            times = [iso(made.time_ns(first + k)) for k in range(stretch.values.shape[1])]
        head: dict[str, Any] = {}
        if fields.asset != RECORD_KEY:
            head[fields.asset] = made.names[asset]
        if fields.timestamp != RECORD_TIMESTAMP:
            head[fields.timestamp] = times[t]
        if labels[asset][t] >= 0:
            head[fields.condition] = conditions[labels[asset][t]]
        head[SYNTHETIC] = True
        values = rows[asset][t]
        if layout.format is Format.JSON_WIDE:
            # NaN is encoded as null, which means that there is no value.
            head[fields.values] = dict(zip(sensors, values, strict=True))
            texts = [encode(head)]
        else:
            texts = [
                encode({**head, fields.sensor: sensor, fields.value: value})
                for sensor, value in zip(sensors, values, strict=True)
                if value == value
            ]
        yield first + t, names[asset], texts
