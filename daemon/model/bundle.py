"""One model bundle: weights, scaler, calibration and facts under one version.

On disk a directory with ``manifest.json`` and ``weights.safetensors``; for a topic one byte
string. The version is the first 12 hex digits of the SHA-256 of the canonical manifest, which
contains the SHA-256 of the weights and no time of day: the same training twice is one
version, and a bundle whose parts do not belong together cannot be loaded.
"""

from __future__ import annotations

import hashlib
import json
import stat
import struct
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from daemon.asset_drift import AssetDriftReference
from daemon.budget import Budget
from daemon.detector import DriftReference
from daemon.domain import Floats, Ints, ModelSettings
from daemon.errors import BundleError
from daemon.habit import SilenceHabit
from daemon.model import golden_incidents
from daemon.model.admission import Manifest, check_arrays, check_golden, check_weights, read_manifest
from daemon.model.asset_drift import asset_drift_concerns
from daemon.model.calibration import Calibration
from daemon.model.cleaning import cleaning_concerns
from daemon.model.conditions import ConditionMeans
from daemon.model.detector import BundleDetector
from daemon.model.golden_incidents import GoldenIncident
from daemon.model.imputation import ImputationParameters
from daemon.model.levels import AssetLevels
from daemon.model.pca import WindowPCA
from daemon.model.reconstruction import Models
from daemon.model.rules import AlertRules
from daemon.model.scaler import Scaler
from daemon.model.screening import screening_concerns
from daemon.model.soundness import concerns
from daemon.model.sustained import SustainedLimits
from daemon.model.synthesis import PriorSeries, Selection, Series, Synthesis, Walk
from daemon.model.trend import TrendLimits
from daemon.model.vae import VAE
from daemon.writing import current, replacing_folder

FORMAT, WITH_LEVELS = 6, 7
"""Of bundles; one with levels is not for versions that would read its assets without them."""
MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"
LARGEST_MANIFEST = 64 << 20
LARGEST_WEIGHTS = 1 << 30
IMPUTE = "impute."
"""Prefix of the imputation's arrays among a bundle's extras."""
CONDITION_MEAN = "condition.mean"
"""The extra with ``ConditionMeans.mean``; old bundles have none: only their path reads the condition."""
LEVELS_OF, LEVELLED = "levels.", "levelled"
"""Prefix of the extras with the assets' levels, and the fact with these assets' names; without, no asset has levels."""
SYNTHESIS = "synthesis."
"""Prefix of the tables by which synthetic series are drawn."""
MAGIC = b"anomalyd-bundle\x00"


