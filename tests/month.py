"""A month of four presses through the real loop on Kafka, in minutes: what a model learns, keeps, and is told.

    python -m tests.month                   # three replicas; prints each day, and a verdict on each promise
    python -m tests.month --kind mlp        # with the real model: slower

Event time runs a day at a time, as fast as the replicas can; trainings are due every three days. In the month:

* the load has a season,
* press-0 has eight faults of three kinds, one of them before each training, and one more within the rows that the
  first model learns: found again after each training,
* press-1 has a harmless event four times; its alerts are answered with ``false_alarm``,
* press-2's speed is changed for good on day 13, and the alert is answered with ``planned``,
* press-3's temperature rises a little every day: a ramp that must not be learned as normal,
* in the end a candidate of poisoned readings is trained and must be refused, and a rollback must reach all replicas
  within five seconds.

Exits 1 when a promise is broken. It starts a broker of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from tests.broker import Broker
from tests.running import Daemon, command, make_topic, messages, send

PERIOD_S = 120
DAY = 86_400 // PERIOD_S
BEGIN = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
SENSORS = ("speed", "pressure", "temperature")
PRESSES = tuple(f"press-{i}" for i in range(4))
LEARN_DAYS, RETRAIN_DAYS = 4, 3
FAULTS = (6, 9, 12, 15, 18, 21, 24, 27)  # days on which press-0 has a fault from ten to noon
LEARNED_FAULT = 2  # ... within the rows of the first training
HARMLESS = (7, 11, 16, 20)  # ... and press-1 is cleaned: its pressure falls for an hour
REGIME = 13  # ... from which press-2 runs faster
RAMP, RAMP_FROM = 0.2, 6  # noise widths a day of press-3's temperature, and the first day
REPLICAS = 3


@dataclass
class Presses:
    """The readings, day by day."""

    rng: np.random.Generator
    walk: np.ndarray = field(default_factory=lambda: np.zeros(len(PRESSES)))

    def day(self, day: int) -> Iterator[bytes]:
        """The lines of a day, in the order of their rows."""
        for row in range(DAY):
            hour = row * PERIOD_S / 3600.0
            season = 1.5 * np.sin(2 * np.pi * (hour - 9) / 24) + 0.3 * np.sin(2 * np.pi * day / 28)
            self.walk = 0.99 * self.walk + self.rng.normal(0, 0.08, len(PRESSES))
            at = BEGIN + timedelta(days=day, seconds=row * PERIOD_S)
            for i, press in enumerate(PRESSES):
                load = season + self.walk[i]
                noise = self.rng.normal(0, 1.0, 3) * (4.0, 0.05, 0.4)
                faster = 90.0 if i == 2 and day >= REGIME else 0.0
                faulty = i == 0 and day in (*FAULTS, LEARNED_FAULT) and 10 <= hour < 12
                hot, leak, slip = (faulty and day // 3 % 3 == kind for kind in range(3))
                low = 1.2 if i == 1 and day in HARMLESS and 13 <= hour < 14 else 0.0
                ramp = RAMP * 0.4 * max(day - RAMP_FROM, 0) if i == 3 else 0.0
                values = {
                    "speed": round(1400 + 60 * load + noise[0] + faster - 80 * slip, 2),
                    "pressure": round(5 + 0.6 * load + noise[1] - low - 0.8 * leak, 4),
                    "temperature": round(60 + 4 * load + noise[2] + 6 * hot + ramp, 3),
                }
                yield json.dumps({"asset": press, "ts": at.isoformat(), "values": values}).encode()


@dataclass
class Month:
    """The replicas and their topics."""

    folder: Path
    bootstrap: str
    kind: str
    daemons: list[Daemon] = field(default_factory=list)
    sent: int = 0

    def config(self, number: int) -> dict[str, Any]:
        """Of one replica."""
        return {
            "kafka": {"bootstrap_servers": self.bootstrap, "group_id": "month"},
            "streams": [
                {
                    "name": "presses",
                    "topics": ["presses"],
                    "sensors": list(SENSORS),
                    "period": f"{PERIOD_S}s",
                    "hop": 2,
                    "max_gap": "3h",
                    "silent_after": "3h",
                }
            ],
            "model": {
                "kind": self.kind,
                "learn_rows": LEARN_DAYS * DAY * len(PRESSES),
                "directory": f"models-{number}",
            },
            "retrain": {"every": f"{RETRAIN_DAYS}d", "rows": 10 * DAY * len(PRESSES)},
            "outputs": {"prefix": "month"},
        }

    def feed(self, lines: Sequence[bytes]) -> None:
        """Send lines, and wait until all of them are judged and nothing is being trained."""
        send(self.bootstrap, "presses", lines)
        self.sent += len(lines)
        self.settle()

    def settle(self) -> None:
        """Wait until all replicas have judged what was sent, and no training runs."""
        calm = 0
        while calm < 3:  # a training begins only some time after the rows that make it due
            states = [daemon.stream() for daemon in self.daemons]
            done = sum(sum(state.get("records", {}).values()) for state in states)
            training = any(state.get("training") for state in states)
            calm = calm + 1 if done >= self.sent and not training else 0
            time.sleep(1.0)  # polling other processes

    def anomalyd(self, *arguments: str) -> Any:
        """A command with ``--json``, of the first replica's configuration."""
        done = command(*arguments, "-c", self.daemons[0].config, "--json")
        if done.returncode:
            raise AssertionError(done.stderr)
        return json.loads(done.stdout)

    def alerts(self) -> list[dict[str, Any]]:
        """All messages about episodes so far."""
        return [
            message["data"] | {"asset": message["subject"]}
            for message in messages(self.bootstrap, "month.alerts")
        ]

    def opened(self, asset: str, day: int, hours: tuple[float, float]) -> list[dict[str, Any]]:
        """The alerts of an asset that opened in some hours of a day."""
        first, last = (BEGIN + timedelta(days=day, hours=hour) for hour in hours)
        return [
            each
            for each in self.alerts()
            if each["asset"] == asset
            and each["row"] == each["opened"]
            and first <= datetime.fromisoformat(each["opened"]) < last
        ]

    def verdict(self, fingerprint: str, verdict: str) -> None:
        """Answer an alert, as an operator does, and let the replicas hear it."""
        self.anomalyd("feedback", fingerprint, verdict, "--by", "operator")
        time.sleep(2.5)  # it is read every second, and taken at a commit


