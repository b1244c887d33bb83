"""Held values: the model is given them, and nobody else takes them for readings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from daemon.domain import SECOND_NS, AlertKind, FilledRow, Output, StreamSpec
from daemon.mapping import SensorRule
from tests.stream.pipelines import (
    CENTRE,
    NAN,
    SPEC,
    feed,
    make,
    numbered,
    of_kind,
    snapshots,
    steady,
    steps,
    take_over,
    told,
    wide,
)


def holding(seconds: int, spec: StreamSpec = SPEC, **more: Any) -> StreamSpec:
    """The stream with values of its sensor b held for so long."""
    return replace(spec, sensor_rules=(SensorRule(), SensorRule(hold_ns=seconds * SECOND_NS)), **more)


def fills(outputs: list[Output]) -> list[tuple[int, str, str, float, float]]:
    """(second, method, sensor, value, width of the interval) of the imputed cells, in their order."""
    return [
        (o.row_ns // SECOND_NS, o.method, sensor, cell.value, cell.high - cell.low)
        for o in outputs
        if isinstance(o, FilledRow)
        for sensor, cell in o.cells.items()
    ]


def test_a_last_value_stands_for_a_missing_one_up_to_its_age_and_is_marked() -> None:
    readings = [wide(0, 0.1, 1.0), wide(1, NAN, NAN), wide(2, 0.3, NAN), wide(3, 0.1, 2.0)]
    readings += [wide(second, 0.1, NAN) for second in (5, 6)]
    pipeline = make(holding(2))
    done = steps(pipeline, numbered(readings), ended=True)
    assert fills([o for step in done for o in step.outputs]) == [
        (1, "hold", "b", 1.0, 0.0),
        (1, "ppca", "a", pytest.approx(0.1), 2.0),
        (2, "hold", "b", 1.0, 0.0),
        (4, "hold", "b", 2.0, 0.0),  # a row without a reading has it, too
        (4, "ppca", "a", pytest.approx(0.2), 2.0),
        (5, "hold", "b", 2.0, 0.0),
        (6, "ppca", "b", 2.0, 2.0),  # too old: it is not held, and the held ones make it no younger
    ]
    blocks = [step.block for step in done if step.block is not None]
    values = np.concatenate([block.values for block in blocks])
    np.testing.assert_array_equal(values[:, 1], [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, NAN])
    came = np.concatenate([block.received for block in blocks if block.received is not None])
    held = np.concatenate([block.held for block in blocks if block.held is not None])
    np.testing.assert_array_equal(held, np.isnan(came) & np.isfinite(values))


@pytest.mark.parametrize(("hold", "silent"), [(0, 12), (5, 12), (15, 19)])
def test_a_sensor_is_silent_when_its_value_is_not_held_any_more(hold: int, silent: int) -> None:
    readings = [*steady(5), *(wide(5 + i, 0.5 + 0.01 * (i % 2), NAN) for i in range(20))]
    outputs = feed(make(holding(hold)), numbered(readings), ended=True)
    assert told(outputs, AlertKind.SENSOR_SILENT) == [(silent, "opened", "b")]


def test_a_held_value_does_not_stand_still() -> None:
    readings = [*steady(5), *(wide(5 + i, 0.5 + 0.01 * (i % 2), NAN if i else 0.4) for i in range(60))]
    stream = holding(100, silent_after_ns=200 * SECOND_NS)
    outputs = feed(make(stream, replace(CENTRE, still=2)), numbered(readings), ended=True)
    assert of_kind(outputs, AlertKind.SENSOR_STUCK, AlertKind.SENSOR_SILENT) == []


def test_the_share_of_a_window_that_was_not_observed_counts_held_cells() -> None:
    readings = numbered([*steady(4), wide(4, 0.5, NAN), wide(5, 20.0, NAN), *steady(8, start=6)])
    for hold in (0, 20):
        opened, _ = of_kind(feed(make(holding(hold)), readings, ended=True), AlertKind.ANOMALY)
        assert opened.imputed_share == 2 / 8


def test_the_held_cells_of_a_window_outlive_a_restart() -> None:
    readings = numbered([*steady(4), wide(4, 0.5, NAN), wide(5, 20.0, NAN), *steady(8, start=6)])
    first = make(holding(20))
    feed(first, readings[:5])
    saved = snapshots(first)
    second = make(holding(20), publish_from=first.offset)
    second.offset = first.replay_from()
    assert take_over(second, saved)
    outputs = feed(second, readings[second.offset :], ended=True)
    opened, _ = of_kind(outputs, AlertKind.ANOMALY)
    assert opened.imputed_share == 2 / 8


def test_no_held_value_is_hidden_to_see_how_well_it_is_filled() -> None:
    readings = numbered([wide(0, 0.5, 0.3), *(wide(1 + i, 0.01 * (i % 9), NAN) for i in range(6_000))])
    pipeline = make(holding(100_000), audit=1)
    hidden = [
        step.audited.sensor for step in steps(pipeline, readings, ended=True) if step.audited is not None
    ]
    assert set(np.concatenate(hidden).tolist()) == {0}
