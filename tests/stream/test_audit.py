"""Audited imputation: what is hidden, what is compared, what is said, and that nothing else moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from daemon.detector import Evidence, Scaling, Windows
from daemon.domain import SECOND_NS, Floats
from daemon.maintenance import MaintenanceWindow
from daemon.stream.assets import AssetTable
from daemon.stream.audit import AT_ONCE, FEWEST, KEPT, MOST_SHARE, Audit, Audited, Imputable, Tallies
from daemon.stream.pipeline import Pipeline
from daemon.stream.steps import Step
from tests.fakes import CentreDetector
from tests.stream.pipelines import SPEC, in_order, make, numbered, plain, steps, wide

WIDE = replace(SPEC, window=16)


@dataclass(frozen=True)
class Witness(CentreDetector):
    """Keeps every batch that it is asked about."""

    window: int = 16
    threshold: float = 50.0
    seen: list[Windows] = field(default_factory=list)

    def infer(self, windows: Windows) -> Evidence:
        self.seen.append(windows)
        return super().infer(windows)


def readings(rows: int, assets: int = 2, seed: int = 0, missing: float = 0.0) -> list:
    g = np.random.default_rng(seed)
    values = g.standard_normal((rows, assets, 2))
    values[g.random(values.shape) < missing] = math.nan
    return numbered(
        wide(t, *values[t, a].tolist(), asset=f"p{a}") for t in range(rows) for a in range(assets)
    )


def audited(steps_: list[Step]) -> Audited:
    """All audits together."""
    found = [step.audited for step in steps_ if step.audited is not None]
    names = [name for name in Audited.__slots__ if name != "model"]
    return Audited("", **{name: np.concatenate([getattr(a, name) for a in found]) for name in names})


# ------------------------------------------------------------------ which
def hashes(assets: Sequence[int], first: str = "asset-0") -> np.ndarray:
    """Hashes of the names of assets, as a table keeps them; ``first`` came before all others."""
    table = AssetTable(100)
    table.add(first)
    slots = [table.add(f"asset-{asset}") for asset in assets]
    return table.hashes[slots]


def test_one_in_so_many_readings_is_picked_evenly_and_gaps_halve() -> None:
    audit = Audit(400, 4, 16)
    slots, rows = np.repeat(np.arange(5), 40_000), np.tile(np.arange(40_000) + 1_700_000_000, 5)
    which, sensor, gap = audit.picked(hashes(range(5))[slots], rows)
    assert len(which) == pytest.approx(4 * len(rows) / 400, rel=0.1)
    assert np.bincount(slots[which]) == pytest.approx(len(which) / 5, rel=0.2)
    assert np.bincount(sensor) == pytest.approx(len(which) / 4, rel=0.2)
    assert set(gap.tolist()) == {1, 2, 4, 8}
    assert (gap == 1).mean() == pytest.approx(0.5, abs=0.05)
    assert (gap == 2).mean() == pytest.approx(0.25, abs=0.05)


def test_what_is_picked_depends_on_asset_and_row_alone() -> None:
    slots, rows = np.repeat(np.arange(3), 9000), np.tile(np.arange(9000), 3)
    first = Audit(100, 2, 16).picked(hashes(range(3))[slots], rows)
    # After a restart an asset may have another slot.
    again = hashes(range(3), first="other")
    order = np.random.default_rng(0).permutation(len(rows))
    second = Audit(100, 2, 16).picked(again[slots[order]], rows[order])
    assert sorted(zip(order[second[0]], second[1], second[2], strict=True)) == list(zip(*first, strict=True))


def test_many_sensors_do_not_make_it_dear() -> None:
    which, _, _ = Audit(1000, 500, 16).picked(np.repeat(hashes([0]), 20_000), np.arange(20_000))
    assert len(which) == pytest.approx(MOST_SHARE * 20_000, rel=0.2)


# ------------------------------------------------------------------ the stream
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_outputs_do_not_depend_on_the_audit(missing: float) -> None:
    said = []
    for one_in in (0, 20):
        pipeline = make(WIDE, CentreDetector(WIDE.sensors, window=16, threshold=0.9), audit=one_in)
        outputs = [
            output
            for step in steps(pipeline, readings(1500, missing=missing), ended=True)
            for output in step.outputs
        ]
        said.append((plain(outputs), in_order(outputs), pipeline.counts, pipeline.dropped))
    assert said[0] == said[1]
    assert said[0][1]  # there were alerts


def test_a_hidden_reading_is_filled_as_if_it_had_never_come() -> None:
    """Against the windows cut by hand from the same rows."""
    detector = Witness(WIDE.sensors)
    pipeline = make(WIDE, detector, audit=60)
    found = steps(pipeline, readings(2000, missing=0.1), ended=True)
    got = audited(found)
    assert len(got) > 25
    rows = {(r.asset, r.time_ns // SECOND_NS): np.array(r.values) for r in readings(2000, missing=0.1)}
    table = {asset: np.stack([rows[asset, t] for t in range(2000)]) for asset in ("p0", "p1")}
    for i in range(len(got)):
        c, k = int(got.sensor[i]), int(got.gap[i])
        asset, t = next(
            (a, t) for a, x in table.items() for t in np.flatnonzero(x[:, c] == got.truth[i]).tolist()
        )
        window = table[asset][t - 15 : t + 1, c]
        kept = window[:-k][np.isfinite(window[:-k])]
        assert got.value[i] == pytest.approx(kept.mean(), abs=1e-6)  # what the detector makes of it
        assert got.last[i] == pytest.approx(kept[-1], rel=1e-6)
        assert got.low[i] == pytest.approx(got.value[i] - 1.0)


def test_the_model_sees_copies_in_which_nothing_but_the_gap_is_missing() -> None:
    detector = Witness(WIDE.sensors)
    audit = Audit(1, 2, 16)
    window = np.arange(32, dtype=np.float32).reshape(1, 16, 2)
    windows = Windows(
        np.array([[[30.0, 31.0]]]), np.array([True]), ("",), np.zeros((1, 2)), np.zeros((1, 2)), window
    )
    audit.hide(windows, Scaling(np.zeros(2), np.ones(2)), np.array([0]), np.array([1]), np.array([4]))
    before = window.copy()
    found = audit.compared("v1", detector.infer, everything=True)
    assert found is not None
    assert (found.truth[0], found.last[0], found.gap[0]) == (31.0, 23.0, 4)
    (seen,) = detector.seen
    assert seen.scaled is not None
    assert seen.last_value is not None
    assert np.array_equal(np.isnan(seen.scaled[0]).nonzero()[0], [12, 13, 14, 15])
    assert np.isnan(seen.values[0, 0]).tolist() == [False, True]
    assert np.isnan(seen.last_value[0]).tolist() == [False, True]
    assert np.array_equal(window, before)


def test_the_only_reading_of_a_window_is_left_alone() -> None:
    audit = Audit(1, 2, 16)
    window = np.full((1, 16, 2), np.nan, np.float32)
    window[0, -1] = 1.0
    windows = Windows(np.ones((1, 1, 2)), np.array([True]), ("",), np.ones((1, 2)), np.zeros((1, 2)), window)
    audit.hide(windows, Scaling(np.zeros(2), np.ones(2)), np.array([0]), np.array([0]), np.array([1]))
    assert audit.compared("v1", Witness(WIDE.sensors).infer, everything=True) is None


def anywhere(pipeline: Pipeline) -> int:
    got = [s.audited for s in steps(pipeline, readings(1500), ended=True) if s.audited is not None]
    return sum(map(len, got))


def test_rows_in_which_a_fault_may_be_are_left_out() -> None:
    quiet = CentreDetector(WIDE.sensors, window=16, threshold=50.0)
    assert anywhere(make(WIDE, quiet, audit=60)) > 15
    assert anywhere(make(WIDE, replace(quiet, threshold=1e-3), audit=60)) == 0  # everything fires
    always = [MaintenanceWindow("always", 0, 10**6 * SECOND_NS)]
    assert anywhere(make(WIDE, quiet, audit=60, maintenance=always)) == 0


def test_what_is_read_again_is_not_hidden_again() -> None:
    pipeline = make(WIDE, Witness(WIDE.sensors), audit=60, publish_from=2000)
    found = audited(steps(pipeline, readings(1500), ended=True))
    fresh = audited(steps(make(WIDE, Witness(WIDE.sensors), audit=60), readings(1500), ended=True))
    assert set(found.truth.tolist()) < set(fresh.truth.tolist())  # the same picks, those of after


def test_a_model_that_fails_on_them_harms_nothing() -> None:
    @dataclass(frozen=True)
    class Fragile(CentreDetector):
        def infer(self, windows: Windows) -> Evidence:
            if len(windows) and np.isnan(windows.values).any():
                raise ValueError("no gaps, please")
            return super().infer(windows)

    pipeline = make(WIDE, Fragile(WIDE.sensors, window=16, threshold=50.0), audit=60)
    found = steps(pipeline, readings(1500), ended=True)
    assert not any(step.audited for step in found)
    assert sum(step.scored for step in found) == 2 * 1485
    assert pipeline.dropped.total() == 0


def test_what_waits_for_company_is_of_the_model_that_it_was_hidden_from() -> None:
    pipeline = make(WIDE, Witness(WIDE.sensors), audit=200)
    few = steps(pipeline, readings(60), ended=False)
    assert not any(step.audited for step in few)
    pipeline.use(Witness(WIDE.sensors, version="v2"))
    late = steps(pipeline, [], ended=True)
    assert not any(step.audited for step in late)
    assert AT_ONCE > 1


# ------------------------------------------------------------------ what is said
UNITS = Scaling(np.array([10.0]), np.array([2.0]))


def tallied(make_value: Callable[[Floats, np.random.Generator], Floats], audits: int = 400) -> Tallies:
    """A sensor that is a walk around its mean; the model's value of each reading as given."""
    g = np.random.default_rng(0)
    truth = 10.0 + 2.0 * g.standard_normal(audits)
    last = truth + 0.5 * g.standard_normal(audits)
    value = make_value(truth, g)
    gap = 1 << g.integers(0, 3, audits)
    tallies = Tallies(["t"], UNITS)
    tallies.add(Audited("v", np.zeros(audits, int), gap, truth, value, value - 0.5, value + 0.5, last))
    return tallies


