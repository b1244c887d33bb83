"""One stream in this process: its configuration (``StreamPlan``) and everything that runs for it (``StreamRun``).

A ``StreamRun`` holds one pipeline per assigned partition, all judging with one model, and the trainer, history
and fire drill of the stream. It decides nothing about when: the loop feeds the pipelines, ``lifecycle``
trains and exchanges models. A model is exchanged in all partitions at once, or, where state is saved, in each
partition when it is next committable, so that no row is scored twice by different models.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np

from daemon.adapters.registry import DecisionRecord
from daemon.budget import Budget
from daemon.config import Settings, StreamSection
from daemon.detector import Detector
from daemon.domain import (
    DAY_NS,
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    Assigned,
    DriftRecord,
    InputPartition,
    ModelSettings,
    Output,
    StreamSpec,
    to_ns,
)
from daemon.maintenance import MaintenanceWindow
from daemon.model.bundle import Bundle
from daemon.runtime.compatibility import check_compatible, event_time_in, learned_until_ns
from daemon.runtime.fallback import Fallback
from daemon.runtime.fire_drill import FireDrill
from daemon.runtime.history import History, Past, RecordHistory, ReleasedHistory
from daemon.runtime.schedule import TrainingSchedule
from daemon.runtime.shadow import InShadow, ShadowDecision, decision_on
from daemon.runtime.trainer import Trainer, TrainingJob, TrainingResult
from daemon.stream.audit import Audited, SensorAudit, Tallies
from daemon.stream.decode import KnownBirth
from daemon.stream.decoding import Decoder
from daemon.stream.dismissal import Standing
from daemon.stream.parts import PipelineSettings
from daemon.stream.pipeline import Pipeline
from daemon.stream.steps import Step
from daemon.trigger import UNKNOWN


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """One stream's configuration, as values of the domain."""

    spec: StreamSpec
    model: ModelSettings = field(default_factory=ModelSettings)
    policy: AlarmPolicy = field(default_factory=AlarmPolicy)
    budget: Budget = field(default_factory=Budget)
    deviation_budget: Budget | None = field(default_factory=Budget)  # None: deviations are not looked for
    online: bool = False  # whether thresholds are corrected to keep the budget, see ``stream.thresholds``
    learn_rows: int = 5000
    retrain_every: timedelta | None = timedelta(hours=24)
    retrain_rows: int = 50_000
    shadow: timedelta | None = None  # of a candidate, before it takes over
    drift_interval: timedelta = timedelta(hours=1)
    maintenance: Sequence[MaintenanceWindow] = ()
    max_record_bytes: int = 1 << 20
    max_asset_bytes: int = 256
    max_assets: int = 100_000
    drill_share: float = 0.0  # of one CPU
    audit: int = 0  # one in so many known readings is hidden from the model and compared; 0: none

    @staticmethod
    def of(settings: Settings, stream: StreamSection) -> StreamPlan:
        """The plan of one of the configured streams."""
        spec = stream.spec(settings.schema_registry.address())
        return StreamPlan(
            spec,
            model=settings.model.settings(),
            policy=settings.alerts.policy(spec, settings.retrain.accept_regimes_after),
            budget=settings.calibration.budget,
            deviation_budget=settings.alerts.deviation_budget,
            online=settings.calibration.online,
            learn_rows=settings.model.learn_rows,
            retrain_every=settings.retrain.every,
            retrain_rows=settings.retrain.rows,
            shadow=settings.promotion.shadow,
            drift_interval=settings.drift_interval(stream),
            maintenance=tuple(section.window() for section in settings.alerts.maintenance),
            max_record_bytes=settings.limits.max_record_bytes,
            max_asset_bytes=settings.limits.max_asset_bytes,
            max_assets=settings.limits.max_assets,
            drill_share=settings.drill.share,
            audit=settings.audit.one_in or 0,
        )

    @property
    def drift_rows(self) -> int:
        """Rows of one asset in a drift interval."""
        return max(to_ns(self.drift_interval) // self.spec.period_ns, 1)


class StreamRun:
    """One stream in this process: its model, its partitions, its trainer.

    Args:
        plan: its configuration.
        scores: whether the score of every row is an output.
        trace: see ``PipelineSettings``.
        history: what its trainings learn from; None: the rows that are released here.
        drills: whether a fire drill runs beside it, if the plan gives it a share of the CPU.
        clock: monotonic seconds; when a failed training is repeated.
    """

    def __init__(
        self,
        plan: StreamPlan,
        *,
        scores: bool = False,
        trace: bool = False,
        history: History | None = None,
        drills: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = plan
        self.spec = plan.spec
        self.pipelines: dict[InputPartition, Pipeline] = {}
        self.history = history or ReleasedHistory(
            plan.spec, max(plan.retrain_rows, plan.learn_rows), plan.maintenance
        )
        self.trainer = Trainer()
        self.fallback = Fallback()
        self.drill: FireDrill | None = None
        if drills and plan.drill_share > 0.0:
            self.drill = FireDrill(plan.spec, plan.policy, plan.drill_share, seed=plan.model.seed)
        self.detector: Detector | None = None
        self.calibrated_assets = 1  # of the stream, when the newest model here was trained
        self.bundle: bytes | None = None
        self.golden: frozenset[str] = frozenset()  # fingerprints of the incidents that it keeps
        self.schedule = TrainingSchedule(plan, self.history, clock)
        self.decoder = Decoder(plan.spec, plan.max_record_bytes, plan.max_asset_bytes, 2 * plan.max_assets)
        self.trigger = UNKNOWN  # of the newest training
        self.shadow: InShadow | None = None  # the candidate that judges beside the model
        self.outcomes: list[TrainingResult] = []
        self.versions: list[str] = []
        self.scored = 0  # windows that were judged, without those of replayed records
        self.episodes = 0  # anomaly episodes that began, also within an alert that was open
        self.learned_until_ns: int | None = None  # event time of the newest row that the model was trained on
        self.tallies: Tallies | None = None  # audits of the model in use; None: there are none yet
        self.measured: Callable[[int], AbstractContextManager[object]] = nullcontext  # see ``Pipeline``
        self._scores = scores
        self._trace = trace

    def open(self, assigned: Assigned) -> Pipeline:
        """Start a partition's pipeline; it judges with the stream's model from its first row.

        It decodes with ``decoder`` (``stream.decoding.Decoder``), which all partitions of the stream share.
        The caller restores the state that a predecessor saved.
        """
        plan = self.plan
        settings = PipelineSettings(
            self.spec,
            plan.policy,
            to_ns(plan.drift_interval),
            maintenance=plan.maintenance,
            scores=self._scores,
            max_assets=plan.max_assets,
            trace=self._trace,
            audit=plan.audit,
            online=plan.budget if plan.online else None,
        )
        pipeline = Pipeline(
            settings,
            assigned.partition,
            self.decoder,
            publish_from=assigned.publish_from,
            measured=self.measured,
        )
        pipeline.offset = assigned.replay_from
        pipeline.training_cut = self.plan.learn_rows if self.detector is None else None
        if self.detector is not None:
            pipeline.use(self.detector)
        if self.shadow is not None:
            pipeline.parts.use_shadow(self.shadow.detector)
        self.pipelines[assigned.partition] = pipeline
        return pipeline

    @property
    def version(self) -> str:
        """The model in use; empty: none."""
        return "" if self.detector is None else self.detector.version

    @property
    def event_time_ns(self) -> int:
        """The stream's event time in this process: that of its furthest partition; -1 before any reading."""
        return max((p.event_time_ns for p in self.pipelines.values()), default=-1)

    def newest_ns(self, otherwise: int | None) -> int:
        """That event time, as measured where no partition here has readings; or ``otherwise``, or 0."""
        known = max(self.event_time_ns, self.history.event_time_ns)
        return known if known >= 0 else otherwise or 0

    @property
    def observed_rows(self) -> int:
        """Rows with at least one value, in all partitions here."""
        return sum(p.observed_rows for p in self.pipelines.values())

    @property
    def budgeted(self) -> float:
        """Anomaly episodes that the budget allows for the time judged here so far."""
        days = self.scored * self.spec.hop * self.spec.period_ns / DAY_NS
        return self.plan.budget.allowed(days, self.calibrated_assets)

    @property
    def budget_ratio(self) -> float:
        """Episodes opened over those budgeted; NaN before the budget allows one."""
        return self.episodes / self.budgeted if self.budgeted >= 1.0 else math.nan

    @property
    def leads(self) -> bool:
        """Whether this replica trains: it reads partition 0 of the stream's first topic."""
        first = self.spec.topics[0] if self.spec.topics else None
        return any(
            p.number == 0 and p.topic in (first, p.topic if first is None else first) for p in self.pipelines
        )

    def use(self, loaded: Bundle, bundle: bytes, *, committable: bool) -> dict[InputPartition, list[Output]]:
        """Put a bundle in use, in every partition.

        Args:
            loaded, bundle: the same, parsed and as bytes.
            committable: in each partition only when it is next committable, rather than at once.

        Its thresholds are those of the plan's budgets: found again where it was trained for others.

        Returns:
            Per partition the outputs of the model before, where the new one is in use at once.

        Raises:
            BundleError: it is not compatible with this stream, or was given up here.
        """
        check_compatible(loaded, self.spec)
        detector = loaded.detector(self.plan.budget, self.plan.deviation_budget)
        self.fallback.check(detector.version)
        outgoing = self.bundle if self.detector is not None else None
        if self.detector is None or self.detector.version != detector.version:
            self.fallback.model_used(outgoing)
            self.end_shadow()
        self.detector, self.bundle = detector, bundle
        self.learned_until_ns = learned_until_ns(loaded)
        self.calibrated_assets = loaded.calibration.assets
        self.golden = frozenset(incident.fingerprint for incident in loaded.golden)
        self.versions.append(detector.version)
        self.schedule.model_used(event_time_in(loaded.facts, "trained_until"))
        return self._hand_over(committable)

    def reconfigure(self, plan: StreamPlan) -> None:
        """Go on with another configuration of the same stream: in each partition when it is next committable.

        The spec of both, and what a pipeline is made with beside its alarms, must be the same.
        """
        before = self.plan.budget, self.plan.deviation_budget
        self.plan = self.schedule.plan = plan
        self.history.plan_stops(plan.maintenance)
        if self.drill is not None:
            self.drill.policy = plan.policy
        for pipeline in self.pipelines.values():
            pipeline.use_policy(plan.policy, plan.maintenance, plan.budget if plan.online else None)
        if self.bundle is not None and (plan.budget, plan.deviation_budget) != before:
            self.use(Bundle.from_bytes(self.bundle), self.bundle, committable=True)
            if self.shadow is not None:
                self.begin_shadow(
                    self.shadow.record, self.shadow.bundle, Bundle.from_bytes(self.shadow.bundle)
                )

    # -------------------------------------------------------------- a candidate in shadow
    def begin_shadow(self, record: DecisionRecord, bundle: bytes, loaded: Bundle) -> None:
        """Let a candidate judge beside the model in force; one that does so goes on, with thresholds of the present budgets.

        Args:
            record: that says so.
            bundle, loaded: the same, as bytes and parsed.

        Raises:
            BundleError: it is not compatible with this stream, or was given up here.
        """
        check_compatible(loaded, self.spec)
        detector, before = loaded.detector(self.plan.budget, self.plan.deviation_budget), self.shadow
        self.fallback.check(detector.version)
        if before is not None and before.record == record:
            self.shadow = replace(before, detector=detector)
        else:
            self.shadow = InShadow.of(record, bundle, detector, loaded.calibration.assets)
        self.history.shadow = self.shadow.tally
        for pipeline in self.pipelines.values():
            pipeline.parts.use_shadow(detector)

    def end_shadow(self) -> None:
        """No candidate judges beside the model from now on."""
        if self.shadow is not None:
            self.shadow = self.history.shadow = None
            for pipeline in self.pipelines.values():
                pipeline.parts.use_shadow(None)

    def shadow_decision(self) -> ShadowDecision | None:
        """What is to be decided on the candidate in shadow; None: nothing yet."""
        if self.shadow is None:
            return None
        plan = self.plan
        budgets = [plan.budget] + ([] if plan.deviation_budget is None else [plan.deviation_budget])
        return decision_on(self.shadow, self.spec, to_ns(plan.drift_interval), budgets)

    def give_up(self, *, committable: bool) -> tuple[str, bytes | None, dict[InputPartition, list[Output]]]:
        """Stop using the model, and judge with none until the next call of ``use``.

        Returns:
            The reason, the bundle to fall back to, and per partition the outputs of the model given up.
        """
        assert self.detector is not None
        reason, before = self.fallback.give_up(self.detector.version)
        self.detector = self.bundle = None
        self.end_shadow()
        return reason, before, self._hand_over(committable)

    def _hand_over(self, committable: bool) -> dict[InputPartition, list[Output]]:
        """Let every partition judge with the current detector."""
        if self.drill is not None:
            self.drill.use(self.detector)
        self.tallies = None
        outputs = {}
        for partition, pipeline in self.pipelines.items():
            if committable:
                pipeline.use_when_committable(self.detector)
            else:
                outputs[partition] = pipeline.use(self.detector)
            pipeline.training_cut = None
        return outputs

    def next_job(self) -> TrainingJob | None:
        """The training that is due now; None if none is, one is running, or another replica trains.

        While a candidate is in shadow, only a request makes one due.
        """
        if self.trainer.busy or not self.leads or self.schedule.waiting:
            return None
        if self.shadow is not None and not self.schedule.requested:
            return None
        plan, until_ns = self.plan, None
        past: Past | None
        if self.detector is None:
            past = self.schedule.first_history(self.observed_rows)
            if past is None:
                return None
            trigger = self.schedule.first_trigger()
        else:
            due = self.schedule.retraining_due(self.event_time_ns, self.detector.version)
            if due is None:
                return None
            until_ns, trigger = due.until_ns, due.trigger
            past = self.history.newest(until_ns)
        if isinstance(past, RecordHistory):
            past = past.knowing(self._births(), self.golden)
        return TrainingJob(
            self.spec,
            plan.model,
            plan.policy,
            plan.budget,
            plan.drift_rows,
            past,
            self.bundle,
            until_ns=until_ns,
            deviation_budget=plan.deviation_budget,
            trigger=trigger,
        )

    def _births(self) -> dict[InputPartition, list[KnownBirth]]:
        """What the partitions here remember: a device may have been born long before the rows to be learned."""
        return {
            partition: known.certificates
            for partition, pipeline in self.pipelines.items()
            if (known := pipeline.births) is not None
        }

    @property
    def needs_history_extent(self) -> bool:
        """Whether the history must be measured, because this process's partitions do not show what is due."""
        if not (self.history.lasting and self.leads):
            return False
        retrains = self.plan.retrain_every is not None or self.schedule.requested
        return self.detector is None or (retrains and self.event_time_ns < 0)

    @property
    def needs_drift(self) -> bool:
        """Whether the drift of all partitions must be measured, because it may make a training due."""
        leads = self.history.lasting and self.leads
        return leads and self.detector is not None and self.plan.retrain_every is not None

    @property
    def needs_shadow(self) -> bool:
        """Whether what is known of a candidate in shadow must be measured."""
        return self.history.lasting and self.shadow is not None

    def progress(self) -> tuple[float, str]:
        """Of the training that runs: the share done, and what is being done."""
        return self.trainer.share, self.trainer.doing

    def note_shadow(self, result: TrainingResult, begins: bool, until: str) -> None:
        """Of a candidate that goes into shadow, or was in it, the outcome is what has become of it by now."""
        now = replace(result, bundle=None)
        if begins:
            now = replace(now, promoted=False, reason=f"{result.reason}; in shadow until {until}")
        self.outcomes = [one for one in self.outcomes if one.version != result.version] + [now]

    def training_failed(self) -> None:
        """A training gave no model: a first one is repeated with half as many rows more."""
        if self.detector is None:
            self.schedule.take_more_rows()

    def repeat_training(self) -> None:
        """A training's history could not be read: the same training is due again after a while."""
        self.schedule.repeat_later(retraining=self.detector is not None)

    # -------------------------------------------------------------- what people said
    def planned_stops(self) -> Sequence[MaintenanceWindow]:
        """Of the configuration in force."""
        return self.plan.maintenance

    def knows(self, asset: str) -> bool:
        """Whether an asset is of a partition that is read here."""
        return any(asset in pipeline.parts.assets.slots for pipeline in self.pipelines.values())

    def standing(self, event: AlertEvent) -> Standing | None:
        """What the last verdict on an alert has done; None: none was taken in here."""
        pipeline = None if event.partition is None else self.pipelines.get(event.partition)
        if pipeline is None:
            return None
        return pipeline.episodes.dismissals.standing(event.asset, event.fingerprint)

    # -------------------------------------------------------------- what was judged
    def judged(self, step: Step) -> None:
        """Add a chunk to the history, and its episodes to the count against the budget."""
        events = [output for output in step.outputs if isinstance(output, AlertEvent)]
        self.episodes += sum(AlertKind.ANOMALY in event.began for event in events)
        self.history.alerted(events)
        self.history.drifted(output for output in step.outputs if isinstance(output, DriftRecord))
        if step.block is not None:
            self.history.add(step.block)
            if step.scored and not step.silent:
                self.scored += step.scored

    def audited(self, audited: Audited) -> tuple[list[SensorAudit], dict[str, int]] | None:
        """Add comparisons of hidden readings to the model's tallies.

        Returns:
            The newest figures, and how many readings were hidden per sensor; None if they are of a model
            that is no longer in use.
        """
        if self.detector is None or audited.model != self.detector.version:
            return None
        tallies = self.tallies = self.tallies or Tallies(self.spec.sensors, self.detector.scaling)
        found = [tallies.of(c) for c in tallies.add(audited)]
        counts = np.bincount(audited.sensor, minlength=len(tallies.sensors)).tolist()
        return found, dict(zip(tallies.sensors, counts, strict=True))
