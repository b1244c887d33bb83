"""Scored rows whose evidence of each sensor is given."""

from __future__ import annotations

import numpy as np

from daemon.stream.alert_messages import ScoredEvidence
from daemon.stream.attribution import SCORED, SensorEvidence

SENSORS = ("Pressure", "Current", "Flow")
NAN = float("nan")


def sensors(
    error: object, residual: object, deviation: object, before: object = 0.0, jump: object = SCORED
) -> SensorEvidence:
    """One row's; observed is the deviation and 0 expected."""
    far = np.array(deviation, float)
    same = [
        np.broadcast_to(np.asarray(one, float), far.shape) for one in (error, residual, before, 0.0, jump)
    ]
    return SensorEvidence(same[0], same[1], far, same[2], far, same[3], same[4])


def scored_row(
    row: int, score: float, error: list[float], observed: list[float] | None = None
) -> ScoredEvidence:
    seen = np.array(observed or error)
    return ScoredEvidence(row, score, {}, sensors(error, error, seen), 0.0, row, row)
