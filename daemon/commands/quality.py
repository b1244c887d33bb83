"""``anomalyd generate --check HELD_OUT``: whether rows that a model draws are like rows it has not seen.

In: a bundle and ``QualityOptions``. Out: ``Quality``: a ``Measure`` per question (distributions, correlation,
autocorrelation, spectrum, seams, memorisation, a discriminator, a model trained on synthetic rows), each with
its value, what is good, and the value of training rows in place of synthetic ones where TRAIN is given. The
measures themselves are ``model.fidelity``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from daemon.adapters.files import TableReading, is_lines, segments
from daemon.commands.derive import check_excluded, plan_for_file
from daemon.commands.file_history import history_of
from daemon.commands.inputs import FileOptions, no_progress, table_of
from daemon.domain import Floats, Mask, ModelSettings, Progress, Segment, StreamSpec
from daemon.errors import DaemonError, InputError, UsageError
from daemon.model import fidelity
from daemon.model.bundle import Bundle
from daemon.model.evaluation import average_precision
from daemon.model.reconstruction import Models
from daemon.model.segments import Piece, sliding
from daemon.model.training import Architecture, fit_models
from daemon.runtime.stream_run import StreamPlan

PIECE_ROWS = 512
"""Rows of a piece: held-out rows are compared in pieces, each with a synthetic asset of the same length."""
MOST_PIECES = 64
"""Pieces that are compared, at most."""
FEWEST_WINDOWS = 40
"""Windows of either kind that a discriminator needs at least."""


@dataclass(frozen=True, slots=True)
class QualityOptions(FileOptions):
    """What ``generate --check`` is given."""

    held_out: Path  # rows that the model did not learn from, best in blocks between those that it did
    train: Path | None = None  # what it learned from: for memorisation, and as the floor of every measure
    label: str | None = None  # a column of ``held_out``, 1 where a row is anomalous
    condition: str | None = None  # as for ``Bundle.series``, like the next two
    like: str | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the table: a figure, what is good, and whether it is; None: not measured."""

    name: str
    value: float | None
    good: str
    passed: bool | None
    says: str = ""
    real: float | None = None  # the same of training rows in place of synthetic ones

    def as_json(self) -> dict[str, Any]:
        """Entries of ``measures`` in ``--json``."""
        return {
            "measure": self.name,
            "value": self.value,
            "real": self.real,
            "good": self.good,
            "passed": self.passed,
            "says": self.says,
        }


@dataclass(frozen=True, slots=True)
class Quality:
    """What ``--json`` prints: ``model``, ``rows``, ``assets``, ``measures`` and ``ks`` per sensor."""

    report: dict[str, Any]
    measures: list[Measure]
    notes: list[str]


async def check(bundle: Bundle, options: QualityOptions, progress: Progress = no_progress) -> Quality:
    """Generate as many rows as were held out, and compare.

    Args:
        bundle: draws the synthetic rows.
        options: the held-out rows, and what is drawn.
        progress: see ``inputs.Progress``.

    Raises:
        DaemonError: unreadable files, or sensors that are not the bundle's.
    """
    held_out, train, label = options.held_out, options.train, options.label
    left_out = [*options.exclude, *([label] if label else [])]
    check_excluded(options.exclude, [held_out])
    check_excluded([label] if label else [], [held_out], "--label")
    plan, notes = plan_for_file(replace(options, exclude=left_out), held_out, bundle)
    progress(0.0, "reading")
    L = bundle.window
    history = [s for s in await history_of(held_out, plan, left_out) if len(s.values) >= 2 * L]
    if not history:
        raise InputError(f"{held_out}: no stretch of {2 * L} rows to compare")
    anomalous = None if label is None else _labels(held_out, plan, label, left_out, history)
    known: list[Floats] = []
    if train is not None:
        taken = [name for name in left_out if name != label]
        known = [s.values for s in await history_of(train, plan, taken) if len(s.values) >= L]
    real = _pieces([s.values for s in history])
    progress(0.1, "generating")
    made = _like_real(bundle, real, options)
    progress(0.3, "comparing")
    measures = _compared(real, made, _pieces(known) if known else [], known, L)
    progress(0.5, "a discriminator")
    measures.append(_discriminator(real, made, _pieces(known) if known else [], L))
    progress(0.7, "training on synthetic rows")
    measures += _trained_on_synthetic(bundle, history, made, anomalous)
    per_sensor = fidelity.marginals(real, made)
    report = {
        "model": bundle.version,
        "rows": sum(len(x) for x in made),
        "assets": len(made),
        "measures": [m.as_json() for m in measures],
        "ks": {s: _number(v) for s, v in zip(bundle.sensors, per_sensor.tolist(), strict=True)},
    }
    return Quality(report, measures, notes)


