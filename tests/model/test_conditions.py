"""Conditions: the value of each, unknown labels, and results that stay as they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from daemon.detector import Windows
from daemon.domain import (
    NO_CONDITION,
    Floats,
    ModelSettings,
    Segment,
    StreamSpec,
)
from daemon.errors import BundleError
from daemon.model.bundle import CONDITION_MEAN, Bundle
from daemon.model.conditions import ConditionMeans, condition_concerns, fifths, learned_labels
from daemon.model.evaluation import average_precision
from daemon.model.promotion import scores_of
from daemon.model.reconstruction import Models
from daemon.model.segments import BLOCKS, Piece, sample_windows, sliding
from daemon.model.soundness import likelihood
from daemon.model.training import Architecture, fit_models, train
from tests.bench.conditions import Machine, fleet, machine
from tests.model.conftest import KINDS, QUICK, SPEC, TARGET, dropped, trained

L = 16
SENSORS = ("a", "b", "c")
FLEET = replace(SPEC, sensors=SENSORS, condition=("mode",))
LEVEL = {"low": (20.0, 3.0, 300.0), "high": (45.0, 6.0, 900.0)}


def stretch(rows: int, seed: int, mode: str) -> Floats:
    """(rows, 3) one load seen by three sensors, on the levels of the mode."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows) + 40 * seed
    load = np.sin(t / 17.0) + 0.3 * np.sin(t / 5.0)
    noise = rng.standard_normal((rows, 3))
    return np.asarray(LEVEL[mode] + load[:, None] * [5.0, 0.6, 40.0] + noise * [0.4, 0.05, 6.0])


def modes(stretches: int, rows: int = 200, seed: int = 0) -> Segment:
    """One asset that goes from mode to mode."""
    names = ["low" if i % 2 else "high" for i in range(stretches)]
    values = np.concatenate([stretch(rows, seed + i, name) for i, name in enumerate(names)])
    return Segment("p", 1_000, values, tuple(f"mode={name}" for name in names for _ in range(rows)))


def plain(segment: Segment) -> Segment:
    return Segment(segment.asset, segment.first_row, segment.values)


def fitted(segment: Segment, labels: tuple[str, ...], kind: str = "ppca") -> Models:
    whole = [Piece(0, 0, len(segment.values))]
    settings = ModelSettings(kind=kind, steps=150, hidden=(32, 16), latent=4)
    return fit_models([segment], whole, FLEET, Architecture(settings, (4, L), labels))


# ------------------------------------------------------------------ what a condition is worth
@pytest.mark.parametrize("kind", ["ppca", "mlp"])
def test_a_model_with_conditions_makes_held_out_rows_likelier(kind: str) -> None:
    history, fresh = modes(10), modes(6, seed=50)
    labels = learned_labels([history], [Piece(0, 0, len(history.values))], L)
    windows, conditions = sample_windows([fresh], [Piece(0, 0, len(fresh.values))], L, 500)
    with_it = likelihood(fitted(history, labels, kind), windows, conditions).per_cell
    without = likelihood(fitted(plain(history), (), kind), windows, conditions).per_cell
    assert with_it > without + 0.1


