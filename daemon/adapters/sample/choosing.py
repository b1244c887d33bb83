"""Which mapping reads a sample: every preset and the mappings made for the sample are tried, the best is taken.

Candidates are compared on some messages spread over the sample (``TRIED``). First comes what share of them is read,
then whether the result is plausible (assets that come again, times that tell readings apart), then how much of the
messages' structure the mapping knows: a preset that recognises its own envelope finds more of its paths there than a
general one does. In: records. Out: a ``Choice``, or an ``InputError`` that says what was seen and what to write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from daemon.adapters.field_names import NAMES, Role, bare
from daemon.adapters.files.row_keys import ONLY_ASSET
from daemon.adapters.sample.encodings import Decoding, find_decoding
from daemon.adapters.sample.measurements import told_apart
from daemon.adapters.sample.places import items_of
from daemon.adapters.sample.roles import is_bookkeeping
from daemon.adapters.sample.shapes import shapes_of
from daemon.adapters.sample.survey import Candidate, Survey, path_text, survey
from daemon.adapters.sample.trust import quality_choice
from daemon.adapters.sample.unreadable import unreadable_time
from daemon.config.input_notation import parse_mapping
from daemon.config.presets import CUSTOM, preset_document, preset_names
from daemon.documents import counted
from daemon.domain import RECORD_KEY, RECORD_TIMESTAMP, Format, Reason, Record, StreamSpec
from daemon.errors import ConfigError, InputError
from daemon.mapping import Assembly, DecodeRule, InputMapping, Key, Origin, Path, Sources
from daemon.stream.decode import Arrival, MessageSchemas, TreeDecoder, decode_with
from daemon.stream.decoding import Decoder
from daemon.stream.extract.items import compile_each
from daemon.stream.extract.paths import ABSENT, compile_path
from daemon.stream.rejection import RejectedError, SkippedError, json_kind, shown

TRIED: Final = 400
"""Messages on which candidates are compared."""
SHAPED: Final = 1000
"""Messages that mappings are made of: a fleet of some hundred assets comes again in these."""
_BLOCKS: Final = 4
_READ_AT_ALL: Final = 0.2
"""A candidate that reads a smaller share of the messages is none."""
_CLOSE: Final = 0.1
_PROBED: Final = 20
_TYPED: Final = frozenset(format.value for format in Format)


@dataclass(frozen=True, eq=False)
class Choice:
    """The candidate that is taken, what it finds in the messages that were tried, and the next best."""

    candidate: Candidate
    tried: Survey
    decoding: Decoding
    other: Candidate | None = None  # reads nearly as much, and something else
    hint: str = ""  # what would read them better, if they came otherwise

    @property
    def notes(self) -> list[str]:
        """What an operator should know of the choice."""
        found = []
        if self.decoding.rule is not None:
            found.append(f"the messages are {self.decoding.looks}")
        if self.hint:
            found.append(self.hint)
        if self.other is not None:
            found.append(
                f"{self.other.shown} would read them too ({_summary(self.other)}): look whether assets and"
                " sensors are what you expect"
            )
        return found


def choose(
    records: Sequence[Record], where: str, noun: str = "line", decoding: Decoding | None = None
) -> Choice:
    """The best way to read these records.

    Args:
        records: the sample.
        where: it comes from, for errors.
        noun: what a record is called.
        decoding: how they are decoded; None: as they look.

    Raises:
        InputError: none reads them; with what was seen, the nearest preset and the line to write.
    """
    some = in_blocks(records, TRIED)
    decoding = decoding or find_decoding(some)
    ranked = _ranked(records, decoding)
    if not ranked:
        raise InputError(f"{where}: {explain_nothing(some, len(records), noun, decoding)}")
    (_, best), *others = ranked
    hint = _sparkplug_without_topic(some) if best.candidate.untold else ""
    return Choice(_with_rows(best), best, decoding, _other(ranked[0], others), hint)


def _sparkplug_without_topic(records: Sequence[Record]) -> str:
    """A hint where these are Sparkplug's payloads without the MQTT topic, which its own format needs."""
    trees = [tree for _, tree in trees_of(records[:_PROBED])]
    metrics = [tree["metrics"] for tree in trees if type(tree) is dict and type(tree.get("metrics")) is list]
    found = [each for some in metrics for each in some if type(each) is dict]
    if not found or not all("alias" in each or "dataType" in each or "datatype" in each for each in found):
        return ""
    return (
        "these look like Sparkplug B as JSON, but no record's key, header or topic is an MQTT topic (spBv1.0/GROUP/...):"
        " with it, format sparkplug-json tells devices apart, names aliases by their births and knows deaths"
    )


