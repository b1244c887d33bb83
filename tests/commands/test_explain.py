"""``explain``: the page and the document about a model, in real units, the same for the same input."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.budget import Budget
from daemon.commands.explain import ExplainOptions, explain
from daemon.domain import SECOND_NS, AlarmPolicy, Segment, StreamSpec
from daemon.errors import InputError, UsageError
from daemon.model.bundle import Bundle
from daemon.model.latent import STEPS, decode
from daemon.model.training import CalibrationTarget, train
from tests.model.conftest import QUICK, machine
from tests.running import command

SENSORS = ("Pressure", "Current", "Flow", "Idle")
SPEC = StreamSpec("pumps", SENSORS, period_ns=60 * SECOND_NS)
START = datetime(2026, 3, 1, tzinfo=UTC)


def two_states(rows: int, seed: int = 0) -> np.ndarray:
    """(rows, 4): the machine of the model tests by day, at rest from 20 to 6 h."""
    values = machine(rows, seed)
    hour = (np.arange(rows) // 60) % 24
    resting = (hour >= 20) | (hour < 6)
    rng = np.random.default_rng(seed + 7)
    rest = np.array([20.0, 0.1, 0.0, 7.0]) + np.array([1.0, 0.02, 20.0, 0.0]) * rng.standard_normal((rows, 4))
    return np.where(resting[:, None], rest, values)


def write_csv(path: Path, assets: dict[str, np.ndarray]) -> Path:
    lines = ["timestamp,asset," + ",".join(SENSORS)]
    for asset, values in assets.items():
        for i, row in enumerate(values.tolist()):
            cells = ",".join("" if np.isnan(v) else repr(v) for v in row)
            lines.append(f"{(START + timedelta(minutes=i)).isoformat()},{asset},{cells}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle ``m`` and two days of two assets in ``week.csv``, with a fault on the second."""
    folder = tmp_path_factory.mktemp("explain")
    history = [Segment("pump-1", 0, two_states(4_320))]
    train(history, SPEC, QUICK, CalibrationTarget(AlarmPolicy(), Budget(1.0), 60)).save(folder / "m")
    broken = two_states(2_880, 2)
    broken[2_400:2_440, 0] += 400.0
    broken[100:118] = np.nan
    write_csv(folder / "week.csv", {"pump-1": two_states(2_880, 1), "pump-2": broken})
    return folder


async def document(folder: Path, file: str | None = "week.csv", **more: Any) -> dict[str, Any]:
    given = None if file is None else folder / file
    return (await explain(ExplainOptions(folder / "m", folder / "page.html", given, **more))).document


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    return asyncio.run(document(folder))


async def test_the_same_readings_give_the_same_page_byte_for_byte(folder: Path) -> None:
    pages, documents = [], []
    for _ in range(2):
        documents.append(json.dumps(await document(folder)))
        pages.append((folder / "page.html").read_bytes())
    assert documents[0] == documents[1]
    assert pages[0] == pages[1]


def test_a_dimension_is_described_in_the_units_of_its_sensors(folder: Path, found: dict[str, Any]) -> None:
    bundle = Bundle.load(folder / "m")
    active = [d for d in found["dimensions"] if d["active"]]
    assert len(found["dimensions"]) == bundle.models.latents
    assert [d["share"] for d in active] == sorted((d["share"] for d in active), reverse=True)
    for d in active:
        assert {s["sensor"] for s in d["sensors"]} == set(SENSORS)
        assert d["traversal"]["steps"] == list(STEPS)
        assert d["kl"] >= 0
    usual = active[0]["traversal"]["sensors"]["Pressure"][STEPS.index(0)]
    assert all(d["traversal"]["sensors"]["Pressure"][STEPS.index(0)] == usual for d in active)  # one start
    assert 100 < np.mean(usual) < 300  # by day, in its own units: the larger state
    assert found["reference"]["asset"] in ("pump-1", "pump-2")


def test_states_of_the_machine_are_regimes_with_hours_and_values(found: dict[str, Any]) -> None:
    day, night = found["clusters"][:2]
    assert day["share"] == pytest.approx(14 / 24, abs=0.05)
    assert night["share"] == pytest.approx(10 / 24, abs=0.05)
    first, last = night["hours"]
    assert first in (20, 21, 22)
    assert last in (4, 5, 6)
    words = {s["sensor"]: s["word"] for s in night["sensors"]}
    assert words["Pressure"] == "low"
    assert words["Flow"] == "near 0"
    assert "Idle" not in words
    assert "mostly" in night["text"]


