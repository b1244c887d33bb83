"""Drift: how far recent readings, taken together, have moved from what the model learned.

``Drift`` adds up sums per event-time interval; ``DriftMonitor`` ends the intervals by the fleet's
clock, emits their records and raises the alarm.

Two metrics, per dimension and in total, in nats (DETECTION: latent KL alone is blind to
shifts orthogonal to the latent space; the residuals see those):

* latent: KL of the aggregate posterior of an interval against training's, both as diagonal
  Gaussians over posterior means;
* residual: the same on the newest row's standardised residuals, per sensor.

Each input partition publishes *sums* per event-time interval. Sums add: the drift of a whole
stream is ``diagonal_kl`` of the added records of its partitions. Rows that arrive for an
interval already published make another record for it, to be added too.

**What an episode or a planned stop explains is no drift.** Windows of an asset at which an anomaly or a deviation is
open, or at which it has a silent or stuck sensor, and those with a row under maintenance are left out of all sums, and
counted (``explained``). So the sums say how
far everything else has moved, and the verdict of a record follows from its own sums.

**Another model** measures anew: an alert of the drift from the one before closes with it (``Episodes.outdate_drift``).

**One asset that drifts** is named, and does not make the stream's drift: see ``asset_drift``.

**Which sensors carry it** (``carriers``): the residual's part is divided among sensors by their residual KL, the
latent part by how far each sensor's readings moved from training's, for a latent has no sensor of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from daemon.alert import ShadowCounts
from daemon.asset_drift import FEWEST_WINDOWS, LIMIT, diagonal_kl
from daemon.detector import Detector, DriftReference, Scaling
from daemon.domain import (
    AlertKind,
    Contributor,
    DriftRecord,
    Floats,
    InputPartition,
    Ints,
    Mask,
    Output,
    StreamSpec,
)
from daemon.drifting import DriftingAsset, FleetDrift
from daemon.stream.alerts import Episodes
from daemon.stream.asset_drift import EXCEEDANCES, AssetDrifts
from daemon.stream.assets import AssetTable
from daemon.stream.carriers import Moved, excess, leading
from daemon.stream.event_time import NO_CLOCK
from daemon.stream.incident import STREAM_DRIFT, EpisodeStart
from daemon.stream.snapshot import (
    DriftState,
    PartitionState,
    ReferenceState,
    SumsState,
    pack_floats,
    unpack_floats,
)
from daemon.stream.summands import Summands

ALL_TIME = 1 << 62
"""An event time after every interval."""

MOST_INTERVALS = 64
"""Intervals that may be open at once: rows behind a clock that is far ahead would begin ever more."""


def divergence(
    windows: int, latent: Floats, residual: Floats, reference: DriftReference
) -> tuple[Floats, Floats]:
    """What sums say: KL against training, nats.

    Args:
        windows: how many were added.
        latent: (2, Z), sum and sum of squares.
        residual: (3, C), count, sum and sum of squares.
        reference: training's moments.

    Returns:
        (Z,) and (C,); 0 with fewer than two windows or readings.
    """
    n = max(windows, 1)
    mean = latent[0] / n
    latent_kl = diagonal_kl(mean, latent[1] / n - mean**2, reference.latent_mean, reference.latent_variance)
    count = np.maximum(residual[0], 1.0)
    mean = residual[1] / count
    residual_kl = diagonal_kl(
        mean, residual[2] / count - mean**2, reference.residual_mean, reference.residual_variance
    )
    return np.where(windows > 1, latent_kl, 0.0), np.where(residual[0] > 1, residual_kl, 0.0)


def carriers(
    record: DriftRecord, reference: DriftReference, scaling: Scaling, sensors: Sequence[str]
) -> list[Contributor]:
    """The fewest sensors that make up most of a drift, see ``Moved.carriers``."""
    count = np.maximum(np.array(record.residual_count, float), 1.0)
    mean = np.array(record.reading_sum) / count
    variance = np.array(record.reading_square_sum) / count - mean**2
    seen, none = np.array(record.residual_count) > 1, np.zeros(len(mean))
    reading_kl = np.where(seen, diagonal_kl(mean, variance, none, np.ones(len(mean))), 0.0)
    pairs = (
        (float(np.sum(record.residual_kl)), reference.residual_threshold),
        (float(np.sum(record.latent_kl)), reference.latent_threshold),
    )
    residual, latent = (excess(*pair) for pair in pairs)
    if (
        record.fleet.moves and not residual and not latent
    ):  # it is their own thresholds that assets are beyond
        residual, latent = (total / max(edge, 1e-9) for total, edge in pairs)
    return Moved(
        np.array(record.residual_kl),
        reading_kl,
        residual,
        latent,
        mean,
        np.array(record.expected_sum) / count,
        none,
    ).carriers(sensors, scaling)


def _drifting(record: DriftRecord, named: Sequence[Contributor]) -> DriftingAsset:
    """How far the whole stream has drifted."""
    latent = float(np.sum(record.latent_kl))
    return DriftingAsset(
        record.stream,
        record.start_ns,
        record.end_ns,
        record.windows,
        latent,
        record.latent_threshold,
        float(np.sum(record.residual_kl)),
        record.residual_threshold,
        [one.sensor for one in named],
        leading(np.array(record.latent_kl)) if latent > record.latent_threshold else [],
    )


def _added(total: Floats, terms: Floats) -> Floats:
    """``total`` (M,) and then each of ``terms`` (B, M), one after the other; ``terms`` gets lost.

    The last bit must not tell how the rows came in batches. numpy adds rows in their order, and
    pairwise only along a row: so single numbers are added as rows too.
    """
    terms[0] += total
    return np.asarray(terms.sum(0) if terms.shape[1] > 1 else np.cumsum(terms, 0)[-1])


@dataclass(slots=True, eq=False)
class Sums:
    """What one interval adds up to."""

    windows: int
    latent: Floats  # (2, Z): sum, sum of squares
    residual: Floats  # (3, C): count, sum, sum of squares
    kl: float
    readings: (
        Floats  # (3, C): sum, sum of squares, sum of what was expected; of the same cells, in training sd
    )
    explained: int  # windows that are in no sum
    shadow: Ints | None = None  # (K,) see ``shadow.COUNTED``; None: nothing was judged in a shadow

    @staticmethod
    def none(latents: int, sensors: int) -> Sums:
        """Nothing was added yet."""
        return Sums(0, np.zeros((2, latents)), np.zeros((3, sensors)), 0.0, np.zeros((3, sensors)), 0)

    def with_those(self, other: Sums) -> Sums:
        """The sums of both."""
        return Sums(
            self.windows + other.windows,
            self.latent + other.latent,
            self.residual + other.residual,
            self.kl + other.kl,
            self.readings + other.readings,
            self.explained + other.explained,
        )


class Drift:
    """Drift of one input partition under one model.

    Args:
        stream: its name.
        partition: where the rows come from.
        interval_ns: of the records.
        reference: training's moments.
        model: the version that the posteriors come from.
    """

    def __init__(
        self, stream: str, partition: InputPartition, interval_ns: int, reference: DriftReference, model: str
    ) -> None:
        self.stream = stream
        self.partition = partition
        self.interval_ns = interval_ns
        self.reference = reference
        self.model = model
        self.intervals: dict[int, Sums] = {}
        self.apart: dict[int, Sums] = {}  # of these intervals, the windows of assets that drift
        self.exceeded = 0  # successive intervals above the threshold
        self.first_exceeded_ns = -1

    def room(self, rows_ns: Ints) -> int:
        """How many of these scored windows, in their order, can be added before an interval must end."""
        intervals, first = np.unique(rows_ns // self.interval_ns, return_index=True)
        if len(self.intervals) + len(intervals) <= MOST_INTERVALS:
            return len(rows_ns)
        new = [int(at) for i, at in zip(intervals.tolist(), first, strict=True) if i not in self.intervals]
        spare = MOST_INTERVALS - len(self.intervals)
        return len(rows_ns) if len(new) <= spare else sorted(new)[spare]

    def add(self, summands: Summands) -> None:
        """Add scored windows."""
        numbers = summands.times // self.interval_ns
        for interval in np.unique(numbers).tolist():
            mine = numbers == interval
            known = self._of(self.intervals, interval, summands)
            known.explained += int((mine & summands.explained).sum())
            if summands.shadow is not None:
                added = summands.shadow[mine].sum(0)
                known.shadow = added if known.shadow is None else known.shadow + added
            counted = mine & ~summands.explained
            for sums, these in (
                (self.intervals, counted & ~summands.apart),
                (self.apart, counted & summands.apart),
            ):
                if these.any():
                    self._add(self._of(sums, interval, summands), summands, these)

    @staticmethod
    def _of(sums: dict[int, Sums], interval: int, summands: Summands) -> Sums:
        known = sums.get(interval)
        if known is None:
            known = sums[interval] = Sums.none(summands.posterior.shape[1], summands.residual.shape[1])
        return known

    @staticmethod
    def _add(known: Sums, summands: Summands, these: Mask) -> None:
        z, nats = summands.posterior[these], summands.kl[these]
        r = np.clip(summands.residual[these], -LIMIT, LIMIT)
        seen = np.isfinite(r)
        r = np.where(seen, r, 0.0)
        read, expected = (
            np.where(seen & np.isfinite(one[these]), np.clip(one[these], -LIMIT, LIMIT), 0.0)
            for one in (summands.readings, summands.expected)
        )
        nats = np.where(np.isfinite(nats), nats, 0.0)
        known.windows += len(z)
        z_squared, r_squared, read_squared = z * z, r * r, read * read
        known.latent = np.stack([_added(known.latent[0], z), _added(known.latent[1], z_squared)])
        known.residual = np.stack(
            [
                known.residual[0] + seen.sum(0),
                _added(known.residual[1], r),
                _added(known.residual[2], r_squared),
            ]
        )
        known.readings = np.stack(
            [
                _added(total, terms)
                for total, terms in zip(known.readings, (read, read_squared, expected), strict=True)
            ]
        )
        known.kl = float(_added(np.array([known.kl]), nats[:, None])[0])

    def end_intervals(
        self,
        event_time_ns: int,
        fleet_at: Callable[[int], FleetDrift] = lambda _: FleetDrift(),
        shadow: str = "",
    ) -> Iterator[DriftRecord]:
        """Records of the intervals that ended before a time, in order.

        Args:
            event_time_ns: the time.
            fleet_at: says what single assets do.
            shadow: the candidate, if there is one.

        ``exceeded`` stands where each record leaves it while that record is looked at: one
        call may bring the end of one drift and the beginning of the next.
        """
        for interval in sorted(i for i in self.intervals if (i + 1) * self.interval_ns <= event_time_ns):
            sums = self.intervals.pop(interval)
            counts = [] if sums.shadow is None else sums.shadow.tolist()
            record = self._record(interval, sums, fleet_at(interval))
            yield replace(record, shadow=ShadowCounts(shadow, *counts)) if shadow else record

    def snapshot(self) -> DriftState:
        """The sums of every interval that is not over, and the reference that they are measured against."""
        known, reference = self.reference, None
        if self.intervals:
            reference = ReferenceState(
                pack_floats(known.latent_mean),
                pack_floats(known.latent_variance),
                pack_floats(known.residual_mean),
                pack_floats(known.residual_variance),
                known.latent_threshold,
                known.residual_threshold,
            )
        sums = [
            SumsState(
                interval,
                sums.windows,
                pack_floats(sums.latent),
                pack_floats(sums.residual),
                sums.kl,
                pack_floats(sums.readings),
                sums.explained,
                apart,
            )
            for apart, known_sums in ((False, self.intervals), (True, self.apart))
            for interval, sums in known_sums.items()
        ]
        return DriftState(sums, self.interval_ns, reference, self.exceeded, self.first_exceeded_ns)

    def restore(self, state: DriftState) -> None:
        """Continue with sums of the same model, in intervals of the same length."""
        for sums in state.sums:
            latent = unpack_floats(sums.latent).reshape(2, -1)
            residual = unpack_floats(sums.residual).reshape(3, -1)
            readings = unpack_floats(sums.readings).reshape(3, -1)
            (self.apart if sums.apart else self.intervals)[sums.interval] = Sums(
                sums.windows, latent, residual, sums.kl, readings, sums.explained
            )
        self.exceeded = state.exceeded
        self.first_exceeded_ns = state.first_exceeded_ns

    @staticmethod
    def outgoing(state: PartitionState, stream: str, partition: InputPartition) -> Drift | None:
        """The drift that ended because the model or the interval is another one now; None without sums."""
        known = state.reference
        if known is None:
            return None
        reference = DriftReference(
            unpack_floats(known.latent_mean),
            unpack_floats(known.latent_variance),
            unpack_floats(known.residual_mean),
            unpack_floats(known.residual_variance),
            known.latent_threshold,
            known.residual_threshold,
        )
        drift = Drift(stream, partition, state.drift_interval_ns, reference, state.model)
        drift.restore(state.drift_state)
        return drift

    def _record(self, interval: int, sums: Sums, fleet: FleetDrift) -> DriftRecord:
        if (apart := self.apart.pop(interval, None)) is not None:
            if fleet.moves:
                sums = sums.with_those(apart)
            else:
                sums.explained += apart.windows
        latent_kl, residual_kl = divergence(sums.windows, sums.latent, sums.residual, self.reference)
        over = (
            latent_kl.sum() > self.reference.latent_threshold
            or residual_kl.sum() > self.reference.residual_threshold
            or (fleet.moves and fleet.drifting > 1)
        )
        start = interval * self.interval_ns
        if sums.windows < FEWEST_WINDOWS:
            verdict = "insufficient"
        elif over:
            verdict = "drift"
            if self.exceeded == 0:
                self.first_exceeded_ns = start
            self.exceeded += 1
        else:
            verdict = "ok"
            self.exceeded = 0
        return DriftRecord(
            stream=self.stream,
            partition=self.partition,
            start_ns=start,
            end_ns=start + self.interval_ns,
            model=self.model,
            windows=sums.windows,
            latent_sum=tuple(sums.latent[0].tolist()),
            latent_square_sum=tuple(sums.latent[1].tolist()),
            residual_count=tuple(int(x) for x in sums.residual[0]),
            residual_sum=tuple(sums.residual[1].tolist()),
            residual_square_sum=tuple(sums.residual[2].tolist()),
            kl_sum=sums.kl,
            latent_kl=tuple(latent_kl.tolist()),
            residual_kl=tuple(residual_kl.tolist()),
            latent_threshold=self.reference.latent_threshold,
            residual_threshold=self.reference.residual_threshold,
            verdict=verdict,
            reading_sum=tuple(sums.readings[0].tolist()),
            reading_square_sum=tuple(sums.readings[1].tolist()),
            expected_sum=tuple(sums.readings[2].tolist()),
            explained=sums.explained,
            fleet=fleet,
        )


class DriftMonitor:
    """Drift of one input partition: the open intervals, when they end, and the alarm.

    An interval ends by the fleet's clock, at a place among the rows that does not depend on
    how records came in polls.

    Args:
        spec: the stream.
        partition: where the rows come from.
        interval_ns: of the drift records.
        episodes: where the alarm is raised.
        assets: those of the partition.

    Attributes:
        assets: their drift, one by one.
        drift: the sums under the model in force; None without a model.
        due_row: the fleet's row at which the next interval is over; ``NO_CLOCK`` before the first row.
        shadow: the candidate that judges beside the model in force; empty: none.
    """

    def __init__(
        self,
        spec: StreamSpec,
        partition: InputPartition,
        interval_ns: int,
        episodes: Episodes,
        assets: AssetTable,
    ) -> None:
        self.assets = AssetDrifts(spec, interval_ns, assets, episodes)
        self.spec = spec
        self.partition = partition
        self.interval_ns = interval_ns
        self.drift: Drift | None = None
        self.due_row = NO_CLOCK
        self.shadow = ""
        self._scaling = Scaling.raw_units(len(spec.sensors))
        self._episodes = episodes

    def use(self, detector: Detector | None) -> list[Output]:
        """Measure against this model's reference from now on; the records of the outgoing model's intervals."""
        outgoing: list[Output] = []
        if self.drift is not None:
            outgoing += self.drift.end_intervals(ALL_TIME, self.assets.at_end_of, self.shadow)
        self.assets.use(detector)
        self.drift = None
        if detector is not None:
            self._scaling = detector.scaling
            self.drift = Drift(
                self.spec.name, self.partition, self.interval_ns, detector.drift, detector.version
            )
        return outgoing

    def follow_shadow(self, model: str) -> None:
        """Count this candidate from now on; empty: none. What was counted of another is dropped."""
        if model == self.shadow:
            return
        self.shadow = model
        for sums in () if self.drift is None else self.drift.intervals.values():
            sums.shadow = None

    def next_horizon(self, fleet_row: int) -> int:
        """Set when the next interval is over; the time before which no row is awaited any more, in ns.

        A row of an asset that lags behind the others may still come: it makes a record more.
        """
        spec = self.spec
        behind_ns = spec.allowed_lateness_ns + spec.period_ns
        horizon_ns = fleet_row * spec.period_ns - behind_ns
        next_end = (horizon_ns // self.interval_ns + 1) * self.interval_ns
        self.due_row = -((next_end + behind_ns) // -spec.period_ns)
        return horizon_ns

    def records(self, horizon_ns: int) -> list[Output]:
        """The records of the intervals that ended before this time, and the alarm after three in a row."""
        if self.drift is None:
            return []
        outputs: list[Output] = []
        stream, model = self.spec.name, self.drift.model
        for record in self.drift.end_intervals(horizon_ns, self.assets.at_end_of, self.shadow):
            outputs.append(record)
            row = self.spec.row(record.end_ns)
            alone = record.fleet.judged == record.fleet.drifting == 1  # its own alert says so
            if record.verdict == "drift" and self.drift.exceeded >= EXCEEDANCES and not alone:
                onset = self.spec.row(self.drift.first_exceeded_ns)
                named = carriers(record, self.drift.reference, self._scaling, self.spec.sensors)
                start = EpisodeStart(
                    AlertKind.DRIFT, onset, contributors=named, drift=_drifting(record, named)
                )
                outputs += self._episodes.open_unscored(stream, start, row, model)
            elif record.verdict == "ok":
                outputs += self._episodes.close_unscored(stream, STREAM_DRIFT, row, model)
        return outputs

    def add(
        self, boundaries: Sequence[tuple[int, int]], summands: Summands | None
    ) -> list[tuple[float, Output]]:
        """Add a chunk's windows, and end intervals at its boundaries.

        Args:
            boundaries: (place, horizon in ns) in order: before the row at this place, intervals that
                ended before the horizon are over.
            summands: the chunk's scored windows, if there are any.

        Returns:
            What is emitted, each output with its place among the rows of the chunk.
        """
        outputs: list[tuple[float, Output]] = []
        begin = 0
        for after, horizon_ns in [*boundaries, (ALL_TIME, -1)]:
            if summands is not None and self.drift is not None:
                first, last = np.searchsorted(summands.places, [begin, after]).tolist()
                outputs += self._add(self.drift, summands.part(first, last))
            if horizon_ns >= 0:
                outputs += [(after - 0.5, output) for output in self.records(horizon_ns)]
            begin = after
        return outputs

    def _add(self, drift: Drift, summands: Summands) -> list[tuple[float, Output]]:
        """Add windows; where that makes too many intervals, the oldest end with what they have."""
        outputs: list[tuple[float, Output]] = []
        while len(summands.places):
            stop = drift.room(summands.times)
            some = summands.part(0, stop)
            events, some = self.assets.add(some)
            outputs += events
            drift.add(some)
            if stop < len(summands.places):
                horizon_ns = (min(drift.intervals) + 1) * self.interval_ns
                place = float(summands.places[stop]) - 0.5
                outputs += [(place, output) for output in self.records(horizon_ns)]
            summands = summands.part(stop, len(summands.places))
        return outputs
