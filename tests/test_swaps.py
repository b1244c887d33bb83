"""Three replicas under load while models are exchanged, verdicts told and settings reloaded: real commands on a real broker."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults import ASSETS, Trial, fleet_lines, trained, troubled_lines
from tests.running import Daemon, command, messages

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

REPLICAS, SWAPS = 3, 6
ROWS, PER_SECOND = 600, 250.0


def another(folder: Path) -> Path:
    """A model of the same fleet, of a longer history."""
    folder.mkdir()
    (folder / "fleet.jsonl").write_bytes(b"\n".join(fleet_lines(420, ASSETS)) + b"\n")
    (folder / "config.yaml").write_bytes((folder.parent / "config.yaml").read_bytes())
    options = ("-c", folder / "config.yaml", "--set", "model.kind=ppca", "--out", folder / "bundle")
    done = command("train", folder / "fleet.jsonl", *options)
    assert done.returncode == 0, done.stderr
    return folder / "bundle"


def reload(daemon: Daemon, hysteresis: float) -> None:
    """Change a setting in a daemon's file, and let it read that again."""
    document = yaml.safe_load(daemon.config.read_text())
    document["alerts"] = {"hysteresis": hysteresis}
    daemon.config.write_text(yaml.safe_dump(document))
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)


def test_nothing_is_lost_repeated_or_mixed_through_exchanges_of_models_with_verdicts_and_reloads(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    trial = Trial(tmp_path / "trial", kafka_bootstrap, trained(tmp_path, ASSETS))
    bundles = [trial.bundle, another(tmp_path / "other")]
    with contextlib.ExitStack() as stack:
        daemons = [stack.enter_context(trial.daemon(name=f"replica-{i}")) for i in range(REPLICAS)]
        for daemon in daemons:
            daemon.until(lambda state: state["state"] == "live")

        def anomalyd(*arguments: str | Path) -> Any:
            done = command(*arguments, "-c", daemons[0].config, "--json")
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        versions = [anomalyd("models", "import", bundle)["version"] for bundle in bundles]
        assert versions[0] != versions[1]
        in_force = []
        lines = troubled_lines(ROWS, ASSETS)
        share = len(lines) // (SWAPS + 1) + 1
        for swap in range(SWAPS):
            in_force.append(versions[swap % 2 == 0])
            with trial.flowing(lines[swap * share : (swap + 1) * share], PER_SECOND):
                anomalyd("models", "promote", in_force[-1], "--reason", f"exchange {swap}")
                reload(daemons[swap % REPLICAS], 0.8 if swap % 2 else 0.85)
                alerts = messages(kafka_bootstrap, f"{trial.prefix}.alerts")
                if alerts:
                    verdict = random.Random(swap).choice(["false_alarm", "confirmed", "planned"])
                    anomalyd("feedback", alerts[-1]["data"]["fingerprint"], verdict, "--by", "operator")
                for daemon in daemons:
                    daemon.until(lambda state: state["model"] == in_force[-1])
        with trial.flowing(lines[SWAPS * share :], PER_SECOND):
            pass
        trial.wait(daemons)
        reloads = [
            entry for each in daemons for entry in each.events() if entry["event"] == "config_reloaded"
        ]
        assert len(reloads) >= SWAPS - REPLICAS
        assert {daemon.stop() for daemon in daemons} == {0}

    models = models_used(trial, trial.prefix)
    # Every row that one process with one model scores is scored, once, and by one model.
    assert models.keys() == models_used(trial, undisturbed(trial)).keys()
    for asset in {asset for asset, _ in models}:
        told = [model for (name, _), model in sorted(models.items()) if name == asset]
        exchanges = [model for model, _ in itertools.groupby(told)]
        assert exchanges[-1] == in_force[-1]
        assert SWAPS / 2 < len(exchanges) <= len(in_force) + 1, (asset, exchanges)
    for filled in messages(kafka_bootstrap, f"{trial.prefix}.imputed"):
        row = filled["asset"], filled["timestamp"]
        assert filled["model"] == models.get(row, filled["model"]), row


def models_used(trial: Trial, prefix: str) -> dict[tuple[str, str], str]:
    """The model that scored each row of each asset."""
    told = messages(trial.bootstrap, f"{prefix}.scores")
    used = {(row["asset"], row["timestamp"]): row["model"] for row in told}
    assert len(used) == len(told), "a row was scored twice"
    return used


def undisturbed(trial: Trial) -> str:
    """The output topics' prefix of a group of one process, which reads the topic as it is."""
    with trial.daemon(trial.undisturbed) as daemon:
        daemon.until(lambda state: state["state"] == "live" and trial.caught_up(trial.undisturbed))
        assert daemon.stop() == 0
    prefix: str = trial.undisturbed["outputs"]["prefix"]
    return prefix