def test_means_are_those_of_the_conditions_windows() -> None:
    rng = np.random.default_rng(0)
    labels = ["up" if i // 100 % 2 else "down" for i in range(4_000)]
    centre = np.where(np.array(labels) == "up", 1.0, -0.5)[:, None] * np.array([1.0, 0.0] * L)
    x = (centre + 0.3 * rng.standard_normal((4_000, 2 * L))).astype(np.float32)
    observed = rng.random(x.shape) < 0.7
    x[~observed] = 99.0
    means = ConditionMeans.fit(x, observed, labels, ("down", "up"), fifths(["m"] * 4_000), L)
    found = means.mean.numpy().reshape(3, L, 2)
    np.testing.assert_allclose(
        found[0, :, 0], -0.75, atol=0.06
    )  # 2,000 of the windows, less two windows' worth
    np.testing.assert_allclose(found[1, :, 0], 0.75, atol=0.06)
    assert not found[2].any()  # unknown
    assert np.abs(found[:, :, 1]).max() < 0.06  # the label is unrelated to the second sensor
    assert means.codes(["up", "other", "down"]).tolist() == [1, 2, 0]
    np.testing.assert_array_equal(means.of(torch.tensor([1]), 8)[0], means.mean[1, -8:])


def test_labels_without_a_meaning_change_nothing() -> None:
    history = plain(modes(10))
    rng = np.random.default_rng(3)
    noise = tuple(f"mode={v}" for v in np.repeat(rng.integers(0, 4, 50), 40))
    one = fitted(history, ())
    other = fitted(replace(history, condition=noise), tuple(sorted(set(noise))))
    assert other.means is not None
    assert float(other.means.mean.abs().max()) < 0.35  # in standard deviations, where modes differ by two
    windows, conditions = sample_windows([replace(history, condition=noise)], [Piece(0, 0, 2_000)], L, 500)
    told, untold = (likelihood(m, windows, conditions).per_cell for m in (other, one))
    assert told > untold - 0.02


def test_a_drift_that_does_not_come_back_is_no_condition() -> None:
    """Each label once, in time order: their means differ, but the difference never recurs."""
    values = np.cumsum(np.random.default_rng(1).standard_normal((2_000, 3)), axis=0)
    labels = tuple(f"mode={i // 400}" for i in range(2_000))
    models = fitted(Segment("p", 0, values, labels), tuple(sorted(set(labels))))
    assert models.means is not None
    assert not models.means.mean.any()


def test_fifths_follow_each_assets_time() -> None:
    owners = ["a"] * 10 + ["b"] * 5 + ["a"] * 5
    blocks = fifths(owners)
    assert blocks[[*range(10), *range(15, 20)]].tolist() == [i // 3 for i in range(15)]
    assert blocks[10:15].tolist() == list(range(BLOCKS))


# ------------------------------------------------------------------ rare, unknown, of one block only
def test_a_label_with_less_than_two_windows_counts_as_unknown() -> None:
    history = modes(10)
    labels = list(history.condition)
    labels[700 : 700 + 2 * L - 1] = ["mode=odd"] * (2 * L - 1)
    labels[900 : 900 + 2 * L] = ["mode=wash"] * (2 * L)
    bundle = trained([replace(history, condition=tuple(labels))], QUICK, sensors=SENSORS, condition=("mode",))
    assert bundle.conditions == ("mode=high", "mode=low", "mode=wash")
    assert any("1 condition(s), such as mode=odd, had fewer rows" in line for line in bundle.concerns)
    window = np.tile(history.values[None, 300:316], (2, 1, 1))
    evidence = bundle.detector().infer(Windows(window, np.ones(2, bool), ("mode=odd", "never seen")))
    assert evidence.elbo[0] == evidence.elbo[1]
    assert evidence.condition.tolist() == [-1, -1]


@pytest.mark.parametrize("kind", ["mlp", "ppca"])
def test_a_condition_that_one_block_alone_has_does_no_harm(kind: str) -> None:
    """The models of its fold never saw the label: its rows were measured as unknown, and do not calibrate it."""
    history = modes(10)
    labels = list(history.condition)
    labels[1_250:1_350] = ["mode=once"] * 100
    settings = replace(QUICK, kind=kind)
    bundle = trained(
        [replace(history, condition=tuple(labels))], settings, sensors=SENSORS, condition=("mode",)
    )
    assert "mode=once" in bundle.conditions
    assert set(bundle.calibration.condition_levels) == {NO_CONDITION, "mode=high", "mode=low"}
    again = Bundle.from_bytes(bundle.to_bytes())
    assert again.version == bundle.version
    assert np.isfinite(again.detector().threshold)


def test_rows_of_an_unknown_condition_have_the_level_of_unknown_ones() -> None:
    """Normal rows under the unknown condition raise no alarm."""
    bundle = trained([modes(12, 300)], replace(QUICK, steps=200), sensors=SENSORS, condition=("mode",))
    assert NO_CONDITION in bundle.calibration.condition_levels
    fresh = modes(4, 300, seed=70)

    def share(labels: tuple[str, ...]) -> float:
        windows = sliding(fresh.values, L)
        detector = bundle.detector()
        evidence = detector.infer(Windows(windows, np.ones(len(windows), bool), labels[L - 1 :]))
        verdicts = detector.judge(
            evidence, detector.fresh_baseline("new")[None].copy(), np.zeros(len(windows), np.int64)
        )
        return float((verdicts.score > detector.threshold).mean())

    assert share(fresh.condition) < 0.02
    assert share(("mode=new",) * len(fresh.values)) < 0.05


# ------------------------------------------------------------------ results that stay
@pytest.mark.parametrize("kind", KINDS)
def test_a_window_under_a_condition_is_measured_alike_alone_and_in_a_crowd(kind: str) -> None:
    history = modes(6)
    models = fitted(history, ("mode=high", "mode=low"), kind)
    windows = dropped(modes(4, seed=9).values, 0.1)
    windows, labels = sliding(windows, L)[:256], (["mode=low", "mode=new", "mode=high"] * 86)[:256]
    crowd = models.measure(windows, labels, keep=True)
    for i in (0, 1, 2, 100, 255):
        alone = models.measure(windows[i : i + 1], labels[i : i + 1], keep=True)
        np.testing.assert_array_equal(alone.elbo, crowd.elbo[i : i + 1])
        np.testing.assert_array_equal(alone.decoded[0], crowd.decoded[i])
        np.testing.assert_array_equal(alone.channel_error[:, 0], crowd.channel_error[:, i])


@pytest.mark.parametrize("kind", ["mlp", "conv", "gru"])
def test_scoring_is_the_model_as_it_was_trained(kind: str) -> None:
    """``inference`` folds the matrices; ``VAE.encode`` and ``decode`` spell them out."""
    history = modes(6)
    models = fitted(history, ("mode=high", "mode=low"), kind)
    vae = models.vae
    assert vae is not None
    windows = np.ascontiguousarray(sliding(history.values, L)[:64])
    labels = ["mode=low", "mode=high"] * 32
    measured = models.measure(windows, labels, keep=True)
    x = torch.from_numpy(models.scaler.scaled(windows)).flatten(1)
    with torch.inference_mode():
        posterior = vae.encode(x, None, vae.codes(labels))
        decoded = vae.decode(posterior.mean, vae.codes(labels)).reshape(windows.shape)
    np.testing.assert_allclose(measured.posterior, posterior.mean, atol=2e-4)
    np.testing.assert_allclose(measured.decoded, decoded, atol=2e-4)


def test_a_stream_without_conditions_is_trained_as_before() -> None:
    bundle = trained([plain(modes(6))], sensors=SENSORS)
    assert bundle.models.means is None
    assert CONDITION_MEAN not in bundle.extras
    assert not {"condition", "timezone", "rare_conditions"} & bundle.facts.keys()


def conditioned() -> Bundle:
    return trained([modes(6)], sensors=SENSORS, condition=("mode",))


def test_an_old_bundle_scores_with_the_condition_in_its_path_only() -> None:
    bundle = conditioned()
    old = replace(
        bundle,
        extras={k: v for k, v in bundle.extras.items() if k != CONDITION_MEAN},
        models=replace(bundle.models, means=None, vae=replace(bundle.models.vae, means=None)),
        facts={k: v for k, v in bundle.facts.items() if "condition" not in k},
    )
    loaded = Bundle.from_bytes(old.to_bytes())
    assert loaded.models.means is None
    assert loaded.conditions == bundle.conditions
    assert loaded.concerns == tuple(c for c in bundle.concerns if "condition" not in c)
    assert loaded.detector().models.labels == bundle.conditions


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, 4), np.float32), "shape"),
        (np.full((3, 48), np.nan, np.float32), "not finite"),
        (np.zeros((3, 48), np.int64), "type"),
    ],
)
def test_damaged_means_are_refused(array: np.ndarray, reason: str) -> None:
    bundle = conditioned()
    broken = replace(bundle, extras={**bundle.extras, CONDITION_MEAN: array})
    with pytest.raises(BundleError, match=reason):
        Bundle.from_bytes(broken.to_bytes())


