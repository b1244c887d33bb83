"""Alerts compared with injected faults."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from daemon.adapters.simulator import FaultKind, InjectedFault, score
from daemon.domain import AlertEvent, AlertKind, Phase, Severity, instant
from tests.adapters.simulator.test_fleet import MINUTE, START, START_NS


def at(minute: float) -> int:
    return START_NS + round(minute * MINUTE)


def fault(kind: FaultKind, asset: str, begin: float, end: float) -> InjectedFault:
    return InjectedFault(kind, asset, "Flow", at(begin), at(end))


def opened(asset: str, minute: float, **changes: Any) -> AlertEvent:
    event = AlertEvent(
        stream="pumps",
        asset=asset,
        kind=AlertKind.ANOMALY,
        phase=Phase.OPENED,
        severity=Severity.WARNING,
        fingerprint=f"{asset}{minute}",
        id=f"{asset}{minute}",
        row_ns=at(minute),
        onset_ns=at(minute),
        opened_ns=at(minute),
        model="m",
        calibration="full",
        summary="",
    )
    return replace(event, **changes)


def test_score_counts_found_delayed_missed_and_false() -> None:
    faults = [
        fault(FaultKind.SHIFT, "a", 100, 200),
        fault(FaultKind.SHIFT, "b", 100, 200),
        fault(FaultKind.SHIFT, "c", 100, 200),
        fault(FaultKind.SENSOR_SILENT, "a", 400, 500),
        fault(FaultKind.SPIKE, "d", 100, 101),
    ]
    before, another = opened("a", 99), opened("c", 150)
    result = score(
        faults,
        [
            opened("a", 110),
            opened("a", 104),  # the first counts
            before,
            opened("b", 232),  # in the tolerance of 32 minutes
            opened("a", 420, kind=AlertKind.SENSOR_SILENT),
            opened("a", 500, kind=AlertKind.SENSOR_STUCK),
            opened("c", 150, kind=AlertKind.DRIFT),  # neither found nor false
            opened("c", 160, phase=Phase.CLOSED),
            opened("d", 133.5, kind=AlertKind.ASSET_SILENT),
            opened("x", 150),
        ],
    )
    assert [(k.kind, k.injected, k.found, k.median_delay) for k in result.kinds] == [
        (FaultKind.SPIKE, 1, 0, None),
        (FaultKind.SHIFT, 3, 2, timedelta(minutes=68)),
        (FaultKind.SENSOR_SILENT, 1, 1, timedelta(minutes=20)),
    ]
    assert (result.injected, result.found, result.episodes) == (5, 3, 8)
    assert [(event.asset, event.opened_ns) for event in result.false] == [
        ("a", at(99)),
        ("d", at(133.5)),
        ("x", at(150)),
    ]
    assert [f.asset for f in result.missed] == ["c", "d"]
    assert score(faults, [another]).found == 1
    assert len(score(faults, [opened("b", 232)], tolerance=timedelta(minutes=31)).false) == 1


def test_score_of_nothing() -> None:
    empty = score([], [])
    assert (empty.kinds, empty.injected, empty.found, empty.false) == ((), 0, 0, ())
    assert instant(at(0)) == START
