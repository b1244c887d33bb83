"""The golden batch: windows that any model of the same sensors must be able to judge.

Usual windows, windows with gaps of each kind, and values far out, under every condition and an unknown one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daemon.detector import Windows
from daemon.domain import Floats, Mask
from daemon.errors import BundleError
from daemon.model.detector import BundleDetector


def golden_windows(detector: BundleDetector, seen: Mask) -> tuple[Floats, tuple[str, ...], Mask]:
    """Windows (B, L, C) that any model of these sensors must be able to judge, B labels, (B,) whether scorable.

    Raw units, made from the detector's own units: usual, with gaps of each kind, far out; each condition
    at least once, and one that training never saw. The last window is empty and has no score.
    """
    L, C = detector.window, len(detector.sensors)
    steps, channels = np.arange(L)[:, None], np.arange(C)[None, :]
    wave = np.sin(0.7 * steps + 1.3 * channels)  # (L, C), within +-1 standard deviation
    gaps = {
        "a sensor": channels == 0,
        "all sensors but one that was ever seen": channels != int(np.flatnonzero(seen)[0]),
        "the newest row": np.broadcast_to(steps == L - 1, (L, C)),
        "the newest half": np.broadcast_to(steps >= L // 2, (L, C)),
        "every other cell": (steps + channels) % 2 == 1,
        "all but the newest row": np.broadcast_to(steps < L - 1, (L, C)),
    }
    patterns = [0.0 * wave, wave, 3.0 * wave, -wave, wave + 8.0, 1e6 * wave, 1e6 + 0.0 * wave]
    patterns += [np.where(hidden, np.nan, wave) for hidden in gaps.values()]
    patterns += [np.where(hidden, np.nan, 1e6 * wave) for hidden in gaps.values()]
    patterns.append(np.full((L, C), np.nan))
    labels = [*detector.conditions, "\x00never seen"]
    count = max(len(patterns), len(labels))
    count += count % len(labels) == 0  # else a pattern would always have the same label
    at = np.arange(count) % len(patterns)
    units = detector.scaling
    values = np.clip(np.stack(patterns)[at] * units.scale + units.mean, -1e300, 1e300)
    some = np.isfinite(values[:, :, seen]).any((1, 2))
    return values, tuple(labels[i % len(labels)] for i in range(count)), np.asarray(some)


def check_golden(detector: BundleDetector, seen: Mask) -> None:
    """Judge the golden windows as the stream does, and check the results.

    Args:
        detector: of the bundle.
        seen: (C,) the sensors that training observed, and that no rule ignores.

    Raises:
        BundleError: naming what is missing or not finite.
    """
    with np.errstate(all="ignore"):
        values, labels, scorable = golden_windows(detector, seen)
        B, newest = len(values), values[:, -1]
        scaling = detector.scaling.of(values)
        age = np.where(np.isfinite(newest), 0.0, 1.0)
        last = np.where(np.isfinite(newest), newest, detector.scaling.mean)
        batch = Windows(newest[:, None], np.ones(B, bool), labels, last, age, scaling)
        try:
            evidence = detector.infer(batch)
            baseline = np.stack([detector.fresh_baseline("") for _ in range(B)])
            verdicts = detector.judge(evidence, baseline, np.arange(B))
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise BundleError(
                f"its model fails on usual windows: {type(error).__name__}: {reason}"
            ) from error
    if not (evidence.scorable == scorable).all():
        raise BundleError("its model takes windows with readings for empty ones, or the other way round")
    present = np.isfinite(newest[:, seen]).any(1) & scorable
    missing = np.isnan(newest) & seen
    results: Sequence[tuple[str, Floats, Floats | float]] = (
        ("score", verdicts.score[scorable], 0.0),
        ("static score", verdicts.static_score[scorable], 0.0),
        ("reconstruction error", verdicts.reconstruction[scorable], -np.inf),
        ("KL", verdicts.kl[scorable], -1e-3),
        ("ELBO", verdicts.elbo[scorable], -np.inf),
        ("newest residual", verdicts.point[present], 0.0),
        ("probability", np.stack([verdicts.p_reconstruction, verdicts.p_kl])[:, scorable], 0.0),
        ("posterior", evidence.posterior[scorable], -np.inf),
        ("expected value", evidence.expected[:, seen], -np.inf),
        ("imputed value", evidence.filled[missing], -np.inf),
        ("imputed interval", (evidence.high - evidence.low)[missing], 0.0),
        ("slow baseline", baseline, -np.inf),
    )
    for what, found, least in results:
        if not np.isfinite(found).all() or not (found >= least).all():
            raise BundleError(f"its model fails on usual windows: a {what} is not finite, or below {least:g}")
