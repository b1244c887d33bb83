"""The admin page in a real browser: it loads, updates live, shows a broken connection, and fits every screen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from daemon.adapters.telemetry import Lifecycle, Status
from daemon.domain import Phase
from daemon.trigger import Cause, Trigger
from tests.adapters.admin.fleet import ASSETS, SENSORS, episode, fleet
from tests.adapters.admin.serving import ServedStatus, served
from tests.adapters.pages.markup import HOSTILE, WIDTHS
from tests.browser import Page

TILES = "[...document.querySelectorAll('.tile')].map((e) => e.innerText)"


@pytest.fixture
def port() -> Iterator[ServedStatus]:
    with served(fleet()) as port:
        yield port


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_the_screen_and_complains_of_nothing(port: ServedStatus, page: Page, width: int) -> None:
    page.problems.clear()
    page.open(port.url, width)
    assert page.misfits() == []
    page.colours("dark")
    assert page.misfits() == []
    assert page.problems == []


def test_it_shows_the_state(port: ServedStatus, page: Page) -> None:
    page.open(port.url, 1400)
    assert page.value("document.title") == "(4) anomalyd · live"
    assert page.value(TILES)[0].split("\n") == ["Open episodes", "4", "2 critical"]
    assert page.value("document.querySelectorAll('.asset').length") == len(ASSETS)
    assert page.value("document.querySelectorAll('#open tbody tr').length") == 4
    assert page.value("document.querySelectorAll('#recent tbody tr').length") == 3
    text = page.value("document.body.innerText")
    for shown in ("77b20d415f3a9c1e", "cannot be imputed", "not found", "Latent space", "expected 64.21"):
        assert shown in text


def test_names_are_shown_whole_and_as_text(port: ServedStatus, page: Page) -> None:
    port.status.published([episode(7, asset=HOSTILE)])
    for width in WIDTHS:
        page.open(port.url, width)
        assert HOSTILE in page.value(
            "[...document.querySelectorAll('#open td.name')].map((e) => e.textContent)"
        )
        assert page.value(
            "[...document.querySelectorAll('#drill td.name')].map((e) => e.textContent)"
        ) == list(SENSORS)
        assert page.misfits() == []
    assert page.value("document.querySelectorAll('img').length") == 0
    assert page.value("document.title") == "(5) anomalyd · live"


def test_it_updates_while_it_is_open(port: ServedStatus, page: Page) -> None:
    page.problems.clear()
    page.open(port.url, 1024)
    port.status.published([episode(8, asset="pump-19")])
    page.wait("document.querySelectorAll('#open tbody tr').length === 5")
    assert page.value("document.title") == "(5) anomalyd · live"
    port.status.published([episode(8, Phase.CLOSED, asset="pump-19")])
    page.wait("document.querySelectorAll('#open tbody tr').length === 4")
    assert "pump-19" in page.value("document.querySelector('#recent tbody tr').innerText")
    port.status.drain()
    page.wait("document.getElementById('state').textContent === 'draining'")
    assert "Not ready: draining." in page.value("document.getElementById('notice').innerText")
    assert page.problems == []


def test_a_broken_connection_is_shown_and_so_is_its_return(port: ServedStatus, page: Page) -> None:
    page.problems.clear()
    page.open(port.url, 1024)
    hidden = "document.getElementById('notice').hidden"
    assert page.value(hidden) is True
    port.turn_off()
    page.wait(f"!{hidden}")
    assert "No answer from the daemon since" in page.value("document.getElementById('notice').innerText")
    assert page.value("document.body.className") == "stale"
    port.status.published([episode(9, asset="pump-18")])
    port.turn_on()
    page.wait(hidden)
    assert page.value("document.body.className") == ""
    assert page.value("document.querySelectorAll('#open tbody tr').length") == 5
    # The browser itself reports the requests that failed; the page reports nothing.
    assert [problem for problem in page.problems if "Failed to load resource" not in problem] == []
    page.problems.clear()


def test_on_a_phone_open_episodes_come_first(port: ServedStatus, page: Page) -> None:
    page.open(port.url, 390, 844)

    def top(selector: str) -> float:
        return float(page.value(f"document.querySelector('{selector}').getBoundingClientRect().top"))

    assert top("#open") < top("#tiles")
    for part in ("td.when", "td.score", "td.blamed .cause"):
        assert top(f"#open tr {part}") < 600, part  # in sight without scrolling
    page.resize(1400)
    assert top("#tiles") < top("#open")


def test_before_the_first_model_it_shows_how_far_learning_is(page: Page) -> None:
    status = Status({"pumps": 500})
    status.joined = status.connected = True
    status.streams["pumps"].state, status.streams["pumps"].rows = Lifecycle.LEARNING, 125
    page.problems.clear()
    with served(status) as port:
        page.open(port.url, 390)
        assert "125 of 500 rows" in page.value("document.querySelector('#assets').innerText")
        assert "No open episodes." in page.value("document.querySelector('#open').innerText")
        assert page.misfits() == []
    assert page.problems == []


def test_a_training_that_runs_shows_why_and_how_far_it_is(port: ServedStatus, page: Page) -> None:
    (name,) = port.status.streams
    asked = Trigger(Cause.REQUEST, f"kim asked for it: {HOSTILE}")
    port.status.training(name, asked, lambda: (0.42, "cross-fitting"))
    page.problems.clear()
    for width in WIDTHS:
        page.open(port.url, width)
        shown = page.value("document.querySelector('#models').innerText")
        assert "42 %, cross-fitting" in shown
        assert "request: kim asked for it: " in shown
        assert page.misfits() == []
    assert HOSTILE in page.value("document.querySelector('#models').textContent")
    assert page.problems == []
