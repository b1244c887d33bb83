"""How well it detects: labelled series beside peers, and the simulated fleet with known faults.

No figure looks at a label before it is judged, none is point-adjusted, and a random score, an
alarm that is always on and a score that only counts time stand in every table.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from daemon.commands.demo import DemoOptions, demo, demo_settings
from daemon.commands.replay import ReplayOptions, replay
from daemon.domain import Floats, Mask
from daemon.model.evaluation import Figures, figures, table
from tests.bench.peers import DETERMINISTIC, PEERS, Judged, judge
from tests.bench.reporting import Section
from tests.running import SHARED

SHIPPED = Path(__file__).parent / "data"
OURS = ("mlp", "ppca")
COLUMNS = (
    "detector",
    "AP",
    "AP spread",
    "F1",
    "precision",
    "recall",
    "false alarms %",
    "false episodes/day",
    "events found",
    "events",
    "fit s",
    "rows/s",
)
RULES = (
    "One thread. Medians over the seeds; AP spread is the range over them. Rows/s of anomalyd is the whole"
    " pipeline of replay (grid, scores, fills, alerts), of a peer its scoring alone. Peers are fitted on the"
    " first 70 % of train and alarm above the 0.999 quantile of their scores on the last 30 %."
)


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """A labelled series: training rows, then test rows with labels."""

    name: str
    train: pa.Table  # timestamp and sensors
    test: pa.Table
    labels: Mask

    @property
    def sensors(self) -> list[str]:
        """Every column but the time."""
        return [name for name in self.train.column_names if name != "timestamp"]

    @property
    def period_ns(self) -> int:
        """The commonest step."""
        steps = np.diff(self.test["timestamp"].cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_numpy())
        values, counts = np.unique(steps, return_counts=True)
        return int(values[counts.argmax()])

    def rows(self, part: pa.Table) -> Floats:
        """(N, C), NaN where missing."""
        columns = [part[name].cast(pa.float64()).to_numpy() for name in self.sensors]
        return np.stack(columns, 1)


def shipped() -> Iterator[Series]:
    """The real series that come with the project; see data/README.md."""
    for path in sorted(SHIPPED.glob("*.train.parquet")):
        name = path.name.removesuffix(".train.parquet")
        test = pq.read_table(path.with_name(f"{name}.test.parquet"))
        labels = test["label"].to_numpy() > 0
        yield Series(name, pq.read_table(path), test.drop_columns("label"), labels)


def kept_beside(dataset: str) -> Iterator[Series]:
    """The labelled series of a data set that is kept outside the project."""
    folder = SHARED / "data" / dataset
    meta = json.loads((folder / "meta.json").read_text())
    for name, info in meta["series"].items():
        if not info.get("labelled") or not info["split_rows"].get("test"):
            continue
        whole = pq.read_table(folder / info["file"])
        source = meta["series"][info["train_from"]]["file"] if info.get("train_from") else info["file"]
        history = pq.read_table(folder / source)
        learned = pc.not_equal(history["split"], "test")
        if "label" in history.column_names:  # what is known to be an incident is not learned
            learned = pc.and_(learned, pc.equal(history["label"].fill_null(0), 0))
        columns = ["timestamp", *info["channels"]]
        test = whole.filter(pc.equal(whole["split"], "test"))
        labels = test["label"].fill_null(0).to_numpy() > 0
        train = history.filter(learned).select(columns)
        if len(train):
            yield Series(f"{dataset}/{name}", train, test.select(columns), labels)


def ours(kind: str, series: Series, seed: int) -> Judged:
    """``anomalyd replay`` with everything derived from the training rows."""
    last_trained = began = time.perf_counter()

    def watch(share: float, doing: str) -> None:
        nonlocal last_trained
        if doing.startswith("training"):
            last_trained = time.perf_counter()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(series.train, folder / "train.parquet")
        pq.write_table(series.test, folder / "test.parquet")
        done = asyncio.run(
            replay(
                ReplayOptions(
                    folder / "test.parquet",
                    folder / "out",
                    train=folder / "train.parquet",
                    sets=[f"model.kind={kind}", f"model.seed={seed}"],
                ),
                progress=watch,
            )
        )
        found = pq.read_table(folder / "out" / "scores.parquet", columns=["score", "alarm"])
    return Judged(
        found["score"].to_numpy(),
        found["alarm"].to_numpy(zero_copy_only=False),
        last_trained - began,
        float(done.summary["rows_per_second"]),
    )


def middle(values: Sequence[float]) -> float:
    """The median of what is defined; NaN of nothing."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.median(known)) if known else float("nan")


