"""Errors of aiokafka in words, and which of them are final.

``REFUSED`` and ``DENIED`` list what another try would not mend. ``start_failure`` explains in one line why a
client did not start, from the error and from the lines that aiokafka logged meanwhile; ``describe`` puts a
single error into words.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

from aiokafka.errors import (
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

from daemon.adapters.kafka.settings import START_S, KafkaSettings
from daemon.errors import BrokerError, ConfigError, DaemonError

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
"""A send that failed with one of these would fail again, however often it is tried."""
DENIED = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
"""An ACL is missing."""


class UnreachableError(BrokerError):
    """Kafka cannot be reached now; trying again may help."""


def start_failure(error: BaseException, logged: Sequence[str], settings: KafkaSettings) -> DaemonError:
    """The error, with a message of one line, for whatever kept a client from starting.

    Args:
        error: what aiokafka raised; it seldom holds the reason.
        logged: what aiokafka logged while the client started; the reason is usually here.
        settings: the connection; the message names the settings that are to blame.
    """
    servers = settings.bootstrap_servers
    everything = f"{' | '.join(logged)} | {error!r}"
    if isinstance(error, DENIED):
        return BrokerError(f"Kafka at {servers}: {describe(error)}")
    if isinstance(error, AssertionError):
        # aiokafka asserts this when a broker that restarts answers before it knows any broker, itself included.
        return UnreachableError(f"Kafka at {servers} names no brokers yet")
    if found := re.search(r"AuthenticationFailedError: (.*?kafka\.token_file .*?)(?: \||$)", everything):
        return BrokerError(f"Kafka at {servers} was not reached: {found[1]}")
    if isinstance(error, KeyError) or re.search(
        r"SaslAuthenticationFailed|[Aa]uthentication failed", everything
    ):
        # aiokafka raises KeyError('v') for a refused SCRAM proof: the answer holds an error and no verifier.
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
    reason = _reason(logged) or (
        f"no answer within {START_S:.0f} s" if isinstance(error, TimeoutError) else str(error)
    )
    hint = ""
    if re.search(r"\bclosed\b|reset by peer|IncompleteRead", reason):
        hint = f" (is kafka.security_protocol {settings.security_protocol} right for this port?)"
    return UnreachableError(f"Kafka at {servers} cannot be reached: {reason}{hint}")


def _reason(logged: Sequence[str]) -> str:
    """The last logged line that names why a server could not be used."""
    for line in reversed(logged):
        if found := re.search(r'Unable (?:connect to|to request metadata from) ".*?": ?(.*)', line):
            # A TLS handshake that the other side ends has no text at all.
            return found[1].strip() or "the connection was closed"
    return logged[-1].strip() if logged else ""


def describe(error: BaseException, right: str = "READ") -> str:
    """An aiokafka error in words; its class usually tells more than its text.

    Args:
        error: the error.
        right: the right that was needed on a topic, should the error be that it is missing.
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


def group_failure(error: KafkaError, settings: KafkaSettings) -> DaemonError:
    """The error for what ends the membership of a group.

    A member that comes back under its instance id has the assignment from before, whatever it subscribes to now:
    aiokafka asserts that these are its topics. They are those of another configuration where both say the same names.
    """
    found = re.search(r"assignment for unsubscribed topic: TopicPartition\(topic='([^']+)'", str(error))
    if found is None:
        return BrokerError(f"Kafka at {settings.bootstrap_servers}: {describe(error)}")
    return ConfigError(
        f"kafka.group_id {settings.group_id!r}: the group gives this process topic {found[1]!r}, which none of its"
        f" streams reads, because another configuration has the same group and instance_id {settings.instance_id!r}:"
        " give each configuration a group_id of its own"
    )


@contextlib.contextmanager
def while_reading(what: str) -> Iterator[None]:
    """Turn errors of aiokafka into ours, with the name of what was being read.

    Raises:
        UnreachableError: the error may pass.
        BrokerError: it will not.
    """
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        passing = isinstance(error, TimeoutError) or getattr(error, "retriable", False)
        kind = UnreachableError if passing else BrokerError
        raise kind(f"topic {what} could not be read: {describe(error)}") from error
