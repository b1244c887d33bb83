"""The Parquet results of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from daemon.adapters.files import NO_TIME, ImputedCells, ImputedFile, JsonLines, ScoreColumns, write_scores
from daemon.domain import FilledCell, FilledRow
from tests.adapters.files.tables import NAN, START


def test_scores_have_exactly_the_published_columns(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    numbers = np.array([1.0, NAN])
    columns = ScoreColumns(
        asset=["a", None],
        time_ns=np.array([START + 1, NO_TIME]),
        score=numbers,
        reconstruction=numbers,
        kl=numbers,
        point=numbers,
        elbo=numbers,
        alarm=np.array([True, False]),
        model=["m", ""],
    )
    write_scores(path, columns)
    table = pq.read_table(path)
    assert table.column_names == [
        "asset",
        "timestamp",
        "score",
        "reconstruction",
        "kl",
        "point",
        "elbo",
        "alarm",
        "model",
    ]
    assert table.schema.field("timestamp").type == pa.timestamp("ns", "UTC")
    assert table.schema.field("alarm").type == pa.bool_()
    assert table["timestamp"].cast(pa.int64()).to_pylist() == [START + 1, None]
    assert str(table["score"].to_pylist()) == "[1.0, nan]"


def test_imputed_cells(tmp_path: Path) -> None:
    path = tmp_path / "imputed.parquet"
    rows = [
        FilledRow("s", "a", START, {"x": FilledCell(1, 0, 2), "y": FilledCell(3, 2, 4)}, "mlp", "m1"),
        FilledRow("s", "b", START + 1, {"x": FilledCell(5, 4, 6)}, "mlp", "m1"),
    ]
    with ImputedFile(path) as file:
        for row in rows:
            file.add(row)
    assert file.cells == 3
    table = pq.read_table(path)
    assert table.column_names == ["asset", "timestamp", "sensor", "value", "low", "high", "method", "model"]
    assert table["sensor"].to_pylist() == ["x", "y", "x"]
    assert table["timestamp"].cast(pa.int64()).to_pylist() == [START, START, START + 1]
    with ImputedFile(path) as file:
        file.add(rows[1])
        cells = ImputedCells(
            asset=["c"],
            time_ns=np.array([START]),
            sensor=["y"],
            value=np.array([1.0]),
            low=np.array([0.5]),
            high=np.array([1.5]),
            method=["batch"],
            model=["m2"],
        )
        file.add_cells(cells)
    assert file.cells == 2
    assert pq.read_table(path)["asset"].to_pylist() == ["b", "c"]


def test_empty_files_have_their_columns(tmp_path: Path) -> None:
    with ImputedFile(tmp_path / "i.parquet"):
        pass
    none = np.empty(0)
    columns = ScoreColumns(
        asset=[],
        time_ns=np.empty(0, np.int64),
        score=none,
        reconstruction=none,
        kl=none,
        point=none,
        elbo=none,
        alarm=np.empty(0, bool),
        model=[],
    )
    write_scores(tmp_path / "s.parquet", columns)
    for name, types in (("i", 8), ("s", 9)):
        table = pq.read_table(tmp_path / f"{name}.parquet")
        assert (table.num_rows, table.num_columns) == (0, types)
        assert table.schema.field("timestamp").type == pa.timestamp("ns", "UTC")
    with JsonLines(tmp_path / "a.jsonl"):
        pass
    assert (tmp_path / "a.jsonl").read_bytes() == b""
