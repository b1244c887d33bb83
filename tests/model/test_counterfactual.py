"""What a stretch would have been under another condition, against a simulation that can be run twice."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from daemon.adapters.counterfactuals import MOST_SENSORS, counterfactual_figure
from daemon.domain import Floats, Segment
from daemon.errors import UsageError
from daemon.model.bundle import Bundle
from daemon.model.counterfactual import counterfactual_of, label_under
from tests.model.conftest import QUICK, trained
from tests.model.test_conditions import LEVEL, SENSORS, modes, plain, stretch


@pytest.fixture(scope="module", params=["mlp", "ppca"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    settings = replace(QUICK, steps=200, kind=request.param)
    return trained([modes(10)], settings, sensors=SENSORS, condition=("mode",))


def fresh(mode: str) -> Segment:
    return Segment("p", 5_000, stretch(300, 80, mode), (f"mode={mode}",) * 300)


def off(one: Floats, other: Floats) -> Floats:
    """(C,) mean distance in units of how far the two modes lie apart."""
    apart = np.abs(np.subtract(LEVEL["high"], LEVEL["low"]))
    return np.asarray(np.abs(one - other).mean(0) / apart)


def test_the_counterfactual_is_near_the_same_run_in_the_other_mode(bundle: Bundle) -> None:
    """``stretch`` has the same load under one seed: the twin is what really would have been."""
    found = counterfactual_of(bundle, fresh("high"), 5_100, 60, "mode=low")
    twin = stretch(300, 80, "low")[100:160]
    assert (off(found.value, twin) < 0.15).all()
    assert (off(found.observed, twin) > 0.9).all()
    assert (off(found.expected, found.observed) < 0.1).all()
    assert (found.low < found.value).all()
    assert (found.value < found.high).all()
    # The load is kept: it goes up and down as the twin's does.
    for c in range(3):
        assert np.corrcoef(found.value[:, c], twin[:, c])[0, 1] > 0.8
    assert (found.was, found.under) == (("mode=high",) * 60, ("mode=low",) * 60)


def test_the_same_condition_is_no_change(bundle: Bundle) -> None:
    found = counterfactual_of(bundle, fresh("high"), 5_100, 60, "mode=high")
    np.testing.assert_array_equal(found.value, found.expected)


def test_gaps_and_the_ends_of_a_segment(bundle: Bundle) -> None:
    segment = fresh("high")
    whole = counterfactual_of(bundle, segment, 5_100, 60, "mode=low")
    segment.values[110:120, 0] = np.nan
    holed = counterfactual_of(bundle, segment, 5_100, 60, "mode=low")
    assert np.isnan(holed.observed[10:20, 0]).all()
    assert np.isfinite(holed.value).all()
    assert (off(holed.value, whole.value) < 0.1).all()
    for at, rows in ((5_000, 1), (5_299, 1), (5_000, 300)):
        assert np.isfinite(counterfactual_of(bundle, fresh("high"), at, rows, "mode=low").value).all()
    # A row's answer does not depend on how many others are requested, except for the draws of the interval.
    alone = counterfactual_of(bundle, fresh("high"), 5_130, 1, "mode=low")
    np.testing.assert_allclose(alone.value[0], whole.value[30], rtol=1e-5)


def test_the_same_seed_gives_the_same_answer(bundle: Bundle) -> None:
    one, other, third = (
        counterfactual_of(bundle, fresh("high"), 5_100, 60, "mode=low", seed=seed).as_dict()
        for seed in (0, 0, 1)
    )
    assert one == other
    assert one != third


@pytest.mark.parametrize(
    ("at", "rows", "said"),
    [(4_999, 10, "are not all in"), (5_295, 10, "are not all in"), (5_000, 0, "are not all in")],
)
def test_rows_outside_the_segment_are_refused(bundle: Bundle, at: int, rows: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        counterfactual_of(bundle, fresh("high"), at, rows, "mode=low")


def test_a_segment_shorter_than_a_window_is_refused(bundle: Bundle) -> None:
    short = Segment("p", 0, stretch(10, 0, "low"), ("mode=low",) * 10)
    with pytest.raises(UsageError, match="10 rows without a gap, a window needs 16"):
        counterfactual_of(bundle, short, 0, 5, "mode=high")


def test_an_unknown_condition_names_those_that_are_known(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="no condition 'mode=lwo'; it knows mode=high, mode=low"):
        counterfactual_of(bundle, fresh("high"), 5_100, 60, "mode=lwo")
    bare = trained([plain(modes(4))], replace(QUICK, kind="ppca"), sensors=SENSORS)
    with pytest.raises(UsageError, match="knows no conditions"):
        counterfactual_of(bare, fresh("high"), 5_100, 60, "mode=low")


@pytest.mark.parametrize(
    ("label", "condition", "found"),
    [
        ("mode=b,site=x,$hour=08", "mode=a", "mode=a,site=x,$hour=08"),
        ("mode=b,site=x,$hour=08", "$hour=09,mode=a", "mode=a,site=x,$hour=09"),
        ("mode=b,site=x,$hour=08", "mode=a,site=x,$hour=09", "mode=a,site=x,$hour=09"),
        ("", "mode=a,site=x,$hour=09", "mode=a,site=x,$hour=09"),  # a row outside the request
    ],
)
def test_some_fields_of_a_label_are_changed(label: str, condition: str, found: str) -> None:
    known = ["mode=a,site=x,$hour=08", "mode=a,site=x,$hour=09", "mode=b,site=x,$hour=08"]
    assert label_under(label, condition, known) == found


def test_of_many_labels_the_nearest_are_named() -> None:
    known = [f"mode={i:02d}" for i in range(30)]
    with pytest.raises(UsageError, match=r"'mode=0x'; it knows .*mode=0\d.* and 20 more"):
        label_under("mode=01", "mode=0x", known)


def test_as_json_and_as_a_figure(bundle: Bundle) -> None:
    found = counterfactual_of(bundle, fresh("high"), 5_100, 60, "mode=low")
    said = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert said["was"] == ["mode=high"]
    assert said["under"] == ["mode=low"]
    assert len(said["timestamps"]) == 60
    assert said["sensors"]["c"]["change"] == pytest.approx(-600.0, abs=60.0)
    assert said["sensors"]["c"]["value"] == found.value[:, 2].tolist()
    figure = json.loads(json.dumps(counterfactual_figure(replace(found, asset="<b>p</b>")), allow_nan=False))
    assert len(figure["data"]) == 5 * 3
    assert "<b>" not in json.dumps(figure["layout"])
    assert [t["y"] for t in counterfactual_figure(found, ["c"])["data"]][-1] == found.value[:, 2].tolist()


def test_a_figure_has_the_sensors_that_change_most(bundle: Bundle) -> None:
    found = counterfactual_of(bundle, fresh("high"), 5_100, 20, "mode=low")
    wide = replace(
        found,
        sensors=tuple(f"s{i}" for i in range(12)),
        **{
            name: np.concatenate([getattr(found, name)] * 4, axis=1)
            for name in ("observed", "expected", "low", "high")
        },
        value=np.concatenate([found.expected] * 3 + [found.value], axis=1),
    )
    figure = counterfactual_figure(wide)
    assert len(figure["data"]) == 5 * MOST_SENSORS
    titles = {mark["name"] for mark in figure["layout"]["annotations"]}
    assert {"s9", "s10", "s11"} <= titles
