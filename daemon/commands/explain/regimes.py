"""The regimes and the map as the page and ``--json`` show them: where windows lie in latent space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from daemon.adapters.names import ClusterName
from daemon.adapters.wording import regime_text
from daemon.commands.explain.analysis import LatentAnalysis, milliseconds, rounded
from daemon.commands.explain.over_time import bins
from daemon.documents import short
from daemon.model import latent

MAP_POINTS = 3_000
"""Windows on the map, beside those of episodes."""
TRAIL_POINTS = 120
"""Windows of a trail: the newest ones of its asset."""
TRAILS = 60
"""Assets with a trail: those with the most episodes first."""
STRIPS = 24
"""Assets whose regimes are shown over time."""


def regime_entries(analysis: LatentAnalysis, names: Mapping[int, ClusterName]) -> list[dict[str, Any]]:
    """The entries of the regimes: share, usual hours, typical values; none without readings."""
    survey, found = analysis.survey, analysis.regimes
    if survey is None or found is None:
        return []
    times = survey.row * analysis.bundle.period_ns
    hours = (times // 3_600_000_000_000) % 24
    result = []
    for k in range(found.count):
        inside = found.of == k
        notable = latent.typical_values(survey.seen, found.of, k, analysis.bundle.models.scaler.scale)
        usual = latent.usual_hours(hours, inside) if found.count > 1 else None
        share = float(inside.mean())
        result.append(
            {
                "cluster": k + 1,
                "name": names[k].name if k in names else None,
                "share": short(share),
                "windows": int(inside.sum()),
                "episode_share": short(float(survey.firing[inside].mean())),
                "hours": None if usual is None else list(usual),
                "sensors": [
                    {
                        "sensor": analysis.bundle.sensors[t.sensor],
                        "typical": analysis.real(t.value, t.sensor),
                        "overall": analysis.real(t.overall, t.sensor),
                        "unit_sd": short(t.unit_sd),
                        "word": t.word,
                    }
                    for t in notable
                ],
                "typical": analysis.window(int(found.typical[k])),
                "text": regime_text(notable, analysis.bundle.sensors, analysis.decimals, share, usual),
            }
        )
    return result


def map_of(analysis: LatentAnalysis) -> dict[str, Any] | None:
    """The map of the windows in two dimensions, with trails of assets; None without readings."""
    survey, flat, found = analysis.survey, analysis.plane, analysis.regimes
    if survey is None or flat is None or found is None:
        return None
    place = flat.place(survey.seen.mean)
    shown = np.arange(0, len(place), -(-len(place) // MAP_POINTS))
    fires = np.flatnonzero(survey.firing)
    # Episodes are short, and users look for them on the map: they are thinned less than the rest.
    if len(fires):
        shown = np.unique(np.concatenate([shown, fires[:: -(-len(fires) // 1_000)]]))
    trails = []
    for i in busiest(analysis)[:TRAILS]:
        mine = np.flatnonzero(survey.asset == i)[-TRAIL_POINTS:]
        trails.append(
            {
                "asset": survey.assets[i],
                "episodes": sum(e["asset"] == survey.assets[i] for e in survey.episodes),
                "time": milliseconds(survey.row[mine], analysis.bundle.period_ns),
                "x": rounded(place[mine, 0]),
                "y": rounded(place[mine, 1]),
            }
        )
    return {
        "axes": "dimensions" if flat.dimensions else "pca",
        "dimensions": None if flat.dimensions is None else list(flat.dimensions),
        "share": short(flat.share, 3),
        "pca_share": short(flat.pca_share, 3),
        "own_share": short(flat.own_share, 3),
        "silhouette": short(found.silhouette, 3),
        "assets": list(survey.assets),
        "points": {
            "asset": survey.asset[shown].tolist(),
            "time": milliseconds(survey.row[shown], analysis.bundle.period_ns),
            "x": rounded(place[shown, 0]),
            "y": rounded(place[shown, 1]),
            "cluster": (found.of[shown] + 1).tolist(),
            "episode": survey.firing[shown].tolist(),
        },
        "trails": trails,
        "regimes_over_time": strips(analysis),
    }


def busiest(analysis: LatentAnalysis) -> list[int]:
    """The assets, those with the most windows in an episode first."""
    assert analysis.survey is not None
    busy = np.bincount(analysis.survey.asset[analysis.survey.firing], minlength=len(analysis.survey.assets))
    order: list[int] = np.argsort(-busy, kind="stable").tolist()
    return order


def strips(analysis: LatentAnalysis) -> dict[str, Any]:
    """Per asset which regime each column of time was mostly in; None where there was no window."""
    assert analysis.survey is not None
    assert analysis.regimes is not None
    survey, found = analysis.survey, analysis.regimes
    column, first, width = bins(analysis)
    count = int(column.max()) + 1
    entries = []
    for i in sorted(busiest(analysis)[:STRIPS]):
        mine = survey.asset == i
        seen = np.zeros((count, found.count), np.int64)
        np.add.at(seen, (column[mine], found.of[mine]), 1)
        fires = np.zeros(count, bool)
        fires[column[mine & survey.firing]] = True
        entries.append(
            {
                "asset": survey.assets[i],
                "cluster": [int(s.argmax()) + 1 if s.any() else None for s in seen],
                "episode": fires.tolist(),
            }
        )
    starts = first + width * np.arange(count)
    return {"time": milliseconds(starts, analysis.bundle.period_ns), "strips": entries}
