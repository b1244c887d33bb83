"""Positions that are to be committed to the group (delivery ``at_least_once``), written every commit interval.

The positions are of published outputs, so a later write only repeats work after a crash and never loses any.
Positions that time out stay pending. Positions of partitions that have gone are dropped and counted: their next
owner reads those records again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import structlog
from aiokafka import OffsetAndMetadata, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from daemon.adapters.kafka.commit_metadata import written_position
from daemon.adapters.kafka.failures import describe
from daemon.adapters.kafka.group_consumer import GroupConsumer
from daemon.adapters.kafka.settings import KafkaSettings
from daemon.adapters.kafka.stats import KafkaStats
from daemon.domain import InputPartition, Position
from daemon.errors import BrokerError

log = structlog.get_logger()

COMMIT_S = 5.0
"""For one commit; also the wait before the next attempt."""


class OffsetCommits:
    """The pending positions of the partitions that are ours."""

    def __init__(self, settings: KafkaSettings, consumer: GroupConsumer, stats: KafkaStats) -> None:
        self._settings = settings
        self._consumer = consumer
        self._stats = stats
        self._pending: dict[InputPartition, Position] = {}
        self._due_at = 0.0
        self._writing = asyncio.Lock()

    def add(self, positions: Mapping[InputPartition, Position]) -> None:
        """Replace the pending position of each of these partitions."""
        self._pending |= positions

    def drop(self) -> None:
        """Forget what is pending: the partitions have gone."""
        self._stats.stale_commits += len(self._pending)
        self._pending.clear()

    async def flush_if_due(self) -> None:
        """Write the pending positions if the commit interval is over.

        Raises:
            BrokerError: Kafka refuses them, and would again.
        """
        if self._pending and time.monotonic() >= self._due_at:
            await self.flush()

    async def flush(self) -> None:
        """Write the pending positions now; those that time out stay pending.

        Raises:
            BrokerError: Kafka refuses them, and would again.
        """
        async with self._writing:
            consumer = self._consumer.client
            pending = dict(self._pending)
            if consumer is None or not pending:
                return
            self._due_at = time.monotonic() + self._settings.commit_interval.total_seconds()
            offsets = {
                TopicPartition(p.topic, p.number): OffsetAndMetadata(at.offset, written_position(at))
                for p, at in pending.items()
            }
            try:
                async with asyncio.timeout(COMMIT_S):
                    await consumer.commit(offsets)
            except (CommitFailedError, IllegalStateError) as error:
                # The group has moved on: the next owner of the partitions reads these records again.
                self._stats.stale_commits += len(pending)
                reason = describe(error.__cause__ or error)
                log.warning("commit_stale", partitions=len(pending), reason=reason)
            except TimeoutError:
                self._stats.delayed_commits += 1
                self._due_at = time.monotonic() + COMMIT_S
                log.warning("commit_delayed", partitions=len(pending))
                return
            except KafkaError as error:
                raise BrokerError(
                    f"Kafka at {self._settings.bootstrap_servers} refused a commit of group "
                    f"{self._settings.group_id!r}: {describe(error)}"
                ) from error
            else:
                self._stats.commits += 1
            for partition, position in pending.items():
                if self._pending.get(partition) == position:
                    del self._pending[partition]
