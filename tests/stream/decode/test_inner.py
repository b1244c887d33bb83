"""Texts within a message that are messages themselves."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from daemon.config.input_notation import parse_path
from daemon.domain import Reason, Record
from daemon.mapping import DecodeRule, InnerRule, Path, RegistryAddress
from daemon.stream.decode import MessageSchemas, Schema, compile_inner
from daemon.stream.decode.framing import SchemaId
from daemon.stream.decode.inner import InnerSchemas
from daemon.stream.decode.schemas import Schemas
from daemon.stream.decoding import Decoder
from daemon.stream.rejection import RejectedError
from tests.stream.decode.arriving import NOW_NS, arrival, mapped, read
from tests.stream.decode.framings import PUMP, avro, confluent, text_of


def at(path: str, kind: str = "json", *unwrap: str, exploding: bool = False) -> InnerRule:
    return InnerRule(parse_path(path, exploding=exploding), DecodeRule(kind, unwrap))


def applied(tree: Any, *rules: InnerRule) -> Any:
    return compile_inner(rules, 1_000)(tree, arrival())


INNER = '{"a": 1}'
PACKED = base64.b64encode(gzip.compress(INNER.encode(), mtime=0)).decode()


@pytest.mark.parametrize(
    ("tree", "rules", "expected"),
    [
        ({"p": INNER, "q": INNER}, [at("p")], {"p": {"a": 1}, "q": INNER}),
        ({"m": {"p": INNER}}, [at("m.p")], {"m": {"p": {"a": 1}}}),
        ({"m": [0, INNER]}, [at("m[1]")], {"m": [0, {"a": 1}]}),
        ({"m": [0, INNER]}, [at("m[-1]")], {"m": [0, {"a": 1}]}),
        ({"m": [{"k": "x"}, {"k": "y", "v": INNER}]}, [at("m[k=y].v")], {"m": [{"k": "x"}, {"k": "y", "v": {"a": 1}}]}),
        ({"m": [{"p": INNER}, {"p": "2"}]}, [at("m[].p", exploding=True)], {"m": [{"p": {"a": 1}}, {"p": 2}]}),
        ({"m": {"x": INNER, "y": "2"}}, [at("m.*", exploding=True)], {"m": {"x": {"a": 1}, "y": 2}}),
        ({"p": PACKED}, [at("p", "json", "base64", "gzip")], {"p": {"a": 1}}),
        ({"p": "21.5"}, [at("p", "text")], {"p": {"value": "21.5", "values": ["21.5"]}}),
        ({"p": json.dumps({"q": INNER})}, [at("p"), at("p.q")], {"p": {"q": {"a": 1}}}),
        (INNER, [InnerRule(Path(".", ()))], {"a": 1}),  # JSON that was encoded twice
        ({"p": {"a": 1}}, [at("p")], {"p": {"a": 1}}),
        ({"p": None, "m": 5}, [at("p"), at("m.q"), at("m[0]"), at("x")], {"p": None, "m": 5}),
        ({"m": [5]}, [at("m[3]"), at("m[k=y].v")], {"m": [5]}),
        ({"p": b"\x81\xa1a\x01"}, [at("p", "msgpack")], {"p": {"a": 1}}),
    ],
)  # fmt: skip
def test_what_a_rule_finds_is_put_in_its_place(tree: Any, rules: list[InnerRule], expected: Any) -> None:
    assert applied(tree, *rules) == expected


@pytest.mark.parametrize(
    ("tree", "rule", "reason", "detail"),
    [
        ({"p": "{"}, at("p"), Reason.NOT_JSON, "p: Expecting property name enclosed in double quotes"),
        ({"m": {"p": "eyJhIjogMX0="}}, at("m.p"), Reason.NOT_JSON, "m.p: it looks like JSON in base64: give unwrap: base64"),
        ({"p": INNER}, at("p", "json", "base64"), Reason.UNDECODABLE, "p: '{' is no character of base64"),
        ({"p": ""}, at("p"), Reason.BLANK, "p: empty"),
        ({"p": base64.b64encode(gzip.compress(b" " * 2_000, mtime=0)).decode()}, at("p", "json", "base64", "gzip"), Reason.TOO_LARGE, "p: over 1000 bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_decoded_is_named_by_its_path(
    tree: Any, rule: InnerRule, reason: Reason, detail: str
) -> None:
    with pytest.raises(RejectedError) as error:
        applied(tree, rule)
    assert error.value.reason is reason
    assert error.value.detail.startswith(detail)


def test_parts_that_are_refused_alone_are_named_by_the_path_too() -> None:
    arriving = arrival()
    compile_inner([at("p", "influx")], 1_000)({"p": "a x=1\nb\n"}, arriving)
    assert [error.detail for error in arriving.refused] == ["p: line 2: '' where a tag or the fields are due"]


def record(tree: Any) -> Record:
    return Record(1, None, json.dumps(tree).encode(), NOW_NS)


def test_a_message_within_a_message_gives_readings() -> None:
    spec = mapped(
        ("heat",),
        asset={"from": "topic", "match": "hall/([^/]+)/"},
        time="when",
        leaves={"under": "payload", "except": ["when"]},
        inner={"path": "payload", "unwrap": "base64"},
        skip=[{"path": "topic", "in": ["status"]}],
    )
    heat = base64.b64encode(b'{"heat": 21.5}').decode()
    topic, when, decoder = "hall/fan/out", 1_764_399_999, Decoder(spec)
    assert read(
        spec,
        record({"topic": topic, "when": when, "payload": heat}),
        record({"topic": topic, "when": when, "payload": {"heat": 22}}),
        record({"topic": topic, "when": when, "payload": "off!"}),
        record({"topic": "status", "payload": "%"}),
        decoder=decoder,
    ) == [
        ("fan", when * 10**9, {"heat": 21.5}),
        ("fan", when * 10**9, {"heat": 22.0}),
        (Reason.UNDECODABLE, "payload: '!' is no character of base64"),
        "topic",
    ]  # fmt: skip


def test_lines_that_are_refused_alone_are_counted() -> None:
    spec = mapped(
        ("speed",), decode="influx", each="[]", asset="tags.unit", time="timestamp", leaves="fields"
    )
    decoder = Decoder(spec)
    lines = b"fan,unit=f1 speed=1 1764399999000000000\nfan speed\nfan,unit=f2 speed=2 1764399999000000000"
    assert len(read(spec, Record(0, None, lines, NOW_NS), decoder=decoder)) == 2
    cells, faults = decoder.survey(Record(0, None, lines, NOW_NS))
    assert (len(cells), [fault.reason for fault in faults]) == (2, [Reason.UNDECODABLE])


# ------------------------------------------------------------------ schemas that texts name
ASKED = RegistryAddress(("http://localhost:1",))
AVRO = Schema("AVRO", text_of(PUMP))
BODY = avro(PUMP, {"asset": "p", "ts": 5, "temperature": 1.5, "pressure": None})


def framed_at(path: str, *unwrap: str, **options: object) -> InnerRule:
    return InnerRule(parse_path(path), DecodeRule("avro", unwrap, options, ASKED))


def text(id: int) -> str:
    """The body in base64, as JSON has bytes."""
    return base64.b64encode(confluent(id, BODY)).decode()


def test_the_schemas_of_texts_are_wanted_until_they_are_answered_for() -> None:
    rules = [framed_at("a", "base64"), at("b"), framed_at("b.c", "base64", schemas={"9": text_of(PUMP)})]
    schemas = MessageSchemas(DecodeRule(registry=ASKED), inner=rules)
    known = schemas.known
    assert known is not None
    assert (schemas.rounds, schemas.registry) == (2, ASKED)
    trees = [
        {"a": text(7)},
        {"a": text(7), "b": json.dumps({"c": text(8)})},
        {"a": text(5)},
        {"a": 3},
        {"a": "?"},
    ]
    nothing = Record(5, None, b"", NOW_NS)
    records = [
        *map(record, trees),
        record({"b": json.dumps({"c": text(9)})}),
        nothing,
        Record(6, None, b"{", NOW_NS),
    ]
    assert schemas.wanted(records) == [7, 5]
    known.put(7, AVRO)
    known.put(5, "the schema registry has no schema 5")
    assert schemas.wanted(records) == [8]
    known.put(8, AVRO)
    assert schemas.wanted(records) == []
    read = compile_inner(rules, 1_000, known)(trees[1], arrival())
    assert read["a"]["temperature"] == read["b"]["c"]["temperature"] == 1.5


class CountedSchemas(Schemas):
    """Counts how often a decoder is made of a schema."""

    taken = 0

    def schema(self, id: SchemaId) -> Schema:
        self.taken += 1
        return super().schema(id)


def test_texts_in_which_nothing_is_named_are_not_decoded_to_see_what_is_wanted() -> None:
    known = CountedSchemas()
    known.put(7, AVRO)
    rules = [framed_at("a", "base64"), framed_at("b", "base64"), at("c")]
    wanting = InnerSchemas(DecodeRule(), rules, known, 10_000)
    records = [record({"a": text(7), "b": text(id), "c": "{}"}) for id in (7, 7, 8)]
    assert wanting.wanted(records) == {8: 1}
    assert known.taken == 1  # by the first rule, once


def test_a_text_that_cannot_be_longer_is_not_looked_into() -> None:
    schemas = MessageSchemas(DecodeRule(registry=ASKED), 100, [framed_at("a", "base64")])
    assert schemas.wanted([record({"a": text(7), "b": "x" * 100})]) == []
    assert schemas.wanted([record({"a": text(7)})]) == [7]


def test_texts_of_fixed_schemas_want_none() -> None:
    fixed = [framed_at("a", schema=text_of(PUMP)), at("b")]
    schemas = MessageSchemas(DecodeRule(registry=ASKED), inner=fixed)
    assert (schemas.known, schemas.registry) == (None, None)
    assert schemas.wanted([record({"a": text(7)})]) == []
