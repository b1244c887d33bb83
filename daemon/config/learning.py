"""The sections on how a stream is followed and learned from: drift, trainings, candidates, drills and audits."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field

from daemon.config.notation import PositiveDuration, parse_cpu_share
from daemon.config.section import MAX_ROWS, Section


class DriftSection(Section):
    """``interval``: the event time over which drift is summed and judged, at least one window."""

    interval: PositiveDuration = timedelta(hours=1)


class RetrainSection(Section):
    """``every``: event time between trainings, null for never; ``rows``: recent rows to learn from.

    ``accept_regimes_after``: a regime that has lasted so long may be learned; null: not before it is over.
    """

    every: PositiveDuration | None = timedelta(hours=24)
    rows: int = Field(default=50_000, ge=100, le=MAX_ROWS)
    accept_regimes_after: PositiveDuration | None = None


class PromotionSection(Section):
    """``shadow``: event time for which a candidate judges beside the model before it takes over; null: it does at once."""

    shadow: PositiveDuration | None = None


class DrillSection(Section):
    """``share``: of one CPU's time, for fire drills beside the stream; 0 for none."""

    share: Annotated[float, BeforeValidator(parse_cpu_share)] = 0.01


class AuditSection(Section):
    """``one_in``: one in so many known readings is hidden from the model, to measure how it is filled; 0 or null: none."""

    one_in: int | None = Field(default=1000, ge=0, le=MAX_ROWS)
