"""One stream: which model is in use, and which replica trains."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from daemon.adapters.kafka import KafkaSettings
from daemon.budget import Budget
from daemon.config import Settings
from daemon.domain import Assigned, Disposition, InputPartition, PolledRecords
from daemon.errors import BundleError
from daemon.runtime.compatibility import other_budgets
from daemon.runtime.published import OwnTopics
from daemon.runtime.replica_history import ReplicaHistory
from daemon.runtime.stream_run import StreamPlan, StreamRun
from daemon.runtime.topic_history import TopicHistory
from tests.runtime.scripted import (
    SPEC,
    MeasuredHistory,
    line,
    trained_bundle,
)
from tests.stream.decode.payloads import message
from tests.stream.pipelines import CENTRE, PUMPS_0, SPARKPLUG


def test_the_fallback_of_a_model_is_the_one_before_and_never_itself() -> None:
    first, second = trained_bundle(0.5), trained_bundle(0.7)
    a, b = first.to_bytes(), second.to_bytes()
    run = StreamRun(StreamPlan(SPEC, retrain_every=None))
    run.bundle = a  # given at the start
    run.use(first, a, committable=False)
    run.use(second, b, committable=False)
    run.use(second, b, committable=False)  # met again in the registry
    _, before, _ = run.give_up(committable=False)
    assert (before, run.bundle, run.detector) == (a, None, None)
    run.use(first, a, committable=False)
    _, before, _ = run.give_up(committable=False)
    assert before is None
    with pytest.raises(BundleError, match="is not used again"):
        run.use(second, b, committable=False)


def test_without_an_earlier_model_there_is_no_fallback() -> None:
    run, bundle = StreamRun(StreamPlan(SPEC, retrain_every=None)), trained_bundle()
    run.bundle = bundle.to_bytes()
    run.use(bundle, run.bundle, committable=False)
    assert run.give_up(committable=False)[1] is None


@pytest.mark.parametrize("online", [False, True])
def test_thresholds_are_corrected_where_the_settings_say_so(online: bool) -> None:
    streams = [{"name": "pumps", "topics": ["sensors.pumps"], "sensors": {"a": {}, "b": {}}}]
    budget = {"online": online, "budget": "30 per day per stream"}
    settings = Settings.model_validate({"streams": streams, "calibration": budget})
    run = StreamRun(StreamPlan.of(settings, settings.streams[0]))
    thresholds = run.open(Assigned(PUMPS_0, 0, 0)).parts.thresholds
    assert thresholds.corrected is online
    thresholds.use(replace(CENTRE, threshold=4.0, calibrated_assets=3))
    thresholds.passed(np.zeros(8_640, np.int64))  # a tenth of a day, in which each asset may have one
    assert thresholds.levels(0)[0] == (pytest.approx(4.0 * np.exp(-0.1)) if online else 4.0)


def test_a_bundle_that_is_not_compatible_is_not_used() -> None:
    run, bundle = StreamRun(StreamPlan(replace(SPEC, window=5))), trained_bundle()
    with pytest.raises(BundleError, match="its window 4, the stream's 5"):
        run.use(bundle, bundle.to_bytes(), committable=False)
    assert run.detector is None
    assert run.bundle is None


def test_a_model_judges_with_the_budgets_of_the_stream_from_the_first_row_on() -> None:
    bundle, often = trained_bundle(), Budget(500.0)
    run = StreamRun(StreamPlan(SPEC, budget=often, deviation_budget=often))
    run.use(bundle, bundle.to_bytes(), committable=False)
    assert run.detector is not None
    assert run.detector.version == bundle.version
    assert run.detector.threshold == bundle.calibration.for_budget(often).threshold
    assert run.detector.threshold < bundle.calibration.threshold
    said = other_budgets(bundle, often, None)
    assert said.startswith("thresholds found again for calibration.budget 500 per day; it was trained for ")
    assert "alerts.deviation_budget is null, and deviations are looked for until the next training" in said
    search = bundle.calibration.search
    assert search is not None
    assert other_budgets(bundle, search.budget, Budget()) == ""


@pytest.mark.parametrize(
    ("partition", "leads"),
    [
        (InputPartition("one", 0), True),
        (InputPartition("one", 1), False),
        (InputPartition("two", 0), False),
    ],
)
def test_the_replica_that_reads_partition_0_of_the_first_topic_trains(
    partition: InputPartition, leads: bool
) -> None:
    run = StreamRun(StreamPlan(replace(SPEC, topics=("one", "two"))), history=MeasuredHistory(1 << 40))
    run.open(Assigned(partition, 0, 0))
    assert (run.next_job() is not None) is leads
    assert run.needs_history_extent is leads


def test_a_stream_knows_the_assets_of_its_partitions() -> None:
    run = StreamRun(StreamPlan(SPEC, retrain_every=None))
    pipeline = run.open(Assigned(PUMPS_0, 0, 0))
    assert not run.knows("p1")
    for _ in pipeline.feed(PolledRecords(PUMPS_0, [line(0, "p1", 0.0, 0.5, 0.5)])):
        pass
    assert run.knows("p1")
    assert not run.knows("p2")


@pytest.mark.parametrize("kind", SPARKPLUG)
def test_a_training_knows_what_was_born_before_the_records_that_it_reads(kind: str) -> None:
    spec, past = (
        SPARKPLUG[kind],
        ReplicaHistory(KafkaSettings(), SPEC, 10, oldest=True, own=OwnTopics("alerts")),
    )
    run = StreamRun(StreamPlan(spec, learn_rows=1), history=past)
    pipeline = run.open(Assigned(PUMPS_0, 0, 0))
    born = message(kind, 0, "g/DBIRTH/e/d", [{"name": "a", "alias": 1, "value": 0.5}])
    for _ in pipeline.feed(PolledRecords(PUMPS_0, [born], ended=True)):
        pass
    job = run.next_job()
    assert job is not None
    history = pickle.loads(pickle.dumps(job.history))  # as it is sent to the training process
    assert isinstance(history, TopicHistory)
    ((node, certificate),) = history.births[PUMPS_0]
    assert (node, certificate.metrics, certificate.names) == ("g/e/d", ((1, "a", 10),), {1: "a"})
    reader = run.open(Assigned(PUMPS_0, 0, 0))
    assert reader.births is not None
    reader.births.know(history.births[PUMPS_0])
    data = message(kind, 1, "g/DDATA/e/d", [{"alias": 1, "value": 0.6}])
    for _ in reader.feed(PolledRecords(PUMPS_0, [data])):
        pass
    assert reader.counts == {Disposition.ACCEPTED: 1}
