"""``train`` on files: its notes, and which rows of a history count."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from daemon.commands.replay import ReplayOptions, replay
from daemon.commands.train import TrainOptions, train_files
from daemon.domain import Segment
from daemon.runtime.segmenting import newest_rows
from tests.commands.fleet import fleet_table


async def test_concerns_about_a_model_are_in_notes_and_summary(tmp_path: Path) -> None:
    history = fleet_table(tmp_path / "train.parquet", rows=120)
    sets = ["model.steps=60", "model.beta=3000", "streams.0.window=4"]
    bundle, notes = await train_files(TrainOptions([history], tmp_path / "model", sets=sets))
    assert bundle.concerns
    assert set(bundle.concerns) <= set(notes)
    test = fleet_table(tmp_path / "test.parquet", rows=40, skip=120)
    done = await replay(ReplayOptions(test, tmp_path / "out", model=tmp_path / "model"))
    assert done.summary["model"]["concerns"] == list(bundle.concerns)
    assert done.summary["model"]["likelihood"] < done.summary["model"]["likelihood_ppca"]
    assert any(bundle.concerns[0] in note for note in done.notes)


def test_the_newest_rows_of_all_assets_are_kept() -> None:
    def cut(wanted: int) -> list[tuple[str, int, int]]:
        history = [
            Segment("a", 0, np.zeros((10, 1)), ("x",) * 10),
            Segment("b", 5, np.zeros((10, 1))),
            Segment("c", 0, np.zeros((2, 1))),
        ]
        return [(s.asset, s.first_row, len(s.values)) for s in newest_rows(history, wanted)]

    assert cut(22) == [("a", 0, 10), ("b", 5, 10), ("c", 0, 2)]
    assert cut(15) == [("a", 5, 5), ("b", 5, 10)]
    assert cut(6) == [("b", 10, 5)]  # half of row 9 would be one asset's
    assert newest_rows([Segment("a", 0, np.zeros((3, 1)), ("x", "y", "z"))], 1)[0].condition == ("z",)
    assert newest_rows([], 5) == []
