"""Every misuse is one line and exit code 2; every unexpected failure is one line; every command has help."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from tests.running import command, environment, python

CSV = "timestamp,a,b\n2026-01-01T00:00:00Z,1,2\n2026-01-01T00:00:01Z,2,3\n"


@pytest.mark.parametrize(
    "name",
    ["demo", "run", "init", "check", "topics", "train", "replay", "impute", "drill", "explain", "generate"],
)
def test_every_command_has_help(name: str) -> None:
    done = command(name, "--help")
    assert done.returncode == 0
    assert len(done.stdout) > 300


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["frobnicate"], "frobnicate"),
        (["replay", "absent.parquet", "--out", "o"], "absent.parquet"),
        (["replay", "empty.csv", "--out", "o"], "empty.csv"),
        (["replay", "notime.csv", "--out", "o"], "time"),
        (["replay", "good.csv"], "--out"),
        # A training on these few rows would fail with another line: the second file is looked at before it.
        (["replay", "absent.csv", "--train", "good.csv", "--out", "o"], "absent.csv: no such file"),
        (["replay", "bad.parquet", "--train", "good.csv", "--out", "o"], "bad.parquet: not a readable"),
        (
            ["replay", "good.csv", "--train", "good.csv", "--out", "o", "--model", "nowhere"],
            "nowhere: no read",
        ),
        (["replay", "good.csv", "--out", "o", "--set", "retrain.evry=1h"], "every"),
        (["replay", "good.csv", "--out", "o", "--model", "nowhere"], "nowhere"),
        (["generate", "--model", "nowhere", "--out", "o.csv"], "nowhere"),
        (["generate", "--model", "nowhere"], "one of --out FILE"),
        (["generate", "--model", "nowhere", "--out", "o.csv", "--rate", "5/s"], "--rate goes with --topic"),
        (["generate", "--model", "nowhere", "--topic", "t!"], "--topic t!: no name of a topic"),
        (
            ["generate", "--model", "nowhere", "--out", "o.csv", "--rows", "5", "--count", "5"],
            "how much once",
        ),
        (["run"], "config.yaml"),
        (["run", "-c", "misspelt.yaml"], "did you mean 'bootstrap_servers'"),
        (["run", "-c", "hardly.yaml"], "exactly_once"),
        (["check", "-c", "absent.yaml"], "absent.yaml"),
        (["train", "good.csv", "--out", "bundle"], "training needs"),
        (["demo", "--duration", "soon"], "--duration"),
        (["demo", "--port", "99999999"], "65535"),
        (["demo", "--port", "-1"], "--port"),
        (["init", "absent.csv"], "absent.csv: no such file"),
        (["init", "no/such topic"], "no such file"),
        (["replay", "good.csv", "--out", "o", "--exclude", "zzz"], "--exclude zzz"),
        (["replay", "good.csv", "--out", "o", "--label", "aa"], "--label aa: good.csv has no such column"),
        (["replay", "good.jsonl", "--out", "o", "--label", "a"], "labels are read from Parquet and CSV"),
        (["drill", "good.csv", "--model", "nowhere"], "nowhere: no readable model bundle"),
        (["drill", "good.csv"], "--model"),
        (["train", "good.csv", "--out", "good.csv"], "good.csv: exists and is no model bundle"),
        (["train", "good.csv", "--out", "good.csv/b"], "good.csv/b: cannot be written"),
        (["train", "--out", "bundle"], "config.yaml"),
        (["train", "--out", "bundle", "-c", "exactly.yaml", "--exclude", "a"], "exclude"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], expected: str) -> None:
    (tmp_path / "good.csv").write_text(CSV)
    (tmp_path / "good.jsonl").write_text("{}")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "bad.parquet").write_text("PK")
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
    assert expected in last
    assert "Traceback" not in done.stderr


BROKEN = """
from daemon import cli

@cli.app.command()
def broken():
    raise RuntimeError("two\\nlines \x1b[31m")

