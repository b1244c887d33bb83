"""How two versions differ: thresholds, sensors, faults that they find, and alarms on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from daemon.alarm import episodes, firing
from daemon.commands.derive import plan_for_file
from daemon.commands.file_history import history_of
from daemon.commands.inputs import FileOptions, no_progress
from daemon.commands.models.described import described
from daemon.commands.models.registries import DEFAULT, ModelsOptions, Opened, opened
from daemon.commands.wiring import kafka_settings
from daemon.domain import Progress, Segment, finite_or_none
from daemon.errors import BundleError, DaemonError, UsageError
from daemon.model.admission import Origin
from daemon.model.bundle import Bundle
from daemon.model.faults import GATE_KINDS, injected_faults
from daemon.model.promotion import hits, judged, recall, unwatched
from daemon.runtime.compatibility import check_compatible
from daemon.runtime.stream_run import StreamPlan
from daemon.runtime.topic_history import TopicHistory

NEWEST = 20_000
"""Rows of the input topics that two models are compared on, at most: the newest by event time, of all assets."""
ALL = "all"


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to compare on, and where they are from."""

    segments: Sequence[Segment]
    plan: StreamPlan
    source: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What ``--json`` prints, and notes."""

    document: dict[str, Any]
    notes: Sequence[str]


async def diff_models(
    options: ModelsOptions, a: str, b: str, rows: Path | None, progress: Progress = no_progress
) -> Difference:
    """How version ``b`` differs from ``a``, as ``models diff --json`` prints it.

    * ``a``, ``b``: both as in ``list_models``; ``older``: the one whose standard deviations count below.
    * ``threshold``, ``closing``, ``window``: {``a``, ``b``}.
    * ``sensors``: those whose mean or spread differs, the furthest first: {``sensor``, ``mean_a``, ``mean_b``, ``moved`` (units),
      ``moved_sd``, ``spread_a``, ``spread_b``, ``spread_ratio``}; ``only_a``, ``only_b``: sensors of one alone.
    * ``recall``: {``source``, ``kinds``: list of {``kind``, ``a``, ``b``}}; null if nothing is known.
    * ``agreement``: {``rows``, ``source``, ``both``, ``only_a``, ``only_b``, ``neither`` (shares of rows), ``episodes_a``,
      ``episodes_b``}, of anomalies alone; null without rows.

    Args:
        options: the registry.
        a, b: versions, or beginnings of them.
        rows: a file to compare on; None: the newest rows of the input topics, or none with a directory.
        progress: called with the share done.

    Raises:
        UsageError: there is no such version, or the file cannot be read.
    """
    async with opened(options) as models:
        places = [models.version(text) for text in (a, b)]
        if places[0] == places[1]:
            raise UsageError(f"{a!r} and {b!r} are the same version, {places[0][1]}")
        first, second = [await models.bundle(*place) for place in places]
        entries = [await described(models, *place) for place in places]
        order = models.registry.known(places[0][0])
        older = min((first, second), key=lambda one: order.index(one.version) if one.version in order else -1)
        notes: list[str] = []
        found = await _rows(models, places[0][0], first, rows, progress, notes)
        if found is not None:
            try:
                check_compatible(second, found.plan.spec)
            except BundleError as error:
                notes.append(f"not compared on rows: {error}")
                found = None
    if found is not None:
        progress(0.5, "comparing")
    return Difference(
        {
            "a": entries[0],
            "b": entries[1],
            "older": older.version,
            "threshold": {"a": first.calibration.threshold, "b": second.calibration.threshold},
            "closing": {"a": first.calibration.closing, "b": second.calibration.closing},
            "window": {"a": first.window, "b": second.window},
            "sensors": sensors_moved(first, second, older),
            "only_a": [name for name in first.sensors if name not in second.sensors],
            "only_b": [name for name in second.sensors if name not in first.sensors],
            "recall": recalls(first, second, found),
            "agreement": None if found is None else agreement(first, second, found),
        },
        notes,
    )


async def _rows(
    models: Opened, stream: str, bundle: Bundle, file: Path | None, progress: Progress, notes: list[str]
) -> Rows | None:
    """The rows to compare on; None if there are none, then ``notes`` say why."""
    if file is not None:
        options = FileOptions()
        if models.plan(stream) is not None:
            options = FileOptions(config=models.options.config or DEFAULT, stream_name=stream)
        plan, more = plan_for_file(options, file, bundle)
        notes += more
        return Rows(await history_of(file, plan, ()), plan, file.name)
    if models.options.directory is not None:
        return None
    topic_plan = models.plan(stream)
    if topic_plan is None or models.settings is None:
        notes.append(
            f"the configuration has no stream {stream}: not compared on rows, --rows FILE names some"
        )
        return None
    spec = topic_plan.spec
    try:
        check_compatible(bundle, spec)
        history = TopicHistory(
            kafka_settings(models.settings),
            spec,
            min(topic_plan.retrain_rows, NEWEST),
            max_record_bytes=topic_plan.max_record_bytes,
            max_asset_bytes=topic_plan.max_asset_bytes,
            max_assets=topic_plan.max_assets,
        )
        found = await history.found(lambda share, doing: progress(0.5 * share, doing))
    except DaemonError as error:
        notes.append(f"not compared on rows: {error}")
        return None
    return Rows(found.segments, topic_plan, ", ".join(spec.topics))


def sensors_moved(first: Bundle, second: Bundle, older: Bundle) -> list[dict[str, Any]]:
    """Sensors that both have and whose mean or spread differs, the furthest first; see ``diff_models``."""
    found = []
    for name in first.sensors:
        if name not in second.sensors:
            continue
        a, b = first.sensors.index(name), second.sensors.index(name)
        one, other = first.models.scaler, second.models.scaler
        if not (one.seen[a] and other.seen[b]):
            continue
        moved = float(other.mean[b] - one.mean[a])
        ratio = float(other.scale[b] / one.scale[a])
        if moved == 0.0 and ratio == 1.0:
            continue
        scale = float(older.models.scaler.scale[older.sensors.index(name)])
        found.append(
            {
                "sensor": name,
                "mean_a": float(one.mean[a]),
                "mean_b": float(other.mean[b]),
                "moved": moved,
                "moved_sd": moved / scale,
                "spread_a": float(one.scale[a]),
                "spread_b": float(other.scale[b]),
                "spread_ratio": ratio,
            }
        )
    return sorted(found, key=lambda s: (-abs(s["moved_sd"]), -abs(np.log(s["spread_ratio"])), s["sensor"]))


def recalls(first: Bundle, second: Bundle, rows: Rows | None) -> dict[str, Any] | None:
    """What share of injected faults each finds, per kind: of the same faults where that is possible.

    The gate that compared the two has them; else they are injected into the rows, by the gate's own rules; else
    each has those of its own gate, which were injected into other rows.
    """
    mine, theirs = (Origin.of(bundle.facts) for bundle in (first, second))
    own = [{} if one.decision is None else one.decision.figures for one in (mine, theirs)]
    if theirs.parent == first.version and f"incumbent_recall_{ALL}" in own[1]:
        source = f"the gate of {second.version}, the same faults"
        shares = [_shares(own[1], "incumbent_recall_"), _shares(own[1], "recall_")]
    elif mine.parent == second.version and f"incumbent_recall_{ALL}" in own[0]:
        source = f"the gate of {first.version}, the same faults"
        shares = [_shares(own[0], "recall_"), _shares(own[0], "incumbent_recall_")]
    elif rows is not None:
        lead = max(first.window, second.window)
        left_out = unwatched(first) | unwatched(second)
        faults = injected_faults(rows.segments, lead, second.window, left_out=left_out)
        if not faults:
            return None
        source = f"{len(faults)} faults injected into {rows.source}"
        shares = [recall(hits(bundle.detector(), faults)) for bundle in (first, second)]
    elif any("recall_all" in figures for figures in own):
        source = "the gate of each, other faults"
        shares = [_shares(figures, "recall_") for figures in own]
    else:
        return None
    kinds = [*(kind.value for kind in GATE_KINDS), ALL]
    return {
        "source": source,
        "kinds": [
            {"kind": kind, "a": shares[0].get(kind), "b": shares[1].get(kind)}
            for kind in kinds
            if any(kind in found for found in shares)
        ],
    }


def _shares(figures: dict[str, float | None], prefix: str) -> dict[str, float]:
    """The figures of that prefix, by kind of fault."""
    found = {name.removeprefix(prefix): share for name, share in figures.items() if name.startswith(prefix)}
    return {kind: share for kind, share in found.items() if share is not None}


def agreement(first: Bundle, second: Bundle, rows: Rows) -> dict[str, Any] | None:
    """On which rows both have an anomaly, or one alone; see ``diff_models``. Rows count that both score.

    Deviations and other kinds need a stream's pipeline beside the scores, and are not compared.
    """
    counts, opened_by = np.zeros(4, np.int64), [0, 0]
    detectors = [bundle.detector() for bundle in (first, second)]
    for segment in rows.segments:
        fires, scored = [], np.ones(len(segment.values), bool)
        for i, detector in enumerate(detectors):
            scores, jumps = judged(detector, segment, rows.plan.spec.hop)
            fires.append(firing(scores, detector.threshold, detector.closing, rows.plan.policy, jumps))
            opened_by[i] += episodes(fires[-1])
            scored &= np.isfinite(scores)
        counts += np.bincount((2 * fires[0] + fires[1])[scored], minlength=4)
    total = int(counts.sum())
    if not total:
        return None
    neither, only_b, only_a, both = (finite_or_none(count / total) for count in counts.tolist())
    return {
        "rows": total,
        "source": rows.source,
        "both": both,
        "only_a": only_a,
        "only_b": only_b,
        "neither": neither,
        "episodes_a": opened_by[0],
        "episodes_b": opened_by[1],
    }
