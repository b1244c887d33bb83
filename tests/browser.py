"""A page in a real browser: headless Chromium, driven over its debugging pipe (the DevTools protocol).

``browser()`` starts one; ``Page`` opens a file or an address, evaluates JavaScript, and collects everything that
the page complains of. Tests wait for conditions inside the page (``wait``), never for a time. ``misfits`` lists
what does not fit the width: clipped text, text outside its card or the window, sideways scrolling.

Where no Chromium is installed the tests are skipped with the reason, and fail with it where
``ANOMALYD_REQUIRE_BROWSER=1`` (CI).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip


def chromium() -> str:
    """The browser's path; skips with the reason where there is none, or fails with it where one is required."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    reason = f"no browser: none of {', '.join(NAMES)} is installed"
    if os.environ.get("ANOMALYD_REQUIRE_BROWSER") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


MISFITS = """
(() => {
  const found = new Set(), frame = innerWidth;
  const about = (e) => e.tagName.toLowerCase() + (e.id ? "#" + e.id : "") + "." + (e.getAttribute("class") || "");
  const note = (what, e) => found.add(what + ": " + about(e) + ": " + e.textContent.trim().slice(0, 70));
  const root = document.documentElement;
  if (root.scrollWidth > frame) found.add("the page scrolls sideways: " + root.scrollWidth);
  for (const e of document.querySelectorAll("body *")) {
    if (!e.checkVisibility() || !e.clientWidth || e.closest("svg, script, select, .js-plotly-plot")) continue;
    const look = getComputedStyle(e);
    const [wide, high] = [e.scrollWidth > e.clientWidth + 1, e.scrollHeight > e.clientHeight + 1];
    if (wide && look.overflowX !== "visible")
      note(/auto|scroll/.test(look.overflowX) ? "scrolls sideways" : "clipped", e);
    if (high && /hidden|clip/.test(look.overflowY) && e.textContent.trim()) note("clipped below", e);
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const e = text.parentElement;
    if (!text.data.trim() || !e.checkVisibility() || e.closest("svg, script, style, option, .js-plotly-plot")) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    for (const r of range.getClientRects()) {
      if (r.right > frame + 1 || r.left < -1) note("outside the window", e);
      for (const box of [e.closest("td, th"), e.closest(".card")]) {
        const edge = box?.getBoundingClientRect();
        if (edge?.width && (r.right > edge.right + 1 || r.left < edge.left - 1)) note("outside its " + about(box), e);
      }
    }
  }
  for (const e of document.querySelectorAll(".card"))
    if (e.checkVisibility() && getComputedStyle(e).overflowY === "visible" && e.scrollHeight > e.clientHeight + 1)
      note("reaches below its card", e);
  for (const e of document.querySelectorAll("svg.main-svg text")) {
    const own = e.getBoundingClientRect(), plot = e.closest(".js-plotly-plot").getBoundingClientRect();
    if (own.width && (own.left < plot.left - 2 || own.right > plot.right + 2 || own.top < plot.top - 2
      || own.bottom > plot.bottom + 2)) note("outside its chart", e);
  }
  return [...found];
})()
"""


class Page:
    """One page of one browser."""

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self._process, self._write, self._read = process, write, read
        self._number, self._rest, self._session, self._target = 0, b"", "", ""
        self._allowed: tuple[str, ...] = ("file:", "data:", "blob:")
        self.problems: list[str] = []  # exceptions, console errors and loads that were refused

    def open(self, place: Path | str, width: int, height: int = 900) -> None:
        """Load a file or an address at a width of so many CSS pixels, and wait until it marks itself as complete."""
        url = place if isinstance(place, str) else place.resolve().as_uri()
        self._allowed = ("file:", "data:", "blob:", *([url] if isinstance(place, str) else []))
        if self._session:  # one page at a time: the one before would go on with what its script does
            self._session = ""
            self.ask("Target.closeTarget", targetId=self._target)
        self._target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page", "Network"):
            self.ask(f"{domain}.enable")
        self.resize(width, height)
        self.ask("Page.navigate", url=url)
        self.wait("document.documentElement?.dataset.ready")

    def resize(self, width: int, height: int = 900) -> None:
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def colours(self, scheme: str) -> None:
        """Prefer ``light`` or ``dark``."""
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is, as JSON."""
        found = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        assert self.value(
            f"new Promise((done, fail) => {{ const look = () => ({condition}) ? done(true) : setTimeout(look, 20);"
            f" look(); setTimeout(() => fail({json.dumps(f'never true: {condition}')}), 60000); }})"
        )

    def click(self, selector: str) -> None:
        self.value(f"document.querySelector({json.dumps(selector)}).click()")

    def key(self, key: str) -> None:
        """Press a key, as a keyboard does: what has the focus gets it."""
        text = {"text": "\r"} if key == "Enter" else {}
        code = {"Enter": 13, "Escape": 27, "Tab": 9}[key]
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                **(text if kind == "keyDown" else {}),
            )  # fmt: skip

    def type(self, text: str) -> None:
        """Type a text into what has the focus."""
        self.ask("Input.insertText", text=text)

    def mouse(self, kind: str, selector: str) -> None:
        """``mousePressed`` or ``mouseReleased`` in the middle of an element."""
        x, y = self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]; })()"
        )
        self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def drag(self, selector: str, start: float, end: float) -> None:
        """Drag the mouse over an element, from one share of its width to another."""
        box = self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; })()"
        )
        left, top, width, height = box
        y = top + height / 2

        def mouse(kind: str, share: float, button: str = "left") -> None:
            self.ask(
                "Input.dispatchMouseEvent", type=kind, x=left + share * width, y=y, button=button, buttons=1,
                clickCount=1,
            )  # fmt: skip

        mouse("mousePressed", start)
        for step in range(1, 6):
            mouse("mouseMoved", start + (end - start) * step / 5)
        mouse("mouseReleased", end)

    def misfits(self) -> list[str]:
        """What does not fit the window: clipped text, text outside of its place, sideways scrolling."""
        found: list[str] = self.value(MISFITS)
        return found

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One call of the DevTools protocol; notes what the page complains of meanwhile."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer.get("method", ""), answer.get("params", {}))

    def _note(self, method: str, about: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(about["args"])[:500])
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.problems.append(json.dumps(about["entry"])[:500])
        elif method == "Network.requestWillBeSent":
            url = about["request"]["url"]
            if not url.startswith(self._allowed):
                self.problems.append(f"loads {url}")

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._read, 1 << 20)
            assert part, f"the browser ended: {self._process.poll()}"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message


@contextmanager
def browser() -> Iterator[Page]:
    """A browser with a profile of its own, gone afterwards."""
    name = chromium()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        to_it, our_write = os.pipe()
        our_read, from_it = os.pipe()

        def pipes() -> None:  # the browser reads file 3 and writes file 4
            high = [os.dup2(fd, at) for fd, at in ((to_it, 203), (from_it, 204))]
            for fd, at in zip(high, (3, 4), strict=True):
                os.dup2(fd, at, inheritable=True)

        process = subprocess.Popen(
            [name, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=pipes, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_it)
        os.close(from_it)
        try:
            yield Page(process, our_write, our_read)
        finally:
            with contextlib.suppress(OSError):
                os.write(our_write, b'{"id":0,"method":"Browser.close"}\0')
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(our_write)
            os.close(our_read)
