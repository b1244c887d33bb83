"""Simulate correlated error paths of missing cells: a Gaussian field, cell by cell in time.

Sequential Gaussian simulation (Deutsch & Journel 1998) with the lagged covariances of imputation: each cell
is drawn given the nearest cells that were observed or drawn before, on both of its sides. A Gaussian's
conditional covariance does not depend on the observed values, so readings count as zero, and the results
are paths of the *error*: zero at the readings, as far from zero between them as the field is uncertain, and
as rough as the sensor. Memory is bounded by the reach of the field, and long gaps have no seams.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from daemon.domain import (
    Floats,
    Ints,
    Mask,
)
from daemon.model.imputation.field import NO_ROW, REACH, next_observed
from daemon.model.imputation.filling import LEVELS
from daemon.model.imputation.parameters import ImputationParameters

LEVEL = LEVELS[-1]
"""Level variance tau of the simulated field: the larger of batch filling's two, with which only differences count.

A sensor's level in a long gap is unknown, and an error there is a random walk rather than mean-reverting."""
NUGGETS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Noise variances of a reading, in squared scaled units, tried until a cell's conditional makes sense.

The least is that of a reading with four digits: more would draw a smooth sensor as white noise."""
BACK, AHEAD = 4, 2
"""Of the sensor's own known cells so many before and after count: what its slope and curvature need."""
_REMEMBERED = 4096  # conditionals of neighbourhoods that come again, as they do all through an outage


class ErrorPaths:
    """Error paths of a segment's missing cells: jointly Gaussian, zero where a reading is.

    Args:
        parameters: whose covariances.
        observed: (T, C).
        wanted: (T, C) the missing cells to simulate.
        count: N paths.
        generator: their randomness; the same gives the same paths.
        level: tau.
    """

    def __init__(
        self,
        parameters: ImputationParameters,
        observed: Mask,
        wanted: Mask,
        count: int,
        generator: np.random.Generator,
        level: float = LEVEL,
    ) -> None:
        self._gamma = parameters.covariance.reshape(-1)
        self._sensors = parameters.covariance.shape[1]
        self._partners = parameters.partners
        self._observed, self._wanted, self._count = observed, wanted, count
        self._level, self._generator = level, generator
        self._next = next_observed(observed)
        self._known = observed.copy()
        self._memory: dict[bytes, tuple[Floats, float]] = {}
        # Paths of the last rows, by row modulo its length; older rows are beyond the field's reach.
        self._ring = np.zeros((REACH + 1, self._sensors, count))

    def rows(self) -> Iterator[tuple[int, Ints, Floats]]:
        """Each row with wanted cells: its number, their channels (n,), and the paths (n, N) there."""
        length = len(self._observed)
        last: Ints = np.full(self._sensors, NO_ROW)  # the newest known row of each sensor
        for row in np.flatnonzero(self._wanted.any(1)).tolist():
            before = self._known[max(row - REACH, 0) : row]
            at = (
                len(before) - 1 - before[::-1].argmax(0) if len(before) else np.zeros(self._sensors, np.int64)
            )
            last = np.where(before.any(0), row - len(before) + at, NO_ROW)
            last[self._known[row]] = row
            channels = np.flatnonzero(self._wanted[row])
            noise = self._generator.standard_normal((len(channels), self._count))
            place = row % (REACH + 1)
            self._ring[place] = 0.0
            for i, channel in enumerate(channels.tolist()):
                where, rows = self._neighbours(row, channel, last, length)
                weights, variance = self._conditional(row, channel, where, rows)
                path = np.sqrt(variance) * noise[i]
                drawn = (rows <= row) & ~self._observed[rows, where]  # the readings count as zero
                if drawn.any():
                    path += weights[drawn] @ self._ring[rows[drawn] % (REACH + 1), where[drawn]]
                self._ring[place, channel] = path
                self._known[row, channel] = True
                last[channel] = row
            yield row, channels, self._ring[place, channels].copy()

    def _neighbours(self, row: int, channel: int, last: Ints, length: int) -> tuple[Ints, Ints]:
        """Channels and rows (K,) of the known cells that are most informative about one cell."""
        own = np.flatnonzero(self._known[max(row - REACH, 0) : row, channel])[-BACK:] + max(row - REACH, 0)
        ahead = self._observed[row + 1 : row + 1 + REACH, channel]
        after = row + 1 + np.flatnonzero(ahead)[:AHEAD]
        partners = self._partners[channel]
        newest = last[partners]
        beside = self._next[row, partners]  # a reading of this row is both
        columns = [np.full(len(own) + len(after), channel), partners, partners[beside != newest]]
        rows = [own, after, newest, beside[beside != newest]]
        # The partners at the sensor's own nearest rows carry a residual across the gap.
        for side in (own[-1:], after[:1]):
            for at in side.tolist():
                some = partners[self._known[at, partners] & (newest != at) & (beside != at)]
                columns.append(some)
                rows.append(np.full(len(some), at))
        where, at_rows = np.concatenate(columns), np.concatenate(rows)
        near = (at_rows >= 0) & (at_rows < length) & (np.abs(at_rows - row) <= REACH)
        return where[near], at_rows[near]

    def _conditional(self, row: int, channel: int, where: Ints, rows: Ints) -> tuple[Floats, float]:
        """Weights (K,) of the neighbours and the variance given them."""
        lag = rows - row
        key = channel.to_bytes(4, "little") + where.tobytes() + lag.tobytes()
        known = self._memory.get(key)
        if known is None:
            if len(self._memory) >= _REMEMBERED:
                self._memory.clear()
            known = self._memory[key] = self._solve(channel, where, lag)
        return known

    def _solve(self, channel: int, where: Ints, lag: Ints) -> tuple[Floats, float]:
        C = self._sensors
        of_i, of_j = (2 * REACH - lag) * C**2 + where * C, lag * C**2 + where
        system = self._gamma[of_i[:, None] + of_j] + self._level * (where[:, None] == where)
        right = self._gamma[of_i + channel] + self._level * (where == channel)
        whole = float(self._gamma[2 * REACH * C**2 + channel * (C + 1)]) + self._level
        if not len(where):
            return np.empty(0), whole + NUGGETS[0]
        diagonal = np.arange(len(where))
        for nugget in NUGGETS:
            system[diagonal, diagonal] += nugget
            try:
                weights = np.linalg.solve(system, right)
            except np.linalg.LinAlgError:
                weights = None
            system[diagonal, diagonal] -= nugget
            if weights is None:
                continue
            # The conditions of ``imputation.field``: covariances from data with gaps may be inconsistent.
            explained = float(weights @ right)
            if nugget * float(weights @ weights) <= explained + 1e-6 and explained <= whole + 1e-6:
                return weights, max(whole - explained, 0.0) + nugget
        return np.zeros(len(where)), whole + NUGGETS[-1]
