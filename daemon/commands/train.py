"""``anomalyd train``: fit and calibrate a model on files or on the input topics, and save the bundle.

In: ``TrainOptions``; for topics also the settings. Out: the bundle, written as a directory, and
notes. Training itself is ``runtime.trainer.learn``, run in this process instead of in a spawned one.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from daemon.adapters.kafka import KafkaSettings
from daemon.adapters.registry import DecisionRecord, Decisions, KafkaModels, now_text
from daemon.commands.accounting import lost_lines, misspelt_lines
from daemon.commands.derive import check_excluded, plan_for, plan_of, settings_for
from daemon.commands.file_history import read_history
from daemon.commands.inputs import FileOptions, no_progress
from daemon.commands.wiring import kafka_settings
from daemon.config import Settings
from daemon.domain import Progress, Segment, to_ns
from daemon.errors import BundleError, InputError, UsageError
from daemon.model.bundle import Bundle, check_writable
from daemon.runtime.deciding import into_shadow, record_of
from daemon.runtime.history import FoundHistory
from daemon.runtime.model_store import ModelStore
from daemon.runtime.published import NOTHING, OwnTopics
from daemon.runtime.replica_history import SAMPLE_SEED
from daemon.runtime.stream_run import StreamPlan
from daemon.runtime.topic_history import TopicHistory
from daemon.runtime.trainer import TrainingJob, learn
from daemon.trigger import Cause, Trigger


@dataclass(frozen=True, slots=True)
class TrainOptions(FileOptions):
    """What ``train`` is given.

    Raises:
        UsageError: an option for topics beside files, or the other way round.
    """

    files: Sequence[Path]  # in order of time; empty: the input topics of the configuration
    out: Path | None  # the bundle, a directory; None: it is published alone
    with_alarms: bool = False  # of topics: learn the rows of alarms too
    publish: bool = False  # of topics: put it in force, if it passes the gate

    def __post_init__(self) -> None:
        if self.files and self.publish:
            raise UsageError(
                "--publish is for topics: import what was trained on files with anomalyd models import"
            )
        if self.out is None and not self.publish:
            raise UsageError("train needs --out, where the bundle is written, or --publish")
        if self.files and self.with_alarms:
            raise UsageError("--with-alarms is for topics: of files everything is learned")
        if not self.files and self.exclude:
            raise UsageError("--exclude is for files: the configuration lists a topic's sensors")


def first_training(plan: StreamPlan, history: Sequence[Segment]) -> TrainingJob:
    """A first training on all of a history: no model is in use that it would have to beat."""
    return TrainingJob(
        plan.spec,
        plan.model,
        plan.policy,
        plan.budget,
        plan.drift_rows,
        history,
        strict=False,
        deviation_budget=plan.deviation_budget,
        trigger=Trigger(Cause.BY_HAND),
    )


def train_on(plan: StreamPlan, history: Sequence[Segment], progress: Progress | None) -> Bundle:
    """Train in this process.

    Raises:
        InputError: the reason why the training gave no model.
    """
    outcome = learn(first_training(plan, history), progress)
    if outcome.bundle is None:
        raise InputError(outcome.reason)
    return Bundle.from_bytes(outcome.bundle)


def about(bundle: Bundle) -> dict[str, Any]:
    """What a training measured of its model: kind, latents, habits, held-out likelihood beside pPCA's."""
    models = bundle.models
    found = {"kind": models.kind, "latents": models.latents, "habits": list(bundle.habits)}
    names = ("active_units", "active_path_units", "likelihood", "likelihood_ppca")
    return found | {name: bundle.facts[name] for name in names if name in bundle.facts}


def habit_notes(bundle: Bundle) -> list[str]:
    """What recurs and is usual to a model, and what that means, for the user; no more than ten lines."""
    events = set(map(str, bundle.facts.get("recurring", ())))
    habits = [
        f"usual: scores come near the threshold {habit}; no alarm, nor for a fault that scores no higher"
        if habit in events
        else f"usual: {habit}; no alert for being silent then"
        for habit in bundle.habits
    ]
    more = [f"usual, {len(habits) - 10} more: see habits in train --json"] if len(habits) > 10 else []
    return habits[:10] + more


def provisional_note(bundle: Bundle) -> list[str]:
    """What a provisional calibration is, and what ends it; nothing where the calibration is full."""
    calibration = bundle.calibration
    search = calibration.search
    if not calibration.provisional or search is None:
        return []
    needed = 1.0 / ((1.0 - search.jump_share) * search.budget.allowed(1.0, calibration.assets))
    return [
        f"provisional calibration: {calibration.days:.3g} days of assets were learned, and one false episode at"
        f" {search.budget} takes {needed:.3g}; the threshold is the largest score of training until there are more rows,"
        " or with a larger calibration.budget"
    ]


def replaced_model(out: Path) -> list[str]:
    """A note on the model that a training replaces; none where there is none."""
    if not out.exists():
        return []
    try:
        return [f"{out}: replaces model {Bundle.load(out).version}"]
    except BundleError:
        return [f"{out}: replaces a model that this version cannot read"]


def trained_as_json(bundle: Bundle, out: Path) -> dict[str, Any]:
    """What ``train --json`` prints."""
    detector = bundle.detector()
    return {
        "version": bundle.version,
        "bundle": str(out),
        "sensors": list(bundle.sensors),
        "window": bundle.window,
        "threshold": detector.threshold,
        "closing": detector.closing,
        "calibration": detector.calibration,
        **about(bundle),
        "concerns": list(bundle.concerns),
    }


