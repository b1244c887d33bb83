"""``anomalyd run`` on real Kafka: cold start, restart, hostile records, an orderly end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import yaml

from daemon.adapters.kafka import KafkaSettings
from daemon.adapters.registry import KafkaModels
from daemon.adapters.simulator import SENSORS, Fleet
from daemon.commands.demo import START
from daemon.model.bundle import Bundle
from tests.broker import Broker, produce
from tests.running import Daemon, command, config_for, make_topic, messages, send, topic_of, unique

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

STREAM = {
    "period": "1m",
    "allowed_lateness": "2m",
    "max_gap": "20m",
    "silent_after": "20m",
}
QUICK = {"kind": "ppca", "learn_rows": 1500}


def fleet_lines(rows: int, assets: int = 6, seed: int = 0) -> list[bytes]:
    """Readings of a small fleet, without faults."""
    fleet = Fleet(seed, assets=assets)
    return [line for tick in islice(fleet.records(START), rows) for _, line in tick.lines]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the fleet."""
    folder = tmp_path_factory.mktemp("bundle")
    file = folder / "fleet.jsonl"
    file.write_bytes(b"\n".join(fleet_lines(400)) + b"\n")
    config = Daemon(folder, config_for("localhost:1", "unused", "unused", SENSORS, **STREAM)).config
    done = command("train", file, "-c", config, "--out", folder / "bundle", "--set", "model.kind=ppca")
    assert done.returncode == 0, done.stderr
    return folder / "bundle"


def test_a_cold_start_trains_while_consuming_and_goes_live(kafka_bootstrap: str, tmp_path: Path) -> None:
    topic, prefix = unique("in"), unique("out")
    make_topic(kafka_bootstrap, topic, 2)
    config = config_for(kafka_bootstrap, topic, prefix, SENSORS, **STREAM) | {"model": QUICK}
    lines = fleet_lines(700)
    with Daemon(tmp_path, config) as daemon:
        assert daemon.until(lambda s: s["state"] == "learning")["model"] is None
        send(kafka_bootstrap, topic, lines[:3000])
        live = daemon.until(lambda s: s["state"] == "live")
        assert live["rows"] >= 1500
        send(kafka_bootstrap, topic, lines[3000:])
        daemon.until(lambda s: sum(s["records"].values()) == len(lines) and s["scored"] > 0)
        assert daemon.get("/readyz")[0] == 200
        assert daemon.get("/livez")[0] == 200
        assert daemon.get("/startupz")[0] == 200
        assert b"anomalyd_windows_scored_total" in daemon.get("/metrics")[1]
        assert daemon.stop(signal.SIGTERM) == 0
    version = live["model"]
    assert {m["model"] for m in messages(kafka_bootstrap, f"{prefix}.scores")} == {version}
    assert (tmp_path / "models/pumps" / version / "manifest.json").is_file()
    # A second start finds the promoted model in the registry and is live at once.
    with Daemon(tmp_path / "again", config) as daemon:
        assert daemon.until(lambda s: s["state"] == "live")["model"] == version
        assert daemon.stop() == 0


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_restart_continues_at_the_commit_with_the_same_scores(
    kafka_bootstrap: str, tmp_path: Path, bundle: Path, delivery: str
) -> None:
    lines = fleet_lines(300)
    found = {}
    for name, cuts in (("undisturbed", [len(lines)]), ("restarted", [700, 1100, len(lines)])):
        topic, prefix = unique("in"), unique("out")
        make_topic(kafka_bootstrap, topic, 2)
        config = config_for(kafka_bootstrap, topic, prefix, SENSORS, **STREAM)
        config["kafka"]["delivery"] = delivery
        done = 0
        for cut in cuts:
            with Daemon(tmp_path / f"{name}-{cut}", config, "--model", bundle) as daemon:
                daemon.until(lambda s: s["state"] == "live")
                send(kafka_bootstrap, topic, lines[done:cut])
                daemon.until(lambda s, new=cut - done: sum(s["records"].values()) == new)
                assert daemon.stop() == 0
            done = cut
        found[name] = sorted(record.value for record in topic_of(kafka_bootstrap, f"{prefix}.scores"))
    assert len(found["undisturbed"]) > 1500
    assert found["restarted"] == found["undisturbed"]  # nothing lost, nothing twice, to the last digit


