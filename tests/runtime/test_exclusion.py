"""Which rows of the topics are not learned: those that alerts name."""

from __future__ import annotations

import random
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.control import Verdict
from daemon.domain import (
    SECOND_NS,
    AlertKind,
    InputPartition,
    Phase,
    iso,
)
from daemon.runtime.exclusion import AlertedEpisodes, beyond_share, drifted, exclude_episodes
from daemon.stream.encoding import PublishedDrift, read_alert
from tests.runtime.histories import BASE_S, SPEC, alert, seconds_of, segment


def named(*messages: bytes) -> AlertedEpisodes:
    alerts = AlertedEpisodes("pumps")
    for message in messages:
        alerts.add(message)
    return alerts


def test_a_closed_episode_is_left_out_from_its_onset_to_its_close_with_two_windows_to_either_side() -> None:
    alerts = named(alert("p1", 100, 105), alert("p1", 100, 120, Phase.CLOSED))
    history, cells = exclude_episodes([segment("p1", 300), segment("p2", 300)], alerts.episodes(), SPEC)
    margin = 2 * SPEC.window
    assert seconds_of(history, "p1") == [*range(100 - margin), *range(120 + margin + 1, 300)]
    assert seconds_of(history, "p2") == list(range(300))
    assert cells == {"alerts": 2 * (21 + 2 * margin)}


def test_a_gap_that_an_alarm_left_is_marked_as_cut_and_a_real_one_is_not() -> None:
    alerts = named(alert("p1", 250, 279, Phase.CLOSED))
    pieces = [segment("p1", 280), segment("p2", 280), segment("p1", 100, 400), segment("p1", 100, 900)]
    history, _ = exclude_episodes(pieces, alerts.episodes(), SPEC)
    assert [(s.asset, s.after_cut) for s in history] == [
        ("p1", False),
        ("p2", False),
        ("p1", True),
        ("p1", False),
    ]
    early = named(alert("p1", 10, 12, Phase.CLOSED), alert("p1", 450, 451, Phase.CLOSED))
    history, _ = exclude_episodes([segment("p1", 300), segment("p1", 300, 400)], early.episodes(), SPEC)
    assert [s.after_cut for s in history] == [False, True, False, True]


def test_an_open_episode_is_left_out_up_to_the_end() -> None:
    alerts = named(alert("p1", 100, 105), alert("p1", 100, 150, Phase.UPDATED))
    history, _ = exclude_episodes([segment("p1", 300)], alerts.episodes(), SPEC)
    assert seconds_of(history, "p1") == list(range(100 - 2 * SPEC.window))


def test_an_episode_that_began_before_the_history_counts_by_its_close_alone() -> None:
    alerts = named(alert("p1", -5000, 50, Phase.CLOSED))
    history, _ = exclude_episodes([segment("p1", 300)], alerts.episodes(), SPEC)
    assert seconds_of(history, "p1") == list(range(50 + 2 * SPEC.window + 1, 300))


def test_a_closed_episode_stays_closed_if_a_restart_repeats_it() -> None:
    opened, closed = alert("p1", 100, 105), alert("p1", 100, 120, Phase.CLOSED)
    history, _ = exclude_episodes([segment("p1", 300)], named(opened, closed, opened).episodes(), SPEC)
    assert 299 in seconds_of(history, "p1")


def test_of_a_stuck_sensor_only_its_own_values_are_excluded() -> None:
    alerts = named(alert("p1", 100, 130, kind=AlertKind.SENSOR_STUCK, sensor="b"))
    given_history = [segment("p1", 300)]
    (left,), cells = exclude_episodes(given_history, alerts.episodes(), SPEC)
    first = 100 - 2 * SPEC.window
    assert np.isfinite(left.values[:, 0]).all()
    assert np.flatnonzero(np.isnan(left.values[:, 1])).tolist() == list(range(first, 300))
    assert cells == {"alerts": 300 - first}
    assert np.isfinite(given_history[0].values).all()


