"""A record of many parts: those that cannot be decoded are refused alone, up to a number."""

from __future__ import annotations

import pytest

from daemon.domain import Reason
from daemon.stream.decode.arrival import MOST_REFUSED, Parts
from daemon.stream.rejection import RejectedError
from tests.stream.decode.arriving import arrival, refusal, tree_of

WRONG = RejectedError(Reason.UNDECODABLE, "wrong")


def test_what_is_refused_is_told_where_something_is_left() -> None:
    parts, arriving = Parts(), arrival()
    with pytest.raises(RejectedError, match="nothing in it"):
        parts.taken(arriving)
    parts.refuse("line 1", WRONG)
    with pytest.raises(RejectedError, match="line 1: wrong"):
        parts.taken(arriving)
    assert arriving.refused == []
    parts.found.append(1)
    assert parts.taken(arriving) == [1]
    assert [error.detail for error in arriving.refused] == ["line 1: wrong"]


def test_a_record_with_too_many_is_refused_whole() -> None:
    lines = b"fan a=1\n" + b"fan\n" * MOST_REFUSED
    assert len(tree_of("influx", lines)) == 1
    assert refusal("influx", lines + b"fan\n")[1].startswith("line 2: ")
    assert refusal("json-lines", b"1\n" + b"x\n" * (MOST_REFUSED + 1))[1].startswith("line 2: ")
