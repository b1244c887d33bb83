"""The sample that ``init`` and ``inspect`` look at: a file, or where there is none of that name, a topic's newest records.

Nothing is imported here that takes seconds: only a topic needs the Kafka client.
"""

from __future__ import annotations

from pathlib import Path

from daemon.adapters.sample import SAMPLE_LINES
from daemon.config import Settings, is_topic_name
from daemon.domain import Record
from daemon.errors import BrokerError, InputError

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
