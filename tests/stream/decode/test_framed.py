"""Decoders of messages with a schema: which schema they take, by configuration, framing and registry."""

from __future__ import annotations

import builtins
import sys
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Reason, Record
from daemon.errors import ConfigError
from daemon.mapping import DecodeRule, RegistryAddress
from daemon.stream.decode import MessageSchemas, Schema, Schemas
from daemon.stream.decode.framing import HEADER
from daemon.stream.decode.protobuf import files_of_set
from daemon.stream.rejection import RejectedError
from tests.stream.decode.framings import (
    PUMP,
    PUMP_PROTO,
    avro,
    by_guid,
    confluent,
    decoder,
    descriptor_set,
    glue,
    message_class,
    path,
    reason_of,
    text_of,
    tree_of_record,
)

GUID = UUID("5a6b3c0f-95a5-4a29-8dd2-3a10d0b6f0aa")
REGISTRY = RegistryAddress(("http://localhost:8081",))
TREE = {"asset": "pump-1", "ts": 1764397200123, "temperature": 81.5, "pressure": None}
BODY = avro(PUMP, TREE)
FILES = descriptor_set(PUMP_PROTO)
PROTO_TREE = {"asset": "pump-1", "temperature": 81.5}
PROTO_BODY = bytes(message_class(FILES, "plant.Pump")(**PROTO_TREE).SerializeToString())


def rule(kind: str, *unwrap: str, registry: RegistryAddress | None = None, **options: Any) -> DecodeRule:
    """A rule with options as the configuration has read them."""
    return DecodeRule(kind, unwrap, options, registry)


def known(**schemas: Schema) -> Schemas:
    """What a registry has answered, by ids written as names: ``_7``."""
    made = Schemas()
    for name, schema in schemas.items():
        made.put(int(name[1:]), schema)
    return made


AVRO = Schema("AVRO", text_of(PUMP))
PROTO = Schema("PROTOBUF", files=files_of_set(FILES))


def refusal(decode: Any, value: bytes) -> tuple[Reason, str]:
    """Why bytes are rejected."""
    with pytest.raises(RejectedError) as refused:
        decode(value)
    return refused.value.reason, refused.value.detail


# ------------------------------------------------------------------ Avro
def test_avro_is_read_by_the_schema_that_it_names() -> None:
    newer = PUMP | {"fields": [*PUMP["fields"], {"name": "flow", "type": "float"}]}  # type: ignore[misc]
    decode = decoder(
        rule("avro", registry=REGISTRY), schemas=known(_7=AVRO, _8=Schema("AVRO", text_of(newer)))
    )
    assert decode(confluent(7, BODY)) == TREE
    assert decode(confluent(8, avro(newer, TREE | {"flow": 2.5}))) == TREE | {"flow": 2.5}
    assert decode(confluent(7, BODY)) == TREE


def test_a_schema_of_the_registry_that_cannot_be_used_rejects_its_messages() -> None:
    schemas = known(_1=Schema("AVRO", '"nope"'), _2=PROTO, _3=Schema("XML"))
    schemas.put(4, "the registry has no schema 4")
    decode = decoder(rule("avro", registry=REGISTRY), schemas=schemas)
    assert refusal(decode, confluent(1, BODY)) == (
        Reason.UNKNOWN_SCHEMA,
        "schema 1 cannot be used: no Avro schema: 'nope' is no type",
    )
    assert refusal(decode, confluent(2, BODY))[1].endswith("it is of PROTOBUF: give decode: protobuf")
    assert refusal(decode, confluent(3, BODY))[1].endswith("it is of XML")
    assert refusal(decode, confluent(4, BODY)) == (Reason.UNKNOWN_SCHEMA, "the registry has no schema 4")
    assert refusal(decode, confluent(5, BODY))[1] == "schema 5 was not fetched from the registry"
    assert refusal(decode, b'{"asset": "a"}')[0] is Reason.UNDECODABLE


