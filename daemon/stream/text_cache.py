"""A bounded cache by text: results for texts that usually come again with the next record.

The cache is a plain dict, which the decoder's hot path reads directly; only writing goes through here.
"""

from __future__ import annotations

from typing import Final, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=object)
LONGEST_TEXT: Final = 200
"""Characters of a text that is remembered; the results for longer ones are found each time."""


def remember(known: dict[K, T], text: K, value: T, most: int) -> None:
    """Keep the result for a text, or bytes, or a number; a full cache is emptied first, so that it stays small."""
    if len(known) >= most:
        known.clear()
    if not isinstance(text, str | bytes) or len(text) <= LONGEST_TEXT:
        known[text] = value
