"""The parts of one input partition's pipeline, each the owner of its own state."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from daemon.alarm import Alarm, State
from daemon.assembly import as_received
from daemon.budget import Budget
from daemon.control import Feedback
from daemon.detector import Detector, Scaling
from daemon.domain import AlarmPolicy, InputPartition, Output, StreamSpec
from daemon.maintenance import MaintenanceWindow
from daemon.stream.alerts import Episodes
from daemon.stream.asking import Measured
from daemon.stream.assets import AssetTable
from daemon.stream.chunker import Chunker
from daemon.stream.controls import Controls
from daemon.stream.derivation import Derivation
from daemon.stream.dismissal import Effect, FeedbackResult
from daemon.stream.drift import DriftMonitor
from daemon.stream.holding import Holding
from daemon.stream.incident import ASSET_DRIFT, STREAM_DRIFT
from daemon.stream.ingest import Decode, Ingest
from daemon.stream.judge import Judge
from daemon.stream.ledger import Ledger
from daemon.stream.model_changes import ModelChanges
from daemon.stream.shadow import Shadow
from daemon.stream.silence import SilenceMonitor
from daemon.stream.steps import JudgingState
from daemon.stream.thresholds import Thresholds
from daemon.stream.trend import TrendMonitor
from daemon.stream.windowing import WindowBuffer


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """What the pipelines of a stream have in common."""

    spec: StreamSpec
    policy: AlarmPolicy
    drift_interval_ns: int
    maintenance: Sequence[MaintenanceWindow] = ()  # of the configuration
    scores: bool = False  # a ScoredRow is emitted for every scored row
    max_assets: int = 100_000  # above this, the assets longest without a row are evicted, and counted
    trace: bool = False  # the disposition of each record is kept
    audit: int = 0  # one in so many known readings is hidden from the model, see ``Audit``; 0: none
    online: Budget | None = (
        None  # the budget that thresholds are corrected to keep, see ``Thresholds``; None: are not
    )


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The owners of one partition's state, in the order in which a record meets them."""

    spec: StreamSpec
    partition: InputPartition
    assets: AssetTable
    ledger: Ledger
    ingest: Ingest
    chunker: Chunker
    derivation: Derivation
    windows: WindowBuffer
    holding: Holding
    model_changes: ModelChanges
    episodes: Episodes
    thresholds: Thresholds
    judge: Judge
    silence: SilenceMonitor
    drift: DriftMonitor
    trend: TrendMonitor
    controls: Controls
    shadow: Shadow

    @staticmethod
    def of(
        settings: PipelineSettings,
        partition: InputPartition,
        decoder: Decode,
        *,
        publish_from: int = 0,
        measured: Measured = nullcontext,
    ) -> Parts:
        """New parts, of a partition that nothing is known of yet; arguments as of ``Pipeline``."""
        spec = settings.spec
        assets = AssetTable(settings.max_assets)
        ledger = Ledger(spec, assets, publish_from)
        received = as_received(spec)
        ingest = Ingest(received, partition, decoder, assets, ledger, trace=settings.trace)
        derivation, holding = Derivation(spec), Holding(spec)
        windows = WindowBuffer(spec.window, len(spec.sensors))
        for owner in (derivation, windows, holding, ingest.unread):
            assets.register(owner)
        episodes = Episodes(spec, partition, settings.policy, settings.maintenance)
        thresholds = Thresholds(spec, assets, settings.policy.hysteresis, settings.online)
        return Parts(
            spec,
            partition,
            assets,
            ledger,
            ingest,
            Chunker(received, assets),
            derivation,
            windows,
            holding,
            ModelChanges(windows, len(spec.sensors)),
            episodes,
            thresholds,
            Judge(spec, assets, episodes, thresholds, measured, scores=settings.scores),
            SilenceMonitor(spec, assets, ledger, ingest, episodes),
            DriftMonitor(spec, partition, settings.drift_interval_ns, episodes, assets),
            TrendMonitor(spec, assets, episodes),
            Controls(spec, assets, episodes.maintenance),
            Shadow(spec, partition, assets, episodes, settings.online),
        )

    def judging_state(self, asset: str, row: int) -> JudgingState | None:
        """A copy of an asset's state after ``row``, its newest of the last chunk.

        None without a full window or a baseline, or while an episode is not over.
        """
        slot, windows = self.assets.slots.get(asset), self.windows
        baseline = None if slot is None else self.judge.baseline(slot)
        if slot is None or baseline is None or windows.filled[slot] < self.spec.window:
            return None
        known = self.episodes.assets.get(asset)
        alarm = Alarm() if known is None else known.alarm
        if alarm.state in (State.FIRING, State.RECOVERING) or self.silence.stuck(asset):
            return None
        return JudgingState(
            windows.raw_rows(slot),
            baseline,
            (alarm.state, alarm.recent, alarm.resting),
            row - windows.still_since[slot] + 1,
            row - np.maximum(windows.last_row[slot], int(windows.fresh_row[slot])),
        )

    # -------------------------------------------------------------- the model
    def use(self, detector: Detector | None, position: int) -> list[Output]:
        """Judge with this detector from here on; what ends with the outgoing model: drift intervals, and drifts of assets."""
        if detector is not None and self.judge.detector is not None and detector.version == self.judge.model:
            # The same model with the thresholds of another budget: nothing of what was judged is void.
            self.ledger.mark(self.names())
            self.judge.exchange(detector)
            self.thresholds.exchange(detector)
            return []
        self.ledger.mark(self.needing_snapshot())
        self.judge.use(detector)
        self.thresholds.use(detector)
        self.silence.use(None if detector is None else detector.silence)
        outgoing = self.drift.use(detector)
        scaling = Scaling.raw_units(len(self.spec.sensors)) if detector is None else detector.scaling
        self.model_changes.add(max(position, 0), self.judge.model, scaling)
        self.forget_model_changes(position)
        return outgoing + self.outdate_drifts()

    def outdate_drifts(self) -> list[Output]:
        """Close the drifts, of single assets and of the stream, that were measured by another model than that in force."""
        rows = self.windows.last_row[self.assets.occupied]
        newest = int(rows.max(initial=-1))
        closed: list[Output] = list(
            self.episodes.outdate_drift(self.spec.name, newest, self.judge.model, STREAM_DRIFT)
        )
        for name in self.episodes.drifting:
            newest = int(self.windows.last_row[self.assets.slots[name]].max(initial=-1))
            closed += self.episodes.outdate_drift(name, newest, self.judge.model, ASSET_DRIFT)
            self.ledger.mark([name])
        return closed

    def judged_assets(self) -> set[str]:
        """The assets whose state depends on judging in a way that their snapshots do not tell.

        The next owner replays what came before a model change without the earlier model: it cannot find
        out which episodes that opened or closed.
        """
        silence = self.silence.with_stuck_sensors | self.silence.with_excused_sensors
        suppressed = self.episodes.maintenance.assets | self.episodes.dismissals.with_verdicts
        suppressed |= self.episodes.acceptances.assets
        judged = self.ledger.with_open_episode | self.episodes.assets.keys() | suppressed | silence
        return judged & self.assets.slots.keys()

    def needing_snapshot(self) -> set[str]:
        """Those of them whose records of state are not of now."""
        return self.stale(self.judged_assets())

    def stale(self, names: set[str]) -> set[str]:
        """Those of the assets whose newest record of state is older than their newest reading."""
        return set(self.assets.names_of(self.ledger.stale(self.assets.slots_of(list(names)))))

    def names(self) -> set[str]:
        """All assets."""
        return set(self.assets.slots)

    def use_policy(
        self, policy: AlarmPolicy, maintenance: Sequence[MaintenanceWindow], online: Budget | None
    ) -> None:
        """The settings of the alarms, the planned stops of the configuration and the budget of the online correction."""
        self.ledger.mark(self.names() if self.thresholds.corrected else self.stale(self.names()))
        self.episodes.use_policy(policy, maintenance)
        self.thresholds.configure(policy.hysteresis, online, self.judge.detector)
        self.shadow.use_policy(policy, online)

    def use_shadow(self, detector: Detector | None) -> None:
        """Let this candidate judge beside the model in force from the next row on; None: nobody does."""
        self.shadow.use(detector)
        self.drift.follow_shadow(self.shadow.model)

    # -------------------------------------------------------------- control messages
    def take_control(self) -> list[Output]:
        """Take the control message that is next, and mark the assets that it changes or may have changed."""
        self.ledger.mark(self.stale(self.controls.concerned()))
        control = self.controls.take(self.ingest.clock.row * self.spec.period_ns)
        if not isinstance(control, Feedback):
            return []
        result = self.take_feedback(control)
        self.ledger.mark(result.changed)
        return result.outputs

    def forget_model_changes(self, position: int) -> None:
        """Drop the model changes that nothing needs any more."""
        if not self.model_changes.droppable:
            return
        occupied = self.assets.occupied
        units = int(self.windows.units[occupied].min(initial=self.model_changes.last.number))
        units = min(units, self.ledger.oldest_units(units))
        self.model_changes.forget(units, self.ledger.replay_from(position), any_asset=bool(occupied.any()))

    # -------------------------------------------------------------- verdicts of people
    def take_feedback(self, feedback: Feedback) -> FeedbackResult:
        """Take in a verdict on an episode, at a committable position: all rows so far have been judged.

        The caller publishes the outputs and marks the changed assets, so that what a verdict does to an asset goes with
        the same commit.
        """
        dismissals = self.episodes.dismissals
        asset = self.episodes.asset_of(feedback.fingerprint)
        slot = None if asset is None else self.assets.slots.get(asset)
        if asset is None or slot is None:
            dismissals.effects[Effect.UNKNOWN] += 1
            return FeedbackResult([], set(), Effect.UNKNOWN)
        newest = int(self.windows.last_row[slot].max(initial=-1))
        engaged = self.episodes.is_engaged(asset)
        taken, events = self.episodes.take(asset, feedback, newest, self.judge.model)
        if engaged and not self.episodes.is_engaged(asset):
            self.thresholds.closed(slot)
        if taken.rejudges:
            self.judge.begin_anew(slot)
            self.shadow.begin_anew(slot)
        self.shadow.learn_verdicts(asset)
        dismissals.effects[taken.effect] += 1
        return FeedbackResult(list(events), {asset}, taken.effect)

    # -------------------------------------------------------------- eviction
    def evict(self, offset: int) -> list[Output]:
        """Make room for the asset of the record at ``offset``; the outputs that close open episodes.

        The 1 % of the assets that has been without a reading longest is forgotten.
        """
        few = max(len(self.assets) // 100, 1)
        closed: list[Output] = []
        for name in self.ingest.longest_unheard(few):
            closed += self.forget(name, offset, refuse=not self.ledger.replaying)
        self.assets.evicted += few
        return closed

    def forget(self, name: str, offset: int, *, refuse: bool) -> list[Output]:
        """Drop all that is known of an asset; the outputs that close its open episodes.

        Args:
            name: the asset.
            offset: of the record that decided it.
            refuse: whether the asset's held readings become dead letters.
        """
        slot = self.assets.slots[name]
        closed: list[Output] = list(
            self.episodes.dismiss(name, int(self.ingest.grid.newest[slot]), self.judge.model)
        )
        if refuse:
            self.ingest.refuse_held(slot, offset)
        self.silence.forget(name)
        self.shadow.forget(name)
        self.ledger.forget(name)
        self.assets.remove(name)
        return closed
