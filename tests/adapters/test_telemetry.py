"""Log lines that cannot be forged, metrics that cannot grow, a page's state that stays small."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import math
import re
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.telemetry import (
    ASSETS_KEPT,
    BatchHistogram,
    Lifecycle,
    Metrics,
    Promotion,
    Status,
    Throttle,
    configure_logging,
)
from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    DeadLetter,
    Disposition,
    DriftRecord,
    Dropped,
    FilledCell,
    FilledRow,
    InputPartition,
    Ints,
    PartScore,
    Phase,
    Reason,
    Record,
    Rejected,
    ScoredRow,
    Severity,
)
from daemon.errors import ConfigError
from daemon.stream.drift import Drift
from tests.fakes import CentreDetector

PARTITION = InputPartition("plant.pumps", 3)


def alert(
    phase: Phase = Phase.OPENED,
    *,
    asset: str = "pump-01",
    kind: AlertKind = AlertKind.ANOMALY,
    severity: Severity = Severity.WARNING,
    fingerprint: str = "f1",
) -> AlertEvent:
    return AlertEvent(
        stream="pumps", asset=asset, kind=kind, phase=phase, severity=severity, fingerprint=fingerprint,
        id=f"{fingerprint}-{phase}", row_ns=10 * SECOND_NS, onset_ns=8 * SECOND_NS, opened_ns=9 * SECOND_NS,
        model="5f3a9c1e", calibration="full", summary="", partition=PARTITION,
    )  # fmt: skip


def scored_row(asset: str, score: float) -> ScoredRow:
    return ScoredRow("pumps", asset, 0, score, score, 0.1, score, -3.0, False, "5f3a9c1e")


def drift_record(latent: float = 0.3, residual: float = 0.5) -> DriftRecord:
    return DriftRecord(
        stream="pumps", partition=PARTITION, start_ns=0, end_ns=3600 * SECOND_NS, model="5f3a9c1e", windows=9,
        latent_sum=(0.0, 0.0), latent_square_sum=(1.0, 1.0), residual_count=(9,), residual_sum=(0.0,),
        residual_square_sum=(1.0,), kl_sum=4.0, latent_kl=(latent / 2, latent / 2), residual_kl=(residual,),
        latent_threshold=1.0, residual_threshold=1.0, verdict="ok",
    )  # fmt: skip


def dead_letter(reason: Reason) -> DeadLetter:
    return DeadLetter("pumps", PARTITION, Rejected(Record(1, None, b"{", 0), reason, "x"))


# ------------------------------------------------------------------ logging
@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """A stream to log to; puts the process's logging back as it was."""
    root = logging.getLogger()
    handlers, level, show = root.handlers[:], root.level, warnings.showwarning
    yield io.StringIO()
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)
    warnings.showwarning = show
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


HOSTILE = 'pump\n{"event":"forged"}\r\u2028\u2029\x85\x1b[2J\x00\ud800\u202e'


def test_one_json_line_per_event_whatever_it_holds(lines: io.StringIO) -> None:
    configure_logging("info", "json", lines)
    structlog.get_logger("daemon.runtime.loop").warning(
        HOSTILE, asset=HOSTILE, raw=b"\n", score=math.nan, n=np.int64(3), deep={"a": [HOSTILE, math.inf]}
    )
    text = lines.getvalue()
    assert len(text.splitlines()) == 1
    assert text.isascii()
    event = json.loads(text)
    assert event["event"] == event["asset"] == HOSTILE
    assert event["score"] == "nan"
    assert event["n"] == 3
    assert event["deep"]["a"][1] == "inf"
    assert event["level"] == "warning"
    assert event["logger"] == "daemon.runtime.loop"
    assert datetime.fromisoformat(event["timestamp"]).utcoffset() == timedelta(0)
    assert list(event)[:3] == ["timestamp", "level", "event"]


@given(st.dictionaries(st.text(max_size=8), st.recursive(
    st.none() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
), max_size=4))  # fmt: skip
def test_no_value_breaks_the_line(values: dict[str, object]) -> None:
    from daemon.adapters.telemetry import _bounded

    plain = _bounded(None, "info", {"event": "x", **values})
    line = structlog.processors.JSONRenderer(allow_nan=False)(None, "info", plain)
    assert isinstance(line, str)
    assert len(line.splitlines()) == 1
    json.loads(line)


