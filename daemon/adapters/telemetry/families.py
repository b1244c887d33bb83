"""Every metric family of the process, in the order in which /metrics lists them.

``FAMILIES`` is the one table of names, help texts, labels and buckets. A label's values are either fixed
(reasons, severities ...), or they come from the configuration (``Given``). Assets are never labels, so the
number of series follows from the configuration and not from the data.

Series exist from the start wherever their labels are known then: a counter that appears with its first
increment hides that increment from ``rate()``. A gauge that nobody has set yet is NaN where zero would be a
claim.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from daemon import __version__
from daemon.adapters.telemetry.labels import (
    BUNDLE_SOURCES,
    COMMIT_RESULTS,
    DRIFT_KINDS,
    NO_VERSION,
    REBALANCE_EVENTS,
    RESTORE_RESULTS,
    SCHEMA_RESULTS,
    SCORE_PARTS,
    SHADOW_EPISODES,
    SUPPRESSED_REASONS,
    HttpRefusal,
    Lifecycle,
    Promotion,
)
from daemon.domain import AlertKind, Disposition, Dropped, Reason, Severity
from daemon.model.faults import FaultKind
from daemon.stream.accounts import CellState
from daemon.stream.dismissal import Effect

SECONDS_FINE: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SECONDS_LONG: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
SECONDS_TRAINING: Final = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
BATCH_SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
SCORES: Final = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 50.0, 100.0)

LIFECYCLES: Final = tuple(map(str, Lifecycle))
REASONS: Final = tuple(map(str, Reason))
SEVERITIES: Final = tuple(map(str, Severity))
ALERT_KINDS: Final = tuple(map(str, AlertKind))
FAULTS: Final = tuple(map(str, FaultKind))


class Kind(Enum):
    """What a family is made of."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    DISTRIBUTION = "distribution"  # a ``BatchHistogram``


class Given(Enum):
    """Values of a label that are known only when the metrics are made."""

    STREAMS = "streams"
    TOPICS = "topics"
    DEPENDENCIES = "dependencies"
    LATER = "later"  # not even then: such a family starts without series


Labels = Mapping[str, Given | Sequence[str]]
"""Label -> its values at the start."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family; ``anomalyd_`` goes before its name."""

    kind: Kind
    name: str
    help: str
    labels: Labels = field(default_factory=dict)
    value: float = math.nan  # of a gauge's series at the start
    buckets: Sequence[float] = ()


PER_TOPIC: Final = {"topic": Given.TOPICS}
PER_PARTITION: Final = {"topic": Given.LATER, "partition": Given.LATER}
PER_STREAM: Final = {"stream": Given.STREAMS}
PER_SENSOR: Final = {"stream": Given.LATER, "sensor": Given.LATER}
PER_ALERT: Final[Labels] = {"stream": Given.STREAMS, "severity": SEVERITIES, "kind": ALERT_KINDS}
PER_FAULT: Final[Labels] = {"stream": Given.STREAMS, "kind": FAULTS}

