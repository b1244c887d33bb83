"""How to reach Kafka and as whom, and the time limits that all clients of this package share."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

CLIENT_ID = "anomalyd"
"""The name under which the brokers log and meter this program."""
DEADLINE_S = 30.0
"""For one administrative request."""
WAIT_MS = 500
"""For records, per poll."""
MAX_RECORDS = 20_000
"""Per poll, so that a fetch (a few MiB of a partition) is seldom cut up; the pipeline yields within a poll."""
START_S = 15.0
"""For one attempt to connect."""
STOP_S = 10.0
"""For a client to close."""
LOG_EVERY_S = 60.0
"""A repeated message is logged once in this time."""


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach Kafka and as whom."""

    bootstrap_servers: str = "localhost:9092"
    group_id: str = "anomalyd"
    instance_id: str | None = None
    start: str = "earliest"  # or "latest": where a partition without a commit begins
    commit_interval: timedelta = timedelta(milliseconds=500)
    security_protocol: str = "PLAINTEXT"
    allow_plaintext: bool = False  # to brokers that are not on this machine
    sasl_mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
