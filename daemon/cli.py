"""The command line: arguments in, one clear line out, exit codes 0 fine, 1 failed, 2 wrong usage.

Torch and what it brings take seconds to import, so each command imports what it needs.
"""

import asyncio
import errno
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.table import Table as Grid

from daemon import __version__
from daemon.adapters.telemetry import configure_logging
from daemon.config import (
    MAX_SEED,
    HttpSection,
    Settings,
    is_topic_name,
    load,
    parse_duration,
    unknown_environment,
)
from daemon.documents import from_yaml, one_line
from daemon.domain import (
    AlertEvent,
    Phase,
    Severity,
    StreamSpec,
    iso,
)
from daemon.errors import BrokerError, ConfigError, DaemonError, InputError, UsageError

app = typer.Typer(
    name="anomalyd",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Streaming anomaly detection for sensor data: Kafka in, Kafka out.\n\n"
    "Start with `anomalyd demo`. Then `anomalyd init SAMPLE` writes a config.yaml for your readings,"
    " `anomalyd check --probe` says whether everything is in place, and `anomalyd run` runs.\n\n"
    "Exit codes: 0 fine, 1 failed, 2 wrong usage or configuration.",
)

DEFAULT_CONFIG = Path("config.yaml")

Config = Annotated[
    Path | None, typer.Option("-c", "--config", help="Configuration file.", show_default=False)
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any configuration key, as `retrain.every=10m`; repeatable."
    ),
]
Exclude = Annotated[
    str, typer.Option(metavar="A,B", help="Columns that are no sensors (labels, ids), comma-separated.")
]
StreamName = Annotated[
    str | None, typer.Option("--stream", help="Which stream of the configuration the file holds.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object, for scripts.")]


def out() -> Console:
    """The terminal; made on use so that it follows a redirected stream."""
    return Console(highlight=False)


def err() -> Console:
    """Where progress and errors go, so that standard output stays clean for pipes."""
    return Console(stderr=True, highlight=False)


def split(text: str) -> list[str]:
    """A comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def quietly(*, environment: bool = True) -> None:
    """Logs of commands that talk to a person: warnings only, on standard error.

    ``environment``: say which ANOMALYD_ variables name nothing.
    """
    configure_logging("warning", "console", sys.stderr)
    if environment:
        notes_of(unknown_environment())


def perform(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a command's coroutine; an interrupt ends it as a person expects."""
    return asyncio.run(work)


