"""What a place of the messages may be, by its name (``field_names``) and by what lies there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from daemon.adapters.field_names import Role, bare, named
from daemon.adapters.sample.facts import MANY_STATES
from daemon.adapters.sample.places import Way, are_blocks, are_texts, are_times, present, time_of
from daemon.adapters.sample.survey import path_text
from daemon.domain import RECORD_KEY, RECORD_TIMESTAMP
from daemon.stream.decode.json_text import json_tree
from daemon.stream.rejection import RejectedError
from daemon.stream.timestamps import is_epoch_number

BOOKKEEPING: Final = frozenset(
    {
        *(
            "seq",
            "seqno",
            "seqnr",
            "sequence",
            "sequencenumber",
            "sequenceid",
            "messageid",
            "msgid",
            "messagenumber",
        ),
        *(
            "version",
            "schemaversion",
            "qos",
            "alias",
            "offset",
            "interval",
            "partition",
            "fport",
            "fcnt",
            "retain",
            "id",
            "uid",
        ),
        *("quality", "q", "qc", "qualitycode", "statuscode", "opcquality"),
    }
)
"""Names of numbers that measure nothing."""
RATES: Final = frozenset(
    {"fs", "rate", "samplerate", "samplingrate", "samplefrequency", "samplingfrequency", "frequency", "hz"}
)
NUMBERED: Final = frozenset(
    {
        *("addr", "address", "reg", "register", "registeraddress", "index", "idx", "channel", "ch", "chan"),
        *("id", "no", "nr", "number", "num", "tagid", "sensorid", "pointid", "port", "input", "slot"),
    }
)
"""Names of whole numbers that may tell the readings of a message apart."""
_GENERIC_TAILS: Final = frozenset(
    {"state", "status", "value", "val", "data", "get", "json", "raw", "reading", "telemetry", "cv", "pv"}
)
"""Ends of ids that name no quantity: ``pump7/temperature/state``."""
_SEPARATORS: Final = ("/", ".", ":", "|", "#", "_", "-")
_CERTAIN_SEPARATORS: Final = frozenset("/.:|#")


UNITS_AND_QUALITY: Final = frozenset(
    {
        *("unit", "units", "uom", "unitofmeasurement", "engineeringunit", "u"),
        *("quality", "q", "qc", "status", "state"),
    }
)


def source_text(up: int, way: Way) -> str:
    return "^" * up + ("." if up else "") + path_text(way)


def field_of(document: Any) -> str | None:
    """The name of a top-level field that a source names, as json-wide and json-long write it; None if it is none."""
    if document in (RECORD_KEY, RECORD_TIMESTAMP):
        return str(document)
    if type(document) is not str or document[:1] in ("$", "^", '"') or "." in document:
        return None
    return document


def listed(document: Any) -> list[Any]:
    return list(document) if isinstance(document, list) else [document]


def hashable(value: Any) -> Any:
    return str(value) if type(value) in (dict, list) else value


def ranked(level: Iterable[Way], role: Role) -> list[Way]:
    """The places whose last name is called as the role is: less deep ones first, then the likelier names."""
    order = {name: i for i, name in enumerate(named({way[-1]: None for way in level}, role))}
    return sorted((way for way in level if way[-1] in order), key=lambda way: (len(way), order[way[-1]], way))


def may_be_times(values: Sequence[Any]) -> bool:
    there = present(values)
    return bool(there) and 2 * sum(time_of(value) is not None for value in there) > len(there)


def look_like_times(way: Way, values: Sequence[Any]) -> bool:
    """Whether a place without the name of a time holds times: texts of dates, or numbers with the digits of an epoch."""
    there = present(values)
    if not are_times(there):
        return False
    if all(type(value) is str for value in there):
        return all(  # 1.2.10 is a version and no date
            ":" in value or value[4:5] == "-" or is_epoch_number(value) for value in there
        )
    if any(type(value) is list for value in there):
        return True
    return len(set(there)) > 1 or len(there) == 1


def are_names(values: Sequence[Any]) -> bool:
    there = present(values)
    return are_texts(values) and 2 * sum(type(value) is str for value in there) > len(there)


def are_flags(values: Sequence[Any]) -> bool:
    """Whether these are all true or false: beside a value, marks of it."""
    return all(type(value) is bool for value in present(values))


def are_states(values: Sequence[Any]) -> bool:
    """Whether these are a few texts that come again: they can be taken in as numbers."""
    there = present(values)
    texts = {value for value in there if type(value) is str}
    return 1 < len(texts) <= MANY_STATES < len(there) and not are_times(there)


def measures(way: Way, values: Sequence[Any]) -> bool:
    """Whether numbers are measurements, and neither bookkeeping nor the number of a device."""
    name = bare(way[-1])
    if name in BOOKKEEPING or are_blocks(values):
        return False
    whole = all(type(value) is int or (type(value) is str and value.isdigit()) for value in present(values))
    return not (whole and bool(named([way[-1]], Role.ASSET)) and name.endswith(("id", "number", "serial")))


def is_bookkeeping(name: str) -> bool:
    """Whether a sensor (its last name, of ``a.b.c``) is called as what measures nothing is."""
    return bare(name.rpartition(".")[2]) in BOOKKEEPING


def come_again(values: Sequence[Any]) -> bool:
    return len(values) < 10 or 2 * len(set(values)) <= len(values)


def counted(values: Sequence[Any]) -> str:
    distinct = list(dict.fromkeys(map(str, present(values))))
    some = ", ".join(name[:24] for name in distinct[:3])
    return f"{len(distinct)}: {some}" + (" ..." if len(distinct) > 3 else "")


def common_way(ways: Sequence[Way]) -> Way:
    """The names that all places begin with, the last name of each left out."""
    common = ways[0][:-1]
    for way in ways:
        while way[: len(common)] != common or len(common) >= len(way):
            common = common[:-1]
    return common


def text_of(found: bytes | None) -> str:
    try:
        return "" if found is None else found.decode()
    except UnicodeDecodeError:
        return ""


def split_ids(ids: Sequence[Any]) -> tuple[str, list[str], str] | None:
    """How ids part into an asset and a sensor: the separator at whose last place, the ids, and what comes after both.

    They do if every id has it and the assets times the sensors are not many more than the ids; a dash or an
    underscore must part several assets with the same sensors, for names have these too. What all ids end with and
    what names no quantity (``/state``) comes after the sensor. None if they do not part.
    """
    texts = list(dict.fromkeys(map(str, ids)))
    for separator in _SEPARATORS:
        tail = _common_tail(texts, separator)
        parts = [text.removesuffix(tail).rpartition(separator) for text in texts]
        if not parts or not all(head and last for head, _, last in parts):
            continue
        heads, lasts = {head for head, _, _ in parts}, {last for _, _, last in parts}
        filled = len(texts) / (len(heads) * len(lasts))
        if separator in _CERTAIN_SEPARATORS:
            if filled >= 0.5:
                return separator, texts, tail
        elif len(heads) > 1 and len(lasts) > 1 and filled == 1.0:
            return separator, texts, tail
    return None


def _common_tail(texts: Sequence[str], separator: str) -> str:
    """The end that all of several ids have after this separator, where it names no quantity and a sensor is before it."""
    ends = {text.rpartition(separator)[2] for text in texts}
    if len(texts) < 2 or len(ends) != 1 or bare(next(iter(ends))) not in _GENERIC_TAILS:
        return ""
    tail = separator + ends.pop()
    return tail if all(separator in text.removesuffix(tail) for text in texts) else ""


def opened(value: Any) -> Any:
    if type(value) is not str or value.lstrip()[:1] not in ("{", "["):
        return None
    try:
        tree = json_tree(value.encode(errors="surrogatepass"))
    except RejectedError:
        return None
    return tree if type(tree) in (dict, list) else None