FAMILIES: Final = (
    Family(
        Kind.GAUGE, "build_info", "Constant 1; the version that runs.", {"version": (__version__,)}, value=1.0
    ),
    Family(
        Kind.GAUGE, "lifecycle_state", "1 for the state the process is in.", {"state": LIFECYCLES}, value=0.0
    ),
    Family(
        Kind.GAUGE,
        "dependency_up",
        "1 while the dependency answers, 0 before it first did and after 30 s without an answer.",
        {"dependency": Given.DEPENDENCIES},
    ),
    Family(Kind.COUNTER, "records_consumed_total", "Records read from the input.", PER_TOPIC),
    Family(
        Kind.COUNTER,
        "records_rejected_total",
        "Records that could not be used.",
        {"topic": Given.TOPICS, "reason": REASONS},
    ),
    Family(
        Kind.COUNTER, "dead_letters_total", "Records handed to the dead-letter topic.", {"reason": REASONS}
    ),
    Family(Kind.GAUGE, "consumer_lag_records", "Records behind the log's end.", PER_PARTITION),
    Family(
        Kind.GAUGE, "consumer_lag_seconds", "Age of the newest processed record, while behind.", PER_PARTITION
    ),
    Family(Kind.GAUGE, "consumer_assigned_partitions", "Partitions held now.", PER_TOPIC, value=0.0),
    Family(
        Kind.COUNTER,
        "consumer_rebalances_total",
        "Partitions assigned and revoked; a failed transaction revokes and assigns its partitions anew.",
        {"event": REBALANCE_EVENTS},
    ),
    Family(
        Kind.COUNTER,
        "schema_requests_total",
        "Schemas asked for: found; absent, so that records are rejected; failed, so that the loop waits.",
        {"result": SCHEMA_RESULTS},
    ),
    Family(Kind.COUNTER, "offset_commits_total", "Offset commits.", {"result": COMMIT_RESULTS}),
    Family(
        Kind.COUNTER,
        "readings_total",
        "Records of a stream by what became of them.",
        {"stream": Given.STREAMS, "disposition": tuple(map(str, Disposition))},
    ),
    Family(
        Kind.COUNTER,
        "skipped_total",
        "Records that are no readings and no faults, by the rule of the stream's mapping that says so.",
        {"stream": Given.STREAMS, "rule": Given.LATER},
    ),
    Family(
        Kind.COUNTER,
        "skipped_items_total",
        "Parts of records that are no readings and no faults, by rule, in records with others.",
        {"stream": Given.STREAMS, "rule": Given.LATER},
    ),
    Family(
        Kind.COUNTER,
        "refused_items_total",
        "Parts of records that could not be used, in records that could.",
        {"stream": Given.STREAMS, "reason": REASONS},
    ),
    Family(
        Kind.COUNTER,
        "cells_total",
        "Values of records, one per sensor, by what became of them.",
        {"stream": Given.STREAMS, "state": tuple(map(str, CellState))},
    ),
    Family(
        Kind.COUNTER,
        "corrupt_cells_total",
        "Cells that stand for no number, by sensor and by what they are instead.",
        {"stream": Given.LATER, "sensor": Given.LATER, "fault": Given.LATER},
    ),
    Family(Kind.COUNTER, "readings_imputed_total", "Cells filled in.", PER_STREAM),
    Family(
        Kind.COUNTER,
        "imputation_audits_total",
        "Known readings that were hidden, to see how they are filled.",
        PER_SENSOR,
    ),
    Family(
        Kind.GAUGE,
        "imputation_error",
        "Mean absolute error of newly hidden readings, in the sensor's units.",
        PER_SENSOR,
    ),
    Family(
        Kind.GAUGE,
        "imputation_coverage",
        "Share of newly hidden readings inside their 90 % interval.",
        PER_SENSOR,
    ),
    Family(
        Kind.GAUGE,
        "imputation_skill",
        "1 - the error of newly hidden readings over that of the training mean; 0: no better.",
        PER_SENSOR,
    ),
    Family(
        Kind.GAUGE,
        "imputation_possible",
        "1 while a sensor's gaps are filled with more than its usual level, 0 while they are not.",
        PER_SENSOR,
    ),
    Family(Kind.COUNTER, "readings_late_total", "Records older than their asset's watermark.", PER_STREAM),
    Family(
        Kind.COUNTER,
        "dropped_total",
        "What was left out on purpose, by reason.",
        {"stream": Given.STREAMS, "reason": tuple(map(str, Dropped))},
    ),
    Family(Kind.COUNTER, "windows_scored_total", "Windows with a score.", PER_STREAM),
    Family(
        Kind.HISTOGRAM,
        "inference_duration_seconds",
        "Time the model took for one batch of windows.",
        buckets=SECONDS_FINE,
    ),
    Family(Kind.HISTOGRAM, "inference_batch_size", "Windows per batch.", buckets=BATCH_SIZES),
    Family(
        Kind.DISTRIBUTION,
        "anomaly_score",
        "Combined scores; higher is more anomalous.",
        PER_STREAM,
        buckets=SCORES,
    ),
    Family(
        Kind.GAUGE,
        "threshold",
        "The value above which a score alone is alarming.",
        {"stream": Given.STREAMS, "score": SCORE_PARTS},
    ),
    Family(
        Kind.GAUGE,
        "false_alarm_budget_ratio",
        "Anomaly episodes opened over those the budget allows, since this process started.",
        PER_STREAM,
    ),
    Family(
        Kind.GAUGE,
        "drift_kl_nats",
        "KL of the newest interval against training, in nats, over all partitions held here together.",
        {"stream": Given.STREAMS, "kind": DRIFT_KINDS},
    ),
    Family(
        Kind.GAUGE,
        "drift_assets",
        "Assets held here that are beyond the drift thresholds of their own, in the newest interval.",
        PER_STREAM,
    ),
    Family(Kind.COUNTER, "episodes_opened_total", "Episodes opened.", PER_ALERT),
    Family(
        Kind.COUNTER, "episodes_closed_total", "Episodes closed, by the severity they ended with.", PER_ALERT
    ),
    Family(
        Kind.COUNTER, "episodes_suppressed_total", "Episodes not announced.", {"reason": SUPPRESSED_REASONS}
    ),
    Family(
        Kind.COUNTER,
        "verdicts_total",
        "Verdicts of people by what they did in a partition; unknown: it remembers no such episode.",
        {"effect": tuple(effect.value for effect in Effect)},
    ),
    Family(Kind.COUNTER, "control_messages_refused_total", "Control messages that cannot be used."),
    Family(
        Kind.GAUGE,
        "episodes_active",
        "Episodes open now, without those of which nothing is open at the moment.",
        {"severity": SEVERITIES},
        value=0.0,
    ),
    Family(Kind.GAUGE, "sensors_silent", "Sensors that are silent now.", PER_STREAM, value=0.0),
    Family(
        Kind.GAUGE,
        "model_info",
        "Constant 1; the model version in use.",
        {"stream": Given.STREAMS, "version": (NO_VERSION,)},
        value=1.0,
    ),
    Family(
        Kind.GAUGE,
        "model_trained_timestamp_seconds",
        "Event time of the newest row that the model in use was trained on.",
        PER_STREAM,
    ),
    Family(
        Kind.COUNTER,
        "model_promotions_total",
        "How candidate models ended.",
        {"stream": Given.STREAMS, "result": tuple(map(str, Promotion))},
    ),
    Family(
        Kind.COUNTER,
        "shadow_windows_total",
        "Windows that a candidate in shadow has judged, too.",
        PER_STREAM,
    ),
    Family(
        Kind.COUNTER,
        "shadow_episodes_total",
        "Episodes of candidates in shadow, of the model in use beside them, and those that both have.",
        {"stream": Given.STREAMS, "of": SHADOW_EPISODES},
    ),
    Family(
        Kind.COUNTER,
        "bundle_refused_total",
        "Models that were not used, and records of the models topic that could not be.",
        {"source": BUNDLE_SOURCES},
    ),
    Family(
        Kind.HISTOGRAM,
        "retrain_duration_seconds",
        "Time from the start of a training to its candidate.",
        buckets=SECONDS_TRAINING,
    ),
    Family(
        Kind.DISTRIBUTION,
        "end_to_end_latency_seconds",
        "From a record's Kafka timestamp until what follows from it can be read.",
        PER_STREAM,
        buckets=SECONDS_LONG,
    ),
    Family(
        Kind.HISTOGRAM,
        "processing_latency_seconds",
        "From a batch's arrival until what follows from it can be read.",
        buckets=SECONDS_FINE,
    ),
    Family(
        Kind.GAUGE,
        "event_loop_lag_seconds",
        "The latest that the event loop came back to a timer during the last minute.",
        {},
        value=0.0,
    ),
    Family(
        Kind.COUNTER,
        "state_restores_total",
        "Partitions whose state was rebuilt; unusable: records of it that were left out.",
        {"result": RESTORE_RESULTS},
    ),
    Family(Kind.GAUGE, "assets_active", "Assets that have state here.", PER_STREAM, value=0.0),
    Family(
        Kind.COUNTER,
        "http_refused_total",
        "Requests that the admin port refused, and connections that it closed before their time.",
        {"reason": tuple(map(str, HttpRefusal))},
    ),
    Family(
        Kind.COUNTER,
        "drill_faults_total",
        "Faults that the fire drill injected into copies of normal rows, by whether they were found.",
        {"stream": Given.STREAMS, "kind": FAULTS, "found": ("true", "false")},
    ),
    Family(
        Kind.GAUGE,
        "drill_recall",
        "Share found of the newest 1000 injected faults of a kind, all sizes of the ladder together.",
        PER_FAULT,
    ),
    Family(
        Kind.GAUGE,
        "drill_delay_seconds",
        "Median event time from the beginning of an injected fault to its alert, of those found.",
        PER_FAULT,
    ),
    Family(
        Kind.GAUGE,
        "drill_smallest_size",
        "Smallest injected fault of which 80 % are found, in the sensor's own units; of a lag in seconds.",
        {"stream": Given.LATER, "sensor": Given.LATER, "kind": Given.LATER},
    ),
    Family(Kind.COUNTER, "drill_cpu_seconds_total", "CPU time that the fire drill took.", PER_STREAM),
)


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


