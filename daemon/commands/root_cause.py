"""Why an episode is one: ``explain --alert ID`` and ``explain --at TIME --asset A``.

An alert's ids are pure functions of input and model, so the file is replayed through the same
pipeline and its episodes come out with the ids that were published. What is then said of one of
them is ``model.repair``'s: of the window that scored highest, the smallest repair, the verdict and
the normal twin; and beside it what the file (or an ``alerts.jsonl``) holds that was like it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from daemon.adapters.files import check_place, is_lines, read_table, replacing
from daemon.adapters.root_cause_page import root_cause_html
from daemon.commands.replay import Discarded, Progress, check_excluded, once, plan_for, settings_for
from daemon.domain import (
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    Contributor,
    Floats,
    Output,
    Phase,
    StreamSpec,
    iso,
)
from daemon.errors import InputError, UsageError
from daemon.model.bundle import Bundle
from daemon.model.detector import BundleDetector
from daemon.model.repair import (
    explained_share,
    latent_path,
    likeness,
    normal_twin,
    reconstructed,
    smallest_repair,
    verdict_of,
)
from daemon.model.root_cause import Incident, Neighbour, RootCause
from daemon.model.track import Track
from daemon.runtime.compatibility import check_compatible
from daemon.stream.attribution import PeakEvidence, SensorEvidence
from daemon.stream.steps import RowBlock
from daemon.stream.timestamps import event_time_ns

CONTEXT = 3
"""Windows of rows that are shown before the onset."""
MOST_ROWS = 1_500
"""Rows that are shown, at most: a longer episode is shown around its peak."""
NEAREST = 5
MOST_PAST = 200
"""Past episodes that are compared with, the newest ones."""
LISTED = 8
"""Episodes that are named where an id names none."""


# ------------------------------------------------------------------ the file once more
class Heard(Discarded):
    """A sink that keeps the anomaly alerts, and what else was raised."""

    def __init__(self) -> None:
        super().__init__()
        self.alerts: list[AlertEvent] = []

    async def publish(self, outputs: Sequence[Output]) -> None:
        """See ``ports.Sink``."""
        await super().publish(outputs)
        self.alerts += [output for output in outputs if isinstance(output, AlertEvent)]


async def root_cause(
    bundle: Bundle,
    file: Path,
    *,
    alert: str | None = None,
    at: str | None = None,
    asset: str | None = None,
    config: Path | None = None,
    sets: Sequence[str] = (),
    exclude: Sequence[str] = (),
    stream_name: str | None = None,
    alerts: Path | None = None,
    feedback: Path | None = None,
    progress: Progress | None = None,
) -> RootCause:
    """Explain one episode of a file, or one window of it.

    Args:
        bundle: the model that judged.
        file: Parquet, CSV or JSON Lines, as it was judged.
        alert: an alert's CloudEvents ``id`` or its fingerprint, or the beginning of one.
        at: instead, an event time; with ``asset`` where the file holds several.
        config, sets, exclude, stream_name: as of ``replay``.
        alerts: an ``alerts.jsonl`` with more past episodes to compare with.
        feedback: JSON Lines of ``{"fingerprint", "verdict", "note"}``: what operators said.

    Raises:
        UsageError: no such alert, asset or time; with those that there are.
        DaemonError: a file that cannot be read, a bundle that does not fit.
    """
    if (alert is None) == (at is None):
        raise UsageError("explain needs either --alert ID or --at TIME (with --asset A)")
    tell = progress or (lambda share, doing: None)
    check_excluded(exclude, [file])
    settings, notes = settings_for(config, sets, file, exclude, bundle)
    plan = replace(plan_for(settings, stream_name, file.name), retrain_every=None)
    spec = plan.spec
    check_compatible(bundle, spec)
    table = None if is_lines(file) else read_table(file, exclude, spec.condition, spec.timezone)
    sink = Heard()
    done = await once(file, table, plan, bundle, [], sink, tell)
    incidents = incidents_of(sink.alerts)
    detector = bundle.detector()
    tracks = Tracks(detector, spec, done.blocks)
    tell(0.95, "explaining")
    if alert is not None:
        incident: Incident | None = incident_named(alert, incidents, sink.alerts)
        assert incident is not None
        track, index = tracks.peak(incident)
    else:
        assert at is not None
        track, index = tracks.at(_time_of(at), asset)
        row_ns = track.row(index) * spec.period_ns
        incident = next(
            (i for i in incidents if i.asset == track.asset and i.onset_ns <= row_ns <= i.last_ns), None
        )
    found = explained(track, index, incident, spec, plan.policy)
    past = [i for i in incidents if incident is None or i.fingerprint != incident.fingerprint]
    return replace(
        found,
        nearest=nearest(found, track, index, past, tracks, alerts, feedback),
        notes=tuple(dict.fromkeys(notes)),
    )


def worst_explained(
    events: Sequence[AlertEvent],
    blocks: Sequence[RowBlock],
    detectors: Mapping[str, BundleDetector],
    spec: StreamSpec,
    policy: AlarmPolicy,
) -> RootCause | None:
    """The anomaly episode that scored highest over its threshold, explained; None if there was none.

    Args:
        events: alerts, of whatever kind.
        blocks: the rows that they are of; what is not whole there cannot be explained.
        detectors: the models that judged, by version.
    """

    def over(event: AlertEvent) -> float:
        combined = event.scores.get("combined")
        return combined.value / combined.threshold if combined else -math.inf

    known = [e for e in events if e.kind is AlertKind.ANOMALY and e.model in detectors]
    held = {asset for block in blocks for asset in block.assets}
    for event in sorted(known, key=over, reverse=True):
        mine = [e for e in known if e.fingerprint == event.fingerprint]
        if event.asset not in held or len({e.model for e in mine}) > 1:
            continue  # forgotten, or judged by two models one after the other
        tracks = Tracks(detectors[event.model], spec, blocks)
        incident = incidents_of(mine)[0]
        if tracks.track(incident.asset, incident.opened_ns // spec.period_ns) is None:
            continue
        track, index = tracks.peak(incident)
        return explained(track, index, incident, spec, policy)
    return None


async def explain_alert(model: Path, file: Path, out: Path, **options: Any) -> RootCause:
    """``root_cause`` with a bundle's folder, written as a page; the options are its own.

    Raises:
        DaemonError: what ``root_cause`` raises, or ``out`` cannot be written.
    """
    check_place(out)
    found = await root_cause(Bundle.load(model), file, **options)
    with replacing(out) as temporary:
        temporary.write_text(root_cause_html(found), encoding="utf-8")
    return found


def _time_of(text: str) -> int:
    try:
        return event_time_ns(int(text) if text.isdigit() else text)
    except Exception as error:
        raise UsageError(f"--at {text}: not a time: write for example 2026-03-10T14:02:00Z") from error


def incidents_of(events: Sequence[AlertEvent]) -> list[Incident]:
    """The anomaly episodes of some alerts, by onset."""
    by: dict[str, list[AlertEvent]] = {}
    for event in events:
        if event.kind is AlertKind.ANOMALY:
            by.setdefault(event.fingerprint, []).append(event)

    def score(event: AlertEvent) -> float:
        combined = event.scores.get("combined")
        return combined.value if combined else -math.inf

    found = [
        Incident(
            mine[0].asset,
            fingerprint,
            tuple(event.id for event in mine),
            mine[0].onset_ns,
            mine[0].opened_ns,
            mine[-1].row_ns,
            mine[-1].phase is Phase.CLOSED,
            max(mine, key=score).row_ns,
            max(reversed(mine), key=lambda event: len(event.contributors)).contributors,
        )
        for fingerprint, mine in by.items()
    ]
    return sorted(found, key=lambda i: (i.onset_ns, i.fingerprint))


def incident_named(name: str, incidents: Sequence[Incident], events: Sequence[AlertEvent]) -> Incident:
    """The episode with this id or fingerprint, or the only one with one that begins so.

    Raises:
        UsageError: there is none, or there are several; or the alert is of a kind that has no score.
    """
    matching = (
        [i for i in incidents if any(x.startswith(name) for x in (i.fingerprint, *i.ids))] if name else []
    )
    if len(matching) == 1:
        return matching[0]
    if len(matching) > 1:
        raise UsageError(f"--alert {name}: begins the ids of {len(matching)} episodes: {_names(matching)}")
    for event in events:
        if (
            event.kind is not AlertKind.ANOMALY
            and name
            and (event.fingerprint + " " + event.id).find(name) >= 0
        ):
            raise UsageError(
                f"--alert {name}: is of kind {event.kind.value} and says it all: {event.summary}"
            )
    if not incidents:
        raise UsageError(f"--alert {name}: the file has no anomaly episode with this model")
    near = get_close_matches(
        name, [x for i in incidents for x in (i.fingerprint, *i.ids)], n=LISTED, cutoff=0.6
    )
    close = [i for i in incidents if {i.fingerprint, *i.ids} & set(near)]
    raise UsageError(
        f"--alert {name}: no such episode in this file with this model; "
        + (f"the nearest: {_names(close)}" if close else f"it has {_names(incidents)}")
    )


def _names(incidents: Sequence[Incident]) -> str:
    some = [f"{i.fingerprint} ({i.asset}, {iso(i.onset_ns)})" for i in incidents[:LISTED]]
    return ", ".join(some) + (f" and {len(incidents) - LISTED} more" if len(incidents) > LISTED else "")


# ------------------------------------------------------------------ rows and windows
class Tracks:
    """The rows of a replay by asset, in runs without a long gap; a run is scored when it is asked for."""

    def __init__(self, detector: BundleDetector, spec: StreamSpec, blocks: Sequence[RowBlock]) -> None:
        self.detector, self.spec = detector, spec
        self._rows: dict[str, list[tuple[int, Floats, str]]] = {}
        for block in blocks:
            for i, asset in enumerate(block.assets):
                self._rows.setdefault(asset, []).append(
                    (int(block.rows[i]), block.values[i], block.condition[i])
                )
        self._tracks: dict[tuple[str, int], Track] = {}

    @property
    def assets(self) -> list[str]:
        """Those of the file."""
        return list(self._rows)

    def run(self, asset: str, row: int) -> tuple[int, Floats, list[str]] | None:
        """The run that holds a grid row: its first row, values (T, C) and labels."""
        rows = self._rows[asset]
        numbers = np.array([r for r, _, _ in rows])
        begins = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 2) != 1)
        at = int(np.searchsorted(numbers[begins], row, side="right")) - 1
        if at < 0:
            return None
        begin = int(begins[at])
        end = int(begins[at + 1]) if at + 1 < len(begins) else len(rows)
        if row > numbers[end - 1]:
            return None
        return (
            int(numbers[begin]),
            np.stack([v for _, v, _ in rows[begin:end]]),
            [c for _, _, c in rows[begin:end]],
        )

    def track(self, asset: str, row: int) -> Track | None:
        """The run that holds a grid row, scored; None where nothing is scored there."""
        run = self.run(asset, row)
        if run is None or len(run[1]) < self.detector.window:
            return None
        first, values, labels = run
        key = asset, first
        if key not in self._tracks:
            self._tracks[key] = Track.of(self.detector, asset, first, values, labels, self.spec.hop)
        return self._tracks[key]

    def peak(self, incident: Incident) -> tuple[Track, int]:
        """The window of an episode that scored highest."""
        period = self.spec.period_ns
        track = self.track(incident.asset, incident.opened_ns // period)
        assert track is not None, "an episode opens at a row that was scored"
        first = track.index_from(incident.opened_ns // period)
        stop = max(track.index_from(incident.last_ns // period + (not incident.closed)), first + 1)
        scores = track.verdicts.score[first:stop]
        return track, first + int(np.nanargmax(scores))

    def at(self, time_ns: int, asset: str | None) -> tuple[Track, int]:
        """The window that ends at an event time.

        Raises:
            UsageError: there is none; with the assets or the times that there are.
        """
        if asset is None and len(self.assets) == 1:
            asset = self.assets[0]
        if asset is None or asset not in self._rows:
            known = ", ".join(sorted(self.assets)[:LISTED]) + (" ..." if len(self.assets) > LISTED else "")
            raise UsageError(
                f"--asset {asset}: the file has no such asset; it has {known}"
                if asset is not None
                else f"--at needs --asset: the file has {len(self.assets)} assets, {known}"
            )
        row = self.spec.row(time_ns)
        track = self.track(asset, row)
        index = None if track is None else track.index_at(row)
        if track is None or index is None or not np.isfinite(track.verdicts.score[index]):
            rows = [r for r, _, _ in self._rows[asset]]
            period = self.spec.period_ns
            raise UsageError(
                f"--at {iso(time_ns)}: no window of {asset} ends there; its rows are from"
                f" {iso(rows[0] * period)} to {iso(rows[-1] * period)}, and the first"
                f" {self.detector.window - 1} after a gap are not scored"
            )
        return track, index


def explained(
    track: Track, index: int, incident: Incident | None, spec: StreamSpec, policy: AlarmPolicy
) -> RootCause:
    """All that the window itself, its model and its episode say; without what it is like."""
    detector, period, L = track.detector, spec.period_ns, track.detector.window
    onset = index if incident is None else track.index_from(incident.onset_ns // period)
    stop = index + 1 if incident is None else max(track.index_from(incident.last_ns // period), index + 1)
    shares = blame(track, min(onset, index), stop)
    view = track.view(index)
    repair = smallest_repair(detector, view, shares, policy.hysteresis)
    midst = (track.index_from(incident.opened_ns // period) + stop - 1) // 2 if incident else index
    explained = explained_share(
        detector, track.window(midst), track.condition[int(track.at[midst])], before(track, min(onset, index))
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
        twin=normal_twin(detector, track.values[rows], track.condition[rows], repair.sensors, since - low),
        window=slice(at + 1 - L - low, at + 1 - low),
        reconstruction=reconstructed(detector, view),
        path=latent_path(
            detector, track.evidence.posterior[start : index + 1], max(min(onset, index) - start, 1)
        ),
        path_times_ns=(track.first_row + track.at[start : index + 1]) * period,
        nearest=(),
    )


def before(track: Track, onset: int) -> Floats:
    """(B, L, C) some windows from before an onset, none of them near enough to hold its first rows' cause."""
    L = track.detector.window
    chosen = range(max(onset - CONTEXT * L, 0), onset - L // 2, max(L // 4, 1))
    return (
        np.stack([track.window(i) for i in chosen]) if len(chosen) else np.empty((0, *track.window(0).shape))
    )


def blame(track: Track, first: int, stop: int) -> Floats:
    """(C,) shares of the sensors over windows ``first .. stop - 1``, as an alert at the last of them ranks."""
    peaks: PeakEvidence | None = None
    for i in range(first, stop):
        window = track.window(i)
        row = SensorEvidence.read(
            track.verdicts.error[i],
            track.evidence.residual[i],
            track.detector.scaling.of(window),
            window[-1],
            track.evidence.expected[i],
        )
        peaks = PeakEvidence.since(row) if peaks is None else peaks.grown(row)
    assert peaks is not None
    return peaks.shares()


# ------------------------------------------------------------------ what it was like
def nearest(
    found: RootCause,
    track: Track,
    index: int,
    past: Sequence[Incident],
    tracks: Tracks,
    alerts: Path | None,
    feedback: Path | None,
) -> tuple[Neighbour, ...]:
    """The past episodes most like this one: of the file, and of an ``alerts.jsonl`` if one is given."""
    said = {} if feedback is None else said_of(feedback)
    names = found.sensors
    place = {name: c for c, name in enumerate(names)}
    moved = moved_by(track, index, found.since_ns // found.period_ns)
    earlier = [i for i in past if i.onset_ns < found.since_ns][-MOST_PAST:]
    candidates: list[tuple[float, Incident]] = []
    for incident in earlier:
        other = tracks.track(incident.asset, incident.peak_ns // found.period_ns)
        at = None if other is None else other.index_at(incident.peak_ns // found.period_ns)
        theirs = (
            None if other is None or at is None else moved_by(other, at, incident.onset_ns // found.period_ns)
        )
        candidates.append((likeness(found.shares, moved, shares_of(incident, place), theirs), incident))
    known = {i.fingerprint for i in past} | ({found.incident.fingerprint} if found.incident else set())
    for incident in [] if alerts is None else read_alerts(alerts):
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
            *said.get(incident.fingerprint, (None, None)),
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


def read_alerts(path: Path) -> list[Incident]:
    """The anomaly episodes of an ``alerts.jsonl``, or of the alerts topic written to a file.

    Raises:
        InputError: the file cannot be read, or a line of it is no alert.
    """
    by: dict[str, Incident] = {}
    for line, message in _lines(path):
        try:
            data = message["data"]
            if data["kind"] != AlertKind.ANOMALY.value:
                continue
            known = by.get(data["fingerprint"])
            contributors = [
                Contributor(c["sensor"], c["observed"], c["expected"], float(c["share"]))
                for c in data["contributors"]
            ]
            by[data["fingerprint"]] = Incident(
                message["subject"],
                data["fingerprint"],
                (*(known.ids if known else ()), message["id"]),
                event_time_ns(data["onset"]),
                event_time_ns(data["opened"]),
                event_time_ns(data["row"]),
                data["status"] == "resolved",
                event_time_ns(data["row"]),
                contributors or (known.contributors if known else ()),
            )
        except Exception as error:
            raise InputError(f"{path}: line {line} is no alert message: {type(error).__name__}") from error
    return list(by.values())


def said_of(path: Path) -> dict[str, tuple[str | None, str | None]]:
    """By fingerprint what operators said: verdict and note. Of several lines the last one counts.

    Raises:
        InputError: the file cannot be read, or a line of it has no fingerprint.
    """
    found: dict[str, tuple[str | None, str | None]] = {}
    for line, message in _lines(path):
        if not isinstance(message.get("fingerprint"), str):
            raise InputError(f"{path}: line {line} has no fingerprint")
        verdict, note = message.get("verdict"), message.get("note")
        found[message["fingerprint"]] = (
            None if verdict is None else str(verdict),
            None if note is None else str(note),
        )
    return found


def _lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read: it is no text in UTF-8") from error
    found = []
    for i, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            message = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}: line {i} is no JSON") from error
        if not isinstance(message, dict):
            raise InputError(f"{path}: line {i} is no JSON object")
        found.append((i, message))
    return found
