"""What is said of a sample: the values of an ``Inspection``, and what ``inspect`` is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from daemon.adapters.files import TableReading
from daemon.commands.broker import registry_sets
from daemon.commands.reading_check import NoNumbers
from daemon.config import Settings, load

EXAMPLES: Final = 5
CELLS_SHOWN: Final = 40
"""Values of a record that are shown."""
WORDS_SHOWN: Final = 8
"""Words of quality that nobody knows."""


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """What ``inspect`` is given."""

    sample: str  # a file, or where there is none of that name, a topic
    config: Path | None = None
    sets: Sequence[str] = ()
    stream: str | None = None
    format: str | None = None  # a preset, in place of a configuration
    bootstrap_servers: str | None = None
    schema_registry: str | None = None  # its address; comes before the one of ``config``
    reading: TableReading = field(default_factory=TableReading)  # how a table is read


@dataclass(frozen=True, slots=True)
class Cell:
    """One value as it was extracted."""

    asset: str
    time: str  # ISO 8601
    time_from: str  # the place of the mapping that it came from
    sensor: str
    value: str
    mark: str  # why it is missing, or what is odd about it; empty for a plain number


@dataclass(frozen=True, slots=True)
class Example:
    """One record: its cells, or why it has none."""

    offset: int
    cells: list[Cell]
    more: int  # cells that are not shown
    became: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """A kind of refusal."""

    reason: str
    count: int
    detail: str
    example: str
    nearest: str | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that is to be said of a sample; ``columns`` has the roles of a table's columns, else messages were read."""

    source: str
    mapping: str
    keys: Mapping[str, str]  # of the mapping, as texts
    reasons: Mapping[str, str]
    totals: Mapping[str, Any]
    examples: list[Example] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    no_numbers: list[NoNumbers] = field(default_factory=list)
    columns: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether anything is read."""
        return bool(self.totals["readings"])

    def document(self) -> dict[str, Any]:
        """The same as one JSON document."""
        return {
            "source": self.source,
            "mapping": self.mapping,
            "keys": dict(self.keys),
            "reasons": dict(self.reasons),
            "totals": dict(self.totals),
            "examples": [
                {
                    "offset": example.offset,
                    "became": example.became,
                    "more": example.more,
                    "cells": [
                        {name: getattr(cell, name) for name in Cell.__slots__} for cell in example.cells
                    ],
                }
                for example in self.examples
            ],
            "rejects": [{name: getattr(each, name) for name in Reject.__slots__} for each in self.rejects],
            "no_numbers": [
                {name: getattr(each, name) for name in NoNumbers.__slots__} for each in self.no_numbers
            ],
            "columns": dict(self.columns),
            "notes": list(self.notes),
        }


def settings_of(options: InspectOptions) -> Settings:
    """The configuration that is given."""
    return load(options.config, [*options.sets, *registry_sets(options.schema_registry)])
