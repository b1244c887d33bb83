"""What the process counts and measures: one class per subject, over the families of ``families``.

``Metrics`` owns the subjects and renders them for /metrics: the consumer (records, partitions, commits,
latency), the readings of a stream (what became of them, scores), episodes, models, the fire drill and the
process itself. The reporter writes them, and ``admin.app`` counts refused requests; nothing here awaits or opens
anything, and a method is called once per batch or event, never once per reading.
"""

from __future__ import annotations

import math
import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from prometheus_client import (
    CollectorRegistry,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from daemon.adapters.telemetry.families import Families, Given
from daemon.adapters.telemetry.labels import (
    DEPENDENCIES,
    DRIFT_KINDS,
    NO_VERSION,
    SCORE_PARTS,
    SHADOW_EPISODES,
    HttpRefusal,
    Lifecycle,
)
from daemon.detector import DriftReference
from daemon.domain import (
    AlertEvent,
    AlertKind,
    DeadLetter,
    Disposition,
    DriftRecord,
    Dropped,
    InputPartition,
    Output,
    Phase,
    Reason,
    Severity,
)
from daemon.model.faults import FaultKind
from daemon.stream.accounts import Counts
from daemon.stream.audit import Imputable, SensorAudit
from daemon.stream.dismissal import Effect
from daemon.stream.drift import divergence

LAG_EVERY_S: Final = 0.5
"""How often the lateness of the event loop is measured."""
LAGS_KEPT: Final = 120
"""A minute of them: a scraper that comes more seldom misses some, and two scrapers see the same values."""


class Metrics:
    """Every metric of the process, in a registry of its own.

    Args:
        streams: the names of the streams.
        topics: the input topics.
        dependencies: what ``process.dependency`` will be called with.
    """

    def __init__(
        self,
        streams: Sequence[str],
        topics: Sequence[str],
        *,
        dependencies: Sequence[str] = DEPENDENCIES,
    ) -> None:
        # Twice the series, and nothing here reads them. (The library leaves it untyped.)
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        given = {Given.STREAMS: streams, Given.TOPICS: topics, Given.DEPENDENCIES: dependencies}
        families = Families(self.registry, given)
        self.process = ProcessMetrics(families)
        self.consumer = ConsumerMetrics(families)
        self.readings = ReadingMetrics(families, streams)
        self.episodes = EpisodeMetrics(families, streams)
        self.models = ModelMetrics(families, streams)
        self.drill = DrillMetrics(families)

    def published(self, outputs: Iterable[Output]) -> None:
        """Count episodes, drift and dead letters among outputs that others can read now.

        Scored and filled rows are counted by ``readings``: whether they are published depends on the
        configuration.
        """
        alerts = []
        for output in outputs:
            if isinstance(output, AlertEvent):
                alerts.append(output)
            elif isinstance(output, DriftRecord):
                self.models.drifted(output)
            elif isinstance(output, DeadLetter):
                self.consumer.dead_lettered(output.rejected.reason)
        if alerts:
            self.episodes.published(alerts)

    def revoked(self, partition: InputPartition) -> None:
        """A partition went to another replica, which reports its lag, open episodes and drift from now on."""
        self.consumer.revoked(partition)
        self.episodes.revoked(partition)
        self.models.revoked(partition)

    def http_refused(self, reason: HttpRefusal) -> None:
        """The admin port refused a request or closed a connection."""
        self.process.http_refused(reason)

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self.registry)


@dataclass(slots=True)
class StreamDrift:
    """The drift of a stream over all partitions of this process, from their sums.

    The KL divergences of partitions do not add up, so their sums are added and the KL is taken once.
    """

    version: str = ""
    reference: DriftReference | None = None
    partitions: dict[InputPartition, list[DriftRecord]] = field(default_factory=dict)
    """Per partition the records of its newest interval; late rows add further records to it."""

    def add(self, record: DriftRecord) -> None:
        """Take in the record of one partition and interval."""
        known = self.partitions.get(record.partition, [])
        mine = record.model == self.version, record.end_ns
        newest = (known[0].model == self.version, known[0].end_ns) if known else (False, -1)
        if mine == newest and known[0].model == record.model:
            known.append(record)
        elif mine > newest:
            self.partitions[record.partition] = [record]

    def assets(self) -> float:
        """Assets beyond their own thresholds when the newest intervals ended; NaN while nothing is known."""
        newest = [known[-1] for known in self.partitions.values() if known]
        return sum(record.fleet.drifting for record in newest) if newest else math.nan

    def nats(self) -> tuple[float, float]:
        """Latent and residual KL of the newest interval, in total; NaN while nothing is known.

        Partitions end an interval at different moments, so one that is an interval behind still
        counts; one that has been idle for longer does not.
        """
        records = [r for known in self.partitions.values() for r in known if r.model == self.version]
        if self.reference is None or not records:
            return math.nan, math.nan
        newest = max(records, key=lambda r: r.end_ns)
        oldest_ns = newest.start_ns  # the end of the interval before
        recent = [r for r in records if r.end_ns >= oldest_ns]
        latent = np.sum([[r.latent_sum, r.latent_square_sum] for r in recent], axis=0)
        residual = np.sum([[r.residual_count, r.residual_sum, r.residual_square_sum] for r in recent], axis=0)
        kl = divergence(sum(r.windows for r in recent), latent, residual, self.reference)
        return float(kl[0].sum()), float(kl[1].sum())


