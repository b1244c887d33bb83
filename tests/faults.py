"""A daemon that is disturbed beside one that is not: what both say must be the same.

Both read the same topic, each with a group and output topics of its own; the undisturbed one
reads it when all is over. Only a CloudEvent's ``time`` may differ: it is the wall clock's.
``FAULTS`` are the disturbances: ``tests/test_faults.py`` has each once, ``tests/soak.py`` as often
and as long as one likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from daemon.adapters.kafka.group_consumer import SESSION_MS
from daemon.adapters.simulator import SENSORS, Fleet
from daemon.commands.demo import START
from tests import fragile
from tests.broker import Broker, Cluster, create_topic
from tests.running import Daemon, command, config_for, key_of, make_topic, send, topic_of, unique

STREAM = {
    "period": "1m",
    "allowed_lateness": "3m",
    "max_gap": "20m",
    "silent_after": "20m",
    "window": 16,
}
ASSETS = 12
STORM = [b"{" * (1 + i % 40) for i in range(20_000)] + [b"[" * 400_000] * 20
OUTPUTS = ("alerts", "imputed", "scores", "drift", "dead-letter")


def fleet_lines(rows: int, assets: int) -> list[bytes]:
    """Readings of a healthy fleet."""
    return [line for tick in islice(Fleet(0, assets=assets).records(START), rows) for _, line in tick.lines]


def troubled_lines(rows: int, assets: int, seed: int = 1) -> list[bytes]:
    """... with all that may happen: faults, gaps, silences, repetitions, disorder and garbage."""
    rng = random.Random(seed)
    faulty: dict[str, int] = {}  # asset -> rows for which it stays anomalous
    absent: dict[str, int] = {}
    lines: list[bytes] = []
    held: list[bytes] = []
    last: dict[str, Any] = {}
    for line in fleet_lines(rows, assets):
        try:
            reading = json.loads(line)
            asset, _ = reading["asset"], reading["values"]["Flow"]
        except (ValueError, TypeError, KeyError):  # the fleet itself stammers now and then
            lines.append(line)
            continue
        # Half a period from where a row ends: an idle log closes rows by the wall clock, and no
        # pause of a few seconds may decide whether it does.
        reading["ts"] = reading["ts"][:17] + "30Z"
        line = json.dumps(reading).encode()
        last[asset] = reading
        if absent.get(asset, 0) > 0:
            absent[asset] -= 1
            continue
        if rng.random() < 0.002:
            absent[asset] = rng.choice([1, 3, 25, 40])
        if faulty.get(asset, 0) > 0:
            faulty[asset] -= 1
            reading["values"]["Flow"] = 3 * (reading["values"].get("Flow") or 1.0)
        elif rng.random() < 0.004:
            faulty[asset] = rng.choice([2, 10, 60])
        if rng.random() < 0.05:
            reading["values"][rng.choice(SENSORS)] = None
        line = json.dumps(reading).encode()
        if rng.random() < 0.02:
            held.append(line)  # comes a little later than others
            continue
        lines.append(line)
        if held and rng.random() < 0.1:
            lines.append(held.pop(0))
        if rng.random() < 0.01:
            lines.append(line)
        if rng.random() < 0.01:
            lines.append(rng.choice([b"{", b"\xff\xfe", b'{"asset": "%s"}' % asset.encode(), b" "]))
    # No row is open when the log ends: six rows more of each asset, as its last one was.
    end = START + rows * timedelta(minutes=1)
    for i in range(6):
        ts = (end + timedelta(minutes=i, seconds=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
        held += [json.dumps({**reading, "ts": ts}).encode() for reading in last.values()]
    return lines + held


def trained(folder: Path, assets: int) -> Path:
    """A model of the healthy fleet."""
    file = folder / "fleet.jsonl"
    file.write_bytes(b"\n".join(fleet_lines(max(2400 // assets, 300), assets)) + b"\n")
    config = Daemon(folder, config_for("localhost:1", "unused", "unused", SENSORS, **STREAM)).config
    done = command("train", file, "-c", config, "--out", folder / "bundle", "--set", "model.kind=ppca")
    assert done.returncode == 0, done.stderr
    return folder / "bundle"


class Trial:
    """One input topic, one disturbed group of daemons, and the undisturbed run that judges it."""

    def __init__(
        self,
        folder: Path,
        bootstrap: str,
        bundle: Path,
        partitions: int = 4,
        broker: Broker | Cluster | None = None,
    ) -> None:
        self.folder, self.bootstrap, self.bundle = folder, bootstrap, bundle
        self.partitions = partitions
        self.broker = broker  # for what disturbs it
        self.module = "daemon"  # what runs as the daemon, disturbed or not
        self.topic = unique("in")
        make_topic(bootstrap, self.topic, partitions)
        self.disturbed, self.undisturbed = self._config(), self._config()
        self.count = 0

    def _config(self) -> dict[str, Any]:
        config = config_for(self.bootstrap, self.topic, unique("out"), SENSORS, **STREAM)
        config["kafka"]["commit_interval"] = "100ms"  # the more commits, the more there is to hit
        config["drift"] = {"interval": "30m"}
        return config

    @property
    def prefix(self) -> str:
        """Of the disturbed group's topics."""
        prefix: str = self.disturbed["outputs"]["prefix"]
        return prefix

    def daemon(self, config: Mapping[str, Any] | None = None, name: str | None = "one") -> Daemon:
        """Another process of the disturbed group, not started.

        Membership is static where it has a name: the group need not wait for a killed one's
        session to run out. Without a name it leaves the group when it ends in order.
        """
        self.count += 1
        folder = self.folder / f"daemon-{self.count}"
        config = config or self.disturbed
        config = {**config, "kafka": {**config["kafka"], "instance_id": name}}
        daemon = Daemon(folder, config, "--model", self.bundle)
        daemon.module = self.module
        return daemon

    def flowing(self, lines: Sequence[bytes], per_second: float) -> AbstractContextManager[threading.Thread]:
        """See ``flowing``; into the input topic."""
        return flowing(self.bootstrap, self.topic, lines, per_second)

    def finish(self) -> None:
        """A daemon that nothing disturbs any more does the rest."""
        with self.daemon() as daemon:
            self.wait([daemon], within=600)
            assert daemon.stop() == 0

    def caught_up(self, config: Mapping[str, Any] | None = None) -> bool:
        """Whether the group has committed all that the topic holds."""
        group = (config or self.disturbed)["kafka"]["group_id"]
        try:
            return asyncio.run(_caught_up(self.bootstrap, group, self.topic, self.partitions))
        except (KafkaError, TimeoutError, OSError):
            return False

    def wait(self, daemons: Sequence[Daemon], within: float = 180.0) -> None:
        """Return when all is committed; fails when a daemon dies before."""
        deadline = time.monotonic() + within
        for daemon in daemons:
            daemon.until(lambda state: state["state"] == "live")
        while not self.caught_up():
            for daemon in daemons:
                assert daemon.process is not None
                assert daemon.process.poll() is None, daemon.tail()
            assert time.monotonic() < deadline, daemons[0].tail()
            time.sleep(0.2)

    def outcome(self) -> Outcome:
        """What the disturbed run lost and said too often, measured by the undisturbed run."""
        config = self.undisturbed
        daemon = self.daemon(config)
        with daemon:
            deadline = time.monotonic() + 600
            daemon.until(lambda state: state["state"] == "live")
            while not self.caught_up(config):
                assert daemon.process is not None
                assert daemon.process.poll() is None, daemon.tail()
                assert time.monotonic() < deadline, daemon.tail()
                time.sleep(0.2)
            assert daemon.stop() == 0
        found = Outcome()
        for name in OUTPUTS:
            theirs = said(self.bootstrap, f"{config['outputs']['prefix']}.{name}")
            lost, extra = difference(theirs, said(self.bootstrap, f"{self.prefix}.{name}"))
            found.counts[name] = len(theirs)
            found.lost += [f"{name}: {message}" for message in lost]
            found.extra += [f"{name}: {message}" for message in extra]
        return found

    def verdict(self) -> dict[str, int]:
        """Messages per topic, once both runs are found to have said the same."""
        found = self.outcome()
        if found.lost or found.extra:
            (self.folder / "lost").write_text("\n".join(found.lost))
            (self.folder / "extra").write_text("\n".join(found.extra))
            raise AssertionError(
                f"{found} (see {self.folder}/lost and extra):\n{found.lost[:1]}\n{found.extra[:1]}"
            )
        return found.counts


