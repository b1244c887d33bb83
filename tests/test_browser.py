"""The browser's own checks: what does not fit is found, what fits is not, and problems are collected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import Page, browser, chromium

LONG = "x" * 400


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as page:
        yield page


def opened(page: Page, folder: Path, body: str) -> Page:
    (folder / "page.html").write_text(
        f'<!doctype html><html data-ready="1"><body style="margin: 8px">{body}</body></html>'
    )
    page.problems.clear()
    page.open(folder / "page.html", 390)
    return page


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (f"<p>{LONG}</p>", "outside the window"),
        (f'<p style="overflow: hidden; text-overflow: ellipsis">{LONG}</p>', "clipped: p"),
        (f'<div style="overflow: auto">{LONG}</div>', "scrolls sideways: div"),
        ('<div style="width: 600px; height: 9px"></div>', "the page scrolls sideways: 608"),
        ('<div style="height: 9px; overflow: hidden">a line<br>and another</div>', "clipped below: div"),
        ('<div class="card" style="width: 90px"><span style="white-space: nowrap">more than the card holds</span></div>', "outside its div.card"),
        ('<div class="card" style="height: 9px">a line<br>and another</div>', "reaches below its card"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_found(page: Page, tmp_path: Path, body: str, found: str) -> None:
    assert any(found in misfit for misfit in opened(page, tmp_path, body).misfits())


@pytest.mark.parametrize(
    "body",
    [
        f'<p style="overflow-wrap: anywhere">{LONG}</p>',
        f"<p hidden>{LONG}</p>",
        '<div style="height: 20px; overflow: auto">a line<br>and<br>others</div>',
    ],
)
def test_what_fits_is_no_misfit(page: Page, tmp_path: Path, body: str) -> None:
    assert opened(page, tmp_path, body).misfits() == []


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("<script>console.error('odd')</script>", "odd"),
        ("<script>nothing.here()</script>", "nothing is not defined"),
        ('<img src="http://127.0.0.1:9/pixel.png">', "loads http://127.0.0.1:9/pixel.png"),
    ],
)
def test_problems_of_a_page_are_collected(page: Page, tmp_path: Path, body: str, found: str) -> None:
    opened(page, tmp_path, body)
    page.wait("document.readyState === 'complete'")
    assert any(found in problem for problem in page.problems)


def test_without_a_browser_a_test_is_skipped_and_fails_where_one_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ANOMALYD_REQUIRE_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"none of chromium, .* is installed"):
        chromium()
    monkeypatch.setenv("ANOMALYD_REQUIRE_BROWSER", "1")
    with pytest.raises(pytest.fail.Exception, match=r"none of chromium, .* is installed"):
        chromium()
