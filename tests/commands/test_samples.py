"""The sample of ``init`` and ``inspect``: messages whose schemas a registry has."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.adapters.sample import derive_of_topic
from daemon.adapters.schemas import RegistryError
from daemon.commands.samples import decoding_of
from daemon.config.presets import mapping_of
from daemon.domain import Record
from daemon.errors import InputError
from daemon.mapping import RegistryAddress
from daemon.stream.decode.framing import HEADER
from tests.broker import create_topic, produce
from tests.registry import Registry
from tests.running import command, unique
from tests.stream.decode.framings import (
    PUMP,
    PUMP_PROTO,
    avro,
    confluent,
    descriptor_set,
    message_class,
    path,
    text_of,
)

BEGIN_MS = 1_764_397_200_000


def pump(i: int) -> dict[str, Any]:
    return {
        "asset": f"p{i % 3}",
        "ts": BEGIN_MS + 1000 * (i // 3),
        "temperature": 20.5 + i % 7,
        "pressure": i % 5 / 4,
    }


def records(*values: bytes) -> list[Record]:
    return [Record(i, None, value, -1) for i, value in enumerate(values)]


async def derived(messages: list[Record], registry: Registry) -> Any:
    decoding = await decoding_of(messages, "t", RegistryAddress((registry.url,)))
    assert decoding is not None
    return derive_of_topic(messages, True, (), "s", "t", decoding)


async def test_avro_is_read_by_the_schemas_of_the_registry_and_written_without_them() -> None:
    newer = PUMP | {"fields": [*PUMP["fields"], {"name": "flow", "type": "double", "default": 0.5}]}
    with Registry() as registry:
        ids = [registry.register("pumps", text_of(schema)) for schema in (PUMP, newer)]
        sent = [
            confluent(ids[i >= 100], avro(newer if i >= 100 else PUMP, pump(i) | {"flow": i / 8}))
            for i in range(200)
        ]
        found = await derived(records(*sent, confluent(99, b"?")), registry)
    assert found.spec.sensors == ("flow", "pressure", "temperature")
    assert found.written.input["decode"] == "avro"
    assert "read by" not in str(found.written.input)
    assert mapping_of(found.written.format, found.written.input).decode.kind == "avro"
    assert any("1 message cannot be used" in note for note in found.notes)


async def test_protobuf_is_read_by_the_message_that_it_names() -> None:
    made = message_class(descriptor_set(PUMP_PROTO), "plant.Pump")
    sent = []
    with Registry() as registry:
        id = registry.register("pumps", PUMP_PROTO, "PROTOBUF")
        for i in range(100):
            one = pump(i)
            message = made(asset=one["asset"], temperature=one["temperature"], pressure=one["pressure"])
            message.at.FromMilliseconds(one["ts"])
            sent.append(confluent(id, path(1) + message.SerializeToString()))
        found = await derived(records(*sent), registry)
    assert set(found.spec.sensors) == {"pressure", "temperature"}
    assert found.written.input["decode"] == "protobuf"


async def test_the_schema_may_be_named_in_the_header() -> None:
    with Registry() as registry:
        id = registry.register("pumps", text_of(PUMP))
        sent = [Record(i, None, avro(PUMP, pump(i)), -1, [(HEADER, confluent(id, b""))]) for i in range(60)]
        assert (await derived(sent, registry)).spec.sensors == ("pressure", "temperature")


async def test_what_is_wrong_with_the_registry_is_said() -> None:
    framed = records(*(confluent(7, avro(PUMP, pump(i))) for i in range(20)))
    with pytest.raises(InputError, match=r"Confluent's framing.*give --schema-registry http://HOST:8081"):
        await decoding_of(framed, "t", None)
    with Registry() as registry:
        with pytest.raises(InputError, match="the schema registry has no schema 7"):
            await decoding_of(framed, "t", RegistryAddress((registry.url,)))
        id = registry.register("pumps", "{}", "JSON")
        other = records(confluent(id, b"\xff\xfe"))
        with pytest.raises(InputError, match="schemas of JSON are not read"):
            await decoding_of(other, "t", RegistryAddress((registry.url,)))
    with pytest.raises(RegistryError):
        await decoding_of(framed, "t", RegistryAddress((registry.url,)))
    assert await decoding_of(records(b'{"a": 1}', b""), "t", None) is None
    assert await decoding_of(records(confluent(7, b'{"a": 1}')), "t", None) is None  # JSON needs no schema


@pytest.mark.kafka
def test_init_inspect_and_check_of_a_topic_of_avro(kafka_bootstrap: str, tmp_path: Path) -> None:
    topic, to = unique("plant.avro"), ("--bootstrap-servers", kafka_bootstrap)
    asyncio.run(create_topic(kafka_bootstrap, topic))
    with Registry() as registry:
        id = registry.register("pumps", text_of(PUMP))
        sent = [(None, confluent(id, avro(PUMP, pump(i)))) for i in range(150)]
        asyncio.run(produce(kafka_bootstrap, topic, sent))
        refused = command("init", topic, *to, cwd=tmp_path)
        assert refused.returncode == 2
        assert "give --schema-registry" in refused.stderr
        named = (*to, "--schema-registry", registry.url)
        done = command("init", topic, *named, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        shown = command("inspect", topic, *named, cwd=tmp_path)
        assert "150 records: 150 accepted" in shown.stdout
        checked = command("check", "--probe", cwd=tmp_path)
        assert "150 of the newest 150 records would be accepted" in checked.stdout
        again = command("inspect", topic, "-c", "config.yaml", cwd=tmp_path)
        assert "150 records: 150 accepted" in again.stdout
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert written["schema_registry"] == {"url": registry.url}
    assert written["kafka"]["group_id"] == written["outputs"]["prefix"] == f"anomalyd.{topic}"