class ConsumerMetrics:
    """Records, partitions and commits of the consumer, and how long records take on their way."""

    def __init__(self, families: Families) -> None:
        self._consumed = families.counter("records_consumed_total")
        self._rejected = families.counter("records_rejected_total")
        self._dead_letters = families.counter("dead_letters_total")
        self._lag_records = families.gauge("consumer_lag_records")
        self._lag_seconds = families.gauge("consumer_lag_seconds")
        self._assigned = families.gauge("consumer_assigned_partitions")
        self._rebalances = families.counter("consumer_rebalances_total")
        self._commits = families.counter("offset_commits_total")
        self._restores = families.counter("state_restores_total")
        self._schemas = families.counter("schema_requests_total")
        self._latency = families.distribution("end_to_end_latency_seconds")
        self._processing = families.histogram("processing_latency_seconds")
        self._partitions: set[InputPartition] = set()

    def consumed(self, topic: str, n: int) -> None:
        """``n`` records came from ``topic``."""
        self._consumed.labels(topic).inc(n)

    def rejected(self, topic: str, reason: Reason, n: int = 1) -> None:
        """``n`` records of ``topic`` could not be used."""
        self._rejected.labels(topic, str(reason)).inc(n)

    def dead_lettered(self, reason: Reason) -> None:
        """A record was sent to the dead-letter topic."""
        self._dead_letters.labels(str(reason)).inc()

    def lag(self, topic: str, partition: int, records: int, seconds: float = math.nan) -> None:
        """How far behind its log's end a held partition is."""
        self._lag_records.labels(topic, str(partition)).set(max(records, 0))
        self._lag_seconds.labels(topic, str(partition)).set(seconds)

    def assigned(self, partition: InputPartition) -> None:
        """A partition is assigned to this process."""
        self._partitions.add(partition)
        self._count_assigned(partition.topic)

    def _count_assigned(self, topic: str) -> None:
        self._assigned.labels(topic).set(sum(p.topic == topic for p in self._partitions))

    def revoked(self, partition: InputPartition) -> None:
        """A partition went to another replica, which reports its lag from now on."""
        self._partitions.discard(partition)
        self._count_assigned(partition.topic)
        for gauge in (self._lag_records, self._lag_seconds):
            # remove() of a series that never was warns in some releases and raises in others
            gauge.labels(partition.topic, str(partition.number))
            gauge.remove(partition.topic, str(partition.number))

    def rebalance(self, event: str, n: int = 1) -> None:
        """``event`` is one of REBALANCE_EVENTS."""
        self._rebalances.labels(event).inc(n)

    def commits(self, result: str, n: int = 1) -> None:
        """``result`` is one of COMMIT_RESULTS."""
        self._commits.labels(result).inc(n)

    def schema_asked(self, result: str) -> None:
        """A schema registry was asked for a schema; ``result`` is one of SCHEMA_RESULTS."""
        self._schemas.labels(result).inc()

    def restored(self, result: str, n: int = 1) -> None:
        """A partition's state was rebuilt, or records of it left out; ``result`` is one of RESTORE_RESULTS."""
        self._restores.labels(result).inc(n)

    def latency(self, stream: str, seconds: ArrayLike) -> None:
        """Per record, the time from its Kafka timestamp until its outputs can be read."""
        self._latency.observe(stream, seconds)

    def processed(self, seconds: float) -> None:
        """The time from a batch's arrival until its outputs can be read."""
        self._processing.observe(seconds)


