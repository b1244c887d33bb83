"""aiokafka's log."""

from __future__ import annotations

import logging
from uuid import uuid4

import pytest

from daemon.adapters import kafka


def test_each_kind_of_line_is_logged_three_times_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    kafka.quieten()
    kafka.quieten()
    for _ in range(50):
        logging.getLogger("aiokafka.conn").warning("again and %s", uuid4())
    assert len(caplog.records) == 3
