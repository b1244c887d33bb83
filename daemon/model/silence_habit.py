"""Learning which silences are usual: from a history of rows to a ``daemon.habit.SilenceHabit``.

Only silences that would raise an alert count: a sensor without a value for its patience while its asset has rows, an
asset without a row. An *occasion* is one quarter of an hour of one asset on one day. What is usual:

* **hours**: a quarter of the week in which ``NEARLY`` of the occasions are silent, on at least ``DAYS`` days and in
  silences that begin on so many (once is an event, however long, and twice is the least that recurs). Where training has fewer days of a weekday, the quarter of the day
  decides. Next to such hours, those silent on ``SOMETIMES`` of the occasions belong to the habit, too, up to ``EDGE``:
  dusk moves while training lasts;
* **length**, for what is left over: where such silences begin on at least half of all days (a machine's stops), those
  up to twice as long as nine tenths of them.

Habits are learned of all assets together, so that a new one has them; an asset whose training shows another habit, or
none, gets its own. A sensor that training never saw has no habit: it is missing, and the alert says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from daemon.assembly import hold_rows, silent_rows
from daemon.domain import DAY_NS, Floats, Ints, Mask, Segment, StreamSpec
from daemon.habit import DAY_SLOTS, LONGEST_NS, SLOT_NS, SLOTS, WEEK_NS, SilenceHabit

NEARLY = 0.8
"""Share of the occasions that makes an hour usual: a habit has exceptions, a sunny evening or a late shift."""
SOMETIMES = 0.2
"""Share of the occasions that makes an hour the edge of a habit."""
DAYS = 2
EDGE = 8
"""Quarters of an edge: two hours, by which dusk moves within two months at 50 degrees of latitude."""
STOPS_ON = 0.5
"""Share of the days on which a silence begins that is no habit of the hour, but still one."""
STOP_DAYS = 3
STOP_QUANTILE, STOP_MARGIN = 0.9, 2
"""As for stuck sensors, twice what training has; of nine tenths, so that one long outage does not count."""


@dataclass(frozen=True, slots=True)
class _Silence:
    """A silence of one place and asset; ``begin`` is the row of the last value, ``end`` that of the next one."""

    asset: str
    begin: int
    end: int


@dataclass(slots=True, eq=False)
class _Place:
    """The evidence on one place: a sensor, or the asset as a whole."""

    patience: int  # rows
    silences: list[_Silence] = field(default_factory=list)
    covered: dict[str, _Covered] = field(default_factory=dict)  # by asset
    seen: bool = False

    def of(self, asset: str) -> _Place:
        """The evidence on one asset alone."""
        mine = [one for one in self.silences if one.asset == asset]
        return _Place(self.patience, mine, {asset: self.covered[asset]}, self.seen)


@dataclass(frozen=True, slots=True, eq=False)
class _Habit:
    """One habit of a ``SilenceHabit``."""

    usual: Mask  # (SLOTS,)
    longest_ns: int = 0
    any_hour_ns: int = 0

    @staticmethod
    def none() -> _Habit:
        """No silence is usual."""
        return _Habit(np.zeros(SLOTS, bool))

    def odd(self, place: _Place, period: int) -> Mask:
        """Which silences of a place would be an alert."""
        habit = SilenceHabit(self.usual[None], np.array([self.longest_ns]), np.array([self.any_hour_ns]))
        begins, ends = (np.array([getattr(s, n) for s in place.silences], np.int64) for n in ("begin", "end"))
        return np.asarray((ends - 1) * period >= habit.due_ns(0, begins * period, place.patience * period))


def learn_silence(history: Sequence[Segment], spec: StreamSpec) -> SilenceHabit | None:
    """The habits that a history shows; None without any.

    Args:
        history: segments in time order per asset.
        spec: for the period, the holds and ``silent_after``.
    """
    period = spec.period_ns
    places = [*_sensors(history, spec), _asset(history, spec)]
    found = [_habit(place, period) for place in places]
    own: dict[tuple[str, int], _Habit] = {}
    for p, place in enumerate(places):
        for asset in place.covered if len(place.covered) > 1 else ():
            if (of_asset := _own_habit(place.of(asset), found[p], period)) is not None:
                own[asset, p] = of_asset
    every = [*found, *own.values()]
    if not any(one.longest_ns for one in every):
        return None
    longest, any_hour = (
        np.array([getattr(h, n) for h in every], np.int64) for n in ("longest_ns", "any_hour_ns")
    )
    return SilenceHabit(np.stack([one.usual for one in every]), longest, any_hour, tuple(own))


def usual_gaps(habit: SilenceHabit | None, segment: Segment, spec: StreamSpec) -> Mask | None:
    """(T, C) the cells of a segment that are missing by habit; None if none is."""
    missing = ~segment.observed
    if habit is None or not missing.any():
        return None
    times = (segment.first_row + np.arange(len(missing))) * spec.period_ns
    usual = np.zeros(missing.shape, bool)
    for c in np.flatnonzero(missing.any(0)).tolist():
        which = habit.which(segment.asset, c)
        usual[:, c] = missing[:, c] & habit.usual_at(which, times)
        most = int(habit.any_hour_ns[which])
        for begin, end in _gaps(segment.values[:, c]) if most else ():
            if (end - begin) * spec.period_ns <= most:
                usual[max(begin, 0) : end, c] |= missing[max(begin, 0) : end, c]
    return usual if usual.any() else None


@dataclass(frozen=True, slots=True, eq=False)
class _Covered:
    """The quarters of an hour in which an asset could be silent, of the weeks in which it was there.

    Each asset has weeks of its own: one whose clock began in 1970 costs the others nothing.
    """

    first: int  # week since the epoch
    quarters: Mask  # (weeks, SLOTS)

    @staticmethod
    def by(spans: Sequence[tuple[int, int]], period: int) -> _Covered:
        """What these ranges of rows cover."""
        first = min(begin for begin, _ in spans) * period // WEEK_NS
        weeks = max(end for _, end in spans) * period // WEEK_NS + 1 - first
        return _Covered(first, _Covered(first, np.ones((weeks, SLOTS), bool)).within(spans, period))

    def within(self, spans: Sequence[tuple[int, int]], period: int) -> Mask:
        """(weeks, SLOTS) the covered quarters that these ranges of rows, ends included, lie in."""
        change = np.zeros(self.quarters.size + 1, np.int64)
        origin = self.first * SLOTS
        for begin, end in spans:
            change[begin * period // SLOT_NS - origin] += 1
            change[min(end * period // SLOT_NS - origin + 1, len(change) - 1)] -= 1
        return np.asarray((np.cumsum(change[:-1]) > 0).reshape(-1, SLOTS) & self.quarters)

    @property
    def days(self) -> int:
        """On which the asset was there."""
        return int(self.quarters.reshape(-1, DAY_SLOTS).any(1).sum())


def _gaps(values: Floats) -> Iterator[tuple[int, int]]:
    """The rows of the last value before and the next one after each gap in (T,) values; -1 and T where there is none."""
    known = np.flatnonzero(np.isfinite(values))
    edges = np.concatenate([[-1], known, [len(values)]])
    for i in np.flatnonzero(np.diff(edges) > 1).tolist():
        yield int(edges[i]), int(edges[i + 1])


def _sensors(history: Sequence[Segment], spec: StreamSpec) -> list[_Place]:
    """The evidence on each sensor: in its asset's segments."""
    held = hold_rows(spec)
    places = [_Place(max(silent - hold, 1)) for silent, hold in zip(silent_rows(spec), held, strict=True)]
    spans: dict[str, list[tuple[int, int]]] = {}
    for segment in history:
        first, count = segment.first_row, len(segment.values)
        spans.setdefault(segment.asset, []).append((first, first + count - 1))
        missing = (~segment.observed).sum(0)
        for c, place in enumerate(places):
            place.seen |= bool(missing[c] < count)
            for begin, end in _gaps(segment.values[:, c]) if missing[c] >= place.patience else ():
                begin = max(begin, 0)
                if end - 1 - begin >= place.patience:
                    place.silences.append(_Silence(segment.asset, first + begin, first + end))
    covered = {asset: _Covered.by(of, spec.period_ns) for asset, of in spans.items()}
    for place in places:
        place.covered = covered
    return places


