"""Settings from a sample, and options that name columns which do not exist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daemon.commands.derive import check_excluded, document_of, plan_for_file
from daemon.commands.impute import ImputeOptions, impute_file
from daemon.commands.inputs import FileOptions
from daemon.commands.replay import ReplayOptions, replay
from daemon.commands.train import TrainOptions, train_files
from daemon.config import load
from daemon.domain import StreamSpec
from daemon.errors import UsageError
from daemon.mapping import SensorRule
from daemon.model.bundle import Bundle
from tests.commands.fleet import LINEAR, fleet_table


async def test_an_excluded_column_must_exist(tmp_path: Path, bundle: Path) -> None:
    train = fleet_table(tmp_path / "train.parquet", rows=20)
    test = tmp_path / "test.parquet"
    table = pq.read_table(train)
    pq.write_table(table.append_column("label", pa.array([0] * len(table))), test)
    with pytest.raises(UsageError, match=r"--exclude lable: .* no such column; did you mean 'label'\?"):
        await replay(ReplayOptions(test, tmp_path / "out", model=bundle, exclude=["lable"]))
    with pytest.raises(UsageError, match="--exclude zzz"):
        await impute_file(ImputeOptions(test, tmp_path / "out.parquet", exclude=["zzz"]))
    with pytest.raises(UsageError, match="--exclude label"):
        await train_files(TrainOptions([train], tmp_path / "model", exclude=["label"]))
    check_excluded(["label"], [train, test])  # it need not be in both


def test_a_derived_configuration_has_no_more_latents_than_sensors(monkeypatch: pytest.MonkeyPatch) -> None:
    def latent(sensors: int, *sets: str) -> int:
        spec = StreamSpec("s", tuple(f"s{i}" for i in range(sensors)))
        return load(None, sets, document_of(spec)).model.latent

    assert [latent(n) for n in (1, 2, 3, 7, 8, 50)] == [2, 2, 3, 7, 8, 8]
    assert latent(3, "model.kind=ppca") == 3
    assert latent(3, "model.latent=5") == 5
    monkeypatch.setenv("ANOMALYD_MODEL__LATENT", "4")
    assert latent(3) == 4


def metered(path: Path, rows: int, first: int = 0) -> Path:
    """A table with a meter and a level that has -999.9 for no value now and then; few rows show neither."""
    row = np.arange(first, first + rows)
    level = np.where(row % 40 == 9, -999.9, 5 + np.sin(row / 9))
    table = {"ts": 1_750_000_000 + row, "energy_kwh": 0.5 * row + np.sin(row / 5) / 4, "level": level}
    pq.write_table(pa.table(table), path)
    return path


async def test_the_rules_of_a_bundle_count_and_not_what_the_judged_file_suggests(tmp_path: Path) -> None:
    train = metered(tmp_path / "train.parquet", 600)
    await train_files(TrainOptions([train], tmp_path / "model", sets=LINEAR))
    bundle = Bundle.load(tmp_path / "model")
    for file in (metered(tmp_path / "short.parquet", 12, 600), metered(tmp_path / "long.parquet", 300, 600)):
        plan, notes = plan_for_file(FileOptions(), file, bundle)
        rules = dict(zip(plan.spec.sensors, plan.spec.rules, strict=True))
        assert rules["energy_kwh"] == SensorRule(counter=True)
        assert rules["level"] == SensorRule(missing=frozenset({-999.9}))
        assert not [note for note in notes if "sensor" in note]
