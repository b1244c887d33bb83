"""What the bytes of messages look like."""

from __future__ import annotations

import base64
import gzip
import zlib

import cbor2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.sample.encodings import find_decoding, look_of
from daemon.domain import Record

TEXT = b'{"device": "d-1", "ts": 1750000000, "level": 3.25, "flow": 17}'
FLOW = msgspec.json.decode(TEXT)


@pytest.mark.parametrize(
    ("value", "look"),
    [
        (TEXT, "json"),
        (b"[" + TEXT + b"]", "json"),
        (TEXT + b"\n" + TEXT + b"\n", "lines"),
        (gzip.compress(TEXT, mtime=0), "gzip"),
        (zlib.compress(TEXT), "zlib"),
        (base64.b64encode(TEXT), "base64"),
        (base64.b64encode(gzip.compress(TEXT, mtime=0)), "base64 gzip"),
        (b"\x00\x00\x00\x00\x07" + TEXT, "framed json"),
        (b"\x00\x00\x00\x00\x07\x02\x08pump\xff\xfe", "framed"),
        (b"\x03\x00" + bytes(range(200, 216)) + b"\xff\x80\x01", "glue"),
        (msgspec.msgpack.encode(FLOW), "msgpack"),
        (cbor2.dumps(FLOW), "cbor"),
        (b"tank,device=d-1 level=3.25,flow=17i 1750000000000000000", "influx"),
        (b"tank.d-1.level 3.25 1750000000\ntank.d-1.flow 17 1750000000", "graphite"),
        (b'tank_level{instance="d-1",site="a"} 3.25 1750000000000', "prometheus"),
        (b"tank.d-1.level is 1750000000", "text"),
        (b"d-1;2025-06-15", "text"),
        (b"d-1,2025-06-15T15:06:40Z,3.25,17", "csv"),
        (b"3.25", "number"),
        (b"  ", "blank"),
        (b"\xff\xfe\x01\x02", "binary"),
    ],
)
def test_bytes_are_known_by_their_look(value: bytes, look: str) -> None:
    assert look_of(value) == look


@given(st.binary(max_size=200))
def test_any_bytes_look_like_something(value: bytes) -> None:
    assert find_decoding([Record(0, None, value, -1)]).looks


def test_most_records_decide_and_blank_ones_do_not() -> None:
    values = [b"", b"", b"", TEXT, TEXT, b"x"]
    assert find_decoding([Record(i, None, v, -1) for i, v in enumerate(values)]).rule is None
    assert find_decoding([]).looks.startswith("nothing")
