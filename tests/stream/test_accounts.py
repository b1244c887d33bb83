"""What became of every record and every cell: the accounts against a slow count, for every way to poll a log."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.config.presets import CUSTOM, mapping_of
from daemon.domain import SECOND_NS, Disposition, Format, Reading, Record, Records, StreamSpec
from daemon.stream import gathering
from daemon.stream.accounts import CellState, Counts, displace
from daemon.stream.pipeline import Pipeline
from tests import naive
from tests.stream.pipelines import feed, make, numbered, snapshots, take_over, wide

BASE_S = 1_700_000_000
SPEC = StreamSpec(
    "pumps",
    ("a", "b", "c"),
    window=4,
    allowed_lateness_ns=2 * SECOND_NS,
    max_gap_ns=20 * SECOND_NS,
    silent_after_ns=1_000_000 * SECOND_NS,  # no row waits for less than all sensors
)
LONG = replace(SPEC, format=Format.JSON_LONG)
TAGS = replace(
    SPEC,
    input=mapping_of(
        CUSTOM,
        {
            "each": "tags[]",
            "asset": {"from": "id", "match": r"^(?<asset>[^.]*)\."},
            "sensor": {"from": "id", "match": r"\.(?<sensor>.+)$"},
            "time": "at",
            "value": "v",
            "quality": "q",
            "skip": [{"path": "kind", "in": ["birth"], "name": "no data"}],
        },
    ),
)
"""A record is a list of tags: of several assets, sensors and times, each with its quality."""
WHOLE = replace(
    SPEC,
    input=mapping_of(
        CUSTOM, {"each": "rows[]", "asset": "id", "time": "at", "leaves": "values", "rows": "whole"}
    ),
)
"""A record is a list of whole rows, of several assets."""
TOKENS: dict[Any, float | str | None] = {
    1.5: 1.5,
    2: 2.0,
    "2": 2.0,
    "1,5": 1.5,
    True: 1.0,
    None: None,
    "n/a": None,
    "ERR": "text",
    "12 apples and pears": "text",
    1e999: "infinite",
    "[]": "array",
    "{}": "object",
}
"""What a cell may hold -> its number, its fault, or None."""
VALUES = st.sampled_from(list(TOKENS))


def cell_json(token: Any) -> Any:
    return {"[]": [1.0], "{}": {"x": 1}}.get(token, token) if isinstance(token, str) else token


def record(offset: int, message: Any) -> Record:
    """A record of a log that takes its time: by the broker's timestamps every gap of an asset is believed."""
    return Record(offset, None, json.dumps(message).encode(), (BASE_S + 60 + 1_000 * offset) * SECOND_NS)


def appended(log: list[Record]) -> Records:
    """The records with timestamps that are the broker's."""
    return Records(
        np.array([r.offset for r in log], np.int64),
        [r.key for r in log],
        [r.value for r in log],
        np.array([r.timestamp_ns for r in log], np.int64),
        True,
    )


def fed(spec: StreamSpec, log: Sequence[Record], cuts: list[int]) -> Counts:
    """The accounts of a pipeline over a log that is polled in pieces, in this order of sizes, and then ended."""
    return fed_to(make(spec, None), log, cuts)


def fed_to(pipeline: Pipeline, log: Sequence[Record], cuts: list[int]) -> Counts:
    sizes, at = cuts or [len(log)], 0
    for size in (sizes * (len(log) + 1))[: len(log)]:
        if at < len(log):
            feed(pipeline, log[at : at + size])
        at += size
    feed(pipeline, [], ended=True)
    return pipeline.accounts.counts()


def agree(counts: Counts, oracle: naive.CountedCells, records: Counter[Disposition], unknown: int) -> None:
    assert counts.records == +records
    assert +counts.cells == Counter({**oracle.states, **({"unknown": unknown} if unknown else {})})
    assert +counts.corrupt == oracle.faults
    assert counts.corrupt.total() == counts.cells[CellState.CORRUPT]
    assert counts.reasons.total() == counts.records[Disposition.REJECTED]
    assert counts.skipped.total() == counts.records[Disposition.SKIPPED]


