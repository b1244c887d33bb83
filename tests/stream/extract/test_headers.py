"""Values of headers: texts, and what AMQP has typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.stream.extract.headers import header_value


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"pump", b"pump"),
        (b"", b""),
        (b"\xa1\x04pump", b"pump"),
        (b"\xa3\x04pump", b"pump"),
        (b"\xb1\x00\x00\x00\x04pump", b"pump"),
        (b"\xb3\x00\x00\x00\x04pump", b"pump"),
        (b"\x83" + (1_772_352_000_000).to_bytes(8, "big"), 1_772_352_000_000),
        (b"\x81" + (-5).to_bytes(8, "big", signed=True), -5),
        (b"\x80" + (2**64 - 1).to_bytes(8, "big"), 2**64 - 1),
        (b"\xa1\x05pump", b"\xa1\x05pump"),
        (b"\xa1", b"\xa1"),
        (b"\xb1\x00\x00\x00\x05pump", b"\xb1\x00\x00\x00\x05pump"),
        (b"\x83\x00", b"\x83\x00"),
    ],
)
def test_a_typed_value_is_taken_out_and_others_stay(written: bytes, expected: object) -> None:
    assert header_value(written) == expected


@given(st.text())
def test_no_text_is_taken_for_a_typed_value(text: str) -> None:
    written = text.encode(errors="replace")
    assert header_value(written) == written


@given(st.binary(max_size=20))
def test_any_bytes_have_a_value(written: bytes) -> None:
    assert isinstance(header_value(written), bytes | int)