def test_the_figures_are_means_over_the_audits() -> None:
    tallies = tallied(lambda truth, g: truth + np.where(g.random(len(truth)) < 0.25, 1.0, 0.1))
    found = tallies.of(0, gaps=True)
    assert found.sensor == "t"
    assert found.audits == 400
    assert found.error == pytest.approx(0.325, abs=0.03)
    assert found.relative == pytest.approx(found.error / 2.0)
    assert found.coverage == pytest.approx(0.75, abs=0.06)
    assert found.skill == pytest.approx(1 - found.error / 1.6, abs=0.05)
    assert [g.rows for g in found.gaps] == [1, 2, 4]
    assert sum(g.audits for g in found.gaps) == 400
    assert sum(g.audits * g.error for g in found.gaps) / 400 == pytest.approx(found.error)


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (lambda truth, g: truth + 0.1 * g.standard_normal(len(truth)), Imputable.GOOD),
        (lambda truth, g: truth + 0.6 * g.standard_normal(len(truth)), Imputable.LAST_VALUE),
        (lambda truth, g: np.full(len(truth), 10.0), Imputable.CANNOT),
        (lambda truth, g: truth + 5.0, Imputable.CANNOT),
        (lambda truth, g: np.full(len(truth), np.nan), Imputable.CANNOT),
        (lambda truth, g: truth, Imputable.GOOD),
    ],
)
def test_verdicts(value: Callable[[Floats, np.random.Generator], Floats], verdict: Imputable) -> None:
    assert tallied(value).of(0).verdict is verdict
    assert tallied(value, FEWEST - 1).of(0).verdict is Imputable.TOO_FEW


