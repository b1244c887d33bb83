"""What people told, as the page has it: bounded, in plain words, whatever the messages hold."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from daemon.adapters.admin import snapshot
from daemon.adapters.admin.controls_json import decisions_json
from daemon.adapters.registry import DecisionRecord
from daemon.adapters.telemetry import Metrics, Reporter, Status
from daemon.alert import AcceptedChange
from daemon.control import Control, Feedback, MaintenanceOrder, Received, Verdict
from daemon.domain import SECOND_NS, Phase
from daemon.maintenance import MaintenanceWindow
from daemon.runtime.deciding import into_shadow, out_of_shadow
from daemon.stream.dismissal import Standing
from tests.adapters.admin.fleet import decisions
from tests.adapters.admin.pumps import HOSTILE, alert

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * SECOND_NS
HOUR = timedelta(hours=1)
NOTHING = Feedback("a", Verdict.FALSE_ALARM, "kim", "lid")


def heard(status: Status, *controls: Control, anew: bool = True) -> None:
    status.people.now_ns = lambda: NOW_NS
    status.people.received([Received(n, NOW_NS + n, each) for n, each in enumerate(controls)], anew=anew)


def verdict_on_the_open_alert(status: Status, standing: Standing | None) -> object:
    status.streams["pumps"].standing = lambda _: standing
    (episode,) = snapshot(status)["episodes"]
    return episode["told"]


@pytest.mark.parametrize(
    ("verdict", "standing", "did"),
    [
        ("false_alarm", None, ""),  # its partition is read elsewhere
        ("false_alarm", {"dismissed": True}, "its like is held back"),
        ("false_alarm", {"dismissed": True, "held_back": 1}, "its like was held back 1 time since"),
        ("false_alarm", {"dismissed": True, "held_back": 3}, "its like was held back 3 times since"),
        ("false_alarm", {}, "noted"),  # it stays open
        ("planned", {"accepting": True}, "it becomes normal with the next reading"),
        ("planned", {}, "noted"),
        ("confirmed", {}, "kept as a real incident"),
    ],
)
def test_a_verdict_is_shown_with_what_it_has_done(
    status: Status, verdict: str, standing: dict[str, int] | None, did: str
) -> None:
    said = Feedback("a", Verdict(verdict), "kim", "lid")
    heard(status, Feedback("a", Verdict.CONFIRMED, "ada"), said)
    taken = None if standing is None else Standing(said, **standing)  # type: ignore[arg-type]
    assert verdict_on_the_open_alert(status, taken) == {
        "verdict": verdict, "by": "kim", "note": "lid", "at": "2026-03-04T12:00:00.000000001Z", "did": did,
    }  # fmt: skip


def test_a_verdict_that_is_not_taken_yet_says_so_and_without_the_topic_the_one_in_force_is_shown(
    status: Status,
) -> None:
    assert verdict_on_the_open_alert(status, None) is None
    without = verdict_on_the_open_alert(status, Standing(NOTHING, dismissed=True))
    assert without == {
        "verdict": "false_alarm", "by": "kim", "note": "lid", "at": None, "did": "its like is held back",
    }  # fmt: skip
    heard(status, Feedback("a", Verdict.PLANNED, "ada"))
    shown = verdict_on_the_open_alert(status, Standing(NOTHING, dismissed=True))
    assert isinstance(shown, dict)
    assert (shown["by"], shown["did"]) == ("ada", "it counts from the next reading on")


def test_what_was_planned_is_normal_once_its_alert_has_closed_by_that(status: Status) -> None:
    planned = Feedback("b", Verdict.PLANNED, "kim")
    heard(status, planned)
    status.streams["pumps"].standing = lambda event: Standing(planned) if event.fingerprint == "b" else None
    did = snapshot(status)["recent"][0]["told"]["did"]
    assert did == "the alert was over, and nothing was left to accept"
    status.published([replace(alert("pump-02", Phase.CLOSED, "b", n=10), feedback=planned)])
    assert snapshot(status)["recent"][0]["told"]["did"] == "the alert closed with it"  # a silence, say
    levels = [AcceptedChange("pressure", 1.294, "bar"), AcceptedChange("flow", -0.8)]
    closed = replace(alert("pump-02", Phase.CLOSED, "b", n=11), feedback=planned, accepted=levels)
    with capture_logs() as logs:
        Reporter(Metrics(["pumps"], ["t"]), status).outputs_published([closed])
    shown = snapshot(status)["recent"][0]
    assert shown["told"]["did"] == shown["accepted"]["says"] == "accepted: pressure +1.29 bar, flow -0.8"
    assert shown["accepted"]["changes"] == logs[0]["accepted"] == [
        {"sensor": "pressure", "change": 1.294, "unit": "bar"}, {"sensor": "flow", "change": -0.8},
    ]  # fmt: skip
    assert (logs[0]["event"], logs[0]["asset"], logs[0]["by"]) == ("change_accepted", "pump-02", "kim")
    status.published([replace(closed, id="12", summary="odd (over; planned, by kim)", accepted=())])
    heard(status, planned, Feedback("b", Verdict.CONFIRMED, "ada"))
    assert snapshot(status)["recent"][0]["summary"] == "odd (over; confirmed, by ada)"
    silence = Feedback("b", Verdict.FALSE_ALARM, "kim")
    heard(status, silence)
    status.streams["pumps"].standing = lambda _: Standing(silence)
    assert snapshot(status)["recent"][0]["told"]["did"] == "the alert closed with it"


def test_planned_stops_come_active_first_and_those_that_are_over_do_not(status: Status) -> None:
    status.people.configured = lambda: (
        MaintenanceWindow("inspection", NOW_NS + SECOND_NS, NOW_NS + 2 * SECOND_NS),
    )
    names = tuple(f"pump-{n:02d}" for n in range(7))
    heard(
        status,
        MaintenanceOrder("over", NOW - 2 * HOUR, NOW - HOUR),
        MaintenanceOrder("daily", NOW - 30 * HOUR, NOW - 29 * HOUR, rrule="FREQ=DAILY", by="ada"),
        MaintenanceOrder("later", NOW - HOUR, NOW + HOUR),
        MaintenanceOrder("later", NOW + 9 * HOUR, NOW + 10 * HOUR, stream="pumps"),
        MaintenanceOrder("overhaul", NOW - HOUR, NOW + HOUR, names, reason=HOSTILE, by="kim"),
    )
    stops = snapshot(status)["stops"]
    assert [(stop["name"], stop["state"], stop["start"]) for stop in stops] == [
        ("overhaul", "active", "2026-03-04T11:00:00Z"),
        ("inspection", "planned", "2026-03-04T12:00:01Z"),
        ("later", "planned", "2026-03-04T21:00:00Z"),
        ("daily", "planned", "2026-03-05T06:00:00Z"),
    ]
    assert (stops[0]["by"], stops[0]["reason"], stops[0]["source"]) == ("kim", HOSTILE, "message")
    assert (stops[0]["assets"], stops[0]["more_assets"]) == (list(names[:5]), 2)
    assert (stops[1]["source"], stops[2]["stream"], stops[3]["rrule"]) == ("config", "pumps", "FREQ=DAILY")


def test_an_asset_in_a_stop_has_its_name(status: Status) -> None:
    stop = MaintenanceOrder("overhaul", NOW - HOUR, NOW + HOUR, ("pump-01",), stream="pumps")

    def named(*orders: MaintenanceOrder) -> dict[str, str | None]:
        heard(status, *orders)
        return {track["asset"]: track["stop"] for track in snapshot(status)["streams"][0]["tracks"]}

    assert named(stop) == {"pump-01": "overhaul", "pump-02": None, HOSTILE: None}
    assert named(msgspec.structs.replace(stop, stream="fans"))["pump-01"] is None
    assert named(msgspec.structs.replace(stop, start=NOW + HOUR / 2))["pump-01"] is None
    assert set(named(msgspec.structs.replace(stop, assets=())).values()) == {"overhaul"}


def test_what_is_kept_and_shown_is_bounded_and_a_topic_made_anew_begins_anew(status: Status) -> None:
    heard(status, *(MaintenanceOrder(f"s{n:03d}", NOW, NOW + (n + 1) * HOUR) for n in range(150)))
    heard(status, *(Feedback(f"f{n}", Verdict.PLANNED) for n in range(1_500)), anew=False)
    assert (len(snapshot(status)["stops"]), snapshot(status)["more_stops"]) == (20, 80)
    assert len(status.people.stops()) == 100
    assert min(one.stop.window.name for one in status.people.stops()) == "s050"
    assert len(status.people.verdicts) == 1_000
    assert "f1499" in status.people.verdicts
    heard(status, NOTHING)
    assert list(status.people.verdicts) == ["a"]
    assert snapshot(status)["stops"] == []


def test_a_stop_that_recurs_stays_on_the_page_and_what_there_is_no_room_for_is_said(
    status: Status,
) -> None:
    daily = MaintenanceOrder("daily", NOW - 200 * HOUR, NOW - 198 * HOUR, rrule="FREQ=DAILY")
    over = MaintenanceOrder("over", NOW - 99 * HOUR, NOW - 98 * HOUR, rrule="FREQ=DAILY;COUNT=2")
    others = [MaintenanceOrder(f"s{n:03d}", NOW, NOW + (n + 1) * HOUR) for n in range(100)]
    reporter = Reporter(Metrics(["pumps"], ["t"]), status).controls
    status.people.now_ns = lambda: NOW_NS
    messages = [Received(n, 0, each) for n, each in enumerate([daily, over, *others])]
    reporter.controls_read(messages[:-1], anew=True)
    assert status.people.left_out == 0
    with capture_logs() as logs:
        reporter.controls_read(messages[-1:], anew=False)
    assert [(each["event"], each["stops"]) for each in logs] == [("planned_stops_not_shown", 1)]
    names = {one.stop.window.name for one in status.people.stops()}
    assert names == {"daily", *(f"s{n:03d}" for n in range(1, 100))}


def test_a_decision_has_its_trigger_and_the_rule_that_refused_with_its_figure() -> None:
    refused, promoted = decisions_json(decisions())
    assert (promoted["promoted"], promoted["trigger"], promoted["refused_by"]) == (True, "schedule", None)
    assert (refused["version"], refused["trigger"]) == ("77b20d415f3a9c1e", "request")
    assert refused["trigger_reason"] == "kim: new impeller"
    assert refused["refused_by"] == {
        "rule": "recall_overall", "figure": 0.6123, "limit": 0.7, "at_least": True,
        "says": "recall overall: 0.6123, must be at least 0.7",
    }  # fmt: skip


def test_a_candidate_in_shadow_is_no_refused_one_and_its_outcome_is_a_decision_of_its_own() -> None:
    begun = into_shadow(decisions()[0], NOW_NS, SECOND_NS)
    why = "its alarms are more than the model in use has"

    def shown(*records: DecisionRecord) -> list[tuple[str, bool, object]]:
        return [(each["version"], each["promoted"], each["shadow"]) for each in decisions_json(records)]

    until, version = "2026-03-04T12:00:01Z", begun.version
    waits = version, False, {"until": until, "over": False}
    waited = version, False, {"until": until, "over": True}
    refused = decisions()[1]
    assert shown(begun) == [waits]
    assert shown(begun, refused) == [(refused.version, False, None), waits]
    for over in (
        out_of_shadow(begun, "2026-03-05T08:00:00Z", reason=why),
        out_of_shadow(begun, "2026-03-05T08:00:00Z", reason="", promoted=True),
        msgspec.structs.replace(decisions()[0], version="b5c84fe9"),  # another one is in force
    ):
        assert shown(begun, over, refused)[1:] == [(over.version, over.promoted, None), waited]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(
    st.lists(st.dictionaries(st.sampled_from(["name", "figure", "limit", "at_least", "passed"]), json_values))
)
def test_whatever_rules_a_record_has_the_page_can_show_it(rules: list[dict[str, object]]) -> None:
    (shown,) = decisions_json([msgspec.structs.replace(decisions()[0], rules=tuple(rules))])
    rule = shown["refused_by"]
    assert rule is None or rule["figure"] is None or math.isfinite(rule["figure"])


@given(st.integers(-(1 << 80), 1 << 80))
def test_a_message_of_any_time_is_shown(time_ns: int) -> None:
    status = Status(["pumps"])
    status.published([alert("pump-02", Phase.OPENED, "a")])
    status.people.received([Received(0, time_ns, NOTHING)], anew=True)
    assert snapshot(status)["episodes"][0]["told"]["verdict"] == "false_alarm"
