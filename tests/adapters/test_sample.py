"""What a sample says about its stream."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon import config
from daemon.adapters.files import read_table
from daemon.adapters.sample import (
    config_yaml,
    derive_spec,
    derive_spec_of_topic,
    infer_period,
    names_in,
    quoted,
    span,
)
from daemon.domain import (
    SECOND_NS,
    FieldNames,
    Format,
    Ints,
    StreamSpec,
)
from daemon.errors import InputError

START = 1_704_067_200 * SECOND_NS
MS = 10**6


def ticking(period: int, rows: int, seed: int, dropped: float = 0.0, jitter: float = 0.0) -> Ints:
    """Event times of a clock; ``jitter`` is the standard deviation in periods."""
    rng = np.random.default_rng(seed)
    times = START + period * np.arange(rows) + np.rint(rng.normal(0, jitter, rows) * period).astype(np.int64)
    kept = times[rng.random(rows) >= dropped]
    return rng.permutation(kept)


def table_file(path: Path, times: Ints, **columns: Any) -> Path:
    stamps = pa.array(times, pa.int64()).cast(pa.timestamp("ns", "UTC"))
    pq.write_table(pa.table({"timestamp": stamps, **columns}), path)
    return path


# ------------------------------------------------------------------ period
@given(
    period=st.sampled_from([10 * MS, 100 * MS, SECOND_NS, 5 * SECOND_NS, 60 * SECOND_NS, 3600 * SECOND_NS]),
    seed=st.integers(0, 999),
    dropped=st.floats(0, 0.4),
    jitter=st.floats(0, 0.06),
)
@settings(deadline=None, max_examples=60)
def test_a_round_period_is_found_through_drops_and_jitter(
    period: int, seed: int, dropped: float, jitter: float
) -> None:
    tracks = [ticking(period, 400, seed + i, dropped, jitter) for i in range(3)]
    assert infer_period(tracks) == period


@given(period=st.integers(1, 10**7), seed=st.integers(0, 99), dropped=st.floats(0, 0.4))
@settings(deadline=None, max_examples=60)
def test_an_exact_clock_is_believed_to_the_microsecond(period: int, seed: int, dropped: float) -> None:
    assert infer_period([ticking(period * 1000, 300, seed, dropped)]) == period * 1000


@pytest.mark.parametrize(
    ("true_ns", "rounded_to_ns", "expected_ns"),
    [
        (1_003 * MS, 1, 1_003 * MS),  # exact: as it is, however near to a round one
        (1_000_700_000, 10 * MS, SECOND_NS),  # seldom a hundredth more: round
        (33_333_333, MS, 33_333_000),  # 30 Hz in whole milliseconds
        (7_300 * MS, MS, 7_300 * MS),
    ],
)
def test_rounded_times(true_ns: int, rounded_to_ns: int, expected_ns: int) -> None:
    times = START + np.arange(3000) * true_ns // rounded_to_ns * rounded_to_ns
    found = infer_period([times])
    assert found is not None
    assert found % 1000 == 0
    assert abs(found / expected_ns - 1) < 1e-4


def test_jitter_around_no_round_period_is_averaged_out() -> None:
    found = infer_period([ticking(7_300 * MS, 3000, 1, dropped=0.1, jitter=0.05)])
    assert found is not None
    assert abs(found / (7_300 * MS) - 1) < 0.005


def test_repeated_times_and_single_ones_say_nothing() -> None:
    once = np.array([START], np.int64)
    assert infer_period([once, np.repeat(once, 5)]) is None
    assert infer_period([]) is None
    assert infer_period([once, np.array([START, START, START + SECOND_NS])]) == SECOND_NS


def test_one_long_pause_is_not_the_period() -> None:
    times = np.concatenate([START + SECOND_NS * np.arange(20), START + 10**15 + SECOND_NS * np.arange(3)])
    assert infer_period([times]) == SECOND_NS


# ------------------------------------------------------------------ tables
def test_a_table_gives_sensors_in_file_order_and_the_defaults(tmp_path: Path) -> None:
    n = 400
    path = table_file(
        tmp_path / "a.parquet", ticking(60 * SECOND_NS, n, 0), z=np.ones(n), a=np.ones(n), label=np.zeros(n)
    )
    spec, notes = derive_spec(path, ["label"], name="pumps")
    assert spec == StreamSpec(
        "pumps",
        ("z", "a"),
        period_ns=60 * SECOND_NS,
        window=16,
        allowed_lateness_ns=60 * SECOND_NS,
        max_gap_ns=1200 * SECOND_NS,
        silent_after_ns=1200 * SECOND_NS,
        ranges=(None, None),
    )
    assert notes == []


def test_a_fast_table_keeps_the_shortest_spans(tmp_path: Path) -> None:
    spec, _ = derive_spec(table_file(tmp_path / "a.parquet", ticking(100 * MS, 300, 0), x=np.ones(300)))
    assert (spec.allowed_lateness_ns, spec.max_gap_ns) == (10 * SECOND_NS, 300 * SECOND_NS)
    assert spec.silent_after_ns == 300 * SECOND_NS


@pytest.mark.parametrize(
    ("rows", "expected"), [([400], 16), ([159], 15), ([100], 10), ([20], 4), ([30, 30, 30], 15), ([90, 2], 9)]
)
def test_a_short_history_shrinks_the_window(tmp_path: Path, rows: list[int], expected: int) -> None:
    times = np.concatenate([START + SECOND_NS * np.arange(n) for n in rows])
    assets = [f"p{i}" for i, n in enumerate(rows) for _ in range(n)]
    path = table_file(tmp_path / "a.parquet", times, asset=assets, x=np.ones(len(times)))
    spec, notes = derive_spec(path)
    assert spec.window == expected
    assert any("windows of" in note for note in notes) == (expected < 16)


def test_only_the_first_rows_count_when_asked(tmp_path: Path) -> None:
    times = np.concatenate(
        [START + SECOND_NS * np.arange(50), START + 10**15 + 60 * SECOND_NS * np.arange(500)]
    )
    table = read_table(table_file(tmp_path / "a.parquet", times, x=np.ones(550)))
    assert derive_spec(table)[0].period_ns == 60 * SECOND_NS
    assert derive_spec(table, rows=50)[0].period_ns == SECOND_NS


def test_what_is_odd_is_noted(tmp_path: Path) -> None:
    times = np.array([START, START + 5, START + 9, START + 10, *(START + SECOND_NS * np.arange(1, 8))])
    path = tmp_path / "a.csv"
    path.write_text("ts,x,what\n" + "".join(f"{t},1,text\n" for t in times) + ",2,text\n")
    _, notes = derive_spec(path)
    assert "not numeric, left out: what" in notes
    assert any(note.startswith("1 rows cannot be used; row 11: no time") for note in notes)
    assert any("share a row of 1s" in note for note in notes)


def test_one_row_is_enough_for_a_guess(tmp_path: Path) -> None:
    spec, notes = derive_spec(table_file(tmp_path / "a.parquet", np.array([START]), x=[1.0]))
    assert (spec.period_ns, spec.window) == (SECOND_NS, 4)
    assert any("a period of 1 s is assumed" in note for note in notes)


def test_a_table_that_gives_nothing(tmp_path: Path) -> None:
    path = table_file(tmp_path / "a.parquet", np.array([START, START + 1]), label=[0, 1], x=[1, 2])
    with pytest.raises(InputError, match="every numeric column is excluded"):
        derive_spec(read_table(path), ["x", "label"])
    pq.write_table(pa.table({"ts": pa.array([None], pa.timestamp("s")), "x": [1.0]}), path)
    with pytest.raises(InputError, match="no row has a usable time"):
        derive_spec(path)


# ------------------------------------------------------------------ JSON Lines
def lines(*objects: Any) -> list[bytes]:
    return [each if isinstance(each, bytes) else json.dumps(each).encode() for each in objects]


def test_wide_lines() -> None:
    sample = lines(
        *(
            {"asset": f"p{i % 2}", "ts": 1_704_067_200_000 + 500 * (i // 2), "values": {"b": i, "a": None}}
            for i in range(200)
        ),
        {"asset": "p0", "ts": "2024-01-01T00:10:00Z", "values": {"a": 1.5, "text": "off", "flag": True}},
        b"garbage",
        b"",
        {"asset": "p0", "ts": "never", "values": {"a": 1}},
    )
    spec, notes = derive_spec(sample)
    assert spec.format is Format.JSON_WIDE
    assert spec.fields == FieldNames()
    assert spec.sensors == ("a", "b")
    assert (spec.period_ns, spec.window) == (500 * MS, 16)
    assert "3 lines cannot be used: bad_timestamp 1, blank 1, not_json 1" in notes


def test_long_lines_with_names_of_their_own() -> None:
    """The sensors report at different phases: only each one's own differences tell the period."""
    sample = lines(
        *(
            {"device": "d", "tag": tag, "time": 1_704_067_200 + i + phase, "reading": 1.0 + i}
            for i in range(300)
            for tag, phase in (("x", 0), ("y", 0.3))
        )
    )
    spec, _ = derive_spec(sample)
    assert spec.format is Format.JSON_LONG
    assert spec.fields == FieldNames(asset="device", timestamp="time", sensor="tag", value="reading")
    assert (spec.sensors, spec.period_ns, spec.window) == (("x", "y"), SECOND_NS, 16)


