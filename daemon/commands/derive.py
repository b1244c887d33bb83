"""The configuration of a command over files: the one given, or one derived from a sample of the readings.

``replay``, ``train``, ``impute``, ``explain``, ``generate --check`` and ``drill`` work with and without a
config.yaml. Without one, ``adapters.sample`` derives the stream from the file, and the document that
config.yaml would have been goes through the same validation. In: ``FileOptions``, the file, a bundle if there
is one. Out: ``Settings`` or the ``StreamPlan`` of one stream, and notes on what was derived. A bundle's
sensors, period, window and conditions come before what the sample suggests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from daemon.adapters.files import is_lines, read_table
from daemon.adapters.sample import derive_spec, latents_for, names_in
from daemon.commands.inputs import FileOptions, check_reading
from daemon.config import Settings, load
from daemon.domain import (
    StreamSpec,
    is_calendar,
)
from daemon.errors import ConfigError, UsageError
from daemon.model.bundle import Bundle
from daemon.runtime.compatibility import check_compatible
from daemon.runtime.stream_run import StreamPlan

PLACEHOLDER = StreamSpec("stream", ("sensor",))
"""A stream for a document of which only the keys outside of ``streams`` matter."""


def document_of(spec: StreamSpec) -> dict[str, Any]:
    """A derived stream as the document that its config.yaml would hold."""

    def lasting(ns: int) -> timedelta:
        return timedelta(microseconds=ns / 1_000)

    return {
        "streams": [
            {
                "name": spec.name,
                "topics": list(spec.topics) or [spec.name],
                "format": spec.format.value,
                "fields": {name: getattr(spec.fields, name) for name in spec.fields.__slots__},
                "sensors": {
                    name: (
                        {}
                        if not spec.ranges or spec.ranges[i] is None
                        else {"range": list(spec.ranges[i] or ())}
                    )
                    for i, name in enumerate(spec.sensors)
                },
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


def settings_for(
    options: FileOptions, sample: Path, bundle: Bundle | None, *, cold: bool = False
) -> tuple[Settings, list[str]]:
    """The configuration of a command over files: the one given, or one derived from a sample.

    Args:
        options: of the command.
        sample: the file that the stream is derived from.
        bundle: its sensors, period and window come before what the sample suggests.
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
    spec, notes = derive_spec(
        source, options.exclude, rows=rows, decided=bundle is not None, conditions=in_messages
    )
    document = document_of(spec)
    if reading.timezone is not None:
        document["streams"][0]["timezone"] = reading.timezone
    if bundle is not None:
        stream = document["streams"][0]
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
            "sensors": {name: {} for name in bundle.sensors},
        }
        if fields:
            stream |= {"condition": fields, "timezone": reading.timezone or bundle.facts.get("timezone")}
        document["model"]["latent"] = latents_for(len(bundle.sensors))
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
    streams = {stream.name: stream for stream in settings.streams}
    if name is None and len(streams) > 1:
        raise ConfigError(
            f"the configuration has {len(streams)} streams: name one with --stream ({', '.join(streams)})"
        )
    if name is not None and name not in streams:
        raise ConfigError(f"the configuration has no stream {name!r}; it has {', '.join(streams)}")
    return StreamPlan.of(settings, streams[name] if name is not None else settings.streams[0])


def plan_at(plan: StreamPlan, topic: str) -> StreamPlan:
    """The same plan with another file, or topic, as its only input."""
    return replace(plan, spec=replace(plan.spec, topics=(topic,)))
