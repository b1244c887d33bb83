"""``anomalyd maintenance``: planned stops, in which nothing opens on the machines that are worked on."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from daemon.cli.options import AsJson, By, Config, Sets
from daemon.cli.terminal import (
    log_warnings_only,
    login,
    out,
    print_json,
    print_notes,
    run_coroutine,
    settings_from,
)
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
        typer.Option(metavar="RRULE", help="How it recurs from then on, by RFC 5545: FREQ=WEEKLY;BYDAY=SU."),
    ] = "",
    timezone: Annotated[
        str, typer.Option("--tz", metavar="ZONE", help="Whose wall clock it recurs by.", show_default="UTC")
    ] = "",
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Its name; one that exists is replaced.",
            show_default="made of assets and start",
        ),
    ] = "",
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.")] = "",
    stream: Annotated[
        str, typer.Option(metavar="STREAM", help="Only of this stream.", show_default="all")
    ] = "",
    by: By = None,
    config: Config = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Plan a stop: `anomalyd maintenance add pump-01 2h --reason overhaul`.

    An asset that no model has learned and that has no state is planned as well, and a note says so: it may be misspelt.
    """
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
    notes = run_coroutine(told(settings, order))
    if as_json:
        print_json({"name": order.maintenance, "start": begins.isoformat(), "end": order.end.isoformat()})
    else:
        whose = ", ".join(order.assets) or "all assets"
        again = f", again by {order.rrule}" if order.rrule else ""
        out().print(
            f"{escape(order.maintenance)}: {escape(whose)} from {order.start.isoformat(timespec='seconds')}"
            f" to {order.end.isoformat(timespec='seconds')}{escape(again)};"
            f" end it with: anomalyd maintenance end {escape(order.maintenance)}",
            soft_wrap=True,
        )
    print_notes(notes)


@maintenance.command(name="list")
def list_(
    past: Annotated[bool, typer.Option("--past", help="Also those that are over.")] = False,
    config: Config = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """List the planned stops, of the configuration and those that were told: when each is next, and how it recurs.

    With --json: an array of {name, state, assets, stream, start, end, next_start, next_end, until, rrule, timezone, reason,
    by, source}. `start` and `end` are of the first occurrence, `next_start` and `next_end` of the one that is active or comes next,
    `until` is its end while it is active; what is not is null.
    """
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
    """The entries of ``listed`` as a table that fits 80 columns; of one that recurs its next occurrence, and below that its rule."""
    # A name is copied to `end`, so it stays in one piece.
    widest = min(34, max(len(row["name"]) for row in rows))
    table = Table(
        Column("name, who and why", min_width=widest, max_width=34, overflow="fold"),
        Column("state", min_width=7),
        Column("when (UTC)", min_width=16, max_width=16, overflow="fold"),
        Column("assets", overflow="fold", ratio=1),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        expand=True,
    )
    for row in rows:
        by = "(config)" if row["source"] == "config" else row["by"] or ""
        why = ": ".join(filter(None, (by, row["reason"])))
        name = "\n".join(filter(None, (row["name"], why)))
        table.add_row(*map(escape, (name, row["state"], _when(row), ", ".join(row["assets"]) or "all")))
    return table


def _when(row: Mapping[str, Any]) -> str:
    """The occurrence that is active or comes next, of one that is over the first; and how it recurs."""
    first, last = row["next_start"] or row["start"], row["next_end"] or row["end"]
    same_day = first[:10] == last[:10]
    lines = [f"{first[:10]} {first[11:16]}", f"to {'' if same_day else last[:10] + ' '}{last[11:16]}"]
    if row["rrule"]:
        lines += [*row["rrule"].split(";"), *([f"in {row['timezone']}"] if row["timezone"] else [])]
    return "\n".join(lines)


@maintenance.command()
def end(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, as `list` shows it.")],
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