def test_a_schema_of_the_configuration_is_for_whatever_comes() -> None:
    alone = decoder(rule("avro", schema=text_of(PUMP).encode()))
    assert alone(BODY) == TREE
    assert decoder(rule("avro", schema=text_of(PUMP)))(BODY) == TREE
    assert decoder(rule("avro", schema=text_of(PUMP), framing="confluent"))(confluent(99, BODY)) == TREE
    assert decoder(rule("avro", schema=text_of(PUMP), framing="glue"))(glue(GUID, BODY)) == TREE
    single = decoder(rule("avro", schema=text_of(PUMP), framing="single-object"))
    assert single(b"\xc3\x01" + bytes(8) + BODY) == TREE
    assert "give framing: confluent" in refusal(alone, confluent(1, BODY))[1]
    assert "give framing" not in refusal(alone, BODY[:-1])[1]


def test_schemas_of_the_configuration_by_their_ids() -> None:
    given = {"7": text_of(PUMP).encode(), str(GUID).upper(): text_of(PUMP).encode()}
    decode = decoder(rule("avro", schemas=given))
    assert decode(confluent(7, BODY)) == TREE
    assert decode(by_guid(GUID) + BODY) == TREE
    assert refusal(decode, confluent(8, BODY)) == (
        Reason.UNKNOWN_SCHEMA,
        "schema 8 is not among the schemas of the configuration",
    )
    assert decoder(rule("avro", schemas=given, framing="glue"))(glue(GUID, BODY, compressed=True)) == TREE
    both = decoder(rule("avro", schemas=given, registry=REGISTRY), schemas=known(_8=AVRO))
    assert both(confluent(7, BODY)) == both(confluent(8, BODY)) == TREE


def test_avro_in_its_json_encoding_needs_no_schema() -> None:
    decode = decoder(rule("avro", encoding="json"))
    sent = b'{"asset": "a", "t": {"double": 81.4}, "p": null, "xs": {"array": [{"long": 1}, null]}, "n": {"m": {"int": 1}}}'
    tree = {"asset": "a", "t": 81.4, "p": None, "xs": [1, None], "n": {"m": 1}}
    assert decode(sent) == tree
    assert decoder(rule("avro", encoding="json", framing="confluent"))(confluent(7, sent)) == tree
    assert MessageSchemas(rule("avro", encoding="json", framing="confluent", registry=REGISTRY)).known is None
    assert refusal(decode, BODY)[0] in (Reason.NOT_JSON, Reason.NOT_UTF8)
    deep = [b'{"a": ' * depth + b"1" + b"}" * depth for depth in (600, 900, 990, 100_000)]
    assert {reason_of(decode, value) for value in deep} <= {None, Reason.TOO_DEEP}


# ------------------------------------------------------------------ Protobuf
def test_protobuf_is_read_by_the_schema_and_the_message_that_it_names() -> None:
    decode = decoder(rule("protobuf", registry=REGISTRY), schemas=known(_7=PROTO))
    assert decode(confluent(7, path(1) + PROTO_BODY)) == PROTO_TREE
    assert decode(confluent(7, b"\x00" + b"\x0a\x01S")) == {"name": "S"}
    assert decode(confluent(7, path(0, 0) + b"\x0a\x01L")) == {"name": "L"}
    assert "no message at [5]" in refusal(decode, confluent(7, path(5)))[1]
    named = decoder(rule("protobuf", registry=REGISTRY, message="plant.Pump"), schemas=known(_7=PROTO))
    assert named(confluent(7, b"\x00" + PROTO_BODY)) == PROTO_TREE


def test_protobuf_of_a_descriptor_file() -> None:
    alone = decoder(rule("protobuf", descriptor=FILES, message="plant.Pump"))
    assert alone(PROTO_BODY) == PROTO_TREE
    framed = decoder(rule("protobuf", descriptor=FILES, framing="confluent"))
    assert (
        framed(confluent(5, path(1) + PROTO_BODY)) == framed(confluent(6, path(1) + PROTO_BODY)) == PROTO_TREE
    )
    glued = decoder(rule("protobuf", descriptor=FILES, framing="glue", message="plant.Pump"))
    assert glued(glue(GUID, b"\x03" + PROTO_BODY)) == PROTO_TREE
    by_id = decoder(rule("protobuf", schemas={7: FILES}))
    assert by_id(confluent(7, path(1) + PROTO_BODY)) == PROTO_TREE


