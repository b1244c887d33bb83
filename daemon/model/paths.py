"""The nonlinear path of the VAE, in three kinds behind one interface.

A path reads a window into features and writes a window from latents; the rest of the VAE (the linear skip,
the posterior, sigma, the loss, the training) is the same for all kinds (``vae``).

    mlp    the window as one vector: dense layers of widths ``hidden``, mirrored in the decoder
    conv   along time: convolutions of 3 steps that halve the length, one per width of ``hidden``;
           the decoder doubles it again. The same pattern is the same feature at any of the steps,
           but its position is kept: the last layer's steps are not pooled
    gru    along time: each step through dense layers of all widths of ``hidden`` but the last, which
           is the width of one gated recurrent unit (Cho et al. 2014); its last state are the features.
           The decoder unrolls from the latents, newest step first: what the encoder read last, and
           what a score needs most, is then nearest (Srivastava et al. 2015)

Invariants of every path:

* ``write`` ends in zeros before training, so that training starts at the linear skip alone.
* A gap is a zero in the values and a one in the gap mask; for a window without gaps ``gaps`` is None and
  the mask costs nothing.
* The condition is a learned vector per label, added where the values first enter, in both halves.
* No window depends on another: no batch normalisation, and every product is one matrix product per step
  over the batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear, pad, silu

Weights = dict[str, Tensor]
Draw = Callable[[tuple[int, ...], int], Tensor]
"""(shape, fan in) to start values, uniform in +-1/sqrt(fan in)."""

KERNEL = 3
STRIDE = 2


class Path(Protocol):
    """Both halves of a nonlinear path; stateless, the weights are passed in."""

    @property
    def features(self) -> int:
        """H, the number of features."""
        ...

    def reader(self, draw: Draw) -> Weights:
        """Start weights of ``read``, named ``encoder...``."""
        ...

    def writer(self, draw: Draw) -> Weights:
        """Start weights of ``write``, named ``decoder...`` and ``output...``."""
        ...

    def conditions(self, draw: Draw, count: int) -> Weights:
        """Start vectors of ``count`` condition codes, for both halves."""
        ...

    def read(self, w: Weights, shown: Tensor, gaps: Tensor | None, codes: Tensor | None) -> Tensor:
        """Centred windows (B, L*C), zero in their gaps, to features (B, H).

        Args:
            w: the weights.
            shown: (B, L*C).
            gaps: (B, L*C) bool, or None where no cell is missing.
            codes: (B,) condition codes, or None without condition.
        """
        ...

    def write(self, w: Weights, z: Tensor, codes: Tensor | None) -> Tensor:
        """Latents (B, Z) of the path to their part of the window, (B, L*C)."""
        ...


def path_of(kind: str, length: int, channels: int, hidden: Sequence[int], latent: int) -> Path:
    """The path of a kind.

    Raises:
        ValueError: if there is no such kind, or no hidden layer.
    """
    if not hidden:
        raise ValueError("a VAE needs at least one hidden layer")
    kinds: dict[str, type[Dense] | type[Convolutional] | type[Recurrent]] = {
        "mlp": Dense,
        "conv": Convolutional,
        "gru": Recurrent,
    }
    if kind not in kinds:
        raise ValueError(f"no VAE of kind {kind!r}; there are {', '.join(kinds)}")
    return kinds[kind](length, channels, tuple(hidden), latent)


def dense(draw: Draw, name: str, inputs: int, outputs: int) -> Weights:
    """Weight and bias of one dense layer."""
    return {f"{name}.weight": draw((outputs, inputs), inputs), f"{name}.bias": draw((outputs,), inputs)}


def first_layer(draw: Draw, width: int, inputs: int) -> Weights:
    """The encoder's first layer: weights of the values and of the gap mask, and their common bias."""
    return {
        "encoder.0.values": draw((width, inputs), inputs),
        "encoder.0.gaps": draw((width, inputs), inputs),
        "encoder.0.bias": draw((width,), inputs),
    }


