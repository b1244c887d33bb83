"""Starting and closing clients of any kind, with deadlines, and waiting between attempts.

Nothing in aiokafka bounds a wait on an unreachable broker, so every start and every close here has a deadline.
``start_client`` starts a client or raises one clear line; ``close_consumer`` and ``discard`` close a consumer and a
producer in whatever state they are; ``Backoff`` is the wait between attempts.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts
from aiokafka.errors import KafkaError

from daemon.adapters.kafka.aiokafka_inside import close_connections, fetch_task, send_task
from daemon.adapters.kafka.client_log import captured
from daemon.adapters.kafka.failures import UnreachableError, describe, start_failure
from daemon.adapters.kafka.security import refuse_remote_brokers, tls_context, token_was_refused
from daemon.adapters.kafka.settings import LOG_EVERY_S, START_S, STOP_S, KafkaSettings
from daemon.errors import BrokerError, ConfigError, DaemonError

log = structlog.get_logger(__name__)

ALERT_S = 2.0
"""For the broker's TLS alert about our certificate."""


async def _alert(settings: KafkaSettings) -> str:
    """The TLS alert with which the broker refuses our certificate; empty where there is none.

    Under TLS 1.3 the alert follows the handshake, and aiokafka drops it: a connection of our own receives it.
    """
    writer = None
    try:
        host, port, _ = collect_hosts(settings.bootstrap_servers)[0]
        async with asyncio.timeout(ALERT_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=tls_context(settings))
            await reader.read(1)
    except ssl.SSLError as error:
        return str(error.reason or "")
    except (OSError, TimeoutError):
        pass
    finally:
        if writer is not None:
            writer.transport.abort()
    return ""


async def quietly(closing: Awaitable[Any], within_s: float = STOP_S) -> None:
    """Close a client that may be half started, on a broker that may be gone; what aiokafka raises is dropped."""
    # A task of its own: aiokafka may cancel the task that closes it, which must not be the caller's.
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


def _closing(client: Any) -> Awaitable[Any]:
    closing: Awaitable[Any] = client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop()
    return closing


async def start_client(make: Callable[[], C], settings: KafkaSettings, deadline_s: float = START_S) -> C:
    """Make a client and start it.

    Args:
        make: constructs the client, from ``security.connection`` and more.
        settings: the connection, for messages.
        deadline_s: for the start.

    Raises:
        ConfigError, BrokerError: another attempt would fail, too.
        UnreachableError: another attempt may succeed.
    """
    client: C | None = None
    with captured() as logged:
        try:
            client = make()
            async with asyncio.timeout(deadline_s):
                await client.start()
            if not token_was_refused(client, settings):
                refuse_remote_brokers(client, settings)
                return client
            failure: DaemonError = BrokerError(
                f"Kafka at {settings.bootstrap_servers} refused the token of kafka.token_file "
                f"{settings.token_file}"
            )
        except (KafkaError, OSError, TimeoutError, KeyError, ValueError, AssertionError) as error:
            failure = start_failure(error, logged, settings)
            tls = settings.security_protocol.endswith("SSL")
            if tls and isinstance(failure, UnreachableError) and (alert := await _alert(settings)):
                failure = start_failure(error, [*logged, alert], settings)
        except ConfigError as error:
            failure = error
        except asyncio.CancelledError:
            if client is not None:
                await quietly(_closing(client))
            raise
        if client is not None:
            await quietly(_closing(client))
    raise failure


class Backoff:
    """Exponential waits with jitter between attempts; the reason is logged once a minute.

    Args:
        on_failure: is called at each failed attempt.
    """

    def __init__(self, on_failure: Callable[[], None] | None = None) -> None:
        self._tries = 0
        self._logged_at = float("-inf")
        self._on_failure = on_failure

    def after(self, error: BaseException) -> float:
        """How long to wait now, in seconds; logs the reason if it was not logged lately."""
        if self._on_failure is not None:
            self._on_failure()
        now = time.monotonic()
        if now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            log.warning("broker_unreachable", reason=str(error), tries=self._tries + 1)
        self._tries += 1
        # Full jitter would now and then bring all replicas back at once; half of it does not.
        ceiling: float = min(30.0, 0.25 * 2.0 ** min(self._tries, 8))
        return ceiling * random.uniform(0.5, 1.0)

    def over(self) -> None:
        """Reset after an attempt that succeeded."""
        if self._tries:
            log.info("broker_reached", tries=self._tries)
        self._tries, self._logged_at = 0, float("-inf")


async def close_consumer(consumer: AIOKafkaConsumer, within_s: float = STOP_S) -> None:
    """Close a consumer and its connections, also where its fetch task has died."""
    await quietly(consumer.stop(), within_s)
    await quietly(close_connections(consumer))


def check_fetching(consumer: AIOKafkaConsumer, what: str) -> None:
    """Check that a consumer still fetches records; its task may have died, which it does not report.

    Raises:
        UnreachableError: it has died; a new consumer may work.
    """
    task = fetch_task(consumer)
    if task.done():
        error = None if task.cancelled() else task.exception()
        why = "ended" if error is None else describe(error.__cause__ or error)
        raise UnreachableError(f"the client stopped asking for {what}: {why}")


async def discard(producer: AIOKafkaProducer, within_s: float = 1.0) -> None:
    """Close a producer for good, whatever its state, with or without a broker."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await quietly(producer.stop())
    # ``stop`` waits until all batches are sent, without a broker for ever: so its task is cancelled.
    sender = send_task(producer)
    if sender is not None and not sender.done():
        sender.cancel()
        await quietly(producer.client.close())
        await asyncio.wait({sender}, timeout=STOP_S)
