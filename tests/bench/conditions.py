"""What a condition is worth, and whether a new asset of a known type is judged as if it were known.

    python -m tests.bench.conditions ROOT [--kind mlp] [--rows 3000] [--only asd,fleet,likelihood] [--assets 4]

ROOT holds ``data/<set>/meta.json`` with Parquet files beside it. Three tables:

* held-out likelihood, nats per observed cell, of blocks that alternate with the training blocks: without
  the condition, under it, and under it as if it were unknown. Where a set has no condition of its own,
  the hour, the station or a mode that a sensor shows stands for one;
* leave one asset out: average precision of an asset that the fleet's model knew, and of the same asset
  under a model of all others: real servers of one kind, and a simulated fleet with types.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from daemon.budget import Budget
from daemon.calendar import Calendar
from daemon.domain import SECOND_NS, AlarmPolicy, Floats, Mask, ModelSettings, Segment, StreamSpec
from daemon.model.conditions import learned_labels
from daemon.model.evaluation import average_precision
from daemon.model.promotion import scores_of
from daemon.model.segments import Piece, sample_windows
from daemon.model.soundness import likelihood
from daemon.model.training import Architecture, CalibrationTarget, fit_models, train
from tests.bench.reporting import Section

BLOCKS = 10
WINDOW = 16
OF_A_TYPE = 10
"""Machines of each type in the simulated fleet. With three, two are left to learn a type from, and what is
missing is not the level of the new one but the third machine's rows: AP is .03 lower."""


# ------------------------------------------------------------------ the simulated fleet
TYPES = {
    "small": ((30.0, 2.5, 960.0, 12.0), 0.6, 1.0),
    "medium": ((50.0, 4.0, 1450.0, 20.0), 1.0, 1.0),
    "large": ((80.0, 6.0, 2900.0, 35.0), 1.6, -1.0),
}
"""Level of the four sensors, how strongly the first follows the load, and whether the second does so inversely."""


@dataclass(frozen=True, slots=True, eq=False)
class Machine:
    """One asset: rows to learn from, rows to judge, and which of these are wrong."""

    known: Segment
    test: Segment
    labels: Mask


def machine(name: str, kind: str, seed: int, rows: int = 1_000) -> Machine:
    """One asset of a type, healthy and then with faults: a level, a swing that stops, a sensor that follows
    the wrong way."""
    rng = np.random.default_rng(seed)
    base, gain, sign = TYPES[kind]
    n = 2 * rows
    load = np.convolve(rng.standard_normal(n + 60), np.exp(-np.arange(60) / 20.0), "valid")[:n]
    load = (load - load.mean()) / load.std()
    warm = np.convolve(np.concatenate([np.zeros(59), load]), np.ones(60) / 60.0, "valid")
    own = 1.0 + 0.02 * rng.standard_normal(4)  # no two machines are the same
    values = np.array(base) * own + np.stack(
        [6.0 * gain * load, 0.4 * sign * load, 20.0 * load, 2.0 * warm], 1
    )
    values += rng.standard_normal((n, 4)) * [1.0, 0.05, 6.0, 0.2]
    labels = np.zeros(n, bool)
    for i, at in enumerate(range(rows + 100, n - 60, 180)):
        part = slice(at, at + 40)
        labels[part] = True
        if i % 3 == 0:
            values[part, 1] += 0.6 * sign
        elif i % 3 == 1:
            values[part, 0] = values[at, 0]
        else:
            values[part, 2] = 2.0 * base[2] * own[2] - values[part, 2]
    told = (f"type={kind}",) * rows
    return Machine(
        Segment(name, 0, values[:rows], told), Segment(name, rows, values[rows:], told), labels[rows:]
    )


def fleet(each: int = 3, rows: int = 1_000) -> list[Machine]:
    """``each`` machines of every type."""
    return [
        machine(f"{kind}-{i}", kind, 10 * i + k, rows) for i in range(each) for k, kind in enumerate(TYPES)
    ]


