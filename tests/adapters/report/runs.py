"""Small runs to report on."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from daemon.adapters.report import (
    AssetTrace,
)
from daemon.alert import Peak
from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    Contributor,
    DriftRecord,
    Floats,
    InputPartition,
    PartScore,
    Phase,
    Severity,
)

START = 1_700_000_000 * SECOND_NS


def trace(asset: str = "pump-01", n: int = 300, sensors: int = 2, labelled: bool = True) -> AssetTrace:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n, sensors))
    filled = np.full_like(values, np.nan)
    scores = rng.gamma(2.0, 0.5, n)
    if n:
        values[n // 2, 0], filled[n // 2, 0] = np.nan, 0.25
        scores[0], scores[n // 3] = np.nan, 12.0
    return AssetTrace(
        stream="pumps", asset=asset, times_ns=START + np.arange(n) * SECOND_NS, scores=scores,
        alarms=np.nan_to_num(scores) > 5.1, threshold=5.1, sensors=tuple(f"s{c}" for c in range(sensors)),
        values=values, filled=filled, low=filled - 1, high=filled + 1,
        labels=np.arange(n) == n // 3 if labelled else None,
    )  # fmt: skip


def event(phase: Phase, score: float, row: int, asset: str = "pump-01", fingerprint: str = "f") -> AlertEvent:
    return AlertEvent(
        stream="pumps", asset=asset, kind=AlertKind.ANOMALY, phase=phase, severity=Severity.WARNING,
        fingerprint=fingerprint, id=f"{fingerprint}{row}", row_ns=START + row * SECOND_NS,
        onset_ns=START, opened_ns=START + SECOND_NS, model="5f3a9c1e", calibration="full", summary="odd",
        scores={"combined": PartScore(score, 5.1)}, contributors=[Contributor("s1", 0.9, None, 0.7)],
        peak=Peak(START + row * SECOND_NS, "combined", score, 5.1),
    )  # fmt: skip


def drift_record(start: int, partition: int, residual: float) -> DriftRecord:
    return DriftRecord(
        "pumps", InputPartition("f", partition), start * SECOND_NS, (start + 60) * SECOND_NS, "m", 60,
        (), (), (), (), (), 1.0, (0.1, 0.2), (residual,), 0.4, 0.6, "ok",
    )  # fmt: skip


SUMMARY: dict[str, Any] = {
    "records": {"read": 306, "accepted": 300, "duplicate": 1, "late": 2, "rejected": 3},
    "reasons": {"not_json": 3, "future": 0},
    "rows": np.int64(300), "scored": 299, "filled": 1, "episodes": 1, "models": ["5f3a9c1e"], "seconds": 2.5,
}  # fmt: skip


def unpacked(text: str, kind: str = "<f4") -> Floats:
    return np.frombuffer(base64.b64decode(text), kind).astype(np.float64)
