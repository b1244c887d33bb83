"""A realistic status: two lines of a plant, with names as long as plants have them, and everything there is to show."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from daemon.adapters.registry import DecisionRecord
from daemon.adapters.registry.decisions import TriggerFact
from daemon.adapters.telemetry import Promotion, Status
from daemon.alert import AcceptedChange
from daemon.control import Control, Feedback, MaintenanceOrder, Received, Verdict
from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    Contributor,
    Disposition,
    DriftRecord,
    InputPartition,
    PartScore,
    Phase,
    Severity,
)
from daemon.drifting import DriftingAsset, FleetDrift
from daemon.maintenance import MaintenanceWindow
from daemon.stream.accounts import Counts
from daemon.stream.audit import Imputable, SensorAudit
from daemon.stream.dismissal import Standing

NOW = datetime(2026, 3, 4, 9, 30, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * SECOND_NS
PARTITION = InputPartition("plant.compressors", 0)
PREFIX = "Hall 3 / line 2 / compressor station north-west / second stage "
SENSORS = (
    f"{PREFIX}outlet temperature behind the cooler, side A",
    f"{PREFIX}outlet temperature behind the cooler, side B",
    f"{PREFIX}inlet pressure",
    "PLANT_03.UNIT_12.COMPRESSOR_NW.STAGE_2.VIBRATION.BEARING_DE.RADIAL.RMS.10_1000HZ",
    "PLANT_03.UNIT_12.COMPRESSOR_NW.STAGE_2.VIBRATION.BEARING_NDE.RADIAL.RMS.10_1000HZ",
    "oil_level",
)
ACCEPTED = [AcceptedChange(SENSORS[0], 1.294, "°C"), AcceptedChange(SENSORS[5], -0.8)]
ASSETS = (
    "plant-03/hall-03/line-02/compressor-station-north-west/compressor-01",
    "plant-03/hall-03/line-02/compressor-station-north-west/compressor-02",
    "plant-03/hall-03/line-02/compressor-station-north-west/compressor-03",
    "PUMP_ROOM_EAST_PRIMARY_COOLING_WATER_CIRCULATION_PUMP_0000000017",
    *(f"pump-{n:02d}" for n in range(20)),
)


def episode(
    n: int,
    phase: Phase = Phase.OPENED,
    *,
    asset: str = ASSETS[0],
    kind: AlertKind = AlertKind.ANOMALY,
    severity: Severity = Severity.CRITICAL,
    score: float = 9.137,
) -> AlertEvent:
    """One message of the ``n``-th episode."""
    sensor = SENSORS[n % 6] if kind is not AlertKind.ANOMALY else None
    opened = NOW_NS - (n + 1) * 5_000 * SECOND_NS
    shares = ((0, 81.4372, 64.21, 0.46), (1, 12345.678, 12001.2, 0.31), (3, None, 0.00213, 0.115))
    return AlertEvent(
        stream="compressors", asset=asset, kind=kind, phase=phase, severity=severity, sensor=sensor,
        fingerprint=f"f{n}", id=f"f{n}{phase}", row_ns=opened + (n + 1) * 700 * SECOND_NS,
        onset_ns=opened - 60 * SECOND_NS, opened_ns=opened, model="5f3a9c1e77b20d41", calibration="full",
        summary=f"{sensor} has been silent", scores={"combined": PartScore(score, 5.1)},
        contributors=[Contributor(SENSORS[c], observed, expected, share) for c, observed, expected, share in shares],
        partition=PARTITION,
    )  # fmt: skip


def drill_entry(sensor: str, kind: str, recall: float, size: float | None) -> dict[str, Any]:
    """One cell of the fire drill's table."""
    smallest = (
        None if size is None else {"sd": 1.0, "value": size, "low": size, "high": None, "within_s": 420.0}
    )
    return {
        "sensor": sensor, "kind": kind, "recall": recall, "faults": 40, "delay_s": 30.0, "smallest": smallest,
        "by_size": [{"sd": 1.0}] if kind != "stuck" else [], "alert": "anomaly", "says": f"{sensor}: {kind}",
    }  # fmt: skip


def drilled() -> list[dict[str, Any]]:
    kinds = ("spike", "shift", "drift", "stuck", "noise", "correlation_swap", "lag", "drop_out")
    return [
        drill_entry(
            sensor, kind, (0.0, 0.55, 0.97, 1.0)[(i + k) % 4], (None, None, 123.456, 0.00213)[(i + k) % 4]
        )
        for i, sensor in enumerate(SENSORS)
        for k, kind in enumerate(kinds)
    ]


def audits() -> dict[str, SensorAudit]:
    verdicts = (Imputable.CANNOT, Imputable.LAST_VALUE, Imputable.GOOD, Imputable.TOO_FEW)
    return {
        sensor: SensorAudit(sensor, 4_000, 12.3456, 0.37, 15.1, 0.4, 0.91, verdicts[i % 4])
        for i, sensor in enumerate(SENSORS)
    }


