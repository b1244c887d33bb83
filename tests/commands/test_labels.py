"""``replay --label``: labels are compared with, and never used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from daemon.commands.replay import ReplayOptions, replay
from tests.commands.fleet import LINEAR, ROWS, fleet_table


async def test_labels_are_compared_with_and_never_used(tmp_path: Path, bundle: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=200, skip=ROWS, shake=4.0)
    table = pq.read_table(test)
    label = (np.arange(len(table)) >= len(table) * 9 // 10).astype(np.int64)
    pq.write_table(table.append_column("label", pa.array(label)), tmp_path / "labelled.parquet")
    train = fleet_table(tmp_path / "train.parquet")
    done = await replay(
        ReplayOptions(
            tmp_path / "labelled.parquet", tmp_path / "out", train=train, sets=LINEAR, label="label"
        )
    )
    plain = await replay(ReplayOptions(test, tmp_path / "plain", train=train, sets=LINEAR))
    assert {f.name for f in done.figures} >= {"anomalyd", "pPCA", "random", "all-ones", "time-only"}
    assert done.summary["scored"] == plain.summary["scored"]
    a, b = (pq.read_table(tmp_path / x / "scores.parquet")["score"] for x in ("out", "plain"))
    assert np.array_equal(a.to_numpy(), b.to_numpy(), equal_nan=True)
