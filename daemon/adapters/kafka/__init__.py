"""Apache Kafka: the only package that knows aiokafka; the rest of the program uses the names exported here.

Consuming: ``source`` (the consumer group, with ``group_consumer``, ``assignment``, ``takeover``, ``live_partition``,
``offset_commits``, ``transactional_commits``), ``reading`` (topics as they are now, without a group), ``following``
(a compacted topic and what is added to it). Producing: ``writing`` (at least once), ``transactions`` (exactly
once). Administration: ``topics``. Connections: ``settings``, ``addresses``, ``security``, ``connecting``,
``failures``, ``client_log``. Private names of aiokafka are used in ``aiokafka_inside`` only.
"""

from daemon.adapters.kafka.client_log import quieten
from daemon.adapters.kafka.commit_metadata import replay_from, written_position
from daemon.adapters.kafka.failures import UnreachableError
from daemon.adapters.kafka.fenced import FencedWriter
from daemon.adapters.kafka.following import Follower
from daemon.adapters.kafka.group_consumer import SESSION_S
from daemon.adapters.kafka.reading import Log, Piece, committed, newest_records, read_now
from daemon.adapters.kafka.security import connection
from daemon.adapters.kafka.settings import KafkaSettings
from daemon.adapters.kafka.source import NO_PARTITION, KafkaSource
from daemon.adapters.kafka.stats import KafkaStats
from daemon.adapters.kafka.topics import check_topics, ensure_topics, group_members, probe, topic_states
from daemon.adapters.kafka.transactions import StateTopic, TransactionFailed, Transactions
from daemon.adapters.kafka.values import CheckResult, Entry, Message, TopicSpec, TopicState
from daemon.adapters.kafka.writing import KafkaSink, Writer, stored_size

__all__ = [
    "NO_PARTITION",
    "SESSION_S",
    "CheckResult",
    "Entry",
    "FencedWriter",
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
    "group_members",
    "newest_records",
    "probe",
    "quieten",
    "read_now",
    "replay_from",
    "stored_size",
    "topic_states",
    "written_position",
]
