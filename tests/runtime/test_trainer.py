"""The training process, as its parent sees it."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.budget import Budget
from daemon.domain import SECOND_NS, AlarmPolicy, ModelSettings, Progress, Segment, StreamSpec
from daemon.model.admission import Origin
from daemon.model.admission.origin import DecisionFact
from daemon.model.bundle import Bundle
from daemon.runtime.history import FoundHistory, HistoryNotReady, TrainingHistory
from daemon.runtime.trainer import Trainer, TrainingJob, hold_out, learn
from daemon.stream.steps import RowBlock
from daemon.trigger import Cause, Trigger

SPEC = StreamSpec("pumps", ("Pressure", "Current"), period_ns=60 * SECOND_NS)


def order(rows: int) -> TrainingJob:
    history = [Segment("a", 0, np.zeros((rows, 2)))]
    return TrainingJob(SPEC, ModelSettings(), AlarmPolicy(), Budget(1.0), 60, history)


# ------------------------------------------------------------------ what is learned, and what is compared on
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 60)), max_size=12),
    st.sampled_from([0.2, 0.5]),
)
def test_the_newest_share_of_each_assets_rows_is_held_out(
    pieces: list[tuple[str, int]], share: float
) -> None:
    history, ends = [], dict.fromkeys("abc", 0)
    for asset, rows in pieces:
        first = ends[asset] + 5  # a gap before each
        ends[asset] = first + rows
        history.append(Segment(asset, first, np.arange(first, first + rows)[:, None] * 1.0, ("run",) * rows))
    halves = hold_out(history, share)
    for asset in "abc":
        every, older, newer = (
            [row for s in part if s.asset == asset for row in s.values[:, 0].tolist()]
            for part in (history, *halves)
        )
        assert older + newer == every
        assert len(newer) == int(share * len(every))
    for s in [*halves[0], *halves[1]]:
        assert s.values[:, 0].tolist() == list(range(s.first_row, s.first_row + len(s.values)))
        assert len(s.condition) == len(s.values) > 0


WINDOWED = replace(SPEC, window=8, hop=4)
QUICK = ModelSettings(kind="ppca")


def rows_of(rows: int, level: float = 0.0, first: int = 0, asset: str = "a") -> Segment:
    values = level + np.random.default_rng(first).standard_normal((rows, 2))
    return Segment(asset, first, values @ np.array([[1.0, 0.5], [0.0, 1.0]]))


def taught(
    history: Sequence[Segment] | object, incumbent: Bundle | None = None, **more: object
) -> TrainingJob:
    before = None if incumbent is None else incumbent.to_bytes()
    made = TrainingJob(WINDOWED, QUICK, AlarmPolicy(), Budget(24.0), 60, history, before)  # type: ignore[arg-type]
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def incumbent() -> Bundle:
    outcome = learn(taught([rows_of(6_000)]))
    assert outcome.bundle is not None
    loaded = Bundle.from_bytes(outcome.bundle)
    assert not loaded.calibration.provisional
    return loaded


def test_a_first_training_takes_all_rows_and_a_retraining_holds_out_the_newest_fifth(
    incumbent: Bundle,
) -> None:
    first = Origin.of(incumbent.facts)
    assert (first.parent, first.trigger, first.rows_of) == (None, "first", {"a": 6_000})
    assert (first.oldest_ns, first.newest_ns) == (0, 5_999 * WINDOWED.period_ns)
    assert first.decision == DecisionFact(promoted=True, reason="first model")
    until_ns = 10_001 * WINDOWED.period_ns
    outcome = learn(
        taught([rows_of(2_000, first=8_000)], incumbent, until_ns=until_ns, trigger=Trigger(Cause.SCHEDULE))
    )
    assert outcome.promoted, outcome.reason
    assert outcome.rows == 2_000
    assert outcome.bundle is not None
    candidate = Bundle.from_bytes(outcome.bundle)
    assert candidate.version == outcome.version
    origin = Origin.of(candidate.facts)
    assert (origin.parent, origin.trigger) == (incumbent.version, "schedule")
    assert (origin.rows, origin.rows_of) == (1_600, {"a": 1_600})
    assert origin.oldest_ns == 8_000 * WINDOWED.period_ns
    assert origin.newest_ns == 9_599 * WINDOWED.period_ns
    assert candidate.facts["trained_until"] == until_ns
    assert candidate.facts["anchor"]["version"] == incumbent.version
    assert outcome.decision is not None
    assert candidate.facts["anchor"]["recall"]["share"] == outcome.decision.figures["incumbent_recall_all"]
    judged = sum(row % 4 == 0 for row in range(9_600 + 7, 10_000))
    assert outcome.decision is not None
    assert outcome.decision.figures["days"] == judged * 4 * WINDOWED.period_ns / 86_400e9


def test_a_candidate_that_the_gate_refuses_is_not_promoted(incumbent: Bundle) -> None:
    outcome = learn(taught([rows_of(2_000, level=20.0)], incumbent))
    assert not outcome.promoted
    assert "has moved" in outcome.reason
    assert outcome.bundle is not None
    assert outcome.decision is not None
    assert outcome.decision.refused_by == "anchor_distance"
    assert Bundle.from_bytes(outcome.bundle).facts["decision"] == outcome.decision.facts()
    assert Bundle.from_bytes(outcome.bundle).version == outcome.version != ""


def test_rows_that_calibrate_a_shorter_window_only_are_too_few_for_a_stream() -> None:
    few = [rows_of(200)]
    order = taught(few, spec=replace(WINDOWED, window=32))
    outcome = learn(order)
    assert not outcome.promoted
    assert outcome.bundle is None
    assert outcome.reason == "200 rows calibrate only windows of 20, the stream's has 32"
    shorter = learn(replace(order, strict=False))
    assert shorter.bundle is not None
    assert Bundle.from_bytes(shorter.bundle).window == 20


@dataclass(frozen=True)
class Given:
    """An unread history that returns what it is given, or raises it."""

    found: FoundHistory | None = None

    def read(self, progress: Progress) -> FoundHistory:
        progress(0.1, "reading")
        if self.found is None:
            raise HistoryNotReady("too few rows yet")
        return self.found


def test_notes_and_end_of_a_history_are_in_the_result() -> None:
    progress: list[tuple[float, str]] = []
    found = FoundHistory([rows_of(600)], until_ns=700 * WINDOWED.period_ns, notes=["a note"])
    outcome = learn(taught(Given(found)), lambda share, doing: progress.append((share, doing)))
    assert outcome.bundle is not None
    assert outcome.notes == ("a note",)
    assert Bundle.from_bytes(outcome.bundle).facts["trained_until"] == 700 * WINDOWED.period_ns
    assert [share for share, _ in progress] == sorted(share for share, _ in progress)
    assert progress[0] == (0.1, "reading")
    assert progress[1][0] >= 0.3
    assert progress[-1][0] <= 1.0
    few = learn(taught(Given(replace(found, segments=[rows_of(10)]))))
    assert (few.promoted, few.bundle, few.notes, few.later) == (False, None, ("a note",), False)


def test_a_history_that_is_still_too_short_is_no_failure() -> None:
    outcome = learn(taught(Given()))
    assert (outcome.promoted, outcome.later, outcome.postponed) == (False, True, True)
    assert outcome.reason == "too few rows yet"


# ------------------------------------------------------------------ the process
def endless() -> TrainingJob:
    """A training that ends when somebody ends it."""
    return TrainingJob(SPEC, ModelSettings(steps=10**9), AlarmPolicy(), Budget(1.0), 60, [rows_of(2_000)])


@pytest.mark.slow
def test_an_interrupt_of_the_terminal_ends_a_training_with_that_reason(
    capfd: pytest.CaptureFixture[str],
) -> None:
    trainer = Trainer()
    trainer.start(endless())
    (process,) = (p for p in multiprocessing.active_children() if p.name == "trainer")
    while trainer.doing == "starting":
        assert trainer.poll() is None
        time.sleep(0.05)  # polling another process; nothing depends on how long
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    while (outcome := trainer.poll()) is None:
        assert trainer.busy
    assert (outcome.promoted, outcome.reason) == (False, "it was interrupted")
    assert "Traceback" not in capfd.readouterr().err


def test_a_training_ends_with_a_result_and_another_can_start() -> None:
    trainer = Trainer()
    trainer.start(taught([rows_of(600)]))
    while (outcome := trainer.poll()) is None:
        assert trainer.busy
        time.sleep(0.05)  # polling another process; nothing depends on how long
    assert outcome.promoted, outcome.reason
    assert outcome.bundle is not None
    assert outcome.version == Bundle.from_bytes(outcome.bundle).version
    assert outcome.version == learn(taught([rows_of(600)])).version
    assert not trainer.busy
    assert trainer.poll() is None
    assert not [p for p in multiprocessing.active_children() if p.name == "trainer"]

    trainer.start(endless())
    (process,) = (p for p in multiprocessing.active_children() if p.name == "trainer")
    while trainer.doing == "starting":
        assert trainer.poll() is None
        time.sleep(0.05)
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(niceness + 10, 19)
    trainer.stop()
    trainer.stop()
    assert not trainer.busy
    assert not process.is_alive()


@pytest.mark.slow
def test_a_training_process_ends_with_its_parent() -> None:
    """Killed, and so without a chance to end it: both write to one pipe, which ends when both have."""
    script = """
