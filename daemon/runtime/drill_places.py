"""Places for the fire drill: copies of an asset's newest normal rows, with the state in which it judged them.

After a chunk of the stream's rows the state of one of its assets is copied: the window, the slow baseline, the
alarm's state (``Parts.judging_state``). The asset's next two windows of rows then make a *place*, if no episode
fires in them. A few places are kept, the newest. The stream itself is only read.
"""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from daemon.domain import Floats, InputPartition, StreamSpec
from daemon.model.drill import WATCHED, Place
from daemon.stream.pipeline import Pipeline
from daemon.stream.steps import JudgingState, Step

PLACES_KEPT = 8
MOST_GATHERED = 4
"""Places that are gathered at a time."""
TRIALS_EACH = 64
"""Faults that are injected at one place before it is used up."""


@dataclass(slots=True, eq=False)
class GatheredPlace:
    """A place that is being gathered: the state before it, and its rows so far."""

    partition: InputPartition
    asset: str
    slot: int
    state: JudgingState
    next_row: int
    rows: list[Floats] = field(default_factory=list)
    condition: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class QueuedPlace:
    """A place, the seed of its faults, and how many were injected so far."""

    place: Place
    key: tuple[int, ...]
    done: int = 0


class PlaceCollector:
    """Gathers places of one stream, and provides them until each is used up.

    Args:
        spec: of the stream.
        seed: of which assets are chosen.
    """

    def __init__(self, spec: StreamSpec, seed: int) -> None:
        self._spec = spec
        self._seed = seed
        self._version: str | None = None
        self._gathering: list[GatheredPlace] = []
        self._places: deque[QueuedPlace] = deque(maxlen=PLACES_KEPT)

    @property
    def places(self) -> list[Place]:
        """The complete places, oldest first."""
        return [serving.place for serving in self._places]

    @property
    def gathering(self) -> int:
        """The number of places that are still being gathered."""
        return len(self._gathering)

    @property
    def wanted(self) -> bool:
        """Whether fewer places are kept than wanted, counting those that are being gathered."""
        return sum(p.done < TRIALS_EACH for p in self._places) + len(self._gathering) < PLACES_KEPT

    @property
    def ready(self) -> bool:
        """Whether there is a place for further faults."""
        return any(p.done < TRIALS_EACH for p in self._places)

    def start_over(self, version: str | None) -> None:
        """Forget all places: another model judges from now on, or none does."""
        self._version = version
        self._gathering = []
        self._places.clear()

    def clear(self) -> None:
        """Forget the complete places."""
        self._places.clear()

    def revoked(self, partition: InputPartition) -> None:
        """A partition was revoked: the places that are being gathered there would never be complete."""
        self._gathering = [place for place in self._gathering if place.partition != partition]

    def take(self) -> QueuedPlace:
        """Remove the oldest place that is not used up; the caller returns it with ``put_back`` if it still is not."""
        serving = next(p for p in self._places if p.done < TRIALS_EACH)
        self._places.remove(serving)
        return serving

    def put_back(self, serving: QueuedPlace) -> None:
        """Append a place behind the others, so that they take turns."""
        self._places.append(serving)

    def look(self, pipeline: Pipeline, step: Step) -> None:
        """Copy rows of a chunk that ``pipeline`` has just judged; its state is that after the chunk."""
        self._extend(pipeline, step)
        if self.wanted and len(self._gathering) < MOST_GATHERED:
            self._begin(pipeline, step)

    def _extend(self, pipeline: Pipeline, step: Step) -> None:
        """Append the rows of their assets to the places that are being gathered."""
        block = step.block
        assert block is not None
        watched = WATCHED * self._spec.window
        newest = int(block.rows.max()) if len(block.rows) else 0
        for place in list(self._gathering):
            here = place.partition == pipeline.partition
            mine = np.flatnonzero(here & (block.slots == place.slot))[: watched - len(place.rows)]
            if not len(mine):
                if newest > place.next_row + 4 * watched:
                    self._gathering.remove(place)  # its asset is silent
                continue
            expected = place.next_row + np.arange(len(mine))
            # Not the next row, or an episode fires, or another asset took the slot.
            if (
                (block.rows[mine] != expected).any()
                or block.firing[mine].any()
                or block.assets[int(mine[0])] != place.asset
            ):
                self._gathering.remove(place)
                continue
            place.rows += list(block.values[mine])
            place.condition += [block.condition[i] for i in mine.tolist()]
            place.next_row += len(mine)
            if len(place.rows) == watched:
                self._gathering.remove(place)
                self._places.append(self._served(place))

    def _begin(self, pipeline: Pipeline, step: Step) -> None:
        """Begin a place behind the newest row of one of the chunk's assets."""
        block = step.block
        assert block is not None
        assert self._version is not None
        if not len(block.rows):
            return
        rng = np.random.default_rng([self._seed, seed_of(self._version), int(block.rows[-1])])
        i = int(rng.integers(len(block.rows)))
        asset, slot = block.assets[i], int(block.slots[i])
        last = int(np.flatnonzero(block.slots == slot)[-1])
        if block.firing[last] or any(a.asset == asset for a in self._gathering):
            return
        row = int(block.rows[last])
        state = pipeline.parts.judging_state(asset, row)
        if state is not None:
            self._gathering.append(GatheredPlace(pipeline.partition, asset, slot, state, row + 1))

    def _served(self, gathered: GatheredPlace) -> QueuedPlace:
        """Make a complete place of its rows."""
        assert self._version is not None
        s, L = gathered.state, self._spec.window
        first = gathered.next_row - len(gathered.rows) - L
        place = Place(
            gathered.asset,
            first,
            np.concatenate([s.window, np.stack(gathered.rows)]),
            L,
            tuple(gathered.condition),
            s.baseline,
            s.alarm,
            s.still,
            s.age,
        )
        key = (
            self._seed,
            seed_of(self._version),
            zlib.crc32(gathered.asset.encode("utf-8", "replace")),
            place.row,
        )
        return QueuedPlace(place, key)


def seed_of(text: str) -> int:
    """A seed that follows from a text, for instance a version."""
    return zlib.crc32(text.encode())
