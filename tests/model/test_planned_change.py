"""A planned change of a machine that stands still at night, from its alert to a fault on top of it, with a real model."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from daemon.control import Verdict
from daemon.domain import SECOND_NS, Floats, Segment, StreamSpec
from daemon.model.detector import BundleDetector
from daemon.model.training import train
from daemon.stream.dismissal import Effect
from tests.model.conftest import QUICK, TARGET
from tests.stream.conversation import EPISODES, Conversation, opened
from tests.stream.pipelines import numbered, of_kind, wide

PERIOD = 600  # seconds
DAY = 144  # rows
SPEC = StreamSpec(
    "pumps", tuple("abcdefgh"), period_ns=PERIOD * SECOND_NS, window=12, max_gap_ns=20 * PERIOD * SECOND_NS
)
MIXING = np.random.default_rng(3).standard_normal((3, 8))
FIRST = 70 * DAY  # row of the epoch at which the tests begin
CHANGED, TOLD, FAULT, END = 2 * DAY + 60, 2 * DAY + 90, 9 * DAY + 60, 10 * DAY


def running(rows: int, start: int) -> Floats:
    """(rows,) 1 by day, 0 by night."""
    return np.where((np.arange(start, start + rows) % DAY) >= 48, 1.0, 0.0)


def machine(rows: int, seed: int, start: int) -> Floats:
    """(rows, 8) sensors of three loads, which are zero at night."""
    rng, t = np.random.default_rng(seed), np.arange(start, start + rows)
    slow = np.convolve(rng.standard_normal(rows + 20), np.ones(21) / 4.6, "valid")
    loads = np.stack([np.sin(t / 23.0), np.sin(t / 41.0 + 1.0) * np.cos(t / 7.0), slow], 1)
    found = 50.0 + (2.0 + loads * running(rows, start)[:, None]) @ MIXING
    return np.asarray(found + 0.1 * rng.standard_normal((rows, 8)))


@cache
def detector() -> BundleDetector:
    history = [Segment("p1", 0, machine(35 * DAY, 0, 0))]
    return train(history, SPEC, replace(QUICK, kind="ppca"), TARGET).detector()


def talk(values: Floats) -> Conversation:
    readings = [wide((FIRST + i) * PERIOD, *row, asset="p1") for i, row in enumerate(values.tolist())]
    return Conversation(numbered(readings), detector(), spec=SPEC)


def changed(sensor: int, by: float, fault: float = 0.0) -> Floats:
    """From a day on a sensor reads more while the machine runs, and at the end once more by a fault."""
    values, on = machine(END, 5, FIRST), running(END, FIRST)
    values[CHANGED:, sensor] += by * on[CHANGED:]
    values[FAULT:, sensor] += fault * on[FAULT:]
    return values


@pytest.mark.parametrize(("sensor", "by"), [(0, 2.5), (2, 1.5), (3, 2.0), (0, 4.0), (5, -3.0)])
def test_what_was_planned_raises_no_alerts_and_hides_no_fault(sensor: int, by: float) -> None:
    as_ever = talk(machine(END, 5, FIRST))
    as_ever.until(TOLD)
    usual = len(opened(as_ever.until(FAULT)))
    told = talk(changed(sensor, by, fault=by))
    told.until(TOLD)
    assert told.judged(Verdict.PLANNED).effect is Effect.ACCEPTING
    later = opened(told.until(FAULT))
    assert (FIRST + TOLD) * PERIOD not in later
    assert len(later) <= usual + 3
    about = [one for one in of_kind(told.until(END), *EPISODES) if one.contributors]
    assert any(one.contributors[0].sensor == SPEC.sensors[sensor] for one in about)
