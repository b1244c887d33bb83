"""Which mapping is taken for messages, and what is said where none reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daemon.adapters.sample import derive_spec
from daemon.domain import SECOND_NS, FieldNames, Format
from daemon.errors import InputError
from tests.adapters.sample.test_period import MS


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
    assert spec.sensors == ("a", "b", "flag", "text")  # a boolean, and a word that is one
    assert (spec.period_ns, spec.window) == (500 * MS, 16)
    assert any(
        note.startswith("3 lines cannot be used: bad_timestamp 1, blank 1, not_json 1") for note in notes
    )


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


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ([b"x", b"[1]", b"[" * 100_000], "none of the first 3 lines is a JSON object"),
        (lines({"asset": "a", "x": 1.5}), r"no field is a time .*name it with input: \{time: FIELD"),
        (
            lines({"asset": "a", "ts": 1}),
            r"the first has asset \(a string\), ts \(a number\); the nearest format is json-wide: no_values",
        ),
        (lines({"asset": "a", "ts": 1, "sensor": "s", "value": None}), "no field holds numbers"),
        (lines({"asset": "a", "ts": "soon", "values": {"x": 1}}), "bad_timestamp"),
    ],
)
def test_lines_without_readings_are_refused_with_what_to_write(sample: list[bytes], message: str) -> None:
    with pytest.raises(InputError, match=message):
        derive_spec(sample)
