"""Schemas from a registry: a real one (Apicurio) and one in this process answer the same questions the same way."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

import pytest

from daemon.adapters.schemas import RegistryError, SchemaRegistry, provide_schemas
from daemon.adapters.schemas import registry as module
from daemon.domain import Reason, Record
from daemon.errors import ConfigError
from daemon.mapping import DecodeRule, RegistryAddress
from daemon.stream.decode import MessageSchemas, Schema
from daemon.stream.decode.protobuf import ProtobufFiles
from daemon.stream.rejection import RejectedError
from tests.registry import Apicurio, Registry
from tests.stream.decode.framings import (
    PUMP,
    PUMP_PROTO,
    avro,
    by_guid,
    confluent,
    decoder,
    descriptor_set,
    message_class,
    text_of,
    tree_of_record,
)

TREE = {"asset": "pump-1", "ts": 1764397200123, "temperature": 81.5, "pressure": None}
BASE_PROTO = 'syntax = "proto3"; package base; message Value { double v = 1; }'
MAIN_PROTO = 'syntax = "proto3"; import "base/value.proto"; message M { base.Value value = 1; int64 t = 2; }'
JSON_SCHEMA = '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {}}'
MOTOR = {"type": "record", "name": "Motor", "namespace": "plant", "fields": [{"name": "rpm", "type": "int"}]}
LINE = {"type": "record", "name": "Line", "fields": [{"name": "motor", "type": "plant.Motor"}]}


@pytest.fixture(
    params=["in this process", pytest.param("apicurio", marks=[pytest.mark.kafka, pytest.mark.slow])]
)
def either(request: pytest.FixtureRequest) -> Registry | Apicurio:
    """A registry of each kind."""
    found: Registry | Apicurio = request.getfixturevalue(
        "registry" if request.param == "in this process" else "apicurio"
    )
    return found


def client(registry: Registry | Apicurio) -> SchemaRegistry:
    """A client without credentials."""
    return SchemaRegistry(RegistryAddress((registry.url,), timeout_s=20.0))


def descriptor(text: str, *imports: tuple[str, str]) -> bytes:
    """The descriptor of a file alone, as a registry serializes it: under a name that says nothing."""
    from google.protobuf import descriptor_pb2

    found = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set(text, imports, all=False)).file[0]
    found.name = "default"
    return bytes(found.SerializeToString())


# ------------------------------------------------------------------ what both answer
async def test_an_avro_schema(either: Registry | Apicurio) -> None:
    id = either.register(f"pumps-{uuid4()}", text_of(PUMP))
    found = await client(either).schema(id)
    assert isinstance(found, Schema)
    assert (found.kind, json.loads(found.text), found.references) == ("AVRO", PUMP, ())


async def test_an_avro_schema_that_refers_to_another(either: Registry | Apicurio) -> None:
    motor = f"motor/of {uuid4()}" if isinstance(either, Registry) else f"motor-{uuid4()}"
    either.register(motor, text_of(MOTOR))
    id = either.register(
        f"line-{uuid4()}", text_of(LINE), references=[{"name": "plant.Motor", "subject": motor, "version": 1}]
    )
    found = await client(either).schema(id)
    assert isinstance(found, Schema)
    assert [json.loads(text) for text in found.references] == [MOTOR]
    schemas = MessageSchemas(DecodeRule("avro", registry=RegistryAddress((either.url,))))
    record = Record(0, None, confluent(id, b"\x0e"), 0)
    await provide_schemas(schemas, [record])
    assert decoder(schemas.rule, schemas=schemas.known)(record.value) == {"motor": {"rpm": 7}}


async def test_a_protobuf_schema(either: Registry | Apicurio) -> None:
    id = either.register(f"pumps-{uuid4()}", PUMP_PROTO, "PROTOBUF", serialized=descriptor(PUMP_PROTO))
    found = await client(either).schema(id)
    assert isinstance(found, Schema)
    pump = message_class(descriptor_set(PUMP_PROTO), "plant.Pump")(asset="p", at={"seconds": 1})
    tree = {"asset": "p", "at": "1970-01-01T00:00:01Z", "temperature": 0.0}
    assert ProtobufFiles(found.files).at((1,))(pump.SerializeToString()) == tree


async def test_a_protobuf_schema_that_imports_another(either: Registry | Apicurio) -> None:
    base = f"base-{uuid4()}"
    either.register(base, BASE_PROTO, "PROTOBUF", serialized=descriptor(BASE_PROTO))
    id = either.register(
        f"main-{uuid4()}",
        MAIN_PROTO,
        "PROTOBUF",
        [{"name": "base/value.proto", "subject": base, "version": 1}],
        descriptor(MAIN_PROTO, ("base/value.proto", BASE_PROTO)) if isinstance(either, Registry) else None,
    )
    found = await client(either).schema(id)
    assert isinstance(found, Schema)
    assert ProtobufFiles(found.files).at((0,))(b"\x0a\x00\x10\x07") == {"value": {"v": 0.0}, "t": 7}


async def test_a_json_schema_is_known_as_one(either: Registry | Apicurio) -> None:
    id = either.register(f"json-{uuid4()}", JSON_SCHEMA, "JSON")
    assert await client(either).schema(id) == Schema("JSON")


async def test_an_id_or_guid_that_is_not_there(either: Registry | Apicurio) -> None:
    asked = client(either)
    guid = str(uuid4())
    assert await asked.schema(987_654) == "the schema registry has no schema 987654"
    assert await asked.schema(guid) == f"the schema registry has no schema {guid}"
    assert await client(either).schema(guid) == f"the schema registry has no schema {guid}"
    assert asked.subjects() >= 0


async def test_a_registry_says_how_many_subjects_it_has(either: Registry | Apicurio) -> None:
    before = client(either).subjects()
    either.register(f"one-{uuid4()}", '"int"')
    assert client(either).subjects() == before + 1


# ------------------------------------------------------------------ what the one in this process can do
async def test_the_text_is_compiled_where_nothing_is_serialized(registry: Registry) -> None:
    registry.serializes = False
    base = registry.register("base", BASE_PROTO, "PROTOBUF", serialized=b"")
    reference = {"name": "base/value.proto", "subject": "base", "version": base}
    id = registry.register("main", MAIN_PROTO, "PROTOBUF", [reference], b"")
    found = await client(registry).schema(id)
    assert isinstance(found, Schema)
    assert ProtobufFiles(found.files).at((0,))(b"\x10\x07") == {"t": 7}


async def test_a_schema_is_found_by_its_guid(registry: Registry) -> None:
    registry.register("pumps", text_of(PUMP))
    (stored,) = registry.by_id.values()
    schemas = MessageSchemas(DecodeRule("avro", registry=RegistryAddress((registry.url,))))
    record = Record(0, None, avro(PUMP, TREE), 0, [("__value_schema_id", by_guid(UUID(stored.guid)))])
    await provide_schemas(schemas, [record])
    assert tree_of_record(schemas, record) == TREE
    assert registry.asked == [f"/schemas/guids/{stored.guid}"]


async def test_each_schema_is_asked_for_once(registry: Registry) -> None:
    id = registry.register("pumps", text_of(PUMP))
    schemas = MessageSchemas(DecodeRule("avro", registry=RegistryAddress((registry.url,))))
    records = [Record(0, None, confluent(each, avro(PUMP, TREE)), 0) for each in (id, 77, id)]
    for _ in range(3):
        await provide_schemas(schemas, records)
    assert registry.asked == [f"/schemas/ids/{id}", "/schemas/ids/77"]
    decode = decoder(schemas.rule, schemas=schemas.known)
    assert decode(records[0].value) == TREE
    with pytest.raises(RejectedError, match="the schema registry has no schema 77") as refused:
        decode(records[1].value)
    assert refused.value.reason is Reason.UNKNOWN_SCHEMA
    await provide_schemas(None, records)
    await provide_schemas(MessageSchemas(DecodeRule("json")), records)
    assert len(registry.asked) == 2


async def test_a_schema_that_cannot_be_used_is_an_answer(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = registry.register(
        "line", text_of(LINE), references=[{"name": "m", "subject": "none", "version": 1}]
    )
    vague = registry.register("vague", text_of(LINE), references=[{"name": "m"}])
    broken = registry.register("broken", "syntax = nothing", "PROTOBUF")
    asked = client(registry)
    assert await asked.schema(lost) == (
        f"schema {lost} cannot be used: the registry has no version 1 of none, which it refers to"
    )
    assert "without name, subject and version" in str(await asked.schema(vague))
    assert "its text does not compile" in str(await asked.schema(broken))
    monkeypatch.setattr(module, "MOST_REFERENCES", 1)
    registry.register("a", '"int"')
    many = [{"name": name, "subject": "a", "version": 1} for name in ("a", "b")]
    assert "over 1 schemas" in str(await asked.schema(registry.register("many", '"int"', references=many)))


async def test_schemas_that_refer_to_each_other_are_read_once(registry: Registry) -> None:
    registry.register("a", '"int"', references=[{"name": "b", "subject": "b", "version": 1}])
    registry.register("b", '"long"', references=[{"name": "a", "subject": "a", "version": 1}])
    found = await client(registry).schema(1)
    assert isinstance(found, Schema)
    assert len(registry.asked) == 3


async def test_what_is_no_registry_has_no_answer(registry: Registry) -> None:
    """A wrong path in the address must not reject everything that arrives."""
    registry.path = "/apis/schemas"
    wrong = SchemaRegistry(RegistryAddress((registry.url.removesuffix("/schemas"),)))
    for id in (1, str(uuid4())):
        with pytest.raises(RegistryError, match=r"answers 404 to .*: is the path of the address right"):
            await wrong.schema(id)
    with pytest.raises(RegistryError, match=r"has no /subjects \(404\)"):
        wrong.subjects()
    registry.broken = 200, b"<html>Welcome</html>"
    with pytest.raises(RegistryError, match="no JSON: is it a schema registry"):
        await client(registry).schema(1)
    registry.broken = 200, b'{"welcome": true}'
    with pytest.raises(RegistryError, match="with no schema: is it a schema registry"):
        await client(registry).schema(1)


async def test_a_missing_compiler_is_no_fault_of_the_records(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.serializes = False
    id = registry.register("pumps", PUMP_PROTO, "PROTOBUF", serialized=b"")
    monkeypatch.setattr("daemon.adapters.schemas.proto_text.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'anomalyd\[protobuf\]'"):
        await client(registry).schema(id)
