"""The arrays of a bundle: the type, shape and range that the manifest requires of each.

Four kinds of array may hold infinity, where it means "no limit": how far an imputed value may differ from
the last one, which values a sensor can have, how slowly a tail falls, and how
far an asset may drift. Drift thresholds without a limit are null in the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from daemon.asset_drift import ages
from daemon.domain import DAY_NS
from daemon.errors import BundleError
from daemon.habit import LONGEST_NS, SLOTS
from daemon.model.admission.manifest import GoldenFacts, LevelFacts, Manifest
from daemon.model.imputation import BATCH_BUCKETS, BUCKETS, FEW_VALUES, MOST_STEPS, REACH
from daemon.model.synthesis import CANDIDATES, GRID, names_of
from daemon.model.synthesis import KNOTS as SYNTHESIS_KNOTS
from daemon.model.tails import KNOTS
from daemon.model.thresholds import BOTH, POINTS
from daemon.nature import MOST_SENTINELS

MOST_CELLS = 1 << 24
"""Numbers in a table of levels or of usual windows, one row per condition: 128 MiB."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """The requirements on one array. ``above``: its numbers are greater than this; ``limitless``: infinity is allowed."""

    shape: tuple[int, ...]
    kind: str = "f"  # numpy's: f float, i signed integer, u unsigned, b bool
    above: float = -np.inf
    limitless: bool = False
    holes: bool = False  # NaN is allowed


def check_arrays(manifest: Manifest, arrays: Mapping[str, NDArray[Any]], latents: int) -> None:
    """Types, shapes and values of all arrays but the VAE's weights.

    Args:
        manifest: determines the required arrays.
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
    sentinels = min(_rows(arrays, "scaler.sentinels"), MOST_SENTINELS * C)
    rules = {
        "scaler.mean": _Rule((C,)),
        "scaler.scale": _Rule((C,), above=0.0),
        "scaler.seen": _Rule((C,), "b"),
        "scaler.sentinels": _Rule((sentinels,)),
        "scaler.sentinel_of": _Rule((sentinels,), "i", above=-1.0),
        "sigma": _Rule((C,), above=0.0),
        "longest_constant": _Rule((C,), "i", above=-1.0),
        "calibration.error_level": _Rule((S, C)),
        "calibration.error_mean": _Rule((S, C)),
        "calibration.error_sd": _Rule((S, C), above=0.0),
        "calibration.latent_level": _Rule((S, 2)),
        "calibration.residual_rms": _Rule((C,), above=0.0),
        "calibration.jump_limit": _Rule((C,), above=0.0, limitless=True),
        "calibration.carried": _Rule((len(facts.carried), P)),
        "calibration.asset_levels": _Rule((len(facts.own_levels.assets), P)),
        "calibration.condition_levels": _Rule((len(facts.own_levels.conditions), P)),
        "drift.residual_mean": _Rule((C,)),
        "drift.residual_variance": _Rule((C,), above=0.0),
    }
    if manifest.sustained is not None:
        rules |= {
            "sustained.centre": _Rule((C,)),
            "sustained.scale": _Rule((C,), above=0.0),
            "sustained.opens": _Rule((2, C), above=0.0),
            "sustained.closes": _Rule((2, C), above=0.0),
            "sustained.carried": _Rule((len(manifest.sustained.carried), 6 * C + 1)),
        }
    if facts.search is not None:
        models = BOTH[: facts.search.replays]
        curves = [f"{replay}.{one}" for replay in ("scores", "jumps") for one in models]
        rules |= _search(arrays, "calibration.search.", curves, C)
        rules |= {f"calibration.search.{name}": _Rule((C,), above=0.0) for name in ("scale", "least")}
        rules["calibration.search.known"] = _Rule((C,), "b")
    if manifest.sustained is not None and manifest.sustained.search is not None:
        rules |= _search(arrays, "sustained.search.", BOTH[: manifest.sustained.search.replays], 2 * C)
    if manifest.trend is not None:
        rules |= {
            "trend.scale": _Rule((C,), above=0.0),
            "trend.weights": _Rule((C, C)),
            "trend.seen": _Rule((C,), "b"),
            "trend.habit": _Rule((C,)),
            "trend.usual": _Rule((C,)),
            "trend.sigma": _Rule((C,), above=0.0),
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
    if manifest.drift.assets is not None:
        A, L = len(manifest.drift.assets.names) + 1, len(ages(manifest.drift.assets.memory))
        rules |= {
            "drift.asset.mean": _Rule((A, Z + 2 * C)),
            "drift.asset.variance": _Rule((A, Z + 2 * C), above=0.0),
            "drift.asset.threshold": _Rule((L, A, 2), above=0.0, limitless=True),
        }
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
    levelled = msgspec.convert(manifest.facts, LevelFacts).levelled
    if levelled is not None:
        rules |= {
            "extras.levels.level": _Rule((len(levelled), C)),
            "extras.levels.variance": _Rule((C,), above=-1e-300),
            "extras.levels.within": _Rule((C, C)),
        }
    if manifest.silence is not None:
        habits = C + 1 + len(manifest.silence.own)
        rules |= {
            "silence.usual": _Rule((habits, SLOTS // 8), "u", above=-1.0),
            "silence.longest_ns": _Rule((habits,), "i", above=-1.0),
            "silence.any_hour_ns": _Rule((habits,), "i", above=-1.0),
        }
    imputes = any(name.startswith("extras.impute.") for name in arrays)
    if imputes:
        rules |= _imputation(arrays, C)
    golden = msgspec.convert(manifest.facts, GoldenFacts).golden
    if golden:
        rules["extras.golden.values"] = _Rule((sum(one.rows for one in golden), C), holes=True)
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
    for prefix in ("calibration.search.", "sustained.search."):
        if f"{prefix}tails.first" in rules:
            _check_search(arrays, prefix)
    if not arrays["scaler.seen"].any():
        raise BundleError("scaler.seen: no sensor was ever observed")
    if sentinels and int(arrays["scaler.sentinel_of"].max()) >= C:
        raise BundleError(f"scaler.sentinel_of names sensor {int(arrays['scaler.sentinel_of'].max())} of {C}")
    if manifest.sustained is not None and (arrays["sustained.closes"] > arrays["sustained.opens"]).any():
        raise BundleError("sustained.closes: deviations would close above the limit that opens them")
    for name in ("silence.longest_ns", "silence.any_hour_ns"):
        if name in arrays and int(arrays[name].max()) > LONGEST_NS:
            raise BundleError(f"{name} holds a silence of more than {LONGEST_NS / DAY_NS:.0f} days")
    for name in ("extras.impute.partners", "extras.impute.habit_partners"):
        partners = arrays.get(name)
        if partners is not None and partners.size and int(partners.max()) >= C:
            raise BundleError(f"{name} names sensor {int(partners.max())} of {C}")
    if imputes:
        _check_limits(arrays)


def _search(
    arrays: Mapping[str, NDArray[Any]], prefix: str, curves: Sequence[str], tails: int
) -> dict[str, _Rule]:
    """Rules of what thresholds are found from: these curves, and the upper parts of so many tails."""
    rules: dict[str, _Rule] = {}
    for name in (prefix + curve for curve in curves):
        points = min(_rows(arrays, f"{name}.candidates"), POINTS)
        rules |= {
            f"{name}.candidates": _Rule((points,), above=-1e-9),
            f"{name}.episodes": _Rule((points,), "i", above=-1.0),
        }
    knots = min(_rows(arrays, f"{prefix}tails.value"), KNOTS * tails)
    return rules | {
        f"{prefix}tails.value": _Rule((knots,)),
        f"{prefix}tails.nats": _Rule((knots,), above=-1e-9),
        f"{prefix}tails.first": _Rule((tails + 1,), "i", above=-1.0),
        f"{prefix}tails.excess": _Rule((tails,), above=0.0, limitless=True),
    }


def _check_search(arrays: Mapping[str, NDArray[Any]], prefix: str) -> None:
    """Each tail has a knot, and ascends."""
    first, value, nats = (arrays[f"{prefix}tails.{name}"] for name in ("first", "value", "nats"))
    if int(first[0]) != 0 or int(first[-1]) != len(value) or (np.diff(first) < 1).any():
        raise BundleError(f"{prefix}tails.first points at what is not there")
    within = np.ones(max(len(value) - 1, 0), bool)
    within[first[1:-1] - 1] = False
    if (np.diff(value)[within] < 0).any() or (np.diff(nats)[within] < 0).any():
        raise BundleError(f"{prefix}tails do not ascend")


def _imputation(arrays: Mapping[str, NDArray[Any]], C: int) -> dict[str, _Rule]:
    def width(name: str) -> int:
        array = arrays.get(f"extras.impute.{name}")
        return array.shape[1] if array is not None and array.ndim == 2 else 0

    rules = {
        "mean": _Rule((C,)),
        "scale": _Rule((C,), above=0.0),
        "seen": _Rule((C,), "b"),
        "covariance": _Rule((2 * REACH + 1, C, C)),
        "partners": _Rule((C, width("partners")), "i", above=-1.0),
        "rho": _Rule((C,)),
        "lowest": _Rule((C,), limitless=True),
        "highest": _Rule((C,), limitless=True),
        "states": _Rule((C, FEW_VALUES), limitless=True),
    }
    mixtures = {"live": BUCKETS, "batch": BATCH_BUCKETS}
    level = arrays.get("extras.impute.habit_level")
    if level is not None:
        mixtures["habit"] = BATCH_BUCKETS
        rules |= {
            "habit_level": _Rule((min(max(len(level), 1), MOST_STEPS), C)),
            "habit_covariance": _Rule((2 * REACH + 1, C, C)),
            "habit_partners": _Rule((C, width("habit_partners")), "i", above=-1.0),
            "habit_used": _Rule((C, BATCH_BUCKETS), "b"),
        }
    for name, buckets in mixtures.items():
        rules[f"{name}_weights"] = _Rule((C, buckets, 3))
        rules[f"{name}_step"] = _Rule((C, buckets), above=-1e-9, limitless=True)
        rules[f"{name}_margin"] = _Rule((C, buckets), above=-1e-9)
    return {f"extras.impute.{name}": rule for name, rule in rules.items()}


def _check_limits(arrays: Mapping[str, NDArray[Any]]) -> None:
    """What a sensor can show has no gaps in its order, and is finite where it is filled in."""
    low, high, states = (arrays[f"extras.impute.{name}"] for name in ("lowest", "highest", "states"))
    ordered = (low <= high) & (low < np.inf) & (high > -np.inf)
    if not ordered.all() or (states == -np.inf).any() or (states[:, 1:] < states[:, :-1]).any():
        raise BundleError("extras.impute: limits of a sensor that no value can keep")


def _synthesis(arrays: Mapping[str, NDArray[Any]], C: int, h: int, latents: int) -> dict[str, _Rule]:
    """Rules of the tables of ``Synthesis``; their sizes n, K, G, Z and e are taken from the tables themselves."""

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
    """Indices in the tables must be in range, and the maps must ascend."""
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
    if rule.holes:
        array = array[~np.isnan(array)]
    if np.isnan(array).any() or (not rule.limitless and not np.isfinite(array).all()):
        raise BundleError(f"{name} holds numbers that are not finite")
    if np.isfinite(rule.above) and not (array > rule.above).all():
        raise BundleError(f"{name} holds {array.min()}, where more than {rule.above:g} is needed")
