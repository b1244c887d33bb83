"""Apache Kafka, at least once: the only module that knows aiokafka.

**Consuming.** Four facts of aiokafka shape this. Records arrive while the rebalance listener
still runs; a rebalance is eager, so partitions that stay ours go back to the committed offset
too; the listener runs inside the coordinator's task, where an exception vanishes; and
``getmany`` blocks for as long as a rebalance takes. So the listener itself decides nothing. It
pauses what was assigned, raises the *generation*, and leaves the rest to the loop that pulls
``events``: read the committed offsets, seek, resume, and only then say ``Assigned``. A batch
that was fetched in an older generation is dropped, because its partition was rewound.

On a revocation the listener waits for the event in flight to be finished and commits it, so
that an orderly rebalance repeats nothing; it waits for seconds, never for ever.

**Positions.** ``auto_offset_reset`` is "none": where to begin is decided here, counted and
said. Each commit carries in its metadata the offset from which a successor must replay to
rebuild its windows, so that the input topic is the windows' changelog.

**Producing.** Idempotent, acks=all, and every single send future is checked before ``write``
returns. A producer whose batch failed is never used again: its sequence numbers have a hole,
and every later batch would fail. What failed is sent again by a new one.

**Deadlines.** Nothing in aiokafka bounds a wait on an unreachable broker, so every await here
has a deadline, or is one that SIGTERM ends (``close``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import ssl
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
from aiokafka import (
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    OffsetAndMetadata,
    TopicPartition,
)
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    CommitFailedError,
    ConsumerStoppedError,
    GroupAuthorizationFailedError,
    IllegalStateError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.helpers import create_ssl_context

from daemon.domain import Assigned, InputPartition, Output, Polled, Position, Record, Revoked, SourceEvent
from daemon.errors import BrokerError, ConfigError, DaemonError, InputError
from daemon.stream.codec import Encoded

log = structlog.get_logger(__name__)

CLIENT_ID = "anomalyd"
NO_PARTITION = InputPartition("", -1)
"""What a ``Polled`` speaks of when no partition is ours: a beat, and nothing else."""

MAX_RECORDS = 2_000  # per poll: about 5 ms of CPU, so that heartbeats are not starved
BEAT_S = 1.0
WAIT_MS = 500
DEADLINE_S = 30.0  # for one administrative question
START_S = 15.0  # for one attempt to connect
COMMIT_S = 5.0
FINISH_S = 10.0  # how long a revocation waits for the event in flight; far below REBALANCE_MS
STOP_S = 10.0
SAY_EVERY_S = 60.0
SESSION_MS, HEARTBEAT_MS, REBALANCE_MS = 45_000, 3_000, 60_000
IDLE_STEP_MS = 2_000  # an answer later than this after the one before does not prove idleness
CHURN_LIMIT = 30  # rebalances per minute of a static member: two live ones share an instance id
DEFAULT_LIMIT = 1_048_588  # Kafka's default of max.message.bytes
BATCH_BYTES = 262_144
LARGEST_REQUEST = 64 * 1024 * 1024  # sizes are checked here, topic by topic, not by aiokafka

REFUSED = (
    TopicAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    InvalidTopicError,
    PolicyViolationError,
    UnknownTopicOrPartitionError,
    UnknownError,
)
"""A send that failed with one of these fails again, however often it is tried."""


class UnreachableError(BrokerError):
    """Kafka cannot be reached now; trying again may help."""


# ------------------------------------------------------------------ settings and other values
@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach Kafka and as whom."""

    bootstrap_servers: str = "localhost:9092"
    group_id: str = "anomalyd"
    instance_id: str | None = None
    start: str = "earliest"  # or "latest": where a partition without a commit begins
    commit_interval: timedelta = timedelta(milliseconds=500)
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic that is needed; ``partitions`` None means the broker's default."""

    name: str
    partitions: int | None = None
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is; 0 partitions: it does not exist."""

    name: str
    partitions: int
    created: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``check --probe``."""

    what: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message for a topic; the partition is the key's unless given."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One record as a follower sees it; a None value deletes its key."""

    key: bytes
    value: bytes | None


@dataclass(slots=True)
class KafkaStats:
    """What a source has counted since it was made; read by telemetry."""

    rebalances: int = 0
    commits: int = 0
    stale_commits: int = 0  # of partitions that had gone: their records are read again by whoever has them
    delayed_commits: int = 0  # the broker did not answer in time; tried again
    dropped_records: int = 0  # fetched before the current assignment
    clamped: int = 0  # replay_from had fallen off the log: windows start shorter
    restarted: int = 0  # the position itself was off the log
    unreachable: int = 0
    lag: dict[InputPartition, int] = field(default_factory=dict)


# ------------------------------------------------------------------ connecting
def connection(settings: KafkaSettings) -> dict[str, Any]:
    """The arguments that every aiokafka client takes.

    Raises:
        ConfigError: for what can be told to be wrong without a broker.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": CLIENT_ID,
        "security_protocol": settings.security_protocol,
        "metadata_max_age_ms": 60_000,
    }
    if settings.security_protocol.startswith("SASL"):
        mechanism = settings.sasl_mechanism
        if mechanism not in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            raise ConfigError(
                f"kafka.sasl_mechanism {mechanism} is not supported: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
            )
        if mechanism == "PLAIN" and settings.security_protocol == "SASL_PLAINTEXT":
            raise ConfigError(
                "kafka.sasl_mechanism PLAIN over SASL_PLAINTEXT sends the password in the clear: use SASL_SSL"
            )
        if not settings.username or settings.password is None:
            raise ConfigError(
                f"kafka.sasl_mechanism {mechanism} needs kafka.username and kafka.password_file"
            )
        arguments |= {
            "sasl_mechanism": mechanism,
            "sasl_plain_username": settings.username,
            "sasl_plain_password": settings.password,
        }
    if settings.security_protocol.endswith("SSL"):
        arguments["ssl_context"] = _tls(settings)
    return arguments


def _tls(settings: KafkaSettings) -> ssl.SSLContext:
    if bool(settings.cert_file) != bool(settings.key_file):
        raise ConfigError("kafka.cert_file and kafka.key_file come together or not at all")
    for name in ("ca_file", "cert_file", "key_file"):
        path = getattr(settings, name)
        if path is not None:
            try:
                Path(path).read_bytes()
            except OSError as error:
                raise ConfigError(f"kafka.{name} {path} cannot be read: {error.strerror}") from error
    try:
        context: ssl.SSLContext = create_ssl_context(
            cafile=settings.ca_file, certfile=settings.cert_file, keyfile=settings.key_file
        )
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"kafka.ca_file {settings.ca_file}, cert_file {settings.cert_file} and key_file "
            f"{settings.key_file} do not make a TLS context: {error}"
        ) from error
    return context


class _Ear:
    """What aiokafka says while a client starts: the only place where it gives its reason."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.open = True  # tasks that the client starts keep this context; they are not to be heard later