def compute(work: Coroutine[Any, Any, Any]) -> Any:
    """``perform`` for what mostly computes: asyncio answers an interrupt at the next await, which may be minutes off."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    mine = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not mine or threading.current_thread() is not threading.main_thread():
        return asyncio.run(work)
    signal.signal(signal.SIGINT, stop)
    try:
        return asyncio.run(work)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def progress_bar() -> Iterator[Callable[[float, str], None]]:
    """A bar on standard error; on a pipe, a line whenever what is being done changes."""
    console = err()
    if not console.is_terminal:
        said = {""}

        def line(share: float, doing: str) -> None:
            head = doing.partition(":")[0]
            if head not in said:
                said.add(head)
                console.print(f"{share:4.0%} {escape(doing)}", soft_wrap=True)

        yield line
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda share, doing: bar.update(task, completed=share, description=escape(doing))


def notes_of(notes: list[str]) -> None:
    """What an operator should know."""
    for note in notes:
        err().print(f"note: {escape(one_line(note))}", style="yellow", soft_wrap=True)


def settings_from(config: Path | None, sets: list[str] | None) -> Settings:
    """The configuration of a command that needs one."""
    return load(config or DEFAULT_CONFIG, sets or [])


def version(value: bool) -> None:
    """``--version``."""
    if value:
        typer.echo(f"anomalyd {__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
    _debug: Annotated[
        bool, typer.Option("--debug", help="Print the traceback of an unexpected failure, for a report.")
    ] = False,
) -> None:
    """Options of every command."""


# ------------------------------------------------------------------ demo
def announce(event: AlertEvent, console: Console) -> None:
    """One alert message as a line for a person."""
    if event.phase is Phase.UPDATED:
        return
    opened = event.phase is Phase.OPENED
    style = "red bold" if event.severity is Severity.CRITICAL else "yellow"
    word = f"[{style}]{event.severity:<8}[/]" if opened else "[green]closed  [/]"
    when = iso(event.row_ns)[:16].replace("T", " ")
    if opened:
        text = event.summary
    else:
        lasted = (event.row_ns - event.opened_ns) / 60e9
        text = f"{event.asset}: {event.kind}{f' of {event.sensor}' if event.sensor else ''} over after {lasted:.0f} min"
    console.print(f"{when}  {word}  {escape(text)}", soft_wrap=True)


@app.command()
def demo(
    seed: Annotated[
        int, typer.Option(min=0, max=MAX_SEED, help="The same seed injects the same faults.")
    ] = 0,
    duration: Annotated[str, typer.Option(help="Wall time for the simulated day to pass in.")] = "60s",
    forever: Annotated[bool, typer.Option("--forever", help="Go on until Ctrl-C.")] = False,
    config: Config = None,
    sets: Sets = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Of the admin page; 0 takes a free one.", show_default="9464, or http.port"
        ),
    ] = None,
    explanation: Annotated[
        Path | None,
        typer.Option(
            "--explain", metavar="HTML", help="Also write why the worst episode was one, as a page."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """See it work: a simulated fleet with injected faults, no broker, no configuration.

    24 pumps with 8 sensors each send a reading a minute into an in-memory log. The daemon learns
    what normal looks like from one day, then watches another go by in about a minute: alerts appear as episodes
    open and close, the page is on localhost, and a table of injected against found ends it, with the worst
    episode explained as `anomalyd explain --alert` explains any.
    """
    quietly()
    from daemon.adapters.files import check_place, replacing
    from daemon.adapters.root_cause_page import consequence, headline, root_cause_html
    from daemon.commands.demo import demo as play
    from daemon.commands.demo import demo_settings
    from daemon.commands.root_cause import worst_explained

    try:
        length = parse_duration(duration)
    except ValueError as error:
        raise ConfigError(f"--duration {error}") from error
    if explanation is not None:
        check_place(explanation)
    settings = demo_settings(config, sets or [])
    http = HttpSection() if settings is None else settings.http
    if port is not None:
        http = http.model_copy(update={"port": port})
    console = err() if as_json else out()

    def opened(address: str) -> None:
        console.print(f"The page is at [bold]{address}[/]. Learning from a simulated day ...", soft_wrap=True)

    with progress_bar() as bar:
        result = perform(
            play(
                seed=seed,
                duration=length,
                forever=forever,
                http=http,
                settings=settings,
                tell=lambda event: announce(event, console),
                watch=lambda doing, share: bar(share, doing),
                opened=opened,
            )
        )
    found = result.score
    plan = result.plan
    why = worst_explained(result.events, result.blocks, result.detectors, plan.spec, plan.policy)
    if why is not None and explanation is not None:
        with replacing(explanation) as temporary:
            temporary.write_text(root_cause_html(why), encoding="utf-8")
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "seed": seed,
                    "injected": found.injected,
                    "found": found.found,
                    "kinds": [
                        {
                            "kind": str(k.kind),
                            "injected": k.injected,
                            "found": k.found,
                            "median_delay_s": None
                            if k.median_delay is None
                            else k.median_delay.total_seconds(),
                        }
                        for k in found.kinds
                    ],
                    "false_episodes": len(found.false),
                    "budgeted_false_episodes": result.allowed,
                    "asset_days": result.asset_days,
                    "rows": result.rows,
                    "filled_cells": result.filled,
                    "trainings": [
                        {"version": o.version, "promoted": o.promoted, "reason": o.reason}
                        for o in result.outcomes
                    ],
                    "seconds": result.seconds,
                    "explained": None if why is None else why.as_dict(),
                }
            )
        )
        return
    table = Grid(title="What was injected, and what was found", title_justify="left")
    for name, side in (
        ("fault", "left"),
        ("injected", "right"),
        ("found", "right"),
        ("median delay", "right"),
    ):
        table.add_column(name, justify="left" if side == "left" else "right")
    for kind in found.kinds:
        delay = "-" if kind.median_delay is None else f"{kind.median_delay.total_seconds() / 60:.0f} min"
        table.add_row(str(kind.kind), str(kind.injected), str(kind.found), delay)
    table.add_section()
    table.add_row("all", str(found.injected), str(found.found), "")
    console.print(table)
    console.print(
        f"False episodes: {len(found.false)}; the budget allows {result.allowed:.0f}"
        f" ({result.budget:g} per asset and day, {result.asset_days:.1f} asset-days)."
    )
    promoted = sum(outcome.promoted for outcome in result.outcomes)
    console.print(
        f"{result.rows:,} rows judged or learned, {result.filled:,} dropped readings filled in,"
        f" {promoted} models promoted, {len(result.outcomes) - promoted} refused, in {result.seconds:.0f} s.",
        soft_wrap=True,
    )
    for outcome in result.outcomes:
        verdict = "[green]promoted[/]" if outcome.promoted else "[yellow]refused[/]"
        console.print(
            f"  model {outcome.version or '-'}: {verdict}, {escape(outcome.reason)}", soft_wrap=True
        )
    if why is not None:
        console.print(
            f"The worst episode, explained: {escape(why.asset)} since {iso(why.since_ns)[:16].replace('T', ' ')}."
            f" {escape(headline(why))}. {escape(consequence(why))}",
            soft_wrap=True,
        )
        if explanation is not None:
            console.print(f"  Its page: {escape(str(explanation))}", soft_wrap=True)


# ------------------------------------------------------------------ run and what surrounds it
@app.command()
def run(
    config: Config = None,
    sets: Sets = None,
    model: Annotated[
        Path | None, typer.Option(help="A model bundle to start with.", show_default=False)
    ] = None,
) -> None:
    """Run the daemon on Kafka, until SIGTERM.

    Without a model it says `learning`, collects `model.learn_rows` rows, trains beside consuming,
    and goes live. A model that the registry (the topic `<prefix>.models`) has promoted comes
    before `--model`. Health and metrics are on `http.port`.
    """
    settings = settings_from(config, sets)
    configure_logging(settings.logging.level, settings.logging.format)
    import structlog

    for problem in unknown_environment():
        structlog.get_logger().warning("environment", reason=problem)
    from daemon.commands.run import run as serve
    from daemon.model.bundle import Bundle

    bundle = None if model is None else Bundle.load(model)
    try:
        perform(serve(settings, bundle))
    except DaemonError:
        raise
    except Exception as error:  # to the log, where an operator looks; main ends it with a line
        structlog.get_logger().critical("crashed", exc_info=error)
        raise


@app.command()
def check(
    config: Config = None,
    sets: Sets = None,
    probe: Annotated[bool, typer.Option("--probe", help="Ask the broker too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether the configuration, the environment and (with --probe) the broker are in order.

    Exit code 0 if everything is, 2 if anything is not.
    """
    quietly(environment=False)  # it is among the findings
    settings = settings_from(config, sets)
    problems = unknown_environment()
    lines = [("configuration", True, f"{len(settings.streams)} stream(s)")]
    lines += [("environment", False, problem) for problem in problems]
    if not problems:
        lines.append(("environment", True, "every ANOMALYD_ variable names a key"))
    from daemon.commands.conditions import declared, heard
    from daemon.commands.wiring import connection_problem
    from daemon.commands.wiring import probe as ask

    lines += [(f.what, f.ok, f.detail) for f in declared(s.spec() for s in settings.streams)]

    problem = connection_problem(settings)
    if problem is not None:
        lines.append(("connection", False, problem))
    elif probe:
        lines += [(f.what, f.ok, f.detail) for f in perform(ask(settings))]
        lines += [(f.what, f.ok, f.detail) for f in perform(heard(settings))]
    if as_json:
        typer.echo(json.dumps([{"what": what, "ok": ok, "detail": detail} for what, ok, detail in lines]))
    else:
        for what, ok, detail in lines:
            mark = "[green]ok  [/]" if ok else "[red]fail[/]"
            out().print(f"{mark} {escape(what)}: {escape(one_line(detail))}", soft_wrap=True)
    if not all(ok for _, ok, _ in lines):
        raise typer.Exit(2)