def further_layers(draw: Draw, half: str, widths: Sequence[int], steps: int = 1) -> Weights:
    """The layers after the first of a half (``encoder`` or ``decoder``), each reading ``steps`` steps at once."""
    w: Weights = {}
    for i, (a, b) in enumerate(itertools.pairwise(widths), start=1):
        w |= dense(draw, f"{half}.{i}", steps * a, b)
    return w


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that every path has: L, C, the widths of the hidden layers, Z."""

    length: int
    channels: int
    hidden: tuple[int, ...]
    latent: int

    @property
    def features(self) -> int:
        """H, the width of the last hidden layer."""
        return self.hidden[-1]


@dataclass(frozen=True, slots=True)
class Dense(Sizes):
    """``mlp``."""

    def reader(self, draw: Draw) -> Weights:
        """See ``Path``."""
        entry = first_layer(draw, self.hidden[0], self.length * self.channels)
        return entry | further_layers(draw, "encoder", self.hidden)

    def writer(self, draw: Draw) -> Weights:
        """See ``Path``."""
        d, mirrored = self.length * self.channels, self.hidden[::-1]
        w = dense(draw, "decoder.0", self.latent, mirrored[0]) | further_layers(draw, "decoder", mirrored)
        return w | {"output.weight": torch.zeros(d, mirrored[-1]), "output.bias": torch.zeros(d)}

    def conditions(self, draw: Draw, count: int) -> Weights:
        """See ``Path``."""
        return {
            "encoder.0.condition": draw((count, self.hidden[0]), self.length * self.channels),
            "decoder.0.condition": draw((count, self.hidden[-1]), self.latent),
        }

    def read(self, w: Weights, shown: Tensor, gaps: Tensor | None, codes: Tensor | None) -> Tensor:
        """See ``Path``."""
        entered = linear(shown, w["encoder.0.values"], w["encoder.0.bias"])
        return self.after_first(w, entered, gaps, codes)

    def after_first(self, w: Weights, entered: Tensor, gaps: Tensor | None, codes: Tensor | None) -> Tensor:
        """``read`` from the first layer's output of the values alone, (B, first of ``hidden``)."""
        h = entered
        if gaps is not None:
            h = h + linear(gaps.to(h.dtype), w["encoder.0.gaps"])
        if codes is not None:
            h = h + w["encoder.0.condition"][codes]
        h = silu(h)
        for i in range(1, len(self.hidden)):
            h = silu(linear(h, w[f"encoder.{i}.weight"], w[f"encoder.{i}.bias"]))
        return h

    def write(self, w: Weights, z: Tensor, codes: Tensor | None) -> Tensor:
        """See ``Path``."""
        return linear(self.before_last(w, z, codes), w["output.weight"], w["output.bias"])

    def before_last(self, w: Weights, z: Tensor, codes: Tensor | None) -> Tensor:
        """The input of the last layer of ``write``, (B, first of ``hidden``)."""
        h = linear(z, w["decoder.0.weight"], w["decoder.0.bias"])
        if codes is not None:
            h = h + w["decoder.0.condition"][codes]
        h = silu(h)
        for i in range(1, len(self.hidden)):
            h = silu(linear(h, w[f"decoder.{i}.weight"], w[f"decoder.{i}.bias"]))
        return h


