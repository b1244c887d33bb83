"""The record of what became of a training, from its result."""

from __future__ import annotations

from daemon.adapters.registry import DecisionRecord, Span, TriggerFact
from daemon.domain import iso
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
