"""``anomalyd drill`` over a file: its report, and that a replay of the same faults finds the same share."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daemon.commands.drill import DrillOptions, drill_file
from daemon.commands.impute import ImputeOptions, impute_file
from daemon.commands.replay import ReplayOptions, replay
from daemon.domain import SECOND_NS, Floats, Segment
from daemon.errors import BundleError, DaemonError, InputError, UsageError
from daemon.model.bundle import Bundle
from tests.model.conftest import QUICK, SPEC, machine, trained
from tests.running import command

FIRST_S = 1_700_000_040  # a whole minute
MINUTES = 10_000
QUIET = ["calibration.budget=1 per week"]


def table(path: Path, values: Floats) -> Path:
    """The machine's rows, a minute apart."""
    times = (FIRST_S + 60 * np.arange(len(values))) * SECOND_NS
    columns = {name: values[:, c] for c, name in enumerate(SPEC.sensors)}
    pq.write_table(pa.table({"timestamp": pa.array(times).cast(pa.timestamp("ns", "UTC")), **columns}), path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drill") / "bundle"
    trained([Segment("machine", 0, machine(3_000, 1))], replace(QUICK, kind="ppca")).save(path)
    return path


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table(tmp_path_factory.mktemp("rows") / "normal.parquet", machine(1_200, 2))


async def test_the_report_has_sensors_kinds_and_sizes(normal: Path, model: Path) -> None:
    shares: list[float] = []
    done = await drill_file(
        DrillOptions(normal, model, kinds=["Shift", "drop-out", "lag"]),
        progress=lambda share, doing: shares.append(share),
    )
    report = done.report
    assert json.loads(json.dumps(report)) == report
    assert set(report) == {
        "model",
        "threshold",
        "rows",
        "places",
        "kinds",
        "sensors",
        "unfound",
        "still",
        "counters",
    }
    assert report["rows"] == 1_200
    assert report["places"] == 400
    assert (report["still"], report["counters"]) == (["Idle"], [])
    assert shares == sorted(shares)
    assert set(report["kinds"]) == {"shift", "drop_out", "lag"}
    entries = {(e["sensor"], e["kind"]): e for e in report["sensors"]}
    assert {sensor for sensor, _ in entries} == {"Pressure", "Current", "Flow"}
    shift = entries["Pressure", "shift"]
    # 2 is the sd of the noise and 21 that of the machine's cycle, which the other sensors tell too.
    assert 2.0 < shift["smallest"]["value"] < 21.0
    assert shift["smallest"]["low"] <= shift["smallest"]["value"] <= shift["smallest"]["high"]
    assert [rung["sd"] for rung in shift["by_size"]][:3] == [0.1, 0.2, 0.35]
    assert shift["by_size"][0]["value"] * 80 == pytest.approx(shift["by_size"][-1]["value"])
    recalls = [rung["recall"] for rung in shift["by_size"]]
    assert recalls[0] < 0.5 < recalls[-1] == 1.0
    assert shift["alert"] == "anomaly"
    assert shift["says"].startswith("Pressure: an offset above ")
    assert shift["says"].endswith(" is found at once")
    drop_out = entries["Flow", "drop_out"]
    assert (drop_out["recall"], drop_out["alert"], drop_out["smallest"]) == (1.0, "sensor_silent", None)
    assert drop_out["delay_s"] == 19 * 60.0  # silent_after is 20 periods
    lag = entries["Flow", "lag"]
    assert [rung["value"] for rung in lag["by_size"]] == [60.0 * k for k in (1, 2, 3, 4, 6, 8, 12, 16)]
    again = await drill_file(DrillOptions(normal, model, kinds=["shift"], sensors=["Pressure"]))
    assert again.report["sensors"] == [shift]
    other = await drill_file(DrillOptions(normal, model, kinds=["shift"], sensors=["Pressure"], seed=1))
    assert other.report["sensors"] != again.report["sensors"]


async def test_a_counter_that_training_set_aside_did_not_stand_still(
    normal: Path, model: Path, tmp_path: Path
) -> None:
    bundle = Bundle.load(model)
    facts = {**bundle.facts, "levels_of_counters": ["Idle"]}
    path = replace(bundle, facts=facts).save(tmp_path / "counted")
    report = (await drill_file(DrillOptions(normal, path, kinds=["spike"], sensors=["Idle", "Flow"]))).report
    assert (report["still"], report["counters"]) == ([], ["Idle"])


async def test_a_replay_of_the_same_kinds_finds_the_same_share(tmp_path: Path, model: Path) -> None:
    """Injected here, by other code and elsewhere, into rows of the same machine; judged by ``replay``."""
    values = machine(MINUTES, 3)
    report = (
        await drill_file(DrillOptions(table(tmp_path / "n.parquet", values), model, kinds=["shift", "spike"]))
    ).report
    by_size = {
        (e["sensor"], e["kind"], rung["value"]): rung["recall"]
        for e in report["sensors"]
        for rung in e["by_size"]
    }
    rng = np.random.default_rng(4)
    (tmp_path / "before").mkdir()
    await replay(ReplayOptions(tmp_path / "n.parquet", tmp_path / "before", model=model, sets=QUIET))
    alarmed = pq.read_table(tmp_path / "before" / "scores.parquet")["alarm"].to_numpy(zero_copy_only=False)
    broken, faults = values.copy(), []
    cases = (
        list(by_size) * 2
    )  # far enough apart: the window must be clear again, and the refractory time over
    for at, case in zip(range(100, MINUTES - 100, 72), rng.permutation(len(cases)).tolist(), strict=False):
        sensor, kind, size = cases[case]
        if alarmed[at - 20 : at + 40].any():
            continue
        rows = slice(at, at + 1) if kind == "spike" else slice(at, at + 32)
        broken[rows, SPEC.sensors.index(sensor)] += rng.choice([-1.0, 1.0]) * size
        faults.append((at, cases[case]))
    await replay(
        ReplayOptions(table(tmp_path / "b.parquet", broken), tmp_path / "after", model=model, sets=QUIET)
    )
    alarm = pq.read_table(tmp_path / "after" / "scores.parquet")["alarm"].to_numpy(zero_copy_only=False)
    found = [alarm[at : at + 32].any() for at, _ in faults]
    assert len(faults) > 120
    expected = [by_size[case] for _, case in faults]
    assert np.mean(found) == pytest.approx(np.mean(expected), abs=0.05)
    assert 0.3 < np.mean(found) < 0.9


@pytest.mark.parametrize(
    ("changes", "error", "expected"),
    [
        ({"kinds": ["jump"]}, UsageError, "--kind 'jump' is no kind of fault: known are spike"),
        (
            {"sensors": ["Presure"]},
            UsageError,
            "--sensor Presure: the model has no such sensor; it has Press",
        ),
        ({"exclude": ["label"]}, UsageError, "--exclude label"),
    ],
)
async def test_misuse(
    normal: Path, model: Path, changes: dict[str, Any], error: type[Exception], expected: str
) -> None:
    with pytest.raises(error) as caught:
        await drill_file(DrillOptions(normal, model, **changes))
    assert expected in str(caught.value)


async def test_rows_that_can_take_no_fault(tmp_path: Path, model: Path) -> None:
    short = table(tmp_path / "short.parquet", machine(40, 2))
    with pytest.raises(InputError, match="none of its 40 rows can take a fault: three windows of 16 rows"):
        await drill_file(DrillOptions(short, model))
    with pytest.raises(BundleError, match="no readable model bundle"):
        await drill_file(DrillOptions(short, tmp_path / "nowhere"))


async def test_a_file_of_other_sensors_is_refused(tmp_path: Path, normal: Path, model: Path) -> None:
    other = tmp_path / "other.parquet"
    columns = pq.read_table(normal)
    pq.write_table(
        columns.rename_columns([n if n == "timestamp" else n + "2" for n in columns.column_names]), other
    )
    with pytest.raises(InputError, match="has none of the stream's sensors"):
        await drill_file(DrillOptions(other, model))
    with pytest.raises(InputError, match="has none of the stream's sensors"):
        await impute_file(ImputeOptions(other, tmp_path / "out.parquet", model=model))
    assert [found.name for found in tmp_path.iterdir()] == ["other.parquet"]


async def test_an_output_that_cannot_be_written_is_an_error_before_the_draws(
    tmp_path: Path, normal: Path, model: Path
) -> None:
    with pytest.raises(InputError, match="the name must end in"):
        await impute_file(ImputeOptions(normal, tmp_path / "out.xlsx", model=model, draws=2))
    with pytest.raises(DaemonError, match="there is no directory"):
        await impute_file(ImputeOptions(normal, tmp_path / "absent" / "out.csv", model=model, draws=2))
    assert not list(tmp_path.iterdir())


def test_the_command_prints_a_table_or_json(normal: Path, model: Path) -> None:
    arguments = ["drill", str(normal), "--model", str(model), "--kind", "lag", "--kind", "spike"]
    done = command(*arguments, "--sensor", "Flow", "--sensor", "Idle")
    assert done.returncode == 0, done.stderr
    assert "Flow" in done.stdout
    assert "Stood still in training, no fault was injected: Idle" in done.stdout
    assert "spike " in done.stdout
    done = command(*arguments, "--json")
    report = json.loads(done.stdout)
    assert set(report["kinds"]) == {"spike", "lag"}
