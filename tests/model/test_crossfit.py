"""Cross-fitting."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from daemon.domain import (
    Segment,
)
from daemon.model.reconstruction import Measured, Models
from tests.model.conftest import QUICK, machine, trained


def test_a_fleet_of_short_histories_is_measured_in_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    measure = Models.measure

    def counted(self: Models, *arguments: Any) -> Measured:
        calls.append(len(arguments[0]))
        return measure(self, *arguments)

    monkeypatch.setattr(Models, "measure", counted)
    fleet = [Segment(f"a{i}", 0, machine(24, seed=i)) for i in range(200)]
    trained(fleet, replace(QUICK, kind="ppca"), window=8)
    assert sum(calls) > 200
    assert len(calls) < 20  # one for each fold's held-out assets, and those that sample
