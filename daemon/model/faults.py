"""Faults that are injected on purpose: by the gate, by ``generate --inject`` and by the fire drill.

There is one definition of each kind, so that their results are comparable. Every fault changes raw values,
in the rows ``start .. stop - 1`` of some sensors; missing cells stay missing. Sizes are in units of
``scale``, the standard deviations of normal rows:

* ``spike``: ``size`` added to the first row alone;
* ``shift``: ``size`` added throughout, a wrong zero point;
* ``drift``: 0 to ``size`` added, growing evenly;
* ``stuck``: the last value observed before the fault, throughout; has no size;
* ``noise``: Gaussian noise added whose two standard deviations are ``size``;
* ``correlation_swap``: two sensors change places, each in the other's units (its distance from its mean, in
  its scale): each alone looks right, together they do not; has no size;
* ``lag``: the sensor repeats its own past, ``round(size)`` rows late, at least one;
* ``drop_out``: no values; has no size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from daemon.domain import Floats, Segment, iso


class FaultKind(StrEnum):
    """A kind of fault; see the module."""

    SPIKE = "spike"
    SHIFT = "shift"
    DRIFT = "drift"
    STUCK = "stuck"
    NOISE = "noise"
    SWAP = "correlation_swap"
    LAG = "lag"
    DROP_OUT = "drop_out"

    @staticmethod
    def of(text: str) -> FaultKind:
        """The kind of that name, in usual spellings: ``Drop-out``, ``swap``, ``correlation swap``.

        Raises:
            ValueError: there is none; names those that there are.
        """
        name = text.strip().lower().replace("-", "_").replace(" ", "_")
        try:
            return FaultKind(_ALIASES.get(name, name))
        except ValueError:
            raise ValueError(f"{text!r} is no kind of fault: known are {', '.join(FaultKind)}") from None

    @property
    def sensors(self) -> int:
        """How many sensors such a fault changes: two for a swap, else one."""
        return 2 if self is FaultKind.SWAP else 1

    @property
    def sized(self) -> bool:
        """Whether a size makes a difference."""
        return self not in _UNSIZED


_ALIASES = {"swap": "correlation_swap", "dropout": "drop_out"}
_UNSIZED = frozenset({FaultKind.STUCK, FaultKind.SWAP, FaultKind.DROP_OUT})
PER_KIND = 30
GATE_KINDS = (
    FaultKind.SPIKE,
    FaultKind.SHIFT,
    FaultKind.DRIFT,
    FaultKind.STUCK,
    FaultKind.NOISE,
    FaultKind.SWAP,
    FaultKind.LAG,
)
"""The kinds on which two models' scores are compared. Not a drop-out: a missing value is no evidence, so no
score should rise; the stream's own rule (``sensor_silent``) finds it with any model.
New kinds are added at the end only, so that the faults before them are drawn as they were."""


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """The truth about one injected fault and one sensor; a swap has one for each of its two."""

    kind: FaultKind
    asset: str
    sensor: str
    start_ns: int
    end_ns: int  # exclusive: the first instant after the fault
    size: float | None = None  # standard deviations; of a lag: rows; None where the kind has none

    def as_json(self) -> dict[str, str | float | None]:
        """``{kind, asset, sensor, start, end, size}`` with ISO instants, end exclusive."""
        return {
            "kind": self.kind.value,
            "asset": self.asset,
            "sensor": self.sensor,
            "start": iso(self.start_ns),
            "end": iso(self.end_ns),
            "size": self.size,
        }


def lag_rows(size: float) -> int:
    """The rows by which a lag of a size comes late: the size rounded, one at least."""
    return max(round(abs(size)), 1)


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault to inject: what is done to which sensors, in the rows ``start .. stop - 1``."""

    kind: FaultKind
    sensors: Sequence[int]  # each is changed in the same way; of a swap exactly two
    start: int
    stop: int
    size: float = 0.0  # signed, standard deviations; of a lag rows; ignored for a kind without one


def inject(
    values: Floats,
    fault: Injection,
    scale: Floats,
    rng: np.random.Generator,
    mean: Floats | None = None,
) -> Floats:
    """The same rows with a fault in them.

    Args:
        values: (T, C) raw, NaN where not observed; not changed.
        fault: what is injected; see the module.
        scale: (C,) standard deviations of normal rows.
        rng: of the noise; no other kind draws from it.
        mean: (C,) of normal rows, for a swap; None: of what is observed in ``values``.

    Returns:
        (T, C), a copy. A stuck sensor that was never observed before the fault, and a lag that
        reaches back to before the first row, leave those cells as they are.

    Raises:
        ValueError: the rows do not exist, or a swap has other than two sensors, or one of them stands
            still.
    """
    kind, start, stop, sensors, size = fault.kind, fault.start, fault.stop, fault.sensors, fault.size
    if not 0 <= start < stop <= len(values):
        raise ValueError(f"rows {start} to {stop} of {len(values)}")
    if kind is FaultKind.SWAP and len(set(sensors)) != 2:
        raise ValueError(f"a swap is of two sensors, not of {len(set(sensors))}")
    if kind is FaultKind.SWAP and not all(scale[c] > 0.0 for c in sensors):
        raise ValueError("a swap is of sensors that vary: in one that stands still no distance is large")
    result = np.array(values, np.float64)
    length = stop - start
    if kind is FaultKind.SWAP:
        a, b = sensors
        center = _means(result) if mean is None else mean
        late = result[start:stop]
        one, other = ((late[:, c] - center[c]) / scale[c] for c in (a, b))
        late[:, a] = other * scale[a] + center[a]
        late[:, b] = one * scale[b] + center[b]
        return result
    for c in sensors:
        late = result[start:stop, c]  # a view: changed in place
        amount = size * scale[c]
        if kind is FaultKind.SPIKE:
            late[0] += amount
        elif kind is FaultKind.SHIFT:
            late += amount
        elif kind is FaultKind.DRIFT:
            late += amount * np.linspace(0.0, 1.0, length)
        elif kind is FaultKind.NOISE:
            late += rng.standard_normal(length) * amount / 2.0
        elif kind is FaultKind.STUCK:
            before = values[:start, c]
            seen = before[np.isfinite(before)]
            if len(seen):
                late[np.isfinite(late)] = seen[-1]
        elif kind is FaultKind.LAG:
            k = lag_rows(size)
            first = max(start, k)
            result[first:stop, c] = values[first - k : max(stop - k, first - k), c]
        else:
            late[:] = np.nan
    return result


