"""Whatever a sample holds, it is read or refused in words, and what is written loads."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon import config
from daemon.adapters.sample import config_yaml, derive_of_topic
from daemon.documents import from_yaml
from daemon.domain import Record
from daemon.errors import InputError

NAMES = st.sampled_from(
    [
        *(
            "asset",
            "device",
            "id",
            "name",
            "tag",
            "ts",
            "timestamp",
            "t",
            "value",
            "v",
            "values",
            "metrics",
            "payload",
        ),
        *(
            "fields",
            "tags",
            "q",
            "seq",
            "a.b",
            "",
            "$key",
            "*",
            "x[0]",
            '"',
            "^",
            "\u00fc",
            "\u202e",
            "n" * 300,
        ),
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(
        [1_750_000_000, 1_750_000_000_123, "2025-06-15T12:00:00Z", "3,5", "NaN", "on", "pump/level", ""]
    ),
    st.sampled_from(["@time", "@number"]),  # move from record to record
    st.text(max_size=8),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)
VALUES = st.one_of(TREES.map(json.dumps), st.binary(max_size=40))
HEADERS = st.lists(st.tuples(st.sampled_from(["device", "x"]), st.none() | st.binary(max_size=6)), max_size=2)


def moved(value: str | bytes, at: int) -> bytes:
    """The bytes of a record, with a time and a number of its own."""
    if isinstance(value, bytes):
        return value
    text = value.replace('"@time"', str(1_750_000_000 + 60 * at)).replace('"@number"', str(at * 7 % 11 / 4))
    return text.encode()


@st.composite
def samples(draw: st.DrawFn) -> list[Record]:
    """A few records, some of them many times over with a number that moves."""
    found: list[Record] = []
    for value in draw(st.lists(VALUES, min_size=1, max_size=5)):
        for _ in range(draw(st.sampled_from([1, 1, 12]))):
            stamp = draw(st.sampled_from([-1, 1_750_000_000_000_000_000 + len(found) * 10**9]))
            key = draw(st.none() | st.binary(max_size=6))
            found.append(Record(len(found), key, moved(value, len(found)), stamp, draw(HEADERS), "t"))
    return found


@given(samples())
@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
def test_any_sample_is_read_or_refused_and_what_is_written_loads(sample: list[Record]) -> None:
    try:
        derived = derive_of_topic(sample, True, (), "s", "t")
    except InputError:
        return
    text = config_yaml(derived.spec, "t", derived.notes, written=derived.written)
    (stream,) = config.load(None, (), from_yaml(text)).streams
    spec: Any = stream.spec()
    assert (spec.sensors, spec.input, spec.sensor_rules) == (
        derived.spec.sensors,
        derived.spec.input,
        derived.spec.sensor_rules,
    )
