"""Commits in transactions (delivery ``exactly_once``), one per partition, side by side.

``transactions.Transactions.commit`` writes each; here failures are handled. Where one fails, the source begins
again at the last commits: this module decides when, and when to end the run because the broker would refuse
the same messages for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import structlog

from daemon.adapters.kafka.group_consumer import HEARTBEAT_MS
from daemon.adapters.kafka.settings import KafkaSettings
from daemon.adapters.kafka.stats import KafkaStats
from daemon.adapters.kafka.transactions import TransactionFailed, Transactions
from daemon.domain import InputPartition, PartitionCommit, Position
from daemon.errors import BrokerError

log = structlog.get_logger()


class TransactionalCommits:
    """The transactions of one source, and what follows from their failures.

    Attributes:
        retry_at: no partition is to be taken over before this time, as ``time.monotonic()``.
    """

    def __init__(self, settings: KafkaSettings, transactions: Transactions, stats: KafkaStats) -> None:
        self.retry_at = 0.0
        self._settings = settings
        self._transactions = transactions
        self._stats = stats
        self._failures = 0  # commits that failed since the last one that succeeded
        self._refused: set[InputPartition] = set()  # whose last transaction the broker would refuse again

    async def take_over(self, partitions: Sequence[InputPartition]) -> None:
        """Fence the former owners; from here on nobody else's transaction can move the offsets.

        Raises:
            UnreachableError, BrokerError: it cannot be done (now).
        """
        await self._transactions.take_over(partitions)

    async def commit(self, work: Mapping[InputPartition, PartitionCommit]) -> set[InputPartition]:
        """One transaction per partition, side by side.

        Returns:
            The partitions whose transaction failed; then all of them have to begin again.

        Raises:
            BrokerError: Kafka refuses it, and would again.
        """
        outcomes = await asyncio.gather(
            *(self._transactions.commit(partition, done) for partition, done in work.items()),
            return_exceptions=True,
        )
        failures: dict[InputPartition, TransactionFailed] = {}
        for partition, outcome in zip(work, outcomes, strict=True):
            if isinstance(outcome, TransactionFailed):
                self._end_if_refused_again(partition, outcome)
                failures[partition] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                self._refused.discard(partition)
        self._stats.commits += len(outcomes) - len(failures)
        if not failures:
            if work:
                self._failures = 0
            return set()
        self._failures += 1
        reasons = list(failures.values())
        worst = next((f for f in reasons if f.refused), reasons[0])
        self._stats.rewinds += 1
        log.warning("transaction_failed", reason=str(worst), partitions=len(failures), tries=self._failures)
        # A rival with the same id may be met again only when it is known that the partition is still ours.
        wait_s = 2 * HEARTBEAT_MS / 1000 if any(f.fenced for f in reasons) else 0.0
        if self._failures > 1:
            wait_s = max(wait_s, min(30.0, 0.25 * 2.0 ** min(self._failures, 8)))
        self.retry_at = time.monotonic() + wait_s
        return set(failures)

    async def commit_beginnings(self, beginnings: Mapping[InputPartition, Position]) -> None:
        """Commit where partitions without a usable commit begin.

        Raises:
            TransactionFailed: try again later.
            BrokerError: Kafka refuses it, and would again.
        """
        for partition, position in beginnings.items():
            try:
                await self._transactions.commit(partition, PartitionCommit(position))
            except TransactionFailed as error:
                self._end_if_refused_again(partition, error)
                raise

    async def stop(self) -> None:
        """Close all producers. Safe to call twice."""
        await self._transactions.stop()

    def _end_if_refused_again(self, partition: InputPartition, failure: TransactionFailed) -> None:
        if failure.refused and partition in self._refused:
            raise BrokerError(f"Kafka at {self._settings.bootstrap_servers} refused outputs: {failure}")
        if failure.refused:
            self._refused.add(partition)