def test_means_without_conditions_are_refused() -> None:
    bundle = trained([plain(modes(6))], sensors=SENSORS)
    broken = replace(bundle, extras={**bundle.extras, CONDITION_MEAN: np.zeros((1, 48), np.float32)})
    with pytest.raises(BundleError, match="knows no condition"):
        Bundle.from_bytes(broken.to_bytes())


# ------------------------------------------------------------------ concerns for the operator
@pytest.mark.parametrize(
    ("labels", "fields", "said"),
    [
        (["mode=a", "mode=?"], ["mode"], []),
        (["mode=?,gear=1", "mode=?,gear=2"], ["mode", "gear"], ["condition mode never appeared"]),
        (["mode=a,$weekday=mon"], ["mode", "$weekday"], ["training held 1 of the 7 values of $weekday"]),
        ([f"mode={i}" for i in range(65)], ["mode"], ["65 conditions"]),
        ([f"mode={i}" for i in range(64)], ["mode"], []),
    ],
)
def test_concerns_of_conditions(labels: list[str], fields: list[str], said: list[str]) -> None:
    found = condition_concerns(labels, {"condition": fields})
    assert len(found) == len(said)
    for line, start in zip(found, said, strict=True):
        assert line.startswith(start)


def test_an_old_bundle_has_no_concerns_of_conditions() -> None:
    assert condition_concerns(["mode=a"], {}) == []


