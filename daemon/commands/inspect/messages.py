"""Messages: what became of all of them, and of each refusal the reason, the path, an example and the nearest preset."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from daemon.adapters.sample import (
    Decoding,
    Survey,
    survey_with,
    trees_by,
)
from daemon.assembly import merges
from daemon.commands.inspect.examples import examples_of, rules_by_name
from daemon.commands.inspect.inspection import WORDS_SHOWN, Inspection, InspectOptions, Reject
from daemon.commands.inspect.mapped import MappedStream, keys_of, mapped_stream
from daemon.commands.reading_check import distinct, read_records, schemas_of
from daemon.domain import Record
from daemon.stream.extract.quality import compile_verdict, is_known_word, last_name

_EXAMPLE_BYTES: Final = 160
_QUALITIES_READ: Final = 500
_GOOD_WORDS_SHOWN: Final = 32
_WORD_LENGTH: Final = 64


def of_records(
    records: Sequence[Record],
    whole: bool,
    options: InspectOptions,
    topic: str | None,
    decoding: Decoding | None = None,
) -> Inspection:
    mapped = mapped_stream(records, whole, options, topic, decoding)
    if options.reading.timezone is not None:
        mapped = replace(mapped, spec=replace(mapped.spec, timezone=options.reading.timezone))
    schemas = None if mapped.spec.input is None else asyncio.run(schemas_of(mapped.spec, records))
    mapped = replace(mapped, schemas=schemas)
    found = survey_with(mapped.decoder(), mapped.candidate, records)
    became = read_records(mapped.spec, records, schemas)
    known = rules_by_name(mapped.spec)
    unknown = set(found.sensors) - known.keys()
    listed = np.array([name in known for name in found.sensors], bool)
    of_stream = listed[found.sensor] if len(found.sensors) else np.zeros(0, bool)
    corrupt = sum(each.count for each in became.corrupt)
    totals = {
        "records": became.read,
        "accepted": became.accepted,
        "refused": {each.reason: each.count for each in became.worst},
        "skipped": dict(sorted(became.skipped.items())),
        "readings": became.numbers,
        "without_value": max(int(of_stream.sum()) - became.numbers - corrupt, 0),
        "no_number": corrupt + int(found.corrupt[~of_stream].sum()),
        "bad_quality": found.untrusted,
        **words_of_quality(mapped, records if found.untrusted else ()),
        "assets": len(found.assets),
        "sensors": len(mapped.spec.sensors),
        "unknown_sensors": sorted(unknown)[:50],
        "never_seen": became.unseen[:50] if became.accepted else [],
        "contradicting": became.contradicting,
    }
    rejects = [
        Reject(each.reason, each.count, each.detail, _shortened(each.examples[0].value), became.nearest(each))
        for each in became.worst
    ]
    rejects += [
        Reject(
            f"{reason.value} (part)",
            refusal.count,
            distinct(refusal.detail),
            _shortened(refusal.example),
            None,
        )
        for reason, refusal in sorted(found.refused.items())
        if reason.value not in became.refused
    ]
    return Inspection(
        options.sample if topic is None else f"topic {topic}",
        mapped.whose,
        keys_of(mapped.candidate),
        mapped.candidate.reasons,
        totals,
        examples_of(mapped, records),
        rejects,
        became.corrupt,
        notes=[*mapped.notes, *_row_notes(mapped, found), *([] if became.split is None else [became.split])],
    )


def _row_notes(mapped: MappedStream, found: Survey) -> list[str]:
    """What is lost where each message is taken for a whole row."""
    if merges(mapped.spec) or not found.split_rows:
        return []
    return [
        "rows come in several messages, of which only the first counts: input: {rows: gather} puts them together"
    ]


def words_of_quality(mapped: MappedStream, records: Sequence[Record]) -> dict[str, Any]:
    """Words of quality that nobody knows, with how many values are bad for them, and the good ones beside them."""
    rule = mapped.mapping.quality
    if rule is None or rule.good or rule.bad:  # the mapping lists its own
        return {"unknown_quality": {}, "good_quality": []}
    names = {name for source in rule.sources if (name := last_name(source))}
    words: Counter[str | int] = Counter()
    for _, tree in trees_by(mapped.mapping.decode, records[:_QUALITIES_READ], mapped.schemas):
        words.update(_texts_at(tree, names))
    texts = [word for word, _ in words.most_common() if isinstance(word, str)]
    unknown = [word for word in texts[:WORDS_SHOWN] if not is_known_word(word)]
    is_good = compile_verdict(rule)

    def good(word: str) -> int:
        decoder = mapped.decoder(quality=replace(rule, good=frozenset({word})))
        found = survey_with(decoder, mapped.candidate, records)
        return len(found.numbers) - found.untrusted

    stated = good("") if unknown else 0  # values without a quality
    return {
        "unknown_quality": {word: count for word in unknown if (count := good(word) - stated) > 0},
        "good_quality": [word for word, _ in words.most_common() if is_good(word)][:_GOOD_WORDS_SHOWN],
    }


def _texts_at(tree: Any, names: set[str]) -> Iterator[str | int]:
    """The texts and whole numbers of fields of these names, anywhere in a tree."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            if name in names and isinstance(value, str) and value.strip():
                yield value.strip()[:_WORD_LENGTH]
            elif name in names and isinstance(value, int):
                yield value
            elif isinstance(value, Mapping | list):
                yield from _texts_at(value, names)
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts_at(value, names)


def _shortened(value: bytes) -> str:
    text = value[: _EXAMPLE_BYTES + 1].decode(errors="replace")
    text = ascii(text)[1:-1]
    return text if len(text) <= _EXAMPLE_BYTES else text[:_EXAMPLE_BYTES] + " ..."
