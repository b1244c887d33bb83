"""What all sections of the page are drawn from: dimensions in use, their directions, regimes, start latents.

In: a bundle, and a ``Survey`` if there are readings. Out: ``LatentAnalysis``, computed once and not changed
by the sections.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from daemon.adapters.wording import decimals
from daemon.commands.explain.survey import Survey
from daemon.documents import short
from daemon.domain import (
    Floats,
    Ints,
    iso,
)
from daemon.model import latent
from daemon.model.bundle import Bundle


class LatentAnalysis:
    """A bundle, its regimes over the surveyed windows, and what each of its dimensions does from a start."""

    def __init__(self, bundle: Bundle, survey: Survey | None) -> None:
        self.bundle, self.survey = bundle, survey
        self.decimals = [decimals(float(sd)) for sd in bundle.models.scaler.scale]
        models, reference = bundle.models, bundle.drift
        self.condition = ""
        mean = None if survey is None else survey.seen.mean
        sample = latent.sample_of(reference, mean)
        if survey is not None and bundle.conditions:
            known = [label for label in survey.label if label in bundle.conditions]
            self.condition = max(sorted(set(known)), key=known.count) if known else ""
        self.effects = latent.shares(models, sample, latent.active(reference), reference, self.condition)
        self.plane: latent.Plane | None = None
        self.regimes: latent.Regimes | None = None
        self.start = reference.latent_mean
        self.usual = 0  # the regime with the most windows outside of episodes
        if survey is not None:
            self.plane = latent.plane(survey.seen.mean, self.effects, reference)
            self.regimes = latent.regimes(survey.seen.mean, ~survey.firing, self.plane, bundle.window)
            calm = np.bincount(self.regimes.of[~survey.firing], minlength=self.regimes.count)
            self.usual = int(calm.argmax())
            typical = int(self.regimes.typical[self.usual])
            self.start = survey.seen.mean[typical]
            self.condition = survey.label[typical]
        self.directions = latent.directions(models, reference, self.effects, self.start, self.condition)

    def reference(self) -> dict[str, Any]:
        """What the directions start from: a typical window of the usual regime, or the mean of training."""
        if self.survey is None or self.regimes is None:
            return {"what": "the mean of training", "asset": None, "time": None, "condition": self.condition}
        typical = int(self.regimes.typical[self.usual])
        what = f"a typical window of regime {self.usual + 1}"
        return {"what": what, **self.window(typical), "condition": self.condition}

    def real(self, value: float, sensor: int) -> float | None:
        """A value of a sensor, rounded to about a thousandth of its sd."""
        return round(value, self.decimals[sensor] + 1) + 0.0 if math.isfinite(value) else None

    def course(self, values: Floats, sensor: int) -> list[Any]:
        """A sensor's values as nested lists, rounded finely enough for a chart."""
        if values.ndim > 1:
            return [self.course(part, sensor) for part in values]
        places = self.decimals[sensor] + 2
        return [round(v, places) + 0.0 if math.isfinite(v) else None for v in values.tolist()]

    def window(self, index: int) -> dict[str, Any]:
        """Asset and time of a window of the survey."""
        assert self.survey is not None
        return {
            "asset": self.survey.assets[int(self.survey.asset[index])],
            "time": iso(int(self.survey.row[index]) * self.bundle.period_ns),
        }


def rounded(values: Floats, digits: int = 4) -> list[Any]:
    """Values as nested lists of short numbers, None for what is not finite."""
    if values.ndim > 1:
        return [rounded(part, digits) for part in values]
    return [short(float(v), digits) for v in values]


def milliseconds(rows: Ints, period_ns: int) -> list[int]:
    """The times of grid rows, in milliseconds since 1970."""
    return [int(row) * period_ns // 1_000_000 for row in rows.tolist()]
