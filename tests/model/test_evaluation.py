from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from daemon.domain import SECOND_NS
from daemon.model.evaluation import average_precision, figures, runs, table


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=60))
def test_average_precision_is_sklearns_ties_included(rows: list[tuple[bool, int]]) -> None:
    labels = np.array([label for label, _ in rows])
    scores = np.array([float(score) for _, score in rows])
    ours = average_precision(labels, scores)
    if labels.any():
        assert ours == pytest.approx(average_precision_score(labels, scores))
    else:
        assert np.isnan(ours)


def test_unscored_rows_count_as_the_lowest_score() -> None:
    labels = np.array([True, False, False])
    assert average_precision(labels, np.array([np.nan, 1.0, 2.0])) == pytest.approx(1 / 3)
    assert average_precision(labels, np.full(3, np.nan)) == pytest.approx(1 / 3)


def test_one_series_by_hand() -> None:
    labels, alarms = np.zeros(100, bool), np.zeros(100, bool)
    labels[40:50] = True
    labels[60:62] = True
    alarms[45:55] = True  # 5 right, 5 wrong, touching the event: no false episode
    alarms[5:8] = True  # a false episode
    line = figures("x", labels, alarms.astype(float), alarms, 864 * SECOND_NS)  # 100 rows a day
    assert (line.events, line.events_found) == (2, 1)
    assert line.precision == pytest.approx(5 / 13)
    assert line.recall == pytest.approx(5 / 12)
    assert line.f1 == pytest.approx(10 / 25)
    assert line.false_alarm_share == pytest.approx(8 / 88)
    assert line.false_per_day == pytest.approx(1 / 0.88)


def test_the_table_contains_uninformed_baselines() -> None:
    labels = np.zeros(50, bool)
    labels[30:] = True
    lines = table(labels, labels.astype(float), labels, SECOND_NS)
    by_name = {line.name: line for line in lines}
    assert list(by_name) == ["anomalyd", "random", "all-ones", "time-only"]
    assert by_name["anomalyd"].average_precision == 1.0
    assert by_name["all-ones"].average_precision == pytest.approx(0.4)
    assert by_name["all-ones"].recall == 1.0
    assert by_name["time-only"].average_precision == 1.0  # which is why it is there


def test_a_series_without_anomalies_has_no_recall() -> None:
    line = figures("x", np.zeros(5, bool), np.zeros(5), np.zeros(5, bool), SECOND_NS)
    assert np.isnan(line.recall)
    assert np.isnan(line.f1)
    assert line.false_alarm_share == 0.0


def test_runs() -> None:
    assert runs(np.array([True, False, True, True])) == [(0, 1), (2, 4)]
    assert runs(np.zeros(3, bool)) == []
