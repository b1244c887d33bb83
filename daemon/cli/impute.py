"""``anomalyd impute``: the gaps of a table, filled."""

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from daemon.cli.options import (
    AsJson,
    Asset,
    Config,
    DayFirst,
    Exclude,
    Sensor,
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
    print_replaced,
    print_source,
    run_with_progress,
)
from daemon.config import MAX_SEED, parse_duration
from daemon.errors import ConfigError


def impute(
    file: Annotated[Path, typer.Argument(help="Parquet or CSV.", metavar="FILE")],
    output: Annotated[
        Path, typer.Option("--out", help="The same table with its gaps filled.", metavar="FILE")
    ],
    train: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Learn from this file.", show_default=False)
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Use this bundle.", show_default=False)
    ] = None,
    config: Config = None,
    sets: Sets = None,
    exclude: Exclude = "",
    stream: StreamName = None,
    time: Time = "",
    asset: Asset = None,
    sensor: Sensor = None,
    value: Value = None,
    zone: Zone = None,
    day_first: DayFirst = None,
    draws: Annotated[
        int, typer.Option(min=0, max=1000, help="Joint draws of every gap; 20 are a good start.", metavar="N")
    ] = 0,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, max=MAX_SEED, help="The same seed draws the same.")
    ] = 0,
    max_gap: Annotated[
        str | None,
        typer.Option("--max-gap", metavar="DURATION", help="Leave gaps missing that are longer, as 6h."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fill the gaps of a table from both of their sides and from the other sensors.

    Observed cells stay as they are. What is no finite number counts as missing, infinities and
    texts among numbers too: it is filled, and a note says how many. Which cells were filled, with 90 % intervals, is written
    beside it as `<out>.filled.parquet`. A long gap is filled with what is usual at that time of the day (and weekday) where
    that is better than a line, as gaps that are hidden on purpose show. No value leaves the range in which its sensor was
    seen (and the configured `range`), and a sensor of few values is filled with one of these. With `--max-gap 6h` gaps in which
    a sensor is missing for longer stay missing.

    With `--draws 20` it also says twenty times what the gaps may have held, in `<out>.draws.parquet`
    (asset, timestamp, sensor, draw, value). One draw is one possible past of the machine: it runs through all
    cells of a gap, across sensors and time, as roughly or smoothly as the sensors do. So whatever is computed
    from the table (a mean, an energy, an alarm) can be computed from each draw, and the spread of the
    answers is what the gaps leave open. The filled table stays as it is; `low` and `high` become the 90 % interval of
    what is drawn from.

    Example: `anomalyd impute day.parquet --train week.parquet --out filled.parquet --draws 20`
    """
    log_warnings_only()
    from daemon.commands.impute import ImputeOptions, impute_file

    options = ImputeOptions(
        file,
        output,
        train=train,
        model=model,
        draws=draws,
        seed=seed,
        max_gap=_duration(max_gap),
        config=config,
        sets=sets or [],
        exclude=split_list(exclude),
        stream_name=stream,
        reading=table_reading(time, asset, sensor, value, zone, day_first),
    )
    print_source(config, train or file, model)
    print_replaced(output.parent, [output.name])
    done = run_with_progress(lambda bar: impute_file(options, bar))
    if as_json:
        fields = asdict(done)
        if not draws:  # the document of runs without draws stays as it was
            del fields["draws"], fields["draws_file"]
        if max_gap is None:
            del fields["too_long"], fields["too_long_gaps"]
        print_json(fields)
        return
    out().print(f"{escape(str(output))}: {done.cells:,} cells filled in {done.rows:,} rows", soft_wrap=True)
    if done.draws_file is not None:
        out().print(f"{escape(done.draws_file)}: {done.draws} draws of each", soft_wrap=True)


def _duration(text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        found: timedelta = parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"--max-gap {error}") from error
    return found
