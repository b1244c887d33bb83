"""The command: its options, checked and turned into a request, and where the rows are to go.

In: ``GenerateOptions``. Out: ``Prepared``, with which ``write_file`` or ``write_topic`` writes; or, with
``held_out``, the ``Quality`` of the rows that would be written. Options are checked before the bundle is
loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.adapters.kafka import KafkaSettings
from daemon.commands.broker import kafka_only, with_servers
from daemon.commands.derive import plan_of
from daemon.commands.generate.messages import MessageLayout
from daemon.commands.generate.request import DEFAULT_ROWS, Generated, Request, condition_of, rate_of, when_ns
from daemon.commands.generate.rows import SyntheticRows
from daemon.commands.generate.topic import TopicTarget
from daemon.commands.inputs import FileOptions, no_progress
from daemon.commands.quality import Quality, QualityOptions, check
from daemon.commands.wiring import kafka_settings
from daemon.config import is_topic_name, load, parse_duration
from daemon.domain import Format, Progress
from daemon.errors import UsageError
from daemon.model.bundle import Bundle


@dataclass(frozen=True, slots=True)
class GenerateOptions(FileOptions):
    """What ``generate`` is given. One of ``out``, ``topic`` and ``held_out`` must be."""

    model: Path
    out: Path | None = None  # a file to write
    topic: str | None = None  # a topic to send to
    held_out: Path | None = None  # rows to compare with, instead of writing any
    assets: int = 1
    rows: int | None = None  # per asset, like the next
    duration: str | None = None  # event time, or with ``rate`` wall time
    count: int | None = None  # rows of all assets together
    conditions: Sequence[str] = ()  # ``name=value`` each
    like: str | None = None  # only what this asset of training did
    inject: Sequence[str] = ()  # faults, ``KIND`` or ``KIND:SENSOR`` each
    gaps: float = 0.0  # share of readings
    late: float = 0.0  # share of rows
    rate: str | None = None  # to the topic, as ``5000/s``
    format: str | None = None  # of messages
    start: str = "2026-01-01T00:00:00Z"  # ISO 8601, or ``now``
    seed: int = 0
    train: Path | None = None  # with ``held_out``: what the model learned from
    label: str | None = None  # with ``held_out``: a column, 1 where a row is anomalous
    bootstrap_servers: str | None = None  # of the topic


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """The rows that were asked for, and how they are written."""

    made: SyntheticRows
    layout: MessageLayout  # of a file of messages
    target: TopicTarget | None  # None: the rows go to a file


def check_usage(options: GenerateOptions) -> None:
    """Reject options that contradict one another.

    Raises:
        UsageError: some do.
    """
    topic = options.topic
    if sum(x is not None for x in (options.out, topic, options.held_out)) != 1:
        raise UsageError("say where to: one of --out FILE, --topic TOPIC and --check HELD_OUT")
    if options.held_out is None and (options.train is not None or options.label is not None):
        raise UsageError("--train and --label go with --check")
    if options.rate is not None and topic is None:
        raise UsageError("--rate goes with --topic")
    if topic is not None and not is_topic_name(topic):
        raise UsageError(f"--topic {topic}: no name of a topic: letters, digits, '.', '_' and '-'")
    if sum(x is not None for x in (options.rows, options.duration, options.count)) > 1:
        raise UsageError("say how much once: --rows, --duration or --count")


async def check_held_out(options: GenerateOptions, progress: Progress = no_progress) -> Quality:
    """Compare rows that would be written with held-out ones.

    Raises:
        DaemonError: options that contradict one another, or what ``quality.check`` raises.
    """
    check_usage(options)
    assert options.held_out is not None
    bundle = Bundle.load(options.model)
    asked = QualityOptions(
        options.held_out,
        train=options.train,
        label=options.label,
        condition=condition_of(bundle.conditions, options.conditions),
        like=options.like,
        seed=options.seed,
        config=options.config,
        sets=options.sets,
        exclude=options.exclude,
        stream_name=options.stream_name,
    )
    return await check(bundle, asked, progress)


def prepare(options: GenerateOptions) -> Prepared:
    """The request of the options, and how its rows are written.

    Raises:
        DaemonError: options that contradict one another or the bundle, or a wrong configuration.
    """
    check_usage(options)
    bundle = Bundle.load(options.model)
    rate = None if options.rate is None else rate_of(options.rate)
    request = Request(
        assets=options.assets,
        rows=_rows_per_asset(options, bundle, rate),
        count=options.count,
        conditions=tuple(options.conditions),
        like=options.like,
        inject=tuple(options.inject),
        gaps=options.gaps,
        late=options.late,
        start_ns=when_ns(options.start),
        seed=options.seed,
    )
    made = SyntheticRows(bundle, request)
    layout, connection = _layout_of(options)
    if options.topic is None or connection is None:
        return Prepared(made, layout, None)
    return Prepared(made, layout, TopicTarget(options.topic, connection, rate, layout))


def generated_as_json(result: Generated, prepared: Prepared) -> dict[str, Any]:
    """What ``generate --json`` prints."""
    made = prepared.made
    return {
        "model": made.bundle.version,
        "assets": made.request.assets,
        "rows": result.rows,
        "faults": [fault.as_json() for fault in result.faults],
        "seconds": result.seconds,
        "rate": result.rate,
    }


def _rows_per_asset(options: GenerateOptions, bundle: Bundle, rate: float | None) -> int:
    """Rows per asset, from whichever option says how many."""
    if options.duration is not None:
        try:
            seconds = parse_duration(options.duration).total_seconds()
        except ValueError as error:
            raise UsageError(f"--duration {error}") from error
        each: float = bundle.period_ns / 1e9 if rate is None else options.assets / rate
        rows: int = max(round(seconds / each), 1)
        return rows
    if options.count is not None:
        return -(-options.count // options.assets)
    return options.rows or DEFAULT_ROWS


def _layout_of(options: GenerateOptions) -> tuple[MessageLayout, KafkaSettings | None]:
    """Format and field names, by a stream of the configuration if there is one; and the connection."""
    servers, layout = options.bootstrap_servers, MessageLayout()
    if options.config is None and not options.sets:
        settings = kafka_only(None, servers)
    else:
        settings = load(options.config, options.sets)
        spec = plan_of(settings, options.stream_name).spec
        layout = MessageLayout(spec.format, spec.fields)
        settings = with_servers(settings, servers)
    if options.format is not None:
        try:
            layout = MessageLayout(Format(options.format), layout.fields)
        except ValueError as error:
            raise UsageError(f"--format {options.format}: there are {', '.join(Format)}") from error
    return layout, kafka_settings(settings) if options.topic is not None else None
