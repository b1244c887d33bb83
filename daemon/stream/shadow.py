"""A candidate in the shadow of the model in force: it judges the same windows, and all that comes of it is counts.

Why: the gate compares models on rows of the past. Before a candidate takes over, it can show on the stream itself what it
would alert (``promotion.shadow``).

The windows are those of the model in force, in the candidate's units. ``Judge``, ``Episodes`` and ``Thresholds`` are those
that judge with any model, each once more: with the candidate's own baselines, alarm states, thresholds, and its own way with
missing cells. Nothing of the model in force is touched, so that the stream's outputs are as without a shadow, but for the
counts, which are part of the partition's drift records.

* Windows are judged that a score is due for; what is filled is of no interest. Those of a planned stop are left out.
* What people said of earlier episodes holds for the candidate as it would when it took over. What is accepted meanwhile
  is accepted of the candidate from the same row on.
* Kinds that need no score (silence, stuck sensors) and slow trends, which take days, are not compared.
* Two models open and close the same episode at different rows. So rows at which either has one belong together until neither
  has had one for as long as an episode may rest (the refractory time, or a window): one that both had there is one of both.

The state is not saved: after a restart the shadow begins anew in the partition, and the published counts say over how many
windows they are.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import fields, replace

import msgspec
import numpy as np

from daemon.alert import ShadowCounts
from daemon.budget import Budget
from daemon.detector import Detector, Scaling
from daemon.domain import AlarmPolicy, AlertEvent, AlertKind, InputPartition, Ints, Mask, StreamSpec
from daemon.stream.alerts import Episodes
from daemon.stream.assets import AssetTable
from daemon.stream.chunk_windows import WindowedRows
from daemon.stream.judge import Judge, Judgement
from daemon.stream.thresholds import Thresholds

COUNTED = tuple(one.name for one in fields(ShadowCounts) if one.name != "model")
"""What is counted of each window."""
_COLUMN = {name: i for i, name in enumerate(COUNTED)}
_EPISODES = [_COLUMN[name] for name in ("episodes", "incumbent_episodes", "both")]
CANDIDATE, INCUMBENT = 1, 2
"""Bits: whose episode it is."""


class Shadow:
    """The shadow of one input partition.

    Args:
        spec: the stream.
        partition: where the rows come from.
        assets: those of the partition.
        episodes: of the model in force: their settings, planned stops and verdicts hold here, too.
        online: see ``Thresholds``.
    """

    def __init__(
        self,
        spec: StreamSpec,
        partition: InputPartition,
        assets: AssetTable,
        episodes: Episodes,
        online: Budget | None,
    ) -> None:
        self._spec = spec
        self._partition = partition
        self._assets = assets
        self._incumbent = episodes
        self._online = online
        self._running: tuple[Judge, Episodes, Thresholds] | None = None
        self._knows_verdicts = False
        self._accepted: dict[str, set[str]] = {}
        """Per asset: alerts that were accepted under the model in force, and that the candidate has been told of."""
        self._seen: dict[str, tuple[int, int]] = {}
        """Per asset: the newest row at which either model had an episode, and which of them had this one."""

    @property
    def on(self) -> bool:
        """Whether there is a candidate."""
        return self._running is not None

    @property
    def model(self) -> str:
        """The candidate's version; empty: there is none."""
        return "" if self._running is None else self._running[0].model

    def use(self, detector: Detector | None) -> None:
        """Judge with this candidate from the next row on, and forget the one before; None: with none.

        The same candidate with the thresholds of another budget goes on.
        """
        if self._running is not None:
            judge, _, thresholds = self._running
            if detector is not None and detector.version == judge.model:
                judge.exchange(detector)
                thresholds.exchange(detector)
                return
            judge.leave()
            thresholds.leave()
        self._running, self._knows_verdicts = None, False
        self._seen.clear()
        self._accepted.clear()
        if detector is None:
            return
        policy = self._incumbent.policy
        episodes = Episodes(self._spec, self._partition, policy)
        thresholds = Thresholds(self._spec, self._assets, policy.hysteresis, self._online)
        judge = Judge(
            self._spec, self._assets, episodes, thresholds, lambda windows: nullcontext(), scores=False
        )
        judge.use(detector)
        thresholds.use(detector)
        self._running = judge, episodes, thresholds

    def use_policy(self, policy: AlarmPolicy, online: Budget | None) -> None:
        """Settings of the alarms, and the budget of the online correction, are these from the next row on."""
        self._online = online
        if self._running is not None:
            judge, episodes, thresholds = self._running
            episodes.use_policy(policy, ())
            thresholds.configure(policy.hysteresis, online, judge.detector)

    # -------------------------------------------------------------- what the model in force is told
    def learn_verdicts(self, asset: str) -> None:
        """What people said of an asset's earlier episodes has changed."""
        if self._running is None or not self._knows_verdicts:
            return
        episodes, known = self._running[1], self._incumbent.dismissals.snapshot(asset)
        self._learn_accepted(asset)
        if known is None:
            episodes.dismissals.forget(asset)
        else:  # what is open is not open here
            known = msgspec.structs.replace(
                known, run=None, open=[], closed=[], quiet=None, deviating=[], accepting=[]
            )
            episodes.dismissals.restore(asset, known)

    def _learn_accepted(self, asset: str) -> None:
        """Tell the candidate which alerts of an asset were accepted, or are not any more, since it was told last."""
        assert self._running is not None
        mine, incumbent = self._running[1].acceptances, self._incumbent.acceptances
        before, now = self._accepted.get(asset, set()), incumbent.fingerprints(asset)
        if before == now:
            return
        for fingerprint in sorted(before - now):
            mine.take_back(asset, fingerprint)
        mine.learn(asset, [one for one in incumbent.snapshot(asset) if one.fingerprint not in before])
        self._accepted[asset] = now

    def begin_anew(self, slot: int) -> None:
        """An acceptance was taken back: the asset's baseline begins anew, as that of the model in force does."""
        if self._running is not None:
            self._running[0].begin_anew(slot)

    def forget(self, asset: str) -> None:
        """The asset is evicted."""
        self._seen.pop(asset, None)
        self._accepted.pop(asset, None)
        if self._running is not None:
            episodes = self._running[1]
            episodes.assets.pop(asset, None)
            episodes.dismissals.forget(asset)
            episodes.acceptances.forget(asset)

    # -------------------------------------------------------------- a chunk
    def judge(self, chunk: WindowedRows, judgement: Judgement, scaling: Scaling) -> Ints | None:
        """Judge a chunk, after the model in force has judged it.

        Args:
            chunk: rows with their windows.
            judgement: of the model in force.
            scaling: its units, which the windows are in.

        Returns:
            (W, K) what each of its W scored windows adds to ``COUNTED``; None if it has scored none.
        """
        assert self._running is not None
        judge = self._running[0]
        if not self._knows_verdicts:
            self._knows_verdicts = True
            for asset in self._incumbent.dismissals.with_verdicts | self._incumbent.acceptances.assets:
                self.learn_verdicts(asset)
        for asset in chunk.assets & (self._incumbent.acceptances.assets | self._accepted.keys()):
            self._learn_accepted(asset)
        assert judge.detector is not None
        planned = self._planned(chunk)
        own = self._own(chunk, planned, scaling, judge.detector.scaling)
        mine = judge.judge(own, (), judge.model, judging=True)
        if judgement.summands is None:
            return None
        places = judgement.summands.places
        counts = np.zeros((len(places), len(COUNTED)), np.int64)
        counts[:, _COLUMN["windows"]] = judged = np.isfinite(mine.scores[places])
        counts[:, _COLUMN["planned"]] = planned[places]
        for event in mine.outputs:
            if isinstance(event, AlertEvent) and event.began:
                at = self._place(chunk, event, places)
                if at is not None:
                    counts[at, _COLUMN["anomalies"]] += AlertKind.ANOMALY in event.began
                    counts[at, _COLUMN["deviations"]] += AlertKind.DEVIATION in event.began
        ours = (mine.firing | mine.deviating)[places] & judged
        theirs = (judgement.firing | judgement.deviating)[places] & judged
        counts[:, _COLUMN["alone"]] = ours & ~theirs
        for j in np.flatnonzero(ours | theirs).tolist():
            which = CANDIDATE * bool(ours[j]) | INCUMBENT * bool(theirs[j])
            counts[j, _EPISODES] = self._begins(
                chunk.rows.assets[places[j]], int(chunk.rows.rows[places[j]]), which
            )
        return counts

    def _planned(self, chunk: WindowedRows) -> Mask:
        """Which rows have windows that reach into a planned stop."""
        return self._incumbent.maintenance.reached(chunk.rows.assets, chunk.rows.rows)

    def _own(self, chunk: WindowedRows, planned: Mask, scaling: Scaling, own: Scaling) -> WindowedRows:
        """The chunk with the windows that the candidate judges, in its units; there is nothing in it to be filled."""
        due = chunk.due & ~planned
        kept = due[chunk.wanted]
        windows = chunk.windows if kept.all() else chunk.windows.take(np.flatnonzero(kept))
        if not own.same_as(scaling):
            assert windows.scaled is not None
            windows = replace(
                windows,
                values=own.readings(windows.values),
                scaled=own.of(scaling.raw(windows.scaled)),
            )
        return replace(
            chunk,
            observed=np.ones_like(chunk.observed),
            held=None,
            due=due,
            wanted=due,
            windows=windows,
            first_offsets=chunk.first_offsets[kept],
        )

    def _place(self, chunk: WindowedRows, event: AlertEvent, places: Ints) -> int | None:
        """Which of the windows an event is of; None: of none that both have scored."""
        row = self._spec.row(event.row_ns)
        for j in np.flatnonzero(chunk.rows.rows[places] == row).tolist():
            if chunk.rows.assets[places[j]] == event.asset:
                return j
        return None

    def _begins(self, asset: str, row: int, which: int) -> tuple[bool, bool, bool]:
        """Whether an episode begins with a row of an asset: of the candidate, of the model in force, of both."""
        last, before = self._seen.get(asset, (row, 0))
        if row - last > max(self._spec.window, self._incumbent.policy.refractory):
            before = 0
        now = before | which
        self._seen[asset] = row, now
        new, both = now & ~before, CANDIDATE | INCUMBENT
        return bool(new & CANDIDATE), bool(new & INCUMBENT), now == both != before
