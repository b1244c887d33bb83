"""What opens while an alert is open: what has its cause joins it or is part of it, all else is an alert of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from daemon.detector import REACH, Explanation
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    Floats,
    InputPartition,
    Mask,
    Phase,
    StreamSpec,
)
from daemon.stream.alerts import Episodes
from daemon.stream.deviation import SustainedRow
from daemon.stream.incident import TOGETHER, AssetEpisodes, EpisodeStart
from tests.stream.evidence import SENSORS, scored_row

WINDOW = 4
LATE = TOGETHER * WINDOW + 10
"""A row that is too late for what one cause shows at once."""
Explain = Callable[[Floats], Explanation | None]
Off = tuple[float, float, float]
"""Shares of the limits of Pressure, Current and Flow."""
NONE: Off = (0.1, 0.1, 0.1)
PRESSURE: Off = (1.5, 0.1, 0.1)
BOTH: Off = (1.5, 0.1, 1.5)
FLOW: Off = (0.1, 0.1, 1.5)


class Related:
    """One asset, of whose sensors some are off only because the model reads others.

    ``explained`` has the sensors (by their numbers) that are so, with the others that explain them.
    """

    def __init__(self, *explained: tuple[int, int], refractory: int = 0) -> None:
        spec = StreamSpec("pumps", SENSORS, window=WINDOW)
        self.episodes = Episodes(spec, InputPartition("t", 0), AlarmPolicy(refractory=refractory))
        self.explained = explained
        self.events: list[AlertEvent] = []
        self.later = False

    def explained_by(self, sensors: Mask) -> Mask:
        found = np.zeros(len(sensors), bool)
        found[[c for c, by in self.explained if sensors[by] and not sensors[c]]] = True
        return found

    def row(
        self, row: int, shares: Off, score: float = 0.0, error: Off = NONE, explain: Explain | None = None
    ) -> Related:
        made = scored_row(row, score, list(error))
        made = replace(made, explained_by=self.explained_by, explain=explain)
        opening = np.array(shares)
        given = SustainedRow(row, opening, 2.0 * opening, opening, np.zeros(3), self.explained_by)
        if not self.episodes.cannot_change("p", score, 2.7):
            self.events += self.episodes.scored("p", made, 3.0, 2.7, "m", "full")[1]
        if (given.closing > 1.0).any() or self.episodes.deviates("p"):
            self.events += self.episodes.sustained("p", given, lambda: made, "m", "full")[1]
        state = self.episodes.snapshot("p")
        if state is not None:
            self.episodes.assets["p"] = AssetEpisodes.restored(state)
        return self

    def rows(self, first: int, end: int, shares: Off) -> Related:
        for row in range(first, end):
            self.row(row, shares)
        return self

    @property
    def opened(self) -> list[tuple[str, list[str]]]:
        """Kind and sensors of what opened."""
        return [(str(one.kind), list(one.sensors)) for one in self.events if one.phase is Phase.OPENED]

    @property
    def named(self) -> set[str]:
        return {name for one in self.events for name in one.sensors}


FLOW_BY_PRESSURE, PRESSURE_BY_FLOW = (2, 0), (0, 2)
FIRST, SECOND = ("deviation", ["Pressure"]), ("deviation", ["Flow"])


@pytest.mark.parametrize("explained", [[PRESSURE_BY_FLOW], [FLOW_BY_PRESSURE, PRESSURE_BY_FLOW]])
def test_what_explains_an_open_alert_joins_it_however_late(explained: list[tuple[int, int]]) -> None:
    asset = Related(*explained).rows(1, LATE, PRESSURE).rows(LATE, LATE + 3, BOTH)
    assert asset.opened == [FIRST]
    joined = next(one for one in asset.events if "Flow" in one.sensors)
    assert (joined.phase, joined.row_ns // SECOND_NS) == (Phase.UPDATED, LATE)
    parts = [(part.sensor, part.onset_ns // SECOND_NS) for part in joined.parts]
    assert parts == [("Pressure", 1), ("Flow", LATE)]
    asset.rows(LATE + 3, LATE + 8, FLOW).row(LATE + 8, NONE)
    (closed,) = [one for one in asset.events if one.phase is Phase.CLOSED]
    assert closed.row_ns // SECOND_NS == LATE + 8


@pytest.mark.parametrize("explained", [[], [(2, 1)], [(1, 0)]])
def test_what_no_sensor_of_an_open_alert_explains_is_another_one(explained: list[tuple[int, int]]) -> None:
    asset = Related(*explained).rows(1, LATE, PRESSURE).rows(LATE, LATE + 3, BOTH)
    assert asset.opened == [FIRST, SECOND]


def test_what_is_off_only_because_the_model_reads_a_sensor_of_an_open_alert_is_none() -> None:
    asset = Related(FLOW_BY_PRESSURE).rows(1, 40, BOTH)  # at once, too
    assert asset.opened == [FIRST]
    assert asset.named == {"Pressure"}
    for row in range(40, 65):
        asset.row(row, (0.1, 0.1, 1.5 - 0.02 * (row - 40)))  # which takes long to fade
    asset.row(65, NONE)
    assert asset.opened == [FIRST]
    kept = next(one for one in asset.events if "Flow" in one.sensors)
    assert (kept.phase, kept.row_ns // SECOND_NS) == (Phase.UPDATED, 40)  # all that is left of the alert
    assert [part.sensor for part in kept.parts] == ["Flow"]
    assert [one.row_ns // SECOND_NS for one in asset.events if one.phase is Phase.CLOSED] == [65]
    assert asset.episodes.assets == {}
    assert asset.row(66, FLOW).opened == [FIRST, SECOND]


def test_what_was_explained_is_no_part_of_an_alert_that_ends_while_another_one_may_explain_it() -> None:
    asset = Related(FLOW_BY_PRESSURE).rows(1, LATE, BOTH)
    asset.rows(LATE, LATE + 3, (1.5, 1.5, 1.5)).row(LATE + 3, (0.1, 1.5, 1.5))
    assert asset.opened == [FIRST, ("deviation", ["Current"])]
    assert asset.events[-1].phase is Phase.CLOSED
    assert asset.events[-1].sensors == ("Pressure",)


def test_a_sensor_that_was_normal_again_meanwhile_is_no_echo_of_then() -> None:
    asset = Related(FLOW_BY_PRESSURE).rows(1, 40, BOTH).row(40, PRESSURE)
    asset.explained = ()
    assert asset.row(41, BOTH).opened == [FIRST, SECOND]


def test_more_of_it_than_was_explained_is_another_alert_once_it_can_be_told_apart() -> None:
    asset = Related(FLOW_BY_PRESSURE).rows(1, 40, BOTH)
    asset.explained = ()
    reach = REACH * WINDOW
    asked = max(range(1, 40, reach))
    asset.rows(40, asked + reach, (1.5, 0.1, 2.0))
    assert asset.opened == [FIRST]
    asset.row(asked + reach, (1.5, 0.1, 2.1))
    assert asset.opened == [FIRST, SECOND]
    assert [one.sensor for one in asset.events[-1].contributors] == ["Flow"]


def test_what_lasts_when_what_explained_it_is_over_is_told_in_the_end() -> None:
    asset = Related(FLOW_BY_PRESSURE).rows(1, 25, BOTH).rows(25, 60, (1.5, 1.5, 1.5))
    asset.explained = ()
    reach = REACH * WINDOW
    asked = max(range(1, 60, reach))
    asset.rows(60, asked + 2 * reach, (0.1, 1.5, 1.4))
    assert asset.opened == [FIRST, ("deviation", ["Current"])]
    assert asset.row(asked + 2 * reach, (0.1, 1.5, 1.4)).opened[2:] == [SECOND]


def test_a_stuck_sensor_explains_others_and_is_explained_by_none() -> None:
    for explained, opened in ((PRESSURE_BY_FLOW, 1), (FLOW_BY_PRESSURE, 2)):
        asset = Related(explained)
        start = EpisodeStart(AlertKind.SENSOR_STUCK, 0, "Flow")
        asset.events += asset.episodes.open_unscored("p", start, 1, "m")
        asset.rows(LATE, LATE + 3, PRESSURE)
        assert len(asset.opened) == opened
        assert asset.named == ({"Flow", "Pressure"} if opened == 2 else {"Flow"})


def test_an_anomaly_joins_only_if_all_that_lead_it_are_explained() -> None:
    error: Off = (0.1, 9.0, 9.0)
    for explained, opened in (([FLOW_BY_PRESSURE, (1, 0)], 1), ([FLOW_BY_PRESSURE], 2)):
        asset = Related(*explained).rows(1, LATE, PRESSURE).row(LATE, PRESSURE, 6.0, error)
        assert len(asset.opened) == opened
        (told,) = [one for one in asset.events if AlertKind.ANOMALY in one.began]
        assert {"Current", "Flow"} <= set(told.sensors)


def test_what_is_over_explains_nothing() -> None:
    asset = Related(FLOW_BY_PRESSURE).rows(1, 5, PRESSURE).row(5, NONE).rows(LATE, LATE + 3, FLOW)
    assert asset.opened == [FIRST, SECOND]


def test_an_alert_whose_sensor_is_still_off_goes_on_when_another_one_takes_the_alarm() -> None:
    asset = Related()
    for row in range(1, 60):
        late = row >= 40
        asset.row(row, PRESSURE, 4.0, (9.0, 0.1, 30.0) if late else (9.0, 0.1, 0.1))
    ends = [
        (one.row_ns // SECOND_NS, one.phase, list(one.sensors))
        for one in asset.events
        if one.phase is not Phase.UPDATED
    ]
    assert ends == [(1, Phase.OPENED, ["Pressure"]), (40, Phase.OPENED, ["Flow"])]
    asset.rows(60, 65, NONE)
    closed = [
        (one.row_ns // SECOND_NS, list(one.sensors)) for one in asset.events if one.phase is Phase.CLOSED
    ]
    assert closed == [(60, ["Flow"]), (60, ["Pressure"])]
    assert asset.episodes.assets == {}


def test_an_anomaly_is_near_an_alert_by_when_it_opens_not_by_when_scores_began_to_be_high() -> None:
    asset = Related()
    for row in range(1, LATE):
        asset.row(row, PRESSURE, 2.9)  # above the closing level all along
    assert asset.row(LATE, PRESSURE, 6.0, (0.1, 0.1, 9.0)).opened == [FIRST, ("anomaly", ["Flow"])]


def test_a_sensor_with_a_small_share_in_an_anomaly_deviates_beside_it_later() -> None:
    asset = Related()
    for row in range(1, 40):
        asset.row(row, NONE, 4.0, (9.0, 3.0, 0.1))
    for row in range(40, 45):
        asset.row(row, (0.1, 1.5, 0.1), 4.0, (9.0, 40.0, 0.1))
    assert asset.opened == [("anomaly", ["Pressure"]), ("deviation", ["Current"])]
    ours = [one for one in asset.events if one.kind is AlertKind.ANOMALY]
    assert {one.contributors[0].sensor for one in ours} == {"Pressure"}


@pytest.mark.parametrize("refractory", [0, 8])
def test_an_anomaly_that_others_lead_by_raw_evidence_than_the_model_blames_stays_one_alert(
    refractory: int,
) -> None:
    def explain(shares: Floats) -> Explanation:
        blamed = np.arange(3) == 2
        return Explanation(blamed, np.where(blamed, 6.0, 0.1), np.zeros(3))

    asset = Related(refractory=refractory)
    for row in range(1, 150):
        score = 0.0 if refractory and row % 30 > 25 else 4.0
        asset.row(row, NONE, score, (9.0, 0.1, 3.0), explain=explain)
    assert asset.opened == [("anomaly", ["Flow"])]
    assert len(asset.events) < 12


def test_who_leads_an_anomaly_is_whom_the_model_blames_as_its_messages_say() -> None:
    def explain(shares: Floats) -> Explanation:
        blamed = np.arange(3) == (2 if asset.later else 0)
        return Explanation(blamed, np.where(blamed, 6.0, 0.1), np.zeros(3))

    asset = Related()
    for row in range(1, 12):
        asset.later = row > 2
        asset.row(row, NONE, 4.0, (6.0, 0.1, 6.0), explain=explain)
    told = [(one.row_ns // SECOND_NS, list(one.sensors), one.contributors[0].sensor) for one in asset.events]
    assert told[0] == (1, ["Pressure"], "Pressure")
    assert told[1:] == [(5, ["Flow"], "Flow"), (9, ["Flow"], "Flow")]


def test_in_a_storm_the_raw_evidence_says_who_leads_and_no_model_is_asked() -> None:
    def asked(_: object) -> Any:
        raise AssertionError

    spec = StreamSpec("pumps", SENSORS, window=WINDOW)
    episodes = Episodes(spec, InputPartition("t", 0), AlarmPolicy())
    events: list[AlertEvent] = []
    for row in range(1, 60):
        for i in range(30):
            error = [9.0, 0.1, 4.0] if row < 3 else [0.1, 0.1, 9.0]
            made = scored_row(row, 4.0, error)
            if row > 1 or i > 20:
                made = replace(made, explained_by=asked, explain=asked)
            events += episodes.scored(f"p{i}", made, 3.0, 2.7, "m", "full")[1]
    assert [one.phase for one in events if one.phase is not Phase.UPDATED] == [Phase.OPENED] * 30
    assert {one.sensors for one in events[-30:]} == {("Pressure", "Flow")}


def test_a_part_without_a_window_leaves_it_to_the_model_who_leads() -> None:
    def explain(shares: Floats) -> Explanation:
        blamed = np.arange(3) == 2
        return Explanation(blamed, np.where(blamed, 6.0, 0.1), np.zeros(3))

    asset = Related().row(1, NONE, 4.0, (9.0, 0.1, 3.0), explain=explain)
    start = EpisodeStart(AlertKind.SENSOR_STUCK, 0, "Current")
    asset.events += asset.episodes.open_unscored("p", start, 2, "m")
    assert asset.events[-1].sensors == ("Current", "Flow")


def test_a_sensor_joins_its_own_slow_trend_whatever_explains_it() -> None:
    asset = Related(FLOW_BY_PRESSURE).rows(1, LATE, PRESSURE)
    trend = EpisodeStart(AlertKind.DEVIATION, LATE, "Flow", per_day=1.0)
    asset.events += asset.episodes.open_unscored("p", trend, LATE, "m")
    asset.rows(LATE, LATE + 30, BOTH)
    (ours,) = [one for one in asset.events if one.phase is Phase.OPENED and "Flow" in one.sensors]
    last = [one for one in asset.events if one.fingerprint == ours.fingerprint][-1]
    assert len(last.parts) == 2


def test_a_sensor_that_explains_one_of_an_alert_is_no_echo_of_it() -> None:
    """The alert has another one, which it does not explain."""
    asset = Related(FLOW_BY_PRESSURE, PRESSURE_BY_FLOW)
    asset.rows(1, LATE, (1.5, 1.5, 0.1)).rows(LATE, LATE + 3, (1.5, 1.5, 1.5))
    assert "Flow" in asset.named
