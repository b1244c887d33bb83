"""The optimiser of the VAE's training: Adam with clipped gradients, and the one-cycle learning rate.

``vae`` calls it; every step is deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

RATE = 2e-3  # peak of the one-cycle schedule
SKIP_RATE = 0.1  # the skip's share of the rate
CLIP_NORM = 50.0
CONDITION_DECAY = 5.0
"""What a condition's vectors lose per unit of rate (Loshchilov & Hutter 2019): 1 % a step at the peak, so
that they keep only what a hundred consecutive steps repeat. Without it they overfit short histories: with
the hour of day as condition, two weeks of an air handler were less likely than without."""


class Adam:
    """Adam (Kingma & Ba 2015) over named tensors, with the gradient's norm clipped.

    All state is one flat vector, so that a step is ten operations however many tensors there
    are; and torch.optim, which loads torch's compiler (over a second, 100 MB), is not imported.
    """

    def __init__(self, weights: dict[str, Tensor], slow: Sequence[str], decayed: Sequence[str] = ()) -> None:
        """Move the storage of ``weights`` into one vector; ``slow`` learn at a tenth of the rate, ``decayed`` decay."""
        size = sum(-(-tensor.numel() // 16) * 16 for tensor in weights.values())
        self._values, self._gradient = torch.zeros(size), torch.zeros(size)
        self._first, self._second = torch.zeros(size), torch.zeros(size)
        self._pace = torch.ones(size)
        self._decayed: list[Tensor] = []
        self._steps = 0
        at = 0
        for name, tensor in weights.items():
            part = slice(at, at + tensor.numel())
            at += -(-tensor.numel() // 16) * 16  # matrix kernels like aligned starts
            self._values[part] = tensor.flatten()
            if name in slow:
                self._pace[part] = SKIP_RATE
            leaf = self._values[part].view_as(tensor).detach().requires_grad_(True)
            leaf.grad = self._gradient[part].view_as(tensor)  # backward adds into the flat vector
            weights[name] = leaf
            if name in decayed:
                self._decayed.append(self._values[part])

    def step(self, rate: float) -> None:
        """Update by the accumulated gradient, and clear it."""
        self._steps += 1
        g = self._gradient
        norm = float(g.norm())
        if norm > CLIP_NORM:
            g.mul_(CLIP_NORM / norm)
        self._first.lerp_(g, 0.1)
        self._second.mul_(0.999).addcmul_(g, g, value=0.001)
        debias = math.sqrt(1.0 - 0.999**self._steps)
        spread = self._second.sqrt().div_(debias).add_(1e-8)
        self._values.addcdiv_(self._first * self._pace, spread, value=-rate / (1.0 - 0.9**self._steps))
        g.zero_()
        for values in self._decayed:
            values.mul_(1.0 - rate * CONDITION_DECAY)


def steps_for(windows: int) -> int:
    """Optimiser steps by the training rule: 400, from 1,500 windows on 800.

    More steps gained nothing in ranking; with fewer the path stays inactive.
    """
    return 800 if windows >= 1_500 else 400


def one_cycle(step: int, steps: int) -> float:
    """Learning rate: up to the peak over the first 30 %, then down along a cosine."""
    rise = 0.3 * steps
    if step < rise:
        return RATE * (0.05 + 0.95 * 0.5 * (1.0 - math.cos(math.pi * step / rise)))
    return RATE * (0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(steps - rise, 1))) + 1e-4)