# ------------------------------------------------------------------ leave one asset out
def left_out(
    machines: Sequence[Machine], spec: StreamSpec, settings: ModelSettings, who: Sequence[int]
) -> list[tuple[str, float, float]]:
    """(asset, AP under the model that knew it, AP under a model of the others), from the first whole window."""

    def judged(history: list[Segment], one: Machine) -> float:
        bundle = train(history, spec, settings, CalibrationTarget(AlarmPolicy(), Budget(1.0), 60))
        scores = scores_of(bundle.detector(), one.test)
        return average_precision(one.labels[WINDOW - 1 :], scores[WINDOW - 1 :])

    whole = train(
        [m.known for m in machines], spec, settings, CalibrationTarget(AlarmPolicy(), Budget(1.0), 60)
    ).detector()
    found = []
    for i in who:
        one = machines[i]
        knew = average_precision(one.labels[WINDOW - 1 :], scores_of(whole, one.test)[WINDOW - 1 :])
        found.append((one.known.asset, knew, judged([m.known for m in machines if m is not one], one)))
    return found


def leave_one_out(name: str, rows: list[tuple[str, float, float]]) -> Section:
    """As a table, with the mean below."""
    section = Section(
        f"left out, {name}", f"{name}: one asset left out", ("asset", "AP known", "AP new", "difference")
    )
    for asset, knew, new in rows:
        section.add(asset, knew, new, new - knew)
    knew, new = (float(np.mean([row[k] for row in rows])) for k in (1, 2))
    section.add("mean", knew, new, new - knew)
    return section


def servers(root: Path, rows: int) -> list[Machine]:
    """The servers of asd, each an asset of one kind: the newest ``rows`` of training, and all of test."""
    folder = root / "data" / "asd"
    found = []
    for name, info in json.loads((folder / "meta.json").read_text())["series"].items():
        table = pq.read_table(folder / info["file"])
        values = columns(table, info["channels"])
        test = np.array(table["split"].to_pylist()) == "test"
        known = np.flatnonzero(~test)[-rows:]
        labels = np.asarray(table["label"].fill_null(0).to_numpy() > 0)
        found.append(
            Machine(
                Segment(name, int(known[0]), values[known]),
                Segment(name, int(np.flatnonzero(test)[0]), values[test]),
                labels[test],
            )
        )
    return found


# ------------------------------------------------------------------ likelihood
def columns(table: pa.Table, names: Sequence[str]) -> Floats:
    """(N, C), NaN where missing."""
    return np.stack([np.array(table[name].cast(pa.float64()).to_numpy(), float) for name in names], 1)