def test_the_fields_and_the_zone_are_facts_of_the_bundle() -> None:
    spec = StreamSpec("s", SENSORS, condition=("mode", "$hour"), timezone="Europe/Berlin")
    history = modes(4)
    labels = tuple(f"{label},$hour=08" for label in history.condition)
    bundle = trained(
        [replace(history, condition=labels)],
        sensors=SENSORS,
        condition=spec.condition,
        timezone=spec.timezone,
    )
    assert bundle.facts["condition"] == ["mode", "$hour"]
    assert bundle.facts["timezone"] == "Europe/Berlin"


# ------------------------------------------------------------------ a new asset of a known type
@pytest.fixture(scope="module")
def types() -> dict[str, Bundle]:
    """A fleet of three types, and the same without one machine: with their types, and without."""
    machines = fleet(3, 600)
    spec = StreamSpec("fleet", ("a", "b", "c", "d"), period_ns=SPEC.period_ns, condition=("type",))
    settings = replace(QUICK, kind="ppca")

    def made(history: list[Segment], spec: StreamSpec) -> Bundle:
        return train(history, spec, settings, TARGET)

    known = [m.known for m in machines]
    return {
        "all": made(known, spec),
        "others": made(known[1:], spec),
        "untyped": made([plain(s) for s in known[1:]], replace(spec, condition=())),
    }


def precision(bundle: Bundle, one: Machine, label: str) -> float:
    segment = replace(one.test, condition=(label,) * len(one.test.values) if label else ())
    scores = scores_of(bundle.detector(), segment)
    assert np.isfinite(scores[L - 1 :]).all()  # from the first whole window on
    return average_precision(one.labels[L - 1 :], scores[L - 1 :])


def test_a_new_asset_of_a_known_type_is_scored_as_if_it_were_known(types: dict[str, Bundle]) -> None:
    """One asset has a few faults: the benchmark averages over assets, here the sign is what counts."""
    one = fleet(3, 600)[0]
    knew, new = (precision(types[model], one, "type=small") for model in ("all", "others"))
    assert new > knew - 0.1
    assert new > precision(types["untyped"], one, "") + 0.05
    assert one.test.asset not in types["others"].calibration.asset_levels


def test_a_new_asset_starts_at_the_level_of_its_type(types: dict[str, Bundle]) -> None:
    """The assets of a type differ less from each other than types do: what they share is the type's."""
    calibration = types["others"].calibration
    assert {"type=small", "type=medium", "type=large"} < set(calibration.condition_levels)
    levels = np.stack([calibration.condition_levels[f"type={kind}"] for kind in ("small", "medium", "large")])
    own = np.stack(list(calibration.asset_levels.values()))
    assert np.abs(levels).mean() > 0.5 * np.abs(own).mean()


def test_normal_rows_of_a_new_asset_raise_no_alarm_under_its_type(types: dict[str, Bundle]) -> None:
    calm = machine("new-1", "large", 77, 600).known

    def share(bundle: Bundle, label: str) -> float:
        scores = scores_of(bundle.detector(), replace(calm, condition=(label,) * 600))
        return float((scores > bundle.calibration.threshold).mean())

    assert share(types["others"], "type=large") < 0.03
    assert share(types["others"], "type=small") > 0.5  # another type's rows are none of its own
