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


class QuietState(msgspec.Struct, frozen=True, array_like=True):
    """Rows that a verdict has held back (``dismissal``)."""

    like: list[str]  # fingerprints
    since: int
    last: int
    rows: int


class AcceptedState(msgspec.Struct, frozen=True, array_like=True):
    """Levels of an alert that was accepted (``acceptance.Acceptances``)."""

    fingerprint: str
    began: int
    levels: list[tuple[str, int, float, int]]  # sensor, side, size, row at which they were seen; -1: not yet


class MemoryState(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of an asset's episodes, and what people said of them (``dismissal.Dismissals``)."""

    run: CourseState | None
    open: list[CourseState]
    closed: list[CourseState]
    dismissed: list[CourseState]
    quiet: QuietState | None
    deviating: list[tuple[str, QuietState]]  # by sensor
    accepting: list[str]  # fingerprints
