"""Avro: records of a writer's schema to trees, by fastavro.

A schema is read once: checked, its logical types put into the forms that the tree knows, parsed by fastavro. Then
a message costs one call. Logical types become what the layers above read exactly:

    timestamp-millis, -micros, -nanos   the number as it is sent: an epoch number, whose unit its size shows
    local-timestamp-...                 ISO 8601 text without a zone: it is in the stream's
    date, time-millis, time-micros      ISO 8601 text
    decimal                             a number
    uuid                                text

An optional field (a union with null) is its value or None, an enumeration its text, bytes and fixed are bytes, any
other logical type is the type below it.

Avro in its JSON encoding needs neither schema nor library: ``without_union_wrappers``.

What fastavro cannot survive is refused with the schema: a type that contains itself (its recursion has no limit, and
ends the process) and an array whose items take no bytes (a few bytes would say a billion of them).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from daemon.domain import EPOCH, Reason
from daemon.errors import ConfigError
from daemon.stream.decode.schemas import Schema, UnusableSchemaError
from daemon.stream.rejection import RejectedError, shown

MOST_PARTS: Final = 20_000
"""The most types and fields of one schema."""
DEEPEST: Final = 64
"""The most types of one schema within one another."""
_PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_WRAPPING: Final = (_PRIMITIVES - {"null"}) | {"array", "map"}
_OWN: Final = "anomalyd-"
"""Begins the names of logical types that this module reads itself, in fastavro's table of readers."""
_DAY_ZERO: Final = date(1970, 1, 1)


def avro_reader(schema: Schema) -> Callable[[bytes], Any]:
    """The function that reads messages of a schema.

    Raises:
        UnusableSchemaError: the schema is none, or is refused; see the module.
        ConfigError: fastavro is not installed.
    """
    fastavro = fastavro_library()
    named: dict[str, Any] = {}
    sizes = _Sizes()
    try:
        for text in (*schema.references, schema.text):
            document = _document(text)
            sizes.check(document)
            parsed = fastavro.parse_schema(_own_types(document), named_schemas=named)
    except UnusableSchemaError:
        raise
    except (fastavro.schema.SchemaParseException, LookupError, TypeError, ValueError) as error:
        raise UnusableSchemaError(f"no Avro schema: {str(error)[:120]}") from error
    read = fastavro.schemaless_reader

    def record(value: bytes) -> Any:
        stream = io.BytesIO(value)
        try:
            tree = read(stream, parsed, None)
        except (EOFError, LookupError, ValueError, OverflowError, MemoryError, struct.error) as error:
            what = "it ends too early" if isinstance(error, EOFError) else shown(str(error))
            raise RejectedError(Reason.UNDECODABLE, f"no Avro of this schema: {what}") from None
        if stream.read(1):
            left = len(value) - stream.tell() + 1
            raise RejectedError(Reason.UNDECODABLE, f"{left} bytes are left after the Avro of this schema")
        return tree

    return record


def without_union_wrappers(tree: Any) -> Any:
    """The tree of Avro in its JSON encoding: the value of a union stands in it as ``{"double": 81.4}``.

    Only wrappers of types without a name are taken off: an object with a single field may be a record, too.

    Raises:
        RejectedError: it is nested too deeply.
    """
    try:
        return _without_wrappers(tree)
    except RecursionError:
        raise RejectedError(Reason.TOO_DEEP, "nested too deeply") from None


def _without_wrappers(tree: Any) -> Any:
    if type(tree) is dict:
        if len(tree) == 1:
            ((kind, inner),) = tree.items()
            if kind in _WRAPPING:
                return _without_wrappers(inner)
        return {key: _without_wrappers(inner) for key, inner in tree.items()}
    if type(tree) is list:
        return [_without_wrappers(inner) for inner in tree]
    return tree