_EAR: ContextVar[_Ear | None] = ContextVar("ear", default=None)


@contextlib.contextmanager
def _overheard() -> Iterator[list[str]]:
    """Collect aiokafka's log instead of passing it on: the reason is said once, by us."""
    quieten()
    ear = _Ear()
    token = _EAR.set(ear)
    try:
        yield ear.lines
    finally:
        ear.open = False
        _EAR.reset(token)


class _Seldom(logging.Filter):
    """Hand a starting client's lines to its ear; let each other kind through a few times a minute.

    After a broker's graceful shutdown a producer can write ten thousand lines a second.
    """

    def __init__(self, each: int = 3, within_s: float = SAY_EVERY_S) -> None:
        super().__init__()
        self._each, self._within_s = each, within_s
        self._since = float("-inf")
        self._seen: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        ear = _EAR.get()
        if ear is not None and ear.open:
            if record.levelno >= logging.WARNING and len(ear.lines) < 50:
                ear.lines.append(record.getMessage())
            return False
        now = time.monotonic()
        if now - self._since > self._within_s:
            self._since = now
            self._seen.clear()
        kind = str(record.msg)
        self._seen[kind] += 1
        return self._seen[kind] <= self._each


def quieten() -> None:
    """Limit how often aiokafka repeats itself. Safe to call often."""
    for name in list(logging.root.manager.loggerDict):
        # A filter holds for records of its own logger only, not of those below: so one each.
        if name == "aiokafka" or name.startswith("aiokafka."):
            logger = logging.getLogger(name)
            if not any(isinstance(known, _Seldom) for known in logger.filters):
                logger.addFilter(_Seldom())


def _explained(error: BaseException, said: Sequence[str], settings: KafkaSettings) -> DaemonError:
    """One clear line for whatever kept a client from starting."""
    servers = settings.bootstrap_servers
    heard = " | ".join(said)
    everything = f"{heard} | {error!r}"
    if isinstance(error, KeyError) or re.search(
        r"SaslAuthenticationFailed|[Aa]uthentication failed", everything
    ):
        # aiokafka meets a refused SCRAM proof with KeyError('v'): the answer holds an error, no verifier.
        return BrokerError(
            f"Kafka at {servers} refused user {settings.username!r} "
            f"({settings.sasl_mechanism}): wrong name or password"
        )
    if found := re.search(r"Enabled mechanisms are: (.*?)(?: \||$)", everything):
        return BrokerError(
            f"Kafka at {servers} does not take kafka.sasl_mechanism {settings.sasl_mechanism}; "
            f"it offers {found[1]}"
        )
    if "UnsupportedSaslMechanism" in everything or "IllegalSaslState" in everything:
        return BrokerError(
            f"Kafka at {servers} does not take kafka.security_protocol {settings.security_protocol} "
            f"with {settings.sasl_mechanism} on this port"
        )
    if found := re.search(r"certificate verify failed: ([^(|]*)", everything, re.IGNORECASE):
        return BrokerError(
            f"the certificate of Kafka at {servers} is not trusted with kafka.ca_file "
            f"{settings.ca_file}: {found[1].strip()}"
        )
    if re.search(
        r"certificate required|bad certificate|unknown ca|handshake failure", everything, re.IGNORECASE
    ):
        return BrokerError(
            f"Kafka at {servers} refused the client certificate kafka.cert_file {settings.cert_file}"
        )
    if re.search(
        r"wrong version number|record layer failure|packet length too long", everything, re.IGNORECASE
    ):
        return BrokerError(
            f"Kafka at {servers} does not speak TLS on this port, but kafka.security_protocol is "
            f"{settings.security_protocol}"
        )
    if isinstance(error, ValueError):
        return ConfigError(f"kafka.bootstrap_servers {servers!r} cannot be used: {error}")
    if isinstance(error, REFUSED):
        return BrokerError(f"Kafka at {servers} refused: {error!r}")
    reason = _reason(said) or (
        f"no answer within {START_S:.0f} s" if isinstance(error, TimeoutError) else str(error)
    )
    hint = ""
    if re.search(r"\bclosed\b|reset by peer|IncompleteRead", reason):
        hint = f" (is kafka.security_protocol {settings.security_protocol} right for this port?"
        if settings.security_protocol == "SSL":
            hint += f" Does it take the client certificate kafka.cert_file {settings.cert_file}?"
        hint += ")"
    return UnreachableError(f"Kafka at {servers} cannot be reached: {reason}{hint}")


def _reason(said: Sequence[str]) -> str:
    """The last line that says why a server could not be used."""
    for line in reversed(said):
        if found := re.search(r'Unable (?:connect to|to request metadata from) ".*?": ?(.*)', line):
            # An SSL handshake that the other side ends has no text at all.
            return found[1].strip() or "the connection was closed"
    return said[-1].strip() if said else ""


async def _quietly(closing: Awaitable[Any]) -> None:
    """End a client that may be half made, on a broker that may be gone."""
    with contextlib.suppress(KafkaError, OSError, TimeoutError, AssertionError):
        async with asyncio.timeout(STOP_S):
            await closing


class _Client(Protocol):
    async def start(self) -> None: ...


C = TypeVar("C", bound=_Client)


def _ending(client: Any) -> Awaitable[Any]:
    ended: Awaitable[Any] = client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop()
    return ended


