"""Silence by habit: at which hours of the week a sensor, or a whole asset, is usually silent.

Why: an inverter reports no voltage at night, and a plant that rests on Sundays sends nothing at all. Such a silence
is no fault; the same silence at eleven in the morning is one, and so is one that lasts beyond the habit. Training
learns the habit (``model.silence_habit``), a model carries it, and the stream asks one question of it: from when on
is a silence that began at this time unusual (``due_ns``)?

**The rule.** A silence is unusual once it has lasted for ``patience`` outside of the habit's hours, if any of that
was more than ``MARGIN`` away from them; and in any case once it is longer than the longest of training by two
margins. Where training holds silences at no particular hour on most days (at every stop of a machine), silences up to
``any_hour_ns`` are usual at all hours. Without habits this is the plain rule: ``patience`` after the last value.

**Hours are UTC**, of the week that begins on Thursday, as the epoch did. ``MARGIN`` is one hour because that is by
how much daylight saving time moves a plant's hours; it also covers dusk where it moves between two trainings.

The answer is a pure function of times: nothing of it is state. A *place* is one of the C sensors, or C for the asset as a
whole. The assets of a stream share one habit per place; an asset that training knows to be different has its own.
Shapes: H habits, those of the C + 1 places and then the own ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from daemon.domain import DAY_NS, SECOND_NS, Ints, Mask

SLOT_NS = 900 * SECOND_NS
"""Hours are kept in quarters: dusk is known no better."""
WEEK_NS = 7 * DAY_NS
DAY_SLOTS = DAY_NS // SLOT_NS
SLOTS = WEEK_NS // SLOT_NS
MARGIN_NS = 3_600 * SECOND_NS
NEVER_NS = 1 << 62
LONGEST_NS = 36_500 * DAY_NS
"""No silence is longer, so that the sum of it and a time stays below 2^63 ns."""
DAY_NAMES = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")
"""Of the week, as it is counted here."""


@dataclass(frozen=True, slots=True, eq=False)
class SilenceHabit:
    """The learned habits of one stream's assets.

    Where no silence is usual, a habit has no usual slot, and zeros.
    """

    usual: Mask  # (H, SLOTS) the quarters of the week at which a silence is usual
    longest_ns: Ints  # (H,) the longest usual silence of training
    any_hour_ns: Ints  # (H,) silences up to this long are usual at any hour
    own: tuple[tuple[str, int], ...] = ()  # asset and place of the habits after the first C + 1
    _own: Mapping[tuple[str, int], int] = field(init=False, repr=False)
    _outside: tuple[Ints, ...] = field(init=False, repr=False)  # H times (SLOTS + 1,), see ``_unusual_time``
    _far: tuple[Ints, ...] = field(init=False, repr=False)  # the same, a margin away from the habit

    def __post_init__(self) -> None:
        first = len(self.usual) - len(self.own)
        object.__setattr__(self, "_own", {key: first + i for i, key in enumerate(self.own)})
        wider = self.usual.copy()
        for shift in range(1, MARGIN_NS // SLOT_NS + 1):
            wider |= np.roll(self.usual, shift, 1) | np.roll(self.usual, -shift, 1)
        object.__setattr__(self, "_outside", _unusual_time(self.usual))
        object.__setattr__(self, "_far", _unusual_time(wider))

    def arrays(self) -> dict[str, np.ndarray]:
        """What a bundle stores: 84 bytes and two numbers per place."""
        return {
            "usual": np.packbits(self.usual, axis=1),
            "longest_ns": self.longest_ns,
            "any_hour_ns": self.any_hour_ns,
        }

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], own: Sequence[tuple[str, int]] = ()) -> SilenceHabit:
        """The inverse of ``arrays``."""
        usual = np.unpackbits(arrays["usual"], axis=1).astype(bool)
        return SilenceHabit(usual, arrays["longest_ns"], arrays["any_hour_ns"], tuple(own))

    @property
    def whole(self) -> int:
        """The place of the asset as a whole, C."""
        return len(self.usual) - len(self.own) - 1

    def which(self, asset: str, place: int) -> int:
        """The habit that counts for an asset's place."""
        return self._own.get((asset, place), place)

    def has(self, habit: int) -> bool:
        """Whether any silence is usual by this habit."""
        return bool(self.longest_ns[habit])

    def due_ns(self, habit: int, begin_ns: Ints, patience_ns: int) -> Ints:
        """(N,) from when on silences are unusual.

        Args:
            habit: of ``which``.
            begin_ns: (N,) when the last value came; not negative.
            patience_ns: for how long a silence is no alarm at any time; at least 1.
        """
        begin = np.asarray(begin_ns, np.int64)
        outside, far = self._outside[habit], self._far[habit]
        any_hour = int(self.any_hour_ns[habit])
        usual = np.maximum(
            _reached(outside, _elapsed(outside, begin) + patience_ns), _reached(far, _elapsed(far, begin) + 1)
        )
        usual = np.maximum(usual, begin + any_hour)
        longest = begin + max(int(self.longest_ns[habit]) + 2 * MARGIN_NS, any_hour)
        return np.asarray(np.maximum(begin + patience_ns, np.minimum(usual, longest)))

    def unusual_ns(self, habit: int, begin_ns: Ints, end_ns: Ints) -> Ints:
        """(N,) how much of the times between these lies outside of the habit's hours."""
        outside = self._outside[habit]
        return _elapsed(outside, end_ns) - _elapsed(outside, begin_ns)

    def usual_at(self, habit: int, times_ns: Ints) -> Mask:
        """(N,) whether a silence at these times is usual by this habit."""
        return np.asarray(self.usual[habit, times_ns % WEEK_NS // SLOT_NS])

    def described(self, sensors: tuple[str, ...]) -> list[str]:
        """The habits in words, one line each."""
        names = (*sensors, "the whole asset")
        of_all = enumerate(names)
        lines = []
        for i, name in [*of_all, *((self._own[key], f"{key[0]}: {names[key[1]]}") for key in self.own)]:
            lines += [f"{name}: silent {when} UTC" for when in _in_words(self.usual[i])]
            if self.any_hour_ns[i]:
                lines.append(f"{name}: silent for up to {self.any_hour_ns[i] / 3.6e12:.3g} h at any hour")
            if i >= len(names) and not self.has(i):
                lines.append(f"{name}: never silent")
        return lines


def _unusual_time(usual: Mask) -> tuple[Ints, ...]:
    """Per place, (SLOTS + 1,) the unusual time from the beginning of the week to that of each slot, in ns."""
    sums = np.cumsum(np.where(usual, 0, SLOT_NS), axis=1, dtype=np.int64)
    return tuple(np.concatenate([np.zeros((len(usual), 1), np.int64), sums], axis=1))


def _elapsed(sums: Ints, times_ns: Ints) -> Ints:
    """(N,) the unusual time from the epoch to these times."""
    weeks, rest = np.divmod(times_ns, WEEK_NS)
    slots, within = np.divmod(rest, SLOT_NS)
    return np.asarray(weeks * sums[-1] + sums[slots] + np.where(np.diff(sums)[slots] > 0, within, 0))


def _reached(sums: Ints, elapsed_ns: Ints) -> Ints:
    """(N,) the first time at which so much unusual time, at least 1 ns, has gone by since the epoch."""
    if not sums[-1]:
        return np.full(len(elapsed_ns), NEVER_NS)
    weeks, rest = np.divmod(elapsed_ns - 1, sums[-1])
    end = np.searchsorted(sums, rest + 1)  # the slots before this one hold it
    return np.asarray(weeks * WEEK_NS + end * SLOT_NS - (sums[end] - rest - 1))


def _in_words(usual: Mask) -> list[str]:
    """The runs of slots (SLOTS,) of a week, those of every day once."""
    if usual.all():
        return ["at all hours"]
    days = usual.reshape(7, DAY_SLOTS)
    daily: Mask = np.asarray(days.all(0))
    lines = [f"every day from {clock_time(a)} to {clock_time(b)}" for a, b in _runs(daily)]
    rest = (days & ~daily).ravel()
    for a, b in _runs(rest):
        lines.append(
            f"from {DAY_NAMES[a // DAY_SLOTS % 7]} {clock_time(a)} to {DAY_NAMES[b // DAY_SLOTS % 7]} {clock_time(b)}"
        )
    return lines


def _runs(marked: Mask) -> list[tuple[int, int]]:
    """Beginning and end of each run in a circle; one that goes across the end is one run."""
    if marked.all():
        return [(0, len(marked))]
    begins = np.flatnonzero(marked & ~np.roll(marked, 1)).tolist()
    ends = np.flatnonzero(marked & ~np.roll(marked, -1)).tolist()
    if begins and ends[0] < begins[0]:
        ends = [*ends[1:], ends[0]]
    return [(a, (b + 1) % len(marked)) for a, b in zip(begins, ends, strict=True)]


def clock_time(slot: int) -> str:
    """When a slot begins, as 06:15."""
    minutes = slot % DAY_SLOTS * (SLOT_NS // (60 * SECOND_NS))
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
