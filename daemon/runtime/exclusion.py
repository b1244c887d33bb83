"""Which rows of the input topics may not be learned: those that the alerts topic names.

The alerts may be of any process that published to the topic, also of an earlier one:

* ``anomaly`` and ``deviation``: the asset's rows from the onset to the row at which no such part of the alert is open
  any more, or to the end while one is;
* ``sensor_stuck``: the values of that sensor alone; those of the other sensors are kept.

An alert that has both is both, each as often and for as long as it has such a part open (``data.open``). Rows of a regime
that may be learned (``data.regime``) are kept, from ``since`` to the message that says that they may no more. Two windows
to either side are left out with them. Other kinds state that values were missing or that the
model knows too little: a silence is a gap like any other, and a new condition is to be learned. Rows of planned stops are
left out likewise (``planned_stops``), unless their window says that they may be learned.

What people said of an episode comes before what its messages say. A *confirmed* incident is never learned, whatever of
it was a regime. A *false alarm* is learned like any other rows, and so is what was *planned*, from its alert's close on,
when it was accepted. Of rows that are learned because of such a verdict, no episode makes more than ``MOST_OF_A_SET``
of a training: a model that is shown one thing over and over finds little else unusual.

``drifted`` are the spans of drift intervals; see there for when they are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from daemon.control import Verdict
from daemon.domain import AlertKind, InputPartition, Ints, Segment, StreamSpec
from daemon.maintenance import MaintenanceWindow
from daemon.runtime.segmenting import FOREVER, cut
from daemon.stream.encoding import PublishedAlert, PublishedDrift, read_alert

MOST_EPISODES = 100_000
MOST_OF_A_SET = 0.05
"""Share of a training's rows, of one episode that a verdict lets in."""
ALERTS, DRIFT, REPEATED = "alerts", "drift", "one false alarm beyond its share"
PLANNED = "planned stops"
"""Why values are left out."""
WHOLE_ASSET = frozenset({AlertKind.ANOMALY.value, AlertKind.DEVIATION.value})
ONE_SENSOR = frozenset({AlertKind.SENSOR_STUCK.value})


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Rows of an asset that may not be learned, or one sensor's values in them."""

    asset: str
    sensor: str | None  # None: all
    onset_ns: int
    row_ns: int  # the newest that a message was about
    over: bool  # at ``row_ns``
    margin: tuple[int, int] = (2, 2)  # windows before and after that are left out with them
    cause: str = ALERTS


@dataclass(frozen=True, slots=True)
class Incident:
    """A confirmed episode that is over, as far as any part of it reached."""

    fingerprint: str
    asset: str
    onset_ns: int
    row_ns: int  # at which it closed


@dataclass(frozen=True, slots=True)
class _Learned:
    """Rows of a regime that may be learned."""

    since_ns: int
    row_ns: int  # the newest that a message was about
    over: bool  # since ``row_ns``


