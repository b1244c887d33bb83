"""``anomalyd replay``: the pipeline over a file, and a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

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

ALERTS_SHOWN = 20
"""Rows of the table of alerts; alerts.jsonl has all."""
SENSORS_SHOWN = 2
"""Of an alert in that table."""
ALERT_COLUMNS = (("since (UTC)", 16), ("lasted", 9), ("kind", 10), ("severity", 8))
"""With their widths; what is left of a line is for what it was."""


def replay(
    test: Annotated[Path, typer.Argument(help="Parquet, CSV or JSON Lines (.gz too).", metavar="TEST")],
    output: Annotated[Path, typer.Option("--out", help="A directory for the results.", metavar="DIR")],
    train: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Learn from this file first.", show_default=False)
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Judge with this bundle.", show_default=False)
    ] = None,
    config: Config = None,
    sets: Sets = None,
    exclude: Exclude = "",
    label: Annotated[
        str | None,
        typer.Option(
            metavar="COL",
            help="A column of TEST with 1 where something was wrong: prints AP beside pPCA and baselines.",
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
    if summary["alerts"]:
        console.print(alerts_table(summary["alerts"][:ALERTS_SHOWN], console.width))
    if (more := summary["episodes"] - ALERTS_SHOWN) > 0:
        console.print(f"and {more:,} more in {escape(str(output / 'alerts.jsonl'))}", soft_wrap=True)
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


def alerts_table(alerts: Sequence[Mapping[str, Any]], width: int) -> Table:
    """Alerts of summary.json, one a row; with their sentences where these fit, else with asset and first sensors.

    Args:
        alerts: in their order.
        width: of the terminal, columns.
    """
    left = width - sum(size + 2 for _, size in ALERT_COLUMNS) - 3  # with what is between and around them
    table = Table(
        *(Column(name, width=size) for name, size in ALERT_COLUMNS),
        Column("what", overflow="fold"),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for one in alerts:
        names = one["sensors"][:SENSORS_SHOWN]
        more = len(one["sensors"]) - len(names)
        short = (
            one["asset"] + (f": {', '.join(names)}" if names else "") + (f" and {more} more" if more else "")
        )
        since, lasted = one["onset"][:16].replace("T", " "), one["lasted"]
        sentence = one["summary"].replace(f", since {one['onset']}", "").replace(f", for {lasted}", "")
        what = sentence if len(sentence) <= left else short
        table.add_row(
            since,
            lasted if one["closed"] else f"{lasted}, {'quiet' if one['quiet'] else 'open'}",
            one["kind"].replace("_", " "),
            one["severity"],
            escape(what),
        )
    return table


def by_kind(summary: Mapping[str, Any]) -> str:
    """The episodes by the kind that each opened with, which add up, and how many became of several kinds."""
    kinds = ", ".join(f"{n} {kind}" for kind, n in summary["episodes_by_kind"].items())
    several = summary["episodes_of_several_kinds"]
    grown = f"; {several} of them grew to several kinds" if several else ""
    return f" ({kinds}{grown})" if kinds else ""
