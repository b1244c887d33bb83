"""Where chunks end, and that it never shows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from daemon.domain import (
    SECOND_NS,
    DriftRecord,
    PolledRecords,
    Reading,
    ScoredRow,
    StreamSpec,
)
from daemon.stream import chunker
from tests.stream.pipelines import (
    CENTRE,
    LONG,
    NAN,
    PUMPS_0,
    QUICK,
    SPEC,
    Counted,
    feed,
    make,
    numbered,
    steady,
    steps,
    wide,
)


@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_chunk_bounds_never_show(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> tuple[list[str], list[DriftRecord], list[int]]:
        made = steps(make(detector=replace(QUICK, conditions=("",))), readings, ended=True)
        sizes = [len(step.block.rows) for step in made if step.block is not None]
        outputs = [o for step in made for o in step.outputs]
        drift = [o for o in outputs if isinstance(o, DriftRecord)]
        return [repr(o) for o in outputs if not isinstance(o, DriftRecord)], drift, sizes

    rng = np.random.default_rng(1)
    readings = [wide(i + 1, *rng.choice([0.5, 0.6, 9.0, NAN], 2), asset=p) for i in range(300) for p in "xyz"]
    readings = numbered(readings)
    reference, drift, _ = run()
    monkeypatch.setattr(chunker, "FEWEST_ROWS", chunk)
    monkeypatch.setattr(chunker, "MOST_ROWS", chunk)
    outputs, drift_too, sizes = run()
    assert max(sizes) <= chunk
    assert [o.windows for o in drift_too] == [o.windows for o in drift]
    for one, other in zip(drift, drift_too, strict=True):  # sums, but for the order of adding
        assert other.latent_kl == pytest.approx(one.latent_kl)
        assert other.residual_kl == pytest.approx(one.residual_kl)
    assert sorted(outputs) == sorted(reference)
    assert [o for o in outputs if "ScoredRow" in o] == [o for o in reference if "ScoredRow" in o]


@pytest.mark.parametrize(("hop", "rows"), [(1, 16), (2, 32), (4, 40)])
def test_a_chunk_has_as_many_rows_as_there_may_be_windows_of(
    hop: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunker, "FEWEST_ROWS", 1)
    monkeypatch.setattr(chunker, "MOST_ROWS", 40)
    monkeypatch.setattr(chunker, "MOST_WINDOWS", 16)
    made = steps(make(replace(SPEC, hop=hop)), numbered(steady(200)), ended=True)
    assert max(len(step.block.rows) for step in made if step.block is not None) == rows


def test_a_chunk_ends_exactly_where_a_model_is_to_be_trained() -> None:
    pipeline = make(detector=None)
    pipeline.training_cut = 7
    fed = iter(pipeline.feed(PolledRecords(PUMPS_0, numbered([*steady(4), *steady(40, start=6)]))))
    before = 0
    for step in fed:
        assert step.block is not None
        before += len(step.block.rows)
        if pipeline.observed_rows == 7:
            break
    assert before == 9  # two of them empty: nobody spoke of them
    pipeline.use(CENTRE)
    scored = [o for step in fed for o in step.outputs if isinstance(o, ScoredRow)]
    assert [o.row_ns // SECOND_NS for o in scored] == [*range(9, 46)]


def calls(work: Callable[[], object]) -> int:
    """How many functions some work calls, those of C included: the same on every machine."""
    count = 0

    def noted(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(noted)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("spec", [SPEC, LONG])
def test_waiting_for_the_training_s_cut_costs_the_same_for_every_reading(spec: StreamSpec) -> None:
    """Assets one by one, so that each reading leaves a block of its own waiting."""

    def learn(n: int) -> int:
        pipeline = make(spec, None)
        pipeline.training_cut = 10 * n
        return calls(lambda: feed(pipeline, readings[:n]))

    readings = numbered(
        wide(i, 0.5, 0.5, asset=f"p{j}")
        if spec is SPEC
        else Reading(0, f"p{j}", i * SECOND_NS, None, sensor, 0.5 + i % 2)
        for j in range(40)
        for i in range(10)
        for sensor in (range(1) if spec is SPEC else range(2))
    )
    learn(50)
    few, many = learn(100), learn(400)
    assert many < 5 * few


def test_many_assets_that_start_afresh_in_one_chunk_cost_one_pass() -> None:
    def begin(n: int) -> int:
        pipeline = make(replace(LONG, allowed_lateness_ns=0), None)
        pairs = [(Counted(f"p{i}"), sensor) for i in range(n) for sensor in range(2)]
        Counted.hashed = 0
        steps(pipeline, numbered(Reading(0, name, SECOND_NS, None, sensor, 0.5) for name, sensor in pairs))
        return Counted.hashed

    assert begin(400) < 5 * begin(100)
