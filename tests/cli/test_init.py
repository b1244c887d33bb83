"""``init`` on a file, in the real command."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.running import command


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
