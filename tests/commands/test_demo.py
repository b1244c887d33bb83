"""The demo, small and fast: it ends by itself and finds what was injected."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest

from daemon.adapters.simulator import Fleet
from daemon.commands.demo import START, DemoListener, DemoOptions, demo, demo_settings
from daemon.config import HttpSection
from daemon.domain import AlertEvent

pytestmark = pytest.mark.slow


async def stop_planned_on_the_page(address: str, moved: asyncio.Event) -> dict[str, Any]:
    """Plan a stop of an asset that is not there, as the page does, once the fleet has sent something; what the page shows of it.

    It looks when the demo has ``moved``: a status that is asked for without a pause leaves the training no CPU.
    """
    headers = {"origin": address.rstrip("/")}
    said = {"assets": ["nobody"], "lasts": "100d", "by": "kim"}
    async with httpx.AsyncClient(base_url=address, trust_env=False, headers=headers) as client:
        await moved.wait()
        told = await client.post("/api/control/maintenance", json=said)
        assert told.status_code == 200, told.text
        while not (stops := (await client.get("/api/status")).json()["stops"]):
            moved.clear()
            await moved.wait()
    return dict(stops[0])


async def test_the_demo_ends_and_finds_most_of_the_injected_faults() -> None:
    alerts: list[AlertEvent] = []
    asked: list[asyncio.Task[dict[str, Any]]] = []
    moved = asyncio.Event()
    options = DemoOptions(
        seed=1,
        duration=timedelta(seconds=1),
        fleet=Fleet(1, assets=12),
        http=HttpSection(port=0, control=True),
        settings=demo_settings(None, ["retrain.every=null"]),
    )

    def opened(address: str) -> None:
        asked.append(asyncio.create_task(stop_planned_on_the_page(address, moved)))

    listener = DemoListener(alert=alerts.append, progress=lambda *_: moved.set(), opened=opened)
    result = await demo(options, listener)
    stop = await asyncio.wait_for(asked[0], 60)
    assert (stop["state"], stop["assets"], stop["by"]) == ("active", ["nobody"], "kim")
    assert stop["start"] >= START.isoformat()[:10]  # by the fleet's clock
    assert result.score.injected >= 8
    assert result.score.found >= 0.8 * result.score.injected
    assert len(result.score.false) <= 2 * sum(result.allowed.values())
    assert alerts == result.events
    assert result.filled > 0
