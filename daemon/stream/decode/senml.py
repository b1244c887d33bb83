"""SenML packs (RFC 8428) in JSON or CBOR, resolved: base fields stick, names, values and times are summed.

The tree is an array with an object per record that has a value::

    {"name": "urn:dev:ow:10e2:temperature", "asset": "urn:dev:ow:10e2", "sensor": "temperature",
     "unit": "Cel", "timestamp": 1764397200250000000, "value": 81.4}

``asset`` is the base name without the separator at its end, and ``sensor`` the name behind it; where a record has
one of the two alone, the name is split at its last colon or slash, and ``asset`` is absent where it has none.
``timestamp`` is in nanoseconds, to the microsecond; times below 2**28 seconds are relative to the record's own.
``value`` is a number, text, boolean, or data in base64; ``sum`` is the integrated value. A record that cannot
be used is refused alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from daemon.domain import Reason
from daemon.errors import ConfigError
from daemon.stream.decode.arrival import Arrival, Parts, TreeDecoder
from daemon.stream.decode.binary_json import cbor_decoder
from daemon.stream.decode.json_text import json_tree
from daemon.stream.rejection import RejectedError, json_kind, shown

RELATIVE_BELOW: Final = 1 << 28
"""Seconds: a time below is relative to now."""
_LABELS: Final[Mapping[str, str]] = {
    "-1": "bver",
    "-2": "bn",
    "-3": "bt",
    "-4": "bu",
    "-5": "bv",
    "-6": "bs",
    "0": "n",
    "1": "u",
    "2": "v",
    "3": "vs",
    "4": "vb",
    "5": "s",
    "6": "t",
    "7": "ut",
    "8": "vd",
}
"""The labels of CBOR, which are numbers there."""
_EXACT: Final = 1 << 53
_LATEST: Final = 1e10
"""Seconds: beyond the year 2262."""
_VALUES: Final = ("vs", "vb", "vd")
_SEPARATORS: Final = ":/"


def senml() -> TreeDecoder:
    """The decoder of packs; CBOR needs its library only when it comes."""
    cbor: list[Callable[[bytes], Any]] = []

    def decode(value: bytes, arrival: Arrival) -> list[dict[str, Any]]:
        """Raises RejectedError: it is no pack, or nothing of it can be used."""
        if value[:1] >= b"\x80" and value[:3] != b"\xef\xbb\xbf":
            if not cbor:
                try:
                    cbor.append(cbor_decoder())
                except ConfigError as error:
                    raise RejectedError(Reason.UNDECODABLE, str(error)) from None
            pack = cbor[0](value)
        else:
            pack = json_tree(value)
        if type(pack) is not list:
            raise RejectedError(Reason.UNDECODABLE, f"a SenML pack is an array, this is {json_kind(pack)}")
        return _resolve(pack, arrival)

    return decode


def _resolve(pack: list[Any], arrival: Arrival) -> list[dict[str, Any]]:
    base: dict[str, Any] = {}
    parts = Parts()
    for number, given in enumerate(pack):
        try:
            if type(given) is not dict:
                raise RejectedError(Reason.UNDECODABLE, f"it is {json_kind(given)}, not an object")
            record: dict[str, Any] = {_LABELS.get(key, key): value for key, value in given.items()}
            for key in record:
                if key.endswith("_"):
                    detail = f"field {shown(key)} must be understood, and is not"
                    raise RejectedError(Reason.UNDECODABLE, detail)
            base.update((key, record[key]) for key in ("bn", "bt", "bu", "bv", "bs") if key in record)
            resolved = _record(record, base, arrival)
        except RejectedError as error:
            parts.refuse(f"record {number}", error)
            continue
        if resolved is not None:
            parts.found.append(resolved)
    return parts.taken(arrival, may_be_none=True)


def _record(record: dict[str, Any], base: dict[str, Any], arrival: Arrival) -> dict[str, Any] | None:
    """The resolved record; None for one that has base fields alone."""
    value = next((record[key] for key in _VALUES if key in record), None)
    if "v" in record or (value is None and "n" in record and "bv" in base and "s" not in record):
        value = _number(record, "v") + _number(base, "bv")
    if value is None and "s" not in record:
        return None
    prefix, own = _text(base, "bn"), _text(record, "n")
    name = prefix + own
    if not name:
        raise RejectedError(Reason.NO_SENSOR, "neither it nor the pack has a name")
    resolved: dict[str, Any] = {"name": name, "value": value}
    if prefix and own:
        asset, sensor = prefix.rstrip(_SEPARATORS) or prefix, own
    else:
        ended = name.rstrip(_SEPARATORS)
        cut = max(map(ended.rfind, _SEPARATORS))
        asset, sensor = (ended[:cut], ended[cut + 1 :]) if cut > 0 else ("", name)
    resolved["sensor"] = sensor
    if asset:
        resolved["asset"] = asset
    if (unit := record.get("u", base.get("bu"))) is not None:
        resolved["unit"] = unit
    if "s" in record:
        resolved["sum"] = _number(record, "s") + _number(base, "bs")
    resolved["timestamp"] = _time_ns(_number(base, "bt") + _number(record, "t"), arrival)
    return resolved


def _time_ns(seconds: float, arrival: Arrival) -> int:
    if not abs(seconds) < _LATEST:
        raise RejectedError(Reason.BAD_TIMESTAMP, f"time {shown(seconds)} is none")
    now_ns = 0
    if seconds < RELATIVE_BELOW:
        now_ns = arrival.record.timestamp_ns
        if now_ns < 0:
            detail = f"time {seconds} is relative, and the record has no time of its own"
            raise RejectedError(Reason.NO_TIMESTAMP, detail)
    return now_ns + round(seconds * 1e6) * 1_000


def _number(found: dict[str, Any], key: str) -> float:
    value = found.get(key, 0)
    if type(value) not in (int, float):
        raise RejectedError(Reason.UNDECODABLE, f"{key} is {json_kind(value)}, not a number")
    try:
        return float(value) if abs(value) > _EXACT else value
    except OverflowError:
        raise RejectedError(Reason.UNDECODABLE, f"{key} is too large") from None


def _text(found: dict[str, Any], key: str) -> str:
    value = found.get(key, "")
    if type(value) is not str:
        raise RejectedError(Reason.UNDECODABLE, f"{key} is {json_kind(value)}, not a text")
    return value
