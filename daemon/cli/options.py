"""Options that several commands share, each defined once, as annotations of parameters.

Options of one command are defined in its own module.
"""

from pathlib import Path
from typing import Annotated

import typer

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
BootstrapServers = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Where the topic is.",
        show_default="ANOMALYD_KAFKA__BOOTSTRAP_SERVERS, or localhost:9092",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object, for scripts.")]


def split_list(text: str) -> list[str]:
    """The parts of a comma-separated option."""
    return [part.strip() for part in text.split(",") if part.strip()]
