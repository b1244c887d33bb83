"""``anomalyd inspect``: the mapping at work on a sample, as tables or one JSON document."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from daemon.cli.options import (
    AsJson,
    Asset,
    BootstrapServers,
    Config,
    DayFirst,
    SchemaRegistry,
    Sensor,
    Sets,
    StreamName,
    Time,
    Value,
    Zone,
    table_reading,
)
from daemon.cli.terminal import log_warnings_only, out, print_json, print_notes
from daemon.documents import counted

if TYPE_CHECKING:
    from daemon.commands.inspect import Example, Inspection


NO_NUMBERS_SHOWN = 20
"""Sensors whose values are no numbers that are printed; JSON has all."""


def inspect(
    sample: Annotated[
        str, typer.Argument(help="A Parquet, CSV or JSON Lines file (.gz too), or a topic.", metavar="SAMPLE")
    ],
    config: Config = None,
    sets: Sets = None,
    stream: StreamName = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="PRESET", help="Read by this preset, as `telegraf`.", show_default=False
        ),
    ] = None,
    time: Time = "",
    asset: Asset = None,
    sensor: Sensor = None,
    value: Value = None,
    zone: Zone = None,
    day_first: DayFirst = None,
    bootstrap_servers: BootstrapServers = None,
    schema_registry: SchemaRegistry = None,
    as_json: AsJson = False,
) -> None:
    """Show what is read of a sample of messages: asset, time, sensors, and why anything is refused.

    SAMPLE is a file; where there is none of that name, a topic, whose newest messages are looked at. The mapping
    is that of the configuration, of a preset, or with neither the one that `anomalyd init` would write.
    Exit code 0 if anything is read, 1 if nothing is.
    """
    log_warnings_only()
    from daemon.commands.inspect import InspectOptions, inspect_sample

    reading = table_reading(time, asset, sensor, value, zone, day_first)
    found = inspect_sample(
        InspectOptions(
            sample, config, sets or [], stream, preset, bootstrap_servers, schema_registry, reading
        )
    )
    if as_json:
        print_json(found.document())
    else:
        _print(found, out())
        print_notes(found.notes)
    if not found.found:
        raise typer.Exit(1)


def _print(found: "Inspection", console: Console) -> None:
    console.print(f"[bold]{escape(found.source)}[/]: {escape(found.mapping)}", soft_wrap=True)
    if found.keys:
        table = Table("where it looks", "", "why", box=None, padding=(0, 2))
        for key, text in found.keys.items():
            table.add_row(escape(key), escape(text), escape(found.reasons.get(key, "")))
        console.print(table)
    if found.columns:
        table = Table("column", "is", box=None, padding=(0, 2))
        for name, role in found.columns.items():
            table.add_row(escape(name), escape(role))
        console.print(table)
    _print_examples(found.examples, console)
    console.print(_totals(found), soft_wrap=True)
    if found.no_numbers:
        table = Table("no number", "", "an example", "what helps")
        for odd in found.no_numbers[:NO_NUMBERS_SHOWN]:
            table.add_row(escape(odd.sensor), f"{odd.count:,}", escape(odd.example), escape(odd.hint))
        console.print(table)
        if (more := len(found.no_numbers) - NO_NUMBERS_SHOWN) > 0:
            console.print(f"and {counted(more, 'more sensor')} with such values", soft_wrap=True)
    if found.rejects:
        table = Table("refused", "", "what was found", "an example", "nearest format", title_justify="left")
        for each in found.rejects:
            table.add_row(
                each.reason, f"{each.count:,}", escape(each.detail), escape(each.example), each.nearest or ""
            )
        console.print(table)


def _print_examples(examples: "list[Example]", console: Console) -> None:
    table = Table(
        Column("record", overflow="fold"),
        Column("asset", overflow="fold"),
        Column("time", no_wrap=True),
        Column("from", overflow="fold"),
        Column("sensor", overflow="fold"),
        Column("value", overflow="fold"),
        Column("", overflow="fold"),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for example in examples:
        last: tuple[str, ...] = ()
        for cell in example.cells:
            key = (str(example.offset), cell.asset, cell.time, cell.time_from)
            table.add_row(
                *("" if key == last else escape(text) for text in key),
                escape(cell.sensor),
                escape(cell.value),
                f"[yellow]{escape(cell.mark)}[/]",
            )
            last = key
        table.add_section()
    if table.rows:
        console.print(table)
    for example in examples:
        if example.more:
            console.print(
                f"record {example.offset} has {counted(example.more, 'more value')}", soft_wrap=True
            )
        if example.became:
            console.print(f"record {example.offset}: [yellow]{escape(example.became)}[/]", soft_wrap=True)


def _about_quality(unknown: Mapping[str, int], good: Sequence[Any]) -> str:
    """What to write where words of quality are not known: all that is good, as a list of these makes all others bad."""
    from daemon.commands.reading_check import in_one_line

    words = ", ".join(f"{word!r} ({counted(count, 'value')})" for word, count in unknown.items())
    one = len(unknown) == 1
    return escape(
        f" Quality {words} {'is' if one else 'are'} not known, so {'it counts' if one else 'they count'} as bad."
        f" Where {'it is' if one else 'they are'} good: quality: {{from: ..., good: {in_one_line([*good, *unknown])}}},"
        " and whatever is not in this list is bad."
    )


def _totals(found: "Inspection") -> str:
    totals = found.totals
    parts = [f"{counted(totals['records'], 'record')}: {totals['accepted']:,} accepted"]
    if totals.get("duplicate"):
        parts.append(f"{totals['duplicate']:,} duplicate")
    if totals["refused"]:
        parts.append(f"{sum(totals['refused'].values()):,} refused")
    if totals["skipped"]:
        skipped = ", ".join(f"{escape(rule)} {count:,}" for rule, count in totals["skipped"].items())
        parts.append(f"{sum(totals['skipped'].values()):,} skipped ({skipped})")
    text = ", ".join(parts) + (
        f". {counted(totals['readings'], 'reading')} of {counted(totals['assets'], 'asset')}"
        f" and {counted(totals['sensors'], 'sensor')}"
    )
    if totals["without_value"]:
        text += f", {totals['without_value']:,} without a value"
    if totals.get("no_number"):
        text += f", {counted(totals['no_number'], 'value')} that {'is' if totals['no_number'] == 1 else 'are'} no number"
    text += "."
    if totals["unknown_sensors"]:
        names = ", ".join(escape(name) for name in totals["unknown_sensors"][:12])
        text += f" Not among the stream's sensors: {names}."
    if unknown := totals.get("unknown_quality"):
        text += _about_quality(unknown, totals.get("good_quality", ()))
    if never := totals.get("never_seen"):
        text += f" Never seen: {', '.join(map(escape, never[:12]))}."
    if against := totals.get("contradicting"):
        text += f" {counted(against, 'value')} contradict an earlier one of the same asset, time and sensor."
    return text