def told() -> list[Received]:
    """Verdicts on some of the episodes, and planned stops of which one is over."""
    hour = timedelta(hours=1)
    said: list[Control] = [
        Feedback("f1", Verdict.CONFIRMED, "kim"),
        Feedback("f1", Verdict.FALSE_ALARM, "Kim van den Heuvel-Østergård", f"the lid of {PREFIX}was open"),
        Feedback("f10", Verdict.PLANNED, "ada", "new impeller"),
        MaintenanceOrder("past", NOW - 3 * hour, NOW - hour),
        MaintenanceOrder("overhaul of both", NOW - hour, NOW + hour, ASSETS[:7], reason="bearings", by="kim"),
        MaintenanceOrder("sunday", NOW + 9 * hour, NOW + 11 * hour, rrule="FREQ=WEEKLY", by="ada"),
    ]
    return [Received(n, NOW_NS - 600 * SECOND_NS, control) for n, control in enumerate(said)]


def decisions() -> list[DecisionRecord]:
    """Two trainings: one that was promoted, and one that a rule has refused."""
    rules = (
        {"name": "soundness", "figure": 0.1, "limit": 1.0, "at_least": False, "passed": True},
        {"name": "recall_overall", "figure": 0.61234, "limit": 0.7, "at_least": True, "passed": False},
    )
    why = "of the injected faults it finds 61 %, the model in use 72 %"
    return [
        DecisionRecord("compressors", TriggerFact("schedule"), True, "", "2026-03-02T09:30:00Z", "5f3a9c1e77b20d41"),
        DecisionRecord(
            "compressors", TriggerFact("request", "kim: new impeller"), False, why, "2026-03-04T08:12:00Z",
            "77b20d415f3a9c1e", rules=rules,
        ),
    ]  # fmt: skip


def fleet() -> Status:
    """A live process with open and closed episodes, drift, models, audits and a fire drill."""
    status = Status({"compressors": 500}, now=lambda: NOW, clock=lambda: 0.0)
    status.source = "kafka plant.compressors"
    status.joined = status.connected = True
    stream = status.streams["compressors"]
    status.model(
        "compressors", "5f3a9c1e77b20d41", threshold=5.1, part_thresholds={"kl": 3.0}, calibration="full",
        learned_until=NOW - timedelta(days=2),
    )  # fmt: skip
    status.promotion("compressors", "5f3a9c1e77b20d41", Promotion.PROMOTED)
    status.promotion(
        "compressors", "77b20d415f3a9c1e", Promotion.REFUSED,
        "the candidate reconstructs the held-out rows worse than the model in use (0.318 against 0.274)",
    )  # fmt: skip
    records = {Disposition.ACCEPTED: 48_216_301, Disposition.LATE: 2_112, Disposition.REJECTED: 17}
    status.ingested("compressors", Counts(Counter(records)))
    rng = np.random.default_rng(0)
    rows = 120
    times = np.array([NOW_NS - (rows - i) * SECOND_NS for i in range(rows)])
    for place, asset in enumerate(ASSETS):
        scores = rng.gamma(2.0, 0.8, rows) + (place % 5) * 0.6
        if place == 0:
            scores[-30:] += 5.0
        for i in range(rows):
            one = slice(i, i + 1)
            stream.scored_rows([asset], np.zeros(1, int), times[one], scores[one], scores[one] > 5.1)
    status.published([
        *(episode(n, asset=ASSETS[n], severity=(Severity.CRITICAL, Severity.WARNING)[n % 2]) for n in range(3)),
        episode(3, asset=ASSETS[3], kind=AlertKind.SENSOR_SILENT, severity=Severity.WARNING),
        *(
            replace(episode(n, phase, asset=ASSETS[n % 6], kind=kind), accepted=ACCEPTED if n == 12 else ())
            for n, kind in ((10, AlertKind.ANOMALY), (11, AlertKind.SENSOR_STUCK), (12, AlertKind.ANOMALY))
            for phase in (Phase.OPENED, Phase.CLOSED)
        ),
    ])  # fmt: skip
    status.published([
        DriftRecord(
            "compressors", PARTITION, (n - 1) * 3600 * SECOND_NS, n * 3600 * SECOND_NS, "m", 900, (), (), (), (), (),
            1.0, (0.01 * n, 0.02 * n), (0.2,), 0.3, 0.3, "drift",
            fleet=FleetDrift(6, 1, assets=(DriftingAsset(ASSETS[2], 0, 1, 60, 2.0, 1.0, 0.1, 1.0, ["oil"], [0]),)),
        )
        for n in range(1, 20)
    ])  # fmt: skip
    stream.imputation, stream.drill = audits(), drilled
    people = status.people
    people.now_ns = lambda: NOW_NS
    people.configured = lambda: (
        MaintenanceWindow("inspection", NOW_NS + SECOND_NS, NOW_NS + 90 * SECOND_NS),
    )
    messages = told()
    people.received(messages, anew=True)
    stream.decisions.extend(decisions())
    taken = {one.control.fingerprint: one.control for one in messages if isinstance(one.control, Feedback)}
    stream.standing = lambda event: (
        Standing(taken[event.fingerprint], dismissed=True, held_back=3)
        if event.fingerprint in taken
        else None
    )
    return status
