"""``python -m tests.bench [throughput|quality|streams|attribution] [--quick] [--datasets a,b] [--kinds mlp,ppca] [--json FILE]``.

``quality`` alone also writes its tables to tests/bench/results.md (``--results`` names another file).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from daemon.adapters.telemetry import configure_logging
<<<<<<< HEAD
from tests.bench import attribution, streams, throughput
from tests.bench.reporting import machine, print_section, write_json, write_markdown
=======
from tests.bench import throughput
from tests.bench.reporting import Section, machine, print_section, write_json, write_markdown
>>>>>>> detection

RESULTS = Path(__file__).parent / "results.md"
PARTS = ("throughput", "quality", "streams", "attribution")


def main() -> None:
    """Measure, print, and keep as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--quick", action="store_true", help="fewer records, one seed")
    parser.add_argument(
        "--datasets", default="", help="labelled data sets kept beside the project, comma-separated"
    )
    parser.add_argument("--kinds", default="mlp,ppca", help="our models beside the peers, comma-separated")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where quality keeps its tables")
    parser.add_argument("--json", type=Path, help="write everything there too")
    given = parser.parse_args()
<<<<<<< HEAD
    configure_logging("critical", "console")  # a broker that is starting is no news
    console, facts, sections = Console(), machine(), []
=======
    configure_logging("error", "console")
    console, facts = Console(), machine()
    sections: list[Section] = []

    def keep(section: Section) -> None:
        """Print a table, and keep what there is so far: a measurement may be long."""
        sections.append(section)
        print_section(console, section)
        if given.what == "quality":
            write_markdown(given.results, sections, facts)

>>>>>>> detection
    if given.what in ("all", "throughput"):
        for section in throughput.measure(given.quick):
            keep(section)
    if given.what in ("all", "quality"):
        from tests.bench import quality  # the peers are dependencies that only this needs

<<<<<<< HEAD
        sections += quality.measure(
            given.quick, [d for d in given.datasets.split(",") if d], given.kinds.split(",")
        )
    if given.what in ("all", "streams"):
        sections += streams.measure(given.quick)
    if given.what in ("all", "attribution"):
        sections += attribution.measure_all()
    for section in sections:
        print_section(console, section)
    if given.what == "quality":
        write_markdown(given.results, sections, facts)
=======
        names = [name for name in given.datasets.split(",") if name]
        for section in quality.measure(given.quick, names, given.kinds.split(",")):
            keep(section)
>>>>>>> detection
    if given.json is not None:
        write_json(given.json, sections, facts)


if __name__ == "__main__":
    main()
