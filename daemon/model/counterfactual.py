"""What a stretch of rows would have been under another condition: "this hour, had the mode been low".

Abduction, action, prediction (Pearl 2009, section 1.4.4) with the model that judges the stream. Each
window of the stretch is encoded under its own condition: the posterior describes what the machine was
doing, apart from the condition. It is decoded under the other one. A row lies in up to L windows; their values
for it are averaged. The interval covers 90 % of the decoded draws of the posterior plus the sensors' own
scatter.

The answer is the model's: what conditions had in common in training, with the same latents. It has
no model of causes, and none of combinations of a condition and latents that training never had. The interval
does not cover these either: it covers the latents and the sensors, not the model's error in going from one condition
to another, so where modes differ by more than their levels it is too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch

from daemon.domain import Floats, Segment, iso
from daemon.errors import UsageError
from daemon.model.bundle import Bundle
from daemon.model.detector import NINETY
from daemon.model.reconstruction import Models
from daemon.model.segments import sliding

DRAWS = 20
"""Of each window's posterior: their variance is then known to a third, and the sensors' own is the larger."""
SHOWN = 10


@dataclass(frozen=True, slots=True, eq=False)
class Counterfactual:
    """A stretch of T rows of one asset, as it was and as it would have been. Raw units, NaN where unknown.

    ``condition`` is as the caller gave it; ``was`` and ``under`` are the labels of the T rows. ``expected``
    is the model's reconstruction under their own labels: compare ``value`` with it rather than with
    ``observed``, which also has noise.
    """

    asset: str
    sensors: tuple[str, ...]
    first_row: int
    period_ns: int
    model: str
    condition: str
    was: tuple[str, ...]
    under: tuple[str, ...]
    observed: Floats  # (T, C)
    expected: Floats
    value: Floats
    low: Floats
    high: Floats

    @property
    def times_ns(self) -> list[int]:
        """Of the T rows."""
        return [(self.first_row + t) * self.period_ns for t in range(len(self.value))]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json`` and the page: lists by sensor, None where unknown."""

        def cells(column: Floats) -> list[float | None]:
            return [float(v) if np.isfinite(v) else None for v in column]

        def mean(column: Floats) -> float | None:
            seen = column[np.isfinite(column)]
            return float(seen.mean()) if len(seen) else None

        return {
            "asset": self.asset,
            "model": self.model,
            "condition": self.condition,
            "was": list(dict.fromkeys(self.was)),
            "under": list(dict.fromkeys(self.under)),
            "timestamps": [iso(time_ns) for time_ns in self.times_ns],
            "sensors": {
                name: {
                    "observed": cells(self.observed[:, c]),
                    "expected": cells(self.expected[:, c]),
                    "value": cells(self.value[:, c]),
                    "low": cells(self.low[:, c]),
                    "high": cells(self.high[:, c]),
                    "change": mean(self.value[:, c] - self.expected[:, c]),
                }
                for c, name in enumerate(self.sensors)
            },
        }


def label_under(label: str, condition: str, known: Sequence[str]) -> str:
    """A label with some of its fields changed: ``mode=high,site=a`` under ``mode=low`` is ``mode=low,site=a``.

    Args:
        label: the original.
        condition: a whole label, or one or more ``field=value`` with commas between.
        known: the labels of the model.

    Raises:
        UsageError: no such label, with those that there are.
    """
    changes = dict(part.partition("=")[::2] for part in condition.split(","))
    fields = dict(part.partition("=")[::2] for part in label.split(","))
    if set(changes) <= set(fields):
        changed = ",".join(f"{name}={value}" for name, value in {**fields, **changes}.items())
        if changed in known:
            return changed
    else:
        changed = condition
    if condition in known:
        return condition
    if not known:
        raise UsageError("the model knows no conditions: train it on a stream that declares some")
    few = len(known) <= SHOWN
    near = list(known) if few else get_close_matches(changed, known, n=SHOWN) or list(known[:SHOWN])
    more = f" and {len(known) - len(near)} more" if len(near) < len(known) else ""
    raise UsageError(f"the model knows no condition {changed!r}; it knows {', '.join(near)}{more}")


