"""Stable identifiers: the same cause gives the same text in every process and after every restart.

Ids of alert messages and the layout of state records are digests of what they depend on, so that a
message that is published twice carries one id, and a record that was written for another stream is
recognised. Input: any values with a stable ``str``; output: the first characters of a SHA-256.
"""

from __future__ import annotations

import hashlib


def digest(*parts: object, size: int) -> str:
    """The first ``size`` hexadecimal digits of the SHA-256 of the parts' texts."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()[:size]
