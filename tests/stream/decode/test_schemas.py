"""The cache of schemas: what is known, what is absent, and what is still to be asked for."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pytest

from daemon.domain import Reading, Reason, Record, Records
from daemon.stream.decode.framing import HEADER
from daemon.stream.decode.schemas import Schema, SchemaMissing, Schemas
from daemon.stream.rejection import RejectedError
from tests.stream.decode.framings import by_guid, confluent

GUID = UUID("0b7a4c0e-77aa-4b07-9d4b-25d9c5a1ef10")


def records(*values: bytes) -> list[Record]:
    """Records without key and headers."""
    return [Record(i, None, value, 0) for i, value in enumerate(values)]


def test_a_schema_is_known_absent_or_not_asked_for() -> None:
    schemas = Schemas()
    with pytest.raises(SchemaMissing, match="schema 7 was not fetched"):
        schemas.schema(7)
    schemas.put(7, "the registry has no schema 7")
    with pytest.raises(RejectedError, match="has no schema 7") as refused:
        schemas.schema(7)
    assert refused.value.reason is Reason.UNKNOWN_SCHEMA
    assert not isinstance(refused.value, SchemaMissing)
    schemas.put(7, Schema("AVRO", "{}"))
    assert schemas.schema(7).text == "{}"


def test_only_what_is_not_known_is_wanted_and_how_often() -> None:
    schemas = Schemas()
    items = records(confluent(1, b"a"), confluent(2, b"a"), confluent(2, b"b"), b'{"a": 1}', b"", b"\x00")
    assert schemas.wanted(items) == {2: 2, 1: 1}
    assert schemas.wanted([Reading(0, "a", 0)]) == {}
    schemas.put(2, Schema("AVRO"))
    schemas.put(1, "absent")
    assert schemas.wanted(items) == {}
    schemas.forget_absent()
    assert schemas.wanted(items) == {1: 1}


def test_the_header_comes_before_the_bytes_which_need_not_be_framed() -> None:
    unframed_body = confluent(9, b"looks framed, and is the body of a message")
    columns = Records(
        np.arange(2),
        [None, None],
        [unframed_body, confluent(4, b"")],
        np.zeros(2, np.int64),
        headers=[
            [(HEADER, by_guid(GUID))],
            [],
        ],
    )
    assert set(Schemas().wanted(columns)) == {str(GUID), 4}
    assert set(Schemas().wanted(list(columns))) == {str(GUID), 4}
    assert Schemas().wanted(Records(np.arange(1), [None], [confluent(3, b"")], np.zeros(1, np.int64))) == {
        3: 1
    }


def test_what_is_around_the_framing_is_taken_off_first() -> None:
    def unwrap(value: bytes) -> bytes:
        if not value.startswith(b"box"):
            raise RejectedError(Reason.NOT_JSON, "no box")
        return value[3:]

    assert Schemas().wanted(records(b"box" + confluent(5, b""), confluent(6, b"")), unwrap) == {5: 1}


def test_ids_that_do_not_exist_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.stream.decode.schemas.ABSENT_KEPT", 10)
    schemas = Schemas()
    for id in range(100):
        schemas.put(id, "absent")
    assert len(schemas.wanted(records(*(confluent(id, b"") for id in range(100))))) >= 90
