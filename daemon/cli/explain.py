"""``anomalyd explain``: a page about a model, about an episode, or about a stretch under another condition.

Three commands behind one name: which of them runs follows from the options, and an option of one beside an
option of another is refused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from daemon.cli.options import (
    AsJson,
    Config,
    DayFirst,
    Exclude,
    Sensor,
    StreamName,
    Time,
    Value,
    Zone,
    split_list,
    table_reading,
)
from daemon.cli.terminal import (
    log_warnings_only,
    out,
    print_json,
    print_notes,
    print_source,
    run_interruptible,
    run_with_progress,
)
from daemon.config import parse_duration
from daemon.errors import UsageError

if TYPE_CHECKING:
    from daemon.commands.counterfactual import CounterfactualOptions
    from daemon.commands.explain import ExplainOptions
    from daemon.commands.root_cause import RootCauseOptions


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
    asset: Annotated[
        str | None, typer.Option(metavar="ASSET", help="Of --at; may be left out where FILE holds one.")
    ] = None,
    alerts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="With --alert or --at: an alerts.jsonl with past episodes to compare with."
        ),
    ] = None,
    feedback: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='With --alert or --at: what operators said, JSON Lines of {"fingerprint", "verdict", "note"}.',
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
        str | None,
        typer.Option(
            metavar="DURATION", help="With --condition: how long a stretch.", show_default="four windows"
        ),
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
        Path | None, typer.Option(metavar="FILE", help="Readings for --sweep-beta.", show_default="FILE")
    ] = None,
    config: Config = None,
    exclude: Exclude = "",
    stream: StreamName = None,
    time: Time = "",
    asset_column: Annotated[
        str | None, typer.Option(metavar="COL", help="The column that says which machine a row is of.")
    ] = None,
    sensor: Sensor = None,
    value: Value = None,
    zone: Zone = None,
    day_first: DayFirst = None,
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
    log_warnings_only()
    if file is not None:
        print_source(config, file, model)
    about_model = [("--set", sets), ("--name", name), ("--sweep-beta", sweep_beta), ("--train", train)]
    about_episode = [("--alert", alert), ("--alerts", alerts), ("--feedback", feedback)]
    excluded = split_list(exclude)
    reading = table_reading(time, asset_column, sensor, value, zone, day_first)
    if condition:
        refuse_beside("--condition", [*about_model, *about_episode])
        from daemon.commands.counterfactual import CounterfactualOptions

        if file is None:
            raise UsageError("--condition asks what readings would have been: give FILE")
        try:
            length = None if span is None else parse_duration(span)
        except ValueError as error:
            raise UsageError(f"--span {span}: {error}") from error
        explain_condition(
            CounterfactualOptions(
                model,
                file,
                output,
                ",".join(condition),
                at=at,
                asset=asset,
                span=length,
                config=config,
                exclude=excluded,
                stream_name=stream,
                reading=reading,
            ),
            as_json=as_json,
        )
        return
    if span is not None:
        raise UsageError("--span is the length of a stretch under another condition: give --condition")
    if alert is not None or (at is not None and not sets):
        refuse_beside("--alert" if alert is not None else "--at without --set", about_model)
        if file is None:
            raise UsageError("--alert and --at speak of readings: give the FILE that was judged")
        from daemon.commands.root_cause import RootCauseOptions

        explain_episode(
            model,
            output,
            RootCauseOptions(
                file,
                alert=alert,
                at=at,
                asset=asset,
                alerts=alerts,
                feedback=feedback,
                config=config,
                exclude=excluded,
                stream_name=stream,
                reading=reading,
            ),
            as_json=as_json,
        )
        return
    if alerts is not None or feedback is not None:
        raise UsageError("--alerts and --feedback are what an episode is compared with: give --alert or --at")
    from daemon.commands.explain import ExplainOptions

    explain_model(
        ExplainOptions(
            model,
            output,
            file,
            train=train,
            what_ifs=sets or [],
            names=name or [],
            at=at,
            asset=asset,
            sweep_beta=sweep_beta,
            config=config,
            exclude=excluded,
            stream_name=stream,
            reading=reading,
        ),
        as_json=as_json,
    )


def refuse_beside(option: str, others: Sequence[tuple[str, object]]) -> None:
    """Refuse options that belong to another of the three commands than ``option``.

    Raises:
        UsageError: one of them was given.
    """
    for name, value in others:
        if value:
            raise UsageError(f"{option} and {name} ask two things: give one of them")


def explain_model(options: "ExplainOptions", *, as_json: bool) -> None:
    """The page about a model."""
    from daemon.commands.explain import explain as describe

    found = run_with_progress(lambda bar: describe(options, bar)).document
    if as_json:
        print_json(found)
        return
    used = [d for d in found["dimensions"] if d["active"]]
    regimes = f", {len(found['clusters'])} regimes, {found['episode_count']} episodes" if found["map"] else ""
    out().print(
        f"{escape(str(options.out))}: model {found['version']}, {len(used)} of {found['latents']} dimensions in use{regimes}",
        soft_wrap=True,
    )


def explain_episode(model: Path, output: Path, options: "RootCauseOptions", *, as_json: bool) -> None:
    """The page about an episode, or about one window."""
    from daemon.commands.root_cause import explain_alert

    cause = run_with_progress(lambda bar: explain_alert(model, output, options, bar))
    if as_json:
        print_json(cause.as_dict())
    else:
        out().print(f"{escape(str(output))}: {escape(cause.evidence())}", soft_wrap=True)


def explain_condition(options: "CounterfactualOptions", *, as_json: bool) -> None:
    """The page about a stretch under another condition."""
    from daemon.commands.counterfactual import counterfactual

    answered = run_interruptible(counterfactual(options))
    print_notes(answered.notes)
    found = answered.value.as_dict()
    if as_json:
        print_json(found)
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
    out().print(
        f"{escape(str(options.out))}: under {escape(found['condition'])}: {escape(most)}", soft_wrap=True
    )
