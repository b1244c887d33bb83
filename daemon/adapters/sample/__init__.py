"""What a sample of readings tells about its stream, and the configuration that follows from it.

``deriving`` makes the stream. On its way: ``encodings`` (what the bytes are), ``choosing`` (which mapping reads them:
every preset, and those that ``shapes`` makes of the ``places`` in the messages, compared by their ``survey``),
``measurements`` (a prefix where Telegraf's contradict each other), ``gathering`` (the readings), ``settling`` with ``period`` and ``facts`` (what the times and numbers show).
``config_text`` writes the configuration.
"""

from daemon.adapters.sample.choosing import Choice, choose, nearest_preset, trees_by
from daemon.adapters.sample.config_text import Ends, Written, config_yaml, latents_for, quoted, span
from daemon.adapters.sample.deriving import (
    SAMPLE_LINES,
    derive,
    derive_of_topic,
    derive_spec,
    names_in,
)
from daemon.adapters.sample.encodings import Decoding, decoding_of_schemas, names_schemas
from daemon.adapters.sample.period import infer_period
from daemon.adapters.sample.settling import Derived
from daemon.adapters.sample.survey import Candidate, Survey, survey, survey_with

__all__ = [
    "SAMPLE_LINES",
    "Candidate",
    "Choice",
    "Decoding",
    "Derived",
    "Ends",
    "Survey",
    "Written",
    "choose",
    "config_yaml",
    "decoding_of_schemas",
    "derive",
    "derive_of_topic",
    "derive_spec",
    "infer_period",
    "latents_for",
    "names_in",
    "names_schemas",
    "nearest_preset",
    "quoted",
    "span",
    "survey",
    "survey_with",
    "trees_by",
]
