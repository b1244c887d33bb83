"""Log lines that cannot be forged, broken or flooded."""

from __future__ import annotations

import io
import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.telemetry import (
    Throttle,
    configure_logging,
)
from daemon.errors import ConfigError


@contextmanager
def logging_to() -> Iterator[io.StringIO]:
    """A stream to log to; restores the process's logging."""
    root = logging.getLogger()
    handlers, level, show = root.handlers[:], root.level, warnings.showwarning
    try:
        yield io.StringIO()
    finally:
        root.handlers[:], root.level = handlers, level
        logging.captureWarnings(False)
        warnings.showwarning = show
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    with logging_to() as stream:
        yield stream


HOSTILE = 'pump\n{"event":"forged"}\r\u2028\u2029\x85\x1b[2J\x00\ud800\u202e'


def test_one_json_line_per_event_whatever_it_holds(lines: io.StringIO) -> None:
    configure_logging("info", "json", lines)
    structlog.get_logger("daemon.runtime.loop").warning(
        HOSTILE, asset=HOSTILE, raw=b"\n", score=math.nan, n=np.int64(3), deep={"a": [HOSTILE, math.inf]}
    )
    text = lines.getvalue()
    assert len(text.splitlines()) == 1
    assert text.isascii()
    event = json.loads(text)
    assert event["event"] == event["asset"] == HOSTILE
    assert event["score"] == "nan"
    assert event["n"] == 3
    assert event["deep"]["a"][1] == "inf"
    assert event["level"] == "warning"
    assert event["logger"] == "daemon.runtime.loop"
    assert datetime.fromisoformat(event["timestamp"]).utcoffset() == timedelta(0)
    assert list(event)[:3] == ["timestamp", "level", "event"]


@given(st.dictionaries(st.text(max_size=8), st.recursive(
    st.none() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
), max_size=4))  # fmt: skip
def test_no_value_breaks_the_line(values: dict[str, object]) -> None:
    with logging_to() as lines:
        configure_logging("info", "json", lines)
        structlog.get_logger().info("x", values=values)
        (line,) = lines.getvalue().splitlines()
    assert json.loads(line)["event"] == "x"


def test_long_values_are_cut_and_name_their_length(lines: io.StringIO) -> None:
    configure_logging("info", "json", lines)
    structlog.get_logger().info("x", asset="a" * 10_000, many=list(range(1000)))
    event = json.loads(lines.getvalue())
    assert event["asset"].endswith("(10000 characters)")
    assert len(lines.getvalue()) < 4_000


def test_exceptions_are_structures_without_local_variables(lines: io.StringIO) -> None:
    configure_logging("info", "json", lines)

    def fails() -> None:
        password = "canary-secret"
        raise ValueError(f"bad\nvalue of {len(password)}")

    try:
        fails()
    except ValueError:
        structlog.get_logger().exception("batch_failed")
        logging.getLogger("library").exception("it failed")
    for line in lines.getvalue().splitlines():
        event = json.loads(line)
        assert event["exception"][0]["exc_type"] == "ValueError"
        assert event["exception"][0]["frames"]
    assert len(lines.getvalue().splitlines()) == 2
    assert "canary-secret" not in lines.getvalue()


def test_the_standard_library_logs_through_the_same_renderer(lines: io.StringIO) -> None:
    configure_logging("info", "json", lines)
    logging.getLogger("aiokafka.consumer").warning("Group %s gone\nnow", "g1")
    logging.getLogger("aiokafka.consumer").debug("not this")
    warnings.showwarning("old\nway", DeprecationWarning, "x.py", 1)
    first, second = lines.getvalue().splitlines()
    event = json.loads(first)
    assert event["event"] == "Group g1 gone\nnow"
    assert event["logger"] == "aiokafka.consumer"
    assert event["level"] == "warning"
    assert json.loads(second)["logger"] == "py.warnings"


def test_a_library_cannot_flood_the_log_and_our_events_pass(lines: io.StringIO) -> None:
    configure_logging("info", "json", lines)
    for attempt in range(1000):
        logging.getLogger("chatty.library").error("Unable to connect to %s", attempt)
    assert len(lines.getvalue().splitlines()) == 5
    for _ in range(20):
        structlog.get_logger().info("batch_processed")
    assert len(lines.getvalue().splitlines()) == 25


def test_level_and_context(lines: io.StringIO) -> None:
    configure_logging("warning", "json", lines)
    log = structlog.get_logger()
    with structlog.contextvars.bound_contextvars(stream="pumps"):
        log.info("unseen")
        log.error("seen")
    assert [json.loads(line)["stream"] for line in lines.getvalue().splitlines()] == ["pumps"]


def test_console_lines_cannot_be_forged(lines: io.StringIO) -> None:
    configure_logging("info", "console", lines)
    structlog.get_logger().info("model\npromoted\x1b[2J", asset=HOSTILE.replace("\ud800", ""))
    assert len(lines.getvalue().splitlines()) == 1
    assert "\x1b" not in lines.getvalue()
    assert "model\\u000apromoted" in lines.getvalue()


@pytest.mark.parametrize("arguments", [("loud", "json"), ("info", "xml")])
def test_unknown_levels_and_formats_are_refused(arguments: tuple[str, str], lines: io.StringIO) -> None:
    with pytest.raises(ConfigError, match=r"must be"):
        configure_logging(*arguments, lines)  # type: ignore[arg-type]


def test_throttle_counts_what_it_holds_back() -> None:
    now = 0.0
    throttle = Throttle(timedelta(seconds=10), clock=lambda: now, most=2)
    answers = []
    for now in (0.0, 1.0, 2.0, 10.0, 11.0):  # noqa: B007 - the clock reads it
        answers.append(throttle.admit("a"))
    assert answers == [0, None, None, 2, None]
    assert throttle.admit("b") == 0
    assert throttle.admit("c") == 0  # "a" goes: the memory is bounded
    assert throttle.admit("a") == 0
