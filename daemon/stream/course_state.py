"""What is remembered of an asset's episodes, as part of its record of state (``snapshot``)."""

from __future__ import annotations

import msgspec

from daemon.control import Feedback
from daemon.domain import AlertKind


class CourseState(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of an episode (``course.Course``)."""

    fingerprint: str
    model: str
    opened_ns: int
    onset_ns: int
    kinds: list[AlertKind]
    score: float
    leading: list[tuple[str, int]]  # sensor, side
    jumps: list[tuple[str, float]]
    sustained: list[tuple[str, int, float, float]]  # sensor, side, share, size
    deviated: list[str]
    latents: list[bytes]  # (Z,) each, single precision
    anywhere: bool
    near: bool
    like: str
    feedback: Feedback | None
    onsets: list[int]
    held_back: int
    stuck: list[str]
    ended_ns: int
    places: list[tuple[str, float, float, float]]  # sensor, low, high, size


class QuietState(msgspec.Struct, frozen=True, array_like=True):
    """Rows that a verdict has held back (``dismissal``)."""

    like: list[str]  # fingerprints
    since: int
    last: int
    rows: int


MEASURED = -1
"""Instead of a number of rows: what is left of a level has been measured."""


class AcceptedLevel(msgspec.Struct, array_like=True):
    """By how much a sensor was off in an alert that was accepted (``acceptance.Acceptances``); all in the sensor's unit."""

    sensor: str
    side: int  # 1: above what is expected, -1: below
    size: float  # mean distance from that
    place: float  # what the sensor read on average
    explains: bool  # without it the others were as expected, and not with it
    left: float  # of the size, that the model in force has not learned
    rows: int = 0  # at that place, by which that is measured; ``MEASURED``
    apart_sum: float = 0.0  # the sum of the distances at these

    def begin_anew(self) -> None:
        """A model comes into force that is not known to have learned any of it."""
        self.left, self.rows, self.apart_sum = self.size, 0, 0.0


class AcceptedState(msgspec.Struct, frozen=True, array_like=True):
    """Levels of an alert that was accepted."""

    fingerprint: str
    began: int
    levels: list[AcceptedLevel]


class MemoryState(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of an asset's episodes, and what people said of them (``dismissal.Dismissals``)."""

    run: CourseState | None
    open: list[CourseState]
    closed: list[CourseState]
    dismissed: list[CourseState]
    quiet: QuietState | None
    deviating: list[tuple[str, QuietState]]  # by sensor
    accepting: list[str]  # fingerprints
