"""What the numbers of a sensor show of its nature: a counter, an angle, a constant, sentinels, reports on change.

Each function looks at one thing and gives a ``Fact`` or None: what the configuration should say, and why in words.
A fact that is ``certain`` is written, another one proposed in a comment. None of them knows where the numbers came
from: a ``Series`` has the readings of one sensor, an array of times and of numbers per asset.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from daemon.adapters.sample.config_text import span
from daemon.documents import counted
from daemon.domain import DAY_NS, SECOND_NS, Floats, Ints
from daemon.nature import FEW, called_counter, far_end, resets, strays, words_of
from daemon.stream.extract.units import conversion

REST: Final = 0.05
"""The share of rows at rest, at least, that is worth a word."""
MANY_STATES: Final = 12
"""More different texts than this are no states."""
_ANGLE_WORDS: Final = re.compile(
    r"(?:^|[^a-z])(?:angle|heading|azimuth|direction|bearing|yaw|wdir|winddir|course|deg|degrees)(?:$|[^a-z])"
)
_NICE_NS: Final = tuple(
    seconds * SECOND_NS
    for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
)


@dataclass(frozen=True, slots=True)
class Fact:
    """A key of a sensor and its value, and why; without a key a remark alone."""

    key: str
    value: Any
    why: str
    certain: bool = True  # written; else proposed in a comment


def unit(seen: Mapping[str, int]) -> Fact | None:
    """The unit that most of its values name, to which others are converted.

    Where one cannot be, its values would be masked: the unit is proposed alone.
    """
    if not seen:
        return None
    usual, *others = sorted(seen, key=lambda text: (-seen[text], text))
    strange = [text for text in others if conversion(text, usual) is None]
    if strange:
        return Fact(
            "unit",
            usual,
            f"its messages say so; also in {', '.join(strange[:4])}, which cannot be converted and would be masked",
            certain=False,
        )
    also = (
        f"; also in {', '.join(others[:4])}, which {'is' if len(others) == 1 else 'are'} converted"
        if others
        else ""
    )
    return Fact("unit", usual, f"its messages say so{also}")


@dataclass(frozen=True, eq=False)
class Series:
    """The readings of one sensor: per asset its times, rising, and its numbers, all finite."""

    name: str
    times: Sequence[Ints]
    numbers: Sequence[Floats]

    @cached_property
    def all(self) -> Floats:
        """The numbers of all assets."""
        return np.concatenate(list(self.numbers)) if self.numbers else np.empty(0)

    @cached_property
    def steps(self) -> Floats:
        """The differences of successive numbers within an asset."""
        return np.concatenate([np.diff(each) for each in self.numbers]) if self.numbers else np.empty(0)

    @cached_property
    def gaps(self) -> Ints:
        """The differences of successive times within an asset."""
        return np.concatenate([np.diff(each) for each in self.times]) if self.times else np.empty(0, np.int64)

    def without(self, sentinels: Sequence[float]) -> Series:
        """The series without numbers that stand for no value."""
        kept = [~np.isin(each, list(sentinels)) for each in self.numbers]
        return Series(
            self.name,
            [times[k] for times, k in zip(self.times, kept, strict=True)],
            [numbers[k] for numbers, k in zip(self.numbers, kept, strict=True)],
        )


# ------------------------------------------------------------------ what a number is
def constant(series: Series) -> Fact | None:
    """One number throughout. It stays: what never changed in a sample may do so when something fails."""
    if len(series.all) < FEW or (series.all != series.all[0]).any():
        return None
    return Fact("", None, f"always {series.all[0]:g} in the sample: leave it out if it cannot change")


def counter(series: Series) -> Fact | None:
    """Numbers that only rise, but for resets to near nothing (``nature.resets``)."""
    falls, steps = resets(series.name, series.numbers), series.steps
    if falls is None:
        return None
    if not called_counter(series.name) and (steps[steps != 0] == steps[steps != 0][0]).all():
        return Fact("", None, "it rises by the same each time: leave it out if it numbers the messages")
    said = f", but for {falls} reset{'s' * (falls > 1)}" if falls else ""
    return Fact("counter", True, f"it only rises{said}: its rate is watched")


def angle(series: Series) -> Fact | None:
    """Numbers from 0 to 360 (or from -180 to 180) that jump from one end to the other, or are called an angle."""
    numbers = series.all
    if len(numbers) < FEW or numbers.max() > 360 or numbers.min() < -180 or np.ptp(numbers) > 360:
        return None
    wraps = int((np.abs(series.steps) > 270).sum())
    called = _ANGLE_WORDS.search(words_of(series.name)) is not None
    ends = numbers.max() > 330 and 0 <= numbers.min() < 30
    if called and (np.ptp(numbers) > 180 or wraps):
        return Fact("angle", 360, "named like an angle, with numbers of a circle", certain=False)
    if ends and wraps and wraps < 0.2 * len(series.steps):
        return Fact(
            "angle",
            360,
            f"from {numbers.min():g} to {numbers.max():g}, and jumps between the ends",
            certain=False,
        )
    return None


def sentinels(series: Series) -> Fact | None:
    """Numbers that stand for no value (``nature``): of those that people choose two suffice.

    Any other number that is repeated exactly and lies far outside, zeros above all, may be a state: it is proposed.
    """
    numbers = series.all
    found = strays(series.numbers)
    if found.sentinels:
        return Fact(
            "missing",
            [_plain(each) for each in found.sentinels],
            f"far outside of the rest: {_times(found.sentinels, numbers)}",
        )
    odd = far_end(numbers, 20.0, 3, codes_only=False)
    likely = found.repeated or (() if odd is None else (odd,))
    if not likely:
        return None
    why = f"{_times(likely, numbers)}, far outside of the rest: no value, or a state?"
    return Fact("missing", [_plain(each) for each in likely], why, certain=False)


def resting(sensors: Sequence[Series]) -> tuple[list[str], int]:
    """The sensors that read exactly 0 in the same rows, for long and often, and how many rows these are.

    A machine at rest, by transmitters with a cut-off. The step from there to work is so much larger than what a sensor
    does at work that a model of both is blind to the latter.
    """
    groups: dict[bytes, list[Series]] = {}
    for series in sensors:
        at = [times[numbers == 0] for times, numbers in zip(series.times, series.numbers, strict=True)]
        rows, ends = sum(map(len, at)), sum(int(np.diff(n == 0).sum()) for n in series.numbers)
        often = REST * len(series.all) <= rows < len(series.all) - FEW
        if often and rows >= FEW * max((ends + 1) // 2, 1):
            groups.setdefault(b"|".join(each.tobytes() for each in at), []).append(series)
    most = max(groups.values(), key=len, default=[])
    if len(most) < 2:
        return [], 0
    return [series.name for series in most], int((most[0].all == 0).sum())


def _times(of: Sequence[float], numbers: Floats) -> str:
    return ", ".join(f"{each:g} {int((numbers == each).sum())} times" for each in of)


def _plain(number: float) -> float | int:
    return int(number) if number == int(number) and abs(number) < 2**53 else number


# ------------------------------------------------------------------ when a number comes
def seldom(series: Series, rows: int, period_ns: int, *, gathered: bool) -> Fact | None:
    """A sensor that has a number in less than half of the rows: what it sent last stands until it sends again.

    Args:
        series: of the sensor.
        rows: of all assets that have the sensor.
        period_ns: of the stream.
        gathered: whether a missing number was not sent, rather than sent as missing.
    """
    gaps = series.gaps[series.gaps > 0]
    held = rows_of(series.times, period_ns)
    if len(gaps) < 10 or 2 * held > rows or len(series.steps) != len(series.gaps):
        return None
    middle = float(np.median(gaps))
    steady = float(np.mean(np.abs(gaps / middle - 1) < 0.2)) >= 0.6
    if steady and middle < 1.5 * period_ns:
        return None  # it sends in every row for a while, and then not at all
    share = f"{100 * held / max(rows, 1):.0f} % of the rows"
    long = nice_span(1.5 * middle if steady else float(np.quantile(gaps, 0.99)))
    if steady:
        why = f"it sends every {span(round(middle / 1e6) * 10**6)}, in {share}"
    elif np.mean(series.steps != 0) > 0.9:
        why = f"it seems to report on change: in {share}, never the same number twice"
    else:
        why = f"it comes in {share}, at no steady rate"
    return Fact("hold", long, f"{why}; its last value stands so long", certain=gathered)


def rows_of(tracks: Sequence[Ints], period_ns: int) -> int:
    """The rows that these rising times are in."""
    return sum(1 + int(np.count_nonzero(np.diff(times // period_ns))) for times in tracks if len(times))


def nice_span(ns: float) -> str:
    """A round duration that is at least so long, a day at most, as the configuration writes it."""
    return span(next((nice for nice in _NICE_NS if nice >= ns), DAY_NS))


def too_fast(series: Series, period_ns: int, *, rising: bool) -> Fact | None:
    """A sensor that sends several numbers within a row."""
    sent, rows = rows_of(series.times, 1), rows_of(series.times, period_ns)
    if rows < FEW or sent < 1.5 * rows:
        return None
    reduce = "last" if rising else "mean"
    return Fact("reduce", reduce, f"{sent / rows:.1f} numbers in a row of {span(period_ns)}")


# ------------------------------------------------------------------ what is no number
def kinds_seen(kinds: Mapping[str, int], texts: Mapping[str, int]) -> list[Fact]:
    """Booleans, numbers in quotes, and texts among the numbers of a sensor.

    Args:
        kinds: JSON kinds of its cells, with how many there are.
        texts: those of its texts that are no numbers.
    """
    found = []
    wrong = sum(texts.values())
    if kinds.get("boolean"):
        found.append(Fact("", None, "true and false are read as 1 and 0"))
    if kinds.get("text", 0) > wrong:
        found.append(Fact("", None, "its texts are read as numbers"))
    if wrong:
        some = ", ".join(repr(text) for text, _ in Counter(texts).most_common(3))
        found.append(
            Fact(
                "states",
                states_of(texts),
                f"{counted(wrong, 'text')} that {'is' if wrong == 1 else 'are'} no number ({some})",
                certain=False,
            )
        )
    return found


def states_of(texts: Mapping[str, int]) -> dict[str, int]:
    """A number for each text, in the order of the alphabet."""
    return {text: number for number, text in enumerate(sorted(texts)[:MANY_STATES])}


def duplicates(names: Sequence[str], columns: Floats) -> dict[str, Fact]:
    """Sensors that are others over again: the same numbers, or exactly a multiple of them.

    Args:
        names: (C,) of the sensors.
        columns: (N, C) their numbers on common rows, NaN where one has none.
    """
    found: dict[str, Fact] = {}
    same: dict[bytes, str] = {}
    multiples: dict[bytes, tuple[str, float]] = {}
    for name, column in zip(names, columns.T, strict=True):
        there = column[np.isfinite(column)]
        if len(there) < FEW or (there == there[0]).all():
            continue
        mask = np.isfinite(column).tobytes()
        if (twin := same.setdefault(mask + column.tobytes(), name)) != name:
            found[name] = Fact("", None, f"the same numbers as {twin[:60]}: one of them may be left out")
            continue
        scale = float(np.abs(there).max())
        form = np.round(there / (scale * np.sign(there[np.argmax(np.abs(there))])), 9)
        twin, other = multiples.setdefault(mask + form.tobytes(), (name, scale))
        if twin != name:
            found[name] = Fact(
                "", None, f"exactly {scale / other:.6g} times {twin[:60]}: one of them may be left out"
            )
    return found


def is_event_time(numbers: Floats, times: Ints) -> bool:
    """Whether numbers are times themselves: within a day of the event times, as an epoch in some unit."""
    if len(numbers) < 3:
        return False
    return any(
        bool((np.abs(numbers * scale - times) < DAY_NS).all()) for scale in (1e9, 1e6, 1e3, 1.0)
    ) and bool((numbers > 1e8).all())
