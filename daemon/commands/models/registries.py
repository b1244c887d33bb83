"""The registry that a command works on, and what of it a command means.

``Registry`` is what both registries offer: the topic of the models (``KafkaModels``) and a directory
(``DirectoryModels``, which reads and writes at once: its coroutines wait for nothing).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from daemon.adapters.kafka import KafkaSettings
from daemon.adapters.registry import (
    MOST_VERSIONS,
    DecisionRecord,
    Decisions,
    KafkaModels,
    ModelDirectory,
    Pointer,
    candidate_after,
    models_topic,
)
from daemon.commands.inputs import chosen_stream
from daemon.commands.wiring import kafka_settings
from daemon.config import Settings, load
from daemon.errors import BundleError, InputError, UsageError
from daemon.model.bundle import MANIFEST, Bundle
from daemon.runtime.compatibility import check_compatible
from daemon.runtime.stream_run import StreamPlan

DEFAULT = Path("config.yaml")
SHOWN = 12
"""Names that an error lists, at most."""


class Registry(Protocol):
    """Versions of bundles and one pointer per stream; all but ``load`` shows what was read at the last ``refresh``."""

    async def refresh(self) -> None:
        """Read what it holds now."""

    def streams(self) -> list[str]:
        """The streams that it has models of, by name."""

    def known(self, stream: str) -> list[str]:
        """The versions of a stream, oldest first."""

    def pointer(self, stream: str) -> Pointer | None:
        """The promoted version; None for none."""

    def trained_ns(self, stream: str, version: str) -> int:
        """When a version was trained, by the wall clock; ns since 1970, 0 if that is not known."""

    async def load(self, stream: str, version: str) -> bytes:
        """The bytes of a bundle; BundleError if it is not there whole."""

    async def publish(self, stream: str, version: str, data: bytes, trained_ns: int = 0) -> None:
        """Store a bundle, without promoting it."""

    async def promote(self, stream: str, version: str, reason: str = "", by: str = "", at: str = "") -> None:
        """Put a stored version in force."""

    async def rollback(self, stream: str, reason: str = "", by: str = "", at: str = "", to: str = "") -> str:
        """Put ``to``, which was promoted before, in force again."""

    async def remove(self, stream: str, version: str) -> None:
        """Remove a version."""

    async def stop(self) -> None:
        """Close the connections."""


class DirectoryModels:
    """A directory of models as a ``Registry``.

    A folder without a manifest is no version: the directory that somebody names may be any other.

    Args:
        directory: see ``ModelDirectory``.
    """

    def __init__(self, directory: Path) -> None:
        self._models = ModelDirectory(directory)
        self.pointer = self._models.promoted
        self.trained_ns = self._models.trained_ns

    def streams(self) -> list[str]:
        """See ``Registry``."""
        return [stream for stream in self._models.streams() if self.known(stream)]

    def known(self, stream: str) -> list[str]:
        """See ``Registry``."""
        versions = self._models.versions(stream)
        return [v for v in versions if (self._models.folder(stream, v) / MANIFEST).is_file()]

    async def refresh(self) -> None:
        """Nothing to do: the directory is read when it is asked."""

    async def load(self, stream: str, version: str) -> bytes:
        """See ``Registry``."""
        return Bundle.read_bytes(self._models.folder(stream, version))

    async def publish(self, stream: str, version: str, data: bytes, trained_ns: int = 0) -> None:
        """See ``Registry``."""
        self._models.add(stream, version, Bundle.from_bytes(data).write, trained_ns or None)

    async def promote(self, stream: str, version: str, reason: str = "", by: str = "", at: str = "") -> None:
        """See ``Registry``."""
        self._models.promote(stream, version, reason, by, at)

    async def rollback(self, stream: str, reason: str = "", by: str = "", at: str = "", to: str = "") -> str:
        """See ``Registry``."""
        return self._models.rollback(stream, reason, by, at, to)

    async def remove(self, stream: str, version: str) -> None:
        """See ``Registry``."""
        self._models.remove(stream, version)

    async def stop(self) -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True)
class ModelsOptions:
    """Which registry, and which stream of it."""

    config: Path | None = None  # None: ./config.yaml, but with ``directory`` none at all
    stream: str | None = None  # None: the only one, or the one that has the version
    directory: Path | None = None  # None: the topic of the configuration


@dataclass(frozen=True, slots=True)
class Opened:
    """An open registry.

    ``where`` names it, ``settings`` are those of the configuration, if there is one, and ``candidates`` are those in shadow,
    by stream, once ``with_candidates`` has read them.
    """

    registry: Registry
    where: str
    options: ModelsOptions
    settings: Settings | None
    candidates: Mapping[str, DecisionRecord] = field(default_factory=dict)

    async def with_candidates(self) -> Opened:
        """The same with the candidates in shadow; a directory has no decisions.

        Raises:
            DaemonError: the topic of the decisions cannot be read.
        """
        if self.settings is None or self.options.directory is not None:
            return self
        found = await _candidates(kafka_settings(self.settings), self.settings.outputs.prefix)
        return replace(self, candidates=found)

    def shadow_until(self, stream: str, version: str) -> str | None:
        """The event time until which a version is in shadow; None: it is not."""
        record, pointer = self.candidates.get(stream), self.registry.pointer(stream)
        if record is None or record.shadow is None or pointer is None:
            return None
        return record.shadow.until if (record.version, record.parent) == (version, pointer.version) else None

    def streams(self) -> list[str]:
        """The streams that are meant: that of ``--stream``, or all.

        Raises:
            UsageError: it has no models of that stream; names those that it has.
        """
        streams, wanted = self.registry.streams(), self.options.stream
        if wanted is None:
            return streams
        if wanted not in streams:
            raise UsageError(
                f"{self.where} has no model of stream {wanted!r}; it has models of {listed(streams)}"
            )
        return [wanted]

    def stream(self) -> str:
        """The one stream that is meant.

        Raises:
            UsageError: there are several, or none.
        """
        streams = self.streams()
        if not streams:
            raise UsageError(f"{self.where} has no model yet")
        if len(streams) > 1:
            raise UsageError(
                f"{self.where} has models of {len(streams)} streams: name one with --stream ({listed(streams)})"
            )
        return streams[0]

    def version(self, text: str) -> tuple[str, str]:
        """The stream and the version that a version's name, or the beginning of one, means.

        Raises:
            UsageError: there is none, or several.
        """
        every = [(stream, version) for stream in self.streams() for version in self.registry.known(stream)]
        found = [one for one in every if one[1] == text] or [one for one in every if one[1].startswith(text)]
        if not found or not text:
            known = listed([version for _, version in every])
            raise UsageError(f"{self.where} has no version {text!r}; it has {known}")
        if len({version for _, version in found}) > 1:
            raise UsageError(
                f"version {text!r} may be {listed([v for _, v in found], 'or')}: give more of it"
            )
        if len(found) > 1:
            names = listed([stream for stream, _ in found])
            raise UsageError(
                f"version {found[0][1]} is of {len(found)} streams: name one with --stream ({names})"
            )
        return found[0]

    async def bundle(self, stream: str, version: str) -> Bundle:
        """A version, checked.

        Raises:
            BundleError: it is damaged.
        """
        bundle = Bundle.from_bytes(await self.registry.load(stream, version), f"version {version}")
        if bundle.version != version:
            raise BundleError(
                f"version {version} of stream {stream} holds model {bundle.version}: it is damaged"
            )
        return bundle

    def plan(self, stream: str) -> StreamPlan | None:
        """What the configuration says of a stream; None if there is none, or if it has no such stream."""
        if self.settings is None or stream not in {section.name for section in self.settings.streams}:
            return None
        return StreamPlan.of(self.settings, chosen_stream(self.settings, stream))

    def check_fits(self, stream: str, bundle: Bundle) -> list[str]:
        """Refuse a bundle that the configured stream cannot use.

        Returns:
            Notes.

        Raises:
            BundleError: with the reason.
        """
        plan = self.plan(stream)
        if plan is not None:
            check_compatible(bundle, plan.spec)
            return []
        return (
            []
            if self.settings is None
            else [f"the configuration has no stream {stream}: not checked against it"]
        )


def listed(names: Sequence[str], last: str = "and") -> str:
    """Names for an error; a long list is cut."""
    shown = list(names[:SHOWN]) + ([f"{len(names) - SHOWN} more"] if len(names) > SHOWN else [])
    if len(shown) < 2:
        return shown[0] if shown else "none"
    return f"{', '.join(shown[:-1])} {last} {shown[-1]}"


@asynccontextmanager
async def opened(options: ModelsOptions) -> AsyncIterator[Opened]:
    """The registry of a command, read to its present end.

    Raises:
        DaemonError: the configuration, the directory or the topic cannot be read.
    """
    if options.directory is not None:
        settings = None if options.config is None else load(options.config, ())
        yield Opened(DirectoryModels(options.directory), str(options.directory), options, settings)
        return
    if options.config is None and not DEFAULT.exists():
        raise UsageError(
            f"{DEFAULT}: no such file: -c names a configuration, or --directory a directory of models"
        )
    settings = load(options.config or DEFAULT, ())
    prefix = settings.outputs.prefix
    # A command looks at many versions once: all are held, rather than read from the topic one by one.
    models = KafkaModels(kafka_settings(settings), prefix, arriving=MOST_VERSIONS)
    try:
        await models.refresh()
        yield Opened(models, f"topic {models_topic(prefix).name}", options, settings)
    finally:
        await models.stop()


async def _candidates(connection: KafkaSettings, prefix: str) -> dict[str, DecisionRecord]:
    """The candidates in shadow by the decisions on trainings, by stream; none where these cannot be read."""
    decisions, found = Decisions(connection, prefix, fenced=False), dict[str, DecisionRecord | None]()
    try:
        for record in await decisions.new(to_the_end=True):
            found[record.stream] = candidate_after(found.get(record.stream), record)
    except InputError:
        return {}  # nobody has decided on a training yet
    finally:
        await decisions.stop()
    return {stream: record for stream, record in found.items() if record is not None}
