"""Asset ids, sensor names and conditions of messages, and the reasons for rejecting them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from daemon.domain import (
    FieldNames,
    Reason,
    Record,
    Rejected,
)
from daemon.stream.decoding import Decoder
from daemon.stream.fields import OTHER, AssetIds
from tests.stream.records import (
    GOOD,
    LONG,
    MODED,
    SENSORS,
    WIDE,
    accepted,
    line,
    long,
    record,
    refused,
    wide,
)


@pytest.mark.parametrize(
    ("asset", "expected"), [("Pumpe 1/ä", "Pumpe 1/ä"), (17, "17"), ("漢" * 85, "漢" * 85)]
)
def test_asset_is_text_and_a_whole_number_is_its_text(asset: object, expected: str) -> None:
    assert accepted(Decoder(WIDE).decode(record(wide({}, asset=asset)))).asset == expected


def test_assets_to_forget_are_rejected_by_name() -> None:
    decoder = Decoder(replace(WIDE, forget=frozenset({"pump-09"})))
    for asset, wanted in (("pump-09", Reason.FORGOTTEN), ("pump-08", None)):
        message = json.dumps({"asset": asset, "ts": 1, "values": {}}).encode()
        found = decoder.decode(Record(0, None, message, -1))
        assert (found.reason if isinstance(found, Rejected) else None) is wanted


def test_bad_or_missing_record_key_has_its_reason() -> None:
    carried = Decoder(replace(WIDE, fields=FieldNames(asset="$key")))
    assert refused(carried.decode(record(GOOD))) == (Reason.NO_ASSET, "no record key")
    assert refused(carried.decode(record(GOOD, key=b"\xff")))[0] is Reason.BAD_ASSET
    assert refused(carried.decode(record(GOOD, key=b"")))[0] is Reason.BAD_ASSET
    keyed = Decoder(replace(LONG, fields=FieldNames(sensor="$key")))
    assert refused(keyed.decode(record(line(asset="a", ts=1, value=1)))) == (
        Reason.NO_SENSOR,
        "no record key",
    )
    assert refused(keyed.decode(record(long(1), key=b"\xff")))[0] is Reason.UNKNOWN_SENSOR


def test_the_detail_of_an_unknown_sensor_names_the_nearest_known() -> None:
    for decoder, value in ((Decoder(WIDE), wide({"Presure": 1})), (Decoder(LONG), long(1, sensor="Presure"))):
        for _ in range(2):
            _, detail = refused(decoder.decode(record(value)))
            assert detail == "unknown sensor 'Presure'; the nearest known is 'Pressure'"
        assert decoder.unknown_sensors == {"Presure": 2}
    assert refused(Decoder(WIDE).decode(record(wide({"zzz": 1}))))[1] == "unknown sensor 'zzz'"


def test_unknown_sensor_beside_known_ones_is_counted_and_ignored() -> None:
    decoder = Decoder(WIDE)
    assert (
        repr(accepted(decoder.decode(record(wide({"Current": 1, "extra": 2})))).values) == "[nan, 1.0, nan]"
    )
    assert (
        repr(accepted(decoder.decode(record(wide({"Current": None, "extra": "x"})))).values)
        == "[nan, nan, nan]"
    )
    assert decoder.unknown_sensors == {"extra": 2}
    assert not decoder.corrupt_cells


def test_ever_new_sensor_names_take_bounded_memory() -> None:
    decoder = Decoder(WIDE)
    for i in range(1000):
        refused(decoder.decode(record(wide({f"s{i}": 1}))))
    refused(decoder.decode(record(wide({"x" * 100_000: 1}))))
    assert decoder.unknown_sensors.total() == 1001
    assert decoder.unknown_sensors[OTHER] > 500
    assert len(decoder.unknown_sensors) <= 257
    assert max(map(len, decoder.unknown_sensors)) <= 256


@pytest.mark.parametrize(
    ("asset", "given", "expected"),
    [
        ("p1", None, "mode=A,load=50"),
        ("p1", {"mode": "B"}, "mode=B,load=50"),
        ("p1", {"load": 3, "mode": True, "other": []}, "mode=true,load=3"),
        ("p1", {"load": 3.0, "mode": False}, "mode=false,load=3"),
        ("p1", {"load": 3.5, "mode": 1e300}, "mode=1e+300,load=3.5"),
        ("p2", {}, "mode=?,load=9"),
        ("p3", {"mode": None}, "mode=?,load=?"),
    ],
)
def test_condition_label(asset: str, given: object, expected: str) -> None:
    more = {} if given is None else {"condition": given}
    assert accepted(Decoder(MODED).decode(record(wide({}, asset=asset, **more)))).condition == expected


def test_calendar_fields_are_not_read_from_messages() -> None:
    both = replace(MODED, condition=("$hour", "mode", "$weekday", "load"))
    given = wide({}, condition={"mode": "B", "$hour": "99"})
    assert accepted(Decoder(both).decode(record(given))).condition == "mode=B,load=50"
    alone = replace(MODED, condition=("$hour",))
    assert accepted(Decoder(alone).decode(record(wide({}, condition=["whatever"])))).condition == ""


@pytest.mark.parametrize(
    "given", ["A", 1, ["A"], {"mode": []}, {"mode": {}}, {"mode": "a\nb"}, {"mode": "x" * 257}]
)
def test_bad_condition_is_rejected(given: object) -> None:
    value = record(wide({}, condition=given))
    assert refused(Decoder(MODED).decode(value))[0] is Reason.BAD_CONDITION
    assert accepted(Decoder(WIDE).decode(value)).condition == ""  # a stream without conditions looks at none


def test_a_condition_that_is_nan_is_rejected_and_an_unusual_printable_one_is_not() -> None:
    text = wide({}, condition={"mode": "?"}).replace(b'"?"', b"NaN")
    assert refused(Decoder(MODED).decode(record(text)))[0] is Reason.BAD_CONDITION
    odd = wide({}, asset="a\u00a0b", condition={"mode": "x\u00a0y"})  # no-break space: harmless
    assert accepted(Decoder(MODED).decode(record(odd))).condition == "mode=x\u00a0y,load=?"


def test_valid_asset_ids_are_remembered_in_bounded_memory() -> None:
    ids = AssetIds(WIDE, max_bytes=256, kept=50)
    for i in range(500):
        assert ids.read(f"p{i}") == f"p{i}"
        assert len(ids.valid) <= 50
    assert ids.read("p499") is ids.read("".join(["p", "499"]))  # one string per asset


def test_assets_beyond_those_remembered_are_decoded_all_the_same() -> None:
    decoder = Decoder(WIDE, assets_kept=50)
    for i in range(500):
        batch, _ = decoder.decode_batch([record(wide(dict.fromkeys(SENSORS, 1.0), asset=f"p{i}"))])
        assert batch.assets == [f"p{i}"]
