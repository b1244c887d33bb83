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
    the decision on `<prefix>.retrain` names it. The new model must pass the gate like any other. The
    command waits up to ten seconds for a daemon to take the request, and says so; where none does, a note says that the
    request waits.
    """
    log_warnings_only()
    settings = settings_from(config, sets)
    from daemon.commands.retrain import request_training

    by = login() if by is None else by
    asked = run_coroutine(request_training(settings, stream, reason, by))
    if as_json:
        print_json({"stream": asked.stream, "reason": reason, "by": by, "taken": asked.taken})
    else:
        taken = "; a daemon has taken the request" if asked.taken else ""
        out().print(f"asked for a training of {escape(asked.stream)}{taken}", soft_wrap=True)
    print_notes(asked.notes)
