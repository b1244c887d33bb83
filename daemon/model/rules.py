"""Rules that people add to a sensor, as they act on measurements: what they excuse counts as what was expected.

Per sensor: ``direction`` (only values above, or below, what is expected matter), ``min_deviation`` (smaller
distances do not, in the sensor's unit or as a share of the expected value) and ``ignore`` (context for the model,
never evidence). They act on every measurement, those of calibration's replays among them: the budget is not spent
on what is excused. A bundle keeps the rules that it was calibrated with, and judges by these.

* The residual of an excused cell is zero, in the error of its window as in the newest row.
* An ignored sensor has neither error nor residual. A window in which it shows a foreign value is measured as if it
  were missing, expected values included.
* A value that is off moves the latents, what is expected of the other sensors, and what is expected of its own sensor's
  other rows, which seem to lie on the other side then: a gross one at once, a small one where it lasts. So a sensor
  with a rule is compared with what the others let expect: once without those that show a gross value, once without all
  that have a rule. If its largest distance is excused, it is *innocent*. The window is measured again
  as if its innocent sensors were missing, and the smaller measurement counts: what is excused may explain the
  other sensors, but never accuse them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.domain import Floats, Mask
from daemon.mapping import AlertRule, Direction

GROSS = 3.0
"""Typical residuals beyond which a value may move by more than any other does what is expected elsewhere."""
FOREIGN = 5.0
"""Typical residuals beyond which a value is no noise: an ignored sensor that shows one is no context either."""


@dataclass(frozen=True, slots=True, eq=False)
class AlertRules:
    """The rules of C sensors. All arrays (C,)."""

    ignored: Mask
    above: Mask  # only values above the expected one matter
    below: Mask
    least: Floats  # distance that matters, in the sensor's unit
    share: Floats  # the same, as a share of the expected value

    @property
    def any(self) -> Mask:
        """Which sensors have a rule."""
        return np.asarray(self.ignored | self.above | self.below | (self.least > 0) | (self.share > 0))

    @staticmethod
    def of(rules: Sequence[AlertRule]) -> AlertRules | None:
        """Of one rule per sensor; None where none excuses anything."""
        if not any(rule.excuses for rule in rules):
            return None
        return AlertRules(
            np.array([rule.ignore for rule in rules]),
            np.array([rule.direction is Direction.ABOVE for rule in rules]),
            np.array([rule.direction is Direction.BELOW for rule in rules]),
            np.array([rule.min_deviation for rule in rules]),
            np.array([rule.min_share for rule in rules]),
        )

    @staticmethod
    def stated(sensors: Sequence[str], facts: Mapping[str, Any]) -> AlertRules | None:
        """Of a bundle's facts, by sensor in the keys of the configuration; see ``assembly.alert_rules``."""
        return AlertRules.of([AlertRule.of(facts.get(name, {})) for name in sensors])

    def excused(
        self, scaled: NDArray[np.float32], decoded: NDArray[np.float32], mean: Floats, scale: Floats
    ) -> Mask:
        """(B, L, C) which cells are excused.

        Args:
            scaled: (B, L, C) windows, NaN where missing.
            decoded: the same as expected.
            mean: (C,) of the scaler.
            scale: (C,) of the scaler; a distance times this is in the sensor's unit.
        """
        distance = (scaled - decoded) * scale
        excused = self.ignored | (self.above & (distance < 0.0)) | (self.below & (distance > 0.0))
        size = np.abs(distance)
        excused |= size < self.least
        if self.share.any():
            excused |= size < self.share * np.abs(decoded * scale + mean)
        return np.asarray(excused)
