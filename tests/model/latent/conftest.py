"""Windows of a bundle."""

from __future__ import annotations

from daemon.domain import (
    Floats,
)
from daemon.model.bundle import Bundle
from daemon.model.segments import sliding
from tests.model.conftest import dropped, machine


def windows_of(bundle: Bundle, share: float = 0.0, rows: int = 200) -> Floats:
    values = machine(rows, seed=3, start=5_000)
    return sliding(dropped(values, share) if share else values, bundle.window)
