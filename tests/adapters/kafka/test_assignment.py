"""Which partitions are ours, stage by stage, without a broker."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition

from daemon.adapters.kafka import KafkaSettings, KafkaStats
from daemon.adapters.kafka.assignment import CHURN_LIMIT, Assignment
from daemon.adapters.kafka.live_partition import LivePartition
from daemon.domain import InputPartition
from daemon.errors import BrokerError

TP = TopicPartition("in", 0)
HERE = InputPartition("in", 0)


def test_a_partition_is_assigned_taken_over_announced_and_gone() -> None:
    stats = KafkaStats()
    assignment = Assignment(stats)
    assert assignment.joining
    assignment.assign((TP,))
    assert (assignment.rebalancing, assignment.joining, stats.rebalances) == (False, True, 1)
    assignment.to_take_over = None
    assignment.live[HERE] = LivePartition(TP, 0, stats)
    assignment.announced.add(HERE)
    assert not assignment.joining
    assert assignment.gone() == []
    before = assignment.generation
    assignment.revoke()
    assert assignment.generation != before
    assert assignment.live  # until the event in flight is committed
    assignment.release()
    assert assignment.gone() == [HERE]


def test_rebalances_without_end_are_two_processes_with_one_instance_id() -> None:
    assignment = Assignment(KafkaStats())
    for _ in range(CHURN_LIMIT):
        assignment.check_churn(KafkaSettings(instance_id="pump-0"))
        assignment.assign((TP,))
    assignment.check_churn(KafkaSettings())
    with pytest.raises(BrokerError, match=r"another live process has kafka\.instance_id 'pump-0'"):
        assignment.check_churn(KafkaSettings(instance_id="pump-0"))
