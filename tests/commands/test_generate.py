"""``anomalyd generate``: files, messages, faults, the rate, and what is refused."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from daemon.adapters.files import read_table
from daemon.adapters.kafka import KafkaSettings, Message
from daemon.budget import Budget
from daemon.commands.generate import (
    Generated,
    MessageLayout,
    Request,
    SyntheticRows,
    TopicTarget,
    condition_of,
    rate_of,
    when_ns,
    write_file,
    write_topic,
)
from daemon.commands.quality import QualityOptions, check
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    FieldNames,
    Floats,
    Format,
    ModelSettings,
    Record,
    Segment,
    StreamSpec,
)
from daemon.errors import DaemonError, UsageError
from daemon.model.bundle import Bundle
from daemon.model.training import CalibrationTarget, train
from daemon.stream.decoding import Decoder

SPEC = StreamSpec("pumps", ("Pressure", "Current", "Flow"), period_ns=SECOND_NS)


def machine(rows: int, seed: int = 0, start: int = 0) -> Floats:
    random = np.random.default_rng(seed)
    t = np.arange(start, start + rows)
    a = np.sin(t / 9.0)
    values = np.stack([200.0 + 30.0 * a, 5.0 - a, 50.0 + 5.0 * np.cos(t / 9.0)], 1)
    return np.round(values + random.standard_normal((rows, 3)) * [1.0, 0.1, 0.5], 2)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    settings = ModelSettings("ppca")
    return train(
        [Segment("a", 0, machine(1_500))], SPEC, settings, CalibrationTarget(AlarmPolicy(), Budget(1.0), 60)
    )


def file_of(bundle: Bundle, path: Path, **request: object) -> Generated:
    return write_file(SyntheticRows(bundle, Request(**request)), path)  # type: ignore[arg-type]


def sent_by(
    bundle: Bundle, request: Request, layout: MessageLayout | None = None, rate: float | None = None
) -> tuple[Generated, list[Message]]:
    messages: list[Message] = []

    async def send(some: Sequence[Message]) -> None:
        messages.extend(some)

    target = TopicTarget("pumps", KafkaSettings(), rate, layout or MessageLayout())
    done = asyncio.run(write_topic(SyntheticRows(bundle, request), target, send=send))
    return done, messages


@pytest.mark.parametrize("name", ["made.parquet", "made.csv"])
def test_a_table_reads_back_as_its_sensors_alone(name: str, bundle: Bundle, tmp_path: Path) -> None:
    done = file_of(bundle, tmp_path / name, assets=2, rows=150)
    table = read_table(tmp_path / name)
    assert done.rows == 300
    assert table.sensors == SPEC.sensors
    assert sorted(set(table.assets)) == ["synthetic-0000", "synthetic-0001"]
    assert np.isfinite(table.values).all()
    assert any("synthetic" in note for note in table.notes)


@pytest.mark.parametrize("name", ["made.parquet", "made.csv", "made.jsonl"])
def test_the_same_seed_gives_the_same_bytes(name: str, bundle: Bundle, tmp_path: Path) -> None:
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / folder).mkdir()
        file_of(bundle, tmp_path / folder / name, assets=3, rows=100, seed=seed, gaps=0.1, inject=("shift",))
    one, again, other = ((tmp_path / folder / name).read_bytes() for folder in "abc")
    assert one == again != other


def test_a_count_is_of_all_assets_together(bundle: Bundle, tmp_path: Path) -> None:
    assert file_of(bundle, tmp_path / "a.csv", assets=3, rows=4, count=10).rows == 10
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 11


def test_faults_change_the_rows_of_the_truth_and_no_others(bundle: Bundle, tmp_path: Path) -> None:
    wanted = (
        "shift:Pressure",
        "drop_out:Current",
        "stuck:Flow",
        "spike:Flow",
        "swap:Pressure",
        "lag",
        "drift",
        "noise",
    )
    clean, faulty = tmp_path / "clean.parquet", tmp_path / "faulty.parquet"
    file_of(bundle, clean, assets=2, rows=9_000)
    file_of(bundle, faulty, assets=2, rows=9_000, inject=wanted)
    before, after = read_table(clean), read_table(faulty)
    truth = json.loads((tmp_path / "faulty.parquet.faults.json").read_text())
    differs = ~((before.values == after.values) | (np.isnan(before.values) & np.isnan(after.values)))
    in_truth = np.zeros_like(differs)
    for fault in truth:
        rows = (after.time_ns >= when_ns(fault["start"])) & (after.time_ns < when_ns(fault["end"]))
        rows &= np.array([asset == fault["asset"] for asset in after.assets])
        in_truth[rows, SPEC.sensors.index(fault["sensor"])] = True
    assert {fault["kind"] for fault in truth} == {
        "shift",
        "drop_out",
        "stuck",
        "spike",
        "correlation_swap",
        "lag",
        "drift",
        "noise",
    }
    assert len(truth) == 2 * 9  # the swap befalls two sensors
    assert not (differs & ~in_truth).any()
    assert differs.sum() > 0.8 * in_truth.sum()


def test_the_share_of_gaps_and_that_they_come_in_bursts(bundle: Bundle, tmp_path: Path) -> None:
    file_of(bundle, tmp_path / "a.parquet", rows=20_000, gaps=0.1)
    missing = np.isnan(read_table(tmp_path / "a.parquet").values)
    assert missing.mean() == pytest.approx(0.1, abs=0.01)
    runs = (missing[1:] & ~missing[:-1]).sum()
    assert 3.0 < missing.sum() / runs < 6.0


@pytest.mark.parametrize("format", list(Format))
def test_messages_decode_to_the_rows_of_the_file(format: Format, bundle: Bundle, tmp_path: Path) -> None:
    request = Request(assets=2, rows=40, gaps=0.2)
    done, messages = sent_by(bundle, request, MessageLayout(format))
    write_file(SyntheticRows(bundle, request), tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet")
    spec = StreamSpec("pumps", SPEC.sensors, period_ns=SECOND_NS, format=format)
    decoder, found = Decoder(spec), np.full(table.values.shape, np.nan)
    at = {
        (asset, time): i
        for i, (asset, time) in enumerate(zip(table.assets, table.time_ns.tolist(), strict=True))
    }
    for i, message in enumerate(messages):
        assert message.value is not None
        assert dict(message.headers)["synthetic"] == b"true"
        reading = decoder.decode(Record(i, message.key, message.value, when_ns("now")))
        assert message.key == reading.asset.encode()  # type: ignore[union-attr]
        row = at[reading.asset, reading.time_ns]  # type: ignore[union-attr]
        content = json.loads(message.value)
        cells = content["values"] if format is Format.JSON_WIDE else {content["sensor"]: content["value"]}
        for sensor, value in cells.items():
            found[row, SPEC.sensors.index(sensor)] = np.nan if value is None else value
    np.testing.assert_array_equal(found, table.values)
    assert done.rows == 80


def test_messages_have_the_streams_own_fields(bundle: Bundle) -> None:
    fields = FieldNames(asset="$key", timestamp="at", values="data")
    _, messages = sent_by(bundle, Request(rows=1), MessageLayout(fields=fields))
    assert list(json.loads(messages[0].value or b"")) == ["at", "synthetic", "data"]


def test_calendar_conditions_that_ignore_the_rows_times_are_noted(bundle: Bundle) -> None:
    by_hour = replace(bundle, conditions=("mode=low,$hour=07", "mode=low,$hour=08"))
    assert any(
        "$hour come as they came in training" in note for note in SyntheticRows(by_hour, Request()).notes
    )
    assert SyntheticRows(replace(bundle, conditions=()), Request()).notes == []


def test_late_rows_arrive_later_and_none_is_lost(bundle: Bundle) -> None:
    _, messages = sent_by(bundle, Request(rows=2_000, late=0.1))
    times = [when_ns(json.loads(m.value or b"")["ts"]) for m in messages]
    assert len(set(times)) == 2_000
    newest = np.maximum.accumulate(times)
    late = np.array(times) < newest
    assert late.mean() == pytest.approx(0.1, abs=0.02)
    assert (newest - times).max() <= 20 * SECOND_NS


def test_a_rate_is_kept_by_the_clock(bundle: Bundle) -> None:
    begun = time.monotonic()
    done, messages = sent_by(bundle, Request(assets=5, rows=40), rate=400.0)
    assert len(messages) == 200
    assert time.monotonic() - begun >= 0.5 * 0.99
    assert done.rate <= 400.0 * 1.01


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"inject": ("shaft",)}, "no kind of fault"),
        ({"inject": ("shift:Presure",)}, "did you mean 'Pressure'"),
        ({"inject": ("shift",), "rows": 20}, "need 64 rows"),
        ({"like": "b"}, "it learned from a"),
        ({"conditions": ("mode=high",)}, "knows no conditions"),
        ({"conditions": ("mode",)}, "name=value"),
    ],
)
def test_a_name_that_does_not_exist_is_one_line(
    request_: dict[str, object], reason: str, bundle: Bundle
) -> None:
    with pytest.raises(UsageError, match=reason):
        SyntheticRows(bundle, Request(**request_))  # type: ignore[arg-type]


def test_a_missing_folder_is_named(bundle: Bundle, tmp_path: Path) -> None:
    for suffix in ("csv", "parquet", "jsonl"):
        with pytest.raises(DaemonError, match=r"there is no directory .*absent$"):
            write_file(SyntheticRows(bundle, Request(rows=8)), tmp_path / "absent" / f"made.{suffix}")
    assert not list(tmp_path.iterdir())


def test_the_truth_of_a_former_file_is_removed(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "made.csv"
    write_file(SyntheticRows(bundle, Request(rows=200, inject=("shift",))), path)
    assert (tmp_path / "made.csv.faults.json").exists()
    write_file(SyntheticRows(bundle, Request(rows=200)), path)
    assert [found.name for found in tmp_path.iterdir()] == ["made.csv"]


def test_conditions_by_their_parts() -> None:
    known = ("mode=high,site=a", "mode=high,site=b", "mode=low,site=a")
    assert condition_of(known, ()) is None
    assert condition_of(known, ("mode=low",)) == "mode=low,site=a"
    assert condition_of(known, ("site=b", "mode=high")) == "mode=high,site=b"
    with pytest.raises(
        UsageError, match="more than one condition fits; there are mode=high,site=a, mode=high,site=b"
    ):
        condition_of(known, ("mode=high",))
    with pytest.raises(UsageError, match="no such condition"):
        condition_of(known, ("mode=off",))


@pytest.mark.parametrize(
    ("text", "rate"), [("5000/s", 5000.0), ("5000", 5000.0), ("60/m", 1.0), ("36e2/h", 1.0)]
)
def test_rates(text: str, rate: float) -> None:
    assert rate_of(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["fast", "0/s", "-5/s", "5/", "5/fortnight", "inf/s", "nan"])
def test_texts_that_are_no_rate(text: str) -> None:
    with pytest.raises(UsageError, match="--rate"):
        rate_of(text)


@pytest.mark.parametrize("text", ["yesterday", "1969-01-01", "2026-13-01"])
def test_texts_that_are_no_start(text: str) -> None:
    with pytest.raises(UsageError, match="--start"):
        when_ns(text)


def test_the_check_passes_a_model_of_the_machine_and_fails_one_of_another(
    bundle: Bundle, tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, values, start in (
        ("train", machine(1_500), 0),
        ("held", machine(1_500, 1, 1_500), 1_500),
        ("other", machine(1_500, 1) + np.array([40.0, 0.0, 0.0]), 0),
    ):
        times = pa.array((start + np.arange(1_500)) * SECOND_NS, pa.timestamp("ns", "UTC"))
        columns = {"timestamp": times, **{s: values[:, c] for c, s in enumerate(SPEC.sensors)}}
        columns["fault"] = np.arange(1_500) % 500 > 450
        columns["fault"] = columns["fault"].astype(int)
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")

    def measured(name: str) -> dict[str, bool | None]:
        found = asyncio.run(
            check(
                bundle,
                QualityOptions(
                    tmp_path / f"{name}.parquet",
                    train=tmp_path / "train.parquet",
                    label="fault",
                    exclude=["fault"],
                ),
            )
        )
        assert json.loads(json.dumps(found.report))["model"] == bundle.version
        return {m.name: m.passed for m in found.measures}

    good, bad = measured("held"), measured("other")
    for name in ("distribution (mean KS)", "correlation", "seam", "discriminator (AUC)", "memorisation"):
        assert good[name], name
    assert good["trained on synthetic, agreement"]
    assert bad["distribution (mean KS)"] is False
    assert bad["discriminator (AUC)"] is False
