"""A small fleet of pumps that talks to Kafka: something for anomalyd to watch.

Each pump follows one hidden load that wanders and breathes with a ten-minute rhythm; flow,
pressure, current, temperature and vibration all depend on it. So every channel can be told from
the others, and a fault shows as a broken relation more than as an extreme value. After a healthy
spell faults begin, one at a time per pump; each start is logged, so that alerts can be compared
with it. Cells and whole rows get lost all the time.

Messages are json-wide, keyed by asset:
``{"asset": "pump-01", "ts": "2026-01-01T00:00:00.000Z", "values": {"Flow": 31.2, "Pressure": null}}``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

log = logging.getLogger("producer")

SENSORS = ("Flow", "Pressure", "Current", "Temperature", "Vibration")
CELL_LOSS = 0.01  # share of single values that are lost
ROW_LOSS = 0.002  # share of whole rows that are lost
FAULT_EVERY_S = 1800.0  # mean healthy time of one pump between two faults

Values = dict[str, float | None]


def _bearing(values: Values, share: float) -> None:
    _shift(values, "Vibration", 2.0 * share)
    _shift(values, "Current", 1.2 * share)


def _leak(values: Values, share: float) -> None:
    _shift(values, "Pressure", -1.5 * share)
    _shift(values, "Flow", 4.0 * share)


def _overheating(values: Values, share: float) -> None:
    _shift(values, "Temperature", 15.0 * share)


def _blocked(values: Values, share: float) -> None:
    _shift(values, "Flow", -10.0 * share)
    _shift(values, "Vibration", 0.8 * share)


def _dead_sensor(values: Values, share: float) -> None:
    values["Temperature"] = None


def _shift(values: Values, sensor: str, by: float) -> None:
    value = values[sensor]
    if value is not None:
        values[sensor] = value + by


FAULTS: dict[str, tuple[float, Callable[[Values, float], None]]] = {
    "bearing": (120.0, _bearing),
    "leak": (90.0, _leak),
    "overheating": (180.0, _overheating),
    "blocked": (60.0, _blocked),
    "dead_sensor": (300.0, _dead_sensor),
}
"""Kind -> (seconds it lasts, what it does to a row at share 0..1 of its full strength)."""


@dataclass(slots=True)
class Pump:
    """One simulated pump; all randomness comes from its own generator."""

    name: str
    rng: random.Random
    wander: float = 0.0  # the part of the load that is a slow random walk
    heat: float = 45.0  # degrees; follows the load with a lag of a minute
    fault: str | None = None
    fault_started: float = 0.0
    phase: float = field(init=False)

    def __post_init__(self) -> None:
        self.phase = self.rng.uniform(0, 2 * math.pi)

    def row(self, now: float, *, faults: bool) -> Values | None:
        """The row at `now` (seconds), one second after the last; None where it got lost."""
        self.wander = 0.98 * self.wander + self.rng.gauss(0, 0.012)
        load = 0.65 + 0.2 * math.sin(2 * math.pi * now / 600 + self.phase) + self.wander
        self.heat += (35 + 25 * load - self.heat) / 60
        noise = self.rng.gauss
        values: Values = {
            "Flow": 40 * load + noise(0, 0.6),
            "Pressure": 7 - 3 * load * load + noise(0, 0.06),
            "Current": 4 + 6 * load + noise(0, 0.12),
            "Temperature": self.heat + noise(0, 0.2),
            "Vibration": 1 + 0.8 * load + abs(noise(0, 0.12)),
        }
        self._go_faulty(now, faults)
        if self.fault is not None:
            _, effect = FAULTS[self.fault]
            # Full strength after fifteen seconds: faults grow.
            effect(values, min(1.0, (now - self.fault_started) / 15))
        for sensor in SENSORS:
            if self.rng.random() < CELL_LOSS:
                values[sensor] = None
        if self.rng.random() < ROW_LOSS:
            return None
        return values

    def _go_faulty(self, now: float, faults: bool) -> None:
        if self.fault is not None and now - self.fault_started >= FAULTS[self.fault][0]:
            log.info(json.dumps({"event": "fault_ended", "asset": self.name, "fault": self.fault}))
            self.fault = None
        if self.fault is None and faults and self.rng.random() < 1 / FAULT_EVERY_S:
            self.fault = self.rng.choice(sorted(FAULTS))
            self.fault_started = now
            log.info(json.dumps({"event": "fault_started", "asset": self.name, "fault": self.fault}))


def fleet(assets: int, seed: int) -> list[Pump]:
    """`assets` pumps, the same ones for the same seed."""
    return [Pump(f"pump-{i:02d}", random.Random(f"{seed}/{i}")) for i in range(1, assets + 1)]


def encode(asset: str, now: float, values: Values) -> bytes:
    """One json-wide message; `now` is seconds since the epoch."""
    ts = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    rounded = {sensor: None if value is None else round(value, 3) for sensor, value in values.items()}
    return json.dumps({"asset": asset, "ts": ts, "values": rounded}).encode()


async def connect(bootstrap_servers: str) -> AIOKafkaProducer:
    """A started producer; waits for a broker that is not up yet."""
    while True:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", linger_ms=20)
        try:
            await producer.start()
        except KafkaConnectionError:
            await producer.stop()
            log.info(json.dumps({"event": "broker_awaited", "bootstrap_servers": bootstrap_servers}))
            await asyncio.sleep(2)
        else:
            return producer


async def produce(args: argparse.Namespace) -> None:
    """One row per pump and second, for ever."""
    pumps = fleet(args.assets, args.seed)
    producer = await connect(args.bootstrap_servers)
    try:
        began = now = math.floor(time.time())
        while True:
            for pump in pumps:
                values = pump.row(now, faults=now - began >= args.healthy)
                if values is not None:
                    await producer.send(args.topic, encode(pump.name, now, values), key=pump.name.encode())
            await producer.flush()
            # Whole seconds, counted and not read: a sleep that ends a little early must not put
            # two rows into one step of the grid.
            now += 1
            await asyncio.sleep(now - time.time())
    finally:
        await producer.stop()


def main() -> None:
    """Read the command line and produce until stopped."""
    parser = argparse.ArgumentParser(description="Send simulated pump readings to Kafka.")
    parser.add_argument("--bootstrap-servers", default="localhost:29092")
    parser.add_argument("--topic", default="sensors.pumps")
    parser.add_argument("--assets", type=int, default=10)
    parser.add_argument("--healthy", type=float, default=600, help="seconds before the first fault")
    parser.add_argument("--seed", type=int, default=1)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(produce(parser.parse_args()))


if __name__ == "__main__":
    main()
