"""Drift of single assets, as drift records and records of state have it (``domain.DriftRecord``)."""

from __future__ import annotations

from typing import NamedTuple


class DriftingAsset(NamedTuple):
    """An asset beyond its thresholds in one of its drift intervals. KL is in nats, in total."""

    asset: str
    start_ns: int  # event time: of what was added up, about
    end_ns: int  # of the interval
    windows: int
    latent_kl: float
    latent_threshold: float
    residual_kl: float
    residual_threshold: float
    sensors: list[str]  # that carry it, the largest share first
    dimensions: list[int]  # the latents with most of the latent KL, the largest first

    @property
    def excess(self) -> float:
        """How many thresholds it is high."""
        return max(
            self.latent_kl / max(self.latent_threshold, 1e-9),
            self.residual_kl / max(self.residual_threshold, 1e-9),
        )


class FleetDrift(NamedTuple):
    """The assets of a partition at the end of one of its drift intervals."""

    judged: int = 0  # assets whose drift was measured lately
    drifting: int = 0  # of these, beyond their thresholds
    moves: bool = (
        False  # so many that it is no matter of single assets: their windows are in the record's sums
    )
    assets: tuple[
        DriftingAsset, ...
    ] = ()  # those that drift, by name; with the largest excess where there are many


NOT_MEASURED = FleetDrift()
