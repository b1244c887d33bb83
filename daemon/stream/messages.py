"""The messages of a stream as structs: how bytes are parsed, strictly first and leniently if need be.

There are these ways from bytes to a struct with the fields that a message of the stream may have:

* ``parse_cells``: msgspec decodes the bytes into a struct whose ``values`` is itself a struct with one
  field per sensor. Nearly every record of a wide stream goes this way.
* ``parse``: msgspec decodes into a struct whose ``values`` is a dict, for records with other sensors, too.
* ``parse_leniently``: Python's ``json``. The other two reject what strict JSON rejects (``NaN``, ``1e999``,
  a string where a number belongs), but real producers send all of it; here a cell may be of any type, and
  the rules of ``decoding`` turn the bad cell alone into a missing one.

All of them fill a struct with the same fields, and every rule that follows is shared: the three ways
differ in speed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from daemon.domain import (
    Format,
    Reason,
    StreamSpec,
)
from daemon.errors import ConfigError
from daemon.stream.decode.json_text import lenient_json
from daemon.stream.rejection import RejectedError, json_kind

Parse = Callable[[bytes], Any]
NO_OTHER: Final[Mapping[str, tuple[Any, Any]]] = {}


class MessageParser:
    """Parses the messages of one stream.

    Args:
        spec: the stream; ``spec.fields`` names the fields of its messages.

    Attributes:
        cells: the struct with one field per sensor in the stream's order, None for a missing value. It is
            None for a long stream, and where a sensor has a name that msgspec cannot look for.
        parse_piece: for records that are decoded together: values are numbers, booleans, null or, of a sensor
            with states, texts; a missing one is NaN; the condition is the text of its JSON. None: there is no
            such way.
        parse_texts: the same, where texts that are plain numbers are numbers; other fields are of any types.

    Raises:
        ConfigError: if two fields have one name, or a field cannot come from the record.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self._names = _field_names(spec) if spec.input is None else {}
        self._message = _message_type(spec, self._names, dict[str, float | None])
        self.cells: Any = (
            _cells_type([rule.source or n for n, rule in zip(spec.sensors, spec.rules, strict=True)])
            if spec.format is Format.JSON_WIDE
            else None
        )
        self.parse = msgspec.json.Decoder(self._message).decode
        self.parse_cells = self.parse
        if self.cells is not None:
            self.parse_cells = msgspec.json.Decoder(_message_type(spec, self._names, self.cells)).decode
        self.parse_piece: Parse | None = None
        self.parse_texts: Parse | None = None
        if spec.input is None:
            self._compile_for_pieces(spec)

    def _compile_for_pieces(self, spec: StreamSpec) -> None:
        """Set ``parse_piece`` and ``parse_texts``."""
        number = float | bool | None
        kinds: list[Any] = [number | str if rule.states else number for rule in spec.rules]
        cells: Any = dict
        if spec.format is Format.JSON_WIDE:
            names = [rule.source or name for name, rule in zip(spec.sensors, spec.rules, strict=True)]
            cells = _cells_type(names, kinds, float("nan"))
            if cells is None:
                return
        some_states = any(rule.states for rule in spec.rules)
        value = (number | str if some_states else number) | msgspec.UnsetType
        types = {"condition": (msgspec.Raw, msgspec.Raw()), "value": (value, msgspec.UNSET)}
        strict = _message_type(spec, self._names, cells, types)
        self.parse_piece = self.parse_texts = msgspec.json.Decoder(strict).decode
        if not some_states:  # else a text may be another number than the one that it shows
            types |= dict.fromkeys(("asset", "ts", "sensor"), (Any, None))
            lax = _message_type(spec, self._names, cells, types)
            self.parse_texts = msgspec.json.Decoder(lax, strict=False).decode

    def parse_any(self, value: bytes) -> tuple[Any, bool]:
        """The message, and whether it was strict JSON, so that all its numbers are finite.

        Raises:
            RejectedError: the bytes are no JSON object.
        """
        try:
            if not value.isascii():
                value.decode()  # msgspec does not look inside the strings that it skips
            try:
                return self.parse_cells(value), True
            except msgspec.ValidationError:
                return self.parse(value), True
        except (ValueError, RecursionError):
            return self.parse_leniently(value), False

    def parse_leniently(self, value: bytes) -> Any:
        """The message by Python's ``json``: the same fields, of any types.

        Raises:
            RejectedError: the bytes are no JSON object.
        """
        content = lenient_json(value)
        if not isinstance(content, dict):
            raise RejectedError(Reason.NOT_AN_OBJECT, f"{json_kind(content)}, not an object")
        return self._message(
            **{field: content[name] for field, name in self._names.items() if name in content}
        )


def _field_names(spec: StreamSpec) -> dict[str, str]:
    """The struct's fields with their names in a message; those of the record itself left out."""
    try:
        names = spec.fields.used(spec.format, bool(spec.message_condition))
    except ValueError as error:
        raise ConfigError(f"stream {spec.name}: {error}") from error
    return {"ts" if field == "timestamp" else field: name for field, name in names.items()}


def _cells_type(sensors: Sequence[str], kinds: Sequence[Any] = (), missing: float | None = None) -> Any:
    """A struct with one field per sensor, of these kinds; other sensors are an error.

    The type itself is None where a sensor has a name that msgspec cannot look for.
    """
    fields = [f"s{i}" for i in range(len(sensors))]
    try:
        return msgspec.defstruct(
            "Cells",
            [
                (field, kind, missing)
                for field, kind in zip(fields, kinds or [float | None] * len(fields), strict=True)
            ],
            rename=dict(zip(fields, sensors, strict=True)),
            forbid_unknown_fields=True,
            gc=False,
            module=__name__,
        )
    except ValueError:
        return None


def _message_type(
    spec: StreamSpec, names: Mapping[str, str], cells: Any, other: Mapping[str, tuple[Any, Any]] = NO_OTHER
) -> Any:
    """The struct that one message of the stream decodes into.

    Args:
        spec: the stream.
        names: of the fields in a message.
        cells: the type of a wide message's values.
        other: types and defaults of fields in place of the usual ones.
    """
    types: dict[str, tuple[Any, Any]] = {
        "asset": (str | int | None, None),
        "ts": (str | int | float | None, None),
        "values": (cells | None, None),
        "sensor": (str | int | None, None),
        "value": (float | None | msgspec.UnsetType, msgspec.UNSET),
        "condition": (Any, None),
        **other,
    }
    return msgspec.defstruct(
        "Message",
        [(field, *types[field]) for field in names],
        rename=dict(names),
        gc=False,
        module=__name__,
    )
