"""Root cause of an anomalous window: the smallest repair, a verdict, and what the sensors would have read.

``search`` finds the fewest sensors without which the window would be normal; ``verdict`` classifies the
episode as a broken sensor, a process fault or a new regime; ``evidence`` gives the normal course of the
repaired sensors (the *twin*), the path of the latents, and the likeness to other episodes.
"""

from daemon.model.repair.evidence import Path, Twin, latent_path, likeness, normal_twin, reconstructed
from daemon.model.repair.search import (
    AT_ONCE,
    SETS,
    WHOLE,
    Repair,
    Scored,
    View,
    measured,
    score_without,
    scored,
    sets_of,
    smallest_repair,
    without,
)
from daemon.model.repair.verdict import (
    EXPLAINED,
    PUBLISHED,
    RIGHT,
    Cause,
    LiveWindow,
    Verdict,
    by_kind,
    explained_share,
    live_verdict,
    verdict_of,
)

__all__ = [
    "AT_ONCE",
    "EXPLAINED",
    "PUBLISHED",
    "RIGHT",
    "SETS",
    "WHOLE",
    "Cause",
    "LiveWindow",
    "Path",
    "Repair",
    "Scored",
    "Twin",
    "Verdict",
    "View",
    "by_kind",
    "explained_share",
    "latent_path",
    "likeness",
    "live_verdict",
    "measured",
    "normal_twin",
    "reconstructed",
    "score_without",
    "scored",
    "sets_of",
    "smallest_repair",
    "verdict_of",
    "without",
]
