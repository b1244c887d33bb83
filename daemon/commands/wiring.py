"""From settings to adapters: Kafka connection, topics, histories, start models.

The commands share these functions, so that ``run``, ``check``, ``topics``, ``train`` and ``demo`` derive the
same values from the same configuration.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from daemon.adapters import kafka
from daemon.adapters.kafka import CheckResult, KafkaSettings, TopicSpec
from daemon.adapters.kafka.control_topic import feedback_topic
from daemon.adapters.registry import models_topic, retrain_topic
from daemon.assembly import reduces
from daemon.config import Settings
from daemon.documents import DocumentError, read_file
from daemon.domain import Output
from daemon.errors import BundleError, ConfigError
from daemon.model.bundle import Bundle
from daemon.runtime.compatibility import check_compatible
from daemon.runtime.published import OwnTopics
from daemon.runtime.replica_history import ReplicaHistory
from daemon.runtime.stream_run import StreamPlan, StreamRun
from daemon.stream.encoding import Encoded, encode
from daemon.stream.event_time import held_together

SEGMENT_BYTES = 64 << 20
"""Of a compacted topic."""


def kafka_settings(settings: Settings) -> KafkaSettings:
    """The connection, with the password read from its file.

    Raises:
        ConfigError: a file that is named cannot be read, whether or not the protocol needs it.
    """
    section = settings.kafka
    contents: dict[str, bytes] = {}
    for key in ("password_file", "token_file", "ca_file", "cert_file", "key_file"):
        path: Path | None = getattr(section, key)
        if path is not None:
            try:
                contents[key] = read_file(path)
            except DocumentError as error:
                raise ConfigError(f"kafka.{key} {path} {error}") from error
    password = None
    if "password_file" in contents:
        try:
            password = contents["password_file"].decode().strip()
        except UnicodeDecodeError as error:
            raise ConfigError(f"kafka.password_file {section.password_file} is not UTF-8 text") from error
    return KafkaSettings(
        bootstrap_servers=section.bootstrap_servers,
        group_id=section.group_id,
        instance_id=_instance_id(section.instance_id),
        start=section.start,
        commit_interval=section.commit_interval,
        security_protocol=section.security_protocol,
        allow_plaintext=section.allow_plaintext,
        sasl_mechanism=section.sasl_mechanism,
        username=section.username,
        password=password,
        token_file=None if section.token_file is None else str(section.token_file),
        ca_file=None if section.ca_file is None else str(section.ca_file),
        cert_file=None if section.cert_file is None else str(section.cert_file),
        key_file=None if section.key_file is None else str(section.key_file),
    )


def _instance_id(configured: str | None) -> str | None:
    """The group instance id; ``$hostname`` becomes the host name, in characters that Kafka accepts."""
    if configured != "$hostname":
        return configured
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:249]


def input_topics(settings: Settings) -> list[str]:
    """All input topics."""
    return [topic for stream in settings.streams for topic in stream.topics]


def own_topics(settings: Settings, input_partitions: int | None = None) -> list[TopicSpec]:
    """Every topic that anomalyd itself writes or reads, with its settings.

    Args:
        settings: prefix, and whether scores are published.
        input_partitions: of the widest input topic; the state topic has as many.
    """
    prefix = settings.outputs.prefix
    kept = {"cleanup.policy": "delete"}
    # The newest segment is never compacted, so a successor would read a whole GiB of Kafka's default size.
    compacted = {"cleanup.policy": "compact", "segment.bytes": str(SEGMENT_BYTES)}
    plain = ["alerts", "imputed", "drift", "dead-letter"] + (["scores"] if settings.outputs.scores else [])
    return [
        *(TopicSpec(f"{prefix}.{name}", None, kept) for name in plain),
        retrain_topic(prefix),
        models_topic(prefix),
        feedback_topic(prefix),
        TopicSpec(f"{prefix}.state", input_partitions, compacted | _room_for_state(settings)),
    ]


def _room_for_state(settings: Settings) -> dict[str, str]:
    """``max.message.bytes`` where an asset's window, open rows and waiting readings exceed Kafka's default."""
    most = 0
    for stream in settings.streams:
        spec = stream.spec()
        open_rows = 2 * (spec.allowed_lateness_ns // spec.period_ns + 1)
        rows = spec.window + open_rows * (
            3 if reduces(spec) else 1
        )  # with counts and times of what was reduced
        most = max(most, 8 * len(spec.sensors) * (rows + 8) + 64 * rows + 2 * held_together(spec) + 65_536)
    most = min(most, 2**31 - 1)  # Kafka's own limit
    return {"max.message.bytes": str(most)} if most > 1_000_000 else {}


async def create_topics(settings: Settings) -> list[kafka.TopicState]:
    """Create what is missing of our own topics; the input topics must exist."""
    connection = kafka_settings(settings)
    widest = max((await kafka.check_topics(connection, input_topics(settings))).values())
    return await kafka.ensure_topics(connection, own_topics(settings, widest))


def connection_problem(settings: Settings) -> str | None:
    """What is wrong with the connection settings, as far as it shows without a broker; None if nothing."""
    try:
        kafka.connection(kafka_settings(settings))
    except ConfigError as error:
        return str(error)
    return None


async def probe(settings: Settings) -> list[CheckResult]:
    """The findings of ``check --probe`` on the broker."""
    return await kafka.probe(kafka_settings(settings), input_topics(settings), own_topics(settings))


def history(settings: Settings, connection: KafkaSettings, plan: StreamPlan) -> ReplicaHistory:
    """The history that a stream's trainings learn from: its topics, without the rows of alerts."""
    made = ReplicaHistory(
        connection,
        plan.spec,
        plan.retrain_rows,
        oldest=connection.start == "earliest",
        own=OwnTopics.of(settings.outputs.prefix),
        limits=(plan.max_record_bytes, plan.max_asset_bytes, plan.max_assets),
    )
    made.plan_stops(plan.maintenance)
    return made


def seed_models(streams: Sequence[StreamRun], bundle: Bundle | None) -> None:
    """Let the streams that a bundle is compatible with start with it.

    Raises:
        BundleError: it is compatible with none.
    """
    if bundle is None:
        return
    refusals = []
    for stream in streams:
        try:
            check_compatible(bundle, stream.spec)
            stream.bundle = bundle.to_bytes()
        except BundleError as error:
            refusals.append(error)
    if len(refusals) == len(streams):
        raise refusals[0]


def encoder() -> Callable[[Output], Encoded]:
    """Encodes an output as a message, with the wall clock."""
    return lambda output: encode(output, datetime.now(UTC))
