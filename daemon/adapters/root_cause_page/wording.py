"""Words for an explanation: its numbers, times and sentences, as people of the plant read them."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from daemon.domain import SECOND_NS, Floats, iso
from daemon.model.repair import RIGHT, Cause
from daemon.model.root_cause import RootCause, listed


def shown(value: float, like: Floats | None = None) -> str:
    """Four significant digits; no finer than a ten-thousandth of what ``like`` spans. A dash: not known."""
    if not math.isfinite(value):
        return "–"
    if like is not None and np.isfinite(like).any():
        step = float(np.nanmax(like) - np.nanmin(like)) / 1e4
        value = 0.0 if abs(value) < step else value
    return f"{value:.4g}"


def clock(time_ns: int) -> str:
    """``2026-03-10 14:02:00``, UTC."""
    return iso(time_ns)[:19].replace("T", " ")


def lasted(span_ns: int) -> str:
    """``40 s``, ``35 min``, ``3.5 h``, ``4 days``."""
    for unit, seconds in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if span_ns >= 2 * seconds * SECOND_NS:
            return f"{span_ns / (seconds * SECOND_NS):.3g} {unit}"
    return f"{span_ns / SECOND_NS:.3g} s"


def headline(found: RootCause) -> str:
    """What is wrong, in a few words."""
    names = listed([found.sensors[c] for c in found.blamed], 3)
    match found.verdict.cause:
        case None if found.jump is not None:
            return f"{found.sensors[found.jump.sensor]} jumped"
        case None:
            return "Nothing is wrong here"
        case Cause.BROKEN_SENSOR:
            return f"{names} alone is off"
        case Cause.NEW_REGIME:
            return f"{names} have moved together" if len(found.blamed) > 1 else f"{names} has moved"
        case Cause.PROCESS_FAULT if found.repair.enough:
            return f"The process is off: {names} no longer fit together"
        case Cause.PROCESS_FAULT:
            return "The process is off: the sensors no longer fit together"


def consequence(found: RootCause) -> str:
    """What the most blamed sensor reads and should read, in one sentence."""
    if found.verdict.cause is None:
        return found.evidence()
    if not found.repair.sensors or not found.repair.enough:
        return "No set of sensors was found without which the window is normal."
    first = found.repair.sensors[0]
    like = found.observed[:, first]
    observed, twin, low, high = found.reading(first)
    reads = (
        f"{found.sensors[first]} reads {shown(observed, like)}"
        if math.isfinite(observed)
        else f"{found.sensors[first]} reads nothing"
    )
    more = len(found.repair.sensors) - 1
    others = "the other sensors say" if not more else f"the sensors beside these {more + 1} say"
    return f"{reads}; {others} {shown(twin, like)} (90 %: {shown(low, like)} to {shown(high, like)})."


def certainty(cause: Cause, certain: bool) -> str:
    """How far a verdict can be trusted."""
    often = f"Such verdicts were right in {100 * RIGHT[cause]:.0f} % of the labelled cases in which they were given"
    return f"{often}." if certain else f"{often}: take it for a hint. The alert does not carry it."


CAUSES: Final = {
    Cause.BROKEN_SENSOR: "broken sensor",
    Cause.PROCESS_FAULT: "process fault",
    Cause.NEW_REGIME: "new regime",
}
