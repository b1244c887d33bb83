"""The one-sentence summary of an alert, which has to suffice on a phone at night."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from daemon.alert import AcceptedChange, AlertPart
from daemon.control import Feedback, Verdict
from daemon.documents import counted
from daemon.domain import DAY_NS, SECOND_NS, AlertEvent, AlertKind, Contributor, PartScore, Phase, iso
from daemon.stream.deviation import BOTH_WAYS

WORTH_NAMING = 0.5
"""Another contributor is named with at least so much of the first one's share."""


MOST_ACCEPTED_NAMED = 4
"""Sensors that a sentence about what was accepted names."""


def number(value: float | None) -> str:
    """Four significant digits, or ``missing``."""
    return "missing" if value is None else f"{value:.4g}"


def lasting(span_ns: int) -> str:
    """A duration in the largest unit of which it has two: ``90 min``, ``3 h``; ``one row`` from a row to itself."""
    if not span_ns:
        return "one row"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if span_ns >= 2 * size * SECOND_NS:
            return f"{span_ns / (size * SECOND_NS):.3g} {unit}"
    return f"{span_ns / SECOND_NS:.3g} s"


def lasted_ns(event: AlertEvent, now_ns: int = 0) -> int:
    """How long an alert has lasted, as every page, table and sentence says it: from its onset to its last bad row.

    Args:
        event: its newest message.
        now_ns: the newest row of its stream, up to which one that is open lasts; 0: the message's own.
    """
    until_ns = event.row_ns if event.ended_ns is None else event.ended_ns
    if not event.over and not event.quiet:
        until_ns = max(until_ns, now_ns)
    return max(until_ns - event.onset_ns, 0)


def unread(faults: Mapping[str, int]) -> str:
    """How many values came all the same, and why none is a number: ``: 812 values came, none could be read: text``."""
    if not faults:
        return ""
    ordered = sorted(faults.items(), key=lambda item: (-item[1], item[0]))
    named = [fault.replace("_", " ") + (f" {n:,}" if len(ordered) > 1 else "") for fault, n in ordered]
    return f": {counted(sum(faults.values()), 'value')} came, none could be read: {', '.join(named)}"


def leading_score(event: AlertEvent) -> PartScore | None:
    """The score that the alert is judged by; None if it has none."""
    return event.scores.get("sustained" if event.kind is AlertKind.DEVIATION else "combined")


def _reason(event: AlertEvent) -> str:
    """What makes the row an anomaly: its score, or where that is below its threshold a jump; empty if neither."""
    if not any(part.kind is AlertKind.ANOMALY for part in event.parts):
        return ""  # the scores of the row may be those of another alert
    combined, jump = event.scores.get("combined"), event.scores.get("jump")
    if combined is not None and combined.value > combined.threshold:
        return f"; score {combined.value:.2f} over {combined.threshold:.2f}"
    if jump is not None and jump.value > jump.threshold:
        return f"; a jump of {jump.value:.3g} times its limit"
    return ""


def difference(contributor: Contributor, *, others: bool) -> str:
    """What is unusual of a sensor: ``pressure 0.6 bar below what the other sensors imply``.

    Args:
        contributor: the sensor.
        others: whether the stream has other sensors.
    """
    c, implied = contributor, "what the other sensors imply" if others else "what is usual"
    unit = "" if c.unit is None else f" {c.unit}"
    if c.observed is None or c.expected is None:
        return f"{c.sensor} unusual"
    apart = c.observed - c.expected
    if c.apart is not None and abs(apart) < BOTH_WAYS * c.apart:
        return f"{c.sensor} {_size(c.apart)}{unit} to both sides of {implied}"
    if not apart or not math.isfinite(apart):
        return f"{c.sensor} {number(c.observed)}{unit} (expected {number(c.expected)})"
    way = "above" if apart > 0 else "below"
    return f"{c.sensor} {_size(abs(apart))}{unit} {way} {implied}"


def _size(value: float) -> str:
    """Two significant digits."""
    return f"{float(f'{value:.2g}'):g}"