def test_ways_that_lead_nowhere_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.stream.decode.framed.READERS_KEPT", 3)
    decode = decoder(rule("protobuf", registry=REGISTRY), schemas=known(_7=PROTO))
    for index in range(20):
        value = confluent(7, path(index + 2))
        assert refusal(decode, value)[0] is Reason.UNKNOWN_SCHEMA
    assert decode(confluent(7, path(1) + PROTO_BODY)) == PROTO_TREE


# ------------------------------------------------------------------ JSON Schema
def test_json_schema_is_json_after_its_id() -> None:
    decode = decoder(rule("json-schema"))
    assert decode(confluent(7, b'{"asset": "a"}')) == {"asset": "a"}
    assert decode(by_guid(GUID) + b'{"asset": "a"}') == {"asset": "a"}
    assert refusal(decode, b'{"asset": "a"}')[1].endswith("begins JSON: give decode: json")
    assert refusal(decode, confluent(7, b"{"))[0] is Reason.NOT_JSON
    assert decoder(rule("json-schema", framing="glue"))(glue(GUID, b"[1]")) == [1]
    assert decoder(rule("json-schema", framing="none"))(b"[1]") == [1]
    assert decoder(rule("json", "confluent"))(confluent(7, b"[1]")) == [1]


# ------------------------------------------------------------------ what the shell fetches
def test_the_header_of_a_record_names_its_schema() -> None:
    schemas = MessageSchemas(rule("avro", registry=REGISTRY))
    record = Record(0, None, BODY, 0, [(HEADER, by_guid(GUID))])
    assert schemas.wanted([record]) == [str(GUID)]
    assert schemas.known is not None
    schemas.known.put(str(GUID), AVRO)
    assert schemas.wanted([record]) == []
    assert tree_of_record(schemas, record) == TREE
    schemas.known.put(7, AVRO)
    assert (
        tree_of_record(schemas, Record(0, None, confluent(7, BODY), 0)) == TREE
    )  # as it is, without the header


def test_the_header_names_the_message_of_a_protobuf_file_too() -> None:
    schemas = MessageSchemas(rule("protobuf", registry=REGISTRY))
    record = Record(0, None, PROTO_BODY, 0, [(HEADER, by_guid(GUID) + path(1))])
    (id,) = schemas.wanted([record])
    assert schemas.known is not None
    schemas.known.put(id, PROTO)
    assert tree_of_record(schemas, record) == PROTO_TREE


@pytest.mark.parametrize(
    "asks_nobody",
    [
        rule("json"),
        rule("json-schema", registry=REGISTRY),
        rule("avro", registry=REGISTRY, schema=text_of(PUMP)),
        rule("avro", registry=REGISTRY, schema=text_of(PUMP), framing="confluent"),
        rule("protobuf", registry=REGISTRY, descriptor=FILES, message="plant.Pump"),
        rule("avro", schemas={"7": text_of(PUMP)}),
        rule("avro", registry=REGISTRY, schemas={str(GUID): text_of(PUMP)}, framing="glue"),
    ],
)
def test_nothing_is_fetched_where_no_message_names_a_schema(asks_nobody: DecodeRule) -> None:
    schemas = MessageSchemas(asks_nobody)
    assert schemas.known is None
    assert schemas.wanted([Record(0, None, confluent(8, b""), 0)]) == []


def test_what_the_configuration_has_is_not_fetched() -> None:
    schemas = MessageSchemas(rule("avro", registry=REGISTRY, schemas={"7": text_of(PUMP)}))
    records = [Record(0, None, confluent(id, b""), 0) for id in (7, 8)]
    assert schemas.wanted(records) == [8]


