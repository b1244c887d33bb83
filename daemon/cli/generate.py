"""``anomalyd generate``: synthetic rows into a file or a topic, or compared with held-out ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from daemon.cli.options import AsJson, BootstrapServers, Config, Exclude, Sets, StreamName, split_list
from daemon.cli.terminal import (
    log_warnings_only,
    out,
    print_json,
    print_notes,
    print_source,
    progress_bar,
    run_coroutine,
    run_with_progress,
)
from daemon.config import MAX_SEED

if TYPE_CHECKING:
    from daemon.commands.quality import Quality


def generate(
    model: Annotated[Path, typer.Option(help="The bundle that draws.", metavar="BUNDLE")],
    output: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="A .parquet, .csv or .jsonl file.", show_default=False),
    ] = None,
    topic: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="Or a topic, which must exist.", show_default=False)
    ] = None,
    assets: Annotated[int, typer.Option(metavar="N", min=1, max=100_000, help="How many assets.")] = 1,
    rows: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=2**40, help="Rows per asset.", show_default="1000")
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Instead of --rows: event time, or with --rate wall time, as 1h.",
            show_default=False,
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=2**40, help="Rows of all assets together.", show_default=False),
    ] = None,
    condition: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only under this condition; repeatable.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="ASSET", help="Only what this asset of training did.", show_default=False),
    ] = None,
    inject: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND[:SENSOR]",
            help="A fault into each asset; repeatable: spike, shift, drift, stuck, noise, correlation_swap, lag,"
            " drop_out.",
        ),
    ] = None,
    gaps: Annotated[
        float,
        typer.Option(metavar="SHARE", min=0, max=0.99, help="Share of readings that are missing, as 0.05."),
    ] = 0.0,
    late: Annotated[
        float,
        typer.Option(
            metavar="SHARE", min=0, max=1, help="Share of rows that come late; of .jsonl and --topic."
        ),
    ] = 0.0,
    rate: Annotated[
        str | None, typer.Option(metavar="N/s", help="Rows a second to the topic.", show_default=False)
    ] = None,
    format: Annotated[
        str | None, typer.Option(metavar="json-wide|json-long", help="Of messages.", show_default="json-wide")
    ] = None,
    start: Annotated[
        str, typer.Option(metavar="TIME", help="Time of the first row, ISO 8601, or `now`.")
    ] = "2026-01-01T00:00:00Z",
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, max=MAX_SEED, help="The same seed gives the same bytes.")
    ] = 0,
    held_out: Annotated[
        Path | None,
        typer.Option(
            "--check",
            metavar="HELD_OUT",
            help="Compare with these rows instead of writing any.",
            show_default=False,
        ),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --check: what the model learned from.", show_default=False),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(metavar="COL", help="With --check: 1 where a row is anomalous.", show_default=False),
    ] = None,
    exclude: Exclude = "",
    config: Config = None,
    sets: Sets = None,
    bootstrap_servers: BootstrapServers = None,
    stream: StreamName = None,
    as_json: AsJson = False,
) -> None:
    """Draw synthetic assets from a model: test data, and a load generator.

    `anomalyd generate --model bundle --out made.parquet --assets 5 --rows 5000 --inject shift:Pressure`

    `anomalyd generate --model bundle --topic sensors.pumps --assets 5000 --rate 5000/s --duration 1h`

    `anomalyd generate --model bundle --check held-out.parquet --train train.parquet`

    Series go on as training's did: states and how long they last, levels, noise, resolution of the readings.
    Rows are as sensors send them: a counter rises by the rates that the model draws, an angle is in its own units.
    They carry `synthetic`: a column in files, a field and a header in messages. With --inject the
    truth goes to `FILE.faults.json` beside the file (of a topic: with --json to standard output), a list of
    {kind, asset, sensor, start, end, size}, end exclusive; of a counter a fault is in its rate, of an angle
    (`NAME.cos`, `NAME.sin`) in one of the two numbers that the model has of it. With -c, messages have the stream's format and fields.

    --check says how like the held-out rows synthetic ones are: distributions, correlations, autocorrelation,
    spectrum, seams, a discriminator (needs scikit-learn), a model trained on synthetic rows, memorisation.
    """
    log_warnings_only()
    from daemon.commands.generate import (
        GenerateOptions,
        check_held_out,
        generated_as_json,
        prepare,
        write_file,
        write_topic,
    )

    options = GenerateOptions(
        model,
        out=output,
        topic=topic,
        held_out=held_out,
        assets=assets,
        rows=rows,
        duration=duration,
        count=count,
        conditions=condition or [],
        like=like,
        inject=inject or [],
        gaps=gaps,
        late=late,
        rate=rate,
        format=format,
        start=start,
        seed=seed,
        train=train,
        label=label,
        bootstrap_servers=bootstrap_servers,
        config=config,
        sets=sets or [],
        exclude=split_list(exclude),
        stream_name=stream,
    )
    if held_out is not None:
        print_source(config, held_out, model)
        print_quality(run_with_progress(lambda bar: check_held_out(options, bar)), as_json=as_json)
        return
    prepared = prepare(options)
    if prepared.target is None:
        assert output is not None
        result = write_file(prepared.made, output, prepared.layout)
        where = str(output)
    else:
        with progress_bar() as bar:
            result = run_coroutine(write_topic(prepared.made, prepared.target, progress=bar))
        where = f"topic {topic}"
    print_notes(result.notes)
    if as_json:
        print_json(generated_as_json(result, prepared))
        return
    faulty = f", {len(result.faults)} faults" if result.faults else ""
    out().print(
        f"{escape(where)}: {result.rows:,} synthetic rows of {assets} asset(s){faulty}, {result.rate:,.0f} a second",
        soft_wrap=True,
    )


def print_quality(found: "Quality", *, as_json: bool) -> None:
    """The table of ``generate --check``."""
    if as_json:
        print_json(found.report)
        return
    table = Table(Column("measure", min_width=22), "synthetic", "training rows", "good", "")

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    for measure in found.measures:
        mark = {True: "[green]yes[/]", False: "[red]no[/]", None: "-"}[measure.passed]
        table.add_row(
            measure.name,
            shown(measure.value),
            shown(measure.real),
            f"{measure.good}: {mark}",
            escape(measure.says),
        )
    out().print(table)
