"""The report: nothing from outside, no name becomes markup, and a browser draws all of it."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.adapters.report import (
    Report,
    report_html,
)
from daemon.domain import (
    SECOND_NS,
    AlertKind,
    Contributor,
    Phase,
)
from daemon.drifting import DriftingAsset, FleetDrift
from tests.adapters.admin.fleet import ASSETS, SENSORS, episode
from tests.adapters.pages.markup import HOSTILE, WIDTHS, Markup, check_self_contained
from tests.adapters.report.runs import START, SUMMARY, drift_record, event, trace
from tests.browser import Page


def embedded(html: str) -> Any:
    """The document's data as its script would read it."""
    (text,) = Markup(html).json

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


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


# ------------------------------------------------------------------ in a browser
def plant() -> Report:
    """A run over five assets with long names, all sections filled."""
    traces = [
        dataclasses.replace(
            trace(asset, n=3_000, sensors=6),
            stream="compressors",
            sensors=SENSORS,
            alarms=np.arange(3_000) // 100 == 20,
        )
        for asset in ASSETS[:5]
    ]
    kinds = (AlertKind.ANOMALY, AlertKind.SENSOR_STUCK, AlertKind.DEVIATION)
    events = [
        dataclasses.replace(
            episode(n, phase, asset=ASSETS[n], kind=kind),
            onset_ns=START + 2_000 * SECOND_NS, opened_ns=START + 2_010 * SECOND_NS, row_ns=START + 2_100 * SECOND_NS,
        )
        for n, kind in enumerate(kinds)
        for phase in (Phase.OPENED, Phase.CLOSED)
    ]  # fmt: skip
    quality = {"anomalyd": {"AP": 0.61, "best F1": 0.7}, "time only": {"AP": 0.3, "best F1": 0.5}}
    alone = DriftingAsset("pump-07", 0, 1, 60, 2.0, 1.0, 0.1, 1.0, ["s1"], [0])
    fleet = FleetDrift(9, 1, assets=(alone,))
    drift = [replace(drift_record(60 * n, 0, 0.02 * n), fleet=fleet) for n in range(40)]
    return Report(
        "Replay of compressors",
        "/data/plant-03/day.parquet",
        SUMMARY,
        traces,
        events,
        drift,
        quality,
        ["a note"],
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report_html(plant()))
    return path


RANGE = "document.getElementById('chart').layout.xaxis.range.map((t) => new Date(t).getTime())"
SHOWN = "document.getElementById('assetname').textContent"


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_the_screen_and_complains_of_nothing(made: Path, page: Page, width: int) -> None:
    page.problems.clear()
    page.open(made, width)
    assert page.misfits() == []
    for chart in ("chart", "drift", "histogram"):
        assert page.value(f"document.querySelectorAll('#{chart} svg.main-svg').length") > 0
    told = page.value("document.getElementById('drifting').textContent")
    assert told == "pump-07: beyond its own threshold in 40 intervals, up to 2 times (s1)"
    page.colours("dark")
    assert page.misfits() == []
    assert page.problems == []


SHADES = "document.getElementById('chart').layout.shapes.map((s) => s.fillcolor)"
KEYS = "[...document.querySelectorAll('[data-shade]')].filter((k) => k.checkVisibility()).map((k) => k.textContent)"


def test_kinds_of_alerts_are_shaded_apart_and_the_legend_names_those_that_there_are(
    made: Path, page: Page
) -> None:
    page.problems.clear()
    page.open(made, 1024)
    colours = page.value("['bad', 'warn', 'faint'].map(colour)")
    assert len(set(colours)) == 3
    shown = {}
    for place, asset in enumerate(ASSETS[:3]):
        page.value(f"drawAsset(D.traces.findIndex((t) => t.asset === {json.dumps(asset)}))")
        shown[place] = set(page.value(SHADES)) & set(colours), page.value(KEYS)
    bad, warn, faint = colours
    assert shown == {
        0: ({bad}, []),
        1: ({bad, faint}, ["silent or stuck"]),
        2: ({bad, warn}, ["deviation"]),
    }
    assert page.problems == []


def test_an_asset_is_chosen_from_the_list_and_by_the_arrows(made: Path, page: Page) -> None:
    page.problems.clear()
    page.open(made, 1024)
    first = page.value(SHOWN)
    names = page.value("[...document.getElementById('asset').options].map((o) => o.textContent)")
    assert len(names) == 5
    page.value(
        "(() => { const s = document.getElementById('asset'); s.value = '3'; s.dispatchEvent(new Event('change')); })()"
    )
    assert names[3].startswith(page.value(SHOWN))
    page.click("#after")
    page.click("#after")
    assert page.value(SHOWN) == first  # counted round
    page.click("#before")
    assert names[4].startswith(page.value(SHOWN))
    assert page.problems == []


def test_a_drag_zooms_and_an_episode_is_shown_where_it_was(made: Path, page: Page) -> None:
    page.problems.clear()
    page.open(made, 1400)
    begin, end = page.value(RANGE)
    assert (end - begin) / 1e3 == pytest.approx(2_999, abs=1)
    page.drag("#chart .nsewdrag", 0.3, 0.6)
    begin, end = page.value(RANGE)
    assert (end - begin) / 1e3 == pytest.approx(0.3 * 2_999, rel=0.05)
    page.click("#episodes tr.go")
    begin, end = page.value(RANGE)
    assert begin < (START + 2_000 * SECOND_NS) / 1e6 < (START + 2_100 * SECOND_NS) / 1e6 < end
    assert page.value(SHOWN) == page.value("document.querySelector('#episodes tr.go td.name').textContent")
    assert page.problems == []


def test_names_are_shown_whole_and_as_text(hostile: str, page: Page, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(hostile)
    page.open(tmp_path / "report.html", 390)
    assert page.value("document.querySelector('#episodes td.name').textContent") == HOSTILE
    assert page.value(SHOWN) == HOSTILE
    assert HOSTILE[:20] in page.value("document.querySelector('#chart .infolayer').textContent")
    assert page.value("document.querySelectorAll('img').length") == 0
    assert page.misfits() == []


def test_a_run_that_found_nothing_is_a_page_too(page: Page, tmp_path: Path) -> None:
    page.problems.clear()
    (tmp_path / "report.html").write_text(report_html(Report("empty", "no rows", {})))
    page.open(tmp_path / "report.html", 390)
    text = page.value("document.body.innerText")
    for said in ("No episode was opened.", "No rows.", "No interval has ended.", "No row was scored."):
        assert said in text
    assert page.misfits() == []
    assert page.problems == []
