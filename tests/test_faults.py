"""Faults on a real Kafka: after each, the outputs equal those of an undisturbed run.

``python -m tests.soak`` does the same for as long as one likes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import faults
from tests.broker import Broker, Cluster, NoBrokerError, java
from tests.conftest import without_broker
from tests.faults import ASSETS, STORM, Load, Trial, trained
from tests.running import topic_of

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("bundle"), ASSETS)


@pytest.fixture
def trial(kafka_bootstrap: str, tmp_path: Path, bundle: Path) -> Trial:
    return Trial(tmp_path, kafka_bootstrap, bundle)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    try:
        java()
        cluster = Cluster(tmp_path / "kafka")
        cluster.start()
    except NoBrokerError as error:
        without_broker(str(error))
        raise
    yield cluster
    cluster.kill()


def load(rows: int, per_second: float = 150.0) -> Load:
    return Load(rows, per_second, random.Random(5))


def test_kill_9_at_random_points(trial: Trial) -> None:
    faults.daemon_killed(trial, load(400))
    counts = trial.verdict()
    assert min(counts.values()) > 0, counts


def test_processes_come_and_go_under_load(trial: Trial) -> None:
    faults.rebalanced(trial, load(500))
    assert min(trial.verdict().values()) > 0


def test_a_broker_that_crashes_and_one_that_freezes_for_longer_than_a_session(
    own_broker: Broker, tmp_path: Path, bundle: Path
) -> None:
    own_broker.start()
    for fault in (faults.broker_restarted, faults.broker_frozen):
        trial = Trial(tmp_path / fault.__name__, own_broker.bootstrap, bundle, broker=own_broker)
        fault(trial, load(200))
        assert min(trial.verdict().values()) > 0


def test_the_brokers_that_coordinate_transactions_and_group_crash_under_load(
    cluster: Cluster, tmp_path: Path, bundle: Path
) -> None:
    trial = Trial(tmp_path, cluster.bootstrap, bundle, broker=cluster)
    faults.coordinator_moved(trial, load(250))
    assert min(trial.verdict().values()) > 0


def test_a_storm_of_poison_and_dead_letters_larger_than_their_topic_takes(trial: Trial) -> None:
    faults.poisoned(trial, load(120))
    counts = trial.verdict()
    assert counts["dead-letter"] >= len(STORM)
    letters = topic_of(trial.bootstrap, f"{trial.prefix}.dead-letter")
    assert max(len(record.value) for record in letters) == 1500
    origins = {(h["origin-partition"], h["origin-offset"]) for h in (dict(r.headers) for r in letters)}
    assert len(origins) == len(letters)
    assert {dict(r.headers)["length"] for r in letters if len(r.value) == 1500} == {b"400000"}


def test_an_output_that_is_refused_stops_the_run_and_loses_nothing(trial: Trial) -> None:
    faults.output_refused(trial, load(300))
    assert min(trial.verdict().values()) > 0


def test_a_dead_letter_topic_that_rejects_messages_stops_the_run_and_loses_nothing(trial: Trial) -> None:
    faults.dead_letters_refused(trial, load(300))
    assert min(trial.verdict().values()) > 0


def test_a_model_that_raises_on_a_window_affects_no_other_window(trial: Trial) -> None:
    faults.model_raises(trial, load(500))
    assert min(trial.verdict().values()) > 0


def test_a_lost_and_a_repeated_message_are_found() -> None:
    assert faults.difference(["a", "b", "b"], ["a", "b", "c", "c"]) == (["b"], ["c", "c"])
