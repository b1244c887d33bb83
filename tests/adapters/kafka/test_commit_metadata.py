"""The metadata of a commit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.kafka import replay_from, written_position
from daemon.domain import Position


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_a_position_survives_its_metadata(offset: int, back: int) -> None:
    position = Position(offset, max(0, offset - back))
    text = written_position(position)
    assert len(text) < 100
    assert replay_from(text, offset) == position.replay_from


@pytest.mark.parametrize("text", ["", "1;", "1;-3", "1;x", "2;5", "5", "1;99", "1;²"])
def test_foreign_metadata_replays_nothing(text: str) -> None:
    assert replay_from(text, 10) == 10
