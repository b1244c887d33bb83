"""What the process says about itself: log lines, metrics, and the state behind the admin page.

Three things with one rule in common: *the outside must not be able to make them grow*. An
asset name, a key or a value comes from whoever can write to the input topic, so

* a log event is one JSON line whatever its values hold, and its strings have an upper length;
* a metric label is a stream, a topic, a reason or another name from a fixed set, never an
  asset: the number of series depends on the configuration and not on the data;
* the page's state keeps a bounded number of assets, scores and events.

The loop calls plain methods once per batch; nothing here awaits, opens a socket or a file.
Label sets exist from the start (a counter that appears with its first increment hides that
increment from ``rate()``), and a gauge nobody has set yet is NaN where zero would be a claim.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, Final, Literal, TextIO

import numpy as np
import structlog
from numpy.typing import ArrayLike, NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from daemon import __version__
from daemon.detector import DriftReference
from daemon.domain import (
    AlertEvent,
    AlertKind,
    DeadLetter,
    Disposition,
    DriftRecord,
    Dropped,
    FilledRow,
    Floats,
    InputPartition,
    Ints,
    Mask,
    Output,
    Phase,
    Reason,
    Severity,
)
from daemon.errors import ConfigError
from daemon.grouping import by_slot
from daemon.model.faults import FaultKind
from daemon.stream.audit import Imputable, SensorAudit
from daemon.stream.drift import divergence

# ------------------------------------------------------------------ logging
LONGEST_STRING: Final = 2_000
"""Characters of one logged value; an asset name may be as long as a record."""
DEEPEST: Final = 6
MOST_ITEMS: Final = 50
REPEATS_PER_MINUTE: Final = 5

_CONTROLS: Final = {
    code: f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F))
}
"""Line breaks, terminal escapes and direction overrides, to their visible spelling."""


def configure_logging(
    level: str = "info",
    format: Literal["json", "console"] = "json",
    stream: TextIO | None = None,
) -> None:
    """Send structlog's events and the standard library's through one renderer to ``stream``.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        format: ``json``: one ASCII line per event, with a UTC ``timestamp`` and exceptions as
            a structure without local variables (they may hold a secret). ``console``: for
            people; only a traceback takes more than one line.
        stream: standard output by default.

    Raises:
        ConfigError: an unknown level or format.
    """
    levels = {
        "debug": logging.DEBUG,
        "info": logging.INFO,
        "warning": logging.WARNING,
        "error": logging.ERROR,
    }
    if level.lower() not in levels:
        raise ConfigError(f"logging.level is {level!r}; it must be one of {', '.join(levels)}")
    if format not in ("json", "console"):
        raise ConfigError(f"logging.format is {format!r}; it must be json or console")
    number = levels[level.lower()]
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[structlog.types.Processor]
    if format == "json":
        traceback = structlog.tracebacks.ExceptionDictTransformer(
            show_locals=False, use_rich=False, max_frames=20
        )
        rendering = [
            structlog.processors.ExceptionRenderer(traceback),
            _bounded,
            structlog.processors.JSONRenderer(allow_nan=False),
        ]
    else:
        rendering = [
            _bounded,
            _visible,
            structlog.dev.ConsoleRenderer(
                colors=bool(stream is None and sys.stdout.isatty()),
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    handler = logging.StreamHandler(sys.stdout if stream is None else stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    handler.addFilter(_Repetitions())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(noisy)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("asyncio").setLevel(max(number, logging.WARNING))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        # A cached logger would keep the first configuration: the command line configures twice
        # (before and after it has read the file).
        cache_logger_on_first_use=False,
    )


class Throttle:
    """Says something once per span and counts what it kept back.

    ``admit(key)`` is None while the key rests, else how often it was kept back since it was
    last admitted. ``key`` should come from a fixed set; beyond ``most`` keys the oldest go.
    """

    def __init__(
        self,
        per: timedelta = timedelta(minutes=1),
        burst: int = 1,
        clock: Callable[[], float] = time.monotonic,
        most: int = 1_000,
    ) -> None:
        self._per = per.total_seconds()
        self._burst = burst
        self._clock = clock
        self._most = most
        self._seen: dict[object, tuple[float, int, int]] = {}  # start of the span, admitted, kept back

    def admit(self, key: object) -> int | None:
        """How many were kept back since the last admission, or None: keep this one back."""
        now = self._clock()
        start, admitted, kept = self._seen.pop(key, (now, 0, 0))
        if now - start >= self._per:
            start, admitted = now, 0
        if admitted < self._burst:
            answer, admitted, kept_now = kept, admitted + 1, 0
        else:
            answer, kept_now = None, kept + 1
        self._seen[key] = (start, admitted, kept_now)  # the newest key is last
        if len(self._seen) > self._most:
            del self._seen[next(iter(self._seen))]
        return answer


class _Repetitions(logging.Filter):
    """Keeps a library from flooding the log.

    aiokafka's producer can write 10,000 equal lines a second after its broker went away. Our
    own events pass untouched: they are one per batch or transition by design.
    """

    def __init__(self) -> None:
        super().__init__()
        self._throttle = Throttle(burst=REPEATS_PER_MINUTE)

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, dict):  # structlog's own
            return True
        kept = self._throttle.admit((record.name, record.levelno, str(record.msg)[:200]))
        if kept:
            record.msg = f"{record.msg} (kept back {kept} like it)"
        return kept is not None


def _bounded(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Plain JSON values of a bounded size, the three fields every reader looks for first."""
    plain = {str(key)[:100]: _plain(value, DEEPEST) for key, value in event.items() if key not in _RAW}
    first: structlog.types.EventDict = {key: plain.pop(key) for key in _FIRST if key in plain}
    # What the console renderer formats itself.
    raw = {key: event[key] for key in _RAW if key in event}
    return {**first, **plain, **raw}


