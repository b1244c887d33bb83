"""InfluxDB's line protocol."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.domain import Reason
from daemon.errors import ConfigError
from daemon.mapping import DecodeRule
from daemon.stream.decode import decode_with
from daemon.stream.rejection import RejectedError
from tests.stream.decode.arriving import arrival, refusal, tree_of


def one(line: str, **options: Any) -> dict[str, Any]:
    (point,) = tree_of("influx", line.encode(), **options)
    assert isinstance(point, dict)
    return point


@pytest.mark.parametrize(
    ("line", "measurement", "tags", "fields", "timestamp"),
    [
        ("fan,unit=f3,hall=B speed=12.5,rpm=900i 1764400000000000001", "fan", {"unit": "f3", "hall": "B"}, {"speed": 12.5, "rpm": 900}, 1764400000000000001),
        ("fan speed=1", "fan", {}, {"speed": 1.0}, None),
        ("fan a=1u,b=-3i,c=1e3,d=.5,e=+2", "fan", {}, {"a": 1, "b": -3, "c": 1000.0, "d": 0.5, "e": 2.0}, None),
        ("fan a=t,b=F,c=true,d=FALSE", "fan", {}, {"a": True, "b": False, "c": True, "d": False}, None),
        ('fan state="on, and = so \\"on\\" \\\\",a=1 5', "fan", {}, {"state": 'on, and = so "on" \\', "a": 1.0}, 5),
        (r"my\ fan\,x,t\=g=v\ 1\,2 f\ k=1", "my fan,x", {"t=g": "v 1,2"}, {"f k": 1.0}, None),
        ('fan,size=5" a=1', "fan", {"size": '5"'}, {"a": 1.0}, None),
        ("fan,ort=Köln\u00a0Süd größe=1", "fan", {"ort": "Köln\u00a0Süd"}, {"größe": 1.0}, None),
        (r"fan,path=C:\dir a=1", "fan", {"path": r"C:\dir"}, {"a": 1.0}, None),
        ("fan a=1  7", "fan", {}, {"a": 1.0}, 7),
        ("fan a=NaN,b=", "fan", {}, {"a": "NaN"}, None),
        ("fan a=1 -7", "fan", {}, {"a": 1.0}, -7),
    ],
)  # fmt: skip
def test_lines(
    line: str, measurement: str, tags: dict[str, str], fields: dict[str, Any], timestamp: int | None
) -> None:
    if line.endswith("b="):
        assert refusal("influx", line.encode())[0] is Reason.UNDECODABLE
        return
    point = one(line)
    assert point.pop("timestamp", None) == timestamp
    assert point == {"measurement": measurement, "tags": tags, "fields": fields}


def test_several_lines_comments_and_a_text_over_two_of_them() -> None:
    text = b'# begin\n\nfan a=1 1\r\n  fan s="x\ny",a=2 2\n#fan a=9\nfan,t=6" a=3 3\nfan,t=7" a=4 4'
    points = tree_of("influx", text)
    assert [(p["fields"]["a"], p["timestamp"]) for p in points] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert points[1]["fields"]["s"] == "x\ny"


def test_the_precision_is_that_of_the_option() -> None:
    for precision, ns in (("s", 7 * 10**9), ("ms", 7 * 10**6), ("us", 7_000), ("u", 7_000), ("ns", 7)):
        assert one("fan a=1 7", precision=precision)["timestamp"] == ns
    with pytest.raises(ConfigError, match="decode: precision 'm' is none of ns, us, u, ms, s"):
        decode_with(DecodeRule("influx", (), {"precision": "m"}))


def test_a_line_that_is_wrong_is_refused_alone() -> None:
    arriving = arrival()
    found = tree_of("influx", b"fan a=1\nfan\nfan a=2\nfan a=1 noon\n", arriving)
    assert [point["fields"]["a"] for point in found] == [1, 2]
    assert [error.detail for error in arriving.refused] == [
        "line 2: '' where a tag or the fields are due",
        "line 4: ' noon' where the time or the end is due",
    ]


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (b"\n# nothing\n", "nothing in it"),
        (b'{"temperature": 1}', "line 1: it looks like JSON: give decode: json"),
        (b"fan,=x a=1", "line 1: ',=x a=1' where a tag or the fields are due"),
        (b"fan ,a=1", "line 1: ',a=1' where a field is due, as temperature=81.4"),
        (b"fan a=1,", "line 1: '' where a field is due, as temperature=81.4"),
        (b"\x1f\x8b\x08", "a gzip header begins it: give unwrap: gzip"),
    ],
)
def test_a_record_without_a_line_is_refused(value: bytes, detail: str) -> None:
    assert refusal("influx", value)[1] == detail


NAMES = st.text(st.characters(exclude_characters="\n\r\\", exclude_categories=["Cs"]), min_size=1, max_size=6)
FIELDS = st.dictionaries(
    NAMES,
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.booleans()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    min_size=1,
    max_size=3,
)


def escaped(name: str) -> str:
    for sign in ", =":
        name = name.replace(sign, "\\" + sign)
    return name


def written(value: object) -> str:
    if isinstance(value, str):
        text = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'
    return f"{value}i" if type(value) is int else str(value)


@example([("0", {"0": '"'}, {"0": 0.0}, None), ("0", {}, {"0": ""}, None), ("0", {}, {"0": 0.0}, None)])
@given(
    st.lists(
        st.tuples(
            NAMES.filter(lambda n: not n.startswith("#") and n == n.strip(" \t")),
            st.dictionaries(NAMES, NAMES, max_size=2),
            FIELDS,
            st.none() | st.integers(0, (1 << 63) - 1),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_what_is_written_is_read(
    points: list[tuple[str, dict[str, str], dict[str, Any], int | None]],
) -> None:
    lines = []
    for measurement, tags, fields, timestamp in points:
        head = "".join([escaped(measurement), *(f",{escaped(k)}={escaped(v)}" for k, v in tags.items())])
        body = ",".join(f"{escaped(k)}={written(v)}" for k, v in fields.items())
        lines.append(f"{head} {body}" + ("" if timestamp is None else f" {timestamp}"))
    found = tree_of("influx", "\n".join(lines).encode())
    assert [(p["measurement"], p["tags"], p["fields"], p.get("timestamp")) for p in found] == points


@given(st.binary(max_size=60) | st.text(alphabet='fa,= "\\\n#1i', max_size=60).map(str.encode))
def test_any_bytes_are_decoded_or_refused(value: bytes) -> None:
    with contextlib.suppress(RejectedError):
        assert isinstance(tree_of("influx", value), list)


@pytest.mark.parametrize("line", [b'f a="', b"f a=\\", b"f", b'f a="\\"', b"f,a=b", b'=""="'])
def test_hostile_lines_cost_no_more_than_they_have_bytes(line: bytes) -> None:
    with contextlib.suppress(RejectedError):
        tree_of("influx", b"\n".join([line] * (1_000_000 // len(line))))
