"""Training: from a history of normal rows to a calibrated bundle.

First the history is cleaned (``cleaning``) and incidents are left out (``screening``). Then cross-fitting (five
fits; every row is measured by models that were not fitted on it), then the deployed models on all rows, then the
drift reference, imputation and synthesis. Rules:

* Window: the stream's, or the longest that the rows can calibrate (``segments.fitting_length``); fewer than
  40 rows (ten times the window, if that is under 4) are refused.
* Training windows: those of which at least 80 % of the cells were observed, where cells that are missing by
  habit (``silence_habit``) do not count; where that leaves fewer than half of them, 50 %; then those with any
  observation. At most 40,000 windows or 256 MB of them, evenly spread.
* Steps of the VAE: ``optimiser.steps_for``, unless the settings give a number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.assembly import alert_rules, assembled, read_as
from daemon.budget import Budget
from daemon.domain import (
    NO_CONDITION,
    AlarmPolicy,
    Floats,
    Ints,
    Mask,
    ModelSettings,
    Progress,
    Segment,
    StreamSpec,
)
from daemon.errors import NotEnoughData
from daemon.habit import SilenceHabit
from daemon.model import imputation, synthesis
from daemon.model.anchor import LEVELS, ROUGHNESS, asset_levels, roughness
from daemon.model.asset_drift import asset_drift_reference
from daemon.model.bundle import CONDITION_MEAN, IMPUTE, LEVELLED, LEVELS_OF, SYNTHESIS, Bundle
from daemon.model.calibration import ERROR_OFFSET, calibrate
from daemon.model.cleaning import Cleaned, cleaned
from daemon.model.conditions import ConditionMeans, condition_facts, fifths, learned_labels
from daemon.model.crossfit import crossfit, measured_pieces
from daemon.model.drift import drift_reference
from daemon.model.levels import asset_levels as levels_of
from daemon.model.levels import differing
from daemon.model.pca import WindowPCA
from daemon.model.reconstruction import SHORT, Models
from daemon.model.recurring import recurring
from daemon.model.rules import AlertRules
from daemon.model.scaler import Scaler
from daemon.model.screening import Incident, incidents, screening_facts, without
from daemon.model.segments import (
    BLOCKS,
    Piece,
    bridged,
    by_asset,
    complement,
    fitting_length,
    folds,
    longest_constant,
    rows_per_asset,
    sample_windows,
    sliding,
)
from daemon.model.silence_habit import learn_silence, usual_gaps
from daemon.model.soundness import Likelihood, active_units, likelihood, linear_part
from daemon.model.sustained import SensorStatistics, SustainedLimits
from daemon.model.trend import TrendLimits
from daemon.model.vae import VAE, TrainingWindows

MOST_WINDOWS = 40_000
MOST_BYTES = 256 << 20
JUDGED_ON = 200
"""Windows per fold that the likelihoods are taken on."""
NEVER = 1 << 60
"""Rows after which a sensor that is always constant counts as stuck."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What is fitted: the kind and size of the models, their window lengths, and the labels that get a code."""

    settings: ModelSettings
    lengths: tuple[int, ...]  # window lengths, shortest first
    labels: tuple[str, ...] = ()  # condition labels; each gets a code if the rows hold enough of it
    sentinels: tuple[tuple[float, ...], ...] = ()  # per sensor, numbers that stand for no value
    has_level: tuple[bool, ...] = ()  # per sensor, whether each asset has a level of it; (): of none


@dataclass(frozen=True, slots=True)
class CalibrationTarget:
    """What scores are calibrated for."""

    policy: AlarmPolicy  # the alarm machine that the threshold is found with
    budget: Budget  # of false episodes
    drift_rows: int  # rows of one drift interval
    deviation_budget: Budget | None = field(
        default_factory=Budget
    )  # of false deviations; None: they are not looked for


