"""How a mapping is written: the ``input:`` of a stream, from what YAML gives to the values of ``daemon.mapping``.

A mapping is a document with a fixed set of keys (``KEYS``), each parsed by one function here. Every problem is
a ``ValueError`` that names the key, quotes the text and says what would be right: people write mappings by
trying, and the message is what teaches them.

Paths: ``a.b`` (fields), ``a."b.c"`` (a field whose name has dots, spaces or any other sign), ``a[0]``, ``a[-1]``,
``a[key=text]`` (the first element whose field has that text), ``.`` (the item itself), ``^.a`` (in the item that
contains this one), ``a[$name]`` (the field that is called as the sensor at hand, also ``[$name_qc]``); in ``each`` also ``a[]`` (every
element) and ``a.*`` (every value, its key is ``$name``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from daemon.config.rename_table import Renamed, read_rename_table
from daemon.documents import shown
from daemon.mapping import (
    Assembly,
    Bound,
    DecodeRule,
    Elements,
    Index,
    InnerRule,
    InputMapping,
    Key,
    LeavesRule,
    Members,
    Origin,
    Path,
    PathStep,
    QualityRule,
    SkipRule,
    Source,
    Sources,
    Table,
    TimeRule,
    WaveRule,
    Where,
    Zip,
)

DECODERS = (
    "json",
    "json-lines",
    "influx",
    "csv",
    "text",
    "msgpack",
    "cbor",
    "senml",
    "avro",
    "protobuf",
    "json-schema",
    "sparkplug",
    "sparkplug-json",
)
WRAPPERS = ("base64", "gzip", "zlib", "confluent")
UNITS = ("auto", "s", "ms", "us", "ns")
CODES = ("opc-ua", "opc-da", "sparkplug")
REDUCTIONS = ("rms", "peak", "kurtosis", "mean", "min", "max", "std", "crest")
SHAPES = ("sensor", "fields", "leaves")
"""The keys of which a mapping has one: how an item holds its readings."""

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PART = re.compile(
    rf"""(?P<quoted>{_QUOTED})
       | (?P<elements>\[\])
       | \[(?P<before>[^\[\]="$]*)(?P<bound>\$name)(?P<behind>[^\[\]="$]*)\]
       | \[(?P<index>-?[0-9]{{1,9}})\]
       | \[(?P<key>{_QUOTED}|[^\[\]="]+)=(?P<value>{_QUOTED}|[^\[\]"]*)\]
       | (?P<members>\*)(?=[.\[]|$)
       | (?P<plain>[^.\[\]"*^]+)""",
    re.VERBOSE,
)


def parse_path(text: Any, *, exploding: bool = False) -> Path:
    """A path; see the module.

    Args:
        text: as it is written; a whole number is the name of a field.
        exploding: whether ``[]`` and ``*`` may stand in it.
    """
    if type(text) is int:
        text = str(text)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{shown(text)} is not a path: write the names of fields with dots, as tags.host")
    rest, up = text.strip(), 0
    while rest.startswith("^"):
        up += 1
        rest = rest[1:].removeprefix(".")
    if rest in (".", ""):
        return Path(text, (), up)
    steps: list[PathStep] = []
    at = 0
    while at < len(rest):
        if rest[at] == ".":
            at += 1
            if at == 1 or at == len(rest) or rest[at] in ".[":
                raise ValueError(f"{shown(text)} is not a path: there is no name beside the dot")
        elif steps and rest[at] != "[":
            raise ValueError(f"{shown(text)} is not a path: {shown(rest[at:])} does not follow a dot")
        part = _PART.match(rest, at)
        if part is None:
            raise ValueError(
                f"{shown(text)} is not a path at {shown(rest[at:])}: put a name with other signs in double quotes"
            )
        at = part.end()
        steps.append(_step(part))
        if not exploding and isinstance(steps[-1], Elements | Members):
            raise ValueError(f"{shown(text)}: [] and * stand in `each` alone")
    return Path(text, tuple(steps), up)


def _step(part: re.Match[str]) -> PathStep:
    if part["elements"] is not None:
        return Elements()
    if part["members"] is not None:
        return Members()
    if part["bound"] is not None:
        return Bound(part["before"], part["behind"])
    if part["index"] is not None:
        return Index(int(part["index"]))
    if part["key"] is not None:
        return Where(_unquoted(part["key"].strip()), _unquoted(part["value"].strip()))
    return Key(_unquoted(part["quoted"]) if part["quoted"] is not None else part["plain"].strip())


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


ALIASES = {"sensor": ("channel", "tag", "metric", "name"), "asset": ("device", "machine")}
"""What a group of an expression may be called besides its target."""


def parse_source(given: Any, target: str) -> Source:
    """One place that a value may come from.

    A text is a path, or begins with ``$``: ``$key``, ``$key.field``, ``$timestamp``, ``$topic``, ``$header:NAME``,
    ``$name``, ``^.$name``. A mapping is ``{from: ..., match: expression}``, ``{constant: text}`` or
    ``{join: [...], with: text}``.

    Args:
        given: what is written.
        target: what it is for: an expression may have a group of this name.
    """
    if isinstance(given, Mapping):
        return _source_of_mapping(given, target)
    if type(given) is int:
        given = str(given)
    if not isinstance(given, str) or not given:
        raise ValueError(
            f"{shown(given)} is no place in a message: write a path, or $key, $topic, $header:NAME"
            + (" (YAML reads no, yes, on and off as booleans: quote them)" if isinstance(given, bool) else "")
        )
    outer = re.fullmatch(r"((?:\^\.?)*)\$name", given)
    if outer is not None:
        return Source(Origin.NAME, given, up=outer[1].count("^"))
    if not given.startswith("$"):
        return Source(Origin.PATH, given, parse_path(given))
    if given in ("$key", "$timestamp", "$topic"):
        return Source(Origin(given), given)
    if given.startswith("$key."):
        return Source(Origin.KEY, given, parse_path(given.removeprefix("$key.")))
    if given.startswith("$header:") and len(given) > len("$header:"):
        return Source(Origin.HEADER, given, name=given.removeprefix("$header:"))
    raise ValueError(
        f"{shown(given)} is none of $key, $key.FIELD, $timestamp, $topic, $header:NAME and $name;"
        " a field whose name begins with $ goes in double quotes"
    )


def _source_of_mapping(given: Mapping[Any, Any], target: str) -> Source:
    if set(given) == {"constant"} and isinstance(given["constant"], str | int):
        return Source(Origin.CONSTANT, f"constant {given['constant']}", name=str(given["constant"]))
    if set(given) <= {"join", "with"} and isinstance(given.get("join"), list):
        parts = tuple(parse_source(part, target) for part in given["join"])
        separator = str(given.get("with", "/"))
        return Source(Origin.JOIN, separator.join(p.text for p in parts), name=separator, parts=parts)
    if set(given) == {"from", "match"} and isinstance(given["match"], str):
        inner = parse_source(given["from"], target)
        try:
            match = re.compile(re.sub(r"\(\?<(?![=!])", "(?P<", given["match"]))
        except re.error as error:
            raise ValueError(f"match {shown(given['match'])} is no regular expression: {error}") from error
        group = _group(match, target)
        return Source(inner.origin, inner.text, inner.path, inner.name, inner.up, match, group, inner.parts)
    raise ValueError(
        f"{shown(dict(given))} is none of {{from: ..., match: ...}}, {{constant: ...}} and {{join: [...], with: ...}}"
    )


def _group(match: re.Pattern[str], target: str) -> int | str:
    """The group of an expression that is the value: of the target's name, else the only one, else all."""
    named = [name for name in (target, *ALIASES.get(target, ())) if name in match.groupindex]
    if named:
        return named[0]
    if match.groups > 1:
        raise ValueError(
            f"match {shown(match.pattern)} has {match.groups} groups: name the one that counts (?<{target}>...)"
        )
    return match.groups


def parse_sources(given: Any, target: str) -> Sources:
    """One place, or a list of fallbacks in order."""
    if isinstance(given, list | tuple):
        if not given:
            raise ValueError("an empty list names no place")
        return tuple(parse_source(each, target) for each in given)
    return (parse_source(given, target),)


def _paths(given: Any) -> tuple[Path, ...]:
    return tuple(map(parse_path, given if isinstance(given, list | tuple) else [given]))


def parse_each(given: Any) -> tuple[Path, ...]:
    """The paths of ``each``: where items are, fallbacks in order."""
    listed = given if isinstance(given, list | tuple) else [given]
    paths = tuple(
        _table(each) if isinstance(each, Mapping) else parse_path(each, exploding=True) for each in listed
    )
    for path in paths:
        if path.up:
            raise ValueError(f"{shown(path.text)}: there is nothing around the message")
    return paths


def _table(given: Mapping[Any, Any]) -> Path:
    """Items that are rows: of arrays beside each other (``zip``), or of an array of arrays (``rows``)."""
    _known(given, ("under", "zip", "rows", "columns"))
    under = parse_path(given["under"], exploding=True).steps if "under" in given else ()
    if "zip" in given and not {"rows", "columns"} & set(given):
        columns = given["zip"]
        if columns == "*":
            columns = []
        if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
            raise ValueError(
                f"zip {shown(columns)}: write a list of the fields that hold the arrays, or '*' for all"
            )
        return Path(f"zip {', '.join(columns) or '*'}", (*under, Zip(tuple(columns))))
    if {"rows", "columns"} <= set(given) and "zip" not in given:
        columns = given["columns"]
        names = tuple(map(str, columns)) if isinstance(columns, list) else parse_path(columns).steps
        return Path(f"rows {given['rows']}", (*under, Table(parse_path(given["rows"]).steps, names)))
    raise ValueError(
        f"{shown(dict(given))}: write {{zip: [timestamps, values]}} or {{rows: PATH, columns: PATH}}"
    )


# ------------------------------------------------------------------ the keys
def _decode(given: Any) -> DecodeRule:
    if isinstance(given, str):
        given = {"kind": given}
    if not isinstance(given, Mapping):
        raise ValueError(f"{shown(given)} is no decoder: write one of {', '.join(DECODERS)}")
    kind = _one_of(given.get("kind", "json"), DECODERS)
    wrappers = given.get("unwrap", [])
    wrappers = _listed(wrappers, "unwrap")
    options = {str(key): value for key, value in given.items() if key not in ("kind", "unwrap")}
    return DecodeRule(kind, tuple(_one_of(each, WRAPPERS) for each in wrappers), options)


def _inner(given: Any) -> tuple[InnerRule, ...]:
    listed = given if isinstance(given, list | tuple) else [given]
    rules = []
    for each in listed:
        if isinstance(each, Mapping):
            rest = {key: value for key, value in each.items() if key != "path"}
            rules.append(InnerRule(parse_path(each.get("path")), _decode({"kind": "json"} | rest)))
        else:
            rules.append(InnerRule(parse_path(each)))
    return tuple(rules)


def _skip(given: Any) -> tuple[SkipRule, ...]:
    rules = []
    for each in given if isinstance(given, list | tuple) else [given]:
        if each == "null_value":
            rules.append(SkipRule("null_value"))
            continue
        if not isinstance(each, Mapping) or len({"path", "item"} & set(each)) != 1:
            raise ValueError(
                f"{shown(each)} is no rule: write null_value, or {{path: ..., in: [...]}}, not_in, absent or present;"
                " item instead of path for what stands in the items of each"
            )
        _known(each, ("path", "item", "name", "in", "not_in", "absent", "present"))
        item = "item" in each
        source = parse_source(each["item" if item else "path"], "skip")
        name = str(each.get("name", source.text))
        rest = set(each) - {"path", "item", "name"}
        if rest in ({"in"}, {"not_in"}):
            (key,) = rest
            rules.append(SkipRule(name, source, item, _single_values(each[key]), negated=key == "not_in"))
        elif rest in ({"absent"}, {"present"}):
            rules.append(SkipRule(name, source, item, None, negated=rest == {"absent"}))
        else:
            raise ValueError(
                f"{shown(dict(each))}: give one of in, not_in, absent and present beside the path"
            )
    return tuple(rules)


def _time(given: Any) -> TimeRule:
    if not isinstance(given, Mapping) or not set(given) & {"from", "seconds"} or "match" in given:
        return TimeRule(parse_sources(given, "time"))
    _known(given, ("from", "unit", "format", "seconds", "nanos", "plus", "plus_unit", "day_first"))
    if len({"from", "seconds"} & set(given)) > 1 or len({"nanos", "plus"} & set(given)) > 1:
        raise ValueError("from and seconds exclude each other, and so do nanos and plus")
    if "plus_unit" in given and not {"nanos", "plus"} & set(given):
        raise ValueError("plus_unit is the unit of plus: write plus too, or unit for the time's own")
    plus = given.get("nanos", given.get("plus"))
    return TimeRule(
        parse_sources(given.get("from", given.get("seconds")), "time"),
        _one_of(given.get("unit", "s" if "seconds" in given else "auto"), UNITS),
        _formats(given.get("format", [])),
        () if plus is None else parse_sources(plus, "time"),
        _one_of(given.get("plus_unit", "ns" if "nanos" in given else "ms"), UNITS[1:]),
        _yes_or_no(given["day_first"]) if "day_first" in given else None,
    )


def _formats(given: Any) -> tuple[str, ...]:
    listed = given if isinstance(given, list) else [given]
    for each in listed:
        if not isinstance(each, str):
            raise ValueError(f"format {shown(each)} is no text: write for example '%d.%m.%Y %H:%M:%S'")
        try:
            datetime.strptime("", each)  # noqa: DTZ007 -- only the format is looked at
        except ValueError as error:
            if "does not match" not in str(error):
                raise ValueError(f"format {shown(each)}: {error}") from error
    return tuple(listed)


def _fields(given: Any) -> dict[str, tuple[Path, ...]]:
    if not isinstance(given, Mapping) or not given:
        raise ValueError(f"{shown(given)} names no sensors: write SENSOR: path, one per line")
    return {str(name): _paths(paths) for name, paths in given.items()}


def _leaves(given: Any) -> LeavesRule:
    if not isinstance(given, Mapping):
        return LeavesRule(_paths(given))
    _known(given, ("under", "except", "separator", "prefix", "arrays"))
    left_out = given.get("except", [])
    return LeavesRule(
        _paths(given.get("under", ".")),
        tuple(map(str, _listed(left_out, "except"))),
        str(given.get("separator", ".")),
        parse_sources(given["prefix"], "prefix") if "prefix" in given else (),
        _yes_or_no(given.get("arrays", False)),
    )


def _wave(given: Any) -> WaveRule:
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{shown(given)}: write {{rate: path, reduce: [rms, peak, kurtosis]}} or {{..., explode: true}}"
        )
    _known(given, ("reduce", "rate", "step", "explode"))
    explode = "explode" in given and _yes_or_no(given["explode"])
    reduce = _listed(given.get("reduce", [] if explode else list(WaveRule().reduce)), "reduce")
    if not reduce and not {"rate", "step"} & set(given):
        raise ValueError("the samples of an array need a time each: give rate (a second) or step (seconds)")
    return WaveRule(
        tuple(_one_of(each, REDUCTIONS) for each in reduce),
        parse_sources(given["rate"], "rate") if "rate" in given else (),
        parse_sources(given["step"], "step") if "step" in given else (),
    )


def _quality(given: Any) -> QualityRule:
    if not isinstance(given, Mapping) or "from" not in given or "match" in given:
        return QualityRule(parse_sources(given, "quality"))
    _known(given, ("from", "code", "good", "bad", "uncertain"))
    code = given.get("code")
    if {"good", "bad"} & set(given):
        for key in {"code", "uncertain"} & set(given):
            raise ValueError(
                f"{key} beside good or bad would not be used: these lists alone say which values are good"
            )

    def words(key: str) -> frozenset[object]:
        return _single_values(given.get(key, []))

    return QualityRule(
        parse_sources(given["from"], "quality"),
        None if code is None else _one_of(code, CODES),
        words("good"),
        words("bad"),
        _one_of(given.get("uncertain", "keep"), ("keep", "drop")),
    )


def _single_values(given: Any) -> frozenset[object]:
    """Texts, numbers, booleans and null."""
    listed = given if isinstance(given, list | tuple) else [given]
    for each in listed:
        if isinstance(each, Mapping | list):
            raise ValueError(f"{shown(each)} is no single value")
    return frozenset(listed)


def _condition(given: Any) -> dict[str, Sources]:
    if not isinstance(given, Mapping):
        raise ValueError(f"{shown(given)}: write FIELD: place, one per line, for the fields of `condition`")
    return {str(name): parse_sources(place, str(name)) for name, place in given.items()}


def _rename(given: Any) -> Renamed:
    if isinstance(given, str):
        return read_rename_table(given)
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{shown(given)}: write OLD: NEW, one per line, OLD: {{asset: ..., sensor: ...}}, or the path of a CSV file"
        )
    table: Renamed = {}
    for old, new in given.items():
        if isinstance(new, Mapping):
            _known(new, ("asset", "sensor"))
            asset = new.get("asset")
            table[str(old)] = (None if asset is None else str(asset), str(new.get("sensor", old)))
        else:
            table[str(old)] = (None, str(new))
    return table


