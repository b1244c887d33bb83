"""The synthetic rows, stretch by stretch, with faults and gaps; and the truth about their faults.

In: a bundle and a ``Request``. Out: ``SyntheticRows``, which gives the rows a few thousand at a time. All randomness
comes from the request's seed, each purpose with a generator of its own, so that ``--gaps`` does not change
the other cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from daemon.commands.generate.arriving import ArrivingRows
from daemon.commands.generate.request import Request, condition_of, fault_of
from daemon.domain import (
    Floats,
    Ints,
    is_calendar,
)
from daemon.errors import BundleError, UsageError
from daemon.model.bundle import Bundle
from daemon.model.faults import FaultKind, FaultRecord, Injection, inject

FAULT_WINDOWS = 4
"""Windows that a fault lasts, if the rows suffice: long enough for every kind to show."""
SIZES = (4.0, 8.0)
"""Standard deviations of a fault: what a good detector should find."""
LAG_ROWS = (4.0, 16.0)
BURST = 4.0
"""Mean length of a burst of missing readings, in rows."""


@dataclass(frozen=True, slots=True, eq=False)
class RowChunk:
    """Rows ``first ..`` of all assets: (A, T, S) as they arrive, NaN where missing, and (A, T) conditions."""

    first: int
    values: Floats
    labels: Ints


@dataclass(frozen=True, slots=True)
class _Fault:
    """A planned fault: rows ``start .. stop - 1`` of an asset."""

    kind: FaultKind
    asset: int
    start: int
    stop: int
    sensors: tuple[int, ...]
    size: float


class SyntheticRows:
    """The rows of a request, stretch by stretch; and, from the start, the truth about their faults.

    Faults are injected into what the model draws (of a counter its rate, of an angle cosine and sine); the rows are
    then written as sensors send them (``arriving``).

    Raises:
        UsageError: a sensor, kind of fault, asset or condition that is not there, or too few rows.
    """

    def __init__(self, bundle: Bundle, request: Request) -> None:
        self.bundle, self.request = bundle, request
        self.names = tuple(f"synthetic-{i:04d}" for i in range(request.assets))
        condition = condition_of(bundle.conditions, request.conditions)
        try:
            self._series = bundle.series(request.assets, request.seed, condition, request.like)
        except BundleError as error:
            raise UsageError(str(error)) from error
        self.condition = condition
        self._plan = self._faults()
        self._gaps = np.random.default_rng([request.seed, 2])
        self.arriving = ArrivingRows(bundle, request.assets)
        self._missing_until = np.zeros((request.assets, len(self.arriving.sensors)))

    @property
    def notes(self) -> list[str]:
        """Notes on how these rows differ from what training saw."""
        notes = []
        if self.bundle.synthesis is None:
            notes.append(
                f"model {self.bundle.version} was made before bundles kept how series go on: drawn from the"
                " prior, whose windows agree but which knows no states, levels or times; train it anew"
            )
        calendar = [name for name in condition_names(self.bundle.conditions) if is_calendar(name)]
        if calendar:
            notes.append(
                f"{', '.join(calendar)} come as they came in training, not by the rows' times: a detector that"
                " takes them from the calendar sees these rows at the wrong hour or day, and may raise alarms"
            )
        unseen = [s for s, seen in zip(self.bundle.sensors, self._seen, strict=True) if not seen]
        if unseen:
            notes.append(f"training never saw {', '.join(unseen[:8])}: no values")
        return notes

    @property
    def _seen(self) -> list[bool]:
        return [bool(seen) for seen in self.bundle.models.scaler.seen]

    def time_ns(self, row: int) -> int:
        """The event time of a row; row 0 is the first."""
        first = self.request.start_ns // self.bundle.period_ns
        return (first + row) * self.bundle.period_ns

    @property
    def truth(self) -> tuple[FaultRecord, ...]:
        """One record per fault and sensor, in order of time."""
        return tuple(
            FaultRecord(
                fault.kind,
                self.names[fault.asset],
                self.arriving.sensor_of(c),
                self.time_ns(fault.start),
                self.time_ns(fault.stop),
                abs(fault.size) if fault.kind.sized else None,
            )
            for fault in sorted(self._plan, key=lambda f: (f.start, f.asset))
            for c in fault.sensors
        )

    def stretches(self) -> Iterator[RowChunk]:
        """All rows in order of time. A row is released once every fault that touches it has been injected."""
        lead = max(self.bundle.window, round(LAG_ROWS[1]))
        done, made, wanted = 0, 0, self.request.rows
        open_faults = sorted(self._plan, key=lambda f: f.start)
        kept: Floats | None = None  # rows from ``done - before`` on
        labels: Ints | None = None
        before = 0
        while done < wanted:
            more, more_labels = self._series.rows()
            kept = more if kept is None else np.concatenate([kept, more], 1)
            labels = more_labels if labels is None else np.concatenate([labels, more_labels], 1)
            made += more.shape[1]
            start = done - before
            left = []
            for fault in open_faults:
                if fault.stop <= made:
                    self._apply(kept, fault, start)
                else:
                    left.append(fault)
            open_faults = left
            ready = min([made, wanted, *(f.start for f in open_faults[:1])])
            if ready <= done:
                continue
            assert labels is not None
            part = slice(done - start, ready - start)
            yield RowChunk(done, self._holed(self.arriving.of(kept[:, part]), done), labels[:, part])
            before = min(lead, ready)
            kept, labels = kept[:, ready - before - start :], labels[:, ready - before - start :]
            done = ready

    def _faults(self) -> list[_Fault]:
        """Each of ``inject`` once per asset, one after the other with normal rows between them."""
        request, bundle = self.request, self.bundle
        wanted = [fault_of(text, bundle.sensors, self._seen) for text in request.inject]
        if not wanted:
            return []
        room = request.rows // len(wanted)
        length = min(FAULT_WINDOWS * bundle.window, room // 2)
        if room < 4 * bundle.window:
            raise UsageError(
                f"--inject: {len(wanted)} fault(s) need {4 * bundle.window * len(wanted)} rows of an asset at"
                f" least, not {request.rows}"
            )
        random = np.random.default_rng([request.seed, 3])
        alive = [c for c, seen in enumerate(self._seen) if seen and bundle.longest_constant[c] < 1 << 60]
        faults = []
        for asset in range(request.assets):
            for i, (kind, sensor) in enumerate(wanted):
                start = i * room + int(random.integers(room // 4, room - length + 1))
                if kind.sensors > max(len(alive), 1) or not alive:
                    raise UsageError(f"--inject {kind}: too few sensors vary in training")
                chosen = sensor if sensor is not None else int(random.choice(alive))
                sensors: tuple[int, ...] = (chosen,)
                if kind is FaultKind.SWAP:
                    others = [c for c in alive if c != chosen]
                    if not others:
                        raise UsageError(f"--inject {kind}: no other sensor varies")
                    sensors = (chosen, int(random.choice(others)))
                low, high = LAG_ROWS if kind is FaultKind.LAG else SIZES
                size = float(random.uniform(low, high)) * float(random.choice([-1.0, 1.0]))
                stop = start + (1 if kind is FaultKind.SPIKE else length)
                faults.append(_Fault(kind, asset, start, stop, sensors, size))
        return faults

    def _apply(self, kept: Floats, fault: _Fault, first: int) -> None:
        scaler = self.bundle.models.scaler
        random = np.random.default_rng([self.request.seed, 4, fault.asset, fault.start])
        kept[fault.asset] = inject(
            kept[fault.asset],
            Injection(fault.kind, fault.sensors, fault.start - first, fault.stop - first, fault.size),
            scaler.scale,
            random,
            scaler.mean,
        )

    def _holed(self, values: Floats, first: int) -> Floats:
        """The rows with gaps: readings that are missing in bursts."""
        share = self.request.gaps
        if not share:
            return values
        random, (A, T, S) = self._gaps, values.shape
        # Bursts begin at random and may overlap: with this probability 1 - share of the cells are in none.
        begins = random.random((A, T, S)) < 1.0 - (1.0 - share) ** (1.0 / BURST)
        rows = first + np.arange(T)[None, :, None]
        until = np.where(begins, rows + random.geometric(1.0 / BURST, (A, T, S)), 0.0)
        until[:, 0] = np.maximum(until[:, 0], self._missing_until)
        until = np.maximum.accumulate(until, 1)
        self._missing_until = until[:, -1]
        return np.where(until > rows, np.nan, values)


def rows_of(count: int, made: SyntheticRows) -> Iterator[tuple[int, int, RowChunk]]:
    """``count`` rows as (asset, place in the stretch, stretch): by time, then by asset."""
    left = count
    for stretch in made.stretches():
        for t in range(stretch.values.shape[1]):
            for asset in range(min(len(made.names), left)):
                yield asset, t, stretch
            left -= min(len(made.names), left)
            if not left:
                return


def condition_names(conditions: Sequence[str]) -> list[str]:
    """Names of the condition's fields, from labels ``k=v,k2=v2``."""
    return [part.partition("=")[0] for part in conditions[0].split(",")] if conditions else []


def label_fields(label: str) -> dict[str, str]:
    """The fields of a condition's label ``k=v,k2=v2``."""
    return dict(part.split("=", 1) for part in label.split(",") if "=" in part)
