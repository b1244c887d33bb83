"""``anomalyd demo``: alerts as they come, then a table of injected against found."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from daemon.cli.options import AsJson, Config, Sets
from daemon.cli.terminal import (
    err,
    log_warnings_only,
    out,
    print_json,
    print_notes,
    progress_bar,
    run_coroutine,
)
from daemon.config import MAX_SEED, HttpSection, parse_duration
from daemon.documents import counted
from daemon.domain import AlertEvent, Phase, Severity, iso
from daemon.errors import INTERRUPTED, ConfigError

if TYPE_CHECKING:
    from daemon.commands.demo import Demonstrated


def demo(
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, max=MAX_SEED, help="The same seed injects the same faults.")
    ] = 0,
    duration: Annotated[
        str, typer.Option(metavar="DURATION", help="Wall time for the simulated day to pass in.")
    ] = "60s",
    forever: Annotated[bool, typer.Option("--forever", help="Go on until Ctrl-C.")] = False,
    config: Config = None,
    sets: Sets = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=0,
            max=65535,
            help="Of the admin page; 0 takes a free one.",
            show_default="9464, or http.port",
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
    log_warnings_only()
    from daemon.commands.demo import (
        DemoListener,
        DemoOptions,
        check_page,
        demo_settings,
        demonstrated_as_json,
        worst_episode,
    )
    from daemon.commands.demo import demo as play

    try:
        length = parse_duration(duration)
    except ValueError as error:
        raise ConfigError(f"--duration {error}") from error
    if explanation is not None:
        check_page(explanation)
    settings = demo_settings(config, sets or [])
    http = HttpSection() if settings is None else settings.http
    if port is not None:
        http = http.model_copy(update={"port": port})
    console = err() if as_json else out()

    def opened(address: str) -> None:
        console.print(f"The page is at [bold]{address}[/]. Learning from a simulated day ...", soft_wrap=True)

    options = DemoOptions(seed, length, forever, http, settings)
    with progress_bar() as bar:
        listener = DemoListener(
            alert=lambda event: announce(event, console),
            progress=lambda doing, share: bar(share, doing),
            opened=opened,
        )
        result = run_coroutine(play(options, listener))
    print_notes(result.lost)
    if result.interrupted and not result.detectors:
        console.print("Interrupted while the first model was being learned: nothing was judged.")
        raise typer.Exit(INTERRUPTED)
    worst = worst_episode(result, explanation)
    if as_json:
        print_json(demonstrated_as_json(result, seed, worst))
        return
    if result.interrupted:
        hours = 24 * result.asset_days / result.assets
        console.print(f"Interrupted after {hours:.1f} hours of the simulated day; what follows is of these.")
    print_result(console, result)
    if worst is not None:
        console.print(
            f"The worst episode, explained: {escape(worst.why.asset)} since {minute(worst.why.since_ns)}."
            f" {escape(worst.headline)}. {escape(worst.consequence)}",
            soft_wrap=True,
        )
        if explanation is not None:
            console.print(f"  Its page: {escape(str(explanation))}", soft_wrap=True)
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)


def announce(event: AlertEvent, console: Console) -> None:
    """One alert message as a line for a person."""
    if event.phase in (Phase.UPDATED, Phase.SUPPRESSED):
        return
    from daemon.commands.demo import lasted

    opened = event.phase is Phase.OPENED
    style = "red bold" if event.severity is Severity.CRITICAL else "yellow"
    word = f"[{style}]{event.severity:<8}[/]" if opened else "[green]closed  [/]"
    when = minute(event.row_ns)
    if opened:
        text = event.summary
    else:
        what = f"{event.kind}{f' of {event.sensor}' if event.sensor else ''}"
        text = f"{event.asset}: {what} over, since {minute(event.onset_ns)} for {lasted(event)}"
    console.print(f"{when}  {word}  {escape(text)}", soft_wrap=True)


def print_result(console: Console, result: "Demonstrated") -> None:
    """Injected against found, false episodes, rows and trainings."""
    found = result.score
    table = Table(title="What was injected, and what was found", title_justify="left")
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
        f"False episodes: {len(found.false)} of {found.episodes} that opened, for {counted(result.assets, 'asset')} in"
        f" {result.asset_days / result.assets:.1f} days; the budgets allow the fleet "
        + " and ".join(f"{allowed:.1f} of kind {kind}" for kind, allowed in result.allowed.items())
        + ".",
        soft_wrap=True,
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


def minute(time_ns: int) -> str:
    """An event time to the minute, as a person reads it."""
    return iso(time_ns)[:16].replace("T", " ")