async def train_files(options: TrainOptions, progress: Progress = no_progress) -> tuple[Bundle, list[str]]:
    """Fit and calibrate on files, and save the bundle.

    Returns:
        The bundle, and notes.

    Raises:
        DaemonError: unreadable input, too little of it, or the bundle cannot be written.
    """
    files, exclude = options.files, options.exclude
    assert options.out is not None
    check_writable(options.out)
    check_excluded(exclude, files)
    settings, notes = settings_for(options, files[0], None)
    plan = plan_for(settings, options.stream_name, files[0].name)
    history = []
    unknown: Counter[str] = Counter()
    for path in files:
        read = await read_history(path, plan, exclude, options.reading)
        history += read.segments
        unknown.update(read.unknown)
        notes += read.lost(path)
    seen = np.any([np.zeros(len(plan.spec.sensors), bool), *(s.observed.any(0) for s in history)], axis=0)
    misspelt = misspelt_lines(plan.spec, seen, unknown)
    if misspelt and not seen.any():
        raise InputError(f"{files[0]}: {misspelt[0]}")
    notes += misspelt
    bundle = train_on(plan, history, lambda share, doing: progress(share, f"training: {doing}"))
    bundle.save(options.out)
    return bundle, [*dict.fromkeys(notes), *habit_notes(bundle), *provisional_note(bundle), *bundle.concerns]


@dataclass(frozen=True, slots=True)
class _Read:
    """A history that was read."""

    found: FoundHistory

    def read(self, progress: Progress) -> FoundHistory:
        """See ``UnreadHistory``."""
        return self.found


async def publish_topics(
    settings: Settings, options: TrainOptions, progress: Progress = no_progress
) -> tuple[DecisionRecord, list[str]]:
    """Train on a stream's input topics as the daemon does, gate against the model in force, and publish the decision.

    What another process trains for the stream meanwhile is void: its decision is fenced.

    Returns:
        The decision, which is on ``<prefix>.retrain``, and notes.

    Raises:
        DaemonError: no broker, no topic, too few rows, or somebody else has decided meanwhile.
    """
    connection, prefix = kafka_settings(settings), settings.outputs.prefix
    plan = plan_of(settings, options.stream_name)
    name = plan.spec.name
    fenced = settings.kafka.delivery == "exactly_once"
    models, decisions = KafkaModels(connection, prefix, [name]), Decisions(connection, prefix, fenced=fenced)
    with tempfile.TemporaryDirectory() as folder:
        store = ModelStore(Path(folder), models, settings.model.keep, decisions)
        try:
            await store.lead(name)
            incumbent = await store.promoted(name)
            known = () if incumbent is None else Bundle.from_bytes(incumbent).golden
            history = await _topic_history(settings, connection, plan, options)
            history = replace(history, judged=True, golden=frozenset(one.fingerprint for one in known))
            found = await history.found(progress)
            job = replace(first_training(plan, ()), history=_Read(found), incumbent=incumbent, strict=True)
            result = await asyncio.to_thread(learn, job, _after_reading(progress))
            record = record_of(name, result, job.trigger, now_text())
            if result.promoted and plan.shadow is not None and incumbent is not None:
                record = into_shadow(record, result.until_ns or 0, to_ns(plan.shadow))
            record = await store.decide(record, result.bundle)
        finally:
            await models.stop()
            await decisions.stop()
    if options.out is not None and result.bundle is not None:
        Bundle.from_bytes(result.bundle).save(options.out)
    return record, [*found.notes, *result.concerns]


def _after_reading(progress: Progress) -> Progress:
    return lambda share, doing: progress(0.3 + 0.7 * share, f"training: {doing}")


async def _topic_history(
    settings: Settings, connection: KafkaSettings, plan: StreamPlan, options: TrainOptions
) -> TopicHistory:
    """What a training on the topics reads."""
    own = OwnTopics.of(settings.outputs.prefix)
    return TopicHistory(
        connection,
        plan.spec,
        max(plan.retrain_rows, plan.learn_rows),
        own=NOTHING if options.with_alarms else await own.existing(connection),
        max_record_bytes=plan.max_record_bytes,
        max_asset_bytes=plan.max_asset_bytes,
        max_assets=plan.max_assets,
        planned=plan.maintenance,
        sample_seed=None if options.with_alarms else SAMPLE_SEED,
    )


async def train_topics(
    settings: Settings, options: TrainOptions, progress: Progress = no_progress
) -> tuple[Bundle, list[str]]:
    """Fit and calibrate on what a stream's input topics hold now, and save the bundle.

    The newest rows count: ``retrain.rows`` of them, or ``model.learn_rows`` if that is more, by event time
    over all partitions. No consumer group is joined and nothing is committed. Rows of episodes that the
    alerts topic names are left out, unless ``options.with_alarms``: a new regime that alarms since it began
    is learned as normal with it.

    Returns:
        The bundle, and notes.

    Raises:
        DaemonError: no broker, no topic, too few rows, or the bundle cannot be written.
    """
    connection = kafka_settings(settings)
    assert options.out is not None
    check_writable(options.out)
    plan = plan_of(settings, options.stream_name)
    history = await _topic_history(settings, connection, plan, options)
    found = await history.found(progress)
    rows = sum(len(s.values) for s in found.segments)
    unused = ", ".join(f"{n} {what}" for what, n in found.unused.items())
    notes = [
        f"learned from {rows} rows of {', '.join(plan.spec.topics)}, {found.records} records read"
        + (f" ({unused})" if unused else "")
    ]
    notes += [f"{n} values were left out: {why}" for why, n in found.left_out.items()]
    notes += [*lost_lines(found.counts, {}), *found.notes]
    bundle = train_on(plan, found.segments, _after_reading(progress))
    bundle.save(options.out)
    return bundle, [*notes, *habit_notes(bundle), *provisional_note(bundle), *bundle.concerns]
