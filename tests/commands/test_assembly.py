"""Counters, angles and held values in the commands over files, from training to what is written."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from daemon.adapters.files import Table, TableReading, read_table, segments
from daemon.commands.carry import carried_rows
from daemon.commands.derive import plan_for
from daemon.commands.drill import DrillOptions, drill_file, rows_of
from daemon.commands.file_history import history_of
from daemon.commands.generate import Request, SyntheticRows, write_file
from daemon.commands.impute import ImputeOptions, impute_file
from daemon.commands.quality import QualityOptions, check
from daemon.commands.replay import ReplayOptions, replay
from daemon.commands.train import TrainOptions, train_files
from daemon.config import load
from daemon.errors import BundleError
from daemon.model.bundle import Bundle
from tests.commands.fleet import LINEAR

START = 1_767_225_600


def readings(path: Path, seconds: range, *, gaps: bool = False) -> Path:
    """A machine with a load, a meter of it that is read every 4 s, a wind that turns, and a mode that changes rarely."""
    noise = np.random.default_rng(0).standard_normal((10_000, 2))
    lines, meter, mode = ["ts,load,meter,wind,mode"], 0.0, ""
    for t in range(seconds.stop):
        load = 5 + 2 * math.sin(t / 9) + 0.2 * noise[t, 0]
        meter += load
        level = f"{meter:.3f}" if t % 4 == 0 else ""
        wind = f"{(7 * t + 5 * noise[t, 1]) % 360:.2f}"
        mode = str(t // 40 % 3) if t % 20 == 0 else ""
        if gaps and 100 <= t % 300 < 106:
            level = wind = ""
        if t in seconds:
            lines.append(f"{START + t},{load:.3f},{level},{wind},{mode}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    sensors = {
        "load": {},
        "meter": {"counter": True, "hold": "6s"},
        "wind": {"angle": 360},
        "mode": {"hold": "30s"},
    }
    path = tmp_path / "config.yaml"
    document = {"streams": [{"name": "s", "topics": ["s"], "sensors": sensors}]}
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


async def test_a_replay_marks_what_is_held_and_alarms_on_nothing_that_is_usual(
    tmp_path: Path, config: Path
) -> None:
    train = readings(tmp_path / "train.csv", range(1200))
    test = readings(tmp_path / "test.csv", range(1200, 1500))
    done = await replay(ReplayOptions(test, tmp_path / "out", config=config, train=train, sets=LINEAR))
    assert done.summary["scored"] == 300
    assert not {"sensor_silent", "sensor_stuck"} & done.summary["episodes_by_kind"].keys()
    cells = pq.read_table(tmp_path / "out/imputed.parquet").to_pylist()
    # The rows of TRAIN have their part in the first rate and in the first held values.
    assert {(cell["sensor"], cell["method"]) for cell in cells} == {("meter", "hold"), ("mode", "hold")}
    assert len([cell for cell in cells if cell["sensor"] == "meter"]) == 225
    assert all(cell["low"] == cell["value"] == cell["high"] for cell in cells)
    assert all(2 < cell["value"] < 8 for cell in cells if cell["sensor"] == "meter")  # a rate per second


async def test_training_from_a_file_learns_the_rows_that_are_judged(tmp_path: Path, config: Path) -> None:
    plan = plan_for(load(config), None, "s")
    train = readings(tmp_path / "train.csv", range(200))
    (segment,) = await history_of(train, plan, ())
    assert plan.spec.sensors == ("load", "meter", "wind.cos", "wind.sin", "mode")
    assert np.isfinite(segment.values[4:]).all()
    np.testing.assert_allclose(segment.values[:, 2] ** 2 + segment.values[:, 3] ** 2, 1.0)
    table: Table = read_table(readings(tmp_path / "test.csv", range(200, 210)))
    (tail,) = await carried_rows(tmp_path / "test.csv", table, plan, [segment])
    assert tail.values.shape == (
        200,
        4,
    )  # as received: a window, and a gap before it that a rate may reach over
    np.testing.assert_array_equal(tail.values, segment.received)


async def test_a_bundle_says_how_its_rows_are_made_and_refuses_others(tmp_path: Path, config: Path) -> None:
    train = readings(tmp_path / "train.csv", range(1200))
    test = readings(tmp_path / "test.csv", range(1200, 1300))
    directory = tmp_path / "bundle"
    bundle, _ = await train_files(TrainOptions([train], directory, config=config, sets=LINEAR))
    assert bundle.facts["assembled"] == {
        "meter": {"counter": True, "hold": "6s"},
        "wind": {"angle": 360.0},
        "mode": {"hold": "30s"},
    }
    again = await replay(ReplayOptions(test, tmp_path / "again", model=directory))
    assert again.summary["rows"] == 100
    assert {"meter", "mode"} >= set(
        pq.read_table(tmp_path / "again/imputed.parquet")["sensor"].to_pylist()
    ) - {
        "wind.cos",
        "wind.sin",
    }
    plain = yaml.safe_load(config.read_text())
    del plain["streams"][0]["sensors"]["meter"]["counter"]
    config.write_text(yaml.safe_dump(plain, sort_keys=False))
    with pytest.raises(BundleError, match=r"its counters \[meter\], the stream's \[\]"):
        await replay(ReplayOptions(test, tmp_path / "other", config=config, model=directory))


async def test_a_table_is_imputed_in_the_units_that_it_has(tmp_path: Path, config: Path) -> None:
    whole = read_table(readings(tmp_path / "whole.csv", range(900)))
    file = readings(tmp_path / "holed.csv", range(900), gaps=True)
    done = await impute_file(ImputeOptions(file, tmp_path / "out.csv", config=config, draws=3))
    assert done.cells == np.isnan(read_table(file).values).sum()
    filled = read_table(tmp_path / "out.csv")
    marks = pq.read_table(tmp_path / "out.csv.filled.parquet").to_pylist()
    assert {(m["sensor"], m["method"]) for m in marks if m["method"] == "hold"} == {("mode", "hold")}
    assert {m["sensor"] for m in marks} == {"meter", "wind", "mode"}
    assert (np.diff(filled.values[:, 1]) >= 0).all()  # a meter rises
    off = np.abs(filled.values[:, 2] - whole.values[:, 2])
    assert np.minimum(off, 360 - off).max() < 90
    for mark in marks:
        assert mark["low"] <= mark["value"] <= mark["high"]


async def test_the_segments_of_a_table_have_no_rate_across_a_long_gap(tmp_path: Path, config: Path) -> None:
    spec = plan_for(load(config), None, "s").spec
    path = tmp_path / "a.csv"
    path.write_text(
        f"ts,load,meter,wind,mode\n{START},1,1,0,1\n{START + 400},1,5,0,1\n{START + 401},1,6,0,1\n"
    )
    first, second = segments(read_table(path), spec)
    assert math.isnan(first.values[0, 1])
    np.testing.assert_array_equal(second.values[:, 1], [math.nan, 1.0])


async def test_generated_rows_are_as_sensors_send_them(tmp_path: Path, config: Path) -> None:
    """The stream's own configuration reads them: the meter rises by the rates, the wind is an angle, the load is raw."""
    document = yaml.safe_load(config.read_text())
    document["streams"][0]["sensors"]["load"] = {"scale": 0.5, "offset": 100}
    config.write_text(yaml.safe_dump(document, sort_keys=False))
    train, bundle = readings(tmp_path / "train.csv", range(1200)), tmp_path / "bundle"
    await train_files(TrainOptions([train], bundle, config=config, sets=LINEAR))
    model = Bundle.load(bundle)
    made = SyntheticRows(model, Request(assets=2, rows=600, inject=("shift:wind.cos",)))
    write_file(made, tmp_path / "made.csv")
    table = read_table(tmp_path / "made.csv")
    assert table.sensors == ("load", "meter", "wind", "mode")
    of = [table.values[table.asset_codes == code] for code in range(2)]
    for values in of:
        assert (np.diff(values[:, 1]) >= 0).all()
        assert ((values[:, 2] >= 0) & (values[:, 2] < 360)).all()
        assert 4 < np.mean(values[:, 0]) < 6
    assert {fault.sensor for fault in made.truth} == {"wind"}
    plan = plan_for(load(config, LINEAR), None, "made.csv")
    again = segments(read_table(tmp_path / "made.csv", reading=TableReading().of(plan.spec)), plan.spec)
    drawn = np.concatenate(
        [c.values for c in SyntheticRows(model, Request(assets=2, rows=600)).stretches()], 1
    )
    for a, segment in enumerate(again):
        np.testing.assert_allclose(segment.values[:, 0], 100 + 0.5 * drawn[a, :, 0])
        rates = np.diff(drawn[a, :, 1])
        np.testing.assert_allclose(segment.values[1:, 1], rates, atol=1e-6)
        assert 4 < np.mean(segment.values[1:, 1]) < 6  # a rate per second, as the load is
    done = await replay(
        ReplayOptions(tmp_path / "made.csv", tmp_path / "out", config=config, model=bundle, sets=LINEAR)
    )
    assert done.summary["scored"] > 1000
    assert done.summary["cells"]["observed"] == done.summary["cells"]["read"] == 4_800


