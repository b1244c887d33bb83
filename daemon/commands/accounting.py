"""What became of the records and cells of a file, as counts and in words.

In: ``Counts``, of a pipeline (``stream.accounts``) or of a table (``table_accounting``). Out: the entries of
summary.json, and one or two lines for the terminal that say what was lost, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from daemon.documents import counted, nearest_of, shown
from daemon.domain import Disposition, Mask, StreamSpec
from daemon.stream.accounts import CellState, Counts, Fault
from daemon.stream.extract.numbers import FAULT_HINTS

NAMED: Final = 5
"""Sensors, reasons or rules that are named in a line; the others are counted together."""
_NOUNS: Final = {
    "text": "texts",
    "array": "arrays",
    "object": "objects",
    "too_large": "too large",
    "unit": "of another unit",
}


# ------------------------------------------------------------------ summary.json
def as_json(counts: Counts) -> dict[str, Any]:
    """The entries of summary.json that counts fill."""
    corrupt: dict[str, dict[str, int]] = {}
    for (sensor, fault), n in sorted(counts.corrupt.items()):
        corrupt.setdefault(sensor, {})[fault] = n
    return {
        "records": _with_sum(records_of(counts)),
        "reasons": dict(sorted(counts.reasons.items())),
        "skipped": dict(sorted(counts.skipped.items())),
        "refused_items": dict(sorted((str(reason), n) for reason, n in counts.refused_items.items())),
        "skipped_items": dict(sorted(counts.skipped_items.items())),
        "cells": _with_sum({str(s): counts.cells[s] for s in CellState}),
        "corrupt": corrupt,
        "corrupt_cells": {sensor: sum(faults.values()) for sensor, faults in corrupt.items()},
    }


def records_of(counts: Counts) -> dict[str, int]:
    """Records by disposition; skipped ones where a mapping skips some."""
    found = counts.records
    return {str(d): found[d] for d in Disposition if d is not Disposition.SKIPPED or found[d]}


def _with_sum(counts: Mapping[str, int]) -> dict[str, int]:
    return {"read": sum(counts.values()), **counts}


# ------------------------------------------------------------------ in words
def account_lines(counts: Counts, unknown: Mapping[str, int]) -> list[str]:
    """What became of records and of cells, a line each.

    Args:
        counts: of a file.
        unknown: values of sensors that the stream does not list, by name.
    """
    details = {"rejected": _named(counts.reasons), "skipped": _named(counts.skipped)}
    states = {str(d): counts.records[d] for d in Disposition}
    records = _line("record", states, "accepted", details)
    for items, what in ((counts.refused_items, "refused"), (counts.skipped_items, "skipped")):
        if items:
            records = (
                f"{records[:-1]}; {counted(items.total(), 'part')} of accepted ones {what} ({_named(items)})."
            )
    cells = {str(s): counts.cells[s] for s in CellState}
    details = {"corrupt": _corrupt(counts.corrupt), "unknown": _named(unknown)}
    return [records, _line("cell", cells, "observed", details)]


def lost_lines(counts: Counts, unknown: Mapping[str, int]) -> list[str]:
    """Those of ``account_lines`` by which something was lost; missing cells are not."""
    records, cells = account_lines(counts, unknown)
    kept = {CellState.OBSERVED, CellState.MISSING}
    whole = not (+counts.records).keys() - {Disposition.ACCEPTED} and not counts.refused_items
    found = [] if whole and not counts.skipped_items else [records]
    return found + ([cells] if (+counts.cells).keys() - kept else [])


def corrupt_lines(corrupt: Mapping[Fault, int]) -> list[str]:
    """One line about the cells that are no numbers: how many, of which sensors first, and what helps; none without any.

    Args:
        corrupt: how many, by sensor and fault.
    """
    if not corrupt:
        return []
    n, faults = sum(corrupt.values()), sorted({fault for _, fault in corrupt})
    hints = "; ".join(FAULT_HINTS[fault] for fault in faults)
    verb = "is no number and counts" if n == 1 else "are no numbers and count"
    return [f"{counted(n, 'cell')} {verb} as missing ({_corrupt(corrupt)}): {hints}"]


def misspelt_lines(spec: StreamSpec, seen: Mask, unknown: Mapping[str, int]) -> list[str]:
    """Sensors of the configuration that the data does not have: most often they are misspelt.

    Where the data has no sensor that is not listed (settings derived from it list all), those alone whose name is
    like that of one that it has.

    Args:
        spec: the stream.
        seen: (C,) of which of its sensors the data has a value.
        unknown: values of sensors that the stream does not list, by name.
    """
    called = [rule.source or name for name, rule in zip(spec.sensors, spec.rules, strict=True)]
    there = {name for name, has in zip(called, seen.tolist(), strict=True) if has}
    lines = []
    for name in dict.fromkeys(one for one in called if one not in there):
        near = nearest_of(name, unknown)
        if not unknown:
            if like := nearest_of(name, sorted(there)):
                lines.append(
                    f"the data has no value of the configured sensor {shown(name)}; the nearest that it has is {shown(like)}"
                )
            continue
        others = ", ".join(map(shown, list(unknown)[:NAMED]))
        hint = (
            f"did you mean {shown(near)}, which it has?" if near else f"not listed are {others}, which it has"
        )
        lines.append(f"the data has no value of the configured sensor {shown(name)}; {hint}")
    return lines


def _line(what: str, states: Mapping[str, int], usual: str, details: Mapping[str, str]) -> str:
    parts = []
    for state, n in states.items():
        if n or state == usual:
            why = details.get(state, "")
            parts.append(f"{n:,} {state}" + (f" ({why})" if why else ""))
    return f"{counted(sum(states.values()), what)}: {', '.join(parts)}."


def _named(counts: Mapping[str, int]) -> str:
    """The most frequent ones, with their numbers."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{str(name)[:60]} {n:,}" for name, n in ordered[:NAMED]]
    rest = sum(n for _, n in ordered[NAMED:])
    return ", ".join([*shown, *([f"others {rest:,}"] if rest else [])])


def _corrupt(counts: Mapping[Fault, int]) -> str:
    """``Level: 10 texts, 2 arrays; Flow: 1 infinite``."""
    of_sensor: dict[str, list[tuple[str, int]]] = {}
    for (sensor, fault), n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        of_sensor.setdefault(sensor, []).append((fault, n))
    shown = [
        f"{sensor[:60]}: "
        + ", ".join(
            f"{n:,} {_NOUNS.get(fault, fault) if n > 1 else fault.replace('_', ' ')}" for fault, n in faults
        )
        for sensor, faults in list(of_sensor.items())[:NAMED]
    ]
    others = len(of_sensor) - NAMED
    return "; ".join([*shown, *([counted(others, "more sensor")] if others > 0 else [])])
