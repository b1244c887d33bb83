"""Root cause of an anomalous window: the smallest repair, a verdict, and what the sensors would have read.

``search`` finds the fewest sensors without which the window would be normal; ``verdict`` classifies the
episode as a broken sensor, a process fault or a new regime; ``evidence`` gives the normal course of the
repaired sensors (the *twin*), the path of the latents, and the likeness to other episodes.
"""

from daemon.model.repair.evidence import LatentPath, Twin, latent_path, likeness, normal_twin, reconstructed
from daemon.model.repair.search import (
    SETS,
    Repair,
    View,
    score_without,
    scored,
    sets_of,
    smallest_repair,
)
from daemon.model.repair.verdict import (
    PUBLISHED,
    RIGHT,
    Cause,
    LiveWindow,
    Verdict,
    explained_share,
    live_verdict,
    verdict_of,
)

__all__ = [
    "PUBLISHED",
    "RIGHT",
    "SETS",
    "Cause",
    "LatentPath",
    "LiveWindow",
    "Repair",
    "Twin",
    "Verdict",
    "View",
    "explained_share",
    "latent_path",
    "likeness",
    "live_verdict",
    "normal_twin",
    "reconstructed",
    "score_without",
    "scored",
    "sets_of",
    "smallest_repair",
    "verdict_of",
]
