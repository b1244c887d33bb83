"""Alerts compared with the faults that were injected: which were found, how soon, and which alerts are false."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Final

from daemon.adapters.simulator.faults import FaultKind, InjectedFault
from daemon.adapters.simulator.fleet import WINDOW
from daemon.domain import AlertEvent, AlertKind, Phase, to_ns

FOUND_BY: Final = frozenset(
    {
        AlertKind.ANOMALY,
        AlertKind.DEVIATION,
        AlertKind.SENSOR_SILENT,
        AlertKind.SENSOR_STUCK,
        AlertKind.ASSET_SILENT,
    }
)
"""Kinds of alerts that report a present problem of an asset."""


@dataclass(frozen=True, slots=True)
class KindScore:
    """How many faults of one kind were found, and how soon."""

    kind: FaultKind
    injected: int
    found: int
    median_delay: timedelta | None  # from a fault's start to its first alert; None: none found


@dataclass(frozen=True, slots=True)
class FleetScore:
    """What was found of all injected faults."""

    kinds: tuple[KindScore, ...]  # those that were injected, in ``FaultKind``'s order
    missed: tuple[InjectedFault, ...]
    episodes: int  # opened, of the kinds in ``FOUND_BY``
    false: tuple[AlertEvent, ...]  # opened where nothing was wrong

    @property
    def injected(self) -> int:
        return sum(kind.injected for kind in self.kinds)

    @property
    def found(self) -> int:
        return sum(kind.found for kind in self.kinds)


def score(
    faults: Sequence[InjectedFault],
    events: Sequence[AlertEvent],
    tolerance: timedelta = timedelta(minutes=2 * WINDOW),
) -> FleetScore:
    """Compare alerts with faults.

    Args:
        faults: what was injected.
        events: alert messages, in any order; only those that open an episode count.
        tolerance: how long after its end an episode may still open because of a fault (its
            rows are in the windows yet).

    Returns:
        A fault is found if an episode of its asset opens from its start to its end plus
        ``tolerance``; an episode that opens outside all of them is false.
    """
    late_ns = to_ns(tolerance)
    by_asset: dict[str, list[AlertEvent]] = {}
    for event in events:
        if event.phase is Phase.OPENED and event.kind in FOUND_BY:
            by_asset.setdefault(event.asset, []).append(event)
    explained: set[int] = set()
    delays: dict[FaultKind, list[int]] = {}
    injected: dict[FaultKind, int] = {}
    missed = []
    for fault in faults:
        injected[fault.kind] = injected.get(fault.kind, 0) + 1
        hits = [
            event
            for event in by_asset.get(fault.asset, [])
            if fault.start_ns <= event.opened_ns <= fault.end_ns + late_ns
        ]
        explained.update(map(id, hits))
        if hits:
            delays.setdefault(fault.kind, []).append(min(hit.opened_ns for hit in hits) - fault.start_ns)
        else:
            missed.append(fault)
    opened = [event for opened in by_asset.values() for event in opened]
    return FleetScore(
        kinds=tuple(
            KindScore(
                kind,
                injected[kind],
                len(delays.get(kind, [])),
                timedelta(microseconds=median(delays[kind]) / 1_000) if kind in delays else None,
            )
            for kind in FaultKind
            if kind in injected
        ),
        missed=tuple(missed),
        episodes=len(opened),
        false=tuple(
            sorted((e for e in opened if id(e) not in explained), key=lambda e: (e.opened_ns, e.asset))
        ),
    )
