"""SenML packs, resolved."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Reason
from daemon.stream.rejection import RejectedError
from tests.stream.decode.arriving import NOW_NS, arrival, refusal, tree_of

BASE = {"bn": "urn:dev:mac:00a1:", "bt": 1.7644e9, "bu": "Cel"}
LABELS = {"bn": -2, "bt": -3, "bu": -4, "bv": -5, "bs": -6, "n": 0, "u": 1, "v": 2, "vs": 3, "vb": 4, "s": 5, "t": 6, "vd": 8}  # fmt: skip


def resolved(*pack: dict[str, Any], now_ns: int = NOW_NS) -> list[dict[str, Any]]:
    """The tree of a pack, which is the same in JSON and CBOR."""
    tree = tree_of("senml", json.dumps(pack).encode(), arrival(now_ns=now_ns))
    labelled = [{LABELS.get(key, key): value for key, value in record.items()} for record in pack]
    assert tree_of("senml", cbor2.dumps(labelled), arrival(now_ns=now_ns)) == tree
    return list(tree)


def test_base_fields_stick_and_are_added() -> None:
    records = resolved(
        {**BASE, "n": "heat", "v": 21.5},
        {"n": "tank", "u": "bar", "t": 0.25, "v": 4},
        {"bn": "urn:dev:mac:00b2:", "bv": 100, "n": "heat", "t": -2, "v": 1.5},
        {"n": "level"},
        {"n": "door", "vb": True},
        {"n": "state", "vs": "open"},
        {"n": "energy", "s": 7, "bs": 1},
    )
    second = 10**9
    assert [
        (r["asset"][-4:], r["sensor"], r["value"], r.get("unit"), r["timestamp"] - NOW_NS) for r in records
    ] == [
        ("00a1", "heat", 21.5, "Cel", 0),
        ("00a1", "tank", 4, "bar", second // 4),
        ("00b2", "heat", 101.5, "Cel", -2 * second),
        ("00b2", "level", 100, "Cel", 0),
        ("00b2", "door", True, "Cel", 0),
        ("00b2", "state", "open", "Cel", 0),
        ("00b2", "energy", None, "Cel", 0),
    ]
    assert records[0]["name"] == "urn:dev:mac:00a1:heat"
    assert records[6]["sum"] == 8


@pytest.mark.parametrize(
    ("record", "asset", "sensor"),
    [
        ({"n": "urn:dev:mac:00a1:heat"}, "urn:dev:mac:00a1", "heat"),
        ({"bn": "hall/fan/"}, "hall", "fan"),
        ({"bn": "hall/fan"}, "hall", "fan"),
        ({"bn": "/", "n": "fan"}, "/", "fan"),
        ({"n": "heat"}, None, "heat"),
        ({"n": ":heat"}, None, ":heat"),
    ],
)
def test_a_name_is_an_asset_and_a_sensor(record: dict[str, Any], asset: str | None, sensor: str) -> None:
    (found,) = resolved({**record, "v": 1})
    assert (found.get("asset"), found["sensor"]) == (asset, sensor)


@pytest.mark.parametrize(("time", "ns"), [(0, 0), (-5, -5 * 10**9), (0.5, 5 * 10**8), ((1 << 28) - 1, ((1 << 28) - 1) * 10**9)])  # fmt: skip
def test_small_times_are_relative_to_the_record(time: float, ns: int) -> None:
    (found,) = resolved({"n": "a:b", "t": time, "v": 1})
    assert found["timestamp"] == NOW_NS + ns
    refused = refusal("senml", json.dumps([{"n": "a", "t": time, "v": 1}]).encode(), arrival(now_ns=-1))
    assert refused[0] is Reason.NO_TIMESTAMP


def test_times_keep_their_microseconds() -> None:
    (found,) = resolved({"n": "a:b", "bt": 1.764397200123456e9, "v": 1})
    assert found["timestamp"] == 1_764_397_200_123_456_000


def test_a_record_that_is_wrong_is_refused_alone() -> None:
    arriving = arrival()
    pack = [{"n": "a", "v": "1"}, {"n": "a", "v": 1}, 5, {"v": 1}, {"n": "a", "x_": 1}, {"n": 1, "v": 1}]
    assert len(tree_of("senml", json.dumps(pack).encode(), arriving)) == 1
    assert [error.detail for error in arriving.refused] == [
        "record 0: v is a string, not a number",
        "record 2: it is a number, not an object",
        "record 3: neither it nor the pack has a name",
        "record 4: field 'x_' must be understood, and is not",
        "record 5: n is a number, not a text",
    ]


def test_a_pack_without_values_has_no_records() -> None:
    assert tree_of("senml", b'[{"bn": "a"}]') == []
    assert refusal("senml", b'{"n": "a"}')[1] == "a SenML pack is an array, this is an object"
    assert refusal("senml", b'[{"n": "a", "v": 1, "t": 1e300}]')[0] is Reason.BAD_TIMESTAMP
    assert refusal("senml", b'[{"n": "a", "v": 1' + b"0" * 350 + b"}]")[1] == "record 0: v is too large"


FIELD = st.sampled_from([*LABELS, "bver", "ut", "x", "x_"])
ANY = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.lists(st.none(), max_size=1)
)


@given(st.lists(st.dictionaries(FIELD, ANY, max_size=5), max_size=4), st.binary(max_size=60))
def test_anything_is_decoded_or_refused(pack: list[dict[str, Any]], noise: bytes) -> None:
    for value in (json.dumps(pack).encode(errors="surrogatepass"), cbor2.dumps(str(pack)), noise):
        with contextlib.suppress(RejectedError):
            assert isinstance(tree_of("senml", value), list)