def _pieces(stretches: Sequence[Floats]) -> list[Floats]:
    """The stretches in pieces of about ``PIECE_ROWS`` rows; of many, evenly spread ones."""
    pieces = []
    for values in stretches:
        count = max(round(len(values) / PIECE_ROWS), 1)
        pieces += np.array_split(values, count)
    if len(pieces) > MOST_PIECES:
        pieces = [pieces[k] for k in np.linspace(0, len(pieces) - 1, MOST_PIECES).astype(int).tolist()]
    return pieces


def _like_real(bundle: Bundle, real: Sequence[Floats], options: QualityOptions) -> list[Floats]:
    """As many assets as there are real pieces, as long as they are, with the same readings missing."""
    series = bundle.series(len(real), options.seed, options.condition, options.like)
    longest = max(len(x) for x in real)
    rows = series.rows()[0]
    while rows.shape[1] < longest:
        rows = np.concatenate([rows, series.rows()[0]], 1)
    return [np.where(np.isfinite(x), rows[i, : len(x)], np.nan) for i, x in enumerate(real)]


def _compared(
    real: list[Floats], made: list[Floats], pieces: list[Floats], train: list[Floats], L: int
) -> list[Measure]:
    """The measures that need no model."""

    def floor(of: Callable[[list[Floats], list[Floats]], float]) -> float | None:
        return _number(of(real, pieces)) if pieces else None

    def line(name: str, of: Callable[[list[Floats], list[Floats]], float], most: float) -> Measure:
        value = _number(of(real, made))
        passed = None if value is None else value <= most
        return Measure(name, value, f"at most {most:g}", passed, real=floor(of))

    lags = [1, max(L // 2, 1), L, 2 * L, 4 * L]
    result = [
        line("distribution (mean KS)", lambda a, b: _mean(fidelity.marginals(a, b)), 0.1),
        line("correlation", fidelity.correlation_error, 0.1),
    ]
    result += [
        line(
            f"autocorrelation, lag {lag}",
            lambda a, b, lag=lag: float(fidelity.autocorrelation_error(a, b, [lag])[0]),  # type: ignore[misc]
            0.05,
        )
        for lag in dict.fromkeys(lags)
    ]
    result.append(line("spectrum", fidelity.spectrum_error, 0.05))
    seam = _number(fidelity.seam(made, max(L // 2, 1)))
    result.append(
        Measure(
            "seam",
            seam,
            "0.8 to 1.25",
            None if seam is None else 0.8 <= seam <= 1.25,
            "steps where windows meet",
        )
    )
    if not train:
        result.append(
            Measure("memorisation", None, "passed", None, "needs --train FILE, what the model learned from")
        )
        return result
    found = fidelity.memorisation(train, real, made, L)
    if found is None:
        result.append(Measure("memorisation", None, "passed", None, "no whole windows"))
    else:
        says = (
            f"nearest training window at {found.made:.3g} sd, of held-out windows at {found.held_out:.3g};"
            f" {found.nearer:.0%} nearer than 5 % of those (good: at most 10 %)"
        )
        ratio = found.made / found.held_out if found.held_out > 0 else math.inf
        result.append(Measure("memorisation", _number(ratio), "at least 0.9", found.passed, says, 1.0))
    return result


def _discriminator(real: list[Floats], made: list[Floats], train: list[Floats], L: int) -> Measure:
    """AUC of gradient boosting that tells real windows from synthetic ones; half the stretches each way."""
    name, good = "discriminator (AUC)", "at most 0.75"
    try:
        value = discriminator_auc(real, made, L)
        floor = discriminator_auc(real, train, L) if train else None
    except ImportError:
        return Measure(name, None, good, None, "needs scikit-learn: pip install 'anomalyd[quality]'")
    if value is None:
        return Measure(name, None, good, None, f"needs {FEWEST_WINDOWS} whole windows of two stretches each")
    return Measure(name, value, good, value <= 0.75, real=floor)


def discriminator_auc(real: Sequence[Floats], made: Sequence[Floats], length: int) -> float | None:
    """0.5: the two cannot be told apart; 1: always. None with too few windows.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    (one, of_one), (other, of_other) = (
        fidelity.windows(x, length, max(length // 2, 1)) for x in (real, made)
    )
    count = min(len(one), len(other), 3_000)
    if count < FEWEST_WINDOWS:
        return None
    random = np.random.default_rng(0)
    picks = [np.sort(random.permutation(len(x))[:count]) for x in (one, other)]
    x = np.concatenate([one[picks[0]], other[picks[1]]]).reshape(2 * count, -1)
    y = np.repeat([0, 1], count)
    half = np.concatenate([of_one[picks[0]], of_other[picks[1]]]) % 2
    found = []
    for side in (0, 1):
        fit, test = half == side, half != side
        if len(set(y[fit])) < 2 or len(set(y[test])) < 2:
            return None
        model = HistGradientBoostingClassifier(max_iter=100, random_state=0).fit(x[fit], y[fit])
        found.append(float(roc_auc_score(y[test], model.predict_proba(x[test])[:, 1])))
    return float(np.mean(found))


def _trained_on_synthetic(
    bundle: Bundle, history: Sequence[Segment], made: Sequence[Floats], anomalous: list[Mask] | None
) -> list[Measure]:
    """Whether a model that is trained on synthetic rows scores real ones as the bundle does."""
    name = "trained on synthetic, agreement"
    good = "at least 0.8"
    L = bundle.window
    learned = [Segment(f"synthetic-{i:04d}", 0, x) for i, x in enumerate(made) if len(x) >= L]
    spec = _spec(bundle)
    settings = ModelSettings(
        bundle.settings.kind,
        bundle.settings.hidden,
        bundle.settings.latent,
        bundle.settings.beta,
        bundle.settings.seed,
    )
    try:
        whole = [Piece(i, 0, len(s.values)) for i, s in enumerate(learned)]
        other = fit_models(learned, whole, spec, Architecture(settings, bundle.models.lengths))
    except (DaemonError, ValueError, RuntimeError) as error:
        return [Measure(name, None, good, None, f"no model came of it: {error}")]
    scores = [np.concatenate([_surprise(m, s, L) for s in history]) for m in (bundle.models, other)]
    fine = np.isfinite(scores[0]) & np.isfinite(scores[1])
    if fine.sum() < 10:
        return [Measure(name, None, good, None, "too few rows that both can score")]
    rank = [np.argsort(np.argsort(s[fine], kind="stable"), kind="stable").astype(float) for s in scores]
    agreement = float(np.corrcoef(rank[0], rank[1])[0, 1])
    result = [
        Measure(name, agreement, good, agreement >= 0.8, "rank correlation of the scores of held-out rows")
    ]
    if anomalous is not None:
        truth = np.concatenate([a[L - 1 :] for a in anomalous])[fine]
        if truth.any() and not truth.all():
            real, synthetic = (average_precision(truth, s[fine]) for s in scores)
            result.append(
                Measure(
                    "trained on synthetic, AP",
                    synthetic,
                    "at least 0.9 of the bundle's",
                    synthetic >= 0.9 * real,
                    real=real,
                )
            )
        else:
            result.append(Measure("trained on synthetic, AP", None, "", None, "the labels are all alike"))
    return result


def _spec(bundle: Bundle) -> StreamSpec:
    """A stream with the sensors, period and window of a bundle."""
    return StreamSpec("synthetic", bundle.sensors, bundle.period_ns, bundle.window)


def _surprise(models: Models, segment: Segment, L: int) -> Floats:
    """(T - L + 1,) minus the ELBO of each window; NaN where nothing was observed."""
    some = sliding(segment.values, L)
    mine = models.at_level(segment.asset, segment.values)
    return -mine.measure(some, [""] * len(some)).elbo


def _labels(
    path: Path, plan: StreamPlan, label: str, left_out: Sequence[str], history: Sequence[Segment]
) -> list[Mask]:
    """Whether each row of the history is labelled."""
    if is_lines(path):
        raise UsageError("--label is a column: a JSON Lines file has none")
    table = table_of(path, plan.spec, [name for name in left_out if name != label], TableReading())
    spec = replace(plan.spec, sensors=(label,), sensor_rules=(), ranges=())
    found: dict[tuple[str, int], bool] = {}
    for segment in segments(table, spec):
        for i, value in enumerate(segment.values[:, 0].tolist()):
            found[segment.asset, segment.first_row + i] = value > 0
    return [
        np.array([found.get((s.asset, s.first_row + i), False) for i in range(len(s.values))])
        for s in history
    ]


def _mean(values: Floats) -> float:
    """The mean of the finite values; NaN without any."""
    fine = np.isfinite(values)
    return float(values[fine].mean()) if fine.any() else math.nan


def _number(value: float) -> float | None:
    """A number for JSON; None for NaN and infinity."""
    return float(value) if math.isfinite(value) else None
