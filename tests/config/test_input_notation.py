"""The mapping language as people write it: what the README shows, and what is wrong in words that help."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date
from pathlib import Path as FilePath
from typing import Any

import pytest

from daemon.config.input_notation import KEYS, over, parse_mapping, parse_path, parse_source
from daemon.documents import from_yaml
from daemon.mapping import Assembly, Bound, Elements, Index, Key, Members, Where
from tests.stream.mapped import Cell, read, stream

README = (FilePath(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
CHAPTER = README[README.index("## Your messages") : README.index("## What comes out")]
BLOCKS = re.findall(r"```yaml\n(.*?)```", CHAPTER, re.DOTALL)
T, NS = 1_772_352_000, 10**9  # 2026-03-01T08:00:00Z

EXAMPLES: list[tuple[Any, dict[str, Any], list[Cell]]] = [
    (
        {
            "site": "ulm",
            "at": "2026-03-01T08:00:00Z",
            "machines": [
                {
                    "id": 7,
                    "points": [
                        {"n": "force", "val": 4.5, "ok": True},
                        {"n": "stroke", "val": 0, "ok": False},
                    ],
                }
            ],
        },
        {},
        [("ulm-7", "force", T * NS, 4.5), ("ulm-7", "stroke", T * NS, None)],
    ),
    (
        [{"tag": "L1/saw-2/force", "v": "4,5", "ts": T * 1000 + 123}],
        {},
        [("L1/saw-2", "force", T * NS + 123 * 10**6, 4.5)],
    ),
    (
        {"saw-2": {str(T): {"force": 4.5, "axis": {"x": 0.2}}}},
        {},
        [("saw-2", "force", T * NS, 4.5), ("saw-2", "axis.x", T * NS, 0.2)],
    ),
    (
        {
            "dev": "saw-2",
            "start": "2026-03-01T08:00:00Z",
            "ms": [0, 20],
            "force": [4.5, 4.6],
            "force_qc": [0, 1],
        },
        {},
        [("saw-2", "force", T * NS, 4.5), ("saw-2", "force", T * NS + 20 * 10**6, None)],
    ),
    (
        b"4.5",
        {"topic": "plant.saw-2.force", "headers": [("measured", b"2026-03-01T08:00:00Z")]},
        [("saw-2", "force", T * NS, 4.5)],
    ),
]


@pytest.mark.parametrize("at", range(len(EXAMPLES)))
def test_the_examples_of_the_readme_read_their_messages(at: int) -> None:
    message, record, expected = EXAMPLES[at]
    sensors = list(dict.fromkeys(cell[1] for cell in expected))
    mapping = from_yaml(BLOCKS[len(BLOCKS) - len(EXAMPLES) + at])
    assert read(stream(sensors, mapping), message, **record) == expected


def test_the_readme_shows_every_key_and_each_of_its_lines_can_be_read() -> None:
    block = next(block for block in BLOCKS if block.startswith("input:"))
    document = from_yaml(block)["input"]
    parse_mapping(document, "custom")
    alternatives = re.findall(r"^  # (\w+: .*?)(?:  +#.*)?$", block, re.MULTILINE)
    assert len(alternatives) >= 8
    for line in alternatives:
        parse_mapping(over(document, from_yaml(line)), "custom")
    shown = set(document) | {line.partition(":")[0] for line in alternatives}
    assert set(KEYS) <= shown


def test_paths_have_names_elements_conditions_and_levels() -> None:
    assert parse_path('a."b.c d"[0][-1]').steps == (Key("a"), Key("b.c d"), Index(0), Index(-1))
    assert parse_path("a[key=asset.id].v").steps == (Key("a"), Where("key", "asset.id"), Key("v"))
    assert parse_path('["k 1"="x]y"]').steps == (Where("k 1", "x]y"),)
    assert parse_path("^^.a").up == 2
    assert parse_path("^").steps == ()
    assert parse_path(".").steps == ()
    assert parse_path("a[$name][$name_qc].v").steps == (Key("a"), Bound(), Bound("", "_qc"), Key("v"))
    assert parse_path("a[].*", exploding=True).steps == (Key("a"), Elements(), Members())
    assert parse_path('"@iot.id"').steps == (Key("@iot.id"),)
    assert parse_path('"a\\"b"').steps == (Key('a"b'),)
    assert parse_path("größe").steps == (Key("größe"),)
    assert parse_path('""').steps == (Key(""),)
    assert parse_path(7).steps == (Key("7"),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a path: write the names of fields with dots"),
        (None, "is not a path"),
        ("a..b", "no name beside the dot"),
        ("a.", "no name beside the dot"),
        (".a", "no name beside the dot"),
        ('a"b"', "does not follow a dot"),
        ("a[x]", "put a name with other signs in double quotes"),
        ('a."b', "put a name with other signs in double quotes"),
        ("a[]", "[] and * stand in `each` alone"),
        ("a.*", "[] and * stand in `each` alone"),
    ],
)
def test_what_is_no_path_is_said(text: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_path(text)


def test_the_group_of_an_expression_is_the_one_that_is_meant() -> None:
    both = "^(?<asset>.+)[.](?<channel>[^.]+)$"
    assert parse_source({"from": "id", "match": both}, "asset").group == "asset"
    assert parse_source({"from": "id", "match": both}, "sensor").group == "channel"
    assert parse_source({"from": "id", "match": "(a)b"}, "asset").group == 1
    assert parse_source({"from": "id", "match": "ab"}, "asset").group == 0
    with pytest.raises(ValueError, match=r"has 2 groups: name the one that counts \(\?<asset>"):
        parse_source({"from": "id", "match": "(a)(b)"}, "asset")


BASE: dict[str, Any] = {"asset": "id", "time": "ts", "leaves": "."}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"aset": "id"}, "unknown key 'aset'; did you mean 'asset'?"),
        ({"fields": {"a": "b"}}, "fields and leaves exclude each other"),
        ({"leaves": None}, "where are the values?"),
        ({"leaves": None, "sensor": "n"}, "sensor needs value"),
        ({"value": "v"}, "value goes with sensor, and the values are where leaves says"),
        ({"time": {"from": "t", "plus_unit": "ns"}}, "time: plus_unit is the unit of plus"),
        ({"quality": {"from": "q", "code": "opc-ua", "good": [0]}}, "quality: code beside good or bad"),
        ({"quality": {"from": "q", "uncertain": "drop", "bad": [0]}}, "uncertain beside good or bad"),
        ({"asset": None}, "where is the asset?"),
        ({"time": None}, "where is the time?"),
        ({"asset": []}, "asset: an empty list names no place"),
        ({"asset": "$kee"}, "asset: '$kee' is none of $key"),
        ({"asset": {"form": "a"}}, "is none of {from: ..., match: ...}"),
        ({"asset": {"from": "a", "match": "("}}, "is no regular expression"),
        ({"time": {"from": "t", "unit": "hours"}}, "time: 'hours' is none of auto, s, ms, us, ns"),
        ({"time": {"from": "t", "uint": "s"}}, "time: unknown key 'uint'; did you mean 'unit'?"),
        ({"time": {"from": "t", "format": "%Q"}}, "time: format '%Q': 'Q' is a bad directive"),
        ({"time": {"from": "t", "format": 3}}, "is no text"),
        ({"time": {"from": "t", "seconds": "s"}}, "exclude each other"),
        ({"time": {"from": "t", "day_first": "yes"}}, "'yes' is neither true nor false"),
        ({"each": "^.a[]"}, "there is nothing around the message"),
        ({"each": {"zip": 3}}, "write a list of the fields that hold the arrays"),
        ({"each": {"rows": "a"}}, "write {zip: [timestamps, values]} or {rows: PATH, columns: PATH}"),
        ({"skip": ["null"]}, "skip: 'null' is no rule"),
        ({"skip": [{"path": "a"}]}, "give one of in, not_in, absent and present"),
        ({"skip": [{"path": "a", "in": [[1]]}]}, "is no single value"),
        ({"missing": [{}]}, "missing: {} is no single value"),
        ({"quality": {"from": "q", "uncertain": "no"}}, "'no' is none of keep, drop"),
        ({"quality": {"from": "q", "code": "opcua"}}, "did you mean 'opc-ua'?"),
        ({"wave": {"reduce": ["rsm"]}}, "did you mean 'rms'?"),
        ({"wave": True}, "write {rate: path"),
        ({"wave": {"explode": True}}, "wave: the samples of an array need a time each: give rate"),
        ({"wave": {"reduce": []}}, "give rate (a second) or step (seconds)"),
        ({"wave": {"explode": "yes", "rate": "r"}}, "'yes' is neither true nor false"),
        ({"wave": {"reduce": 5}}, "wave: reduce 5: write a text, or a list of texts"),
        ({"leaves": {"except": 5}}, "leaves: except 5: write a text, or a list of texts"),
        ({"preset": "telegraf"}, "the preset is the stream's `format`"),
        ({"format": "telegraf"}, "the preset is the stream's `format`"),
        ({"decode": {"unwrap": 5}}, "decode: unwrap 5: write a text, or a list of texts"),
        ({"decode": "jsn"}, "did you mean 'json'?"),
        ({"decode": 3}, "is no decoder"),
        ({"decode": {"kind": "json", "unwrap": "zip"}}, "is none of base64"),
        ({"condition": "mode"}, "write FIELD: place"),
        ({"rename": 3}, "write OLD: NEW"),
        ({"rename": {"a": {"aset": "b"}}}, "did you mean 'asset'?"),
        ({"rows": "all"}, "rows: 'all' is none of whole, gather"),
    ],
)
def test_what_is_wrong_with_a_mapping_is_said(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_mapping(BASE | change, "custom")


WORDS = (
    " ".join(KEYS)
    + " from match constant join with kind unwrap path item in absent unit format seconds nanos plus plus_unit day_first"
    " under except separator prefix arrays reduce rate step explode code good bad uncertain zip rows columns"
).split()
OF_ALL_TYPES = (
    None,
    True,
    5,
    1.5,
    "",
    "a",
    "json",
    date(2026, 3, 1),
    b"x",
    [],
    {},
    [5],
    [[]],
    [{}],
    {5: []},
    {"a": {}},
)


@pytest.mark.parametrize("key", KEYS)
def test_a_mapping_of_any_types_is_read_or_refused(key: str) -> None:
    beside: tuple[dict[str, Any], ...] = (
        {},
        {"from": "a"},
        {"path": "a"},
        {"item": "a"},
        {"join": ["a"]},
        {"rows": "a"},
    )
    givens = [more | {word: value} for word in WORDS for value in OF_ALL_TYPES for more in beside]
    for given in (*OF_ALL_TYPES, *givens, *([each] for each in givens)):
        with suppress(ValueError):
            parse_mapping(BASE | {key: given}, "custom")


def test_keys_over_a_preset_replace_its_own_and_its_shape() -> None:
    base = {"asset": "id", "time": "ts", "sensor": "n", "value": "v", "quality": "q"}
    assert over(base, {"asset": "a"}) == base | {"asset": "a"}
    assert over(base, {"leaves": "."}) == {"asset": "id", "time": "ts", "quality": "q", "leaves": "."}
    mapping = parse_mapping(over(base, {"quality": None, "rows": "whole"}), "custom")
    assert mapping.quality is None
    assert mapping.assembly is Assembly.WHOLE


def test_a_word_that_yaml_reads_as_a_boolean_is_said_to_need_quotes() -> None:
    with pytest.raises(
        ValueError, match=r"False is no place .* \(YAML reads no, yes, on and off as booleans: quote"
    ):
        parse_mapping(from_yaml("{asset: no, time: ts, leaves: .}"), "custom")
