"""The document that the page and ``explain --json`` show; the README lists its keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from daemon.adapters.names import Names
from daemon.adapters.wording import beta_text
from daemon.commands.explain.analysis import LatentAnalysis
from daemon.commands.explain.dimensions import dimension_entries
from daemon.commands.explain.naming import cluster_names
from daemon.commands.explain.over_time import kl_over_time
from daemon.commands.explain.regimes import map_of, regime_entries
from daemon.commands.explain.what_if import WhatIf, what_if
from daemon.documents import short
from daemon.model.sweep import Sweep, SweepPoint

EPISODES = 200
"""Episodes that are listed, at most; all are counted."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the document shows beside the analysis."""

    names: Names
    source: str | None  # name of the file
    what_if: WhatIf
    swept: Sweep | None
    notes: Sequence[str]


def document_notes(analysis: LatentAnalysis, names: Names, asked: WhatIf) -> list[str]:
    """Notes on names and on a what-if that find nothing to apply to."""
    notes = []
    unmatched = len(names.clusters) - len(cluster_names(analysis, names))
    if analysis.survey is not None and unmatched > 0:
        notes.append(f"named regimes that do not occur in these readings: {unmatched}")
    if not asked.changes and asked.has_place:
        notes.append("--at and --asset name the window of a what-if: add --set DIMENSION=SD")
    return notes


def document_of(analysis: LatentAnalysis, shown: Shown) -> dict[str, Any]:
    """The document, of plain values only.

    Raises:
        UsageError: the window of the what-if does not exist.
    """
    bundle, survey, names, swept = analysis.bundle, analysis.survey, shown.names, shown.swept
    period = bundle.period_ns / 1e9
    L = bundle.window
    explained = None if survey is None else survey.seen.explained
    return {
        "version": bundle.version,
        "kind": bundle.models.kind,
        "source": shown.source,
        "period_seconds": period,
        "window": L,
        "seconds": [short((i - L + 1) * period, 6) for i in range(L)],
        "sensors": [
            {
                "sensor": name,
                "mean": analysis.real(float(bundle.models.scaler.mean[c]), c),
                "sd": short(float(bundle.models.scaler.scale[c])),
                "decimals": analysis.decimals[c],
                "low": None if survey is None else analysis.real(float(survey.low[c]), c),
                "high": None if survey is None else analysis.real(float(survey.high[c]), c),
                "explained": None if explained is None else short(float(explained[c]), 3),
            }
            for c, name in enumerate(bundle.sensors)
        ],
        "reference": analysis.reference(),
        "latents": bundle.models.latents,
        "dimensions": dimension_entries(analysis, names),
        "clusters": regime_entries(analysis, cluster_names(analysis, names)),
        "map": map_of(analysis),
        "kl_over_time": kl_over_time(analysis),
        "episodes": [] if survey is None else list(survey.episodes[:EPISODES]),
        "episode_count": 0 if survey is None else len(survey.episodes),
        "windows": 0 if survey is None else survey.of,
        "set": what_if(analysis, names, shown.what_if),
        "sweep": None if swept is None else _swept(swept, bundle.settings.beta),
        "notes": list(dict.fromkeys(shown.notes)),
    }


def _swept(found: Sweep, beta: float) -> dict[str, Any]:
    """The sweep over beta, with the default of the bundle."""

    def entry(p: SweepPoint) -> dict[str, Any]:
        return {
            "beta": p.beta,
            "seed": p.seed,
            "active_units": p.active_units,
            "telling_units": p.telling_units,
            "reconstruction": short(p.reconstruction),
            "kl": short(p.kl),
            "elbo": short(p.elbo),
            "purity": short(p.purity, 3),
        }

    points, again = [entry(p) for p in found.points], [entry(p) for p in found.again]
    return {
        "beta": beta,
        "factors": found.factors,
        "latents": found.latents,
        "points": points,
        "other_seeds": again,
        "text": beta_text(points, again),
    }
