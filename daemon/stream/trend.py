"""Slow trends: the means of each asset's days, and the alert where a sensor moves from day to day.

The model says which trend is neither habit nor chance (``Detector.slow_trends``; how: ``daemon.model.trend``). Here are
the days: means of the rows of one day (UTC) that no other episode of the asset explains, of a sensor that had a value in
at least three quarters of them. They are raw, and outlive gaps, restarts and models.

When an asset's first row of a new day comes, the day before is over. A sensor that was beyond its limit at the end of
two days in a row opens a ``deviation`` of that sensor, unless one of the asset is open for its trend already; it closes
when the sensor is back below four fifths of the limit at the end of two days in a row, since one day that is unlike the
others (a Sunday) neither is wear nor ends it; or when none of the last ``KEPT`` days could be judged: the model has no
limits, a sensor or its mean has been missing since.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daemon.detector import Detector, SlowTrends
from daemon.domain import DAY_NS, AlertKind, Contributor, Floats, Ints, Mask, Output, StreamSpec
from daemon.grouping import Groups, by_slot
from daemon.stream.alerts import Episodes
from daemon.stream.assets import AssetTable
from daemon.stream.chunk_windows import WindowedRows
from daemon.stream.incident import EpisodeStart, Part
from daemon.stream.snapshot import pack_floats, unpack_floats
from daemon.stream.windowing import grown

KEPT = 15
"""Days of an asset that are kept: the longest span that a trend is looked for over, and one to see it the day before."""
WHOLE_DAY = 0.75
"""The share of a day's rows that makes its mean."""
CLOSES = 0.8
"""The share of its limit at which a trend is over."""
LARGEST = 1e30
"""Readings that are larger are of no sensor, and left out: a day's sums stay within what a record may hold."""