class ReadingMetrics:
    """What became of the readings of each stream: dispositions, filled cells, scores, audits of imputation."""

    def __init__(self, families: Families, streams: Sequence[str]) -> None:
        self._dispositions = families.counter("readings_total")
        self._skipped = families.counter("skipped_total")
        self._skipped_items = families.counter("skipped_items_total")
        self._refused_items = families.counter("refused_items_total")
        self._cells = families.counter("cells_total")
        self._corrupt = families.counter("corrupt_cells_total")
        self._imputed = families.counter("readings_imputed_total")
        self._late = families.counter("readings_late_total")
        self._dropped = families.counter("dropped_total")
        self._scored = families.counter("windows_scored_total")
        self._inference = families.histogram("inference_duration_seconds")
        self._batch = families.histogram("inference_batch_size")
        self._score = families.distribution("anomaly_score")
        self._assets = families.gauge("assets_active")
        self._audits = families.counter("imputation_audits_total")
        self._imputation_error = families.gauge("imputation_error")
        self._imputation_coverage = families.gauge("imputation_coverage")
        self._imputation_skill = families.gauge("imputation_skill")
        self._imputable = families.gauge("imputation_possible")
        self._audited_sensors: dict[str, tuple[str, ...]] = dict.fromkeys(streams, ())

    def dispositions(self, stream: str, counts: Mapping[Disposition, int]) -> None:
        """What became of a batch's records."""
        for disposition, n in counts.items():
            if n:
                self._dispositions.labels(stream, str(disposition)).inc(n)
                if disposition is Disposition.LATE:
                    self._late.labels(stream).inc(n)

    def cells(self, stream: str, counts: Counts) -> None:
        """What became of a batch's cells, of items of its records, and which of its records were skipped."""
        for state, n in counts.cells.items():
            self._cells.labels(stream, str(state)).inc(n)
        for (sensor, fault), n in counts.corrupt.items():
            self._corrupt.labels(stream, sensor, fault).inc(n)
        for rule, n in counts.skipped.items():
            self._skipped.labels(stream, rule).inc(n)
        for rule, n in counts.skipped_items.items():
            self._skipped_items.labels(stream, rule).inc(n)
        for reason, n in counts.refused_items.items():
            self._refused_items.labels(stream, reason).inc(n)

    def dropped(self, stream: str, reason: Dropped, n: int = 1) -> None:
        """``n`` items were left out on purpose."""
        self._dropped.labels(stream, str(reason)).inc(n)

    def filled(self, stream: str, n: int) -> None:
        """``n`` missing cells were imputed."""
        self._imputed.labels(stream).inc(n)

    def audits_of(self, stream: str, sensors: Sequence[str]) -> None:
        """Readings of these sensors are hidden from now on, under a new model; none if ``sensors`` is empty."""
        gauges = (self._imputation_error, self._imputation_coverage, self._imputation_skill, self._imputable)
        for sensor in self._audited_sensors.get(stream, ()):
            for gauge in gauges:
                gauge.remove(stream, sensor)
        for sensor in sensors:
            self._audits.labels(stream, sensor)
            for gauge in gauges:
                gauge.labels(stream, sensor).set(math.nan)
        self._audited_sensors[stream] = tuple(sensors)

    def audited(self, stream: str, figures: Iterable[SensorAudit], counts: Mapping[str, int]) -> None:
        """The newest figures of sensors, and how many more of their readings were hidden for them."""
        for one in figures:
            labels = (stream, one.sensor)
            self._audits.labels(*labels).inc(counts[one.sensor])
            self._imputation_error.labels(*labels).set(one.error)
            self._imputation_coverage.labels(*labels).set(one.coverage)
            self._imputation_skill.labels(*labels).set(one.skill)
            known = one.verdict is not Imputable.TOO_FEW
            self._imputable.labels(*labels).set(one.verdict is not Imputable.CANNOT if known else math.nan)

    def scored(self, stream: str, n: int, scores: ArrayLike) -> None:
        """``n`` windows were scored; ``scores`` has any shape and NaN where there was no score."""
        self._scored.labels(stream).inc(n)
        self._score.observe(stream, scores)

    @contextmanager
    def inferring(self, windows: int) -> Iterator[None]:
        """Time the inference of one batch of ``windows``; nothing is counted if it raises."""
        began = time.perf_counter()
        yield
        self._inference.observe(time.perf_counter() - began)
        self._batch.observe(windows)

    def assets(self, stream: str, n: int) -> None:
        """How many assets have state here."""
        self._assets.labels(stream).set(n)


