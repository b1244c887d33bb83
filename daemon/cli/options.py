"""Options that several commands share, each defined once, as annotations of parameters.

Options of one command are defined in its own module.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from daemon.commands.inputs import TableReading

DEFAULT_CONFIG = Path("config.yaml")

Config = Annotated[
    Path | None,
    typer.Option("-c", "--config", metavar="FILE", help="Configuration file.", show_default=False),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any configuration key, as `retrain.every=10m`; repeatable."
    ),
]
Exclude = Annotated[
    str, typer.Option(metavar="COL[,COL]", help="Columns that are no sensors (labels, ids), comma-separated.")
]
StreamName = Annotated[
    str | None,
    typer.Option("--stream", metavar="STREAM", help="Which stream of the configuration the file holds."),
]
BootstrapServers = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Where the topic is.",
        show_default="ANOMALYD_KAFKA__BOOTSTRAP_SERVERS, or localhost:9092",
    ),
]
SchemaRegistry = Annotated[
    str | None,
    typer.Option(
        "--schema-registry",
        metavar="URL",
        help="Of a topic whose messages name their schemas (Avro, Protobuf).",
        show_default="ANOMALYD_SCHEMA_REGISTRY__URL, or the configuration's",
    ),
]
Time = Annotated[
    str,
    typer.Option(
        "--time",
        metavar="COL[,COL]",
        help="The column of times of a table, or those of date and time of day.",
    ),
]
Asset = Annotated[
    str | None, typer.Option("--asset", metavar="COL", help="The column that says which machine a row is of.")
]
Sensor = Annotated[
    str | None,
    typer.Option("--sensor", metavar="COL", help="Of a long table: the column of the sensors' names."),
]
Value = Annotated[str | None, typer.Option("--value", metavar="COL", help="Of a long table: the values.")]
Zone = Annotated[
    str | None,
    typer.Option(
        "--tz", metavar="ZONE", help="Of times that name none, as Europe/Berlin.", show_default="UTC"
    ),
]
DayFirst = Annotated[
    bool | None,
    typer.Option(
        "--day-first/--month-first", help="How to read 02/03/2026.", show_default="as the column shows"
    ),
]
By = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Who says so, for the record.", show_default="your login"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object, for scripts.")]


def table_reading(
    time: str,
    asset: str | None,
    sensor: str | None,
    value: str | None,
    zone: str | None,
    day_first: bool | None,
) -> "TableReading":
    """How a table is read, as the options say."""
    from daemon.commands.inputs import reading_of

    return reading_of(split_list(time), asset, sensor, value, zone, day_first)


def split_list(text: str) -> list[str]:
    """The parts of a comma-separated option."""
    return [part.strip() for part in text.split(",") if part.strip()]