async def _started(make: Callable[[], C], settings: KafkaSettings, deadline_s: float = START_S) -> C:
    """A started client, or one clear line.

    Raises:
        ConfigError, BrokerError: what another try would not mend.
        UnreachableError: what it may.
    """
    client: C | None = None
    with _overheard() as said:
        try:
            client = make()
            async with asyncio.timeout(deadline_s):
                await client.start()
            return client
        except (KafkaError, OSError, TimeoutError, KeyError, ValueError) as error:
            failure = _explained(error, said, settings)
            if client is not None:
                await _quietly(_ending(client))
        except asyncio.CancelledError:
            if client is not None:
                await _quietly(_ending(client))
            raise
    raise failure


class _Backoff:
    """Exponential waits with jitter, and a word about them once a minute."""

    def __init__(self, stats: KafkaStats | None = None) -> None:
        self._tries = 0
        self._said = float("-inf")
        self._stats = stats

    def after(self, error: BaseException) -> float:
        """How long to wait now, in seconds; says why when it was not said lately."""
        if self._stats is not None:
            self._stats.unreachable += 1
        now = time.monotonic()
        if now - self._said >= SAY_EVERY_S:
            self._said = now
            log.warning("broker_unreachable", reason=str(error), tries=self._tries + 1)
        self._tries += 1
        # Full jitter would let all replicas of a fleet come back at once now and then; half does not.
        ceiling: float = min(30.0, 0.25 * 2.0 ** min(self._tries, 8))
        return ceiling * random.uniform(0.5, 1.0)

    def over(self) -> None:
        """It works again."""
        if self._tries:
            log.info("broker_reached", tries=self._tries)
        self._tries, self._said = 0, float("-inf")


# ------------------------------------------------------------------ topics
@contextlib.asynccontextmanager
async def _administering(
    settings: KafkaSettings, deadline_s: float = DEADLINE_S
) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client, with a deadline over everything that is done with it."""
    arguments = connection(settings)
    admin = await _started(
        lambda: AIOKafkaAdminClient(**arguments, request_timeout_ms=15_000),
        settings,
        min(START_S, deadline_s),
    )
    try:
        async with asyncio.timeout(deadline_s):
            yield admin
    except TimeoutError as error:
        raise UnreachableError(
            f"Kafka at {settings.bootstrap_servers} did not answer within {deadline_s:.0f} s"
        ) from error
    except (KafkaError, OSError) as error:
        kind = UnreachableError if getattr(error, "retriable", True) else BrokerError
        raise kind(f"Kafka at {settings.bootstrap_servers}: {_plain(error)}") from error
    finally:
        await _quietly(admin.close())


def _plain(error: BaseException) -> str:
    """An aiokafka error in words: its class says more than its text does."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__.removesuffix("Error")).lower()
    text = str(error).strip()
    return f"{name} ({text})" if text and text != type(error).__name__ else name


async def _partitions(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Every topic this user may see, with how many partitions it has.

    All topics are listed, and never one by name: asking for a missing one by name creates it
    where the broker has ``auto.create.topics.enable``.
    """
    return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}


async def topic_states(settings: KafkaSettings, wanted: Sequence[TopicSpec]) -> list[TopicState]:
    """What exists of the topics that are wanted, in their order."""
    async with _administering(settings) as admin:
        there = await _partitions(admin)
    return [TopicState(spec.name, there.get(spec.name, 0)) for spec in wanted]


async def check_topics(settings: KafkaSettings, names: Sequence[str]) -> dict[str, int]:
    """Partitions of each input topic.

    Raises:
        InputError: naming the topics that do not exist.
    """
    states = await topic_states(settings, [TopicSpec(name) for name in names])
    missing = [state.name for state in states if not state.partitions]
    if missing:
        raise InputError(_missing(settings, missing))
    return {state.name: state.partitions for state in states}


def _missing(settings: KafkaSettings, names: Sequence[str]) -> str:
    which = ", ".join(repr(name) for name in names)
    are = "topic {} does" if len(names) == 1 else "topics {} do"
    return (
        f"{are.format(which)} not exist on Kafka at {settings.bootstrap_servers}, "
        "or this user may not describe it"
    )


async def ensure_topics(settings: KafkaSettings, wanted: Sequence[TopicSpec]) -> list[TopicState]:
    """Create what is missing of the topics, with their settings; those that exist stay as they are.

    Replication is the broker's default. Returns once every topic has leaders.

    Raises:
        BrokerError: when the broker refuses one, with its reason.
    """
    async with _administering(settings, 60.0) as admin:
        there = await _partitions(admin)
        missing = [spec for spec in wanted if spec.name not in there]
        for spec in missing:
            # -1 everywhere means the broker's default; aiokafka takes -1 only beside an (empty) assignment
            answer = await admin.create_topics(
                [
                    NewTopic(
                        spec.name,
                        spec.partitions or -1,
                        -1,
                        replica_assignments={},
                        topic_configs=dict(spec.config),
                    )
                ]
            )
            for name, code, *said in answer.topic_errors:
                # 36: it exists; another replica was quicker
                if code not in (0, 36):
                    detail = said[0] if said and said[0] else _plain(for_code(code)())
                    raise BrokerError(f"topic {name!r} could not be created: {detail}")
        while missing:
            described = {topic["topic"]: topic for topic in await admin.describe_topics()}
            if all(_led(described.get(spec.name)) for spec in missing):
                break
            await asyncio.sleep(0.05)
        there |= {spec.name: len(described[spec.name]["partitions"]) for spec in missing}
    created = {spec.name for spec in missing}
    return [TopicState(spec.name, there[spec.name], spec.name in created) for spec in wanted]


def _led(topic: Mapping[str, Any] | None) -> bool:
    return (
        topic is not None and bool(topic["partitions"]) and all(p["leader"] >= 0 for p in topic["partitions"])
    )


async def probe(
    settings: KafkaSettings, inputs: Sequence[str], wanted: Sequence[TopicSpec] = ()
) -> list[Finding]:
    """Look at everything ``run`` needs of the broker, without writing or joining anything."""
    where = settings.bootstrap_servers
    try:
        async with _administering(settings) as admin:
            cluster = await admin.describe_cluster()
            brokers = cluster["brokers"]
            there = await _partitions(admin)
            findings = [Finding("broker", True, f"{where}: {len(brokers)} broker(s), {len(there)} topic(s)")]
            for name in inputs:
                count = there.get(name, 0)
                detail = f"{count} partition(s)" if count else _missing(settings, [name])
                findings.append(Finding(f"input topic {name}", count > 0, detail))
            for spec in wanted:
                count = there.get(spec.name, 0)
                detail = f"{count} partition(s)" if count else "missing: `anomalyd topics --create` makes it"
                findings.append(Finding(f"topic {spec.name}", count > 0, detail))
            findings.append(await _group_finding(admin, settings.group_id))
            return findings
    except DaemonError as error:
        return [Finding("broker", False, str(error))]


async def _group_finding(admin: AIOKafkaAdminClient, group: str) -> Finding:
    try:
        await admin.find_coordinator(group)
    except GroupAuthorizationFailedError:
        return Finding(f"group {group}", False, "this user lacks READ on the group")
    except KafkaError as error:
        # A young cluster has no coordinator until its first group exists.
        return Finding(f"group {group}", True, f"no coordinator yet: {_plain(error)}")
    return Finding(f"group {group}", True, "this user may use it")


# ------------------------------------------------------------------ the source
METADATA_VERSION = "1"


def written_position(position: Position) -> str:
    """The metadata string of a commit: far below the broker's 4 kB."""
    return f"{METADATA_VERSION};{position.replay_from}"


def replay_from(metadata: str, offset: int) -> int:
    """What a commit's metadata says of the replay; the offset itself when it says nothing sensible."""
    version, _, number = metadata.partition(";")
    if version != METADATA_VERSION or not number.isdecimal():
        return offset
    return min(int(number), offset)


@dataclass(slots=True)
class _Live:
    """A partition that the loop was told of and that is still ours."""

    next_offset: int
    idle_ms: int = 0
    polled_ms: int | None = None  # aiokafka's stamp of the answer that idle was last counted at
    beaten: float = 0.0


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, source: KafkaSource) -> None:
        self._source = source

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._source._on_revoked()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._source._on_assigned(assigned)


