"""Several JSON texts in one record: one a line (NDJSON), or one after the other. Their tree is an array.

A line that cannot be decoded is refused alone.
"""

from __future__ import annotations

import json
from typing import Any

from daemon.stream.decode.arrival import Arrival, Parts
from daemon.stream.decode.json_text import json_tree, lenient_json
from daemon.stream.rejection import RejectedError

_SPACE = " \t\r\n\x1e"
"""Between two texts; the last one is RFC 7464's."""


def json_lines(value: bytes, arrival: Arrival) -> list[Any]:
    """The trees of a record's JSON texts.

    Where a line is no JSON, several texts may be in a line, or one over several lines.

    Raises:
        RejectedError: there is none.
    """
    parts = Parts()
    try:
        for number, line in enumerate(value.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
            line = line.strip(b" \t\x1e")
            if not line:
                continue
            try:
                parts.found.append(json_tree(line))
            except RejectedError as error:
                parts.refuse(f"line {number}", error)
        if not parts.refused:
            return parts.taken(arrival)
    except RejectedError:
        parts.found.clear()  # too many
    return _one_after_the_other(value) or parts.taken(arrival)


def _one_after_the_other(value: bytes) -> list[Any]:
    """The trees of JSON texts, however they are apart; none where one of them is wrong."""
    try:
        text = value.decode("utf-8-sig")
    except UnicodeDecodeError:
        return []
    decoder, at, found = json.JSONDecoder(), 0, []
    while text[at:].lstrip(_SPACE):
        while text[at] in _SPACE:
            at += 1
        try:
            _, end = decoder.raw_decode(text, at)
            found.append(lenient_json(text[at:end].encode(errors="surrogatepass")))
        except (ValueError, RecursionError, RejectedError):
            return []
        at = end
    return found
