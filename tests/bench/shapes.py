"""What a record costs by its shape: messages as people have them, beside the bare decoding of the same lines.

``python -m tests.bench.shapes [SHAPE ...]`` takes the shapes through a pipeline in this process, with no Kafka: per
reading of a row, CPU microseconds of a typed decode alone, of the pipeline, and the ratio of both to those of the
plainest shape. ``python -m tests.bench shapes`` also measures the daemon end to end beside the bare limit.

All shapes carry the same readings: 500 assets that take turns, eight sensors, window 32, hop 8.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import json
import pstats
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer
from rich.console import Console

from daemon.config import Settings
from daemon.detector import Detector
from daemon.domain import SECOND_NS, AlarmPolicy, InputPartition, PolledRecords, Records, StreamSpec, iso
from daemon.model.bundle import Bundle
from daemon.stream.decoding import Decoder
from daemon.stream.parts import PipelineSettings
from daemon.stream.pipeline import Pipeline
from tests.bench.limit import Handle, bare
from tests.bench.reporting import Section, print_section
from tests.bench.stage import Cost, Stage, cost, stage, watched
from tests.bench.throughput import separately
from tests.bench.workload import START_ROW, Workload
from tests.running import Daemon, make_topic, unique

FLEET: Final = Workload(8, assets=500, window=32)
HOP: Final = 8
POLL: Final = 16_000
"""Records of a poll: about what a fetch brings the daemon that is behind."""
ROWS: Final = 200
"""Rows per asset in one turn of this process."""
ODD_EVERY: Final = 997
"""About one line in a thousand; a prime, so that all assets have odd lines."""
WANTED: Final = {"wide": 2.0, "long": 2.5, "mapped": 3.5}
"""CPU per reading over bare consume and typed decode of the same lines, at most, end to end."""
MORE_FOR_ODD: Final = 1.05
"""What one odd line in a thousand may make of the cost, at most."""

Line = tuple[bytes, bytes]
Cells = dict[str, float]
Write = Callable[[str, int, Cells], list[Line]]


@dataclass(frozen=True, slots=True)
class Shape:
    """One way to write the readings.

    ``write`` makes the records of a row of one asset; ``bare`` says what a typed decode would look for (the
    arguments of ``limit.bare``); ``stream`` are the stream's settings. ``odd`` replaces one line in a thousand;
    ``condition`` is that of an asset at a row, in which the model was trained.
    """

    name: str
    kind: str  # of ``WANTED``
    write: Write
    fields: dict[str, str]  # what the bare decoder reads: a field's name to the name of its type
    stream: dict[str, Any] = field(default_factory=dict)
    odd: Callable[[bytes], bytes] | None = None
    names: tuple[str, ...] = FLEET.names
    records: int = 1  # of one row
    condition: Callable[[str, int], Mapping[str, object]] | None = None


# ------------------------------------------------------------------ the ways to write a row
_encode = msgspec.json.Encoder().encode


def wide(time_of: Callable[[int], object], **more: Any) -> Write:
    """Wide lines with these times."""

    def write(asset: str, row: int, cells: Cells) -> list[Line]:
        return [(asset.encode(), _encode({"asset": asset, "ts": time_of(row), "values": cells, **more}))]

    return write


def _iso(row: int) -> str:
    return iso(row * SECOND_NS)


def _keyed(asset: str, row: int, cells: Cells) -> list[Line]:
    return [(asset.encode(), _encode({"values": cells}))]


def _condition(asset: str, row: int) -> dict[str, object]:
    """The product changes every minute, the load is the asset's."""
    return {"product": f"p{(row // 60) % 4}", "load": int(asset[-1]) % 3}


def _conditioned(asset: str, row: int, cells: Cells) -> list[Line]:
    return wide(_iso, condition=_condition(asset, row))(asset, row, cells)


def _quoted(asset: str, row: int, cells: Cells) -> list[Line]:
    return wide(_iso)(asset, row, {name: str(value) for name, value in cells.items()})  # type: ignore[misc]


def _abroad(asset: str, row: int, cells: Cells) -> list[Line]:
    return wide(_iso)("Prüfstand " + asset, row, {f"Fühler{name[-2:]}": v for name, v in cells.items()})


def _long(asset: str, row: int, cells: Cells) -> list[Line]:
    ts = _iso(row)
    return [
        (asset.encode(), _encode({"asset": asset, "sensor": name, "ts": ts, "value": value}))
        for name, value in cells.items()
    ]


def _telegraf(asset: str, row: int, cells: Cells) -> list[Line]:
    tags = {"host": "edge-1", "asset": asset}
    return [(asset.encode(), _encode({"fields": cells, "name": "pump", "tags": tags, "timestamp": row}))]