class KafkaSource:
    """The input topics, read by a consumer group.

    ``events`` connects when it is first pulled, and keeps trying while the broker is down.
    ``commit`` takes positions at once and writes them every ``commit_interval``, on a
    revocation, and when the source closes; they are of published outputs, so a later write
    only repeats, never loses. Call ``stop`` when the loop is done with it.
    """

    def __init__(self, settings: KafkaSettings, topics: Sequence[str]) -> None:
        if settings.start not in ("earliest", "latest"):
            raise ConfigError(f"kafka.start {settings.start!r} must be earliest or latest")
        self.stats = KafkaStats()
        self._settings = settings
        self._topics = tuple(topics)
        self._arguments = connection(settings)
        self._consumer: AIOKafkaConsumer | None = None
        self._closing = asyncio.Event()
        self._generation = 0
        self._rebalancing = True
        self._assigned: tuple[TopicPartition, ...] | None = None  # assigned, and not restored yet
        self._known: dict[str, int] = {}  # partitions per topic when this process started
        self._live: dict[InputPartition, _Live] = {}
        self._told: set[InputPartition] = set()  # Assigned was said, Revoked was not
        self._pending: dict[InputPartition, Position] = {}
        self._due = 0.0
        self._flushing = asyncio.Lock()
        self._at_rest = asyncio.Event()  # the loop is not working on an event
        self._at_rest.set()
        self._changed = asyncio.Event()
        self._fetching: asyncio.Task[dict[TopicPartition, list[Any]]] | None = None
        self._rebalanced: deque[float] = deque(maxlen=CHURN_LIMIT)

    # -------------------------------------------------------------- for the loop
    async def events(self) -> AsyncIterator[SourceEvent]:
        """See ``ports.Source``.

        Raises:
            InputError: an input topic does not exist.
            ConfigError, BrokerError: Kafka refuses us for good.
        """
        try:
            backoff = _Backoff(self.stats)
            while self._consumer is None and not self._closing.is_set():
                try:
                    await self._connect()
                except UnreachableError as error:
                    wait = backoff.after(error)
                    until = time.monotonic() + wait
                    while not self._closing.is_set() and (left := until - time.monotonic()) > 0:
                        yield Polled(NO_PARTITION, ())
                        await self._nap(min(left, BEAT_S))
            backoff.over()
            beaten = time.monotonic()
            while not self._closing.is_set():
                await asyncio.sleep(0)  # a full buffer never yields by itself, and heartbeats share this loop
                self._check_churn()
                for partition in sorted(self._told - self._live.keys()):
                    self._told.discard(partition)
                    yield Revoked(partition)
                if self._assigned is not None:
                    for event in await self._take_over():
                        self._told.add(event.partition)
                        yield event
                await self._flush_if_due()
                generation = self._generation
                for tp, records in (await self._poll()).items():
                    polled = await self._received(tp, records, generation)
                    if polled is not None:
                        self._at_rest.clear()
                        yield polled
                        self._at_rest.set()
                now = time.monotonic()
                for partition, live in list(self._live.items()):
                    if now - live.beaten >= BEAT_S and partition in self._live:
                        live.beaten = beaten = now
                        yield await self._beat(partition, live)
                if now - beaten >= BEAT_S:
                    beaten = now
                    if not self._live:
                        yield Polled(NO_PARTITION, ())
        finally:
            self._at_rest.set()
        await self._flush()

    async def commit(self, positions: Mapping[InputPartition, Position]) -> None:
        """See ``ports.Source``; a partition that has gone is counted and left alone."""
        for partition, position in positions.items():
            if partition in self._live:
                self._pending[partition] = position
            else:
                self.stats.stale_commits += 1
        if self._closing.is_set():
            await self._flush()
        else:
            await self._flush_if_due()

    def close(self) -> None:
        """See ``ports.Source``."""
        self._closing.set()
        self._changed.set()

    async def stop(self) -> None:
        """Write what is still to be committed and leave the group. Safe to call twice."""
        self.close()
        consumer = self._consumer
        if consumer is None:
            return
        with contextlib.suppress(BrokerError):
            await self._flush()
        self._consumer = None
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})
        await _quietly(consumer.stop())
        self._live.clear()

    # -------------------------------------------------------------- connecting
    async def _connect(self) -> None:
        self._known = await check_topics(self._settings, self._topics)
        consumer = await _started(
            lambda: AIOKafkaConsumer(
                **self._arguments,
                group_id=self._settings.group_id,
                group_instance_id=self._settings.instance_id,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                partition_assignment_strategy=(RoundRobinPartitionAssignor,),
                session_timeout_ms=SESSION_MS,
                heartbeat_interval_ms=HEARTBEAT_MS,
                rebalance_timeout_ms=REBALANCE_MS,
                max_poll_records=MAX_RECORDS,
            ),
            self._settings,
        )
        self._consumer = consumer
        # Subscribed only now: a consumer that starts with a subscription waits for its first assignment.
        consumer.subscribe(self._topics, listener=_Listener(self))

    async def _nap(self, seconds: float) -> None:
        """Sleep, but not through a rebalance or a close."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        if not self._closing.is_set():
            self._changed.clear()

    # -------------------------------------------------------------- rebalancing
    async def _on_revoked(self) -> None:
        """In the coordinator's task: finish the event in flight, commit it, let go."""
        self._generation += 1  # what the loop still holds beyond that event is dropped
        self._rebalancing = True
        self._assigned = None
        self._changed.set()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FINISH_S):
                    await self._at_rest.wait()
            await self._flush()
        except BrokerError as error:  # aiokafka would swallow it; the next commit meets it again
            log.warning("commit_failed", reason=str(error))
        finally:
            self._let_go()

    def _on_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """In the coordinator's task, without an await: records flow until ``pause``."""
        partitions = tuple(sorted(assigned))
        consumer = self._consumer
        if consumer is None:  # stopped meanwhile
            return
        consumer.pause(*partitions)
        self._generation += 1
        self._let_go()
        self._assigned = partitions
        self._rebalancing = False
        self.stats.rebalances += 1
        self._rebalanced.append(time.monotonic())
        self._changed.set()

    def _let_go(self) -> None:
        self.stats.stale_commits += len(self._pending)
        self._pending.clear()
        self._live.clear()
        self.stats.lag.clear()

    def _check_churn(self) -> None:
        full = len(self._rebalanced) == CHURN_LIMIT
        if self._settings.instance_id and full and time.monotonic() - self._rebalanced[0] < 60:
            # Kafka fences neither of two such members: both would hold all partitions, for ever.
            raise BrokerError(
                f"the group {self._settings.group_id!r} rebalances without end: another live process has "
                f"kafka.instance_id {self._settings.instance_id!r}"
            )

    async def _take_over(self) -> list[Assigned]:
        """Decide where each newly assigned partition begins, seek there, and let records flow.

        Returns nothing when the broker did not answer or the assignment changed meanwhile: the
        loop comes back.
        """
        assigned, consumer, generation = self._assigned, self._consumer, self._generation
        assert assigned is not None
        assert consumer is not None
        if self._fetching is not None:
            # A fetch of before may not return records of after the seek: they would be dropped
            # as stale, and nobody would read them again. It ends by its own time limit.
            done, _ = await asyncio.wait({self._fetching}, timeout=BEAT_S)
            if not done:
                return []
            self._drop_fetched()
        try:
            async with asyncio.timeout(DEADLINE_S):
                committed = await self._committed(assigned)
                starts = await consumer.beginning_offsets(list(assigned))
                ends = await consumer.end_offsets(list(assigned))
        except (KafkaError, TimeoutError, UnreachableError) as error:
            if isinstance(error, REFUSED):
                raise BrokerError(f"Kafka refused the committed offsets: {_plain(error)}") from error
            log.warning("assignment_delayed", reason=str(error) or _plain(error))
            await self._nap(0.5)
            return []
        if generation != self._generation:
            return []
        events = []
        for tp in assigned:
            event, is_new = self._beginning(tp, committed[tp], starts[tp], ends[tp])
            consumer.seek(tp, event.replay_from)
            self._live[event.partition] = _Live(event.replay_from)
            if is_new:
                # Kept at once: "latest" would otherwise be a later place after a restart.
                self._pending[event.partition] = Position(event.resume_at, event.replay_from)
            events.append(event)
        self._assigned = None
        consumer.resume(*assigned)
        log.info("partitions_assigned", count=len(events), rebalances=self.stats.rebalances)
        return events

    async def _committed(self, assigned: Sequence[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        """Offset (-1: none) and metadata; ``consumer.committed`` is stale and knows no metadata."""
        if not assigned:
            return {}
        async with _administering(self._settings) as admin:
            found: dict[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(
                self._settings.group_id, partitions=list(assigned)
            )
        missing = set(assigned) - found.keys()
        if missing:
            # The client drops the answer's own error code; an answer that lacks what was asked is one.
            raise UnreachableError("the group's coordinator gave no offsets yet")
        return found

    def _beginning(
        self, tp: TopicPartition, committed: OffsetAndMetadata, start: int, end: int
    ) -> tuple[Assigned, bool]:
        partition = InputPartition(tp.topic, tp.partition)
        offset = committed.offset
        if start <= offset <= end:
            first = replay_from(committed.metadata, offset)
            if first < start:
                self.stats.clamped += 1
                log.warning(
                    "replay_clamped", topic=tp.topic, partition=tp.partition, wanted=first, start=start
                )
            return Assigned(partition, max(first, start), offset), False
        if 0 <= offset < start:
            # Retention was quicker than we were. Nothing is decided by it: the rest follows.
            self.stats.restarted += 1
            log.error("records_expired", topic=tp.topic, partition=tp.partition, lost=start - offset)
            return Assigned(partition, start, start), True
        if offset > end:
            self.stats.restarted += 1
            log.error("offset_beyond_log", topic=tp.topic, partition=tp.partition, committed=offset, end=end)
        # A partition that was added while we ran is read whole: "latest" would skip its first records.
        added = tp.partition >= self._known.get(tp.topic, 0)
        place = end if self._settings.start == "latest" and not added else start
        return Assigned(partition, place, place), True

    # -------------------------------------------------------------- polling
    async def _poll(self) -> Mapping[TopicPartition, list[Any]]:
        """What came, at most MAX_RECORDS; nothing after about half a second."""
        consumer = self._consumer
        assert consumer is not None
        if self._fetching is None and (self._rebalancing or self._assigned is not None):
            await self._nap(BEAT_S / 2)
            return {}
        try:
            if self._fetching is None:
                # Without a time limit this only empties the buffer: it never waits, so no task is needed.
                ready = await consumer.getmany(timeout_ms=0)
                if ready:
                    return ready  # type: ignore[no-any-return]
                self._fetching = asyncio.create_task(consumer.getmany(timeout_ms=WAIT_MS))
            # A task, because getmany waits out a whole rebalance, and cancelling it would leave
            # aiokafka's idle counter wrong.
            done, _ = await asyncio.wait({self._fetching}, timeout=BEAT_S)
            if not done:
                return {}
            fetched, self._fetching = self._fetching, None
            return fetched.result()
        except NoOffsetForPartitionError:
            return {}  # met before our seek; the seek clears it
        except OffsetOutOfRangeError:
            await self._fell_off()
            return {}
        except ConsumerStoppedError:
            return {}
        except KafkaError as error:
            if getattr(error, "retriable", False):
                log.warning("poll_failed", reason=_plain(error))
                await self._nap(BEAT_S)
                return {}
            raise BrokerError(f"Kafka at {self._settings.bootstrap_servers}: {_plain(error)}") from error

    async def _fell_off(self) -> None:
        """The log's start has overtaken us, or its end was cut: begin again like a new assignment."""
        consumer = self._consumer
        assert consumer is not None
        if self._rebalancing or self._assigned is not None:
            return
        await self._flush()
        if self._rebalancing:
            return
        partitions = tuple(sorted(consumer.assignment()))
        consumer.pause(*partitions)
        self._generation += 1
        self._let_go()
        self._assigned = partitions

    def _drop_fetched(self) -> None:
        fetching, self._fetching = self._fetching, None
        if fetching is not None and not fetching.cancelled() and fetching.exception() is None:
            self.stats.dropped_records += sum(map(len, fetching.result().values()))

    async def _received(self, tp: TopicPartition, records: Sequence[Any], generation: int) -> Polled | None:
        partition = InputPartition(tp.topic, tp.partition)
        live = self._live.get(partition)
        if generation != self._generation or live is None:
            self.stats.dropped_records += len(records)
            return None
        items = [
            Record(record.offset, record.key, record.value or b"", record.timestamp * 1_000_000)
            for record in records
        ]
        live.next_offset = items[-1].offset + 1
        live.idle_ms, live.polled_ms = 0, None
        live.beaten = time.monotonic()
        return Polled(partition, items, end_offset=await self._end(tp, live))

    async def _beat(self, partition: InputPartition, live: _Live) -> Polled:
        tp = TopicPartition(partition.topic, partition.number)
        end = await self._end(tp, live)
        return Polled(partition, (), idle=timedelta(milliseconds=live.idle_ms), end_offset=end)

    async def _end(self, tp: TopicPartition, live: _Live) -> int | None:
        """The log's end when last seen; counts idle time and lag on the way.

        Idle is only the time over which the broker confirmed that nothing came: while it cannot
        be reached, nobody could have written, and no asset has fallen silent.
        """
        consumer = self._consumer
        assert consumer is not None
        if tp not in consumer.assignment():
            return None
        end: int | None = consumer.highwater(tp)
        stable: int | None = consumer.last_stable_offset(tp)
        stamp: int | None = consumer.last_poll_timestamp(tp)
        if end is None or stamp is None:
            return None
        # Markers and compacted records take up offsets: the position passes them, records do not.
        # A live partition was sought, so its position is set and this await never waits.
        readable = end if stable is None or stable < 0 else min(stable, end)
        position = max(live.next_offset, await consumer.position(tp))
        if position >= readable:
            if live.polled_ms is not None:
                live.idle_ms += max(0, min(stamp - live.polled_ms, IDLE_STEP_MS))
            live.polled_ms = stamp
        else:
            live.idle_ms, live.polled_ms = 0, None
        self.stats.lag[InputPartition(tp.topic, tp.partition)] = max(0, end - position)
        return end

    # -------------------------------------------------------------- committing
    async def _flush_if_due(self) -> None:
        if self._pending and time.monotonic() >= self._due:
            await self._flush()

    async def _flush(self) -> None:
        """Write the pending positions; those that time out stay pending."""
        async with self._flushing:
            consumer = self._consumer
            pending = dict(self._pending)
            if consumer is None or not pending:
                return
            self._due = time.monotonic() + self._settings.commit_interval.total_seconds()
            offsets = {
                TopicPartition(p.topic, p.number): OffsetAndMetadata(at.offset, written_position(at))
                for p, at in pending.items()
            }
            try:
                async with asyncio.timeout(COMMIT_S):
                    await consumer.commit(offsets)
            except (CommitFailedError, IllegalStateError) as error:
                # The group has moved on. Whoever has the partitions now reads these records again.
                self.stats.stale_commits += len(pending)
                log.warning("commit_stale", partitions=len(pending), reason=_plain(error.__cause__ or error))
            except TimeoutError:
                self.stats.delayed_commits += 1
                self._due = time.monotonic() + COMMIT_S
                log.warning("commit_delayed", partitions=len(pending))
                return
            except KafkaError as error:
                raise BrokerError(
                    f"Kafka at {self._settings.bootstrap_servers} refused a commit of group "
                    f"{self._settings.group_id!r}: {_plain(error)}"
                ) from error
            else:
                self.stats.commits += 1
            for partition, position in pending.items():
                if self._pending.get(partition) == position:
                    del self._pending[partition]


# ------------------------------------------------------------------ writing
class Writer:
    """Writes messages durably: idempotent, acks=all, every future checked.

    ``write`` returns when every message is on the broker, in the order given per partition.
    While the broker is away it waits and tries again, until ``close``.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._arguments = connection(settings)
        self._producer: AIOKafkaProducer | None = None
        self._limits: dict[str, int] = {}
        self._closing = asyncio.Event()

    async def write(self, messages: Sequence[Message]) -> None:
        """Return when all are durable.

        Raises:
            BrokerError: a missing topic, a message that its topic does not take, a refusal, or
                ``close`` while the broker was away. Some messages may have been written.
        """
        for message in messages:
            await self._check(message)
        backoff = _Backoff()
        remaining = list(messages)
        while remaining:
            try:
                failed = await self._attempt(remaining)
            except UnreachableError as error:
                await self._wait(backoff, error)
                continue
            remaining = [message for message, _ in failed]
            if failed:
                message, why = failed[0]
                await self._discard()
                if isinstance(why, REFUSED):
                    raise BrokerError(f"topic {message.topic!r} refused a message: {_plain(why)}") from why
                await self._wait(backoff, why)
        backoff.over()

    def close(self) -> None:
        """End a ``write`` that waits for a broker. Safe to call twice."""
        self._closing.set()

    async def stop(self) -> None:
        """Close the connection. Safe to call twice; a later ``write`` opens a new one."""
        await self._discard(STOP_S)

    async def _attempt(self, messages: Sequence[Message]) -> list[tuple[Message, BaseException]]:
        """Send all once and check every future; what failed, in order, with its error."""
        producer = await self._running()
        sent: list[asyncio.Future[Any]] = []
        stuck: BaseException | None = None
        for message in messages:
            try:
                sent.append(
                    await producer.send(
                        message.topic,
                        message.value,
                        key=message.key,
                        partition=message.partition,
                        headers=list(message.headers),
                    )
                )
            except KafkaError as error:
                # Those behind it may go to the same partition: keep the order, send them again after it.
                stuck = error
                break
        await self._settled(sent)
        outcomes = [future.exception() for future in sent]
        failed = [(m, error) for m, error in zip(messages, outcomes, strict=False) if error is not None]
        if stuck is not None:
            failed += [(message, stuck) for message in messages[len(sent) :]]
        return failed

    async def _settled(self, sent: Sequence[asyncio.Future[Any]]) -> None:
        """Wait for every future; the producer itself tries again while the broker is away."""
        pending = set(sent)
        said = time.monotonic()
        while pending:
            _, pending = await asyncio.wait(pending, timeout=BEAT_S)
            if pending and self._closing.is_set():
                await self._discard()
                raise BrokerError(
                    f"stopped while Kafka at {self._settings.bootstrap_servers} did not take "
                    f"{len(pending)} message(s)"
                )
            if pending and time.monotonic() - said >= 10.0:
                said = time.monotonic() + SAY_EVERY_S
                log.warning("broker_unreachable", reason=f"{len(pending)} message(s) wait to be written")

    async def _running(self) -> AIOKafkaProducer:
        if self._producer is None:
            # A batch counts as a message against max.message.bytes: the smallest topic sets its size.
            size = min([BATCH_BYTES, *self._limits.values()])
            self._producer = await _started(
                lambda: AIOKafkaProducer(
                    **self._arguments,
                    enable_idempotence=True,
                    acks="all",
                    max_batch_size=size,
                    max_request_size=LARGEST_REQUEST,
                ),
                self._settings,
            )
        return self._producer

    async def _discard(self, within_s: float = 1.0) -> None:
        """Never use a producer again after a failed batch: all that follow would fail too."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await _quietly(producer.stop())
        # ``stop`` waits for what is unsent, so without a broker for ever: end its task by hand.
        sender = producer._sender.sender_task
        if sender is not None and not sender.done():
            sender.cancel()
            await _quietly(producer.client.close())
            await asyncio.wait({sender}, timeout=STOP_S)

    async def _wait(self, backoff: _Backoff, error: BaseException) -> None:
        seconds = backoff.after(error)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        if self._closing.is_set():
            raise BrokerError(
                f"stopped while Kafka at {self._settings.bootstrap_servers} could not be written: {error}"
            ) from error

    # -------------------------------------------------------------- sizes
    async def _check(self, message: Message) -> None:
        backoff = _Backoff()
        while message.topic not in self._limits:
            try:
                await self._learn(message.topic)
            except UnreachableError as error:
                await self._wait(backoff, error)
        size, limit = stored_size(message), self._limits[message.topic]
        if size > limit:
            raise BrokerError(
                f"a message of {size} bytes is too large for topic {message.topic!r}, "
                f"which takes {limit} (max.message.bytes)"
            )

    async def _learn(self, topic: str) -> None:
        """What the topic takes; a missing one is said now, not after the client's 40 s."""
        async with _administering(self._settings) as admin:
            if topic not in await _partitions(admin):
                raise BrokerError(_missing(self._settings, [topic]))
            resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": None})
            limit = DEFAULT_LIMIT
            for answer in await admin.describe_configs([resource]):
                for code, _, _, _, entries in answer.resources:
                    if code == 0:  # else: no right to see it; Kafka's default it is
                        limit = min([int(entry[1]) for entry in entries] or [limit])
        self._limits[topic] = limit
        if self._producer is not None and limit < BATCH_BYTES:
            await self.stop()


def stored_size(message: Message) -> int:
    """Bytes of a batch that holds only this message, from above (record format v2)."""
    size = 61 + 21 + 10 + len(message.key or b"") + len(message.value or b"")
    return size + sum(10 + len(name.encode()) + len(value or b"") for name, value in message.headers)


class KafkaSink:
    """Outputs to the topics ``<prefix>.<suffix>``, at least once.

    ``encode`` says what each output is as a message; ``codec.encode`` without its clock.
    """

    def __init__(self, settings: KafkaSettings, prefix: str, encode: Callable[[Output], Encoded]) -> None:
        self._writer = Writer(settings)
        self._prefix = prefix
        self._encode = encode

    async def publish(self, outputs: Sequence[Output]) -> None:
        """See ``ports.Sink``; waits while the broker is away."""
        if outputs:
            await self._writer.write([self._message(self._encode(output)) for output in outputs])

    def close(self) -> None:
        """End a ``publish`` that waits for a broker (SIGTERM)."""
        self._writer.close()

    async def stop(self) -> None:
        """Close the connection."""
        await self._writer.stop()

    def _message(self, encoded: Encoded) -> Message:
        return Message(f"{self._prefix}.{encoded.topic}", encoded.key, encoded.value, encoded.headers)


# ------------------------------------------------------------------ following a compacted topic
class Follower:
    """Reads a whole topic from its start, without a group, and then what is added to it."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._arguments = connection(settings)
        self._topic = topic
        self._consumer: AIOKafkaConsumer | None = None

    async def catch_up(self) -> list[Entry]:
        """Everything up to the end that the log has now.

        Until the *position* is there: markers and compaction take up offsets, records cannot
        be counted.

        Raises:
            InputError: the topic does not exist.
            BrokerError: it cannot be read, or not within the deadline.
        """
        consumer = await self._running()
        entries: list[Entry] = []
        with self._explaining():
            async with asyncio.timeout(2 * DEADLINE_S):
                ends = await consumer.end_offsets(list(consumer.assignment()))
                while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                    entries += await self._read(WAIT_MS)
        return entries

    async def poll(self) -> list[Entry]:
        """What came since, without a wait."""
        await self._running()
        with self._explaining():
            async with asyncio.timeout(DEADLINE_S):
                return await self._read(0)

    async def stop(self) -> None:
        """Close the connection. Safe to call twice; a later read begins anew."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await _quietly(consumer.stop())

    async def _read(self, wait_ms: int) -> list[Entry]:
        assert self._consumer is not None
        await asyncio.sleep(
            0
        )  # getmany without a wait never yields: a loop around it would starve the fetcher
        try:
            batches = await self._consumer.getmany(timeout_ms=wait_ms)
        except OffsetOutOfRangeError:
            # Deleted and made again, or compacted away: what follows replaces what was.
            starts = await self._consumer.beginning_offsets(list(self._consumer.assignment()))
            for tp, start in starts.items():
                self._consumer.seek(tp, start)
            return []
        return [Entry(record.key or b"", record.value) for batch in batches.values() for record in batch]

    async def _running(self) -> AIOKafkaConsumer:
        if self._consumer is not None:
            return self._consumer
        counts = await check_topics(self._settings, [self._topic])
        consumer = await _started(
            lambda: AIOKafkaConsumer(
                **self._arguments,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
            ),
            self._settings,
        )
        partitions = [TopicPartition(self._topic, number) for number in range(counts[self._topic])]
        try:
            with self._explaining():
                async with asyncio.timeout(DEADLINE_S):
                    consumer.assign(partitions)
                    for tp, start in (await consumer.beginning_offsets(partitions)).items():
                        consumer.seek(tp, start)
        except BrokerError:
            await _quietly(consumer.stop())
            raise
        self._consumer = consumer
        return consumer

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except (KafkaError, TimeoutError) as error:
            raise BrokerError(f"topic {self._topic!r} could not be read: {_plain(error)}") from error


# ------------------------------------------------------------------ what is there now
@dataclass(frozen=True, slots=True)
class Piece:
    """Records of one partition, in their order, and the share of the whole read so far."""

    partition: InputPartition
    records: list[Record]
    share: float


async def read_now(
    settings: KafkaSettings, topics: Sequence[str], newest: int | None = None
) -> AsyncIterator[Piece]:
    """What the topics hold now, without a group: every partition up to the end it has at the start.

    Args:
        settings: the connection; its group is not used and nothing is committed.
        topics: all of them must exist.
        newest: of each partition only as many offsets at its end; None reads from its start.

    Raises:
        InputError: a topic does not exist.
        BrokerError: it cannot be read, or Kafka stops answering.
    """
    arguments = connection(settings)
    counts = await check_topics(settings, topics)
    consumer = await _started(
        lambda: AIOKafkaConsumer(
            **arguments, enable_auto_commit=False, auto_offset_reset="none", isolation_level="read_committed"
        ),
        settings,
    )
    what = ", ".join(topics)
    try:
        with _while_reading(what):
            async with asyncio.timeout(DEADLINE_S):
                partitions = [TopicPartition(name, n) for name, count in counts.items() for n in range(count)]
                consumer.assign(partitions)
                ends = await consumer.end_offsets(partitions)
                starts = await consumer.beginning_offsets(partitions)
        if newest is not None:
            starts = {tp: max(start, ends[tp] - newest) for tp, start in starts.items()}
        for tp, start in starts.items():
            consumer.seek(tp, start)
        at = dict(starts)
        left = {tp for tp in partitions if starts[tp] < ends[tp]}
        consumer.pause(*(set(partitions) - left))
        total = sum(ends[tp] - starts[tp] for tp in left)
        moved = time.monotonic()
        while left:
            with _while_reading(what):
                async with asyncio.timeout(DEADLINE_S):
                    try:
                        batches = await consumer.getmany(timeout_ms=WAIT_MS, max_records=MAX_RECORDS)
                    except OffsetOutOfRangeError:  # retention was quicker: what is left begins later
                        for tp, start in (await consumer.beginning_offsets(list(left))).items():
                            consumer.seek(tp, max(start, at[tp]))
                        continue
                    # Markers and compaction take up offsets: the position passes them, records do not.
                    reached = {tp: min(await consumer.position(tp), ends[tp]) for tp in left}
            if any(reached[tp] > at[tp] for tp in left):
                moved = time.monotonic()
            elif time.monotonic() - moved > DEADLINE_S:
                raise UnreachableError(
                    f"Kafka at {settings.bootstrap_servers} sent nothing of {what} for {DEADLINE_S:.0f} s"
                )
            at |= reached
            share = sum(at[tp] - starts[tp] for tp in partitions if starts[tp] < ends[tp]) / total
            for tp, found in batches.items():
                records = [
                    Record(r.offset, r.key, r.value or b"", r.timestamp * 1_000_000)
                    for r in found
                    if r.offset < ends[tp]
                ]
                if records:
                    yield Piece(InputPartition(tp.topic, tp.partition), records, share)
            over = {tp for tp in left if at[tp] >= ends[tp]}
            if over:
                consumer.pause(*over)
                left -= over
    finally:
        await _quietly(consumer.stop())


@contextlib.contextmanager
def _while_reading(what: str) -> Iterator[None]:
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        raise BrokerError(f"topic {what} could not be read: {_plain(error)}") from error


async def newest_records(settings: KafkaSettings, topic: str, count: int) -> tuple[list[Record], bool]:
    """The newest records of a topic by their timestamps, oldest first, and whether it has no others.

    Raises:
        InputError: the topic does not exist.
        BrokerError: it cannot be read.
    """
    found = [record async for piece in read_now(settings, [topic], count) for record in piece.records]
    if len({record.timestamp_ns for record in found}) > 1:
        found.sort(key=lambda record: record.timestamp_ns)
    return found[-count:], len(found) < count
