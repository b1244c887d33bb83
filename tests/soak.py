"""Disturb a daemon for as long as one likes, and compare it with an undisturbed run.

    python -m tests.soak --kills 30            # kill -9 of the daemon at random points
    python -m tests.soak --kills 30 --broker   # ... and of the broker, with freezes in between

Prints what it did and exits 1 when anything was lost or said twice. It starts a broker of its own.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.broker import Broker
from tests.faults import Trial, flowing, kill, trained, troubled_lines

ASSETS = 12


def main() -> int:
    """Run one soak."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--broker", action="store_true", help="disturb the broker too")
    parser.add_argument("--per-second", type=float, default=150.0, help="lines")
    parser.add_argument("--seconds-per-kill", type=float, default=6.0, help="how much input to prepare")
    chosen = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it is meant to lose its broker
    chance = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        broker = Broker(folder / "kafka")
        broker.start()
        try:
            bundle = trained(folder, ASSETS)
            trial = Trial(folder, broker.bootstrap, bundle)
            rows = int(chosen.kills * chosen.seconds_per_kill * chosen.per_second / ASSETS)
            lines = troubled_lines(rows, ASSETS, chosen.seed)
            print(f"{len(lines)} lines, {chosen.kills} kills, seed {chosen.seed}", flush=True)
            began = time.monotonic()
            with flowing(broker.bootstrap, trial.topic, lines, chosen.per_second):
                for i in range(chosen.kills):
                    disturb(trial, broker, chance, with_broker=chosen.broker)
                    print(f"{time.monotonic() - began:6.1f} s: kill {i + 1}", flush=True)
            with trial.daemon() as daemon:
                trial.wait([daemon], within=600)
                daemon.stop()
            try:
                counts = trial.verdict()
            except AssertionError as error:
                print(f"FAILED: {error}")
                return 1
            print(f"0 lost, 0 twice: {counts}")
            return 0
        finally:
            broker.kill()


def disturb(trial: Trial, broker: Broker, chance: random.Random, *, with_broker: bool) -> None:
    """Start a daemon, let it get somewhere, and end it (or the broker, and then it)."""
    with trial.daemon() as daemon:
        if chance.random() < 0.15:
            time.sleep(chance.uniform(0.0, 5.0))  # at any point of its start
        else:
            daemon.until(lambda state: state["scored"] > 0, within=300)
            time.sleep(chance.uniform(0.0, 2.0))
        if with_broker and chance.random() < 0.3:
            if chance.random() < 0.5:
                broker.kill()
                broker.start()
            else:
                broker.freeze()
                time.sleep(chance.uniform(0.5, 10.0))
                broker.thaw()
            time.sleep(chance.uniform(0.0, 2.0))
        kill(daemon)


if __name__ == "__main__":
    sys.exit(main())