_FIRST: Final = ("timestamp", "level", "event")
_RAW: Final = ("exc_info", "stack_info")


def _plain(value: object, depth: int) -> Any:
    if isinstance(value, StrEnum):
        return str(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item(), depth)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return (
            value
            if len(value) <= LONGEST_STRING
            else f"{value[:LONGEST_STRING]}... ({len(value)} characters)"
        )
    if isinstance(value, Mapping) and depth:
        return {str(k)[:100]: _plain(v, depth - 1) for k, v in list(value.items())[:MOST_ITEMS]}
    if isinstance(value, list | tuple | set | frozenset) and depth:
        return [_plain(v, depth - 1) for v in list(value)[:MOST_ITEMS]]
    return _plain(repr(value), 0)


def _visible(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return {k: v.translate(_CONTROLS) if isinstance(v, str) else v for k, v in event.items()}


# ------------------------------------------------------------------ names that labels may take
class Lifecycle(StrEnum):
    """Where the process, or one stream of it, stands."""

    STARTING = "starting"
    LEARNING = "learning"
    LIVE = "live"
    DRAINING = "draining"


class Promotion(StrEnum):
    """How a candidate model ended."""

    PROMOTED = "promoted"
    RESTORED = "restored"  # in force already when this process started
    REFUSED = "refused"  # by the gate
    FAILED = "failed"  # training itself
    ROLLED_BACK = "rolled_back"


class HttpRefusal(StrEnum):
    """Why the admin port did not answer a request, or closed a connection."""

    HOST = "host"  # asked by a name that is not ours
    TARGET = "target"  # not a path
    BODY = "body"  # nothing here takes one
    SLOW = "slow"  # no complete request in time, or the answer was not read
    CROWDED = "crowded"  # made room for a newer connection


REBALANCE_EVENTS: Final = ("assigned", "revoked")
COMMIT_RESULTS: Final = ("ok", "failed")
RESTORE_RESULTS: Final = ("ok", "truncated", "failed", "unusable")
BUNDLE_SOURCES: Final = ("record", "registry", "training")
SUPPRESSED_REASONS: Final = ("maintenance",)
DRIFT_KINDS: Final = ("latent", "residual")
SCORE_PARTS: Final = ("combined", "reconstruction", "kl", "point")
DEPENDENCIES: Final = ("kafka",)

LAG_EVERY_S: Final = 0.5
LAGS_KEPT: Final = 120
"""A minute of them: whoever scrapes more seldom than once in that time misses some, two scrapers see the same."""

SECONDS_FINE: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SECONDS_LONG: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
SECONDS_TRAINING: Final = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
BATCH_SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
SCORES: Final = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 50.0, 100.0)


# ------------------------------------------------------------------ metrics
class BatchHistogram(Collector):
    """A histogram that takes a whole array at once.

    prometheus_client's own walks the buckets for every value: microseconds per row, on the
    only thread there is. Here a batch is one ``searchsorted``.
    """

    def __init__(
        self, name: str, documentation: str, label: str, values: Sequence[str], buckets: Sequence[float]
    ) -> None:
        self._name, self._documentation, self._label = name, documentation, label
        self._edges: NDArray[np.float64] = np.asarray(buckets, np.float64)
        self._counts: dict[str, NDArray[np.int64]] = {
            value: np.zeros(len(buckets) + 1, np.int64) for value in values
        }
        self._sums: dict[str, float] = dict.fromkeys(values, 0.0)

    def observe(self, label: str, values: ArrayLike) -> None:
        """Count finite ``values`` (any shape); NaN means that there was nothing to measure."""
        array = np.asarray(values, np.float64).ravel()
        array = array[np.isfinite(array)]
        if not len(array):
            return
        # side="left": a value equal to an edge belongs below it ("le").
        places = np.searchsorted(self._edges, array, side="left")
        counts = np.bincount(places, minlength=len(self._edges) + 1)
        self._counts[label] = self._counts.get(label, 0) + counts
        self._sums[label] = self._sums.get(label, 0.0) + float(array.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=[self._label])
        for label, counts in self._counts.items():
            edges = [*map(str, self._edges.tolist()), "+Inf"]
            family.add_metric(
                [label], list(zip(edges, map(float, counts.cumsum()), strict=True)), self._sums[label]
            )
        yield family


def _is_now(current: Callable[[], Lifecycle], state: Lifecycle) -> float:
    return float(current() is state)


