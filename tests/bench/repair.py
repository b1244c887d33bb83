"""Does an explanation name the right sensors, and the right kind of cause?

    python -m tests.bench.repair ROOT [--series asd,smd/machine-2-1] [--cases 4] [--json FILE]

ROOT keeps what takes long: a folder ``SET__SERIES`` per series with ``bundle``, ``train.parquet``
and ``test.parquet``; those of ``smd`` and ``asd`` are made where they are missing. A folder may
hold ``faults.json`` ([{kind, sensor, other, start, end}], times in ns) or ``label.npy`` (rows of a
real fault of the process); smd and asd are labelled by ``interpretation.json``.

**Repairs**: the episodes that the alarm machine opens and that overlap a labelled incident. Their
smallest repair is right if it holds a labelled sensor; beside it what as many random sensors reach.

**Verdicts**: one sensor off (injected shift, stuck, noise, drift) is a broken sensor; latents moved by
5-9 sd as the decoder moves the sensors is a new regime; three sensors or more shifted by 2-6 sd each
way is a fault of the process, and so are the labelled real ones. A verdict is published if it was
right in at least 80 % of the cases in which it was given. *Live* is what the alert itself says, a window
after the episode was opened (``Detector.verdict``); of shorter episodes it says nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.console import Console

from daemon.alarm import firing
from daemon.commands.root_cause import explained
from daemon.detector import OwnedWindow
from daemon.domain import (
    AlarmPolicy,
    Floats,
    Ints,
    Mask,
    StreamSpec,
)
from daemon.model.bundle import Bundle
from daemon.model.root_cause import Incident, RootCause
from daemon.model.track import Track
from daemon.stream.attribution import PeakEvidence, SensorEvidence
from tests.bench.attribution import trained_on
from tests.bench.reporting import Section, machine, print_section, write_json
from tests.running import SHARED

POLICY = AlarmPolicy()
FEW = 5
SINGLE = ("shift", "stuck", "noise", "drift")
CAUSE_OF = dict.fromkeys(SINGLE, "broken_sensor") | {"regime": "new_regime", "process": "process_fault"}
LASTS, CALM = 96, 100
"""Rows of an injected fault, and calm rows before it."""
MOST_EPISODES = 40


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A series with its model, scored."""

    name: str
    track: Track
    spec: StreamSpec
    labels: Sequence[tuple[int, int, str, set[int]]]  # windows from, to before, what, sensors

    @property
    def group(self) -> str:
        """The kind of set."""
        return self.name.partition("__")[0]


def rows_of(table: pa.Table, sensors: Sequence[str]) -> Floats:
    """(N, C)."""
    return np.stack([table[name].to_numpy().astype(float) for name in sensors], 1)


def times_of(table: pa.Table) -> Ints:
    """(N,) ns."""
    return np.asarray(table["timestamp"].cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_numpy())


def prepare(root: Path, dataset: str) -> None:
    """The folders of a data set with ``interpretation.json``."""
    meta = json.loads((SHARED / "data" / dataset / "meta.json").read_text())["series"]
    for name, info in meta.items():
        folder = root / f"{dataset}__{name}"
        table = pq.read_table(SHARED / "data" / dataset / info["file"])
        first = table["split"].to_pylist().index("test")
        columns = ["timestamp", *info["channels"]]
        folder.mkdir(parents=True, exist_ok=True)
        for part, rows in (("train", table.slice(0, first)), ("test", table.slice(first))):
            if not (folder / f"{part}.parquet").exists():
                pq.write_table(rows.select(columns), folder / f"{part}.parquet")
        if not (folder / "bundle").is_dir():
            asyncio.run(trained_on(folder / "train.parquet")).save(folder / "bundle")


def labels_of(folder: Path, sensors: Sequence[str], times: Ints) -> list[tuple[int, int, str, set[int]]]:
    """What is known to be wrong in the test rows."""
    dataset, _, name = folder.name.partition("__")
    told = SHARED / "data" / dataset / "interpretation.json"
    place = {sensor: c for c, sensor in enumerate(sensors)}
    if told.exists():
        meta = json.loads((told.parent / "meta.json").read_text())["series"][name]
        first = meta["rows"] - len(times)
        return [
            (
                e["row_start"] - first,
                e["row_end"] - first,
                "labelled",
                {place[c] for c in e["channels"] if c in place},
            )
            for e in json.loads(told.read_text()).get(name, [])
            if e["row_start"] >= first
        ]
    if (folder / "faults.json").exists():
        return [
            (
                int(np.searchsorted(times, f["start"])), int(np.searchsorted(times, f["end"])), f["kind"],
                {place[f[who]] for who in ("sensor", "other") if f.get(who)},
            )
            for f in json.loads((folder / "faults.json").read_text())
        ]  # fmt: skip
    if (folder / "label.npy").exists():
        edges = np.diff((np.load(folder / "label.npy") > 0).astype(int), prepend=0, append=0)
        starts, ends = np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist()
        return [(a, b, "real process", set()) for a, b in zip(starts, ends, strict=True)]
    return []


