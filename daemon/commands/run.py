"""``anomalyd run``: the loop on Kafka, its admin port, its signals, and an orderly end.

Only this file creates tasks. SIGTERM closes the source; the loop publishes and commits what
is in flight, leaves the group, and the process exits 0. A crash of any task ends the process
non-zero, so that whatever supervises it starts it again from the committed position.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import re
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from daemon.adapters import kafka
from daemon.adapters.admin import create_app, serve
from daemon.adapters.kafka import (
    CheckResult,
    KafkaSettings,
    KafkaSink,
    KafkaSource,
    KafkaStats,
    StateTopic,
    TopicSpec,
    Transactions,
)
from daemon.adapters.registry import KafkaModels, ModelDirectory, models_topic
from daemon.adapters.telemetry import LAG_EVERY_S, Metrics, Status
from daemon.config import HttpSection, Settings
from daemon.documents import DocumentError, read_file
from daemon.domain import Output
from daemon.errors import BundleError, ConfigError, DaemonError
from daemon.model.bundle import Bundle
from daemon.runtime.history import Topics
from daemon.runtime.loop import Loop, StreamPlan, StreamRun, check_compatible
from daemon.stream.encoding import Encoded, encode
from daemon.stream.event_time import held_together

log = structlog.get_logger()

DRAIN_S = 45.0
"""SIGTERM to exit, at most; a StatefulSet gives 60 s."""
KEPT, MAPPED_FROM = 64 << 20, 32 << 20
"""Bytes that are kept when freed, and of a block that is mapped, and so returned, by itself."""
DESCRIPTORS = 16_384
SEGMENT_BYTES = 64 << 20
COLLECT = (10_000, 20, 1_000)
"""Objects made since the last collection of the youngest, and collections of each age before one of the next."""
RETRY_S = (0.5, 15.0)
SAY_EVERY_S = 60.0


# ------------------------------------------------------------------ from settings to adapters
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
    """The name of this process in its group, ``$hostname`` resolved to one that Kafka takes."""
    if configured != "$hostname":
        return configured
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:249]


def input_topics(settings: Settings) -> list[str]:
    """Every topic that is read."""
    return [topic for stream in settings.streams for topic in stream.topics]


def own_topics(settings: Settings, input_partitions: int | None = None) -> list[TopicSpec]:
    """Every topic that anomalyd itself writes or reads, with its settings.

    Names that the message contract reserves for control messages (``retrain``, ``feedback``) are not
    among them while nothing reads such messages.

    Args:
        settings: prefix, and whether scores are published.
        input_partitions: of the widest input topic; the state topic has as many.
    """
    prefix = settings.outputs.prefix
    kept = {"cleanup.policy": "delete"}
    # What is written last is never compacted: segments of Kafka's usual GiB would be read whole by a successor.
    compacted = {"cleanup.policy": "compact", "segment.bytes": str(SEGMENT_BYTES)}
    plain = ["alerts", "imputed", "drift", "dead-letter"] + (["scores"] if settings.outputs.scores else [])
    return [
        *(TopicSpec(f"{prefix}.{name}", None, kept) for name in plain),
        models_topic(prefix),
        TopicSpec(f"{prefix}.state", input_partitions, compacted | _room_for_state(settings)),
    ]


def _room_for_state(settings: Settings) -> dict[str, str]:
    """A longer message than usual, where an asset's window, open rows and held readings need it."""
    most = 0
    for stream in settings.streams:
        spec = stream.spec()
        rows = spec.window + 2 * (spec.allowed_lateness_ns // spec.period_ns + 1)
        most = max(most, 8 * len(spec.sensors) * (rows + 8) + 64 * rows + 2 * held_together(spec) + 65_536)
    most = min(most, 2**31 - 1)  # Kafka's own limit
    return {"max.message.bytes": str(most)} if most > 1_000_000 else {}


async def create_topics(settings: Settings) -> list[kafka.TopicState]:
    """Create what is missing of our own topics; the input topics must exist."""
    connection = kafka_settings(settings)
    widest = max((await kafka.check_topics(connection, input_topics(settings))).values())
    return await kafka.ensure_topics(connection, own_topics(settings, widest))


def connection_problem(settings: Settings) -> str | None:
    """What is wrong with how Kafka is to be reached, as far as it can be told without a broker."""
    try:
        kafka.connection(kafka_settings(settings))
    except ConfigError as error:
        return str(error)
    return None


async def probe(settings: Settings) -> list[CheckResult]:
    """What ``check --probe`` finds of the broker."""
    return await kafka.probe(kafka_settings(settings), input_topics(settings), own_topics(settings))


class ModelStore:
    """Promoted models in a directory, and in the compacted topic so that all replicas follow.

    Args:
        directory: of this process.
        topic: of the fleet; it speaks where there is one, and the directory has copies.
        keep: versions of a stream that stay in either beside those in use.
    """

    def __init__(self, directory: Path, topic: KafkaModels | None = None, keep: int = 10) -> None:
        self.directory = ModelDirectory(directory)
        self.topic = topic
        self._keep = keep
        self._turn = asyncio.Lock()  # one task at a time changes the directory, in a thread

    async def promoted(self, stream: str) -> bytes | None:
        """See ``loop.Models``."""
        if self.topic is not None:
            promotion = await self.topic.promoted(stream)
            return None if promotion is None else promotion.data
        pointer = self.directory.promoted(stream)
        return None if pointer is None else self._held(stream, pointer.version)

    async def before(self, stream: str) -> bytes | None:
        """See ``loop.Models``."""
        if self.topic is not None:
            promotion = await self.topic.before(stream)
            return None if promotion is None else promotion.data
        pointer = self.directory.promoted(stream)
        return None if pointer is None or not pointer.before else self._held(stream, pointer.before)

    async def promote(self, stream: str, bundle: bytes, version: str, reason: str) -> None:
        """See ``loop.Models``. What is too old by now is removed."""
        try:
            async with self._turn:
                await asyncio.to_thread(self._put, stream, bundle, version, reason)
        except (BundleError, OSError) as error:
            if self.topic is None:
                raise
            log.warning("model_directory_unwritable", stream=stream, reason=str(error))  # the topic has it
        if self.topic is not None:
            await self.topic.publish(stream, version, bundle)
            await self.topic.promote(stream, version, reason)
            try:
                gone = await self.topic.retire(stream, self._keep)
            except DaemonError as error:  # the next promotion does it
                log.warning("models_not_retired", stream=stream, reason=str(error))
            else:
                if gone:
                    log.info("models_retired", stream=stream, versions=gone)

    async def withdraw(self, stream: str, version: str, reason: str) -> None:
        """See ``loop.Models``."""
        now = None if self.topic is None else await self.topic.withdraw(stream, version, reason)
        try:
            async with self._turn:
                await asyncio.to_thread(self._point_back, stream, version, reason, now)
        except (BundleError, OSError) as error:
            if self.topic is None:
                raise
            log.warning("model_directory_unwritable", stream=stream, reason=str(error))

    async def poll(self) -> Sequence[tuple[str, bytes]]:
        """See ``loop.Models``."""
        if self.topic is None:
            return []
        return [(promotion.stream, promotion.data) for promotion in await self.topic.poll()]

    def _held(self, stream: str, version: str) -> bytes:
        """A bundle of the directory."""
        folder = self.directory.folder(stream, version)
        bundle = Bundle.load(folder)
        if bundle.version != version:  # the hash is over the manifest, and so over all of it
            raise BundleError(f"{folder}: holds model {bundle.version}: it is damaged")
        return bundle.to_bytes()

    def _put(self, stream: str, bundle: bytes, version: str, reason: str) -> None:
        self.directory.add(stream, version, Bundle.from_bytes(bundle).write)
        try:
            now = self.directory.promoted(stream)
        except BundleError:
            now = None  # it is replaced
        before = "" if now is None else now.before if now.version == version else now.version
        self.directory.promote(stream, version, reason, before)
        self.directory.retire(stream, self._keep)

    def _point_back(self, stream: str, version: str, reason: str, now: str | None) -> None:
        """Let the directory's pointer go from ``version`` to what the topic says, or to the one before."""
        pointer = self.directory.promoted(stream)
        if pointer is None or pointer.version != version:
            return
        target = pointer.before if now is None else now
        if target and target in self.directory.versions(stream):
            self.directory.promote(stream, target, reason)
        else:
            self.directory.withdraw(stream)


def history(settings: Settings, connection: KafkaSettings, plan: StreamPlan) -> Topics:
    """What a stream's trainings learn from: its topics, but for what the alerts name."""
    return Topics(
        connection,
        plan.spec,
        plan.retrain_rows,
        oldest=connection.start == "earliest",
        alerts=f"{settings.outputs.prefix}.alerts",
        limits=(plan.max_record_bytes, plan.max_asset_bytes, plan.max_assets),
    )


def seed_models(streams: Sequence[StreamRun], bundle: Bundle | None) -> None:
    """Let the streams that a bundle fits start with it.

    Raises:
        BundleError: it fits none.
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
    """The codec with the wall clock."""
    return lambda output: encode(output, datetime.now(UTC))


# ------------------------------------------------------------------ tasks
def reporter(stats: KafkaStats, models: KafkaModels, metrics: Metrics, status: Status) -> Callable[[], None]:
    """What to call now and then, so that what source and models have counted gets into the metrics."""
    seen = {"ok": 0, "failed": 0, "truncated": 0, "refused": 0}

    def report() -> None:
        status.joined = status.joined or stats.rebalances > 0  # ready without a partition, too
        failed = stats.stale_commits + stats.delayed_commits + stats.rewinds
        metrics.commits("ok", stats.commits - seen["ok"])
        metrics.commits("failed", failed - seen["failed"])
        metrics.restored("truncated", stats.clamped - seen["truncated"])
        metrics.bundle_refused("record", models.refused - seen["refused"])
        seen.update(ok=stats.commits, failed=failed, truncated=stats.clamped, refused=models.refused)

    return report


async def watch_event_loop(metrics: Metrics) -> None:
    """Measure how late the event loop comes back to a timer, until cancelled."""
    while True:
        due = time.monotonic() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        metrics.loop_lag(time.monotonic() - due)


@contextlib.asynccontextmanager
async def admin_port(http: HttpSection, status: Status, metrics: Metrics) -> AsyncIterator[str]:
    """Serve the admin port while inside; gives its address."""
    allow_descriptors()
    app = create_app(status, metrics, {http.host, *http.allowed_hosts})
    server = serve(app, http.host, http.port, metrics.http_refused)
    task = asyncio.create_task(server.run(), name="admin port")
    lag = asyncio.create_task(watch_event_loop(metrics), name="event loop lag")
    try:
        yield server.url
    finally:
        task.cancel()
        lag.cancel()
        await asyncio.wait({task, lag})
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


@contextlib.contextmanager
def ended_by_signals(end: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call ``end`` while inside."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def run(settings: Settings, bundle: Bundle | None = None) -> None:
    """Run on Kafka until SIGTERM.

    Raises:
        DaemonError: what cannot be waited out (a missing topic, a refused credential ...).
    """
    connection = kafka_settings(settings)
    streams = []
    for section in settings.streams:
        plan = StreamPlan.of(settings, section)
        streams.append(
            StreamRun(
                plan,
                scores=settings.outputs.scores,
                history=history(settings, connection, plan),
                drills=True,
            )
        )
    seed_models(streams, bundle)
    names = [stream.spec.name for stream in streams]
    metrics = Metrics(names, input_topics(settings))
    status = Status({stream.spec.name: stream.plan.learn_rows for stream in streams})
    status.source = "kafka"
    metrics.dependency("kafka", lambda: status.reached)
    prefix, state = settings.outputs.prefix, StateTopic(connection, settings.outputs.prefix)
    transactions, sink = None, None
    if settings.kafka.delivery == "exactly_once":
        transactions = Transactions(connection, prefix, encoder(), state)
    else:
        sink = KafkaSink(connection, prefix, encoder())
    source = KafkaSource(connection, input_topics(settings), state, transactions)
    status.silence_s = lambda: source.silence_s
    models = KafkaModels(connection, settings.outputs.prefix, names)
    ending = asyncio.Event()

    def end() -> None:
        if not ending.is_set():
            log.info("draining")
            ending.set()
            status.drain()
            source.close()

    loop = Loop(
        source,
        sink,
        streams,
        metrics,
        status,
        models=ModelStore(settings.model.directory, models, settings.model.keep),
        commit_every=settings.kafka.commit_interval,
        checkpoints=True,
        each_round=reporter(source.stats, models, metrics, status),
    )
    spare_the_collector()
    keep_freed_memory()
    log.info(
        "starting", streams=names, bootstrap_servers=connection.bootstrap_servers, group=connection.group_id
    )
    async with admin_port(settings.http, status, metrics) as address:
        log.info("admin_port_open", address=address)
        with ended_by_signals(end):
            try:
                await _reached(settings, status, ending)
                status.connected = True
                if not ending.is_set():
                    await _until_drained(loop, ending, [models] if sink is None else [sink, models])
            finally:
                await source.stop()
                if sink is not None:
                    await sink.stop()
                await models.stop()
    log.info("stopped")


def allow_descriptors() -> None:
    """Let the process open as many files and connections as it may at most, up to what it could ever use.

    Many systems begin with 1,024, which strangers on the admin port and the connections to a large
    Kafka cluster share, although the process may ask for more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def spare_the_collector() -> None:
    """Let Python's garbage collector walk over all that lives very rarely.

    Every object per asset makes such a walk longer, and nothing else goes on meanwhile: a quarter of a second
    at 100,000 assets. What is freed here is freed by its count of references; what the collector is needed for,
    cycles, it meets while they are young. What was imported stays, and is not walked over at all.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)


def keep_freed_memory() -> bool:
    """Let the C library keep what the next chunk of windows will ask for again; False where it has no such setting.

    By default glibc returns some megabytes to the kernel after every chunk, and each page that
    comes back is a fault: a tenth of the CPU with 38 sensors. It keeps 64 MiB at most now.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    trim, mmap = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD; see mallopt(3)
    return bool(mallopt(mmap, MAPPED_FROM)) and bool(mallopt(trim, KEPT))


async def _reached(settings: Settings, status: Status, ending: asyncio.Event) -> None:
    """Wait for the broker, then see to our topics. A broker that is down is said once a minute."""
    wait, said = RETRY_S[0], -SAY_EVERY_S
    with status.waiting_for("kafka"):
        while not ending.is_set():
            try:
                await create_topics(settings)
                return
            except kafka.UnreachableError as error:
                now = time.monotonic()
                if now - said >= SAY_EVERY_S:
                    said = now
                    log.warning("broker_unreachable", reason=str(error), next_try_s=round(wait, 1))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ending.wait(), wait)
                wait = min(wait * 2, RETRY_S[1])


async def _until_drained(
    loop: Loop, ending: asyncio.Event, waiting: Sequence[KafkaSink | KafkaModels]
) -> None:
    """Run the loop; once ending, give it ``DRAIN_S`` before what waits for a broker is cut off."""
    task = asyncio.create_task(loop.run(), name="loop")
    ended = asyncio.create_task(ending.wait(), name="ending")
    try:
        await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            done, _ = await asyncio.wait({task}, timeout=DRAIN_S / 2)
            if not done:
                # Publishing waits for a broker that is away: what is not committed is read again.
                log.warning("drain_cut_short", reason="outputs could not be published in time")
                for writer in waiting:
                    writer.close()
                await asyncio.wait({task}, timeout=DRAIN_S / 4)
        if not task.done():
            log.warning("drain_cut_short", reason="what is not committed is read again")
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            await task
    finally:
        ended.cancel()
        task.cancel()
