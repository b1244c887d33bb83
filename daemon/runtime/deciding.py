"""The records of what became of a training: from its result, and of a candidate in shadow from what it was before."""

from __future__ import annotations

import msgspec

from daemon.adapters.registry import DecisionRecord, ShadowFact, Span, TriggerFact
from daemon.alert import ShadowCounts
from daemon.domain import iso
from daemon.model.decision import Rule
from daemon.runtime.trainer import TrainingResult
from daemon.trigger import Trigger

MOST_LINES = 100
"""Concerns, and notes, that a record has."""


def record_of(stream: str, result: TrainingResult, trigger: Trigger, time: str) -> DecisionRecord:
    """The record of a training that has ended.

    Args:
        stream: its name.
        result: of the training; promoted only if it is to be used.
        trigger: what made it due.
        time: of day, RFC 3339.
    """
    span, decision = result.span_ns, result.decision
    return DecisionRecord(
        stream=stream,
        trigger=TriggerFact(
            str(trigger.cause), trigger.reason, trigger.position, trigger.requests, trigger.of_topic
        ),
        promoted=result.promoted,
        reason=result.reason,
        time=time,
        version=result.version,
        parent=result.parent,
        rules=() if decision is None else tuple(rule.facts() for rule in decision.rules),
        span=None if span is None else Span(*map(iso, span)),
        until="" if result.until_ns is None else iso(result.until_ns),
        rows=result.rows,
        left_out=dict(result.left_out),
        concerns=tuple(result.concerns[:MOST_LINES]),
        notes=tuple(result.notes[:MOST_LINES]),
        seconds=round(result.seconds, 1),
    )


def into_shadow(record: DecisionRecord, since_ns: int, lasts_ns: int) -> DecisionRecord:
    """The record of a candidate that is to be promoted, if its shadow (event times) shows nothing against it."""
    fact = ShadowFact(iso(since_ns), iso(since_ns + lasts_ns))
    return msgspec.structs.replace(record, promoted=False, shadow=fact)


def out_of_shadow(
    record: DecisionRecord,
    time: str,
    *,
    reason: str,
    promoted: bool = False,
    rule: Rule | None = None,
    counts: ShadowCounts | None = None,
) -> DecisionRecord:
    """The record of a candidate whose shadow is over.

    Args:
        record: with which it went into shadow.
        time: of day, RFC 3339.
        reason, promoted, rule, counts: of what was decided; a rule, and counts, where it was judged.
    """
    assert record.shadow is not None
    return msgspec.structs.replace(
        record,
        promoted=promoted,
        reason=reason,
        time=time,
        rules=record.rules if rule is None else (*record.rules, rule.facts()),
        shadow=msgspec.structs.replace(record.shadow, over=True, counts=counts),
    )


def void_shadow(record: DecisionRecord, time: str, reason: str) -> DecisionRecord:
    """Likewise where nothing was decided, as another model was put in force meanwhile."""
    over = out_of_shadow(record, time, reason=reason)
    assert over.shadow is not None
    return msgspec.structs.replace(over, shadow=msgspec.structs.replace(over.shadow, void=True))
