"""``anomalyd init``: a config.yaml for a sample of readings."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from daemon.cli.options import (
    DEFAULT_CONFIG,
    Asset,
    BootstrapServers,
    DayFirst,
    Exclude,
    SchemaRegistry,
    Sensor,
    Time,
    Value,
    Zone,
    split_list,
    table_reading,
)
from daemon.cli.terminal import log_warnings_only, out, print_notes
from daemon.documents import counted


def init(
    sample: Annotated[
        str, typer.Argument(help="A Parquet, CSV or JSON Lines file (.gz too), or a topic.", metavar="SAMPLE")
    ],
    output: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where to write it; `-` for standard output.")
    ] = DEFAULT_CONFIG,
    exclude: Exclude = "",
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of the stream.", show_default="sensors; of a topic, its last part"
        ),
    ] = None,
    topic: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="The input topic.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite.")] = False,
    time: Time = "",
    asset: Asset = None,
    sensor: Sensor = None,
    value: Value = None,
    zone: Zone = None,
    day_first: DayFirst = None,
    bootstrap_servers: BootstrapServers = None,
    schema_registry: SchemaRegistry = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "-c",
            "--config",
            metavar="FILE",
            help="Whose `kafka:` and `schema_registry:` say how to reach the topic and its schemas.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Look at a sample of readings and write a config.yaml for it: sensors, period, window.

    SAMPLE is a file; where there is none of that name, a topic: then the newest messages are
    looked at, up to 5000, without a consumer group. How to reach Kafka comes from
    --bootstrap-servers, the environment (`ANOMALYD_KAFKA__...`) and `-c`, in this order, and the
    schema registry of Avro and Protobuf messages from --schema-registry and the same places.
    """
    log_warnings_only()
    from daemon.commands.init import InitOptions, derive_configuration

    made = derive_configuration(
        InitOptions(
            sample,
            output,
            exclude=split_list(exclude),
            name=name,
            topic=topic,
            force=force,
            bootstrap_servers=bootstrap_servers,
            config=config,
            schema_registry=schema_registry,
            reading=table_reading(time, asset, sensor, value, zone, day_first),
        )
    )
    print_notes(made.notes)
    if str(output) == "-":
        typer.echo(made.text, nl=False)
        return
    made.write(output)
    spec = made.spec
    out().print(
        f"{escape(str(output))}: stream {escape(spec.name)}, {counted(len(spec.sensors), 'sensor')},"
        f" period {spec.period_ns / 1e9:g} s, window {spec.window} rows",
        soft_wrap=True,
    )