cli.main()
"""


def test_an_unexpected_error_is_one_line_and_a_traceback_only_on_request() -> None:
    plain, debugged = (python("-c", BROKEN, *arguments) for arguments in (["broken"], ["--debug", "broken"]))
    assert (plain.returncode, debugged.returncode) == (1, 1)
    (line,) = plain.stderr.splitlines()
    assert line.startswith(
        r"anomalyd: failed unexpectedly: RuntimeError: two lines \x1b[31m; this is a fault of"
    )
    assert line.endswith("please report it with what 'anomalyd --debug broken ...' prints")
    assert plain.stdout == ""
    assert "Traceback (most recent call last)" in debugged.stderr
    assert "raise RuntimeError" in debugged.stderr or "in broken" in debugged.stderr
    assert debugged.stderr.splitlines()[-1].endswith("please report it with the traceback above")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["check", "-c", "."], ".: cannot be read: is a directory, not a file"),
        (["check", "-c", "pipe"], "pipe: cannot be read: is a pipe or a device"),
        (["check", "-c", "/dev/zero"], "/dev/zero: cannot be read: is a pipe or a device"),
        (["check", "-c", "x" * 300], "File name too long"),
        (["check", "-c", "long.yaml"], "long.yaml: is longer than 4,194,304 bytes"),
        (["check", "-c", "digits.yaml"], "a number of 5000 characters is too long (line 1, column 4)"),
        (["check", "-c", "nested.yaml"], "more than 64 mappings and lists within one another"),
        (["check", "-c", "good.yaml", "--set", "retrain.every=99999999999d"], "is longer than ten years"),
        (["check", "-c", "good.yaml", "--set", "_env_file=x"], "unknown key '_env_file'"),
        (["check", "-c", "good.yaml", "--set", "model.seed=" + "9" * 5000], "a number of 5000 characters"),
        (["check", "-c", "fifo.yaml"], "kafka.password_file pipe cannot be read: is a pipe or a device"),
        (["demo", "--seed", "-1"], "--seed"),
        (["demo", "--seed", "9" * 5000], "--seed"),
        (["demo", "--duration", "99999999999d"], "is longer than ten years"),
        (["init", "x" * 5000], "no such file"),
        (["init", "good.csv", "--name", "a b", "--out", "-"], "streams.0.name"),
        (["init", "good.csv", "--topic", "a b", "--out", "-"], "'a b' is no topic name"),
    ],
)
def test_odd_settings_are_one_line_and_exit_code_2(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    (tmp_path / "good.csv").write_text(CSV)
    good = yaml.safe_dump({"streams": [{"name": "s", "topics": ["t"], "sensors": ["a"]}]})
    (tmp_path / "good.yaml").write_text(good)
    (tmp_path / "long.yaml").write_text("# long\n" * 1_000_000)
    (tmp_path / "digits.yaml").write_text("a: " + "9" * 5000)
    (tmp_path / "nested.yaml").write_text("a: " + "[" * 10_000)
    (tmp_path / "fifo.yaml").write_text(good + "kafka: {password_file: pipe}\n")
    os.mkfifo(tmp_path / "pipe")
    done = command(*arguments, cwd=tmp_path, timeout=60)
    assert done.returncode == 2, done.stderr
    lines = (done.stdout + done.stderr).strip().splitlines()
    assert expected in lines[-1]
    assert "Traceback" not in done.stderr


def test_no_arguments_print_the_help_alone() -> None:
    done = command()
    assert done.returncode == 2
    assert "Usage:" in done.stdout + done.stderr
    assert "anomalyd: " not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text(CSV)
    with Path("/dev/full").open("w") as full:
        done = command("init", "good.csv", cwd=tmp_path, stdout=full)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[-1] == "anomalyd: standard output cannot be written: No space left on device"
    assert all(line.startswith(("note:", "anomalyd:")) for line in lines)


@pytest.mark.parametrize(
    ("out", "expected"),
    [("/proc/o", "/proc/o: cannot be made"), ("good.csv", "good.csv: cannot be made: File exists")],
)
def test_a_replay_whose_results_cannot_be_written_learns_nothing(
    tmp_path: Path, out: str, expected: str
) -> None:
    (tmp_path / "good.csv").write_text(CSV)
    done = command("replay", "good.csv", "--train", "good.csv", "--out", out, cwd=tmp_path)
    assert done.returncode == 1
    assert expected in done.stderr.splitlines()[-1]


def test_where_settings_come_from_is_one_line_and_an_unused_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text(CSV)

    def first_line(*arguments: str, **variables: str) -> str:
        done = command(*arguments, cwd=tmp_path, env=environment(**variables))
        return done.stderr.splitlines()[0]

    train = ("train", "good.csv", "--out", "bundle")
    assert first_line(*train) == "note: settings: derived from good.csv"
    (tmp_path / "config.yaml").write_text("streams: [{name: s, topics: [t], sensors: [a, b]}]")
    assert first_line(*train).endswith(
        "derived from good.csv; config.yaml is not used (-c config.yaml would use it)"
    )
    replay = ("replay", "good.csv", "--out", "o")
    budget = {"ANOMALYD_CALIBRATION__BUDGET": "1 per day"}
    assert first_line(*replay, "-c", "config.yaml", **budget) == (
        "note: settings: from config.yaml, with ANOMALYD_CALIBRATION__BUDGET of the environment"
    )
    assert "derived from good.csv; config.yaml is not used" in first_line(
        "impute", "good.csv", "--out", "filled.csv"
    )
    assert "replaces filled.csv" in command("impute", "good.csv", "--out", "filled.csv", cwd=tmp_path).stderr


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text(CSV)
    asked = ("explain", "good.csv", "--model", "nowhere", "--condition", "mode=low")
    done = command(*asked, "--out", "absent/page.html", cwd=tmp_path)
    assert "absent/page.html: cannot be written: there is no directory absent" in done.stderr
