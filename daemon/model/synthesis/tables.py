"""The stored tables of a generator of synthetic series, and what fitting and generation share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from daemon.domain import (
    NO_CONDITION,
    Floats,
    Ints,
)
from daemon.model.reconstruction import Models

CANDIDATES = 8
"""Visits to choose from at a change: taken is one from the time of training that was drawn from least."""
GRID = np.linspace(-3.25, 3.25, 27)
"""Normal scores at which a noise's distribution is tabulated."""
KNOTS = 48
"""Points of each marginal map."""
_FIELDS_INT = ("path", "follows", "past", "label", "asset", "strata", "ends", "bridges", "regime", "first")
_FIELDS_DOUBLE = ("source", "target", "step", "values")


@dataclass(frozen=True, slots=True, eq=False)
class Synthesis:
    """The tables. n windows on the path, K cells, G regimes, h rows per hop, scaled units.

    ``names`` are the assets that ``asset`` counts; ``label`` counts the bundle's conditions.
    """

    path: Ints  # (n,) the cell of each window
    follows: Ints  # (n,) the window one hop later; -1 at an end
    past: Ints  # (n,) the cluster of the last four windows' way: visits alike in it are exchanged
    label: Ints  # (n,) condition, -1: none
    asset: Ints  # (n,)
    strata: Ints  # (n,) the windows in order of time
    ends: Ints  # (e,) windows at the end of a run, ascending
    bridges: Ints  # (e, CANDIDATES) from where a series may continue there
    mean: Floats  # (Z0,) of the posterior means
    turn: Floats  # (Z, Z0) whitened latents to latents
    centre: Floats  # (K, Z)
    spread: Floats  # (K,)
    carry: Floats  # (2, Z, Z) v to the next v: moving, staying
    push: Floats  # (2, Z, Z) Cholesky factors of the innovations
    regime: Ints  # (K,)
    level: Floats  # (K, 2h, C) readings minus the decoder's cell means, faded as windows are
    slope: Floats  # (G, C)
    scale: Floats  # (K, C) of the noise
    noise: Floats  # (G, C, len(GRID)) quantiles of noise / scale
    rho: Floats  # (G, C) autocorrelation of the noise's normal scores
    mix: Floats  # (G, C, C) normal draws to innovations
    wander: Floats  # (G, C) standard deviation of a series' own level
    together: Floats  # (C, C) Cholesky factor of its correlation
    source: Floats  # (G, C, KNOTS) ascending
    target: Floats  # (G, C, KNOTS) raw units, ascending
    step: Floats  # (C,) resolution in raw units; 0: the values below, if any
    values: Floats  # ascending per sensor, one sensor after the other
    first: Ints  # (C + 1,) where in ``values`` a sensor's begin
    names: tuple[str, ...]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a bundle stores."""
        result: dict[str, NDArray[Any]] = {}
        for name in _ARRAYS:
            value = np.asarray(getattr(self, name))
            kind: type = np.float32
            if name in _FIELDS_INT:
                kind = np.int32
            elif name in _FIELDS_DOUBLE:
                kind = np.float64
            result[name] = np.ascontiguousarray(value.astype(kind))
        result["names"] = np.frombuffer("\x00".join(self.names).encode(), np.int8)
        return result

    @staticmethod
    def of(arrays: Mapping[str, NDArray[Any]]) -> Synthesis:
        """The inverse of ``arrays``."""
        whole: dict[str, Any] = {
            n: arrays[n].astype(np.int64 if n in _FIELDS_INT else np.float64) for n in _ARRAYS
        }
        return Synthesis(**whole, names=names_of(arrays["names"]))


_ARRAYS = tuple(f.name for f in dataclasses.fields(Synthesis) if f.name != "names")


def names_of(coded: NDArray[Any]) -> tuple[str, ...]:
    """The assets' names from their bytes in a bundle; UnicodeDecodeError if damaged."""
    return tuple(coded.tobytes().decode().split("\x00"))


def label_of(conditions: Sequence[str], label: int) -> str:
    return conditions[label] if label >= 0 else NO_CONDITION


def decode_latents(models: Models, latents: Floats, labels: Sequence[str]) -> Floats:
    """(B, Z) latents as the bundle's model orders them to (B, L*C) scaled windows."""
    z = torch.from_numpy(np.ascontiguousarray(latents, dtype=np.float32))
    decoded = models.decode(z, labels)
    return np.asarray(decoded.double().numpy())


def fade_weights(h: int) -> Floats:
    """(2h, 1) weights by which windows one hop apart add up to one; an odd window's last row has none."""
    up = (np.arange(h) + 0.5) / h
    return np.concatenate([up, up[::-1]])[:, None]
