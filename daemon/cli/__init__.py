"""The command line: arguments in, one clear line out, exit codes 0 fine, 1 failed, 2 wrong usage.

``program`` has the typer application, its commands in order, and ``main``; ``options`` what several commands
share; ``terminal`` consoles, progress and notes; one module per command holds its function: the options
become one value, the command of ``daemon.commands`` gets it, and its result is printed. Torch and what it
brings take seconds to import, so each function imports its command when it is called.
"""

from daemon.cli.program import app, main
from daemon.cli.terminal import run_interruptible

__all__ = ["app", "main", "run_interruptible"]
