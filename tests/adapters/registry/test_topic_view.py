"""What is held of the models topic, whatever was written to it."""

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
from daemon.adapters.registry.records import CHUNK_BYTES, MOST_CHUNKS, Pointer
from daemon.adapters.registry.topic_view import MOST_STREAMS, MOST_VERSIONS, TopicView
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


def check_a_good_bundle_is_usable(view: TopicView) -> None:
    """A good bundle that comes now can be used."""
    view.apply([*records("pumps", "good", b"a good bundle"), promoted("pumps", "good")])
    assert view.pointers["pumps"] == Pointer("good")
    assert view.version("pumps", "good").bundle() == b"a good bundle"


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
def test_an_unusable_record_is_logged_once_and_counted(key: bytes, value: bytes) -> None:
    view = TopicView()
    check_a_good_bundle_is_usable(view)
    with capture_logs() as logs:
        view.apply([Entry(key, value)] * 3)
    assert view.refused == 3
    (logged,) = [entry for entry in logs if entry["event"] == "bundle_refused"]
    assert len(str(logged)) < 700
    assert view.version("pumps", "good").bundle() == b"a good bundle"
    view.apply([Entry(key, None)])  # a deletion is not refused
    assert view.refused == 3
    check_a_good_bundle_is_usable(view)


def test_a_manifest_of_many_chunks_takes_no_memory() -> None:
    view = TopicView()
    manifest = BIG | {"chunks": MOST_CHUNKS, "size": MOST_CHUNKS}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    view.apply([Entry(b"pumps/aaa", json.dumps(manifest).encode())])
    with pytest.raises(BundleError, match=f"{MOST_CHUNKS} of its {MOST_CHUNKS} chunks are missing"):
        view.version("pumps", "aaa").bundle()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10


def test_chunks_of_promoted_and_arriving_versions_are_held() -> None:
    view, chunk = TopicView(), b"x" * 1_000
    for i in range(8):
        view.apply(records("pumps", f"v{i}", chunk * 3, 1_000))
        if i == 1:
            view.apply([promoted("pumps", "v1")])
    assert view.known("pumps") == [f"v{i}" for i in range(8)]
    assert [v for v in view.known("pumps") if not view.version("pumps", v).incomplete] == ["v1", "v6", "v7"]
    held = sum(len(each) for v in view.known("pumps") for each in view.version("pumps", v).chunks.values())
    assert held == 3 * len(chunk) * 3
    with pytest.raises(BundleError, match="3 of its 3 chunks are missing"):
        view.version("pumps", "v3").bundle()
    only = TopicView(["pumps"], "v3")
    for i in range(8):
        only.apply(records("pumps", f"v{i}", chunk * 3, 1_000))
    assert only.version("pumps", "v3").bundle() == chunk * 3
    assert only.known("pumps") == ["v3"]


def test_too_many_versions_and_streams_are_removed_but_the_promoted_one_is_not() -> None:
    view = TopicView()
    check_a_good_bundle_is_usable(view)
    view.apply([promoted("pumps", "good", before="v0")])
    with capture_logs() as logs:
        for i in range(5 * MOST_VERSIONS):
            view.apply(records("pumps", f"v{i}", b"data"))
    assert len(view.known("pumps")) <= MOST_VERSIONS
    assert {"good", "v0", f"v{5 * MOST_VERSIONS - 1}"} <= set(view.known("pumps"))
    assert [entry["event"] for entry in logs] == ["model_versions_forgotten"]
    for i in range(2 * MOST_STREAMS):
        view.apply([promoted(f"s{i}", "v")])
    assert len(view.pointers) == MOST_STREAMS
    assert view.refused == MOST_STREAMS + 1
    check_a_good_bundle_is_usable(view)


def test_streams_of_no_interest_are_ignored() -> None:
    view = TopicView(["pumps"])
    view.apply([*records("fans", "v", b"data"), promoted("fans", "v"), Entry(b"fans", b"{")])
    assert not view.pointers
    assert not view.known("fans", whole=False)
    assert not view.refused
    check_a_good_bundle_is_usable(view)


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
def test_a_damaged_topic_neither_raises_nor_hides_a_good_bundle(seed: int) -> None:
    rng, before = random.Random(seed), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with capture_logs() as logs:
        for _ in range(50):
            view = TopicView()
            view.apply(damaged(rng))
            for stream, pointer in view.pointers.items():
                stored = view.version(stream, pointer.version)
                if stored.manifest is None:
                    continue
                assert stored.manifest.chunks <= MOST_CHUNKS
                with contextlib.suppress(BundleError):
                    assert hashlib.sha256(stored.bundle()).hexdigest() == stored.manifest.sha256
            check_a_good_bundle_is_usable(view)
    assert all(len(str(entry)) < 900 for entry in logs)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
