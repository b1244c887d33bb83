"""What births have named, by offset: read again, saved and taken over, it says what it said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.stream.decode import births as module
from daemon.stream.decode.births import Births, BornMetric, Certificate
from daemon.stream.rejection import RejectedError

NODES = ("g/e", "g/e/d", "g/e/x", "g/f/d")
Event = tuple[str, int | None]
"""A node, and which of some births it had; None: it died."""
EVENTS = st.lists(st.tuples(st.sampled_from(NODES), st.none() | st.integers(0, 2)), max_size=25)


def metrics(which: int) -> tuple[BornMetric, ...]:
    return tuple((alias, f"m{alias}{which}", 10) for alias in range(which + 1))


def tell(births: Births, events: list[Event], begin: int = 0) -> None:
    for offset, (node, which) in enumerate(events[begin:], begin):
        if which is not None:
            births.born(node, offset, metrics(which), session=which)
        elif births.at(node, offset) is not None:
            births.died(node, offset)


def obvious(events: list[Event], node: str, offset: int) -> tuple[BornMetric, ...] | None:
    """What is in force for the record at an offset: the last that was said before it."""
    said = [which for name, which in events[:offset] if name == node]
    return None if not said or said[-1] is None else metrics(said[-1])


def in_force(births: Births, node: str, offset: int) -> tuple[BornMetric, ...] | None:
    found = births.at(node, offset)
    return None if found is None else found.metrics


@given(EVENTS, st.data())
def test_whatever_is_read_again_or_taken_over_nothing_changes(
    events: list[Event], data: st.DataObject
) -> None:
    births, saved, oldest = Births(), dict[tuple[str, int], Certificate](), 0
    done = 0
    for _ in range(data.draw(st.integers(0, 3))):
        until = data.draw(st.integers(done, len(events)))
        tell(births, events[:until], done)
        done = until
        oldest = data.draw(st.integers(oldest, done))
        for node, certificate, offset in births.saving(oldest):
            if certificate is None:
                del saved[node, offset]
            else:
                assert (node, offset) not in saved
                saved[node, offset] = certificate
        if data.draw(st.booleans()):
            births = Births()
            for (node, _), certificate in data.draw(st.permutations(sorted(saved.items(), key=str))):
                births.restore(node, certificate)
            tell(births, events[:done], oldest)
    tell(births, events, done)
    for offset in range(oldest, len(events) + 1):
        for node in NODES:
            assert in_force(births, node, offset) == obvious(events, node, offset)
        alive = [n for n in NODES if n.startswith("g/e") and obvious(events, n, offset) is not None]
        assert births.nodes("g/e", offset) == sorted(alive)


def test_nothing_stays_of_what_died() -> None:
    births = Births()
    births.born("g/e/d", 3, metrics(1))
    assert [offset for _, _, offset in births.saving(3)] == [3]
    births.died("g/e/d", 5)
    assert [(offset, c is not None) for _, c, offset in births.saving(4)] == [(5, True)]
    assert list(births.saving(5)) == []
    assert sorted((offset, c) for _, c, offset in births.saving(6)) == [(3, None), (5, None)]
    assert list(births.saving(7)) == []
    births.born("g/e/d", 8, metrics(1))
    assert [offset for _, _, offset in births.saving(9)] == [8]


def test_a_birth_that_says_nothing_new_is_not_kept() -> None:
    births = Births()
    for offset in range(5):
        births.born("g/e/d", offset, metrics(2))
    assert [offset for _, _, offset in births.saving(9)] == [0]
    births.born("g/e/d", 9, metrics(2), session=3)
    assert [(offset, c is not None) for _, c, offset in births.saving(9)] == [(9, True)]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CERTIFICATES", 3)
    monkeypatch.setattr(module, "MOST_METRICS", 30)
    monkeypatch.setattr(module, "MOST_SEQUENCES", 2)
    births = Births()
    for offset in range(20):
        births.born("g/e/d", offset, metrics(offset % 3))
    assert [births.at("g/e/d", offset) is None for offset in (16, 17, 18)] == [True, True, False]
    for offset in range(20, 23):
        births.born("g/e/x", offset, metrics(2 + offset % 2))
    with pytest.raises(RejectedError, match="over 30 metrics of births"):
        births.born("g/f/d", 23, metrics(9))
    births.died("g/e/d", 24)  # a death always counts
    assert births.at("g/e/d", 25) is None
    for edge in ("a/a", "b/b", "c/c"):
        births.follow(edge, 1, 30)
    assert [edge for edge, _, _ in births.sequences] == ["a/a", "b/b"]


def test_sequences_are_followed_once_and_over_a_restart() -> None:
    births = Births()
    for offset, number in enumerate([254, 255, 1, 1, 3]):
        births.follow("g/e", number, offset)
    assert births.lost == 2
    restored = Births()
    restored.restore_sequences(births.sequences)
    for offset, number in enumerate([1, 3, 4, 6], 3):  # two of them are read again
        restored.follow("g/e", number, offset)
    assert restored.lost == 1
    restored.follow("g/e", 0, 9, first=True)
    restored.follow("g/e", 1, 10)
    assert restored.lost == 1
    restored.end_sequence("g/e", 11)
    restored.end_sequence("g/f", 11)
    restored.follow("g/e", 7, 12)
    assert restored.lost == 1


def test_a_death_that_is_read_again_ends_no_later_sequence() -> None:
    births = Births()
    births.follow("g/e", 3, 0)
    births.end_sequence("g/e", 1)
    assert births.sequences == [("g/e", module.ENDED, 1)]
    births.follow("g/e", 3, 0)
    births.follow("g/e", 0, 2)
    births.follow("g/e", 1, 3)
    births.end_sequence("g/e", 1)
    births.follow("g/e", 3, 4)
    assert births.lost == 1
    births.end_sequence("g/e", 5)
    list(births.saving(5))
    assert len(births.sequences) == 1
    list(births.saving(6))
    assert births.sequences == []


@given(EVENTS)
def test_another_memory_can_know_all_of_it(events: list[Event]) -> None:
    births, other = Births(), Births()
    tell(births, events)
    other.know(births.certificates)
    for offset in range(len(events) + 1):
        assert all(in_force(other, node, offset) == in_force(births, node, offset) for node in NODES)
