"""The simulated fleet: the same seed gives the same bytes, and faults are where they were planned."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from daemon.adapters.simulator import FAULT_GAP_ROWS, NOISE, SENSORS, SPREAD, FaultKind, Fleet, Tick
from daemon.domain import SECOND_NS, Floats, Reading, Record, Rejected
from daemon.stream.decoding import Decoder

START = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = 60 * SECOND_NS
START_NS = int(START.timestamp()) * SECOND_NS
DAY = timedelta(days=1)


def decoded(
    fleet: Fleet, ticks: list[Tick], rows: int, start_ns: int = START_NS
) -> tuple[Floats, Counter[str]]:
    """(A, rows, C) values, NaN where nothing came, and how often each reason occurred."""
    decoder = Decoder(fleet.spec())
    values = np.full((len(fleet.assets), rows, len(SENSORS)), np.nan)
    reasons: Counter[str] = Counter()
    for tick in ticks:
        for key, value in tick.lines:
            found = decoder.decode(Record(0, key, value, tick.time_ns))
            if isinstance(found, Rejected):
                reasons[found.reason] += 1
                continue
            assert found.values is not None
            assert found.asset == key.decode()
            row = (found.time_ns - start_ns) // MINUTE
            if 0 <= row < rows:
                values[fleet.assets.index(found.asset), row] = found.values
    reasons["corrupt"] = decoder.corrupt_cells.total()
    return values, reasons


@pytest.fixture(scope="module")
def day() -> tuple[Fleet, Floats, Counter[str]]:
    """A day of 24 pumps without faults."""
    fleet = Fleet(seed=3)
    values, reasons = decoded(fleet, list(fleet.records(START, 1440)), 1440)
    return fleet, values, reasons


@pytest.fixture(scope="module")
def bad_day() -> tuple[Fleet, Floats]:
    """The same day of the same pumps, with faults."""
    fleet = Fleet(seed=3)
    values, _ = decoded(fleet, list(fleet.records(START, 1440, faults=True)), 1440)
    return fleet, values


def test_same_seed_same_bytes_and_another_seed_others() -> None:
    def sent(seed: int) -> list[Tick]:
        fleet = Fleet(seed, assets=5)
        return [*fleet.records(START, 30), *fleet.records(START + timedelta(minutes=30), 300, faults=True)]

    assert sent(1) == sent(1)
    assert sent(1) != sent(2)


def test_each_call_goes_on_where_the_last_one_ended() -> None:
    parts, whole = Fleet(1, assets=3), Fleet(1, assets=3)
    later = START + timedelta(minutes=20)
    assert [*parts.records(START, 20), *parts.records(later, 40)] == list(whole.records(START, 60))


def test_endless_run_goes_on_past_its_blocks_with_faults() -> None:
    fleet = Fleet(1, assets=2)
    ticks = list(itertools.islice(fleet.records(START, faults=True), 1500))
    assert [tick.time_ns for tick in ticks] == [START_NS + (i + 1) * MINUTE for i in range(1500)]
    assert max(fault.end_ns for fault in fleet.faults) > START_NS + 1440 * MINUTE


def test_the_bus_drops_delays_repeats_and_damages(day: tuple[Fleet, Floats, Counter[str]]) -> None:
    _, values, reasons = day
    missing = np.isnan(values)
    assert 0.015 < missing.mean() < 0.035
    assert missing.all(2).mean() > 0.002  # outages
    assert not np.isnan(values[:, :, 0]).all(1).any()
    assert reasons["not_json"] > 0
    assert reasons["not_utf8"] > 0
    assert reasons["corrupt"] > 0
    fleet = Fleet(seed=3)
    times = dict.fromkeys(fleet.assets, 0)
    late, seen, repeated = 0, set(), 0
    decoder = Decoder(fleet.spec())
    for tick in fleet.records(START, 600):
        for key, value in tick.lines:
            if value in seen:
                repeated += 1
            elif value.startswith(b"{") and value.endswith(b"}"):
                seen.add(value)
                found = decoder.decode(Record(0, key, value, tick.time_ns))
                assert isinstance(found, Reading)
                late += found.time_ns < times[found.asset]
                times[found.asset] = max(times[found.asset], found.time_ns)
    assert 0 < late < 0.03 * len(seen)
    assert 0 < repeated < 0.02 * len(seen)


def test_no_reading_is_from_the_future_and_no_loss_lasts_as_long_as_silence(
    day: tuple[Fleet, Floats, Counter[str]],
) -> None:
    fleet, values, reasons = day
    assert reasons["future"] == 0
    rows = fleet.spec().silent_after_ns // MINUTE
    seen = ~np.isnan(values)
    longest = max(
        max((len(list(run)) for present, run in itertools.groupby(seen[a, :, c]) if not present), default=0)
        for a in range(len(fleet.assets))
        for c in range(len(SENSORS))
    )
    assert longest < rows


def test_sent_values_have_the_stated_noise_and_spread(day: tuple[Fleet, Floats, Counter[str]]) -> None:
    _, values, _ = day
    assert np.all(np.abs(np.nanstd(values, axis=(0, 1)) / SPREAD - 1) < 0.35)
    # Second differences leave the noise (times the root of 6) and next to no physics.
    rough = np.diff(values, 2, axis=1)
    steady = np.nanmedian(np.abs(rough), axis=(0, 1)) / 0.6745 / np.sqrt(6)
    assert np.all(np.abs(steady / NOISE - 1)[[0, 2, 3, 4, 5, 6, 7]] < 0.5)


def test_schedule_is_spread_over_kinds_assets_and_time(bad_day: tuple[Fleet, Floats]) -> None:
    fleet, _ = bad_day
    assert 30 <= len(fleet.faults) <= 40
    counts = Counter(fault.kind for fault in fleet.faults)
    assert set(counts) == set(FaultKind)
    assert min(counts.values()) >= 4
    assert [f.start_ns for f in fleet.faults] == sorted(f.start_ns for f in fleet.faults)
    for asset in fleet.assets:
        own = [fault for fault in fleet.faults if fault.asset == asset]
        assert len(own) <= 3
        for first, second in itertools.pairwise(own):
            assert second.start_ns - first.end_ns >= FAULT_GAP_ROWS * MINUTE
    for fault in fleet.faults:
        assert START_NS + 30 * MINUTE <= fault.start_ns < fault.end_ns <= START_NS + 1410 * MINUTE
        assert (fault.sensor is None) == (fault.kind is FaultKind.ASSET_SILENT)


def test_outside_its_faults_a_fleet_sends_the_same_as_without(
    day: tuple[Fleet, Floats, Counter[str]], bad_day: tuple[Fleet, Floats]
) -> None:
    _, clean, _ = day
    fleet, values = bad_day
    touched = np.zeros(values.shape, bool)
    for fault in fleet.faults:
        asset = fleet.assets.index(fault.asset)
        span = slice((fault.start_ns - START_NS) // MINUTE, (fault.end_ns - START_NS) // MINUTE)
        # A spike's row is kept from getting lost, all of it.
        whole = fault.sensor is None or fault.kind is FaultKind.SPIKE
        touched[asset, span, slice(None) if whole else SENSORS.index(str(fault.sensor))] = True
    np.testing.assert_array_equal(values[~touched], clean[~touched])


def test_every_kind_of_fault_changes_the_values(
    day: tuple[Fleet, Floats, Counter[str]], bad_day: tuple[Fleet, Floats]
) -> None:
    _, clean, _ = day
    fleet, values = bad_day
    inconspicuous = 0
    low, high = np.nanmin(clean, axis=(0, 1)), np.nanmax(clean, axis=(0, 1))
    for fault in fleet.faults:
        asset = fleet.assets.index(fault.asset)
        span = slice((fault.start_ns - START_NS) // MINUTE, (fault.end_ns - START_NS) // MINUTE)
        if fault.sensor is None:
            assert np.isnan(values[asset, span]).all()
            continue
        c = SENSORS.index(fault.sensor)
        sent, normal = values[asset, span, c], clean[asset, span, c]
        change = (sent - normal) / SPREAD[c]
        both = change[np.isfinite(change)]
        match fault.kind:
            case FaultKind.SPIKE:
                assert np.isfinite(sent).all()
                assert np.all(np.abs(both) > 4.9)
            case FaultKind.SHIFT:
                assert np.all((np.abs(both) > 1.19) & (np.abs(both) < 2.01))
                assert np.ptp(both) < 1e-3
            case FaultKind.DRIFT:
                assert np.abs(both[0]) < 0.2
                assert 1.9 < np.abs(both[-1]) < 3.1
            case FaultKind.STUCK:
                assert len(set(sent[np.isfinite(sent)].tolist())) == 1
            case FaultKind.NOISE:
                assert 0.5 < both.std() < 1.7
            case FaultKind.CORRELATION:
                assert np.abs(both).mean() * SPREAD[c] > 4 * NOISE[c]
            case FaultKind.SENSOR_SILENT:
                assert np.isnan(sent).all()
        if fault.kind not in (FaultKind.SPIKE, FaultKind.SENSOR_SILENT):
            inconspicuous += bool(np.all((sent >= low[c]) & (sent <= high[c]) | np.isnan(sent)))
    assert inconspicuous >= 8  # no single channel's limits would have shown these


def test_poison_grows_over_the_whole_fleet_from_its_start_on() -> None:
    clean, poisoned = Fleet(5, assets=4), Fleet(5, assets=4)
    poisoned.poison_from(START + timedelta(hours=2))
    rows = 14 * 60
    normal, _ = decoded(clean, list(clean.records(START, rows)), rows)
    bad, _ = decoded(poisoned, list(poisoned.records(START, rows)), rows)
    change = np.abs(bad - normal) / SPREAD
    assert np.nanmax(change[:, :120]) == 0
    early, late = np.nanmean(change[:, 130:190], axis=(0, 1)), np.nanmean(change[:, -60:], axis=(0, 1))
    assert np.all(early < 0.25)
    assert np.all(late > 1.0)
    poisoned.poison_from(None)
    after = START + timedelta(minutes=rows)
    assert list(poisoned.records(after, 20))[-5:] == list(clean.records(after, 20))[-5:]


def test_stage_too_short_for_a_fault_gets_none() -> None:
    fleet = Fleet(1)
    assert len(list(fleet.records(START, 1, faults=True))) == 1
    assert all(fault.kind is FaultKind.SPIKE for fault in fleet.faults)


def test_spec_fits_the_records() -> None:
    fleet = Fleet(1, assets=2, period=timedelta(seconds=10))
    spec = fleet.spec()
    assert (spec.name, spec.sensors, spec.period_ns) == ("pumps", SENSORS, 10 * SECOND_NS)
    assert len(spec.ranges) == len(SENSORS)
    (tick,) = fleet.records(START + timedelta(seconds=3), 1)
    assert tick.time_ns == START_NS + spec.period_ns
    line = json.loads(next(value for _, value in tick.lines if value.startswith(b'{"asset"')))
    assert set(line["values"]) <= set(SENSORS)
