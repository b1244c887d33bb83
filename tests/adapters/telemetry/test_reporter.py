"""One event, one call: what metrics, page and log make of it."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon.adapters.telemetry import (
    DrillFigures,
    IngestedPoll,
    KindFigures,
    Lifecycle,
    Metrics,
    ModelInUse,
    Promotion,
    Reporter,
    RestoredState,
    SensorFigures,
    SourceCounts,
    Status,
    TrainingReport,
)
from daemon.domain import DeadLetter, Disposition, Dropped, Reason, Record, Rejected
from daemon.model.faults import FaultKind
from daemon.stream.accounts import Counts
from daemon.trigger import Cause, Trigger
from tests.adapters.telemetry.outputs import PARTITION, alert, drift_record
from tests.fakes import CentreDetector


@pytest.fixture
def reporter() -> Reporter:
    return Reporter(Metrics(["pumps"], ["plant.pumps"]), Status({"pumps": 500}))


def sample(reporter: Reporter, series: str) -> float:
    """The value of a series, written without its prefix."""
    for line in reporter.metrics.exposition().decode().splitlines():
        if line.startswith(f"anomalyd_{series} "):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"{series} is not there")


def in_use(result: Promotion = Promotion.PROMOTED, **more: Any) -> ModelInUse:
    return ModelInUse(CentreDetector(("p", "q")), 10**18, (), result, "better", **more)


def test_a_promotion_is_on_metrics_page_and_log(reporter: Reporter) -> None:
    with capture_logs() as logs:
        reporter.model_in_use("pumps", in_use(conditions_differ="it learned condition [x]"))
    page = reporter.status.streams["pumps"]
    assert (page.model, page.state, page.threshold) == ("centre-1", Lifecycle.LIVE, 3.0)
    assert [(change.result, change.reason) for change in page.models] == [("promoted", "better")]
    assert sample(reporter, 'model_info{stream="pumps",version="centre-1"}') == 1
    assert sample(reporter, 'model_trained_timestamp_seconds{stream="pumps"}') == 1e9
    assert [entry["event"] for entry in logs] == ["model_promoted", "model_conditions_differ"]


def test_without_a_model_no_figure_of_the_last_one_stays(reporter: Reporter) -> None:
    reporter.model_in_use("pumps", in_use())
    reporter.no_model_in_use("pumps", "centre-1", "it failed")
    page = reporter.status.streams["pumps"]
    assert page.model is None
    assert page.models[-1].reason == "it failed; there is no model before it"
    assert sample(reporter, 'model_info{stream="pumps",version="none"}') == 1
    assert math.isnan(sample(reporter, 'threshold{score="combined",stream="pumps"}'))


def test_learning_is_logged_when_it_begins(reporter: Reporter) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            reporter.learning("pumps", 500)
    assert [(entry["event"], entry["rows_wanted"]) for entry in logs] == [("learning", 500)]
    assert reporter.status.streams["pumps"].state is Lifecycle.LEARNING


def test_a_training_that_is_postponed_has_neither_ended_nor_failed(reporter: Reporter) -> None:
    asked = Trigger(Cause.REQUEST, "kim asked for it")
    reporter.training_started("pumps", asked, None, lambda: (0.5, "fitting"))
    assert reporter.status.streams["pumps"].training
    with capture_logs() as logs:
        reporter.training_ended("pumps", TrainingReport("too few", "", 0, 1.0, ["short"], postponed=True))
        reporter.training_ended("pumps", TrainingReport("better", "v2", 9, 2.0, concerns=["flat"]))
    events = [entry["event"] for entry in logs]
    assert events == ["training_history", "training_postponed", "training_ended", "model_concern"]
    assert not reporter.status.streams["pumps"].training
    assert sample(reporter, "retrain_duration_seconds_count") == 2


def test_repeated_events_are_counted_each_time_and_logged_once_a_minute(reporter: Reporter) -> None:
    poll = IngestedPoll("plant.pumps", "pumps", 5, dropped={Dropped.MODEL_FAILED: 2})
    with capture_logs() as logs:
        for _ in range(10):
            reporter.poll_ingested(poll)
            reporter.bundle_refused("pumps", "registry", "damaged")
            reporter.registry_unread("no broker")
            reporter.history_unread("pumps", "no broker")
            reporter.model_not_withdrawn("pumps", "v1", "no broker")
    assert sorted(entry["event"] for entry in logs) == [
        "bundle_refused",
        "history_unread",
        "model_not_withdrawn",
        "registry_unread",
        "windows_unscored",
    ]
    assert sample(reporter, 'dropped_total{reason="model_failed",stream="pumps"}') == 20
    assert sample(reporter, 'bundle_refused_total{source="registry"}') == 10


def test_names_outside_the_configuration_are_logged_once_and_not_without_end(reporter: Reporter) -> None:
    names = [f"s{i}" for i in range(100)]
    with capture_logs() as logs:
        for _ in range(3):
            reporter.poll_ingested(
                IngestedPoll(
                    "plant.pumps",
                    "pumps",
                    1,
                    Counts(Counter({Disposition.LATE: 1})),
                    unknown_sensors=names,
                    sensors=["S1"],
                    zoneless=True,
                )
            )
    events = [entry["event"] for entry in logs]
    assert events.count("unknown_sensor") == 20
    assert {e["nearest"] for e in logs if e.get("sensor") == "s1"} == {"S1"}
    assert events.count("timestamps_without_zone") == 1
    assert reporter.status.streams["pumps"].records["late"] == 3


def test_cells_that_are_no_numbers_are_logged_once_per_sensor_and_fault(reporter: Reporter) -> None:
    for_level = Counter({("Level", "text"): 3})
    polls = [
        IngestedPoll(
            "plant.pumps", "pumps", 1, Counts(corrupt=corrupt), corrupt_examples={("Level", "text"): "'ERR'"}
        )
        for corrupt in (for_level, for_level, Counter({("Level", "array"): 1}), Counter[tuple[str, str]]())
    ]
    with capture_logs() as logs:
        for poll in polls:
            reporter.poll_ingested(poll)
    assert [(e["event"], e["sensor"], e["fault"], e["count"], e["example"]) for e in logs] == [
        ("cells_not_numbers", "Level", "text", 3, "'ERR'"),
        ("cells_not_numbers", "Level", "array", 1, ""),
    ]
    assert "give the sensor states" in logs[0]["rule"]
    assert "a path to one element" in logs[1]["rule"]
    assert sample(reporter, 'corrupt_cells_total{fault="text",sensor="Level",stream="pumps"}') == 6


def test_a_command_that_says_it_at_its_end_logs_no_line_per_sensor() -> None:
    reporter = Reporter(Metrics(["pumps"], ["t"]), Status(["pumps"]), at_the_end=True)
    corrupt = Counter({("Level", "text"): 3, ("Flow", "text"): 1})
    with capture_logs() as logs:
        reporter.poll_ingested(IngestedPoll("t", "pumps", 1, Counts(corrupt=corrupt)))
    assert logs == []
    assert reporter.status.streams["pumps"].corrupt == corrupt


def test_sensors_that_send_no_numbers_are_not_logged_without_end(reporter: Reporter) -> None:
    corrupt = Counter({(f"s{i}", "text"): 1 for i in range(500)})
    with capture_logs() as logs:
        reporter.poll_ingested(IngestedPoll("plant.pumps", "pumps", 1, Counts(corrupt=corrupt)))
    assert len(logs) == 100


@pytest.mark.parametrize(
    ("state", "results", "records"),
    [
        (RestoredState(False, False, ()), {}, []),
        (RestoredState(True, True, ()), {"ok": 1}, []),
        (RestoredState(True, False, ()), {"failed": 1}, [None]),
        (RestoredState(True, True, ("a", "b")), {"ok": 1, "unusable": 2}, [2]),
        (RestoredState(True, False, ("a",)), {"failed": 1, "unusable": 1}, [1]),
    ],
)
def test_state_that_cannot_be_used_is_logged_once(
    reporter: Reporter, state: RestoredState, results: dict[str, int], records: list[int | None]
) -> None:
    with capture_logs() as logs:
        reporter.state_restored(PARTITION, state)
    assert [entry.get("records") for entry in logs] == records
    for result in ("ok", "failed", "unusable"):
        assert sample(reporter, f'state_restores_total{{result="{result}"}}') == results.get(result, 0)
    assert reporter.status.joined


def test_a_revoked_partition_takes_its_episodes_with_it(reporter: Reporter) -> None:
    reporter.outputs_published([alert(), drift_record()])
    assert len(reporter.status.open) == 1
    assert sample(reporter, 'episodes_active{severity="warning"}') == 1
    with capture_logs() as logs:
        reporter.partition_revoked(PARTITION)
    assert not reporter.status.open
    assert sample(reporter, 'episodes_active{severity="warning"}') == 0
    assert [entry["event"] for entry in logs] == ["partition_revoked"]


def test_what_a_source_counts_is_added_once(reporter: Reporter) -> None:
    reporter.source_counted(SourceCounts(rebalances=1, commits=5))
    reporter.source_counted(SourceCounts(rebalances=1, commits=7, failed_commits=2))
    assert sample(reporter, 'offset_commits_total{result="ok"}') == 7
    assert sample(reporter, 'offset_commits_total{result="failed"}') == 2
    assert reporter.status.joined


def test_a_drill_of_another_model_starts_over(reporter: Reporter) -> None:
    shift = FaultKind.SHIFT
    reporter.drilled(
        "pumps",
        DrillFigures(
            True, [(shift, True)], [KindFigures(shift, 0.5, 3.0)], [SensorFigures("p", shift, 4.0)], 0.5
        ),
    )
    assert sample(reporter, 'drill_recall{kind="shift",stream="pumps"}') == 0.5
    assert sample(reporter, 'drill_smallest_size{kind="shift",sensor="p",stream="pumps"}') == 4.0
    reporter.drilled("pumps", DrillFigures(True, [], [], [], 0.25))
    assert math.isnan(sample(reporter, 'drill_recall{kind="shift",stream="pumps"}'))
    assert b"drill_smallest_size{" not in reporter.metrics.exposition()
    assert sample(reporter, 'drill_cpu_seconds_total{stream="pumps"}') == 0.75


def test_kafka_is_a_dependency_from_its_first_answer_to_half_a_minute_of_silence(reporter: Reporter) -> None:
    silence = 0.0
    reporter.reads_kafka(lambda: silence)
    assert reporter.status.source == "kafka"
    reporter.connected()
    assert sample(reporter, 'dependency_up{dependency="kafka"}') == 1
    silence = 30.0
    assert sample(reporter, 'dependency_up{dependency="kafka"}') == 0
    reporter.draining()
    assert sample(reporter, 'lifecycle_state{state="draining"}') == 1


def test_rejected_records_are_logged_once_a_minute_per_stream_and_reason() -> None:
    now = [0.0]
    reporter = Reporter(Metrics(["pumps"], ["plant.pumps"]), Status({"pumps": 500}), clock=lambda: now[0])

    def rejected(offset: int, reason: Reason, stream: str = "pumps") -> DeadLetter:
        record = Record(offset, b"press\n01", b'{"ts": 9' + b" " * 500, 0)
        return DeadLetter(stream, PARTITION, Rejected(record, reason, "over 1 h ahead"))

    with capture_logs() as logs:
        reporter.outputs_published([rejected(i, Reason.FUTURE) for i in range(3)])
        for i in range(3, 10):
            reporter.outputs_published([rejected(i, Reason.FUTURE), alert()])
        reporter.outputs_published([rejected(10, Reason.NOT_JSON), rejected(11, Reason.FUTURE, "fans")])
        reporter.outputs_published([rejected(12, Reason.FORGOTTEN)])
        now[0] = 60.0
        reporter.outputs_published([rejected(13, Reason.FUTURE)])
    logs = [entry for entry in logs if entry["event"] == "records_rejected"]
    assert [(e["stream"], e["reason"], e["count"], e["offset"], e["log_level"]) for e in logs] == [
        ("pumps", "future", 3, 0, "warning"),
        ("pumps", "not_json", 1, 10, "warning"),
        ("fans", "future", 1, 11, "warning"),
        ("pumps", "forgotten", 1, 12, "info"),
        ("pumps", "future", 8, 13, "warning"),
    ]
    first = logs[0]
    assert (first["detail"], first["key"], first["partition"]) == (
        "over 1 h ahead",
        "press 01",
        PARTITION.number,
    )
    assert first["example"].startswith('{"ts": 9')
    assert len(first["example"]) <= 164


def test_commands_that_say_at_their_end_what_is_rejected_do_not_log_it() -> None:
    reporter = Reporter(Metrics(["pumps"], ["plant.pumps"]), Status({"pumps": 500}), at_the_end=True)
    letter = DeadLetter("pumps", PARTITION, Rejected(Record(0, None, b"{", 0), Reason.NOT_JSON, "x"))
    with capture_logs() as logs:
        reporter.outputs_published([letter])
    assert not [entry for entry in logs if entry["event"] == "records_rejected"]
