"""The fire drill: which faults would be found, how soon, and from which size on.

A fault is injected into normal rows and judged as the stream judges: windows of the rows with the
fault in them, the slow baseline and the alarm machine going on from where they stood, an asset's own
levels, the threshold in force. It is *found* when an alert opens while it lasts: by the scores within
two windows (after one, all rows that the model looks at are faulty; what is not found in another
one is only grown used to), or by the stream's own rules (``sensor_stuck``, ``sensor_silent``) within a
day. A place is used only if nothing fires there without the fault: what would have been reported
anyway is not found.

Sizes form a ladder in standard deviations of the training rows. The *smallest size that is found* is
the lowest rung from which on, up the ladder, at least 80 % are. It has an interval of rungs: from the
lowest that may reach 80 % to the lowest that surely does, each by its Wilson interval (Wilson 1927,
95 %). At one place the sign, the partner of a swap and the noise are the same on every rung, so that
rungs differ by the size alone.

Nothing here changes a detector, a baseline or an alarm machine that is given: copies move on.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise

import numpy as np

from daemon.alarm import Alarm, State
from daemon.detector import Detector, Windows
from daemon.domain import (
    NO_CONDITION,
    SECOND_NS,
    AlarmPolicy,
    AlertKind,
    Floats,
    Ints,
    Mask,
    Segment,
)
from daemon.model.faults import FaultKind, inject, lag_rows, touched
from daemon.model.segments import sliding

WATCHED = 2
"""Windows for which a fault lasts, and its scores are watched."""
DAY_NS = 86_400 * SECOND_NS
LADDER = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Sizes in standard deviations: from a tenth, which only sensors that follow closely from others show, to the
gate's largest; steps of about a half, finer than the interval of what is found allows."""
LAGS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Lags in rows; those that one window holds are drilled."""
PLACES = 40
"""Faults of each kind, sensor and size. With fewer than 16, not even all of them found would be surely 80 %."""
PARTNERS = 3
"""With so many others a sensor changes places at each place: it matters much who that is."""
FOUND = 0.8
"""What share must be found for a size to count as found."""
Z95 = 1.96
POOL = 10
"""So many times more places there are in all: each sensor and kind takes every tenth, from a start of its own.
What a machine did just then decides much, and is then not the same chance for all of them."""
MOST_WINDOWS = 4_000_000
"""Windows that a drill on a file judges at most, some minutes; with more sensors there are fewer places."""
CANDIDATES = 4_096
"""Places of a file that faults are injected at are chosen from about so many."""
AT_ONCE = 64
"""Faults that are judged together."""
ROWS_AT_ONCE = 8
"""Rows of each that are judged before those that are found are left out."""
CHUNK = 1_024
NEAR = 64
"""Rows in which it is looked for first when a sensor moved last."""
NEVER_MOVED = 1 << 60
"""``Detector.longest_constant`` of a sensor that stood still throughout training, at least."""

Tell = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """What the stream finds without a score; rows."""

    stuck_rows: (
        Ints  # (C,) rows for which a sensor stands still before ``sensor_stuck``; see ``sensor_stuck``
    )
    silent_rows: int  # rows without a value before ``sensor_silent``
    lasting_rows: int  # how long such a fault lasts


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Normal rows into which faults are injected, and where the stream stood before them.

    The fault begins at ``values[lead]`` and lasts to the end; C sensors.
    """

    asset: str
    first_row: int  # the grid row of ``values[0]``
    values: Floats  # (lead + watched, C) raw, NaN where not observed
    lead: int  # at least one window
    condition: tuple[str, ...]  # a label per watched row, or none at all
    baseline: Floats  # (P,) as it stood before the fault
    alarm: tuple[State, int, int]  # an ``Alarm``'s fields, likewise
    still: Ints  # (C,) rows for which each sensor had not moved, the last one included
    age: Ints  # (C,) rows since each sensor was observed last; 0: in the row before the fault

    @property
    def row(self) -> int:
        """The grid row at which faults begin."""
        return self.first_row + self.lead


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault to be injected."""

    kind: FaultKind
    sensors: tuple[int, ...]  # the first is the one it is told of
    size: float  # signed, in standard deviations; of a lag in rows; 0 where the kind has none
    rung: float  # the same on the ladder, without its sign
    seed: tuple[int, ...]  # of the noise


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a trial. ``rows`` is None where nothing fired."""

    rows: int | None  # from the fault's first row to the one that fired
    alert: AlertKind | None

    @property
    def found(self) -> bool:
        """Whether an alert opened."""
        return self.rows is not None