def check_writable(path: Path) -> None:
    """Check that a bundle can be saved as ``path``, before a training rather than after it.

    Raises:
        BundleError: if ``path`` is something other than a bundle, or its folder cannot be written to.
    """
    if path.exists() and not (path / MANIFEST).is_file() and (not path.is_dir() or any(path.iterdir())):
        raise BundleError(f"{path}: exists and is no model bundle")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise BundleError(f"{path}: cannot be written: {error.strerror}") from error


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A trained, calibrated model with everything that scoring, imputation and synthesis need.

    ``facts`` are further entries of the manifest (rows trained on, scores of the gate: numbers
    and text, never a clock); ``extras`` are named arrays of other modules.
    """

    settings: ModelSettings
    sensors: tuple[str, ...]
    period_ns: int
    conditions: tuple[str, ...]
    models: Models
    calibration: Calibration
    drift: DriftReference
    longest_constant: Ints
    sustained: SustainedLimits | None = None  # None: deviations are not looked for
    silence: SilenceHabit | None = None  # None: no silence is usual
    trend: TrendLimits | None = None  # None: nor are slow trends, or training had too few days
    facts: Mapping[str, Any] = field(default_factory=dict)
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def window(self) -> int:
        """L; shorter than the stream's window where the rows did not suffice for it."""
        return self.models.window

    @property
    def version(self) -> str:
        """12 hex digits."""
        return _version(self._parts()[0])

    def detector(
        self, budget: Budget | None = None, deviation_budget: Budget | None = None
    ) -> BundleDetector:
        """The detector of this bundle.

        Args:
            budget: of its thresholds, which are found anew where the bundle's are of another; None: the bundle's.
            deviation_budget: likewise of its limits of deviations.
        """
        calibration, sustained = self.calibration, self.sustained
        if budget is not None:
            calibration = calibration.for_budget(budget)
        if deviation_budget is not None and sustained is not None:
            sustained = sustained.for_budget(deviation_budget)
        return BundleDetector(
            version=self.version,
            sensors=self.sensors,
            conditions=self.conditions,
            models=self.models,
            calibrated=calibration,
            longest_constant=self.longest_constant,
            drift=self.drift,
            imputation=self.imputation,
            sustained=sustained,
            silence=self.silence,
            trend=self.trend,
        )

    @property
    def imputation(self) -> ImputationParameters | None:
        """The parameters of imputation; None if the bundle was made without."""
        mine = {k[len(IMPUTE) :]: v for k, v in self.extras.items() if k.startswith(IMPUTE)}
        return replace(ImputationParameters.of(mine), levels=self.models.levels) if mine else None

    @property
    def golden(self) -> tuple[GoldenIncident, ...]:
        """The confirmed incidents that this model's successors must find, if this one does."""
        return golden_incidents.read(self.facts, self.extras)

    def with_golden(self, incidents: Sequence[GoldenIncident]) -> Bundle:
        """The same with other golden incidents."""
        facts = {name: fact for name, fact in self.facts.items() if name != golden_incidents.FACTS}
        extras = {name: array for name, array in self.extras.items() if name != golden_incidents.VALUES}
        if incidents:
            facts[golden_incidents.FACTS], extras[golden_incidents.VALUES] = golden_incidents.written(
                incidents
            )
        return replace(self, facts=facts, extras=extras)

    @property
    def synthesis(self) -> Synthesis | None:
        """The tables of synthetic series; None if the bundle was made without."""
        mine = {k[len(SYNTHESIS) :]: v for k, v in self.extras.items() if k.startswith(SYNTHESIS)}
        return Synthesis.of(mine) if mine else None

    @property
    def concerns(self) -> tuple[str, ...]:
        """Weaknesses of this model that an operator should see, each in one line; see ``soundness``."""
        sentinels = [(self.sensors[c], number) for c, number in self.models.scaler.scaling.sentinels]
        found = *concerns(self.models, self.facts), *cleaning_concerns(self.facts, sentinels)
        found = *found, *screening_concerns(self.facts)
        found = *found, *asset_drift_concerns(self.drift.assets, int(self.facts.get("assets", 0)))
        apart = (
            [] if self.trend is None else np.flatnonzero(self.models.scaler.seen & ~self.trend.seen).tolist()
        )
        if not apart:
            return found
        names = ", ".join(self.sensors[c] for c in apart)
        return (*found, f"slow trends are not looked for in {names}: without a value for much of most days")

    @property
    def habits(self) -> tuple[str, ...]:
        """What recurs and is usual to this model, each in one line: silences, and events of ``recurring``."""
        silences = [] if self.silence is None else self.silence.described(self.sensors)
        return (*silences, *map(str, self.facts.get("recurring", ())))

    def series(
        self, assets: int, seed: int = 0, condition: str | None = None, like: str | None = None
    ) -> Series:
        """Synthetic assets that go on for ever, in raw units; see ``synthesis``. Deterministic under the seed.

        Args:
            assets: how many.
            seed: of all random draws.
            condition: one of ``conditions``; None: as they came in training.
            like: an asset of training, one of ``synthesis.names``; None: any.

        Raises:
            BundleError: no such condition or asset, or an asset is requested of an old bundle.
        """
        if condition is not None and condition not in self.conditions:
            known = ", ".join(self.conditions[:12]) or "none: its stream has no condition"
            raise BundleError(f"model {self.version} knows no condition {condition!r}; it knows {known}")
        random, tables = np.random.default_rng([seed, assets]), self.synthesis
        if tables is None:
            if like is not None:
                raise BundleError(
                    f"model {self.version} was made before bundles kept what their assets do: train it anew for --like"
                )
            return PriorSeries(self.models, assets, random, condition or "")
        if like is not None and like not in tables.names:
            known = ", ".join(tables.names[:12]) + (" ..." if len(tables.names) > 12 else "")
            raise BundleError(f"model {self.version} knows no asset {like!r}; it learned from {known}")
        return Walk(
            tables,
            self.models,
            self.conditions,
            assets,
            random,
            Selection(
                None if like is None else tables.names.index(like),
                None if condition is None else self.conditions.index(condition),
            ),
        )

    def sample(self, count: int, condition: str = "", seed: int = 0) -> Floats:
        """(count, L, C) synthetic windows in raw units: of as many series, one each.

        An unknown condition counts as none.
        """
        known = condition if condition in self.conditions else None
        series, L = self.series(count, seed, known), self.window
        rows = series.rows()[0]
        while rows.shape[1] < L:
            rows = np.concatenate([rows, series.rows()[0]], 1)
        return rows[:, :L]

    # ------------------------------------------------------------------ bytes
    def _parts(self) -> tuple[bytes, bytes]:
        """Canonical manifest and weights."""
        arrays = self.models.arrays()
        arrays.update({f"calibration.{k}": v for k, v in self.calibration.arrays().items()})
        if self.sustained is not None:
            arrays.update({f"sustained.{k}": v for k, v in self.sustained.arrays().items()})
        if self.trend is not None:
            arrays.update({f"trend.{k}": v for k, v in self.trend.arrays().items()})
        arrays.update({f"drift.{k}": getattr(self.drift, k) for k in _DRIFT_ARRAYS})
        about = self.drift.assets
        if about is not None:
            arrays.update({f"drift.asset.{k}": getattr(about, k) for k in _ASSET_DRIFT_ARRAYS})
        arrays["longest_constant"] = self.longest_constant
        if self.silence is not None:
            arrays.update({f"silence.{k}": v for k, v in self.silence.arrays().items()})
        arrays.update({f"extras.{k}": v for k, v in self.extras.items()})
        weights = save_tensors({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)})
        vae = self.models.vae
        manifest = {
            "format": FORMAT if self.models.levels is None else WITH_LEVELS,
            "settings": asdict(self.settings),
            "sensors": list(self.sensors),
            "period_ns": self.period_ns,
            "conditions": list(self.conditions),
            "window": self.window,
            "lengths": list(self.models.lengths),
            "vae": None
            if vae is None
            else {"hidden": list(vae.hidden), "latent": vae.latent, "labels": list(vae.labels)},
            "calibration": self.calibration.facts(),
            "sustained": None if self.sustained is None else self.sustained.facts(),
            "silence": None if self.silence is None else {"own": [list(one) for one in self.silence.own]},
            "trend": None if self.trend is None else self.trend.facts(),
            "drift": {k: _number(getattr(self.drift, k)) for k in ("latent_threshold", "residual_threshold")}
            | {"assets": None if about is None else {"names": list(about.names), "memory": about.memory}},
            "facts": dict(self.facts),
            "weights": {"sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)},
        }
        return _canonical(manifest), weights

    def to_bytes(self) -> bytes:
        """The whole bundle as one byte string, for a topic."""
        return _packed(*self._parts())

    @staticmethod
    def read_bytes(path: Path) -> bytes:
        """The ``to_bytes`` of a bundle directory, unchecked.

        Raises:
            BundleError: it is missing or too large.
        """
        return _packed(*_files(path))

    @staticmethod
    def from_bytes(data: bytes, source: str = "bundle") -> Bundle:
        """The inverse of ``to_bytes``.

        Raises:
            BundleError: if the bytes are damaged.
        """
        return _assemble(*_unpacked(data, source), source)

    # ------------------------------------------------------------------ directory
    def save(self, path: Path) -> Path:
        """Write the bundle as the directory ``path``, whole or not at all.

        An older bundle there is replaced; anything else there is an error.

        Raises:
            BundleError: if ``path`` is something other than a bundle, or cannot be written.
        """
        check_writable(path)
        try:
            with replacing_folder(path) as folder:
                self.write(folder)
        except OSError as error:
            raise BundleError(f"{path}: cannot write the bundle: {error.strerror or error}") from error
        return path

    def write(self, folder: Path) -> None:
        """Put the bundle's files into a folder that is not in use yet; OSError if that fails."""
        manifest, weights = self._parts()
        (folder / WEIGHTS).write_bytes(weights)
        (folder / MANIFEST).write_bytes(manifest)

    @staticmethod
    def load(path: Path) -> Bundle:
        """Read a bundle directory.

        Raises:
            BundleError: if it is missing, damaged, too large or of another format.
        """
        return _assemble(*_files(path), str(path))


_DRIFT_ARRAYS = ("latent_mean", "latent_variance", "residual_mean", "residual_variance")
_ASSET_DRIFT_ARRAYS = ("mean", "variance", "threshold")


def manifest_of(data: bytes) -> tuple[str, Manifest]:
    """The version and the manifest of a bundle's bytes, without making models of it.

    Raises:
        BundleError: the manifest cannot be read.
    """
    manifest, _ = _unpacked(data, "bundle")
    return _version(manifest), read_manifest(manifest, (FORMAT, WITH_LEVELS))


def _packed(manifest: bytes, weights: bytes) -> bytes:
    return MAGIC + struct.pack(">I", len(manifest)) + manifest + weights


def _unpacked(data: bytes, source: str) -> tuple[bytes, bytes]:
    """The inverse of ``_packed``."""
    head = len(MAGIC) + 4
    if data[: len(MAGIC)] != MAGIC or len(data) < head:
        raise BundleError(f"{source}: not a model bundle")
    (length,) = struct.unpack(">I", data[len(MAGIC) : head])
    if length > LARGEST_MANIFEST or len(data) - head > LARGEST_MANIFEST + LARGEST_WEIGHTS:
        raise BundleError(f"{source}: {len(data)} bytes, more than is allowed")
    return data[head : head + length], data[head + length :]


def _files(path: Path) -> tuple[bytes, bytes]:
    """Manifest and weights of a bundle directory."""
    folder = current(path)
    try:
        return _read(folder / MANIFEST, LARGEST_MANIFEST), _read(folder / WEIGHTS, LARGEST_WEIGHTS)
    except OSError as error:
        raise BundleError(f"{path}: no readable model bundle: {error.strerror or error}") from error


def _read(path: Path, limit: int) -> bytes:
    """The bytes of a regular file (a pipe could block) that is no larger than allowed."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise BundleError(f"{path}: is no file")
    if about.st_size > limit:
        raise BundleError(f"{path}: {about.st_size} bytes, more than the {limit} allowed")
    return path.read_bytes()


def _canonical(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _version(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()[:12]


def _number(value: float) -> float | None:
    """None for infinity, which JSON does not have."""
    return value if np.isfinite(value) else None


def _assemble(manifest_bytes: bytes, weights: bytes, source: str) -> Bundle:
    """Make a bundle from bytes, always through all the checks of ``admission``."""
    try:
        manifest = read_manifest(manifest_bytes, (FORMAT, WITH_LEVELS))
        digest = hashlib.sha256(weights).hexdigest()
        if digest != manifest.weights.sha256:
            raise BundleError(
                f"weights have SHA-256 {digest[:12]}..., the manifest says"
                f" {manifest.weights.sha256[:12]}...: they do not belong together"
            )
        bundle = _rebuild(manifest, load_tensors(weights))
        seen, rules = bundle.models.scaler.seen, bundle.models.rules
        check_golden(bundle.detector(), seen if rules is None else seen & ~rules.ignored)
        _ = bundle.concerns, bundle.habits  # raises if the facts cannot be read
    except BundleError as error:
        raise BundleError(f"{source}: {error}") from error
    except Exception as error:
        # Bytes from outside may make the libraries that read them raise any exception.
        reason = " ".join(str(error).split())[:300]
        raise BundleError(f"{source}: damaged bundle: {type(error).__name__}: {reason}") from error
    return bundle


def _rebuild(manifest: Manifest, arrays: dict[str, np.ndarray]) -> Bundle:
    def under(prefix: str) -> dict[str, np.ndarray]:
        return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}

    about, lengths, C = manifest.vae, manifest.lengths, len(manifest.sensors)
    check_arrays(manifest, arrays, about.latent if about is not None else 0)
    pcas = tuple(WindowPCA.of(under(f"pca.{length}.")) for length in lengths)
    usual = arrays.get("extras." + CONDITION_MEAN)
    means = None if usual is None else ConditionMeans(manifest.conditions, torch.from_numpy(usual))
    vae = None
    if about is not None:
        weights = under("vae.")
        vae = VAE(
            pca=pcas[-1],
            length=lengths[-1],
            channels=C,
            hidden=about.hidden,
            latent=about.latent,
            labels=about.labels,
            weights={name: torch.from_numpy(array) for name, array in weights.items()},
            kind=manifest.settings.kind,
            means=means,
        )
        check_weights(weights, vae.shapes(), vae.kind)
    reference: dict[str, Any] = under("drift.")
    about_drift = manifest.drift
    edges: dict[str, Any] = {
        name: np.inf if edge is None else edge
        for name, edge in (
            ("latent_threshold", about_drift.latent_threshold),
            ("residual_threshold", about_drift.residual_threshold),
        )
    }
    if about_drift.assets is not None:
        edges["assets"] = AssetDriftReference(
            about_drift.assets.names,
            **{name: reference[f"asset.{name}"] for name in _ASSET_DRIFT_ARRAYS},
            memory=about_drift.assets.memory,
        )
    return Bundle(
        settings=manifest.settings,
        sensors=manifest.sensors,
        period_ns=manifest.period_ns,
        conditions=manifest.conditions,
        models=Models(
            Scaler.of(under("scaler.")),
            lengths,
            pcas,
            vae,
            arrays["sigma"],
            means,
            AlertRules.stated(manifest.sensors, manifest.facts.get("alert_rules", {})),
            _levels(manifest, under("extras." + LEVELS_OF)),
        ),
        calibration=Calibration.of(under("calibration."), msgspec.to_builtins(manifest.calibration)),
        drift=DriftReference(**{name: reference[name] for name in _DRIFT_ARRAYS}, **edges),
        longest_constant=arrays["longest_constant"],
        sustained=None
        if manifest.sustained is None
        else SustainedLimits.of(under("sustained."), msgspec.to_builtins(manifest.sustained)),
        silence=None
        if manifest.silence is None
        else SilenceHabit.of(under("silence."), manifest.silence.own),
        trend=None
        if manifest.trend is None
        else TrendLimits.of(under("trend."), msgspec.to_builtins(manifest.trend)),
        facts=manifest.facts,
        extras=under("extras."),
    )


def _levels(manifest: Manifest, arrays: Mapping[str, np.ndarray]) -> AssetLevels | None:
    """The levels of the assets; None if it has none."""
    names = manifest.facts.get(LEVELLED)
    return None if names is None else AssetLevels(tuple(map(str, names)), **arrays)
