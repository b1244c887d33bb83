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


UNSEEN = -1
"""Row at which a level was seen that was not."""


class AcceptedLevel(msgspec.Struct, array_like=True):
    """Where a sensor was in an alert that was accepted (``acceptance.Acceptances``); all in the sensor's unit."""

    sensor: str
    side: int  # 1: above what was expected, -1: below
    size: float  # mean distance from that
    expected: float  # of it then, by the model that was in force
    spread: float  # standard deviation of its readings in that model's training; 0: unknown
    seen: int = UNSEEN  # row at which the present baseline took it in
    rows: int = 0  # with nothing open, in which it may be shown to be learned ...
    observed_sum: float = 0.0  # ... and the sums over these
    expected_sum: float = 0.0

    @property
    def place(self) -> float:
        """What the sensor read on average."""
        return self.expected + self.side * self.size

    def add(self, observed: float, expected: float) -> None:
        """Take in such a row."""
        self.rows += 1
        self.observed_sum += observed
        self.expected_sum += expected

    def begin_anew(self) -> None:
        """A baseline begins that has not taken it in."""
        self.seen = UNSEEN
        self.forget_rows()

    def forget_rows(self) -> None:
        """Begin anew with these rows."""
        self.rows, self.observed_sum, self.expected_sum = 0, 0.0, 0.0


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