def cases(root: Path, most: int) -> Iterator[tuple[str, list[Segment]]]:
    """Sets with a condition: (what it is, segments with labels)."""

    def read(dataset: str, series: str) -> tuple[pa.Table, list[str]]:
        folder = root / "data" / dataset
        info = json.loads((folder / "meta.json").read_text())["series"][series]
        table = pq.read_table(folder / info["file"])
        table = table.filter(pa.compute.not_equal(table["split"], "test"))
        return table.slice(0, most), list(info["channels"])

    def hours(table: pa.Table) -> tuple[str, ...]:
        minutes = table["timestamp"].cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_numpy() // (
            60 * SECOND_NS
        )
        spec = StreamSpec("s", ("x",), condition=("$hour",), period_ns=60 * SECOND_NS)
        return tuple(Calendar(spec).labels([""] * len(minutes), minutes))

    yield "simulated fleet, type", [m.known for m in fleet(3, 1_500)]
    for dataset, series in (("lbnl_ahu", "mzvav-2-1"), ("ett", "ETTh1"), ("airquality_uci", "city")):
        if (root / "data" / dataset).is_dir():
            table, names = read(dataset, series)
            yield f"{dataset}, $hour", [Segment(series, 0, columns(table, names), hours(table))]
    if (root / "data" / "lbnl_ahu").is_dir():
        table, names = read("lbnl_ahu", "mzvav-2-1")
        mode = next(name for name in names if "Occupancy" in name)
        told = tuple(f"occupied={v:g}" for v in table[mode].to_pylist())
        rest = [name for name in names if name != mode]
        yield "lbnl_ahu, occupancy", [Segment("ahu", 0, columns(table, rest), told)]
    for dataset, some in (
        ("hydraulic", ("cooler3", "cooler20")),
        ("beijing_air", ("Aotizhongxin", "Guanyuan")),
    ):
        if (root / "data" / dataset).is_dir():
            segments = []
            for series in some:
                table, names = read(dataset, series)
                values = columns(table, names)[: most // 2]
                segments.append(Segment(series, 0, values, (f"type={series}",) * len(values)))
            yield f"{dataset}, type", segments


def worth(name: str, history: list[Segment], settings: ModelSettings) -> list[str | float]:
    """Likelihood of held-out blocks: without the condition, under it, and as if it were unknown."""
    fitted, held = [], []
    for i, segment in enumerate(history):
        cuts = [len(segment.values) * j // BLOCKS for j in range(BLOCKS + 1)]
        for j in range(BLOCKS):
            (held if j % 2 else fitted).append(Piece(i, cuts[j], cuts[j + 1]))
    channels = history[0].values.shape[1]
    spec = StreamSpec("s", tuple(f"s{c}" for c in range(channels)), window=WINDOW)
    labels = learned_labels(history, fitted, WINDOW)
    plain = [Segment(s.asset, s.first_row, s.values) for s in history]
    windows, conditions = sample_windows(history, held, WINDOW, 3_000)
    without = fit_models(plain, fitted, spec, Architecture(settings, (4, WINDOW)))
    models = fit_models(history, fitted, spec, Architecture(settings, (4, WINDOW), labels))
    found = [
        likelihood(m, windows, told).per_cell
        for m, told in ((without, conditions), (models, conditions), (models, ["?"] * len(conditions)))
    ]
    return [name, len(labels), *found]


# ------------------------------------------------------------------ all of it
def measure(root: Path, kind: str, rows: int, only: Sequence[str], most_assets: int) -> Iterator[Section]:
    """Each table when it is done."""
    torch.set_num_threads(1)
    settings = ModelSettings(kind=kind)
    if "fleet" in only:
        machines = fleet(OF_A_TYPE)
        spec = StreamSpec("fleet", ("a", "b", "c", "d"), period_ns=60 * SECOND_NS, condition=("type",))
        who = [7 * i % len(machines) for i in range(min(most_assets, len(machines)))]  # of all types in turn
        yield leave_one_out(f"simulated fleet with types ({kind})", left_out(machines, spec, settings, who))
    if "asd" in only and (root / "data" / "asd").is_dir():
        machines = servers(root, rows)
        names = tuple(f"metric_{c + 1}" for c in range(machines[0].known.values.shape[1]))
        spec = StreamSpec("servers", names, period_ns=300 * SECOND_NS)
        who = range(min(most_assets, len(machines)))
        yield leave_one_out(f"asd ({kind})", left_out(machines, spec, settings, who))
    if "likelihood" in only:
        section = Section(
            "likelihood",
            f"Held-out likelihood, nats per observed cell ({kind})",
            ("set and condition", "labels", "without", "under it", "as unknown"),
        )
        for name, history in cases(root, 12_000):
            section.add(*worth(name, history, settings))
        yield section


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--kind", default="mlp")
    parser.add_argument("--rows", type=int, default=3_000, help="of each server that are learned from")
    parser.add_argument("--only", default="fleet,asd,likelihood")
    parser.add_argument("--assets", type=int, default=4, help="how many are left out, one after the other")
    given = parser.parse_args()
    for found in measure(given.root, given.kind, given.rows, given.only.split(","), given.assets):
        print(found.title)
        for row in [list(found.columns), *found.rows]:
            print("  ".join(f"{c:.4f}" if isinstance(c, float) else str(c) for c in row), flush=True)
