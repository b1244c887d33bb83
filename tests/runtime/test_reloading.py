"""The configuration of a running daemon, read anew."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from daemon.adapters.telemetry import Metrics, Reporter, Status
from daemon.config import Settings, load
from daemon.domain import SECOND_NS, Assigned, InputPartition, PolledRecords
from daemon.runtime.history import FoundHistory
from daemon.runtime.reloading import Changed, Reloading
from daemon.runtime.stream_run import StreamPlan, StreamRun

DOCUMENT = {
    "streams": [{"name": "pumps", "topics": ["sensors.pumps"], "sensors": {"a": {}, "b": {}}, "period": "1s"}]
}


class Running:
    """A stream with a partition, and its file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "config.yaml"
        self.write({})
        settings = load(self.path)
        plan = StreamPlan.of(settings, settings.streams[0])
        self.stream = StreamRun(plan)
        self.pipeline = self.stream.open(Assigned(InputPartition("sensors.pumps", 0), 0, 0))
        self.now = 100.0
        self.reads = 0
        reporter = Reporter(Metrics(["pumps"], ["sensors.pumps"]), Status({"pumps": 1}))
        self.reloading = Reloading(settings, self.path, self.read, [self.stream], reporter, lambda: self.now)

    def read(self) -> Settings:
        self.reads += 1
        return load(self.path)

    def write(self, more: dict[str, object]) -> None:
        """The file, replaced as editors and Kubernetes do."""
        beside = self.path.with_suffix(".new")
        beside.write_text(yaml.safe_dump({**DOCUMENT, **more}))
        beside.replace(self.path)

    def look(self, times: int = 3) -> Settings:
        for _ in range(times):
            self.now += 1.0
            self.reloading.look()
        return self.reloading.settings


@pytest.fixture
def running(tmp_path: Path) -> Running:
    return Running(tmp_path)


STOP = {"name": "oil", "start": "1970-01-01T00:00:10Z", "end": "1970-01-01T00:00:20Z"}


def test_a_changed_file_is_used_where_the_pipeline_can_be_committed(running: Running) -> None:
    running.write({"alerts": {"refractory": "90s", "maintenance": [STOP]}, "retrain": {"every": "2h"}})
    running.look()
    assert running.stream.plan.policy.refractory == 90
    assert running.stream.schedule.plan.retrain_every == timedelta(hours=2)
    episodes = running.pipeline.episodes
    assert episodes.policy.refractory != 90
    list(running.pipeline.feed(PolledRecords(running.pipeline.partition, [])))
    assert episodes.policy.refractory == 90
    assert episodes.maintenance.covers("p1", 10 * SECOND_NS // running.stream.spec.period_ns)
    past = running.stream.history.newest(0)
    assert isinstance(past, FoundHistory)
    assert past.segments == []


def test_a_file_that_is_being_written_is_left_alone_until_it_rests(running: Running) -> None:
    running.write({"retrain": {"every": "2h"}})
    assert running.look(1).retrain.every == timedelta(hours=24)
    running.write({"retrain": {"every": "3h"}})
    assert running.look(1).retrain.every == timedelta(hours=24)
    assert running.look(1).retrain.every == timedelta(hours=3)


def test_a_fault_changes_nothing_and_the_next_change_counts(running: Running) -> None:
    running.write({"alerts": {"refractory": "90s"}, "retrain": {"evry": "2h"}})
    before = running.stream.plan
    running.look()
    assert running.stream.plan is before
    running.write({"alerts": {"refractory": "90s"}})
    running.look()
    assert running.stream.plan.policy.refractory == 90


def test_a_request_reads_it_at_once_and_without_a_change_nothing_is_read(running: Running) -> None:
    reads = running.reads
    running.look()
    assert running.reads == reads
    running.reloading.request()
    running.reloading.look()
    assert running.reads == reads + 1


def test_keys_are_told_by_when_they_count(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT))
    old = load(path)
    new = load(
        path,
        [
            "alerts.persistence=2 of 3",
            "alerts.maintenance=[{start: 2026-01-01T00:00:00Z, end: 2026-01-02T00:00:00Z}]",
            "calibration.budget=2 per day",
            "kafka.group_id=other",
            "model.latent=4",
            "http.port=1234",
        ],
    )
    assert Changed.between(old, new) == Changed(
        ("alerts.maintenance", "alerts.persistence", "calibration.budget"),
        ("model.latent",),
        ("http.port", "kafka.group_id"),
    )
    assert not Changed.between(old, old)


def test_what_needs_a_restart_is_not_used(running: Running) -> None:
    running.write({"kafka": {"group_id": "other"}, "alerts": {"refractory": "90s"}})
    settings = running.look()
    assert settings.kafka.group_id == "anomalyd"
    assert running.stream.plan.policy.refractory == 90
