"""The one-sentence summary of an alert, which has to suffice on a phone at night."""

from __future__ import annotations

from collections.abc import Mapping

from daemon.documents import counted
from daemon.domain import SECOND_NS, AlertEvent, AlertKind, PartScore, Phase, iso


def number(value: float | None) -> str:
    """Four significant digits, or ``missing``."""
    return "missing" if value is None else f"{value:.4g}"


def lasting(span_ns: int) -> str:
    """A duration in the largest unit of which it has two: ``90 min``, ``3 h``."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if span_ns >= 2 * size * SECOND_NS:
            return f"{span_ns / (size * SECOND_NS):.3g} {unit}"
    return f"{span_ns / SECOND_NS:.3g} s"


def unread(faults: Mapping[str, int]) -> str:
    """How many values came all the same, and why none is a number: ``: 812 values came, none could be read: text``."""
    if not faults:
        return ""
    ordered = sorted(faults.items(), key=lambda item: (-item[1], item[0]))
    named = [fault.replace("_", " ") + (f" {n:,}" if len(ordered) > 1 else "") for fault, n in ordered]
    return f": {counted(sum(faults.values()), 'value')} came, none could be read: {', '.join(named)}"


def leading_score(event: AlertEvent) -> PartScore | None:
    """The score that the episode is judged by; None if it has none."""
    return event.scores.get("sustained" if event.kind is AlertKind.DEVIATION else "combined")


def _reason(event: AlertEvent) -> str:
    """What makes the row an anomaly: its score, or where that is below its threshold a jump; empty if not known."""
    combined, jump = event.scores.get("combined"), event.scores.get("jump")
    if combined is None:
        return ""
    if jump is not None and jump.value > jump.threshold and combined.value <= combined.threshold:
        return f" a jump of {jump.value:.3g} times its limit;"
    return f" score {combined.value:.2f} over {combined.threshold:.2f};"


def summary(event: AlertEvent) -> str:
    """What has happened, to which asset or sensor, and since when."""
    when = iso(event.onset_ns)
    match event.kind:
        case AlertKind.SENSOR_SILENT:
            text = f"{event.asset}: {event.sensor} has sent no value since {when}{unread(event.unread)}"
        case AlertKind.SENSOR_STUCK:
            text = f"{event.asset}: {event.sensor} has not moved since {when}"
        case AlertKind.ASSET_SILENT:
            text = f"{event.asset} has sent nothing since {when}"
        case AlertKind.CLOCK_SKEW:
            off = event.clock_offset_ns
            how = (
                "off"
                if off is None
                else f"{lasting(abs(off))} {'ahead of' if off > 0 else 'behind'} the fleet's"
            )
            text = f"the clock of {event.asset} is {how}, noticed at {when} of its own time"
        case AlertKind.UNKNOWN_CONDITION:
            text = f"{event.asset} runs in a condition new to the model ({event.sensor}) since {when}"
        case AlertKind.DRIFT:
            text = f"the readings of {event.stream} have drifted from what the model learned, since {when}"
        case AlertKind.DEVIATION:
            leading = ", ".join(
                f"{c.sensor} {number(c.observed)} on average (expected {number(c.expected)})"
                for c in event.contributors[:3]
            )
            verb = "deviated" if event.phase is Phase.CLOSED else "deviates"
            text = f"{event.asset} {verb} since {when}: {leading}".rstrip(" :")
        case _:
            leading = ", ".join(
                f"{c.sensor} {number(c.observed)} (expected {number(c.expected)})"
                for c in event.contributors[:3]
            )
            if event.phase is Phase.CLOSED:  # by a score that is no longer above the threshold
                text = f"{event.asset} was anomalous since {when}: {leading}".rstrip(" :")
            else:
                text = f"{event.asset} is anomalous since {when}:{_reason(event)} {leading}".rstrip(" ;")
    return f"{text} (over)" if event.phase is Phase.CLOSED else text
