"""The fire drill beside the stream: what of the stream's rules it needs, and its slices in the loop."""

from __future__ import annotations

import numpy as np

from daemon.domain import Detector, StreamSpec
from daemon.model.drill import DAY_NS, WATCHED, Rules
from daemon.stream.pipeline import STUCK_MARGIN


def rules_of(detector: Detector, spec: StreamSpec) -> Rules:
    """What a stream finds without a score, see ``Pipeline``; a fault lasts a day, or two windows if longer."""
    longest = np.minimum(detector.longest_constant, 1 << 60)
    return Rules(
        STUCK_MARGIN * np.maximum(longest, spec.window),
        max(spec.silent_after_ns // spec.period_ns, 1),
        max(DAY_NS // spec.period_ns, WATCHED * spec.window),
    )
