"""A daemon that is disturbed beside one that is not: what both say must be the same.

Both read the same topic, each with a group and output topics of its own; the undisturbed one
reads it when all is over. Only a CloudEvent's ``time`` may differ: it is the wall clock's.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from daemon.adapters.simulator import SENSORS, Fleet
from daemon.demo import START
from tests.running import Daemon, command, config_for, key_of, make_topic, topic_of, unique

STREAM = {
    "period": "1m",
    "allowed_lateness": "3m",
    "max_gap": "20m",
    "silent_after": "20m",
    "window": 16,
}
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

    def __init__(self, folder: Path, bootstrap: str, bundle: Path, partitions: int = 4) -> None:
        self.folder, self.bootstrap, self.bundle = folder, bootstrap, bundle
        self.partitions = partitions
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
        return Daemon(folder, config, "--model", self.bundle)

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

    def verdict(self) -> dict[str, int]:
        """Messages per topic, once both runs are found to have said the same."""
        config = self.undisturbed
        daemon = self.daemon(config)
        with daemon:
            deadline = time.monotonic() + 180
            daemon.until(lambda state: state["state"] == "live")
            while not self.caught_up(config):
                assert daemon.process is not None
                assert daemon.process.poll() is None, daemon.tail()
                assert time.monotonic() < deadline, daemon.tail()
                time.sleep(0.2)
            assert daemon.stop() == 0
        theirs = {n: said(self.bootstrap, f"{config['outputs']['prefix']}.{n}") for n in OUTPUTS}
        ours = {n: said(self.bootstrap, f"{self.prefix}.{n}") for n in OUTPUTS}
        for name in OUTPUTS:
            lost, extra = difference(theirs[name], ours[name])
            if lost or extra:
                (self.folder / "lost").write_text("\n".join(map(str, lost)))
                (self.folder / "extra").write_text("\n".join(map(str, extra)))
                raise AssertionError(
                    f"{name}: of {len(theirs[name])}, {len(lost)} lost and {len(extra)} too many"
                    f" (see {self.folder}/lost and extra):\n{lost[:1]}\n{extra[:1]}"
                )
        return {name: len(messages) for name, messages in theirs.items()}


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


__all__ = ["OUTPUTS", "Trial", "fleet_lines", "flowing", "kill", "said", "trained", "troubled_lines"]
