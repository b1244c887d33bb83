"""Every series is moved here by the code that moves it in the daemon, or is listed as moved elsewhere.

``moves`` names the series that a test moves, and sees that it did. The last test goes through all
series that exist: one that nothing moves would mislead whoever reads it.
"""

from __future__ import annotations

import asyncio
import functools
import json
import math
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from daemon.adapters.kafka import KafkaStats
from daemon.adapters.telemetry import SCORE_PARTS, IngestedPoll, Metrics, Reporter, Status
from daemon.adapters.telemetry.labels import SHADOW_EPISODES
from daemon.alert import ShadowCounts
from daemon.budget import Budget
from daemon.commands.run import counts_reported
from daemon.config import HttpSection
from daemon.config.presets import CUSTOM, mapping_of
from daemon.detector import Evidence, Windows
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    Assigned,
    Dropped,
    InputPartition,
    ModelSettings,
    PartitionCommit,
    PolledRecords,
    Record,
    Revoked,
    Segment,
    SourceEvent,
    StateRecord,
)
from daemon.maintenance import MaintenanceWindow
from daemon.model.bundle import Bundle
from daemon.model.training import CalibrationTarget, train
from daemon.runtime.admin_port import admin_port
from daemon.runtime.fire_drill import FireDrill
from daemon.runtime.loop import Loop
from daemon.runtime.models import Models
from daemon.runtime.options import LoopOptions
from daemon.runtime.stream_run import StreamPlan, StreamRun
from daemon.runtime.trainer import TrainingResult
from daemon.stream.accounts import CellState
from daemon.stream.audit import Imputable, SensorAudit
from daemon.stream.dismissal import Effect
from tests.fakes import CentreDetector
from tests.runtime.scripted import BASE_S, PUMPS_0, SPEC, FailingRegistry, Fragile, Script, line, steady
from tests.runtime.test_drift_watch import interval
from tests.stream.pipelines import SPARKPLUG

MOVED: dict[str, str] = {}
"""Series (a family, or one with its labels) -> the test that moves it."""
ELSEWHERE = {
    # what -> the test with what it takes: a real server, a real broker
    'http_refused_total{reason="slow"}': "tests/adapters/admin/test_server.py::test_no_single_byte_puts_a_deadline_off",
    'http_refused_total{reason="body"}': (
        "tests/adapters/admin/test_server.py::test_a_body_that_will_be_refused_is_not_read"
    ),
    'http_refused_total{reason="forged"}': (
        "tests/adapters/admin/test_control.py::test_only_the_page_itself_may_tell_it"
    ),
    'http_refused_total{reason="token"}': (
        "tests/adapters/admin/test_control.py::test_without_the_token_nothing_is_told"
    ),
    'http_refused_total{reason="crowded"}': (
        "tests/adapters/admin/test_server.py::test_it_is_the_oldest_idle_connection_that_makes_room"
    ),
    'schema_requests_total{result="found"}': (
        "tests/runtime/test_schema_supply.py::test_records_are_read_by_the_schemas_of_the_registry"
    ),
    'schema_requests_total{result="absent"}': (
        "tests/runtime/test_schema_supply.py::test_records_are_read_by_the_schemas_of_the_registry"
    ),
    'schema_requests_total{result="failed"}': (
        "tests/runtime/test_schema_supply.py::test_an_outage_is_waited_out_and_nothing_is_lost"
    ),
}
CONSTANT = {"build_info", "model_info"}
"""``model_info`` is 1 for whatever version is in use; its label moves."""
OF_THE_DOMAIN = {
    "records_rejected_total": "reason",
    "dead_letters_total": "reason",
    "episodes_opened_total": "severity|kind",
    "episodes_closed_total": "severity|kind",
    "episodes_active": "severity",
    "readings_total": "disposition",
    "refused_items_total": "reason",
    "cells_total": "state",
    "drill_faults_total": "kind|found",
    "drill_recall": "kind",
    "drill_delay_seconds": "kind",
}
"""Families one of whose series stands for all: their labels are the domain's, and come to them unchanged."""


def samples(metrics: Metrics) -> dict[str, float]:
    """Series, without stream, topic and partition, -> value."""
    found: dict[str, float] = {}
    for text in metrics.exposition().decode().splitlines():
        if text.startswith("anomalyd_"):
            series, value = text.removeprefix("anomalyd_").rsplit(" ", 1)
            series = re.sub(r'(?<=[{,])(stream|topic|partition)="[^"]*",?', "", series)
            found[series.replace(",}", "}").replace("{}", "")] = float(value)
    return found


def fresh() -> Metrics:
    return Metrics(["pumps"], ["sensors.pumps"])