def _asset(history: Sequence[Segment], spec: StreamSpec) -> _Place:
    """The evidence on whole assets: between the first and the last row of each, but for what was taken out."""
    place = _Place(max(spec.silent_after_ns // spec.period_ns, 1), seen=True)
    present: dict[str, list[Ints]] = {}
    after_cut: dict[str, list[int]] = {}
    for segment in history:
        came = segment.values if segment.received is None else segment.received
        rows = segment.first_row + np.flatnonzero(np.isfinite(came).any(1))
        present.setdefault(segment.asset, []).append(rows)
        if segment.after_cut:
            after_cut.setdefault(segment.asset, []).append(segment.first_row)
    for asset, parts in present.items():
        rows = np.sort(np.concatenate(parts))
        if not len(rows):
            continue
        cuts = np.searchsorted(np.sort(after_cut.get(asset, [])), rows, "right")  # up to each row
        runs = np.split(
            rows, np.flatnonzero(np.diff(cuts)) + 1
        )  # what lies between two of them shows nothing
        place.covered[asset] = _Covered.by([(int(run[0]), int(run[-1])) for run in runs], spec.period_ns)
        for i in np.flatnonzero((np.diff(rows) > place.patience) & (np.diff(cuts) == 0)).tolist():
            place.silences.append(_Silence(asset, int(rows[i]), int(rows[i + 1])))
    return place


def _own_habit(place: _Place, of_all: _Habit, period: int) -> _Habit | None:
    """The habit of an asset that is not like the others: of ``place``, its evidence alone. None: it is like them.

    It has silences that are usual to it alone, or it was there and never silent where the others often are.
    """
    if not place.silences:
        there = sum(one.days for one in place.covered.values())
        return _Habit.none() if of_all.longest_ns and there > DAYS else None
    mine = _habit(place, period)
    return mine if (of_all.odd(place, period) & ~mine.odd(place, period)).any() else None


def _habit(place: _Place, period: int) -> _Habit:
    """A place's habit."""
    if not place.seen or not place.silences:
        return _Habit.none()
    usual = _usual_hours(place, period)
    odd = _Habit(usual, LONGEST_NS).odd(place, period)
    lengths = np.array([one.end - one.begin for one in place.silences]) * period
    longest = int(lengths[~odd].max(initial=0))
    leftover = [one for one, is_odd in zip(place.silences, odd, strict=True) if is_odd]
    days = {(one.asset, one.begin * period // DAY_NS) for one in leftover}
    of_all = sum(one.days for one in place.covered.values())
    any_hour = 0
    if len({day for _, day in days}) >= STOP_DAYS and len(days) >= STOPS_ON * of_all:
        any_hour = STOP_MARGIN * int(np.quantile(lengths[odd], STOP_QUANTILE, method="lower"))
        longest = max(longest, any_hour)
    return _Habit(usual, longest, any_hour) if longest else _Habit.none()


def _usual_hours(place: _Place, period: int) -> Mask:
    """(SLOTS,) the quarters of the week at which the place is usually silent."""
    of: dict[str, list[tuple[int, int]]] = {}
    for one in place.silences:
        of.setdefault(one.asset, []).append((one.begin, one.end))
    weeks = np.unique(np.concatenate([c.first + np.arange(len(c.quarters)) for c in place.covered.values()]))
    covered = np.zeros((len(weeks), SLOTS), np.int64)
    silent = np.zeros_like(covered)
    for asset, mine in place.covered.items():
        first = int(np.searchsorted(weeks, mine.first))
        theirs = slice(first, first + len(mine.quarters))
        covered[theirs] += mine.quarters
        if asset in of:
            silent[theirs] += mine.within(of[asset], period)
    begun = _by_day(place.silences, period)
    never = ((covered > 0).sum(0) >= DAYS) & (silent.sum(0) == 0)  # of its own weekday

    def often(share: float) -> Mask:
        weekly = _often(covered, silent, share) & (begun.sum(0) >= DAYS)
        daily = _often(covered.reshape(-1, DAY_SLOTS), silent.reshape(-1, DAY_SLOTS), share)
        daily &= begun.reshape(-1, 7, DAY_SLOTS).any(1).sum(0) >= DAYS
        return np.asarray(weekly | (np.tile(daily, 7) & ~never))

    usual, edge = often(NEARLY), often(SOMETIMES)
    for _ in range(EDGE):
        usual |= edge & (np.roll(usual, 1) | np.roll(usual, -1))
    return usual


def _by_day(silences: Sequence[_Silence], period: int) -> Mask:
    """(days, SLOTS) per day on which silences begin, the quarters of the week that these lie in."""
    begin, end = (
        np.array([getattr(one, name) for one in silences]) * period // SLOT_NS for name in ("begin", "end")
    )
    _, day = np.unique(begin // DAY_SLOTS, return_inverse=True)
    change = np.zeros((int(day.max()) + 1, 2 * SLOTS), np.int64)  # of two weeks, so that none wraps
    at = begin % SLOTS
    np.add.at(change, (day, at), 1)
    np.add.at(change, (day, at + np.minimum(end - begin + 1, SLOTS)), -1)
    there = np.cumsum(change, axis=1) > 0
    return np.asarray(there[:, :SLOTS] | there[:, SLOTS:])


def _often(covered: Ints, silent: Ints, share: float) -> Mask:
    """Of (days, hours) occasions: the hours at which this share of them is silent, on enough days."""
    return np.asarray((silent.sum(0) >= share * covered.sum(0)) & ((silent > 0).sum(0) >= DAYS))