def fastavro_library() -> Any:
    """fastavro, with the readers of this module's logical types in its table.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import fastavro
        import fastavro.read
    except ImportError as error:
        raise ConfigError("decode: avro needs the extra: pip install 'anomalyd[avro]'") from error
    for (base, name), reader in _READERS.items():
        fastavro.read.LOGICAL_READERS[f"{base}-{_OWN}{name}"] = reader
    return fastavro


def _document(text: str) -> Any:
    """The JSON of a schema; a bare name of a primitive type is one, too."""
    if text.strip() in _PRIMITIVES:
        return text.strip()
    try:
        document = msgspec.json.decode(text.encode(errors="replace"))
    except (ValueError, RecursionError) as error:
        raise UnusableSchemaError(f"no Avro schema: not JSON ({str(error)[:80]})") from error
    parts, level = 0, [document]
    for _ in range(DEEPEST):
        parts += len(level)
        level = [inner for each in level for inner in _inner(each)]
        if not level:
            return document
        if parts + len(level) > MOST_PARTS:
            raise UnusableSchemaError(f"the schema has over {MOST_PARTS} parts")
    raise UnusableSchemaError(f"the schema is nested over {DEEPEST} deep")


def _inner(part: Any) -> Iterator[Any]:
    if isinstance(part, Mapping):
        yield from (value for value in part.values() if isinstance(value, Mapping | list))
    elif isinstance(part, list):
        yield from part


# ------------------------------------------------------------------ what is refused
class _Sizes:
    """The fewest bytes that values of a schema's types take, named types remembered over several texts."""

    def __init__(self) -> None:
        self._named: dict[str, int] = {}
        self._open: set[str] = set()

    def check(self, schema: Any, namespace: str = "") -> int:
        """The fewest bytes of a value.

        Raises:
            UnusableSchemaError: a type contains itself, or an array's items take no bytes.
        """
        if isinstance(schema, list):
            return 1 + min((self.check(branch, namespace) for branch in schema), default=0)
        if isinstance(schema, str):
            return self._of_name(schema, namespace)
        if not isinstance(schema, Mapping):
            raise UnusableSchemaError(f"no Avro schema: {shown(schema)} is no type")
        kind = schema.get("type")
        if isinstance(kind, Mapping | list):
            return self.check(kind, namespace)
        if kind == "array":
            if self.check(schema.get("items"), namespace) == 0:
                raise UnusableSchemaError("the items of an array take no bytes")
            return 1
        if kind == "map":
            self.check(schema.get("values"), namespace)
            return 1
        if kind in ("record", "error", "enum", "fixed"):
            return self._of_named(schema, str(kind), namespace)
        return self._of_name(kind, namespace)

    def _of_named(self, schema: Mapping[str, Any], kind: str, namespace: str) -> int:
        name = _full_name(str(schema.get("name")), str(schema.get("namespace", namespace)))
        if kind == "enum":
            size = 1
        elif kind == "fixed":
            given = schema.get("size")
            size = given if isinstance(given, int) and given > 0 else 0
        else:
            self._open.add(name)
            inner = name.rpartition(".")[0]
            fields = schema.get("fields")
            size = sum(
                self.check(each.get("type"), inner)
                for each in (fields if isinstance(fields, list) else ())
                if isinstance(each, Mapping)
            )
            self._open.discard(name)
        self._named[name] = size
        return size

    def _of_name(self, name: Any, namespace: str) -> int:
        if name in _PRIMITIVES:
            return {"null": 0, "float": 4, "double": 8}.get(name, 1)
        for full in (_full_name(str(name), namespace), str(name)):
            if full in self._open:
                raise UnusableSchemaError(f"the type {shown(full)} contains itself")
            if full in self._named:
                return self._named[full]
        raise UnusableSchemaError(f"no Avro schema: {shown(name)} is no type")


def _full_name(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


# ------------------------------------------------------------------ logical types
def _own_types(schema: Any) -> Any:
    """The schema with this module's logical types for those it reads, and without any other."""
    if isinstance(schema, list):
        return [_own_types(branch) for branch in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {
        key: value
        for key, value in schema.items()
        if key not in ("logicalType", "default", "doc", "aliases", "order")
    }
    for key in ("type", "items", "values"):
        if key in made:
            made[key] = _own_types(made[key])
    if isinstance(made.get("fields"), list):
        made["fields"] = [_own_types(each) for each in made["fields"]]
    logical, base = schema.get("logicalType"), schema.get("type")
    if isinstance(logical, str) and isinstance(base, str) and (base, logical) in _READERS:
        if logical == "decimal":
            _check_decimal(schema)
        made["logicalType"] = _OWN + logical
    return made


def _check_decimal(schema: Mapping[str, Any]) -> None:
    scale = schema.get("scale", 0)
    if type(scale) is not int or not 0 <= scale <= 300:
        raise UnusableSchemaError(f"a decimal of scale {shown(scale)}")


def _decimal(found: bytes, writer: Mapping[str, Any], reader: object = None) -> int | float:
    """The number nearest to a decimal: its unscaled integer over a power of ten, rounded once."""
    unscaled, scale = int.from_bytes(found, "big", signed=True), writer.get("scale", 0)
    try:
        return unscaled / 10**scale if scale else unscaled
    except OverflowError:
        return float("inf") if unscaled > 0 else float("-inf")


def _date(found: int, writer: object, reader: object = None) -> int | str:
    try:
        return (_DAY_ZERO + timedelta(days=found)).isoformat()
    except OverflowError:
        return found


def _time_of_day(units: int) -> Callable[..., int | str]:
    def time_of_day(found: int, writer: object, reader: object = None) -> int | str:
        if not 0 <= found < 86_400 * units:
            return found
        return (EPOCH + timedelta(microseconds=found * 10**6 // units)).time().isoformat()

    return time_of_day


def _local_time(units: int) -> Callable[..., int | str]:
    digits = len(str(units)) - 1

    def local_time(found: int, writer: object, reader: object = None) -> int | str:
        seconds, part = divmod(found, units)
        try:
            instant = (EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None)
        except OverflowError:
            return found
        return f"{instant.isoformat()}.{part:0{digits}d}"

    return local_time


def _uuid(found: bytes, writer: object, reader: object = None) -> bytes | str:
    return str(UUID(bytes=found)) if len(found) == 16 else found


_READERS: Final[Mapping[tuple[str, str], Callable[..., Any]]] = {
    ("bytes", "decimal"): _decimal,
    ("fixed", "decimal"): _decimal,
    ("fixed", "uuid"): _uuid,
    ("int", "date"): _date,
    ("int", "time-millis"): _time_of_day(10**3),
    ("long", "time-micros"): _time_of_day(10**6),
    ("long", "local-timestamp-millis"): _local_time(10**3),
    ("long", "local-timestamp-micros"): _local_time(10**6),
    ("long", "local-timestamp-nanos"): _local_time(10**9),
}
"""What reads a logical type, by the type below it; fastavro calls it with value, writer's and reader's schema."""
