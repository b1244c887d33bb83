"""One input partition, from records to outputs: decode, grid, windows, judge, say.

``feed`` is a synchronous generator. It gives up a ``Step`` after every chunk of at most
``CHUNK`` windows, so that the shell can publish and let heartbeats through between chunks,
and the chunks' bounds never show in the results: a window's evidence depends on its own
values alone, and whatever has memory (baselines, episodes) takes rows in order.

Windows are cut from ``Rings``. One record is little work for a program of this kind, so that
what is done per record decides how fast it is: here that is decoding, the grid and a few
comparisons, and everything else is done per chunk, on arrays.

A partition that is taken over is first given its predecessor's state (``restore``), and then
fed from before its committed offset: each asset skips the records that its own state covers,
and the rest move it on *silently*, their outputs having been published before. What is the
partition's and no asset's (event time, drift, who is silent) is as of the committed offset
already, so that those records leave it alone.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from daemon.domain import (
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    DeadLetter,
    Detector,
    Disposition,
    Evidence,
    FilledCell,
    FilledRow,
    Floats,
    Format,
    InputPartition,
    Ints,
    Mask,
    Output,
    PartScore,
    Polled,
    Reading,
    Record,
    Rejected,
    Saved,
    ScoredRow,
    Severity,
    StreamSpec,
    Verdicts,
    Windows,
    to_ns,
)
from daemon.policy import State
from daemon.stream import state
from daemon.stream.alerts import Episodes, Finding
from daemon.stream.drift import EXCEEDANCES, Drift
from daemon.stream.rings import NO_RECORD, Rings
from daemon.stream.windows import Grid, ReleasedRow

CHUNK = 256
NO_MODEL = "none"
"""The model version that outputs name while there is no model yet (silence needs none)."""
STUCK_MARGIN = 2
"""A sensor is stuck when it stands still this many times longer than it ever did in training."""
REPLAY_RECORDS = 50_000
"""A successor replays at most about this many records, or eight per asset if that is more."""


class Decode(Protocol):
    """What the pipeline needs of ``codec.Decoder``."""

    def decode(self, record: Record) -> Reading | Rejected: ...


@dataclass(frozen=True, slots=True, eq=False)
class RowBlock:
    """Released rows with what was said of them: what training and the page live on."""

    assets: Sequence[str]
    rows: Ints  # (R,)
    values: Floats  # (R, C)
    scores: Floats  # (R,) NaN where not scored
    firing: Mask  # (R,)
    condition: Sequence[str]


@dataclass(slots=True, eq=False)
class Step:
    """What one chunk led to."""

    outputs: list[Output] = field(default_factory=list)
    block: RowBlock | None = None
    scored: int = 0
    filled: int = 0
    silent: bool = False


def _row_of(output: Output) -> tuple[str, int]:
    """The row that an output of a chunk speaks of."""
    assert isinstance(output, AlertEvent | FilledRow | ScoredRow)
    return output.asset, output.row_ns


@dataclass(frozen=True, slots=True)
class Traced:
    """What became of one record: kept only for ``replay``, which answers line by line."""

    offset: int
    asset: str
    row: int
    disposition: Disposition


class Pipeline:
    """All state of one input partition of one stream.

    Args:
        spec: the stream.
        partition: the input partition.
        decoder: bytes to readings.
        policy: when scores become an episode.
        drift_interval_ns: of the drift records.
        maintenance: see ``alerts.Episodes``.
        scores: whether to put out a ScoredRow for every scored row.
        max_assets: above this, the assets longest without a row are forgotten, and counted.
        resume_at: records before this offset rebuild state silently.
        trace: whether to keep what became of each record.
    """

    def __init__(
        self,
        spec: StreamSpec,
        partition: InputPartition,
        decoder: Decode,
        policy: AlarmPolicy,
        drift_interval_ns: int,
        *,
        maintenance: Sequence[tuple[int, int, frozenset[str]]] = (),
        scores: bool = False,
        max_assets: int = 100_000,
        resume_at: int = 0,
        trace: bool = False,
    ) -> None:
        self.spec = spec
        self.partition = partition
        self.decoder = decoder
        self.grid = Grid(spec)
        self.episodes = Episodes(spec, partition, policy, maintenance)
        self.counts: Counter[Disposition] = Counter()
        self.reasons: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.rows = 0
        self.offset = -1  # next offset to process
        self.resume_at = resume_at  # records before it are silent
        self.trace: list[Traced] | None = [] if trace else None
        self.detector: Detector | None = None
        self.drift: Drift | None = None
        self.cut: int | None = None  # a chunk ends after this many observed rows, for an exact swap
        self.observed_rows = 0
        self._rebuilding = resume_at > 0
        self._restored = False  # whether the partition's own state came with it
        self._other_model = False  # ... but was that of another model: rows are not judged anew
        self._covered: dict[str, int] = {}  # asset -> its state knows the records before this offset
        self._forgotten_before = 0  # an asset seen before, and without a record of state, was evicted
        self._dirty: dict[str, int] = {}  # asset -> first record that no state covers; in that order
        self._forced: set[str] = set()  # what moved these is in no record: they go with the next commit
        self._kept: set[str] = set()  # assets that have a record of state
        self._gone: set[str] = set()  # evicted since the last commit
        self._everything = False  # all assets go with the next commit
        self._drift_due_ns = 0  # the event time at which the next drift interval is over
        self._drift_interval_ns = drift_interval_ns
        self._scores = scores
        self._max_assets = max_assets
        self._pending: list[ReleasedRow] = []
        self._silent_rows = max(spec.silent_after_ns // spec.period_ns, 1)
        self._silent_assets: set[str] = set()
        self._listening: list[tuple[int, str]] = []  # heap: (a row the asset was heard at, asset)
        self._listen_at_ns = 1 << 62  # the event time at which the first of them may be silent
        self._closed: list[ReleasedRow] = []  # by the record at hand
        self._accepted = 0  # in the feed at hand
        self._listened: set[str] = set()  # who is in the heap
        self._early: list[Step] = []  # what had to be said before the chunk was full
        self._silent_sensors: dict[str, set[int]] = {}
        self._stuck: dict[str, set[int]] = {}
        self._slots: dict[str, int] = {}
        self._names: list[str | None] = []
        self._free: list[int] = []
        self._rings = Rings(spec.window, len(spec.sensors))
        self._baseline: Floats = np.empty((0, 0))
        self._began: Mask = np.empty(0, bool)  # whether the slot's baseline was set under this model
        self._allocate(16)

    # -------------------------------------------------------------- slots
    def _allocate(self, capacity: int) -> None:
        """Grow the per-asset arrays; rows of the old ones keep their slots."""
        old = len(self._names)
        more = capacity - old
        self._rings.grow(capacity)
        for name in ("_baseline", "_began"):
            array = getattr(self, name)
            # A slot is set up when it is taken: what new memory holds does not matter.
            setattr(self, name, np.concatenate([array, np.zeros((more, *array.shape[1:]), array.dtype)]))
        self._free = [*range(capacity - 1, old - 1, -1), *self._free]
        self._names += [None] * more

    def _slot(self, asset: str) -> int:
        slot = self._slots.get(asset)
        if slot is not None:
            return slot
        if not self._free:
            self._allocate(2 * len(self._names))
        slot = self._free.pop()
        self._slots[asset] = slot
        self._names[slot] = asset
        self._rings.clear(slot)
        self._began[slot] = False
        return slot

    def _evict(self) -> None:
        """Forget the hundredth of the assets that has been quiet longest."""
        heard = self.grid.assets
        few = max(len(self._slots) // 100, 1)
        for name in heapq.nsmallest(few, self._slots, key=lambda name: (heard[name].newest, name)):
            slot = self._slots.pop(name)
            self._names[slot] = None
            self._free.append(slot)
            self.grid.drop(name)
            self.episodes.drop(name)
            self._silent_assets.discard(name)
            self._silent_sensors.pop(name, None)
            self._stuck.pop(name, None)
            self._dirty.pop(name, None)
            self._forced.discard(name)
            self._gone.add(name)
            self.dropped["asset_evicted"] += 1

    @property
    def assets(self) -> int:
        """How many assets have state here."""
        return len(self._slots)

    # -------------------------------------------------------------- the model
    def use(self, detector: Detector) -> list[Output]:
        """Judge with this detector from the next row on; weights, scaler and thresholds change together.

        Returns:
            What the outgoing model's unfinished drift intervals added up to.
        """
        assert detector.window == self.spec.window
        left: list[Output] = [] if self.drift is None else list(self.drift.due(1 << 62))
        self.detector = detector
        self.drift = Drift(
            self.spec.name, self.partition, self._drift_interval_ns, detector.drift, detector.version
        )
        self._baseline = np.tile(detector.fresh_baseline(""), (len(self._names), 1))
        self._began[:] = False
        # No successor may score rows of before with a model of after.
        self._everything = True
        return left

    @property
    def model(self) -> str:
        """The version that outputs name."""
        return self.detector.version if self.detector is not None else NO_MODEL

    # -------------------------------------------------------------- feed
    def feed(self, polled: Polled) -> Iterator[Step]:
        """Take what was polled; yields a Step per chunk. Exhaust it before the next call."""
        letters: list[Output] = []
        for item in polled.items:
            if self._rebuilding and item.offset >= self.resume_at:
                # What the silent records released was published before: it may not spill over.
                yield from self._drain(silent=True)
                self._rebuilt()
            self._offer(item, letters, silent=self._rebuilding)
            if self._early:
                early, self._early = self._early, []
                yield from early
            while self._pending and len(self._pending) >= self._chunk():
                yield self._flush(self._rebuilding)
        self.counts[Disposition.ACCEPTED] += self._accepted
        self._accepted = 0
        step = Step(outputs=letters)
        resumed = self.offset >= self.resume_at
        if resumed and self._rebuilding:
            yield from self._drain(silent=True)
            self._rebuilt()
        if polled.ended or (resumed and polled.idle):
            # No record tells a successor that time has passed.
            self._forced.update(asset for asset, grid in self.grid.assets.items() if grid.rows)
        if polled.ended:
            self._pending.extend(self.grid.finish())
        elif resumed and polled.idle:
            self._pending.extend(self.grid.elapse(to_ns(polled.idle)))
        yield from self._drain(silent=not resumed)
        if resumed:
            if polled.idle or polled.ended:
                step.outputs.extend(self._silent_at_the_end(to_ns(polled.idle)))
            if polled.ended:
                step.outputs.extend(self._drift_records(1 << 62))
        if step.outputs:
            yield step

    def _rebuilt(self) -> None:
        self._rebuilding = False
        self._covered.clear()

    def _offer(self, item: Record | Reading, letters: list[Output], *, silent: bool) -> None:
        self.offset = item.offset + 1
        reading = self.decoder.decode(item) if type(item) is Record else item
        if type(reading) is Rejected:
            if not silent:
                self.counts[Disposition.REJECTED] += 1
                self.reasons[reading.reason] += 1
                letters.append(DeadLetter(self.spec.name, self.partition, reading))
            if self.trace is not None:
                self.trace.append(Traced(item.offset, "", -1, Disposition.REJECTED))
            return
        assert type(reading) is Reading
        asset = reading.asset
        replayed = silent and self._restored
        if replayed and item.offset < self._covered.get(asset, self._forgotten_before):
            return
        closed = self._closed
        disposition = self.grid.offer(reading, closed)
        if asset not in self._dirty:
            self._dirty[asset] = item.offset
        if disposition is Disposition.ACCEPTED:
            # What is forgotten or said here must not overtake rows that came before.
            if asset not in self._slots:
                if len(self._slots) >= self._max_assets:
                    self._early.extend(self._drain(silent=silent))
                    self._evict()
                self._slot(asset)
            if not replayed:
                now_ns = self.grid.event_time_ns
                heard = asset in self._listened and asset not in self._silent_assets
                if now_ns >= self._listen_at_ns or not heard:
                    self._listen(asset, silent=silent)
                if now_ns >= self._drift_due_ns and not silent:
                    self._intervals_end()
            elif asset not in self._silent_assets:
                self._await(asset)
            if closed:
                self._pending += closed
                closed.clear()
            self._accepted += not silent
        elif not silent:
            self.counts[disposition] += 1
        if self.trace is not None:
            self.trace.append(Traced(item.offset, asset, self.spec.row(reading.time_ns), disposition))

    def _drain(self, *, silent: bool) -> Iterator[Step]:
        while self._pending:
            yield self._flush(silent)

    def _chunk(self) -> int:
        """How many rows the next chunk takes: up to ``cut`` observed ones, if that is set."""
        if self.cut is None or self.observed_rows >= self.cut:
            return CHUNK
        left = self.cut - self.observed_rows
        for i, row in enumerate(self._pending[:CHUNK]):
            left -= not row.empty
            if left == 0:
                return i + 1
        return CHUNK

    # -------------------------------------------------------------- rows
    def _flush(self, silent: bool) -> Step:
        """Push a chunk of released rows into their windows, judge, and say what follows."""
        size = self._chunk()
        if any([row.fresh for row in self._pending[:size]]):
            met: set[str] = set()
            for i, row in enumerate(self._pending[:size]):
                if row.fresh and row.asset in met:
                    size = i  # the baseline starts afresh between two rows, and so between two chunks
                    break
                met.add(row.asset)
        rows, self._pending = self._pending[:size], self._pending[size:]
        R, C, rings = len(rows), len(self.spec.sensors), self._rings
        assets = [row.asset for row in rows]
        values = np.array([row.values for row in rows], dtype=np.float64).reshape(R, C)
        index = np.fromiter([row.row for row in rows], np.int64, R)
        empty = np.fromiter([row.empty for row in rows], bool, R)
        slots = np.fromiter(map(self._slots.__getitem__, assets), np.int64, R)
        observed = np.isfinite(values)
        complete: Mask = np.asarray(observed.all(1))
        step = Step(silent=silent)
        turns = rings.turns(slots)
        fresh = np.fromiter([row.fresh for row in rows], bool, R)
        for i in np.flatnonzero(fresh | ((turns == 0) & (rings.filled[slots] == 0))).tolist():
            rings.restart(int(slots[i]), rows[i].row)
            self._began[slots[i]] = False
        told = rings.tell(slots, index, values, observed)
        judging = self.detector is not None and not (silent and self._other_model)
        full = rings.filled[slots] + turns + 1 >= self.spec.window
        due = full & (index % self.spec.hop == 0) & judging
        wanted = due | (~complete & judging)
        offsets = np.fromiter([row.offset for row in rows], np.int64, R)
        windows, first_offsets = rings.push(slots, turns, values, np.where(empty, NO_RECORD, offsets), wanted)
        if self._silent_sensors or not complete.all():
            for i, asset in enumerate(assets):
                if not empty[i] and (not complete[i] or asset in self._silent_sensors):
                    since = np.maximum(told.row[i], rings.fresh_row[slots[i]])
                    self._silences(rows[i], since, observed[i], step)
        self.rows += R
        self.observed_rows += R - int(empty.sum())
        scores = np.full(R, np.nan)
        # Where an asset's episode stands, carried on from row to row; nearly always nowhere.
        firing = np.zeros(R, bool)
        fires = {asset: self._firing(asset) for asset in set(assets) & self.episodes.assets.keys()}
        if judging:
            needed = np.flatnonzero(wanted)
            if len(needed):
                batch = Windows(
                    windows,
                    full[needed],
                    tuple([rows[i].condition for i in needed.tolist()]),
                    told.value[needed],
                    (index[:, None] - told.row)[needed].astype(np.float64),
                )
                judged, evidence = self._infer(batch)
                if evidence is not None:
                    if len(judged) < len(needed):
                        needed, windows, first_offsets = (
                            needed[judged],
                            windows[judged],
                            first_offsets[judged],
                        )
                    self._fill(rows, needed, complete, evidence, step)
                    self._judge(
                        rows, slots, needed, due, windows, first_offsets, evidence, scores, firing, step
                    )
            self._stuck_sensors(rows, told.still, observed, step)
            self._conditions(rows, step)
        if fires or firing.any():
            for i, asset in enumerate(assets):
                if np.isfinite(scores[i]):
                    fires[asset] = bool(firing[i])
                firing[i] = fires.get(asset, False)
        step.block = RowBlock(assets, index, values, scores, firing, [row.condition for row in rows])
        if silent:
            step.outputs = []
        elif sum(type(output) is AlertEvent for output in step.outputs) > 1:
            # Row by row, not kind by kind: where a chunk ends must not show in the alerts' order.
            place = {(row.asset, row.row * self.spec.period_ns): i for i, row in enumerate(rows)}
            step.outputs.sort(key=lambda output: place[_row_of(output)])
        return step

    def _infer(self, batch: Windows) -> tuple[Ints, Evidence | None]:
        """The evidence of the windows that the model can look at, and which these are.

        A window that the model fails on is counted and stays unscored: it must not take others
        with it, nor end the process, which would meet it again after its restart.
        """
        assert self.detector is not None
        every = np.arange(len(batch))
        try:
            return every, self.detector.infer(batch)
        except Exception:  # noqa: BLE001 - a model is data: it may raise anything on what it never saw
            if len(batch) == 1:
                self.dropped["model_failed"] += 1
                return every[:0], None
        found = []
        for half in (every[: len(batch) // 2], every[len(batch) // 2 :]):
            judged, evidence = self._infer(batch.take(half))
            if evidence is not None:
                found.append((half[judged], evidence))
        if not found:
            return every[:0], None
        return np.concatenate([which for which, _ in found]), Evidence.joined([e for _, e in found])

    def _firing(self, asset: str) -> bool:
        known = self.episodes.assets.get(asset)
        return known is not None and known.alarm.state is State.FIRING

    def _fill(
        self, rows: Sequence[ReleasedRow], needed: Ints, complete: Mask, evidence: Evidence, step: Step
    ) -> None:
        """Put out the imputed cells of every incomplete row."""
        assert self.detector is not None
        sensors = self.spec.sensors
        for j in np.flatnonzero(~complete[needed]).tolist():
            row = rows[needed[j]]
            filled, low, high = evidence.filled[j], evidence.low[j], evidence.high[j]
            cells = {
                sensors[c]: FilledCell(float(filled[c]), float(low[c]), float(high[c]))
                for c, value in enumerate(row.values)
                if value != value
            }
            step.filled += len(cells)
            step.outputs.append(
                FilledRow(
                    self.spec.name,
                    row.asset,
                    row.row * self.spec.period_ns,
                    cells,
                    self.detector.kind,
                    self.detector.version,
                )
            )

    def _judge(
        self,
        rows: Sequence[ReleasedRow],
        slots: Ints,
        needed: Ints,
        due: Mask,
        windows: Floats,
        first_offsets: Ints,
        evidence: Evidence,
        scores: Floats,
        firing: Mask,
        step: Step,
    ) -> None:
        """Score the windows that are due, in row order, and move their episodes on.

        ``needed`` says of which of the ``rows`` there are ``windows`` and evidence.
        """
        detector = self.detector
        assert detector is not None
        assert self.drift is not None
        chosen = np.flatnonzero(due[needed])
        if not len(chosen):
            return
        which = needed[chosen]  # indices into rows
        some = evidence if len(chosen) == len(needed) else evidence.take(chosen)
        for i in which[~self._began[slots[which]]].tolist():
            slot = slots[i]
            if not self._began[slot]:
                # The baseline training left carries on where these rows continue it.
                self._began[slot] = True
                carried = detector.carried_baseline(rows[i].asset, rows[i].row)
                fresh = detector.fresh_baseline(rows[i].asset) if carried is None else carried
                self._baseline[slot] = fresh
        verdicts = detector.judge(some, self._baseline, slots[which], static=self._scores)
        threshold = detector.threshold
        scored = np.isfinite(verdicts.score)
        step.scored += int(scored.sum())
        period = self.spec.period_ns
        times = np.fromiter([rows[i].row for i in which.tolist()], np.int64, len(which)) * period
        if not step.silent:
            self.drift.add(
                times[scored],
                some if scored.all() else some.take(np.flatnonzero(scored)),
                verdicts.kl[scored],
            )
        scores[which] = verdicts.score
        # Whoever is not near an alarm and was not before has no episode that could move.
        loud = verdicts.score > self.episodes.policy.hysteresis * threshold
        restless = {rows[i].asset for i in which[loud].tolist()} | self.episodes.assets.keys()
        for j, i in enumerate(which.tolist()) if restless else ():
            row = rows[i]
            if row.asset not in restless:
                continue
            score = float(verdicts.score[j])
            if scored[j] and not self.episodes.quiet(row.asset, score, threshold):
                finding = self._finding(
                    row, j, windows[chosen[j]], int(first_offsets[chosen[j]]), some, verdicts, threshold
                )
                firing[i], events = self.episodes.scored(
                    row.asset, finding, threshold, detector.version, detector.calibration
                )
                step.outputs.extend(events)
            elif not scored[j]:
                firing[i] = self._firing(row.asset)
        if self._scores:
            self._say_scores(rows, which, times, verdicts, firing, step)

    def _say_scores(
        self,
        rows: Sequence[ReleasedRow],
        which: Ints,
        times: Ints,
        verdicts: Verdicts,
        firing: Mask,
        step: Step,
    ) -> None:
        """Put out the scores of every row that was judged."""
        columns = [
            times,
            verdicts.score,
            verdicts.reconstruction,
            verdicts.kl,
            verdicts.point,
            verdicts.elbo,
            firing[which],
            verdicts.static_score,
        ]
        for i, time_ns, score, reconstruction, kl, point, elbo, alarm, static in zip(
            which.tolist(), *(column.tolist() for column in columns), strict=True
        ):
            step.outputs.append(
                ScoredRow(
                    self.spec.name,
                    rows[i].asset,
                    time_ns,
                    score,
                    reconstruction,
                    kl,
                    point,
                    elbo,
                    alarm,
                    self.model,
                    static,
                )
            )

    def _finding(
        self,
        row: ReleasedRow,
        j: int,
        window: Floats,
        first_offset: int,
        evidence: Evidence,
        verdicts: Verdicts,
        threshold: float,
    ) -> Finding:
        """What an alert would say of one scored row."""
        assert self.detector is not None
        parts = self.detector.part_thresholds
        scores: dict[str, PartScore] = {}
        for name in ("reconstruction", "kl", "point"):
            value = float(getattr(verdicts, name)[j])
            if value == value:
                scores[name] = PartScore(value, parts[name], float(getattr(verdicts, f"p_{name}")[j]))
        scores["combined"] = PartScore(float(verdicts.score[j]), threshold)
        sensors = np.stack(
            [verdicts.error[j], evidence.deviation[j], np.array(row.values), evidence.expected[j]]
        )
        return Finding(
            row.row,
            float(verdicts.score[j]),
            scores,
            sensors,
            float(1.0 - np.isfinite(window).mean()),
            first_offset if first_offset < NO_RECORD else row.offset,
            row.last_offset,
        )

    # -------------------------------------------------------------- what needs no model
    def _silences(self, row: ReleasedRow, last: Ints, seen: Mask, step: Step) -> None:
        """Sensors that fell silent, or speak again, at this row, which its asset spoke of.

        ``last`` (C,) is the row at which each was heard last, or the windows' first.
        """
        asset = row.asset
        silent = ~seen & (row.row - last >= self._silent_rows)
        known = self._silent_sensors.get(asset, set())
        if not silent.any() and not known:
            return
        for c in np.flatnonzero(silent).tolist():
            if c not in known:
                known.add(c)
                step.outputs.extend(
                    self.episodes.raise_plain(
                        asset,
                        AlertKind.SENSOR_SILENT,
                        self.spec.sensors[c],
                        row.row,
                        int(last[c]),
                        Severity.WARNING,
                        self.model,
                    )
                )
        for c in [c for c in known if seen[c]]:
            known.discard(c)
            step.outputs.extend(
                self.episodes.settle(
                    asset, AlertKind.SENSOR_SILENT, self.spec.sensors[c], row.row, self.model
                )
            )
        if known:
            self._silent_sensors[asset] = known
        else:
            self._silent_sensors.pop(asset, None)

    def _listen(self, asset: str, *, silent: bool) -> None:
        """An asset was heard: it may be back, and event time may have left others behind.

        Asked after every reading, not once per poll: whether an asset counts as silent must
        not depend on what else came in the same poll. An asset that lags behind the others is
        one silence until it has caught up.
        """
        limit = (self.grid.event_time_ns - self.spec.silent_after_ns) // self.spec.period_ns
        events: list[Output] = []
        newest = self.grid.assets[asset].newest
        if asset in self._silent_assets and newest > limit:
            self._early.extend(self._drain(silent=silent))
            self._silent_assets.discard(asset)
            self._forced.add(asset)
            events.extend(self.episodes.settle(asset, AlertKind.ASSET_SILENT, None, newest, self.model))
        while self._listening and self._listening[0][0] <= limit:
            row, other = heapq.heappop(self._listening)
            self._listened.discard(other)
            grid = self.grid.assets.get(other)
            if grid is None or other in self._silent_assets:
                continue
            if grid.newest > row:
                self._await(other)
            elif other != asset:
                self._early.extend(self._drain(silent=silent))
                events.extend(self._fell_silent(other))
        if asset not in self._silent_assets:
            self._await(asset)
        self._look_again()
        if events and not silent:
            self._early.append(Step(outputs=events))

    def _await(self, asset: str) -> None:
        """Look at this asset again when event time is ``silent_after`` ahead of it."""
        if asset not in self._listened:
            self._listened.add(asset)
            heapq.heappush(self._listening, (self.grid.assets[asset].newest, asset))
            self._look_again()

    def _look_again(self) -> None:
        if self._listening:
            first = self._listening[0][0] * self.spec.period_ns
            self._listen_at_ns = first + self.spec.silent_after_ns
        else:
            self._listen_at_ns = 1 << 62

    def _fell_silent(self, asset: str) -> list[AlertEvent]:
        newest = self.grid.assets[asset].newest
        self._silent_assets.add(asset)
        self._forced.add(asset)  # it is the others' records that say so
        return self.episodes.raise_plain(
            asset,
            AlertKind.ASSET_SILENT,
            None,
            newest + self._silent_rows,
            newest,
            Severity.CRITICAL,
            self.model,
        )

    def _silent_at_the_end(self, idle_ns: int) -> list[Output]:
        """Assets that are silent as the log stands: elapsed wall time counts where all is idle."""
        ahead_ns = self.grid.event_time_ns + idle_ns - self.spec.silent_after_ns
        limit = ahead_ns // self.spec.period_ns
        outputs: list[Output] = []
        for asset, grid in self.grid.assets.items():
            if grid.newest <= limit and asset not in self._silent_assets:
                outputs.extend(self._fell_silent(asset))
        return outputs

    # -------------------------------------------------------------- what needs the model's memory
    def _stuck_sensors(self, rows: Sequence[ReleasedRow], still: Ints, observed: Mask, step: Step) -> None:
        """Sensors that have stood still for longer than training ever saw."""
        assert self.detector is not None
        # int64 max means "never": keep the margin from overflowing.
        longest = np.minimum(self.detector.longest_constant, 1 << 60)
        limit = np.maximum(STUCK_MARGIN * longest, STUCK_MARGIN * self.spec.window)
        stuck = observed & (still >= limit)
        if not self._stuck and not stuck.any():
            return
        for i in range(len(rows)):
            asset = rows[i].asset
            known = self._stuck.get(asset, set())
            for c in np.flatnonzero(stuck[i]).tolist():
                if c not in known:
                    known.add(c)
                    step.outputs.extend(
                        self.episodes.raise_plain(
                            asset,
                            AlertKind.SENSOR_STUCK,
                            self.spec.sensors[c],
                            rows[i].row,
                            rows[i].row - int(still[i, c]) + 1,
                            Severity.WARNING,
                            self.model,
                        )
                    )
            for c in [c for c in known if observed[i, c] and not stuck[i, c]]:
                known.discard(c)
                step.outputs.extend(
                    self.episodes.settle(
                        asset, AlertKind.SENSOR_STUCK, self.spec.sensors[c], rows[i].row, self.model
                    )
                )
            if known:
                self._stuck[asset] = known
            else:
                self._stuck.pop(asset, None)

    def _conditions(self, rows: Sequence[ReleasedRow], step: Step) -> None:
        """Rows whose condition the model has never seen: scored as ``unknown``, and said once."""
        assert self.detector is not None
        if not self.spec.condition:
            return
        known = self.detector.conditions
        for row in rows:
            episodes = self.episodes.assets.get(row.asset)
            opened = (
                [s for k, s in episodes.open if k is AlertKind.UNKNOWN_CONDITION]
                if episodes is not None
                else []
            )
            for label in opened:
                if label != row.condition:
                    step.outputs.extend(
                        self.episodes.settle(
                            row.asset, AlertKind.UNKNOWN_CONDITION, label, row.row, self.model
                        )
                    )
            if row.condition not in known and row.condition not in opened:
                step.outputs.extend(
                    self.episodes.raise_plain(
                        row.asset,
                        AlertKind.UNKNOWN_CONDITION,
                        row.condition,
                        row.row,
                        row.row,
                        Severity.WARNING,
                        self.model,
                    )
                )

    def _intervals_end(self) -> None:
        """Publish the drift of the intervals that event time has left behind.

        Asked after a reading, not once per poll: what an interval adds up to must not depend on
        what else came in the same poll.
        """
        if not self._drift_due_ns:
            self._await_interval()
            return
        self._early.extend(self._drain(silent=False))
        outputs = self._drift_records(self._await_interval())
        if outputs:
            self._early.append(Step(outputs=outputs))

    def _await_interval(self) -> int:
        """Set when to look again; gives the time before which no row is awaited any more.

        A row of an asset that lags behind the others may still come: it makes a record more.
        """
        behind_ns = self.spec.allowed_lateness_ns + self.spec.period_ns
        horizon_ns = self.grid.event_time_ns - behind_ns
        next_end = (horizon_ns // self._drift_interval_ns + 1) * self._drift_interval_ns
        self._drift_due_ns = next_end + behind_ns
        return horizon_ns

    def _drift_records(self, horizon_ns: int) -> list[Output]:
        """Drift intervals that are over, and the alarm after three in a row."""
        if self.drift is None or self.detector is None:
            return []
        outputs: list[Output] = []
        for record in self.drift.due(horizon_ns):
            outputs.append(record)
            row = self.spec.row(record.end_ns)
            subject = self.spec.name
            if record.verdict == "drift" and self.drift.exceeded >= EXCEEDANCES:
                onset = self.spec.row(self.drift.first_exceeded_ns)
                outputs.extend(
                    self.episodes.raise_plain(
                        subject, AlertKind.DRIFT, None, row, onset, Severity.WARNING, self.model
                    )
                )
            elif record.verdict == "ok":
                outputs.extend(self.episodes.settle(subject, AlertKind.DRIFT, None, row, self.model))
        return outputs

    # -------------------------------------------------------------- recovery
    def replay_from(self) -> int:
        """The oldest record that no saved state covers; meant after ``checkpoint``."""
        return next(iter(self._dirty.values()), max(self.offset, 0))

    @property
    def moved(self) -> bool:
        """Whether something changed that no record tells a successor."""
        return bool(self._forced) or self._everything

    def checkpoint(self) -> list[Saved]:
        """The state that is to become durable together with the position and its outputs.

        Every asset that no replay could bring up to date goes, and those that were not written
        for so long that each asset had about a window of rows meanwhile: so what is written
        stays in proportion to what is read, and a replay short. Call it between two feeds.
        """
        assert not self._pending
        assets, spec = len(self._slots), self.spec
        per_row = 1 if spec.format is Format.JSON_WIDE else len(spec.sensors)
        span = min(spec.window * assets * per_row, max(REPLAY_RECORDS, 8 * assets))
        topic = self.partition.topic
        gone = (self._gone & self._kept) - self._slots.keys()
        saved = [state.written(topic, asset, None) for asset in sorted(gone)]
        if self._gone:
            # From here on whoever has no record is unknown: so all that live must have one.
            self._kept -= self._gone
            self._forced.update(asset for asset in self._slots if asset not in self._kept)
            self._forgotten_before = self.offset
            self._gone.clear()
        chosen = set(self._slots) if self._everything else self._forced & self._slots.keys()
        for asset, offset in self._dirty.items():
            if offset > self.offset - span:
                break
            chosen.add(asset)
        saved += [state.written(topic, asset, self._state_of(asset)) for asset in sorted(chosen)]
        for asset in chosen:
            self._dirty.pop(asset, None)
        self._kept |= chosen
        self._forced.clear()
        self._everything = False
        saved.append(state.written(topic, "", self._partition_state()))
        return saved

    def _partition_state(self) -> state.PartitionState:
        drift = self.episodes.assets.get(self.spec.name)
        episode = drift.open.get((AlertKind.DRIFT, None)) if drift is not None else None
        return state.PartitionState(
            state.layout(self.spec),
            self.offset,
            self.model,
            self.grid.event_time_ns,
            self._forgotten_before,
            state.of_drift(self.drift),
            self.drift.exceeded if self.drift is not None else 0,
            self.drift.first_exceeded_ns if self.drift is not None else -1,
            None if episode is None else state.of_episode(episode),
        )

    def _state_of(self, asset: str) -> state.AssetState:
        slot, rings = self._slots[asset], self._rings
        window, offsets = rings.held(slot)
        return state.AssetState(
            state.layout(self.spec),
            self.offset,
            self.model,
            state.of_grid(self.grid.assets[asset]),
            state.floats(window),
            state.ints(offsets),
            state.floats(rings.last_value[slot]),
            state.ints(rings.last_row[slot]),
            state.ints(rings.still_since(slot)),
            int(rings.fresh_row[slot]),
            state.floats(self._baseline[slot]) if self._began[slot] else None,
            state.of_episodes(self.episodes.assets.get(asset)),
            asset in self._silent_assets,
            sorted(self._silent_sensors.get(asset, ())),
            sorted(self._stuck.get(asset, ())),
        )

    def restore(self, saved: Sequence[Saved], *, exact: bool = True) -> bool:
        """Take over what a predecessor knew; before the first feed, and after ``use``.

        Args:
            saved: the records of this partition, perhaps among others.
            exact: whether the state must be of this very position. Where it is written before
                the position is, it may be of a later one: what lies between was published.

        Returns:
            False if the state is of no use; its records are then taken away.
        """
        topic = self.partition.topic
        partition, assets = state.read(saved, topic, self.spec)
        if (
            partition is None
            or partition.offset < self.resume_at
            or (exact and partition.offset != self.resume_at)
        ):
            self._gone = state.names(saved, topic)
            self._kept = set(self._gone)
            return False
        self.resume_at = partition.offset
        self._rebuilding = self._restored = True
        self._other_model = partition.model != self.model
        self._everything = self._other_model
        self._forgotten_before = partition.forgotten_before
        self.grid.event_time_ns = partition.event_time_ns
        if partition.drift_episode is not None:
            kept = state.to_episode(partition.drift_episode)
            self.episodes.of(self.spec.name).open[kept.kind, kept.sensor] = kept
        if self.drift is not None and not self._other_model:
            state.to_drift(self.drift, partition)
        self._await_interval()
        for asset, known in assets.items():
            self._take(asset, known)
        return True

    def _take(self, asset: str, known: state.AssetState) -> None:
        """Set up one asset as it was at the offset that its record covers."""
        slot = self._slot(asset)
        self._rings.hold(
            slot,
            (
                state.to_floats(known.window).reshape(-1, len(self.spec.sensors)),
                state.to_ints(known.window_offsets),
            ),
            (state.to_floats(known.last_value), state.to_ints(known.last_row)),
            state.to_ints(known.still_since),
            known.fresh_row,
        )
        if known.baseline is not None and known.model == self.model and self.detector is not None:
            self._baseline[slot] = state.to_floats(known.baseline)
            self._began[slot] = True
        grid = self.grid.assets[asset] = state.to_grid(asset, known.grid)
        if known.alarm is not None:
            mine, theirs = state.to_episodes(known.alarm), self.episodes.assets.get(asset)
            if theirs is not None:  # an asset that is named as the stream is
                mine.open |= theirs.open
            self.episodes.assets[asset] = mine
        if known.asset_silent:
            self._silent_assets.add(asset)
        elif grid.newest >= 0:
            self._await(asset)
        if known.silent_sensors:
            self._silent_sensors[asset] = set(known.silent_sensors)
        if known.stuck:
            self._stuck[asset] = set(known.stuck)
        self._covered[asset] = known.offset
        self._kept.add(asset)

    def statistics(self) -> Mapping[str, int]:
        """Counts for the summary and the metrics."""
        return {
            "read": sum(self.counts.values()),
            **{disposition.value: self.counts[disposition] for disposition in Disposition},
        }
