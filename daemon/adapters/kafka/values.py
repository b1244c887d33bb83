"""What callers and this package exchange: topics as wanted and as found, check results, messages, entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic that is needed; ``partitions`` None means the broker's default."""

    name: str
    partitions: int | None = None
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is; 0 partitions: it does not exist."""

    name: str
    partitions: int
    created: bool = False


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of ``check --probe``: what was checked, whether it is in order, and the detail."""

    what: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message for a topic; the partition is the key's unless given."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class TopicShape:
    """The properties of a topic that a writer needs."""

    partitions: int
    limit: int  # bytes of a message and of a batch


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One record of a compacted topic; a None value deletes its key. A struct, because there may be many."""

    key: bytes
    value: bytes | None
    partition: int = 0
