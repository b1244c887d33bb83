"""``init`` over files: what is derived, and what is refused before anything is written."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from daemon.adapters.files import TableReading, read_table
from daemon.commands.init import InitOptions, derive_configuration
from daemon.commands.inputs import table_of
from daemon.commands.replay import ReplayOptions, replay
from daemon.config import load
from daemon.documents import from_yaml
from daemon.errors import InputError, UsageError


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    rows = "".join(f"2026-01-01T00:{i // 60:02d}:{i % 60:02d}Z,{i % 7},{i % 5}\n" for i in range(600))
    (tmp_path / "sample.csv").write_text("timestamp,a,b\n" + rows)
    return tmp_path / "sample.csv"


def test_the_text_loads_and_has_the_sensors_and_the_period_of_the_file(sample: Path, tmp_path: Path) -> None:
    made = derive_configuration(InitOptions(str(sample), tmp_path / "config.yaml", name="pumps"))
    (stream,) = load(None, (), from_yaml(made.text)).streams
    assert (stream.name, list(stream.sensors), stream.topics) == (
        "pumps",
        ["a", "b"],
        ("sensors.pumps",),
    )
    assert made.spec.period_ns == 10**9
    assert not (tmp_path / "config.yaml").exists()
    made.write(tmp_path / "config.yaml")
    assert (tmp_path / "config.yaml").read_text() == made.text


def test_an_excluded_column_is_no_sensor(sample: Path, tmp_path: Path) -> None:
    made = derive_configuration(InitOptions(str(sample), tmp_path / "config.yaml", exclude=["b"]))
    assert made.spec.sensors == ("a",)


def test_a_file_is_overwritten_by_force_alone(sample: Path, tmp_path: Path) -> None:
    there = tmp_path / "config.yaml"
    there.write_text("")
    with pytest.raises(UsageError, match="give --force to overwrite it"):
        derive_configuration(InitOptions(str(sample), there))
    assert derive_configuration(InitOptions(str(sample), there, force=True)).text


@pytest.mark.parametrize("name", ["absent.csv", "no/such topic"])
def test_a_name_of_neither_a_file_nor_a_topic_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        derive_configuration(InitOptions(name, tmp_path / "config.yaml"))


def test_a_name_that_no_stream_can_have_is_refused(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no configuration can be made of it"):
        derive_configuration(InitOptions(str(sample), tmp_path / "config.yaml", name="a b"))


WIDE = ("When,Rig,a,b,Note", "2026-01-01T{h:02d}:{m:02d}:00Z,{x},{i}.5,{j},")
LONG = ("When,Rig,Probe kind,Figure", "2026-01-01T{h:02d}:{m:02d}:00Z,{x},{s},{i}.5")
TWO = ("Day,Moment,Rig,a", "2026-01-01,{h:02d}:{m:02d}:00,{x},{i}.5")


@pytest.mark.parametrize(
    ("form", "reading", "fields"),
    [
        (WIDE, {"asset": "Rig"}, {"asset": "Rig", "timestamp": "When"}),
        (WIDE, {"time": ("When",), "asset": "Rig"}, {"asset": "Rig", "timestamp": "When"}),
        (LONG, {"asset": "Rig", "sensor": "Probe kind", "value": "Figure"}, {"sensor": "Probe kind"}),
        (TWO, {"time": ("Day", "Moment"), "asset": "Rig"}, {"timestamp": "Day"}),
    ],
)
def test_the_columns_that_were_named_are_read_again_by_the_configuration(
    form: tuple[str, str], reading: dict[str, Any], fields: dict[str, str], tmp_path: Path
) -> None:
    (header, row), path, out = form, tmp_path / "a.csv", tmp_path / "config.yaml"
    sensors = ("p", "q") if form is LONG else ("",)
    rows = [
        row.format(h=i // 60, m=i % 60, x=x, s=s, i=i % 9, j=i % 7)
        for i in range(100)
        for x in ("r1", "r2")
        for s in sensors
    ]
    path.write_text("\n".join([header, *rows]) + "\n")
    named = TableReading(**reading)
    made = derive_configuration(InitOptions(str(path), out, reading=named))
    made.write(out)
    (stream,) = load(out, ()).streams
    assert fields.items() <= stream.fields.model_dump().items()
    before, after = read_table(path, reading=named), table_of(path, stream.spec(), (), TableReading())
    assert (after.asset_names, len(after)) == (("r1", "r2"), 200) == (before.asset_names, len(before))
    assert after.time_ns.tolist() == before.time_ns.tolist()
    cells = [
        table.values[:, [table.sensors.index(name) for name in stream.sensors]].tolist()
        for table in (before, after)
    ]
    assert cells[0] == cells[1]


def test_a_column_without_a_number_is_no_sensor_of_the_configuration(tmp_path: Path) -> None:
    header, row = WIDE
    rows = [row.format(h=i // 60, m=i % 60, x="r1", i=i % 9, j=i % 7) for i in range(100)]
    (tmp_path / "a.csv").write_text("\n".join([header, *rows]) + "\n")
    made = derive_configuration(InitOptions(str(tmp_path / "a.csv"), tmp_path / "config.yaml"))
    assert made.spec.sensors == ("a", "b")
    (note,) = (note for note in made.notes if "Note" in note)
    assert note == "left out: Note (holds no number; list it below sensors to take it in)"


MS = 1_750_000_000_000


def kinds(i: int) -> dict[str, tuple[str, Any]]:
    """By kind of message the format that is written, and message i: one machine, two sensors, a minute apart."""
    ms, s = MS + 60_000 * i, MS // 1000 + 60 * i
    iso = f"2025-06-15T{15 + i // 60:02d}:{i % 60:02d}:00.1234567Z"
    level, flow = 3.5 + i % 7, 20.25 - i % 5
    plain = {"level": level, "flow": flow}
    return {
        "flat": ("flat", {"machineId": "m-1", "eventTime": iso, **plain}),
        "telegraf": ("telegraf", {"name": "m", "tags": {"host": "m-1"}, "fields": plain, "timestamp": s}),
        "telegraf batch": (
            "telegraf",
            {"metrics": [{"name": "m", "tags": {"host": "m-1"}, "fields": plain, "timestamp": s}]},
        ),
        "kepware": (
            "kepware",
            {
                "timestamp": ms,
                "values": [
                    {"id": f"Hall.M1.{name}", "v": value, "q": True, "t": ms} for name, value in plain.items()
                ],
            },
        ),
        "cloudevents": (
            "cloudevents",
            {
                "specversion": "1.0",
                "id": f"e-{i}",
                "source": "/hall",
                "subject": "m-1",
                "type": "reading",
                "time": iso,
                "data": plain,
            },
        ),
        "mqtt bridge": (
            "mqtt-json",
            {"clientid": "gw", "topic": "hall/m-1/telemetry", "timestamp": ms, "payload": json.dumps(plain)},
        ),
        "eclipse ditto": (
            "ditto",
            {
                "topic": "org.acme/m-1/things/twin/events/modified",
                "path": "/features",
                "value": {name: {"properties": {"value": value}} for name, value in plain.items()},
                "revision": i,
                "timestamp": iso,
            },
        ),
        "senml": (
            "senml",
            [{"bn": "urn:dev:mac:77:", "bt": s, "n": "level", "v": level}, {"n": "flow", "v": flow}],
        ),
        "opc ua": (
            "opcua-pubsub",
            {
                "MessageId": f"m{i}",
                "MessageType": "ua-data",
                "PublisherId": "hall",
                "Messages": [
                    {
                        "DataSetWriterId": "m-1",
                        "Timestamp": iso,
                        "Payload": {
                            name: {"Value": {"Type": 11, "Body": value}} for name, value in plain.items()
                        },
                    }
                ],
            },
        ),
        "thingsboard": ("thingsboard", [{"ts": ms, "values": plain}]),
    }


@pytest.mark.parametrize("rows", [1, 120])
@pytest.mark.parametrize("kind", kinds(0))
async def test_what_is_written_reads_every_message_of_its_sample(
    kind: str, rows: int, tmp_path: Path
) -> None:
    sample, config = tmp_path / "a.jsonl", tmp_path / "config.yaml"
    sample.write_text("".join(json.dumps(kinds(i)[kind][1]) + "\n" for i in range(rows)))
    made = await asyncio.to_thread(derive_configuration, InitOptions(str(sample), config))
    made.write(config)
    (stream,) = load(config, ()).streams
    assert stream.format == kinds(0)[kind][0] or (
        stream.mapping and stream.mapping.preset == kinds(0)[kind][0]
    )
    assert [name.split(".")[0] for name in stream.sensors] == ["flow", "level"]
    replayed = await replay(
        ReplayOptions(sample, tmp_path / "out", config=config, sets=["model.learn_rows=1000"])
    )
    assert replayed.summary["records"] == {
        "read": rows,
        "accepted": rows,
        "duplicate": 0,
        "late": 0,
        "rejected": 0,
    }
    assert replayed.summary["cells"]["observed"] == 2 * rows
