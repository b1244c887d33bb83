"""Faults on a real Kafka: after each, what was said equals what an undisturbed run says.

``python -m tests.soak`` does more of the same, for as long as one likes.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.faults import Trial, flowing, kill, trained, troubled_lines

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

ASSETS = 12


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("bundle"), ASSETS)


@pytest.fixture
def trial(kafka_bootstrap: str, tmp_path: Path, bundle: Path) -> Trial:
    return Trial(tmp_path, kafka_bootstrap, bundle)


def pause(seconds: float) -> None:
    """Let another process get on; when it is hit is up to chance anyway."""
    time.sleep(seconds)


def test_kill_9_at_random_points(trial: Trial) -> None:
    chance = random.Random(5)
    lines = troubled_lines(500, ASSETS)
    with flowing(trial.bootstrap, trial.topic, lines, 150):
        for _ in range(3):
            with trial.daemon() as daemon:
                daemon.until(lambda s: s["scored"] > 0)
                pause(chance.uniform(0.0, 1.5))
                kill(daemon)
    with trial.daemon() as daemon:
        trial.wait([daemon])
        assert daemon.stop() == 0
    counts = trial.verdict()
    assert min(counts.values()) > 0, counts