def case_of(folder: Path) -> Case:
    """A series; the last rows of training go before its test rows where these follow at once."""
    bundle = Bundle.load(folder / "bundle")
    detector = bundle.detector()
    train, test = pq.read_table(folder / "train.parquet"), pq.read_table(folder / "test.parquet")
    sensors, L = bundle.sensors, bundle.window
    times = times_of(test)
    before = rows_of(train, sensors)[-(L - 1) :]
    if len(before) < L - 1 or times[0] - times_of(train)[-1] != bundle.period_ns:
        before = np.full((L - 1, len(sensors)), np.nan)
    values = np.concatenate([before, rows_of(test, sensors)])
    track = Track.of(detector, "asset", int(times[0]) // bundle.period_ns - (L - 1), values)
    spec = StreamSpec("stream", sensors, period_ns=bundle.period_ns, window=L)
    return Case(folder.name, track, spec, labels_of(folder, sensors, times))


def incidents(track: Track, spec: StreamSpec) -> Iterator[tuple[int, int, Incident]]:
    """The episodes that the alarm machine opens: first window, the one after the last, and what explains them."""
    threshold = track.detector.threshold
    edges = np.diff(
        firing(
            track.verdicts.score,
            threshold,
            track.detector.closing,
            POLICY,
            track.verdicts.largest_jump,
        ).astype(int),
        prepend=0,
        append=0,
    )
    held = track.verdicts.score > track.detector.closing
    for first, stop in zip(
        np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True
    ):
        onset = first
        while onset > 0 and held[onset - 1]:
            onset -= 1
        closed = stop < len(track.at)
        at = [track.row(i) * spec.period_ns for i in (onset, first, stop if closed else stop - 1)]
        yield first, stop, Incident("asset", "", ("",), *at, closed, at[1], ())


def explain(
    track: Track, spec: StreamSpec, first: int, stop: int, incident: Incident
) -> tuple[RootCause, float]:
    """The product's own explanation of an episode, and how many seconds it took."""
    began = time.perf_counter()
    peak = first + int(np.nanargmax(track.verdicts.score[first:stop]))
    return explained(track, peak, incident, spec), time.perf_counter() - began


def live(track: Track, spec: StreamSpec, first: int, stop: int, incident: Incident) -> str | None:
    """The verdict that the first update of an episode carries; None if it carries none."""
    detector, at = track.detector, first + spec.window
    if at >= stop:
        return None
    onset = track.index_from(incident.onset_ns // spec.period_ns)
    peaks: PeakEvidence | None = None
    for i in range(onset, at + 1):
        window = track.window(i)
        row = SensorEvidence.read(
            track.verdicts.error[i],
            track.evidence.residual[i],
            detector.scaling.of(window),
            window[-1],
            track.evidence.expected[i],
        )
        peaks = PeakEvidence.since(row) if peaks is None else peaks.grown(row)
    assert peaks is not None
    assert track.verdicts.offsets is not None
    return detector.verdict(
        OwnedWindow(detector.scaling.of(track.window(at)), track.asset, track.condition[int(track.at[at])]),
        track.verdicts.offsets[at],
        np.nan_to_num(peaks.before),
        peaks.shares(),
    )


def by_chance(sensors: int, true: int, drawn: int) -> float:
    """How often so many random sensors hold a labelled one."""
    return 1.0 - comb(sensors - true, drawn) / comb(sensors, drawn)


# ------------------------------------------------------------------ injected faults
def moved_latents(rng: np.random.Generator, track: Track, i: int) -> Floats | None:
    """Rows from window ``i`` on, moved as the decoder moves them with one latent; None if none is a level."""
    models, drift = track.detector.models, track.detector.drift
    z = torch.from_numpy(track.evidence.posterior[i : i + LASTS]).float()
    sd = np.sqrt(drift.latent_variance)

    def decoded(latents: torch.Tensor) -> Floats:
        with torch.inference_mode():
            flat = models.pcas[-1].decode(latents) if models.vae is None else models.vae.decode(latents, None)
        return np.asarray(flat.numpy().reshape(len(latents), models.window, -1).astype(float))

    whole = decoded(z)

    def change(d: int, size: float) -> Floats:
        there = z.clone()
        there[:, d] += size * float(sd[d])
        return decoded(there) - whole

    levels = []
    for d in np.flatnonzero(sd > 0.1).tolist():
        moved = change(d, 4.0)
        if (moved.mean(1) ** 2).sum() * models.window > 0.8 * (moved**2).sum():
            levels.append(d)
    if not levels:
        return None
    moved = change(int(rng.choice(levels)), rng.uniform(5, 9) * rng.choice([-1, 1])).mean(1)
    rows = track.values[track.at[i] : track.at[i] + LASTS]
    return np.asarray(rows + ramp(rng, (1, 16, 32)) * moved * models.scaler.scale)


def ramp(rng: np.random.Generator, rows: tuple[int, ...]) -> Floats:
    """(LASTS, 1) up to 1 within one of some numbers of rows."""
    return np.minimum(np.arange(1, LASTS + 1) / rng.choice(rows), 1.0)[:, None]


def spoiled(kind: str, rng: np.random.Generator, case: Case, i: int, sd: Floats) -> Floats | None:
    """The rows from window ``i`` on with a fault; None where there can be none of the kind."""
    track = case.track
    if kind == "regime":
        return moved_latents(rng, track, i)
    rows = track.values[track.at[i] : track.at[i] + LASTS].copy()
    moving = np.flatnonzero(sd > 0)
    c, size = int(rng.choice(moving)), rng.uniform(3, 8) * rng.choice([-1, 1])
    if kind == "shift":
        rows[:, c] += size * sd[c]
    elif kind == "drift":
        rows[:, c] += size * sd[c] * np.minimum(np.arange(LASTS) / (0.7 * LASTS), 1.0)
    elif kind == "noise":
        rows[:, c] += 0.7 * size * sd[c] * rng.standard_normal(LASTS)
    elif kind == "stuck":
        rows[:, c] = rows[0, c]
    else:
        many = int(rng.integers(3, max(len(moving) // 2, 3) + 1))
        chosen = rng.choice(moving, min(many, len(moving)), replace=False)
        sizes = rng.uniform(2, 6, len(chosen)) * rng.choice([-1, 1], len(chosen))
        rows[:, chosen] += ramp(rng, (1, 8, 24)) * sizes * sd[chosen]
    return rows


def injected(case: Case, folder: Path, cases: int) -> Iterator[tuple[str, str, str | None]]:
    """Faults put on calm rows that opened an episode: their kind, the verdict on them, and the live one."""
    track, L = case.track, case.spec.window
    rng = np.random.default_rng([0, *case.name.encode()])
    sd = np.nanstd(rows_of(pq.read_table(folder / "train.parquet"), case.spec.sensors), axis=0)
    loud: Mask = track.verdicts.score > track.detector.closing
    for first, stop, _, _ in case.labels:
        loud[max(first - 60, 0) : stop + 60] = True
    until = np.convolve(loud, np.ones(CALM + LASTS), "valid") == 0
    starts = np.flatnonzero(until) + CALM
    if not len(starts):
        return
    for kind in (*SINGLE, "regime", "process"):
        for _ in range(cases if kind in SINGLE else 3 * cases):
            i = int(rng.choice(starts))
            rows = spoiled(kind, rng, case, i, sd)
            if rows is None:
                continue
            a = int(track.at[i])
            whole = np.concatenate([track.values[a - CALM : a], rows])
            again = Track.of(track.detector, "asset", track.first_row + a - CALM, whole)
            found = [e for e in incidents(again, case.spec) if e[1] > CALM - L + 1]
            if found:
                cause = explain(again, case.spec, *found[0])[0].verdict.cause
                yield kind, str(cause), live(again, case.spec, *found[0])


# ------------------------------------------------------------------ tables
def measure(root: Path, wanted: Sequence[str], cases: int) -> Iterator[Section]:
    """All tables."""
    repairs = Section(
        "repair",
        "Smallest repair of labelled episodes",
        ("series", "episodes", "of 5 or fewer", "right, of these", "first 5 right, of all", "right and 5 or fewer, of all",
         "by chance, of all", "labelled sensors", "median s", "worst s"),
    )  # fmt: skip
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    pooled: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for folder in sorted(path.parent for path in root.glob("*__*/test.parquet")):
        dataset, _, name = folder.name.partition("__")
        if wanted and dataset not in wanted and f"{dataset}/{name}" not in wanted:
            continue
        case = case_of(folder)
        mine: list[tuple[Any, ...]] = []
        for first, stop, incident in incidents(case.track, case.spec):
            over = [x for x in case.labels if x[0] < stop and x[1] + case.spec.window // 2 > first]
            if not over or len(mine) >= MOST_EPISODES:
                continue
            true = set().union(*(x[3] for x in over))
            what = over[0][2]
            found, seconds = explain(case.track, case.spec, first, stop, incident)
            cause = str(found.verdict.cause)
            if what == "labelled":
                what = (
                    "labelled, 1" if len(true) == 1 else "labelled, 2" if len(true) == 2 else "labelled, 3+"
                )
            counts[dataset, what][cause] += 1
            counts[dataset, what][f"live {live(case.track, case.spec, first, stop, incident)}"] += 1
            mine.append((found.repair.sensors, true, len(case.spec.sensors), seconds))
        if mine and mine[0][1]:
            repairs.add(*line(name if dataset in {"smd", "asd"} else folder.name, mine))
            pooled[dataset] += mine
        for kind, cause, said in injected(case, folder, cases):
            counts[dataset, kind][cause] += 1
            counts[dataset, kind][f"live {said}"] += 1
        print(folder.name, len(mine), flush=True)
    for dataset, all_of in pooled.items():
        repairs.add(*line(f"all {dataset}", all_of))
    yield repairs
    yield from verdicts(counts)


def line(name: str, mine: Sequence[tuple[Any, ...]]) -> list[float | str | int | None]:
    """One line of the repairs."""
    few = [bool(set(r) & true) for r, true, _, _ in mine if len(r) <= FEW]
    return [
        name,
        len(mine),
        len(few),
        float(np.mean(few)) if few else None,
        float(np.mean([bool(set(r[:FEW]) & true) for r, true, _, _ in mine])),
        float(np.mean([len(r) <= FEW and bool(set(r) & true) for r, true, _, _ in mine])),
        float(np.mean([by_chance(C, len(true), min(len(r), FEW)) for r, true, C, _ in mine])),
        float(np.mean([len(true) for _, true, _, _ in mine])),
        float(np.median([s for *_, s in mine])),
        float(np.max([s for *_, s in mine])),
    ]


def verdicts(counts: dict[tuple[str, str], Counter[str]]) -> Iterator[Section]:
    """What was said of which kind of case, and how often each verdict was right."""
    given = ("broken_sensor", "process_fault", "new_regime", "live process_fault")
    table = Section("verdicts", "Verdicts by case", ("set", "case", "n", *given, "right"))
    right: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for (dataset, kind), said in sorted(counts.items()):
        true = truth(dataset, kind)
        n = sum(count for name, count in said.items() if not name.startswith("live "))
        table.add(dataset, kind, n, *(said[g] for g in given), said[true] / n if true else None)
        for g in given if true else ():
            right[g, dataset][0] += said[g] if g.removeprefix("live ") == true else 0
            right[g, dataset][1] += said[g]
    yield table
    precision = Section(
        "precision", "How often a verdict was right, where it was given", ("verdict", "set", "given", "right")
    )
    for g in given:
        mine = {dataset: pair for (verdict, dataset), pair in right.items() if verdict == g and pair[1]}
        for dataset, (good, all_of) in sorted(mine.items()):
            precision.add(g, dataset, all_of, good / all_of)
        if mine:
            total = np.sum(list(mine.values()), axis=0)
            precision.add(g, "all cases", int(total[1]), float(total[0] / total[1]))
            precision.add(g, "mean over sets", len(mine), float(np.mean([a / b for a, b in mine.values()])))
    yield precision


def truth(dataset: str, kind: str) -> str | None:
    """The cause that a label stands for; None where it leaves it open."""
    if kind in CAUSE_OF:
        return CAUSE_OF[kind]
    if kind in {"labelled, 1", "offset", "spike", "lag", "dropout"}:
        return "broken_sensor"
    if kind in {"labelled, 3+", "real process", "swap"}:
        return "process_fault"
    return None  # two sensors; a leak or a decline that the simulation puts on one sensor


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.repair",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("root", type=Path, metavar="ROOT")
    parser.add_argument(
        "--series", default="asd,smd", help="sets or SET/SERIES, comma-separated; empty: all in ROOT"
    )
    parser.add_argument("--cases", type=int, default=4, help="injected cases per kind and series")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    wanted = [name for name in given.series.split(",") if name]
    for dataset in ("asd", "smd"):
        if not wanted or dataset in wanted:
            prepare(given.root, dataset)
    sections = []
    console = Console(width=160)
    for section in measure(given.root, wanted, given.cases):
        sections.append(section)
        print_section(console, section)
    if given.json is not None:
        write_json(given.json, sections, machine())


if __name__ == "__main__":
    main()
