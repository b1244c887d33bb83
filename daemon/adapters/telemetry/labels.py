"""The values that metric labels may take, where the domain does not name them.

Each set is fixed: the number of series follows from the configuration and never from the data.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Lifecycle(StrEnum):
    """The state of the process, or of one stream."""

    STARTING = "starting"
    LEARNING = "learning"
    LIVE = "live"
    DRAINING = "draining"


class Promotion(StrEnum):
    """What became of a candidate model."""

    PROMOTED = "promoted"
    RESTORED = "restored"  # in force when this process started, or given at the start
    REFUSED = "refused"  # by the gate, or a version that was given up before
    FAILED = "failed"  # the training gave no model, or it could not be stored or loaded
    ROLLED_BACK = "rolled_back"  # the model in use failed: the one before it, or none, took over


class HttpRefusal(StrEnum):
    """Why the admin port did not answer a request, or closed a connection."""

    HOST = "host"  # the Host header names another host
    TARGET = "target"  # not a path
    BODY = "body"  # no endpoint accepts this request's body
    FORGED = "forged"  # a control request that another site's page may have sent
    TOKEN = "token"  # a control request without the token, or with another one
    SLOW = "slow"  # no complete request in time, or the response was not read
    CROWDED = "crowded"  # closed to make room for a newer connection


REBALANCE_EVENTS: Final = ("assigned", "revoked")
COMMIT_RESULTS: Final = ("ok", "failed")
RESTORE_RESULTS: Final = ("ok", "truncated", "failed", "unusable")
BUNDLE_SOURCES: Final = ("record", "registry", "training")
SCHEMA_RESULTS: Final = ("found", "absent", "failed")
SUPPRESSED_REASONS: Final = ("maintenance", "dismissed")
DRIFT_KINDS: Final = ("latent", "residual")
SHADOW_EPISODES: Final = ("candidate", "incumbent", "both")
SCORE_PARTS: Final = ("combined", "reconstruction", "kl", "point")
DEPENDENCIES: Final = ("kafka",)
NO_VERSION: Final = "none"
"""The version of ``model_info`` while no model is in use."""
