"""The faulty streams with known truth, cold start on Kafka: what is found, what is filled, how well.

The daemon starts without a model, learns from the first ``model.learn_rows`` rows (a third of
one pump's are faulty), and what follows is produced once it is live: a log that is read faster
than a model trains would be over before anything could be judged.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tests.bench.reporting import Section
from tests.broker import Broker
from tests.running import (
    SHARED,
    SKAB_SENSORS,
    Daemon,
    config_for,
    lines_of,
    make_topic,
    messages,
    send,
    topic_of,
    unique,
)

LEARN_ROWS = 5000
Cell = tuple[str, int, str]  # asset, epoch ms, sensor


def epoch_ms(timestamp: str) -> int:
    """Of an ISO instant in UTC."""
    return int(np.datetime64(timestamp.rstrip("Z"), "ms").astype(np.int64))


def rows_of(form: str) -> int:
    """Grid rows from each asset's first to its last line; no gap here is longer than ``max_gap``."""
    lines = pq.read_table(SHARED / f"streams/{form}.truth.lines.parquet").to_pydict()
    times: dict[str, list[int]] = {}
    for asset, ts, kind in zip(lines["asset"], lines["ts"], lines["kind"], strict=True):
        if kind == "record":
            times.setdefault(asset, []).append(int(ts))
    return sum((max(ts) - min(ts)) // 1000 + 1 for ts in times.values())


def cold_start(form: str, bootstrap: str, folder: Path) -> dict[str, Any]:
    """One stream through Kafka, from nothing."""
    lines = lines_of(SHARED / f"streams/{form}.jsonl.gz")
    topic, prefix = unique("in"), unique("out")
    make_topic(bootstrap, topic, 4)
    config = config_for(bootstrap, topic, prefix, SKAB_SENSORS, format=f"json-{form}")
    first = int(len(lines) * 1.1 * LEARN_ROWS / 18_400)  # some rows are only closed by what follows
    with Daemon(folder, config) as daemon:
        daemon.until(lambda s: s["state"] == "learning")
        send(bootstrap, topic, lines[:first])
        live = daemon.until(lambda s: s["state"] == "live", 600)
        send(bootstrap, topic, lines[first:])
        daemon.until(lambda s: sum(s["records"].values()) == len(lines))
        # An idle log closes its rows after the allowed lateness.
        state = daemon.until(lambda s: s["rows"] == rows_of(form))
        daemon.stop()
    return {
        "lines": len(lines),
        "live": live,
        "state": state,
        "scores": messages(bootstrap, f"{prefix}.scores"),
        "imputed": messages(bootstrap, f"{prefix}.imputed"),
        "alerts": messages(bootstrap, f"{prefix}.alerts"),
        "dead": topic_of(bootstrap, f"{prefix}.dead-letter"),
    }


def faults(readings: dict[str, list[Any]]) -> list[tuple[str, str, int, int]]:
    """(asset, source, first ms, last ms) of each labelled fault."""
    marked: dict[tuple[str, str], list[int]] = {}
    for asset, source, ts, label in zip(
        readings["asset"], readings["source"], readings["ts"], readings["label"], strict=True
    ):
        if label == 1:
            marked.setdefault((asset, source), []).append(ts)
    return [(asset, source, min(ts), max(ts)) for (asset, source), ts in sorted(marked.items())]


def detection(form: str, ran: dict[str, Any], readings: dict[str, list[Any]]) -> Section:
    """Which labelled faults had an anomaly episode firing inside, and how often it fired outside."""
    section = Section(
        f"streams-{form}-faults",
        f"{form}: labelled faults after a cold start",
        ("fault", "rows judged", "rows firing", "found", "delay s"),
    )
    alarms: dict[str, dict[int, bool]] = {}
    for message in ran["scores"]:
        if message["score"] is not None:
            alarms.setdefault(message["asset"], {})[epoch_ms(message["timestamp"])] = message["alarm"]
    inside: set[tuple[str, int]] = set()
    for asset, source, first, last in faults(readings):
        judged = [ts for ts in alarms.get(asset, {}) if first <= ts <= last]
        fired = [ts for ts in judged if alarms[asset][ts]]
        inside.update((asset, ts) for ts in judged)
        delay = (min(fired) - first) / 1e3 if fired else None
        found = "yes" if fired else "no" if judged else "learned from"
        section.add(source, len(judged), len(fired), found, delay)
    for asset, rows in sorted(alarms.items()):
        normal = [alarm for ts, alarm in rows.items() if (asset, ts) not in inside]
        section.notes.append(
            f"{asset}: false-alarm share {np.mean(normal):.2%} of {len(normal):,} normal rows judged"
        )
    opened: dict[str, int] = {}
    for message in ran["alerts"]:
        if message["type"].endswith("opened.v1"):
            kind = message["data"]["kind"]
            opened[kind] = opened.get(kind, 0) + 1
    section.notes.append("episodes opened: " + ", ".join(f"{k} {n}" for k, n in sorted(opened.items())))
    section.notes.append(
        f"{ran['lines']:,} lines: {json.dumps(ran['state']['records'])}; dead letters {len(ran['dead'])}"
    )
    return section


def imputation(form: str, ran: dict[str, Any], readings: dict[str, list[Any]]) -> Section:
    """Error of live fills against the true values, beside the last value; in standard deviations."""
    section = Section(
        f"streams-{form}-fills",
        f"{form}: live imputation, mean absolute error in standard deviations",
        ("status", "gaps", "filled", "ours", "last value", "in 90 % interval"),
    )
    filled: dict[Cell, dict[str, float]] = {}
    for message in ran["imputed"]:
        ts = epoch_ms(message["timestamp"])
        for sensor, cell in message["values"].items():
            filled[message["asset"], ts, sensor] = cell
    scored = [epoch_ms(m["timestamp"]) for m in ran["scores"]]
    live = {
        asset: min(epoch_ms(m["timestamp"]) for m in ran["scores"] if m["asset"] == asset)
        for asset in {m["asset"] for m in ran["scores"]}
    }
    end = max(scored)
    sd = {
        sensor: float(
            np.std([v for v, s in zip(readings["value"], readings["sensor"], strict=True) if s == sensor])
        )
        for sensor in set(readings["sensor"])
    }
    series: dict[tuple[str, str], list[tuple[int, float, str, bool]]] = {}
    for asset, ts, sensor, value, status, late in zip(
        *(readings[name] for name in ("asset", "ts", "sensor", "value", "status", "late")), strict=True
    ):
        series.setdefault((asset, sensor), []).append((ts, value, status, late))
    errors: dict[str, list[tuple[float, float, bool]]] = {}
    gaps: dict[str, int] = {}
    for (asset, sensor), rows in series.items():
        last = float("nan")
        for ts, value, status, late in sorted(rows):
            if status == "ok":
                last = last if late else value
            elif status != "corrupt" and live[asset] <= ts <= end:
                gaps[status] = gaps.get(status, 0) + 1
                cell = filled.get((asset, ts, sensor))
                if cell is not None and last == last:
                    covered = cell["low"] <= value <= cell["high"]
                    errors.setdefault(status, []).append(
                        (abs(cell["value"] - value) / sd[sensor], abs(last - value) / sd[sensor], covered)
                    )
    dropped = [e for status, found in errors.items() if status.startswith("drop") for e in found]
    rows_of = [*sorted(errors.items()), ("all dropped", dropped)]
    gaps["all dropped"] = sum(n for status, n in gaps.items() if status.startswith("drop"))
    for status, found in rows_of:
        ours, theirs, covered = np.array(found).T
        section.add(
            status, gaps[status], len(found), float(ours.mean()), float(theirs.mean()), float(covered.mean())
        )
    return section


def measure(quick: bool) -> list[Section]:
    """Both forms, or the wide one alone; nothing where the streams are not at hand."""
    if not (SHARED / "streams").is_dir():
        return []
    sections = []
    with tempfile.TemporaryDirectory() as name:
        broker = Broker(Path(name) / "kafka")
        broker.start()
        try:
            for form in ("wide",) if quick else ("wide", "long"):
                ran = cold_start(form, broker.bootstrap, Path(name) / form)
                readings = pq.read_table(SHARED / f"streams/{form}.truth.readings.parquet").to_pydict()
                sections += [detection(form, ran, readings), imputation(form, ran, readings)]
        finally:
            broker.stop()
    return sections
