"""A ``.json`` file that is one document and not a record per line: its records.

People export arrays of objects (``[{...}, {...}]``), wrap them (``{"data": [...]}``), and print objects over several
lines. In: the file's content. Out: its records as bytes, or None where each line is a record of its own. A SenML
pack is an array of which the first elements are about all others, so it stays one record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from daemon.adapters.field_names import Role, named
from daemon.errors import InputError

_WRAPPERS: Final = frozenset(
    {
        *(
            "data",
            "result",
            "results",
            "record",
            "records",
            "row",
            "rows",
            "item",
            "items",
            "entries",
            "list",
        ),
        *("feeds", "readings", "observations", "samples", "points", "series", "events"),
    }
)
"""Names, in lower case, under which exports keep their array of records."""
_SENML: Final = frozenset(
    {"bn", "bt", "bu", "bv", "bs", "bver", "n", "u", "v", "vs", "vb", "vd", "s", "t", "ut"}
)
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def document_records(path: Path, content: bytes) -> list[bytes] | None:
    """The records of a file that is one JSON document (or several, over lines of their own).

    Returns:
        None where the lines of the file are its records.

    Raises:
        InputError: it begins as a document and is none.
    """
    text = content.removeprefix(b"\xef\xbb\xbf").strip()
    first, _, rest = text.partition(b"\n")
    if text[:1] not in (b"[", b"{") or (rest and _is_json(first)):
        return None
    try:
        if text[:1] == b"[":
            return _elements(_ARRAY.decode(text), text)
        fields = _OBJECT.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        found = list(_one_after_another(text))
        if found:
            return found
        if not rest:
            return None  # a single line, which the decoder of the stream refuses with its reason
        raise InputError(f"{path}: not a readable JSON file: {' '.join(str(error).split())[:200]}") from None
    for name, raw in fields.items():
        if name.lower() in _WRAPPERS and not named(fields, Role.TIME) and bytes(raw).lstrip()[:1] == b"[":
            elements = _elements(_ARRAY.decode(raw), b"")
            if len(elements) > 1:
                return elements
    return [text]


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _elements(elements: list[msgspec.Raw], whole: bytes) -> list[bytes]:
    """The elements of an array as records, if they are objects; else the array itself."""
    texts = [bytes(element).strip() for element in elements]
    if not texts or texts[0][:1] != b"{":
        return [whole] if whole else []
    keys = _OBJECT.decode(texts[0]).keys()
    if keys <= _SENML and keys & {"n", "bn"}:
        return [whole] if whole else []
    return texts


def _one_after_another(text: bytes) -> Iterator[bytes]:
    """Objects that stand one below the other, each over several lines; nothing where one of them is damaged."""
    decoder = json.JSONDecoder()
    left = text.decode(errors="replace")
    found: list[bytes] = []
    at = 0
    while at < len(left):
        try:
            _, end = decoder.raw_decode(left, at)
        except (ValueError, RecursionError):
            return
        found.append(left[at:end].encode())
        at = end
        while at < len(left) and left[at] in " \t\r\n,":
            at += 1
    yield from found
