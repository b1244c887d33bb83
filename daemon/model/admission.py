"""What a bundle must be before anything judges by it, however it came here.

A bundle is data from outside: from a folder, from a topic, from a training that met odd rows. One with a
NaN among its weights loads, says "no evidence" of every window, and leaves the stream unwatched while all
else looks healthy. So whoever makes a ``Bundle`` from bytes passes three checks, which cost milliseconds:

1. ``read_manifest``: the manifest has the right fields and types, within limits. Nothing is allocated
   that the manifest merely speaks of.
2. ``check_arrays``: each array has the type and shape that the manifest asks for, is finite, and is
   positive where it divides. Two kinds of array may hold infinity, where it means "no limit": how far an
   imputed value may stray, and how slowly a tail falls. Drift thresholds without a limit are null.
3. ``check_golden``: a batch of windows made from the bundle's own scaler (usual ones, with gaps, far out,
   under every condition) goes through ``infer`` and ``judge``; what comes out must keep the promises of
   ``domain.Detector``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from daemon.calendar import check_fields
from daemon.detector import Windows
from daemon.domain import Floats, Mask, ModelSettings
from daemon.errors import BundleError
from daemon.model.calibration import KNOTS
from daemon.model.detector import BundleDetector
from daemon.model.imputation import BUCKETS, REACH
from daemon.model.synthesis import CANDIDATES, GRID, names_of
from daemon.model.synthesis import KNOTS as SYNTHESIS_KNOTS

Name = Annotated[str, Meta(min_length=1, max_length=1_000)]
Asset = Annotated[str, Meta(max_length=10_000)]
Label = Annotated[str, Meta(max_length=10_000)]
Whole = Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
Number = Annotated[float, Meta(ge=0.0)]  # JSON has no NaN and no infinity
Width = Annotated[int, Meta(ge=1, le=65_536)]
MOST_CELLS = 1 << 24
"""Numbers in a table of levels or of usual windows, one row per condition: 128 MiB."""


# ------------------------------------------------------------------ the manifest
class PathShape(msgspec.Struct, frozen=True):
    """The nonlinear path of a VAE."""

    hidden: Annotated[tuple[Width, ...], Meta(min_length=1, max_length=32)]
    latent: Width
    labels: Annotated[tuple[Label, ...], Meta(max_length=10_000)]


class OwnLevels(msgspec.Struct, frozen=True):
    """Who has levels of its own, in the order of the arrays' rows."""

    assets: tuple[Asset, ...]
    conditions: tuple[Label, ...]


class CalibrationFacts(msgspec.Struct, frozen=True):
    """What the manifest says of the calibration; see ``Calibration.facts``."""

    threshold: Annotated[float, Meta(gt=0.0)]
    provisional: bool
    baseline_step: Number
    asset_days: Number
    carried: tuple[tuple[Asset, Whole], ...]
    own_levels: OwnLevels


class DriftThresholds(msgspec.Struct, frozen=True):
    """None is no limit."""

    latent_threshold: Number | None
    residual_threshold: Number | None


