"""The process that trains, seen by whoever starts it."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from daemon.domain import SECOND_NS, AlarmPolicy, Budget, ModelSettings, Segment, StreamSpec
from daemon.retrainer import Order, Trainer


@pytest.fixture
def stillborn() -> Iterator[None]:
    """Spawned processes end before they have read anything, as one does for want of memory."""
    multiprocessing.set_executable("/bin/false")
    yield
    multiprocessing.set_executable(sys.executable)


@pytest.mark.usefixtures("stillborn")
def test_a_training_process_that_never_comes_up_holds_nothing_up() -> None:
    spec = StreamSpec("pumps", ("Pressure", "Current"), period_ns=60 * SECOND_NS)
    history = [Segment("a", 0, np.zeros((100_000, 2)))]  # more than any pipe takes in
    trainer = Trainer()
    trainer.start(Order(spec, ModelSettings(), AlarmPolicy(), Budget(), 60, history))
    while (outcome := trainer.poll()) is None:
        assert trainer.busy
    assert not outcome.promoted
    assert outcome.reason == "the training process ended with exit code 1"
    assert not trainer.busy
