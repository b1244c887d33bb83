"""The manifest of a bundle: its fields, types and limits, and how it is read from bytes."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from daemon.calendar import check_fields
from daemon.domain import ModelSettings
from daemon.errors import BundleError
from daemon.model.admission.origin import Origin

Name = Annotated[str, Meta(min_length=1, max_length=1_000)]
Asset = Annotated[str, Meta(max_length=10_000)]
Label = Annotated[str, Meta(max_length=10_000)]
Whole = Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
Number = Annotated[float, Meta(ge=0.0)]  # JSON has no NaN and no infinity
Replayed = Annotated[int, Meta(ge=1, le=2)]
Width = Annotated[int, Meta(ge=1, le=65_536)]


class PathShape(msgspec.Struct, frozen=True):
    """The nonlinear path of a VAE."""

    hidden: Annotated[tuple[Width, ...], Meta(min_length=1, max_length=32)]
    latent: Width
    labels: Annotated[tuple[Label, ...], Meta(max_length=10_000)]


class OwnLevels(msgspec.Struct, frozen=True):
    """The assets and conditions that have levels of their own, in the order of the arrays' rows."""

    assets: tuple[Asset, ...]
    conditions: tuple[Label, ...]


class BudgetFact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See ``domain.Budget``."""

    episodes_per_day: Annotated[float, Meta(gt=0.0)]
    per_stream: bool


class ScoreSearchFacts(msgspec.Struct, frozen=True):
    """What thresholds are found from; see ``thresholds.ScoreSearch.facts``. ``usual``: None is infinite."""

    budget: BudgetFact
    usual: Number | None
    hysteresis: Annotated[float, Meta(gt=0.0, le=1.0)]
    jump_share: Annotated[float, Meta(gt=0.0, lt=1.0)]
    replays: Replayed


class LimitSearchFacts(msgspec.Struct, frozen=True):
    """The same for deviations; see ``sustained.LimitSearch.facts``."""

    budget: BudgetFact
    usual: Number | None
    days: Number
    assets: Annotated[int, Meta(ge=0, le=1 << 53)]
    replays: Replayed


class CalibrationFacts(msgspec.Struct, frozen=True):
    """The calibration's part of the manifest; see ``Calibration.facts``."""

    threshold: Annotated[float, Meta(gt=0.0)]
    closing: Number
    provisional: bool
    baseline_step: Number
    asset_days: Number
    assets: Annotated[int, Meta(ge=0, le=1 << 53)]
    carried: tuple[tuple[Asset, Whole], ...]
    own_levels: OwnLevels
    search: ScoreSearchFacts | None  # None: the thresholds are of one budget


class SustainedFacts(msgspec.Struct, frozen=True):
    """The part of the limits of deviations; see ``SustainedLimits.facts``."""

    weight: Annotated[float, Meta(gt=0.0, le=1.0)]
    step: Number
    provisional: bool
    carried: tuple[Asset, ...]
    search: LimitSearchFacts | None


class SilenceFacts(msgspec.Struct, frozen=True):
    """Whose the own habits of silence are, see ``daemon.habit``: an asset and a place each."""

    own: tuple[tuple[Asset, Annotated[int, Meta(ge=0, le=10_000)]], ...]


class AssetDriftFacts(msgspec.Struct, frozen=True):
    """Whose own drift is measured, see ``daemon.asset_drift``."""

    names: Annotated[tuple[Asset, ...], Meta(max_length=1_000)]
    memory: Annotated[float, Meta(ge=0.0, lt=1.0)]


class DriftThresholds(msgspec.Struct, frozen=True):
    """None is no limit; of ``assets``, that the drift of single ones is not measured."""

    latent_threshold: Number | None
    residual_threshold: Number | None
    assets: AssetDriftFacts | None


class TrendFacts(msgspec.Struct, frozen=True):
    """See ``trend.TrendLimits.facts``."""

    limit: Annotated[float, Meta(gt=0.0)]