def _kepware(asset: str, row: int, cells: Cells) -> list[Line]:
    values = [{"id": f"{asset}.{n}", "v": v, "q": True, "t": row * 1000} for n, v in cells.items()]
    return [(asset.encode(), _encode({"timestamp": row * 1000, "values": values}))]


def _opcua(asset: str, row: int, cells: Cells) -> list[Line]:
    ts = _iso(row)
    payload = {n: {"Value": {"Type": 11, "Body": v}, "SourceTimestamp": ts} for n, v in cells.items()}
    message = {"DataSetWriterId": asset, "SequenceNumber": row, "Timestamp": ts, "Payload": payload}
    whole = {"MessageId": "b7e1", "MessageType": "ua-data", "PublisherId": "line1", "Messages": [message]}
    return [(asset.encode(), _encode(whole))]


def _flat(asset: str, row: int, cells: Cells) -> list[Line]:
    return [(asset.encode(), _encode({"asset": asset, "ts": row * 1000, **cells}))]


def _raw(asset: str, row: int, cells: Cells) -> list[Line]:
    """What a sensor of ``_SCALED`` sends for these values."""
    return wide(_iso)(asset, row, {name: round((value - 5.0) * 10.0, 3) for name, value in cells.items()})


# ------------------------------------------------------------------ odd lines
def _text_cell(line: bytes) -> bytes:
    return line.replace(b'"Sensor00":', b'"Sensor00":"n/a ?","was":')


def _unknown_sensor(line: bytes) -> bytes:
    return line.replace(b'"Sensor00":', b'"SensorXX":')


def _new_asset(line: bytes) -> bytes:
    found = msgspec.json.decode(line)
    return line.replace(b'"pump-', b'"new-%d-' % abs(hash(found["ts"])))


def _blank(line: bytes) -> bytes:
    return b" "


_WIDE: Final = {"asset": "str", "ts": "str", "values": "cells"}
_ABROAD: Final = tuple(f"Fühler{name[-2:]}" for name in FLEET.names)
_SCALED: Final = {name: {"scale": 0.1, "offset": 5.0, "range": None} for name in FLEET.names}
SHAPES: Final[tuple[Shape, ...]] = (
    Shape("wide, ISO times", "wide", wide(_iso), _WIDE),
    Shape("wide, epoch s", "wide", wide(lambda row: row), {**_WIDE, "ts": "int"}),
    Shape("wide, epoch ms", "wide", wide(lambda row: row * 1000 + 123), {**_WIDE, "ts": "int"}),
    Shape("wide, epoch s as float", "wide", wide(lambda row: row + 0.123), {**_WIDE, "ts": "float"}),
    Shape(
        "wide, key and timestamp of the record",
        "wide",
        _keyed,
        {"values": "cells"},
        {"fields": {"asset": "$key", "timestamp": "$timestamp"}},
    ),
    Shape(
        "wide, a condition",
        "wide",
        _conditioned,
        _WIDE,
        {"condition": ["product", "load"]},
        condition=_condition,
    ),
    Shape(
        "wide, conditions new to the model", "wide", _conditioned, _WIDE, {"condition": ["product", "load"]}
    ),
    Shape("wide, names outside ASCII", "wide", _abroad, _WIDE, names=_ABROAD),
    Shape("wide, quoted numbers", "wide", _quoted, {**_WIDE, "values": "texts"}),
    Shape("wide, scaled sensors", "wide", _raw, _WIDE, {"sensors": _SCALED}),
    Shape("wide, odd: a text cell", "wide", wide(_iso), _WIDE, odd=_text_cell),
    Shape("wide, odd: an unknown sensor", "wide", wide(_iso), _WIDE, odd=_unknown_sensor),
    Shape("wide, odd: a new asset", "wide", wide(_iso), _WIDE, odd=_new_asset),
    Shape("wide, odd: a blank line", "wide", wide(_iso), _WIDE, odd=_blank),
    Shape(
        "long",
        "long",
        _long,
        {"asset": "str", "sensor": "str", "ts": "str", "value": "float"},
        {"format": "json-long"},
        records=8,
    ),
    Shape(
        "telegraf",
        "mapped",
        _telegraf,
        {"fields": "cells", "tags": "tags", "timestamp": "int"},
        {"format": "telegraf"},
    ),
    Shape(
        "kepware",
        "mapped",
        _kepware,
        {"values": "kepware", "timestamp": "int"},
        {"format": "kepware"},
    ),
    Shape(
        "opcua-pubsub",
        "mapped",
        _opcua,
        {"Messages": "opcua"},
        {"format": "opcua-pubsub"},
    ),
    Shape("flat", "mapped", _flat, {"asset": "str", "ts": "int", "": "cells"}, {"format": "flat"}),
)