class AlertedEpisodes:
    """What of one stream may not be learned, from the messages of the alerts topic.

    Messages that cannot be read are counted in ``unreadable``, messages of alerts beyond ``MOST_EPISODES``
    in ``beyond``.
    """

    def __init__(self, stream: str) -> None:
        self.unreadable = 0
        self.beyond = 0
        self.first_ns = FOREVER  # the oldest row that any message is about
        self._stream = stream
        self._alerts: dict[
            str, dict[str | None, list[LeftOut]]
        ] = {}  # by fingerprint and sensor, oldest first
        self._learned: dict[str, list[_Learned]] = {}  # by fingerprint, in their order
        self.accepted: dict[str, int] = {}  # per asset the row at which a regime was last accepted, ns
        self._count = 0

    def add(self, message: bytes) -> None:
        """Add one message of the topic, of any stream; the messages of a partition in their order."""
        try:
            alert = read_alert(message)
        except ValueError:
            self.unreadable += 1
            return
        if alert.stream != self._stream or alert.suppressed:
            return  # what a planned stop suppressed is of rows that are left out by that, unless they are wanted
        if alert.accepted:
            self.accepted[alert.asset] = max(alert.row_ns, self.accepted.get(alert.asset, 0))
        self.first_ns = min(self.first_ns, alert.row_ns)
        mine = self._alerts.get(alert.fingerprint, {})
        parts = alert.parts
        if not parts and not ((alert.over or alert.quiet) and mine):
            parts = ((alert.kind, alert.sensor, alert.onset_ns),)
        onsets: dict[str | None, int] = {}
        for kind, sensor, onset_ns in parts:
            if kind in WHOLE_ASSET or (kind in ONE_SENSOR and sensor is not None):
                key = sensor if kind in ONE_SENSOR else None
                onsets[key] = min(onset_ns, onsets.get(key, onset_ns))
        for key, onset_ns in onsets.items():
            newest = mine[key][-1] if key in mine else None
            if newest is None or (newest.over and alert.row_ns > newest.row_ns):
                if self._count >= MOST_EPISODES:
                    self.beyond += 1
                    continue
                self._count += 1
                mine = self._alerts.setdefault(alert.fingerprint, {})
                one = LeftOut(alert.asset, key, onset_ns, alert.row_ns, over=False)
                mine.setdefault(key, []).append(one)
            elif not newest.over and alert.row_ns >= newest.row_ns:
                mine[key][-1] = replace(newest, onset_ns=min(onset_ns, newest.onset_ns))
        for key, spans in mine.items():
            newest = spans[-1]
            # A restart repeats messages: what is over stays so, and an older one says nothing of what came later.
            if not newest.over and alert.row_ns >= newest.row_ns:
                over = alert.over or alert.quiet or key not in onsets
                spans[-1] = replace(newest, row_ns=alert.row_ns, over=over)
        if mine:
            self._learn(alert)

    def episodes(self, verdicts: Mapping[str, Verdict] | None = None) -> list[LeftOut]:
        """What may not be learned, where people judged these episodes, by fingerprint."""
        said = verdicts or {}
        return [
            piece
            for fingerprint, mine in self._alerts.items()
            for spans in mine.values()
            for one in spans
            for piece in self._left_out(fingerprint, one, said.get(fingerprint))
        ]

    def let_in(self, verdicts: Mapping[str, Verdict]) -> list[list[LeftOut]]:
        """Per false alarm its rows, which its verdict lets in."""
        return [
            [span for spans in mine.values() for span in spans]
            for fingerprint, mine in self._alerts.items()
            if verdicts.get(fingerprint) is Verdict.FALSE_ALARM
        ]

    def called_normal_ns(self, verdicts: Mapping[str, Verdict]) -> int:
        """The newest row that people have called normal by a verdict, or that was accepted as a regime; -1: none."""
        normal = (Verdict.FALSE_ALARM, Verdict.PLANNED)
        rows = [
            span.row_ns
            for fingerprint, mine in self._alerts.items()
            if verdicts.get(fingerprint) in normal
            for spans in mine.values()
            for span in spans
        ]
        return max([-1, *rows, *self.accepted.values()])

    def let_in_ns(self, verdicts: Mapping[str, Verdict]) -> dict[str, int]:
        """Per asset the newest row of what alarmed and is learned: by a verdict, as an accepted regime, or as one that lasts."""
        normal = (Verdict.FALSE_ALARM, Verdict.PLANNED)
        newest = dict(self.accepted)
        for fingerprint, mine in self._alerts.items():
            learned = [span.row_ns for span in self._learned.get(fingerprint, [])]
            for one in (span for spans in mine.values() for span in spans):
                rows = [*learned, one.row_ns] if verdicts.get(fingerprint) in normal else learned
                newest[one.asset] = max([newest.get(one.asset, -1), *rows])
        return {asset: row for asset, row in newest.items() if row >= 0}

    def confirmed(self, verdicts: Mapping[str, Verdict]) -> list[Incident]:
        """The confirmed episodes that are over, the newest last."""
        found = []
        for fingerprint, mine in self._alerts.items():
            spans = [span for each in mine.values() for span in each]
            if verdicts.get(fingerprint) is Verdict.CONFIRMED and all(span.over for span in spans):
                onset_ns, row_ns = min(s.onset_ns for s in spans), max(s.row_ns for s in spans)
                found.append(Incident(fingerprint, spans[0].asset, onset_ns, row_ns))
        return sorted(found, key=lambda one: (one.row_ns, one.fingerprint))

    def _left_out(self, fingerprint: str, one: LeftOut, verdict: Verdict | None) -> Iterator[LeftOut]:
        """What of a span may not be learned."""
        if verdict is Verdict.FALSE_ALARM:
            return
        if verdict is Verdict.PLANNED:
            one = replace(one, over=True, margin=(one.margin[0], 0))
        if one.sensor is not None or verdict is Verdict.CONFIRMED:
            yield one
        else:
            yield from self._without_learned(fingerprint, one)

    def _learn(self, alert: PublishedAlert) -> None:
        """Follow which rows of an alert may be learned; messages that a restart repeats change nothing."""
        spans = self._learned.get(alert.fingerprint, [])
        if spans and alert.row_ns <= spans[-1].row_ns:
            return
        lasts = bool(spans) and not spans[-1].over
        if alert.learned_ns is not None and not lasts:
            self._learned.setdefault(alert.fingerprint, spans).append(
                _Learned(alert.learned_ns, alert.row_ns, over=False)
            )
        elif lasts:
            over = alert.learned_ns is None
            spans[-1] = replace(spans[-1], row_ns=alert.row_ns, over=over)

    def _without_learned(self, fingerprint: str, one: LeftOut) -> Iterator[LeftOut]:
        """The pieces of an alert's rows that may not be learned."""
        onset_ns, end_ns = one.onset_ns, one.row_ns if one.over else FOREVER
        for span in self._learned.get(fingerprint, []):
            if span.since_ns > end_ns:
                break
            if span.since_ns > onset_ns:
                yield replace(one, onset_ns=onset_ns, row_ns=span.since_ns - 1, over=True)
            if not span.over:
                return
            onset_ns = max(onset_ns, span.row_ns)
        if onset_ns <= end_ns:
            yield replace(one, onset_ns=onset_ns)