def test_long_values_are_cut_and_say_so(lines: io.StringIO) -> None:
    configure_logging("info", "json", lines)
    structlog.get_logger().info("x", asset="a" * 10_000, many=list(range(1000)))
    event = json.loads(lines.getvalue())
    assert event["asset"].endswith("(10000 characters)")
    assert len(lines.getvalue()) < 4_000


def test_exceptions_are_structures_without_local_variables(lines: io.StringIO) -> None:
    configure_logging("info", "json", lines)

    def fails() -> None:
        password = "canary-secret"
        raise ValueError(f"bad\nvalue of {len(password)}")

    try:
        fails()
    except ValueError:
        structlog.get_logger().exception("batch_failed")
        logging.getLogger("library").exception("it failed")
    for line in lines.getvalue().splitlines():
        event = json.loads(line)
        assert event["exception"][0]["exc_type"] == "ValueError"
        assert event["exception"][0]["frames"]
    assert len(lines.getvalue().splitlines()) == 2
    assert "canary-secret" not in lines.getvalue()


def test_the_standard_library_takes_the_same_road(lines: io.StringIO) -> None:
    configure_logging("info", "json", lines)
    logging.getLogger("aiokafka.consumer").warning("Group %s gone\nnow", "g1")
    logging.getLogger("aiokafka.consumer").debug("not this")
    warnings.showwarning("old\nway", DeprecationWarning, "x.py", 1)
    first, second = lines.getvalue().splitlines()
    event = json.loads(first)
    assert event["event"] == "Group g1 gone\nnow"
    assert event["logger"] == "aiokafka.consumer"
    assert event["level"] == "warning"
    assert json.loads(second)["logger"] == "py.warnings"


def test_a_library_cannot_flood_the_log_and_our_events_pass(lines: io.StringIO) -> None:
    configure_logging("info", "json", lines)
    for attempt in range(1000):
        logging.getLogger("chatty.library").error("Unable to connect to %s", attempt)
    assert len(lines.getvalue().splitlines()) == 5
    for _ in range(20):
        structlog.get_logger().info("batch_processed")
    assert len(lines.getvalue().splitlines()) == 25


def test_level_and_context(lines: io.StringIO) -> None:
    configure_logging("warning", "json", lines)
    log = structlog.get_logger()
    with structlog.contextvars.bound_contextvars(stream="pumps"):
        log.info("unseen")
        log.error("seen")
    assert [json.loads(line)["stream"] for line in lines.getvalue().splitlines()] == ["pumps"]


def test_console_is_for_people_and_cannot_be_forged(lines: io.StringIO) -> None:
    configure_logging("info", "console", lines)
    structlog.get_logger().info("model\npromoted\x1b[2J", asset=HOSTILE.replace("\ud800", ""))
    assert len(lines.getvalue().splitlines()) == 1
    assert "\x1b" not in lines.getvalue()
    assert "model\\u000apromoted" in lines.getvalue()


@pytest.mark.parametrize("arguments", [("loud", "json"), ("info", "xml")])
def test_what_it_cannot_do_it_refuses(arguments: tuple[str, str], lines: io.StringIO) -> None:
    with pytest.raises(ConfigError, match=r"must be"):
        configure_logging(*arguments, lines)  # type: ignore[arg-type]


def test_throttle_counts_what_it_kept_back() -> None:
    now = 0.0
    throttle = Throttle(timedelta(seconds=10), clock=lambda: now, most=2)
    answers = []
    for now in (0.0, 1.0, 2.0, 10.0, 11.0):  # noqa: B007 - the clock reads it
        answers.append(throttle.admit("a"))
    assert answers == [0, None, None, 2, None]
    assert throttle.admit("b") == 0
    assert throttle.admit("c") == 0  # "a" goes: the memory is bounded
    assert throttle.admit("a") == 0


