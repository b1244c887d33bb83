"""``anomalyd feedback``: what a person says of an alert, told to the running daemon."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from daemon.cli.options import AsJson, By, Config, Sets
from daemon.cli.terminal import log_warnings_only, login, out, print_json, run_coroutine, settings_from
from daemon.config import Settings
from daemon.control import Feedback, Verdict
from daemon.errors import UsageError


def feedback(
    fingerprint: Annotated[
        str | None,
        typer.Argument(metavar="FINGERPRINT", help="Of the alert, or how it begins.", show_default=False),
    ] = None,
    verdict: Annotated[
        Verdict | None,
        typer.Argument(
            metavar="confirmed|false_alarm|planned",
            help="A real incident, nothing, or a wanted change.",
            show_default=False,
        ),
    ] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.")] = "",
    by: By = None,
    force: Annotated[
        bool, typer.Option("--force", help="Even if the alerts topic has no such alert.")
    ] = False,
    every: Annotated[bool, typer.Option("--list", help="Show the verdicts so far: who, when, what.")] = False,
    config: Config = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Say of an alert that it was nothing, planned, or real.

    `anomalyd feedback 8f2c false_alarm --note "the lid was open"` closes the alert, and its like must come half as high again
    on that asset to alert. `planned` makes what an open alert shows normal for its asset, and says what that is if the
    asset sends a reading within some seconds; `--list` says it later, too. `confirmed` keeps a real
    incident. The last verdict on an alert counts.
    """
    log_warnings_only()
    if every:
        if fingerprint is not None:
            raise UsageError("--list shows all verdicts; leave the fingerprint out")
        _show(settings_from(config, sets), as_json=as_json)
        return
    if fingerprint is None or verdict is None:
        raise UsageError(
            "which alert, and what of it? As in: anomalyd feedback 8f2c false_alarm; --list shows verdicts"
        )
    settings = settings_from(config, sets)
    from daemon.commands.feedback import give

    told = Feedback(fingerprint, verdict, login() if by is None else by, note)
    row = run_coroutine(give(settings, told, force=force))
    if as_json:
        print_json(row)
        return
    if row["summary"] is not None:
        out().print(escape(row["summary"]))
    out().print(escape(f"{row['fingerprint']}: {verdict.value.replace('_', ' ')}; {row['effect']}"))


def _show(settings: Settings, *, as_json: bool) -> None:
    """The verdicts so far."""
    from daemon.commands.feedback import verdicts

    rows = run_coroutine(verdicts(settings))
    if as_json:
        print_json(rows)
        return
    if not rows:
        out().print("no verdict was given")
        return
    out().print(table_of(rows))


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The entries of ``verdicts`` as a table that fits 80 columns."""
    table = Table(
        Column("given (UTC)", min_width=16, overflow="fold"),
        Column("verdict", min_width=11),
        Column("alert", min_width=23, overflow="fold"),
        Column("note, and what it did", overflow="fold"),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for row in rows:
        alert = [row["fingerprint"]]
        if row["asset"] is not None:
            alert += [f"{row['kind']} of {row['asset']}", f"opened {_minute(row['opened'])}"]
        verdict = row["verdict"].replace("_", " ") + ("" if row["counts"] else "\n(replaced)")
        given = "\n".join(filter(None, (_minute(row["time"]), row["by"])))
        note = "\n".join(filter(None, (row["note"], row["did"])))
        table.add_row(*map(escape, (given, verdict, "\n".join(alert), note)))
    return table


def _minute(time: str) -> str:
    """An instant of ``verdicts`` to the minute."""
    return time[:16].replace("T", " ")