def train(
    history: Sequence[Segment],
    spec: StreamSpec,
    settings: ModelSettings,
    target: CalibrationTarget,
    progress: Progress | None = None,
    sentinels: Sequence[tuple[int, float]] = (),
) -> Bundle:
    """Fit and calibrate. Deterministic: the same arguments give the same version.

    Args:
        history: normal segments in time order per asset, each (T, C) with C the spec's sensors.
        spec: sensors, period, window and ranges are used.
        settings: kind ``mlp``, ``conv`` or ``gru`` (the VAE beside its pPCA) or ``ppca`` (linear only).
        target: alarm policy, budget and drift interval.
        progress: called with the share done and what is being done, now and then.
        sentinels: of the model before (``Scaling.sentinels``).

    Raises:
        NotEnoughData: if the rows cannot calibrate even the shortest window.
        BundleError: the rows were so extreme that the learned model can give no score.
    """
    history = [segment for segment in history if len(segment.values)]
    window = _window_of(history, spec)
    clean = cleaned(history, spec, sentinels)
    history, set_aside = _screened(clean, window, spec, settings)
    whole = [Piece(i, 0, len(segment.values)) for i, segment in enumerate(history)]
    labels = learned_labels(history, whole, window)
    habit = learn_silence(clean.shown, spec)
    fits = _Fits(
        history,
        spec,
        habit,
        Architecture(
            settings,
            tuple(sorted({min(SHORT, window), window})),
            labels,
            clean.sentinels,
            _with_levels(history, spec, window, settings),
        ),
        len(folds(history, window)) + 1,
        progress,
    )
    cross = crossfit(history, fits.fold, window, target.drift_rows, spec.hop)
    if not cross.held:
        raise NotEnoughData(
            f"stream {spec.name}: no run of rows is long enough to hold windows of {window} rows back"
        )
    models = fits.final(whole)
    shown = models.levelled(history)
    deployed = measured_pieces(shown, whole, models, window, 0, spec.hop)
    calibration = calibrate(cross, spec.period_ns * spec.hop, target.policy, target.budget, deployed)
    sustained = None
    if target.deviation_budget is not None:
        period_ns = spec.period_ns * spec.hop
        newest = np.concatenate([piece.measured.residual for piece in cross.held])
        sustained = SustainedLimits.fit(
            cross.held,
            deployed,
            SensorStatistics.fit(
                newest / calibration.residual_rms,
                max(window // spec.hop, 1),
                period_ns,
                ERROR_OFFSET / calibration.residual_rms,
            ),
            calibration.residual_rms,
            period_ns,
            target.deviation_budget,
        )
    windows, conditions = sample_windows(shown, whole, window, 4_000)
    posterior = models.measure(windows, conditions).posterior
    fits.report(0.9, "learning to fill gaps")
    extras = _extras(history, models, labels, spec, settings.seed)
    facts = _facts(history, spec, labels, posterior) | clean.facts | screening_facts(set_aside, spec)
    if models.levels is not None:
        facts[LEVELLED] = list(models.levels.names)
    facts["recurring"] = recurring(cross.held, calibration, replace(spec, window=window))
    if models.vae is not None and fits.own.cells:
        facts["active_path_units"] = active_units(posterior[:, : models.vae.latent])
        facts["likelihood"], facts["likelihood_ppca"] = fits.own.per_cell, fits.linear.per_cell
    bundle = Bundle(
        settings=settings,
        sensors=spec.sensors,
        period_ns=spec.period_ns,
        conditions=labels,
        models=models,
        calibration=calibration,
        drift=replace(
            drift_reference(
                posterior,
                cross.latent_kl,
                [piece.measured.residual / calibration.residual_rms for piece in cross.held],
                max(target.drift_rows // spec.hop, 1),
            ),
            assets=asset_drift_reference(
                cross.held, deployed, calibration.residual_rms, target.drift_rows, spec.period_ns, spec.hop
            ),
        ),
        longest_constant=longest_constant(history, NEVER),
        sustained=sustained,
        silence=habit,
        trend=None if target.deviation_budget is None else TrendLimits.fit(history, spec, models.rules),
        facts=facts,
        extras=extras,
    )
    # A training on odd rows may give a model that can give no score: the checks of admission find that.
    Bundle.from_bytes(bundle.to_bytes(), "the trained model")
    fits.report(1.0, "done")
    return bundle


def _screened(
    clean: Cleaned, window: int, spec: StreamSpec, settings: ModelSettings
) -> tuple[list[Segment], list[Incident]]:
    """The history without incidents, nor two windows to either side of them; all of it where too little is left."""
    architecture = Architecture(
        replace(settings, kind="ppca"),
        (SHORT, window) if window > SHORT else (window,),
        has_level=_with_levels(clean.history, spec, window, settings),
    )
    found = incidents(
        clean.history,
        window,
        spec.period_ns,
        lambda pieces: fit_models(clean.history, pieces, spec, architecture),
    )
    left = without(clean.history, found, 2 * window)
    return (left, found) if found and fitting_length(left, window) == window else (clean.history, [])


def _with_levels(
    history: Sequence[Segment], spec: StreamSpec, window: int, settings: ModelSettings
) -> tuple[bool, ...]:
    """Which sensors have a level of each asset, where that is asked for; () for none.

    None where whole assets are the blocks of cross-fitting: the levels of an asset are not known to models without it.
    None in a stream with a condition, either: where it is the type of an asset, another asset is expected where its type
    is, and levels would leave nothing of that. Nor those with a rule that is a share of the value, which has a zero.
    """
    if not settings.asset_levels or spec.message_condition or by_asset(history, window):
        return ()
    which = differing(history) & np.array([rule.alert.min_share == 0 for rule in spec.rules])
    return tuple(which.tolist()) if which.any() else ()


def _window_of(history: Sequence[Segment], spec: StreamSpec) -> int:
    """The window length that the rows can calibrate; NotEnoughData if there is none."""
    window = fitting_length(history, spec.window)
    rows = max(rows_per_asset(history).values(), default=0)
    if not window:
        raise NotEnoughData(
            f"stream {spec.name}: the longest history has {rows} rows;"
            f" training needs {2 * BLOCKS * min(SHORT, spec.window)} rows of one asset"
        )
    if not any(segment.observed.any() for segment in history):
        raise NotEnoughData(f"stream {spec.name}: no value was observed in {rows} rows")
    judged = np.array([not rule.alert.ignore for rule in spec.rules])
    if not any(segment.observed[:, judged].any() for segment in history):
        raise NotEnoughData(f"stream {spec.name}: no sensor that is not ignored was observed in {rows} rows")
    return window


class _Fits:
    """The fits of one training: those of cross-fitting, then the deployed models.

    Counts them for the progress, and sums up over the folds how likely held-out windows are: under the
    models (``own``) and under the pPCA that the VAE started from (``linear``).
    """

    def __init__(
        self,
        history: Sequence[Segment],
        spec: StreamSpec,
        habit: SilenceHabit | None,
        architecture: Architecture,
        count: int,
        progress: Progress | None,
    ) -> None:
        self._history, self._spec, self._architecture = history, spec, architecture
        self._usual_gaps = [usual_gaps(habit, segment, spec) for segment in history]
        self._count, self._progress = count, progress
        self._done = 0
        self.own, self.linear = Likelihood(0.0, 0), Likelihood(0.0, 0)

    def report(self, share: float, doing: str) -> None:
        """Report progress: the share done of the current fit, and what is being done."""
        if self._progress is not None:
            self._progress(min((self._done + share) / self._count, 1.0), doing)

    def fold(self, pieces: Sequence[Piece]) -> Models:
        """The models of one fold's training rows."""
        history, seed = self._history, self._architecture.settings.seed
        models = self._fit(pieces, "cross-fitting")
        if models.vae is not None:
            window, shown = models.window, models.levelled(history)
            started_from = linear_part(models, *sample_windows(shown, pieces, window, JUDGED_ON))
            held_out = sample_windows(shown, complement(history, pieces), window, JUDGED_ON)
            self.own += likelihood(models, *held_out, seed)
            self.linear += likelihood(started_from, *held_out, seed)
        self._done += 1
        self.report(0.0, "cross-fitting")
        return models

    def final(self, pieces: Sequence[Piece]) -> Models:
        """The deployed models, of all rows."""
        self._done = self._count - 1
        return self._fit(pieces, "fitting")

    def _fit(self, pieces: Sequence[Piece], doing: str) -> Models:
        return fit_models(
            self._history,
            pieces,
            self._spec,
            self._architecture,
            lambda share: self.report(0.9 * share, doing),
            self._usual_gaps,
        )


def _extras(
    history: Sequence[Segment], models: Models, labels: tuple[str, ...], spec: StreamSpec, seed: int
) -> dict[str, NDArray[Any]]:
    """The arrays of imputation, of the conditions' means and of the synthesis, as a bundle names them."""
    scaler, fitted, shown = models.scaler, replace(spec, window=models.window), models.levelled(history)
    filling = imputation.fit(shown, scaler.mean, scaler.scale, fitted, models.reconstruct, seed)
    extras: dict[str, NDArray[Any]] = {}
    if models.levels is not None:  # what a sensor can show is told by its readings as they are
        limits = imputation.ValueLimits.of(history, len(spec.sensors), spec.ranges)
        filling = replace(filling, limits=limits)
        extras = {LEVELS_OF + name: array for name, array in models.levels.arrays().items()}
    series = synthesis.fit(shown, models, labels, seed)
    extras |= {IMPUTE + name: np.asarray(array) for name, array in filling.arrays().items()}
    if models.means is not None:
        extras[CONDITION_MEAN] = models.means.mean.numpy()
    if series is not None:
        extras |= {SYNTHESIS + name: array for name, array in series.arrays().items()}
    return extras


def _facts(
    history: Sequence[Segment], spec: StreamSpec, labels: tuple[str, ...], posterior: Floats
) -> dict[str, object]:
    """What the manifest states about the training."""
    rows = rows_per_asset(history)
    facts: dict[str, object] = {
        "stream": spec.name,
        "hop": spec.hop,
        "rows": sum(rows.values()),
        "assets": len(rows),
        "rows_of": rows,
        LEVELS: asset_levels(history, spec.period_ns),
        ROUGHNESS: roughness(history, spec.period_ns),
        "active_units": active_units(posterior),
        "oldest_ns": min(s.first_row for s in history) * spec.period_ns,  # event time
        "newest_ns": max(s.first_row + len(s.values) - 1 for s in history) * spec.period_ns,
    }
    if spec.timezone is not None:
        facts["timezone"] = spec.timezone  # the hours of what is filled by habit, and of calendar conditions
    if spec.condition:
        facts |= condition_facts(spec, history, labels)
    if assembled(spec):
        facts["assembled"] = assembled(spec)
    if read_as(spec):
        facts["read_as"] = read_as(spec)
    if alert_rules(spec):
        facts["alert_rules"] = alert_rules(spec)
    return facts


def fit_models(
    history: Sequence[Segment],
    pieces: Sequence[Piece],
    spec: StreamSpec,
    architecture: Architecture,
    progress: Callable[[float], None] | None = None,
    usual_gaps: Sequence[Mask | None] = (),
) -> Models:
    """Scaler and models of the given pieces, without calibration.

    Args:
        history: the segments that ``pieces`` index.
        pieces: rows to fit on; at least one is as long as the longest window.
        spec: for the ranges.
        architecture: what to fit.
        progress: called with the share done.
        usual_gaps: per segment the cells (T, C) that are missing by habit; empty: none.
    """
    settings, lengths = architecture.settings, architecture.lengths
    blocks = [history[p.segment].values[p.start : p.stop] for p in pieces]
    levels = levels_of(history, pieces, np.array(architecture.has_level)) if architecture.has_level else None
    if levels is not None:
        blocks = [levels.without(b, history[p.segment].asset) for b, p in zip(blocks, pieces, strict=True)]
    scaler = Scaler.fit(blocks, spec.ranges, architecture.sentinels)
    scaled = [scaler.scaled(block) for block in blocks]
    expected = [_expected(block, p, usual_gaps, scaler) for block, p in zip(scaled, pieces, strict=True)]
    learned = learned_labels(history, pieces, lengths[-1])
    labels = tuple(label for label in learned if label in architecture.labels)
    means: ConditionMeans | None = None
    pcas: list[WindowPCA] = []
    for length in sorted(lengths, reverse=True):
        start, observed, labels_of, owners = training_windows(history, pieces, scaled, expected, length)
        if labels and means is None:
            means = ConditionMeans.fit(start, observed, labels_of, labels, fifths(owners), length)
        if means is None:
            pca, filled = WindowPCA.fit(start, observed)
        else:
            shown = means.of(means.shown(labels_of), start.shape[1])
            pca, filled = WindowPCA.fit(start - shown.numpy(), observed)
            filled = filled + shown
        pcas.insert(0, pca)
        if length == lengths[-1]:
            longest = pca, filled, observed, labels_of
    pca, filled, observed, labels_of = longest
    length = lengths[-1]
    vae = None
    if settings.kind != "ppca":
        import torch

        windows = TrainingWindows(filled, torch.from_numpy(observed), labels_of, length)
        vae = VAE.fit(pca, windows, settings, labels, means, progress)
        sigma = vae.log_sigma().exp().double().numpy()
    else:
        if means is not None:
            filled = filled - means.of(means.codes(labels_of), filled.shape[1])
        residual = (filled - pca.decode(pca.project(filled))).numpy()
        squares = (np.where(observed, residual, 0.0) ** 2).reshape(-1, length, len(scaler.mean)).sum((0, 1))
        cells = observed.reshape(-1, length, len(scaler.mean)).sum((0, 1))
        sigma = np.sqrt(np.maximum(squares / np.maximum(cells, 1), 1e-4))
    rules = AlertRules.of([rule.alert for rule in spec.rules])
    of_assets = None
    if levels is not None:
        of_assets = levels.scaled(scaler.scale, filled.numpy().reshape(-1, length, len(scaler.mean)).mean(1))
    return Models(scaler, lengths, tuple(pcas), vae, sigma.astype(float), means, rules, of_assets)


def training_windows(
    history: Sequence[Segment],
    pieces: Sequence[Piece],
    scaled: Sequence[NDArray[np.float32]],
    expected: Sequence[Ints],
    length: int,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[str], list[str]]:
    """The windows to learn from.

    Args:
        history: the segments that ``pieces`` index.
        pieces: rows to learn.
        scaled: per piece (T, C) its rows.
        expected: per piece (T,) how many cells of each row should be there.
        length: of a window.

    Returns:
        (n, L*C) scaled windows with gaps bridged in time, (n, L*C) what was observed, the n
        condition labels of their newest rows, and the n assets.
    """
    shares: list[Floats] = []
    for block, due in zip(scaled, expected, strict=True):
        seen, wanted = (_sums(per_row, length) for per_row in (np.isfinite(block).sum(1), due))
        shares.append(seen / np.maximum(wanted, 1))
    share = np.concatenate(shares)
    whole = share >= 0.8 - 1e-9
    if 2 * whole.sum() < len(share):
        whole = share >= 0.5
    if 2 * whole.sum() < len(share):
        whole = share > 0
    chosen = np.flatnonzero(whole)
    size = length * scaled[0].shape[1] * 4
    stride = -(-len(chosen) // max(min(MOST_WINDOWS, MOST_BYTES // size), 1)) if len(chosen) else 1
    keep = np.zeros(len(share), bool)
    keep[chosen[:: max(stride, 1)]] = True
    values, observed, labels, owners = [], [], [], []
    at = 0
    for piece, block, own in zip(pieces, scaled, shares, strict=True):
        picked = np.flatnonzero(keep[at : at + len(own)])
        at += len(own)
        if not len(picked):
            continue
        values.append(sliding(bridged(block), length)[picked].reshape(len(picked), -1))
        observed.append(sliding(np.isfinite(block), length)[picked].reshape(len(picked), -1))
        condition = history[piece.segment].condition
        ends = picked + piece.start + length - 1
        labels += [condition[i] for i in ends] if condition else [NO_CONDITION] * len(picked)
        owners += [history[piece.segment].asset] * len(picked)
    return np.concatenate(values), np.concatenate(observed), labels, owners


def _expected(
    scaled: NDArray[np.float32], piece: Piece, usual_gaps: Sequence[Mask | None], scaler: Scaler
) -> Ints:
    """(T,) how many cells of each row of a piece should be there: of the sensors ever seen, without usual gaps."""
    of_all = np.full(len(scaled), max(int(scaler.seen.sum()), 1))
    gaps = usual_gaps[piece.segment] if usual_gaps else None
    return of_all if gaps is None else of_all - gaps[piece.start : piece.stop].sum(1)


def _sums(per_row: Ints, length: int) -> Ints:
    """The sums over all windows of (T,) rows; empty if T < length."""
    sums = np.concatenate([[0], np.cumsum(per_row)])
    return np.asarray(sums[length:] - sums[:-length] if len(per_row) >= length else sums[:0])