import os, signal, time
if __name__ == "__main__":
    from daemon.runtime.trainer import Trainer
    from tests.runtime.test_trainer import endless
    trainer = Trainer()
    trainer.start(endless())
    while trainer.doing == "starting":
        assert trainer.poll() is None
        time.sleep(0.05)
    print("under way", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as process:
        output, _ = process.communicate(timeout=120)
    assert output == b"under way\n"


@pytest.fixture
def stillborn() -> Iterator[None]:
    """Spawned processes end before they have read anything, as one does for want of memory."""
    multiprocessing.set_executable("/bin/false")
    yield
    multiprocessing.set_executable(sys.executable)


@pytest.mark.usefixtures("stillborn")
def test_a_training_process_that_never_starts_blocks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    trainer, environment = Trainer(), dict(os.environ)
    trainer.start(order(100_000))  # more than any pipe takes in
    assert dict(os.environ) == environment  # one thread is for the process alone
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
def test_a_training_that_cannot_be_started_is_a_result() -> None:
    trainer = Trainer()
    trainer.start(order(10))
    assert trainer.busy
    outcome = trainer.poll()
    assert outcome is not None
    assert outcome.reason == "the training process could not be started: Too many open files"
    assert not trainer.busy


def test_rows_that_were_fed_again_are_learned_once_and_break_no_segment() -> None:
    recent = TrainingHistory(SPEC, 1_000)
    recent.add(block(range(60), 1.0))
    recent.add(block(range(40, 100), 2.0))
    (segment,) = recent.segments()
    assert segment.first_row == 0
    assert segment.values[:, 0].tolist() == [1.0] * 40 + [2.0] * 60


def test_a_row_that_alarmed_is_excluded_even_if_it_was_fed_again_unjudged() -> None:
    recent = TrainingHistory(SPEC, 1_000)
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
def test_a_training_whose_thread_cannot_be_started_is_a_result_too(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_rows_of_a_sample_are_not_counted_for_what_is_held_out(incumbent: Bundle) -> None:
    class Sampled:
        def read(self, progress: Progress) -> FoundHistory:
            return FoundHistory([rows_of(2_000, first=8_000)], sampled=1_000, left_out={"alerts": 7})

    outcome = learn(replace(taught([], incumbent), history=Sampled()))
    assert outcome.bundle is not None
    assert Bundle.from_bytes(outcome.bundle).facts["rows"] == 1_800  # a fifth of the newest 1,000 is held out
    assert (outcome.rows, outcome.parent, outcome.left_out) == (2_000, incumbent.version, {"alerts": 7})
    assert outcome.span_ns == (8_000 * WINDOWED.period_ns, 9_999 * WINDOWED.period_ns)


# ------------------------------------------------------------------ where assets are beside each other
SLOW = replace(WINDOWED, period_ns=600 * SECOND_NS)


def fleet_of(first_day: int, offset: float = 0.0) -> list[Segment]:
    """Three assets over four days, the first apart by an offset of its first sensor."""
    made = []
    for i, asset in enumerate("abc"):
        rows = rows_of(576, first=first_day * 144, asset=asset)
        own = np.random.default_rng([i, first_day]).standard_normal(rows.values.shape)
        made.append(replace(rows, values=rows.values + own + [offset if asset == "a" else 0.0, 0.0]))
    return made


def test_a_model_keeps_where_assets_were_and_what_people_let_in_is_its_beginning() -> None:
    outcome = learn(taught(fleet_of(0), spec=SLOW))
    assert outcome.bundle is not None
    first = Bundle.from_bytes(outcome.bundle)
    assert first.facts["apart"]["assets"].keys() == {"a", "b", "c"}
    moved = FoundHistory(fleet_of(20, offset=1.5))
    alone, let_in = (
        learn(taught(replace(moved, let_in_ns=let_in), first, spec=SLOW)) for let_in in ({}, {"a": 0})
    )
    for outcome, known in ((alone, {"a", "b", "c"}), (let_in, {"b", "c"})):
        assert outcome.bundle is not None
        assert outcome.decision is not None
        assert Bundle.from_bytes(outcome.bundle).facts["anchor"]["apart"]["assets"].keys() == known
        judged = {rule.name: rule.passed for rule in outcome.decision.rules}
        assert judged.get("anchor_apart") == (False if len(known) == 3 else None)


def test_where_assets_are_is_of_the_newest_rows_without_a_sample_of_older_ones() -> None:
    newest, sample = fleet_of(20), fleet_of(2, offset=9.0)
    found = FoundHistory([*sample, *newest], sampled=3 * 576, newest_from_row=20 * 144)
    both = learn(taught(found, spec=SLOW)), learn(taught(newest, spec=SLOW))
    mixed, alone = (Bundle.from_bytes(one.bundle) for one in both if one.bundle is not None)
    assert mixed.facts["apart"] == alone.facts["apart"]
    assert mixed.facts["levels"] != alone.facts["levels"]
