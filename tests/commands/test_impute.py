"""``impute`` over small tables: every gap is filled, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from daemon.adapters.files import TableReading
from daemon.adapters.simulator import SENSORS
from daemon.commands.impute import ImputeOptions, impute_file
from daemon.commands.train import TrainOptions, train_files
from daemon.errors import BundleError, UsageError
from daemon.model.bundle import Bundle
from tests.commands.fleet import LINEAR, ROWS, fleet_table


async def test_draws_are_a_file_of_their_own_and_leave_the_table_as_it_is(tmp_path: Path) -> None:
    train = fleet_table(tmp_path / "train.parquet")
    test = fleet_table(tmp_path / "test.parquet", rows=200, skip=ROWS)
    plain = await impute_file(ImputeOptions(test, tmp_path / "plain.parquet", train=train))
    shares: list[float] = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        done = await impute_file(
            ImputeOptions(test, tmp_path / f"{name}.parquet", train=train, draws=7, seed=seed),
            progress=lambda share, doing: shares.append(share),
        )
        assert done.draws_file == str(tmp_path / f"{name}.parquet.draws.parquet")
        assert (tmp_path / f"{name}.parquet").read_bytes() == (tmp_path / "plain.parquet").read_bytes()
    assert plain.draws_file is None
    assert not (tmp_path / "plain.parquet.draws.parquet").exists()
    assert shares[-1] == 1.0
    a, b, c = ((tmp_path / f"{name}.parquet.draws.parquet").read_bytes() for name in "abc")
    assert a == b != c
    draws = pq.read_table(tmp_path / "a.parquet.draws.parquet")
    filled = pq.read_table(tmp_path / "a.parquet.filled.parquet")
    assert draws.column_names == ["asset", "timestamp", "sensor", "draw", "value"]
    assert draws.num_rows == 7 * filled.num_rows == 7 * plain.cells
    assert sorted(set(draws["draw"].to_pylist())) == list(range(7))

    def cells(table: pa.Table) -> set[tuple[str, Any, str]]:
        return set(zip(*(table[n].to_pylist() for n in ("asset", "timestamp", "sensor")), strict=True))

    assert cells(draws) == cells(filled)
    for low, value, high in zip(*(filled[n].to_pylist() for n in ("low", "value", "high")), strict=True):
        assert low <= value <= high
    before = pq.read_table(tmp_path / "plain.parquet.filled.parquet")
    assert before["value"].equals(filled["value"])


async def test_the_draws_of_a_cell_are_written_for_each_of_its_lines(tmp_path: Path) -> None:
    times = [f"2026-01-01T00:{i // 60:02}:{i % 60:02}Z" for i in range(200)]
    g = np.random.default_rng(0)
    a, b = np.cumsum(g.standard_normal((2, 200)), axis=1)
    a[50:60] = np.nan
    table = pa.table({"ts": times, "a": a, "b": b})
    twice = pa.concat_tables([table, table.slice(50, 3)])
    pq.write_table(twice, tmp_path / "t.parquet")
    done = await impute_file(ImputeOptions(tmp_path / "t.parquet", tmp_path / "o.parquet", draws=3))
    draws = pq.read_table(tmp_path / "o.parquet.draws.parquet")
    assert done.cells == 13
    assert draws.num_rows == 39
    first = [
        v
        for t, v in zip(draws["timestamp"].to_pylist(), draws["value"].to_pylist(), strict=True)
        if t.second == 50
    ]
    assert first[:3] == first[3:]


async def test_draws_from_a_bundle(tmp_path: Path, bundle: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=100, skip=ROWS)
    done = await impute_file(ImputeOptions(test, tmp_path / "o.parquet", model=bundle, draws=5))
    assert pq.read_table(tmp_path / "o.parquet.draws.parquet").num_rows == 5 * done.cells > 0


async def test_impute_fills_every_gap_and_touches_nothing_else(tmp_path: Path) -> None:
    train = fleet_table(tmp_path / "train.parquet")
    test = fleet_table(tmp_path / "test.parquet", rows=200, skip=ROWS)
    done = await impute_file(ImputeOptions(test, tmp_path / "filled.parquet", train=train))
    before, after = pq.read_table(test), pq.read_table(tmp_path / "filled.parquet")
    assert after.column_names == before.column_names
    cells = 0
    for name in SENSORS:
        a, b = before[name].to_numpy(), after[name].to_numpy()
        assert np.isfinite(b).all()
        assert np.array_equal(a[np.isfinite(a)], b[np.isfinite(a)])
        cells += int(np.isnan(a).sum())
    marked = pq.read_table(tmp_path / "filled.parquet.filled.parquet")
    assert len(marked) == done.cells == cells > 0
    assert (marked["low"].to_numpy() <= marked["value"].to_numpy()).all()


async def test_impute_with_a_bundle_fills_as_the_daemon_does(tmp_path: Path, bundle: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=100, skip=ROWS)
    done = await impute_file(ImputeOptions(test, tmp_path / "filled.parquet", model=bundle))
    after = pq.read_table(tmp_path / "filled.parquet")
    assert done.cells > 0
    assert done.model == Bundle.load(bundle).version
    assert all(np.isfinite(after[name].to_numpy()).all() for name in SENSORS)
    foreign = tmp_path / "foreign.yaml"
    stream = {"name": "s", "topics": ["t"], "sensors": ["Pressure"], "period": "1m"}
    foreign.write_text(yaml.safe_dump({"streams": [stream]}))
    with pytest.raises(BundleError, match="does not fit stream s: its sensors"):
        await impute_file(ImputeOptions(test, tmp_path / "no.parquet", model=bundle, config=foreign))
    foreign.write_text(
        yaml.safe_dump({"streams": [stream | {"sensors": list(SENSORS)[::-1], "period": "1s"}]})
    )
    with pytest.raises(BundleError, match="the same sensors in another order"):
        await impute_file(ImputeOptions(test, tmp_path / "no.parquet", model=bundle, config=foreign))


def quarters(days: list[int], seed: int) -> pa.Table:
    """A machine that runs from six to ten, in rows of a quarter of an hour of some days of March."""
    g = np.random.default_rng(seed)
    row = np.arange(96)
    times = [f"2026-03-{day:02}T{i // 4:02}:{i % 4 * 15:02}:00Z" for day in days for i in row.tolist()]
    on = np.tile((row >= 24) & (row < 88), len(days))
    return pa.table({"ts": times, "on": on.astype(float), "speed": 1450.0 * on + g.standard_normal(len(on))})


async def test_long_gaps_are_filled_by_habit_also_after_days_without_rows(tmp_path: Path) -> None:
    pq.write_table(quarters(list(range(2, 23)), 0), tmp_path / "train.parquet")
    whole = quarters([23, 27, 28, 29], 1)
    speed, on = whole["speed"].to_numpy().copy(), whole["on"].to_numpy().copy()
    gap = slice(96 + 10, 3 * 96 - 10)
    speed[gap] = on[gap] = np.nan
    pq.write_table(pa.table({"ts": whole["ts"], "on": on, "speed": speed}), tmp_path / "test.parquet")
    done = await impute_file(
        ImputeOptions(tmp_path / "test.parquet", tmp_path / "out.parquet", train=tmp_path / "train.parquet")
    )
    filled = pq.read_table(tmp_path / "out.parquet")
    assert done.cells == 2 * (gap.stop - gap.start)
    assert np.abs(filled["speed"].to_numpy() - whole["speed"].to_numpy()).max() < 50.0
    np.testing.assert_array_equal(filled["on"].to_numpy(), whole["on"].to_numpy())


async def test_gaps_longer_than_wanted_stay_missing_and_are_counted(tmp_path: Path) -> None:
    whole = quarters([2, 3, 4, 5], 0)
    speed, on = whole["speed"].to_numpy().copy(), whole["on"].to_numpy().copy()
    speed[:5] = speed[20:24] = speed[40:45] = np.nan
    on[379:] = on[100] = np.nan
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"ts": whole["ts"], "on": on, "speed": speed}), file)
    out = tmp_path / "o.parquet"
    done = await impute_file(ImputeOptions(file, out, max_gap=timedelta(hours=1), draws=2))
    assert (done.cells, done.too_long, done.too_long_gaps) == (5, 15, 3)
    assert "15 cells in 3 gaps longer than 1:00:00 stay missing (--max-gap)" in done.notes
    assert not [note for note in done.notes if "stay empty" in note]
    filled = pq.read_table(out)
    assert np.flatnonzero(np.isnan(filled["speed"].to_numpy())).tolist() == [*range(5), *range(40, 45)]
    assert np.flatnonzero(np.isnan(filled["on"].to_numpy())).tolist() == list(range(379, 384))
    assert pq.read_table(tmp_path / "o.parquet.filled.parquet").num_rows == 5
    assert pq.read_table(tmp_path / "o.parquet.draws.parquet").num_rows == 10
    every = await impute_file(ImputeOptions(file, out))
    assert (every.cells, every.too_long) == (20, 0)


async def test_numbers_that_training_showed_to_be_no_value_are_filled(tmp_path: Path, bundle: Path) -> None:
    known = Bundle.load(bundle)
    scaler = replace(known.models.scaler, sentinels=np.array([-999.0]), sentinel_of=np.array([0]))
    replace(known, models=replace(known.models, scaler=scaler)).save(tmp_path / "model")
    name = known.sensors[0]
    file, marked, out = (tmp_path / f"{each}.parquet" for each in ("t", "m", "o"))
    table = pq.read_table(fleet_table(file, rows=100, skip=ROWS))
    expected, values = [table[name].to_numpy().copy() for _ in range(2)]
    expected[40:50], values[40:50] = np.nan, -999.0
    place = table.column_names.index(name)
    pq.write_table(table.set_column(place, name, pa.array(expected)), file)
    pq.write_table(table.set_column(place, name, pa.array(values)), marked)
    plain = await impute_file(ImputeOptions(file, out, model=tmp_path / "model"))
    wanted = pq.read_table(out)
    done = await impute_file(ImputeOptions(marked, out, model=tmp_path / "model"))
    assert done.cells == plain.cells
    assert pq.read_table(out)[name].equals(wanted[name])
    assert f"{name}: 10 cells of -999 stand for no value, and are filled" in done.notes


async def test_a_bundle_fills_by_the_hours_that_it_was_trained_in(tmp_path: Path) -> None:
    train, test, out = (tmp_path / f"{each}.parquet" for each in ("train", "test", "out"))
    pq.write_table(quarters(list(range(9, 24)), 0), train)
    abroad = TableReading(timezone="America/New_York")
    await train_files(TrainOptions([train], tmp_path / "model", sets=LINEAR, reading=abroad))
    whole = quarters([24, 25, 26], 1)
    speed, on = (whole[each].to_numpy().copy() for each in ("speed", "on"))
    speed[110:190] = on[110:190] = np.nan
    pq.write_table(pa.table({"ts": whole["ts"], "on": on, "speed": speed}), test)
    await impute_file(ImputeOptions(test, out, model=tmp_path / "model"))
    filled = pq.read_table(out)["speed"].to_numpy()
    assert np.abs(filled - whole["speed"].to_numpy()).max() < 50.0


async def test_cells_that_a_hold_covers_are_no_gap(tmp_path: Path) -> None:
    state = np.full(384, np.nan)
    state[::96] = [1.0, 2.0, 1.0, 2.0]
    state[300:] = np.nan
    whole, file = quarters([2, 3, 4, 5], 0), tmp_path / "t.parquet"
    pq.write_table(pa.table({"ts": whole["ts"], "on": state, "speed": whole["speed"]}), file)
    sensors = {"on": {"hold": "12h"}, "speed": {}}
    stream = {"name": "s", "topics": ["t"], "sensors": sensors, "period": "15m"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"streams": [stream]}))
    options = ImputeOptions(
        file, tmp_path / "o.parquet", config=tmp_path / "c.yaml", max_gap=timedelta(hours=13)
    )
    done = await impute_file(options)
    assert (done.too_long, done.too_long_gaps) == (0, 0)
    done = await impute_file(replace(options, max_gap=timedelta(hours=6)))
    filled = pq.read_table(tmp_path / "o.parquet")["on"].to_numpy()
    assert np.isfinite(filled[:49]).all()
    assert np.isnan(filled[49:96]).all()
    with pytest.raises(UsageError, match="--max-gap"):
        await impute_file(replace(options, max_gap=timedelta(0)))