def planned_stops(
    history: Sequence[Segment], windows: Sequence[MaintenanceWindow], spec: StreamSpec
) -> list[LeftOut]:
    """The rows of a history that lie in planned stops, and may not be learned."""
    found: set[tuple[str, int, int]] = set()
    for window in windows:
        if window.learn:
            continue
        for segment in history:
            if not window.concerns(segment.asset):
                continue
            first_ns = segment.first_row * spec.period_ns
            end_ns = first_ns + len(segment.values) * spec.period_ns
            found |= {(segment.asset, *span) for span in window.between(first_ns, end_ns)}
    return [
        LeftOut(asset, None, start, end - 1, over=True, cause=PLANNED) for asset, start, end in sorted(found)
    ]


def drifted(
    intervals: Iterable[PublishedDrift],
    partitions_of: Mapping[str, frozenset[InputPartition]],
    accepted: Mapping[str, int],
) -> list[LeftOut]:
    """The rows of drift intervals: of each asset those of its partitions, where it is the stream that drifts, and its own.

    Args:
        intervals: of the stream.
        partitions_of: per asset the partitions that its rows came from.
        accepted: per asset the event time at which a regime was last accepted. What was accepted stays apart from what
            training saw until a training has learned it: the intervals of its partitions that end later are kept.
    """
    flagged: dict[InputPartition, dict[int, int]] = {}  # start -> end
    alone: dict[str, set[tuple[int, int]]] = {}
    for one in intervals:
        for asset, start, end in one.assets:
            if asset not in accepted or end <= accepted[asset]:
                alone.setdefault(asset, set()).add((start, end))
        if one.verdict == "drift":
            flagged.setdefault(one.partition, {})[one.start_ns] = one.end_ns
    for asset, at_ns in accepted.items():
        for partition in partitions_of.get(asset, ()):
            mine = flagged.get(partition, {})
            flagged[partition] = {start: end for start, end in mine.items() if end <= at_ns}
    return [
        LeftOut(asset, None, start, end - 1, over=True, margin=(0, 0), cause=DRIFT)
        for asset, partitions in partitions_of.items()
        for start, end in sorted(
            {span for each in partitions for span in flagged.get(each, {}).items()} | alone.get(asset, set())
        )
    ]