def test_a_sensor_that_stands_still_is_no_worse_for_it() -> None:
    still = np.full(100, 10.0)
    tallies = Tallies(["t"], UNITS)
    tallies.add(Audited("v", np.zeros(100, int), np.ones(100, int), still, still, still, still, still))
    found = tallies.of(0)
    assert (found.verdict, found.coverage, found.error) == (Imputable.GOOD, 1.0, 0.0)
    assert math.isnan(found.skill)


def test_a_set_point_that_a_model_sees_in_single_precision_is_filled_exactly() -> None:
    scaling = Scaling(np.array([7.1]), np.array([0.142]))
    truth = np.full(2 * FEWEST, 9.3)
    seen = float(np.float32((9.3 - 7.1) / 0.142)) * 0.142 + 7.1
    assert seen != 9.3
    filled = np.full(2 * FEWEST, seen)
    tallies = Tallies(("Level",), scaling)
    tallies.add(
        Audited("m", np.zeros(len(truth), np.int64), np.ones(len(truth), np.int64), truth, *[filled] * 4)
    )
    said = tallies.of(0)
    assert (said.error, said.coverage, said.verdict) == (0.0, 1.0, Imputable.GOOD)


def test_only_the_newest_audits_count() -> None:
    tallies = Tallies(["s", "t"], Scaling(np.zeros(2), np.ones(2)))
    for error in (5.0, 1.0):
        n = KEPT
        zero = np.zeros(n)
        values = zero + error
        tallies.add(Audited("v", np.ones(n, int), np.ones(n, int), zero, values, zero, zero, zero))
    assert tallies.of(1).error == 1.0
    assert tallies.of(1).audits == 2 * KEPT
    assert tallies.all()[0].verdict is Imputable.TOO_FEW
