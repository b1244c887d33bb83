"""``replay`` over small files: what it writes, and what it never does."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daemon.adapters.simulator import SENSORS
from daemon.commands.replay import ReplayOptions, replay
from daemon.errors import InputError
from tests.commands.fleet import LINEAR, ROWS, fleet_table
from tests.model.conftest import machine
from tests.running import command

COLUMNS = ["asset", "timestamp", "score", "reconstruction", "kl", "point", "elbo", "alarm", "model"]


async def test_files_and_columns_that_a_replay_writes(tmp_path: Path, bundle: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=200, skip=ROWS)
    done = await replay(ReplayOptions(test, tmp_path / "out", model=bundle))
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


def test_another_budget_finds_the_thresholds_again_and_says_so(tmp_path: Path, bundle: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=150, skip=ROWS, shake=3.0)

    def judged(*options: str) -> tuple[dict[str, Any], str]:
        done = command("replay", test, "--model", bundle, "--out", tmp_path / "o", *options)
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / "o/summary.json").read_text())
        kinds = ", ".join(f"{n} {kind}" for kind, n in summary["episodes_by_kind"].items())
        assert f"{summary['episodes']} episode" in done.stdout
        assert f" ({kinds}" in done.stdout, "the kinds that episodes opened with add up"
        assert sum(summary["episodes_by_kind"].values()) == summary["episodes"] > 0
        alerts = summary["alerts"]
        assert len(alerts) == min(summary["episodes"], 200)
        opened = [json.loads(line)["data"] for line in (tmp_path / "o/alerts.jsonl").read_text().splitlines()]
        assert {one["fingerprint"] for one in alerts} <= {data["fingerprint"] for data in opened}
        rows = [line for line in done.stdout.splitlines() if line.strip().startswith(alerts[0]["onset"][:10])]
        assert len(rows) == min(len(alerts), 20), done.stdout
        assert (f"and {len(alerts) - 20} more in" in done.stdout) is (len(alerts) > 20)
        assert max(map(len, rows)) <= 80
        newest = max(pq.read_table(tmp_path / "o/scores.parquet")["timestamp"].to_pylist())
        for one in alerts:  # one that is open lasts up to the end
            if one["closed"] is None:
                late = (newest - datetime.fromisoformat(one["onset"])).total_seconds() - one["seconds"]
                assert 0 <= late < 60, "a row is a minute"
        return summary, done.stderr

    own, notes = judged()
    assert own["budget"]["anomaly"]["budget"] == "1 per week", "the model's"
    assert "found again" not in notes
    often, notes = judged("--set", "calibration.budget=50 per day")
    assert often["budget"]["anomaly"]["budget"] == "50 per day"
    assert "o: replaces scores.parquet, imputed.parquet" in notes
    assert "thresholds found again for calibration.budget 50 per day; it was trained for 1 per week" in notes
    assert often["threshold"] < own["threshold"]
    assert often["models"] == own["models"]


async def test_the_same_file_twice_gives_the_same_bytes(tmp_path: Path, bundle: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=150, skip=ROWS, shake=3.0)
    for name in ("a", "b"):
        await replay(ReplayOptions(test, tmp_path / name, model=bundle))
    for name in ("scores.parquet", "imputed.parquet", "alerts.jsonl", "drift.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


async def test_hidden_readings_change_no_output_and_are_counted(tmp_path: Path, bundle: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=600, skip=ROWS, shake=3.0)
    for name, one_in in (("off", "null"), ("on", "400"), ("again", "400")):
        await replay(ReplayOptions(test, tmp_path / name, model=bundle, sets=[f"audit.one_in={one_in}"]))
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


async def test_scores_do_not_depend_on_later_rows(tmp_path: Path, bundle: Path) -> None:
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
    await replay(ReplayOptions(test, tmp_path / "a", model=bundle))
    await replay(ReplayOptions(tmp_path / "poisoned.parquet", tmp_path / "b", model=bundle))
    a, b = (pq.read_table(tmp_path / x / "scores.parquet").slice(0, half) for x in ("a", "b"))
    for name in ("score", "reconstruction", "kl", "point", "elbo", "alarm"):
        assert np.array_equal(a[name].to_numpy(), b[name].to_numpy(), equal_nan=name != "alarm"), name


async def test_cold_start_is_live_from_the_row_after_learn_rows(tmp_path: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=400)
    learn = 900
    done = await replay(ReplayOptions(test, tmp_path / "out", sets=[*LINEAR, f"model.learn_rows={learn}"]))
    scores = pq.read_table(tmp_path / "out/scores.parquet")
    scored = np.isfinite(scores["score"].to_numpy())
    first = int(scored.argmax())
    # Late and duplicate lines are among the first rows but teach nothing; a few rows of slack.
    assert learn <= first <= learn + 30
    assert scored[first:].mean() > 0.95
    assert len(done.summary["models"]) == 1


async def test_a_shaken_sensor_opens_an_episode_that_names_it(tmp_path: Path, bundle: Path) -> None:
    test = fleet_table(tmp_path / "test.parquet", rows=200, skip=ROWS, shake=4.0)
    await replay(ReplayOptions(test, tmp_path / "out", model=bundle))
    alerts = [json.loads(line) for line in (tmp_path / "out/alerts.jsonl").read_text().splitlines()]
    opened = [a for a in alerts if a["type"].endswith("opened.v1") and a["data"]["kind"] == "anomaly"]
    assert opened
    assert any(a["data"]["contributors"][0]["sensor"] == "Pressure" for a in opened)
    alarm = pq.read_table(tmp_path / "out/scores.parquet")["alarm"].to_numpy()
    assert alarm[-len(alarm) // 20 :].any()


def one_pump(path: Path, times: list[int], header: str = "timestamp,x,y") -> Path:
    """A table of one asset with readings at these seconds."""
    rng = np.random.default_rng(0)
    rows = [f"{1_700_000_000 + s},{rng.normal():.3f},{rng.normal():.3f}" for s in times]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


async def test_a_row_far_ahead_is_rejected_and_noted_and_rejects_no_other_row(tmp_path: Path) -> None:
    times = list(range(400))
    times.insert(300, 18 * 86_400)
    test = one_pump(tmp_path / "a.csv", times)
    done = await replay(ReplayOptions(test, tmp_path / "out", sets=[*LINEAR, "model.learn_rows=200"]))
    assert done.summary["records"] == {"read": 401, "accepted": 400, "duplicate": 0, "late": 0, "rejected": 1}
    assert done.summary["reasons"] == {"future": 1}
    assert [note for note in done.notes if "row 300" in note and "dated far ahead" in note]
    letter = json.loads((tmp_path / "out/dead-letter.jsonl").read_text())
    assert (letter["line"], letter["reason"]) == (300, "future")
    assert np.isnan(pq.read_table(tmp_path / "out/scores.parquet")["score"].to_numpy()[300])


async def test_a_file_with_the_newest_row_first_is_read_by_time_and_noted(tmp_path: Path) -> None:
    sets = [*LINEAR, "model.learn_rows=200"]
    found = {}
    for name, times in (("up", list(range(400))), ("down", list(range(399, -1, -1)))):
        test = one_pump(tmp_path / f"{name}.csv", list(range(400)))
        lines = test.read_text().splitlines()
        test.write_text("\n".join([lines[0], *(lines[1 + i] for i in times)]) + "\n")
        done = await replay(ReplayOptions(test, tmp_path / name, sets=sets))
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
        await replay(ReplayOptions(test, tmp_path / "out", sets=[*LINEAR, "model.learn_rows=200"]))
    summary = json.loads((tmp_path / "out/summary.json").read_text())  # it is written all the same
    assert summary["records"]["late"] == 400


async def test_times_without_a_zone_are_noted_and_a_zone_may_be_given(tmp_path: Path) -> None:
    test = tmp_path / "a.csv"
    rows = [f"2026-07-01 {10 + i // 60:02d}:{i % 60:02d}:00,{i % 5},{i % 3}" for i in range(300)]
    test.write_text("\n".join(["timestamp,x,y", *rows]) + "\n")
    sets = [*LINEAR, "model.learn_rows=200"]
    done = await replay(ReplayOptions(test, tmp_path / "utc", sets=sets))
    assert [note for note in done.notes if "name no zone" in note]
    done = await replay(
        ReplayOptions(test, tmp_path / "berlin", sets=[*sets, "streams.stream.timezone=Europe/Berlin"])
    )
    assert not [note for note in done.notes if "name no zone" in note]
    began = {
        name: pq.read_table(tmp_path / name / "scores.parquet")["timestamp"].to_numpy().min()
        for name in ("utc", "berlin")
    }
    assert began["utc"] - began["berlin"] == np.timedelta64(2, "h")


async def test_period_and_window_are_those_of_the_model_and_nothing_is_noted(
    tmp_path: Path, bundle: Path
) -> None:
    short = fleet_table(tmp_path / "short.parquet", rows=30, skip=ROWS)
    done = await replay(ReplayOptions(short, tmp_path / "out", model=bundle))
    assert done.notes == []


async def test_a_note_why_nothing_was_scored(tmp_path: Path, bundle: Path) -> None:
    table = pq.read_table(fleet_table(tmp_path / "test.parquet", rows=60, skip=ROWS))
    times = table["timestamp"].cast(pa.int64()).to_numpy()
    at = table.column_names.index("timestamp")

    async def notes(name: str, ns: Any) -> list[str]:
        stamps = pa.array(ns).cast(pa.timestamp("ns", "UTC"))
        pq.write_table(table.set_column(at, "timestamp", stamps), tmp_path / f"{name}.parquet")
        done = await replay(ReplayOptions(tmp_path / f"{name}.parquet", tmp_path / name, model=bundle))
        assert done.summary["scored"] == 0
        return [note for note in done.notes if note.startswith("nothing was scored")]

    (slow,) = await notes("slow", times.min() + (times - times.min()) * 60)
    assert "windows of 16 rows of 1m" in slow
    assert "the readings are 1h apart" in slow


async def test_each_note_appears_once(tmp_path: Path) -> None:
    table = pq.read_table(fleet_table(tmp_path / "a.parquet", rows=200))
    path = tmp_path / "noted.parquet"
    pq.write_table(table.append_column("what", pa.array(["text"] * len(table))), path)
    done = await replay(ReplayOptions(path, tmp_path / "out", train=path, sets=LINEAR))
    assert done.notes.count("not numeric, left out: what") == 1
    assert len(set(done.notes)) == len(done.notes)


async def test_a_replay_without_a_usable_record_says_what_was_refused_first(tmp_path: Path) -> None:
    lines = (json.dumps({"asset": "a", "at": i, "values": {"x": 1.5}}) for i in range(20))
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "c.yaml").write_text("streams: [{name: s, topics: [s], sensors: {x: {}}}]")
    done = await replay(ReplayOptions(tmp_path / "a.jsonl", tmp_path / "out", config=tmp_path / "c.yaml"))
    (note,) = (note for note in done.notes if note.startswith("nothing was scored"))
    assert (
        "no record could be used (20 rejected of 20 records); the first: no_timestamp, no field 'ts'" in note
    )
    assert "see anomalyd inspect -c" in note


async def test_a_leak_of_a_few_noise_widths_is_a_deviation_of_its_sensor_and_no_anomaly(
    tmp_path: Path,
) -> None:
    """Ten days of rows a minute to learn from; then a day, with a leak of up to three noise widths for six hours."""
    values = machine(15_500)[:, :3]
    leak = slice(15_000, 15_360)
    values[leak, 0] -= np.linspace(0.0, 6.0, 360)  # Pressure, whose noise is 2.0
    times = np.datetime64("2026-03-02T00:00", "us") + np.arange(len(values)) * np.timedelta64(60, "s")
    for name, rows in (("train", slice(None, 14_400)), ("test", slice(14_400, None))):
        columns = dict(zip(("pressure", "current", "flow"), values[rows].T, strict=True))
        pq.write_table(pa.table({"timestamp": times[rows], **columns}), tmp_path / f"{name}.parquet")
    sets = [*LINEAR, "calibration.budget=1 per week"]
    where = ReplayOptions(
        tmp_path / "test.parquet", tmp_path / "out", train=tmp_path / "train.parquet", sets=sets
    )
    await replay(where)
    alerts = [json.loads(line)["data"] for line in (tmp_path / "out/alerts.jsonl").read_text().splitlines()]
    assert {alert["kind"] for alert in alerts} == {"deviation"}
    opened, closed = alerts[0], alerts[-1]
    assert len({alert["fingerprint"] for alert in alerts}) == 1
    assert (opened["status"], opened["severity"], closed["status"]) == ("firing", "warning", "resolved")
    begin, end = (str(times[at]) for at in (leak.start, leak.stop))
    assert begin < opened["onset"] <= opened["opened"] < end < closed["row"]
    (pressure,) = closed["contributors"]
    assert pressure["sensor"] == "pressure"
    assert -5.0 < pressure["observed"] - pressure["expected"] < -0.5
    assert opened["scores"]["sustained"]["value"] > opened["scores"]["sustained"]["threshold"] == 1.0
    assert opened["scores"]["combined"]["value"] < opened["scores"]["combined"]["threshold"]
    assert not pq.read_table(tmp_path / "out/scores.parquet")["alarm"].to_numpy().any()
    assert '"kind":"deviation"' in (tmp_path / "out/report.html").read_text()
    await replay(replace(where, out=tmp_path / "off", sets=[*sets, "alerts.deviation_budget=null"]))
    # What no deviation explains shows as drift of the machine, hours later.
    assert set(re.findall(r'"kind":"(\w+)"', (tmp_path / "off/alerts.jsonl").read_text())) <= {"drift"}