def test_episodes_are_those_of_replay_and_marked_on_the_map(
    folder: Path, found: dict[str, Any], tmp_path: Path
) -> None:
    done = command("replay", folder / "week.csv", "--model", folder / "m", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    alerts = [json.loads(line) for line in (tmp_path / "out" / "alerts.jsonl").read_text().splitlines()]
    opened = [a for a in alerts if ".opened." in a["type"] and a["data"]["kind"] == "anomaly"]
    assert found["episode_count"] == len(opened)
    assert {(e["asset"], e["id"]) for e in found["episodes"]} == {
        (a["subject"], a["data"]["fingerprint"]) for a in opened
    }
    assert any(e["asset"] == "pump-2" for e in found["episodes"])
    points = found["map"]["points"]
    ringed = {(points["asset"][i], points["time"][i]) for i, e in enumerate(points["episode"]) if e}
    fault = START + timedelta(minutes=2_410)
    assert (found["map"]["assets"].index("pump-2"), int(fault.timestamp() * 1000)) in ringed
    assert 0 < found["map"]["share"] <= 1


def test_time_shows_when_a_dimension_was_unusual(found: dict[str, Any]) -> None:
    kl = found["kl_over_time"]
    assert len(kl["values"]) == len(kl["dimensions"]) == len(kl["usual"])
    assert all(len(row) == len(kl["time"]) for row in kl["values"])
    fault = int((START + timedelta(minutes=2_420)).timestamp() * 1000)
    at = max(i for i, t in enumerate(kl["time"]) if t <= fault)
    assert kl["episode"][at]
    strips = {s["asset"]: s for s in found["map"]["regimes_over_time"]["strips"]}
    assert set(strips) == {"pump-1", "pump-2"}


async def test_without_readings_there_are_the_dimensions_and_a_note(folder: Path) -> None:
    bare = await document(folder, None)
    assert bare["map"] is bare["kl_over_time"] is bare["set"] is bare["sweep"] is None
    assert bare["clusters"] == bare["episodes"] == []
    assert any(d["active"] for d in bare["dimensions"])
    assert any("without FILE" in note for note in bare["notes"])
    bundle = Bundle.load(folder / "m")
    usual = decode(bundle.models, bundle.drift.latent_mean[None])[0]
    shown = next(d for d in bare["dimensions"] if d["active"])["traversal"]["sensors"]
    np.testing.assert_allclose(shown["Flow"][STEPS.index(0)], usual[:, 2], atol=1.0)


def test_a_window_in_which_nothing_was_observed_is_none(found: dict[str, Any]) -> None:
    whole = 2_880 - 15  # of each asset; of a gap of 18 rows three windows see nothing else
    assert found["windows"] == 2 * whole - 3


# ------------------------------------------------------------------ what if
async def test_a_what_if_shows_how_far_each_sensor_moves(folder: Path) -> None:
    at = (START + timedelta(minutes=700)).isoformat()
    found = await document(folder, what_ifs=["0=+2", "1=-1"], at=at, asset="pump-2")
    what = found["set"]
    assert what["base"]["asset"] == "pump-2"
    assert what["moved"] == [
        {"dimension": 0, "name": None, "sd": 2.0},
        {"dimension": 1, "name": None, "sd": -1.0},
    ]
    lines = (folder / "week.csv").read_text().splitlines()[1:]
    second = [line.split(",") for line in lines if ",pump-2," in line]
    for sensor in what["sensors"]:
        column = 2 + SENSORS.index(sensor["sensor"])
        measured = [float(row[column]) for row in second[700 - 15 : 701]]
        np.testing.assert_allclose(sensor["observed"], measured, rtol=1e-2, atol=0.01)
        change = np.mean(np.subtract(sensor["after"], sensor["before"]))
        assert sensor["change"] == pytest.approx(change, abs=0.1 * max(abs(change), 1))
    sizes = [s["unit_sd"] for s in what["sensors"]]
    assert sizes == sorted(sizes, reverse=True)


# ------------------------------------------------------------------ names
async def test_names_are_kept_with_the_version_and_shown_again(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "m"
    bundle = Bundle.load(folder / "m")
    bundle.save(model)
    page = tmp_path / "p.html"
    await explain(
        ExplainOptions(model, page, folder / "week.csv", names=["0=valve opening", "cluster:2=at rest"])
    )
    assert Bundle.load(model).version == bundle.version
    again = (
        await explain(ExplainOptions(model, page, folder / "week.csv", what_ifs=["valve opening=+1"]))
    ).document
    assert next(d for d in again["dimensions"] if d["dimension"] == 0)["name"] == "valve opening"
    assert [c["name"] for c in again["clusters"][:2]] == [None, "at rest"]
    assert again["set"]["moved"][0]["name"] == "valve opening"

    # Other readings of the same machine, in which it mostly rests: the name goes where it belongs.
    hours = [h for day in range(2) for h in (*range(6), 9, *range(20, 24))]
    values = two_states(2_880, 5)
    values = np.concatenate([values[60 * h : 60 * h + 60] for h in hours])
    other = (
        await explain(ExplainOptions(model, page, write_csv(tmp_path / "night.csv", {"pump-1": values})))
    ).document
    named = [c["name"] for c in other["clusters"]]
    assert named[0] == "at rest"
    assert named[1:] == [None] * (len(named) - 1)

    days = [h for day in range(2) for h in range(24 * day + 6, 24 * day + 20)]
    day = np.concatenate([two_states(2_880, 5)[60 * h : 60 * h + 60] for h in days])
    busy = await explain(ExplainOptions(model, page, write_csv(tmp_path / "day.csv", {"pump-1": day})))
    assert all(c["name"] is None for c in busy.document["clusters"])
    assert any("do not occur in these readings: 1" in note for note in busy.notes)

    both = (await explain(ExplainOptions(model, page, names=["1=load"], what_ifs=["load=-1"]))).document
    assert both["set"]["moved"] == [{"dimension": 1, "name": "load", "sd": -1.0}]

    await explain(ExplainOptions(model, page, None, names=["0="]))
    assert (
        next(
            d
            for d in (await explain(ExplainOptions(model, page))).document["dimensions"]
            if d["dimension"] == 0
        )["name"]
        is None
    )


async def test_names_of_a_former_version_are_noted_and_not_shown(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "m"
    Bundle.load(folder / "m").save(model)
    await explain(ExplainOptions(model, tmp_path / "p.html", names=["0=valve opening"]))
    history = [Segment("pump-1", 0, two_states(3_000, 9))]
    train(history, SPEC, QUICK, CalibrationTarget(AlarmPolicy(), Budget(1.0), 60)).save(
        model
    )  # over the old one
    found = await explain(ExplainOptions(model, tmp_path / "p.html"))
    assert all(d["name"] is None for d in found.document["dimensions"])
    assert any("other versions" in note and "(1 in m.names.json)" in note for note in found.notes)


# ------------------------------------------------------------------ misuse
@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"what_ifs": ["3"]}, "DIMENSION=SD"),
        ({"what_ifs": ["0=much"]}, "DIMENSION=SD"),
        ({"what_ifs": ["0=nan"]}, "DIMENSION=SD"),
        ({"what_ifs": ["0=99"]}, "at most 10 sd"),
        ({"what_ifs": ["400=1"]}, "dimensions 0 to"),
        ({"what_ifs": ["-1=1"]}, "dimensions 0 to"),
        ({"names": ["0"]}, "DIMENSION=NAME"),
        ({"names": ["regime:1=x"]}, "DIMENSION=NAME"),
        ({"names": ["cluster:0=x"]}, "regimes, from 1 on"),
        ({"names": ["cluster:99=x"]}, "regimes, from 1 on"),
        ({"names": [f"0={'x' * 61}"]}, "up to 60"),
        ({"what_ifs": ["0=1"], "at": "noon"}, "ISO 8601"),
        ({"what_ifs": ["0=1"], "at": "2026-03-01T12:00:00Z"}, "name one with --asset"),
        ({"what_ifs": ["0=1"], "asset": "pump-9"}, "the readings are of pump-1, pump-2"),
        ({"what_ifs": ["0=1"], "asset": "pump-1", "at": "2027-01-01T00:00:00Z"}, "no whole window"),
        ({"what_ifs": ["0=1"], "asset": "pump-1", "at": "2026-03-01T00:03:00Z"}, "no whole window"),
        ({"exclude": ["Presure"]}, "did you mean 'Pressure'"),
    ],
)
async def test_misuse_is_a_clear_line(folder: Path, more: dict[str, Any], expected: str) -> None:
    before = sorted(p.name for p in folder.iterdir())
    with pytest.raises(UsageError, match=expected):
        await document(folder, **more)
    assert sorted(p.name for p in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"at": "2026-03-01T12:00:00Z"}, "name a window of FILE"),
        ({"sweep_beta": True}, "give FILE or --train"),
        ({"names": ["cluster:1=x"]}, "names a regime of FILE"),
    ],
)
async def test_options_that_need_readings_are_refused_without_them(
    folder: Path, more: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UsageError, match=expected):
        await document(folder, None, **more)


async def test_readings_of_other_sensors_are_refused(folder: Path) -> None:
    other = folder.parent / "other.csv"
    other.write_text(
        "timestamp,a\n" + "\n".join(f"{(START + timedelta(minutes=i)).isoformat()},{i}" for i in range(60))
    )
    with pytest.raises(InputError, match="none of the stream's sensors"):
        await explain(ExplainOptions(folder / "m", folder.parent / "p.html", other))


def test_the_command_writes_the_page_and_prints_the_same_document(folder: Path, tmp_path: Path) -> None:
    arguments = ["explain", folder / "week.csv", "--model", folder / "m", "--out", tmp_path / "p.html"]
    done = command(*arguments, "--set", "0=+2", "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["set"]["moved"][0]["dimension"] == 0
    assert printed["version"] in (tmp_path / "p.html").read_text()
    done = command(*arguments)
    assert "dimensions in use, 2 regimes" in done.stdout
    done = command(*arguments, "--set", "retrain.every=1h")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("anomalyd: --set retrain.every=1h:")


def test_the_help_has_an_example() -> None:
    done = command("explain", "--help")
    assert done.returncode == 0
    assert "--name" in done.stdout
    assert "valve opening" in done.stdout
