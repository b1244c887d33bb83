"""Settings that cannot be meant are refused in one line that names key, value and rule."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.config import Settings, StreamSection, load, unknown_environment
from daemon.errors import ConfigError
from daemon.loop import StreamPlan
from daemon.service import connection_problem, kafka_settings


def document(stream: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    """The smallest configuration, with changes."""
    return {"streams": [{"name": "s", "topics": ["t"], "sensors": ["a", "b"], **(stream or {})}], **sections}


def refused(found: dict[str, Any]) -> str:
    """The one line."""
    with pytest.raises(ConfigError) as raised:
        load(None, (), found)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        ({"topics": []}, ["streams.0.topics", "at least 1 item"]),
        ({"topics": [""]}, ["streams.0.topics.0", "'' is no topic name"]),
        ({"topics": ["a b"]}, ["streams.0.topics.0", "'a b' is no topic name"]),
        ({"topics": [".."]}, ["'..' is no topic name"]),
        ({"topics": ["x" * 250]}, ["is no topic name: 1 to 249"]),
        ({"sensors": [""]}, ["sensor '' is empty"]),
        ({"sensors": {" ": {}}}, ["sensor ' ' is empty"]),
        ({"sensors": ["a", "b", "a"]}, ["sensor 'a' appears twice"]),
        ({"sensors": {"a": {"range": [0, float("inf")]}}}, ["sensors.a", "[0.0, inf]", "finite"]),
        ({"sensors": {"a": {"range": [1, 1]}}}, ["sensors.a", "low < high"]),
        ({"sensors": {"a": {"range": [float("nan"), 1]}}}, ["sensors.a", "finite"]),
        ({"fields": {"asset": ""}}, ["fields.asset", "'' is empty"]),
        ({"fields": {"asset": "ts"}}, ["fields.asset and fields.timestamp have one name, 'ts'"]),
        ({"fields": {"values": "$key"}}, ["fields.values cannot be '$key'"]),
        ({"fields": {"asset": "$timestamp"}}, ["fields.asset cannot be '$timestamp'"]),
        ({"fields": {"timestamp": "$when"}}, ["fields.timestamp cannot be '$when'"]),
        (
            {"format": "json-long", "fields": {"asset": "$key", "sensor": "$key"}},
            ["fields.asset and fields.sensor have one name, '$key'"],
        ),
        ({"condition": ["mode", "mode"]}, ["condition 'mode' appears twice"]),
        ({"condition": [""]}, ["condition '' is empty"]),
        ({"period": "1m", "max_gap": "30s"}, ["max_gap 0:00:30 is shorter than the period 0:01:00"]),
        ({"period": "1m", "silent_after": "1s"}, ["silent_after 0:00:01 is shorter than the period"]),
        ({"name": "a b"}, ["streams.0.name", "'a b'"]),
    ],
)
def test_a_stream_that_cannot_be_meant(stream: dict[str, Any], says: list[str]) -> None:
    line = refused(document(stream))
    for text in says:
        assert text in line


@pytest.mark.parametrize(
    ("section", "value", "says"),
    [
        ("kafka", {"bootstrap_servers": ""}, "kafka.bootstrap_servers: '' is empty"),
        ("kafka", {"group_id": " "}, "kafka.group_id: ' ' is empty"),
        ("model", {"hidden": [128, 0]}, "model.hidden.1: Input should be greater than or equal to 1 (got 0)"),
        ("model", {"hidden": [5000]}, "less than or equal to 4096 (got 5000)"),
        ("model", {"beta": -1}, "model.beta: Input should be greater than 0 (got -1)"),
        ("model", {"beta": float("inf")}, "model.beta: Input should be a finite number (got inf)"),
        ("model", {"latent": 0}, "model.latent"),
        ("model", {"latent": 257}, "model.latent"),
        ("model", {"directory": ""}, "model.directory: '' is empty"),
        ("alerts", {"sinks": [{"type": "webhook"}]}, "not used yet: alerts go to the topic <prefix>.alerts"),
        ("http", {"host": ""}, "http.host: '' is empty"),
        ("http", {"allowed_hosts": ["*"]}, "http.allowed_hosts.0: '*' is no host name"),
        ("http", {"allowed_hosts": ["a.b", "http://x"]}, "http.allowed_hosts.1: 'http://x' is no host name"),
        ("http", {"allowed_hosts": ["x:9464"]}, "'x:9464' is no host name: write it without scheme and port"),
        ("http", {"allowed_hosts": ["x" * 300]}, "is no host name"),
        ("drift", {"interval": "10s"}, "drift.interval 0:00:10 is shorter than one window of stream 's'"),
    ],
)
def test_a_section_that_cannot_be_meant(section: str, value: dict[str, Any], says: str) -> None:
    assert says in refused(document(**{section: value}))


def test_what_each_format_does_not_use_may_be_called_as_one_likes() -> None:
    load(None, (), document({"fields": {"asset": "$key", "timestamp": "$timestamp", "sensor": "values"}}))


def test_a_key_that_appears_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("streams: [{name: s, topics: [t], sensors: {a: {}, b: {}, a: {}}}]\n")
    with pytest.raises(ConfigError, match="key 'a' appears twice"):
        load(path)
    path.write_text("streams: [{name: s, topics: [t], sensors: {a: &r {range: [0, 1]}, b: {<<: *r}}}]\n")
    assert load(path).streams[0].spec().ranges == ((0, 1), (0, 1))


def test_the_default_drift_interval_is_never_shorter_than_a_window() -> None:
    settings = load(None, (), document({"period": "1h"}))
    assert StreamPlan.of(settings, settings.streams[0]).drift_interval == timedelta(hours=16)
    quick = load(None, (), document())
    assert StreamPlan.of(quick, quick.streams[0]).drift_interval == timedelta(hours=1)


@pytest.mark.parametrize("key", ["password_file", "token_file", "ca_file", "cert_file", "key_file"])
def test_a_file_of_the_connection_that_is_missing(tmp_path: Path, key: str) -> None:
    settings = load(None, (), document(kafka={key: str(tmp_path / "absent")}))
    with pytest.raises(ConfigError, match=rf"kafka\.{key} .*absent cannot be read: No such file"):
        kafka_settings(settings)
    assert connection_problem(settings) is not None


def test_a_connection_in_order(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    kafka = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-256",
        "username": "u",
        "password_file": str(tmp_path / "password"),
    }
    settings = load(None, (), document(kafka=kafka))
    assert kafka_settings(settings).password == "secret"
    assert connection_problem(settings) is None
    without = load(None, (), document(kafka={**kafka, "username": None}))
    assert "needs kafka.username" in (connection_problem(without) or "")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ANOMALYD_KAFKA_BOOTSTRAP_SERVERS", "ANOMALYD_KAFKA__BOOTSTRAP_SERVERS"),
        ("ANOMALYD_MODEL_LEARN_ROWS", "ANOMALYD_MODEL__LEARN_ROWS"),
        ("ANOMALYD_KAFAK", "ANOMALYD_KAFKA"),
    ],
)
def test_a_variable_that_names_no_key(monkeypatch: pytest.MonkeyPatch, name: str, nearest: str) -> None:
    monkeypatch.setenv(name, "x")
    (problem,) = [p for p in unknown_environment() if name in p]
    assert problem.endswith(f"did you mean {nearest}?")


def test_the_documented_example_loads() -> None:
    example = Path(__file__).resolve().parents[1] / "config.yaml"
    assert load(example).streams[0].name == "pumps"
    assert yaml.safe_load(example.read_text())["model"]["latent"] == 8


def test_the_documented_example_names_every_key_with_its_default() -> None:
    text = (Path(__file__).resolve().parents[1] / "config.yaml").read_text()
    written, defaults = yaml.safe_load(text), load(None, (), document())
    assert set(written) == set(Settings.model_fields)
    assert set(written["streams"][0]) == set(StreamSection.model_fields)
    for name in set(written) - {"streams"}:
        assert set(written[name]) == set(type(getattr(defaults, name)).model_fields), name
    assert load(None, (), {**written, **document()}).model_dump() == defaults.model_dump()


def test_a_value_in_the_environment_needs_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMALYD_CALIBRATION__BUDGET", "10 per day")
    monkeypatch.setenv("ANOMALYD_MODEL__HIDDEN", "[64, 32]")
    settings = load(None, (), document())
    assert settings.calibration.budget.episodes_per_day == 10
    assert settings.model.hidden == (64, 32)
    monkeypatch.setenv("ANOMALYD_MODEL__HIDDEN", "64,32")
    with pytest.raises(ConfigError, match=r"model\.hidden: .*'64,32'"):
        load(None, (), document())