def places_used(candidate: Candidate, found: Survey, records: Sequence[Record]) -> dict[str, str]:
    """Of the places that a mapping names for asset and time, those that have them here: ``tags.host (2: h-0, h-1)``.

    Args:
        candidate: the mapping.
        found: what it finds.
        records: a few of them are read by each place alone.
    """
    mapping = candidate.mapping
    few = records[:: max(len(records) // _PROBED, 1)]
    ways = {
        "asset": [(s.text, replace(mapping, asset=(s,))) for s in mapping.asset],
        "time": [
            (s.text, replace(mapping, time=replace(mapping.time, sources=(s,)))) for s in mapping.time.sources
        ],
    }
    used = {}
    for key, alone in ways.items():
        texts = [text for text, one in alone if _reads(one, few)]
        if texts:
            used[key] = " or ".join(texts[:3])
    if "asset" in used:
        some = ", ".join(found.assets[:3]) + (" ..." if len(found.assets) > 3 else "")
        used["asset"] += f" ({len(found.assets)}: {some})"
    return used


def _reads(mapping: InputMapping, records: Sequence[Record]) -> bool:
    decoder = Decoder(StreamSpec("sample", ("sensor",), format=Format.MAPPED, input=mapping))
    for record in records:
        with suppress(RejectedError, SkippedError):
            if decoder.survey(record)[0]:
                return True
    return False


def _with_rows(found: Survey) -> Candidate:
    """The candidate, gathering its rows where it takes each message for a whole one and they come in parts."""
    candidate = found.candidate
    if candidate.fitted or candidate.mapping.assembly is Assembly.GATHER or not found.in_parts:
        return candidate
    return replace(
        candidate,
        input=dict(candidate.input) | {"rows": Assembly.GATHER.value},
        reasons=dict(candidate.reasons) | {"rows": "a row is gathered from several messages"},
    )


def in_blocks(records: Sequence[Record], most: int) -> list[Record]:
    """Some of the records, in blocks of neighbours spread over all of them.

    Neighbours, because records of one time stand side by side, and only they show what tells them apart.
    """
    if len(records) <= most:
        return list(records)
    size = most // _BLOCKS
    begins = [round(i * (len(records) - size) / (_BLOCKS - 1)) for i in range(_BLOCKS)]
    return [record for begin in begins for record in records[begin : begin + size]]


def _ranked(records: Sequence[Record], decoding: Decoding) -> list[tuple[tuple[Any, ...], Survey]]:
    trees = list(trees_of(in_blocks(records, SHAPED), decoding.rule))
    records = in_blocks(records, TRIED)
    ranked = []
    few = records[:: max(len(records) // _PROBED, 1)]
    for at, candidate in enumerate(_candidates(trees, decoding)):
        glance = _survey(candidate, few)
        if glance is None or not glance.found:
            continue
        found = _survey(candidate, records)
        if found is None or found.share < _READ_AT_ALL or not found.found:
            continue
        probed = [tree for _, tree in trees[:_PROBED]]
        numbered = found.scattered and any(
            _is_number_of_message(candidate.mapping, tree) for tree in probed[:3]
        )
        plausible = found.repeated <= 0.2 and not numbered and found.varies
        if not candidate.fitted and "decode" in preset_document(candidate.format):
            decoded = [tree for _, tree in trees_by(candidate.mapping.decode, records[:_PROBED])]
            probed = [tree[0] if type(tree) is list and tree else tree for tree in decoded]
        known = evidence(candidate.own, probed, fitted=candidate.fitted)
        missed = 0 if candidate.fitted else _missed(candidate.own, probed)
        key = (round(found.share, 1), plausible, round(known, 1), found.found, candidate.rank, -missed, -at)
        ranked.append((key, found))
    return sorted(ranked, key=lambda each: each[0], reverse=True)


def _other(
    best: tuple[tuple[Any, ...], Survey], others: Sequence[tuple[tuple[Any, ...], Survey]]
) -> Candidate | None:
    """The next best, where it is close and reads other assets."""
    key, found = best
    for other_key, other in others:
        if other_key[0] < key[0] - _CLOSE or other_key[1] < key[1] or other_key[2] < key[2] - 1:
            continue
        if not (1 - _CLOSE) * found.found <= other.found <= (1 + _CLOSE) * found.found:
            continue
        only_constant = all(source.origin is Origin.CONSTANT for source in other.candidate.mapping.asset)
        if len(other.assets) != len(found.assets) and not only_constant:
            return other.candidate
    return None


def _survey(candidate: Candidate, records: Sequence[Record]) -> Survey | None:
    """What a candidate finds; None where it cannot be tried."""
    try:
        return survey(candidate, records)
    except (ValueError, ConfigError):
        return None


def trees_of(records: Sequence[Record], rule: Any = None) -> Iterator[tuple[Record, Any]]:
    """The records that can be decoded, with their trees."""
    try:
        decode = decode_with(_decode_rule(rule))
    except ConfigError:
        return
    yield from _decoded(records, decode)


def trees_by(
    rule: DecodeRule, records: Sequence[Record], schemas: MessageSchemas | None = None
) -> Iterator[tuple[Record, Any]]:
    """The same by a decoder that makes a tree of its own of the messages; ``schemas`` are those that they name."""
    return _decoded(records, decode_with(rule, schemas=None if schemas is None else schemas.known))


def _decoded(records: Sequence[Record], decode: TreeDecoder) -> Iterator[tuple[Record, Any]]:
    for record in records:
        try:
            tree = decode(record.value, Arrival(record, []))
        except (RejectedError, SkippedError):
            continue
        if type(tree) in (dict, list):
            yield record, tree


def _decode_rule(rule: Any) -> Any:
    document = {"asset": "$key", "time": "$timestamp", "leaves": "."}
    return parse_mapping(document | ({} if rule is None else {"decode": rule}), CUSTOM).decode


def _candidates(trees: Sequence[tuple[Record, Any]], decoding: Decoding) -> Iterator[Candidate]:
    """Every preset, as it is and with the asset or time it lacks, and the mappings made for the sample."""
    records = [record for record, _ in trees]
    few = records[:: max(len(records) // _PROBED, 1)]
    for name in preset_names():
        if name in _TYPED:  # they are made of the sample, with its names of fields
            continue
        document = preset_document(name)
        over = {} if decoding.rule is None or "decode" in document else {"decode": decoding.rule}
        candidate = Candidate(name, over)
        yield candidate
        if (marked := _with_quality(candidate, trees)) is not None:
            yield marked
        if (told := told_apart(candidate, in_blocks(records, TRIED))) is not candidate:
            yield told
        yield from _completed(candidate, few)
    yield from shapes_of(records, [tree for _, tree in trees], decoding.rule)


def _with_quality(candidate: Candidate, trees: Sequence[tuple[Record, Any]]) -> Candidate | None:
    """A preset of plain rows with the field that says whether all values of a message are to be trusted."""
    if candidate.format not in ("flat", "wide"):
        return None
    items = items_of(".", [record for record, _ in trees], [tree for _, tree in trees])
    found = quality_choice(items.levels[0], of_row=True)
    if found is None:
        return None
    return replace(
        candidate,
        input=dict(candidate.input) | {"quality": found.document},
        reasons=dict(candidate.reasons) | {"quality": found.reason},
    )


def _completed(candidate: Candidate, records: Sequence[Record]) -> Iterator[Candidate]:
    """A preset whose messages here lack the asset or the time it looks for, with other places for these.

    The preset must find its own structure: all else of the message is where it says.
    """
    found = _survey(candidate, records)
    if found is None or found.share >= 0.9:
        return
    if found.refused.keys() & {Reason.NO_TIMESTAMP} and all(r.timestamp_ns >= 0 for r in records):
        time = _more_sources(candidate, "time", RECORD_TIMESTAMP)
        candidate = replace(
            candidate,
            input=dict(candidate.input) | {"time": time},
            reasons=dict(candidate.reasons) | {"time": "messages without a time have the record's own"},
        )
        found = _survey(candidate, records)
        if found is None:
            return
        yield candidate
    if not found.refused.keys() & {Reason.NO_ASSET, Reason.BAD_ASSET}:
        return
    for place, reason in _places_of_assets(candidate, records):
        yield replace(
            candidate,
            input=dict(candidate.input) | {"asset": place},
            reasons=dict(candidate.reasons) | {"asset": reason},
        )


def _more_sources(candidate: Candidate, key: str, source: str) -> list[Any] | Mapping[str, Any]:
    """The preset's sources of a key with one more, the last."""
    given = preset_document(candidate.format).get(key, [])
    if isinstance(given, Mapping) and "from" in given:
        inner = given["from"]
        return {**given, "from": [*(inner if isinstance(inner, list) else [inner]), source]}
    return [*(given if isinstance(given, list) else [given]), source]


def _places_of_assets(candidate: Candidate, records: Sequence[Record]) -> Iterator[tuple[Any, str]]:
    """Where else the asset of a preset's messages may be: fields of its items by name, the key, nowhere."""
    mapping = candidate.mapping
    items = compile_each(mapping.each)
    named_so: dict[str, None] = {}
    for _, tree in list(trees_of(records, None))[:_PROBED]:
        for scope in (items(tree) or [])[:3]:
            for up, prefix in enumerate(("", "^.", "^^.")):
                for _ in range(up):
                    scope = None if scope is None else scope[2]
                if scope is not None and type(scope[0]) is dict:
                    named_so |= dict.fromkeys(prefix + path for path in _assets_in(scope[0]))
                break
    for place in list(named_so)[:4]:
        yield place, f"the preset's own place of the asset is not there; {place} is named like one"
    if all(record.key for record in records):
        yield RECORD_KEY, "the preset's own place of the asset is not there; the record's key may be it"
    yield {"constant": ONLY_ASSET}, "no field names one: all is taken for one asset"


def _assets_in(item: Mapping[str, Any]) -> Iterator[str]:
    for name, value in item.items():
        if type(value) is dict:
            for inner, text in value.items():
                if type(text) is str and bare(inner) in NAMES[Role.ASSET]:
                    yield path_text([name, inner])
        elif type(value) is str and bare(name) in NAMES[Role.ASSET]:
            yield path_text([name])


# ------------------------------------------------------------------ how well a mapping knows a message
def evidence(mapping: InputMapping, trees: Sequence[Any], *, fitted: bool) -> float:
    """How much of the messages' structure the mapping knows, on average.

    A preset counts the names on the ways to items, asset, time, sensor, value and whatever else it looks for: a
    message that it was written for has them all, another hardly by chance; one more if some of them are names that
    not everybody uses. A mapping that was made for the sample (``fitted``) fits by design: each of its places is one.
    """
    if fitted:
        return sum(
            (
                any(source.origin is not Origin.CONSTANT for source in mapping.asset),
                any(source.origin is Origin.PATH for source in mapping.time.sources),
                bool(mapping.sensor),
                bool(mapping.value) or any(path.steps for path in _leaves_under(mapping)),
            )
        )
    counts = []
    for tree in trees:
        names = set(_names_found(mapping, tree))
        counts.append(len(names) + any(bare(name) not in _USUAL_NAMES for name in names))
    return sum(counts) / max(len(counts), 1)


_USUAL_NAMES: Final = frozenset(name for names in NAMES.values() for name in names)


def _names_found(mapping: InputMapping, tree: Any) -> list[str]:
    """The names on the ways of a mapping that lead to something, in the first item of a message."""
    root = (tree, None, None)
    names: list[str] = []
    scope: Any = root
    for each in mapping.each:
        if found := compile_each((each,))(tree):
            scope = found[0]
            names += [step.name for step in each.steps if isinstance(step, Key)]
            break
    for rule in mapping.inner:
        names += _leads(rule.path, root) if _is_inner(rule.path, root) else []
    quality = () if mapping.quality is None else mapping.quality.sources
    for sources in (mapping.asset, mapping.time.sources, mapping.sensor, quality):
        names += _of_sources(sources, scope)
    for paths in (mapping.value, _leaves_under(mapping), *mapping.fields.values()):
        names += next((way for path in paths if (way := _leads(path, scope))), [])
    if mapping.leaves is not None and type(scope[0]) is dict:
        # Names of several words, as TempUnit: others, as type or version, are in any message.
        names += [name for name in mapping.leaves.leave_out if name in scope[0] and not name.islower()]
    return names


def _is_inner(path: Path, root: Any) -> bool:
    return type(compile_path(path)(root)) in (str, bytes)


def _leaves_under(mapping: InputMapping) -> tuple[Path, ...]:
    if mapping.leaves is None:
        return ()
    under: Any = mapping.leaves.under
    return tuple(under) if isinstance(under, tuple | list) else (under,)


def _missed(mapping: InputMapping, trees: Sequence[Any]) -> int:
    """Envelopes that a preset looks for and that no message has: ways of several names, and items elsewhere.

    Of two presets that read the same, the one that looks for less that is not there is meant.
    """
    paths = [
        source.path
        for sources in (mapping.asset, mapping.time.sources, mapping.sensor)
        for source in sources
        if source.path is not None
    ]
    ways = {path.text: path for path in (*paths, *mapping.each, *_leaves_under(mapping)) if path.steps}
    roots = [(tree, None, None) for tree in trees]
    wanted = [path for path in ways.values() if len(path.steps) > 1 or path in mapping.each]
    return sum(
        not any(
            compile_each((path,))(root[0]) if path in mapping.each else _leads(path, root) for root in roots
        )
        for path in wanted
    ) + len(wanted) * sum(not any(_is_inner(rule.path, root) for root in roots) for rule in mapping.inner)


def _is_number_of_message(mapping: InputMapping, tree: Any) -> bool:
    """Whether the asset is read where messages have their numbers: in a field called id."""
    scope = next(
        (found[0] for each in mapping.each if (found := compile_each((each,))(tree))), (tree, None, None)
    )
    names = _of_sources(mapping.asset, scope)
    return bool(names) and is_bookkeeping(names[-1])


def _of_sources(sources: Sources, scope: Any) -> list[str]:
    """The names on the way to the first source that is there; else the longest beginning of a way that is."""
    begun: list[str] = []
    for source in sources:
        if source.origin is Origin.PATH and source.path is not None:
            if names := _leads(source.path, scope):
                return names
            begun = max(begun, _begins(source.path, scope), key=len)
        elif source.origin is Origin.NAME and _bound(scope):
            return ["$name"]
    return begun


def _begins(path: Path, scope: Any) -> list[str]:
    """The names of the longest beginning of a path that leads to an object."""
    for length in range(len(path.steps) - 1, 0, -1):
        beginning = replace(path, steps=path.steps[:length])
        if type(compile_path(beginning)(scope)) is dict:
            return [step.name for step in beginning.steps if isinstance(step, Key)]
    return []


def _bound(scope: Any) -> bool:
    """Whether ``*`` has bound a name around here."""
    while scope is not None:
        if scope[1] is not None:
            return True
        scope = scope[2]
    return False


def _leads(path: Path, scope: Any) -> list[str]:
    """The names of a path that leads somewhere."""
    found = compile_path(path)(scope)
    if found is ABSENT or found is None:
        return []
    return [step.name for step in path.steps if isinstance(step, Key)]


# ------------------------------------------------------------------ what to say where nothing is read
def nearest_preset(records: Sequence[Record], rule: Any = None, *, reads: bool = False) -> str | None:
    """The preset that reads most of these records; none reading half of them, the one whose structure they have.

    Args:
        records: a few.
        rule: how they are decoded, if not as JSON.
        reads: only one that reads half of them.
    """
    some = records[:_PROBED]
    trees = [tree for _, tree in trees_of(some, rule)]
    best: tuple[bool, float, str] | None = None
    for name in preset_names():
        candidate = Candidate(name)
        found = _survey(candidate, some)
        if found is None:
            continue
        there = evidence(candidate.mapping, trees, fitted=False)
        fits = found.share >= 0.5 and found.found > 0
        if not fits and (reads or there < 2 or there < 0.6 * _names_of(candidate.mapping)):
            continue
        if best is None or (fits, there) > best[:2]:
            best = fits, there, name
    return None if best is None else best[2]


def _names_of(mapping: InputMapping) -> int:
    """The names on the shortest ways of a mapping."""
    ways = [
        *(len(each.steps) for each in mapping.each[:1]),
        *(
            len(s[0].path.steps)
            for s in (mapping.asset, mapping.time.sources, mapping.sensor)
            if s and s[0].path
        ),
        *(len(path.steps) for path in mapping.value[:1]),
    ]
    ways += [len(path.steps) for path in _leaves_under(mapping)[:1]]
    return sum(ways)


def explain_nothing(records: Sequence[Record], total: int, noun: str, decoding: Decoding) -> str:
    """Why no readings are found: what was seen, the nearest preset, and the line to write."""
    trees = [tree for _, tree in trees_of(records, decoding.rule)]
    if not any(type(tree) is dict or any(type(each) is dict for each in tree) for tree in trees):
        if decoding.looks == "JSON":
            return f"none of the first {counted(total, noun)} is a JSON object"
        looks = f"they look like {decoding.looks}"
        if decoding.rule is not None:
            looks += f"; write input: {{decode: {_flow(decoding.rule)}, ...}} with asset, time and values"
        return f"none of the first {counted(total, noun)} is a JSON object: {looks}"
    seen = seen_in(trees[0])
    said = [f"no mapping reads these {noun}s; the first has {seen}"]
    if (preset := nearest_preset(records, decoding.rule)) is not None:
        found = _survey(Candidate(preset), records)
        why = "" if found is None or not found.refused else f": {_worst(found)}"
        said.append(f"the nearest format is {preset}{why}")
    said.append(_what_lacks(trees, records))
    return "; ".join(said)


def _worst(found: Survey) -> str:
    reason, refusal = max(found.refused.items(), key=lambda each: (each[1].count, each[0]))
    return f"{reason.value}, {refusal.detail}"


def _what_lacks(trees: Sequence[Any], records: Sequence[Record]) -> str:
    """The line to write, by what the shapes miss first: a time, or values."""
    timed = shapes_of([replace_time(record) for record in records[: len(trees)]], trees)
    untimed = shapes_of([replace_time(record, -1) for record in records[: len(trees)]], trees)
    if timed and not untimed:
        return (
            "no field is a time (known names: "
            + ", ".join(NAMES[Role.TIME][:6])
            + " ...): name it with input: {time: FIELD, ...}, or $timestamp for the record's own"
        )
    if (unread := unreadable_time(records[: len(trees)], trees)) is not None:
        return unread
    return (
        "no field holds numbers, or a sensor's name beside a value: write input: {asset: PATH, time: PATH,"
        " leaves: {under: PATH}} for numbers by name, or {sensor: PATH, value: PATH} for one reading a message"
    )


def replace_time(record: Record, timestamp_ns: int = 0) -> Record:
    """The record with another time of its own."""
    return Record(record.offset, record.key, record.value, timestamp_ns, record.headers, record.topic)


def seen_in(tree: Any, most: int = 12) -> str:
    """The fields of a message in words, with their kinds: ``asset (a string), values (an object of x, y)``."""
    if type(tree) is list:
        return f"an array of {len(tree)}: {seen_in(tree[0], most)}" if tree else "an empty array"
    if type(tree) is not dict:
        return json_kind(tree)
    parts = []
    for name, value in list(tree.items())[:most]:
        kind = json_kind(value)
        if type(value) is dict:
            kind += " of " + ", ".join(shown(inner)[1:-1] for inner in list(value)[:6])
        parts.append(f"{shown(name)[1:-1]} ({kind})")
    return ", ".join(parts) or "no field"


def _flow(rule: Any) -> str:
    if isinstance(rule, str):
        return rule
    return "{" + ", ".join(f"{key}: {value}" for key, value in rule.items()).replace("'", "") + "}"


def _summary(candidate: Candidate) -> str:
    mapping = candidate.mapping
    asset = " or ".join(source.text for source in mapping.asset[:2])
    if mapping.sensor:
        return f"asset {asset}, sensor {mapping.sensor[0].text}"
    under = _leaves_under(mapping)
    return f"asset {asset}, values " + (f"below {under[0].text}" if under else "by name")
