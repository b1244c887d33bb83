"""Settings by which Kafka is reached before a stream is known, or on other servers.

Apart from ``derive`` because ``init`` needs it, which imports neither torch nor a Kafka client for a file.
"""

from __future__ import annotations

from pathlib import Path

from daemon.config import Settings, load


def kafka_only(config: Path | None, servers: str | None) -> Settings:
    """Settings of which only ``kafka`` counts; ``servers`` comes before those of the file.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    stream = {"name": "stream", "topics": ["stream"], "sensors": ["sensor"]}
    return with_servers(load(config, (), {"streams": [stream]}), servers)


def with_servers(settings: Settings, servers: str | None) -> Settings:
    """The settings with other bootstrap servers; None keeps those that they have."""
    if servers is None:
        return settings
    kafka = settings.kafka.model_copy(update={"bootstrap_servers": servers})
    return settings.model_copy(update={"kafka": kafka})
