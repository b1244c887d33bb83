"""A derived stream as the text of a config.yaml, with a comment on each key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import yaml

from daemon.config.presets import CUSTOM
from daemon.documents import one_line
from daemon.domain import SECOND_NS, FieldNames, Format, StreamSpec

_SPANS: Final = (("d", 86_400 * SECOND_NS), ("h", 3600 * SECOND_NS), ("m", 60 * SECOND_NS), ("s", SECOND_NS))
_LONGEST_NAME: Final = 90
"""Of what stands behind ``anomalyd.`` in the name of a group: Kafka's topics have at most 249 characters."""
_SMALL_SPANS: Final = (("ms", 10**6), ("us", 10**3))


def latents_for(sensors: int) -> int:
    """Z of a derived configuration: a stream has no more nonlinear causes than sensors."""
    return min(8, max(2, sensors))


def span(ns: int) -> str:
    """A duration as the configuration writes it: ``500ms``, ``10s``, ``5m``, ``1h``, ``7d``."""
    for unit, size in (*_SPANS, *_SMALL_SPANS):
        if ns and ns % size == 0:
            return f"{ns // size}{unit}"
    return "0s" if not ns else f"{max(round(ns / 1_000), 1)}us"


def quoted(text: str) -> str:
    """A YAML scalar that reads back as exactly this text."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_. -]*[A-Za-z0-9_]|[A-Za-z]", text) and yaml.safe_load(text) == text:
        return text
    return str(yaml.safe_dump(text, default_style='"', width=10**9, allow_unicode=True)).rstrip("\n")


def flow(value: Any) -> str:
    """A value of the configuration in one line of YAML."""
    if isinstance(value, str):
        return quoted(value)
    text = yaml.safe_dump([value], default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False)
    return text.strip()[1:-1]


@dataclass(frozen=True, eq=False)
class Written:
    """What a derived stream says in the configuration's own words, and why: the raw keys behind a spec.

    ``format`` and ``input`` say how messages are read (``input`` None: by the fields of json-wide or json-long);
    ``sensors`` has the settings of each sensor. ``why`` has a reason by key (``format``, ``fields``, ``input.KEY``,
    ``sensors.NAME``, ``period`` ...). ``proposed`` are lines below ``sensors`` that are written as comments.
    """

    format: str = Format.JSON_WIDE.value
    input: Mapping[str, Any] | None = None
    sensors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    proposed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Ends:
    """Where records come from and outputs go to, and who asks for them."""

    bootstrap_servers: str = "localhost:9092"
    allow_plaintext: bool = False  # it was reached with this permission
    name: str = "anomalyd"  # of the consumer group, and before the names of the outputs
    schema_registry: Mapping[str, Any] = field(default_factory=dict)  # as the configuration says it

    @staticmethod
    def name_for(source: str) -> str:
        """A name for group and outputs that no other topic's (or file's) configuration has."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", source).strip(".-") or "stream"
        if len(plain) > _LONGEST_NAME:
            plain = f"{plain[: _LONGEST_NAME - 9]}-{sha256(source.encode()).hexdigest()[:8]}"
        return f"anomalyd.{plain}"


