"""Which sensors carry a drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.detector import Scaling
from daemon.domain import Contributor, Floats

MOST_OF_IT = 0.9
"""The share of a drift that the sensors which are named have together."""


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """How far the sensors have moved in an interval; levels in training sd from the training mean."""

    residual_kl: Floats  # (C,) nats
    reading_kl: Floats  # (C,) nats: a latent has no sensor of its own
    residual_excess: float  # how many thresholds high the residuals' KL is in total; 0 up to the threshold
    latent_excess: float  # likewise the latents'
    observed: Floats  # (C,) mean of the readings
    decoded: Floats  # (C,) mean of what the model expected
    usual: Floats  # (C,) mean of the readings in training

    def carriers(self, sensors: Sequence[str], scaling: Scaling) -> list[Contributor]:
        """The fewest sensors that make up ``MOST_OF_IT`` of the drift, the largest share first.

        The residual's part and the latent part count in proportion to how far each is beyond its threshold. Observed
        is the mean of a sensor's readings; expected the mean of what the model decoded, or where its readings, rather than
        its residuals, have moved, the mean in training.
        """
        residual, latent = (
            excess * nats / max(float(nats.sum()), 1e-300)
            for nats, excess in (
                (self.residual_kl, self.residual_excess),
                (self.reading_kl, self.latent_excess),
            )
        )
        total = float((residual + latent).sum())
        if not total > 0:
            return []
        share = (residual + latent) / total
        observed = scaling.mean + scaling.scale * self.observed
        expected = scaling.mean + scaling.scale * np.where(residual >= latent, self.decoded, self.usual)
        named: list[Contributor] = []
        for c in np.argsort(-share, kind="stable").tolist():
            named.append(Contributor(sensors[c], float(observed[c]), float(expected[c]), float(share[c])))
            if sum(one.share for one in named) >= MOST_OF_IT:
                break
        return named


def leading(nats: Floats) -> list[int]:
    """The fewest dimensions that make up ``MOST_OF_IT`` of a KL, the largest first."""
    order = np.argsort(-nats, kind="stable")
    count = int(np.searchsorted(np.cumsum(nats[order]), MOST_OF_IT * nats.sum())) + 1
    return [int(one) for one in order[:count]]


def excess(nats: float, threshold: float) -> float:
    """How many thresholds high a KL is; 0 up to the threshold."""
    return nats / max(threshold, 1e-9) if nats > threshold else 0.0
