"""``Status`` as the plain JSON values that ``/api/status`` and ``/api/events`` answer with.

Input is the live ``Status``; nothing in it is changed. Output is bounded whatever the fleet's size: lists are cut
to the entries that matter most, score histories are thinned to their peaks, and names are bounded. A number
that is not finite becomes None.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import numpy as np

from daemon import __version__
from daemon.adapters.admin.controls_json import (
    STOPS_SHOWN,
    accepted_of,
    active_stop,
    counting,
    decisions_json,
    stops_json,
    verdict_json,
)
from daemon.adapters.pages import bounded, contributor_rows
from daemon.adapters.telemetry import (
    AssetScores,
    Lifecycle,
    ModelChange,
    Occurrence,
    ShadowNow,
    Status,
    StreamStatus,
    TrainingNow,
)
from daemon.documents import counted, short
from daemon.domain import AlertEvent, DriftRecord, Phase, Severity, iso
from daemon.stream.accounts import Fault
from daemon.stream.audit import Imputable, SensorAudit
from daemon.stream.summaries import after, lasted_ns, lasting, leading_score

EPISODES_SHOWN: Final = 100
SPARK_POINTS: Final = 100
CONTRIBUTORS_SHOWN: Final = 3
SUMMARY_SHOWN: Final = 500
"""Characters of a sentence."""
AUDITS_SHOWN: Final = 60
"""Sensors whose imputation is shown, the worst first."""
CORRUPT_SHOWN: Final = 10
"""Sensors and faults of cells that are no numbers, the most frequent first."""
DRILL_SENSORS_SHOWN: Final = 40
"""Rows of the fire drill's table; of more sensors, those whose faults are found least often."""


def snapshot(status: Status) -> dict[str, Any]:
    """The whole state, as ``/api/status`` answers it."""
    order = sorted(status.open.values(), key=_urgency)
    by_asset: dict[tuple[str, str], list[AlertEvent]] = {}
    for event in order:
        by_asset.setdefault((event.stream, event.asset), []).append(event)
    stops = status.people.stops()
    return {
        "version": __version__,
        "now": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "headline": headline(status),
        "lifecycle": str(status.lifecycle),
        "source": status.source,
        "uptime_seconds": round(status.uptime.total_seconds(), 1),
        "ready": not status.obstacles,
        "because": status.obstacles,
        "waiting_for": status.waiting,
        "open": len(order),
        "critical": sum(e.severity is Severity.CRITICAL and not e.quiet for e in order),
        "opened": status.opened,
        "episodes": [_alert(status, e) for e in order[:EPISODES_SHOWN]],
        "recent": [_alert(status, e) for e in islice(status.closed(), EPISODES_SHOWN)],
        "stops": stops_json(stops),
        "more_stops": max(len(stops) - STOPS_SHOWN, 0),
        "streams": [_stream(s, by_asset, stops) for s in status.streams.values()],
    }


def headline(status: Status) -> str:
    """The state in one line: ``live, model 5f3a9c1e, 24 assets, 2 open episodes``."""
    streams = list(status.streams.values())
    parts = [str(status.lifecycle)]
    if status.waiting:
        parts.append(f"waiting for {status.waiting}")
    versions = list(dict.fromkeys(s.model for s in streams if s.model))
    if len(versions) == 1:
        parts.append(f"model {versions[0]}")
    elif versions:
        parts.append(f"{len(versions)} models")
    if status.lifecycle is Lifecycle.LEARNING:
        learning = [s for s in streams if s.state is not Lifecycle.LIVE]
        rows, needed = sum(s.rows for s in learning), sum(s.learn_rows for s in learning)
        if any(s.training for s in learning):
            parts.append("training")
        elif needed:
            parts.append(f"{min(rows, needed):,} of {needed:,} rows")
    assets = sum(max(s.assets, len(s.tracks)) for s in streams)
    parts.append(counted(assets, "asset"))
    parts.append(counted(len(status.open), "open episode"))
    return ", ".join(parts)


def _urgency(event: AlertEvent) -> tuple[bool, int, str]:
    return (event.severity is not Severity.CRITICAL, -event.opened_ns, event.fingerprint)


