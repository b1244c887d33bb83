"""A candidate in shadow with two replicas on a real broker: asked for, followed by both, counted together, promoted."""

from __future__ import annotations

import contextlib
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from daemon.adapters.simulator import SENSORS, Fleet
from daemon.commands.demo import START
from tests.running import Daemon, command, config_for, make_topic, messages, send, unique

STREAM = {"period": "1m", "allowed_lateness": "2m", "max_gap": "20m", "silent_after": "20m", "window": 16}


@pytest.mark.kafka
@pytest.mark.slow
def test_two_replicas_let_a_candidate_judge_before_it_takes_over(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    topic, prefix = unique("in"), unique("out")
    make_topic(kafka_bootstrap, topic, 2)
    config = config_for(kafka_bootstrap, topic, prefix, SENSORS, **STREAM)
    config |= {"model": {"kind": "ppca", "learn_rows": 2500}, "promotion": {"shadow": "3h"}}
    ticks = Fleet(0, assets=6).records(START)

    def fed(minutes: int) -> None:
        send(kafka_bootstrap, topic, [text for tick in islice(ticks, minutes) for _, text in tick.lines])

    with contextlib.ExitStack() as stack:
        daemons = [stack.enter_context(Daemon(tmp_path / name, config)) for name in ("one", "two")]

        def anomalyd(*arguments: str) -> Any:
            done = command(*arguments, "-c", daemons[0].config)
            assert done.returncode == 0, done.stderr
            return done.stdout

        fed(500)
        first = daemons[0].until(lambda state: state["state"] == "live")["model"]
        fed(120)
        anomalyd("retrain", "--reason", "to see it")
        shadows = [daemon.until(lambda state: state["shadow"] is not None)["shadow"] for daemon in daemons]
        assert shadows[0]["version"] == shadows[1]["version"] != first
        until = {
            one["version"]: one["shadow_until"] for one in json.loads(anomalyd("models", "list", "--json"))
        }
        assert until == {first: None, shadows[0]["version"]: shadows[0]["until"]}
        fed(360)
        for daemon in daemons:
            daemon.until(lambda state: state["model"] == shadows[0]["version"])
            assert daemon.stop() == 0
    begun, over = messages(kafka_bootstrap, f"{prefix}.retrain")[-2:]
    assert (begun["promoted"], over["promoted"]) == (False, True)
    assert begun["trigger"]["cause"] == "request"
    drift = messages(kafka_bootstrap, f"{prefix}.drift")
    counted = [one for one in drift if one.get("shadow")]
    assert {one["partition"] for one in counted} == {0, 1}
    assert over["shadow"]["counts"]["windows"] > 300