def test_an_object_of_numbers_is_the_values_whatever_its_name() -> None:
    spec, _ = derive_spec(lines(*({"id": 7, "ts": i, "payload": {"x": i}} for i in range(1, 60))))
    assert (spec.fields.asset, spec.fields.values, spec.sensors) == ("id", "payload", ("x",))


def test_a_sample_of_a_longer_file_does_not_shrink_the_window(tmp_path: Path) -> None:
    rows = [{"asset": f"p{i % 100}", "ts": 1_704_067_200 + i // 100, "values": {"x": i}} for i in range(5001)]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines(*rows)))
    spec, notes = derive_spec(path)
    assert spec.window == 16
    assert notes == ["derived from the first 5000 lines"]


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ([b"x", b"[1]", b"[" * 100_000], "none of the first 3 lines is a JSON object"),
        (lines({"asset": "a", "x": 1}), "no field for the time .*found: asset, x"),
        (lines({"ts": 1, "x": 1}), "no field for the asset"),
        (lines({"asset": "a", "ts": 1, "x": 1}), "neither wide .* nor long"),
        (lines({"asset": "a", "ts": 1, "sensor": "s", "value": None}), "no sensor ever has a number"),
        (lines({"asset": "a", "ts": "soon", "values": {"x": 1}}), "no line is a reading: bad_timestamp 1"),
    ],
)
def test_lines_that_give_nothing(sample: list[bytes], message: str) -> None:
    with pytest.raises(InputError, match=message):
        derive_spec(sample)


