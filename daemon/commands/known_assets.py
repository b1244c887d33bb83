"""Which assets the daemon knows, to notice a name that nobody has heard of.

In: the settings. Out: names, from what the models in force have learned and from the keys of the state topic. Both may lack
an asset that is there: one that has just come, or one of a fleet that is larger than what is read here. So a name that is not
among them is a reason to ask back, never to refuse.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from daemon.adapters.kafka import read_now
from daemon.adapters.registry import KafkaModels
from daemon.commands.wiring import kafka_settings
from daemon.config import Settings, StreamSection
from daemon.documents import nearest_of
from daemon.domain import StateRecord
from daemon.errors import DaemonError
from daemon.model.admission import Origin
from daemon.model.bundle import manifest_of
from daemon.stream import snapshot

NEWEST_STATE = 5_000
"""Records of state that are read of one partition, the newest."""
NAMED = 3
"""Names that are said to be unknown."""


async def unknown_assets(settings: Settings, assets: Collection[str], stream: str) -> list[str]:
    """Those of these names that no asset has, as far as can be told; a topic that cannot be read tells nothing.

    Args:
        settings: where.
        assets: the names.
        stream: of which they are; empty: of any.

    Returns:
        A line on them, with the nearest name that is known; none where all are known.
    """
    sections = [each for each in settings.streams if stream in ("", each.name)]
    known: set[str] = set()
    for look in (_learned, _with_state):
        if not known.issuperset(assets):
            try:
                known |= await look(settings, sections)
            except DaemonError:
                continue
    return unknown_lines(assets, known)


def unknown_lines(assets: Collection[str], known: Collection[str]) -> list[str]:
    """What to say of the names that are not known.

    Args:
        assets: the names.
        known: those that are.
    """
    lines = []
    unknown = sorted(set(assets).difference(known))
    for name in unknown[:NAMED]:
        near = nearest_of(name, known)
        but = f"did you mean {near}?" if near else _known(known)
        lines.append(f"no asset {name} is known so far: {but} It is planned all the same")
    if len(unknown) > NAMED:
        lines.append(f"nor are {len(unknown) - NAMED} more of these assets")
    return lines


def _known(known: Collection[str]) -> str:
    if not known:
        return "none is."
    some = sorted(known)[:NAMED]
    more = len(known) - len(some)
    return f"there is {', '.join(some)}" + (f" and {more} more." if more else ".")


async def _learned(settings: Settings, streams: Sequence[StreamSection]) -> set[str]:
    """The assets whose rows the models in force have learned."""
    names = [each.name for each in streams]
    models, found = KafkaModels(kafka_settings(settings), settings.outputs.prefix, names), set[str]()
    try:
        await models.refresh()
        for name in names:
            pointer = models.pointer(name)
            if pointer is not None:
                _, manifest = manifest_of(await models.load(name, pointer.version))
                found.update(Origin.of(manifest.facts).rows_of)
    finally:
        await models.stop()
    return found


async def _with_state(settings: Settings, streams: Sequence[StreamSection]) -> set[str]:
    """The assets that have state in the daemon."""
    topics = [topic for each in streams for topic in each.topics]
    found: dict[tuple[str, str], bool] = {}  # by topic and name: an asset may have left one of several topics
    state = [f"{settings.outputs.prefix}.state"]
    async for piece in read_now(kafka_settings(settings), state, NEWEST_STATE):
        records = [StateRecord(record.key or b"", record.value) for record in piece.records]
        for topic in topics:
            found.update({(topic, name): alive for name, alive in _alive(records, topic)})
    return {name for (_, name), alive in found.items() if alive}


def _alive(records: Iterable[StateRecord], topic: str) -> Iterable[tuple[str, bool]]:
    """The assets of an input topic among records of state; False: what was known of it is deleted."""
    for record in snapshot.records_of(records, topic):
        if record is not None:
            name, value = record
            if name and snapshot.is_utf8(name) and not name.startswith(snapshot.SEPARATOR.encode()):
                yield name.decode(), bool(value)
