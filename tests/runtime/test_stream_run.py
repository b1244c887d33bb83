"""One stream: which model is in use, and which replica trains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daemon.domain import (
    Assigned,
    InputPartition,
)
from daemon.errors import BundleError
from daemon.runtime.stream_run import StreamPlan, StreamRun
from tests.runtime.scripted import (
    SPEC,
    MeasuredHistory,
    trained_bundle,
)


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


def test_a_bundle_that_is_not_compatible_is_not_used() -> None:
    run, bundle = StreamRun(StreamPlan(replace(SPEC, window=5))), trained_bundle()
    with pytest.raises(BundleError, match="its window 4, the stream's 5"):
        run.use(bundle, bundle.to_bytes(), committable=False)
    assert run.detector is None
    assert run.bundle is None


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
