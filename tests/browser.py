"""A page in a real browser: headless Chromium, spoken to over its debugging pipe."""

from __future__ import annotations

import base64
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
    """The browser; skips with the reason where there is none, or fails with it where all is required."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    reason = f"no browser: none of {', '.join(NAMES)} is installed"
    if os.environ.get("ANOMALYD_REQUIRE_ALL") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class Page:
    """One page of one browser."""

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self._process, self._write, self._read = process, write, read
        self._number, self._rest, self._session = 0, b"", ""
        self.problems: list[str] = []  # exceptions, console errors and loads that were refused

    def open(self, path: Path, width: int, height: int = 900) -> None:
        """Load a file at a width of so many CSS pixels, and wait until it says that it is ready."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page", "Network"):
            self.ask(f"{domain}.enable")
        self.resize(width, height)
        self.ask("Page.navigate", url=path.resolve().as_uri())
        assert self.value(
            "new Promise((done, fail) => { const look = () => document.documentElement?.dataset.ready ? done(true)"
            " : setTimeout(look, 20); look(); setTimeout(() => fail('never ready'), 60000); })"
        )

    def resize(self, width: int, height: int = 900) -> None:
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is, as JSON."""
        found = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        data = self.ask(
            "Page.captureScreenshot",
            captureBeyondViewport=True,
            clip={"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1},
        )["data"]
        path.write_bytes(base64.b64decode(data))

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
            self.problems.append(json.dumps(about["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(about["args"])[:500])
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.problems.append(json.dumps(about["entry"])[:500])
        elif method == "Network.requestWillBeSent":
            url = about["request"]["url"]
            if not url.startswith(("file:", "data:", "blob:")):
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
