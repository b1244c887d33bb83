"""Alerts without a score: silent and stuck sensors, silent assets, clocks that are off.

None of this needs a score. An episode opens when a rule is met and closes when it is not any more:

* a sensor is *silent* when its asset has rows but it had no value for ``silent_after``,
  or for as long as its last one is held, if that is longer; values that came all the same and gave no number
  (``unread``) are reported with it;
* an asset is *silent* when the fleet's clock is ``silent_after`` beyond its newest row;
* a silence that is usual at its hour is none of these as long as the model's ``SilenceHabit`` lasts;
* a sensor is *stuck* when it does not move for longer than it ever did in training; the hours at which it is usually
  silent do not count: what it showed at dusk it may show again at dawn;
* an asset's clock is *skewed* when it is off by the same for as long as ``silent_after`` (``FleetClock``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial

import numpy as np

from daemon.assembly import hold_rows, received_places, silent_rows
from daemon.domain import AlertKind, Ints, Mask, Output, Severity, StreamSpec
from daemon.habit import SilenceHabit
from daemon.stream.alerts import Episodes
from daemon.stream.assets import AssetTable
from daemon.stream.chunk_windows import WindowedRows
from daemon.stream.event_time import NO_CLOCK
from daemon.stream.fleet_clock import ClockUpdate
from daemon.stream.incident import EpisodeStart, Part, UnscoredChange
from daemon.stream.ingest import Ingest
from daemon.stream.ledger import Ledger

ALWAYS = 1 << 62
"""A row beyond all others."""
STUCK_MARGIN = 2
"""A sensor is stuck when it stands still this many times longer than it ever did in training."""


class SilenceMonitor:
    """Who is silent or stuck in one input partition.

    Args:
        spec: the stream.
        assets: those of the partition.
        ledger: notes whose state changes by other assets' records.
        ingest: has each asset's newest row, and the fleet's clock.
        episodes: where the alarms are raised.
    """

    def __init__(
        self, spec: StreamSpec, assets: AssetTable, ledger: Ledger, ingest: Ingest, episodes: Episodes
    ) -> None:
        self.spec = spec
        self._assets = assets
        self._ledger = ledger
        self._ingest = ingest
        self._grid = ingest.grid
        self._clock = ingest.clock
        self._episodes = episodes
        self._silent_rows = max(spec.silent_after_ns // spec.period_ns, 1)
        self._ignored: Mask = np.array(
            [rule.alert.ignore for rule in spec.rules], bool
        )  # (C,) never silent or stuck
        self._sensor_silent_rows: Ints = np.array(silent_rows(spec), np.int64)  # (C,)
        self._received: Ints = np.array(received_places(spec), np.int64)  # (C,)
        self._silent = assets.column(bool, False)
        self._silent_sensors: dict[str, set[int]] = {}
        self._stuck: dict[str, set[int]] = {}
        self._patience_ns = [
            max(silent - held, 1) * spec.period_ns
            for silent, held in zip(silent_rows(spec), hold_rows(spec), strict=True)
        ]
        self._held_ns = [held * spec.period_ns for held in hold_rows(spec)]
        self._habit: SilenceHabit | None = None
        self._excused: set[str] = set()

    # -------------------------------------------------------------- state
    @property
    def silent(self) -> Mask:
        """(N,) by slot, whether the asset is declared silent."""
        return self._silent.values

    @property
    def with_stuck_sensors(self) -> set[str]:
        """The assets that have one."""
        return set(self._stuck)

    @property
    def with_excused_sensors(self) -> set[str]:
        """The assets of which a sensor is silent at their newest row, and only by habit not declared so."""
        return self._excused

    def use(self, habit: SilenceHabit | None) -> None:
        """Excuse silences by this habit from the next row on; None: none."""
        self._habit = habit
        self._clock.habit = None if habit is None else partial(self._silent_from, habit)

    def stuck(self, asset: str) -> set[int]:
        """The asset's stuck sensors, by index."""
        return self._stuck.get(asset, set())

    def snapshot(self, asset: str, slot: int) -> tuple[bool, list[int], list[int]]:
        """Whether the asset is silent, its silent sensors and its stuck ones."""
        silent_sensors, stuck = self._silent_sensors.get(asset, ()), self._stuck.get(asset, ())
        return bool(self._silent.values[slot]), sorted(silent_sensors), sorted(stuck)

    def restore(
        self, asset: str, slot: int, silent: bool, silent_sensors: list[int], stuck: list[int]
    ) -> None:
        """Continue from a predecessor's snapshot of the asset."""
        self._silent.values[slot] = silent
        if silent_sensors:
            self._silent_sensors[asset] = set(silent_sensors)
        if stuck:
            self._stuck[asset] = set(stuck)

    def forget(self, asset: str) -> None:
        """The asset is evicted."""
        self._silent_sensors.pop(asset, None)
        self._stuck.pop(asset, None)
        self._excused.discard(asset)

    # -------------------------------------------------------------- sensors
    def silent_sensors(self, chunk: WindowedRows) -> tuple[list[UnscoredChange], Mask]:
        """Sensors that became silent, or report again, at the rows of a chunk; (R,) which rows have a silent one."""
        changes: list[UnscoredChange] = []
        with_silent = np.zeros(len(chunk.rows), bool)
        rows, unread = chunk.rows, self._ingest.unread
        known = unread.known[rows.slots] if unread else None
        if not self._silent_sensors and not self._excused and chunk.complete.all() and known is None:
            return changes, with_silent
        looked_at = ~chunk.complete if known is None else ~chunk.complete | known
        for i in self._rows_of(rows.slots, looked_at, self._silent_sensors.keys() | self._excused):
            asset = rows.assets[i]
            if known is not None and known[i]:
                observed = self._received[chunk.observed[i]].tolist()
                unread.advance(int(rows.slots[i]), int(rows.rows[i]), observed)
            if rows.empty[i]:
                continue
            if not chunk.complete[i] or asset in self._silent_sensors or asset in self._excused:
                last = np.maximum(chunk.seen.row[i], chunk.first_row[i])
                changes += self._silent_at(chunk, i, last)
            with_silent[i] = asset in self._silent_sensors
        return changes, with_silent

    def _silent_at(self, chunk: WindowedRows, i: int, last: Ints) -> list[UnscoredChange]:
        """The same at one row of a chunk that a record was received for.

        ``last`` (C,) is the row of each sensor's last value, or the windows' first row.
        """
        rows, observed = chunk.rows, chunk.observed[i]
        asset, slot, row = rows.assets[i], int(rows.slots[i]), int(rows.rows[i])
        silent = ~observed & (row - last >= self._sensor_silent_rows) & ~self._ignored
        if self._habit is not None:
            excused = self._by_habit(self._habit, asset, silent, last, row)
            silent &= ~excused
            (self._excused.add if excused.any() else self._excused.discard)(asset)
        known = self._silent_sensors.get(asset, set())
        changes: list[UnscoredChange] = []
        if not silent.any() and not known:
            return changes
        sensors, kind = self.spec.sensors, AlertKind.SENSOR_SILENT
        for c in np.flatnonzero(silent).tolist():
            if c not in known:
                known.add(c)
                start = EpisodeStart(
                    kind,
                    int(last[c]),
                    sensors[c],
                    unread=dict(self._ingest.unread.of(slot, int(self._received[c]))),
                )
                changes.append(UnscoredChange(i, asset, row, Part(kind, sensors[c]), start))
        for c in sorted(c for c in known if observed[c]):
            known.discard(c)
            changes.append(UnscoredChange(i, asset, row, Part(kind, sensors[c]), None))
        _keep(self._silent_sensors, asset, known)
        return changes

    def _by_habit(self, habit: SilenceHabit, asset: str, silent: Mask, last: Ints, row: int) -> Mask:
        """(C,) which of the ``silent`` sensors are so by habit at a row; ``last`` as of ``_silent_at``.

        Training knows held values as values: to the habit a silence begins where the hold ends.
        """
        period, excused = self.spec.period_ns, np.zeros(len(silent), bool)
        for c in np.flatnonzero(silent).tolist():
            if habit.has(which := habit.which(asset, c)):
                begin = last[c : c + 1] * period + self._held_ns[c]
                excused[c] = row * period < habit.due_ns(which, begin, self._patience_ns[c])[0]
        return excused

    def stuck_sensors(self, chunk: WindowedRows, longest_constant: Ints) -> tuple[list[UnscoredChange], Mask]:
        """Sensors that stand still for longer than training ever saw, or move again, at the rows of a chunk.

        ``longest_constant`` (C,) are training's rows without a move, int64 max for "never moves". Returns the
        outputs, and (R,) which rows have a stuck sensor.
        """
        changes: list[UnscoredChange] = []
        with_stuck = np.zeros(len(chunk.rows), bool)
        longest = np.minimum(longest_constant, 1 << 60)  # keeps the margin from overflowing
        limit = np.maximum(STUCK_MARGIN * longest, STUCK_MARGIN * self.spec.window)
        still, observed = chunk.seen.still, chunk.observed
        stuck = observed & (still >= limit) & ~self._ignored
        if not self._stuck and not stuck.any():
            return changes, with_stuck
        sensors, kind = self.spec.sensors, AlertKind.SENSOR_STUCK
        for i in self._rows_of(chunk.rows.slots, stuck.any(1), self._stuck):
            asset, row = chunk.rows.assets[i], int(chunk.rows.rows[i])
            known = self._stuck.get(asset, set())
            for c in np.flatnonzero(stuck[i]).tolist():
                if c not in known and self._awaited_rows(asset, c, row, int(still[i, c])) < limit[c]:
                    stuck[i, c] = False
                elif c not in known:
                    known.add(c)
                    start = EpisodeStart(kind, row - int(still[i, c]) + 1, sensors[c])
                    changes.append(UnscoredChange(i, asset, row, Part(kind, sensors[c]), start))
            for c in sorted(c for c in known if observed[i, c] and not stuck[i, c]):
                known.discard(c)
                changes.append(UnscoredChange(i, asset, row, Part(kind, sensors[c]), None))
            _keep(self._stuck, asset, known)
            with_stuck[i] = bool(known)
        return changes, with_stuck

    def _awaited_rows(self, asset: str, sensor: int, row: int, still: int) -> int:
        """For how many of the ``still`` rows up to this one a sensor was expected to report, and could have moved."""
        habit = self._habit
        if habit is None or not habit.has(which := habit.which(asset, sensor)):
            return still
        period = self.spec.period_ns
        begin, end = (np.array([at * period]) for at in (row - still, row))
        return int(habit.unusual_ns(which, begin, end)[0] // period)

    def _rows_of(self, slots: Ints, which: Mask, known: Collection[str]) -> list[int]:
        """The rows of a chunk, in order, of assets that have a row of ``which`` (R,) in it, or are ``known``."""
        concerned = np.zeros(len(self.silent), bool)
        concerned[slots[which]] = concerned[self._assets.slots_of(known)] = True
        return np.flatnonzero(concerned[slots]).tolist()

    # -------------------------------------------------------------- assets
    def update_clock(self, drift_due_row: int) -> ClockUpdate | None:
        """Read the fleet's clock if it is due: which assets fell silent, whose clocks are off.

        Whether it is due depends on the records alone and not on the poll that they came in.

        Args:
            drift_due_row: the clock is read at this row, too.
        """
        if not self._clock.due(drift_due_row):
            return None
        ingest = self._ingest
        look = self._clock.update(self._grid.newest, self.silent, ingest.middle_stamp_ns, ingest.appended_ns)
        self._ledger.mark(self._assets.names_of(look.changed))
        return look

    def declare_silent(self, slots: Ints, model: str) -> Iterator[Output]:
        """Declare these assets silent, by name."""
        due = self._clock.silent_from(self._grid.newest, ALWAYS)
        for name, slot in self._by_name(slots):
            newest = int(self._grid.newest[slot])
            self._silent.values[slot] = True
            self._ledger.mark([name])  # it is the other assets' records that tell
            start = EpisodeStart(AlertKind.ASSET_SILENT, newest, severity=Severity.CRITICAL)
            row = int(due[slot]) + int(self._clock.skew[slot])
            yield from self._episodes.open_unscored(name, start, row, model)

    def _silent_from(self, habit: SilenceHabit, slots: Ints, newest: Ints) -> Ints:
        """(R,) from which rows on slots are silent whose newest rows these (R,) are, both of the fleet's clock."""
        which = np.array([habit.which(name, habit.whole) for name in self._assets.names_of(slots)], np.int64)
        period, patience = self.spec.period_ns, self._silent_rows
        due = newest + patience
        for one in np.unique(which).tolist():
            if habit.has(one):
                mine = which == one
                due[mine] = -(-habit.due_ns(one, newest[mine] * period, patience * period) // period)
        return due

    def has_caught_up(self, slot: int) -> bool:
        """Whether a silent asset is near the fleet's clock again."""
        newest = int(self._grid.newest[slot])
        return newest - int(self._clock.skew[slot]) + self._silent_rows > self._clock.row

    def end_silence(self, slot: int, model: str) -> list[Output]:
        """A silent asset reports again."""
        name, newest = self._assets.name(slot), int(self._grid.newest[slot])
        self._silent.values[slot] = False
        self._ledger.mark([name])
        return list(self._episodes.close_unscored(name, Part(AlertKind.ASSET_SILENT), newest, model))

    def update_clock_alerts(self, skewed: Ints, righted: Ints, model: str) -> Iterator[Output]:
        """Clocks that are off for good, and clocks that are right again."""
        for name, slot in self._by_name(skewed):
            newest = int(self._grid.newest[slot])
            ahead_ns = int(self._clock.skew[slot]) * self.spec.period_ns
            start = EpisodeStart(AlertKind.CLOCK_SKEW, newest, clock_offset_ns=ahead_ns)
            yield from self._episodes.open_unscored(name, start, newest, model)
        for name, slot in self._by_name(righted):
            newest = int(self._grid.newest[slot])
            yield from self._episodes.close_unscored(name, Part(AlertKind.CLOCK_SKEW), newest, model)

    def silent_when_idle(self, idle_ns: int) -> Ints:
        """The assets that are silent as the log stands: where all is idle, elapsed wall time counts.

        Args:
            idle_ns: for how long no record came.
        """
        clock, newest = self._clock, self._grid.newest
        row = clock.measure(newest, self._ingest.appended_ns)
        if row == NO_CLOCK:
            return np.empty(0, np.int64)
        was_there = ~clock.behind(newest, clock.row) | ~clock.behind(newest, row) | clock.overdue
        now = row + idle_ns // self.spec.period_ns
        return np.flatnonzero(clock.behind(newest, now) & was_there & ~self.silent)

    def _by_name(self, slots: Ints) -> list[tuple[str, int]]:
        return sorted((self._assets.name(slot), slot) for slot in slots.tolist())


def _keep(known: dict[str, set[int]], asset: str, sensors: set[int]) -> None:
    """An asset without such a sensor has no entry."""
    if sensors:
        known[asset] = sensors
    else:
        known.pop(asset, None)
