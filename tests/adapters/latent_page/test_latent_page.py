"""The page of ``explain``: nothing from outside, no name becomes markup, and it fits a telephone."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.adapters.latent_page import page_html
from daemon.budget import Budget
from daemon.commands.explain import ExplainOptions, explain
from daemon.domain import SECOND_NS, AlarmPolicy, ModelSettings, Segment, StreamSpec
from daemon.model.training import CalibrationTarget, train
from tests.adapters.pages.markup import HOSTILE, WIDTHS, Markup, check_self_contained
from tests.browser import Page

ALIKE = "Hall 3 / line 2 / compressor station north-west / second stage outlet temperature behind the cooler, side {}"
SENSORS = (HOSTILE, ALIKE.format("A"), ALIKE.format("B"), *(f"sensor_{i}" for i in range(37)))


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
    bundle = train(
        [Segment("pump-1", 0, values)], spec, settings, CalibrationTarget(AlarmPolicy(), Budget(1.0), 60)
    )
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


def test_the_page_holds_the_document_and_loads_nothing(made: tuple[Path, dict[str, Any]]) -> None:
    path, document = made
    markup = Markup(path.read_text())
    assert json.loads(markup.json[0]) == document
    check_self_contained(markup, markup.policy)


def test_many_sensors_and_dimensions_stay_a_page_that_can_be_mailed(
    made: tuple[Path, dict[str, Any]],
) -> None:
    path, document = made
    assert len(document["sensors"]) == 40
    assert sum(d["active"] for d in document["dimensions"]) >= 16
    assert path.stat().st_size < 10e6


# ------------------------------------------------------------------ in a browser
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_and_complains_of_nothing(
    made: tuple[Path, dict[str, Any]], page: Page, width: int
) -> None:
    page.problems.clear()
    page.open(made[0], width)
    assert page.misfits() == []
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
    assert page.misfits() == []
    assert page.problems == []


def test_without_readings_the_page_shows_the_model_alone(
    made: tuple[Path, dict[str, Any]], page: Page, tmp_path: Path
) -> None:
    bundle = made[0].parent / "m"
    found = asyncio.run(explain(ExplainOptions(bundle, tmp_path / "bare.html")))
    page.problems.clear()
    page.open(tmp_path / "bare.html", 1024)
    hidden = "[...document.querySelectorAll('section')].filter((s) => s.hidden).map((s) => s.id)"
    assert set(page.value(hidden)) == {"mapbox", "klbox", "setbox", "episodebox", "sweepbox"}
    assert "without FILE" in page.value("document.body.innerText")
    assert page.value("document.querySelectorAll('#directions svg.main-svg').length") > 0
    assert page.problems == []
    assert (tmp_path / "bare.html").read_text() == page_html(found.document)