def _stream(
    stream: StreamStatus,
    open_by_asset: dict[tuple[str, str], list[AlertEvent]],
    stops: Sequence[Occurrence],
) -> dict[str, Any]:
    return {
        "name": bounded(stream.name),
        "state": str(stream.state),
        "model": stream.model,
        "calibration": stream.calibration,
        "learned_until": stream.learned_until.isoformat(timespec="seconds") if stream.learned_until else None,
        "threshold": short(stream.threshold),
        "part_thresholds": {k: short(v) for k, v in stream.part_thresholds.items()},
        "learn_rows": stream.learn_rows,
        "training": _training(stream.training),
        "shadow": _shadow(stream.shadow),
        "assets": max(stream.assets, len(stream.tracks)),
        "rows": stream.rows,
        "scored": stream.scored,
        "filled": stream.filled,
        "records": stream.records,
        "cells": stream.cells,
        "corrupt": _corrupt(stream.corrupt),
        "newest": iso(stream.newest_ns) if stream.newest_ns else None,
        "drift": _drift(list(stream.drift)),
        "drill": _drill(stream.drill()),
        "imputation": _imputation(stream.imputation),
        "decisions": decisions_json(stream.decisions),
        "models": [_change(change) for change in reversed(stream.models)],
        "tracks": [
            _track(asset, stream.tracks[asset], stream.threshold, open_by_asset.get((stream.name, asset), []))
            | {"stop": active_stop(stops, stream.name, asset)}
            for asset in sorted(stream.tracks)
        ],
    }


def _training(training: TrainingNow | None) -> dict[str, Any] | None:
    if training is None:
        return None
    share, doing = training.progress()
    return {
        "trigger": str(training.trigger.cause),
        "reason": bounded(training.trigger.reason, 500),
        "since": training.since.isoformat(timespec="seconds"),
        "share": short(share, 3),
        "doing": doing,
    }


def _shadow(shadow: ShadowNow | None) -> dict[str, Any] | None:
    if shadow is None:
        return None
    counts = shadow.counts()
    return {
        "version": shadow.version,
        "since": iso(shadow.since_ns),
        "until": iso(shadow.until_ns),
        "windows": counts.windows,
        "anomalies": counts.anomalies,
        "deviations": counts.deviations,
        "episodes": counts.episodes,
        "incumbent_episodes": counts.incumbent_episodes,
        "both": counts.both,
        "alone": counts.alone,
        "planned": counts.planned,
    }


def _corrupt(counts: Counter[Fault]) -> list[dict[str, Any]]:
    """The sensors and faults with most cells that are no numbers."""
    return [
        {"sensor": bounded(sensor), "fault": fault, "cells": n}
        for (sensor, fault), n in counts.most_common(CORRUPT_SHOWN)
    ]


def _track(asset: str, track: AssetScores, threshold: float, episodes: list[AlertEvent]) -> dict[str, Any]:
    score = track.scores[-1] if track.scores else math.nan
    return {
        "asset": bounded(asset),
        "score": short(score),
        "ratio": short(score / threshold) if threshold > 0 else None,
        "alarm": track.alarm,
        "kinds": list(dict.fromkeys(kind for e in episodes for kind in _open_kinds(e))),
        "critical": any(e.severity is Severity.CRITICAL and not e.quiet for e in episodes),
        "newest": iso(track.rows_ns[-1]) if track.rows_ns else None,
        "spark": spark(track.scores),
    }


def _open_kinds(event: AlertEvent) -> list[str]:
    """The kinds of what is open of an alert."""
    if event.quiet:
        return []
    return [str(part.kind) for part in event.parts] or [str(event.kind)]


