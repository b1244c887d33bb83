"""Which values are to be trusted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.config.input_notation import parse_mapping
from daemon.domain import Record
from daemon.stream.extract.quality import compile_quality

RECORD = Record(0, None, b"", 0, [("q", b"Bad")])


def trusted(rule: Any, found: Any = None, **item: Any) -> bool:
    name = rule if isinstance(rule, str) else rule["from"]
    quality = parse_mapping({"asset": "a", "time": "t", "leaves": ".", "quality": rule}, "custom").quality
    assert quality is not None
    return compile_quality(quality)(({name: found} | item, None, None), RECORD)


GOOD = [
    "GOOD",
    "Good",
    "good_unspecified",
    "OK (0x0)",
    "ok",
    "valid",
    "true",
    True,
    None,
    "",
    192,
    216,
    255,
    "192",
    "0x0",
]
GOOD += [
    0x40000000 * 0 + 256,
    {"Code": 0},
    {"Symbol": "Good"},
    {},
    "StatusGood",
    "The operation succeeded. StatusGood (0x0)",
]
UNCERTAIN = [
    "Uncertain",
    "Questionable",
    64,
    80,
    0x40920000,
    {"Code": 0x40920000},
    "UncertainInitialValue",
    "0x40920000",
]
BAD = [
    "BAD",
    "Bad_CommFailure",
    "stale",
    "invalid",
    "false",
    False,
    0,
    24,
    500,
    0x80310000,
    -2144272384,
    {"Code": 0x80310000},
]
BAD += [
    "StatusBadNodeIDUnknown (0x80340000)",
    "0x80310000",
    {"Symbol": "BadNoCommunication"},
    [1],
    1.5,
    "0",
    {"Code": "Bad"},
]


@pytest.mark.parametrize("found", GOOD)
def test_good_is_trusted(found: Any) -> None:
    assert trusted("q", found)
    assert trusted({"from": "q", "uncertain": "drop"}, found)


@pytest.mark.parametrize("found", UNCERTAIN)
def test_uncertain_is_trusted_unless_it_is_dropped(found: Any) -> None:
    assert trusted("q", found)
    assert not trusted({"from": "q", "uncertain": "drop"}, found)


@pytest.mark.parametrize("found", BAD)
def test_bad_is_not_trusted(found: Any) -> None:
    assert not trusted("q", found)


@pytest.mark.parametrize(
    ("rule", "found", "expected"),
    [
        ("StatusCode", 192, True),  # of 32 bits: severity 0
        ("StatusCode", 0x80000000, False),
        ("status", "0x80000000", False),
        ({"from": "q", "code": "opc-da"}, 0, False),
        ({"from": "q", "code": "opc-da"}, 192, True),
        ({"from": "q", "code": "sparkplug"}, 500, False),
        ({"from": "q", "code": "sparkplug"}, "192", True),
        ({"from": "q", "code": "opc-ua"}, 0, True),
        ({"from": "q", "good": [0]}, 0, True),
        ({"from": "q", "good": [0]}, 192, False),
        ({"from": "q", "good": ["Fine"]}, "fine", True),
        ({"from": "q", "good": [0]}, {"code": 0}, True),
        ({"from": "q", "good": [0]}, [0], False),
        ({"from": "q", "good": [0]}, True, False),
        ({"from": "q", "good": [192]}, "192", True),
        ({"from": "q", "good": ["192"]}, 192, True),
        ({"from": "q", "good": ["0x0"]}, "0", True),
        ({"from": "q", "bad": [0]}, "0", False),
        ({"from": "q", "bad": [0]}, " 1 ", True),
        ({"from": "q", "code": "opc-da"}, 2150694912, False),
        ({"from": "q", "code": "sparkplug"}, "0x80050000", False),
        ({"from": "q", "code": "opc-da"}, "2150694912", False),
        ({"from": "q", "bad": ["defect", 9]}, "Defect ", False),
        ({"from": "q", "bad": ["defect", 9]}, 9, False),
        ({"from": "q", "bad": ["defect", 9]}, "anything", True),
        ({"from": "q", "good": [0]}, None, True),
        ("valid", 1, True),
        ("isGood", 0, False),
        ("isGood", "yes", False),
        ("$header:q", None, False),
    ],
)
def test_a_rule_says_what_is_good(rule: Any, found: Any, expected: bool) -> None:
    assert trusted(rule, found) is expected


def test_what_is_absent_is_good() -> None:
    assert trusted({"from": "other"}, None)
    quality = parse_mapping(
        {"asset": "a", "time": "t", "leaves": ".", "quality": ["x", "y"]}, "custom"
    ).quality
    assert quality is not None
    read = compile_quality(quality)
    assert read(({}, None, None), RECORD)
    assert not read(({"y": "Bad"}, None, None), RECORD)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists)
    | st.dictionaries(st.sampled_from(["Code", "a"]), st.integers() | st.text())
)
def test_any_value_has_a_verdict(found: Any) -> None:
    for rule in ("q", "status", {"from": "q", "code": "opc-da"}, {"from": "q", "good": [1]}):
        name = rule if isinstance(rule, str) else "q"
        assert trusted(rule, found) in (True, False), name
