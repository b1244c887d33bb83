"""What a part that opens belongs to: the open incident that it joins, or the one that it opens (rules: ``incident``).

The error of a sensor at fault leaks into what a model expects of others. Where the fault grows slowly these pass their limits
hours later, so that when they do tells nothing. The model tells: it is asked for the window without the sensors in question.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from daemon.domain import AlertKind, InputPartition, Mask, StreamSpec
from daemon.stream.deviation import ExplainedBy
from daemon.stream.identity import digest
from daemon.stream.incident import (
    JOINING,
    STREAM_DRIFT,
    TOGETHER,
    AssetEpisodes,
    EpisodeStart,
    Incident,
    Part,
)


def opened_by(
    spec: StreamSpec,
    partition: InputPartition,
    asset: str,
    start: EpisodeStart,
    names: Sequence[str],
    row: int,
) -> Incident:
    """The incident that a part of these sensors opens at a row; the part has yet to join it."""
    kind, slow, opened_ns = start.kind, start.part.slow, row * spec.period_ns
    subject = start.sensor
    if kind is AlertKind.DEVIATION and not slow:
        subject = None  # others may come to deviate
    named = names[0] if kind is AlertKind.DEVIATION else start.sensor
    # The stream's drift belongs to a partition, the others to an asset.
    place = (partition.topic, partition.number) if start.part == STREAM_DRIFT else ()
    return Incident(
        kind,
        subject,
        digest(
            spec.name,
            asset,
            "trend" if slow and not start.of_asset else kind,
            named,
            opened_ns,
            *place,
            size=16,
        ),
        opened_ns,
        start.onset_row * spec.period_ns,
        start.severity,
        row + spec.window,
        row,
    )


def is_joinable(one: Incident) -> bool:
    """Whether parts may join an incident, and its sensors explain others: something of it is open, and of single rows."""
    return one.kind in JOINING and not one.slow and not one.quiet


def joined_by(
    known: AssetEpisodes, start: EpisodeStart, names: Iterable[str], height: float, row: int, spec: StreamSpec
) -> Incident | None:
    """The open incident that a part joins: the first with a sensor of it, else the nearest, else the first that explains it.

    Args:
        known: the asset's.
        start: the part.
        names: its sensors.
        height: of its evidence, in thresholds; 0: it has none.
        row: the present one.
        spec: the stream.
    """
    if start.of_asset:
        return known.with_trend_of(names, row * spec.period_ns)
    if start.kind not in JOINING:
        return None
    one = known.moving_alike(start, spec)
    if start.part.slow or (one is not None and not known.outgrows(names, height, row, spec.window)):
        return one
    # Scores may have been high since an incident that is open began, whatever comes to lead them now.
    since = row if start.kind is AlertKind.ANOMALY else start.onset_row
    nearest: tuple[int, Incident | None] = TOGETHER * spec.window + 1, None
    apart_from_it = []
    for one in known.incidents:
        if not is_joinable(one):
            continue
        apart = one.apart(since, spec.period_ns)
        shared = set(names).intersection(one.names if apart <= TOGETHER * spec.window else one.joinable)
        outgrown = one.is_outgrown(height) or known.outgrows(shared, height, row, spec.window)
        if one.by_evidence and outgrown:
            continue
        if shared:
            return one
        apart_from_it.append(one)
        if apart < nearest[0]:
            nearest = apart, one
    if nearest[1] is not None:
        return nearest[1]
    ask, names = start.explained_by, list(names)
    if ask is None:
        return None
    for one in apart_from_it:
        if is_explained(one, ask, names, spec) or explains(one, ask, names, spec).all():
            return one
    return None


def is_explained(one: Incident, explained_by: ExplainedBy, names: Iterable[str], spec: StreamSpec) -> bool:
    """Whether sensors are off only because the model reads those that an incident has open."""
    mine, its = np.isin(spec.sensors, list(names)), np.isin(spec.sensors, one.open_sensors)
    return bool(mine.any() and its.any() and explained_by(its)[mine].all())


def explains(one: Incident, explained_by: ExplainedBy, names: Iterable[str], spec: StreamSpec) -> Mask:
    """Which of those that an incident has open are off only because the model reads these sensors; none, if it has none.

    A sensor that is silent or stuck is so whatever others read.
    """
    mine, its = np.isin(spec.sensors, list(names)), np.isin(spec.sensors, one.open_sensors)
    if not (one.by_evidence and mine.any() and its.any()):
        return np.zeros(1, bool)
    return np.asarray(explained_by(mine)[its])


def is_echo(known: AssetEpisodes, sensor: str, explained_by: ExplainedBy | None, spec: StreamSpec) -> bool:
    """Whether a sensor is off only because the model reads those of an alert that is open, and explains none of them.

    Not one with a slow trend of its own.
    """
    trends = known.with_part(Part(AlertKind.DEVIATION, sensor, slow=True)) is not None
    if explained_by is None or trends:
        return False
    for one in known.incidents:
        if not is_joinable(one) or sensor in one.open_sensors:
            continue
        if is_explained(one, explained_by, [sensor], spec):
            return not explains(one, explained_by, [sensor], spec).any()
    return False
