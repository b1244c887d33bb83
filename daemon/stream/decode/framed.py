"""Decoders whose messages are of a schema: Avro, Protobuf and JSON Schema, framed or not.

The schema of a message is found in one of two ways:

* it stands before the message (``framing: confluent``, the default, or ``glue``) and is asked for in ``Schemas``,
  unless ``schemas`` has it by its id;
* it is fixed: ``schema`` (Avro) or ``descriptor`` (Protobuf), whatever the framing, ``none`` being the default then.

The options hold what is in the files, not their names: the configuration has read them. Readers of schemas are made
once per id, and so is the reason why a schema cannot be used.

    schema       text of an Avro schema
    schemas      id -> text of an Avro schema, or -> a FileDescriptorSet, in bytes; or -> a ``Schema``
    descriptor   a FileDescriptorSet, in bytes
    message      full name of a Protobuf message; needed where the framing does not name it
    framing      one of ``framing.FRAMINGS``
    encoding     of Avro: binary, or json, which needs no schema
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from daemon.domain import Reason
from daemon.errors import ConfigError
from daemon.mapping import DecodeRule
from daemon.stream.decode import framing
from daemon.stream.decode.avro import avro_reader, fastavro_library, without_union_wrappers
from daemon.stream.decode.framing import FRAMINGS, SchemaId
from daemon.stream.decode.json_text import json_tree
from daemon.stream.decode.protobuf import ProtobufFiles, files_of_set, protobuf_library
from daemon.stream.decode.schemas import Schema, Schemas, UnusableSchemaError
from daemon.stream.rejection import RejectedError

READERS_KEPT: Final = 10_000
"""Readers of one decoder: the paths of Protobuf's framing are the producers' to choose."""
Read = Callable[[bytes], Any]
_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "avro": ("schema", "schemas", "framing", "encoding"),
    "protobuf": ("descriptor", "schemas", "message", "framing"),
    "json-schema": ("framing",),
}
_KINDS: Final = {"avro": "AVRO", "protobuf": "PROTOBUF", "json-schema": "JSON"}


def reads_framing(rule: DecodeRule) -> bool:
    """Whether the rule's decoder reads what stands before a message, in its bytes or in the record's header."""
    return rule.kind in _OPTIONS and not rule.unwrap and _framing(rule) == "confluent"


def needs_schemas(rule: DecodeRule) -> bool:
    """Whether messages name schemas that only a registry has."""
    fixed = "schema" in rule.options or "descriptor" in rule.options
    named = rule.kind in ("avro", "protobuf") and _framing(rule) == "confluent" and not _encoded_in_json(rule)
    return named and not fixed and rule.registry is not None


def given_ids(rule: DecodeRule) -> frozenset[str]:
    """The ids of the schemas that the rule has itself, as texts."""
    given = rule.options.get("schemas")
    return frozenset(str(id).lower() for id in given) if isinstance(given, Mapping) else frozenset()


def framed_decoder(rule: DecodeRule, schemas: Schemas | None, most_bytes: int) -> Read:
    """The function that decodes as the rule says.

    Args:
        rule: its kind is avro, protobuf or json-schema.
        schemas: what the registry answered; None where none is asked.
        most_bytes: of a decompressed body.

    Raises:
        ConfigError: an option is wrong, or no schema can be found, or the library is not installed.
    """
    kind, options = rule.kind, rule.options
    for name in options:
        if name not in _OPTIONS[kind]:
            raise ConfigError(f"decode: {kind} has no option {name!r}: it has {', '.join(_OPTIONS[kind])}")
    if "confluent" in rule.unwrap:
        raise ConfigError(f"decode: {kind} takes Confluent's framing off itself: leave it out of unwrap")
    how = _framing(rule)
    if kind == "json-schema":
        return _json(how, most_bytes)
    if _encoded_in_json(rule):
        plain = _json(how, most_bytes)
        return lambda value: without_union_wrappers(plain(value))
    # A library that is not installed is missed at start, not at the first message.
    if kind == "avro":
        fastavro_library()
        return _unframing(how, _AvroReaders(options, schemas), most_bytes)
    protobuf_library()
    return _unframing(how, _ProtobufReaders(options, schemas, how), most_bytes)


def _framing(rule: DecodeRule) -> str:
    fixed = "schema" in rule.options or "descriptor" in rule.options or _encoded_in_json(rule)
    how = rule.options.get("framing", "none" if fixed else "confluent")
    if how not in FRAMINGS or (how == "single-object" and rule.kind != "avro"):
        raise ConfigError(f"decode: framing {how!r} is none of {', '.join(FRAMINGS)}")
    return str(how)


def _encoded_in_json(rule: DecodeRule) -> bool:
    encoding = rule.options.get("encoding", "binary")
    if encoding not in ("binary", "json"):
        raise ConfigError(f"decode: encoding {encoding!r} is neither binary nor json")
    return encoding == "json"


def _json(how: str, most_bytes: int) -> Read:
    """JSON after its framing; no schema is needed to read it."""
    if how == "confluent":
        return lambda value: json_tree(framing.unframed(value))
    if how == "glue":
        return lambda value: json_tree(framing.glue_body(value, most_bytes)[1])
    return json_tree


# ------------------------------------------------------------------ schemas to readers
class _Readers:
    """The readers of one decoder, made when their schema is first needed.

    Args:
        given: schemas of the configuration by their ids.
        schemas: those of the registry.
    """

    def __init__(self, given: Mapping[SchemaId, Schema], schemas: Schemas | None) -> None:
        self._given = given
        self._schemas = schemas
        self._made: dict[object, Read] = {}

    def of(self, id: SchemaId, path: tuple[int, ...] = ()) -> Read:
        """The reader of a schema, of the message at a path of it.

        Raises:
            RejectedError: there is no such schema, or it cannot be used.
        """
        key = (id, path)
        made = self._made.get(key)
        if made is None:
            schema = self._schema(id)
            try:
                made = self.make(schema, path)
            except UnusableSchemaError as error:
                why = f"schema {id} cannot be used: {error}"
                made = _refusing(why)
            if len(self._made) >= READERS_KEPT:
                self._made.clear()
            self._made[key] = made
        return made

    def _schema(self, id: SchemaId) -> Schema:
        if id in self._given:
            return self._given[id]
        if self._schemas is None:
            raise RejectedError(
                Reason.UNKNOWN_SCHEMA, f"schema {id} is not among the schemas of the configuration"
            )
        return self._schemas.schema(id)

    def fixed(self) -> Read | None:
        """The reader of the one schema of the configuration; None where messages name theirs."""
        raise NotImplementedError

    def make(self, schema: Schema, path: tuple[int, ...]) -> Read:
        """A new reader.

        Raises:
            UnusableSchemaError: the schema cannot be used.
        """
        raise NotImplementedError


def _refusing(why: str) -> Read:
    def refuse(value: bytes) -> Any:
        raise RejectedError(Reason.UNKNOWN_SCHEMA, why)

    return refuse


class _AvroReaders(_Readers):
    def __init__(self, options: Mapping[str, object], schemas: Schemas | None) -> None:
        super().__init__(_given(options, lambda text: Schema("AVRO", _text("schemas", text))), schemas)
        self._fixed: Read | None = None
        text = options.get("schema")
        if text is not None:
            self._fixed = _usable("schema", lambda: avro_reader(Schema("AVRO", _text("schema", text))))
        elif schemas is None and not self._given:
            raise ConfigError("decode: avro needs schema_registry.url, or `schema: FILE` with the schema")
        for id, schema in self._given.items():
            _usable(f"schemas {id}", partial(avro_reader, schema))

    def fixed(self) -> Read | None:
        return self._fixed

    def make(self, schema: Schema, path: tuple[int, ...]) -> Read:
        _check_kind(schema, "avro")
        return avro_reader(schema)


class _ProtobufReaders(_Readers):
    def __init__(self, options: Mapping[str, object], schemas: Schemas | None, how: str) -> None:
        super().__init__(_given(options, _descriptors), schemas)
        name, descriptor = options.get("message"), options.get("descriptor")
        self._message = None if name is None else _text("message", name)
        self._of_file: ProtobufFiles | None = None
        self._fixed: Read | None = None
        if descriptor is not None:
            files = _usable("descriptor", lambda: ProtobufFiles(_descriptors(descriptor).files))
            self._of_file = files
            if self._message is not None:
                message = self._message
                self._fixed = _usable("message", lambda: files.named(message))
            elif how != "confluent":
                raise ConfigError("decode: protobuf needs `message: full.Name` with `descriptor`")
        elif how == "glue" and self._message is None:
            raise ConfigError("decode: protobuf in Glue's framing needs `message: full.Name`")
        elif how == "none":
            raise ConfigError(
                "decode: protobuf without framing needs `descriptor: FILE` and `message: full.Name`"
            )
        elif schemas is None and not self._given:
            raise ConfigError("decode: protobuf needs schema_registry.url, or `descriptor: FILE`")

    def fixed(self) -> Read | None:
        return self._fixed

    def of(self, id: SchemaId, path: tuple[int, ...] = ()) -> Read:
        """See ``_Readers``; with a descriptor the path is one within its file, whatever the id."""
        return super().of("descriptor" if self._of_file is not None else id, path)

    def _schema(self, id: SchemaId) -> Schema:
        return Schema("PROTOBUF") if self._of_file is not None else super()._schema(id)

    def make(self, schema: Schema, path: tuple[int, ...]) -> Read:
        _check_kind(schema, "protobuf")
        files = self._of_file or ProtobufFiles(schema.files)
        return files.at(path or (0,)) if self._message is None else files.named(self._message)


def _check_kind(schema: Schema, kind: str) -> None:
    if schema.kind != _KINDS[kind]:
        other = next((name for name, each in _KINDS.items() if each == schema.kind), None)
        hint = "" if other is None else f": give decode: {other}"
        raise UnusableSchemaError(f"it is of {schema.kind}{hint}")


def _given(options: Mapping[str, object], make: Callable[[object], Schema]) -> dict[SchemaId, Schema]:
    """The schemas of the configuration, by number or by the text of a UUID."""
    listed = options.get("schemas", {})
    if not isinstance(listed, Mapping):
        raise ConfigError("decode: schemas is a table: write ID: FILE, one per line")
    return {
        int(id) if str(id).isdigit() else str(id).lower(): each
        if isinstance(each, Schema)
        else _usable(f"schemas {id}", partial(make, each))
        for id, each in listed.items()
    }


def _descriptors(content: object) -> Schema:
    if not isinstance(content, bytes):
        raise ConfigError("decode: descriptor is a file that protoc --descriptor_set_out has written")
    return Schema("PROTOBUF", files=files_of_set(content))


def _text(option: str, content: object) -> str:
    if isinstance(content, bytes):
        return content.decode("utf-8-sig", errors="replace")
    if not isinstance(content, str):
        raise ConfigError(f"decode: {option} is a text")
    return content


def _usable(option: str, make: Callable[[], Any]) -> Any:
    """What is made of an option; a schema that cannot be used is a fault of the configuration here."""
    try:
        return make()
    except UnusableSchemaError as error:
        raise ConfigError(f"decode: {option}: {error}") from error


# ------------------------------------------------------------------ bytes to trees
def _unframing(how: str, readers: _Readers, most_bytes: int) -> Read:
    """The function that takes the framing off and reads the body by its schema."""
    fixed = readers.fixed()
    paths = isinstance(readers, _ProtobufReaders)
    if how in ("none", "single-object") and fixed is None:
        raise ConfigError(f"decode: framing {how} names no schema: give `schema: FILE`")

    known: dict[
        bytes, Read
    ] = {}  # by the first bytes of Avro, which are nearly always of the same few schemas

    def confluent(value: bytes) -> Any:
        read = known.get(value[:5])
        if read is not None:
            return read(value[5:])
        id, at = framing.confluent_id(value)
        path: tuple[int, ...] = ()
        if paths:
            path, at = framing.message_path(value, at)
        read = fixed or readers.of(id, path)
        if at == 5 and fixed is None:
            known[value[:5]] = read
        return read(value[at:])

    def glue(value: bytes) -> Any:
        version, body = framing.glue_body(value, most_bytes)
        return (fixed or readers.of(version))(framing.after_index(body) if paths else body)

    def single_object(value: bytes) -> Any:
        assert fixed is not None
        return fixed(framing.single_object_body(value))

    def none(value: bytes) -> Any:
        assert fixed is not None
        try:
            return fixed(value)
        except RejectedError as rejected:
            hint = framing.looks_framed(value)
            if not hint:
                raise
            raise RejectedError(rejected.reason, f"{rejected.detail}; {hint}") from None

    return {"confluent": confluent, "glue": glue, "single-object": single_object, "none": none}[how]
