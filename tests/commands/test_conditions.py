"""Conditions from end to end: a stream that declares some, trained and replayed from files of any kind."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from daemon.commands.conditions import conditions_in_records, declared_conditions
from daemon.commands.replay import ReplayOptions, replay
from daemon.commands.train import TrainOptions, train_files
from daemon.config import load
from daemon.domain import SECOND_NS, Record, StreamSpec
from daemon.model.bundle import Bundle

START = datetime(2024, 3, 4, tzinfo=UTC)
STREAM = {
    "name": "pumps",
    "topics": ["t"],
    "sensors": ["temp", "flow"],
    "period": "1m",
    "condition": ["mode", "$weekend", "site"],
    "timezone": "Europe/Berlin",
    "assets": {"p1": {"site": "north"}},
}
LINEAR = ["model.kind=ppca"]


def rows(count: int, skip: int, seed: int, wash: range = range(0)) -> list[tuple[str, float, float, str]]:
    """(time, temp, flow, mode) of one pump that goes from mode to mode."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        mode = "wash" if i in wash else "low" if i // 150 % 2 else "high"
        temp, flow = {"low": (20.0, 3.0), "high": (45.0, 6.0), "wash": (60.0, 1.0)}[mode]
        swing = np.sin((skip + i) / 17.0)
        noise = rng.standard_normal(2)
        when = (START + timedelta(minutes=skip + i)).isoformat()
        made.append((when, temp + 5 * swing + 0.4 * noise[0], flow + 0.6 * swing + 0.05 * noise[1], mode))
    return made


def as_csv(path: Path, made: list[tuple[str, float, float, str]]) -> Path:
    lines = [f"{when},p1,{temp:.4f},{flow:.4f},{mode}" for when, temp, flow, mode in made]
    path.write_text("\n".join(["timestamp,asset,temp,flow,mode", *lines]) + "\n")
    return path


def as_lines(path: Path, made: list[tuple[str, float, float, str]]) -> Path:
    path.write_text(
        "".join(
            json.dumps(
                {
                    "asset": "p1",
                    "ts": when,
                    "values": {"temp": round(temp, 4), "flow": round(flow, 4)},
                    "condition": {"mode": mode},
                }
            )
            + "\n"
            for when, temp, flow, mode in made
        )
    )
    return path


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text(yaml.safe_dump({"streams": [STREAM]}))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Path:
    import asyncio

    folder = tmp_path_factory.mktemp("model")
    train = as_csv(folder / "train.csv", rows(3_000, 0, 0))
    asyncio.run(train_files(TrainOptions([train], folder / "model", config=config, sets=LINEAR)))
    return folder / "model"


LOW, HIGH = "mode=low,site=north,$weekend=no", "mode=high,site=north,$weekend=no"


async def test_lines_and_tables_give_the_same_conditions(tmp_path: Path, config: Path, model: Path) -> None:
    lines = as_lines(tmp_path / "train.jsonl", rows(3_000, 0, 0))
    other, notes = await train_files(TrainOptions([lines], tmp_path / "model", config=config, sets=LINEAR))
    bundle = Bundle.load(model)
    assert bundle.conditions == (HIGH, LOW)
    assert other.version == bundle.version
    assert "training held 1 of the 2 values of $weekend: others are scored as unknown" in notes


@pytest.mark.parametrize("kind", [as_csv, as_lines])
async def test_an_unknown_mode_opens_one_alert_and_an_untrained_weekend_none(
    tmp_path: Path, config: Path, model: Path, kind: object
) -> None:
    """The rows go on into Wednesday, then (after a gap) there is a Saturday."""
    test = rows(700, 3_000, 1, wash=range(310, 360)) + rows(200, 5 * 1_440, 2)
    path = kind(tmp_path / "test.any", test) if kind is as_lines else kind(tmp_path / "test.csv", test)  # type: ignore[operator]
    if kind is as_lines:
        path = path.rename(tmp_path / "test.jsonl")
    await replay(ReplayOptions(path, tmp_path / "out", config=config, model=model))
    alerts = [json.loads(line) for line in (tmp_path / "out/alerts.jsonl").read_text().splitlines()]
    unknown = [
        (event["type"].split(".")[3], event["data"]["sensor"])
        for event in alerts
        if event["data"]["kind"] == "unknown_condition"
    ]
    name = "mode=wash,site=north"
    assert unknown == [("opened", name), ("closed", name)]
    scores = pq.read_table(tmp_path / "out/scores.parquet")["score"].to_numpy()
    assert np.isfinite(scores[20:700]).all()  # scored as unknown, not left out
    # A Saturday is scored as unknown, and that alone is no alarm.
    alarm = pq.read_table(tmp_path / "out/scores.parquet")["alarm"].to_numpy()
    assert alarm[700:].mean() < 0.1


async def test_without_a_configuration_the_fields_are_those_of_the_model(tmp_path: Path, model: Path) -> None:
    test = as_csv(tmp_path / "test.csv", rows(400, 3_000, 1))
    done = await replay(ReplayOptions(test, tmp_path / "out", model=model))
    kinds = Counter(
        json.loads(line)["data"]["sensor"]
        for line in (tmp_path / "out/alerts.jsonl").read_text().splitlines()
        if json.loads(line)["data"]["kind"] == "unknown_condition"
    )
    # Who is where stands in the config alone: without it the site is not known, which is noted.
    assert set(kinds) == {"mode=high,site=?", "mode=low,site=?"}
    assert any("condition 'site' is no column" in note for note in done.notes)


async def test_a_config_without_the_models_conditions_is_noted(tmp_path: Path, model: Path) -> None:
    bare = tmp_path / "config.yaml"
    bare.write_text(yaml.safe_dump({"streams": [STREAM | {"condition": []}]}))
    test = as_csv(tmp_path / "test.csv", rows(100, 3_000, 1))
    done = await replay(ReplayOptions(test, tmp_path / "out", config=bare, model=model))
    assert any("it learned condition [mode, $weekend, site], the stream has []" in n for n in done.notes)


# ------------------------------------------------------------------ check
def test_check_reports_condition_fields_that_are_not_used() -> None:
    settings = load(None, (), {"streams": [STREAM | {"condition": ["$hour", "$weekday"]}]})
    many, unused = declared_conditions(stream.spec() for stream in settings.streams)
    assert many.ok
    assert "168 labels" in many.detail
    assert "assets say site" in unused.detail
    quiet = load(None, (), {"streams": [STREAM]})
    assert declared_conditions(stream.spec() for stream in quiet.streams) == []


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"mode": "low"}, {}], "2 labels in the newest 2 readings"),
        ([{}, {"other": 1}], "mode never appears in the newest 2 readings"),
        ([], "nothing can be said"),
    ],
)
def test_check_reports_a_condition_that_never_appears(
    messages: list[dict[str, object]], expected: str
) -> None:
    spec = StreamSpec("s", ("x",), condition=("mode", "site"), assets={"p1": {"site": "north"}})
    records = [
        Record(
            i,
            None,
            json.dumps({"asset": "p1", "ts": 1.7e9 + i, "values": {"x": 1}, "condition": m}).encode(),
            1_700_000_009 * SECOND_NS,
        )
        for i, m in enumerate(messages)
    ]
    found = conditions_in_records(spec, [*records, Record(9, None, b"garbage", 0)])
    assert found.ok
    assert expected in found.detail
    assert "site" not in found.detail
