"""The files that the options of a decoder name: read with the configuration, so that a stream carries their content.

A stream is sent to the process that trains, and decodes in several places; none of them reads files again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from daemon.documents import DocumentError, read_file, shown
from daemon.mapping import DecodeRule, InputMapping

FILES = {"avro": ("schema", "schemas"), "protobuf": ("descriptor", "schemas")}
"""The options that name a file, or a table of ids and files, by decoder."""


def with_schema_files(mapping: InputMapping) -> InputMapping:
    """The mapping with what the files of its decoders hold.

    Raises:
        ValueError: a file cannot be read; the message names option and file.
    """
    inner = tuple(replace(rule, decode=_filled(rule.decode)) for rule in mapping.inner)
    return replace(mapping, decode=_filled(mapping.decode), inner=inner)


def _filled(rule: DecodeRule) -> DecodeRule:
    options = dict(rule.options)
    for name in FILES.get(rule.kind, ()):
        given = options.get(name)
        if isinstance(given, Mapping):
            options[name] = {id: _content(f"{name} {id}", path) for id, path in given.items()}
        elif given is not None:
            options[name] = _content(name, given)
    return rule if options == rule.options else replace(rule, options=options)


def _content(option: str, path: Any) -> bytes:
    if isinstance(path, bytes):
        return path  # read already
    if not isinstance(path, str) or not path:
        raise ValueError(f"decode: {option} {shown(path)} is no name of a file")
    try:
        return read_file(Path(path))
    except DocumentError as error:
        raise ValueError(f"decode: {option} {path} {error}") from error
