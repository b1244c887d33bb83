"""What several tests of the commands need."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from daemon.commands.train import TrainOptions, train_files
from tests.commands.fleet import LINEAR, fleet_table


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear model of the fleet."""
    folder = tmp_path_factory.mktemp("bundle")
    asyncio.run(
        train_files(TrainOptions([fleet_table(folder / "train.parquet")], folder / "model", sets=LINEAR))
    )
    return folder / "model"
