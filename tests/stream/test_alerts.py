"""Episodes: which messages are emitted at which rows, and what they contain."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from daemon.detector import Explanation
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    InputPartition,
    PartScore,
    Phase,
    Severity,
    StreamSpec,
)
from daemon.maintenance import MaintenanceWindow
from daemon.mapping import AlertRule, SensorRule
from daemon.stream.alert_messages import ALIKE, STORM, ScoredEvidence
from daemon.stream.alerts import Episodes
from daemon.stream.encoding import encode
from daemon.stream.incident import EpisodeStart, Part
from tests.stream.clocks import SPEC
from tests.stream.evidence import NAN, SENSORS, scored_row, sensors

T, CLOSING = 3.0, 2.7
"""The threshold, and the level at which an episode closes."""


def play(*findings: ScoredEvidence, policy: AlarmPolicy | None = None) -> list[AlertEvent]:
    """Every message that these rows cause, at a threshold of 3; an episode closes at 2.7."""
    episodes = Episodes(StreamSpec("pumps", SENSORS), InputPartition("t", 0), policy or AlarmPolicy())
    emitted: list[AlertEvent] = []
    for one in findings:
        if not episodes.cannot_change("p", one.score, CLOSING, one.jump):
            emitted += episodes.scored("p", one, T, CLOSING, "m", "full")[1]
    return emitted


def blamed(event: AlertEvent) -> list[tuple[str, float | None]]:
    return [(c.sensor, c.observed) for c in event.contributors]


def test_an_episode_blames_by_the_maximum_since_its_onset() -> None:
    policy = AlarmPolicy(refractory=0)
    opened, closed = play(
        scored_row(1, 0.0, [9.0, 0.0, 0.0]),  # before: nobody's business
        scored_row(2, 4.0, [2.0, 8.0, 1.0]),
        scored_row(3, 4.0, [7.0, 1.0, 1.5]),
        scored_row(4, 0.0, [0.1, 0.1, 0.1]),
        policy=policy,
    )
    assert (opened.phase, closed.phase) == (Phase.OPENED, Phase.CLOSED)
    assert blamed(opened) == [("Current", 8.0), ("Pressure", 2.0), ("Flow", 1.0)]
    assert blamed(closed) == [("Current", 8.0), ("Pressure", 7.0), ("Flow", 1.5)]


def test_the_next_episode_starts_with_new_peaks() -> None:
    policy = AlarmPolicy(refractory=0)
    emitted = play(
        scored_row(1, 4.0, [9.0, 0.0, 0.0]),
        scored_row(2, 0.0, [0.0, 0.0, 0.0]),
        scored_row(3, 4.0, [0.0, 0.0, 5.0]),
        policy=policy,
    )
    assert [(e.phase, e.contributors[0].sensor) for e in emitted] == [
        (Phase.OPENED, "Pressure"),
        (Phase.CLOSED, "Pressure"),
        (Phase.OPENED, "Flow"),
    ]


def test_rows_before_persistence_count_from_the_onset() -> None:
    policy = AlarmPolicy(needed=2, of=2)
    (opened,) = play(scored_row(1, 4.0, [0.0, 6.0, 0.0]), scored_row(2, 4.0, [0.0, 0.0, 4.0]), policy=policy)
    assert blamed(opened)[:2] == [("Current", 6.0), ("Flow", 4.0)]


def of_scores(
    scores: dict[int, float], episodes: Episodes, asset: str = "p"
) -> tuple[list[AlertEvent], list[int]]:
    """The messages that scores by row cause, and the rows at which an episode is firing."""
    emitted, firing = [], []
    for row, score in scores.items():
        if not episodes.cannot_change(asset, score, CLOSING):
            fires, events = episodes.scored(
                asset, scored_row(row, score, [1.0, 0.0, 0.0]), T, CLOSING, "m", "full"
            )
            emitted += events
            firing += [row] if fires else []
    return emitted, firing


def made(maintenance: object = (), policy: AlarmPolicy | None = None, **more: object) -> Episodes:
    spec = StreamSpec("pumps", SENSORS, **more)  # type: ignore[arg-type]
    return Episodes(spec, InputPartition("t", 0), policy or AlarmPolicy(), maintenance)  # type: ignore[arg-type]


def phases(emitted: list[AlertEvent]) -> list[tuple[int, str, str]]:
    return [(e.row_ns // SECOND_NS, str(e.phase), str(e.severity)) for e in emitted]


def test_a_long_episode_is_updated_after_1_2_4_and_8_windows() -> None:
    emitted, firing = of_scores(dict.fromkeys(range(1, 200), 4.0) | {200: 0.0}, made(window=16))
    assert phases(emitted) == [
        (1, "opened", "warning"),
        *((1 + 16 * n, "updated", "warning") for n in (1, 2, 4, 8)),
        (200, "closed", "warning"),
    ]
    assert firing == list(range(1, 200))
    # ... and where no row falls on these, at the next one
    emitted, _ = of_scores(dict.fromkeys(range(0, 200, 7), 4.0), made(window=16, hop=7))
    assert [row for row, phase, _ in phases(emitted) if phase == "updated"] == [21, 35, 70, 133]


def test_a_rising_severity_causes_one_update_and_stays_critical() -> None:
    emitted, _ = of_scores({1: 4.0, 2: 6.0, 3: 6.1, 4: 4.0, 5: 7.0, 17: 4.0, 18: 0.0}, made(window=16))
    assert phases(emitted) == [
        (1, "opened", "warning"),
        (3, "updated", "critical"),  # above two thresholds, not at
        (17, "updated", "critical"),
        (18, "closed", "critical"),
    ]
    assert len({event.fingerprint for event in emitted}) == 1
    assert len({event.id for event in emitted}) == 4
    assert [event.summary.endswith("(over)") for event in emitted] == [False, False, False, True]


def test_the_rule_of_the_sensor_that_is_blamed_says_what_is_critical() -> None:
    scores = {1: 4.0, 2: 6.1, 3: 9.1, 4: 0.0}
    patient = AlarmPolicy(critical_ratio=3.0)
    for policy, critical in ((AlarmPolicy(), 2), (patient, 3)):
        found = phases(of_scores(scores, made(policy=policy))[0])
        assert found[1] == (critical, "updated", "critical")
    rules = (SensorRule(alert=AlertRule(critical_ratio=1.2)), SensorRule(), SensorRule())
    emitted, _ = of_scores(scores, made(policy=patient, sensor_rules=rules))
    assert phases(emitted)[0] == (1, "opened", "critical")
    emitted, _ = of_scores(scores, made(policy=patient, sensor_rules=rules[::-1]))
    assert phases(emitted)[0] == (1, "opened", "warning")


def test_the_onset_is_the_first_row_of_the_run_above_the_closing_level() -> None:
    policy = AlarmPolicy(2, 2)
    emitted, _ = of_scores({1: 2.8, 2: 0.0, 3: 2.8, 4: 4.0, 5: 4.0, 6: 0.0}, made(policy=policy))
    assert [e.onset_ns // SECOND_NS for e in emitted] == [3, 3]
    assert phases(emitted) == [(5, "opened", "warning"), (6, "closed", "warning")]


def test_rows_below_count_for_the_persistence_and_leave_nothing_behind() -> None:
    episodes = made(policy=AlarmPolicy(2, 3))
    emitted, _ = of_scores({1: 4.0, 2: 0.0, 3: 0.0, 4: 4.0, 5: 0.0, 6: 0.0, 7: 0.0}, episodes)
    assert emitted == []
    assert not episodes.assets
    emitted, _ = of_scores({1: 4.0, 2: 0.0, 3: 4.0, 4: 0.0, 5: 0.0, 6: 0.0}, episodes)
    assert [str(e.phase) for e in emitted] == ["opened", "closed"]
    assert not episodes.assets


def test_an_alert_names_forty_sensors_at_most() -> None:
    spec = StreamSpec("pumps", tuple(f"s{i}" for i in range(60)))
    episodes = Episodes(spec, InputPartition("t", 0), AlarmPolicy())
    far = np.arange(1.0, 61.0)
    _, (opened,) = episodes.scored("p", scored_row(1, 4.0, far.tolist()), T, CLOSING, "m", "full")
    assert [c.sensor for c in opened.contributors] == [f"s{i}" for i in range(59, 19, -1)]


def between(first: int, end: int, *assets: str) -> MaintenanceWindow:
    return MaintenanceWindow("overhaul", first * SECOND_NS, end * SECOND_NS, frozenset(assets))


@pytest.mark.parametrize(
    ("row", "opens"), [(9, True), (10, False), (19, False), (20, False), (22, False), (23, True)]
)
def test_maintenance_is_from_its_beginning_until_windows_hold_no_row_of_it(row: int, opens: bool) -> None:
    episodes = made([between(10, 20)], window=4)
    emitted, firing = of_scores({row: 4.0}, episodes)
    phase = Phase.OPENED if opens else Phase.SUPPRESSED
    assert ([e.phase for e in emitted], firing) == ([phase], [row] if opens else [])
    assert emitted[0].maintenance == (None if opens else "overhaul")
    assert episodes.maintenance.suppressed == (not opens)


def test_maintenance_of_some_assets_is_of_these_alone() -> None:
    episodes = made([between(10, 20, "p", "q")])
    found = [of_scores({15: 4.0}, episodes, asset)[0][0].phase for asset in "pqr"]
    assert found == [Phase.SUPPRESSED, Phase.SUPPRESSED, Phase.OPENED]


@pytest.mark.parametrize("hop", [1, 3])
def test_suppressed_episodes_are_counted_by_run(hop: int) -> None:
    def kept(*scores: float) -> int:
        episodes = made([between(0, 1_000)], hop=hop)
        emitted, firing = of_scores({hop * i: score for i, score in enumerate(scores)}, episodes)
        assert firing == []
        assert {event.phase for event in emitted} <= {Phase.SUPPRESSED}
        assert len({event.id for event in emitted}) == len(emitted) == episodes.maintenance.suppressed
        return episodes.maintenance.suppressed

    assert kept(4.0, 4.0, 2.8, 4.0) == 1  # near the threshold it goes on
    assert kept(4.0, 4.0, 2.6, 4.0) == 2
    assert kept(2.8, 2.8, 4.0) == 1
    assert kept(2.8, 2.8) == 0
    assert kept(4.0, 2.8, 2.8, 4.0) == 1


def test_an_asset_evicted_under_maintenance_starts_anew() -> None:
    episodes = made([between(0, 1_000)])
    of_scores({1: 4.0}, episodes)
    assert episodes.dismiss("p", 1, "m") == []
    of_scores({2: 4.0}, episodes)
    assert episodes.maintenance.suppressed == 2


def test_an_episode_open_before_maintenance_is_frozen_and_closes_after_it() -> None:
    episodes = made([between(10, 20)])
    emitted, firing = of_scores({8: 4.0, 9: 4.0, 10: 4.0, 11: 0.0, 12: 9.0, 20: 4.0, 21: 0.0}, episodes)
    assert phases(emitted) == [(8, "opened", "warning"), (21, "closed", "warning")]
    assert firing == [8, 9, 10, 11, 12, 20]


def test_an_open_episode_is_not_opened_again_and_is_dropped_when_closed() -> None:
    episodes = made()
    silent = Part(AlertKind.SENSOR_SILENT, "Flow")
    start = EpisodeStart(AlertKind.SENSOR_SILENT, 5, "Flow")
    (opened,) = episodes.open_unscored("p", start, 9, "m")
    assert episodes.open_unscored("p", start, 12, "m") == []
    assert episodes.open_unscored("p", EpisodeStart(AlertKind.CLOCK_SKEW, 5), 9, "m")
    assert episodes.subjects("p", silent.kind) == [silent.sensor]
    (closed,) = episodes.close_unscored("p", silent, 20, "m")
    assert (closed.fingerprint, closed.onset_ns) == (opened.fingerprint, opened.onset_ns) != ("", 9)
    assert episodes.close_unscored("p", silent, 21, "m") == []
    assert episodes.close_unscored("p", Part(AlertKind.CLOCK_SKEW), 20, "m")
    assert not episodes.assets


def test_an_evicted_asset_closes_its_episodes_in_order_but_not_the_drift_of_the_stream() -> None:
    """The stream's drift is kept under the stream's name, which an asset may have as well."""
    episodes = made()
    for row, kind, sensor in (
        (30, AlertKind.ASSET_SILENT, None),
        (10, AlertKind.SENSOR_STUCK, "Flow"),
        (20, AlertKind.DRIFT, None),
    ):
        episodes.open_unscored("pumps", EpisodeStart(kind, row, sensor), row, "m")
    emitted = episodes.dismiss("pumps", 25, "m")
    assert [(e.kind, e.row_ns // SECOND_NS) for e in emitted] == [
        (AlertKind.SENSOR_STUCK, 25),
        (AlertKind.ASSET_SILENT, 30),
    ]
    assert episodes.has("pumps", AlertKind.DRIFT)
    assert not episodes.has("pumps", AlertKind.SENSOR_STUCK)
    assert episodes.dismiss("pumps", 26, "m") == episodes.dismiss("nobody", 26, "m") == []


def test_a_verdict_is_computed_once_a_whole_window_lies_in_the_episode() -> None:
    asked: list[tuple[list[float], list[float]]] = []

    def verdict(before: np.ndarray, shares: np.ndarray) -> str:
        asked.append((before.tolist(), shares.round(3).tolist()))
        return "process_fault"

    rows = [
        replace(scored_row(row, 7.0 if row == 4 else 4.0, [6.0, 0.0, NAN]), verdict=verdict)
        for row in range(1, 40)
    ]
    emitted = play(*rows, scored_row(40, 0.0, [0.0, 0.0, 0.0]))
    phases = [(event.phase, event.verdict) for event in emitted]
    assert phases == [
        (Phase.OPENED, None),
        (Phase.UPDATED, None),  # worse already, and the window of 16 rows still holds what was before
        (Phase.UPDATED, "process_fault"),
        (Phase.UPDATED, "process_fault"),
        (Phase.CLOSED, None),
    ]
    assert [event.row_ns // SECOND_NS for event in emitted if event.verdict] == [17, 33]
    assert asked == [([0.0, 0.0, 0.0], [1.0, 0.0, 0.0])] * 2


def test_without_a_model_that_gives_verdicts_there_is_none() -> None:
    emitted = play(*[scored_row(row, 4.0, [6.0, 0.0, 0.0]) for row in range(1, 20)])
    assert [event.verdict for event in emitted] == [None, None]


@pytest.mark.parametrize(
    ("assets", "apart", "given"),
    [(ALIKE, 0, True), (ALIKE + 1, 0, False), (STORM, 2, True), (STORM + 1, 2, False)],
)
def test_in_a_storm_no_verdicts_are_computed(assets: int, apart: int, given: bool) -> None:
    """Sixteen that open together, or two hundred that are open at once: there the last one has its verdict."""
    episodes = Episodes(StreamSpec("pumps", SENSORS), InputPartition("t", 0), AlarmPolicy())
    emitted: list[AlertEvent] = []
    for row in range(1, 18 + apart * (assets - 1)):
        one = replace(scored_row(row, 4.0, [6.0, 0.0, 0.0]), verdict=lambda before, shares: "process_fault")
        for asset in range(assets):
            if row > apart * asset:
                emitted += episodes.scored(f"p{asset}", one, T, CLOSING, "m", "full")[1]
    assert any(event.verdict for event in emitted if event.asset == f"p{assets - 1}") is given


def test_drift_alerts_of_two_partitions_have_different_ids() -> None:
    emitted = []
    for number in (0, 1):
        episodes = Episodes(SPEC, InputPartition("sensors.pumps", number), AlarmPolicy())
        emitted += episodes.open_unscored("pumps", EpisodeStart(AlertKind.DRIFT, 0), 60, "m1")
        emitted += episodes.close_unscored("pumps", Part(AlertKind.DRIFT), 90, "m1")
    assert len({event.fingerprint for event in emitted}) == 2
    assert len({event.id for event in emitted}) == 4
    sources = [json.loads(encode(event, datetime.now(UTC)).value)["source"] for event in emitted]
    assert sources == [f"/anomalyd/pumps/sensors.pumps/{number}" for number in (0, 0, 1, 1)]


def test_a_jump_opens_an_anomaly_beside_a_low_score_and_names_its_sensor() -> None:
    low = scored_row(1, 0.5, [2.0, 0.1, 0.1])
    scores = {"combined": PartScore(0.5, T), "jump": PartScore(2.5, 1.0)}
    jumped = replace(
        low,
        row=2,
        scores=scores,
        jump=2.5,
        sensors=sensors([2.0, 0.1, 0.1], [2.0, 0.1, 0.1], [2.0, 0.1, 0.1], jump=[0.0, 2.5, 0.0]),
    )
    opened, closed = play(low, jumped, replace(low, row=3), policy=AlarmPolicy(refractory=0))
    assert (opened.phase, opened.onset_ns, closed.phase) == (Phase.OPENED, 2 * SECOND_NS, Phase.CLOSED)
    assert opened.contributors[0].sensor == "Current"
    assert opened.severity is Severity.WARNING
    assert opened.summary.startswith("p: Current 0.1 above")
    assert opened.summary.endswith("; a jump of 2.5 times its limit")
    message = json.loads(encode(opened, datetime(2026, 1, 1, tzinfo=UTC)).value)
    assert message["data"]["scores"]["jump"] == {"value": 2.5, "threshold": 1.0}


def test_a_jump_under_maintenance_is_counted() -> None:
    episodes = made([between(10, 20)])
    for row in (10, 11, 13, 20):
        episodes.scored("p", replace(scored_row(row, 0.0, [0.0] * 3), jump=2.0), T, CLOSING, "m", "full")
    assert episodes.maintenance.suppressed == 3  # the last is the jump back from it


def test_openings_and_updates_say_what_is_expected_without_the_sensors_at_fault() -> None:
    asked: list[list[float]] = []

    def explain(shares: np.ndarray) -> Explanation:
        asked.append(shares.round(3).tolist())
        return Explanation(
            np.array([True, False, False]), np.array([6.0, 0.0, 0.0]), np.array([1.0, 2.0, 3.0])
        )

    rows = [replace(scored_row(row, 4.0, [6.0, 5.0, NAN]), explain=explain) for row in range(1, 19)]
    emitted = play(*rows, replace(scored_row(19, 0.0, [0.0, 0.0, 0.0]), explain=explain))
    assert [event.phase for event in emitted] == [Phase.OPENED, Phase.UPDATED, Phase.CLOSED]
    assert len(asked) == 2  # a window at the end of an episode is normal again
    for event in emitted[:2]:
        assert [(c.sensor, c.share) for c in event.contributors] == [(event.contributors[0].sensor, 1.0)]
    assert len(emitted[2].contributors) == 2