HOSTILE: dict[str, tuple[bytes, str]] = {
    "not UTF-8": (b'{"asset": "pump-01\xff", "ts": 1, "values": {}}', "not_utf8"),
    "truncated": (b'{"asset": "pump-01", "ts": "2026-01-05T00:00:00Z", "val', "not_json"),
    "deep": (b'{"asset": ' + b"[" * 100_000, "too_deep"),
    "no asset": (b'{"ts": "2026-01-05T00:00:00Z", "values": {}}', "no_asset"),
    "no time": (b'{"asset": "pump-01", "values": {}}', "no_timestamp"),
    "no values": (b'{"asset": "pump-01", "ts": "2026-01-05T00:00:00Z"}', "no_values"),
    "unknown sensor": (
        b'{"asset": "pump-01", "ts": "2026-01-05T00:00:00Z", "values": {"Pressur": 1}}',
        "unknown_sensor",
    ),
    "far future": (b'{"asset": "pump-01", "ts": "2126-01-05T00:00:00Z", "values": {"Flow": 1}}', "future"),
    "before time": (b'{"asset": "pump-01", "ts": -5, "values": {"Flow": 1}}', "bad_timestamp"),
    "huge asset": (
        b'{"asset": "' + b"a" * 10_000 + b'", "ts": "2026-01-05T00:00:00Z", "values": {"Flow": 1}}',
        "bad_asset",
    ),
    "huge record": (b'{"asset": "pump-01", "pad": "' + b"x" * 900_000, "not_json"),
    "blank": (b"  ", "blank"),
}


def test_hostile_records_become_dead_letters_with_their_reason(
    kafka_bootstrap: str, tmp_path: Path, bundle: Path
) -> None:
    topic, prefix = unique("in"), unique("out")
    make_topic(kafka_bootstrap, topic)
    config = config_for(kafka_bootstrap, topic, prefix, SENSORS, **STREAM)
    config["limits"] = {"max_record_bytes": 500_000}
    good = fleet_lines(40)
    # NaN, infinities and past times are no rejects: a missing cell, and a late line.
    odd = [
        b'{"asset": "odd-01", "ts": "2026-01-05T00:00:00Z", "values": {"Flow": NaN, "Speed": 1e999, "Current": -Infinity}}',
        b'{"asset": "pump-01", "ts": "1999-01-05T00:00:00Z", "values": {"Flow": 1}}',
    ]
    hostile = [line for line, _ in HOSTILE.values()]
    with Daemon(tmp_path, config, "--model", bundle) as daemon:
        daemon.until(lambda s: s["state"] == "live")
        send(kafka_bootstrap, topic, [*good[:150], *odd, *hostile, *good[150:]])
        total = len(good) + len(odd) + len(hostile)
        state = daemon.until(lambda s: sum(s["records"].values()) == total)
        assert daemon.stop() == 0
    assert state["records"]["late"] >= 1
    dead = topic_of(kafka_bootstrap, f"{prefix}.dead-letter")
    reasons = Counter(dict(record.headers)["reason"].decode() for record in dead)
    wanted = Counter(reason for _, reason in HOSTILE.values())
    wanted["not_json"] -= 1
    wanted["too_large"] += 1  # the huge record is refused before it is parsed
    for reason, n in wanted.items():
        assert reasons[reason] >= n, (reason, reasons)
    originals = {record.value for record in dead}
    assert all(line in originals for line in hostile if len(line) <= 900_000)


def spoiled(bundle: Path) -> tuple[str, bytes]:
    """A bundle with one NaN, whole in every other way: its version and bytes."""
    made = Bundle.load(bundle)
    sigma = made.models.sigma.copy()
    sigma[0] = np.nan
    made = replace(made, models=replace(made.models, sigma=sigma))
    return made.version, made.to_bytes()


