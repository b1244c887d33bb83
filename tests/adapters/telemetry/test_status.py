"""The page's state: bounded, and ready or alive exactly when it is."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np

from daemon.adapters.telemetry import (
    ASSETS_KEPT,
    Status,
)
from daemon.domain import (
    SECOND_NS,
    Phase,
)
from tests.adapters.telemetry.outputs import PARTITION, alert


def test_a_broker_outage_never_makes_the_process_dead() -> None:
    now = 0.0
    status = Status(["pumps"], stall_after=timedelta(seconds=30), clock=lambda: now)
    now = 1000.0
    assert status.alive  # the startup probe's matter
    status.beat()
    now += 29
    assert status.alive
    now += 2
    assert not status.alive
    status.beat()
    with status.waiting_for("kafka"):
        now += 0.1
        assert status.waiting is None  # as for every publish
        now += 3600
        assert status.alive
        assert status.waiting == "kafka"
    assert status.alive  # the wait itself is not held against the loop
    now += 31
    assert not status.alive


def test_kafka_is_unreached_after_half_a_minute_and_reached_again_at_once() -> None:
    now = silence = 0.0
    status = Status(["pumps"], clock=lambda: now)
    status.silence_s = lambda: silence
    assert not status.reached
    status.joined = status.connected = True
    assert status.obstacles == []
    silence = 29.9
    assert status.obstacles == []
    silence = 30.0
    assert status.obstacles == ["Kafka has not answered for 30 s"]
    assert status.alive
    silence = 0.0  # others answer; the output that the loop waits for does not get there
    with status.waiting_for("kafka"):
        now = 29.9
        assert status.reached
        now = 30.0
        assert status.obstacles == ["Kafka has not answered for 30 s"]
    assert status.obstacles == []


def test_lifecycle_and_readiness() -> None:
    status = Status({"pumps": 500, "fans": 500})
    assert str(status.lifecycle) == "starting"
    assert len(status.obstacles) == 2
    status.joined = status.connected = True
    assert str(status.lifecycle) == "learning"
    assert status.obstacles == []
    status.model("pumps", "5f3a9c1e", threshold=5.0, part_thresholds={})
    assert str(status.lifecycle) == "learning"
    status.model("fans", "77aa0000", threshold=4.0, part_thresholds={})
    assert str(status.lifecycle) == "live"
    status.joined = False  # a rebalance: not ready, yet started
    assert status.started
    assert status.obstacles
    status.drain()
    assert str(status.lifecycle) == "draining"
    assert "draining" in status.obstacles


def test_a_million_assets_stay_fifty_and_the_alarming_ones_are_kept() -> None:
    status = Status(["pumps"])
    status.model("pumps", "5f3a9c1e", threshold=5.0, part_thresholds={})
    pumps = status.streams["pumps"]
    assets = [f"a{n}" for n in range(2_000)]
    scores = 0.5 + (np.arange(2_000) % 7) / 10
    for row in range(3):
        times, quiet = np.full(2_000, row * SECOND_NS), np.zeros(2_000, bool)
        pumps.scored_rows(assets, np.arange(2_000), times, scores, quiet)
    late = np.full(3, 4 * SECOND_NS)
    scores, alarms = np.array([7.0, 25.0, math.nan]), np.array([False, True, False])
    pumps.scored_rows(["hot", "hot", "unscored"], np.array([3, 3, 9]), late, scores, alarms)
    tracks = pumps.tracks
    assert len(tracks) == ASSETS_KEPT
    assert "hot" in tracks
    assert tracks["hot"].alarm
    assert list(tracks["hot"].scores) == [25.0]  # the highest of a batch stands for all
    assert pumps.scored == 3 * 2_000 + 2


def test_events_and_open_episodes() -> None:
    status = Status(["pumps"])
    status.published([alert(fingerprint=str(n)) for n in range(500)])
    assert len(status.events) == 200
    assert status.events[-1][0] == 500
    assert len(status.open) == 500
    status.published([alert(Phase.CLOSED, fingerprint=str(n)) for n in range(499)])
    assert list(status.open) == ["499"]
    status.revoked(PARTITION)
    assert not status.open
    status.restored_episodes([alert()])
    assert len(status.open) == 1
    assert status.opened == 500


def test_alerts_that_had_closed_before_come_after_those_that_closed_here() -> None:
    status = Status(["pumps"])
    before = [alert(Phase.CLOSED, fingerprint=name) for name in ("open again", "again", "old", "older", "b")]
    status.closed_alerts(list(reversed(before)))
    status.restored_episodes([alert(fingerprint="open again")])
    status.published([alert(Phase.CLOSED, fingerprint=name) for name in ("a", "b")])
    status.published([alert(fingerprint="again"), alert(fingerprint="c")])
    assert [one.fingerprint for one in status.closed()] == ["b", "a", "old", "older"]
    found = {name: status.alert(name) for name in ("open again", "again", "old", "b", "c", "never")}
    assert {name: None if one is None else one.phase for name, one in found.items()} == {
        "open again": Phase.OPENED, "again": Phase.OPENED, "old": Phase.CLOSED,
        "b": Phase.CLOSED, "c": Phase.OPENED, "never": None,
    }  # fmt: skip
    status.closed_alerts([alert(Phase.CLOSED, fingerprint=str(n)) for n in range(5_000)])
    assert [one.fingerprint for one in status.closed()][:3] == ["b", "a", "4999"]
    assert len(list(status.closed())) < 300
