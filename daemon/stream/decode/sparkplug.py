"""Sparkplug B with its state: aliases resolved to names, deaths made missing values, lost messages counted.

``sparkplug`` reads the protobuf of the wire, ``sparkplug-json`` what a bridge made of it. The MQTT topic
``spBv1.0/GROUP/TYPE/EDGE[/DEVICE]`` is looked for in the record's key, its headers, the texts beside the payload
(``inner``: in the object around it), and the Kafka topic, where dots may stand for the slashes. The tree::

    {"group": "plantA", "edge": "edge1", "device": "pump-7", "type": "DDATA", "asset": "plantA/edge1/pump-7",
     "timestamp": 1764397200200, "seq": 12,
     "metrics": [{"asset": "plantA/edge1/pump-7", "name": "Temperature", "alias": 4, "datatype": 10,
                  "timestamp": 1764397200123, "value": 81.4, "quality": 192, "historical": True}]}

``device`` is absent for an edge node's own messages, and so is what a metric does not have, but for ``value``
(None: null), and ``timestamp``, which is then the payload's. Times are in milliseconds. So a mapping is::

    each: "metrics[]"     asset: asset       time: [timestamp, ^.timestamp, $timestamp]
    sensor: name          value: value       quality: {from: quality, code: sparkplug}

* NBIRTH and DBIRTH name metrics, aliases and datatypes (``births``), and are readings too. An NBIRTH ends the
  births of its devices, which are born again behind it.
* NDATA and DDATA may have aliases alone. A metric whose alias no birth has named is refused (``unknown_alias``), never
  guessed; the message, where it has nothing else.
* DDEATH and NDEATH say of every metric of the device, or of the node and all its devices, that it has no value
  (quality 500, stale). An NDEATH was written when the session began, so the record's time is its time; one of an
  earlier session (``bdSeq``) and one of an unknown node are skipped.
* NCMD, DCMD and STATE are skipped under these names.

Births and data must come in one partition: records keyed by the whole MQTT topic are in several.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from daemon.domain import Reason
from daemon.stream.decode.arrival import Arrival, Parts, TreeDecoder
from daemon.stream.decode.births import LONGEST_NODE, Births, BornMetric
from daemon.stream.decode.json_text import json_tree
from daemon.stream.decode.sparkplug_json import payload_of
from daemon.stream.decode.sparkplug_protobuf import protobuf_payload
from daemon.stream.decode.sparkplug_values import TEMPLATE, Metric, Payload, typed
from daemon.stream.rejection import RejectedError, SkippedError, shown

STALE: Final = 500
"""The quality of a value whose node or device is dead."""
_TYPES: Final = "NBIRTH|NDEATH|NDATA|NCMD|DBIRTH|DDEATH|DDATA|DCMD"
_SLASHES: Final = re.compile(
    rf'spBv1\.0/([^/"\x00-\x1f\x7f]+)/({_TYPES})/([^/"\x00-\x1f\x7f]+)(?:/([^/"\x00-\x1f\x7f]+))?'
)
_DOTS: Final = re.compile(rf"spBv1\.0\.([^/]+?)\.({_TYPES})\.([^/.]+)(?:\.([^/]+))?$")
_STATE: Final = re.compile(r'(?:^|"|spBv1\.0[/.])STATE[/.]')
_CONTROL: Final = ("Node Control/", "Device Control/", "bdSeq")
"""Beginnings of the names of metrics that belong to the protocol."""
MOST_TOPICS: Final = 4096
_LONGEST_TOPIC: Final = 1_000
"""Characters of a text that may be one, or have one in it."""


class Topic(NamedTuple):
    """What an MQTT topic of Sparkplug says."""

    group: str
    type: str
    edge: str
    device: str | None

    @property
    def edge_node(self) -> str:
        """``GROUP/EDGE``."""
        return f"{self.group}/{self.edge}"

    @property
    def node(self) -> str:
        """What the message is of: ``GROUP/EDGE`` or ``GROUP/EDGE/DEVICE``."""
        return self.edge_node if self.device is None else f"{self.group}/{self.edge}/{self.device}"


def sparkplug() -> TreeDecoder:
    """The decoder of the protobuf on the wire.

    Raises:
        ConfigError: its library is not installed.
    """
    decode, topic_of = protobuf_payload(), _TopicFinder()

    def tree(value: bytes, arrival: Arrival) -> Any:
        topic = topic_of(arrival, None)  # first: what is no reading need be no payload
        return _resolved(topic, decode(value), arrival)

    return tree


def sparkplug_json() -> TreeDecoder:
    """The decoder of JSON that a bridge made of it."""
    topic_of = _TopicFinder()

    def decode(value: bytes, arrival: Arrival) -> Any:
        """Raises RejectedError: see ``json_tree`` and the module."""
        try:
            tree = json_tree(value)
        except RejectedError:
            topic_of(arrival, None)  # a STATE may be no JSON
            raise
        topic = topic_of(arrival, tree)
        return _resolved(topic, payload_of(tree), arrival)

    return decode


class _TopicFinder:
    """Finds the MQTT topic of a record; the topics of a stream are few and come again."""

    def __init__(self) -> None:
        self._known: dict[str | bytes, Topic | str | None] = {}

    def __call__(self, arrival: Arrival, tree: Any) -> Topic:
        """Raises RejectedError, where there is none, and SkippedError for messages that are no readings."""
        for text in _texts(arrival, tree):
            if len(text) > _LONGEST_TOPIC:
                continue
            if text in self._known:
                found = self._known[text]
            else:
                found = _parsed(text)
                if len(self._known) >= MOST_TOPICS:
                    self._known.clear()
                self._known[text] = found
            if isinstance(found, str):
                raise SkippedError(found)
            if found is not None:
                return found
        raise RejectedError(
            Reason.NO_ASSET,
            "no Sparkplug topic (spBv1.0/GROUP/TYPE/EDGE/DEVICE) in the record's key, headers or topic",
        )


def _texts(arrival: Arrival, tree: Any) -> Iterator[str | bytes]:
    """Where the topic may be."""
    record = arrival.record
    if record.key is not None:
        yield record.key
    for _, value in record.headers:
        if value is not None:
            yield value
    for around in (tree, arrival.around):
        if type(around) is dict:
            for value in around.values():
                if type(value) is str:
                    yield value
    yield record.topic


def _parsed(text: str | bytes) -> Topic | str | None:
    """The topic in a text; the name of a type that holds no readings; None where it is no such topic."""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    match = _SLASHES.search(text) or _DOTS.search(text)
    if match is None:
        return "STATE" if _STATE.search(text) else None
    group, kind, edge, device = match.groups()
    if kind in ("NCMD", "DCMD"):
        return str(kind)
    if kind.startswith("D") and device is None:
        return None
    topic = Topic(group, kind, edge, device if kind.startswith("D") else None)
    return topic if len(topic.node) <= LONGEST_NODE else None


# ------------------------------------------------------------------ with what came before
def _resolved(topic: Topic, payload: Payload, arrival: Arrival) -> dict[str, Any]:
    births = Births() if arrival.births is None else arrival.births
    offset = arrival.record.offset
    if payload.sequence is not None and topic.type != "NDEATH":
        births.follow(topic.edge_node, payload.sequence, offset, first=topic.type == "NBIRTH")
    tree: dict[str, Any] = {"group": topic.group, "edge": topic.edge, "type": topic.type, "asset": topic.node}
    if topic.device is not None:
        tree["device"] = topic.device
    if payload.timestamp is not None:
        tree["timestamp"] = payload.timestamp
    if payload.sequence is not None:
        tree["seq"] = payload.sequence
    if topic.type in ("NDEATH", "DDEATH"):
        tree["metrics"] = _death(topic, payload, births, arrival)
        return tree
    if topic.type in ("NBIRTH", "DBIRTH"):
        _birth(topic, payload, births, offset)
    tree["metrics"] = _named(topic, payload, births, arrival)
    return tree


def _birth(topic: Topic, payload: Payload, births: Births, offset: int) -> None:
    metrics: list[BornMetric] = [
        (-1 if each.alias is None else each.alias, each.name, each.datatype)
        for each in payload.metrics
        if each.name is not None
    ]
    if topic.device is None:
        for node in births.nodes(topic.edge_node, offset):
            if node != topic.node:
                births.died(node, offset)
    births.born(topic.node, offset, metrics, _session(payload.metrics))


def _death(topic: Topic, payload: Payload, births: Births, arrival: Arrival) -> list[dict[str, Any]]:
    """Every metric of what died, without a value."""
    offset, whole_node = arrival.record.offset, topic.device is None
    known = births.at(topic.node, offset)
    if whole_node and known is not None:
        session = _session(payload.metrics)
        if -1 not in (session, known.session) and session != known.session:
            raise SkippedError("NDEATH of an earlier session")
    nodes = births.nodes(topic.edge_node, offset) if whole_node else [topic.node]
    time = payload.timestamp
    if (whole_node or time is None) and arrival.record.timestamp_ns >= 0:
        time = arrival.record.timestamp_ns // 1_000_000
    metrics = []
    for node in nodes:
        born = births.at(node, offset)
        if born is None:
            continue
        for alias, name, datatype in born.metrics or ():
            if not _says_nothing(name, datatype):
                metrics.append(_item(node, Metric(name, alias, time, datatype, None, STALE)))
        births.died(node, offset)
    if whole_node:
        births.end_sequence(topic.edge_node, offset)
    if not metrics:
        raise SkippedError(f"{topic.type} of what was not born")
    return metrics


def _named(topic: Topic, payload: Payload, births: Births, arrival: Arrival) -> list[dict[str, Any]]:
    """The metrics of a message with their names; those that have none are refused alone, if there are others."""
    born = None
    if not topic.type.endswith("BIRTH"):
        born = births.at(topic.node, arrival.record.offset)
    parts = Parts()
    for number, each in enumerate(payload.metrics):
        name, datatype = each.name, each.datatype
        if name is None:
            known = None if born is None or each.alias is None else born.names.get(each.alias)
            if known is None:
                parts.refuse(f"metric {number}", _nameless(topic, each, known_birth=born is not None))
                continue
            name = known + each.member
        if not datatype and born is not None:
            datatype = born.datatypes.get(name, 0)
        if _says_nothing(name, datatype):
            continue
        time = payload.timestamp if each.timestamp is None else each.timestamp
        value = typed(each.value, datatype)
        metric = Metric(name, each.alias, time, datatype, value, each.quality, each.historical)
        parts.found.append(_item(topic.node, metric))
    return parts.taken(arrival, may_be_none=True)


def _says_nothing(name: str, datatype: int) -> bool:
    """Whether a metric is none of a sensor: it belongs to the protocol, or it is a template, whose members count."""
    return datatype == TEMPLATE or name.startswith(_CONTROL)


def _nameless(topic: Topic, metric: Metric, *, known_birth: bool) -> RejectedError:
    if metric.alias is None:
        return RejectedError(Reason.UNKNOWN_ALIAS, "it has neither name nor alias")
    why = "its last birth does not name it" if known_birth else "its birth came not in this partition (yet)"
    detail = f"alias {metric.alias} of {shown(topic.node)} has no name: {why}"
    return RejectedError(Reason.UNKNOWN_ALIAS, detail)


def _item(node: str, metric: Metric) -> dict[str, Any]:
    item = {"asset": node, "value": metric.value}
    for key in ("name", "alias", "timestamp", "quality"):
        found = getattr(metric, key)
        if found is not None:
            item[key] = found
    if metric.datatype:
        item["datatype"] = metric.datatype
    if metric.historical:
        item["historical"] = True
    return item


def _session(metrics: list[Metric]) -> int:
    """The number of the session (``bdSeq``) that an NBIRTH or NDEATH is of; -1 where it names none."""
    for each in metrics:
        if each.name == "bdSeq" and type(each.value) is int and 0 <= each.value < 1 << 62:
            return each.value
    return -1
