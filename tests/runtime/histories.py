"""Segments, released rows and alert messages of one small stream."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    Phase,
    Segment,
    Severity,
    StreamSpec,
)
from daemon.stream.encoding import encode
from daemon.stream.steps import RowBlock

BASE_S = 1_700_000_400  # a multiple of the ten minutes that these streams retrain after


SPEC = StreamSpec(
    "pumps",
    ("a", "b"),
    topics=("sensors.pumps",),
    window=4,
    max_gap_ns=20 * SECOND_NS,
    silent_after_ns=60 * SECOND_NS,
)


def segment(asset: str, rows: int, first_s: int = 0) -> Segment:
    values = np.stack([np.arange(rows, dtype=float), np.ones(rows)], 1)
    return Segment(asset, BASE_S + first_s, values)


def seconds_of(history: Sequence[Segment], asset: str) -> list[int]:
    return [s.first_row - BASE_S + i for s in history if s.asset == asset for i in range(len(s.values))]


def alert(
    asset: str,
    onset_s: int,
    row_s: int,
    phase: Phase = Phase.OPENED,
    kind: AlertKind = AlertKind.ANOMALY,
    sensor: str | None = None,
    stream: str = "pumps",
) -> bytes:
    """An alert message whose episode began at a second of the test's time."""
    event = AlertEvent(
        stream=stream,
        asset=asset,
        kind=kind,
        phase=phase,
        severity=Severity.WARNING,
        fingerprint=f"{stream}-{asset}-{kind}-{sensor}-{onset_s}",
        id=f"{asset}-{onset_s}-{phase}",
        row_ns=(BASE_S + row_s) * SECOND_NS,
        onset_ns=(BASE_S + onset_s) * SECOND_NS,
        opened_ns=(BASE_S + onset_s) * SECOND_NS,
        model="m",
        calibration="full",
        summary="",
        sensor=sensor,
    )
    return encode(event, NOW).value


NOW = datetime(2026, 1, 1, tzinfo=UTC)


def block(asset: str, rows: range) -> RowBlock:
    index = np.array(rows)
    return RowBlock(
        [asset] * len(index),
        np.zeros(len(index), np.int64),
        index,
        np.ones((len(index), 2)),
        np.full(len(index), np.nan),
        np.zeros(len(index), bool),
        [""] * len(index),
    )