@dataclass
class Outcome:
    """Messages of the undisturbed run per topic, and how the disturbed run's differ."""

    counts: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{len(self.lost)} lost, {len(self.extra)} too many, of {sum(self.counts.values())} {self.counts}"
        )


def said(bootstrap: str, topic: str) -> list[str]:
    """Every committed message to the last digit, but for the wall clock."""
    found = []
    for record in topic_of(bootstrap, topic):
        body: Any = record.value
        if not topic.endswith(".dead-letter"):
            body = json.loads(record.value)
            body.pop("time", None)
        found.append(repr((record.key, body, record.headers)))
    return found


def difference(theirs: list[str], ours: list[str]) -> tuple[list[str], list[str]]:
    """What ours lacks, and what it has too often; the order of different keys does not matter."""
    wanted, got = Counter(theirs), Counter(ours)
    return list((wanted - got).elements()), list((got - wanted).elements())


async def _caught_up(bootstrap: str, group: str, topic: str, partitions: int) -> bool:
    tps = [TopicPartition(topic, n) for n in range(partitions)]
    async with asyncio.timeout(10):
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
        try:
            await admin.start()
            await consumer.start()
            committed = await admin.list_consumer_group_offsets(group, partitions=tps)
            ends = await consumer.end_offsets(tps)
        finally:
            await admin.close()
            await consumer.stop()
    return all(tp in committed and committed[tp].offset == ends[tp] for tp in tps)


