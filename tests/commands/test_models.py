"""``models``: the versions in a directory, and in the topic of a running daemon."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from daemon.adapters.registry import DecisionRecord, ModelDirectory, TriggerFact
from daemon.adapters.simulator import SENSORS, Fleet
from daemon.commands.demo import START
from daemon.commands.models import (
    ModelsOptions,
    diff_models,
    export_model,
    import_model,
    list_models,
    promote_model,
    retire_model,
    roll_back,
    show_model,
)
from daemon.commands.models.described import described
from daemon.commands.models.registries import opened
from daemon.commands.models.tables import diff_lines, list_rows, recall_rows, sensor_rows, show_lines
from daemon.commands.train import TrainOptions, train_files
from daemon.errors import BundleError, UsageError
from daemon.model.bundle import Bundle
from daemon.model.decision import Decision, Rule
from daemon.runtime.deciding import into_shadow
from daemon.trigger import Cause, in_words
from tests.commands.fleet import LINEAR, fleet_table
from tests.running import Daemon, command, config_for, make_topic, send, unique

STREAM = {"period": "1m", "allowed_lateness": "2m", "max_gap": "20m", "silent_after": "20m"}


def written(path: Path, **stream: Any) -> Path:
    """A configuration as a file."""
    path.write_text(yaml.safe_dump(config_for("localhost:1", "t", "p", SENSORS, **STREAM | stream)))
    return path


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """A first model, its successor, and a candidate that the gate refused."""
    folder = tmp_path_factory.mktemp("line")
    options = TrainOptions(
        [fleet_table(folder / "train.parquet")],
        folder / "model",
        config=written(folder / "config.yaml"),
        sets=LINEAR,
    )
    loaded, _ = asyncio.run(train_files(options))
    first = replace(loaded, facts={**loaded.facts, "trigger": "first"})
    figures = {
        "recall_all": 0.7,
        "recall_spike": 0.9,
        "incumbent_recall_all": 0.6,
        "incumbent_recall_spike": 0.8,
    }
    passed = Decision(True, "not worse than the incumbent", (Rule("episodes", 1, 4.5, passed=True),), figures)
    scaler = first.models.scaler
    mean = scaler.mean.copy()
    mean[0] += 2.0 * scaler.scale[0]
    moved = replace(scaler, mean=mean)
    second = replace(
        first,
        models=replace(first.models, scaler=moved),
        calibration=replace(first.calibration, threshold=2.0 * first.calibration.threshold),
        facts={**first.facts, "trigger": "schedule", "parent": first.version, "decision": passed.facts()},
    )
    rules = (Rule("finite", 0, 0, passed=True), Rule("anchor_distance", 4.2, 3.0, passed=False))
    refused = Decision(False, "Flow has moved 4.2 standard deviations", rules, figures)
    facts = {**second.facts, "trigger": "drift", "parent": second.version, "decision": refused.facts()}
    return [first, second, replace(second, facts=facts)]


@pytest.fixture
def kept(tmp_path: Path, line: list[Bundle]) -> ModelsOptions:
    """A directory with all three; the first two were promoted."""
    models = ModelDirectory(tmp_path / "models")
    for i, one in enumerate(line):
        models.add("pumps", one.version, one.write, trained_ns=(1_700_000_000 + i) * 10**9)
    models.promote("pumps", line[0].version, "first model", "anomalyd", "2026-01-01T00:00:00Z")
    models.promote(
        "pumps", line[1].version, "not worse than the incumbent", "anomalyd", "2026-01-02T00:00:00Z"
    )
    return ModelsOptions(directory=tmp_path / "models")


async def test_a_candidate_in_shadow_is_named_while_its_parent_is_in_force(
    kept: ModelsOptions, line: list[Bundle]
) -> None:
    candidate = DecisionRecord("pumps", TriggerFact("drift"), True, "", "", line[2].version, line[1].version)
    async with opened(kept) as models:
        record = into_shadow(candidate, 0, 6 * 3600 * 10**9)
        shadowed = replace(models, candidates={"pumps": record})
        entries = [await described(shadowed, "pumps", one.version) for one in line]
        other = msgspec.structs.replace(record, parent="another")
        void = replace(models, candidates={"pumps": other})
        assert (await described(void, "pumps", line[2].version))["shadow_until"] is None
    assert [one["shadow_until"] for one in entries] == [None, None, "1970-01-01T06:00:00Z"]
    states = [row[1] for row in list_rows(entries)]
    assert states == ["before", "in force", "in shadow until\n1970-01-01 06:00"]
    shown = await show_model(kept, line[2].version) | {"shadow_until": "1970-01-01T06:00:00Z"}
    assert show_lines(shown)[0].endswith("of stream pumps, in shadow until 1970-01-01 06:00")


async def in_force(options: ModelsOptions) -> list[str]:
    return [one["version"] for one in await list_models(options) if one["promoted"]]


async def test_the_list_says_what_each_version_is_and_why(kept: ModelsOptions, line: list[Bundle]) -> None:
    first, second, third = await list_models(kept)
    assert [one["version"] for one in (first, second, third)] == [one.version for one in line]
    assert [one["promoted"] for one in (first, second, third)] == [False, True, False]
    assert [one["promoted_before"] for one in (first, second, third)] == [True, False, False]
    assert [one["trigger"] for one in (first, second, third)] == ["first", "schedule", "drift"]
    assert [one["parent"] for one in (first, second, third)] == [None, line[0].version, line[1].version]
    assert second["trained_at"] == "2023-11-14T22:13:21Z"
    assert (second["reason"], second["by"]) == ("not worse than the incumbent", "anomalyd")
    assert second["at"] == "2026-01-02T00:00:00Z"
    assert (third["reason"], third["by"], third["at"]) == (line[2].facts["decision"]["reason"], None, None)
    assert third["gate"]["refused_by"] == "anchor_distance"
    assert first["rows"] == 1500
    assert (first["from"], first["until"]) == ("2026-01-05T00:00:00Z", "2026-01-05T08:19:00Z")
    assert not any(one["unreadable"] for one in (first, second, third))


async def test_a_version_shows_lineage_rows_rules_and_promotions(
    kept: ModelsOptions, line: list[Bundle]
) -> None:
    refused = await show_model(kept, line[2].version[:6])
    assert [(r["name"], r["passed"]) for r in refused["decision"]["rules"]] == [
        ("finite", True),
        ("anchor_distance", False),
    ]
    assert (refused["promotions"], refused["children"]) == ([], [])
    shown = await show_model(kept, line[1].version)
    assert shown["promotions"] == [
        {
            "reason": "not worse than the incumbent",
            "by": "anomalyd",
            "at": "2026-01-02T00:00:00Z",
            "in_force": True,
        }
    ]
    assert shown["children"] == [line[2].version]
    assert shown["rows_of"] == {"pump-01": 500, "pump-02": 500, "pump-03": 500}
    assert shown["concerns"] == list(line[1].concerns)
    json.dumps(shown, allow_nan=False)


async def test_rollbacks_walk_down_the_promotions(kept: ModelsOptions, line: list[Bundle]) -> None:
    a, b, c = (one.version for one in line)
    done = await promote_model(kept, c, "", "kim")
    assert done.document["before"] == b
    assert done.notes == ["the gate had refused it: Flow has moved 4.2 standard deviations"]
    assert "promoted already" in (await promote_model(kept, c, "", "kim")).says
    done = await roll_back(kept, "it alarms all night", "robin")
    assert (done.document["version"], done.document["before"]) == (b, c)
    assert (await show_model(kept, b))["reason"] == f"rolled back from {c}: it alarms all night"
    assert await in_force(kept) == [b]
    await roll_back(kept, "", "robin")
    assert await in_force(kept) == [a]
    with pytest.raises(UsageError, match=f"no version was promoted before {a}; promote one of {b} and {c}"):
        await roll_back(kept, "", "robin")
    assert await in_force(kept) == [a]


async def test_a_rollback_skips_what_is_damaged_and_says_so(kept: ModelsOptions, line: list[Bundle]) -> None:
    a, b, c = (one.version for one in line)
    await promote_model(kept, c, "", "")
    assert kept.directory is not None
    place = kept.directory / "pumps" / b
    shutil.rmtree(place)
    shutil.copytree(kept.directory / "pumps" / a, place)
    assert "damaged" in next(e["unreadable"] for e in await list_models(kept) if e["version"] == b)
    done = await roll_back(kept, "", "")
    assert done.notes == [f"{b} is skipped: version {b} of stream pumps holds model {a}: it is damaged"]
    assert await in_force(kept) == [a]


async def test_the_promoted_version_is_not_retired(kept: ModelsOptions, line: list[Bundle]) -> None:
    with pytest.raises(UsageError, match="is promoted: promote another one, or roll back"):
        await retire_model(kept, line[1].version)
    done = await retire_model(kept, line[0].version)
    assert done.notes == [f"{line[0].version} was promoted before: a rollback goes past it"]
    assert [one["version"] for one in await list_models(kept)] == [line[1].version, line[2].version]


async def test_a_model_that_does_not_say_where_it_comes_from_is_shown(
    line: list[Bundle], tmp_path: Path
) -> None:
    known = {"active_units": line[0].facts["active_units"]}
    replace(line[0], facts=known).save(tmp_path / "old")
    options = ModelsOptions(directory=tmp_path / "models", stream="pumps")
    with pytest.raises(UsageError, match="is of stream 'unknown': name a stream with --stream"):
        await import_model(replace(options, stream=None), tmp_path / "old", False, "", "")
    version = (await import_model(options, tmp_path / "old", False, "", "")).document["version"]
    shown = await show_model(options, version)
    assert (shown["parent"], shown["trigger"], shown["rows"], shown["gate"]) == (None, None, None, None)
    assert "no decision is known" in "\n".join(show_lines(shown))


async def test_a_folder_that_holds_no_model_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos" / "holidays").mkdir(parents=True)
    anywhere = ModelsOptions(directory=tmp_path)
    assert await list_models(anywhere) == []
    with pytest.raises(UsageError, match="has no version 'holidays'; it has none"):
        await retire_model(anywhere, "holidays")
    with pytest.raises(BundleError, match="nowhere: no directory of models: No such file or directory"):
        await list_models(ModelsOptions(directory=tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="has no model yet"):
        await roll_back(anywhere, "", "")
    assert (tmp_path / "photos" / "holidays").is_dir()


async def test_what_is_meant_must_be_clear(kept: ModelsOptions, line: list[Bundle]) -> None:
    assert kept.directory is not None
    models = ModelDirectory(kept.directory)
    with pytest.raises(
        UsageError, match=f"has no version 'zzz'; it has {line[0].version}, {line[1].version} and"
    ):
        await show_model(kept, "zzz")
    with pytest.raises(UsageError, match="has no version ''"):
        await promote_model(kept, "", "", "")
    models.add("pumps", line[0].version[:2] + "zz", line[0].write)
    with pytest.raises(UsageError, match=f"version '{line[0].version[:2]}' may be .* or .*: give more of it"):
        await show_model(kept, line[0].version[:2])
    models.add("fans", line[0].version, line[0].write)
    with pytest.raises(UsageError, match=r"is of 2 streams: name one with --stream \(fans and pumps\)"):
        await show_model(kept, line[0].version)
    assert (await show_model(replace(kept, stream="fans"), line[0].version))["stream"] == "fans"
    assert (await show_model(kept, line[1].version))["stream"] == "pumps"  # only one stream has it
    with pytest.raises(
        UsageError, match=r"has models of 2 streams: name one with --stream \(fans and pumps\)"
    ):
        await roll_back(kept, "", "")
    with pytest.raises(UsageError, match="has no model of stream 'pump'; it has models of fans and pumps"):
        await list_models(replace(kept, stream="pump"))


async def test_a_model_that_the_configured_stream_cannot_use_is_refused(
    kept: ModelsOptions, line: list[Bundle], tmp_path: Path
) -> None:
    checked = replace(kept, config=written(tmp_path / "config.yaml", window=8))
    for work in (
        promote_model(checked, line[2].version, "", ""),
        roll_back(checked, "", ""),
        import_model(checked, kept.directory / "pumps" / line[0].version, True, "", ""),  # type: ignore[operator]
    ):
        with pytest.raises(BundleError, match="does not fit stream pumps: its window 16, the stream's 8"):
            await work
    assert await in_force(kept) == [line[1].version]


async def test_a_version_goes_out_and_comes_back(
    kept: ModelsOptions, line: list[Bundle], tmp_path: Path
) -> None:
    await export_model(kept, line[1].version, tmp_path / "out")
    assert Bundle.load(tmp_path / "out").version == line[1].version
    other = ModelsOptions(directory=tmp_path / "other")
    done = await import_model(other, tmp_path / "out", False, "", "")
    assert done.document == {"stream": "pumps", "version": line[1].version, "added": True, "promoted": False}
    assert await in_force(other) == []
    done = await import_model(other, tmp_path / "out", True, "from the other plant", "kim")
    assert (done.document["added"], done.document["before"]) == (False, None)
    (entry,) = await list_models(other)
    assert (entry["promoted"], entry["reason"], entry["by"]) == (True, "from the other plant", "kim")
    assert entry["trained_at"] == "2023-11-14T22:13:21Z"
    await import_model(replace(other, stream="fans"), tmp_path / "out", False, "", "")
    assert [one["stream"] for one in await list_models(other)] == ["fans", "pumps"]
    with pytest.raises(UsageError, match="out: holds a bundle already, which is not replaced"):
        await export_model(kept, line[0].version, tmp_path / "out")
    assert Bundle.load(tmp_path / "out").version == line[1].version
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(BundleError, match="is no model bundle"):
        await export_model(kept, line[1].version, tmp_path / "full")


async def test_an_imported_model_is_of_the_configured_stream(line: list[Bundle], tmp_path: Path) -> None:
    replace(line[0], facts={**line[0].facts, "stream": "file"}).save(tmp_path / "b")
    config = config_for("localhost:1", "t", "p", SENSORS, **STREAM)
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(config))
    config["streams"].append({**config["streams"][0], "name": "fans", "topics": ["u"]})
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(config))
    options = ModelsOptions(tmp_path / "one.yaml", directory=tmp_path / "models")
    assert (await import_model(options, tmp_path / "b", False, "", "")).document["stream"] == "pumps"
    with pytest.raises(
        UsageError, match="is of stream 'file': name a stream with --stream; the configuration has"
    ):
        await import_model(replace(options, config=tmp_path / "two.yaml"), tmp_path / "b", False, "", "")


async def test_a_difference_is_in_units_and_in_deviations_of_the_older_model(
    kept: ModelsOptions, line: list[Bundle]
) -> None:
    a, b, c = (one.version for one in line)
    found = (await diff_models(kept, a, b, None)).document
    (moved,) = found["sensors"]
    assert (moved["sensor"], moved["moved_sd"], moved["spread_ratio"]) == (
        line[0].sensors[0],
        pytest.approx(2.0),
        1.0,
    )
    assert moved["moved"] == pytest.approx(2.0 * line[0].models.scaler.scale[0])
    back = (await diff_models(kept, b, a, None)).document
    assert (back["older"], back["sensors"][0]["moved_sd"]) == (a, pytest.approx(-2.0))
    assert found["threshold"]["b"] == 2.0 * found["threshold"]["a"]
    assert found["agreement"] is None
    spike = {"kind": "spike", "a": 0.8, "b": 0.9}
    assert found["recall"]["kinds"][0] == spike
    assert back["recall"]["kinds"][0] == {"kind": "spike", "a": 0.9, "b": 0.8}
    assert "the same faults" in found["recall"]["source"]
    assert "other faults" in (await diff_models(kept, a, c, None)).document["recall"]["source"]


async def test_alarms_are_compared_on_the_rows_that_both_score(
    kept: ModelsOptions, line: list[Bundle], tmp_path: Path
) -> None:
    rows = fleet_table(tmp_path / "rows.parquet", rows=120, skip=500, shake=40.0)
    found = (await diff_models(kept, line[0].version, line[2].version, rows)).document
    agreed = found["agreement"]
    assert agreed["both"] + agreed["only_a"] + agreed["only_b"] + agreed["neither"] == pytest.approx(1.0)
    assert agreed["both"] > 0.0
    assert agreed["rows"] == 3 * (120 - 15)
    assert found["recall"]["source"].endswith("faults injected into rows.parquet")
    assert {k["kind"] for k in found["recall"]["kinds"]} > {"spike", "shift", "all"}
    json.dumps(found, allow_nan=False)


async def test_tables_say_the_same_in_words(kept: ModelsOptions, line: list[Bundle], tmp_path: Path) -> None:
    first, second, third = (one.version for one in line)
    rows = list_rows(await list_models(kept))
    assert [row[0] for row in rows] == [f"{version}\npumps" for version in (first, second, third)]
    assert [row[1] for row in rows] == ["before", "in force", ""]
    assert [row[2].splitlines()[1] for row in rows] == ["as the first", "by schedule", "for drift"]
    assert [row[4].splitlines()[0] for row in rows[1:]] == ["passed", "refused: anchor_distance"]
    text = "\n".join(show_lines(await show_model(kept, third)))
    assert "REFUSED  anchor_distance     distance from the anchor: 4.2, must be at most 3" in text
    assert f"trigger: drift, parent: {second}" in text
    assert "1,500 rows of 3 assets, 2026-01-05 00:00 to 2026-01-05 08:19" in text
    assert "by anomalyd: not worse than the incumbent" in "\n".join(
        show_lines(await show_model(kept, second))
    )
    found = (await diff_models(kept, first, second, None)).document
    assert "threshold" in "\n".join(diff_lines(found))
    assert "+100%" in "\n".join(diff_lines(found))
    assert sensor_rows(found)[0][0][4] == "+2.00"
    assert recall_rows(found) == [("spike", "80%", "90%"), ("all", "60%", "70%")]
    small = {**found["sensors"][0], "moved_sd": 0.09}
    assert sensor_rows({"sensors": [small]}) == ([], 1)
    rowwise = (await diff_models(kept, first, second, fleet_table(tmp_path / "r.parquet", rows=60))).document
    text = "\n".join(diff_lines(rowwise))
    assert "anomalies on 135 rows of r.parquet: both" in text
    assert "(deviations and other kinds are not compared)" in text


@pytest.mark.parametrize(("cause", "said"), [*((one, None) for one in Cause), ("new", "new")])
def test_why_a_model_was_trained_reads_as_a_phrase(cause: str, said: str | None) -> None:
    words = in_words(cause)
    assert words == said or re.fullmatch(r"(as|by|for|after|on) [a-z ]+", words)
    assert "by by" not in words


def test_the_commands_on_a_directory(kept: ModelsOptions, line: list[Bundle], tmp_path: Path) -> None:
    assert kept.directory is not None
    first, second, third = (one.version for one in line)
    done = command("models", "rollback", "--directory", kept.directory, "--json", "--by", "kim")
    assert done.returncode == 0, done.stderr
    expected = {"stream": "pumps", "version": first, "before": second, "reason": f"rolled back from {second}"}
    assert json.loads(done.stdout) == expected | {"by": "kim"}
    done = command("models", "list", "--directory", kept.directory)
    assert done.returncode == 0, done.stderr
    assert all(version in done.stdout for version in (first, second, third)), done.stdout
    done = command("models", "list", "--directory", tmp_path / "nowhere")
    assert done.returncode == 2
    assert (
        done.stderr
        == f"anomalyd: {tmp_path / 'nowhere'}: no directory of models: No such file or directory\n"
    )


@pytest.mark.kafka
@pytest.mark.slow
def test_a_rollback_reaches_a_running_daemon(
    kafka_bootstrap: str, tmp_path: Path, line: list[Bundle]
) -> None:
    topic, prefix = unique("in"), unique("out")
    make_topic(kafka_bootstrap, topic)
    for one in line[:2]:
        one.save(tmp_path / one.version)
    first, second = (one.version for one in line[:2])
    with Daemon(tmp_path, config_for(kafka_bootstrap, topic, prefix, SENSORS, **STREAM)) as daemon:
        daemon.until(lambda state: state["state"] == "learning")
        there = ModelsOptions(daemon.config)
        asyncio.run(import_model(there, tmp_path / first, True, "", "kim"))
        daemon.until(lambda state: state["model"] == first)
        rows = islice(Fleet(0, assets=3).records(START), 120)
        send(kafka_bootstrap, topic, [text for tick in rows for _, text in tick.lines])
        done = asyncio.run(import_model(there, tmp_path / second, True, "", "kim"))
        assert done.document["before"] == first
        daemon.until(lambda state: state["model"] == second)
        rolled = command("models", "rollback", "-c", daemon.config, "--reason", "it alarms all night")
        assert rolled.returncode == 0, rolled.stderr
        assert rolled.stdout == f"pumps: {first} is in force again, {second} no more\n"
        daemon.until(lambda state: state["model"] == first)
        assert daemon.stop() == 0
    listed = {one["version"]: one for one in asyncio.run(list_models(there))}
    assert [version for version, one in listed.items() if one["promoted"]] == [first]
    assert listed[first]["reason"] == f"rolled back from {second}: it alarms all night"
    assert datetime.fromisoformat(listed[first]["at"]).tzinfo is not None
    found = asyncio.run(diff_models(there, first, second, None)).document
    assert found["agreement"]["source"] == topic
    assert found["agreement"]["rows"] > 0
    asyncio.run(export_model(there, second, tmp_path / "out"))
    assert Bundle.load(tmp_path / "out").version == second
    asyncio.run(retire_model(there, second))
    assert [one["version"] for one in asyncio.run(list_models(there))] == [first]
