"""Base64, gzip and zlib are taken off, bounded; what cannot be is explained."""

from __future__ import annotations

import base64
import contextlib
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Reason
from daemon.errors import ConfigError
from daemon.mapping import DecodeRule
from daemon.stream.decode import decode_with
from daemon.stream.decode.wrappings import looks_like, unwrap_base64, unwrap_compressed
from daemon.stream.rejection import RejectedError
from tests.stream.decode.arriving import arrival, refusal

MOST = 2_000


def refused(unwrap: object, value: bytes) -> tuple[Reason, str]:
    assert callable(unwrap)
    with pytest.raises(RejectedError) as error:
        unwrap(value)
    return error.value.reason, error.value.detail


@given(st.binary(min_size=1))
def test_base64_is_read_of_either_alphabet_padded_or_not_and_in_lines(value: bytes) -> None:
    standard, url = base64.b64encode(value), base64.urlsafe_b64encode(value)
    for text in (standard, url, standard.rstrip(b"="), url.rstrip(b"="), b' "' + standard + b'"\n'):
        assert unwrap_base64(text) == value
    assert unwrap_base64(base64.encodebytes(value)) == value


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        (b"", Reason.BLANK, "nothing but white space"),
        (
            b'{"a": 1}',
            Reason.UNDECODABLE,
            "'{' is no character of base64; it looks like JSON: leave out unwrap",
        ),
        (b"ab%d", Reason.UNDECODABLE, "'%' is no character of base64"),
        (b"abcde", Reason.UNDECODABLE, "no base64: Invalid base64-encoded string"),
    ],
)
def test_what_is_no_base64_is_refused(text: bytes, reason: Reason, detail: str) -> None:
    found = refused(unwrap_base64, text)
    assert found[0] is reason
    assert found[1].startswith(detail)


@given(st.binary(max_size=MOST))
def test_what_was_compressed_comes_back(value: bytes) -> None:
    assert unwrap_compressed("gzip", MOST)(gzip.compress(value, mtime=0)) == value
    assert unwrap_compressed("zlib", MOST)(zlib.compress(value)) == value


def test_gzip_may_have_several_members() -> None:
    assert (
        unwrap_compressed("gzip", MOST)(gzip.compress(b"a", mtime=0) + gzip.compress(b"b", mtime=0)) == b"ab"
    )


@pytest.mark.parametrize(("kind", "compress"), [("gzip", gzip.compress), ("zlib", zlib.compress)])
def test_a_bomb_is_refused_before_it_is_made(kind: str, compress: object) -> None:
    assert callable(compress)
    bomb = compress(b"\x00" * 50_000_000)
    assert refused(unwrap_compressed(kind, MOST), bomb) == (
        Reason.TOO_LARGE,
        "over 2000 bytes when decompressed",
    )
    several = gzip.compress(b"x" * 1_500, mtime=0) * 2
    assert refused(unwrap_compressed("gzip", MOST), several)[0] is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("kind", "value", "detail"),
    [
        ("gzip", gzip.compress(b"abc", mtime=0)[:-3], "the gzip ends too early"),
        ("zlib", zlib.compress(b"abc")[:-3], "the zlib ends too early"),
        ("gzip", zlib.compress(b"abc"), "no gzip: a zlib header begins it: give unwrap: zlib"),
        ("zlib", gzip.compress(b"abc", mtime=0), "no zlib: a gzip header begins it: give unwrap: gzip"),
        ("gzip", b"plain", "no gzip: incorrect header check"),
        ("gzip", b"", "the gzip ends too early"),
    ],
)
def test_what_is_not_compressed_so_is_refused(kind: str, value: bytes, detail: str) -> None:
    assert refused(unwrap_compressed(kind, MOST), value) == (Reason.UNDECODABLE, detail)


@given(st.binary(max_size=200))
def test_any_bytes_are_unwrapped_or_refused(value: bytes) -> None:
    for unwrap in (unwrap_base64, unwrap_compressed("gzip", MOST), unwrap_compressed("zlib", MOST)):
        with contextlib.suppress(RejectedError):
            unwrap(value)
    looks_like(value)


def test_wrappings_are_taken_off_in_order() -> None:
    value = base64.b64encode(gzip.compress(b'{"a": 1}', mtime=0))
    decode = decode_with(DecodeRule("json", ("base64", "gzip")))
    assert decode(value, arrival()) == {"a": 1}
    small = decode_with(DecodeRule("json", ("base64", "gzip")), most_bytes=4)
    with pytest.raises(RejectedError, match="over 4 bytes"):
        small(value, arrival())


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (gzip.compress(b"{}", mtime=0), "a gzip header begins it: give unwrap: gzip"),
        (zlib.compress(b"{}" * 50), "a zlib header begins it: give unwrap: zlib"),
        (base64.b64encode(b'{"a": 1}'), "it looks like JSON in base64: give unwrap: base64"),
        (
            b"\x00\x00\x00\x00\x07\xff",
            "a zero byte begins it, as Confluent's framing does: give decode: avro",
        ),
        (
            b'\x00\x00\x00\x00\x07{"a": 1}',
            "a zero byte begins it, as Confluent's framing does: give decode: json-",
        ),
        (b"\x28\xb5\x2f\xfd\x04", "a zstd header begins it: let the producer compress"),
        (b"\x81\xa1a\x01", "it may be MessagePack: give decode: msgpack"),
        (b"\xa1\x61a\xff", "it may be CBOR: give decode: cbor"),
        (b'{"a": 1}\n{"a": 2}', "Extra data at character 9 (several JSON texts? Give decode: json-lines)"),
    ],
)
def test_what_is_no_json_is_named_where_it_shows(value: bytes, detail: str) -> None:
    assert refusal("json", value)[1].startswith(detail)


def test_rules_that_cannot_be_are_refused_at_once() -> None:
    for rule, detail in (
        (DecodeRule("yaml"), "decode: 'yaml' is none of avro, cbor, csv, influx, json, "),
        (DecodeRule("json", ("confluence",)), "decode: unwrap 'confluence' is none of base64, gzip, zlib"),
        (
            DecodeRule("influx", (), {"precison": "s"}),
            "decode: influx knows no option 'precison'; it has precision",
        ),
        (DecodeRule("msgpack", (), {"x": 1}), "decode: msgpack knows no option 'x'; it has none"),
        (DecodeRule("json", (), {"longs": 1}), "decode: longs 1 is neither true nor false"),
    ):
        with pytest.raises(ConfigError) as error:
            decode_with(rule)
        assert str(error.value).startswith(detail)
