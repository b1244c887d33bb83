"""What is known of a version: from its manifest, and from the registry's pointer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from daemon.adapters.registry import Pointer, Promoted
from daemon.commands.models.registries import ModelsOptions, Opened, opened
from daemon.commands.train import about
from daemon.domain import iso
from daemon.errors import BundleError
from daemon.model.admission import Manifest, Origin
from daemon.model.bundle import manifest_of
from daemon.runtime.compatibility import event_time_in


async def list_models(options: ModelsOptions) -> list[dict[str, Any]]:
    """Every version, by stream, oldest first, as ``models list --json`` prints it.

    ``version``, ``stream``, ``promoted``; ``shadow_until``, the event time until which a candidate judges beside the model in
    force; ``trained_at``, by the wall clock; ``reason``, ``by`` and ``at`` of its promotion
    (``promoted_before``: an earlier one), ``reason`` of a version that never was promoted is the gate's; ``parent``,
    ``trigger``, ``rows``, ``assets``, ``from`` and ``until`` (event times) of its training; ``threshold``; ``gate``:
    {``promoted``, ``reason``, ``refused_by``}, null where there was no model to compare with; ``unreadable``: why it cannot be used, null if it can. What is not known
    is null.
    """
    async with opened(options) as registry:
        models = await registry.with_candidates()
        return [
            await described(models, stream, version)
            for stream in models.streams()
            for version in models.registry.known(stream)
        ]


async def show_model(options: ModelsOptions, version: str) -> dict[str, Any]:
    """One version, as ``models show --json`` prints it.

    As in ``list_models``, and ``rows_of`` (by asset), ``sensors``, ``window``, ``period_s``, ``closing``, ``calibration``, the
    gate's ``decision`` with ``rules`` ({``name``, ``figure``, ``limit``, ``at_least``, ``passed``}) and ``figures``, ``model``
    (kind, latents, habits), ``concerns``, ``promotions`` (newest first: {``reason``, ``by``, ``at``, ``in_force``}) and
    ``children``: versions that were trained to replace it.

    Raises:
        UsageError: there is no such version, or it cannot be read.
    """
    async with opened(options) as registry:
        models = await registry.with_candidates()
        stream, version = models.version(version)
        bundle = await models.bundle(stream, version)
        pointer, origin = models.registry.pointer(stream), Origin.of(bundle.facts)
        entry = await described(models, stream, version)
        detector = bundle.detector()
        return entry | {
            "rows_of": dict(origin.rows_of),
            "sensors": list(bundle.sensors),
            "window": bundle.window,
            "period_s": bundle.period_ns / 1e9,
            "closing": detector.closing,
            "calibration": detector.calibration,
            "decision": None if origin.decision is None else msgspec.to_builtins(origin.decision),
            "model": about(bundle),
            "concerns": list(bundle.concerns),
            "promotions": [
                _promotion(one) | {"in_force": i == 0 and pointer is not None and pointer.version == version}
                for i, one in enumerate(_promotions(pointer, version))
            ],
            "children": [
                other
                for other in models.registry.known(stream)
                if await _parent(models, stream, other) == version
            ],
        }


async def described(models: Opened, stream: str, version: str) -> dict[str, Any]:
    """A version as ``list_models`` has it."""
    pointer = models.registry.pointer(stream)
    promotions = _promotions(pointer, version)
    promoted = pointer is not None and pointer.version == version
    entry: dict[str, Any] = {
        "version": version,
        "stream": stream,
        "promoted": promoted,
        "promoted_before": bool(promotions) and not promoted,
        "shadow_until": models.shadow_until(stream, version),
        "trained_at": _date(models.registry.trained_ns(stream, version) or None),
        "reason": "",
        "by": None,
        "at": None,
    }
    manifest, unreadable = None, None
    try:
        found, manifest = manifest_of(await models.registry.load(stream, version))
        if found != version:
            manifest, unreadable = None, f"it holds model {found}: it is damaged"
    except BundleError as error:
        unreadable = str(error)
    if promotions:
        entry |= _promotion(promotions[0])
    elif manifest is not None:
        decision = Origin.of(manifest.facts).decision
        entry["reason"] = "" if decision is None else decision.reason
    return entry | _training(manifest) | {"unreadable": unreadable}


def _training(manifest: Manifest | None) -> dict[str, Any]:
    """What a manifest says of the training; None: it could not be read."""
    facts: Mapping[str, Any] = {} if manifest is None else manifest.facts
    origin = Origin.of(facts)
    decision, gate = origin.decision, None
    if decision is not None and decision.rules:
        gate = {
            "promoted": decision.promoted,
            "reason": decision.reason,
            "refused_by": decision.refused_by,
        }
    return {
        "parent": origin.parent,
        "trigger": origin.trigger or None,
        "rows": origin.rows if "rows" in facts else None,
        "assets": origin.assets if "assets" in facts else None,
        "from": _date(event_time_in(facts, "oldest_ns")),
        "until": _date(event_time_in(facts, "newest_ns")),
        "threshold": None if manifest is None else manifest.calibration.threshold,
        "gate": gate,
    }


def _promotions(pointer: Pointer | None, version: str) -> list[Promoted]:
    """The promotions of a version that the pointer remembers, newest first."""
    every = [] if pointer is None else [pointer.promoted, *pointer.history]
    return [one for one in every if one.version == version]


def _promotion(promoted: Promoted) -> dict[str, Any]:
    return {"reason": promoted.reason, "by": promoted.by or None, "at": promoted.at or None}


async def _parent(models: Opened, stream: str, version: str) -> str | None:
    try:
        _, manifest = manifest_of(await models.registry.load(stream, version))
    except BundleError:
        return None
    return Origin.of(manifest.facts).parent


def _date(time_ns: int | None) -> str | None:
    """RFC 3339, to the second."""
    return None if time_ns is None else iso(time_ns // 10**9 * 10**9)