def main() -> int:
    """Run the month."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.month", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kind", choices=("ppca", "mlp"), default="ppca", help="of the model")
    parser.add_argument("--days", type=int, default=29)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="keep alerts, logs and configurations in this folder")
    chosen = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    console = Console(width=140)
    with contextlib.ExitStack() as stack:
        folder = chosen.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = Broker(folder / "kafka")
        broker.start()
        stack.callback(broker.kill)
        make_topic(broker.bootstrap, "presses", REPLICAS)
        month = Month(folder, broker.bootstrap, chosen.kind)
        month.daemons = [
            stack.enter_context(Daemon(folder / f"replica-{i}", month.config(i))) for i in range(REPLICAS)
        ]
        for daemon in month.daemons:
            while daemon.get("/readyz")[0] != 200:
                time.sleep(0.2)
        return report(
            console, lived(month, Presses(np.random.default_rng(chosen.seed)), chosen.days, console)
        )


def lived(month: Month, presses: Presses, days: int, console: Console) -> list[tuple[str, bool, str]]:
    """Let the days pass; what was promised, whether it was kept, and the figure."""
    began = time.monotonic()
    false_alarms: list[str] = []
    raised: list[int] = []
    planned = ""
    for day in range(days):
        month.feed(list(presses.day(day)))
        told = ""
        if day in HARMLESS:
            found = month.opened("press-1", day, (12.9, 15))
            raised += [day] if found else []
            for each in found:
                false_alarms.append(each["fingerprint"])
                month.verdict(each["fingerprint"], "false_alarm")
                told += f" false alarm told ({each['kind']})"
        if day >= REGIME and not planned:
            found = month.opened("press-2", day, (0, 24))
            if found:
                planned = found[0]["fingerprint"]
                month.verdict(planned, "planned")
                told += f" planned told ({found[0]['kind']})"
        alerts = [each for each in month.alerts() if each["row"] == each["opened"]]
        console.print(
            f"day {day:2d}  {time.monotonic() - began:6.0f} s  {len(alerts)} alerts so far{told}",
            soft_wrap=True,
        )
    (month.folder / "alerts.json").write_text(json.dumps(month.alerts(), indent=1), encoding="utf-8")
    return [*verdicts(month, days, raised, planned), poisoned(month, presses, days), rolled_back(month)]


def verdicts(month: Month, days: int, raised: Sequence[int], planned: str) -> list[tuple[str, bool, str]]:
    """What was promised of the alerts and models of the month, whether it was kept, and the figure."""
    faults = [day for day in FAULTS if day < days]
    found = [day for day in faults if month.opened("press-0", day, (9.9, 13))]
    versions = month.anomalyd("models", "list")
    opened = [each for each in month.alerts() if each["row"] == each["opened"]]
    late = [
        each
        for each in month.opened("press-2", REGIME + RETRAIN_DAYS, (0, 24.0 * days))
        if "anomaly" in each["kinds"]
    ]
    told = BEGIN + timedelta(days=REGIME + 1)
    learned = [
        each
        for each in versions
        if (each["until"] or "") >= told.isoformat() and each["gate"] and each["gate"]["promoted"]
    ]
    rising = {
        each["fingerprint"]: each for each in month.alerts() if each["asset"] == "press-3" and "trend" in each
    }
    known = [each for each in rising.values() if each["status"] == "firing"]  # by its newest message
    false = [each for each in opened if each["kind"] != "drift" and not is_expected(each, days)]
    return [
        ("every fault is found, after each training", found == faults, f"{len(found)} of {len(faults)}"),
        ("the marked false alarm is not raised a third time", len(raised) <= 2, f"raised on days {raised}"),
        (
            "the planned change closes and is learned",
            bool(planned and learned) and not late,
            f"{len(late)} anomalies later, {len(learned)} models passed the gate since",
        ),
        (
            "the ramp is not learned",
            bool(known),
            ", ".join(
                f"told on day {day_of(each)}: {each['trend']['per_day']:+.3f} a day (simulated {0.4 * RAMP:+.3f}), "
                f"{each['status']} in the end"
                for each in rising.values()
            ),
        ),
        *budgets(false, versions, days),
        (
            "trainings happened",
            len(versions) >= 3,
            f"{len(versions)} versions, {sum(v['promoted'] for v in versions)} in force",
        ),
    ]


def day_of(alert: dict[str, Any]) -> int:
    """The day of the month on which an alert opened."""
    return (datetime.fromisoformat(alert["opened"]) - BEGIN).days


def is_expected(alert: dict[str, Any], days: int) -> bool:
    """Whether something is off with the asset on the day on which the alert opened."""
    off = {
        "press-0": (*FAULTS, LEARNED_FAULT),
        "press-1": HARMLESS,
        "press-2": range(REGIME, days),
        "press-3": range(RAMP_FROM, days),
    }
    return day_of(alert) in off[alert["asset"]]


def budgets(
    false: Sequence[dict[str, Any]], versions: Sequence[dict[str, Any]], days: int
) -> list[tuple[str, bool, str]]:
    """Whether the false episodes keep to the budget, in all and under each model that was in force."""
    spent = Counter(each["model"]["version"] for each in false)
    healthy = sum(
        not is_expected({"asset": press, "opened": (BEGIN + timedelta(days=day)).isoformat()}, days)
        for press in PRESSES
        for day in range(LEARN_DAYS, days)
    )
    allowed = healthy / 7.0 * 2  # one anomaly and one deviation a week of each press
    each_allowed = allowed / max(sum(v["promoted"] or v["promoted_before"] for v in versions), 1)
    most = max(spent.values(), default=0)
    return [
        (
            "false episodes keep to the budget",
            len(false) <= allowed + 2 * allowed**0.5,
            f"{len(false)} of {allowed:.0f}: {sorted({(e['asset'], day_of(e), e['kind']) for e in false})}",
        ),
        (
            "... and after each promotion",
            most <= each_allowed + 2 * each_allowed**0.5,
            f"at most {most} with one model; {each_allowed:.1f} are budgeted for one in the mean",
        ),
    ]


def poisoned(month: Month, presses: Presses, days: int) -> tuple[str, bool, str]:
    """Let a model learn readings of which every second hour has a dead thermometer and a noisy pressure: it must be refused."""
    lines = []
    rng = np.random.default_rng(1)
    for day in range(days, days + LEARN_DAYS):
        for line in presses.day(day):
            reading = json.loads(line)
            if datetime.fromisoformat(reading["ts"]).hour % 2:
                reading["values"]["temperature"] = 20.0
                reading["values"]["pressure"] += float(rng.normal(0, 2.0))
            lines.append(json.dumps(reading).encode())
    make_topic(month.bootstrap, "poisoned", 1)
    send(month.bootstrap, "poisoned", lines)
    config = month.config(0)
    config["streams"][0]["topics"] = ["poisoned"]
    file = month.folder / "poisoned.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    done = command("train", "-c", file, "--publish", "--json", "--set", "model.directory=poisoned-models")
    newest = month.anomalyd("models", "list")[-1]["gate"]
    refused = newest and not newest["promoted"] and newest["refused_by"]
    return (
        "a poisoned candidate is refused",
        bool(refused),
        f"by {refused}: {newest and newest['reason']} {done.stderr[-200:] if done.returncode else ''}",
    )


def rolled_back(month: Month) -> tuple[str, bool, str]:
    """Roll back, and measure how long it takes until all replicas judge with the model before."""
    before = {daemon.stream()["model"] for daemon in month.daemons}
    month.anomalyd("models", "rollback", "--reason", "the month is over")
    began = time.monotonic()
    while time.monotonic() - began < 60:
        now = {daemon.stream()["model"] for daemon in month.daemons}
        if len(now) == 1 and now != before:
            took = time.monotonic() - began
            return "a rollback reaches all replicas within 5 s", took < 5, f"{took:.1f} s"
        time.sleep(0.1)
    return "a rollback reaches all replicas within 5 s", False, f"not within a minute: {now}"


def report(console: Console, promises: Sequence[tuple[str, bool, str]]) -> int:
    """Print what was promised and what came of it; the exit code."""
    table = Table("promise", "kept", "figure")
    for promise, kept, figure in promises:
        table.add_row(promise, "yes" if kept else "[red]no[/]", figure)
    console.print(table)
    return 0 if all(kept for _, kept, _ in promises) else 1


if __name__ == "__main__":
    sys.exit(main())
