"""``anomalyd drill``: which faults a model would find in a file of normal rows, how soon, from which size on.

In: ``DrillOptions``. Out: ``Drilled``, the report that ``--json`` prints, and notes; ``rows_of`` gives the
report as text for a table. Injecting and judging is ``model.drill``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.assembly import assembled, modelled
from daemon.commands.derive import check_excluded, plan_for_file
from daemon.commands.file_history import history_of
from daemon.commands.inputs import FileOptions, no_progress
from daemon.domain import Progress, StreamSpec, finite_or_none
from daemon.errors import InputError, UsageError
from daemon.model.bundle import Bundle
from daemon.model.drill import DetectionChain, DrillPlan, Place, Tally, drill, seconds, varying_sensors
from daemon.model.faults import FaultKind
from daemon.runtime.drill_report import entry, sized, span
from daemon.runtime.fire_drill import rules_of


@dataclass(frozen=True, slots=True)
class DrillOptions(FileOptions):
    """What ``drill`` is given."""

    file: Path  # normal rows: Parquet, CSV or JSON Lines
    model: Path  # the bundle that judges
    kinds: Sequence[str] = ()  # of faults; empty: all
    sensors: Sequence[str] = ()  # empty: all
    seed: int = 0  # of places, signs and noise


@dataclass(frozen=True, slots=True, eq=False)
class Drilled:
    """The result of a drill on a file.

    ``report`` is what ``--json`` prints:

    * ``model``: the bundle's version; ``rows``: normal rows of FILE; ``places``: how many of them
      faults were injected at; ``threshold``.
    * ``kinds``: per kind ``{recall, faults, delay_s}`` over all sensors and sizes; NaN is null.
    * ``sensors``: per sensor and kind ``{sensor, modelled, kind, recall, faults, delay_s, smallest, by_size,
      alert, says}``. ``modelled``: what the model has of the sensor, and faults are injected into, where that
      is not its value (``rate per second``); else null.
      ``smallest`` is null or ``{sd, value, low, high, within_s}``: from this size on 80 % are found,
      within that time; ``low`` and ``high`` are the sizes between which it may lie (95 %; ``high``
      null: no size is surely found), in the sensor's own units as ``value`` is. Of a lag ``sd`` is null
      and the values are seconds. ``by_size``: ``{sd, value, faults, found, recall, delay_s}``, empty for
      kinds without a size. ``alert``: the kind of alert that finds most of them; null if none does.
      ``says``: the same as a sentence.
    * ``unfound``: sensors, each with its kinds of which nothing is found on any size.
    * ``still``: sensors that stood still in training: no size has a meaning there, none was injected.
    """

    report: dict[str, Any]
    notes: list[str]


async def drill_file(options: DrillOptions, progress: Progress = no_progress) -> Drilled:
    """Inject faults into a file's rows and judge them as the stream would.

    Raises:
        DaemonError: unreadable input, wrong configuration, a bundle that does not fit, no normal rows.
    """
    file, sensors = options.file, options.sensors
    check_excluded(options.exclude, [file])
    bundle = Bundle.load(options.model)
    plan, notes = plan_for_file(options, file, bundle)
    spec = plan.spec
    try:
        wanted = [FaultKind.of(kind) for kind in options.kinds] or list(FaultKind)
    except ValueError as error:
        raise UsageError(f"--kind {error}") from None
    for name in sensors:
        if name not in bundle.sensors:
            raise UsageError(
                f"--sensor {name}: the model has no such sensor; it has {', '.join(bundle.sensors)}"
            )
    progress(0.0, f"reading {file.name}")
    history = await history_of(file, plan, options.exclude, options.reading)
    detector = bundle.detector(plan.budget, plan.deviation_budget)
    which = [bundle.sensors.index(name) for name in sensors] if sensors else None
    tally, places = drill(
        DetectionChain(detector, plan.policy, rules_of(detector, spec), spec.hop),
        history,
        DrillPlan(wanted, which, seed=options.seed),
        progress,
    )
    rows = sum(int(segment.observed.any(1).sum()) for segment in history)
    if not places:
        raise InputError(
            f"{file}: none of its {rows} rows can take a fault: three windows of {spec.window} rows in a row are"
            " needed, without a gap longer than max_gap and without an alarm"
        )
    progress(1.0, "done")
    able = varying_sensors(detector)
    unable = [n for c, n in enumerate(bundle.sensors) if c not in able and (which is None or c in which)]
    report = report_of(tally, places, rows, bundle, spec, wanted) | {"threshold": detector.threshold}
    counters = bundle.facts.get("levels_of_counters", ())
    report["still"] = [name for name in unable if name not in counters]
    report["counters"] = [name for name in unable if name in counters]
    ignored = [name for name, rule in zip(spec.sensors, spec.rules, strict=True) if rule.alert.ignore]
    if ignored:
        notes.append(f"no fault is injected into sensors that are ignored: {', '.join(ignored)}")
    return Drilled(report, [*dict.fromkeys([*notes, *_assembly_notes(spec)])])


def _assembly_notes(spec: StreamSpec) -> list[str]:
    """Where a fault is injected into something else than the sensor's values as they arrive."""
    rules = assembled(spec)
    made = {name: what for name, what in modelled(spec).items() if "rate" in what}
    parts = [f"the {what} of {name}" for name, what in made.items()]
    parts += [f"cosine and sine of {name}" for name, rule in rules.items() if "angle" in rule]
    parts += [f"the held values of {name}" for name, rule in rules.items() if "hold" in rule]
    if not parts:
        return []
    return [f"faults are injected into rows as the model is given them: {', '.join(parts)}"]


