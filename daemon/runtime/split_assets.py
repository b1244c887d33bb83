"""Assets that come in several partitions of a stream: each partition judges the rows that it has, as if there were no others.

In: which partitions have an asset. Out: a line for people on what to do about it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from daemon.documents import counted
from daemon.domain import InputPartition
from daemon.stream.pipeline import Pipeline

FEW: int = 1_000
"""So many assets are compared whenever there are new ones; more of them when a quarter is new, as it takes longer."""


def what_is_split(partitions: Mapping[str, Collection[InputPartition]]) -> str | None:
    """What to do where assets come in several partitions; None: none does.

    Args:
        partitions: by asset.
    """
    several = {asset: found for asset, found in partitions.items() if len(found) > 1}
    if not several:
        return None
    asset = min(several)
    found = sorted(several[asset], key=lambda each: (each.topic, each.number))
    one_topic = len({each.topic for each in found}) == 1
    *head, last = [str(each.number) if one_topic else f"{each.topic}/{each.number}" for each in found]
    more = len(several) - 1
    others = f", and {counted(more, 'more asset')} in several" if more else ""
    return (
        f"asset {asset[:60]} comes in partitions {', '.join(head)} and {last}{others}: the rows of an asset must come in"
        " one (set the record key to the asset, or use one partition), else each part is judged alone"
    )


class SplitAssets:
    """Looks for assets of one stream that several of this process's partitions have, until it has found some."""

    def __init__(self) -> None:
        self._found = False
        self._compared = 0  # assets, over all partitions

    def look(self, pipelines: Mapping[InputPartition, Pipeline]) -> str | None:
        """What to do about such assets, said once; None: there are none, or nothing is new."""
        total = sum(pipeline.assets for pipeline in pipelines.values())
        new = abs(total - self._compared)
        if self._found or len(pipelines) < 2 or not new or (total > FEW and 4 * new < self._compared):
            return None
        self._compared = total
        seen: set[str] = set()
        twice: set[str] = set()
        for pipeline in pipelines.values():
            names = pipeline.parts.assets.slots.keys()
            twice |= seen & names
            seen |= names
        self._found = bool(twice)
        return what_is_split(
            {name: [p for p, each in pipelines.items() if name in each.parts.assets] for name in twice}
        )
