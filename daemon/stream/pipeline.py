"""The conductor of one input partition: from polled records to outputs, a chunk of rows at a time.

The way of a record through ``feed`` (``_process``, then ``_process_together`` or ``_process_one``, and at the end of
the poll ``_finish_poll``), file by file:

    ingest         Ingest: decode it, check its event time, put it on its asset's grid, release rows
      batch_ingest    BatchIngest: the same for many readings at once
    chunker        Chunker: released rows wait for a full chunk or for the end of the poll
    evaluation     Evaluation: take the chunk through the rest
      derivation      Derivation: make rates of counters, and cosine and sine of angles
      chunk_windows   cut_windows: hold last values, push the rows into their windows, cut out those to be judged
      silence         SilenceMonitor: sensors that became silent
      judge           Judge: ask the model, fill missing cells, score, move the anomaly episodes on
      silence         SilenceMonitor: sensors that are stuck
      drift           DriftMonitor: add the windows up, emit the intervals that are over
    steps          Step: the outputs, on their way to the runtime loop, which publishes and commits

After each reading ``timekeeping`` checks the fleet's clock: assets that became silent, clocks that are off,
drift intervals that ended. ``alerts`` opens and closes the episodes of all of these.

``feed`` is a synchronous generator: between two steps the loop publishes, and answers the broker. Where
a chunk or a poll ends never shows in the outputs.

The parts own their state (``parts``). The pipeline owns its position: which record comes next; ``changes`` which
model and which control messages come into force at the next offset that can be committed. ``ledger`` and ``recovery`` see to it that the
next owner of the partition can continue from there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import numpy as np

from daemon.assembly import as_received
from daemon.budget import Budget
from daemon.control import Received
from daemon.detector import Detector
from daemon.domain import (
    AlarmPolicy,
    Disposition,
    Dropped,
    InputPartition,
    Output,
    PolledRecords,
    Reading,
    Record,
    StateRecord,
    to_ns,
)
from daemon.maintenance import MaintenanceWindow
from daemon.stream.accounts import Accounts
from daemon.stream.alerts import Episodes
from daemon.stream.asking import Measured
from daemon.stream.asset_grid import value_hashes
from daemon.stream.audit import Audit
from daemon.stream.batch_ingest import BatchIngest, Placed
from daemon.stream.batches import ReadingBatch
from daemon.stream.changes import Changes
from daemon.stream.decode import Births
from daemon.stream.drift import ALL_TIME
from daemon.stream.evaluation import OUTPUTS_AT_ONCE, Evaluation
from daemon.stream.fleet_clock import BATCH
from daemon.stream.ingest import Decode
from daemon.stream.parts import Parts, PipelineSettings
from daemon.stream.recovery import Recovery
from daemon.stream.steps import Step
from daemon.stream.timekeeping import Timekeeping

READINGS_AT_ONCE = BATCH
"""Readings that are taken between two yields: new assets, of which each is taken alone, take 20 ms so."""
ONE_IN_ALONE = 8
"""If more than one in so many readings of a batch must be taken alone, all of them are."""
RECORDS_AT_ONCE = 2_048
"""Records that are decoded and put on the grid at once: some 50 ms at most where each goes by itself."""
MOST_EMITTED = 10_000
"""Outputs before the loop may commit: one record may bridge a gap of many rows."""


class Pipeline:
    """All parts of one input partition of one stream.

    Args:
        settings: of the stream.
        partition: the input partition.
        decoder: bytes to readings.
        publish_from: records before this offset rebuild state without outputs.
        measured: entered around the model's work, see ``judge.Measured``.

    Attributes:
        parts: the owners of its state.
        offset: the next record's.
    """

    def __init__(
        self,
        settings: PipelineSettings,
        partition: InputPartition,
        decoder: Decode,
        *,
        publish_from: int = 0,
        measured: Measured = nullcontext,
    ) -> None:
        self.parts = Parts.of(settings, partition, decoder, publish_from=publish_from, measured=measured)
        self.spec = settings.spec
        self.partition = partition
        self.offset = -1
        self._batches = BatchIngest(
            as_received(self.spec), self.parts.ingest, self.parts.assets, self.parts.ledger
        )
        audit = Audit(settings.audit, len(self.spec.sensors), self.spec.window) if settings.audit else None
        self._evaluation = Evaluation(self.parts, audit)
        self._recovery = Recovery(self.parts)
        self._timekeeping = Timekeeping(self.parts, self._evaluation)
        self._changes = Changes(self.parts, self._evaluation)
        self._stopping = False
        self._predecessor_outputs: list[Output] = []

    # -------------------------------------------------------------- questions of the loop
    @property
    def episodes(self) -> Episodes:
        """The alerts that are open."""
        return self.parts.episodes

    @property
    def names(self) -> set[str]:
        """The assets that have state here."""
        return set(self.parts.assets.slots)

    @property
    def assets(self) -> int:
        """How many assets have state here."""
        return len(self.parts.assets)

    @property
    def event_time_ns(self) -> int:
        """The fleet's event time, as of at most one reading of each asset ago; -1 before any reading."""
        return self.parts.ingest.event_time_ns(self.offset)

    @property
    def detector(self) -> Detector | None:
        """The model in force."""
        return self.parts.judge.detector

    @property
    def model(self) -> str:
        """The version that outputs name."""
        return self.parts.judge.model

    @property
    def counts(self) -> Counter[Disposition]:
        """Records by disposition."""
        return self.accounts.records

    @property
    def reasons(self) -> Counter[str]:
        """Rejected records by reason."""
        return self.accounts.reasons

    @property
    def accounts(self) -> Accounts:
        """What became of its records and their cells."""
        return self.parts.ingest.accounts

    @property
    def dropped(self) -> Counter[Dropped]:
        """What else came to nothing."""
        dropped = self.parts.judge.dropped.copy()
        if self.parts.assets.evicted:
            dropped[Dropped.ASSET_EVICTED] = self.parts.assets.evicted
        if self.episodes.maintenance.dropped:
            dropped[Dropped.PLANNED_STOP] = self.episodes.maintenance.dropped
        if self.births is not None and self.births.lost:
            dropped[Dropped.MESSAGE_LOST] = self.births.lost
        return dropped

    @property
    def births(self) -> Births | None:
        """What earlier records say of later ones; None where each can be understood alone."""
        return self.parts.ingest.births

    @property
    def observed_rows(self) -> int:
        """Judged rows that at least one record was received for."""
        return self.parts.chunker.observed_rows

    @property
    def training_cut(self) -> int | None:
        """See ``Chunker``."""
        return self.parts.chunker.training_cut

    @training_cut.setter
    def training_cut(self, rows: int | None) -> None:
        self.parts.chunker.training_cut = rows

    @property
    def publish_from(self) -> int:
        """Records before this offset rebuild state without outputs."""
        return self.parts.ledger.publish_from

    @property
    def replaying(self) -> bool:
        """Whether such records may still come: episodes are not as they were."""
        return self.parts.ledger.replaying

    @property
    def restored(self) -> bool:
        """Whether a predecessor's snapshots were taken over."""
        return self.parts.ledger.restored

    @property
    def unusable(self) -> list[str]:
        """The records of state that could not be used, each with the reason."""
        return self._recovery.unusable

    # -------------------------------------------------------------- the model, and what people say
    def use(self, detector: Detector | None) -> list[Output]:
        """Judge with this detector from the next row on; weights, scaler and thresholds change together.

        Without one nothing is scored until the next comes.

        Returns:
            The records of the outgoing model's unfinished drift intervals, and the ends of the drifts of single assets.
        """
        return self._changes.use(detector, self.offset)

    def use_when_committable(self, detector: Detector | None) -> None:
        """The same within ``feed``, at the next offset that can be committed, where a successor can do it too: see ``changes``."""
        self._changes.use_next(detector)

    def use_policy(
        self, policy: AlarmPolicy, stops: Sequence[MaintenanceWindow], online: Budget | None = None
    ) -> None:
        """Use these settings of the alarms, and planned stops of the configuration, from such an offset on."""
        self._changes.use_policy(policy, stops, online)

    def take_control(self, received: Received) -> None:
        """Take a control message at such an offset; what was taken before is left out."""
        self.parts.controls.add(received)

    def _change(self, offset: int) -> Iterator[Step]:
        """Let what waits come into force between two readings; ``offset`` is the second one's."""
        yield from self._evaluation.evaluate_all()
        self._evaluation.emitted, self.offset = 0, offset
        yield from self._changes.take(offset)

    # -------------------------------------------------------------- feed
    def feed(self, polled: PolledRecords) -> Iterator[Step]:
        """Take what was polled; yields a Step per chunk. Exhaust it before the next call.

        The result of one poll has no bound (a record may bridge a gap of a day), but what the loop
        must keep has: on the way through, ``committable`` steps come.
        """
        items = polled.items
        if self.replaying and self.offset >= self.publish_from:
            yield from self._end_replay()
        if self._changes.due and not self.replaying:
            yield from self._change(max(self.offset, 0))
        if self.replaying and items:
            done = bisect_left(items, self.publish_from, key=lambda item: item.offset)
            yield from self._replay(items[:done])
            items = items[done:]
            if items:
                # The outputs of the replayed records were published: their rows must not spill over.
                yield from self._end_replay()
        yield from self._process(items)
        if self.replaying and self.offset >= self.publish_from:
            yield from self._end_replay()
        yield from self._finish_poll(polled)

    def stop_soon(self) -> None:
        """Yield a committable step as soon as may be: no record after it will be taken."""
        self._stopping = True

    def _replay(self, items: Sequence[Record | Reading]) -> Iterator[Step]:
        """Take records of before the committed position, and repeat each model change where it was."""
        while items:
            first = items[0].offset
            while (change := self.parts.model_changes.next_offset()) is not None and change <= first:
                yield from self._evaluation.evaluate_all()
                self._recovery.repeat_model_change()
            end = len(items)
            if change is not None:
                end = bisect_left(items, change, key=lambda item: item.offset)
            yield from self._process(items[:end])
            items = items[end:]

    def _end_replay(self) -> Iterator[Step]:
        """The committed position is reached."""
        yield from self._evaluation.evaluate_all()
        if outdated := self._recovery.replayed():
            yield self._evaluation.make_step(outdated)

    def _process(self, items: Sequence[Record | Reading]) -> Iterator[Step]:
        """Take records with a pause now and then, even where no chunk of rows comes of them."""
        for begin in range(0, len(items), RECORDS_AT_ONCE):
            if begin:
                yield self._evaluation.make_step()
            some = items[begin : begin + RECORDS_AT_ONCE]
            batch, readings = self.parts.ingest.decode(some)
            if batch is not None:
                yield from self._process_batch(batch)
            before = -1
            for reading in readings:
                if reading.offset != before:  # within a record nothing can be committed
                    yield from self._yield_if_full(reading.offset)
                    before = reading.offset
                yield from self._process_one(reading)
            self.offset = some[-1].offset + 1

    def _process_batch(self, readings: ReadingBatch) -> Iterator[Step]:
        """Take readings, as many at once as need not be taken alone."""
        hashes = None if self.spec.gathers else value_hashes(readings.values)
        placed = Placed(readings, hashes, np.empty(len(readings), np.int64))
        for begin in range(0, len(readings), READINGS_AT_ONCE):
            end = min(begin + READINGS_AT_ONCE, len(readings))
            if self.replaying:
                yield from self._process_one_by_one(placed, begin, end)
            else:
                yield from self._process_together(placed, begin, end)
            yield self._evaluation.make_step()  # whatever they led to, the loop may turn to something else

    def _process_one_by_one(self, placed: Placed, begin: int, end: int) -> Iterator[Step]:
        """Take these readings one by one."""
        for i in range(begin, end):
            yield from self._yield_before(placed.readings, i)
            yield from self._process_one(placed.readings.reading(i), placed.value_hash(i))

    def _yield_before(self, readings: ReadingBatch, i: int) -> Iterator[Step]:
        """``_yield_if_full`` before a reading; within a record nothing can be committed."""
        if not i or readings.offsets[i] != readings.offsets[i - 1]:
            yield from self._yield_if_full(int(readings.offsets[i]))

    def _process_together(self, placed: Placed, begin: int, end: int) -> Iterator[Step]:
        """Take readings together as far as they lead to nothing but rows.

        A reading of an asset that there is no room for, or that is silent, is taken alone: its outputs
        must come before those of the readings after it. After a reading by which an asset may
        turn out to be silent, the fleet's clock is read.
        """
        batch, slots = placed.readings, placed.slots
        slots[begin:end] = self.parts.assets.slots_of(batch.assets[begin:end])
        at, alone = begin, 0
        while at < end:
            yield from self._yield_before(batch, at)
            stop = self._batches.assign_slots(placed, at, end)
            silent = np.flatnonzero(self.parts.silence.silent[slots[at:stop]])
            if len(silent):
                stop = at + int(silent[0])
            if stop > at:
                stop = self._batches.batch_end(placed, at, stop, self.parts.drift.due_row)
                self.parts.chunker.append(self._batches.take_batch(placed, at, stop))
                yield from self._evaluation.evaluate_full()
                assets = len(self.parts.assets)
                yield from self._timekeeping.check_clock(int(batch.offsets[stop - 1]))
                at = stop
                if len(self.parts.assets) < assets:  # one of them begins anew
                    slots[at:end] = self.parts.assets.slots_of(batch.assets[at:end])
                continue
            yield from self._process_one(batch.reading(at), placed.value_hash(at))
            alone += 1
            at += 1
            if alone * ONE_IN_ALONE > end - begin:
                yield from self._process_one_by_one(placed, at, end)
                return
            # It may have brought an asset, or evicted one.
            slots[at:end] = self.parts.assets.slots_of(batch.assets[at:end])

    def _process_one(self, reading: Reading, value_hash: int | None = None) -> Iterator[Step]:
        """Take one reading, with everything that it leads to."""
        asset, offset = reading.asset, reading.offset
        parts, ingest, ledger = self.parts, self.parts.ingest, self.parts.ledger
        ingest.clock.count += 1
        ledger.begin(offset, ingest.clock.count)
        if ledger.follows_snapshots and ledger.covers(asset, offset):
            return
        slot = parts.assets.slots.get(asset)
        if slot is None:
            if parts.assets.full:
                # Outputs of an eviction must not come before those of rows released earlier.
                yield from self._evaluation.evaluate_all()
                yield self._evaluation.make_step(parts.evict(offset))
            slot = parts.assets.add(asset)
        newest = ingest.grid.newest[slot]
        released = ingest.take(slot, reading, value_hash)
        if ledger.follows_snapshots:  # silence and the clock are as of the position
            parts.chunker.add(released)
            yield from self._evaluation.evaluate_full()
            return
        if parts.silence.silent[slot] and ingest.grid.newest[slot] > newest:
            yield from self._timekeeping.end_silence(slot)
        parts.chunker.add(released)
        yield from self._evaluation.evaluate_full()
        yield from self._timekeeping.check_clock(offset)

    def _finish_poll(self, polled: PolledRecords) -> Iterator[Step]:
        """The end of a poll: judge the rows that wait, emit dead letters, and let idle time release rows."""
        idle_ns, ended = to_ns(polled.idle), polled.ended
        if ended or idle_ns > self.spec.allowed_lateness_ns:
            held = self.parts.ingest.decide_held(ended=ended, offset=self.offset)
            for i, released in enumerate(held, 1):
                if i % OUTPUTS_AT_ONCE == 0:
                    yield self._evaluation.make_step()
                if released is not None:
                    self.parts.chunker.add(released)
                    yield from self._evaluation.evaluate_full()
                    yield from self._yield_if_full(self.offset)
        step = Step(outputs=self.parts.ingest.dead_letters_before(self.offset))
        if ended or polled.idle:
            self.parts.chunker.add(self.parts.ingest.release_idle(idle_ns, ended=ended))
        yield from self._evaluation.evaluate_all()
        if (ended or polled.idle) and not self.replaying:
            yield from self._timekeeping.check_idle(idle_ns)
            if ended:
                step.outputs.extend(self.parts.drift.records(ALL_TIME))
            # What waits for a full batch has time now.
            step.audited = self._evaluation.compared(everything=True)
        self._evaluation.emitted = 0
        if step.outputs or step.audited is not None:
            yield step

    # -------------------------------------------------------------- committable offsets
    def _yield_if_full(self, offset: int) -> Iterator[Step]:
        """Between two readings, the next at ``offset``: let the loop commit if much was emitted, or it must."""
        if self.replaying:
            return
        if self._changes.due:
            yield from self._change(offset)
        if self._evaluation.emitted >= MOST_EMITTED or self._stopping:
            yield from self._evaluation.evaluate_all()
            self._evaluation.emitted, self.offset = 0, offset
            yield Step(outputs=self.parts.ingest.dead_letters_before(offset), committable=True)

    # -------------------------------------------------------------- recovery
    def replay_from(self) -> int:
        """The oldest record that no saved state covers; meant after ``saving``."""
        return self.parts.ledger.replay_from(self.offset)

    @property
    def dirty(self) -> bool:
        """Whether something changed that no record tells a successor."""
        return self.parts.ledger.dirty or self.parts.controls.changed

    def saving(self) -> Iterator[StateRecord]:
        """The state that is to become durable with the position and its outputs, see ``Recovery``."""
        assert not len(self.parts.chunker)
        yield from self._recovery.saving(self.offset)

    def restoring(self, saved: Sequence[StateRecord], *, exact: bool = True) -> Iterator[None]:
        """Take over a predecessor's state, see ``Recovery``; before the first feed, and after ``use``.

        Yields every few milliseconds; exhaust it. ``restored`` tells whether the state was of use.
        """
        for outputs in self._recovery.restoring(saved, exact=exact):
            self._predecessor_outputs += outputs or []
            yield
        if self.restored:
            for asset in sorted(self.spec.forget & self.parts.assets.slots.keys()):
                # The operator has taken it out of the stream: its open episodes end here.
                self._predecessor_outputs += self.parts.forget(asset, self.publish_from, refuse=True)

    def predecessor_outputs(self) -> list[Output]:
        """What a predecessor added up and nobody can continue; to be published before the next commit."""
        outputs, self._predecessor_outputs = self._predecessor_outputs, []
        return outputs