@app.command()
def topics(
    config: Config = None,
    sets: Sets = None,
    create: Annotated[bool, typer.Option("--create", help="Create what is missing.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the topics that anomalyd needs, with their settings; with --create, create them.

    The input topics must exist: they are yours. Existing topics are left as they are.
    """
    quietly()
    settings = settings_from(config, sets)
    from daemon.commands.wiring import create_topics, own_topics

    if create:
        made = perform(create_topics(settings))
        rows = [{"topic": t.name, "partitions": t.partitions, "created": t.created} for t in made]
    else:
        rows = [
            {"topic": t.name, "partitions": t.partitions or "broker's default", "settings": dict(t.config)}
            if t.partitions or not t.name.endswith(".state")
            else {"topic": t.name, "partitions": "as the input topic", "settings": dict(t.config)}
            for t in own_topics(settings)
        ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Grid(*rows[0].keys())
    for row in rows:
        cells = [
            ", ".join(f"{k}={v}" for k, v in x.items()) if isinstance(x, dict) else str(x)
            for x in row.values()
        ]
        table.add_row(*cells)
    out().print(table)


# ------------------------------------------------------------------ files
SAMPLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", ".jsonl", ".ndjson", ".json", ".gz")


@app.command()
def init(
    sample: Annotated[
        str, typer.Argument(help="A Parquet, CSV or JSON Lines file (.gz too), or a topic.", metavar="SAMPLE")
    ],
    output: Annotated[
        Path, typer.Option("--out", help="Where to write it; `-` for standard output.")
    ] = DEFAULT_CONFIG,
    exclude: Exclude = "",
    name: Annotated[
        str | None, typer.Option(help="Of the stream.", show_default="sensors; of a topic, its last part")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="The input topic.", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite.")] = False,
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where the topic is.",
            show_default="ANOMALYD_KAFKA__BOOTSTRAP_SERVERS, or localhost:9092",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "-c", "--config", help="Whose `kafka:` says how to reach the topic.", show_default=False
        ),
    ] = None,
) -> None:
    """Look at a sample of readings and write a config.yaml for it: sensors, period, window.

    SAMPLE is a file; where there is none of that name, a topic: then the newest messages are
    looked at, up to 5000, without a consumer group. How to reach Kafka comes from
    --bootstrap-servers, the environment (`ANOMALYD_KAFKA__...`) and `-c`, in this order.
    """
    quietly()
    from daemon.adapters.files import replacing
    from daemon.adapters.sample import config_yaml, derive_spec

    if there(output) and not force and str(output) != "-":
        raise UsageError(f"{output} exists: give --force to overwrite it, or --out FILE")
    servers, allow_plaintext = None, False
    if there(Path(sample)):
        name = name or "sensors"
        spec, notes = derive_spec(Path(sample), split(exclude), name=name)
    else:
        if not is_topic_name(sample) or (sample.lower().endswith(SAMPLE_SUFFIXES) and not bootstrap_servers):
            raise InputError(f"{sample}: no such file")
        name = name or sample.rpartition(".")[2] or sample
        settings = connecting(config, bootstrap_servers)
        servers, allow_plaintext = settings.kafka.bootstrap_servers, settings.kafka.allow_plaintext
        spec, notes = perform(spec_of_topic(settings, sample, split(exclude), name))
        topic = topic or sample
    text = config_yaml(
        spec,
        topic or f"sensors.{name}",
        bootstrap_servers=servers or "localhost:9092",
        allow_plaintext=allow_plaintext,
    )
    try:
        load(None, (), from_yaml(text))
    except ConfigError as error:  # a name that no stream, topic or sensor can have
        raise InputError(f"{sample}: no configuration can be made of it: {error}") from error
    notes_of(notes)
    if str(output) == "-":
        typer.echo(text, nl=False)
        return
    with replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    out().print(
        f"{escape(str(output))}: stream {escape(spec.name)}, {len(spec.sensors)} sensors,"
        f" period {spec.period_ns / 1e9:g} s, window {spec.window} rows",
        soft_wrap=True,
    )


def there(path: Path) -> bool:
    """Whether something has this name; False where it cannot be told, or no file could have it."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def connecting(config: Path | None, bootstrap_servers: str | None) -> Settings:
    """Settings of which only ``kafka`` matters, as no stream is known yet."""
    stream = {"name": "stream", "topics": ["stream"], "sensors": ["sensor"]}
    settings = load(config, (), {"streams": [stream]})
    if bootstrap_servers is None:
        return settings
    kafka = settings.kafka.model_copy(update={"bootstrap_servers": bootstrap_servers})
    return settings.model_copy(update={"kafka": kafka})


async def spec_of_topic(
    settings: Settings, topic: str, exclude: list[str], name: str
) -> tuple[StreamSpec, list[str]]:
    """The stream that a topic's newest messages come from.

    Raises:
        InputError: no file and no topic has this name, or the topic holds no readings.
        BrokerError: Kafka cannot be reached.
    """
    from daemon.adapters.kafka import newest_records
    from daemon.adapters.sample import SAMPLE_LINES, derive_spec_of_topic
    from daemon.commands.wiring import kafka_settings

    try:
        records, whole = await newest_records(kafka_settings(settings), topic, SAMPLE_LINES)
    except (BrokerError, InputError) as error:
        raise type(error)(f"{topic}: no such file; and as a topic: {error}") from error
    if not records:
        raise InputError(f"topic {topic!r} is empty: there is nothing to look at")
    return derive_spec_of_topic([record.value for record in records], whole, exclude, name, topic)


@app.command()
def train(
    output: Annotated[Path, typer.Option("--out", help="The bundle: a directory.", metavar="BUNDLE")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Parquet, CSV or JSON Lines, oldest first; none: the input topics.", metavar="[FILE...]"
        ),
    ] = None,
    config: Config = None,
    sets: Sets = None,
    exclude: Exclude = "",
    stream: StreamName = None,
    with_alarms: Annotated[
        bool,
        typer.Option(
            "--with-alarms",
            help="From topics: learn the rows of alarms too, to accept a new regime as normal.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fit and calibrate a model on normal readings, and save it as a bundle.

    Without FILE it learns from the input topics of the configuration (`-c`, or ./config.yaml) as
    they are when it starts, and joins no consumer group. Of all partitions together the newest
    rows by event time count: `retrain.rows` of them, or `model.learn_rows` if that is more. Rows of
    episodes that the alerts topic names are left out.
    """
    quietly()
    from daemon.commands.replay import about, train_files, train_topics

    if files and with_alarms:
        raise UsageError("--with-alarms is for topics: of files everything is learned")
    with progress_bar() as bar:
        if files:
            work = train_files(
                files,
                output,
                config=config,
                sets=sets or [],
                exclude=split(exclude),
                stream_name=stream,
                progress=lambda share, doing: bar(share, f"training: {doing}"),
            )
        else:
            from daemon.commands.wiring import kafka_settings

            if exclude:
                raise UsageError("--exclude is for files: the configuration lists a topic's sensors")
            settings = settings_from(config, sets)
            connection = kafka_settings(settings)
            work = train_topics(
                settings, connection, output, stream_name=stream, with_alarms=with_alarms, progress=bar
            )
        bundle, notes = compute(work) if files else perform(work)
    notes_of(notes)
    detector = bundle.detector()
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "version": bundle.version,
                    "bundle": str(output),
                    "sensors": list(bundle.sensors),
                    "window": bundle.window,
                    "threshold": detector.threshold,
                    "calibration": detector.calibration,
                    **about(bundle),
                    "concerns": list(bundle.concerns),
                }
            )
        )
        return
    out().print(
        f"{escape(str(output))}: model {bundle.version}, {len(bundle.sensors)} sensors, window {bundle.window},"
        f" threshold {detector.threshold:.2f} ({detector.calibration} calibration)",
        soft_wrap=True,
    )


@app.command()
def replay(
    test: Annotated[Path, typer.Argument(help="Parquet, CSV or JSON Lines (.gz too).", metavar="TEST")],
    output: Annotated[Path, typer.Option("--out", help="A directory for the results.", metavar="DIR")],
    train: Annotated[
        Path | None, typer.Option(help="Learn from this file first.", show_default=False)
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Judge with this bundle.", show_default=False)] = None,
    config: Config = None,
    sets: Sets = None,
    exclude: Exclude = "",
    label: Annotated[
        str | None,
        typer.Option(
            help="A column of TEST with 1 where something was wrong: prints AP beside pPCA and baselines."
        ),
    ] = None,
    stream: StreamName = None,
    as_json: AsJson = False,
) -> None:
    """Run the same pipeline over a file, and draw a report.

    Writes scores.parquet, imputed.parquet, alerts.jsonl, drift.jsonl, dead-letter.jsonl,
    summary.json and report.html into DIR. Without --train and --model the first
    `model.learn_rows` rows are learned and what follows is judged. Like a topic's offsets, `line` in
    dead-letter.jsonl counts TEST's rows or lines from 0 (the header of a CSV is none).
    """
    quietly()
    from daemon.commands.replay import replay as play

    with progress_bar() as bar:
        result = compute(
            play(
                test,
                output,
                train=train,
                model=model,
                config=config,
                sets=sets or [],
                exclude=split(exclude),
                label=label,
                stream_name=stream,
                progress=bar,
            )
        )
    notes_of(result.notes)
    if as_json:
        typer.echo(json.dumps(result.summary))
        return
    summary, records = result.summary, result.summary["records"]
    console = out()
    console.print(
        f"{records['read']:,} records: {records['accepted']:,} accepted, {records['duplicate']:,} duplicate,"
        f" {records['late']:,} late, {records['rejected']:,} rejected.",
        soft_wrap=True,
    )
    console.print(
        f"{summary['scored']:,} of {summary['rows']:,} rows scored, {summary['filled']:,} cells filled,"
        f" {summary['episodes']} episodes, in {summary['seconds']:.1f} s.",
        soft_wrap=True,
    )
    if result.figures:
        table = Grid(
            "", "AP", "F1", "precision", "recall", "false alarms", "false episodes/day", "events found"
        )
        for f in result.figures:
            table.add_row(
                f.name,
                f"{f.average_precision:.3f}",
                f"{f.f1:.3f}",
                f"{f.precision:.2f}",
                f"{f.recall:.2f}",
                f"{f.false_alarm_share:.2%}",
                f"{f.false_per_day:.2f}",
                f"{f.events_found} of {f.events}",
            )
        console.print(table)
    console.print(f"Report: {escape(str(output / 'report.html'))}", soft_wrap=True)


@app.command()
def generate(
    model: Annotated[Path, typer.Option(help="The bundle that draws.", metavar="BUNDLE")],
    output: Annotated[
        Path | None, typer.Option("--out", help="A .parquet, .csv or .jsonl file.", show_default=False)
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="Or a topic, which must exist.", show_default=False)
    ] = None,
    assets: Annotated[int, typer.Option(min=1, max=100_000, help="How many assets.")] = 1,
    rows: Annotated[
        int | None, typer.Option(min=1, max=2**40, help="Rows per asset.", show_default="1000")
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(
            help="Instead of --rows: event time, or with --rate wall time, as 1h.", show_default=False
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, max=2**40, help="Rows of all assets together.", show_default=False)
    ] = None,
    condition: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only under this condition; repeatable.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="ASSET", help="Only what this asset of training did.", show_default=False),
    ] = None,
    inject: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND[:SENSOR]",
            help="A fault into each asset; repeatable: spike, shift, drift, stuck, noise, correlation_swap, lag,"
            " drop_out.",
        ),
    ] = None,
    gaps: Annotated[
        float, typer.Option(min=0, max=0.99, help="Share of readings that are missing, as 0.05.")
    ] = 0.0,
    late: Annotated[
        float, typer.Option(min=0, max=1, help="Share of rows that come late; of .jsonl and --topic.")
    ] = 0.0,
    rate: Annotated[
        str | None, typer.Option(metavar="N/s", help="Rows a second to the topic.", show_default=False)
    ] = None,
    format: Annotated[
        str | None, typer.Option(metavar="json-wide|json-long", help="Of messages.", show_default="json-wide")
    ] = None,
    start: Annotated[
        str, typer.Option(help="Time of the first row, ISO 8601, or `now`.")
    ] = "2026-01-01T00:00:00Z",
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="The same seed gives the same bytes.")] = 0,
    held_out: Annotated[
        Path | None,
        typer.Option(
            "--check",
            metavar="HELD_OUT",
            help="Compare with these rows instead of writing any.",
            show_default=False,
        ),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(help="With --check: what the model learned from.", show_default=False),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="With --check: 1 where a row is anomalous.", show_default=False),
    ] = None,
    exclude: Exclude = "",
    config: Config = None,
    sets: Sets = None,
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where the topic is.",
            show_default="ANOMALYD_KAFKA__BOOTSTRAP_SERVERS, or localhost:9092",
        ),
    ] = None,
    stream: StreamName = None,
    as_json: AsJson = False,
) -> None:
    """Draw synthetic assets from a model: test data, and a load generator.

    `anomalyd generate --model bundle --out made.parquet --assets 5 --rows 5000 --inject shift:Pressure`

    `anomalyd generate --model bundle --topic sensors.pumps --assets 5000 --rate 5000/s --duration 1h`

    `anomalyd generate --model bundle --check held-out.parquet --train train.parquet`

    Series go on as training's did: states and how long they last, levels, noise, resolution of the readings.
    They carry `synthetic`: a column in files, a field and a header in messages. With --inject the
    truth goes to `FILE.faults.json` beside the file (of a topic: with --json to standard output), a list of
    {kind, asset, sensor, start, end, size}, end exclusive. With -c, messages have the stream's format and fields.

    --check says how like the held-out rows synthetic ones are: distributions, correlations, autocorrelation,
    spectrum, seams, a discriminator (needs scikit-learn), a model trained on synthetic rows, memorisation.
    """
    quietly()
    from daemon.commands.generate import Made, Request, when_ns, write_file, write_topic
    from daemon.model.bundle import Bundle

    if sum(x is not None for x in (output, topic, held_out)) != 1:
        raise UsageError("say where to: one of --out FILE, --topic TOPIC and --check HELD_OUT")
    if held_out is None and (train is not None or label is not None):
        raise UsageError("--train and --label go with --check")
    if rate is not None and topic is None:
        raise UsageError("--rate goes with --topic")
    if topic is not None and not is_topic_name(topic):
        raise UsageError(f"--topic {topic}: no name of a topic: letters, digits, '.', '_' and '-'")
    if sum(x is not None for x in (rows, duration, count)) > 1:
        raise UsageError("say how much once: --rows, --duration or --count")
    bundle = Bundle.load(model)
    if held_out is not None:
        _check_quality(
            bundle,
            held_out,
            train,
            label,
            condition or [],
            like,
            seed,
            config,
            sets,
            split(exclude),
            stream,
            as_json,
        )
        return
    a_second = None if rate is None else rate_of(rate)
    wanted = rows or 1_000
    if duration is not None:
        try:
            seconds = parse_duration(duration).total_seconds()
        except ValueError as error:
            raise UsageError(f"--duration {error}") from error
        each = bundle.period_ns / 1e9 if a_second is None else assets / a_second
        wanted = max(round(seconds / each), 1)
    if count is not None:
        wanted = -(-count // assets)
    request = Request(
        assets=assets,
        rows=wanted,
        count=count,
        conditions=tuple(condition or ()),
        like=like,
        inject=tuple(inject or ()),
        gaps=gaps,
        late=late,
        start_ns=when_ns(start),
        seed=seed,
    )
    made = Made(bundle, request)
    format_, fields, connection = _messages_of(
        config, sets, stream, bootstrap_servers, format, topic is not None
    )
    if output is not None:
        result = write_file(made, output, format_, fields)
        where = str(output)
    else:
        assert topic is not None
        with progress_bar() as bar:
            result = perform(
                write_topic(
                    made, topic, connection, format=format_, fields=fields, rate=a_second, progress=bar
                )
            )
        where = f"topic {topic}"
    notes_of(result.notes)
    if as_json:
        truth = [fault.as_json() for fault in result.faults]
        typer.echo(
            json.dumps(
                {
                    "model": bundle.version,
                    "assets": assets,
                    "rows": result.rows,
                    "faults": truth,
                    "seconds": result.seconds,
                    "rate": result.rate,
                }
            )
        )
        return
    faulty = f", {len(result.faults)} faults" if result.faults else ""
    out().print(
        f"{escape(where)}: {result.rows:,} synthetic rows of {assets} asset(s){faulty}, {result.rate:,.0f} a second",
        soft_wrap=True,
    )


def rate_of(text: str) -> float:
    """``5000/s`` or a bare number of rows a second."""
    head, slash, unit = text.strip().partition("/")
    try:
        found = float(head)
    except ValueError:
        found = 0.0
    per = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}.get(unit.strip())
    if not 0 < found < 1e9 or per is None or (slash and not unit):
        raise UsageError(f"--rate {text}: write rows a second, as 5000/s")
    return found / per


def _messages_of(
    config: Path | None,
    sets: list[str] | None,
    stream: str | None,
    servers: str | None,
    format: str | None,
    connected: bool,
) -> tuple[Any, Any, Any]:
    """Format, field names and connection, by a stream of the configuration where one is given."""
    from daemon.commands.replay import plan_of
    from daemon.commands.wiring import kafka_settings
    from daemon.domain import FieldNames, Format

    fields, chosen = FieldNames(), Format.JSON_WIDE
    if config is None and not sets:
        settings = connecting(None, servers)
    else:
        settings = load(config, sets or [])
        spec = plan_of(settings, stream).spec
        fields, chosen = spec.fields, spec.format
        if servers is not None:
            kafka = settings.kafka.model_copy(update={"bootstrap_servers": servers})
            settings = settings.model_copy(update={"kafka": kafka})
    if format is not None:
        try:
            chosen = Format(format)
        except ValueError as error:
            raise UsageError(f"--format {format}: there are {', '.join(Format)}") from error
    return chosen, fields, kafka_settings(settings) if connected else None


def _check_quality(
    bundle: Any,
    held_out: Path,
    train: Path | None,
    label: str | None,
    condition: list[str],
    like: str | None,
    seed: int,
    config: Path | None,
    sets: list[str] | None,
    exclude: list[str],
    stream: str | None,
    as_json: bool,
) -> None:
    """``generate --check``."""
    from daemon.commands.generate import condition_of
    from daemon.commands.quality import check as compare

    with progress_bar() as bar:
        found = compute(
            compare(
                bundle,
                held_out,
                train=train,
                label=label,
                condition=condition_of(bundle.conditions, condition),
                like=like,
                seed=seed,
                config=config,
                sets=sets or [],
                exclude=exclude,
                stream_name=stream,
                progress=bar,
            )
        )
    notes_of(found.notes)
    if as_json:
        typer.echo(json.dumps(found.report))
        return
    table = Grid(Column("measure", min_width=22), "synthetic", "training rows", "good", "")

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    for measure in found.measures:
        mark = {True: "[green]yes[/]", False: "[red]no[/]", None: "-"}[measure.passed]
        table.add_row(
            measure.name,
            shown(measure.value),
            shown(measure.real),
            f"{measure.good}: {mark}",
            escape(measure.says),
        )
    out().print(table)


@app.command()
def impute(
    file: Annotated[Path, typer.Argument(help="Parquet or CSV.", metavar="FILE")],
    output: Annotated[
        Path, typer.Option("--out", help="The same table with its gaps filled.", metavar="FILE")
    ],
    train: Annotated[Path | None, typer.Option(help="Learn from this file.", show_default=False)] = None,
    model: Annotated[Path | None, typer.Option(help="Use this bundle.", show_default=False)] = None,
    config: Config = None,
    sets: Sets = None,
    exclude: Exclude = "",
    stream: StreamName = None,
    draws: Annotated[
        int, typer.Option(min=0, max=1000, help="Joint draws of every gap; 20 are a good start.", metavar="N")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="The same seed draws the same.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Fill the gaps of a table from both of their sides and from the other sensors.

    Observed cells stay as they are. What is no finite number counts as missing, infinities and
    texts among numbers too: it is filled, and a note says how many. Which cells were filled, with 90 % intervals, is written
    beside it as `<out>.filled.parquet`.

    With `--draws 20` it also says twenty times what the gaps may have held, in `<out>.draws.parquet`
    (asset, timestamp, sensor, draw, value). One draw is one possible past of the machine: it runs through all
    cells of a gap, across sensors and time, as roughly or smoothly as the sensors do. So whatever is computed
    from the table (a mean, an energy, an alarm) can be computed from each draw, and the spread of the
    answers is what the gaps leave open. The filled table stays as it is; `low` and `high` become the 90 % interval of
    what is drawn from.

    Example: `anomalyd impute day.parquet --train week.parquet --out filled.parquet --draws 20`
    """
    quietly()
    from daemon.commands.replay import impute_file

    with progress_bar() as bar:
        done = compute(
            impute_file(
                file,
                output,
                train=train,
                model=model,
                config=config,
                sets=sets or [],
                exclude=split(exclude),
                stream_name=stream,
                draws=draws,
                seed=seed,
                progress=bar,
            )
        )
    notes_of(done.notes)
    if as_json:
        said = asdict(done)
        if not draws:  # as it was before there were draws
            del said["draws"], said["draws_file"]
        typer.echo(json.dumps(said))
        return
    out().print(f"{escape(str(output))}: {done.cells:,} cells filled in {done.rows:,} rows", soft_wrap=True)
    if done.draws_file is not None:
        out().print(f"{escape(done.draws_file)}: {done.draws} draws of each", soft_wrap=True)


@app.command()
def drill(
    file: Annotated[Path, typer.Argument(help="Normal rows: Parquet, CSV or JSON Lines (.gz too).")],
    model: Annotated[Path, typer.Option(help="The bundle that judges.", metavar="BUNDLE")],
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this kind; repeatable: spike, shift, drift, stuck, noise, correlation_swap, lag, drop_out."
        ),
    ] = None,
    sensor: Annotated[list[str] | None, typer.Option(help="Only this sensor; repeatable.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of places, signs and noise.")] = 0,
    config: Config = None,
    sets: Sets = None,
    exclude: Exclude = "",
    stream: StreamName = None,
    as_json: AsJson = False,
) -> None:
    """Fire drill: inject faults into normal rows and say which would be found, how soon, from which size on.

    Answers "why was there no alert?": per sensor and kind of fault the share that is found, the median delay
    in event time, and the smallest size of which 80 % are found, in the sensor's own units. They are
    judged as the stream judges: slow baselines, persistence and threshold, and the rules for stuck
    and silent sensors. Sizes are from 0.1 to 8 standard deviations of training (a lag: 1 to 16 rows).

    `anomalyd drill normal.parquet --model bundle --kind shift --sensor Pressure`

    With --json: `model`, `rows`, `places`, `kinds` ({kind: {recall, faults, delay_s}}), `sensors` (a list of
    {sensor, kind, recall, faults, delay_s, smallest: {sd, value, low, high, within_s}, by_size, alert, says}),
    `unfound` ({sensor: kinds}) and `still` (sensors that never moved, where no size has a meaning).
    """
    quietly()
    from daemon.commands.drill import COLUMNS, FEW, drill_file, rows_of

    with progress_bar() as bar:
        result = compute(
            drill_file(
                file,
                model,
                config=config,
                sets=sets or [],
                exclude=split(exclude),
                stream_name=stream,
                kinds=kind or [],
                sensors=sensor or [],
                seed=seed,
                progress=bar,
            )
        )
    notes_of(result.notes)
    report = result.report
    if as_json:
        typer.echo(json.dumps(report))
        return
    console = out()
    for name, rows in rows_of(report):
        table = Grid(
            box=SIMPLE_HEAD,
            title=escape(name),
            title_justify="left",
            title_style="bold",
            padding=(0, 1, 0, 0),
        )
        for header, width in COLUMNS.items():
            table.add_column(header, min_width=width)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    if len(report["sensors"]) <= FEW:
        for one in report["sensors"]:
            console.print(escape(one["says"]), soft_wrap=True)
    whole = ", ".join(f"{name} {entry['recall']:.0%}" for name, entry in report["kinds"].items())
    console.print(
        f"Model {report['model']}: {sum(k['faults'] for k in report['kinds'].values()):,} faults at"
        f" {report['places']} places among {report['rows']:,} rows. Found: {whole}.",
        soft_wrap=True,
    )
    for name, kinds in report["unfound"].items():
        console.print(
            f"[yellow]Not found in {escape(name)}, on any size:[/] {', '.join(kinds)}", soft_wrap=True
        )
    if report["still"]:
        names = escape(", ".join(report["still"]))
        console.print(f"Stood still in training, no fault was injected: {names}", soft_wrap=True)


# ------------------------------------------------------------------ explain
@app.command()
def explain(
    model: Annotated[Path, typer.Option(help="The bundle to explain.", metavar="BUNDLE")],
    output: Annotated[Path, typer.Option("--out", help="The page.", metavar="HTML")],
    file: Annotated[
        Path | None,
        typer.Argument(help="Readings to show it on: Parquet, CSV or JSON Lines.", metavar="[FILE]"),
    ] = None,
    alert: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Why this episode of FILE: an alert's id or fingerprint, or how it begins."
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Why the window that ends then; with --set or --condition, that is where it starts from.",
        ),
    ] = None,
    asset: Annotated[str | None, typer.Option(help="Of --at; may be left out where FILE holds one.")] = None,
    alerts: Annotated[
        Path | None,
        typer.Option(help="With --alert or --at: an alerts.jsonl with past episodes to compare with."),
    ] = None,
    feedback: Annotated[
        Path | None,
        typer.Option(
            help='With --alert or --at: what operators said, JSON Lines of {"fingerprint", "verdict", "note"}.'
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="D=SD",
            help="What if dimension D had moved by so many sd, as `3=+2`; repeatable, by number or by name.",
        ),
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE", help="What if the condition had been this one, as `mode=low`; repeatable."
        ),
    ] = None,
    span: Annotated[
        str | None, typer.Option(help="With --condition: how long a stretch.", show_default="four windows")
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="D=NAME",
            help='Keep a name beside the bundle: `3="valve opening"`, `cluster:1="night"`; an empty one takes it away.',
        ),
    ] = None,
    sweep_beta: Annotated[
        bool, typer.Option("--sweep-beta", help="Train at several beta and compare; takes minutes.")
    ] = False,
    train: Annotated[
        Path | None, typer.Option(help="Readings for --sweep-beta.", show_default="FILE")
    ] = None,
    config: Config = None,
    exclude: Exclude = "",
    stream: StreamName = None,
    as_json: AsJson = False,
) -> None:
    """Show what a model has learned, or why an episode is one, as a page that a person from the plant can read.

    Without --alert and --at it is about the model: which sensors each latent dimension moves, in real units;
    with FILE also the regimes that the machine keeps to, a map of its windows with episodes, and what was unusual when:

        anomalyd explain week.parquet --model pump.model --out pump.html --name 3="valve opening" --set 3=+2

    With --alert (or --at, --asset) it is about one episode: the fewest sensors that explain it, what they should
    have read, the way there, and what was like it before:

        anomalyd explain week.parquet --model pump.model --out why.html --alert 3f2a9c

    With --condition it is about what a stretch would have been under another one:

        anomalyd explain week.parquet --model pump.model --out low.html --at 2026-03-01T06:00Z --condition mode=low

    Names are kept in BUNDLE.names.json. Configuration keys come from `-c` alone: here, --set moves dimensions.
    """
    quietly()
    about_model = [("--set", sets), ("--name", name), ("--sweep-beta", sweep_beta), ("--train", train)]
    about_episode = [("--alert", alert), ("--alerts", alerts), ("--feedback", feedback)]
    if condition:
        refuse_beside("--condition", [*about_model, *about_episode])
        explain_condition(
            model, output, file, condition, span, at, asset, config, split(exclude), stream, as_json=as_json
        )
        return
    if span is not None:
        raise UsageError("--span is the length of a stretch under another condition: give --condition")
    if alert is not None or (at is not None and not sets):
        refuse_beside("--alert" if alert is not None else "--at without --set", about_model)
        if file is None:
            raise UsageError("--alert and --at speak of readings: give the FILE that was judged")
        from daemon.commands.root_cause import explain_alert

        with progress_bar() as bar:
            cause = compute(
                explain_alert(
                    model,
                    file,
                    output,
                    alert=alert,
                    at=at,
                    asset=asset,
                    config=config,
                    exclude=split(exclude),
                    stream_name=stream,
                    alerts=alerts,
                    feedback=feedback,
                    progress=bar,
                )
            )
        notes_of(list(cause.notes))
        if as_json:
            typer.echo(json.dumps(cause.as_dict()))
        else:
            out().print(f"{escape(str(output))}: {escape(cause.evidence())}", soft_wrap=True)
        return
    if alerts is not None or feedback is not None:
        raise UsageError("--alerts and --feedback are what an episode is compared with: give --alert or --at")
    from daemon.commands.explain import explain as describe

    with progress_bar() as bar:
        result = compute(
            describe(
                model,
                output,
                file,
                train=train,
                config=config,
                exclude=split(exclude),
                stream_name=stream,
                sets=sets or [],
                names=name or [],
                at=at,
                asset=asset,
                sweep_beta=sweep_beta,
                progress=bar,
            )
        )
    notes_of(result.notes)
    found = result.document
    if as_json:
        typer.echo(json.dumps(found))
        return
    used = [d for d in found["dimensions"] if d["active"]]
    regimes = f", {len(found['clusters'])} regimes, {found['episode_count']} episodes" if found["map"] else ""
    out().print(
        f"{escape(str(output))}: model {found['version']}, {len(used)} of {found['latents']} dimensions in use{regimes}",
        soft_wrap=True,
    )


