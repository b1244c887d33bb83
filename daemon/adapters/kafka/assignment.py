"""Which partitions are ours, and how far each has come to the loop.

A partition passes three stages: the group has assigned it (``to_take_over``), its state has been restored and
records flow (``live``), the loop has been told (``announced``). Each change of the assignment begins a new
*generation*: what was fetched or found in an older one is dropped, because its partitions were rewound.
"""

from __future__ import annotations

import time
from collections import deque

from aiokafka import TopicPartition

from daemon.adapters.kafka.live_partition import LivePartition
from daemon.adapters.kafka.settings import KafkaSettings
from daemon.adapters.kafka.stats import KafkaStats
from daemon.domain import InputPartition
from daemon.errors import BrokerError

CHURN_LIMIT, CHURN_WITHIN_S = 20, 120.0
"""So many rebalances of a static member in such a time mean that two live members share an instance id. They come
every three to five seconds then; a fleet that is scaled up has no more of them than new members."""


class Assignment:
    """The partitions of this member of the group.

    Attributes:
        generation: changes with every revocation, assignment and restart.
        rebalancing: from a revocation to the next assignment, and before the first one.
        to_take_over: assigned, and not restored yet; None if there is nothing to do.
        live: restored; their records flow.
        announced: the loop has received ``Assigned`` and not ``Revoked``.
    """

    def __init__(self, stats: KafkaStats) -> None:
        self.generation = 0
        self.rebalancing = True
        self.to_take_over: tuple[TopicPartition, ...] | None = None
        self.live: dict[InputPartition, LivePartition] = {}
        self.announced: set[InputPartition] = set()
        self._stats = stats
        self._assigned_at: deque[float] = deque(maxlen=CHURN_LIMIT)

    @property
    def joining(self) -> bool:
        """Whether no records can flow: a rebalance is under way, or partitions are to be taken over."""
        return self.rebalancing or self.to_take_over is not None

    def revoke(self) -> None:
        """A rebalance begins; live partitions stay until ``release``."""
        self.generation += 1
        self.rebalancing = True
        self.to_take_over = None

    def assign(self, partitions: tuple[TopicPartition, ...]) -> None:
        """A rebalance has ended with these partitions."""
        self.restart(partitions)
        self.rebalancing = False
        self._stats.rebalances += 1
        self._assigned_at.append(time.monotonic())

    def restart(self, partitions: tuple[TopicPartition, ...]) -> None:
        """Take these partitions over (again), from their last commits on."""
        self.generation += 1
        self.release()
        self.to_take_over = partitions

    def release(self) -> None:
        """No partition is live any more."""
        self.live.clear()
        self._stats.lag.clear()

    def gone(self) -> list[InputPartition]:
        """The partitions that were announced to the loop and are no longer live, in order."""
        return sorted(self.announced - self.live.keys())

    def check_churn(self, settings: KafkaSettings) -> None:
        """Refuse to go on where two live processes share an instance id: Kafka fences neither of them.

        Raises:
            BrokerError: naming the instance id.
        """
        full = len(self._assigned_at) == CHURN_LIMIT
        if settings.instance_id and full and time.monotonic() - self._assigned_at[0] < CHURN_WITHIN_S:
            raise BrokerError(
                f"the group {settings.group_id!r} rebalances without end: another live process has "
                f"kafka.instance_id {settings.instance_id!r}; give each its own, or none"
            )
