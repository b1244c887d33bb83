"""The configuration of a command over files: the one given, or one derived from a sample of the readings.

``replay``, ``train``, ``impute``, ``explain``, ``generate --check`` and ``drill`` work with and without a
config.yaml. Without one, ``adapters.sample`` derives the stream from the file, and the document that
config.yaml would have been goes through the same validation. In: ``FileOptions``, the file, a bundle if there
is one. Out: ``Settings`` or the ``StreamPlan`` of one stream, and notes on what was derived. A bundle's
sensors with their rules, period, window, hop and conditions come before what the sample suggests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from daemon.adapters.files import Table, is_lines, read_table
from daemon.adapters.sample import Written, derive, latents_for, names_in
from daemon.commands.inputs import FileOptions, check_reading, chosen_stream
from daemon.config import Settings, load
from daemon.config.presets import CUSTOM
from daemon.domain import (
    StreamSpec,
    is_calendar,
)
from daemon.errors import UsageError
from daemon.model.bundle import Bundle
from daemon.runtime.compatibility import check_compatible, missing_numbers, sensor_sections, trained_hop
from daemon.runtime.stream_run import StreamPlan

PLACEHOLDER = StreamSpec("stream", ("sensor",))
"""A stream for a document of which only the keys outside of ``streams`` matter."""


def document_of(spec: StreamSpec, written: Written | None = None) -> dict[str, Any]:
    """A derived stream as the document that its config.yaml would hold.

    Args:
        spec: the stream.
        written: what it says in the configuration's own words; None for a stream of json-wide or json-long.
    """

    def lasting(ns: int) -> timedelta:
        return timedelta(microseconds=ns / 1_000)

    written = written or Written(spec.format.value)
    sensors: dict[str, dict[str, Any]] = {}
    for name, bounds in zip(spec.sensors, spec.ranges or (None,) * len(spec.sensors), strict=True):
        sensors[name] = dict(written.sensors.get(name, {}))
        if bounds is not None:
            sensors[name]["range"] = list(bounds)
    return {
        "streams": [
            {
                "name": spec.name,
                "topics": list(spec.topics) or [spec.name],
                **_reading(spec, written),
                "sensors": sensors,
                "period": lasting(spec.period_ns),
                "window": spec.window,
                "hop": spec.hop,
                "allowed_lateness": lasting(spec.allowed_lateness_ns),
                "max_gap": lasting(spec.max_gap_ns),
                "silent_after": lasting(spec.silent_after_ns),
                "condition": list(spec.condition),
            }
        ],
        "model": {"latent": latents_for(len(spec.sensors))},
    }


def _reading(spec: StreamSpec, written: Written) -> dict[str, Any]:
    """The keys that say how messages are read."""
    if spec.input is None:
        fields = {name: getattr(spec.fields, name) for name in spec.fields.__slots__}
        return {"format": written.format, "fields": fields}
    format = {} if written.format == CUSTOM else {"format": written.format}
    return format | ({} if written.input is None else {"input": dict(written.input)})


def settings_for(
    options: FileOptions, sample: Path, bundle: Bundle | None, *, cold: bool = False
) -> tuple[Settings, list[str]]:
    """The configuration of a command over files: the one given, or one derived from a sample.

    Args:
        options: of the command.
        sample: the file that the stream is derived from.
        bundle: its sensors with their rules, period, window, hop and budgets come before what the sample suggests.
        cold: derive from the first ``model.learn_rows`` rows alone, as the others are not known before
            training.

    Returns:
        The settings, and notes on what was derived.

    Raises:
        DaemonError: the configuration cannot be used, or the sample cannot be read.
    """
    sets, reading = options.sets, options.reading
    check_reading(reading, sample)
    if options.config is not None:
        return load(options.config, sets), []
    rows = load(None, sets, document_of(PLACEHOLDER)).model.learn_rows if cold else None
    fields = list(bundle.facts.get("condition") or ()) if bundle is not None else []
    in_messages = [name for name in fields if not is_calendar(name)]
    source = sample if is_lines(sample) else read_table(sample, options.exclude, in_messages, reading=reading)
    derived = derive(source, options.exclude, rows=rows, decided=bundle is not None, conditions=in_messages)
    document, notes = document_of(derived.spec, derived.written), derived.notes
    if reading.timezone is not None:
        document["streams"][0]["timezone"] = reading.timezone
    if bundle is not None:
        stream = document["streams"][0]
        sensors = sensor_sections(bundle)
        if isinstance(source, Table):
            told = set(source.notes) - set(source.notes_without(missing_numbers(bundle)))
            notes = [note for note in notes if note not in told]
        period = timedelta(microseconds=bundle.period_ns / 1_000)
        if stream["period"] != period:
            long = max(timedelta(minutes=5), 20 * period)
            stream |= {
                "allowed_lateness": max(timedelta(seconds=10), period),
                "max_gap": long,
                "silent_after": long,
            }
        stream |= {
            "period": period,
            "window": bundle.window,
            "hop": trained_hop(bundle) or stream["hop"],
            "sensors": sensors,
        }
        if fields:
            stream |= {"condition": fields, "timezone": reading.timezone or bundle.facts.get("timezone")}
        document["model"]["latent"] = latents_for(len(bundle.sensors))
        if bundle.calibration.search is not None:
            document["calibration"] = {"budget": bundle.calibration.search.budget}
        if bundle.sustained is not None and bundle.sustained.search is not None:
            document["alerts"] = {"deviation_budget": bundle.sustained.search.budget}
    return load(None, sets, document), notes


def check_excluded(exclude: Sequence[str], files: Sequence[Path], option: str = "--exclude") -> None:
    """Reject the exclusion of a column that does not exist: a misspelt label would be learned as a sensor.

    Raises:
        UsageError: none of the files has such a column; with the nearest name.
    """
    if not exclude:
        return
    names = sorted(set().union(*(names_in(path) for path in files)))
    if not set(exclude) <= set(names):  # in a long table the sensors are no columns
        names = sorted(
            {*names, *(s for path in files if not is_lines(path) for s in read_table(path).sensors)}
        )
    for name in exclude:
        if name not in names:
            near = get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names[:20])}"
            raise UsageError(f"{option} {name}: {files[-1]} has no such column; {hint}")


def plan_for_file(options: FileOptions, file: Path, bundle: Bundle) -> tuple[StreamPlan, list[str]]:
    """The plan by which a bundle judges a file, and notes on what was derived.

    Args:
        options: of the command.
        file: the stream is derived from it, and it stands for the stream's topic.
        bundle: must fit the stream.

    Raises:
        DaemonError: the configuration cannot be used, a file cannot be read, or the bundle does not fit.
    """
    settings, notes = settings_for(options, file, bundle)
    plan = plan_for(settings, options.stream_name, file.name)
    check_compatible(bundle, plan.spec)
    return plan, notes


def plan_for(settings: Settings, name: str | None, topic: str) -> StreamPlan:
    """The plan of the one stream that a file holds; see ``plan_of``."""
    return plan_at(plan_of(settings, name), topic)


def plan_of(settings: Settings, name: str | None) -> StreamPlan:
    """The plan of the stream that is named, or of the only one.

    Raises:
        ConfigError: the configuration has several streams and none was named, or none of that name.
    """
    return StreamPlan.of(settings, chosen_stream(settings, name))


def plan_at(plan: StreamPlan, topic: str) -> StreamPlan:
    """The same plan with another file, or topic, as its only input."""
    return replace(plan, spec=replace(plan.spec, topics=(topic,)))
