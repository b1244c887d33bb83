"""``explain --alert`` and ``--at``: the episode that an alert named, found again in its file, and the page of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daemon.commands.replay import ReplayOptions, replay
from daemon.commands.root_cause import RootCauseOptions, explain_alert, root_cause
from daemon.commands.root_cause.window import jump_of
from daemon.commands.train import TrainOptions, train_files
from daemon.errors import InputError, UsageError
from daemon.model.bundle import Bundle
from daemon.model.root_cause import RootCause
from daemon.model.track import Track
from tests.commands.fleet import LINEAR, fleet_table
from tests.running import command

ROWS, SHAKE = 400, 8.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the fleet, rows in which one sensor of all pumps is off at the end, and their alerts."""
    here = tmp_path_factory.mktemp("explain")
    asyncio.run(
        train_files(TrainOptions([fleet_table(here / "train.parquet", 600)], here / "model", sets=LINEAR))
    )
    fleet_table(here / "test.parquet", rows=ROWS, skip=600, shake=SHAKE)
    asyncio.run(replay(ReplayOptions(here / "test.parquet", here / "out", model=here / "model")))
    return here


@pytest.fixture(scope="module")
def alerts(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "out/alerts.jsonl").read_text().splitlines()
    return [a for a in map(json.loads, lines) if a["data"]["kind"] == "anomaly"]


