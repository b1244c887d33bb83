"""``anomalyd drill``: which faults a model would find in a file of normal rows, how soon, from which size on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.commands.replay import check_excluded, history_of, plan_for, settings_for
from daemon.errors import InputError, UsageError
from daemon.model.bundle import Bundle
from daemon.model.drill import DetectionChain, DrillPlan, Place, Tally, alive, drill, seconds
from daemon.model.faults import FaultKind
from daemon.runtime.compatibility import check_compatible
from daemon.runtime.drill_report import entry, finite, sized, span
from daemon.runtime.fire_drill import rules_of

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Drilled:
    """What a drill on a file found.

    ``report`` is what ``--json`` prints:

    * ``model``: the bundle's version; ``rows``: normal rows of FILE; ``places``: how many of them
      faults were injected at; ``threshold``.
    * ``kinds``: per kind ``{recall, faults, delay_s}`` over all sensors and sizes; NaN is null.
    * ``sensors``: per sensor and kind ``{sensor, kind, recall, faults, delay_s, smallest, by_size,
      alert, says}``.
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


async def drill_file(
    file: Path,
    model: Path,
    *,
    config: Path | None = None,
    sets: Sequence[str] = (),
    exclude: Sequence[str] = (),
    stream_name: str | None = None,
    kinds: Sequence[str] = (),
    sensors: Sequence[str] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> Drilled:
    """Inject faults into a file's rows and judge them as the stream would.

    Args:
        file: normal rows, as ``replay`` reads them.
        model: the bundle that judges.
        config, sets, exclude, stream_name: as for ``replay``.
        kinds, sensors: only these; all if empty.
        seed: of places, signs and noise.
        progress: told (share done, what is being done).

    Raises:
        DaemonError: unreadable input, wrong configuration, a bundle that does not fit, no normal rows.
    """
    tell = progress or (lambda share, doing: None)
    check_excluded(exclude, [file])
    bundle = Bundle.load(model)
    settings, notes = settings_for(config, sets, file, exclude, bundle)
    plan = plan_for(settings, stream_name, file.name)
    spec = plan.spec
    check_compatible(bundle, spec)
    try:
        wanted = [FaultKind.of(kind) for kind in kinds] or list(FaultKind)
    except ValueError as error:
        raise UsageError(f"--kind {error}") from None
    for name in sensors:
        if name not in bundle.sensors:
            raise UsageError(
                f"--sensor {name}: the model has no such sensor; it has {', '.join(bundle.sensors)}"
            )
    tell(0.0, f"reading {file.name}")
    history = await history_of(file, plan, exclude)
    detector = bundle.detector()
    which = [bundle.sensors.index(name) for name in sensors] if sensors else None
    tally, places = drill(
        DetectionChain(detector, plan.policy, rules_of(detector, spec), spec.hop),
        history,
        DrillPlan(wanted, which, seed=seed),
        tell,
    )
    rows = sum(int(segment.observed.any(1).sum()) for segment in history)
    if not places:
        raise InputError(
            f"{file}: none of its {rows} rows can take a fault: three windows of {spec.window} rows in a row are"
            " needed, without a gap longer than max_gap and without an alarm"
        )
    tell(1.0, "done")
    able = alive(detector)
    still = [n for c, n in enumerate(bundle.sensors) if c not in able and (which is None or c in which)]
    report = report_of(tally, places, rows, bundle, spec.period_ns, wanted)
    report["still"] = still
    return Drilled(report, [*dict.fromkeys(notes)])


def report_of(
    tally: Tally,
    places: Sequence[Place],
    rows: int,
    bundle: Bundle,
    period_ns: int,
    kinds: Sequence[FaultKind],
) -> dict[str, Any]:
    """The verdicts as ``--json`` prints them; see ``Drilled``."""
    scale = bundle.models.scaler.scale
    results = tally.results()
    unfound: dict[str, list[str]] = {}
    for found in results:
        if not found.found:
            unfound.setdefault(found.sensor, []).append(found.kind.value)
    return {
        "model": bundle.version,
        "threshold": bundle.calibration.threshold,
        "rows": rows,
        "places": len(places),
        "kinds": {
            kind.value: {
                "recall": finite(tally.recall(kind)),
                "faults": tally.faults(kind),
                "delay_s": seconds(tally.delay_rows(kind), period_ns),
            }
            for kind in kinds
            if tally.faults(kind)
        },
        "sensors": [
            entry(found, float(scale[bundle.sensors.index(found.sensor)]), period_ns) for found in results
        ],
        "unfound": unfound,
    }


# ------------------------------------------------------------------ on the terminal
COLUMNS = {"fault": 8, "recall": 6, "delay": 8, "found from": 10, "in sd": 5, "between": 13, "by": 13}
"""Headers of a sensor's table, with the widths that keep those of all sensors in line."""
FEW = 16
"""So many sentences are read; of more the tables say enough."""


def rows_of(report: Mapping[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """Per sensor the rows of its table, as text under ``COLUMNS``."""
    found: dict[str, list[list[str]]] = {}
    for one in report["sensors"]:
        found.setdefault(one["sensor"], []).append(_row(one))
    return list(found.items())


def _row(one: Mapping[str, Any]) -> list[str]:
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
