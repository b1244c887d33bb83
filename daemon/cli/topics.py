"""``anomalyd topics``: a table of the topics that anomalyd needs."""

from typing import Annotated

import typer
from rich.table import Table

from daemon.cli.options import AsJson, Config, Sets
from daemon.cli.terminal import log_warnings_only, out, print_json, run_coroutine, settings_from


def topics(
    config: Config = None,
    sets: Sets = None,
    create: Annotated[bool, typer.Option("--create", help="Create what is missing.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the topics that anomalyd needs, with their settings; with --create, create them.

    The input topics must exist: they are yours. Existing topics are left as they are.
    """
    log_warnings_only()
    settings = settings_from(config, sets)
    from daemon.commands.topics import created_topics, needed_topics

    rows = run_coroutine(created_topics(settings)) if create else needed_topics(settings)
    if as_json:
        print_json(rows)
        return
    table = Table(*rows[0].keys())
    for row in rows:
        cells = [
            ", ".join(f"{k}={v}" for k, v in x.items()) if isinstance(x, dict) else str(x)
            for x in row.values()
        ]
        table.add_row(*cells)
    out().print(table)