def line(name: str, found: Sequence[Figures], runs: Sequence[Judged]) -> list[float | str | None]:
    """One detector on one series: medians over the seeds, and the spread of its AP."""
    precisions = [f.average_precision for f in found]
    return [
        name,
        middle(precisions),
        max(precisions) - min(precisions) if len(precisions) > 1 else None,
        middle([f.f1 for f in found]),
        middle([f.precision for f in found]),
        middle([f.recall for f in found]),
        100 * middle([f.false_alarm_share for f in found]),
        middle([f.false_per_day for f in found]),
        middle([f.events_found for f in found]),
        found[0].events,
        middle([run.fit_s for run in runs]) if runs else None,
        middle([run.rows_per_s for run in runs]) if runs else None,
    ]


def compare(series: Series, kinds: Sequence[str], seeds: int) -> Section:
    """Every detector on one series."""
    section = Section(
        series.name,
        f"{series.name}: {len(series.train):,} rows to learn from, {len(series.labels):,} to judge,"
        f" {len(series.sensors)} sensors, {series.labels.mean():.1%} anomalous",
        COLUMNS,
    )
    train, test = series.rows(series.train), series.rows(series.test)

    def against(peer: str) -> Callable[[int], Judged]:
        return lambda seed: judge(PEERS[peer], train, test, seed)

    def own(kind: str) -> Callable[[int], Judged]:
        return lambda seed: ours(kind, series, seed)

    detectors = {f"anomalyd {kind}": (own(kind), 1 if kind == "ppca" else seeds) for kind in kinds}
    detectors |= {peer: (against(peer), 1 if peer in DETERMINISTIC else seeds) for peer in PEERS}
    first: Judged | None = None
    for name, (run, times) in detectors.items():
        runs = [run(seed) for seed in range(times)]
        found = [figures(name, series.labels, r.scores, r.alarms, series.period_ns) for r in runs]
        section.add(*line(name, found, runs))
        first = first or runs[0]
    assert first is not None
    for f in table(series.labels, first.scores, first.alarms, series.period_ns)[1:]:
        section.add(*line(f.name, [f], []))
    return section


def overall(sections: Sequence[Section]) -> Section:
    """Means over the series; events are summed."""
    mean = Section("mean", f"Mean over {len(sections)} series", COLUMNS)
    for rows in zip(*(section.rows for section in sections), strict=True):
        cells: list[float | str | None] = [rows[0][0]]
        for column, values in zip(COLUMNS[1:], list(zip(*rows, strict=True))[1:], strict=True):
            known = [v for v in values if isinstance(v, int | float) and np.isfinite(v)]
            total = float(sum(known))
            cells.append(None if not known else total if column.startswith("events") else total / len(known))
        mean.add(*cells)
    return mean


def fleet(seeds: int) -> Section:
    """Injected against found on the demo's fleet, the VAE beside pPCA."""
    section = Section(
        "fleet",
        "The simulated fleet: 24 pumps, one day, 36 faults",
        ("model", "seed", "injected", "found", "false episodes", "budgeted"),
    )
    for kind in OURS:
        for seed in range(seeds):
            done = asyncio.run(
                demo(
                    DemoOptions(
                        seed=seed,
                        duration=timedelta(seconds=1),
                        settings=demo_settings(None, [f"model.kind={kind}", "retrain.every=null"]),
                    )
                )
            )
            section.add(
                kind,
                seed,
                done.score.injected,
                done.score.found,
                len(done.score.false),
                round(sum(done.allowed.values()), 1),
            )
    return section


def measure(quick: bool, datasets: Sequence[str], kinds: Sequence[str] = OURS) -> Iterator[Section]:
    """The shipped series, data sets kept beside the project when asked for, the fleet; each when it is done."""
    torch.set_num_threads(1)
    seeds = 1 if quick else 3
    for group in ("", *datasets):
        compared = []
        for one in kept_beside(group) if group else shipped():
            compared.append(compare(one, kinds, seeds))
            yield compared[-1]
        mean = overall(compared)
        if group:
            mean.name, mean.title = f"mean of {group}", f"{group}: {mean.title.lower()}"
        mean.notes.append(RULES)
        yield mean
    yield fleet(seeds)
