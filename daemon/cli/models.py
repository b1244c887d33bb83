"""``anomalyd models``: the versions of the models, and which of them is in force."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from daemon.cli.options import AsJson, Config
from daemon.cli.terminal import (
    log_warnings_only,
    login,
    out,
    print_json,
    print_notes,
    run_coroutine,
    run_with_progress,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from daemon.commands.models import Change, ModelsOptions

models = typer.Typer(
    name="models",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="List, compare, promote and roll back the versions of the models.\n\n"
    "Every training gives a version. One of each stream is in force: all replicas use it within seconds of `promote`"
    " or `rollback`, and nothing is lost or scored twice.\n\n"
    "`anomalyd models list` shows what there is, `anomalyd models rollback --reason 'it alarms all night'` puts"
    " the model in force that was promoted before, `anomalyd models show V` says what V learned and why it was promoted."
    " V may be the first characters of a version.\n\n"
    "The versions are in the models topic of the configuration (`-c`, or ./config.yaml); with `--directory models` in a"
    " directory, without a broker.",
)

Stream = Annotated[
    str | None, typer.Option("--stream", metavar="STREAM", help="Which stream, where there are several.")
]
Directory = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="A directory of models (`model.directory`) instead of the topic; with it -c only checks that a model fits.",
    ),
]
Version = Annotated[str, typer.Argument(metavar="V", help="A version, or its first characters.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why, for those who ask later.")]
By = Annotated[str | None, typer.Option(metavar="NAME", help="Who does it.", show_default="your login name")]


@models.command("list")
def list_(
    config: Config = None, stream: Stream = None, directory: Directory = None, as_json: AsJson = False
) -> None:
    """List all versions, oldest first: which is in force, why it was trained, what the gate said.

    `anomalyd models list --stream pumps`

    With --json: an array of {version, stream, promoted, promoted_before, shadow_until, trained_at, reason, by, at, parent, trigger, rows,
    assets, from, until, threshold, gate: {promoted, reason, refused_by}, unreadable}. `trained_at` and `at` (of the
    promotion) are wall clock, `from` and `until` event times of the rows learned; what is not known is null.
    """
    options = _options(config, stream, directory)
    from daemon.commands.models import list_models
    from daemon.commands.models.tables import FOLDS, LIST, list_rows

    entries = run_coroutine(list_models(options))
    if as_json:
        print_json(entries)
    elif entries:
        out().print(table_of(LIST, list_rows(entries), FOLDS))
    else:
        print_notes(["there is no model yet"])


@models.command()
def show(
    version: Version,
    config: Config = None,
    stream: Stream = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Say all about one version: lineage, rows learned, the gate's rules, who promoted it and why, concerns.

    `anomalyd models show 3f2a`

    With --json: as in `list`, and {rows_of: {asset: rows}, sensors, window, period_s, closing, calibration, decision:
    {promoted, reason, refused_by, rules: [{name, figure, limit, at_least, passed}], figures}, model, concerns, promotions:
    [{reason, by, at, in_force}], children}.
    """
    options = _options(config, stream, directory)
    from daemon.commands.models import show_model
    from daemon.commands.models.tables import show_lines

    entry = run_coroutine(show_model(options, version))
    if as_json:
        print_json(entry)
    else:
        _print_lines(show_lines(entry))


