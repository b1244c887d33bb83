"""How Kafka is reached, and the one clear line where it cannot be.

The reason why a client does not start is only in aiokafka's log, so that log is overheard.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import math
import random
import re
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.abc import AbstractTokenProvider
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnknownError,
    UnknownTopicOrPartitionError,
)
from aiokafka.helpers import create_ssl_context

from daemon.adapters.kafka.addresses import PLAINTEXT_PROTOCOLS, elsewhere, servers
from daemon.documents import DocumentError, read_file
from daemon.domain import Position
from daemon.errors import BrokerError, ConfigError, DaemonError

log = structlog.get_logger(__name__)


CLIENT_ID = "anomalyd"
DEADLINE_S = 30.0  # for one administrative question
WAIT_MS = 500  # for records, per poll
MAX_RECORDS = 20_000  # per poll, so that what a fetch brought (1 MiB a partition) is seldom cut up; the pipeline yields within
ALERT_S = 2.0
START_S = 15.0  # for one attempt to connect
STOP_S = 10.0
SAY_EVERY_S = 60.0

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")

REFUSED = (
    TopicAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    InvalidTopicError,
    PolicyViolationError,
    UnknownTopicOrPartitionError,
    UnknownError,
)
"""A send that failed with one of these fails again, however often it is tried."""

DENIED = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
"""An ACL is missing."""


class UnreachableError(BrokerError):
    """Kafka cannot be reached now; trying again may help."""


# ------------------------------------------------------------------ values
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
class CheckResult:
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
class TopicShape:
    """What must be known of a topic to write to it."""

    partitions: int
    limit: int  # bytes of a message, and of a batch


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One record as a follower sees it; a None value deletes its key. Like ``Saved``, there may be many."""

    key: bytes
    value: bytes | None
    partition: int = 0


# ------------------------------------------------------------------ what a commit says besides the offset
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


