"""The schemas that the messages of one stream name: who is asked for them, which are wanted, and what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from daemon.domain import Reading, Record
from daemon.mapping import DecodeRule, RegistryAddress
from daemon.stream.decode.decoders import MOST_BYTES, unwrapping
from daemon.stream.decode.framed import needs_schemas
from daemon.stream.decode.framing import SchemaId
from daemon.stream.decode.schemas import Schemas


class MessageSchemas:
    """The schemas that the messages of one stream name: what the shell must fetch before they are decoded.

    Args:
        rule: how the stream's messages are decoded.
        most_bytes: of a decompressed record.

    Attributes:
        rule: the same; its ``registry`` is who is asked.
        known: what the registry has answered; None where no schema is asked for, which is the case of most streams.
    """

    def __init__(self, rule: DecodeRule, most_bytes: int = MOST_BYTES) -> None:
        self.rule = rule
        self.known = Schemas() if needs_schemas(rule) else None
        self._unwrap = unwrapping(rule.unwrap, most_bytes) if rule.unwrap else None
        self._given = (
            frozenset(map(str, given)) if isinstance(given := rule.options.get("schemas"), Mapping) else ()
        )

    @property
    def registry(self) -> RegistryAddress | None:
        """Who is asked for schemas; None where nobody is."""
        return None if self.known is None else self.rule.registry

    def wanted(self, items: Sequence[Record | Reading]) -> list[SchemaId]:
        """The schemas that records name and of which nothing is known yet."""
        if self.known is None:
            return []
        return [id for id in self.known.wanted(items, self._unwrap) if str(id) not in self._given]
