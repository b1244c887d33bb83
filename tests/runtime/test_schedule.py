"""When a training is due, and what it learns from."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from daemon.budget import Budget
from daemon.control import Control, Feedback, MaintenanceOrder, Received, RetrainRequest, Verdict
from daemon.domain import SECOND_NS, AlarmPolicy, ModelSettings, PolledRecords, Segment
from daemon.model.bundle import Bundle
from daemon.runtime.stream_run import StreamRun
from daemon.runtime.trainer import TrainingJob, TrainingResult, learn
from daemon.stream.encoding import PublishedDrift
from daemon.trigger import Cause
from tests.runtime.scripted import (
    EVERY_S,
    GRID_S,
    PUMPS_0,
    SPEC,
    MeasuredHistory,
    Script,
    due_history,
    fed_until,
    leading_stream,
    loop_over,
    steady,
)


@pytest.fixture(scope="module")
def trained() -> Bundle:
    rows = np.random.default_rng(0).standard_normal((200, 2))
    outcome = learn(
        TrainingJob(
            SPEC,
            ModelSettings(kind="ppca"),
            AlarmPolicy(),
            Budget(1.0),
            60,
            [Segment("p1", 0, rows)],
            until_ns=GRID_S * SECOND_NS,
        )
    )
    assert outcome.bundle is not None
    return Bundle.from_bytes(outcome.bundle)


def test_a_bundle_names_the_event_time_it_was_trained_up_to(trained: Bundle) -> None:
    assert trained.facts["trained_until"] == GRID_S * SECOND_NS


@pytest.mark.parametrize(
    ("second", "due"),
    [
        (EVERY_S - 1, None),
        (EVERY_S + 9, None),  # rows of before may come yet
        (EVERY_S + 11, f"until {EVERY_S}"),
        (3 * EVERY_S + 100, f"until {3 * EVERY_S}"),
    ],
)
def test_a_retraining_is_due_at_the_multiples_of_its_interval_since_the_model_was_trained(
    trained: Bundle, second: int, due: str | None
) -> None:
    """However often the daemon was started since: a process that has just begun knows it from the bundle."""
    run = fed_until(leading_stream(MeasuredHistory(), trained), second)
    assert due_history(run) == due
    assert due_history(run) is None  # whatever comes of it, once is enough


def test_an_earlier_model_in_use_again_does_not_move_the_schedule_back(trained: Bundle) -> None:
    newer = replace(trained, facts={**trained.facts, "trained_until": (GRID_S + EVERY_S) * SECOND_NS})
    run = leading_stream(MeasuredHistory(), newer)
    run.use(trained, trained.to_bytes(), committable=False)
    assert due_history(fed_until(run, EVERY_S + 100)) is None
    assert due_history(fed_until(run, 2 * EVERY_S + 100)) == f"until {2 * EVERY_S}"


@pytest.mark.parametrize(
    "facts", [{}, {"trained_until": None}, {"trained_until": "soon"}, {"trained_until": 1 << 80}]
)
def test_a_bundle_without_trained_until_is_retrained_from_the_next_multiple_on(
    trained: Bundle, facts: dict[str, object]
) -> None:
    old = replace(trained, facts={k: v for k, v in trained.facts.items() if k != "trained_until"} | facts)
    run = leading_stream(MeasuredHistory(), old)
    assert due_history(fed_until(run, 5 * EVERY_S + 100)) is None
    assert due_history(fed_until(run, 6 * EVERY_S + 100)) == f"until {6 * EVERY_S}"


def test_rows_that_were_released_here_are_retrained_on_from_the_next_multiple_on(trained: Bundle) -> None:
    run = leading_stream(None, trained)
    assert run.next_job() is None
    fed_until(run, 5 * EVERY_S + 100)
    assert run.next_job() is None
    order = fed_until(run, 6 * EVERY_S + 100).next_job()
    assert order is not None
    assert order.until_ns == (GRID_S + 6 * EVERY_S) * SECOND_NS


def test_a_first_training_is_due_when_there_are_enough_rows_here_or_in_the_history() -> None:
    assert due_history(leading_stream(MeasuredHistory(99))) is None
    assert due_history(leading_stream(MeasuredHistory(100))) == "first 100, at least 100"
    run = leading_stream(MeasuredHistory(0))
    for _ in run.pipelines[PUMPS_0].feed(PolledRecords(PUMPS_0, steady(100))):
        pass
    assert due_history(run) == "first 100, at least 0"


def test_a_leader_of_an_empty_partition_retrains_by_the_event_time_of_the_topics(trained: Bundle) -> None:
    run = leading_stream(MeasuredHistory(event_time_ns=(GRID_S + EVERY_S + 11) * SECOND_NS), trained)
    assert run.needs_history_extent
    assert due_history(run) == f"until {EVERY_S}"
    assert not leading_stream(MeasuredHistory(), trained, every_s=None).needs_history_extent
    assert not fed_until(leading_stream(MeasuredHistory(), trained), 1).needs_history_extent
    assert not leading_stream(None).needs_history_extent


async def test_a_training_whose_history_cannot_be_read_is_counted_and_repeated(trained: Bundle) -> None:
    now = 0.0
    run = fed_until(leading_stream(MeasuredHistory(), trained, clock=lambda: now), EVERY_S + 11)
    loop, metrics, status = loop_over(Script([]), run)
    cases = [("the broker is away", False, 10.0), ("not judged yet", True, 20.0), ("again", False, 40.0)]
    for reason, postponed, wait_s in cases:
        assert due_history(run) == f"until {EVERY_S}"
        result = TrainingResult(False, reason, "", None, 1.0, 0, later=True, postponed=postponed)
        await loop.lifecycle.training_ended(run, result)
        now += wait_s - 0.1
        assert due_history(run) is None
        now += 0.1
    failed = b'anomalyd_model_promotions_total{result="failed",stream="pumps"} 2.0'
    assert failed in metrics.exposition()
    assert [change.reason for change in status.streams["pumps"].models] == ["the broker is away", "again"]


async def test_a_first_training_that_was_too_early_takes_no_more_rows_than_before() -> None:
    now = 0.0
    history = MeasuredHistory(100)
    run = leading_stream(history, clock=lambda: now)
    loop, _, _ = loop_over(Script([]), run)
    early = TrainingResult(False, "too few", "", None, 1.0, 0, later=True, postponed=True)
    await loop.lifecycle.training_ended(run, early)
    now = 10.0
    assert due_history(run) == "first 100, at least 100"
    await loop.lifecycle.training_ended(run, TrainingResult(False, "calibrates nothing", "", None, 1.0, 100))
    assert due_history(run) is None
    history.rows = 150
    assert due_history(run) == "first 150, at least 150"


def test_repetitions_back_off_until_a_history_is_read() -> None:
    now = 0.0
    run = leading_stream(MeasuredHistory(1_000), clock=lambda: now)
    for wait in (10, 20, 40, 80, 160, 300, 300, None, 10):
        if wait is None:
            run.schedule.history_read()
            continue
        run.repeat_training()
        now += wait - 1
        assert run.next_job() is None
        now += 1
        assert run.next_job() is not None


# ------------------------------------------------------------------ triggers
def told(position: int, control: Control, of_topic: int = -1) -> Received:
    return Received(position, 0, control, of_topic)


def reason_of(run: StreamRun) -> tuple[str, tuple[int, ...], int] | None:
    """Cause, answered requests and position of the training that is due; None if none is."""
    job = run.next_job()
    return None if job is None else (str(job.trigger.cause), job.trigger.requests, job.trigger.position)


def test_a_request_is_due_at_once_until_it_is_answered(trained: Bundle) -> None:
    """Also where nothing else would ever train."""
    for every_s in (EVERY_S, None):
        run = fed_until(leading_stream(MeasuredHistory(), trained, every_s=every_s), 100)
        assert run.next_job() is None
        run.schedule.received(told(3, RetrainRequest("fans")))
        assert run.next_job() is None
        run.schedule.received(told(4, RetrainRequest("pumps", "new impeller", "kim")))
        job = run.next_job()
        assert job is not None
        assert (job.trigger.reason, job.until_ns) == (
            "kim asked for it: new impeller",
            (GRID_S + 90) * SECOND_NS,
        )
        assert reason_of(run) == ("request", (4,), 4)  # nothing has answered it
        run.schedule.received(told(5, RetrainRequest("pumps")))  # while the training runs
        run.schedule.answered(4)
        assert reason_of(run) == ("request", (5,), 5)
        run.schedule.answered(5)
        run.schedule.received(told(5, RetrainRequest("pumps")))  # the topic is read again
        assert run.next_job() is None


def test_a_request_in_a_topic_that_was_made_anew_is_due_though_later_positions_were_answered(
    trained: Bundle,
) -> None:
    run = fed_until(leading_stream(MeasuredHistory(), trained), 100)
    run.schedule.answered(7, of_topic=1)  # before a restart
    run.schedule.received(told(7, RetrainRequest("pumps"), of_topic=1))
    assert run.next_job() is None
    run.schedule.received(told(8, RetrainRequest("pumps"), of_topic=1))
    run.schedule.received(told(0, RetrainRequest("pumps"), of_topic=2))
    job = run.next_job()
    assert job is not None
    assert (job.trigger.requests, job.trigger.position, job.trigger.of_topic) == ((0,), 0, 2)
    run.schedule.answered(0, of_topic=2)
    assert run.next_job() is None


@pytest.mark.parametrize("known_first", [True, False])
def test_decisions_that_do_not_say_of_which_topic_answer_the_first(
    trained: Bundle, known_first: bool
) -> None:
    """Those of earlier versions."""
    run = fed_until(leading_stream(MeasuredHistory(), trained), 100)
    if known_first:
        run.schedule.answered(3)
        run.schedule.answered(1)
    for position in range(4):
        run.schedule.received(told(position, RetrainRequest("pumps"), of_topic=7))
    if not known_first:
        run.schedule.answered(3)
    assert run.next_job() is None
    run.schedule.received(told(4, RetrainRequest("pumps"), of_topic=7))
    assert reason_of(run) == ("request", (4,), 4)
    run.schedule.received(told(0, RetrainRequest("pumps"), of_topic=8))  # made anew
    assert reason_of(run) == ("request", (0,), 0)


def test_a_training_by_another_cause_answers_requests_too(trained: Bundle) -> None:
    run = fed_until(leading_stream(MeasuredHistory(), trained), EVERY_S + 11)
    run.schedule.received(told(0, RetrainRequest("pumps")))
    first = run.next_job()
    assert first is not None
    run.schedule.answered(first.trigger.position)
    due = fed_until(run, 2 * EVERY_S + 11).next_job()
    assert due is not None
    assert (str(due.trigger.cause), due.trigger.requests) == ("schedule", ())


def test_verdicts_make_a_training_due_once_an_hour(trained: Bundle) -> None:
    now = 0.0
    run = fed_until(leading_stream(MeasuredHistory(), trained, clock=lambda: now), 100)
    run.schedule.received(told(0, Feedback("f1", Verdict.PLANNED)))
    run.schedule.received(
        told(1, MaintenanceOrder("m", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)))
    )
    assert run.next_job() is None
    run.schedule.received(told(2, Feedback("f1", Verdict.FALSE_ALARM)))
    assert reason_of(run) == ("feedback", (), 2)
    run.schedule.answered(2)
    run.schedule.received(told(3, Feedback("f2", Verdict.CONFIRMED)))
    now = 3599.0
    assert run.next_job() is None
    now = 3600.0
    assert reason_of(run) == ("feedback", (), 3)


def test_drift_makes_a_training_due_once_in_an_interval_of_trainings(trained: Bundle) -> None:
    history = MeasuredHistory()
    run = fed_until(leading_stream(history, trained), 500)
    assert run.needs_drift
    for end_s in (100, 200, 300):
        history.drift.add(drift_interval(end_s, trained.version))
    assert due_history(run) == "until 300"
    assert run.next_job() is None
    history.drift.add(drift_interval(400, trained.version))
    assert run.next_job() is None  # a candidate did not help
    fed_until(run, 1_000)
    assert due_history(run) == f"until {EVERY_S}"  # the schedule goes on
    for end_s in (500, 600, 700, 800, 900):
        history.drift.add(drift_interval(end_s, trained.version))
    job = run.next_job()
    assert job is not None
    assert (job.trigger.cause, job.until_ns) == (Cause.DRIFT, (GRID_S + 900) * SECOND_NS)
    assert job.trigger.reason.startswith("sensors.pumps/0 drifts since 2023")


def test_drift_trains_nothing_where_trainings_are_off_or_under_another_model(trained: Bundle) -> None:
    for every_s, model in ((None, trained.version), (EVERY_S, "another")):
        history = MeasuredHistory()
        run = fed_until(leading_stream(history, trained, every_s=every_s), 500)
        for end_s in (100, 200, 300):
            history.drift.add(drift_interval(end_s, model))
        assert run.next_job() is None


def drift_interval(end_s: int, model: str) -> PublishedDrift:
    end_ns = (GRID_S + end_s) * SECOND_NS
    return PublishedDrift("pumps", PUMPS_0, end_ns - 100 * SECOND_NS, end_ns, model, "drift")


async def test_a_request_outlives_a_training_whose_history_cannot_be_read(trained: Bundle) -> None:
    now = 0.0
    run = fed_until(leading_stream(MeasuredHistory(), trained, clock=lambda: now), 100)
    loop, _, _ = loop_over(Script([]), run)
    loop.lifecycle.received(told(7, RetrainRequest("pumps")))
    for result, left in (
        (TrainingResult(False, "the broker is away", "", None, 1.0, 0, later=True), True),
        (TrainingResult(False, "too few rows", "", None, 1.0, 0), False),
    ):
        job = run.next_job()
        assert job is not None
        run.trigger = job.trigger
        await loop.lifecycle.training_ended(run, result)
        assert run.schedule.requested is left
        now += 10.0
