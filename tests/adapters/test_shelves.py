"""The models topic, with whatever anybody may have written to it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import resource
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from daemon.adapters.kafka import Entry
from daemon.adapters.shelves import (
    CHUNK_BYTES,
    MOST_CHUNKS,
    MOST_STREAMS,
    MOST_VERSIONS,
    Pointer,
    Shelves,
    outdated,
)
from daemon.errors import BundleError
from tests.mutations import bytewise, structured


def records(stream: str, version: str, data: bytes, size: int = 4) -> list[Entry]:
    """A bundle as the topic holds it, in chunks of a few bytes."""
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    name = f"{stream}/{version}"
    manifest = {"size": len(data), "chunks": len(chunks), "sha256": hashlib.sha256(data).hexdigest()}
    return [
        *(Entry(f"{name}/{i}".encode(), chunk) for i, chunk in enumerate(chunks)),
        Entry(name.encode(), json.dumps(manifest).encode()),
    ]


def promoted(stream: str, version: str, before: str = "") -> Entry:
    return Entry(stream.encode(), json.dumps({"version": version, "before": before}).encode())


def works(shelves: Shelves) -> None:
    """A good bundle that comes now can be used."""
    shelves.take([*records("pumps", "good", b"a good bundle"), promoted("pumps", "good")])
    assert shelves.pointers["pumps"] == Pointer("good")
    assert shelves.shelf("pumps", "good").bundle() == b"a good bundle"


BIG = {"size": 5, "chunks": 2, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"pumps/aaa/" + b"9" * 5_000, b"x"),
        (b"pumps/aaa/" + b"9" * 200, b"x"),
        (f"pumps/aaa/{MOST_CHUNKS}".encode(), b"x"),
        ("pumps/aaa/\u0663".encode(), b"x"),  # a decimal digit, and no ASCII
        ("pumps/aaa/\u00b2".encode(), b"x"),
        (b"pumps/aaa/-1", b"x"),
        (b"pumps/aaa/01", b"x"),
        (b"pumps/aaa/1_0", b"x"),
        (b"pumps/aaa/1/1", b"x"),
        (b"pumps/aaa/", b"x"),
        (b"pumps//0", b"x"),
        (b"/aaa/0", b"x"),
        (b"", b"x"),
        (b"\xff\xfe", b"x"),
        (b"pumps/\xed\xa0\x80", b"x"),
        (b"../../etc", b"{}"),
        (b"pumps/promoted", json.dumps(BIG).encode()),
        (b"p" * 101, b'{"version":"aaa"}'),
        (b"pumps/aaa/0", b"x" * (CHUNK_BYTES + 1)),
        (b"pumps/aaa", json.dumps(BIG | {"chunks": 1e11}).encode()),
        (b"pumps/aaa", json.dumps(BIG | {"chunks": 10**11, "size": 10**11}).encode()),
        (b"pumps/aaa", json.dumps(BIG | {"chunks": 3, "size": 10**11}).encode()),
        (b"pumps/aaa", json.dumps(BIG | {"chunks": 0}).encode()),
        (b"pumps/aaa", json.dumps(BIG | {"chunks": -1}).encode()),
        (b"pumps/aaa", json.dumps(BIG | {"chunks": True}).encode()),
        (b"pumps/aaa", json.dumps(BIG | {"chunks": None}).encode()),
        (b"pumps/aaa", json.dumps(BIG | {"sha256": 7}).encode()),
        (b"pumps/aaa", json.dumps(BIG | {"sha256": "x" * 64}).encode()),
        (b"pumps/aaa", b'{"size":5,"chunks":' + b"9" * 600 + b"}"),
        (b"pumps/aaa", b"[" * 100_000 + b"]" * 100_000),
        (b"pumps/aaa", b'{"x":' * 180 + b"1" + b"}" * 180),
        (b"pumps", b'{"x":' * 1_600),
        (b"pumps", b"[" * 4_000 + b"]" * 4_000),
        (b"pumps", b'{"version":"a/b"}'),
        (b"pumps", b'{"version":7}'),
        (b"pumps", b"\xff"),
        (b"pumps", b""),
    ],
)
def test_a_record_that_cannot_be_used_is_said_once_and_counted(key: bytes, value: bytes) -> None:
    shelves = Shelves()
    works(shelves)
    with capture_logs() as logs:
        shelves.take([Entry(key, value)] * 3)
    assert shelves.refused == 3
    (said,) = [entry for entry in logs if entry["event"] == "bundle_refused"]
    assert len(str(said)) < 700
    assert shelves.shelf("pumps", "good").bundle() == b"a good bundle"
    shelves.take([Entry(key, None)])  # whoever cleans up is not told off
    assert shelves.refused == 3
    works(shelves)


def test_a_manifest_of_many_chunks_costs_no_memory() -> None:
    shelves = Shelves()
    manifest = BIG | {"chunks": MOST_CHUNKS, "size": MOST_CHUNKS}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shelves.take([Entry(b"pumps/aaa", json.dumps(manifest).encode())])
    with pytest.raises(BundleError, match=f"{MOST_CHUNKS} of its {MOST_CHUNKS} chunks are missing"):
        shelves.shelf("pumps", "aaa").bundle()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10


def test_chunks_are_held_of_what_is_promoted_or_arriving() -> None:
    shelves, chunk = Shelves(), b"x" * 1_000
    for i in range(8):
        shelves.take(records("pumps", f"v{i}", chunk * 3, 1_000))
        if i == 1:
            shelves.take([promoted("pumps", "v1")])
    assert shelves.known("pumps") == [f"v{i}" for i in range(8)]
    assert [v for v in shelves.known("pumps") if not shelves.shelf("pumps", v).let_go] == ["v1", "v6", "v7"]
    assert shelves.held_bytes == 3 * len(chunk) * 3
    with pytest.raises(BundleError, match="3 of its 3 chunks are missing"):
        shelves.shelf("pumps", "v3").bundle()
    only = Shelves(["pumps"], "v3")
    for i in range(8):
        only.take(records("pumps", f"v{i}", chunk * 3, 1_000))
    assert only.shelf("pumps", "v3").bundle() == chunk * 3
    assert only.known("pumps") == ["v3"]


def test_versions_and_streams_without_end_are_forgotten_and_the_promoted_one_is_not() -> None:
    shelves = Shelves()
    works(shelves)
    shelves.take([promoted("pumps", "good", before="v0")])
    with capture_logs() as logs:
        for i in range(5 * MOST_VERSIONS):
            shelves.take(records("pumps", f"v{i}", b"data"))
    assert len(shelves.known("pumps")) <= MOST_VERSIONS
    assert {"good", "v0", f"v{5 * MOST_VERSIONS - 1}"} <= set(shelves.known("pumps"))
    assert [entry["event"] for entry in logs] == ["model_versions_forgotten"]
    for i in range(2 * MOST_STREAMS):
        shelves.take([promoted(f"s{i}", "v")])
    assert len(shelves.pointers) == MOST_STREAMS
    assert shelves.refused == MOST_STREAMS + 1
    works(shelves)


def test_streams_that_are_not_ours_are_none_of_our_business() -> None:
    shelves = Shelves(["pumps"])
    shelves.take([*records("fans", "v", b"data"), promoted("fans", "v"), Entry(b"fans", b"{")])
    assert not shelves.pointers
    assert not shelves.held_bytes
    assert not shelves.refused
    works(shelves)


@pytest.mark.parametrize(
    ("pointer", "keep", "gone"),
    [
        (None, 2, ["a", "b", "c"]),
        (Pointer("a", before="c"), 2, ["b"]),
        (Pointer("e", before="d"), 1, ["a", "b", "c"]),
        (Pointer("e"), 5, []),
        (Pointer("e"), 99, []),
        (None, 0, ["a", "b", "c", "d", "e"]),
    ],
)
def test_the_newest_and_those_in_use_stay(pointer: Pointer | None, keep: int, gone: list[str]) -> None:
    assert outdated(["a", "b", "c", "d", "e"], pointer, keep) == gone


# ------------------------------------------------------------------ damage of every kind
@cache
def topic() -> tuple[Entry, ...]:
    """Three versions of two streams, promoted in turn, and a tombstone."""
    made: list[Entry] = []
    for i in range(3):
        for stream in ("pumps", "fans"):
            made += [*records(stream, f"v{i}", f"bundle {i} of {stream}".encode()), promoted(stream, f"v{i}")]
    return (*made, Entry(b"pumps/v0", None), Entry(b"pumps/v0/0", None))


STRUCTURED = {e.value for e in topic() if e.value is not None and e.value.endswith(b"}")}


def damaged(rng: random.Random) -> list[Entry]:
    """The topic's records, some of them changed, moved, dropped or doubled."""
    entries = list(topic())
    for _ in range(rng.choice([1, 2, 5])):
        i = rng.randrange(len(entries))
        key, value = entries[i].key, entries[i].value
        match rng.randrange(8):
            case 0:
                key = bytewise(rng, key)
            case 1 | 2 if value is not None:
                value = bytewise(rng, value)
            case 3 | 4 if value in STRUCTURED:
                assert value is not None
                value = json.dumps(structured(rng, json.loads(value))).encode()
            case 5:
                value = entries[rng.randrange(len(entries))].value
            case 6:
                key = entries[rng.randrange(len(entries))].key
            case _:
                entries.insert(rng.randrange(len(entries)), entries[i])
        entries[i] = Entry(key, value)
    return entries


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_no_damage_of_the_topic_raises_or_blinds(seed: int) -> None:
    rng, before = random.Random(seed), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with capture_logs() as logs:
        for _ in range(50):
            shelves = Shelves()
            shelves.take(damaged(rng))
            for stream, pointer in shelves.pointers.items():
                shelf = shelves.shelf(stream, pointer.version)
                if shelf.manifest is None:
                    continue
                assert shelf.manifest.chunks <= MOST_CHUNKS
                with contextlib.suppress(BundleError):
                    assert hashlib.sha256(shelf.bundle()).hexdigest() == shelf.manifest.sha256
            works(shelves)
    assert all(len(str(entry)) < 900 for entry in logs)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
