"""What the process reports about itself: log lines, metrics, and the state behind the admin page.

``reporter`` is the one entry: an event of the program is reported to it once, and it knows what the
metrics (``metrics``, over the table in ``families``), the page (``status``) and the log (``logs``) make of
it. Log values, labels and the page's state are bounded, because asset names, keys and values come from
whoever can write to the input topic.
"""

from __future__ import annotations

from daemon.adapters.telemetry.families import BatchHistogram
from daemon.adapters.telemetry.labels import SCORE_PARTS, HttpRefusal, Lifecycle, Promotion
from daemon.adapters.telemetry.logs import Throttle, configure_logging
from daemon.adapters.telemetry.metrics import LAG_EVERY_S, Metrics
from daemon.adapters.telemetry.people import Occurrence, People, PlannedStop
from daemon.adapters.telemetry.reporter import (
    DrillFailure,
    DrillFigures,
    IngestedPoll,
    KindFigures,
    ModelInUse,
    Reporter,
    RestoredState,
    SensorFigures,
    SourceCounts,
    TrainingReport,
)
from daemon.adapters.telemetry.status import (
    ASSETS_KEPT,
    AssetScores,
    ModelChange,
    ShadowNow,
    Status,
    StreamStatus,
    TrainingNow,
)

__all__ = [
    "ASSETS_KEPT",
    "LAG_EVERY_S",
    "SCORE_PARTS",
    "AssetScores",
    "BatchHistogram",
    "DrillFailure",
    "DrillFigures",
    "HttpRefusal",
    "IngestedPoll",
    "KindFigures",
    "Lifecycle",
    "Metrics",
    "ModelChange",
    "ModelInUse",
    "Occurrence",
    "People",
    "PlannedStop",
    "Promotion",
    "Reporter",
    "RestoredState",
    "SensorFigures",
    "ShadowNow",
    "SourceCounts",
    "Status",
    "StreamStatus",
    "Throttle",
    "TrainingNow",
    "TrainingReport",
    "configure_logging",
]