class TrendMonitor:
    """The days of the assets of one input partition. C sensors, N slots.

    Args:
        spec: the stream.
        assets: those of the partition.
        episodes: where the alerts are raised.
    """

    def __init__(self, spec: StreamSpec, assets: AssetTable, episodes: Episodes) -> None:
        self.spec = spec
        self._assets = assets
        self._episodes = episodes
        # By slot: the day that its rows are of, its sums and counts (2C). A number of 0 is no day.
        self._states: Floats = np.empty((0, 1 + 2 * len(spec.sensors)))
        # The days before (D, 1 + C), each its number and its means, the newest last; only of slots that have some.
        self._days: dict[int, Floats] = {}
        assets.register(self)

    # -------------------------------------------------------------- state
    def grow(self, capacity: int) -> None:
        """See ``PerAsset``."""
        self._states = grown(self._states, capacity)

    def clear(self, slot: int) -> None:
        """See ``PerAsset``."""
        self._states[slot] = 0.0
        self._days.pop(slot, None)

    def snapshot(self, slot: int) -> bytes:
        """The days of an asset, part of its record."""
        return pack_floats(np.concatenate([self._states[slot], self._before(slot).ravel()]))

    def restore(self, slot: int, state: bytes) -> None:
        """Continue with an asset as another process left it."""
        found, C = unpack_floats(state), len(self.spec.sensors)
        self.clear(slot)
        self._states[slot] = found[: 1 + 2 * C]
        if len(found) > 1 + 2 * C:
            self._days[slot] = found[1 + 2 * C :].reshape(-1, 1 + C)

    def _before(self, slot: int) -> Floats:
        """(D, 1 + C) the days before this one, D up to ``KEPT``."""
        return self._days.get(slot, np.empty((0, 1 + len(self.spec.sensors))))

    # -------------------------------------------------------------- rows
    def add(
        self, chunk: WindowedRows, explained: Mask, detector: Detector | None
    ) -> tuple[list[Output], Mask]:
        """Take in a chunk's rows; the alerts of days that ended, and (R, C) the cells of sensors with a trend.

        Args:
            chunk: its rows.
            explained: (R,) rows that another episode of their asset explains; they are not taken in.
            detector: the model in force; None: days are kept, and not judged.
        """
        outputs: list[Output] = []
        rows, slots = chunk.rows, chunk.rows.slots
        day = rows.rows * self.spec.period_ns // DAY_NS
        trending = self._trending(chunk)
        values = np.where(explained[:, None], np.nan, rows.values) if explained.any() else rows.values
        if not (self._states[slots, 0] < day).any():  # nearly always: no day ends
            self._accumulate(chunk.groups, slots, values)
            return outputs, trending
        for number in np.unique(day).tolist():
            which = np.flatnonzero(day == number)
            begins = which[self._states[slots[which], 0] < number]
            for i in begins[np.unique(slots[begins], return_index=True)[1]].tolist():
                slot, asset = int(slots[i]), rows.assets[i]
                self._end_day(slot)
                if self._states[slot, 0] and detector is not None:
                    outputs += self._judge(asset, slot, int(rows.rows[i]), detector)
                    later = np.arange(len(rows)) >= i
                    trending[later & (slots == slot)] = self._with_trend(asset)
                self._states[slot, 0] = number
            self._accumulate(by_slot(slots[which]), slots[which], values[which])
        return outputs, trending

    def _accumulate(self, groups: Groups, slots: Ints, values: Floats) -> None:
        """Add values (B, C) to the sums of their assets' days, and count them; NaN and what is of no sensor is left out.

        Each asset's rows one after the other: how they came in chunks must not show in the last bit.
        """
        present, C = np.abs(values) < LARGEST, values.shape[1]
        # The cells of the states, as one row of numbers, that the values belong to.
        states = self._states.reshape(-1)  # a view
        cells = ((slots * self._states.shape[1])[:, None] + np.arange(1, 1 + C)).reshape(-1)
        if present.all():
            begins = groups.begins_at
            self._states[slots[groups.order[begins]], 1 + C :] += np.diff(begins, append=len(slots))[:, None]
        else:
            values = np.where(present, values, 0.0)
            np.add.at(states, cells + C, present.reshape(-1).astype(np.float64))
        np.add.at(states, cells, values.reshape(-1))  # one by one, in this order

    def _trending(self, chunk: WindowedRows) -> Mask:
        """(R, C) the cells of sensors with a trend, as it was before these rows."""
        found = np.zeros(chunk.rows.values.shape, bool)
        for asset in chunk.assets & self._episodes.assets.keys():
            trending = self._with_trend(asset)
            if trending.any():
                found[chunk.rows.slots == self._assets.slots[asset]] = trending
        return found

    def _with_trend(self, asset: str) -> Mask:
        """(C,) the sensors of an asset that have a trend."""
        return np.isin(self.spec.sensors, self._episodes.trends(asset))

    def _end_day(self, slot: int) -> None:
        """The day's mean joins those before, and the next day begins."""
        C, state = len(self.spec.sensors), self._states[slot]
        count = state[1 + C : 1 + 2 * C]
        whole = count >= WHOLE_DAY * DAY_NS / self.spec.period_ns
        if whole.any() and state[0]:
            means = np.where(whole, state[1 : 1 + C] / np.maximum(count, 1.0), np.nan)
            day = np.concatenate([state[:1], means])[None]
            self._days[slot] = np.concatenate([self._before(slot)[1 - KEPT :], day])
        state[1 : 1 + 2 * C] = 0.0

    # -------------------------------------------------------------- alerts
    def _judge(self, asset: str, slot: int, row: int, detector: Detector) -> list[Output]:
        """Open or close the deviation of a trend, at the end of a day."""
        days = self._before(slot)
        stale = np.count_nonzero(days[:, 0] <= self._states[slot, 0] - KEPT)  # the oldest
        now, before = (_trends(some, detector) if len(some) > stale else None for some in (days, days[:-1]))
        sensors, outputs, open_ = self.spec.sensors, list[Output](), self._episodes.trends(asset)
        # One that nothing could be judged by, in any of these days, would stay open for ever.
        kept = now is not None or any(
            _trends(days[:n], detector) is not None for n in range(len(days), stale, -1) if open_
        )
        both = [one for one in (now, before) if one is not None]
        for sensor in open_:
            c = sensors.index(sensor)
            if not kept or (now is not None and all(one.ratio[c] <= CLOSES for one in both)):
                over = Part(AlertKind.DEVIATION, sensor, slow=True)
                outputs += self._episodes.close_unscored(asset, over, row, detector.version)
        if now is None or before is None or not ((now.ratio > 1.0) & (before.ratio > 1.0)).any():
            return outputs
        if self._episodes.trends(asset) or self._episodes.maintenance.covers(asset, row):
            return outputs
        named = _contributors(sensors, days, now)
        leading = sensors.index(named[0].sensor)
        start = EpisodeStart(
            AlertKind.DEVIATION,
            int(now.since[leading]) * DAY_NS // self.spec.period_ns,
            named[0].sensor,
            contributors=named,
            per_day=float(now.per_day[leading]),
        )
        return outputs + list(self._episodes.open_unscored(asset, start, row, detector.version))


def _trends(days: Floats, detector: Detector) -> SlowTrends | None:
    """How the sensors moved over the newest of these days (D, 1 + C)."""
    if not len(days):
        return None
    recent = days[1 - KEPT :]
    numbers: Ints = recent[:, 0].astype(np.int64)
    return detector.slow_trends(numbers, recent[:, 1:])


def _contributors(sensors: Sequence[str], days: Floats, trends: SlowTrends) -> list[Contributor]:
    """The sensors beyond their limits, the leading one first: the last day's mean, and where it would be without."""
    weight = np.where(trends.ratio > 1.0, trends.ratio, 0.0)
    lead = weight * np.where(trends.agrees, 1.0, 0.5)
    found = []
    for c in np.argsort(-lead, kind="stable").tolist():
        if weight[c] > 0.0:
            observed = float(days[-1, 1 + c])
            moved = float(trends.per_day[c] * (days[-1, 0] - trends.since[c]))
            found.append(Contributor(sensors[c], observed, observed - moved, float(weight[c] / weight.sum())))
    return found
