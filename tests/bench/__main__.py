"""``python -m tests.bench [PART] [--quick] [--json FILE]``: measure, and print tables.

PART is one of

- ``throughput``: CPU per record beside the bare limit, what exactly-once adds, two processes, peers;
- ``shapes``: the same by the messages' shape: epoch times, conditions, quoted numbers, json-long, presets ...
- ``latency``: from a record's append to its alert, without and with a training beside it;
- ``memory``: bytes per asset over its raw window;
- ``recovery``: from ``kill -9`` to the first new record;
- ``speed``: these five;
- ``quality``, ``streams``, ``attribution``: how well it detects, fills and blames;
- ``all``, which is the default.

``--quick`` shows in a few minutes that everything runs; its figures are rough. ``quality`` and ``shapes`` alone
also write their tables to tests/bench/results.md and shapes.md (``--results`` names another file).
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from daemon.adapters.telemetry import configure_logging
from tests.bench import attribution, latency, memory, recovery, shapes, streams, throughput
from tests.bench.reporting import Section, machine, print_section, write_json, write_markdown

RESULTS = {
    "quality": Path(__file__).parent / "results.md",
    "shapes": Path(__file__).parent / "shapes.md",
}
WIDTH = 160
"""Columns of a table that goes to a file."""
SPEED = ("throughput", "shapes", "latency", "memory", "recovery")
PARTS = (*SPEED, "quality", "streams", "attribution")
WHOLES: dict[str, Sequence[str]] = {"speed": SPEED, "all": PARTS}


def measured(part: str, given: argparse.Namespace) -> Iterable[Section]:
    """The tables of one part."""
    if part == "throughput":
        return throughput.measure(given.quick, given.quixstreams)
    if part == "shapes":
        return shapes.measure(given.quick)
    if part == "latency":
        return latency.measure(given.quick)
    if part == "memory":
        return memory.measure(given.quick)
    if part == "recovery":
        return recovery.measure(given.quick)
    if part == "streams":
        return streams.measure(given.quick)
    if part == "attribution":
        return attribution.measure_all()
    from tests.bench import quality  # the peers are dependencies that only this needs

    names = [name for name in given.datasets.split(",") if name]
    return quality.measure(given.quick, names, given.kinds.split(","))


def main() -> None:
    """Measure, print, and keep as JSON if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=[*PARTS, *WHOLES], default="all", metavar="PART")
    parser.add_argument("--quick", action="store_true", help="fewer records, one seed")
    parser.add_argument(
        "--datasets", default="", help="labelled data sets kept beside the project, comma-separated"
    )
    parser.add_argument("--kinds", default="mlp,ppca", help="our models beside the peers, comma-separated")
    parser.add_argument(
        "--quixstreams", metavar="PYTHON", help="an interpreter that has quixstreams, a peer of throughput"
    )
    parser.add_argument("--results", type=Path, help="where quality or shapes keeps its tables")
    parser.add_argument("--json", type=Path, help="write everything there too")
    given = parser.parse_args()
    configure_logging("error", "console")
    # A broker that is starting is no news.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    console, facts = Console(), machine()
    if not console.is_terminal:
        console.width = WIDTH
    sections: list[Section] = []
    for part in WHOLES.get(given.what, (given.what,)):
        for section in measured(part, given):
            sections.append(section)
            print_section(console, section)
            if given.what in RESULTS:  # what there is so far: a measurement may be long
                write_markdown(given.results or RESULTS[given.what], sections, facts)
    if given.json is not None:
        write_json(given.json, sections, facts)


if __name__ == "__main__":
    main()
