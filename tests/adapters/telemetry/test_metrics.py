"""Metrics: every series, and nothing from the data that could add another."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.telemetry import (
    BatchHistogram,
    Lifecycle,
    Metrics,
    Promotion,
)
from daemon.domain import (
    SECOND_NS,
    AlertKind,
    Disposition,
    Dropped,
    FilledCell,
    FilledRow,
    InputPartition,
    Ints,
    Phase,
    Reason,
    Severity,
)
from daemon.drifting import FleetDrift
from daemon.stream.drift import Drift
from daemon.stream.summands import Summands
from tests.adapters.telemetry.outputs import PARTITION, alert, dead_letter, drift_record, scored_row
from tests.fakes import CentreDetector


def samples(metrics: Metrics) -> dict[str, float]:
    """The exposition, series -> value."""
    found = {}
    for line in metrics.exposition().decode().splitlines():
        if not line.startswith("#"):
            series, value = line.rsplit(" ", 1)
            found[series] = float(value)
    return found


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(["pumps", "fans"], ["plant.pumps", "plant.fans"])


LISTED = """build_info lifecycle_state dependency_up records_consumed_total records_rejected_total
dead_letters_total consumer_lag_records consumer_lag_seconds consumer_assigned_partitions
consumer_rebalances_total offset_commits_total readings_imputed_total readings_late_total
windows_scored_total inference_duration_seconds inference_batch_size anomaly_score threshold
false_alarm_budget_ratio drift_kl_nats drift_assets episodes_opened_total episodes_suppressed_total episodes_active
sensors_silent model_info http_refused_total
model_trained_timestamp_seconds model_promotions_total retrain_duration_seconds
end_to_end_latency_seconds processing_latency_seconds event_loop_lag_seconds state_restores_total
imputation_audits_total imputation_error imputation_coverage imputation_skill imputation_possible
assets_active""".split()  # noqa: SIM905 - a column of 40 literals reads worse


def test_every_documented_metric_exists(metrics: Metrics) -> None:
    families = re.findall(r"^# TYPE (\S+)", metrics.exposition().decode(), re.MULTILINE)
    assert {f"anomalyd_{name}" for name in LISTED} <= set(families)
    assert "process_resident_memory_bytes" in families
    assert not [name for name in families if name.endswith("_created")]
    assert all(name.startswith(("anomalyd_", "process_")) for name in families)


def test_label_sets_exist_before_anything_happened(metrics: Metrics) -> None:
    found = samples(metrics)
    for stream in ("pumps", "fans"):
        for kind in AlertKind:
            for severity in Severity:
                labels = f'kind="{kind}",severity="{severity}",stream="{stream}"'
                assert found[f"anomalyd_episodes_opened_total{{{labels}}}"] == 0
        for disposition in Disposition:
            labels = f'disposition="{disposition}",stream="{stream}"'
            assert found[f"anomalyd_readings_total{{{labels}}}"] == 0
        for result in Promotion:
            assert found[f'anomalyd_model_promotions_total{{result="{result}",stream="{stream}"}}'] == 0
        assert found[f'anomalyd_anomaly_score_bucket{{le="+Inf",stream="{stream}"}}'] == 0
        assert math.isnan(found[f'anomalyd_threshold{{score="combined",stream="{stream}"}}'])
        assert math.isnan(found[f'anomalyd_model_trained_timestamp_seconds{{stream="{stream}"}}'])
    for reason in Reason:
        assert found[f'anomalyd_dead_letters_total{{reason="{reason}"}}'] == 0
        assert found[f'anomalyd_records_rejected_total{{reason="{reason}",topic="plant.fans"}}'] == 0
    assert found['anomalyd_lifecycle_state{state="starting"}'] == 1
    assert math.isnan(found['anomalyd_dependency_up{dependency="kafka"}'])


def exercise(metrics: Metrics, asset: str) -> None:
    metrics.consumer.consumed("plant.pumps", 10)
    metrics.consumer.rejected("plant.pumps", Reason.NOT_JSON, 2)
    metrics.readings.dispositions(
        "pumps", {Disposition.ACCEPTED: 5, Disposition.LATE: 2, Disposition.DUPLICATE: 1}
    )
    metrics.readings.filled("pumps", 4)
    metrics.readings.scored("pumps", 3, np.array([0.5, 7.0, np.nan]))
    with metrics.readings.inferring(32):
        pass
    metrics.published([
        alert(asset=asset), alert(Phase.UPDATED, asset=asset, severity=Severity.CRITICAL),
        alert(asset=asset, kind=AlertKind.SENSOR_SILENT, fingerprint="f2"),
        drift_record(), dead_letter(Reason.NOT_JSON),
        scored_row(asset, 1.0), FilledRow("pumps", asset, 0, {"p": FilledCell(1, 0, 2)}, "vae", "m"),
    ])  # fmt: skip
    metrics.models.model("pumps", "5f3a9c1e", datetime(2026, 1, 1, tzinfo=UTC))
    metrics.models.thresholds("pumps", 5.1, {"kl": 3.0})
    metrics.models.drift_reference("pumps", "5f3a9c1e", CentreDetector(("p",)).drift)
    metrics.models.promotion("pumps", Promotion.REFUSED)
    metrics.consumer.lag("plant.pumps", 3, 17, 2.5)
    metrics.process.lifecycle(lambda: Lifecycle.LIVE)
    metrics.process.dependency("kafka", lambda: True)
    metrics.consumer.latency("pumps", np.array([0.02, 0.2]))
    metrics.models.retrain(12.0)
    metrics.consumer.commits("ok")
    metrics.consumer.rebalance("assigned", 2)
    metrics.consumer.assigned(PARTITION)
    metrics.readings.assets("pumps", 24)
    metrics.readings.dropped("pumps", Dropped.ASSET_EVICTED, 3)
    metrics.consumer.processed(0.01)
    metrics.process.loop_lag(0.001)
    metrics.consumer.restored("ok")
    metrics.episodes.suppressed("maintenance")
    metrics.episodes.budget("pumps", 0.4)


def test_reported_values_are_exposed(metrics: Metrics) -> None:
    exercise(metrics, "pump-01")
    found = samples(metrics)
    expected = {
        'records_consumed_total{topic="plant.pumps"}': 10,
        'records_rejected_total{reason="not_json",topic="plant.pumps"}': 2,
        'dead_letters_total{reason="not_json"}': 1,
        'readings_total{disposition="accepted",stream="pumps"}': 5,
        'readings_late_total{stream="pumps"}': 2,
        'readings_imputed_total{stream="pumps"}': 4,
        'windows_scored_total{stream="pumps"}': 3,
        'anomaly_score_bucket{le="0.5",stream="pumps"}': 1,
        'anomaly_score_bucket{le="6.0",stream="pumps"}': 1,
        'anomaly_score_bucket{le="8.0",stream="pumps"}': 2,
        'anomaly_score_count{stream="pumps"}': 2,
        'anomaly_score_sum{stream="pumps"}': 7.5,
        "inference_batch_size_sum": 32,
        'episodes_opened_total{kind="anomaly",severity="warning",stream="pumps"}': 1,
        'episodes_active{severity="critical"}': 1,
        'episodes_active{severity="warning"}': 1,
        'sensors_silent{stream="pumps"}': 1,
        'model_info{stream="pumps",version="5f3a9c1e"}': 1,
        'model_trained_timestamp_seconds{stream="pumps"}': 1767225600,
        'threshold{score="combined",stream="pumps"}': 5.1,
        'threshold{score="kl",stream="pumps"}': 3.0,
        'model_promotions_total{result="refused",stream="pumps"}': 1,
        'consumer_lag_records{partition="3",topic="plant.pumps"}': 17,
        'consumer_lag_seconds{partition="3",topic="plant.pumps"}': 2.5,
        'consumer_assigned_partitions{topic="plant.pumps"}': 1,
        'lifecycle_state{state="live"}': 1,
        'lifecycle_state{state="starting"}': 0,
        'dependency_up{dependency="kafka"}': 1,
        'end_to_end_latency_seconds_count{stream="pumps"}': 2,
        'assets_active{stream="pumps"}': 24,
        'dropped_total{reason="asset_evicted",stream="pumps"}': 3,
        'false_alarm_budget_ratio{stream="pumps"}': 0.4,
    }
    assert {key: found[f"anomalyd_{key}"] for key in expected} == pytest.approx(expected)
    assert 'anomalyd_model_info{stream="pumps",version="none"}' not in found


def test_drifting_assets_are_counted_over_all_partitions(metrics: Metrics) -> None:
    reference = CentreDetector(("p",)).drift
    metrics.models.drift_reference("pumps", "m", reference)
    for number, drifting in ((0, 2), (1, 3), (1, 1)):
        record = replace(
            drift_record(),
            partition=InputPartition("plant.pumps", number),
            model="m",
            fleet=FleetDrift(40, drifting),
        )
        metrics.published([record])
    assert samples(metrics)['anomalyd_drift_assets{stream="pumps"}'] == 3
    metrics.revoked(InputPartition("plant.pumps", 1))
    assert samples(metrics)['anomalyd_drift_assets{stream="pumps"}'] == 2


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.5], [0.9, 0.1]])
def test_the_drift_of_a_stream_is_that_of_all_its_windows_together(
    metrics: Metrics, shares: list[float]
) -> None:
    reference = CentreDetector(("p", "q")).drift
    rng = np.random.default_rng(1)
    posterior, residual = rng.normal(0.7, 0.5, (400, 1)), rng.normal(-0.4, 2.0, (400, 2))
    metrics.models.drift_reference("pumps", "m", reference)

    def add(number: int, which: Ints, interval: int = 1) -> None:
        drift = Drift("pumps", InputPartition("plant.pumps", number), SECOND_NS, reference, "m")
        rows_ns = np.full(len(which), interval * SECOND_NS)
        nothing = np.zeros((len(which), 2))
        windows = Summands(
            np.arange(len(which)),
            np.zeros(len(which), np.int64),
            rows_ns,
            posterior[which],
            residual[which],
            np.zeros(len(which)),
            nothing,
            nothing,
            np.zeros(len(which), bool),
            np.zeros(len(which), bool),
        )
        drift.add(windows)
        metrics.published(drift.end_intervals(1 << 62))

    def shown() -> list[float]:
        found = samples(metrics)
        return [found[f'anomalyd_drift_kl_nats{{kind="{k}",stream="pumps"}}'] for k in ("latent", "residual")]

    add(0, np.arange(400))
    expected = shown()
    assert all(value > 0.1 for value in expected)
    metrics.revoked(InputPartition("plant.pumps", 0))
    assert all(map(math.isnan, shown()))
    parts = np.split(rng.permutation(400), np.cumsum([int(400 * share) for share in shares])[:-1])
    for number, which in enumerate(parts):
        # In two goes: rows that come after their interval was published make another record for it.
        add(number, which[:30])
        add(number, which[30:])
    assert shown() == pytest.approx(expected)
    add(len(shares), np.arange(50), interval=5)  # the others have been idle for longer than an interval
    assert shown() != pytest.approx(expected, rel=1e-3)
    metrics.models.drift_reference("pumps", "m2", reference)  # nothing was measured against it yet
    assert all(map(math.isnan, shown()))


def test_an_asset_is_never_a_label(metrics: Metrics) -> None:
    before = len(samples(metrics))
    for number in range(200):
        exercise(metrics, f"canary-{number}")
    text = metrics.exposition().decode()
    assert "canary" not in text
    assert len(samples(metrics)) <= before + 2  # the lag of one partition


def test_an_episode_is_active_until_it_closes_or_leaves(metrics: Metrics) -> None:
    def active() -> float:
        found = samples(metrics)
        return sum(v for k, v in found.items() if k.startswith("anomalyd_episodes_active"))

    metrics.published([alert(fingerprint="a"), alert(fingerprint="b"), alert(fingerprint="c")])
    assert active() == 3
    metrics.published([alert(Phase.CLOSED, fingerprint="a"), alert(Phase.CLOSED, fingerprint="never seen")])
    assert active() == 2
    metrics.consumer.assigned(PARTITION)
    metrics.consumer.lag(PARTITION.topic, PARTITION.number, 5)
    metrics.revoked(PARTITION)
    assert active() == 0
    assert not [key for key in samples(metrics) if "consumer_lag_records" in key]
    metrics.revoked(InputPartition("plant.fans", 0))  # one never held: nothing happens
    metrics.episodes.restored([alert(fingerprint="d")])
    assert active() == 1


@given(st.lists(st.floats(-5, 50) | st.just(math.nan) | st.sampled_from([1.0, 2.0, 4.0]), max_size=40))
def test_batch_histogram_counts_as_one_by_one(values: list[float]) -> None:
    edges = (1.0, 2.0, 4.0)
    histogram = BatchHistogram("h", "", "stream", ["s"], edges)
    histogram.observe("s", np.array(values))
    (family,) = histogram.collect()
    counted = {s.labels["le"]: s.value for s in family.samples if s.name == "h_bucket"}
    real = [v for v in values if not math.isnan(v)]
    assert counted == {
        **{str(edge): sum(v <= edge for v in real) for edge in edges},
        "+Inf": len(real),
    }


def test_quiet_episodes_are_not_active(metrics: Metrics) -> None:
    metrics.published([alert(), alert(kind=AlertKind.DEVIATION, fingerprint="f2")])
    quiet = replace(alert(Phase.UPDATED), parts=(), ended_ns=9 * SECOND_NS)
    assert samples(metrics)['anomalyd_episodes_active{severity="warning"}'] == 2
    metrics.published([quiet])
    assert samples(metrics)['anomalyd_episodes_active{severity="warning"}'] == 1
    metrics.published([alert(Phase.UPDATED)])
    assert samples(metrics)['anomalyd_episodes_active{severity="warning"}'] == 2
