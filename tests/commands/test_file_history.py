"""Files as history, and the order of their lines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.commands.derive import plan_for, settings_for
from daemon.commands.file_history import history_of, newest_first
from daemon.commands.inputs import FileOptions, TableReading, check_reading, reading_of, table_of
from daemon.errors import UsageError
from tests.runtime.scripted import trained_bundle


def lines_file(path: Path, seconds: list[int]) -> Path:
    path.write_text(
        "".join(json.dumps({"asset": "p", "ts": 1767225600 + s, "values": {"a": s}}) + "\n" for s in seconds)
    )
    return path


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(list(range(40)), False), (list(range(40))[::-1], True), ([0, 1, 0, 3, 2, 5], False), ([5], False)],
)
async def test_lines_that_are_newest_first_are_known(
    tmp_path: Path, seconds: list[int], expected: bool
) -> None:
    path = lines_file(tmp_path / "a.jsonl", seconds)
    plan = plan_for(settings_for(FileOptions(), path, None)[0], None, path.name)
    assert newest_first(path, plan) is expected


async def test_the_history_of_lines_does_not_depend_on_their_order(tmp_path: Path) -> None:
    rising = lines_file(tmp_path / "a.jsonl", list(range(60)))
    falling = lines_file(tmp_path / "b.jsonl", list(range(60))[::-1])
    plan = plan_for(settings_for(FileOptions(), rising, None)[0], None, "a")
    first, second = [await history_of(path, plan, ()) for path in (rising, falling)]
    assert [s.values.tolist() for s in first] == [s.values.tolist() for s in second]
    assert first[0].values[:, 0].tolist() == [float(i) for i in range(60)]


def test_options_name_columns_of_tables_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--tz 'Nowhere' is no time zone"):
        reading_of([], None, None, None, "Nowhere", None)
    path = lines_file(tmp_path / "a.jsonl", [1, 2])
    check_reading(reading_of([], None, None, None, "Europe/Berlin", None), path)
    with pytest.raises(UsageError, match="is JSON: --time, --asset"):
        check_reading(reading_of(["ts"], None, None, None, None, None), path)


def test_a_derived_configuration_judges_as_often_as_its_bundle_was_trained_to(tmp_path: Path) -> None:
    path = lines_file(tmp_path / "a.jsonl", list(range(60)))
    bundle = trained_bundle()
    assert bundle.facts["hop"] == 1
    for hop in (1, 3):
        made = replace(bundle, facts={**bundle.facts, "hop": hop})
        spec = plan_for(settings_for(FileOptions(), path, made)[0], None, path.name).spec
        assert (spec.hop, spec.window) == (hop, 4)


def test_a_derived_configuration_reads_its_own_file_as_the_options_say(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"02.07.2026;{i // 60:02d}:{i % 60:02d};m{k};{i},5\n" for i in range(200) for k in "ab")
    path.write_text("Tag;Uhr;Ort;Wert x\n" + rows)
    options = FileOptions(reading=TableReading(("Tag", "Uhr"), asset="Ort", timezone="Europe/Berlin"))
    settings, notes = settings_for(options, path, None)
    plan = plan_for(settings, None, path.name)
    assert (plan.spec.timezone, plan.spec.sensors, plan.spec.period_ns) == (
        "Europe/Berlin",
        ("Wert x",),
        60 * 10**9,
    )
    assert notes == ["numbers are read with decimal commas"]
    table = table_of(path, plan.spec, (), options.reading)
    assert (table.asset_names, table.values[:3, 0].tolist()) == (("ma", "mb"), [0.5, 0.5, 1.5])
    assert table.time_ns[0] == 1_782_943_200 * 10**9
