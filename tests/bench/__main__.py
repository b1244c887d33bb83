"""``python -m tests.bench [throughput|quality|streams] [--quick] [--datasets a,b] [--json FILE]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from daemon.adapters.telemetry import configure_logging
from tests.bench import quality, streams, throughput
from tests.bench.reporting import machine, print_section, write_json


def main() -> None:
    """Measure, print, and keep as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["all", "throughput", "quality", "streams"], default="all")
    parser.add_argument("--quick", action="store_true", help="fewer records, one seed")
    parser.add_argument(
        "--datasets", default="", help="labelled data sets kept beside the project, comma-separated"
    )
    parser.add_argument("--json", type=Path, help="write everything there too")
    given = parser.parse_args()
    configure_logging("critical", "console")  # a broker that is starting is no news
    console, facts, sections = Console(), machine(), []
    if given.what in ("all", "throughput"):
        sections += throughput.measure(given.quick)
    if given.what in ("all", "quality"):
        sections += quality.measure(given.quick, [d for d in given.datasets.split(",") if d])
    if given.what in ("all", "streams"):
        sections += streams.measure(given.quick)
    for section in sections:
        print_section(console, section)
    if given.json is not None:
        write_json(given.json, sections, facts)


if __name__ == "__main__":
    main()
