"""Records to measure speed on: many assets, correlated sensors, one wide line per asset and period.

What a sensor shows is a mix of a few slow causes plus its own noise, so that a model can be
trained on it and calm data stay calm: a benchmark in which every row raised an alert would
measure alerts. Values have five digits, about 180 bytes a line with 8 sensors and 650 with 38.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from daemon.commands.train import train_on
from daemon.domain import (
    SECOND_NS,
    Floats,
    ModelSettings,
    Segment,
    StreamSpec,
    instant,
)
from daemon.model.bundle import Bundle
from daemon.runtime.stream_run import StreamPlan

START_ROW = 1_767_571_200  # 2026-01-05T00:00:00Z in seconds, the period
CAUSES = 3
STEPS = 300
"""Optimiser steps of the bundles here: what a window costs does not depend on how good the model is."""


@dataclass(frozen=True)
class Workload:
    """A fleet whose readings follow from the seed.

    Args:
        sensors: C.
        assets: how many take turns.
        missing: share of cells that are dropped.
        seed: of everything.
        window: L of the stream and its model.
    """

    sensors: int
    assets: int = 64
    missing: float = 0.0
    seed: int = 0
    window: int = 16

    @property
    def names(self) -> tuple[str, ...]:
        """Sensor names, about as long as real ones."""
        return tuple(f"Sensor{c:02d}" for c in range(self.sensors))

    def spec(self, topic: str = "bench", hop: int = 1) -> StreamSpec:
        """The stream that the lines are."""
        return StreamSpec("pumps", self.names, SECOND_NS, self.window, hop, topics=(topic,))

    def values(self, rows: int) -> Floats:
        """(rows, assets, C) readings, NaN where dropped."""
        rng = np.random.default_rng([self.seed, self.sensors])
        mix = rng.standard_normal((CAUSES, self.sensors))
        level = 50.0 + 10.0 * rng.standard_normal(self.sensors)
        keep = math.exp(-1 / 30)
        kicks = math.sqrt(1 - keep**2) * rng.standard_normal((rows, self.assets, CAUSES))
        causes = np.empty_like(kicks)
        state = rng.standard_normal((self.assets, CAUSES))
        for t in range(rows):
            state = causes[t] = keep * state + kicks[t]
        values = level + causes @ mix + 0.1 * rng.standard_normal((rows, self.assets, self.sensors))
        values[rng.random(values.shape) < self.missing] = np.nan
        return np.asarray(values)

    def lines(self, rows: int, first: int = 0) -> Iterator[tuple[bytes, bytes]]:
        """(key, line) for every asset and period, in time order."""
        return self.written(self.values(first + rows)[first:], first)

    def written(self, values: Floats, first: int = 0) -> Iterator[tuple[bytes, bytes]]:
        """The same of given readings, (rows, assets, C), from row ``first`` on."""
        assets = [f"pump-{a:04d}" for a in range(self.assets)]
        keys = [asset.encode() for asset in assets]
        encode = msgspec.json.Encoder().encode
        for t, block in enumerate(values.round(4).tolist(), first):
            ts = instant((START_ROW + t) * SECOND_NS).isoformat().replace("+00:00", "Z")
            for a, row in enumerate(block):
                cells = {n: v for n, v in zip(self.names, row, strict=True) if v == v}
                yield keys[a], encode({"asset": assets[a], "ts": ts, "values": cells})

    def bundle(
        self,
        folder: Path,
        kind: str = "mlp",
        rows: int = 1_200,
        names: tuple[str, ...] = (),
        condition: Callable[[str, int], Mapping[str, object]] | None = None,
    ) -> Bundle:
        """A model of this fleet's calm, saved as the directory ``folder``.

        Args:
            folder, kind, rows: where, of which kind, of how many rows.
            names: other names of its sensors.
            condition: the fields of the condition of an asset at a row; None: there is none.
        """
        calm = replace(self, assets=min(self.assets, 12), missing=0.0)
        values = calm.values(rows)
        spec = replace(self.spec(), sensors=names or self.names)
        labels: dict[str, tuple[str, ...]] = {}
        assets = [f"pump-{a:04d}" for a in range(calm.assets)]
        if condition is not None:
            spec = replace(spec, condition=tuple(condition(assets[0], START_ROW)))
            for asset in assets:
                given = [condition(asset, START_ROW + t) for t in range(rows)]
                labels[asset] = tuple(",".join(f"{k}={v}" for k, v in one.items()) for one in given)
        history = [
            Segment(asset, START_ROW, values[:, a], labels.get(asset, ())) for a, asset in enumerate(assets)
        ]
        plan = StreamPlan(spec, ModelSettings(kind=kind, steps=STEPS))
        bundle = train_on(plan, history, None)
        # What it costs is measured with several hops, its verdicts are not: rows that lie farther apart jump farther.
        bundle = replace(
            bundle,
            calibration=replace(bundle.calibration, jump_limit=np.full(len(spec.sensors), np.inf)),
            facts={name: fact for name, fact in bundle.facts.items() if name != "hop"},
        )
        bundle.save(folder)
        return bundle

    def config(self, bootstrap: str, topic: str, prefix: str, group: str, **more: Any) -> dict[str, Any]:
        """A configuration of ``run`` for these lines.

        ``kafka``, ``retrain`` and ``scores`` are settings of the process, all else of the stream.
        """
        kafka, retrain = more.pop("kafka", {}), more.pop("retrain", {"every": None})
        scores = more.pop("scores", False)
        return {
            "kafka": {"bootstrap_servers": bootstrap, "group_id": group, **kafka},
            "streams": [
                {
                    "name": "pumps",
                    "topics": [topic],
                    "sensors": {name: {} for name in self.names},
                    "period": "1s",
                    "window": self.window,
                    **more,
                }
            ],
            "outputs": {"prefix": prefix, "scores": scores},
            "retrain": retrain,
            "model": {"directory": "models"},
        }