def spark(scores: Iterable[float]) -> list[float | None]:
    """At most SPARK_POINTS maxima of consecutive scores, the newest last; None where unscored.

    Runs are counted from the newest score back, so a peak keeps its height while it moves.
    """
    values = np.fromiter(scores, np.float64)
    step = -(-len(values) // SPARK_POINTS) or 1
    missing = -len(values) % step
    runs = np.concatenate([np.full(missing, np.nan), values]).reshape(-1, step)
    highest = np.fmax.reduce(runs, axis=1).tolist()
    # As ``short`` rounds, but all values at once: a page has thousands of them.
    texts = ("%.4g " * len(highest) % tuple(highest)).split()
    return [value if math.isfinite(value) else None for value in map(float, texts)]


DRIFTING_SHOWN = 5
"""Assets that drift alone, of a stream."""


def _drift(records: list[DriftRecord]) -> dict[str, Any] | None:
    if not records:
        return None
    newest = records[-1]
    worst: dict[int, list[float]] = {}  # interval's end -> latent, residual; the worst partition
    for record in records:
        totals = worst.setdefault(record.end_ns, [0.0, 0.0])
        totals[0] = max(totals[0], sum(record.latent_kl))
        totals[1] = max(totals[1], sum(record.residual_kl))
    history = [worst[end] for end in sorted(worst)]
    return {
        "verdict": newest.verdict,
        "start": iso(newest.start_ns),
        "end": iso(newest.end_ns),
        "windows": newest.windows,
        "assets": {
            "judged": newest.fleet.judged,
            "drifting": newest.fleet.drifting,
            "named": [bounded(one.asset) for one in newest.fleet.assets[:DRIFTING_SHOWN]],
        },
        "latent": {
            "value": short(sum(newest.latent_kl)),
            "threshold": short(newest.latent_threshold),
            "history": [short(h[0]) for h in history],
        },
        "residual": {
            "value": short(sum(newest.residual_kl)),
            "threshold": short(newest.residual_threshold),
            "history": [short(h[1]) for h in history],
        },
    }


def _drill(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The fire drill's table: one row per sensor, with what is found of each kind of fault."""
    rows: dict[str, dict[str, Mapping[str, Any]]] = {}
    for entry in entries:
        rows.setdefault(entry["sensor"], {})[entry["kind"]] = entry
    found = {sensor: sum(e["recall"] for e in kinds.values()) / len(kinds) for sensor, kinds in rows.items()}
    shown = set(sorted(found, key=lambda sensor: found[sensor])[:DRILL_SENSORS_SHOWN])
    return [
        {"sensor": bounded(sensor), "kinds": {kind: _drilled(e) for kind, e in kinds.items()}}
        for sensor, kinds in rows.items()
        if sensor in shown
    ]


def _drilled(entry: Mapping[str, Any]) -> dict[str, Any]:
    smallest = entry["smallest"]
    within = entry["delay_s"] if smallest is None else smallest["within_s"]
    return {
        "recall": short(entry["recall"]),
        "sized": bool(entry["by_size"]),
        "above": None if smallest is None else short(smallest["value"], 3),
        "within": None if within is None else short(within),
        "faults": entry["faults"],
        "says": bounded(entry["says"]),
    }


_WORST_FIRST: Final = (Imputable.CANNOT, Imputable.LAST_VALUE, Imputable.GOOD, Imputable.TOO_FEW)


def _imputation(audits: Mapping[str, SensorAudit]) -> list[dict[str, Any]]:
    order = sorted(audits.values(), key=lambda a: (_WORST_FIRST.index(a.verdict), -a.relative, a.sensor))
    return [
        {
            "sensor": bounded(a.sensor),
            "audits": a.audits,
            "error": short(a.error),
            "relative": short(a.relative),
            "last_value_error": short(a.last_value_error),
            "coverage": short(a.coverage),
            "skill": short(a.skill),
            "verdict": str(a.verdict),
        }
        for a in order[:AUDITS_SHOWN]
    ]


def _alert(status: Status, event: AlertEvent) -> dict[str, Any]:
    # Not each row of an open alert brings a message of it: a drift and a silence have none until they close.
    now_ns = status.streams[event.stream].newest_ns if event.stream in status.streams else 0
    summary = after(event, counting(status, event))
    return {
        **event_json(event, now_ns),
        "summary": bounded(summary, SUMMARY_SHOWN),
        "told": verdict_json(status, event),
    }


def _change(change: ModelChange) -> dict[str, Any]:
    return {
        "at": change.at.isoformat(timespec="seconds"),
        "version": bounded(change.version),
        "result": change.result,
        "reason": bounded(change.reason, 500),
    }


def event_json(event: AlertEvent, now_ns: int = 0) -> dict[str, Any]:
    """One message of an episode: with the score of its row, or of one that is over with its peak.

    Args:
        event: the message.
        now_ns: the newest row of its stream, if that counts.
    """
    over = event.phase is Phase.CLOSED
    score = event.peak if over else leading_score(event)
    lasted = lasted_ns(event, now_ns)
    return {
        "stream": bounded(event.stream),
        "asset": bounded(event.asset),
        "sensor": bounded(event.sensor) if event.sensor else None,
        "kind": str(event.kind),
        "kinds": [str(kind) for kind in event.kinds],
        "phase": str(event.phase),
        "severity": str(event.severity),
        "fingerprint": event.fingerprint,
        "onset": iso(event.onset_ns),
        "since": iso(event.opened_ns),
        "row": iso(event.row_ns),
        "seconds": short(lasted / 1e9),
        "lasted": lasting(lasted),
        "score": short(score.value) if score else None,
        "peak": short(event.peak.value) if event.peak else None,
        "threshold": short(score.threshold) if score else None,
        "model": bounded(event.model),
        "imputed_share": short(event.imputed_share),
        "summary": bounded(event.summary, SUMMARY_SHOWN),
        "accepted": accepted_of(event),
        "contributors": contributor_rows(event.contributors[:CONTRIBUTORS_SHOWN]),
    }