@pytest.mark.parametrize(
    ("kind", "learned"),
    [
        (AlertKind.ANOMALY, False),
        (AlertKind.DEVIATION, False),
        (AlertKind.SENSOR_SILENT, True),
        (AlertKind.ASSET_SILENT, True),
        (AlertKind.UNKNOWN_CONDITION, True),
        (AlertKind.DRIFT, True),
    ],
)
def test_silences_drift_and_new_conditions_exclude_nothing(kind: AlertKind, learned: bool) -> None:
    history, _ = exclude_episodes(
        [segment("p1", 300)], named(alert("p1", 100, 110, kind=kind)).episodes(), SPEC
    )
    assert (seconds_of(history, "p1") == list(range(300))) is learned


def regime(message: bytes, since: str = "2023-11-14T22:00:00Z") -> bytes:
    said = f'"regime":{{"since":"{since}","learned":true}},"contributors"'
    return message.replace(b'"contributors"', said.encode())


def test_rows_before_a_regime_and_after_it_are_left_out() -> None:
    since = iso((BASE_S + 120) * SECOND_NS)
    said = [alert("p1", 100, row, Phase.UPDATED) for row in (110, 150, 200, 260)]
    said[1] = regime(said[1], since)
    history, _ = exclude_episodes([segment("p1", 300)], named(*said[:2]).episodes(), SPEC)
    margin = 2 * SPEC.window
    assert seconds_of(history, "p1") == [*range(100 - margin), *range(120 + margin, 300)]
    history, _ = exclude_episodes([segment("p1", 300)], named(*said, said[1]).episodes(), SPEC)
    assert seconds_of(history, "p1") == [*range(100 - margin), *range(120 + margin, 200 - margin)]


def test_a_regime_that_may_be_learned_leaves_out_no_rows() -> None:
    said = alert("p1", 100, 110, Phase.UPDATED)
    learned = regime(said)
    assert named(said).episodes()
    assert named(said, learned).episodes() == named(learned, said).episodes() == []
    assert named(said, learned, alert("p1", 200, 210)).episodes() == named(alert("p1", 200, 210)).episodes()


def test_of_an_alert_that_grew_each_part_is_left_out_as_long_as_it_is_open() -> None:
    opened = alert("p1", 100, 105, kind=AlertKind.SENSOR_STUCK, sensor="b")
    stuck = b'{"kind":"sensor_stuck","sensor":"b","onset":"2023-11-14T22:15:00Z"}'
    anomaly = b'{"kind":"anomaly","sensor":null,"onset":"2023-11-14T22:15:10Z"}'
    both = opened.replace(b'"open":[]', b'"open":[' + stuck + b"," + anomaly + b"]")
    alone = opened.replace(b'"open":[]', b'"open":[' + stuck + b"]")
    assert both != opened != alone
    assert [(e.sensor, e.over) for e in named(alone).episodes()] == [("b", False)]
    assert [(e.sensor, e.over) for e in named(alone, both).episodes()] == [("b", False), (None, False)]
    assert [(e.sensor, e.over) for e in named(alone, both, alone).episodes()] == [("b", False), (None, True)]


def opens_with(row_s: int, *parts: tuple[str, str | None, int]) -> bytes:
    """A message of one alert, at a row, with these parts open: kind, sensor, onset."""
    message = alert("p1", 100, row_s, Phase.UPDATED, kind=AlertKind.SENSOR_STUCK, sensor="b")
    fingerprint = alert("p1", 100, 100, kind=AlertKind.SENSOR_STUCK, sensor="b")
    assert read_alert(message).fingerprint == read_alert(fingerprint).fingerprint
    open_ = [
        {"kind": kind, "sensor": sensor, "onset": iso((BASE_S + onset) * SECOND_NS)}
        for kind, sensor, onset in parts
    ]
    return message.replace(b'"open":[]', b'"open":' + msgspec.json.encode(open_))


