"""Judge injected faults as the stream would: by scores, and by its rules for stuck and silent sensors."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from daemon.alarm import Alarm, State
from daemon.detector import Detector, Windows
from daemon.domain import (
    NO_CONDITION,
    AlertKind,
    Floats,
    Ints,
    Mask,
)
from daemon.model.drill.chain import DetectionChain, Rules
from daemon.model.drill.places import Place
from daemon.model.drill.trials import Trial
from daemon.model.faults import FaultKind, Injection, inject, touched

AT_ONCE = 64
"""Faults that are judged together."""
ROWS_AT_ONCE = 8
"""Rows of each that are judged before those that are found are left out."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a trial. ``rows`` is None where no alert opened."""

    rows: int | None  # from the fault's first row to the one that fired
    alert: AlertKind | None

    @property
    def found(self) -> bool:
        """Whether an alert opened."""
        return self.rows is not None


def judge_in_slices(
    chain: DetectionChain, tried: Sequence[tuple[Place, Trial]], rows_at_once: int = ROWS_AT_ONCE
) -> Generator[None, None, list[Verdict | None]]:
    """Inject and judge, a few rows at a time; yields after each few.

    Args:
        chain: what judges; at least the detector's window of rows leads each place.
        tried: where and what; all places are of one shape.
        rows_at_once: rows of each that are judged between two yields.

    Returns:
        Per trial its verdict; None where it changed nothing, because the sensor is not observed there.
    """
    detector, rules = chain.detector, chain.rules
    batch = _InjectedBatch.of(detector, tried)
    found: list[Verdict | None] = [
        Verdict(None, None) if touched(place.values, rows) else None
        for (place, _), rows in zip(tried, batch.values, strict=True)
    ]
    open_ = np.array([i for i, verdict in enumerate(found) if verdict is not None], np.int64)
    if not len(open_):
        return found
    lead, total = tried[0][0].lead, batch.values.shape[1]
    alarms = [Alarm(*place.alarm) for place, _ in tried]
    first = np.array([place.first_row for place, _ in tried])
    for begin in range(lead, total, rows_at_once):
        rows = np.arange(begin, min(begin + rows_at_once, total))
        which, at = np.repeat(open_, len(rows)), np.tile(rows, len(open_))
        due = (first[which] + at) % chain.hop == 0
        which, at = which[due], at[due]
        if len(which):
            scores, jumps = batch.judge(detector, which, at)
            for f in open_.tolist():
                mine = which == f
                rows_on = _fires(alarms[f], scores[mine], jumps[mine], chain)
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
                found[f] = _in_passing(verdict, place, what, batch.values[f], rules)
            else:
                found[f] = _by_rule(verdict, place, what, np.isfinite(batch.values[f][lead:]), rules)
    return found


def _is_found(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.found


@dataclass(frozen=True, slots=True, eq=False)
class _InjectedBatch:
    """F places of one shape with their faults injected, and the baselines as they are judged."""

    tried: Sequence[tuple[Place, Trial]]  # F
    values: Floats  # (F, T, C) raw
    units: np.ndarray  # (F, T, C) in the detector's units
    baseline: Floats  # (F, P) moves on with each judged row

    @staticmethod
    def of(detector: Detector, tried: Sequence[tuple[Place, Trial]]) -> _InjectedBatch:
        """Inject the trials into copies of their places."""
        scaling = detector.scaling
        values = np.stack(
            [
                inject(
                    place.values,
                    Injection(what.kind, what.sensors, place.lead, len(place.values), what.size),
                    scaling.scale,
                    np.random.default_rng(what.seed),
                    scaling.mean,
                )
                for place, what in tried
            ]
        )
        baseline = np.stack([place.baseline for place, _ in tried])
        return _InjectedBatch(tried, values, scaling.of(values), baseline)

    def judge(self, detector: Detector, which: Ints, at: Ints) -> tuple[Floats, Floats]:
        """(B,) scores and largest jumps at rows ``at`` of trials ``which``; moves their baselines on."""
        L = detector.window
        windows = np.lib.stride_tricks.sliding_window_view(self.units, L, axis=1)[which, at - L + 1]
        places = [place for place, _ in self.tried]
        labels = tuple(
            places[f].condition[t - places[f].lead] if places[f].condition else NO_CONDITION
            for f, t in zip(which.tolist(), at.tolist(), strict=True)
        )
        batch = Windows(
            self.values[which, at][:, None],
            np.ones(len(which), bool),
            labels,
            scaled=np.ascontiguousarray(windows.transpose(0, 2, 1)),  # (B, L, C)
            asset=tuple(places[f].asset for f in which.tolist()),
        )
        verdicts = detector.judge(detector.infer(batch), self.baseline, which, static=False)
        return verdicts.score, verdicts.largest_jump


def _fires(alarm: Alarm, scores: Floats, jumps: Floats, chain: DetectionChain) -> int | None:
    """The first of these rows at which an episode fires; moves the alarm machine on up to there."""
    threshold, closing = chain.detector.threshold, chain.detector.closing
    opens = (scores > threshold) | (jumps > 1.0)
    if alarm.state is State.INACTIVE and not alarm.recent and not opens.any():
        return None
    for i, (score, jump) in enumerate(zip(scores.tolist(), jumps.tolist(), strict=True)):
        if score == score and alarm.step(score, threshold, closing, chain.policy, jump) is State.FIRING:
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
        present: Mask = observed[:, c]  # a sensor without values is not stuck
    elif what.kind is FaultKind.DROP_OUT:
        first = rules.silent_from(place.asset, c, place.row - 1 - int(place.age[c])) - place.row
        alert = AlertKind.SENSOR_SILENT
        present = np.asarray(np.isfinite(place.values[place.lead :]).any(1))  # its asset must have values
    else:
        return verdict
    if first < 0:
        return verdict  # such an alert is open already
    later = np.flatnonzero(present[first:])
    row = first + int(later[0]) if len(later) else max(first, len(present))
    if row >= rules.lasting_rows or (verdict.rows is not None and verdict.rows <= row):
        return verdict
    return Verdict(row, alert)


def _in_passing(verdict: Verdict, place: Place, what: Trial, injected: Floats, rules: Rules) -> Verdict:
    """The verdict, or that of the rules: a sensor swapped with one that does not move may look stuck."""
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
    present: Mask = np.asarray(np.isfinite(values[lead:]).any(1))
    stuck: int | None = -1 if -since >= limit else None  # declared before the fault began
    due = rules.silent_from(place.asset, c, place.row + last_row) - place.row
    silent: int | None = -1 if due <= -1 else None
    for i, value in enumerate(column[lead:]):
        if value == value:
            since, last, due = (since if value == last else i), value, -1
            last_row = i
            if stuck is None and i - since + 1 >= limit:
                stuck = i
        elif silent is None and present[i]:
            due = rules.silent_from(place.asset, c, place.row + last_row) - place.row if due < 0 else due
            silent = i if i >= due else None
    return (None if stuck == -1 else stuck), (None if silent == -1 else silent)


def judge_all(
    chain: DetectionChain, tried: Iterable[tuple[Place, Trial]]
) -> Iterator[tuple[Trial, Verdict | None]]:
    """All of these trials, many at once, in their order."""
    rest = iter(tried)
    while some := list(islice(rest, AT_ONCE)):
        steps = judge_in_slices(chain, some)
        while True:
            try:
                next(steps)
            except StopIteration as ended:
                yield from zip((t for _, t in some), ended.value, strict=True)
                break
