"""The admin application in process, and a live fleet of three pumps with one open episode."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
from starlette.applications import Starlette

from daemon.adapters.telemetry import Promotion, Status
from daemon.alert import Peak
from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    Contributor,
    Disposition,
    InputPartition,
    PartScore,
    Phase,
    Severity,
)
from daemon.stream.accounts import CellState, Counts

PATHS = ["/", "/livez", "/readyz", "/startupz", "/metrics", "/api/status", "/api/events"]
HOSTILE = "<script>alert(1)</script>\"'&\n\u2028"
PARTITION = InputPartition("plant.pumps", 0)


def alert(
    asset: str, phase: Phase, fingerprint: str, score: float = 9.1, n: int = 0, peak: float | None = None
) -> AlertEvent:
    return AlertEvent(
        stream="pumps", asset=asset, kind=AlertKind.ANOMALY, phase=phase, severity=Severity.CRITICAL,
        fingerprint=fingerprint, id=f"{fingerprint}{n}",
        row_ns=(100 + n) * SECOND_NS, onset_ns=88 * SECOND_NS,
        opened_ns=90 * SECOND_NS, model="5f3a9c1e", calibration="full", summary=f"{asset} looks odd",
        scores={"combined": PartScore(score, 5.1)}, contributors=[Contributor(asset, 0.91, None, 0.6)] * 9,
        partition=PARTITION, peak=Peak(90 * SECOND_NS, "combined", peak or score, 5.1),
    )  # fmt: skip


def scored(status: Status, asset: str, scores: list[float], first: int = 0) -> None:
    for row, score in enumerate(scores, first):
        times = np.array([row * SECOND_NS])
        one, quiet = np.zeros(1, int), np.zeros(1, bool)
        status.streams["pumps"].scored_rows([asset], one, times, np.array([score]), quiet)


def pumps() -> Status:
    """A live fleet of three with one open episode; one name is an attack."""
    now = datetime(2026, 3, 4, tzinfo=UTC)
    status = Status({"pumps": 500}, now=lambda: now, clock=lambda: 0.0)
    status.joined = status.connected = True
    status.model("pumps", "5f3a9c1e", threshold=5.1, part_thresholds={"kl": math.nan}, learned_until=now)
    status.promotion("pumps", "5f3a9c1e", Promotion.REFUSED, HOSTILE)
    records = Counter({Disposition.ACCEPTED: 600, Disposition.LATE: 2})
    cells = Counter({CellState.OBSERVED: 1_760, CellState.CORRUPT: 40, CellState.LATE: 6})
    status.ingested("pumps", Counts(records, cells=cells, corrupt=Counter({("Level", "text"): 40})))
    for n, asset in enumerate(("pump-01", "pump-02", HOSTILE)):
        scored(status, asset, [0.1 * t * n for t in range(100)])
    scored(status, "pump-01", [math.nan], 101)
    status.published(
        [alert(HOSTILE, Phase.OPENED, "a", 9.1), alert(HOSTILE, Phase.UPDATED, "a", 7.0, 5, 9.1)]
    )
    status.published(
        [alert("pump-02", Phase.OPENED, "b", 12.0), alert("pump-02", Phase.CLOSED, "b", 1.0, 9, 12.0)]
    )
    return status


class Client:
    """The application in process, one request at a time."""

    def __init__(self, app: Starlette) -> None:
        self._app = app

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)
