"""Adam and the learning rate."""

from __future__ import annotations

import numpy as np
import torch

from daemon.model.optimiser import Adam, one_cycle, steps_for


def test_adam_is_torchs_adam() -> None:
    g = torch.Generator().manual_seed(0)
    start = {"a": torch.randn(5, 3, generator=g), "b": torch.randn(7, generator=g)}
    mine = {name: value.clone() for name, value in start.items()}
    theirs = {name: value.clone().requires_grad_(True) for name, value in start.items()}
    adam = Adam(mine, slow=("b",))
    reference = torch.optim.Adam([{"params": [theirs["a"]]}, {"params": [theirs["b"]], "lr": 1e-3}], lr=1e-2)
    for _ in range(20):
        for weights in (mine, theirs):
            (weights["a"].square().sum() + (weights["b"] - 1.0).abs().sum()).backward()
        adam.step(1e-2)
        reference.step()
        reference.zero_grad()
    for name in start:
        np.testing.assert_allclose(mine[name].detach(), theirs[name].detach(), atol=1e-6)


def test_the_rate_rises_and_falls() -> None:
    rates = [one_cycle(step, 100) for step in range(100)]
    assert np.argmax(rates) == 30
    assert rates[0] < 0.1 * max(rates)
    assert rates[-1] < 0.01 * max(rates)
    assert steps_for(1_499) < steps_for(1_500)
