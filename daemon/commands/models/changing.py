"""Promote, roll back, retire, export and import versions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.adapters.registry import now_text
from daemon.commands.models.registries import ModelsOptions, Opened, listed, opened
from daemon.errors import BundleError, UsageError
from daemon.model.admission import Origin
from daemon.model.bundle import Bundle, check_writable
from daemon.writing import current


@dataclass(frozen=True, slots=True)
class Change:
    """What a command did: as one sentence, as ``--json`` prints it, and notes."""

    says: str
    document: dict[str, Any]
    notes: Sequence[str] = ()


async def promote_model(options: ModelsOptions, version: str, reason: str, by: str) -> Change:
    """Put a version in force.

    Raises:
        UsageError: there is no such version, it is damaged, or does not fit the configured stream.
    """
    async with opened(options) as models:
        stream, version = models.version(version)
        bundle = await models.bundle(stream, version)
        notes = models.check_fits(stream, bundle)
        done = await _promote(models, stream, version, reason, by, notes)
        decision = Origin.of(bundle.facts).decision
        if decision is not None and not decision.promoted:
            notes.append(f"the gate had refused it: {decision.reason}")
        return Change(f"{stream}: {version} {_instead(done)}", done, notes)


async def roll_back(options: ModelsOptions, reason: str, by: str) -> Change:
    """Put the version in force that was promoted before the present one; again, the one before that.

    Raises:
        UsageError: none was promoted before, or it does not fit the configured stream.
    """
    async with opened(options) as models:
        stream = models.stream()
        pointer = models.registry.pointer(stream)
        if pointer is None:
            known = listed(models.registry.known(stream))
            raise UsageError(f"stream {stream}: no version is promoted; promote one of {known}")
        notes: list[str] = []
        for earlier in pointer.earlier(""):
            try:
                bundle = await models.bundle(stream, earlier.version)
            except BundleError as error:
                notes.append(f"{earlier.version} is skipped: {error}")
                continue
            notes += models.check_fits(stream, bundle)
            why = f"rolled back from {pointer.version}" + (f": {reason}" if reason else "")
            await models.registry.rollback(stream, why, by, now_text(), earlier.version)
            says = f"{stream}: {earlier.version} is in force again, {pointer.version} no more"
            done = {
                "stream": stream,
                "version": earlier.version,
                "before": pointer.version,
                "reason": why,
                "by": by,
            }
            return Change(says, done, notes)
        others = [version for version in models.registry.known(stream) if version != pointer.version]
        what = f"; promote one of {listed(others)}" if others else ""
        raise UsageError(f"stream {stream}: no version was promoted before {pointer.version}{what}")


async def retire_model(options: ModelsOptions, version: str) -> Change:
    """Remove a version.

    Raises:
        UsageError: there is no such version, or it is the promoted one.
    """
    async with opened(options) as models:
        stream, version = models.version(version)
        pointer = models.registry.pointer(stream)
        if pointer is not None and pointer.version == version:
            raise UsageError(
                f"version {version} of stream {stream} is promoted: promote another one, or roll back"
            )
        await models.registry.remove(stream, version)
        before = pointer is not None and version in {one.version for one in pointer.history}
        notes = [f"{version} was promoted before: a rollback goes past it"] if before else []
        return Change(
            f"{stream}: {version} is removed", {"stream": stream, "version": version, "retired": True}, notes
        )


async def export_model(options: ModelsOptions, version: str, out: Path) -> Change:
    """Write a version as a bundle directory, which ``--model`` takes.

    Raises:
        UsageError: there is no such version, or ``out`` is there and is no empty directory.
    """
    check_writable(out)
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out}: holds a bundle already, which is not replaced: name another directory")
    async with opened(options) as models:
        stream, version = models.version(version)
        bundle = await models.bundle(stream, version)
        bundle.save(out)
        trained_ns = models.registry.trained_ns(stream, version)
        for child in out.iterdir() if trained_ns else ():
            os.utime(child, ns=(trained_ns, trained_ns))
        done = {"stream": stream, "version": version, "bundle": str(out)}
        return Change(f"{out}: model {version} of stream {stream}", done)


async def import_model(options: ModelsOptions, folder: Path, promote: bool, reason: str, by: str) -> Change:
    """Add a bundle directory as a version; with ``promote`` put it in force, too.

    The stream is that of ``--stream``; else the configured one of the bundle's own name, or the only configured one;
    without a configuration the bundle's own.

    Raises:
        UsageError: it is no bundle, does not fit the configured stream, or its stream is not known.
    """
    bundle = Bundle.load(folder)
    trained_ns = max(child.stat().st_mtime_ns for child in current(folder).iterdir())
    async with opened(options) as models:
        stream, version = _stream_of(models, bundle), bundle.version
        notes = models.check_fits(stream, bundle)
        known = version in models.registry.known(stream)
        if not known:
            await models.registry.publish(stream, version, bundle.to_bytes(), trained_ns)
        done: dict[str, Any] = {"stream": stream, "version": version}
        says = f"{stream}: {version} {'was there already' if known else 'is added'}"
        if promote:
            done = await _promote(models, stream, version, reason, by, notes)
            says += f" and {_instead(done)}"
        return Change(says, done | {"added": not known, "promoted": promote}, notes)


def _stream_of(models: Opened, bundle: Bundle) -> str:
    """The stream that an imported bundle is for; see ``import_model``."""
    wanted, own = models.options.stream, Origin.of(bundle.facts).stream
    if wanted is not None:
        return wanted
    configured = [] if models.settings is None else [section.name for section in models.settings.streams]
    if own in configured or (own and not configured):
        return own
    if len(configured) == 1:
        return configured[0]
    streams = f"; the configuration has {listed(configured)}" if configured else ""
    raise UsageError(
        f"model {bundle.version} is of stream {own or 'unknown'!r}: name a stream with --stream{streams}"
    )


async def _promote(
    models: Opened, stream: str, version: str, reason: str, by: str, notes: list[str]
) -> dict[str, Any]:
    """Promote a version, unless it is promoted already; returns what ``--json`` prints of it."""
    try:
        pointer = models.registry.pointer(stream)
    except BundleError as error:
        pointer = None
        notes.append(f"what was promoted before is not known: {error}")
    before = None if pointer is None else pointer.version
    if before != version:
        await models.registry.promote(stream, version, reason, by, now_text())
    return {"stream": stream, "version": version, "before": before, "reason": reason, "by": by}


def _instead(done: Mapping[str, Any]) -> str:
    """How a sentence on a promotion ends."""
    if done["before"] == done["version"]:
        return "is promoted already"
    return "is promoted" + (f", instead of {done['before']}" if done["before"] else "")
