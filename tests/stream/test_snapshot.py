"""Records of state: their keys, and which of them can be read."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from daemon.detector import Scaling
from daemon.domain import StateRecord, StreamSpec
from daemon.stream import snapshot
from daemon.stream.snapshot import DriftState, FleetClockState, FleetState, ModelChange, PartitionState

SPEC = StreamSpec("pumps", ("a", "b"))
SCALING = Scaling(np.array([1.0, -2.0]), np.array([0.5, 4.0]))


def partition() -> PartitionState:
    fleet = FleetState.joined(
        FleetClockState(1, 2, 3, 4, 9, 6, 7), replay_count=5, drift_due_row=8, stamps_ns=(10, 11)
    )
    change = ModelChange(0, 0, "m", SCALING).snapshot()
    return PartitionState(
        snapshot.layout(SPEC),
        12,
        [change],
        fleet,
        3,
        *DriftState.none(60),
        [],
        False,
        False,
        None,
        [],
        0,
        -1,
        [],
    )


def test_a_record_of_a_partition_is_read_as_it_was_written() -> None:
    record = snapshot.encode("t", "", partition())
    assert record.key == snapshot.key("t") == b"t\x1f"
    assert snapshot.topic_of(record.key) == b"t"
    found = snapshot.decode_partition(record.value or b"", snapshot.layout(SPEC))
    assert found == partition()
    assert isinstance(found, PartitionState)
    assert found.model == "m"
    assert ModelChange.restored(found.model_changes[-1]).scaling.same_as(SCALING)
    assert found.drift_state == DriftState.none(60)


def test_a_successor_counts_from_the_first_reading_that_it_replays() -> None:
    clock = partition().clock
    assert clock.at_replay == FleetClockState(1, 2, 3, 4, 5, 6, 7)
    assert (clock.count, clock.stamps_ns) == (9, [10, 11])


def test_the_record_of_no_state_deletes_the_asset() -> None:
    assert snapshot.encode("t", "p1", None) == StateRecord(b"t\x1fp1", None)


@pytest.mark.parametrize("other", [{"sensors": ("a",)}, {"window": 3}, {"period_ns": 1}])
def test_a_record_of_another_layout_is_not_read(other: dict[str, object]) -> None:
    value = snapshot.encode("t", "", partition()).value or b""
    layout = snapshot.layout(replace(SPEC, **other))  # type: ignore[arg-type]
    assert snapshot.decode_partition(value, layout) is None
    assert snapshot.decode_asset(msgspec.msgpack.encode(["of another version"]), layout) is None


@pytest.mark.parametrize("value", [b"", b"\xc1", msgspec.msgpack.encode([snapshot.layout(SPEC), "x"])])
def test_the_reason_is_given_for_a_record_of_this_layout_that_cannot_be_read(value: bytes) -> None:
    assert isinstance(snapshot.decode_partition(value, snapshot.layout(SPEC)), str)
    assert isinstance(snapshot.decode_asset(value, snapshot.layout(SPEC)), str)


def test_the_records_of_one_topic_are_found_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "READ_AT_ONCE", 2)
    records = [
        StateRecord(snapshot.key(t, a), b"x") for t, a in (("t", "p"), ("u", "p"), ("t", ""), ("tt", "p"))
    ]
    assert list(snapshot.records_of(records, "t")) == [(b"p", b"x"), None, (b"", b"x"), None]
    assert snapshot.is_utf8(b"p")
    assert not snapshot.is_utf8(b"\xff")


def test_numbers_and_bit_sets_are_restored_to_the_last_bit() -> None:
    floats = np.array([0.1, -0.0, np.nan, np.inf])
    assert snapshot.unpack_floats(snapshot.pack_floats(floats)).tobytes() == floats.tobytes()
    assert snapshot.unpack_ints(snapshot.pack_ints([-1, 1 << 62])).tolist() == [-1, 1 << 62]
    for mask in (0, 1, 1 << 200):
        assert snapshot.unpack_bits(snapshot.pack_bits(mask)) == mask
    rows = SCALING.of(np.array([[1.0, 2.0], [3.0, 4.0]]))
    np.testing.assert_array_equal(snapshot.unpack_rows(rows.tobytes(), SCALING), rows)


def test_a_model_change_keeps_its_units_with_their_sentinels() -> None:
    change = ModelChange(3, 40, "abc", replace(SCALING, sentinels=((1, -999.9),)))
    restored = ModelChange.restored(change.snapshot())
    assert restored.scaling.same_as(change.scaling)
    assert restored.scaling.sentinels == ((1, -999.9),)
