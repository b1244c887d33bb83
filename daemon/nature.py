"""What the numbers of a sensor show of its nature: numbers that stand for no value, single stray ones, counters.

``init`` proposes settings by these rules (``adapters.sample.facts``), and training keeps by them what is no
measurement from being learned (``model.cleaning``). Pure functions of tracks: each the numbers of one asset in the
order of time, NaN where there is none.

**Sentinels.** A device that has no value may send a number in its place. Such a number is exact, repeated, and far
outside of all others; people choose nines and the ends of integers for it. Positive nines may be measured, too (a valve
that is open to 99.9 %): those that last, again and again, are a state. Any other number that is stray, again and again to
the last digit, may be a sentinel or a short trip to a limit: whoever knows the plant has to say which.

**Strays.** A number that lies beyond a void as wide as all numbers inside, alone or in a pair, with neighbours that go
on as if it were not there. What lasts is a state, what leads from one level to another (the inrush of a motor) belongs to
it, and numbers that thin out gradually (noise with heavy tails) leave no void: none of these is stray. Nor are numbers
that are much alike without being equal: something recurs, as a valve that is flushed each morning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from daemon.domain import Floats, Ints, Mask

FEW: Final = 30
"""Numbers that must be there before anything is said of their nature."""
MOST_SENTINELS: Final = 3
"""Different sentinels that one sensor has at most."""
FAR: Final = 3.0
"""A sentinel that people choose lies so many widths of all other numbers away from them."""
FENCE: Final = 3.0
"""Inside are the numbers within so many interquartile ranges of the quartiles: of a Gaussian all but some 1e-6."""
RUN: Final = 2
"""Neighbouring cells that may be stray together."""
SAME_LEVEL: Final = 0.8
"""Share of a sensor's usual range (all but one in fifty numbers) by which the neighbours of a stray cell may differ."""
OFTEN: Final = 5
"""Times that a stray number must come, to the last digit, to be a likely sentinel."""
LASTING: Final = 3
"""Spells of more than ``RUN`` cells that make a state of positive nines, if they are most of its spells."""
MOST_STRAYS: Final = 0.05
"""Share of the numbers that may lie outside: what is more frequent is how the sensor is."""
ALIKE: Final = 0.25
"""Interquartile range of recurring numbers, as a share of their distance from the others' middle, at most."""
_COUNTER_WORDS: Final = re.compile(
    r"(?:^|[^a-z])(?:total|totali[sz]er|counter|count|energy|kwh|mwh|wh|odometer|mileage|(?:run|operating)_?hours|runtime"
    r"|pulses?|cycles?|cumulative|consumption|produced|uptime|revolutions|packets|bytes|ticks|index)(?:$|[^a-z])"
)
_ENDS: Final = frozenset(end for bits in (15, 16, 31, 32) for end in (2**bits, 2**bits - 1, 2**bits - 2))