# ------------------------------------------------------------------ in this process
def settings_of(shape: Shape, **more: Any) -> dict[str, Any]:
    """The configuration of a daemon for this shape; ``more`` as in ``Workload.config``."""
    sensors = {name: {} for name in shape.names}
    return FLEET.config(
        more.pop("bootstrap", "localhost:9092"),
        more.pop("topic", "bench"),
        more.pop("prefix", "out"),
        more.pop("group", "bench"),
        **{"hop": HOP, "sensors": sensors, **shape.stream, **more},
    )


def spec_of(shape: Shape) -> StreamSpec:
    """The stream of this shape."""
    return Settings(**settings_of(shape)).streams[0].spec()


def possible(shape: Shape) -> bool:
    """Whether this tree knows the shape's preset."""
    try:
        spec_of(shape)
    except ValueError:
        return False
    return True


def lines_of(shape: Shape, rows: int, first_row: int) -> Iterator[tuple[int, bytes, bytes]]:
    """(row, key, line) of every record, in time order."""
    count = 0
    for t, block in enumerate(FLEET.values(rows).round(4).tolist(), first_row):
        for a, row in enumerate(block):
            for key, line in shape.write(f"pump-{a:04d}", t, dict(zip(FLEET.names, row, strict=True))):
                count += 1
                if shape.odd is not None and count % ODD_EVERY == 0:
                    yield t, key, shape.odd(line)
                else:
                    yield t, key, line


def model_of(shape: Shape, folder: Path) -> Path:
    """A model of the fleet with this shape's sensors and conditions, trained when it is first asked for."""
    path = folder / f"model{'-abroad' * (shape.names != FLEET.names)}{'-conditions' * bool(shape.condition)}"
    if not path.exists():
        FLEET.bundle(path, names=shape.names, condition=shape.condition)
    return path


class Turn:
    """The same records once through the bare decoder and once through a pipeline, with CPU seconds."""

    def __init__(self, shape: Shape, detector: Detector) -> None:
        found = list(lines_of(shape, ROWS, START_ROW))
        self.shape = shape
        self.polls = [
            Records(
                np.arange(begin, begin + len(some)),
                [key for _, key, _ in some],
                [line for _, _, line in some],
                np.array([row * SECOND_NS for row, _, _ in some]),
            )
            for begin in range(0, len(found), POLL * shape.records)
            for some in (found[begin : begin + POLL * shape.records],)
        ]
        self.readings = len(found)
        self._detector = detector
        self._spec = spec_of(shape)
        self._handle: Handle = bare(shape.fields, shape.names)

    def decoding(self) -> float:
        """Microseconds of a typed decode per record."""
        handle, begin, failed = self._handle, time.process_time(), 0
        for poll in self.polls:
            for value in poll.values:
                try:
                    handle(value)
                except ValueError:
                    failed += 1
        return 1e6 * (time.process_time() - begin) / self.readings

    def pipeline(self, profile: cProfile.Profile | None = None) -> float:
        """Microseconds of the pipeline per record, of all windows that are full; a profile of the same, if given."""
        settings = PipelineSettings(self._spec, AlarmPolicy(), 3600 * SECOND_NS)
        pipeline = Pipeline(settings, InputPartition("bench", 0), Decoder(self._spec))
        pipeline.use(self._detector)
        warm = len(self.polls) * (FLEET.window + 2) // ROWS + 1
        begin = count = 0.0
        for number, poll in enumerate(self.polls):
            if number == warm:
                gc.collect()
                if profile is not None:
                    profile.enable()
                begin = time.process_time()
            for _ in pipeline.feed(PolledRecords(pipeline.partition, poll)):
                pass
            count += len(poll) * (number >= warm)
        spent = time.process_time() - begin
        if profile is not None:
            profile.disable()
        accepted = pipeline.counts.total() - sum(pipeline.reasons.values())
        assert accepted >= 0.99 * self.readings, (self.shape.name, pipeline.counts, pipeline.reasons)
        return 1e6 * spent / count


def in_this_process(names: Sequence[str], turns: int) -> Section:
    """Every shape, turn by turn."""
    section = Section(
        "shapes-decode",
        "Shapes in one process, without Kafka: us of CPU per record, minimum (median)",
        ("shape", "decode us", "pipeline us", "median", "over ISO times", "pipeline - decode", "records/s"),
    )
    with tempfile.TemporaryDirectory() as folder:
        taken: list[tuple[Turn, list[float], list[float]]] = []
        for shape in SHAPES:
            if (names and not any(name in shape.name for name in names)) or not possible(shape):
                continue
            detector = Bundle.load(model_of(shape, Path(folder))).detector()
            taken.append((Turn(shape, detector), [], []))
        for _ in range(turns):
            for turn, decodes, pipelines in taken:
                decodes.append(turn.decoding())
                pipelines.append(turn.pipeline())
        plain = min(taken[0][2])
        for turn, decodes, pipelines in taken:
            least = min(pipelines)
            section.add(
                turn.shape.name, min(decodes), least, median(pipelines), least / plain, least - min(decodes),
                1e6 / least,
            )  # fmt: skip
    return section


