"""The page of an episode's cause: words first, names as text, nothing loaded, and it fits every screen."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from daemon.adapters.root_cause_page import root_cause_html
from daemon.adapters.root_cause_page.document import root_cause_document
from daemon.domain import SECOND_NS
from daemon.model.repair import Cause, Repair, Twin, Verdict
from daemon.model.repair import Path as LatentPath
from daemon.model.root_cause import Incident, Neighbour, RootCause
from tests.adapters.admin.fleet import ASSETS, SENSORS
from tests.adapters.pages.markup import HOSTILE, WIDTHS, Markup, check_self_contained
from tests.browser import Page

START = 1_772_600_000 * SECOND_NS
ROWS, WINDOW = 90, slice(60, 76)


def explained(asset: str = ASSETS[0], sensors: tuple[str, ...] = SENSORS) -> RootCause:
    """An episode of one hour in which two sensors of six are to blame."""
    rng = np.random.default_rng(0)
    times = START + np.arange(ROWS) * 60 * SECOND_NS
    observed = 40 + rng.normal(size=(ROWS, 6)).cumsum(axis=0)
    blank = np.full((ROWS, 6), np.nan)
    twin = Twin(blank.copy(), blank.copy(), blank.copy())
    for c in (0, 1):
        for part, off in ((twin.value, 0.0), (twin.low, -1.0), (twin.high, 1.0)):
            part[40:, c] = observed[40:, c] - 5 + off
    onset, peak = int(times[50]), int(times[75])
    return RootCause(
        stream="compressors", asset=asset, model="5f3a9c1e77b20d41", sensors=sensors, period_ns=60 * SECOND_NS,
        incident=Incident(asset, "f00d", ("a1e47",), onset, onset, int(times[89]), False, peak, ()),
        row_ns=peak, threshold=4.4,
        verdict=Verdict(Cause.PROCESS_FAULT, 7.0, 2.0, 0.1),
        repair=Repair((0, 1), 14.6, 1.9, 3.9, 2, 0, 21),
        shares=np.array([0.5, 0.3, 0.1, 0.05, 0.05, 0.0]), times_ns=times, scores=np.linspace(1, 14.6, ROWS),
        observed=observed, expected=observed + 0.1, twin=twin, window=WINDOW, reconstruction=observed[WINDOW] - 2,
        path=LatentPath((3, 1), rng.normal(size=(20, 2)).cumsum(axis=0)), path_times_ns=times[50:70],
        nearest=(
            Neighbour(ASSETS[1], "beef", START, 0.87, (SENSORS[3], SENSORS[4]), "real", "the cooler's valve was stuck"),
            Neighbour("pump-01", "cafe", START, 0.14, (SENSORS[5],), None, None),
        ),
        notes=("the file ends within the episode",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "why.html"
    path.write_text(root_cause_html(explained()))
    return path


def test_the_document_has_the_words_before_the_figures() -> None:
    document = root_cause_document(explained())
    assert document["cause"] in ("process fault", "process fault?")
    assert document["headline"].startswith("The process is off: ")
    assert [t["what"] for t in document["tiles"]] == ["Since", "Score", "Smallest repair"]
    assert document["tiles"][2]["big"] == "2 of 6 sensors"
    assert [r["sensor"] for r in document["readings"]] == list(SENSORS[:2])
    assert [b["share"] for b in document["blame"]] == ["50 %", "30 %", "10 %", "5 %", "5 %"]
    assert [b["repaired"] for b in document["blame"]] == [True, True, False, False, False]
    assert document["nearest"][0]["feedback"] == "real: the cooler's valve was stuck"


def test_a_normal_window_has_no_cause_and_needs_no_repair() -> None:
    found = dataclasses.replace(
        explained(),
        incident=None,
        verdict=Verdict(None, 1.0, 1.0, 1.0),
        repair=Repair((), 2.0, 2.0, 3.9, 0, 0, 0),
    )
    document = root_cause_document(found)
    assert (document["cause"], document["certainty"], document["identity"]) == (None, None, None)
    assert document["headline"] == "Nothing is wrong here"
    assert document["tiles"][2]["big"] == "none needed"
    assert document["readings"] == []


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
