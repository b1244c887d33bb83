"""MessagePack and CBOR: the trees of JSON as bytes."""

from __future__ import annotations

import contextlib
import math
import sys
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Reason
from daemon.errors import ConfigError
from daemon.mapping import DecodeRule
from daemon.stream.decode import decode_with
from daemon.stream.rejection import RejectedError
from tests.stream.decode.arriving import refusal, tree_of

TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(TREES)
def test_trees_come_back(tree: Any) -> None:
    assert tree_of("msgpack", msgspec.msgpack.encode(tree)) == tree
    assert tree_of("cbor", cbor2.dumps(tree)) == tree


WHEN = datetime(2025, 11, 29, 6, 20, 0, 250_000, UTC)


@pytest.mark.parametrize(
    ("kind", "value", "tree"),
    [
        ("msgpack", msgspec.msgpack.encode({1: {"t": WHEN}}), {"1": {"t": "2025-11-29T06:20:00.250000+00:00"}}),
        ("msgpack", msgspec.msgpack.encode([msgspec.msgpack.Ext(5, b"x"), 1]), [None, 1]),
        ("cbor", cbor2.dumps({1: 2, -3: 4, b"k": 5, 1.5: 6}), {"1": 2, "-3": 4, "k": 5, "1.5": 6}),
        ("cbor", cbor2.dumps({"t": WHEN}), {"t": "2025-11-29T06:20:00.250000+00:00"}),
        ("cbor", cbor2.dumps([Decimal("21.25"), Fraction(1, 4)]), [21.25, 0.25]),
        ("cbor", cbor2.dumps([cbor2.CBORTag(40_000, [1]), cbor2.undefined]), [[1], None]),
        ("cbor", cbor2.dumps(1 << 100), 1 << 100),
        ("cbor", cbor2.dumps([1 << 5_000, -(1 << 5_000)]), [math.inf, -math.inf]),
        ("cbor", cbor2.dumps([Decimal("1e99999"), {1, 2}]), [math.inf, [1, 2]]),
        ("cbor", cbor2.dumps(Fraction(10**400, 3)), math.inf),
        ("cbor", b"\xd8\x23\x63(((", "((("),  # a regular expression: taken as text, never compiled
        ("cbor", b"\xd8\x1c\x81\xd8\x1d\x00", [0]),  # an array that contains itself
    ],
)  # fmt: skip
def test_what_json_has_no_type_for(kind: str, value: bytes, tree: Any) -> None:
    assert tree_of(kind, value) == tree


def test_a_bomb_of_shared_values_stays_small() -> None:
    """Thirty levels of two references each to the level below would be a billion values."""
    value = b"\xd8\x1c\x81\x01"
    for level in range(30):
        value = b"\xd8\x1c\x82" + value + b"\xd8\x1d" + bytes([level] if level < 24 else [0x18, level])
    assert sum(str(tree_of("cbor", value)).count(sign) for sign in "[") < 100


def test_keys_that_can_be_made_to_collide_are_for_small_records_alone() -> None:
    many = dict.fromkeys(range(2000), "x" * 20)
    assert refusal("cbor", cbor2.dumps(many))[0] is Reason.UNDECODABLE
    assert len(tree_of("cbor", cbor2.dumps({str(key): value for key, value in many.items()}))) == 2_000


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("msgpack", b"", (Reason.BLANK, "no bytes")),
        ("cbor", b"", (Reason.BLANK, "no bytes")),
        ("msgpack", b'{"a": 1}', (Reason.UNDECODABLE, "it looks like JSON: give decode: json")),
        ("cbor", b'{"a": 1}', (Reason.UNDECODABLE, "it looks like JSON: give decode: json")),
        ("msgpack", b"\x82\xa1a", (Reason.UNDECODABLE, "no MessagePack: Input data was truncated")),
        ("msgpack", b"\x91" * 100_000 + b"\x01", (Reason.TOO_DEEP, "nested too deeply")),
        ("cbor", b"\x81" * 100_000 + b"\x01", (Reason.TOO_DEEP, "no CBOR: maximum container nesting depth (400) exceeded")),
        ("cbor", b"\x9b" + b"\x7f" * 8, (Reason.UNDECODABLE, "no CBOR: premature end of stream (expected to read at least 1 bytes, got 0 instead)")),
    ],
)  # fmt: skip
def test_what_is_none_is_refused(kind: str, value: bytes, expected: tuple[Reason, str]) -> None:
    assert refusal(kind, value) == expected


@given(st.binary(max_size=80))
def test_any_bytes_are_decoded_or_refused(value: bytes) -> None:
    for kind in ("msgpack", "cbor"):
        with contextlib.suppress(RejectedError):
            tree_of(kind, value)


def test_cbor_says_which_extra_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cbor2", None)
    with pytest.raises(ConfigError, match=r"decode: cbor needs the extra: pip install 'anomalyd\[cbor\]'"):
        decode_with(DecodeRule("cbor"))
    reason, detail = refusal("senml", b"\x81\xa0")
    assert reason is Reason.UNDECODABLE
    assert "anomalyd[cbor]" in detail
