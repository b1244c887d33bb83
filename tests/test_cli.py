"""Every misuse is one clear line and exit code 2; every command explains itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.running import command

CSV = "timestamp,a,b\n2026-01-01T00:00:00Z,1,2\n2026-01-01T00:00:01Z,2,3\n"


@pytest.mark.parametrize("name", ["demo", "run", "init", "check", "topics", "train", "replay", "impute"])
def test_help_teaches(name: str) -> None:
    done = command(name, "--help")
    assert done.returncode == 0
    assert len(done.stdout) > 300


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], "frobnicate"),
        (["replay", "absent.parquet", "--out", "o"], "absent.parquet"),
        (["replay", "empty.csv", "--out", "o"], "empty.csv"),
        (["replay", "notime.csv", "--out", "o"], "time"),
        (["replay", "good.csv"], "--out"),
        (["replay", "good.csv", "--out", "o", "--set", "retrain.evry=1h"], "every"),
        (["replay", "good.csv", "--out", "o", "--model", "nowhere"], "nowhere"),
        (["run"], "config.yaml"),
        (["run", "-c", "misspelt.yaml"], "did you mean 'bootstrap_servers'"),
        (["run", "-c", "hardly.yaml"], "exactly_once"),
        (["check", "-c", "absent.yaml"], "absent.yaml"),
        (["train", "good.csv", "--out", "bundle"], "training needs"),
        (["demo", "--duration", "soon"], "--duration"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], says: str) -> None:
    (tmp_path / "good.csv").write_text(CSV)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "notime.csv").write_text("a,b\n1,2\n")
    stream = {"name": "s", "topics": ["t"], "sensors": ["a"]}
    misspelt = {"kafka": {"bootstrap_server": "x"}, "streams": [stream]}
    (tmp_path / "misspelt.yaml").write_text(yaml.safe_dump(misspelt))
    hardly = {"kafka": {"delivery": "hardly_ever"}, "streams": [stream]}
    (tmp_path / "hardly.yaml").write_text(yaml.safe_dump(hardly))
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("anomalyd: ")
    assert says in last
    assert "Traceback" not in done.stderr


def test_init_writes_a_configuration_that_loads(tmp_path: Path) -> None:
    rows = "".join(f"2026-01-01T00:{i // 60:02d}:{i % 60:02d}Z,{i % 7},{i % 5}\n" for i in range(600))
    (tmp_path / "sample.csv").write_text("timestamp,a,b\n" + rows)
    done = command("init", "sample.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert command("check", cwd=tmp_path).returncode == 0
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert list(written["streams"][0]["sensors"]) == ["a", "b"]
    again = command("init", "sample.csv", cwd=tmp_path)
    assert again.returncode == 2
    assert "--force" in again.stderr
