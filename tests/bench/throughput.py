"""What a record costs: the daemon end to end beside the bare limit and its peers, on a real Apache Kafka.

Every topic is full before anybody reads it. The limit (``limit.py``) and the daemon take turns
on the same topic, and a figure is the median of its repetitions; read the ratio, for the absolute
values move with the machine. All broker and daemon processes share it.

Two processes share one topic like this: both join while it is empty, are frozen while it is
filled, and go on together.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from tests.bench.reporting import Section
from tests.bench.stage import Cost, Stage, cost, stage, watched
from tests.bench.workload import Workload
from tests.running import Daemon, make_topic, unique

EXACTLY, AT_LEAST = "exactly_once", "at_least_once"
WORKLOADS = (Workload(8, window=32), Workload(38, window=64))
PARTITIONS = (1, 4)
TARGETS = {(8, 1): (4.5, 3.0), (8, 8): (2.5, 2.0), (38, 1): (7.5, 6.0), (38, 8): (3.5, 2.5)}
"""(sensors, hop) to the ratio to the limit that is wanted, and the one that would be excellent."""
OVERHEAD = 0.10
"""What exactly-once may add to at-least-once."""
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. Rows per asset, by number of sensors."""

    rows: dict[int, int]
    repetitions: int
    river_records: int
    quix_records: int
    fleets: Sequence[int]  # numbers of assets; the first is what the others are compared with


FULL = Size({8: 3_000, 38: 1_600}, 3, 20_000, 3_000, (64, 1_000, 5_000, 20_000, 50_000))
QUICK = Size({8: 1_500, 38: 600}, 1, 5_000, 1_000, (64, 1_000))
FLEET_RECORDS, FLEET_ROWS = 400_000, 48
"""Records of a fleet, at least, and rows of each of its assets: half as many again as its windows have."""
FLEET_TARGET = 1.5
"""What a record of a large fleet may cost over one of the smallest."""


@dataclass(frozen=True, slots=True)
class Case:
    """One way to run the daemon."""

    work: Workload
    partitions: int
    hop: int
    delivery: str


@dataclass(slots=True)
class Taken:
    """What was measured so far."""

    limits: dict[tuple[Workload, int], list[float]] = field(default_factory=dict)  # us, by topic
    costs: dict[Case, list[Cost]] = field(default_factory=dict)

    def limit_us(self, work: Workload, partitions: int) -> float:
        """The limit on one topic."""
        return median(self.limits[work, partitions])

    def cpu_us(self, case: Case) -> float:
        """CPU microseconds per record."""
        return median(cost.cpu_us for cost in self.costs[case])

    def per_s(self, case: Case) -> float:
        """Records per second."""
        return median(cost.per_s for cost in self.costs[case])


