"""``anomalyd init``: a config.yaml for a sample of readings, from a file or from a topic's newest messages.

In: ``InitOptions``. Out: ``Configuration``: the derived stream, the text of config.yaml, and notes; ``write``
writes the text. The stream is derived by ``adapters.sample``. Invariant: a text that is written has been
loaded as a configuration before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from daemon.adapters.files import TableReading, is_lines, read_table, replacing
from daemon.adapters.sample import Ends, config_yaml, derive, derive_of_topic
from daemon.commands.broker import kafka_only
from daemon.commands.inputs import check_reading
from daemon.commands.reading_check import read_records, schemas_of
from daemon.commands.samples import check_topic, decoding_of, exists, newest_of_topic
from daemon.config import load
from daemon.documents import from_yaml
from daemon.domain import Record, StreamSpec
from daemon.errors import ConfigError, InputError, UsageError


@dataclass(frozen=True, slots=True)
class InitOptions:
    """What ``init`` is given."""

    sample: str  # a file, or where there is none of that name, a topic
    out: Path  # ``-``: standard output
    exclude: Sequence[str] = ()  # columns that are no sensors
    name: str | None = None  # of the stream; None: ``sensors``, or the last part of the topic's name
    topic: str | None = None  # the input topic; None: ``sensors.NAME``, or the sample
    force: bool = False  # overwrite
    bootstrap_servers: str | None = None
    config: Path | None = None  # its ``kafka`` and ``schema_registry`` say how to reach topic and schemas
    schema_registry: str | None = None  # its address; comes before the one of ``config``
    reading: TableReading = field(default_factory=TableReading)  # how a table is read


@dataclass(frozen=True, slots=True)
class Configuration:
    """A derived stream, its config.yaml, and notes on how it was derived."""

    spec: StreamSpec
    text: str
    notes: list[str]

    def write(self, path: Path) -> None:
        """Write config.yaml, whole or not at all.

        Raises:
            DaemonError: it cannot be written.
        """
        with replacing(path) as temporary:
            temporary.write_text(self.text, encoding="utf-8")


async def _partition_notes(spec: StreamSpec, records: Sequence[Record]) -> list[str]:
    """What is wrong with how a topic's records are spread over its partitions."""
    if len({record.partition for record in records}) < 2:
        return []
    split = read_records(spec, records, await schemas_of(spec, records)).split
    return [] if split is None else [split]


def derive_configuration(options: InitOptions) -> Configuration:
    """Read the sample and derive its stream; an event loop is run only for a topic.

    Raises:
        UsageError: the file to write exists.
        DaemonError: neither a file nor a topic has this name, or no configuration can be made of it.
    """
    sample, name, topic = options.sample, options.name, options.topic
    if exists(options.out) and not options.force and str(options.out) != "-":
        raise UsageError(f"{options.out} exists: give --force to overwrite it, or --out FILE")
    ends = Ends(name=Ends.name_for(topic or name or Path(sample).name.partition(".")[0]))
    if exists(Path(sample)):
        name = name or "sensors"
        path, reading = Path(sample), options.reading
        check_reading(reading, path)
        source = path if is_lines(path) else read_table(path, options.exclude, reading=reading)
        derived = derive(source, options.exclude, name=name)
        derived = replace(derived, spec=replace(derived.spec, timezone=reading.timezone))
        if reading.day_first is not None:
            derived.notes.append(
                "read with --day-first or --month-first: give it to commands over this file again"
            )
    else:
        check_topic(sample, options.bootstrap_servers)
        name = name or sample.rpartition(".")[2] or sample
        settings = kafka_only(options.config, options.bootstrap_servers, options.schema_registry)
        registry = settings.schema_registry
        records, whole = asyncio.run(newest_of_topic(settings, sample))
        decoding = asyncio.run(decoding_of(records, sample, registry.address()))
        derived = derive_of_topic(records, whole, options.exclude, name, sample, decoding)
        derived.notes.extend(asyncio.run(_partition_notes(derived.spec, records)))
        topic = topic or sample
        ends = Ends(
            settings.kafka.bootstrap_servers,
            settings.kafka.allow_plaintext,
            Ends.name_for(topic),
            {}
            if decoding is None
            else registry.model_dump(mode="json", exclude_defaults=True, exclude={"timeout"}),
        )
    text = config_yaml(
        derived.spec,
        topic or f"sensors.{name}",
        derived.notes,
        derived.written,
        ends,
    )
    try:
        load(None, (), from_yaml(text))
    except ConfigError as error:  # a name that is none for a stream, a topic or a sensor
        raise InputError(f"{sample}: no configuration can be made of it: {error}") from error
    return Configuration(derived.spec, text, derived.notes)
