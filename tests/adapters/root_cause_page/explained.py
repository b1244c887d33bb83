"""An explanation to show: an episode of one hour in which two sensors of six are to blame."""

from __future__ import annotations

import numpy as np

from daemon.domain import SECOND_NS
from daemon.model.repair import Cause, LatentPath, Repair, Twin, Verdict
from daemon.model.root_cause import Incident, Neighbour, RootCause
from tests.adapters.admin.fleet import ASSETS, SENSORS

START = 1_772_600_000 * SECOND_NS
ROWS, WINDOW = 90, slice(60, 76)


def explained(asset: str = ASSETS[0], sensors: tuple[str, ...] = SENSORS) -> RootCause:
    """An episode of one hour in which two sensors of six are to blame."""
    rng = np.random.default_rng(0)
    times = START + np.arange(ROWS) * 60 * SECOND_NS
    observed = 40 + rng.normal(size=(ROWS, 6)).cumsum(axis=0)
    blank = np.full((ROWS, 6), np.nan)
    twin = Twin(blank.copy(), blank.copy(), blank.copy())
    for c in (0, 1):
        for part, off in ((twin.value, 0.0), (twin.low, -1.0), (twin.high, 1.0)):
            part[40:, c] = observed[40:, c] - 5 + off
    onset, peak = int(times[50]), int(times[75])
    return RootCause(
        stream="compressors", asset=asset, model="5f3a9c1e77b20d41", sensors=sensors, period_ns=60 * SECOND_NS,
        incident=Incident(asset, "f00d", ("a1e47",), onset, onset, int(times[89]), False, peak, ()),
        row_ns=peak, threshold=4.4,
        verdict=Verdict(Cause.PROCESS_FAULT, 7.0, 2.0, 0.1),
        repair=Repair((0, 1), 14.6, 1.9, 3.9, 2, 0, 21),
        shares=np.array([0.5, 0.3, 0.1, 0.05, 0.05, 0.0]), times_ns=times, scores=np.linspace(1, 14.6, ROWS),
        observed=observed, expected=observed + 0.1, twin=twin, window=WINDOW, reconstruction=observed[WINDOW] - 2,
        path=LatentPath((3, 1), rng.normal(size=(20, 2)).cumsum(axis=0)), path_times_ns=times[50:70],
        nearest=(
            Neighbour(ASSETS[1], "beef", START, 0.87, (SENSORS[3], SENSORS[4]), "real", "the cooler's valve was stuck"),
            Neighbour("pump-01", "cafe", START, 0.14, (SENSORS[5],), None, None),
        ),
        notes=("the file ends within the episode",),
    )  # fmt: skip
