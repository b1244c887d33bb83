"""``anomalyd maintenance``: planned stops, in which nothing opens on the machines that are worked on."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from daemon.cli.options import AsJson, By, Config, Sets
from daemon.cli.terminal import log_warnings_only, login, out, print_json, run_coroutine, settings_from
from daemon.config import parse_duration
from daemon.control import MaintenanceOrder
from daemon.errors import UsageError

maintenance = typer.Typer(
    name="maintenance",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Planned stops: tell the running daemon that a machine is worked on.\n\n"
    "While one lasts, nothing opens on its assets: what would have opened is published as `suppressed`, with the name of"
    " the stop. What is still wrong after it opens once a window of rows since its end shows it. Its rows are not learned.",
)


@maintenance.command()
def add(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="ASSET... DURATION",
            help="Whose, and how long it lasts: pump-01 pump-02 2h, or pump-01,pump-02 2h.",
        ),
    ],
    everything: Annotated[bool, typer.Option("--all", help="Of all assets, instead of naming them.")] = False,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="When, with a time zone: 2026-01-31T08:00:00Z.", show_default="now"
        ),
    ] = None,
    rrule: Annotated[
        str,
        typer.Option(help="How it recurs from then on, by RFC 5545: FREQ=WEEKLY;BYDAY=SU."),
    ] = "",
    timezone: Annotated[
        str, typer.Option("--tz", metavar="ZONE", help="Whose wall clock it recurs by.", show_default="UTC")
    ] = "",
    name: Annotated[
        str,
        typer.Option(help="Its name; one that exists is replaced.", show_default="made of assets and start"),
    ] = "",
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    stream: Annotated[str, typer.Option(help="Only of this stream.", show_default="all")] = "",
    by: By = None,
    config: Config = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Plan a stop: `anomalyd maintenance add pump-01 2h --reason overhaul`."""
    log_warnings_only()
    *assets, duration = words
    if bool(assets) is everything:
        raise UsageError("name the assets before the duration, as in: add pump-01 2h; or --all without any")
    from daemon.commands.maintenance import add as told
    from daemon.commands.maintenance import assets_of, named

    try:
        lasts = parse_duration(duration)
        begins = datetime.now(UTC) if start is None else datetime.fromisoformat(start)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if begins.tzinfo is None:
        raise UsageError(f"--start {start} needs a time zone, as 2026-01-31T08:00:00Z")
    order = named(
        MaintenanceOrder(
            name,
            begins,
            begins + lasts,
            assets_of(assets),
            stream,
            rrule,
            timezone,
            reason,
            login() if by is None else by,
        )
    )
    settings = settings_from(config, sets)
    run_coroutine(told(settings, order))
    if as_json:
        print_json({"name": order.maintenance, "start": begins.isoformat(), "end": order.end.isoformat()})
        return
    whose = ", ".join(order.assets) or "all assets"
    again = f", again by {order.rrule}" if order.rrule else ""
    out().print(
        f"{escape(order.maintenance)}: {escape(whose)} from {order.start.isoformat(timespec='seconds')}"
        f" to {order.end.isoformat(timespec='seconds')}{escape(again)};"
        f" end it with: anomalyd maintenance end {escape(order.maintenance)}"
    )


@maintenance.command(name="list")
def list_(
    past: Annotated[bool, typer.Option("--past", help="Also those that are over.")] = False,
    config: Config = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """List the planned stops, of the configuration and those that were told."""
    log_warnings_only()
    settings = settings_from(config, sets)
    from daemon.commands.maintenance import listed

    rows = run_coroutine(listed(settings, datetime.now(UTC), over=past))
    if as_json:
        print_json(rows)
        return
    if not rows:
        out().print("no maintenance is planned")
        return
    out().print(table_of(rows))


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The entries of ``listed`` as a table that fits 120 columns; what is said of why follows who said so."""
    widest = min(
        34, max(len(row["name"]) for row in rows)
    )  # a name is copied to `end`, so it stays in one piece
    table = Table(Column("name", min_width=widest, max_width=34, overflow="fold"))
    for title, most in {"state": 10, "assets": 14, "start": 10, "end": 10, "recurs": 14, "by": 13}.items():
        table.add_column(title, max_width=most)
    for row in rows:
        until = f" until {_seconds(row['until'])}" if row["until"] else ""
        by = "(config)" if row["source"] == "config" else row["by"] or ""
        cells = [row["name"], row["state"] + until, ", ".join(row["assets"]) or "all"]
        cells += [_seconds(row["start"]), _seconds(row["end"]), (row["rrule"] or "").replace(";", "\n")]
        cells += [": ".join(filter(None, (by, row["reason"])))]
        table.add_row(*map(escape, cells))
    return table


def _seconds(time: str) -> str:
    """An instant of ``listed`` as the table shows it: date and time apart, no fractions of a second."""
    return f"{time[:10]} {time[11:19]}Z"


@maintenance.command()
def end(
    name: Annotated[str, typer.Argument(help="Its name, as `list` shows it.")],
    by: By = None,
    config: Config = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """End a planned stop now, or call off one that has not begun; one that recurs does so no more."""
    log_warnings_only()
    settings = settings_from(config, sets)
    from daemon.commands.maintenance import end as ended

    now = datetime.now(UTC)
    run_coroutine(ended(settings, name, now, login() if by is None else by))
    if as_json:
        print_json({"name": name, "end": now.isoformat()})
        return
    out().print(f"{escape(name)}: over at {now.isoformat(timespec='seconds')}")
