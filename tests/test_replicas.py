"""One process and three of a group, over the same topics: what they learn, real commands on a real broker."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.running import Daemon, command, config_for, make_topic, messages, send, unique

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

START_S = 1_767_571_200  # 2026-01-05T00:00:00Z
EVERY_S = 1800
LEARN_ROWS = 1_500


def lines(assets: int, seconds: range) -> list[bytes]:
    """Calm readings, each asset's second after second."""
    found = []
    for second in seconds:
        rng = np.random.default_rng([second])
        for i, (a, b) in enumerate(0.3 * rng.standard_normal((assets, 2))):
            slow = float(np.sin(second / 40 + i))
            values = {"a": round(slow + a, 4), "b": round(2 * slow + b, 4)}
            found.append(json.dumps({"asset": f"p{i}", "ts": START_S + second, "values": values}).encode())
    return found


def config_of(bootstrap: str, topic: str, **more: Any) -> dict[str, Any]:
    config = config_for(bootstrap, topic, unique("out"), ["a", "b"])
    config["outputs"]["scores"] = False
    config["model"] = {"kind": "ppca", "learn_rows": LEARN_ROWS}
    # No alarm on calm readings: it would hang on how soon the first model was there, and so would the second.
    config["alerts"] = {"persistence": "8 of 8"}
    return config | more


def verdicts(daemons: list[Daemon], within: float = 120.0) -> dict[str, str]:
    """Each version that was trained, and the gate's decision on it, once there are two."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        found = {}
        for daemon in daemons:
            for model in daemon.until(lambda state: bool(state["models"]))["models"]:
                if model["result"] in ("refused", "promoted"):
                    found[model["version"]] = model["result"]
        if len(found) >= 2:
            return found
        time.sleep(0.2)  # polling other processes; nothing depends on how long
    raise AssertionError([daemon.tail() for daemon in daemons])


@pytest.mark.parametrize("assets", [7, 2])
def test_one_process_and_three_learn_the_same_models_from_the_same_topics(
    kafka_bootstrap: str, tmp_path: Path, assets: int
) -> None:
    """With two assets a partition is empty; the replica that trains may be the one that reads it."""
    topic = unique("in")
    make_topic(kafka_bootstrap, topic, 3)
    send(kafka_bootstrap, topic, lines(assets, range(EVERY_S + 300)))
    learned = []
    for count in (1, 3):
        config = config_of(kafka_bootstrap, topic, retrain={"every": f"{EVERY_S}s", "rows": 3_000})
        with contextlib.ExitStack() as stack:
            daemons = [
                stack.enter_context(
                    Daemon(
                        tmp_path / f"{count}-{i}",
                        config | {"model": {**config["model"], "directory": f"m{i}"}},
                    )
                )
                for i in range(count)
            ]
            learned.append(verdicts(daemons))
            assert {daemon.stop() for daemon in daemons} == {0}
        # However many processes there are, each training has one decision, which says what became of it.
        # A rebalance in the midst of a training lets the next leader repeat it: the same version once more.
        told = messages(kafka_bootstrap, f"{config['outputs']['prefix']}.retrain")
        decisions = list({each["version"]: each for each in told}.values())
        assert [found["trigger"]["cause"] for found in decisions] == ["first", "schedule"]
        assert [found["parent"] for found in decisions] == ["", decisions[0]["version"]]
        outcomes = {found["version"]: "promoted" if found["promoted"] else "refused" for found in decisions}
        assert outcomes == learned[-1]
    assert learned[0] == learned[1]


def test_a_restart_changes_nothing_of_what_is_learned(kafka_bootstrap: str, tmp_path: Path) -> None:
    topic = unique("in")
    make_topic(kafka_bootstrap, topic, 2)
    config = config_of(kafka_bootstrap, topic, retrain={"every": f"{EVERY_S}s", "rows": 100_000})
    before = EVERY_S - 60
    send(kafka_bootstrap, topic, lines(3, range(before)))
    first = Daemon(tmp_path / "first", config)
    with first:
        first.until(lambda state: state["state"] == "live")
        assert first.stop() == 0, first.tail()
    send(kafka_bootstrap, topic, lines(3, range(before, EVERY_S + 60)))
    second = Daemon(tmp_path / "second", config)
    with second:
        second.until(lambda state: any(entry["event"] == "training_ended" for entry in second.events()))
        assert second.stop() == 0, second.tail()
    (ended,) = [entry for entry in second.events() if entry["event"] == "training_ended"]
    assert ended["rows"] == 3 * EVERY_S
    # ``train -c`` reads the same topics in the same way.
    done = command("train", "-c", second.config, "--out", tmp_path / "bundle", "--json")
    assert done.returncode == 0, done.stderr
    assert f"learned from {3 * (EVERY_S + 60)} rows of {topic}" in done.stderr
