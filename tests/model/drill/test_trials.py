"""What is injected follows from its key."""

from __future__ import annotations

from daemon.model.bundle import Bundle
from daemon.model.drill import (
    ladder,
    trial,
    varying_sensors,
)
from daemon.model.faults import FaultKind


def test_only_the_size_differs_between_rungs_at_one_place() -> None:
    for kind in FaultKind:
        tried = [trial(kind, 1, rung, (7, 3), [0, 1, 2]) for rung in ladder(kind, 16)]
        assert len({(t.kind, t.sensors, t.size >= 0.0, t.seed) for t in tried}) == 1
        assert [abs(t.size) for t in tried] == [t.rung for t in tried] == list(ladder(kind, 16))
        assert (len(tried) > 1) == kind.sized
        assert len(tried[0].sensors) == kind.sensors
        assert tried[0].sensors[0] == 1
    assert trial(FaultKind.SHIFT, 1, 1.0, (7, 3), [0, 1]) != trial(FaultKind.SHIFT, 1, 1.0, (7, 4), [0, 1])
    assert ladder(FaultKind.LAG, 5) == (1.0, 2.0, 3.0, 4.0)


def test_constant_sensors_are_left_out(linear: Bundle) -> None:
    assert varying_sensors(linear.detector()) == [0, 1, 2]
