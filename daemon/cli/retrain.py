"""``anomalyd retrain``: ask the running daemon to train now."""

from typing import Annotated

import typer
from rich.markup import escape

from daemon.cli.options import AsJson, Config, Sets
from daemon.cli.terminal import (
    log_warnings_only,
    login,
    out,
    print_json,
    print_notes,
    run_coroutine,
    settings_from,
)


def retrain(
    config: Config = None,
    sets: Sets = None,
    stream: Annotated[
        str | None,
        typer.Option("--stream", metavar="STREAM", help="Whose model.", show_default="the only stream"),
    ] = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.", show_default=False)
    ] = "",
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="NAME", help="Who says so, for the record.", show_default="your login"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the running daemon to train a stream's model now.

    The request is a message in the topic `<prefix>.feedback`. It counts until a training has ended:
    the decision on `<prefix>.retrain` names it. The new model must pass the gate like any other. Where no daemon of the group
    runs, a note says that the request waits.
    """
    log_warnings_only()
    settings = settings_from(config, sets)
    from daemon.commands.retrain import request_training

    by = login() if by is None else by
    name, notes = run_coroutine(request_training(settings, stream, reason, by))
    if as_json:
        print_json({"stream": name, "reason": reason, "by": by})
    else:
        out().print(f"asked for a training of {escape(name)}", soft_wrap=True)
    print_notes(notes)
