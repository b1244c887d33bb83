"""``anomalyd drill``: which faults a model would find, as one table per sensor."""

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from daemon.cli.options import (
    AsJson,
    Asset,
    Config,
    DayFirst,
    Exclude,
    Sets,
    StreamName,
    Time,
    Value,
    Zone,
    split_list,
    table_reading,
)
from daemon.cli.terminal import (
    log_warnings_only,
    out,
    print_json,
    print_source,
    run_with_progress,
)
from daemon.config import MAX_SEED


def drill(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Normal rows: Parquet, CSV or JSON Lines (.gz too).")
    ],
    model: Annotated[Path, typer.Option(help="The bundle that judges.", metavar="BUNDLE")],
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="Only this kind; repeatable: spike, shift, drift, stuck, noise, correlation_swap, lag, drop_out.",
        ),
    ] = None,
    sensor: Annotated[
        list[str] | None, typer.Option(metavar="SENSOR", help="Only this sensor; repeatable.")
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, max=MAX_SEED, help="Of places, signs and noise.")
    ] = 0,
    config: Config = None,
    sets: Sets = None,
    exclude: Exclude = "",
    stream: StreamName = None,
    time: Time = "",
    asset: Asset = None,
    sensor_column: Annotated[
        str | None, typer.Option(metavar="COL", help="Of a long table: the column of the sensors' names.")
    ] = None,
    value: Value = None,
    zone: Zone = None,
    day_first: DayFirst = None,
    as_json: AsJson = False,
) -> None:
    """Fire drill: inject faults into normal rows and say which would be found, how soon, from which size on.

    Answers "why was there no alert?": per sensor and kind of fault the share that is found, the median delay
    in event time, and the smallest size of which 80 % are found, in the sensor's own units. They are
    judged as the stream judges: slow baselines, persistence and threshold, and the rules for stuck
    and silent sensors; deviations, which find mild faults that last for hours, are not judged. Faults are injected into rows as the model is given them: of a counter into its rate, of an
    angle into its cosine and sine, of a sensor with hold into held values, too. Sizes are from 0.1 to 8 standard deviations of training (a lag: 1 to 16 rows).

    `anomalyd drill normal.parquet --model bundle --kind shift --sensor Pressure`

    With --json: `model`, `rows`, `places`, `kinds` ({kind: {recall, faults, delay_s}}), `sensors` (a list of
    {sensor, modelled, kind, recall, faults, delay_s, smallest: {sd, value, low, high, within_s}, by_size, alert, says}),
    `unfound` ({sensor: kinds}), `still` (sensors that never moved, where no size has a meaning) and `counters` (sensors
    that only rise and are not watched).
    """
    log_warnings_only()
    from daemon.commands.drill import COLUMNS, FEW, DrillOptions, drill_file, rows_of

    options = DrillOptions(
        file,
        model,
        kinds=kind or [],
        sensors=sensor or [],
        seed=seed,
        config=config,
        sets=sets or [],
        exclude=split_list(exclude),
        stream_name=stream,
        reading=table_reading(time, asset, sensor_column, value, zone, day_first),
    )
    print_source(config, file, model)
    result = run_with_progress(lambda bar: drill_file(options, bar))
    report = result.report
    if as_json:
        print_json(report)
        return
    console = out()
    for name, rows in rows_of(report):
        table = Table(
            box=SIMPLE_HEAD,
            title=escape(name),
            title_justify="left",
            title_style="bold",
            padding=(0, 1, 0, 0),
        )
        for header, width in COLUMNS.items():
            table.add_column(header, min_width=width)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    if len(report["sensors"]) <= FEW:
        for one in report["sensors"]:
            console.print(escape(one["says"]), soft_wrap=True)
    whole = ", ".join(f"{name} {entry['recall']:.0%}" for name, entry in report["kinds"].items())
    console.print(
        f"Model {report['model']}: {sum(k['faults'] for k in report['kinds'].values()):,} faults at"
        f" {report['places']} places among {report['rows']:,} rows. Found: {whole}."
        " By scores, jumps and the rules for stuck and silent sensors: deviations, which find mild faults that last, are"
        " not judged here.",
        soft_wrap=True,
    )
    for name, kinds in report["unfound"].items():
        console.print(
            f"[yellow]Not found in {escape(name)}, on any size:[/] {', '.join(kinds)}", soft_wrap=True
        )
    if report["still"]:
        names = escape(", ".join(report["still"]))
        console.print(f"Stood still in training, no fault was injected: {names}", soft_wrap=True)
    if report["counters"]:
        names = escape(", ".join(report["counters"]))
        console.print(
            f"Only rises, is not watched, no fault was injected: {names}; {{counter: true}} watches its rate",
            soft_wrap=True,
        )