@contextmanager
def flowing(
    bootstrap: str, topic: str, lines: Sequence[bytes], per_second: float
) -> Iterator[threading.Thread]:
    """Lines that come one after the other while inside; the exit waits for the last."""
    failures: list[BaseException] = []
    abandoned = threading.Event()

    async def produce() -> None:
        # It outlives any broker fault: what is written, and in which order, is the same for both runs.
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, enable_idempotence=True, request_timeout_ms=300_000
        )
        await producer.start()
        try:
            slice_size = max(int(per_second / 20), 1)
            for i in range(0, len(lines), slice_size):
                if abandoned.is_set():
                    return
                for line in lines[i : i + slice_size]:
                    await producer.send(topic, line, key=key_of(line))
                await asyncio.sleep(slice_size / per_second)
            await producer.flush()
        finally:
            await producer.stop()

    def body() -> None:
        try:
            asyncio.run(produce())
        except BaseException as error:  # noqa: BLE001 - said where the thread is joined
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield thread
    except BaseException:
        abandoned.set()
        raise
    finally:
        thread.join(600)
    if failures:
        raise failures[0]


def kill(daemon: Daemon) -> None:
    """kill -9."""
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait(30)


def pause(seconds: float) -> None:
    """Let another process get on; where it is hit is up to chance anyway."""
    time.sleep(seconds)


def limit(bootstrap: str, topic: str, size: int) -> None:
    """Change the size of the messages that a topic takes."""

    async def alter() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            config = {"max.message.bytes": str(size)}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])
        finally:
            await admin.close()

    asyncio.run(alter())


# ------------------------------------------------------------------ the faults
@dataclass(frozen=True)
class Load:
    """How much input there is, and what is left to chance."""

    rows: int
    per_second: float
    chance: random.Random
    times: int = 3  # where a fault is one of many

    @property
    def lines(self) -> list[bytes]:
        """The input of a trial."""
        return troubled_lines(self.rows, ASSETS, self.chance.randrange(2**32))


def daemon_killed(trial: Trial, load: Load, *, with_broker: bool = False) -> None:
    """kill -9 of the daemon at random points."""
    with trial.flowing(load.lines, load.per_second):
        for _ in range(load.times):
            with trial.daemon() as daemon:
                if load.chance.random() < 0.15:
                    pause(load.chance.uniform(0.0, 5.0))  # at any point of its start
                else:
                    daemon.until(lambda state: state["scored"] > 0, within=300)
                    pause(load.chance.uniform(0.0, 2.0))
                if with_broker and load.chance.random() < 0.3:
                    _hit(trial, load)
                kill(daemon)
    trial.finish()


def both_killed(trial: Trial, load: Load) -> None:
    """... and the broker killed or frozen in between."""
    daemon_killed(trial, load, with_broker=True)


def _hit(trial: Trial, load: Load) -> None:
    assert isinstance(trial.broker, Broker)
    if load.chance.random() < 0.5:
        trial.broker.kill()
        trial.broker.start()
    else:
        trial.broker.freeze()
        pause(load.chance.uniform(0.5, 10.0))
        trial.broker.thaw()
    pause(load.chance.uniform(0.0, 2.0))


@contextmanager
def _one_under_load(trial: Trial, load: Load) -> Iterator[None]:
    """One daemon at work while inside; it does the rest and ends in order."""
    with trial.daemon() as daemon:
        with trial.flowing(load.lines, load.per_second):
            daemon.until(lambda state: state["scored"] > 0)
            yield
        trial.wait([daemon])
        assert daemon.stop() == 0


def broker_restarted(trial: Trial, load: Load) -> None:
    """kill -9 of the broker, and its start on the same log."""
    assert isinstance(trial.broker, Broker)
    with _one_under_load(trial, load):
        trial.broker.kill()
        trial.broker.start()


def broker_frozen(trial: Trial, load: Load) -> None:
    """SIGSTOP of the broker for longer than a session."""
    assert isinstance(trial.broker, Broker)
    with _one_under_load(trial, load):
        trial.broker.freeze()
        pause(SESSION_MS / 1000 + 5)
        trial.broker.thaw()