# ------------------------------------------------------------------ connecting
class _Token(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """The token of OAUTHBEARER: read anew for each connection, as whoever issues it replaces it."""

    def __init__(self, file: str) -> None:
        self._file = file

    def read(self) -> str:
        """The token as it is now.

        Raises:
            ConfigError: there is none that could be shown to a broker.
        """
        try:
            token = read_file(Path(self._file)).decode("ascii").strip()
        except DocumentError as error:
            raise ConfigError(f"kafka.token_file {self._file} {error}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"kafka.token_file {self._file} holds no token") from error
        if not re.fullmatch(r"[!-~]+", token):  # anything else would end the token, or the message
            raise ConfigError(f"kafka.token_file {self._file} holds no token")
        return token

    async def token(self) -> str:
        """See aiokafka, which takes a connection whose token was refused for a good one.

        Raises:
            AuthenticationFailedError: there is none now, or it has expired; aiokafka tries again.
        """
        try:
            token = self.read()
        except ConfigError as error:
            raise AuthenticationFailedError(str(error)) from error
        if (expiry := expires(token)) is not None and expiry <= time.time():
            when = datetime.fromtimestamp(expiry, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            raise AuthenticationFailedError(f"the token of kafka.token_file {self._file} expired at {when}")
        return token


def expires(token: str) -> float | None:
    """When a token expires, seconds since the epoch; None where it does not say so, as only a JWT does."""
    try:
        claims = token.split(".")[1]
        expiry = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
        return float(expiry) if math.isfinite(expiry) and 0 <= expiry < 1e11 else None
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """The arguments that every aiokafka client takes.

    Raises:
        ConfigError: for what can be told to be wrong without a broker.
    """
    away = elsewhere(host for host, _ in servers(settings.bootstrap_servers))
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": CLIENT_ID,
        "security_protocol": settings.security_protocol,
        "metadata_max_age_ms": 60_000,
    }
    if settings.security_protocol.startswith("SASL"):
        mechanism = settings.sasl_mechanism
        if mechanism not in MECHANISMS:
            raise ConfigError(f"kafka.sasl_mechanism {mechanism} is not supported: {', '.join(MECHANISMS)}")
        if mechanism in ("PLAIN", "OAUTHBEARER") and settings.security_protocol == "SASL_PLAINTEXT":
            secret = "password" if mechanism == "PLAIN" else "token"
            raise ConfigError(
                f"kafka.sasl_mechanism {mechanism} over SASL_PLAINTEXT sends the {secret} in the clear: "
                "use SASL_SSL"
            )
        arguments["sasl_mechanism"] = mechanism
        if mechanism == "OAUTHBEARER":
            if settings.token_file is None:
                raise ConfigError("kafka.sasl_mechanism OAUTHBEARER needs kafka.token_file")
            token = _Token(settings.token_file)
            token.read()
            arguments["sasl_oauth_token_provider"] = token
        elif not settings.username or settings.password is None:
            raise ConfigError(
                f"kafka.sasl_mechanism {mechanism} needs kafka.username and kafka.password_file"
            )
        else:
            arguments |= {
                "sasl_plain_username": settings.username,
                "sasl_plain_password": settings.password,
            }
    if away is not None and _needs_permission(settings):
        raise ConfigError(
            f"kafka.security_protocol {settings.security_protocol} sends readings and alerts unencrypted to "
            f"{away}, which is not this machine: use SSL or SASL_SSL, or allow it with "
            "kafka.allow_plaintext: true (ANOMALYD_KAFKA__ALLOW_PLAINTEXT=true)"
        )
    if settings.security_protocol.endswith("SSL"):
        arguments["ssl_context"] = _tls(settings)
    return arguments


def _needs_permission(settings: KafkaSettings) -> bool:
    """Whether these settings may reach this machine alone."""
    return settings.security_protocol in PLAINTEXT_PROTOCOLS and not settings.allow_plaintext


def _refuse_remote_brokers(client: Any, settings: KafkaSettings) -> None:
    """Refuse a cluster that sends its clients on to other machines, where plaintext was not allowed.

    A tunnel makes a remote broker reachable as localhost, but its metadata names the address that it
    advertises, and every record would be sent there. The first connection, to the address that the
    operator wrote, has carried nothing but this metadata.

    Raises:
        ConfigError: naming the broker.
    """
    if not _needs_permission(settings):
        return
    away = elsewhere(broker.host for broker in _cluster(client).brokers())
    if away is not None:
        raise ConfigError(
            f"Kafka at {settings.bootstrap_servers} sends its clients on to {away} (its advertised listener), "
            f"which is not this machine, and kafka.security_protocol is {settings.security_protocol}: "
            "allow it with kafka.allow_plaintext: true"
        )


def _cluster(client: Any) -> Any:
    """The metadata of a started client, of whichever kind."""
    return (getattr(client, "_client", None) or client.client).cluster


def _tls(settings: KafkaSettings) -> ssl.SSLContext:
    if bool(settings.cert_file) != bool(settings.key_file):
        raise ConfigError("kafka.cert_file and kafka.key_file come together or not at all")
    for name in ("ca_file", "cert_file", "key_file"):
        path = getattr(settings, name)
        if path is not None:
            try:
                read_file(Path(path))
            except DocumentError as error:
                raise ConfigError(f"kafka.{name} {path} {error}") from error
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
    if isinstance(error, DENIED):
        return BrokerError(f"Kafka at {servers}: {plain(error)}")
    if isinstance(error, AssertionError):
        # aiokafka's, when a broker that comes back answers before it has met any, itself included.
        return UnreachableError(f"Kafka at {servers} names no brokers yet")
    if found := re.search(r"AuthenticationFailedError: (.*?kafka\.token_file .*?)(?: \||$)", everything):
        return BrokerError(f"Kafka at {servers} was not reached: {found[1]}")
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
    if found := re.search(
        r"certificate verify failed: ((?:hostname|ip address) mismatch[^(|]*)", everything, re.IGNORECASE
    ):
        return BrokerError(
            f"the certificate of Kafka at {servers} is another host's than kafka.bootstrap_servers names: "
            f"{found[1].strip()}"
        )
    if found := re.search(r"certificate verify failed: ([^(|]*)", everything, re.IGNORECASE):
        return BrokerError(
            f"the certificate of Kafka at {servers} is not trusted with kafka.ca_file "
            f"{settings.ca_file}: {found[1].strip()}"
        )
    if found := re.search(
        r"certificate required|bad certificate|certificate unknown|certificate expired|unknown ca"
        r"|handshake failure",
        everything.replace("_", " "),
        re.IGNORECASE,
    ):
        if settings.cert_file is None:
            return BrokerError(
                f"Kafka at {servers} asks for a client certificate: kafka.cert_file and kafka.key_file are missing"
            )
        return BrokerError(
            f"Kafka at {servers} refused the client certificate kafka.cert_file {settings.cert_file}: "
            f"{found[0].lower()}"
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
        hint = f" (is kafka.security_protocol {settings.security_protocol} right for this port?)"
    return UnreachableError(f"Kafka at {servers} cannot be reached: {reason}{hint}")


def _reason(said: Sequence[str]) -> str:
    """The last line that says why a server could not be used."""
    for line in reversed(said):
        if found := re.search(r'Unable (?:connect to|to request metadata from) ".*?": ?(.*)', line):
            # An SSL handshake that the other side ends has no text at all.
            return found[1].strip() or "the connection was closed"
    return said[-1].strip() if said else ""


def plain(error: BaseException, right: str = "READ") -> str:
    """An aiokafka error in words: its class says more than its text does.

    Args:
        right: what is wanted of a topic, should the error be that it is not granted.
    """
    if isinstance(error, DENIED):
        kind, needed = {
            GroupAuthorizationFailedError: ("group", "READ"),
            TransactionalIdAuthorizationFailed: ("transactional id", "WRITE"),
        }.get(type(error), ("topic", right))
        of = error.args[0] if error.args else ()
        names = ", ".join(map(repr, [of] if isinstance(of, str) else sorted(of)))
        return f"this user lacks {needed} on {kind} {names or '(not named)'}"
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__.removesuffix("Error")).lower()
    text = str(error).strip()
    return f"{name} ({text})" if text and text != type(error).__name__ else name


@contextlib.contextmanager
def while_reading(what: str) -> Iterator[None]:
    """Say what could not be read.

    Raises:
        UnreachableError, BrokerError: in place of what aiokafka raises.
    """
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        passing = isinstance(error, TimeoutError) or getattr(error, "retriable", False)
        kind = UnreachableError if passing else BrokerError
        raise kind(f"topic {what} could not be read: {plain(error)}") from error


def check_fetching(consumer: AIOKafkaConsumer, what: str) -> None:
    """See that a consumer still asks for records: its task may have died, and it never says so.

    Raises:
        UnreachableError: it has; a new consumer may fare better.
    """
    task: asyncio.Task[None] = consumer._fetcher.error_future
    if task.done():
        error = None if task.cancelled() else task.exception()
        why = "ended" if error is None else plain(error.__cause__ or error)
        raise UnreachableError(f"the client stopped asking for {what}: {why}")


async def _alert(settings: KafkaSettings) -> str:
    """What the broker says against our certificate; empty where it says nothing.

    Under TLS 1.3 it comes after the handshake, and aiokafka drops it: one connection of our own hears it.
    """
    writer = None
    try:
        host, port, _ = collect_hosts(settings.bootstrap_servers)[0]
        async with asyncio.timeout(ALERT_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=_tls(settings))
            await reader.read(1)
    except ssl.SSLError as error:
        return str(error.reason or "")
    except (OSError, TimeoutError):
        pass
    finally:
        if writer is not None:
            writer.transport.abort()
    return ""


def _refused_token(client: Any, settings: KafkaSettings) -> bool:
    """Whether the client only seems to have started.

    aiokafka does not read the answer to its token, and takes the error that it then gets for the
    metadata of a cluster without brokers.
    """
    return settings.sasl_mechanism == "OAUTHBEARER" and not _cluster(client).brokers()


async def quietly(closing: Awaitable[Any], within_s: float = STOP_S) -> None:
    """End a client that may be half made, on a broker that may be gone."""
    # A task of its own: what aiokafka cancels of itself on the way would else cancel whoever waits here.
    task = asyncio.ensure_future(closing)
    try:
        await asyncio.wait({task}, timeout=within_s)
    finally:
        task.cancel()
    await asyncio.wait({task}, timeout=1.0)
    if task.done() and not task.cancelled():
        with contextlib.suppress(KafkaError, OSError, TimeoutError, AssertionError):
            task.result()


class _Client(Protocol):
    async def start(self) -> None: ...


C = TypeVar("C", bound=_Client)


def _ending(client: Any) -> Awaitable[Any]:
    ended: Awaitable[Any] = client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop()
    return ended


async def started(make: Callable[[], C], settings: KafkaSettings, deadline_s: float = START_S) -> C:
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
            if not _refused_token(client, settings):
                _refuse_remote_brokers(client, settings)
                return client
            failure: DaemonError = BrokerError(
                f"Kafka at {settings.bootstrap_servers} refused the token of kafka.token_file "
                f"{settings.token_file}"
            )
        except (KafkaError, OSError, TimeoutError, KeyError, ValueError, AssertionError) as error:
            failure = _explained(error, said, settings)
            tls = settings.security_protocol.endswith("SSL")
            if tls and isinstance(failure, UnreachableError) and (alert := await _alert(settings)):
                failure = _explained(error, [*said, alert], settings)
        except ConfigError as error:
            failure = error
        except asyncio.CancelledError:
            if client is not None:
                await quietly(_ending(client))
            raise
        if client is not None:
            await quietly(_ending(client))
    raise failure


class Backoff:
    """Exponential waits with jitter, and a word about them once a minute."""

    def __init__(self, met: Callable[[], None] | None = None) -> None:
        self._tries = 0
        self._said = float("-inf")
        self._met = met

    def after(self, error: BaseException) -> float:
        """How long to wait now, in seconds; says why when it was not said lately."""
        if self._met is not None:
            self._met()
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


async def closed(consumer: AIOKafkaConsumer, within_s: float = STOP_S) -> None:
    """Close a consumer, its connections too: where its fetch task has died, ``stop`` ends before them."""
    await quietly(consumer.stop(), within_s)
    await quietly(consumer._client.close())


async def discard(producer: AIOKafkaProducer, within_s: float = 1.0) -> None:
    """Close a producer for good, whatever state it is in and whether or not there is a broker."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await quietly(producer.stop())
    # ``stop`` waits for what is unsent, so without a broker for ever: end its task by hand.
    sender = producer._sender.sender_task
    if sender is not None and not sender.done():
        sender.cancel()
        await quietly(producer.client.close())
        await asyncio.wait({sender}, timeout=STOP_S)
