"""Outputs to bytes: the only place that knows what outgoing messages look like.

``encode`` turns each kind of output into the message of its topic: scores, imputed rows, alerts (as structured
CloudEvents), drift records and dead letters. ``read_alert`` and ``read_drift`` read messages back, for a process that
learns from what others published; ``alert_decoding`` does, for one that shows them. Invariant: a message is a pure function of its output, but for the ``time``
of a CloudEvent. ``KafkaSink.publish`` and ``Transactions.commit`` call ``encode``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from daemon.alert import AcceptedChange, ShadowCounts
from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    DeadLetter,
    DriftRecord,
    FilledRow,
    InputPartition,
    Json,
    Output,
    PartScore,
    Phase,
    ScoredRow,
    iso,
)
from daemon.drifting import DriftingAsset
from daemon.stream.rejection import RejectedError
from daemon.stream.timestamps import event_time_ns, iso_or_number

DEAD_LETTER_BYTES: Final = 64 * 1024
"""Bytes that a dead letter contains of a record that is too long for it."""
WHOLE_LETTER_BYTES: Final = 900_000
"""Longest record that it contains whole: with its headers that fits a topic's default max.message.bytes."""
ALERTS: Final = "alerts"
IMPUTED: Final = "imputed"
SCORES: Final = "scores"
DRIFT: Final = "drift"
DEAD_LETTERS: Final = "dead-letter"
_STATUS: Final = {Phase.CLOSED: "resolved", Phase.SUPPRESSED: "suppressed"}


@dataclass(frozen=True, slots=True)
class Encoded:
    """One message; ``topic`` is without the prefix (``anomalyd.``)."""

    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]


def encode(output: Output, now: datetime) -> Encoded:
    """The message of an output.

    Args:
        output: what the pipeline emitted.
        now: the wall clock, aware; it goes into the ``time`` of a CloudEvent only.

    Returns:
        The message. A number that is not finite is ``null``.
    """
    if isinstance(output, ScoredRow):
        topic, key, body = SCORES, output.asset, _scored(output)
    elif isinstance(output, FilledRow):
        topic, key, body = IMPUTED, output.asset, _filled(output)
    elif isinstance(output, AlertEvent):
        return Encoded(
            ALERTS,
            output.asset.encode(),
            _json(_cloud_event(output, now)),
            [
                ("content-type", b"application/cloudevents+json; charset=UTF-8"),
                ("stream", output.stream.encode()),
            ],
        )
    elif isinstance(output, DriftRecord):
        topic, key, body = DRIFT, output.stream, _drift(output)
    else:
        return encode_dead_letter(output)
    headers = [("content-type", b"application/json"), ("stream", output.stream.encode())]
    return Encoded(topic, key.encode(), _json(body), headers)


_json = msgspec.json.Encoder().encode  # writes NaN and infinities as null


def _scored(row: ScoredRow) -> Json:
    return {
        "asset": row.asset,
        "timestamp": iso(row.row_ns),
        "score": row.score,
        "reconstruction": row.reconstruction,
        "kl": row.kl,
        "point": row.point,
        "elbo": row.elbo,
        "alarm": row.alarm,
        "model": row.model,
        "static_score": row.static_score,
    }


def _filled(row: FilledRow) -> Json:
    cells = {s: {"value": c.value, "low": c.low, "high": c.high} for s, c in row.cells.items()}
    return {
        "asset": row.asset,
        "timestamp": iso(row.row_ns),
        "values": cells,
        "method": row.method,
        "model": row.model,
    }


def _part(score: PartScore) -> Json:
    found: Json = {"value": score.value, "threshold": score.threshold}
    if score.p is not None:
        found["p"] = score.p
    return found


def _source(alert: AlertEvent) -> str:
    """The source of a CloudEvent: the stream; for its drift, which belongs to a partition, that partition."""
    source = f"/anomalyd/{alert.stream}"
    of_stream = alert.kind is AlertKind.DRIFT and alert.asset == alert.stream
    if of_stream and alert.partition is not None:
        source += f"/{alert.partition.topic}/{alert.partition.number}"
    return source