async def test_a_drill_says_what_its_faults_are_injected_into(tmp_path: Path, config: Path) -> None:
    train, bundle = readings(tmp_path / "train.csv", range(1200)), tmp_path / "bundle"
    await train_files(TrainOptions([train], bundle, config=config, sets=LINEAR))
    done = await drill_file(DrillOptions(train, bundle, kinds=["shift"], config=config, sets=LINEAR))
    assert {one["sensor"]: one["modelled"] for one in done.report["sensors"]} == {
        "load": None,
        "meter": "rate per second",
        "wind.cos": "cosine of wind",
        "wind.sin": "sine of wind",
        "mode": None,
    }
    assert any(one["says"].startswith("meter (rate per second): an offset") for one in done.report["sensors"])
    assert "wind.cos, cosine of wind" in dict(rows_of(done.report))
    assert done.notes[-1] == (
        "faults are injected into rows as the model is given them: the rate per second of meter, cosine and sine of"
        " wind, the held values of meter, the held values of mode"
    )


async def test_labels_of_a_file_with_counters_and_angles_can_be_compared(
    tmp_path: Path, config: Path
) -> None:
    train, bundle = readings(tmp_path / "train.csv", range(1200)), tmp_path / "bundle"
    await train_files(TrainOptions([train], bundle, config=config, sets=LINEAR))
    held_out = tmp_path / "held.csv"
    lines = readings(tmp_path / "more.csv", range(1200)).read_text().splitlines()
    held_out.write_text(
        "\n".join([lines[0] + ",label", *(f"{line},{int(i > 1100)}" for i, line in enumerate(lines[1:]))])
    )
    found = await check(
        Bundle.load(bundle), QualityOptions(held_out, label="label", config=config, sets=LINEAR)
    )
    assert set(found.report["ks"]) == {"load", "meter", "wind.cos", "wind.sin", "mode"}