class WeightsFact(msgspec.Struct, frozen=True):
    """The hash of the weights that belong to a manifest."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


Levels = Annotated[dict[Asset, tuple[float | None, ...]], Meta(max_length=100_000)]


Changes = Annotated[tuple[tuple[Number | None, ...], ...], Meta(min_length=3, max_length=3)]


class RoughnessFacts(msgspec.Struct, frozen=True):
    """See ``anchor.roughness``."""

    all: Changes
    assets: Annotated[dict[Asset, Changes], Meta(max_length=100_000)]

    @property
    def widths(self) -> set[int]:
        """Of how many sensors its entries are."""
        return {len(of) for entry in (self.all, *self.assets.values()) for of in entry}


class Standing(msgspec.Struct, frozen=True):
    """Of one asset; see ``apart.standing``."""

    since_ns: Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
    mean: tuple[float | None, ...]
    spread: tuple[Number | None, ...]


class ApartFacts(msgspec.Struct, frozen=True):
    """See ``apart.standing`` and ``apart.anchored_apart``."""

    assets: Annotated[dict[Asset, Standing], Meta(max_length=100_000)]
    weights: Annotated[tuple[tuple[tuple[float, ...], ...], ...], Meta(min_length=2, max_length=2)]
    errors: Annotated[tuple[tuple[Number, ...], ...], Meta(min_length=3, max_length=3)]

    @property
    def widths(self) -> set[int]:
        """Of how many sensors its entries are."""
        known = {len(of) for one in self.assets.values() for of in (one.mean, one.spread)}
        rows = [row for weights in self.weights for row in (weights, *weights)]
        return {*known, *map(len, (*rows, *self.errors))}


class RecallFacts(msgspec.Struct, frozen=True):
    """See ``promotion.recall_anchored``."""

    share: Annotated[float, Meta(ge=0.0, le=1.0)]
    faults: Annotated[int, Meta(ge=1, le=1 << 53)]


class Anchor(msgspec.Struct, frozen=True):
    """``facts["anchor"]``, which every successor is compared with; see ``anchor``."""

    version: str
    mean: tuple[float, ...]
    scale: tuple[Annotated[float, Meta(gt=0.0)], ...]
    seen: tuple[bool, ...]
    weights: tuple[tuple[float, ...], ...] | None = None
    assets: Levels = {}
    own_scale: tuple[Annotated[float, Meta(gt=0.0)], ...] | None = None
    roughness: RoughnessFacts | None = None
    recall: RecallFacts | None = None
    apart: ApartFacts | None = None

    @property
    def widths(self) -> set[int]:
        """Of how many sensors its entries are: one number if it is of a piece."""
        rows = () if self.weights is None else (*self.weights, self.weights)
        own = () if self.own_scale is None else (self.own_scale,)
        rough = set() if self.roughness is None else self.roughness.widths
        apart = set() if self.apart is None else self.apart.widths
        return {
            *map(len, (self.mean, self.scale, self.seen, *own, *rows, *self.assets.values())),
            *rough,
            *apart,
        }


class LevelFacts(msgspec.Struct, frozen=True):
    """The entries of ``facts`` about assets, which are optional: their means and roughness, see ``anchor``, where they are
    beside each other, see ``apart``, and which have levels, see ``levels.AssetLevels``."""

    levels: Levels = {}
    roughness: RoughnessFacts | None = None
    apart: ApartFacts | None = None
    levelled: Annotated[tuple[Asset, ...], Meta(min_length=2, max_length=100_000)] | None = None

    @property
    def widths(self) -> set[int]:
        """Of how many sensors its entries are; empty if there are none."""
        rough = set() if self.roughness is None else self.roughness.widths
        apart = set() if self.apart is None else self.apart.widths
        return {*map(len, self.levels.values()), *rough, *apart}


class ConditionFacts(msgspec.Struct, frozen=True):
    """The entries of ``facts`` about conditions, all optional; see ``conditions.condition_facts``."""

    condition: Annotated[tuple[Label, ...], Meta(max_length=1_000)] = ()
    timezone: str | None = None
    rare_conditions: Annotated[int, Meta(ge=0)] = 0
    rare_condition: Label = ""


class AlertRuleFact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a sensor may raise no alert; see ``mapping.AlertRule.facts``."""

    direction: Literal["above", "below"] | None = None
    min_deviation: Number | Annotated[str, Meta(pattern=r"^[0-9.]{1,30}(e(\+[0-9]{2}|-[0-9]{1,3}))?%$")] = 0.0
    ignore: bool = False


class RuleFacts(msgspec.Struct, frozen=True):
    """The entries of ``facts`` about what thresholds were found with."""

    alert_rules: dict[Name, AlertRuleFact] = {}
    hop: Width = 1


