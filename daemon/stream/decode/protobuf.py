"""Protobuf: messages of a descriptor to trees, by google.protobuf.

The descriptors are those of a file (``protoc --include_imports --descriptor_set_out``) or of a registry. A message
becomes an object with the field names of the .proto file:

* a field without presence (proto3 without ``optional``) is always there: 0, false or an empty text are not sent, so
  they are what a field that is not on the wire says;
* a field with presence (``optional``, proto2, a ``oneof``, a message) is there if it was sent;
* an enumeration is its text (its number where the file knows none), bytes are bytes, 64-bit integers are exact;
* ``Timestamp`` is ISO 8601 text, to the nanosecond; ``Duration`` is seconds; the wrappers (``DoubleValue`` ...) and
  ``Struct``, ``Value`` and ``ListValue`` are what they hold.

Names and numbers of fields that the descriptor does not know are passed over, as Protobuf wants it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

from daemon.domain import EPOCH, Reason
from daemon.errors import ConfigError
from daemon.stream.decode.schemas import UnusableSchemaError
from daemon.stream.rejection import RejectedError, shown

MOST_BYTES: Final = 8 << 20
"""Of the descriptors of one schema."""
_WELL_KNOWN: Final = re.compile(
    r"google/protobuf/(any|duration|empty|field_mask|source_context|struct|timestamp|wrappers)\.proto"
)
_WRAPPERS: Final = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
Convert = Callable[[Any], Any]


class ProtobufFiles:
    """The descriptors of one schema, and the messages in them.

    Args:
        files: serialized ``FileDescriptorProto``, each after those that it imports.

    Raises:
        UnusableSchemaError: they are none, or one is missing.
        ConfigError: google.protobuf is not installed.
    """

    def __init__(self, files: Sequence[bytes]) -> None:
        descriptor_pb2, descriptor_pool, message, self._classes = protobuf_library()
        self._decode_error = message.DecodeError
        self._pool = descriptor_pool.DescriptorPool()
        if sum(map(len, files)) > MOST_BYTES:
            raise UnusableSchemaError(f"the descriptors have over {MOST_BYTES} bytes")
        self._last = ""
        try:
            added: set[str] = set()
            for each in files:
                proto = descriptor_pb2.FileDescriptorProto.FromString(each)
                for name in proto.dependency:  # every compiler has these, so registries leave them out
                    if name not in added and (own := _WELL_KNOWN.fullmatch(name)) is not None:
                        well_known = import_module(f"google.protobuf.{own[1]}_pb2").DESCRIPTOR
                        self._pool.AddSerializedFile(well_known.serialized_pb)
                        added.add(name)
                if proto.name not in added:
                    self._pool.Add(proto)
                    added.add(proto.name)
                self._last = proto.name
            self._file = self._pool.FindFileByName(self._last)
        except (message.DecodeError, TypeError, KeyError, ValueError) as error:
            raise UnusableSchemaError(f"no descriptors: {str(error)[:120]}") from error

    def named(self, name: str) -> Callable[[bytes], Any]:
        """The function that reads messages of a full name.

        Raises:
            UnusableSchemaError: there is none of this name.
        """
        try:
            return self._reader(self._pool.FindMessageTypeByName(name))
        except KeyError:
            known = ", ".join(sorted(self._file.message_types_by_name)[:5])
            raise UnusableSchemaError(f"no message {shown(name)} in the descriptors; {known}") from None

    def at(self, path: Sequence[int]) -> Callable[[bytes], Any]:
        """The function that reads the messages at a place in the last file (``framing.message_path``).

        Raises:
            UnusableSchemaError: there is none.
        """
        inner = self._file.message_types_by_name.values()
        found = None
        for index in path:
            if not 0 <= index < len(inner):
                raise UnusableSchemaError(f"no message at {list(path)} of the schema")
            found = inner[index]
            inner = found.nested_types
        assert found is not None
        return self._reader(found)

    def _reader(self, descriptor: Any) -> Callable[[bytes], Any]:
        make, fault = self._classes.GetMessageClass(descriptor), self._decode_error
        convert = _Converters().of(descriptor)

        def read(value: bytes) -> Any:
            try:
                return convert(make.FromString(value))
            except (fault, UnicodeDecodeError, RecursionError, OverflowError) as error:
                raise RejectedError(
                    Reason.UNDECODABLE, f"no Protobuf of this schema: {shown(str(error))}"
                ) from None

        return read


def files_of_set(descriptor_set: bytes) -> tuple[bytes, ...]:
    """The files of a serialized ``FileDescriptorSet``, as ``Schema.files``.

    Raises:
        UnusableSchemaError: it is none.
        ConfigError: google.protobuf is not installed.
    """
    descriptor_pb2, _, message, _ = protobuf_library()
    try:
        found = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set)
    except message.DecodeError as error:
        raise UnusableSchemaError(
            "no FileDescriptorSet: write one with protoc --include_imports --descriptor_set_out=FILE"
        ) from error
    if not found.file:
        raise UnusableSchemaError("the FileDescriptorSet holds no files")
    return tuple(each.SerializeToString() for each in found.file)


def file_named(descriptor: bytes, name: str) -> bytes | None:
    """A serialized ``FileDescriptorProto`` under the name by which others import it; None if it is none.

    Raises:
        ConfigError: google.protobuf is not installed.
    """
    descriptor_pb2, _, message, _ = protobuf_library()
    try:
        found = descriptor_pb2.FileDescriptorProto.FromString(descriptor)
    except message.DecodeError:
        return None
    found.name = name
    return bytes(found.SerializeToString())


def protobuf_library() -> tuple[Any, Any, Any, Any]:
    """The modules of google.protobuf that are used here: descriptors, pools, messages, their classes.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory
    except ImportError as error:
        raise ConfigError("decode: protobuf needs the extra: pip install 'anomalyd[protobuf]'") from error
    return descriptor_pb2, descriptor_pool, message, message_factory


