"""``python -m tests.bench.draws ROOT``: how true the draws of ``impute --draws`` are to what was hidden.

ROOT holds ``data/<set>/meta.json`` with Parquet series beside it. What relates the sensors is learned from a series' training
rows; known cells of later rows without labelled anomalies are hidden in the ways readings are lost, and
drawn. The columns:

- ``cover``: the share of hidden cells inside the published 90 % interval, and ``drawn``: inside the
  interval that takes (D + 1) p of the D draws themselves (with 19 draws their least and greatest).
- ``ES``: the energy score (Gneiting & Raftery 2007) over the cells of a gap, in training sd, of joint draws over
  that of draws of the same marginals that know nothing of each other: below 1 is better. ``VS``: the
  same of the variogram score of order 0.5 (Scheuerer & Hamill 2015), which is more sensitive to what
  belongs together. A gap is what is hidden in consecutive rows, at most 32 of them.
- ``MAE``: of the imputed value, in training sd; ``rough``: the draws' mean absolute step from row to
  row over the truth's, where both rows are hidden, joint and independent.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console

from daemon.domain import Floats, Mask, Segment, StreamSpec
from daemon.model.draws import DrawSettings, GappedSegment, draw
from daemon.model.imputation import WeekClock, fit, impute_segments
from daemon.model.scaler import Scaler
from tests.bench.reporting import Section, print_section, shown

SETS = ("skab", "smd", "asd", "hydraulic", "lbnl_ahu", "airquality_uci")
PATTERNS = ("pt10", "pt30", "burst", "tail", "outage", "dead")
TRAIN, TEST = 12_000, 1_500
"""Rows, at most."""
GAP_ROWS = 32
SPEC = StreamSpec("bench", (), window=32)
CLOCK = WeekClock.of(SPEC)  # the series stand on a grid of one second: without habits
COLUMNS = ("set", "pattern", "cells", "MAE", "cover", "drawn", "ES", "VS", "rough", "rough indep.", "s")


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Rows to learn from and rows to hide cells of, NaN where missing."""

    name: str
    train: Floats
    test: Floats


def series_of(root: Path, name: str, most: int) -> Iterator[Series]:
    """The first series of a set, training rows and later ones without a labelled anomaly."""
    folder = root / "data" / name
    found = 0
    for series, info in json.loads((folder / "meta.json").read_text())["series"].items():
        table = pq.read_table(folder / info["file"])
        values = np.stack([table[c].to_numpy().astype(np.float64) for c in info["channels"]], 1)
        split = np.array(table["split"].to_pylist())
        label = table["label"].to_numpy() if "label" in table.column_names else np.zeros(len(values))
        train, test = (split == "train") & (label == 0), (split == "calib") & (label == 0)
        if name == "airquality_uci":
            train, test = split != "test", split == "test"
        if test.sum() < 200 or train.sum() < 500:
            continue
        yield Series(f"{name}/{series}", values[train][-TRAIN:], values[test][:TEST])
        found += 1
        if found == most:
            return