def rebalanced(trial: Trial, load: Load) -> None:
    """Processes come and go under load."""
    with ExitStack() as stack:
        with trial.flowing(load.lines, load.per_second):
            first = stack.enter_context(trial.daemon(name=None))
            first.until(lambda state: state["scored"] > 0)
            second = stack.enter_context(trial.daemon(name=None))
            second.until(lambda state: state["scored"] > 0)
            assert second.stop() == 0
            third = stack.enter_context(trial.daemon(name=None))
            third.until(lambda state: state["scored"] > 0)
            assert first.stop() == 0
        trial.wait([third])
        assert third.stop() == 0


def output_refused(trial: Trial, load: Load, topic: str = "alerts") -> None:
    """A produce inside a transaction that the broker refuses, until its topic takes it again."""
    lines = load.lines
    with trial.daemon() as daemon:
        daemon.until(lambda state: state["state"] == "live")
        send(trial.bootstrap, trial.topic, lines[: len(lines) // 4])
        trial.wait([daemon])  # what the topic takes is known by now, so it is the broker that refuses
        limit(trial.bootstrap, f"{trial.prefix}.{topic}", 100)
        send(trial.bootstrap, trial.topic, lines[len(lines) // 4 :])
        assert daemon.process is not None
        assert daemon.process.wait(120) == 1
        assert f"too large for topic '{trial.prefix}.{topic}', which takes 100" in daemon.tail()
    limit(trial.bootstrap, f"{trial.prefix}.{topic}", 1_000_000)
    trial.finish()


def dead_letters_refused(trial: Trial, load: Load) -> None:
    """A dead-letter topic that takes nothing, for a while."""
    output_refused(trial, load, "dead-letter")


def poisoned(trial: Trial, load: Load) -> None:
    """A storm of garbage, larger than what the dead-letter topic takes, and a kill in its midst."""
    for prefix in (trial.prefix, trial.undisturbed["outputs"]["prefix"]):
        small = {"max.message.bytes": "3000"}
        asyncio.run(create_topic(trial.bootstrap, f"{prefix}.dead-letter", 2, small))
    good = load.lines
    send(trial.bootstrap, trial.topic, good[: len(good) // 2])
    with trial.daemon() as daemon:
        daemon.until(lambda state: state["scored"] > 0)
        send(trial.bootstrap, trial.topic, STORM)
        daemon.until(lambda state: state["records"].get("rejected", 0) > 2000)
        kill(daemon)
    send(trial.bootstrap, trial.topic, good[len(good) // 2 :])
    trial.finish()


def coordinator_moved(trial: Trial, load: Load) -> None:
    """kill -9 of the broker that coordinates our transactions, and then of the group's."""
    assert isinstance(trial.broker, Cluster)
    group = trial.disturbed["kafka"]["group_id"]
    half = len(load.lines) // 2
    moves = (
        (f"{group}-{trial.topic}-0", True, load.lines[:half]),
        (group, False, load.lines[half:]),
    )
    with trial.daemon() as daemon:
        daemon.until(lambda state: state["state"] == "live")
        for key, of_transactions, lines in moves:
            before = daemon.stream()["scored"]
            # Half of the lines for each: a broker that starts slowly must not leave the second without any.
            with trial.flowing(lines, load.per_second):
                daemon.until(lambda state, before=before: state["scored"] > before)
                old = trial.broker.coordinator(key, of_transactions=of_transactions)
                old.kill()
                new = trial.broker.coordinator(key, of_transactions=of_transactions, but_not=old)
                assert new is not old
                daemon.until(
                    lambda state, before=before: state["scored"] > before + 100
                )  # without the old one
            trial.broker.start()
        trial.wait([daemon])
        assert daemon.stop() == 0


def model_raises(trial: Trial, load: Load) -> None:
    """A model that raises on some windows, and a kill after it did: no other window is touched."""
    trial.module = "tests.fragile"
    lines = load.lines
    for i in range(50, len(lines), 250):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            reading = json.loads(lines[i])
            reading["values"]["Flow"] = fragile.TRIGGER
            lines[i] = json.dumps(reading).encode()
    half = len(lines) // 2
    send(trial.bootstrap, trial.topic, lines[:half])
    with trial.daemon() as daemon:
        daemon.until(lambda state: state["scored"] > 0)
        kill(daemon)
    with trial.daemon() as daemon:
        send(trial.bootstrap, trial.topic, lines[half:])
        trial.wait([daemon])
        _, metrics = daemon.get("/metrics")
        assert re.search(rb'^anomalyd_dropped_total{.*"model_failed".*} [1-9]', metrics, re.M), metrics
        assert daemon.stop() == 0


FAULTS: dict[str, Callable[[Trial, Load], None]] = {
    "kill": daemon_killed,
    "kill-both": both_killed,
    "broker": broker_restarted,
    "freeze": broker_frozen,
    "rebalance": rebalanced,
    "produce": output_refused,
    "coordinator": coordinator_moved,
    "dead-letter": dead_letters_refused,
    "poison": poisoned,
    "model": model_raises,
}
ON_A_CLUSTER = ("coordinator",)
