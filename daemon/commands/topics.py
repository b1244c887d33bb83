"""``anomalyd topics``: the topics that anomalyd needs, with their settings; with ``--create``, created.

In: the settings. Out: one entry per topic, which ``--json`` prints and the table shows.
"""

from __future__ import annotations

from typing import Any

from daemon.commands.wiring import create_topics, own_topics
from daemon.config import Settings


def needed_topics(settings: Settings) -> list[dict[str, Any]]:
    """The topics that anomalyd writes or reads itself; no broker is asked."""
    return [
        {"topic": t.name, "partitions": t.partitions or "broker's default", "settings": dict(t.config)}
        if t.partitions or not t.name.endswith(".state")
        else {"topic": t.name, "partitions": "as the input topic", "settings": dict(t.config)}
        for t in own_topics(settings)
    ]


async def created_topics(settings: Settings) -> list[dict[str, Any]]:
    """Create the topics that are missing; the entries of all of them, with which were created.

    Raises:
        DaemonError: no broker, an input topic is missing, or a topic cannot be created.
    """
    made = await create_topics(settings)
    return [{"topic": t.name, "partitions": t.partitions, "created": t.created} for t in made]