def _cloud_event(alert: AlertEvent, now: datetime) -> Json:
    subject: Json = {"sensor": alert.sensor} if alert.sensor is not None else {}
    data: Json = {
        "fingerprint": alert.fingerprint,
        "status": _STATUS.get(alert.phase, "firing"),
        "severity": alert.severity.value,
        "kind": alert.kind.value,
        **subject,
        "kinds": [kind.value for kind in alert.kinds or (alert.kind,)],
        "sensors": list(alert.sensors),
        "open": [
            {"kind": part.kind.value, "sensor": part.sensor, "onset": iso(part.onset_ns)}
            for part in alert.parts
        ],
        "scores": {name: _part(score) for name, score in alert.scores.items()},
        "model": {"version": alert.model, "calibration": alert.calibration},
    }
    if alert.peak is not None:
        peak = alert.peak
        data["peak"] = {
            "row": iso(peak.row_ns),
            "score": peak.score,
            "value": peak.value,
            "threshold": peak.threshold,
        }
    if alert.regime is not None:
        regime = alert.regime
        data["regime"] = {
            "since": iso(regime.since_ns),
            "learned": regime.learned,
            "accepted": regime.accepted,
        }
    if alert.maintenance is not None:
        data["maintenance"] = alert.maintenance
    if alert.verdict is not None:
        data["verdict"] = alert.verdict
    if alert.feedback is not None:
        said = alert.feedback
        data["feedback"] = {"verdict": said.verdict.value, "by": said.by, "note": said.note}
    if alert.accepted:
        data["accepted"] = accepted_json(alert.accepted)
    if alert.dismissed_like is not None:
        data["dismissed_like"] = alert.dismissed_like
    if alert.clock_offset_ns is not None:
        data["clock"] = {"offset_seconds": alert.clock_offset_ns / SECOND_NS}
    if alert.per_day is not None:
        data["trend"] = {"per_day": alert.per_day}
    if alert.drift is not None:
        data["drift"] = _drifting(alert.drift)
    if alert.unread:
        data["unread"] = dict(sorted(alert.unread.items()))
    if alert.window_start_ns is not None:
        data["window"] = {
            "start": iso(alert.window_start_ns),
            "end": iso(alert.row_ns),
            "steps": alert.window_steps,
            "imputed_share": alert.imputed_share,
        }
    data["contributors"] = [
        {"sensor": c.sensor, "observed": c.observed, "expected": c.expected, "share": c.share}
        | ({} if c.unit is None else {"unit": c.unit})
        for c in alert.contributors
    ]
    data |= {"row": iso(alert.row_ns), "onset": iso(alert.onset_ns), "opened": iso(alert.opened_ns)}
    if alert.ended_ns is not None:
        data["ended"] = iso(alert.ended_ns)
    if alert.returned:
        data["returned"] = alert.returned
    if alert.absorbed:
        data["absorbed"] = True
    if alert.continued_by is not None:
        data["continued_by"] = alert.continued_by
    if alert.model_changed:
        data["model_changed"] = True
    if alert.partition is not None:
        data["origin"] = {
            "topic": alert.partition.topic,
            "partition": alert.partition.number,
            "first_offset": alert.first_offset,
            "last_offset": alert.last_offset,
        }
    data["labels"] = {"stream": alert.stream, "asset": alert.asset, "kind": alert.kind.value, **subject}
    data["annotations"] = {"summary": alert.summary}
    return {
        "specversion": "1.0",
        "id": alert.id,
        "type": f"io.anomalyd.episode.{alert.phase.value}.v1",
        "source": _source(alert),
        "subject": alert.asset,
        "time": now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "dataschema": "urn:anomalyd:schema:anomaly-event:1",
        "data": data,
    }


def accepted_json(changes: Sequence[AcceptedChange]) -> list[Json]:
    """What has become normal, as messages, ``--json`` and the page's data have it."""
    return [
        {"sensor": one.sensor, "change": one.change} | ({} if one.unit is None else {"unit": one.unit})
        for one in changes
    ]