class EpisodeMetrics:
    """Episodes: opened, closed, suppressed, open now, and against their budget."""

    def __init__(self, families: Families, streams: Sequence[str]) -> None:
        self._opened = families.counter("episodes_opened_total")
        self._closed = families.counter("episodes_closed_total")
        self._suppressed = families.counter("episodes_suppressed_total")
        self._verdicts = families.counter("verdicts_total")
        self._refused = families.counter("control_messages_refused_total")
        self._active = families.gauge("episodes_active")
        self._silent = families.gauge("sensors_silent")
        self._budget = families.gauge("false_alarm_budget_ratio")
        self._open: dict[str, AlertEvent] = {}  # fingerprint -> newest message
        self._streams = tuple(streams)

    def published(self, events: Iterable[AlertEvent]) -> None:
        """Count alert messages, each of them once."""
        for event in events:
            labels = (event.stream, str(event.severity), str(event.kind))
            if event.phase is Phase.SUPPRESSED:
                continue  # counted by ``suppressed``
            if event.phase is Phase.CLOSED:
                self._open.pop(event.fingerprint, None)
                self._closed.labels(*labels).inc()
                continue
            if event.phase is Phase.OPENED:
                self._opened.labels(*labels).inc()
            self._open[event.fingerprint] = event
        self._count_open()

    def revoked(self, partition: InputPartition) -> None:
        """The open episodes of a partition are another replica's to report."""
        self._open = {key: e for key, e in self._open.items() if e.partition != partition}
        self._count_open()

    def restored(self, events: Iterable[AlertEvent]) -> None:
        """Episodes that were open before a restart or a rebalance continue here."""
        for event in events:
            self._open.setdefault(event.fingerprint, event)  # a message published here is newer
        self._count_open()

    def verdicts(self, effect: Effect, n: int = 1) -> None:
        """Verdicts that people gave."""
        self._verdicts.labels(effect.value).inc(n)

    def controls_refused(self, n: int) -> None:
        """What people told in words that cannot be used."""
        self._refused.inc(n)

    def suppressed(self, reason: str, n: int = 1) -> None:
        """Episodes that were not announced; ``reason`` is one of SUPPRESSED_REASONS."""
        self._suppressed.labels(reason).inc(n)

    def budget(self, stream: str, ratio: float) -> None:
        """Anomaly episodes opened over those that the budget allows for the time scored."""
        self._budget.labels(stream).set(ratio)

    def _count_open(self) -> None:
        by_severity = Tally(event.severity for event in self._open.values() if not event.quiet)
        for severity in Severity:
            self._active.labels(str(severity)).set(by_severity[severity])
        silent = Tally(
            e.stream for e in self._open.values() for part in e.parts if part.kind is AlertKind.SENSOR_SILENT
        )
        for stream in self._streams:
            self._silent.labels(stream).set(silent[stream])


class ModelMetrics:
    """The model in use of each stream: its version, thresholds and drift, and how candidates ended."""

    def __init__(self, families: Families, streams: Sequence[str]) -> None:
        self._model = families.gauge("model_info")
        self._trained = families.gauge("model_trained_timestamp_seconds")
        self._threshold = families.gauge("threshold")
        self._drift = families.gauge("drift_kl_nats")
        self._drift_assets = families.gauge("drift_assets")
        self._promotions = families.counter("model_promotions_total")
        self._shadow_windows = families.counter("shadow_windows_total")
        self._shadow_episodes = families.counter("shadow_episodes_total")
        self._bundle_refused = families.counter("bundle_refused_total")
        self._retrain = families.histogram("retrain_duration_seconds")
        self._versions: dict[str, str] = dict.fromkeys(streams, NO_VERSION)
        self._drifting: dict[str, StreamDrift] = {}

    def model(self, stream: str, version: str, learned_until: datetime | float | None) -> None:
        """``version`` is in use from now on; the series of the version before is removed."""
        self._model.remove(stream, self._versions.get(stream, NO_VERSION))
        self._versions[stream] = version
        self._model.labels(stream, version).set(1)
        seconds = learned_until.timestamp() if isinstance(learned_until, datetime) else learned_until
        self._trained.labels(stream).set(math.nan if seconds is None else seconds)

    def drifted(self, record: DriftRecord) -> None:
        """Take in the drift of one partition in one interval."""
        self._drifting.setdefault(record.stream, StreamDrift()).add(record)
        self._show_drift(record.stream)
        if (shadow := record.shadow) is not None:
            self._shadow_windows.labels(record.stream).inc(shadow.windows)
            for of, n in zip(
                SHADOW_EPISODES, (shadow.episodes, shadow.incumbent_episodes, shadow.both), strict=True
            ):
                self._shadow_episodes.labels(record.stream, of).inc(n)

    def revoked(self, partition: InputPartition) -> None:
        """The drift of a partition is another replica's to report."""
        for stream, drift in self._drifting.items():
            if drift.partitions.pop(partition, None) is not None:
                self._show_drift(stream)

    def drift_reference(self, stream: str, version: str, reference: DriftReference | None) -> None:
        """The reference that drift is measured against; None while no model is in use."""
        drift = self._drifting.setdefault(stream, StreamDrift())
        drift.version, drift.reference = version, reference
        self._show_drift(stream)

    def _show_drift(self, stream: str) -> None:
        for kind, nats in zip(DRIFT_KINDS, self._drifting[stream].nats(), strict=True):
            self._drift.labels(stream, kind).set(nats)
        self._drift_assets.labels(stream).set(self._drifting[stream].assets())

    def thresholds(self, stream: str, combined: float, parts: Mapping[str, float]) -> None:
        """The thresholds of the model in use, by score."""
        for part in SCORE_PARTS:
            value = combined if part == "combined" else parts.get(part, math.nan)
            self._threshold.labels(stream, part).set(value)

    def promotion(self, stream: str, result: str) -> None:
        """``result`` is a Promotion."""
        self._promotions.labels(stream, str(result)).inc()

    def bundle_refused(self, source: str, n: int = 1) -> None:
        """Models, or records of the models topic, were refused; ``source`` is one of BUNDLE_SOURCES."""
        self._bundle_refused.labels(source).inc(n)

    def retrain(self, seconds: float) -> None:
        """A training took this long, whether or not it succeeded."""
        self._retrain.observe(seconds)


