"""Timestamps that are none are no times of another century."""

from __future__ import annotations

from daemon.adapters.kafka.record_times import NO_TIMESTAMP, timestamps_ns


def test_what_cannot_be_a_time_is_none() -> None:
    latest = (2**63 - 1) // 1_000_000
    given = [-1, 0, 1_764_500_000_000, latest, latest + 1, 1_764_500_000_000_000, 2**63 - 1, -(2**62)]
    expected = [NO_TIMESTAMP, 0, 1_764_500_000_000_000_000, latest * 1_000_000, *[NO_TIMESTAMP] * 4]
    assert timestamps_ns(given).tolist() == expected
    assert timestamps_ns([]).tolist() == []