def config_yaml(
    spec: StreamSpec,
    topic: str | None = None,
    notes: Sequence[str] = (),
    written: Written | None = None,
    ends: Ends | None = None,
) -> str:
    """A config.yaml for the stream, with every key of a stream and a comment on each.

    Args:
        spec: the derived stream; its topics are used where ``topic`` is None.
        topic: the input topic.
        notes: written on top as comments.
        written: what the stream says in words of its own; None: what the spec alone shows.
        ends: where the topic is, and where outputs go.
    """
    ends = ends or Ends()
    written = written or Written(spec.format.value)
    topics = [topic] if topic is not None else list(spec.topics) or [f"sensors.{spec.name}"]
    why = written.why
    keys = [
        ("period", span(spec.period_ns), why.get("period", "the grid; an event time is floored to it")),
        ("window", spec.window, why.get("window", "rows that are scored together")),
        ("hop", spec.hop, "score every hop-th row"),
        (
            "allowed_lateness",
            span(spec.allowed_lateness_ns),
            "how long a row waits for readings out of order",
        ),
        ("max_gap", span(spec.max_gap_ns), "a longer gap starts the windows afresh"),
        ("silent_after", span(spec.silent_after_ns), "then a sensor or asset is declared silent"),
        ("condition", f"[{', '.join(map(quoted, spec.condition))}]", "fields that name the operating mode"),
    ]
    return "\n".join(
        [
            "# Derived from a sample of readings; look through it before you rely on it.",
            "# Every key but `streams` has a default and may be left out; see the documented example.",
            *(f"# Note: {_one_line(note)}" for note in notes),
            "",
            "kafka:",
            f"  {f'bootstrap_servers: {quoted(ends.bootstrap_servers)}':<35} # or ANOMALYD_KAFKA__BOOTSTRAP_SERVERS",
            *(
                ["  allow_plaintext: true               # unencrypted, beyond this machine"]
                * ends.allow_plaintext
            ),
            _line(
                f"  group_id: {quoted(ends.name)}", "the consumer group; another configuration needs another"
            ),
            "  # A name of this process's own in the group. Killed and started again under it, the process has its",
            "  # partitions back at once; without one, the group first waits 45 s for the dead member. Two processes",
            "  # that live at once must not share it: give each its own, or write null.",
            "  instance_id: $hostname              # this machine's name; any other may stand here",
            "",
            *_registry(ends.schema_registry),
            "streams:                              # assets of one kind: the same sensors, period and model",
            f"  - name: {quoted(spec.name)}",
            f"    topics: [{', '.join(map(quoted, topics))}]",
            *_reading(spec, written),
            "    sensors:                          # {range: [low, high]} where you know a sensor's range",
            "                                      # what of one may raise an alert: direction: above | below, min_deviation: 0.5 | 5%,",
            "                                      # ignore: true (it stays context for the model), critical_ratio: 3",
            *_sensors(spec, written),
            *(_line(f"    {key}: {value}", meaning) for key, value, meaning in keys),
            *_zone(spec, why),
            "",
            "model:",
            f"  latent: {latents_for(len(spec.sensors))}                           # min(8, max(2, sensors)): no more nonlinear causes than sensors",
            "",
            "calibration:",
            "  budget: 1 per week                  # false episodes of each asset that you accept; or of all: 10 per day per stream",
            "",
            "outputs:",
            _line(
                f"  prefix: {quoted(ends.name)}",
                "topics <prefix>.alerts, .imputed, .drift, .dead-letter, .models and .state",
            ),
            "",
            "http:",
            "  port: 9464                          # /metrics and the page; a second process on this machine needs another",
            "",
        ]
    )


def _registry(section: Mapping[str, Any]) -> list[str]:
    """The schema registry, where messages name schemas."""
    if not section:
        return []
    return [
        "schema_registry:                      # of the schemas that messages name",
        *(
            f"  {key}: {flow(value[0] if isinstance(value, list) and len(value) == 1 else value)}"
            for key, value in section.items()
        ),
        "",
    ]


def _zone(spec: StreamSpec, why: Mapping[str, str]) -> list[str]:
    """The zone of times that name none, where it is known or there are such times."""
    if spec.timezone is not None:
        return [_line(f"    timezone: {quoted(spec.timezone)}", "of times that name no zone")]
    return [_line("    # timezone: Europe/Berlin", why["timezone"])] if "timezone" in why else []


def _reading(spec: StreamSpec, written: Written) -> list[str]:
    """The keys that say how messages are read."""
    why = written.why
    if written.input is None and spec.input is None:
        fields = ", ".join(f"{key}: {quoted(getattr(spec.fields, key))}" for key in FieldNames.__slots__)
        return [
            _line(
                f"    format: {written.format}",
                why.get("format", "of the messages; columns of a table go by their names"),
            ),
            _line(f"    fields: {{{fields}}}", why.get("fields", "")),
        ]
    lines = (
        [] if written.format == CUSTOM else [_line(f"    format: {written.format}", why.get("format", ""))]
    )
    if written.input:
        own = "a mapping of its own" if written.format == CUSTOM else "over the keys of the format"
        lines.append(_line("    input:", why.get("format", own) if written.format == CUSTOM else own))
        for key, value in written.input.items():
            lines.append(_line(f"      {key}: {flow(value)}", why.get(f"input.{key}", "")))
    return lines


def _sensors(spec: StreamSpec, written: Written) -> list[str]:
    lines = []
    for name, bounds in zip(spec.sensors, spec.ranges or (None,) * len(spec.sensors), strict=True):
        settings = dict(written.sensors.get(name, {}))
        if bounds is not None:
            settings["range"] = list(bounds)
        lines.append(_line(f"      {quoted(name)}: {flow(settings)}", written.why.get(f"sensors.{name}", "")))
    return lines + [f"      # {_one_line(line)}" for line in written.proposed]


def _line(text: str, comment: str) -> str:
    """A line with a comment, which begins in the same column if the line is short."""
    return f"{text:<37} # {_one_line(comment)}" if comment else text


def _one_line(text: str) -> str:
    return one_line(" ".join(text.split()))