@models.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A version, or its first characters.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The one to compare it with.")],
    rows: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Compare anomalies on this file's rows (Parquet, CSV or JSON Lines), and inject faults into them.",
            show_default="newest rows of the input topics",
        ),
    ] = None,
    config: Config = None,
    stream: Stream = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Say how two versions differ: thresholds, sensors that moved, faults they find, anomalies on the same rows.

    `anomalyd models diff 3f2a 91bc --rows yesterday.parquet`

    A sensor is listed when its mean moved by a tenth of a standard deviation (of the older model), or its spread by a
    tenth. Faults found are the gate's figures where it compared these two; else faults are injected into the rows.

    With --json: {a, b, older, threshold, closing, window, sensors: [{sensor, mean_a, mean_b, moved, moved_sd, spread_a,
    spread_b, spread_ratio}], only_a, only_b, recall: {source, kinds: [{kind, a, b}]}, agreement: {rows, source, both,
    only_a, only_b, neither, episodes_a, episodes_b}}; shares are of rows that both score.
    """
    options = _options(config, stream, directory)
    from daemon.commands.models import diff_models
    from daemon.commands.models.tables import RECALL, SENSORS, diff_lines, recall_rows, sensor_rows

    found = run_with_progress(lambda bar: diff_models(options, a, b, rows, bar)).document
    if as_json:
        print_json(found)
        return
    _print_lines(diff_lines(found))
    moved, rest = sensor_rows(found)
    if moved:
        out().print(table_of(SENSORS, moved))
    if rest:
        _print_lines(
            [f"{rest} {'more ' if moved else ''}sensor{'s' * (rest > 1)} moved by less than a tenth"]
        )
    if found["recall"] is None:
        _print_lines(["faults: no figures are known; --rows FILE injects some"])
    else:
        _print_lines([f"found of {found['recall']['source']}:"])
        out().print(table_of(RECALL, recall_rows(found)))


@models.command()
def promote(
    version: Version,
    reason: Reason = "by hand",
    by: By = None,
    config: Config = None,
    stream: Stream = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Put a version in force, an older one or one that the gate refused, too.

    `anomalyd models promote 3f2a --reason 'the new impeller is normal'`

    A version that does not fit the configured stream is refused with the reason. With --json: {stream, version, before,
    reason, by}.
    """
    options = _options(config, stream, directory)
    from daemon.commands.models import promote_model

    _done(run_coroutine(promote_model(options, version, reason, by or login())), as_json)


@models.command()
def rollback(
    reason: Reason = "",
    by: By = None,
    config: Config = None,
    stream: Stream = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Put the version in force again that was promoted before the present one.

    `anomalyd models rollback --reason 'it alarms all night'`

    Twice goes further back, never to and fro; to undo it, `promote` the version. With --json: {stream, version, before, reason,
    by}.
    """
    options = _options(config, stream, directory)
    from daemon.commands.models import roll_back

    _done(run_coroutine(roll_back(options, reason, by or login())), as_json)


@models.command()
def retire(
    version: Version,
    config: Config = None,
    stream: Stream = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Remove a version for good; the one in force is refused. With --json: {stream, version, retired}."""
    options = _options(config, stream, directory)
    from daemon.commands.models import retire_model

    _done(run_coroutine(retire_model(options, version)), as_json)


@models.command()
def export(
    version: Version,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The bundle to write: a new directory.")],
    config: Config = None,
    stream: Stream = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Write a version as a bundle, which `--model` of the other commands takes.

    `anomalyd models export 3f2a bundle`, then `anomalyd replay yesterday.parquet --model bundle --out report`

    With --json: {stream, version, bundle}.
    """
    options = _options(config, stream, directory)
    from daemon.commands.models import export_model

    _done(run_coroutine(export_model(options, version, folder)), as_json)


@models.command("import")
def import_(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A bundle: of `train`, or of `models export`.")
    ],
    put_in_force: Annotated[bool, typer.Option("--promote", help="Put it in force, too.")] = False,
    reason: Reason = "by hand",
    by: By = None,
    config: Config = None,
    stream: Stream = None,
    directory: Directory = None,
    as_json: AsJson = False,
) -> None:
    """Add a bundle as a version; the same bundle twice is one version.

    `anomalyd train normal.parquet --out bundle`, then `anomalyd models import bundle --promote`

    Its stream is that of --stream; else the configured one of the bundle's own name, or the only configured one. With
    --json: {stream, version, added, promoted}, and with --promote {before, reason, by}.
    """
    options = _options(config, stream, directory)
    from daemon.commands.models import import_model

    _done(run_coroutine(import_model(options, folder, put_in_force, reason, by or login())), as_json)


def _options(config: Path | None, stream: str | None, directory: Path | None) -> "ModelsOptions":
    log_warnings_only()
    from daemon.commands.models import ModelsOptions

    return ModelsOptions(config, stream, directory)


def _done(change: "Change", as_json: bool) -> None:
    print_notes(change.notes)
    if as_json:
        print_json(change.document)
    else:
        _print_lines([change.says])


def _print_lines(lines: "Iterable[str]") -> None:
    for line in lines:
        out().print(escape(line), soft_wrap=True)


def table_of(
    headers: "Sequence[str]", rows: "Sequence[Sequence[str]]", folds: "Collection[str]" = ()
) -> Table:
    """Rows of ``commands.models.tables`` as a table; at 80 columns only names and what is said in words are folded.

    Args:
        headers: of the columns.
        rows: their cells.
        folds: the headers of columns that may be folded; none: the first.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for header in headers:
        if header in (folds or headers[:1]):
            table.add_column(header, overflow="fold", min_width=12)
        else:
            table.add_column(header, no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    return table
