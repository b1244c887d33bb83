"""The page of an episode's cause: words first, names as text, nothing loaded, and it fits every screen."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from daemon.adapters.root_cause_page import root_cause_html
from daemon.model.repair import LatentPath
from tests.adapters.admin.fleet import SENSORS
from tests.adapters.pages.markup import HOSTILE, WIDTHS, Markup, check_self_contained
from tests.adapters.root_cause_page.explained import explained
from tests.browser import Page


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "why.html"
    path.write_text(root_cause_html(explained()))
    return path


def test_it_loads_nothing_and_no_name_becomes_markup() -> None:
    markup = Markup(root_cause_html(explained(HOSTILE, (HOSTILE, *SENSORS[1:]))))
    check_self_contained(markup, markup.policy)
    assert json.loads(markup.json[0])["asset"] == HOSTILE
    assert len(markup.json) == 4  # the document and three charts


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_the_screen_and_complains_of_nothing(made: Path, page: Page, width: int) -> None:
    page.problems.clear()
    page.open(made, width)
    assert page.misfits() == []
    for chart in ("rc-readings", "rc-window", "rc-path"):
        assert page.value(f"document.querySelectorAll('#{chart} svg.main-svg').length") > 0
    page.colours("dark")
    assert page.misfits() == []
    assert page.problems == []


def test_names_are_shown_whole_and_as_text(page: Page, tmp_path: Path) -> None:
    (tmp_path / "why.html").write_text(root_cause_html(explained(HOSTILE, (HOSTILE, *SENSORS[1:]))))
    page.open(tmp_path / "why.html", 390)
    names = page.value(
        "[...document.querySelectorAll('#blame .bar span:first-child')].map((e) => e.textContent)"
    )
    assert names == [HOSTILE, *SENSORS[1:5]]
    assert page.value("document.querySelectorAll('img').length") == 0
    assert page.value("document.title").startswith(f"Why {HOSTILE} alarmed")


def test_without_a_way_in_latent_space_there_is_no_chart_of_it(page: Page, tmp_path: Path) -> None:
    found = dataclasses.replace(explained(), path=LatentPath((), np.zeros((0, 0))))
    (tmp_path / "why.html").write_text(root_cause_html(found))
    page.problems.clear()
    page.open(tmp_path / "why.html", 1024)
    assert page.value("document.getElementById('pathbox').hidden") is True
    assert page.problems == []
