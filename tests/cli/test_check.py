"""``check``, and what every command reports of a broker that is away or must not be reached in plain text."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.running import command, environment


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
        last = (done.stdout + done.stderr).strip().splitlines()[-1]
        assert "unencrypted to kafka.invalid, which is not this machine" in last
        assert "kafka.allow_plaintext: true" in last
    allowed = environment(ANOMALYD_KAFKA__ALLOW_PLAINTEXT="true")
    assert command("check", "-c", "c.yaml", cwd=tmp_path, env=allowed).returncode == 0


def test_check_reports_wrong_settings_without_a_broker(tmp_path: Path) -> None:
    stream = {"name": "s", "topics": ["t"], "sensors": ["a"]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"kafka": {"ca_file": "absent"}, "streams": [stream]}))
    env = environment(ANOMALYD_KAFKA_BOOTSTRAP_SERVERS="x")
    done = command("check", "-c", "c.yaml", cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert "kafka.ca_file absent cannot be read: No such file" in done.stdout
    assert "did you mean ANOMALYD_KAFKA__BOOTSTRAP_SERVERS?" in done.stdout