# ------------------------------------------------------------------ config.yaml
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
        replace(SPECS[0], condition=("operating_mode", "product")), bootstrap_servers="kafka-1.example:9092"
    )
    assert not re.search(r"[^ \n]#", long)  # YAML wants a space before a comment
    assert yaml.safe_load(config_yaml(SPECS[0], bootstrap_servers="a:1,b:2"))["kafka"] == {
        "bootstrap_servers": "a:1,b:2",
        "group_id": "anomalyd",
        "instance_id": "$hostname",
    }
    allowed = yaml.safe_load(config_yaml(SPECS[0], bootstrap_servers="a:1", allow_plaintext=True))["kafka"]
    assert allowed["allow_plaintext"] is True


def test_the_newest_messages_of_a_topic() -> None:
    sample = lines(*({"asset": "a", "ts": i, "values": {"x": i}} for i in range(1, 100)))
    spec, notes = derive_spec_of_topic(sample, False, [], "s", "sensors.s")
    assert (spec.sensors, spec.window, notes) == (("x",), 16, ["derived from the newest 99 messages"])
    with pytest.raises(InputError, match=r"^topic 'sensors.s': none of the first 1 lines"):
        derive_spec_of_topic([b"x"], True, [], "s", "sensors.s")


def test_what_may_be_excluded_from_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    wide = {"asset": "p", "ts": 1, "values": {"x": 1}}
    path.write_bytes(b"\n".join(lines(wide, {"asset": "p", "ts": 1, "sensor": "y", "value": 2}, b"[")))
    assert {"x", "y", "asset"} <= names_in(path)
    assert "p" not in names_in(path)


@given(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=30))
def test_any_name_survives_quoting(name: str) -> None:
    assert yaml.safe_load(f"key: {{{quoted(name)}: 1}}") == {"key": {name: 1}}


@given(st.integers(1, 10**12))
def test_any_span_survives(microseconds: int) -> None:
    assert config.parse_duration(span(microseconds * 1000)).total_seconds() == pytest.approx(
        microseconds / 1e6
    )
