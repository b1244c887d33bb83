"""``topics``: the topics that are needed, without asking a broker."""

from __future__ import annotations

from daemon.commands.topics import needed_topics
from daemon.config import load


def test_needed_topics_have_the_prefix_and_partitions_or_where_they_come_from() -> None:
    stream = {"name": "s", "topics": ["t"], "sensors": ["a"]}
    entries = {
        entry["topic"]: entry
        for entry in needed_topics(load(None, (), {"streams": [stream], "outputs": {"prefix": "plant"}}))
    }
    assert all(name.startswith("plant.") for name in entries)
    assert entries["plant.state"]["partitions"] == "as the input topic"
    assert entries["plant.alerts"]["partitions"] == "broker's default"
    assert entries["plant.state"]["settings"]["cleanup.policy"] == "compact"
    assert "t" not in entries  # input topics are the user's
