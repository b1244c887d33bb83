"""``anomalyd generate``: synthetic assets into a file or a topic, with faults whose truth is known.

Rows are made a few thousand at a time and written as they are made, so that an hour of 5,000 rows
a second needs no more memory than a second of it. The same arguments give the same bytes; what
goes to a topic differs only in when it is sent.

On the way each stretch of rows passes: faults (``--inject``), gaps (``--gaps``), then it is written,
or, as messages, first waits for its lateness (``--late``). All of it comes from one seed, each with
a generator of its own, so that ``--gaps`` does not change what is missing from the rest.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from daemon.adapters.files import replacing
from daemon.adapters.kafka import KafkaSettings, Message, Writer, check_topics
from daemon.domain import (
    RECORD_KEY,
    RECORD_TIMESTAMP,
    FieldNames,
    Floats,
    Format,
    Ints,
    is_calendar,
    iso,
)
from daemon.errors import BundleError, UsageError
from daemon.model.bundle import Bundle
from daemon.model.faults import FaultKind, FaultRecord, Injection, inject

DEFAULT_ROWS = 1_000
"""Rows per asset where nobody says."""
FIXED_START_NS = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00Z: the first row's time unless --start says; a clock would make each run another."""
FAULT_WINDOWS = 4
"""Windows that a fault lasts, if the rows suffice: long enough for every kind to show."""
SIZES = (4.0, 8.0)
"""Standard deviations of a fault: what a good detector should find."""
LAG_ROWS = (4.0, 16.0)
BURST = 4.0
"""Readings that go missing in a row, on average."""
LATEST = 20
"""Rows by which a late row comes late, at most: some within the usual allowed lateness, some beyond."""
BEAT_S = 0.05
"""Between two batches to a topic: small against a second, large against a request."""
SYNTHETIC = "synthetic"
"""The column and the header that say so. A boolean is no measurement: no reader takes it for a sensor."""
SUFFIXES = (".parquet", ".pq", ".csv", ".jsonl", ".ndjson")