# ------------------------------------------------------------------ messages to trees
class _Converters:
    """Functions from messages to trees, one per message type; a type that contains itself finds its own."""

    def __init__(self) -> None:
        self._made: dict[str, Convert] = {}

    def of(self, descriptor: Any) -> Convert:
        """The function for messages of a type."""
        name = descriptor.full_name
        if name == "google.protobuf.Timestamp":
            return _timestamp
        if name == "google.protobuf.Duration":
            return _duration
        if name in _WRAPPERS:
            return _wrapped
        if name in _STRUCTS:
            return _STRUCTS[name]
        if name not in self._made:
            fields: list[tuple[str, bool, Convert | None]] = []

            def convert(message: Any) -> dict[str, Any]:
                tree = {}
                for field, always, change in fields:
                    if always or message.HasField(field):
                        found = getattr(message, field)
                        tree[field] = found if change is None else change(found)
                return tree

            self._made[name] = convert
            fields += [self._field(each) for each in descriptor.fields]
        return self._made[name]

    def _field(self, field: Any) -> tuple[str, bool, Convert | None]:
        """Name of a field, whether it is in every message, and what its value becomes (None: stays)."""
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            inner = self._value(kind.fields_by_name["value"])
            return field.name, True, _mapping(inner)
        change = self._value(field)
        if field.is_repeated:
            return field.name, True, list if change is None else _listed(change)
        return field.name, not field.has_presence, change

    def _value(self, field: Any) -> Convert | None:
        if field.message_type is not None:
            return self.of(field.message_type)
        if field.enum_type is not None:
            names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
            return lambda number: names.get(number, number)
        return None


def _listed(change: Convert) -> Convert:
    return lambda found: [change(each) for each in found]


def _mapping(change: Convert | None) -> Convert:
    """Maps have texts as keys, as in JSON."""

    def mapping(found: Any) -> dict[str, Any]:
        return {
            key if type(key) is str else str(key).lower(): found[key]
            if change is None
            else change(found[key])
            for key in found
        }

    return mapping


def _timestamp(message: Any) -> str | int:
    seconds, nanos = message.seconds, message.nanos
    try:
        text = _whole_seconds(seconds)
    except OverflowError:
        return int(seconds)
    if not 0 <= nanos < 10**9:
        return f"{text}.{nanos}Z"  # no time: the time rule says so
    return f"{text}.{nanos:09d}Z" if nanos else f"{text}Z"


@lru_cache(maxsize=4096)  # many assets report in the same second
def _whole_seconds(seconds: int) -> str:
    return (EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()


def _duration(message: Any) -> float | int:
    return message.seconds + message.nanos / 1e9 if message.nanos else int(message.seconds)


def _wrapped(message: Any) -> Any:
    return message.value


def _struct(message: Any) -> dict[str, Any]:
    return {key: _any_value(value) for key, value in message.fields.items()}


def _list_value(message: Any) -> list[Any]:
    return [_any_value(value) for value in message.values]


def _any_value(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "struct_value":
        return _struct(message.struct_value)
    if kind == "list_value":
        return _list_value(message.list_value)
    return getattr(message, kind)


_STRUCTS: Final[dict[str, Convert]] = {
    "google.protobuf.Struct": _struct,
    "google.protobuf.ListValue": _list_value,
    "google.protobuf.Value": _any_value,
}
