"""What the tests of the admin port share."""

from __future__ import annotations

import pytest

from daemon.adapters.admin import create_app
from daemon.adapters.telemetry import Metrics, Status
from tests.adapters.admin.pumps import Client, pumps


@pytest.fixture
def status() -> Status:
    return pumps()


@pytest.fixture
def client(status: Status) -> Client:
    return Client(create_app(status, Metrics(["pumps"], ["plant.pumps"])))