def _assembly(given: Any) -> Assembly:
    return Assembly(_one_of(given, tuple(Assembly)))


KEYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "decode": ("decode", _decode),
    "inner": ("inner", _inner),
    "skip": ("skip", _skip),
    "each": ("each", parse_each),
    "asset": ("asset", lambda given: parse_sources(given, "asset")),
    "time": ("time", _time),
    "sensor": ("sensor", lambda given: parse_sources(given, "sensor")),
    "value": ("value", _paths),
    "fields": ("fields", _fields),
    "leaves": ("leaves", _leaves),
    "wave": ("wave", _wave),
    "quality": ("quality", _quality),
    "unit": ("unit", lambda given: parse_sources(given, "unit")),
    "missing": ("missing", _single_values),
    "condition": ("condition", _condition),
    "rename": ("rename", _rename),
    "rows": ("assembly", _assembly),
}
"""The keys of a mapping: the field of ``InputMapping``, and what parses it."""


def parse_mapping(document: Mapping[str, Any], preset: str) -> InputMapping:
    """A whole mapping.

    Args:
        document: the preset with what the configuration puts over it (``over``).
        preset: its name.

    Raises:
        ValueError: with the key and the rule.
    """
    if "preset" in document or "format" in document:
        raise ValueError("the preset is the stream's `format`; `input` has the keys that go over it")
    _known(document, tuple(KEYS))
    found: dict[str, Any] = {}
    for key, given in document.items():
        if given is None:
            continue
        field, parse = KEYS[key]
        try:
            found[field] = parse(given)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
    shapes = [key for key in SHAPES if key in found]
    if len(shapes) != 1:
        raise ValueError(
            f"{' and '.join(shapes)} exclude each other"
            if shapes
            else "where are the values? Write `sensor` with"
            " `value` (one reading an item), `fields` (a path per sensor) or `leaves` (every number below a path)"
        )
    if "sensor" in found and "value" not in found:
        raise ValueError("sensor needs value: where the number is")
    if "value" in found and "sensor" not in found:
        raise ValueError(
            f"value goes with sensor, and the values are where {shapes[0]} says: write sensor too, or {shapes[0]}"
            " instead of value"
        )
    for key in ("asset", "time"):
        if key == "asset" and any(asset is not None for asset, _ in found.get("rename", {}).values()):
            continue
        if key not in found:
            raise ValueError(
                f"where is the {key}? Write `{key}:` with a path, or $key, $topic, $timestamp ..."
            )
    return InputMapping(preset, **found)


def over(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A preset with what the configuration puts over it: its keys replace those of the preset.

    Another shape (``SHAPES``) replaces the preset's.
    """
    merged = dict(base)
    if any(key in given for key in SHAPES):
        for key in (*SHAPES, "value"):
            merged.pop(key, None)
    return merged | dict(given)


def _known(given: Mapping[Any, Any], keys: Sequence[str]) -> None:
    for key in given:
        if key not in keys:
            close = get_close_matches(str(key), keys, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(keys)}"
            raise ValueError(f"unknown key {shown(key)}; {hint}")


def _one_of(given: Any, known: Sequence[str]) -> str:
    if given in known:
        return str(given)
    close = get_close_matches(str(given), known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{shown(given)} is none of {', '.join(known)}{hint}")


def _listed(given: Any, key: str) -> list[Any]:
    """A list of texts, or one text."""
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list) or not all(isinstance(each, str | int) for each in listed):
        raise ValueError(f"{key} {shown(given)}: write a text, or a list of texts")
    return listed


def _yes_or_no(given: Any) -> bool:
    if isinstance(given, bool):
        return given
    raise ValueError(f"{shown(given)} is neither true nor false")
