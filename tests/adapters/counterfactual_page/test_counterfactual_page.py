"""The page of a counterfactual: names as text, nothing loaded, and it fits every screen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from daemon.adapters.counterfactuals import counterfactual_html
from daemon.domain import SECOND_NS
from daemon.model.counterfactual import Counterfactual
from tests.adapters.admin.fleet import ASSETS, SENSORS
from tests.adapters.pages.markup import HOSTILE, WIDTHS, Markup, check_self_contained
from tests.browser import Page

ROWS = 60


def told_otherwise(asset: str = ASSETS[0], condition: str = "mode=low") -> Counterfactual:
    """An hour of six sensors as it was under ``mode=high``, and as it would have been."""
    observed = 40 + np.random.default_rng(0).normal(size=(ROWS, 6)).cumsum(axis=0)
    value = observed - np.arange(6)
    return Counterfactual(
        asset, SENSORS, 29_543_333, 60 * SECOND_NS, "5f3a9c1e77b20d41", condition, ("mode=high",), (condition,),
        observed, observed + 0.1, value, value - 1, value + 1,
    )  # fmt: skip


def test_it_loads_nothing_and_no_name_becomes_markup() -> None:
    text = counterfactual_html(told_otherwise(HOSTILE, HOSTILE))
    markup = Markup(text)
    check_self_contained(markup, markup.policy)
    assert HOSTILE not in text


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_the_screen_and_complains_of_nothing(page: Page, tmp_path: Path, width: int) -> None:
    (tmp_path / "page.html").write_text(counterfactual_html(told_otherwise()))
    page.problems.clear()
    page.open(tmp_path / "page.html", width)
    assert page.misfits() == []
    assert page.value("document.querySelectorAll('#counterfactual svg.main-svg').length") > 0
    assert page.value("document.querySelectorAll('#changes tbody tr').length") == 6
    assert page.value("document.title") == f"{ASSETS[0]}, had it been mode=low"
    assert page.problems == []