def _drift(record: DriftRecord) -> Json:
    return {
        "stream": record.stream,
        "topic": record.partition.topic,
        "partition": record.partition.number,
        "start": iso(record.start_ns),
        "end": iso(record.end_ns),
        "model": record.model,
        "windows": record.windows,
        "explained": record.explained,
        "verdict": record.verdict,
        "kl_nats_sum": record.kl_sum,
        "latent": {
            "kl_nats": record.latent_kl,
            "kl_nats_total": _total(record.latent_kl),
            "threshold_nats": record.latent_threshold,
            "sum": record.latent_sum,
            "square_sum": record.latent_square_sum,
        },
        "residual": {
            "kl_nats": record.residual_kl,
            "kl_nats_total": _total(record.residual_kl),
            "threshold_nats": record.residual_threshold,
            "count": record.residual_count,
            "sum": record.residual_sum,
            "square_sum": record.residual_square_sum,
        },
        "readings": {
            "sum": record.reading_sum,
            "square_sum": record.reading_square_sum,
            "expected_sum": record.expected_sum,
        },
        "assets_judged": record.fleet.judged,
        "assets_drifting": record.fleet.drifting,
        "assets": [{"asset": one.asset} | _drifting(one) for one in record.fleet.assets],
    } | ({} if record.shadow is None else {"shadow": asdict(record.shadow)})


def _drifting(one: DriftingAsset) -> Json:
    return {
        "start": iso(one.start_ns),
        "end": iso(one.end_ns),
        "windows": one.windows,
        "latent": {
            "kl_nats_total": one.latent_kl,
            "threshold_nats": one.latent_threshold,
            "dimensions": one.dimensions,
        },
        "residual": {"kl_nats_total": one.residual_kl, "threshold_nats": one.residual_threshold},
        "sensors": one.sensors,
    }


def _total(nats: tuple[float, ...]) -> float:
    """The sum over dimensions, without those that had too little data (NaN)."""
    return math.fsum(each for each in nats if math.isfinite(each))


def kept(original: bytes, most: int = WHOLE_LETTER_BYTES) -> bytes:
    """The part of a record's value (or key) that a dead letter contains: all of it, or its beginning."""
    return original if len(original) <= most else original[: min(most, DEAD_LETTER_BYTES)]


def encode_dead_letter(letter: DeadLetter, most: int = WHOLE_LETTER_BYTES) -> Encoded:
    """The record as it arrived; one that is too long for a topic is cut, with the SHA-256 of the whole.

    Args:
        letter: the rejected record.
        most: longest value that is kept whole; a longer one is cut to 64 kB, or to this.
    """
    rejected = letter.rejected
    record = rejected.record
    headers = [
        ("reason", rejected.reason.value),
        ("detail", rejected.detail),
        ("stream", letter.stream),
        ("origin-topic", letter.partition.topic),
        ("origin-partition", str(letter.partition.number)),
        ("origin-offset", str(record.offset)),
        ("origin-timestamp", iso_or_number(record.timestamp_ns) if record.timestamp_ns >= 0 else ""),
        ("length", str(len(record.value))),
    ]
    value = kept(record.value, most)
    if len(value) < len(record.value):
        headers.append(("sha256", hashlib.sha256(record.value).hexdigest()))
    key = record.key
    if key is not None and len(key) > min(most, DEAD_LETTER_BYTES):
        headers += [("key-length", str(len(key))), ("key-sha256", hashlib.sha256(key).hexdigest())]
        key = key[: min(most, DEAD_LETTER_BYTES)]
    return Encoded(
        DEAD_LETTERS,
        key,
        value,
        [(name, text.encode(errors="backslashreplace")) for name, text in headers],
    )


# ------------------------------------------------------------------ alerts and drift, read back
ALERT_BYTES: Final = 1 << 20
"""Longest message; a longer one is not read."""


