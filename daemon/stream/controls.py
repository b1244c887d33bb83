"""Control messages in one input partition: which it has taken, and which wait for a committable offset.

Every replica reads the whole topic of control messages, and each partition takes every message exactly once: it takes
them between two records, at an offset that can be committed, and the position in the topic up to which it has taken them
is part of its record of state, beside what they changed. What a message changes of assets must be in their own records by
then (``Ledger.mark``): a successor that replays records does not take the message again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from daemon.control import Control, MaintenanceOrder, Received, read_control, written
from daemon.domain import StreamSpec
from daemon.stream.assets import AssetTable
from daemon.stream.maintenance import Maintenance


class Controls:
    """The control messages of one input partition.

    Args:
        spec: the stream.
        assets: of the partition.
        maintenance: what its orders change.

    Attributes:
        position: messages before it have been taken ...
        of_topic: ... of the topic whose first record is of this time, ns; -1: none has been taken.
        changed: whether it has moved since the last record of state.
    """

    def __init__(self, spec: StreamSpec, assets: AssetTable, maintenance: Maintenance) -> None:
        self.position = 0
        self.of_topic = -1
        self.changed = False
        self._spec = spec
        self._assets = assets
        self._maintenance = maintenance
        self._waiting: deque[Received] = deque()

    @property
    def due(self) -> bool:
        """Whether a message waits."""
        return bool(self._waiting)

    def add(self, received: Received) -> None:
        """A message has arrived; one that was taken before is left out."""
        last = self._waiting[-1].position if self._waiting else self.position - 1
        if received.position > last:
            self._waiting.append(received)

    def concerned(self) -> set[str]:
        """The assets that the message to be taken now is about: a replay must not judge their rows by it."""
        control, mine = self._waiting[0].control, self._assets.slots.keys()
        if not isinstance(control, MaintenanceOrder):
            return set()
        assets = self._maintenance.concerned(control)
        return set(mine) if assets is None else set(assets) & mine

    def take(self, event_time_ns: int) -> Control:
        """Take that message: what it says of maintenance is in force now. Verdicts are the caller's."""
        received = self._waiting.popleft()
        self.position, self.changed = received.position + 1, True
        control = received.control
        if isinstance(control, MaintenanceOrder):
            self._maintenance.order(control, event_time_ns)
        return control

    # -------------------------------------------------------------- state of a successor
    def snapshot(self) -> list[bytes]:
        """The orders of maintenance in force, part of the partition's record of state; beside ``position``."""
        return [written(order) for order in self._maintenance.orders()]

    def restore(self, position: int, of_topic: int, orders: Sequence[bytes]) -> None:
        """Continue as another process left it."""
        self.position, self.of_topic = position, of_topic
        read = [read_control(each) for each in orders]
        self._maintenance.restore_orders(each for each in read if isinstance(each, MaintenanceOrder))
        while self._waiting and self._waiting[0].position < position:
            self._waiting.popleft()

    def follow(self, of_topic: int) -> bool:
        """Go on with a topic; True if it is another than before, so that its first message is the next."""
        other = self.of_topic not in (-1, of_topic)
        if other:
            self.position = 0
            self._waiting.clear()
        self.changed |= other
        self.of_topic = of_topic
        return other
