"""The levels of assets: which sensors have them, what they are for assets that training knows and for others."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.detector import Evidence, OwnedWindow, Verdicts, Windows
from daemon.domain import Floats, Reading, ScoredRow, Segment
from daemon.errors import BundleError
from daemon.mapping import AlertRule, SensorRule
from daemon.model.bundle import Bundle
from daemon.model.imputation import WeekClock, impute_segments
from daemon.model.levels import NUGGET, AssetLevels, asset_levels, differing
from daemon.model.segments import Piece, sliding
from daemon.model.track import Track
from tests.model.conftest import QUICK, SPEC, machine, trained
from tests.stream.pipelines import feed, make, numbered

L, ROWS = 8, 800
SPREAD = np.array([30.0, 1.0, 800.0, 0.0])
"""About what each sensor of a machine moves by itself."""
PLACES = np.array([[0, 0, 0, 0], [4, -3, 0, 0], [-4, 3, 0, 0], [8, -6, 0, 0], [-8, 6, 0, 0]]) * SPREAD
"""How far five machines are apart: in two of the sensors."""


def fleet(rows: int = ROWS, start: int = 0, seed: int = 0) -> list[Segment]:
    return [
        Segment(f"pump-{a}", start, machine(rows, seed + a, start) + place) for a, place in enumerate(PLACES)
    ]


def whole(history: list[Segment]) -> list[Piece]:
    return [Piece(i, 0, len(segment.values)) for i, segment in enumerate(history)]


@cache
def bundle() -> Bundle:
    return trained(fleet(), replace(QUICK, kind="ppca", asset_levels=True), window=L)


def judged(values: Floats, asset: str) -> tuple[Evidence, Verdicts]:
    """What the model makes of all windows of rows (T, C)."""
    detector = bundle().detector()
    windows = sliding(values, L)
    count = len(windows)
    batch = Windows(windows, np.ones(count, bool), ("",) * count, asset=(asset,) * count)
    evidence = detector.infer(batch)
    baseline = detector.fresh_baseline(asset)[None].copy()
    return evidence, detector.judge(evidence, baseline, np.zeros(count, np.int64))


# ------------------------------------------------------------------ which sensors
def test_sensors_that_are_shifted_from_machine_to_machine_have_levels() -> None:
    assert differing(fleet()).tolist() == [True, True, False, False]


def test_machines_that_are_alike_and_one_alone_have_none() -> None:
    alike = [Segment(f"pump-{a}", 0, machine(ROWS, a)) for a in range(5)]
    assert not differing(alike).any()
    assert not differing(fleet()[:1]).any()
    assert trained(alike, replace(QUICK, kind="ppca", asset_levels=True), window=L).models.levels is None


def test_what_differs_in_its_share_of_time_or_its_amplitude_is_no_shift() -> None:
    rng = np.random.default_rng(0)
    history = []
    for a, share in enumerate((0.05, 0.35, 0.65, 0.95)):
        on = (rng.random(ROWS) < share).astype(float)
        wave = 10.0 * (1.0 + a) * (1.0 + np.sin(np.arange(ROWS) / 9.0) + 0.1 * rng.standard_normal(ROWS))
        history.append(Segment(f"pump-{a}", 0, np.stack([on, wave], 1)))
    assert not differing(history).any()


def test_a_sensor_whose_rule_is_a_share_of_its_value_keeps_its_zero() -> None:
    rules = (SensorRule(alert=AlertRule(min_share=0.1)), *[SensorRule()] * 3)
    ruled = trained(fleet(), replace(QUICK, kind="ppca", asset_levels=True), window=L, sensor_rules=rules)
    assert ruled.models.levels is not None
    assert (ruled.models.levels.variance > 0.0).tolist() == [False, True, False, False]


def test_a_stream_with_a_condition_has_no_levels() -> None:
    """Where it is the type of an asset, another asset is expected where its type is."""
    typed = [replace(s, condition=(f"type={s.asset}",) * ROWS) for s in fleet()]
    made = trained(typed, replace(QUICK, kind="ppca", asset_levels=True), window=L, condition=("type",))
    assert made.models.levels is None


def test_an_incident_in_a_fifth_of_its_rows_does_not_move_the_level_of_an_asset() -> None:
    history = fleet()
    dirty = [history[0], *history[1:]]
    values = history[0].values.copy()
    values[: ROWS // 5] += 20.0 * SPREAD
    dirty[0] = replace(history[0], values=values)
    which = differing(history)
    plain, moved = (asset_levels(some, whole(some), which) for some in (history, dirty))
    assert plain is not None
    assert moved is not None
    assert (np.abs(moved.level - plain.level)[:, :2] < 0.3 * SPREAD[:2]).all()


# ------------------------------------------------------------------ assets that training knows
def test_a_fault_within_the_spread_of_the_fleet_is_found() -> None:
    values = machine(400, 50, 5_000) + PLACES[0]
    _, usual = judged(values, "pump-0")
    values[200:] += PLACES[1]  # as if it were pump-1
    _, found = judged(values, "pump-0")
    threshold = bundle().detector().threshold
    assert np.mean(usual.score > threshold) < 0.02
    assert np.mean(found.score[220:] > threshold) > 0.9


def test_what_is_expected_is_in_the_units_of_the_readings() -> None:
    for asset in (0, 3):
        values = machine(300, 60 + asset, 5_000) + PLACES[asset]
        evidence, _ = judged(values, f"pump-{asset}")
        assert np.abs(evidence.expected - values[L - 1 :])[:, :3].mean(0) == pytest.approx(0, abs=200.0)
        off = np.abs(evidence.expected - values[L - 1 :]).mean(0)
        assert (off[:3] < 0.4 * SPREAD[:3]).all()


def test_how_far_a_sensor_is_off_is_told_over_the_level_of_its_asset() -> None:
    detector, values = bundle().detector(), machine(L, 77)
    off = []
    for asset, place in ((0, PLACES[0]), (3, PLACES[3])):
        scaled = detector.scaling.of(values + place)
        off.append(scaled - detector.level_of(OwnedWindow(scaled, f"pump-{asset}", "")))
    assert np.abs(off[0] - off[1]).max() < 0.5  # where the assets are eight spreads apart


def test_a_missing_reading_is_filled_at_the_level_of_its_asset() -> None:
    for asset in (3, 4):
        values = machine(300, 70 + asset, 5_000) + PLACES[asset]
        truth = values[L - 1 :, 0]
        windows = sliding(values, L).copy()
        windows[:, -1, 0] = np.nan
        count = len(windows)
        batch = Windows(windows, np.ones(count, bool), ("",) * count, asset=(f"pump-{asset}",) * count)
        evidence = bundle().detector().infer(batch)
        assert np.abs(evidence.filled[:, 0] - truth).mean() < 0.5 * SPREAD[0]
        assert np.mean((evidence.low[:, 0] <= truth) & (truth <= evidence.high[:, 0])) > 0.7


def test_gaps_of_a_table_are_filled_at_the_level_of_their_asset() -> None:
    values = machine(300, 80, 5_000) + PLACES[4]
    holed = values.copy()
    holed[50:90, 1] = np.nan
    parameters = bundle().imputation
    assert parameters is not None
    for asset in ("pump-4", "another"):
        segment = Segment(asset, 5_000, holed)
        (fill,) = impute_segments(parameters, [segment], WeekClock(SPEC.period_ns, None))
        assert np.abs(fill.value - values)[50:90, 1].mean() < 1.5 * SPREAD[1]


def test_an_explanation_is_in_the_units_of_the_readings() -> None:
    detector, values = bundle().detector(), machine(L, 3, 5_000) + PLACES[3]
    values[:, 3] += 5.0
    window = OwnedWindow(detector.scaling.of(values), "pump-3", "")
    found = detector.explain(window, np.array([0.0, 0.0, 0.0, 1.0]))
    assert found is not None
    assert found.blamed.tolist() == [False, False, False, True]
    assert (np.abs(found.expected - values[-1])[:2] < SPREAD[:2]).all()


def test_a_window_seen_again_by_itself_has_the_score_that_the_stream_gave_it() -> None:
    values = machine(200, 90, 5_000) + PLACES[2]
    track = Track.of(bundle().detector(), "pump-2", 5_000, values)
    assert not (track.verdicts.score > track.detector.threshold).mean() > 0.02
    mine = bundle().models.at_level("pump-2", values)
    measured = mine.measure(sliding(values, L), ("",) * (200 - L + 1))
    np.testing.assert_allclose(measured.channel_error, track.evidence.channel_error, atol=1e-3)


def test_synthetic_assets_are_at_the_level_of_the_one_that_they_are_like() -> None:
    for asset in (3, 4):
        rows, _ = bundle().series(3, like=f"pump-{asset}").rows()
        middle = np.median(rows, axis=(0, 1))
        assert (np.abs(middle - (machine(ROWS).mean(0) + PLACES[asset]))[:2] < 1.5 * SPREAD[:2]).all()


# ------------------------------------------------------------------ others
def test_another_asset_within_the_spread_of_the_fleet_raises_no_alarm() -> None:
    threshold = bundle().detector().threshold
    for place in (PLACES[1] / 2, PLACES[4] * 0.8):
        values = machine(400, 40, 5_000) + place
        _, verdicts = judged(values, "another")
        assert np.mean(verdicts.score > threshold) < 0.02
        assert verdicts.sustained is not None
        assert np.mean((verdicts.sustained.opening > 1.0).any(1)) < 0.02


def test_another_asset_is_judged_by_what_begins_within_a_window_and_by_its_relations() -> None:
    threshold = bundle().detector().threshold
    values = machine(400, 41, 5_000) + PLACES[1] / 2
    values[200:, 2] += 8.0 * SPREAD[2]  # a sensor in which the fleet does not differ
    _, verdicts = judged(values, "another")
    assert np.mean(verdicts.score[200:] > threshold) > 0.9
    values = machine(400, 41, 5_000) + PLACES[1] / 2
    values[200:, 0] += 8.0 * SPREAD[0]
    _, verdicts = judged(values, "another")
    assert (verdicts.score[190:210] > threshold).any()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_a_level_is_the_best_linear_prediction_from_the_means_of_a_window(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    C = 4
    half = rng.standard_normal((C, C))
    variance = np.where(rng.random(C) < 0.3, 0.0, rng.random(C) * 10.0)
    levels = AssetLevels(("a", "b"), rng.standard_normal((2, C)), variance, half @ half.T)
    windows = rng.standard_normal((count, L, C)).astype(np.float32)
    windows[rng.random(windows.shape) < 0.5] = np.nan
    windows[:, :, rng.random(C) < 0.3] = np.nan
    assets = [("a", "b", "c")[i] for i in rng.integers(0, 3, count)]
    found = levels.of(assets, windows)
    for i, asset in enumerate(assets):
        if asset != "c":
            np.testing.assert_array_equal(found[i], levels.level[("a", "b").index(asset)].astype(np.float32))
            continue
        seen = np.isfinite(windows[i]).any(0)
        means = np.array([np.mean(column[np.isfinite(column)], dtype=float) for column in windows[i].T[seen]])
        total = levels.within[np.ix_(seen, seen)] + np.diag(variance[seen] + NUGGET)
        expected = np.zeros(C)
        expected[seen] = variance[seen] * np.linalg.solve(total, means)
        np.testing.assert_allclose(found[i], expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(found[i], levels.of([asset], windows[i : i + 1])[0])  # in any batch


# ------------------------------------------------------------------ the bundle
def test_a_bundle_keeps_the_levels_and_refuses_damaged_ones() -> None:
    again = Bundle.from_bytes(bundle().to_bytes())
    before, after = bundle().models.levels, again.models.levels
    assert before is not None
    assert after is not None
    assert after.names == before.names == tuple(f"pump-{a}" for a in range(5))
    for name, array in before.arrays().items():
        np.testing.assert_array_equal(after.arrays()[name], array)
    for name, spoiled in (("level", np.full((5, 4), np.nan)), ("variance", np.full(4, -1.0))):
        extras = {**bundle().extras, f"levels.{name}": spoiled}
        with pytest.raises(BundleError, match=f"levels.{name}"):
            Bundle.from_bytes(replace(bundle(), extras=extras).to_bytes())


# ------------------------------------------------------------------ the stream
def test_a_stream_scores_each_asset_at_its_level_as_a_track_of_its_rows_does() -> None:
    """Known assets and another one, in one log, in two sizes of polls: to the last digit."""
    detector, rows, start = bundle().detector(), 60, 50_000
    of = {f"pump-{a}": machine(rows, 30 + a, start) + PLACES[a] for a in range(3)}
    of["another"] = machine(rows, 40, start) + PLACES[1] / 2
    spec = replace(SPEC, window=L)
    readings = [
        Reading(0, asset, (start + i) * spec.period_ns, list(values[i]))
        for i in range(rows)
        for asset, values in of.items()
    ]
    expected = {
        (asset, track.row(i) * spec.period_ns): score
        for asset, values in of.items()
        for track in [Track.of(detector, asset, start, values)]
        for i, score in enumerate(track.verdicts.score.tolist())
    }
    for size in (7, len(readings)):
        pipeline = make(spec, detector)
        outputs = []
        for at in range(0, len(readings), size):
            outputs += feed(pipeline, numbered(readings[at : at + size], at))
        outputs += feed(pipeline, [], ended=True)
        found = {(row.asset, row.row_ns): row.score for row in outputs if isinstance(row, ScoredRow)}
        assert found == expected