CUTS = st.lists(st.integers(1, 7), max_size=4)
STEPS = st.sampled_from([0, 0, 1, 1, 1, 2, -1, -2, -4])
ASSETS = st.sampled_from(["p1", "p2"])


@given(
    st.lists(
        st.tuples(
            ASSETS,
            STEPS,
            st.dictionaries(st.sampled_from(["a", "b", "c", "other", "x.y"]), VALUES, max_size=4),
        ),
        max_size=30,
    ),
    CUTS,
)
def test_cells_of_whole_records(lines: list[tuple[str, int, dict[str, Any]]], cuts: list[int]) -> None:
    oracle, records, log, second = naive.CountedCells(SPEC), Counter[Disposition](), [], 10
    cells = unknown = 0
    for offset, (asset, step, values) in enumerate(lines):
        second = max(second + step, 0)
        time_ns = (BASE_S + second) * SECOND_NS
        message = {
            "asset": asset,
            "ts": time_ns // 10**6,
            "values": {k: cell_json(v) for k, v in values.items()},
        }
        log.append(record(offset, message))
        others = sum(name not in SPEC.sensors for name in values)
        unknown += others
        if values and others == len(values):
            records[Disposition.REJECTED] += 1
            continue
        disposition = oracle.whole(asset, time_ns, {name: TOKENS[token] for name, token in values.items()})
        records[disposition] += 1
        cells += len(SPEC.sensors)
    counts = fed(SPEC, appended(log), cuts)
    agree(counts, oracle, records, unknown)
    assert counts.cells.total() == cells + unknown
    of_accepted = (CellState.OBSERVED, CellState.MISSING, CellState.CORRUPT, CellState.CONFLICT)
    assert sum(counts.cells[s] for s in of_accepted) == 3 * records[Disposition.ACCEPTED]


