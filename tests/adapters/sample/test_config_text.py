"""The configuration that is written for a derived stream."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from daemon import config
from daemon.adapters.sample import Ends, config_yaml, quoted, span
from daemon.domain import SECOND_NS, FieldNames, Format, StreamSpec

SPECS = [
    StreamSpec("pumps", ("Pressure", "Volume Flow RateRMS"), topics=("t",), ranges=(None, (0.0, 10.5))),
    StreamSpec(
        "stream",
        ("yes", "1", "a: b", 'quo"te', "ümlaut", "null", "#x", "tab\there", "\U0001f321", "1e3"),
        period_ns=33_333_000,
        window=7,
        allowed_lateness_ns=0,
        max_gap_ns=1200 * SECOND_NS,
        silent_after_ns=90 * SECOND_NS,
        format=Format.JSON_LONG,
        fields=FieldNames(asset="$key", timestamp="event time"),
        topics=("sensors.stream",),
        condition=("mode", "on"),
        ranges=(None,) * 10,
    ),
]


@pytest.mark.parametrize("spec", SPECS, ids=["plain", "awkward"])
def test_the_written_configuration_reads_back_as_the_stream(tmp_path: Path, spec: StreamSpec) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(config_yaml(spec, notes=["two\nlines"]), encoding="utf-8")
    (stream,) = config.load(path).streams
    assert stream.spec() == spec


def test_the_topic_may_be_named() -> None:
    streams = yaml.safe_load(config_yaml(SPECS[0], "other.topic"))["streams"]
    assert streams[0]["topics"] == ["other.topic"]


@pytest.mark.parametrize(("sensors", "latent"), [(1, 2), (3, 3), (9, 8)])
def test_the_latent_size_is_written_with_its_rule(sensors: int, latent: int) -> None:
    text = config_yaml(StreamSpec("s", tuple(f"s{i}" for i in range(sensors))))
    assert yaml.safe_load(text)["model"] == {"latent": latent}
    assert "min(8, max(2, sensors))" in text


def test_the_broker_may_be_named() -> None:
    long = config_yaml(
        replace(SPECS[0], condition=("operating_mode", "product")), ends=Ends("kafka-1.example:9092")
    )
    assert not re.search(r"[^ \n]#", long)  # YAML wants a space before a comment
    assert yaml.safe_load(config_yaml(SPECS[0], ends=Ends("a:1,b:2")))["kafka"] == {
        "bootstrap_servers": "a:1,b:2",
        "group_id": "anomalyd",
        "instance_id": "$hostname",
    }
    allowed = yaml.safe_load(config_yaml(SPECS[0], ends=Ends("a:1", allow_plaintext=True)))["kafka"]
    assert allowed["allow_plaintext"] is True


def test_group_and_outputs_are_of_one_name_and_the_registry_is_written() -> None:
    registry = {"url": ["http://localhost:8081"], "username": "me", "password_file": "secret"}
    text = config_yaml(SPECS[0], ends=Ends(name="anomalyd.plant", schema_registry=registry))
    written = yaml.safe_load(text)
    assert written["kafka"]["group_id"] == written["outputs"]["prefix"] == "anomalyd.plant"
    assert written["schema_registry"] == registry | {"url": "http://localhost:8081"}
    assert "schema_registry" not in yaml.safe_load(config_yaml(SPECS[0]))


@given(st.text(max_size=300))
def test_every_source_has_a_name_that_outputs_may_have(source: str) -> None:
    name = Ends.name_for(source)
    assert re.fullmatch(r"anomalyd\.[A-Za-z0-9._-]{1,90}", name)
    assert Ends.name_for("plant.telemetry") == "anomalyd.plant.telemetry"


def test_long_names_that_begin_alike_stay_apart() -> None:
    assert Ends.name_for("x" * 200 + "1") != Ends.name_for("x" * 200 + "2")


@given(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=30))
def test_any_name_survives_quoting(name: str) -> None:
    assert yaml.safe_load(f"key: {{{quoted(name)}: 1}}") == {"key": {name: 1}}


@given(st.integers(1, 10**12))
def test_any_span_survives(microseconds: int) -> None:
    assert config.parse_duration(span(microseconds * 1000)).total_seconds() == pytest.approx(
        microseconds / 1e6
    )