def refuse_beside(option: str, others: Sequence[tuple[str, object]]) -> None:
    """Options that ask another question than ``option``.

    Raises:
        UsageError: one of them was given.
    """
    for name, value in others:
        if value:
            raise UsageError(f"{option} and {name} ask two things: give one of them")


def explain_condition(
    model: Path,
    output: Path,
    file: Path | None,
    condition: list[str],
    span: str | None,
    at: str | None,
    asset: str | None,
    config: Path | None,
    exclude: list[str],
    stream: str | None,
    *,
    as_json: bool,
) -> None:
    """``explain --condition``."""
    from daemon.commands.counterfactual import counterfactual
    from daemon.config import parse_duration

    if file is None:
        raise UsageError("--condition asks what readings would have been: give FILE")
    try:
        length = None if span is None else parse_duration(span)
    except ValueError as error:
        raise UsageError(f"--span {span}: {error}") from error
    answered = compute(
        counterfactual(
            model,
            file,
            output,
            ",".join(condition),
            at=at,
            asset=asset,
            span=length,
            config=config,
            exclude=exclude,
            stream_name=stream,
        )
    )
    notes_of(answered.notes)
    found = answered.value.as_dict()
    if as_json:
        typer.echo(json.dumps(found))
        return
    moved = sorted(
        (
            (abs(s["change"]), name, s["change"])
            for name, s in found["sensors"].items()
            if s["change"] is not None
        ),
        reverse=True,
    )
    most = ", ".join(f"{name} {change:+.4g}" for _, name, change in moved[:3])
    out().print(f"{escape(str(output))}: under {escape(found['condition'])}: {escape(most)}", soft_wrap=True)