def moves(*series: str) -> Callable[[Callable[..., Awaitable[Metrics]]], Callable[..., Awaitable[None]]]:
    """The decorated test returns the metrics in which these series differ from those of a start."""

    def decorate(test: Callable[..., Awaitable[Metrics]]) -> Callable[..., Awaitable[None]]:
        MOVED.update(dict.fromkeys(series, test.__name__))

        @functools.wraps(test)
        async def run(*arguments: Any, **more: Any) -> None:
            before, successor_of = samples(fresh()), samples(await test(*arguments, **more))
            for name in series:
                mine = [
                    key for key in successor_of if key == name or re.match(rf"{re.escape(name)}(_|{{)", key)
                ]
                assert mine, f"{name} is not there"
                assert [k for k in mine if not _same(before.get(k), successor_of[k])], f"{name} did not move"

        return run

    return decorate


def _same(before: float | None, successor_of: float) -> bool:
    return before is not None and (
        before == successor_of or (math.isnan(before) and math.isnan(successor_of))
    )


@dataclass
class Events(Script):
    """A source of scripted events, whose commits may fail."""

    events_: list[SourceEvent] = field(default_factory=list)
    failing: list[bool] = field(default_factory=list)  # whether the next commits fail

    async def events(self) -> Any:
        for event in self.events_:
            yield event

    async def commit(self, work: Mapping[InputPartition, PartitionCommit]) -> Collection[InputPartition]:  # type: ignore[override]
        if self.failing and self.failing.pop(0):
            return list(work)
        self.commits += work.values()
        return []


ASSIGNED = Assigned(PUMPS_0, 0, 0)
Prepare = Callable[[Loop, StreamRun, Reporter], Awaitable[None]]


async def ran(
    *events: SourceEvent,
    detector: CentreDetector | None = None,
    failing: list[bool] | None = None,
    commit_every_s: float = 0.0,
    prepared: Prepare | None = None,
    models: Models | None = None,
    **plan: Any,
) -> tuple[Metrics, Status, Events]:
    """A loop over these events, to its end."""
    run = StreamRun(StreamPlan(plan.pop("spec", SPEC), retrain_every=None, **plan))
    run.detector = detector
    source = Events([], events_=list(events), failing=failing or [])
    metrics, status = fresh(), Status({"pumps": 50})
    reporter = Reporter(metrics, status)
    options = LoopOptions(commit_every=timedelta(seconds=commit_every_s), checkpoints=True)
    loop = Loop(source, None, [run], reporter, models, options)
    if prepared is not None:
        await prepared(loop, run, reporter)
    await loop.run()
    return metrics, status, source


def centre(**changes: Any) -> CentreDetector:
    return CentreDetector(SPEC.sensors, **changes)


def at(record: Record, timestamp_ns: int) -> Record:
    return Record(record.offset, record.key, record.value, timestamp_ns)


# ------------------------------------------------------------------ fire drill
@moves(
    "drill_faults_total",
    "drill_recall",
    "drill_delay_seconds",
    "drill_smallest_size",
    "drill_cpu_seconds_total",
)
async def test_the_fire_drill_measures_what_would_be_found() -> Metrics:
    """A detector whose score is the size of what is wrong, and a drill that may take what it needs."""
    detector = centre(still=1 << 40)

    async def prepared(loop: Loop, run: StreamRun, reporter: Reporter) -> None:
        drill = FireDrill(SPEC, AlarmPolicy(), 1e6)
        drill.use(detector)
        run.drill = drill

    polls = [PolledRecords(PUMPS_0, steady(50, first=50 * i)) for i in range(120)]
    metrics, _status, _ = await ran(ASSIGNED, *polls, detector=detector, prepared=prepared)
    found = samples(metrics)
    assert found['drill_faults_total{found="true",kind="drop_out"}'] > 0
    assert found['drill_faults_total{found="false",kind="drop_out"}'] == 0
    assert found['drill_recall{kind="drop_out"}'] == 1.0
    assert found['drill_delay_seconds{kind="drop_out"}'] == 7_999.0  # silent_after, less the row it began in
    assert 0.0 < found['drill_recall{kind="shift"}'] < 1.0
    assert (
        found['drill_smallest_size{kind="shift",sensor="a"}'] == 4.0
    )  # downwards 3 is but 2.5 from the centre
    assert found["drill_cpu_seconds_total"] > 0.0
    return metrics


