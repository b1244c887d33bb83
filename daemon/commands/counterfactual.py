"""``anomalyd explain --condition``: what a stretch of a file would have been under another condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from daemon.adapters.counterfactuals import counterfactual_html
from daemon.adapters.files import replacing
from daemon.commands.explain import row_of
from daemon.commands.replay import check_excluded, history_of, plan_for, settings_for
from daemon.domain import Segment, iso, to_ns
from daemon.errors import UsageError
from daemon.model.bundle import Bundle
from daemon.model.counterfactual import Counterfactual, counterfactual_of
from daemon.runtime.compatibility import check_compatible

LISTED = 8


@dataclass(frozen=True, slots=True)
class Answered:
    """A counterfactual, and what an operator should know of how the file was read."""

    value: Counterfactual
    notes: list[str]


async def counterfactual(
    model: Path,
    file: Path,
    out: Path,
    condition: str,
    *,
    at: str | None,
    asset: str | None,
    span: timedelta | None = None,
    seed: int = 0,
    config: Path | None = None,
    exclude: Sequence[str] = (),
    stream_name: str | None = None,
) -> Answered:
    """Answer for the stretch that ends at a time, and write the page.

    Args:
        model: the bundle.
        file: Parquet, CSV or JSON Lines.
        out: the page.
        condition: a label, or some of its fields: ``mode=low``.
        at: the last row of the stretch, ISO 8601; None: the asset's last.
        asset: whose; may be left out where the file holds one.
        span: how long the stretch is; None: four windows. Shortened to what was read without a long gap.
        seed: of the draws that the interval is made of.
        config, exclude, stream_name: as of ``replay``.

    Raises:
        UsageError: no such asset, time or condition; with those that there are.
        DaemonError: unreadable input, or a bundle that does not fit.
    """
    bundle = Bundle.load(model)
    check_excluded(exclude, [file])
    settings, notes = settings_for(config, (), file, exclude, bundle)
    plan = plan_for(settings, stream_name, file.name)
    check_compatible(bundle, plan.spec)
    history = await history_of(file, plan, exclude)
    segment, end = _place(history, asset, None if at is None else row_of(at, bundle.period_ns), bundle)
    rows = 4 * bundle.window if span is None else max(to_ns(span) // bundle.period_ns, 1)
    first = max(end - rows + 1, segment.first_row)
    value = counterfactual_of(bundle, segment, first, end - first + 1, condition, seed=seed)
    with replacing(out) as temporary:
        temporary.write_text(counterfactual_html(value), encoding="utf-8")
    return Answered(value, notes)


def _place(
    history: Sequence[Segment], asset: str | None, row: int | None, bundle: Bundle
) -> tuple[Segment, int]:
    """The segment of an asset that holds a row, and that row.

    Raises:
        UsageError: there is none.
    """
    assets = list(dict.fromkeys(segment.asset for segment in history))
    if asset is None and len(assets) == 1:
        asset = assets[0]
    if asset is None or asset not in assets:
        known = ", ".join(assets[:LISTED]) + (" ..." if len(assets) > LISTED else "")
        raise UsageError(
            f"--asset: the file has {len(assets)} assets, {known}"
            if asset is None
            else f"--asset {asset}: the file has no such asset; it has {known}"
        )
    mine = [segment for segment in history if segment.asset == asset]
    for segment in reversed(mine):
        last = segment.first_row + len(segment.values) - 1
        if row is None or segment.first_row <= row <= last:
            return segment, last if row is None else row
    first, last = mine[0].first_row, mine[-1].first_row + len(mine[-1].values) - 1
    when, begin, end = (iso(int(r) * bundle.period_ns) for r in (row or 0, first, last))
    raise UsageError(f"--at: no reading of {asset} at {when}; it has readings from {begin} to {end}")
