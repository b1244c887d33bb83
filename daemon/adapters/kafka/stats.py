"""What a Kafka source has counted; telemetry reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

from daemon.domain import InputPartition


@dataclass(slots=True)
class KafkaStats:
    """Counters of a source since it was made, and the present lag of its partitions."""

    rebalances: int = 0
    commits: int = 0
    stale_commits: int = 0  # of partitions that were revoked: the next owner reads their records again
    delayed_commits: int = 0  # the broker did not answer in time; tried again
    dropped_records: int = 0  # fetched before the current assignment
    clamped: int = 0  # replay_from was no longer in the log: windows start shorter
    restarted: int = 0  # the committed offset itself was not in the log
    unreachable: int = 0
    rewinds: int = 0  # transactions that failed: all work since the last commit was repeated
    lag: dict[InputPartition, int] = field(default_factory=dict)
