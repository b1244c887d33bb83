"""Trees of any kind, read by every preset: nothing but readings, refusals and skips, and the same ones as slowly."""

from __future__ import annotations

import json
import math
import re
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.config.presets import preset_document, preset_names
from daemon.domain import SECOND_NS, Reading, Rejected, Skipped, StreamSpec
from daemon.stream.decoding import Decoder
from daemon.stream.extract.cells import DEEPEST
from daemon.stream.rejection import RejectedError, SkippedError
from tests.config.presets.test_presets import CASES
from tests.naive import merged_readings
from tests.stream.mapped import ARRIVED_NS, as_record, stream

T = 1_772_352_000
SENSORS = ("force", "axis.x", "stroke", "data", "value")
PRESETS = list(preset_names())


@cache
def words(preset: str) -> tuple[str, ...]:
    """The names that a preset looks for."""
    found = re.findall(r"[A-Za-z_@][A-Za-z0-9_]*", json.dumps(preset_document(preset)))
    return tuple(sorted(set(found)))


@cache
def spec(preset: str) -> StreamSpec:
    """A stream of a preset whose tree is JSON here."""
    changes = {"decode": "json"} if "decode" in preset_document(preset) else {}
    return stream(SENSORS, changes, format=preset).spec()


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 600),
    st.integers(T, T + 3),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(["a", "b", "", "GOOD", "Bad", "81,4", "NaN", "2026-03-01T08:00:00.1234567Z", "0001-01-01T00:00:00Z"]),
    st.text(max_size=4),
)  # fmt: skip


@st.composite
def trees(draw: st.DrawFn, preset: str) -> Any:
    names = st.one_of(st.sampled_from((*words(preset), "force", "axis", "x", "stroke")), st.text(max_size=3))
    return draw(
        st.recursive(
            LEAVES,
            lambda inner: st.one_of(
                st.lists(inner, max_size=4), st.dictionaries(names, inner, min_size=1, max_size=8)
            ),
            max_leaves=25,
        )
    )


@st.composite
def changed_messages(draw: st.DrawFn, preset: str) -> Any:
    """A message of the preset's format with a few of its places replaced, doubled or left out."""
    message = draw(st.sampled_from([case[1] for case in CASES.values() if case[0] == preset]))
    message = json.loads(json.dumps(message)) if not isinstance(message, bytes) else {}
    for _ in range(draw(st.integers(0, 3))):
        place: Any = message
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and draw(st.booleans()):
                place = place[key]
                continue
            change = draw(st.sampled_from(["replace", "replace", "delete", "double", "wrap"]))
            if change == "replace":
                place[key] = draw(LEAVES)
            elif change == "delete":
                del place[key]
            elif change == "wrap":
                place[key] = draw(
                    st.sampled_from([[place[key]], {"value": place[key]}, {"double": place[key]}])
                )
            elif isinstance(place, list):
                place.append(place[key])
            else:
                place[draw(st.sampled_from(words(preset)))] = place[key]
            break
    return message


@pytest.mark.parametrize("preset", PRESETS)
@given(data=st.data())
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_any_tree_gives_readings_a_refusal_or_a_skip(preset: str, data: st.DataObject) -> None:
    tree = data.draw(changed_messages(preset) if data.draw(st.booleans()) else trees(preset))
    headers = data.draw(
        st.lists(st.tuples(st.sampled_from(["ce_time", "deviceName"]), st.binary(max_size=9)))
    )
    record = as_record(json.dumps(tree).encode(), data.draw(st.none() | st.binary(max_size=9)), headers)
    decoder = Decoder(spec(preset))
    found = decoder.decode_all([record])
    assert found
    assert len(found) == 1 or all(isinstance(each, Reading) for each in found)
    if not isinstance(found[0], Reading):
        assert isinstance(found[0], Rejected | Skipped)
        if isinstance(found[0], Rejected):
            assert found[0].detail.isprintable()
            assert found[0].detail.isascii()
        return
    check_like_slowly(preset, record, [reading for reading in found if isinstance(reading, Reading)])


def check_like_slowly(preset: str, record: Any, readings: list[Reading]) -> None:
    """The readings are those of the cells that a survey finds, merged one by one."""
    cells, _ = Decoder(spec(preset)).survey(record)
    expected = merged_readings(cells, SENSORS, ARRIVED_NS + 3600 * SECOND_NS)
    made = {}
    for reading in readings:
        assert reading.values is not None
        if not reading.reported:  # an empty row of a format whose messages are whole rows
            assert not spec(preset).gathers
            continue
        made[reading.asset, reading.time_ns] = {
            sensor: value
            for place, (sensor, value) in enumerate(zip(SENSORS, reading.values, strict=True))
            if reading.reported >> place & 1
        }
    assert repr({key: sorted(made[key].items()) for key in sorted(made)}) == repr(
        {key: sorted(expected[key].items()) for key in sorted(expected)}
    )
    assert [reading.time_ns for reading in readings] == sorted(reading.time_ns for reading in readings)
    assert [reading.counted for reading in readings] == [False] * (len(readings) - 1) + [True]