# ------------------------------------------------------------------ the process
INTERRUPTED = 130
"""128 + SIGINT, as shells count; also what typer makes of a KeyboardInterrupt, without a word."""


def fail(message: str, code: int) -> NoReturn:
    """One clear line on standard error, and the exit code."""
    sys.stderr.write(f"anomalyd: {one_line(message)}\n")
    sys.exit(code)


def main() -> None:
    """Run a command; every error ends as one line and its exit code.

    An error that nobody foresaw is a fault of the program's own: the line says so, and what the
    traceback is good for. ``run`` has written it to its log by then.
    """
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()  # not at the exit, where a full disk ends in a traceback
        if code == INTERRUPTED:
            fail("interrupted", INTERRUPTED)
    except DaemonError as error:
        fail(str(error), error.exit_code)
    except typer.Exit as error:
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        fail("interrupted", INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last line of defence: never a traceback without a word
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            if not error.format_message().strip():
                sys.exit(2)  # no arguments at all: the help that was printed says it
            fail(str(error.format_message()), 2)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EPIPE, errno.EIO):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered has nowhere to go
            fail(f"standard output cannot be written: {error.strerror}", 1)
        debug = sys.argv[1:2] == ["--debug"]  # the options of the program come before the command
        if debug:
            traceback.print_exception(error)
        if isinstance(error, MemoryError):
            fail("there is not enough memory for this", 1)
        shown = "the traceback above" if debug else f"what 'anomalyd --debug {sys.argv[1]} ...' prints"
        fail(
            f"failed unexpectedly: {type(error).__name__}: {str(error)[:500]}; this is a fault of anomalyd's"
            f" own: please report it with {shown}",
            1,
        )
    sys.exit(code if isinstance(code, int) else 0)
