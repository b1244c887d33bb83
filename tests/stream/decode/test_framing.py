"""What stands before a message: ids, GUIDs, Glue's header, the way to a Protobuf message, and what else was found."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Reason
from daemon.stream.decode.framing import (
    HEADER,
    after_index,
    confluent_id,
    framed,
    glue_body,
    looks_framed,
    message_path,
    single_object_body,
    unframed,
)
from daemon.stream.rejection import RejectedError
from tests.stream.decode.framings import by_guid, confluent, glue, path, reason_of

GUID = UUID("9d1f0f6e-3a52-4c7d-8f20-2a8f4e1c0b77")


def test_a_number_and_a_guid_are_read_with_where_the_body_begins() -> None:
    assert confluent_id(confluent(70_000, b"body")) == (70_000, 5)
    assert confluent_id(by_guid(GUID) + b"body") == (str(GUID), 17)
    assert unframed(confluent(2**31 - 1, b"body")) == b"body"


def test_what_the_header_holds_stands_before_the_value_again() -> None:
    headers = [("trace", b"x"), (HEADER, by_guid(GUID))]
    assert framed(b"body", headers) == by_guid(GUID) + b"body"
    assert framed(b"body", [("trace", b"x"), (HEADER, None)]) == b"body"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b'{"asset": "a"}', "the first byte is 0x7b, which begins JSON: give decode: json"),
        (b"  [1]", "which begins JSON: give decode: json"),
        (b"\x1f\x8b\x08\x00\x00\x00", "which begins gzip: give unwrap: gzip"),
        (b"Obj\x01avro", "begins an Avro container file"),
        (b"", "there are no bytes"),
        (b"\x00\x00\x00\x01", "4 bytes are too few"),
        (b"\x01" + bytes(10), "11 bytes are too few"),
        (confluent(2**31, b"body"), "2147483648 is no schema id"),
        (glue(GUID, b"x"), "give framing: glue"),
        (b"\xc3\x01" + bytes(8), "give framing: single-object"),
        (b"\x0cpump-1", "give framing: none and a schema"),
    ],
)
def test_bytes_in_another_form_are_refused_with_what_they_are(value: bytes, says: str) -> None:
    with pytest.raises(RejectedError, match=says) as refused:
        confluent_id(value)
    assert refused.value.reason is Reason.UNDECODABLE


@pytest.mark.parametrize("compressed", [False, True])
def test_a_body_in_glues_framing_is_decompressed(compressed: bool) -> None:
    assert glue_body(glue(GUID, b"body", compressed=compressed), 99) == (str(GUID), b"body")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (confluent(1, b"body of enough bytes"), Reason.UNDECODABLE),
        (b"\x03\x07" + GUID.bytes, Reason.UNDECODABLE),
        (b"\x03\x00" + GUID.bytes[:15], Reason.UNDECODABLE),
        (b"\x03\x05" + GUID.bytes + b"no zlib", Reason.UNDECODABLE),
    ],
)
def test_what_is_not_in_glues_framing_is_refused(value: bytes, reason: Reason) -> None:
    with pytest.raises(RejectedError) as refused:
        glue_body(value, 99)
    assert refused.value.reason is reason


def test_a_body_that_grows_without_end_is_refused() -> None:
    assert len(glue_body(glue(GUID, bytes(1000), compressed=True), 1000)[1]) == 1000
    with pytest.raises(RejectedError) as refused:
        glue_body(glue(GUID, bytes(100_000), compressed=True), 1000)
    assert refused.value.reason is Reason.TOO_LARGE


def test_the_single_object_encoding_has_a_mark_and_a_fingerprint() -> None:
    assert single_object_body(b"\xc3\x01" + bytes(8) + b"body") == b"body"
    with pytest.raises(RejectedError, match="no C3 01"):
        single_object_body(b"body")


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=8), st.binary(max_size=8))
def test_the_way_to_a_message_is_read_as_it_was_written(indexes: list[int], body: bytes) -> None:
    value = b"12345" + path(*indexes) + body
    found, at = message_path(value, 5)
    assert found == tuple(indexes)
    assert value[at:] == body


def test_the_first_message_is_a_single_zero() -> None:
    assert message_path(b"\x00body", 0) == ((0,), 1)


@pytest.mark.parametrize("value", [b"", b"\xff\xff\xff\xff\xff\xff", b"\x04\x00", b"\x01", path(*[0] * 40)])
def test_a_way_without_end_or_sense_is_refused(value: bytes) -> None:
    with pytest.raises(RejectedError) as refused:
        message_path(value, 0)
    assert refused.value.reason is Reason.UNDECODABLE


def test_glues_number_of_the_message_is_passed_over() -> None:
    assert after_index(b"\x81\x01body") == b"body"
    with pytest.raises(RejectedError):
        after_index(b"\x81")


def test_a_body_alone_that_may_be_framed_is_recognized() -> None:
    assert "framing: confluent" in looks_framed(confluent(1, b"x"))
    assert "framing: glue" in looks_framed(glue(GUID, b"x"))
    assert "framing: single-object" in looks_framed(b"\xc3\x01" + bytes(9))
    assert looks_framed(b"\x0cpump-1") == ""


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    for read in (
        confluent_id,
        lambda given: glue_body(given, 99),
        single_object_body,
        unframed,
        after_index,
        looks_framed,
    ):
        assert reason_of(read, value) in (None, Reason.UNDECODABLE, Reason.TOO_LARGE)
