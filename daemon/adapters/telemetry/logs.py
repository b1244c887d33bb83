"""The process's log: structlog's events and the standard library's, through one renderer.

Values come from whoever can write to the input topic, and libraries repeat themselves, so a log event
is one line whatever its values hold, its strings have an upper length, and a library's equal lines are
limited to a few a minute.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, Literal, TextIO

import numpy as np
import structlog

from daemon.errors import ConfigError

LONGEST_STRING: Final = 2_000
"""Characters of one logged value; an asset name may be as long as a record."""
DEEPEST: Final = 6
MOST_ITEMS: Final = 50
REPEATS_PER_MINUTE: Final = 5

_CONTROLS: Final = {
    code: f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F))
}
"""Line breaks, terminal escapes and direction overrides -> their visible spelling."""


def configure_logging(
    level: str = "info",
    format: Literal["json", "console"] = "json",
    stream: TextIO | None = None,
) -> None:
    """Send structlog's events and the standard library's through one renderer to ``stream``.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        format: ``json``: one ASCII line per event, with a UTC ``timestamp`` and exceptions as
            a structure without local variables (they may hold a secret). ``console``: for
            people; only a traceback takes more than one line.
        stream: standard output by default.

    Raises:
        ConfigError: an unknown level or format.
    """
    levels = {
        "debug": logging.DEBUG,
        "info": logging.INFO,
        "warning": logging.WARNING,
        "error": logging.ERROR,
    }
    if level.lower() not in levels:
        raise ConfigError(f"logging.level is {level!r}; it must be one of {', '.join(levels)}")
    if format not in ("json", "console"):
        raise ConfigError(f"logging.format is {format!r}; it must be json or console")
    number = levels[level.lower()]
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[structlog.types.Processor]
    if format == "json":
        traceback = structlog.tracebacks.ExceptionDictTransformer(
            show_locals=False, use_rich=False, max_frames=20
        )
        rendering = [
            structlog.processors.ExceptionRenderer(traceback),
            _bounded,
            structlog.processors.JSONRenderer(allow_nan=False),
        ]
    else:
        rendering = [
            _bounded,
            _visible,
            structlog.dev.ConsoleRenderer(
                colors=bool(stream is None and sys.stdout.isatty()),
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    handler = logging.StreamHandler(sys.stdout if stream is None else stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    handler.addFilter(_Repetitions())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(noisy)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("asyncio").setLevel(max(number, logging.WARNING))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        # A cached logger would keep the first configuration: the command line configures twice
        # (before and after it has read the file).
        cache_logger_on_first_use=False,
    )


class Throttle:
    """Admits each key at most ``burst`` times per span, and counts what it held back.

    Args:
        per: the span.
        burst: admissions of one key per span.
        clock: monotonic seconds.
        most: keys that are remembered; beyond it the oldest are forgotten.
    """

    def __init__(
        self,
        per: timedelta = timedelta(minutes=1),
        burst: int = 1,
        clock: Callable[[], float] = time.monotonic,
        most: int = 1_000,
    ) -> None:
        self._per = per.total_seconds()
        self._burst = burst
        self._clock = clock
        self._most = most
        self._seen: dict[object, tuple[float, int, int]] = {}  # start of the span, admitted, kept back

    def admit(self, key: object) -> int | None:
        """How often the key was held back since it was last admitted; None if this time is held back, too."""
        now = self._clock()
        start, admitted, kept = self._seen.pop(key, (now, 0, 0))
        if now - start >= self._per:
            start, admitted = now, 0
        if admitted < self._burst:
            answer, admitted, kept_now = kept, admitted + 1, 0
        else:
            answer, kept_now = None, kept + 1
        self._seen[key] = (start, admitted, kept_now)  # the newest key is last
        if len(self._seen) > self._most:
            del self._seen[next(iter(self._seen))]
        return answer


class _Repetitions(logging.Filter):
    """Limits equal lines of a library to ``REPEATS_PER_MINUTE``.

    aiokafka's producer can write 10,000 equal lines a second after its broker went away. structlog's
    events pass untouched: the program emits at most one per batch or transition.
    """

    def __init__(self) -> None:
        super().__init__()
        self._throttle = Throttle(burst=REPEATS_PER_MINUTE)

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, dict):  # structlog's own
            return True
        kept = self._throttle.admit((record.name, record.levelno, str(record.msg)[:200]))
        if kept:
            record.msg = f"{record.msg} (kept back {kept} like it)"
        return kept is not None


def _bounded(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Reduce an event to plain JSON values of bounded size; timestamp, level and event come first."""
    plain = {str(key)[:100]: _plain(value, DEEPEST) for key, value in event.items() if key not in _RAW}
    first: structlog.types.EventDict = {key: plain.pop(key) for key in _FIRST if key in plain}
    # The console renderer formats these itself.
    raw = {key: event[key] for key in _RAW if key in event}
    return {**first, **plain, **raw}


_FIRST: Final = ("timestamp", "level", "event")
_RAW: Final = ("exc_info", "stack_info")


def _plain(value: object, depth: int) -> Any:
    if isinstance(value, StrEnum):
        return str(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item(), depth)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return (
            value
            if len(value) <= LONGEST_STRING
            else f"{value[:LONGEST_STRING]}... ({len(value)} characters)"
        )
    if isinstance(value, Mapping) and depth:
        return {str(k)[:100]: _plain(v, depth - 1) for k, v in list(value.items())[:MOST_ITEMS]}
    if isinstance(value, list | tuple | set | frozenset) and depth:
        return [_plain(v, depth - 1) for v in list(value)[:MOST_ITEMS]]
    return _plain(repr(value), 0)


def _visible(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return {k: v.translate(_CONTROLS) if isinstance(v, str) else v for k, v in event.items()}
