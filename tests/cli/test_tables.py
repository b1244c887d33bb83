"""Tables of commands at 80 columns, as a terminal has them: no name, time or number is cut or broken."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from daemon.cli import feedback, maintenance, models, replay
from daemon.commands.maintenance import entry
from daemon.commands.models.tables import FOLDS, LIST, SENSORS, list_rows
from daemon.control import MaintenanceOrder

START = datetime(2026, 11, 1, 6, 0, 0, 123456, tzinfo=UTC)
DID = "accepted: pressure +1.29 bar, flow -0.8"
NAME = "pump-01+pump-02-20261130T0800-3fa2"


def printed(table: Table, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    return str(shown)


def row_of(text: str, shown: str) -> list[str]:
    """The words of the first line that has this text."""
    return next(line.split() for line in shown.splitlines() if text in line)


@pytest.mark.parametrize("width", [80, 120])
def test_planned_stops(width: int) -> None:
    told = MaintenanceOrder(
        NAME, START, START + timedelta(hours=2), ("pump-01", "pump-02"), reason="new impeller", by="claire"
    )
    rule = MaintenanceOrder(
        "[wash]",
        START,
        START + timedelta(hours=1),
        (),
        "",
        "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=6",
        "Europe/Berlin",
    )
    now = START + timedelta(minutes=5)
    shown = printed(maintenance.table_of([entry(told, "message", now), entry(rule, "config", now)]), width)
    assert row_of(NAME, shown)[:4] == [NAME, "active", "2026-11-01", "06:00"]
    assert "claire: new impeller" in shown
    # The next Monday, not the first Sunday; an hour later, as Berlin's clocks were put back.
    assert row_of("[wash]", shown) == ["[wash]", "planned", "2026-11-02", "05:00", "all"]
    assert row_of("(config)", shown) == ["(config)", "to", "06:00"]
    for line in ("FREQ=WEEKLY", "BYDAY=MO,TU,WE,T", "BYHOUR=6", "in Europe/Berlin"):
        assert line in shown
    assert "123" not in shown


def test_verdicts() -> None:
    said: dict[str, Any] = {
        "time": "2026-11-30T12:50:20.661Z", "fingerprint": "b389a58475ab2b6b", "verdict": "false_alarm",
        "by": "kim", "note": "we changed the recipe on tuesday, all is fine", "asset": "pump-1",
        "kind": "anomaly", "opened": "2025-11-29T06:21:40Z", "counts": False,
        "did": None,
    }  # fmt: skip
    bare = dict.fromkeys(("by", "note", "asset", "kind", "opened"))
    shown = printed(
        feedback.table_of([said, said | bare | {"verdict": "planned", "counts": True, "did": DID}])
    )
    assert row_of("b389", shown)[:5] == ["2026-11-30", "12:50", "false", "alarm", "b389a58475ab2b6b"]
    assert row_of("anomaly of pump-1", shown)[:2] == ["kim", "(replaced)"]
    assert "opened 2025-11-29 06:21" in shown
    assert row_of("planned", shown)[2:4] == ["planned", "b389a58475ab2b6b"]
    assert "pressure" in shown


def test_versions_of_models() -> None:
    one: dict[str, Any] = {
        "version": "50208888bdcf", "stream": "presses of hall 2", "promoted": False, "promoted_before": False,
        "shadow_until": "2026-12-01T06:00:00Z", "trained_at": "2026-11-30T12:50:39Z", "reason": "by hand",
        "trigger": "request", "rows": 1_234_567, "unreadable": None,
        "gate": {"promoted": False, "refused_by": "incumbent_episodes"},
    }  # fmt: skip
    shown = printed(
        models.table_of(LIST, list_rows([one, one | {"shadow_until": None, "promoted": True}]), FOLDS)
    )
    assert row_of("50208888bdcf", shown)[:6] == [
        "50208888bdcf",
        "in",
        "shadow",
        "until",
        "2026-11-30",
        "12:50",
    ]
    assert row_of("in force", shown)[:6] == [
        "50208888bdcf",
        "in",
        "force",
        "2026-11-30",
        "12:50",
        "1,234,567",
    ]
    assert "2026-12-01 06:00" in shown
    assert "on request" in shown
    moved = ("Thermocouple of the second bearing", "61.4", "62.81", "+1.41", "+1.20", "3.21", "3.4")
    shown = printed(models.table_of(SENSORS, [moved]))
    assert row_of("61.4", shown)[-6:] == list(moved[1:])


@pytest.mark.parametrize("width", [80, 100, 160])
def test_alerts_of_a_replay(width: int) -> None:
    sentence = "pump-07: pressure 0.6 bar below what the other sensors imply (over)"
    told = sentence.replace(" (", ", since 2026-03-09T12:00:00Z, for 26 min (")  # which other columns say
    one: dict[str, Any] = {
        "asset": "pump-07", "kind": "deviation", "severity": "warning", "onset": "2026-03-09T12:00:00Z",
        "closed": "2026-03-09T12:30:00Z", "quiet": False, "lasted": "26 min", "summary": told,
        "sensors": ["pressure", "flow", "current", "vibration", "Thermocouple of the second bearing"],
    }  # fmt: skip
    silent = one | {"asset": "p[red]8", "kind": "sensor_silent", "closed": None, "sensors": []}
    shown = printed(replay.alerts_table([one, silent | {"summary": sentence * 3}], width), width)
    assert row_of("26 min", shown)[:6] == ["2026-03-09", "12:00", "26", "min", "deviation", "warning"]
    assert (sentence in shown) is (width == 160)
    assert ("and 3 more" in " ".join(shown.split())) is (width < 160)
    assert row_of("sensor  ", shown)[3:5] == ["min,", "sensor"]
    assert row_of("silent", shown) == ["open", "silent"]
    quiet = one | {"closed": None, "quiet": True}
    found = printed(replay.alerts_table([quiet], width), width)
    assert "26 min," in found
    assert "quiet" in found
    assert "open" not in found
    assert "p[red]8" in shown