@dataclass(frozen=True, slots=True)
class PublishedAlert:
    """An alert message, as far as another process needs it."""

    stream: str
    asset: str
    kind: str  # an ``AlertKind``, or one of a newer version
    sensor: str | None
    fingerprint: str
    onset_ns: int
    row_ns: int  # the row that caused the message
    over: bool  # ``row_ns`` closed the episode
    parts: tuple[tuple[str, str | None, int], ...] = ()  # what is open: kind, sensor, onset in ns
    learned_ns: int | None = (
        None  # since when the rows of its anomaly and deviations may be learned; None: not now
    )
    accepted: bool = False  # its regime is normal from this row on
    suppressed: bool = False  # a planned stop did
    quiet: bool = False  # nothing is open of it, and it may come back


class _PartData(msgspec.Struct):
    kind: str
    onset: str
    sensor: str | None = None


class _RegimeData(msgspec.Struct):
    since: str = ""
    learned: bool = False
    accepted: bool = False


class _AlertData(msgspec.Struct):
    fingerprint: str
    status: str
    kind: str
    row: str
    onset: str
    labels: dict[str, str]
    sensor: str | None = None
    open: list[_PartData] = []
    ended: str | None = None
    regime: _RegimeData | None = None


class _AlertMessage(msgspec.Struct):
    subject: str
    data: _AlertData


_alert_message = msgspec.json.Decoder(_AlertMessage).decode


def read_alert(message: bytes) -> PublishedAlert:
    """The alert of a message that ``encode`` made.

    Raises:
        ValueError: it is no alert message.
    """
    if len(message) > ALERT_BYTES:
        raise ValueError(f"{len(message)} bytes are too many for an alert")
    try:
        event = _alert_message(message)
        data = event.data
        return PublishedAlert(
            data.labels["stream"],
            event.subject,
            data.kind,
            data.sensor,
            data.fingerprint,
            event_time_ns(data.onset),
            event_time_ns(data.row),
            data.status in ("resolved", "suppressed"),
            tuple((part.kind, part.sensor, event_time_ns(part.onset)) for part in data.open),
            event_time_ns(data.regime.since) if data.regime is not None and data.regime.learned else None,
            data.regime is not None and data.regime.accepted,
            data.status == "suppressed",
            data.status == "firing" and data.ended is not None,
        )
    except (msgspec.MsgspecError, KeyError, RecursionError, RejectedError) as error:
        raise ValueError(f"no alert message: {type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class PublishedDrift:
    """A drift record, as far as another process needs it."""

    stream: str
    partition: InputPartition
    start_ns: int
    end_ns: int
    model: str
    verdict: str  # ok | drift | insufficient
    windows: int = 0
    explained: int = 0
    shadow: ShadowCounts | None = None
    assets: tuple[tuple[str, int, int], ...] = ()  # that drift alone: each with the interval's start and end


class _DriftingMessage(msgspec.Struct):
    asset: str
    start: str
    end: str


class _DriftMessage(msgspec.Struct):
    stream: str
    topic: str
    partition: int
    start: str
    end: str
    model: str
    verdict: str
    windows: int = 0
    explained: int = 0
    shadow: ShadowCounts | None = None
    assets: list[_DriftingMessage] = []  # none in records of earlier versions


_drift_message = msgspec.json.Decoder(_DriftMessage).decode


def read_drift(message: bytes) -> PublishedDrift:
    """The drift record of a message that ``encode`` made.

    Raises:
        ValueError: it is no drift record.
    """
    if len(message) > ALERT_BYTES:
        raise ValueError(f"{len(message)} bytes are too many for a drift record")
    try:
        record = _drift_message(message)
        return PublishedDrift(
            record.stream,
            InputPartition(record.topic, record.partition),
            event_time_ns(record.start),
            event_time_ns(record.end),
            record.model,
            record.verdict,
            record.windows,
            record.explained,
            record.shadow,
            tuple((one.asset, event_time_ns(one.start), event_time_ns(one.end)) for one in record.assets),
        )
    except (msgspec.MsgspecError, RecursionError, RejectedError) as error:
        raise ValueError(f"no drift record: {type(error).__name__}") from error
