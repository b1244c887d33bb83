"""The rows that a training left: the windows of TEST reach back to them, and results do not mention them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from daemon.adapters.files import LinesSource, TableSource, read_table
from daemon.commands.carry import TrainTailSource, first_rows_of_lines
from daemon.commands.replay import ReplayOptions, replay
from daemon.config.presets import mapping_of
from daemon.domain import Format, InputPartition, Segment, StreamSpec
from daemon.runtime.stream_run import StreamPlan
from tests import contract
from tests.commands.fleet import ASSETS, LINEAR, ROWS, fleet_table

NOW_NS = 1_800_000_000 * 10**9


async def test_windows_reach_back_to_train_where_test_follows_at_once(tmp_path: Path) -> None:
    train = fleet_table(tmp_path / "train.parquet")
    touching = fleet_table(tmp_path / "next.parquet", rows=100, skip=ROWS)
    apart = fleet_table(tmp_path / "later.parquet", rows=100, skip=ROWS + 60)
    for name, test in (("touching", touching), ("apart", apart)):
        await replay(ReplayOptions(test, tmp_path / name, train=train, sets=LINEAR))
    first = {
        name: int(np.isfinite(pq.read_table(tmp_path / name / "scores.parquet")["score"].to_numpy()).argmax())
        for name in ("touching", "apart")
    }
    assert first["touching"] < ASSETS  # scored from the first row on
    assert first["apart"] >= 15 * ASSETS - 10  # after a gap the windows fill first
    # TRAIN's rows are context: no output is about them, and they are not counted.
    began = pq.read_table(touching)["timestamp"].to_numpy().min()
    filled = pq.read_table(tmp_path / "touching/imputed.parquet")["timestamp"].to_numpy()
    assert len(filled)
    assert filled.min() >= began
    summary = json.loads((tmp_path / "touching/summary.json").read_text())
    assert summary["rows"] == summary["scored"] <= 100 * ASSETS
    assert summary["records"]["read"] == pq.read_table(touching).num_rows
    for line in (tmp_path / "touching/alerts.jsonl").read_text().splitlines():
        origin = json.loads(line)["data"]["origin"]
        assert -1 <= origin["first_offset"] <= origin["last_offset"] < summary["records"]["read"]


@pytest.mark.parametrize("kind", ["table", "lines"])
async def test_the_source_with_carried_rows_passes_the_contract(tmp_path: Path, kind: str) -> None:
    spec = StreamSpec("s", ("x",))
    if kind == "table":
        path = tmp_path / "a.csv"
        path.write_text("ts,x\n" + "".join(f"{1_700_000_000 + i},{i}\n" for i in range(5)))
    else:
        path = tmp_path / "a.jsonl"
        path.write_text("".join(f'{{"asset":"a","ts":{1_700_000_000 + i}}}\n' for i in range(5)))
    before = [
        Segment("asset-0", 1_699_999_997, np.array([[1.0], [2.0], [3.0]])),
        Segment("b", 1_699_999_997, np.ones((2, 1))),
    ]

    def make() -> TrainTailSource:
        inner = TableSource(read_table(path), spec, NOW_NS) if kind == "table" else LinesSource(path, NOW_NS)
        return TrainTailSource(inner, spec, before)

    await contract.check_finite(make, {InputPartition(path.name, 0): [*range(5), *range(6, 11)]})
    assert [make().line_of(offset) for offset in (0, 4, 5, 6, 10)] == [-1, -1, -1, 0, 4]


async def test_rows_between_train_and_test_belong_to_neither(tmp_path: Path) -> None:
    train = fleet_table(tmp_path / "train.parquet")
    test = fleet_table(tmp_path / "test.parquet", rows=60, skip=ROWS + 5)
    done = await replay(ReplayOptions(test, tmp_path / "out", train=train, sets=LINEAR))
    scores = pq.read_table(tmp_path / "out/scores.parquet")
    began = scores["timestamp"].to_numpy().min()
    filled = pq.read_table(tmp_path / "out/imputed.parquet")["timestamp"].to_numpy()
    assert len(filled)
    assert filled.min() >= began
    assert done.summary["rows"] == done.summary["scored"] <= 60 * ASSETS
    assert int(np.isfinite(scores["score"].to_numpy()).argmax()) < ASSETS  # still carried on


async def test_the_first_rows_of_mapped_lines_are_found_too(tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text(
        "fan,asset=f1 a=1 7000000000\nfan,asset=f2 a=1 9000000000\nfan\nfan,asset=f1 a=1 5000000000\n"
    )
    document = {"decode": "influx", "each": "[]", "asset": "tags.asset", "time": {"from": "timestamp", "unit": "ns"}, "leaves": "fields"}  # fmt: skip
    spec = StreamSpec("fans", ("a",), format=Format.MAPPED, input=mapping_of("custom", document))
    assert await first_rows_of_lines(lines, StreamPlan(spec)) == {"f1": 5, "f2": 9}
