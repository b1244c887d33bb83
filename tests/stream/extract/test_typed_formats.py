"""The presets json-wide and json-long give what the typed decoder gives."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.config.sections import StreamSection
from daemon.domain import Reading, Rejected
from daemon.stream.decoding import Decoder
from tests.stream.mapped import ARRIVED_NS, as_record

T = 1_772_352_000
SENSORS = ("force", "stroke")
CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(["1.5", "1,5", "NaN", "", "x", "on", "AZI="]),
    st.just([1]),
    st.just({"a": 1}),
)


def no_object(cell: Any) -> bool:
    return not isinstance(cell, dict)


ASSETS = st.sampled_from(["p1", "p2", "", None, 7, 1.5, ["a"], "a\n"])
TIMES = st.sampled_from(
    [
        *(T, T * 1000 + 1, T + 0.5, f"{T}", "2026-03-01T08:00:00Z", "2026-03-01 09:00:00+01:00"),
        *("x", None, [1], -1, 10**40, ARRIVED_NS * 2, "1901-01-01T00:00:00Z", "", True),
    ]
)


def some(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Messages with nearly all of the fields."""
    return st.fixed_dictionaries({}, optional=fields) | st.fixed_dictionaries(fields)


def typed_and_mapped(format: str, message: Any) -> list[Reading | Rejected]:
    """What each of the two decoders gives."""
    made = []
    for input in (None, {}):
        section = StreamSection(name="s", topics=("t",), sensors=SENSORS, format=format, input=input)
        (found,) = Decoder(section.spec()).decode_all([as_record(message)])
        assert isinstance(found, Reading | Rejected)
        made.append(found)
    return made


def check(format: str, message: Any) -> None:
    typed, mapped = typed_and_mapped(format, message)
    if isinstance(typed, Rejected) or isinstance(mapped, Rejected):
        assert isinstance(typed, Rejected), (typed, mapped)
        assert isinstance(mapped, Rejected), (typed, mapped)
        return
    assert (mapped.asset, mapped.time_ns) == (typed.asset, typed.time_ns)
    assert mapped.values is not None
    if typed.values is None:
        assert repr(mapped.values[typed.sensor]) == repr(typed.value)
        assert mapped.reported == 1 << typed.sensor
    else:
        assert repr(list(mapped.values)) == repr(list(typed.values))


@settings(max_examples=300)
@given(
    some(
        {
            "asset": ASSETS,
            "ts": TIMES,
            # An object below `values` differs on purpose: a mapping looks for sensors in it.
            "values": st.dictionaries(st.sampled_from([*SENSORS, "other"]), CELLS.filter(no_object)) | CELLS,
        }
    )
)
def test_wide_messages_give_the_same_readings(message: dict[str, Any]) -> None:
    check("json-wide", json.loads(json.dumps(message)))


@settings(max_examples=300)
@given(
    some(
        {
            "asset": ASSETS,
            "ts": TIMES,
            "sensor": st.sampled_from([*SENSORS, "other", 3, None, "", [1]]),
            "value": CELLS,
        }
    )
)
def test_long_messages_give_the_same_readings(message: dict[str, Any]) -> None:
    check("json-long", json.loads(json.dumps(message)))
