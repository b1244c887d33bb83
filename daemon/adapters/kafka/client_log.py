"""aiokafka's log: collected while a client starts, rate-limited afterwards.

Why a client does not start is only in aiokafka's log, never in its error. So these lines are collected
(``captured``), and ``failures.start_failure`` reads the reason from them. Once a client runs, each kind of line
is let through a few times a minute: after a broker's graceful shutdown a producer can write ten thousand
lines a second.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextvars import ContextVar

from daemon.adapters.kafka.settings import LOG_EVERY_S


class _Capture:
    """The lines that aiokafka logs while a client starts."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.open = True  # tasks of the client keep this context; what they log later is not collected


_CAPTURE: ContextVar[_Capture | None] = ContextVar("capture", default=None)


@contextlib.contextmanager
def captured() -> Iterator[list[str]]:
    """Collect what aiokafka logs within this block instead of passing it on."""
    quieten()
    capture = _Capture()
    token = _CAPTURE.set(capture)
    try:
        yield capture.lines
    finally:
        capture.open = False
        _CAPTURE.reset(token)


class _RateLimit(logging.Filter):
    """Collect the lines of a client that starts; let each kind of other lines through ``each`` times in ``within_s``."""

    def __init__(self, each: int = 3, within_s: float = LOG_EVERY_S) -> None:
        super().__init__()
        self._each, self._within_s = each, within_s
        self._since = float("-inf")
        self._seen: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """See ``logging.Filter``."""
        capture = _CAPTURE.get()
        if capture is not None and capture.open:
            if record.levelno >= logging.WARNING and len(capture.lines) < 50:
                capture.lines.append(record.getMessage())
            return False
        now = time.monotonic()
        if now - self._since > self._within_s:
            self._since = now
            self._seen.clear()
        kind = str(record.msg)
        self._seen[kind] += 1
        return self._seen[kind] <= self._each


def quieten() -> None:
    """Limit how often aiokafka repeats itself. Safe to call often."""
    for name in list(logging.root.manager.loggerDict):
        # A filter applies to records of its own logger only, not of loggers below it: so each gets one.
        if name == "aiokafka" or name.startswith("aiokafka."):
            logger = logging.getLogger(name)
            if not any(isinstance(known, _RateLimit) for known in logger.filters):
                logger.addFilter(_RateLimit())