# ------------------------------------------------------------------ metrics
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
false_alarm_budget_ratio drift_kl_nats episodes_opened_total episodes_suppressed_total episodes_active
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
    metrics.consumed("plant.pumps", 10)
    metrics.rejected("plant.pumps", Reason.NOT_JSON, 2)
    metrics.dispositions("pumps", {Disposition.ACCEPTED: 5, Disposition.LATE: 2, Disposition.DUPLICATE: 1})
    metrics.filled("pumps", 4)
    metrics.scored("pumps", 3, np.array([0.5, 7.0, np.nan]))
    with metrics.inferring(32):
        pass
    metrics.published([
        alert(asset=asset), alert(Phase.UPDATED, asset=asset, severity=Severity.CRITICAL),
        alert(asset=asset, kind=AlertKind.SENSOR_SILENT, fingerprint="f2"),
        drift_record(), dead_letter(Reason.NOT_JSON),
        scored_row(asset, 1.0), FilledRow("pumps", asset, 0, {"p": FilledCell(1, 0, 2)}, "vae", "m"),
    ])  # fmt: skip
    metrics.model("pumps", "5f3a9c1e", datetime(2026, 1, 1, tzinfo=UTC))
    metrics.thresholds("pumps", 5.1, {"kl": 3.0})
    metrics.drift_reference("pumps", "5f3a9c1e", CentreDetector(("p",)).drift)
    metrics.promotion("pumps", Promotion.REFUSED)
    metrics.lag("plant.pumps", 3, 17, 2.5)
    metrics.lifecycle(lambda: Lifecycle.LIVE)
    metrics.dependency("kafka", lambda: True)
    metrics.latency("pumps", np.array([0.02, 0.2]))
    metrics.retrain(12.0)
    metrics.commits("ok")
    metrics.rebalance("assigned", 2)
    metrics.assigned(PARTITION)
    metrics.assets("pumps", 24)
    metrics.dropped("pumps", Dropped.ASSET_EVICTED, 3)
    metrics.processed(0.01)
    metrics.loop_lag(0.001)
    metrics.restored("ok")
    metrics.suppressed("maintenance")
    metrics.budget("pumps", 0.4)


def test_values_arrive(metrics: Metrics) -> None:
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


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.5], [0.9, 0.1]])
def test_the_drift_of_a_stream_is_that_of_all_its_windows_together(
    metrics: Metrics, shares: list[float]
) -> None:
    reference = CentreDetector(("p", "q")).drift
    rng = np.random.default_rng(1)
    posterior, residual = rng.normal(0.7, 0.5, (400, 1)), rng.normal(-0.4, 2.0, (400, 2))
    metrics.drift_reference("pumps", "m", reference)

    def add(number: int, which: Ints, interval: int = 1) -> None:
        drift = Drift("pumps", InputPartition("plant.pumps", number), SECOND_NS, reference, "m")
        rows_ns = np.full(len(which), interval * SECOND_NS)
        drift.add(rows_ns, posterior[which], residual[which], np.zeros(len(which)))
        metrics.published(drift.due(1 << 62))

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
    metrics.drift_reference("pumps", "m2", reference)  # nothing was measured against it yet
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
    metrics.assigned(PARTITION)
    metrics.lag(PARTITION.topic, PARTITION.number, 5)
    metrics.revoked(PARTITION)
    assert active() == 0
    assert not [key for key in samples(metrics) if "consumer_lag_records" in key]
    metrics.revoked(InputPartition("plant.fans", 0))  # one never held: nothing happens
    metrics.restored_episodes([alert(fingerprint="d")])
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


# ------------------------------------------------------------------ status
def test_alive_is_about_the_loop_and_never_about_the_broker() -> None:
    now = 0.0
    status = Status(["pumps"], stall_after=timedelta(seconds=30), clock=lambda: now)
    now = 1000.0
    assert status.alive  # the startup probe's matter
    status.beat()
    now += 29
    assert status.alive
    now += 2
    assert not status.alive
    status.beat()
    with status.waiting_for("kafka"):
        now += 0.1
        assert status.waiting is None  # as for every publish
        now += 3600
        assert status.alive
        assert status.waiting == "kafka"
    assert status.alive  # the wait itself is not held against the loop
    now += 31
    assert not status.alive


