"""``check --probe`` on the records of each input topic: what share the stream's own mapping reads, and why not all.

In: the settings. Out: a ``CheckResult`` per topic; what is said is in ``reading_check``.
"""

from __future__ import annotations

from daemon.adapters.kafka import CheckResult, newest_records
from daemon.adapters.schemas import RegistryError
from daemon.commands.reading_check import read_records, said_of, schemas_of
from daemon.commands.wiring import kafka_settings
from daemon.config import Settings
from daemon.errors import BrokerError, ConfigError, InputError

PROBED = 200
"""Newest records of each topic that are read."""


async def readings_in_topics(settings: Settings) -> list[CheckResult]:
    """A line per input topic: what share of its newest records the stream's mapping reads, and why not all.

    A topic none of whose records is read fails the check, one whose schemas are not to be had, and, in a line of its
    own, one in which an asset comes in several partitions; an empty one, or
    one that cannot be read, does not: the probe of the broker reports the latter, and ``check`` a decoder that cannot
    be made.
    """
    results = []
    for stream in settings.streams:
        spec = stream.spec(settings.schema_registry.address())
        for topic in spec.topics:
            try:
                records, _ = await newest_records(kafka_settings(settings), topic, PROBED)
            except (BrokerError, InputError):
                continue
            try:
                schemas = await schemas_of(spec, records)
            except RegistryError as error:
                results.append(CheckResult(f"records of {topic}", False, f"cannot be decoded: {error}"))
                continue
            except ConfigError:
                continue
            found = read_records(spec, records, schemas)
            fine = found.accepted > 0 or sum(found.skipped.values()) == found.read
            results.append(CheckResult(f"records of {topic}", fine, said_of(found)))
            if found.split is not None:
                results.append(CheckResult(f"partitions of {topic}", False, found.split))
    return results