def separately(module: str, *arguments: str, python: str = sys.executable) -> Cost:
    """A consumer in a process of its own, which says itself what it took."""
    done = subprocess.run(
        [python, "-m", module, *arguments], capture_output=True, text=True, timeout=900, check=False, cwd=ROOT
    )
    if done.returncode:
        raise RuntimeError(f"{module} {arguments[0]} failed: {done.stderr[-800:]}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def warm(work: Workload) -> int:
    """Records that are not counted: until every window is full, and then as many again."""
    return 2 * work.window * work.assets


def run(on: Stage, case: Case, topic: str, total: int) -> Cost:
    """One daemon over a topic that is full."""
    with on.daemon(case.work, topic, hop=case.hop, kafka={"delivery": case.delivery}) as daemon:
        daemon.until(lambda s: s["state"] == "live")
        found = cost(watched([daemon], total), warm(case.work))
        daemon.stop()
    return found


def cases_on(work: Workload, partitions: int) -> list[Case]:
    """What is measured on one topic."""
    cases = [Case(work, partitions, hop, EXACTLY) for hop in (1, 8)]
    return [*cases, Case(work, partitions, 1, AT_LEAST)] if work.sensors == 8 else cases


def take_turns(on: Stage, topic: str, work: Workload, partitions: int, size: Size, taken: Taken) -> None:
    """The limit and every case on one topic, one after the other, and again."""
    total = work.assets * size.rows[work.sensors]
    for _ in range(size.repetitions):
        bare = separately("tests.bench.limit", "limit", on.bootstrap, topic, str(total), *work.names)
        taken.limits.setdefault((work, partitions), []).append(bare.cpu_us)
        for case in cases_on(work, partitions):
            taken.costs.setdefault(case, []).append(run(on, case, topic, total))


# ------------------------------------------------------------------ tables
def end_to_end(taken: Taken) -> Section:
    """Every case beside the limit of its topic."""
    section = Section(
        "throughput",
        "End to end on Kafka: wide JSON, 64 assets, one process",
        (
            *("sensors", "window", "hop", "delivery", "partitions", "records"),
            *("limit us", "daemon us", "ratio", "records/s", "target", "excellent"),
        ),
    )
    for case, costs in sorted(taken.costs.items(), key=lambda item: (item[0].work.sensors, item[0].hop)):
        work, bare = case.work, taken.limit_us(case.work, case.partitions)
        section.add(
            *(work.sensors, work.window, case.hop, case.delivery, case.partitions, costs[0].records),
            *(bare, taken.cpu_us(case), taken.cpu_us(case) / bare, taken.per_s(case)),
            *TARGETS[work.sensors, case.hop],
        )
    section.notes.append(
        "us: CPU microseconds of the process per record, all full windows; records: those that were counted;"
        " target, excellent: of the ratio, at most."
    )
    return section


def overhead(taken: Taken) -> Section:
    """Exactly-once over at-least-once."""
    section = Section(
        "exactly-once",
        "What exactly-once costs: 8 sensors, hop 1, a commit every 500 ms",
        ("partitions", "at_least_once us", "exactly_once us", "overhead", "target"),
    )
    for partitions in PARTITIONS:
        plain, exact = (
            taken.cpu_us(Case(WORKLOADS[0], partitions, 1, delivery)) for delivery in (AT_LEAST, EXACTLY)
        )
        section.add(partitions, plain, exact, exact / plain - 1.0, OVERHEAD)
    return section


def holds(daemon: Daemon, partitions: int, _: object) -> bool:
    """Whether a daemon has so many partitions now, by its log."""
    events = [event.get("event") for event in daemon.events()]
    return events.count("partition_assigned") - events.count("partition_revoked") == partitions


def tell(daemons: Sequence[Daemon], what: signal.Signals) -> None:
    """Send all of them a signal."""
    for daemon in daemons:
        assert daemon.process is not None
        daemon.process.send_signal(what)


def side_by_side(on: Stage, work: Workload, rows: int) -> Cost:
    """Two daemons of one group on four partitions."""
    topic, shared = unique("bench"), {"group": unique("group"), "prefix": unique("out")}
    make_topic(on.bootstrap, topic, 4)
    total = work.assets * rows
    with on.daemon(work, topic, **shared) as first, on.daemon(work, topic, **shared) as second:
        both = [first, second]
        for daemon in both:
            daemon.until(lambda s: s["state"] == "live")
        for daemon in both:
            daemon.until(partial(holds, daemon, 2))
        tell(both, signal.SIGSTOP)
        on.fill(topic, work, rows)
        tell(both, signal.SIGCONT)
        found = cost(watched(both, total), warm(work))
        for daemon in both:
            daemon.stop()
    return found


def scaling(on: Stage, taken: Taken, size: Size) -> Section:
    """One process and two on four partitions."""
    work = WORKLOADS[0]
    section = Section(
        "processes",
        "Processes of one group on four partitions: 8 sensors, window 32, hop 1, exactly_once",
        ("processes", "records", "daemon us", "records/s", "speed-up"),
    )
    single = Case(work, 4, 1, EXACTLY)
    pairs = [side_by_side(on, work, size.rows[8]) for _ in range(size.repetitions)]
    per_s = median(pair.per_s for pair in pairs)
    section.add(1, taken.costs[single][0].records, taken.cpu_us(single), taken.per_s(single), 1.0)
    section.add(
        2, pairs[0].records, median(pair.cpu_us for pair in pairs), per_s, per_s / taken.per_s(single)
    )
    section.notes.append(
        "records/s holds from the first full windows until the last of the processes is done; the broker"
        " takes its share of the same cores."
    )
    return section


def fleets(on: Stage, size: Size) -> Section:
    """The same records from ever more assets."""
    section = Section(
        "fleets",
        "What a fleet's size costs: 8 sensors, window 32, hop 1, exactly_once, one partition",
        ("assets", "records", "daemon us", "over the smallest", "target", "records/s"),
    )
    smallest = 0.0
    for assets in size.fleets:
        work = Workload(8, assets=assets, window=32)
        rows = max(FLEET_RECORDS // assets, FLEET_ROWS)
        topic = on.full_topic(work, rows, 1)
        with on.daemon(work, topic, kafka={"delivery": EXACTLY}) as daemon:
            daemon.until(lambda s: s["state"] == "live")
            found = cost(watched([daemon], assets * rows), assets * (work.window + 1))
            daemon.stop()
        smallest = smallest or found.cpu_us
        section.add(assets, found.records, found.cpu_us, found.cpu_us / smallest, FLEET_TARGET, found.per_s)
    section.notes.append("us: CPU microseconds of the process per record, all full windows.")
    return section


def peers(on: Stage, topic: str, taken: Taken, size: Size, quix_python: str | None) -> Section:
    """What a user could write instead, on the topic that the daemon had."""
    work = WORKLOADS[0]
    bare, ours = taken.limit_us(work, 1), Case(work, 1, 1, EXACTLY)
    section = Section(
        "throughput-peers",
        "Peers on the same topic: 8 sensors, one partition, one process",
        ("what", "records", "us", "ratio to limit", "records/s"),
    )

    def add(what: str, records: int, us: float, per_s: float) -> None:
        section.add(what, records, us, us / bare, per_s)

    add(
        "anomalyd, window 32, hop 1",
        taken.costs[ours][0].records,
        taken.cpu_us(ours),
        taken.per_s(ours),
    )
    arguments = (on.bootstrap, topic)
    river = separately("tests.bench.limit", "river", *arguments, str(size.river_records), *work.names)
    add("river HalfSpaceTrees, aiokafka, json: no window", river.records, river.cpu_us, river.per_s)
    if quix_python is None:
        section.notes.append(
            "quixstreams left out: name the Python of an environment that has it with --quixstreams."
        )
    else:
        quix = separately(
            "tests.bench.quix",
            *(*arguments, str(size.quix_records), str(work.window), *work.names),
            python=quix_python,
        )
        add(
            "quixstreams, mean over a sliding window of 32 s: no model", quix.records, quix.cpu_us, quix.per_s
        )
    return section


def measure(quick: bool, quix_python: str | None = None) -> Iterator[Section]:
    """All tables. ``quix_python``: an interpreter that can import quixstreams."""
    size, taken = QUICK if quick else FULL, Taken()
    with stage() as on:
        topics = {}
        for work in WORKLOADS:
            for partitions in PARTITIONS:
                topic = on.full_topic(work, size.rows[work.sensors], partitions)
                topics[work, partitions] = topic
                take_turns(on, topic, work, partitions, size, taken)
        yield end_to_end(taken)
        yield overhead(taken)
        yield scaling(on, taken, size)
        yield fleets(on, size)
        yield peers(on, topics[WORKLOADS[0], 1], taken, size, quix_python)
