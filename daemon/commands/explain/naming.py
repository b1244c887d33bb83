"""The names of dimensions and regimes: those that are kept beside the bundle, and those that are given now.

A regime's name is kept with its centre, so that other readings of the same machine, whose clusters come in
another order, get the name where they have a cluster at the same place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daemon.adapters.names import ClusterName, Names
from daemon.commands.explain.analysis import LatentAnalysis
from daemon.commands.explain.arguments import GivenName
from daemon.errors import UsageError


def renamed(analysis: LatentAnalysis, names: Names, given: Sequence[GivenName]) -> Names:
    """The kept names, with those that are given now in the place of former ones; an empty name removes one.

    Raises:
        UsageError: no such cluster.
    """
    dimensions, clusters = dict(names.dimensions), list(names.clusters)
    for one in given:
        number = one.number
        if not one.cluster:
            dimensions[str(number)] = one.name
            continue
        found = analysis.regimes
        if found is None or not 1 <= number <= found.count:
            count = 0 if found is None else found.count
            raise UsageError(f"--name cluster:{number}: there are {count} regimes, from 1 on")
        taken = cluster_names(analysis, Names({}, clusters)).get(number - 1)
        clusters = [c for c in clusters if c is not taken]
        clusters.append(ClusterName(one.name, tuple(found.centres[number - 1].tolist())))
    return Names(
        {k: v for k, v in sorted(dimensions.items(), key=lambda kv: int(kv[0])) if v},
        [c for c in clusters if c.name],
    )


def cluster_names(analysis: LatentAnalysis, names: Names) -> dict[int, ClusterName]:
    """Names by index of cluster: a name belongs to the nearest cluster, if it lies within its radius."""
    result: dict[int, ClusterName] = {}
    if analysis.regimes is None or analysis.plane is None:
        return result
    centres = analysis.plane.weighted(analysis.regimes.centres)
    for named in names.clusters:
        if len(named.centre) != analysis.bundle.models.latents:
            continue
        away = np.sqrt(np.square(centres - analysis.plane.weighted(np.array(named.centre))).sum(1))
        k = int(away.argmin())
        if away[k] <= max(analysis.regimes.radius[k], 1e-9):
            result[k] = named  # of several the newest
    return result
