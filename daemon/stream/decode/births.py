"""What the birth certificates of Sparkplug have named: the memory of one input partition.

A birth (NBIRTH, DBIRTH) names all metrics of an edge node or of one of its devices, each with an alias and a
datatype; later messages may have the alias alone. A death (NDEATH, DDEATH) ends that. So a message can only be
understood with what came before it in its partition, and this memory must survive a restart.

**Certificates by offset.** What is known of a node is a list of certificates, each in force for the records after
its offset, until the next. A record is resolved by the certificate that was in force at its own offset: so records
that a successor reads again after a restart give what they gave the first time, although the memory it was given
is already that of the committed position; and taking in a certificate twice changes nothing. A snapshot needs the
certificates in force from the oldest record on that may be read again. Each is a record of its own in the state
topic, as large as its message at most, written once and deleted when nothing can need it.

**Sequence numbers** (0 to 255, per edge node) show messages that were lost on the way here. They are kept with the
offset at which they were last seen, for the same reason.

Memory is bounded: by ``MOST_METRICS`` in all certificates, ``MOST_CERTIFICATES`` of a node, and
``MOST_SEQUENCES`` of edge nodes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from daemon.domain import Reason
from daemon.stream.rejection import RejectedError

MOST_METRICS: Final = 500_000
"""In all certificates of a partition: some 100 MB."""
MOST_CERTIFICATES: Final = 64
"""Of a node, where nobody takes snapshots: then none is ever known to be unneeded."""
MOST_SEQUENCES: Final = 2_000
"""Edge nodes whose sequence numbers are followed; all are written with every commit."""
ENDED: Final = -1
"""In place of a sequence number, where the edge node has died."""
LONGEST_NODE: Final = 200
"""Characters of a node's name, GROUP/EDGE or GROUP/EDGE/DEVICE."""

BornMetric = tuple[int, str, int]
"""Alias (-1: none), name and datatype (0: not given) of a metric."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A birth, or, without metrics, a death."""

    offset: int
    metrics: tuple[BornMetric, ...] | None  # None: a death
    session: int = -1  # bdSeq of an edge node's birth; -1: not given
    names: dict[int, str] = field(default_factory=dict, compare=False)
    datatypes: dict[str, int] = field(default_factory=dict, compare=False)

    @staticmethod
    def of(offset: int, metrics: tuple[BornMetric, ...] | None, session: int = -1) -> Certificate:
        """With the names by alias, and the datatypes by name."""
        born = metrics or ()
        names = {alias: name for alias, name, _ in born if alias >= 0}
        return Certificate(offset, metrics, session, names, {name: datatype for _, name, datatype in born})

    def same_as(self, other: Certificate) -> bool:
        """Whether both say the same, be it at another offset."""
        return self.metrics == other.metrics and self.session == other.session

    @property
    def size(self) -> int:
        """How much of ``MOST_METRICS`` it takes."""
        return 1 + len(self.metrics or ())


KnownBirth = tuple[str, Certificate]
"""A certificate, and the node that it is of."""


