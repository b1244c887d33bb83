"""``anomalyd train``: a model of files, or of what the input topics hold."""

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
    print_notes,
    print_source,
    progress_bar,
    run_coroutine,
    run_interruptible,
    settings_from,
)


def train(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Parquet, CSV or JSON Lines, oldest first; none: the input topics.", metavar="[FILE...]"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--out", help="The bundle: a directory.", metavar="BUNDLE", show_default=False),
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
    with_alarms: Annotated[
        bool,
        typer.Option(
            "--with-alarms",
            help="From topics: learn the rows of alarms too, to accept a new regime as normal.",
        ),
    ] = False,
    publish: Annotated[
        bool,
        typer.Option(
            "--publish",
            help="From topics: put the model in force in all replicas, if it passes the gate.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fit and calibrate a model on normal readings, and save it as a bundle.

    Without FILE it learns from the input topics of the configuration (`-c`, or ./config.yaml) as
    they are when it starts, and joins no consumer group. Of all partitions together the newest
    rows by event time count: `retrain.rows` of them, or `model.learn_rows` if that is more. Rows of
    episodes that the alerts topic names are left out.

    With --publish it does what the daemon does when a training is due: the candidate must pass the
    gate against the model in force, and the decision is on `<prefix>.retrain`; --out is optional
    then. A candidate that is refused is no failure of the command.
    """
    log_warnings_only()
    from daemon.commands.train import (
        TrainOptions,
        publish_topics,
        replaced_model,
        train_files,
        train_topics,
        trained_as_json,
    )

    options = TrainOptions(
        files or [],
        output,
        with_alarms,
        publish,
        config=config,
        sets=sets or [],
        exclude=split_list(exclude),
        stream_name=stream,
        reading=table_reading(time, asset, sensor, value, zone, day_first),
    )
    print_source(config, files[0] if files else None)
    if publish:
        with progress_bar() as bar:
            record, notes = run_coroutine(publish_topics(settings_from(config, sets), options, bar))
        print_notes(notes)
        if as_json:
            print_json({"version": record.version, "promoted": record.promoted, "reason": record.reason})
            return
        outcome = "promoted" if record.promoted else "refused"
        if record.shadow is not None:
            outcome = f"in shadow until {record.shadow.until}"
        out().print(
            f"{escape(record.stream)}: model {record.version} {outcome}: {escape(record.reason)}",
            soft_wrap=True,
        )
        return
    assert output is not None
    print_notes(replaced_model(output))
    with progress_bar() as bar:
        if files:
            bundle, notes = run_interruptible(train_files(options, bar))
        else:
            bundle, notes = run_coroutine(train_topics(settings_from(config, sets), options, bar))
    print_notes(notes)
    trained = trained_as_json(bundle, output)
    if as_json:
        print_json(trained)
        return
    out().print(
        f"{escape(str(output))}: model {bundle.version}, {len(bundle.sensors)} sensors, window {bundle.window},"
        f" threshold {trained['threshold']:.2f} ({trained['calibration']} calibration)",
        soft_wrap=True,
    )