# ------------------------------------------------------------------ input
@moves(
    "records_consumed_total",
    "records_rejected_total",
    "dead_letters_total",
    "readings_total",
    "readings_late_total",
    "readings_imputed_total",
    "windows_scored_total",
    "anomaly_score",
    "inference_duration_seconds",
    "inference_batch_size",
    "assets_active",
)
async def test_records_are_counted_by_disposition() -> Metrics:
    records = steady(30)
    records[20] = line(20, "p1", 20.0, 0.5, None)
    records += [Record(30, b"p1", b"{", 1), line(31, "p1", 2.0, 0.5, 0.5), line(32, "p1", 29.0, 0.5, 0.5)]
    metrics, _, _ = await ran(
        ASSIGNED, PolledRecords(PUMPS_0, records), PolledRecords(PUMPS_0, (), ended=True), detector=centre()
    )
    found = samples(metrics)
    assert found["records_consumed_total"] == 33
    assert (
        found['records_rejected_total{reason="not_json"}']
        == found['dead_letters_total{reason="not_json"}']
        == 1
    )
    assert found['readings_total{disposition="accepted"}'] == 30
    assert found['readings_total{disposition="duplicate"}'] == 1
    assert found['readings_total{disposition="late"}'] == found["readings_late_total"] == 1
    assert found["readings_imputed_total"] == 1
    assert found["windows_scored_total"] == found["anomaly_score_count"] == 27
    assert found["inference_batch_size_sum"] == 27
    assert found["inference_batch_size_count"] == found["inference_duration_seconds_count"] > 0
    assert found["assets_active"] == 1
    return metrics


@moves("refused_items_total", "skipped_total", "cells_total", "corrupt_cells_total")
async def test_cells_are_counted_by_state_and_skipped_records_by_rule() -> Metrics:
    tags = {
        "each": "tags[]",
        "asset": "asset",
        "sensor": "name",
        "value": "v",
        "time": "^.ts",
        "skip": [{"path": "kind", "in": ["birth"]}],
    }
    spec = replace(SPEC, input=mapping_of(CUSTOM, tags))

    def of(offset: int, *cells: tuple[str, Any], kind: str = "data", asset: str = "p1") -> Record:
        items = [{"asset": asset, "name": name, "v": value} for name, value in cells]
        items.append({"name": "a", "v": 1.0})  # of no asset
        value = json.dumps({"kind": kind, "ts": BASE_S + offset, "tags": items}).encode()
        return Record(offset, None, value, (BASE_S + offset) * SECOND_NS)

    records = [of(0, ("a", 1), ("b", "2.5")), of(1, ("a", "ERR"), ("b", None)), of(2, ("c", 1), ("b", [1]))]
    records += [of(3, ("a", "ERR")), of(4, kind="birth")]
    polls = [PolledRecords(PUMPS_0, [one]) for one in records]
    with capture_logs() as logs:
        metrics, status, _ = await ran(ASSIGNED, *polls, PolledRecords(PUMPS_0, (), ended=True), spec=spec)
    assert [(e["sensor"], e["fault"], e["example"]) for e in logs if e["event"] == "cells_not_numbers"] == [
        ("a", "text", "'ERR'"),
        ("b", "array", "[1]"),
    ]
    found = samples(metrics)
    cells = {"observed": 2, "missing": 1, "corrupt": 3, "unknown": 1}
    for state in CellState:
        assert found[f'cells_total{{state="{state}"}}'] == cells.get(state, 0)
    assert found['corrupt_cells_total{fault="text",sensor="a"}'] == 2
    assert found['corrupt_cells_total{fault="array",sensor="b"}'] == 1
    assert found['skipped_total{rule="kind"}'] == 1
    assert found['refused_items_total{reason="no_asset"}'] == 4
    assert +Counter(status.streams["pumps"].cells) == cells
    return metrics


async def test_a_reading_that_is_decided_on_while_the_log_is_idle_is_counted() -> None:
    ahead = at(line(5, "p1", 90_000.0, 0.5, 0.5), -1)
    metrics, _, _ = await ran(
        ASSIGNED, PolledRecords(PUMPS_0, [*steady(5), ahead]), PolledRecords(PUMPS_0, (), ended=True)
    )
    found = samples(metrics)
    assert found['readings_total{disposition="rejected"}'] == 1
    assert found['cells_total{state="rejected"}'] == 2
    assert found['records_rejected_total{reason="future"}'] == 1


