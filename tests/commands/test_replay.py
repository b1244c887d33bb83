"""``replay``, ``train`` and ``impute`` over small files: what they write, and what they never do."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from daemon.adapters.files import LinesSource, TableSource, read_table
from daemon.adapters.simulator import SENSORS, Fleet
from daemon.commands.demo import START
from daemon.commands.replay import (
    TrainTailSource,
    check_excluded,
    document_of,
    impute_file,
    replay,
    train_files,
)
from daemon.config import load
from daemon.domain import InputPartition, Segment, StreamSpec
from daemon.errors import BundleError, InputError, UsageError
from daemon.model.bundle import Bundle
from daemon.runtime.segmenting import newest_rows
from tests import contract

NOW_NS = 1_800_000_000 * 10**9
LINEAR = ["model.kind=ppca"]
COLUMNS = ["asset", "timestamp", "score", "reconstruction", "kl", "point", "elbo", "alarm", "model"]
ROWS, ASSETS = 500, 3


def fleet_table(path: Path, rows: int = ROWS, skip: int = 0, seed: int = 0, shake: float = 0.0) -> Path:
    """The fleet's readings as Parquet; ``shake`` spoils the last tenth of one sensor."""
    records = []
    for tick in islice(Fleet(seed, assets=ASSETS).records(START), skip, skip + rows):
        for _, line in tick.lines:
            try:
                message = json.loads(line)
                records.append((message["asset"], message["ts"], message["values"]))
            except (ValueError, KeyError, TypeError):
                continue
    values = {
        name: np.array([number(v.get(name)) if isinstance(v, dict) else np.nan for _, _, v in records])
        for name in SENSORS
    }
    if shake:
        tail = slice(len(records) * 9 // 10, None)
        values["Pressure"][tail] += shake
    columns: dict[str, Any] = {
        "asset": pa.array([str(asset) for asset, _, _ in records]),
        "timestamp": pa.array(
            np.array([np.datetime64(str(ts).rstrip("Z"), "ns") for _, ts, _ in records]).astype(np.int64)
        ).cast(pa.timestamp("ns", "UTC")),
        **values,
    }
    pq.write_table(pa.table(columns), path)
    return path


def number(value: object) -> float:
    """A cell, or missing."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else np.nan


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear model of the fleet."""
    import asyncio

    folder = tmp_path_factory.mktemp("bundle")
    asyncio.run(train_files([fleet_table(folder / "train.parquet")], folder / "model", sets=LINEAR))
    return folder / "model"


async def test_what_it_writes(tmp_path: Path, bundle: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=200, skip=ROWS)
    done = await replay(test, tmp_path / "out", model=bundle)
    scores = pq.read_table(tmp_path / "out/scores.parquet")
    source = pq.read_table(test)
    assert scores.column_names == COLUMNS
    assert scores.schema.field("timestamp").type.tz == "UTC"
    assert len(scores) == len(source)
    assert scores["asset"].equals(source["asset"].cast(scores.schema.field("asset").type))
    assert scores["timestamp"].to_pylist() == source["timestamp"].to_pylist()
    imputed = pq.read_table(tmp_path / "out/imputed.parquet")
    assert imputed.column_names == ["asset", "timestamp", "sensor", "value", "low", "high", "method", "model"]
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["model"]["kind"] == "ppca"
    assert summary["model"]["concerns"] == []
    records = summary["records"]
    assert records["read"] == sum(v for k, v in records.items() if k != "read") == len(source)
    assert done.summary["scored"] == summary["scored"] > 0
    for name in ("alerts.jsonl", "drift.jsonl", "dead-letter.jsonl"):
        for line in (tmp_path / "out" / name).read_text().splitlines():
            json.loads(line)
    assert "http://" not in (tmp_path / "out/report.html").read_text().split("<script>")[0]


async def test_the_same_file_twice_gives_the_same_bytes(tmp_path: Path, bundle: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=150, skip=ROWS, shake=3.0)
    for name in ("a", "b"):
        await replay(test, tmp_path / name, model=bundle)
    for name in ("scores.parquet", "imputed.parquet", "alerts.jsonl", "drift.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


async def test_readings_that_are_hidden_change_nothing_and_are_told(tmp_path: Path, bundle: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=600, skip=ROWS, shake=3.0)
    for name, one_in in (("off", "null"), ("on", "400"), ("again", "400")):
        await replay(test, tmp_path / name, model=bundle, sets=[f"audit.one_in={one_in}"])
    for name in ("scores.parquet", "imputed.parquet", "alerts.jsonl", "drift.jsonl", "dead-letter.jsonl"):
        assert (tmp_path / "off" / name).read_bytes() == (tmp_path / "on" / name).read_bytes(), name
    off, on, again = (
        json.loads((tmp_path / name / "summary.json").read_text())["imputation_audit"]
        for name in ("off", "on", "again")
    )
    assert off is None
    assert on == again
    assert on["one_in"] == 400
    assert [one["sensor"] for one in on["sensors"]] == list(SENSORS)
    assert 10 < sum(one["audits"] for one in on["sensors"]) < 1800 * len(SENSORS) / 200
    assert all(0.5 <= one["coverage"] <= 1 for one in on["sensors"] if one["audits"] > 8)


async def test_nothing_looks_ahead(tmp_path: Path, bundle: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=200, skip=ROWS)
    table = pq.read_table(test)
    half = len(table) // 2
    poisoned = [
        pa.array(np.where(np.arange(len(table)) < half, table[name].to_numpy(), np.nan))
        if name in SENSORS
        else table[name]
        for name in table.column_names
    ]
    pq.write_table(pa.table(poisoned, names=table.column_names), tmp_path / "poisoned.parquet")
    await replay(test, tmp_path / "a", model=bundle)
    await replay(tmp_path / "poisoned.parquet", tmp_path / "b", model=bundle)
    a, b = (pq.read_table(tmp_path / x / "scores.parquet").slice(0, half) for x in ("a", "b"))
    for name in ("score", "reconstruction", "kl", "point", "elbo", "alarm"):
        assert np.array_equal(a[name].to_numpy(), b[name].to_numpy(), equal_nan=name != "alarm"), name


async def test_windows_carry_on_from_train_when_it_has_just_ended(tmp_path: Path) -> None:
    train = fleet_table(tmp_path / "train.parquet")
    touching = fleet_table(tmp_path / "next.parquet", rows=100, skip=ROWS)
    apart = fleet_table(tmp_path / "later.parquet", rows=100, skip=ROWS + 60)
    for name, test in (("touching", touching), ("apart", apart)):
        await replay(test, tmp_path / name, train=train, sets=LINEAR)
    first = {
        name: int(np.isfinite(pq.read_table(tmp_path / name / "scores.parquet")["score"].to_numpy()).argmax())
        for name in ("touching", "apart")
    }
    assert first["touching"] < ASSETS  # scored from the first row on
    assert first["apart"] >= 15 * ASSETS - 10  # after a gap the windows fill first
    # TRAIN's rows are context: nothing is said of them, and they are not counted.
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


async def test_a_model_that_earns_nothing_is_said_in_notes_and_summary(tmp_path: Path) -> None:
    history = fleet_table(tmp_path / "train.parquet", rows=120)
    sets = ["model.steps=60", "model.beta=3000", "streams.0.window=4"]
    bundle, notes = await train_files([history], tmp_path / "model", sets=sets)
    assert bundle.concerns
    assert set(bundle.concerns) <= set(notes)
    test = fleet_table(tmp_path / "test.parquet", rows=40, skip=120)
    done = await replay(test, tmp_path / "out", model=tmp_path / "model")
    assert done.summary["model"]["concerns"] == list(bundle.concerns)
    assert done.summary["model"]["likelihood"] < done.summary["model"]["likelihood_ppca"]
    assert any(bundle.concerns[0] in note for note in done.notes)


async def test_cold_start_is_live_from_the_row_after_learn_rows(tmp_path: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=400)
    learn = 900
    done = await replay(test, tmp_path / "out", sets=[*LINEAR, f"model.learn_rows={learn}"])
    scores = pq.read_table(tmp_path / "out/scores.parquet")
    scored = np.isfinite(scores["score"].to_numpy())
    first = int(scored.argmax())
    # Late and duplicate lines are among the first rows but teach nothing; a few rows of slack.
    assert learn <= first <= learn + 30
    assert scored[first:].mean() > 0.95
    assert len(done.summary["models"]) == 1


async def test_a_shaken_sensor_opens_an_episode_that_names_it(tmp_path: Path, bundle: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=200, skip=ROWS, shake=4.0)
    await replay(test, tmp_path / "out", model=bundle)
    alerts = [json.loads(line) for line in (tmp_path / "out/alerts.jsonl").read_text().splitlines()]
    opened = [a for a in alerts if a["type"].endswith("opened.v1") and a["data"]["kind"] == "anomaly"]
    assert opened
    assert any(a["data"]["contributors"][0]["sensor"] == "Pressure" for a in opened)
    alarm = pq.read_table(tmp_path / "out/scores.parquet")["alarm"].to_numpy()
    assert alarm[-len(alarm) // 20 :].any()


async def test_draws_lie_beside_a_table_that_stays_as_it_is(tmp_path: Path) -> None:
    train = fleet_table(tmp_path / "train.parquet")
    test = fleet_table(tmp_path / "test.parquet", rows=200, skip=ROWS)
    plain = await impute_file(test, tmp_path / "plain.parquet", train=train)
    told: list[float] = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        done = await impute_file(
            test,
            tmp_path / f"{name}.parquet",
            train=train,
            draws=7,
            seed=seed,
            progress=lambda share, doing: told.append(share),
        )
        assert done.draws_file == str(tmp_path / f"{name}.parquet.draws.parquet")
        assert (tmp_path / f"{name}.parquet").read_bytes() == (tmp_path / "plain.parquet").read_bytes()
    assert plain.draws_file is None
    assert not (tmp_path / "plain.parquet.draws.parquet").exists()
    assert told[-1] == 1.0
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


async def test_several_lines_of_a_cell_are_each_told_its_draws(tmp_path: Path) -> None:
    times = [f"2026-01-01T00:{i // 60:02}:{i % 60:02}Z" for i in range(200)]
    g = np.random.default_rng(0)
    a, b = np.cumsum(g.standard_normal((2, 200)), axis=1)
    a[50:60] = np.nan
    table = pa.table({"ts": times, "a": a, "b": b})
    twice = pa.concat_tables([table, table.slice(50, 3)])
    pq.write_table(twice, tmp_path / "t.parquet")
    done = await impute_file(tmp_path / "t.parquet", tmp_path / "o.parquet", draws=3)
    draws = pq.read_table(tmp_path / "o.parquet.draws.parquet")
    assert done.cells == 13
    assert draws.num_rows == 39
    first = [
        v
        for t, v in zip(draws["timestamp"].to_pylist(), draws["value"].to_pylist(), strict=True)
        if t.second == 50
    ]
    assert first[:3] == first[3:]


async def test_a_bundle_of_before_there_were_draws_draws_too(tmp_path: Path, bundle: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=100, skip=ROWS)
    done = await impute_file(test, tmp_path / "o.parquet", model=bundle, draws=5)
    assert pq.read_table(tmp_path / "o.parquet.draws.parquet").num_rows == 5 * done.cells > 0


async def test_impute_fills_every_gap_and_touches_nothing_else(tmp_path: Path) -> None:
    train = fleet_table(tmp_path / "train.parquet")
    test = fleet_table(tmp_path / "test.parquet", rows=200, skip=ROWS)
    done = await impute_file(test, tmp_path / "filled.parquet", train=train)
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


async def test_labels_are_compared_with_and_never_used(tmp_path: Path, bundle: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=200, skip=ROWS, shake=4.0)
    table = pq.read_table(test)
    label = (np.arange(len(table)) >= len(table) * 9 // 10).astype(np.int64)
    pq.write_table(table.append_column("label", pa.array(label)), tmp_path / "labelled.parquet")
    train = fleet_table(tmp_path / "train.parquet")
    done = await replay(
        tmp_path / "labelled.parquet", tmp_path / "out", train=train, sets=LINEAR, label="label"
    )
    plain = await replay(test, tmp_path / "plain", train=train, sets=LINEAR)
    assert {f.name for f in done.figures} >= {"anomalyd", "pPCA", "random", "all-ones", "time-only"}
    assert done.summary["scored"] == plain.summary["scored"]
    a, b = (pq.read_table(tmp_path / x / "scores.parquet")["score"] for x in ("out", "plain"))
    assert np.array_equal(a.to_numpy(), b.to_numpy(), equal_nan=True)


async def test_impute_with_a_bundle_fills_as_the_daemon_does(tmp_path: Path, bundle: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=100, skip=ROWS)
    done = await impute_file(test, tmp_path / "filled.parquet", model=bundle)
    after = pq.read_table(tmp_path / "filled.parquet")
    assert done.cells > 0
    assert done.model == Bundle.load(bundle).version
    assert all(np.isfinite(after[name].to_numpy()).all() for name in SENSORS)
    foreign = tmp_path / "foreign.yaml"
    stream = {"name": "s", "topics": ["t"], "sensors": ["Pressure"], "period": "1m"}
    foreign.write_text(yaml.safe_dump({"streams": [stream]}))
    with pytest.raises(BundleError, match="does not fit stream s: its sensors"):
        await impute_file(test, tmp_path / "no.parquet", model=bundle, config=foreign)
    foreign.write_text(
        yaml.safe_dump({"streams": [stream | {"sensors": list(SENSORS)[::-1], "period": "1s"}]})
    )
    with pytest.raises(BundleError, match="the same sensors in another order"):
        await impute_file(test, tmp_path / "no.parquet", model=bundle, config=foreign)


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
        ("asset-0", 1_699_999_997, np.array([[1.0], [2.0], [3.0]])),
        ("b", 1_699_999_997, np.ones((2, 1))),
    ]

    def make() -> TrainTailSource:
        inner = TableSource(read_table(path), spec, NOW_NS) if kind == "table" else LinesSource(path, NOW_NS)
        return TrainTailSource(inner, spec, before)

    await contract.check_finite(make, {InputPartition(path.name, 0): [*range(5), *range(6, 11)]})
    assert [make().line_of(offset) for offset in (0, 4, 5, 6, 10)] == [-1, -1, -1, 0, 4]


def one_pump(path: Path, times: list[int], header: str = "timestamp,x,y") -> Path:
    """A table of one asset with readings at these seconds."""
    rng = np.random.default_rng(0)
    rows = [f"{1_700_000_000 + s},{rng.normal():.3f},{rng.normal():.3f}" for s in times]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


async def test_a_row_far_ahead_is_refused_and_noted_and_costs_no_other_row(tmp_path: Path) -> None:
    times = list(range(400))
    times.insert(300, 18 * 86_400)
    test = one_pump(tmp_path / "a.csv", times)
    done = await replay(test, tmp_path / "out", sets=[*LINEAR, "model.learn_rows=200"])
    assert done.summary["records"] == {"read": 401, "accepted": 400, "duplicate": 0, "late": 0, "rejected": 1}
    assert done.summary["reasons"] == {"future": 1}
    assert [note for note in done.notes if "row 300" in note and "dated far ahead" in note]
    letter = json.loads((tmp_path / "out/dead-letter.jsonl").read_text())
    assert (letter["line"], letter["reason"]) == (300, "future")
    assert np.isnan(pq.read_table(tmp_path / "out/scores.parquet")["score"].to_numpy()[300])


async def test_a_file_that_is_newest_first_is_taken_by_its_time_and_says_so(tmp_path: Path) -> None:
    sets = [*LINEAR, "model.learn_rows=200"]
    found = {}
    for name, times in (("up", list(range(400))), ("down", list(range(399, -1, -1)))):
        test = one_pump(tmp_path / f"{name}.csv", list(range(400)))
        lines = test.read_text().splitlines()
        test.write_text("\n".join([lines[0], *(lines[1 + i] for i in times)]) + "\n")
        done = await replay(test, tmp_path / name, sets=sets)
        assert done.summary["records"]["accepted"] == 400
        assert bool([note for note in done.notes if "in no order of time" in note]) == (name == "down")
        scores = pq.read_table(tmp_path / name / "scores.parquet")
        found[name] = scores["timestamp"].to_numpy(), scores["score"].to_numpy()
    assert np.array_equal(found["up"][0], found["down"][0][::-1])  # each row in its place
    assert np.array_equal(found["up"][1], found["down"][1][::-1], equal_nan=True)


async def test_a_file_that_is_mostly_late_is_an_error_with_the_reason(tmp_path: Path) -> None:
    test = tmp_path / "a.jsonl"
    lines = [
        json.dumps({"asset": "a", "ts": 1_700_000_000 + s, "values": {"x": float(s % 7)}})
        for s in [*range(500, 800), *range(400)]
    ]
    test.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"400 of 700 records are late: .*allowed_lateness"):
        await replay(test, tmp_path / "out", sets=[*LINEAR, "model.learn_rows=200"])
    summary = json.loads((tmp_path / "out/summary.json").read_text())  # it is written all the same
    assert summary["records"]["late"] == 400


async def test_times_without_a_zone_are_noted_and_a_zone_may_be_given(tmp_path: Path) -> None:
    test = tmp_path / "a.csv"
    rows = [f"2026-07-01 {10 + i // 60:02d}:{i % 60:02d}:00,{i % 5},{i % 3}" for i in range(300)]
    test.write_text("\n".join(["timestamp,x,y", *rows]) + "\n")
    sets = [*LINEAR, "model.learn_rows=200"]
    done = await replay(test, tmp_path / "utc", sets=sets)
    assert [note for note in done.notes if "name no zone" in note]
    done = await replay(test, tmp_path / "berlin", sets=[*sets, "streams.stream.timezone=Europe/Berlin"])
    assert not [note for note in done.notes if "name no zone" in note]
    began = {
        name: pq.read_table(tmp_path / name / "scores.parquet")["timestamp"].to_numpy().min()
        for name in ("utc", "berlin")
    }
    assert began["utc"] - began["berlin"] == np.timedelta64(2, "h")


async def test_rows_between_train_and_test_belong_to_neither(tmp_path: Path) -> None:
    train = fleet_table(tmp_path / "train.parquet")
    test = fleet_table(tmp_path / "test.parquet", rows=60, skip=ROWS + 5)
    done = await replay(test, tmp_path / "out", train=train, sets=LINEAR)
    scores = pq.read_table(tmp_path / "out/scores.parquet")
    began = scores["timestamp"].to_numpy().min()
    filled = pq.read_table(tmp_path / "out/imputed.parquet")["timestamp"].to_numpy()
    assert len(filled)
    assert filled.min() >= began
    assert done.summary["rows"] == done.summary["scored"] <= 60 * ASSETS
    assert int(np.isfinite(scores["score"].to_numpy()).argmax()) < ASSETS  # still carried on


async def test_a_model_decides_period_and_window_and_nothing_is_assumed(tmp_path: Path, bundle: Path) -> None:
    short = fleet_table(tmp_path / "short.parquet", rows=30, skip=ROWS)
    done = await replay(short, tmp_path / "out", model=bundle)
    assert done.notes == []


async def test_why_nothing_was_scored(tmp_path: Path, bundle: Path) -> None:
    table = pq.read_table(fleet_table(tmp_path / "test.parquet", rows=60, skip=ROWS))
    times = table["timestamp"].cast(pa.int64()).to_numpy()
    at = table.column_names.index("timestamp")

    async def notes(name: str, ns: Any) -> list[str]:
        stamps = pa.array(ns).cast(pa.timestamp("ns", "UTC"))
        pq.write_table(table.set_column(at, "timestamp", stamps), tmp_path / f"{name}.parquet")
        done = await replay(tmp_path / f"{name}.parquet", tmp_path / name, model=bundle)
        assert done.summary["scored"] == 0
        return [note for note in done.notes if note.startswith("nothing was scored")]

    (slow,) = await notes("slow", times.min() + (times - times.min()) * 60)
    assert "windows of 16 rows of 1m" in slow
    assert "the readings are 1h apart" in slow


async def test_notes_are_said_once(tmp_path: Path) -> None:
    table = pq.read_table(fleet_table(tmp_path / "a.parquet", rows=200))
    path = tmp_path / "noted.parquet"
    pq.write_table(table.append_column("what", pa.array(["text"] * len(table))), path)
    done = await replay(path, tmp_path / "out", train=path, sets=LINEAR)
    assert done.notes.count("not numeric, left out: what") == 1
    assert len(set(done.notes)) == len(done.notes)


async def test_what_is_excluded_must_be_there(tmp_path: Path, bundle: Path) -> None:
    train = fleet_table(tmp_path / "train.parquet", rows=20)
    test = tmp_path / "test.parquet"
    table = pq.read_table(train)
    pq.write_table(table.append_column("label", pa.array([0] * len(table))), test)
    with pytest.raises(UsageError, match=r"--exclude lable: .* no such column; did you mean 'label'\?"):
        await replay(test, tmp_path / "out", model=bundle, exclude=["lable"])
    with pytest.raises(UsageError, match="--exclude zzz"):
        await impute_file(test, tmp_path / "out.parquet", exclude=["zzz"])
    with pytest.raises(UsageError, match="--exclude label"):
        await train_files([train], tmp_path / "model", exclude=["label"])
    check_excluded(["label"], [train, test])  # it need not be in both


def test_a_derived_configuration_has_no_more_causes_than_sensors(monkeypatch: pytest.MonkeyPatch) -> None:
    def latent(sensors: int, *sets: str) -> int:
        spec = StreamSpec("s", tuple(f"s{i}" for i in range(sensors)))
        return load(None, sets, document_of(spec)).model.latent

    assert [latent(n) for n in (1, 2, 3, 7, 8, 50)] == [2, 2, 3, 7, 8, 8]
    assert latent(3, "model.kind=ppca") == 3
    assert latent(3, "model.latent=5") == 5
    monkeypatch.setenv("ANOMALYD_MODEL__LATENT", "4")
    assert latent(3) == 4


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