def ladder(kind: FaultKind, window: int) -> tuple[float, ...]:
    """The sizes of a kind; a single 0 for one without sizes."""
    if not kind.sized:
        return (0.0,)
    return tuple(float(k) for k in LAGS if k <= window) if kind is FaultKind.LAG else LADDER


def alive(detector: Detector) -> list[int]:
    """The sensors that moved in training: to one that stood still no size has a meaning."""
    return [c for c, rows in enumerate(detector.longest_constant.tolist()) if rows < NEVER_MOVED]


def trial(kind: FaultKind, sensor: int, rung: float, key: Sequence[int], sensors: Sequence[int]) -> Trial:
    """A fault that follows from its key, whatever its size.

    Args:
        kind, sensor: what is to happen to which.
        rung: the size without its sign.
        key: non-negative numbers that tell the place.
        sensors: those that may change places with it, itself among them.
    """
    rng = np.random.default_rng([*key, list(FaultKind).index(kind), sensor])
    sign = float(rng.choice([-1.0, 1.0]))
    both: tuple[int, ...] = (sensor,)
    if kind is FaultKind.SWAP:
        both = (sensor, int(rng.choice([c for c in sensors if c != sensor])))
    return Trial(kind, both, sign * rung, rung, (*key, int(rng.integers(1 << 31))))


