"""The mapping that is looked at: of a configuration, a preset, or derived from the sample.

In: records and options. Out: a ``MappedStream``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from daemon.adapters.sample import (
    Candidate,
    Decoding,
    derive,
    derive_of_topic,
    survey,
)
from daemon.commands.inputs import chosen_stream
from daemon.commands.inspect.inspection import InspectOptions, settings_of
from daemon.config.presets import CUSTOM
from daemon.domain import FieldNames, Format, Record, StreamSpec
from daemon.errors import ConfigError
from daemon.mapping import InputMapping, Source
from daemon.stream.decode import MessageSchemas
from daemon.stream.decoding import Decoder


@dataclass(frozen=True, slots=True, eq=False)
class MappedStream:
    """The mapping that is looked at, and the stream that reads by it."""

    candidate: Candidate
    spec: StreamSpec
    notes: list[str]
    whose: str
    schemas: MessageSchemas | None = None  # that the messages name

    @property
    def mapping(self) -> InputMapping:
        """With whom to ask for schemas, where the configuration says it."""
        return self.candidate.mapping if self.spec.input is None else self.spec.input

    def decoder(self, **changes: Any) -> Decoder:
        """A decoder for surveys, with other keys of the mapping; the schemas need not be fetched for it."""
        spec = StreamSpec(
            "sample",
            ("sensor",),
            format=Format.MAPPED,
            input=replace(self.mapping, **changes),
            timezone=self.spec.timezone,
        )
        return Decoder(spec, schemas=self.schemas)


def mapped_stream(
    records: Sequence[Record],
    whole: bool,
    options: InspectOptions,
    topic: str | None,
    decoding: Decoding | None,
) -> MappedStream:
    """The mapping of the configuration, of the preset, or one that is derived."""
    if options.config is not None:
        settings = settings_of(options)
        stream = chosen_stream(settings, options.stream)
        spec = stream.spec(settings.schema_registry.address())
        candidate = Candidate(stream.format, {}, FieldNames(**stream.fields.model_dump()))
        if stream.mapping is not None:
            candidate = Candidate(stream.mapping.preset, stream.input or {})
        return MappedStream(candidate, spec, [], f"{_named(candidate)}, of stream {stream.name}")
    if options.format is not None:
        return _preset(options.format, records)
    derived = (
        derive([record.value for record in records], name="stream")
        if topic is None
        else derive_of_topic(records, whole, (), "stream", topic, decoding)
    )
    written = derived.written
    typed = written.input is None and derived.spec.input is None
    reasons = {
        key.removeprefix("input."): why for key, why in written.why.items() if key.startswith("input.")
    }
    candidate = Candidate(
        written.format, written.input or {}, derived.spec.fields if typed else None, reasons
    )
    return MappedStream(
        candidate, derived.spec, derived.notes, f"{_named(candidate)}, derived from the sample"
    )


def _preset(name: str, records: Sequence[Record]) -> MappedStream:
    """A preset as it is, with whatever sensors it finds."""
    typed = name in (Format.JSON_WIDE, Format.JSON_LONG)
    candidate = Candidate(name, {}, FieldNames() if typed else None)
    try:
        found = survey(candidate, records)
    except ValueError as error:
        raise ConfigError(f"--format: {error}") from error
    spec = StreamSpec("stream", tuple(sorted(found.sensors)) or ("sensor",))
    spec = (
        replace(spec, format=Format(name))
        if typed
        else replace(spec, format=Format.MAPPED, input=candidate.mapping)
    )
    return MappedStream(candidate, spec, [], f"{_named(candidate)}, as --format says")


def _named(candidate: Candidate) -> str:
    if candidate.format == CUSTOM:
        return "a mapping of its own"
    return f"format {candidate.format}" + (" with keys over it" if candidate.input else "")


def keys_of(candidate: Candidate) -> dict[str, str]:
    """Where the mapping looks, as texts."""
    mapping = candidate.mapping
    keys = {
        "each": ", ".join(path.text for path in mapping.each),
        "asset": ", ".join(map(_place, mapping.asset)),
        "time": ", ".join(map(_place, mapping.time.sources)),
        "sensor": ", ".join(map(_place, mapping.sensor)),
        "value": ", ".join(path.text for path in mapping.value),
        "fields": ", ".join(mapping.fields),
        "leaves": "" if mapping.leaves is None else f"every number below {_texts(mapping.leaves.under)}",
        "quality": "" if mapping.quality is None else ", ".join(s.text for s in mapping.quality.sources),
        "skip": ", ".join(rule.name for rule in mapping.skip),
        "rows": mapping.assembly.value,
    }
    return {key: text for key, text in keys.items() if text}


def _place(source: Source) -> str:
    """A source as a text, with the expression that cuts it."""
    return source.text if source.match is None else f"{source.text} by {source.match.pattern}"


def _texts(found: Any) -> str:
    """The text of a path, or of several."""
    return ", ".join(path.text for path in found) if isinstance(found, tuple) else str(found.text)
