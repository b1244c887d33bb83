"""What a fire drill found, as JSON for the page and as a sentence for people.

``anomalyd drill`` and the drill beside a stream report alike: one entry per sensor and kind of fault, with the
recall by size, the median delay and the smallest size that is found reliably.
"""

from __future__ import annotations

from typing import Any

from daemon.domain import finite_or_none
from daemon.model.drill import FOUND, Found, Rung, seconds, value_of
from daemon.model.faults import FaultKind

LEAST = 5
"""Faults of each size before a sensor and kind is reported."""

WORDS = {
    FaultKind.SPIKE: "a spike",
    FaultKind.SHIFT: "an offset",
    FaultKind.DRIFT: "a drift",
    FaultKind.STUCK: "a stuck sensor",
    FaultKind.NOISE: "noise",
    FaultKind.SWAP: "a swap of two sensors",
    FaultKind.LAG: "a lag",
    FaultKind.DROP_OUT: "a drop-out",
}


def settled(found: Found) -> bool:
    """Whether enough faults of each size were tried to report them."""
    return all(rung.faults >= LEAST for rung in found.rungs) and (
        not found.kind.sized or len(found.rungs) > 1
    )


def entry(found: Found, scale: float, period_ns: int, what: str = "") -> dict[str, Any]:
    """What was found of one sensor and kind, as JSON; sizes in the sensor's units, of a lag in seconds.

    Args:
        found: the finding.
        scale: standard deviation of the sensor in training, of what the model has of it.
        period_ns: of the stream's grid.
        what: the model has of the sensor, where that is not its value (``assembly.modelled``).
    """

    def value(size: float) -> float:
        return value_of(found.kind, size, scale, period_ns)

    def sd(size: float) -> float | None:
        return None if found.kind is FaultKind.LAG else size

    def rung(one: Rung) -> dict[str, Any]:
        return {
            "sd": sd(one.size),
            "value": value(one.size),
            "faults": one.faults,
            "found": one.found,
            "recall": finite_or_none(one.recall),
            "delay_s": seconds(one.delay_rows, period_ns),
        }

    smallest = found.smallest
    return {
        "sensor": found.sensor,
        "modelled": what or None,
        "kind": found.kind.value,
        "recall": finite_or_none(found.recall),
        "faults": found.faults,
        "delay_s": seconds(found.delay_rows, period_ns),
        "smallest": None
        if smallest is None
        else {
            "sd": sd(smallest.rung.size),
            "value": value(smallest.rung.size),
            "low": value(smallest.low),
            "high": None if smallest.high is None else value(smallest.high),
            "within_s": seconds(smallest.rung.within_rows, period_ns),
        },
        "by_size": [rung(one) for one in found.rungs] if found.kind.sized else [],
        "alert": None if found.alert is None else found.alert.value,
        "says": sentence(found, scale, period_ns, what),
    }


def sentence(found: Found, scale: float, period_ns: int, modelled: str = "") -> str:
    """The finding in words: ``Pressure: an offset above 0.4 is found within 3 min``.

    Arguments as of ``entry``.
    """
    what = f"{found.sensor}{f' ({modelled})' if modelled else ''}: {WORDS[found.kind]}"
    if not found.found:
        return f"{what} is not found"
    smallest = found.smallest
    if smallest is None and found.kind.sized:
        return f"{what} is found in {found.recall:.0%} of the cases, and on no size reliably"
    if smallest is not None:
        size = value_of(found.kind, smallest.rung.size, scale, period_ns)
        amount = span(size) if found.kind is FaultKind.LAG else sized(size)
        within = seconds(smallest.rung.within_rows, period_ns)
        return f"{what} above {amount} is found {soon(within)}"
    if found.recall < FOUND:
        return f"{what} is found in {found.recall:.0%} of the cases"
    within = seconds(found.rungs[0].within_rows, period_ns)
    return f"{what} is found {soon(within)}"


def soon(within_s: float | None) -> str:
    """How soon: ``within 3 min``, or ``at once`` where the fault's first row tells."""
    return f"within {span(within_s)}" if within_s else "at once"


def sized(value: float) -> str:
    """A size with three digits: ``0.762``, ``1,210`` and no ``1.21e+03``."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if 1e3 <= abs(rounded) < 1e9 else f"{value:.3g}"


def span(of_seconds: float) -> str:
    """A duration in its largest unit: ``40 s``, ``3 min``, ``2.5 h``."""
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if of_seconds >= 2 * size:
            return f"{of_seconds / size:.3g} {unit}"
    return f"{of_seconds:.3g} s"
