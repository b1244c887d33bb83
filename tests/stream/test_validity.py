"""State with whatever anybody may have written to its topic: it costs the asset it is of, and nobody else."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from datetime import timedelta
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain import (
    SECOND_NS,
    Format,
    Output,
    PolledRecords,
    Reading,
    StateRecord,
)
from daemon.stream import episode_state, snapshot
from daemon.stream.course_state import CourseState
from daemon.stream.deviation import Deviation
from daemon.stream.pipeline import Pipeline
from daemon.stream.validity import ASSET_BYTES
from tests.fakes import CentreDetector
from tests.mutations import bytewise, structured
from tests.stream.pipelines import (
    CENTRE,
    LONG,
    NAN,
    PUMPS_0,
    RULES,
    SPEC,
    make,
    numbered,
    snapshots,
    take_over,
    wide,
)

RULED = Format.MAPPED
SPECS = {Format.JSON_WIDE: SPEC, Format.JSON_LONG: LONG, RULED: replace(LONG, sensor_rules=RULES)}
"""The last one is json-long, too, with rules for how its rows are made."""
ASSETS = ("p1", "p2", "p3", "p4")
NEWER = replace(CENTRE, version="centre-2", memory=0.1)
FIRST, LAST = 48, 72
"""Seconds at which the state is taken, and at which the log ends."""


def readings(form: Format) -> list[Reading]:
    """What four assets say: p2 raises an alarm, p3 loses a sensor, p4 stands still and leaves gaps."""
    made: list[Reading] = []
    for t in range(LAST):
        values = {
            "p1": (0.5 + 0.01 * (t % 2), 0.1 * (t % 3)),
            "p2": (9.0 if t > 42 else 0.5, 0.2 * (t % 4)),
            "p3": (0.3 * (t % 2), NAN if t > 12 else 0.1 * t),
            "p4": (1.0, 1.0 + 0.1 * (t % 5)),
        }
        for asset in ASSETS:
            if asset == "p4" and t % 7 == 0:
                continue
            if form is Format.JSON_WIDE:
                made.append(wide(t, *values[asset], asset=asset))
                continue
            for sensor, value in enumerate(values[asset]):
                if value == value:
                    made.append(Reading(0, asset, t * SECOND_NS, None, sensor, value))
    return numbered(made)


@cache
def kept(form: Format) -> tuple[dict[bytes, StateRecord], int, int]:
    """The records of a partition's state with a model change behind it, its offset, and where to replay from."""
    pipeline, items = make(SPECS[form], replace(CENTRE, still=3)), readings(form)
    cut = next(i for i, item in enumerate(items) if item.time_ns >= FIRST * SECOND_NS)
    saved: dict[bytes, StateRecord] = {}
    for begin in range(0, cut, 12):
        if begin == 120:
            pipeline.use_when_committable(NEWER)
        for _ in pipeline.feed(PolledRecords(PUMPS_0, items[begin : min(begin + 12, cut)])):
            pass
        saved |= {record.key: record for record in snapshots(pipeline)}
    assert set(saved) == {snapshot.key(PUMPS_0.topic, asset) for asset in ("", *ASSETS)}
    return saved, pipeline.offset, pipeline.replay_from()


def restored_with(form: Format, records: Sequence[StateRecord]) -> Pipeline:
    """Whoever takes over with these records, before the first record of the log."""
    _, offset, replay_from = kept(form)
    pipeline = make(SPECS[form], NEWER, publish_from=offset)
    pipeline.offset = replay_from
    take_over(pipeline, records)
    return pipeline


