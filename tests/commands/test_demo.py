"""The demo, small and fast: it ends by itself and finds what was injected."""

from __future__ import annotations

from datetime import timedelta

import pytest

from daemon.adapters.simulator import Fleet
from daemon.commands.demo import DemoListener, DemoOptions, demo, demo_settings
from daemon.domain import AlertEvent

pytestmark = pytest.mark.slow


async def test_the_demo_ends_and_finds_most_of_the_injected_faults() -> None:
    alerts: list[AlertEvent] = []
    options = DemoOptions(
        seed=1,
        duration=timedelta(seconds=1),
        fleet=Fleet(1, assets=12),
        settings=demo_settings(None, ["retrain.every=null"]),
    )
    result = await demo(options, DemoListener(alert=alerts.append))
    assert result.score.injected >= 8
    assert result.score.found >= 0.8 * result.score.injected
    assert len(result.score.false) <= 2 * sum(result.allowed.values())
    assert alerts == result.events
    assert result.filled > 0