class DrillMetrics:
    """The fire drill: faults injected and found, by kind, and the CPU time it took."""

    def __init__(self, families: Families) -> None:
        self._drilled = families.counter("drill_faults_total")
        self._recall = families.gauge("drill_recall")
        self._delay = families.gauge("drill_delay_seconds")
        self._smallest = families.gauge("drill_smallest_size")
        self._spent = families.counter("drill_cpu_seconds_total")
        self._sizes: dict[str, set[tuple[str, str]]] = {}  # stream -> sensor, kind that have a series

    def drilled(self, stream: str, kind: FaultKind, found: bool) -> None:
        """A fault was injected into copies of normal rows, and was found or not."""
        self._drilled.labels(stream, str(kind), str(found).lower()).inc()

    def of_kind(self, stream: str, kind: FaultKind, recall: float, delay_s: float | None) -> None:
        """Recall and median delay of the newest faults of a kind."""
        self._recall.labels(stream, str(kind)).set(recall)
        self._delay.labels(stream, str(kind)).set(math.nan if delay_s is None else delay_s)

    def smallest(self, stream: str, sensor: str, kind: FaultKind, size: float | None) -> None:
        """The smallest size of a kind that is found in a sensor; None if none is, or it is not known yet."""
        known, key = self._sizes.setdefault(stream, set()), (sensor, str(kind))
        if size is not None:
            known.add(key)
            self._smallest.labels(stream, *key).set(size)
        elif key in known:
            known.remove(key)
            self._smallest.remove(stream, *key)

    def spent(self, stream: str, seconds: float) -> None:
        """The fire drill took this much more CPU time."""
        self._spent.labels(stream).inc(seconds)

    def start_over(self, stream: str) -> None:
        """Another model is drilled: forget the figures of the one before."""
        for key in self._sizes.pop(stream, ()):
            self._smallest.remove(stream, *key)
        for kind in FaultKind:
            self.of_kind(stream, kind, math.nan, None)


class ProcessMetrics:
    """The process itself: its lifecycle, dependencies, event loop and admin port."""

    def __init__(self, families: Families) -> None:
        self._lifecycle = families.gauge("lifecycle_state")
        self._dependency = families.gauge("dependency_up")
        self._loop_lag = families.gauge("event_loop_lag_seconds")
        self._http_refused = families.counter("http_refused_total")
        self._lags: deque[float] = deque(maxlen=LAGS_KEPT)
        self._loop_lag.set_function(lambda: max(self._lags, default=0.0))
        self.lifecycle(lambda: Lifecycle.STARTING)

    def lifecycle(self, current: Callable[[], Lifecycle]) -> None:
        """``current`` is called at every scrape and returns the state of the process."""
        for each in Lifecycle:
            self._lifecycle.labels(str(each)).set_function(partial(_is_now, current, each))

    def dependency(self, name: str, up: Callable[[], bool]) -> None:
        """``up`` is called at every scrape and returns whether the dependency answers."""
        self._dependency.labels(name).set_function(lambda: float(up()))

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop came back to a timer; call it every LAG_EVERY_S."""
        self._lags.append(max(seconds, 0.0))

    def http_refused(self, reason: HttpRefusal) -> None:
        """The admin port refused a request or closed a connection."""
        self._http_refused.labels(str(reason)).inc()


def _is_now(current: Callable[[], Lifecycle], state: Lifecycle) -> float:
    return float(current() is state)