def words_of(name: str) -> str:
    """A name in lower case, with a space where a new word begins, for patterns of words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


# ------------------------------------------------------------------ sentinels
def is_code(number: float) -> bool:
    """Whether people choose this number to say that there is no value: nines, the ends of integers, tenths of these."""
    return _of_integers(number) or any(
        len(text) >= 3 and set(text) == {"9"} for text in map(str, _wholes(number))
    )


def _of_integers(number: float) -> bool:
    """Whether a number is an end of an integer type, or beyond what is measured."""
    ends = any(whole in _ENDS or (number < 0 and whole in (127, 128)) for whole in _wholes(number))
    return ends or abs(number) >= 1e20


def _wholes(number: float) -> list[int]:
    """The size of a number, ten and a hundred times it, as far as these are whole."""
    size = abs(number)
    scaled = [(size * scale, round(size * scale)) for scale in (1, 10, 100)] if size < 1e300 else []
    return [whole for exact, whole in scaled if abs(exact - whole) <= 1e-6 * max(size, 1)]


def codes(numbers: Floats, times: int) -> list[float]:
    """Numbers that people choose for no value, far outside of all others and there so many times at least.

    Args:
        numbers: (N,) finite.
        times: that each must be there.
    """
    found: list[float] = []
    while len(found) < MOST_SENTINELS and (odd := far_end(numbers, FAR, times, codes_only=True)) is not None:
        found.append(odd)
        numbers = numbers[numbers != odd]
    return found


def far_end(numbers: Floats, widths: float, times: int, *, codes_only: bool) -> float | None:
    """The smallest or largest number, if it is repeated, and the others are narrow and far from it."""
    if len(numbers) < FEW:
        return None
    ends = float(numbers.min()), float(numbers.max())
    for end in ends:
        if codes_only and not is_code(end):
            continue
        rest = numbers[numbers != end]
        if len(numbers) - len(rest) < times or len(rest) < max(20, 0.5 * len(numbers)):
            continue
        # The other end may be a sentinel, too: what is so far out on either side does not make the rest wide.
        inner = rest[rest != (ends[0] + ends[1] - end)] if is_code(ends[0]) and is_code(ends[1]) else rest
        low, high = np.quantile(inner if len(inner) else rest, [0.01, 0.99])
        away = float(np.abs(inner - end).min()) if len(inner) else 0.0
        wide = high - low if high > low or not codes_only else max(abs(low), 1.0)  # else of a constant sensor
        if wide > 0.0 and away > widths * max(wide, 1e-9 * abs(end)):
            return end
    return None


# ------------------------------------------------------------------ strays
@dataclass(frozen=True, slots=True, eq=False)
class Strays:
    """Cells of a sensor that are no measurements."""

    sentinels: tuple[float, ...]  # numbers that stand for no value
    cells: tuple[Mask, ...]  # per track, the cells that have one of these or are stray
    repeated: tuple[float, ...] = ()  # stray numbers that come often: they may stand for no value


def strays(tracks: Sequence[Floats]) -> Strays:
    """The sentinels and the stray cells of a sensor.

    Args:
        tracks: (T,) each, NaN where there is no number.
    """
    nothing = tuple(np.zeros(len(track), bool) for track in tracks)
    numbers = np.concatenate([track[np.isfinite(track)] for track in tracks]) if tracks else np.empty(0)
    if len(numbers) < FEW:
        return Strays((), nothing)
    marked = [code for code in codes(numbers, 1) if not _is_state(code, tracks)]
    rest = [np.where(np.isin(track, marked), np.nan, track) for track in tracks] if marked else list(tracks)
    isolated = _isolated(rest, numbers[~np.isin(numbers, marked)])
    single = np.concatenate([track[cells] for track, cells in zip(rest, isolated, strict=True)])
    repeated, times = np.unique(single, return_counts=True)
    # Of a sentinel nearly every cell is stray.
    often = [
        float(repeated[i])
        for i in np.argsort(-times, kind="stable")
        if times[i] >= OFTEN and times[i] >= 0.9 * np.count_nonzero(numbers == repeated[i])
    ]
    isolated = _without_recurring(rest, isolated, np.array(often), float(np.median(numbers)))
    sentinels = [code for code in marked if np.count_nonzero(numbers == code) > 1]
    cells = tuple(
        one | np.isin(track, [*marked, *often]) for track, one in zip(tracks, isolated, strict=True)
    )
    return Strays(tuple(sentinels), cells, tuple(often[:MOST_SENTINELS]))


def _is_state(code: float, tracks: Sequence[Floats]) -> bool:
    """Whether positive nines are measured: they last, again and again, more often than not."""
    if code < 0.0 or _of_integers(code):
        return False
    lengths = np.concatenate([_lengths(track[np.isfinite(track)] == code) for track in tracks])
    lasting = int(np.count_nonzero(lengths > RUN))
    return lasting >= LASTING and 2 * lasting > len(lengths)


def _lengths(mask: Mask) -> Ints:
    """The lengths of the runs of True in (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask, [0]])))
    return np.asarray(edges[1::2] - edges[::2], np.int64)


def _without_recurring(
    tracks: Sequence[Floats], isolated: Sequence[Mask], sentinels: Floats, middle: float
) -> list[Mask]:
    """Per track the isolated cells but for those, on either side of the others' ``middle``, that are much alike."""
    found = [mask.copy() for mask in isolated]
    for side in (1.0, -1.0):
        mine = [
            mask & (side * (track - middle) > 0.0) & ~np.isin(track, sentinels)
            for track, mask in zip(tracks, isolated, strict=True)
        ]
        single = np.concatenate([track[cells] for track, cells in zip(tracks, mine, strict=True)])
        if len(np.unique(single)) < 3:
            continue
        low, centre, high = np.quantile(single, [0.25, 0.5, 0.75])
        if high - low <= ALIKE * abs(centre - middle):
            for mask, cells in zip(found, mine, strict=True):
                mask &= ~cells
    return found


