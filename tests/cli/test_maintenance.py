"""``anomalyd maintenance list``: its table."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

from rich.console import Console

from daemon.cli.maintenance import table_of
from daemon.commands.maintenance import entry
from daemon.control import MaintenanceOrder


def test_the_table_is_readable_at_120_columns() -> None:
    start = datetime(2026, 11, 30, 8, 0, 0, 123456, tzinfo=UTC)
    name = "pump-01+pump-02-20261130T0800-3fa2"
    told = MaintenanceOrder(
        name, start, start + timedelta(hours=2), ("pump-01", "pump-02"), reason="new impeller", by="claire"
    )
    rule = MaintenanceOrder(
        "[wash]", start, start + timedelta(hours=1), (), "", "FREQ=WEEKLY;BYDAY=SU;BYHOUR=6", "Europe/Berlin"
    )
    now = start + timedelta(minutes=5)
    console = Console(file=io.StringIO(), width=120)
    console.print(table_of([entry(told, "message", now), entry(rule, "config", now)]))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for whole in (
        name,
        "[wash]",
        "2026-11-30",
        "08:00:00Z",
        "FREQ=WEEKLY",
        "claire",
        "(config)",
        "impeller",
        "active",
    ):
        assert whole in shown, shown
    assert "123" not in shown