class WeightsFact(msgspec.Struct, frozen=True):
    """What identifies the weights that belong to a manifest."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Anchor(msgspec.Struct, frozen=True):
    """``facts["anchor"]``, which every successor is compared with; see ``promotion.anchored``."""

    version: str
    mean: tuple[float, ...]
    scale: tuple[Annotated[float, Meta(gt=0.0)], ...]
    seen: tuple[bool, ...]


class ConditionFacts(msgspec.Struct, frozen=True):
    """What ``facts`` say of the conditions, where they say it; see ``conditions.condition_facts``."""

    condition: Annotated[tuple[Label, ...], Meta(max_length=1_000)] = ()
    timezone: str | None = None
    rare_conditions: Annotated[int, Meta(ge=0)] = 0
    rare_condition: Label = ""


class Manifest(msgspec.Struct, frozen=True):
    """The manifest of a bundle, as far as a bundle is rebuilt from it."""

    format: int
    settings: ModelSettings
    sensors: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=10_000)]
    period_ns: Annotated[int, Meta(ge=1, le=1 << 62)]
    conditions: Annotated[tuple[Label, ...], Meta(max_length=10_000)]
    window: Width
    lengths: Annotated[tuple[Width, ...], Meta(min_length=1, max_length=16)]
    vae: PathShape | None
    calibration: CalibrationFacts
    drift: DriftThresholds
    facts: dict[str, Any]
    weights: WeightsFact


class _Format(msgspec.Struct, frozen=True):
    format: int


def read_manifest(data: bytes, known_format: int) -> Manifest:
    """The manifest in these bytes.

    Raises:
        BundleError: it is no JSON, of another format, or has a field of another type or beyond a limit.
    """
    try:
        found = msgspec.json.decode(data, type=_Format).format
        if found != known_format:
            raise BundleError(f"bundle format {found}, this version reads {known_format}")
        manifest = msgspec.json.decode(data, type=Manifest)
        check_fields(msgspec.convert(manifest.facts, ConditionFacts).condition)
        if "anchor" in manifest.facts:
            anchor = msgspec.convert(manifest.facts["anchor"], Anchor)
            if {len(anchor.mean), len(anchor.scale), len(anchor.seen)} != {len(manifest.sensors)}:
                raise BundleError("damaged bundle: its anchor is of other sensors")
    except RecursionError as error:
        raise BundleError("damaged bundle: its manifest is nested too deeply") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise BundleError(f"damaged bundle: manifest: {error}") from error
    lengths = manifest.lengths
    if manifest.window != lengths[-1] or sorted(set(lengths)) != list(lengths):
        raise BundleError(f"damaged bundle: a window of {manifest.window}, with lengths {list(lengths)}")
    for what, names in (("sensor", manifest.sensors), ("condition", manifest.conditions)):
        if len(set(names)) != len(names):
            raise BundleError(f"damaged bundle: a {what} appears twice")
    return manifest


# ------------------------------------------------------------------ the arrays
@dataclass(frozen=True, slots=True)
class _Rule:
    """What one array must be. ``above``: its numbers are greater than this; ``limitless``: +inf is meant."""

    shape: tuple[int, ...]
    kind: str = "f"  # numpy's: f float, i signed integer, b bool
    above: float = -np.inf
    limitless: bool = False


def check_arrays(manifest: Manifest, arrays: Mapping[str, NDArray[Any]], latents: int) -> None:
    """Types, shapes and values of all arrays but the VAE's weights.

    Args:
        manifest: says which arrays there must be.
        arrays: by name, as the bundle stores them.
        latents: of the VAE's path; 0 without.

    Raises:
        BundleError: naming the array and the rule.
    """
    C, S = len(manifest.sensors), len(manifest.lengths)
    P = S * C + 2 * S  # the slow baseline's states, see ``Calibration.states``
    cells = max(P, manifest.window * C)
    if (len(manifest.conditions) + 1) * cells > MOST_CELLS:
        raise BundleError(f"{len(manifest.conditions)} conditions of {cells} levels: more than can be kept")
    facts = manifest.calibration
    rules = {
        "scaler.mean": _Rule((C,)),
        "scaler.scale": _Rule((C,), above=0.0),
        "scaler.seen": _Rule((C,), "b"),
        "sigma": _Rule((C,), above=0.0),
        "longest_constant": _Rule((C,), "i", above=-1.0),
        "calibration.error_level": _Rule((S, C)),
        "calibration.error_mean": _Rule((S, C)),
        "calibration.error_sd": _Rule((S, C), above=0.0),
        "calibration.latent_level": _Rule((S, 2)),
        "calibration.residual_rms": _Rule((C,), above=0.0),
        "calibration.carried": _Rule((len(facts.carried), P)),
        "calibration.asset_levels": _Rule((len(facts.own_levels.assets), P)),
        "calibration.condition_levels": _Rule((len(facts.own_levels.conditions), P)),
        "drift.residual_mean": _Rule((C,)),
        "drift.residual_variance": _Rule((C,), above=0.0),
    }
    for length in manifest.lengths:
        k, d = _rows(arrays, f"pca.{length}.variance"), length * C
        rules |= {
            f"pca.{length}.mean": _Rule((d,)),
            f"pca.{length}.basis": _Rule((d, k)),
            f"pca.{length}.variance": _Rule((k,), above=0.0),
            f"pca.{length}.noise": _Rule((1,), above=0.0),
        }
    Z = latents + _rows(arrays, f"pca.{manifest.window}.variance")
    rules |= {"drift.latent_mean": _Rule((Z,)), "drift.latent_variance": _Rule((Z,), above=0.0)}
    tails = ["point", "reconstruction", *(f"top.{i}" for i in range(S))]
    tails += [f"latent.{i}.{which}" for i in range(S) for which in (0, 1)]
    for tail in (f"calibration.{name}" for name in tails):
        knots = min(max(_rows(arrays, f"{tail}.value"), 1), 10 * KNOTS)
        rules |= {
            f"{tail}.value": _Rule((knots,)),
            f"{tail}.nats": _Rule((knots,), above=-1e-9),
            f"{tail}.excess": _Rule((1,), above=0.0, limitless=True),
        }
    if "extras.condition.mean" in arrays:
        if not manifest.conditions:
            raise BundleError("extras.condition.mean: the model knows no condition")
        if manifest.vae is not None and manifest.vae.labels != manifest.conditions:
            raise BundleError("damaged bundle: its VAE knows other conditions than it does")
        rules["extras.condition.mean"] = _Rule((len(manifest.conditions) + 1, manifest.window * C))
    if any(name.startswith("extras.impute.") for name in arrays):
        rules |= _imputation(arrays, C)
    made_up = any(name.startswith("extras.synthesis.") for name in arrays)
    if made_up:
        rules |= _synthesis(arrays, C, manifest.window // 2, Z)
    for name, rule in rules.items():
        _check(arrays, name, rule)
    if made_up:
        _check_synthesis(arrays, len(manifest.conditions))
    for tail in tails:
        if (np.diff(arrays[f"calibration.{tail}.value"]) < 0).any():
            raise BundleError(f"calibration.{tail}.value does not ascend")
    if not arrays["scaler.seen"].any():
        raise BundleError("scaler.seen: no sensor was ever observed")
    partners = arrays.get("extras.impute.partners")
    if partners is not None and partners.size and int(partners.max()) >= C:
        raise BundleError(f"extras.impute.partners names sensor {int(partners.max())} of {C}")


def _imputation(arrays: Mapping[str, NDArray[Any]], C: int) -> dict[str, _Rule]:
    partners = arrays.get("extras.impute.partners")
    most = partners.shape[1] if partners is not None and partners.ndim == 2 else 0
    rules = {
        "mean": _Rule((C,)),
        "scale": _Rule((C,), above=0.0),
        "seen": _Rule((C,), "b"),
        "covariance": _Rule((2 * REACH + 1, C, C)),
        "partners": _Rule((C, most), "i", above=-1.0),
        "rho": _Rule((C,)),
    }
    for name, buckets in (("live", BUCKETS), ("batch", 2 * BUCKETS)):
        rules[f"{name}_weights"] = _Rule((C, buckets, 3))
        rules[f"{name}_step"] = _Rule((C, buckets), above=-1e-9, limitless=True)
        rules[f"{name}_margin"] = _Rule((C, buckets), above=-1e-9)
    return {f"extras.impute.{name}": rule for name, rule in rules.items()}


def _synthesis(arrays: Mapping[str, NDArray[Any]], C: int, h: int, latents: int) -> dict[str, _Rule]:
    """Tables of ``synthesis.Synthesis``, whose sizes n, K, G, Z and e only they themselves say."""

    def size(name: str, axis: int = 0) -> int:
        array = arrays.get(f"extras.synthesis.{name}")
        return array.shape[axis] if array is not None and array.ndim > axis else 0

    n, K, Z, G, e = (
        max(size("path"), 1),
        max(size("regime"), 1),
        size("turn"),
        max(size("slope"), 1),
        size("ends"),
    )
    square = _Rule((2, Z, Z))
    rules = {
        **{
            name: _Rule((n,), "i", above=-2.0)
            for name in ("path", "follows", "past", "label", "asset", "strata")
        },
        "ends": _Rule((e,), "i", above=-1.0),
        "bridges": _Rule((e, CANDIDATES), "i", above=-1.0),
        "mean": _Rule((latents,)),
        "turn": _Rule((Z, latents)),
        "centre": _Rule((K, Z)),
        "spread": _Rule((K,), above=-1e-9),
        "carry": square,
        "push": square,
        "regime": _Rule((K,), "i", above=-1.0),
        "level": _Rule((K, 2 * h, C)),
        "slope": _Rule((G, C)),
        "scale": _Rule((K, C), above=-1e-9),
        "noise": _Rule((G, C, len(GRID))),
        "rho": _Rule((G, C), above=-1.0),
        "mix": _Rule((G, C, C)),
        "wander": _Rule((G, C), above=-1e-9),
        "together": _Rule((C, C)),
        "source": _Rule((G, C, SYNTHESIS_KNOTS)),
        "target": _Rule((G, C, SYNTHESIS_KNOTS)),
        "step": _Rule((C,), above=-1e-9),
        "values": _Rule((size("values"),)),
        "first": _Rule((C + 1,), "i", above=-1.0),
        "names": _Rule((max(size("names"), 1),), "i"),
    }
    return {f"extras.synthesis.{name}": rule for name, rule in rules.items()}


def _check_synthesis(arrays: Mapping[str, NDArray[Any]], conditions: int) -> None:
    """What the tables point at must be there, and what they map must ascend."""
    of = {name.removeprefix("extras.synthesis."): array for name, array in arrays.items()}
    n, cells, sensors = len(of["path"]), len(of["regime"]), len(of["step"])
    first = of["first"]
    try:
        names = len(names_of(of["names"]))
    except UnicodeDecodeError as error:
        raise BundleError("extras.synthesis.names is no text") from error
    limits = {
        "path": (0, cells),
        "follows": (-1, n),
        "past": (0, n),
        "label": (-1, conditions),
        "asset": (0, names),
        "strata": (0, n),
        "ends": (0, n),
        "bridges": (0, n),
        "regime": (0, len(of["slope"])),
        "first": (0, len(of["values"]) + 1),
    }
    for name, (low, high) in limits.items():
        array = of[name]
        if array.size and not (low <= int(array.min()) and int(array.max()) < high):
            raise BundleError(f"extras.synthesis.{name} points at what is not there")
    if not (np.bincount(of["strata"], minlength=n) == 1).all():
        raise BundleError("extras.synthesis.strata is no order")
    if (np.abs(of["rho"]) >= 1.0).any() or (of["step"] > 1e300).any():
        raise BundleError("extras.synthesis.rho: a noise that grows without limit")
    ascends = bool((np.diff(first) >= 0).all()) and int(first[-1]) == len(of["values"])
    for name in ("source", "target"):
        ascends &= bool((np.diff(of[name], axis=2) >= 0).all())
    for c in range(sensors if ascends else 0):
        ascends &= bool((np.diff(of["values"][first[c] : first[c + 1]]) > 0).all())
    if not ascends:
        raise BundleError("extras.synthesis: a table of values does not ascend")


def check_weights(
    weights: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]], kind: str
) -> None:
    """The weights of a VAE: those that its kind has, in these shapes, all finite.

    Raises:
        BundleError: naming the array and the rule.
    """
    if set(weights) != set(shapes):
        raise BundleError(f"its weights are not those of a VAE of kind {kind}")
    named = {f"vae.{name}": array for name, array in weights.items()}
    for name, shape in shapes.items():
        _check(named, f"vae.{name}", _Rule(tuple(shape)))


def _rows(arrays: Mapping[str, NDArray[Any]], name: str) -> int:
    array = arrays.get(name)
    return array.shape[0] if array is not None and array.ndim == 1 else 0


def _check(arrays: Mapping[str, NDArray[Any]], name: str, rule: _Rule) -> None:
    array = arrays.get(name)
    if array is None:
        raise BundleError(f"damaged bundle: {name} is missing")
    if array.shape != rule.shape:
        raise BundleError(f"{name} has shape {array.shape}, its sensors and window ask for {rule.shape}")
    if array.dtype.kind != rule.kind:
        raise BundleError(f"{name} is of type {array.dtype}")
    if rule.kind == "b":
        return
    if np.isnan(array).any() or (not rule.limitless and not np.isfinite(array).all()):
        raise BundleError(f"{name} holds numbers that are not finite")
    if not (array > rule.above).all():
        raise BundleError(f"{name} holds {array.min()}, where more than {rule.above:g} is needed")


# ------------------------------------------------------------------ the golden batch
def golden_windows(detector: BundleDetector, seen: Mask) -> tuple[Floats, tuple[str, ...], Mask]:
    """Windows (B, L, C) that any model of these sensors must be able to judge, B labels, (B,) whether scorable.

    Raw units, made from the detector's own units: usual, with gaps of each kind, far out; each condition
    at least once, and one that training never saw. The last is empty, and nothing can be said of it.
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
    count += count % len(labels) == 0  # else a pattern would always meet the same label
    at = np.arange(count) % len(patterns)
    units = detector.scaling
    values = np.clip(np.stack(patterns)[at] * units.scale + units.mean, -1e300, 1e300)
    some = np.isfinite(values[:, :, seen]).any((1, 2))
    return values, tuple(labels[i % len(labels)] for i in range(count)), np.asarray(some)


def check_golden(detector: BundleDetector, seen: Mask) -> None:
    """Judge the golden windows, as the stream does it, and look at what comes out.

    Args:
        detector: of the bundle.
        seen: (C,) the sensors that training observed.

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
            said = " ".join(str(error).split())[:200]
            raise BundleError(f"its model fails on usual windows: {type(error).__name__}: {said}") from error
    if not (evidence.scorable == scorable).all():
        raise BundleError("its model takes windows with readings for empty ones, or the other way round")
    spoken = np.isfinite(newest[:, seen]).any(1) & scorable
    missing = np.isnan(newest) & seen
    results: Sequence[tuple[str, Floats, Floats | float]] = (
        ("score", verdicts.score[scorable], 0.0),
        ("static score", verdicts.static_score[scorable], 0.0),
        ("reconstruction error", verdicts.reconstruction[scorable], -np.inf),
        ("KL", verdicts.kl[scorable], -1e-3),
        ("ELBO", verdicts.elbo[scorable], -np.inf),
        ("newest residual", verdicts.point[spoken], 0.0),
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
