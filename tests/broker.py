"""A real Apache Kafka (KRaft, one node or three) on loopback, from jars: no container engine, no mock.

The jars are fetched once by Maven into the user's cache folder. ``Broker`` owns one java
process and its folder; killing it and starting it again keeps its log, so that fault tests can
own a broker each; ``Cluster`` is three of them with one quorum. An open port is not readiness: a broker is ready
when it describes its cluster and leads a topic that was just created.

The three coroutines at the end create a topic, fill it and read it whole.
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

KAFKA_VERSION = "4.3.1"
READY_WITHIN_S = 60.0
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>anomalyd.tests</groupId><artifactId>broker</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""
T = TypeVar("T")


class NoBrokerError(Exception):
    """Why no broker can run here: one sentence, used as the reason of a skip."""


# ------------------------------------------------------------------ jars
def cache_folder() -> Path:
    """Where the jars are kept between sessions."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "anomalyd" / f"kafka-{KAFKA_VERSION}"


def jars() -> Path:
    """The folder with the broker's jars, fetched with Maven when it is not there yet."""
    folder = cache_folder()
    if folder.is_dir():
        return folder
    if shutil.which("mvn") is None:
        raise NoBrokerError(
            "no Kafka for the tests: set KAFKA_BOOTSTRAP_SERVERS (deploy's compose file has a broker), "
            "or install a JDK 17+ and Maven"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Fetched beside its place and renamed: a second session never sees half a folder.
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        pom, target = Path(scratch) / "pom.xml", Path(scratch) / "jars"
        pom.write_text(POM)
        fetch = subprocess.run(
            [
                *("mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"),
                *("-DincludeScope=runtime", f"-DoutputDirectory={target}"),
            ],
            capture_output=True,
            text=True,
            timeout=900,
        )
        if fetch.returncode:
            raise NoBrokerError(
                f"no Kafka for the tests: Maven could not fetch it: {fetch.stdout.strip()[-500:]}"
            )
        try:
            target.rename(folder)
        except OSError:
            if not folder.is_dir():  # another session was quicker: its folder is as good
                raise
    return folder


def java() -> str:
    """The java command, 17 or later."""
    command = shutil.which("java")
    if command is None:
        raise NoBrokerError(
            "no Kafka for the tests: set KAFKA_BOOTSTRAP_SERVERS or install a JDK 17+ (java is missing)"
        )
    said = subprocess.run([command, "-version"], capture_output=True, text=True, timeout=60).stderr
    major = said.partition('"')[2].partition(".")[0].partition('"')[0]
    if not major.isdigit() or int(major) < 17:
        raise NoBrokerError(
            f"no Kafka for the tests: it needs a JDK 17+, this one says {said.splitlines()[:1]}"
        )
    return command


def free_port() -> int:
    """A loopback port that is free now, and not one that a client's connection may be given meanwhile.

    A broker that is killed and started again wants its port back, so the port must lie below the range of which
    systems take those of outgoing connections (from 32768 on Linux, 49152 by IANA).
    """
    while True:
        with socket.socket() as probe:
            port = 15_000 + secrets.randbelow(17_000)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


# ------------------------------------------------------------------ one broker
class Broker:
    """One node, broker and controller in one process, on ports that stay its own over restarts.

    Args:
        folder: an empty folder that is the broker's to fill; its log outlives the process.
        properties: server properties beside or over the defaults.
        format_arguments: for the storage tool, such as ``--add-scram``.
        listeners: further listeners, name -> protocol, each on a port of its own in ``ports``.
        advertised: listener -> the host that its clients are sent on to, where that is not 127.0.0.1.
        node: its number in its cluster.
    """

    def __init__(
        self,
        folder: Path,
        *,
        properties: Mapping[str, str] | None = None,
        format_arguments: Iterable[str] = (),
        listeners: Mapping[str, str] | None = None,
        advertised: Mapping[str, str] | None = None,
        node: int = 1,
    ) -> None:
        self.folder = folder
        self.node = node
        self.ports = {name: free_port() for name in ("PLAINTEXT", "CONTROLLER", *(listeners or {}))}
        self._java = java()
        self._classpath = f"{jars()}/*"
        self._format_arguments = ("--standalone", "-t", cluster_id(), *format_arguments)
        self._process: subprocess.Popen[bytes] | None = None
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **(listeners or {})}
        open_to = {name: f"{name}://127.0.0.1:{port}" for name, port in self.ports.items()}
        told = {
            name: f"{name}://{(advertised or {}).get(name, '127.0.0.1')}:{port}"
            for name, port in self.ports.items()
            if name != "CONTROLLER"
        }
        self._properties = {
            "process.roles": "broker,controller",
            "node.id": str(node),
            "listeners": ",".join(open_to.values()),
            "advertised.listeners": ",".join(told.values()),
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self.ports['CONTROLLER']}",
            "listener.security.protocol.map": ",".join(f"{k}:{v}" for k, v in protocols.items()),
            "log.dirs": str(folder / "log"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "500",
            "log.cleaner.dedupe.buffer.size": "8388608",
            **(properties or {}),
        }

    def join(self, cluster: str, voters: str) -> None:
        """Make this node one of a quorum; before the first start."""
        del self._properties["controller.quorum.bootstrap.servers"]
        self._properties["controller.quorum.voters"] = voters
        self._format_arguments = ("-t", cluster)

    @property
    def bootstrap(self) -> str:
        """Its plaintext address."""
        return self.address("PLAINTEXT")

    def address(self, listener: str) -> str:
        """``host:port`` of one listener."""
        return f"127.0.0.1:{self.ports[listener]}"

    @property
    def running(self) -> bool:
        """Whether the process was started and has not been ended since."""
        return self._process is not None

    def start(self, *, wait: bool = True) -> None:
        """Start the process (formatting the folder the first time) and wait until it is ready."""
        assert self._process is None, "already started"
        config = self.folder / "server.properties"
        if not config.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            config.write_text("".join(f"{key}={value}\n" for key, value in self._properties.items()))
            self._format(config)
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        command = [self._java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", quiet]
        command += ["-cp", self._classpath, "kafka.Kafka", str(config)]
        # A test run that is killed outright must not leave a broker behind.
        if threading.current_thread() is threading.main_thread() and (leash := shutil.which("setpriv")):
            command = [leash, "--pdeathsig", "KILL", *command]
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Return when the broker answers and leads a new topic; raise NoBrokerError when it never does."""
        give_up = time.monotonic() + READY_WITHIN_S
        while True:
            if self._process is not None and self._process.poll() is not None:
                raise NoBrokerError(f"the Kafka broker died at start: {self._last_words()}")
            try:
                return in_thread(lambda: check_ready(self.bootstrap))
            except (KafkaError, OSError, TimeoutError) as error:
                if time.monotonic() > give_up:
                    self.kill()
                    raise NoBrokerError(
                        f"the Kafka broker was not ready within {READY_WITHIN_S:.0f} s ({error!r}): "
                        f"{self._last_words()}"
                    ) from error
                time.sleep(0.1)

    def stop(self) -> None:
        """SIGTERM and wait; nothing where it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: a crash. ``start`` brings it back with its log."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)  # a frozen process takes SIGTERM only when it runs again
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)

    def _format(self, config: Path) -> None:
        tool = [self._java, "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", self._classpath]
        tool += ["kafka.tools.StorageTool"]
        done = subprocess.run(
            [*tool, "format", "-c", str(config), *self._format_arguments],
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode:
            raise NoBrokerError(
                f"the Kafka folder could not be formatted: {(done.stdout + done.stderr)[-800:]}"
            )

    @property
    def _said(self) -> Path:
        return self.folder / "broker.log"

    def _last_words(self) -> str:
        return self._said.read_text(errors="replace")[-800:] if self._said.exists() else "it said nothing"


def cluster_id() -> str:
    """A cluster id as Kafka's own tool makes it: the text must not look like an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid4().bytes).rstrip(b"=").decode()
        if not text.startswith("-"):
            return text


class Cluster:
    """Three brokers, each a controller too: any one may be killed, and the other two go on.

    Every topic has three replicas, of which two must have what was written.
    """

    def __init__(self, folder: Path) -> None:
        replicated = {
            "offsets.topic.replication.factor": "3",
            "transaction.state.log.replication.factor": "3",
            "transaction.state.log.min.isr": "2",
            "default.replication.factor": "3",
            "min.insync.replicas": "2",
        }
        self.brokers = {n: Broker(folder / str(n), properties=replicated, node=n) for n in (1, 2, 3)}
        name = cluster_id()
        voters = ",".join(f"{n}@{broker.address('CONTROLLER')}" for n, broker in self.brokers.items())
        for broker in self.brokers.values():
            broker.join(name, voters)

    @property
    def bootstrap(self) -> str:
        """The plaintext addresses of all."""
        return ",".join(broker.bootstrap for broker in self.brokers.values())

    def start(self) -> None:
        """Start those that are not running, and return when all three replicate what is written."""
        for broker in self.brokers.values():
            if not broker.running:
                broker.start(wait=False)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Return when every partition of the cluster has all its replicas in step."""
        give_up = time.monotonic() + 2 * READY_WITHIN_S
        while True:
            try:
                return in_thread(lambda: check_in_step(self.bootstrap, len(self.brokers)))
            except (KafkaError, OSError, TimeoutError) as error:
                if time.monotonic() > give_up:
                    raise NoBrokerError(f"the Kafka cluster was not ready: {error!r}") from error
                time.sleep(0.1)

    def coordinator(self, key: str, *, of_transactions: bool, but_not: Broker | None = None) -> Broker:
        """The broker that coordinates a group, or a transactional id; waits until it is another one."""

        async def ask() -> Broker:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            async with asyncio.timeout(60):
                try:
                    await admin.start()
                    while True:
                        try:
                            found = self.brokers[int(await admin.find_coordinator(key, int(of_transactions)))]
                            if found is not but_not:
                                return found
                        except KafkaError as error:  # none yet, or the one asked is gone
                            if not error.retriable:
                                raise
                        await asyncio.sleep(0.1)
                finally:
                    await admin.close()

        return in_thread(ask)

    def kill(self) -> None:
        """End all."""
        for broker in self.brokers.values():
            broker.kill()


# ------------------------------------------------------------------ what tests do with one
def in_thread(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end on a loop of its own, whatever loop this thread has."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(asyncio.run(make()))
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread
            failure.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


async def check_ready(bootstrap: str) -> None:
    """Raise unless the broker describes its cluster and leads a topic that was just created."""
    async with asyncio.timeout(10):
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
        try:
            await admin.start()
            cluster = await admin.describe_cluster()
            if not cluster["brokers"]:
                raise KafkaError("no broker in the cluster yet")
            name = f"ready-{uuid4().hex[:8]}"
            await _create(admin, name, 1, {})
            while True:
                described = await admin.describe_topics([name])
                if described[0]["error_code"] == 0 and described[0]["partitions"][0]["leader"] >= 0:
                    break
                await asyncio.sleep(0.05)
            await admin.delete_topics([name])
        finally:
            await admin.close()


async def check_in_step(bootstrap: str, brokers: int) -> None:
    """Raise unless so many brokers are there and every replica of every partition is in step."""
    async with asyncio.timeout(10):
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
        try:
            await admin.start()
            there = len((await admin.describe_cluster())["brokers"])
            behind = [
                topic["topic"]
                for topic in await admin.describe_topics()
                for partition in topic["partitions"]
                if partition["leader"] < 0 or len(partition["isr"]) < len(partition["replicas"])
            ]
        finally:
            await admin.close()
    if there < brokers or behind:
        raise KafkaError(f"{there} of {brokers} brokers; behind: {sorted(set(behind))}")


async def _create(admin: AIOKafkaAdminClient, name: str, partitions: int, config: Mapping[str, str]) -> None:
    answer = await admin.create_topics(
        [NewTopic(name, partitions, -1, replica_assignments={}, topic_configs=dict(config))]
    )
    for topic, code, *said in answer.topic_errors:
        if code:
            raise KafkaError(f"topic {topic} was not created: error {code} {said}")


async def create_topic(
    bootstrap: str, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
) -> None:
    """Create a topic with the broker's default replication and wait until it has its leaders."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    async with asyncio.timeout(30):
        try:
            await admin.start()
            await _create(admin, name, partitions, config or {})
            while True:
                described = (await admin.describe_topics([name]))[0]
                leaders = [part["leader"] for part in described["partitions"] if part["error_code"] == 0]
                if described["error_code"] == 0 and len(leaders) == partitions and min(leaders) >= 0:
                    return
                await asyncio.sleep(0.05)
        finally:
            await admin.close()


async def produce(
    bootstrap: str,
    topic: str,
    records: Iterable[tuple[bytes | None, bytes | None]],
    *,
    partition: int | None = None,
) -> None:
    """Write (key, value) records in order and return when all are durable."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, linger_ms=5)
    async with asyncio.timeout(120):
        await producer.start()
        try:
            sent = [await producer.send(topic, value, key=key, partition=partition) for key, value in records]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()


async def read_topic(bootstrap: str, topic: str) -> list[ConsumerRecord[bytes, bytes]]:
    """Every committed record of a topic, by partition and offset.

    Reads until the *position* reaches each partition's end: transaction markers and compaction
    take up offsets, so records cannot be counted. The end is the log's, not that of what is
    committed: a transaction's markers are written a moment after its commit was answered.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": bootstrap,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
    }
    whole = AIOKafkaConsumer(isolation_level="read_uncommitted", **options)
    consumer = AIOKafkaConsumer(isolation_level="read_committed", **options)
    records: list[ConsumerRecord[bytes, bytes]] = []
    async with asyncio.timeout(120):
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            await admin.start()
            described = (await admin.describe_topics([topic]))[0]
        finally:
            await admin.close()
        partitions = [TopicPartition(topic, part["partition"]) for part in described["partitions"]]
        await whole.start()
        try:
            whole.assign(partitions)
            ends = await whole.end_offsets(partitions)
        finally:
            await whole.stop()
        await consumer.start()
        try:
            consumer.assign(partitions)
            starts = await consumer.beginning_offsets(partitions)
            for partition, start in starts.items():
                consumer.seek(partition, start)
            while any([await consumer.position(part) < end for part, end in ends.items()]):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    records.extend(batch)
        finally:
            await consumer.stop()
    return sorted(records, key=lambda record: (record.partition, record.offset))
