"""What ``check`` says of the condition fields of each stream: from the config, and from the newest records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from daemon.adapters.kafka import CheckResult, newest_records
from daemon.calendar import MANY_LABELS, labels_of
from daemon.commands.wiring import kafka_settings
from daemon.config import Settings
from daemon.domain import Reading, Record, StreamSpec
from daemon.errors import BrokerError, InputError
from daemon.stream.decoding import Decoder

SAMPLE = 1_000
"""Newest records of each topic that are looked at."""


def declared(specs: Iterable[StreamSpec]) -> list[CheckResult]:
    """What the configuration alone says; none of it is an error."""
    found = []
    for spec in specs:
        what = f"conditions of {spec.name}"
        if (many := labels_of(spec.condition)) > MANY_LABELS:
            found.append(
                CheckResult(
                    what,
                    True,
                    f"its calendar fields alone make {many} labels; above {MANY_LABELS} each has few rows to"
                    " learn from",
                )
            )
        named = {name for fields in spec.assets.values() for name in fields}
        if unused := sorted(named - set(spec.condition)):
            found.append(
                CheckResult(
                    what, True, f"assets say {', '.join(unused)}, which `condition` does not name: not used"
                )
            )
    return found


def unheard(spec: StreamSpec, records: Sequence[Record]) -> CheckResult:
    """Whether the fields that messages and assets give appear in records at all."""
    decoder, seen, read = Decoder(spec), Counter[str](), 0
    for reading in decoder.decode_all(records):
        if isinstance(reading, Reading):
            read += 1
            seen[reading.condition] += 1
    silent = [
        name
        for name in spec.message_condition
        if all(f"{name}=?" in label.split(",") for label in seen)  # a value with commas is no `?`
    ]
    what = f"conditions of {spec.name}"
    if not read:
        return CheckResult(what, True, "no reading among the newest records: nothing can be said")
    if silent:
        return CheckResult(
            what,
            True,
            f"{', '.join(silent)} never appears in the newest {read} readings, and no asset says it: every row"
            " is `?`",
        )
    return CheckResult(what, True, f"{len(seen)} labels in the newest {read} readings")


async def heard(settings: Settings) -> list[CheckResult]:
    """``unheard`` of each stream that declares such fields, from its topics; what cannot be read is left out."""
    found = []
    for stream in settings.streams:
        spec = stream.spec()
        if not spec.message_condition:
            continue
        records: list[Record] = []
        for topic in spec.topics:
            try:
                some, _ = await newest_records(kafka_settings(settings), topic, SAMPLE)
            except (BrokerError, InputError):
                continue  # the probe has said so
            records += some
        found.append(unheard(spec, records))
    return found
