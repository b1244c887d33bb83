"""The explanation of one window: sensors to blame, smallest repair, verdict, normal twin.

In: a ``Track``, a window of it, and the episode that the window belongs to, if any. Out: ``RootCause``
without its neighbours. The methods are those of ``model.repair``; here they are applied to the rows around
the window.
"""

from __future__ import annotations

import numpy as np

from daemon.detector import OwnedWindow
from daemon.domain import (
    Floats,
    StreamSpec,
)
from daemon.model.repair import (
    explained_share,
    latent_path,
    normal_twin,
    reconstructed,
    smallest_repair,
    verdict_of,
)
from daemon.model.root_cause import Incident, Jump, RootCause
from daemon.model.track import Track
from daemon.stream.attribution import PeakEvidence, SensorEvidence

CONTEXT = 3
"""Rows before the onset that are shown, in windows."""
MOST_ROWS = 1_500
"""Rows that are shown, at most; of a longer episode, those around its peak."""


def explained(track: Track, index: int, incident: Incident | None, spec: StreamSpec) -> RootCause:
    """Explain one window of a track.

    Args:
        track: scored rows of one asset.
        index: of the window.
        incident: the episode that the window belongs to; None: it is explained alone.
        spec: of the stream.

    Returns:
        The root cause, without neighbours.
    """
    detector, period, L = track.detector, spec.period_ns, track.detector.window
    onset = index if incident is None else track.index_from(incident.onset_ns // period)
    stop = index + 1 if incident is None else max(track.index_from(incident.last_ns // period), index + 1)
    shares = blame(track, min(onset, index), stop)
    view = track.view(index)
    repair = smallest_repair(detector, view, shares)
    midst = (track.index_from(incident.opened_ns // period) + stop - 1) // 2 if incident else index
    explained = explained_share(
        detector,
        track.window(midst),
        track.condition[int(track.at[midst])],
        before(track, min(onset, index)),
        track.asset,
    )
    middle = view if midst == index else track.view(midst)
    at, begin = int(track.at[index]), int(track.at[min(onset, index)])
    low = max(begin - (CONTEXT + 1) * L, at + 1 - MOST_ROWS, 0)
    high = min(max(int(track.at[stop - 1]) + 1 + L, at + 1), low + MOST_ROWS + L, len(track.values))
    rows = slice(low, high)
    since = max(begin - L + 1, low)
    expected, scores = np.full(track.values.shape, np.nan), np.full(len(track.values), np.nan)
    expected[track.at], scores[track.at] = track.evidence.expected, track.verdicts.score
    start = max(min(onset, index) - CONTEXT * L, 0)
    return RootCause(
        stream=spec.name,
        asset=track.asset,
        model=detector.version,
        sensors=detector.sensors,
        period_ns=period,
        incident=incident,
        row_ns=track.row(index) * period,
        threshold=detector.threshold,
        verdict=verdict_of(detector, repair, middle, explained),
        repair=repair,
        shares=shares,
        times_ns=(track.first_row + np.arange(low, high)) * period,
        scores=scores[rows],
        observed=track.values[rows],
        expected=expected[rows],
        twin=normal_twin(
            detector, track.values[rows], track.condition[rows], repair.sensors, since - low, track.asset
        ),
        window=slice(at + 1 - L - low, at + 1 - low),
        reconstruction=reconstructed(detector, view),
        path=latent_path(
            detector, track.evidence.posterior[start : index + 1], max(min(onset, index) - start, 1)
        ),
        path_times_ns=(track.first_row + track.at[start : index + 1]) * period,
        nearest=(),
        jump=jump_of(track, min(onset, index), stop, period),
    )


def jump_of(track: Track, first: int, stop: int, period_ns: int) -> Jump | None:
    """The largest jump of windows ``first .. stop - 1``; None where none is beyond its limit, or a score opens, too."""
    scores, jump = track.verdicts.score[first:stop], track.verdicts.jump
    if jump is None or (scores > track.detector.threshold).any():
        return None
    sizes = np.nan_to_num(jump[first:stop])
    row, sensor = np.unravel_index(int(np.argmax(sizes)), sizes.shape)
    if not sizes[row, sensor] > 1.0:
        return None
    return Jump(int(sensor), float(sizes[row, sensor]), track.row(first + int(row)) * period_ns)


def before(track: Track, onset: int) -> Floats:
    """(B, L, C) some windows from before an onset, far enough from it not to contain the onset's cause."""
    L = track.detector.window
    chosen = range(max(onset - CONTEXT * L, 0), onset - L // 2, max(L // 4, 1))
    return (
        np.stack([track.window(i) for i in chosen]) if len(chosen) else np.empty((0, *track.window(0).shape))
    )


def blame(track: Track, first: int, stop: int) -> Floats:
    """(C,) shares of the sensors over windows ``first .. stop - 1``, as in an alert at the last of them."""
    peaks: PeakEvidence | None = None
    scores, jump = track.verdicts.score, track.verdicts.jump
    for i in range(first, stop):
        window = track.window(i)
        scaled = track.detector.scaling.of(window)
        row = SensorEvidence.read(
            track.verdicts.error[i],
            track.evidence.residual[i],
            scaled - track.detector.level_of(OwnedWindow(scaled, track.asset, "")),
            window[-1],
            track.evidence.expected[i],
            None if jump is None or scores[i] > track.detector.threshold else jump[i],
        )
        peaks = PeakEvidence.since(row) if peaks is None else peaks.grown(row)
    assert peaks is not None
    return peaks.shares()