# ------------------------------------------------------------------ end to end
async def fill(bootstrap: str, topic: str, shape: Shape, rows: int) -> int:
    """Write ``rows`` rows of every asset, the record times being those of the rows; how many records that was."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    await producer.start()
    try:
        sent = [
            await producer.send(topic, line, key=key, timestamp_ms=row * 1000)
            for row, key, line in lines_of(shape, rows, int(time.time()) - rows)
        ]
        await asyncio.gather(*sent)
        return len(sent)
    finally:
        await producer.stop()


def daemon_over(on: Stage, shape: Shape, topic: str, total: int) -> Cost:
    """One daemon over a topic that is full."""
    folder, model = on.folder, model_of(shape, on.folder)
    config = settings_of(
        shape, bootstrap=on.bootstrap, topic=topic, prefix=unique("out"), group=unique("group")
    )
    with Daemon(folder / unique("run"), config, "--model", model) as daemon:
        daemon.until(lambda s: s["state"] == "live")
        found = cost(watched([daemon], total), 2 * FLEET.window * FLEET.assets * shape.records)
        daemon.stop()
    return found


def end_to_end(quick: bool, names: Sequence[str] = ()) -> Section:
    """The daemon beside the bare limit of the same lines, shape by shape, in turns."""
    section = Section(
        "shapes",
        "Shapes end to end on Kafka: 500 assets, 8 sensors, window 32, hop 8, exactly_once, one partition",
        (
            "shape",
            "records",
            "limit us",
            "daemon us",
            "ratio",
            "lowest",
            "highest",
            "target",
            "over the first",
        ),
    )
    rows, turns = (200, 1) if quick else (600, 3)
    plain = 0.0
    with stage() as on:
        for shape in SHAPES:
            if (names and not any(name in shape.name for name in names)) or not possible(shape):
                continue
            topic = unique("bench")
            make_topic(on.bootstrap, topic, 1)
            total = asyncio.run(fill(on.bootstrap, topic, shape, rows))
            pairs = []
            for _ in range(turns):
                how = json.dumps(shape.fields)
                limit = separately("tests.bench.limit", how, on.bootstrap, topic, str(total), *shape.names)
                pairs.append((limit.cpu_us, daemon_over(on, shape, topic, total).cpu_us))
            ratios = [ours / bare_us for bare_us, ours in pairs]
            ours = median(ours for _, ours in pairs)
            plain = plain or ours
            section.add(
                shape.name, total, median(bare_us for bare_us, _ in pairs), ours,
                median(ratios), min(ratios), max(ratios), WANTED[shape.kind], ours / plain,
            )  # fmt: skip
            print(
                f"{shape.name}: {ours:.2f} us, {median(ratios):.2f} of the limit", file=sys.stderr, flush=True
            )
    section.notes.append(
        "us: CPU microseconds of the process per record, all full windows; a row of the shape long is eight records."
        f" An odd line in a thousand may make the first shape's cost {MORE_FOR_ODD} times as high."
    )
    return section


def measure(quick: bool) -> Iterator[Section]:
    """Without Kafka, then end to end."""
    yield in_this_process((), 2 if quick else 5)
    yield end_to_end(quick)


def main() -> None:
    """The shapes, without Kafka if not asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.shapes", description=in_this_process.__doc__)
    parser.add_argument("shape", nargs="*", help="parts of names; none: all")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="one turn of the pipeline under cProfile")
    parser.add_argument("--kafka", action="store_true", help="end to end")
    parser.add_argument("--quick", action="store_true", help="fewer records")
    given = parser.parse_args()
    if given.profile:
        profiled(given.shape)
        return
    made = end_to_end(given.quick, given.shape) if given.kafka else in_this_process(given.shape, given.turns)
    print_section(Console(width=140), made)


def profiled(names: Sequence[str]) -> None:
    """Where the time of one turn of the first of these shapes goes."""
    shape = next(shape for shape in SHAPES if names[0] in shape.name)
    with tempfile.TemporaryDirectory() as folder:
        turn = Turn(shape, Bundle.load(model_of(shape, Path(folder))).detector())
    profile = cProfile.Profile()
    turn.pipeline(profile)
    pstats.Stats(profile).sort_stats("tottime").print_stats(28)


if __name__ == "__main__":
    main()
