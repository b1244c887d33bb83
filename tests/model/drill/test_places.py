"""Where faults may be injected."""

from __future__ import annotations

import numpy as np

from daemon.detector import Detector
from daemon.domain import (
    AlarmPolicy,
    Segment,
)
from daemon.model.drill import (
    DetectionChain,
    Rules,
    places_in,
    standing,
)
from tests.fakes import CentreDetector


def without_rules(detector: Detector, policy: AlarmPolicy) -> DetectionChain:
    """A chain whose rules never open an alert."""
    never = 1 << 60
    return DetectionChain(detector, policy, Rules(*[np.full(len(detector.sensors), never)] * 2, never))


def test_places_cover_the_history_where_no_alert_fires() -> None:
    detector = CentreDetector(("a",), window=4)
    values = np.zeros((2_000, 1))
    values[400:410] = 9.0
    values[1_200] = 9.0
    places = places_in(without_rules(detector, AlarmPolicy(refractory=50)), [Segment("a", 100, values)], 40)
    assert len(places) == 40
    starts = np.array([place.row - 100 for place in places])
    assert (np.diff(starts) > 0).all()
    assert np.diff(starts).max() < 200
    for start in starts.tolist():  # a row before, and two windows
        assert not values[start - 1 : start + 8].any()
        # 9 is above the threshold of 3 as the RMS of four rows, and then the alarm recovers for 50 rows.
        assert not any(first <= start <= first + 3 + 50 for first in (409, 1_200))


def test_short_histories_and_constant_alarms_have_no_places() -> None:
    chain = without_rules(CentreDetector(("a",), window=4), AlarmPolicy())
    assert places_in(chain, [Segment("a", 0, np.zeros((11, 1)))], 9) == []
    assert len(places_in(chain, [Segment("a", 0, np.zeros((12, 1)))], 9)) == 1
    assert places_in(chain, [Segment("a", 0, np.full((90, 1), 9.0))], 9) == []
    assert places_in(chain, [], 9) == []


def test_standing_is_counted_back_from_the_last_row() -> None:
    rng = np.random.default_rng(3)
    for n in range(300):
        values = rng.integers(0, 2, (int(rng.integers(1, 9)), 3)).astype(float)
        if n % 3 == 0:  # and none of it lately
            values = np.concatenate([values, np.tile(values[-1], (int(rng.integers(900)), 1))])
        values[rng.random(values.shape) < 0.3] = np.nan
        still, age = standing(values)
        for c in range(3):
            column = values[:, c]
            seen = [i for i in range(len(column)) if np.isfinite(column[i])]
            assert age[c] == (len(column) - 1 - seen[-1] if seen else len(column))
            moved = [i for i, before in zip(seen[1:], seen, strict=False) if column[i] != column[before]]
            assert still[c] == len(column) - (moved[-1] if moved else 0)
