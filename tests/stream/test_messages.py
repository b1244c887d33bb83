"""How bytes are parsed into messages, strictly and leniently."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from daemon.domain import (
    FieldNames,
)
from daemon.errors import ConfigError
from daemon.stream.decoding import Decoder
from daemon.stream.messages import MessageParser
from tests.stream.records import (
    LONG,
    SENSORS,
    WIDE,
    accepted,
    record,
    wide,
)


def test_repeated_key_counts_as_json_has_it_the_last_one() -> None:
    text = b'{"asset":"a","asset":"b","ts":1,"values":{"Current":1},"values":{"Current":2,"Current":3%s}}'
    for tail in (b"", b',"Pressure":NaN'):  # the fast way and the lenient one
        reading = accepted(Decoder(WIDE).decode(record(text % tail)))
        assert reading.asset == "b"
        assert repr(reading.values) == "[nan, 3.0, nan]"


def test_byte_order_mark_and_surrounding_white_space_are_skipped() -> None:
    text = b"\xef\xbb\xbf  " + wide({"Current": 1}) + b"\r\n"
    assert repr(accepted(Decoder(WIDE).decode(record(text))).values) == "[nan, 1.0, nan]"


@pytest.mark.parametrize(
    "fields",
    [
        FieldNames(values="$key"),
        FieldNames(timestamp="$key"),
        FieldNames(asset="$timestamp"),
        FieldNames(asset="id", timestamp="id"),
        FieldNames(asset="$kye"),
    ],
)
def test_field_names_that_cannot_work_are_a_configuration_error(fields: FieldNames) -> None:
    with pytest.raises(ConfigError, match=r"^stream pumps: .*field"):
        Decoder(replace(WIDE, fields=fields))
    with pytest.raises(ConfigError, match="one name"):
        Decoder(replace(LONG, fields=FieldNames(asset="$key", sensor="$key")))


def test_strict_json_is_parsed_into_one_field_per_sensor_and_the_rest_leniently() -> None:
    parser = MessageParser(WIDE)
    assert parser.cells is not None
    known, strict = parser.parse_any(wide(dict.fromkeys(SENSORS, 1.0)))
    assert (type(known.values), strict) == (parser.cells, True)
    more, strict = parser.parse_any(wide({SENSORS[0]: 1.0, "other": 2.0}))
    assert (more.values, strict) == ({SENSORS[0]: 1.0, "other": 2.0}, True)
    odd, strict = parser.parse_any(wide({SENSORS[0]: 1.0}).replace(b"1.0", b"NaN"))
    assert (math.isnan(odd.values[SENSORS[0]]), strict) == (True, False)
