"""Versions and their differences as text: what the commands print without ``--json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daemon.model.decision import rule_in_words
from daemon.trigger import in_words

MOVED_SD, MOVED_RATIO = 0.1, 1.1
"""A mean that moved by less of a standard deviation, and a spread by a smaller factor, are only counted: no chart shows
them, and every retraining moves all sensors by a little."""
MOST = 20
"""Assets and sensors that are listed."""
LIST = ("version", "state", "trained (UTC)", "rows", "gate and reason")
"""Headers of the list of versions; the stream stands below the version, the trigger below the time."""
FOLDS = (LIST[0], LIST[-1])
"""Of these, those whose cells may be broken anywhere: names of streams, and reasons."""


def list_rows(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """One row per version, under ``LIST``; a cell may have several lines."""
    return [
        (
            f"{one['version']}\n{one['stream']}",
            _state(one).replace(" until ", " until\n")
            or ("in force" if one["promoted"] else "before" if one["promoted_before"] else ""),
            _lines(_when(one["trained_at"]), one["trigger"] and in_words(one["trigger"])),
            "" if one["rows"] is None else f"{one['rows']:,}",
            _lines(gate_in_words(one), one["unreadable"] or one["reason"]),
        )
        for one in entries
    ]


def _lines(*texts: str | None) -> str:
    return "\n".join(filter(None, texts))


def _state(entry: Mapping[str, Any]) -> str:
    """Until when a version is in shadow; empty: it is not."""
    return f"in shadow until {_when(entry['shadow_until'])}" if entry["shadow_until"] else ""


def gate_in_words(entry: Mapping[str, Any]) -> str:
    """Whether the gate let a version pass, or which rule refused it."""
    gate = entry["gate"]
    if gate is None:
        return ""
    return "passed" if gate["promoted"] else f"refused: {gate['refused_by']}"


def show_lines(entry: Mapping[str, Any]) -> list[str]:
    """A version, one fact a line."""
    model, span = entry["model"], f"{_when(entry['from'])} to {_when(entry['until'])}"
    lines = [
        f"version    {entry['version']} of stream {entry['stream']}"
        + (", in force" if entry["promoted"] else ", promoted before" if entry["promoted_before"] else "")
        + (f", {_state(entry)}" if _state(entry) else ""),
        f"trained    {_when(entry['trained_at']) or 'unknown'}, trigger: {entry['trigger'] or 'unknown'}, "
        f"parent: {entry['parent'] or 'none'}" + _children(entry["children"]),
        f"learned    {_counted(entry['rows'], 'row')} of {_counted(entry['assets'], 'asset')}, {span}",
    ]
    rows_of = sorted(entry["rows_of"].items(), key=lambda one: (-one[1], one[0]))
    lines += [f"           {asset}: {rows:,} rows" for asset, rows in rows_of[:MOST]]
    if len(rows_of) > MOST:
        lines.append(f"           and {_counted(len(rows_of) - MOST, 'more asset')}: see --json")
    lines += [
        f"model      {model['kind']}, {model['latents']} latents, {_counted(len(entry['sensors']), 'sensor')}, window"
        f" {entry['window']}, period {entry['period_s']:g} s",
        f"threshold  {entry['threshold']:.2f}, closes at {entry['closing']:.2f} ({entry['calibration']} calibration)",
    ]
    decision = entry["decision"]
    lines.append(f"gate       {'no decision is known' if decision is None else decision['reason']}")
    for rule in () if decision is None else decision["rules"]:
        says = rule_in_words(rule["name"], rule["figure"], rule["limit"], at_least=rule["at_least"])
        lines.append(f"           {'passed ' if rule['passed'] else 'REFUSED'}  {rule['name']:<18}  {says}")
    for i, one in enumerate(entry["promotions"]):
        who = f" by {one['by']}" if one["by"] else ""
        lines.append(
            f"{'promoted' if not i else '':10} {_when(one['at']) or 'unknown'}{who}: {one['reason']}"
        )
    for i, concern in enumerate(entry["concerns"]):
        lines.append(f"{'concerns' if not i else '':10} {concern}")
    return lines


def diff_lines(found: Mapping[str, Any]) -> list[str]:
    """How two versions differ, but for the tables."""
    lines = []
    for name in ("a", "b"):
        one = found[name]
        rows = "" if one["rows"] is None else f", {one['rows']:,} rows up to {_when(one['until'])}"
        state = ", in force" if one["promoted"] else ""
        lines.append(
            f"{name.upper()} = {one['version']}{rows}, trigger: {one['trigger'] or 'unknown'}{state}"
        )
    threshold, closing = found["threshold"], found["closing"]
    lines.append(
        f"threshold {threshold['a']:.2f} -> {threshold['b']:.2f} ({threshold['b'] / threshold['a'] - 1.0:+.0%}),"
        f" closes at {closing['a']:.2f} -> {closing['b']:.2f}"
    )
    if found["window"]["a"] != found["window"]["b"]:
        lines.append(f"window {found['window']['a']} -> {found['window']['b']}")
    lines += [
        f"only {which.upper()} has {', '.join(found[f'only_{which}'])}"
        for which in "ab"
        if found[f"only_{which}"]
    ]
    agreed = found["agreement"]
    if agreed is None:
        lines.append("anomalies: no rows to compare on; --rows FILE names some")
    else:
        lines.append(
            f"anomalies on {agreed['rows']:,} rows of {agreed['source']}: both {agreed['both']:.2%}, only A"
            f" {agreed['only_a']:.2%}, only B {agreed['only_b']:.2%}; episodes {agreed['episodes_a']} ->"
            f" {agreed['episodes_b']} (deviations and other kinds are not compared)"
        )
    return lines


SENSORS = ("sensor", "mean A", "mean B", "moved", "in sd", "spread A", "spread B")
"""Headers of the table of sensors."""


def sensor_rows(found: Mapping[str, Any]) -> tuple[list[tuple[str, ...]], int]:
    """The sensors that moved, under ``SENSORS``, and how many more moved by too little to list."""
    moved = [
        one
        for one in found["sensors"]
        if abs(one["moved_sd"]) >= MOVED_SD or not 1 / MOVED_RATIO < one["spread_ratio"] < MOVED_RATIO
    ][:MOST]
    rows: list[tuple[str, ...]] = [
        (
            one["sensor"],
            f"{one['mean_a']:.4g}",
            f"{one['mean_b']:.4g}",
            f"{one['moved']:+.3g}",
            f"{one['moved_sd']:+.2f}",
            f"{one['spread_a']:.3g}",
            f"{one['spread_b']:.3g}",
        )
        for one in moved
    ]
    return rows, len(found["sensors"]) - len(moved)


RECALL = ("fault", "A", "B")
"""Headers of the table of faults."""


def recall_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The shares of faults that are found, under ``RECALL``."""
    recall = found["recall"]
    return [] if recall is None else [(k["kind"], _share(k["a"]), _share(k["b"])) for k in recall["kinds"]]


def _share(value: float | None) -> str:
    return "?" if value is None else f"{value:.0%}"


def _when(text: str | None) -> str:
    """A time for people, to the minute; empty for none."""
    return "" if text is None else text[:16].replace("T", " ")


def _counted(count: int | None, what: str) -> str:
    return f"{count or 0:,} {what}{'' if count == 1 else 's'}"


def _children(children: Sequence[str]) -> str:
    return f", children: {', '.join(children)}" if children else ""
