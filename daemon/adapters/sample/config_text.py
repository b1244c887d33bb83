"""A derived stream as the text of a config.yaml, with a comment on each key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import yaml

from daemon.domain import SECOND_NS, FieldNames, StreamSpec

_SPANS: Final = (("d", 86_400 * SECOND_NS), ("h", 3600 * SECOND_NS), ("m", 60 * SECOND_NS), ("s", SECOND_NS))
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


def config_yaml(
    spec: StreamSpec,
    topic: str | None = None,
    notes: Sequence[str] = (),
    bootstrap_servers: str = "localhost:9092",
    allow_plaintext: bool = False,
) -> str:
    """A config.yaml for the stream, with every key of a stream and a comment on each.

    Args:
        spec: the derived stream; its topics are used where ``topic`` is None.
        topic: the input topic.
        notes: written on top as comments.
        bootstrap_servers: where the topic is.
        allow_plaintext: whether it was reached with this permission.
    """
    topics = [topic] if topic is not None else list(spec.topics) or [f"sensors.{spec.name}"]
    fields = ", ".join(f"{key}: {quoted(getattr(spec.fields, key))}" for key in FieldNames.__slots__)
    sensors = [
        f"      {quoted(name)}: {{{f'range: [{bounds[0]!r}, {bounds[1]!r}]' if bounds else ''}}}"
        for name, bounds in zip(spec.sensors, spec.ranges or (None,) * len(spec.sensors), strict=True)
    ]
    keys = [
        ("period", span(spec.period_ns), "the grid; an event time is floored to it"),
        ("window", spec.window, "rows that are scored together"),
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
    comments = [f"# Note: {' '.join(note.split())}" for note in notes]
    return "\n".join(
        [
            "# Derived from a sample of readings; look through it before you rely on it.",
            "# Every key but `streams` has a default and may be left out; see the documented example.",
            *comments,
            "",
            "kafka:",
            f"  {f'bootstrap_servers: {quoted(bootstrap_servers)}':<35} # or ANOMALYD_KAFKA__BOOTSTRAP_SERVERS",
            *(["  allow_plaintext: true               # unencrypted, beyond this machine"] * allow_plaintext),
            "  group_id: anomalyd                  # the consumer group",
            "  # A name of this process's own in the group. Killed and started again under it, the process has its",
            "  # partitions back at once; without one, the group first waits 45 s for the dead member. Two processes",
            "  # that live at once must not share it: give each its own, or write null.",
            "  instance_id: $hostname              # this machine's name; any other may stand here",
            "",
            "streams:                              # assets of one kind: the same sensors, period and model",
            f"  - name: {quoted(spec.name)}",
            f"    topics: [{', '.join(map(quoted, topics))}]",
            f"    format: {spec.format.value}                 # json-wide or json-long",
            f"    fields: {{{fields}}}",
            "    sensors:                          # {range: [low, high]} where you know a sensor's range",
            *sensors,
            *(f"    {f'{key}: {value}':<33} # {meaning}" for key, value, meaning in keys),
            "",
            "model:",
            f"  latent: {latents_for(len(spec.sensors))}                           # min(8, max(2, sensors)): no more nonlinear causes than sensors",
            "",
            "calibration:",
            "  budget: 1 per day                   # false episodes per asset that you accept",
            "",
        ]
    )
