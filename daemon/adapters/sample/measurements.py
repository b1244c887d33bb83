"""Telegraf's measurements that share names of fields: a prefix that tells them apart.

``cpu`` comes once per core, and ``disk`` and ``mem`` both have ``used_percent``: read by their fields alone they
contradict each other. In: the candidate that was chosen, and records. Out: the candidate with ``leaves`` whose prefix is
the measurement's name, with the tags that are needed beside it, where that takes the contradictions away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from daemon.adapters.sample.survey import Candidate, path_text, survey
from daemon.domain import Record
from daemon.stream.decode import Arrival, decode_with
from daemon.stream.rejection import RejectedError, SkippedError

_NAMED_BY: Final = {"telegraf": "name", "influx": "measurement"}
"""By format, the field of a measurement's name."""
_MOST_TAGS: Final = 4
"""Tags that stand in a prefix, at most."""
_MOST_TRIED: Final = 20
_MOST_TEXTS: Final = 50
"""A tag of more texts would make too many sensors."""
_LEFT: Final = 0.1
"""What share of the contradictions a prefix may leave."""


def told_apart(candidate: Candidate, records: Sequence[Record]) -> Candidate:
    """The candidate with a prefix before its sensors, where their names alone contradict each other.

    Args:
        candidate: of any format; only Telegraf's have measurements.
        records: neighbours, as measurements of one time stand side by side.
    """
    if candidate.format not in _NAMED_BY or "leaves" in candidate.input:
        return candidate
    before = survey(candidate, records).contradicting
    if not before:
        return candidate
    tags: list[str] = []
    best = _prefixed(candidate, tags)
    left = survey(best, records).contradicting
    free = _tags(candidate, records)
    while left and free and len(tags) < _MOST_TAGS:
        counts = {tag: survey(_prefixed(candidate, [*tags, tag]), records).contradicting for tag in free}
        tag = min(counts, key=lambda each: counts[each])
        if counts[tag] >= left:
            break
        tags.append(tag)
        free.remove(tag)
        best, left = _prefixed(candidate, tags), counts[tag]
    return best if left <= _LEFT * before else candidate


def other_asset(apart: Candidate, records: Sequence[Record]) -> str:
    """A remark on a tag whose texts could be assets of their own: behind a gateway, the host is one for all machines.

    Args:
        apart: a candidate as ``told_apart`` made it.
        records: neighbours.

    Returns:
        Empty where no prefix is needed, or no tag has a few texts with the same sensors each that tells them apart.
    """
    if apart.format not in _NAMED_BY or "leaves" not in apart.input:
        return ""
    plain = {key: value for key, value in apart.input.items() if key != "leaves"}
    for tag in _tags(apart, records):
        place = path_text(["tags", tag])
        found = survey(replace(apart, input=plain | {"asset": place}), records)
        several = 1 < len(found.assets) <= _MOST_TEXTS and found.read == len(records)
        pairs = np.unique(np.stack([found.asset, found.sensor]), axis=1).shape[1]
        if several and not found.contradicting and pairs == len(found.assets) * len(found.sensors):
            some = ", ".join(name[:24] for name in found.assets[:3]) + (
                " ..." if len(found.assets) > 3 else ""
            )
            return f"{place} has {len(found.assets)} values ({some}): `input: {{asset: {place}}}` makes each an asset of its own"
    return ""


def _prefixed(candidate: Candidate, tags: Sequence[str]) -> Candidate:
    name = _NAMED_BY[candidate.format]
    joins: list[Any] = [{"join": [name, path_text(["tags", tag])], "with": "."} for tag in tags]
    prefix = [*joins, name] if joins else name
    why = "measurements share names of fields: the prefix tells their sensors apart"
    return replace(
        candidate,
        input=dict(candidate.input) | {"leaves": {"under": "fields", "prefix": prefix}},
        reasons=dict(candidate.reasons) | {"leaves": why},
    )


def _tags(candidate: Candidate, records: Sequence[Record]) -> list[str]:
    """Tags of several texts, but not too many."""
    decode = decode_with(candidate.mapping.decode)
    texts: dict[str, set[str]] = {}
    for record in records:
        try:
            tree = decode(record.value, Arrival(record, []))
        except (RejectedError, SkippedError):
            continue
        for metric in _metrics(tree):
            found = metric.get("tags")
            for name, text in found.items() if isinstance(found, Mapping) else ():
                if isinstance(text, str) and len(texts) < 1000:
                    texts.setdefault(name, set()).add(text)
    return [name for name, found in texts.items() if len(found) <= _MOST_TEXTS][:_MOST_TRIED]


def _metrics(tree: Any) -> list[Mapping[str, Any]]:
    """The metrics of a message: one, an array of them, or a batch."""
    if isinstance(tree, Mapping):
        inner = tree.get("metrics")
        tree = inner if isinstance(inner, list) else [tree]
    return [each for each in tree if isinstance(each, Mapping)] if isinstance(tree, list) else []
