"""The command: explain a model, and write the page.

In: ``ExplainOptions``. Out: ``Explained``, the document that the page shows, and notes. Names that are given
are kept beside the bundle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from daemon.adapters.files import check_place, replacing
from daemon.adapters.latent_page import page_html
from daemon.adapters.names import Names, NamesFile
from daemon.commands.derive import check_excluded, plan_for_file
from daemon.commands.explain.analysis import LatentAnalysis
from daemon.commands.explain.arguments import GivenName, change_of, naming_of, row_of
from daemon.commands.explain.document import Shown, document_notes, document_of
from daemon.commands.explain.naming import renamed
from daemon.commands.explain.survey import Survey, survey_of
from daemon.commands.explain.what_if import WhatIf
from daemon.commands.file_history import history_of
from daemon.commands.inputs import FileOptions, no_progress
from daemon.commands.one_pass import FileToJudge
from daemon.domain import Progress
from daemon.errors import InputError, UsageError
from daemon.model.bundle import Bundle
from daemon.model.sweep import Sweep, sweep
from daemon.runtime.stream_run import StreamPlan


@dataclass(frozen=True, slots=True)
class ExplainOptions(FileOptions):
    """What ``explain`` is given about a model."""

    model: Path  # the bundle
    out: Path  # the page
    file: Path | None = None  # readings to show the model on; None: traversals only
    train: Path | None = None  # readings for the sweep over beta; None: those of ``file``
    what_ifs: Sequence[str] = ()  # ``dimension=sd`` each
    names: Sequence[str] = ()  # to keep: ``dimension=name`` or ``cluster:number=name``
    at: str | None = None  # the end of the window that the what-if starts from, ISO 8601
    asset: str | None = None  # whose window that is
    sweep_beta: bool = False  # train at several beta and compare


@dataclass(frozen=True, slots=True)
class Explained:
    """The document, and notes."""

    document: dict[str, Any]
    notes: list[str]


async def explain(options: ExplainOptions, progress: Progress = no_progress) -> Explained:
    """Explain a model and write the page.

    Raises:
        DaemonError: unreadable input, wrong configuration, a bundle that does not fit.
    """
    file, train = options.file, options.train
    bundle = Bundle.load(options.model)
    kept = NamesFile.beside(options.model)
    given = [naming_of(text, bundle) for text in options.names]
    called = dict(kept.of(bundle.version).dimensions)
    called |= {str(one.number): one.name for one in given if not one.cluster}
    changes = [change_of(text, bundle, called) for text in options.what_ifs]
    row = None if options.at is None else row_of(options.at, bundle.period_ns)
    asked = WhatIf(changes, row, options.asset)
    _check(options, bundle, given)
    check_excluded(options.exclude, [path for path in (file, train) if path is not None])
    check_place(options.out)
    notes: list[str] = []
    survey: Survey | None = None
    plan: StreamPlan | None = None
    sample = file or train
    if sample is not None:
        plan, notes = plan_for_file(options, sample, bundle)
        plan = replace(plan, retrain_every=None)
    if file is not None and plan is not None:
        judged = FileToJudge.read(file, plan, bundle, options.exclude, options.reading)
        survey, more = await survey_of(judged, plan, bundle, progress)
        notes += more
    else:
        notes.append(
            "without FILE there are no readings to show: traversals start from the mean of training, and"
            " regimes, the map and what was unusual when are left out"
        )
    swept = None
    if options.sweep_beta and plan is not None:
        swept = await _sweep(options, plan, bundle, 0.7 if survey is not None else 0.0, progress)
    progress(0.96, "drawing the page")
    analysis = LatentAnalysis(bundle, survey)
    own = renamed(analysis, kept.of(bundle.version), given)
    if given:
        kept = kept.with_names(bundle.version, own)
    notes += _notes_on_names(kept, bundle.version, own)
    notes += document_notes(analysis, own, asked)
    shown = Shown(own, None if file is None else file.name, asked, swept, notes)
    document = document_of(analysis, shown)
    with replacing(options.out) as temporary:
        temporary.write_text(page_html(document), encoding="utf-8")
    progress(1.0, "done")
    return Explained(document, notes)


def _check(options: ExplainOptions, bundle: Bundle, given: Sequence[GivenName]) -> None:
    """Reject options that need a file which is not given, or another kind of model.

    Raises:
        UsageError: one of these.
    """
    file, train = options.file, options.train
    if (options.at or options.asset) and file is None:
        raise UsageError("--at and --asset name a window of FILE: give one")
    if options.sweep_beta and file is None and train is None:
        raise UsageError("--sweep-beta trains models: give FILE or --train FILE")
    if file is None and any(one.cluster for one in given):
        raise UsageError("--name cluster:... names a regime of FILE: give one")
    if options.sweep_beta and bundle.models.vae is None:
        raise UsageError(f"--sweep-beta: model {bundle.version} is of kind ppca, which has no beta")


async def _sweep(
    options: ExplainOptions, plan: StreamPlan, bundle: Bundle, base: float, progress: Progress
) -> Sweep:
    """Train at several beta; ``base`` is the share of the work that is done before."""
    source = options.train or options.file
    assert source is not None
    history = await history_of(source, plan, options.exclude, options.reading)
    if not any(segment.observed.any() for segment in history):
        raise InputError(f"{source}: holds no reading of the model's sensors")
    return sweep(
        history,
        plan.spec,
        bundle.settings,
        progress=lambda share, doing: progress(base + (0.95 - base) * share, doing),
    )


def _notes_on_names(kept: NamesFile, version: str, own: Names) -> list[str]:
    """A note where only other versions of the model have names."""
    if not (lost := kept.others(version)) or own.dimensions or own.clusters:
        return []
    return [
        f"names given to other versions of the model are not shown ({lost} in {kept.path.name}): each"
        " training numbers its dimensions anew"
    ]
