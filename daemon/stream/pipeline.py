"""One input partition, from records to outputs: decode, grid, windows, judge, say.

``feed`` is a synchronous generator. It gives up a ``Step`` after every chunk of at most
``MOST`` rows, so that the shell can publish and let heartbeats through between chunks,
and the chunks' bounds never show in the results: a window's evidence depends on its own
values alone, and whatever has memory (baselines, episodes) takes rows in order.

What is done per record decides how fast a program of this kind is. Here a usual line, the next
row of an asset that waits for nothing, is looked at alone by the decoder only: grid (``windows``),
windows (``rings``) and verdicts take many at once, on arrays. Any other line goes by itself, and
nobody can tell from what is said which way a line went.

A partition that is taken over is first given its predecessor's state (``restore``), and then
fed from before its committed offset: each asset skips the records that its own state covers,
and the rest move it on *silently*, their outputs having been published before. What is the
partition's and no asset's (event time, drift, who is silent) is as of the committed offset
already, so that those records leave it alone.
"""

from __future__ import annotations

import heapq
import json
import math
from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, repeat
from typing import Protocol

import numpy as np

from daemon.alarm import Alarm, State
from daemon.calendar import Calendar
from daemon.detector import (
    Detector,
    Evidence,
    Scaling,
    Verdicts,
    Windows,
)
from daemon.domain import (
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    DeadLetter,
    Disposition,
    Dropped,
    FilledCell,
    FilledRow,
    Floats,
    Format,
    InputPartition,
    Ints,
    Mask,
    Output,
    PartScore,
    PolledRecords,
    Reading,
    Reason,
    Record,
    Records,
    Rejected,
    ScoredRow,
    Severity,
    StateRecord,
    StreamSpec,
    iso,
    to_ns,
)
from daemon.grouping import by_slot
from daemon.stream import snapshot
from daemon.stream.alerts import Episodes, ScoredEvidence
from daemon.stream.attribution import SensorEvidence
from daemon.stream.audit import Audit, Audited, auditable
from daemon.stream.batches import ReadingBatch, RowBatch, RowQueue
from daemon.stream.drift import EXCEEDANCES, Drift
from daemon.stream.event_time import NO_CLOCK, EventTimeGuard, HeldReading
from daemon.stream.fleet_clock import BATCH, FleetClock
from daemon.stream.grid import Grid, ReleasedRow, ValueHashes, value_hashes
from daemon.stream.validity import ASSET_BYTES, asset_fault, partition_fault
from daemon.stream.windowing import NO_RECORD, WindowBuffer, grown

CHUNK_CELLS = 2_097_152
"""Cells of the windows that are judged at once, about: enough to make a call's own cost small."""
LEAST, MOST = 256, 8192
"""Rows that are taken through their windows at once, between two yields: some 50 ms at most."""
LINES_AT_ONCE = BATCH
"""Lines that are taken between two yields: new assets, of which each is looked at alone, take 20 ms so."""
PLAIN_AT_ONCE = 500
"""Assets of which something is said between two yields, where it may be said of all at once."""
LINES_ALONE = 8
"""If more than one in so many lines of a batch must be looked at alone, all of them are."""
MOST_FAILURES = 10
"""Windows in a row that a model may fail on; more than a few are not the windows' fault."""
NO_MODEL = "none"
"""The model version that outputs name while there is no model yet (silence needs none)."""
STUCK_MARGIN = 2
"""A sensor is stuck when it stands still this many times longer than it ever did in training."""
CHECKPOINTS_BACK = 20
"""A state may be as old as the records of so many checkpoints: ten seconds, at two a second."""
MOST_RECORDS = 2_048
"""Records that are decoded and put on the grid at once: some 50 ms at most where each goes by itself."""
MOST_AT_ONCE = 10_000
"""Rows that may wait, and outputs that are said, before the shell may commit: a gap bridges many rows."""
STATES_AT_ONCE = 1_000
"""Assets that a commit writes without need: a large fleet's turns come one after the other."""
RESTORED_AT_ONCE = 200
"""Assets that are set up again between two pauses: some 10 ms."""
MANY_SLOTS, MOST_SLOTS = 8_192, 1 << 20
"""From so many slots on there is room at once for all assets that there may be, or for so many."""
FREE, UNKEPT = -2, -1
"""What stands for the units of a record, where a slot has no asset, or an asset no record."""
REPLAY_RECORDS = 50_000
"""A successor replays at most about this many records, or eight per asset if that is more."""


class Decode(Protocol):
    """What the pipeline needs of ``decoding.Decoder``."""

    def decode_all(self, items: Sequence[Record | Reading]) -> list[Reading | Rejected]: ...

    def decode_lines(self, items: Sequence[Record | Reading]) -> tuple[ReadingBatch, list[Rejected]]: ...


@dataclass(frozen=True, slots=True, eq=False)
class RowBlock:
    """Released rows with what was said of them: what training and the page live on."""

    assets: Sequence[str]
    slots: Ints  # (R,) one number per asset, within this block
    rows: Ints  # (R,)
    values: Floats  # (R, C)
    scores: Floats  # (R,) NaN where not scored
    firing: Mask  # (R,)
    condition: Sequence[str]


@dataclass(frozen=True, slots=True, eq=False)
class Summands:
    """What the scored windows of a chunk add to the drift; ``places`` are theirs among its rows."""

    places: Ints
    times: Ints
    posterior: Floats
    residual: Floats
    kl: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """A copy of where an asset stands behind its newest judged row."""

    window: Floats  # (L, C) raw, NaN where not observed
    baseline: Floats  # (P,)
    alarm: tuple[State, int, int]  # an ``Alarm``'s fields
    still: Ints  # (C,) rows for which each sensor has not moved, that row among them
    age: Ints  # (C,) rows since each sensor was observed; 0: in that row


@dataclass(slots=True, eq=False)
class Step:
    """What one chunk led to."""

    outputs: list[Output] = field(default_factory=list)
    block: RowBlock | None = None
    scored: int = 0
    filled: int = 0
    failed: Mask | None = None  # (W,) which windows the model failed on, in the rows' order; None: on none
    model: str = ""  # the version that judged
    silent: bool = False
    committable: bool = False  # what was said so far and ``offset`` agree: a commit may come here
    audited: Audited | None = None  # readings that were hidden from the model, of this chunk or before


def as_record(reading: Reading, spec: StreamSpec) -> Record:
    """A reading that came in no record (a table's row) as the message that would have said it."""
    message: dict[str, object] = {"asset": reading.asset, "ts": iso(reading.time_ns)}
    if reading.values is None:
        message |= {"sensor": spec.sensors[reading.sensor], "value": _cell(reading.value)}
    else:
        message["values"] = dict(zip(spec.sensors, map(_cell, reading.values), strict=True))
    return Record(reading.offset, None, json.dumps(message).encode(), reading.stamp_ns)


