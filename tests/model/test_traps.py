"""Traps of window-based detection that no other test covers; each fails without its guard.

Held elsewhere: a constant sensor that moves, gaps that look or hide, a diluted spike, look-ahead,
batch dependence (test_scoring); the floor (test_scaler); a collapsed or worse VAE, a learned fault
(test_soundness, test_promotion); an incident in calibration (test_calibration); an ignored
condition, another unit (test_vae, test_training); parts of two versions (test_bundle); fills worse
than the last value (test_impute); figures without baselines (test_evaluation); stuck sensors and
holes on the stream (tests/stream/test_pipeline.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from daemon.alarm import episodes, firing
from daemon.asset_drift import diagonal_kl
from daemon.detector import Windows
from daemon.domain import AlarmPolicy, Floats, Segment
from daemon.model.bundle import Bundle
from daemon.model.crossfit import crossfit
from daemon.model.drift import moments
from daemon.model.promotion import scores_of
from daemon.model.reconstruction import Models
from daemon.model.scaler import Scaler
from daemon.model.segments import Piece, complement, folds, sliding
from daemon.model.training import training_windows
from daemon.model.vae import FREE_BITS
from daemon.runtime.history import TrainingHistory
from daemon.stream.attribution import PeakEvidence, SensorEvidence
from daemon.stream.steps import RowBlock
from tests.model.conftest import QUICK, SPEC, machine, trained
from tests.model.test_vae import X, fitted

LINEAR = replace(QUICK, kind="ppca")
L = 16
DAY = 1_440  # rows of a minute


def scored(bundle: Bundle, values: Floats, condition: tuple[str, ...] = ()) -> Floats:
    return scores_of(bundle.detector(), Segment("a", 0, values, condition))


# ------------------------------------------------------------------ the model
def test_the_path_does_not_collapse() -> None:
    # A mean-reduced likelihood beside a summed KL leaves the path's latents no more than the free bits,
    # which alone give them a variance of about twice that.
    vae = fitted(X, steps=600)
    with torch.inference_mode():
        mean = vae.encode(X, None, None).mean[:, : vae.latent]
    assert float(mean.var(0).max()) > 6.0 * FREE_BITS


def test_a_fault_that_the_latents_can_express_is_seen_by_the_kl(linear: Bundle) -> None:
    # Along the model's own first direction the reconstruction is perfect for any size.
    pca, scaler = linear.models.pcas[-1], linear.models.scaler
    far = (pca.mean + 8.0 * pca.sd[0] * pca.basis[:, 0]).reshape(1, L, 4).double().numpy()
    detector = linear.detector()
    evidence = detector.infer(Windows(scaler.raw(far), np.ones(1, bool), ("",)))
    verdicts = detector.judge(evidence, detector.fresh_baseline("")[None], np.zeros(1, np.int64))
    assert evidence.channel_error[-1].max() < 0.01
    assert verdicts.p_kl[0] < 1e-4
    assert verdicts.score[0] > detector.threshold


# ------------------------------------------------------------------ calibration
def test_no_row_calibrates_a_model_that_was_fitted_on_it(linear: Bundle) -> None:
    history = [Segment("a", 0, machine(300)), Segment("b", 50, machine(200, 1))]
    fitted_on: list[set[tuple[int, int]]] = []

    def fit(pieces: Sequence[Piece]) -> Models:
        fitted_on.append({(p.segment, row) for p in pieces for row in range(p.start, p.stop)})
        return linear.models

    cross = crossfit(history, fit, L, 60)
    calibrating: list[tuple[int, int]] = []
    for held in cross.held:
        which = [segment.asset for segment in history].index(held.asset)
        first = held.first_row - history[which].first_row
        newest = [(which, first + i) for i in range(len(held.measured.observed))]
        assert not fitted_on[held.block] & set(newest)
        calibrating += newest
    assert len(set(calibrating)) == len(calibrating) == 300 + 200 - 2 * (L - 1)  # and every row does


def test_neighbours_in_time_are_held_out_together() -> None:
    # Rows resemble their neighbours: a held-out row between fitted ones would be no test at all.
    history = [Segment("a", 0, machine(500))]
    for block in folds(history, L):
        (piece,) = block
        assert len(piece) == 100


# ------------------------------------------------------------------ time
def test_a_level_shift_that_stays_is_not_absorbed(linear: Bundle) -> None:
    values = machine(3 * DAY, 33)
    values[DAY:, 1] += 4.0
    scores = scored(linear, values)
    assert scores[DAY:].min() > linear.detector().threshold


def test_a_missing_cell_counts_as_a_typical_one(linear: Bundle) -> None:
    # Left out it would increase the scatter of half-observed windows; counted as zero, decrease it.
    models = linear.models
    whole = sliding(machine(1_200, 38), L)
    holed = np.where(np.random.default_rng(0).random(whole.shape) < 0.5, np.nan, whole)
    mean_square = [
        np.nanmean(models.measure(windows, ("",) * len(windows)).channel_error[-1] ** 2, axis=0)
        for windows in (whole, holed)
    ]
    np.testing.assert_allclose(mean_square[1].sum(), mean_square[0].sum(), rtol=0.2)


def test_an_incident_leaves_no_echo_once_it_has_left_the_window(linear: Bundle) -> None:
    clean = machine(400, 34)
    struck = clean.copy()
    struck[200:210, :3] += np.array([300.0, 10.0, 8_000.0])
    before, after = scored(linear, clean), scored(linear, struck)
    assert after[200:210].min() > linear.detector().threshold
    np.testing.assert_allclose(after[210 + L :], before[210 + L :], atol=0.1)
    np.testing.assert_array_equal(after[:200], before[:200])


def test_training_windows_do_not_span_a_gap_between_segments() -> None:
    marked = [Segment("a", 0, np.full((40, 1), 1.0)), Segment("a", 50, np.full((60, 1), 2.0))]
    held_out = [Piece(1, 20, 35)]
    pieces = complement(marked, held_out)
    assert pieces == [Piece(0, 0, 40), Piece(1, 0, 20), Piece(1, 35, 60)]
    scaler = Scaler.fit([np.array([[-1.0], [1.0]])])
    scaled = [scaler.scaled(marked[p.segment].values[p.start : p.stop]) for p in pieces]
    windows, _, _, _ = training_windows(marked, pieces, scaled, [np.ones(len(p), int) for p in pieces], L)
    assert len(windows) == sum(len(p) - L + 1 for p in pieces)
    assert (windows.max(1) == windows.min(1)).all()


def test_rows_around_an_alarm_are_not_learned() -> None:
    count, alarms = 200, slice(100, 103)
    fires = np.zeros(count, bool)
    fires[alarms] = True
    recent = TrainingHistory(SPEC, 10_000)
    recent.add(
        RowBlock(
            assets=["a"] * count,
            slots=np.zeros(count, int),
            rows=np.arange(count),
            values=machine(count),
            condition=[""] * count,
            scores=np.zeros(count),
            firing=fires,
        )
    )
    learned = [(s.first_row, s.first_row + len(s.values)) for s in recent.segments()]
    assert learned == [(0, 100 - 2 * L), (102 + 2 * L + 1, count)]


# ------------------------------------------------------------------ modes and units
def moded(rows: int, seed: int) -> tuple[Floats, tuple[str, ...]]:
    """The machine in two modes of 120 rows each, far apart in two sensors."""
    load = np.arange(rows) // 120 % 2 == 1
    values = machine(rows, seed)
    values[load, :2] += np.array([150.0, 6.0])
    return values, tuple("load" if one else "idle" for one in load)


def test_switching_modes_is_no_alarm_storm() -> None:
    values, labels = moded(2_400, 40)
    fresh, its_labels = moded(2_400, 41)  # 19 switches; the budget of one a day allows 1.7 episodes

    def storm(history: list[Segment]) -> int:
        bundle = trained(history, replace(QUICK, steps=60))
        scores = scored(bundle, fresh, its_labels)
        return episodes(
            firing(scores, bundle.calibration.threshold, bundle.calibration.closing, AlarmPolicy())
        )

    assert storm([Segment("a", 0, values, labels)]) <= 3
    # What protects is that windows across a switch are learned and calibrated like any other.
    apart = [Segment("a", i, values[i : i + 120], labels[i : i + 120]) for i in range(0, 2_400, 120)]
    assert storm(apart) > 10


@pytest.mark.parametrize("factor", [1_000.0, 0.001])
def test_a_sensor_that_changes_its_unit_is_blamed_alone(linear: Bundle, factor: float) -> None:
    detector = linear.detector()
    values = machine(60, 35)
    values[30:, 0] *= factor
    values[45:, 2] += 6_000.0
    cut = sliding(values, L)
    batch = Windows(cut, np.ones(len(cut), bool), ("",) * len(cut))
    state = detector.fresh_baseline("")[None]
    evidence = detector.infer(batch)
    verdicts = detector.judge(evidence, state, np.zeros(len(cut), np.int64))
    assert verdicts.score[30 - L + 1 :].min() > detector.threshold

    def shares(at: int) -> Floats:
        far = detector.scaling.of(cut[at])
        return PeakEvidence.since(
            SensorEvidence.read(
                verdicts.error[at], evidence.residual[at], far, cut[at, -1], evidence.expected[at]
            )
        ).shares()

    assert shares(40 - L).argmax() == 0
    assert set(np.argsort(-shares(-1))[:2].tolist()) == {0, 2}  # the second fault shows beside it


# ------------------------------------------------------------------ drift
def test_a_shift_that_the_latents_cannot_see_shows_in_the_residuals(linear: Bundle) -> None:
    detector, drift = linear.detector(), linear.drift
    pca = linear.models.pcas[-1]
    outside = np.tile([1.0, -1.0, 0.0, 0.0], (L, 1)).reshape(-1)
    basis = pca.basis.double().numpy()
    outside -= basis @ (basis.T @ outside)  # what is left has no projection at all
    cut = sliding(machine(60 + L - 1, 36), L)
    moved = cut + outside.reshape(1, L, 4) * linear.models.scaler.scale

    def drifted(windows: Floats) -> tuple[bool, bool]:
        evidence = detector.infer(Windows(windows, np.ones(len(windows), bool), ("",) * len(windows)))
        latent = diagonal_kl(*moments(evidence.posterior), drift.latent_mean, drift.latent_variance)
        residual = diagonal_kl(*moments(evidence.residual), drift.residual_mean, drift.residual_variance)
        return bool(latent.sum() > drift.latent_threshold), bool(residual.sum() > drift.residual_threshold)

    assert drifted(cut) == (False, False)
    assert drifted(moved) == (False, True)