def test_garbage_on_the_models_and_state_topics_stops_no_start(
    kafka_bootstrap: str, tmp_path: Path, bundle: Path
) -> None:
    topic, prefix = unique("in"), unique("out")
    make_topic(kafka_bootstrap, topic)
    config = config_for(kafka_bootstrap, topic, prefix, SENSORS, **STREAM)
    good, (version, data) = fleet_lines(120), spoiled(bundle)
    deep = b"[" * 100_000 + b"]" * 100_000

    async def promote(*versions: tuple[str, bytes]) -> None:
        models = KafkaModels(KafkaSettings(kafka_bootstrap), prefix)
        try:
            for name, content in versions:
                await models.publish("pumps", name, content)
                await models.promote("pumps", name, "by hand")
        finally:
            await models.stop()

    with Daemon(tmp_path / "first", config, "--model", bundle) as daemon:
        live = daemon.until(lambda s: s["state"] == "live")
        send(kafka_bootstrap, topic, good[:300])
        daemon.until(lambda s: sum(s["records"].values()) == 300)
        asyncio.run(promote((live["model"], Bundle.load(bundle).to_bytes()), (version, data)))
        refused = re.compile(rb'^anomalyd_bundle_refused_total{source="registry"} [1-9]', re.M)
        daemon.until(lambda s: refused.search(daemon.get("/metrics")[1]) is not None)
        send(kafka_bootstrap, topic, good[300:400])
        state = daemon.until(lambda s: sum(s["records"].values()) == 400)
        assert state["model"] == live["model"]
        assert daemon.stop() == 0
    hostile = [
        (b"pumps/aaa/" + b"9" * 5_000, b"x"),
        (b"pumps/bbb", deep),
        (b"pumps/ccc", b'{"size": 1, "chunks": 1e11, "sha256": ""}'),
        (b"pumps/ddd", b'{"size": 1, "chunks": 100000000000, "sha256": ""}'),
        (b"\xff\xfe", b"x"),
    ]
    state_key = topic.encode() + b"\x1f"
    odd = [(state_key + b"\xff", b"x"), (state_key + b"pump-99", b"\x91\x01"), (state_key + b"pump-98", deep)]
    asyncio.run(produce(kafka_bootstrap, f"{prefix}.models", hostile))
    asyncio.run(produce(kafka_bootstrap, f"{prefix}.state", odd))
    with Daemon(tmp_path / "again", config) as daemon:
        state = daemon.until(lambda s: s["state"] == "live")
        assert state["model"] == live["model"]  # promoted before the one that cannot be used
        send(kafka_bootstrap, topic, good[400:])
        daemon.until(lambda s: s["scored"] > 0)
        text = daemon.get("/metrics")[1].decode()
        assert re.search(r'^anomalyd_state_restores_total{result="unusable"} [23]', text, re.M), text
        assert f'anomalyd_bundle_refused_total{{source="record"}} {len(hostile)}.0' in text
        assert daemon.stop() == 0


