"""Records decoded together give what each gives alone, whatever form their fields have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import (
    SECOND_NS,
    FieldNames,
    Format,
    Reading,
    Record,
    Rejected,
    StreamSpec,
)
from daemon.mapping import SensorRule
from daemon.stream.decoding import Decoder
from daemon.stream.timestamps import epoch_numbers_ns, event_time_ns

S = 1_767_571_200
WIDE = StreamSpec("pumps", ("a", "Fühler", "c"))
LONG = replace(WIDE, format=Format.JSON_LONG)
FROM_RECORD = FieldNames(asset="$key", timestamp="$timestamp")
MODED = replace(WIDE, condition=("mode", "$hour"), assets={"p1": {"mode": "idle"}})
RULED = replace(
    WIDE,
    sensor_rules=(SensorRule(scale=0.1, offset=5.0, missing=frozenset({-99.0})), SensorRule(), SensorRule()),
)
STATES = replace(WIDE, sensor_rules=(SensorRule(states={"RUN": 1.0, "5": 7.0}), SensorRule(), SensorRule()))
SPECS = {
    "wide": WIDE,
    "long": LONG,
    "long, sensor in the key": replace(LONG, fields=FieldNames(sensor="$key")),
    "of the record": replace(WIDE, fields=FROM_RECORD),
    "conditions": MODED,
    "conditions without assets": replace(MODED, assets={}),
    "long with conditions": replace(LONG, condition=("mode",)),
    "rules": RULED,
    "long with rules": replace(RULED, format=Format.JSON_LONG),
    "states": STATES,
    "long with states": replace(STATES, format=Format.JSON_LONG),
}
TIMES: list[Any] = [
    S,
    S * 1000,
    S * 1000 + 123,
    S + 0.25,
    S + 0.123456,
    1764397200123.456,
    "2026-01-05T00:00:00Z",
]
TIMES += [
    "0001-01-01T00:00:00Z",
    "1601-01-01T00:00:00Z",
    "2026-01-05 01:00",
    str(S),
    -1,
    1e300,
    10**30,
    None,
    "?",
    True,
    0.1,
    1e-7,
    "9999-01-01",
    S * 1e6,
]
TEXTS = [
    "1.5",
    "-0",
    "-0.0",
    "1e5",
    "nan",
    "-nan",
    "NaN",
    "inf",
    "3,5",
    " 7 ",
    "",
    "true",
    "1",
    "5",
    "RUN",
    "n/a",
]
TEXTS += [
    "9" * 64,
    "9" * 65,
    "9" * 80,
    "1e999",
    "1e-400",
    "null",
    "NULL",
    "+5",
    ".5",
    "0x1",
    "1_0",
    "\\",
    "12 bar",
    "1e00005",
]
CELLS: list[Any] = [*(0.5, 3, -1e-9, 10**400, True, False, None, [1], {"x": 1}, float("nan"), -0.0), *TEXTS]
KEYS: list[bytes | None] = [b"p1", b"p2", b"a", "Fühler".encode(), b"\xff", None, b""]
STAMPS = [S * SECOND_NS, S * SECOND_NS, -1, (S - 7200) * SECOND_NS]
CONDITIONS: list[Any] = [
    {"mode": "run"},
    {"mode": 1},
    {"mode": 1.0},
    {"mode": True},
    {},
    None,
    "run",
    {"mode": []},
]


@st.composite
def records(draw: st.DrawFn, spec: StreamSpec, most_odd: int = 3) -> list[Record]:
    """Records of one form, with some of another one among them."""
    plain = message(draw, spec)
    found = [one_like(plain, i) for i in range(draw(st.integers(1, 40)))]
    for _ in range(draw(st.integers(0, most_odd))):
        odd = draw(st.one_of(st.just((b"{", b"p1", -1)), st.just((b'{"\xff":1}', b"p1", -1)), st.none()))
        found.insert(draw(st.integers(0, len(found))), odd or message(draw, spec))
    return [Record(i, key, value, stamp) for i, (value, key, stamp) in enumerate(found)]


def message(draw: st.DrawFn, spec: StreamSpec) -> tuple[bytes, bytes | None, int]:
    cell = st.sampled_from(CELLS)
    content: dict[str, Any] = {
        "asset": draw(st.sampled_from(["p1", "p1", 7, 7.0, True, None, "pä"])),
        "ts": draw(st.sampled_from(TIMES)),
    }
    if spec.format is Format.JSON_LONG:
        content["sensor"] = draw(st.sampled_from(["a", "Fühler", "c", "d", 5, None]))
        if draw(st.booleans()):
            content["value"] = draw(cell)
    else:
        names = draw(st.lists(st.sampled_from(["a", "a", "Fühler", "c", "d"]), max_size=4))
        content["values"] = {name: draw(cell) for name in names} if draw(st.integers(0, 9)) else None
    if draw(st.booleans()):
        content["condition"] = draw(st.sampled_from(CONDITIONS))
    value = json.dumps(content, ensure_ascii=draw(st.booleans())).encode()
    return value, draw(st.sampled_from(KEYS)), draw(st.sampled_from(STAMPS))


def one_like(plain: tuple[bytes, bytes | None, int], i: int) -> tuple[bytes, bytes | None, int]:
    return plain[0].replace(b"1.5", b"1.5%d" % i), plain[1], plain[2]


def results(readings: Sequence[Reading], rejected: Sequence[Any], decoder: Decoder) -> Any:
    assert all(isinstance(each, Rejected) for each in rejected)
    return (
        [repr((r.offset, r.asset, r.time_ns, r.values and list(map(float, r.values)), r.sensor, r.value)) for r in readings],
        [(r.condition, r.stamp_ns, r.reported, r.counted) for r in readings],
        [(r.record.offset, r.reason, r.detail) for r in rejected],
        (decoder.corrupt_by_fault, decoder.unknown_sensors, decoder.zoneless),
    )  # fmt: skip


@pytest.mark.parametrize("name", SPECS)
def test_records_give_the_same_together_and_alone(name: str) -> None:
    spec = SPECS[name]

    @given(st.lists(records(spec), min_size=1, max_size=3))
    def check(polls: list[list[Record]]) -> None:
        alone, together = Decoder(spec, max_bytes=400), Decoder(spec, max_bytes=400)
        for poll in polls:
            single = [alone.decode(record) for record in poll]
            batch, rejected = together.decode_batch(poll)
            readings = [batch.reading(i) for i in range(len(batch))]
            expected = [each for each in single if isinstance(each, Reading)]
            refused = [each for each in single if not isinstance(each, Reading)]
            assert results(readings, rejected, together) == results(expected, refused, alone)

    check()


NUMBERLIKE = st.one_of(
    st.text("-+.01e", max_size=12),
    st.from_regex(r"-?[01]{1,70}(\.[01]{1,40})?([eE][-+]?0{0,5}[0-9]{1,5})?", fullmatch=True),
    st.sampled_from(
        ["-0", "-nan", "-NaN", "-inf", "1e00001", "1e-00001", "1" * 65, f"{'1' * 33}.{'1' * 31}"]
    ),
    st.sampled_from([f"{'1' * 31}e{'0' * 33}", f"0.{'1' * 60}e-1", f"0.{'1' * 30}E+{'1' * 32}"]),
)


@given(st.lists(NUMBERLIKE, min_size=1, max_size=4))
def test_texts_of_numbers_are_the_same_together_and_alone(texts: list[str]) -> None:
    plain = [{"asset": "p1", "ts": S, "values": {"a": "1.5"}}] * 3
    values = [json.dumps(each).encode() for each in plain]
    values += [json.dumps({"asset": "p1", "ts": S, "values": {"a": text}}).encode() for text in texts]
    alone, together = Decoder(WIDE), Decoder(WIDE)
    together.decode_batch([Record(i, None, value, -1) for i, value in enumerate(values[:3])])
    alone.decode_all([Record(i, None, value, -1) for i, value in enumerate(values[:3])])
    poll = [Record(i, None, value, -1) for i, value in enumerate(values)]
    batch, rejected = together.decode_batch(poll)
    assert not rejected
    readings = [batch.reading(i) for i in range(len(batch))]
    expected = [each for each in alone.decode_all(poll) if isinstance(each, Reading)]
    assert results(readings, [], together) == results(expected, [], alone)


FLOATS = st.one_of(
    st.integers(0, 10**19).map(lambda n: n / 10**9),
    st.integers(0, 10**16).map(lambda n: n / 10**6),
    st.integers(10**14, 10**17).map(lambda n: n / 10**3),
    st.floats(0, 1e18),
)


@given(
    st.one_of(
        st.lists(FLOATS, min_size=1, max_size=4), st.lists(st.integers(0, 2**70), min_size=1, max_size=4)
    )
)
def test_epoch_numbers_are_converted_as_each_alone(found: list[Any]) -> None:
    together = epoch_numbers_ns(found)
    if together is not None:
        assert together.tolist() == [event_time_ns(each) for each in found]


@pytest.mark.parametrize("unit", [1, 10**3, 10**6])
def test_usual_epoch_numbers_are_converted_together(unit: int) -> None:
    floats = [S * unit + n * unit / 10**6 for n in (1, 500_000, 123_456)]
    assert epoch_numbers_ns(floats) is not None
    assert epoch_numbers_ns([S * unit, S * unit + 86_400]) is not None