def successor(form: Format, records: Sequence[StateRecord]) -> tuple[Pipeline, dict[str, list[str]]]:
    """Whoever takes over with these records, and what it says of each asset until the log ends."""
    pipeline, replay_from = restored_with(form, records), kept(form)[2]
    items = readings(form)
    said: dict[str, list[str]] = {}
    events = [PolledRecords(PUMPS_0, items[at : at + 20]) for at in range(replay_from, len(items), 20)]
    events += [PolledRecords(PUMPS_0, (), idle=timedelta(seconds=30)), PolledRecords(PUMPS_0, (), ended=True)]
    outputs: list[Output] = []
    for event in events:
        for step in pipeline.feed(event):
            outputs += step.outputs
    assert len(outputs) < 2_000  # no years are bridged row by row
    for output in outputs:
        if (asset := getattr(output, "asset", None)) is not None:
            said.setdefault(asset, []).append(repr(output))
    snapshots(pipeline)
    # Whether a row's fill or its alert comes first depends on what else is in the chunk.
    return pipeline, {asset: sorted(outputs_of) for asset, outputs_of in said.items()}


@cache
def undamaged(form: Format) -> dict[str, list[str]]:
    pipeline, said = successor(form, list(kept(form)[0].values()))
    assert pipeline.restored
    assert not pipeline.unusable
    return said


def with_record(form: Format, asset: str, key: bytes, value: bytes) -> list[StateRecord]:
    """The state with an asset's record replaced by another one."""
    mine = snapshot.key(PUMPS_0.topic, asset)
    return [StateRecord(key, value) if record.key == mine else record for record in kept(form)[0].values()]


def changed(form: Format, asset: str, change: Callable[[list[Any]], None]) -> list[StateRecord]:
    key = snapshot.key(PUMPS_0.topic, asset)
    fields = msgspec.msgpack.decode(kept(form)[0][key].value or b"")
    change(fields)
    return with_record(form, asset, key, msgspec.msgpack.encode(fields))


def deviating(**numbers: float) -> bytes:
    """The state of an asset of two sensors of which nothing is beyond, but for these numbers."""
    known = Deviation.none(2)
    changes = {name: np.full(2, number) for name, number in numbers.items()}
    return snapshot.pack_floats(np.stack(astuple(replace(known, **changes))))


ASSET = list(snapshot.AssetState.__struct_fields__)
GRID = list(snapshot.GridState.__struct_fields__)
ALARM = list(episode_state.AlarmState.__struct_fields__)
OPEN = list(episode_state.IncidentState.__struct_fields__)


def put(*path: str, to: Any) -> Callable[[list[Any]], None]:
    """Set one field of an asset's record."""

    def change(fields: list[Any]) -> None:
        names = {"grid": GRID, "alarm": ALARM}
        home, known = fields, ASSET
        for name in path[:-1]:
            home, known = home[known.index(name)], names[name]
        home[known.index(path[-1])] = to

    return change