def test_an_anomaly_that_joins_an_alert_again_is_left_out_again() -> None:
    stuck = ("sensor_stuck", "b", 100)
    messages = [
        opens_with(105, stuck, ("anomaly", None, 103)),
        opens_with(110, stuck, ("anomaly", None, 103), ("deviation", "a", 90)),
        opens_with(120, stuck),
        opens_with(510, stuck, ("anomaly", None, 500)),
        opens_with(560, stuck),
    ]
    spans = [(90, 120, True), (500, 560, True)]
    for repeated in (messages, messages + messages[:1], messages[:4] + messages):
        found = named(*repeated).episodes()
        seconds = [
            (e.onset_ns // SECOND_NS - BASE_S, e.row_ns // SECOND_NS - BASE_S, e.over)
            for e in found
            if e.sensor is None
        ]
        assert seconds == spans
    history, _ = exclude_episodes([segment("p1", 700)], named(*messages[:4]).episodes(), SPEC)
    margin = 2 * SPEC.window
    assert seconds_of(history, "p1") == [*range(90 - margin), *range(120 + margin + 1, 500 - margin)]


def test_deviations_are_not_learned_either() -> None:
    message = alert("p1", 100, 110).replace(b'"anomaly"', b'"deviation"')
    history, _ = exclude_episodes([segment("p1", 300)], named(message).episodes(), SPEC)
    assert seconds_of(history, "p1") == list(range(100 - 2 * SPEC.window))


def test_a_stuck_sensor_that_the_stream_no_longer_has_excludes_nothing() -> None:
    alerts = named(alert("p1", 100, 130, kind=AlertKind.SENSOR_STUCK, sensor="z"))
    history, cells = exclude_episodes([segment("p1", 300)], alerts.episodes(), SPEC)
    assert (seconds_of(history, "p1"), cells) == (list(range(300)), {})


def test_the_alerts_reach_back_to_the_oldest_row_of_a_message() -> None:
    """Whatever they are about; an onset may lie long before."""
    alerts = named(alert("p1", 100, 150), alert("p1", 10, 130, kind=AlertKind.DRIFT), alert("p1", 200, 210))
    assert alerts.first_ns == (BASE_S + 130) * SECOND_NS


def test_an_episode_of_another_stream_with_the_same_asset_is_ignored() -> None:
    assert named(alert("p1", 100, 105, stream="fans")).episodes() == []


def test_an_alert_is_read_as_it_was_written() -> None:
    found = read_alert(alert("p1", 100, 120, Phase.CLOSED, AlertKind.SENSOR_STUCK, "a"))
    assert (found.stream, found.asset, found.kind, found.sensor) == ("pumps", "p1", "sensor_stuck", "a")
    assert found.onset_ns == (BASE_S + 100) * SECOND_NS
    assert found.row_ns == (BASE_S + 120) * SECOND_NS
    assert found.over


GARBAGE = [
    b"",
    b"null",
    b"[" * 100_000,
    b'{"subject": "p1", "data": ' + b'{"a":' * 50_000,
    b'{"subject": "p1"}',
    alert("p1", 100, 105).replace(b"2023-", b"9999999-"),
    alert("p1", 100, 105).replace(b'"onset":"', b'"onset":"not '),
    b" " * (1 << 20) + alert("p1", 100, 105),
    b"\xff\xfe\x00",
]


@pytest.mark.parametrize("message", GARBAGE, ids=range(len(GARBAGE)))
def test_messages_that_are_no_alerts_are_counted_and_skipped(message: bytes) -> None:
    alerts = named(message, alert("p2", 100, 105))
    assert alerts.unreadable == 1
    assert [e.asset for e in alerts.episodes()] == ["p2"]


@given(st.data())
def test_no_mutation_of_an_alert_is_more_than_unreadable(data: st.DataObject) -> None:
    alerts = AlertedEpisodes("pumps")
    random_ = random.Random(data.draw(st.integers(0, 1 << 32)))
    for _ in range(100):
        message = bytearray(alert("p1", 100, 105, sensor="a"))
        for _ in range(random_.randint(1, 4)):
            at = random_.randrange(len(message))
            message[at : at + random_.randint(0, 3)] = random_.randbytes(random_.randint(0, 3))
        alerts.add(bytes(message))
    assert alerts.unreadable + len(alerts.episodes()) <= 100


def test_the_number_of_excluded_episodes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.runtime.exclusion.MOST_EPISODES", 3)
    alerts = named(*(alert(f"p{i}", 100, 105) for i in range(5)), alert("p0", 100, 120, Phase.CLOSED))
    assert alerts.beyond == 2
    assert [(e.asset, e.over) for e in alerts.episodes()] == [("p0", True), ("p1", False), ("p2", False)]


# ------------------------------------------------------------------ verdicts
def fingerprint(message: bytes) -> str:
    return read_alert(message).fingerprint


MARGIN = 2 * SPEC.window


@pytest.mark.parametrize(
    ("verdict", "learned"),
    [
        (None, [*range(100 - MARGIN), *range(120 + MARGIN + 1, 300)]),
        (Verdict.CONFIRMED, [*range(100 - MARGIN), *range(120 + MARGIN + 1, 300)]),
        (Verdict.FALSE_ALARM, list(range(300))),
        (Verdict.PLANNED, [*range(100 - MARGIN), *range(121, 300)]),
    ],
)
def test_a_verdict_says_what_of_an_episode_is_learned(verdict: Verdict | None, learned: list[int]) -> None:
    messages = [alert("p1", 100, 105), alert("p1", 100, 120, Phase.CLOSED)]
    verdicts = {} if verdict is None else {fingerprint(messages[0]): verdict}
    history, _ = exclude_episodes([segment("p1", 300)], named(*messages).episodes(verdicts), SPEC)
    assert seconds_of(history, "p1") == learned


def test_of_an_open_episode_that_was_planned_what_follows_is_learned() -> None:
    message = alert("p1", 100, 150)
    verdicts = {fingerprint(message): Verdict.PLANNED}
    history, _ = exclude_episodes([segment("p1", 300)], named(message).episodes(verdicts), SPEC)
    assert seconds_of(history, "p1") == [*range(100 - MARGIN), *range(151, 300)]


@pytest.mark.parametrize(
    ("verdict", "let_in"),
    [(None, {}), (Verdict.CONFIRMED, {}), (Verdict.FALSE_ALARM, {"p1": 120}), (Verdict.PLANNED, {"p1": 120})],
)
def test_a_verdict_says_up_to_when_rows_of_an_asset_were_let_in(
    verdict: Verdict | None, let_in: dict[str, int]
) -> None:
    messages = [alert("p1", 100, 105), alert("p1", 100, 120, Phase.CLOSED), alert("p2", 130, 140)]
    verdicts = {} if verdict is None else {fingerprint(messages[0]): verdict}
    found = named(*messages).let_in_ns(verdicts)
    assert found == {asset: (BASE_S + row) * SECOND_NS for asset, row in let_in.items()}


def test_rows_of_a_regime_are_let_in_as_long_as_it_may_be_learned() -> None:
    messages = [alert("p1", 100, row, Phase.UPDATED) for row in (110, 150, 200)]
    assert named(*messages).let_in_ns({}) == {}
    assert named(messages[0], regime(messages[1])).let_in_ns({}) == {"p1": (BASE_S + 150) * SECOND_NS}
    accepted = b'"regime":{"since":"2023-11-14T22:00:00Z","learned":false,"accepted":true},"contributors"'
    closing = alert("p1", 100, 220, Phase.CLOSED).replace(b'"contributors"', accepted)
    assert named(*messages, closing).let_in_ns({}) == {"p1": (BASE_S + 220) * SECOND_NS}


def test_a_confirmed_incident_is_left_out_also_where_it_was_a_regime() -> None:
    since = iso((BASE_S + 110) * SECOND_NS)
    messages = [alert("p1", 100, 105), regime(alert("p1", 100, 150, Phase.UPDATED), since)]
    alerts = named(*messages, alert("p1", 100, 200, Phase.CLOSED))
    verdicts = {fingerprint(messages[0]): Verdict.CONFIRMED}
    around = range(100 - MARGIN, 201 + MARGIN)
    steady = range(110 + MARGIN, 200 - MARGIN)
    for said, left_out in ((verdicts, set(around)), ({}, set(around) - set(steady))):
        history, _ = exclude_episodes([segment("p1", 300)], alerts.episodes(said), SPEC)
        assert seconds_of(history, "p1") == sorted(set(range(300)) - left_out)
    (incident,) = alerts.confirmed(verdicts)
    assert (incident.asset, incident.fingerprint) == ("p1", fingerprint(messages[0]))
    assert (incident.onset_ns, incident.row_ns) == ((BASE_S + 100) * SECOND_NS, (BASE_S + 200) * SECOND_NS)
    assert alerts.confirmed({}) == named(*messages).confirmed(verdicts) == []  # nobody said so; it goes on


def test_another_episode_over_a_false_alarm_is_left_out_as_before() -> None:
    false, other = alert("p1", 100, 200, Phase.CLOSED), alert("p1", 150, 160, Phase.CLOSED)
    verdicts = {fingerprint(false): Verdict.FALSE_ALARM}
    history, _ = exclude_episodes([segment("p1", 300)], named(false, other).episodes(verdicts), SPEC)
    assert seconds_of(history, "p1") == [*range(150 - MARGIN), *range(161 + MARGIN, 300)]


@pytest.mark.parametrize(("last", "cut"), [(109, 0), (110, 1), (200, 91)])
def test_no_false_alarm_makes_more_than_its_share_of_a_set(last: int, cut: int) -> None:
    """Its newest rows stay."""
    message = alert("p1", 100, last, Phase.CLOSED)
    alerts, history = named(message), [segment("p1", last + 91)]
    assert len(seconds_of(history, "p1")) - (last - 99) == 190  # rows of no episode
    let_in = alerts.let_in({fingerprint(message): Verdict.FALSE_ALARM})
    left, taken = exclude_episodes(history, beyond_share(history, let_in, SPEC), SPEC)
    assert seconds_of(left, "p1") == [*range(100), *range(100 + cut, last + 91)]
    assert taken.total() == 2 * cut
    kept = last - 99 - cut
    assert kept <= 0.05 * len(seconds_of(left, "p1")) < kept + 1
    assert alerts.let_in({}) == []


def test_an_episode_that_the_history_does_not_hold_has_no_share() -> None:
    message = alert("p3", 100, 120, Phase.CLOSED)
    let_in = named(message).let_in({fingerprint(message): Verdict.FALSE_ALARM})
    assert beyond_share([segment("p1", 300)], let_in, SPEC) == []


# ------------------------------------------------------------------ drift
def interval(first_s: int, verdict: str = "drift", number: int = 0) -> PublishedDrift:
    times = ((BASE_S + second) * SECOND_NS for second in (first_s, first_s + 50))
    return PublishedDrift("pumps", InputPartition("sensors.pumps", number), *times, "m", verdict)


WHERE = {
    "p1": frozenset({InputPartition("sensors.pumps", 0)}),
    "p2": frozenset({InputPartition("sensors.pumps", 1)}),
}


def test_rows_of_drift_intervals_are_left_out_for_the_assets_of_their_partition() -> None:
    given_history = [segment("p1", 300), segment("p2", 300)]
    intervals = [
        interval(0, "ok"),
        interval(50),
        interval(100, "insufficient"),
        interval(150),
        interval(0, number=1),
    ]
    history, taken = exclude_episodes(given_history, drifted(intervals, WHERE, {}), SPEC)
    assert seconds_of(history, "p1") == [*range(50), *range(100, 150), *range(200, 300)]
    assert seconds_of(history, "p2") == list(range(50, 300))
    assert taken == {"drift": 2 * 150}


def test_of_an_asset_that_drifts_alone_its_own_rows_are_left_out() -> None:
    given_history = [segment("p1", 300), segment("p2", 300)]
    alone = (("p2", (BASE_S + 100) * SECOND_NS, (BASE_S + 150) * SECOND_NS),)
    intervals = [replace(interval(50, "ok"), assets=alone)]
    history, taken = exclude_episodes(given_history, drifted(intervals, WHERE, {}), SPEC)
    assert seconds_of(history, "p1") == list(range(300))
    assert seconds_of(history, "p2") == [*range(100), *range(150, 300)]
    assert taken == {"drift": 2 * 50}
    accepted = {"p2": (BASE_S + 120) * SECOND_NS}
    assert exclude_episodes(given_history, drifted(intervals, WHERE, accepted), SPEC)[1] == {}


def test_drift_after_a_regime_was_accepted_is_learned() -> None:
    accepted = {"p1": (BASE_S + 120) * SECOND_NS}
    intervals = [interval(50), interval(100), interval(150)]
    history, _ = exclude_episodes([segment("p1", 300)], drifted(intervals, WHERE, accepted), SPEC)
    assert seconds_of(history, "p1") == [*range(50), *range(100, 300)]
    closing = alert("p1", 100, 120, Phase.CLOSED)
    said = b'"regime":{"since":"2023-11-14T22:00:00Z","learned":false,"accepted":true},"contributors"'
    alerts = named(alert("p1", 100, 105), closing.replace(b'"contributors"', said))
    assert alerts.accepted == accepted
