"""Sparkplug B payloads as they are on the wire: protobuf, by a description that is built here.

What no sensor has is passed over: definitions of templates, properties but the quality, files' metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from daemon.domain import Reason
from daemon.errors import ConfigError
from daemon.stream.decode.sparkplug_values import TEMPLATE, Metric, Payload
from daemon.stream.decode.wrappings import looks_like
from daemon.stream.rejection import RejectedError

_VALUES: Final = "int_value:uint32 long_value:uint64 float_value:float double_value:double boolean_value:bool string_value:string"
_MESSAGES: Final = {
    "Payload": ("timestamp=1:uint64 metrics=2:*Metric seq=3:uint64 uuid=4:string body=5:bytes", 0, ""),
    "Metric": (
        "name=1:string alias=2:uint64 timestamp=3:uint64 datatype=4:uint32 is_historical=5:bool"
        " is_transient=6:bool is_null=7:bool properties=9:PropertySet",
        10,
        f"{_VALUES} bytes_value:bytes dataset_value:DataSet template_value:Template",
    ),
    "PropertySet": ("keys=1:*string values=2:*PropertyValue", 0, ""),
    "PropertyValue": ("type=1:uint32 is_null=2:bool", 3, _VALUES),
    "DataSet": ("num_of_columns=1:uint64 columns=2:*string types=3:*uint32 rows=4:*Row", 0, ""),
    "Row": ("elements=1:*DataSetValue", 0, ""),
    "DataSetValue": ("", 1, _VALUES),
    "Template": (
        "version=1:string metrics=2:*Metric template_ref=4:string is_definition=5:bool",
        0,
        "",
    ),
}
"""Message: its fields, the number of the first field of its oneof, and the oneof's fields in order."""
_DEEPEST: Final = 20
"""Templates within templates."""


def protobuf_payload() -> Callable[[bytes], Payload]:
    """The decoder of payloads.

    Raises:
        ConfigError: the library is not installed.
    """
    try:
        from google.protobuf import message
    except ImportError:
        raise ConfigError("decode: sparkplug needs the extra: pip install 'anomalyd[sparkplug]'") from None
    payload_type = payload_class()

    def decode(value: bytes) -> Payload:
        """Raises RejectedError: it is no such payload."""
        try:
            found = payload_type.FromString(value)
            metrics = list(_metrics(found.metrics))
        except (message.DecodeError, ValueError, RecursionError) as error:
            hint = looks_like(value) or f"no Sparkplug payload: {error}"
            raise RejectedError(Reason.UNDECODABLE, hint) from None
        return Payload(
            found.timestamp if found.HasField("timestamp") else None,
            found.seq if found.HasField("seq") else None,
            metrics,
        )

    return decode


def _metrics(found: Any, prefix: str = "", owner: int | None = None, depth: int = 0) -> Iterator[Metric]:
    """The metrics of a message, or of a template.

    Args:
        found: as protobuf has them.
        prefix: the name of the template and a slash.
        owner: its alias, where that is all that the message names it by.
        depth: in how many templates they are.
    """
    for each in found:
        kind = each.WhichOneof("value")
        name: str | None = prefix + each.name if each.HasField("name") else None
        alias = each.alias if each.HasField("alias") else None
        timestamp = each.timestamp if each.HasField("timestamp") else None
        if kind == "template_value":
            template = each.template_value
            if not template.is_definition and depth < _DEEPEST and (name, alias) != (None, None):
                if owner is None:
                    yield Metric(name, alias, timestamp, TEMPLATE, None)
                inner = owner if name is not None else alias
                yield from _metrics(template.metrics, f"{name or ''}/", inner, depth + 1)
            continue
        value = None if kind is None or each.is_null else getattr(each, kind)
        if kind == "dataset_value" and value is not None:
            value = {"columns": list(value.columns), "rows": len(value.rows)}
        quality = _quality(each.properties) if each.HasField("properties") else None
        member = ""
        if owner is not None and name is not None:
            member, name, alias = name, None, owner
        yield Metric(name, alias, timestamp, each.datatype, value, quality, each.is_historical, member)


def _quality(properties: Any) -> Any:
    for key, value in zip(properties.keys, properties.values, strict=False):
        if key.lower() == "quality":
            kind = value.WhichOneof("value")
            return None if kind is None else getattr(value, kind)
    return None


def payload_class() -> Any:
    """The class of a payload's message; the library must be installed."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name="sparkplug_b.proto", package="sparkplug_b", syntax="proto2"
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, (fields, first, choices) in _MESSAGES.items():
        described = file.message_type.add(name=name)
        declared = [tuple(field.replace(":", "=").split("=")) for field in fields.split()]
        if choices:
            described.oneof_decl.add(name="value")
        for number, choice in enumerate(choices.split(), first):
            field_name, kind = choice.split(":")
            declared.append((field_name, str(number), kind, "choice"))
        for field_name, number_text, kind, *rest in declared:
            field = described.field.add(name=field_name, number=int(number_text))
            repeated, kind = kind.startswith("*"), kind.removeprefix("*")
            field.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind in _MESSAGES:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".sparkplug_b.{kind}"
            else:
                field.type = getattr(kinds, f"TYPE_{kind.upper()}")
            if rest:
                field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("sparkplug_b.Payload"))
