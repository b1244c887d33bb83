"""The document of a run: what was given, bounded however long the run is."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from daemon.adapters.report import (
    POINTS_PER_TRACE,
    Report,
    report_data,
)
from daemon.adapters.report.data import ASSETS_SHOWN, POINTS_IN_ALL
from daemon.adapters.report.traces import SENSORS_SHOWN
from daemon.alert import AlertPart
from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    Contributor,
    DriftRecord,
    Phase,
)
from daemon.drifting import DriftingAsset, FleetDrift
from tests.adapters.report.runs import START, SUMMARY, drift_record, event, trace, unpacked


def test_a_trace_carries_what_was_given() -> None:
    given_trace = trace()
    data = report_data(Report("t", "s", SUMMARY, [given_trace], [event(Phase.OPENED, 12.0, 100)]))
    (shown,) = data["traces"]
    np.testing.assert_allclose(unpacked(shown["score"]), given_trace.scores, rtol=1e-6)
    np.testing.assert_array_equal(unpacked(shown["t"], "<f8"), given_trace.times_ns / 1e6)
    alarm = unpacked(shown["alarm"])
    np.testing.assert_array_equal(np.isfinite(alarm), given_trace.alarms)
    at = (START + 100 * SECOND_NS) / 1e6
    assert shown["labels"] == [[at, at]]
    assert [at, at] in shown["alarms"]
    first = shown["sensors"][0]
    assert unpacked(first["filledT"], "<f8") == [(START + 150 * SECOND_NS) / 1e6]
    assert unpacked(first["filled"]) == [0.25]
    outline = unpacked(first["band"])
    assert np.nanmax(outline) == 1.25
    assert np.nanmin(outline) == -0.75
    assert shown["sensors"][1]["filled"] == ""


def test_a_threshold_that_moves_is_drawn_where_it_moves() -> None:
    threshold = np.concatenate([np.full(100, np.nan), np.full(100, 5.0), np.full(100, 4.0)])
    shown = report_data(Report("t", "s", SUMMARY, [dataclasses.replace(trace(), threshold=threshold)]))[
        "traces"
    ][0]
    rows = (unpacked(shown["thresholdT"], "<f8") * 1e6 - START) / SECOND_NS
    assert rows.round().tolist() == [0, 99, 100, 199, 200, 299]
    assert unpacked(shown["threshold"])[2:].tolist() == [5, 5, 4, 4]


def test_an_episode_is_one_line_with_its_peak() -> None:
    messages = [event(Phase.OPENED, 6, 1), event(Phase.UPDATED, 9, 5), event(Phase.CLOSED, 2, 8)]
    messages[2] = dataclasses.replace(messages[2], peak=messages[1].peak, ended_ns=START + 6 * SECOND_NS)
    other = dataclasses.replace(event(Phase.OPENED, 7, 3, "pump-02", "g"), scores={}, peak=None)
    data = report_data(Report("t", "s", SUMMARY, [trace()], [*messages, other]))
    assert data["episodeCount"] == 2
    first, second = data["episodes"]
    assert (first["score"], first["threshold"]) == (9, 5.1)
    assert first["closed"] == "2023-11-14T22:13:28Z"
    assert first["to"] == (START + 6 * SECOND_NS) / 1e6  # the last bad row, not the message that says so
    assert first["contributors"][0]["expected"] is None
    assert (second["closed"], second["score"]) == (None, None)


def test_what_is_most_of_interest_is_shown_and_the_rest_counted() -> None:
    traces = [trace(f"pump-{n:03d}", n=20, sensors=40) for n in range(60)]
    alerted = [event(Phase.OPENED, 9, 5, "pump-059"), event(Phase.OPENED, 9, 5, "pump-031", "g")]
    alerted = [dataclasses.replace(e, contributors=[Contributor("s39", 1, 2, 0.9)]) for e in alerted]
    data = report_data(Report("t", "s", SUMMARY, traces, alerted))
    assert data["assets"] == 60
    assert len(data["traces"]) == ASSETS_SHOWN
    assert {t["asset"] for t in data["traces"][:2]} == {"pump-031", "pump-059"}
    names = [s["name"] for s in data["traces"][0]["sensors"]]
    assert len(names) == SENSORS_SHOWN
    assert names[-1] == "s39"  # blamed, and in its place
    assert data["traces"][0]["of"] == 40


def test_the_document_stays_small_however_long_the_run() -> None:
    traces = [trace(f"pump-{n}", n=50_000, sensors=6) for n in range(8)]
    data = report_data(Report("t", "s", SUMMARY, traces))
    lines = [(t["score"], [s["y"] for s in t["sensors"]]) for t in data["traces"]]
    points = [len(unpacked(line)) for score, sensors in lines for line in (score, *sensors)]
    assert max(points) <= POINTS_PER_TRACE
    assert sum(points) <= POINTS_IN_ALL
    assert np.nanmax(unpacked(lines[0][0])) == 12.0


def test_histogram_counts_every_scored_row() -> None:
    data = report_data(Report("t", "s", SUMMARY, [trace()]))["histogram"]
    assert sum(data["groups"]["normal"]) + sum(data["groups"]["anomalous"]) == 299
    assert sum(data["groups"]["anomalous"]) == 1
    assert data["threshold"] == 5.1
    unlabelled = report_data(Report("t", "s", SUMMARY, [trace(labelled=False)]))["histogram"]
    assert list(unlabelled["groups"]) == ["rows"]
    flat = dataclasses.replace(trace(), scores=np.zeros(300), threshold=math.nan)
    assert (
        sum(sum(g) for g in report_data(Report("t", "s", SUMMARY, [flat]))["histogram"]["groups"].values())
        == 300
    )


def test_drift_shows_the_worst_partition_in_time_order() -> None:
    records = [drift_record(60, 0, 0.5), drift_record(0, 0, 0.1), drift_record(0, 1, 0.3)]
    (stream,) = report_data(Report("t", "s", SUMMARY, drift=records))["drift"]
    assert stream["t"] == [0, 60_000]
    assert stream["residual"] == [0.3, 0.5]
    assert stream["latent"] == pytest.approx([0.3, 0.3])
    assert stream["residualEdge"] == [0.6, 0.6]


def test_assets_that_drift_alone_are_named_the_farthest_first() -> None:
    def record(start: int, **excess: float) -> DriftRecord:
        ns = (start * SECOND_NS, (start + 60) * SECOND_NS)
        alone = (DriftingAsset(a, *ns, 60, 2 * x, 2.0, 0.1, 1.0, ["b", "a"], [0]) for a, x in excess.items())
        fleet = FleetDrift(9, len(excess), assets=tuple(alone))
        return dataclasses.replace(drift_record(start, 0, 0.1), fleet=fleet)

    records = [record(0, p1=1.5), record(60, p1=1.25, p2=4.0), record(120)]
    (stream,) = report_data(Report("t", "s", SUMMARY, drift=records))["drift"]
    assert stream["assets"] == [
        {"asset": "p2", "intervals": 1, "excess": 4.0, "sensors": ["b", "a"]},
        {"asset": "p1", "intervals": 2, "excess": 1.5, "sensors": ["b", "a"]},
    ]


def test_assets_with_episodes_are_never_more_than_there_are() -> None:
    """A drift is of the whole stream, and assets may be left out of the traces."""
    drift = dataclasses.replace(event(Phase.OPENED, 7, 3, "pumps", "d"), kind=AlertKind.DRIFT, scores={})
    alarms = [event(Phase.OPENED, 6, 1), event(Phase.OPENED, 6, 2, "pump-02", "g")]
    data = report_data(Report("t", "s", SUMMARY, [trace()], [*alarms, drift], assets=2))
    assert (data["episodeCount"], data["alarmedAssets"], data["assets"]) == (3, 2, 2)
    data = report_data(Report("t", "s", SUMMARY, [trace()], [drift]))
    assert (data["alarmedAssets"], data["assets"]) == (0, 1)


def test_what_else_than_an_anomaly_was_open_is_shaded_by_kind_from_its_onset_to_its_last_bad_row() -> None:
    def at(second: int) -> int:
        return START + second * SECOND_NS

    def message(phase: Phase, row: int, *parts: tuple[AlertKind, int], **more: Any) -> AlertEvent:
        open_now = [AlertPart(kind, None, at(onset)) for kind, onset in parts]
        return dataclasses.replace(event(phase, 6, row), parts=open_now, **more)

    deviation, anomaly, stuck = AlertKind.DEVIATION, AlertKind.ANOMALY, AlertKind.SENSOR_STUCK
    grown = [
        message(Phase.OPENED, 20, (deviation, 5)),
        message(Phase.UPDATED, 30, (deviation, 5), (anomaly, 28), (stuck, 25)),
        message(Phase.UPDATED, 50, (deviation, 5), (stuck, 25)),
        message(Phase.UPDATED, 60, (stuck, 25)),
        message(Phase.CLOSED, 90, ended_ns=at(80)),
    ]
    still = message(Phase.OPENED, 200, (AlertKind.UNKNOWN_CONDITION, 190), fingerprint="g")
    planned = message(Phase.SUPPRESSED, 100, (deviation, 95), fingerprint="h")
    bare = dataclasses.replace(event(Phase.OPENED, 6, 40, "pump-02", "i"), kind=deviation, onset_ns=at(35))
    data = report_data(Report("t", "s", SUMMARY, [trace(), trace("pump-02")], [*grown, still, planned, bare]))
    shades = {one["asset"]: one["shades"] for one in data["traces"]}

    def ms(*spans: tuple[int, int]) -> list[list[float]]:
        return [[at(a) / 1e6, at(b) / 1e6] for a, b in spans]

    assert shades["pump-01"] == {"deviation": ms((5, 60)), "silent": ms((25, 80)), "other": ms((190, 299))}
    assert shades["pump-02"] == {"deviation": ms((35, 299))}  # still open: to the end of the chart


def test_an_open_alert_lasts_to_the_end_of_the_chart_and_a_quiet_one_to_its_last_bad_row() -> None:
    still, quiet = event(Phase.OPENED, 6, 10), event(Phase.OPENED, 6, 20, fingerprint="g")
    over = dataclasses.replace(
        quiet, phase=Phase.UPDATED, row_ns=START + 90 * SECOND_NS, ended_ns=START + 60 * SECOND_NS
    )
    found = report_data(Report("t", "s", SUMMARY, [trace()], [still, quiet, over]))["episodes"]
    assert [(one["to"] - START / 1e6) / 1e3 for one in found] == [299, 60]
    assert [(one["closed"], one["quiet"]) for one in found] == [(None, False), (None, True)]


def test_of_many_stretches_the_longest_are_shaded() -> None:
    kind = {"kind": AlertKind.DEVIATION}
    events = []
    for n in range(400):
        mine = event(Phase.OPENED, 6, n, fingerprint=f"f{n}")
        events += [
            dataclasses.replace(mine, onset_ns=mine.row_ns, **kind),
            dataclasses.replace(
                event(Phase.CLOSED, 6, n + n % 7, fingerprint=f"f{n}"), onset_ns=mine.row_ns, **kind
            ),
        ]
    (shown,) = report_data(Report("t", "s", SUMMARY, [trace()], events))["traces"]
    spans = shown["shades"]["deviation"]
    assert len(spans) == 200
    assert spans == sorted(spans)
    assert min(b - a for a, b in spans) >= 3_000