class Births:
    """The certificates and sequence numbers of one partition.

    Attributes:
        lost: messages that never came, by the gaps in the sequence numbers.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._nodes: dict[str, list[Certificate]] = {}  # by offset
        self._devices: dict[str, set[str]] = {}  # edge node -> nodes with certificates, itself included
        self._sequences: dict[str, tuple[int, int]] = {}  # edge node -> number, offset
        self._size = 0
        self._saved: set[tuple[str, int]] = set()  # certificates that have a record
        self._unneeded: set[tuple[str, int]] = set()  # records to be deleted
        self._changing: set[str] = set()  # nodes with something to save, or to drop later

    # -------------------------------------------------------------- questions
    def at(self, node: str, offset: int) -> Certificate | None:
        """The birth in force for the record at ``offset``; None before one, or after a death."""
        known = self._nodes.get(node)
        if known is None:
            return None
        at = bisect_left(known, offset, key=lambda certificate: certificate.offset)
        return known[at - 1] if at and known[at - 1].metrics is not None else None

    def nodes(self, edge: str, offset: int) -> list[str]:
        """The edge node and its devices whose births are in force for the record at ``offset``, by name."""
        return sorted(node for node in self._devices.get(edge, ()) if self.at(node, offset) is not None)

    # -------------------------------------------------------------- what records say
    def born(self, node: str, offset: int, metrics: Sequence[BornMetric], session: int = -1) -> None:
        """A birth came.

        Raises:
            RejectedError: there are too many metrics.
        """
        self._add(node, Certificate.of(offset, tuple(metrics), session))

    def died(self, node: str, offset: int) -> None:
        """A death came, of a node that was born before."""
        self._add(node, Certificate(offset, None))

    def follow(self, edge: str, number: int, offset: int, *, first: bool = False) -> None:
        """A message of an edge node came; count those that are missing before it.

        Args:
            edge: the edge node.
            number: the sequence number of the message.
            offset: its record's.
            first: whether it begins a sequence, as an NBIRTH does.
        """
        known = self._sequences.get(edge)
        if known is None:
            if len(self._sequences) >= MOST_SEQUENCES:
                return
        elif offset <= known[1]:
            return  # read again
        elif not first and known[0] != ENDED:
            missing = (number - known[0] - 1) % 256
            if missing == 255:
                return  # the same message once more
            self.lost += missing
        self._sequences[edge] = number % 256, offset

    def end_sequence(self, edge: str, offset: int) -> None:
        """An edge node died: its next message begins a sequence."""
        if edge in self._sequences and self._sequences[edge][1] < offset:
            self._sequences[edge] = ENDED, offset

    @property
    def certificates(self) -> list[KnownBirth]:
        """All that are known, by node and offset."""
        return [(node, each) for node, known in sorted(self._nodes.items()) for each in known]

    def know(self, certificates: Sequence[KnownBirth]) -> None:
        """Take over what another memory of the same partition knows; before the first record."""
        for node, certificate in certificates:
            self._insert(node, len(self._nodes.get(node, ())), certificate)

    def _add(self, node: str, new: Certificate) -> None:
        known = self._nodes.get(node, ())
        at = bisect_left(known, new.offset, key=lambda each: each.offset)
        if at < len(known) and known[at].offset == new.offset:
            return  # read again
        if not (at and known[at - 1].same_as(new)):
            self._insert(node, at, new)

    def _insert(self, node: str, at: int, new: Certificate) -> None:
        if new.metrics is not None and self._size + new.size > MOST_METRICS:
            detail = f"over {MOST_METRICS} metrics of births are known in this partition"
            raise RejectedError(Reason.TOO_LARGE, detail)
        known = self._nodes.get(node)
        if known is None:
            known = self._nodes[node] = []
            self._devices.setdefault(edge_of(node), set()).add(node)
        known.insert(at, new)
        self._size += new.size
        self._changing.add(node)
        if len(known) > MOST_CERTIFICATES:
            self._drop(node, known.pop(0))

    def _drop(self, node: str, old: Certificate) -> None:
        self._size -= old.size
        if (node, old.offset) in self._saved:
            self._saved.discard((node, old.offset))
            self._unneeded.add((node, old.offset))

    # -------------------------------------------------------------- snapshots
    def saving(self, replay_from: int) -> Iterator[tuple[str, Certificate | None, int]]:
        """What has changed since the last time: node, certificate (None: its record is to be deleted), offset.

        Args:
            replay_from: no record before this offset will be read again.
        """
        for node in sorted(self._changing):
            known = self._nodes[node]
            while len(known) > 1 and known[1].offset < replay_from:
                self._drop(node, known.pop(0))
            if len(known) == 1 and known[0].metrics is None and known[0].offset < replay_from:
                self._drop(node, known.pop())
            for certificate in known:
                if (node, certificate.offset) not in self._saved:
                    self._saved.add((node, certificate.offset))
                    yield node, certificate, certificate.offset
            if not known:
                self._forget(node)
            if len(known) <= 1 and (not known or known[0].metrics is not None):
                self._changing.discard(node)
        for edge in [e for e, (n, at) in self._sequences.items() if n == ENDED and at < replay_from]:
            del self._sequences[edge]
        for node, offset in sorted(self._unneeded):
            yield node, None, offset
        self._unneeded.clear()

    def _forget(self, node: str) -> None:
        del self._nodes[node]
        edge = edge_of(node)
        self._devices[edge].discard(node)
        if not self._devices[edge]:
            del self._devices[edge]

    @property
    def sequences(self) -> list[tuple[str, int, int]]:
        """Edge node, last sequence number (or ``ENDED``) and the offset of its record, by name."""
        return [(edge, number, offset) for edge, (number, offset) in sorted(self._sequences.items())]

    def restore_sequences(self, sequences: Sequence[tuple[str, int, int]]) -> None:
        """Take over what ``sequences`` gave."""
        self._sequences = {edge: (number, offset) for edge, number, offset in sequences}

    def restore(self, node: str, certificate: Certificate) -> None:
        """Take over one of the certificates that ``saving`` gave.

        Raises:
            RejectedError: there are too many metrics.
        """
        known = self._nodes.get(node, ())
        self._insert(node, bisect_left(known, certificate.offset, key=lambda each: each.offset), certificate)
        self._saved.add((node, certificate.offset))


def edge_of(node: str) -> str:
    """The edge node that a node is, or belongs to."""
    group, edge, *_ = node.split("/")
    return f"{group}/{edge}"