@given(
    st.lists(st.tuples(ASSETS, STEPS, st.sampled_from(["a", "b", "c", "other"]), VALUES), max_size=60), CUTS
)
def test_cells_of_long_records(lines: list[tuple[str, int, str, Any]], cuts: list[int]) -> None:
    oracle, records, log, second = naive.CountedCells(LONG), Counter[Disposition](), [], 10
    unknown = 0
    for offset, (asset, step, sensor, token) in enumerate(lines):
        second = max(second + step, 0)
        time_ns = (BASE_S + second) * SECOND_NS
        log.append(
            record(
                offset,
                {"asset": asset, "ts": time_ns // 10**6, "sensor": sensor, "value": cell_json(token)},
            )
        )
        if sensor not in LONG.sensors:
            unknown += 1
            records[Disposition.REJECTED] += 1
            continue
        records[oracle.part(asset, time_ns, [(sensor, TOKENS[token])])] += 1
    counts = fed(LONG, appended(log), cuts)
    agree(counts, oracle, records, unknown)
    assert counts.cells.total() == len(log)


TAG = st.tuples(
    ASSETS,
    st.sampled_from([0, 0, 0, -1]),
    st.sampled_from(["a", "b", "c", "a", "b", "other"]),
    VALUES,
    st.sampled_from([True, True, True, False]),
    st.sampled_from(["", "", "", "", "no asset", "no time"]),
)


@given(
    st.lists(
        st.tuples(STEPS, st.lists(TAG, max_size=6), st.sampled_from(["data", "data", "birth"])), max_size=25
    ),
    CUTS,
)
def test_cells_of_records_that_are_parts_of_rows(
    lines: list[tuple[int, list[tuple[str, int, str, Any, bool, str]], str]], cuts: list[int]
) -> None:
    oracle, records, log, second = naive.CountedCells(LONG), Counter[Disposition](), [], 10
    unknown, refused = 0, Counter[str]()
    for offset, (step, tags, kind) in enumerate(lines):
        second = max(second + step, 0)
        items, groups, why = [], {}, []
        for asset, behind, sensor, token, good, flaw in tags:
            time_ns = (BASE_S + second + behind) * SECOND_NS
            item = {"id": f"{asset}.{sensor}", "at": time_ns // 10**6, "v": cell_json(token), "q": good}
            item |= {"no asset": {"id": "nameless"}, "no time": {"at": None}}.get(flaw, {})
            items.append(item)
            if kind == "birth":
                continue
            if flaw:
                why.append(flaw.replace("no time", "no_timestamp").replace(" ", "_"))
            elif sensor not in TAGS.sensors:
                unknown += 1
            else:
                groups.setdefault((asset, time_ns), []).append((sensor, TOKENS[token] if good else None))
        log.append(record(offset, {"kind": kind, "tags": items}))
        if kind == "birth" or not items:
            records[Disposition.SKIPPED] += 1
            continue
        of_record = Disposition.REJECTED
        for (asset, time_ns), cells in sorted(groups.items(), key=lambda group: group[0][1]):
            of_record = oracle.part(asset, time_ns, cells)
        records[of_record] += 1
        if groups:
            refused.update(why)
    counts = fed(TAGS, appended(log), cuts)
    agree(counts, oracle, records, unknown)
    assert counts.refused_items == refused


# ------------------------------------------------------------------ many at once
Parts = list[tuple[str, int, list[tuple[str, Any]]]]
"""What a record has: per asset and second its cells."""


def orderly(rng: random.Random, spec: StreamSpec, wrong: float) -> list[Parts]:
    """The records of assets that report row after row, but for some that are late, repeated or left out."""
    log: list[Parts] = []
    for second in range(10, 34):
        of_row: list[Parts] = []
        for asset in ("p1", "p2", "p3"):
            cells = [(sensor, usual(rng, spec, wrong)) for sensor in rng.sample("abc", 3)]
            at = second - rng.randint(1, 4) if rng.random() < wrong else second
            if spec is LONG:
                of_row += [[(asset, at, [cell])] for cell in cells]
            elif spec is TAGS and rng.random() < 0.5:
                of_row += [[(asset, at, cells[:1])], [(asset, at, cells[1:])]]
            else:
                of_row.append([(asset, at, cells)])
        if spec.input is not None and rng.random() < 0.3:
            of_row[0] += of_row.pop()
        for parts in of_row:
            log += [parts] * (0 if rng.random() < wrong / 3 else 2 if rng.random() < wrong else 1)
    return log


def usual(rng: random.Random, spec: StreamSpec, wrong: float) -> Any:
    """A cell, which is mostly a number."""
    if rng.random() < wrong + 0.05:
        return rng.choice(
            [token for token in TOKENS if spec is not WHOLE or token != "{}"]
        )  # a leaf has none
    return rng.choice([1.5, 2.0])


def written(spec: StreamSpec, parts: Parts) -> Any:
    """The message of a record."""
    if spec is WHOLE:
        rows = [
            {"id": asset, "at": (BASE_S + at) * 1000, "values": {s: cell_json(v) for s, v in cells}}
            for asset, at, cells in parts
        ]
        return {"rows": rows}
    if spec is TAGS:
        tags = [
            {"id": f"{asset}.{s}", "at": (BASE_S + at) * 1000, "v": cell_json(v)}
            for asset, at, cells in parts
            for s, v in cells
        ]
        return {"tags": tags}
    asset, at, cells = parts[0]
    message = {"asset": asset, "ts": (BASE_S + at) * 1000}
    if spec is LONG:
        return message | {"sensor": cells[0][0], "value": cell_json(cells[0][1])}
    return message | {"values": {s: cell_json(v) for s, v in cells}}


@pytest.mark.parametrize("spec", [SPEC, LONG, TAGS, WHOLE], ids=["wide", "long", "parts", "whole"])
@pytest.mark.parametrize("wrong", [0.0, 0.03, 0.2])
def test_cells_of_readings_that_are_taken_together(
    spec: StreamSpec, wrong: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "STEADY", 2)  # after so many readings in order they are
    for seed in range(30):
        rng = random.Random(seed)
        oracle, records, log = naive.CountedCells(LONG if spec.gathers else SPEC), Counter[Disposition](), []
        for offset, parts in enumerate(orderly(rng, spec, wrong)):
            log.append(record(offset, written(spec, parts)))
            of_record = None
            together: dict[tuple[str, int], list[tuple[str, Any]]] = {}
            for asset, at, cells in parts:
                together.setdefault((asset, at), []).extend(cells)
            for (asset, at), cells in sorted(together.items(), key=lambda part: part[0][1]):
                time_ns, known = (BASE_S + at) * SECOND_NS, [(s, TOKENS[v]) for s, v in cells]
                if spec.gathers:
                    of_record = oracle.part(asset, time_ns, known)
                else:
                    of_record = oracle.whole(asset, time_ns, dict(known))
            assert of_record is not None
            records[of_record] += 1
        for cuts in ([], [1], [12], [rng.randint(1, 60), 7, 200]):
            pipeline = make(spec, None)
            agree(fed_to(pipeline, appended(log), cuts), oracle, records, 0)
            if spec.gathers and not wrong and cuts == [12]:
                assert pipeline.parts.ingest.grid.gathering.idle.sum() == 3


# ------------------------------------------------------------------ event times that are not believed
def test_cells_that_wait_for_a_second_reading_and_are_refused() -> None:
    pipeline = make()
    feed(pipeline, numbered([wide(i, 0.5, 0.5) for i in range(5)]))
    feed(pipeline, numbered([wide(9_000, 0.5, float("nan"))], 5))
    assert pipeline.accounts.counts().cells.total() == 10  # it is not decided on yet
    feed(pipeline, numbered([wide(5, 0.5, 0.5), wide(6, 0.5, float("nan"))], 6))
    counts = pipeline.accounts.counts()
    assert +counts.cells == {"observed": 13, "missing": 1, "rejected": 2}
    assert counts.reasons == {"future": 1}


@pytest.mark.parametrize("handed_over", [False, True])
def test_cells_of_a_first_row_that_two_others_contradict(handed_over: bool) -> None:
    """They were counted when they came; what is refused later is not counted as observed, too."""
    spec = replace(SPEC, silent_after_ns=8 * SECOND_NS)
    first = Reading(
        0, "p1", (BASE_S + 9_000) * SECOND_NS, [1.0, float("nan"), float("nan")], corrupt=[(1, "text")]
    )
    twice = replace_offset(first, 1)
    pipeline = make(spec, None)
    feed(pipeline, [first, twice])
    before = pipeline.accounts.counts()
    assert +before.cells == {"observed": 1, "missing": 1, "corrupt": 1, "duplicate": 3}
    if handed_over:
        saved = snapshots(pipeline)
        pipeline = make(spec, None, publish_from=2)
        assert take_over(pipeline, saved)
        feed(pipeline, [])
    others = [Reading(2 + i, "p1", (BASE_S + i) * SECOND_NS, [1.0, 2.0, 3.0]) for i in range(5)]
    feed(pipeline, others, ended=True)
    after = pipeline.accounts.counts()
    together = before + after if handed_over else after
    assert +after.cells == {"observed": 15 - handed_over * 1, "rejected": 6}
    assert together.records[Disposition.REJECTED] == 2


def replace_offset(reading: Reading, offset: int) -> Reading:
    return Reading(offset, reading.asset, reading.time_ns, reading.values, corrupt=reading.corrupt)


# ------------------------------------------------------------------ restarts and polls
@pytest.mark.parametrize("spec", [SPEC, LONG, TAGS], ids=["wide", "long", "parts"])
def test_what_is_read_again_after_a_restart_is_not_counted_again(spec: StreamSpec) -> None:
    rng = random.Random(3)
    log = [random_record(rng, spec, i) for i in range(120)]
    whole = fed(spec, log, [])
    for cut in (1, 40, 119):
        first = make(spec, None)
        feed(first, log[:cut])
        saved, position, back = snapshots(first), first.offset, first.replay_from()
        second = make(spec, None, publish_from=position)
        assert take_over(second, saved)
        feed(second, log[back:], ended=True)
        together = first.accounts.counts() + second.accounts.counts()
        assert together == whole + Counts()


def random_record(rng: random.Random, spec: StreamSpec, offset: int) -> Record:
    asset, second = f"p{rng.randint(1, 3)}", BASE_S + offset // 6 + rng.choice([0, 0, 0, -1, -4])
    value = {sensor: cell_json(rng.choice(list(TOKENS))) for sensor in ("a", "b", "c", "other")}
    if rng.random() < 0.1:
        return Record(offset, None, rng.choice([b"", b"{", b"[]", b"{}"]), (BASE_S + 60) * SECOND_NS)
    if spec is TAGS:
        tags = [
            {"id": f"{asset}.{s}", "at": second * 1000, "v": v}
            for s, v in value.items()
            if rng.random() < 0.6
        ]
        return record(offset, {"kind": rng.choice(["data", "data", "birth"]), "tags": tags})
    message = {"asset": asset, "ts": second * 1000}
    if spec.format is Format.JSON_LONG:
        sensor = rng.choice(list(value))
        return record(offset, message | {"sensor": sensor, "value": value[sensor]})
    return record(offset, message | {"values": {s: v for s, v in value.items() if rng.random() < 0.6}})


def test_accounts_do_not_depend_on_polls_even_where_clocks_are_wrong() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        log = [random_record(rng, SPEC, i) for i in range(200)]
        for place in rng.sample(range(200), 6):
            log[place] = record(
                place, {"asset": "p1", "ts": BASE_S + rng.randint(-5000, 5000), "values": {"a": 1, "b": "x"}}
            )
        whole = fed(SPEC, log, [])
        assert fed(SPEC, log, [1]) == fed(SPEC, log, [3, 50]) == whole
        understood = whole.records.total() - (whole.reasons - Counter(future=whole.reasons["future"])).total()
        decoded_late = whole.cells[CellState.REJECTED] // 3
        assert whole.cells.total() - whole.cells[CellState.UNKNOWN] == 3 * (
            understood - whole.reasons["future"] + decoded_late
        )


# ------------------------------------------------------------------ one sensor twice in a record
@pytest.mark.parametrize(
    ("before", "fault", "after", "kept", "state"),
    [
        (1.0, "", 1.0, 1.0, "duplicate"),
        (1.0, "", 2.0, 2.0, "conflict"),
        (1.0, "", None, 1.0, "missing"),
        (None, "", 2.0, 2.0, "missing"),
        (None, "text", 2.0, 2.0, "corrupt"),
    ],
)
def test_a_cell_that_a_record_gives_again(
    before: float | None, fault: str, after: float | None, kept: float, state: str
) -> None:
    nan = float("nan")
    values = [nan, nan if before is None else before]
    reading = Reading(0, "p1", 0, values, reported=2, corrupt=[(1, fault)] if fault else [])
    displace(reading, 1, nan if after is None else after)
    assert reading.values is not None
    assert reading.values[1] == kept
    assert (list(reading.corrupt), list(reading.displaced)) == ([], [(state, 1, fault)])


def test_counts_are_true_if_anything_was_counted() -> None:
    assert not Counts(cells=Counter({CellState.OBSERVED: 0}) - Counter())
    assert Counts(cells=Counter({CellState.OBSERVED: 1}))