def shaken(alerts: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that opened the episode that began last, of those in which the shaken sensor is most to blame."""
    mine = [a for a in alerts if a["data"]["contributors"][0]["sensor"] == "Pressure"]
    opened = {a["data"]["fingerprint"]: a for a in alerts if a["type"].endswith("opened.v1")}
    return opened[max(mine, key=lambda a: a["data"]["onset"])["data"]["fingerprint"]]


def explained(folder: Path, **options: Any) -> RootCause:
    bundle = Bundle.load(folder / "model")
    return asyncio.run(root_cause(bundle, RootCauseOptions(folder / "test.parquet", **options)))


def test_the_jump_of_an_episode_is_told_where_no_score_opens_one(folder: Path) -> None:
    bundle = Bundle.load(folder / "model")
    scaler, L = bundle.models.scaler, bundle.window
    values = np.tile(scaler.mean, (3 * L, 1))
    values[L + 5, 1] += 50.0 * scaler.scale[1]
    for threshold in (bundle.calibration.threshold, 1e6):
        calibration = replace(bundle.calibration, threshold=threshold)
        track = Track.of(replace(bundle, calibration=calibration).detector(), "a", 100, values)
        found = jump_of(track, 0, len(track.at), 10)
        if threshold < 1e6:
            assert found is None
        else:
            assert found is not None
            assert (found.sensor, found.row_ns) in [(1, (100 + L + 5) * 10), (1, (100 + L + 6) * 10)]
            assert jump_of(track, 0, 3, 10) is None


def test_an_alert_is_found_by_id_fingerprint_or_their_beginning(
    folder: Path, alerts: list[dict[str, Any]]
) -> None:
    message = shaken(alerts)
    whole = explained(folder, alert=message["id"])
    assert whole.incident is not None
    assert whole.incident.fingerprint == message["data"]["fingerprint"]
    assert whole.asset == message["subject"]
    assert message["id"] in whole.incident.ids
    for name in (message["data"]["fingerprint"], message["data"]["fingerprint"][:12]):
        assert explained(folder, alert=name).as_dict() == whole.as_dict()


def test_the_broken_sensor_is_named_with_its_normal_twin(folder: Path, alerts: list[dict[str, Any]]) -> None:
    found = explained(folder, alert=shaken(alerts)["id"])
    names = [found.sensors[c] for c in found.repair.sensors]
    assert names == ["Pressure"]
    observed, twin, low, high = found.reading(found.repair.sensors[0])
    assert observed - twin == pytest.approx(SHAKE, abs=2.0)
    assert low <= twin <= high < observed
    document = found.as_dict()
    assert document["verdict"]["cause"] == "broken_sensor"
    assert document["repair"]["sensors"] == ["Pressure"]
    assert (
        document["repair"]["score_after"]
        <= document["normal_up_to"]
        < document["threshold"]
        < document["score"]
    )
    assert document["contributors"][0]["sensor"] == "Pressure"
    assert len(document["window"]["sensors"]["Pressure"]["twin"]) == Bundle.load(folder / "model").window


def test_scores_and_blame_are_those_that_were_published(folder: Path, alerts: list[dict[str, Any]]) -> None:
    message = shaken(alerts)
    found = explained(folder, alert=message["id"])
    scores = pq.read_table(folder / "out/scores.parquet").to_pydict()
    published = {
        (asset, int(time.timestamp()) // 60 * 60 * 10**9): score
        for asset, time, score in zip(scores["asset"], scores["timestamp"], scores["score"], strict=True)
        if np.isfinite(score)  # of a line that was sent twice one has none
    }
    rows = [i for i, time_ns in enumerate(found.times_ns.tolist()) if (found.asset, time_ns) in published]
    assert len(rows) > 30
    for i in rows:
        assert found.scores[i] == published[found.asset, int(found.times_ns[i])]
    last = [a for a in alerts if a["data"]["fingerprint"] == message["data"]["fingerprint"]][-1]
    shares = {c["sensor"]: c["share"] for c in last["data"]["contributors"]}
    assert max(shares, key=shares.__getitem__) == found.sensors[int(np.argmax(found.shares))]


def test_a_time_is_explained_in_an_episode_and_out_of_it(folder: Path, alerts: list[dict[str, Any]]) -> None:
    message = shaken(alerts)
    inside = explained(folder, at=message["data"]["row"], asset=message["subject"])
    assert inside.incident is not None
    assert inside.incident.fingerprint == message["data"]["fingerprint"]
    quiet = pq.read_table(folder / "out/scores.parquet").to_pydict()
    calm = [
        (score, time)
        for asset, time, score in zip(quiet["asset"], quiet["timestamp"], quiet["score"], strict=True)
        if asset == message["subject"] and np.isfinite(score)
    ]
    _, time = min(calm)
    outside = explained(folder, at=time.isoformat(), asset=message["subject"])
    assert outside.incident is None
    assert outside.verdict.cause is None
    assert outside.repair.sensors == ()
    assert outside.as_dict()["alert"] is None


def test_past_episodes_are_compared_and_shown_with_their_feedback(
    folder: Path, alerts: list[dict[str, Any]], tmp_path: Path
) -> None:
    message = shaken(alerts)
    earlier = json.loads(json.dumps(message))
    earlier["data"] |= {"fingerprint": "0123456789abcdef", "onset": "2020-01-01T00:00:00Z"}
    earlier["data"] |= {"opened": "2020-01-01T00:00:00Z", "row": "2020-01-01T00:05:00Z"}
    (tmp_path / "alerts.jsonl").write_text(json.dumps(earlier) + "\n")
    feedback = [
        {"fingerprint": "0123456789abcdef", "verdict": "false alarm"},
        {"fingerprint": "0123456789abcdef", "verdict": "real", "note": "sensor <b>replaced</b>"},
    ]
    (tmp_path / "feedback.jsonl").write_text("\n".join(map(json.dumps, feedback)))
    found = explained(
        folder, alert=message["id"], alerts=tmp_path / "alerts.jsonl", feedback=tmp_path / "feedback.jsonl"
    )
    mine = next(n for n in found.nearest if n.fingerprint == "0123456789abcdef")
    assert (mine.verdict, mine.note) == ("real", "sensor <b>replaced</b>")
    assert mine.likeness > 0.8
    assert all(n.verdict is None for n in found.nearest if n is not mine)
    assert all(n.onset_ns < found.since_ns for n in found.nearest)
    # What the file itself holds is not counted twice.
    again = explained(folder, alert=message["id"], alerts=folder / "out/alerts.jsonl")
    assert again.nearest
    assert len({n.fingerprint for n in again.nearest}) == len(again.nearest)
    assert again.incident is not None
    assert again.incident.fingerprint not in {n.fingerprint for n in again.nearest}


def test_the_page_is_complete_loads_nothing_and_escapes_names(
    folder: Path, alerts: list[dict[str, Any]], tmp_path: Path
) -> None:
    message = shaken(alerts)
    (tmp_path / "feedback.jsonl").write_text("")
    page = tmp_path / "why.html"
    asyncio.run(
        explain_alert(
            folder / "model",
            page,
            RootCauseOptions(
                folder / "test.parquet", alert=message["id"], feedback=tmp_path / "feedback.jsonl"
            ),
        )
    )
    text = page.read_text()
    body = text[: text.index("plotly.js v")]
    assert "default-src 'none'" in body
    assert "<script src" not in text
    assert "Pressure" in body
    assert message["subject"] in body
    for name in ("rc-readings", "rc-window", "rc-path"):
        data = body.split(f'data-figure="{name}">')[1].split("</script>")[0]
        figure = json.loads(data.replace("\\u003c", "<"))
        assert figure["data"]


async def test_an_alert_carries_the_verdict_once_the_episode_has_lasted_a_window(
    folder: Path, tmp_path: Path
) -> None:
    table = pq.read_table(folder / "test.parquet")
    tail = slice(len(table) * 9 // 10, None)
    for name, size in (("Pressure", -8.0), ("Flow", 90.0), ("Current", -9.0), ("VibrationFan", 2.5)):
        values = table[name].to_numpy().copy()
        values[tail] += size
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    pq.write_table(table, tmp_path / "test.parquet")
    await replay(ReplayOptions(tmp_path / "test.parquet", tmp_path / "out", model=folder / "model"))
    lines = map(json.loads, (tmp_path / "out/alerts.jsonl").read_text().splitlines())
    anomalies = [a for a in lines if "anomaly" in a["data"]["kinds"]]
    given = [a for a in anomalies if "verdict" in a["data"]]
    assert {a["data"]["verdict"] for a in given} == {"process_fault"}
    assert len({a["subject"] for a in given}) == 3
    assert all(a["type"] == "io.anomalyd.episode.updated.v1" for a in given)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"alert": "feedfacefeedface"}, "no such episode"),
        ({"alert": ""}, "no such episode"),
        ({}, "either --alert ID or --at TIME"),
        ({"alert": "x", "at": "2026-01-01T00:00:00Z"}, "either --alert ID or --at TIME"),
        ({"at": "yesterday"}, "not a time"),
        ({"at": "2020-01-01T00:00:00Z"}, "needs --asset"),
        ({"at": "2020-01-01T00:00:00Z", "asset": "nobody"}, "no such asset"),
        ({"at": "2020-01-01T00:00:00Z", "asset": "pump-01"}, "no window of pump-01 ends there"),
    ],
)
def test_an_alert_or_time_that_does_not_exist_is_refused_with_those_that_do(
    folder: Path, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UsageError, match=expected):
        explained(folder, **options)


def test_an_unknown_id_is_refused_with_the_known_ones(folder: Path, alerts: list[dict[str, Any]]) -> None:
    fingerprint = shaken(alerts)["data"]["fingerprint"]
    wrong = fingerprint[:-1] + ("0" if fingerprint[-1] != "0" else "1")
    with pytest.raises(UsageError, match=fingerprint):
        explained(folder, alert=wrong)


@pytest.mark.parametrize("line", ["{", "[]", '{"subject": 3}'])
def test_wrong_alerts_and_feedback_files_are_refused(
    folder: Path, alerts: list[dict[str, Any]], tmp_path: Path, line: str
) -> None:
    path = tmp_path / "beside.jsonl"
    path.write_text(line + "\n")
    for option in ("alerts", "feedback"):
        with pytest.raises(InputError, match="line 1"):
            explained(folder, alert=shaken(alerts)["id"], **{option: path})
    with pytest.raises(InputError, match="no such file"):
        explained(folder, alert=shaken(alerts)["id"], feedback=tmp_path / "none.jsonl")


def test_the_command_writes_the_page_and_prints_its_evidence(
    folder: Path, alerts: list[dict[str, Any]], tmp_path: Path
) -> None:
    message = shaken(alerts)
    done = command(
        "explain", folder / "test.parquet", "--model", folder / "model", "--out", tmp_path / "why.html",
        "--alert", message["data"]["fingerprint"][:10], "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["alert"]["fingerprint"] == message["data"]["fingerprint"]
    assert (tmp_path / "why.html").stat().st_size > 1_000_000
    wrong = command(
        "explain", folder / "test.parquet", "--model", folder / "model", "--out", tmp_path / "b.html",
        "--alert", "zz",
    )  # fmt: skip
    assert wrong.returncode == 2
    assert "no such episode" in wrong.stderr
    assert not (tmp_path / "b.html").exists()