def hidden_parts(pattern: str, values: Floats, g: np.random.Generator) -> tuple[list[Floats], list[Mask]]:
    """The rows in segments that know nothing of each other, and which known cells of each are hidden."""
    rows, sensors = values.shape
    parts = [values]
    masks = [np.zeros(values.shape, bool)]
    if pattern in ("pt10", "pt30"):
        masks = [g.random(values.shape) < int(pattern[2:]) / 100]
    elif pattern == "burst":
        while masks[0].mean() < 0.1:
            begin, several = g.integers(0, rows), g.integers(1, max(sensors // 3, 1) + 1)
            masks[0][begin : begin + g.integers(5, 51), g.choice(sensors, several, replace=False)] = True
    elif pattern == "outage":  # long ones, and twice everything at once
        for channel in range(0, sensors, 3):
            begin = g.integers(0, rows - 300)
            masks[0][begin : begin + g.integers(100, 300), channel] = True
        for _ in range(2):
            begin = g.integers(0, rows - 60)
            masks[0][begin : begin + 40] = True
    elif pattern == "tail":
        starts = np.linspace(0, rows - 64, min(20, rows // 64)).astype(int)
        parts = [values[s : s + 64] for s in starts]
        masks = [np.zeros(p.shape, bool) for p in parts]
        for mask in masks:
            mask[-8:, g.choice(sensors, max(sensors // 2, 1), replace=False)] = True
    else:
        edges = np.linspace(0, rows, min(sensors, 8) + 1).astype(int)
        parts = [values[a:b] for a, b in pairwise(edges)]
        masks = [np.zeros(p.shape, bool) for p in parts]
        for channel, mask in zip(g.permutation(sensors), masks, strict=False):
            mask[:, channel] = True
    return parts, [m & np.isfinite(p) for m, p in zip(masks, parts, strict=True)]


def energy(draws: Floats, truth: Floats) -> float:
    """Of draws (n, D) of a vector (n,)."""
    count = draws.shape[1]
    near = np.sqrt(((draws - truth[:, None]) ** 2).sum(0)).mean()
    squares = (draws * draws).sum(0)
    apart = np.sqrt(np.maximum(squares[:, None] + squares - 2 * draws.T @ draws, 0.0)).sum()
    return float(near - apart / (2 * count * (count - 1)))


def variogram(draws: Floats, truth: Floats) -> float:
    """Of order 0.5, per pair; of the first 64 cells."""
    draws, truth = draws[:64], truth[:64]
    expected = np.mean([np.sqrt(np.abs(d[:, None] - d)) for d in draws.T], axis=0)
    return float(((np.sqrt(np.abs(truth[:, None] - truth)) - expected) ** 2).mean())


def measure(series: Series, pattern: str, count: int, seed: int = 0) -> dict[str, float]:
    """Sums over one case; see ``rows_of`` for what they become."""
    g = np.random.default_rng(zlib.crc32(f"{series.name}/{pattern}".encode()))
    history = [Segment("train", 0, series.train)]
    scaler = Scaler.fit([series.train], ())
    parameters = fit(history, scaler.mean, scaler.scale, SPEC)
    parts, masks = hidden_parts(pattern, series.test, g)
    scored = parameters.seen & (np.nanstd(series.train, axis=0) > 1e-6)
    segments = [
        Segment(f"part-{i}", 0, np.where(m, np.nan, p))
        for i, (p, m) in enumerate(zip(parts, masks, strict=True))
    ]
    fills = impute_segments(parameters, segments, CLOCK)
    wanted = [m & scored for m in masks]
    sums = dict.fromkeys(
        ("cells", "error", "cover", "drawn", "joint", "apart", "v_joint", "v_apart", "gaps"), 0.0
    )
    sums |= dict.fromkeys(("step", "step_joint", "step_apart"), 0.0)
    began = time.perf_counter()
    found = {}
    gapped = [GappedSegment(*one) for one in zip(segments, fills, wanted, strict=True)]
    for joint in (True, False):
        found[joint] = list(draw(parameters, gapped, DrawSettings(count, seed, joint), CLOCK))
        if joint:
            sums["seconds"] = time.perf_counter() - began
    for s, part in enumerate(parts):
        paths = {}
        for joint in (True, False):
            paths[joint] = np.full((*part.shape, count), np.nan)
            for d in found[joint]:
                if d.segment == s:
                    paths[joint][d.rows, d.channels] = d.values
                    if joint:
                        truth = part[d.rows, d.channels]
                        scale = parameters.scale[d.channels]
                        sums["cells"] += len(truth)
                        slack = 1e-9 * np.maximum(np.abs(truth), 1.0)
                        sums["cover"] += ((d.low - slack <= truth) & (truth <= d.high + slack)).sum()
                        low, high = np.quantile(d.values, [0.05, 0.95], axis=1, method="weibull")
                        sums["drawn"] += ((low - slack <= truth) & (truth <= high + slack)).sum()
                        sums["error"] += (np.abs(fills[s].value[d.rows, d.channels] - truth) / scale).sum()
        rows = np.flatnonzero(wanted[s].any(1))
        runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(rows) else []
        for run in runs:
            for at in range(0, len(run), GAP_ROWS):
                some = run[at : at + GAP_ROWS]
                row, channel = np.nonzero(wanted[s][some])
                row = some[row]
                if len(row) < 2:
                    continue
                unit = parameters.scale[channel]
                truth = part[row, channel] / unit
                for joint, name in ((True, "joint"), (False, "apart")):
                    drawn = paths[joint][row, channel] / unit[:, None]
                    sums[name] += energy(drawn, truth)
                    sums[f"v_{name}"] += variogram(drawn, truth)
                sums["gaps"] += 1
        both = wanted[s][1:] & wanted[s][:-1]
        unit = parameters.scale
        sums["step"] += (np.abs(np.diff(part, axis=0)) / unit)[both].sum()
        for joint, name in ((True, "joint"), (False, "apart")):
            sums[f"step_{name}"] += (np.abs(np.diff(paths[joint], axis=0)).mean(2) / unit)[both].sum()
    return sums


def ratio(a: float, b: float) -> float:
    """NaN where there is nothing to compare."""
    return a / b if b else float("nan")


def row_of(name: str, pattern: str, s: dict[str, float]) -> list[float | int | str | None]:
    """Sums as a line of the table."""
    return [
        name, pattern, int(s["cells"]), ratio(s["error"], s["cells"]), ratio(s["cover"], s["cells"]),
        ratio(s["drawn"], s["cells"]), ratio(s["joint"], s["apart"]), ratio(s["v_joint"], s["v_apart"]),
        ratio(s["step_joint"], s["step"]), ratio(s["step_apart"], s["step"]), s["seconds"],
    ]  # fmt: skip


def added(many: list[dict[str, float]]) -> dict[str, float]:
    """Sums over cases."""
    return {key: sum(one[key] for one in many) for key in many[0]}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--datasets", default=",".join(SETS))
    parser.add_argument("--patterns", default=",".join(PATTERNS))
    parser.add_argument("--series", type=int, default=2, help="of each set, at most")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    section = Section("draws", f"{given.draws} draws of hidden cells", COLUMNS)
    every: list[dict[str, float]] = []
    for name in given.datasets.split(","):
        of_set: list[dict[str, float]] = []
        series = list(series_of(given.root, name, given.series))
        for pattern in given.patterns.split(","):
            cases = [measure(one, pattern, given.draws) for one in series]
            section.add(*row_of(name, pattern, added(cases)))
            print(*map(shown, section.rows[-1]), file=sys.stderr, flush=True)  # it takes a while
            of_set += cases
        section.add(*row_of(name, "all", added(of_set)))
        every += of_set
    section.add(*row_of("all", "all", added(every)))
    console = Console()
    if not console.is_terminal:
        console.width = 160
    print_section(console, section)
    if given.json is not None:
        given.json.write_text(
            json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in section.rows], indent=1)
        )


if __name__ == "__main__":
    main()