async def test_the_model_is_timed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only the model moves on: decoding, judging and publishing take none of it."""
    now = 0.0

    class Slow(CentreDetector):
        def infer(self, windows: Any) -> Any:
            nonlocal now
            now += 0.25
            return super().infer(windows)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    metrics, _, _ = await ran(ASSIGNED, PolledRecords(PUMPS_0, steady(20)), detector=Slow(SPEC.sensors))
    found = samples(metrics)
    assert found["inference_duration_seconds_sum"] == 0.25 * found["inference_duration_seconds_count"] > 0


async def test_records_read_again_after_a_restart_are_not_scored_again() -> None:
    assigned = Assigned(PUMPS_0, 0, 15)
    metrics, _, _ = await ran(assigned, PolledRecords(PUMPS_0, steady(20)), detector=centre())
    assert samples(metrics)["windows_scored_total"] == 5
    assert samples(metrics)["anomaly_score_count"] == 5


@moves("consumer_lag_records", "consumer_lag_seconds", "consumer_assigned_partitions")
async def test_lag_is_measured_in_records_and_seconds() -> Metrics:
    stamp = int(time.time() - 90) * SECOND_NS
    records = [at(record, stamp) for record in steady(20)]
    metrics, _, _ = await ran(ASSIGNED, PolledRecords(PUMPS_0, records, end_offset=120), detector=centre())
    found = samples(metrics)
    assert found["consumer_lag_records"] == 100
    assert 90 <= found["consumer_lag_seconds"] < 900
    assert found["consumer_assigned_partitions"] == 1
    return metrics


@pytest.mark.parametrize(("end", "stamp", "seconds"), [(20, 10**18, 0.0), (25, -1_000_000, math.nan)])
async def test_zero_lag_and_unknown_lag(end: int, stamp: int, seconds: float) -> None:
    records = [at(record, stamp) for record in steady(20)]
    metrics, _, _ = await ran(ASSIGNED, PolledRecords(PUMPS_0, records, end_offset=end))
    assert samples(metrics)["consumer_lag_seconds"] == pytest.approx(seconds, nan_ok=True)


@moves('consumer_rebalances_total{event="assigned"}', 'consumer_rebalances_total{event="revoked"}')
async def test_a_revoked_partition_takes_its_lag_and_assets_with_it() -> Metrics:
    events = [ASSIGNED, PolledRecords(PUMPS_0, steady(20), end_offset=99), Revoked(PUMPS_0)]
    metrics, status, _ = await ran(*events, detector=centre())
    found = samples(metrics)
    assert found["consumer_assigned_partitions"] == found["assets_active"] == 0
    assert not [series for series in found if series.startswith("consumer_lag")]
    assert status.streams["pumps"].assets == 0
    return metrics


@moves('state_restores_total{result="ok"}')
async def test_usable_state_is_restored() -> Metrics:
    _, _, first = await ran(ASSIGNED, PolledRecords(PUMPS_0, steady(20)), detector=centre())
    at, saved = first.commits[-1].position, {s.key: s for work in first.commits for s in work.saved}
    again = Assigned(PUMPS_0, at.replay_from, at.offset, tuple(saved.values()))
    metrics, _, _ = await ran(again, PolledRecords(PUMPS_0, steady(20)[at.replay_from :]), detector=centre())
    return metrics


@moves('state_restores_total{result="failed"}')
async def test_unusable_state_is_counted() -> Metrics:
    assigned = Assigned(PUMPS_0, 20, 20, [StateRecord(b"sensors.pumps\x1f", b"garbage")])
    return (await ran(assigned, detector=centre()))[0]


@moves('state_restores_total{result="unusable"}')
async def test_unusable_records_of_state_are_counted() -> Metrics:
    _, _, first = await ran(ASSIGNED, PolledRecords(PUMPS_0, steady(20)), detector=centre())
    at, saved = first.commits[-1].position, {s.key: s for work in first.commits for s in work.saved}
    saved = {key: s if key.endswith(b"\x1f") else StateRecord(key, b"garbage") for key, s in saved.items()}
    again = Assigned(PUMPS_0, at.offset, at.offset, tuple(saved.values()))
    metrics, _, _ = await ran(again, detector=centre())
    assert samples(metrics)['state_restores_total{result="unusable"}'] == 1
    return metrics


@moves(
    'offset_commits_total{result="ok"}',
    'offset_commits_total{result="failed"}',
    'state_restores_total{result="truncated"}',
    'bundle_refused_total{source="record"}',
)
async def test_counts_of_the_source_are_reported_once() -> Metrics:
    stats, metrics, status = KafkaStats(), fresh(), Status(["pumps"])
    refused = 0
    report = counts_reported(stats, lambda: refused, Reporter(metrics, status))
    report()
    assert not status.joined
    stats.rebalances, stats.commits, stats.clamped = 1, 5, 1
    refused = 3
    stats.stale_commits, stats.delayed_commits, stats.rewinds = 1, 2, 4
    report()
    report()
    found = samples(metrics)
    assert found['offset_commits_total{result="ok"}'] == 5
    assert found['offset_commits_total{result="failed"}'] == 7
    assert found['state_restores_total{result="truncated"}'] == 1
    assert found['bundle_refused_total{source="record"}'] == 3
    assert status.joined
    return metrics


# ------------------------------------------------------------------ scores and episodes
def odd(first: int, last: int, n: int = 40) -> list[Record]:
    return [line(i, "p1", float(i), 50.0 if first <= i < last else 0.5, 0.5) for i in range(n)]


@moves("episodes_opened_total", "episodes_closed_total", "false_alarm_budget_ratio")
async def test_episodes_are_counted() -> Metrics:
    budget = Budget(86_400.0 / 10)  # one in ten seconds
    metrics, _, _ = await ran(ASSIGNED, PolledRecords(PUMPS_0, odd(10, 12)), detector=centre(), budget=budget)
    found = samples(metrics)
    assert sum(value for series, value in found.items() if series.startswith("episodes_opened_total")) == 1
    assert sum(value for series, value in found.items() if series.startswith("episodes_closed_total")) == 1
    assert found["false_alarm_budget_ratio"] == pytest.approx(1 / 3.7)  # 37 windows
    return metrics


@moves("episodes_active")
async def test_open_episodes_are_counted() -> Metrics:
    metrics, _, _ = await ran(ASSIGNED, PolledRecords(PUMPS_0, odd(30, 40)), detector=centre())
    assert samples(metrics)['episodes_active{severity="critical"}'] == 1
    return metrics


@moves("sensors_silent")
async def test_silent_sensors_are_counted() -> Metrics:
    spec = replace(SPEC, silent_after_ns=5 * SECOND_NS)
    records = [line(i, "p1", float(i), 0.5, 0.5 if i < 10 else None) for i in range(30)]
    metrics, _, _ = await ran(ASSIGNED, PolledRecords(PUMPS_0, records), detector=centre(), spec=spec)
    assert samples(metrics)["sensors_silent"] == 1
    return metrics


@moves('episodes_suppressed_total{reason="maintenance"}')
async def test_episodes_inside_maintenance_are_counted_once_each() -> Metrics:
    records = [line(i, "p1", float(i), 50.0 if i % 20 in range(5, 12) else 0.5, 0.5) for i in range(60)]
    quiet = [MaintenanceWindow("quiet", BASE_S * SECOND_NS, (BASE_S + 58) * SECOND_NS)]
    metrics, _, _ = await ran(ASSIGNED, PolledRecords(PUMPS_0, records), detector=centre(), maintenance=quiet)
    found = samples(metrics)
    assert found['episodes_suppressed_total{reason="maintenance"}'] == 3
    assert sum(value for series, value in found.items() if series.startswith("episodes_opened_total")) == 0
    return metrics


@moves(
    'episodes_suppressed_total{reason="dismissed"}',
    *(f'verdicts_total{{effect="{effect}"}}' for effect in Effect),
)
async def test_episodes_that_are_like_dismissed_ones_are_counted() -> Metrics:
    metrics = fresh()
    Reporter(metrics, Status({"pumps": 50})).poll_ingested(
        IngestedPoll("sensors.pumps", "pumps", 0, dismissed=2, verdicts=dict.fromkeys(Effect, 3))
    )
    found = samples(metrics)
    assert found['episodes_suppressed_total{reason="dismissed"}'] == 2
    assert found['verdicts_total{effect="dismissed"}'] == 3
    return metrics


@moves("control_messages_refused_total")
async def test_control_messages_that_cannot_be_used_are_counted() -> Metrics:
    metrics = fresh()
    Reporter(metrics, Status({"pumps": 50})).controls.controls_refused(2)
    assert samples(metrics)["control_messages_refused_total"] == 2
    return metrics


@moves('dropped_total{reason="model_failed"}')
async def test_windows_that_the_model_fails_on_are_counted() -> Metrics:
    records = [line(i, "p1", float(i), 13.0 if i == 8 else 0.5, 0.5) for i in range(20)]
    metrics, _, _ = await ran(ASSIGNED, PolledRecords(PUMPS_0, records), detector=Fragile(SPEC.sensors))
    assert samples(metrics)["windows_scored_total"] == 16
    return metrics


@moves('dropped_total{reason="sentinel"}')
async def test_numbers_that_stand_for_no_value_are_counted() -> Metrics:
    records = [line(i, "p1", float(i), -999.0 if i in (8, 9) else 0.5, 0.5) for i in range(20)]
    detector = replace(centre(), sentinels=((0, -999.0),))
    metrics, _, _ = await ran(ASSIGNED, PolledRecords(PUMPS_0, records), detector=detector)
    assert samples(metrics)['dropped_total{reason="sentinel"}'] == 2
    return metrics


@moves('dropped_total{reason="asset_evicted"}')
async def test_assets_beyond_the_limit() -> Metrics:
    records = [line(i, f"p{i}", float(i), 0.5, 0.5) for i in range(30)]
    metrics, _, _ = await ran(ASSIGNED, PolledRecords(PUMPS_0, records), detector=centre(), max_assets=10)
    return metrics


@moves('dropped_total{reason="message_lost"}')
async def test_messages_that_never_came_are_counted() -> Metrics:
    numbers = [0, 1, 5]  # three of Sparkplug's numbers are missing
    topics = ["g/DBIRTH/e/d", *["g/DDATA/e/d"] * 2]
    records = [
        Record(
            offset,
            f"spBv1.0/{topic}".encode(),
            json.dumps({"seq": number, "metrics": [{"name": "a", "alias": 1, "value": 0.5}]}).encode(),
            (BASE_S + offset) * SECOND_NS,
        )
        for offset, (topic, number) in enumerate(zip(topics, numbers, strict=True))
    ]
    spec = replace(SPARKPLUG["sparkplug-json"], topics=SPEC.topics)
    metrics, _, _ = await ran(ASSIGNED, PolledRecords(PUMPS_0, records), spec=spec)
    assert samples(metrics)['dropped_total{reason="message_lost"}'] == 3
    return metrics


@moves('dropped_total{reason="planned_stop"}')
async def test_planned_stops_for_which_there_is_no_room_are_counted_and_logged() -> Metrics:
    metrics = fresh()
    poll = IngestedPoll("sensors.pumps", "pumps", 0, dropped={Dropped.PLANNED_STOP: 2})
    with capture_logs() as logs:
        Reporter(metrics, Status({"pumps": 50})).poll_ingested(poll)
    assert [(each["event"], each["stops"]) for each in logs] == [("planned_stops_dropped", 2)]
    assert samples(metrics)['dropped_total{reason="planned_stop"}'] == 2
    return metrics


# ------------------------------------------------------------------ publishing
@moves("end_to_end_latency_seconds", "processing_latency_seconds")
async def test_latency_ends_when_a_commit_has_made_it_readable() -> Metrics:
    stamp = int(time.time() - 90) * SECOND_NS
    records = [at(record, stamp) for record in steady(30)]
    polls = [PolledRecords(PUMPS_0, records[:20]), PolledRecords(PUMPS_0, records[20:])]
    unknown = [at(line(30, "p1", 30.0, 0.5, 0.5), -1_000_000)]
    metrics, _, source = await ran(
        ASSIGNED, *polls, PolledRecords(PUMPS_0, unknown), detector=centre(), commit_every_s=3_600.0
    )
    assert len(source.commits) == 2  # where it begins, and at the end
    found = samples(metrics)
    assert found["end_to_end_latency_seconds_count"] == 30  # each record that has a time
    assert found["end_to_end_latency_seconds_sum"] >= 30 * 90
    assert found["processing_latency_seconds_count"] == 3  # each poll
    return metrics


async def test_outputs_of_a_failed_commit_count_once() -> None:
    """Its partition begins again, and all is published by the second try."""
    records = [*odd(10, 14, 20), Record(20, b"p1", b"{", 1)]
    again = [
        ASSIGNED,
        PolledRecords(PUMPS_0, records),
        Revoked(PUMPS_0),
        ASSIGNED,
        PolledRecords(PUMPS_0, records),
    ]
    metrics, status, source = await ran(
        *again, detector=centre(), failing=[False, True]
    )  # the first names the position that it starts at
    found, once = samples(metrics), samples((await ran(*again[:2], detector=centre()))[0])
    assert len([o for work in source.commits for o in work.outputs]) > 0
    for name in ("dead_letters_total", "episodes_opened_total", "episodes_closed_total", "episodes_active"):
        mine = {series: value for series, value in found.items() if series.startswith(name)}
        assert mine == {series: once[series] for series in mine}
        assert name == "episodes_active" or sum(mine.values()) == 1
    assert found["end_to_end_latency_seconds_count"] == once["end_to_end_latency_seconds_count"]
    assert status.opened == 1


@moves('drift_kl_nats{kind="latent"}', 'drift_kl_nats{kind="residual"}', "drift_assets")
async def test_drift_is_measured(bundle: Bundle) -> Metrics:
    return await live(bundle)


AUDITED = ("audits_total", "error", "coverage", "skill", "possible")


@moves(*(f'imputation_{name}{{sensor="{sensor}"}}' for name in AUDITED for sensor in SPEC.sensors))
async def test_hidden_readings_are_measured_per_sensor() -> Metrics:
    rows = [line(i, "p1", float(i), 0.5 + 0.1 * math.sin(i), 0.5) for i in range(9000)]
    metrics, status, _ = await ran(
        ASSIGNED,
        PolledRecords(PUMPS_0, rows),
        PolledRecords(PUMPS_0, (), ended=True),
        detector=centre(),
        audit=100,
    )
    found = samples(metrics)
    figures = status.streams["pumps"].imputation
    assert set(figures) == set(SPEC.sensors)
    for sensor in SPEC.sensors:
        assert found[f'imputation_audits_total{{sensor="{sensor}"}}'] == figures[sensor].audits > 30
        assert found[f'imputation_error{{sensor="{sensor}"}}'] == figures[sensor].error
        assert found[f'imputation_coverage{{sensor="{sensor}"}}'] == 1.0
    return metrics


async def test_audit_figures_are_removed_with_their_model(bundle: Bundle) -> None:
    before = {}

    async def prepared(loop: Loop, run: StreamRun, reporter: Reporter) -> None:
        reporter.metrics.readings.audits_of("pumps", ["old"])
        audit = SensorAudit("old", 50, 1, 1, 1, 0, 1, Imputable.CANNOT)
        reporter.metrics.readings.audited("pumps", [audit], {"old": 50})
        before.update(samples(reporter.metrics))

    found = samples(await live(bundle, prepared))
    assert before['imputation_possible{sensor="old"}'] == 0
    assert found['imputation_audits_total{sensor="old"}'] == 50  # a counter never goes back
    assert 'imputation_error{sensor="old"}' not in found


# ------------------------------------------------------------------ models
@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """A small model of the stream."""
    rng = np.random.default_rng(0)
    values = np.stack([np.sin(np.arange(1_500) / 9.0), np.cos(np.arange(1_500) / 9.0)], 1)
    history = [Segment("p1", BASE_S - 1_500, values + 0.1 * rng.standard_normal(values.shape))]
    settings = ModelSettings(kind="ppca", latent=2)
    return train(history, SPEC, settings, CalibrationTarget(AlarmPolicy(), Budget(1.0), 60))


async def live(bundle: Bundle, prepared: Prepare | None = None, models: Models | None = None) -> Metrics:
    """A loop that starts with this model and meets a hundred rows and the end of two drift intervals."""

    async def given(loop: Loop, run: StreamRun, reporter: Reporter) -> None:
        run.bundle = bundle.to_bytes()
        if prepared is not None:
            await prepared(loop, run, reporter)

    rows = [line(i, "p1", float(i), 0.5 + 0.1 * math.sin(i), 0.5) for i in range(200)]
    polls = [
        PolledRecords(PUMPS_0, rows[:100]),
        PolledRecords(PUMPS_0, rows[100:]),
        PolledRecords(PUMPS_0, (), ended=True),
    ]
    interval = datetime(2026, 1, 1, 0, 1, tzinfo=UTC) - datetime(2026, 1, 1, tzinfo=UTC)
    metrics, _, _ = await ran(ASSIGNED, *polls, prepared=given, models=models, drift_interval=interval)
    return metrics


@moves(
    "model_trained_timestamp_seconds",
    'model_promotions_total{result="restored"}',
    *(f'threshold{{score="{part}"}}' for part in SCORE_PARTS),
)
async def test_a_model_in_use_shows_when_it_was_trained_and_its_thresholds(bundle: Bundle) -> Metrics:
    metrics = await live(bundle)
    found = samples(metrics)
    assert found["model_trained_timestamp_seconds"] == BASE_S - 1  # not the time at which it was taken over
    assert found[f'model_info{{version="{bundle.version}"}}'] == 1
    assert 'model_info{version="none"}' not in found
    return metrics


@pytest.mark.parametrize("newest_ns", [None, -1, 1 << 70])
async def test_a_model_without_a_valid_training_time_has_none_on_metrics(
    bundle: Bundle, newest_ns: object
) -> None:
    facts = {**bundle.facts, "newest_ns": newest_ns}
    metrics = await live(replace(bundle, facts=facts))
    assert math.isnan(samples(metrics)["model_trained_timestamp_seconds"])


@moves(
    'model_promotions_total{result="promoted"}',
    'model_promotions_total{result="refused"}',
    'model_promotions_total{result="failed"}',
    "retrain_duration_seconds",
)
async def test_trainings_are_counted_by_result(bundle: Bundle) -> Metrics:
    data = bundle.to_bytes()

    async def prepared(loop: Loop, run: StreamRun, reporter: Reporter) -> None:
        await loop.lifecycle.training_ended(
            run, TrainingResult(True, "better", bundle.version, data, 12.0, 100)
        )
        await loop.lifecycle.training_ended(run, TrainingResult(False, "worse", "v2", data, 13.0, 100))
        await loop.lifecycle.training_ended(run, TrainingResult(False, "too few rows", "", None, 14.0, 100))

    metrics = await live(bundle, prepared)
    assert samples(metrics)["retrain_duration_seconds_sum"] == 39.0
    return metrics


class Broken(CentreDetector):
    def infer(self, windows: Windows) -> Evidence:
        raise FloatingPointError("a broken model")


@moves('model_promotions_total{result="rolled_back"}')
async def test_a_model_that_is_given_up_leaves_no_figures_behind() -> Metrics:
    detector = Broken(SPEC.sensors)

    async def prepared(loop: Loop, run: StreamRun, reporter: Reporter) -> None:
        models = reporter.metrics.models
        models.model("pumps", detector.version, 1.0)
        models.drift_reference("pumps", detector.version, detector.drift)
        models.thresholds("pumps", detector.threshold, detector.part_thresholds)

    metrics, _, _ = await ran(
        ASSIGNED, PolledRecords(PUMPS_0, steady(100)), detector=detector, prepared=prepared
    )
    found = samples(metrics)
    for series in (
        'threshold{score="combined"}',
        'drift_kl_nats{kind="latent"}',
        "model_trained_timestamp_seconds",
    ):
        assert math.isnan(found[series])
    assert found['model_info{version="none"}'] == 1
    return metrics


@moves("shadow_windows_total", *(f'shadow_episodes_total{{of="{of}"}}' for of in SHADOW_EPISODES))
async def test_what_a_candidate_in_shadow_would_have_alerted_is_counted() -> Metrics:
    metrics = fresh()
    counts = ShadowCounts("v2", windows=50, episodes=3, incumbent_episodes=2, both=1)
    metrics.published([replace(interval(1), shadow=counts), interval(2)])
    found = samples(metrics)
    assert [found[f'shadow_episodes_total{{of="{of}"}}'] for of in SHADOW_EPISODES] == [3, 2, 1]
    return metrics


@moves('bundle_refused_total{source="training"}')
async def test_a_candidate_that_is_no_model_is_refused(bundle: Bundle) -> Metrics:
    async def prepared(loop: Loop, run: StreamRun, reporter: Reporter) -> None:
        await loop.lifecycle.training_ended(
            run, TrainingResult(True, "better", "v2", b"no bundle", 12.0, 100)
        )

    return await live(bundle, prepared)


@moves('bundle_refused_total{source="registry"}')
async def test_a_promoted_model_that_is_none_is_refused(bundle: Bundle) -> Metrics:
    return await live(bundle, models=Promoted())  # type: ignore[arg-type]


class Promoted(FailingRegistry):
    async def promoted(self, stream: str) -> bytes | None:
        return b"no bundle"

    async def before(self, stream: str) -> bytes | None:
        return None


# ------------------------------------------------------------------ the process
@moves(
    *(f'lifecycle_state{{state="{state}"}}' for state in ("starting", "learning")),
)
async def test_learning_is_a_state() -> Metrics:
    metrics, _, _ = await ran(ASSIGNED, PolledRecords(PUMPS_0, steady(5)))
    found = samples(metrics)
    assert found['lifecycle_state{state="learning"}'] == 1
    assert sum(value for series, value in found.items() if series.startswith("lifecycle_state")) == 1
    return metrics


@moves('lifecycle_state{state="live"}')
async def test_live_is_a_state(bundle: Bundle) -> Metrics:
    return await live(bundle)


@moves('lifecycle_state{state="draining"}')
async def test_draining_is_a_state() -> Metrics:
    metrics, status, _ = await ran(ASSIGNED)
    status.drain()
    found = samples(metrics)
    assert sum(value for series, value in found.items() if series.startswith("lifecycle_state")) == 1
    return metrics


@moves("event_loop_lag_seconds", 'http_refused_total{reason="host"}', 'http_refused_total{reason="target"}')
async def test_the_admin_port_measures_the_event_loop_and_counts_refusals(
    monkeypatch: pytest.MonkeyPatch,
) -> Metrics:
    monkeypatch.setattr("daemon.runtime.admin_port.LAG_EVERY_S", 0.01)
    metrics, measured = fresh(), asyncio.Event()

    class Noting(Reporter):
        def loop_lag(self, seconds: float) -> None:
            super().loop_lag(seconds)
            measured.set()

    async with admin_port(HttpSection(port=0), Noting(metrics, Status(["pumps"]))) as address:
        for target in (b"/", b"http://localhost/"):
            host = b"evil.example" if target == b"/" else b"localhost"
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", int(address.split(":")[-1].strip("/"))
            )
            writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
            await reader.read()
            writer.close()
        await measured.wait()
        measured.clear()
        time.sleep(0.2)  # noqa: ASYNC251 - the loop is to stand still
        await measured.wait()
    assert samples(metrics)["event_loop_lag_seconds"] > 0.15
    return metrics


@moves('dependency_up{dependency="kafka"}')
async def test_kafka_is_up_while_it_answers() -> Metrics:
    """tests/commands/test_run.py does it with a broker that freezes."""
    metrics, status, silence = fresh(), Status(["pumps"]), 0.0
    Reporter(metrics, status).reads_kafka(lambda: silence)
    assert samples(metrics)['dependency_up{dependency="kafka"}'] == 0
    status.connected = True
    assert samples(metrics)['dependency_up{dependency="kafka"}'] == 1
    silence = 30.0
    return metrics


def test_every_series_is_moved_by_some_test() -> None:
    known = {**MOVED, **ELSEWHERE}
    families = {series.split("{")[0] for series in known}
    unmoved = []
    for series in samples(fresh()):
        family = re.sub(r"_(bucket|sum|count)(?=$|{)", "", series).split("{")[0]
        whole = "le=" in series or "{" not in series or family in OF_THE_DOMAIN
        if family not in CONSTANT and not (family in families if whole else series in known):
            unmoved.append(series)
    assert unmoved == []
    assert {"consumer_lag_records", "consumer_lag_seconds"} <= families  # these begin with their partition
    assert {f"imputation_{name}" for name in AUDITED} <= families  # ... and these with their model


def test_tests_named_elsewhere_exist() -> None:
    for place in ELSEWHERE.values():
        path, name = place.split("::")
        assert f"def {name}(" in (Path(__file__).parents[1] / path).read_text()
