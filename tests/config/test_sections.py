"""The rules of the sections: what cannot be meant is refused in one line."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.assembly import as_received
from daemon.config import load
from daemon.mapping import AlertRule, Direction
from daemon.runtime.stream_run import StreamPlan
from tests.config.setups import document, refused


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ({"topics": []}, ["streams.0.topics", "at least 1 of it"]),
        ({"topics": [""]}, ["streams.0.topics.0", "'' is no topic name"]),
        ({"topics": ["a b"]}, ["streams.0.topics.0", "'a b' is no topic name"]),
        ({"topics": [".."]}, ["'..' is no topic name"]),
        ({"topics": ["x" * 250]}, ["is no topic name: 1 to 249"]),
        ({"sensors": [""]}, ["sensor '' is empty"]),
        ({"sensors": {" ": {}}}, ["sensor ' ' is empty"]),
        ({"sensors": ["a", "b", "a"]}, ["sensor 'a' appears twice"]),
        ({"sensors": [{"a": 1}]}, ["streams.0.sensors", "a list holds the sensors' names, not {'a': 1}"]),
        ({"sensors": {"a": {"range": [0, float("inf")]}}}, ["sensors.a", "[0.0, inf]", "finite"]),
        ({"sensors": {"a": {"range": [1, 1]}}}, ["sensors.a", "low < high"]),
        ({"sensors": {"a": {"range": [float("nan"), 1]}}}, ["sensors.a", "finite"]),
        ({"sensors": {"a": {"reduce": "median"}}}, ["sensors.a.reduce", "'first', 'last', 'mean'"]),
        ({"sensors": {"a": {"angle": 0}}}, ["sensors.a.angle", "more than 0"]),
        (
            {"sensors": {"a": {"angle": 360, "counter": True}}},
            ["sensors.a", "a value that wraps is no counter"],
        ),
        ({"sensors": {"a": {"angle": 360, "reduce": "mean"}}}, ["sensors.a", "reduce: mean of an angle"]),
        ({"sensors": {"a": {"direction": "up"}}}, ["sensors.a.direction", "'both', 'above' or 'below'"]),
        (
            {"sensors": {"a": {"min_deviation": "-5%"}}},
            ["sensors.a.min_deviation", "write 0.5, in the sensor"],
        ),
        (
            {"sensors": {"a": {"min_deviation": True}}},
            ["sensors.a.min_deviation", "write 0.5, in the sensor"],
        ),
        (
            {"sensors": {"a": {"critical_ratio": 0.5}}},
            ["sensors.a.critical_ratio", "at least 1"],
        ),
        (
            {"sensors": {"a": {"angle": 360, "direction": "above"}}},
            ["sensors.a", "an angle has no direction"],
        ),
        ({"sensors": {"a": {"ignore": True}, "b": {"ignore": True}}}, ["every sensor has ignore"]),
        ({"sensors": {"a": {"scale": 0, "offset": 2}}}, ["sensors.a", "scale 0 makes every value 2"]),
        (
            {"sensors": {"a": {"source": "x"}, "b": {"source": "x"}}},
            ["sensors 'a' and 'b' are both 'x' in messages", "a `source` of its own"],
        ),
        ({"sensors": {"a": {"source": "b"}, "b": {}}}, ["sensors 'a' and 'b' are both 'b' in messages"]),
        ({"sensors": {"a": {"hold": "5"}}}, ["sensors.a.hold", "'5' is not a duration"]),
        ({"sensors": {"a": {"hold": "500ms"}}}, ["sensors.a.hold 0:00:00.500000 is shorter than the period"]),
        ({"sensors": {"a": {"angle": 360}, "a.cos": {}}}, ["sensor 'a.cos' appears twice"]),
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
        ({"condition": ["mode", "$hours"]}, ["condition '$hours'", "$weekday, $weekend, $hour, $month"]),
        ({"condition": ["$hour", "$hour"]}, ["condition '$hour' appears twice"]),
        ({"period": "1m", "max_gap": "30s"}, ["max_gap 0:00:30 is shorter than the period 0:01:00"]),
        ({"period": "1m", "silent_after": "1s"}, ["silent_after 0:00:01 is shorter than the period"]),
        ({"name": "a b"}, ["streams.0.name", "'a b'"]),
        ({"period": "99999999999d"}, ["streams.0.period", "'99999999999d' is longer than ten years"]),
        ({"period": "1ns"}, ["streams.0.period", "'1ns' is shorter than a microsecond"]),
        ({"period": "1e1d"}, ["streams.0.period", "is not a duration"]),
        ({"period": "4d", "window": 1024}, ["1024 rows of 4 days, 0:00:00 make a window longer than ten"]),
        ({"allowed_lateness": "3653d"}, ["allowed_lateness 3653 days, 0:00:00 is more than 1,000,000 rows"]),
        (
            {"period": "1us", "allowed_lateness": "10s"},
            ["allowed_lateness 0:00:10 is more than 1,000,000 rows of 0:00:00.000001"],
        ),
        ({"sensors": {"a": {"range": [-1.7e308, 1.7e308]}}}, ["sensors.a", "low < high"]),
        ({"sensors": {"a\nb": {"range": 1}}}, [r"streams.0.sensors.a b.range"]),
        ({"condition": ["a\0"]}, [r"streams.0.condition.0: 'a\x00' holds a character that no text can have"]),
        ({"assets": {"\udcff": {}}}, ["streams.0.assets", "no text can have"]),
    ],
)
def test_an_impossible_stream_is_refused(stream: dict[str, Any], expected: list[str]) -> None:
    line = refused(document(stream))
    for text in expected:
        assert text in line


@pytest.mark.parametrize(
    ("section", "value", "expected"),
    [
        ("kafka", {"bootstrap_servers": ""}, "kafka.bootstrap_servers: '' is empty"),
        ("kafka", {"group_id": " "}, "kafka.group_id: ' ' is empty"),
        ("model", {"hidden": [128, 0]}, "model.hidden.1: must be at least 1 (got 0)"),
        ("model", {"hidden": [5000]}, "must be at most 4096 (got 5000)"),
        ("model", {"beta": -1}, "model.beta: must be more than 0 (got -1)"),
        ("model", {"beta": float("inf")}, "model.beta: must be a finite number (got inf)"),
        ("model", {"latent": 0}, "model.latent"),
        ("model", {"latent": 257}, "model.latent"),
        ("model", {"directory": ""}, "model.directory: '' is empty"),
        ("calibration", {"budget": "9" * 30 + " per day"}, "is no budget to calibrate to"),
        ("calibration", {"budget": "0 per day"}, "is no budget to calibrate to"),
        ("model", {"seed": -1}, "model.seed: must be at least 0"),
        ("model", {"seed": 10**30}, "model.seed: must be at most"),
        ("retrain", {"rows": 10**18}, "retrain.rows: must be at most"),
        ("drill", {"share": "60%"}, "drill.share: '60%' is more than half a CPU: at most 50%"),
        ("drill", {"share": 1}, "drill.share: 1 is not a share: write for example 1%, or 0 for none"),
        ("drill", {"share": "1"}, "drill.share: '1' is not a share"),
        ("drill", {"share": "-1%"}, "drill.share: '-1%' is not a share"),
        ("drill", {"share": True}, "drill.share: True is not a share"),
        ("limits", {"max_record_bytes": 2**31}, "limits.max_record_bytes: must be at most"),
        (
            "alerts",
            {"maintenance": [{"start": "0001-01-01T00:00:00+14:00", "end": "9999-12-31T23:59:59-14:00"}]},
            "is not from 1970 to 2261",
        ),
        ("alerts", {"sinks": [{"type": "webhook"}]}, "not used yet: alerts go to the topic <prefix>.alerts"),
        ("kafka", {"instance_id": ""}, "kafka.instance_id: '' is no instance id: $hostname, or 1 to 249"),
        ("kafka", {"instance_id": "$pod"}, "kafka.instance_id: '$pod' is no instance id"),
        ("http", {"host": ""}, "http.host: '' is empty"),
        ("http", {"allowed_hosts": ["*"]}, "http.allowed_hosts.0: '*' is no host name"),
        ("http", {"allowed_hosts": ["a.b", "http://x"]}, "http.allowed_hosts.1: 'http://x' is no host name"),
        ("http", {"allowed_hosts": ["x:9464"]}, "'x:9464' is no host name: write it without scheme and port"),
        ("http", {"allowed_hosts": ["x" * 300]}, "is no host name"),
        ("http", {"host": "0.0.0.0", "control": True}, "needs control_token_file"),
        ("http", {"host": "127.evil.example", "control": True}, "needs control_token_file"),
        ("http", {"host": "::", "control": True}, "http: control on ::, which other machines reach"),
        ("http", {"control": "perhaps"}, "http.control"),
        ("drift", {"interval": "10s"}, "drift.interval 0:00:10 is shorter than one window of stream 's'"),
    ],
)
def test_an_impossible_section_is_refused(section: str, value: dict[str, Any], expected: str) -> None:
    assert expected in refused(document(**{section: value}))


@pytest.mark.parametrize(
    "http",
    [
        {"control": True},
        {"control": True, "host": "localhost"},
        {"control": True, "host": "::1"},
        {"control": True, "host": "127.9.9.9"},
        {"control": True, "host": "0.0.0.0", "control_token_file": "/run/secrets/token"},
    ],
)
def test_the_page_may_be_told_something_on_this_machine_or_with_a_token(http: dict[str, Any]) -> None:
    assert load(None, (), document(http=http)).http.control


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("1%", 0.01),
        (" 0.5 % ", 0.005),
        ("50%", 0.5),
        ("0%", 0.0),
        (0, 0.0),
        (0.0, 0.0),
        (None, 0.0),
        ("0", 0.0),
        ("null", 0.0),
    ],
)
def test_a_share_of_the_cpu(text: Any, share: float) -> None:
    assert load(None, (), document(drill={"share": text})).drill.share == share
    assert load(None, (), document()).drill.share == 0.01


CUSTOM = {"asset": "id", "time": "ts"}
LEAVES = CUSTOM | {"leaves": "."}
FIELDS = CUSTOM | {"fields": {"a": "x", "b": "y"}}


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ({"input": CUSTOM | {"fields": {"a": "x", "bb": "y"}}}, ["input.fields.bb", "did you mean 'b'?"]),
        ({"input": CUSTOM | {"fields": {"a": "x", "flow": "y"}}}, ["no sensor 'flow'; list it"]),
        (
            {"input": FIELDS, "sensors": {"a": {"source": "A1"}, "b": {}}},
            ["input.fields.a: sensor 'a' is 'A1' in messages, by its `source`; write A1 here"],
        ),
        (
            {"format": "telegraf", "input": {"fields": {"asset": "x", "timestamp": "t", "a": "a"}}},
            ["input.fields.asset: fields has the places of sensors", "did you mean input.asset?"],
        ),
        ({"input": CUSTOM | {"fields": {"timestamp": "t"}}}, ["did you mean input.time?"]),
        (
            {
                "input": CUSTOM | {"fields": {"vib": "v"}, "wave": {"reduce": ["rms"]}},
                "sensors": ["vib.peak"],
            },
            ["input.fields.vib: the stream has no sensor 'vib'; did you mean 'vib.peak'?"],
        ),
        ({"input": LEAVES | {"rename": {"t1": "a", "t2": "bee"}}}, ["input.rename.t2: the stream has no"]),
        (
            {"input": LEAVES | {"rename": {"t1": {"asset": "p", "sensor": "c"}}}},
            ["input.rename.t1: the stream has no sensor 'c'"],
        ),
        (
            {"format": "telegraf", "condition": ["$hour", "mode"]},
            ["condition 'mode': nothing says where it is", "write input.condition: {mode: PATH}"],
        ),
        (
            {"input": LEAVES | {"condition": {"mode": "m"}}},
            ["input.condition.mode: the stream's `condition` does not have 'mode'", "condition: [mode]"],
        ),
        (
            {"sensors": {"a": {}, "b": {"unit": "bar"}}},
            ["sensors.b.unit: no value of json-wide says its unit", "`input`, with unit: PATH"],
        ),
        (
            {"format": "json-long", "sensors": {"a": {"unit": "bar"}}},
            ["sensors.a.unit: no value of json-long says its unit"],
        ),
        (
            {"format": "telegraf", "sensors": {"a": {"unit": "bar"}}},
            ["sensors.a.unit: nothing says where messages have the unit", "write input.unit: PATH"],
        ),
    ],
)
def test_what_would_do_nothing_with_the_messages_of_a_stream_is_refused(
    stream: dict[str, Any], expected: list[str]
) -> None:
    line = refused(document(stream))
    for text in expected:
        assert text in line


@pytest.mark.parametrize(
    "stream",
    [
        {"sensors": {"a": {"source": "b"}, "b": {"source": "a"}}},
        {"input": CUSTOM | {"fields": {"A1": "x"}}, "sensors": {"a": {"source": "A1"}}},
        {"input": CUSTOM | {"fields": {"t1": "x"}, "rename": {"t1": "a"}}},
        {"input": CUSTOM | {"fields": {"v": "x"}, "wave": {"reduce": ["rms", "peak"]}}, "sensors": ["v.rms"]},
        {"input": LEAVES | {"condition": {"mode": "m"}}, "condition": ["mode", "$hour"]},
        {"format": "telegraf", "condition": ["type"], "assets": {"p1": {"type": "small"}}},
        {"input": CUSTOM | {"leaves": ".", "fields": None}},
        {"format": "home-assistant", "sensors": {"a": {"unit": "bar"}}},
        {"input": LEAVES | {"unit": "u"}, "sensors": {"a": {"unit": "bar"}}},
    ],
)
def test_what_messages_and_sensors_have_in_common_is_accepted(stream: dict[str, Any]) -> None:
    load(None, (), document(stream))


def test_a_table_of_names_may_have_those_of_other_streams(tmp_path: Path) -> None:
    table = tmp_path / "tags.csv"
    table.write_text("id,sensor\nt1,a\nt2,other\n")
    load(None, (), document({"input": LEAVES | {"rename": str(table)}}))
    table.write_text("id,sensor\nt1,aa\nt2,other\n")
    line = refused(document({"input": LEAVES | {"rename": str(table)}}))
    assert "input.rename.t1: the stream has no sensor 'aa'; did you mean 'a'?" in line


def test_a_field_that_the_format_does_not_use_may_have_any_name() -> None:
    load(None, (), document({"fields": {"asset": "$key", "timestamp": "$timestamp", "sensor": "values"}}))


def test_an_angle_is_two_sensors_of_the_stream_and_one_of_its_messages() -> None:
    sensors = {
        "wind": {"angle": 360, "source": "W.Dir", "scale": 0.1, "range": [0, 360]},
        "speed": {"range": [0, 9]},
    }
    spec = load(None, (), document({"sensors": sensors})).streams[0].spec()
    assert spec.sensors == ("wind.cos", "wind.sin", "speed")
    assert spec.ranges == ((-1, 1), (-1, 1), (0, 9))
    came = as_received(spec)
    assert came.sensors == ("wind", "speed")
    assert [(rule.source, rule.scale, rule.angle) for rule in came.rules] == [
        ("W.Dir", 0.1, 360),
        (None, 1, None),
    ]


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        ({}, AlertRule()),
        ({"direction": "above", "min_deviation": 0.5}, AlertRule(Direction.ABOVE, 0.5)),
        ({"min_deviation": "5%"}, AlertRule(min_share=0.05)),
        ({"min_deviation": " 0.5 "}, AlertRule(min_deviation=0.5)),
        ({"ignore": True, "critical_ratio": 3}, AlertRule(ignore=True, critical_ratio=3.0)),
    ],
)
def test_what_of_a_sensor_may_raise_an_alert(section: dict[str, Any], rule: AlertRule) -> None:
    spec = load(None, (), document({"sensors": {"a": section, "b": {}}})).streams[0].spec()
    assert [one.alert for one in spec.rules] == [rule, AlertRule()]


def test_the_default_drift_interval_is_never_shorter_than_a_window() -> None:
    settings = load(None, (), document({"period": "1h"}))
    assert StreamPlan.of(settings, settings.streams[0]).drift_interval == timedelta(hours=16)
    quick = load(None, (), document())
    assert StreamPlan.of(quick, quick.streams[0]).drift_interval == timedelta(hours=1)


def test_the_default_lateness_is_never_more_than_is_allowed() -> None:
    (stream,) = load(None, (), document({"period": "1us"})).streams
    assert stream.spec().allowed_lateness_ns == 10**9
    assert load(None, (), document()).streams[0].spec().allowed_lateness_ns == 10 * 10**9
