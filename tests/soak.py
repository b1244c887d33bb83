"""Disturb a daemon for as long as one likes, and compare it with an undisturbed run.

    python -m tests.soak                                # every fault three times
    python -m tests.soak --fault kill --kills 100       # one of them, and more of it
    python -m tests.soak --fault coordinator --times 10

Prints for each trial what was lost and said too often, and exits 1 when anything was. It starts
brokers of its own: one, and for ``coordinator`` a cluster of three.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.broker import Broker, Cluster
from tests.faults import ASSETS, FAULTS, ON_A_CLUSTER, Load, Trial, trained

ROWS = 500  # of input, where a fault happens once
FROZEN_ROWS = 800  # ... and where it lasts longer than a session


def main() -> int:
    """Run the trials."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    explained = "".join(f"\n  {name}: {(fault.__doc__ or '').strip()}" for name, fault in FAULTS.items())
    parser.add_argument(
        "--fault",
        action="append",
        choices=FAULTS,
        metavar="NAME",
        help=f"may be repeated; default: all{explained}",
    )
    parser.add_argument("--times", type=int, default=3, help="trials of each fault")
    parser.add_argument(
        "--kills", type=int, default=30, help="of the daemon, in a trial of kill or kill-both"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-second", type=float, default=150.0, help="lines")
    parser.add_argument("--seconds-per-kill", type=float, default=6.0, help="how much input to prepare")
    chosen = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it is meant to lose its broker
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = trained(folder, ASSETS)
        for name in chosen.fault or FAULTS:
            broker = (Cluster if name in ON_A_CLUSTER else Broker)(folder / f"kafka-{name}")
            broker.start()
            try:
                for i in range(chosen.times):
                    trial = Trial(folder / f"{name}-{i}", broker.bootstrap, bundle, broker=broker)
                    failed += not passes(name, trial, load_of(name, chosen, chosen.seed + i))
            finally:
                broker.kill()
    return 1 if failed else 0


def load_of(name: str, chosen: argparse.Namespace, seed: int) -> Load:
    """Enough input for a fault."""
    rows = FROZEN_ROWS if name == "freeze" else ROWS
    if name.startswith("kill"):
        rows = int(chosen.kills * chosen.seconds_per_kill * chosen.per_second / ASSETS)
    return Load(rows, chosen.per_second, random.Random(seed), chosen.kills)


def passes(name: str, trial: Trial, load: Load) -> bool:
    """Run one trial and print its outcome."""
    began = time.monotonic()
    try:
        FAULTS[name](trial, load)
        outcome = trial.outcome()
    except AssertionError as error:
        print(f"{name}: FAILED after {time.monotonic() - began:.0f} s: {error}", flush=True)
        return False
    print(f"{name}: {outcome} in {time.monotonic() - began:.0f} s", flush=True)
    return not outcome.lost and not outcome.extra


if __name__ == "__main__":
    sys.exit(main())