@st.composite
def item_lists(draw: st.DrawFn) -> list[Any]:
    value = st.one_of(st.floats(-9, 9), st.just("x"), st.none(), st.just(True), st.just("4,5"), st.just([1]))
    item = st.fixed_dictionaries(
        {},
        optional={
            "id": st.sampled_from(["a", "b", 7, "", None]),
            "ts": st.sampled_from([T, T + 1, "x", None, 10**40, -1, f"{T}"]),
            "n": st.sampled_from(["force", "stroke", "no", 3]),
            "v": value,
            "q": st.sampled_from([True, False, 192, 0, "Good", "Bad", None, {"Code": 0}]),
            "w": st.dictionaries(st.sampled_from(["force", "axis.x", "axis", "no"]), value),
        },
    )
    return draw(st.lists(item, min_size=1, max_size=6))


KEYS = {"each": "list", "asset": "id", "time": "ts", "quality": "q"}
SHAPES: dict[str, dict[str, Any]] = {
    "one": KEYS | {"sensor": "n", "value": "v"},
    "one id": KEYS | {"asset": "n", "sensor": "n", "value": "v"},
    "fields": KEYS | {"fields": {"force": "v", "stroke": ["w.force", "w.axis"]}},
    "leaves": KEYS | {"leaves": "w"},
    "leaves at the root": KEYS | {"leaves": "."},
    "leaves with a prefix": KEYS | {"leaves": {"under": "w", "except": ["a*x"]}},
    "each cell": KEYS | {"leaves": "w", "quality": "q[$name]"},
}


@pytest.mark.parametrize("shape", SHAPES)
@given(items=item_lists())
@settings(max_examples=150)
def test_every_way_to_read_items_gives_the_same_as_one_by_one(shape: str, items: list[Any]) -> None:
    mapped = stream(SENSORS, SHAPES[shape]).spec()
    record = as_record({"list": items})
    found = [each for each in Decoder(mapped).decode_all([record]) if isinstance(each, Reading)]
    cells, _ = Decoder(mapped).survey(record)
    expected = merged_readings(cells, SENSORS, ARRIVED_NS + 3600 * SECOND_NS)
    assert {(reading.asset, reading.time_ns) for reading in found} == set(expected)
    for reading in found:
        assert reading.values is not None
        values = expected[reading.asset, reading.time_ns]
        assert {SENSORS[place] for place in range(len(SENSORS)) if reading.reported >> place & 1} == set(
            values
        )
        for place, sensor in enumerate(SENSORS):
            assert repr(reading.values[place]) == repr(values.get(sensor, math.nan))


HOSTILE: dict[str, bytes] = {
    "deep objects": b'{"fields":' + b'{"a":' * 900 + b"1" + b"}" * 901,
    "deep arrays": b'{"metrics":' + b"[" * 900 + b"1" + b"]" * 900 + b"}",
    "deeper than JSON may be": b"[" * 100_000,
    "many items that are none": b"[" + b"1," * 200_000 + b"1]",
    "many items without an asset": b'{"metrics":[' + b'{"fields":{"force":1}},' * 20_000 + b"{}]}",
    "many readings": b'{"metrics":['
    + b",".join(b'{"tags":{"host":"a"},"timestamp":%d,"fields":{"force":1}}' % at for at in range(10_000))
    + b"]}",
    "many names": json.dumps({"tags": {"host": "a"}, "fields": {f"n{at}": at for at in range(20_000)}}).encode(),
    "one very long name": json.dumps({"tags": {"host": "a"}, "timestamp": T, "fields": {"n" * 500_000: 1}}).encode(),
    "nothing": b"",
    "null": b"null",
    "no JSON": b"\x00\x00\x00\x00\x05abc",
}  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS)
def test_hostile_messages_are_bounded(preset: str) -> None:
    for value in HOSTILE.values():
        found = Decoder(spec(preset)).decode_all([as_record(value)])
        assert found
        assert all(isinstance(each, Reading | Rejected | Skipped) for each in found)


def test_leaves_below_the_deepest_level_are_no_numbers() -> None:
    decoder = Decoder(spec("telegraf"))
    nested: Any = 1
    for _ in range(40):
        nested = {"a": nested}
    message = {"tags": {"host": "a"}, "timestamp": T, "fields": {"deep": nested, "force": 2.0}}
    (found,) = decoder.decode_all([as_record(message)])
    assert isinstance(found, Reading)
    assert found.reported == 1
    assert list(decoder.unknown_sensors) == ["deep" + ".a" * DEEPEST]


def test_a_survey_of_any_tree_raises_what_decoding_knows() -> None:
    decoder = Decoder(spec("kepware"))
    for value in (b"{}", b"[]", b'{"values": 1}', b'{"values": []}', b"3"):
        with pytest.raises((RejectedError, SkippedError)):
            decoder.survey(as_record(value))
