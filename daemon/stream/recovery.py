"""Snapshots of one input partition: written with every commit, taken over by a successor.

There is one record for the partition and one per asset, keyed by name, in a compacted topic. They
become durable together with the committed position and the outputs. Each owner of state makes and
takes its own part; this module puts the parts together, and decides whether what is found can be
used. ``Ledger`` says whose snapshot is due.

A pipeline that takes over a partition is first given its predecessor's snapshots (``restoring``),
then fed from before the committed offset: each asset skips the records that its own snapshot covers, and
the others move it on without outputs, which were published before. What belongs to the partition and
to no asset (event time, drift, who is silent) is as of the committed offset already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from daemon.domain import Output, StateRecord
from daemon.stream import snapshot
from daemon.stream.asset_drift import fleet_left
from daemon.stream.decode.births import Certificate
from daemon.stream.drift import ALL_TIME, Drift
from daemon.stream.event_time import NO_CLOCK
from daemon.stream.ledger import SNAPSHOTS_AT_ONCE
from daemon.stream.parts import Parts
from daemon.stream.rejection import RejectedError
from daemon.stream.validity import ASSET_BYTES, asset_fault, birth_fault, partition_fault

RESTORED_AT_ONCE = 200
"""Assets that are restored between two pauses: some 10 ms."""


class Recovery:
    """Makes and takes over the snapshots of one partition.

    Args:
        parts: the owners of its state.

    Attributes:
        unusable: the records that could not be used, each with the reason.
    """

    def __init__(self, parts: Parts) -> None:
        self.unusable: list[str] = []
        self._parts = parts
        self._layout = snapshot.layout(parts.spec)
        self._unneeded_births: list[str] = []  # records of certificates to be deleted, by name
        self._clock_count = 0  # the fleet clock's at the position of the restored snapshot

    # -------------------------------------------------------------- writing
    def saving(self, position: int) -> Iterator[StateRecord]:
        """The records that are to become durable together with the position and its outputs.

        Exhaust it between two feeds; each record takes some 20 us to make.
        """
        parts, topic = self._parts, self._parts.partition.topic
        units = parts.windows.number
        due = parts.ledger.plan_commit(position, units)
        for asset in due.removed:
            yield snapshot.encode(topic, asset, None)
        for begin in range(0, len(due.snapshots), SNAPSHOTS_AT_ONCE):
            some = due.snapshots[begin : begin + SNAPSHOTS_AT_ONCE]
            parts.windows.convert_rows(parts.assets.slots_of(some))
            parts.ledger.saved(some, units)
            for asset in some:
                yield snapshot.encode(topic, asset, self._asset(asset, position))
        yield from self._saving_births(position)
        parts.forget_model_changes(position)
        parts.controls.changed = False
        yield snapshot.encode(topic, "", self._partition(position))

    def _saving_births(self, position: int) -> Iterator[StateRecord]:
        """What is new among the certificates, and deletes those that nothing can need any more."""
        parts, topic, births = self._parts, self._parts.partition.topic, self._parts.ingest.births
        for name in self._unneeded_births:
            yield snapshot.encode(topic, name, None)
        self._unneeded_births.clear()
        if births is None:
            return
        for node, certificate, offset in births.saving(parts.ledger.replay_from(position)):
            state = None
            if certificate is not None:
                metrics = None if certificate.metrics is None else list(certificate.metrics)
                state = snapshot.BirthState(self._layout, node, offset, metrics, certificate.session)
            yield snapshot.encode(topic, snapshot.birth_name(node, offset), state)

    def _partition(self, position: int) -> snapshot.PartitionState:
        parts = self._parts
        clock, drift, births = parts.ingest.clock, parts.drift.drift, parts.ingest.births
        return snapshot.PartitionState(
            self._layout,
            position,
            [change.snapshot() for change in parts.model_changes],
            snapshot.FleetState.joined(
                clock.snapshot_fleet(),
                replay_count=parts.ledger.replay_count(clock.count),
                drift_due_row=parts.drift.due_row,
                stamps_ns=parts.ingest.stamps,
            ),
            parts.ledger.forgotten_before,
            *(snapshot.DriftState.none(parts.drift.interval_ns) if drift is None else drift.snapshot()),
            *parts.drift.assets.snapshot_partition(),
            parts.episodes.snapshot_drift(),
            [] if births is None else [snapshot.SequenceState(*each) for each in births.sequences],
            parts.controls.position,
            parts.controls.of_topic,
            parts.controls.snapshot(),
        )

    def _asset(self, asset: str, position: int) -> snapshot.AssetState:
        parts = self._parts
        slot, ingest = parts.assets.slots[asset], parts.ingest
        baseline = parts.judge.baseline(slot)
        alarm = parts.episodes.snapshot(asset)
        silent, silent_sensors, stuck = parts.silence.snapshot(asset, slot)
        parts.ledger.note_open_episode(asset, alarm is not None or bool(stuck))
        return snapshot.AssetState(
            self._layout,
            position,
            ingest.grid.snapshot(slot, asset),
            *parts.windows.snapshot(slot),
            snapshot.pack_floats(baseline) if baseline is not None else None,
            *parts.thresholds.snapshot(slot),
            alarm,
            silent,
            silent_sensors,
            stuck,
            snapshot.ClockState.joined(ingest.guard.snapshot(slot), ingest.clock.snapshot(slot)),
            *parts.derivation.snapshot(slot),
            parts.holding.snapshot(slot),
            *ingest.unread.snapshot(slot),
            parts.episodes.dismissals.snapshot(asset),
            parts.episodes.acceptances.snapshot(asset),
            parts.episodes.maintenance.snapshot(asset),
            parts.drift.assets.snapshot(slot),
            parts.trend.snapshot(slot),
        )

    # -------------------------------------------------------------- taking over
    def restoring(self, saved: Sequence[StateRecord], *, exact: bool) -> Iterator[list[Output] | None]:
        """Take over a predecessor's snapshots; before the first feed, and with the model in force.

        Yields every few milliseconds: None, or the records of drift intervals that nobody can continue.
        ``Ledger.restored`` says whether the snapshots were of use; if they were not, their records are
        deleted with the next commit.

        Args:
            saved: the records of this partition, perhaps among others.
            exact: True: their offset must equal the committed one. False (delivery at least once, where they
                are written before the position): it may be later, and what lies between was published.
        """
        parts, ledger = self._parts, self._parts.ledger
        records: dict[bytes, bytes] = {}
        for found in snapshot.records_of(saved, parts.partition.topic):
            if found is None:
                yield None
            elif found[1] is not None:
                records.pop(found[0], None)
                records[found[0]] = found[1]  # in the order of the last writes
        partition = self._usable_partition(records.pop(b"", None))
        if partition is None or (
            partition.offset != ledger.publish_from if exact else partition.offset < ledger.publish_from
        ):
            ledger.discard(name.decode() for name in records if snapshot.is_utf8(name))
            return
        yield self._restore_partition(partition)
        births = [name for name in records if name.startswith(snapshot.SEPARATOR.encode())]
        for i, name in enumerate(births, 1):
            self._restore_birth(name, records.pop(name))
            if i % RESTORED_AT_ONCE == 0:
                yield None
        surplus = len(records) - parts.assets.most
        for i, (name, value) in enumerate(records.items(), 1):
            self._restore_asset(name, value, partition, surplus=i <= surplus)
            if i % RESTORED_AT_ONCE == 0:
                yield None

    def replayed(self) -> list[Output]:
        """The position is reached: what comes from here on is new; what ends with a model that is not in force any more."""
        parts = self._parts
        while parts.model_changes.ahead:
            self.repeat_model_change()
        outdated: list[Output] = []
        if parts.model_changes.other_model:
            parts.ledger.mark(parts.needing_snapshot())
            outdated = parts.outdate_drifts()
        if parts.ledger.restored:
            parts.ingest.clock.count = self._clock_count  # also where retention took some of the records
        parts.ledger.replayed()
        return outdated

    def repeat_model_change(self) -> None:
        """Repeat the next model change of a replay; a snapshot written after the change includes it."""
        number = self._parts.model_changes.pass_next()
        self._parts.judge.keep_begun(self._parts.windows.units >= number)

    def _usable_partition(self, value: bytes | None) -> snapshot.PartitionState | None:
        """The partition's own record, if it can be used."""
        parts = self._parts
        found = None if value is None else snapshot.decode_partition(value, self._layout)
        if found is None:
            return None  # there is none, or it is of another layout
        fault = found if isinstance(found, str) else partition_fault(found, parts.spec)
        if isinstance(found, snapshot.PartitionState) and fault is None:
            mine, last = parts.model_changes.last, snapshot.ModelChange.restored(found.model_changes[-1])
            if last.model != mine.model:
                return found
            drift = parts.drift.drift
            if last.scaling.same_as(mine.scaling) and (
                found.reference is None
                or drift is None
                or len(snapshot.unpack_floats(found.reference.latent_mean))
                == len(drift.reference.latent_mean)
            ):
                return found
            fault = f"it is not of the model {mine.model} that is in force"
        self.unusable.append(f"of the partition: {fault}")
        return None

    def _restore_partition(self, partition: snapshot.PartitionState) -> list[Output]:
        """Take over what is the partition's; the drift records that nobody can continue."""
        parts, ledger = self._parts, self._parts.ledger
        ledger.restore_position(partition.offset, partition.forgotten_before)
        parts.ingest.clock.restore_fleet(partition.clock.at_replay)
        parts.ingest.stamps = tuple(partition.clock.stamps_ns)
        self._clock_count = partition.clock.count
        if parts.ingest.births is not None:
            parts.ingest.births.restore_sequences(
                [(each.edge, each.number, each.offset) for each in partition.sequences]
            )
        parts.controls.restore(partition.controlled, partition.controlled_of, partition.orders)
        if partition.drift_episode is not None:
            parts.episodes.restore_drift(partition.drift_episode)
        parts.model_changes.restore(
            [snapshot.ModelChange.restored(change) for change in partition.model_changes], partition.offset
        )
        outputs: list[Output] = []
        same_interval = partition.drift_interval_ns == parts.drift.interval_ns
        if parts.model_changes.other_model or not same_interval:
            outgoing = Drift.outgoing(partition, parts.spec.name, parts.partition)
            outputs += (
                []
                if outgoing is None
                else outgoing.end_intervals(
                    ALL_TIME, fleet_left(partition.drifting_state, partition.drift_interval_ns)
                )
            )
        elif parts.drift.drift is not None:
            parts.drift.drift.restore(partition.drift_state)
            parts.drift.assets.restore_partition(partition.drifting_state)
        if same_interval:
            parts.drift.due_row = partition.clock.drift_due_row
        elif parts.ingest.clock.row != NO_CLOCK:
            parts.drift.next_horizon(parts.ingest.clock.row)
        return outputs

    def _restore_birth(self, name: bytes, value: bytes) -> None:
        """Restore one certificate, or note why it cannot be: then the metrics are unknown until the next birth."""
        births = self._parts.ingest.births
        if not snapshot.is_utf8(name):
            self.unusable.append(f"of a birth {name[:60]!r}: the key is not UTF-8")
            return
        known = None if births is None else snapshot.decode_birth(value, self._layout)
        fault = known if isinstance(known, str) else None
        if isinstance(known, snapshot.BirthState) and births is not None:
            fault = birth_fault(known, name.decode())
            if fault is None:
                metrics = None if known.metrics is None else tuple(known.metrics)
                try:
                    births.restore(known.node, Certificate.of(known.offset, metrics, known.session))
                    return
                except RejectedError as error:
                    fault = error.detail
        if fault is not None:
            self.unusable.append(f"of a birth {name[:60]!r}: {fault}")
        self._unneeded_births.append(name.decode())

    def _restore_asset(
        self, name: bytes, value: bytes, partition: snapshot.PartitionState, *, surplus: bool
    ) -> None:
        """Restore one asset, or note why it cannot be; then it begins anew, and no other asset is affected."""
        parts = self._parts
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
            fault = f"there are more than limits.max_assets, {parts.assets.most}"
        if isinstance(known, snapshot.AssetState) and fault is None:
            fault = asset_fault(known, parts.spec, partition, parts.windows.scalings)
            in_force = known.units == parts.model_changes.last.number
            if fault is None and in_force and known.baseline is not None:
                needed = 8 * parts.judge.baseline_states
                if len(known.baseline) != needed:
                    fault = f"baseline has {len(known.baseline)} bytes, where the model needs {needed}"
            if fault is None:
                self._take_asset(asset, known)
                return
        self.unusable.append(f"of {asset[:60]!r}: {fault}")
        if len(name) <= ASSET_BYTES:
            parts.ledger.discard([asset])  # the next commit deletes its record, or writes it anew

    def _take_asset(self, asset: str, known: snapshot.AssetState) -> None:
        """Set up one asset as it was at the offset that its record covers."""
        parts = self._parts
        slot, ingest = parts.assets.add(asset), parts.ingest
        parts.windows.restore(slot, known.window_state)
        if known.units == parts.model_changes.last.number:
            if known.baseline is not None:
                parts.judge.restore_baseline(slot, snapshot.unpack_floats(known.baseline))
            parts.thresholds.restore(slot, known.threshold)
            if known.drift is not None:
                parts.drift.assets.restore(slot, known.drift)
        ingest.grid.restore(slot, asset, known.grid)
        parts.ledger.note_open_episode(asset, known.alarm is not None or bool(known.stuck))
        if known.alarm is not None:
            parts.episodes.restore(asset, known.alarm)
        if known.memory is not None:
            parts.episodes.dismissals.restore(asset, known.memory)
        parts.episodes.acceptances.restore(asset, known.accepted)
        if known.units != parts.model_changes.last.number:
            parts.episodes.acceptances.begin(asset)
        parts.episodes.maintenance.restore(asset, known.suppressed)
        parts.silence.restore(asset, slot, known.asset_silent, known.silent_sensors, known.stuck)
        parts.derivation.restore(slot, known.counters)
        parts.holding.restore(slot, known.held)
        ingest.unread.restore(slot, known.unread)
        parts.trend.restore(slot, known.days)
        ingest.guard.restore(slot, asset, known.clock.event_time)
        ingest.clock.restore(slot, known.clock.fleet)
        parts.ledger.restore(asset, slot, known.offset, known.units)
