"""How many false episodes an operator accepts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """False episodes that the operator accepts a day: of each asset, or of all assets of a stream together."""

    episodes_per_day: float = 1.0 / 7.0
    per_stream: bool = False

    def allowed(self, asset_days: float, assets: int) -> float:
        """The episodes that it allows for so much time of so many assets, all together."""
        return self.episodes_per_day * asset_days / (max(assets, 1) if self.per_stream else 1)

    def __str__(self) -> str:
        """As the configuration writes it."""
        often = 1.0 - 1e-9  # a week's seventh is not exactly one
        days, unit = next(
            (p for p in ((1, "day"), (7, "week")) if self.episodes_per_day * p[0] >= often), (30, "month")
        )
        return f"{self.episodes_per_day * days:.6g} per {unit}" + (" per stream" if self.per_stream else "")
