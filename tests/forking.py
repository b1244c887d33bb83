"""Commands as forks of a process that has imported torch already: the import costs more than most commands do.

Each is a process of its own that runs ``daemon.cli.main`` with its own arguments, folder, environment and outputs.
What a fork cannot show (imports, and what is read when Python starts) is tested in processes from scratch.
"""

from __future__ import annotations

import atexit
import io
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

IMPORTED = ("daemon.cli", "daemon.commands.replay", "daemon.commands.run")
"""What the commands have in common. Nothing is computed in the server: a fork of a process with threads may hang."""


def forked(
    arguments: Sequence[str], cwd: Path | None, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run ``anomalyd`` to its end; standard output and error are kept.

    Raises:
        subprocess.TimeoutExpired: as ``subprocess.run`` does; the process is killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("out", "err")]
        process = _server().Process(
            target=_run,
            args=(list(arguments), str(cwd or Path.cwd()), dict(environment), list(map(str, outputs))),
        )
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), timeout)
        code = process.exitcode
        assert code is not None
        return subprocess.CompletedProcess(list(arguments), code, *(path.read_text() for path in outputs))


@cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


def _run(arguments: list[str], cwd: str, environment: dict[str, str], outputs: list[str]) -> None:
    """In the fork: become the command."""
    for number, path in zip((1, 2), outputs, strict=True):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout, sys.stderr = (_text(number, buffered=number == 1) for number in (1, 2))
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["anomalyd", *arguments]
    from daemon.cli import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # a forked child ends without
        sys.stdout.flush()


def _text(number: int, *, buffered: bool) -> Any:
    return io.TextIOWrapper(os.fdopen(number, "wb", closefd=False), line_buffering=not buffered)