def accepted(changes: Sequence[AcceptedChange]) -> str:
    """What has become normal: ``accepted: pressure +1.29 bar, flow -0.8``; empty: nothing."""
    named = [_change(one) for one in changes[:MOST_ACCEPTED_NAMED]]
    more = len(changes) - len(named)
    return f"accepted: {', '.join(named)}{f' and {more} more' if more > 0 else ''}" if named else ""


def was_planned(event: AlertEvent) -> bool:
    """Whether an alert was open when it was called planned."""
    return event.feedback is not None and event.feedback.verdict is Verdict.PLANNED


def _change(one: AcceptedChange) -> str:
    if one.change is None:
        return f"{one.sensor} as it reads now"
    return f"{one.sensor} {one.change:+.3g}{'' if one.unit is None else f' {one.unit}'}"


def trend(event: AlertEvent) -> str:
    """How a sensor moves from day to day, and for how long it has."""
    since = iso(event.onset_ns)
    if event.per_day is None:
        verb = "moved" if event.phase is Phase.CLOSED else "moves"
        return f"{event.asset}: {event.sensor} {verb} against what the other sensors imply since {since}"
    verbs = ("rose", "fell") if event.phase is Phase.CLOSED else ("rises", "falls")
    verb = verbs[event.per_day < 0]
    others = [c.sensor for c in event.contributors if c.sensor != event.sensor][:2]
    beside = f" (or {', '.join(others)} against it)" if others else ""
    days = round(lasted_ns(event) / DAY_NS)
    return (
        f"{event.asset}: {event.sensor} {verb} by {_per_day(event)} against what the other sensors"
        f" imply{beside}, for {days} d, since {since}"
    )


def _per_day(event: AlertEvent) -> str:
    """How far its sensor moves in a day, with the unit where that is known."""
    assert event.per_day is not None
    unit = next((c.unit for c in event.contributors if c.sensor == event.sensor), None)
    return f"{number(abs(event.per_day))}{'' if unit is None else f' {unit}'} a day"


def summary(event: AlertEvent, *, others: bool = True) -> str:
    """What is unusual, of which asset or sensor, since when and for how long: one sentence.

    Args:
        event: the alert.
        others: whether the stream has several sensors, so that what is expected of one depends on the others.
    """
    when = iso(event.onset_ns)
    match event.kind:
        case AlertKind.SENSOR_SILENT:
            text = f"{_lasting_fault(event, 'sent no value')}{unread(event.unread)}"
        case AlertKind.SENSOR_STUCK:
            text = _lasting_fault(event, "not moved")
        case AlertKind.ASSET_SILENT:
            over = f"had sent nothing since {when}, for {lasting(lasted_ns(event))}"
            text = (
                f"{event.asset} {over if event.phase is Phase.CLOSED else f'has sent nothing since {when}'}"
            )
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
            of_it = "" if event.asset == event.stream else " of it"
            text = (
                f"the readings of {event.asset} have drifted from what the model learned{of_it}, since {when}"
            )
            if event.contributors:
                # Where the others move alike, it is from itself that a sensor is apart.
                implied = event.drift is None or event.drift.residual_kl > event.drift.residual_threshold
                named = [difference(c, others=others and implied) for c in event.contributors[:3]]
                text += f": {', '.join(named)}"
        case AlertKind.DEVIATION if event.sensor is not None:
            text = trend(event)
        case _:
            text = f"{event.asset}: {_unusual(event, others)}, since {when}"
            if lasted := lasted_ns(event):
                text += f", for {lasting(lasted)}"
            text += "" if event.phase is Phase.CLOSED else _reason(event)
            if event.per_day is not None:
                text += f"; it {'rises' if event.per_day > 0 else 'falls'} by {_per_day(event)}"
    if event.kind in (AlertKind.SENSOR_SILENT, AlertKind.SENSOR_STUCK):
        rest = [name for name in event.sensors if name != event.sensor]
        text += f"; with {', '.join(rest)}" if rest else ""
    if joined := [
        kind.replace("_", " ") for kind in event.kinds if kind not in (event.kind, AlertKind.REGIME)
    ]:
        text += f"; also {', '.join(joined)}"
        if event.kind in (AlertKind.SENSOR_SILENT, AlertKind.SENSOR_STUCK) and not _own_part(event):
            text += f"; for {lasting(lasted_ns(event))} in all, since {when}"
    if event.regime is not None:
        text += f"; steady since {iso(event.regime.since_ns)}: a new regime"
        if event.regime.accepted:
            became = accepted(event.accepted)
            return f"{text}, which is normal from now on" + (f" ({became})" if became else "")
    if event.maintenance is not None:
        return f"{text} (under maintenance: {event.maintenance})"
    if event.continued_by is not None:
        return f"{text}; another alert goes on, as it has become far more"
    if event.model_changed:
        return f"{text}; the model has changed, and its drift is measured anew"
    if event.absorbed:
        return f"{text}; it is still so, and counts as usual by now"
    if event.returned and (event.kind is not AlertKind.SENSOR_STUCK or _own_part(event) is not None):
        text += f"; it has come back {'once' if event.returned == 1 else f'{event.returned} times'}"
    if event.quiet and event.ended_ns is not None:
        return f"{text}; quiet since {iso(event.ended_ns)}"
    if event.phase is not Phase.CLOSED:
        return text
    return text + _ending(event.feedback, event.accepted)