def remembering(fingerprint: str = "", **changes: Any) -> list[Any]:
    """What is remembered of an asset with one closed episode."""
    plain = CourseState(
        fingerprint, "m", 0, 0, [], 1.0, [], [], [], [], [], False, False, "", None, [], 0, [], -1, []
    )
    course = msgspec.structs.replace(plain, **changes)
    return [None, [], [[getattr(course, name) for name in course.__struct_fields__]], [], None, [], []]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put("offset", to=1 << 62), "offset"),
        (put("offset", to=-5), "offset"),
        (put("units", to=77), "units, number 77"),
        (put("window", to=b"\0" * 9), "window has 9 bytes"),
        (put("window", to=b"\0" * 8 * 100), "window has 800 bytes"),
        (put("window_offsets", to=b"\0" * 7), "offsets 7"),
        (put("last_value", to=b"\0" * 8), "last_value has 8 bytes"),
        (put("last_row", to=b"\xff\xff\xff\xff\xff\xff\xff\x7f" * 2), "last_row"),
        (put("still_since", to=b"\0" * 5), "still_since"),
        (put("fresh_row", to=1 << 61), "fresh_row"),
        (put("baseline", to=b"\0" * 11), "baseline has 11 bytes"),
        (put("baseline", to=b"\0" * 80), "baseline has 80 bytes"),
        (put("baseline", to=b"\xff" * 8), "baseline is not finite"),
        (put("threshold_level", to=0.1), "threshold is 0.1 nats"),
        (put("threshold_level", to=-0.3), "threshold is -0.3 nats"),
        (put("threshold_level", to=float("nan")), "threshold is nan nats"),
        (put("threshold_rows", to=-1), "after -1 rows"),
        (put("silent_sensors", to=[2]), "silent_sensors"),
        (put("stuck", to=[-1]), "stuck"),
        (put("grid", "head", to=1 << 61), "head"),
        (put("grid", "head", to=-(1 << 61)), "head"),
        (put("grid", "head", to=1 << 63), "grid.head"),
        (put("grid", "newest", to=1 << 61), "newest row"),
        (put("grid", "last_observed", to=1 << 40), "rows"),
        (put("grid", "watermark_ns", to=1 << 61), "watermark"),
        (put("grid", "value_hashes", to=b"\0" * 8), "value_hashes has 8 bytes"),
        (put("grid", "heard", to=b"\0" * 8), "heard has 8 bytes"),
        (put("grid", "silent", to=b"\xff" * 100), "grid.silent"),
        (put("grid", to=[1, 2]), "Expected `array`"),
        (put("alarm", "state", to=9), "state 9"),
        (put("alarm", "above_since", to=1 << 50), "alarm counts"),
        (put("alarm", "peaks", to=b"\0" * 8), "peaks have 8 bytes"),
        (put("alarm", "deviation", to=b"\0" * 8), "a deviation has 8 bytes"),
        (
            put("alarm", "deviation", to=b"\xff" * 8 * 2 * len(Deviation.__slots__)),
            "a deviation has numbers that are not finite",
        ),
        (put("alarm", "deviation", to=deviating(since=1e9)), "a deviation since row 1e+09"),
        (put("alarm", "deviation", to=deviating(rows=-1.0)), "a deviation of less than no rows"),
        (put("memory", to=remembering()), "without its fingerprint"),
        (put("memory", to=remembering("f", stuck=["c"])), "sensors that there are not"),
        (put("memory", to=remembering("f", places=[("a", 0.0, math.inf, 1.0)])), "places of an episode"),
        (put("memory", to=remembering("f", places=[("a", 0.0, 1.0, -1.0)])), "came to no height"),
        (put("accepted", to=[["", 0, []]]), "without its fingerprint"),
        (put("accepted", to=[["f", 0, []]] * 17), "17 accepted alerts"),
        (put("accepted", to=[["f", 0, [["c", 1, 2.0, 2.0, True, 2.0]]]]), "of sensor 'c'"),
        (put("accepted", to=[["f", 0, [["a", 0, 2.0, 2.0, True, 2.0]]]]), "an accepted level of 2"),
        (put("accepted", to=[["f", 0, [["a", 1, -2.0, 2.0, True, 2.0]]]]), "an accepted level of -2"),
        (put("accepted", to=[["f", 1 << 60, [["a", 1, 2.0, 2.0, True, 2.0]]]]), "a level accepted at row"),
        (put("accepted", to=[["f", -1, [["a", 1, 2.0, 2.0, True, 2.0]]]]), "a level accepted at row -1"),
        (put("accepted", to=[["f", 0, [["a", 1, 2.0, math.inf, True, 2.0]]]]), "numbers that are not finite"),
        (put("accepted", to=[["f", 0, [["a", 1, 2.0, 2.0, True, 2.0, -2]]]]), "or negative"),
        (put("accepted", to=[["f", 0, [["a", 1, 2.0, 2.0, True, 3.0]]]]), "3 is left"),
        (put("accepted", to=[["f", 0, [["a", 1, 2.0, 2.0, True, -1.0]]]]), "-1 is left"),
        (put("memory", to=remembering("f", leading=[["c", 1]])), "of sensors that there are not"),
        (put("memory", to=remembering("f", sustained=[["c", 1, 1.0, 1.0]])), "of sensors that there are not"),
        (put("memory", to=remembering("f", deviated=["c"])), "of sensors that there are not"),
        (put("memory", to=remembering("f", latents=[b"\0" * 4] * 9)), "9 latents"),
        (put("memory", to=remembering("f", latents=[b"\0" * 4, b"\0" * 8])), "2 latents"),
        (put("memory", to=remembering("f", latents=[b"\0" * 3])), "latents of an episode are not finite"),
        (put("memory", to=remembering("f", latents=[b"\xff" * 4])), "latents of an episode are not finite"),
        (put("memory", to=remembering("f", score=math.inf)), "came to no height"),
        (put("memory", to=remembering("f", jumps=[["a", -1.0]])), "came to no height"),
        (put("memory", to=[*remembering("f")[:5], [["c", [[], 1, 1, 1]]], []]), "held back of sensors"),
        (put("memory", to=[*remembering("f")[:6], ["another"]]), "accepts an episode that is not open"),
        (lambda fields: fields.pop(), "Expected `array` of at least length"),
        (lambda fields: fields.__setitem__(slice(1, None), []), "Expected `array` of at least length"),
    ],
)
def test_a_record_that_makes_no_sense_costs_its_asset_alone(
    change: Callable[[list[Any]], None], reason: str
) -> None:
    form = Format.JSON_WIDE
    pipeline, said = successor(form, changed(form, "p2", change))
    assert pipeline.restored
    (why,) = pipeline.unusable
    assert why.startswith("of 'p2': ")
    assert reason in why
    assert {a: said[a] for a in ASSETS if a != "p2"} == {a: undamaged(form)[a] for a in ASSETS if a != "p2"}
    assert said["p2"]  # it begins anew


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put("counter_values", to=b""), "1 counters have 0 and 8 bytes"),
        (put("counter_values", to=b"\0" * 6 + b"\xf0\x7f"), "counter_values is infinite"),
        (put("counter_rows", to=b"\xff" * 7 + b"\x7f"), "counter_rows is not of rows up to"),
        (put("held", to=b"\0" * 4), "held has 4 bytes"),
        (put("held", to=b"\7" + b"\0" * 15), "held counts more sensors"),
        (lambda fields: waiting(fields).__setitem__(-2, b""), "has counts of 0 bytes and times of 16"),
        (lambda fields: waiting(fields).__setitem__(-1, b"\x80" * 16), "has counts or times that are none"),
        (
            lambda fields: waiting(fields).__setitem__(slice(-2, None), [b"", b""]),
            "what its cells were made of",
        ),
    ],
)
def test_a_record_of_assembled_rows_that_makes_no_sense_costs_its_asset_alone(
    change: Callable[[list[Any]], None], reason: str
) -> None:
    pipeline, said = successor(RULED, changed(RULED, "p2", change))
    (why,) = pipeline.unusable
    assert why.startswith("of 'p2': ")
    assert reason in why
    assert {a: said[a] for a in ASSETS if a != "p2"} == {a: undamaged(RULED)[a] for a in ASSETS if a != "p2"}


