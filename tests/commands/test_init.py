"""``init`` over files: what is derived, and what is refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.commands.init import InitOptions, derive_configuration
from daemon.config import load
from daemon.documents import from_yaml
from daemon.errors import InputError, UsageError


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    rows = "".join(f"2026-01-01T00:{i // 60:02d}:{i % 60:02d}Z,{i % 7},{i % 5}\n" for i in range(600))
    (tmp_path / "sample.csv").write_text("timestamp,a,b\n" + rows)
    return tmp_path / "sample.csv"


def test_the_text_loads_and_has_the_sensors_and_the_period_of_the_file(sample: Path, tmp_path: Path) -> None:
    made = derive_configuration(InitOptions(str(sample), tmp_path / "config.yaml", name="pumps"))
    (stream,) = load(None, (), from_yaml(made.text)).streams
    assert (stream.name, list(stream.sensors), stream.topics) == (
        "pumps",
        ["a", "b"],
        ("sensors.pumps",),
    )
    assert made.spec.period_ns == 10**9
    assert not (tmp_path / "config.yaml").exists()
    made.write(tmp_path / "config.yaml")
    assert (tmp_path / "config.yaml").read_text() == made.text


def test_an_excluded_column_is_no_sensor(sample: Path, tmp_path: Path) -> None:
    made = derive_configuration(InitOptions(str(sample), tmp_path / "config.yaml", exclude=["b"]))
    assert made.spec.sensors == ("a",)


def test_a_file_is_overwritten_by_force_alone(sample: Path, tmp_path: Path) -> None:
    there = tmp_path / "config.yaml"
    there.write_text("")
    with pytest.raises(UsageError, match="give --force to overwrite it"):
        derive_configuration(InitOptions(str(sample), there))
    assert derive_configuration(InitOptions(str(sample), there, force=True)).text


@pytest.mark.parametrize("name", ["absent.csv", "no/such topic"])
def test_a_name_of_neither_a_file_nor_a_topic_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        derive_configuration(InitOptions(name, tmp_path / "config.yaml"))


def test_a_name_that_no_stream_can_have_is_refused(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no configuration can be made of it"):
        derive_configuration(InitOptions(str(sample), tmp_path / "config.yaml", name="a b"))
