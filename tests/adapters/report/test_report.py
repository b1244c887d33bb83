"""The report: nothing from outside, no name becomes markup, no peak is thinned away."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from daemon.adapters.report import (
    POINTS_PER_TRACE,
    AssetTrace,
    Report,
    extremes,
    report_data,
    report_html,
    spans,
)
from daemon.adapters.report.data import ASSETS_SHOWN, POINTS_IN_ALL
from daemon.adapters.report.traces import SENSORS_SHOWN
from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    Contributor,
    DriftRecord,
    Floats,
    InputPartition,
    PartScore,
    Phase,
    Severity,
)
from tests.adapters.pages.markup import HOSTILE, Markup, check_self_contained

START = 1_700_000_000 * SECOND_NS


def trace(asset: str = "pump-01", n: int = 300, sensors: int = 2, labelled: bool = True) -> AssetTrace:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n, sensors))
    filled = np.full_like(values, np.nan)
    scores = rng.gamma(2.0, 0.5, n)
    if n:
        values[n // 2, 0], filled[n // 2, 0] = np.nan, 0.25
        scores[0], scores[n // 3] = np.nan, 12.0
    return AssetTrace(
        stream="pumps", asset=asset, times_ns=START + np.arange(n) * SECOND_NS, scores=scores,
        alarms=np.nan_to_num(scores) > 5.1, threshold=5.1, sensors=tuple(f"s{c}" for c in range(sensors)),
        values=values, filled=filled, low=filled - 1, high=filled + 1,
        labels=np.arange(n) == n // 3 if labelled else None,
    )  # fmt: skip


def event(phase: Phase, score: float, row: int, asset: str = "pump-01", fingerprint: str = "f") -> AlertEvent:
    return AlertEvent(
        stream="pumps", asset=asset, kind=AlertKind.ANOMALY, phase=phase, severity=Severity.WARNING,
        fingerprint=fingerprint, id=f"{fingerprint}{row}", row_ns=START + row * SECOND_NS,
        onset_ns=START, opened_ns=START + SECOND_NS, model="5f3a9c1e", calibration="full", summary="odd",
        scores={"combined": PartScore(score, 5.1)}, contributors=[Contributor("s1", 0.9, None, 0.7)],
    )  # fmt: skip


def drift_record(start: int, partition: int, residual: float) -> DriftRecord:
    return DriftRecord(
        "pumps", InputPartition("f", partition), start * SECOND_NS, (start + 60) * SECOND_NS, "m", 60,
        (), (), (), (), (), 1.0, (0.1, 0.2), (residual,), 0.4, 0.6, "ok",
    )  # fmt: skip


SUMMARY: dict[str, Any] = {
    "records": {"read": 306, "accepted": 300, "duplicate": 1, "late": 2, "rejected": 3},
    "reasons": {"not_json": 3, "future": 0},
    "rows": np.int64(300), "scored": 299, "filled": 1, "episodes": 1, "models": ["5f3a9c1e"], "seconds": 2.5,
}  # fmt: skip


def unpacked(text: str, kind: str = "<f4") -> Floats:
    return np.frombuffer(base64.b64decode(text), kind).astype(np.float64)


def embedded(html: str) -> Any:
    """The document's data as its script would read it."""
    (text,) = Markup(html).json

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


# ------------------------------------------------------------------ thinning
series = hnp.arrays(
    np.float64, st.integers(0, 400), elements=st.floats(-1e6, 1e6) | st.just(math.nan), fill=st.nothing()
)


@given(series, st.integers(2, 60))
def test_thinning_keeps_the_peaks_and_the_order(values: Floats, most: int) -> None:
    rows = extremes(values, most)
    assert len(rows) <= max(most, 0)
    assert (np.diff(rows) > 0).all()
    kept = values[rows]
    if np.isfinite(values).any():
        assert np.nanmax(kept) == np.nanmax(values)
        assert np.nanmin(kept) == np.nanmin(values)
    elif len(values):
        assert len(kept)


def test_thinning_leaves_a_gap_a_gap() -> None:
    values = np.ones(10_000)
    values[4_000:6_000] = np.nan
    rows = extremes(values, 100)
    inside = values[rows[(rows >= 4_200) & (rows < 5_800)]]
    assert len(inside)
    assert np.isnan(inside).all()


@given(st.lists(st.booleans(), max_size=60))
def test_spans_are_the_runs(marks: list[bool]) -> None:
    mask, times = np.array(marks, bool), np.arange(len(marks)) * 10
    expected: list[tuple[int, int]] = []
    for row, mark in enumerate(marks):
        if mark and row and marks[row - 1]:
            expected[-1] = (expected[-1][0], row * 10)
        elif mark:
            expected.append((row * 10, row * 10))
    assert spans(mask, times) == expected
    joined = spans(mask, times, most=3)
    assert len(joined) <= 3
    assert all(any(a <= t <= b for a, b in joined) for t in times[mask])  # none is lost


def test_many_spans_join_where_they_are_nearest() -> None:
    mask = np.zeros(100, bool)
    mask[[0, 2, 50, 52, 90]] = True
    assert spans(mask, np.arange(100), most=3) == [(0, 2), (50, 52), (90, 90)]
    assert spans(mask, np.arange(100), most=1) == [(0, 90)]


# ------------------------------------------------------------------ the data
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
    other = dataclasses.replace(event(Phase.OPENED, 7, 3, "pump-02", "g"), scores={})
    data = report_data(Report("t", "s", SUMMARY, [trace()], [*messages, other]))
    assert data["episodeCount"] == 2
    first, second = data["episodes"]
    assert (first["score"], first["threshold"]) == (9, 5.1)
    assert first["closed"] == "2023-11-14T22:13:28Z"
    assert first["contributors"][0]["expected"] is None
    assert (second["closed"], second["score"]) == (None, None)


def test_what_is_most_of_interest_is_shown_and_the_rest_said() -> None:
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


# ------------------------------------------------------------------ the document
@pytest.fixture(scope="module")
def hostile() -> str:
    bad = dataclasses.replace(trace(HOSTILE), sensors=(HOSTILE, "100%{y} \ud800"))
    message = dataclasses.replace(
        event(Phase.OPENED, 9, 5, HOSTILE), summary=HOSTILE, contributors=[Contributor(HOSTILE, 1, 2, 0.5)]
    )
    quality = {"anomalyd": {"AP": 0.61}, HOSTILE: {"AP": math.nan}}
    return report_html(
        Report(HOSTILE, HOSTILE, SUMMARY, [bad], [message], [drift_record(0, 0, 0.5)], quality, [HOSTILE])
    )


def test_no_name_becomes_markup(hostile: str) -> None:
    assert HOSTILE not in hostile
    assert "<img" not in hostile.split('<script type="application/json"')[0]
    data = embedded(hostile)
    assert data["traces"][0]["asset"] == HOSTILE  # it arrives whole
    assert data["quality"][HOSTILE]["AP"] is None


def test_nothing_is_loaded_from_outside(hostile: str) -> None:
    markup = Markup(hostile)
    check_self_contained(markup, markup.policy)
    assert sum("plotly.js v" in text[:200] for text in markup.scripts) == 1


def test_the_document_is_of_a_reasonable_size(hostile: str) -> None:
    assert hostile.rstrip().endswith("</html>")
    assert len(hostile) < 7_000_000


def test_a_run_that_found_nothing_still_reports() -> None:
    data = embedded(report_html(Report("empty", "no rows", {}, [trace(n=0)])))
    assert data["records"] == {}
    assert data["histogram"] is None
    assert data["episodes"] == []
    assert embedded(report_html(Report("empty", "", {})))["traces"] == []