def waiting(fields: list[Any]) -> list[Any]:
    """The first row that waits, of an asset's record."""
    found: list[Any] = fields[ASSET.index("grid")][GRID.index("rows")][0]
    return found


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("parts", [["anomaly", None, False, 1 << 60]], "row 1152921504606846976"),
        ("parts", [["anomaly", None, False, -2]], "row -2"),
        ("parts", [["anomaly", None, False, 1 << 63]], "alarm.open.parts"),
        ("parts", [["unknown_condition", "x", True, 5]], "a slow trend of kind unknown_condition"),
        ("parts", [["anomaly", None, False, 5]] * 2, "open twice"),
        ("steady_row", 1 << 60, "row 1152921504606846976"),
        ("told_row", -5, "row -5"),
        ("peak", [1 << 63, "combined", 4.0, 3.0], "alarm.open.peak"),
        ("peak", [5, "combined", NAN, 3.0], "a peak that is no number"),
    ],
)
def test_an_episode_whose_rows_or_numbers_are_none_is_refused(name: str, value: Any, reason: str) -> None:
    def change(fields: list[Any]) -> None:
        fields[ASSET.index("alarm")][ALARM.index("open")][0][OPEN.index(name)] = value

    pipeline = restored_with(Format.JSON_WIDE, changed(Format.JSON_WIDE, "p2", change))
    (why,) = pipeline.unusable
    assert why.startswith("of 'p2': ")
    assert reason in why
    list(pipeline.episodes.going_on("m"))


