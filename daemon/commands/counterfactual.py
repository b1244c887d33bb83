"""``anomalyd explain --condition``: what a stretch of a file would have been under another condition.

In: ``CounterfactualOptions``. Out: ``Answered``, and a page. The stretch is found here; the computation is
``model.counterfactual``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from daemon.adapters.counterfactuals import counterfactual_html
from daemon.adapters.files import check_place, replacing
from daemon.commands.derive import check_excluded, plan_for_file
from daemon.commands.explain import row_of
from daemon.commands.file_history import history_of
from daemon.commands.inputs import FileOptions
from daemon.domain import Segment, iso, to_ns
from daemon.errors import UsageError
from daemon.model.bundle import Bundle
from daemon.model.counterfactual import Counterfactual, counterfactual_of

LISTED = 8
"""Assets that are named where a name is none of them."""


@dataclass(frozen=True, slots=True)
class CounterfactualOptions(FileOptions):
    """What ``explain --condition`` is given."""

    model: Path  # the bundle
    file: Path  # Parquet, CSV or JSON Lines
    out: Path  # the page
    condition: str  # a label, or some of its fields: ``mode=low``
    at: str | None = None  # the last row of the stretch, ISO 8601; None: the asset's last row
    asset: str | None = None  # may be left out where the file holds one
    span: timedelta | None = None  # length of the stretch; None: four windows
    seed: int = 0  # of the draws that the interval is made of


@dataclass(frozen=True, slots=True)
class Answered:
    """A counterfactual, and notes on how the file was read."""

    value: Counterfactual
    notes: list[str]


async def counterfactual(options: CounterfactualOptions) -> Answered:
    """Compute the stretch that ends at a time under the other condition, and write the page.

    The stretch is shortened to what was read without a long gap.

    Raises:
        UsageError: no such asset, time or condition; with those that there are.
        DaemonError: unreadable input, or a bundle that does not fit.
    """
    file, at, span = options.file, options.at, options.span
    check_place(options.out)
    bundle = Bundle.load(options.model)
    check_excluded(options.exclude, [file])
    plan, notes = plan_for_file(options, file, bundle)
    history = await history_of(file, plan, options.exclude, options.reading)
    row = None if at is None else row_of(at, bundle.period_ns)
    segment, end = _place(history, options.asset, row, bundle)
    rows = 4 * bundle.window if span is None else max(to_ns(span) // bundle.period_ns, 1)
    first = max(end - rows + 1, segment.first_row)
    value = counterfactual_of(bundle, segment, first, end - first + 1, options.condition, seed=options.seed)
    with replacing(options.out) as temporary:
        temporary.write_text(counterfactual_html(value), encoding="utf-8")
    return Answered(value, notes)


def _place(
    history: Sequence[Segment], asset: str | None, row: int | None, bundle: Bundle
) -> tuple[Segment, int]:
    """The segment of an asset that holds a row, and that row; without a row, the asset's last one.

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
