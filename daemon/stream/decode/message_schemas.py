"""The schemas that the messages of one stream name: who is asked for them, which are wanted, and what is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from daemon.domain import Reading, Record
from daemon.mapping import DecodeRule, InnerRule, RegistryAddress
from daemon.stream.decode.decoders import MOST_BYTES, unwrapping
from daemon.stream.decode.framed import given_ids, needs_schemas
from daemon.stream.decode.framing import SchemaId
from daemon.stream.decode.inner import InnerSchemas
from daemon.stream.decode.schemas import Schemas


class MessageSchemas:
    """The schemas that the messages of one stream name: what the shell must fetch before they are decoded.

    Texts within a message (``inner``) may name schemas, too. They are found by decoding the message around them, which
    may need a schema itself: so the shell asks for what is wanted, fetches it, and asks again, ``rounds`` times in all.

    Args:
        rule: how the stream's messages are decoded.
        most_bytes: of a decompressed record.
        inner: how texts within them are.

    Raises:
        ConfigError: texts within messages name schemas, and a decoder on the way to them cannot be made.

    Attributes:
        rule: the same; its ``registry`` is who is asked.
        known: what the registry has answered; None where no schema is asked for, which is the case of most streams.
        rounds: after so many rounds of asking and fetching nothing new is wanted for the same records.
    """

    def __init__(
        self, rule: DecodeRule, most_bytes: int = MOST_BYTES, inner: Sequence[InnerRule] = ()
    ) -> None:
        self.rule = rule
        outside, inside = needs_schemas(rule), any(needs_schemas(each.decode) for each in inner)
        self.known = Schemas() if outside or inside else None
        self.rounds = int(outside) + sum(needs_schemas(each.decode) for each in inner)
        self._outside = outside
        self._inside = (
            None if self.known is None or not inside else InnerSchemas(rule, inner, self.known, most_bytes)
        )
        self._unwrap = unwrapping(rule.unwrap, most_bytes) if rule.unwrap else None
        self._given = given_ids(rule)

    @property
    def registry(self) -> RegistryAddress | None:
        """Who is asked for schemas; None where nobody is."""
        return None if self.known is None else self.rule.registry

    def wanted(self, items: Sequence[Record | Reading]) -> list[SchemaId]:
        """The schemas that records name and of which nothing is known yet, each once, those of most records first."""
        if self.known is None:
            return []
        found: Counter[SchemaId] = Counter()
        if self._outside:
            outer = self.known.wanted(items, self._unwrap)
            found.update({id: count for id, count in outer.items() if str(id) not in self._given})
        if self._inside is not None:
            found.update(self._inside.wanted(item for item in items if isinstance(item, Record)))
        return sorted(found, key=lambda id: (-found[id], str(id)))