def _cell(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


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
        measured: entered around the model's work on so many windows; a clock may not stand here.
        audit: one in so many known readings is hidden from the model and compared, see ``audit``; 0: none.
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
        publish_from: int = 0,
        trace: bool = False,
        measured: Callable[[int], AbstractContextManager[object]] = nullcontext,
        audit: int = 0,
    ) -> None:
        self.spec = spec
        self._audit = Audit(audit, len(spec.sensors), spec.window) if audit else None
        self.partition = partition
        self._measured = measured
        self.decoder = decoder
        self.grid = Grid(spec)
        self.guard = EventTimeGuard(spec)
        self.clock = FleetClock(spec, self.guard)
        self._calendar = Calendar(spec)
        self.episodes = Episodes(spec, partition, policy, maintenance)
        self.counts: Counter[Disposition] = Counter()
        self.reasons: Counter[str] = Counter()
        self.dropped: Counter[Dropped] = Counter()
        self.rows = 0
        self.offset = -1  # next offset to process
        self.publish_from = publish_from  # records before it are silent
        self.trace: list[Traced] | None = [] if trace else None
        self.detector: Detector | None = None
        self.drift: Drift | None = None
        self.training_cut: int | None = None  # a chunk ends after this many observed rows, for an exact swap
        self.observed_rows = 0
        self.replaying = (
            publish_from > 0
        )  # records of before it may still come: episodes are not as they were
        self.restored = False  # whether the partition's own state came with it
        self.unusable: list[str] = []  # the records that could not be used, each with why
        self._layout = snapshot.layout(spec)
        self._other_model = False  # ... but was that of another model
        self._swaps = [snapshot.Swap(0, 0, NO_MODEL, Scaling.raw_units(len(spec.sensors)))]  # see ``state``
        self._ahead: deque[snapshot.Swap] = deque()  # those that a replay has not come to yet
        self._next: Detector | None = None  # takes over at the next rest
        self._swap_due = False  # ... or nothing does
        self._hurried = False
        self._covered: dict[str, int] = {}  # asset -> its state knows the records before this offset
        self._forgotten_before = 0  # an asset seen before, and without a record of state, was evicted
        self._uncovered: Ints = np.empty(0, np.int64)  # by slot, first record that no state covers, or -1
        self._forced: set[str] = set()  # what moved these is in no record: they go with the next commit
        self._kept: set[str] = set()  # assets that have a record of state
        self._gone: set[str] = set()  # evicted since the last commit
        self._recorded: Ints = np.empty(
            0, np.int64
        )  # by slot: the units that its record is in, or FREE, UNKEPT
        self._told_restless: set[str] = set()  # whose record holds what only judging can move on
        self._checkpoints: deque[int] = deque(maxlen=CHECKPOINTS_BACK)  # the offsets of the last ones
        self._drift_due_row = NO_CLOCK  # the fleet's row at which the next drift interval is over
        self._drift_interval_ns = drift_interval_ns
        self._left: list[Output] = []  # what a predecessor's model, or its drift interval, left unsaid
        self._scores = scores
        self._max_assets = max_assets
        self._waiting = RowQueue(len(spec.sensors))
        self._said = 0  # outputs since the shell could commit
        # Dead letters of the records taken in, by the offset of the record that decided on each.
        self._letters: list[tuple[int, DeadLetter]] = []
        self._marks: deque[tuple[int, int]] = (
            deque()
        )  # before the row of this place, drift up to a time is due
        cells = spec.window * len(spec.sensors)
        self._most = min(max(CHUNK_CELLS * spec.hop // cells, LEAST), MOST)  # rows in a chunk
        self._silent_rows = max(spec.silent_after_ns // spec.period_ns, 1)
        self._silent: Mask = np.empty(0, bool)  # by slot: the asset is declared silent
        self._appended = False  # whether the broker itself stamps the records that are taken in
        self._uncovered_count: Ints = np.empty(0, np.int64)  # by slot, how the clock counted ``_uncovered``
        self._count_at_resume = 0
        self._stamps: tuple[int, ...] = ()  # record times of the last readings
        self._event_row = (0, NO_CLOCK)  # the offset at which the fleet's clock was asked for, and the answer
        self._items: Sequence[Record | Reading] = ()  # what is being taken in
        self._silent_sensors: dict[str, set[int]] = {}
        self._stuck: dict[str, set[int]] = {}
        self._slots: dict[str, int] = {}
        self._names: list[str | None] = []
        self._free: list[int] = []
        self._rings = WindowBuffer(spec.window, len(spec.sensors))
        self._baseline: Floats = np.empty((0, 0))
        self._began: Mask = np.empty(0, bool)  # whether the slot's baseline was set under this model
        self._allocate(16)

    # -------------------------------------------------------------- slots
    def _allocate(self, capacity: int) -> None:
        """Grow the per-asset arrays; rows of the old ones keep their slots."""
        old = len(self._names)
        more = capacity - old
        self._rings.grow(capacity)
        self.grid.grow(capacity)
        self.guard.grow(capacity)
        self.clock.grow(capacity)
        if self._audit is not None:
            self._audit.grow(capacity)
        for name in ("_baseline", "_began", "_uncovered", "_uncovered_count", "_silent", "_recorded"):
            setattr(self, name, grown(getattr(self, name), capacity))
        self._uncovered[old:] = -1
        self._recorded[old:] = FREE
        self._free = [*range(capacity - 1, old - 1, -1), *self._free]
        self._names += [None] * more

    def _slot(self, asset: str) -> int:
        slot = self._slots.get(asset)
        if slot is not None:
            return slot
        if not self._free:
            twice = 2 * len(self._names)
            # To copy the arrays of a large fleet takes long. Zeros that nobody writes to take no memory.
            self._allocate(twice if twice < MANY_SLOTS else max(twice, min(self._max_assets + 1, MOST_SLOTS)))
        slot = self._free.pop()
        self._slots[asset] = slot
        self._names[slot] = asset
        self._rings.clear(slot)
        self.grid.clear(slot)
        self.guard.clear(slot)
        self.clock.clear(slot)
        if self._audit is not None:
            self._audit.seat(slot, asset)
        self._began[slot] = self._silent[slot] = False
        self._uncovered[slot] = -1
        self._recorded[slot] = UNKEPT
        return slot

    def _slots_of(self, assets: Sequence[str]) -> Ints:
        """The assets' slots, -1 for who has none."""
        return np.fromiter(map(self._slots.get, assets, repeat(-1)), np.int64, len(assets))

    def _evict(self, offset: int, *, silent: bool) -> list[Output]:
        """Make room for the asset of the record at ``offset``.

        The hundredth of the assets that has been quiet longest is forgotten; what is open of them ends.
        """
        few = max(len(self._slots) // 100, 1)
        slots = np.flatnonzero(self._recorded != FREE)
        # By when they were heard and not by their rows: wrong times must not drive out who is alive.
        heard_at = np.where(self.guard.unproven[slots], -1, self.clock.heard_at[slots])
        edge = int(np.partition(heard_at, few - 1)[few - 1])
        names = sorted(map(self._name, slots[heard_at < edge].tolist()))
        names += heapq.nsmallest(few - len(names), map(self._name, slots[heard_at == edge].tolist()))
        closed: list[Output] = []
        for name in names:
            closed += self._forget(name, offset, silent=silent)
        self.dropped[Dropped.ASSET_EVICTED] += few
        return closed

    def _forget(self, name: str, offset: int, *, silent: bool) -> list[Output]:
        """Let go of all that is known of an asset; what is open of it, or held, ends."""
        closed: list[Output] = list(self.episodes.dismiss(name, self._newest(name), self.model))
        slot = self._slots.pop(name)
        held = self.guard.clear(slot)
        if not silent:
            self._refuse(held, offset)
        self._names[slot] = None
        self._free.append(slot)
        self.grid.clear(slot)
        self.clock.clear(slot)
        self._silent[slot] = False
        self._uncovered[slot] = -1  # a successor need not replay what nobody remembers
        self._recorded[slot] = FREE
        self._silent_sensors.pop(name, None)
        self._stuck.pop(name, None)
        self._forced.discard(name)
        self._gone.add(name)
        return closed

    def _name(self, slot: int) -> str:
        name = self._names[slot]
        assert name is not None
        return name

    def _newest(self, asset: str) -> int:
        """The greatest row that an asset spoke of."""
        return int(self.grid.newest[self._slots[asset]])

    @property
    def names(self) -> set[str]:
        """The assets that have state here."""
        return set(self._slots)

    @property
    def event_time_ns(self) -> int:
        """The fleet's clock, as of at most one reading of each asset ago; -1 before any reading."""
        at, row = self._event_row
        if row == NO_CLOCK or self.offset - at > len(self._slots):
            row = self.clock.measure(self.grid.newest, self._appended_ns)
            self._event_row = self.offset, row
        return row * self.spec.period_ns if row >= 0 else -1

    @property
    def assets(self) -> int:
        """How many assets have state here."""
        return len(self._slots)

    # -------------------------------------------------------------- the model
    def use(self, detector: Detector | None) -> list[Output]:
        """Judge with this detector from the next row on; weights, scaler and thresholds change together.

        Without one nothing is scored until the next comes.

        Returns:
            What the outgoing model's unfinished drift intervals added up to.
        """
        assert detector is None or detector.window == self.spec.window
        left: list[Output] = [] if self.drift is None else list(self.drift.due(1 << 62))
        # A successor replays what came before without this model: it cannot find out what judging led to.
        self._forced.update(self._restless())
        self.detector, self.drift = detector, None
        if self._audit is not None:
            self._audit.forget()
        units, states = Scaling.raw_units(len(self.spec.sensors)), 0
        if detector is not None:
            self.drift = Drift(
                self.spec.name, self.partition, self._drift_interval_ns, detector.drift, detector.version
            )
            units, states = detector.scaling, len(detector.fresh_baseline(""))
        self._baseline = np.zeros((len(self._names), states))
        self._began[:] = False
        number = self._swaps[-1].number + 1
        self._swaps.append(snapshot.Swap(number, max(self.offset, 0), self.model, units))
        self._rings.use_scaling(units)
        self._drop_swaps()
        return left

    def use_when_committable(self, detector: Detector | None) -> None:
        """The same at the next rest, which is in ``feed``: where a successor can do it too.

        A swap in the midst of a poll is at no offset: rows that were released before are judged after
        it. Whoever writes state must be able to say where it was.
        """
        self._next, self._swap_due = detector, True

    def _swap_at_rest(self, offset: int) -> Iterator[Step]:
        """Let the next model take over between two readings; ``offset`` is the second one's."""
        yield from self._drain(silent=False)
        self._said, self.offset = 0, offset
        while len(restless := self._restless()) > STATES_AT_ONCE:
            # All of them must be in records by then; so they go before, some with each commit.
            self._forced.update(sorted(restless)[:STATES_AT_ONCE])
            yield Step(outputs=self._letters_before(offset), committable=True)
            if self._forced:
                break  # nobody keeps state here
        detector, self._next, self._swap_due = self._next, None, False
        left = self.use(detector)
        yield Step(outputs=self._letters_before(offset) + left, committable=True)

    def _restless(self) -> set[str]:
        """The assets whose records do not know where judging has got them."""
        judged = self._told_restless | self.episodes.assets.keys() | self._stuck.keys()
        slots = self._slots
        return {
            asset
            for asset in judged & slots.keys()
            if self._uncovered[slots[asset]] >= 0 or self._recorded[slots[asset]] < 0
        }

    def _drop_swaps(self) -> None:
        """Forget the swaps that no row, no record and no replay can need."""
        if len(self._swaps) < 2 or self._ahead:
            return
        used = self._recorded != FREE
        needed = int(self._rings.units[used].min(initial=self._swaps[-1].number))
        recorded = self._recorded[self._recorded >= 0]
        needed = min(needed, int(recorded.min(initial=needed)))
        before = [swap.number for swap in self._swaps if swap.offset <= self.replay_from()]
        if used.any() and before:
            needed = min(needed, before[-1])
        self._swaps = [swap for swap in self._swaps if swap.number >= needed]
        self._rings.drop_scalings(needed)

    @property
    def model(self) -> str:
        """The version that outputs name."""
        return self.detector.version if self.detector is not None else NO_MODEL

    # -------------------------------------------------------------- feed
    def feed(self, polled: PolledRecords) -> Iterator[Step]:
        """Take what was polled; yields a Step per chunk. Exhaust it before the next call.

        What one poll leads to has no bound (a record may bridge a gap of a day), but what the shell
        must hold has: on the way through, steps come that are ``committable``.
        """
        items = polled.items
        if self.replaying and self.offset >= self.publish_from:
            yield from self._drain(silent=True)
            self._rebuilt()
        if self._swap_due and not self.replaying:
            yield from self._swap_at_rest(max(self.offset, 0))
        if self.replaying and items:
            done = bisect_left(items, self.publish_from, key=lambda item: item.offset)
            yield from self._replay(items[:done])
            items = items[done:]
            if items:
                # What the silent records released was published before: it may not spill over.
                yield from self._drain(silent=True)
                self._rebuilt()
        yield from self._in_pieces(items, silent=False)
        resumed = self.offset >= self.publish_from
        if resumed and self.replaying:
            yield from self._drain(silent=True)
            self._rebuilt()
        if polled.ended or to_ns(polled.idle) > self.spec.allowed_lateness_ns:
            yield from self._decide(ended=polled.ended, silent=not resumed)
        step = Step(outputs=self._letters_before(self.offset))
        if polled.ended or polled.idle:
            # No record tells a successor that time has passed.
            unproven = self.guard.unproven  # their rows go on to wait
            self._forced.update(name for name in self.grid.waiting if not unproven[self._slots[name]])
        if polled.ended:
            self._await_flush(self.grid.finish())
        elif polled.idle:
            self._await_flush(self.grid.elapse(to_ns(polled.idle), self.guard.unproven))
        yield from self._drain(silent=not resumed)
        if resumed:
            if polled.idle or polled.ended:
                yield from self._in_steps(self._silent_at_the_end(to_ns(polled.idle)), silent=False)
            if polled.ended:
                step.outputs.extend(self._drift_records(1 << 62))
            if polled.idle or polled.ended:  # what waits for company has time now
                step.audited = self._compared(everything=True)
        self._said = 0
        if step.outputs or step.audited is not None:
            yield step

    def _replay(self, items: Sequence[Record | Reading]) -> Iterator[Step]:
        """Take records of before the committed position, and let each model take over where it did."""
        while items:
            while self._ahead and self._ahead[0].offset <= items[0].offset:
                yield from self._drain(silent=True)
                self._go_through(self._ahead.popleft())
            end = len(items)
            if self._ahead:
                end = bisect_left(items, self._ahead[0].offset, key=lambda item: item.offset)
            yield from self._in_pieces(items[:end], silent=True)
            items = items[end:]

    def _in_pieces(self, items: Sequence[Record | Reading], *, silent: bool) -> Iterator[Step]:
        """Take records with a pause now and then, even where no chunk of rows comes of them."""
        for begin in range(0, len(items), MOST_RECORDS):
            if begin:
                yield Step(silent=silent)
            yield from self._take_in(items[begin : begin + MOST_RECORDS], silent=silent)

    def _go_through(self, swap: snapshot.Swap) -> None:
        """Do again what a swap did; whose record is of after it has that behind him."""
        self._rings.use_scaling(swap.scaling)
        self._began &= self._rings.units >= swap.number

    def _rest(self, offset: int) -> Iterator[Step]:
        """Between two readings, the next at ``offset``: let the shell commit if much was said, or it must."""
        if self._swap_due:
            yield from self._swap_at_rest(offset)
        if self._said >= MOST_AT_ONCE or self._hurried:
            yield from self._drain(silent=False)
            self._said, self.offset = 0, offset
            yield Step(outputs=self._letters_before(offset), committable=True)

    def _letters_before(self, offset: int) -> list[Output]:
        """The dead letters that were decided on before ``offset``."""
        upto = bisect_left(self._letters, offset, key=lambda letter: letter[0])
        letters: list[Output] = [letter for _, letter in self._letters[:upto]]
        del self._letters[:upto]
        return letters

    def hurry(self) -> None:
        """Come to rest as soon as may be: whoever feeds will not go on behind that."""
        self._hurried = True

    def _refuse(self, held: Sequence[HeldReading], offset: int) -> None:
        """Refuse readings that nothing has confirmed by the record at ``offset``, which decided on them."""
        for each in held:
            insort(self._letters, (offset, self._refused(each)), key=lambda letter: letter[0])

    def left_unsaid(self) -> list[Output]:
        """What a predecessor added up and nobody can go on with; to be published before the next commit."""
        left, self._left = self._left, []
        return left

    def _rebuilt(self) -> None:
        while self._ahead:
            self._go_through(self._ahead.popleft())
        if self._other_model:
            self._forced.update(self._restless())
        if self.restored:
            self.clock.count = self._count_at_resume  # also where retention took some of the records
        self.replaying = False
        self._covered.clear()

    def _take_in(self, items: Sequence[Record | Reading], *, silent: bool) -> Iterator[Step]:
        """Decode records and take their readings; yields a Step per chunk."""
        wide = self.spec.format is Format.JSON_WIDE
        rejected: list[Rejected] = []
        readings: list[Reading] = []
        if wide:
            lines, rejected = self.decoder.decode_lines(items)
        else:
            for found in self.decoder.decode_all(items):
                if isinstance(found, Reading):
                    readings.append(found)
                else:
                    rejected.append(found)
        self._items = items
        self._appended = isinstance(items, Records) and items.appended
        for letter in rejected:
            if not silent:
                self._letters.append((letter.record.offset, self._count_rejected(letter)))
            elif self.trace is not None:
                self.trace.append(Traced(letter.record.offset, "", -1, Disposition.REJECTED))
        if wide:
            yield from self._take_lines(lines, silent=silent)
        for reading in readings:
            if not silent:
                yield from self._rest(reading.offset)
            yield from self._take_one(reading, silent=silent)
        self.offset = items[-1].offset + 1

    def _count_rejected(self, letter: Rejected) -> DeadLetter:
        self.counts[Disposition.REJECTED] += 1
        self.reasons[letter.reason] += 1
        if self.trace is not None:
            self.trace.append(Traced(letter.record.offset, "", -1, Disposition.REJECTED))
        return DeadLetter(self.spec.name, self.partition, letter)

    def _take_lines(self, lines: ReadingBatch, *, silent: bool) -> Iterator[Step]:
        """Take wide lines, as many at once as need not be looked at alone."""
        marks = value_hashes(lines.values)
        for begin in range(0, len(lines), LINES_AT_ONCE):
            end = min(begin + LINES_AT_ONCE, len(lines))
            if silent:
                yield from self._take_each(lines, marks, begin, end, silent=True)
            else:
                yield from self._take_some(lines, marks, begin, end)
            yield Step(silent=silent)  # whatever they led to, the shell may turn to something else

    def _take_each(
        self, lines: ReadingBatch, marks: ValueHashes, begin: int, end: int, *, silent: bool
    ) -> Iterator[Step]:
        """Take these lines one by one."""
        for i in range(begin, end):
            if not silent:
                yield from self._rest(int(lines.offsets[i]))
            yield from self._take_one(lines.reading(i), int(marks[i]), silent=silent)

    def _take_some(self, lines: ReadingBatch, marks: ValueHashes, begin: int, end: int) -> Iterator[Step]:
        """Take the lines from ``begin`` to ``end``, together as far as nothing else follows from them.

        A line of an asset that there is no room for, or that is silent, is looked at alone: what
        follows from it must come before what follows from the lines behind it. Behind a line by
        which somebody may turn out to be silent, the fleet's clock is read.
        """
        places = np.empty(len(lines), np.int64)
        places[begin:end] = self._slots_of(lines.assets[begin:end])
        at, alone = begin, 0
        while at < end:
            yield from self._rest(int(lines.offsets[at]))
            stop = self._seat(lines.assets, places, at, end)
            speaks = np.flatnonzero(self._silent[places[at:stop]])
            if len(speaks):
                stop = at + int(speaks[0])
            if stop > at:
                stop = self._before_a_look(lines, places, at, min(stop, at + self.clock.batch))
                stop = at + self._fitting(lines.times[at:stop], places[at:stop])
                self._take_together(lines, marks, at, stop, places)
                yield from self._flush_full(silent=False)
                assets = len(self._slots)
                yield from self._look(silent=False, offset=int(lines.offsets[stop - 1]))
                at = stop
                if len(self._slots) < assets:  # one of them begins anew
                    places[at:end] = self._slots_of(lines.assets[at:end])
                continue
            yield from self._take_one(lines.reading(at), int(marks[at]), silent=False)
            alone += 1
            at += 1
            if alone * LINES_ALONE > end - begin:
                yield from self._take_each(lines, marks, at, end, silent=False)
                return
            # It may have brought an asset, or driven one out.
            places[at:end] = self._slots_of(lines.assets[at:end])

    def _seat(self, assets: Sequence[str], places: Ints, begin: int, end: int) -> int:
        """Give new assets a place; stops before a line whose asset has none while another one is there."""
        for i in (begin + np.flatnonzero(places[begin:end] < 0)).tolist():
            if assets[i] not in self._slots and len(self._slots) >= self._max_assets:
                return i
            places[i] = self._slot(assets[i])
        return end

    def _before_a_look(self, lines: ReadingBatch, places: Ints, begin: int, end: int) -> int:
        """Up to which of these lines the fleet's clock certainly need not be read."""
        rows = lines.times[begin:end] // self.spec.period_ns - self.clock.skew[places[begin:end]]
        return min(begin + self.clock.place_of_look(rows, self._drift_due_row) + 1, end)

    def _fitting(self, times: Ints, slots: Ints) -> int:
        """How many of these lines, one at least, may go together for the rows that they bridge."""
        rows = times // self.spec.period_ns
        newest = self.grid.newest[slots]
        if int((rows - newest).max()) * min(len(rows), len(self._slots)) <= MOST_AT_ONCE:
            return len(rows)
        groups = by_slot(slots)
        inner = rows[groups.order]
        steps = np.diff(inner, prepend=0)
        steps[groups.begins] = (inner - newest[groups.order])[groups.begins]
        longest_gap = self.spec.max_gap_ns // self.spec.period_ns
        bridged = np.empty(len(rows), np.int64)
        bridged[groups.order] = np.where(steps > longest_gap, 1, np.maximum(steps, 1))
        return max(int(np.searchsorted(np.cumsum(bridged), MOST_AT_ONCE)), 1)

    def _take_together(
        self, lines: ReadingBatch, marks: ValueHashes, begin: int, end: int, places: Ints
    ) -> None:
        """Take lines that nothing but rows follows from; of each asset all at once or one by one.

        ``marks`` and ``places`` are the fingerprints and the slots of all the lines.
        """
        grid, part = self.grid, slice(begin, end)
        slots, told, times, offsets = places[part], marks[part], lines.times[part], lines.offsets[part]
        stamps = lines.stamps[part]
        rows = times // self.spec.period_ns
        groups = by_slot(slots)
        occurrence = groups.occurrence
        first = np.flatnonzero(occurrence == 0)
        first = first[self._uncovered[slots[first]] < 0]
        self._uncovered[slots[first]] = offsets[first]
        counts = self.clock.count + 1 + np.arange(len(slots))
        self._uncovered_count[slots[first]] = counts[first]
        plain = grid.is_next_row(slots, occurrence, rows, times, lines.conditions[part])
        if self.guard.doubtful[slots].any():
            plain &= ~self.guard.doubtful[slots]
        together = np.flatnonzero(plain)
        never = np.zeros(len(slots), bool)
        done = RowBatch(
            lines.assets[part],
            slots,
            rows,
            lines.values[part],
            never,
            never,
            offsets,
            offsets,
            lines.conditions[part],
        )
        if len(together) < len(slots):
            done = done.take(together)
        grid.append_next(done.slots, done.rows, times[together], told[together], done.conditions)
        self.guard.advance(done.slots, times[together], stamps[together])
        if len(together):
            alike = groups if len(together) == len(slots) else by_slot(done.slots)
            self.clock.observe_many(alike, done.slots, counts[together])
            self.clock.advance(int((done.rows - self.clock.skew[done.slots]).max()))
        self.counts[Disposition.ACCEPTED] += len(together)
        if self.trace is not None:
            for i in together.tolist():
                self.trace.append(
                    Traced(int(offsets[i]), lines.assets[begin + i], int(rows[i]), Disposition.ACCEPTED)
                )
        before = self._stamps
        closed: list[ReleasedRow] = []
        causes: list[int] = []  # the line that closed each of them
        for i in np.flatnonzero(~plain).tolist():
            self._stamps = (*before, *stamps[max(i - 2, 0) : i + 1].tolist())[-3:]
            self.clock.count = int(counts[i])
            self._offer(int(slots[i]), lines.reading(begin + i), int(told[i]), closed)
            causes += [i] * (len(closed) - len(causes))
        self._stamps = (*before, *stamps[-3:].tolist())[-3:]
        self.clock.count = int(counts[-1])
        if closed:
            # In the order of the lines: how they came in batches must not show.
            others = RowBatch.of(closed, self._slots, len(self.spec.sensors))
            order = np.argsort(np.concatenate([together, np.array(causes, np.int64)]), kind="stable")
            done = RowBatch.joined([done, others]).take(order)
        self._queue(done)

    def _take_one(self, reading: Reading, told: int | None = None, *, silent: bool) -> Iterator[Step]:
        """Take one reading, and say what follows from it."""
        asset, offset = reading.asset, reading.offset
        replayed = silent and self.restored
        self.clock.count += 1
        if replayed and offset < self._covered.get(asset, self._forgotten_before):
            return
        if asset not in self._slots and len(self._slots) >= self._max_assets:
            # What is forgotten or said here must not overtake rows that came before.
            yield from self._drain(silent=silent)
            events = self._evict(offset, silent=silent)
            yield Step(outputs=[] if silent else events, silent=silent)
        slot = self._slot(asset)
        if self._uncovered[slot] < 0:
            self._uncovered[slot] = offset
            self._uncovered_count[slot] = self.clock.count
        closed: list[ReleasedRow] = []
        if replayed:  # it was decided before; had there been a doubt, the asset's state would cover it
            self.guard.believe(slot, reading)
            self._hand_on(slot, (reading,), closed, reading, told, silent=True)
            self._await_flush(closed)
            yield from self._flush_full(silent=silent)
            return
        self._stamps = (*self._stamps, reading.stamp_ns)[-3:]
        newest = int(self.grid.newest[slot])
        self._offer(slot, reading, told, closed, silent=silent)
        if self._silent[slot] and self.grid.newest[slot] > newest:
            yield from self._is_back(slot, silent=silent)
        self._await_flush(closed)
        yield from self._flush_full(silent=silent)
        yield from self._look(silent=silent, offset=offset)

    def _offer(
        self,
        slot: int,
        reading: Reading,
        told: int | None,
        closed: list[ReleasedRow],
        *,
        silent: bool = False,
    ) -> None:
        """Hand one reading to the grid, if its time can be believed, with those that it confirms.

        Rows that are closed by them are appended to ``closed``.
        """
        arrival_ns, fleet_row = self._arrival_ns(reading), self._fleet_row(slot)
        if self.guard.is_next(slot, reading.time_ns) or self.guard.is_begun(
            slot, reading.time_ns, arrival_ns, fleet_row
        ):
            self.guard.believe(slot, reading)
            self._hand_on(slot, (reading,), closed, reading, told, silent=silent)
            return
        before = bool(self.guard.doubtful[slot])
        new = HeldReading(reading, self._record_of(reading))
        admission = self.guard.admit(
            slot,
            new,
            arrival_ns,
            fleet_row,
            self.grid.released(slot),
        )
        if before or self.guard.doubtful[slot] or admission.refused:
            self._forced.add(reading.asset)  # a successor decides nothing of before again
        if admission.restart:
            self.grid.clear(slot)
            self.clock.clear(slot)
            for held in admission.refused:
                if held.disposition is not None:
                    self.counts[held.disposition] -= 1
        disposition = self._hand_on(slot, admission.taken, closed, reading, told, silent=silent)
        new.disposition = None if silent else disposition
        if not silent:
            self._refuse(admission.refused, reading.offset)

    def _fleet_row(self, slot: int) -> int:
        """Where the fleet's clock stands on this asset's own clock."""
        row = self.clock.row
        return row + int(self.clock.skew[slot]) if row != NO_CLOCK else NO_CLOCK

    def _refused(self, held: HeldReading) -> DeadLetter:
        """A held reading that nothing has confirmed, as the dead letter that it is now."""
        when = iso(held.reading.time_ns)
        detail = f"{when} is ahead of the asset's other readings, and no second reading confirms it"
        return self._count_rejected(Rejected(held.record, Reason.FUTURE, detail))

    def _record_of(self, reading: Reading) -> Record:
        """What a reading came in; for one that came in no record, a message that says the same."""
        items = self._items
        if isinstance(items, Records):
            return items[bisect_left(items.offsets, reading.offset)]
        at = bisect_left(items, reading.offset, key=lambda item: item.offset)
        item = items[at] if at < len(items) else reading
        if isinstance(item, Record):
            return item
        return as_record(reading, self.spec)

    def _arrival_ns(self, reading: Reading) -> int:
        """The record time that can be believed: the broker's own, or one that its neighbours confirm.

        A producer's is as wrong as its clock, and often but a copy of the event time.
        """
        return reading.stamp_ns if self._appended else self._middle_stamp

    @property
    def _middle_stamp(self) -> int:
        """The middle one of the last three record times: one producer's clock cannot move it."""
        return sorted(self._stamps)[len(self._stamps) // 2] if self._stamps else -1

    @property
    def _appended_ns(self) -> int:
        """The broker's time at the last record, if it stamps them; else -1."""
        return self._middle_stamp if self._appended else -1

    def _decide(self, *, ended: bool, silent: bool) -> Iterator[Step]:
        """No record follows now: decide on what is held, at the end of a log on all of it."""
        open_ = self.guard.doubtful if ended else self.guard.doubtful & ~self.guard.unproven
        for i, slot in enumerate(sorted(np.flatnonzero(open_).tolist(), key=self._name)):
            admission = (
                self.guard.finish(slot, self._fleet_row(slot)) if ended else self.guard.decide_idle(slot)
            )
            if i % PLAIN_AT_ONCE == PLAIN_AT_ONCE - 1:
                yield Step(silent=silent)
            if not (ended or admission.taken or admission.refused):
                continue  # as before
            self._forced.add(self._name(slot))
            closed: list[ReleasedRow] = []
            self._hand_on(slot, admission.taken, closed, silent=silent)
            self._await_flush(closed)
            yield from self._flush_full(silent=silent)
            if not silent:
                self._refuse(admission.refused, self.offset - 1)
                yield from self._rest(self.offset)

    def _hand_on(
        self,
        slot: int,
        readings: Sequence[Reading],
        closed: list[ReleasedRow],
        new: Reading | None = None,
        told: int | None = None,
        *,
        silent: bool,
    ) -> Disposition | None:
        """Give the grid readings whose time is believed; what becomes of the last of them.

        ``told`` is the fingerprint of the ``new`` one.
        """
        before, disposition = int(self.grid.newest[slot]), None
        for reading in readings:
            disposition = self.grid.insert(slot, reading, closed, told if reading is new else None)
            if disposition is Disposition.LATE:
                self.clock.observe_late(slot, self.spec.row(reading.time_ns))
            if not silent:
                self.counts[disposition] += 1
            if self.trace is not None:
                row = self.spec.row(reading.time_ns)
                self.trace.append(Traced(reading.offset, reading.asset, row, disposition))
        newest = int(self.grid.newest[slot])
        if newest > before:
            self.clock.observe(slot)
            if not (silent and self.restored):  # the fleet's clock is as of the position
                self.clock.advance(newest - int(self.clock.skew[slot]))
        return disposition

    def _await_flush(self, released: Sequence[ReleasedRow]) -> None:
        if released:
            self._waiting.add(released)

    def _queue(self, rows: RowBatch) -> None:
        self._waiting.append(rows, self._slots)

    def _flush_full(self, *, silent: bool) -> Iterator[Step]:
        """Judge the chunks that are full; asked after every reading."""
        while len(self._waiting) >= self._most or self._cut_waits:
            yield self._flush(silent)

    def _drain(self, *, silent: bool) -> Iterator[Step]:
        while self._waiting:
            yield self._flush(silent)

    @property
    def _cut_waits(self) -> bool:
        """Whether the row at which a chunk must end is among those that wait."""
        return (
            self.training_cut is not None
            and 0 < self.training_cut - self.observed_rows <= self._waiting.observed
        )

    # -------------------------------------------------------------- rows
    def _next_rows(self) -> tuple[RowBatch, list[tuple[int, int]]]:
        """The rows of the next chunk, taken off what waits, and the marks among them."""
        waiting = self._waiting
        waiting.gather(self._slots)
        rows = waiting.first(self._most)
        size = len(rows)
        if self.training_cut is not None and self._cut_waits:
            left = self.training_cut - self.observed_rows
            upto = np.flatnonzero(~rows.empty)[:left]
            if len(upto) == left:
                size = int(upto[-1]) + 1
        if rows.fresh.any():
            again = np.flatnonzero(rows.fresh & (by_slot(rows.slots).occurrence > 0))
            if len(again):
                size = min(size, int(again[0]))  # the baseline starts afresh between two chunks
        begin = waiting.begin
        rows = waiting.take(rows[:size] if size < len(rows) else rows)
        if self.spec.condition:
            rows = rows.with_conditions(self._calendar.labels(rows.conditions, rows.rows))
        marks = []
        while self._marks and self._marks[0][0] <= waiting.begin:
            place, horizon_ns = self._marks.popleft()
            marks.append((place - begin, horizon_ns))
        return rows, marks

    def _flush(self, silent: bool) -> Step:
        """Push a chunk of released rows into their windows, judge, and say what follows."""
        rows, marks = self._next_rows()
        R, rings = len(rows), self._rings
        assets, slots, index, values, empty = rows.assets, rows.slots, rows.rows, rows.values, rows.empty
        observed = np.isfinite(values)
        complete: Mask = np.asarray(observed.all(1))
        step = Step(silent=silent, model=self.model)
        groups = by_slot(slots)
        occurrence = groups.occurrence
        for i in np.flatnonzero(rows.fresh | ((occurrence == 0) & (rings.filled[slots] == 0))).tolist():
            rings.restart(int(slots[i]), int(index[i]))
            self._began[slots[i]] = False
        told = rings.update_last_seen(groups, slots, index, values, observed)
        # Silently judged are the rows since the last swap: of the models before it there is but the name.
        judging = self.detector is not None and not (silent and self._ahead)
        full = rings.filled[slots] + occurrence + 1 >= self.spec.window
        due = full & (index % self.spec.hop == 0) & judging
        wanted = due | (~complete & judging)
        windows, first_offsets = rings.push(
            slots, occurrence, values, np.where(empty, NO_RECORD, rows.offsets), wanted
        )
        if self._silent_sensors or not complete.all():
            for i, asset in enumerate(assets):
                if not empty[i] and (not complete[i] or asset in self._silent_sensors):
                    since = np.maximum(told.row[i], rings.fresh_row[slots[i]])
                    self._silences(asset, int(index[i]), since, observed[i], step)
        self.rows += R
        self.observed_rows += R - int(empty.sum())
        scores = np.full(R, np.nan)
        # Where an asset's episode stands, carried on from row to row; nearly always nowhere.
        firing = np.zeros(R, bool)
        fires = {asset: self._firing(asset) for asset in set(assets) & self.episodes.assets.keys()}
        summands: Summands | None = None
        batch: Windows | None = None
        if judging:
            needed = np.flatnonzero(wanted)
            if len(needed):
                batch = Windows(
                    values[needed][:, None],
                    full[needed],
                    tuple(rows.conditions)
                    if len(needed) == R
                    else tuple([rows.conditions[i] for i in needed.tolist()]),
                    told.value[needed],
                    (index[:, None] - told.row)[needed].astype(np.float64),
                    windows,
                )
                judged, evidence = self._infer(batch)
                failed = np.ones(len(needed), bool)
                failed[judged] = False
                if evidence is not None:
                    if len(judged) < len(needed):
                        needed, windows, first_offsets = (
                            needed[judged],
                            windows[judged],
                            first_offsets[judged],
                        )
                    self._fill(rows, needed, ~observed, evidence, step)
                    summands = self._judge(
                        rows, needed, due, windows, first_offsets, evidence, scores, firing, step
                    )
                    # A model that says nothing of what it could score has failed too.
                    blind = due[needed] & evidence.scorable & ~np.isfinite(scores[needed])
                    failed[judged] = blind
                    self.dropped[Dropped.MODEL_FAILED] += int(blind.sum())
                step.failed = failed if failed.any() else None
            self._stuck_sensors(rows, told.still, observed, step)
            self._conditions(rows, step)
        if any(fires.values()) or firing.any():
            for i, (asset, scored) in enumerate(zip(assets, np.isfinite(scores).tolist(), strict=True)):
                if scored:
                    fires[asset] = bool(firing[i])
                firing[i] = fires.get(asset, False)
        if batch is not None and not silent:
            self._hide(rows, batch, wanted, scores, firing)
            step.audited = self._compared()
        step.block = RowBlock(assets, slots, index, values, scores, firing, rows.conditions)
        drifted = [] if silent else self._sum_up(marks, summands)
        self._said += 0 if silent else len(step.outputs)
        # Should another model take over, it could not tell from the records what this one opened or closed.
        self._forced.update(output.asset for output in step.outputs if type(output) is AlertEvent)
        if silent:
            step.outputs = []
        elif drifted or sum(type(output) is AlertEvent for output in step.outputs) > 1:
            # Row by row, not kind by kind: where a chunk ends must not show in the alerts' order.
            times = (index * self.spec.period_ns).tolist()
            place = {key: i for i, key in enumerate(zip(assets, times, strict=True))}
            placed = [(float(place[_row_of(output)]), output) for output in step.outputs] + drifted
            placed.sort(key=lambda one: one[0])
            step.outputs = [output for _, output in placed]
        return step

    def _hide(self, rows: RowBatch, batch: Windows, wanted: Mask, scores: Floats, firing: Mask) -> None:
        """Take known readings out of copies of the windows, to see how well they are filled.

        Args:
            batch: the windows of the ``wanted`` rows.
            scores, firing: (R,) of what was judged.
        """
        if self._audit is None or self.detector is None:
            return
        which, sensor, gap = self._audit.picked(rows.slots, rows.rows)
        if not len(which):
            return
        clean = auditable(scores[which], self.detector.threshold, firing[which])
        for j in np.flatnonzero(clean).tolist():
            asset = rows.assets[which[j]]
            stuck = sensor[j] in self._stuck.get(asset, ())
            clean[j] = not stuck and not self.episodes.maintained(asset, int(rows.rows[which[j]]))
        if clean.any():
            places = np.cumsum(wanted) - 1
            self._audit.hide(batch, self._rings.scaling, places[which[clean]], sensor[clean], gap[clean])

    def _compared(self, *, everything: bool = False) -> Audited | None:
        """What comes of the readings that were hidden, if there are enough of them or it is to be ``everything``."""
        if self._audit is None or self.detector is None:
            return None
        return self._audit.compared(self.detector.version, self.detector.infer, everything=everything)

    def _sum_up(
        self, marks: Sequence[tuple[int, int]], summands: Summands | None
    ) -> list[tuple[float, Output]]:
        """Add a chunk's windows to the drift, and close its intervals where the marks are.

        Returns:
            What is to be said of them, each with its place among the rows of the chunk.
        """
        said: list[tuple[float, Output]] = []
        begin = 0
        for after, horizon_ns in [*marks, (1 << 62, -1)]:
            if summands is not None and self.drift is not None:
                said += self._add_up(summands, *np.searchsorted(summands.places, [begin, after]).tolist())
            if horizon_ns >= 0:
                said += [(after - 0.5, output) for output in self._drift_records(horizon_ns)]
            begin = after
        return said

    def _add_up(self, summands: Summands, begin: int, end: int) -> list[tuple[float, Output]]:
        """Add some of them; where that makes too many intervals, the oldest end with what they have."""
        assert self.drift is not None
        said: list[tuple[float, Output]] = []
        while begin < end:
            stop = begin + self.drift.room(summands.times[begin:end])
            some = slice(begin, stop)
            self.drift.add(
                summands.times[some], summands.posterior[some], summands.residual[some], summands.kl[some]
            )
            if stop < end:
                horizon_ns = (min(self.drift.intervals) + 1) * self._drift_interval_ns
                place = float(summands.places[stop]) - 0.5
                said += [(place, output) for output in self._drift_records(horizon_ns)]
            begin = stop
        return said

    def _infer(self, batch: Windows) -> tuple[Ints, Evidence | None]:
        """The evidence of the windows that the model can look at, and which these are.

        A window that the model fails on is counted and stays unscored: it must not take others
        with it, nor end the process, which would meet it again after its restart. But a model that
        fails on many in a row is not asked about the rest: it is about to be given up.
        """
        assert self.detector is not None
        pieces = [np.arange(len(batch))]  # the next one last
        found: list[tuple[Ints, Evidence]] = []
        failures = 0  # in a row
        while pieces and failures < MOST_FAILURES:
            some = pieces.pop()
            try:
                with self._measured(len(some)):
                    evidence = self.detector.infer(batch.take(some) if len(some) < len(batch) else batch)
                found.append((some, evidence))
                failures = 0
            except Exception:  # noqa: BLE001 - a model is data: it may raise anything on what it never saw
                if len(some) > 1:
                    pieces += [some[len(some) // 2 :], some[: len(some) // 2]]
                else:
                    failures += 1
        if not found:
            self.dropped[Dropped.MODEL_FAILED] += len(batch)
            return np.empty(0, np.int64), None
        judged = np.concatenate([which for which, _ in found])
        self.dropped[Dropped.MODEL_FAILED] += len(batch) - len(judged)
        return judged, found[0][1] if len(found) == 1 else Evidence.joined([e for _, e in found])

    def _firing(self, asset: str) -> bool:
        known = self.episodes.assets.get(asset)
        return known is not None and known.alarm.state is State.FIRING

    def _fill(self, rows: RowBatch, needed: Ints, missing: Mask, evidence: Evidence, step: Step) -> None:
        """Put out the imputed cells of every incomplete row."""
        assert self.detector is not None
        sensors = self.spec.sensors
        for j in np.flatnonzero(missing[needed].any(1)).tolist():
            i = int(needed[j])
            filled, low, high = evidence.filled[j], evidence.low[j], evidence.high[j]
            cells = {
                sensors[c]: FilledCell(float(filled[c]), float(low[c]), float(high[c]))
                for c in np.flatnonzero(missing[i]).tolist()
            }
            step.filled += len(cells)
            step.outputs.append(
                FilledRow(
                    self.spec.name,
                    rows.assets[i],
                    int(rows.rows[i]) * self.spec.period_ns,
                    cells,
                    self.detector.kind,
                    self.detector.version,
                )
            )

    def _judge(
        self,
        rows: RowBatch,
        needed: Ints,
        due: Mask,
        windows: Floats,
        first_offsets: Ints,
        evidence: Evidence,
        scores: Floats,
        firing: Mask,
        step: Step,
    ) -> Summands | None:
        """Score the windows that are due, in row order, and move their episodes on.

        ``needed`` says of which of the ``rows`` there are ``windows`` and evidence.
        """
        detector = self.detector
        assert detector is not None
        chosen = np.flatnonzero(due[needed])
        if not len(chosen):
            return None
        which = needed[chosen]  # indices into rows
        slots = rows.slots
        some = evidence if len(chosen) == len(needed) else evidence.take(chosen)
        for i in which[~self._began[slots[which]]].tolist():
            slot = slots[i]
            if not self._began[slot]:
                # The baseline training left carries on where these rows continue it.
                self._began[slot] = True
                asset = rows.assets[i]
                carried = detector.carried_baseline(asset, int(rows.rows[i]))
                fresh = detector.fresh_baseline(asset) if carried is None else carried
                self._baseline[slot] = fresh
        try:
            verdicts = detector.judge(some, self._baseline, slots[which], static=self._scores)
        except Exception:  # noqa: BLE001 - see ``_infer``
            return None  # without a score they count as failed
        threshold = detector.threshold
        scored = np.isfinite(verdicts.score)
        step.scored += int(scored.sum())
        period = self.spec.period_ns
        times = rows.rows[which] * period
        scores[which] = verdicts.score
        # Whoever is not near an alarm and was not before has no episode that could move.
        loud = verdicts.score > self.episodes.policy.hysteresis * threshold
        restless = {rows.assets[i] for i in which[loud].tolist()} | self.episodes.assets.keys()
        for j, i in enumerate(which.tolist()) if restless else ():
            asset = rows.assets[i]
            if asset not in restless:
                continue
            score = float(verdicts.score[j])
            if scored[j] and not self.episodes.cannot_change(asset, score, threshold):
                first = int(first_offsets[chosen[j]])
                finding = self._finding(rows, i, j, windows[chosen[j]], first, some, verdicts, threshold)
                firing[i], events = self.episodes.scored(
                    asset, finding, threshold, detector.version, detector.calibration
                )
                step.outputs.extend(events)
            elif not scored[j]:
                firing[i] = self._firing(asset)
        if self._scores:
            self._say_scores(rows, which, times, verdicts, firing, step)
        return Summands(
            which[scored],
            times[scored],
            some.posterior[scored],
            some.residual[scored],
            verdicts.kl[scored],
        )

    def _say_scores(
        self,
        rows: RowBatch,
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
                    rows.assets[i],
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
        rows: RowBatch,
        i: int,
        j: int,
        window: Floats,
        first_offset: int,
        evidence: Evidence,
        verdicts: Verdicts,
        threshold: float,
    ) -> ScoredEvidence:
        """What an alert would say of one scored row."""
        assert self.detector is not None
        parts = self.detector.part_thresholds
        scores: dict[str, PartScore] = {}
        for name in ("reconstruction", "kl", "point"):
            value = float(getattr(verdicts, name)[j])
            if value == value:
                scores[name] = PartScore(value, parts[name], float(getattr(verdicts, f"p_{name}")[j]))
        scores["combined"] = PartScore(float(verdicts.score[j]), threshold)
        sensors = SensorEvidence.read(
            verdicts.error[j],
            evidence.residual[j],
            window,
            rows.values[i],
            evidence.expected[j],
        )
        return ScoredEvidence(
            int(rows.rows[i]),
            float(verdicts.score[j]),
            scores,
            sensors,
            float(1.0 - np.isfinite(window).mean()),
            first_offset if first_offset < NO_RECORD else int(rows.offsets[i]),
            int(rows.last_offsets[i]),
            verdict=partial(self._verdict, window, rows.conditions[i], verdicts, j),
        )

    def _verdict(
        self, window: Floats, condition: str, verdicts: Verdicts, j: int, before: Floats, shares: Floats
    ) -> str | None:
        """What kind of cause the model sees in the ``j``-th window; see ``Detector.verdict``."""
        detector, offsets = self.detector, verdicts.offsets
        if detector is None or offsets is None:
            return None
        level = self.episodes.policy.hysteresis * detector.threshold
        try:
            return detector.verdict(window, condition, offsets[j], before, shares, level)
        except Exception:  # noqa: BLE001 - see ``_infer``; an alert is due all the same
            return None

    # -------------------------------------------------------------- what needs no model
    def _silences(self, asset: str, row: int, last: Ints, seen: Mask, step: Step) -> None:
        """Sensors that fell silent, or speak again, at this row, which its asset spoke of.

        ``last`` (C,) is the row at which each was heard last, or the windows' first.
        """
        silent = ~seen & (row - last >= self._silent_rows)
        known = self._silent_sensors.get(asset, set())
        if not silent.any() and not known:
            return
        for c in np.flatnonzero(silent).tolist():
            if c not in known:
                known.add(c)
                step.outputs.extend(
                    self.episodes.open_unscored(
                        asset,
                        AlertKind.SENSOR_SILENT,
                        self.spec.sensors[c],
                        row,
                        int(last[c]),
                        Severity.WARNING,
                        self.model,
                    )
                )
        for c in [c for c in known if seen[c]]:
            known.discard(c)
            step.outputs.extend(
                self.episodes.close_unscored(
                    asset, AlertKind.SENSOR_SILENT, self.spec.sensors[c], row, self.model
                )
            )
        if known:
            self._silent_sensors[asset] = known
        else:
            self._silent_sensors.pop(asset, None)

    def _is_back(self, slot: int, *, silent: bool) -> Iterator[Step]:
        """Close an asset's silence once it has caught up with the fleet."""
        newest = int(self.grid.newest[slot])
        if newest - int(self.clock.skew[slot]) + self._silent_rows <= self.clock.row:
            return
        name = self._name(slot)
        yield from self._drain(silent=silent)
        self._silent[slot] = False
        self._forced.add(name)
        events = self.episodes.close_unscored(name, AlertKind.ASSET_SILENT, None, newest, self.model)
        if events and not silent:
            yield Step(outputs=list(events))

    def _look(self, *, silent: bool, offset: int) -> Iterator[Step]:
        """Read the fleet's clock behind the record at ``offset`` if it is time to, and say what follows.

        Whether it is depends on the records alone and not on the poll that they came in: so neither
        does who is silent.
        """
        clock = self.clock
        if not clock.due(self._drift_due_row):
            return
        look = clock.look(self.grid.newest, self._silent, self._middle_stamp, self._appended_ns)
        self._forced.update(map(self._name, look.changed.tolist()))
        found = (look.fell_silent, look.skewed, look.righted, look.set_back)
        if any(map(len, found)):
            yield from self._drain(silent=silent)
            yield from self._in_steps(self._fell_silent(look.fell_silent), silent=silent)
            yield from self._in_steps(self._skewed(look.skewed, look.righted), silent=silent)
            events: list[Output] = []
            for name in sorted(map(self._name, look.set_back.tolist())):
                # All that it sends is late. It begins anew, as if it were another asset, and is judged again.
                events += self._forget(name, offset, silent=silent)
            if events and not silent:
                yield Step(outputs=events)
        if not silent and NO_CLOCK < clock.row >= self._drift_due_row:
            yield from self._intervals_end()

    def _in_steps(self, outputs: Iterator[Output], *, silent: bool) -> Iterator[Step]:
        """What may be said of a whole fleet, so many at a time."""
        while some := list(islice(outputs, PLAIN_AT_ONCE)):
            self._said += 0 if silent else len(some)
            yield Step(outputs=[] if silent else some, silent=silent)

    def _fell_silent(self, slots: Ints) -> Iterator[Output]:
        """Declare these assets silent, by name."""
        for name, slot in sorted((self._name(slot), slot) for slot in slots.tolist()):
            newest = int(self.grid.newest[slot])
            self._silent[slot] = True
            self._forced.add(name)  # it is the others' records that say so
            yield from self.episodes.open_unscored(
                name,
                AlertKind.ASSET_SILENT,
                None,
                newest + self._silent_rows,
                newest,
                Severity.CRITICAL,
                self.model,
            )

    def _skewed(self, skewed: Ints, righted: Ints) -> Iterator[Output]:
        """Say whose clock is off for good, and whose is right again."""
        for name, slot in sorted((self._name(slot), slot) for slot in skewed.tolist()):
            newest = int(self.grid.newest[slot])
            ahead_ns = int(self.clock.skew[slot]) * self.spec.period_ns
            yield from self.episodes.open_unscored(
                name, AlertKind.CLOCK_SKEW, None, newest, newest, Severity.WARNING, self.model, ahead_ns
            )
        for name, slot in sorted((self._name(slot), slot) for slot in righted.tolist()):
            newest = int(self.grid.newest[slot])
            yield from self.episodes.close_unscored(name, AlertKind.CLOCK_SKEW, None, newest, self.model)

    def _silent_at_the_end(self, idle_ns: int) -> Iterator[Output]:
        """Assets that are silent as the log stands: elapsed wall time counts where all is idle."""
        clock, newest = self.clock, self.grid.newest
        row = clock.measure(newest, self._appended_ns)
        if row == NO_CLOCK:
            return
        was_there = ~clock.behind(newest, clock.row) | ~clock.behind(newest, row) | clock.overdue
        now = row + idle_ns // self.spec.period_ns
        yield from self._fell_silent(np.flatnonzero(clock.behind(newest, now) & was_there & ~self._silent))

    # -------------------------------------------------------------- what needs the model's memory
    def _stuck_sensors(self, rows: RowBatch, still: Ints, observed: Mask, step: Step) -> None:
        """Sensors that have stood still for longer than training ever saw."""
        assert self.detector is not None
        # int64 max means "never": keep the margin from overflowing.
        longest = np.minimum(self.detector.longest_constant, 1 << 60)
        limit = np.maximum(STUCK_MARGIN * longest, STUCK_MARGIN * self.spec.window)
        stuck = observed & (still >= limit)
        if not self._stuck and not stuck.any():
            return
        for i in range(len(rows)):
            asset, row = rows.assets[i], int(rows.rows[i])
            known = self._stuck.get(asset, set())
            for c in np.flatnonzero(stuck[i]).tolist():
                if c not in known:
                    known.add(c)
                    step.outputs.extend(
                        self.episodes.open_unscored(
                            asset,
                            AlertKind.SENSOR_STUCK,
                            self.spec.sensors[c],
                            row,
                            row - int(still[i, c]) + 1,
                            Severity.WARNING,
                            self.model,
                        )
                    )
            for c in [c for c in known if observed[i, c] and not stuck[i, c]]:
                known.discard(c)
                step.outputs.extend(
                    self.episodes.close_unscored(
                        asset, AlertKind.SENSOR_STUCK, self.spec.sensors[c], row, self.model
                    )
                )
            if known:
                self._stuck[asset] = known
            else:
                self._stuck.pop(asset, None)

    def _conditions(self, rows: RowBatch, step: Step) -> None:
        """Rows whose condition the model has never seen: scored as ``unknown``, and said once.

        Said is what messages and assets said. A weekday that training had no part of is scored as
        unknown too, but nobody at the machine can do anything about it: that is a concern of the model.
        """
        assert self.detector is not None
        if not self.spec.message_condition:
            return
        told = self._calendar.told
        known = {told(label) for label in self.detector.conditions}
        for asset, row, label in zip(rows.assets, rows.rows.tolist(), rows.conditions, strict=True):
            condition = told(label)
            episodes = self.episodes.assets.get(asset)
            opened = (
                [s for k, s in episodes.open if k is AlertKind.UNKNOWN_CONDITION]
                if episodes is not None
                else []
            )
            for other in opened:
                if other != condition or other in known:  # over, or learned meanwhile
                    step.outputs.extend(
                        self.episodes.close_unscored(
                            asset, AlertKind.UNKNOWN_CONDITION, other, row, self.model
                        )
                    )
            if condition not in known and condition not in opened:
                step.outputs.extend(
                    self.episodes.open_unscored(
                        asset,
                        AlertKind.UNKNOWN_CONDITION,
                        condition,
                        row,
                        row,
                        Severity.WARNING,
                        self.model,
                    )
                )

    def _intervals_end(self) -> Iterator[Step]:
        """Publish the drift of the intervals that the fleet's clock has left behind.

        What an interval adds up to must not depend on what else came in the same poll.
        """
        known = self._drift_due_row != NO_CLOCK
        horizon_ns = self._await_interval()
        if not known:
            return
        if self._waiting:  # after the rows that came before
            self._marks.append((self._waiting.end, horizon_ns))
        elif outputs := self._drift_records(horizon_ns):
            yield Step(outputs=outputs)

    def _await_interval(self) -> int:
        """Set when to look again; gives the time before which no row is awaited any more.

        A row of an asset that lags behind the others may still come: it makes a record more.
        """
        spec = self.spec
        behind_ns = spec.allowed_lateness_ns + spec.period_ns
        horizon_ns = self.clock.row * spec.period_ns - behind_ns
        next_end = (horizon_ns // self._drift_interval_ns + 1) * self._drift_interval_ns
        self._drift_due_row = -((next_end + behind_ns) // -spec.period_ns)
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
                    self.episodes.open_unscored(
                        subject, AlertKind.DRIFT, None, row, onset, Severity.WARNING, self.model
                    )
                )
            elif record.verdict == "ok":
                outputs.extend(self.episodes.close_unscored(subject, AlertKind.DRIFT, None, row, self.model))
        return outputs

    # -------------------------------------------------------------- recovery
    def replay_from(self) -> int:
        """The oldest record that no saved state covers; meant after ``checkpoint``."""
        uncovered = self._uncovered[self._uncovered >= 0]
        return int(uncovered.min()) if len(uncovered) else max(self.offset, 0)

    @property
    def moved(self) -> bool:
        """Whether something changed that no record tells a successor."""
        return bool(self._forced)

    def checkpoint(self) -> list[StateRecord]:
        """All of ``saving`` at once."""
        return list(self.saving())

    def saving(self) -> Iterator[StateRecord]:
        """The state that is to become durable together with the position and its outputs.

        Every asset that no replay could bring up to date goes. Of those that were not written for so
        long that each asset had about a window of rows meanwhile, or for some seconds where more
        comes in them, the oldest go: so little is written beside what is read, and a replay is short.
        With them go some whose rows an earlier model's units still tell.

        Exhaust it between two feeds; each record takes some 20 us to make.
        """
        assert not self._waiting
        spec, topic = self.spec, self.partition.topic
        per_row = 1 if spec.format is Format.JSON_WIDE else len(spec.sensors)
        self._checkpoints.append(self.offset)
        lately, assets = self.offset - self._checkpoints[0], len(self._slots)
        span = min(max(spec.window * assets * per_row, lately), max(REPLAY_RECORDS, 8 * assets))
        gone = (self._gone & self._kept) - self._slots.keys()
        if self._gone:
            # From here on whoever has no record is unknown: so all that live must have one.
            self._kept -= self._gone
            self._forced.update(self._named(np.flatnonzero(self._recorded == UNKEPT)))
            self._forgotten_before = self.offset
            self._gone.clear()
        chosen = self._forced & self._slots.keys()
        old = np.flatnonzero((self._uncovered >= 0) & (self._uncovered <= self.offset - span))
        old = old[np.argsort(self._uncovered[old], kind="stable")]
        behind = np.flatnonzero((self._recorded >= 0) & (self._recorded < self._rings.number))
        more = np.concatenate([old, behind])[:STATES_AT_ONCE]
        chosen.update(self._named(more))
        self._kept |= chosen
        self._forced.clear()
        for asset in sorted(gone):
            yield snapshot.encode(topic, asset, None)
        names = sorted(chosen)
        for begin in range(0, len(names), STATES_AT_ONCE):
            some = names[begin : begin + STATES_AT_ONCE]
            slots = self._slots_of(some)
            self._rings.convert_rows(slots)
            self._uncovered[slots] = -1
            self._recorded[slots] = self._rings.number
            for asset in some:
                yield snapshot.encode(topic, asset, self._state_of(asset))
        self._drop_swaps()
        yield snapshot.encode(topic, "", self._partition_state())

    def _replay_count(self) -> int:
        """How many readings the clock had counted before the one that a successor replays first."""
        uncovered = np.flatnonzero(self._uncovered >= 0)
        if not len(uncovered):
            return self.clock.count
        return int(self._uncovered_count[uncovered[np.argmin(self._uncovered[uncovered])]]) - 1

    def _named(self, slots: Ints) -> list[str]:
        """Whose slots these are."""
        return [name for slot in slots.tolist() if (name := self._names[slot]) is not None]

    def _partition_state(self) -> snapshot.PartitionState:
        interval_ns = self._drift_interval_ns
        drift = snapshot.DriftState.none(interval_ns) if self.drift is None else self.drift.snapshot()
        return snapshot.PartitionState(
            self._layout,
            self.offset,
            [swap.snapshot() for swap in self._swaps],
            snapshot.FleetState.joined(
                self.clock.snapshot_fleet(),
                replay_count=self._replay_count(),
                drift_due_row=self._drift_due_row,
                stamps_ns=self._stamps,
            ),
            self._forgotten_before,
            *drift,
            self.episodes.snapshot_drift(),
        )

    def _state_of(self, asset: str) -> snapshot.AssetState:
        slot = self._slots[asset]
        alarm, stuck = self.episodes.snapshot(asset), self._stuck.get(asset)
        if alarm is not None or stuck:
            self._told_restless.add(asset)
        else:
            self._told_restless.discard(asset)
        return snapshot.AssetState(
            self._layout,
            self.offset,
            self.grid.snapshot(slot, asset),
            *self._rings.snapshot(slot),
            snapshot.pack_floats(self._baseline[slot]) if self._began[slot] else None,
            alarm,
            bool(self._silent[slot]),
            sorted(self._silent_sensors.get(asset, ())),
            sorted(stuck or ()),
            snapshot.ClockState.joined(self.guard.snapshot(slot), self.clock.snapshot(slot)),
        )

    def standing(self, asset: str, row: int) -> Standing | None:
        """Where an asset stands behind ``row``, its newest of the last chunk; copies only.

        None without a full window or a baseline, or while an episode is not over.
        """
        slot, rings = self._slots.get(asset), self._rings
        if slot is None or not self._began[slot] or rings.filled[slot] < self.spec.window:
            return None
        known = self.episodes.assets.get(asset)
        alarm = Alarm() if known is None else known.alarm
        if alarm.state in (State.FIRING, State.RECOVERING) or self._stuck.get(asset):
            return None
        return Standing(
            rings.raw_rows(slot),
            self._baseline[slot].copy(),
            (alarm.state, alarm.recent, alarm.resting),
            row - rings.still_since[slot] + 1,
            row - np.maximum(rings.last_row[slot], int(rings.fresh_row[slot])),
        )

    def restore(self, saved: Sequence[StateRecord], *, exact: bool = True) -> bool:
        """All of ``restoring`` at once; True if the state was of use."""
        for _ in self.restoring(saved, exact=exact):
            pass
        return self.restored

    def restoring(self, saved: Sequence[StateRecord], *, exact: bool = True) -> Iterator[None]:
        """Take over what a predecessor knew; before the first feed, and after ``use``.

        Yields every few milliseconds; exhaust it. ``restored`` says whether the state was of use; if
        it was not, its records are taken away with the next commit.

        Args:
            saved: the records of this partition, perhaps among others.
            exact: whether the state must be of this very position. Where it is written before
                the position is, it may be of a later one: what lies between was published.
        """
        topic = self.partition.topic
        records: dict[bytes, bytes] = {}
        for found in snapshot.records_of(saved, topic):
            if found is None:
                yield
            elif found[1] is not None:
                records.pop(found[0], None)
                records[found[0]] = found[1]  # in the order of the last writes
        partition = self._partition_of(records.pop(b"", None))
        if (
            partition is None
            or partition.offset < self.publish_from
            or (exact and partition.offset != self.publish_from)
        ):
            self._gone = {name.decode() for name in records if snapshot.is_utf8(name)}
            self._kept = set(self._gone)
            return
        self.publish_from = partition.offset
        self.replaying = self.restored = True
        self._forgotten_before = partition.forgotten_before
        self.clock.restore_fleet(partition.clock.at_replay)
        self._stamps = tuple(partition.clock.stamps_ns)
        self._count_at_resume = partition.clock.count
        if partition.drift_episode is not None:
            self.episodes.restore_drift(partition.drift_episode)
        self._take_swaps(partition)
        if self._other_model or partition.drift_interval_ns != self._drift_interval_ns:
            left = Drift.outgoing(partition, self.spec.name, self.partition)
            self._left = [] if left is None else list(left.due(1 << 62))
        elif self.drift is not None:
            self.drift.restore(partition.drift_state)
        if partition.drift_interval_ns == self._drift_interval_ns:
            self._drift_due_row = partition.clock.drift_due_row
        elif self.clock.row != NO_CLOCK:
            self._await_interval()
        surplus = len(records) - self._max_assets
        for i, (name, value) in enumerate(records.items(), 1):
            self._restore_one(name, value, partition, surplus=i <= surplus)
            if i % RESTORED_AT_ONCE == 0:
                yield
        for asset in sorted(self.spec.forget & self._slots.keys()):
            # The operator has taken it out of the stream: what is open of it ends here.
            self._left += self._forget(asset, self.publish_from, silent=False)

    def _partition_of(self, value: bytes | None) -> snapshot.PartitionState | None:
        """The partition's own record, if it can be used."""
        found = None if value is None else snapshot.decode_partition(value, self._layout)
        if found is None:
            return None  # there is none, or it is of another layout
        fault = found if isinstance(found, str) else partition_fault(found, self.spec)
        if isinstance(found, snapshot.PartitionState) and fault is None:
            mine, last = self._swaps[-1], snapshot.Swap.restored(found.swaps[-1])
            if last.model != mine.model:
                return found
            if last.scaling.same_as(mine.scaling) and (
                found.reference is None
                or self.drift is None
                or len(snapshot.unpack_floats(found.reference.latent_mean))
                == len(self.drift.reference.latent_mean)
            ):
                return found
            fault = f"it is not of the model {mine.model} that is in force"
        self.unusable.append(f"of the partition: {fault}")
        return None

    def _restore_one(
        self, name: bytes, value: bytes, partition: snapshot.PartitionState, *, surplus: bool
    ) -> None:
        """Set up one asset, or note why it cannot be; then it begins anew, and no other asset notices."""
        if not snapshot.is_utf8(name):
            self.unusable.append(f"of {name[:60]!r}: the key is not UTF-8")
            return
        asset = name.decode()
        known = snapshot.decode_asset(value, self._layout)
        if known is None:
            return  # of another layout, as a predecessor of another version left it
        fault = known if isinstance(known, str) else None
        if len(name) > ASSET_BYTES:
            fault = f"the key has {len(name)} bytes"
        elif surplus:
            fault = f"there are more than limits.max_assets, {self._max_assets}"
        if isinstance(known, snapshot.AssetState) and fault is None:
            fault = asset_fault(known, self.spec, partition, self._rings.scalings)
            at_last = known.units == self._swaps[-1].number
            if fault is None and at_last and known.baseline is not None:
                needed = 8 * self._baseline.shape[1]
                if len(known.baseline) != needed:
                    fault = f"baseline has {len(known.baseline)} bytes, where the model needs {needed}"
            if fault is None:
                self._restore_asset(asset, known)
                return
        self.unusable.append(f"of {asset[:60]!r}: {fault}")
        if len(name) <= ASSET_BYTES:
            self._gone.add(asset)  # its record goes with the next commit, or is written anew
            self._kept.add(asset)

    def _take_swaps(self, partition: snapshot.PartitionState) -> None:
        """Stand where the oldest record may stand, with the later swaps ahead; ours comes last if it is new."""
        mine, self._swaps = self._swaps[-1], [snapshot.Swap.restored(swap) for swap in partition.swaps]
        self._other_model = self._swaps[-1].model != mine.model
        if self._other_model:
            number = self._swaps[-1].number + 1
            self._swaps.append(snapshot.Swap(number, self.publish_from, mine.model, mine.scaling))
        self._ahead = deque(self._swaps[1:])
        self._rings.restore_scalings(
            {swap.number: swap.scaling for swap in self._swaps}, self._swaps[0].number
        )

    def _restore_asset(self, asset: str, known: snapshot.AssetState) -> None:
        """Set up one asset as it was at the offset that its record covers."""
        slot = self._slot(asset)
        self._rings.restore(slot, known.window_state)
        self._recorded[slot] = known.units
        if known.baseline is not None and known.units == self._swaps[-1].number:
            self._baseline[slot] = snapshot.unpack_floats(known.baseline)
            self._began[slot] = True
        self.grid.restore(slot, asset, known.grid)
        if known.alarm is not None or known.stuck:
            self._told_restless.add(asset)
        if known.alarm is not None:
            self.episodes.restore(asset, known.alarm)
        self._silent[slot] = known.asset_silent
        self.guard.restore(slot, asset, known.clock.event_time)
        self.clock.restore(slot, known.clock.fleet)
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
