"""Schemas before records: what a loop does while the registry answers, does not, and never will."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon.adapters.telemetry import Metrics
from daemon.config.sections import StreamSection
from daemon.domain import SECOND_NS, Assigned, DeadLetter, PolledRecords, Record, SourceEvent
from daemon.errors import ConfigError
from daemon.mapping import RegistryAddress
from daemon.runtime import schema_supply
from daemon.runtime.stream_run import StreamPlan, StreamRun
from tests.fakes import CentreDetector
from tests.registry import Registry
from tests.runtime.scripted import BASE_S, PUMPS_0, Script, loop_over, outputs_of
from tests.stream.decode.framings import PUMP, PUMP_PROTO, avro, confluent, text_of


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(schema_supply, "RETRY_S", (0.001, 0.01))


def avro_stream(*urls: str, kind: str = "avro") -> StreamRun:
    """A stream of Avro messages with a model."""
    section = StreamSection(
        name="pumps",
        topics=("sensors.pumps",),
        sensors={"temperature": {}, "pressure": {}},
        input={"decode": kind, "asset": "asset", "time": "ts", "leaves": "."},
        window=4,
    )
    run = StreamRun(StreamPlan(section.spec(RegistryAddress(urls, timeout_s=5.0))), scores=True)
    run.detector = CentreDetector(run.spec.sensors, window=4)
    return run


def pump(offset: int, id: int, second: int | None = None) -> Record:
    """A record of ``PUMP``."""
    second = offset if second is None else second
    tree = {"asset": "p1", "ts": (BASE_S + second) * 1000, "temperature": 0.5, "pressure": 0.5}
    return Record(offset, b"p1", confluent(id, avro(PUMP, tree)), (BASE_S + 10**6) * SECOND_NS)


def letters(source: Script) -> list[DeadLetter]:
    """What was rejected."""
    return [output for output in outputs_of(source) if isinstance(output, DeadLetter)]


def asked(metrics: Metrics, result: str) -> float:
    """How often the registry was asked, with this result."""
    found = metrics.registry.get_sample_value("anomalyd_schema_requests_total", {"result": result})
    assert found is not None
    return found


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop run until something holds that it, or a server's thread, brings about."""
    while not holds():  # noqa: ASYNC110 - neither of them has an event to wait for
        await asyncio.sleep(0.001)


async def test_records_are_read_by_the_schemas_of_the_registry() -> None:
    with Registry() as registry:
        id = registry.register("pumps", text_of(PUMP))
        source = Script([PolledRecords(PUMPS_0, [pump(0, id), pump(1, id), pump(2, 99), pump(3, id)])] * 1)
        loop, metrics, _ = loop_over(source, run := avro_stream(registry.url))
        await loop.run()
        assert registry.asked == [f"/schemas/ids/{id}", "/schemas/ids/99"]
    (letter,) = letters(source)
    assert letter.rejected.reason == "unknown_schema"
    assert letter.rejected.detail == "the schema registry has no schema 99"
    assert sum(run.pipelines[PUMPS_0].counts.values()) == 4
    assert (asked(metrics, "found"), asked(metrics, "absent"), asked(metrics, "failed")) == (1, 1, 0)


async def test_texts_within_records_are_read_by_the_schemas_that_they_name() -> None:
    """The envelope names a schema, and so do the bytes within: these are found once the envelope can be read."""
    envelope = {"type": "record", "name": "Envelope", "fields": [{"name": "payload", "type": "bytes"}]}
    section = StreamSection(
        name="pumps",
        topics=("sensors.pumps",),
        sensors={"temperature": {}, "pressure": {}},
        input={
            "decode": "avro",
            "inner": {"path": "payload", "kind": "avro"},
            "asset": "payload.asset",
            "time": "payload.ts",
            "leaves": "payload",
        },
        window=4,
    )
    with Registry() as registry:
        outer, inner = (
            registry.register("outer", text_of(envelope)),
            registry.register("pumps", text_of(PUMP)),
        )
        run = StreamRun(
            StreamPlan(section.spec(RegistryAddress((registry.url,), timeout_s=5.0))), scores=True
        )
        run.detector = CentreDetector(run.spec.sensors, window=4)
        records = [
            Record(
                each.offset,
                each.key,
                confluent(outer, avro(envelope, {"payload": each.value})),
                each.timestamp_ns,
            )
            for each in (pump(0, inner), pump(1, inner), pump(2, 99))
        ]
        source = Script([PolledRecords(PUMPS_0, records)])
        loop, _, _ = loop_over(source, run)
        await loop.run()
        assert registry.asked == [f"/schemas/ids/{id}" for id in (outer, inner, 99)]
    (letter,) = letters(source)
    assert letter.rejected.detail == "payload: the schema registry has no schema 99"
    assert run.pipelines[PUMPS_0].counts == {"accepted": 2, "rejected": 1}