def counterfactual_of(
    bundle: Bundle,
    segment: Segment,
    at_row: int,
    rows: int,
    condition: str,
    seed: int = 0,
) -> Counterfactual:
    """The rows ``at_row .. at_row + rows - 1`` of a segment under another condition.

    Args:
        bundle: the model; one without a VAE answers with its linear part.
        segment: rows of one asset in raw units, with their condition labels.
        at_row: grid row.
        rows: how many, at least one.
        condition: ``field=value``, several with commas between, or a whole label.
        seed: of the draws; the same seed gives the same interval.

    Raises:
        UsageError: the model has no such condition, or the segment is shorter than a window or
            lacks some of the rows.
    """
    L, T, first = bundle.window, len(segment.values), at_row - segment.first_row
    if T < L:
        raise UsageError(f"{segment.asset}: {T} rows without a gap, a window needs {L}")
    if rows < 1 or first < 0 or first + rows > T:
        raise UsageError(
            f"{segment.asset}: rows {at_row} to {at_row + rows - 1} are not all in"
            f" {segment.first_row} to {segment.first_row + T - 1}"
        )
    labels = segment.condition or ("",) * T
    known = bundle.models.labels
    others = {label: label_under(label, condition, known) for label in dict.fromkeys(labels)}
    # The first rows of all windows that contain one of the rows.
    begins = np.arange(max(first - L + 1, 0), min(first + rows - 1, T - L) + 1)
    windows = sliding(segment.values[begins[0] : begins[-1] + L], L)
    own = [labels[b + L - 1] for b in begins.tolist()]
    models = bundle.models.at_level(segment.asset, segment.values)
    expected, value, variance = _decoded(models, windows, own, [others[label] for label in own], seed)

    at = begins[:, None] + np.arange(L) - first  # (n, L) which of the rows each window's steps are
    inside = (at >= 0) & (at < rows)

    def stitched(cells: Floats) -> Floats:
        """(n, L, C) to (rows, C): the mean over the windows that contain a row."""
        total, count = np.zeros((rows, cells.shape[2])), np.zeros(rows)
        np.add.at(total, at[inside], cells[inside])
        np.add.at(count, at[inside], 1.0)
        return np.asarray(total / count[:, None])

    mean, other = stitched(expected), stitched(value)
    half = NINETY * np.sqrt(stitched(variance) + models.sigma**2)
    scaler = models.scaler
    part = slice(first, first + rows)
    observed = segment.values[part]
    return Counterfactual(
        asset=segment.asset,
        sensors=bundle.sensors,
        first_row=at_row,
        period_ns=bundle.period_ns,
        model=bundle.version,
        condition=condition,
        was=tuple(labels[part]),
        under=tuple(others[label] for label in labels[part]),
        observed=observed,
        expected=scaler.raw(mean),
        value=scaler.raw(other),
        low=scaler.raw(other - half),
        high=scaler.raw(other + half),
    )


def _decoded(
    models: Models, windows: Floats, own: Sequence[str], other: Sequence[str], seed: int
) -> tuple[Floats, Floats, Floats]:
    """Raw windows (n, L, C) as decoded under their own labels and under others, and the latter's variance.

    Scaled units, (n, L, C) each.
    """
    x = torch.from_numpy(np.ascontiguousarray(models.scaler.scaled(windows))).flatten(1)
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        _, posterior = models.encode(x, own)
        expected, value = models.decode(posterior.mean, own), models.decode(posterior.mean, other)
        draws = torch.stack([models.decode(posterior.draw(generator), other) for _ in range(DRAWS)])
        shape = (len(x), models.window, len(models.sigma))
        found = [part.double().reshape(shape).numpy() for part in (expected, value, draws.double().var(0))]
    return found[0], found[1], found[2]
