"""Fields that are named like a time and hold none: what to say where a sample is not read for want of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daemon.adapters.field_names import Role
from daemon.adapters.sample.places import explosions, items_of, may_be_time_texts, present
from daemon.adapters.sample.roles import may_be_times, ranked, source_text
from daemon.documents import shown
from daemon.domain import Record


def unreadable_time(records: Sequence[Record], trees: Sequence[Any]) -> str | None:
    """The first such field, with what it holds and the line that says how it is written; None: there is none."""
    for each in explosions(trees):
        items = items_of(each, records, trees)
        for up, level in enumerate(items.levels):
            for way in ranked(level, Role.TIME):
                values = present(level[way])
                if values and not may_be_times(values) and may_be_time_texts(values):
                    place = source_text(up, way)
                    return (
                        f"{place} holds {shown(values[0])}, which is no time that is known: write how it is"
                        f" written, as input: {{time: {{from: {place}, format: '%d.%m.%Y %H:%M:%S'}}, ...}}"
                    )
    return None