class Families:
    """The families of one process, made in the order of ``FAMILIES`` and found by name.

    Args:
        registry: where they are registered.
        given: the configured values of labels.
    """

    def __init__(self, registry: CollectorRegistry, given: Mapping[Given, Sequence[str]]) -> None:
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._distributions: dict[str, BatchHistogram] = {}
        for family in FAMILIES:
            name, labels = f"anomalyd_{family.name}", list(family.labels)
            values = [given.get(v, ()) if isinstance(v, Given) else v for v in family.labels.values()]
            match family.kind:
                case Kind.COUNTER:
                    counter = Counter(name, family.help, labels, registry=registry)
                    for series in product(*values) if labels else ():
                        counter.labels(*series)
                    self._counters[family.name] = counter
                case Kind.GAUGE:
                    gauge = Gauge(name, family.help, labels, registry=registry)
                    for series in product(*values):
                        (gauge.labels(*series) if labels else gauge).set(family.value)
                    self._gauges[family.name] = gauge
                case Kind.HISTOGRAM:
                    self._histograms[family.name] = Histogram(
                        name, family.help, buckets=family.buckets, registry=registry
                    )
                case Kind.DISTRIBUTION:
                    distribution = BatchHistogram(name, family.help, labels[0], values[0], family.buckets)
                    registry.register(distribution)
                    self._distributions[family.name] = distribution

    def counter(self, name: str) -> Counter:
        """The counter of this name."""
        return self._counters[name]

    def gauge(self, name: str) -> Gauge:
        """The gauge of this name."""
        return self._gauges[name]

    def histogram(self, name: str) -> Histogram:
        """The histogram of this name."""
        return self._histograms[name]

    def distribution(self, name: str) -> BatchHistogram:
        """The histogram of this name that takes whole arrays."""
        return self._distributions[name]