# ------------------------------------------------------------------ judging
def judging(
    detector: Detector,
    policy: AlarmPolicy,
    rules: Rules,
    tried: Sequence[tuple[Place, Trial]],
    hop: int = 1,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Generator[None, None, list[Verdict | None]]:
    """Inject and judge, a few rows at a time: gives up control after each.

    Args:
        detector, policy, rules: what judges; at least the detector's window of rows leads each place.
        tried: where and what; all places are of one shape.
        hop: windows end at the rows whose number in the grid is a multiple.
        rows_at_once: rows of each that are judged between two pauses.

    Returns:
        Per trial its verdict; None where it changed nothing: the sensor is not observed there, say.
    """
    scaling, L = detector.scaling, detector.window
    injected = [
        inject(
            t.kind,
            p.values,
            p.lead,
            len(p.values),
            t.sensors,
            t.size,
            scaling.scale,
            np.random.default_rng(t.seed),
            scaling.mean,
        )
        for p, t in tried
    ]
    found: list[Verdict | None] = [
        Verdict(None, None) if touched(p.values, rows) else None
        for (p, _), rows in zip(tried, injected, strict=True)
    ]
    open_ = np.array([i for i, verdict in enumerate(found) if verdict is not None], np.int64)
    if not len(open_):
        return found
    lead, total = tried[0][0].lead, len(injected[0])
    values = np.stack(injected)  # (F, T, C)
    units = scaling.of(values)
    baseline = np.stack([p.baseline for p, _ in tried])
    alarms = [Alarm(*p.alarm) for p, _ in tried]
    first = np.array([p.first_row for p, _ in tried])
    for begin in range(lead, total, rows_at_once):
        rows = np.arange(begin, min(begin + rows_at_once, total))
        which, at = np.repeat(open_, len(rows)), np.tile(rows, len(open_))
        due = (first[which] + at) % hop == 0
        which, at = which[due], at[due]
        if len(which):
            scores = _scores(detector, tried, values, units, baseline, which, at, L)
            for f in open_.tolist():
                mine = which == f
                rows_on = _fires(alarms[f], scores[mine], detector.threshold, policy)
                if rows_on is not None:
                    found[f] = Verdict(int(at[mine][rows_on]) - lead, AlertKind.ANOMALY)
            open_ = np.array([f for f in open_.tolist() if not _is_found(found[f])], np.int64)
        if not len(open_):
            break
        yield
    for f, (place, what) in enumerate(tried):
        verdict = found[f]
        if verdict is not None:
            if what.kind in (FaultKind.SWAP, FaultKind.LAG):
                found[f] = _in_passing(verdict, place, what, injected[f], rules)
            else:
                found[f] = _by_rule(verdict, place, what, np.isfinite(injected[f][lead:]), rules)
    return found


def _is_found(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.found


def _scores(
    detector: Detector,
    tried: Sequence[tuple[Place, Trial]],
    values: Floats,
    units: np.ndarray,
    baseline: Floats,
    which: Ints,
    at: Ints,
    L: int,
) -> Floats:
    """(B,) scores of the windows that end at rows ``at`` of trials ``which``; moves their baselines on."""
    windows = np.lib.stride_tricks.sliding_window_view(units, L, axis=1)[which, at - L + 1]  # (B, C, L)
    labels = tuple(
        tried[f][0].condition[t - tried[f][0].lead] if tried[f][0].condition else NO_CONDITION
        for f, t in zip(which.tolist(), at.tolist(), strict=True)
    )
    batch = Windows(
        values[which, at][:, None],
        np.ones(len(which), bool),
        labels,
        scaling=np.ascontiguousarray(windows.transpose(0, 2, 1)),
    )
    return detector.judge(detector.infer(batch), baseline, which, static=False).score


def _fires(alarm: Alarm, scores: Floats, threshold: float, policy: AlarmPolicy) -> int | None:
    """The first of these scores at which an episode fires; moves the alarm machine on up to there."""
    if alarm.state is State.INACTIVE and not alarm.recent and not (scores > threshold).any():
        return None
    for i, score in enumerate(scores.tolist()):
        if score == score and alarm.step(score, threshold, policy) is State.FIRING:
            return i
    return None


def _by_rule(verdict: Verdict, place: Place, what: Trial, observed: Mask, rules: Rules) -> Verdict:
    """The verdict, or that of the stream's own rules where those come first.

    ``observed`` (D, C) is of the rows with the fault; those that follow are taken to be observed.
    """
    c = what.sensors[0]
    if what.kind is FaultKind.STUCK:
        first = int(rules.stuck_rows[c]) - int(place.still[c]) - 1
        alert = AlertKind.SENSOR_STUCK
        spoken: Mask = observed[:, c]  # a sensor that says nothing is not stuck
    elif what.kind is FaultKind.DROP_OUT:
        first = rules.silent_rows - 1 - int(place.age[c])
        alert = AlertKind.SENSOR_SILENT
        spoken = np.asarray(np.isfinite(place.values[place.lead :]).any(1))  # its asset must speak
    else:
        return verdict
    if first < 0:
        return verdict  # such an alert is open already
    later = np.flatnonzero(spoken[first:])
    row = first + int(later[0]) if len(later) else max(first, len(spoken))
    if row >= rules.lasting_rows or (verdict.rows is not None and verdict.rows <= row):
        return verdict
    return Verdict(row, alert)


def _in_passing(verdict: Verdict, place: Place, what: Trial, injected: Floats, rules: Rules) -> Verdict:
    """The verdict, or that of the rules: who changes places with a sensor that rests may look stuck."""
    for c in what.sensors:
        stuck, silent = _ruled(place, injected, c, rules)
        natural = _ruled(place, place.values, c, rules)
        for row, alone, alert in (
            (stuck, natural[0], AlertKind.SENSOR_STUCK),
            (silent, natural[1], AlertKind.SENSOR_SILENT),
        ):
            earlier = row is not None and (verdict.rows is None or row < verdict.rows)
            if earlier and (alone is None or (row is not None and row < alone)):
                verdict = Verdict(row, alert)
    return verdict


def _ruled(place: Place, values: Floats, c: int, rules: Rules) -> tuple[int | None, int | None]:
    """The watched rows of (T, C) values at which a sensor is declared stuck, and silent; None for never."""
    lead, column = place.lead, values[:, c].tolist()
    limit, since, last_row = int(rules.stuck_rows[c]), -int(place.still[c]), -1 - int(place.age[c])
    before = [value for value in column[:lead] if value == value]
    last = before[-1] if before else math.nan
    speaks: Mask = np.asarray(np.isfinite(values[lead:]).any(1))
    stuck: int | None = -1 if -since >= limit else None  # declared before the fault began
    silent: int | None = -1 if -1 - last_row >= rules.silent_rows else None
    for i, value in enumerate(column[lead:]):
        if value == value:
            since, last, last_row = (since if value == last else i), value, i
            if stuck is None and i - since + 1 >= limit:
                stuck = i
        elif silent is None and speaks[i] and i - last_row >= rules.silent_rows:
            silent = i
    return (None if stuck == -1 else stuck), (None if silent == -1 else silent)


def judged(
    detector: Detector,
    policy: AlarmPolicy,
    rules: Rules,
    tried: Iterable[tuple[Place, Trial]],
    hop: int = 1,
) -> Iterator[tuple[Trial, Verdict | None]]:
    """All of these trials, many at once, in their order."""
    rest = iter(tried)
    while some := list(islice(rest, AT_ONCE)):
        steps = judging(detector, policy, rules, some, hop)
        while True:
            try:
                next(steps)
            except StopIteration as ended:
                yield from zip((t for _, t in some), ended.value, strict=True)
                break


# ------------------------------------------------------------------ places in a history
def places_in(
    detector: Detector,
    policy: AlarmPolicy,
    history: Sequence[Segment],
    wanted: int,
    hop: int = 1,
    seed: int = 0,
    tell: Tell | None = None,
) -> list[Place]:
    """Places spread evenly over a history, where nothing fires without a fault.

    The history is judged from its beginning, as the stream would: segment by segment, each with a
    fresh baseline or the one that training left.

    Returns:
        At most ``wanted``, by segment and time; fewer or none where episodes and gaps leave no more.
    """
    L = detector.window
    watched = WATCHED * L
    rows = sum(len(s.values) for s in history)
    stride = max(rows // CANDIDATES, 1)
    found: list[tuple[Segment, int, Floats, tuple[State, int, int]]] = []
    done = 0
    for segment in history:
        found += _candidates(detector, policy, segment, hop, stride, watched)
        done += len(segment.values)
        if tell is not None:
            tell(done / max(rows, 1), "judging the rows as they are")
    if not found:
        return []
    rng = np.random.default_rng([seed, len(found)])
    edges = np.linspace(0, len(found), min(wanted, len(found)) + 1)
    chosen = [int(rng.integers(int(a), max(int(b), int(a) + 1))) for a, b in pairwise(edges)]
    return [_place(*found[i], L, watched) for i in chosen]


def _candidates(
    detector: Detector, policy: AlarmPolicy, segment: Segment, hop: int, stride: int, watched: int
) -> list[tuple[Segment, int, Floats, tuple[State, int, int]]]:
    """Rows of a segment at which a fault may begin, each with baseline and alarm machine before it."""
    L, T = detector.window, len(segment.values)
    begins = list(range(L, T - watched + 1, stride))
    if not begins:
        return []
    scaling = detector.scaling.of(segment.values)
    labels = segment.condition or (NO_CONDITION,) * T
    baseline: Floats | None = None
    alarm = Alarm()
    quiet = np.ones(T, bool)
    before: list[tuple[int, Floats, tuple[State, int, int]]] = []
    scores = np.full(T, np.nan)
    for low in range(L - 1, T, CHUNK):
        due = np.arange(low, min(low + CHUNK, T))
        cuts = [b for b in begins if low <= b < low + CHUNK]
        ended = due[(segment.first_row + due) % hop == 0]
        windows = sliding(scaling[low - L + 1 : low + CHUNK], L)[ended - low]
        evidence = None
        if len(ended):
            batch = Windows(
                segment.values[ended][:, None],
                np.ones(len(ended), bool),
                tuple(labels[row] for row in ended.tolist()),
                scaling=np.ascontiguousarray(windows),
            )
            evidence = detector.infer(batch)
            if baseline is None:
                row = segment.first_row + int(ended[0])
                carried = detector.carried_baseline(segment.asset, row)
                fresh = detector.fresh_baseline(segment.asset) if carried is None else carried
                baseline = fresh[None, :].copy()
        at = low
        for cut in [*cuts, low + len(due)]:
            some = np.flatnonzero((ended >= at) & (ended < cut))
            if len(some) and evidence is not None and baseline is not None:
                slots = np.zeros(len(some), np.int64)
                verdicts = detector.judge(evidence.take(some), baseline, slots, static=False)
                scores[ended[some]] = verdicts.score
            for row in range(at, cut):
                score = float(scores[row])
                state = alarm.step(score, detector.threshold, policy) if score == score else alarm.state
                quiet[row] = state not in (State.FIRING, State.RECOVERING)
            if cut < low + len(due) and baseline is not None:
                before.append((cut, baseline[0].copy(), (alarm.state, alarm.recent, alarm.resting)))
            at = cut
    loud = np.concatenate([[0], np.cumsum(~quiet)])
    return [
        (segment, s, state, machine)
        for s, state, machine in before
        if loud[min(s + watched, T)] == loud[s - 1]
    ]


def _place(
    segment: Segment, start: int, baseline: Floats, alarm: tuple[State, int, int], L: int, watched: int
) -> Place:
    """The place that begins at a row of a segment."""
    stop = start + watched
    still, age = standing(segment.values[:start])
    return Place(
        segment.asset,
        segment.first_row + start - L,
        segment.values[start - L : stop],
        L,
        segment.condition[start:stop],
        baseline,
        alarm,
        still,
        age,
    )


def standing(values: Floats) -> tuple[Ints, Ints]:
    """For how long each sensor had not moved, and not been observed, at the end of (T, C) rows.

    Returns:
        (C,) rows since it moved, that row and the last one included; (C,) rows since it was observed,
        0 for the last row, T if never.
    """
    T, columns = values.shape
    still, age = np.full(columns, T), np.full(columns, T)
    for c in range(columns):
        back = min(NEAR, T)
        while True:  # nearly always it has moved lately
            seen = np.flatnonzero(np.isfinite(values[T - back :, c])) + T - back
            other = np.flatnonzero(values[seen, c] != values[seen[-1], c]) if len(seen) else seen
            if len(other) or back == T:
                break
            back = min(8 * back, T)
        if len(seen):
            age[c] = T - 1 - int(seen[-1])
        if len(other):
            still[c] = T - int(seen[other[-1] + 1])
    return still, age


# ------------------------------------------------------------------ results
@dataclass(frozen=True, slots=True)
class Rung:
    """What was found of one size of a kind in one sensor."""

    size: float  # standard deviations; of a lag rows
    faults: int
    found: int
    delay_rows: float | None  # median of those found
    within_rows: int | None  # the time within which 80 % of all of them were found; None if fewer were

    @property
    def recall(self) -> float:
        """The share that was found."""
        return self.found / self.faults if self.faults else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of ``recall`` (Wilson 1927)."""
        return wilson(self.found, self.faults)


@dataclass(frozen=True, slots=True)
class Smallest:
    """From which size on faults are found: the lowest rung, and the rungs between which it may lie."""

    rung: Rung
    low: float
    high: float | None  # None: no rung is surely found, of so few faults


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of one kind of fault in one sensor."""

    sensor: str
    kind: FaultKind
    faults: int
    found: int
    delay_rows: float | None  # median of those found
    alert: AlertKind | None  # what found most of them
    rungs: tuple[Rung, ...]  # by size; one of size 0 for a kind without sizes

    @property
    def recall(self) -> float:
        """The share that was found, over all sizes of the ladder."""
        return self.found / self.faults if self.faults else math.nan

    @property
    def smallest(self) -> Smallest | None:
        """The smallest size that is found; None where none is, or the kind has no sizes."""
        if not self.kind.sized:
            return None
        tried = [rung for rung in self.rungs if rung.faults]
        certain = _lowest(tried, lambda rung: rung.interval[0])
        at = _lowest(tried, lambda rung: rung.recall)
        maybe = _lowest(tried, lambda rung: rung.interval[1])
        if at is None or maybe is None:
            return None
        return Smallest(at, maybe.size, None if certain is None else certain.size)


def _lowest(rungs: Sequence[Rung], share: Callable[[Rung], float]) -> Rung | None:
    """The lowest rung from which on, up the ladder, the share is at least ``FOUND``."""
    lowest = None
    for rung in reversed(rungs):
        if not share(rung) >= FOUND:
            break
        lowest = rung
    return lowest


def wilson(found: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927); 0 to 1 of none."""
    if not of:
        return 0.0, 1.0
    share, spread = found / of, Z95**2 / of
    middle = (share + spread / 2.0) / (1.0 + spread)
    half = Z95 * math.sqrt(share * (1.0 - share) / of + spread / (4.0 * of)) / (1.0 + spread)
    return max(middle - half, 0.0), min(middle + half, 1.0)


@dataclass(slots=True)
class Tally:
    """Verdicts by kind, sensor and size: all of them, or the newest ``keep`` of each.

    Memory is bounded by kinds x sensors x rungs x ``keep``.
    """

    sensors: Sequence[str]
    keep: int | None = None
    drilled: int = 0
    _verdicts: dict[tuple[FaultKind, int, float], deque[Verdict]] = field(default_factory=dict)

    def add(self, what: Trial, verdict: Verdict | None) -> None:
        """Take what became of a trial; one that changed nothing is none."""
        if verdict is None:
            return
        self.drilled += 1
        key = (what.kind, what.sensors[0], what.rung)
        known = self._verdicts.get(key)
        if known is None:
            known = self._verdicts[key] = deque(maxlen=self.keep)
        known.append(verdict)

    def recall(self, kind: FaultKind) -> float:
        """The share of a kind that was found, over sensors and sizes; NaN where none was tried."""
        mine = [v for (k, _, _), verdicts in self._verdicts.items() if k is kind for v in verdicts]
        return sum(v.found for v in mine) / len(mine) if mine else math.nan

    def delay_rows(self, kind: FaultKind) -> float | None:
        """The median delay of a kind, of those found."""
        return _median([v for (k, _, _), verdicts in self._verdicts.items() if k is kind for v in verdicts])

    def faults(self, kind: FaultKind) -> int:
        """How many of a kind there are."""
        return sum(len(v) for (k, _, _), v in self._verdicts.items() if k is kind)

    def results(self) -> list[Found]:
        """By sensor and kind; what was not tried is not there."""
        tried = {(kind, c) for kind, c, _ in self._verdicts}
        return [
            self.result(kind, c) for c in range(len(self.sensors)) for kind in FaultKind if (kind, c) in tried
        ]

    def result(self, kind: FaultKind, c: int) -> Found:
        """What was found of a kind in a sensor, of which something was tried."""
        sizes = sorted({0.0, *LADDER, *map(float, LAGS)})
        sizes = [size for size in sizes if (kind, c, size) in self._verdicts]
        of = [list(self._verdicts[kind, c, size]) for size in sizes]
        every = [v for verdicts in of for v in verdicts]
        alerts = Counter(v.alert for v in every if v.alert is not None)
        return Found(
            self.sensors[c],
            kind,
            len(every),
            sum(v.found for v in every),
            _median(every),
            alerts.most_common(1)[0][0] if alerts else None,
            tuple(
                Rung(size, len(v), sum(one.found for one in v), _median(v), _within(v))
                for size, v in zip(sizes, of, strict=True)
            ),
        )


def _median(verdicts: Sequence[Verdict]) -> float | None:
    rows = [v.rows for v in verdicts if v.rows is not None]
    return float(np.median(rows)) if rows else None


def _within(verdicts: Sequence[Verdict]) -> int | None:
    """The rows within which ``FOUND`` of these were found."""
    rows = sorted(v.rows for v in verdicts if v.rows is not None)
    needed = math.ceil(FOUND * len(verdicts))
    return rows[needed - 1] if 0 < needed <= len(rows) else None


# ------------------------------------------------------------------ a whole drill
def drill(
    detector: Detector,
    policy: AlarmPolicy,
    rules: Rules,
    history: Sequence[Segment],
    *,
    hop: int = 1,
    kinds: Sequence[FaultKind] = tuple(FaultKind),
    sensors: Sequence[int] | None = None,
    places: int = PLACES,
    seed: int = 0,
    tell: Tell | None = None,
) -> tuple[Tally, list[Place]]:
    """Faults of these kinds and all sizes into these sensors, at places all over a history.

    Args:
        detector, policy, rules, hop: what judges.
        history: normal rows; those that fire as they are are left out.
        kinds, sensors: what to inject into which (None: all that moved in training).
        places: faults of each kind, sensor and size, at most; fewer where sensors are many.
        seed: of the places, signs, partners and noise.
        tell: told (share done, what is being done).

    Returns:
        The verdicts, and the places; both empty where there is no place.
    """
    able = alive(detector)
    wanted = [c for c in able if sensors is None or c in set(sensors)]
    kinds = [k for k in kinds if len(able) >= k.sensors]
    tally = Tally(detector.sensors)
    each = len(wanted) * sum(len(ladder(k, detector.window)) for k in kinds) * WATCHED * detector.window
    places = max(min(places, MOST_WINDOWS // max(each, 1)), min(places, 5))
    report = tell or (lambda share, doing: None)
    where = places_in(
        detector, policy, history, POOL * places, hop, seed, lambda share, doing: report(0.1 * share, doing)
    )
    stride = max(len(where) // places, 1)
    cases = [
        (kind, sensor, rung, i, turn)
        for k, kind in enumerate(FaultKind)
        if kind in kinds
        for sensor in wanted
        for rung in ladder(kind, detector.window)
        for i in range((7 * sensor + 3 * k) % stride, len(where), stride)[:places]
        for turn in range(PARTNERS if kind is FaultKind.SWAP else 1)
    ]
    tried = (
        (where[i], trial(kind, sensor, rung, (seed, where[i].row, i, turn), able))
        for kind, sensor, rung, i, turn in cases
    )
    for n, (what, verdict) in enumerate(judged(detector, policy, rules, tried, hop)):
        tally.add(what, verdict)
        if n % AT_ONCE == 0:
            report(0.1 + 0.9 * n / max(len(cases), 1), f"injecting {what.kind.value}")
    return tally, where


def seconds(rows: float | None, period_ns: int) -> float | None:
    """A number of rows as seconds."""
    return None if rows is None else rows * period_ns / SECOND_NS


def value_of(kind: FaultKind, size: float, scale: float, period_ns: int) -> float:
    """A size in the sensor's own units; of a lag in seconds."""
    return lag_rows(size) * period_ns / SECOND_NS if kind is FaultKind.LAG else size * scale
