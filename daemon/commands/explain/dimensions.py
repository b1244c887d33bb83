"""The latent dimensions as the page and ``--json`` show them: what each does to the sensors, in their units."""

from __future__ import annotations

from typing import Any

import numpy as np

from daemon.adapters.names import Names
from daemon.adapters.wording import movement_text
from daemon.commands.explain.analysis import LatentAnalysis
from daemon.documents import short
from daemon.model import latent

NUMBERS = 250_000
"""Numbers of traversals on a page, about 2 MB; with more, each dimension shows the sensors it moves most."""


def dimension_entries(analysis: LatentAnalysis, names: Names) -> list[dict[str, Any]]:
    """The entries of all dimensions: those in use first, by their share, with traversals; then the others."""
    bundle, survey = analysis.bundle, analysis.survey
    period, L = bundle.period_ns / 1e9, bundle.window
    kl = None if survey is None else survey.seen.kl.mean(0)
    many = max(len(analysis.directions), 1)
    room = max(
        min(NUMBERS // (many * len(latent.STEPS) * L), len(bundle.sensors)), min(4, len(bundle.sensors))
    )
    result = []
    for direction in analysis.directions:
        shown = direction.movements[:room]
        result.append(
            {
                "dimension": direction.dimension,
                "name": names.dimensions.get(str(direction.dimension)),
                "active": True,
                "kl": None if kl is None else short(float(kl[direction.dimension])),
                "share": short(direction.share),
                "sd": short(direction.sd),
                "text": movement_text(direction.movements, bundle.sensors, analysis.decimals, period),
                "sensors": [
                    {
                        "sensor": bundle.sensors[m.sensor],
                        "change": analysis.real(m.change, m.sensor),
                        "first": analysis.real(m.first, m.sensor),
                        "last": analysis.real(m.last, m.sensor),
                        "unit_sd": short(m.unit_sd),
                        "pattern": m.pattern,
                        "lag": m.lag,
                        "lag_seconds": None if m.lag is None else short(m.lag * period, 6),
                    }
                    for m in direction.movements
                ],
                "traversal": {
                    "steps": list(latent.STEPS),
                    "sensors": {
                        bundle.sensors[m.sensor]: analysis.course(
                            direction.traversal[:, :, m.sensor], m.sensor
                        )
                        for m in shown
                    },
                },
            }
        )
    in_use = {d.dimension for d in analysis.directions}
    for d in range(bundle.models.latents):
        if d not in in_use:
            result.append(
                {
                    "dimension": d,
                    "name": names.dimensions.get(str(d)),
                    "active": False,
                    "kl": None if kl is None else short(float(kl[d])),
                    "share": 0.0,
                    "sd": short(float(np.sqrt(bundle.drift.latent_variance[d]))),
                    "text": "The model does not use it.",
                    "sensors": [],
                    "traversal": None,
                }
            )
    return result