@dataclass(slots=True)
class StreamDrift:
    """The drift of a stream over the partitions of this process: sums add, their KL does not."""

    version: str = ""
    reference: DriftReference | None = None
    partitions: dict[InputPartition, list[DriftRecord]] = field(default_factory=dict)
    """Of each partition the records of its newest interval; rows that came late make further ones."""

    def add(self, record: DriftRecord) -> None:
        """Take in what one partition says of one interval."""
        known = self.partitions.get(record.partition, [])
        mine = record.model == self.version, record.end_ns
        newest = (known[0].model == self.version, known[0].end_ns) if known else (False, -1)
        if mine == newest and known[0].model == record.model:
            known.append(record)
        elif mine > newest:
            self.partitions[record.partition] = [record]

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


class Metrics:
    """Every metric of the process, in a registry of its own.

    Args:
        streams: the names of the streams.
        topics: the input topics.
        dependencies: what ``dependency`` will speak of.
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
        self._open: dict[str, AlertEvent] = {}  # fingerprint -> newest message
        ProcessCollector(registry=self.registry)

        reasons = [str(reason) for reason in Reason]
        severities = [str(severity) for severity in Severity]
        kinds = [str(kind) for kind in AlertKind]

        self._gauge("build_info", "Constant 1; the version that runs.", "version", [[__version__]], 1.0)
        self._lifecycle = self._gauge(
            "lifecycle_state", "1 for the state the process is in.", "state", [[s] for s in Lifecycle], 0.0
        )
        self._dependency = self._gauge(
            "dependency_up",
            "1 while the dependency answers, 0 before it first did and after 30 s without an answer.",
            "dependency",
            [[d] for d in dependencies],
        )
        self._consumed = self._counter(
            "records_consumed_total", "Records read from the input.", "topic", [[t] for t in topics]
        )
        self._rejected = self._counter(
            "records_rejected_total",
            "Records that could not be used.",
            "topic reason",
            [[t, r] for t in topics for r in reasons],
        )
        self._dead_letters = self._counter(
            "dead_letters_total", "Records handed to the dead-letter topic.", "reason", [[r] for r in reasons]
        )
        self._lag_records = self._gauge(
            "consumer_lag_records", "Records behind the log's end.", "topic partition", []
        )
        self._lag_seconds = self._gauge(
            "consumer_lag_seconds", "Age of the newest processed record, while behind.", "topic partition", []
        )
        self._assigned = self._gauge(
            "consumer_assigned_partitions", "Partitions held now.", "topic", [[t] for t in topics], 0.0
        )
        self._rebalances = self._counter(
            "consumer_rebalances_total",
            "Partitions assigned and revoked; a failed transaction revokes and assigns its partitions anew.",
            "event",
            [[e] for e in REBALANCE_EVENTS],
        )
        self._commits = self._counter(
            "offset_commits_total", "Offset commits.", "result", [[r] for r in COMMIT_RESULTS]
        )

        per_stream = [[s] for s in streams]
        self._dispositions = self._counter(
            "readings_total",
            "Records of a stream by what became of them.",
            "stream disposition",
            [[s, str(d)] for s in streams for d in Disposition],
        )
        self._imputed = self._counter("readings_imputed_total", "Cells filled in.", "stream", per_stream)
        of_sensor = "stream sensor"
        self._audits = self._counter(
            "imputation_audits_total",
            "Known readings that were hidden, to see how they are filled.",
            of_sensor,
            [],
        )
        self._imputation_error = self._gauge(
            "imputation_error",
            "Mean absolute error of newly hidden readings, in the sensor's units.",
            of_sensor,
            [],
        )
        self._imputation_coverage = self._gauge(
            "imputation_coverage", "Share of newly hidden readings inside their 90 % interval.", of_sensor, []
        )
        self._imputation_skill = self._gauge(
            "imputation_skill",
            "1 - the error of newly hidden readings over that of the training mean; 0: no better.",
            of_sensor,
            [],
        )
        self._imputable = self._gauge(
            "imputation_possible",
            "1 while a sensor's gaps are filled with more than its usual level, 0 while they are not.",
            of_sensor,
            [],
        )
        self._audited_sensors: dict[str, tuple[str, ...]] = dict.fromkeys(streams, ())
        self._late = self._counter(
            "readings_late_total", "Records older than their asset's watermark.", "stream", per_stream
        )
        self._dropped = self._counter(
            "dropped_total",
            "What was left out on purpose, by reason.",
            "stream reason",
            [[s, str(r)] for s in streams for r in Dropped],
        )
        self._scored = self._counter("windows_scored_total", "Windows with a score.", "stream", per_stream)
        self._inference = self._histogram(
            "inference_duration_seconds", "Time the model took for one batch of windows.", SECONDS_FINE
        )
        self._batch = self._histogram("inference_batch_size", "Windows per batch.", BATCH_SIZES)
        self._score = self._distribution(
            "anomaly_score", "Combined scores; higher is more anomalous.", "stream", streams, SCORES
        )
        self._threshold = self._gauge(
            "threshold",
            "The value above which a score alone is alarming.",
            "stream score",
            [[s, part] for s in streams for part in SCORE_PARTS],
        )
        self._budget = self._gauge(
            "false_alarm_budget_ratio",
            "Anomaly episodes opened over those the budget allows, since this process started.",
            "stream",
            per_stream,
        )
        self._drift = self._gauge(
            "drift_kl_nats",
            "KL of the newest interval against training, in nats, over all partitions held here together.",
            "stream kind",
            [[s, k] for s in streams for k in DRIFT_KINDS],
        )
        self._opened = self._counter(
            "episodes_opened_total",
            "Episodes opened.",
            "stream severity kind",
            [[s, v, k] for s in streams for v in severities for k in kinds],
        )
        self._closed = self._counter(
            "episodes_closed_total",
            "Episodes closed, by the severity they ended with.",
            "stream severity kind",
            [[s, v, k] for s in streams for v in severities for k in kinds],
        )
        self._suppressed = self._counter(
            "episodes_suppressed_total",
            "Episodes not announced.",
            "reason",
            [[r] for r in SUPPRESSED_REASONS],
        )
        self._active = self._gauge(
            "episodes_active", "Episodes open now.", "severity", [[v] for v in severities], 0.0
        )
        self._silent = self._gauge(
            "sensors_silent", "Sensors that are silent now.", "stream", per_stream, 0.0
        )
        self._model = self._gauge(
            "model_info",
            "Constant 1; the model version in use.",
            "stream version",
            [[s, "none"] for s in streams],
            1.0,
        )
        self._trained = self._gauge(
            "model_trained_timestamp_seconds",
            "Event time of the newest row that the model in use was trained on.",
            "stream",
            per_stream,
        )
        self._promotions = self._counter(
            "model_promotions_total",
            "How candidate models ended.",
            "stream result",
            [[s, str(r)] for s in streams for r in Promotion],
        )
        self._bundle_refused = self._counter(
            "bundle_refused_total",
            "Models that were not used, and records of the models topic that could not be.",
            "source",
            [[source] for source in BUNDLE_SOURCES],
        )
        self._retrain = self._histogram(
            "retrain_duration_seconds",
            "Time from the start of a training to its candidate.",
            SECONDS_TRAINING,
        )
        self._latency = self._distribution(
            "end_to_end_latency_seconds",
            "From a record's Kafka timestamp until what follows from it can be read.",
            "stream",
            streams,
            SECONDS_LONG,
        )
        self._processing = self._histogram(
            "processing_latency_seconds",
            "From a batch's arrival until what follows from it can be read.",
            SECONDS_FINE,
        )
        self._loop_lag = self._gauge(
            "event_loop_lag_seconds",
            "The latest that the event loop came back to a timer during the last minute.",
            "",
            [[]],
            0.0,
        )
        self._restores = self._counter(
            "state_restores_total",
            "Partitions whose state was rebuilt; unusable: records of it that were left out.",
            "result",
            [[r] for r in RESTORE_RESULTS],
        )
        self._assets = self._gauge("assets_active", "Assets that have state here.", "stream", per_stream, 0.0)
        self._http_refused = self._counter(
            "http_refused_total",
            "Requests that the admin port refused, and connections that it closed before their time.",
            "reason",
            [[str(r)] for r in HttpRefusal],
        )
        faults = [str(kind) for kind in FaultKind]
        self._drilled = self._counter(
            "drill_faults_total",
            "Faults that the fire drill injected into copies of normal rows, by whether they were found.",
            "stream kind found",
            [[s, k, f] for s in streams for k in faults for f in ("true", "false")],
        )
        self._drill_recall = self._gauge(
            "drill_recall",
            "Share found of the newest 1000 injected faults of a kind, all sizes of the ladder together.",
            "stream kind",
            [[s, k] for s in streams for k in faults],
        )
        self._drill_delay = self._gauge(
            "drill_delay_seconds",
            "Median event time from the beginning of an injected fault to its alert, of those found.",
            "stream kind",
            [[s, k] for s in streams for k in faults],
        )
        self._drill_smallest = self._gauge(
            "drill_smallest_size",
            "Smallest injected fault of which 80 % are found, in the sensor's own units; of a lag in seconds.",
            "stream sensor kind",
            [],
        )
        self._drill_spent = self._counter(
            "drill_cpu_seconds_total", "CPU time that the fire drill took.", "stream", per_stream
        )
        self._drill_sizes: dict[str, set[tuple[str, str]]] = {}  # stream -> sensor, kind that have a series
        self._versions: dict[str, str] = dict.fromkeys(streams, "none")
        self._partitions: set[InputPartition] = set()
        self._drifting: dict[str, StreamDrift] = {}
        self._lags: deque[float] = deque(maxlen=LAGS_KEPT)
        self._loop_lag.set_function(lambda: max(self._lags, default=0.0))
        self.lifecycle(lambda: Lifecycle.STARTING)

    # -------------------------------------------------------------- input
    def consumed(self, topic: str, n: int) -> None:
        """``n`` records came from ``topic``."""
        self._consumed.labels(topic).inc(n)

    def rejected(self, topic: str, reason: Reason, n: int = 1) -> None:
        """``n`` records of ``topic`` could not be used."""
        self._rejected.labels(topic, str(reason)).inc(n)

    def dispositions(self, stream: str, counts: Mapping[Disposition, int]) -> None:
        """What became of a batch's records."""
        for disposition, n in counts.items():
            if n:
                self._dispositions.labels(stream, str(disposition)).inc(n)
                if disposition is Disposition.LATE:
                    self._late.labels(stream).inc(n)

    def dropped(self, stream: str, reason: Dropped, n: int = 1) -> None:
        """``n`` things were left out on purpose."""
        self._dropped.labels(stream, str(reason)).inc(n)

    def filled(self, stream: str, n: int) -> None:
        """``n`` missing cells were imputed."""
        self._imputed.labels(stream).inc(n)

    def audits_of(self, stream: str, sensors: Sequence[str]) -> None:
        """The stream's hidden readings are those of these sensors from now on, under a new model; or none are hidden."""
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
            said = one.verdict is not Imputable.TOO_FEW
            self._imputable.labels(*labels).set(one.verdict is not Imputable.CANNOT if said else math.nan)

    def lag(self, topic: str, partition: int, records: int, seconds: float = math.nan) -> None:
        """How far behind its log's end a held partition is."""
        self._lag_records.labels(topic, str(partition)).set(max(records, 0))
        self._lag_seconds.labels(topic, str(partition)).set(seconds)

    def assigned(self, partition: InputPartition) -> None:
        """A partition is ours from now on."""
        self._partitions.add(partition)
        self._held(partition.topic)

    def revoked(self, partition: InputPartition) -> None:
        """A partition is no longer ours: its lag and its open episodes are another's to report."""
        self._partitions.discard(partition)
        self._held(partition.topic)
        for gauge in (self._lag_records, self._lag_seconds):
            # remove() of a series that never was warns in some releases and raises in others
            gauge.labels(partition.topic, str(partition.number))
            gauge.remove(partition.topic, str(partition.number))
        self._open = {key: e for key, e in self._open.items() if e.partition != partition}
        self._count_open()
        for stream, drift in self._drifting.items():
            if drift.partitions.pop(partition, None) is not None:
                self._show_drift(stream)

    def rebalance(self, event: str, n: int = 1) -> None:
        """``event`` is one of REBALANCE_EVENTS."""
        self._rebalances.labels(event).inc(n)

    def commits(self, result: str, n: int = 1) -> None:
        """``result`` is one of COMMIT_RESULTS."""
        self._commits.labels(result).inc(n)

    def restored(self, result: str, n: int = 1) -> None:
        """A partition's state was rebuilt, or records of it left out; ``result`` is one of RESTORE_RESULTS."""
        self._restores.labels(result).inc(n)

    # -------------------------------------------------------------- scoring
    def scored(self, stream: str, n: int, scores: ArrayLike) -> None:
        """``n`` windows got a score; ``scores`` any shape, NaN where there was none."""
        self._scored.labels(stream).inc(n)
        self._score.observe(stream, scores)

    @contextmanager
    def inferring(self, windows: int) -> Iterator[None]:
        """While inside, the model looks at one batch of ``windows``; nothing counts where it fails."""
        began = time.perf_counter()
        yield
        self._inference.observe(time.perf_counter() - began)
        self._batch.observe(windows)

    def published(self, outputs: Iterable[Output]) -> None:
        """Count episodes, drift and dead letters among what was published.

        Scored and filled rows are not counted here but by ``scored`` and ``filled``: they may
        be published or not, as configured.
        """
        changed = False
        for output in outputs:
            if isinstance(output, AlertEvent):
                labels = (output.stream, str(output.severity), str(output.kind))
                changed = True
                if output.phase is Phase.CLOSED:
                    self._open.pop(output.fingerprint, None)
                    self._closed.labels(*labels).inc()
                    continue
                if output.phase is Phase.OPENED:
                    self._opened.labels(*labels).inc()
                self._open[output.fingerprint] = output
            elif isinstance(output, DriftRecord):
                self._drifting.setdefault(output.stream, StreamDrift()).add(output)
                self._show_drift(output.stream)
            elif isinstance(output, DeadLetter):
                self._dead_letters.labels(str(output.rejected.reason)).inc()
        if changed:
            self._count_open()

    def restored_episodes(self, events: Iterable[AlertEvent]) -> None:
        """Episodes that were open before a restart or a rebalance and go on here."""
        for event in events:
            self._open.setdefault(event.fingerprint, event)  # what was said of it here is newer
        self._count_open()

    def suppressed(self, reason: str, n: int = 1) -> None:
        """Episodes that were not announced; ``reason`` is one of SUPPRESSED_REASONS."""
        self._suppressed.labels(reason).inc(n)

    def budget(self, stream: str, ratio: float) -> None:
        """Anomaly episodes opened over those that the budget allows for the time scored."""
        self._budget.labels(stream).set(ratio)

    def assets(self, stream: str, n: int) -> None:
        """How many assets have state here."""
        self._assets.labels(stream).set(n)

    # -------------------------------------------------------------- models
    def model(self, stream: str, version: str, trained_at: datetime | float | None) -> None:
        """``version`` judges ``stream`` from now on; the series of the one before goes away."""
        self._model.remove(stream, self._versions.get(stream, "none"))
        self._versions[stream] = version
        self._model.labels(stream, version).set(1)
        seconds = trained_at.timestamp() if isinstance(trained_at, datetime) else trained_at
        self._trained.labels(stream).set(math.nan if seconds is None else seconds)

    def drift_reference(self, stream: str, version: str, reference: DriftReference | None) -> None:
        """What the drift of the model in use is measured against; None where none is in use."""
        drift = self._drifting.setdefault(stream, StreamDrift())
        drift.version, drift.reference = version, reference
        self._show_drift(stream)

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
        """A training took this long, whatever came of it."""
        self._retrain.observe(seconds)

    # -------------------------------------------------------------- fire drill
    def drilled(self, stream: str, kind: FaultKind, found: bool) -> None:
        """A fault was injected into copies of normal rows, and found or not."""
        self._drilled.labels(stream, str(kind), str(found).lower()).inc()

    def drill_of_kind(self, stream: str, kind: FaultKind, recall: float, delay_s: float | None) -> None:
        """What was found of a kind lately."""
        self._drill_recall.labels(stream, str(kind)).set(recall)
        self._drill_delay.labels(stream, str(kind)).set(math.nan if delay_s is None else delay_s)

    def drill_smallest(self, stream: str, sensor: str, kind: FaultKind, size: float | None) -> None:
        """From which size on a kind is found in a sensor; None where none is, or it is not known yet."""
        known, key = self._drill_sizes.setdefault(stream, set()), (sensor, str(kind))
        if size is not None:
            known.add(key)
            self._drill_smallest.labels(stream, *key).set(size)
        elif key in known:
            known.remove(key)
            self._drill_smallest.remove(stream, *key)

    def drill_spent(self, stream: str, seconds: float) -> None:
        """The fire drill took so much CPU time more."""
        self._drill_spent.labels(stream).inc(seconds)

    def drill_begins_anew(self, stream: str) -> None:
        """Another model is drilled: what was found of the one before says nothing of it."""
        for key in self._drill_sizes.pop(stream, ()):
            self._drill_smallest.remove(stream, *key)
        for kind in FaultKind:
            self.drill_of_kind(stream, kind, math.nan, None)

    # -------------------------------------------------------------- the process
    def lifecycle(self, current: Callable[[], Lifecycle]) -> None:
        """``current`` is asked at every scrape where the process stands."""
        for each in Lifecycle:
            self._lifecycle.labels(str(each)).set_function(partial(_is_now, current, each))

    def dependency(self, name: str, up: Callable[[], bool]) -> None:
        """``up`` is asked at every scrape whether a dependency answers."""
        self._dependency.labels(name).set_function(lambda: float(up()))

    def latency(self, stream: str, seconds: ArrayLike) -> None:
        """Per record, from its Kafka timestamp until what follows from it can be read."""
        self._latency.observe(stream, seconds)

    def processed(self, seconds: float) -> None:
        """A batch took this long from its arrival until what follows from it can be read."""
        self._processing.observe(seconds)

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop came back to a timer; to be called every LAG_EVERY_S."""
        self._lags.append(max(seconds, 0.0))

    def http_refused(self, reason: HttpRefusal) -> None:
        """The admin port refused a request or closed a connection."""
        self._http_refused.labels(str(reason)).inc()

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self.registry)

    # -------------------------------------------------------------- making them
    def _counter(self, name: str, text: str, labels: str, sets: Sequence[Sequence[str]]) -> Counter:
        counter = Counter(f"anomalyd_{name}", text, labels.split(), registry=self.registry)
        for values in sets:
            counter.labels(*values)
        return counter

    def _gauge(
        self, name: str, text: str, labels: str, sets: Sequence[Sequence[str]], value: float = math.nan
    ) -> Gauge:
        gauge = Gauge(f"anomalyd_{name}", text, labels.split(), registry=self.registry)
        for values in sets:
            (gauge.labels(*values) if labels else gauge).set(value)
        return gauge

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"anomalyd_{name}", text, buckets=buckets, registry=self.registry)

    def _distribution(
        self, name: str, text: str, label: str, values: Sequence[str], buckets: Sequence[float]
    ) -> BatchHistogram:
        histogram = BatchHistogram(f"anomalyd_{name}", text, label, values, buckets)
        self.registry.register(histogram)
        return histogram

    def _held(self, topic: str) -> None:
        self._assigned.labels(topic).set(sum(p.topic == topic for p in self._partitions))

    def _show_drift(self, stream: str) -> None:
        for kind, nats in zip(DRIFT_KINDS, self._drifting[stream].nats(), strict=True):
            self._drift.labels(stream, kind).set(nats)

    def _count_open(self) -> None:
        by_severity = Tally(event.severity for event in self._open.values())
        for severity in Severity:
            self._active.labels(str(severity)).set(by_severity[severity])
        silent = Tally(e.stream for e in self._open.values() if e.kind is AlertKind.SENSOR_SILENT)
        for stream in self._versions:
            self._silent.labels(stream).set(silent[stream])


# ------------------------------------------------------------------ the state behind the page
SCORES_KEPT: Final = 300
ASSETS_KEPT: Final = 50
EVENTS_KEPT: Final = 200
WAIT_NOTICED: Final = 3.0
"""Seconds; every publish waits a little, and that is nothing to report."""
UNREADY_AFTER: Final = 30.0
"""Seconds without Kafka; shorter outages are ridden out and change nothing for whoever asks."""
INTEREST_DECAY: Final = 0.99
"""Per scored row: an asset that was near its threshold stays of interest for a few hundred rows."""


@dataclass(slots=True)
class Track:
    """One asset's newest scores."""

    rows_ns: deque[int] = field(default_factory=lambda: deque(maxlen=SCORES_KEPT))
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=SCORES_KEPT))
    alarm: bool = False
    interest: float = 0.0  # decaying maximum of score / threshold


