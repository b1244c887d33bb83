"""Interrupts, and notes on the environment."""

from __future__ import annotations

from pathlib import Path

from tests.running import command, environment, python

CSV = "timestamp,a,b\n2026-01-01T00:00:00Z,1,2\n2026-01-01T00:00:01Z,2,3\n"
INTERRUPTED = """
import os, signal
from daemon import cli

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins with it ignored

async def counting():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1_000_000):
        pass
    print("went on")

@cli.app.command()
def count():
    cli.run_interruptible(counting())

cli.main()
"""


def test_an_interrupt_ends_a_computation_at_once_with_one_line() -> None:
    done = python("-c", INTERRUPTED, "count")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "anomalyd: interrupted\n")


def test_a_variable_that_names_no_key_is_noted(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text(CSV)
    misspelt = environment(ANOMALYD_MODLE__SEED="3")
    done = command("replay", "good.csv", "--out", "o", cwd=tmp_path, env=misspelt)
    assert done.returncode == 0, done.stderr
    assert "ANOMALYD_MODLE__SEED names no key; did you mean ANOMALYD_MODEL__SEED?" in " ".join(
        done.stderr.split()
    )


LOGGED = """
import io, sys
import structlog
from daemon.cli.terminal import log_warnings_only

log_warnings_only()
sys.stderr, before = io.StringIO(), sys.stderr  # as a progress bar does
structlog.get_logger().warning("model_late")
sys.stderr, found = before, sys.stderr.getvalue()
print("model_late" in found)
structlog.get_logger().warning("model_later")
"""


def test_log_lines_go_where_standard_error_goes_by_then() -> None:
    done = python("-c", LOGGED)
    assert (done.returncode, done.stdout) == (0, "True\n")
    assert "model_later" in done.stderr
    assert "model_late " not in done.stderr