def test_two_episodes_of_one_anomaly_are_refused() -> None:
    def change(fields: list[Any]) -> None:
        fields[ASSET.index("alarm")][ALARM.index("open")] *= 2

    pipeline = restored_with(Format.JSON_WIDE, changed(Format.JSON_WIDE, "p2", change))
    assert "open twice" in pipeline.unusable[0]


@pytest.mark.parametrize("next_update", [0, -(1 << 40)])
def test_an_episode_whose_next_update_never_comes_is_refused(next_update: int) -> None:
    def change(fields: list[Any]) -> None:
        fields[ASSET.index("alarm")][ALARM.index("open")][0][OPEN.index("next_update_row")] = next_update

    pipeline, _ = successor(Format.JSON_WIDE, changed(Format.JSON_WIDE, "p2", change))
    (why,) = pipeline.unusable
    assert "before its opening" in why


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"\xff\xfe", "is not UTF-8"),
        (b"\xed\xa0\x80", "is not UTF-8"),
        (b"x" * (ASSET_BYTES + 1), f"the key has {ASSET_BYTES + 1} bytes"),
    ],
)
def test_a_key_that_names_no_asset_is_passed_over(name: bytes, reason: str) -> None:
    form = Format.JSON_WIDE
    value = kept(form)[0][snapshot.key(PUMPS_0.topic, "p2")].value or b""
    records = [*kept(form)[0].values(), StateRecord(snapshot.key(PUMPS_0.topic) + name, value)]
    pipeline, said = successor(form, records)
    (why,) = pipeline.unusable
    assert reason in why
    assert len(why) < 400
    assert said == undamaged(form)


def test_state_of_more_assets_than_are_allowed_is_that_of_those_written_last() -> None:
    saved, offset, replay_from = kept(Format.JSON_WIDE)
    key, value = snapshot.key(PUMPS_0.topic, "p1"), saved[snapshot.key(PUMPS_0.topic, "p1")].value
    flood = [StateRecord(key + b"-%d" % i, value) for i in range(50)]
    pipeline = make(SPEC, NEWER, publish_from=offset, max_assets=4)
    pipeline.offset = replay_from
    take_over(pipeline, [*flood, *saved.values()])
    assert pipeline.names == set(ASSETS)
    assert len(pipeline.unusable) == 50
    gone = {record.key for record in snapshots(pipeline) if record.value is None}
    assert gone == {record.key for record in flood}


def test_what_cannot_be_used_leaves_the_topic_or_is_written_anew() -> None:
    form = Format.JSON_WIDE
    records = changed(form, "p2", put("grid", to=None))
    records.append(StateRecord(snapshot.key(PUMPS_0.topic, "nobody"), b"\xc1"))
    pipeline = make(SPEC, NEWER, publish_from=kept(form)[1])
    pipeline.offset = kept(form)[2]
    take_over(pipeline, records)
    for _ in pipeline.feed(PolledRecords(PUMPS_0, readings(form)[kept(form)[2] :])):
        pass
    written = {record.key: record.value for record in snapshots(pipeline)}
    assert written[snapshot.key(PUMPS_0.topic, "nobody")] is None
    assert isinstance(
        snapshot.decode_asset(written[snapshot.key(PUMPS_0.topic, "p2")] or b"", snapshot.layout(SPEC)),
        snapshot.AssetState,
    )


