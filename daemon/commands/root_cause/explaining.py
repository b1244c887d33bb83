"""The command: find the episode or the window, explain it, and write the page.

In: ``RootCauseOptions``. Out: ``RootCause``, and a page. The file is replayed, its episodes are compared with
the id that is asked for, and the window that scored highest is explained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from daemon.adapters.files import check_place, replacing
from daemon.adapters.root_cause_page import root_cause_html
from daemon.commands.accounting import corrupt_lines
from daemon.commands.carry import TrainTailSource
from daemon.commands.derive import check_excluded, plan_for_file
from daemon.commands.inputs import FileOptions, no_progress
from daemon.commands.one_pass import FileToJudge, run_over_file
from daemon.commands.root_cause.incidents import incident_named, incidents_of
from daemon.commands.root_cause.past import Past, nearest
from daemon.commands.root_cause.tracks import Tracks
from daemon.commands.root_cause.window import explained
from daemon.domain import AlertEvent, AlertKind, Output, Progress, StreamSpec
from daemon.errors import UsageError
from daemon.model.bundle import Bundle
from daemon.model.detector import BundleDetector
from daemon.model.root_cause import Incident, RootCause
from daemon.stream.steps import RowBlock
from daemon.stream.timestamps import event_time_ns


@dataclass(frozen=True, slots=True)
class RootCauseOptions(FileOptions):
    """What ``explain --alert`` and ``explain --at`` are given. One of ``alert`` and ``at`` must be."""

    file: Path  # Parquet, CSV or JSON Lines, as it was judged
    alert: str | None = None  # an alert's CloudEvents ``id``, its fingerprint, or the beginning of one
    at: str | None = None  # an event time
    asset: str | None = None  # of ``at``; may be left out where the file holds one
    alerts: Path | None = None  # an ``alerts.jsonl`` with more past episodes to compare with
    feedback: Path | None = None  # JSON Lines of ``{"fingerprint", "verdict", "note"}``


class AlertSink:
    """A ``FileSink`` that keeps the alerts of every kind, and nothing else."""

    def __init__(self) -> None:
        self.alerts: list[AlertEvent] = []

    async def publish(self, outputs: Sequence[Output]) -> None:
        """See ``ports.Sink``."""
        self.alerts += [output for output in outputs if isinstance(output, AlertEvent)]

    def attach(self, source: TrainTailSource) -> None:
        """See ``FileSink``. No offset is shown."""


async def root_cause(
    bundle: Bundle, options: RootCauseOptions, progress: Progress = no_progress
) -> RootCause:
    """Explain one episode of a file, or one window of it.

    Args:
        bundle: the model that judged.
        options: the file, and what of it is explained.
        progress: see ``inputs.Progress``.

    Raises:
        UsageError: no such alert, asset or time; with those that there are.
        DaemonError: a file that cannot be read, a bundle that does not fit.
    """
    file, alert, at = options.file, options.alert, options.at
    if (alert is None) == (at is None):
        raise UsageError("explain needs either --alert ID or --at TIME (with --asset A)")
    check_excluded(options.exclude, [file])
    plan, notes = plan_for_file(options, file, bundle)
    plan = replace(plan, retrain_every=None)
    spec, sink = plan.spec, AlertSink()
    done = await run_over_file(
        FileToJudge.read(file, plan, bundle, options.exclude, options.reading), sink, progress
    )
    if done.table is None:
        notes += corrupt_lines(done.counts.corrupt)
    incidents = incidents_of(sink.alerts)
    detector = bundle.detector(plan.budget, plan.deviation_budget)
    tracks = Tracks(detector, spec, done.blocks)
    progress(0.95, "explaining")
    if alert is not None:
        incident: Incident | None = incident_named(alert, incidents, sink.alerts)
        assert incident is not None
        track, index = tracks.peak(incident)
    else:
        assert at is not None
        track, index = tracks.at(_time_of(at), options.asset)
        row_ns = track.row(index) * spec.period_ns
        incident = next(
            (i for i in incidents if i.asset == track.asset and i.onset_ns <= row_ns <= i.last_ns), None
        )
    found = explained(track, index, incident, spec)
    past = [i for i in incidents if incident is None or i.fingerprint != incident.fingerprint]
    return replace(
        found,
        nearest=nearest(found, track, index, Past(past, tracks, options.alerts, options.feedback)),
        notes=tuple(dict.fromkeys(notes)),
    )


def worst_explained(
    events: Sequence[AlertEvent],
    blocks: Sequence[RowBlock],
    detectors: Mapping[str, BundleDetector],
    spec: StreamSpec,
) -> RootCause | None:
    """The anomaly episode that scored highest over its threshold, explained; None if there was none.

    Args:
        events: alerts, of whatever kind.
        blocks: the rows that they are of; what is not whole there cannot be explained.
        detectors: the models that judged, by version.
        spec: of the stream.
    """

    def over(event: AlertEvent) -> float:
        combined = event.scores.get("combined")
        return combined.value / combined.threshold if combined else -math.inf

    known = [e for e in events if e.concerns(AlertKind.ANOMALY) and e.model in detectors]
    held = {asset for block in blocks for asset in block.assets}
    for event in sorted(known, key=over, reverse=True):
        mine = [e for e in known if e.fingerprint == event.fingerprint]
        if event.asset not in held or len({e.model for e in mine}) > 1:
            continue  # its rows are no longer kept, or two models judged it one after the other
        tracks = Tracks(detectors[event.model], spec, blocks)
        incident = incidents_of(mine)[0]
        if tracks.track(incident.asset, incident.opened_ns // spec.period_ns) is None:
            continue
        track, index = tracks.peak(incident)
        return explained(track, index, incident, spec)
    return None


async def explain_alert(
    model: Path, out: Path, options: RootCauseOptions, progress: Progress = no_progress
) -> RootCause:
    """``root_cause`` with the bundle of a folder, written as a page.

    Raises:
        DaemonError: what ``root_cause`` raises, or ``out`` cannot be written.
    """
    check_place(out)
    found = await root_cause(Bundle.load(model), options, progress)
    with replacing(out) as temporary:
        temporary.write_text(root_cause_html(found), encoding="utf-8")
    return found


def _time_of(text: str) -> int:
    """The instant of ``--at``: ISO 8601, or a number since 1970 as in messages."""
    try:
        return event_time_ns(int(text) if text.isdigit() else text)
    except Exception as error:
        raise UsageError(f"--at {text}: not a time: write for example 2026-03-10T14:02:00Z") from error
