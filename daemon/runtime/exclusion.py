"""Which rows of the input topics may not be learned: those that the alerts topic names.

The alerts may be of any process that published to the topic, also of an earlier one:

* ``anomaly`` (and ``deviation`` and ``regime``): the asset's rows from the onset to the row that closed the
  episode, or to the end while it is open;
* ``sensor_stuck``: the values of that sensor alone; the other sensors were well.

Two windows to either side are left out with them. Other kinds state that values were missing or that the
model knows too little: a silence is a gap like any other, and a new condition or a drift is to be learned.
An operator's verdict that an episode was none would belong into ``Alerts.named``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from daemon.domain import AlertKind, Segment, StreamSpec
from daemon.runtime.segmenting import FOREVER, cut
from daemon.stream.encoding import PublishedAlert, read_alert

MOST_EPISODES = 100_000
WHOLE_ASSET = frozenset({AlertKind.ANOMALY.value, AlertKind.REGIME.value, "deviation"})
ONE_SENSOR = frozenset({AlertKind.SENSOR_STUCK.value})


class Alerts:
    """What the alerts topic says of one stream's episodes, message by message.

    Messages that cannot be read are counted in ``unreadable``, episodes beyond ``MOST_EPISODES`` in
    ``beyond``. Only episodes that keep rows from being learned are kept.
    """

    def __init__(self, stream: str) -> None:
        self.unreadable = 0
        self.beyond = 0
        self.first_ns = FOREVER  # the oldest row that any message speaks of
        self._stream = stream
        self._episodes: dict[str, PublishedAlert] = {}

    def take(self, message: bytes) -> None:
        """Take one message of the topic, of whichever stream; each partition's in their order."""
        try:
            said = read_alert(message)
        except ValueError:
            self.unreadable += 1
            return
        if said.stream != self._stream:
            return
        self.first_ns = min(self.first_ns, said.row_ns)
        if said.kind not in WHOLE_ASSET | ONE_SENSOR:
            return
        known = self._episodes.get(said.fingerprint)
        if known is None and len(self._episodes) >= MOST_EPISODES:
            self.beyond += 1
        elif known is None or not known.over:  # closed once is closed, though a restart says it all again
            self._episodes[said.fingerprint] = said

    def named(self) -> list[PublishedAlert]:
        """The episodes whose rows may not be learned."""
        return list(self._episodes.values())


def without(
    history: Sequence[Segment], episodes: Iterable[PublishedAlert], spec: StreamSpec
) -> tuple[list[Segment], int]:
    """A history without the rows of these episodes, and their neighbours two windows to either side.

    Returns:
        The segments that remain, and how many cells with a value were taken out.
    """
    margin = 2 * spec.window
    spans: dict[str, list[tuple[int, int, int | None]]] = {}
    for e in episodes:
        first = spec.row(e.onset_ns) - margin
        stop = spec.row(e.row_ns) + margin + 1 if e.over else FOREVER
        if e.kind in ONE_SENSOR:
            if e.sensor in spec.sensors:
                spans.setdefault(e.asset, []).append((first, stop, spec.sensors.index(e.sensor)))
        else:
            spans.setdefault(e.asset, []).append((first, stop, None))
    kept: list[Segment] = []
    taken = 0
    for segment in history:
        rows, values = segment.first_row + np.arange(len(segment.values)), segment.values
        keep = np.ones(len(rows), bool)
        for first, stop, sensor in spans.get(segment.asset, ()):
            a, b = np.searchsorted(rows, [first, stop]).tolist()
            if a == b:
                continue
            if sensor is None:
                keep[a:b] = False
                continue
            if values is segment.values:
                values = values.copy()
            taken += int(np.isfinite(values[a:b, sensor]).sum())
            values[a:b, sensor] = np.nan
        if keep.all() and values is segment.values:
            kept.append(segment)
            continue
        taken += int(np.isfinite(values[~keep]).sum())
        labels = segment.condition or ("",) * len(rows)
        kept += cut(
            segment.asset, rows[keep], values[keep], [labels[i] for i in np.flatnonzero(keep).tolist()]
        )
    return kept, taken
