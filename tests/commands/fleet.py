"""Files of the simulated fleet, for the tests of the commands."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from daemon.adapters.simulator import SENSORS, Fleet
from daemon.commands.demo import START

LINEAR = ["model.kind=ppca"]
ROWS, ASSETS = 500, 3


def fleet_table(path: Path, rows: int = ROWS, skip: int = 0, seed: int = 0, shake: float = 0.0) -> Path:
    """The fleet's readings as Parquet; ``shake`` spoils the last tenth of one sensor."""
    records = []
    for tick in islice(Fleet(seed, assets=ASSETS).records(START), skip, skip + rows):
        for _, line in tick.lines:
            try:
                message = json.loads(line)
                records.append((message["asset"], message["ts"], message["values"]))
            except (ValueError, KeyError, TypeError):
                continue
    values = {
        name: np.array([number(v.get(name)) if isinstance(v, dict) else np.nan for _, _, v in records])
        for name in SENSORS
    }
    if shake:
        tail = slice(len(records) * 9 // 10, None)
        values["Pressure"][tail] += shake
    columns: dict[str, Any] = {
        "asset": pa.array([str(asset) for asset, _, _ in records]),
        "timestamp": pa.array(
            np.array([np.datetime64(str(ts).rstrip("Z"), "ns") for _, ts, _ in records]).astype(np.int64)
        ).cast(pa.timestamp("ns", "UTC")),
        **values,
    }
    pq.write_table(pa.table(columns), path)
    return path


def number(value: object) -> float:
    """A cell, or missing."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else np.nan
