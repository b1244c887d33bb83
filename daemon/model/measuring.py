"""How far a window is from what the models expect: one deterministic pass (z = mu).

Two window lengths see more than one: a cheap pPCA over the newest 4 rows reacts to what is
sudden, the model over the whole window (the VAE, or pPCA where that was asked for) to what is
slow. Everything here is a pure function of a window; calibration and history come after.

**Gaps.** A channel's error over few cells scatters more than over many, so that gaps alone would
raise alarms (measured on ASD: 2.3 times as many with 30 % of cells lost). So a missing cell
counts as one typical squared residual: it neither raises nor hides. A channel without any
observed cell has no error at all.

**Batch independence.** Windows go through in chunks of at most 2048, padded to a multiple of
32, so that a window meets the same matrix kernels alone and in a crowd (narrow products need
more care: ``inference``); those with gaps and those without go through apart. So a window scores
alike to the last bit, and a replay, a restart and a live run can be compared by equality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daemon.domain import Floats, Ints, Mask
from daemon.model.inference import Inference
from daemon.model.pca import WindowPCA
from daemon.model.scaler import Scaler
from daemon.model.vae import VAE

CHUNK = 2048
CHUNK_CELLS = 524_288
"""Cells that go through at once, at most: about what a core's cache holds."""
PAD = 32
SHORT = 4
"""The short window length."""
LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What the models say of B windows, in scaled units, before calibration."""

    channel_error: Floats  # (S, B, C) RMS residual, missing cells as typical; NaN where none observed
    latent: Floats  # (S, B, 2) KL in nats (pPCA: squared norm) and largest |z|; NaN if nothing observed
    residual: Floats  # (B, C) newest row, NaN where missing
    newest: Floats  # (B, C) the model's newest row
    carried: Floats  # (B, C) residual at the newest observed cell of the channel; 0 if none
    distance: Floats  # (B, C) rows since that cell; L if none
    posterior: Floats  # (B, Z)
    elbo: Floats  # (B,) nats
    observed: Mask  # (B,) anything at all
    scaled: NDArray[np.float32]  # (B, L, C) the windows; (B, 0, C) unless asked for
    decoded: NDArray[np.float32]  # (B, L, C) as the long model sees them; likewise

    @staticmethod
    def concatenate(parts: Sequence[Measured]) -> Measured:
        """One after the other."""
        return Measured(
            **{
                name: np.concatenate([getattr(p, name) for p in parts], axis=int(name in BY_LENGTH))
                for name in Measured.__slots__
            }
        )

    def take(self, index: Ints) -> Measured:
        """Some of the windows, in the order asked for."""
        return Measured(
            **{
                name: getattr(self, name)[:, index] if name in BY_LENGTH else getattr(self, name)[index]
                for name in Measured.__slots__
            }
        )


BY_LENGTH = frozenset({"channel_error", "latent"})
"""Fields of ``Measured`` whose first axis is the window length, not the window."""


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """Scaler and models of one bundle: the uncalibrated half of a detector.

    ``lengths`` and ``pcas`` shortest first; ``vae`` reads the longest; ``sigma`` (C,) is the
    standard deviation of the long model's residuals in scaled units.
    """

    scaler: Scaler
    lengths: tuple[int, ...]
    pcas: tuple[WindowPCA, ...]
    vae: VAE | None
    sigma: Floats
    _inferences: tuple[Inference, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        vaes = [None] * (len(self.lengths) - 1) + [self.vae]
        made = tuple(Inference.of(pca, vae) for pca, vae in zip(self.pcas, vaes, strict=True))
        object.__setattr__(self, "_inferences", made)

    @property
    def window(self) -> int:
        """The longest length, L."""
        return self.lengths[-1]

    @property
    def kind(self) -> str:
        """``mlp``, ``conv`` or ``gru`` where a VAE judges the long windows, ``ppca`` where its skip alone does."""
        return "ppca" if self.vae is None else self.vae.kind

    @property
    def latents(self) -> int:
        """Z of the long model."""
        return self.pcas[-1].latents + (self.vae.latent if self.vae else 0)

    def measure(self, values: Floats, conditions: Sequence[str], keep: bool = False) -> Measured:
        """Measure raw windows (B, L, C), NaN where missing, with their B condition labels.

        ``keep`` keeps the windows themselves, scaled and decoded (imputation wants them).
        """
        return self.measure_standard(self.scaler.scaled(values), conditions, keep)

    def measure_standard(
        self, standard: NDArray[np.float32], conditions: Sequence[str], keep: bool = False
    ) -> Measured:
        """``measure`` of windows that are in the scaler's units already, clipped or not."""
        # Clipped chunk by chunk: what is written here is still in the cache when it is read.
        parts = [
            self._chunk(self.scaler.clipped(standard[some]), conditions[some], keep)
            for some in _chunks(standard)
        ]
        return parts[0] if len(parts) == 1 else Measured.concatenate(parts)

    def _chunk(self, scaled: NDArray[np.float32], conditions: Sequence[str], keep: bool) -> Measured:
        cells = scaled.reshape(len(scaled), scaled.shape[1] * scaled.shape[2])
        holed = np.isnan(cells @ np.ones(cells.shape[1], cells.dtype))  # a NaN shows in the sum, in one pass
        if holed.all() or not holed.any():
            return self._measure(scaled, conditions, keep, bool(holed.any()))
        # Gaps take another path through the arithmetic, equal but for the last digits: whether a
        # window takes it must not depend on its neighbours.
        groups = [np.flatnonzero(~holed), np.flatnonzero(holed)]
        parts = [
            self._measure(scaled[i], [conditions[k] for k in i.tolist()], keep, gaps)
            for i, gaps in zip(groups, (False, True), strict=True)
        ]
        return Measured.concatenate(parts).take(np.argsort(np.concatenate(groups)))

    def reconstruct(self, scaled: NDArray[np.float32]) -> Floats:
        """Scaled windows (B, L, C), NaN where missing, as the long model sees all their cells.

        For whoever learns from the model in training; a condition counts as unknown.
        """
        decoded = []
        for some in _chunks(scaled):
            chunk, conditions = _padded(scaled[some], ("",) * CHUNK)
            x, gaps = _tensors(chunk, True)
            with torch.inference_mode():
                filled = x if gaps is None else self.pcas[-1].fill(x, gaps)
                codes = None if self.vae is None else self.vae.codes(conditions)
                found = self._inferences[-1](filled, gaps, codes)
                decoded.append((filled - found.residual).numpy().astype(float))
        return np.concatenate(decoded)[: len(scaled)].reshape(scaled.shape)

    def _measure(
        self, scaled: NDArray[np.float32], conditions: Sequence[str], keep: bool, holed: bool
    ) -> Measured:
        count, _, channels = scaled.shape
        scaled, conditions = _padded(scaled, conditions)
        codes = None if self.vae is None else self.vae.codes(conditions)
        errors, latents = [], []
        sigma = torch.from_numpy(self.sigma).float()
        with torch.inference_mode():
            for length, infer in zip(self.lengths, self._inferences, strict=True):
                x, gaps = _tensors(scaled[:, -length:], holed)
                filled = x if gaps is None else infer.pca.fill(x, gaps)
                found = infer(filled, gaps, codes)
                z, residual = found.z, found.residual
                squares = residual.square().reshape(len(x), length, channels)
                if gaps is None:
                    cells, nothing = torch.full((1, 1), length), None
                    total = squares.sum(1)  # (B, C)
                    error = (total / length).sqrt()
                else:
                    seen = (~gaps).reshape(squares.shape)
                    cells, nothing = seen.sum(1), ~seen.flatten(1).any(1)
                    total = torch.where(seen, squares, 0.0).sum(1)
                    typical = (length - cells) * sigma.square()
                    error = torch.where(cells > 0, ((total + typical) / length).sqrt(), torch.nan)
                largest = z.abs().amax(1) if z.shape[1] else torch.zeros(len(z))
                latent = torch.stack([found.score, largest], 1)
                if nothing is not None:
                    latent = torch.where(nothing[:, None], torch.nan, latent)
                errors.append(error[:count].double().numpy())
                latents.append(latent[:count].double().numpy())
            # Of the longest length, which comes last.
            each = 0.5 * total / sigma.square() + cells * (sigma.log() + 0.5 * LOG_2PI)
            elbo = -each.sum(1) - found.nats
            shape = (len(x), self.window, channels)
            newest = (filled - residual if keep else filled[:, -channels:] - residual[:, -channels:])[:count]
            rows = (residual if gaps is None else residual.masked_fill(gaps, torch.nan)).reshape(shape)
        carried, distance = _newest_observed(rows[:count].numpy())
        observed = np.ones(count, bool) if nothing is None else ~nothing[:count].numpy()
        return Measured(
            channel_error=np.stack(errors),
            latent=np.stack(latents),
            residual=rows[:count, -1].double().numpy(),
            newest=newest[:, -channels:].double().numpy(),
            carried=carried,
            distance=distance,
            posterior=z[:count].double().numpy(),
            elbo=np.where(observed, elbo[:count].double().numpy(), np.nan),
            observed=observed,
            scaled=scaled[:count] if keep else scaled[:count, :0],
            decoded=newest.reshape(count, self.window if keep else 1, channels)[
                :, : self.window if keep else 0
            ].numpy(),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """What a bundle stores."""
        result = {f"scaler.{k}": v for k, v in self.scaler.arrays().items()}
        for length, pca in zip(self.lengths, self.pcas, strict=True):
            result.update({f"pca.{length}.{k}": v for k, v in pca.arrays().items()})
        if self.vae is not None:
            result.update({f"vae.{k}": v for k, v in self.vae.arrays().items()})
        result["sigma"] = self.sigma
        return result


def _chunks(scaled: NDArray[np.float32]) -> list[slice]:
    """What of (B, L, C) windows goes through at once; at least one, be it empty."""
    cells = max(scaled.shape[1] * scaled.shape[2], 1)
    size = min(max(CHUNK_CELLS // cells // PAD, 1) * PAD, CHUNK)
    return [slice(at, at + size) for at in range(0, max(len(scaled), 1), size)]


def _padded(
    scaled: NDArray[np.float32], conditions: Sequence[str]
) -> tuple[NDArray[np.float32], Sequence[str]]:
    """Windows and as many of the conditions, padded to a multiple of 32, at least 32."""
    conditions = conditions[: len(scaled)]
    short = -len(scaled) % PAD if len(scaled) else PAD
    if not short:
        return scaled, conditions
    padding = np.zeros((short, *scaled.shape[1:]), np.float32)
    return np.concatenate([scaled, padding]), [*conditions, *[""] * short]


def _tensors(scaled: NDArray[np.float32], holed: bool) -> tuple[Tensor, Tensor | None]:
    """(B, L, C) to (B, L*C) and where NaN stands; None where nowhere (``holed`` says it may)."""
    x = torch.from_numpy(np.ascontiguousarray(scaled)).flatten(1)
    if not holed:
        return x, None
    gaps = x.isnan()
    return (x, gaps) if bool(gaps.any()) else (x, None)


def _newest_observed(residual: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Residual (B, C) of each channel's newest observed cell in (B, L, C), and its age in rows."""
    length = residual.shape[1]
    newest = residual[:, -1]
    if not np.isnan(newest).any():
        return newest.astype(float), np.zeros(newest.shape)
    seen = np.isfinite(residual[:, ::-1])
    age = np.where(seen.any(1), seen.argmax(1), length)  # (B, C)
    at = np.clip(length - 1 - age, 0, None)
    carried = np.take_along_axis(residual, at[:, None, :], 1)[:, 0]
    return np.where(age < length, carried, 0.0).astype(float), age.astype(float)