Send = Callable[[Sequence[Message]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be made. ``inject`` holds ``KIND`` or ``KIND:SENSOR`` each; shares are of 0 to 1."""

    assets: int = 1
    rows: int = DEFAULT_ROWS  # per asset
    count: int | None = None  # rows of all assets together, if that is less
    conditions: tuple[str, ...] = ()  # k=v each
    like: str | None = None
    inject: tuple[str, ...] = ()
    gaps: float = 0.0
    late: float = 0.0
    start_ns: int = FIXED_START_NS
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Generated:
    """What was made: ``rows`` of all assets, the faults in them, seconds and rows a second."""

    rows: int
    faults: tuple[FaultRecord, ...]
    seconds: float
    rate: float
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Rows ``first ..`` of all assets: (A, T, C) raw, NaN where missing, and (A, T) conditions."""

    first: int
    values: Floats
    labels: Ints


@dataclass(frozen=True, slots=True)
class _Fault:
    kind: FaultKind
    asset: int
    start: int
    stop: int
    sensors: tuple[int, ...]
    size: float


class Made:
    """The rows of a request, stretch by stretch; and, from the start, the truth about their faults.

    Raises:
        UsageError: a sensor, kind of fault, asset or condition that is not there, or too few rows.
    """

    def __init__(self, bundle: Bundle, request: Request) -> None:
        self.bundle, self.request = bundle, request
        self.names = tuple(f"synthetic-{i:04d}" for i in range(request.assets))
        condition = condition_of(bundle.conditions, request.conditions)
        try:
            self._series = bundle.series(request.assets, request.seed, condition, request.like)
        except BundleError as error:
            raise UsageError(str(error)) from error
        self.condition = condition
        self._plan = self._faults()
        self._gaps = np.random.default_rng([request.seed, 2])
        self._missing_until = np.zeros((request.assets, len(bundle.sensors)))

    @property
    def notes(self) -> list[str]:
        """What a person should know of these rows."""
        notes = []
        if self.bundle.synthesis is None:
            notes.append(
                f"model {self.bundle.version} was made before bundles kept how series go on: drawn from the"
                " prior, whose windows agree but which knows no states, levels or times; train it anew"
            )
        calendar = [name for name in condition_names(self.bundle.conditions) if is_calendar(name)]
        if calendar:
            notes.append(
                f"{', '.join(calendar)} come as they came in training, not by the rows' times: a detector that"
                " takes them from the calendar sees these rows at the wrong hour or day, and may raise alarms"
            )
        unseen = [s for s, seen in zip(self.bundle.sensors, self._seen, strict=True) if not seen]
        if unseen:
            notes.append(f"training never saw {', '.join(unseen[:8])}: no values")
        return notes

    @property
    def _seen(self) -> list[bool]:
        return [bool(seen) for seen in self.bundle.models.scaler.seen]

    def time_ns(self, row: int) -> int:
        """The event time of a row."""
        first = self.request.start_ns // self.bundle.period_ns
        return (first + row) * self.bundle.period_ns

    @property
    def truth(self) -> tuple[FaultRecord, ...]:
        """One record per fault and sensor, in order of time."""
        return tuple(
            FaultRecord(
                fault.kind,
                self.names[fault.asset],
                self.bundle.sensors[c],
                self.time_ns(fault.start),
                self.time_ns(fault.stop),
                abs(fault.size) if fault.kind.sized else None,
            )
            for fault in sorted(self._plan, key=lambda f: (f.start, f.asset))
            for c in fault.sensors
        )

    def stretches(self) -> Iterator[Stretch]:
        """All rows in order of time. A row leaves once no fault is still to be done to it."""
        lead = max(self.bundle.window, round(LAG_ROWS[1]))
        done, made, wanted = 0, 0, self.request.rows
        open_faults = sorted(self._plan, key=lambda f: f.start)
        kept: Floats | None = None  # rows from ``done - before`` on
        labels: Ints | None = None
        before = 0
        while done < wanted:
            more, more_labels = self._series.rows()
            kept = more if kept is None else np.concatenate([kept, more], 1)
            labels = more_labels if labels is None else np.concatenate([labels, more_labels], 1)
            made += more.shape[1]
            start = done - before
            left = []
            for fault in open_faults:
                if fault.stop <= made:
                    self._apply(kept, fault, start)
                else:
                    left.append(fault)
            open_faults = left
            ready = min([made, wanted, *(f.start for f in open_faults[:1])])
            if ready <= done:
                continue
            assert labels is not None
            part = slice(done - start, ready - start)
            yield Stretch(done, self._holed(kept[:, part].copy(), done), labels[:, part])
            before = min(lead, ready)
            kept, labels = kept[:, ready - before - start :], labels[:, ready - before - start :]
            done = ready

    def _faults(self) -> list[_Fault]:
        """Each of ``inject`` once per asset, one after the other with normal rows between them."""
        request, bundle = self.request, self.bundle
        wanted = [fault_of(text, bundle.sensors, self._seen) for text in request.inject]
        if not wanted:
            return []
        room = request.rows // len(wanted)
        length = min(FAULT_WINDOWS * bundle.window, room // 2)
        if room < 4 * bundle.window:
            raise UsageError(
                f"--inject: {len(wanted)} fault(s) need {4 * bundle.window * len(wanted)} rows of an asset at"
                f" least, not {request.rows}"
            )
        random = np.random.default_rng([request.seed, 3])
        alive = [c for c, seen in enumerate(self._seen) if seen and bundle.longest_constant[c] < 1 << 60]
        faults = []
        for asset in range(request.assets):
            for i, (kind, sensor) in enumerate(wanted):
                start = i * room + int(random.integers(room // 4, room - length + 1))
                if kind.sensors > max(len(alive), 1) or not alive:
                    raise UsageError(f"--inject {kind}: too few sensors vary in training")
                chosen = sensor if sensor is not None else int(random.choice(alive))
                sensors: tuple[int, ...] = (chosen,)
                if kind is FaultKind.SWAP:
                    others = [c for c in alive if c != chosen]
                    if not others:
                        raise UsageError(f"--inject {kind}: no other sensor varies")
                    sensors = (chosen, int(random.choice(others)))
                low, high = LAG_ROWS if kind is FaultKind.LAG else SIZES
                size = float(random.uniform(low, high)) * float(random.choice([-1.0, 1.0]))
                stop = start + (1 if kind is FaultKind.SPIKE else length)
                faults.append(_Fault(kind, asset, start, stop, sensors, size))
        return faults

    def _apply(self, kept: Floats, fault: _Fault, first: int) -> None:
        scaler = self.bundle.models.scaler
        random = np.random.default_rng([self.request.seed, 4, fault.asset, fault.start])
        kept[fault.asset] = inject(
            kept[fault.asset],
            Injection(fault.kind, fault.sensors, fault.start - first, fault.stop - first, fault.size),
            scaler.scale,
            random,
            scaler.mean,
        )

    def _holed(self, values: Floats, first: int) -> Floats:
        """The rows with readings missing, in bursts."""
        share = self.request.gaps
        if not share:
            return values
        random, (A, T, C) = self._gaps, values.shape
        # Bursts begin at random and may overlap: so many, that 1 - share is covered by none.
        begins = random.random((A, T, C)) < 1.0 - (1.0 - share) ** (1.0 / BURST)
        rows = first + np.arange(T)[None, :, None]
        until = np.where(begins, rows + random.geometric(1.0 / BURST, (A, T, C)), 0.0)
        until[:, 0] = np.maximum(until[:, 0], self._missing_until)
        until = np.maximum.accumulate(until, 1)
        self._missing_until = until[:, -1]
        return np.where(until > rows, np.nan, values)


def when_ns(text: str) -> int:
    """The instant of ``--start``: ISO 8601 (no zone: UTC), or ``now``.

    Raises:
        UsageError: it is neither, or before 1970.
    """
    if text.strip().lower() == "now":
        return time.time_ns()
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UsageError(f"--start {text}: write an instant as 2026-01-31T08:00:00Z, or now") from error
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    if not datetime(1970, 1, 1, tzinfo=UTC) <= when < datetime(2200, 1, 1, tzinfo=UTC):
        raise UsageError(f"--start {text}: between 1970 and 2200")
    return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000


def condition_of(known: Sequence[str], parts: Sequence[str]) -> str | None:
    """The label that all of ``k=v`` are parts of; None where nothing is asked for.

    Raises:
        UsageError: no label, or several, have them; names those that there are.
    """
    if not parts:
        return None
    for part in parts:
        if "=" not in part:
            raise UsageError(f"--condition {part}: write name=value, as --condition mode=high")
    fitting = [label for label in known if set(parts) <= {label, *label.split(",")}]
    exact = [label for label in fitting if set(label.split(",")) == set(parts)]
    if len(exact or fitting) == 1:
        return (exact or fitting)[0]
    asked = ",".join(parts)
    if not known:
        raise UsageError(f"--condition {asked}: this model knows no conditions (its stream has none)")
    listed = ", ".join((fitting or list(known))[:12])
    raise UsageError(
        f"--condition {asked}: {'more than one condition fits' if fitting else 'the model knows no such condition'};"
        f" there are {listed}"
    )


def fault_of(text: str, sensors: Sequence[str], seen: Sequence[bool]) -> tuple[FaultKind, int | None]:
    """``KIND`` or ``KIND:SENSOR``.

    Raises:
        UsageError: no such kind, or no such sensor, with the nearest name.
    """
    kind, colon, sensor = text.partition(":")
    try:
        fault = FaultKind.of(kind)
    except ValueError as error:
        raise UsageError(f"--inject {error}") from error
    if not colon:
        return fault, None
    if sensor not in sensors:
        near = get_close_matches(sensor, sensors, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sensors[:20])}"
        raise UsageError(f"--inject {text}: the model has no sensor {sensor!r}; {hint}")
    index = list(sensors).index(sensor)
    if not seen[index]:
        raise UsageError(f"--inject {text}: training never saw {sensor!r}, it has no values")
    return fault, index


def rows_of(count: int, made: Made) -> Iterator[tuple[int, int, Stretch]]:
    """``count`` rows as (asset, place in the stretch, stretch): by time, then by asset."""
    left = count
    for stretch in made.stretches():
        for t in range(stretch.values.shape[1]):
            for asset in range(min(len(made.names), left)):
                yield asset, t, stretch
            left -= min(len(made.names), left)
            if not left:
                return


def total_rows(request: Request) -> int:
    """Rows of all assets together."""
    every = request.rows * request.assets
    return every if request.count is None else min(every, request.count)


# ------------------------------------------------------------------ files
class _Table(Protocol):
    def write_table(self, table: pa.Table) -> None: ...


def write_file(
    made: Made, path: Path, format: Format = Format.JSON_WIDE, fields: FieldNames | None = None
) -> Generated:
    """Write the rows to a file, and the truth beside it; see ``Generated``.

    The truth of a former file of this name, which would lie about this one, goes.

    Raises:
        UsageError: an ending that is none of ours, or lateness where rows are sorted.
        DaemonError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"--out {path}: write .parquet, .csv or .jsonl")
    tabular = suffix in (".parquet", ".pq", ".csv")
    if tabular and made.request.late:
        raise UsageError(f"--late: a {suffix} file has no order of arrival; write .jsonl, or to a topic")
    begun = time.monotonic()
    total = total_rows(made.request)
    beside = path.with_name(path.name + ".faults.json")
    with replacing(path) as temporary:
        if tabular:
            _write_table(made, temporary, suffix, total)
        else:
            with temporary.open("wb") as out:
                for _, value in messages(made, format, fields or FieldNames(), total):
                    out.write(value + b"\n")
        if not made.request.inject:
            beside.unlink(missing_ok=True)
    if made.request.inject:
        with replacing(beside) as temporary:
            temporary.write_text(truth_json(made.truth), encoding="utf-8")
    seconds = time.monotonic() - begun
    return Generated(total, made.truth, seconds, total / max(seconds, 1e-9), made.notes)


def truth_json(truth: Sequence[FaultRecord]) -> str:
    """``[{kind, asset, sensor, start, end, size}]``."""
    return json.dumps([record.as_json() for record in truth], indent=1) + "\n"


def condition_names(conditions: Sequence[str]) -> list[str]:
    """Names of the condition's fields, by the labels ``k=v,k2=v2``."""
    return [part.partition("=")[0] for part in conditions[0].split(",")] if conditions else []


def _told(label: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in label.split(",") if "=" in part)


def _write_table(made: Made, path: Path, suffix: str, total: int) -> None:
    bundle = made.bundle
    told = condition_names(bundle.conditions)
    taken = {"asset", "timestamp", SYNTHETIC, *told}
    if taken & set(bundle.sensors):
        clash = sorted(taken & set(bundle.sensors))[0]
        raise UsageError(f"--out {path.name}: a sensor is called {clash!r} as a column is; write .jsonl")
    schema = pa.schema(
        [
            ("asset", pa.string()),
            ("timestamp", pa.timestamp("ns" if bundle.period_ns % 1_000 else "us", "UTC")),
            *((name, pa.string()) for name in told),
            *((sensor, pa.float64()) for sensor in bundle.sensors),
            (SYNTHETIC, pa.bool_()),
        ]
    )
    labels = [_told(label) for label in bundle.conditions]
    with ExitStack() as stack:
        table: _Table
        if suffix == ".csv":
            table = stack.enter_context(pa_csv.CSVWriter(str(path), schema))
        else:
            table = stack.enter_context(pq.ParquetWriter(str(path), schema))
        left = total
        for stretch in made.stretches():
            A, T, C = stretch.values.shape
            rows = min(A * T, left)
            left -= rows
            flat = stretch.values.transpose(1, 0, 2).reshape(-1, C)[:rows]
            at = stretch.labels.T.reshape(-1)[:rows].tolist()
            times = np.repeat([made.time_ns(stretch.first + t) for t in range(T)], A)[:rows]
            columns: list[Any] = [
                pa.array((made.names * T)[:rows], pa.string()),
                pa.array(times, pa.timestamp("ns", "UTC")).cast(schema.field("timestamp").type),
                *(pa.array([labels[k].get(n) if k >= 0 else None for k in at], pa.string()) for n in told),
                *(pa.array(flat[:, c], pa.float64(), from_pandas=True) for c in range(C)),
                pa.array(np.ones(rows, bool)),
            ]
            table.write_table(pa.Table.from_arrays(columns, schema=schema))
            if not left:
                break


# ------------------------------------------------------------------ messages
def messages(made: Made, format: Format, fields: FieldNames, total: int) -> Iterator[tuple[bytes, bytes]]:
    """(asset, JSON) of each message in the order of arrival: json-wide one a row, json-long one a reading."""
    late = made.request.late
    encoded = _encoded(made, format, fields, total)
    if not late:
        for _, asset, texts in encoded:
            for text in texts:
                yield asset, text
        return
    random = np.random.default_rng([made.request.seed, 5])
    waiting: list[tuple[int, int, bytes, list[bytes]]] = []
    for number, (row, asset, texts) in enumerate(encoded):
        while waiting and waiting[0][0] <= row:
            _, _, held, some = heapq.heappop(waiting)
            for text in some:
                yield held, text
        if random.random() < late:
            due = row + int(random.integers(1, LATEST + 1))
            heapq.heappush(waiting, (due, number, asset, texts))
            continue
        for text in texts:
            yield asset, text
    while waiting:
        _, _, held, some = heapq.heappop(waiting)
        for text in some:
            yield held, text


def _encoded(
    made: Made, format: Format, fields: FieldNames, total: int
) -> Iterator[tuple[int, bytes, list[bytes]]]:
    """(row, asset, its messages), by time, then by asset."""
    bundle = made.bundle
    encode = msgspec.json.Encoder().encode
    names = [name.encode() for name in made.names]
    seen = np.flatnonzero(bundle.models.scaler.seen)
    sensors = [bundle.sensors[c] for c in seen.tolist()]
    told = [_told(label) for label in bundle.conditions]
    first: int | None = None
    times: list[str] = []
    rows: list[list[list[float]]] = []
    labels: list[list[int]] = []
    for asset, t, stretch in rows_of(total, made):
        if stretch.first != first:
            first = stretch.first
            rows = stretch.values[:, :, seen].tolist()
            labels = stretch.labels.tolist()
            times = [iso(made.time_ns(first + k)) for k in range(stretch.values.shape[1])]
        head: dict[str, Any] = {}
        if fields.asset != RECORD_KEY:
            head[fields.asset] = made.names[asset]
        if fields.timestamp != RECORD_TIMESTAMP:
            head[fields.timestamp] = times[t]
        if labels[asset][t] >= 0:
            head[fields.condition] = told[labels[asset][t]]
        head[SYNTHETIC] = True
        values = rows[asset][t]
        if format is Format.JSON_WIDE:
            # NaN becomes null: how a producer says that it has no value.
            head[fields.values] = dict(zip(sensors, values, strict=True))
            texts = [encode(head)]
        else:
            texts = [
                encode({**head, fields.sensor: sensor, fields.value: value})
                for sensor, value in zip(sensors, values, strict=True)
                if value == value
            ]
        yield first + t, names[asset], texts


async def write_topic(
    made: Made,
    topic: str,
    settings: KafkaSettings,
    *,
    format: Format = Format.JSON_WIDE,
    fields: FieldNames | None = None,
    rate: float | None = None,
    send: Send | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Generated:
    """Send the rows to a topic, keyed by asset, at a rate, as they are made.

    Args:
        made: the rows.
        topic: must exist.
        settings: how to reach Kafka.
        format: of the messages.
        fields: their field names; ``FieldNames()`` if None.
        rate: rows a second, by the clock: what falls behind is caught up on. None: as fast as can be.
        send: takes the messages instead of Kafka.
        progress: told (share done, what is being done).

    Raises:
        InputError: no such topic.
        BrokerError: no broker at the start, or a refusal. Once it sends, it waits for a broker that goes away.
    """
    if send is None:
        await check_topics(settings, [topic])
    headers = ((SYNTHETIC, b"true"), ("model", made.bundle.version.encode()))
    total = total_rows(made.request)
    writer = Writer(settings) if send is None else None
    deliver = writer.write if writer is not None else send
    assert deliver is not None
    each = rows_per_beat(rate)
    begun = time.monotonic()
    sent = 0.0
    try:
        for rows, batch in _batches(
            messages(made, format, fields or FieldNames(), total), each, format, made
        ):
            await deliver([Message(topic, asset, value, headers) for asset, value in batch])
            sent += rows
            if progress is not None:
                now = sent / max(time.monotonic() - begun, 1e-9)
                progress(min(sent / total, 1.0), f"sending: {sent:,.0f} rows, {now:,.0f} a second")
            if rate is not None and (ahead := sent / rate - (time.monotonic() - begun)) > 0:
                await asyncio.sleep(ahead)
    finally:
        if writer is not None:
            await writer.stop()
    seconds = time.monotonic() - begun
    notes = made.notes
    if rate is not None and total / max(seconds, 1e-9) < 0.95 * rate and total > rate:
        notes.append(
            f"{total / seconds:,.0f} rows a second were reached, not {rate:,.0f}: fewer sensors or json-wide cost less"
        )
    return Generated(total, made.truth, seconds, total / max(seconds, 1e-9), notes)


def rows_per_beat(rate: float | None) -> int:
    """Rows that go to the broker together."""
    return 1_000 if rate is None else max(min(round(rate * BEAT_S), 1_000), 1)


def _batches(
    each: Iterable[tuple[bytes, bytes]], size: int, format: Format, made: Made
) -> Iterator[tuple[float, list[tuple[bytes, bytes]]]]:
    """(rows, messages); of json-long as many messages as these rows have readings."""
    per_row = 1 if format is Format.JSON_WIDE else max(int(made.bundle.models.scaler.seen.sum()), 1)
    batch: list[tuple[bytes, bytes]] = []
    for message in each:
        batch.append(message)
        if len(batch) >= size * per_row:
            yield len(batch) / per_row, batch
            batch = []
    if batch:
        yield len(batch) / per_row, batch
