"""A small machine whose sensors move together, and a model of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from daemon.budget import Budget
from daemon.domain import SECOND_NS, AlarmPolicy, Floats, ModelSettings, Segment, StreamSpec
from daemon.model.bundle import Bundle
from daemon.model.training import CalibrationTarget, train

torch.set_num_threads(1)

SPEC = StreamSpec("pumps", ("Pressure", "Current", "Flow", "Idle"), period_ns=60 * SECOND_NS)
QUICK = ModelSettings(steps=60, hidden=(32, 16), latent=4)
TARGET = CalibrationTarget(AlarmPolicy(), Budget(1.0), 60)
VAES = ("mlp", "conv", "gru")
KINDS = (*VAES, "ppca")


def machine(rows: int, seed: int = 0, start: int = 0) -> Floats:
    """(rows, 4) raw: two cycles seen by three sensors with noise, and one constant."""
    rng = np.random.default_rng(seed)
    t = np.arange(start, start + rows)
    a, b = np.sin(t / 9.0), np.sin(t / 31.0 + 1.0)
    noise = rng.standard_normal((rows, 3))
    pressure = 200.0 + 30.0 * a + 2.0 * noise[:, 0]
    current = 5.0 + 1.0 * a * b + 0.5 * b + 0.1 * noise[:, 1]
    flow = 1e4 + 800.0 * b + 60.0 * noise[:, 2]
    return np.stack([pressure, current, flow, np.full(rows, 7.0)], 1)


def dropped(values: Floats, share: float, seed: int = 1) -> Floats:
    """The same with a share of cells, and half that share of whole rows, missing."""
    rng = np.random.default_rng(seed)
    holed = values.copy()
    holed[rng.random(values.shape) < share] = np.nan
    holed[rng.random(len(values)) < share / 2] = np.nan
    return holed


def trained(history: list[Segment], settings: ModelSettings = QUICK, **changes: object) -> Bundle:
    spec = replace(SPEC, **changes)  # type: ignore[arg-type]
    return train(history, spec, settings, TARGET)


@pytest.fixture(scope="session")
def bundles() -> Callable[[str], Bundle]:
    """Bundles by kind, each trained at its first use."""

    @cache
    def of(kind: str) -> Bundle:
        share = 0.0 if kind == "ppca" else 0.05
        history = [Segment("pump-1", 1_000, dropped(machine(1_500), share) if share else machine(1_500))]
        return trained(history, replace(QUICK, kind=kind))

    return of


@pytest.fixture(scope="session")
def bundle(bundles: Callable[[str], Bundle]) -> Bundle:
    return bundles("mlp")


@pytest.fixture(scope="session")
def linear(bundles: Callable[[str], Bundle]) -> Bundle:
    return bundles("ppca")
