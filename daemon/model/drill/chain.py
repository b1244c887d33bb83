"""What judges a fault: detector, alarm policy, the stream's own rules and its hop, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.detector import Detector
from daemon.domain import AlarmPolicy, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """The stream's rules that raise alerts without a score; in rows."""

    stuck_rows: Ints  # (C,) rows without a change after which ``sensor_stuck`` opens
    silent_rows: Ints  # (C,) rows without a value after which ``sensor_silent`` opens
    lasting_rows: int  # how long an injected fault of these kinds lasts


@dataclass(frozen=True, slots=True, eq=False)
class DetectionChain:
    """All that decides whether a fault raises an alert."""

    detector: Detector
    policy: AlarmPolicy
    rules: Rules
    hop: int = 1  # windows end at the rows whose number in the grid is a multiple of it