def beyond_share(
    history: Sequence[Segment], let_in: Iterable[Sequence[LeftOut]], spec: StreamSpec
) -> list[LeftOut]:
    """What is to be left out of false alarms so that none makes more than ``MOST_OF_A_SET``: their oldest rows."""
    rows_of: dict[str, list[Ints]] = {}
    for segment in history:
        rows_of.setdefault(segment.asset, []).append(segment.first_row + np.arange(len(segment.values)))
    found: list[tuple[str, Ints]] = []  # asset, and its rows within one alert
    for spans in let_in:
        asset = spans[0].asset
        rows = np.sort(np.concatenate(rows_of.get(asset, [np.empty(0, np.int64)])))
        inside = np.zeros(len(rows), bool)
        for span in spans:
            last = spec.row(span.row_ns) if span.over else FOREVER
            inside |= (rows >= spec.row(span.onset_ns)) & (rows <= last)
        found.append((asset, rows[inside]))
    others = sum(len(segment.values) for segment in history) - sum(len(rows) for _, rows in found)
    most = int(max(others, 0) * MOST_OF_A_SET / (1.0 - MOST_OF_A_SET))
    period = spec.period_ns
    return [
        LeftOut(
            asset,
            None,
            int(rows[0]) * period,
            int(rows[len(rows) - most - 1]) * period,
            over=True,
            margin=(0, 0),
            cause=REPEATED,
        )
        for asset, rows in found
        if len(rows) > most
    ]


def exclude_episodes(
    history: Sequence[Segment], episodes: Iterable[LeftOut], spec: StreamSpec
) -> tuple[list[Segment], Counter[str]]:
    """Remove the rows of episodes from a history, with their margins.

    Returns:
        The segments that remain, and by cause the number of cells with a value that were removed.
    """
    spans: dict[str, list[tuple[int, int, int | None, str]]] = {}
    for e in episodes:
        first = spec.row(e.onset_ns) - e.margin[0] * spec.window
        stop = spec.row(e.row_ns) + e.margin[1] * spec.window + 1 if e.over else FOREVER
        if e.sensor is None:
            spans.setdefault(e.asset, []).append((first, stop, None, e.cause))
        elif e.sensor in spec.sensors:
            spans.setdefault(e.asset, []).append((first, stop, spec.sensors.index(e.sensor), e.cause))
    kept: list[Segment] = []
    taken: Counter[str] = Counter()
    ends_cut: set[str] = set()  # assets whose last rows so far were taken out
    for segment in history:
        rows, values = segment.first_row + np.arange(len(segment.values)), segment.values
        keep = np.ones(len(rows), bool)
        # Values of single sensors first: what is taken out with a whole row is not counted again.
        mine = sorted(spans.get(segment.asset, ()), key=lambda span: span[2] is None)
        for first, stop, sensor, cause in mine:
            a, b = np.searchsorted(rows, [first, stop]).tolist()
            if a == b:
                continue
            if sensor is None:
                taken[cause] += int(np.isfinite(values[a:b][keep[a:b]]).sum())
                keep[a:b] = False
                continue
            if values is segment.values:
                values = values.copy()
            taken[cause] += int(np.isfinite(values[a:b, sensor]).sum())
            values[a:b, sensor] = np.nan
        if keep.all() and values is segment.values:
            kept.append(replace(segment, after_cut=True) if segment.asset in ends_cut else segment)
            ends_cut.discard(segment.asset)
            continue
        labels = segment.condition or ("",) * len(rows)
        shown = [labels[i] for i in np.flatnonzero(keep).tolist()]
        parts = cut(segment.asset, rows[keep], values[keep], shown, None, rows[~keep])
        if parts and (segment.asset in ends_cut or segment.after_cut):
            parts[0] = replace(parts[0], after_cut=True)
        kept += parts
        if not keep[-1]:
            ends_cut.add(segment.asset)
        elif parts:
            ends_cut.discard(segment.asset)
    return kept, taken