class GoldenFact(msgspec.Struct, frozen=True):
    """One golden incident; see ``golden_incidents.GoldenIncident``. Conditions are labels, each with a number of rows."""

    fingerprint: Annotated[str, Meta(max_length=1_000)]
    asset: Asset
    first_row: Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
    onset: Annotated[int, Meta(ge=0, le=1 << 20)]
    rows: Annotated[int, Meta(ge=1, le=1 << 20)]
    condition: Annotated[
        tuple[tuple[Label, Annotated[int, Meta(ge=1, le=1 << 20)]], ...], Meta(max_length=10_000)
    ]

    def __post_init__(self) -> None:
        if self.condition and sum(n for _, n in self.condition) != self.rows:
            raise ValueError(f"golden incident {self.fingerprint}: not every row has its condition")


class GoldenFacts(msgspec.Struct, frozen=True):
    """The entry of ``facts`` about golden incidents, which is optional."""

    golden: Annotated[tuple[GoldenFact, ...], Meta(max_length=100)] = ()


class Manifest(msgspec.Struct, frozen=True):
    """The manifest of a bundle: the fields that a bundle is rebuilt from."""

    format: int
    settings: ModelSettings
    sensors: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=10_000)]
    period_ns: Annotated[int, Meta(ge=1, le=1 << 62)]
    conditions: Annotated[tuple[Label, ...], Meta(max_length=10_000)]
    window: Width
    lengths: Annotated[tuple[Width, ...], Meta(min_length=1, max_length=16)]
    vae: PathShape | None
    calibration: CalibrationFacts
    sustained: SustainedFacts | None  # None: deviations are not looked for
    silence: SilenceFacts | None  # None: no silence is usual
    trend: TrendFacts | None  # None: slow trends are not looked for
    drift: DriftThresholds
    facts: dict[str, Any]
    weights: WeightsFact


class _Format(msgspec.Struct, frozen=True):
    format: int


def read_manifest(data: bytes, known: Collection[int]) -> Manifest:
    """The manifest in these bytes.

    Raises:
        BundleError: it is no JSON, of another format, or has a field of another type or beyond a limit.
    """
    try:
        found = msgspec.json.decode(data, type=_Format).format
        if found not in known:
            raise BundleError(f"bundle format {found}, this version reads {' and '.join(map(str, known))}")
        manifest = msgspec.json.decode(data, type=Manifest)
        check_fields(msgspec.convert(manifest.facts, ConditionFacts).condition)
        Origin.of(manifest.facts)
        msgspec.convert(manifest.facts, GoldenFacts)
        for rule in msgspec.convert(manifest.facts, RuleFacts).alert_rules.values():
            if isinstance(rule.min_deviation, str) and not math.isfinite(float(rule.min_deviation[:-1])):
                raise BundleError(f"damaged bundle: min_deviation of {rule.min_deviation}")
        if "anchor" in manifest.facts:
            anchor = msgspec.convert(manifest.facts["anchor"], Anchor)
            if anchor.widths != {len(manifest.sensors)}:
                raise BundleError("damaged bundle: its anchor is of other sensors")
        if not msgspec.convert(manifest.facts, LevelFacts).widths <= {len(manifest.sensors)}:
            raise BundleError("damaged bundle: its assets' means, roughness or places are of other sensors")
    except RecursionError as error:
        raise BundleError("damaged bundle: its manifest is nested too deeply") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise BundleError(f"damaged bundle: manifest: {error}") from error
    if manifest.calibration.closing > manifest.calibration.threshold:
        raise BundleError("damaged bundle: episodes would close above the threshold that opens them")
    lengths = manifest.lengths
    if manifest.window != lengths[-1] or sorted(set(lengths)) != list(lengths):
        raise BundleError(f"damaged bundle: a window of {manifest.window}, with lengths {list(lengths)}")
    for what, names in (("sensor", manifest.sensors), ("condition", manifest.conditions)):
        if len(set(names)) != len(names):
            raise BundleError(f"damaged bundle: a {what} appears twice")
    own = () if manifest.silence is None else manifest.silence.own
    if len(set(own)) != len(own) or any(place > len(manifest.sensors) for _, place in own):
        raise BundleError("damaged bundle: a habit of silence appears twice, or is of no sensor")
    return manifest
