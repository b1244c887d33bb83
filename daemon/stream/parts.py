"""The parts of one input partition's pipeline, each the owner of its own state."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from daemon.alarm import Alarm, State
from daemon.domain import AlarmPolicy, InputPartition, StreamSpec
from daemon.stream.alerts import Episodes
from daemon.stream.assets import AssetTable
from daemon.stream.chunker import Chunker
from daemon.stream.drift import DriftMonitor
from daemon.stream.ingest import Decode, Ingest
from daemon.stream.judge import Judge, Measured
from daemon.stream.ledger import Ledger
from daemon.stream.silence import SilenceMonitor
from daemon.stream.steps import Standing
from daemon.stream.takeovers import Takeovers
from daemon.stream.windowing import WindowBuffer


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """What the pipelines of a stream have in common."""

    spec: StreamSpec
    policy: AlarmPolicy
    drift_interval_ns: int
    maintenance: Sequence[tuple[int, int, frozenset[str]]] = ()  # see ``Episodes``
    scores: bool = False  # a ScoredRow is emitted for every scored row
    max_assets: int = 100_000  # above this, the assets longest without a row are evicted, and counted
    trace: bool = False  # the disposition of each record is kept
    audit: int = 0  # one in so many known readings is hidden from the model, see ``Audit``; 0: none


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The owners of one partition's state, in the order in which a record meets them."""

    spec: StreamSpec
    partition: InputPartition
    assets: AssetTable
    ledger: Ledger
    ingest: Ingest
    chunker: Chunker
    windows: WindowBuffer
    takeovers: Takeovers
    episodes: Episodes
    judge: Judge
    silence: SilenceMonitor
    drift: DriftMonitor

    @staticmethod
    def of(
        settings: PipelineSettings,
        partition: InputPartition,
        decoder: Decode,
        *,
        publish_from: int = 0,
        measured: Measured = nullcontext,
    ) -> Parts:
        """New parts, of a partition that nothing is known of yet; arguments as of ``Pipeline``."""
        spec = settings.spec
        assets = AssetTable(settings.max_assets)
        ledger = Ledger(spec, assets, publish_from)
        ingest = Ingest(spec, partition, decoder, assets, ledger, trace=settings.trace)
        windows = WindowBuffer(spec.window, len(spec.sensors))
        assets.register(windows)
        episodes = Episodes(spec, partition, settings.policy, settings.maintenance)
        return Parts(
            spec,
            partition,
            assets,
            ledger,
            ingest,
            Chunker(spec, assets),
            windows,
            Takeovers(windows, len(spec.sensors)),
            episodes,
            Judge(spec, assets, episodes, measured, scores=settings.scores),
            SilenceMonitor(spec, assets, ingest.grid, ingest.clock, episodes),
            DriftMonitor(spec, partition, settings.drift_interval_ns, episodes),
        )

    def standing(self, asset: str, row: int) -> Standing | None:
        """A copy of an asset's state behind ``row``, its newest of the last chunk.

        None without a full window or a baseline, or while an episode is not over.
        """
        slot, windows = self.assets.slots.get(asset), self.windows
        baseline = None if slot is None else self.judge.baseline(slot)
        if slot is None or baseline is None or windows.filled[slot] < self.spec.window:
            return None
        known = self.episodes.assets.get(asset)
        alarm = Alarm() if known is None else known.alarm
        if alarm.state in (State.FIRING, State.RECOVERING) or self.silence.stuck(asset):
            return None
        return Standing(
            windows.raw_rows(slot),
            baseline,
            (alarm.state, alarm.recent, alarm.resting),
            row - windows.still_since[slot] + 1,
            row - np.maximum(windows.last_row[slot], int(windows.fresh_row[slot])),
        )
