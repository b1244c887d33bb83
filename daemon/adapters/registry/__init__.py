"""Where models are kept: a directory for one machine, a compacted topic for all replicas.

A bundle is opaque here: bytes (or files) under a version, which is a hash of its manifest, so that adding the same
bundle twice is adding it once. Of the versions of a stream one is *promoted*: a pointer names it, with the reason,
who did it and when, and what was promoted before it, so that a rollback goes back step by step.

``decisions`` is the topic that says what became of every training; ``directory`` is the directory, ``kafka_models`` the topic; ``records`` defines the topic's records and their limits,
and ``topic_view`` is what a reader of the topic holds of them.
"""

from daemon.adapters.registry.decisions import (
    DecisionRecord,
    Decisions,
    ShadowFact,
    Span,
    TriggerFact,
    candidate_after,
    retrain_topic,
)
from daemon.adapters.registry.directory import ModelDirectory
from daemon.adapters.registry.kafka_models import KafkaModels, Promotion, models_topic
from daemon.adapters.registry.records import Pointer, Promoted, now_text
from daemon.adapters.registry.topic_view import MOST_VERSIONS

__all__ = [
    "MOST_VERSIONS",
    "DecisionRecord",
    "Decisions",
    "KafkaModels",
    "ModelDirectory",
    "Pointer",
    "Promoted",
    "Promotion",
    "ShadowFact",
    "Span",
    "TriggerFact",
    "candidate_after",
    "models_topic",
    "now_text",
    "retrain_topic",
]
