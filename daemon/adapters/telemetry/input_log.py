"""What the log says of records and their values: what a producer does goes unnoticed, and its values go wrong or astray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

import structlog

from daemon.adapters.telemetry.logs import Throttle
from daemon.documents import nearest_of, one_line
from daemon.domain import DeadLetter, Output, Reason
from daemon.stream.accounts import Fault
from daemon.stream.extract.numbers import FAULT_HINTS

log = structlog.get_logger()
_Key = TypeVar("_Key", bound=Hashable)

MOST_UNKNOWN_SENSORS: Final = 20
"""Names outside the configuration that are logged, in all streams together."""
MOST_FAULTS: Final = 100
"""Sensors and faults whose cells are logged, in all streams together."""
EXAMPLE_LENGTH: Final = 160
"""Characters of a rejected record, and of its key, that are logged."""


class InputLog:
    """The part of ``Reporter`` that is about them.

    Args:
        throttle: of what is repeated.
    """

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._rejected: Counter[tuple[str, Reason]] = Counter()  # since the last line about them
        self._logged_once: set[str] = set()
        self._logged_faults: set[tuple[str, str, str]] = set()

    def once(self, stream: str, event: str, rule: str) -> None:
        """Once per stream."""
        key = f"{stream}\x1f\x1f{event}"
        if key not in self._logged_once:
            self._logged_once.add(key)
            log.warning(event, stream=stream, rule=rule)

    def unknown_sensors(self, stream: str, sensors: Iterable[str], known: Sequence[str]) -> None:
        """Once per name: a sensor that is not in the configuration is most often a misspelt one."""
        for sensor in sensors:
            key = f"{stream}\x1f{sensor}"
            if _is_new(key, self._logged_once, MOST_UNKNOWN_SENSORS):
                log.warning(
                    "unknown_sensor",
                    stream=stream,
                    sensor=sensor,
                    nearest=nearest_of(sensor, known),  # of the config: one of the two may be misspelt
                    rule="not among the stream's sensors in the config: its values are ignored",
                )

    def corrupt_cells(self, stream: str, corrupt: Mapping[Fault, int], examples: Mapping[Fault, str]) -> None:
        """Once per sensor and fault: a sensor that sends texts looks as if it sent nothing."""
        for (sensor, fault), n in corrupt.items():
            if _is_new((stream, sensor, fault), self._logged_faults, MOST_FAULTS):
                log.warning(
                    "cells_not_numbers",
                    stream=stream,
                    sensor=sensor,
                    fault=fault,
                    count=n,
                    example=examples.get((sensor, fault), ""),
                    rule=f"they count as missing: {FAULT_HINTS[fault]}",
                )

    def converted_units(self, stream: str, converted: Iterable[tuple[str, str]]) -> None:
        """Once per sensor and unit: whoever changed it may not know who else reads it."""
        for sensor, unit in converted:
            if _is_new((stream, sensor, f"unit {unit}"), self._logged_faults, MOST_FAULTS):
                log.warning(
                    "unit_converted",
                    stream=stream,
                    sensor=sensor,
                    unit=unit,
                    rule="the sensor's `unit` in the config is another one: its numbers are converted to that",
                )

    def rejected(self, outputs: Iterable[Output]) -> None:
        """Once a minute per stream and reason: an asset all of whose records are rejected looks as if it sent nothing."""
        examples: dict[tuple[str, Reason], DeadLetter] = {}
        for output in outputs:
            if isinstance(output, DeadLetter):
                key = (output.stream, output.rejected.reason)
                self._rejected[key] += 1
                examples.setdefault(key, output)
        for (stream, reason), letter in examples.items():
            if self._throttle.admit(("rejected", stream, reason)) is not None:
                record = letter.rejected.record
                # The records of an asset that the operator has decommissioned are meant to be rejected.
                say = log.info if reason is Reason.FORGOTTEN else log.warning
                say(
                    "records_rejected",
                    stream=stream,
                    reason=str(reason),
                    count=self._rejected.pop((stream, reason)),
                    detail=letter.rejected.detail,
                    topic=letter.partition.topic,
                    partition=letter.partition.number,
                    offset=record.offset,
                    key=None if record.key is None else _excerpt(record.key),
                    example=_excerpt(record.value),
                )


def _is_new(key: _Key, known: set[_Key], most: int) -> bool:
    """Whether a key is to be logged, and from now on was: it was not before, and is among the first so many."""
    if key in known or len(known) >= most:
        return False
    known.add(key)
    return True


def _excerpt(found: bytes) -> str:
    """The beginning of a key or value, on one line."""
    text = found[: EXAMPLE_LENGTH + 1].decode(errors="replace")
    return one_line(text if len(text) <= EXAMPLE_LENGTH else text[:EXAMPLE_LENGTH] + " ...")
