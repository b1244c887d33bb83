"""Input and output that commands share: consoles, logs, progress, notes, JSON, and running a coroutine.

Results go to standard output, everything else to standard error, so that standard output stays clean for
pipes.
"""

import asyncio
import getpass
import io
import json
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from daemon.adapters.telemetry import configure_logging
from daemon.cli.options import DEFAULT_CONFIG
from daemon.config import Settings, environment_names, load, unknown_environment
from daemon.documents import one_line

Report = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and what is being done."""


def out() -> Console:
    """The console of standard output; made on use, so that it follows a redirected stream."""
    return Console(highlight=False)


def err() -> Console:
    """The console of standard error."""
    return Console(stderr=True, highlight=False)


class _StandardError(io.TextIOBase):
    """Standard error as it is when something is written: a progress bar puts what goes there above itself."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


def log_warnings_only(*, environment: bool = True) -> None:
    """Set up the logs of commands that talk to a person: warnings only, on standard error.

    Args:
        environment: print a note for each ANOMALYD_ variable that names no key.
    """
    configure_logging("warning", "console", cast("TextIO", _StandardError()))
    if environment:
        print_notes(unknown_environment())


def run_coroutine(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a command's coroutine; an interrupt cancels it at its next await."""
    return asyncio.run(work)


def run_interruptible(work: Coroutine[Any, Any, Any]) -> Any:
    """``run_coroutine`` for a coroutine that mostly computes: its next await may be minutes off, so an
    interrupt ends it at once.
    """

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not default or threading.current_thread() is not threading.main_thread():
        return asyncio.run(work)
    signal.signal(signal.SIGINT, stop)
    try:
        return asyncio.run(work)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def progress_bar() -> Iterator[Report]:
    """A bar on standard error; on a pipe, a line per kind of work. Gives what progress is reported to."""
    console = err()
    if not console.is_terminal:
        printed = {""}

        def line(share: float, doing: str) -> None:
            head = doing.partition(":")[0]
            if head not in printed:
                printed.add(head)
                console.print(f"{share:4.0%} {escape(doing)}", soft_wrap=True)

        yield line
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda share, doing: bar.update(task, completed=share, description=escape(doing))


class Noted(Protocol):
    """A result of a command that has notes for the operator."""

    @property
    def notes(self) -> Iterable[str]:
        """One sentence each."""


Result = TypeVar("Result", bound=Noted)


def run_with_progress(work: Callable[[Report], Coroutine[Any, Any, Result]]) -> Result:
    """Run a command that mostly computes, with a progress bar, and print the notes of its result.

    Args:
        work: the command's coroutine, given what progress is reported to.
    """
    with progress_bar() as bar:
        result: Result = run_interruptible(work(bar))
    print_notes(result.notes)
    return result


def print_notes(notes: Iterable[str]) -> None:
    """Print notes for the operator, one line each."""
    for note in notes:
        err().print(f"note: {escape(one_line(note))}", style="yellow", soft_wrap=True)


def print_replaced(folder: Path, names: Iterable[str]) -> None:
    """Say in one line which files of before a command will replace in a folder; nothing where there are none."""
    if found := [name for name in names if (folder / name).is_file()]:
        print_notes([f"{folder}: replaces {', '.join(found)}"])


def print_source(config: Path | None, sample: Path | None = None, model: Path | None = None) -> None:
    """Say in one line where a command's settings come from, and which config.yaml it does not read.

    Args:
        config: of ``-c``.
        sample: the file that settings are derived from without ``-c``; None: ./config.yaml is read then.
        model: comes before what the sample suggests.
    """
    unused = None
    if config is not None or sample is None:
        text = f"settings: from {config or DEFAULT_CONFIG}"
    else:
        text = f"settings: derived from {sample}" + (f" and model {model}" if model is not None else "")
        found = (DEFAULT_CONFIG, sample.parent / DEFAULT_CONFIG)
        unused = next((path for path in found if path.is_file()), None)
    if names := environment_names():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        text += f", with {', '.join(names[:3])}{more} of the environment"
    if unused is not None:
        text += f"; {unused} is not used (-c {unused} would use it)"
    print_notes([text])


def settings_from(config: Path | None, sets: list[str] | None) -> Settings:
    """The configuration of a command that needs one: the given file, or ./config.yaml."""
    return load(config or DEFAULT_CONFIG, sets or [])


def print_json(value: Any) -> None:
    """A result as one JSON object, for ``--json``."""
    typer.echo(json.dumps(value))


def login() -> str:
    """Who is logged in, for the record; empty if that is not known."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
