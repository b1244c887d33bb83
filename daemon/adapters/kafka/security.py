"""Arguments of aiokafka's clients: protocol, credentials and TLS, and the rule that plaintext stays on this machine.

``connection`` turns ``KafkaSettings`` into the arguments that every client takes, and refuses what is wrong
without asking a broker. What only a connected client can show (a cluster that sends its clients on to another
machine, a refused token) is checked by ``refuse_remote_brokers`` and ``token_was_refused``.
"""

from __future__ import annotations

import base64
import json
import math
import re
import ssl
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import AuthenticationFailedError
from aiokafka.helpers import create_ssl_context

from daemon.adapters.kafka.addresses import PLAINTEXT_PROTOCOLS, elsewhere, servers
from daemon.adapters.kafka.aiokafka_inside import brokers_of
from daemon.adapters.kafka.settings import CLIENT_ID, KafkaSettings
from daemon.documents import DocumentError, read_file
from daemon.errors import ConfigError

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")


class _TokenFile(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """The token of OAUTHBEARER, read again for each connection, because its issuer replaces the file."""

    def __init__(self, file: str) -> None:
        self._file = file

    def read(self) -> str:
        """The token that the file holds now.

        Raises:
            ConfigError: the file is unusable or holds no token.
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
        """The token for a new connection; aiokafka would take a connection with a refused token for a good one.

        Raises:
            AuthenticationFailedError: there is none now, or it has expired; aiokafka tries again later.
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
    """When a token expires, seconds since the epoch; None for a token that is no JWT or has no expiry."""
    try:
        claims = token.split(".")[1]
        expiry = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
        return float(expiry) if math.isfinite(expiry) and 0 <= expiry < 1e11 else None
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """The arguments that every aiokafka client takes.

    Raises:
        ConfigError: for settings that are wrong whatever the broker is.
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
            token = _TokenFile(settings.token_file)
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
        arguments["ssl_context"] = tls_context(settings)
    return arguments


def _needs_permission(settings: KafkaSettings) -> bool:
    """Whether these settings may be used with brokers on this machine only."""
    return settings.security_protocol in PLAINTEXT_PROTOCOLS and not settings.allow_plaintext


def refuse_remote_brokers(client: Any, settings: KafkaSettings) -> None:
    """Refuse a cluster that sends its clients on to other machines, if plaintext is not allowed.

    A tunnel makes a remote broker reachable as localhost, but its metadata names the address that it
    advertises, and every record would be sent there. The first connection, to the configured address,
    has carried nothing but this metadata.

    Raises:
        ConfigError: naming the broker.
    """
    if not _needs_permission(settings):
        return
    away = elsewhere(broker.host for broker in brokers_of(client))
    if away is not None:
        raise ConfigError(
            f"Kafka at {settings.bootstrap_servers} sends its clients on to {away} (its advertised listener), "
            f"which is not this machine, and kafka.security_protocol is {settings.security_protocol}: "
            "allow it with kafka.allow_plaintext: true"
        )


def tls_context(settings: KafkaSettings) -> ssl.SSLContext:
    """The TLS context for the configured certificates.

    Raises:
        ConfigError: a file is missing or unusable.
    """
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


def token_was_refused(client: Any, settings: KafkaSettings) -> bool:
    """Whether a client that has started was in truth refused for its token.

    aiokafka does not read the answer to its token, and takes the error that follows for the metadata of a
    cluster without brokers.
    """
    return settings.sasl_mechanism == "OAUTHBEARER" and not brokers_of(client)