def test_a_missing_topic_is_one_line_of_error_and_exit_code_2(kafka_bootstrap: str, tmp_path: Path) -> None:
    config = config_for(kafka_bootstrap, unique("absent"), unique("out"), SENSORS, **STREAM)
    daemon = Daemon(tmp_path, config)
    done = command("run", "-c", daemon.config, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "absent" in done.stderr
    assert "does not exist" in done.stderr


def test_topics_and_check(kafka_bootstrap: str, tmp_path: Path) -> None:
    topic, prefix = unique("in"), unique("out")
    make_topic(kafka_bootstrap, topic, 3)
    daemon = Daemon(tmp_path, config_for(kafka_bootstrap, topic, prefix, SENSORS, **STREAM))
    assert command("check", "-c", daemon.config).returncode == 0
    assert command("check", "-c", daemon.config, "--probe").returncode == 2  # its own topics are missing
    for _ in range(2):  # existing topics are fine
        done = command("topics", "-c", daemon.config, "--create", "--json")
        assert done.returncode == 0, done.stderr
        partitions = {row["topic"]: row["partitions"] for row in json.loads(done.stdout)}
        assert partitions[f"{prefix}.state"] == 3
        assert partitions[f"{prefix}.models"] == 1
    assert command("check", "-c", daemon.config, "--probe").returncode == 0


def test_a_broker_that_is_down_is_awaited_and_logged_once_a_minute(tmp_path: Path) -> None:
    config = config_for("127.0.0.1:9", unique("in"), unique("out"), SENSORS, **STREAM)
    with Daemon(tmp_path, config) as daemon:
        daemon.until(lambda s: any(e.get("event") == "broker_unreachable" for e in daemon.events()), 60)
        assert daemon.get("/livez")[0] == 200  # an outage must not restart the fleet
        assert daemon.get("/readyz")[0] == 503
        assert daemon.stop() == 0
    assert sum(e.get("event") == "broker_unreachable" for e in daemon.events()) == 1


def test_an_outage_makes_it_unready_and_its_end_ready_at_once(
    own_broker: Broker, tmp_path: Path, bundle: Path
) -> None:
    own_broker.start()
    topic = unique("in")
    make_topic(own_broker.bootstrap, topic)
    config = config_for(own_broker.bootstrap, topic, unique("out"), SENSORS, **STREAM)

    def seen(daemon: Daemon) -> tuple[int, int, str]:
        (up,) = re.findall(rb'dependency_up{dependency="kafka"} (\S+)', daemon.get("/metrics")[1])
        return daemon.get("/livez")[0], daemon.get("/readyz")[0], up.decode()

    with Daemon(tmp_path / "daemon", config, "--model", bundle) as daemon:
        send(own_broker.bootstrap, topic, fleet_lines(60))
        daemon.until(lambda s: s["scored"] > 0)
        assert seen(daemon) == (200, 200, "1.0")
        own_broker.freeze()
        daemon.until(lambda _: daemon.get("/readyz")[0] == 503)
        assert seen(daemon) == (200, 503, "0.0")
        because = json.loads(daemon.get("/readyz")[1])["because"]
        assert because == ["Kafka has not answered for 30 s"]
        own_broker.thaw()
        daemon.until(lambda _: daemon.get("/readyz")[0] == 200)
        assert seen(daemon) == (200, 200, "1.0")
        assert daemon.stop() == 0


def test_init_and_train_from_the_input_topic(kafka_bootstrap: str, tmp_path: Path) -> None:
    topic = unique("sensors.pumps")
    make_topic(kafka_bootstrap, topic, 2)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    ask = ["init", topic, "--bootstrap-servers", kafka_bootstrap]
    empty = command(*ask, cwd=tmp_path, env=env)
    assert (empty.returncode, "is empty" in empty.stderr) == (2, True)
    send(kafka_bootstrap, topic, fleet_lines(400))
    done = command(*ask, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert written["kafka"]["bootstrap_servers"] == kafka_bootstrap
    assert written["streams"][0]["topics"] == [topic]
    assert sorted(written["streams"][0]["sensors"]) == sorted(SENSORS)
    assert written["streams"][0]["period"] == "1m"
    absent = command(
        "init",
        unique("absent"),
        "--out",
        "-",
        cwd=tmp_path,
        env=env | {"ANOMALYD_KAFKA__BOOTSTRAP_SERVERS": kafka_bootstrap},
    )
    assert absent.returncode == 2
    assert "no such file; and as a topic" in absent.stderr
    assert "does not exist on Kafka" in absent.stderr

    # No FILE: what the topic holds, of which the newest rows count.
    train = ["train", "--out", "bundle", "--set", "model.kind=ppca"]
    done = command(*train, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "reading the input topics" in done.stderr
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.sensors == tuple(written["streams"][0]["sensors"])
    rows = ["--set", "retrain.rows=1000", "--set", "model.learn_rows=1000"]
    done = command(*train, *rows, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    found = re.search(r"learned from (\d+) rows", done.stderr)
    assert found is not None
    assert 900 < int(found[1]) <= 1000
    none = command(*train, "--set", f"streams.0.topics=[{unique('absent')}]", cwd=tmp_path, env=env)
    assert none.returncode == 2
    assert "does not exist on Kafka" in none.stderr