def test_a_partition_s_record_that_makes_no_sense_is_as_none() -> None:
    form = Format.JSON_WIDE
    names = list(snapshot.PartitionState.__struct_fields__)
    for name, value in [
        ("model_changes", []),
        ("forgotten_before", 1 << 61),
        ("drift_interval_ns", 0),
        ("exceeded", -1),
        ("drifting", [["p1", 5, 4, 1, 0.5, 0.1, 0.0, 1.0, ["a"], [0]]]),
    ]:
        records = changed(form, "", lambda fields, n=name, v=value: fields.__setitem__(names.index(n), v))  # type: ignore[misc]
        pipeline, said = successor(form, records)
        assert not pipeline.restored
        (why,) = pipeline.unusable
        assert why.startswith("of the partition: ")
        assert set(said) >= set(ASSETS)


def test_a_model_s_sentinels_are_numbers_of_its_sensors() -> None:
    form, names = Format.JSON_WIDE, list(snapshot.PartitionState.__struct_fields__)
    units = np.zeros(2).tobytes(), np.ones(2).tobytes(), "<f8"
    for sentinel in ([2, 1.0], [-1, 1.0], [0, float("inf")]):
        change = [0, 0, "m", *units, [sentinel]]
        records = changed(
            form,
            "",
            lambda fields, c=change: fields.__setitem__(names.index("model_changes"), [c]),  # type: ignore[misc]
        )
        pipeline, _ = successor(form, records)
        assert "sentinels of sensors that there are not, or not finite" in pipeline.unusable[0]


def test_the_units_of_a_model_are_its_own() -> None:
    form = Format.JSON_WIDE
    pipeline, _ = successor(form, list(kept(form)[0].values()))
    assert pipeline.restored
    other = make(
        SPEC, CentreDetector(SPEC.sensors, version=NEWER.version, centre=3.0), publish_from=kept(form)[1]
    )
    assert not take_over(other, list(kept(form)[0].values()))
    assert "it is not of the model centre-2 that is in force" in other.unusable[0]


# ------------------------------------------------------------------ damage of every kind
MUTATIONS, LOOKED_AT = 100, 25
"""Per example of a property, and every how many the log is read on to its end."""


def damaged(rng: random.Random, form: Format, asset: str) -> tuple[bytes, bytes]:
    """The key and the value of a record, one of them changed."""
    key = snapshot.key(PUMPS_0.topic, asset)
    value = kept(form)[0][key].value or b""
    if rng.random() < 0.7:
        return key, msgspec.msgpack.encode(structured(rng, msgspec.msgpack.decode(value), binary=True))
    if rng.random() < 0.7 or not asset:
        return key, bytewise(rng, value)
    return snapshot.key(PUMPS_0.topic) + (bytewise(rng, asset.encode()) or b"x"), value


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**64), form=st.sampled_from(list(SPECS)))
def test_no_damage_of_an_asset_s_record_raises_or_shows_in_another_s_outputs(seed: int, form: Format) -> None:
    rng = random.Random(seed)
    for i in range(MUTATIONS):
        asset = rng.choice(ASSETS)
        key, value = damaged(rng, form, asset)
        records = with_record(form, asset, key, value)
        if i % LOOKED_AT:
            restored_with(form, records)
            continue
        _, said = successor(form, records)
        others = [a for a in ASSETS if a != asset and snapshot.key(PUMPS_0.topic, a) != key]
        assert {a: said[a] for a in others} == {a: undamaged(form)[a] for a in others}


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**64), form=st.sampled_from(list(SPECS)))
def test_no_damage_of_a_partition_s_record_raises_or_silences(seed: int, form: Format) -> None:
    rng = random.Random(seed)
    for i in range(MUTATIONS):
        records = with_record(form, "", *damaged(rng, form, ""))
        if i % LOOKED_AT:
            restored_with(form, records)
            continue
        _, said = successor(form, records)
        assert set(ASSETS) <= set(said)
