"""When the drift of a stream makes a training due."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from daemon.domain import SECOND_NS, DriftRecord, InputPartition
from daemon.runtime.drift_watch import DriftWatch
from daemon.stream.encoding import PublishedDrift, encode, read_drift

HOUR_NS = 3600 * SECOND_NS
HERE, THERE = InputPartition("pumps", 0), InputPartition("pumps", 1)


def interval(
    hour: int, verdict: str = "drift", where: InputPartition = HERE, model: str = "m1"
) -> DriftRecord:
    return DriftRecord(
        stream="pumps",
        partition=where,
        start_ns=hour * HOUR_NS,
        end_ns=(hour + 1) * HOUR_NS,
        model=model,
        windows=100,
        latent_sum=(0.0,),
        latent_square_sum=(1.0,),
        residual_count=(100,),
        residual_sum=(0.0,),
        residual_square_sum=(1.0,),
        kl_sum=1.0,
        latent_kl=(0.1,),
        residual_kl=(0.1,),
        latent_threshold=1.0,
        residual_threshold=1.0,
        verdict=verdict,
    )


def watching(*verdicts: str, where: InputPartition = HERE) -> DriftWatch:
    watch = DriftWatch()
    for hour, verdict in enumerate(verdicts):
        watch.add(interval(hour, verdict, where))
    return watch


@pytest.mark.parametrize(
    ("verdicts", "since"),
    [
        (["drift", "drift"], None),
        (["drift", "ok", "drift", "drift"], None),
        (["ok", "drift", "drift", "drift"], 1),
        (["drift", "drift", "drift", "drift"], 0),
        (["drift", "drift", "insufficient", "drift"], 0),
        (["drift", "drift", "drift", "ok"], None),
    ],
)
def test_three_intervals_in_a_row_are_a_drift(verdicts: list[str], since: int | None) -> None:
    found = watching(*verdicts).drifting("m1")
    assert (None if found is None else found.since_ns // HOUR_NS) == since
    assert found is None or found.end_ns == len(verdicts) * HOUR_NS


def test_intervals_of_several_partitions_or_models_are_no_row() -> None:
    watch = watching("drift", "drift")
    watch.add(interval(2, where=THERE))
    assert watch.drifting("m1") is None
    watch.add(interval(2, model="m2"))
    assert watch.drifting("m1") is watch.drifting("m2") is None


def test_late_rows_of_a_judged_interval_break_no_row_and_count_once() -> None:
    watch = watching("drift", "drift")
    watch.add(interval(1))
    assert watch.drifting("m1") is None
    watch.add(interval(1, "insufficient"))
    watch.add(interval(2))
    assert watch.drifting("m1") is not None


def test_a_record_is_read_back_from_its_message() -> None:
    record = interval(5)
    message = encode(record, datetime(2026, 1, 1, tzinfo=UTC)).value
    assert read_drift(message) == PublishedDrift(
        "pumps", HERE, record.start_ns, record.end_ns, "m1", "drift", record.windows, record.explained
    )
    for bad in (b"{", b'{"stream": "pumps"}', message[:-1], b" " * (1 << 21)):
        with pytest.raises(ValueError, match="drift"):
            read_drift(bad)