@dataclass(frozen=True, slots=True)
class Convolutional(Sizes):
    """``conv``. Steps along the layers: L, ceil(L/2), ceil(L/4), ..."""

    steps: tuple[int, ...] = field(init=False)  # of each layer, the window's first

    def __post_init__(self) -> None:
        steps = [self.length]
        for _ in self.hidden:
            steps.append(-(-steps[-1] // STRIDE))
        object.__setattr__(self, "steps", tuple(steps))

    @property
    def features(self) -> int:
        """H: the last layer's steps times its width."""
        return self.steps[-1] * self.hidden[-1]

    def reader(self, draw: Draw) -> Weights:
        """See ``Path``."""
        entry = first_layer(draw, self.hidden[0], KERNEL * self.channels)
        return entry | further_layers(draw, "encoder", self.hidden, KERNEL)

    def writer(self, draw: Draw) -> Weights:
        """See ``Path``."""
        mirrored = self.hidden[::-1]
        w = dense(draw, "decoder.0", self.latent, self.features)
        w |= further_layers(draw, "decoder", mirrored, KERNEL)
        return w | {
            "output.weight": torch.zeros(self.channels, KERNEL * mirrored[-1]),
            # A bias per step: a convolution alone does not distinguish the window's steps.
            "output.bias": torch.zeros(self.length * self.channels),
        }

    def conditions(self, draw: Draw, count: int) -> Weights:
        """See ``Path``."""
        return {
            "encoder.0.condition": draw((count, self.hidden[0]), KERNEL * self.channels),
            "decoder.0.condition": draw((count, self.features), self.latent),
        }

    def read(self, w: Weights, shown: Tensor, gaps: Tensor | None, codes: Tensor | None) -> Tensor:
        """See ``Path``."""
        steps = shown.view(-1, self.length, self.channels)  # (B, L, C)
        h = linear(_around(steps, STRIDE), w["encoder.0.values"], w["encoder.0.bias"])
        if gaps is not None:
            holes = gaps.to(h.dtype).view(steps.shape)
            h = h + linear(_around(holes, STRIDE), w["encoder.0.gaps"])
        if codes is not None:
            h = h + w["encoder.0.condition"][codes].unsqueeze(1)
        h = silu(h)  # (B, steps, width)
        for i in range(1, len(self.hidden)):
            h = silu(linear(_around(h, STRIDE), w[f"encoder.{i}.weight"], w[f"encoder.{i}.bias"]))
        return h.flatten(1)

    def write(self, w: Weights, z: Tensor, codes: Tensor | None) -> Tensor:
        """See ``Path``."""
        h = linear(z, w["decoder.0.weight"], w["decoder.0.bias"])
        if codes is not None:
            h = h + w["decoder.0.condition"][codes]
        h = silu(h).view(-1, self.steps[-1], self.hidden[-1])  # (B, steps, width)
        for i in range(1, len(self.hidden)):
            h = _around(_doubled(h, self.steps[-1 - i]), 1)
            h = silu(linear(h, w[f"decoder.{i}.weight"], w[f"decoder.{i}.bias"]))
        h = linear(_around(_doubled(h, self.length), 1), w["output.weight"])  # (B, L, C)
        return h.flatten(1) + w["output.bias"]


def _around(h: Tensor, stride: int) -> Tensor:
    """(B, steps, width) to (B, ceil(steps/stride), 3*width): every ``stride``-th step with its neighbours.

    A convolution is then one matrix product: as fast, for layers as small as these, as a
    convolution kernel, and a window's result cannot depend on which kernel its batch was given.
    Steps beyond either end are zeros.
    """
    steps = h.shape[1]
    padded = pad(h, (0, 0, 1, 1))
    return torch.cat([padded[:, i : i + steps : stride] for i in range(KERNEL)], 2)


def _doubled(h: Tensor, steps: int) -> Tensor:
    """(B, ceil(steps/2), width) to (B, steps, width), each step shown twice."""
    return h.unsqueeze(2).expand(-1, -1, STRIDE, -1).flatten(1, 2)[:, :steps]


@dataclass(frozen=True, slots=True)
class Recurrent(Sizes):
    """``gru``. Width H of the recurrence is the last of ``hidden``."""

    def reader(self, draw: Draw) -> Weights:
        """See ``Path``."""
        H = self.features
        widths = (*self.hidden[:-1], 3 * H)  # the last dense layer is the recurrence's own input
        w = first_layer(draw, widths[0], self.channels) | further_layers(draw, "encoder", widths)
        return w | dense(draw, "encoder.recurrent", H, 3 * H)

    def writer(self, draw: Draw) -> Weights:
        """See ``Path``."""
        H, mirrored = self.features, self.hidden[::-1]
        w = dense(draw, "decoder.start", self.latent, H)
        w |= dense(draw, "decoder.0", self.latent, 3 * H)
        w |= dense(draw, "decoder.recurrent", H, 3 * H)
        w |= further_layers(draw, "decoder", mirrored)
        return w | {
            "output.weight": torch.zeros(self.channels, mirrored[-1]),
            "output.bias": torch.zeros(self.channels),
        }

    def conditions(self, draw: Draw, count: int) -> Weights:
        """See ``Path``."""
        first = (*self.hidden[:-1], 3 * self.features)[0]
        return {
            "encoder.0.condition": draw((count, first), self.channels),
            "decoder.0.condition": draw((count, 3 * self.features), self.latent),
        }

    def read(self, w: Weights, shown: Tensor, gaps: Tensor | None, codes: Tensor | None) -> Tensor:
        """See ``Path``."""
        steps = self._by_step(shown)  # (L, B, C)
        x = linear(steps, w["encoder.0.values"], w["encoder.0.bias"])
        if gaps is not None:
            x = x + linear(self._by_step(gaps.to(x.dtype)), w["encoder.0.gaps"])
        if codes is not None:
            x = x + w["encoder.0.condition"][codes]
        for i in range(1, len(self.hidden)):
            x = linear(silu(x), w[f"encoder.{i}.weight"], w[f"encoder.{i}.bias"])
        h = shown.new_zeros(shown.shape[0], self.features)
        for step in x.unbind(0):
            h = _gated(w, "encoder.recurrent", step, h)
        return h

    def write(self, w: Weights, z: Tensor, codes: Tensor | None) -> Tensor:
        """See ``Path``."""
        h = linear(z, w["decoder.start.weight"], w["decoder.start.bias"]).tanh()
        x = linear(z, w["decoder.0.weight"], w["decoder.0.bias"])  # the same at every step
        if codes is not None:
            x = x + w["decoder.0.condition"][codes]
        states = []
        for _ in range(self.length):
            h = _gated(w, "decoder.recurrent", x, h)
            states.append(h)
        y = torch.stack(states[::-1], 1)  # (B, L, H), newest last again
        for i in range(1, len(self.hidden)):
            y = silu(linear(y, w[f"decoder.{i}.weight"], w[f"decoder.{i}.bias"]))
        return linear(y, w["output.weight"], w["output.bias"]).flatten(1)

    def _by_step(self, flat: Tensor) -> Tensor:
        """(B, L*C) to (L, B, C)."""
        return flat.view(-1, self.length, self.channels).transpose(0, 1)


def _gated(w: Weights, name: str, x: Tensor, h: Tensor) -> Tensor:
    """One step of a gated recurrent unit.

    Args:
        w: weights; ``name`` is those of the state.
        name: the unit's.
        x: (B, 3H) the step's input, already through its dense layer: reset, update, candidate.
        h: (B, H) state.

    Returns:
        (B, H) the next state.
    """
    width = h.shape[1]
    y = linear(h, w[f"{name}.weight"], w[f"{name}.bias"])
    reset, update = (x[:, : 2 * width] + y[:, : 2 * width]).sigmoid().chunk(2, dim=1)  # (B, H) each
    candidate = (x[:, 2 * width :] + reset * y[:, 2 * width :]).tanh()
    return torch.lerp(candidate, h, update)
