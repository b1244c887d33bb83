"""The admin page in a real browser: it loads, updates live, shows a broken connection, and fits every screen."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from daemon.adapters.telemetry import Lifecycle, ShadowNow, Status
from daemon.alert import ShadowCounts
from daemon.control import (
    Control,
    Feedback,
    MaintenanceOrder,
    Received,
    RetrainRequest,
    Verdict,
    read_control,
)
from daemon.domain import Phase
from daemon.runtime.deciding import into_shadow
from daemon.trigger import Cause, Trigger
from tests.adapters.admin.desk import TOKEN, Told
from tests.adapters.admin.fleet import ASSETS, SENSORS, decisions, episode, fleet
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


# ------------------------------------------------------------------ telling the daemon something
@pytest.fixture
def told() -> Iterator[tuple[ServedStatus, Told]]:
    status = fleet()
    told = Told(status, token=True)
    with served(status, told.allowed) as port:
        yield port, told


FIELD = "document.getElementById('tellform').elements"


def opens(page: Page, key: str) -> None:
    """Click a button, as a mouse does: the page goes on updating between its down and its up."""
    page.click(f'[data-key="{key}"]')
    page.wait("document.getElementById('tell').open")


def fill(page: Page, **values: str) -> None:
    for name, text in values.items():
        page.value(f"{FIELD}[{json.dumps(name)}].value = {json.dumps(text)}")


def test_what_people_told_is_shown(port: ServedStatus, page: Page) -> None:
    page.open(port.url, 1400)
    said = page.value("document.querySelector('#open .said').innerText")
    for shown in (
        "false alarm",
        "Kim van den Heuvel-Østergård, 09:20:00",
        "its like was held back 3 times since",
    ):
        assert shown in said
    accepted = page.value("[...document.querySelectorAll('#recent .said')].map((e) => e.innerText)")
    assert f"accepted: {SENSORS[0]} +1.29 °C, oil_level -0.8" in accepted  # by alerts.accept_after
    assert any("nothing was left to accept" in one for one in accepted)
    assert page.value("[...document.querySelectorAll('#stops b')].map((e) => e.textContent)") == [
        "overhaul of both", "inspection", "sunday",
    ]  # fmt: skip
    decided = page.value("document.querySelector('#decisions .row').innerText")
    assert "recall overall: 0.6123, must be at least 0.7" in decided
    assert "trained on request: kim: new impeller" in decided
    assert page.value("document.querySelectorAll('button.tell').length") == len(
        ASSETS
    )  # of the cards, hidden
    assert page.value("[...document.querySelectorAll('button.tell')].every((e) => e.hidden)") is True
    assert "Read-only." in page.value("document.querySelector('footer').innerText")


def test_a_verdict_is_told_with_the_keyboard_and_acknowledged(
    told: tuple[ServedStatus, Told], page: Page
) -> None:
    port, desk = told
    page.problems.clear()
    page.open(port.url, 1400)
    page.value("document.querySelector('[data-key=\"false_alarm/f0\"]').focus()")
    port.status.published(
        [episode(0, Phase.UPDATED, score=9.9)]
    )  # the table is built anew, and keeps the focus
    page.wait("document.querySelector('#open').innerText.includes('9.9 of')")
    page.key("Enter")
    page.wait("document.getElementById('tell').open")
    assert page.value(f"{FIELD}.verdict.value") == "false_alarm"
    assert page.value("document.activeElement.name") == "note"
    port.status.published([episode(0, Phase.UPDATED, score=9.7)])  # ... and is where the focus returns to
    page.wait("document.querySelector('#open').innerText.includes('9.7 of')")
    page.type("the <b>lid</b>")
    page.key("Enter")
    assert desk.messages == []  # without a name and a token nothing is sent
    assert page.value("document.getElementById('tell').open") is True
    fill(page, by="kim", token="wrong")
    page.value(f"{FIELD}.by.focus()")
    page.key("Enter")
    page.wait("document.getElementById('tellerror').textContent")
    assert page.value("document.getElementById('tellerror').innerText") == "the token is missing or wrong"
    fill(page, token=TOKEN)
    page.key("Enter")
    page.wait("!document.getElementById('tell').open")
    assert [read_control(each) for each in desk.messages] == [
        Feedback("f0", Verdict.FALSE_ALARM, "kim", "the <b>lid</b>")
    ]
    acknowledged = page.value("document.getElementById('acknowledged').innerText")
    assert acknowledged.startswith("Told. the alert closes, and its like on plant-03/")
    assert page.value("getComputedStyle(document.getElementById('acknowledged')).opacity") == "1"
    assert page.value("document.activeElement.dataset.key") == "false_alarm/f0"
    opens(page, "planned/f10")  # name and token are remembered
    assert page.value(f"{FIELD}.by.value") == "kim"
    assert page.value("document.querySelector('[data-field=token]').hidden") is True
    page.click("#tellsend")
    page.wait("!document.getElementById('tell').open")
    assert read_control(desk.messages[1]) == Feedback("f10", Verdict.PLANNED, "kim")
    # The browser itself reports the request that was refused.
    assert [problem for problem in page.problems if "403" not in problem] == []
    page.problems.clear()


def test_stops_and_trainings_are_told(told: tuple[ServedStatus, Told], page: Page) -> None:
    port, desk = told
    page.open(port.url, 1024)
    opens(page, f"stop/compressors/{ASSETS[0]}")
    fill(page, lasts="90", note="bearings", by="kim", token=TOKEN)
    page.click("#tellsend")
    page.wait("document.getElementById('tellerror').textContent")
    assert "is not a duration" in page.value("document.getElementById('tellerror').innerText")
    fill(page, lasts="90m")
    page.click("#tellsend")
    page.wait("!document.getElementById('tell').open")
    opens(page, "plan")
    fill(page, asset=" ")
    page.click("#tellsend")
    page.wait("document.getElementById('tellerror').textContent")
    assert page.value("document.getElementById('tellerror').innerText").startswith("an asset has no name")
    page.click('[name="everything"]')
    page.click("#tellsend")
    page.wait("!document.getElementById('tell').open")
    opens(page, "retrain/compressors")
    page.click("#tellsend")
    page.wait("!document.getElementById('tell').open")
    one, every, training = [read_control(each) for each in desk.messages]
    assert isinstance(one, MaintenanceOrder)
    assert isinstance(every, MaintenanceOrder)
    assert (one.assets, one.stream) == ((ASSETS[0],), "compressors")
    assert (one.reason, one.by) == ("bearings", "kim")
    assert one.end - one.start == timedelta(minutes=90)
    assert (every.assets, every.end - every.start) == ((), timedelta(hours=2))
    assert training == RetrainRequest("compressors", by="kim")
    start = datetime(2100, 1, 1, tzinfo=UTC)
    more = [MaintenanceOrder(f"later {n}", start, start + timedelta(days=n + 1)) for n in range(30)]
    port.status.people.received([Received(100 + n, 0, each) for n, each in enumerate(more)], anew=False)
    page.wait("document.querySelector('#stops').innerText.includes('more: see anomalyd maintenance list')")
    assert page.misfits() == []
    opens(
        page, "end/overhaul of both"
    )  # another replica's topic is not read here: the daemon does not know it
    page.click("#tellsend")
    page.wait("document.getElementById('tellerror').textContent")
    assert "no maintenance 'overhaul of both' was told" in page.value("document.body.innerText")


@pytest.mark.parametrize("again", [False, True])
def test_an_answer_that_comes_late_is_said_and_closes_no_other_dialog(
    told: tuple[ServedStatus, Told], page: Page, again: bool
) -> None:
    port, desk = told
    page.open(port.url, 1024)
    hold, send = threading.Event(), desk.topic.send

    async def slow(control: Control) -> None:
        await asyncio.to_thread(hold.wait)
        await send(control)

    desk.topic.send = slow  # type: ignore[method-assign]
    opens(page, "confirmed/f0")
    fill(page, by="kim", token=TOKEN)
    page.click("#tellsend")
    page.click("#tellcancel")
    page.wait("!document.getElementById('tell').open")
    if again:
        opens(page, "retrain/compressors")
        fill(page, note="not sent yet")
        assert page.value("document.getElementById('tellsend').disabled") is False
    hold.set()
    page.wait("document.getElementById('acknowledged').innerText.startsWith('Told. ')")
    assert page.value("document.getElementById('tell').open") is again
    assert page.value(f"{FIELD}.note.value") == ("not sent yet" if again else "")
    inside = page.value("document.getElementById('tell').contains(document.getElementById('acknowledged'))")
    assert inside is again  # what lies outside of an open dialog is read by nobody
    assert len(desk.messages) == 1


def test_a_refusal_that_comes_late_is_said(told: tuple[ServedStatus, Told], page: Page) -> None:
    page.open(told[0].url, 1024)
    opens(page, "end/overhaul of both")
    fill(page, by="kim", token=TOKEN)
    page.value(
        "document.getElementById('tellform').requestSubmit(); document.getElementById('tellcancel').click()"
    )
    page.wait("document.getElementById('acknowledged').innerText.startsWith('Not told: no maintenance')")
    assert page.value("document.getElementById('tellerror').innerText") == ""


def test_a_click_is_not_lost_while_the_page_updates(told: tuple[ServedStatus, Told], page: Page) -> None:
    port, _ = told
    page.open(port.url, 1400)
    page.mouse("mousePressed", '[data-key="confirmed/f0"]')
    port.status.published([episode(0, Phase.UPDATED, score=8.8)])
    seen = page.value("document.getElementById('link').textContent")
    page.wait(f"document.getElementById('link').textContent !== {json.dumps(seen)}")
    page.mouse("mouseReleased", '[data-key="confirmed/f0"]')
    page.wait("document.getElementById('tell').open")


@pytest.mark.parametrize("width", [380, *WIDTHS])
def test_the_buttons_and_their_dialog_fit_the_screen(
    told: tuple[ServedStatus, Told], page: Page, width: int
) -> None:
    page.problems.clear()
    page.open(told[0].url, width, 800)
    assert page.misfits() == []
    for key in ("confirmed/f0", "plan"):
        opens(page, key)
        page.value("document.getElementById('tellerror').textContent = 'x'.repeat(300)")
        page.colours("dark")
        assert page.misfits() == []
        assert page.value("document.getElementById('tell').scrollHeight <= innerHeight") is True
        unnamed = "[...document.querySelectorAll('#tellform input')].filter((e) => !e.labels[0]?.innerText.trim() && e.checkVisibility()).length"
        assert page.value(unnamed) == 0
        page.key("Escape")
        page.wait("!document.getElementById('tell').open")


def test_a_candidate_in_shadow_shows_until_when_and_what_it_would_have_alerted(
    port: ServedStatus, page: Page
) -> None:
    (name,) = port.status.streams
    counts = ShadowCounts("5f3a9c1e", windows=1200, episodes=3, incumbent_episodes=4, both=2)
    shadow = ShadowNow("5f3a9c1e", "b5c84fe9", 0, 6 * 3600 * 10**9, lambda: counts)
    port.status.streams[name].shadow = shadow
    begun = msgspec.structs.replace(decisions()[0], version="5f3a9c1e", reason="not worse")
    port.status.streams[name].decisions.append(into_shadow(begun, 0, 6 * 3600 * 10**9))
    page.problems.clear()
    for width in WIDTHS:
        page.open(port.url, width)
        shown = page.value("document.querySelector('#models').innerText")
        assert "5f3a9c1e" in shown
        assert "until 1970-01-01 06:00:00 UTC · 3 episodes in 1200 windows, 2 of them with" in shown
        assert "which had 2 more" in shown
        decided = page.value("document.querySelector('#decisions .row').innerText")
        assert "in shadow" in decided
        assert "judges beside the model in use until 1970-01-01 06:00:00 UTC." in decided
        assert "refused" not in decided
        assert page.misfits() == []
    port.status.streams[name].shadow = None
    assert page.problems == []
