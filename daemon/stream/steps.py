"""What the pipeline yields: one ``Step`` per chunk of rows, and the values in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from daemon.alarm import State
from daemon.domain import Disposition, Floats, Ints, Mask, Output
from daemon.stream.audit import Audited


@dataclass(frozen=True, slots=True, eq=False)
class RowBlock:
    """Released rows with their scores: the input of training's history and of the page."""

    assets: Sequence[str]
    slots: Ints  # (R,) one number per asset, within this block
    rows: Ints  # (R,)
    values: Floats  # (R, C) as the model is given them
    scores: Floats  # (R,) NaN where not scored
    firing: Mask  # (R,)
    condition: Sequence[str]
    received: Floats | None = None  # (R, ...) as they came; None: the stream has no counter, angle or hold
    deviating: Mask | None = None  # (R,) as in ``Judgement``; None: nowhere
    held: Mask | None = None  # (R, C) the values that are not observed but held


@dataclass(frozen=True, slots=True, eq=False)
class JudgingState:
    """A copy of an asset's state after its newest judged row. A fire drill (faults injected into copies of rows) starts there."""

    window: Floats  # (L, C) raw, NaN where not observed
    baseline: Floats  # (P,)
    alarm: tuple[State, int, int]  # an ``Alarm``'s fields
    still: Ints  # (C,) rows for which each sensor has not moved, that row among them
    age: Ints  # (C,) rows since each sensor was observed; 0: in that row


@dataclass(slots=True, eq=False)
class Step:
    """The result of one chunk of rows."""

    outputs: list[Output] = field(default_factory=list)
    block: RowBlock | None = None
    scored: int = 0
    filled: int = 0
    failed: Mask | None = None  # (W,) which windows the model failed on, in the rows' order; None: on none
    model: str = ""  # the version that judged
    silent: bool = False  # the outputs were published before a restart, and are left out
    committable: bool = False  # outputs so far and the pipeline's ``offset`` agree: a commit may follow
    audited: Audited | None = None  # readings that were hidden from the model, of this chunk or before


@dataclass(frozen=True, slots=True)
class Traced:
    """The disposition of one record: kept only for ``replay``, which answers line by line."""

    offset: int
    asset: str
    row: int
    disposition: Disposition