def _ending(feedback: Feedback | None, changes: Sequence[AcceptedChange] = ()) -> str:
    """How the sentence of an alert that is over ends: ``(over; planned, by kim; accepted: pressure +1.29 bar)``."""
    said = "" if feedback is None else _said(feedback)
    return f" ({'; '.join(filter(None, ('over', said, accepted(changes))))})"


def after(event: AlertEvent, feedback: Feedback | None) -> str:
    """The sentence of an alert, with what a later verdict says of it in place of what its last message had.

    Args:
        event: its newest message, which may have been read back.
        feedback: the verdict that counts; None: none is known but the message's own.
    """
    if feedback is None or feedback == event.feedback or event.phase is not Phase.CLOSED:
        return event.summary
    for changes in (event.accepted, ()):  # messages of earlier versions say nothing of these
        ending = _ending(event.feedback, changes)
        if event.summary.endswith(ending):
            return event.summary.removesuffix(ending) + _ending(feedback)
    return event.summary  # it is over for another reason, which it says


def _said(feedback: Feedback) -> str:
    """What a person has said of an alert: ``false alarm, by kim``."""
    return feedback.verdict.value.replace("_", " ") + (f", by {feedback.by}" if feedback.by else "")


def _own_part(event: AlertEvent) -> AlertPart | None:
    """What its kind says, if that is open."""
    own = (part for part in event.parts if part.kind is event.kind and part.sensor == event.sensor)
    return next(own, None)


def _lasting_fault(event: AlertEvent, what: str) -> str:
    """What a silent or stuck sensor has not done, and since when; others may have joined it, earlier or later ones."""
    own = _own_part(event)
    if own is not None:
        return f"{event.asset}: {event.sensor} has {what} since {iso(own.onset_ns)}"
    if event.returned:
        return f"{event.asset}: {event.sensor} had {what} at {event.returned + 1} times since {iso(event.onset_ns)}"
    alone = f" since {iso(event.onset_ns)}, for {lasting(lasted_ns(event))}" if len(event.kinds) <= 1 else ""
    return f"{event.asset}: {event.sensor} had {what}{alone}"


def _unusual(event: AlertEvent, others: bool) -> str:
    """What the first contributor shows, and who else does."""
    if not event.contributors:
        return "unusual"
    first, *rest = event.contributors
    text = difference(first, others=others)
    named = [c.sensor for c in rest if c.share >= WORTH_NAMING * first.share][:2]
    return text if not named else f"{text}, with {' and '.join(named)}"
