"""Does an alert blame the right sensors? HitRate@P of the published shares, beside chance.

For each labelled incident the sensors are ranked as an episode over its rows would rank them
(those of the incident alone: no search for the best row), and HitRate@100 (150) is the part of the G
truly involved sensors that is found among the first G (1.5 G) of them (OmniAnomaly, Su et al.
2019; per incident as in InterFusion, Li et al. 2021).
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from daemon.commands.derive import plan_for, settings_for
from daemon.commands.file_history import history_of
from daemon.commands.inputs import FileOptions
from daemon.commands.train import train_on
from daemon.detector import Windows
from daemon.domain import Floats
from daemon.model.bundle import Bundle
from daemon.model.detector import BundleDetector
from daemon.model.segments import sliding
from daemon.stream.attribution import PeakEvidence, SensorEvidence
from tests.bench.reporting import Section
from tests.running import SHARED

CHUNK = 2048


def evidence_of(detector: BundleDetector, values: Floats) -> list[SensorEvidence]:
    """What each full window of (N, C) raw rows says of the sensors, as the stream would read it."""
    windows = sliding(values, detector.window)
    state = detector.fresh_baseline("")[None]
    found: list[SensorEvidence] = []
    for at in range(0, len(windows), CHUNK):
        some = windows[at : at + CHUNK]
        whole = Windows(some, np.ones(len(some), bool), ("",) * len(some))
        evidence = detector.infer(whole)
        verdicts = detector.judge(evidence, state, np.zeros(len(some), np.int64))
        found += [
            SensorEvidence.read(error, residual, detector.scaling.of(window), window[-1], expected)
            for error, residual, window, expected in zip(
                verdicts.error, evidence.residual, some, evidence.expected, strict=True
            )
        ]
    return found


def hit_rate(ranked: list[int], true: set[int], share: float) -> float:
    """The part of ``true`` among the first ``share * |true|`` of ``ranked``."""
    return len(set(ranked[: int(share * len(true))]) & true) / len(true)


def incidents(
    rows: list[SensorEvidence], labelled: list[tuple[int, int, set[int]]]
) -> list[tuple[float, float]]:
    """HitRate@100 and @150 of each incident."""
    result = []
    for start, stop, true in labelled:
        if true and start < len(rows):
            peaks = PeakEvidence.since(rows[start])
            for row in rows[start + 1 : stop]:
                peaks = peaks.grown(row)
            ranked = np.argsort(-peaks.shares(), kind="stable").tolist()
            result.append((hit_rate(ranked, true, 1.0), hit_rate(ranked, true, 1.5)))
    return result


def by_chance(sensors: int, labelled: list[tuple[int, int, set[int]]]) -> tuple[float, float]:
    """What a random ranking is expected to reach: the share of sensors that it may name."""
    parts = [
        (len(true) / sensors, min(int(1.5 * len(true)), sensors) / sensors) for _, _, true in labelled if true
    ]
    return float(np.mean([a for a, _ in parts])), float(np.mean([b for _, b in parts]))


async def trained_on(train: Path) -> Bundle:
    """A model of a file with everything derived from it."""
    settings, _ = settings_for(FileOptions(), train, None)
    plan = plan_for(settings, None, train.name)
    return train_on(plan, await history_of(train, plan, []), None)


async def measure(dataset: str, folder: Path) -> Section:
    """All series of a data set with ``interpretation.json``, kept outside the project."""
    home = SHARED / "data" / dataset
    meta = json.loads((home / "meta.json").read_text())["series"]
    told = json.loads((home / "interpretation.json").read_text())
    section = Section(
        f"{dataset}-attribution",
        f"{dataset}: root cause, mean over incidents",
        ("series", "incidents", "HitRate@100", "HitRate@150", "random @100", "random @150"),
    )
    pooled: list[tuple[float, float]] = []
    for name, info in meta.items():
        if name not in told:
            continue
        table = pq.read_table(home / info["file"])
        channels = info["channels"]
        split = np.array(table["split"].to_pylist())
        first = int(np.argmax(split == "test"))
        saved = folder / f"{dataset}__{name}" / "bundle"
        if saved.is_dir():
            bundle = Bundle.load(saved)
        else:
            train = folder / f"{name}.parquet"
            pq.write_table(table.slice(0, first).select(["timestamp", *channels]), train)
            bundle = await trained_on(train)
        values = np.stack([table[c].to_numpy().astype(float) for c in channels], 1)
        rows = evidence_of(bundle.detector(), values[first - bundle.window + 1 :])
        labelled = [
            (
                e["row_start"] - first,
                e["row_end"] - first,
                {channels.index(c) for c in e["channels"] if c in channels},
            )
            for e in told[name]
            if e["row_start"] >= first
        ]
        found = incidents(rows, labelled)
        pooled += found
        at100, at150 = np.mean(found, axis=0)
        section.add(name, len(found), float(at100), float(at150), *by_chance(len(channels), labelled))
    at100, at150 = np.mean(pooled, axis=0)
    section.add("all", len(pooled), float(at100), float(at150), None, None)
    return section


def measure_all() -> list[Section]:
    """Every data set with root causes; nothing where they are not at hand."""
    found = sorted((SHARED / "data").glob("*/interpretation.json"))
    with tempfile.TemporaryDirectory() as folder:
        return [asyncio.run(measure(path.parent.name, Path(folder))) for path in found]
