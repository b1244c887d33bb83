"""Every misuse is one clear line and exit code 2; every command explains itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.running import command

CSV = "timestamp,a,b\n2026-01-01T00:00:00Z,1,2\n2026-01-01T00:00:01Z,2,3\n"


@pytest.mark.parametrize(
    "name",
    ["demo", "run", "init", "check", "topics", "train", "replay", "impute", "drill", "explain", "generate"],
)
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
def test_misuse_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], says: str) -> None:
    (tmp_path / "good.csv").write_text(CSV)
    (tmp_path / "good.jsonl").write_text("{}")
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


BROKEN = """
from daemon import cli

@cli.app.command()
def broken():
    raise RuntimeError("two\\nlines \x1b[31m")

cli.main()
"""


INTERRUPTED = """
import os, signal
from daemon import cli

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins with it ignored

async def counting():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1_000_000):
        pass
    print("went on")

@cli.app.command()
def count():
    cli.compute(counting())

cli.main()
"""


def test_an_interrupt_ends_a_computation_at_once_with_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "count"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "anomalyd: interrupted\n")


def test_an_error_that_nobody_foresaw_is_one_line_and_a_traceback_only_on_request() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    told, asked = (
        subprocess.run(
            [sys.executable, "-c", BROKEN, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        for arguments in (["broken"], ["--debug", "broken"])
    )
    assert (told.returncode, asked.returncode) == (1, 1)
    (line,) = told.stderr.splitlines()
    assert line.startswith(
        r"anomalyd: failed unexpectedly: RuntimeError: two lines \x1b[31m; this is a fault of"
    )
    assert line.endswith("please report it with what 'anomalyd --debug broken ...' prints")
    assert told.stdout == ""
    assert "Traceback (most recent call last)" in asked.stderr
    assert "raise RuntimeError" in asked.stderr or "in broken" in asked.stderr
    assert asked.stderr.splitlines()[-1].endswith("please report it with the traceback above")


@pytest.mark.parametrize(
    ("arguments", "says"),
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
def test_odd_settings_are_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], says: str) -> None:
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
    said = (done.stdout + done.stderr).strip().splitlines()
    assert says in said[-1]
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


def test_no_arguments_is_help_and_nothing_else() -> None:
    done = command()
    assert done.returncode == 2
    assert "Usage:" in done.stdout + done.stderr
    assert "anomalyd: " not in done.stderr


@pytest.mark.parametrize("more", [[], ["--set", "retrain.every=null"]])
def test_a_demos_port_is_the_one_that_was_given(more: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command("demo", "--port", str(port), *more)
    assert done.returncode == 1
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("anomalyd: ")]
    assert f"http.port {port} on 127.0.0.1 is taken" in line


def test_a_broker_that_is_away_is_one_line(tmp_path: Path) -> None:
    stream = {"name": "s", "topics": ["t"], "sensors": ["a"]}
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump({"kafka": {"bootstrap_servers": "127.0.0.1:1"}, "streams": [stream]})
    )
    for arguments in (
        ["init", "sensors.pumps", "--bootstrap-servers", "127.0.0.1:1", "--out", "-"],
        ["init", "sensors.pumps", "-c", "c.yaml", "--out", "-"],
        ["train", "--out", "bundle", "-c", "c.yaml"],
    ):
        done = command(*arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert "Kafka at 127.0.0.1:1 cannot be reached" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_plaintext_to_another_machine_is_refused_by_every_command(tmp_path: Path) -> None:
    stream = {"name": "s", "topics": ["t"], "sensors": ["a"]}
    kafka = {"bootstrap_servers": "kafka.invalid:9092"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"kafka": kafka, "streams": [stream]}))
    for arguments in (
        ["check"],
        ["check", "--probe"],
        ["topics", "--create"],
        ["run"],
        ["train", "--out", "bundle"],
        ["init", "sensors.pumps", "--out", "-"],
    ):
        done = command(*arguments, "-c", "c.yaml", cwd=tmp_path)
        assert done.returncode == 2, arguments
        said = (done.stdout + done.stderr).strip().splitlines()[-1]
        assert "unencrypted to kafka.invalid, which is not this machine" in said
        assert "kafka.allow_plaintext: true" in said
    allowed = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    allowed["ANOMALYD_KAFKA__ALLOW_PLAINTEXT"] = "true"
    assert command("check", "-c", "c.yaml", cwd=tmp_path, env=allowed).returncode == 0


def test_check_says_what_is_wrong_without_a_broker(tmp_path: Path) -> None:
    stream = {"name": "s", "topics": ["t"], "sensors": ["a"]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"kafka": {"ca_file": "absent"}, "streams": [stream]}))
    root = str(Path(__file__).resolve().parents[1])
    env = {**os.environ, "PYTHONPATH": root, "ANOMALYD_KAFKA_BOOTSTRAP_SERVERS": "x"}
    done = command("check", "-c", "c.yaml", cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert "kafka.ca_file absent cannot be read: No such file" in done.stdout
    assert "did you mean ANOMALYD_KAFKA__BOOTSTRAP_SERVERS?" in done.stdout


def test_a_variable_that_names_nothing_is_said_by_whoever_would_have_read_it(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text(CSV)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    environment["ANOMALYD_MODLE__SEED"] = "3"
    done = command("replay", "good.csv", "--out", "o", cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "ANOMALYD_MODLE__SEED names no key; did you mean ANOMALYD_MODEL__SEED?" in " ".join(
        done.stderr.split()
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text(CSV)
    with Path("/dev/full").open("w") as full:
        done = command("init", "good.csv", cwd=tmp_path, stdout=full)
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert said[-1] == "anomalyd: standard output cannot be written: No space left on device"
    assert all(line.startswith(("note:", "anomalyd:")) for line in said)
