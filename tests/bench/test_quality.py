from __future__ import annotations

from functools import partial

import numpy as np
import pytest

pytest.importorskip("river", reason="the benchmark's own dependencies: pip install -e '.[bench]'")

from daemon.domain import Floats
from tests.bench.peers import PEERS, Peer, carried, judge, plain_vae
from tests.bench.quality import COLUMNS, overall, shipped
from tests.bench.reporting import Section

BRIEF: dict[str, Peer] = {**PEERS, "plain VAE": partial(plain_vae, steps=100)}


def calm(rows: int) -> Floats:
    rng = np.random.default_rng(0)
    t = np.arange(rows)
    return np.stack([np.sin(t / 9.0), np.cos(t / 9.0)], 1) + 0.1 * rng.standard_normal((rows, 2))


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_sees_neither_the_future_nor_its_threshold_a_test_row(name: str) -> None:
    train, test = calm(400), calm(200)
    spoilt = test.copy()
    spoilt[120:] = 50.0
    whole, other = (judge(BRIEF[name], train, rows, 0) for rows in (test, spoilt))
    assert whole.scores.shape == whole.alarms.shape == (200,)
    assert np.isfinite(whole.scores).all()
    np.testing.assert_allclose(other.scores[:120], whole.scores[:120], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(other.alarms[:120], whole.alarms[:120])


@pytest.mark.parametrize("name", [name for name in PEERS if name != "HalfSpaceTrees"])
def test_a_peer_scores_what_is_anomalous_higher(name: str) -> None:
    # Half-space trees count mass in boxes and may well give an outlier an ordinary score.
    test = calm(200)
    test[120:124] = [3.0, -3.0]
    found = judge(BRIEF[name], calm(400), test, 0)
    assert found.scores[120:124].min() > np.quantile(found.scores[:120], 0.95)
    assert found.alarms[120:124].any()


def test_a_missing_cell_repeats_the_one_before() -> None:
    nan = np.nan
    np.testing.assert_array_equal(
        carried(np.array([[nan, 1.0], [2.0, nan], [nan, nan], [3.0, 4.0]])),
        [[0.0, 1.0], [2.0, 1.0], [2.0, 1.0], [3.0, 4.0]],
    )


def test_the_shipped_series_are_whole() -> None:
    series = list(shipped())
    assert [one.name for one in series] == ["omi-1", "omi-11", "omi-6"]
    for one in series:
        assert one.period_ns == 300 * 10**9
        assert one.rows(one.train).shape == (8_640, 19)
        assert one.rows(one.test).shape == (4_320, 19)
        assert np.isfinite(one.rows(one.test)).all()
        assert 0.04 < one.labels.mean() < 0.11


def test_means_are_over_the_series_and_events_are_summed() -> None:
    def section(ap: float, f1: float) -> Section:
        one = Section("s", "s", COLUMNS)
        one.add("x", ap, None, f1, 0.5, 0.5, 1.0, 2.0, 3.0, 4, None, 100.0)
        return one

    (row,) = overall([section(0.2, 0.4), section(0.6, float("nan"))]).rows
    assert row == ["x", pytest.approx(0.4), None, 0.4, 0.5, 0.5, 1.0, 2.0, 6.0, 8.0, None, 100.0]