def report_of(
    tally: Tally,
    places: Sequence[Place],
    rows: int,
    bundle: Bundle,
    spec: StreamSpec,
    kinds: Sequence[FaultKind],
) -> dict[str, Any]:
    """The verdicts as ``--json`` prints them; see ``Drilled``."""
    scale, period_ns, what = bundle.models.scaler.scale, spec.period_ns, modelled(spec)
    results = tally.results()
    unfound: dict[str, list[str]] = {}
    for found in results:
        if not found.found:
            unfound.setdefault(found.sensor, []).append(found.kind.value)
    return {
        "model": bundle.version,
        "rows": rows,
        "places": len(places),
        "kinds": {
            kind.value: {
                "recall": finite_or_none(tally.recall(kind)),
                "faults": tally.faults(kind),
                "delay_s": seconds(tally.delay_rows(kind), period_ns),
            }
            for kind in kinds
            if tally.faults(kind)
        },
        "sensors": [
            entry(
                found,
                float(scale[bundle.sensors.index(found.sensor)]),
                period_ns,
                what.get(found.sensor, ""),
            )
            for found in results
        ],
        "unfound": unfound,
    }


COLUMNS = {"fault": 8, "recall": 6, "delay": 8, "found from": 10, "in sd": 5, "between": 13, "by": 13}
"""Headers of a sensor's table, and column widths that align the tables of all sensors."""
FEW = 16
"""Sensors and kinds, at most, of which each is also written as a sentence."""


def rows_of(report: Mapping[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """Per sensor the rows of its table, as text under ``COLUMNS``."""
    found: dict[str, list[list[str]]] = {}
    for one in report["sensors"]:
        what = f", {one['modelled']}" if one["modelled"] else ""
        found.setdefault(one["sensor"] + what, []).append(_row(one))
    return list(found.items())


def _row(one: Mapping[str, Any]) -> list[str]:
    """One sensor and kind of fault as the cells of a table row."""

    def shown(value: float | None) -> str:
        if value is None:
            return "?"
        return span(value) if one["kind"] == FaultKind.LAG else sized(value)

    smallest = one["smallest"]
    size = ["-" if one["by_size"] else "", "", ""]
    if smallest is not None:
        sd = "" if smallest["sd"] is None else f"{smallest['sd']:g}"
        size = [shown(smallest["value"]), sd, f"{shown(smallest['low'])}-{shown(smallest['high'])}"]
    return [
        one["kind"].removeprefix("correlation_"),
        f"{one['recall']:.0%}",
        "-" if one["delay_s"] is None else span(one["delay_s"]),
        *size,
        one["alert"] or "none",
    ]
