"""Why a model is trained."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """What makes a training due."""

    FIRST = "first"  # the stream has no model
    SCHEDULE = "schedule"  # a multiple of ``retrain.every`` has passed
    DRIFT = "drift"  # three drift intervals of a partition in a row are above the thresholds
    FEEDBACK = "feedback"  # a person judged an episode since the last training
    REQUEST = "request"  # a person asked for it
    BY_HAND = "by hand"  # ``anomalyd train``, outside of the daemon


_IN_WORDS = {
    Cause.FIRST: "as the first",
    Cause.SCHEDULE: "by schedule",
    Cause.DRIFT: "for drift",
    Cause.FEEDBACK: "after a verdict",
    Cause.REQUEST: "on request",
}


def in_words(cause: str) -> str:
    """How a model was trained, for a table or a sentence: ``by schedule``, ``on request``; another text as it is."""
    return _IN_WORDS.get(Cause(cause), cause) if cause in set(Cause) else cause


@dataclass(frozen=True, slots=True)
class Trigger:
    """What made one training due, and which control messages it answers."""

    cause: Cause
    reason: str = ""  # in one line
    position: int = -1  # of the newest control message that was known when it began; -1: none
    requests: tuple[int, ...] = ()  # positions of the wishes for a training that it answers
    of_topic: int = -1  # of which topic these positions are, see ``Received``


UNKNOWN = Trigger(Cause.FIRST)
"""Before any training."""