@dataclass(frozen=True, slots=True)
class ModelChange:
    """What became of one candidate, or of a model given at the start."""

    at: datetime  # wall clock
    version: str
    result: str  # a Promotion
    reason: str = ""


@dataclass(slots=True)
class StreamStatus:
    """What is known of one stream. The loop assigns the plain fields as they change."""

    name: str
    learn_rows: int = 0
    state: Lifecycle = Lifecycle.STARTING
    model: str | None = None
    calibration: str = ""
    trained_at: datetime | None = None
    threshold: float = math.nan
    part_thresholds: Mapping[str, float] = field(default_factory=dict)
    training: bool = False  # a training runs now
    assets: int = 0
    rows: int = 0  # grid rows released, scored or not
    scored: int = 0
    filled: int = 0  # cells
    records: dict[str, int] = field(default_factory=lambda: {str(d): 0 for d in Disposition})
    newest_ns: int = 0  # event time of the newest row
    drift: deque[DriftRecord] = field(default_factory=lambda: deque(maxlen=100))
    imputation: dict[str, SensorAudit] = field(default_factory=dict)  # by sensor, under this model
    models: deque[ModelChange] = field(default_factory=lambda: deque(maxlen=30))
    drill: Callable[[], Sequence[Mapping[str, Any]]] = tuple  # the fire drill's table, see ``drilling.entry``
    tracks: dict[str, Track] = field(default_factory=dict)
    _floor: float = 0.0  # the least interesting track's interest, once all places are taken

    def scored_rows(
        self, assets: Sequence[str], slots: Ints, times_ns: Ints, scores: Floats, alarms: Mask
    ) -> None:
        """Take rows, in order, into the histories of those assets that are of interest.

        Of several rows of one asset the highest score stands for all: a stream so fast that they
        come at once has no use for each on a page.

        Args:
            assets, slots, times_ns, scores, alarms: (R,); ``slots`` has one number per asset, and a
                score is NaN where the row was not scored.
        """
        which = np.flatnonzero(np.isfinite(scores))
        if not len(which):
            return
        self.newest_ns = max(self.newest_ns, int(times_ns[which].max()))
        self.scored += len(which)
        groups = by_slot(slots[which])
        order, begins = which[groups.order], np.flatnonzero(groups.begins)
        highest = np.maximum.reduceat(scores[order], begins)
        last = order[np.append(begins[1:], len(order)) - 1]
        ratios = highest / self.threshold if self.threshold > 0 else np.zeros(len(highest))
        tracks = self.tracks
        for i, score, ratio, time_ns, alarm in zip(
            last.tolist(),
            highest.tolist(),
            ratios.tolist(),
            times_ns[last].tolist(),
            alarms[last].tolist(),
            strict=True,
        ):
            track = tracks.get(assets[i])
            if track is None:
                if len(tracks) >= ASSETS_KEPT:
                    if ratio <= self._floor:
                        continue
                    least = min(tracks, key=lambda name: tracks[name].interest)
                    del tracks[least]
                    self._floor = min(t.interest for t in tracks.values())
                track = tracks[assets[i]] = Track()
            track.rows_ns.append(time_ns)
            track.scores.append(score)
            track.alarm = alarm
            track.interest = max(track.interest * INTEREST_DECAY, ratio, 1.0 if alarm else 0.0)