def _isolated(tracks: Sequence[Floats], numbers: Floats) -> list[Mask]:
    """Per track the cells that lie beyond a void, alone or in a pair; none if they are too many.

    Args:
        tracks: NaN where there is no number.
        numbers: all of their numbers.
    """
    none = [np.zeros(len(track), bool) for track in tracks]
    if len(numbers) < FEW:
        return none
    low, high = _bounds(numbers)
    if not np.isfinite(low) and not np.isfinite(high):
        return none
    reach = _reach(numbers, low, high)
    return [_runs(track, (track < low) | (track > high), reach) for track in tracks]


def _bounds(numbers: Floats) -> tuple[float, float]:
    """Beyond which numbers there is a void as wide as all that lies within; infinite where there is none."""
    quartiles = np.quantile(numbers, [0.25, 0.75])
    width = float(quartiles[1] - quartiles[0])
    if width <= 0.0:
        return -np.inf, np.inf  # mostly one number: any other may be a state
    inside = (numbers >= quartiles[0] - FENCE * width) & (numbers <= quartiles[1] + FENCE * width)
    if np.count_nonzero(~inside) > MOST_STRAYS * len(numbers):
        return -np.inf, np.inf  # what is outside is another state, or how the sensor is
    least, most = float(numbers[inside].min()), float(numbers[inside].max())
    outside = np.unique(numbers[~inside])
    high = _void(outside[outside > most], most, least)
    low = -_void(-outside[outside < least][::-1], -least, -most)
    return low, high


def _void(outside: Floats, most: float, least: float) -> float:
    """The number, of those outside in rising order or ``most``, above which the void is; infinite without one."""
    ladder = np.concatenate([[most], outside])
    wide = np.flatnonzero(np.diff(ladder) >= ladder[:-1] - least)
    return float(ladder[wide[0]]) if len(wide) else np.inf


def _reach(numbers: Floats, low: float, high: float) -> float:
    """How far apart two neighbours may be if the level between them is the same: not from one end to the other."""
    ends = np.quantile(numbers[(numbers >= low) & (numbers <= high)], [0.01, 0.99])
    return SAME_LEVEL * float(ends[1] - ends[0])


def _runs(track: Floats, beyond: Mask, reach: float) -> Mask:
    """(T,) the cells beyond in runs of one or two whose neighbours are no further apart than ``reach``."""
    found = np.zeros(len(track), bool)
    if not beyond.any():
        return found
    at = np.flatnonzero(np.isfinite(track))
    out = beyond[at]
    starts = np.flatnonzero(out & ~np.append(False, out[:-1]))
    stops = np.flatnonzero(out & ~np.append(out[1:], False)) + 1
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        if stop - start > RUN:
            continue
        ends = start > 0 and stop < len(at)
        if not ends or abs(track[at[stop]] - track[at[start - 1]]) <= reach:
            found[at[start:stop]] = True
    return found


# ------------------------------------------------------------------ counters
def resets(name: str, tracks: Sequence[Floats]) -> int | None:
    """How often numbers that only rise were reset to near nothing; None if they do not only rise.

    Anything that drifts upwards does so for a while: so the name must say so, or the numbers are whole, or they rise
    some hundred times without one small fall.

    Args:
        name: of the sensor.
        tracks: (T,) each, NaN where there is no number.
    """
    kept = [track[np.isfinite(track)] for track in tracks]
    before = np.concatenate([each[:-1] for each in kept]) if kept else np.empty(0)
    after = np.concatenate([each[1:] for each in kept]) if kept else np.empty(0)
    steps = after - before
    falls, rises = np.flatnonzero(steps < 0), int((steps > 0).sum())
    if len(steps) < FEW or rises < max(0.1 * len(steps), 20) or any((each < 0).any() for each in kept):
        return None
    if len(falls) > 0.05 * len(steps) or (after[falls] > 0.1 * before[falls]).any():
        return None
    whole = all(bool((each == np.rint(each)).all()) for each in kept)
    if not (called_counter(name) or (whole and rises >= 100) or rises >= 500):
        return None
    return len(falls)


def called_counter(name: str) -> bool:
    """Whether a name says that its sensor counts."""
    return _COUNTER_WORDS.search(words_of(name)) is not None
