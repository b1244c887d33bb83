"""Tables for people and the same rows for machines.

Every benchmark gives ``Section``s. A row's cells are numbers (shown with a sensible number of
digits), texts, or None where there is nothing to say; JSON keeps the numbers as they are.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

Cell = float | int | str | None


@dataclass(slots=True)
class Section:
    """One table."""

    name: str  # of the section in the JSON file
    title: str
    columns: Sequence[str]
    rows: list[list[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """Append a row."""
        assert len(cells) == len(self.columns)
        self.rows.append(list(cells))


def shown(cell: Cell) -> str:
    """A cell as text."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return f"{cell:,}"
    if math.isnan(cell):
        return "-"
    if cell == 0:
        return "0"
    if abs(cell) >= 1000:
        return f"{cell:,.0f}"
    return f"{cell:.3f}" if abs(cell) < 1 else f"{cell:.2f}"


def print_section(console: Console, section: Section) -> None:
    """The table, then its notes."""
    table = Table(title=section.title, title_justify="left", title_style="bold", header_style="bold")
    for i, column in enumerate(section.columns):
        texts = all(isinstance(row[i], str) or row[i] is None for row in section.rows)
        table.add_column(column, justify="left" if texts else "right", overflow="fold")
    for row in section.rows:
        table.add_row(*map(shown, row))
    console.print(table)
    for note in section.notes:
        console.print(note, style="dim", markup=False, highlight=False)
    console.print()


def machine() -> dict[str, Cell]:
    """What figures depend on, without naming the machine."""
    return {
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "aiokafka": version("aiokafka"),
        "msgspec": version("msgspec"),
    }


def write_markdown(path: Path, sections: Sequence[Section], facts: dict[str, Cell]) -> None:
    """Every table, as a page that a repository shows."""
    lines = ["# Results", "", ", ".join(f"{name} {shown(cell)}" for name, cell in facts.items()), ""]
    for section in sections:
        lines += [f"## {section.title}", "", "| " + " | ".join(section.columns) + " |"]
        lines.append("|" + "---|" * len(section.columns))
        lines += ["| " + " | ".join(map(shown, row)) + " |" for row in section.rows]
        lines += ["", *(text for note in section.notes for text in (note, ""))]
    path.write_text("\n".join(lines).rstrip("\n") + "\n", encoding="utf-8")


def write_json(path: Path, sections: Sequence[Section], facts: dict[str, Cell]) -> None:
    """Everything as one document; a number that is not finite is null."""

    def plain(cell: Cell) -> Cell:
        return None if isinstance(cell, float) and not math.isfinite(cell) else cell

    document = {
        "machine": facts,
        "sections": {
            section.name: {
                "title": section.title,
                "rows": [dict(zip(section.columns, map(plain, row), strict=True)) for row in section.rows],
                "notes": section.notes,
            }
            for section in sections
        },
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
