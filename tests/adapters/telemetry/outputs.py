"""Outputs of one partition, as the pipeline emits them."""

from __future__ import annotations

from daemon.alert import AlertPart
from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    DeadLetter,
    DriftRecord,
    InputPartition,
    Phase,
    Reason,
    Record,
    Rejected,
    ScoredRow,
    Severity,
)

PARTITION = InputPartition("plant.pumps", 3)


def alert(
    phase: Phase = Phase.OPENED,
    *,
    asset: str = "pump-01",
    kind: AlertKind = AlertKind.ANOMALY,
    severity: Severity = Severity.WARNING,
    fingerprint: str = "f1",
) -> AlertEvent:
    return AlertEvent(
        stream="pumps", asset=asset, kind=kind, phase=phase, severity=severity, fingerprint=fingerprint,
        id=f"{fingerprint}-{phase}", row_ns=10 * SECOND_NS, onset_ns=8 * SECOND_NS, opened_ns=9 * SECOND_NS,
        model="5f3a9c1e", calibration="full", summary="", partition=PARTITION, parts=[AlertPart(kind, None, 0)],
    )  # fmt: skip


def scored_row(asset: str, score: float) -> ScoredRow:
    return ScoredRow("pumps", asset, 0, score, score, 0.1, score, -3.0, False, "5f3a9c1e")


def drift_record(latent: float = 0.3, residual: float = 0.5) -> DriftRecord:
    return DriftRecord(
        stream="pumps", partition=PARTITION, start_ns=0, end_ns=3600 * SECOND_NS, model="5f3a9c1e", windows=9,
        latent_sum=(0.0, 0.0), latent_square_sum=(1.0, 1.0), residual_count=(9,), residual_sum=(0.0,),
        residual_square_sum=(1.0,), kl_sum=4.0, latent_kl=(latent / 2, latent / 2), residual_kl=(residual,),
        latent_threshold=1.0, residual_threshold=1.0, verdict="ok",
    )  # fmt: skip


def dead_letter(reason: Reason) -> DeadLetter:
    return DeadLetter("pumps", PARTITION, Rejected(Record(1, None, b"{", 0), reason, "x"))