def touched(before: Floats, after: Floats) -> tuple[int, ...]:
    """The sensors of which any of the (T, C) values differ; what is missing in both is equal."""
    same = (before == after) | (np.isnan(before) & np.isnan(after))
    return tuple(np.flatnonzero(~same.all(axis=0)).tolist())


def _means(values: Floats) -> Floats:
    """(C,) means of what is observed; 0 for a sensor that never is."""
    seen = np.isfinite(values)
    return np.asarray(np.where(seen, values, 0.0).sum(0) / np.maximum(seen.sum(0), 1))


def moments(values: Floats) -> tuple[Floats, Floats]:
    """(C,) means and standard deviations of what is observed; 0 for a sensor that never is."""
    mean = _means(values)
    seen = np.isfinite(values)
    square = np.where(seen, values - mean, 0.0) ** 2
    return mean, np.asarray(np.sqrt(square.sum(0) / np.maximum(seen.sum(0), 1)))


def moving(values: Floats, mean: Floats, scale: Floats) -> tuple[int, ...]:
    """The sensors that vary by more than rounding: sizes are undefined for a constant sensor."""
    alive = (scale > 1e-9 * np.maximum(np.abs(mean), 1.0)) & np.isfinite(values).any(0)
    return tuple(np.flatnonzero(alive).tolist())


# ------------------------------------------------------------------ the gate's faults
@dataclass(frozen=True, slots=True, eq=False)
class Fault:
    """A stretch of held-out rows with a fault in its last rows.

    ``values`` is (lead + length, C), raw; the fault is in the rows from ``lead`` on.
    """

    kind: FaultKind
    asset: str
    values: Floats
    lead: int
    sensors: tuple[int, ...]
    condition: tuple[str, ...]
    size: float = 0.0  # standard deviations, without a sign; of a lag rows; 0 where the kind has none


def injected_faults(
    held_out: Sequence[Segment],
    lead: int,
    length: int,
    per_kind: int = PER_KIND,
    seed: int = 0,
    left_out: Collection[int] = (),
) -> list[Fault]:
    """The same faults for every model: deterministic in the data and the seed.

    Sizes are in standard deviations of the held-out rows (of a lag in rows), drawn from 2 to 8, so
    that even a good model misses some.

    Args:
        held_out: normal segments.
        lead: untouched rows before each fault: at least the longest window.
        length: rows of each fault.
        per_kind: faults of each of ``GATE_KINDS``.
        seed: of places, sensors and sizes.
        left_out: sensors that have no faults, and no values.

    Returns:
        Empty if no segment holds ``lead + length`` rows. Sensors that never vary are left out;
        with one sensor there is no correlation to swap.
    """
    span = lead + length
    homes = [segment for segment in held_out if len(segment.values) >= span]
    if not homes:
        return []
    everything = np.concatenate([segment.values for segment in homes])
    mean, sd = moments(everything)
    alive = np.array([c for c in moving(everything, mean, sd) if c not in left_out], np.int64)
    if not len(alive):
        return []
    rng = np.random.default_rng(seed)
    faults = []
    for kind in GATE_KINDS:
        if len(alive) < kind.sensors:
            continue
        for _ in range(per_kind):
            home = homes[int(rng.integers(len(homes)))]
            start = int(rng.integers(len(home.values) - span + 1))
            sensor = int(rng.choice(alive))
            size = float(rng.uniform(2.0, 8.0)) * float(rng.choice([-1.0, 1.0]))
            sensors: tuple[int, ...] = (sensor,)
            if kind is FaultKind.SWAP:
                sensors = (sensor, int(rng.choice(alive[alive != sensor])))
            rows = home.values[start : start + span]
            values = inject(rows, Injection(kind, sensors, lead, span, size), sd, rng, mean)
            values[:, list(left_out)] = np.nan
            faults.append(
                Fault(
                    kind,
                    home.asset,
                    values,
                    lead,
                    sensors,
                    home.condition[start : start + span],
                    abs(size) if kind.sized else 0.0,
                )
            )
    return faults
