"""The sample that ``init`` and ``inspect`` look at: a file, or where there is none of that name, a topic's newest records.

Nothing is imported here that takes seconds: only a topic needs the Kafka client.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from daemon.adapters.sample import SAMPLE_LINES, Decoding, decoding_of_schemas, names_schemas
from daemon.config import Settings, is_topic_name
from daemon.domain import Record
from daemon.errors import BrokerError, InputError
from daemon.mapping import DecodeRule, RegistryAddress
from daemon.stream.decode import MessageSchemas, Schema, SchemaId
from daemon.stream.rejection import RejectedError

_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", ".jsonl", ".ndjson", ".json", ".gz")


def exists(path: Path) -> bool:
    """Whether something has this name; False where it cannot be found out, or no file could have the name."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def check_topic(sample: str, bootstrap_servers: str | None) -> None:
    """Refuse (InputError) a sample that is no file and no topic either: a name that ends like a file's is meant as one.

    Args:
        sample: a name that no file has.
        bootstrap_servers: as they were given; then the sample is meant as a topic, however it ends.
    """
    if not is_topic_name(sample) or (sample.lower().endswith(_SUFFIXES) and not bootstrap_servers):
        raise InputError(f"{sample}: no such file")


_DECODERS = {"AVRO": "avro", "PROTOBUF": "protobuf"}
"""By what registries call a kind of schema."""


async def decoding_of(
    records: Sequence[Record], topic: str, registry: RegistryAddress | None
) -> Decoding | None:
    """How records are decoded whose schemas are in a registry; None: they name none.

    Args:
        records: of the topic.
        topic: for errors.
        registry: is asked for the schemas.

    Raises:
        InputError: the records name schemas, and no registry is given, or it has none of them.
        RegistryError: the registry does not answer.
        ConfigError: a decoder's library is not installed.
    """
    if not names_schemas(records):
        return None
    if registry is None:
        raise InputError(
            f"topic {topic!r}: the messages begin with Confluent's framing, so a registry has their schemas:"
            " give --schema-registry http://HOST:8081, or -c FILE with schema_registry: {url: ...}"
        )
    from daemon.adapters.schemas import provide_schemas

    schemas = MessageSchemas(DecodeRule("avro", registry=registry))
    wanted = schemas.wanted(records)
    await provide_schemas(schemas, records)
    assert schemas.known is not None
    found: dict[SchemaId, Schema] = {}
    absent = ""
    for id in wanted:
        try:
            found[id] = schemas.known.schema(id)
        except RejectedError as error:
            absent = absent or error.detail
    kinds = Counter(schema.kind for schema in found.values())
    kind = next((schema.kind for schema in found.values() if schema.kind in _DECODERS), "")
    if not kind:
        why = absent or f"schemas of {', '.join(kinds)} are not read in this framing"
        raise InputError(f"topic {topic!r}: the messages name schemas, but {why}")
    return decoding_of_schemas(
        _DECODERS[kind], {id: schema for id, schema in found.items() if schema.kind == kind}
    )


async def newest_of_topic(settings: Settings, topic: str) -> tuple[list[Record], bool]:
    """The newest records of a topic, and whether it has no others.

    Raises:
        InputError: no file and no topic has this name, or the topic holds no records.
        BrokerError: Kafka cannot be reached.
    """
    from daemon.adapters.kafka import newest_records
    from daemon.commands.wiring import kafka_settings

    try:
        records, whole = await newest_records(kafka_settings(settings), topic, SAMPLE_LINES)
    except (BrokerError, InputError) as error:
        raise type(error)(f"{topic}: no such file; and as a topic: {error}") from error
    if not records:
        raise InputError(f"topic {topic!r} is empty: there is nothing to look at")
    return records, whole
