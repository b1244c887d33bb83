"""Files that the tests of this package read: CSV and Parquet, and their times."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from daemon.adapters.files import NO_TIME, Table
from daemon.domain import SECOND_NS

START = 1_704_067_200 * SECOND_NS  # 2024-01-01T00:00:00Z
NOW = START + 86_400 * SECOND_NS
NAN = float("nan")


def csv_file(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def parquet_file(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def stamps(*seconds: float | None, unit: str = "ms", zone: str | None = "UTC") -> pa.Array:
    times = [None if s is None else START + round(s * SECOND_NS) for s in seconds]
    return (
        pa.array(times, pa.int64())
        .cast(pa.timestamp("ns"))
        .cast(pa.timestamp(unit))
        .cast(pa.timestamp(unit, zone))
    )


def seconds(table: Table) -> list[float | None]:
    return [None if t == NO_TIME else (t - START) / SECOND_NS for t in table.time_ns.tolist()]
