"""The root cause of an episode as one value, and the same as JSON. ``commands.root_cause`` fills it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daemon.domain import (
    Contributor,
    Floats,
    Ints,
    iso,
)
from daemon.model.repair import PUBLISHED, RIGHT, Cause, LatentPath, Repair, Twin, Verdict


@dataclass(frozen=True, slots=True, eq=False)
class Incident:
    """One anomaly episode of the file, from its messages."""

    asset: str
    fingerprint: str
    ids: tuple[str, ...]  # of its messages, in order
    onset_ns: int
    opened_ns: int
    last_ns: int  # of its last message
    closed: bool
    peak_ns: int  # of the message with the highest score
    contributors: Sequence[Contributor]


@dataclass(frozen=True, slots=True, eq=False)
class Neighbour:
    """A similar past episode, with the operators' verdict and note on it; None where there is none."""

    asset: str
    fingerprint: str
    onset_ns: int
    likeness: float
    sensors: tuple[str, ...]  # most blamed first
    verdict: str | None
    note: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Jump:
    """A change of one sensor from one row to the next, beyond its limit."""

    sensor: int
    size: float  # shares of the limit
    row_ns: int  # the later of the two rows


@dataclass(frozen=True, slots=True, eq=False)
class RootCause:
    """The root cause of one window, and of the episode whose peak it is.

    T rows are shown, of which the window is rows ``window`` (a slice); C sensors, raw units.
    """

    stream: str
    asset: str
    model: str
    sensors: tuple[str, ...]
    period_ns: int
    incident: Incident | None
    row_ns: int  # the window's newest row
    threshold: float
    verdict: Verdict
    repair: Repair
    shares: Floats  # (C,)
    times_ns: Ints  # (T,)
    scores: Floats  # (T,)
    observed: Floats  # (T, C)
    expected: Floats  # (T, C) the newest row of each window as the model sees it
    twin: Twin  # (T, C) of the repair's sensors
    window: slice
    reconstruction: Floats  # (L, C) the whole window as the model sees it
    path: LatentPath
    path_times_ns: Ints
    nearest: tuple[Neighbour, ...]
    notes: tuple[str, ...] = ()
    jump: Jump | None = None  # the largest of the episode, where no score opened it

    @property
    def certain(self) -> bool:
        """Whether verdicts of this kind were right often enough in labelled cases to be published."""
        return self.verdict.cause in PUBLISHED

    @property
    def blamed(self) -> tuple[int, ...]:
        """The sensors of the repair; where there is none, the most blamed one."""
        return self.repair.sensors or (int(np.argmax(self.shares)),)

    @property
    def since_ns(self) -> int:
        """The episode's onset; of a window without an episode, its first row."""
        return self.incident.onset_ns if self.incident else int(self.times_ns[self.window][0])

    def reading(self, sensor: int) -> tuple[float, float, float, float]:
        """Observed, twin, low and high of a sensor at the window's row where they differ most."""
        observed = self.observed[self.window, sensor]
        twin, low, high = (
            part[self.window, sensor] for part in (self.twin.value, self.twin.low, self.twin.high)
        )
        off = np.abs(observed - twin) / np.maximum(high - low, 1e-12)
        if not np.isfinite(off).any():
            return float(observed[-1]), float(twin[-1]), float(low[-1]), float(high[-1])
        at = int(np.nanargmax(off))
        return float(observed[at]), float(twin[at]), float(low[at]), float(high[at])

    def evidence(self) -> str:
        """The evidence for the verdict, in one sentence."""
        repair = self.repair
        names = listed([self.sensors[c] for c in repair.sensors])
        scores = (
            f"the window scores {repair.before:.2f} with {names}, and {repair.after:.2f} without"
            f" (normal: up to {repair.level:.2f})"
        )
        parts = f"latents {self.verdict.latent_nats:.1f} nats out, residual {self.verdict.residual_nats:.1f}"
        match self.verdict.cause:
            case None if self.jump is not None:
                return (
                    f"{self.sensors[self.jump.sensor]} jumped by {self.jump.size:.3g} times its limit at"
                    f" {iso(self.jump.row_ns)}; the window scores {repair.before:.2f}, and no score of the episode is"
                    f" above {self.threshold:.2f}."
                )
            case None:
                return f"The window scores {repair.before:.2f}, and up to {repair.level:.2f} is normal."
            case Cause.BROKEN_SENSOR if not repair.sensors:
                return f"Only one sensor has values, and no other can say more: the window scores {repair.before:.2f}."
            case Cause.BROKEN_SENSOR:
                return (
                    f"One sensor explains all of it: {scores}. It is broken, or was adjusted, or it alone"
                    " sees what is wrong."
                )
            case Cause.NEW_REGIME:
                return (
                    f"The sensors still fit together: the model reconstructs {100 * self.verdict.explained:.0f} % of"
                    f" what has changed. But together they are where training never was ({parts}; an alarm is above"
                    f" {self.threshold:.2f}), and no single sensor explains it."
                )
            case Cause.PROCESS_FAULT:
                how = (
                    f"it takes {len(repair.sensors)}: {scores}"
                    if repair.enough
                    else "nor do the most blamed ones together"
                )
                return (
                    f"Several sensors no longer fit together ({parts}; the model reconstructs"
                    f" {100 * max(self.verdict.explained, 0.0):.0f} % of what has changed). No single one explains it,"
                    f" {how}."
                )

    def as_dict(self) -> dict[str, Any]:
        """The same as one JSON object; what is not finite is null."""
        window, names, repair, incident = self.window, self.sensors, self.repair, self.incident
        ranked = [c for c in np.argsort(-self.shares, kind="stable").tolist() if self.shares[c] > 0]
        shown = list(dict.fromkeys([*repair.sensors, *ranked[:10]]))
        return {
            "stream": self.stream,
            "asset": self.asset,
            "model": self.model,
            "row": iso(self.row_ns),
            "alert": None
            if incident is None
            else {
                "fingerprint": incident.fingerprint,
                "ids": list(incident.ids),
                "onset": iso(incident.onset_ns),
                "opened": iso(incident.opened_ns),
                "closed": iso(incident.last_ns) if incident.closed else None,
            },
            "score": _finite(repair.before),
            "threshold": _finite(self.threshold),
            "normal_up_to": _finite(repair.level),
            "jump": None
            if self.jump is None
            else {
                "sensor": names[self.jump.sensor],
                "size": _finite(self.jump.size),
                "row": iso(self.jump.row_ns),
            },
            "verdict": {
                "cause": None if self.verdict.cause is None else self.verdict.cause.value,
                "certain": self.certain,
                "right": None if self.verdict.cause is None else RIGHT[self.verdict.cause],
                "evidence": self.evidence(),
                "residual_nats": _finite(self.verdict.residual_nats),
                "latent_nats": _finite(self.verdict.latent_nats),
                "explained": _finite(self.verdict.explained),
            },
            "repair": {
                "sensors": [names[c] for c in repair.sensors],
                "score_after": _finite(repair.after),
                "enough": repair.enough,
                "smallest": repair.exact,
                "at_least": repair.fewest,
                "others_of_this_size": repair.others,
                "sets_tried": repair.tried,
            },
            "contributors": [
                {
                    "sensor": names[c],
                    "share": _finite(float(self.shares[c])),
                    "observed": _finite(float(self.observed[window, c][-1])),
                    "expected": _finite(float(self.expected[window, c][-1])),
                }
                for c in ranked
            ],
            "window": {
                "start": iso(int(self.times_ns[window][0])),
                "end": iso(self.row_ns),
                "sensors": {
                    names[c]: {
                        "observed": _numbers(self.observed[window, c]),
                        "reconstructed": _numbers(self.reconstruction[:, c]),
                        **(
                            {
                                "twin": _numbers(self.twin.value[window, c]),
                                "low": _numbers(self.twin.low[window, c]),
                                "high": _numbers(self.twin.high[window, c]),
                            }
                            if c in repair.sensors
                            else {}
                        ),
                    }
                    for c in shown
                },
            },
            "path": {
                "start": iso(int(self.path_times_ns[0])),
                "end": iso(int(self.path_times_ns[-1])),
                "dimensions": [
                    {"dimension": d, "sd": _numbers(self.path.sd[:, i])}
                    for i, d in enumerate(self.path.dimensions)
                ],
            },
            "nearest": [
                {
                    "asset": n.asset,
                    "fingerprint": n.fingerprint,
                    "onset": iso(n.onset_ns),
                    "likeness": round(n.likeness, 3),
                    "sensors": list(n.sensors),
                    "verdict": n.verdict,
                    "note": n.note,
                }
                for n in self.nearest
            ],
            "notes": list(self.notes),
        }


def listed(names: Sequence[str], most: int = 5) -> str:
    """``a, b and c``; of many the first, and how many more."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def _finite(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _numbers(values: Floats) -> list[float | None]:
    return [_finite(value) for value in values.tolist()]
