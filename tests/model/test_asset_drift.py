"""Normal assets are within their thresholds, by day and by night, however many they are; one that has moved is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from daemon.asset_drift import AssetDriftReference
from daemon.detector import DriftReference
from daemon.domain import SECOND_NS, AlarmPolicy, Floats, InputPartition, StreamSpec
from daemon.model.asset_drift import MOST_ASSETS, asset_drift_concerns, asset_drift_reference
from daemon.model.crossfit import HeldOutPiece
from daemon.model.reconstruction import Measured
from daemon.stream.alerts import Episodes
from daemon.stream.asset_drift import AssetDrifts
from daemon.stream.assets import AssetTable
from daemon.stream.summands import Summands
from tests.fakes import CentreDetector

PERIOD_NS = 60 * SECOND_NS
HOUR, DAY = 60, 1440
Z, C = 2, 2


def machines(count: int, days: int, seed: int) -> tuple[Floats, Floats]:
    """Latents (N, T, Z) with a daily cycle, levels of their own and wandering loads, and residuals (N, T, C)."""
    rng = np.random.default_rng(seed)
    rows, levels = days * DAY, np.random.default_rng(1).normal(0.0, 1.0, (count, 1, Z))
    fading = np.exp(-1 / (3 * HOUR))
    wander, now = np.empty((rows, count, Z)), rng.normal(0.0, 0.3, (count, Z))
    steps = rng.normal(0.0, 0.3 * np.sqrt(1 - fading**2), (rows, count, Z))
    for t in range(rows):
        now = fading * now + steps[t]
        wander[t] = now
    cycle = np.sin(2 * np.pi * np.arange(rows) / DAY)[:, None] * [1.0, 0.2]
    return levels + cycle + wander.transpose(1, 0, 2), rng.normal(0.0, 1.0, (count, rows, C))


def measured(latents: Floats, residual: Floats) -> Measured:
    rows = len(latents)
    cells, none = np.zeros((rows, C)), np.zeros((0, 1, C), np.float32)
    return Measured(
        np.zeros((1, rows, C)),
        np.zeros((1, rows, 2)),
        residual,
        latents,
        cells,
        cells,
        latents,
        np.zeros(rows),
        np.ones(rows, bool),
        none,
        none,
    )


def learned(latents: Floats, residual: Floats, spans: Sequence[tuple[int, int]] = ()) -> AssetDriftReference:
    """The reference of these rows, or of those (first, stop) of them, cut in five blocks."""
    held, deployed = [], []
    kept = list(spans) or [(0, latents.shape[1])]
    rows = np.concatenate([np.arange(*span) for span in kept])
    for i, (z, r) in enumerate(zip(latents, residual, strict=True)):
        name = f"m{i}"
        for first, stop in kept:
            some = slice(first, stop)
            deployed.append(
                HeldOutPiece(0, name, first, stop, [""] * (stop - first), measured(z[some], r[some]))
            )
        for block, part in enumerate(np.array_split(rows, 5)):
            for first, stop in kept:
                some = slice(max(first, int(part[0])), min(stop, int(part[-1]) + 1))
                if some.start < some.stop:
                    count = some.stop - some.start
                    # Each fold has latents of its own, and as many as it needs.
                    mine = replace(measured(z[some], r[some]), posterior=np.zeros((count, Z - 1)))
                    held.append(HeldOutPiece(block, name, some.start, some.stop, [""] * count, mine))
    return asset_drift_reference(held, deployed, np.ones(C), HOUR, PERIOD_NS)


def drifting(
    reference: AssetDriftReference,
    latents: Floats,
    residual: Floats,
    prefix: str = "m",
    *,
    model_a_day: bool = False,
) -> list[str]:
    """Of which assets an interval is beyond, each as often as one is."""
    found: list[str] = []
    followed(reference, latents, residual, prefix, found, model_a_day=model_a_day)
    return found


def followed(
    reference: AssetDriftReference,
    latents: Floats,
    residual: Floats,
    prefix: str = "m",
    found: list[str] | None = None,
    *,
    model_a_day: bool = False,
) -> AssetDrifts:
    """The drift of assets after these rows; to ``found`` the name of an asset is added for each interval beyond."""
    sensors = ("a", "b")
    spec = StreamSpec("s", sensors, period_ns=PERIOD_NS)
    assets = AssetTable(1_000)
    episodes = Episodes(spec, InputPartition("t", 0), AlarmPolicy())
    made = AssetDrifts(spec, HOUR * PERIOD_NS, assets, episodes)
    detector = CentreDetector(sensors, asset_drift=reference)
    two = TwoLatents(**{name: getattr(detector, name) for name in detector.__dataclass_fields__})
    made.use(two)
    count, rows = latents.shape[:2]
    slots = np.array([assets.add(f"{prefix}{i}") for i in range(count)])
    for t in range(0, rows, DAY):
        if model_a_day:
            made.use(two)
        z, r = (
            part[:, t : t + DAY].transpose(1, 0, 2).reshape(-1, part.shape[2]) for part in (latents, residual)
        )
        times = np.repeat(np.arange(t, t + DAY) * PERIOD_NS, count)
        none = np.zeros(len(z), bool)
        made.add(
            Summands(
                np.arange(len(z)), np.tile(slots, DAY), times, z, r, np.ones(len(z)), z + r, z, none, none
            ),
            silent=False,
        )
        if found is not None:
            found += [one.asset for one in made.found]
        made.found.clear()
    return made


class TwoLatents(CentreDetector):
    """As many as these machines have."""

    @property
    def drift(self) -> DriftReference:
        return replace(super().drift, latent_mean=np.zeros(Z), latent_variance=np.ones(Z))


@pytest.mark.parametrize("count", [2, 25])
def test_normal_assets_are_within_their_thresholds(count: int) -> None:
    reference = learned(*machines(count, 10, 2))
    assert reference.names == tuple(sorted(f"m{i}" for i in range(count)))
    assert np.isfinite(reference.threshold).all()
    found = [name for seed in (3, 4) for name in drifting(reference, *machines(count, 14, seed))]
    assert len(found) <= 0.001 * 2 * 14 * 24


def test_an_asset_that_has_moved_by_less_than_the_fleet_lies_apart_is_found_alone() -> None:
    reference = learned(*machines(25, 10, 2))
    latents, residual = machines(25, 5, 3)
    latents[7, DAY:, 1] += 1.0
    found = drifting(reference, latents, residual)
    assert set(found) == {"m7"}
    assert len(found) > 24
    residual[9, DAY:, 0] += 1.0
    assert set(drifting(reference, latents, residual)) == {"m7", "m9"}


def test_where_models_change_daily_an_asset_is_judged_from_its_first_hours_on() -> None:
    reference = learned(*machines(5, 10, 2))
    assert (np.diff(reference.threshold, axis=0) <= 0.0).all()  # of young sums they are higher
    assert (reference.threshold[0] > 3.0 * reference.threshold[-1]).any(1).all()
    normal = machines(5, 14, 3)
    assert drifting(reference, *normal, model_a_day=True) == []
    latents, residual = machines(5, 2, 4)
    latents[3, :, 1] += 5.0
    found = drifting(reference, latents, residual, model_a_day=True)
    assert set(found) == {"m3"}
    assert len(found) > 2 * 20  # of each day nearly all hours


def test_an_asset_that_did_not_train_is_compared_with_all() -> None:
    latents, residual = machines(25, 10, 2)
    reference = learned(latents[:20], residual[:20])
    others = latents[20:, : 5 * DAY], residual[20:, : 5 * DAY]
    assert drifting(reference, *others, prefix="new") == []
    others[0][3, :, 1] += 8.0
    assert set(drifting(reference, *others, prefix="new")) == {"new3"}


def test_one_asset_says_nothing_of_others() -> None:
    reference = learned(*machines(1, 10, 2))
    assert np.isfinite(reference.threshold[:, 0]).all()
    assert np.isinf(reference.threshold[:, 1]).all()


def test_a_training_of_few_days_judges_intervals_one_by_one() -> None:
    assert learned(*machines(2, 3, 2)).memory == 0.0
    assert learned(*machines(2, 6, 2)).memory == pytest.approx(np.exp(-1 / 24))


def test_few_rows_are_judged_one_by_one_however_long_ago_they_are() -> None:
    latents, residual = machines(3, 40, 2)
    hours = np.sort(np.random.default_rng(5).choice(35 * 24, 17, replace=False)) * HOUR
    scattered = [(int(hour), int(hour) + HOUR) for hour in hours]
    reference = learned(latents, residual, [*scattered, (39 * DAY, 39 * DAY + 1000)])
    assert reference.memory == 0.0
    assert reference.names == ("m0", "m1", "m2")
    assert np.isfinite(reference.threshold).all()
    assert asset_drift_concerns(reference, 3) == []


def test_it_is_said_of_how_many_assets_drift_is_not_judged() -> None:
    latents, residual = machines(3, 5, 2)
    nothing = learned(latents, residual, [(0, 70)])
    assert np.isinf(nothing.threshold).all()
    latents[1] += 50.0
    drifts = followed(nothing, latents, residual)
    assert drifts.at_end_of(5 * 24 - 1).judged == 0
    assert asset_drift_concerns(nothing, 3) == [
        "drift is not judged of 3 of 3 assets: too few intervals (drift.interval) have rows enough to tell what is"
        " usual of them"
    ]
    alone = learned(latents[:1], residual[:1])
    assert asset_drift_concerns(alone, 1) == asset_drift_concerns(None, 1) == []
    assert len(asset_drift_concerns(alone, 2)) == 1


def test_so_many_assets_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.model.asset_drift.MOST_ASSETS", 3)
    assert len(learned(*machines(5, 6, 2)).names) == 3 < MOST_ASSETS