def test_kafka_is_unreached_after_half_a_minute_and_reached_again_at_once() -> None:
    now = silence = 0.0
    status = Status(["pumps"], clock=lambda: now)
    status.silence_s = lambda: silence
    assert not status.reached
    status.joined = status.connected = True
    assert status.obstacles == []
    silence = 29.9
    assert status.obstacles == []
    silence = 30.0
    assert status.obstacles == ["Kafka has not answered for 30 s"]
    assert status.alive
    silence = 0.0  # others answer; the output that the loop waits for does not get there
    with status.waiting_for("kafka"):
        now = 29.9
        assert status.reached
        now = 30.0
        assert status.obstacles == ["Kafka has not answered for 30 s"]
    assert status.obstacles == []


def test_lifecycle_and_readiness() -> None:
    status = Status({"pumps": 500, "fans": 500})
    assert str(status.lifecycle) == "starting"
    assert len(status.obstacles) == 2
    status.joined = status.connected = True
    assert str(status.lifecycle) == "learning"
    assert status.obstacles == []
    status.model("pumps", "5f3a9c1e", threshold=5.0, part_thresholds={})
    assert str(status.lifecycle) == "learning"
    status.model("fans", "77aa0000", threshold=4.0, part_thresholds={})
    assert str(status.lifecycle) == "live"
    status.joined = False  # a rebalance: not ready, yet started
    assert status.started
    assert status.obstacles
    status.drain()
    assert str(status.lifecycle) == "draining"
    assert "draining" in status.obstacles


def test_a_million_assets_stay_fifty_and_the_alarming_ones_are_kept() -> None:
    status = Status(["pumps"])
    status.model("pumps", "5f3a9c1e", threshold=5.0, part_thresholds={})
    pumps = status.streams["pumps"]
    assets = [f"a{n}" for n in range(2_000)]
    scores = 0.5 + (np.arange(2_000) % 7) / 10
    for row in range(3):
        times, quiet = np.full(2_000, row * SECOND_NS), np.zeros(2_000, bool)
        pumps.scored_rows(assets, np.arange(2_000), times, scores, quiet)
    late = np.full(3, 4 * SECOND_NS)
    scores, alarms = np.array([7.0, 25.0, math.nan]), np.array([False, True, False])
    pumps.scored_rows(["hot", "hot", "unscored"], np.array([3, 3, 9]), late, scores, alarms)
    tracks = pumps.tracks
    assert len(tracks) == ASSETS_KEPT
    assert "hot" in tracks
    assert tracks["hot"].alarm
    assert list(tracks["hot"].scores) == [25.0]  # the highest of a batch stands for all
    assert pumps.scored == 3 * 2_000 + 2


def test_events_and_open_episodes() -> None:
    status = Status(["pumps"])
    status.published([alert(fingerprint=str(n)) for n in range(500)])
    assert len(status.peaks) == 0  # these carry no score
    assert len(status.events) == 200
    assert status.events[-1][0] == 500
    assert len(status.open) == 500
    status.published([alert(Phase.CLOSED, fingerprint=str(n)) for n in range(499)])
    assert list(status.open) == ["499"]
    status.revoked(PARTITION)
    assert not status.open
    status.restored_episodes([alert()])
    assert len(status.open) == 1
    assert status.opened == 500


def test_an_episode_is_remembered_by_its_peak() -> None:
    status = Status(["pumps"])
    for phase, score in ((Phase.OPENED, 6.0), (Phase.UPDATED, 9.0), (Phase.CLOSED, 2.0)):
        event = dataclasses.replace(alert(phase), scores={"combined": PartScore(score, 5.0)})
        status.published([event])
    assert status.peaks == {"f1": 9.0}
    scores = {"combined": PartScore(1.0, 5.0)}
    for n in range(1_000):  # however many come and go
        closed = alert(Phase.CLOSED, fingerprint=str(n))
        status.published([dataclasses.replace(closed, scores=scores)])
    assert len(status.peaks) <= 200
    status.published([dataclasses.replace(alert(), scores=scores)])
    status.revoked(PARTITION)
    assert "f1" not in status.peaks
