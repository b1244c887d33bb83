"""However a log is cut into polls, the pipeline says the same: usual lines taken together or one by one."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace

import pytest

from daemon.budget import Budget
from daemon.config.presets import mapping_of
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    AlertEvent,
    DeadLetter,
    FilledRow,
    Format,
    InputPartition,
    PolledRecords,
    Record,
    ScoredRow,
    StreamSpec,
    iso,
)
from daemon.mapping import Reduce, SensorRule
from daemon.stream import gathering
from daemon.stream.decoding import Decoder
from daemon.stream.parts import PipelineSettings
from daemon.stream.pipeline import Pipeline
from tests.fakes import CentreDetector

BASE_S = 1_700_000_000
SENSORS = ("a", "b", "c")


def spec_of(rng: random.Random) -> StreamSpec:
    return StreamSpec(
        "pumps",
        SENSORS,
        window=rng.choice([1, 3, 4, 8]),
        hop=rng.choice([1, 1, 2, 3, 16]),
        allowed_lateness_ns=rng.choice([0, 2, 5, 30]) * SECOND_NS,
        max_gap_ns=rng.choice([1, 4, 10]) * SECOND_NS,
        silent_after_ns=rng.choice([3, 8, 40]) * SECOND_NS,
        condition=rng.choice([(), ("$weekday",), ("mode",), ("mode", "$hour")]),
    )


def log_of(rng: random.Random, spec: StreamSpec) -> list[Record]:
    """Lines of some assets: in order, after gaps, late, twice, contradicting, garbage."""
    clock = {f"p{i}": rng.randint(0, 5) for i in range(rng.randint(3, 12))}
    log = []
    for offset in range(400):
        asset, dice = rng.choice(list(clock)), rng.random()
        if dice < 0.85:
            clock[asset] += 1 if dice < 0.8 else rng.randint(2, 15)
        behind = rng.randint(0, 6) if 0.85 <= dice < 0.9 else 0
        second = max(clock[asset] - behind, 0)
        values: dict[str, object] = {
            sensor: rng.choice([0.5, 1.0, 9.0, None]) for sensor in SENSORS if rng.random() < 0.9
        }
        if dice < 0.04:
            values |= rng.choice([{"other": 1.0}, {"a": "NaN"}])
        time_ns = (BASE_S + second) * SECOND_NS + rng.choice([0, 0, SECOND_NS // 4])
        line = {"asset": asset, "ts": rng.choice([iso(time_ns), time_ns / 1e9]), "values": values}
        if "mode" in spec.condition:
            line["condition"] = {"mode": rng.choice(["run", "run", "idle"])}
        value = b"{garbage" if 0.04 <= dice < 0.06 else json.dumps(line).encode()
        log.append(Record(offset, asset.encode(), value, (BASE_S + 2_000) * SECOND_NS))
    return log


def parted(rng: random.Random, log: list[Record], spec: StreamSpec) -> list[Record]:
    """The same in json-long, or as parts of rows by a mapping; some sensors are left out for good by some assets."""
    parts: list[tuple[bytes | None, bytes, int]] = []
    for record in log:
        try:
            line = json.loads(record.value)
        except ValueError:
            parts.append((record.key, record.value, record.timestamp_ns))
            continue
        values, kept = line.pop("values"), rng.random() < 0.95
        cells = [(name, values.get(name)) for name in SENSORS if (name in values or kept)]
        cells = [cell for cell in cells if cell[0] != "c" or line["asset"] != "p0"]
        if spec.format is Format.JSON_LONG:
            found: list[dict[str, object]] = [{"sensor": name, "value": value} for name, value in cells]
        else:
            found = [{"values": dict(cells[:1])}, {"values": dict(cells[1:])}] if len(cells) > 1 else []
        parts += [(record.key, json.dumps(line | each).encode(), record.timestamp_ns) for each in found]
    return [Record(offset, *part) for offset, part in enumerate(parts)]


def said(
    seed: int,
    most: int,
    max_assets: int,
    form: Format = Format.JSON_WIDE,
    reduce: Reduce = Reduce.FIRST,
) -> tuple[dict[type, list[str]], object]:
    """What a pipeline says of a log, by kind, polled in pieces of up to ``most`` records."""
    rng = random.Random(seed)
    spec = spec_of(rng)
    log = log_of(rng, spec)
    if reduce is not Reduce.FIRST:
        spec = replace(spec, sensor_rules=(SensorRule(reduce=reduce),) * len(SENSORS))
    if form is not Format.JSON_WIDE:
        mapping = mapping_of("json-wide", {"rows": "gather"}) if form is Format.MAPPED else None
        spec = replace(spec, format=form, input=mapping, condition=())
        log = parted(rng, log, spec)
    detector = CentreDetector(
        spec.sensors, window=spec.window, memory=0.05, conditions=("", "mode=run"), pace=0.3
    )
    settings = PipelineSettings(
        spec, AlarmPolicy(), 20 * SECOND_NS, scores=True, max_assets=max_assets, online=Budget(9_000.0)
    )
    pipeline = Pipeline(settings, InputPartition("in", 0), Decoder(spec))
    pipeline.use(detector)
    outputs = []
    while log:
        size = rng.randint(1, most)
        outputs += [
            o for step in pipeline.feed(PolledRecords(pipeline.partition, log[:size])) for o in step.outputs
        ]
        log = log[size:]
    outputs += [
        o for step in pipeline.feed(PolledRecords(pipeline.partition, (), ended=True)) for o in step.outputs
    ]
    by_kind: dict[type, list[str]] = {}
    for output in outputs:
        by_kind.setdefault(type(output), []).append(repr(output))
    assert {FilledRow, DeadLetter} <= by_kind.keys()
    counted = (
        Counter(pipeline.counts),
        pipeline.dropped,
        pipeline.parts.ingest.grid.conflicts,
        pipeline.parts.chunker.rows,
    )
    return by_kind, counted


@pytest.mark.parametrize("max_assets", [1_000, 4])
@pytest.mark.parametrize("seed", range(12))
def test_how_a_log_is_polled_never_shows(seed: int, max_assets: int) -> None:
    one_by_one, counted = said(seed, 1, max_assets)
    for most in (9, 400):
        together, too = said(seed, most, max_assets)
        assert too == counted
        assert together == one_by_one


@pytest.mark.parametrize("seed", range(4))
def test_how_a_log_is_polled_never_shows_where_rows_are_means(seed: int) -> None:
    one_by_one = said(seed, 1, 1_000, reduce=Reduce.MEAN)
    assert said(seed, 400, 1_000, reduce=Reduce.MEAN) == one_by_one


@pytest.mark.parametrize("form", [Format.JSON_LONG, Format.MAPPED])
@pytest.mark.parametrize("max_assets", [1_000, 4])
@pytest.mark.parametrize("seed", range(8))
def test_how_a_log_of_parts_is_polled_never_shows(
    seed: int, max_assets: int, form: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "STEADY", 2)
    one_by_one, counted = said(seed, 1, max_assets, form)
    for most in (9, 400):
        together, too = said(seed, most, max_assets, form)
        assert too == counted
        assert together == one_by_one


def test_the_logs_here_are_worth_polling() -> None:
    scored = [len(said(seed, 400, 1_000)[0].get(ScoredRow, ())) for seed in range(12)]
    assert sum(n > 50 for n in scored) >= 6
    alerts = [said(seed, 400, 1_000)[0].get(AlertEvent, []) for seed in range(12)]
    assert sum(map(bool, alerts)) >= 6
    assert sum(any("DEVIATION" in alert for alert in one) for one in alerts) >= 6
