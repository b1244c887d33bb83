"""Recall, delays and the smallest size found."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from daemon.domain import (
    AlertKind,
)
from daemon.model.drill import (
    Found,
    Rung,
    Tally,
    Verdict,
    trial,
    wilson,
)
from daemon.model.faults import FaultKind

SIZES = (0.5, 0.75, 1.0, 1.5)


def rungs(*shares: float, faults: int = 20) -> Found:
    made = tuple(
        Rung(size, faults, round(share * faults), 1.0, 1) for size, share in zip(SIZES, shares, strict=False)
    )
    return Found("a", FaultKind.SHIFT, 0, 0, None, None, made)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (rungs(0.0, 0.5, 0.8, 1.0), (1.0, 1.0, 1.5)),  # of 20 found, .84 at least
        (rungs(0.0, 0.8, 0.75, 1.0), (1.5, 0.75, 1.5)),  # from which size on, up the ladder
        (rungs(0.0, 0.0, 0.0, 0.85), (1.5, 1.5, None)),
        (rungs(1.0, 1.0), (0.5, 0.5, 0.5)),
        (rungs(1.0, 1.0, 1.0, faults=15), (0.5, 0.5, None)),
        (rungs(0.9, 0.9, 0.0), None),
        (replace(rungs(1.0), kind=FaultKind.STUCK), None),
    ],
)
def test_the_smallest_size_is_where_the_ladder_is_found_from(
    found: Found, expected: tuple[float, float, float | None] | None
) -> None:
    smallest = found.smallest
    assert (None if smallest is None else (smallest.rung.size, smallest.low, smallest.high)) == expected


def test_wilsons_interval() -> None:
    """Against his equation: (p - q)^2 = z^2 q (1 - q) / n at both ends."""
    for found, of in ((0, 10), (3, 10), (10, 10), (16, 20), (1, 1)):
        for end in wilson(found, of):
            assert (found / of - end) ** 2 == pytest.approx(1.96**2 * end * (1 - end) / of, abs=1e-12)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(20, 20)[0] > 0.8 > wilson(15, 15)[0]


def test_a_tally_counts_by_kind_sensor_and_size() -> None:
    tally = Tally(("a", "b"), keep=3)
    shift = [trial(FaultKind.SHIFT, 1, rung, (1,), [0, 1]) for rung in (1.0, 2.0)]
    for rows in (None, 4, 6, None):  # the first is forgotten
        tally.add(shift[0], Verdict(rows, None if rows is None else AlertKind.ANOMALY))
    tally.add(shift[1], Verdict(2, AlertKind.ANOMALY))
    tally.add(shift[1], None)  # changed nothing
    tally.add(trial(FaultKind.STUCK, 0, 0.0, (1,), [0, 1]), Verdict(9, AlertKind.SENSOR_STUCK))
    stuck, found = tally.results()
    assert (stuck.sensor, stuck.recall, stuck.alert) == ("a", 1.0, AlertKind.SENSOR_STUCK)
    assert (found.sensor, found.faults, found.found, found.delay_rows) == ("b", 4, 3, 4.0)
    assert [(r.size, r.faults, r.found, r.within_rows) for r in found.rungs] == [
        (1.0, 3, 2, None),
        (2.0, 1, 1, 2),
    ]
    assert tally.drilled == 6
    assert tally.recall(FaultKind.SHIFT) == 0.75
    assert tally.faults(FaultKind.SHIFT) == 4
    assert tally.delay_rows(FaultKind.SHIFT) == 4.0
    assert math.isnan(tally.recall(FaultKind.LAG))
    assert tally.delay_rows(FaultKind.LAG) is None


def test_time_within_is_that_of_80_percent_of_the_faults() -> None:
    tally = Tally(("a",))
    what = trial(FaultKind.STUCK, 0, 0.0, (1,), [0])
    for rows in (5, 1, 2, 3, None):
        tally.add(what, Verdict(rows, None if rows is None else AlertKind.ANOMALY))
    (found,) = tally.results()
    assert found.rungs[0].within_rows == 5
