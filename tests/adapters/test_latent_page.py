"""The page of ``explain``: nothing from outside, no name becomes markup, and it fits a telephone."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import daemon.adapters.latent_page
from daemon.adapters.latent_page import page_html
from daemon.commands.explain import ExplainOptions, explain
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    Budget,
    ModelSettings,
    Segment,
    StreamSpec,
)
from daemon.model.training import train
from tests.browser import Page, browser

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=document.title='owned'>"
ALIKE = "Hall 3 / line 2 / compressor station north-west / second stage outlet temperature behind the cooler, side {}"
SENSORS = (HOSTILE, ALIKE.format("A"), ALIKE.format("B"), *(f"sensor_{i}" for i in range(37)))
WIDTHS = (390, 1024, 1400)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The page of a model of 40 sensors that move in 16 ways, with all of its sections."""
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    rows = 1_500
    t = np.arange(rows)
    noise = rng.standard_normal((rows + 11, 16))
    causes = np.stack([np.convolve(noise[:, k], np.ones(12) / 3.5, "valid") for k in range(16)], 1)
    causes[:, 0] += 3 * np.where((t // 250) % 2, 1.0, -1.0)
    mixing = rng.standard_normal((16, 40))
    values = 50 + causes @ mixing + 0.05 * rng.standard_normal((rows, 40))
    spec = StreamSpec("pumps", SENSORS, period_ns=60 * SECOND_NS)
    settings = ModelSettings(steps=20, hidden=(16,), latent=4)
    bundle = train([Segment("pump-1", 0, values)], spec, settings, AlarmPolicy(), Budget(), 60)
    bundle.save(folder / "m")
    values[1_200:1_230, 1] += 40.0
    start = datetime(2026, 3, 1, tzinfo=UTC)
    head = ["timestamp", "asset", *SENSORS]
    lines = ["\t".join(head)]
    for i, row in enumerate(values.tolist()):
        lines.append("\t".join([(start + timedelta(minutes=i)).isoformat(), HOSTILE[:40], *map(repr, row)]))
    (folder / "day.tsv").write_text("\n".join(lines) + "\n")
    found = asyncio.run(
        explain(ExplainOptions(folder / "m", folder / "page.html", folder / "day.tsv", what_ifs=["0=+2"], names=[f"5={HOSTILE[:60]}", "cluster:1=<b>night</b>"], sweep_beta=True))
    )  # fmt: skip
    return folder / "page.html", found.document


class Parts(HTMLParser):
    """The document as a browser's parser sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = False


def test_the_page_holds_the_document_and_loads_nothing(made: tuple[Path, dict[str, Any]]) -> None:
    path, document = made
    parts = Parts()
    parts.feed(path.read_text())
    assert len(parts.scripts) == 3  # the data, plotly.js and the page's own
    assert json.loads(parts.scripts[0]) == document
    assert not any("src" in attrs or "href" in attrs for _, attrs in parts.tags)
    assert not any(tag in ("link", "iframe", "object", "base", "img") for tag, _ in parts.tags)
    (policy,) = (a["content"] for tag, a in parts.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    run = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in parts.scripts[1:]]
    assert allowed == run
    assert "unsafe-inline" not in policy.split("style-src")[0]


def test_many_sensors_and_dimensions_stay_a_page_that_can_be_mailed(
    made: tuple[Path, dict[str, Any]],
) -> None:
    path, document = made
    assert len(document["sensors"]) == 40
    assert sum(d["active"] for d in document["dimensions"]) >= 16
    assert path.stat().st_size < 10e6


def test_all_files_of_the_pages_are_in_the_wheel() -> None:
    root = Path(daemon.adapters.latent_page.__file__).parent
    about = tomllib.loads((root.parents[2] / "pyproject.toml").read_text())
    patterns = about["tool"]["setuptools"]["package-data"]["daemon.adapters.latent_page"]
    files = [p.name for p in root.iterdir() if p.is_file() and p.suffix != ".py"]
    assert {"page.css", "page.html", "page.js"} <= set(files)
    assert all(any(fnmatch(name, pattern) for pattern in patterns) for name in files)


# ------------------------------------------------------------------ in a browser
@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as page:
        yield page


OUTSIDE = """
[...document.querySelectorAll("body *")]
  .filter((e) => !e.closest(".scroll") && !e.closest("svg"))
  .filter((e) => { const r = e.getBoundingClientRect(); return r.width && (r.right > innerWidth + 1 || r.left < -1); })
  .map((e) => e.tagName + "." + e.className + ": " + e.textContent.slice(0, 60))
"""
SIDEWAYS = """
[...document.querySelectorAll(".scroll")].filter((e) => e.offsetParent && e.scrollWidth > e.clientWidth + 1)
  .map((e) => e.id + " " + e.scrollWidth + " " + e.clientWidth)
"""
CLIPPED = """
[...document.querySelectorAll("h1, h2, h3, h4, p, td, th, .name, .tile, dd, li, button")]
  .filter((e) => e.offsetParent && (e.scrollWidth > e.clientWidth + 1) && e.clientWidth)
  .map((e) => e.tagName + "." + e.className + ": " + e.textContent.slice(0, 60))
"""
CUT = """
[...document.querySelectorAll("svg.main-svg text")].filter((e) => {
  const own = e.getBoundingClientRect(), frame = e.closest(".js-plotly-plot").getBoundingClientRect();
  return own.width && (own.left < frame.left - 2 || own.right > frame.right + 2 || own.top < frame.top - 2
    || own.bottom > frame.bottom + 2);
}).map((e) => e.closest(".js-plotly-plot").id + ": " + e.textContent)
"""
OVERLAID = """
[...document.querySelectorAll(".card")]
  .filter((e) => e.offsetParent && !e.matches(".scroll") && e.scrollHeight > e.clientHeight + 1)
  .map((e) => e.id + e.className + " " + e.scrollHeight + " " + e.clientHeight)
"""


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_and_complains_of_nothing(
    made: tuple[Path, dict[str, Any]], page: Page, width: int
) -> None:
    page.problems.clear()
    page.open(made[0], width)
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value(OUTSIDE) == []
    assert page.value(CLIPPED) == []
    assert page.value(OVERLAID) == []
    assert page.value(SIDEWAYS) == []
    assert page.value(CUT) == []
    for name in ("map", "strips", "kl", "sweep"):
        assert page.value(f"document.querySelectorAll('#{name} svg.main-svg').length") > 0, name
    assert page.problems == []
    assert page.value("document.title") == f"anomalyd: what model {made[1]['version']} has learned"


def test_names_are_shown_whole_and_as_text(made: tuple[Path, dict[str, Any]], page: Page) -> None:
    page.open(made[0], 390)
    shown = page.value("[...document.querySelectorAll('.watch .name')].map((e) => e.firstChild.textContent)")
    assert shown == list(SENSORS)
    assert page.value("document.querySelectorAll('img').length") == 0
    text = page.value("document.body.innerText")
    assert "<b>night</b>" in text
    assert "<b>night</b>" in page.value("document.querySelector('#map .legend').textContent")


def test_the_rest_is_shown_on_demand(made: tuple[Path, dict[str, Any]], page: Page) -> None:
    page.problems.clear()
    page.open(made[0], 390)
    active = sum(d["active"] for d in made[1]["dimensions"])
    cards = "document.querySelectorAll('#directions .direction, #others .direction').length"
    assert page.value(cards) < active
    for _ in range(10):
        page.value("document.getElementById('more').hidden || document.getElementById('more').click()")
    assert page.value(cards) == active
    plots = "document.querySelectorAll('#directions .direction:first-child .plot svg.main-svg').length"
    before = page.value(plots)
    page.value("document.querySelector('#directions .direction button').click()")
    assert page.value(plots) > before
    assert page.value("document.querySelectorAll('.watch .row[hidden]').length") > 0
    page.value("document.querySelector('.watch button').click()")
    assert page.value("document.querySelectorAll('.watch .row[hidden]').length") == 0
    assert page.value(OUTSIDE) == []
    assert page.value("document.documentElement.scrollWidth") <= 390
    assert page.problems == []


def test_without_readings_the_page_has_what_the_model_alone_says(
    made: tuple[Path, dict[str, Any]], page: Page, tmp_path: Path
) -> None:
    bundle = made[0].parent / "m"
    found = asyncio.run(explain(ExplainOptions(bundle, tmp_path / "bare.html")))
    page.problems.clear()
    page.open(tmp_path / "bare.html", 1024)
    hidden = "[...document.querySelectorAll('section')].filter((s) => s.hidden).map((s) => s.id)"
    assert set(page.value(hidden)) == {"causebox", "mapbox", "klbox", "setbox", "episodebox", "sweepbox"}
    assert "without FILE" in page.value("document.body.innerText")
    assert page.value("document.querySelectorAll('#directions svg.main-svg').length") > 0
    assert page.problems == []
    assert (tmp_path / "bare.html").read_text() == page_html(found.document)
