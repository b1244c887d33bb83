"""``check`` on the condition fields of each stream: whether configuration and newest records agree.

In: the streams' specs, and with a broker the newest records of their topics. Out: ``CheckResult`` lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from daemon.adapters.kafka import CheckResult, newest_records
from daemon.adapters.schemas import RegistryError, provide_schemas
from daemon.calendar import MANY_LABELS, labels_of
from daemon.commands.wiring import kafka_settings
from daemon.config import Settings
from daemon.domain import Reading, Record, StreamSpec
from daemon.errors import BrokerError, InputError
from daemon.stream.decoding import Decoder

SAMPLE = 1_000
"""Newest records that are read of each topic."""


def declared_conditions(specs: Iterable[StreamSpec]) -> list[CheckResult]:
    """What the configuration alone shows of each stream's condition fields; none of it is an error."""
    found = []
    for spec in specs:
        what = f"conditions of {spec.name}"
        if (many := labels_of(spec.condition)) > MANY_LABELS:
            found.append(
                CheckResult(
                    what,
                    True,
                    f"its calendar fields alone make {many} labels; above {MANY_LABELS} each has few rows to"
                    " learn from",
                )
            )
        named = {name for fields in spec.assets.values() for name in fields}
        if unused := sorted(named - set(spec.condition)):
            found.append(
                CheckResult(
                    what, True, f"assets say {', '.join(unused)}, which `condition` does not name: not used"
                )
            )
    return found


def conditions_in_records(
    spec: StreamSpec, records: Sequence[Record], decoder: Decoder | None = None
) -> CheckResult:
    """Whether the fields that messages and assets give appear in records at all.

    Args:
        spec: the stream.
        records: of its topics.
        decoder: of the stream, with the schemas that the records name; None: they name none.
    """
    decoder, seen, read = decoder or Decoder(spec), Counter[str](), 0
    for reading in decoder.decode_all(records):
        if isinstance(reading, Reading):
            read += 1
            seen[reading.condition] += 1
    absent = [
        name
        for name in spec.message_condition
        if all(f"{name}=?" in label.split(",") for label in seen)  # a value with commas is no `?`
    ]
    what = f"conditions of {spec.name}"
    if not read:
        return CheckResult(what, True, "no reading among the newest records: nothing can be said")
    if absent:
        return CheckResult(
            what,
            True,
            f"{', '.join(absent)} never appears in the newest {read} readings, and no asset says it: every row"
            " is `?`",
        )
    return CheckResult(what, True, f"{len(seen)} labels in the newest {read} readings")


async def conditions_in_topics(settings: Settings) -> list[CheckResult]:
    """``conditions_in_records`` of each stream with such fields; a topic that cannot be read is left out."""
    found = []
    for stream in settings.streams:
        spec = stream.spec(settings.schema_registry.address())
        if not spec.message_condition:
            continue
        records: list[Record] = []
        for topic in spec.topics:
            try:
                some, _ = await newest_records(kafka_settings(settings), topic, SAMPLE)
            except (BrokerError, InputError):
                continue  # the probe reports it
            records += some
        decoder = Decoder(spec)
        try:
            await provide_schemas(decoder.schemas, records)
        except RegistryError:
            continue  # the probe reports it, too
        found.append(conditions_in_records(spec, records, decoder))
    return found
