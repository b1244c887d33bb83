"""``anomalyd check``: a line per question, and exit code 2 if any answer is bad."""

from typing import Annotated

import typer
from rich.markup import escape

from daemon.cli.options import AsJson, Config, Sets
from daemon.cli.terminal import log_warnings_only, out, print_json, run_coroutine, settings_from
from daemon.documents import one_line


def check(
    config: Config = None,
    sets: Sets = None,
    probe: Annotated[bool, typer.Option("--probe", help="Ask the broker too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether the configuration, the environment and (with --probe) the broker are in order.

    Exit code 0 if everything is, 2 if anything is not.
    """
    log_warnings_only(environment=False)  # the environment is among the checks
    settings = settings_from(config, sets)
    from daemon.commands.check import check as examine

    results = run_coroutine(examine(settings, broker=probe))
    if as_json:
        print_json([{"what": r.what, "ok": r.ok, "detail": r.detail} for r in results])
    else:
        for result in results:
            mark = "[green]ok  [/]" if result.ok else "[red]fail[/]"
            out().print(f"{mark} {escape(result.what)}: {escape(one_line(result.detail))}", soft_wrap=True)
    if not all(result.ok for result in results):
        raise typer.Exit(2)
