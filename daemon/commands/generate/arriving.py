"""Synthetic rows as a stream receives them: of a rate the counter's level, of cosine and sine the angle, raw numbers.

The model draws what it is given (``stream.derivation``); messages and files have what sensors send, before scale and
offset, so that a stream with the same configuration can read them. In: a bundle, whose facts name counters and angles. Out: the names of
columns, and rows of the model turned into rows of these.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from daemon.domain import SECOND_NS, Floats
from daemon.mapping import Component
from daemon.model.bundle import Bundle
from daemon.runtime.compatibility import sensor_sections

FULL_TURN: Final = 360.0


class ArrivingRows:
    """Turns rows as the model draws them into rows as they arrive, stretch by stretch.

    Args:
        bundle: that draws them.
        assets: how many, A.

    Attributes:
        sensors: (S,) as received.
        modelled: (S,) the place of each among the C sensors of the model; of an angle, that of its cosine.
        seen: (S,) whether training saw any value of it.
    """

    def __init__(self, bundle: Bundle, assets: int) -> None:
        sections = sensor_sections(bundle)
        places = {name: c for c, name in enumerate(bundle.sensors)}
        self.sensors = tuple(sections)
        self.modelled = [
            places[name] if name in places else places[f"{name}.{Component.COS}"] for name in self.sensors
        ]
        self.seen = [bool(bundle.models.scaler.seen[c]) for c in self.modelled]
        self._period_s = bundle.period_ns / SECOND_NS
        self._counters = [s for s, rule in enumerate(sections.values()) if rule.get("counter")]
        self._angles = {
            s: _wrap(rule["angle"])
            for s, (name, rule) in enumerate(sections.items())
            if "angle" in rule and name not in places
        }
        self._levels = np.zeros((assets, len(self._counters)))
        self._scales = np.array([_number(rule.get("scale"), 1.0) or 1.0 for rule in sections.values()])
        self._offsets = np.array([_number(rule.get("offset"), 0.0) for rule in sections.values()])

    def sensor_of(self, place: int) -> str:
        """The name as received of a sensor of the model."""
        following = [s for s, c in enumerate(self.modelled) if c <= place]
        return self.sensors[following[-1]]

    def of(self, values: Floats) -> Floats:
        """(A, T, S) of rows (A, T, C) that follow those of the call before; NaN where the model draws none.

        A counter does not go down: a rate below zero counts as none. Of a gap its rows count nothing. The numbers are
        raw, as before scale and offset of their sensors.
        """
        found = values[:, :, self.modelled]
        for k, s in enumerate(self._counters):
            rates = np.nan_to_num(np.maximum(found[:, :, s], 0.0))
            levels = self._levels[:, k, None] + np.cumsum(rates * self._period_s, axis=1)
            self._levels[:, k] = levels[:, -1] if levels.shape[1] else self._levels[:, k]
            found[:, :, s] = np.where(np.isfinite(found[:, :, s]), levels, np.nan)
        for s, wrap in self._angles.items():
            c = self.modelled[s]
            turns = np.arctan2(values[:, :, c + 1], values[:, :, c]) / (2.0 * math.pi)
            found[:, :, s] = (turns % 1.0) * wrap
        return np.asarray((found - self._offsets) / self._scales)


def _wrap(found: object) -> float:
    """Where an angle wraps."""
    wrap = _number(found, FULL_TURN)
    return wrap if wrap > 0 else FULL_TURN


def _number(found: object, otherwise: float) -> float:
    """A finite number of a bundle's facts, which may hold anything."""
    usable = isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
    return float(found) if usable else otherwise  # type: ignore[arg-type]
