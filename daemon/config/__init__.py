"""Settings: config.yaml, the environment over it, ``--set`` over both; read once, in ``cli``.

``sections`` declares every key, ``notation`` how a single value is written, ``loading`` reads and merges,
``messages`` puts into one line what is wrong.
"""

from daemon.config.http import HttpSection
from daemon.config.loading import load
from daemon.config.messages import unknown_environment
from daemon.config.notation import is_topic_name, parse_duration
from daemon.config.origins import environment_names
from daemon.config.sections import (
    MAX_OPEN_ROWS,
    MAX_SEED,
    AlertsSection,
    Settings,
    StreamSection,
)

__all__ = [
    "MAX_OPEN_ROWS",
    "MAX_SEED",
    "AlertsSection",
    "HttpSection",
    "Settings",
    "StreamSection",
    "environment_names",
    "is_topic_name",
    "load",
    "parse_duration",
    "unknown_environment",
]
