"""The past episodes that are most like the one that is explained.

In: the explained window, and ``Past``: episodes of the same file, of an ``alerts.jsonl``, and verdicts of
operators. Out: ``Neighbour`` values, the most alike first. Likeness (``model.repair``) compares which sensors
are blamed, and where the rows are at hand also how the latents moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from daemon.commands.root_cause.records import read_alerts, read_feedback
from daemon.commands.root_cause.tracks import Tracks
from daemon.commands.root_cause.window import CONTEXT
from daemon.domain import (
    Floats,
)
from daemon.model.repair import (
    latent_path,
    likeness,
)
from daemon.model.root_cause import Incident, Neighbour, RootCause
from daemon.model.track import Track

NEAREST = 5
"""Past episodes that are shown."""
MOST_PAST = 200
"""Episodes of the file that are compared, at most: the newest ones."""


@dataclass(frozen=True, slots=True)
class Past:
    """What an episode is compared with."""

    incidents: Sequence[Incident]  # of the same file, by onset, without the one that is explained
    tracks: Tracks  # of that file
    alerts: Path | None = None  # an ``alerts.jsonl`` with more of them
    feedback: Path | None = None  # verdicts of operators


def nearest(found: RootCause, track: Track, index: int, past: Past) -> tuple[Neighbour, ...]:
    """The past episodes that are most like the one explained by ``found``, at a window of its track.

    Raises:
        InputError: a file of past episodes cannot be read.
    """
    verdicts = {} if past.feedback is None else read_feedback(past.feedback)
    names = found.sensors
    place = {name: c for c, name in enumerate(names)}
    moved = moved_by(track, index, found.since_ns // found.period_ns)
    earlier = [i for i in past.incidents if i.onset_ns < found.since_ns][-MOST_PAST:]
    candidates: list[tuple[float, Incident]] = []
    for incident in earlier:
        other = past.tracks.track(incident.asset, incident.peak_ns // found.period_ns)
        at = None if other is None else other.index_at(incident.peak_ns // found.period_ns)
        theirs = (
            None if other is None or at is None else moved_by(other, at, incident.onset_ns // found.period_ns)
        )
        candidates.append((likeness(found.shares, moved, shares_of(incident, place), theirs), incident))
    known = {i.fingerprint for i in past.incidents} | (
        {found.incident.fingerprint} if found.incident else set()
    )
    for incident in [] if past.alerts is None else read_alerts(past.alerts):
        if incident.fingerprint not in known and incident.onset_ns < found.since_ns:
            candidates.append((likeness(found.shares, moved, shares_of(incident, place), None), incident))
    candidates.sort(key=lambda c: (-c[0], c[1].onset_ns, c[1].fingerprint))
    return tuple(
        Neighbour(
            incident.asset,
            incident.fingerprint,
            incident.onset_ns,
            alike,
            tuple(c.sensor for c in incident.contributors[:3]),
            *verdicts.get(incident.fingerprint, (None, None)),
        )
        for alike, incident in candidates[:NEAREST]
    )


def shares_of(incident: Incident, place: Mapping[str, int]) -> Floats:
    """(C,) an episode's shares by sensor; a sensor that this model does not know counts for none."""
    shares = np.zeros(len(place))
    for c in incident.contributors:
        if c.sensor in place:
            shares[place[c.sensor]] = c.share
    return shares


def moved_by(track: Track, index: int, onset_row: int) -> Floats:
    """(Z,) how far the latents had moved since before the onset, sd."""
    onset = min(track.index_from(onset_row), index)
    start = max(onset - CONTEXT * track.detector.window, 0)
    posterior = track.evidence.posterior[start : index + 1]
    path = latent_path(track.detector, posterior, max(onset - start, 1), most=posterior.shape[1])
    moved = np.zeros(posterior.shape[1])
    if path.dimensions:
        moved[list(path.dimensions)] = path.sd[-1] - np.median(path.sd[: max(onset - start, 1)], axis=0)
    return moved