# ------------------------------------------------------------------ faults of the configuration
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (rule("avro"), "needs schema_registry.url, or `schema: FILE`"),
        (rule("avro", schema="3"), "schema: no Avro schema"),
        (rule("avro", schemas={"7": "3"}), "schemas 7: no Avro schema"),
        (rule("avro", schemas="a.avsc"), "schemas is a table"),
        (rule("avro", schema=7), "schema is a text"),
        (rule("avro", shema="x"), "has no option 'shema': it has schema, schemas, framing, encoding"),
        (rule("avro", "confluent", schema='"int"'), "takes Confluent's framing off itself"),
        (rule("avro", schema='"int"', encoding="xml"), "encoding 'xml' is neither binary nor json"),
        (rule("avro", schema='"int"', framing="some"), "framing 'some' is none of"),
        (rule("avro", registry=REGISTRY, framing="none"), "framing none names no schema"),
        (rule("avro", framing="glue"), "needs schema_registry.url, or `schema: FILE`"),
        (rule("protobuf"), "needs schema_registry.url, or `descriptor: FILE`"),
        (rule("protobuf", descriptor=FILES), "needs `message: full.Name`"),
        (rule("protobuf", framing="none"), "needs `descriptor: FILE`"),
        (rule("protobuf", schemas={"7": FILES}, framing="glue"), "Glue's framing needs `message: full.Name`"),
        (rule("protobuf", descriptor=FILES, message="plant.Nope"), "no message 'plant.Nope'"),
        (rule("protobuf", descriptor="x", message="plant.Pump"), "a file that protoc"),
        (rule("protobuf", descriptor=b"x", message="plant.Pump"), "no FileDescriptorSet"),
        (rule("json-schema", framing="single-object"), "framing 'single-object' is none of"),
    ],
)
def test_a_wrong_option_is_said_at_start(wrong: DecodeRule, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        decoder(wrong, schemas=Schemas() if wrong.registry else None)


@pytest.mark.parametrize(
    ("kind", "library", "says"),
    [
        ("avro", "fastavro", r"decode: avro needs the extra: pip install 'anomalyd\[avro\]'"),
        (
            "protobuf",
            "google.protobuf",
            r"decode: protobuf needs the extra: pip install 'anomalyd\[protobuf\]'",
        ),
    ],
)
def test_a_library_that_is_not_installed_is_missed_at_start(
    monkeypatch: pytest.MonkeyPatch, kind: str, library: str, says: str
) -> None:
    real = builtins.__import__

    def blocked(name: str, *arguments: Any, **more: Any) -> Any:
        if name.partition(".")[0] == library.partition(".")[0]:
            raise ImportError(name)
        return real(name, *arguments, **more)

    for name in [name for name in sys.modules if name.partition(".")[0] == library.partition(".")[0]]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(ConfigError, match=says):
        decoder(rule(kind, registry=REGISTRY), schemas=Schemas())
    assert decoder(rule("json"))(b"[1]") == [1]


# ------------------------------------------------------------------ hostile bytes
@given(
    st.sampled_from([b"", confluent(7, b""), confluent(7, path(1)), glue(GUID, b"")]), st.binary(max_size=40)
)
def test_any_bytes_are_read_or_refused(begin: bytes, more: bytes) -> None:
    for decode in DECODERS:
        assert reason_of(decode, begin + more) in {None, *Reason}


DECODERS = [
    decoder(rule("avro", registry=REGISTRY), schemas=known(_7=AVRO)),
    decoder(rule("avro", schema=text_of(PUMP), framing="glue")),
    decoder(rule("avro", schema=text_of(PUMP))),
    decoder(rule("protobuf", registry=REGISTRY), schemas=known(_7=PROTO)),
    decoder(rule("protobuf", descriptor=FILES, message="plant.Pump")),
    decoder(rule("protobuf", descriptor=FILES, message="plant.Pump", framing="glue")),
    decoder(rule("json-schema")),
]