async def test_an_outage_is_waited_out_and_nothing_is_lost() -> None:
    """The registry comes back, and says that it is out of order, before it answers."""
    registry = Registry()
    registry.start()
    id = registry.register("pumps", text_of(PUMP))
    registry.stop()

    async def events() -> AsyncIterator[SourceEvent]:
        yield Assigned(PUMPS_0, 0, 0)
        back = asyncio.get_running_loop().create_task(come_back())
        yield PolledRecords(PUMPS_0, [pump(n, id) for n in range(10)])
        await back
        yield PolledRecords(PUMPS_0, (), ended=True)

    async def come_back() -> None:
        await until(lambda: asked(metrics, "failed") >= 3)
        assert not run.pipelines[PUMPS_0].counts
        registry.broken = 503, b""
        registry.start()
        await until(lambda: registry.asked != [])
        registry.broken = None

    source = Script([])
    source.events = events  # type: ignore[method-assign]
    run = avro_stream(registry.url)
    loop, metrics, _ = loop_over(source, run)
    try:
        with capture_logs() as logs:
            await loop.run()
    finally:
        registry.stop()
    assert letters(source) == []
    assert run.pipelines[PUMPS_0].counts == {"accepted": 10}
    assert source.commits[-1].position.offset == 10
    names = [each["event"] for each in logs if each["event"].startswith("schema_registry")]
    assert names == ["schema_registry_unreachable", "schema_registry_reached"]


async def test_what_was_fed_before_an_outage_is_committed_first() -> None:
    with Registry() as registry:
        id = registry.register("pumps", text_of(PUMP))
        committed: list[int] = []

        async def events() -> AsyncIterator[SourceEvent]:
            yield Assigned(PUMPS_0, 0, 0)
            yield PolledRecords(PUMPS_0, [pump(n, id) for n in range(5)])
            registry.broken = 500, b""
            back = asyncio.get_running_loop().create_task(come_back())
            yield PolledRecords(PUMPS_0, [pump(5, id + 1)])
            await back

        async def come_back() -> None:
            await until(lambda: asked(metrics, "failed") >= 2)
            committed.append(source.commits[-1].position.offset)
            registry.broken = None

        source = Script([])
        source.events = events  # type: ignore[method-assign]
        loop, metrics, _ = loop_over(source, avro_stream(registry.url), commit_every=timedelta(hours=1))
        await loop.run()
    assert committed == [5]


async def test_a_source_that_closes_ends_the_wait_and_the_records_are_read_again() -> None:
    nobody = Registry(port=1)
    source = Script([PolledRecords(PUMPS_0, [pump(0, 1)])], close_after=60)
    run = avro_stream(nobody.url)
    loop, _, _ = loop_over(source, run)
    await loop.run()
    assert not run.pipelines[PUMPS_0].counts
    assert all(work.position.offset == 0 for work in source.commits)


async def test_the_event_loop_goes_on_while_the_registry_is_silent() -> None:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0.001)

    with Registry(silent=True) as registry:
        source = Script([PolledRecords(PUMPS_0, [pump(0, 1)])], close_after=4)
        loop, _, _ = loop_over(source, avro_stream(registry.url))
        beating = asyncio.create_task(beat())
        await loop.run()
        beating.cancel()
    assert beats > 100


async def test_an_absent_schema_is_asked_for_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the supply is that of the loop's options."""
    now = 0.0
    with Registry() as registry:

        async def events() -> AsyncIterator[SourceEvent]:
            nonlocal now
            yield Assigned(PUMPS_0, 0, 0)
            yield PolledRecords(PUMPS_0, [pump(0, 1)])
            now = 59.0
            yield PolledRecords(PUMPS_0, [pump(1, 1)])
            assert registry.asked == ["/schemas/ids/1"]
            registry.register("pumps", text_of(PUMP))
            now = 60.0
            yield PolledRecords(PUMPS_0, [pump(2, 1)])
            yield PolledRecords(PUMPS_0, (), ended=True)

        source = Script([])
        source.events = events  # type: ignore[method-assign]
        run = avro_stream(registry.url)
        loop, _, _ = loop_over(source, run, clock=lambda: now)
        await loop.run()
        assert registry.asked == ["/schemas/ids/1"] * 2
    assert run.pipelines[PUMPS_0].counts == {"rejected": 2, "accepted": 1}


async def test_a_missing_library_ends_the_loop_and_rejects_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.adapters.schemas.proto_text.find_spec", lambda name: None)
    with Registry(serializes=False) as registry:
        id = registry.register("pumps", PUMP_PROTO, "PROTOBUF", serialized=b"")
        source = Script([PolledRecords(PUMPS_0, [pump(0, id)])])
        loop, _, _ = loop_over(source, avro_stream(registry.url, kind="protobuf"))
        with pytest.raises(ConfigError, match=r"anomalyd\[protobuf\]"):
            await loop.run()
    assert letters(source) == []
    assert {work.position.offset for work in source.commits} == {0}


def test_a_file_that_is_missing_is_said_before_the_loop_runs(tmp_path: Any) -> None:
    run = avro_stream("https://localhost:1")
    assert run.decoder.schemas is not None
    section = StreamSection(
        name="pumps",
        topics=("t",),
        sensors={"a": {}},
        input={"decode": "avro", "asset": "a", "time": "t", "leaves": "."},
    )
    address = RegistryAddress(("https://localhost:1",), token_file=str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="token_file"):
        loop_over(Script([]), StreamRun(StreamPlan(section.spec(address))))
