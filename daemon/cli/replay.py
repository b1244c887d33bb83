"""``anomalyd replay``: the pipeline over a file, and a report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

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
from daemon.documents import counted, one_line


def replay(
    test: Annotated[Path, typer.Argument(help="Parquet, CSV or JSON Lines (.gz too).", metavar="TEST")],
    output: Annotated[Path, typer.Option("--out", help="A directory for the results.", metavar="DIR")],
    train: Annotated[
        Path | None, typer.Option(help="Learn from this file first.", show_default=False)
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Judge with this bundle.", show_default=False)] = None,
    config: Config = None,
    sets: Sets = None,
    exclude: Exclude = "",
    label: Annotated[
        str | None,
        typer.Option(
            help="A column of TEST with 1 where something was wrong: prints AP beside pPCA and baselines."
        ),
    ] = None,
    stream: StreamName = None,
    time: Time = "",
    asset: Asset = None,
    sensor: Sensor = None,
    value: Value = None,
    zone: Zone = None,
    day_first: DayFirst = None,
    as_json: AsJson = False,
) -> None:
    """Run the same pipeline over a file, and draw a report.

    Writes scores.parquet, imputed.parquet, alerts.jsonl, drift.jsonl, dead-letter.jsonl,
    summary.json and report.html into DIR. Without --train and --model the first
    `model.learn_rows` rows are learned and what follows is judged. Like a topic's offsets, `line` in
    dead-letter.jsonl counts TEST's rows or lines from 0 (the header of a CSV is none).
    """
    log_warnings_only()
    from daemon.commands.realised import realised_lines
    from daemon.commands.replay import RESULTS, ReplayOptions
    from daemon.commands.replay import replay as play

    options = ReplayOptions(
        test,
        output,
        train=train,
        model=model,
        label=label,
        config=config,
        sets=sets or [],
        exclude=split_list(exclude),
        stream_name=stream,
        reading=table_reading(time, asset, sensor, value, zone, day_first),
    )
    print_source(config, train or test, model)
    print_replaced(output, RESULTS)
    result = run_with_progress(lambda bar: play(options, bar))
    if as_json:
        print_json(result.summary)
        return
    summary = result.summary
    console = out()
    for line in result.accounts:
        console.print(escape(one_line(line)), soft_wrap=True)
    console.print(
        f"{summary['scored']:,} of {summary['rows']:,} rows scored, {summary['filled']:,} cells filled,"
        f" {counted(summary['episodes'], 'episode')}{escape(by_kind(summary))}, in {summary['seconds']:.1f} s.",
        soft_wrap=True,
    )
    for line in realised_lines(summary["budget"]):
        console.print(escape(one_line(line)), soft_wrap=True)
    if result.figures:
        table = Table(
            "", "AP", "F1", "precision", "recall", "false alarms", "false episodes/day", "events found"
        )
        for f in result.figures:
            table.add_row(
                f.name,
                f"{f.average_precision:.3f}",
                f"{f.f1:.3f}",
                f"{f.precision:.2f}",
                f"{f.recall:.2f}",
                f"{f.false_alarm_share:.2%}",
                f"{f.false_per_day:.2f}",
                f"{f.events_found} of {f.events}",
            )
        console.print(table)
    console.print(f"Report: {escape(str(output / 'report.html'))}", soft_wrap=True)


def by_kind(summary: Mapping[str, Any]) -> str:
    """The episodes by the kind that each opened with, which add up, and how many became of several kinds."""
    kinds = ", ".join(f"{n} {kind}" for kind, n in summary["episodes_by_kind"].items())
    several = summary["episodes_of_several_kinds"]
    grown = f"; {several} of them grew to several kinds" if several else ""
    return f" ({kinds}{grown})" if kinds else ""
