"""The schemas that messages name, as far as they are known here: ``Schemas``, a cache that the shell fills.

The core asks nobody. Before records are decoded, the shell looks which schemas they name that are not known yet
(``wanted``), asks the registry, and puts in what it answered: a ``Schema``, or that there is none. A record
that names a schema nobody has asked for is rejected; the runtime sees to it that this does not happen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from daemon.domain import Reading, Reason, Record, Records
from daemon.stream.decode.framing import Headers, SchemaId, confluent_id, framed
from daemon.stream.rejection import RejectedError

ABSENT_KEPT: Final = 10_000
"""Ids that the registry does not have which are remembered; it is asked again for one that is forgotten."""


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema with all that it refers to.

    Args:
        kind: AVRO, PROTOBUF or JSON, as registries call it.
        text: Avro's JSON.
        references: Avro: the texts of the schemas whose names it uses, each after those that it uses itself.
        files: Protobuf: serialized ``FileDescriptorProto``, each after those that it imports; its own is the last.
    """

    kind: str
    text: str = ""
    references: tuple[str, ...] = ()
    files: tuple[bytes, ...] = ()


class UnusableSchemaError(ValueError):
    """A schema cannot be used; the message says why."""


class SchemaSource(Protocol):
    """What a decoder asks for schemas."""

    def schema(self, id: SchemaId) -> Schema:
        """The schema of an id.

        Raises:
            SchemaMissing: it is not known here whether there is one.
            RejectedError: there is none.
        """
        ...


class SchemaMissing(RejectedError):  # noqa: N818 - reads better where it is raised
    """The registry was not asked for this schema yet."""

    def __init__(self, id: SchemaId) -> None:
        super().__init__(Reason.UNKNOWN_SCHEMA, f"schema {id} was not fetched from the registry")
        self.id = id


class Schemas:
    """The schemas of one stream that the registry has answered for; see the module.

    A schema of an id never changes, so it is kept for ever. What the registry did not have is asked for again
    when it was forgotten.
    """

    def __init__(self) -> None:
        self._known: dict[SchemaId, Schema] = {}
        self._absent: dict[SchemaId, str] = {}

    def put(self, id: SchemaId, found: Schema | str) -> None:
        """Keep what the registry answered: the schema, or why there is none that can be used."""
        if isinstance(found, Schema):
            self._known[id] = found
            self._absent.pop(id, None)
            return
        if len(self._absent) >= ABSENT_KEPT:
            self._absent.clear()
        self._absent[id] = found

    def has_answer(self, id: SchemaId) -> bool:
        """Whether the registry has answered for an id."""
        return id in self._known or id in self._absent

    def forget_absent(self) -> None:
        """Forget which schemas the registry did not have: they may have been registered since."""
        self._absent.clear()

    def schema(self, id: SchemaId) -> Schema:
        """See ``SchemaSource``."""
        found = self._known.get(id)
        if found is not None:
            return found
        if (why := self._absent.get(id)) is not None:
            raise RejectedError(Reason.UNKNOWN_SCHEMA, why)
        raise SchemaMissing(id)

    def wanted(
        self, items: Sequence[Record | Reading], unwrap: Callable[[bytes], bytes] | None = None
    ) -> Counter[SchemaId]:
        """The schemas that records name and of which nothing is known, with how many records name each.

        Args:
            items: records; readings have no schema.
            unwrap: takes off what is around the framing.
        """
        found: Counter[SchemaId] = Counter()
        for prefix, count in _prefixes(items, unwrap).items():
            try:
                id, _ = confluent_id(prefix)
            except RejectedError:
                continue
            if not self.has_answer(id):
                found[id] += count
        return found


def _prefixes(items: Sequence[Record | Reading], unwrap: Callable[[bytes], bytes] | None) -> dict[bytes, int]:
    """The first bytes of records in Confluent's framing, with how many records begin so."""
    headers: Sequence[Headers]
    if isinstance(items, Records):
        values, headers = items.values, items.headers
    else:
        records = [item for item in items if isinstance(item, Record)]
        values = [record.value for record in records]
        headers = [record.headers for record in records]
    framed_values: Iterable[bytes] = values
    if unwrap is not None:
        framed_values = _unwrapped(values, unwrap)
    elif any(headers):
        framed_values = map(framed, values, headers)
    counts: dict[bytes, int] = {}
    for value in framed_values:
        # A GUID is looked at only where there may be one: of other records five bytes tell them apart.
        prefix = value[:17] if value[:1] == b"\x01" else value[:5]
        counts[prefix] = counts.get(prefix, 0) + 1
    return counts


def _unwrapped(values: Iterable[bytes], unwrap: Callable[[bytes], bytes]) -> Iterable[bytes]:
    for value in values:
        try:
            yield unwrap(value)
        except RejectedError:
            continue
