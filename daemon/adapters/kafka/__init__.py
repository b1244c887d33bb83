"""Apache Kafka: the only package that knows aiokafka.

Another client could take its place: the rest of the program sees what is named here.
"""

from daemon.adapters.kafka.connecting import (
    CheckResult,
    Entry,
    KafkaSettings,
    Message,
    TopicSpec,
    TopicState,
    UnreachableError,
    connection,
    quieten,
    replay_from,
    written_position,
)
from daemon.adapters.kafka.following import Follower
from daemon.adapters.kafka.reading import Log, Piece, committed, newest_records, read_now
from daemon.adapters.kafka.source import NO_PARTITION, KafkaSource, KafkaStats
from daemon.adapters.kafka.topics import check_topics, ensure_topics, probe, topic_states
from daemon.adapters.kafka.transactions import StateTopic, TransactionFailed, Transactions
from daemon.adapters.kafka.writing import KafkaSink, Writer, stored_size

__all__ = [
    "NO_PARTITION",
    "CheckResult",
    "Entry",
    "Follower",
    "KafkaSettings",
    "KafkaSink",
    "KafkaSource",
    "KafkaStats",
    "Log",
    "Message",
    "Piece",
    "StateTopic",
    "TopicSpec",
    "TopicState",
    "TransactionFailed",
    "Transactions",
    "UnreachableError",
    "Writer",
    "check_topics",
    "committed",
    "connection",
    "ensure_topics",
    "newest_records",
    "probe",
    "quieten",
    "read_now",
    "replay_from",
    "stored_size",
    "topic_states",
    "written_position",
]
