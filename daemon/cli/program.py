"""The program: its commands in the order of the help, and how every error becomes one line and an exit code.

Exit codes: 0 fine, 1 failed, 2 wrong usage or configuration, 130 interrupted.
"""

import errno
import os
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from daemon import __version__
from daemon.cli.check import check
from daemon.cli.demo import demo
from daemon.cli.drill import drill
from daemon.cli.explain import explain
from daemon.cli.feedback import feedback
from daemon.cli.generate import generate
from daemon.cli.impute import impute
from daemon.cli.init import init
from daemon.cli.inspect import inspect
from daemon.cli.maintenance import maintenance
from daemon.cli.models import models
from daemon.cli.replay import replay
from daemon.cli.retrain import retrain
from daemon.cli.run import run
from daemon.cli.topics import topics
from daemon.cli.train import train
from daemon.documents import one_line
from daemon.errors import INTERRUPTED, DaemonError

app = typer.Typer(
    name="anomalyd",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Streaming anomaly detection for sensor data: Kafka in, Kafka out.\n\n"
    "Start with `anomalyd demo`. Then `anomalyd init SAMPLE` writes a config.yaml for your readings,"
    " `anomalyd check --probe` says whether everything is in place, and `anomalyd run` runs.\n\n"
    "Exit codes: 0 fine, 1 failed, 2 wrong usage or configuration.",
)

COMMANDS = (
    demo,
    run,
    check,
    topics,
    init,
    inspect,
    train,
    replay,
    generate,
    impute,
    drill,
    explain,
    feedback,
    retrain,
)
"""In the order of the help: first what a newcomer needs."""
for command in COMMANDS:
    app.command()(command)
app.add_typer(maintenance)
app.add_typer(models)


def version(value: bool) -> None:
    """``--version``."""
    if value:
        typer.echo(f"anomalyd {__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
    _debug: Annotated[
        bool, typer.Option("--debug", help="Print the traceback of an unexpected failure, for a report.")
    ] = False,
) -> None:
    """Options of every command."""


def fail(message: str, code: int) -> NoReturn:
    """One clear line on standard error, and the exit code."""
    sys.stderr.write(f"anomalyd: {one_line(message)}\n")
    sys.exit(code)


def main() -> None:
    """Run a command; every error ends as one line and its exit code.

    An unexpected error is a fault of the program: the line says so, and how to get the traceback for a
    report. ``run`` has logged it before.
    """
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()  # not at the exit, where a full disk ends in a traceback
        if code == INTERRUPTED:
            fail("interrupted", INTERRUPTED)
    except DaemonError as error:
        fail(str(error), error.exit_code)
    except typer.Exit as error:
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        fail("interrupted", INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - a traceback never stands alone
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            if not error.format_message().strip():
                sys.exit(2)  # no arguments at all: the help was printed
            fail(str(error.format_message()), 2)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EPIPE, errno.EIO):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered has nowhere to go
            fail(f"standard output cannot be written: {error.strerror}", 1)
        debug = sys.argv[1:2] == ["--debug"]  # the options of the program come before the command
        if debug:
            traceback.print_exception(error)
        if isinstance(error, MemoryError):
            fail("there is not enough memory for this", 1)
        shown = "the traceback above" if debug else f"what 'anomalyd --debug {sys.argv[1]} ...' prints"
        fail(
            f"failed unexpectedly: {type(error).__name__}: {str(error)[:500]}; this is a fault of anomalyd's"
            f" own: please report it with {shown}",
            1,
        )
    sys.exit(code if isinstance(code, int) else 0)
