"""How well it detects: the simulated fleet with known faults, and labelled files where there are any."""

from __future__ import annotations

import asyncio
import json
import tempfile
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq

from daemon.demo import demo, demo_settings
from daemon.replay import replay
from tests.bench.reporting import Section
from tests.running import SHARED


def fleet(seeds: int) -> Section:
    """Injected against found on the demo's fleet, the VAE beside pPCA."""
    section = Section(
        "fleet",
        "The simulated fleet: 24 pumps, one day, 36 faults",
        ("model", "seed", "injected", "found", "false episodes", "budgeted"),
    )
    for kind in ("mlp", "ppca"):
        for seed in range(seeds):
            done = asyncio.run(
                demo(
                    seed=seed,
                    duration=timedelta(seconds=1),
                    settings=demo_settings(None, [f"model.kind={kind}", "retrain.every=null"]),
                )
            )
            section.add(
                kind,
                seed,
                done.score.injected,
                done.score.found,
                len(done.score.false),
                round(done.allowed, 1),
            )
    return section


def labelled(datasets: list[str]) -> list[Section]:
    """Every labelled series of the data sets kept outside the project: ours, pPCA and three baselines."""
    sections = []
    for name in datasets:
        meta = json.loads((SHARED / "data" / name / "meta.json").read_text())
        section = Section(
            name, f"{name}: labelled series", ("series", "detector", "AP", "F1", "false/day", "events found")
        )
        for series, info in meta["series"].items():
            if not info.get("labelled") or not info["split_rows"].get("test") or info.get("train_from"):
                continue
            table = pq.read_table(SHARED / "data" / name / info["file"])
            kept = ["timestamp", *info["channels"]]
            split = table["split"].to_pylist()
            with tempfile.TemporaryDirectory() as folder:
                train, test = Path(folder) / "train.parquet", Path(folder) / "test.parquet"
                pq.write_table(table.filter([s != "test" for s in split]).select(kept), train)
                pq.write_table(table.filter([s == "test" for s in split]).select([*kept, "label"]), test)
                done = asyncio.run(replay(test, Path(folder) / "out", train=train, label="label"))
            for f in done.figures:
                section.add(
                    series,
                    f.name,
                    f.average_precision,
                    f.f1,
                    f.false_per_day,
                    f"{f.events_found} of {f.events}",
                )
        sections.append(section)
    return sections


def measure(quick: bool, datasets: list[str]) -> list[Section]:
    """The fleet always; labelled series when they are asked for."""
    return [fleet(1 if quick else 3), *labelled(datasets)]