class Status:
    """What the admin page and the probes answer from; the loop and the service keep it.

    ``clock`` is monotonic seconds, ``now`` the wall clock.
    """

    def __init__(
        self,
        streams: Mapping[str, int] | Sequence[str],
        *,
        stall_after: timedelta = timedelta(seconds=60),
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        learn_rows = streams if isinstance(streams, Mapping) else dict.fromkeys(streams, 0)
        self.streams = {name: StreamStatus(name, rows) for name, rows in learn_rows.items()}
        self.source = ""  # what is read, in a few words: "kafka", "demo fleet", a file's name
        self.joined = False  # the first assignment has come; zero partitions count
        self.connected = False  # Kafka was reached once, and our topics are there
        self.silence_s: Callable[[], float] = lambda: 0.0  # since Kafka last answered
        self.open: dict[str, AlertEvent] = {}  # fingerprint -> newest message
        self.events: deque[tuple[int, AlertEvent]] = deque(maxlen=EVENTS_KEPT)
        self.peaks: dict[str, float] = {}  # fingerprint -> greatest combined score, open and recent
        self.sequence = 0  # of the newest event
        self.opened = 0
        self.started_at = now()
        self._clock, self._now = clock, now
        self._stall_after = stall_after.total_seconds()
        self._beat: float | None = None
        self._closed: deque[str] = deque()  # fingerprints whose peak is still kept
        self._waiting: list[tuple[str, float]] = []  # dependency, since
        self._draining = False
        self._started = False

    # -------------------------------------------------------------- kept by the loop
    def beat(self) -> None:
        """The loop has come round. To be called for every event of the source, empty ones too."""
        self._beat = self._clock()

    @contextmanager
    def waiting_for(self, dependency: str) -> Iterator[None]:
        """While inside, a standstill is the dependency's and not ours: the process stays alive.

        Without it a broker outage would fail the liveness probe and restart the whole fleet.
        """
        wait = (dependency, self._clock())
        self._waiting.append(wait)
        try:
            yield
        finally:
            self._waiting.remove(wait)
            self.beat()

    def drain(self) -> None:
        """SIGTERM has come: not ready from here on."""
        self._draining = True

    def dispositions(self, stream: str, counts: Mapping[Disposition, int]) -> None:
        """What became of a batch's records."""
        records = self.streams[stream].records
        for disposition, n in counts.items():
            records[str(disposition)] = records.get(str(disposition), 0) + n

    def model(
        self,
        stream: str,
        version: str,
        *,
        threshold: float,
        part_thresholds: Mapping[str, float],
        calibration: str = "",
        trained_at: datetime | None = None,
    ) -> None:
        """``version`` judges the stream from now on: it is live."""
        status = self.streams[stream]
        if version != status.model:
            status.imputation = {}
        status.model, status.calibration, status.trained_at = version, calibration, trained_at
        status.threshold, status.part_thresholds = threshold, part_thresholds
        status.state = Lifecycle.LIVE

    def without_model(self, stream: str) -> None:
        """Nothing judges the stream until a model comes."""
        status = self.streams[stream]
        status.model, status.calibration, status.trained_at = None, "", None
        status.imputation = {}
        status.threshold, status.part_thresholds = math.nan, {}

    def promotion(self, stream: str, version: str, result: str, reason: str = "") -> None:
        """How a candidate ended, with the gate's reason."""
        self.streams[stream].models.append(ModelChange(self._now(), version, str(result), reason))

    def published(self, outputs: Iterable[Output]) -> None:
        """Take in alerts, drift and filled rows; needs each output once."""
        for output in outputs:
            if isinstance(output, FilledRow):
                self.streams[output.stream].filled += len(output.cells)
            elif isinstance(output, AlertEvent):
                self.sequence += 1
                self.events.append((self.sequence, output))
                self.opened += output.phase is Phase.OPENED
                if "combined" in output.scores:
                    value = output.scores["combined"].value
                    self.peaks[output.fingerprint] = max(self.peaks.get(output.fingerprint, value), value)
                if output.phase is Phase.CLOSED:
                    self.open.pop(output.fingerprint, None)
                    self._closed.append(output.fingerprint)
                    if (
                        len(self._closed) > EVENTS_KEPT
                        and (oldest := self._closed.popleft()) not in self.open
                    ):
                        self.peaks.pop(oldest, None)
                else:
                    self.open[output.fingerprint] = output
            elif isinstance(output, DriftRecord):
                self.streams[output.stream].drift.append(output)

    def restored_episodes(self, events: Iterable[AlertEvent]) -> None:
        """Episodes that were open before a restart or a rebalance and go on here."""
        for event in events:
            self.open.setdefault(event.fingerprint, event)  # what was said of it here is newer

    def revoked(self, partition: InputPartition) -> None:
        """A partition went to another replica, and its open episodes with it."""
        for key in [key for key, event in self.open.items() if event.partition == partition]:
            del self.open[key]
            self.peaks.pop(key, None)

    # -------------------------------------------------------------- asked by the probes
    @property
    def lifecycle(self) -> Lifecycle:
        """The process as a whole: live once every stream is."""
        if self._draining:
            return Lifecycle.DRAINING
        if not self.started:
            return Lifecycle.STARTING
        live = all(stream.state is Lifecycle.LIVE for stream in self.streams.values())
        return Lifecycle.LIVE if live else Lifecycle.LEARNING

    @property
    def started(self) -> bool:
        """Configuration read and the group joined once; stays true."""
        self._started = self._started or self.joined
        return self._started

    @property
    def obstacles(self) -> list[str]:
        """Why this process is not ready; empty when it is."""
        found = []
        if not self.joined:
            found.append("the consumer group is not joined")
        if not self.connected:
            found.append("Kafka has not been reached yet")
        elif not self.reached:
            found.append(f"Kafka has not answered for {UNREADY_AFTER:.0f} s")
        if self._draining:
            found.append("draining")
        return found

    @property
    def reached(self) -> bool:
        """Whether Kafka answers: it did lately, and nothing has waited long for it."""
        waited = max((self._clock() - since for _, since in self._waiting), default=0.0)
        return self.connected and max(self.silence_s(), waited) < UNREADY_AFTER

    @property
    def beat_age(self) -> float:
        """Seconds since the loop came round; 0 before its first time."""
        return 0.0 if self._beat is None else self._clock() - self._beat

    @property
    def waiting(self) -> str | None:
        """The dependency that has kept the loop waiting for longer than an answer takes."""
        now = self._clock()
        return next((name for name, since in self._waiting if now - since >= WAIT_NOTICED), None)

    @property
    def alive(self) -> bool:
        """False when the loop stands still and nobody else is to blame."""
        return bool(self._waiting) or self.beat_age < self._stall_after

    @property
    def uptime(self) -> timedelta:
        """Since the process began."""
        return self._now() - self.started_at
