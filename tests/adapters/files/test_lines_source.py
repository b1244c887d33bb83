"""A JSON Lines file as a finite source of records."""

from __future__ import annotations

import base64
import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.adapters.files import KEPT_BYTES, LinesSource, Oversized, dead_letter, first_lines
from daemon.domain import InputPartition, PolledRecords, Reason, Record, Rejected, StreamSpec
from daemon.errors import InputError
from daemon.stream.decoding import Decoder
from daemon.stream.encoding import DEAD_LETTER_BYTES
from tests import contract
from tests.adapters.files.tables import NOW


async def records(source: LinesSource) -> list[Record]:
    found: list[Record] = []
    async for event in source.events():
        if isinstance(event, PolledRecords):
            found += [item for item in event.items if isinstance(item, Record)]
            assert sum(len(item.value) for item in found[-len(event.items) :] if event.items) < 8 * KEPT_BYTES
    return found


async def test_lines_source_passes_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n" * 25)
    await contract.check_finite(
        lambda: LinesSource(path, NOW, chunk_lines=10), {InputPartition("a.jsonl", 0): range(25)}
    )


@given(
    st.lists(
        st.one_of(st.binary(max_size=12), st.sampled_from([b"\r", "\u2028".encode(), b"\x0b", b"\x00"])),
        max_size=30,
    ),
    st.booleans(),
    st.booleans(),
    st.integers(1, 20),
)
@settings(deadline=None)
async def test_lines_end_at_newlines_and_nowhere_else(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], closed: bool, packed: bool, keep: int
) -> None:
    content = b"\n".join(pieces) + (b"\n" if closed else b"")
    expected = content.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    if not content or content[:2] == b"\x1f\x8b":
        return
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_bytes(gzip.compress(content) if packed else content)
    source = LinesSource(path, NOW, chunk_lines=4, keep_bytes=keep)
    found = await records(source)
    assert [(r.offset, r.value, r.timestamp_ns) for r in found] == [
        (i, line[:keep], NOW) for i, line in enumerate(expected)
    ]
    assert source.oversized == {
        i: Oversized(len(line), hashlib.sha256(line).hexdigest())
        for i, line in enumerate(expected)
        if len(line) > keep
    }
    assert source.read == source.total == path.stat().st_size
    assert source.lines == len(expected)
    assert first_lines(path, 3) == (expected[:3], len(expected) <= 3)


async def test_an_oversized_line_is_cut_to_one_short_record(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    giant = b"x" * 5_000_000
    path.write_bytes(gzip.compress(b"{}\n" + giant + b"\n[]"))
    source = LinesSource(path, NOW)
    found = await records(source)
    assert [len(record.value) for record in found] == [2, KEPT_BYTES, 2]
    assert source.oversized[1] == Oversized(5_000_000, hashlib.sha256(giant).hexdigest())
    rejected = Decoder(StreamSpec("s", ("x",))).decode(found[1])
    assert isinstance(rejected, Rejected)
    assert rejected.reason is Reason.TOO_LARGE
    letter = dead_letter(rejected, source.oversized)
    assert (letter["line"], letter["length"]) == (1, 5_000_000)
    assert letter["sha256"] == hashlib.sha256(giant).hexdigest()
    assert base64.b64decode(letter["original"]) == giant[:DEAD_LETTER_BYTES]


async def test_an_oversized_line_is_rejected_with_its_true_length(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * 5_000_000)
    source = LinesSource(path, NOW)
    (record,) = await records(source)
    rejected = Decoder(StreamSpec("s", ("x",))).decode(record)
    assert isinstance(rejected, Rejected)
    assert dead_letter(rejected, source.oversized)["detail"] == "5000000 bytes; at most 1048576"


async def test_an_unusable_lines_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        LinesSource(tmp_path / "none.jsonl", NOW)
    path = tmp_path / "a.jsonl"
    path.touch()
    with pytest.raises(InputError, match="is empty"):
        LinesSource(path, NOW)
    path.write_bytes(gzip.compress(np.random.default_rng(0).bytes(10_000))[:5000])
    with pytest.raises(InputError, match="damaged gzip data after line"):
        await records(LinesSource(path, NOW))
