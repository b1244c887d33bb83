"""The process that trains, seen by whoever starts it."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from daemon.domain import SECOND_NS, AlarmPolicy, Budget, ModelSettings, Segment, StreamSpec
from daemon.history import Recent
from daemon.retrainer import Order, Trainer
from daemon.stream.pipeline import RowBlock

SPEC = StreamSpec("pumps", ("Pressure", "Current"), period_ns=60 * SECOND_NS)


def order(rows: int) -> Order:
    history = [Segment("a", 0, np.zeros((rows, 2)))]
    return Order(SPEC, ModelSettings(), AlarmPolicy(), Budget(), 60, history)


@pytest.fixture
def stillborn() -> Iterator[None]:
    """Spawned processes end before they have read anything, as one does for want of memory."""
    multiprocessing.set_executable("/bin/false")
    yield
    multiprocessing.set_executable(sys.executable)


@pytest.mark.usefixtures("stillborn")
def test_a_training_process_that_never_comes_up_holds_nothing_up() -> None:
    trainer = Trainer()
    trainer.start(order(100_000))  # more than any pipe takes in
    while (outcome := trainer.poll()) is None:
        assert trainer.busy
    assert not outcome.promoted
    assert outcome.reason == "the training process ended with exit code 1"
    assert not trainer.busy


@pytest.fixture
def no_more_files() -> Iterator[None]:
    """No file can be opened any more, nor a pipe."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("no_more_files")
def test_a_training_that_cannot_be_started_is_an_outcome() -> None:
    trainer = Trainer()
    trainer.start(order(10))
    assert trainer.busy
    outcome = trainer.poll()
    assert outcome is not None
    assert outcome.reason == "the training process could not be started: Too many open files"
    assert not trainer.busy


def test_rows_that_were_fed_again_are_learned_once_and_break_no_segment() -> None:
    recent = Recent(SPEC, 1_000)
    recent.add(block(range(60), 1.0))
    recent.add(block(range(40, 100), 2.0))
    (segment,) = recent.segments()
    assert segment.first_row == 0
    assert segment.values[:, 0].tolist() == [1.0] * 40 + [2.0] * 60


def test_a_row_that_alarmed_stays_out_though_it_was_not_judged_when_it_was_fed_again() -> None:
    recent = Recent(SPEC, 1_000)
    recent.add(block(range(200), 1.0, firing=100))
    recent.add(block(range(200), 1.0))
    learned = sum(len(segment.values) for segment in recent.segments())
    assert learned == 200 - (4 * SPEC.window + 1)


def block(rows: range, value: float, firing: int | None = None) -> RowBlock:
    index = np.array(rows)
    return RowBlock(
        ["a"] * len(index),
        np.zeros(len(index), np.int64),
        index,
        np.full((len(index), 2), value),
        np.full(len(index), np.nan),
        index == -1 if firing is None else index == firing,
        [""] * len(index),
    )


@pytest.mark.filterwarnings("ignore:resource_tracker")  # one of the tests here let it die
def test_a_training_whose_thread_cannot_be_started_is_an_outcome_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    trainer = Trainer()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        trainer.start(order(10))
    outcome = trainer.poll()
    assert outcome is not None
    assert outcome.reason == "the training process could not be started: can't start new thread"
    trainer.stop()
