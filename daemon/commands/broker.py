"""Settings by which Kafka is reached before a stream is known, or on other servers.

Apart from ``derive`` because ``init`` needs it, which imports neither torch nor a Kafka client for a file.
"""

from __future__ import annotations

import json
from pathlib import Path

from daemon.config import Settings, load


def kafka_only(config: Path | None, servers: str | None, registry: str | None = None) -> Settings:
    """Settings of which only ``kafka`` and ``schema_registry`` count.

    Args:
        config: a file; None: the environment alone.
        servers: come before those of the file.
        registry: the address of a schema registry, comes before the one of the file.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    stream = {"name": "stream", "topics": ["stream"], "sensors": ["sensor"]}
    return with_servers(load(config, registry_sets(registry), {"streams": [stream]}), servers)


def registry_sets(registry: str | None) -> list[str]:
    """What ``--set`` would say of the address of a schema registry; nothing where none is given."""
    return [] if registry is None else [f"schema_registry.url={json.dumps(registry)}"]


def with_servers(settings: Settings, servers: str | None) -> Settings:
    """The settings with other bootstrap servers; None keeps those that they have."""
    if servers is None:
        return settings
    kafka = settings.kafka.model_copy(update={"bootstrap_servers": servers})
    return settings.model_copy(update={"kafka": kafka})
