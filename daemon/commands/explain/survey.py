"""The readings that a model is shown on: a file's windows, encoded, and its episodes.

``survey_of`` runs the file through the pipeline that judges a stream, so that rows and episodes are those
that ``replay`` finds, and encodes the whole windows. In: the plan and the bundle. Out: ``Survey``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daemon.commands.accounting import corrupt_lines
from daemon.commands.carry import TrainTailSource
from daemon.commands.one_pass import FileToJudge, run_over_file
from daemon.commands.replay_notes import zone_notes
from daemon.domain import AlertEvent, AlertKind, Floats, Ints, Mask, Output, Phase, Progress, iso
from daemon.errors import InputError
from daemon.model import latent
from daemon.model.bundle import Bundle
from daemon.model.segments import sliding
from daemon.runtime.stream_run import StreamPlan
from daemon.stream.steps import RowBlock

MOST_WINDOWS = 50_000
"""Windows that are encoded; of more, evenly spread ones."""
CHUNK = 2_048
"""Windows that are encoded together."""


class EpisodeSink:
    """A ``FileSink`` that keeps the messages of each anomaly episode, by fingerprint."""

    def __init__(self) -> None:
        self.found: dict[str, list[AlertEvent]] = {}

    async def publish(self, outputs: Sequence[Output]) -> None:
        """See ``ports.Sink``."""
        for output in outputs:
            if not isinstance(output, AlertEvent) or output.phase is Phase.SUPPRESSED:
                continue
            if output.concerns(AlertKind.ANOMALY):
                self.found.setdefault(output.fingerprint, []).append(output)

    def attach(self, source: TrainTailSource) -> None:
        """See ``FileSink``. No offset is shown."""


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """N whole windows of a file, by asset and time, encoded."""

    assets: tuple[str, ...]
    asset: Ints  # (N,) index into ``assets``
    row: Ints  # (N,) the newest row of each window
    label: tuple[str, ...]  # N conditions
    firing: Mask  # (N,) an episode is firing at the newest row
    seen: latent.Encoded
    low: Floats  # (C,) 1 % quantile of each sensor's readings, raw units
    high: Floats  # (C,) 99 %
    rows: Mapping[str, tuple[Ints, Floats, Sequence[str]]]  # asset -> rows, values, conditions
    episodes: Sequence[dict[str, Any]]
    of: int  # windows that there are

    def __len__(self) -> int:
        return len(self.row)


async def survey_of(
    judged: FileToJudge, plan: StreamPlan, bundle: Bundle, progress: Progress
) -> tuple[Survey, list[str]]:
    """Run the file through the pipeline and encode its windows.

    Raises:
        InputError: it holds no whole window.
    """
    spec = plan.spec
    file, sink = judged.path, EpisodeSink()
    table = judged.table
    notes = [] if table is None else [*table.notes, *zone_notes(table.zoneless, spec)]
    done = await run_over_file(judged, sink, lambda share, doing: progress(0.6 * share, doing))
    if table is None:
        notes += corrupt_lines(done.counts.corrupt)
    rows, firing = _by_asset(done.blocks)
    L = bundle.window
    starts: list[tuple[str, Ints]] = []
    for name, (at, values, _) in rows.items():
        whole = np.flatnonzero(at[L - 1 :] - at[: len(at) - L + 1] == L - 1)
        something = np.isfinite(values).any(1)
        counted = np.concatenate([[0], np.cumsum(something)])
        starts.append((name, whole[counted[whole + L] - counted[whole] > 0]))
    total = sum(len(start) for _, start in starts)
    if not any(np.isfinite(values).any() for _, values, _ in rows.values()):
        raise InputError(f"{file}: holds no reading of the model's sensors")
    if not total:
        raise InputError(f"{file}: holds no run of {L} rows, which is the model's window")
    stride = -(-total // MOST_WINDOWS)
    parts: list[latent.Encoded] = []
    asset_of: list[Ints] = []
    row_of: list[Ints] = []
    fires: list[Mask] = []
    labels: list[str] = []
    done_windows = 0
    for i, (name, start) in enumerate(starts):
        at, values, condition = rows[name]
        picked = start[::stride]
        windows = sliding(values, L)
        for chunk in np.split(picked, range(CHUNK, len(picked), CHUNK)) if len(picked) else []:
            of = [condition[k + L - 1] for k in chunk.tolist()]
            parts.append(latent.encode(bundle.models, windows[chunk], of, [name] * len(of)))
            labels += of
            done_windows += len(chunk) * stride
            progress(0.6 + 0.1 * min(done_windows / total, 1.0), "encoding")
        asset_of.append(np.full(len(picked), i))
        row_of.append(at[picked + L - 1])
        fires.append(firing[name][picked + L - 1])
    every = np.concatenate([values for _, values, _ in rows.values()])
    low, high = np.full(every.shape[1], np.nan), np.full(every.shape[1], np.nan)
    for c in range(every.shape[1]):
        column = every[np.isfinite(every[:, c]), c]
        if len(column):
            low[c], high[c] = np.quantile(column, [0.01, 0.99])
    if stride > 1:
        notes.append(f"every {stride}th of {total:,} windows is shown")
    survey = Survey(
        assets=tuple(rows),
        asset=np.concatenate(asset_of),
        row=np.concatenate(row_of),
        label=tuple(labels),
        firing=np.concatenate(fires),
        seen=latent.Encoded.joined(parts),
        low=low,
        high=high,
        rows=rows,
        episodes=[
            {
                "id": events[0].fingerprint,
                "asset": events[0].asset,
                "onset": iso(events[0].onset_ns),
                "opened": iso(events[0].opened_ns),
                "closed": iso(events[-1].row_ns) if events[-1].phase is Phase.CLOSED else None,
            }
            for events in sink.found.values()
        ],
        of=total,
    )
    return survey, notes


def _by_asset(
    blocks: Sequence[RowBlock],
) -> tuple[dict[str, tuple[Ints, Floats, Sequence[str]]], dict[str, Mask]]:
    """The released rows of each asset, in order of time, and which of them fire."""
    places: dict[str, list[tuple[int, int]]] = {}
    for b, block in enumerate(blocks):
        for i, name in enumerate(block.assets):
            places.setdefault(name, []).append((b, i))
    rows: dict[str, tuple[Ints, Floats, Sequence[str]]] = {}
    firing: dict[str, Mask] = {}
    for name in sorted(places):
        at = np.array([blocks[b].rows[i] for b, i in places[name]], np.int64)
        order = np.argsort(at, kind="stable")
        mine = [places[name][k] for k in order.tolist()]
        rows[name] = (
            at[order],
            np.array([blocks[b].values[i] for b, i in mine]),
            [blocks[b].condition[i] if blocks[b].condition else "" for b, i in mine],
        )
        firing[name] = np.array([bool(blocks[b].firing[i]) for b, i in mine])
    return rows, firing
